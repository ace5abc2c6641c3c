//! `verify`: is it still there? `root`: the 32 bytes that answers are held against.

use std::io::{self, Write};

use maimo_client::{
    audit::{AuditResult, ChannelAudit, Sample, StratumAudit},
    damage::DamageReport,
    verify::{Proven, ProvenStratum, VerifyRequest},
};
use maimo_core::audit::Stratum;
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    damage::{DamageView, sentence as damage_sentence, write_revisions},
};
use crate::{
    context::Context,
    error::{CommandError, Exit},
    quantity::{Count, Moment, Size},
    ui::{Page, Report},
};

/// Prove that the store is still there
///
/// Asks each provider for blocks drawn at random and checks them against the 32 bytes of the channel: data and vital packs (journal,
/// dictionaries) apart, 460 of each unless told. Were 1 % of either missing, that would show it with 99 % probability. A sample never says
/// that everything is there; --read-all does.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Which channels [default: all]
    #[arg(value_name = "CHANNEL")]
    channels: Vec<String>,
    /// How many blocks of each stratum, unless --loss or --read-all says otherwise
    #[arg(long, value_name = "N")]
    slices: Option<u32>,
    /// As many blocks as show this loss, a fraction such as 0.01
    #[arg(
        long,
        value_name = "P",
        requires = "confidence",
        conflicts_with = "read_all"
    )]
    loss: Option<f64>,
    /// With at least this probability, for example 0.99
    #[arg(long, value_name = "P", requires = "loss")]
    confidence: Option<f64>,
    /// Read everything back
    #[arg(long)]
    read_all: bool,
    /// Only the bytes of these files, larger ones drawn more often: a glob or a folder
    #[arg(long, value_name = "PATTERN")]
    path: Option<String>,
}

/// Asks and checks.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let sample = match (args.loss, args.confidence) {
        _ if args.read_all => Sample::Everything,
        (Some(loss), Some(confidence)) => Sample::Detect { loss, confidence },
        _ => Sample::Slices(args.slices.unwrap_or(ctx.config.slices.value).into()),
    };
    let request = VerifyRequest {
        channels: args.channels.clone(),
        sample,
        path: args
            .path
            .as_deref()
            .map(|text| super::absolute_pattern(&ctx.folder, text))
            .transpose()?,
    };
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let audits = client.verify(&request, progress.control())?;
    // What was found is named, for as long as it is.
    let mut damage = Vec::new();
    if audits.iter().any(|audit| !audit.damaged.is_empty()) {
        damage = client.damage()?;
    }
    Ok(Box::new(Audits { audits, damage }))
}

struct Audits {
    audits: Vec<ChannelAudit>,
    damage: Vec<DamageReport>,
}

impl Audits {
    fn damage_of(&self, audit: &ChannelAudit) -> Option<&DamageReport> {
        let mut damage = self.damage.iter();
        damage.find(|damage| damage.channel == audit.channel)
    }
}

#[derive(Serialize)]
struct AuditView<'a> {
    channel: &'a str,
    root: String,
    strata: Vec<StratumView>,
    bytes_received: u64,
    result: &'static str,
    detail: Option<&'a str>,
    damage: Option<DamageView<'a>>,
}

/// A stratum as a program reads it.
#[derive(Serialize)]
pub(super) struct StratumView {
    class: &'static str,
    slices: u64,
    blocks_live: u64,
    failed: u64,
    detects: Detects,
}

#[derive(Serialize)]
struct Detects {
    loss: f64,
    probability: f64,
}

impl StratumView {
    pub(super) fn of(stratum: &StratumAudit) -> Self {
        Self {
            class: class_name(stratum.stratum),
            slices: stratum.slices,
            blocks_live: stratum.blocks_live,
            failed: stratum.failed,
            detects: Detects {
                loss: stratum.loss,
                probability: stratum.probability,
            },
        }
    }
}

impl Report for Audits {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for audit in &self.audits {
            let result = result_name(audit.result);
            writeln!(page, "{}: {result}", audit.channel)?;
            writeln!(page, "  root {}", audit.root)?;
            for stratum in &audit.strata {
                writeln!(page, "  {}", sentence(stratum))?;
            }
            if let Some(detail) = &audit.detail {
                writeln!(page, "  {detail}")?;
            }
            writeln!(page, "  {} received", Size(audit.bytes_received))?;
            if let Some(damage) = self.damage_of(audit) {
                writeln!(page, "  {}", damage_sentence(damage))?;
                write_revisions(page, "    ", &damage.touched)?;
            }
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for audit in &self.audits {
            let strata = audit.strata.iter().map(StratumView::of);
            let view = AuditView {
                channel: &audit.channel,
                root: audit.root.to_string(),
                strata: strata.collect(),
                bytes_received: audit.bytes_received,
                result: result_name(audit.result),
                detail: audit.detail.as_deref(),
                damage: self.damage_of(audit).map(DamageView::of),
            };
            page.json("summary", &view)?;
        }
        Ok(())
    }

