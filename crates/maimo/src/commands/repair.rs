//! `channel repair` and `channel evidence`: a channel that went astray or lost something, and what speaks against its provider.

use std::io::{self, IsTerminal as _, Write};

use clap::Args;
use maimo_client::{
    client::Client,
    damage::DamageReport,
    repair::{AstrayReport, Evidence, HeadReport, RepairReport, RepairRequest},
};
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    damage::{
        DamageView, RevisionView, lost, revisions, sentence as damage_sentence, views,
        write_revisions,
    },
};
use crate::{
    context::Context,
    error::{CommandError, Exit},
    quantity::{Count, Moment, Size},
    ui::{Page, Report},
};

/// What a repair takes.
#[derive(Debug, Serialize, Deserialize, Args)]
pub(crate) struct RepairArgs {
    /// The channel's name
    name: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Read all of the channel back first, to know all that is damaged
    #[arg(long)]
    read_all: bool,
    /// Go on from what the provider shows without being asked
    #[arg(long)]
    yes: bool,
}

/// Repairs it.
pub(super) fn run(args: &RepairArgs, ctx: &Context) -> Outcome {
    let mut request = RepairRequest {
        channel: args.name.clone(),
        dry_run: true,
        read_all: args.read_all,
    };
    let mut client = ctx.client()?;
    if args.dry_run {
        let report = repair(&mut client, &request, ctx)?;
        return Ok(Box::new(Repaired::new(report, &client, true)?));
    }
    if !args.yes {
        let planned = repair(&mut client, &request, ctx)?;
        if let Some(astray) = &planned.astray {
            ctx.ui.say(&told(&planned.channel, astray));
            if !agreed(ctx)? {
                return Err(CommandError::new(
                    Exit::Rollback,
                    "provider_misbehaved",
                    format!("channel {} went astray, and nothing was done", args.name),
                )
                .hint("`--yes` goes on from what the provider shows; ask the provider first"));
            }
        }
    }
    request.dry_run = false;
    let report = repair(&mut client, &request, ctx)?;
    Ok(Box::new(Repaired::new(report, &client, false)?))
}

fn repair(
    client: &mut Client,
    request: &RepairRequest,
    ctx: &Context,
) -> Result<RepairReport, CommandError> {
    let progress = ctx.ui.progress();
    Ok(client.repair(request, progress.control())?)
}

