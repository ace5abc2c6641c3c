//! Which runs a policy keeps: a pure function of the runs, the policy and the time.
//!
//! The rules are restic's `--keep-*`: each rule walks the runs from the newest and keeps the newest run of each hour, day, week, month or
//! year until it has kept its number. Calendar units are those of UTC, weeks begin on Monday (ISO 8601).

use std::collections::BTreeSet;

use maimo_core::{
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
};

use crate::name::RecordId;

/// What is kept of a source's runs; the union of all rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The newest so many.
    pub last: u32,
    /// The newest run of each of so many hours that have one.
    pub hourly: u32,
    /// The same by days.
    pub daily: u32,
    /// The same by weeks.
    pub weekly: u32,
    /// The same by months.
    pub monthly: u32,
    /// The same by years.
    pub yearly: u32,
    /// All runs of the last so many milliseconds.
    pub within_ms: u64,
    /// Of each path the newest so many revisions, whatever runs hold them.
    pub revisions: u32,
}

impl Policy {
    /// In place of a number: for ever.
    pub const ALL: u32 = u32::MAX;

    /// Appends the eight numbers as varints.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for count in [
            self.last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ] {
            out.put_varint(count.into());
        }
        out.put_varint(self.within_ms);
        out.put_varint(self.revisions.into());
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        fn count(r: &mut Reader<'_>) -> Result<u32, ParseError> {
            let count = r.varint_max(u32::MAX.into(), "policy")?;
            Ok(u32::try_from(count).unwrap_or(u32::MAX))
        }
        Ok(Self {
            last: count(r)?,
            hourly: count(r)?,
            daily: count(r)?,
            weekly: count(r)?,
            monthly: count(r)?,
            yearly: count(r)?,
            within_ms: r.varint("policy")?,
            revisions: count(r)?,
        })
    }

    /// Returns which of one source's completed runs are kept at `now`; `runs` in any order.
    pub fn select(&self, runs: &[(RecordId, Timestamp)], now: Timestamp) -> BTreeSet<RecordId> {
        type Unit = fn(Timestamp) -> u64;
        let mut newest_first = runs.to_vec();
        newest_first.sort_by_key(|(id, time)| core::cmp::Reverse((*time, *id)));
        let mut kept: BTreeSet<RecordId> = newest_first
            .iter()
            .filter(|(_, time)| time.0.saturating_add(self.within_ms) > now.0 && self.within_ms > 0)
            .map(|(id, _)| *id)
            .collect();
        let last = usize::try_from(self.last).unwrap_or(usize::MAX);
        kept.extend(newest_first.iter().take(last).map(|(id, _)| *id));
        let rules: [(u32, Unit); 5] = [
            (self.hourly, |time| time.0 / HOUR_MS),
            (self.daily, |time| time.0 / DAY_MS),
            (self.weekly, |time| (time.0 / DAY_MS + 3) / 7),
            (self.monthly, month),
            (self.yearly, |time| month(time) / 12),
        ];
        for (mut left, unit) in rules {
            let mut previous = None;
            for (id, time) in &newest_first {
                if left == 0 {
                    break;
                }
                let unit = Some(unit(*time));
                if unit != previous {
                    previous = unit;
                    left -= 1;
                    kept.insert(*id);
                }
            }
        }
        kept
    }
}

impl Default for Policy {
    /// All for a day, hourly for 2 days, daily for 30, weekly for 26 weeks, monthly for ever.
    fn default() -> Self {
        Self {
            last: 0,
            hourly: 48,
            daily: 30,
            weekly: 26,
            monthly: Self::ALL,
            yearly: 0,
            within_ms: DAY_MS,
            revisions: 0,
        }
    }
}

const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Returns the number of the UTC month since year 0, by the era arithmetic of Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms".
fn month(time: Timestamp) -> u64 {
    // Days since 0000-03-01, so that the leap day is the last day of a year.
    let days = time.0 / DAY_MS + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + months_since_march + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::WriterId;

    fn id(counter: u64) -> RecordId {
        RecordId {
            writer: WriterId([1; 16]),
            counter,
        }
    }

    fn none() -> Policy {
        Policy {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within_ms: 0,
            revisions: 0,
        }
    }

    fn kept(policy: Policy, times: &[u64], now: u64) -> Vec<u64> {
        let runs: Vec<_> = (0..)
            .zip(times)
            .map(|(n, time)| (id(n), Timestamp(*time)))
            .collect();
        let kept = policy.select(&runs, Timestamp(now));
        kept.into_iter()
            .map(|id| times[usize::try_from(id.counter).unwrap()])
            .collect()
    }

    #[test]
    fn months_begin_where_the_calendar_says() {
        // Seconds as `date -u +%s -d ...` prints them.
        for (seconds, month_number) in [
            (0_u64, 1970 * 12),
            (951_782_399, 2000 * 12 + 1),    // 2000-02-28T23:59:59Z
            (951_868_799, 2000 * 12 + 1),    // 2000-02-29T23:59:59Z
            (951_868_800, 2000 * 12 + 2),    // 2000-03-01T00:00:00Z
            (1_798_761_599, 2026 * 12 + 11), // 2026-12-31T23:59:59Z
            (1_798_761_600, 2027 * 12),      // 2027-01-01T00:00:00Z
        ] {
            assert_eq!(month(Timestamp(seconds * 1000)), month_number, "{seconds}");
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        // 2026-11-22 is a Sunday, the 23rd a Monday.
        let monday = 1_795_392_000_000;
        let policy = Policy {
            weekly: 9,
            ..none()
        };
        assert_eq!(
            kept(policy, &[monday - 1, monday], monday),
            [monday - 1, monday]
        );
        assert_eq!(
            kept(policy, &[monday, monday + 6 * DAY_MS], monday),
            [monday + 6 * DAY_MS]
        );
    }

    #[test]
    fn of_each_day_the_newest_run_is_kept_until_the_number_is_reached() {
        let times = [0, 1, DAY_MS, DAY_MS + 5, 3 * DAY_MS, 3 * DAY_MS + 7];
        let policy = Policy { daily: 2, ..none() };
        assert_eq!(
            kept(policy, &times, 4 * DAY_MS),
            [DAY_MS + 5, 3 * DAY_MS + 7]
        );
    }

    #[test]
    fn within_and_last_join_the_rest() {
        let times = [0, 10, 20, 30];
        let policy = Policy {
            last: 1,
            within_ms: 15,
            ..none()
        };
        assert_eq!(kept(policy, &times, 30), [20, 30]);
        assert_eq!(kept(none(), &times, 30), [0_u64; 0]);
    }

    #[test]
    fn the_default_thins_a_minutely_year_to_the_runs_it_promises() {
        let minutes = 365 * 24 * 60;
        let times: Vec<u64> = (0..minutes).map(|minute| minute * 60_000).collect();
        let now = minutes * 60_000;
        let count = kept(Policy::default(), &times, now).len();
        // A day of minutes, and of the other rules what does not coincide with it.
        assert!(
            (1440 + 20..1440 + 48 + 30 + 26 + 12).contains(&count),
            "{count}"
        );
    }
}
