//! [`ClientSession`]: what a provider does for one client.
//!
//! Changes go through the group commit; whatever only reads uses a connection of its own and the packs' files, and waits for nobody. What a
//! client sends is hostile: lengths are held against their maxima before anything is read or kept.
//!
//! Order of a change, whatever it is: the pack's file is durable, then the entry in the log, then the ledger's row, then the client is told.

use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    address::Network,
    ancestry::AncestryProof,
    audit::{Challenge, answer},
    clock::Timestamp,
    codec::Put as _,
    custody::Totals,
    digest::DigestRequest,
    head::Head,
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    identity::{ClientPublicKey, Signature},
    inventory::Node,
    receipt::Receipt,
    reference::ObjectRef,
    ticket::TicketId,
    units::groups,
    verify::Selection,
};
use maimo_net::service::{
    ChannelStatus, NODES_MAX, Put, PutReply, READ_BYTES_MAX, READ_PACKS_MAX, Read, Reply,
    ServiceError, Session, ShownHead, TicketUse, WhichHead,
};

use crate::{
    error::{of_ledger, of_volume},
    group_commit::{Batch, Durability},
    ledger::{
        ChannelRow, HeadKey, LedgerError, Rows, StoredHead,
        changes::{self, Moved},
        entry::Change,
    },
    provider::{Inner, now, register},
};

mod audit;
mod packs;
mod upload;

pub(crate) use audit::AuditSession;
pub(crate) use upload::Coming;

type Result<T> = core::result::Result<T, ServiceError>;

/// One client's session.
pub(crate) struct ClientSession {
    inner: Arc<Inner>,
    /// Whose key signs the receipts: the channel was opened with it.
    network: Network,
    channel: ChannelId,
    client: ClientPublicKey,
}

impl ClientSession {
    pub(crate) fn new(inner: Arc<Inner>, network: Network, client: ClientPublicKey) -> Self {
        Self {
            channel: inner.keys.channel(network, &client),
            inner,
            network,
            client,
        }
    }

