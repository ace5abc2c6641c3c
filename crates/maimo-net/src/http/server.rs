//! The provider's end of a connection: takes calls in, each handled by a task of its own, until either side has enough.

use core::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use h2::{RecvStream, server};
use http::{Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::http::{
    BROKEN_CALLS_MAX, Budget, CALLS_MAX, FRAME_BYTES_MAX, HEADER_BYTES_MAX, RESET_BY_PEER_MAX,
    RESET_CALLS_MAX, SEND_BUFFER_BYTES,
    body::{self, BodyError, Parts},
    keep_alive::{self, SERVER_SILENCE},
    meter::{Metered, Traffic},
    windows::{SetWindows, WINDOW_BYTES, Windows},
};

/// The window of each stream of a stranger, in bytes: what a stranger may say fits in.
pub const STRANGER_WINDOW_BYTES: u32 = 4 * 1024;
/// How long a connection stays without a call.
pub const IDLE: Duration = Duration::from_mins(30);
/// How long a connection that is told to go may take to read why.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// After how long without a call windows are small again.
const SHRINK_AFTER: Duration = Duration::from_secs(30);
/// The window of a connection that HTTP/2 begins with, and that cannot be less.
const LEAST_CONNECTION_WINDOW_BYTES: u32 = 65_535;

/// How a connection is to be held.
pub(crate) struct Options {
    /// What its windows grow under.
    pub(crate) windows: Budget,
    /// Until when the first call has to come in.
    pub(crate) first_call: Instant,
    /// Whether the windows of a known client may be granted; may become so while the connection lasts.
    pub(crate) known: Arc<AtomicBool>,
    /// Ends the connection at once but for what is being said: for whoever is sent away.
    pub(crate) dismiss: CancellationToken,
    /// Ends the connection once what is in flight is done.
    pub(crate) drain: CancellationToken,
    /// How long that may take.
    pub(crate) drain_time: Duration,
    /// What is counted.
    pub(crate) traffic: Arc<Traffic>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By the client, or drained.
    Closed,
    /// There was no call, or none any more.
    Silent,
    /// The client did not answer a ping.
    Dead,
    /// The client did not speak HTTP/2, flooded, or broke off.
    Broken,
    /// What was in flight was cut off: the time to finish was over.
    CutOff,
}

/// A call that came in; its body is still to be received.
pub(crate) struct Incoming {
    request: http::request::Parts,
    body: RecvStream,
    answer: server::SendResponse<Bytes>,
}

/// Where the answer to a call goes. Dropped without one, the call is broken off.
pub(crate) struct Answer(server::SendResponse<Bytes>);

impl Incoming {
    /// Returns the path, if the call is a `POST` with nothing behind it.
    pub(crate) fn path(&self) -> Option<&str> {
        let uri = &self.request.uri;
        (self.request.method == Method::POST && uri.query().is_none()).then(|| uri.path())
    }

    /// Returns how long the body is, if that is no more than `max` bytes.
    pub(crate) fn announced(&self, max: u64) -> Result<u64, BodyError> {
        body::announced(&self.request.headers, max)
    }

    /// Receives the body, which is `length` bytes long.
    pub(crate) async fn receive(mut self, length: u64) -> (Result<Bytes, BodyError>, Answer) {
        let result = body::receive(&mut self.body, length).await;
        (result, Answer(self.answer))
    }

    /// Leaves the body unread. What comes in of it is thrown away.
    pub(crate) fn unread(self) -> Answer {
        Answer(self.answer)
    }
}

impl Answer {
    /// Sends the answer.
    pub(crate) async fn send(mut self, status: StatusCode, body: Parts) -> Result<(), BodyError> {
        let mut head = Response::new(());
        *head.status_mut() = status;
        head.headers_mut()
            .insert(CONTENT_LENGTH, body.length().into());
        let mut stream = self.0.send_response(head, body.length() == 0)?;
        let sent = body::send(&mut stream, body).await;
        if matches!(sent, Err(BodyError::TooSlow)) {
            stream.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
        }
        sent
    }
}

/// Serves a connection to its end.
///
/// # Cancel safety
///
/// Dropped, it breaks off all that is in flight.
pub(crate) async fn serve<S, F>(
    stream: S,
    options: Options,
    mut handle: impl FnMut(Incoming) -> F,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()> + Send + 'static,
{
    let (stream_window, connection_window) = if options.known.load(Ordering::Relaxed) {
        (WINDOW_BYTES, WINDOW_BYTES)
    } else {
        (STRANGER_WINDOW_BYTES, LEAST_CONNECTION_WINDOW_BYTES)
    };
    let handshake = server::Builder::new()
        .initial_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(CALLS_MAX)
        .max_concurrent_reset_streams(RESET_CALLS_MAX)
        .max_pending_accept_reset_streams(RESET_BY_PEER_MAX)
        .max_local_error_reset_streams(Some(BROKEN_CALLS_MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .handshake(Metered::new(stream, Arc::clone(&options.traffic), true));
    let mut connection = match timeout_at(options.first_call, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return Ended::Broken,
        Err(_) => return Ended::Silent,
    };
    let mut windows = Windows::new(options.windows.clone(), stream_window, connection_window);
    let death = keep_alive::until_dead(connection.ping_pong(), &options.traffic, SERVER_SILENCE);
    tokio::pin!(death);

    let mut calls = JoinSet::new();
    let mut is_first = true;
    let mut is_shrunk = true;
    let mut active = Instant::now();
    let mut end: Option<Instant> = None;
    loop {
        let timer = match end {
            Some(end) => end,
            None if is_first => options.first_call,
            None if is_shrunk => active + IDLE,
            None => active + SHRINK_AFTER,
        };
        tokio::select! {
            biased;
            () = sleep_until(timer), if end.is_some() || calls.is_empty() => {
                if end.is_some() {
                    return if calls.is_empty() { Ended::Closed } else { Ended::CutOff };
                }
                if is_first || is_shrunk {
                    connection.graceful_shutdown();
                    end = Some(Instant::now() + FAREWELL);
                    if is_first {
                        return Ended::Silent;
                    }
                } else {
                    windows.shrink(&mut connection);
                    is_shrunk = true;
                }
            }
            () = options.dismiss.cancelled(), if end.is_none() => {
                connection.graceful_shutdown();
                end = Some(Instant::now() + FAREWELL);
            }
            () = options.drain.cancelled(), if end.is_none() => {
                connection.graceful_shutdown();
                end = Some(Instant::now() + options.drain_time);
            }
            Some(_) = calls.join_next(), if !calls.is_empty() => active = Instant::now(),
            () = &mut death => return Ended::Dead,
            incoming = connection.accept() => match incoming {
                None => return Ended::Closed,
                // Who is told to go may go in the middle of it.
                Some(Err(_)) if end.is_some() => return Ended::Closed,
                Some(Err(_)) => return Ended::Broken,
                Some(Ok((request, answer))) => {
                    is_first = false;
                    active = Instant::now();
                    let incoming = Incoming::new(request, answer);
                    if options.known.load(Ordering::Relaxed) {
                        let body = incoming.announced(u64::MAX).unwrap_or(0);
                        windows.grow(body, &mut connection);
                        is_shrunk = false;
                    }
                    calls.spawn(handle(incoming));
                }
            },
        }
    }
}

impl Incoming {
    fn new(request: Request<RecvStream>, answer: server::SendResponse<Bytes>) -> Self {
        let (request, body) = request.into_parts();
        Self {
            request,
            body,
            answer,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SetWindows for server::Connection<S, Bytes> {
    fn set_stream(&mut self, bytes: u32) -> bool {
        self.set_initial_window_size(bytes).is_ok()
    }

    fn set_connection(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }
}
