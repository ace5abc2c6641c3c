//! The request that moves a head: the signed head, its commit, and the inventory nodes it needs that the provider does not have.
//!
//! What a provider makes of it is [`crate::custody::admit()`]. Nodes beyond what one request takes are put ahead, one by one.

use crate::{
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    head::{COMMIT_BYTES_MAX, SignedHead},
    inventory::Node,
};

/// A request to move the head; see `docs/format.md`, "Heads".
///
/// Its parts are bytes that nobody has looked into yet: who signed the head comes first, and all else only then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadMove {
    /// A [`SignedHead`].
    pub head: Vec<u8>,
    /// The commit that the head names.
    pub commit: Vec<u8>,
    /// Nodes of the head's inventories, in any order; those that the provider holds may be left out.
    pub nodes: Vec<Vec<u8>>,
    /// What later versions add.
    pub extensions: Extensions,
}

impl HeadMove {
    /// How many bytes the nodes of one request may have together.
    pub const NODES_BYTES_MAX: usize = 1024 * 1024;
    /// How many nodes one request may have.
    pub const NODES_MAX: usize = 16 * 1024;
    /// The longest request, in bytes.
    pub const LENGTH_MAX: usize = Self::NODES_BYTES_MAX + 256 * 1024;

    /// Returns the request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let nodes: usize = self.nodes.iter().map(Vec::len).sum();
        let mut out = Vec::with_capacity(self.head.len() + self.commit.len() + nodes + 64);
        Prelude { epoch: 0 }.encode(ObjectType::HeadMove, &mut out);
        out.put_bytes(&self.head);
        out.put_bytes(&self.commit);
        out.put_varint(self.nodes.len() as u64);
        for node in &self.nodes {
            out.put_bytes(node);
        }
        self.extensions.encode(&mut out);
        out
    }

    /// Reads a request.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > Self::LENGTH_MAX {
            return Err(too_large("head move", bytes.len(), Self::LENGTH_MAX));
        }
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::HeadMove)?;
        let head = reader
            .bytes(SignedHead::LENGTH_MAX, "signed head")?
            .to_vec();
        let commit = reader.bytes(COMMIT_LENGTH_MAX, "commit")?.to_vec();
        // A node is a prelude at least.
        let count = reader.count(Self::NODES_MAX as u64, 1 + Prelude::LENGTH, "nodes")?;
        let mut nodes = Vec::with_capacity(count);
        let mut total = 0;
        for _ in 0..count {
            let node = reader.bytes(Node::BYTES_MAX, "node")?;
            if node.len() < Prelude::LENGTH {
                return Err(ParseError::Truncated { what: "node" });
            }
            total += node.len();
            if total > Self::NODES_BYTES_MAX {
                return Err(too_large("nodes", total, Self::NODES_BYTES_MAX));
            }
            nodes.push(node.to_vec());
        }
        let extensions = Extensions::parse(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            head,
            commit,
            nodes,
            extensions,
        })
    }
}

const COMMIT_LENGTH_MAX: usize = 64 * 1024;
const _: () = assert!(COMMIT_LENGTH_MAX as u64 == COMMIT_BYTES_MAX);

// The longest parts fit the longest request, lengths and extensions included.
const _: () = assert!(
    SignedHead::LENGTH_MAX + COMMIT_LENGTH_MAX + 3 * HeadMove::NODES_MAX + 32 * 1024 <= 256 * 1024
);

const fn too_large(what: &'static str, found: usize, max: usize) -> ParseError {
    ParseError::TooLarge {
        what,
        found: found as u64,
        max: max as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(nodes: Vec<Vec<u8>>) -> HeadMove {
        HeadMove {
            head: vec![1; 374],
            commit: vec![2; 900],
            nodes,
            extensions: Extensions::default(),
        }
    }

    #[test]
    fn a_megabyte_of_nodes_is_taken_and_a_byte_more_is_not() {
        let nodes = |last| {
            let mut nodes = vec![vec![3; 8 * 1024]; 127];
            nodes.push(vec![3; last]);
            request(nodes).encode()
        };
        assert!(HeadMove::parse(&nodes(8 * 1024)).is_ok());
        assert!(matches!(
            HeadMove::parse(&nodes(8 * 1024 + 1)),
            Err(ParseError::TooLarge { what: "nodes", .. })
        ));
    }

    #[test]
    fn a_commit_of_64_kib_is_taken_and_a_byte_more_is_not() {
        let with = |length| {
            let commit = vec![2; length];
            HeadMove {
                commit,
                ..request(Vec::new())
            }
            .encode()
        };
        assert!(HeadMove::parse(&with(65536)).is_ok());
        assert!(HeadMove::parse(&with(65537)).is_err());
    }

    #[test]
    fn a_request_cut_short_or_with_more_after_it_is_refused() {
        let bytes = request(vec![vec![3; 40], vec![4; 50]]).encode();
        for cut in 0..bytes.len() {
            assert!(HeadMove::parse(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        assert_eq!(
            HeadMove::parse(&[&bytes[..], &[0]].concat()),
            Err(ParseError::Trailing { extra: 1 })
        );
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(lengths in prop::collection::vec(12_usize..300, 0..5), at: prop::sample::Index, to: u8) {
            let request = request(lengths.into_iter().map(|length| vec![7; length]).collect());
            let mut bytes = request.encode();
            prop_assert_eq!(HeadMove::parse(&bytes), Ok(request));
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(parsed) = HeadMove::parse(&bytes) {
                prop_assert_eq!(parsed.encode(), bytes);
            }
        }
    }
}
