use std::io::Cursor;

use maimo_core::identity::{Auth, Client};
use rustls::{
    client::{ClientSessionMemoryCache, ResolvesClientCert},
    pki_types::CertificateDer,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    keys::{CLIENT_CONTEXT, Proves, SERVER_CONTEXT, Signing, encode_key},
    *,
};
use crate::transport::memory::{Faults, MemoryStream, pair};

fn auth(number: u8) -> Arc<AuthSecretKey> {
    Arc::new(AuthSecretKey::from_seed(&[number; 32]))
}

fn client(number: u8) -> Arc<ClientSecretKey> {
    Arc::new(ClientSecretKey::from_seed(&[number; 32]))
}

fn stream() -> (MemoryStream, MemoryStream) {
    pair(Faults::default())
}

type Accepted = Result<(TlsStream, ClientPublicKey), TlsError>;

/// Shakes hands between our own two sides, or what stands in for one of them.
async fn shake(
    connects: impl AsyncFnOnce(BoxedStream) -> Result<TlsStream, TlsError>,
    accepts: impl AsyncFnOnce(BoxedStream) -> Accepted,
) -> (Result<TlsStream, TlsError>, Accepted) {
    let (near, far) = stream();
    let connects = async {
        let mut connected = connects(Box::new(near)).await;
        // In TLS 1.3 the client is done before the server has judged its key: an answer tells.
        if let Ok(stream) = &mut connected {
            let read = stream.read_exact(&mut [0; 2]).await;
            if let Err(error) = read {
                connected = Err(failed(error));
            }
        }
        connected
    };
    let accepts = async {
        let mut accepted = accepts(Box::new(far)).await;
        if let Ok((stream, _)) = &mut accepted {
            stream.write_all(b"ok").await.unwrap();
            stream.flush().await.unwrap();
        }
        accepted
    };
    tokio::join!(connects, accepts)
}

async fn ours(stream: BoxedStream) -> Result<TlsStream, TlsError> {
    let tls = ClientTls::new(&client(1));
    tls.connect(stream, auth(2).public()).await
}

async fn theirs(stream: BoxedStream) -> Accepted {
    ServerTls::new(&auth(2)).accept(stream).await
}

/// A client with another configuration than ours.
async fn connect_with(config: ClientConfig, stream: BoxedStream) -> Result<TlsStream, TlsError> {
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(no_name(), stream).await.map_err(failed)?;
    Ok(Box::new(stream))
}

/// A server with another configuration than ours.
async fn accept_with(config: ServerConfig, stream: BoxedStream) -> Accepted {
    let tls = ServerTls {
        config: Arc::new(config),
    };
    tls.accept(stream).await
}

fn our_config() -> ClientConfig {
    let verifier = Arc::new(OneServer::new(auth(2).public()));
    client_config(verifier, Arc::new(Identity::new(client(1))))
}

