//! Lists: a walk over a source's paths, narrowed by patterns, now or as of a run; names found anywhere; what differs between two runs.

use std::{collections::BTreeSet, ops::ControlFlow};

use globset::{Candidate, GlobBuilder, GlobMatcher};
use maimo_core::clock::Timestamp;
use maimo_vault::{
    journal::{record::PathEvent, state::Presence},
    name::{RecordId, SourceId},
    path::{Prefix, StorePath},
};
use rusqlite::OptionalExtension;

use super::{
    error::CatalogError,
    meta,
    reader::{Reader, parse_root},
    rows::{EntryTag, Fact},
    take_in::ROOTS,
    view::{Difference, FolderId, Listed, RunInfo},
};

/// Which paths are meant: a folder or file and what is below, or a glob.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// This path and all below it.
    Within(StorePath),
    /// All that a glob matches, and all below.
    Glob(GlobPattern),
}

/// A glob over whole paths.
#[derive(Debug, Clone)]
pub struct GlobPattern {
    matcher: GlobMatcher,
    /// The components before the first that has a wildcard: nothing elsewhere can match.
    literal: Vec<Vec<u8>>,
}

impl Pattern {
    /// Reads a glob: `*` and `?` stay within a component, `**` crosses them, `[..]` and `{..}` as usual, `\` takes the next character as it
    /// is. One that does not begin with `/` is looked for at any depth. Without a wildcard it is a path.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Pattern`].
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let error = |message: String| CatalogError::Pattern {
            pattern: text.to_owned(),
            message,
        };
        if text.starts_with('/') && !text.contains(WILDCARDS) {
            let path = StorePath::unix(text).map_err(|it| error(it.to_string()))?;
            return Ok(Self::Within(path));
        }
        let trimmed = text.trim_end_matches('/');
        let glob = if text.starts_with('/') {
            trimmed.to_owned()
        } else {
            format!("**/{trimmed}")
        };
        let matcher = matcher(&glob).map_err(|it| error(it.kind().to_string()))?;
        let literal = glob
            .split('/')
            .skip(1)
            .take_while(|name| !name.contains(WILDCARDS))
            .map(|name| name.as_bytes().to_vec());
        let literal = if text.starts_with('/') {
            literal.collect()
        } else {
            Vec::new()
        };
        Ok(Self::Glob(GlobPattern { matcher, literal }))
    }

    /// Returns whether the pattern means the path itself; what is below one that it means is meant too.
    fn is_match(&self, prefix: &Prefix, components: &[Vec<u8>], text: &[u8]) -> bool {
        match self {
            Self::Within(folder) => {
                folder.prefix() == prefix && components.starts_with(folder.components())
            }
            Self::Glob(glob) => glob
                .matcher
                .is_match_candidate(&Candidate::from_bytes(text)),
        }
    }

    /// Returns whether the pattern may mean something below the folder.
    fn may_be_below(&self, prefix: &Prefix, components: &[Vec<u8>]) -> bool {
        let way = match self {
            Self::Within(folder) if folder.prefix() != prefix => return false,
            Self::Within(folder) => folder.components(),
            Self::Glob(glob) => &glob.literal,
        };
        let mut pairs = way.iter().zip(components);
        pairs.all(|(one, other)| one == other)
    }
}

const WILDCARDS: [char; 6] = ['*', '?', '[', ']', '{', '\\'];

fn matcher(glob: &str) -> Result<GlobMatcher, globset::Error> {
    let glob = GlobBuilder::new(glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()?;
    Ok(glob.compile_matcher())
}

/// When a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// Now.
    #[default]
    Now,
    /// As a source's last completed and kept run left it that ended at this time or before.
    At(Timestamp),
    /// As this run left its source's paths.
    Run(RecordId),
}

/// What a list is of.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The machine; all if none is named.
    pub source: Option<SourceId>,
    /// Any of these; everything if there are none.
    pub patterns: Vec<Pattern>,
    /// Whether paths are listed whose local copy is evicted, gone or removed. Only now: what a run left has no such paths but evicted ones,
    /// which are always listed then.
    pub all: bool,
    /// When.
    pub when: When,
}

impl Reader {
    /// Reads a pattern: a path that the catalog knows literally, even one with wildcards in its name, else [`Pattern::parse`].
    pub fn pattern(&self, source: SourceId, text: &str) -> Result<Pattern, CatalogError> {
        if text.starts_with('/')
            && let Ok(path) = StorePath::unix(text)
            && let Some((folder, name)) = self.place(source, &path)?
            && self.row_at(folder, &name)?.is_some()
        {
            return Ok(Pattern::Within(path));
        }
        Pattern::parse(text)
    }

