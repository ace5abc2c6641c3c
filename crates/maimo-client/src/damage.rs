//! Known damage: what an audit or a read found not to be what the root says, until no head names it any more.
//!
//! ```text
//! audit, read: a failed slice, "not held" --> written down --> no longer known to dedup --> healed: named no more --> forgotten
//!                                                                                      '--> cannot be healed: named to its owner
//! ```
//!
//! Only evidence is written down: groups whose bytes fail against their root, or that a provider says it does not have. A digest that differs, an
//! answer that did not come, a provider that is away are none. Invariant: what is written down here is durable before the operation that
//! found it ends, and stays until the channel's newest head no longer names it, or all of the channel was read back and it was right.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maimo_core::{
    audit::Stratum,
    clock::Timestamp,
    id::{ChannelId, RootHash},
    inventory::Entry,
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
};
use maimo_net::service::{ServiceError, Session};
use maimo_vault::{
    candidate::ChannelView,
    name::{ChunkRef, PackNumber},
    pack::{PackKind, PackLayout},
};
use rusqlite::params;

use crate::{
    audit::{DamagedPack, empty_map, whole::in_halves},
    browse::to_path,
    catalog::{Filter, Reader},
    client::Client,
    engine::{self, Engine},
    error::{ClientError, STATE_FILE},
    node_state::{NodeState, signed, unsigned},
    session::OpenChannel,
    view::View,
};

/// What is known of a pack's damage on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamageRow {
    /// The channel.
    pub(crate) channel: ChannelId,
    /// Which groups of which pack.
    pub(crate) damaged: DamagedPack,
    /// When it was first found.
    pub(crate) found: Timestamp,
    /// By what.
    pub(crate) by: FoundBy,
    /// Whether it was tried to heal it since, and nothing had its bytes.
    pub(crate) is_lost: bool,
}

/// What found some damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// An audit.
    Audit,
    /// A read: a retrieval, a catch-up, the proof of possession before a local copy goes.
    Read,
}

/// What is known to be damaged on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageReport {
    /// The channel's name.
    pub channel: String,
    /// How many packs are hit: data packs, and vital ones (journal and dictionaries).
    pub packs: [u64; 2],
    /// How many bytes of groups.
    pub bytes: u64,
    /// How many of the packs the channel says it does not have, at least in part.
    pub missing: u64,
    /// When the first of it was found.
    pub since: Timestamp,
    /// What found the newest of it.
    pub by: FoundBy,
    /// Of how many packs it was tried to heal them, and nothing had all of their bytes.
    pub lost: u64,
    /// The kept revisions that take some of it.
    pub touched: Vec<TouchedRevision>,
}

/// A kept revision whose stored bytes are damaged, or lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TouchedRevision {
    /// The machine whose path it is.
    pub source: String,
    /// The path there.
    pub path: std::path::PathBuf,
    /// Its number among the path's kept revisions; the oldest is 1.
    pub revision: u64,
    /// How many of them there are.
    pub revisions: u64,
}

impl Client {
    /// Returns what is known to be damaged on each channel, with the revisions that it touches: what audits and reads have found, and neither
    /// healing nor letting go has settled since. Channels of which nothing is known are not in it.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// for damage in client.damage()? {
    ///     println!("{}: {} revisions", damage.channel, damage.touched.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn damage(&self) -> Result<Vec<DamageReport>, ClientError> {
        self.viewer().look()?.damage_reports()
    }
}

/// The damaged groups of each pack of a channel.
pub(crate) type DamagedGroups = HashMap<RootHash, LiveMap>;

impl Engine {
    /// Writes down what was found damaged on a channel.
    pub(crate) fn found_damaged(
        &self,
        channel: ChannelId,
        damaged: &[DamagedPack],
        by: FoundBy,
    ) -> Result<(), ClientError> {
        self.node
            .note_damage(channel, damaged, self.clock.now(), by)
    }

