//! Random histories: whatever a seed makes of two devices, a few providers, a user, crashes and bad luck.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use maimo_vault::journal::state::Presence;
use rand_core::Rng;

use crate::{
    device::{
        Device, Disk, Home,
        job::{Job, Outcome, Purpose, Stage},
        path, store, sync,
    },
    faults, invariants,
    world::{Shared, TIGHT_CAP, World, new_home},
};

/// What a history went through, to see that the model reaches what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Histories.
    pub histories: u64,
    /// Steps of jobs.
    pub steps: u64,
    /// Heads admitted by a first channel.
    pub heads: u64,
    /// Crashes between two steps.
    pub crashes: u64,
    /// Homes restored from an image.
    pub images: u64,
    /// Devices lost and replaced.
    pub replaced: u64,
    /// Races of a store against a prune.
    pub duels: u64,
    /// Jobs that had to begin anew after a lost race or a refusal.
    pub races: u64,
    /// Local files unlinked.
    pub unlinked: u64,
    /// Refusals for want of room.
    pub full: u64,
    /// Runs of chunks that a prune wrote again.
    pub rewritten: u64,
    /// After lost races: chunks found elsewhere, chunks named again, drafts made anew.
    pub rebased: [u64; 3],
}

impl Tally {
    /// Adds another history's.
    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.heads += other.heads;
        self.crashes += other.crashes;
        self.images += other.images;
        self.replaced += other.replaced;
        self.duels += other.duels;
        self.races += other.races;
        self.unlinked += other.unlinked;
        self.full += other.full;
        self.rewritten += other.rewritten;
        for (own, other) in self.rebased.iter_mut().zip(other.rebased) {
            *own += other;
        }
    }
}

/// Plays the history of a seed. Panics where an invariant breaks.
pub fn play(seed: u64) -> Tally {
    let providers = u8::try_from(1 + seed % 3).expect("at most three");
    let mut world = World::new(seed, providers, 2);
    let mut tally = Tally {
        histories: 1,
        ..Tally::default()
    };
    let mut image: Option<(usize, Home)> = None;
    let rounds = 60 + world.shared.below(80);
    for _ in 0..rounds {
        let heads = world.shared.heads;
        let chosen = usize::try_from(world.shared.below(world.devices.len() as u64)).expect("few");
        let pause = if world.shared.one_in(20) {
            world.shared.below(20 * 24 * 3600)
        } else {
            world.shared.below(600)
        };
        world.shared.now.0 += pause * 1000;
        match world.shared.below(24) {
            0..=2 => world.devices[chosen].edit(&mut world.shared),
            3 => toggle_offline(&mut world),
            4 => {
                let now = world.shared.now;
                for provider in world.shared.providers.values_mut() {
                    provider.sweep(now);
                }
                invariants::check(&mut world.shared);
            }
            5 if image.is_none() => image = Some((chosen, world.devices[chosen].home.clone())),
            6 if world.shared.one_in(4) => {
                if let Some((of, home)) = image.take() {
                    world.devices[of].home = home;
                    tally.images += 1;
                }
            }
            7 if world.shared.one_in(8) => {
                // A laptop is lost: another takes its place, with nothing but the phrase.
                world.devices[chosen].home = new_home(&mut world.shared);
                world.devices[chosen].disk = Disk::default();
                image = image.filter(|(of, _)| *of != chosen);
                tally.replaced += 1;
            }
            8 if world.shared.one_in(2) => duel(&mut world, chosen, &mut tally),
            _ => work(&mut world, chosen, &mut tally),
        }
        if world.shared.heads != heads {
            invariants::check(&mut world.shared);
        }
    }
    settle(&mut world, &mut tally);
    tally.heads = world.shared.heads;
    tally.unlinked = world.shared.unlinked;
    let fates = world.shared.fates;
    tally.rewritten = fates.rewritten;
    tally.rebased = [fates.moved, fates.let_go, fates.lost];
    tally
}

