//! What a user sees: results on standard output, all else on standard error.
//!
//! A command makes a [`Report`] and never writes itself; here it becomes text for people or one JSON object a line for programs. Colour
//! repeats what words say already.

mod link;
mod page;
mod progress;
mod table;

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

pub(crate) use self::{
    link::{Link, Tor},
    page::{Page, hex, shown_path},
    progress::Progress,
    table::{Align, Table},
};
use crate::{cli::Global, error::CommandError};

/// What a command found or did, for both kinds of readers.
pub(crate) trait Report {
    /// Writes it for people.
    fn text(&self, page: &mut Page<'_>) -> io::Result<()>;

    /// Writes it for programs: one object a line, by [`Page::json`].
    fn json(&self, page: &mut Page<'_>) -> io::Result<()>;

    /// Returns an error if what was reported is not all that was asked for; told after the report.
    fn verdict(&self) -> Result<(), CommandError> {
        Ok(())
    }
}

/// A report without a word: what was to be told has been.
pub(crate) struct Told;

impl Report for Told {
    fn text(&self, _page: &mut Page<'_>) -> io::Result<()> {
        Ok(())
    }

    fn json(&self, _page: &mut Page<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// How much is said on standard error beside errors and warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Talk {
    Quiet,
    Normal,
    Verbose,
}

/// The two outputs, and how they are used.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    json: bool,
    talk: Talk,
    terminal: bool,
    colour: bool,
    link: Link,
}

impl Ui {
    /// Makes it of the flags and what standard error is.
    pub(crate) fn new(global: &Global) -> Self {
        let terminal = io::stderr().is_terminal();
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            json: global.json,
            talk: match (global.quiet, global.verbose) {
                (true, _) => Talk::Quiet,
                (false, 0) => Talk::Normal,
                (false, _) => Talk::Verbose,
            },
            terminal,
            colour: terminal && !plain,
            link: Link::default(),
        }
    }

    /// Takes what the configuration says where no flag spoke.
    pub(crate) fn settle(&mut self, quiet: bool, verbose: bool) {
        if self.talk == Talk::Normal {
            self.talk = match (quiet, verbose) {
                (true, _) => Talk::Quiet,
                (false, true) => Talk::Verbose,
                (false, false) => Talk::Normal,
            };
        }
    }

    /// Returns how the way to the network stands, to be noted and to be shown.
    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    /// Returns whether results are JSON.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a report to standard output, then returns its verdict.
    pub(crate) fn report(&self, report: &dyn Report) -> Result<(), CommandError> {
        let mut page = Page::stdout();
        if self.json {
            report.json(&mut page)?;
        } else {
            report.text(&mut page)?;
        }
        page.flush()?;
        report.verdict()
    }

    /// Says what is going on: not a result, not a warning.
    pub(crate) fn say(&self, text: &str) {
        if self.talk >= Talk::Normal && !self.json {
            line(text);
        }
    }

    /// Warns of what does not end the command.
    pub(crate) fn warn(&self, text: &str) {
        if self.json {
            json_line(&Warning {
                message_type: "warning",
                message: text,
            });
        } else {
            line(&format!("{} {text}", self.paint("33", "warning:")));
        }
    }

    /// Tells why the command failed.
    pub(crate) fn fail(&self, error: &CommandError) {
        if error.is_quiet() {
            return;
        }
        if self.json {
            json_line(&error.view());
            return;
        }
        line(&format!("{} {error}", self.paint("31;1", "error:")));
        if let Some(hint) = error.hint_text() {
            line(&format!("{} {hint}", self.paint("36", "hint:")));
        }
    }

    /// Returns the progress of a long command; it ends when it is dropped.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self)
    }

    /// Returns whether standard error is a terminal: only there is anything drawn or asked.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Returns whether details are wanted.
    pub(crate) fn is_verbose(&self) -> bool {
        self.talk == Talk::Verbose
    }

    /// Returns whether nothing but errors and warnings is wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.talk == Talk::Quiet
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes a line to standard error. Where that fails there is nobody left to tell.
fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn json_line(object: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(object) {
        line(&text);
    }
}

#[derive(Serialize)]
struct Warning<'a> {
    message_type: &'static str,
    message: &'a str,
}
