//! Counts what crosses a connection, and ends one whose other end floods it with frames that carry nothing.
//!
//! HTTP/2 lets a peer make the other work for little: pings, settings, resets of calls just begun, windows opened byte by byte, empty pieces of
//! bodies. Their memory is bounded by the library; what they cost in work is bounded here. Each such frame takes a token; tokens come back with
//! time, and with bytes that carry something. Only the headers of frames are looked at: the library parses.

use core::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{io, sync::Arc};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// How many frames that carry nothing may come at once.
pub const IDLE_FRAMES_MAX: u64 = 2000;
/// How many more of them each second.
pub const IDLE_FRAMES_PER_SECOND: u64 = 50;
/// How many bytes of bodies, either way, pay for one of them.
pub const BYTES_PER_IDLE_FRAME: u64 = 4096;

/// The other end sends too much that carries nothing.
#[derive(Debug, Error)]
#[error("the other end floods the connection")]
pub(crate) struct Flood;

/// What a connection has carried so far.
#[derive(Debug)]
pub(crate) struct Traffic {
    began: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    heard_ms: AtomicU64,
    total: Option<Arc<Self>>,
}

impl Traffic {
    pub(crate) fn new() -> Arc<Self> {
        Self::within(None)
    }

    /// Begins a count that also counts into a total.
    pub(crate) fn within(total: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self {
            total,
            began: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
        })
    }

    /// Returns how many bytes were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns how many bytes came in.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns when anything came in last.
    pub(crate) fn heard(&self) -> Instant {
        self.began + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }

    fn send(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.sent.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn hear(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.received.fetch_add(bytes, Ordering::Relaxed);
        }
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// A stream that is counted.
pub(crate) struct Metered<S> {
    stream: S,
    traffic: Arc<Traffic>,
    frames: Frames,
}

impl<S> Metered<S> {
    /// Watches a stream on which the other end opens with HTTP/2's preface if it is the client.
    pub(crate) fn new(stream: S, traffic: Arc<Traffic>, from_client: bool) -> Self {
        let frames = Frames::new(if from_client { PREFACE_BYTES } else { 0 });
        Self {
            stream,
            traffic,
            frames,
        }
    }

    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &result {
            self.traffic.send(*bytes as u64);
            self.frames.earn(*bytes as u64);
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let new = &buffer.filled()[before..];
        if !new.is_empty() {
            this.traffic.hear(new.len() as u64);
            this.frames
                .feed(new, this.traffic.heard())
                .map_err(|flood| io::Error::new(io::ErrorKind::InvalidData, flood))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

const PREFACE_BYTES: u64 = 24;
const FRAME_HEADER_BYTES: usize = 9;
const TYPE_DATA: u8 = 0;
const TYPE_HEADERS: u8 = 1;
const FLAG_END_STREAM: u8 = 1;
/// A piece of a body that is shorter carries nothing, unless it is the last.
const DATA_BYTES_MIN: u64 = 256;

/// Reads along: which frames come in, and how many more of them may.
struct Frames {
    skip: u64,
    header: [u8; FRAME_HEADER_BYTES],
    header_bytes: usize,
    tokens: u64,
    earned_bytes: u64,
    refilled: Instant,
}

impl Frames {
    fn new(skip: u64) -> Self {
        Self {
            skip,
            header: [0; FRAME_HEADER_BYTES],
            header_bytes: 0,
            tokens: IDLE_FRAMES_MAX,
            earned_bytes: 0,
            refilled: Instant::now(),
        }
    }

    fn feed(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes
                    .len()
                    .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = bytes.len().min(FRAME_HEADER_BYTES - self.header_bytes);
            self.header[self.header_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == FRAME_HEADER_BYTES {
                self.header_bytes = 0;
                self.frame(now)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, now: Instant) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.header;
        let length = u64::from(a) << 16 | u64::from(b) << 8 | u64::from(c);
        self.skip = length;
        let carries = match kind {
            TYPE_DATA => length >= DATA_BYTES_MIN || flags & FLAG_END_STREAM != 0,
            // How many calls there are is counted elsewhere.
            TYPE_HEADERS => true,
            _ => false,
        };
        if carries {
            self.earn(length);
            return Ok(());
        }
        if self.tokens == 0 {
            self.refill(now);
        }
        self.tokens = self.tokens.checked_sub(1).ok_or(Flood)?;
        Ok(())
    }

    fn earn(&mut self, bytes: u64) {
        self.earned_bytes += bytes;
        let tokens = self.earned_bytes / BYTES_PER_IDLE_FRAME;
        self.earned_bytes %= BYTES_PER_IDLE_FRAME;
        self.tokens = (self.tokens + tokens).min(IDLE_FRAMES_MAX);
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs();
        if seconds > 0 {
            self.refilled = now;
            let tokens = seconds.saturating_mul(IDLE_FRAMES_PER_SECOND);
            self.tokens = self.tokens.saturating_add(tokens).min(IDLE_FRAMES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut out = u32::try_from(length).unwrap().to_le_bytes()[..3].to_vec();
        out.reverse();
        out.extend([kind, flags, 0, 0, 0, 1]);
        out.resize(out.len() + length, 0xff);
        out
    }

    /// Feeds a frame again and again, in pieces of a size; returns how many were let through.
    fn let_through(frame: &[u8], times: usize, piece: usize) -> usize {
        let mut frames = Frames::new(PREFACE_BYTES);
        let now = Instant::now();
        frames.feed(&[0; 24], now).unwrap();
        for time in 0..times {
            for piece in frame.chunks(piece) {
                if frames.feed(piece, now).is_err() {
                    return time;
                }
            }
        }
        times
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_come_in() {
        let limit = usize::try_from(IDLE_FRAMES_MAX).unwrap();
        // A ping, settings, a reset, a window update, an empty piece and a small one.
        for (kind, length) in [(6, 8), (4, 0), (3, 4), (8, 4), (0, 0), (0, 255)] {
            for piece in [1, 4, 9, 10, 1000] {
                assert_eq!(let_through(&frame(kind, 0, length), 3000, piece), limit);
            }
        }
    }

    #[test]
    fn calls_and_bodies_are_not_counted() {
        assert_eq!(let_through(&frame(1, 4, 60), 5000, 1000), 5000);
        assert_eq!(let_through(&frame(0, 1, 3), 5000, 1000), 5000);
        assert_eq!(let_through(&frame(0, 0, 16_384), 5000, 1000), 5000);
        let mut ordinary = frame(0, 0, 16_384);
        ordinary.extend(frame(8, 0, 4));
        assert_eq!(let_through(&ordinary, 5000, 1000), 5000);
    }

    #[tokio::test(start_paused = true)]
    async fn time_lets_more_of_them_through() {
        let mut frames = Frames::new(0);
        let ping = frame(6, 0, 8);
        for _ in 0..IDLE_FRAMES_MAX {
            frames.feed(&ping, Instant::now()).unwrap();
        }
        frames.feed(&ping, Instant::now()).unwrap_err();
        tokio::time::advance(Duration::from_secs(2)).await;
        frames = Frames {
            skip: 0,
            header_bytes: 0,
            ..frames
        };
        for _ in 0..2 * IDLE_FRAMES_PER_SECOND {
            frames.feed(&ping, Instant::now()).unwrap();
        }
        frames.feed(&ping, Instant::now()).unwrap_err();
    }
}
