//! The rows of one channel as the rules of custody see them.

use maimo_core::{
    custody::{Freeing, HeldPack, Hold, Unavailable, View},
    reference::ObjectRef,
};

use super::{ChannelNumber, LedgerError, Rows};

/// One channel's rows. What went wrong in reading them is kept, for the rules only learn that something did.
pub(crate) struct ChannelView<'a> {
    rows: &'a dyn Rows,
    channel: ChannelNumber,
    error: core::cell::RefCell<Option<LedgerError>>,
}

impl<'a> ChannelView<'a> {
    pub(crate) fn new(rows: &'a dyn Rows, channel: ChannelNumber) -> Self {
        let error = core::cell::RefCell::default();
        Self {
            rows,
            channel,
            error,
        }
    }

    /// Returns what went wrong.
    pub(crate) fn into_error(self) -> Option<LedgerError> {
        self.error.into_inner()
    }

    fn keep(&self, error: LedgerError) -> Unavailable {
        self.error.borrow_mut().get_or_insert(error);
        Unavailable
    }
}

impl View for ChannelView<'_> {
    fn pack(&self, pack: &ObjectRef) -> Result<Option<HeldPack>, Unavailable> {
        let found = self.rows.pack(self.channel, pack);
        Ok(found.map_err(|error| self.keep(error))?.map(|row| row.held))
    }

    fn node(&self, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>, Unavailable> {
        let found = self.rows.node(self.channel, node);
        found.map_err(|error| self.keep(error))
    }

    fn frees(&self) -> Result<Vec<Freeing>, Unavailable> {
        let found = self.rows.frees(self.channel);
        found.map_err(|error| self.keep(error))
    }
}
