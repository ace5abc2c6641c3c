//! Histories in which a provider does what it must not: it loses bytes, is restored from an old image, or shows two devices two stores.
//! What matters then is that it is seen, and that repair brings back what is still to be had.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{id::ChannelId, reference::ObjectRef};

use crate::{
    device::{
        Cache, Device,
        job::{Job, Outcome, Purpose},
        sync,
    },
    history::{self, Tally},
    invariants,
    world::{Shared, World},
};

/// What went wrong, and how often it was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Histories.
    pub histories: u64,
    /// Stores with damaged or missing bytes that an audit found.
    pub damaged: u64,
    /// Devices that saw a rollback or a fork.
    pub astray: u64,
    /// Repairs after which the store was whole again.
    pub repaired: u64,
    /// Revisions that a repair had to name as lost.
    pub lost: u64,
}

impl Seen {
    /// Adds another history's.
    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.damaged += other.damaged;
        self.astray += other.astray;
        self.repaired += other.repaired;
        self.lost += other.lost;
    }
}

/// Plays the faulty history of a seed. Panics where something is not seen, or not repaired.
pub fn play(seed: u64) -> Seen {
    let mut seen = Seen {
        histories: 1,
        ..Seen::default()
    };
    let providers = u8::try_from(1 + seed % 2).expect("at most two");
    let mut world = World::roomy(seed, providers, 2);
    live(&mut world, 12);
    match seed % 3 {
        0 => damage(&mut world, &mut seen),
        1 => roll_back(&mut world, &mut seen),
        _ => fork(&mut world, &mut seen),
    }
    seen
}

/// Lets both devices edit, store, prune and merge for a while; every job runs to its end.
fn live(world: &mut World, rounds: u32) {
    for _ in 0..rounds {
        let chosen = usize::try_from(world.shared.below(2)).expect("two devices");
        world.devices[chosen].edit(&mut world.shared);
        world.shared.now.0 += world.shared.below(7200) * 1000;
        let purpose = match world.shared.below(6) {
            0 => Purpose::Prune,
            1 => Purpose::Merge,
            _ => store(),
        };
        run(&mut world.devices[chosen], &mut world.shared, purpose);
    }
    for chosen in 0..2 {
        run(&mut world.devices[chosen], &mut world.shared, store());
    }
}

fn store() -> Purpose {
    Purpose::Store {
        delete_local: BTreeSet::new(),
    }
}

fn run(device: &mut Device, shared: &mut Shared, purpose: Purpose) {
    device.home.job = Some(Job::new(purpose));
    let ended = history::run(device, shared, &mut Tally::default());
    assert!(ended, "there is room");
}

/// A disk loses a byte, or a whole pack: the audit of that channel fails, the others' pass.
fn damage(world: &mut World, seen: &mut Seen) {
    let shared = &mut world.shared;
    let channels = invariants::each_channel(shared);
    let at = usize::try_from(shared.below(channels.len() as u64)).expect("few");
    let (channel, cache) = &channels[at];
    let view = &cache.views[channel];
    let vital = shared.one_in(2);
    let entries: Vec<(ObjectRef, u64)> = if vital { &view.vital } else { &view.data }
        .entries()
        .map(|entry| {
            let blocks = entry.sums().live_blocks;
            (*entry.pack(), blocks)
        })
        .collect();
    let Some(chosen) = entries.len().checked_sub(1) else {
        return;
    };
    let (pack, blocks) = entries[usize::try_from(shared.below(chosen as u64 + 1)).expect("few")];
    let inventory = if vital { &view.vital } else { &view.data };
    let live = inventory
        .entry(&pack.root)
        .expect("just listed")
        .live()
        .clone();
    let block = live
        .nth_live_block(pack.length, shared.below(blocks))
        .expect("one of them");
    let lose_all = shared.one_in(3);
    let provider = shared.provider(*channel);
    if lose_all {
        provider.lose(&pack);
    } else {
        provider.damage(
            &pack,
            usize::try_from(block * 4096 + 7).expect("a small pack"),
        );
    }
    for (audited, failed) in invariants::audit_all(shared) {
        assert_eq!(
            failed,
            audited == *channel,
            "an audit saw what is not, or did not see what is"
        );
    }
    seen.damaged += 1;
}

/// A provider is restored from an old image: whoever saw more notices, and puts back what is to be had.
fn roll_back(world: &mut World, seen: &mut Seen) {
    let channel = any_channel(world);
    let image = world.shared.providers[&channel].image();
    let (_, before) = world.shared.providers[&channel].newest();
    live(world, 4);
    let layout = |device: &Device| device.home.cache.as_ref().and_then(|cache| cache.layout());
    let mirrored = layout(&world.devices[0]).is_some_and(|layout| layout.channels.len() > 1);
    world.shared.provider(channel).restore(image);
    expect_astray(world, channel, before, seen);
    repair(world, channel, mirrored, seen);
}

