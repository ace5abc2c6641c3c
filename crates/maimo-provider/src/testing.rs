//! A client as small as one can be, for tests: it seals nothing and knows its own inventories.

use core::iter::once;
use std::sync::Arc;

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    address::Network,
    ancestry::Ancestry,
    clock::Timestamp,
    codec::{Extensions, ObjectType, Prelude},
    custody::PackClass,
    head::Head,
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    identity::ClientSecretKey,
    inventory::{Change, Entry, Inventory},
    live_map::LiveMap,
    receipt::Receipt,
    reference::ObjectRef,
    units::groups,
};
use maimo_net::{
    connect::Provider as _,
    service::{PUT_BYTES, Put, ServiceError, Session},
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::provider::Provider;

/// Returns bytes that look like a sealed pack: a header, then noise.
pub(crate) fn pack(seed: u64, class: PackClass, length: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    let mut header = Vec::new();
    let object_type = match class {
        PackClass::Data => ObjectType::DataPack,
        PackClass::Vital => ObjectType::VitalPack,
    };
    Prelude { epoch: 0 }.encode(object_type, &mut header);
    bytes[..header.len()].copy_from_slice(&header);
    bytes.into()
}

/// A client of one channel.
pub(crate) struct TestClient {
    pub(crate) key: ClientSecretKey,
    pub(crate) network: Network,
    pub(crate) session: Arc<dyn Session>,
    pub(crate) channel: ChannelId,
    pub(crate) data: Inventory,
    pub(crate) vital: Inventory,
    pub(crate) sequence: u64,
    pub(crate) root: RootHash,
    pub(crate) ancestry: Ancestry,
    /// All roots, oldest first.
    pub(crate) roots: Vec<RootHash>,
}

impl TestClient {
    pub(crate) fn new(provider: &Provider, seed: u8) -> Self {
        Self::on(provider, Network::Onion, seed)
    }

    /// A client of the provider's face on a network.
    pub(crate) fn on(provider: &Provider, network: Network, seed: u8) -> Self {
        let key = ClientSecretKey::from_seed(&[seed; 32]);
        let face = provider.face(network);
        Self {
            session: face.session(key.public()).unwrap(),
            channel: ChannelId::derive(face.auth().as_bytes(), key.public().as_bytes()),
            network,
            key,
            data: Inventory::new(),
            vital: Inventory::new(),
            sequence: 0,
            root: RootHash::NONE,
            ancestry: Ancestry::empty(),
            roots: Vec::new(),
        }
    }

    /// Makes the next head without sending it: what this client did before, in another life.
    pub(crate) fn pretend_move(&mut self) {
        let (_, root, ancestry) = self.request();
        self.sequence += 1;
        self.root = root;
        self.ancestry = ancestry;
        self.roots.push(root);
    }

    /// Speaks with the provider after it was opened again.
    pub(crate) fn reconnect(&mut self, provider: &Provider) {
        let face = provider.face(self.network);
        self.session = face.session(self.key.public()).unwrap();
    }

    pub(crate) fn put_range(
        &self,
        bytes: &Bytes,
        class: PackClass,
        offset: u64,
    ) -> Result<Vec<u64>, ServiceError> {
        let end = (offset + PUT_BYTES).min(bytes.len() as u64);
        let range = usize::try_from(offset).unwrap()..usize::try_from(end).unwrap();
        let put = Put {
            pack: ObjectRef::of(bytes),
            class,
            offset,
            bytes: bytes.slice(range),
        };
        block_on(self.session.put(put)).map(|reply| reply.missing)
    }

    /// Sends a whole pack.
    pub(crate) fn upload(
        &self,
        bytes: &Bytes,
        class: PackClass,
    ) -> Result<ObjectRef, ServiceError> {
        let mut offset = 0;
        loop {
            let missing = self.put_range(bytes, class, offset)?;
            match missing.first() {
                None => return Ok(ObjectRef::of(bytes)),
                Some(first) => offset = *first,
            }
        }
    }

    /// Names groups of a pack in the next head; none takes it out.
    pub(crate) fn name(&mut self, pack: ObjectRef, class: PackClass, live: LiveMap) {
        let inventory = match class {
            PackClass::Data => &mut self.data,
            PackClass::Vital => &mut self.vital,
        };
        let change = if live.is_empty() {
            if inventory.entry(&pack.root).is_none() {
                return;
            }
            Change::Remove(pack.root)
        } else {
            Change::Set(Entry::new(pack, live).unwrap())
        };
        inventory.apply(once(change)).unwrap();
    }

    pub(crate) fn name_all(&mut self, pack: ObjectRef, class: PackClass) {
        let count = u32::try_from(groups(pack.length)).unwrap();
        self.name(pack, class, LiveMap::full(count));
    }

    pub(crate) fn commit(sequence: u64) -> Vec<u8> {
        vec![u8::try_from(sequence % 256).unwrap(); 900]
    }

    /// Returns the request for the next head.
    pub(crate) fn request(&self) -> (HeadMove, RootHash, Ancestry) {
        let sequence = self.sequence + 1;
        let mut ancestry = self.ancestry.clone();
        if sequence > 1 {
            ancestry.append(self.root);
        }
        let commit = Self::commit(sequence);
        let head = Head {
            channel: self.channel,
            sequence,
            previous: self.root,
            ancestry: ancestry.hash(),
            data: self.data.reference(),
            vital: self.vital.reference(),
            commit: ObjectRef::of(&commit),
            time: Timestamp(sequence),
            signer: self.key.public(),
            extensions: Extensions::default(),
        };
        let signed = head.sign(&self.key).unwrap();
        let root = signed.root();
        let nodes = self.data.nodes().chain(self.vital.nodes());
        let request = HeadMove {
            head: signed.encode(),
            commit,
            nodes: nodes.map(|(_, bytes)| bytes.to_vec()).collect(),
            extensions: Extensions::default(),
        };
        (request, root, ancestry)
    }

    /// Moves the head to what is named, and checks the receipt.
    pub(crate) fn move_head(&mut self, provider: &Provider) -> Result<Bytes, ServiceError> {
        let (request, root, ancestry) = self.request();
        let bytes = block_on(self.session.move_head(request.encode().into()))?;
        let receipt = Receipt::verify(&bytes, &provider.face(self.network).auth()).unwrap();
        receipt
            .check(self.channel, self.sequence + 1, root)
            .unwrap();
        self.sequence += 1;
        self.root = root;
        self.ancestry = ancestry;
        self.roots.push(root);
        Ok(bytes)
    }
}