    /// The worst of all channels: what is wrong before what is away.
    fn verdict(&self) -> Result<(), CommandError> {
        let worst = self.audits.iter().max_by_key(|audit| badness(audit.result));
        let failed = worst.and_then(|audit| Some((audit, failed_by(audit)?)));
        let Some((audit, error)) = failed else {
            return Ok(());
        };
        Err(error.hint(match audit.result {
            AuditResult::Damaged | AuditResult::Missing => {
                "`maimo verify --read-all` tells how much; `maimo channel repair` stores again what is still here or on another channel"
            }
            AuditResult::Rollback => {
                "both signed heads are kept as evidence; ask the provider, then run `maimo channel repair`"
            }
            AuditResult::Refused => "ask the provider why; nothing says that the bytes are lost",
            AuditResult::Slow => "try again; if it stays so, ask the provider",
            _ => "is the provider's disk mounted, is it reachable? then try again",
        }))
    }
}

/// Returns the error that an audit's result is; none where all is intact.
pub(super) fn failed_by(audit: &ChannelAudit) -> Option<CommandError> {
    let (exit, kind) = match audit.result {
        AuditResult::Intact => return None,
        AuditResult::Rollback => (Exit::Rollback, "provider_misbehaved"),
        AuditResult::Damaged | AuditResult::Missing => (Exit::AuditFailed, "provider_misbehaved"),
        AuditResult::Refused | AuditResult::Slow => (Exit::Provider, "provider_refused"),
        AuditResult::Offline => (Exit::Provider, "network"),
    };
    let mut message = format!("channel {}: {}", audit.channel, result_name(audit.result));
    if let Some(detail) = &audit.detail {
        message = format!("{message}: {detail}");
    }
    Some(CommandError::new(exit, kind, message))
}

const fn badness(result: AuditResult) -> u8 {
    match result {
        AuditResult::Intact => 0,
        AuditResult::Slow => 1,
        AuditResult::Offline => 2,
        AuditResult::Refused => 3,
        AuditResult::Missing => 4,
        AuditResult::Damaged => 5,
        AuditResult::Rollback => 6,
    }
}

/// Returns what an audit of a stratum says, and no more than that.
pub(super) fn sentence(stratum: &StratumAudit) -> String {
    let class = class_name(stratum.stratum);
    let (slices, live) = (Count(stratum.slices), Count(stratum.blocks_live));
    if stratum.failed > 0 {
        return format!(
            "{class}: {} of {slices} blocks failed, {live} live",
            Count(stratum.failed)
        );
    }
    if stratum.blocks_live == 0 {
        return format!("{class}: no packs yet");
    }
    if stratum.slices == 0 {
        return format!("{class}: none of {live} live blocks was answered for");
    }
    if stratum.slices >= stratum.blocks_live {
        return format!("{class}: all {live} live blocks are there");
    }
    format!(
        "{class}: {slices} of {live} live blocks, all right; were {:.3} % missing, this would have failed with {}",
        stratum.loss * 100.0,
        found_with(stratum.probability),
    )
}

/// The losses, as fractions, of which is said how probably they would have been found.
pub(super) const LOSSES: [f64; 2] = [0.01, 0.001];

/// Returns what a row of intact audits says together, and no more than that: a sentence for each class of packs.
pub(super) fn proven_sentences(proven: &Proven) -> Vec<String> {
    // One alone has said it for itself.
    if proven.audits < 2 {
        return Vec::new();
    }
    let since = Moment::from(proven.since).date();
    let strata = proven.strata.iter().filter(|stratum| stratum.slices > 0);
    let sentence = |stratum: &ProvenStratum| {
        let class = class_name(stratum.stratum);
        let (slices, audits) = (Count(stratum.slices), Count(proven.audits));
        let begin = format!("since {since} {slices} {class} slices in {audits} audits, all intact");
        if let Some(whole) = stratum.whole {
            let whole = Moment::from(whole).date();
            return format!("{begin}: on {whole} all of it was there");
        }
        let [percent, permille] = LOSSES.map(|loss| found_with(stratum.probability(loss)));
        format!(
            "{begin}: a loss of 1 % standing since then would have been found with {percent}, one of 0.1 % with {permille}"
        )
    };
    strata.map(sentence).collect()
}

