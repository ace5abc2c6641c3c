//! Taking packs apart: all frames of a pack, and what its table repeats, so that it can be sealed again for another channel.
//!
//! Groups that are needed are read like any others. What is dead is asked for too, for a pack is only whole with it, but a channel may have freed
//! it: then the frame stays out, and nothing is wrong.

use std::sync::Arc;

use maimo_core::live_map::LiveMap;
use maimo_vault::{
    dictionary::Dictionary,
    name::{ChunkId, PackNumber},
    pack::{PackKind, PackLayout},
};

use super::{FetchError, Fetched, Locator, PackAt, Wanted, halve, locate::Place};

/// What could be had of a pack.
pub(crate) struct Parts {
    /// Where everything in it stands.
    pub(crate) layout: PackLayout,
    /// The journal records that its table repeats; nothing where no channel has the table.
    pub(crate) records: Option<Vec<u8>>,
    /// The frames, by index; nothing for those that cannot be had.
    pub(crate) frames: Vec<Option<Vec<u8>>>,
}

/// Gives frames that are to be had on this machine, by index: all of a pack's at once.
pub(crate) type AtHand<'a> =
    dyn FnMut(&PackLayout, &[(ChunkId, Arc<Dictionary>)]) -> Vec<Option<Vec<u8>>> + 'a;

impl Locator<'_, '_> {
    /// Takes a pack apart. Frames come from `at_hand` where it has them; of the others, those in the groups `needed` are read from whichever
    /// channel has them right, and the rest where it is held still.
    ///
    /// # Errors
    ///
    /// A pack that no channel is known to hold, whose table nobody has and this machine does not know either, or that no channel that may hold it
    /// can be reached. A frame that is damaged everywhere is no error: it is not there.
    pub(crate) fn take_apart(
        &mut self,
        number: PackNumber,
        kind: PackKind,
        needed: &LiveMap,
        at_hand: &mut AtHand<'_>,
    ) -> Result<Parts, FetchError> {
        let what = "a pack";
        let pack = self.pack(number, kind)?;
        let Place::Sealed {
            layout: Some(layout),
            ..
        } = &pack.place
        else {
            return Err(FetchError::Unknown { what });
        };
        let mut dictionaries: Vec<(ChunkId, Arc<Dictionary>)> = Vec::new();
        for id in layout.entries().iter().filter_map(|entry| entry.dictionary) {
            if dictionaries.iter().all(|(known, _)| *known != id)
                && let Ok(dictionary) = self.dictionary(id)
            {
                dictionaries.push((id, dictionary));
            }
        }
        let mut frames = at_hand(layout, &dictionaries);
        frames.resize(layout.entries().len(), None);

        let mut wanted = Wanted::default();
        wanted.add(&pack, &layout.table_range());
        wanted.add(&pack, &layout.trailer_range());
        let mut dead = LiveMap::empty(needed.groups());
        for (index, _) in (0..)
            .zip(&frames)
            .filter(|(_, frame): &(u32, _)| frame.is_none())
        {
            let groups = layout.live_map([index]);
            let range = layout.chunk_range(index);
            let (groups, range) = groups.zip(range).ok_or(FetchError::Unknown { what })?;
            if needed.contains_all(&groups) {
                wanted.add(&pack, &range);
            } else {
                dead = dead.union(&groups.minus(needed));
            }
        }
        let mut fetched = self.fetch.read(wanted)?;
        self.read_what_is_held(&pack, dead, &mut fetched);

        let mut missing = (0..).zip(&mut frames).filter(|(_, frame)| frame.is_none());
        for (index, frame) in &mut missing {
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            let (Some(entry), Some(range)) = (layout.entries().get(at), layout.chunk_range(index))
            else {
                continue;
            };
            let Some((channel, sealed)) = fetched.bytes(number, &range) else {
                continue;
            };
            // What a seal does not open was never there: filled in where it was dead.
            *frame = self
                .fetch
                .reader(channel, &pack, &fetched)
                .and_then(|reader| Ok(reader.open_frame(entry, sealed)?))
                .ok();
        }
        let records = self.records(&pack, layout, &fetched);
        Ok(Parts {
            layout: layout.clone(),
            records,
            frames,
        })
    }

    /// Reads as many of these groups as are held anywhere: in halves where they are not all.
    fn read_what_is_held(&self, pack: &Arc<PackAt>, groups: LiveMap, fetched: &mut Fetched) {
        let mut pieces = vec![groups];
        while let Some(piece) = pieces.pop() {
            if piece.count() == 0 {
                continue;
            }
            let mut wanted = Wanted::default();
            wanted.add_groups(pack, &piece);
            match self.fetch.read(wanted) {
                Ok(read) if read.has(pack.number) => fetched.absorb(read),
                Ok(_) => pieces.extend(halve(&piece).into_iter().flatten()),
                // Nobody needs them.
                Err(_) => return,
            }
        }
    }

    fn records(&self, pack: &PackAt, layout: &PackLayout, fetched: &Fetched) -> Option<Vec<u8>> {
        let (channel, sealed) = fetched.bytes(pack.number, &layout.trailer_range())?;
        let reader = self.fetch.reader(channel, pack, fetched).ok()?;
        let trailer = reader.open_trailer(&sealed).ok()?;
        let (other, sealed) = fetched.bytes(pack.number, trailer.table_range())?;
        // One channel's trailer opens no other's table.
        let table = (other == channel).then(|| reader.open_table(&trailer, sealed))?;
        let table = table.ok()?;
        (table.layout == *layout).then_some(table.records)
    }
}
