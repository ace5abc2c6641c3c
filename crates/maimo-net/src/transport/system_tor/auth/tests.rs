//! Control ports that are as tor's are, and some that are not.

use core::future::Future;

use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};

use super::*;

const COOKIE: [u8; COOKIE_BYTES] = [0xc7; COOKIE_BYTES];

/// The other end: reads commands, answers them.
struct Port(BufReader<DuplexStream>);

impl Port {
    /// Returns a command as it came; empty once the connection is over.
    async fn read(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn say(&mut self, text: &str) {
        // Whoever has heard enough may be gone.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// Says how it may be spoken to, as tor 0.4.9 does.
    async fn introduce(&mut self, auth: &str) {
        assert_eq!(self.read().await, "PROTOCOLINFO 1");
        let text = format!(
            "250-PROTOCOLINFO 1\r\n250-AUTH {auth}\r\n250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n"
        );
        self.say(&text).await;
    }
}

/// Authenticates against what `port` does; returns how both ended.
async fn against<T, F: Future<Output = T>>(
    secret: ControlSecret,
    port: impl FnOnce(Port) -> F,
) -> (Result<(), TransportError>, T) {
    let (near, far) = duplex(1 << 20);
    let mut connection = ControlConnection::new(Box::new(near));
    let authenticated = async move { secret.authenticate(&mut connection).await };
    tokio::join!(authenticated, port(Port(BufReader::new(far))))
}

fn cookie_file(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn configured(file: &NamedTempFile) -> ControlSecret {
    ControlSecret {
        cookie_file: Some(file.path().to_owned()),
        password: None,
    }
}

fn with_password(password: &str) -> ControlSecret {
    ControlSecret {
        cookie_file: None,
        password: Some(password.to_owned().into()),
    }
}

/// Does as tor does with AUTHCHALLENGE, from a cookie that may be another; returns the next command and what it should have been.
async fn challenge(port: &mut Port, cookie: &[u8]) -> (String, String) {
    let asked = port.read().await;
    let client_nonce = asked.strip_prefix("AUTHCHALLENGE SAFECOOKIE ").unwrap();
    let client_nonce = HEX.decode(client_nonce.as_bytes()).unwrap();
    let server_nonce = [0x5e; NONCE_BYTES];
    let message = [cookie, &client_nonce, &server_nonce].concat();
    let hash = |context| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, context);
        HEX.encode(hmac::sign(&key, &message).as_ref())
    };
    let answer = format!(
        "250 AUTHCHALLENGE SERVERHASH={} SERVERNONCE={}\r\n",
        hash(SERVER_CONTEXT),
        HEX.encode(&server_nonce)
    );
    port.say(&answer).await;
    let next = port.read().await;
    if !next.is_empty() {
        port.say("250 OK\r\n").await;
    }
    (next, format!("AUTHENTICATE {}", hash(CLIENT_CONTEXT)))
}

#[tokio::test]
async fn safe_cookie_comes_first_and_from_the_file_that_tor_names() {
    let file = cookie_file(&COOKIE);
    let path = file.path().to_str().unwrap().to_owned();
    let (result, (sent, expected)) = against(with_password("unused"), async |mut port: Port| {
        let auth = format!("METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD COOKIEFILE=\"{path}\"");
        port.introduce(&auth).await;
        challenge(&mut port, &COOKIE).await
    })
    .await;
    assert_eq!(result, Ok(()));
    assert_eq!(sent, expected);
}

/// Without the check of its hash, whoever listens there would be handed our onion key next.
#[tokio::test]
async fn a_port_that_does_not_know_the_cookie_learns_nothing() {
    let file = cookie_file(&COOKIE);
    let (result, (sent, _)) = against(configured(&file), async |mut port: Port| {
        port.introduce("METHODS=SAFECOOKIE").await;
        challenge(&mut port, &[0; COOKIE_BYTES]).await
    })
    .await;
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("does not know its cookie")
    );
    assert_eq!(sent, "");
}

