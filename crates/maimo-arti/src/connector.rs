//! The way out: streams to onion services over circuits that only equals share.

use maimo_core::address::{Address, Network};
use maimo_net::transport::{BoxedStream, Isolation, Pending, Transport, TransportError};
use tokio::time;

use crate::{bootstrap::ArtiTor, error::no_stream, isolation::Circuit, stream::OnionStream};

impl Transport for ArtiTor {
    fn network(&self) -> Network {
        Network::Onion
    }

    /// Connects to an onion service; refuses all else before anything is opened, for Tor's exits would reach it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves no stream. Arti goes on with a circuit it began, and closes it if nobody asks for it again.
    fn dial<'a>(&'a self, address: &'a Address, isolation: Isolation) -> Pending<'a, BoxedStream> {
        Box::pin(async move {
            if address.network() != Network::Onion {
                return Err(TransportError::OtherNetwork { transport: "tor" });
            }
            let deadline = self.shared.dial_deadline;
            let until = time::Instant::now() + deadline;
            let client = self.shared.connected_soon(self.shared.waits).await?;
            let mut preferences = arti_client::StreamPrefs::new();
            preferences
                .set_isolation(Circuit(isolation))
                .connect_to_onion_services(arti_client::config::BoolOrAuto::Explicit(true));
            let target = (address.host(), address.port());
            let dial = client.connect_with_prefs(target, &preferences);
            let stream = tokio::select! {
                dialled = time::timeout_at(until, dial) => dialled,
                () = self.shared.obsolete() => return Err(crate::TorError::Obsolete.into()),
            };
            match stream {
                Ok(Ok(stream)) => Ok(Box::new(OnionStream::new(stream, None)) as BoxedStream),
                Ok(Err(error)) => Err(no_stream(&error)),
                Err(_) => Err(TransportError::Timeout {
                    seconds: deadline.as_secs(),
                }),
            }
        })
    }
}
