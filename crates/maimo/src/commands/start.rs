//! `start`: the node as a service, until it is told to stop.

use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use maimo_core::address::Network as Kind;
use maimo_provider::provider::Provider;
use serde::Serialize;

use super::Outcome;
use crate::{
    config::{Config, Way},
    context::Context,
    control::{self, CountConnections, Request},
    daemon::{
        self, Daemon, Entrance, Metrics, Owner, Standing, Stop, Tally, Upkeep, upkeep::Settings,
    },
    error::{CommandError, Exit},
    network::announced_by_tcp,
    relay::{self, Host},
    ui::{Page, Report, Told, shown_path},
};

/// Run this node until it is interrupted: serve those whom it stores for, and keep its own store
///
/// Says `ready` with what it does: who and where it is once clients can come in, and whose store it keeps. With `tor` that is an onion service,
/// and no port of this machine is open; with `tcp` it listens where the configuration says (`listen`). Commands for the store work as ever
/// while it runs. A first interrupt lets what runs end, a second ends it at once; either is safe, for what was acknowledged is on disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs it.
pub(crate) fn run(_args: &Args, ctx: &Context) -> Outcome {
    // Before anything is opened: an interrupt from now on ends in order.
    let stop = Stop::on_signals()?;
    let provider = provider(ctx)?;
    let entrances = match &provider {
        Some(_) => entrances(ctx)?,
        None => Vec::new(),
    };
    let owner = owner(ctx, provider.is_some())?;
    if provider.is_none() && owner.is_none() {
        return Err(CommandError::new(
            Exit::NoNode,
            "bad_input",
            "there is nothing here to run: this node has no store of its own and no volume for others",
        )
        .hint("run `maimo init` to keep a store, or `maimo volume add PATH --capacity SIZE` to store for others"));
    }
    let keeps = owner.as_ref().map(keeps).transpose()?;
    let tally = Arc::<Tally>::default();
    let _commands = provider
        .as_ref()
        .map(|it| serve(it, &tally, ctx))
        .transpose()?;
    let upkeep = owner.clone().map(|owner| {
        let settings = Settings::of(&ctx.config, &ctx.places);
        Upkeep::start(settings, owner, stop.clone())
    });
    let upkeep = upkeep.transpose()?;
    let _relayed = owner.as_ref().map(|it| relay(it, ctx)).transpose()?;
    let daemon = Daemon {
        provider,
        owner,
        network: ctx.network.clone(),
        entrances,
        drain: Duration::from_secs(ctx.config.drain_seconds.value.into()),
        tally,
        metrics: ctx.config.metrics.value.address().map(|at| Metrics {
            at,
            names_clients: ctx.config.metrics_clients.value,
            home: ctx.places.home.clone(),
        }),
        tell_every: daemon::TELL,
    };
    let ui = ctx.ui.clone();
    ctx.ui.link().listen(move |tor| ui.say(&tor.to_string()));
    let ran = daemon.run(stop, |standing| {
        ctx.ui.report(&Ready {
            standing: standing.to_vec(),
            keeps,
        })
    });
    drop(upkeep);
    ran?;
    ctx.ui.say("Stopped.");
    Ok(Box::new(Told))
}

/// Opens what serves others, if this node does.
fn provider(ctx: &Context) -> Result<Option<Provider>, CommandError> {
    let home = &ctx.places.provider;
    if !Provider::exists(home) {
        return Ok(None);
    }
    let socket = control::socket_of(home);
    let is_served = || !matches!(control::ask(&socket, &Request::Status, &|_| true), Ok(None));
    let opened = in_time(ctx, is_served, || ctx.provider());
    opened.map(Some).map_err(|error| {
        if error.is_in_use() {
            in_use(home)
        } else {
            error
        }
    })
}

