//! `scrub`: what is stored here, read again and checked against its names.

use std::io::{self, Write};

use maimo_client::progress::{Event, Phase};
use maimo_provider::provider::Provider;
use serde::Serialize;

use super::Outcome;
use crate::{
    context::Context,
    control::{Answer, Request, ScrubRow, astray, perform},
    error::{CommandError, Exit},
    quantity::{Count, Size},
    ui::{Page, Report},
};

/// Read all that is stored here for others, and check it against its names
///
/// What is damaged is told; its owner can bring it again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Scrub this folder channel instead of the node's own volumes
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<std::path::PathBuf>,
}

/// Reads and checks.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let answer = match &args.directory {
        Some(folder) => {
            let provider = Provider::open_folder(folder, None)?;
            let progress = ctx.ui.progress();
            let control = progress.control();
            control.tell(Event::Phase(Phase::Proving));
            perform(&provider, Request::Scrub, &|done, total| {
                control.tell(Event::Total {
                    files: 0,
                    bytes: total,
                });
                control.tell(Event::Done {
                    files: 0,
                    bytes: done,
                });
                !control.is_cancelled()
            })?
        }
        None => ctx.ask_provider(Request::Scrub)?,
    };
    match answer {
        Answer::Scrubbed(report) => Ok(Box::new(Scrubbed(report))),
        _ => Err(astray()),
    }
}

struct Scrubbed(ScrubRow);

#[derive(Serialize)]
struct ScrubbedView {
    packs: u64,
    bytes: u64,
    damaged: u64,
}

impl Report for Scrubbed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(
            page,
            "{} packs, {} read, {} damaged",
            Count(self.0.packs),
            Size(self.0.bytes),
            Count(self.0.damaged.len() as u64),
        )?;
        for damage in &self.0.damaged {
            writeln!(page, "  {damage}")?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = ScrubbedView {
            packs: self.0.packs,
            bytes: self.0.bytes,
            damaged: self.0.damaged.len() as u64,
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        match self.0.damaged.len() {
            0 => Ok(()),
            damaged => Err(CommandError::new(
                Exit::AuditFailed,
                "local_corrupt",
                format!("{damaged} damages found"),
            )
            .hint("check the disk; the packs' owners can bring them again")),
        }
    }
}
