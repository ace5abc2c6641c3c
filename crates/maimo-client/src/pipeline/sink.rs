//! [`StoreSink`]: where a store's packs and records go, and what it need not make again.

use std::sync::Arc;

use maimo_vault::{
    dictionary::Dictionary,
    journal::record::Record,
    name::{ChunkId, ChunkRef, PackNumber, RecordId},
    pack::{PackBuilder, Piece},
};

use crate::{error::ClientError, local_stat::LocalStat};

/// What a run hands over, in this order for each record: the packs its chunks are in, then the record. One thread calls it.
///
/// The run's own records (begin and end, source, packs, dictionaries) are the implementor's to add.
pub trait StoreSink {
    /// Returns the look-up of chunks that need not be stored again; asked from several threads, for as long as the run lasts.
    fn known(&self) -> Arc<dyn KnownChunks>;

    /// Returns the store sequence that the next commit is made for, if no other device is faster: what repeated records are stamped with.
    fn as_of(&self) -> u64;

    /// Gives the next record counter, durably.
    fn next_record(&mut self) -> Result<RecordId, ClientError>;

    /// Gives the next pack number, durably.
    fn next_pack(&mut self) -> Result<PackNumber, ClientError>;

    /// Called before the first chunk goes into a pack: the run is too much for the tail. What it ends with ends the run.
    fn outgrown(&mut self) -> Result<(), ClientError> {
        Ok(())
    }

    /// Called once a run is at [`Load::HEAVY_BYTES`](maimo_net::connect::Load::HEAVY_BYTES): there is much to be sent before long.
    fn much(&mut self) {}

    /// Takes a filled data pack, its repeated records set; to be sealed and uploaded behind the caller's back, bounded.
    fn seal(&mut self, builder: PackBuilder) -> Result<(), ClientError>;

    /// Takes a newly trained dictionary, which becomes vital: it is committed no later than the first record that needs it. It is to be
    /// prepared for `level`, and named by the store's dictionary id key.
    fn dictionary(&mut self, bytes: Vec<u8>) -> Result<Arc<Dictionary>, ClientError>;

    /// Takes a record of a path: a revision, with what this machine knows beside it, or an event. Record ids ascend.
    fn record(
        &mut self,
        id: RecordId,
        record: Record,
        local: Option<LocalStat>,
    ) -> Result<(), ClientError>;

    /// Takes that the newest revision `id` of a path, which stays as it is, was found with another inode or ctime than is known, or that
    /// nothing was known.
    fn refresh(&mut self, id: RecordId, local: LocalStat) -> Result<(), ClientError>;

    /// Called where a commit is due: every chunk of every record so far is in a pack that was handed over, or was known.
    ///
    /// From its return on, [`KnownChunks::find`] should know the chunks of all packs handed over; one that it does not is stored again.
    fn checkpoint(&mut self) -> Result<(), ClientError>;

    /// Takes what is too little for a pack, at the end of the run: its chunks may ride in the tail with the records since the last
    /// checkpoint ([`maimo_vault::compose::Draft::small`]), or are written into a pack, references turned. Its records are not set.
    fn piece(&mut self, piece: Piece) -> Result<(), ClientError>;
}

/// Which chunks are known and live on every channel.
pub trait KnownChunks: Send + Sync {
    /// Returns where a content chunk is.
    fn find(&self, id: &ChunkId) -> Option<ChunkRef>;
}
