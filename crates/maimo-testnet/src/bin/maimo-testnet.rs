//! `maimo-testnet run DIR [CLIENT...]`: a private Tor network by hand, until it is interrupted.
//!
//! Says on one line of JSON what clients need: `client_torrc`, `relays` with their ids, and for each CLIENT a C tor's SOCKS and control port.

use std::{env, error::Error, fmt::Write as _, io::Write as _, path::Path, process::ExitCode};

use maimo_testnet::{Network, Relay, TorNode};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [command, folder, clients @ ..] if command == "run" => run(Path::new(folder), clients),
        _ => Err("usage: maimo-testnet run DIR [CLIENT...]".into()),
    };
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let mut message = format!("maimo-testnet: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(message, ": {error}");
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}

fn run(folder: &Path, clients: &[String]) -> Result<(), Box<dyn Error>> {
    // Before anything is started, so that an interrupt leaves nothing running.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let network = Network::start(folder)?;
    let clients: Vec<(&String, TorNode)> = clients
        .iter()
        .map(|name| Ok((name, network.client(name)?)))
        .collect::<Result<_, maimo_testnet::NetworkError>>()?;
    let relays: Vec<_> = network.relays().iter().map(relay_json).collect();
    let clients: Vec<_> = clients
        .iter()
        .map(|(name, client)| {
            format!(
                r#"{{"name":{},"socks":"{}","control":"{}","cookie":{}}}"#,
                quoted(name),
                client.socks(),
                client.control(),
                quoted(&client.cookie().to_string_lossy())
            )
        })
        .collect();
    let mut out = std::io::stdout();
    writeln!(
        out,
        r#"{{"client_torrc":{},"relays":[{}],"clients":[{}]}}"#,
        quoted(&network.client_torrc()),
        relays.join(","),
        clients.join(",")
    )?;
    out.flush()?;
    signals.forever().next();
    Ok(())
}

fn relay_json(relay: &Relay) -> String {
    let v3ident = relay
        .authority
        .as_ref()
        .map_or("null".to_owned(), |authority| quoted(&authority.v3ident));
    format!(
        r#"{{"nickname":{},"rsa_id":{},"ed25519_id":{},"or_address":"{}","v3ident":{v3ident}}}"#,
        quoted(&relay.nickname),
        quoted(&relay.rsa_id),
        quoted(&relay.ed25519_id),
        relay.or_address(),
    )
}

/// Returns a JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if c < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
