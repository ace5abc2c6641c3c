//! The history of a channel's audits, and what they prove together.
//!
//! Each audit draws its blocks anew and independently of the others, so small ones add up: of a loss that all of them could see, each misses
//! with a probability, and all of them with the product. That holds for a loss that stood before the first of them and stands since, and that
//! was the same fraction, or more, of what lived at each. Of a loss that began later only the audits after its beginning say anything, and of
//! what was lost since the newest, none.
//!
//! Invariant: a row of intact audits ends with the first that was not; one that was not answered proves nothing and ends nothing, for what
//! it asked is asked again before anything new.

use maimo_core::{
    audit::{Stratum, confidence::detection_at_least},
    clock::Timestamp,
    codec::{self, Put},
    id::{ChannelId, RootHash},
};
use rusqlite::params;

use super::failed;
use crate::{
    audit::{AuditResult, ChannelAudit},
    client::Client,
    engine::channel_row,
    error::ClientError,
    node_state::{NodeState, signed, unsigned},
    view::View,
};

/// How many audits of a channel are remembered: of four a day, those of some years.
const AUDITS_KEPT: u32 = 4000;

/// An audit of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAudit {
    /// The channel's name.
    pub channel: String,
    /// When it was.
    pub time: Timestamp,
    /// What it came to.
    pub result: AuditResult,
    /// The root it was held against; nothing where an older program made it.
    pub root: Option<RootHash>,
    /// Slices asked for, of data and of vital packs.
    pub slices: [u64; 2],
    /// Of how many live blocks; 0 where an older program made it.
    pub blocks_live: [u64; 2],
    /// Slices not proven.
    pub failed: u64,
}

impl PastAudit {
    /// Returns whether it asked for every live block, of data and of vital packs.
    pub fn is_whole(&self) -> bool {
        (0..2).all(|stratum| self.is_whole_of(stratum))
    }

    fn is_whole_of(&self, stratum: usize) -> bool {
        self.root.is_some() && self.slices[stratum] >= self.blocks_live[stratum]
    }
}

/// What the newest audits of a channel, all intact, prove together.
#[derive(Debug, Clone, PartialEq)]
pub struct Proven {
    /// The channel's name.
    pub channel: String,
    /// When the first of them was.
    pub since: Timestamp,
    /// When the newest of them was.
    pub last: Timestamp,
    /// How many they are.
    pub audits: u64,
    /// Data and vital packs.
    pub strata: [ProvenStratum; 2],
}

/// What was proven of one stratum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProvenStratum {
    /// Which.
    pub stratum: Stratum,
    /// Slices proven in all audits together.
    pub slices: u64,
    /// When an audit last proved every block that lived.
    pub whole: Option<Timestamp>,
}

impl ProvenStratum {
    /// Returns the least probability with which a loss of the fraction `loss`, standing since before the first of the audits, would have made
    /// one of them fail.
    pub fn probability(&self, loss: f64) -> f64 {
        match self.whole {
            Some(_) if loss > 0.0 => 1.0,
            // Rounded it must not become a certainty.
            _ => detection_at_least(loss, self.slices).min(1.0 - f64::EPSILON),
        }
    }
}

impl Proven {
    /// Adds up audits of one channel, the newest one first. Nothing where the newest that was answered was not intact.
    pub fn of<'a>(audits: impl IntoIterator<Item = &'a PastAudit>) -> Option<Self> {
        let mut proven: Option<Self> = None;
        for audit in audits {
            match audit.result {
                AuditResult::Intact => {}
                AuditResult::Damaged | AuditResult::Missing | AuditResult::Rollback => break,
                AuditResult::Refused | AuditResult::Slow | AuditResult::Offline => continue,
            }
            let proven = proven.get_or_insert_with(|| Self {
                channel: audit.channel.clone(),
                since: audit.time,
                last: audit.time,
                audits: 0,
                strata: Stratum::ALL.map(|stratum| ProvenStratum {
                    stratum,
                    slices: 0,
                    whole: None,
                }),
            });
            // The order is that of the audits; a clock that was set back in between must not turn it round.
            proven.since = proven.since.min(audit.time);
            proven.audits += 1;
            for (place, stratum) in proven.strata.iter_mut().enumerate() {
                stratum.slices = stratum.slices.saturating_add(audit.slices[place]);
                if audit.is_whole_of(place) {
                    stratum.whole = stratum.whole.max(Some(audit.time));
                }
            }
        }
        proven
    }
}

