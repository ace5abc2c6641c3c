//! The marker: the file that makes a folder a volume, and says whose.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use maimo_core::{
    codec::{ParseError, Put, Reader},
    identity::AuthPublicKey,
};

use super::{VolumeError, VolumeId, disk::Disk};

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) id: VolumeId,
    pub(super) owner: AuthPublicKey,
}

impl Marker {
    pub(super) const NAME: &str = "maimo-volume";
    const MAGIC: [u8; 8] = *b"maimovol";
    const VERSION: u8 = 1;
    const LENGTH: usize = 8 + 8 + 16 + 32 + 32;

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        out.put(&Self::MAGIC);
        out.put(&[Self::VERSION, 0, 0, 0, 0, 0, 0, 0]);
        out.put(&self.id.0);
        out.put(self.owner.as_bytes());
        let sum = blake3::hash(&out);
        out.put(sum.as_bytes());
        out
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "volume marker";
        let mut reader = Reader::new(bytes);
        if reader.array(WHAT)? != Self::MAGIC {
            return Err(ParseError::Magic);
        }
        let [version, reserved @ ..] = reader.array::<8>(WHAT)?;
        if version != Self::VERSION {
            return Err(ParseError::Version { found: version });
        }
        let id = VolumeId(reader.array(WHAT)?);
        let owner = AuthPublicKey::parse(&mut reader, "volume's owner")?;
        let sum = reader.array::<32>(WHAT)?;
        reader.finish()?;
        if reserved != [0; 7] || blake3::hash(&bytes[..Self::LENGTH - 32]) != sum {
            return Err(ParseError::Invalid { what: WHAT });
        }
        Ok(Self { id, owner })
    }

    /// Returns a key for the volume's log. What a client sends lies in it as it is: without a key of the volume's own, a client could
    /// send what looks like an entry, and wait for the damage that lets a reader look for the next entry inside it.
    pub(super) fn log_key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("maimo v1 volume log");
        hasher.update(&self.id.0).update(self.owner.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Writes a folder's marker, durably.
pub(super) fn write(disk: &Disk, folder: &Path, marker: &Marker) -> Result<(), VolumeError> {
    let path = folder.join(Marker::NAME);
    let aside = path.with_extension(super::ASIDE);
    disk.remove(&aside)?;
    let file = disk.create(&aside)?;
    disk.write(&file, &marker.encode(), 0)?;
    disk.sync(&file)?;
    disk.rename(&aside, &path)?;
    disk.sync_folder(folder)
}

/// Reads a folder's marker; the file comes with it, to be locked.
pub(super) fn read(folder: &Path) -> Result<(File, Marker), VolumeError> {
    let file = match File::open(folder.join(Marker::NAME)) {
        Ok(file) => file,
        // No folder, or a file in its place: as with an empty mount point, nothing can be said of the volume.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(VolumeError::Unavailable);
        }
        Err(error) => return Err(VolumeError::io("opening the marker")(error)),
    };
    let mut bytes = Vec::with_capacity(Marker::LENGTH + 1);
    (&file)
        .take(Marker::LENGTH as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(VolumeError::io("reading the marker"))?;
    let marker = Marker::parse(&bytes).map_err(VolumeError::Marker)?;
    Ok((file, marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back_and_any_flipped_bit_is_seen() {
        let owner = maimo_core::identity::AuthSecretKey::from_seed(&[7; 32]).public();
        let marker = Marker {
            id: VolumeId([3; 16]),
            owner,
        };
        let bytes = marker.encode();
        assert_eq!(bytes.len(), Marker::LENGTH);
        assert_eq!(Marker::parse(&bytes), Ok(marker));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Marker::parse(&damaged).is_err(), "bit {bit}");
        }
        assert!(Marker::parse(&bytes[1..]).is_err());
    }
}
