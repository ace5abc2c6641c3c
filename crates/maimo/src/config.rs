//! The configuration: one TOML file, whose every key has a default, a line of documentation and a variable.
//!
//! A flag beats a variable, that the file, that the default. A value that does not parse is an error, wherever it stands: what was meant to
//! hold and silently does not is worse than a stop.

mod domains;
mod setting;
mod values;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use maimo_core::address::Address;
use toml::{Table, Value};

pub(crate) use self::{
    domains::DomainFolders,
    setting::{Origin, Settable, Setting},
    values::{Bytes, Circuits, Limit, LogFormat, Loopback, Span, Way, Ways},
};
use crate::{
    cli::{Global, variable_of},
    error::CommandError,
};

/// Makes [`Config`] of its keys: each with its documentation, type and default.
macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr;)+) => {
        /// What the configuration says, each key with where that comes from.
        #[derive(Debug, Clone)]
        pub(crate) struct Config {
            $($(#[doc = $doc])+ pub(crate) $field: Setting<$type>,)+
        }

        /// The names of all keys.
        const KEYS: &[&str] = &[$(stringify!($field)),+];

        impl Config {
            /// Puts together what the variables, the file's table and the defaults say.
            fn resolve(
                table: &Table,
                file: &Path,
                variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
            ) -> Result<Self, CommandError> {
                Ok(Self {
                    $($field: Setting::resolve(stringify!($field), $default, table, file, variable)?,)+
                })
            }

            /// Returns every key as it is to be shown.
            pub(crate) fn rows(&self) -> Vec<Row> {
                vec![$(Row {
                    key: stringify!($field).replace('_', "-"),
                    doc: concat!($($doc, "\n"),+).trim(),
                    default: <$type as Settable>::to_toml(&$default),
                    value: self.$field.value.to_toml(),
                    origin: self.$field.origin.clone(),
                }),+]
            }
        }
    };
}

keys! {
    /// Globs of what `store` leaves out, besides those of `--exclude`.
    exclude: Vec<String> = Vec::new();
    /// Folders that outsiders can write to, such as mail or downloads, each as "name=/folder": a dedup domain of its own, whose chunks are found again only in folders of the same name, and never compressed with what the rest has in common.
    domains: DomainFolders = DomainFolders::default();
    /// `store --delete-local` makes do with one channel.
    single_copy: bool = false;
    /// How many blocks of each stratum `verify` draws, unless told otherwise.
    slices: u32 = 460;
    /// The file whose first line is the passphrase of the node's key; empty for none.
    passphrase_file: String = String::new();
    /// The command whose first line is that passphrase; empty for none.
    passphrase_command: String = String::new();
    /// Say nothing but results, warnings and errors.
    quiet: bool = false;
    /// Say more: above 0.
    verbose: u32 = 0;
    /// How this node reaches others and is reached: `tor` (in this program), `system-tor` (one that runs on this machine) or `tcp` (no anonymity). Nothing else is ever tried.
    transport: Ways = Ways::only(Way::Tor);
    /// How many circuits a channel uses at most, from 1 to 8.
    circuits: Circuits = Circuits::USUAL;
    /// How many bytes a second are sent at most, as a number or as "2MiB"; 0 for no limit.
    limit_upload: Limit = Limit::NONE;
    /// How many bytes a second are received at most; 0 for no limit.
    limit_download: Limit = Limit::NONE;
    /// How many bytes of sealed packs `store` keeps on this disk until a provider over a network has them, as a number or as "256MiB"; one pack has room always.
    spool_limit: Bytes = Bytes::SPOOL;
    /// Bridges by which the Tor in this program enters the network, a line each; none to enter it directly.
    bridges: Vec<String> = Vec::new();
    /// Where the Tor of this machine takes SOCKS connections, for `system-tor`.
    socks: SocketAddr = loopback(9050);
    /// Where the Tor of this machine is controlled; `start` has it make an onion service there.
    control: SocketAddr = loopback(9051);
    /// The file of that Tor's control cookie; empty for the one that Tor itself names.
    control_cookie_file: String = String::new();
    /// The file whose first line is the password of that Tor's control port; empty if it takes its cookie.
    control_password_file: String = String::new();
    /// Where `start` listens with `tcp`, each an IP address and a port.
    listen: Vec<SocketAddr> = Vec::new();
    /// Where others reach this node with `tcp`, each a host and a port; empty if that is where it listens.
    announce: Vec<Address> = Vec::new();
    /// How many seconds `start` lets running requests end in when it is told to stop.
    drain_seconds: u32 = 30;
    /// Where `start` tells figures in the text format of Prometheus, under `/metrics`: a port of loopback, as in "127.0.0.1:9464"; empty for nowhere.
    metrics: Loopback = Loopback::NONE;
    /// Those figures name clients by their labels; else they only count them.
    metrics_clients: bool = false;
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or of which part, as in `warn,maimo_net=debug`; empty for what `verbose` says.
    log: String = String::new();
    /// How it is logged: `text` or `json`.
    log_format: LogFormat = LogFormat::Text;
    /// Folders that `start` keeps stored, `~/` being the user's own; one that is not there is waited for, never made.
    watch: Vec<String> = vec!["~/Maimo Data".to_owned()];
    /// Folders among those, or below them, that `start` keeps complete: what is missing in them comes back. What is to go is taken out with `remove` first.
    restore_missing: Vec<String> = Vec::new();
    /// How long nothing must change in the watched folders before what changed is stored, as in "5s".
    watch_quiet: Span = Span::seconds(5);
    /// How long that waits at most while files keep changing.
    watch_longest: Span = Span::seconds(60);
    /// How often `start` looks through all of them, for what the system did not tell, as in "1h"; "0s" for never.
    rescan_every: Span = Span::seconds(3600);
    /// How often `start` audits each channel; "0s" for never.
    audit_every: Span = Span::seconds(6 * 3600);
    /// How many blocks of each stratum such an audit draws: they add up.
    audit_slices: u32 = 115;
    /// How often `start` has each provider prove that it holds all of journal and dictionaries; "0s" for never.
    vital_every: Span = Span::seconds(7 * 24 * 3600);
    /// How often `start` lets go of what no policy keeps; "0s" for never.
    prune_every: Span = Span::seconds(24 * 3600);
    /// How long a provider may be away before `start` tells.
    patience: Span = Span::seconds(15 * 60);
    /// The program that `start` runs once when something goes wrong and once when it is over, a path; empty for none.
    hook: String = String::new();
    /// How long it may run.
    hook_limit: Span = Span::seconds(60);
    /// For tests only: a file of Tor directory authorities and relays that stand in for the public network.
    tor_network_file: String = String::new();
}

/// Returns an address of this machine alone.
pub(crate) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// A key as `config show` has it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) doc: &'static str,
    pub(crate) default: Option<Value>,
    pub(crate) value: Option<Value>,
    pub(crate) origin: Origin,
}

