//! A provider that sends without end: what it gets rid of is counted.

use super::*;

/// What a client takes of any of it at most: windows, and the frames of no call that are let pass.
const TAKEN_MAX: u64 = 2 * MIB as u64;
/// What the provider has to send.
const READY: u64 = 64 * MIB as u64;

/// Answers a call with `first` and then with `again` for as long as somebody takes it; returns how many bytes were taken, and what the call
/// came to.
async fn taken(first: &[u8], again: Vec<u8>) -> (u64, Result<(StatusCode, Bytes), CallError>) {
    let (near, mut far) = duplex(64 * 1024);
    let first = said(&[first.to_vec()]);
    let sending = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        let mut heard = Vec::new();
        while !heard.ends_with(&bytes_of_call()) {
            let read = far.read(&mut buffer).await.unwrap();
            heard.extend_from_slice(&buffer[..read]);
        }
        let (mut read, mut write) = tokio::io::split(far);
        // What the client says to it must not wait for it.
        tokio::spawn(
            async move { while read.read(&mut buffer).await.is_ok_and(|read| read > 0) {} },
        );
        let mut sent = first.len() as u64;
        let mut taken = write.write_all(&first).await.is_ok();
        while taken && sent < READY {
            let writing = tokio::time::timeout(Duration::from_mins(2), write.write_all(&again));
            taken = writing.await.is_ok_and(|written| written.is_ok());
            sent += again.len() as u64;
        }
        sent
    });
    let client = ClientConnection::open(near, budget()).await.unwrap();
    let mut call = call("/v1/echo", bytes_of_call());
    call.answer_bytes_max = 1000;
    let result = match client.begin(call).await {
        Ok(begun) => begun.answer().await,
        Err(error) => Err(error),
    };
    (sending.await.unwrap(), result)
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_sends_without_end_is_not_listened_to_for_long() {
    let data = frame(0, 0, 1, &bytes(16_384));
    for (first, again) in [
        // More of a body than was announced, a body that nobody announced, one for a call that nobody made.
        (answer_head(OK, b"10"), data.clone()),
        (
            answer_head(OK, b"1000"),
            frame(0, 0, 1, &[1; 1]).repeat(1000),
        ),
        (frame(1, 4, 1, &[OK]), data.clone()),
        (Vec::new(), data),
        (Vec::new(), frame(0, 0, 3, &bytes(16_384))),
        // Headers without end, frames of no kind, pings, settings, and noise.
        (frame(1, 0, 1, &[OK]), frame(9, 0, 1, &[OK; 16_000])),
        (Vec::new(), frame(0x5a, 0, 0, &bytes(16_384))),
        (Vec::new(), frame(6, 0, 0, &[7; 8]).repeat(1000)),
        (Vec::new(), frame(4, 0, 0, &[]).repeat(1000)),
        (Vec::new(), bytes(16_384)),
    ] {
        let (taken, result) = taken(&first, again.clone()).await;
        // Frames of no kind cost nothing but their bytes: they are counted like any that belong to no call.
        let is_unknown = again[3] == 0x5a;
        let most = if is_unknown {
            (IDLE_FRAMES_MAX + 10) * again.len() as u64
        } else {
            TAKEN_MAX
        };
        assert!(taken < most, "{taken} {:?}", &again[..9]);
        let is_ended = matches!(result, Err(CallError::Misbehaved(_) | CallError::Lost(_)));
        assert!(is_ended, "{result:?} {:?}", &again[..9]);
    }
}
