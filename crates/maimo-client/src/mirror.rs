//! Mirrors: a store on several channels, each of which has all of it.
//!
//! The layout's first channel decides every commit; the others follow (`commit::follow`). What a mirror lacks is computed from the journal and from
//! what it shows, never queued: packs are sealed for it anew (`supply`) and recorded portion by portion, then its head moves. So whatever
//! interrupts this, the next attempt goes on where it was.

use std::{sync::Arc, time::Duration};

use maimo_core::id::{ChannelId, RootHash};
use maimo_net::{connect::Load, service::ServiceError};
use maimo_vault::{commit::Commit, journal::record::Record, layout::Layout};

use crate::{
    client::Client,
    commit::Followed,
    engine::Engine,
    error::ClientError,
    node_state::ChannelRow,
    progress::{Control, Event, Phase},
    session::OpenChannel,
};

mod first;
mod join;

/// How often a mirror is given what it lacks before it counts as behind: its provider may free what was sent long ago, or another device prune.
const ATTEMPTS: u32 = 4;

/// What a channel is to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its answer decides whether a state of the store is acknowledged.
    First,
    /// It has everything, too.
    Mirror,
    /// Nothing of the store is on it.
    Unused,
}

/// A mirror that does not show the newest state.
#[derive(Debug, Clone)]
pub struct Behind {
    /// Its name.
    pub channel: String,
    /// How many commits it is behind.
    pub commits: u64,
    /// What keeps it, if that is known.
    pub why: Option<ServiceError>,
}

impl Behind {
    /// Returns what there is to say of it, as a clause.
    pub fn text(&self) -> String {
        let commits = match self.commits {
            1 => "1 commit".to_owned(),
            commits => format!("{commits} commits"),
        };
        match &self.why {
            Some(why) => format!("channel {} is behind by {commits}: {why}", self.channel),
            None => format!("channel {} is behind by {commits}", self.channel),
        }
    }
}

/// How a store is spread.
#[derive(Debug, Clone, Default)]
pub struct MirrorReport {
    /// The layout's channels, the first one first, with the root last seen of each.
    pub channels: Vec<(String, RootHash)>,
    /// The mirrors that are behind.
    pub behind: Vec<Behind>,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes read from channels to be sent to others.
    pub bytes_received: u64,
    /// The store's sequence.
    pub sequence: u64,
}