    /// Runs a change of this channel, which is registered first where it may register itself, unless its client is revoked.
    fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>, ChannelRow) -> core::result::Result<Result<T>, LedgerError>
        + Send
        + 'static,
    ) -> Result<T> {
        self.change_even_revoked(move |batch, row| {
            if row.revoked.is_some() {
                return Ok(Err(ServiceError::Revoked));
            }
            work(batch, row)
        })
    }

    /// Runs a change of this channel that only ends what was granted before.
    fn change_even_revoked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>, ChannelRow) -> core::result::Result<Result<T>, LedgerError>
        + Send
        + 'static,
    ) -> Result<T> {
        let (channel, client) = (self.channel, self.client);
        let own = self.inner.own_terms().zip(self.inner.log_for_new().ok());
        let done = self.inner.committer.run(move |batch| {
            if let Some(row) = batch.rows.channel(&channel)? {
                return work(batch, row);
            }
            let Some((terms, log)) = own else {
                return Ok(Err(ServiceError::UnknownClient));
            };
            register(batch, channel, client, String::new(), terms, log, now())?;
            let row = batch.rows.channel(&channel)?.ok_or(LedgerError::Damaged {
                what: "a channel that was just made is not there",
            })?;
            work(batch, row)
        });
        done?
    }

    /// Reads the rows of this channel; nothing if it is not registered.
    fn read_rows<T>(
        &self,
        work: impl FnOnce(&dyn Rows, &ChannelRow) -> core::result::Result<T, LedgerError>,
    ) -> Result<Option<T>> {
        let read = self.inner.readers.read(|rows| {
            let Some(row) = rows.channel(&self.channel)? else {
                return Ok(Ok(None));
            };
            if row.is_over(now()) {
                return Ok(Err(ServiceError::Revoked));
            }
            work(rows, &row).map(|found| Ok(Some(found)))
        });
        read.map_err(|error| of_ledger(&error))?
    }

    fn status_now(&self) -> Result<ChannelStatus> {
        let row = self.inner.row(self.channel)?;
        if row.as_ref().is_some_and(|row| row.is_over(now())) {
            return Err(ServiceError::Revoked);
        }
        let (terms, totals, root, sequence) = match &row {
            Some(row) => (
                row.terms,
                row.state.totals,
                row.state.root(),
                row.state.sequence(),
            ),
            None => (
                self.inner.own_terms().ok_or(ServiceError::UnknownClient)?,
                Totals::default(),
                RootHash::NONE,
                0,
            ),
        };
        Ok(ChannelStatus {
            terms,
            totals,
            root,
            sequence,
            instance: self.inner.instance,
            now: now(),
        })
    }

    fn put_node_now(&self, node: Bytes) -> Result<()> {
        if node.len() > Node::BYTES_MAX {
            return Err(bad("a node is too long"));
        }
        self.change(move |batch, row| {
            let (log, channel, at) = (row.log, row.state.channel, now());
            Ok(match changes::put_node(batch.rows, row, &node, at)? {
                Err(refusal) => Err(refusal.into()),
                Ok(is_changed) => {
                    if is_changed {
                        let bytes = node.to_vec();
                        let change = Change::NodePut { bytes };
                        batch.record(log, channel, &change, at, Durability::Synced);
                    }
                    Ok(())
                }
            })
        })
    }

    fn move_head_now(&self, head_move: &Bytes) -> Result<Bytes> {
        let request = HeadMove::parse(head_move).map_err(not_allowed)?;
        let row = self.change(move |batch, row| {
            let (log, channel, at) = (row.log, row.state.channel, now());
            let moved = changes::move_head(batch.rows, &row, request, at)?;
            Ok(moved
                .map_err(ServiceError::from)
                .map(|Moved { row, change }| {
                    if let Some(change) = change {
                        batch.record(log, channel, &change, at, Durability::Synced);
                    }
                    row
                }))
        })?;
        let said = row.acknowledged(self.channel, self.inner.instance);
        let receipt = Receipt::sign(said, self.inner.keys.auth(self.network));
        Ok(receipt.encode().into())
    }

    fn head_now(&self, which: WhichHead) -> Result<Option<ShownHead>> {
        let found = self.read_rows(|rows, channel| {
            let number = channel.number;
            let stored = match which {
                WhichHead::Newest => changes::newest(rows, channel)?,
                WhichHead::Sequence(sequence) => rows.head(number, HeadKey::Sequence(sequence))?,
                WhichHead::At(time) => rows.head(number, HeadKey::At(time))?,
            };
            let Some(stored) = stored else {
                return Ok(None);
            };
            let ancestry = ancestry_before(rows, channel, stored.row.sequence)?;
            Ok(Some(shown(stored, ancestry)))
        })?;
        Ok(found.flatten())
    }

    fn prove_now(&self, sequence: u64) -> Result<Bytes> {
        let proof = self.read_rows(|rows, channel| {
            let Some(count) = channel.state.sequence().checked_sub(1) else {
                return Ok(None);
            };
            let mut failed = None;
            let proof = AncestryProof::build(sequence, count, |height, place| {
                let found = rows.ancestry_node(channel.number, height, place);
                found.unwrap_or_else(|error| {
                    failed.get_or_insert(error);
                    None
                })
            });
            failed.map_or(Ok(proof), Err)
        })?;
        match proof.flatten() {
            Some(proof) => Ok(proof.encode().into()),
            None => Err(ServiceError::NotHeld {
                what: "a head of that sequence number",
            }),
        }
    }

    fn nodes_now(&self, nodes: &[ObjectRef]) -> Result<Vec<Bytes>> {
        if nodes.len() > NODES_MAX {
            return Err(bad("too many nodes"));
        }
        let found = self.read_rows(|rows, channel| {
            let found = nodes.iter().map(|node| {
                let found = rows.node(channel.number, node)?;
                Ok(found.map_or_else(Bytes::new, |(bytes, _)| bytes.into()))
            });
            found.collect()
        })?;
        Ok(found.unwrap_or_else(|| vec![Bytes::new(); nodes.len()]))
    }

    fn read_now(&self, reads: &[Read]) -> Result<Vec<Bytes>> {
        if reads.len() > READ_PACKS_MAX {
            return Err(bad("too many packs"));
        }
        let mut total = 0_u64;
        let mut selections = Vec::with_capacity(reads.len());
        for read in reads {
            if u64::from(read.groups.groups()) != groups(read.pack.length) {
                return Err(bad("a map of another pack's size"));
            }
            total = total.saturating_add(read.groups.live_bytes(read.pack.length));
            // Before a buffer is made.
            if total > READ_BYTES_MAX {
                return Err(bad("too many bytes"));
            }
            let selection = Selection::of_map(read.pack.length, &read.groups);
            selections.push(selection.map_err(not_allowed)?);
        }
        let places = self.places(reads.iter().map(|read| (&read.pack, &read.groups)))?;
        let slices = reads.iter().zip(places).zip(&selections);
        slices
            .map(|((read, place), selection)| {
                let file = self.open_pack(place, &read.pack)?;
                let mut slice = Vec::new();
                file.slice(selection, &mut slice)
                    .map_err(|error| of_volume(&error, "a pack"))?;
                Ok(slice.into())
            })
            .collect()
    }

    fn audit_now(&self, challenge: &Bytes) -> Result<Bytes> {
        let challenge = Challenge::parse(challenge).map_err(not_allowed)?;
        let answer = self.read_rows(|rows, channel| {
            let key = HeadKey::Root(*challenge.root());
            let Some(stored) = rows.head(channel.number, key)? else {
                return Ok(Err(ServiceError::NotHeld {
                    what: "a head of that root",
                }));
            };
            let split = stored.signed.split_last_chunk::<{ Signature::LENGTH }>();
            let Some((head, signature)) = split else {
                return Err(LedgerError::Damaged {
                    what: "the bytes of a head",
                });
            };
            let Ok(parsed) = Head::parse(head) else {
                return Err(LedgerError::Damaged {
                    what: "the bytes of a head",
                });
            };
            let commit = stored.commit.as_deref();
            let source = &mut packs::Source {
                session: self,
                rows,
                channel,
                unserved: None,
            };
            let answered = answer(
                &challenge,
                &(&parsed).into(),
                head,
                signature,
                commit,
                source,
            );
            if let Some(error) = source.unserved.take() {
                return Ok(Err(error));
            }
            Ok(answered.map_err(not_allowed))
        })?;
        let missing = ServiceError::NotHeld {
            what: "a head of that root",
        };
        Ok(answer.unwrap_or(Err(missing))?.into())
    }

    fn digest_now(&self, request: &Bytes) -> Result<[u8; 32]> {
        let request = DigestRequest::parse(request).map_err(not_allowed)?;
        let ranges = request.ranges().iter();
        let places = self.places(ranges.map(|(pack, groups)| (pack, groups)))?;
        let mut places = places.into_iter();
        let mut failed = None;
        let digest = request.digest(|pack| {
            let place = places.next().ok_or(std::io::ErrorKind::NotFound)?;
            self.open_pack(place, pack).map_err(|error| {
                failed.get_or_insert(error);
                std::io::ErrorKind::NotFound.into()
            })
        });
        match (digest, failed) {
            (Ok(digest), _) => Ok(digest),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(ServiceError::Damaged {
                what: "a pack",
                detail: error.to_string(),
            }),
        }
    }
}

