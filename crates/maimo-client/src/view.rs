//! [`View`]: what an open node knows, looked at beside whatever it is doing.
//!
//! It has connections of its own to the catalog and to the node's state, reads what was acknowledged when it looks, and writes nothing that
//! anybody else relies on. A [`Viewer`] opens one for each who wants to look; it works for as long as the node is open.

use std::{fs, path::PathBuf, sync::Arc};

use maimo_core::id::ChannelId;
use maimo_net::service::ServiceError;
use maimo_vault::{commit::Commit, keys::MasterSecret, name::SourceId};

use crate::{
    catalog::{Catalog, Reader},
    engine,
    error::ClientError,
    keys::channel_keys,
    mirror::Role,
    node_state::NodeState,
};

/// Opens views of one node. It can be sent to another thread; clones are of the same node.
#[derive(Clone)]
pub struct Viewer {
    catalog: PathBuf,
    state: PathBuf,
    spool: PathBuf,
    secret: Arc<MasterSecret>,
    /// Without which channel the catalog could not be made anew, where it was lost.
    behind: Option<(String, ServiceError)>,
}

/// What a node knows.
pub struct View {
    catalog: PathBuf,
    spool: PathBuf,
    node: NodeState,
    secret: Arc<MasterSecret>,
    behind: Option<(String, ServiceError)>,
}

impl Viewer {
    pub(crate) const fn new(
        catalog: PathBuf,
        state: PathBuf,
        spool: PathBuf,
        secret: Arc<MasterSecret>,
        behind: Option<(String, ServiceError)>,
    ) -> Self {
        Self {
            catalog,
            state,
            spool,
            secret,
            behind,
        }
    }

    /// Opens a view.
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn look(&self) -> Result<View, ClientError> {
        Ok(View {
            catalog: self.catalog.clone(),
            spool: self.spool.clone(),
            node: NodeState::open(&self.state)?,
            secret: Arc::clone(&self.secret),
            behind: self.behind.clone(),
        })
    }
}

impl View {
    /// Returns this machine.
    pub(crate) const fn source(&self) -> SourceId {
        self.node.source()
    }

    /// Returns the node's state, to be read.
    pub(crate) const fn node(&self) -> &NodeState {
        &self.node
    }

    /// Returns a reader of the catalog as it is now.
    pub(crate) fn reader(&self) -> Result<Reader, ClientError> {
        Ok(Catalog::reader_at(&self.catalog)?)
    }

    /// Returns a reader of all that was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`engine::known`].
    pub(crate) fn known(&self) -> Result<Reader, ClientError> {
        engine::known(self.reader()?, self.behind.as_ref())
    }

    /// Returns what a channel is to the store.
    pub(crate) fn role(&self, id: ChannelId) -> Result<Role, ClientError> {
        let channels = match self.reader()?.store_layout()? {
            Some(layout) => layout.channels,
            None => self
                .node
                .channels()?
                .iter()
                .map(|row| row.id)
                .take(1)
                .collect(),
        };
        Ok(match channels.iter().position(|known| *known == id) {
            Some(0) => Role::First,
            Some(_) => Role::Mirror,
            None => Role::Unused,
        })
    }

    /// Returns how many commits a mirror is behind the newest state known, by what was last seen of it; 0 of other channels.
    pub(crate) fn behind(&self, id: ChannelId) -> Result<u64, ClientError> {
        if self.role(id)? != Role::Mirror {
            return Ok(0);
        }
        let reader = self.reader()?;
        let sequence = reader.position()?.sequence;
        let Some(row) = self.node.seen(id)? else {
            return Ok(sequence);
        };
        let channel = engine::channel_row(&self.node, id, || Ok(reader))?;
        let (_, keys) = channel_keys(&self.secret, &engine::auth_key(&channel)?);
        let commit = Commit::open(&row.commit, &keys.commit)
            .map_err(|error| ClientError::Corrupt(error.to_string()))?;
        Ok(sequence.saturating_sub(commit.store.sequence))
    }

    /// Returns how many bytes of packs are sealed and not sent yet. What cannot be read counts nothing.
    pub fn spool_bytes(&self) -> u64 {
        let entries = fs::read_dir(&self.spool).into_iter().flatten().flatten();
        entries
            .filter_map(|it| it.metadata().ok())
            .map(|it| it.len())
            .sum()
    }

    /// Makes names quick to be found by, unless someone is writing.
    pub(crate) fn index_names(&self) -> Result<(), ClientError> {
        Ok(Catalog::index_names_beside(&self.catalog)?)
    }
}
