//! `root`: the 32 bytes of each channel.

use std::io::{self, Write};

use maimo_client::status::RootReport;
use serde::{Deserialize, Serialize};

use super::{Outcome, channel::shown_root};
use crate::{
    context::Context,
    ui::{Page, Report},
};

/// Print the root of each channel: the 32 bytes that everything is checked against
///
/// Kept anywhere else as well, it proves to `maimo recover` that a provider shows the newest state.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {}

/// Prints them.
pub(crate) fn run(_args: &Args, ctx: &Context) -> Outcome {
    let view = ctx.view()?;
    Ok(Box::new(Roots(view.root()?)))
}

struct Roots(Vec<RootReport>);

#[derive(Serialize)]
struct RootView<'a> {
    channel: &'a str,
    root: Option<String>,
    sequence: u64,
    check: &'a str,
}

impl Report for Roots {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for root in &self.0 {
            writeln!(page, "{}  {} {}", root.root, root.channel, root.sequence)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for root in &self.0 {
            let view = RootView {
                channel: &root.channel,
                root: shown_root(&root.root),
                sequence: root.sequence,
                check: &root.check,
            };
            page.json("root", &view)?;
        }
        Ok(())
    }
}
