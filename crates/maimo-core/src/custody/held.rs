//! What a provider holds of one pack: which groups live, which are held until a date, which are gone.

use core::{ops::Range, time::Duration};

use crate::{
    clock::Timestamp,
    live_map::LiveMap,
    reference::ObjectRef,
    units::{PACK_GROUPS_MAX, groups},
};

use super::terms::ENDLESS;

/// What a pack is for. Its header says so, its inventory must agree: the two are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackClass {
    /// Chunks of files.
    Data,
    /// Journal segments and dictionaries.
    Vital,
}

/// How a provider holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// The newest head names it.
    Live,
    /// No head names it; it may be freed at this date and not before.
    FreeAfter(Timestamp),
}

impl Hold {
    /// Returns whether it may be freed at `now`. A grace without end never ends, whatever the time.
    pub fn may_free(self, now: Timestamp) -> bool {
        matches!(self, Self::FreeAfter(date) if date != ENDLESS && date <= now)
    }
}

/// A run of groups that are held alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The groups.
    pub groups: Range<u32>,
    /// How they are held.
    pub hold: Hold,
}

/// A pack, or what is left of it.
///
/// The extents are sorted and disjoint, none is empty, two that touch differ, and groups in none are freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPack {
    reference: ObjectRef,
    class: PackClass,
    extents: Vec<Extent>,
}

impl HeldPack {
    /// How many extents a pack may have before dates that lie near to one another become one.
    pub const EXTENTS_SOFT_MAX: usize = 64;

    /// Returns a pack that came in whole and that no head names yet.
    pub fn uploaded(reference: ObjectRef, class: PackClass, free_after: Timestamp) -> Self {
        let whole = 0..group_count(&reference);
        Self {
            reference,
            class,
            extents: Vec::from([Extent {
                groups: whole,
                hold: Hold::FreeAfter(free_after),
            }]),
        }
    }

    /// Returns the pack that a ledger's rows describe, or nothing if they describe none.
    pub fn from_extents(
        reference: ObjectRef,
        class: PackClass,
        extents: Vec<Extent>,
    ) -> Option<Self> {
        let end = extents.iter().try_fold(0, |end, extent| {
            (extent.groups.start >= end && !extent.groups.is_empty()).then_some(extent.groups.end)
        })?;
        (end <= group_count(&reference)).then(|| Self {
            reference,
            class,
            extents: join(extents, Duration::from_millis(1)),
        })
    }

    /// Returns the pack's root and length.
    pub const fn reference(&self) -> &ObjectRef {
        &self.reference
    }

    /// Returns what the pack is for.
    pub const fn class(&self) -> PackClass {
        self.class
    }

    /// Returns the extents in ascending order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Returns whether nothing of the pack is left.
    pub fn is_gone(&self) -> bool {
        self.extents.is_empty()
    }

    /// Returns whether the newest head names the pack.
    pub fn is_named(&self) -> bool {
        self.extents.iter().any(|extent| extent.hold == Hold::Live)
    }

    /// Returns which groups live.
    pub fn live(&self) -> LiveMap {
        self.map(|hold| hold == Hold::Live)
    }

    /// Returns which groups are held: those that live and those that wait.
    pub fn held(&self) -> LiveMap {
        self.map(|_| true)
    }

    /// Returns the first date at which something of the pack may be freed.
    pub fn next_date(&self) -> Option<Timestamp> {
        let dates = self.extents.iter().filter_map(|extent| match extent.hold {
            Hold::FreeAfter(date) if date != ENDLESS => Some(date),
            _ => None,
        });
        dates.min()
    }

    /// Makes exactly `live` live: what was waiting in it loses its date, what lived and is not in it gets `free_after`.
    ///
    /// What `live` has and the pack does not hold stays freed: the caller has refused that before.
    #[must_use]
    pub fn with_live(&self, live: &LiveMap, free_after: Timestamp) -> Self {
        let runs: Vec<_> = live.runs().collect();
        let mut extents = Vec::with_capacity(self.extents.len() + 2 * runs.len());
        for extent in &self.extents {
            let rest = match extent.hold {
                Hold::Live => Hold::FreeAfter(free_after),
                waiting @ Hold::FreeAfter(_) => waiting,
            };
            let mut at = extent.groups.start;
            let mut push = |groups: Range<u32>, hold| {
                if !groups.is_empty() {
                    extents.push(Extent { groups, hold });
                }
            };
            let first = runs.partition_point(|run| run.end <= at);
            for run in runs[first..]
                .iter()
                .take_while(|run| run.start < extent.groups.end)
            {
                let living = run.start.max(at)..run.end.min(extent.groups.end);
                push(at..living.start, rest);
                push(living.clone(), Hold::Live);
                at = living.end;
            }
            push(at..extent.groups.end, rest);
        }
        Self {
            reference: self.reference,
            class: self.class,
            extents: bound(extents),
        }
    }

