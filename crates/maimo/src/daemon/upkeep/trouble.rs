//! [`Troubles`]: what is wrong, told once when it begins and once when it is over.
//!
//! What is wrong with one thing hides nothing that is wrong with another, nor with the same one otherwise: a channel may be damaged and away.
//! What comes and goes is told less and less: each time it is back soon after it was over, it must last longer to be told again.
//!
//! Invariant: of each trouble that was told, the end is told, by this process or a later one.

use std::{collections::BTreeMap, time::Duration};

use maimo_client::{
    audit::{AuditResult, result_of},
    error::ClientError,
};
use maimo_core::error::Classify as _;
use serde::{Deserialize, Serialize};

use super::schedule::Now;
use crate::quantity::Moment;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A provider cannot be reached.
    Offline,
    /// A provider refuses.
    Refused,
    /// A provider asks to come back later, again and again.
    Slow,
    /// Something stored is not there.
    Missing,
    /// Something stored is not what it was.
    Damaged,
    /// A provider shows an older or another state than it acknowledged.
    Rollback,
    /// There is no room left at a provider.
    CapExceeded,
    /// Files or folders could not be read.
    Unreadable,
    /// A watched folder is not there, or its disk is not.
    FolderGone,
    /// The system does not tell what changes in a folder; it is looked through now and then.
    Unwatched,
    /// Files that are missing could not be brought back.
    NotRestored,
    /// The disk of this machine is full.
    DiskFull,
    /// The clock of this machine goes wrong.
    Clock,
    /// Anything else.
    Failed,
}

impl Kind {
    /// Returns its name, as in the state file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Rollback => "rollback",
            Self::CapExceeded => "cap_exceeded",
            Self::Unreadable => "unreadable",
            Self::FolderGone => "folder_gone",
            Self::Unwatched => "unwatched",
            Self::NotRestored => "not_restored",
            Self::DiskFull => "disk_full",
            Self::Clock => "clock",
            Self::Failed => "failed",
        }
    }

    /// Returns what an audit's result is, if it is a trouble.
    pub(super) const fn of(result: AuditResult) -> Option<Self> {
        match result {
            AuditResult::Intact => None,
            AuditResult::Damaged => Some(Self::Damaged),
            AuditResult::Missing => Some(Self::Missing),
            AuditResult::Refused => Some(Self::Refused),
            AuditResult::Slow => Some(Self::Slow),
            AuditResult::Offline => Some(Self::Offline),
            AuditResult::Rollback => Some(Self::Rollback),
        }
    }

    /// Whether it says only that a provider does not answer now: that may be over in a moment.
    pub(super) const fn is_absence(self) -> bool {
        matches!(self, Self::Offline | Self::Slow)
    }

    /// Returns what helps, where the error does not say it itself.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Offline => {
                "is the provider's disk mounted, is it reachable? it is tried again until it is"
            }
            Self::Refused => "ask the provider why; nothing says that the bytes are lost",
            Self::Slow => "it is tried again; if it stays so, ask the provider",
            Self::Missing | Self::Damaged => {
                "`maimo verify --read-all` tells how much is lost; `maimo channel repair` puts back what is still here"
            }
            Self::Rollback => {
                "both signed heads are kept as evidence; ask the provider, then see `maimo channel repair`"
            }
            Self::CapExceeded => "ask the provider for a larger cap, or remove something and prune",
            Self::Unreadable => {
                "see whose files they are; what should not be stored belongs into `exclude`"
            }
            Self::FolderGone => {
                "is its disk mounted? nothing of it is taken for gone; if it is to be watched no more, take it out of `watch`"
            }
            Self::Unwatched => {
                "raise the system's limit of watches, or watch fewer folders; until then changes are found by rescans"
            }
            Self::NotRestored => "`maimo retrieve` tells more",
            Self::DiskFull => "make room on the disk of this node's home",
            Self::Clock => "set the clock right: runs bear its time, and policies go by it",
            Self::Failed => "run the command by hand to see more",
        }
    }
}

/// What a trouble is of: one of a kind at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// The channel, the folder; neither where it is the node's.
    pub(crate) channel: Option<String>,
    pub(crate) path: Option<String>,
    /// What failed.
    pub(crate) job: Option<String>,
}

impl Subject {
    pub(super) fn channel(kind: Kind, channel: &str) -> Self {
        Self {
            kind,
            channel: Some(channel.to_owned()),
            path: None,
            job: None,
        }
    }

    pub(super) fn path(kind: Kind, path: &std::path::Path) -> Self {
        Self {
            kind,
            channel: None,
            path: Some(path.to_string_lossy().into_owned()),
            job: None,
        }
    }

