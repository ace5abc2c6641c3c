//! `recover`: from the words and a provider to a working catalog.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use maimo_client::{
    client::Client,
    recover::{RecoverReport, RecoverRequest},
};
use maimo_core::id::RootHash;
use maimo_vault::recover::Confirmed;
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    target::{self, Target},
};
use crate::{
    context::Context,
    error::CommandError,
    quantity::{Count, Moment},
    relay::form,
    ui::{Page, Report},
};

/// Rebuild the catalog from the words and a provider
///
/// First `maimo init --phrase-file FILE`, then this. Says whether the state that the provider shows is the newest there was: a root kept
/// elsewhere confirms it, or what another channel says of this one; else only the provider's word does.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// The provider's address, or its folder
    #[serde(with = "form::path")]
    #[arg(value_name = "ADDRESS|DIRECTORY")]
    target: OsString,
    /// The last root you know of, 64 hex digits, as `maimo root` prints it
    #[serde(with = "form::root")]
    #[arg(long, value_name = "HEX", value_parser = parse_root)]
    root: Option<RootHash>,
    /// Do without the journal, because it is lost or damaged: rebuild files from what their packs say of them, and begin a new journal
    ///
    /// Copies and renames of files, what became of paths, runs and policies are the journal's alone, and are lost with it.
    #[arg(long)]
    from_packs: bool,
}

impl Args {
    /// Asks for what the user is to be asked for, before another process does it.
    pub(super) fn gather(&mut self, ctx: &Context) -> Result<(), CommandError> {
        target::gather(&mut self.target, ctx)
    }
}

fn parse_root(text: &str) -> Result<RootHash, String> {
    text.parse()
        .map_err(|_| "a root is 64 hex digits".to_owned())
}

/// Rebuilds it.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let request = RecoverRequest {
        address: match Target::read(&args.target, ctx)? {
            Target::Folder(address) | Target::Address(address) => address,
            Target::Invitation(_) => {
                return Err(CommandError::usage(
                    "an invitation opens a new channel, it brings nothing back",
                )
                .hint("give the provider's address: its host and port"));
            }
        },
        root: args.root,
        from_packs: args.from_packs,
    };
    // A node that runs has its state, and would not have started without.
    if ctx.guest.is_none() && Client::begin_anew(&ctx.places.home, None)? {
        ctx.ui
            .say("The node's state was lost: begun anew, as a new machine of the store.");
    }
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    Ok(Box::new(Recovered(
        client.recover(&request, progress.control())?,
    )))
}

struct Recovered(RecoverReport);

#[derive(Serialize)]
struct RecoveredView<'a> {
    sequence: u64,
    root: String,
    channel: &'a str,
    time: Moment,
    files: u64,
    confirmed: bool,
    confirmed_by: Option<&'static str>,
    behind: &'a [String],
    unreadable_packs: u64,
}

impl Recovered {
    /// Returns what vouches that there is no newer state.
    const fn confirmed_by(&self) -> Option<&'static str> {
        match self.0.confirmed {
            Confirmed::ByRoot => Some("root"),
            Confirmed::ByWitness => Some("witness"),
            Confirmed::No => None,
        }
    }
}

impl Report for Recovered {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.0;
        let time = Moment::from(report.time).local();
        writeln!(
            page,
            "{} files; state {} of {time}",
            Count(report.files),
            report.sequence
        )?;
        writeln!(page, "root {}", report.root)?;
        match self.confirmed_by() {
            Some("root") => writeln!(
                page,
                "Confirmed by the root you gave: there was no newer state when you kept it."
            )?,
            Some(_) => writeln!(page, "Confirmed by what another channel has seen.")?,
            None => writeln!(
                page,
                "This is the newest state that {} shows; nothing else confirms that there was none newer.",
                report.channel
            )?,
        }
        if report.unreadable > 0 {
            writeln!(
                page,
                "{} packs could not be read: what only they told is lost.",
                Count(report.unreadable)
            )?;
        }
        for name in &report.behind {
            writeln!(
                page,
                "Channel {name} shows less than another channel has seen of it."
            )?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.0;
        let view = RecoveredView {
            sequence: report.sequence,
            root: report.root.to_string(),
            channel: &report.channel,
            time: report.time.into(),
            files: report.files,
            confirmed: self.confirmed_by().is_some(),
            confirmed_by: self.confirmed_by(),
            behind: &report.behind,
            unreadable_packs: report.unreadable,
        };
        page.json("summary", &view)
    }
}
