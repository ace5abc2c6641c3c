//! Names of things: 32-byte hashes and ids, one type each, so that none can stand where another belongs.

use core::{fmt, str::FromStr};

use thiserror::Error;

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not 64 hexadecimal digits")]
pub struct ParseHexError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Enough to tell two apart in a log, short enough to read.
                write!(f, "{}({}..)", stringify!($name), &data_encoding::HEXLOWER.encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;

            fn from_str(text: &str) -> Result<Self, ParseHexError> {
                data_encoding::HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or(ParseHexError)
            }
        }
    };
}

id! {
    /// The BLAKE3 root hash of some object's bytes.
    ///
    /// It binds bytes, not lengths, so no other object names anything by a bare root: see [`crate::reference::ObjectRef`].
    RootHash
}
id! {
    /// A channel: `derive_key("maimo v1 channel id", provider auth key || client public key)`.
    ChannelId
}

impl RootHash {
    /// The root that stands for "nothing before": the previous root of a channel's first head.
    pub const NONE: Self = Self([0; 32]);

    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl ChannelId {
    const CONTEXT: &str = "maimo v1 channel id";

    /// Derives the id of the channel between a provider's auth key and a client's key of this channel.
    pub fn derive(provider_auth: &[u8; 32], client: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(Self::CONTEXT);
        hasher.update(provider_auth).update(client);
        Self(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back_and_other_lengths_are_refused() {
        let root = RootHash::of(b"");
        // The empty input's hash in the BLAKE3 team's test vectors.
        let text = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(root.to_string(), text);
        assert_eq!(text.parse(), Ok(root));
        assert_eq!(text[2..].parse::<RootHash>(), Err(ParseHexError));
        assert_eq!("zz".repeat(32).parse::<RootHash>(), Err(ParseHexError));
    }
}
