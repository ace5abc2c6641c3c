//! A provider in memory: rows and bytes. All decisions are `maimo_core::custody`'s; this applies them as one transaction each.

use std::{collections::BTreeMap, rc::Rc};

use maimo_core::{
    ancestry::{Ancestry, AncestryLog, AncestryProof},
    audit::{self, AuditSource, AuditedHead, Challenge},
    clock::Timestamp,
    custody::{
        Begun, ChannelState, Freeing, HeadRow, HeldPack, Hold, NodeRow, PackClass, Refusal, Terms,
        Totals, Unavailable, UploadRefusal, Verdict, View, admit, begin_upload, finish_upload,
        log_charge, put_node, sweep_head, sweep_node, sweep_pack, thin_commits,
    },
    head::SignedHead,
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, Signature},
    live_map::LiveMap,
    receipt::{LedgerInstance, Receipt},
    reference::ObjectRef,
    units::GROUP_BYTES,
    verify::{Outboard, Selection, encode_slice_as_is},
};

/// What a provider keeps on disk: cloning it takes an image.
#[derive(Clone)]
pub struct Disk {
    state: ChannelState,
    terms: Terms,
    packs: BTreeMap<ObjectRef, (HeldPack, PackFile)>,
    nodes: BTreeMap<ObjectRef, (NodeRow, Vec<u8>)>,
    heads: BTreeMap<u64, StoredHead>,
    roots: AncestryLog,
}

/// A pack as a provider keeps it: its bytes, holes and all, and the outboard made when it came in.
#[derive(Clone)]
struct PackFile {
    bytes: Vec<u8>,
    outboard: Rc<Outboard>,
}

#[derive(Clone)]
struct StoredHead {
    row: HeadRow,
    signed: Vec<u8>,
    commit: Option<Vec<u8>>,
}

/// [`GROUP_BYTES`] as an index.
const GROUP: usize = 16 * 1024;
const _: () = assert!(GROUP as u64 == GROUP_BYTES);

/// A provider with one channel.
pub struct Provider {
    key: AuthSecretKey,
    disk: Disk,
}

/// What a provider shows of its channel's newest state.
pub struct ShownHead {
    /// The signed head.
    pub head: Vec<u8>,
    /// The roots before it.
    pub ancestry: Ancestry,
    /// Its commit.
    pub commit: Vec<u8>,
}

impl Provider {
    /// Makes a provider for the client whose key of the channel is `client`.
    pub fn new(key: AuthSecretKey, client: ClientPublicKey, terms: Terms) -> Self {
        let channel = ChannelId::derive(key.public().as_bytes(), client.as_bytes());
        let disk = Disk {
            state: ChannelState::new(channel, client),
            terms,
            packs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            heads: BTreeMap::new(),
            roots: AncestryLog::default(),
        };
        Self { key, disk }
    }

    /// Returns the key it signs receipts with.
    pub fn auth(&self) -> AuthPublicKey {
        self.key.public()
    }

    /// Returns the channel.
    pub fn channel(&self) -> ChannelId {
        self.disk.state.channel
    }

    /// Returns an image of its disk.
    pub fn image(&self) -> Disk {
        self.disk.clone()
    }

    /// Puts an image in the place of its disk.
    pub fn restore(&mut self, image: Disk) {
        self.disk = image;
    }

    /// Returns its newest root and sequence number.
    pub fn newest(&self) -> (RootHash, u64) {
        (self.disk.state.root(), self.disk.state.sequence())
    }

    /// Takes a whole pack.
    pub fn upload(
        &mut self,
        bytes: &[u8],
        class: PackClass,
        now: Timestamp,
    ) -> Result<(), UploadRefusal> {
        let disk = &mut self.disk;
        let reference = ObjectRef::of(bytes);
        let totals = disk.state.totals;
        match begin_upload(totals, &disk.terms, reference, class, &*disk, now)? {
            Begun::Held(row) => {
                if let Some((held, _)) = disk.packs.get_mut(&reference) {
                    *held = row;
                }
            }
            Begun::Started { upload, totals } => {
                let held = disk.packs.get(&reference).map(|(held, _)| held);
                let (row, totals) = finish_upload(totals, &disk.terms, &upload, held, now);
                let file = PackFile {
                    bytes: bytes.to_vec(),
                    outboard: Rc::new(Outboard::of(bytes)),
                };
                disk.packs.insert(reference, (row, file));
                disk.state.totals = totals;
            }
        }
        Ok(())
    }

