//! The commands, one file each: what they take, what they do, what they report.

mod channel;
mod completions;
mod config;
mod init;
mod man;
mod paths;
mod provider;
mod root;
mod scrub;
mod status;
mod verify_phrase;
mod volume;

use clap::Subcommand;

use self::paths::{PathView, absolute_all, absolute_pattern};
use crate::{context::Context, error::CommandError, ui::Report};

/// What a command ends with.
pub(crate) type Outcome = Result<Box<dyn Report>, CommandError>;

/// Everything the program does, in the order that help lists it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Status(status::Args),
    #[command(subcommand)]
    Channel(channel::Command),
    Root(root::Args),
    VerifyPhrase(verify_phrase::Args),
    #[command(subcommand)]
    Volume(volume::Command),
    Scrub(scrub::Args),
    #[command(subcommand)]
    Provider(provider::Command),
    #[command(subcommand)]
    Config(config::Command),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs a command.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Init(args) => init::run(args, ctx),
        Command::Status(args) => status::run(args, ctx),
        Command::Channel(command) => channel::run(command, ctx),
        Command::Root(args) => root::run(args, ctx),
        Command::VerifyPhrase(args) => verify_phrase::run(args, ctx),
        Command::Volume(command) => volume::run(command, ctx),
        Command::Scrub(args) => scrub::run(args, ctx),
        Command::Provider(command) => provider::run(command, ctx),
        Command::Config(command) => Ok(config::run(command, ctx)),
        Command::Completions(args) => Ok(completions::run(args)),
        Command::Man(args) => man::run(args),
    }
}
