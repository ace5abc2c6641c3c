//! The two ends over a stream in memory, and each end against one that means it harm.

mod endless;

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::http::{
    Budget,
    body::BodyError,
    client::{CallError, ClientConnection, Outgoing, REFUSAL_BYTES_MAX},
    meter::{IDLE_FRAMES_MAX, Traffic},
    server::{self, Ended, IDLE, Incoming, Options},
};

const MIB: usize = 1024 * 1024;
const BODY_MAX: u64 = 64 * MIB as u64;

fn budget() -> Budget {
    Budget::new(64 * MIB as u64)
}

/// A provider's end that answers with the body it got, or with what happened to it.
struct Echo {
    traffic: Arc<Traffic>,
    known: Arc<AtomicBool>,
    dismiss: CancellationToken,
    drain: CancellationToken,
    windows: Budget,
    received: Arc<AtomicU64>,
}

impl Echo {
    fn new() -> Self {
        Self {
            traffic: Traffic::new(),
            known: Arc::new(AtomicBool::new(true)),
            dismiss: CancellationToken::new(),
            drain: CancellationToken::new(),
            windows: budget(),
            received: Arc::default(),
        }
    }

    fn serve(&self, stream: DuplexStream) -> JoinHandle<Ended> {
        let options = Options {
            windows: self.windows.clone(),
            first_call: Instant::now() + Duration::from_secs(10),
            known: Arc::clone(&self.known),
            dismiss: self.dismiss.clone(),
            drain: self.drain.clone(),
            drain_time: Duration::from_secs(30),
            traffic: Arc::clone(&self.traffic),
        };
        let received = Arc::clone(&self.received);
        tokio::spawn(async move {
            server::serve(stream, options, move |incoming| {
                echo(incoming, Arc::clone(&received))
            })
            .await
        })
    }
}

async fn echo(incoming: Incoming, received: Arc<AtomicU64>) {
    let path = incoming.path().unwrap_or("/").to_owned();
    let length = match incoming.announced(BODY_MAX) {
        Ok(length) if path != "/refused" => length,
        Ok(_) => {
            let text = Bytes::from_static(b"no");
            incoming
                .unread()
                .send(StatusCode::FORBIDDEN, text.into())
                .await
                .ok();
            return;
        }
        Err(error) => {
            let text = format!("{error:?}").into_bytes();
            incoming
                .unread()
                .send(StatusCode::BAD_REQUEST, text.into())
                .await
                .ok();
            return;
        }
    };
    let (body, answer) = incoming.receive(length).await;
    let Ok(body) = body else { return };
    received.fetch_add(body.len() as u64, Ordering::Relaxed);
    if path == "/slow" {
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    answer.send(StatusCode::OK, body.into()).await.ok();
}

fn call(path: &'static str, body: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        path,
        body: body.into().into(),
        answer_bytes_max: BODY_MAX,
        answer_bytes_likely: 0,
        patience: Duration::from_mins(1),
    }
}