    /// Takes a node ahead of the move that needs it.
    pub fn put_node(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), UploadRefusal> {
        let disk = &mut self.disk;
        let (row, totals) = put_node(disk.state.totals, &disk.terms, bytes, &*disk, now)?;
        disk.nodes.insert(row.reference, (row, bytes.to_vec()));
        disk.state.totals = totals;
        Ok(())
    }

    /// Moves the head, and answers with the receipt as bytes.
    pub fn move_head(&mut self, request: &[u8], now: Timestamp) -> Result<Vec<u8>, Refusal> {
        let disk = &mut self.disk;
        let request = HeadMove::parse(request).expect("the model's clients speak the format");
        let row = match admit(&disk.state, &disk.terms, &request, &*disk, now)? {
            Verdict::AlreadyHere(row) => row,
            Verdict::Admitted(admission) => {
                let row = admission
                    .state
                    .standing
                    .as_ref()
                    .expect("an admission has a standing head")
                    .row
                    .clone();
                if let Some(replaced) = admission.replaced {
                    disk.roots.append(replaced.root);
                    if let Some(old) = disk.heads.get_mut(&replaced.sequence) {
                        old.row = replaced;
                    }
                }
                for pack in admission.packs {
                    if let Some((held, _)) = disk.packs.get_mut(pack.reference()) {
                        *held = pack;
                    }
                }
                let mut new: BTreeMap<_, _> = admission.new_nodes.into_iter().collect();
                for row in admission.nodes {
                    let reference = row.reference;
                    let bytes = new
                        .remove(&reference)
                        .or_else(|| disk.nodes.get(&reference).map(|(_, bytes)| bytes.clone()))
                        .expect("a row's node was sent or held");
                    disk.nodes.insert(reference, (row, bytes));
                }
                let stored = StoredHead {
                    row: row.clone(),
                    signed: request.head,
                    commit: Some(request.commit),
                };
                disk.heads.insert(row.sequence, stored);
                disk.state = admission.state;
                row
            }
        };
        let said = row.acknowledged(disk.state.channel, LedgerInstance([1; 16]));
        Ok(Receipt::sign(said, &self.key).encode())
    }

    /// Shows the newest state; nothing before the first.
    pub fn show(&self) -> Option<ShownHead> {
        let stored = self.disk.heads.get(&self.disk.state.sequence())?;
        Some(ShownHead {
            head: stored.signed.clone(),
            ancestry: self.disk.state.ancestry.clone(),
            commit: stored.commit.clone()?,
        })
    }

    /// Proves that the head of `sequence` is among those before the newest.
    pub fn prove(&self, sequence: u64) -> Option<AncestryProof> {
        let newest = self.disk.state.sequence();
        self.disk.roots.prove(sequence, newest.checked_sub(1)?)
    }

    /// Returns a node.
    pub fn node(&self, node: &ObjectRef) -> Option<Vec<u8>> {
        self.disk.nodes.get(node).map(|(_, bytes)| bytes.clone())
    }

    /// Returns a whole pack as it is on disk, holes and all.
    pub fn pack(&self, pack: &ObjectRef) -> Option<&[u8]> {
        self.disk.packs.get(pack).map(|(_, file)| &file.bytes[..])
    }

    /// Returns which groups of a pack are held.
    pub fn held(&self, pack: &ObjectRef) -> Option<LiveMap> {
        self.disk.packs.get(pack).map(|(held, _)| held.held())
    }

    /// Frees what may be freed, and thins out commits.
    pub fn sweep(&mut self, now: Timestamp) {
        let disk = &mut self.disk;
        let totals = &mut disk.state.totals;
        disk.packs.retain(|_, (held, file)| {
            let Some(swept) = sweep_pack(*totals, held, now) else {
                return true;
            };
            *totals = swept.totals;
            let bytes = &mut file.bytes;
            for run in swept.freed.runs() {
                let end = bytes.len().min(run.end as usize * GROUP);
                bytes[run.start as usize * GROUP..end].fill(0);
            }
            match swept.pack {
                Some(rest) => {
                    *held = rest;
                    true
                }
                None => false,
            }
        });
        disk.nodes
            .retain(|_, (row, _)| match sweep_node(*totals, row, now) {
                Some(after) => {
                    *totals = after;
                    false
                }
                None => true,
            });
        disk.heads
            .retain(|_, stored| match sweep_head(*totals, &stored.row, now) {
                Some(after) => {
                    *totals = after;
                    false
                }
                None => true,
            });
        let rows: Vec<HeadRow> = disk
            .heads
            .values()
            .map(|stored| stored.row.clone())
            .collect();
        let (after, dropped) = thin_commits(*totals, &rows, now);
        *totals = after;
        for sequence in dropped {
            if let Some(stored) = disk.heads.get_mut(&sequence) {
                stored.row.commit = None;
                stored.commit = None;
            }
        }
    }

