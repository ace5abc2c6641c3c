//! Audits: random slices, checked against the 32 bytes, show whether a channel still holds what it took.
//!
//! A challenge is *sticky*: written down before it is sent, and asked again verbatim before anything new is drawn, or a provider could choose
//! which questions to hear. What an audit finds is evidence only where the answer contradicts the root; a provider that is away, busy or
//! refuses is told apart from one that lost something. [`whole`] reads everything back instead of a sample, [`paths`] samples some files.

use std::time::Duration;

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    audit::{
        AuditError, AuditReport, AuditedHead, Challenge, Failed, SLICES, SLICES_MAX, Silence,
        Stratum, check,
        confidence::{detection, slices_needed},
        draw,
    },
    clock::Timestamp,
    custody::Grace,
    error::{Classify, ErrorKind},
    head::SignedHead,
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    inventory::Inventory,
    live_map::LiveMap,
    reference::ObjectRef,
    units::{BLOCKS_PER_GROUP, groups},
};
use maimo_net::service::{ServiceError, Session, WhichHead};
use rand_core::CryptoRng;

use crate::{
    error::ClientError,
    progress::{Control, Event, Phase},
};

pub mod paths;
pub mod whole;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sample {
    /// So many slices of each stratum, or all where it has fewer.
    Slices(u64),
    /// As many as show a loss of the fraction `loss` with a chance of at least `confidence`.
    Detect {
        /// Which fraction of the blocks is lost, between 0 and 1.
        loss: f64,
        /// How probable it must be that the audit shows it, between 0 and 1.
        confidence: f64,
    },
    /// Everything, read back.
    Everything,
}

impl Default for Sample {
    fn default() -> Self {
        Self::Slices(SLICES as u64)
    }
}

/// The loss that a report speaks of unless another was asked for.
pub(crate) const LOSS: f64 = 0.01;

/// The most slices of a stratum that one audit asks for: beyond, reading everything back is the better way.
pub const SLICES_TOTAL_MAX: u64 = 1 << 20;

impl Sample {
    /// Returns how many slices of each stratum that is, and the loss to report on.
    ///
    /// # Errors
    ///
    /// Fractions that are not between 0 and 1, or a sample beyond [`SLICES_TOTAL_MAX`].
    pub fn slices(self) -> Result<(u64, f64), ClientError> {
        let (slices, loss) = match self {
            Self::Slices(slices) => (slices, LOSS),
            Self::Detect { loss, confidence } => {
                let slices = slices_needed(loss, confidence).ok_or(ClientError::Input {
                    message: "loss and confidence must be between 0 and 1".to_owned(),
                    hint: Some("for example `--loss 0.01 --confidence 0.99`"),
                })?;
                (slices, loss)
            }
            Self::Everything => (u64::MAX, LOSS),
        };
        if !matches!(self, Self::Everything) && slices > SLICES_TOTAL_MAX {
            return Err(ClientError::Input {
                message: format!("{slices} slices of a stratum are more than {SLICES_TOTAL_MAX}"),
                hint: Some("ask for less, or read everything back with `--read-all`"),
            });
        }
        Ok((slices, loss))
    }
}

/// What an audit of a channel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditResult {
    /// All that was asked for was proven.
    Intact,
    /// Something is there and is not what the root says.
    Damaged,
    /// Something is not there.
    Missing,
    /// The provider refuses to answer.
    Refused,
    /// The provider asks to come back later.
    Slow,
    /// The provider cannot be reached, or its disk cannot.
    Offline,
    /// The provider shows an older state than the one it acknowledged.
    Rollback,
}

/// What was proven of one stratum.
#[derive(Debug, Clone, PartialEq)]
pub struct StratumAudit {
    /// Which: data packs, or vital ones (journal and dictionaries).
    pub stratum: Stratum,
    /// How many slices were asked for.
    pub slices: u64,
    /// Of how many live 4 KiB blocks.
    pub blocks_live: u64,
    /// How many were not proven.
    pub failed: u64,
    /// The loss, as a fraction, that [`Self::probability`] speaks of.
    pub loss: f64,
    /// Were so much of the stratum lost, this audit would have failed with this probability.
    pub probability: f64,
}

