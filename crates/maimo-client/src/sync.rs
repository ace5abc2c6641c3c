//! Reading what the channels show, onto what was read before.
//!
//! ```text
//! head -> signature, descent from the last root seen -> commit, nodes (kept by reference) -> fresh segments -> catalog
//! ```
//!
//! A channel that shows what it showed costs one call. Invariant: nothing of a head is used before it is known to descend from the last root
//! seen; where it does not, both signed heads are kept as evidence and the operation ends.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use maimo_core::{
    ancestry::{Ancestry, AncestryProof},
    codec::Reader,
    head::SignedHead,
    id::{ChannelId, RootHash},
    inventory::{Child, Inventory, InventoryRef, Node, Slots},
    reference::ObjectRef,
};
use maimo_net::service::{NODES_MAX, ServiceError, ShownHead, WhichHead};
use maimo_vault::{
    candidate::ChannelView,
    commit::Commit,
    compose::Watermark,
    descent::{Astray, Seen, accept},
    keys::ChannelKeys,
    name::WriterId,
};
use rusqlite::OptionalExtension;

use crate::{
    commit::too_busy,
    engine::{Engine, Shown},
    error::ClientError,
    node_state::SeenRow,
    progress::{Control, Event, Phase},
    random,
    session::OpenChannel,
};

/// How often a channel is read again after other devices moved on while it was read.
const READS: u32 = 16;
/// How long a mirror that did not answer is let be.
const TRY_MIRRORS_AFTER: Duration = Duration::from_mins(1);
/// How many layouts, each newer than the one before, one sync follows.
const LAYOUTS_MAX: u32 = 8;

/// What a sync came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Synced {
    /// Whether another installation has written under this one's name: it has a new one, and what was drafted must be made anew.
    pub(crate) has_twin: bool,
    /// The head that was sent from here and whose reply was lost, if the first channel turned out to have taken one.
    pub(crate) taken: Option<Seen>,
}

impl Engine {
    /// Reads what the layout's channels show and brings the catalog to it. The first channel must answer; another that does not is left as it
    /// was last read. A channel that shows a newer layout is believed: it was made the first, or has followed one that was.
    pub(crate) fn sync(&mut self, control: &Control) -> Result<Synced, ClientError> {
        control.tell(Event::Phase(Phase::Synchronising));
        self.try_mirrors_again(TRY_MIRRORS_AFTER);
        let mut synced = Synced::default();
        for _ in 0..LAYOUTS_MAX {
            let first = match self.sync_first(&mut synced, control) {
                Err(error @ ClientError::Provider { .. }) => {
                    // It may be the first no more.
                    self.sync_others(control)?;
                    if self.adopt_newer_layout(&mut synced, control)? {
                        continue;
                    }
                    return Err(error);
                }
                first => first?,
            };
            if self.layout()?.first() != Some(&first) {
                continue;
            }
            self.sync_others(control)?;
            if !self.adopt_newer_layout(&mut synced, control)? {
                return Ok(synced);
            }
        }
        Err(too_busy())
    }

    /// Reads the first channel and brings the catalog to it. Returns which it was.
    fn sync_first(
        &mut self,
        synced: &mut Synced,
        control: &Control,
    ) -> Result<ChannelId, ClientError> {
        let first = self.first()?;
        if let Some(taken) = self.read_channel(&first)? {
            synced.taken = Some(taken);
        }
        control.check()?;
        let commit = self
            .shown
            .get(&first.id)
            .and_then(|shown| shown.commit.clone());
        if let Some(source) = self.before_layout(first.id, commit.as_ref())? {
            return Err(ClientError::Astray {
                channel: first.name.clone(),
                source,
            });
        }
        if let Some(commit) = &commit {
            synced.has_twin |= self.catch_up(&first.id, commit, Some(&first), control)?;
        } else if self.catalog.position()?.sequence > 0 {
            self.catalog.reset()?;
        }
        Ok(first.id)
    }

