//! Tor in the process over a private network of C tor relays.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use maimo_arti::{ArtiSettings, ArtiTor, OnionListener, PrivateNetwork, Software};
use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{BoxedStream, Isolation, Listener, Transport, TransportError};
use maimo_testnet::Network;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tor_llcrypto::pk::ed25519::ExpandedKeypair;

const PORT: u16 = 1117;
/// Long enough for a loaded machine; no test waits it out.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn tor_carries_streams_both_ways_and_only_to_the_port_that_listens() {
    let nodes = Nodes::start().await;
    let (mut here, mut there) = nodes.stream(1).await;
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let (up, down) = (sent.clone(), sent.clone());
    let both = tokio::join!(exchange(&mut here, up), exchange(&mut there, down));
    assert!(both.0 == sent && both.1 == sent);
    there.shutdown().await.unwrap();
    assert_eq!(here.read(&mut [0]).await.unwrap(), 0);

    let elsewhere = Address::onion(nodes.key.public(), PORT + 1).unwrap();
    let error = nodes
        .client
        .dial(&elsewhere, Isolation([2; 16]))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(error, TransportError::Unreachable { .. }),
        "{error}"
    );
    assert!(!error.to_string().contains(&elsewhere.host()[..8]));
    assert_eq!(nodes.client.status().software, Software::Current);
    assert_eq!(nodes.client.status().percent, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn tor_puts_equals_on_one_circuit_and_others_on_their_own() {
    let nodes = Nodes::start().await;
    let _first = nodes.stream(1).await;
    let circuits = nodes.listener.lock().await.circuits();
    let _equal = nodes.stream(1).await;
    assert_eq!(nodes.listener.lock().await.circuits(), circuits);
    let _others = (nodes.stream(2).await, nodes.stream(3).await);
    // A circuit that was given up on the way may stand a while; those in use do.
    assert!(nodes.listener.lock().await.circuits() >= circuits + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tor_keeps_the_onion_key_out_of_its_folders() {
    let nodes = Nodes::start().await;
    let _stream = nodes.stream(1).await;
    let expanded = nodes.key.expanded();
    let secrets = [
        nodes.key.as_seed().to_vec(),
        expanded[..32].to_vec(),
        expanded[32..].to_vec(),
        // The scalar as arti keeps it: modulo the order of the group.
        ExpandedKeypair::from_secret_key_bytes(*expanded)
            .unwrap()
            .to_secret_key_bytes()[..32]
            .to_vec(),
    ];
    let mut needles: Vec<Vec<u8>> = secrets.to_vec();
    let hex = |secret: &Vec<u8>| {
        let digits = secret.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<Vec<_>>().concat().into_bytes()
    };
    needles.extend(secrets.iter().map(hex));
    let files = files_below(nodes.folder.path());
    assert!(
        files.len() > 5,
        "the folders are not where they were looked for"
    );
    for (name, content) in files {
        assert!(!name.contains("keystore"), "{name}");
        for needle in &needles {
            assert!(
                !content.windows(needle.len()).any(|bytes| bytes == needle),
                "the key is in {name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tor_finds_a_service_again_after_its_process_began_anew() {
    let mut nodes = Nodes::start().await;
    drop(nodes.stream(1).await);
    let settings = nodes.settings("server");
    drop(nodes.server);
    drop(nodes.listener);
    let server = loop {
        match ArtiTor::start(settings.clone(), drop).await {
            Ok(server) => break server,
            Err(error) => assert_eq!(error, maimo_arti::TorError::InUse),
        }
        tokio::task::yield_now().await;
    };
    let listener = server.listen(&nodes.key, PORT).unwrap();
    listener.reachable(PATIENCE).await.unwrap();
    nodes.server = server;
    nodes.listener = tokio::sync::Mutex::new(listener);
    let (mut here, mut there) = nodes.stream(2).await;
    exchange_a_byte(&mut here, &mut there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tor_services_offer_congestion_control() {
    let nodes = Nodes::start().await;
    // A client refuses a service whose increment is far from its own; there is one only in the offer of congestion control.
    let network = PrivateNetwork {
        parameters: vec![("cc_sendme_inc".to_owned(), 100)],
        ..nodes.network.clone()
    };
    let settings = ArtiSettings {
        network: Some(network),
        dial_deadline: Duration::from_secs(30),
        ..nodes.settings("other")
    };
    let client = ArtiTor::start(settings, drop).await.unwrap();
    let address = nodes.address();
    assert!(client.dial(&address, Isolation([1; 16])).await.is_err());
    drop(nodes.stream(1).await);
}

/// A client and a provider, each with a Tor of its own.
struct Nodes {
    network: PrivateNetwork,
    key: OnionSecretKey,
    client: Arc<ArtiTor>,
    server: Arc<ArtiTor>,
    listener: tokio::sync::Mutex<OnionListener>,
    folder: TempDir,
    _shared: Option<Network>,
}

impl Nodes {
    async fn start() -> Self {
        let network = Network::shared().unwrap();
        let nodes = Self::start_in(&network).await;
        Self {
            _shared: Some(network),
            ..nodes
        }
    }

    async fn start_in(network: &Network) -> Self {
        let authorities = network.authorities().iter().map(|relay| {
            let v3ident = &relay.authority.as_ref().unwrap().v3ident;
            let (rsa, ed25519) = (&relay.rsa_id, &relay.ed25519_id);
            let line = format!("{rsa} {ed25519} {} {v3ident}", relay.or_address());
            line.parse().unwrap()
        });
        let network = PrivateNetwork {
            authorities: authorities.collect(),
            parameters: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        let mut seed = [0; 32];
        // The shared network knows services of earlier tests by their keys.
        getrandom::fill(&mut seed).unwrap();
        let key = OnionSecretKey::from_seed(&seed);
        let client = start(&network, folder.path(), "client").await;
        let server = start(&network, folder.path(), "server").await;
        let listener = server.listen(&key, PORT).unwrap();
        listener.reachable(PATIENCE).await.unwrap();
        Self {
            network,
            key,
            client,
            server,
            listener: tokio::sync::Mutex::new(listener),
            folder,
            _shared: None,
        }
    }

    fn settings(&self, name: &str) -> ArtiSettings {
        settings(&self.network, self.folder.path(), name)
    }

    fn address(&self) -> Address {
        Address::onion(self.key.public(), PORT).unwrap()
    }

    /// Both ends of a stream on the circuit of that number.
    async fn stream(&self, circuit: u8) -> (BoxedStream, BoxedStream) {
        let address = self.address();
        let mut listener = self.listener.lock().await;
        let (here, there) = tokio::join!(
            self.client.dial(&address, Isolation([circuit; 16])),
            listener.accept()
        );
        (here.unwrap(), there.unwrap())
    }
}

fn settings(network: &PrivateNetwork, folder: &Path, name: &str) -> ArtiSettings {
    let folder = folder.join(name);
    ArtiSettings {
        serves: name == "server",
        network: Some(network.clone()),
        ..ArtiSettings::new(folder.join("state"), folder.join("cache"))
    }
}

async fn start(network: &PrivateNetwork, folder: &Path, name: &str) -> Arc<ArtiTor> {
    let tor = ArtiTor::start(settings(network, folder, name), drop)
        .await
        .unwrap();
    tor.connected(PATIENCE).await.unwrap();
    tor
}

/// Sends all while it receives as much.
async fn exchange(stream: &mut BoxedStream, bytes: Vec<u8>) -> Vec<u8> {
    let mut received = vec![0; bytes.len()];
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async {
        writer.write_all(&bytes).await.unwrap();
        writer.flush().await.unwrap();
    };
    let receive = async {
        reader.read_exact(&mut received).await.unwrap();
    };
    tokio::join!(send, receive);
    received
}

async fn exchange_a_byte(here: &mut BoxedStream, there: &mut BoxedStream) {
    let (at_here, at_there) = tokio::join!(exchange(here, vec![7]), exchange(there, vec![9]));
    assert_eq!((at_here, at_there), (vec![9], vec![7]));
}

/// Every file below a folder: its path and bytes.
fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files
}