/// Does a few steps of a device's job, or begins one; may crash.
fn work(world: &mut World, chosen: usize, tally: &mut Tally) {
    let World { shared, devices } = world;
    let device = &mut devices[chosen];
    if device.home.job.is_none() {
        let purpose = match shared.below(10) {
            0..=4 => Purpose::Store {
                delete_local: BTreeSet::new(),
            },
            5 => Purpose::Store {
                delete_local: device.disk.files.keys().copied().take(2).collect(),
            },
            6..=8 => Purpose::Prune,
            _ if shared.one_in(3) => Purpose::Mirror,
            _ => Purpose::Merge,
        };
        device.home.job = Some(Job::new(purpose));
    }
    // Most often a job runs through; now and then it is left standing, and the other device comes between.
    let steps = if shared.one_in(3) {
        shared.below(6)
    } else {
        40
    };
    for _ in 0..steps {
        if device.home.job.is_none() {
            break;
        }
        let before = device.home.clone();
        let outcome = device.step(shared);
        tally.steps += 1;
        tally.full += u64::from(outcome == Outcome::Full);
        if let Some(job) = &device.home.job {
            let began = before.job.as_ref().map_or(0, |job| job.attempts);
            tally.races += u64::from(job.attempts > 1 && job.attempts > began);
        }
        if shared.one_in(25) {
            // What others could see has happened; what was to be written down has not.
            device.home = before;
            tally.crashes += 1;
        }
        match outcome {
            Outcome::Going | Outcome::Done => {}
            Outcome::Waiting | Outcome::Full => break,
            Outcome::Astray(channel) => panic!("{channel} looks forked and is not"),
            Outcome::Damaged(channel) => panic!("{channel} looks damaged and is not"),
        }
    }
}

/// One device refers to what the other is about to let go of: the race that the rule of rebasing is there for.
fn duel(world: &mut World, chosen: usize, tally: &mut Tally) {
    let World { shared, devices } = world;
    let [one, other] = devices.as_mut_slice() else {
        return;
    };
    let (pruning, storing) = if chosen == 0 {
        (one, other)
    } else {
        (other, one)
    };
    let quiet = pruning.home.job.is_none() && storing.home.job.is_none();
    if !quiet || !shared.offline.is_empty() {
        return;
    }
    // A content that only old revisions will have.
    let content = unique(shared);
    pruning.disk.files.insert(1, Rc::clone(&content));
    for _ in 0..5 {
        pruning.home.job = Some(Job::new(store_all()));
        if !run(pruning, shared, tally) {
            return;
        }
        invariants::check(shared);
        shared.now.0 += 3 * 3600 * 1000;
        pruning.disk.files.insert(1, unique(shared));
    }
    storing.disk.files.insert(2, content);
    storing.home.job = Some(Job::new(store_all()));
    let ready = [Stage::Upload, Stage::Compose, Stage::Send];
    let wait_at = ready[usize::try_from(shared.below(3)).expect("three")];
    while storing
        .home
        .job
        .as_ref()
        .is_some_and(|job| job.stage != wait_at)
    {
        if storing.step(shared) != Outcome::Going {
            storing.end_job();
            return;
        }
    }
    let merges = shared.below(3);
    for purpose in core::iter::once(Purpose::Prune)
        .chain((0..merges).map(|_| Purpose::Merge))
        .chain(shared.one_in(2).then(store_all))
    {
        pruning.home.job = Some(Job::new(purpose));
        if !run(pruning, shared, tally) {
            return;
        }
        invariants::check(shared);
    }
    if shared.one_in(3) {
        shared.now.0 += 40 * 24 * 3600 * 1000;
        let now = shared.now;
        for provider in shared.providers.values_mut() {
            provider.sweep(now);
        }
    }
    if run(storing, shared, tally) {
        invariants::check(shared);
    }
    tally.duels += 1;
}

fn store_all() -> Purpose {
    Purpose::Store {
        delete_local: BTreeSet::new(),
    }
}

/// Returns a content that nothing else has: small enough for the tail, or not.
fn unique(shared: &mut Shared) -> Rc<Vec<u8>> {
    let length = if shared.one_in(3) {
        700
    } else {
        3 * 4096 + 700
    };
    let mut content = vec![0; length];
    shared.rng.fill_bytes(&mut content);
    Rc::new(content)
}

