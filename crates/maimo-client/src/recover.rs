//! Recovery: from the phrase and a provider's address to a working node.
//!
//! ```text
//! address -> who answers (proves nothing) -> keys -> head, signed by them -> commit -> journal -> catalog
//!         -> the other channels that the journal names -> which shows the newest -> where the chunks of all packs stand
//! ```
//!
//! What comes out is the newest state that these providers show. Only the root that its owner kept, or what another channel witnessed, says
//! that there is no newer one; the report says which of them did.

use std::{collections::BTreeMap, sync::Arc};

use futures_executor::block_on;
use maimo_core::{clock::Timestamp, id::RootHash, reference::ObjectRef};
use maimo_net::connect::Load;
use maimo_vault::{
    commit::StorePart,
    pack::PackKind,
    recover::{Confirmed, Shown, choose},
};

use crate::{
    channel::name_of,
    engine::Engine,
    error::ClientError,
    keys::channel_keys,
    node_state::ChannelRow,
    progress::{Control, Event, Phase},
    session::OpenChannel,
};

mod from_packs;
pub(crate) mod layouts;

use layouts::AT_ONCE;

/// Where so many chunks stand is written down at a time.
const CHUNKS_AT_ONCE: usize = 1 << 16;

/// Where to recover from.
#[derive(Debug, Clone)]
pub struct RecoverRequest {
    /// Where a provider of the store is: `dir:` and an absolute path for a folder.
    pub address: String,
    /// The 32 bytes that were kept, if they were.
    pub root: Option<RootHash>,
    /// Whether to do without the journal, which is lost or damaged: files are rebuilt from what their packs repeat of it, and a new journal is
    /// begun.
    pub from_packs: bool,
}

/// What was recovered.
#[derive(Debug, Clone)]
pub struct RecoverReport {
    /// The store sequence.
    pub sequence: u64,
    /// The root of the channel that showed it.
    pub root: RootHash,
    /// That channel's name.
    pub channel: String,
    /// When that state was made, as its maker said.
    pub time: Timestamp,
    /// How many files are known.
    pub files: u64,
    /// What vouches that there is no newer state.
    pub confirmed: Confirmed,
    /// Channels that show less than another channel has seen of them.
    pub behind: Vec<String>,
    /// Data packs that could not be read, where the journal was done without: what only they told is lost.
    pub unreadable: u64,
}

