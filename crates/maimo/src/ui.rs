//! What a user sees: results on standard output, all else on standard error.
//!
//! A command makes a [`Report`] and never writes itself; here it becomes text for people or one JSON object a line for programs. Colour
//! repeats what words say already.

mod link;
mod page;
mod progress;
mod table;

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use maimo_client::progress::Control;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    link::{Link, Tor},
    page::{Page, hex, shown_path},
    progress::{Progress, phase_name},
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    out: Out,
}

/// Where the two outputs are.
#[derive(Clone)]
enum Out {
    /// This process's own.
    Here,
    /// Those of a process for which this one does something.
    Far(Arc<dyn Far>, FarOutputs),
}

/// The outputs of another process.
pub(crate) trait Far: Send + Sync {
    /// Writes to its standard output.
    fn write(&self, bytes: &[u8]) -> io::Result<()>;
    /// Writes a line to its standard error.
    fn line(&self, text: &str);
    /// Has progress shown there from now on; beside raw bytes, nothing of it goes to standard output.
    fn begin(&self, beside_bytes: bool);
    /// Has it shown no more.
    fn end(&self);
    /// Returns what tells its progress, and is cancelled when it wants to stop.
    fn control(&self) -> &Control;
}

/// How the outputs of another process are used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct FarOutputs {
    json: bool,
    talk: Talk,
    colour: bool,
    /// Whether standard output is a terminal.
    page_terminal: bool,
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "Here",
            Self::Far(..) => "Far",
        })
    }
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
            out: Out::Here,
        }
    }

    /// Makes one of another process's outputs; nothing is asked there, and this process's way to the network is its own.
    pub(crate) fn far(&self, far: Arc<dyn Far>, outputs: FarOutputs) -> Self {
        Self {
            json: outputs.json,
            talk: outputs.talk,
            terminal: false,
            colour: outputs.colour,
            link: self.link.clone(),
            out: Out::Far(far, outputs),
        }
    }

    /// Returns how another process is to use these outputs.
    pub(crate) fn outputs(&self) -> FarOutputs {
        FarOutputs {
            json: self.json,
            talk: self.talk,
            colour: self.colour,
            page_terminal: io::stdout().is_terminal(),
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

    /// Returns standard output.
    pub(crate) fn page(&self) -> Page<'_> {
        match &self.out {
            Out::Here => Page::stdout(),
            Out::Far(far, outputs) => Page::far(far, outputs.page_terminal),
        }
    }

    /// Writes a report to standard output, then returns its verdict.
    pub(crate) fn report(&self, report: &dyn Report) -> Result<(), CommandError> {
        let mut page = self.page();
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
            self.line(text);
        }
    }

    /// Warns of what does not end the command.
    pub(crate) fn warn(&self, text: &str) {
        if self.json {
            self.json_line(&Warning {
                message_type: "warning",
                message: text,
            });
        } else {
            self.line(&format!("{} {text}", self.paint("33", "warning:")));
        }
    }

    /// Tells why the command failed.
    pub(crate) fn fail(&self, error: &CommandError) {
        if error.is_quiet() {
            return;
        }
        if self.json {
            self.json_line(&error.view());
            return;
        }
        self.line(&format!("{} {error}", self.paint("31;1", "error:")));
        if let Some(hint) = error.hint_text() {
            self.line(&format!("{} {hint}", self.paint("36", "hint:")));
        }
    }

    /// Returns the progress of a long command; it ends when it is dropped.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self, false)
    }

    /// Returns the progress of a command that writes raw bytes to standard output: nothing of it goes there.
    pub(crate) fn progress_beside_bytes(&self) -> Progress {
        Progress::new(self, true)
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

    /// Writes a line to standard error. Where that fails there is nobody left to tell.
    pub(crate) fn line(&self, text: &str) {
        match &self.out {
            Out::Here => drop(writeln!(io::stderr().lock(), "{text}")),
            Out::Far(far, _) => far.line(text),
        }
    }

    fn json_line(&self, object: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(object) {
            self.line(&text);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[derive(Serialize)]
struct Warning<'a> {
    message_type: &'static str,
    message: &'a str,
}
