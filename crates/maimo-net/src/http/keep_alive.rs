//! Signs of life: after a silence a ping, and without an answer the end.

use core::{
    future::{pending, poll_fn},
    time::Duration,
};

use h2::{Ping, PingPong};
use tokio::time::{sleep_until, timeout};

use crate::http::meter::Traffic;

/// After how long without a byte from the provider a client pings it.
pub const CLIENT_SILENCE: Duration = Duration::from_secs(30);
/// After how long without a byte from the client a provider pings it: longer, so that one of the two suffices.
pub const SERVER_SILENCE: Duration = Duration::from_secs(75);
/// How long the answer may take, without any other byte: a slow circuit whose buffers are full.
pub const ANSWER: Duration = Duration::from_secs(45);

/// Returns once the other end is dead; never without what pings it.
pub(crate) async fn until_dead(ping_pong: Option<PingPong>, traffic: &Traffic, silence: Duration) {
    let Some(mut ping_pong) = ping_pong else {
        return pending().await;
    };
    loop {
        let mut heard = traffic.heard();
        sleep_until(heard + silence).await;
        if traffic.heard() > heard {
            continue;
        }
        if ping_pong.send_ping(Ping::opaque()).is_err() {
            return;
        }
        // Any byte is a sign of life, the answer only one of them: it may wait behind a window full of bodies.
        loop {
            match timeout(ANSWER, poll_fn(|cx| ping_pong.poll_pong(cx))).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => return,
                Err(_) if traffic.heard() <= heard => return,
                Err(_) => heard = traffic.heard(),
            }
        }
    }
}
