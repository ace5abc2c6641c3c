//! The commands, one file each: what they take, what they do, what they report.

mod completions;
mod config;
mod man;

use clap::Subcommand;

use crate::{context::Context, error::CommandError, ui::Report};

/// What a command ends with.
pub(crate) type Outcome = Result<Box<dyn Report>, CommandError>;

/// Everything the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Config(config::Command),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs a command.
pub(crate) fn run(command: Command, ctx: &Context) -> Outcome {
    match command {
        Command::Config(command) => Ok(config::run(&command, ctx)),
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args),
    }
}