    /// Passes to `visit` each path that the filter means, source by source, each in the order of a walk: byte order of names, a folder before
    /// what is in it. Memory stays flat.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoRun`] if the run asked for did not complete; a source without a run at the time asked for has no paths then.
    pub fn each<E: From<CatalogError>>(
        &self,
        filter: &Filter,
        mut visit: impl FnMut(Listed) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        for root in self.roots(filter)? {
            let mut walk = Walk {
                reader: self,
                filter,
                source: root.source,
                text: match &root.prefix {
                    Prefix::Unix => Vec::new(),
                    Prefix::Windows(drive) => drive.clone(),
                },
                prefix: root.prefix,
                until: root.until,
                components: Vec::new(),
                visit: &mut visit,
            };
            let own = walk.means_here();
            if let Some(row) = self.row(ROOTS, &root.name)?
                && (walk.row(&row, own)?.is_break() || walk.below(&row, own)?.is_break())
            {
                break;
            }
        }
        Ok(())
    }

    /// As [`Self::each`], all of them.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Listed>, CatalogError> {
        let mut all = Vec::new();
        self.each(filter, |listed| {
            all.push(listed);
            Ok::<_, CatalogError>(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    /// Returns the paths whose last component a glob matches, wherever they are, there or not, in byte order of names; of all sources unless
    /// one is named.
    ///
    /// Only names that begin with what stands before the glob's first wildcard are looked at, by the index if there is one
    /// ([`super::Catalog::index_names`]).
    pub fn find(&self, glob: &str, source: Option<SourceId>) -> Result<Vec<Listed>, CatalogError> {
        let matcher = matcher(glob).map_err(|error| CatalogError::Pattern {
            pattern: glob.to_owned(),
            message: error.kind().to_string(),
        })?;
        let literal = glob.split(WILDCARDS).next().unwrap_or_default().as_bytes();
        let mut statement = self.connection.prepare_cached(FIND)?;
        // No name is longer, so none comes after.
        let end = successor(literal).unwrap_or_else(|| vec![0xff; NAME_BYTES_END]);
        let mut rows = statement.query((literal, end))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let folder = row.get(0)?;
            let name = meta::blob(row, 1)?;
            if folder == ROOTS || !matcher.is_match_candidate(&Candidate::from_bytes(name)) {
                continue;
            }
            if let Some((_, fact)) = self.row_at(folder, name)? {
                found.extend(self.listed_now(None, &fact, true)?);
            }
        }
        found.retain(|it| source.is_none_or(|source| it.revision.source == source));
        Ok(found)
    }

    /// Returns the source's last completed and kept run that ended at `time` or before.
    pub fn run_at(
        &self,
        source: SourceId,
        time: Timestamp,
    ) -> Result<Option<RunInfo>, CatalogError> {
        let runs = self
            .runs()?
            .into_iter()
            .filter(|run| run.source == source && run.kept);
        let ended = runs.filter_map(|run| {
            let end = run.end.filter(|end| end.time <= time)?;
            Some((end.time, end.stamp, run))
        });
        let last = ended.max_by_key(|(time, stamp, _)| (*time, *stamp));
        Ok(last.map(|(_, _, run)| run))
    }

    /// Returns what differs between what two completed runs of one source left, in byte order of paths. As much work as changed between them.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoRun`] if either did not complete, or they are of different sources.
    pub fn diff(&self, before: RecordId, after: RecordId) -> Result<Vec<Difference>, CatalogError> {
        let (source, first) = self.run_until(before)?;
        let (other, second) = self.run_until(after)?;
        if source != other {
            return Err(CatalogError::NoRun);
        }
        let mut places = BTreeSet::new();
        let mut statement = self.connection.prepare_cached(
            "SELECT folder, name FROM entry WHERE ordinal > ?1 AND ordinal <= ?2",
        )?;
        let mut rows = statement.query((first.min(second), first.max(second)))?;
        while let Some(row) = rows.next()? {
            places.insert((row.get::<_, i64>(0)?, meta::blob(row, 1)?.to_vec()));
        }
        let mut differences = Vec::new();
        for (folder, name) in places {
            let (of, path) = self.full_path(folder, &name)?;
            let Some((Some(last), _)) = self.row_at(folder, &name)?.filter(|_| of == source) else {
                continue;
            };
            let was = self.as_of(last, first)?.map(|found| found.0);
            let is = self.as_of(last, second)?.map(|found| found.0);
            if was != is {
                let revision = |at: Option<i64>| match at {
                    Some(at) => self.revision_at(at),
                    None => Ok(None),
                };
                differences.push(Difference {
                    source,
                    path,
                    before: revision(was)?,
                    after: revision(is)?,
                });
            }
        }
        differences.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(differences)
    }

    /// Returns a completed run's source and the ordinal of its end.
    fn run_until(&self, run: RecordId) -> Result<(SourceId, i64), CatalogError> {
        let Some(writer) = self.ids.writers.number(run.writer) else {
            return Err(CatalogError::NoRun);
        };
        let found = self
            .connection
            .prepare_cached(
                "SELECT source, ended FROM run JOIN run_end USING (writer, counter)
                 WHERE writer = ?1 AND counter = ?2",
            )?
            .query_row((writer, run.counter.cast_signed()), |row| {
                Ok((SourceId(row.get(0)?), row.get(1)?))
            })
            .optional()?;
        found.ok_or(CatalogError::NoRun)
    }

    /// Returns the revision that a path had where a run ended, by ordinal, and whether it was evicted by then.
    fn as_of(&self, last: i64, until: i64) -> Result<Option<(i64, Presence)>, CatalogError> {
        let mut next = Some(last);
        let mut newest_event = None;
        while let Some(ordinal) = next {
            let (before, tag) = self.step(ordinal)?;
            next = before;
            if ordinal > until {
                continue;
            }
            match tag {
                EntryTag::Revision => {
                    let presence = match newest_event {
                        Some(PathEvent::Evicted) => Presence::Evicted,
                        _ => Presence::Present,
                    };
                    return Ok(Some((ordinal, presence)));
                }
                EntryTag::Event(PathEvent::Gone | PathEvent::Removed) => return Ok(None),
                EntryTag::Event(event) => newest_event = newest_event.or(Some(event)),
            }
        }
        Ok(None)
    }

    /// Returns what a list shows of a path now; nothing if no revision of it is kept, or if it is not there and only what is was asked for.
    fn listed_now(
        &self,
        path: Option<(SourceId, &StorePath)>,
        fact: &Fact,
        all: bool,
    ) -> Result<Option<Listed>, CatalogError> {
        let Some(newest) = fact.newest else {
            return Ok(None);
        };
        if fact.revisions == 0 || (!all && newest.presence != Presence::Present) {
            return Ok(None);
        }
        // Mostly the newest is kept; else the newest one that is.
        let mut next = Some(newest.ordinal);
        while let Some(ordinal) = next {
            let kept = (ordinal == newest.ordinal).then_some(newest.kept);
            let revision = self.revision_of(ordinal, path, kept)?;
            if let Some(revision) = revision.filter(|it| it.kept) {
                return Ok(Some(Listed {
                    revision,
                    number: fact.revisions,
                    revisions: fact.revisions,
                    presence: newest.presence,
                }));
            }
            next = self.step(ordinal)?.0;
        }
        Ok(None)
    }

    /// Returns what a list shows of a path as a run left it.
    fn listed_then(
        &self,
        path: Option<(SourceId, &StorePath)>,
        fact: &Fact,
        (last, until): (i64, i64),
    ) -> Result<Option<Listed>, CatalogError> {
        let Some((ordinal, presence)) = self.as_of(last, until)? else {
            return Ok(None);
        };
        let Some(revision) = self.revision_of(ordinal, path, None)? else {
            return Ok(None);
        };
        // Those after it that are kept have the higher numbers.
        let mut number = fact.revisions;
        let mut next = Some(last);
        while let Some(at) = next.filter(|at| *at > ordinal) {
            let (before, tag) = self.step(at)?;
            let id = self.ids.id(&self.connection, at)?;
            if tag == EntryTag::Revision && self.is_kept(id)? {
                number = number.saturating_sub(1);
            }
            next = before;
        }
        Ok(Some(Listed {
            revision,
            number,
            revisions: fact.revisions,
            presence,
        }))
    }

    fn roots(&self, filter: &Filter) -> Result<Vec<Root>, CatalogError> {
        let run = match filter.when {
            When::Run(run) => Some(self.run_until(run)?),
            _ => None,
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT name FROM path WHERE folder = ?1 ORDER BY name")?;
        let mut rows = statement.query([ROOTS])?;
        let mut roots = Vec::new();
        while let Some(row) = rows.next()? {
            let name = meta::blob(row, 0)?.to_vec();
            let (source, prefix) = parse_root(&name)?;
            if filter.source.is_some_and(|of| of != source) {
                continue;
            }
            let until = match (filter.when, run) {
                (When::Now, _) => None,
                (When::At(time), _) => match self.run_at(source, time)? {
                    Some(run) => Some(self.run_until(run.id)?.1),
                    None => continue,
                },
                (When::Run(_), Some((of, until))) if of == source => Some(until),
                (When::Run(_), _) => continue,
            };
            roots.push(Root {
                source,
                name,
                prefix,
                until,
            });
        }
        Ok(roots)
    }

    fn row(&self, folder: i64, name: &[u8]) -> Result<Option<HotRow>, CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, child, last, fact FROM path WHERE folder = ?1 AND name = ?2",
        )?;
        let mut rows = statement.query((folder, name))?;
        rows.next()?.map(HotRow::read).transpose()
    }

    /// Returns a page of a folder's rows after a name.
    fn page(&self, folder: FolderId, after: &[u8]) -> Result<Vec<HotRow>, CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, child, last, fact FROM path WHERE folder = ?1 AND name > ?2
             ORDER BY name LIMIT 256",
        )?;
        let mut rows = statement.query((folder.0, after))?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            page.push(HotRow::read(row)?);
        }
        Ok(page)
    }
}