    /// Answers an audit.
    pub fn answer(&mut self, challenge: &Challenge) -> Option<Vec<u8>> {
        let mut stored = self.disk.heads.values();
        let stored = stored.find(|stored| stored.row.root == *challenge.root())?;
        let (head, signature) = stored.signed.split_last_chunk::<{ Signature::LENGTH }>()?;
        let view = audited(&stored.signed, &self.disk.state)?;
        let commit = stored.commit.as_deref();
        let source = &mut Source(&self.disk);
        audit::answer(challenge, &view, head, signature, commit, source).ok()
    }

    /// Recomputes the totals from the rows: what the running totals must equal.
    pub fn recomputed(&self) -> Totals {
        let disk = &self.disk;
        Totals::recompute(
            disk.packs.values().map(|(held, _)| held),
            disk.nodes.values().map(|(row, _)| row),
            disk.heads.values().map(|stored| &stored.row),
            [],
        )
    }

    /// Returns the running totals.
    pub fn totals(&self) -> Totals {
        self.disk.state.totals
    }

    /// Returns the terms.
    pub fn terms(&self) -> &Terms {
        &self.disk.terms
    }

    /// Loses a pack's file, as a failing disk would; the rows still speak of it.
    pub fn lose(&mut self, pack: &ObjectRef) {
        if let Some((_, file)) = self.disk.packs.get_mut(pack) {
            file.bytes.clear();
        }
    }

    /// Flips a bit of a pack's group, as a failing disk would.
    pub fn damage(&mut self, pack: &ObjectRef, at: usize) {
        if let Some((_, file)) = self.disk.packs.get_mut(pack) {
            let at = at % file.bytes.len();
            file.bytes[at] ^= 1;
        }
    }
}

/// Reads from a signed head what an audit needs of it.
pub fn audited(signed: &[u8], state: &ChannelState) -> Option<AuditedHead> {
    let signed = SignedHead::verify(signed, state.channel, &state.signers).ok()?;
    let head = signed.head();
    Some(AuditedHead {
        data: head.data,
        vital: head.vital,
        commit: head.commit,
    })
}

struct Source<'a>(&'a Disk);

impl AuditSource for Source<'_> {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        self.0.nodes.get(node).map(|(_, bytes)| bytes.clone())
    }

    fn slice(&mut self, pack: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        let (_, file) = self.0.packs.get(pack)?;
        let mut out = Vec::new();
        encode_slice_as_is(&file.bytes, &file.outboard.as_bytes(), blocks, &mut out).ok()?;
        Some(out)
    }
}

impl View for Disk {
    fn pack(&self, pack: &ObjectRef) -> Result<Option<HeldPack>, Unavailable> {
        Ok(self.packs.get(pack).map(|(held, _)| held.clone()))
    }

    fn node(&self, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>, Unavailable> {
        Ok(self
            .nodes
            .get(node)
            .map(|(row, bytes)| (bytes.clone(), row.hold)))
    }

    fn frees(&self) -> Result<Vec<Freeing>, Unavailable> {
        let mut frees: Vec<Freeing> = Vec::new();
        for (held, _) in self.packs.values() {
            frees.extend(held.frees());
        }
        let nodes = self.nodes.values();
        let nodes = nodes.map(|(row, _)| (row.hold, log_charge(row.reference.length)));
        let heads = self.heads.values();
        let heads = heads.map(|stored| (stored.row.hold, stored.row.charge()));
        for (hold, bytes) in nodes.chain(heads) {
            if let Hold::FreeAfter(date) = hold {
                frees.push(Freeing { date, bytes });
            }
        }
        Ok(frees)
    }
}