/// The outcome of an audit of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelAudit {
    /// The channel's name.
    pub channel: String,
    /// The root it was held against.
    pub root: RootHash,
    /// Data and vital; empty where nothing was answered.
    pub strata: Vec<StratumAudit>,
    /// Bytes of the answers.
    pub bytes_received: u64,
    /// What it came to.
    pub result: AuditResult,
    /// What went wrong, in words; nothing where it is intact.
    pub detail: Option<String>,
    /// Packs of which something was not proven, each once.
    pub damaged: Vec<DamagedPack>,
}

/// Groups of a pack that a channel does not prove: evidence, be it that their bytes are others or that there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedPack {
    /// What kind of pack it is.
    pub stratum: Stratum,
    /// The pack, as the channel holds it.
    pub pack: ObjectRef,
    /// Which of its groups.
    pub groups: LiveMap,
    /// Whether the channel says that it does not have them; else what it returned is not what the root says.
    pub is_missing: bool,
}

impl ChannelAudit {
    /// Begins the report on a channel: nothing asked, nothing wrong.
    fn of(channel: &Audited<'_>) -> Self {
        Self::unanswered(channel.name, channel.head.root())
    }

    /// Begins the report on a channel that was not asked anything.
    pub(crate) fn unanswered(channel: &str, root: RootHash) -> Self {
        Self {
            channel: channel.to_owned(),
            root,
            strata: Vec::new(),
            bytes_received: 0,
            result: AuditResult::Intact,
            detail: None,
            damaged: Vec::new(),
        }
    }

    /// Reports on a channel that could not be asked.
    pub(crate) fn unreachable(channel: &str, root: RootHash, error: &ServiceError) -> Self {
        Self {
            result: result_of(error),
            detail: Some(error.to_string()),
            ..Self::unanswered(channel, root)
        }
    }

    /// Notes that something of a pack is lost; damage outweighs what is missing.
    fn blame(&mut self, result: AuditResult, stratum: Stratum, pack: &ObjectRef, groups: &LiveMap) {
        if self.result != AuditResult::Damaged {
            self.result = result;
        }
        let is_missing = result == AuditResult::Missing;
        let mut known = self.damaged.iter_mut();
        match known.find(|known| known.pack == *pack && known.stratum == stratum) {
            Some(known) => {
                known.groups = known.groups.union(groups);
                known.is_missing &= is_missing;
            }
            None => self.damaged.push(DamagedPack {
                stratum,
                pack: *pack,
                groups: groups.clone(),
                is_missing,
            }),
        }
    }
}

/// A channel to be audited.
pub struct Audited<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its id.
    pub id: ChannelId,
    /// The key that must have signed its heads.
    pub client: ClientPublicKey,
    /// The provider.
    pub session: &'a dyn Session,
    /// The newest head seen, as kept locally; the audit is held against its root.
    pub head: &'a SignedHead,
    /// Its inventories.
    pub data: &'a Inventory,
    /// Its inventories.
    pub vital: &'a Inventory,
}

impl Audited<'_> {
    /// Returns whether the newest head still calls a block of a pack living: an older one's challenge is not owed what was let go since.
    fn lives(&self, stratum: Stratum, pack: &ObjectRef, block: u64) -> bool {
        let inventory = match stratum {
            Stratum::Data => self.data,
            Stratum::Vital => self.vital,
        };
        let entry = inventory.entry(&pack.root);
        let group = u32::try_from(block / BLOCKS_PER_GROUP);
        entry.is_some_and(|entry| {
            entry.pack() == pack && group.is_ok_and(|group| entry.live().contains(group))
        })
    }
}

/// A challenge that was asked and not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The challenge.
    pub challenge: Challenge,
    /// When it was first asked.
    pub since: Timestamp,
}

/// Where challenges are written down before they are sent.
pub trait Challenges {
    /// Returns what was asked of a channel and not answered yet.
    ///
    /// # Errors
    ///
    /// That it cannot be read.
    fn open(&self, channel: ChannelId) -> Result<Vec<Asked>, ClientError>;

    /// Keeps what is about to be asked, durably, in place of what was.
    ///
    /// # Errors
    ///
    /// That it cannot be written.
    fn keep(&mut self, channel: ChannelId, challenges: &[Asked]) -> Result<(), ClientError>;

    /// Returns how often the first of them was asked in vain.
    ///
    /// # Errors
    ///
    /// That it cannot be read.
    fn silence(&self, channel: ChannelId) -> Result<Silence, ClientError>;

