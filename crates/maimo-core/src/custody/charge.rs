//! What is charged: `live + max(0, held but not live - reserve)`, in bytes, counted and never measured on a disk.
//!
//! A pack is charged its live groups and its outboard, 4 KiB at least, if the newest head names it; what more is held of it
//! is *waiting*. Nodes, commits and heads lie in the provider's log, not in files of their own, and count [`LOG_CHARGE_MIN`]
//! at least: see `docs/decisions/0001-log-objects-charge.md`.

use crate::{
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    inventory::charge,
    live_map::LiveMap,
    reference::ObjectRef,
};

use super::{HeadRow, HeldPack, Hold, NodeRow, Terms, Upload, terms::ENDLESS};

/// The least that an object in the provider's log is charged, in bytes.
pub const LOG_CHARGE_MIN: u64 = 512;

/// Returns what is charged for groups of a pack; nothing if there are none.
pub fn held_charge(pack: &ObjectRef, groups: &LiveMap) -> u64 {
    if groups.is_empty() {
        0
    } else {
        charge(pack.length, groups)
    }
}

/// Returns what is charged for an object of `length` bytes in the provider's log.
pub const fn log_charge(length: u64) -> u64 {
    if length > LOG_CHARGE_MIN {
        length
    } else {
        LOG_CHARGE_MIN
    }
}

/// Running totals of a channel, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Charges of what the newest head names, itself, its commit and its nodes included.
    pub live: u64,
    /// Charges of all that is held, what lives included.
    pub held: u64,
    /// Room taken by uploads under way.
    pub reserved: u64,
}

impl Totals {
    /// Returns what is held or under way and not live.
    pub const fn waiting(&self) -> u64 {
        self.held
            .saturating_sub(self.live)
            .saturating_add(self.reserved)
    }

    /// Returns what is charged on these terms.
    pub const fn charged(&self, terms: &Terms) -> u64 {
        self.live
            .saturating_add(self.waiting().saturating_sub(terms.reserve))
    }

    /// How many bytes [`Self::encode`] takes.
    pub const LENGTH: usize = 24;

    /// Appends the three sums.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.live);
        out.put_u64(self.held);
        out.put_u64(self.reserved);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        const WHAT: &str = "totals";
        Ok(Self {
            live: reader.u64(WHAT)?,
            held: reader.u64(WHAT)?,
            reserved: reader.u64(WHAT)?,
        })
    }

    /// Adds up the rows: what the running totals must be at any time.
    pub fn recompute<'a>(
        packs: impl IntoIterator<Item = &'a HeldPack>,
        nodes: impl IntoIterator<Item = &'a NodeRow>,
        heads: impl IntoIterator<Item = &'a HeadRow>,
        uploads: impl IntoIterator<Item = &'a Upload>,
    ) -> Self {
        let mut totals = Self::default();
        for pack in packs {
            totals.live += held_charge(pack.reference(), &pack.live());
            totals.held += held_charge(pack.reference(), &pack.held());
        }
        let nodes = nodes
            .into_iter()
            .map(|node| (log_charge(node.reference.length), node.hold));
        let heads = heads.into_iter().map(|head| (head.charge(), head.hold));
        for (charge, hold) in nodes.chain(heads) {
            totals.held += charge;
            if hold == Hold::Live {
                totals.live += charge;
            }
        }
        totals.reserved = uploads.into_iter().map(|upload| upload.reserved).sum();
        totals
    }
}

/// So many bytes fewer, at this date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freeing {
    /// The date.
    pub date: Timestamp,
    /// How many bytes.
    pub bytes: u64,
}

/// How many dates an answer lists.
pub const FREES_MAX: usize = 16;

impl HeldPack {
    /// Returns by how much the pack's charge falls at which date, if nothing names it again, in ascending order.
    pub fn frees(&self) -> Vec<Freeing> {
        let charge = |pack: &Self| held_charge(pack.reference(), &pack.held());
        let mut frees = Vec::new();
        let (mut rest, mut before) = (self.clone(), charge(self));
        while let Some(date) = rest.next_date() {
            (rest, _) = rest.swept(date);
            let after = charge(&rest);
            frees.push(Freeing {
                date,
                bytes: before - after,
            });
            before = after;
        }
        frees
    }
}

