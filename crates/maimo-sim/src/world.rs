//! The world: providers, devices, a clock, and what the owner of the store would be entitled to.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{
    clock::Timestamp,
    custody::{Grace, Terms},
    id::ChannelId,
    identity::AuthSecretKey,
};
use maimo_vault::{
    compose::Watermark,
    journal::{record::Record, state::Presence},
    keys::MasterSecret,
    name::{RecordId, SourceId, WriterId},
    retention::Policy,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rand_core::Rng;

use crate::{
    device::{
        Device, Disk, Home,
        job::{Next, Plan},
        path, store, sync,
    },
    invariants,
    keys::{EPOCH, StoreKeys},
    provider::Provider,
};

/// Caps below this, in bytes, are there to be reached.
pub const TIGHT_CAP: u64 = 180 << 10;

/// What all devices share: the providers, the clock, chance, and the model's own knowledge of what is owed.
pub struct Shared {
    /// The store's keys.
    pub keys: Rc<StoreKeys>,
    /// The providers.
    pub providers: BTreeMap<ChannelId, Provider>,
    /// Channels that cannot be reached at the moment.
    pub offline: BTreeSet<ChannelId>,
    /// What the owner wants kept; nothing for the default.
    pub policy: Option<Policy>,
    /// The time.
    pub now: Timestamp,
    /// Chance.
    pub rng: ChaCha8Rng,
    /// What each revision must open to.
    pub contents: BTreeMap<RecordId, Rc<Vec<u8>>>,
    /// Revisions whose last chunk came with them: packs alone must give them back.
    pub repeated: BTreeSet<RecordId>,
    /// Revisions that a head was admitted with.
    pub admitted: BTreeSet<RecordId>,
    /// Revisions that a prune was admitted to drop.
    pub dropped: BTreeSet<RecordId>,
    /// Revisions that a repair could not save.
    pub lost: BTreeSet<RecordId>,
    /// How many heads were admitted.
    pub heads: u64,
    /// How many local files were unlinked.
    pub unlinked: u64,
    /// What became of chunks.
    pub fates: Fates,
}

/// How often chunks met which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fates {
    /// Runs of chunks that a prune wrote again.
    pub rewritten: u64,
    /// Chunks taken by dedup that a lost race found elsewhere.
    pub moved: u64,
    /// Chunks taken by dedup that a lost race found let go of, and named again.
    pub let_go: u64,
    /// Drafts that had to be made anew, because a chunk was gone.
    pub lost: u64,
}

/// Providers and devices.
pub struct World {
    /// What they share.
    pub shared: Shared,
    /// The devices.
    pub devices: Vec<Device>,
}

impl Shared {
    /// Returns the providers that can be reached.
    pub fn reachable(&self) -> sync::Reachable<'_> {
        let reachable = self.providers.iter();
        reachable
            .filter(|(channel, _)| !self.offline.contains(channel))
            .map(|(channel, provider)| (*channel, provider))
            .collect()
    }

    /// Returns whether a channel can be reached.
    pub fn is_reachable(&self, channel: ChannelId) -> bool {
        !self.offline.contains(&channel)
    }

    /// Returns a provider.
    pub fn provider(&mut self, channel: ChannelId) -> &mut Provider {
        self.providers
            .get_mut(&channel)
            .expect("a channel of the world")
    }

    /// Draws a writer id.
    pub fn draw_writer(&mut self) -> WriterId {
        let mut id = [0; 16];
        self.rng.fill_bytes(&mut id);
        WriterId(id)
    }

    /// Draws a number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    /// Returns true once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Notes a head that the first channel admitted: what it brought is owed from now on.
    pub fn acknowledged(&mut self, plan: &Plan, next: &Next, _: SourceId) {
        self.heads += 1;
        let state = &next.base.state;
        for (id, record) in &plan.draft.records {
            match record {
                Record::File { .. } => {
                    self.admitted.insert(*id);
                }
                Record::Dropped { ids } => self.dropped.extend(ids),
                _ => {}
            }
        }
        for ((_, path), entries) in state.paths() {
            let newest = maimo_vault::journal::state::newest(entries);
            if let Some((id, .., Presence::Present | Presence::Evicted)) = newest {
                assert!(
                    state.is_kept(id),
                    "the newest revision of {path:?}, which is there, was dropped"
                );
            }
        }
    }

    /// Notes that a file was unlinked: its eviction must be acknowledged, and its bytes there.
    pub fn unlinked(&mut self, source: SourceId, number: u8, content: &[u8]) {
        self.unlinked += 1;
        let everyone: sync::Reachable<'_> = self
            .providers
            .iter()
            .map(|(channel, provider)| (*channel, provider))
            .collect();
        let fresh = sync::read(&everyone, &self.keys, &BTreeMap::new(), None, None)
            .unwrap_or_else(|error| panic!("nobody can read the store: {error:?}"));
        let state = &fresh.cache.base.state;
        let newest = state.newest(source, &path(number));
        let Some((id, _, known, Presence::Evicted)) = newest else {
            panic!("a file was unlinked whose eviction nobody acknowledged");
        };
        assert!(store::same(known, content), "another revision was unlinked");
        for (channel, cache) in invariants::each_channel(self) {
            if cache.base.sequence == fresh.cache.base.sequence {
                invariants::opens(self, channel, &cache, id);
            }
        }
    }
}

