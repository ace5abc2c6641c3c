//! Frames: what goes through the socket, each a kind, a length and so many bytes.

use std::io::{self, Read, Write};

use maimo_client::progress::{Event, Phase};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    control::{PathBytes, is_timeout},
    error::ErrorText,
};

/// The longest request, in bytes: more than a command line can be, with every byte of a path spelt out.
pub(super) const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest of all other frames, in bytes.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A [`super::Request`], as JSON: the first frame of a command.
    Request = b'r' as isize,
    /// From a command: it wants to stop. As the first frame it asks only whether anybody is here, who then says that this was heard.
    Stop = b's' as isize,
    /// From the node: bytes for standard output.
    Bytes = b'b' as isize,
    /// From the node: a line for standard error.
    Line = b'l' as isize,
    /// From the node: a [`Told`], as JSON.
    Told = b't' as isize,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Request,
        Self::Stop,
        Self::Bytes,
        Self::Line,
        Self::Told,
    ];

    const fn byte(self) -> u8 {
        self as u8
    }
}

/// What a node tells a command beside its outputs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Told {
    /// The request was read whole, and is now done: without this it was not.
    Heard,
    /// Progress is shown from now on; `true` beside raw bytes.
    Begin(bool),
    /// Progress is shown no more.
    Stop,
    Phase(u8),
    /// Files and bytes there are, files and bytes done.
    Counts([u64; 2], [u64; 2]),
    Trouble(PathBytes, String),
    Committed(u64),
    Notice(String),
    /// How many percent of the way Tor is, while it is not there yet; how many circuits there are, over a network.
    Link(Option<u8>, Option<usize>),
    /// It is done, or failed; the last frame.
    End(Option<ErrorText>),
}

/// The phases by their numbers on the wire.
const PHASES: [Phase; 9] = [
    Phase::Synchronising,
    Phase::Scanning,
    Phase::Storing,
    Phase::Committing,
    Phase::Proving,
    Phase::Deleting,
    Phase::Retrieving,
    Phase::Pruning,
    Phase::Recovering,
];

/// Returns a phase's number; one that this version has no number for is shown as work of no name.
pub(super) fn number_of(phase: Phase) -> u8 {
    let place = PHASES.iter().position(|known| *known == phase);
    place
        .and_then(|it| u8::try_from(it).ok())
        .unwrap_or(u8::MAX)
}

/// Returns what a command's progress is told, if this is progress.
pub(super) fn events_of(told: Told) -> Vec<Event> {
    match told {
        Told::Phase(number) => {
            let phase = PHASES.get(usize::from(number)).copied();
            phase.map(Event::Phase).into_iter().collect()
        }
        Told::Counts([files, bytes], [files_done, bytes_done]) => vec![
            Event::Total { files, bytes },
            Event::Done {
                files: files_done,
                bytes: bytes_done,
            },
        ],
        Told::Trouble(path, message) => vec![Event::Trouble {
            path: path.path(),
            message,
        }],
        Told::Committed(sequence) => vec![Event::Committed { sequence }],
        Told::Notice(text) => vec![Event::Notice(text)],
        Told::Heard | Told::Begin(_) | Told::Stop | Told::Link(..) | Told::End(_) => Vec::new(),
    }
}

/// Writes a frame.
pub(super) fn write(out: &mut impl Write, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let too_long = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let length = u32::try_from(bytes.len()).map_err(too_long)?;
    let mut head = [kind.byte(), 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    // In one: a small frame is one write.
    let mut frame = Zeroizing::new(Vec::with_capacity(head.len() + bytes.len()));
    frame.extend_from_slice(&head);
    frame.extend_from_slice(bytes);
    out.write_all(&frame)
}

/// Writes what is told.
pub(super) fn tell(out: &mut impl Write, told: &Told) -> io::Result<()> {
    write(out, Kind::Told, &serde_json::to_vec(told)?)
}

/// Reads a frame of at most so many bytes; nothing where the other end closed. Goes on where a timeout interrupted it, as long as `goes_on` says
/// so.
pub(super) fn read(
    from: &mut impl Read,
    bytes_max: usize,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<Option<(Kind, Zeroizing<Vec<u8>>)>> {
    let mut head = [0; 5];
    if !fill(from, &mut head, goes_on)? {
        return Ok(None);
    }
    let [kind, length @ ..] = head;
    let mut kinds = Kind::ALL.into_iter();
    let kind = kinds.find(|known| known.byte() == kind);
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    // Before there is a buffer of that length.
    let Some(kind) = kind.filter(|_| length <= bytes_max) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut bytes = Zeroizing::new(vec![0; length]);
    if !fill(from, &mut bytes, goes_on)? && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind, bytes)))
}

/// Fills a buffer; returns false where the other end closed before the first byte.
fn fill(from: &mut impl Read, bytes: &mut [u8], goes_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if is_timeout(&error) && goes_on() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
