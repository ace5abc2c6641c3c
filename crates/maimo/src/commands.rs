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

use self::paths::{PathView, absolute_all, absolute_pattern};
use crate::{context::Context, error::CommandError, logs::Usual, ui::Report};

/// What a command ends with.
pub(crate) type Outcome = Result<Box<dyn Report>, CommandError>;

/// Everything the program does, in the order that help lists it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Status(status::Args),
    Start(start::Args),
    #[command(subcommand)]
    Channel(channel::Command),
    #[command(visible_aliases = ["backup", "upload"])]
    Store(store::Args),
    #[command(visible_alias = "audit")]
    Verify(verify::Args),
    Root(root::Args),
    Ticket(ticket::Args),
    AuditTicket(audit_ticket::Args),
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
    Volume(volume::Command),
    #[command(subcommand)]
    Client(client::Command),
    Scrub(scrub::Args),
    #[command(subcommand)]
    Provider(provider::Command),
    #[command(subcommand)]
    Config(config::Command),
    Completions(completions::Args),
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
