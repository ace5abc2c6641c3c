//! Keys of the nodes, made before any of them starts: fingerprints stand in their configurations.

use std::{
    fs,
    io::Write,
    net::SocketAddrV4,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    error::NetworkError,
    node,
    relay::{Authority, Relay},
    torrc,
};

/// Makes the keys of a relay in its folder; those of an authority if it has a directory port.
pub(crate) fn make(
    nickname: &str,
    folder: &Path,
    or_address: SocketAddrV4,
    dir_port: Option<u16>,
) -> Result<Relay, NetworkError> {
    node::prepare(folder)?;
    // A tor that only lists its fingerprint makes its keys, and takes no authority without a network.
    let file = folder.join("torrc");
    let lines = format!(
        "{}{}",
        torrc::node(folder),
        torrc::relay(nickname, or_address)
    );
    fs::write(&file, lines).map_err(NetworkError::io("write", &file))?;
    let mut tor = node::tor_command(&node::program("tor")?, folder);
    tor.args(["--list-fingerprint", "--hush"]);
    run(nickname, "tor", tor, b"")?;
    let authority = match dir_port {
        None => None,
        Some(dir_port) => Some(Authority {
            v3ident: make_certificate(
                nickname,
                folder,
                SocketAddrV4::new(*or_address.ip(), dir_port),
            )?,
            dir_port,
        }),
    };
    Ok(Relay {
        nickname: nickname.to_owned(),
        rsa_id: fingerprint(nickname, folder, "fingerprint", 40)?,
        ed25519_id: fingerprint(nickname, folder, "fingerprint-ed25519", 43)?,
        address: *or_address.ip(),
        or_port: or_address.port(),
        authority,
    })
}

/// Reads an identity of a node that has made its keys.
fn fingerprint(
    nickname: &str,
    folder: &Path,
    name: &str,
    length: usize,
) -> Result<String, NetworkError> {
    let file = torrc::data(folder).join(name);
    let text = fs::read_to_string(&file).map_err(NetworkError::io("read", &file))?;
    // "nickname fingerprint"
    match text.split_whitespace().nth(1) {
        Some(word) if word.len() == length => Ok(word.to_owned()),
        _ => Err(NetworkError::Keys {
            node: nickname.to_owned(),
            program: "tor",
            output: text,
        }),
    }
}

/// Makes the keys and the certificate by which an authority votes; returns its identity.
fn make_certificate(
    nickname: &str,
    folder: &Path,
    dir_address: SocketAddrV4,
) -> Result<String, NetworkError> {
    let keys = torrc::data(folder).join("keys");
    fs::create_dir_all(&keys).map_err(NetworkError::io("make", &keys))?;
    node::private(&keys)?;
    let certificate = keys.join("authority_certificate");
    let mut gencert = Command::new(node::program("tor-gencert")?);
    gencert
        .args(["--create-identity-key", "--passphrase-fd", "0", "-m", "12"])
        .arg("-a")
        .arg(dir_address.to_string())
        .arg("-i")
        .arg(keys.join("authority_identity_key"))
        .arg("-s")
        .arg(keys.join("authority_signing_key"))
        .arg("-c")
        .arg(&certificate);
    run(
        nickname,
        "tor-gencert",
        gencert,
        b"a network without secrets\n",
    )?;
    let text = fs::read_to_string(&certificate).map_err(NetworkError::io("read", &certificate))?;
    text.lines()
        .find_map(|line| line.strip_prefix("fingerprint "))
        .map(str::to_owned)
        .ok_or_else(|| NetworkError::Keys {
            node: nickname.to_owned(),
            program: "tor-gencert",
            output: text,
        })
}

/// Runs a program to its end.
fn run(
    nickname: &str,
    program: &'static str,
    mut command: Command,
    input: &[u8],
) -> Result<(), NetworkError> {
    let path = command.get_program().to_owned();
    let failed = |output: String| NetworkError::Keys {
        node: nickname.to_owned(),
        program,
        output,
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NetworkError::io("start", path))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read ends with an error of its own, which says more.
        let _ = stdin.write_all(input);
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(())
}
