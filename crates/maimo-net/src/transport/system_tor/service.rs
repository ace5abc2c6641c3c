//! The way in: an onion service of a tor daemon, and a port on loopback to which it brings the streams.
//!
//! ```text
//!  control connection stands --lost--> pause (grows) --> connect, authenticate, ADD_ONION --> stands
//!                                        ^                            |
//!                                        '---------- failed ----------'
//! ```
//!
//! The service belongs to the control connection: it ends with it, and hence with this process, however that ends.

use core::{net::Ipv4Addr, time::Duration};
use std::sync::Arc;

use data_encoding::BASE64;
use maimo_core::{
    address::Address,
    error::{Classify, Retry},
    identity::OnionSecretKey,
};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{
    auth::ControlSecret,
    control::{ControlAddress, ControlConnection, broken},
    describe,
};
use crate::{
    backoff::Backoff,
    transport::{BoxedStream, Listener, Pending, TransportError},
};

/// How long tor may take to answer all that a service needs. It answers at once; publishing comes after.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
/// Pauses between tries to bring the service back.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LONGEST: Duration = Duration::from_mins(1);
/// How long to wait when the system has no room for another stream: at once it would only refuse again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// An onion service. Dropped, it is gone.
pub struct OnionService {
    socket: TcpListener,
    address: Address,
    keeper: JoinHandle<()>,
}

impl OnionService {
    /// Has tor offer an onion service at the address of `key`, on the port `port`. It is found by others a few seconds later.
    ///
    /// From then on it is kept: should tor be started again, it is told again.
    ///
    /// # Errors
    ///
    /// [`TransportError::Tor`] where tor cannot be reached, lets us not in, or refuses; [`TransportError::CannotListen`].
    ///
    /// # Security
    ///
    /// Tor learns the key, and so must anybody who can take tor over: nothing may be proven by it.
    pub async fn start(
        control: ControlAddress,
        secret: ControlSecret,
        key: Arc<OnionSecretKey>,
        port: u16,
    ) -> Result<Self, TransportError> {
        let cannot = |detail: String| TransportError::CannotListen { detail };
        let address = Address::onion(key.public(), port)
            .ok_or_else(|| cannot("an onion service needs a port from 1 to 65535".to_owned()))?;
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(|error| cannot(describe(&error)))?;
        let target = socket
            .local_addr()
            .map_err(|error| cannot(describe(&error)))?
            .port();
        let offer = Offer {
            control,
            secret,
            key,
            port,
            target,
        };
        let connection = offer.make().await?;
        Ok(Self {
            socket,
            address,
            keeper: tokio::spawn(offer.keep(connection)),
        })
    }
}

impl Drop for OnionService {
    fn drop(&mut self) {
        // Its control connection ends with it.
        self.keeper.abort();
    }
}

impl Listener for OnionService {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn accept(&mut self) -> Pending<'_, BoxedStream> {
        Box::pin(async {
            loop {
                match self.socket.accept().await {
                    // The socket is bound to loopback; should it ever not be, nobody gets round tor.
                    Ok((stream, from)) if from.ip().is_loopback() => {
                        if stream.set_nodelay(true).is_ok() {
                            return Ok(Box::new(stream) as BoxedStream);
                        }
                    }
                    Ok(_) => {}
                    Err(_) => sleep(FULL_PAUSE).await,
                }
            }
        })
    }
}

/// What tor is told, as often as it must be.
struct Offer {
    control: ControlAddress,
    secret: ControlSecret,
    key: Arc<OnionSecretKey>,
    port: u16,
    target: u16,
}

impl Offer {
    async fn make(&self) -> Result<ControlConnection, TransportError> {
        let made = async {
            let mut connection = self.control.connect().await?;
            self.secret.authenticate(&mut connection).await?;
            self.add(&mut connection).await?;
            Ok(connection)
        };
        timeout(CONTROL_TIMEOUT, made).await.unwrap_or_else(|_| {
            Err(TransportError::Timeout {
                seconds: CONTROL_TIMEOUT.as_secs(),
            })
        })
    }

    async fn add(&self, connection: &mut ControlConnection) -> Result<(), TransportError> {
        let key = Zeroizing::new(BASE64.encode(&*self.key.expanded()));
        // In one piece and as long as it gets, for a buffer that grows leaves its old part in memory.
        let parts: [&[u8]; 4] = [
            b"ADD_ONION ED25519-V3:",
            key.as_bytes(),
            b" Flags=DiscardPK ",
            &format!("Port={},127.0.0.1:{}", self.port, self.target).into_bytes(),
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        let mut line = Zeroizing::new(Vec::with_capacity(length));
        for part in parts {
            line.extend_from_slice(part);
        }
        let reply = connection.command("ADD_ONION", &line).await?;
        let id = reply
            .lines
            .iter()
            .find_map(|line| line.strip_prefix(b"ServiceID="))
            .ok_or_else(|| broken("it does not say which service it offers"))?;
        if self
            .key
            .public()
            .to_string()
            .strip_suffix(".onion")
            .map(str::as_bytes)
            != Some(id)
        {
            return Err(broken("it offers another service than ours"));
        }
        Ok(())
    }

    async fn keep(self, mut connection: ControlConnection) {
        let mut seed = [0; 8];
        // Without random bytes the pauses are those of every node: no harm.
        let _ = getrandom::fill(&mut seed);
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST, u64::from_le_bytes(seed));
        loop {
            let error = connection.closed().await;
            warn!(%error, "the onion service is away");
            connection = loop {
                sleep(backoff.after(Retry::AfterWaiting).unwrap_or(PAUSE_LONGEST)).await;
                match self.make().await {
                    Ok(connection) => break connection,
                    Err(error) => {
                        warn!(%error, hint = error.hint(), "the onion service is still away");
                    }
                }
            };
            backoff.reset();
            info!("the onion service is back");
        }
    }
}
