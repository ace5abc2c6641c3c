//! Which volume takes a pack: a pure function of what the volumes say of themselves.

use crate::volume::VolumeId;

/// What placement knows of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The volume.
    pub id: VolumeId,
    /// How many bytes of it may still be used: the lesser of what its capacity leaves and what is free on its disk, uploads under way
    /// taken off.
    pub free_bytes: u64,
    /// Whether it takes packs: it is mounted, sound, and not being drained.
    pub is_ready: bool,
}

/// How many bytes stay free on every volume: the log, and the ledger where it is beside it, must be able to go on when packs no longer fit.
pub const HEADROOM_BYTES: u64 = 64 * 1024 * 1024;

/// Returns the volume that takes `bytes` more: the one with most room of those that are ready and have enough. Where several have as much,
/// the one with the least id, so that the answer is always the same.
pub fn place(candidates: impl IntoIterator<Item = Candidate>, bytes: u64) -> Option<VolumeId> {
    candidates
        .into_iter()
        .filter(|volume| volume.is_ready)
        .filter(|volume| volume.free_bytes.saturating_sub(HEADROOM_BYTES) >= bytes)
        .max_by(|a, b| (a.free_bytes, b.id).cmp(&(b.free_bytes, a.id)))
        .map(|volume| volume.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: u64 = 16 * 1024 * 1024;

    fn volume(id: u8, free: u64, is_ready: bool) -> Candidate {
        Candidate {
            id: VolumeId([id; 16]),
            free_bytes: HEADROOM_BYTES + free,
            is_ready,
        }
    }

    #[test]
    fn the_emptiest_ready_volume_takes_the_pack() {
        let volumes = [
            volume(1, PACK, true),
            volume(2, 9 * PACK, true),
            volume(3, 10 * PACK, false),
        ];
        assert_eq!(place(volumes, PACK), Some(VolumeId([2; 16])));
        assert_eq!(place(volumes, 10 * PACK), None);
    }

    #[test]
    fn a_pack_that_fits_to_the_byte_is_taken_and_one_more_is_not() {
        assert!(place([volume(1, PACK, true)], PACK).is_some());
        assert_eq!(place([volume(1, PACK - 1, true)], PACK), None);
        assert_eq!(place([], 0), None);
    }

    #[test]
    fn among_equals_the_choice_does_not_depend_on_the_order() {
        let (a, b) = (volume(1, PACK, true), volume(2, PACK, true));
        assert_eq!(place([a, b], 1), Some(a.id));
        assert_eq!(place([b, a], 1), Some(a.id));
    }
}
