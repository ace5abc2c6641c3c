//! The way out: SOCKS5 (RFC 1928) to a tor, with credentials (RFC 1929) that keep streams apart (socks-extensions).
//!
//! Written out here and not `tokio-socks`, which offers to go without credentials too: a tor that prefers that (`PreferSOCKSNoAuth`) would put streams
//! of all isolations on one circuit, and nobody would know. It also cannot tell tor's own answers about onion services from nonsense.

use core::{net::SocketAddr, pin::pin, time::Duration};
use std::io;

use data_encoding::HEXLOWER;
use maimo_core::address::{Address, Network};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    select,
    time::timeout,
};

use super::{HINT_RUNNING, describe};
use crate::transport::{BoxedStream, Isolation, Pending, Transport, TransportError};

/// How long a dial takes at most: as long as tor itself tries.
pub const DIAL_TIMEOUT: Duration = Duration::from_mins(2);

/// After how long a dial is made a second time, on other circuits, beside the first: most are answered in a few seconds, and tor itself waits for
/// its two minutes where the circuit to a service is lost halfway. The first goes on, for all of Tor may be slow.
const SECOND_AFTER: Duration = Duration::from_secs(15);

/// Not a name that begins as those do which tor itself reads for more than isolation.
const USERNAME: &str = "maimo";

/// The way out by a tor daemon, to onion services only.
#[derive(Debug, Clone, Copy)]
pub struct SystemTor {
    socks: SocketAddr,
    timeout: Duration,
    second_after: Duration,
}

impl SystemTor {
    /// Makes a transport that goes by the SOCKS port of a tor.
    pub const fn new(socks: SocketAddr) -> Self {
        Self::with_timeout(socks, DIAL_TIMEOUT)
    }

    /// Makes a transport whose dials end after `timeout`.
    pub const fn with_timeout(socks: SocketAddr, timeout: Duration) -> Self {
        Self {
            socks,
            timeout,
            second_after: SECOND_AFTER,
        }
    }

    async fn connect(
        &self,
        address: &Address,
        isolation: Isolation,
    ) -> Result<BoxedStream, TransportError> {
        if address.network() != Network::Onion {
            return Err(TransportError::OtherNetwork { transport: "tor" });
        }
        let dial = self.connect_twice(address, isolation);
        timeout(self.timeout, dial).await.unwrap_or_else(|_| {
            Err(TransportError::Timeout {
                seconds: self.timeout.as_secs(),
            })
        })
    }

    /// Connects; where that takes long, by two tries, the first of which to succeed counts.
    async fn connect_twice(
        &self,
        address: &Address,
        isolation: Isolation,
    ) -> Result<BoxedStream, TransportError> {
        let mut first = pin!(self.connect_onion(address, isolation, Try::First));
        if let Ok(ended) = timeout(self.second_after, &mut first).await {
            return ended;
        }
        let mut second = pin!(self.connect_onion(address, isolation, Try::Second));
        select! {
            ended = &mut first => match ended {
                Ok(stream) => Ok(stream),
                Err(_) => second.await,
            },
            ended = &mut second => match ended {
                Ok(stream) => Ok(stream),
                Err(_) => first.await,
            },
        }
    }

    async fn connect_onion(
        &self,
        address: &Address,
        isolation: Isolation,
        which: Try,
    ) -> Result<BoxedStream, TransportError> {
        let no_socks = |detail: String| TransportError::Tor {
            detail,
            hint: HINT_RUNNING,
        };
        let mut socket = TcpStream::connect(self.socks).await.map_err(|error| {
            no_socks(format!(
                "its SOCKS port cannot be reached: {}",
                describe(&error)
            ))
        })?;
        // Requests are small and wait for answers: a delay to fill a segment would be paid on each.
        let _ = socket.set_nodelay(true);
        match ask(&mut socket, address, isolation, which).await {
            Ok(()) => Ok(Box::new(socket)),
            Err(Refusal::Tor(detail)) => Err(TransportError::Unreachable {
                detail: detail.to_owned(),
            }),
            Err(Refusal::NoTor(detail)) => Err(no_socks(detail.to_owned())),
        }
    }
}

/// Which of the two tries of a dial: they share no circuit.
#[derive(Clone, Copy)]
enum Try {
    First,
    Second,
}

impl Try {
    /// Returns the password that keeps its streams apart from all others but those of the same try and isolation.
    fn password(self, isolation: Isolation) -> String {
        let isolation = HEXLOWER.encode(&isolation.0);
        match self {
            Self::First => isolation,
            Self::Second => isolation + "+",
        }
    }
}

