//! `history`: the revisions of a path.

use std::{io, path::PathBuf};

use maimo_client::browse::RevisionReport;
use serde::{Deserialize, Serialize};

use super::{Outcome, absolute_all, list::source_of};
use crate::{
    context::Context,
    quantity::{Moment, Size},
    relay::form,
    ui::{Align, Page, Report, Table, hex},
};

/// List the revisions of a file
///
/// `maimo retrieve --revision N` brings one back.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// The file, by its path on the machine it came from
    #[serde(with = "form::path")]
    path: PathBuf,
    /// Of this machine [default: this one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Lists them.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let paths = absolute_all(&ctx.folder, std::slice::from_ref(&args.path))?;
    let view = ctx.view()?;
    let mut found = Vec::new();
    for path in &paths {
        found.extend(view.history(path, &source_of(args.source.as_deref()))?);
    }
    Ok(Box::new(Revisions(found)))
}

struct Revisions(Vec<RevisionReport>);

#[derive(Serialize)]
struct RevisionView {
    revision: u64,
    stored: Option<Moment>,
    size: u64,
    modified: Moment,
    blake3: Option<String>,
}

impl Report for Revisions {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(&[
            ("revision", Align::Right),
            ("stored", Align::Left),
            ("modified", Align::Left),
            ("size", Align::Right),
            ("blake3", Align::Left),
        ]);
        for revision in &self.0 {
            let hash = revision.blake3.as_ref();
            table.row([
                revision.revision.to_string(),
                revision
                    .stored
                    .map_or("?".to_owned(), |time| Moment::from(time).local()),
                Moment::from(revision.modified).local(),
                Size(revision.size).to_string(),
                hash.map_or("-".to_owned(), |hash| hex(&hash[..8])),
            ]);
        }
        table.write(page)
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for revision in &self.0 {
            let view = RevisionView {
                revision: revision.revision,
                stored: revision.stored.map(Moment::from),
                size: revision.size,
                modified: revision.modified.into(),
                blake3: revision.blake3.as_ref().map(|hash| hex(hash)),
            };
            page.json("revision", &view)?;
        }
        Ok(())
    }
}
