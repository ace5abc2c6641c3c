//! A node in this process, on a port of loopback.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
};

use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{config::Way, ui::Link};

/// A log that can be read while it is written.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Returns the lines that tell what was served.
    fn told(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let told = text.lines().filter(|line| line.contains("served so far"));
        told.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Runs a node that tells what it served every `every`; `visit` comes by and stays until it returns, then the node stops.
fn run(every: Duration, visit: impl FnOnce(&Log, SocketAddr) + Send + 'static) -> Log {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::create(&folder.path().join("provider")).unwrap();
    // Where it is is kept on a volume.
    provider
        .add_volume(&folder.path().join("disk"), 1 << 30)
        .unwrap();
    let link = Link::default();
    let network = Network::plain(Way::Tcp, folder.path(), None, link);
    let daemon = Daemon {
        provider: Some(provider),
        owner: None,
        network: Arc::new(network),
        entrances: vec![Entrance::Tcp {
            listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            announce: Vec::new(),
        }],
        drain: Duration::from_secs(1),
        tally: Arc::default(),
        metrics: None,
        tell_every: every,
    };
    let log = Log::default();
    let lines = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone());
    let stop = Stop::default();
    let (stops, reads) = (stop.clone(), log.clone());
    tracing::subscriber::with_default(lines.finish(), || {
        daemon.run(stop, |standing| {
            let at = standing[0].addresses[0].to_string().parse().unwrap();
            thread::spawn(move || {
                visit(&reads, at);
                stops.ask();
            });
            Ok(())
        })
    })
    .unwrap();
    log
}

#[test]
fn what_was_served_is_told_now_and_then_and_at_the_end_and_names_nobody() {
    let log = run(Duration::from_millis(5), |log, at| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // Until it is hung up on.
        let _ = stream.read_to_end(&mut Vec::new());
        while !log
            .told()
            .iter()
            .any(|line| line.contains("handshakes_failed=1"))
        {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let told = log.told();
    assert!(told.len() > 1, "{told:?}");
    let last = told.last().unwrap();
    for number in [
        "connections=1",
        "calls=0",
        "refused=0",
        "clients=0",
        "received=",
        "sent=",
    ] {
        assert!(last.contains(number), "no {number}: {last}");
    }
    assert!(!last.contains("127.0.0.1"), "{last}");
}

#[test]
fn who_ends_early_tells_once() {
    let log = run(Duration::from_hours(1), |_, _| {});
    assert_eq!(log.told().len(), 1, "{:?}", log.told());
}