    /// Keeps how often the first of them was asked in vain.
    ///
    /// # Errors
    ///
    /// That it cannot be written.
    fn keep_silence(&mut self, channel: ChannelId, silence: Silence) -> Result<(), ClientError>;
}

/// Audits a channel by a sample: what is still owed from earlier first.
///
/// # Errors
///
/// Only local ones; whatever the provider does is an outcome.
pub fn sample(
    channel: &Audited<'_>,
    sample: Sample,
    challenges: &mut impl Challenges,
    now: Timestamp,
    rng: &mut impl CryptoRng,
    control: &Control,
) -> Result<ChannelAudit, ClientError> {
    control.tell(Event::Phase(Phase::Proving));
    let (slices, loss) = sample.slices()?;
    let head = AuditedHead::from(channel.head.head());
    let root = channel.head.root();
    let mut owed = challenges.open(channel.id)?;
    let carried = owed.len();
    let new = drawn(rng, root, &head, slices).into_iter();
    owed.extend(new.map(|challenge| Asked {
        challenge,
        since: now,
    }));
    challenges.keep(channel.id, &owed)?;

    let mut outcome = ChannelAudit::of(channel);
    let mut sums = [Tally::default(); 2];
    control.tell(Event::Total {
        files: 0,
        bytes: owed.len() as u64,
    });
    let mut left = owed.clone();
    for (done, asked) in owed.iter().enumerate() {
        control.check()?;
        let challenge = &asked.challenge;
        let is_of_this_root = *challenge.root() == root;
        match ask(channel, challenge, &head, root) {
            Ok((mut report, bytes)) => {
                outcome.bytes_received += bytes;
                if !is_of_this_root {
                    strike(channel, &mut report);
                }
                note(&mut outcome, &report, is_of_this_root);
                if done >= carried {
                    for (sum, stratum) in sums.iter_mut().zip(Stratum::ALL) {
                        sum.add(report.stratum(stratum));
                    }
                }
                left.retain(|other| other != asked);
                challenges.keep(channel.id, &left)?;
                challenges.keep_silence(channel.id, Silence::default())?;
            }
            Err((AuditResult::Missing, _)) if !is_of_this_root && is_lapsed(channel, asked) => {
                left.retain(|other| other != asked);
                challenges.keep(channel.id, &left)?;
                challenges.keep_silence(channel.id, Silence::default())?;
            }
            Err((result, detail)) => {
                let (result, detail) = if is_heard(channel, result) {
                    let silence = challenges.silence(channel.id)?.and_again(now);
                    challenges.keep_silence(channel.id, silence)?;
                    judged(silence, result, detail)
                } else {
                    (result, detail)
                };
                if outcome.result == AuditResult::Intact {
                    outcome.result = result;
                    outcome.detail = Some(detail);
                }
                break;
            }
        }
        control.tell(Event::Done {
            files: 0,
            bytes: done as u64 + 1,
        });
    }
    if sums.iter().any(|sum| sum.is_answered) {
        outcome.strata = Stratum::ALL
            .into_iter()
            .zip(sums)
            .map(|(stratum, sum)| sum.report(stratum, loss))
            .collect();
    }
    Ok(outcome)
}

/// Returns whether a provider that gave no answer heard the question: it is there, or answers others. One that is away was not asked.
fn is_heard(channel: &Audited<'_>, result: AuditResult) -> bool {
    match result {
        AuditResult::Refused | AuditResult::Slow => true,
        AuditResult::Offline => block_on(channel.session.status()).is_ok(),
        _ => false,
    }
}

/// Says what it means that a provider has not answered for so long.
fn judged(silence: Silence, result: AuditResult, detail: String) -> (AuditResult, String) {
    if !silence.is_missing() {
        return (result, detail);
    }
    let Silence { tries, days, .. } = silence;
    let detail = format!(
        "the same slices were asked for {tries} times on {days} days and never shown: they count as missing ({detail})"
    );
    (AuditResult::Missing, detail)
}