    /// Reads again what did not come right, and writes down what is damaged of it: exactly those groups, and nothing of which no answer came.
    /// Returns how many packs that was.
    pub(crate) fn look_into(
        &self,
        channel: ChannelId,
        session: &dyn Session,
        suspects: &[(PackKind, ObjectRef, LiveMap)],
    ) -> Result<usize, ClientError> {
        let mut damaged = Vec::new();
        for (kind, pack, groups) in suspects {
            let found = in_halves(session, pack, groups);
            if !found.groups.is_empty() {
                damaged.push(DamagedPack {
                    stratum: stratum_of(*kind),
                    pack: *pack,
                    groups: found.groups,
                    is_missing: false,
                });
            }
        }
        self.found_damaged(channel, &damaged, FoundBy::Read)?;
        Ok(damaged.len())
    }

    /// As [`Self::look_into`], of whole packs whose fetch failed with an error: nothing is looked into unless it speaks of wrong or missing
    /// bytes.
    pub(crate) fn look_into_whole(
        &self,
        channel: &OpenChannel,
        kind: PackKind,
        packs: &[ObjectRef],
        error: &ClientError,
    ) {
        if !is_evidence(error) {
            return;
        }
        let all = |pack: &ObjectRef| {
            let count = u32::try_from(groups(pack.length)).unwrap_or(u32::MAX);
            (kind, *pack, LiveMap::full(count))
        };
        let suspects: Vec<_> = packs.iter().map(all).collect();
        // What the caller has to say is worse news than that it could not be written down.
        let _ = self.look_into(channel.id, &*channel.session, &suspects);
    }

    /// Returns the known damaged groups of a channel's data packs.
    pub(crate) fn damaged_groups(&self, channel: ChannelId) -> Result<DamagedGroups, ClientError> {
        let rows = self.node.damage()?.into_iter();
        let rows = rows
            .filter(|row| row.channel == channel && row.damaged.stratum == Stratum::Data)
            .map(|row| (row.damaged.pack.root, row.damaged.groups));
        Ok(rows.collect())
    }

    /// Returns what of a channel's data packs lives and is not known to be damaged, where that is less than what lives.
    pub(crate) fn sound(
        &self,
        channel: ChannelId,
    ) -> Result<HashMap<ObjectRef, LiveMap>, ClientError> {
        let damaged = self.damaged_groups(channel)?;
        let mut sound = HashMap::new();
        let Some(view) = self.view(channel).filter(|_| !damaged.is_empty()) else {
            return Ok(sound);
        };
        for entry in view.data.entries() {
            if let Some(damaged) = damaged.get(&entry.pack().root) {
                sound.insert(*entry.pack(), entry.live().minus(damaged));
            }
        }
        Ok(sound)
    }

    /// Forgets damage that a channel's newest head no longer names.
    pub(crate) fn settle_damage(&self, view: &ChannelView) -> Result<(), ClientError> {
        for row in self.node.damage()? {
            if row.channel != view.channel {
                continue;
            }
            let DamagedPack { pack, groups, .. } = &row.damaged;
            let inventory = match row.damaged.stratum {
                Stratum::Data => &view.data,
                Stratum::Vital => &view.vital,
            };
            let live = inventory.entry(&pack.root).map(Entry::live);
            let left = live.map(|live| groups.intersection(live));
            let left = left.unwrap_or_else(|| empty_map(pack));
            if left != *groups {
                self.node.put_damage(&row, &left)?;
            }
        }
        Ok(())
    }
}

impl View {
    /// Returns the channels that went astray, each with how often and when last.
    pub(crate) fn astray_channels(&self) -> Result<Vec<(String, u64, Timestamp)>, ClientError> {
        let mut astray = Vec::new();
        for (channel, times) in self.node().evidence_times()? {
            // Of a channel that was closed since, nobody wants to hear.
            if let (Ok(row), Some(last)) = (
                engine::channel_row(self.node(), channel, || self.reader()),
                times.last(),
            ) {
                astray.push((row.name, times.len() as u64, *last));
            }
        }
        Ok(astray)
    }

