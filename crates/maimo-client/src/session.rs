//! Open channels: a provider's session with the keys of the channel.

use std::sync::Arc;

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    id::ChannelId,
    identity::AuthPublicKey,
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
    verify::{Selection, decode_slice},
};
use maimo_net::service::{READ_BYTES_MAX, READ_PACKS_MAX, Read, Reply, ServiceError, Session};
use maimo_vault::{
    keys::ChannelKeys,
    pack::{PackKeys, PackKind},
};

use crate::{
    error::ClientError,
    keys::EPOCH,
    outstanding::{Outstanding, cut},
};

mod upload;

pub(crate) use upload::{Source, Upload, Uploads};

/// A channel whose provider answers. Shared between threads.
pub struct OpenChannel {
    /// Its id.
    pub id: ChannelId,
    /// What its owner calls it.
    pub name: String,
    /// Where its provider is.
    pub addresses: Vec<String>,
    /// The key it was opened with.
    pub auth: AuthPublicKey,
    /// The keys of what it holds.
    pub keys: ChannelKeys,
    /// The provider.
    pub session: Arc<dyn Session>,
}

impl OpenChannel {
    /// Waits for a call's answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Provider`] with this channel's name.
    pub fn call<T>(&self, reply: Reply<'_, T>) -> Result<T, ClientError> {
        block_on(reply).map_err(|source| self.failed(source))
    }

    /// Returns an error of this channel's provider.
    pub fn failed(&self, source: ServiceError) -> ClientError {
        ClientError::Provider {
            channel: self.name.clone(),
            source,
        }
    }

    /// Returns the error that says that bytes from here are not what their name says.
    pub fn wrong(&self, what: impl Into<String>) -> ClientError {
        ClientError::WrongBytes {
            channel: self.name.clone(),
            what: what.into(),
        }
    }

    /// Returns the keys of packs of a kind.
    pub const fn pack_keys(&self, kind: PackKind) -> PackKeys<'_> {
        PackKeys::new(&self.keys, EPOCH, kind)
    }

    /// Sends a pack that was just sealed: held when this returns.
    ///
    /// # Errors
    ///
    /// Whatever the provider refuses; a cap that is exceeded shows with the first range.
    pub fn upload(
        &self,
        kind: PackKind,
        pack: ObjectRef,
        bytes: &Bytes,
    ) -> Result<(), ClientError> {
        let mut uploads = Uploads::new(self);
        uploads.add(Upload::of_new(kind, pack), bytes.clone());
        while uploads.drive()?.is_some() {}
        Ok(())
    }

    /// Reads parts of packs, in requests as large and as many at a time as the session likes. Returns one slice for each, as it came.
    ///
    /// # Errors
    ///
    /// [`ClientError::Provider`] for whatever it refuses; an answer of another length.
    pub(crate) fn read_each(&self, reads: &[Read]) -> Result<Vec<Bytes>, ClientError> {
        let appetite = self.session.appetite();
        let mut slices = vec![Bytes::new(); reads.len()];
        let mut next = 0;
        let mut calls = Outstanding::new(appetite.calls);
        loop {
            while !calls.is_full() && next < reads.len() {
                let mut bytes = 0;
                let fits = |read: &&Read| {
                    bytes += read.groups.live_bytes(read.pack.length);
                    bytes <= appetite.bytes_per_call.min(READ_BYTES_MAX)
                };
                let rest = reads[next..].iter().take(READ_PACKS_MAX);
                let count = rest.take_while(fits).count().max(1);
                let some = &reads[next..][..count];
                calls.start(next, self.session.read(some.to_vec()));
                next += count;
            }
            let Some((first, answer)) = calls.next() else {
                return Ok(slices);
            };
            // What is missing of an answer stays empty, and is no slice.
            let answer = answer.map_err(|source| self.failed(source))?;
            for (place, slice) in slices[first..].iter_mut().zip(answer) {
                *place = slice;
            }
        }
    }

    /// Fetches whole packs, verified, in the order asked for.
    ///
    /// # Errors
    ///
    /// [`ClientError::WrongBytes`] where what comes is not what was named.
    pub fn fetch_whole(&self, packs: &[ObjectRef]) -> Result<Vec<Vec<u8>>, ClientError> {
        let bytes_max = self.session.appetite().bytes_per_call.min(READ_BYTES_MAX);
        let mut reads = Vec::new();
        for pack in packs {
            let all = LiveMap::full(u32::try_from(groups(pack.length)).unwrap_or(u32::MAX));
            let parts = cut(&all, bytes_max).into_iter();
            reads.extend(parts.map(|groups| Read {
                pack: *pack,
                groups,
            }));
        }
        let slices = self.read_each(&reads)?;
        let mut parts = reads.iter().zip(slices).peekable();
        let mut fetched = Vec::with_capacity(packs.len());
        for pack in packs {
            let mut whole = Vec::new();
            while let Some((read, slice)) = parts.next_if(|_| (whole.len() as u64) < pack.length) {
                let wrong = || self.wrong(format!("pack {}", pack.root));
                let selection = Selection::of_map(pack.length, &read.groups);
                let selection = selection.map_err(|_| wrong())?;
                let extents = decode_slice(&slice, pack, &selection).map_err(|_| wrong())?;
                let mut extents = extents.into_inner();
                let extent = extents.pop().filter(|_| extents.is_empty());
                let bytes = extent.ok_or_else(wrong)?.bytes;
                if whole.is_empty() {
                    whole = bytes;
                } else {
                    whole.extend_from_slice(&bytes);
                }
            }
            fetched.push(whole);
        }
        Ok(fetched)
    }
}
