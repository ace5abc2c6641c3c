//! Measures how fast arti carries bytes to an onion service of arti's over a private network: one stream, and four on circuits of their own; with
//! congestion control and without, with the vanguards of a service and with those of a client.
//!
//! `cargo run --release -p maimo-arti --example throughput`, which starts a network; or with `FILE MIB` behind `--`, as `bench/tor` does: on the network whose
//! authorities FILE lists, so many MiB at a time, and a line of JSON for each figure.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use maimo_arti::{ArtiSettings, ArtiTor, Authority, PrivateNetwork};
use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{BoxedStream, Isolation, Listener, Transport};
use maimo_testnet::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1 << 20;
const BYTES: usize = 48 * MIB;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir().unwrap();
    if let [file, mib] = arguments.as_slice() {
        let lines = std::fs::read_to_string(file).unwrap();
        let authorities = lines.lines().map(|line| line.parse().unwrap()).collect();
        let bytes = mib.parse::<usize>().unwrap() * MIB;
        return on_network(folder.path(), authorities, bytes).await;
    }
    let network = Network::start(&folder.path().join("network")).unwrap();
    let authorities = network.authorities().iter().map(|relay| {
        let v3ident = &relay.authority.as_ref().unwrap().v3ident;
        let (rsa, ed25519) = (&relay.rsa_id, &relay.ed25519_id);
        format!("{rsa} {ed25519} {} {v3ident}", relay.or_address())
            .parse()
            .unwrap()
    });
    let authorities: Vec<_> = authorities.collect();
    let mut number = 0;
    for (vanguards, serves) in [("full", true), ("lite", false)] {
        for (control, algorithm) in [("congestion control", 2), ("fixed windows", 0)] {
            number += 1;
            println!("service with {vanguards} vanguards, {control}:");
            let own = folder.path().join(number.to_string());
            let (client, server) = pair(&own, &authorities, serves, algorithm).await;
            let address = offer(&server, number).await;
            for circuits in [1, 4] {
                for down in [false, true] {
                    let took = measure(&client, &address, circuits, down, BYTES).await;
                    println!("  {circuits} circuits {}: {took}", direction(down));
                }
            }
        }
    }
}

/// Measures what a store on this network is to be held against: one circuit with fixed windows, one and four with congestion control.
async fn on_network(folder: &Path, authorities: Vec<Authority>, bytes: usize) {
    for (windows, algorithm, counts) in [("fixed", 0, &[1][..]), ("controlled", 2, &[1, 4])] {
        let own = folder.join(windows);
        let (client, server) = pair(&own, &authorities, true, algorithm).await;
        let address = offer(&server, u8::from(algorithm == 2) + 1).await;
        for circuits in counts {
            for down in [false, true] {
                let took = measure(&client, &address, *circuits, down, bytes).await;
                println!(
                    r#"{{"windows":"{windows}","circuits":{circuits},"direction":"{}","mib_per_s":{:.3},"dial_s":{:.3}}}"#,
                    direction(down),
                    took.mib_per_s,
                    took.dialled.as_secs_f64()
                );
            }
        }
    }
}

/// Starts two Tors of the same settings: who dials, and who is dialled.
async fn pair(
    folder: &Path,
    authorities: &[Authority],
    serves: bool,
    algorithm: i32,
) -> (Arc<ArtiTor>, Arc<ArtiTor>) {
    let settings = |name: &str, serves| {
        let own = folder.join(name);
        ArtiSettings {
            serves,
            network: Some(PrivateNetwork {
                authorities: authorities.to_vec(),
                parameters: vec![("cc_alg".to_owned(), algorithm)],
            }),
            ..ArtiSettings::new(own.join("state"), own.join("cache"))
        }
    };
    let client = ArtiTor::start(settings("client", false), drop)
        .await
        .unwrap();
    let server = ArtiTor::start(settings("server", serves), drop)
        .await
        .unwrap();
    client.connected(PATIENCE).await.unwrap();
    (client, server)
}

/// Makes a bare onion service, which serves until the program ends, and returns where it is.
async fn offer(server: &Arc<ArtiTor>, number: u8) -> Address {
    let key = OnionSecretKey::from_seed(&[number; 32]);
    let mut listener = server.listen(&key, 1117).unwrap();
    listener.reachable(PATIENCE).await.unwrap();
    let address = listener.address();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    address
}

const fn direction(down: bool) -> &'static str {
    if down { "down" } else { "up" }
}

/// Answers to a length and a direction with so many bytes, or takes them.
async fn serve(mut stream: BoxedStream) {
    let length = usize::try_from(stream.read_u64_le().await.unwrap()).unwrap();
    let down = stream.read_u8().await.unwrap() == 1;
    carry(&mut stream, length, down).await;
    if !down {
        stream.write_u8(1).await.unwrap();
        stream.flush().await.unwrap();
    }
    let _ = stream.shutdown().await;
}

async fn carry(stream: &mut BoxedStream, length: usize, send: bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let size = left.min(buffer.len());
        if send {
            stream.write_all(&buffer[..size]).await.unwrap();
        } else {
            stream.read_exact(&mut buffer[..size]).await.unwrap();
        }
        left -= size;
    }
    if send {
        stream.flush().await.unwrap();
    }
}

/// Returns an isolation that nothing had before.
fn fresh() -> Isolation {
    static DRAWN: AtomicU8 = AtomicU8::new(0);
    Isolation([DRAWN.fetch_add(1, Ordering::Relaxed); 16])
}

/// What a transfer took.
struct Took {
    mib_per_s: f64,
    dialled: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mib_per_s, dialled } = self;
        write!(f, "{mib_per_s:.1} MiB/s, dialled in {dialled:.1?}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
async fn measure(
    client: &Arc<ArtiTor>,
    address: &Address,
    circuits: u8,
    down: bool,
    bytes: usize,
) -> Took {
    let begun = Instant::now();
    // New ones for each measurement, all at once: no circuit has gathered speed before.
    let dials = (0..circuits).map(|_| client.dial(address, fresh()));
    let streams = join_all(dials).await;
    let dialled = begun.elapsed();
    let length = bytes / usize::from(circuits);
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for stream in streams {
        let mut stream = stream.unwrap();
        tasks.push(tokio::spawn(async move {
            stream.write_u64_le(length as u64).await.unwrap();
            stream.write_u8(u8::from(down)).await.unwrap();
            stream.flush().await.unwrap();
            carry(&mut stream, length, !down).await;
            if !down {
                stream.read_u8().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    Took {
        mib_per_s: bytes as f64 / MIB as f64 / begun.elapsed().as_secs_f64(),
        dialled,
    }
}