async fn pair(echo: &Echo) -> (ClientConnection, JoinHandle<Ended>) {
    let (near, far) = duplex(64 * 1024);
    let served = echo.serve(far);
    (
        ClientConnection::open(near, budget()).await.unwrap(),
        served,
    )
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[tokio::test]
async fn bodies_come_back_as_they_were_sent() {
    let (client, served) = pair(&Echo::new()).await;
    for length in [0, 1, 16_384, 65_536, 300_000, MIB, 5 * MIB] {
        let body = Bytes::from(bytes(length));
        let begun = client.begin(call("/v1/echo", body.clone())).await.unwrap();
        assert_eq!(begun.answer().await.unwrap(), (StatusCode::OK, body));
    }
    assert!(client.traffic().sent() > 6 * MIB as u64);
    assert!(client.traffic().received() > 6 * MIB as u64);
    drop(client);
    assert_eq!(served.await.unwrap(), Ended::Closed);
}

#[tokio::test(start_paused = true)]
async fn calls_do_not_wait_for_one_another() {
    let (client, _served) = pair(&Echo::new()).await;
    let slow = client.begin(call("/slow", bytes(MIB))).await.unwrap();
    let quick = client.begin(call("/v1/echo", bytes(MIB))).await.unwrap();
    let began = Instant::now();
    quick.answer().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    slow.answer().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(19));
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_is_read() {
    let echo = Echo::new();
    let (client, _served) = pair(&echo).await;
    let body = bytes(10 * MIB);
    let begun = client.begin(call("/refused", body)).await.unwrap();
    let refused = (StatusCode::FORBIDDEN, Bytes::from_static(b"no"));
    assert_eq!(begun.answer().await.unwrap(), refused);
    assert!(
        echo.traffic.received() < MIB as u64,
        "{}",
        echo.traffic.received()
    );
    // The connection serves on.
    let begun = client.begin(call("/v1/echo", bytes(3))).await.unwrap();
    begun.answer().await.unwrap();
}

#[tokio::test]
async fn windows_grow_for_a_large_body_and_for_a_large_answer() {
    let echo = Echo::new();
    let (client, _served) = pair(&echo).await;
    let mut large = call("/v1/echo", bytes(2 * MIB));
    large.answer_bytes_likely = 2 * MIB as u64;
    let begun = client.begin(large).await.unwrap();
    begun.answer().await.unwrap();
    assert!(echo.windows.free() < 61 * MIB as u64);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_gives_its_windows_back_and_goes_in_the_end() {
    let echo = Echo::new();
    let (client, served) = pair(&echo).await;
    let begun = client
        .begin(call("/v1/echo", bytes(2 * MIB)))
        .await
        .unwrap();
    begun.answer().await.unwrap();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(echo.windows.free(), 64 * MIB as u64);
    assert!(client.ended().is_none());
    tokio::time::sleep(IDLE).await;
    assert!(client.ended().is_some());
    assert_eq!(served.await.unwrap(), Ended::Closed);
}

#[tokio::test(start_paused = true)]
async fn draining_finishes_what_is_in_flight_and_takes_nothing_new() {
    let echo = Echo::new();
    let (client, served) = pair(&echo).await;
    let slow = client.begin(call("/slow", bytes(MIB))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    echo.drain.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(
        client.begin(call("/v1/echo", bytes(1))).await,
        Err(CallError::Lost(_))
    ));
    assert_eq!(slow.answer().await.unwrap().1.len(), MIB);
    assert_eq!(served.await.unwrap(), Ended::Closed);
}

#[tokio::test(start_paused = true)]
async fn draining_does_not_wait_for_ever() {
    let echo = Echo::new();
    let (client, served) = pair(&echo).await;
    let (mut raw, far) = duplex(1024);
    let stuck = echo.serve(far);
    raw.write_all(PREFACE).await.unwrap();
    raw.write_all(&head("/v1/echo", b"1000")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    echo.drain.cancel();
    let began = Instant::now();
    assert_eq!(stuck.await.unwrap(), Ended::CutOff);
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    drop(client);
    served.await.unwrap();
}

// ---- a client that means harm ----------------------------------------------------------------------------------------------------

/// The preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let [c, b, a, _] = length.to_le_bytes();
    let mut out = vec![a, b, c, kind, flags, 0, 0, 0, stream];
    out.extend_from_slice(payload);
    out
}

/// The beginning of a call and nothing more.
pub(crate) fn begun(path: &str, length: &[u8]) -> Vec<u8> {
    [PREFACE.to_vec(), head(path, length)].concat()
}

/// Headers of a call whose body is announced as `length`, not compressed; stream 1.
fn head(path: &str, length: &[u8]) -> Vec<u8> {
    head_on(1, path, length)
}

fn head_on(stream: u8, path: &str, length: &[u8]) -> Vec<u8> {
    // Of the static table: method POST, scheme https; literals: path, authority, content-length.
    let mut block = vec![0x83, 0x87];
    for (name, value) in [(4, path.as_bytes()), (1, b"maimo"), (28, length)] {
        if name < 15 {
            block.push(name);
        } else {
            block.extend([0x0f, name - 15]);
        }
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value);
    }
    frame(1, 4, stream, &block)
}

/// Sends bytes to a provider's end, then waits; returns how it ended, after how long, and what it sent.
async fn attack(echo: &Echo, bytes: &[u8]) -> (Ended, Duration, Vec<u8>) {
    let (raw, far) = duplex(64 * 1024);
    let served = echo.serve(far);
    let began = Instant::now();
    let (mut read, mut write) = tokio::io::split(raw);
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.ok();
        all
    });
    write.write_all(bytes).await.ok();
    let ended = served.await.unwrap();
    (ended, began.elapsed(), reading.await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn garbage_and_http_1_are_closed() {
    let echo = Echo::new();
    let web = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n";
    assert_eq!(attack(&echo, web).await.0, Ended::Broken);
    assert_eq!(attack(&echo, &bytes(1000)).await.0, Ended::Broken);
    let mut begun = PREFACE.to_vec();
    begun.extend(bytes(1000));
    assert_eq!(attack(&echo, &begun).await.0, Ended::Broken);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_after_ten_seconds() {
    let ten = Duration::from_secs(10);
    for said in [&b""[..], b"PRI", PREFACE] {
        let (ended, after, _) = attack(&Echo::new(), said).await;
        assert_eq!((ended, after), (Ended::Silent, ten));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_length_is_broken_off() {
    for (announced, sent, last) in [
        (&b"10"[..], 11, 1),
        (b"10", 9, 1),
        (b"10", 0, 1),
        (b"10", 11, 0),
    ] {
        let echo = Echo::new();
        let mut said = PREFACE.to_vec();
        said.extend(head("/v1/echo", announced));
        said.extend(frame(0, last, 1, &bytes(sent)));
        said.extend(frame(7, 0, 0, &[0; 8]));
        attack(&echo, &said).await;
        assert_eq!(echo.received.load(Ordering::Relaxed), 0);
    }
    let echo = Echo::new();
    let mut said = PREFACE.to_vec();
    said.extend(head("/v1/echo", b"10"));
    said.extend(frame(0, 1, 1, &bytes(10)));
    said.extend(frame(7, 0, 0, &[0; 8]));
    attack(&echo, &said).await;
    assert_eq!(echo.received.load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_or_with_too_much_of_it_is_refused_unread() {
    for length in [
        &b"67108865"[..],
        b"18446744073709551616",
        b"-1",
        b"+1",
        b"1 ",
        b"",
        b"0x1",
    ] {
        let echo = Echo::new();
        let mut said = PREFACE.to_vec();
        said.extend(head("/v1/echo", length));
        said.extend(frame(0, 0, 1, &bytes(1000)));
        said.extend(frame(7, 0, 0, &[0; 8]));
        attack(&echo, &said).await;
        assert_eq!(echo.received.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up() {
    let echo = Echo::new();
    let (mut raw, far) = duplex(1024);
    let served = echo.serve(far);
    raw.write_all(PREFACE).await.unwrap();
    raw.write_all(&head("/v1/echo", b"1000000")).await.unwrap();
    let began = Instant::now();
    let mut seen = Vec::new();
    // Dripping is a sign of life, so it is the call that ends.
    let reset = loop {
        raw.write_all(&frame(0, 0, 1, &[1; 10])).await.unwrap();
        let mut buffer = [0; 1000];
        tokio::select! {
            read = raw.read(&mut buffer) => seen.extend_from_slice(&buffer[..read.unwrap()]),
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
        if seen
            .windows(9)
            .any(|frame| frame[..4] == [0, 0, 4, 3] && frame[8] == 1)
        {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_mins(5));
    };
    assert!(reset >= Duration::from_secs(110), "{reset:?}");
    assert!(reset <= Duration::from_secs(130), "{reset:?}");
    drop(raw);
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn long_headers_are_refused() {
    let echo = Echo::new();
    let mut said = PREFACE.to_vec();
    // One of 5,000 bytes, then ones without end.
    let mut block = vec![0x83, 0x87, 4, 1, b'/', 1, 1, b'm', 0, 1, b'x', 0x7f];
    block.extend([0x89, 0x26]); // 127 + 4873 as HPACK counts
    block.extend(vec![b'y'; 5000]);
    said.extend(frame(1, 4, 1, &block));
    said.extend(frame(7, 0, 0, &[0; 8]));
    let (_, _, answered) = attack(&echo, &said).await;
    assert!(!answered.is_empty());
    assert_eq!(echo.received.load(Ordering::Relaxed), 0);

    let mut said = PREFACE.to_vec();
    said.extend(frame(1, 0, 1, &[0x83; 100]));
    for _ in 0..100 {
        said.extend(frame(9, 0, 1, &[0x83; 16_000]));
    }
    assert_eq!(attack(&echo, &said).await.0, Ended::Broken);
    assert!(echo.traffic.received() < MIB as u64);
}

#[tokio::test(start_paused = true)]
async fn floods_end_the_connection() {
    let count = usize::try_from(IDLE_FRAMES_MAX).unwrap() + 10;
    // Pings, settings, windows, and calls begun and given up.
    let ping = frame(6, 0, 0, &[7; 8]).repeat(count);
    let settings = frame(4, 0, 0, &[]).repeat(count);
    let window = frame(8, 0, 0, &[0, 0, 0, 1]).repeat(count);
    for flood in [ping, settings, window] {
        let echo = Echo::new();
        let mut said = PREFACE.to_vec();
        said.extend(head("/v1/echo", b"1000"));
        said.extend(flood);
        let (ended, after, _) = attack(&echo, &said).await;
        assert_eq!(ended, Ended::Broken);
        assert!(after < Duration::from_secs(10));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_begun_and_given_up_end_the_connection() {
    let echo = Echo::new();
    let mut said = PREFACE.to_vec();
    for stream in (1..=255_u8).step_by(2) {
        said.extend(head_on(stream, "/v1/echo", b"1000"));
        said.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    let (ended, ..) = attack(&echo, &said).await;
    assert_eq!(ended, Ended::Broken);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_without_a_word_is_noticed() {
    let echo = Echo::new();
    let mut said = PREFACE.to_vec();
    said.extend(head("/slow", b"0"));
    said.extend(frame(0, 1, 1, &[]));
    let (ended, after, _) = attack(&echo, &said).await;
    assert_eq!(ended, Ended::Dead);
    assert!(after < Duration::from_mins(3), "{after:?}");
}

// ---- a provider that means harm --------------------------------------------------------------------------------------------------

/// Answers a call on stream 1 with bytes, whatever was asked; the settings are sent before.
async fn answered_with(bytes: &[u8]) -> (Result<(StatusCode, Bytes), CallError>, Duration) {
    let (near, mut far) = duplex(64 * 1024);
    let said = bytes.to_vec();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        let mut heard = Vec::new();
        while !heard.ends_with(&bytes_of_call()) {
            let read = far.read(&mut buffer).await.unwrap();
            heard.extend_from_slice(&buffer[..read]);
        }
        let _ = far.write_all(&said).await;
        while far.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    let client = ClientConnection::open(near, budget()).await.unwrap();
    let began = Instant::now();
    let mut call = call("/v1/echo", bytes_of_call());
    call.answer_bytes_max = 1000;
    let result = match client.begin(call).await {
        Ok(begun) => begun.answer().await,
        Err(error) => Err(error),
    };
    (result, began.elapsed())
}

fn bytes_of_call() -> Vec<u8> {
    bytes(100)
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// The head of an answer: 200 and a length.
fn answer_head(status: u8, length: &[u8]) -> Vec<u8> {
    let mut block = vec![status, 0x0f, 13, u8::try_from(length.len()).unwrap()];
    block.extend_from_slice(length);
    frame(1, 4, 1, &block)
}

const OK: u8 = 0x88;
const BAD: u8 = 0x8c;

fn said(frames: &[Vec<u8>]) -> Vec<u8> {
    [SETTINGS.to_vec(), frames.concat()].concat()
}

#[tokio::test(start_paused = true)]
async fn an_answer_in_order_is_taken() {
    let frames = said(&[answer_head(OK, b"10"), frame(0, 1, 1, &bytes(10))]);
    let (answer, _) = answered_with(&frames).await;
    assert_eq!(answer.unwrap(), (StatusCode::OK, bytes(10).into()));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_speaks_otherwise_misbehaves() {
    let long = REFUSAL_BYTES_MAX + 1;
    for frames in [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        bytes(1000),
        said(&[answer_head(OK, b"1001"), frame(0, 0, 1, &bytes(1001))]),
        said(&[answer_head(BAD, long.to_string().as_bytes())]),
        said(&[answer_head(OK, b"10"), frame(0, 1, 1, &bytes(9))]),
        said(&[answer_head(OK, b"10"), frame(0, 1, 1, &bytes(11))]),
        said(&[frame(1, 4, 1, &[OK]), frame(0, 1, 1, &bytes(10))]),
        said(&[frame(0, 1, 1, &bytes(10))]),
        said(&[frame(0, 0, 1, &bytes(20_000))]),
        said(&[frame(6, 0, 0, &[7; 8]).repeat(3000)]),
    ] {
        let (answer, after) = answered_with(&frames).await;
        assert!(
            matches!(answer, Err(CallError::Misbehaved(_))),
            "{answer:?}"
        );
        assert!(after < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_stops_in_the_middle_is_lost() {
    for frames in [
        Vec::new(),
        SETTINGS.to_vec(),
        said(&[answer_head(OK, b"10")]),
        said(&[answer_head(OK, b"10"), frame(0, 0, 1, &bytes(9))]),
    ] {
        let (answer, after) = answered_with(&frames).await;
        assert!(matches!(answer, Err(CallError::Lost(_))), "{answer:?}");
        assert!(after <= Duration::from_secs(80), "{after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_lives_and_does_not_answer_is_given_up() {
    let (near, mut far) = duplex(64 * 1024);
    tokio::spawn(async move {
        far.write_all(SETTINGS).await.unwrap();
        let mut buffer = vec![0; 65_536];
        loop {
            tokio::select! {
                read = far.read(&mut buffer) => if read.is_ok_and(|read| read == 0) { break },
                () = tokio::time::sleep(Duration::from_secs(5)) => {
                    far.write_all(&frame(6, 0, 0, &[7; 8])).await.unwrap();
                }
            }
        }
    });
    let client = ClientConnection::open(near, budget()).await.unwrap();
    let began = Instant::now();
    let begun = client.begin(call("/v1/echo", bytes(10))).await.unwrap();
    assert!(matches!(begun.answer().await, Err(CallError::Lost(_))));
    assert_eq!(began.elapsed(), Duration::from_mins(1));
    assert!(client.ended().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_takes_nothing_is_given_up() {
    let (near, _far) = duplex(1024);
    let client = ClientConnection::open(near, budget()).await.unwrap();
    let began = Instant::now();
    assert!(matches!(
        client.begin(call("/v1/echo", bytes(MIB))).await,
        Err(CallError::Lost(_))
    ));
    assert!(began.elapsed() <= Duration::from_secs(80));
}

#[test]
fn body_errors_are_told_apart() {
    let mut headers = http::HeaderMap::new();
    assert!(matches!(
        crate::http::body::announced(&headers, 10),
        Err(BodyError::Unannounced)
    ));
    headers.insert("content-length", 11.into());
    assert!(matches!(
        crate::http::body::announced(&headers, 10),
        Err(BodyError::TooLong)
    ));
    assert_eq!(crate::http::body::announced(&headers, 11).unwrap(), 11);
    headers.append("content-length", 11.into());
    assert!(crate::http::body::announced(&headers, 20).is_err());
}
