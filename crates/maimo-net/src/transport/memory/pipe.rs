//! The stream itself: two pipes, and what is wrong with them.

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Faults, Inner, lock};

/// What both ends share.
pub(super) struct Link {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pipes: [Pipe; 2],
    /// Cut from outside: what is under way is lost.
    killed: bool,
    /// Cut by count: what is under way arrives.
    cut: bool,
    /// Ends that were let go of.
    dropped: usize,
    network: Weak<Mutex<Inner>>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// What is under way, and when it arrives.
    chunks: VecDeque<(Instant, Bytes)>,
    buffered: usize,
    written: u64,
    /// When the last byte has gone, of a pipe with a rate.
    free_at: Option<Instant>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

const UP: usize = 0;
const DOWN: usize = 1;

impl Link {
    pub(super) fn ends(faults: Faults) -> (MemoryStream, MemoryStream) {
        let link = Arc::new(Self {
            faults,
            state: Mutex::default(),
        });
        let end = |writes| MemoryStream {
            link: Arc::clone(&link),
            writes,
            sleep: None,
        };
        (end(UP), end(DOWN))
    }

    /// Cuts the stream now; says whether it was live.
    pub(super) fn kill(&self) -> bool {
        let mut state = self.lock();
        let was_live = state.is_live();
        state.killed = true;
        state.wake_all();
        was_live
    }

    pub(super) fn is_live(&self) -> bool {
        self.lock().is_live()
    }

    /// Returns how many bytes were written up and down.
    pub(super) fn written(&self) -> (u64, u64) {
        let state = self.lock();
        (state.pipes[UP].written, state.pipes[DOWN].written)
    }

    /// Tells the network what was written, once the link is gone.
    pub(super) fn report_to(&self, network: Weak<Mutex<Inner>>) {
        self.lock().network = network;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic could leave behind are whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many bytes of a direction arrive at most, and whether the stream is cut then or only silent.
    fn limit(&self, direction: usize) -> Option<(u64, bool)> {
        let (cut, stall) = if direction == UP {
            (self.faults.cut_up, self.faults.stall_up)
        } else {
            (self.faults.cut_down, self.faults.stall_down)
        };
        let cut = cut.map(|bytes| (bytes, true));
        let stall = stall.map(|bytes| (bytes, false));
        cut.into_iter().chain(stall).min_by_key(|(bytes, _)| *bytes)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let (up, down) = self.written();
        let network = self.lock().network.upgrade();
        if let Some(network) = network {
            let mut network = lock(&network);
            network.past.up += up;
            network.past.down += down;
        }
    }
}

impl State {
    const fn is_live(&self) -> bool {
        !self.killed && !self.cut && self.dropped == 0
    }

    fn wake_all(&mut self) {
        for pipe in &mut self.pipes {
            let wakers = [pipe.reader.take(), pipe.writer.take()];
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

/// One end of a stream.
pub struct MemoryStream {
    link: Arc<Link>,
    /// The pipe it writes; it reads the other.
    writes: usize,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl MemoryStream {
    /// Cuts the stream, for both ends; says whether it was live.
    pub fn kill(&self) -> bool {
        self.link.kill()
    }

    /// Returns how many bytes were written up and down.
    pub fn written(&self) -> (u64, u64) {
        self.link.written()
    }

    pub(super) const fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

fn cut() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let link = Arc::clone(&self.link);
            let mut state = link.lock();
            if state.killed {
                return Poll::Ready(Err(cut()));
            }
            let is_cut = state.cut;
            let pipe = &mut state.pipes[1 - self.writes];
            let Some((arrives, chunk)) = pipe.chunks.front_mut() else {
                if is_cut {
                    return Poll::Ready(Err(cut()));
                }
                if pipe.closed {
                    return Poll::Ready(Ok(()));
                }
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            if *arrives > Instant::now() {
                let arrives = *arrives;
                pipe.reader = Some(cx.waker().clone());
                drop(state);
                let mut sleep = Box::pin(sleep_until(arrives));
                if sleep.as_mut().poll(cx).is_pending() {
                    self.sleep = Some(sleep);
                    return Poll::Pending;
                }
                continue;
            }
            let part = chunk.split_to(chunk.len().min(buffer.remaining()));
            let is_empty = chunk.is_empty();
            buffer.put_slice(&part);
            pipe.buffered -= part.len();
            if is_empty {
                pipe.chunks.pop_front();
            }
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let faults = &self.link.faults;
        let limit = self.link.limit(self.writes);
        let mut state = self.link.lock();
        if state.killed || state.cut {
            return Poll::Ready(Err(cut()));
        }
        let pipe = &mut state.pipes[self.writes];
        if pipe.closed || bytes.is_empty() {
            let closed = io::ErrorKind::BrokenPipe.into();
            return Poll::Ready(if pipe.closed { Err(closed) } else { Ok(0) });
        }
        let room = faults.buffer_bytes.saturating_sub(pipe.buffered);
        let left = limit.map_or(u64::MAX, |(bytes, _)| bytes.saturating_sub(pipe.written));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left == 0 && limit.is_some_and(|(_, cuts)| cuts) {
            state.cut = true;
            state.wake_all();
            return Poll::Ready(Err(cut()));
        }
        let count = bytes.len().min(room).min(left);
        if count == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut arrives = Instant::now();
        if let Some(rate) = faults.bytes_per_second {
            let begins = pipe.free_at.map_or(arrives, |free_at| free_at.max(arrives));
            let nanos = count as u128 * 1_000_000_000 / u128::from(rate.max(1));
            let takes = core::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            arrives = begins + takes;
            pipe.free_at = Some(arrives);
        }
        let chunk = Bytes::copy_from_slice(&bytes[..count]);
        pipe.chunks.push_back((arrives + faults.delay, chunk));
        pipe.buffered += count;
        pipe.written += count as u64;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        // At the byte and not at the next write: who waits for an answer to the last byte must learn of it, too.
        if count == left && limit.is_some_and(|(_, cuts)| cuts) {
            state.cut = true;
            state.wake_all();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.link.lock();
        Poll::Ready(if state.killed { Err(cut()) } else { Ok(()) })
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.lock().close(self.writes);
        Poll::Ready(Ok(()))
    }
}

impl State {
    fn close(&mut self, direction: usize) {
        let pipe = &mut self.pipes[direction];
        pipe.closed = true;
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        state.dropped += 1;
        // What was written still arrives; what the other end writes goes nowhere.
        state.close(self.writes);
        state.close(1 - self.writes);
    }
}
