//! The transport over a tor daemon, on a private network of C tor nodes: two daemons, one onion service.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{
    BoxedStream, Isolation, Listener, Transport, TransportError,
    system_tor::{ControlAddress, ControlSecret, OnionService, SystemTor},
};
use maimo_testnet::{Network, TorNode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

const PORT: u16 = 443;
/// Longer than a service takes to be published, on a machine that does much else.
const TRIES: u8 = 60;
/// How long one try may take: many times what it does where it works. A client that has an old descriptor of a service waits for introduction points
/// that are gone, until the next try has it look for a newer one.
const TRY: Duration = Duration::from_secs(10);

/// Runs a test's asynchronous part; the calls that start nodes block, and come before it.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

fn two_daemons(network: &Network) -> (TorNode, TorNode) {
    std::thread::scope(|scope| {
        let provider = scope.spawn(|| network.client("provider").unwrap());
        let client = network.client("client").unwrap();
        (provider.join().unwrap(), client)
    })
}

async fn offer(tor: &TorNode, seed: u8) -> OnionService {
    let control = ControlAddress::Tcp(tor.control());
    let key = Arc::new(OnionSecretKey::from_seed(&[seed; 32]));
    OnionService::start(control, ControlSecret::default(), key, PORT)
        .await
        .unwrap()
}

/// Dials until the service is found, and proves that bytes go both ways. The stream that is returned stays open at the other end.
async fn meet(out: &SystemTor, service: &mut OnionService, isolation: u8) -> BoxedStream {
    meet_by(out, service, isolation, |_| Isolation([isolation; 16])).await
}

/// The same, each try on circuits of its own: one that tor waits for in vain holds up no other.
async fn meet_anyhow(out: &SystemTor, service: &mut OnionService, isolation: u8) -> BoxedStream {
    meet_by(out, service, isolation, |number| {
        let mut own = [isolation; 16];
        own[0] = number;
        Isolation(own)
    })
    .await
}

async fn meet_by(
    out: &SystemTor,
    service: &mut OnionService,
    isolation: u8,
    of_try: impl Fn(u8) -> Isolation,
) -> BoxedStream {
    let (there, back) = (vec![isolation; 100_000], vec![!isolation; 100_000]);
    let (mut near, number) = dial(out, &service.address(), of_try).await;
    let mut far = arrived(&mut near, service, [isolation, number]).await;
    let mut found = (vec![0; there.len()], vec![0; back.len()]);
    tokio::try_join!(near.write_all(&there), far.read_exact(&mut found.0)).unwrap();
    tokio::try_join!(far.write_all(&back), near.read_exact(&mut found.1)).unwrap();
    assert_eq!(found, (there, back));
    tokio::spawn(async move { far.read(&mut [0]).await });
    near
}

/// Returns the other end of a stream. A try that was given up may have come as far, and be there before it: it says nothing, or something else.
async fn arrived(
    near: &mut BoxedStream,
    service: &mut OnionService,
    greeting: [u8; 2],
) -> BoxedStream {
    near.write_all(&greeting).await.unwrap();
    loop {
        let mut far = service.accept().await.unwrap();
        let mut found = [0; 2];
        let read = timeout(TRY, far.read_exact(&mut found)).await;
        if matches!(read, Ok(Ok(_))) && found == greeting {
            return far;
        }
    }
}

/// Returns a stream, and by which try it came about.
async fn dial(
    out: &SystemTor,
    address: &Address,
    of_try: impl Fn(u8) -> Isolation,
) -> (BoxedStream, u8) {
    let mut last = None;
    for number in 0..TRIES {
        match timeout(TRY, out.dial(address, of_try(number))).await {
            Ok(Ok(stream)) => return (stream, number),
            failed => last = Some(failed.map(|dialled| dialled.map(drop))),
        }
        sleep(Duration::from_millis(500)).await;
    }
    panic!("not reached: {last:?}");
}

/// Returns the circuits that a tor's streams to onion services are on, sorted; asked without the code that is tested.
fn circuits_of_streams(tor: &TorNode) -> Vec<String> {
    let cookie = std::fs::read(tor.cookie()).unwrap();
    let hex = data_encoding::HEXLOWER.encode(&cookie);
    let mut stream = TcpStream::connect(tor.control()).unwrap();
    write!(
        stream,
        "AUTHENTICATE {hex}\r\nGETINFO stream-status\r\nQUIT\r\n"
    )
    .unwrap();
    let mut circuits: Vec<_> = BufReader::new(stream)
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.contains(".onion"))
        // "5 SUCCEEDED 12 name:port"; a single stream stands behind the name of what was asked.
        .map(|line| {
            let line = line.trim_start_matches("250-stream-status=");
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[1], "SUCCEEDED", "{line}");
            words[2].to_owned()
        })
        .collect();
    circuits.sort();
    circuits
}