    pub(crate) fn damage_reports(&self) -> Result<Vec<DamageReport>, ClientError> {
        let mut by_channel: BTreeMap<ChannelId, Vec<DamageRow>> = BTreeMap::new();
        for row in self.node().damage()? {
            by_channel.entry(row.channel).or_default().push(row);
        }
        let reader = self.reader()?;
        let mut reports = Vec::new();
        for (channel, rows) in by_channel {
            let mut report = DamageReport {
                channel: engine::channel_row(self.node(), channel, || self.reader())?.name,
                packs: [0; 2],
                bytes: 0,
                missing: 0,
                since: rows.iter().map(|row| row.found).min().unwrap_or_default(),
                by: rows
                    .iter()
                    .max_by_key(|row| row.found)
                    .map_or(FoundBy::Audit, |row| row.by),
                lost: 0,
                touched: Vec::new(),
            };
            for row in &rows {
                let DamagedPack { pack, groups, .. } = &row.damaged;
                report.packs[usize::from(row.damaged.stratum == Stratum::Vital)] += 1;
                report.bytes += groups.live_bytes(pack.length);
                report.missing += u64::from(row.damaged.is_missing);
                report.lost += u64::from(row.is_lost);
            }
            let broken = broken_in(&reader, channel, &rows)?;
            report.touched = touched(&reader, &broken)?;
            reports.push(report);
        }
        Ok(reports)
    }
}

/// Returns the chunks of a channel that take damaged groups.
fn broken_in(
    reader: &Reader,
    channel: ChannelId,
    rows: &[DamageRow],
) -> Result<BTreeMap<PackNumber, BTreeSet<u32>>, ClientError> {
    let mut broken = BTreeMap::new();
    let damaged: DamagedGroups = rows
        .iter()
        .filter(|row| row.damaged.stratum == Stratum::Data)
        .map(|row| (row.damaged.pack.root, row.damaged.groups.clone()))
        .collect();
    if damaged.is_empty() {
        return Ok(broken);
    }
    for (number, pack) in reader.packs(channel)? {
        if let Some(groups) = damaged.get(&pack.root)
            && let Some(layout) = reader.layout(number)?
        {
            broken.insert(number, broken_chunks(&layout, groups));
        }
    }
    Ok(broken)
}

/// Returns the chunks of a pack that cannot be had whole once these groups are damaged: of what it takes to find them some is gone, too.
pub(crate) fn broken_chunks(layout: &PackLayout, damaged: &LiveMap) -> BTreeSet<u32> {
    (0..)
        .zip(layout.entries())
        .map(|(index, _)| index)
        .filter(|index| {
            let needed = layout.live_map([*index]);
            needed.is_none_or(|needed| needed.intersects(damaged))
        })
        .collect()
}

/// Returns the kept revisions that take any of these chunks, by machine and path.
pub(crate) fn touched(
    reader: &Reader,
    broken: &BTreeMap<PackNumber, BTreeSet<u32>>,
) -> Result<Vec<TouchedRevision>, ClientError> {
    let mut touched = Vec::new();
    if broken.is_empty() {
        return Ok(touched);
    }
    let labels: HashMap<_, _> = reader.sources()?.into_iter().collect();
    let is_broken = |chunk: ChunkRef| {
        let broken = broken.get(&chunk.pack);
        broken.is_some_and(|broken| broken.contains(&chunk.index))
    };
    let all = Filter {
        all: true,
        ..Filter::default()
    };
    reader.each(&all, |listed| {
        let source = listed.revision.source;
        for numbered in reader.history(source, &listed.revision.path)? {
            let extents = reader.resolve_all(&numbered.revision.content)?;
            let mut chunks = extents.iter().flat_map(|extent| extent.chunks());
            if chunks.any(is_broken) {
                touched.push(TouchedRevision {
                    source: labels.get(&source).cloned().unwrap_or_default(),
                    path: to_path(&numbered.revision.path),
                    revision: numbered.number,
                    revisions: listed.revisions,
                });
            }
        }
        Ok::<_, ClientError>(core::ops::ControlFlow::Continue(()))
    })?;
    touched.sort();
    Ok(touched)
}

