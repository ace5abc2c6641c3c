//! Logs: what the program tells of its work while it runs, on standard error, for whoever keeps a node.
//!
//! Not results, and not for users of a command, who see progress and errors. Invariant: no address, name or secret is in a line. Our own
//! crates log none, and of others only the Tor client is heard, whose lines hide addresses themselves; more must be asked for by name.

use std::io;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::{
    config::{Config, LogFormat},
    error::CommandError,
};

/// How much is logged where nothing is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usual {
    /// Of a command that someone waits for: what goes wrong.
    Command,
    /// Of a service: what happens.
    Service,
}

/// Starts logging; the first call counts.
///
/// # Errors
///
/// The `log` of the configuration does not parse.
pub(crate) fn start(config: &Config, usual: Usual, json: bool) -> Result<(), CommandError> {
    let filter = filter(config, usual)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    let started = if json || config.log_format.value == LogFormat::Json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.try_init()
    };
    // Somebody embedded this and logs already: then that holds.
    let _ = started;
    Ok(())
}

fn filter(config: &Config, usual: Usual) -> Result<EnvFilter, CommandError> {
    let said = config.log.value.trim();
    let level = if said.is_empty() {
        level(config, usual)
    } else if let Ok(level) = said.parse::<LevelFilter>() {
        level
    } else {
        return EnvFilter::try_new(said).map_err(|_| {
            CommandError::config(format!(
                "`log`: `{said}` is no level of logs, nor a list of parts with theirs"
            ))
        });
    };
    // A part is named by how its name begins. What the libraries below say at this level is theirs to word, so it is not passed on.
    let tor = level.min(LevelFilter::WARN);
    Ok(EnvFilter::new(format!(
        "off,maimo={level},arti_client={tor},tor_={tor}"
    )))
}

fn level(config: &Config, usual: Usual) -> LevelFilter {
    if config.quiet.value {
        return LevelFilter::ERROR;
    }
    let steps = config.verbose.value + u32::from(usual == Usual::Service);
    match steps {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(log: &str, usual: Usual) -> Result<String, String> {
        let text = format!("log = {log:?}");
        let config = Config::of_text(&text).unwrap();
        let filter = filter(&config, usual).map_err(|error| error.to_string())?;
        Ok(filter.to_string())
    }

    #[test]
    fn only_our_own_lines_and_warnings_of_tor_are_shown() {
        let service = shown("", Usual::Service).unwrap();
        for part in ["off", "maimo=info", "tor_=warn"] {
            assert!(service.contains(part), "{service}");
        }
        let debug = shown("debug", Usual::Command).unwrap();
        assert!(
            debug.contains("maimo=debug") && debug.contains("tor_=warn"),
            "{debug}"
        );
        assert!(
            shown("error", Usual::Service)
                .unwrap()
                .contains("tor_=error")
        );
    }

    #[test]
    fn parts_are_taken_as_they_are_said_and_nonsense_is_refused() {
        let parts = shown("warn,maimo_net=debug", Usual::Service).unwrap();
        assert!(parts.contains("maimo_net=debug"), "{parts}");
        assert!(shown("maimo=loud", Usual::Service).is_err());
    }
}
