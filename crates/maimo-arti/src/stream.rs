//! A stream over Tor, either way.

use core::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use std::{io, sync::Arc};

use arti_client::DataStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tor_cell::relaycell::msg::EndReason;

/// Arti's stream, with an end as streams have it; while it lives, its circuit is in use.
pub(crate) struct OnionStream {
    stream: DataStream,
    _open: Option<Arc<()>>,
}

impl OnionStream {
    pub(crate) fn new(stream: DataStream, open: Option<Arc<()>>) -> Self {
        Self {
            stream,
            _open: open,
        }
    }
}

impl AsyncRead for OnionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            // Arti closes its streams with this reason and reads it as an error.
            Err(error) if is_end(&error) => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}

/// Whether the other end closed the stream. Whether it had said all, TLS tells.
fn is_end(error: &io::Error) -> bool {
    let source = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<tor_proto::Error>());
    matches!(
        source,
        Some(tor_proto::Error::EndReceived(
            EndReason::MISC | EndReason::DONE
        ))
    )
}

impl AsyncWrite for OnionStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), context)
    }
}
