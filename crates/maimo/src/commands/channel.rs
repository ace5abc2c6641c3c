//! `channel`: the standing relation with a provider.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use clap::Subcommand;
use maimo_client::{
    channel::{ChannelReport, OpenChannelRequest},
    mirror::{MirrorReport, Role},
};
use maimo_core::{
    address::{Address, Network},
    clock::Timestamp,
    id::RootHash,
};
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    repair::{self, RepairArgs},
    target::{self, Target},
};
use crate::{
    connect::{self, FolderTerms},
    context::Context,
    error::CommandError,
    quantity::{Count, Moment, Size, parse_size},
    relay::form,
    ui::{Align, Page, Report, Table},
};

/// Open, list, repair or close channels: where this store is kept
#[derive(Debug, Serialize, Deserialize, Subcommand)]
pub(crate) enum Command {
    /// Open a channel
    ///
    /// LINE is an invitation, maimo:..., as `maimo client invite` printed it for the provider. Until it is redeemed it is a secret, and an
    /// argument can be read by every process on this machine: where that matters, give - and it is read from standard input, or asked for.
    ///
    /// DIRECTORY is a whole provider of your own, its keys in it: a folder on a USB disk or a mounted share, used by one machine at a time.
    /// It is made where there is none.
    ///
    /// ADDRESS is a host and a port of a provider who knows this store's key there already.
    ///
    /// The first channel opened decides when a store is acknowledged.
    Open(OpenArgs),
    /// List the channels, with what they hold
    List,
    /// Keep the store on two channels, each of which has all of it
    ///
    /// One of the two has the store already; the other is given everything, sealed with keys of its own. The first channel goes on deciding what is
    /// acknowledged. A mirror that is away is behind, and catches up with a later command. Interrupted, the same command goes on.
    Mirror {
        /// A channel
        #[arg(value_name = "NAME")]
        one: String,
        /// Another channel
        #[arg(value_name = "NAME")]
        other: String,
    },
    /// Make a mirror the first channel: the one that decides what is acknowledged
    ///
    /// The one that was becomes a mirror. It may be away, or lost; what other machines stored there without knowing is merged once it is back.
    First {
        /// The channel's name
        name: String,
    },
    /// Keep the store no longer on a channel; deletes nothing at the provider
    Unmirror {
        /// The channel's name; not the first
        name: String,
    },
    /// Bring a channel back to what this store knows
    ///
    /// What is known to be damaged is stored again, from files of this machine or from another channel. A provider that was restored from an old
    /// image, or shows another branch, is gone on from: what it lacks is put back as far as its bytes are anywhere, after both states were shown
    /// and you agreed. What nothing has any more is named (exit code 20).
    Repair(RepairArgs),
    /// List the signed heads that speak against a channel's provider
    Evidence {
        /// The channel's name
        name: String,
    },
    /// Forget a channel that the store no longer uses; deletes nothing at the provider
    Close {
        /// The channel's name
        name: String,
    },
}

/// What opening takes.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct OpenArgs {
    /// An invitation, a folder or an address; - to read an invitation
    #[serde(with = "form::path")]
    #[arg(value_name = "LINE|DIRECTORY|ADDRESS")]
    target: OsString,
    /// What to call it [default: the folder's name, or the beginning of the address]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How much may be kept there, if the folder is made now [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cap: Option<u64>,
}

impl Command {
    /// Asks for what the user is to be asked for, before another process does it.
    pub(super) fn gather(&mut self, ctx: &Context) -> Result<(), CommandError> {
        match self {
            Self::Open(args) => target::gather(&mut args.target, ctx),
            _ => Ok(()),
        }
    }
}

