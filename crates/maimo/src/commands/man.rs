//! `man`: a manual page for every command.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use clap::Command;
use clap_mangen::Man;
use serde::Serialize;

use super::Outcome;
use crate::{
    cli,
    error::CommandError,
    ui::{Page, Report},
};

/// Write the manual pages into a folder
///
/// One page a command, in section 1: maimo.1, maimo-store.1 and so on. For example: maimo man ~/.local/share/man/man1
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder; made if it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes them.
pub(crate) fn run(args: &Args) -> Outcome {
    let folder = &args.folder;
    fs::create_dir_all(folder)
        .map_err(|error| CommandError::io("make the folder", folder, &error))?;
    let mut command = cli::command();
    command.build();
    let mut pages = Pages::default();
    write_pages(&command, "maimo", folder, &mut pages.files)?;
    Ok(Box::new(pages))
}

fn write_pages(
    command: &Command,
    name: &str,
    folder: &Path,
    files: &mut Vec<PathBuf>,
) -> Result<(), CommandError> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    let titled = command
        .clone()
        .name(name.to_owned())
        .bin_name(name.replace('-', " "));
    Man::new(titled).render(&mut page)?;
    fs::write(&path, page).map_err(|error| CommandError::io("write", &path, &error))?;
    files.push(path);
    for part in command.get_subcommands() {
        let name = format!("{name}-{}", part.get_name());
        write_pages(part, &name, folder, files)?;
    }
    Ok(())
}

#[derive(Default)]
struct Pages {
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
struct PageView<'a> {
    path: &'a Path,
}

impl Report for Pages {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for path in &self.files {
            page.path(path)?;
            writeln!(page)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for path in &self.files {
            page.json("page", &PageView { path })?;
        }
        Ok(())
    }
}