/// Asks whether to go on; whoever cannot be asked has not agreed.
fn agreed(ctx: &Context) -> Result<bool, CommandError> {
    let stdin = io::stdin();
    // The input of a node that runs is not that of who asks it.
    if ctx.guest.is_some() || !stdin.is_terminal() {
        return Ok(false);
    }
    ctx.ui.say("Go on from what the provider shows? [y/N]");
    let mut answer = String::new();
    stdin
        .read_line(&mut answer)
        .map_err(|error| CommandError::new(Exit::Failed, "local_io", error.to_string()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Says how a channel went astray, and what going on from there would do.
fn told(channel: &str, astray: &AstrayReport) -> String {
    let how = if astray.is_fork {
        "shows another branch than was seen"
    } else {
        "was put back to an earlier state"
    };
    let shown = astray
        .shown
        .as_ref()
        .map_or_else(|| "nothing at all".to_owned(), head);
    let others = if astray.revisions_others > 0 {
        format!(
            "\n  {} of other devices there are not known here: they stay",
            revisions(astray.revisions_others)
        )
    } else {
        String::new()
    };
    let evidence = if astray.has_evidence {
        " Both signed heads are kept as evidence."
    } else {
        ""
    };
    format!(
        "Channel {channel} {how}.{evidence}\n  seen:  {}\n  shown: {shown}\n  {} and {} runs that are known here are not in it: {} can be put back, {} chunks to be stored again, {} lost{others}",
        astray
            .seen
            .as_ref()
            .map_or_else(|| "nothing, by this machine".to_owned(), head),
        revisions(astray.revisions_missing),
        Count(astray.runs_missing),
        Count(astray.revisions_restored),
        Count(astray.chunks),
        Count(astray.lost.len() as u64),
    )
}

fn head(head: &HeadReport) -> String {
    format!(
        "state {} of {}, root {}",
        head.sequence,
        Moment::from(head.time).local(),
        head.root
    )
}

struct Repaired {
    report: RepairReport,
    damage: Option<DamageReport>,
    dry_run: bool,
}

impl Repaired {
    fn new(report: RepairReport, client: &Client, dry_run: bool) -> Result<Self, CommandError> {
        let damage = client.damage()?.into_iter();
        let mut damage = damage.filter(|damage| damage.channel == report.channel);
        Ok(Self {
            damage: damage.next(),
            report,
            dry_run,
        })
    }
}

/// A signed head as a program reads it.
#[derive(Serialize)]
struct HeadView {
    sequence: u64,
    root: String,
    time: Moment,
}

impl HeadView {
    fn of(head: &HeadReport) -> Self {
        Self {
            sequence: head.sequence,
            root: head.root.to_string(),
            time: head.time.into(),
        }
    }
}

#[derive(Serialize)]
struct AstrayView<'a> {
    kind: &'static str,
    seen: Option<HeadView>,
    shown: Option<HeadView>,
    revisions_missing: u64,
    runs_missing: u64,
    revisions_others: u64,
    revisions_restored: u64,
    chunks_stored: u64,
    revisions_lost: Vec<RevisionView<'a>>,
}

#[derive(Serialize)]
struct RepairedView<'a> {
    channel: &'a str,
    dry_run: bool,
    astray: Option<AstrayView<'a>>,
    chunks_restored: u64,
    vital_restored: u64,
    revisions_lost: Vec<RevisionView<'a>>,
    damage: Option<DamageView<'a>>,
    bytes_sent: u64,
    sequence: u64,
    root: Option<String>,
}

impl Report for Repaired {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        if let Some(astray) = &report.astray {
            writeln!(page, "{}", told(&report.channel, astray))?;
            if !astray.lost.is_empty() {
                writeln!(page, "lost: nothing has all of their bytes")?;
                write_revisions(page, "  ", &astray.lost)?;
            }
        }
        if self.dry_run {
            match &self.damage {
                Some(damage) => writeln!(page, "{}", damage_sentence(damage))?,
                None if report.astray.is_none() => {
                    writeln!(page, "nothing is known to be wrong with {}", report.channel)?;
                }
                None => {}
            }
            return Ok(());
        }
        let healed = &report.healed;
        writeln!(
            page,
            "{} chunks stored again, {} packs of the journal or its dictionaries; {} sent",
            Count(healed.chunks + report.astray.as_ref().map_or(0, |astray| astray.chunks)),
            Count(healed.vital),
            Size(self.bytes_sent()),
        )?;
        if !healed.lost.is_empty() {
            let count = revisions(healed.lost.len() as u64);
            writeln!(page, "{count} lost: nothing has all of their bytes")?;
            write_revisions(page, "  ", &healed.lost)?;
        }
        writeln!(page, "state {}", report.sequence)?;
        if let Some(root) = report.root {
            writeln!(page, "  {}: {root}", report.channel)?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let report = &self.report;
        let view = RepairedView {
            channel: &report.channel,
            dry_run: self.dry_run,
            astray: report.astray.as_ref().map(|astray| AstrayView {
                kind: if astray.is_fork { "fork" } else { "rollback" },
                seen: astray.seen.as_ref().map(HeadView::of),
                shown: astray.shown.as_ref().map(HeadView::of),
                revisions_missing: astray.revisions_missing,
                runs_missing: astray.runs_missing,
                revisions_others: astray.revisions_others,
                revisions_restored: astray.revisions_restored,
                chunks_stored: astray.chunks,
                revisions_lost: views(&astray.lost),
            }),
            chunks_restored: report.healed.chunks,
            vital_restored: report.healed.vital,
            revisions_lost: views(&report.healed.lost),
            damage: self.damage.as_ref().map(DamageView::of),
            bytes_sent: self.bytes_sent(),
            sequence: report.sequence,
            root: report.root.map(|root| root.to_string()),
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        if let Some(astray) = &self.report.astray {
            if !astray.lost.is_empty() {
                return Err(CommandError::new(
                    Exit::AuditFailed,
                    "provider_misbehaved",
                    format!(
                        "{} lost: neither the provider nor this machine has their bytes",
                        revisions(astray.lost.len() as u64)
                    ),
                )
                .hint(
                    "they are named above; a file that is somewhere else still can be stored again",
                ));
            }
            if self.dry_run {
                return Err(CommandError::new(
                    Exit::Rollback,
                    "provider_misbehaved",
                    format!("channel {} went astray", self.report.channel),
                )
                .hint("ask the provider; then the same without --dry-run goes on from there"));
            }
        }
        lost(&self.report.healed)
    }
}

impl Repaired {
    fn bytes_sent(&self) -> u64 {
        let astray = self.report.astray.as_ref();
        self.report.healed.bytes_sent + astray.map_or(0, |astray| astray.bytes_sent)
    }
}

/// Lists the pairs of signed heads that are kept of a channel.
pub(super) fn evidence(name: &str, ctx: &Context) -> Outcome {
    let client = ctx.client()?;
    let kept = client.evidence(name)?;
    Ok(Box::new(Kept {
        channel: name.to_owned(),
        kept,
    }))
}

struct Kept {
    channel: String,
    kept: Vec<Evidence>,
}

/// Two signed heads as a program reads them: the bytes as they were sent, in hex. The root is BLAKE3 of all but the 64 bytes of the signature.
#[derive(Serialize)]
struct EvidenceView<'a> {
    channel: &'a str,
    time: Moment,
    seen: String,
    shown: Option<String>,
}

impl Report for Kept {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.kept.is_empty() {
            return writeln!(page, "nothing is kept against {}", self.channel);
        }
        for evidence in &self.kept {
            let time = Moment::from(evidence.time).local();
            writeln!(page, "{time}: two signed heads of {}", self.channel)?;
            writeln!(page, "  seen before: {} bytes", evidence.seen.len())?;
            writeln!(page, "  shown then:  {} bytes", evidence.shown.len())?;
        }
        writeln!(page, "`--json` gives them, to be checked by others")
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for evidence in &self.kept {
            let view = EvidenceView {
                channel: &self.channel,
                time: evidence.time.into(),
                seen: hex(&evidence.seen),
                shown: (!evidence.shown.is_empty()).then(|| hex(&evidence.shown)),
            };
            page.json("evidence", &view)?;
        }
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