impl Config {
    /// Reads the file and the variables, and lets the flags that every command takes win.
    ///
    /// # Errors
    ///
    /// A file that was named and is not there or cannot be read, a key that there is not, a value that does not parse.
    pub(crate) fn load(file: &Path, global: &Global) -> Result<Self, CommandError> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && global.config.is_none() => {
                String::new()
            }
            Err(error) => {
                return Err(CommandError::config(format!(
                    "cannot read {}: {error}",
                    file.display()
                )));
            }
        };
        let mut config = Self::parse(&text, file, &|name| std::env::var_os(name))?;
        let said = |name: &str| std::env::var_os(variable_of(name)).is_some();
        config.quiet.flag(global.quiet && !said("quiet"), true);
        let verbose = u32::from(global.verbose);
        config
            .verbose
            .flag(verbose > 0 && !said("verbose"), verbose);
        if let Some(ways) = &global.transport {
            config.transport.flag(!said("transport"), ways.clone());
        }
        if let Some(circuits) = global.circuits {
            config.circuits.flag(!said("circuits"), circuits);
        }
        if let Some(limit) = global.limit_upload {
            config.limit_upload.flag(!said("limit-upload"), limit);
        }
        if let Some(limit) = global.limit_download {
            config.limit_download.flag(!said("limit-download"), limit);
        }
        if let Some(format) = global.log_format {
            config.log_format.flag(!said("log-format"), format);
        }
        let text_of = |path: &PathBuf| path.to_string_lossy().into_owned();
        if let Some(path) = &global.passphrase_file {
            config
                .passphrase_file
                .flag(!said("passphrase-file"), text_of(path));
        }
        if let Some(command) = &global.passphrase_command {
            config
                .passphrase_command
                .flag(!said("passphrase-command"), command.clone());
        }
        Ok(config)
    }

    /// Reads a text as the file, with no variable and no flag.
    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Result<Self, CommandError> {
        Self::parse(text, Path::new("/c.toml"), &|_| None)
    }

    fn parse(
        text: &str,
        file: &Path,
        variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, CommandError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n');
            CommandError::config(format!(
                "{}, line {}, is no TOML: {}",
                file.display(),
                line.count() + 1,
                error.message()
            ))
            .hint("a line is a key, an equals sign and a value, as in transport = \"tcp\"")
        })?;
        for key in table.keys() {
            if key.contains('_') || !KEYS.contains(&key.replace('-', "_").as_str()) {
                let known: Vec<String> = KEYS.iter().map(|key| key.replace('_', "-")).collect();
                return Err(CommandError::config(format!(
                    "{} has a key that there is not: `{key}`",
                    file.display()
                ))
                .hint(format!("there are: {}", known.join(", "))));
            }
        }
        Self::resolve(&table, file, variable)
    }
}

#[cfg(test)]
mod tests;
