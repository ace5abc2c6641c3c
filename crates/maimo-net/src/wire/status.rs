//! What a provider says of a channel.

use maimo_core::{
    clock::Timestamp,
    codec::{ParseError, Put as _, Reader},
    custody::{Terms, Totals},
    id::RootHash,
    receipt::LedgerInstance,
};

use crate::service::ChannelStatus;

impl ChannelStatus {
    /// How many bytes it takes at most.
    pub const LENGTH_MAX: usize = Terms::LENGTH_MAX + Totals::LENGTH + 32 + 8 + 16 + 8;

    /// Returns terms, totals, root, sequence number, ledger instance and time as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH_MAX);
        self.terms.encode(&mut out);
        self.totals.encode(&mut out);
        out.put(self.root.as_bytes());
        out.put_u64(self.sequence);
        out.put(&self.instance.0);
        out.put_u64(self.now.0);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let status = Self {
            terms: Terms::parse(&mut reader)?,
            totals: Totals::parse(&mut reader)?,
            root: RootHash(reader.array("root")?),
            sequence: reader.u64("sequence number")?,
            instance: LedgerInstance(reader.array("ledger instance")?),
            now: Timestamp(reader.u64("time")?),
        };
        reader.finish()?;
        Ok(status)
    }
}