    /// Returns what is wrong with the state that a channel shows, if that is older than the layout by which it decides: it was restored from an old
    /// image. What it showed since, this node need not have seen.
    pub(crate) fn before_layout(
        &self,
        id: ChannelId,
        commit: Option<&Commit>,
    ) -> Result<Option<Astray>, ClientError> {
        let known = self.catalog.reader()?.store_layout()?;
        // Where it shows nothing and is alone, its last root seen says all there is to say.
        let known = known.filter(|known| {
            known.first() == Some(id) && (commit.is_some() || known.channels.len() > 1)
        });
        let shown = commit.map_or(0, |commit| commit.store.layout_epoch);
        Ok(known
            .filter(|known| known.epoch > shown)
            .map(|known| Astray::BeforeLayout {
                shown,
                decides: known.epoch,
            }))
    }

    /// Reads the other channels, as far as they answer.
    fn sync_others(&mut self, control: &Control) -> Result<(), ClientError> {
        for id in self.layout()?.into_iter().skip(1) {
            if self.away.why(id).is_some() {
                continue;
            }
            let read = self
                .channel(id)
                .and_then(|channel| self.read_channel(&channel));
            match read {
                Ok(_) => {}
                Err(ClientError::Provider { channel, source }) => {
                    control.tell(Event::Notice(format!(
                        "channel {channel} is behind: {source}"
                    )));
                    self.away.note(id, source);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings the catalog to a channel that shows a newer layout than the one known. Returns whether one does.
    fn adopt_newer_layout(
        &mut self,
        synced: &mut Synced,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let known = self.catalog.reader()?.store_layout()?;
        let epoch = known.map_or(0, |layout| layout.epoch);
        for id in self.layout()? {
            let shown = self.shown.get(&id).and_then(|shown| shown.commit.clone());
            let Some(commit) = shown.filter(|commit| commit.store.layout_epoch > epoch) else {
                continue;
            };
            synced.has_twin |= self.catch_up(&id, &commit, None, control)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Brings the catalog to what other machines have done, if the first channel answers and what it shows is right and follows; says so where not, and
    /// leaves it at what was known: for what only reads, and is checked against its root whatever a provider shows.
    pub(crate) fn refresh(&mut self, control: &Control) -> Result<(), ClientError> {
        match self.sync(control) {
            Ok(_) => Ok(()),
            Err(
                error @ (ClientError::Provider { .. }
                | ClientError::Astray { .. }
                | ClientError::WrongBytes { .. }),
            ) => {
                control.tell(Event::Notice(format!(
                    "{error}; going by what was known before"
                )));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Stands on what was last seen of the layout's channels, where all of it is here and nothing that was sent is unanswered; else reads them.
    /// Returns whether they were read.
    ///
    /// A state that is no longer the newest costs a refused move and the [`Self::sync`] that comes after it: no head that does not descend
    /// from it is ever taken for its successor.
    pub(crate) fn stand(&mut self, control: &Control) -> Result<bool, ClientError> {
        let layout = self.layout()?;
        for (place, id) in layout.iter().enumerate() {
            if !self.stands_on(*id, place == 0)? {
                self.sync(control)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether all that was last seen of a channel is here, the catalog with it where this channel decides.
    pub(crate) fn stands_on(&mut self, id: ChannelId, is_first: bool) -> Result<bool, ClientError> {
        Ok(self.node.candidates(id)?.is_empty() && self.has_last_seen(id, is_first)?)
    }

    /// Returns the same whatever was sent to it and never answered.
    pub(crate) fn has_last_seen(
        &mut self,
        id: ChannelId,
        is_first: bool,
    ) -> Result<bool, ClientError> {
        let Some(row) = self.node.seen(id)? else {
            return Ok(false);
        };
        if self
            .view(id)
            .is_none_or(|view| view.root() != row.seen.root)
        {
            // What is kept may be torn, or of an older program; the provider has it whole.
            let Ok(shown) = self.load_kept(id, &row) else {
                return Ok(false);
            };
            self.shown.insert(id, shown);
        }
        let commit = self.shown.get(&id).and_then(|shown| shown.commit.as_ref());
        let store = commit.map(|commit| &commit.store);
        Ok(!is_first || (store.is_some() && self.catalog.position()?.store.as_ref() == store))
    }

    /// Loads what was last seen of a channel from what is kept here.
    fn load_kept(&self, id: ChannelId, row: &SeenRow) -> Result<Shown, ClientError> {
        let (_, keys) = self.keys_of(id)?;
        let head = SignedHead::verify(&row.head, id, &[keys.client.public()]);
        let head = head.ok().filter(|head| head.root() == row.seen.root);
        let head = head.ok_or_else(|| not_kept("a head"))?;
        let answer = Loading {
            channel: id,
            keys: &keys,
            ancestry: &row.ancestry,
            commit: &row.commit,
            wrong: &not_kept,
        };
        self.load(&answer, head, &|_| Err(not_kept("an inventory node")))
    }

    /// Reads a channel's newest head and all that goes with it. Returns the head sent from here that it turned out to have taken.
    ///
    /// What goes with a head is asked for after it, and answered for the head that is the newest by then: where another device has moved on in
    /// between, all of it is read again before anyone is blamed.
    pub(crate) fn read_channel(
        &mut self,
        channel: &OpenChannel,
    ) -> Result<Option<Seen>, ClientError> {
        for _ in 0..READS {
            match self.read_newest(channel) {
                Ok(taken) => return Ok(taken),
                Err(Unread::Overtaken) => {}
                Err(Unread::Failed(error)) => return Err(error),
            }
        }
        Err(too_busy())
    }

    fn read_newest(&mut self, channel: &OpenChannel) -> Result<Option<Seen>, Unread> {
        let answer = channel.call(channel.session.head(WhichHead::Newest))?;
        self.reached(channel.id);
        let last = self.node.seen(channel.id)?;
        let Some(answer) = answer else {
            accept(last.map(|row| row.seen), None, None)
                .map_err(|astray| self.astray(channel, None, astray))?;
            let view = ChannelView::new(channel.id);
            self.shown.insert(channel.id, Shown { view, commit: None });
            return Ok(None);
        };
        let head = verified(channel, &answer.head)?;
        if self
            .view(channel.id)
            .is_some_and(|view| view.root() == head.root())
        {
            return Ok(None);
        }
        self.check_descent(
            channel,
            &head,
            last.as_ref().map(|row| row.seen),
            &answer.head,
        )?;
        let taken = self.settle_candidates(channel, &head)?;
        let root = head.root();
        let shown = match self.shown_as(channel, head, &answer) {
            // Nodes of a head that was let go of, and freed: a channel may have no grace.
            Err(ClientError::Provider {
                source: ServiceError::NotHeld { .. },
                ..
            }) if !is_newest(channel, root)? => return Err(Unread::Overtaken),
            loaded => loaded?,
        };
        self.keep_nodes(&shown.view)?;
        self.settle_damage(&shown.view)?;
        let row = SeenRow {
            seen: Seen {
                sequence: shown.view.sequence(),
                root: shown.view.root(),
            },
            head: answer.head.to_vec(),
            commit: answer.commit.unwrap_or_default().to_vec(),
            ancestry: answer.ancestry.to_vec(),
        };
        if last.is_none_or(|last| last.seen != row.seen || last.ancestry != row.ancestry) {
            self.node.saw(channel.id, &row)?;
        }
        self.shown.insert(channel.id, shown);
        Ok(taken)
    }

    fn check_descent(
        &self,
        channel: &OpenChannel,
        head: &SignedHead,
        last: Option<Seen>,
        signed: &[u8],
    ) -> Result<(), Unread> {
        let proof = match last {
            Some(last) if last.sequence < head.head().sequence => proof_of(channel, last.sequence)?,
            _ => None,
        };
        match accept(last, Some(head), proof.as_ref()) {
            Ok(()) => Ok(()),
            Err(Astray::Fork { .. }) if !is_newest(channel, head.root())? => Err(Unread::Overtaken),
            Err(astray) => Err(self.astray(channel, Some(signed), astray).into()),
        }
    }

    /// Opens what a channel showed, whatever was seen of it: for a repair, which alone builds on what does not follow.
    pub(crate) fn shown_as(
        &self,
        channel: &OpenChannel,
        head: SignedHead,
        answer: &ShownHead,
    ) -> Result<Shown, ClientError> {
        let commit = answer.commit.as_ref().ok_or_else(|| {
            channel.failed(ServiceError::NotHeld {
                what: "the commit of its newest head",
            })
        })?;
        let loading = Loading {
            channel: channel.id,
            keys: &channel.keys,
            ancestry: &answer.ancestry,
            commit,
            wrong: &|what| channel.wrong(what),
        };
        self.load(&loading, head, &|nodes| {
            channel.call(channel.session.nodes(nodes.to_vec()))
        })
    }

    pub(crate) fn astray(
        &self,
        channel: &OpenChannel,
        shown: Option<&[u8]>,
        source: Astray,
    ) -> ClientError {
        let seen = self.node.seen(channel.id).ok().flatten();
        let seen = seen.map(|row| row.head).unwrap_or_default();
        let now = self.clock.now().0;
        // Evidence that cannot be kept does not make the finding less true.
        let _ = self
            .node
            .keep_evidence(channel.id, now, &seen, shown.unwrap_or_default());
        ClientError::Astray {
            channel: channel.name.clone(),
            source,
        }
    }

    /// Finds out what became of heads that were sent and never answered: one is the head shown, or before it, or it can no longer come.
    /// That alone says so; names of records may have been used by a twin.
    fn settle_candidates(
        &self,
        channel: &OpenChannel,
        head: &SignedHead,
    ) -> Result<Option<Seen>, Unread> {
        let candidates = self.node.candidates(channel.id)?;
        let mut taken = None;
        let mut is_proof_wrong = false;
        let shown = head.head().sequence;
        for candidate in candidates.iter().filter(|row| row.sent.sequence <= shown) {
            let proof = if candidate.sent.sequence < shown {
                proof_of(channel, candidate.sent.sequence)?
            } else {
                None
            };
            let follows = accept(Some(candidate.sent), Some(head), proof.as_ref()).is_ok();
            is_proof_wrong |= proof.is_some() && !follows;
            if follows {
                let known = self.node.committed()?;
                self.node.put_committed(Watermark {
                    records: known.records.max(candidate.watermark.records),
                    packs: known.packs.max(candidate.watermark.packs),
                })?;
                taken = Some(candidate.sent);
            }
        }
        // A proof for another head says nothing of a candidate, and one forgotten that was taken would be made a second time.
        if is_proof_wrong && !is_newest(channel, head.root())? {
            return Err(Unread::Overtaken);
        }
        if !candidates.is_empty() {
            self.node.forget_candidates(channel.id, shown)?;
        }
        Ok(taken)
    }

    /// Opens a head's commit and loads its inventories.
    fn load(
        &self,
        answer: &Loading<'_>,
        head: SignedHead,
        ask: &AskNodes<'_>,
    ) -> Result<Shown, ClientError> {
        let mut reader = Reader::new(answer.ancestry);
        let ancestry = Ancestry::parse(&mut reader)
            .ok()
            .filter(|ancestry| ancestry.hash() == head.head().ancestry)
            .ok_or_else(|| (answer.wrong)("the ancestry of a head"))?;
        if !head.head().commit.names(answer.commit) {
            return Err((answer.wrong)("a commit"));
        }
        let commit = Commit::open(answer.commit, &answer.keys.commit)
            .map_err(|_| (answer.wrong)("a commit that opens"))?;
        let mut view = ChannelView::new(answer.channel);
        let references = [head.head().data, head.head().vital];
        let nodes = self.gather(answer.channel, &references, answer.wrong, ask)?;
        let load = |reference: &InventoryRef| {
            let mut node = |node: &ObjectRef| nodes.get(node).map(|bytes| bytes.to_vec());
            Inventory::load(reference, u64::MAX, &mut node)
                .map_err(|_| (answer.wrong)("an inventory"))
        };
        view.data = load(&references[0])?;
        view.vital = load(&references[1])?;
        view.ancestry = ancestry;
        let segments = commit.journal.iter();
        view.segments = segments
            .map(|(segment, reference)| (segment.number, *reference))
            .collect();
        view.head = Some(head);
        Ok(Shown {
            view,
            commit: Some(commit),
        })
    }

    /// Gathers the nodes of a channel's inventories: what is kept from disk, the rest in as few calls as can be.
    pub(crate) fn nodes(
        &self,
        channel: &OpenChannel,
        references: &[InventoryRef],
    ) -> Result<HashMap<ObjectRef, Bytes>, ClientError> {
        let wrong = |what: &str| channel.wrong(what);
        self.gather(channel.id, references, &wrong, &|nodes| {
            channel.call(channel.session.nodes(nodes.to_vec()))
        })
    }

    /// Gathers the nodes of inventories, level by level: what is kept from disk, the rest by asking.
    fn gather(
        &self,
        channel: ChannelId,
        references: &[InventoryRef],
        wrong: Wrong<'_>,
        ask: &AskNodes<'_>,
    ) -> Result<HashMap<ObjectRef, Bytes>, ClientError> {
        let mut nodes: HashMap<ObjectRef, Bytes> = HashMap::new();
        let mut wanted: Vec<(Child, Option<u8>)> = references
            .iter()
            .filter_map(|reference| reference.child().map(|child| (*child, None)))
            .collect();
        while !wanted.is_empty() {
            let mut missing = Vec::new();
            for (child, _) in &wanted {
                match self.kept_node(channel, &child.node)? {
                    Some(bytes) => {
                        nodes.insert(child.node, bytes.into());
                    }
                    None => missing.push(child.node),
                }
            }
            for some in missing.chunks(NODES_MAX) {
                let answers = ask(some)?;
                if answers.len() != some.len() {
                    return Err(wrong("inventory nodes"));
                }
                nodes.extend(some.iter().copied().zip(answers));
            }
            let mut below = Vec::new();
            for (child, level) in wanted {
                let bytes = nodes.get(&child.node).map_or(&[][..], |bytes| &bytes[..]);
                let node =
                    Node::open(bytes, &child, level).map_err(|_| wrong("an inventory node"))?;
                if let Slots::Inner(children) = node.slots() {
                    let level = node.level().checked_sub(1);
                    below.extend(children.iter().map(|(_, child)| (*child, level)));
                }
            }
            wanted = below;
        }
        Ok(nodes)
    }

    fn kept_node(
        &self,
        channel: ChannelId,
        node: &ObjectRef,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let read = || {
            let sql = "SELECT bytes FROM node WHERE channel = ?1 AND root = ?2";
            let mut statement = self.lax.prepare_cached(sql)?;
            let bytes: Option<Vec<u8>> = statement
                .query_row((channel.0, node.root.0), |row| row.get(0))
                .optional()?;
            Ok(bytes.filter(|bytes| node.names(bytes)))
        };
        read().map_err(lax_failed)
    }

    /// Keeps the nodes of a channel's inventories, and no others.
    pub(crate) fn keep_nodes(&self, view: &ChannelView) -> Result<(), ClientError> {
        let before = self.shown.get(&view.channel).map(|shown| &shown.view);
        let fresh = match before {
            Some(before) => {
                let mut nodes = view.data.changed_nodes(&before.data);
                nodes.extend(view.vital.changed_nodes(&before.vital));
                nodes
            }
            None => view.data.nodes().chain(view.vital.nodes()).collect(),
        };
        let mut stale = Vec::new();
        if let Some(before) = before {
            let old = before.data.changed_nodes(&view.data);
            let old = old
                .into_iter()
                .chain(before.vital.changed_nodes(&view.vital));
            stale.extend(old.map(|(node, _)| node.root));
        }
        let write = || {
            let tx = self.lax.unchecked_transaction()?;
            {
                let mut put =
                    tx.prepare_cached("INSERT OR IGNORE INTO node VALUES (?1, ?2, ?3)")?;
                let mut drop =
                    tx.prepare_cached("DELETE FROM node WHERE channel = ?1 AND root = ?2")?;
                for root in stale {
                    drop.execute((view.channel.0, root.0))?;
                }
                for (node, bytes) in fresh {
                    put.execute((view.channel.0, node.root.0, bytes))?;
                }
            }
            tx.commit()
        };
        write().map_err(lax_failed)
    }

    /// Takes another name where a twin has written under this one. Returns whether that was so.
    pub(crate) fn look_for_twin(&self, found: Watermark) -> Result<bool, ClientError> {
        let has_twin = found.is_beyond(&self.node.committed()?);
        if has_twin {
            self.node.take_writer(WriterId(random::id()))?;
        }
        Ok(has_twin)
    }
}

/// Makes the error of what is not what it should be.
type Wrong<'a> = &'a dyn Fn(&str) -> ClientError;
/// Returns nodes, in the order asked for.
type AskNodes<'a> = dyn Fn(&[ObjectRef]) -> Result<Vec<Bytes>, ClientError> + 'a;

/// What goes with a head, as it was shown or kept.
struct Loading<'a> {
    channel: ChannelId,
    keys: &'a ChannelKeys,
    ancestry: &'a [u8],
    commit: &'a [u8],
    wrong: Wrong<'a>,
}

fn not_kept(what: &str) -> ClientError {
    ClientError::Corrupt(format!("{what} is not kept here"))
}

pub(crate) fn lax_failed(source: rusqlite::Error) -> ClientError {
    ClientError::Database {
        file: crate::error::STATE_FILE,
        source,
    }
}

/// Why a channel's newest state was not read.
enum Unread {
    /// Another device moved on meanwhile, so that the answers belong to two heads.
    Overtaken,
    Failed(ClientError),
}

impl<E: Into<ClientError>> From<E> for Unread {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Checks who signed a head.
fn verified(channel: &OpenChannel, signed: &[u8]) -> Result<SignedHead, ClientError> {
    let signers = [channel.keys.client.public()];
    SignedHead::verify(signed, channel.id, &signers).map_err(|_| channel.wrong("a head"))
}

/// Returns whether the newest head is still the one that was read.
pub(crate) fn is_newest(channel: &OpenChannel, root: RootHash) -> Result<bool, ClientError> {
    let answer = channel.call(channel.session.head(WhichHead::Newest))?;
    let Some(answer) = answer else {
        return Ok(false);
    };
    Ok(verified(channel, &answer.head)?.root() == root)
}

/// Asks for the proof that the head of `sequence` is among those before the newest; nothing where the provider has none.
pub(crate) fn proof_of(
    channel: &OpenChannel,
    sequence: u64,
) -> Result<Option<AncestryProof>, ClientError> {
    match futures_executor::block_on(channel.session.prove(sequence)) {
        Ok(bytes) => Ok(AncestryProof::parse(&bytes).ok()),
        Err(ServiceError::NotHeld { .. } | ServiceError::BadRequest { .. }) => Ok(None),
        Err(error) => Err(channel.failed(error)),
    }
}
