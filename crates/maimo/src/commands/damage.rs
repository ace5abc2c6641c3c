//! What is known to be damaged, and what of it is lost, as people and programs read it: part of `status`, `verify`, `store`, `channel repair`.

use std::io::{self, Write};

use maimo_client::{
    damage::{DamageReport, FoundBy, TouchedRevision},
    heal::HealReport,
};
use serde::Serialize;

use crate::{
    error::{CommandError, Exit},
    quantity::{Count, Moment, Size},
    ui::{Page, shown_path},
};

/// How many revisions text names; a program gets them all.
const NAMED_MAX: usize = 20;

/// What is known to be damaged on a channel, as a program reads it.
#[derive(Serialize)]
pub(super) struct DamageView<'a> {
    channel: &'a str,
    packs_data: u64,
    packs_vital: u64,
    packs_missing: u64,
    packs_lost: u64,
    bytes: u64,
    since: Moment,
    found_by: &'static str,
    revisions: Vec<RevisionView<'a>>,
}

/// A kept revision that is damaged or lost, as a program reads it.
#[derive(Serialize)]
pub(super) struct RevisionView<'a> {
    source: &'a str,
    path: String,
    revision: u64,
    revisions: u64,
}

impl<'a> DamageView<'a> {
    pub(super) fn of(damage: &'a DamageReport) -> Self {
        Self {
            channel: &damage.channel,
            packs_data: damage.packs[0],
            packs_vital: damage.packs[1],
            packs_missing: damage.missing,
            packs_lost: damage.lost,
            bytes: damage.bytes,
            since: damage.since.into(),
            found_by: match damage.by {
                FoundBy::Audit => "audit",
                FoundBy::Read => "read",
            },
            revisions: views(&damage.touched),
        }
    }
}

/// Returns revisions as a program reads them.
pub(super) fn views(revisions: &[TouchedRevision]) -> Vec<RevisionView<'_>> {
    let view = revisions.iter().map(RevisionView::of);
    view.collect()
}

impl<'a> RevisionView<'a> {
    fn of(revision: &'a TouchedRevision) -> Self {
        Self {
            source: &revision.source,
            path: revision.path.to_string_lossy().into_owned(),
            revision: revision.revision,
            revisions: revision.revisions,
        }
    }
}

/// Says in a sentence what is known to be damaged on a channel, and what to do.
pub(super) fn sentence(damage: &DamageReport) -> String {
    let packs = damage.packs[0] + damage.packs[1];
    let since = Moment::from(damage.since).local();
    let (size, touched) = (Size(damage.bytes), damage.touched.len() as u64);
    let told = format!(
        "{} of {} {} on {} are damaged or missing, known since {since}; {}",
        size,
        Count(packs),
        if packs == 1 { "pack" } else { "packs" },
        damage.channel,
        revisions(touched),
    );
    let then = if damage.lost > 0 {
        "nothing else has all of it: `maimo remove PATH --revision N`, then `maimo prune`, takes out what is lost"
    } else {
        "the next `maimo store` stores again what is still here, `maimo channel repair` does it now"
    };
    format!("{told} touched; {then}")
}

/// Returns an error where something is lost for good: whoever keeps backups must not take the run for a good one.
pub(super) fn lost(healed: &HealReport) -> Result<(), CommandError> {
    if healed.lost.is_empty() && healed.vital_lost == 0 {
        return Ok(());
    }
    let mut message = format!("{} lost", revisions(healed.lost.len() as u64));
    if healed.vital_lost > 0 {
        let vital = Count(healed.vital_lost);
        message = format!("{message}, and {vital} packs of the journal or its dictionaries");
    }
    Err(
        CommandError::new(Exit::AuditFailed, "provider_misbehaved", message).hint(
            "`maimo status` names them until they are taken out with `maimo remove PATH --revision N` and `maimo prune`",
        ),
    )
}

/// Returns a number of revisions in words.
pub(super) fn revisions(count: u64) -> String {
    match count {
        1 => "1 revision".to_owned(),
        count => format!("{} revisions", Count(count)),
    }
}

/// Writes the names of revisions, so many as anybody reads.
pub(super) fn write_revisions(
    page: &mut Page<'_>,
    indent: &str,
    revisions: &[TouchedRevision],
) -> io::Result<()> {
    for revision in revisions.iter().take(NAMED_MAX) {
        writeln!(
            page,
            "{indent}{}, revision {} of {}, of {}",
            shown_path(&revision.path),
            revision.revision,
            revision.revisions,
            revision.source,
        )?;
    }
    if revisions.len() > NAMED_MAX {
        let more = Count((revisions.len() - NAMED_MAX) as u64);
        writeln!(page, "{indent}and {more} more; --json names them all")?;
    }
    Ok(())
}