impl World {
    /// Makes a world with so many providers and devices, each device with a few files; now and then with a cap that is reached.
    pub fn new(seed: u64, providers: u8, devices: u8) -> Self {
        let cap = if seed % 4 == 1 {
            TIGHT_CAP / 2
        } else {
            1 << 30
        };
        Self::with_cap(seed, providers, devices, cap)
    }

    /// As [`Self::new`], with room for all.
    pub fn roomy(seed: u64, providers: u8, devices: u8) -> Self {
        Self::with_cap(seed, providers, devices, 1 << 30)
    }

    fn with_cap(seed: u64, providers: u8, devices: u8, cap: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut entropy = [0; 32];
        rng.fill_bytes(&mut entropy);
        let secret = MasterSecret::from_entropy(&entropy);
        let auth: Vec<AuthSecretKey> = (0..providers)
            .map(|_| {
                let mut seed = [0; 32];
                rng.fill_bytes(&mut seed);
                AuthSecretKey::from_seed(&seed)
            })
            .collect();
        let public: Vec<_> = auth.iter().map(AuthSecretKey::public).collect();
        let begun_with = 1 + (rng.next_u32() as usize) % public.len();
        let keys = Rc::new(StoreKeys::new(&secret, &public, begun_with));
        let grace = match rng.next_u32() % 3 {
            0 => Grace::For(core::time::Duration::ZERO),
            1 => Grace::For(core::time::Duration::from_hours(24)),
            _ => Grace::DEFAULT,
        };
        let providers = auth
            .into_iter()
            .map(|auth| {
                let client = secret.channel_keys(EPOCH, &auth.public()).client.public();
                let provider = Provider::new(auth, client, Terms::new(cap, None, Some(grace)));
                (provider.channel(), provider)
            })
            .collect();
        // Most owners of the model keep little, so that much is let go of while others still refer to it.
        let last = rng.next_u32() % 4;
        let policy = (last > 0).then_some(Policy {
            last,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within_ms: 0,
            revisions: 0,
        });
        let mut shared = Shared {
            keys,
            policy,
            providers,
            offline: BTreeSet::new(),
            now: Timestamp(1_790_000_000_000),
            rng,
            contents: BTreeMap::new(),
            repeated: BTreeSet::new(),
            admitted: BTreeSet::new(),
            dropped: BTreeSet::new(),
            lost: BTreeSet::new(),
            heads: 0,
            unlinked: 0,
            fates: Fates::default(),
        };
        let devices = (0..devices)
            .map(|_| {
                let mut device = Device {
                    home: new_home(&mut shared),
                    disk: Disk::default(),
                };
                for _ in 0..3 {
                    device.edit(&mut shared);
                }
                device
            })
            .collect();
        Self { shared, devices }
    }
}

/// Makes the home of a new installation.
pub fn new_home(shared: &mut Shared) -> Home {
    let writer = shared.draw_writer();
    let source = SourceId(shared.draw_writer().0);
    Home {
        writer,
        source,
        next: Watermark::default(),
        committed: Watermark::default(),
        seen: BTreeMap::new(),
        cache: None,
        spool: BTreeMap::new(),
        not_held: BTreeSet::new(),
        job: None,
        intents: BTreeSet::new(),
    }
}

impl Device {
    /// Does what a user does to files: makes, changes, deletes. Contents share blocks, so that there is something to dedup.
    pub fn edit(&mut self, shared: &mut Shared) {
        let number = u8::try_from(shared.below(12)).expect("below twelve");
        if shared.one_in(4) {
            self.disk.files.remove(&number);
            return;
        }
        // A file is put back as it was once, on this device or the other: by then its chunks may be on their way out.
        if shared.one_in(3) && !shared.contents.is_empty() {
            let at = usize::try_from(shared.below(shared.contents.len() as u64)).expect("few");
            let old = shared.contents.values().nth(at).cloned();
            self.disk.files.extend(old.map(|old| (number, old)));
            return;
        }
        let blocks = match shared.below(6) {
            0..=2 => shared.below(2),
            3 | 4 => shared.below(5),
            _ => shared.below(24),
        };
        let mut content = Vec::new();
        for _ in 0..blocks {
            content.extend_from_slice(&block(shared.below(40)));
        }
        if shared.one_in(12) {
            content.extend_from_slice(&[0; 4096]);
        }
        let tail = block(shared.below(1000));
        let length = usize::try_from(shared.below(900)).expect("below nine hundred");
        content.extend_from_slice(&tail[..length]);
        self.disk.files.insert(number, Rc::new(content));
    }
}

/// Returns a block of bytes that does not compress.
fn block(number: u64) -> [u8; 4096] {
    let mut block = [0; 4096];
    ChaCha8Rng::seed_from_u64(number).fill_bytes(&mut block);
    block
}
