//! [`Engine`]: an open node, as the operations work on it.
//!
//! ```text
//!            node.sqlite          catalog.sqlite             journal/              providers
//!            names, seen roots    a view of the journal      sealed segments       sessions
//!                 |                      |                        |                    |
//!  sync    <- what was seen <----- take in records <------- fetch what is new <--- head, commit, nodes
//!  commit  -> candidate root ----> take in records -------> keep what was sealed -> packs, nodes, head move
//! ```
//!
//! Invariant: the catalog changes only by taking in records of acknowledged commits, so what a crash leaves behind is at most a catalog that
//! is some commits back, and the next [`Engine::sync`] brings it on.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use maimo_core::{
    id::{ChannelId, RootHash},
    identity::AuthPublicKey,
    reference::ObjectRef,
};
use maimo_net::{
    connect::{Connector, Load},
    service::ServiceError,
};
use maimo_vault::{
    candidate::ChannelView,
    commit::{Commit, StorePart},
    dictionary::Recent,
    keys::MasterSecret,
    name::PackNumber,
};
use rusqlite::Connection;

use crate::{
    catalog::{Catalog, Reader},
    clock::Clock,
    error::ClientError,
    home::Home,
    journal_cache::JournalCache,
    keys::{StoreKeys, channel_keys},
    node_state::{ChannelRow, NodeState},
    session::OpenChannel,
    spool::Spool,
};

/// An open node.
pub(crate) struct Engine {
    /// The store's secret.
    pub(crate) secret: Arc<MasterSecret>,
    /// What it derives for the whole store.
    pub(crate) keys: Arc<StoreKeys>,
    /// The precious small state.
    pub(crate) node: NodeState,
    /// The same file, for rows whose loss costs time and nothing else.
    pub(crate) lax: Connection,
    /// The view of the journal.
    pub(crate) catalog: Catalog,
    /// Sealed vital packs.
    pub(crate) journal: JournalCache,
    /// The way to providers.
    pub(crate) connector: Arc<dyn Connector>,
    /// The time.
    pub(crate) clock: Clock,
    /// Packs on their way.
    pub(crate) spool: Arc<Spool>,
    /// The channel without which the catalog could not be brought to what was acknowledged when the node was opened, and what it said.
    pub(crate) behind: Option<(String, ServiceError)>,
    /// Packs that turned out not to be held although the journal says so.
    pub(crate) not_held: HashSet<RootHash>,
    /// Channels that were connected to.
    pub(crate) open: Vec<Arc<OpenChannel>>,
    /// What channels showed when they were last read or moved.
    pub(crate) shown: BTreeMap<ChannelId, Shown>,
    /// Mirrors that cannot be worked with now.
    pub(crate) away: Arc<Away>,
    /// Vital packs that mirrors hold and that none of their heads names yet.
    pub(crate) ahead: BTreeMap<ChannelId, BTreeMap<PackNumber, ObjectRef>>,
    /// The channel that decides the commit which makes it the first, while that is made.
    pub(crate) deciding: Option<ChannelId>,
    /// Channels whose own branch of the store is merged into it: they may follow.
    pub(crate) merged: HashSet<ChannelId>,
    /// The small chunks that this process stored last, by which it is judged whether the store's dictionary still serves.
    pub(crate) recent: Arc<Mutex<Recent>>,
    /// The newest state of a branch that is being merged, a parent of the commit that does it.
    pub(crate) joined: Option<StorePart>,
    /// The home folder, locked. The last to go: whoever has it next finds folders that are providers let go of, too.
    pub(crate) home: Home,
}

/// Channels beside the first that did not answer or refused, why, and since when. They are let be for a while: each try may take its time.
#[derive(Default)]
pub(crate) struct Away(Mutex<BTreeMap<ChannelId, (ServiceError, Instant)>>);

impl Away {
    pub(crate) fn note(&self, channel: ChannelId, why: ServiceError) {
        self.all().insert(channel, (why, Instant::now()));
    }

