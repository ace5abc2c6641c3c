//! [`StorePath`]: where a file was on the machine it came from, byte for byte.
//!
//! Not a path of this machine: components are kept apart, so that restoring one on another system decides there, and only there, what
//! a separator is. A component that could leave the target folder (`..`, an empty name, a separator) does not parse.

use core::fmt;

use maimo_core::codec::{ParseError, Put, Reader};

/// What a path starts from, and with it what its components' bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// The root of a Unix file system; components are bytes as the system gave them.
    Unix,
    /// A Windows drive or share such as `C:` or `\\host\share`, in WTF-8, as are the components.
    Windows(Vec<u8>),
}

/// An absolute path of a source: a prefix and its components, none of them special.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    prefix: Prefix,
    components: Vec<Vec<u8>>,
}

impl StorePath {
    /// How long one component may be, in bytes: 255 UTF-16 units take at most 765 in WTF-8.
    pub const COMPONENT_BYTES_MAX: usize = 1024;
    /// How many components a path may have.
    pub const COMPONENTS_MAX: usize = 1024;
    /// How long all components together may be, in bytes.
    pub const BYTES_MAX: usize = 32 * 1024;

    /// Builds a path.
    ///
    /// # Errors
    ///
    /// [`ParseError::Invalid`] for a component that is empty, `.`, `..` or holds a separator or NUL; [`ParseError::TooLarge`] beyond the bounds.
    pub fn new(prefix: Prefix, components: Vec<Vec<u8>>) -> Result<Self, ParseError> {
        let path = Self { prefix, components };
        path.check()?;
        Ok(path)
    }

    /// Builds a Unix path from text such as `/home/u/notes.txt`; doubled separators count once.
    pub fn unix(text: &str) -> Result<Self, ParseError> {
        let components = text.split('/').filter(|name| !name.is_empty());
        Self::new(
            Prefix::Unix,
            components.map(|name| name.as_bytes().to_vec()).collect(),
        )
    }

    /// Returns what the path starts from.
    pub const fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> &[Vec<u8>] {
        &self.components
    }

    /// Returns whether this is `folder` or below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.prefix == folder.prefix && self.components.starts_with(&folder.components)
    }

    /// Returns about how many bytes the path takes in memory, whatever it shares with others where it is written.
    pub(crate) fn memory_bytes(&self) -> usize {
        // A component is an allocation of its own.
        const COMPONENT: usize = 32;
        let components = self.components.iter().map(|name| name.len() + COMPONENT);
        components.sum()
    }

    /// Appends the path, leaving out the components it shares with `previous`.
    pub fn encode_after(&self, previous: Option<&Self>, out: &mut Vec<u8>) {
        let shared = previous.map_or(0, |previous| self.shared_with(previous));
        if shared == 0 {
            out.put_u8(0);
            match &self.prefix {
                Prefix::Unix => out.put_u8(0),
                Prefix::Windows(drive) => {
                    out.put_u8(1);
                    out.put_bytes(drive);
                }
            }
        } else {
            out.put_varint(shared as u64);
        }
        let own = &self.components[shared..];
        out.put_varint(own.len() as u64);
        for component in own {
            out.put_bytes(component);
        }
    }

    /// Reads what [`Self::encode_after`] wrote after the same `previous`.
    pub fn parse_after(
        previous: Option<&Self>,
        reader: &mut Reader<'_>,
    ) -> Result<Self, ParseError> {
        let most = previous.map_or(0, |previous| previous.components.len());
        let shared = reader.count_shared(most)?;
        let (prefix, mut components) = match previous.filter(|_| shared > 0) {
            Some(previous) => (
                previous.prefix.clone(),
                previous.components[..shared].to_vec(),
            ),
            None => match reader.u8("path prefix")? {
                0 => (Prefix::Unix, Vec::new()),
                1 => (
                    Prefix::Windows(
                        reader
                            .bytes(Self::COMPONENT_BYTES_MAX, "path prefix")?
                            .to_vec(),
                    ),
                    Vec::new(),
                ),
                _ => {
                    return Err(ParseError::Invalid {
                        what: "path prefix",
                    });
                }
            },
        };
        let own = reader.count(Self::COMPONENTS_MAX as u64, 2, "path components")?;
        for _ in 0..own {
            components.push(
                reader
                    .bytes(Self::COMPONENT_BYTES_MAX, "path component")?
                    .to_vec(),
            );
        }
        let path = Self::new(prefix, components)?;
        if previous.map_or(0, |previous| path.shared_with(previous)) != shared {
            return Err(ParseError::NotCanonical { what: "path" });
        }
        Ok(path)
    }

    fn shared_with(&self, previous: &Self) -> usize {
        if self.prefix != previous.prefix {
            return 0;
        }
        let pairs = self.components.iter().zip(&previous.components);
        pairs.take_while(|(one, other)| one == other).count()
    }

    fn check(&self) -> Result<(), ParseError> {
        let too_large = |what, found: usize, max: usize| ParseError::TooLarge {
            what,
            found: found as u64,
            max: max as u64,
        };
        if let Prefix::Windows(prefix) = &self.prefix
            && prefix.len() > Self::COMPONENT_BYTES_MAX
        {
            return Err(too_large(
                "path prefix",
                prefix.len(),
                Self::COMPONENT_BYTES_MAX,
            ));
        }
        if self.components.len() > Self::COMPONENTS_MAX {
            return Err(too_large(
                "path components",
                self.components.len(),
                Self::COMPONENTS_MAX,
            ));
        }
        let mut bytes = 0;
        for component in &self.components {
            let windows = matches!(self.prefix, Prefix::Windows(_));
            let special = component.is_empty() || component == b"." || component == b"..";
            if special
                || component
                    .iter()
                    .any(|byte| matches!(byte, 0 | b'/') || (windows && *byte == b'\\'))
            {
                return Err(ParseError::Invalid {
                    what: "path component",
                });
            }
            if component.len() > Self::COMPONENT_BYTES_MAX {
                return Err(too_large(
                    "path component",
                    component.len(),
                    Self::COMPONENT_BYTES_MAX,
                ));
            }
            bytes += component.len();
        }
        if bytes > Self::BYTES_MAX {
            return Err(too_large("path", bytes, Self::BYTES_MAX));
        }
        Ok(())
    }
}

