//! `init`: makes the node and its store.

use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
};

use maimo_client::client::{Client, InitOptions, Initialised};
use maimo_vault::phrase::Phrase;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Outcome;
use crate::{
    context::Context,
    error::CommandError,
    passphrase::{self, Secret},
    ui::{Page, Report},
};

/// Make a node and its store, and show the 24 words that open it
///
/// The words are all it takes to rebuild the store from a provider, and all it takes to read it. They are shown once: write them down on
/// paper. Nobody can give them back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take over the store of these words instead: the file that has them, or - for standard input
    ///
    /// Then open a channel by `maimo recover`.
    #[arg(long, value_name = "FILE")]
    phrase_file: Option<PathBuf>,
    /// Call this machine NAME in the store [default: the host name]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Ask for a passphrase that protects the key on this disk
    ///
    /// Without one whoever has this disk has the key and all names. --passphrase-file, --passphrase-command or `MAIMO_PASSPHRASE` set one too.
    #[arg(long)]
    ask_passphrase: bool,
}

/// Makes them.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let mut passphrase = passphrase::given(&ctx.config)?;
    if passphrase.is_none() && args.ask_passphrase {
        passphrase = Some(passphrase::ask_new(&ctx.ui)?);
    }
    let protected = passphrase.is_some();
    let options = InitOptions {
        phrase: args.phrase_file.as_deref().map(read_phrase).transpose()?,
        source: args.source.clone(),
        passphrase,
    };
    let made = Client::init(&ctx.places.home, &options)?;
    if !protected {
        ctx.ui.say(
            "The key lies in clear on this disk: whoever has the disk can read every name and every file of the store.",
        );
    }
    Ok(Box::new(Made(made)))
}

/// Reads the words of a file, or of standard input for `-`.
pub(super) fn read_phrase(file: &std::path::Path) -> Result<Secret, CommandError> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let read = if file.as_os_str() == "-" {
        io::stdin().take(4096).read_to_string(&mut text).map(drop)
    } else {
        fs::File::open(file).and_then(|file| file.take(4096).read_to_string(&mut text).map(drop))
    };
    read.map_err(|error| CommandError::io("read the words from", file, &error))?;
    Ok(text)
}

struct Made(Initialised);

#[derive(Serialize)]
struct MadeView<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phrase: Option<&'a str>,
}

impl Report for Made {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(page, "This machine is `{}` in the store.", self.0.source)?;
        let Some(phrase) = &self.0.phrase else {
            return writeln!(
                page,
                "The store is the one of your words; `maimo recover DIRECTORY` brings its catalog back."
            );
        };
        writeln!(
            page,
            "\nWrite these 24 words down, in this order. They are shown once.\n"
        )?;
        write_words(page, phrase.as_str())?;
        writeln!(page, "\nNext: maimo channel open DIRECTORY")
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = MadeView {
            source: &self.0.source,
            phrase: self.0.phrase.as_ref().map(Phrase::as_str),
        };
        page.json("init", &view)
    }
}

/// Writes words with their numbers, four a line.
pub(super) fn write_words(page: &mut Page<'_>, phrase: &str) -> io::Result<()> {
    for (index, word) in phrase.split_whitespace().enumerate() {
        let number = index + 1;
        write!(page, "{number:>4}. {word:<10}")?;
        if number % 4 == 0 {
            writeln!(page)?;
        }
    }
    Ok(())
}
