//! `prune`: lets go what no policy keeps.

use std::io::{self, Write};

use maimo_client::prune::{PruneReport, PruneRequest};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{
    context::Context,
    quantity::{Count, Moment, Size, parse_size},
    ui::{Page, Report},
};

/// Let go what no policy keeps
///
/// Moves almost no bytes: what is let go leaves the list of what the provider must hold, waits there through its grace (`maimo undelete`), and
/// is then freed in place. Packs are written again only where waste passes a tenth.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Say what would be let go, and do not
    #[arg(long)]
    dry_run: bool,
    /// Write no pack again, however much of it is waste
    #[arg(long)]
    no_rewrite: bool,
    /// Move at most so much for packs that are written again
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_move: Option<u64>,
}

/// Prunes.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let request = PruneRequest {
        dry_run: args.dry_run,
        no_rewrite: args.no_rewrite,
        move_max: args.max_move,
    };
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let report = client.prune(request, progress.control())?;
    Ok(Box::new(Pruned {
        report,
        dry_run: args.dry_run,
    }))
}

struct Pruned {
    report: PruneReport,
    dry_run: bool,
}

#[derive(Serialize)]
struct PrunedView {
    runs_dropped: u64,
    revisions_dropped: u64,
    packs_dropped: u64,
    bytes_dropped: u64,
    dictionaries_retired: u64,
    free_on: Option<Moment>,
    packs_rewritten: u64,
    bytes_sent: u64,
    bytes_received: u64,
    sequence: u64,
    dry_run: bool,
}

impl Report for Pruned {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        let would = if self.dry_run { "would be " } else { "" };
        writeln!(
            page,
            "{} runs and {} revisions {would}dropped",
            Count(report.runs_dropped),
            Count(report.revisions_dropped),
        )?;
        write!(
            page,
            "{} and {} whole packs {would}let go",
            Size(report.bytes_dropped),
            Count(report.packs_dropped)
        )?;
        if let Some(date) = report.free_on {
            write!(page, ", free on {}", Moment::from(date).date())?;
        }
        writeln!(page)?;
        if report.dictionaries_retired > 0 {
            writeln!(
                page,
                "{} dictionaries {would}retired: nothing that is kept was compressed with them",
                Count(report.dictionaries_retired)
            )?;
        }
        if report.packs_rewritten > 0 {
            writeln!(
                page,
                "{} packs {would}written again: {} sent, {} received",
                Count(report.packs_rewritten),
                Size(report.bytes_sent),
                Size(report.bytes_received),
            )?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        let view = PrunedView {
            runs_dropped: report.runs_dropped,
            revisions_dropped: report.revisions_dropped,
            packs_dropped: report.packs_dropped,
            bytes_dropped: report.bytes_dropped,
            dictionaries_retired: report.dictionaries_retired,
            free_on: report.free_on.map(Moment::from),
            packs_rewritten: report.packs_rewritten,
            bytes_sent: report.bytes_sent,
            bytes_received: report.bytes_received,
            sequence: report.sequence,
            dry_run: self.dry_run,
        };
        page.json("summary", &view)
    }
}
