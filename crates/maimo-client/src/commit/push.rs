//! Moving one channel's head: its root is written down, the request sent, the receipt checked.

use bytes::Bytes;
use maimo_core::{custody::Refusal, receipt::Receipt, reference::ObjectRef};
use maimo_net::service::ServiceError;
use maimo_vault::{candidate::Candidate, compose::Watermark, descent::Seen, name::PackNumber};

use super::not_read;
use crate::{
    engine::Engine,
    error::ClientError,
    node_state::{CandidateRow, SeenRow},
    outstanding::Outstanding,
    session::OpenChannel,
};

/// What became of a head that was sent.
pub(super) enum Pushed {
    /// It is the channel's newest, by its provider's receipt; so many bytes were sent.
    Moved(u64),
    /// Another one came first.
    LostRace(Seen),
    /// It names packs that are not held.
    NotHeld(Vec<ObjectRef>),
}

impl Engine {
    /// Sends a candidate to its channel and takes note of the receipt. The names up to `watermark`, and the packs `named`, are acknowledged with it.
    pub(super) fn push(
        &self,
        channel: &OpenChannel,
        candidate: &Candidate,
        watermark: Watermark,
        named: &[PackNumber],
    ) -> Result<Pushed, ClientError> {
        let seen = Seen {
            sequence: candidate.after.sequence(),
            root: candidate.root,
        };
        let row = CandidateRow {
            sent: seen,
            watermark,
        };
        self.node.sending(channel.id, row)?;
        let (request, ahead) = candidate.request();
        let mut ahead = ahead.into_iter();
        let mut calls = Outstanding::new(channel.session.appetite().calls);
        loop {
            while !calls.is_full()
                && let Some(node) = ahead.next()
            {
                let node = Bytes::copy_from_slice(node);
                calls.start((), channel.session.put_node(node));
            }
            let Some(((), answer)) = calls.next() else {
                break;
            };
            answer.map_err(|source| channel.failed(source))?;
        }
        let request = Bytes::from(request.encode());
        let sent = request.len() as u64;
        let answer = futures_executor::block_on(channel.session.move_head(request));
        let receipt = match answer {
            Ok(receipt) => receipt,
            Err(ServiceError::Refused(Refusal::Conflict { .. })) => {
                return Ok(Pushed::LostRace(seen));
            }
            Err(ServiceError::Refused(Refusal::NotHeld(not_held))) => {
                let packs = not_held.missing.into_iter().map(|(pack, _)| pack);
                return Ok(Pushed::NotHeld(packs.collect()));
            }
            Err(error) => return Err(channel.failed(error)),
        };
        Receipt::verify(&receipt, &channel.auth)
            .and_then(|receipt| receipt.check(channel.id, seen.sequence, seen.root))
            .map_err(|_| channel.wrong("a receipt"))?;
        self.reached(channel.id);
        let head = candidate.after.head.as_ref().ok_or_else(not_read)?;
        let mut ancestry = Vec::new();
        candidate.after.ancestry.encode(&mut ancestry);
        let row = SeenRow {
            seen,
            head: head.encode(),
            commit: candidate.commit.clone(),
            ancestry,
        };
        self.node.acknowledged(channel.id, &row, watermark, named)?;
        self.keep_nodes(&candidate.after)?;
        self.settle_damage(&candidate.after)?;
        Ok(Pushed::Moved(sent))
    }
}
