//! TCP: no anonymity, and a name server is asked for names. Only a node that was told to use it has one.

use core::{net::IpAddr, net::SocketAddr, time::Duration};
use std::io;

use maimo_core::address::{Address, Network};
use tokio::{
    net::{TcpListener as Socket, TcpStream, lookup_host},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{BoxedStream, Isolation, Listener, Pending, Transport, TransportError};

/// How long a dial takes at most, names and all their addresses included.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;

/// The way out over TCP.
#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    timeout: Duration,
}

impl Tcp {
    /// Makes a transport whose dials end after [`DIAL_TIMEOUT`].
    pub const fn new() -> Self {
        Self::with_timeout(DIAL_TIMEOUT)
    }

    /// Makes a transport whose dials end after `timeout`.
    pub const fn with_timeout(timeout: Duration) -> Self {
        Self { timeout }
    }

    async fn connect(&self, address: &Address) -> Result<BoxedStream, TransportError> {
        if address.network() != Network::Tcp {
            return Err(TransportError::OtherNetwork { transport: "tcp" });
        }
        let deadline = Instant::now() + self.timeout;
        let late = || TransportError::Timeout {
            seconds: self.timeout.as_secs(),
        };
        let (host, port) = (address.host(), address.port());
        let found = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => timeout_at(deadline, lookup_host((host, port)))
                .await
                .map_err(|_| late())?
                .map_err(|_| unreachable("the name is not known"))?
                .take(ADDRESSES_MAX)
                .collect(),
        };
        connect_first(&found, deadline)
            .await
            .unwrap_or_else(|| Err(late()))
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Tcp {
    fn network(&self) -> Network {
        Network::Tcp
    }

    fn dial<'a>(&'a self, address: &'a Address, _: Isolation) -> Pending<'a, BoxedStream> {
        Box::pin(self.connect(address))
    }
}

/// Tries addresses one after another; each has its share of the time that is left, so that a silent one does not use up all. Returns nothing
/// where the last of them was silent.
async fn connect_first(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Option<Result<BoxedStream, TransportError>> {
    let mut failed = Some(Err(unreachable("the name has no address")));
    for (tried, address) in (0_u32..).zip(addresses) {
        let left = u32::try_from(addresses.len()).unwrap_or(u32::MAX) - tried;
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        failed = match timeout(share, open(*address)).await {
            Ok(Ok(stream)) => return Some(Ok(Box::new(stream))),
            Ok(Err(error)) => Some(Err(unreachable(&describe(&error)))),
            Err(_) => None,
        };
    }
    failed
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Requests are small and wait for answers: a delay to fill a segment would be paid on each.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn unreachable(detail: &str) -> TransportError {
    TransportError::Unreachable {
        detail: detail.to_owned(),
    }
}

/// Says what went wrong without the system's own text, which may name the address.
fn describe(error: &io::Error) -> String {
    error.kind().to_string()
}

/// Streams that come in over TCP.
pub struct TcpListener {
    socket: Socket,
    address: Address,
}

impl TcpListener {
    /// Listens at `at`. Others are told to come to `public`, or to `at` where there is no other address, as behind a router.
    ///
    /// # Errors
    ///
    /// [`TransportError::CannotListen`].
    pub async fn bind(at: SocketAddr, public: Option<Address>) -> Result<Self, TransportError> {
        let cannot = |detail: &str| TransportError::CannotListen {
            detail: detail.to_owned(),
        };
        let is_tcp = |address: &Address| address.network() == Network::Tcp;
        if !public.as_ref().is_none_or(is_tcp) {
            return Err(TransportError::OtherNetwork { transport: "tcp" });
        }
        let socket = Socket::bind(at)
            .await
            .map_err(|error| cannot(&describe(&error)))?;
        let own = socket
            .local_addr()
            .map_err(|error| cannot(&describe(&error)))?;
        let own = SocketAddr::new(own.ip().to_canonical(), own.port());
        let address = public
            .or_else(|| Address::tcp(own))
            .ok_or_else(|| cannot("the port is not known"))?;
        Ok(Self { socket, address })
    }
}

/// How long to wait when the system has no room for another stream: at once it would only refuse again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

impl Listener for TcpListener {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn accept(&mut self) -> Pending<'_, BoxedStream> {
        Box::pin(async {
            loop {
                match self.socket.accept().await {
                    Ok((stream, _)) => {
                        // A stream that ended before it was taken is none.
                        if stream.set_nodelay(true).is_ok() {
                            return Ok(Box::new(stream) as BoxedStream);
                        }
                    }
                    Err(error) if is_of_one_stream(&error) => {}
                    Err(_) => sleep(FULL_PAUSE).await,
                }
            }
        })
    }
}

fn is_of_one_stream(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const ISOLATION: Isolation = Isolation([0; 16]);

    async fn listener() -> TcpListener {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        TcpListener::bind(at, None).await.unwrap()
    }

    #[tokio::test]
    async fn a_stream_is_opened_by_address_and_by_name() {
        let mut listener = listener().await;
        let by_ip = listener.address();
        let by_name = Address::name("localhost", by_ip.port()).unwrap();
        for address in [by_ip, by_name] {
            let tcp = Tcp::new();
            let (near, far) = tokio::join!(tcp.dial(&address, ISOLATION), listener.accept());
            near.unwrap().write_all(b"hello").await.unwrap();
            let mut found = Vec::new();
            far.unwrap().read_to_end(&mut found).await.unwrap();
            assert_eq!(found, b"hello");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_without_the_address() {
        let address = listener().await.address();
        let failed = Tcp::new()
            .dial(&address, ISOLATION)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(failed.to_string(), "cannot be reached: connection refused");
    }

    #[tokio::test]
    async fn of_the_addresses_of_a_name_the_first_that_answers_serves() {
        let mut listener = listener().await;
        let port = listener.address().port();
        let dead = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port));
        let alive = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let deadline = Instant::now() + Duration::from_secs(10);
        let connects = [dead, alive];
        let opened = connect_first(&connects, deadline);
        let (opened, accepted) = tokio::join!(opened, listener.accept());
        assert!(opened.unwrap().is_ok() && accepted.is_ok());
        let none = connect_first(&[], deadline).await.unwrap();
        assert!(none.is_err());
    }

    #[tokio::test]
    async fn an_onion_address_opens_no_socket() {
        let key = maimo_core::identity::OnionSecretKey::from_seed(&[1; 32]).public();
        let address = Address::onion(key, 80).unwrap();
        let other = TransportError::OtherNetwork { transport: "tcp" };
        let dialled = Tcp::new().dial(&address, ISOLATION).await.map(drop);
        assert_eq!(dialled, Err(other.clone()));
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = TcpListener::bind(at, Some(address)).await.map(drop);
        assert_eq!(bound, Err(other));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said_to_be() {
        let first = listener().await;
        let at: SocketAddr = first.address().to_string().parse().unwrap();
        let error = TcpListener::bind(at, None).await.map(drop).unwrap_err();
        assert!(matches!(error, TransportError::CannotListen { .. }));
    }
}
