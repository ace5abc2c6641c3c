//! `channel`: the standing relation with a provider.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use clap::Subcommand;
use maimo_client::channel::{ChannelReport, OpenChannelRequest};
use maimo_core::{
    address::{Address, Network},
    clock::Timestamp,
    id::RootHash,
};
use serde::Serialize;

use super::{Outcome, target::Target};
use crate::{
    connect::{self, FolderTerms},
    context::Context,
    error::CommandError,
    quantity::{Moment, Size, parse_size},
    ui::{Align, Page, Report, Table},
};

/// Open, list or close channels: where this store is kept
#[derive(Debug, Subcommand)]
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
    /// Forget a channel that the store no longer uses; deletes nothing at the provider
    Close {
        /// The channel's name
        name: String,
    },
}

/// What opening takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// An invitation, a folder or an address; - to read an invitation
    #[arg(value_name = "LINE|DIRECTORY|ADDRESS")]
    target: OsString,
    /// What to call it [default: the folder's name, or the beginning of the address]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How much may be kept there, if the folder is made now [default: no limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cap: Option<u64>,
}

/// Does it.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Open(args) => open(args, ctx),
        Command::List => {
            let mut client = ctx.client()?;
            Ok(Box::new(Channels(client.channels()?)))
        }
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
    let mut client = ctx.client_with(&ctx.network.and(folders))?;
    let request = OpenChannelRequest {
        name: args.name.clone(),
        address,
    };
    let progress = ctx.ui.progress();
    let opened = client.open_channel(&request, progress.control())?;
    Ok(Box::new(Channels(vec![opened])))
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
            shown_root(&channel.root).map_or("-".to_owned(), |root| root[..12].to_owned()),
            seen_text(channel.last_seen),
            network_of(&channel.address).to_owned(),
            channel.address.clone(),
        ]);
    }
    table.write(page)?;
    for channel in channels {
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
