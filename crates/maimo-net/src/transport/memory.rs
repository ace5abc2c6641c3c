//! Streams inside the process, for tests: a network of listeners by address, and faults on its streams.
//!
//! A stream loses nothing and reorders nothing; what can go wrong is what goes wrong on a circuit: it ends after so many bytes, it goes silent
//! for ever, it is slow, it is cut from outside. Time is tokio's, so a test that pauses it pays for no delay.
//!
//! Invariant: of a stream that is cut after n bytes exactly the first n arrive.

mod pipe;

use core::time::Duration;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use maimo_core::address::{Address, Network};
use tokio::sync::mpsc;

use self::pipe::Link;
pub use self::pipe::MemoryStream;
use super::{BoxedStream, Isolation, Listener, Pending, Transport, TransportError};

/// What is wrong with a stream; by default nothing. *Up* is from who dialled to who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Nobody answers the dial.
    pub refused: bool,
    /// After so many bytes up, both ends find the stream cut.
    pub cut_up: Option<u64>,
    /// After so many bytes down, both ends find the stream cut.
    pub cut_down: Option<u64>,
    /// After so many bytes up, nothing more goes up, for ever.
    pub stall_up: Option<u64>,
    /// After so many bytes down, nothing more goes down, for ever.
    pub stall_down: Option<u64>,
    /// How long each byte is under way.
    pub delay: Duration,
    /// How many bytes go each way in a second.
    pub bytes_per_second: Option<u64>,
    /// How many bytes may be under way each way.
    pub buffer_bytes: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            refused: false,
            cut_up: None,
            cut_down: None,
            stall_up: None,
            stall_down: None,
            delay: Duration::ZERO,
            bytes_per_second: None,
            buffer_bytes: 64 * 1024,
        }
    }
}

/// Returns the two ends of a stream: who dialled, who listens.
pub fn pair(faults: Faults) -> (MemoryStream, MemoryStream) {
    Link::ends(faults)
}

/// What has happened on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Streams that were dialled and answered.
    pub dialled: u64,
    /// Those of them that neither end has let go of, and that are not cut.
    pub live: u64,
    /// Bytes written by who dialled.
    pub up: u64,
    /// Bytes written by who listens.
    pub down: u64,
}

/// A network inside the process. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: HashMap<Address, mpsc::UnboundedSender<BoxedStream>>,
    faults: Faults,
    /// Faults of the next streams, the first first.
    next: VecDeque<Faults>,
    links: Vec<Weak<Link>>,
    isolations: Vec<Isolation>,
    /// Of links that are gone.
    past: Counts,
}

impl MemoryNetwork {
    /// Makes a network without listeners.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at an address, in place of who did before.
    pub fn listen(&self, address: Address) -> MemoryListener {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.lock().listeners.insert(address.clone(), sender);
        MemoryListener { address, incoming }
    }

    /// Returns the way in, for addresses of one kind.
    pub fn transport(&self, network: Network) -> MemoryTransport {
        MemoryTransport {
            network,
            within: self.clone(),
        }
    }

    /// Sets what is wrong with streams dialled from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Sets what is wrong with the next stream that has no such faults yet; those after it are as [`Self::set_faults`] says.
    pub fn set_next_faults(&self, faults: Faults) {
        self.lock().next.push_back(faults);
    }

    /// Cuts every stream there is.
    pub fn kill_all(&self) {
        let links = self.lock().links.clone();
        for link in links.iter().filter_map(Weak::upgrade) {
            link.kill();
        }
    }

    /// Cuts the stream that was dialled as the `number`th, from 0; says whether it was live.
    pub fn kill(&self, number: usize) -> bool {
        let link = self.lock().links.get(number).and_then(Weak::upgrade);
        link.is_some_and(|link| link.kill())
    }

    /// Returns what has happened so far.
    pub fn counts(&self) -> Counts {
        // Links are let go of only after the lock: the last hand on one takes the lock to add to the past.
        let (mut counts, dialled, links) = {
            let inner = self.lock();
            let links: Vec<_> = inner.links.iter().filter_map(Weak::upgrade).collect();
            (inner.past, inner.links.len(), links)
        };
        counts.dialled = dialled as u64;
        for link in links {
            let (up, down) = link.written();
            counts.up += up;
            counts.down += down;
            counts.live += u64::from(link.is_live());
        }
        counts
    }

    /// Returns the isolations that streams were dialled with, in order.
    pub fn isolations(&self) -> Vec<Isolation> {
        self.lock().isolations.clone()
    }

    fn dial(&self, address: &Address, isolation: Isolation) -> Option<BoxedStream> {
        let mut inner = self.lock();
        let faults = inner.next.pop_front().unwrap_or(inner.faults);
        let listener = inner.listeners.get(address)?;
        if faults.refused {
            return None;
        }
        let (near, far) = pair(faults);
        listener.send(Box::new(far)).ok()?;
        near.link().report_to(Arc::downgrade(&self.0));
        inner.links.push(Arc::downgrade(near.link()));
        inner.isolations.push(isolation);
        Some(Box::new(near))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    // What a panic could leave behind are whole values.
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way into a [`MemoryNetwork`].
pub struct MemoryTransport {
    network: Network,
    within: MemoryNetwork,
}

impl Transport for MemoryTransport {
    fn network(&self) -> Network {
        self.network
    }

    fn dial<'a>(&'a self, address: &'a Address, isolation: Isolation) -> Pending<'a, BoxedStream> {
        Box::pin(async move {
            if address.network() != self.network {
                return Err(TransportError::OtherNetwork {
                    transport: "memory",
                });
            }
            self.within
                .dial(address, isolation)
                .ok_or_else(|| TransportError::Unreachable {
                    detail: "nobody listens there".to_owned(),
                })
        })
    }
}

/// Streams that come in at one address of a [`MemoryNetwork`]; dropped, nobody is there any more.
pub struct MemoryListener {
    address: Address,
    incoming: mpsc::UnboundedReceiver<BoxedStream>,
}

impl Listener for MemoryListener {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn accept(&mut self) -> Pending<'_, BoxedStream> {
        Box::pin(async {
            let next = self.incoming.recv().await;
            next.ok_or_else(|| TransportError::Unreachable {
                detail: "another listener has taken the address".to_owned(),
            })
        })
    }
}

#[cfg(test)]
mod tests;
