//! Dumping: one file of the store as a stream of bytes, in order, each verified before it is passed on.
//!
//! One thread reads and opens ahead of the one that writes, by a few chunks. The hash of the whole file is known only at its end: what came
//! out before was proven chunk by chunk, so a file that ends in an error is right as far as it goes.

use std::{
    io::{self, Write},
    path::PathBuf,
    thread,
};

use crossbeam_channel::{Sender, bounded};
use maimo_core::{
    clock::Timestamp,
    error::{Classify, ErrorKind, Retry},
};
use maimo_vault::journal::content::Content;
use thiserror::Error;

use crate::{
    error::ClientError,
    fetch::{ChunkAt, Fetch, FetchError, Locator, Opener, PackIndex, Wanted},
    progress::{Control, Event, Phase},
};

/// How many bytes of packs are read at a time, at least.
const READ_BYTES: u64 = 4 * 1024 * 1024;
/// How many chunks are read ahead.
const AHEAD: usize = 4;

/// Which content is to be written.
#[derive(Debug, Clone, Default)]
pub struct DumpRequest {
    /// The file, by its path on the machine it came from.
    pub path: PathBuf,
    /// This of its kept revisions; the newest unless said.
    pub revision: Option<u64>,
    /// As the last run that had completed by then left it.
    pub at: Option<Timestamp>,
    /// The label of the machine; this one unless said.
    pub source: Option<String>,
}

/// Why a file was not dumped, or not to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DumpError {
    /// It has no bytes: a folder, a link, a pipe.
    #[error("only regular files can be dumped")]
    NotAFile,
    /// Some of it cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// All chunks are right, and yet they are not the file.
    #[error("what its chunks add up to does not have the hash of the file")]
    WrongHash,
    /// Where it was to go takes no more.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// It was stopped, or the catalog failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Classify for DumpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAFile => ErrorKind::BadInput,
            Self::Fetch(error) => error.kind(),
            Self::WrongHash => ErrorKind::LocalCorrupt,
            Self::Output(_) => ErrorKind::LocalIo,
            Self::Client(error) => error.kind(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Fetch(error) => error.retry(),
            Self::Client(error) => error.retry(),
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotAFile => Some("use `maimo retrieve`"),
            Self::Fetch(error) => error.hint(),
            Self::Client(error) => error.hint(),
            _ => None,
        }
    }
}

/// Writes a file's content to `out`, and returns how many bytes that were.
///
/// # Errors
///
/// What cannot be had, or written; `out` then has the file's beginning.
pub fn dump(
    content: &Content,
    index: &dyn PackIndex,
    fetch: &Fetch<'_>,
    out: &mut dyn Write,
    control: &Control,
) -> Result<u64, DumpError> {
    let Content::Regular {
        size,
        blake3,
        chunks,
    } = content
    else {
        return Err(DumpError::NotAFile);
    };
    control.tell(Event::Phase(Phase::Retrieving));
    let mut locator = Locator::new(fetch, index);
    let chunks = chunks.iter().flat_map(|extent| extent.chunks());
    let chunks = chunks
        .map(|chunk| locator.find(chunk))
        .collect::<Result<Vec<_>, _>>()?;
    let mut hasher = blake3::Hasher::new();
    let mut written = 0;
    let (sender, receiver) = bounded(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || read(&chunks, fetch, &sender));
        // Returning lets go of the receiver, which ends the other thread.
        for bytes in receiver {
            let bytes: Vec<u8> = bytes?;
            control.check().map_err(ClientError::from)?;
            out.write_all(&bytes).map_err(DumpError::Output)?;
            hasher.update(&bytes);
            written += bytes.len() as u64;
            control.tell(Event::Done {
                files: 0,
                bytes: written,
            });
        }
        out.flush().map_err(DumpError::Output)
    })?;
    if written != *size || hasher.finalize() != *blake3 {
        return Err(DumpError::WrongHash);
    }
    Ok(written)
}

/// Reads and opens chunks in order, until there are no more or nobody takes them.
fn read(chunks: &[ChunkAt], fetch: &Fetch<'_>, sender: &Sender<Result<Vec<u8>, FetchError>>) {
    let mut opener = Opener::new(fetch);
    let at_once = READ_BYTES.max(fetch.bytes_ahead());
    let mut rest = chunks;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|chunk| {
                let is_first = bytes == 0;
                bytes += chunk.frame_length();
                is_first || bytes <= at_once
            })
            .count();
        let (now, later) = rest.split_at(count.max(1));
        rest = later;
        let mut wanted = Wanted::default();
        for chunk in now {
            chunk.want(&mut wanted);
        }
        let fetched = match fetch.read(wanted) {
            Ok(fetched) => fetched,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        for chunk in now {
            let opened = opener.open(&fetched, chunk);
            let is_end = opened.is_err();
            if sender.send(opened).is_err() || is_end {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::testing::{FakeStore, random};

    fn run(store: &FakeStore, content: &Content, out: &mut Vec<u8>) -> Result<u64, DumpError> {
        let fetch = store.fetch();
        dump(content, &store.index, &fetch, out, &Control::default())
    }

    #[test]
    fn a_file_comes_out_in_order() {
        let mut store = FakeStore::new(1, 1 << 20);
        let bytes = random(1, 20_000_000);
        let content = store.put(&bytes, 700_000);
        store.seal();
        let mut out = Vec::new();
        assert_eq!(run(&store, &content, &mut out).unwrap(), 20_000_000);
        assert!(out == bytes);
        assert!(matches!(
            run(&store, &Content::Folder, &mut out),
            Err(DumpError::NotAFile)
        ));
    }

    #[test]
    fn what_comes_out_before_damage_is_right() {
        let mut store = FakeStore::new(1, 1 << 20);
        let bytes = random(1, 3_000_000);
        let content = store.put(&bytes, 100_000);
        store.seal();
        let last = content.extents().last().unwrap().first.pack;
        let last = store.index.objects[&(last, store.channels[0].0)];
        store.channels[0].2.damage(&last, 250_000);
        let mut out = Vec::new();
        let error = run(&store, &content, &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProviderMisbehaved, "{error}");
        assert!(!out.is_empty() && bytes.starts_with(&out));
    }

    #[test]
    fn a_reader_that_goes_away_ends_it() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut store = FakeStore::new(1, 1 << 20);
        let content = store.put(&random(1, 10_000_000), 100_000);
        store.seal();
        let fetch = store.fetch();
        let control = Control::default();
        let error = dump(&content, &store.index, &fetch, &mut Closed, &control).unwrap_err();
        assert!(matches!(error, DumpError::Output(_)));
    }
}
