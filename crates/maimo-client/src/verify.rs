//! `verify`: audits of channels as a user asks for them, with challenges and outcomes written down.
//!
//! [`crate::audit`] asks and checks; this chooses the channels, brings what is kept locally (the head whose hash is the root, the inventories)
//! and remembers. No sync: an audit is held against the root that was last seen.

use std::{collections::BTreeMap, path::Path};

use maimo_core::{
    audit::{Challenge, Silence, Stratum},
    clock::Timestamp,
    codec::{self, Put},
    head::SignedHead,
    id::ChannelId,
    inventory::Inventory,
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_vault::{journal::content::Content, name::ChunkRef};
use rusqlite::{OptionalExtension as _, params};

use crate::{
    audit::{self, Asked, AuditResult, Audited, Challenges, ChannelAudit, Sample},
    browse::{ListRequest, unknown_path},
    catalog::Reader,
    client::Client,
    damage::FoundBy,
    engine::Engine,
    error::ClientError,
    mirror::Role,
    node_state::{NodeState, signed, unsigned},
    progress::{Control, Event},
    random,
    session::OpenChannel,
};

mod history;

pub use history::{PastAudit, Proven, ProvenStratum};

/// How often a channel is audited anew after other machines have moved its head.
const ATTEMPTS: u32 = 8;

/// What is asked of an audit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VerifyRequest {
    /// The channels' names; all of the layout where none is named.
    pub channels: Vec<String>,
    /// How much is asked.
    pub sample: Sample,
    /// Only the bytes of the files that this pattern or folder stands for.
    pub path: Option<String>,
}

impl Client {
    /// Audits channels by random slices, held against the root last seen of each. Whatever a provider does is an outcome, not an error.
    ///
    /// ```no_run
    /// # use maimo_client::{audit::AuditResult, client::Client, error::ClientError, progress::Control, verify::VerifyRequest};
    /// # fn verify(client: &mut Client) -> Result<(), ClientError> {
    /// for audit in client.verify(&VerifyRequest::default(), &Control::default())? {
    ///     assert_eq!(audit.result, AuditResult::Intact, "{}", audit.channel);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A channel that nobody knows, a sample that makes no sense, or local state that cannot be read or written.
    pub fn verify(
        &mut self,
        request: &VerifyRequest,
        control: &Control,
    ) -> Result<Vec<ChannelAudit>, ClientError> {
        self.engine.verify(request, control)
    }
}

impl Engine {
    /// Audits channels, one after another.
    pub(crate) fn verify(
        &mut self,
        request: &VerifyRequest,
        control: &Control,
    ) -> Result<Vec<ChannelAudit>, ClientError> {
        request.sample.slices()?;
        // Of a state that another machine has let go of, nothing is owed where there is no grace.
        self.refresh(control)?;
        let ids = self.channels_named(&request.channels)?;
        let mut audits = Vec::with_capacity(ids.len());
        for id in ids {
            if self.role(id)? == Role::Mirror && self.node.seen(id)?.is_none() {
                let name = self.channel_row(id)?.name;
                control.tell(Event::Notice(format!(
                    "channel {name} has nothing of the store yet: it is not audited"
                )));
                continue;
            }
            let audit = self.verify_newest(id, request, control)?;
            self.found_damaged(id, &audit.damaged, FoundBy::Audit)?;
            let is_of_all = request.sample == Sample::Everything && request.path.is_none();
            if is_of_all && audit.strata.len() == Stratum::ALL.len() && is_answered(audit.result) {
                // What was read back and was right is not damaged, whatever was found before.
                self.node.replace_damage(id, &audit.damaged)?;
            }
            // Who never answers is remembered as well, once that counts as missing.
            let is_told = !audit.strata.is_empty() || audit.result == AuditResult::Missing;
            if request.path.is_none() && is_told {
                self.node.remember(id, self.clock.now(), &audit)?;
            }
            audits.push(audit);
        }
        Ok(audits)
    }

    /// Audits a channel as [`Self::verify_channel`] does, and anew where another machine has moved its head meanwhile: what that let go of, the
    /// old head with it, is not owed where there is no grace, so nothing is wrong until it is wrong of the newest state.
    fn verify_newest(
        &mut self,
        id: ChannelId,
        request: &VerifyRequest,
        control: &Control,
    ) -> Result<ChannelAudit, ClientError> {
        for _ in 0..ATTEMPTS {
            let audit = self.verify_channel(id, request, control)?;
            if !is_accused(audit.result) {
                return Ok(audit);
            }
            self.refresh(control)?;
            if self
                .node
                .seen(id)?
                .is_none_or(|seen| seen.seen.root == audit.root)
            {
                return Ok(audit);
            }
        }
        self.verify_channel(id, request, control)
    }

