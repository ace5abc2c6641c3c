//! What a command sends of itself: all that makes it do the same in another process.

use std::{env, io, path::Path, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    commands::Command,
    config::{Config, Origin},
    context::{Context, Folder},
    control::PathBytes,
    quantity,
    ui::{FarOutputs, Ui},
};

/// The keys that hold for a whole node and not for one command.
const OF_THE_NODE: [&str; 9] = [
    "transport",
    "circuits",
    "limit-upload",
    "limit-download",
    "spool-limit",
    "bridges",
    "socks",
    "control",
    "drain-seconds",
];

/// A command as it is sent.
#[derive(Deserialize)]
pub(crate) struct Request {
    pub(super) command: Command,
    pub(super) rest: Rest,
}

/// The same, borrowed.
#[derive(Serialize)]
struct Sent<'a> {
    command: &'a Command,
    rest: Rest,
}

/// What a command brings along.
#[derive(Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) outputs: FarOutputs,
    /// Where it was called; nothing where that is gone.
    folder: Option<PathBytes>,
    /// By which time zone it shows times, if that has a name.
    zone: Option<String>,
    exclude: Vec<String>,
    single_copy: bool,
    slices: u32,
    /// What it was told of the node's own keys, as TOML.
    of_node: Vec<(String, String)>,
}

impl Request {
    /// Writes a command down.
    pub(super) fn encode(
        command: &Command,
        ctx: &Context,
    ) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
        let config = &ctx.config;
        let rows = config.rows().into_iter();
        let rest = Rest {
            outputs: ctx.ui.outputs(),
            folder: env::current_dir().ok().map(|folder| PathBytes::of(&folder)),
            zone: quantity::zone_name(),
            exclude: config.exclude.value.clone(),
            single_copy: config.single_copy.value,
            slices: config.slices.value,
            of_node: rows
                .filter(|row| row.origin != Origin::Default)
                .filter(|row| OF_THE_NODE.contains(&row.key.as_str()))
                .filter_map(|row| Some((row.key, row.value?.to_string())))
                .collect(),
        };
        // It may have a secret.
        Ok(zeroize::Zeroizing::new(serde_json::to_vec(&Sent {
            command,
            rest,
        })?))
    }
}

impl Rest {
    /// Returns the node's configuration as this command has it.
    pub(super) fn config(&self, of_node: &Config) -> Config {
        let mut config = of_node.clone();
        config.exclude.value.clone_from(&self.exclude);
        config.single_copy.value = self.single_copy;
        config.slices.value = self.slices;
        config
    }

    /// Returns the folder that the command was called in.
    pub(super) fn folder(&self) -> Folder {
        Folder::Of(
            self.folder
                .as_ref()
                .map(|folder: &PathBytes| -> PathBuf { folder.path() }),
        )
    }

    /// Has this thread show times as the command would.
    pub(super) fn show_times(&self) {
        quantity::show_in(self.zone.as_deref());
    }

    /// Warns of what the command was told and the node does otherwise.
    pub(super) fn warn(&self, of_node: &Config, ui: &Ui, home: &Path) {
        let rows = of_node.rows();
        for (key, said) in &self.of_node {
            let row = rows.iter().find(|row| row.key == *key);
            let holds = row
                .and_then(|row| row.value.as_ref())
                .map(ToString::to_string);
            if let Some(holds) = holds.filter(|holds| holds != said) {
                ui.warn(&format!(
                    "{key} = {said} does not hold: the node that runs on {} was started with {holds}",
                    crate::ui::shown_path(home)
                ));
            }
        }
    }
}