/// Does it.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Open(args) => open(args, ctx),
        Command::List => {
            let mut client = ctx.client()?;
            Ok(Box::new(Channels(client.channels()?)))
        }
        Command::Mirror { one, other } => {
            let mut client = ctx.client()?;
            let progress = ctx.ui.progress();
            let report = client.mirror(one, other, progress.control())?;
            Ok(Box::new(Mirrored(report)))
        }
        Command::First { name } => {
            let mut client = ctx.client()?;
            let progress = ctx.ui.progress();
            let report = client.make_first(name, progress.control())?;
            Ok(Box::new(Mirrored(report)))
        }
        Command::Unmirror { name } => {
            let mut client = ctx.client()?;
            let progress = ctx.ui.progress();
            let report = client.unmirror(name, progress.control())?;
            Ok(Box::new(Mirrored(report)))
        }
        Command::Repair(args) => repair::run(args, ctx),
        Command::Evidence { name } => repair::evidence(name, ctx),
        Command::Close { name } => {
            let mut client = ctx.client()?;
            let progress = ctx.ui.progress();
            let closed = client.close_channel(name, progress.control())?;
            Ok(Box::new(Channels(vec![closed])))
        }
    }
}

fn open(args: &OpenArgs, ctx: &Context) -> Outcome {
    let mut folders = connect::existing();
    let address = match Target::read(&args.target, ctx)? {
        Target::Folder(address) => {
            let terms = FolderTerms {
                capacity: args.cap,
                grace: None,
            };
            folders = connect::making(&address, terms);
            address
        }
        _ if args.cap.is_some() => {
            return Err(
                CommandError::usage("how much may be kept is for that provider to say")
                    .hint("--cap is for a folder that is made now"),
            );
        }
        Target::Address(address) => address,
        // The engine reads it once and keeps what it says, not the line.
        Target::Invitation(line) => line.to_string(),
    };
    let mut client = ctx.client_by(folders)?;
    let request = OpenChannelRequest {
        name: args.name.clone(),
        address,
    };
    let progress = ctx.ui.progress();
    let opened = client.open_channel(&request, progress.control())?;
    Ok(Box::new(Channels(vec![opened])))
}

struct Mirrored(MirrorReport);

#[derive(Serialize)]
struct MirroredView<'a> {
    channels: Vec<MirroredChannel<'a>>,
    bytes_sent: u64,
    bytes_received: u64,
    sequence: u64,
}

#[derive(Serialize)]
struct MirroredChannel<'a> {
    channel: &'a str,
    role: &'static str,
    root: Option<String>,
    behind: u64,
}

impl Mirrored {
    fn channels(&self) -> impl Iterator<Item = MirroredChannel<'_>> {
        let behind = |name: &str| {
            let mut behind = self.0.behind.iter();
            behind
                .find(|behind| behind.channel == name)
                .map_or(0, |behind| behind.commits)
        };
        let channels = self.0.channels.iter().enumerate();
        channels.map(move |(place, (name, root))| MirroredChannel {
            channel: name,
            role: role_text(if place == 0 {
                Role::First
            } else {
                Role::Mirror
            }),
            root: shown_root(root),
            behind: behind(name),
        })
    }
}

impl Report for Mirrored {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.0;
        writeln!(
            page,
            "state {}, {} read, {} sent",
            report.sequence,
            Size(report.bytes_received),
            Size(report.bytes_sent)
        )?;
        for channel in self.channels() {
            let root = channel.root.as_deref().unwrap_or("-");
            writeln!(page, "  {} ({}): {root}", channel.channel, channel.role)?;
        }
        for behind in &report.behind {
            writeln!(page, "{}", behind.text())?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = MirroredView {
            channels: self.channels().collect(),
            bytes_sent: self.0.bytes_sent,
            bytes_received: self.0.bytes_received,
            sequence: self.0.sequence,
        };
        page.json("summary", &view)
    }
}

/// Returns what a channel is to the store, in a word.
pub(super) const fn role_text(role: Role) -> &'static str {
    match role {
        Role::First => "first",
        Role::Mirror => "mirror",
        Role::Unused => "unused",
    }
}

struct Channels(Vec<ChannelReport>);