    fn verify_channel(
        &mut self,
        id: ChannelId,
        request: &VerifyRequest,
        control: &Control,
    ) -> Result<ChannelAudit, ClientError> {
        let row = self.channel_row(id)?;
        let seen = self.node.seen(id)?.ok_or_else(|| {
            ClientError::NoChannel(format!("nothing was stored on channel {} yet", row.name))
        })?;
        let channel = match self.channel(id) {
            Ok(channel) => channel,
            Err(ClientError::Provider { source, .. }) => {
                return Ok(ChannelAudit::unreachable(
                    &row.name,
                    seen.seen.root,
                    &source,
                ));
            }
            Err(error) => return Err(error),
        };
        let client = channel.keys.client.public();
        let head = SignedHead::verify(&seen.head, id, &[client])
            .map_err(|_| ClientError::Corrupt("the last head seen does not verify".to_owned()))?;
        let none = Inventory::new();
        let inventories = if needs_inventories(request, &self.node.open(id)?, &head) {
            match self.inventories(&channel, &head) {
                Ok(loaded) => Some(loaded),
                Err(ClientError::Provider { source, .. }) => {
                    return Ok(ChannelAudit::unreachable(
                        &row.name,
                        seen.seen.root,
                        &source,
                    ));
                }
                Err(ClientError::WrongBytes { what, .. }) => {
                    let mut audit = ChannelAudit::unanswered(&row.name, seen.seen.root);
                    audit.result = AuditResult::Damaged;
                    audit.detail = Some(format!("{what} does not match its root hash"));
                    return Ok(audit);
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let (data, vital) = match &inventories {
            Some((data, vital)) => (data, vital),
            None => (&none, &none),
        };
        let audited = Audited {
            name: &row.name,
            id,
            client,
            session: &*channel.session,
            head: &head,
            data,
            vital,
        };
        if let Some(path) = &request.path {
            let (slices, loss) = request.sample.slices()?;
            let groups = self.groups_of(path, id)?;
            return audit::paths::sample(
                &audited,
                &groups,
                slices,
                loss,
                &mut random::system(),
                control,
            );
        }
        if request.sample == Sample::Everything {
            return audit::whole::read_all(&audited, control);
        }
        let now = self.clock.now();
        audit::sample(
            &audited,
            request.sample,
            &mut self.node,
            now,
            &mut random::system(),
            control,
        )
    }

    /// Returns the channels of these names, or the layout's.
    pub(crate) fn channels_named(&self, names: &[String]) -> Result<Vec<ChannelId>, ClientError> {
        let layout = self.layout()?;
        if names.is_empty() {
            if layout.is_empty() {
                return Err(ClientError::NoChannel("no channel is open".to_owned()));
            }
            return Ok(layout);
        }
        let named = names.iter().map(|name| Ok(self.channel_called(name)?.id));
        named.collect()
    }

    /// Returns the inventories of a head, from what is kept locally as far as it is.
    pub(crate) fn inventories(
        &self,
        channel: &OpenChannel,
        head: &SignedHead,
    ) -> Result<(Inventory, Inventory), ClientError> {
        let references = [head.head().data, head.head().vital];
        let nodes = self.nodes(channel, &references)?;
        let load = |reference| {
            let mut node = |node: &ObjectRef| nodes.get(node).map(|bytes| bytes.to_vec());
            Inventory::load(reference, u64::MAX, &mut node)
                .map_err(|_| channel.wrong("an inventory"))
        };
        Ok((load(&references[0])?, load(&references[1])?))
    }

    /// Returns which groups hold the bytes of the files that a pattern stands for, on one channel.
    fn groups_of(
        &self,
        pattern: &str,
        channel: ChannelId,
    ) -> Result<BTreeMap<ObjectRef, LiveMap>, ClientError> {
        let reader = self.catalog.reader()?;
        let mut chunks: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for content in self.contents_of(&reader, pattern)? {
            for extent in reader.resolve_all(&content)? {
                for ChunkRef { pack, index } in extent.chunks() {
                    chunks.entry(pack).or_default().push(index);
                }
            }
        }
        let mut groups = BTreeMap::new();
        for (number, indexes) in chunks {
            // What rides in the tail is in the commit, which every audit proves whole.
            let (Some(pack), Some(layout)) =
                (reader.pack(number, channel)?, reader.layout(number)?)
            else {
                continue;
            };
            groups.extend(layout.live_map(indexes).map(|live| (pack, live)));
        }
        Ok(groups)
    }

    /// Returns what the files below a pattern hold, as it is stored now.
    fn contents_of(&self, reader: &Reader, pattern: &str) -> Result<Vec<Content>, ClientError> {
        let request = ListRequest {
            patterns: vec![pattern.to_owned()],
            all: true,
            ..ListRequest::default()
        };
        let filter = self.filter(reader, &request)?;
        let listed = reader.list(&filter)?.into_iter();
        let contents: Vec<Content> = listed
            .map(|listed| listed.revision.content)
            .filter(|content| !content.extents().is_empty())
            .collect();
        if contents.is_empty() {
            return Err(unknown_path(Path::new(pattern)));
        }
        Ok(contents)
    }
}

/// Returns whether a result is about bytes, and not about a provider that did not answer.
const fn is_answered(result: AuditResult) -> bool {
    matches!(
        result,
        AuditResult::Intact | AuditResult::Damaged | AuditResult::Missing
    )
}

/// Returns whether a result speaks against the provider.
const fn is_accused(result: AuditResult) -> bool {
    matches!(
        result,
        AuditResult::Damaged | AuditResult::Missing | AuditResult::Rollback
    )
}

/// The inventories are needed to read everything, and to strike what an older challenge is no longer owed.
fn needs_inventories(request: &VerifyRequest, owed: &[Asked], head: &SignedHead) -> bool {
    let root = head.root();
    request.sample == Sample::Everything || owed.iter().any(|asked| *asked.challenge.root() != root)
}

impl Challenges for NodeState {
    fn open(&self, channel: ChannelId) -> Result<Vec<Asked>, ClientError> {
        let read = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
            let sql = "SELECT drawn, body FROM challenge WHERE channel = ?1 ORDER BY drawn";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map([channel.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let mut asked = Vec::new();
        for (drawn, body) in read().map_err(failed)? {
            let since = Timestamp(unsigned(drawn));
            let challenges = parse_challenges(&body).ok_or_else(|| {
                ClientError::Corrupt("a challenge that was written down cannot be read".to_owned())
            })?;
            asked.extend(
                challenges
                    .into_iter()
                    .map(|challenge| Asked { challenge, since }),
            );
        }
        Ok(asked)
    }

    fn keep(&mut self, channel: ChannelId, challenges: &[Asked]) -> Result<(), ClientError> {
        let mut rows: BTreeMap<(u64, [u8; 32]), Vec<u8>> = BTreeMap::new();
        for asked in challenges {
            let key = (asked.since.0, *asked.challenge.root().as_bytes());
            rows.entry(key)
                .or_default()
                .put_bytes(&asked.challenge.encode());
        }
        self.write(|tx| {
            tx.execute("DELETE FROM challenge WHERE channel = ?1", [channel.0])?;
            let mut insert = tx.prepare_cached("INSERT INTO challenge VALUES (?1, ?2, ?3, ?4)")?;
            for ((since, root), body) in &rows {
                insert.execute(params![channel.0, root, signed(*since), body])?;
            }
            Ok(())
        })
    }

    fn silence(&self, channel: ChannelId) -> Result<Silence, ClientError> {
        let sql = "SELECT tries, days, last_day FROM silence WHERE channel = ?1";
        let read = || -> rusqlite::Result<Option<Silence>> {
            let mut statement = self.db().prepare_cached(sql)?;
            statement.query_row([channel.0], silence_of).optional()
        };
        Ok(read().map_err(failed)?.unwrap_or_default())
    }

    fn keep_silence(&mut self, channel: ChannelId, silence: Silence) -> Result<(), ClientError> {
        // Nearly always there is none to be forgotten: that costs no write.
        if silence == self.silence(channel)? {
            return Ok(());
        }
        let Silence {
            tries,
            days,
            last_day,
        } = silence;
        self.write(|tx| {
            let row = params![channel.0, tries, days, signed(last_day)];
            tx.execute(
                "INSERT OR REPLACE INTO silence VALUES (?1, ?2, ?3, ?4)",
                row,
            )?;
            Ok(())
        })
    }
}

fn silence_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Silence> {
    Ok(Silence {
        tries: row.get(0)?,
        days: row.get(1)?,
        last_day: unsigned(row.get(2)?),
    })
}

/// The longest challenge that is read back, in bytes: positions of two strata at ten bytes each, and some.
const CHALLENGE_BYTES_MAX: usize = 128 * 1024;

fn parse_challenges(body: &[u8]) -> Option<Vec<Challenge>> {
    let mut reader = codec::Reader::new(body);
    let mut challenges = Vec::new();
    while reader.remaining() > 0 {
        let bytes = reader.bytes(CHALLENGE_BYTES_MAX, "challenge").ok()?;
        challenges.push(Challenge::parse(bytes).ok()?);
    }
    Some(challenges)
}

fn failed(source: rusqlite::Error) -> ClientError {
    ClientError::Database {
        file: crate::error::STATE_FILE,
        source,
    }
}