/// Draws `slices` positions of each stratum, cut into challenges of what one may hold; always at least one, as the commit is proven with it.
pub(crate) fn drawn(
    rng: &mut impl CryptoRng,
    root: RootHash,
    head: &AuditedHead,
    slices: u64,
) -> Vec<Challenge> {
    let [data, vital] = Stratum::ALL.map(|stratum| {
        let live = head.inventory(stratum).sums().live_blocks;
        let count = usize::try_from(slices.min(live)).unwrap_or(usize::MAX);
        draw(rng, live, count)
    });
    let count = data.len().max(vital.len()).div_ceil(SLICES_MAX).max(1);
    let part = |positions: &[u64], n: usize| {
        let mut parts = positions.chunks(SLICES_MAX);
        parts.nth(n).unwrap_or_default().to_vec()
    };
    (0..count)
        .filter_map(|n| Challenge::new(root, part(&data, n), part(&vital, n)).ok())
        .collect()
}

/// Asks one challenge and checks the answer against its root.
fn ask(
    channel: &Audited<'_>,
    challenge: &Challenge,
    head: &AuditedHead,
    root: RootHash,
) -> Result<(AuditReport, u64), (AuditResult, String)> {
    let answer = block_on(channel.session.audit(Bytes::from(challenge.encode())));
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Err(unanswered(channel, &error)),
    };
    let report = check(challenge, &answer, |bytes, signature| {
        if *challenge.root() == root {
            return Some(*head);
        }
        let mut signed = bytes.to_vec();
        signed.extend_from_slice(signature);
        let signed = SignedHead::verify(&signed, channel.id, &[channel.client]).ok()?;
        Some(AuditedHead::from(signed.head()))
    });
    match report {
        Ok(report) => Ok((report, answer.len() as u64)),
        Err(error @ (AuditError::Parse(_) | AuditError::WrongHead)) => {
            // No answer at all: still owed.
            Err((AuditResult::Damaged, error.to_string()))
        }
        Err(error) => Err((AuditResult::Damaged, error.to_string())),
    }
}

/// Takes out what the newest head no longer calls living: nobody owes it any more.
fn strike(channel: &Audited<'_>, report: &mut AuditReport) {
    for stratum in Stratum::ALL {
        let part = match stratum {
            Stratum::Data => &mut report.data,
            Stratum::Vital => &mut report.vital,
        };
        part.failed.retain(|failed| {
            let place = failed.place.as_ref();
            place.is_none_or(|(pack, block)| channel.lives(stratum, pack, *block))
        });
    }
}

/// Returns whether the grace of the root that was asked under, at least as old as the question, is over: then its head may be gone. Where there is
/// no grace it may be gone with the next head, whatever the two clocks say.
fn is_lapsed(channel: &Audited<'_>, asked: &Asked) -> bool {
    let status = block_on(channel.session.status());
    status.is_ok_and(|status| {
        let grace = status.terms.grace(asked.since);
        grace == Grace::For(Duration::ZERO) || grace.ends(asked.since) <= status.now
    })
}

/// Says what it means that a provider did not answer.
fn unanswered(channel: &Audited<'_>, error: &ServiceError) -> (AuditResult, String) {
    if matches!(error, ServiceError::NotHeld { .. }) {
        return not_shown(channel, error);
    }
    (result_of(error), error.to_string())
}

/// Returns what an error says of a channel: only what a provider said of its own bytes speaks against them.
pub fn result_of(error: &ServiceError) -> AuditResult {
    match error {
        ServiceError::Busy(_) => AuditResult::Slow,
        ServiceError::Unavailable { .. } => AuditResult::Offline,
        ServiceError::NotHeld { .. } => AuditResult::Missing,
        ServiceError::Damaged { .. } => AuditResult::Damaged,
        error => match error.kind() {
            // No way there: nothing was asked, so nothing was refused.
            ErrorKind::Network | ErrorKind::TorUnavailable => AuditResult::Offline,
            _ => AuditResult::Refused,
        },
    }
}

/// A provider that does not know the root it acknowledged shows an older one, or lost the head.
fn not_shown(channel: &Audited<'_>, error: &ServiceError) -> (AuditResult, String) {
    let seen = channel.head.head().sequence;
    let shown = match block_on(channel.session.head(WhichHead::Newest)) {
        Ok(Some(shown)) => SignedHead::verify(&shown.head, channel.id, &[channel.client])
            .map_or(0, |head| head.head().sequence),
        Ok(None) => 0,
        // Cut off in between: a provider that cannot be asked is not one that went back.
        Err(error) => return (result_of(&error), error.to_string()),
    };
    if shown < seen {
        let detail = format!(
            "the provider shows state {shown}, but acknowledged state {seen}: it was rolled back"
        );
        return (AuditResult::Rollback, detail);
    }
    (AuditResult::Missing, error.to_string())
}