impl Engine {
    pub(crate) fn recover(
        &mut self,
        request: &RecoverRequest,
        control: &Control,
    ) -> Result<RecoverReport, ClientError> {
        control.tell(Event::Phase(Phase::Recovering));
        let given = self.find(&request.address)?;
        if request.from_packs {
            return self.recover_from_packs(&given, request.root, control);
        }
        let mut shown = BTreeMap::new();
        let part = self.show(&given)?.ok_or_else(|| ClientError::Input {
            message: "this provider holds nothing of this phrase".to_owned(),
            hint: Some("is it the right address, and are the words the right ones?"),
        })?;
        shown.insert(given.id, part);
        // Known by the head that our own key has signed: only now is anything written down.
        self.keep_channel(&given)?;
        self.bring(&given, control)?;
        let given = self.called_as_ever(given)?;

        // One channel leads to the others.
        let known = self.catalog.reader()?.channels()?;
        for (id, info) in known {
            if info.closed || id == given.id {
                continue;
            }
            control.check()?;
            let row = ChannelRow {
                id,
                auth: info.auth,
                name: info.name,
                addresses: info.addresses,
                list: 0,
            };
            let other = self.connect(&row, Load::Light).and_then(|channel| {
                let part = self.show(&channel)?;
                Ok((channel, part))
            });
            match other {
                Ok((channel, part)) => {
                    shown.extend(part.map(|part| (channel.id, part)));
                    self.keep_channel(&channel)?;
                }
                Err(error @ ClientError::Provider { .. }) => {
                    control.tell(Event::Notice(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        let choice = choose(&shown, request.root);
        let choice = choice.ok_or_else(|| ClientError::Bug("nothing is shown".to_owned()))?;
        let newest = self.channel(choice.channel)?;
        // The catalog takes in what the deciding channel shows last.
        self.bring(&newest, control)?;
        self.read_layouts(&newest, control)?;

        let view = self.view(newest.id);
        let head = view.and_then(|view| view.head.as_ref());
        let time = head.map_or(Timestamp(0), |head| head.head().time);
        let name = |id| self.channel_row(id).map(|row| row.name);
        let behind = choice.behind.iter().map(|behind| name(behind.channel));
        let reader = self.catalog.reader()?;
        let totals = reader.totals()?;
        Ok(RecoverReport {
            sequence: reader.position()?.sequence,
            root: view.map_or(RootHash::NONE, maimo_vault::candidate::ChannelView::root),
            channel: name(newest.id)?,
            time,
            files: totals.files_present + totals.files_evicted,
            confirmed: choice.confirmed,
            behind: behind.collect::<Result<_, _>>()?,
            unreadable: 0,
        })
    }

    /// Connects to whoever answers at an address.
    fn find(&mut self, address: &str) -> Result<Arc<OpenChannel>, ClientError> {
        let name = name_of(address);
        let auth =
            block_on(self.connector.identify(address)).map_err(|source| ClientError::Provider {
                channel: name.clone(),
                source,
            })?;
        let (id, _) = channel_keys(&self.secret, &auth);
        let known = self.node.channels()?.into_iter().find(|row| row.id == id);
        let row = ChannelRow {
            id,
            auth: *auth.as_bytes(),
            name: known.map_or(name, |row| row.name),
            addresses: vec![address.to_owned()],
            list: 0,
        };
        self.connect(&row, Load::Light)
    }

    /// Gives a channel the name that the store has for it, and not one made up of the address, if no other here is called so.
    fn called_as_ever(&mut self, given: Arc<OpenChannel>) -> Result<Arc<OpenChannel>, ClientError> {
        let known = self.catalog.reader()?.channels()?.into_iter();
        let mut known = known.filter(|(id, info)| *id == given.id && !info.name.is_empty());
        let Some((_, info)) = known.next().filter(|(_, info)| info.name != given.name) else {
            return Ok(given);
        };
        let rows = self.node.channels()?;
        let is_taken = rows.iter().any(|row| row.name == info.name);
        let Some(row) = rows.into_iter().find(|row| row.id == given.id && !is_taken) else {
            return Ok(given);
        };
        let row = ChannelRow {
            name: info.name,
            ..row
        };
        self.node.put_channel(&row)?;
        let (_, keys) = channel_keys(&self.secret, &given.auth);
        let named = Arc::new(OpenChannel {
            id: row.id,
            name: row.name,
            addresses: row.addresses,
            auth: given.auth,
            keys,
            session: Arc::clone(&given.session),
        });
        self.open.retain(|open| open.id != named.id);
        self.open.push(Arc::clone(&named));
        Ok(named)
    }

    /// Reads what a channel shows; nothing where it has no head.
    fn show(&mut self, channel: &OpenChannel) -> Result<Option<Shown>, ClientError> {
        self.read_channel(channel)?;
        let shown = self.shown.get(&channel.id);
        Ok(shown.and_then(|shown| {
            let store: StorePart = shown.commit.as_ref()?.store.clone();
            Some(Shown {
                sequence: shown.view.sequence(),
                root: shown.view.root(),
                store,
            })
        }))
    }

    fn keep_channel(&mut self, channel: &OpenChannel) -> Result<(), ClientError> {
        let known = self.node.channels()?;
        let known = known.into_iter().find(|row| row.id == channel.id);
        let mut row = ChannelRow {
            id: channel.id,
            auth: *channel.auth.as_bytes(),
            name: channel.name.clone(),
            addresses: channel.addresses.clone(),
            list: 0,
        };
        if let Some(known) = known {
            // It answered where it was looked for; what its list said is not forgotten for that.
            row.list = known.list;
            let others = known.addresses.into_iter();
            let others: Vec<String> = others.filter(|at| !row.addresses.contains(at)).collect();
            row.addresses.extend(others);
        }
        self.node.put_channel(&row)?;
        if channel.session.appetite().is_remote {
            // The list tells all the addresses of a provider of which one was given.
            self.ask_addresses(channel)?;
        }
        Ok(())
    }

    /// Brings the catalog to what a channel shows.
    fn bring(&mut self, channel: &OpenChannel, control: &Control) -> Result<(), ClientError> {
        let shown = self.shown.get(&channel.id);
        let Some(commit) = shown.and_then(|shown| shown.commit.clone()) else {
            return Ok(());
        };
        self.catch_up(&channel.id, &commit, Some(channel), control)?;
        Ok(())
    }

    /// Reads where the chunks of a channel's data packs stand, as far as that is not known: dedup and letting go want it.
    pub(crate) fn read_layouts(
        &mut self,
        channel: &OpenChannel,
        control: &Control,
    ) -> Result<(), ClientError> {
        let reader = self.catalog.reader()?;
        let mut missing: Vec<ObjectRef> = Vec::new();
        if let Some(view) = self.view(channel.id) {
            // Vital packs have none, and are in no view of data.
            let unknown = reader.packs_without_layout(channel.id)?.into_iter();
            missing.extend(
                unknown
                    .map(|(_, pack)| pack)
                    .filter(|pack| view.live(pack).is_some()),
            );
        }
        drop(reader);
        if missing.is_empty() {
            return Ok(());
        }
        control.tell(Event::Total {
            files: missing.len() as u64,
            bytes: 0,
        });
        let mut done = 0;
        for some in missing.chunks(AT_ONCE) {
            control.check()?;
            let (mut read, mut chunks) = (Vec::new(), 0);
            let catalog = &mut self.catalog;
            layouts::each_table(channel, PackKind::Data, some, |table| {
                chunks += table.layout.entries().len();
                read.push(table.layout);
                // The chunks of many packs take more than all else here.
                if chunks >= CHUNKS_AT_ONCE {
                    catalog.put_layouts(&core::mem::take(&mut read))?;
                    chunks = 0;
                }
                Ok(())
            })?;
            self.catalog.put_layouts(&read)?;
            done += some.len() as u64;
            control.tell(Event::Done {
                files: done,
                bytes: 0,
            });
        }
        Ok(())
    }
}
