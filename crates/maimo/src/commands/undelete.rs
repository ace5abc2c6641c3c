//! `undelete`: brings back what is still in grace.

use std::io::{self, Write};

use maimo_client::undelete::{UndeleteReport, UndeleteRequest};
use maimo_core::clock::Timestamp;
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{
    context::Context,
    error::{CommandError, Exit},
    quantity::{Count, Moment, Size, parse_moment},
    relay::form,
    ui::{Page, Report},
};

/// Bring back what was let go and is still in grace
///
/// What a prune or a removal let go of, as far as the provider still holds it; it is pinned, so that no prune lets it go again.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// The state of TIME: 2026-11-23, "2026-11-23 18:00", 2026-11-23T18:00:00Z or "2 days ago" [default: before the last prune]
    #[serde(with = "form::time")]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    to: Option<Timestamp>,
    /// Say what would come back, and leave it
    #[arg(long)]
    dry_run: bool,
}

/// Brings it back.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let request = UndeleteRequest {
        to: args.to,
        dry_run: args.dry_run,
    };
    Ok(Box::new(Back(
        client.undelete(request, progress.control())?,
    )))
}

struct Back(UndeleteReport);

#[derive(Serialize)]
struct BackView {
    from: Option<Moment>,
    runs: u64,
    revisions: u64,
    lost: u64,
    bytes_sent: u64,
    sequence: u64,
}

impl Report for Back {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let Some(from) = self.0.from else {
            return writeln!(page, "nothing was let go that is still held");
        };
        writeln!(
            page,
            "{} runs and {} revisions are back, as of {}; {} sent",
            Count(self.0.runs),
            Count(self.0.revisions),
            Moment::from(from).local(),
            Size(self.0.bytes_sent),
        )
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = BackView {
            from: self.0.from.map(Moment::from),
            runs: self.0.runs,
            revisions: self.0.revisions,
            lost: self.0.lost,
            bytes_sent: self.0.bytes_sent,
            sequence: self.0.sequence,
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        match self.0.lost {
            0 => Ok(()),
            lost => Err(CommandError::new(
                Exit::Partial,
                "provider_refused",
                format!(
                    "{} revisions cannot be brought back: the provider freed them",
                    Count(lost)
                ),
            )),
        }
    }
}