    pub(super) const fn node(kind: Kind) -> Self {
        Self {
            kind,
            channel: None,
            path: None,
            job: None,
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    #[serde(flatten)]
    pub(crate) subject: Subject,
    pub(crate) since: Moment,
    pub(crate) message: String,
    pub(crate) hint: String,
    /// Whether it was told; one that may be over in a moment is not.
    pub(crate) told: bool,
}

/// What is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Begun(Trouble),
    Ended(Trouble),
}

/// What is wrong now.
pub(super) struct Troubles {
    standing: BTreeMap<Subject, Standing>,
    /// What is over, when that was, and how long it must last next time to be told.
    over: BTreeMap<Subject, (Duration, Duration)>,
    /// How long a provider may be away before that is told.
    patience: Duration,
}

struct Standing {
    trouble: Trouble,
    /// When it is told, by the clock that never turns back.
    tell_at: Duration,
}

/// How many characters a message has at most.
const TEXT_MAX: usize = 1000;
/// What is back within this time comes and goes.
const FLAPS_WITHIN: Duration = Duration::from_mins(30);
/// How long such a thing must last to be told: the first time, and at most.
const FLAPS_WAIT: (Duration, Duration) = (Duration::from_mins(5), Duration::from_hours(6));

impl Troubles {
    /// Goes on with what an earlier process had told or not.
    pub(super) fn new(standing: Vec<Trouble>, patience: Duration, now: Now) -> Self {
        let standing = standing.into_iter().map(|trouble| {
            let tell_at = now.up + patience;
            (trouble.subject.clone(), Standing { trouble, tell_at })
        });
        Self {
            standing: standing.collect(),
            over: BTreeMap::new(),
            patience,
        }
    }

    /// Takes note that something is wrong. What was wrong already stands as it began, with the newest message.
    pub(super) fn set(
        &mut self,
        subject: Subject,
        message: String,
        hint: Option<String>,
        now: Now,
    ) {
        let message = shortened(message);
        let hint = shortened(hint.unwrap_or_else(|| subject.kind.hint().to_owned()));
        if let Some(standing) = self.standing.get_mut(&subject) {
            standing.trouble.message = message;
            standing.trouble.hint = hint;
            return;
        }
        let mut wait = if subject.kind.is_absence() {
            self.patience
        } else {
            Duration::ZERO
        };
        if let Some((over, least)) = self.over.get(&subject)
            && now.up.saturating_sub(*over) < FLAPS_WITHIN
        {
            wait = wait.max(*least);
        }
        let trouble = Trouble {
            subject: subject.clone(),
            since: now.wall.into(),
            message,
            hint,
            told: false,
        };
        let tell_at = now.up + wait;
        self.standing.insert(subject, Standing { trouble, tell_at });
    }

    /// Takes note that what is meant is not wrong, or no longer. Returns what is to be told of that.
    pub(super) fn clear(&mut self, which: impl Fn(&Subject) -> bool, now: Now) -> Vec<News> {
        let over: Vec<Subject> = self
            .standing
            .keys()
            .filter(|it| which(it))
            .cloned()
            .collect();
        let mut news = Vec::new();
        for subject in over {
            let Some(standing) = self.standing.remove(&subject) else {
                continue;
            };
            let before = self.over.remove(&subject);
            let flaps = before.filter(|(over, _)| now.up.saturating_sub(*over) < FLAPS_WITHIN);
            let least = flaps.map_or(FLAPS_WAIT.0, |(_, least)| (least * 2).min(FLAPS_WAIT.1));
            self.over.insert(subject, (now.up, least));
            if standing.trouble.told {
                news.push(News::Ended(standing.trouble));
            }
        }
        self.over
            .retain(|_, (over, _)| now.up.saturating_sub(*over) < FLAPS_WITHIN);
        news
    }

    /// Returns what has lasted long enough to be told, once.
    pub(super) fn ripe(&mut self, now: Now) -> Vec<News> {
        let mut news = Vec::new();
        for standing in self.standing.values_mut() {
            if !standing.trouble.told && standing.tell_at <= now.up {
                standing.trouble.told = true;
                news.push(News::Begun(standing.trouble.clone()));
            }
        }
        news
    }

    /// Returns how long nothing becomes ripe.
    pub(super) fn wait(&self, now: Now) -> Option<Duration> {
        let untold = self.standing.values().filter(|it| !it.trouble.told);
        untold.map(|it| it.tell_at.saturating_sub(now.up)).min()
    }

    /// Returns whether something of this kind is wrong with a channel.
    pub(super) fn stands(&self, kind: Kind, channel: &str) -> bool {
        self.standing.contains_key(&Subject::channel(kind, channel))
    }

    /// Returns all that is wrong.
    pub(super) fn all(&self) -> impl Iterator<Item = &Trouble> {
        self.standing.values().map(|standing| &standing.trouble)
    }
}

/// Returns a text that a variable and a pipe hold.
fn shortened(mut text: String) -> String {
    text.retain(|c| c != '\0');
    if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
        text.truncate(end);
    }
    text
}

