//! `verify-phrase`: whether the words on paper are this store's.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use super::{Outcome, init::read_phrase};
use crate::{
    context::Context,
    error::{CommandError, Exit},
    passphrase::{self, Secret},
    ui::{Page, Report},
};

/// Ask for the 24 words and say whether they are this store's
///
/// `store --delete-local` wants this done once: without the words a store is lost with the machine.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Read the words from this file instead, or - for standard input
    #[serde(skip)]
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// The words, where they were read already.
    #[arg(skip)]
    words: Option<Words>,
}

/// Words that nothing shows.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Words(String);

impl Drop for Words {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Words(..)")
    }
}

impl Args {
    /// Asks for the words, before another process compares them.
    pub(super) fn gather(&mut self, ctx: &Context) -> Result<(), CommandError> {
        self.words = Some(Words(self.read(ctx)?.to_string()));
        Ok(())
    }

    fn read(&self, ctx: &Context) -> Result<Secret, CommandError> {
        match &self.phrase_file {
            Some(file) => read_phrase(file),
            None => {
                passphrase::ask(&ctx.ui, "The 24 words (they are not shown): ")?.ok_or_else(|| {
                    CommandError::usage("there is no terminal to ask for the words on")
                        .hint("use --phrase-file FILE, or --phrase-file - for standard input")
                })
            }
        }
    }
}

/// Asks and compares.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let client = ctx.client()?;
    let matches = match &args.words {
        Some(Words(words)) => client.verify_phrase(words)?,
        None => client.verify_phrase(&args.read(ctx)?)?,
    };
    Ok(Box::new(Answer { matches }))
}

#[derive(Serialize)]
struct Answer {
    matches: bool,
}

impl Report for Answer {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.matches {
            writeln!(page, "These are this store's words.")?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.json("verify_phrase", self)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        if self.matches {
            return Ok(());
        }
        Err(
            CommandError::new(Exit::Failed, "bad_input", "these words open another store")
                .hint("compare them with your written copy, one by one and in order"),
        )
    }
}
