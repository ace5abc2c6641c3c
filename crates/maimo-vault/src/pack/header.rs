//! The header: the plain 64 bytes that say what the object is and hold its nonce.

use maimo_core::codec::{ParseError, Prelude, Put, Reader};
use rand_core::CryptoRng;

use super::{HEADER_BYTES, PackKind};
use crate::{aead::NONCE_BYTES, keys::KeyEpoch};

const RESERVED_BYTES: usize = HEADER_BYTES - Prelude::LENGTH - NONCE_BYTES;

/// The nonce all of a pack is sealed with.
///
/// # Security
///
/// Drawn anew for each pack and each channel; used again only to rebuild the very same pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackNonce(pub [u8; NONCE_BYTES]);

impl PackNonce {
    /// Draws one. `rng` must be the operating system's, outside tests.
    pub fn draw(rng: &mut impl CryptoRng) -> Self {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        Self(nonce)
    }
}

/// What a pack's first 64 bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// What the pack is for.
    pub kind: PackKind,
    /// The generation of its keys.
    pub epoch: KeyEpoch,
    /// Its nonce.
    pub nonce: PackNonce,
}

impl PackHeader {
    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let epoch = self.epoch.0;
        Prelude { epoch }.encode(self.kind.object_type(), out);
        out.put(&self.nonce.0);
        out.put(&[0; RESERVED_BYTES]);
    }

    /// Reads the header of a pack that must be of `kind`, which the inventory it is in has told.
    pub fn parse(bytes: &[u8], kind: PackKind) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let Prelude { epoch } = Prelude::parse(&mut reader, kind.object_type())?;
        let nonce = PackNonce(reader.array("pack nonce")?);
        let what = "reserved bytes of the pack header";
        if reader.array::<RESERVED_BYTES>(what)? != [0; RESERVED_BYTES] {
            return Err(ParseError::Invalid { what });
        }
        reader.finish()?;
        Ok(Self {
            kind,
            epoch: KeyEpoch(epoch),
            nonce,
        })
    }
}