pub(super) const FIND: &str = "SELECT folder, name FROM path WHERE name >= ?1 AND name < ?2
     ORDER BY name, folder";
/// More bytes than a name may have.
const NAME_BYTES_END: usize = StorePath::COMPONENT_BYTES_MAX + 1;

/// Returns the first name, in byte order, that is after all that begin with `prefix`; none if there is no such name.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(higher) = last.checked_add(1) {
            next.push(higher);
            return Some(next);
        }
    }
    None
}

/// The paths of a source with one prefix, and until which ordinal they are asked for.
struct Root {
    source: SourceId,
    name: Vec<u8>,
    prefix: Prefix,
    until: Option<i64>,
}

/// A row of the hot table.
struct HotRow {
    name: Vec<u8>,
    child: Option<i64>,
    last: Option<i64>,
    fact: Fact,
}

impl HotRow {
    fn read(row: &rusqlite::Row<'_>) -> Result<Self, CatalogError> {
        Ok(Self {
            name: meta::blob(row, 0)?.to_vec(),
            child: row.get(1)?,
            last: row.get(2)?,
            fact: Fact::parse(meta::blob(row, 3)?)?,
        })
    }
}

/// A walk over one root's paths, at one of them.
struct Walk<'w, V> {
    reader: &'w Reader,
    filter: &'w Filter,
    source: SourceId,
    prefix: Prefix,
    until: Option<i64>,
    components: Vec<Vec<u8>>,
    /// The path as globs see it.
    text: Vec<u8>,
    visit: &'w mut V,
}

