//! How fast bytes may go: limits that all streams of a process share, and meters of what went.
//!
//! The bytes are those of a stream, TLS and HTTP/2 included. Bulk waits for its turn; control is counted and never waits, so a head moves
//! although the limit is used up. Turns are taken in the order they are asked for: no stream starves another.
//!
//! Invariant: over any span, bulk moves at most the rate times the span, and on top what `BURST` allows, one piece, and one more for each stream.

use core::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::transport::BoxedStream;

/// How much may go at once after a pause, as the time it takes at the rate.
const BURST: Duration = Duration::from_millis(200);
/// How many bytes take one turn: small beside what a slow link moves in a second, so that streams mix.
const PIECE_BYTES: usize = 16 * 1024;

/// The limits of a process, in both directions.
#[derive(Debug, Default)]
pub struct Limits {
    upload: Bucket,
    download: Bucket,
}

impl Limits {
    /// Sets limits in bytes a second; none where there is to be none.
    pub const fn new(upload: Option<u64>, download: Option<u64>) -> Self {
        Self {
            upload: Bucket::new(upload),
            download: Bucket::new(download),
        }
    }
}

/// A token bucket, kept as the moment at which what was given out is paid for.
#[derive(Debug, Default)]
struct Bucket {
    bytes_a_second: Option<u64>,
    paid_at: Mutex<Option<Instant>>,
}

impl Bucket {
    const fn new(bytes_a_second: Option<u64>) -> Self {
        Self {
            bytes_a_second,
            paid_at: Mutex::new(None),
        }
    }

    /// Takes a turn for `bytes` and returns when it comes; nothing where there is no limit.
    fn reserve(&self, bytes: usize, now: Instant) -> Option<Instant> {
        // A rate below a byte a second would never end.
        let rate = self.bytes_a_second?.max(1);
        let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / rate;
        // What a panic could leave behind is a moment, and any will do.
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let turn = paid_at.map_or(earliest, |at| at.max(earliest));
        *paid_at = Some(turn + Duration::from_nanos(nanoseconds));
        Some(turn)
    }
}

/// How many bytes went each way.
#[derive(Debug, Default)]
pub struct Meter {
    sent: AtomicU64,
    received: AtomicU64,
    /// Where they are added up with those of others.
    total: Option<Arc<Self>>,
}

impl Meter {
    /// Makes a meter whose bytes count in `total`, too.
    pub const fn within(total: Arc<Self>) -> Self {
        Self {
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            total: Some(total),
        }
    }

    /// Returns how many bytes were sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns how many bytes went either way.
    pub fn moved(&self) -> u64 {
        self.sent().saturating_add(self.received())
    }

    /// Counts bytes sent.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.add_sent(bytes);
        }
    }

    /// Counts bytes received.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        if let Some(total) = &self.total {
            total.add_received(bytes);
        }
    }
}

/// Whether a stream waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// It does.
    Bulk,
    /// It is counted, and goes ahead.
    Control,
}

/// A stream that keeps to limits and is metered.
pub struct Limited {
    stream: BoxedStream,
    limits: Arc<Limits>,
    meter: Arc<Meter>,
    priority: Priority,
    /// Bytes that had their turn and were not yet written.
    turn_bytes: usize,
    write_turn: Option<Pin<Box<Sleep>>>,
    read_turn: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    /// Puts a stream under limits.
    pub fn new(
        stream: BoxedStream,
        limits: &Arc<Limits>,
        meter: &Arc<Meter>,
        priority: Priority,
    ) -> Self {
        Self {
            stream,
            limits: Arc::clone(limits),
            meter: Arc::clone(meter),
            priority,
            turn_bytes: 0,
            write_turn: None,
            read_turn: None,
        }
    }
}

/// Waits for a turn, and forgets it when it has come.
fn wait_for(turn: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = turn {
        ready!(sleep.as_mut().poll(context));
        *turn = None;
    }
    Poll::Ready(())
}

/// Returns what is to be waited for, if it is not yet there.
fn until(turn: Option<Instant>, now: Instant) -> Option<Pin<Box<Sleep>>> {
    turn.filter(|at| *at > now)
        .map(|at| Box::pin(sleep_until(at)))
}