/// Why there is no stream.
enum Refusal {
    /// A tor says so.
    Tor(&'static str),
    /// What answers is no tor, or one that we cannot use.
    NoTor(&'static str),
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        // As when tor is stopped meanwhile.
        Self::Tor("tor closed the connection")
    }
}

const SOCKS_VERSION: u8 = 5;
const METHOD_PASSWORD: u8 = 2;
const PASSWORD_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// Asks for a connection; from then on the socket is the stream.
async fn ask(
    socket: &mut TcpStream,
    address: &Address,
    isolation: Isolation,
    which: Try,
) -> Result<(), Refusal> {
    socket
        .write_all(&[SOCKS_VERSION, 1, METHOD_PASSWORD])
        .await?;
    match read(socket).await? {
        [SOCKS_VERSION, METHOD_PASSWORD] => {}
        [SOCKS_VERSION, _] => {
            return Err(Refusal::NoTor(
                "its SOCKS port takes no credentials, and without them it cannot keep streams apart",
            ));
        }
        _ => {
            return Err(Refusal::NoTor(
                "what listens at its SOCKS port is no SOCKS proxy",
            ));
        }
    }

    let mut credentials = vec![PASSWORD_VERSION];
    put_text(&mut credentials, USERNAME);
    put_text(&mut credentials, &which.password(isolation));
    socket.write_all(&credentials).await?;
    if read(socket).await? != [PASSWORD_VERSION, 0] {
        return Err(Refusal::NoTor("its SOCKS port refuses our credentials"));
    }

    let mut request = vec![SOCKS_VERSION, CONNECT, 0, ADDRESS_NAME];
    put_text(&mut request, &address.host());
    // In network order, which is SOCKS's and not ours.
    let [low, high] = address.port().to_le_bytes();
    request.extend([high, low]);
    socket.write_all(&request).await?;
    let [version, code, _, kind] = read(socket).await?;
    if version != SOCKS_VERSION {
        return Err(Refusal::NoTor(
            "what listens at its SOCKS port is no SOCKS proxy",
        ));
    }
    if code != 0 {
        return Err(Refusal::Tor(meaning(code)));
    }
    // From where it connected means nothing here, but stands before the stream's first byte.
    let length = match kind {
        ADDRESS_IPV4 => 4,
        ADDRESS_IPV6 => 16,
        ADDRESS_NAME => {
            let [length] = read(socket).await?;
            usize::from(length)
        }
        _ => {
            return Err(Refusal::NoTor(
                "what listens at its SOCKS port is no SOCKS proxy",
            ));
        }
    };
    let mut bound = [0; 255 + 2];
    socket.read_exact(&mut bound[..length + 2]).await?;
    Ok(())
}

async fn read<const LENGTH: usize>(socket: &mut TcpStream) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    socket.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Appends a text behind its length: an onion address or credentials, none of which has more than 255 bytes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("at most 64 bytes"));
    out.extend(text.as_bytes());
}

/// Says what a tor's answer means (RFC 1928 §6; from 0xf0 on tor's socks-extensions).
const fn meaning(code: u8) -> &'static str {
    match code {
        0x01 => "tor cannot build a circuit there",
        0x02 => "tor's configuration forbids it",
        0x03 => "tor has no network",
        0x04 | 0xf0 => "the onion service is not found",
        0x05 => "the onion service refuses",
        0x06 | 0xf7 => "tor gave up waiting",
        0xf1 => "what the onion service published is not valid",
        0xf2 | 0xf3 => "the onion service does not answer",
        0xf4 | 0xf5 => "the onion service wants an authorisation",
        _ => "tor refuses, and does not say why",
    }
}

impl Transport for SystemTor {
    fn network(&self) -> Network {
        Network::Onion
    }

    fn dial<'a>(&'a self, address: &'a Address, isolation: Isolation) -> Pending<'a, BoxedStream> {
        Box::pin(self.connect(address, isolation))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use maimo_core::identity::OnionSecretKey;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const ISOLATION: Isolation = Isolation([0xab; 16]);

    fn onion() -> Address {
        Address::onion(OnionSecretKey::from_seed(&[1; 32]).public(), 80).unwrap()
    }

    async fn listener() -> (TcpListener, SystemTor) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let tor = SystemTor::new(listener.local_addr().unwrap());
        (listener, tor)
    }

