//! The commands, one file each: what they take, what they do, what they report.

mod audit_ticket;
mod channel;
mod client;
mod completions;
mod config;
mod damage;
mod demo;
mod history;
mod init;
mod keep;
mod list;
mod man;
mod paths;
mod provider;
mod prune;
mod recover;
mod remove;
mod repair;
mod retrieve;
mod root;
mod runs;
mod scrub;
mod start;
mod status;
mod store;
mod target;
mod ticket;
mod undelete;
mod verify;
mod verify_phrase;
mod volume;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use self::paths::{PathView, absolute_all, absolute_pattern};
use crate::{context::Context, error::CommandError, logs::Usual, ui::Report};

/// What a command ends with.
pub(crate) type Outcome = Result<Box<dyn Report>, CommandError>;

/// Everything the program does, in the order that help lists it.
#[derive(Debug, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    #[serde(skip)]
    Demo(demo::Args),
    #[serde(skip)]
    Init(init::Args),
    Status(status::Args),
    #[serde(skip)]
    Start(start::Args),
    #[command(subcommand)]
    Channel(channel::Command),
    #[command(visible_aliases = ["backup", "upload"])]
    Store(store::Args),
    #[command(visible_alias = "audit")]
    Verify(verify::Args),
    Root(root::Args),
    Ticket(ticket::Args),
    #[serde(skip)]
    AuditTicket(audit_ticket::Args),
    #[serde(skip)]
    CheckReceipt(audit_ticket::CheckArgs),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Find(list::FindArgs),
    #[command(visible_alias = "snapshots")]
    Runs(runs::Args),
    Diff(runs::DiffArgs),
    Pin(runs::PinArgs),
    #[command(visible_alias = "log")]
    History(history::Args),
    #[command(visible_aliases = ["restore", "download"])]
    Retrieve(retrieve::Args),
    Dump(retrieve::DumpArgs),
    #[command(visible_alias = "rm")]
    Remove(remove::Args),
    Keep(keep::Args),
    Prune(prune::Args),
    Undelete(undelete::Args),
    Recover(recover::Args),
    VerifyPhrase(verify_phrase::Args),
    #[command(subcommand)]
    #[serde(skip)]
    Volume(volume::Command),
    #[command(subcommand)]
    #[serde(skip)]
    Client(client::Command),
    #[serde(skip)]
    Scrub(scrub::Args),
    #[command(subcommand)]
    #[serde(skip)]
    Provider(provider::Command),
    #[command(subcommand)]
    #[serde(skip)]
    Config(config::Command),
    #[serde(skip)]
    Completions(completions::Args),
    #[serde(skip)]
    Man(man::Args),
}

impl Command {
    /// Returns whether someone waits for it to end, for whom its log is not the news.
    pub(crate) const fn kind(&self) -> Usual {
        match self {
            Self::Start(_) => Usual::Service,
            _ => Usual::Command,
        }
    }

    /// Returns what to call it, if it is one for this node's own store: then a node that runs does it.
    pub(crate) fn of_store(&self) -> Option<String> {
        let name = match self {
            Self::Status(_) => "status",
            Self::Channel(_) => "channel",
            Self::Store(args) => return Some(args.what()),
            Self::Verify(_) => "verify",
            Self::Root(_) => "root",
            Self::List(_) => "list",
            Self::Find(_) => "find",
            Self::Runs(_) => "runs",
            Self::Diff(_) => "diff",
            Self::Pin(_) => "pin",
            Self::History(_) => "history",
            Self::Retrieve(_) => "retrieve",
            Self::Dump(_) => "dump",
            Self::Remove(_) => "remove",
            Self::Keep(_) => "keep",
            Self::Prune(_) => "prune",
            Self::Undelete(_) => "undelete",
            Self::Recover(_) => "recover",
            Self::VerifyPhrase(_) => "verify-phrase",
            Self::Ticket(_) => "ticket",
            Self::Demo(_)
            | Self::Init(_)
            | Self::Start(_)
            | Self::Volume(_)
            | Self::Client(_)
            | Self::Scrub(_)
            | Self::AuditTicket(_)
            | Self::CheckReceipt(_)
            | Self::Provider(_)
            | Self::Config(_)
            | Self::Completions(_)
            | Self::Man(_) => return None,
        };
        Some(name.to_owned())
    }

    /// Reads from standard input what the command line leaves to it: once, whoever does the command and however often it is tried.
    ///
    /// # Errors
    ///
    /// What is read is none.
    pub(crate) fn gather(&mut self, ctx: &Context) -> Result<(), CommandError> {
        match self {
            Self::Channel(command) => command.gather(ctx),
            Self::Recover(args) => args.gather(ctx),
            _ => Ok(()),
        }
    }

    /// Asks for what only the user has, before another process does the command.
    ///
    /// # Errors
    ///
    /// There is nobody to ask, or what is read is none.
    pub(crate) fn gather_secrets(&mut self, ctx: &Context) -> Result<(), CommandError> {
        match self {
            Self::VerifyPhrase(args) => args.gather(ctx),
            _ => Ok(()),
        }
    }
}

/// Runs a command.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Demo(args) => demo::run(args, ctx),
        Command::Init(args) => init::run(args, ctx),
        Command::Status(args) => status::run(args, ctx),
        Command::Start(args) => start::run(args, ctx),
        Command::Channel(command) => channel::run(command, ctx),
        Command::Root(args) => root::run(args, ctx),
        Command::Store(args) => store::run(args, ctx),
        Command::Verify(args) => verify::run(args, ctx),
        Command::Ticket(args) => ticket::run(args, ctx),
        Command::AuditTicket(args) => audit_ticket::run(args, ctx),
        Command::CheckReceipt(args) => audit_ticket::check(args),
        Command::List(args) => list::run(args, ctx),
        Command::Find(args) => list::find(args, ctx),
        Command::Runs(args) => runs::run(args, ctx),
        Command::Diff(args) => runs::diff(args, ctx),
        Command::Pin(args) => runs::pin(args, ctx),
        Command::History(args) => history::run(args, ctx),
        Command::Retrieve(args) => retrieve::run(args, ctx),
        Command::Dump(args) => retrieve::dump(args, ctx),
        Command::Remove(args) => remove::run(args, ctx),
        Command::Keep(args) => keep::run(args, ctx),
        Command::Prune(args) => prune::run(args, ctx),
        Command::Undelete(args) => undelete::run(args, ctx),
        Command::Recover(args) => recover::run(args, ctx),
        Command::VerifyPhrase(args) => verify_phrase::run(args, ctx),
        Command::Volume(command) => volume::run(command, ctx),
        Command::Client(command) => client::run(command, ctx),
        Command::Scrub(args) => scrub::run(args, ctx),
        Command::Provider(command) => provider::run(command, ctx),
        Command::Config(command) => Ok(config::run(command, ctx)),
        Command::Completions(args) => Ok(completions::run(args)),
        Command::Man(args) => man::run(args),
    }
}
