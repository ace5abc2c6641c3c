//! `provider`: the keys of this node as one that stores for others.

use std::io::{self, Write};

use clap::Subcommand;
use maimo_provider::keys::ProviderPhrase;
use serde::Serialize;

use super::{Outcome, init::write_words};
use crate::{
    context::Context,
    ui::{Page, Report},
};

/// This node as a provider: the 24 words of its keys
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the 24 words of the provider's own keys
    ///
    /// With them and its volumes a provider comes back as the same one. They open nobody's store; who has them can pretend to be this provider.
    Backup,
}

/// Prints them.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Backup => Ok(Box::new(Backup(ctx.provider()?.phrase()))),
    }
}

struct Backup(ProviderPhrase);

#[derive(Serialize)]
struct BackupView<'a> {
    phrase: &'a str,
}

impl Report for Backup {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(
            page,
            "The provider's keys, as 24 words. They open nobody's store.\n"
        )?;
        write_words(page, self.0.as_str())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.json(
            "provider",
            &BackupView {
                phrase: self.0.as_str(),
            },
        )
    }
}
