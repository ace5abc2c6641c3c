//! `volume`: where this node keeps others' packs.

use std::{
    io::{self, Write},
    path::{Path, PathBuf, absolute},
};

use clap::Subcommand;
use maimo_provider::provider::Provider;
pub(super) use maimo_provider::provider::{VolumeState, VolumeStatus};
use serde::Serialize;

use super::{Outcome, PathView};
use crate::{
    context::Context,
    control::{Answer, PathBytes, Request, astray},
    error::CommandError,
    quantity::{Size, parse_size},
    ui::{Align, Page, Report, Table, shown_path},
};

/// Keep others' packs: add, list, drain and remove the folders for them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a folder
    ///
    /// The first one makes this node a provider with keys of its own: write down their 24 words (`maimo provider backup`).
    Add {
        /// The folder; made if it is not there
        path: PathBuf,
        /// How many bytes it may take: 500GiB, 2TB
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        capacity: u64,
    },
    /// List the volumes
    List,
    /// Move all that a volume holds to the others, and put nothing new there
    Drain {
        /// The folder
        path: PathBuf,
    },
    /// Forget a volume that holds nothing more
    Remove {
        /// The folder
        path: PathBuf,
    },
}

/// Does it.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    let home = &ctx.places.provider;
    match command {
        Command::Add { path, capacity } => {
            let path = whole(path)?;
            let is_new = !Provider::exists(home);
            if is_new {
                drop(Provider::create(home)?);
            }
            let added = asked(
                ctx,
                Request::AddVolume {
                    path: PathBytes::of(&path),
                    capacity: *capacity,
                },
            )?;
            if is_new {
                ctx.ui.say("This node is a provider now. `maimo provider backup` prints the 24 words of its keys: write them down.");
            }
            Ok(Box::new(Volumes(of_path(added, &path))))
        }
        Command::List => Ok(Box::new(Volumes(all(ctx)?))),
        Command::Drain { path } => {
            let path = whole(path)?;
            let request = Request::DrainVolume {
                path: PathBytes::of(&path),
            };
            Ok(Box::new(Volumes(of_path(asked(ctx, request)?, &path))))
        }
        Command::Remove { path } => {
            let path = whole(path)?;
            let request = Request::RemoveVolume {
                path: PathBytes::of(&path),
            };
            let left = asked(ctx, request)?;
            ctx.ui
                .say(&format!("{} is no volume any more", shown_path(&path)));
            Ok(Box::new(Volumes(left)))
        }
    }
}

/// Returns all volumes of this node; none where it stores for nobody.
pub(super) fn all(ctx: &Context) -> Result<Vec<VolumeStatus>, CommandError> {
    if Provider::exists(&ctx.places.provider) {
        asked(ctx, Request::Volumes)
    } else {
        Ok(Vec::new())
    }
}

fn asked(ctx: &Context, request: Request) -> Result<Vec<VolumeStatus>, CommandError> {
    match ctx.ask_provider(request)? {
        Answer::Volumes(rows) => Ok(rows.into_iter().map(VolumeStatus::from).collect()),
        _ => Err(astray()),
    }
}

fn whole(path: &Path) -> Result<PathBuf, CommandError> {
    absolute(path).map_err(|error| CommandError::io("find", path, &error))
}

fn of_path(volumes: Vec<VolumeStatus>, path: &Path) -> Vec<VolumeStatus> {
    volumes
        .into_iter()
        .filter(|volume| volume.path == path)
        .collect()
}

struct Volumes(Vec<VolumeStatus>);

/// A volume as a program reads it.
#[derive(Serialize)]
pub(super) struct VolumeView<'a> {
    #[serde(flatten)]
    path: PathView<'a>,
    capacity: u64,
    used: u64,
    free: u64,
    state: &'static str,
}

impl<'a> VolumeView<'a> {
    pub(super) fn of(volume: &'a VolumeStatus) -> Self {
        Self {
            path: PathView::of(&volume.path),
            capacity: volume.capacity,
            used: volume.used,
            free: volume.free,
            state: state_name(volume.state),
        }
    }
}

impl Report for Volumes {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(page, "no volumes: this node stores for nobody");
        }
        write_volumes(page, &self.0)
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for volume in &self.0 {
            page.json("volume", &VolumeView::of(volume))?;
        }
        Ok(())
    }
}

/// Writes volumes as a table.
pub(super) fn write_volumes(page: &mut Page<'_>, volumes: &[VolumeStatus]) -> io::Result<()> {
    let mut table = Table::new(&[
        ("used", Align::Right),
        ("capacity", Align::Right),
        ("free", Align::Right),
        ("state", Align::Left),
        ("path", Align::Left),
    ]);
    for volume in volumes {
        table.row([
            Size(volume.used).to_string(),
            Size(volume.capacity).to_string(),
            Size(volume.free).to_string(),
            state_name(volume.state).to_owned(),
            shown_path(&volume.path).into_owned(),
        ]);
    }
    table.write(page)
}

const fn state_name(state: VolumeState) -> &'static str {
    match state {
        VolumeState::Ready => "ready",
        VolumeState::Draining => "draining",
        VolumeState::Unavailable => "unavailable",
        // Failed, or a state that this version has no word for.
        _ => "failed",
    }
}