impl Client {
    /// Keeps the store on both channels from now on, and gives the new one all that the other has. Interrupted, it is finished by calling it again,
    /// or by [`Self::catch_up_mirrors`].
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn mirror(client: &mut Client) -> Result<(), ClientError> {
    /// let report = client.mirror("home", "office", &Control::default())?;
    /// assert!(report.behind.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A name that no channel has; that neither channel has the store; that a provider does not answer or refuses.
    pub fn mirror(
        &mut self,
        one: &str,
        other: &str,
        control: &Control,
    ) -> Result<MirrorReport, ClientError> {
        self.engine.mirror(one, other, control)
    }

    /// Keeps the store no longer on a channel, which is not to be the first. Nothing is deleted there; [`Self::close_channel`] then forgets it.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn unmirror(client: &mut Client) -> Result<(), ClientError> {
    /// client.unmirror("office", &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A name that no channel has; that the store is not on it; that it is the first; whatever keeps a commit from being made.
    pub fn unmirror(&mut self, name: &str, control: &Control) -> Result<MirrorReport, ClientError> {
        self.engine.unmirror(name, control)
    }

    /// Gives every mirror what it lacks, as far as they answer: upkeep, for whoever keeps a store.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn catch_up(client: &mut Client) -> Result<(), ClientError> {
    /// for behind in client.catch_up_mirrors(&Control::default())?.behind {
    ///     eprintln!("{}", behind.text());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That the first channel does not answer. What keeps a mirror behind is in the report.
    pub fn catch_up_mirrors(&mut self, control: &Control) -> Result<MirrorReport, ClientError> {
        if self.engine.layout()?.len() < 2 {
            return self.engine.mirror_report();
        }
        self.engine.try_mirrors_again(Duration::ZERO);
        self.engine.sync(control)?;
        self.engine.bring_up_mirrors(control)
    }

    /// Has mirrors that did not answer a while ago asked again by the next operation: for what is done on behalf of someone who waits, and may
    /// just have brought them back.
    ///
    /// ```no_run
    /// # use maimo_client::client::Client;
    /// # fn someone_asks(client: &mut Client) {
    /// client.try_mirrors_again();
    /// # }
    /// ```
    pub fn try_mirrors_again(&mut self) {
        self.engine.try_mirrors_again(Duration::ZERO);
    }

    /// Returns how the store is spread and which mirrors are behind, from what this node knows itself.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn mirrors(client: &Client) -> Result<(), ClientError> {
    /// let report = client.mirrors()?;
    /// println!("on {} channels", report.channels.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read.
    pub fn mirrors(&self) -> Result<MirrorReport, ClientError> {
        self.engine.mirror_report()
    }
}

impl Engine {
    fn mirror(
        &mut self,
        one: &str,
        other: &str,
        control: &Control,
    ) -> Result<MirrorReport, ClientError> {
        let rows = [self.channel_called(one)?, self.channel_called(other)?];
        if rows[0].id == rows[1].id {
            return Err(ClientError::Input {
                message: format!("{one} and {other} are one channel"),
                hint: Some("name two: `maimo channel list` lists them"),
            });
        }
        self.try_mirrors_again(Duration::ZERO);
        self.sync(control)?;
        let layout = self.layout_known()?;
        let has = |row: &&ChannelRow| layout.channels.contains(&row.id);
        let new: Vec<&ChannelRow> = rows.iter().filter(|row| !has(row)).collect();
        if new.len() == rows.len() {
            return Err(ClientError::Input {
                message: format!("the store is kept neither on {one} nor on {other}"),
                hint: Some("name the channel that has it first"),
            });
        }
        if let [new] = new[..] {
            // One that cannot be reached is not promised anything.
            let channel = self.channel(new.id)?;
            self.read_channel(&channel)?;
            let mut channels = layout.channels.clone();
            channels.push(new.id);
            self.commit_layout(layout.epoch + 1, channels, control)?;
        }
        let report = self.bring_up_mirrors(control)?;
        let wanted = |behind: &&Behind| behind.channel == one || behind.channel == other;
        match report.behind.iter().find(wanted) {
            Some(Behind {
                channel,
                why: Some(source),
                ..
            }) => Err(ClientError::Provider {
                channel: channel.clone(),
                source: source.clone(),
            }),
            _ => Ok(report),
        }
    }

    fn unmirror(&mut self, name: &str, control: &Control) -> Result<MirrorReport, ClientError> {
        let row = self.channel_called(name)?;
        self.sync(control)?;
        let layout = self.layout_known()?;
        if layout.first() == Some(row.id) {
            return Err(ClientError::Input {
                message: format!("channel {name} decides what is acknowledged"),
                hint: Some("make another channel first: `maimo channel first NAME`"),
            });
        }
        let mut channels = layout.channels;
        let before = channels.len();
        channels.retain(|id| *id != row.id);
        if channels.len() == before {
            return Err(ClientError::Input {
                message: format!("the store is not kept on channel {name}"),
                hint: Some("`maimo channel list` says what each channel is for"),
            });
        }
        self.commit_layout(layout.epoch + 1, channels, control)?;
        self.ahead.remove(&row.id);
        self.mirror_report()
    }

    fn commit_layout(
        &mut self,
        epoch: u64,
        channels: Vec<ChannelId>,
        control: &Control,
    ) -> Result<(), ClientError> {
        let record = Record::Layout { epoch, channels };
        self.commit_records(&[record], control).map(drop)
    }

    /// Returns the layout that the journal names.
    pub(crate) fn layout_known(&self) -> Result<Layout, ClientError> {
        let layout = self.catalog.reader()?.store_layout()?;
        layout.ok_or_else(|| ClientError::NoChannel("no channel is open".to_owned()))
    }

    /// Gives every mirror that answers what it lacks, on the state that was just read, and lets it follow.
    pub(crate) fn bring_up_mirrors(
        &mut self,
        control: &Control,
    ) -> Result<MirrorReport, ClientError> {
        let (mut sent, mut received) = (0, 0);
        let mirrors: Vec<ChannelId> = self.layout()?.into_iter().skip(1).collect();
        for id in mirrors {
            if self.away.why(id).is_some() {
                continue;
            }
            let name = self.channel_row(id)?.name;
            match self.bring_up(id, &mut sent, &mut received, control) {
                // Of the mirror, not of one that it was to be supplied from.
                Err(ClientError::Provider { channel, source }) if channel == name => {
                    self.away.note(id, source);
                }
                brought => brought?,
            }
        }
        let mut report = self.mirror_report()?;
        report.bytes_sent = sent;
        report.bytes_received = received;
        Ok(report)
    }