/// A channel as a program reads it.
#[derive(Serialize)]
pub(super) struct ChannelView<'a> {
    name: &'a str,
    address: &'a str,
    cap: Option<u64>,
    used: Option<u64>,
    root: Option<String>,
    sequence: u64,
    check: &'a str,
    network: &'static str,
    last_seen: Option<String>,
    role: &'static str,
    behind: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<&'a str>,
}

impl<'a> ChannelView<'a> {
    pub(super) fn of(channel: &'a ChannelReport) -> Self {
        Self {
            name: &channel.name,
            address: &channel.address,
            cap: channel.cap.filter(|cap| *cap < connect::ENDLESS),
            used: channel.used,
            root: shown_root(&channel.root),
            sequence: channel.sequence,
            check: &channel.check,
            network: network_of(&channel.address),
            last_seen: channel.last_seen.map(|day| Moment::from(day).day()),
            role: role_text(channel.role),
            behind: channel.behind,
            trouble: channel.trouble.as_deref(),
        }
    }
}

impl Report for Channels {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        write_channels(page, &self.0)?;
        if let [channel] = self.0.as_slice()
            && channel.root != RootHash::NONE
        {
            writeln!(page, "\ncheck words: {}", channel.check)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for channel in &self.0 {
            page.json("channel", &ChannelView::of(channel))?;
        }
        Ok(())
    }
}

/// Writes channels as a table.
pub(super) fn write_channels(page: &mut Page<'_>, channels: &[ChannelReport]) -> io::Result<()> {
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("used", Align::Right),
        ("cap", Align::Right),
        ("state", Align::Right),
        ("role", Align::Left),
        ("root", Align::Left),
        ("last seen", Align::Left),
        ("network", Align::Left),
        ("address", Align::Left),
    ]);
    for channel in channels {
        table.row([
            channel.name.clone(),
            channel
                .used
                .map_or("?".to_owned(), |used| Size(used).to_string()),
            cap_text(channel.cap),
            channel.sequence.to_string(),
            role_text(channel.role).to_owned(),
            shown_root(&channel.root).map_or("-".to_owned(), |root| root[..12].to_owned()),
            seen_text(channel.last_seen),
            network_of(&channel.address).to_owned(),
            channel.address.clone(),
        ]);
    }
    table.write(page)?;
    for channel in channels {
        if channel.behind > 0 {
            let (name, commits) = (&channel.name, commits(channel.behind));
            writeln!(page, "{name} is a mirror that is behind, by {commits}")?;
        }
        if let Some(trouble) = &channel.trouble {
            writeln!(page, "{trouble}")?;
        }
    }
    Ok(())
}

/// Returns a root in hex; nothing before the first.
pub(super) fn shown_root(root: &RootHash) -> Option<String> {
    (*root != RootHash::NONE).then(|| root.to_string())
}

/// Returns what an address is reached by: `tor`, `tcp` or, in this process, `directory`.
pub(super) fn network_of(address: &str) -> &'static str {
    if connect::is_folder(address) {
        return "directory";
    }
    match address.parse().map(|address: Address| address.network()) {
        Ok(Network::Onion) => "tor",
        Ok(Network::Tcp) => "tcp",
        // Of another version of the journal.
        Err(_) => "unknown",
    }
}

/// Returns a day on which a provider answered, in words.
pub(super) fn seen_text(day: Option<Timestamp>) -> String {
    day.map_or_else(|| "never".to_owned(), |day| Moment::from(day).day())
}

fn cap_text(cap: Option<u64>) -> String {
    match cap {
        None => "?".to_owned(),
        Some(cap) if cap >= connect::ENDLESS => "none".to_owned(),
        Some(cap) => Size(cap).to_string(),
    }
}

/// Returns so many commits in words.
pub(super) fn commits(count: u64) -> String {
    match count {
        1 => "1 commit".to_owned(),
        _ => format!("{} commits", Count(count)),
    }
}