    /// Answers one dial as tor does: takes the greeting and credentials, returns the request, then answers `reply`.
    async fn serve(listener: TcpListener, reply: [u8; 10]) -> (Vec<u8>, Vec<u8>, TcpStream) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 1, 2]);
        stream.write_all(&[5, 2]).await.unwrap();
        let mut credentials = vec![0; 2 + 5 + 1 + 32];
        stream.read_exact(&mut credentials).await.unwrap();
        stream.write_all(&[1, 0]).await.unwrap();
        let mut request = vec![0; 4 + 1 + 62 + 2];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&reply).await.unwrap();
        (credentials, request, stream)
    }

    const fn answer(code: u8) -> [u8; 10] {
        [5, code, 0, 1, 0, 0, 0, 0, 0, 0]
    }

    #[tokio::test]
    async fn tor_is_given_the_name_itself_and_the_isolation_as_password() {
        let (listener, tor) = listener().await;
        let address = onion();
        let (dialled, (credentials, request, mut far)) =
            tokio::join!(tor.dial(&address, ISOLATION), serve(listener, answer(0)));
        assert_eq!(credentials[2..7], *b"maimo");
        assert_eq!(credentials[8..], *"ab".repeat(16).as_bytes());
        // A domain name, of 62 bytes, and the port.
        assert_eq!(request[..5], [5, 1, 0, 3, 62]);
        assert_eq!(request[5..67], *address.host().as_bytes());
        assert_eq!(request[67..], [0, 80]);
        far.write_all(b"x").await.unwrap();
        let mut byte = [0];
        dialled.unwrap().read_exact(&mut byte).await.unwrap();
    }

    /// Takes a dial's greeting and returns the password it comes with, and the stream, before the answer.
    async fn asked(listener: &TcpListener) -> (Vec<u8>, TcpStream) {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        stream.write_all(&[5, 2]).await.unwrap();
        stream.read_exact(&mut [0; 2 + 5]).await.unwrap();
        let mut password = vec![0; usize::from(stream.read_u8().await.unwrap())];
        stream.read_exact(&mut password).await.unwrap();
        stream.write_all(&[1, 0]).await.unwrap();
        (password, stream)
    }

    #[tokio::test]
    async fn a_dial_that_takes_long_is_made_again_on_another_circuit_and_the_first_answer_counts() {
        for (answers, reached) in [
            ([None, Some(0)], 1),
            ([Some(0), None], 0),
            ([Some(1), Some(0)], 1),
        ] {
            let (listener, mut tor) = listener().await;
            tor.second_after = Duration::from_millis(1);
            let address = onion();
            let far = async {
                let (first, second) = (asked(&listener).await, asked(&listener).await);
                assert_ne!(first.0, second.0);
                let mut streams = [first.1, second.1];
                for (stream, code) in streams.iter_mut().zip(answers) {
                    if let Some(code) = code {
                        stream.write_all(&answer(code)).await.unwrap();
                    }
                }
                streams[reached].write_all(&[77]).await.unwrap();
                streams
            };
            let (dialled, _far) = tokio::join!(tor.dial(&address, ISOLATION), far);
            assert_eq!(dialled.unwrap().read_u8().await.unwrap(), 77);
        }
    }

    #[tokio::test]
    async fn tor_saying_no_is_unreachable_and_tells_no_address() {
        for (code, detail) in [
            (1, "tor cannot build a circuit there"),
            (4, "the onion service is not found"),
            (0xf2, "the onion service does not answer"),
            (0xee, "tor refuses, and does not say why"),
        ] {
            let (listener, tor) = listener().await;
            let address = onion();
            let (dialled, _) =
                tokio::join!(tor.dial(&address, ISOLATION), serve(listener, answer(code)));
            let detail = detail.to_owned();
            assert_eq!(
                dialled.map(drop),
                Err(TransportError::Unreachable { detail })
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_onion_address_opens_no_socket() {
        let (listener, tor) = listener().await;
        let addresses = [
            Address::tcp(listener.local_addr().unwrap()).unwrap(),
            Address::name("localhost", 80).unwrap(),
        ];
        for address in addresses {
            assert_eq!(
                tor.dial(&address, ISOLATION).await.map(drop),
                Err(TransportError::OtherNetwork { transport: "tor" })
            );
        }
        let accepted = timeout(Duration::from_millis(10), listener.accept()).await;
        assert!(accepted.is_err());
    }

    /// Streams of all isolations would be on one circuit.
    #[tokio::test]
    async fn a_proxy_that_takes_no_credentials_is_not_used() {
        for method in [0, 0xff] {
            let (listener, tor) = listener().await;
            let address = onion();
            let (dialled, after) = tokio::join!(tor.dial(&address, ISOLATION), async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 3];
                stream.read_exact(&mut bytes).await.unwrap();
                stream.write_all(&[5, method]).await.unwrap();
                bytes.clear();
                stream.read_to_end(&mut bytes).await.unwrap();
                bytes
            });
            assert!(matches!(dialled.map(drop), Err(TransportError::Tor { .. })));
            assert_eq!(after, b"");
        }
    }

    #[tokio::test]
    async fn no_tor_and_no_socks_are_told_from_an_absent_service() {
        let (listener, tor) = listener().await;
        let address = onion();
        let (dialled, _) = tokio::join!(tor.dial(&address, ISOLATION), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            stream
        });
        assert!(matches!(dialled.map(drop), Err(TransportError::Tor { .. })));
        drop(listener);
        let dialled = tor.dial(&address, ISOLATION).await;
        assert!(matches!(dialled.map(drop), Err(TransportError::Tor { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tor_is_waited_for_no_longer_than_said() {
        let (_listener, tor) = listener().await;
        assert_eq!(
            tor.dial(&onion(), ISOLATION).await.map(drop),
            Err(TransportError::Timeout { seconds: 120 })
        );
    }
}