    /// Returns the pack after it came in whole again: what was freed is there again, and nothing waits less long than until
    /// `free_after`.
    #[must_use]
    pub fn with_upload(&self, free_after: Timestamp) -> Self {
        let mut extents = Vec::with_capacity(2 * self.extents.len() + 1);
        let mut at = 0;
        let mut push = |groups: Range<u32>, hold| {
            if !groups.is_empty() {
                extents.push(Extent { groups, hold });
            }
        };
        for extent in &self.extents {
            push(at..extent.groups.start, Hold::FreeAfter(free_after));
            let hold = match extent.hold {
                Hold::Live => Hold::Live,
                Hold::FreeAfter(date) => Hold::FreeAfter(date.max(free_after)),
            };
            push(extent.groups.clone(), hold);
            at = extent.groups.end;
        }
        push(
            at..group_count(&self.reference),
            Hold::FreeAfter(free_after),
        );
        Self {
            reference: self.reference,
            class: self.class,
            extents: bound(extents),
        }
    }

    /// Returns the pack without what may be freed at `now`, and which groups that is.
    #[must_use]
    pub fn swept(&self, now: Timestamp) -> (Self, LiveMap) {
        let freed = self.map(|hold| hold.may_free(now));
        let extents = self.extents.iter();
        let kept = Self {
            reference: self.reference,
            class: self.class,
            extents: extents
                .filter(|extent| !extent.hold.may_free(now))
                .cloned()
                .collect(),
        };
        (kept, freed)
    }

    fn map(&self, is_in: impl Fn(Hold) -> bool) -> LiveMap {
        let extents = self.extents.iter().filter(|extent| is_in(extent.hold));
        collect(group_count(&self.reference), extents)
    }
}

/// Returns how many groups an object has, the most a pack can have if it claims more.
fn group_count(reference: &ObjectRef) -> u32 {
    u32::try_from(groups(reference.length))
        .map_or(PACK_GROUPS_MAX, |count| count.min(PACK_GROUPS_MAX))
}

/// Joins what touches and is held alike, and as long as there are more than [`HeldPack::EXTENTS_SOFT_MAX`] extents, also what touches and
/// waits for different dates, which become the later one: so a pack's rows stay few and nothing is ever freed early. Dates
/// in one hour are the first to become one, then in one day, in one week, and any.
///
/// Hours, days and weeks are counted from 1970, not from the dates themselves: a run that takes in the next date, then is near to the one
/// after, would go on to swallow all that come, each time putting off what it has.
///
/// What lives and what is freed lies between the rest and is never touched, so a pack may still have more.
fn bound(extents: Vec<Extent>) -> Vec<Extent> {
    const HOUR: Duration = Duration::from_hours(1);
    const ANY: Duration = Duration::from_millis(u64::MAX);
    let mut extents = join(extents, Duration::from_millis(1));
    for span in [HOUR, 24 * HOUR, 7 * 24 * HOUR, ANY] {
        if extents.len() <= HeldPack::EXTENTS_SOFT_MAX {
            break;
        }
        extents = join(extents, span);
    }
    extents
}

/// Joins what touches and is held alike, dates in the same `span` being taken for alike.
fn join(extents: Vec<Extent>, span: Duration) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        match joined.last_mut() {
            Some(last)
                if last.groups.end == extent.groups.start
                    && is_alike(last.hold, extent.hold, span) =>
            {
                last.groups.end = extent.groups.end;
                last.hold = later(last.hold, extent.hold);
            }
            _ => joined.push(extent),
        }
    }
    joined
}

fn is_alike(left: Hold, right: Hold, span: Duration) -> bool {
    let bucket = |date: Timestamp| u128::from(date.0) / span.as_millis();
    match (left, right) {
        // A date that never comes is no later date: what joined it would never be freed.
        (Hold::FreeAfter(a), Hold::FreeAfter(b)) if a != ENDLESS && b != ENDLESS => {
            bucket(a) == bucket(b)
        }
        _ => left == right,
    }
}

fn later(left: Hold, right: Hold) -> Hold {
    match (left, right) {
        (Hold::FreeAfter(a), Hold::FreeAfter(b)) => Hold::FreeAfter(a.max(b)),
        _ => Hold::Live,
    }
}

fn collect<'a>(groups: u32, extents: impl Iterator<Item = &'a Extent>) -> LiveMap {
    let mut map = LiveMap::empty(groups);
    for extent in extents {
        map.insert(extent.groups.clone())
            .expect("extents are not empty and lie within the pack");
    }
    map
}

#[cfg(test)]
mod tests;
