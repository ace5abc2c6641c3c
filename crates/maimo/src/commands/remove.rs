//! `remove`: paths that are no longer of the store.

use std::io::{self, Write};

use maimo_client::revise::{RemoveReport, RemoveRequest};
use serde::{Deserialize, Serialize};

use super::{Outcome, absolute_pattern, list::source_of};
use crate::{
    context::Context,
    quantity::Count,
    ui::{Page, Report},
};

/// Take files out of the store
///
/// They are no longer listed and no longer come back unless asked for; their old revisions stay as long as the policy says (`maimo keep`), and
/// `maimo prune` then lets go of the bytes. Local files are not touched.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Files, folders or globs, by their paths on the machine they came from
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// Only this revision, as `maimo history` numbers it
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Files of this machine, or of `all` [default: this one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Say what would be removed, and do not
    #[arg(long)]
    dry_run: bool,
}

/// Removes them.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let request = RemoveRequest {
        paths: args
            .paths
            .iter()
            .map(|text| absolute_pattern(&ctx.folder, text))
            .collect::<Result<_, _>>()?,
        revision: args.revision,
        source: source_of(args.source.as_deref()),
        dry_run: args.dry_run,
    };
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let report = client.remove(&request, progress.control())?;
    Ok(Box::new(Removed {
        report,
        dry_run: args.dry_run,
    }))
}

struct Removed {
    report: RemoveReport,
    dry_run: bool,
}

#[derive(Serialize)]
struct RemovedView {
    files: u64,
    bytes: u64,
    revisions: u64,
    sequence: u64,
    dry_run: bool,
}

impl Report for Removed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            page,
            "{} files {would}removed from the store",
            Count(self.report.files)
        )
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = RemovedView {
            files: self.report.files,
            bytes: self.report.bytes,
            revisions: self.report.revisions,
            sequence: self.report.sequence,
            dry_run: self.dry_run,
        };
        page.json("summary", &view)
    }
}
