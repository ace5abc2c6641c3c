//! Open channels: a provider's session with the keys of the channel.

use std::sync::Arc;

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    custody::PackClass,
    id::ChannelId,
    identity::AuthPublicKey,
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
    verify::{Selection, decode_slice},
};
use maimo_net::service::{
    PUT_BYTES, Put, READ_BYTES_MAX, READ_PACKS_MAX, Read, Reply, ServiceError, Session,
};
use maimo_vault::{
    keys::ChannelKeys,
    pack::{PackKeys, PackKind},
};

use crate::{error::ClientError, keys::EPOCH};

/// A channel whose provider answers. Shared between threads.
pub struct OpenChannel {
    /// Its id.
    pub id: ChannelId,
    /// What its owner calls it.
    pub name: String,
    /// Where its provider is.
    pub address: String,
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

    /// Sends a pack, as far as it is not there yet: held when this returns.
    ///
    /// # Errors
    ///
    /// Whatever the provider refuses; a cap that is exceeded shows before the first byte has left.
    pub fn upload(
        &self,
        kind: PackKind,
        pack: ObjectRef,
        bytes: &Bytes,
    ) -> Result<(), ClientError> {
        let class = match kind {
            PackKind::Data => PackClass::Data,
            PackKind::Vital => PackClass::Vital,
        };
        let put = |offset: u64| {
            let start = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let end = start.saturating_add(PUT_LENGTH).min(bytes.len());
            self.call(self.session.put(Put {
                pack,
                class,
                offset,
                bytes: bytes.slice(start..end),
            }))
        };
        let mut missing = put(0)?.missing;
        // Each range sent takes one off the list; a provider that asks for one again and again is not waited for.
        let mut left = 2 * pack.length.div_ceil(PUT_BYTES);
        while let Some(next) = missing.first().copied() {
            if left == 0 || next >= pack.length || !next.is_multiple_of(PUT_BYTES) {
                return Err(self.wrong("the list of a pack's missing ranges"));
            }
            left -= 1;
            missing = put(next)?.missing;
        }
        Ok(())
    }

    /// Fetches whole packs, verified, in the order asked for.
    ///
    /// # Errors
    ///
    /// [`ClientError::WrongBytes`] where what comes is not what was named.
    pub fn fetch_whole(&self, packs: &[ObjectRef]) -> Result<Vec<Vec<u8>>, ClientError> {
        let mut fetched = Vec::with_capacity(packs.len());
        let mut rest = packs;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |pack: &&ObjectRef| {
                bytes += pack.length;
                bytes <= READ_BYTES_MAX
            };
            let count = rest.iter().take(READ_PACKS_MAX).take_while(fits).count();
            let (now, later) = rest.split_at(count.max(1));
            rest = later;
            let whole = |pack: &ObjectRef| Read {
                pack: *pack,
                groups: LiveMap::full(u32::try_from(groups(pack.length)).unwrap_or(u32::MAX)),
            };
            let reads: Vec<Read> = now.iter().map(whole).collect();
            let slices = self.call(self.session.read(reads.clone()))?;
            if slices.len() != now.len() {
                return Err(self.wrong("packs"));
            }
            for (read, slice) in reads.iter().zip(slices) {
                let wrong = || self.wrong(format!("pack {}", read.pack.root));
                let selection =
                    Selection::of_map(read.pack.length, &read.groups).map_err(|_| wrong())?;
                let extents = decode_slice(&slice, &read.pack, &selection).map_err(|_| wrong())?;
                let mut extents = extents.into_inner();
                let extent = extents
                    .pop()
                    .filter(|_| extents.is_empty())
                    .ok_or_else(wrong)?;
                fetched.push(extent.bytes);
            }
        }
        Ok(fetched)
    }
}

/// [`PUT_BYTES`] as an index.
const PUT_LENGTH: usize = 1024 * 1024;
const _: () = assert!(PUT_LENGTH as u64 == PUT_BYTES);
