//! Measures how fast arti carries bytes to an onion service of arti's over a private network: one stream, and four on circuits of their own; with
//! congestion control and without, with the vanguards of a service and with those of a client.
//!
//! `cargo run --release -p maimo-arti --example throughput`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use maimo_arti::{ArtiSettings, ArtiTor, PrivateNetwork};
use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{BoxedStream, Isolation, Listener, Transport};
use maimo_testnet::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MIB: usize = 1 << 20;
const BYTES: usize = 48 * MIB;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
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
            let settings = |name: &str, serves| {
                let folder = folder.path().join(format!("{name}{number}"));
                ArtiSettings {
                    serves,
                    network: Some(PrivateNetwork {
                        authorities: authorities.clone(),
                        parameters: vec![("cc_alg".to_owned(), algorithm)],
                    }),
                    ..ArtiSettings::new(folder.join("state"), folder.join("cache"))
                }
            };
            let client = ArtiTor::start(settings("client", false), drop)
                .await
                .unwrap();
            let server = ArtiTor::start(settings("server", serves), drop)
                .await
                .unwrap();
            client.connected(PATIENCE).await.unwrap();
            measure_all(&client, &server, number).await;
        }
    }
}

async fn measure_all(client: &Arc<ArtiTor>, server: &Arc<ArtiTor>, number: u8) {
    let key = OnionSecretKey::from_seed(&[number; 32]);
    let mut listener = server.listen(&key, 1117).unwrap();
    listener.reachable(PATIENCE).await.unwrap();
    let address = listener.address();
    let serving = tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    for circuits in [1, 4] {
        for down in [false, true] {
            measure(client, &address, circuits, down).await;
        }
    }
    serving.abort();
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

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
async fn measure(client: &Arc<ArtiTor>, address: &Address, circuits: u8, down: bool) {
    let mut streams = Vec::new();
    let begun = Instant::now();
    for number in 0..circuits {
        let isolation = Isolation([number + 1; 16]);
        streams.push(client.dial(address, isolation).await.unwrap());
    }
    let dialled = begun.elapsed();
    let length = BYTES / usize::from(circuits);
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for mut stream in streams {
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
    let speed = (BYTES / MIB) as f64 / begun.elapsed().as_secs_f64();
    let direction = if down { "down" } else { "up" };
    println!("  {circuits} circuits {direction}: {speed:.1} MiB/s, dialled in {dialled:.1?}");
}