/// Returns whether an error says that bytes are wrong or not there, and not only that they did not come.
pub(crate) const fn is_evidence(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::WrongBytes { .. }
            | ClientError::Provider {
                source: ServiceError::NotHeld { .. } | ServiceError::Damaged { .. },
                ..
            }
    )
}

const fn stratum_of(kind: PackKind) -> Stratum {
    match kind {
        PackKind::Data => Stratum::Data,
        PackKind::Vital => Stratum::Vital,
    }
}

/// A row's flags.
const MISSING: i64 = 1;
const LOST: i64 = 2;
const BY_READ: i64 = 4;

impl NodeState {
    /// Returns all known damage.
    pub(crate) fn damage(&self) -> Result<Vec<DamageRow>, ClientError> {
        let read = || -> rusqlite::Result<Vec<Option<DamageRow>>> {
            let sql = "SELECT channel, vital, root, length, groups, found, flags FROM damage ORDER BY channel, vital, root";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                let pack = ObjectRef {
                    root: RootHash(row.get(2)?),
                    length: unsigned(row.get(3)?),
                };
                let runs: Vec<u8> = row.get(4)?;
                let flags: i64 = row.get(6)?;
                let is_vital: bool = row.get(1)?;
                let channel = ChannelId(row.get(0)?);
                let found = Timestamp(unsigned(row.get(5)?));
                Ok(decoded(&pack, &runs).map(|groups| DamageRow {
                    channel,
                    damaged: DamagedPack {
                        stratum: if is_vital {
                            Stratum::Vital
                        } else {
                            Stratum::Data
                        },
                        pack,
                        groups,
                        is_missing: flags & MISSING != 0,
                    },
                    found,
                    by: if flags & BY_READ == 0 {
                        FoundBy::Audit
                    } else {
                        FoundBy::Read
                    },
                    is_lost: flags & LOST != 0,
                }))
            })?;
            rows.collect()
        };
        let rows = read().map_err(failed)?;
        rows.into_iter().collect::<Option<_>>().ok_or_else(|| {
            ClientError::Corrupt("what is known to be damaged cannot be read".to_owned())
        })
    }

    /// Adds damage to what is known.
    fn note_damage(
        &self,
        channel: ChannelId,
        damaged: &[DamagedPack],
        now: Timestamp,
        by: FoundBy,
    ) -> Result<(), ClientError> {
        let damaged: Vec<&DamagedPack> = damaged
            .iter()
            .filter(|damaged| !damaged.groups.is_empty())
            .collect();
        if damaged.is_empty() {
            return Ok(());
        }
        let known = self.damage()?;
        self.write(|tx| {
            for DamagedPack {
                stratum,
                pack,
                groups,
                is_missing,
            } in damaged
            {
                let known = known.iter().find(|row| {
                    row.channel == channel
                        && row.damaged.pack == *pack
                        && row.damaged.stratum == *stratum
                });
                let all = known.map_or_else(|| groups.clone(), |row| row.damaged.groups.union(groups));
                if known.is_some_and(|row| row.damaged.groups == all) {
                    continue;
                }
                let mut flags = if by == FoundBy::Read { BY_READ } else { 0 };
                if *is_missing {
                    flags |= MISSING;
                }
                let found = known.map_or(now, |row| row.found);
                tx.prepare_cached(
                    "INSERT OR REPLACE INTO damage (channel, vital, root, length, groups, found, flags)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    channel.0,
                    *stratum == Stratum::Vital,
                    pack.root.0,
                    signed(pack.length),
                    encoded(&all),
                    signed(found.0),
                    flags
                ])?;
            }
            Ok(())
        })
    }

    /// Narrows a row to the groups that are left of it; to none, which forgets it.
    pub(crate) fn put_damage(&self, row: &DamageRow, left: &LiveMap) -> Result<(), ClientError> {
        let DamagedPack { stratum, pack, .. } = &row.damaged;
        let key = params![row.channel.0, *stratum == Stratum::Vital, pack.root.0];
        self.write(|tx| {
            if left.is_empty() {
                let sql = "DELETE FROM damage WHERE channel = ?1 AND vital = ?2 AND root = ?3";
                return tx.execute(sql, key).map(drop);
            }
            let sql =
                "UPDATE damage SET groups = ?4 WHERE channel = ?1 AND vital = ?2 AND root = ?3";
            let vital = *stratum == Stratum::Vital;
            tx.execute(
                sql,
                params![row.channel.0, vital, pack.root.0, encoded(left)],
            )
            .map(drop)
        })
    }

    /// Notes whether nothing has the bytes of some damage.
    pub(crate) fn mark_lost(&self, row: &DamageRow, is_lost: bool) -> Result<(), ClientError> {
        if row.is_lost == is_lost {
            return Ok(());
        }
        let DamagedPack { stratum, pack, .. } = &row.damaged;
        let sql = "UPDATE damage SET flags = CASE WHEN ?4 THEN flags | ?5 ELSE flags & ~?5 END
             WHERE channel = ?1 AND vital = ?2 AND root = ?3";
        let vital = *stratum == Stratum::Vital;
        self.write(|tx| {
            tx.execute(
                sql,
                params![row.channel.0, vital, pack.root.0, is_lost, LOST],
            )
            .map(drop)
        })
    }

    /// Forgets all damage of a channel but that of packs of which something was just found: all of it was read back.
    pub(crate) fn replace_damage(
        &self,
        channel: ChannelId,
        found: &[DamagedPack],
    ) -> Result<(), ClientError> {
        for row in self.damage()? {
            if row.channel != channel {
                continue;
            }
            let is_found = found.iter().any(|found| {
                found.pack == row.damaged.pack && found.stratum == row.damaged.stratum
            });
            if !is_found {
                self.put_damage(&row, &empty_map(&row.damaged.pack))?;
            }
        }
        Ok(())
    }
}