fn their_config() -> ServerConfig {
    server_config(Arc::new(Identity::new(auth(2))))
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is_and_talk() {
    let (near, far) = shake(ours, theirs).await;
    let (mut near, (mut far, key)) = (near.unwrap(), far.unwrap());
    assert_eq!(key, client(1).public());
    near.write_all(&vec![7; 100_000]).await.unwrap();
    let (sent, received) = tokio::join!(near.shutdown(), async {
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.map(|_| received)
    });
    sent.unwrap();
    assert_eq!(received.unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn a_server_of_another_key_is_refused_and_does_not_learn_ours() {
    let other = async |stream| ServerTls::new(&auth(3)).accept(stream).await;
    let (near, far) = shake(ours, other).await;
    assert_eq!(near.map(drop), Err(TlsError::OtherKey));
    let refused = far.map(drop).unwrap_err();
    assert!(matches!(refused, TlsError::Refused { .. }), "{refused}");
}

#[tokio::test]
async fn no_protocol_and_another_one_are_refused_by_both_sides() {
    for names in [vec![], vec![b"h2".to_vec()], vec![b"maimo/2".to_vec()]] {
        let mut config = our_config();
        config.alpn_protocols.clone_from(&names);
        let (_, far) = shake(async |stream| connect_with(config, stream).await, theirs).await;
        let error = far.map(drop).unwrap_err();
        assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");

        let names_none = names.is_empty();
        let mut config = their_config();
        config.alpn_protocols = names;
        let (near, _) = shake(ours, async |stream| accept_with(config, stream).await).await;
        let error = near.map(drop).unwrap_err();
        // A server of another protocol ends the handshake itself, and may be gone before it is heard.
        if names_none {
            assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
        }
    }
}

/// The hello of a client that knows TLS 1.2 and no later version: random, no session, one suite, no extensions.
#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let mut hello = vec![1, 0, 0, 41, 3, 3];
    hello.extend([9; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    let record = [&[22, 3, 1, 0, 45], &hello[..]].concat();
    let (mut near, far) = stream();
    near.write_all(&record).await.unwrap();
    let error = theirs(Box::new(far)).await.map(drop).unwrap_err();
    assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
    let mut alert = Vec::new();
    near.read_to_end(&mut alert).await.unwrap();
    // A fatal alert, and nothing of a handshake.
    assert_eq!((alert.len(), alert[0], alert[5]), (7, 21, 2));
}

/// The hello of a server that knows no later version than TLS 1.2.
#[tokio::test]
async fn a_server_of_tls_1_2_is_refused() {
    let mut hello = vec![2, 0, 0, 38, 3, 3];
    hello.extend([9; 32]);
    hello.extend([0, 0xc0, 0x2b, 0]);
    let record = [&[22, 3, 3, 0, 42], &hello[..]].concat();
    let (near, mut far) = stream();
    far.write_all(&record).await.unwrap();
    let error = ours(Box::new(near)).await.map(drop).unwrap_err();
    assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
}

/// One side that shows and signs what a test wants.
#[derive(Debug)]
struct Liar {
    key: Arc<CertifiedKey>,
    is_raw: bool,
}

impl Liar {
    fn new(shown: Vec<Vec<u8>>, signs: Arc<dyn SigningKey>) -> Arc<Self> {
        let shown = shown.into_iter().map(CertificateDer::from).collect();
        Arc::new(Self {
            key: Arc::new(CertifiedKey::new(shown, signs)),
            is_raw: true,
        })
    }
}

impl ResolvesServerCert for Liar {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key))
    }

    fn only_raw_public_keys(&self) -> bool {
        self.is_raw
    }
}

impl ResolvesClientCert for Liar {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.key))
    }

    fn only_raw_public_keys(&self) -> bool {
        self.is_raw
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What our client says to a server that shows these bytes and signs with this key, and what it says when it only asks who is there.
async fn said_to_server(shown: &[u8], signs: u8) -> [TlsError; 2] {
    let config = || {
        server_config(Liar::new(
            vec![shown.to_vec()],
            Arc::new(Signing(auth(signs))),
        ))
    };
    let (near, _) = shake(ours, async |stream| accept_with(config(), stream).await).await;
    let (one, other) = stream();
    let (identified, _) = tokio::join!(
        ClientTls::identify(Box::new(one)),
        accept_with(config(), Box::new(other))
    );
    [near.map(drop).unwrap_err(), identified.unwrap_err()]
}

/// What our server says to a client that shows these bytes and signs with this key.
async fn said_to_client(shown: Vec<Vec<u8>>, signs: u8) -> TlsError {
    let verifier = Arc::new(OneServer::new(auth(2).public()));
    let config = client_config(verifier, Liar::new(shown, Arc::new(Signing(client(signs)))));
    let (_, far) = shake(async |stream| connect_with(config, stream).await, theirs).await;
    far.map(drop).unwrap_err()
}

/// Forms of a key that are not the one form: each of them names the same key to some reader, or none.
fn other_forms(key: [u8; 44]) -> Vec<Vec<u8>> {
    let with = |at: usize, byte: u8| {
        let mut bytes = key;
        bytes[at] = byte;
        bytes.to_vec()
    };
    let null_parameters = [
        &b"\x30\x2c\x30\x07\x06\x03\x2b\x65\x70\x05\x00\x03\x21\x00"[..],
        &key[12..],
    ];
    let long_length = [&b"\x30\x81\x2a"[..], &key[2..]];
    let small_order = [&key[..12], &[1], &[0; 31]];
    vec![
        with(8, 0x6e),  // X25519
        with(8, 0x71),  // Ed448
        with(11, 1),    // an unused bit
        with(10, 0x20), // one byte less
        [&key[..], &[0]].concat(),
        key[..43].to_vec(),
        key[12..].to_vec(),
        Vec::new(),
        null_parameters.concat(),
        long_length.concat(),
        small_order.concat(),
        [&key[..12], &[0xff; 32]].concat(),
        include_bytes!("tests/certificate.der").to_vec(),
    ]
}

#[tokio::test]
async fn a_key_in_any_other_form_is_refused_by_both_sides() {
    for shown in other_forms(encode_key(&auth(2).public())) {
        for error in said_to_server(&shown, 2).await {
            assert!(
                !matches!(error, TlsError::Broken { .. }),
                "{shown:x?}: {error}"
            );
        }
    }
    for shown in other_forms(encode_key(&client(1).public())) {
        let error = said_to_client(vec![shown.clone()], 1).await;
        assert!(
            !matches!(error, TlsError::Broken { .. }),
            "{shown:x?}: {error}"
        );
    }
    let two = vec![encode_key(&client(1).public()).to_vec(); 2];
    assert_eq!(said_to_client(two, 1).await, TlsError::NoKey);
}

#[tokio::test]
async fn a_key_that_its_owner_does_not_hold_is_refused_by_both_sides() {
    let shown = encode_key(&auth(2).public());
    let errors = said_to_server(&shown, 3).await;
    assert_eq!(errors, [TlsError::NotProven, TlsError::NotProven]);
    let shown = encode_key(&client(1).public()).to_vec();
    assert_eq!(said_to_client(vec![shown], 3).await, TlsError::NotProven);
}

#[tokio::test]
async fn certificates_instead_of_raw_keys_are_refused() {
    let certificate = vec![include_bytes!("tests/certificate.der").to_vec()];
    let liar = |signs: Arc<dyn SigningKey>| {
        let mut liar = Liar::new(certificate.clone(), signs);
        Arc::get_mut(&mut liar).unwrap().is_raw = false;
        liar
    };
    let config = server_config(liar(Arc::new(Signing(auth(2)))));
    let (near, _) = shake(ours, async |stream| accept_with(config, stream).await).await;
    assert!(near.is_err());
    let verifier = Arc::new(OneServer::new(auth(2).public()));
    let config = client_config(verifier, liar(Arc::new(Signing(client(1)))));
    let (_, far) = shake(async |stream| connect_with(config, stream).await, theirs).await;
    let error = far.map(drop).unwrap_err();
    assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
}

#[tokio::test]
async fn a_client_that_shows_no_key_is_refused() {
    let verifier = Arc::new(OneServer::new(auth(2).public()));
    let config = client_config(verifier, Arc::new(NoIdentity));
    let (near, far) = shake(async |stream| connect_with(config, stream).await, theirs).await;
    assert_eq!(far.map(drop), Err(TlsError::NoKey));
    assert!(near.is_err());
}

#[tokio::test]
async fn nothing_can_be_resumed() {
    let mut config = our_config();
    config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(8)));
    config.enable_early_data = true;
    let connector = TlsConnector::from(Arc::new(config));
    for _ in 0..2 {
        let (near, far) = stream();
        let (near, far) = tokio::join!(
            connector.connect(no_name(), Box::new(near) as BoxedStream),
            theirs(Box::new(far))
        );
        let (mut near, (mut far, _)) = (near.unwrap(), far.unwrap());
        far.write_all(b"after the handshake").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0; 19]).await.unwrap();
        let connection = near.get_ref().1;
        assert_eq!(connection.tls13_tickets_received(), 0);
        assert_eq!(
            connection.handshake_kind(),
            Some(rustls::HandshakeKind::Full)
        );
        assert!(!connection.is_early_data_accepted());
    }
}

