//! [`Replay`]: the log from some position to its end.

use std::collections::VecDeque;

use super::{
    Found, Log, LogPosition, OwnedEntry, SegmentName, VolumeError,
    entry::{self, SEGMENT_HEADER_BYTES},
    lock, offset,
};

/// One step through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// An entry.
    Entry(OwnedEntry),
    /// A stretch in which nothing sound is: how many entries it had cannot be said.
    Damaged {
        /// Where it begins.
        position: LogPosition,
        /// How long it is, in bytes.
        bytes: u64,
    },
}

/// Goes through the entries of a log.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a Log,
    /// Segments to come.
    rest: VecDeque<SegmentName>,
    current: Option<Segment>,
    from: Option<LogPosition>,
}

#[derive(Debug)]
struct Segment {
    name: SegmentName,
    bytes: Vec<u8>,
    at: usize,
    is_last: bool,
}

impl<'a> Replay<'a> {
    pub(super) fn new(log: &'a Log, from: Option<LogPosition>) -> Self {
        let state = lock(&log.state);
        let first = from.map_or(0, LogPosition::segment);
        let rest: VecDeque<_> = state
            .segments
            .range(first..)
            .filter_map(|(number, _)| state.newest(*number))
            .collect();
        drop(state);
        Self {
            log,
            rest,
            current: None,
            from,
        }
    }

    /// Takes the next segment; nothing at the end.
    fn advance(&mut self) -> Result<Option<()>, VolumeError> {
        let Some(name) = self.rest.pop_front() else {
            return Ok(None);
        };
        let is_last = self.rest.is_empty();
        let file = match self.log.file(name) {
            // Removed since this began: what it said is said again behind.
            Err(VolumeError::NotHeld) => return self.advance(),
            file => file?,
        };
        // A position in an older generation says nothing of this one: then all of it.
        let from = self.from.filter(|from| from.segment_name() == name);
        let at = from.map_or(0, LogPosition::offset) as usize;
        if is_last && !self.log.disk.is_poisoned() {
            // An earlier process may have died between writing and syncing. Who acts on an entry must not be surprised later that it is
            // gone.
            self.log.disk.sync(&file)?;
        }
        let bytes = entry::read_segment_from(&file, at)?;
        entry::check_version(&bytes)?;
        self.current = Some(Segment {
            name,
            bytes,
            at,
            is_last,
        });
        Ok(Some(()))
    }

    fn step(&mut self) -> Option<Replayed> {
        let key = &self.log.key;
        let segment = self.current.as_mut()?;
        let (name, at, is_last) = (segment.name, segment.at, segment.is_last);
        if at < SEGMENT_HEADER_BYTES as usize {
            segment.at = SEGMENT_HEADER_BYTES as usize;
            let is_torn = is_last && segment.bytes.len() < segment.at;
            // The entries can be read without it; but who keeps the disk should know.
            if !name.has_header(&segment.bytes, key) && !is_torn {
                return Some(Replayed::Damaged {
                    position: name.at(0),
                    bytes: SEGMENT_HEADER_BYTES.into(),
                });
            }
            return self.step();
        }
        match entry::find(&segment.bytes, at, key, name) {
            Found::Entry { header, body, end } => {
                segment.at = end;
                let entry = OwnedEntry {
                    position: name.at(offset(at)),
                    kind: header.kind,
                    channel: header.channel,
                    body: segment.bytes[body].to_vec(),
                };
                if is_last {
                    lock(&self.log.state).known = Some(name.at(offset(end)));
                }
                Some(Replayed::Entry(entry))
            }
            // The torn end of the last segment: nobody was told of what stood there.
            Found::Damage { end } if is_last && end >= segment.bytes.len() => None,
            Found::Damage { end } => {
                segment.at = end.min(segment.bytes.len());
                Some(Replayed::Damaged {
                    position: name.at(offset(at)),
                    bytes: (end - at) as u64,
                })
            }
            Found::End => None,
        }
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Replayed, VolumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(step) = self.step() {
                return Some(Ok(step));
            }
            self.current = None;
            match self.advance() {
                Ok(Some(())) => {}
                Ok(None) => return None,
                Err(error) => {
                    self.rest.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
