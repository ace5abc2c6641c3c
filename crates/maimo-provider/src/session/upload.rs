//! Taking packs in: room first, then ranges, then the whole.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use maimo_core::{
    codec::{ObjectType, Prelude, Reader},
    custody::PackClass,
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};
use maimo_net::service::{PUT_BYTES, Put, PutReply, ServiceError};

use super::{ClientSession, Result, bad};
use crate::{
    error::of_volume,
    group_commit::Durability,
    ledger::{
        changes::{self, Beginning},
        entry::Change,
    },
    provider::now,
    volume::{Incoming, VolumeError, VolumeId},
};

/// How many packs may be open that are coming in, of all clients; beyond it those that nobody is sending are closed.
const COMING_MAX: usize = 128;
/// By how much room must have to be kept longer before that is written down.
const RENEW_AFTER: Duration = Duration::from_hours(1);

/// A pack that is coming in, as far as this process has opened it.
#[derive(Default)]
pub(crate) struct Coming {
    open: Option<Open>,
}

struct Open {
    incoming: Incoming,
    volume: VolumeId,
}

const HELD: PutReply = PutReply {
    missing: Vec::new(),
};

impl ClientSession {
    pub(super) fn put_now(&self, put: &Put) -> Result<PutReply> {
        check_range(put)?;
        let coming = self.coming(put.pack);
        let mut coming = lock(&coming);
        if coming.open.is_none() {
            match self.begin(put.pack, put.class)? {
                None => return Ok(HELD),
                Some(volume) => {
                    let incoming = self.open_incoming(volume, put.pack)?;
                    coming.open = Some(Open { incoming, volume });
                }
            }
        }
        let Some(open) = &coming.open else {
            return Err(bad("the pack is not coming in"));
        };
        if !put.bytes.is_empty() {
            open.incoming
                .put(put.offset, &put.bytes)
                .map_err(|error| of_volume(&error, "a pack"))?;
        }
        let missing = open.incoming.missing();
        if !missing.is_empty() {
            return Ok(PutReply { missing });
        }
        if let Some(open) = coming.open.take() {
            self.finish(open, put.pack, put.class)?;
        }
        drop(coming);
        self.forget(put.pack);
        Ok(HELD)
    }

    /// Takes room for a pack, or finds that this was done; returns to which volume it goes, nothing if it is held already.
    fn begin(&self, pack: ObjectRef, class: PackClass) -> Result<Option<VolumeId>> {
        let place = self.inner.place(pack.length);
        self.change(move |batch, row| {
            let (log, channel, at) = (row.log, row.state.channel, now());
            if let Some(upload) = batch.rows.upload(row.number, &pack)? {
                if upload.upload.class != class {
                    return Ok(Err(maimo_core::custody::UploadRefusal::WrongClass.into()));
                }
                let expires = upload.upload.clone().renewed(at).expires;
                if expires.since(upload.upload.expires) > RENEW_AFTER {
                    changes::renew(batch.rows, &row, &pack, at)?;
                    let change = Change::UploadRenewed { pack };
                    batch.record(log, channel, &change, at, Durability::Lazy);
                }
                return Ok(Ok(Some(upload.volume)));
            }
            let volume = match place {
                Ok(volume) => volume,
                Err(full) => {
                    // What is held needs no place.
                    let held = batch.rows.pack(row.number, &pack)?;
                    match held.filter(|held| held.held.held().is_full()) {
                        Some(held) => held.volume,
                        None => return Ok(Err(full)),
                    }
                }
            };
            let begun = changes::begin(batch.rows, row, pack, class, volume, at)?;
            Ok(match begun {
                Err(refusal) => Err(refusal.into()),
                Ok(Beginning::Held { is_changed }) => {
                    if is_changed {
                        let change = Change::PackRenewed { pack, class };
                        batch.record(log, channel, &change, at, Durability::Lazy);
                    }
                    Ok(None)
                }
                Ok(Beginning::Started) => {
                    let change = Change::UploadBegun {
                        pack,
                        class,
                        volume,
                    };
                    batch.record(log, channel, &change, at, Durability::Lazy);
                    Ok(Some(volume))
                }
            })
        })
    }

    fn open_incoming(&self, volume: VolumeId, pack: ObjectRef) -> Result<Incoming> {
        let mounted = self.inner.volumes.mounted(volume);
        let mounted = mounted.ok_or_else(|| ServiceError::Unavailable {
            detail: "the volume that the pack was to go to is not mounted".to_owned(),
        })?;
        let incoming = mounted.incoming(self.channel, pack);
        incoming.map_err(|error| match error {
            VolumeError::Busy => ServiceError::Busy(Duration::from_millis(100)),
            error => of_volume(&error, "a pack"),
        })
    }

    /// Makes a pack held all of which came in.
    fn finish(&self, open: Open, pack: ObjectRef, class: PackClass) -> Result<()> {
        let Open { incoming, volume } = open;
        // Nothing may be punched or removed by the old row between the file and the new one.
        let files = self.inner.files.read();
        let files = files.unwrap_or_else(PoisonError::into_inner);
        incoming
            .finish()
            .map_err(|error| of_volume(&error, "a pack"))?;
        // A revocation since it began leaves it be: its file is in place, and freed with all others.
        let done = self.change_even_revoked(move |batch, row| {
            let (log, channel, number, at) = (row.log, row.state.channel, row.number, now());
            if let Some(other) = changes::finish(batch.rows, row, pack, class, volume, at)? {
                batch.rows.put_punch(number, &pack, other)?;
            }
            let change = Change::PackHeld {
                pack,
                class,
                volume,
            };
            // The file itself says that it is there, after a power cut too.
            batch.record(log, channel, &change, at, Durability::Lazy);
            Ok(Ok(()))
        });
        drop(files);
        done
    }

    fn coming(&self, pack: ObjectRef) -> Arc<Mutex<Coming>> {
        let mut all = lock(&self.inner.coming);
        if all.len() >= COMING_MAX {
            // What nobody holds is opened again from its file when its client goes on.
            all.retain(|_, coming| Arc::strong_count(coming) > 1);
        }
        Arc::clone(all.entry((self.channel, pack)).or_default())
    }

    fn forget(&self, pack: ObjectRef) {
        let mut all = lock(&self.inner.coming);
        let key = (self.channel, pack);
        // The map's and the caller's own; a third is another caller's, who then finds that the pack is held.
        if all
            .get(&key)
            .is_some_and(|coming| Arc::strong_count(coming) <= 2)
        {
            all.remove(&key);
        }
    }
}

/// Returns an error unless the range is one that a pack of that length has, and the first says what the pack's class says.
fn check_range(put: &Put) -> Result<()> {
    let (length, found) = (put.pack.length, put.bytes.len() as u64);
    if length > PACK_BYTES_MAX {
        return Err(bad("a pack is too long"));
    }
    if found == 0 {
        return Ok(());
    }
    if !put.offset.is_multiple_of(PUT_BYTES) || put.offset >= length {
        return Err(bad("a range begins where none does"));
    }
    if found != PUT_BYTES.min(length - put.offset) {
        return Err(bad("a range is not as long as it must be"));
    }
    if put.offset > 0 {
        return Ok(());
    }
    let object_type = match put.class {
        PackClass::Data => ObjectType::DataPack,
        PackClass::Vital => ObjectType::VitalPack,
    };
    match Prelude::parse(&mut Reader::new(&put.bytes), object_type) {
        Ok(_) => Ok(()),
        Err(error) => Err(super::not_allowed(error)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whatever a panic interrupted is taken up again from the files.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
