//! `config`: what holds, and why.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde::Serialize;

use crate::{
    config::{Origin, Row},
    context::Context,
    ui::{Page, Report},
};

/// Show the configuration, or where it is read from
///
/// One TOML file. Every key has a default; a flag of the same name beats the variable `MAIMO_<NAME>`, that beats the file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every key with its documentation and what holds
    ///
    /// What is printed is a configuration file that says the same: maimo config show > "$(maimo config path)"
    Show {
        /// Say of each value where it comes from: default, file, variable or flag
        #[arg(long)]
        origin: bool,
    },
    /// Print the path of the configuration file, whether it is there or not
    Path,
}

/// Shows it.
pub(crate) fn run(command: &Command, ctx: &Context) -> Box<dyn Report> {
    match command {
        Command::Show { origin } => Box::new(Shown {
            rows: ctx.config.rows(),
            origin: *origin,
        }),
        Command::Path => Box::new(FilePath(ctx.places.config.clone())),
    }
}

struct Shown {
    rows: Vec<Row>,
    origin: bool,
}

#[derive(Serialize)]
struct KeyView<'a> {
    key: &'a str,
    value: &'a Option<toml::Value>,
    default: &'a Option<toml::Value>,
    origin: &'static str,
    from: Option<String>,
    doc: &'a str,
}

impl Report for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for row in &self.rows {
            for line in row.doc.lines() {
                writeln!(page, "# {}", line.trim())?;
            }
            let value = row.value.as_ref().map(toml::Value::to_string);
            write!(page, "{} = {}", row.key, value.unwrap_or_default())?;
            if self.origin {
                write!(page, "  # {}", row.origin)?;
            }
            writeln!(page)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for row in &self.rows {
            let view = KeyView {
                key: &row.key,
                value: &row.value,
                default: &row.default,
                origin: origin_name(&row.origin),
                from: match &row.origin {
                    Origin::File(path) => Some(path.to_string_lossy().into_owned()),
                    Origin::Variable(name) => Some(name.clone()),
                    Origin::Default | Origin::Flag => None,
                },
                doc: row.doc,
            };
            page.json("key", &view)?;
        }
        Ok(())
    }
}

const fn origin_name(origin: &Origin) -> &'static str {
    match origin {
        Origin::Default => "default",
        Origin::File(_) => "file",
        Origin::Variable(_) => "variable",
        Origin::Flag => "flag",
    }
}

struct FilePath(PathBuf);

#[derive(Serialize)]
struct FilePathView<'a> {
    path: &'a Path,
    exists: bool,
}

impl Report for FilePath {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.path(&self.0)?;
        writeln!(page)
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let exists = self.0.exists();
        page.json(
            "config",
            &FilePathView {
                path: &self.0,
                exists,
            },
        )
    }
}
