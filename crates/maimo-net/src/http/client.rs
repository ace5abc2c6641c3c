//! The client's end of a connection: sends calls, several at a time, and hands over their answers.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{Request, StatusCode, header::CONTENT_LENGTH};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{
    BROKEN_CALLS_MAX, Budget, FRAME_BYTES_MAX, HEADER_BYTES_MAX, RESET_CALLS_MAX,
    SEND_BUFFER_BYTES,
    body::{self, BodyError, Parts},
    keep_alive::{self, CLIENT_SILENCE},
    meter::{Flood, Metered, Traffic},
    windows::{SetWindows, WINDOW_BYTES, Windows},
};

/// How long an answer that refuses may be, in bytes: it may list all that is not held.
pub const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// How long a call may wait for its turn on the connection.
const TURN: Duration = Duration::from_mins(5);
/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long opening may take, which waits for nothing but room to write.
const OPENING: Duration = Duration::from_mins(1);
/// After how long without a call windows are small again.
const SHRINK_AFTER: Duration = Duration::from_secs(30);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection is gone, or the provider broke off.
    Lost(String),
    /// The provider does not keep to the protocol.
    Misbehaved(String),
}

/// A call to be made.
pub(crate) struct Outgoing {
    pub(crate) path: &'static str,
    pub(crate) body: Parts,
    /// How long the answer may be, in bytes; one that refuses may always be [`REFUSAL_BYTES_MAX`] long.
    pub(crate) answer_bytes_max: u64,
    /// How long the answer is likely to be, in bytes: windows are opened for it.
    pub(crate) answer_bytes_likely: u64,
    /// How long the provider may take to answer once it has the call.
    pub(crate) patience: Duration,
}

/// A connection. Clones share it; it is closed once all of them and all calls are gone.
#[derive(Clone)]
pub(crate) struct ClientConnection {
    send: SendRequest<Bytes>,
    state: Arc<State>,
    _open: Arc<DropGuard>,
}

struct State {
    traffic: Arc<Traffic>,
    /// The longest answer that is awaited and not yet made room for.
    wanted: AtomicU64,
    want: Notify,
    active: Notify,
    /// An answer was not as it must be.
    bad: Notify,
    ended: watch::Sender<Option<CallError>>,
}

/// A call whose body has left.
pub(crate) struct Begun {
    response: client::ResponseFuture,
    _body: h2::SendStream<Bytes>,
    state: Arc<State>,
    until: Instant,
    answer_bytes_max: u64,
}

impl ClientConnection {
    /// Opens a connection on a stream, whose other end need not have said anything yet.
    pub(crate) async fn open<S>(stream: S, budget: Budget) -> Result<Self, CallError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let traffic = Traffic::new();
        let handshake = client::Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_CALLS_MAX)
            .max_local_error_reset_streams(Some(BROKEN_CALLS_MAX))
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .handshake(Metered::new(stream, Arc::clone(&traffic), false));
        let (send, connection) = timeout(OPENING, handshake)
            .await
            .map_err(|_| CallError::Lost("the connection does not open".to_owned()))?
            .map_err(|error| CallError::of(&error))?;
        let state = Arc::new(State {
            traffic,
            wanted: AtomicU64::new(0),
            want: Notify::new(),
            active: Notify::new(),
            bad: Notify::new(),
            ended: watch::Sender::new(None),
        });
        let open = CancellationToken::new();
        tokio::spawn(drive(
            connection,
            Arc::clone(&state),
            Windows::new(budget, WINDOW_BYTES, WINDOW_BYTES),
            open.clone(),
        ));
        Ok(Self {
            send,
            state,
            _open: Arc::new(open.drop_guard()),
        })
    }

    /// Sends a call; returns once its body has left, but for [`SEND_BUFFER_BYTES`].
    pub(crate) async fn begin(&self, call: Outgoing) -> Result<Begun, CallError> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        if call.answer_bytes_likely > u64::from(WINDOW_BYTES) {
            // Ahead of the call, so that the answer does not wait for the window.
            self.state
                .wanted
                .fetch_max(call.answer_bytes_likely, Ordering::Relaxed);
            self.state.want.notify_one();
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        // No name and no address: the stream leads to the provider already.
        *request.uri_mut() = http::Uri::builder()
            .scheme("https")
            .authority("maimo")
            .path_and_query(call.path)
            .build()
            .map_err(|_| CallError::Lost("no such call".to_owned()))?;
        request
            .headers_mut()
            .insert(CONTENT_LENGTH, call.body.length().into());
        let mut send = timeout(TURN, self.send.clone().ready())
            .await
            .map_err(|_| CallError::Lost("other calls take too long".to_owned()))?
            .map_err(|error| self.state.lost(&error))?;
        let (response, mut stream) = send
            .send_request(request, call.body.length() == 0)
            .map_err(|error| self.state.lost(&error))?;
        self.state.active.notify_one();
        match body::send(&mut stream, call.body).await {
            // The provider need not read a body to answer: then the answer says why.
            Ok(()) | Err(BodyError::Lost(_) | BodyError::WrongLength) => {}
            Err(_) => {
                let detail = "the provider does not take what is sent";
                return Err(self.ended().unwrap_or(CallError::Lost(detail.to_owned())));
            }
        }
        Ok(Begun {
            response,
            _body: stream,
            state: Arc::clone(&self.state),
            until: Instant::now() + call.patience,
            answer_bytes_max: call.answer_bytes_max,
        })
    }

    /// Returns why the connection ended, if it did.
    pub(crate) fn ended(&self) -> Option<CallError> {
        self.state.ended.borrow().clone()
    }

    /// Waits until the connection ends; returns why.
    pub(crate) async fn until_ended(&self) -> CallError {
        let mut ended = self.state.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(closed)
    }

    /// Returns what was carried.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.state.traffic
    }
}