impl NodeState {
    /// Returns when two signed heads of a channel were kept, by channel, ascending.
    fn evidence_times(&self) -> Result<BTreeMap<ChannelId, Vec<Timestamp>>, ClientError> {
        let read = || -> rusqlite::Result<_> {
            let sql = "SELECT channel, time FROM evidence ORDER BY time";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok((ChannelId(row.get(0)?), Timestamp(unsigned(row.get(1)?))))
            })?;
            let mut times: BTreeMap<ChannelId, Vec<Timestamp>> = BTreeMap::new();
            for row in rows {
                let (channel, time) = row?;
                times.entry(channel).or_default().push(time);
            }
            Ok(times)
        };
        read().map_err(failed)
    }
}

/// Returns the runs of groups as pairs of numbers: a map in an inventory may have fewer runs than damage can make.
fn encoded(groups: &LiveMap) -> Vec<u8> {
    let ends = groups.runs().flat_map(|run| [run.start, run.end]);
    ends.flat_map(u32::to_le_bytes).collect()
}

fn decoded(pack: &ObjectRef, runs: &[u8]) -> Option<LiveMap> {
    let mut groups = empty_map(pack);
    let (runs, rest) = runs.as_chunks::<8>();
    for run in runs {
        let (start, end) = run.split_first_chunk::<4>()?;
        let run = u32::from_le_bytes(*start)..u32::from_le_bytes(end.try_into().ok()?);
        groups.insert(run).ok()?;
    }
    rest.is_empty().then_some(groups)
}

fn failed(source: rusqlite::Error) -> ClientError {
    ClientError::Database {
        file: STATE_FILE,
        source,
    }
}

#[cfg(test)]
mod tests;
