//! The command line: what can be said, and the variables that say the same.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, Args, Command as ClapCommand, CommandFactory, FromArgMatches, Parser,
    builder::BoolishValueParser,
};

use crate::{
    commands::Command,
    config::{Circuits, Limit, LogFormat, Ways},
};

const EXAMPLES: &str = "\
Begin:
  maimo demo                                   watch the whole job in a scratch folder
  maimo init                                   make a node; write down its 24 words
  maimo channel open /mnt/disk/maimo           keep packs in a folder, as a provider of your own
  maimo store ~/documents                      store what changed
  maimo verify                                 prove that it is still there
  maimo retrieve ~/documents --to /tmp/back    get it back

Every flag has a variable: --home is MAIMO_HOME, --delete-local is MAIMO_DELETE_LOCAL. A flag beats its variable, that the configuration file, that the default; `maimo config show --origin` tells which won.

Exit codes: 0 done, 1 failed, 2 usage, 3 done in part, 10 no node here, 12 wrong passphrase, 20 audit failed, 21 provider offline or refusing, 22 rollback or fork, 23 cap exceeded, 130 interrupted.";

/// Private remote storage: keep 32 bytes, prove the rest
///
/// Stores files at a provider whom you need not trust: compressed, sealed, in packs that tell nothing. One 32-byte hash for each provider
/// then suffices to check that they are still there, and to verify whatever comes back.
#[derive(Debug, Parser)]
#[command(name = "maimo", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Keep all of the node's state in this folder
    ///
    /// Without it: ~/.local/share/maimo and ~/.config/maimo, or where the XDG variables say; on macOS ~/Library/Application Support/maimo.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) home: Option<PathBuf>,
    /// Read the configuration from this file
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Write results as JSON, one object a line, each with a `message_type`
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Read the passphrase of the node's key from the first line of this file
    ///
    /// A passphrase is never an argument, where every process on the machine could read it. `MAIMO_PASSPHRASE` holds it, or one of these two
    /// tells where it is; else it is asked for on a terminal.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Take the passphrase from the first line that this command prints
    #[arg(long, value_name = "COMMAND", global = true)]
    pub(crate) passphrase_command: Option<String>,
    /// Reach others by `tor`, `system-tor` or `tcp`, and by nothing else
    ///
    /// `tor` is in this program; `system-tor` is one that runs on this machine already; `tcp` shows who speaks with whom. Two may be joined by
    /// a comma, each then for addresses of its kind.
    #[arg(long, value_name = "WAY", global = true, hide_short_help = true, value_parser = Ways::parse)]
    pub(crate) transport: Option<Ways>,
    /// Use up to this many circuits for a channel, 1 to 8
    #[arg(long, value_name = "N", global = true, hide_short_help = true, value_parser = Circuits::parse)]
    pub(crate) circuits: Option<Circuits>,
    /// Send no more than this a second: 500KB, 2MiB
    #[arg(long, value_name = "SIZE", global = true, hide_short_help = true, value_parser = Limit::parse)]
    pub(crate) limit_upload: Option<Limit>,
    /// Receive no more than this a second
    #[arg(long, value_name = "SIZE", global = true, hide_short_help = true, value_parser = Limit::parse)]
    pub(crate) limit_download: Option<Limit>,
    /// How lines of the log are written
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        hide_short_help = true,
        value_enum
    )]
    pub(crate) log_format: Option<LogFormat>,
}

impl Global {
    /// Returns what holds where nothing but `--json` was understood.
    pub(crate) const fn json() -> Self {
        Self {
            home: None,
            config: None,
            json: true,
            quiet: false,
            verbose: 0,
            passphrase_file: None,
            passphrase_command: None,
            transport: None,
            circuits: None,
            limit_upload: None,
            limit_download: None,
            log_format: None,
        }
    }
}

impl Cli {
    /// Reads the command line and the variables.
    ///
    /// # Errors
    ///
    /// What is wrong with them, or the help that was asked for.
    pub(crate) fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

/// Returns the whole command line, each flag with its variable.
pub(crate) fn command() -> ClapCommand {
    with_variables(Cli::command())
}

/// Gives every flag the variable of its name. Done to all at once: a flag cannot be forgotten.
fn with_variables(command: ClapCommand) -> ClapCommand {
    command
        .mut_args(with_variable)
        .mut_subcommands(with_variables)
}

fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else {
        return arg;
    };
    let variable = variable_of(long);
    // Named once in the help of all: on each flag it would drown the rest. A value might be private, and help is copied to others.
    let arg = arg.env(variable).hide_env(true).hide_env_values(true);
    match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
        // A variable holds one value a line.
        ArgAction::Append => arg.value_delimiter('\n'),
        _ => arg,
    }
}

/// Returns the variable of a flag or configuration key.
pub(crate) fn variable_of(name: &str) -> String {
    format!("MAIMO_{}", name.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable_and_every_argument_its_help() {
        fn walk(command: &ClapCommand) -> usize {
            let own = command.get_arguments().filter(|arg| {
                let name = format!("{} {}", command.get_name(), arg.get_id());
                assert!(arg.get_help().is_some(), "{name} has no help");
                assert_eq!(arg.get_long().is_some(), arg.get_env().is_some(), "{name}");
                true
            });
            own.count() + command.get_subcommands().map(walk).sum::<usize>()
        }
        assert!(walk(&command()) > 5);
    }

    #[test]
    fn variables_are_named_after_flags() {
        assert_eq!(variable_of("delete-local"), "MAIMO_DELETE_LOCAL");
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn walk(command: &ClapCommand) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            command.get_subcommands().for_each(walk);
        }
        walk(&command());
    }
}