/// Opens what another process may have that just ends; not what one serves, which goes on.
fn in_time<T>(
    ctx: &Context,
    is_served: impl Fn() -> bool,
    open: impl Fn() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let mut patience = ctx.patience();
    loop {
        match open() {
            Err(error) if error.is_in_use() && !is_served() && patience.pauses() => {}
            opened => return opened,
        }
    }
}

/// Has the owner's commands for the provider served.
fn serve(
    provider: &Provider,
    tally: &Arc<Tally>,
    ctx: &Context,
) -> Result<control::Served, CommandError> {
    let socket = control::socket_of(&ctx.places.provider);
    let counts = Arc::clone(tally);
    let connections: CountConnections = Arc::new(move || counts.open_connections());
    control::serve(provider.clone(), &socket, Some(connections))
        .map_err(|error| CommandError::io("listen for commands at", &socket, &error))
}

/// Has commands for the store done here.
fn relay(owner: &Owner, ctx: &Context) -> Result<control::Served, CommandError> {
    let socket = relay::socket_of(&ctx.places.home);
    let host = Host {
        owner: owner.clone(),
        config: ctx.config.clone(),
        places: ctx.places.clone(),
        network: Arc::clone(&ctx.network),
        ui: ctx.ui.clone(),
    };
    relay::serve(host, &socket)
        .map_err(|error| CommandError::io("listen for commands at", &socket, &error))
}

/// Opens this node's own store, if it has one. What keeps it from being opened must not keep a node from serving others.
fn owner(ctx: &Context, serves: bool) -> Result<Option<Owner>, CommandError> {
    let socket = relay::socket_of(&ctx.places.home);
    match in_time(ctx, || relay::answers(&socket), || ctx.owner()) {
        Ok(owner) => Ok(Some(owner)),
        Err(error) if error.exit() == Exit::NoNode => Ok(None),
        Err(error) if error.is_in_use() => Err(in_use(&ctx.places.home)),
        Err(error) if serves => {
            ctx.ui.warn(&format!(
                "this node serves, but its own store is not kept: {error}"
            ));
            if let Some(hint) = error.hint_text() {
                ctx.ui.say(hint);
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn in_use(home: &Path) -> CommandError {
    let home = shown_path(home);
    CommandError::new(Exit::Failed, "local_io", format!("another process has {home} open"))
        .hint("does this node run already? `maimo status` tells; another node needs a home of its own (--home)")
}

/// Returns what is kept.
fn keeps(owner: &Owner) -> Result<Keeps, CommandError> {
    let status = owner.viewer().look()?.status()?;
    Ok(Keeps {
        source: status.label,
        channels: status.channels.into_iter().map(|it| it.channel).collect(),
    })
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

struct Ready {
    standing: Vec<Standing>,
    keeps: Option<Keeps>,
}

/// The store that this node keeps.
#[derive(Serialize)]
struct Keeps {
    source: String,
    channels: Vec<String>,
}

/// Who and where the node is on one network.
#[derive(Serialize)]
struct FaceView {
    network: &'static str,
    identity: String,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct ReadyView<'a> {
    identity: Option<String>,
    addresses: Vec<String>,
    networks: Vec<FaceView>,
    keeps: Option<&'a Keeps>,
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
        self.standing.iter().map(view).collect()
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
        match &self.keeps {
            Some(Keeps { source, channels }) if channels.is_empty() => writeln!(
                page,
                "keeping the store of `{source}`, which has no channel yet: `maimo channel open` works while this runs"
            ),
            Some(Keeps { source, channels }) => {
                writeln!(
                    page,
                    "keeping the store of `{source}` on {}",
                    channels.join(", ")
                )
            }
            None => Ok(()),
        }
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let networks = self.faces();
        let view = ReadyView {
            identity: networks.first().map(|face| face.identity.clone()),
            addresses: networks
                .iter()
                .flat_map(|face| face.addresses.clone())
                .collect(),
            networks,
            keeps: self.keeps.as_ref(),
        };
        page.json("ready", &view)
    }
}
