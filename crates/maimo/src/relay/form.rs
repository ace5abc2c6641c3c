//! How values of the command line are written down: paths as their very bytes, times as numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A path, or any other text of the system's.
pub(crate) mod path {
    use std::{ffi::OsString, os::unix::ffi::OsStrExt, os::unix::ffi::OsStringExt};

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        path: &impl AsRef<std::ffi::OsStr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().as_bytes().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: From<OsString>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        Ok(T::from(OsString::from_vec(bytes)))
    }
}

/// Several paths.
pub(crate) mod paths {
    use std::path::PathBuf;

    use super::{Deserialize, Deserializer, Serializer};
    use crate::control::PathBytes;

    pub(crate) fn serialize<S: Serializer>(
        paths: &[PathBuf],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| PathBytes::of(path)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let paths = Vec::<PathBytes>::deserialize(deserializer)?;
        Ok(paths.iter().map(PathBytes::path).collect())
    }
}

/// A time that may have been said.
pub(crate) mod time {
    use maimo_core::clock::Timestamp;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "this is how serde calls it")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(|time| time.0).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Timestamp))
    }
}

/// A root that may have been said.
pub(crate) mod root {
    use maimo_core::id::RootHash;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "this is how serde calls it")]
    pub(crate) fn serialize<S: Serializer>(
        root: &Option<RootHash>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        root.as_ref().map(ToString::to_string).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<RootHash>, D::Error> {
        use super::Error as _;
        let text = Option::<String>::deserialize(deserializer)?;
        let root = text.map(|text| text.parse()).transpose();
        root.map_err(|_| D::Error::custom("a root is 64 hex digits"))
    }
}

/// A value that has a text of its own.
pub(crate) mod text {
    use std::{fmt::Display, str::FromStr};

    use super::{Deserialize, Deserializer, Error as _, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: FromStr>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = text.parse();
        value.map_err(|_| D::Error::custom("a text that does not parse"))
    }
}
