//! How a control port is told that we may use it (control-spec §3.5, §3.21, §3.24).
//!
//! Of the ways that tor offers, the one that gives nothing away to whoever else may listen there comes first: with SAFECOOKIE it must prove that it
//! knows the cookie before it learns anything. A plain cookie is sent only from a file that our own configuration names, for the file that a stranger
//! names may be anything of that length.

use core::fmt;
use std::{
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXUPPER_PERMISSIVE as HEX;
use ring::hmac;
use zeroize::Zeroizing;

use super::{
    control::{ControlConnection, broken},
    reply,
};
use crate::transport::TransportError;

const COOKIE_BYTES: usize = 32;
const NONCE_BYTES: usize = 32;
const SERVER_CONTEXT: &[u8] = b"Tor safe cookie authentication server-to-controller hash";
const CLIENT_CONTEXT: &[u8] = b"Tor safe cookie authentication controller-to-server hash";

/// What our configuration says of a control port's secrets; tor itself says where its cookie is.
#[derive(Clone, Default)]
pub struct ControlSecret {
    /// The cookie's file, where tor's own word for it does not lead there.
    pub cookie_file: Option<PathBuf>,
    /// The password, where there is one.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for ControlSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlSecret(..)")
    }
}

impl ControlSecret {
    /// Makes a connection one that may command.
    pub(super) async fn authenticate(
        &self,
        connection: &mut ControlConnection,
    ) -> Result<(), TransportError> {
        let reply = connection
            .command("PROTOCOLINFO", b"PROTOCOLINFO 1")
            .await?;
        let offered = ProtocolInfo::parse(&reply.lines)?;
        let cookie_file = self.cookie_file.as_ref().or(offered.cookie_file.as_ref());
        let mut cookie_failed = None;
        if offered.offers("SAFECOOKIE")
            && let Some(file) = cookie_file
        {
            match read_cookie(file.clone()).await {
                Ok(cookie) => return safe_cookie(connection, &cookie).await,
                Err(error) => cookie_failed = Some(error),
            }
        } else if offered.offers("COOKIE")
            && let Some(file) = self.cookie_file.clone()
        {
            match read_cookie(file).await {
                Ok(cookie) => {
                    let hex = Zeroizing::new(HEX.encode(&*cookie));
                    return authenticate(connection, hex.as_bytes()).await;
                }
                Err(error) => cookie_failed = Some(error),
            }
        }
        if offered.offers("HASHEDPASSWORD")
            && let Some(password) = &self.password
        {
            // As long as it may ever get: a buffer that grows leaves its old part in memory.
            let mut quoted = Zeroizing::new(Vec::with_capacity(2 * password.len() + 2));
            reply::quote(password.as_bytes(), &mut quoted);
            return authenticate(connection, &quoted).await;
        }
        if offered.offers("NULL") {
            return authenticate(connection, b"").await;
        }
        Err(match cookie_failed {
            Some(error) => TransportError::Tor {
                detail: format!("its control cookie cannot be read: {}", error.kind()),
                hint: "let this user read it (its group is often debian-tor or tor), or set a control password",
            },
            None => TransportError::Tor {
                detail: "its control port takes no secret that we have".to_owned(),
                hint: "set CookieAuthentication 1 in torrc, or a password in both configurations",
            },
        })
    }
}

/// What a control port says of itself before anything else.
#[derive(Debug, Default, PartialEq, Eq)]
struct ProtocolInfo {
    /// Names of what it takes, with commas between them.
    methods: Vec<u8>,
    cookie_file: Option<PathBuf>,
}

impl ProtocolInfo {
    fn parse(lines: &[Vec<u8>]) -> Result<Self, TransportError> {
        let methods = lines
            .iter()
            .find_map(|line| line.strip_prefix(b"AUTH METHODS="))
            .ok_or_else(|| broken("it does not say how to authenticate"))?;
        let end = methods.iter().position(|byte| *byte == b' ');
        let (names, rest) = methods.split_at(end.unwrap_or(methods.len()));
        let mut found = Self {
            methods: names.to_vec(),
            cookie_file: None,
        };
        if let Some(quoted) = rest.strip_prefix(b" COOKIEFILE=") {
            let (path, _) =
                reply::unquote(quoted).ok_or_else(|| broken("its cookie has no name"))?;
            found.cookie_file = Some(std::ffi::OsString::from_vec(path).into());
        }
        Ok(found)
    }