fn toggle_offline(world: &mut World) {
    let channels: Vec<_> = world.shared.providers.keys().copied().collect();
    let at = usize::try_from(world.shared.below(channels.len() as u64)).expect("few");
    if !world.shared.offline.remove(&channels[at]) {
        world.shared.offline.insert(channels[at]);
    }
}

/// Brings everything online, lets both devices finish and store what they have, then looks at the store as a new device would.
fn settle(world: &mut World, tally: &mut Tally) {
    world.shared.offline.clear();
    // The prune in between moves what a mirror that was opened late cannot be given as it was.
    for (chosen, purpose) in [
        (0, store_all()),
        (1, store_all()),
        (0, Purpose::Prune),
        (0, store_all()),
        (1, store_all()),
    ] {
        let World { shared, devices } = world;
        let device = &mut devices[chosen];
        run(device, shared, tally);
        device.home.job = Some(Job::new(purpose));
        if !run(device, shared, tally) {
            // No room: nothing more can be asked of this history than that nothing was lost.
            invariants::check(shared);
            return;
        }
    }
    let shared = &mut world.shared;
    invariants::check(shared);
    let everyone = shared.reachable();
    let fresh = sync::sync(&everyone, &shared.keys, &BTreeMap::new(), None);
    let fresh = fresh.expect("all channels are there").cache;
    for device in &world.devices {
        for (number, content) in &device.disk.files {
            let newest = fresh.base.state.newest(device.home.source, &path(*number));
            let Some((_, _, known, Presence::Present)) = newest else {
                panic!("a stored file is not in the store");
            };
            assert!(
                store::same(known, content),
                "an older revision is the newest"
            );
        }
    }
    let channels = sync::layout_channels(&fresh, &shared.keys);
    for channel in &channels[1..] {
        let shows = fresh.shown.get(channel).copied().unwrap_or(0);
        // A mirror may have less room left than the first: it stays behind then, as a full one does.
        let is_tight = shared.providers[channel].terms().cap < TIGHT_CAP;
        assert!(
            is_tight || shows + 1 >= fresh.base.sequence,
            "a channel that can be reached does not catch up"
        );
    }
}

/// Runs a device's job to its end; false where there is no room.
pub(crate) fn run(device: &mut Device, shared: &mut Shared, tally: &mut Tally) -> bool {
    for _ in 0..400 {
        if device.home.job.is_none() {
            return true;
        }
        let outcome = device.step(shared);
        tally.steps += 1;
        match outcome {
            Outcome::Full => {
                tally.full += 1;
                return false;
            }
            Outcome::Going | Outcome::Done => {}
            other => panic!("with everything online a job came to {other:?}"),
        }
    }
    panic!(
        "a job does not end: {:?}",
        device.home.job.as_ref().map(|job| job.stage)
    );
}

/// A history in which an invariant broke.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its seed: [`play`] plays it again.
    pub seed: u64,
    /// What broke.
    pub what: String,
}

/// Plays the honest histories of some seeds; stops at the first that breaks.
pub fn play_all(seeds: impl IntoIterator<Item = u64>) -> Result<Tally, Broken> {
    let mut tally = Tally::default();
    each(seeds, |seed| tally.add(play(seed)))?;
    Ok(tally)
}

/// Plays the faulty histories of some seeds; stops at the first that breaks.
pub fn play_all_faulty(seeds: impl IntoIterator<Item = u64>) -> Result<faults::Seen, Broken> {
    let mut seen = faults::Seen::default();
    each(seeds, |seed| seen.add(faults::play(seed)))?;
    Ok(seen)
}

fn each(seeds: impl IntoIterator<Item = u64>, mut play: impl FnMut(u64)) -> Result<(), Broken> {
    for seed in seeds {
        let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
        played.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Broken {
                seed,
                what: what.unwrap_or_default(),
            }
        })?;
    }
    Ok(())
}