/// Returns a probability that is not called certainty unless it is; rounded down.
fn found_with(probability: f64) -> String {
    if probability >= 1.0 {
        return "certainty".to_owned();
    }
    let shown = (probability * 10_000.0).floor() / 100.0;
    if shown >= 99.99 {
        return "more than 99.99 % probability".to_owned();
    }
    format!("{shown} % probability")
}

pub(super) const fn class_name(stratum: Stratum) -> &'static str {
    match stratum {
        Stratum::Data => "data",
        Stratum::Vital => "vital",
    }
}

pub(super) const fn result_name(result: AuditResult) -> &'static str {
    match result {
        AuditResult::Intact => "intact",
        AuditResult::Damaged => "damaged",
        AuditResult::Missing => "missing",
        AuditResult::Refused => "refused",
        AuditResult::Slow => "slow",
        AuditResult::Offline => "offline",
        AuditResult::Rollback => "rollback",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(result: AuditResult) -> ChannelAudit {
        ChannelAudit {
            channel: "disk".to_owned(),
            root: maimo_core::id::RootHash::NONE,
            strata: Vec::new(),
            bytes_received: 0,
            result,
            detail: None,
            damaged: Vec::new(),
        }
    }

    fn exit(results: &[AuditResult]) -> Exit {
        let audits = results.iter().map(|result| audit(*result)).collect();
        Audits {
            audits,
            damage: Vec::new(),
        }
        .verdict()
        .map_or_else(|error| error.exit(), |()| Exit::Done)
    }

    #[test]
    fn wrong_bytes_and_an_absent_provider_never_share_a_code() {
        use AuditResult::{Damaged, Intact, Missing, Offline, Refused, Rollback, Slow};
        assert_eq!(exit(&[Intact, Intact]), Exit::Done);
        for result in [Damaged, Missing] {
            assert_eq!(exit(&[result]), Exit::AuditFailed);
        }
        for result in [Offline, Refused, Slow] {
            assert_eq!(exit(&[result]), Exit::Provider);
        }
        assert_eq!(exit(&[Rollback]), Exit::Rollback);
    }

    #[test]
    fn whoever_is_refused_is_not_told_to_look_at_a_disk() {
        let hint = |result| {
            let error = Audits {
                audits: vec![audit(result)],
                damage: Vec::new(),
            }
            .verdict()
            .unwrap_err();
            error.hint_text().unwrap().to_owned()
        };
        assert!(hint(AuditResult::Refused).contains("ask the provider"));
        assert!(hint(AuditResult::Offline).contains("mounted"));
    }

    #[test]
    fn the_worst_channel_decides() {
        use AuditResult::{Damaged, Intact, Offline, Rollback};
        assert_eq!(exit(&[Offline, Damaged, Intact]), Exit::AuditFailed);
        assert_eq!(exit(&[Rollback, Damaged]), Exit::Rollback);
    }

    #[test]
    fn a_sample_never_says_that_everything_is_there() {
        let mut stratum = StratumAudit {
            stratum: Stratum::Data,
            slices: 460,
            blocks_live: 100_000,
            failed: 0,
            loss: 0.01,
            probability: 0.9902,
        };
        let text = sentence(&stratum);
        assert_eq!(
            text,
            "data: 460 of 100,000 live blocks, all right; were 1.000 % missing, this would have failed with 99.02 % probability"
        );
        stratum.blocks_live = 460;
        assert_eq!(sentence(&stratum), "data: all 460 live blocks are there");
        stratum.slices = 0;
        assert_eq!(
            sentence(&stratum),
            "data: none of 460 live blocks was answered for"
        );
        stratum.slices = 460;
        stratum.failed = 2;
        assert_eq!(sentence(&stratum), "data: 2 of 460 blocks failed, 460 live");
    }

    #[test]
    fn a_row_of_audits_says_what_it_would_have_found_and_never_more() {
        let stratum = |stratum, slices| ProvenStratum {
            stratum,
            slices,
            whole: None,
        };
        let noon = maimo_core::clock::Timestamp(1_793_534_400_000);
        let mut proven = Proven {
            channel: "disk".to_owned(),
            since: noon,
            last: noon,
            audits: 9,
            strata: [stratum(Stratum::Data, 4140), stratum(Stratum::Vital, 0)],
        };
        let told = proven_sentences(&proven);
        assert_eq!(told.len(), 1);
        let end = "4,140 data slices in 9 audits, all intact: a loss of 1 % standing since then would have been found with more than 99.99 % probability, one of 0.1 % with 98.41 % probability";
        assert!(told[0].ends_with(end), "{told:?}");
        proven.strata[0].whole = Some(noon);
        assert!(proven_sentences(&proven)[0].ends_with("all of it was there"));
        proven.audits = 1;
        assert!(proven_sentences(&proven).is_empty());
    }
}