impl AsyncWrite for Limited {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.turn_bytes == 0 && !bytes.is_empty() {
            let now = Instant::now();
            this.turn_bytes = bytes.len().min(PIECE_BYTES);
            let turn = this.limits.upload.reserve(this.turn_bytes, now);
            if this.priority == Priority::Bulk {
                this.write_turn = until(turn, now);
            }
        }
        ready!(wait_for(&mut this.write_turn, context));
        let piece = &bytes[..bytes.len().min(this.turn_bytes)];
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, piece))?;
        this.turn_bytes = this.turn_bytes.saturating_sub(written);
        this.meter.add_sent(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl AsyncRead for Limited {
    /// Takes what is there, up to a piece, and pays for it before the next: how much will come is not known before.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(wait_for(&mut this.read_turn, context));
        let most = buffer.remaining().min(PIECE_BYTES);
        let mut piece = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.stream).poll_read(context, &mut piece))?;
        let read = piece.filled().len();
        buffer.advance(read);
        this.meter.add_received(read as u64);
        let now = Instant::now();
        let turn = this.limits.download.reserve(read, now);
        if this.priority == Priority::Bulk {
            this.read_turn = until(turn, now);
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const RATE: u64 = 100_000;

    /// What a rate allows within a span.
    fn allowance(seconds: u64) -> u64 {
        RATE * seconds + RATE / 5 + 5 * PIECE_BYTES as u64
    }

    fn limited(
        stream: impl crate::transport::Stream + 'static,
        limits: &Arc<Limits>,
        meter: &Arc<Meter>,
        priority: Priority,
    ) -> Limited {
        Limited::new(Box::new(stream), limits, meter, priority)
    }

    #[tokio::test(start_paused = true)]
    async fn all_streams_together_keep_to_the_rate_over_time_both_ways() {
        let limits = Arc::new(Limits::new(Some(RATE), Some(RATE)));
        let total = Arc::new(Meter::default());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (near, far) = duplex(64 * 1024);
            let meter = Arc::new(Meter::within(Arc::clone(&total)));
            let stream = limited(near, &limits, &meter, Priority::Bulk);
            for end in [Box::new(stream) as BoxedStream, Box::new(far)] {
                let (mut read, mut write) = tokio::io::split(end);
                tasks
                    .spawn(async move { while write.write_all(&vec![0; 40_000]).await.is_ok() {} });
                tasks.spawn(async move {
                    while read.read(&mut vec![0; 40_000]).await.is_ok_and(|n| n > 0) {}
                });
            }
        }
        for seconds in [1, 10, 60] {
            let start = (total.sent(), total.received());
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            for moved in [total.sent() - start.0, total.received() - start.1] {
                assert!(moved <= allowance(seconds), "{moved} in {seconds} s");
                assert!(moved >= RATE * seconds * 8 / 10, "{moved} in {seconds} s");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn control_does_not_wait_although_the_limit_is_used_up() {
        let limits = Arc::new(Limits::new(Some(10), None));
        let meter = Arc::new(Meter::default());
        let (near, _far) = duplex(1024 * 1024);
        let mut bulk = limited(near, &limits, &meter, Priority::Bulk);
        bulk.write_all(&[0; 1000]).await.unwrap();
        let (near, mut far) = duplex(1024 * 1024);
        let mut control = limited(near, &limits, &meter, Priority::Control);
        let start = Instant::now();
        control.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(far.read(&mut [0; 1000]).await.unwrap(), 1000);
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(meter.sent(), 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let meter = Arc::new(Meter::default());
        let (near, _far) = duplex(1024 * 1024);
        let mut stream = limited(near, &Arc::default(), &meter, Priority::Bulk);
        let start = Instant::now();
        stream.write_all(&vec![0; 900_000]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let bucket = Bucket::new(Some(RATE));
        tokio::time::advance(Duration::from_hours(1)).await;
        let now = Instant::now();
        bucket.reserve(50_000, now);
        assert!(bucket.reserve(1, now).unwrap() > now + Duration::from_millis(250));
    }
}
