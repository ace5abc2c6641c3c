//! Keys of authorities, which must be there before any node starts: their fingerprints stand in everybody's configuration.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    error::NetworkError,
    node,
    relay::{Authority, Relay},
    torrc,
};

/// Makes the keys of an authority in its folder.
pub(crate) fn make_authority(
    nickname: &str,
    folder: &Path,
    or_port: u16,
    dir_port: u16,
) -> Result<Relay, NetworkError> {
    node::prepare(folder)?;
    let v3ident = make_certificate(nickname, folder, dir_port)?;
    // A tor that only lists its fingerprint makes its keys, and takes no authority without a network.
    let file = folder.join("torrc");
    let lines = format!(
        "{}{}",
        torrc::data_directory(&folder.join("data")),
        torrc::relay(nickname, or_port)
    );
    fs::write(&file, lines).map_err(NetworkError::io("write", &file))?;
    let mut tor = node::tor_command(&node::program("tor")?, folder);
    tor.args(["--list-fingerprint", "--hush"]);
    run(nickname, "tor", tor, b"")?;
    let (rsa_id, ed25519_id) = fingerprints(nickname, folder)?;
    Ok(Relay {
        nickname: nickname.to_owned(),
        rsa_id,
        ed25519_id,
        or_port,
        authority: Some(Authority { v3ident, dir_port }),
    })
}

/// Returns the RSA and Ed25519 identities of a node that has made its keys.
pub(crate) fn fingerprints(
    nickname: &str,
    folder: &Path,
) -> Result<(String, String), NetworkError> {
    let read = |name: &str, length: usize| {
        let file = folder.join("data").join(name);
        let text = fs::read_to_string(&file).unwrap_or_default();
        // "nickname fingerprint"
        match text.split_whitespace().nth(1) {
            Some(word) if word.len() == length => Ok(word.to_owned()),
            _ => Err(NetworkError::Keys {
                node: nickname.to_owned(),
                program: "tor",
                output: format!("no fingerprint in {}", file.display()),
            }),
        }
    };
    Ok((read("fingerprint", 40)?, read("fingerprint-ed25519", 43)?))
}

/// Makes the keys and the certificate by which an authority votes; returns its identity.
fn make_certificate(
    nickname: &str,
    folder: &Path,
    dir_port: u16,
) -> Result<String, NetworkError> {
    let keys = folder.join("data").join("keys");
    fs::create_dir_all(&keys).map_err(NetworkError::io("make", &keys))?;
    node::private(&keys)?;
    let certificate = keys.join("authority_certificate");
    let mut gencert = Command::new(node::program("tor-gencert")?);
    gencert
        .args(["--create-identity-key", "--passphrase-fd", "0", "-m", "12"])
        .arg("-a")
        .arg(format!("127.0.0.1:{dir_port}"))
        .arg("-i")
        .arg(keys.join("authority_identity_key"))
        .arg("-s")
        .arg(keys.join("authority_signing_key"))
        .arg("-c")
        .arg(&certificate);
    run(nickname, "tor-gencert", gencert, b"a network without secrets\n")?;
    let text =
        fs::read_to_string(&certificate).map_err(NetworkError::io("read", &certificate))?;
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
