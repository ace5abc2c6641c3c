//! `list` and `find`: the files of the store.

use std::io::{self, Write};

use maimo_client::browse::{FileKind, FileReport, ListRequest, WhichSource};
use maimo_core::clock::Timestamp;
use maimo_vault::journal::state::Presence;
use serde::{Deserialize, Serialize};

use super::{Outcome, PathView, absolute_pattern};
use crate::{
    context::Context,
    quantity::{Moment, Size, parse_moment},
    relay::form,
    ui::{Page, Report, Told, hex},
};

/// List the store's files
///
/// Files from this machine, as they are in the store now. PATTERN is a glob ('*.jpg', '/home/u/**/report*') or a folder.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// A glob or a folder
    pattern: Option<String>,
    /// Also those deleted here on purpose, gone or removed
    #[arg(long)]
    all: bool,
    /// As it was at TIME: 2026-11-23, "2026-11-23 18:00", 2026-11-23T18:00:00Z or "2 days ago"
    #[serde(with = "form::time")]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Option<Timestamp>,
    /// Files of this machine, or of `all` [default: this one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Find files and folders by name, anywhere in the store
///
/// Those of every machine, those that are gone or removed too.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct FindArgs {
    /// A glob for names: 'report*', '*.jpg'
    pattern: String,
    /// Only those of this machine [default: all]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Returns whose files are meant.
pub(super) fn source_of(name: Option<&str>) -> WhichSource {
    match name {
        None => WhichSource::Own,
        Some("all") => WhichSource::All,
        Some(name) => WhichSource::Named(name.to_owned()),
    }
}

/// Lists them as they are read: a store may have more files than fit in memory.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let request = ListRequest {
        patterns: args
            .pattern
            .iter()
            .map(|text| absolute_pattern(&ctx.folder, text))
            .collect::<Result<_, _>>()?,
        all: args.all,
        at: args.at,
        source: source_of(args.source.as_deref()),
    };
    let view = ctx.view()?;
    let mut page = ctx.ui.page();
    let mut written = Ok(());
    view.list(&request, |file| {
        if file.kind != FileKind::Folder {
            written = write_file(&file, ctx.ui.is_json(), &mut page);
        }
        written.is_ok()
    })?;
    written?;
    page.flush()?;
    Ok(Box::new(Told))
}

/// Finds them.
pub(crate) fn find(args: &FindArgs, ctx: &Context) -> Outcome {
    let source = match &args.source {
        None => WhichSource::All,
        Some(_) => source_of(args.source.as_deref()),
    };
    let view = ctx.view()?;
    Ok(Box::new(Found(view.find(&args.pattern, &source)?)))
}

struct Found(Vec<FileReport>);

impl Report for Found {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.0
            .iter()
            .try_for_each(|file| write_file(file, false, page))
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.0
            .iter()
            .try_for_each(|file| write_file(file, true, page))
    }
}

#[derive(Serialize)]
struct FileView<'a> {
    source: &'a str,
    #[serde(flatten)]
    path: PathView<'a>,
    kind: &'static str,
    size: u64,
    modified: Moment,
    blake3: Option<String>,
    revision: u64,
    revisions: u64,
    state: &'static str,
}

fn write_file(file: &FileReport, json: bool, page: &mut Page<'_>) -> io::Result<()> {
    if json {
        let view = FileView {
            source: &file.source,
            path: PathView::of(&file.path),
            kind: kind_name(file.kind),
            size: file.size,
            modified: file.modified.into(),
            blake3: file.blake3.as_ref().map(|hash| hex(hash)),
            revision: file.revision,
            revisions: file.revisions,
            state: state_name(file.state),
        };
        return page.json("file", &view);
    }
    let modified = Moment::from(file.modified).local();
    write!(page, "{:>10}  {modified}  ", Size(file.size))?;
    if file.state != Presence::Present {
        write!(page, "{:<8}", state_name(file.state))?;
    }
    page.path(&file.path)?;
    writeln!(page)
}

const fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Folder => "folder",
        FileKind::Symlink => "symlink",
        FileKind::HardLink => "hard_link",
        FileKind::Fifo => "fifo",
        FileKind::Device => "device",
    }
}

const fn state_name(state: Presence) -> &'static str {
    match state {
        Presence::Present => "present",
        Presence::Evicted => "evicted",
        Presence::Gone => "gone",
        Presence::Removed => "removed",
    }
}