#[tokio::test]
async fn the_first_message_names_nobody_and_offers_one_way_only() {
    let (near, mut far) = stream();
    let hello = tokio::join!(ours(Box::new(near)), async {
        let mut bytes = vec![0; 4096];
        let count = far.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        drop(far);
        bytes
    });
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut Cursor::new(&hello.1)).unwrap();
    let accepted = acceptor.accept().ok().flatten().unwrap();
    let hello = accepted.client_hello();
    assert_eq!(hello.server_name(), None);
    let protocols: Vec<_> = hello.alpn().unwrap().collect();
    assert_eq!(protocols, [ALPN]);
    assert_eq!(hello.signature_schemes(), [SignatureScheme::ED25519]);
    assert_eq!(
        hello.named_groups(),
        Some(&[rustls::NamedGroup::X25519][..])
    );
    let raw = [rustls::server::CertificateType::RawPublicKey];
    assert_eq!(hello.server_cert_types(), Some(&raw[..]));
    assert_eq!(hello.client_cert_types(), Some(&raw[..]));
    // The signal that renegotiation is safe is no suite, and says nothing to a server of TLS 1.3.
    let signal = rustls::CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV;
    let is_1_3 = |suite: &rustls::CipherSuite| u16::from(*suite) >> 8 == 0x13;
    let mut suites = hello.cipher_suites().iter();
    assert!(suites.all(|suite| is_1_3(suite) || *suite == signal));
}

