//! Reading packs for a client: only what its rows say is held.

use std::sync::Arc;

use maimo_core::{audit::AuditSource, live_map::LiveMap, reference::ObjectRef, verify::Selection};
use maimo_net::service::ServiceError;

use super::{ClientSession, Result};
use crate::{
    error::of_volume,
    ledger::{ChannelRow, Rows},
    volume::{PackFile, VolumeId},
};

const NOT_HELD: ServiceError = ServiceError::NotHeld { what: "a pack" };

impl ClientSession {
    /// Returns on which volumes packs are, all of whose groups asked for are held.
    pub(super) fn places<'a>(
        &self,
        asked: impl Iterator<Item = (&'a ObjectRef, &'a LiveMap)>,
    ) -> Result<Vec<VolumeId>> {
        let found = self.read_rows(|rows, channel| {
            let mut places = Vec::new();
            for (pack, groups) in asked {
                let row = rows.pack(channel.number, pack)?;
                let row = row.filter(|row| row.held.held().contains_all(groups));
                let Some(row) = row else {
                    return Ok(Err(NOT_HELD));
                };
                places.push(row.volume);
            }
            Ok(Ok(places))
        })?;
        found.unwrap_or(Err(NOT_HELD))
    }

    /// Opens a pack's file on a volume.
    pub(super) fn open_pack(&self, place: VolumeId, pack: &ObjectRef) -> Result<Arc<PackFile>> {
        let volume = self.inner.volumes.mounted(place);
        let volume = volume.ok_or_else(|| ServiceError::Unavailable {
            detail: "the volume of a pack is not mounted".to_owned(),
        })?;
        volume
            .pack(self.channel, pack)
            .map_err(|error| match error {
                // The rows say that it is held: what is missing is lost.
                crate::volume::VolumeError::NotHeld => ServiceError::Damaged {
                    what: "a pack",
                    detail: "its file is missing".to_owned(),
                },
                error => of_volume(&error, "a pack"),
            })
    }
}

/// What an audit is answered from: rows of one state of the ledger, and files.
pub(super) struct Source<'a> {
    pub(super) session: &'a ClientSession,
    pub(super) rows: &'a dyn Rows,
    pub(super) channel: &'a ChannelRow,
    /// Why some slice cannot be given now, though it may be there: then there is no answer, or it would be taken for a loss.
    pub(super) unserved: Option<ServiceError>,
}

impl AuditSource for Source<'_> {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        let found = self.rows.node(self.channel.number, node).ok()??;
        Some(found.0)
    }

    fn slice(&mut self, pack: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        let row = self.rows.pack(self.channel.number, pack).ok()??;
        let opened = self.session.open_pack(row.volume, pack);
        if let Err(error @ ServiceError::Unavailable { .. }) = opened {
            self.unserved.get_or_insert(error);
            return None;
        }
        let file = opened.ok()?;
        let mut slice = Vec::new();
        file.slice_as_is(blocks, &mut slice).ok()?;
        Some(slice)
    }
}