    pub(crate) fn why(&self, channel: ChannelId) -> Option<ServiceError> {
        self.all().get(&channel).map(|(why, _)| why.clone())
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ChannelId, (ServiceError, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel's newest state as it was last read or made.
#[derive(Clone)]
pub(crate) struct Shown {
    /// Head, inventories and where the segments are.
    pub(crate) view: ChannelView,
    /// The commit; none before the first.
    pub(crate) commit: Option<Commit>,
}

impl Engine {
    /// Returns a reader of all that was acknowledged.
    ///
    /// # Errors
    ///
    /// As [`known`].
    pub(crate) fn known(&self) -> Result<Reader, ClientError> {
        known(self.catalog.reader()?, self.behind.as_ref())
    }

    /// Returns the channels of the layout, the first one first; the first one opened here where the store has not begun; none at all before.
    pub(crate) fn layout(&self) -> Result<Vec<ChannelId>, ClientError> {
        let mut channels = if let Some(layout) = self.catalog.reader()?.store_layout()? {
            layout.channels
        } else {
            let opened = self.node.channels()?;
            opened.first().map(|row| row.id).into_iter().collect()
        };
        if let Some(deciding) = self.deciding {
            channels.retain(|id| *id != deciding);
            channels.insert(0, deciding);
        }
        Ok(channels)
    }

    /// Returns the open channel that decides commits.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoChannel`] before the first was opened.
    pub(crate) fn first(&mut self) -> Result<Arc<OpenChannel>, ClientError> {
        let layout = self.layout()?;
        let first = layout.first().copied().ok_or_else(no_channel)?;
        self.channel(first)
    }

    /// Returns the layout's channels, open, the first one first.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoChannel`] before the first was opened, or that a provider does not answer.
    pub(crate) fn channels(&mut self) -> Result<Vec<Arc<OpenChannel>>, ClientError> {
        let layout = self.layout()?;
        if layout.is_empty() {
            return Err(no_channel());
        }
        layout.into_iter().map(|id| self.channel(id)).collect()
    }

    /// Returns the layout's channels that can be written to, the first one first: the others as far as they answer. One that does not is behind
    /// from then on, and catches up once it does.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoChannel`] before the first was opened, or that the first one's provider does not answer.
    pub(crate) fn answering(&mut self, load: Load) -> Result<Vec<Arc<OpenChannel>>, ClientError> {
        let layout = self.layout()?;
        let (first, others) = layout.split_first().ok_or_else(no_channel)?;
        let mut open = vec![self.channel_for(*first, load)?];
        for id in others {
            if self.away.why(*id).is_some() {
                continue;
            }
            match self.channel_for(*id, load) {
                Ok(channel) => open.push(channel),
                Err(ClientError::Provider { source, .. }) => self.away.note(*id, source),
                Err(error) => return Err(error),
            }
        }
        Ok(open)
    }

    /// Lets mirrors be tried again that have been away for so long, each by a new connection.
    pub(crate) fn try_mirrors_again(&mut self, after: Duration) {
        let mut away = self.away.all();
        let is_due = |id: &ChannelId| away.get(id).is_some_and(|(_, at)| at.elapsed() >= after);
        self.open.retain(|open| !is_due(&open.id));
        away.retain(|_, (_, at)| at.elapsed() < after);
    }

    /// Returns a channel, and connects to it if that is still to be done.
    pub(crate) fn channel(&mut self, id: ChannelId) -> Result<Arc<OpenChannel>, ClientError> {
        self.channel_for(id, Load::Light)
    }

    /// Returns a channel, open, that is about to be asked for little or much.
    pub(crate) fn channel_for(
        &mut self,
        id: ChannelId,
        load: Load,
    ) -> Result<Arc<OpenChannel>, ClientError> {
        if let Some(open) = self.open.iter().find(|open| open.id == id) {
            if load == Load::Heavy {
                open.session.expect_much();
            }
            return Ok(Arc::clone(open));
        }
        let mut row = self.channel_row(id)?;
        // Where another machine of the store has learned that the provider is. Folders are where this machine has them.
        if row.addresses.iter().all(|at| !at.starts_with("dir:")) {
            let known = self.catalog.reader()?.channels()?;
            let journal = known.into_iter().find(|(known, _)| *known == id);
            let others = journal.map(|(_, info)| info.addresses).unwrap_or_default();
            for address in others {
                if !row.addresses.contains(&address) && !address.starts_with("dir:") {
                    row.addresses.push(address);
                }
            }
        }
        self.connect(&row, load)
    }

    /// Returns what is known of a channel: what was opened here, else what the journal says of it.
    pub(crate) fn channel_row(&self, id: ChannelId) -> Result<ChannelRow, ClientError> {
        channel_row(&self.node, id, || Ok(self.catalog.reader()?))
    }

    /// Returns the channel of a name: one opened here, else one that the store calls so, and that this machine may not have reached yet.
    pub(crate) fn channel_called(&self, name: &str) -> Result<ChannelRow, ClientError> {
        let mut opened = self.node.channels()?.into_iter();
        if let Some(row) = opened.find(|row| row.name == name) {
            return Ok(row);
        }
        let mut known = self.catalog.reader()?.channels()?.into_iter();
        let known = known.find(|(_, info)| info.name == name);
        let (id, _) =
            known.ok_or_else(|| ClientError::NoChannel(format!("no channel is called {name}")))?;
        self.channel_row(id)
    }

    /// Connects to a channel's provider.
    pub(crate) fn connect(
        &mut self,
        row: &ChannelRow,
        load: Load,
    ) -> Result<Arc<OpenChannel>, ClientError> {
        let auth = auth_key(row)?;
        let (id, keys) = channel_keys(&self.secret, &auth);
        if id != row.id {
            return Err(ClientError::Corrupt(format!(
                "channel {} is not of this store's phrase",
                row.name
            )));
        }
        let reply = self
            .connector
            .connect(&row.addresses, auth, &keys.client, load);
        let session =
            futures_executor::block_on(reply).map_err(|source| ClientError::Provider {
                channel: row.name.clone(),
                source,
            })?;
        let channel = Arc::new(OpenChannel {
            id,
            name: row.name.clone(),
            addresses: row.addresses.clone(),
            auth,
            keys,
            session,
        });
        self.open.retain(|open| open.id != id);
        self.open.push(Arc::clone(&channel));
        if load != Load::Unknown {
            self.reached(id);
        }
        Ok(channel)
    }

    /// Notes that a channel's provider has answered today.
    pub(crate) fn reached(&self, id: ChannelId) {
        // A full disk must not keep anyone from what is to be retrieved: a day that is not noted is all that is lost.
        let _ = self.node.reached(id, self.clock.now().day());
    }

    /// Returns what a channel showed when it was last read or moved by this process.
    pub(crate) fn view(&self, id: ChannelId) -> Option<&ChannelView> {
        self.shown.get(&id).map(|shown| &shown.view)
    }
}

/// Returns the reader if it sees all that was acknowledged.
///
/// # Errors
///
/// A catalog that was lost and not yet made anew, because its provider is away: an empty list would be a lie.
pub(crate) fn known(
    reader: Reader,
    behind: Option<&(String, ServiceError)>,
) -> Result<Reader, ClientError> {
    if let Some((channel, source)) = behind
        && reader.position()?.sequence == 0
    {
        return Err(ClientError::Provider {
            channel: channel.clone(),
            source: source.clone(),
        });
    }
    Ok(reader)
}

/// Returns what is known of a channel: what was opened here, else what the journal says of it.
pub(crate) fn channel_row(
    node: &NodeState,
    id: ChannelId,
    reader: impl FnOnce() -> Result<Reader, ClientError>,
) -> Result<ChannelRow, ClientError> {
    let opened = node.channels()?.into_iter().find(|row| row.id == id);
    if let Some(row) = opened {
        return Ok(row);
    }
    let known = reader()?.channels()?;
    let known = known.into_iter().find(|(known, _)| *known == id);
    let (_, info) = known.ok_or_else(no_channel)?;
    Ok(ChannelRow {
        id,
        auth: info.auth,
        name: info.name,
        addresses: info.addresses,
        list: 0,
    })
}

/// Reads the auth key of a channel that was written down.
pub(crate) fn auth_key(row: &ChannelRow) -> Result<AuthPublicKey, ClientError> {
    AuthPublicKey::from_bytes(&row.auth)
        .map_err(|_| ClientError::Corrupt(format!("the auth key of channel {} is none", row.name)))
}

fn no_channel() -> ClientError {
    ClientError::NoChannel("no channel is open".to_owned())
}
