//! What arrives at a provider behind a system's tor, or leaves a client before one, counted between the two.
//!
//! ```text
//!  provider --control--> meter --control--> tor        "Port=4243,127.0.0.1:P" becomes "...:Q" on the way
//!  provider <--P-- meter <--Q-- tor                    counted here, whatever becomes of the provider
//!
//!  client --SOCKS--> meter --SOCKS--> tor              counted here, whatever becomes of the client
//! ```

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Counts bytes on their way to a provider.
#[derive(Clone)]
pub(crate) struct Meter {
    at: SocketAddr,
    count: Arc<AtomicU64>,
}

impl Meter {
    /// Stands before the control port of a tor. Its threads end with the process.
    pub(crate) fn before(tor: SocketAddr) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&count);
        let at = listen(move |provider| {
            let tor = TcpStream::connect(tor)?;
            let (mut back, mut to) = (tor.try_clone()?, provider.try_clone()?);
            thread::spawn(move || carry(&mut back, &mut to, &AtomicU64::new(0)));
            let mut tor = tor;
            for line in BufReader::new(provider).split(b'\n') {
                let mut line = line?;
                if let Some(target) = target(&line) {
                    let here = count_to(target, Arc::clone(&counts));
                    let text = String::from_utf8_lossy(&line);
                    line = text
                        .replace(&target.to_string(), &here.to_string())
                        .into_bytes();
                }
                line.push(b'\n');
                tor.write_all(&line)?;
            }
            tor.shutdown(Shutdown::Both)
        });
        Self { at, count }
    }

    /// Stands before the SOCKS proxy of a tor.
    pub(crate) fn before_proxy(tor: SocketAddr) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let at = count_to(tor, Arc::clone(&count));
        Self { at, count }
    }

    /// Returns where a provider finds the tor's control port, or a client its proxy.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Returns how many bytes went by so far, all that TLS and HTTP add included.
    pub(crate) fn counted(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Returns where a line of the control protocol has an onion service's streams go.
fn target(line: &[u8]) -> Option<SocketAddr> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("ADD_ONION ")?.split_whitespace();
    let port = words.find_map(|word| word.strip_prefix("Port="))?;
    port.split_once(',')?.1.parse().ok()
}

/// Hands all streams on to this address, and counts what goes there.
fn count_to(target: SocketAddr, count: Arc<AtomicU64>) -> SocketAddr {
    listen(move |mut from| {
        let mut to = TcpStream::connect(target)?;
        let (mut back, mut out) = (to.try_clone()?, from.try_clone()?);
        thread::spawn(move || carry(&mut back, &mut out, &AtomicU64::new(0)));
        carry(&mut from, &mut to, &count);
        Ok(())
    })
}

fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // Either end may go away at any time; the other is told by the end of its stream.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    at
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, count: &AtomicU64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