impl fmt::Debug for StorePath {
    /// Prints the path: for tests. A program logs paths only where its user asked for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for component in &self.components {
            write!(f, "/{}", String::from_utf8_lossy(component))?;
        }
        Ok(())
    }
}

/// Reads the count of shared components, which the previous path bounds.
trait CountShared {
    fn count_shared(&mut self, most: usize) -> Result<usize, ParseError>;
}

impl CountShared for Reader<'_> {
    fn count_shared(&mut self, most: usize) -> Result<usize, ParseError> {
        let shared = self.varint_max(most as u64, "shared path components")?;
        // `most` is a length in memory, so the cast cannot lose anything.
        Ok(usize::try_from(shared).unwrap_or(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = StorePath> {
        let component =
            proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), 1..=255_u8], 1..5);
        (any::<bool>(), proptest::collection::vec(component, 0..5)).prop_filter_map(
            "special components",
            |(windows, components)| {
                let prefix = if windows {
                    Prefix::Windows(b"C:".to_vec())
                } else {
                    Prefix::Unix
                };
                StorePath::new(prefix, components).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn a_path_comes_back_after_any_other(one in path(), other in path()) {
            for previous in [None, Some(&other)] {
                let mut bytes = Vec::new();
                one.encode_after(previous, &mut bytes);
                let mut reader = Reader::new(&bytes);
                prop_assert_eq!(&StorePath::parse_after(previous, &mut reader).unwrap(), &one);
                prop_assert!(reader.finish().is_ok());
            }
        }
    }

    #[test]
    fn a_component_that_would_leave_the_folder_is_refused() {
        for component in [&b".."[..], b".", b"", b"a/b", b"a\0b"] {
            assert!(StorePath::new(Prefix::Unix, vec![component.to_vec()]).is_err());
        }
        assert!(StorePath::new(Prefix::Unix, vec![b"a\\b".to_vec()]).is_ok());
        assert!(StorePath::new(Prefix::Windows(b"C:".to_vec()), vec![b"a\\b".to_vec()]).is_err());
    }

    #[test]
    fn a_prefix_that_no_parser_takes_cannot_be_made() {
        let prefix = |length| StorePath::new(Prefix::Windows(vec![b'x'; length]), Vec::new());
        assert!(prefix(StorePath::COMPONENT_BYTES_MAX).is_ok());
        assert!(prefix(StorePath::COMPONENT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn sharing_fewer_components_than_possible_is_not_canonical() {
        let previous = StorePath::unix("/a/b").unwrap();
        let mut bytes = vec![1, 1];
        bytes.put_bytes(b"b");
        assert_eq!(
            StorePath::parse_after(Some(&previous), &mut Reader::new(&bytes)),
            Err(ParseError::NotCanonical { what: "path" })
        );
    }
}