#[tokio::test]
async fn who_only_asks_who_is_there_sends_nothing_of_its_own() {
    let (near, far) = stream();
    let (far, near) = tokio::join!(theirs(Box::new(far)), async {
        let key = ClientTls::identify(Box::new(near)).await;
        key.unwrap()
    });
    assert_eq!(near, auth(2).public());
    let error = far.map(drop).unwrap_err();
    assert!(matches!(error, TlsError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_stream_that_ends_anywhere_in_the_handshake_ends_both_sides() {
    let cuts = |to: u64| (0..to).step_by(37);
    let up = cuts(400).map(|at| Faults {
        cut_up: Some(at),
        ..Faults::default()
    });
    let down = cuts(400).map(|at| Faults {
        cut_down: Some(at),
        ..Faults::default()
    });
    for faults in up.chain(down) {
        let (near, far) = pair(faults);
        let (near, far) = tokio::join!(ours(Box::new(near)), theirs(Box::new(far)));
        let errors = [near.map(drop).err(), far.map(drop).err()];
        assert!(errors.iter().any(Option::is_some), "{faults:?}");
        for error in errors.into_iter().flatten() {
            assert!(matches!(error, TlsError::Broken { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn garbage_is_told_from_a_stream_that_breaks() {
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0; 64],
        &[22; 4096],
    ] {
        let (mut near, far) = stream();
        near.write_all(garbage).await.unwrap();
        near.shutdown().await.unwrap();
        let error = theirs(Box::new(far)).await.map(drop).unwrap_err();
        assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
        let (near, mut far) = stream();
        far.write_all(garbage).await.unwrap();
        let error = ours(Box::new(near)).await.map(drop).unwrap_err();
        assert!(matches!(error, TlsError::OtherProtocol { .. }), "{error}");
    }
}

#[test]
fn a_key_signs_a_handshake_of_its_own_side_and_nothing_else() {
    fn signs<K: Proves>(key: Arc<K>, message: &[u8]) -> bool {
        let signer = Signing(key).choose_scheme(&[SignatureScheme::ED25519]);
        signer.unwrap().sign(message).is_ok()
    }
    assert_eq!((CLIENT_CONTEXT.len(), SERVER_CONTEXT.len()), (98, 98));
    let of = |context: &str| [context.as_bytes(), &[1; 32]].concat();
    assert!(signs(client(1), &of(CLIENT_CONTEXT)) && signs(auth(1), &of(SERVER_CONTEXT)));
    assert!(!signs(client(1), &of(SERVER_CONTEXT)) && !signs(auth(1), &of(CLIENT_CONTEXT)));
    assert!(!signs(client(1), &of("maimo head v1")));
    assert!(!signs(auth(1), &of("maimo receipt v1")));
    let other = [SignatureScheme::ED448, SignatureScheme::RSA_PSS_SHA256];
    assert!(Signing(client(1)).choose_scheme(&other).is_none());
}

/// From RFC 8410, section 10.1: the public key in its first example.
#[test]
fn a_key_is_shown_as_the_standard_s_example() {
    let example = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\x19\xbf\x44\x09\x69\x84\xcd\xfe\
        \x85\x41\xba\xc1\x67\xdc\x3b\x96\xc8\x50\x86\xaa\x30\xb6\xb6\xcb\x0c\x5c\x38\xad\x70\x31\x66\xe1";
    let key = parse_key::<Auth>(example).unwrap();
    assert_eq!(&encode_key(&key), example);
    assert!(parse_key::<Client>(&example[..43]).is_none());
}

#[test]
fn nothing_secret_is_shown_for_debugging() {
    let (tls, server) = (ClientTls::new(&client(1)), ServerTls::new(&auth(1)));
    assert_eq!(format!("{tls:?} {server:?}"), "ClientTls(..) ServerTls(..)");
    let shown = format!("{:?} {:?}", Identity::new(client(1)), Signing(auth(1)));
    assert_eq!(shown, "Identity(..) Signing(..)");
}