impl Client {
    /// Returns the newest audit of each channel: what was proven, and when.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// for audit in client.last_audits()? {
    ///     println!("{}: {:?}", audit.channel, audit.result);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn last_audits(&self) -> Result<Vec<PastAudit>, ClientError> {
        let mut last = self.audits()?;
        last.dedup_by(|later, first| later.channel == first.channel);
        Ok(last)
    }

    /// Returns all audits that are remembered: those of one channel after those of another, the newest one first.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, verify::Proven};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let audits = client.audits()?;
    /// for of_one in audits.chunk_by(|a, b| a.channel == b.channel) {
    ///     let Some(proven) = Proven::of(of_one) else { continue };
    ///     println!("{}: {} audits, all intact", proven.channel, proven.audits);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn audits(&self) -> Result<Vec<PastAudit>, ClientError> {
        self.view()?.audits()
    }
}

impl View {
    /// Returns all audits that are remembered: those of one channel after those of another, the newest one first.
    ///
    /// # Errors
    ///
    /// As [`Client::audits`].
    pub fn audits(&self) -> Result<Vec<PastAudit>, ClientError> {
        let mut named: Option<(ChannelId, String)> = None;
        let mut audits = Vec::new();
        for (channel, mut audit) in self.node().audits()? {
            let name = match named.take() {
                Some((known, name)) if known == channel => name,
                _ => channel_row(self.node(), channel, || self.reader())?.name,
            };
            audit.channel.clone_from(&name);
            named = Some((channel, name));
            audits.push(audit);
        }
        Ok(audits)
    }
}

impl NodeState {
    /// Remembers what an audit came to.
    pub(super) fn remember(
        &self,
        channel: ChannelId,
        time: Timestamp,
        audit: &ChannelAudit,
    ) -> Result<(), ClientError> {
        let of = |stratum| {
            let mut strata = audit.strata.iter();
            let found = strata.find(|audit| audit.stratum == stratum);
            found.map_or((0, 0, 0), |audit| {
                (audit.slices, audit.failed, audit.blocks_live)
            })
        };
        let (data, data_failed, data_live) = of(Stratum::Data);
        let (vital, vital_failed, vital_live) = of(Stratum::Vital);
        let mut body = Vec::new();
        body.put_u8(code_of(audit.result));
        body.put_varint(data);
        body.put_varint(vital);
        body.put_varint(data_failed.saturating_add(vital_failed));
        // What older programs do not write, and do not read.
        body.put_varint(data_live);
        body.put_varint(vital_live);
        body.extend_from_slice(audit.root.as_bytes());
        self.write(|tx| {
            tx.execute(
                "INSERT INTO audit (channel, time, body) VALUES (?1, ?2, ?3)",
                params![channel.0, signed(time.0), body],
            )?;
            tx.execute(
                "DELETE FROM audit WHERE channel = ?1 AND id NOT IN
                 (SELECT id FROM audit WHERE channel = ?1 ORDER BY id DESC LIMIT ?2)",
                params![channel.0, AUDITS_KEPT],
            )?;
            Ok(())
        })
    }

    /// Returns all audits, by channel, the newest one first.
    fn audits(&self) -> Result<Vec<(ChannelId, PastAudit)>, ClientError> {
        let read = || -> rusqlite::Result<Vec<(ChannelId, i64, Vec<u8>)>> {
            let sql = "SELECT channel, time, body FROM audit ORDER BY channel, id DESC";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok((ChannelId(row.get(0)?), row.get(1)?, row.get(2)?))
            })?;
            rows.collect()
        };
        let rows = read().map_err(failed)?.into_iter();
        let past =
            rows.filter_map(|(channel, time, body)| Some((channel, parse(unsigned(time), &body)?)));
        Ok(past.collect())
    }
}