    fn bring_up(
        &mut self,
        id: ChannelId,
        sent: &mut u64,
        received: &mut u64,
        control: &Control,
    ) -> Result<(), ClientError> {
        for _ in 0..ATTEMPTS {
            control.check()?;
            match self.follow(id)? {
                Followed::Yes(bytes) => {
                    *sent += bytes;
                    return Ok(());
                }
                Followed::Branch => {
                    self.join(id, sent, control)?;
                    self.merged.insert(id);
                    continue;
                }
                // The next operation reads it and goes by that.
                Followed::Ahead => return Ok(()),
                Followed::Owed => {}
            }
            control.tell(Event::Phase(Phase::Mirroring));
            let to = self.channel_for(id, Load::Heavy)?;
            let mut from: Vec<Arc<OpenChannel>> = Vec::new();
            for other in self.answering(Load::Heavy)? {
                if other.id != id {
                    from.push(other);
                }
            }
            let owed = self.owed(id)?;
            let mut supply = self.supply(&to, from, owed)?;
            supply.announce(control);
            let mut lost = 0;
            while let Some(supplied) = supply.portion(control)? {
                *sent += supplied.sent;
                *received += supplied.received;
                lost += supplied.lost.len();
                let records = supplied
                    .packs
                    .iter()
                    .map(|(number, reference)| Record::Pack {
                        number: *number,
                        channel: id,
                        reference: *reference,
                    });
                let records: Vec<Record> = records.collect();
                if !records.is_empty() {
                    *sent += self.commit_records(&records, control)?.sent;
                    let recorded = supplied.packs.iter().map(|(_, pack)| pack.root);
                    self.forget_given(id, recorded)?;
                }
            }
            if lost > 0 {
                let name = self.channel_row(id)?.name;
                control.tell(Event::Notice(format!(
                    "{lost} packs cannot be given to channel {name}: they are damaged where they are, and their files changed or went here"
                )));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns how the store is spread and which mirrors are behind.
    pub(crate) fn mirror_report(&self) -> Result<MirrorReport, ClientError> {
        let sequence = self.catalog.position()?.sequence;
        let seen = self.node.all_seen()?;
        let mut report = MirrorReport {
            sequence,
            ..MirrorReport::default()
        };
        for (place, id) in self.layout()?.into_iter().enumerate() {
            let name = self.channel_row(id)?.name;
            let root = seen.iter().find(|(known, _)| *known == id);
            let root = root.map_or(RootHash::NONE, |(_, seen)| seen.root);
            report.channels.push((name.clone(), root));
            let commits = self.commits_behind(id)?;
            if place > 0 && commits > 0 {
                report.behind.push(Behind {
                    channel: name,
                    commits,
                    why: self.away.why(id),
                });
            }
        }
        Ok(report)
    }

    /// Returns how many commits a channel is behind the newest state known, by what was last seen of it.
    pub(crate) fn commits_behind(&self, id: ChannelId) -> Result<u64, ClientError> {
        let sequence = self.catalog.position()?.sequence;
        let Some(row) = self.node.seen(id)? else {
            return Ok(sequence);
        };
        let (_, keys) = self.keys_of(id)?;
        let commit = Commit::open(&row.commit, &keys.commit)
            .map_err(|error| ClientError::Corrupt(error.to_string()))?;
        Ok(sequence.saturating_sub(commit.store.sequence))
    }

    /// As [`Self::commits_behind`]; 0 of a channel that the store is not on.
    pub(crate) fn behind(&self, id: ChannelId) -> Result<u64, ClientError> {
        match self.role(id)? {
            Role::Mirror => self.commits_behind(id),
            Role::First | Role::Unused => Ok(0),
        }
    }

    /// Returns what a channel is to the store.
    pub(crate) fn role(&self, id: ChannelId) -> Result<Role, ClientError> {
        let place = self.layout()?.iter().position(|known| *known == id);
        Ok(match place {
            Some(0) => Role::First,
            Some(_) => Role::Mirror,
            None => Role::Unused,
        })
    }
}
