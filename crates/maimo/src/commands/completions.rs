//! `completions`: what a shell needs to complete commands and flags.

use std::io::{self, Write};

use clap_complete::Shell;

use crate::{
    cli,
    ui::{Page, Report},
};

/// Print completions for a shell
///
/// For example, for bash: maimo completions bash > ~/.local/share/bash-completion/completions/maimo
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Makes the script.
pub(crate) fn run(args: &Args) -> Box<dyn Report> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::command(), "maimo", &mut script);
    Box::new(Script(script))
}

struct Script(Vec<u8>);

impl Report for Script {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.write_all(&self.0)
    }

    /// A script is a script, whoever asks.
    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.text(page)
    }
}