/// Has the newest head's commit shown, and notes it if it is not the one that the head names.
fn prove_commit(channel: &Audited<'_>, outcome: &mut ChannelAudit) {
    let head = channel.head.head();
    let shown = block_on(channel.session.head(WhichHead::Sequence(head.sequence)));
    let (result, detail) = match shown {
        Ok(Some(shown)) => match shown.commit {
            Some(commit) if head.commit.names(&commit) => return,
            Some(_) => (AuditResult::Damaged, "the commit is damaged".to_owned()),
            None => (AuditResult::Missing, "the commit is missing".to_owned()),
        },
        Ok(None) => not_shown(channel, &ServiceError::NotHeld { what: "the head" }),
        Err(error) => unanswered(channel, &error),
    };
    if outcome.result != AuditResult::Damaged {
        outcome.result = result;
    }
    outcome.detail = Some(match outcome.detail.take() {
        Some(before) => format!("{before}; {detail}"),
        None => detail,
    });
}

/// Adds what an answer shows to the outcome; damage outweighs what is missing, and both outweigh what was known before.
pub(crate) fn note(outcome: &mut ChannelAudit, report: &AuditReport, is_of_newest_root: bool) {
    use maimo_core::audit::Failure;

    let failed = || Stratum::ALL.map(|stratum| &report.stratum(stratum).failed);
    let is_damaged = |failed: &Vec<Failed>| {
        let mut failed = failed.iter();
        failed.any(|failed| failed.failure == Failure::Damaged)
    };
    let is_intact = if is_of_newest_root {
        report.is_intact()
    } else {
        report.is_intact_of_old_root()
    };
    if is_intact {
        return;
    }
    let damaged =
        failed().into_iter().any(is_damaged) || matches!(report.commit, Err(Failure::Damaged));
    outcome.result = if damaged || outcome.result == AuditResult::Damaged {
        AuditResult::Damaged
    } else {
        AuditResult::Missing
    };
    let result = outcome.result;
    for stratum in Stratum::ALL {
        for failed in &report.stratum(stratum).failed {
            let Some((pack, block)) = failed.place else {
                continue;
            };
            let mut groups = empty_map(&pack);
            let group = u32::try_from(block / BLOCKS_PER_GROUP).unwrap_or(u32::MAX);
            // Where the inventory names a block beyond its pack, the whole answer would not have been taken.
            let _ = groups.insert(group..group.saturating_add(1));
            let why = match failed.failure {
                Failure::Damaged => AuditResult::Damaged,
                Failure::Missing => AuditResult::Missing,
            };
            outcome.blame(why, stratum, &pack, &groups);
        }
    }
    outcome.result = result;
    let count: usize = failed().map(Vec::len).into_iter().sum();
    let commit = match report.commit {
        Err(Failure::Damaged) => ", and the commit is damaged",
        Err(Failure::Missing) if is_of_newest_root => ", and the commit is missing",
        _ => "",
    };
    outcome.detail = Some(format!("{count} slices were not proven{commit}"));
}

/// Returns the map of none of a pack's groups.
pub(crate) fn empty_map(pack: &ObjectRef) -> LiveMap {
    LiveMap::empty(u32::try_from(groups(pack.length)).unwrap_or(u32::MAX))
}

/// What was asked and failed in a stratum, over several challenges.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) is_answered: bool,
    asked: u64,
    live: u64,
    failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, report: &maimo_core::audit::StratumReport) {
        self.is_answered = true;
        self.asked += report.asked;
        self.live = report.live_blocks;
        self.failed += report.failed.len() as u64;
    }

    pub(crate) fn report(self, stratum: Stratum, loss: f64) -> StratumAudit {
        StratumAudit {
            stratum,
            slices: self.asked,
            blocks_live: self.live,
            failed: self.failed,
            loss,
            probability: probability(self.live, self.asked, loss),
        }
    }
}

/// Returns how probable it was that `asked` of `live` blocks show that the fraction `loss` of them, at least one, is lost.
pub(crate) fn probability(live: u64, asked: u64, loss: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a count; casts from float saturate"
    )]
    let lost = ((live as f64 * loss).ceil() as u64).max(1);
    detection(live, lost, asked)
}
