//! `runs`, `diff`, `pin`: each `store` that completed, and what changed between two.

use std::io::{self, Write};

use maimo_client::browse::{DiffKind, DiffReport, RunReport};
use serde::{Deserialize, Serialize};

use super::{Outcome, PathView};
use crate::{
    context::Context,
    quantity::{Count, Moment, Size},
    ui::{Align, Page, Report, Table},
};

/// List the runs: each `store` that completed
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Only those of this machine [default: all]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Show what changed between two runs: + new, M other content, U other metadata, - no longer there
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct DiffArgs {
    /// The earlier run, as `maimo runs` names it
    #[arg(value_name = "RUN")]
    from: String,
    /// The later one
    #[arg(value_name = "RUN")]
    to: String,
}

/// Keep a run whatever the policy says
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct PinArgs {
    /// The run, as `maimo runs` names it
    run: String,
    /// Leave it to the policy again
    #[arg(long)]
    undo: bool,
}

/// Lists them.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let mut runs = ctx.view()?.runs()?;
    if let Some(source) = args.source.as_deref().filter(|source| *source != "all") {
        runs.retain(|run| run.source == source);
    }
    Ok(Box::new(Runs(runs)))
}

/// Compares two.
pub(crate) fn diff(args: &DiffArgs, ctx: &Context) -> Outcome {
    let view = ctx.view()?;
    Ok(Box::new(Differences(view.diff(&args.from, &args.to)?)))
}

/// Pins one, or lets it loose.
pub(crate) fn pin(args: &PinArgs, ctx: &Context) -> Outcome {
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let run = client.pin(&args.run, !args.undo, progress.control())?;
    Ok(Box::new(Runs(vec![run])))
}

struct Runs(Vec<RunReport>);

#[derive(Serialize)]
struct RunView<'a> {
    run: &'a str,
    source: &'a str,
    started: Moment,
    files: u64,
    bytes_stored: u64,
    pinned: bool,
}

impl Report for Runs {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(&[
            ("run", Align::Left),
            ("started", Align::Left),
            ("source", Align::Left),
            ("files", Align::Right),
            ("added", Align::Right),
            ("", Align::Left),
        ]);
        for run in &self.0 {
            table.row([
                run.run.clone(),
                Moment::from(run.started).local(),
                run.source.clone(),
                Count(run.files).to_string(),
                Size(run.bytes_stored).to_string(),
                if run.pinned { "pinned" } else { "" }.to_owned(),
            ]);
        }
        table.write(page)
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for run in &self.0 {
            let view = RunView {
                run: &run.run,
                source: &run.source,
                started: run.started.into(),
                files: run.files,
                bytes_stored: run.bytes_stored,
                pinned: run.pinned,
            };
            page.json("run", &view)?;
        }
        Ok(())
    }
}

struct Differences(Vec<DiffReport>);

#[derive(Serialize)]
struct DifferenceView<'a> {
    #[serde(flatten)]
    path: PathView<'a>,
    change: &'static str,
    size_before: Option<u64>,
    size_after: Option<u64>,
}

impl Report for Differences {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for difference in &self.0 {
            let mark = match difference.kind {
                DiffKind::Added => '+',
                DiffKind::Changed => 'M',
                DiffKind::Metadata => 'U',
                DiffKind::Removed => '-',
            };
            write!(page, "{mark} ")?;
            page.path(&difference.path)?;
            writeln!(page)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for difference in &self.0 {
            let view = DifferenceView {
                path: PathView::of(&difference.path),
                change: match difference.kind {
                    DiffKind::Added => "added",
                    DiffKind::Changed => "changed",
                    DiffKind::Metadata => "metadata",
                    DiffKind::Removed => "removed",
                },
                size_before: difference.size_before,
                size_after: difference.size_after,
            };
            page.json("difference", &view)?;
        }
        Ok(())
    }
}