/// Returns what an error of the engine says is wrong, with what, in words; nothing where nothing is, as it was only interrupted or there is
/// nothing to do yet.
pub(super) fn of_error(
    error: &ClientError,
    job: &str,
) -> Option<(Subject, String, Option<String>)> {
    let subject = match error {
        ClientError::Cancelled(_) | ClientError::NoChannel(_) => return None,
        ClientError::Provider { channel, .. } if error.cap_exceeded().is_some() => {
            Subject::channel(Kind::CapExceeded, channel)
        }
        ClientError::Provider { channel, source } => {
            Subject::channel(Kind::of(result_of(source)).unwrap_or(Kind::Failed), channel)
        }
        ClientError::WrongBytes { channel, .. } => Subject::channel(Kind::Damaged, channel),
        ClientError::Astray { channel, .. } => Subject::channel(Kind::Rollback, channel),
        error if error.is_disk_full() => Subject::node(Kind::DiskFull),
        _ => Subject {
            job: Some(job.to_owned()),
            ..Subject::node(Kind::Failed)
        },
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    if subject.channel.is_none() {
        message = format!("{job}: {message}");
    }
    Some((subject, message, error.hint().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use maimo_core::clock::Timestamp;

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(5);

    fn at(minutes: u64) -> Now {
        let up = Duration::from_mins(minutes);
        Now {
            up,
            wall: Timestamp(1_700_000_000_000).after(up),
        }
    }

    fn troubles() -> Troubles {
        Troubles::new(Vec::new(), PATIENCE, at(0))
    }

    fn set(troubles: &mut Troubles, kind: Kind, minutes: u64) -> usize {
        let subject = Subject::channel(kind, "disk");
        troubles.set(subject, kind.name().to_owned(), None, at(minutes));
        troubles.ripe(at(minutes)).len()
    }

    fn clear(troubles: &mut Troubles, kind: Kind, minutes: u64) -> usize {
        troubles.clear(|it| it.kind == kind, at(minutes)).len()
    }

    #[test]
    fn each_trouble_is_told_once_and_its_end_once() {
        let mut troubles = troubles();
        assert_eq!(set(&mut troubles, Kind::Damaged, 1), 1);
        assert_eq!(set(&mut troubles, Kind::Damaged, 2), 0);
        assert_eq!(clear(&mut troubles, Kind::Damaged, 3), 1);
        assert_eq!(clear(&mut troubles, Kind::Damaged, 4), 0);
        assert_eq!(troubles.all().count(), 0);
    }

    #[test]
    fn damage_is_not_hidden_by_a_provider_that_is_then_away() {
        let mut troubles = troubles();
        set(&mut troubles, Kind::Damaged, 1);
        set(&mut troubles, Kind::Offline, 2);
        assert_eq!(troubles.ripe(at(8)).len(), 1);
        clear(&mut troubles, Kind::Offline, 9);
        let left: Vec<_> = troubles.all().map(|it| it.subject.kind).collect();
        assert_eq!(left, [Kind::Damaged]);
    }

    #[test]
    fn a_short_absence_is_never_told() {
        let mut troubles = troubles();
        assert_eq!(set(&mut troubles, Kind::Offline, 1), 0);
        assert_eq!(clear(&mut troubles, Kind::Offline, 2), 0);
    }

    #[test]
    fn what_comes_and_goes_is_told_less_and_less() {
        let mut troubles = troubles();
        let mut told = 0;
        for round in 0..20 {
            let begin = round * 10;
            set(&mut troubles, Kind::Offline, begin);
            told += troubles.ripe(at(begin + 6)).len();
            clear(&mut troubles, Kind::Offline, begin + 7);
        }
        assert!((1..=2).contains(&told), "{told}");
        // One that then lasts is told all the same.
        set(&mut troubles, Kind::Offline, 200);
        assert_eq!(troubles.ripe(at(200 + 6 * 60)).len(), 1);
    }

    #[test]
    fn what_an_earlier_process_told_is_not_told_again_and_its_end_is() {
        let mut before = troubles();
        set(&mut before, Kind::Missing, 1);
        let kept: Vec<Trouble> = before.all().cloned().collect();
        let text = serde_json::to_string(&kept).unwrap();
        let kept = serde_json::from_str(&text).unwrap();
        let mut troubles = Troubles::new(kept, PATIENCE, at(10));
        assert_eq!(set(&mut troubles, Kind::Missing, 11), 0);
        assert_eq!(troubles.all().next().unwrap().since, at(1).wall.into());
        assert_eq!(clear(&mut troubles, Kind::Missing, 12), 1);
    }

    #[test]
    fn an_interruption_is_no_trouble_and_a_full_disk_is_the_nodes() {
        let cancelled = ClientError::from(maimo_client::progress::Cancelled);
        assert!(of_error(&cancelled, "store").is_none());
        let full = ClientError::Io {
            action: "write",
            path: "/x".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        };
        let (subject, message, _) = of_error(&full, "store").unwrap();
        assert_eq!(subject, Subject::node(Kind::DiskFull));
        assert!(message.starts_with("store: cannot write /x: "), "{message}");
    }
}
