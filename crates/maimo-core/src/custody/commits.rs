//! Which commits are kept: all of the last hour, then the newest of each hour for a day, then the newest of each day.
//!
//! Hours and days are those of the calendar (UTC), not counted back from now, so that thinning twice drops nothing more and the
//! order of thinning and adding does not matter. Days go on until the head's grace ends and head and commit go together.

use std::collections::HashMap;

use core::time::Duration;

use crate::clock::Timestamp;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Returns the sequence numbers of the commits to drop, ascending, given each commit that is kept: its head's sequence number and
/// when that was admitted. The newest is always kept: it is the newest of its day.
pub fn to_drop(commits: &[(u64, Timestamp)], now: Timestamp) -> Vec<u64> {
    let last_of_hours = last_of_each(commits, HOUR);
    let last_of_days = last_of_each(commits, DAY);
    let is_kept = |(sequence, time): &(u64, Timestamp)| {
        let age = now.since(*time);
        let is_last =
            |of: &HashMap<u128, u64>, span| of.get(&bucket(*time, span)) == Some(sequence);
        age <= HOUR || (age <= DAY && is_last(&last_of_hours, HOUR)) || is_last(&last_of_days, DAY)
    };
    let dropped = commits.iter().filter(|commit| !is_kept(commit));
    let mut dropped: Vec<u64> = dropped.map(|(sequence, _)| *sequence).collect();
    dropped.sort_unstable();
    dropped
}

/// Returns the highest sequence number of each span of time.
fn last_of_each(commits: &[(u64, Timestamp)], span: Duration) -> HashMap<u128, u64> {
    let mut last: HashMap<u128, u64> = HashMap::new();
    for (sequence, time) in commits {
        let highest = last.entry(bucket(*time, span)).or_default();
        *highest = (*highest).max(*sequence);
    }
    last
}

fn bucket(time: Timestamp, span: Duration) -> u128 {
    u128::from(time.0) / span.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    fn kept(commits: &[(u64, Timestamp)], now: Timestamp) -> Vec<(u64, Timestamp)> {
        let dropped = to_drop(commits, now);
        let is_kept = |commit: &&(u64, Timestamp)| !dropped.contains(&commit.0);
        commits.iter().filter(is_kept).copied().collect()
    }

    #[test]
    fn a_minutely_client_keeps_an_hour_of_minutes_a_day_of_hours_and_then_days() {
        let minutes = 3 * 24 * 60;
        let all: Vec<_> = (0..=minutes)
            .map(|at| (at + 1, Timestamp(at * MINUTE)))
            .collect();
        let kept = kept(&all, Timestamp(minutes * MINUTE));
        let ages: Vec<u64> = kept
            .iter()
            .map(|(_, time)| minutes - time.0 / MINUTE)
            .collect();
        // Two whole days before the last 24 hours, of which each keeps its last minute; 23 hours; 61 minutes and the hour's edge.
        assert_eq!(&ages[..3], [2 * 1440 + 1, 1440 + 1, 23 * 60 + 1]);
        assert_eq!(ages.iter().filter(|age| **age > 60).count(), 2 + 23);
        assert_eq!(ages.iter().filter(|age| **age <= 60).count(), 61);
    }

    #[test]
    fn the_newest_commit_is_kept_however_old() {
        assert!(to_drop(&[(3, Timestamp(0))], Timestamp(u64::MAX)).is_empty());
        let two = [(3, Timestamp(0)), (4, Timestamp(1))];
        assert_eq!(to_drop(&two, Timestamp(2 * 3_600_000)), [3]);
        assert!(to_drop(&[], Timestamp(0)).is_empty());
    }

    proptest! {
        #[test]
        fn thinning_often_or_once_leaves_the_same(steps in prop::collection::vec(1_u64..7 * 60 * MINUTE, 1..60)) {
            let (mut time, mut all, mut often) = (Timestamp(0), Vec::new(), Vec::new());
            for (sequence, step) in (1..).zip(steps) {
                time = Timestamp(time.0 + step);
                all.push((sequence, time));
                often.push((sequence, time));
                often = kept(&often, time);
            }
            prop_assert_eq!(often, kept(&all, time));
        }
    }
}