    fn offers(&self, method: &str) -> bool {
        self.methods
            .split(|byte| *byte == b',')
            .any(|name| name == method.as_bytes())
    }
}

async fn authenticate(
    connection: &mut ControlConnection,
    secret: &[u8],
) -> Result<(), TransportError> {
    const COMMAND: &[u8] = b"AUTHENTICATE ";
    let mut line = Zeroizing::new(Vec::with_capacity(COMMAND.len() + secret.len()));
    line.extend_from_slice(COMMAND);
    line.extend_from_slice(secret);
    let reply = connection.ask(line.trim_ascii_end()).await?;
    if reply.status == reply::Reply::OK {
        return Ok(());
    }
    Err(TransportError::Tor {
        detail: "its control port refuses our secret".to_owned(),
        hint: "check the control password, or the cookie's file",
    })
}

async fn safe_cookie(
    connection: &mut ControlConnection,
    cookie: &[u8; COOKIE_BYTES],
) -> Result<(), TransportError> {
    let mut client_nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut client_nonce).map_err(|_| TransportError::Tor {
        detail: "the system gives no random bytes".to_owned(),
        hint: "try again",
    })?;
    let line = format!("AUTHCHALLENGE SAFECOOKIE {}", HEX.encode(&client_nonce));
    let reply = connection.command("AUTHCHALLENGE", line.as_bytes()).await?;
    let (server_hash, server_nonce) = parse_challenge(&reply.lines)
        .ok_or_else(|| broken("its answer to our challenge is none"))?;

    let mut message = Zeroizing::new([0; COOKIE_BYTES + 2 * NONCE_BYTES]);
    message[..COOKIE_BYTES].copy_from_slice(cookie);
    message[COOKIE_BYTES..COOKIE_BYTES + NONCE_BYTES].copy_from_slice(&client_nonce);
    message[COOKIE_BYTES + NONCE_BYTES..].copy_from_slice(&server_nonce);
    let server = hmac::Key::new(hmac::HMAC_SHA256, SERVER_CONTEXT);
    hmac::verify(&server, &*message, &server_hash).map_err(|_| TransportError::Tor {
        detail: "what listens at its control port does not know its cookie".to_owned(),
        hint: "does another program listen there, or has tor just been started again?",
    })?;
    let client = hmac::Key::new(hmac::HMAC_SHA256, CLIENT_CONTEXT);
    let hash = hmac::sign(&client, &*message);
    authenticate(connection, HEX.encode(hash.as_ref()).as_bytes()).await
}

/// Reads `AUTHCHALLENGE SERVERHASH=... SERVERNONCE=...`.
fn parse_challenge(lines: &[Vec<u8>]) -> Option<([u8; 32], [u8; NONCE_BYTES])> {
    let [line] = lines else { return None };
    let mut words = line.split(|byte| *byte == b' ');
    if words.next()? != b"AUTHCHALLENGE" {
        return None;
    }
    let mut value = |name: &[u8]| -> Option<[u8; 32]> {
        let hex = words.next()?.strip_prefix(name)?;
        HEX.decode(hex).ok()?.try_into().ok()
    };
    Some((value(b"SERVERHASH=")?, value(b"SERVERNONCE=")?))
}

/// Reads a cookie: a regular file of just its length, so that no pipe and no device holds us up.
async fn read_cookie(file: PathBuf) -> io::Result<Zeroizing<[u8; COOKIE_BYTES]>> {
    tokio::task::spawn_blocking(move || read_cookie_now(&file))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
}

fn read_cookie_now(file: &Path) -> io::Result<Zeroizing<[u8; COOKIE_BYTES]>> {
    let found = std::fs::metadata(file)?;
    if !found.is_file() || found.len() != 32 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut cookie = Zeroizing::new([0; COOKIE_BYTES]);
    File::open(file)?.read_exact(&mut *cookie)?;
    Ok(cookie)
}

#[cfg(test)]
mod tests;
