//! Clients that mean harm, many at a time: what they make a server hold is counted, by its budgets and by the system.
#![cfg(target_os = "linux")]

use std::{env, fs, process::Command};

use h2::client::handshake;
use http::{Method, Request};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::http::tests::begun;

/// What all bodies together may take.
const BYTES: u64 = 16 * MIB;
/// What a server may hold besides: windows, frames, tables, the connections themselves, and this test's ends of them.
const BESIDES: u64 = 32 * MIB;

/// Runs a test again in a process in which nothing else takes memory; returns whether this is that run.
fn alone(test: &str) -> bool {
    const ALONE: &str = "MAIMO_TEST_ALONE";
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "alone in a process: {status}");
    false
}

/// Returns how many bytes of memory this process has, or had at most so far.
fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Begins as many puts as it may on a connection, each but for its last byte, and waits; returns how many were refused.
async fn stall(stream: DuplexStream, calls: usize) -> usize {
    let (mut client, connection) = handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let length = Call::Put.request_bytes_max();
    let body = Bytes::from(vec![0; length - 1]);
    let mut waiting = Vec::new();
    for _ in 0..calls {
        client = client.ready().await.unwrap();
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://maimo{}", Call::Put.path()))
            .header("content-length", length)
            .body(());
        let (answer, mut out) = client.send_request(request.unwrap(), false).unwrap();
        let body = body.clone();
        waiting.push(tokio::spawn(async move {
            // Fails once the call is refused.
            let _ = out.send_data(body, false);
            answer
                .await
                .is_ok_and(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS)
        }));
    }
    let mut refused = 0;
    for answer in waiting {
        refused += usize::from(answer.await.unwrap());
    }
    driven.abort();
    refused
}

/// Ten times as many bytes as all may take are sent at once, and none of the bodies ends.
#[tokio::test(start_paused = true)]
async fn bodies_that_never_end_take_what_all_may_take_and_no_more() {
    if !alone("serve::tests::hostile::bodies_that_never_end_take_what_all_may_take_and_no_more") {
        return;
    }
    let world = World::new(Limits {
        bytes: BYTES,
        bytes_per_client: BYTES,
        window_bytes: 4 * MIB,
        calls_per_client: 1000,
        ..Limits::DEFAULT
    });
    let before = memory("VmRSS");
    let stalled: Vec<_> = [1, 3]
        .into_iter()
        .flat_map(|client| [client; 8])
        .map(|client| tokio::spawn(stall(world.stream(client).0, 10)))
        .collect();
    let resources = &world.server.0.resources;
    let mut least = BYTES;
    while !stalled.iter().all(JoinHandle::is_finished) {
        least = least.min(resources.bytes.free());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut refused = 0;
    for stalled in stalled {
        refused += stalled.await.unwrap();
    }
    // They took all there was, the others were told so, and what they took came back.
    assert!(least < 2 * MIB, "{least}");
    assert!(refused >= 100, "{refused}");
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 0);
    let grown = memory("VmHWM") - before;
    assert!(grown < BYTES + BESIDES, "{grown}");
    while world.server.counters().connected > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(resources.bytes.free(), BYTES);
    assert_eq!(resources.windows.free(), 4 * MIB);
    world.connect(1).await.status().await.unwrap();
}

/// Thousands of connections, each with more to say than anyone may.
#[tokio::test(start_paused = true)]
async fn thousands_who_send_without_end_take_little_memory() {
    if !alone("serve::tests::hostile::thousands_who_send_without_end_take_little_memory") {
        return;
    }
    let world = World::new(Limits::DEFAULT);
    let before = memory("VmRSS");
    let opens = |length: &[u8]| begun(Call::Put.path(), length);
    let beginnings = [
        // Garbage, a length beyond all limits, headers cut off in the middle, a body that is longer than announced.
        Vec::new(),
        opens(b"99999999999999"),
        opens(b"10")[..24 + 9 + 9 + 4].to_vec(),
        opens(b"10"),
    ];
    let noise = Bytes::from(vec![0x5a; 64 * 1024]);
    let mut taken = 0;
    for round in 0..2000_usize {
        let attackers: Vec<_> = beginnings
            .iter()
            .map(|begins| {
                let client = if round % 2 == 0 { 1 } else { 3 };
                let (mut stream, served) = world.stream(client);
                let (begins, noise) = (begins.clone(), noise.clone());
                tokio::spawn(async move {
                    let mut sent = 0;
                    let mut all = stream.write_all(&begins).await;
                    while all.is_ok() && sent < 64 {
                        all = stream.write_all(&noise).await;
                        sent += 1;
                    }
                    drop(stream);
                    served.await.unwrap();
                    sent
                })
            })
            .collect();
        for attacker in attackers {
            taken += attacker.await.unwrap();
        }
    }
    assert!(taken > 0);
    let counters = world.server.counters();
    assert_eq!((counters.connected, counters.strangers), (0, 0));
    assert!(counters.broken > 7900, "{counters:?}");
    let grown = memory("VmHWM") - before;
    assert!(grown < BESIDES, "{grown}");
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 0);
    world.connect(1).await.status().await.unwrap();
}
