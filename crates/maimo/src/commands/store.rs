//! `store`: what changed since last time, as new revisions.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use maimo_client::store::{StoreReport, StoreRequest};
use serde::{Deserialize, Serialize};

use super::{
    Outcome, absolute_all,
    damage::{RevisionView, lost, revisions, views, write_revisions},
};
use crate::{
    context::Context,
    error::CommandError,
    quantity::{Count, Size},
    relay::form,
    ui::{Page, Report, shown_path},
};

/// Store what changed since last time
///
/// Files that are as they were cost nothing. A file that cannot be read is told and left out (exit code 3). What was cut off is finished by
/// running it again. Stored is what every channel of the store has acknowledged and signed for.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Files and folders
    #[serde(with = "form::paths")]
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Delete each file here once it is proven that its provider has all of it
    ///
    /// Possession of every byte is proven on every channel, the deletion written down, the file read once more and compared. Wants the words
    /// verified once (`maimo verify-phrase`) and two channels, or --single-copy.
    #[arg(long)]
    delete_local: bool,
    /// With --delete-local: make do with one channel
    #[arg(long)]
    single_copy: bool,
    /// Leave out what matches, for example '*.o' or '/home/u/Downloads'; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Say what would be stored and deleted, and do neither
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Returns what to call it.
    pub(super) fn what(&self) -> String {
        match self.paths.as_slice() {
            [path] => format!("store {}", shown_path(path)),
            paths => format!("store of {} paths", paths.len()),
        }
    }
}

/// Stores it.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let mut excludes = ctx.config.exclude.value.clone();
    excludes.extend(args.exclude.iter().filter(|glob| !glob.is_empty()).cloned());
    let request = StoreRequest {
        paths: absolute_all(&ctx.folder, &args.paths)?,
        excludes,
        domains: ctx.config.domains.value.folders(),
        delete_local: args.delete_local,
        single_copy: args.single_copy || ctx.config.single_copy.value,
        dry_run: args.dry_run,
        ..StoreRequest::default()
    };
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let report = client.store(&request, progress.control())?;
    Ok(Box::new(Stored {
        report,
        delete_local: args.delete_local,
        dry_run: args.dry_run,
    }))
}

struct Stored {
    report: StoreReport,
    delete_local: bool,
    dry_run: bool,
}

#[derive(Serialize)]
struct StoredView<'a> {
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    bytes_read: u64,
    bytes_stored: u64,
    bytes_sent: u64,
    files_deleted: u64,
    errors: u64,
    sequence: u64,
    roots: Vec<RootView>,
    /// Mirrors that do not have it yet.
    behind: Vec<String>,
    dry_run: bool,
    chunks_restored: u64,
    vital_restored: u64,
    revisions_lost: Vec<RevisionView<'a>>,
}

/// The 32 bytes of a channel.
#[derive(Serialize)]
struct RootView {
    channel: String,
    root: String,
}

impl Report for Stored {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        let would = if self.dry_run { "would be " } else { "" };
        let changed = report.files_new + report.files_changed;
        writeln!(
            page,
            "{} files {would}stored ({} new, {} changed), {} as they were",
            Count(changed),
            Count(report.files_new),
            Count(report.files_changed),
            Count(report.files_unmodified),
        )?;
        if !self.dry_run {
            writeln!(
                page,
                "{} read, {} added to the store, {} sent",
                Size(report.bytes_read),
                Size(report.bytes_stored),
                Size(report.bytes_sent),
            )?;
        }
        let healed = &report.healed;
        if healed.chunks + healed.vital > 0 {
            writeln!(
                page,
                "stored again what was damaged at a provider: chunks {}",
                Count(healed.chunks + healed.vital)
            )?;
        }
        if !healed.lost.is_empty() {
            let lost = revisions(healed.lost.len() as u64);
            writeln!(page, "{lost} lost: nothing has all of their bytes")?;
            write_revisions(page, "  ", &healed.lost)?;
        }
        if self.delete_local {
            writeln!(
                page,
                "{} files {would}deleted here",
                Count(report.files_deleted)
            )?;
        }
        if !self.dry_run {
            writeln!(page, "state {}", report.sequence)?;
            for (channel, root) in &report.roots {
                writeln!(page, "  {channel}: {root}")?;
            }
            for behind in &report.behind {
                writeln!(
                    page,
                    "{}; it catches up with a later command",
                    behind.text()
                )?;
            }
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        let roots = report.roots.iter().map(|(channel, root)| RootView {
            channel: channel.clone(),
            root: root.to_string(),
        });
        let view = StoredView {
            files_new: report.files_new,
            files_changed: report.files_changed,
            files_unmodified: report.files_unmodified,
            bytes_read: report.bytes_read,
            bytes_stored: report.bytes_stored,
            bytes_sent: report.bytes_sent,
            files_deleted: report.files_deleted,
            errors: report.troubles.len() as u64,
            sequence: report.sequence,
            roots: roots.collect(),
            behind: report.behind.iter().map(|it| it.channel.clone()).collect(),
            dry_run: self.dry_run,
            chunks_restored: report.healed.chunks,
            vital_restored: report.healed.vital,
            revisions_lost: views(&report.healed.lost),
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        lost(&self.report.healed)?;
        CommandError::in_part(self.report.troubles.len() as u64)
    }
}