impl<V, E> Walk<'_, V>
where
    V: FnMut(Listed) -> Result<ControlFlow<()>, E>,
    E: From<CatalogError>,
{
    /// Shows the path the walk is at, if it is meant.
    fn row(&mut self, row: &HotRow, meant: bool) -> Result<ControlFlow<()>, E> {
        if !meant {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(last) = row.last else {
            return Ok(ControlFlow::Continue(()));
        };
        let path = StorePath::new(self.prefix.clone(), self.components.clone());
        let path = path.map_err(CatalogError::from)?;
        let place = Some((self.source, &path));
        let listed = match self.until {
            None => self.reader.listed_now(place, &row.fact, self.filter.all)?,
            Some(until) => self.reader.listed_then(place, &row.fact, (last, until))?,
        };
        match listed {
            Some(listed) => (self.visit)(listed),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn below(&mut self, row: &HotRow, meant: bool) -> Result<ControlFlow<()>, E> {
        let Some(folder) = row.child.map(FolderId) else {
            return Ok(ControlFlow::Continue(()));
        };
        if self.components.len() >= StorePath::COMPONENTS_MAX || !(meant || self.may_be_below()) {
            return Ok(ControlFlow::Continue(()));
        }
        let length = self.text.len();
        let mut page = self.reader.page(folder, &[])?;
        while let Some(last) = page.last() {
            let after = last.name.clone();
            for row in page {
                self.text.push(b'/');
                self.text.extend_from_slice(&row.name);
                self.components.push(row.name.clone());
                let here = meant || self.means_here();
                let done = self.row(&row, here)?.is_break() || self.below(&row, here)?.is_break();
                self.components.pop();
                self.text.truncate(length);
                if done {
                    return Ok(ControlFlow::Break(()));
                }
            }
            page = self.reader.page(folder, &after)?;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn means_here(&self) -> bool {
        let patterns = &self.filter.patterns;
        let means = |it: &Pattern| it.is_match(&self.prefix, &self.components, &self.text);
        patterns.is_empty() || patterns.iter().any(means)
    }

    fn may_be_below(&self) -> bool {
        let mut patterns = self.filter.patterns.iter();
        patterns.any(|it| it.may_be_below(&self.prefix, &self.components))
    }
}