impl Totals {
    /// Returns by how much what is charged will fall at which dates, given what waits for which: the reserve covers what is
    /// freed last. Of more than [`FREES_MAX`] dates, the last stands for all later ones.
    pub fn relief(&self, terms: &Terms, mut waiting: Vec<Freeing>) -> Vec<Freeing> {
        waiting.retain(|free| free.date != ENDLESS && free.bytes > 0);
        waiting.sort_unstable_by_key(|free| free.date);
        let mut beyond_reserve = self.waiting().saturating_sub(terms.reserve);
        let mut relief: Vec<Freeing> = Vec::new();
        for Freeing { date, bytes } in waiting {
            let bytes = bytes.min(beyond_reserve);
            beyond_reserve -= bytes;
            let is_full = relief.len() == FREES_MAX;
            match relief.last_mut() {
                Some(last) if bytes > 0 && (last.date == date || is_full) => {
                    last.date = date;
                    last.bytes += bytes;
                }
                _ if bytes > 0 => relief.push(Freeing { date, bytes }),
                _ => break,
            }
        }
        relief
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{custody::PackClass, id::RootHash};

    const MIB: u64 = 1024 * 1024;

    fn pack(length: u64) -> ObjectRef {
        ObjectRef {
            root: RootHash([7; 32]),
            length,
        }
    }

    fn free(date: u64, bytes: u64) -> Freeing {
        Freeing {
            date: Timestamp(date),
            bytes,
        }
    }

    /// Worked by hand: 64 groups of 16 KiB have 63 inner nodes of 64 bytes above them.
    #[test]
    fn a_pack_is_charged_its_groups_and_its_outboard() {
        let half = LiveMap::from_runs(64, [0..16, 48..64]).unwrap();
        assert_eq!(held_charge(&pack(MIB), &LiveMap::full(64)), MIB + 63 * 64);
        assert_eq!(held_charge(&pack(MIB), &half), MIB / 2 + 63 * 64);
        assert_eq!(held_charge(&pack(MIB), &LiveMap::empty(64)), 0);
        assert_eq!(held_charge(&pack(4096), &LiveMap::full(1)), 4096);
    }

    #[test]
    fn an_object_in_the_log_is_charged_half_a_kilobyte_at_least() {
        assert_eq!([0, 512, 513, 9000].map(log_charge), [512, 512, 513, 9000]);
    }

    #[test]
    fn the_reserve_covers_what_waits_and_not_what_lives() {
        let terms = Terms::new(1000, Some(100), None);
        let charged = |live, held, reserved| {
            let totals = Totals {
                live,
                held,
                reserved,
            };
            totals.charged(&terms)
        };
        assert_eq!(charged(50, 50, 0), 50);
        assert_eq!(charged(50, 150, 0), 50);
        assert_eq!(charged(50, 151, 0), 51);
        assert_eq!(charged(50, 151, 9), 60);
    }

    #[test]
    fn a_pack_s_dates_add_up_to_its_charge() {
        let live = LiveMap::full(64).minus(&LiveMap::from_runs(64, [8..30, 30..64]).unwrap());
        let none = LiveMap::empty(64);
        let waits = HeldPack::uploaded(pack(MIB), PackClass::Data, Timestamp(5))
            .with_live(&live, Timestamp(6))
            .with_live(&none, Timestamp(9));
        assert_eq!(
            waits.frees(),
            [free(5, 56 * 16384), free(9, 8 * 16384 + 63 * 64)]
        );
    }

    #[test]
    fn relief_leaves_out_what_the_reserve_covered_anyway() {
        let terms = Terms::new(1000, Some(100), None);
        let totals = Totals {
            live: 500,
            held: 800,
            reserved: 0,
        };
        let waiting = vec![free(9, 150), free(3, 150), free(u64::MAX, 10)];
        assert_eq!(totals.relief(&terms, waiting), [free(3, 150), free(9, 50)]);
    }

    #[test]
    fn an_answer_lists_few_dates_and_loses_no_byte() {
        let totals = Totals {
            live: 0,
            held: 1000,
            reserved: 0,
        };
        let terms = Terms::new(0, Some(0), None);
        let relief = totals.relief(&terms, (0..100).map(|date| free(date, 10)).collect());
        assert_eq!(relief.len(), FREES_MAX);
        assert_eq!(relief.last(), Some(&free(99, 850)));
    }
}