fn parse(time: u64, body: &[u8]) -> Option<PastAudit> {
    let mut reader = codec::Reader::new(body);
    let mut audit = PastAudit {
        channel: String::new(),
        time: Timestamp(time),
        result: result_of(reader.u8("audit").ok()?)?,
        root: None,
        slices: [reader.varint("audit").ok()?, reader.varint("audit").ok()?],
        blocks_live: [0; 2],
        failed: reader.varint("audit").ok()?,
    };
    if reader.remaining() > 0 {
        audit.blocks_live = [reader.varint("audit").ok()?, reader.varint("audit").ok()?];
        audit.root = Some(RootHash(reader.array("audit").ok()?));
    }
    Some(audit)
}

const RESULTS: [AuditResult; 7] = [
    AuditResult::Intact,
    AuditResult::Damaged,
    AuditResult::Missing,
    AuditResult::Refused,
    AuditResult::Slow,
    AuditResult::Offline,
    AuditResult::Rollback,
];

fn code_of(result: AuditResult) -> u8 {
    let place = RESULTS.iter().position(|other| *other == result);
    // The list has them all.
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(0)
}

fn result_of(code: u8) -> Option<AuditResult> {
    RESULTS.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(day: u64, result: AuditResult, slices: u64) -> PastAudit {
        PastAudit {
            channel: "disk".to_owned(),
            time: Timestamp(day),
            result,
            root: Some(RootHash::NONE),
            slices: [slices, 0],
            blocks_live: [1_000_000, 0],
            failed: 0,
        }
    }

    #[test]
    fn small_audits_add_up() {
        let days = (1..=9).rev();
        let nine: Vec<PastAudit> = days
            .map(|day| audit(day, AuditResult::Intact, 460))
            .collect();
        let proven = Proven::of(&nine).unwrap();
        assert_eq!((proven.since, proven.last), (Timestamp(1), Timestamp(9)));
        let data = proven.strata[0];
        assert_eq!((proven.audits, data.slices, data.whole), (9, 4140, None));
        // Each misses a loss of a thousandth with 0.999^460.
        let missed = (1.0_f64 - detection_at_least(0.001, 460)).powi(9);
        assert!((data.probability(0.001) - (1.0 - missed)).abs() < 1e-9);
        assert!(data.probability(0.001) > 0.984 && data.probability(0.001) < 0.985);
        assert!(data.probability(0.01) > 0.9999);
        assert!(data.probability(0.01) < 1.0);
    }

    #[test]
    fn a_row_ends_with_an_audit_that_failed_and_not_with_one_that_was_not_answered() {
        use AuditResult::{Damaged, Intact, Offline};
        let row = [
            audit(9, Offline, 0),
            audit(8, Intact, 40),
            audit(7, Offline, 40),
            audit(6, Intact, 40),
            audit(5, Damaged, 40),
            audit(4, Intact, 40),
        ];
        let proven = Proven::of(&row).unwrap();
        assert_eq!((proven.since, proven.audits), (Timestamp(6), 2));
        assert_eq!(proven.strata[0].slices, 80);
        assert_eq!(Proven::of(&row[4..]), None);
        assert_eq!(Proven::of(&row[..1]), None);
    }

    #[test]
    fn an_audit_of_all_blocks_leaves_no_loss_unseen() {
        let mut whole = audit(3, AuditResult::Intact, 40);
        whole.blocks_live = [40, 0];
        assert!(whole.is_whole());
        let row = [audit(4, AuditResult::Intact, 40), whole];
        let data = Proven::of(&row).unwrap().strata[0];
        assert_eq!(data.whole, Some(Timestamp(3)));
        assert!((data.probability(1e-9) - 1.0).abs() < f64::EPSILON);
        assert!(!row[0].is_whole());
    }

    #[test]
    fn what_an_older_program_remembered_is_read() {
        let mut body = vec![0];
        for number in [460, 12, 0] {
            body.put_varint(number);
        }
        let audit = parse(7, &body).unwrap();
        assert_eq!((audit.slices, audit.root), ([460, 12], None));
        assert!(!audit.is_whole());
    }
}
