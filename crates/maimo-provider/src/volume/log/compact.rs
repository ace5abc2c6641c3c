//! Leaving out what has become useless, a segment at a time.

use super::{
    Found, Log, LogEntry, LogPosition, SegmentName, VolumeError,
    entry::{self, SEGMENT_HEADER_BYTES},
    lock, offset,
};

impl Log {
    /// Returns the segments that are full, each with its size in bytes: what may be compacted.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn full_segments(&self) -> Result<Vec<(u32, u64)>, VolumeError> {
        let names: Vec<SegmentName> = {
            let state = lock(&self.state);
            let numbers = state.segments.keys().rev().skip(1).rev();
            numbers.filter_map(|&number| state.newest(number)).collect()
        };
        let size = |name: SegmentName| {
            let found = self.file(name)?.metadata();
            let size = found.map_err(VolumeError::io("reading the log"))?.len();
            Ok((name.number, size))
        };
        names.into_iter().map(size).collect()
    }

    /// Writes the next generation of a full segment, of only the entries that `is_live` wants, durably. The old one stays until
    /// [`Self::discard`]. A segment that has two generations is left as it is: its moves come first.
    ///
    /// # Errors
    ///
    /// [`VolumeError::DamagedEntry`] where some of it cannot be read: then nothing is left out, for nobody knows what it was.
    /// [`VolumeError::NotHeld`] where no such segment is full. [`VolumeError::Full`], others of the file system.
    pub fn compact(
        &self,
        number: u32,
        mut is_live: impl FnMut(LogPosition) -> bool,
    ) -> Result<(), VolumeError> {
        let (old, generations) = {
            let state = lock(&self.state);
            let old = state.newest(number).ok_or(VolumeError::NotHeld)?;
            if state.newest_of_last() == Some(old) {
                return Err(VolumeError::NotHeld);
            }
            (old, state.segments[&number].len())
        };
        let Some(generation) = old.generation.checked_add(1).filter(|_| generations == 1) else {
            return Ok(());
        };
        let new = SegmentName { number, generation };
        let bytes = entry::read_segment(&*self.file(old)?)?;
        let mut out = new.encode_header(&self.key);
        let mut at = SEGMENT_HEADER_BYTES as usize;
        loop {
            match entry::find(&bytes, at, &self.key, old) {
                Found::Entry { header, body, end } => {
                    if is_live(old.at(offset(at))) {
                        let entry = LogEntry {
                            kind: header.kind,
                            channel: header.channel,
                            body: &bytes[body],
                        };
                        let to = offset(out.len());
                        entry.encode(&self.key, new, to, Some(offset(at)), &mut out);
                    }
                    at = end;
                }
                Found::Damage { .. } => return Err(VolumeError::DamagedEntry),
                Found::End => break,
            }
        }
        let aside = self.folder.join(format!("{new}.{}", super::super::ASIDE));
        self.disk.remove(&aside)?;
        let file = self.disk.create(&aside)?;
        let written = self
            .disk
            .write(&file, &out, 0)
            .and_then(|()| self.disk.sync(&file))
            .and_then(|()| self.disk.rename(&aside, &self.path(new)));
        if let Err(error) = written {
            let _ = self.disk.remove(&aside);
            return Err(error);
        }
        self.disk.sync_folder(&self.folder)?;
        let mut state = lock(&self.state);
        state.segments.entry(number).or_default().push(generation);
        Ok(())
    }

    /// Returns the segments that were compacted and still have an older generation, after a crash too: for each, [`Self::moves`] go into the
    /// ledger, then it is [discarded](Self::discard).
    pub fn compacted(&self) -> Vec<u32> {
        let state = lock(&self.state);
        let several = state.segments.iter().filter(|(_, all)| all.len() > 1);
        several.map(|(&number, _)| number).collect()
    }

    /// Returns where the entries of a compacted segment were, and where they are now. Applying it twice does no harm: no
    /// position is ever given again.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where the segment has no older generation, [`VolumeError::DamagedEntry`] where the new one is damaged.
    pub fn moves(&self, number: u32) -> Result<Vec<(LogPosition, LogPosition)>, VolumeError> {
        let (old, new) = {
            let state = lock(&self.state);
            let generations = state.segments.get(&number).map_or(&[][..], Vec::as_slice);
            let [.., old, new] = *generations else {
                return Err(VolumeError::NotHeld);
            };
            let name = |generation| SegmentName { number, generation };
            (name(old), name(new))
        };
        let bytes = entry::read_segment(&*self.file(new)?)?;
        let mut moves = Vec::new();
        let mut at = SEGMENT_HEADER_BYTES as usize;
        loop {
            match entry::find(&bytes, at, &self.key, new) {
                Found::Entry { header, end, .. } => {
                    moves.push((old.at(header.origin), new.at(offset(at))));
                    at = end;
                }
                Found::Damage { .. } => return Err(VolumeError::DamagedEntry),
                Found::End => return Ok(moves),
            }
        }
    }

    /// Removes the older generations of a segment: the ledger knows where all is now.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn discard(&self, number: u32) -> Result<(), VolumeError> {
        let mut state = lock(&self.state);
        let Some(newest) = state.newest(number) else {
            return Ok(());
        };
        let old = state.segments.get(&number).cloned().unwrap_or_default();
        for generation in old.into_iter().filter(|&old| old != newest.generation) {
            self.disk
                .remove(&self.path(SegmentName { number, generation }))?;
        }
        state.segments.insert(number, vec![newest.generation]);
        let stays = |name: SegmentName| name.number != number || name == newest;
        state.open.retain(|(name, _)| stays(*name));
        Ok(())
    }
}
