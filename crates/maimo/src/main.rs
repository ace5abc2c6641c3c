//! The program: reads the command line, runs one command, says how it went.
//!
//! Results go to standard output, all else to standard error; the exit code is a contract ([`error::Exit`]). All work is done by the libraries.

mod cli;
mod commands;
mod config;
mod connect;
mod context;
mod control;
mod daemon;
mod error;
mod logs;
mod metrics;
mod network;
mod passphrase;
mod places;
mod quantity;
mod relay;
mod signals;
mod ui;

use std::{env, ffi::OsString, process::ExitCode};

use cli::{Cli, Global};
use context::Context;
use error::{CommandError, Exit};
use ui::Ui;

fn main() -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    let cli = match Cli::read(args.clone()) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(misread(&error, &args).code()),
    };
    let mut ui = Ui::new(&cli.global);
    let end = run(cli, &mut ui).err();
    if let Some(error) = &end {
        ui.fail(error);
    }
    ExitCode::from(end.map_or(Exit::Done, |error| error.exit()).code())
}

fn run(cli: Cli, ui: &mut Ui) -> Result<(), CommandError> {
    let mut command = cli.command;
    let ctx = Context::new(&cli.global, command.kind(), ui)?;
    if command.of_store().is_none() {
        return ui.report(&*commands::run(&command, &ctx)?);
    }
    command.gather(&ctx)?;
    let socket = relay::socket_of(&ctx.places.home);
    let mut patience = ctx.patience();
    loop {
        if relay::is_served(&socket) {
            command.gather_secrets(&ctx)?;
            if let Some(ended) = relay::relay(&socket, &command, &ctx) {
                return ended;
            }
        }
        match commands::run(&command, &ctx) {
            // The home is opened before anything is done: nothing is done twice.
            Err(error) if error.is_in_use() && patience.pauses() => {}
            ended => return ui.report(&*ended?),
        }
    }
}

/// Tells what is wrong with the command line, or shows the help or version that it asks for.
fn misread(error: &clap::Error, args: &[OsString]) -> Exit {
    if !error.use_stderr() {
        // Who closed the pipe has read enough.
        let _ = error.print();
        return Exit::Done;
    }
    let json = args.iter().any(|arg| arg == "--json") || env::var_os("MAIMO_JSON").is_some();
    if json {
        let text = error.render().to_string();
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let ui = Ui::new(&Global::json());
        ui.fail(&CommandError::usage(message).hint("run it with --help"));
    } else {
        let _ = error.print();
    }
    Exit::Usage
}
