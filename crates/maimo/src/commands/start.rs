//! `start`: the node as a service, until it is told to stop.

use std::{
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use maimo_core::address::Network as Kind;
use serde::Serialize;

use super::Outcome;
use crate::{
    config::{Config, Way},
    context::Context,
    control::{self, CountConnections},
    daemon::{self, Daemon, Entrance, Standing, Stop, Tally},
    error::{CommandError, Exit},
    network::announced_by_tcp,
    ui::{Page, Report, Told, shown_path},
};

/// Run this node until it is interrupted: serve those whom it stores for
///
/// Says `ready` with who and where it is once clients can come in. With `tor` that is an onion service, and no port of this machine is
/// open; with `tcp` it listens where the configuration says (`listen`). A first interrupt lets what runs end, a second ends it at once;
/// either is safe, for what was acknowledged is on disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args, ctx: &Context) -> Outcome {
    // Before anything is opened: an interrupt from now on ends in order.
    let stop = Stop::on_signals()?;
    let provider = ctx.provider().map_err(|error| {
        if !error.is_in_use() {
            return error;
        }
        let home = shown_path(&ctx.places.provider);
        CommandError::new(Exit::Failed, "local_io", format!("another process has {home} open"))
            .hint("does this node run already? `maimo status` tells; another node needs a home of its own (--home)")
    })?;
    let socket = control::socket_of(&ctx.places.provider);
    let tally = Arc::<Tally>::default();
    let counts = Arc::clone(&tally);
    let connections: CountConnections = Arc::new(move || counts.open_connections());
    let _commands = control::serve(provider.clone(), &socket, Some(connections))
        .map_err(|error| CommandError::io("listen for commands at", &socket, &error))?;
    let daemon = Daemon {
        provider,
        network: ctx.network.clone(),
        entrances: entrances(ctx)?,
        drain: Duration::from_secs(ctx.config.drain_seconds.value.into()),
        tally,
        tell_every: daemon::TELL,
    };
    let ui = ctx.ui.clone();
    ctx.ui.link().listen(move |tor| ui.say(&tor.to_string()));
    daemon.run(stop, |standing| ctx.ui.report(&Ready(standing.to_vec())))?;
    ctx.ui.say("Stopped.");
    Ok(Box::new(Told))
}

/// Returns the ways in that the configuration names.
fn entrances(ctx: &Context) -> Result<Vec<Entrance>, CommandError> {
    let config = &ctx.config;
    let mut entrances = Vec::new();
    for way in config.transport.value.as_slice() {
        entrances.push(match way {
            Way::Tor | Way::SystemTor => Entrance::Onion(*way),
            Way::Tcp => tcp(config)?,
        });
    }
    if !config.listen.value.is_empty() && !config.transport.value.as_slice().contains(&Way::Tcp) {
        return Err(CommandError::config(
            "the node is told to listen on addresses of this machine, and not to use tcp",
        )
        .hint(
            "set transport = \"tor,tcp\" to do both: whoever scans ports then finds a node here",
        ));
    }
    Ok(entrances)
}

fn tcp(config: &Config) -> Result<Entrance, CommandError> {
    let listen = config.listen.value.clone();
    if listen.is_empty() {
        return Err(CommandError::config("nothing says where to listen").hint(
            "set listen = [\"192.0.2.1:4243\"] in the configuration, an address of this machine",
        ));
    }
    let announce = announced_by_tcp(config);
    if announce.is_empty() && listen.iter().all(|at| at.ip().is_unspecified()) {
        return Err(
            CommandError::config("nothing says by which address others reach this node")
                .hint("set announce = [\"node.example:4243\"] in the configuration"),
        );
    }
    Ok(Entrance::Tcp { listen, announce })
}

struct Ready(Vec<Standing>);

/// Who and where the node is on one network.
#[derive(Serialize)]
struct FaceView {
    network: &'static str,
    identity: String,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct ReadyView {
    identity: String,
    addresses: Vec<String>,
    networks: Vec<FaceView>,
}

impl Ready {
    fn faces(&self) -> Vec<FaceView> {
        let view = |standing: &Standing| FaceView {
            network: match standing.kind {
                Kind::Onion => "onion",
                Kind::Tcp => "tcp",
            },
            identity: standing.identity.to_string(),
            addresses: standing.addresses.iter().map(ToString::to_string).collect(),
        };
        self.0.iter().map(view).collect()
    }
}

impl Report for Ready {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for face in self.faces() {
            writeln!(page, "serving by {} as {}", face.network, face.identity)?;
            for address in face.addresses {
                writeln!(page, "  {address}")?;
            }
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let networks = self.faces();
        let view = ReadyView {
            identity: networks
                .first()
                .map(|face| face.identity.clone())
                .unwrap_or_default(),
            addresses: networks
                .iter()
                .flat_map(|face| face.addresses.clone())
                .collect(),
            networks,
        };
        page.json("ready", &view)
    }
}