#[tokio::test]
async fn a_plain_cookie_is_sent_only_from_a_file_of_our_configuration() {
    let file = cookie_file(&COOKIE);
    let path = file.path().to_str().unwrap().to_owned();
    let auth = format!("METHODS=COOKIE COOKIEFILE=\"{path}\"");
    let serve = async |mut port: Port| {
        port.introduce(&auth).await;
        let sent = port.read().await;
        port.say("250 OK\r\n").await;
        sent
    };
    let (result, sent) = against(configured(&file), serve).await;
    assert_eq!(result, Ok(()));
    assert_eq!(sent, format!("AUTHENTICATE {}", HEX.encode(&COOKIE)));

    let serve = async |mut port: Port| {
        port.introduce(&auth).await;
        port.read().await
    };
    let (result, sent) = against(ControlSecret::default(), serve).await;
    assert!(matches!(result, Err(TransportError::Tor { .. })));
    assert_eq!(sent, "");
}

#[tokio::test]
async fn a_password_is_quoted_and_its_refusal_does_not_repeat_it() {
    let (result, sent) = against(with_password(r#"pass "word\"#), async |mut port: Port| {
        port.introduce("METHODS=HASHEDPASSWORD").await;
        let sent = port.read().await;
        port.say("515 Authentication failed: pass word\r\n").await;
        sent
    })
    .await;
    assert_eq!(sent, r#"AUTHENTICATE "pass \"word\\""#);
    let error = result.unwrap_err().to_string();
    assert_eq!(
        error,
        "tor does not work: its control port refuses our secret"
    );
}

#[tokio::test]
async fn a_password_with_a_line_end_is_no_second_command() {
    let (result, sent) = against(
        with_password("x\"\r\nSIGNAL HALT\r\n"),
        async |mut port: Port| {
            port.introduce("METHODS=HASHEDPASSWORD").await;
            port.read().await
        },
    )
    .await;
    assert!(result.is_err());
    assert_eq!(sent, "");
}

#[tokio::test]
async fn an_open_port_is_entered_without_a_secret() {
    let (result, sent) = against(ControlSecret::default(), async |mut port: Port| {
        port.introduce("METHODS=NULL").await;
        let sent = port.read().await;
        port.say("250 OK\r\n").await;
        sent
    })
    .await;
    assert_eq!((result, sent.as_str()), (Ok(()), "AUTHENTICATE"));
}

#[tokio::test]
async fn what_is_no_cookie_is_not_read() {
    let short = cookie_file(&COOKIE[1..]);
    let long = cookie_file(&[COOKIE.as_slice(), b"x"].concat());
    for secret in [
        configured(&short),
        configured(&long),
        ControlSecret {
            cookie_file: Some("/dev/zero".into()),
            password: None,
        },
    ] {
        let (result, sent) = against(secret, async |mut port: Port| {
            port.introduce("METHODS=SAFECOOKIE").await;
            port.read().await
        })
        .await;
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("its control cookie cannot be read"),
            "{error}"
        );
        assert_eq!(sent, "");
    }
}

#[tokio::test]
async fn a_port_that_is_none_is_an_error() {
    let endless = "x".repeat(1 << 17);
    let file = cookie_file(&COOKIE);
    for said in [
        "",
        "HTTP/1.0 400 Bad Request\r\n\r\n",
        "250 OK\r\n",
        "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE COOKIEFILE=\"open\r\n250 OK\r\n",
        "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=SAFECOOKIE\r\n250 OK\r\n250 AUTHCHALLENGE SERVERHASH=00\r\n",
        "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=SAFECOOKIE\r\n250 OK\r\n513 no\r\n",
        "510 Unrecognized command\r\n",
        endless.as_str(),
    ] {
        let (result, ()) = against(configured(&file), async |mut port: Port| {
            port.say(said).await;
        })
        .await;
        assert!(
            matches!(result, Err(TransportError::Tor { .. })),
            "{said:.40}"
        );
    }
}

#[test]
fn protocol_information_of_a_debian_tor_is_read() {
    let lines: Vec<Vec<u8>> = [
        r"PROTOCOLINFO 1",
        r#"AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/run/tor/control.authcookie""#,
        r#"VERSION Tor="0.4.9.11""#,
        "OK",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec();
    let expected = ProtocolInfo {
        methods: b"COOKIE,SAFECOOKIE".to_vec(),
        cookie_file: Some("/run/tor/control.authcookie".into()),
    };
    let found = ProtocolInfo::parse(&lines).unwrap();
    assert!(found.offers("SAFECOOKIE") && !found.offers("SAFE") && !found.offers("NULL"));
    assert_eq!(found, expected);
}