#[test]
fn streams_reach_an_onion_service_and_share_a_circuit_only_with_their_own() {
    let network = Network::shared().unwrap();
    let (provider, client) = two_daemons(&network);
    run(async {
        let mut service = offer(&provider, 1).await;
        let out = SystemTor::new(client.socks());
        let mut streams = vec![meet(&out, &mut service, 1).await];
        streams.push(meet(&out, &mut service, 1).await);
        let circuits = circuits_of_streams(&client);
        assert_eq!(circuits.len(), 2);
        assert_eq!(circuits[0], circuits[1]);

        streams.push(meet(&out, &mut service, 2).await);
        let mut circuits = circuits_of_streams(&client);
        assert_eq!(circuits.len(), 3);
        circuits.dedup();
        assert_eq!(circuits.len(), 2);
    });
}

#[test]
fn a_service_comes_back_after_tor_was_killed_and_is_gone_once_dropped() {
    let network = Network::shared().unwrap();
    let (mut provider, client) = two_daemons(&network);
    run(async {
        let mut service = offer(&provider, 2).await;
        let out = SystemTor::new(client.socks());
        let mut stream = meet_anyhow(&out, &mut service, 1).await;
        tokio::task::block_in_place(|| provider.kill());
        // Ended, in whatever way, with the tor that carried it.
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
        tokio::task::block_in_place(|| provider.restart()).unwrap();
        meet_anyhow(&out, &mut service, 2).await;

        let address = service.address();
        drop(service);
        // The same tor offers another one, so that it is not tor itself that is away.
        let mut other = offer(&provider, 3).await;
        meet_anyhow(&out, &mut other, 3).await;
        let out = SystemTor::with_timeout(client.socks(), Duration::from_secs(5));
        let gone = out.dial(&address, Isolation([4; 16])).await;
        assert!(matches!(
            gone.map(drop),
            Err(TransportError::Unreachable { .. } | TransportError::Timeout { .. })
        ));
    });
}

#[test]
fn a_password_opens_the_control_port_and_a_wrong_one_does_not() {
    // What `tor --hash-password "open sesame"` says.
    const HASHED: &str =
        "HashedControlPassword 16:00C76B0A870C300060B4C4E7F1FDAD8874A63E41A6477467022ED4C36E";
    let network = Network::shared().unwrap();
    let tor = network
        .client_with("provider", &["CookieAuthentication 0", HASHED])
        .unwrap();
    let start = |password: &str| {
        let secret = ControlSecret {
            cookie_file: None,
            password: Some(password.to_owned().into()),
        };
        let key = Arc::new(OnionSecretKey::from_seed(&[5; 32]));
        OnionService::start(ControlAddress::Tcp(tor.control()), secret, key, PORT)
    };
    run(async {
        start("open sesame").await.map(drop).unwrap();
        let refused = start("close sesame").await.map(drop);
        assert!(matches!(refused, Err(TransportError::Tor { .. })));
    });
}
