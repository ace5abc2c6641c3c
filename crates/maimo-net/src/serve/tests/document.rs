//! What `docs/protocol.md` says of calls and limits.

use super::*;
use crate::remote;

#[test]
fn the_constants_fit_together() {
    assert!(Call::Redeem.request_bytes_max() as u64 <= STRANGER_BYTES_MAX);
    assert!(
        u64::from(crate::http::STRANGER_WINDOW_BYTES) >= Call::Redeem.request_bytes_max() as u64
    );
    assert!(Call::Present.request_bytes_max() as u64 <= STRANGER_BYTES_MAX);
    assert!(remote::PATIENCE > Duration::from_mins(1));
    let longest = Call::ALL.map(Call::request_bytes_max).into_iter().max();
    assert!(longest.unwrap() as u64 <= Limits::DEFAULT.bytes_per_client);
}

/// The headings and limits of `docs/protocol.md` are held against what the code does; the maxima of each call are, beside [`crate::wire`].
#[test]
fn the_protocol_names_every_call_and_limit() {
    let document = include_str!("../../../../../docs/protocol.md");
    let mut missing = Vec::new();
    let mut expect = |line: String| {
        if !document.contains(&line) {
            missing.push(line);
        }
    };
    for call in Call::ALL {
        let heading = format!("### `POST {}`\n", call.path());
        expect(heading);
    }
    let seconds = |duration: Duration| format!("{} s", duration.as_secs());
    let limits = [
        ("frame", crate::http::FRAME_BYTES_MAX.to_string()),
        ("headers", crate::http::HEADER_BYTES_MAX.to_string()),
        ("calls at a time", crate::http::CALLS_MAX.to_string()),
        ("first window", crate::http::WINDOW_BYTES.to_string()),
        (
            "stream window",
            crate::http::STREAM_WINDOW_BYTES_MAX.to_string(),
        ),
        (
            "connection window",
            crate::http::CONNECTION_WINDOW_BYTES_MAX.to_string(),
        ),
        (
            "stranger's window",
            crate::http::STRANGER_WINDOW_BYTES.to_string(),
        ),
        ("stranger's request", STRANGER_BYTES_MAX.to_string()),
        ("handshake", seconds(HANDSHAKE)),
        ("first call", seconds(FIRST_CALL)),
        ("standstill of a body", seconds(crate::http::SILENCE)),
        (
            "rate of a body",
            format!(
                "{} a second over {}",
                crate::http::RATE_MIN,
                seconds(crate::http::SPAN)
            ),
        ),
        (
            "length of a body's time",
            seconds(crate::http::BODY_TIME_MAX),
        ),
        ("client's silence", seconds(crate::http::CLIENT_SILENCE)),
        ("provider's silence", seconds(crate::http::SERVER_SILENCE)),
        ("answer to a ping", seconds(crate::http::ANSWER)),
        ("idle connection", seconds(crate::http::IDLE)),
        ("farewell", seconds(FAREWELL)),
        (
            "frames without content",
            format!(
                "{} at once, {} a second",
                crate::http::IDLE_FRAMES_MAX,
                crate::http::IDLE_FRAMES_PER_SECOND
            ),
        ),
        ("client's patience", seconds(remote::PATIENCE)),
    ];
    for (name, value) in limits {
        let row = format!("| {name} | {value} |");
        expect(row);
    }
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}