impl Begun {
    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Result<(StatusCode, Bytes), CallError> {
        let state = self.state;
        let response = timeout_at(self.until, self.response)
            .await
            .map_err(|_| CallError::Lost("the provider does not answer".to_owned()))?
            .map_err(|error| state.lost(&error))?;
        let (head, mut body) = response.into_parts();
        let max = if head.status == StatusCode::OK {
            self.answer_bytes_max
        } else {
            REFUSAL_BYTES_MAX
        };
        let length = body::announced(&head.headers, max).map_err(|error| state.bad(&error))?;
        let bytes = body::receive(&mut body, length)
            .await
            .map_err(|error| state.bad(&error))?;
        Ok((head.status, bytes))
    }
}

impl State {
    /// Says why a call failed: if the connection ended, for the reason that it ended for.
    fn lost(&self, error: &h2::Error) -> CallError {
        let ended = self.ended.borrow().clone();
        ended.unwrap_or_else(|| self.end(CallError::of(error)))
    }

    /// Ends the connection if the provider breaks the rules: what else it sent would be read only to be thrown away, without end.
    fn end(&self, error: CallError) -> CallError {
        if matches!(error, CallError::Misbehaved(_)) {
            self.ended.send_if_modified(|ended| {
                let is_first = ended.is_none();
                ended.get_or_insert_with(|| error.clone());
                is_first
            });
            self.bad.notify_one();
        }
        error
    }

    /// Says what is wrong with an answer.
    fn bad(&self, error: &BodyError) -> CallError {
        let misbehaved = |detail: &str| self.end(CallError::Misbehaved(detail.to_owned()));
        match error {
            BodyError::Unannounced => misbehaved("an answer does not say how long it is"),
            BodyError::TooLong => misbehaved("an answer is longer than it may be"),
            BodyError::WrongLength => misbehaved("an answer is not as long as it says"),
            BodyError::TooSlow => CallError::Lost("the provider's answer stands still".to_owned()),
            BodyError::Lost(error) => self.lost(error),
        }
    }
}

impl CallError {
    fn of(error: &h2::Error) -> Self {
        if let Some(io) = error.get_io() {
            // Of an error that comes up through it, the library keeps the text.
            let is_flood = io
                .get_ref()
                .is_some_and(|inner| inner.to_string() == Flood.to_string());
            return if is_flood {
                Self::Misbehaved(Flood.to_string())
            } else {
                // The kind, not the text: that may name addresses.
                Self::Lost(io.kind().to_string())
            };
        }
        let reason = error.reason().unwrap_or(h2::Reason::NO_ERROR);
        let reason = reason.description();
        if error.is_library() {
            Self::Misbehaved(format!("the provider breaks the protocol: {reason}"))
        } else if error.is_remote() {
            Self::Lost(format!("the provider broke off: {reason}"))
        } else {
            Self::Lost(format!("the connection broke: {reason}"))
        }
    }
}

impl fmt::Debug for ClientConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConnection").finish_non_exhaustive()
    }
}

fn closed() -> CallError {
    CallError::Lost("the connection was closed".to_owned())
}

/// Moves the connection's bytes until it ends.
async fn drive<S>(
    mut connection: client::Connection<S, Bytes>,
    state: Arc<State>,
    mut windows: Windows,
    open: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let death = keep_alive::until_dead(connection.ping_pong(), &state.traffic, CLIENT_SILENCE);
    tokio::pin!(death);
    let farewell = async {
        open.cancelled().await;
        sleep(FAREWELL).await;
    };
    tokio::pin!(farewell);
    let mut active = Instant::now();
    let mut is_grown = false;
    let end = loop {
        tokio::select! {
            biased;
            () = state.want.notified() => {
                is_grown = true;
                windows.grow(state.wanted.swap(0, Ordering::Relaxed), &mut connection);
            }
            () = state.active.notified() => active = Instant::now(),
            result = &mut connection => break match result {
                Ok(()) => closed(),
                Err(error) => CallError::of(&error),
            },
            () = &mut death => break CallError::Lost("the provider gives no sign of life".to_owned()),
            () = &mut farewell => break closed(),
            () = state.bad.notified() => break closed(),
            () = sleep_until((active + SHRINK_AFTER).max(state.traffic.heard() + SHRINK_AFTER)), if is_grown => {
                // Bytes may have come in since the timer was set.
                if state.traffic.heard() + SHRINK_AFTER <= Instant::now() {
                    windows.shrink(&mut connection);
                    is_grown = false;
                }
            }
        }
    };
    state.ended.send_if_modified(|ended| {
        let is_first = ended.is_none();
        ended.get_or_insert(end);
        is_first
    });
    // What still waits for an answer fails once the connection is dropped.
    drop(connection);
}

impl<S: AsyncRead + AsyncWrite + Unpin> SetWindows for client::Connection<S, Bytes> {
    fn set_stream(&mut self, bytes: u32) -> bool {
        self.set_initial_window_size(bytes).is_ok()
    }

    fn set_connection(&mut self, bytes: u32) {
        self.set_target_window_size(bytes);
    }
}