/// A provider shows one store to one device and another to the other.
fn fork(world: &mut World, seen: &mut Seen) {
    let channel = any_channel(world);
    let image = world.shared.providers[&channel].image();
    let (_, before) = world.shared.providers[&channel].newest();
    // The other device goes on on the branch that the first does not see.
    let admitted = world.shared.admitted.clone();
    let others: Vec<_> = world
        .shared
        .providers
        .keys()
        .copied()
        .filter(|other| *other != channel)
        .collect();
    let images: Vec<_> = others
        .iter()
        .map(|other| (*other, world.shared.providers[other].image()))
        .collect();
    let home = world.devices[0].home.clone();
    for _ in 0..2 {
        world.devices[0].edit(&mut world.shared);
        run(&mut world.devices[0], &mut world.shared, store());
    }
    let ahead = world.shared.providers[&channel].image();
    let ahead_home = core::mem::replace(&mut world.devices[0].home, home);
    let shown_to_first = core::mem::replace(&mut world.shared.admitted, admitted);
    world.shared.provider(channel).restore(image);
    for (other, image) in images {
        world.shared.provider(other).restore(image);
    }
    for _ in 0..3 {
        world.devices[1].edit(&mut world.shared);
        run(&mut world.devices[1], &mut world.shared, store());
    }
    world.devices[0].home = ahead_home;
    let _ = (ahead, shown_to_first);
    expect_astray(world, channel, before, seen);
}

fn any_channel(world: &mut World) -> ChannelId {
    let channels: Vec<_> = world.shared.providers.keys().copied().collect();
    channels[usize::try_from(world.shared.below(channels.len() as u64)).expect("few")]
}

/// Every device that saw more of the channel than it shows, or something else, must say so and go no further.
fn expect_astray(world: &mut World, channel: ChannelId, before: u64, seen: &mut Seen) {
    let (root, shown) = world.shared.providers[&channel].newest();
    for device in &mut world.devices {
        let Some(last) = device.home.seen.get(&channel) else {
            continue;
        };
        let follows = last.sequence <= before || (last.sequence == shown && last.root == root);
        device.home.job = Some(Job::new(store()));
        let outcome = device.step(&mut world.shared);
        let is_astray = matches!(outcome, Outcome::Astray(_));
        assert_eq!(
            is_astray, !follows,
            "what was seen and what is shown were held against each other wrongly"
        );
        seen.astray += u64::from(is_astray);
        device.end_job();
    }
}

/// The device that knows most adopts the head shown and puts back what it knew.
fn repair(world: &mut World, channel: ChannelId, mirrored: bool, seen: &mut Seen) {
    let World { shared, devices } = world;
    let known = |device: &Device| {
        device
            .home
            .cache
            .as_ref()
            .map_or(0, |cache| cache.base.sequence)
    };
    devices.sort_by_key(|device| core::cmp::Reverse(known(device)));
    let before: Rc<Cache> = Rc::clone(devices[0].home.cache.as_ref().expect("it stored"));
    for device in devices.iter_mut() {
        device.home.seen.remove(&channel);
    }
    // Rolled back with the provider: what the repairing device never knew. Nobody can put that back.
    let knows = |cache: &Cache, id| cache.base.state.knows(id);
    let everyone = shared.reachable();
    let shown = sync::read(&everyone, &shared.keys, &BTreeMap::new(), None, None)
        .expect("readable")
        .cache;
    shared
        .admitted
        .retain(|id| knows(&before, *id) || knows(&shown, *id));
    devices[0].home.job = Some(Job::new(Purpose::Repair {
        known: Rc::clone(&before),
    }));
    // The record of its own counters is part of what was rolled back: until the repair is committed it knows of no twin.
    let ended = history::run(&mut devices[0], shared, &mut Tally::default());
    assert!(ended, "there is room");
    assert!(
        !mirrored || shared.lost.is_empty(),
        "a mirror had what is called lost"
    );
    seen.lost += shared.lost.len() as u64;
    let lost = core::mem::take(&mut shared.lost);
    shared.admitted.retain(|id| !lost.contains(id));
    for device in devices.iter_mut() {
        run(device, shared, store());
    }
    for device in devices.iter_mut() {
        run(device, shared, store());
    }
    invariants::check(shared);
    seen.repaired += 1;
}