/// Returns the encoded ancestry of the head of `sequence`: the roots before it.
fn ancestry_before(
    rows: &dyn Rows,
    channel: &ChannelRow,
    sequence: u64,
) -> core::result::Result<Vec<u8>, LedgerError> {
    let mut out = Vec::new();
    if sequence == channel.state.sequence() {
        channel.state.ancestry.encode(&mut out);
        return Ok(out);
    }
    let count = sequence.saturating_sub(1);
    out.put_u64(count);
    let mut first = 0;
    for height in (0..u64::BITS)
        .rev()
        .filter(|height| count >> height & 1 == 1)
    {
        let node = rows.ancestry_node(channel.number, height, first >> height)?;
        out.put(&node.ok_or(LedgerError::Damaged {
            what: "a node of the ancestry is missing",
        })?);
        first += 1 << height;
    }
    Ok(out)
}

fn shown(stored: StoredHead, ancestry: Vec<u8>) -> ShownHead {
    ShownHead {
        head: stored.signed.into(),
        ancestry: ancestry.into(),
        commit: stored.commit.map(Bytes::from),
        admitted: stored.row.admitted,
    }
}

impl Session for ClientSession {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        Box::pin(async move { self.status_now() })
    }

    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        Box::pin(async move { self.put_now(&put) })
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        Box::pin(async move { self.put_node_now(node) })
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        Box::pin(async move { self.move_head_now(&head_move) })
    }

    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        Box::pin(async move { self.head_now(which) })
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        Box::pin(async move { self.prove_now(sequence) })
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(async move { self.nodes_now(&nodes) })
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(async move { self.read_now(&reads) })
    }

    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        Box::pin(async move { self.audit_now(&challenge) })
    }

    fn tickets(&self) -> Reply<'_, Vec<TicketUse>> {
        Box::pin(async move { self.tickets_now() })
    }

    fn revoke_ticket(&self, ticket: TicketId, expires: Timestamp) -> Reply<'_, ()> {
        Box::pin(async move { self.revoke_ticket_now(ticket, expires) })
    }

    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        Box::pin(async move { self.digest_now(&request) })
    }

    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        Box::pin(async move { self.inner.addresses(self.network) })
    }
}

fn bad(detail: &str) -> ServiceError {
    ServiceError::BadRequest {
        detail: detail.to_owned(),
    }
}

fn not_allowed(error: impl std::error::Error) -> ServiceError {
    ServiceError::BadRequest {
        detail: crate::error::chain(&error),
    }
}

#[cfg(test)]
mod crowds;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod tests;
