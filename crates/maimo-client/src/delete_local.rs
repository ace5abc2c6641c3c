//! `--delete-local`: from files that were stored to files that are only at the provider, in the order that loses nothing.
//!
//! ```text
//! choose: present, regular, as this machine last saw them -> possession of all their groups, of the vital packs and the commit, on every channel
//!         -> commit "evicted" -> evict::delete
//! ```
//!
//! Invariant: a file goes only if every channel of the layout has proven to hold all it takes to give it back, and has acknowledged the commit that says
//! it was evicted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_net::service::WhichHead;
use maimo_vault::{
    journal::{
        content::Content,
        record::{PathEvent, Record},
        state::Presence,
    },
    name::{PackNumber, RecordId},
    pack::PackKind,
    path::StorePath,
};

use crate::{
    browse::{ListRequest, WhichSource, to_path},
    client::PHRASE_VERIFIED,
    commit::{Change, Outcome, too_busy},
    engine::Engine,
    error::ClientError,
    evict::{Candidate, Deleted, Intent, Intents, delete, put_back},
    node_state::NodeState,
    possession::{ProveError, Token, Unproven, prove, prove_held_bytes},
    progress::{Control, Event, Phase},
    random,
    scan::excludes::Excludes,
    session::OpenChannel,
};

/// How many files go through one commit: bounds memory and what a crash makes to be proven again.
const FILES_AT_ONCE: usize = 16 * 1024;
/// How often files are held against a newer state after other devices were faster.
const ATTEMPTS: u32 = 8;

/// Why a file stays.
const TOO_YOUNG: &str =
    "not deleted: it changed just as it was read, so a further change would not show; run again";
const UNPROVEN: &str = "not deleted: the provider could not prove that it holds it";
const BEHIND: &str = "not deleted: a mirror does not have it yet";
const OVERTAKEN: &str = "not deleted: another machine changed what the store has of it";

/// Digests worked out when packs were sealed, by channel and pack.
pub(crate) type Tokens = HashMap<ChannelId, BTreeMap<ObjectRef, Token>>;

/// A file that is to go: kept small, for there may be millions.
struct Chosen {
    stored: StorePath,
    /// The revision that the store has of it.
    revision: RecordId,
}

/// What it takes to delete one, and to give it back.
struct Ready {
    stored: StorePath,
    candidate: Candidate,
    packs: BTreeSet<PackNumber>,
}

/// What was proven so far, and what it can be proven with.
struct Proving {
    tokens: Tokens,
    /// Whether all vital packs and the commit of the newest state were.
    vital: bool,
    /// Groups of packs, by channel. A pack may hold bytes of files that go through several commits.
    data: HashMap<(ChannelId, ObjectRef), LiveMap>,
}

impl Engine {
    /// Refuses a deletion that is not to be had, before anything is read.
    pub(crate) fn check_delete_local(&self, single_copy: bool) -> Result<(), ClientError> {
        if !self.node.flag(PHRASE_VERIFIED)? {
            return Err(ClientError::Input {
                message: "the 24 words were never checked, and without them nothing comes back once this machine is lost".to_owned(),
                hint: Some("run `maimo verify-phrase` once, then again"),
            });
        }
        if self.layout()?.len() < 2 && !single_copy {
            return Err(ClientError::Input {
                message: "the provider would have the only copy".to_owned(),
                hint: Some("say `--single-copy` if that is meant"),
            });
        }
        Ok(())
    }

    /// Gives files that an interrupted deletion left aside their names back. To be called before any scan.
    pub(crate) fn put_back_local(&mut self, control: &Control) -> Result<(), ClientError> {
        for (path, now) in put_back(&mut self.node)? {
            control.tell(Event::Notice(format!(
                "{} had been set aside and its name was taken since: it is now {}",
                path.display(),
                now.display()
            )));
        }
        Ok(())
    }

    /// Deletes the local copies of all stored files below `paths` that are as they were stored, but for what a run with these `excludes` leaves
    /// out: it may have been stored by an earlier one.
    pub(crate) fn delete_local(
        &mut self,
        paths: &[PathBuf],
        excludes: &[String],
        tokens: Tokens,
        control: &Control,
    ) -> Result<Deleted, ClientError> {
        let mut deleted = Deleted::default();
        let chosen = self.choose(paths, excludes)?;
        let mut proving = Proving {
            tokens,
            vital: false,
            data: HashMap::new(),
        };
        for some in chosen.chunks(FILES_AT_ONCE) {
            self.delete_some(some, &mut proving, &mut deleted, control)?;
        }
        Ok(deleted)
    }

    /// Proves files, commits that they are evicted, then deletes them.
    ///
    /// The commit stands on the state that they were proven in or not at all. After another machine's, what that has removed or stored anew is
    /// kept, and what it has packed anew is proven there.
    fn delete_some(
        &mut self,
        chosen: &[Chosen],
        proving: &mut Proving,
        deleted: &mut Deleted,
        control: &Control,
    ) -> Result<(), ClientError> {
        for _ in 0..ATTEMPTS {
            control.check()?;
            control.tell(Event::Phase(Phase::Proving));
            if !self.mirror_report()?.behind.is_empty() {
                for file in chosen {
                    deleted.keep(to_path(&file.stored), BEHIND, control);
                }
                return Ok(());
            }
            if !proving.vital {
                self.prove_vital(control)?;
                proving.vital = true;
            }
            let mut kept: Vec<(PathBuf, &str)> = Vec::new();
            let mut some = self.ready(chosen, &mut kept)?;
            let lost = self.prove_data(&some, proving, control)?;
            some.retain(|file| {
                let is_proven = file.packs.is_disjoint(&lost);
                if !is_proven {
                    kept.push((file.candidate.path.clone(), UNPROVEN));
                }
                is_proven
            });
            if !some.is_empty() && !self.commit_evicted(&some, control)? {
                proving.vital = false;
                continue;
            }
            for (path, why) in kept {
                deleted.keep(path, why, control);
            }
            // Each channel is to acknowledge what the journal says of the file before it goes. One that stays is found again by the next scan.
            if !self.mirror_report()?.behind.is_empty() {
                for file in some {
                    deleted.keep(file.candidate.path, BEHIND, control);
                }
                return Ok(());
            }
            let candidates: Vec<Candidate> = some.into_iter().map(|file| file.candidate).collect();
            let gone = delete(&candidates, random::id(), &mut self.node, control)?;
            deleted.files += gone.files;
            deleted.bytes += gone.bytes;
            deleted.kept.extend(gone.kept);
            return Ok(());
        }
        Err(too_busy())
    }

    /// Returns the files below `paths` that are in the store and there, as far as the catalog can tell.
    fn choose(&self, paths: &[PathBuf], excludes: &[String]) -> Result<Vec<Chosen>, ClientError> {
        use std::os::unix::ffi::OsStrExt;

        let reader = self.catalog.reader()?;
        let excludes = Excludes::new(excludes)?;
        let patterns = paths
            .iter()
            .map(|path| absolute(path))
            .collect::<Result<Vec<_>, _>>()?;
        let is_left_out = |path: &Path| {
            let mut roots = patterns.iter().filter(|root| path.starts_with(root));
            roots.all(|root| excludes.leave_out(root.as_bytes(), path.as_os_str().as_bytes()))
        };
        let request = ListRequest {
            patterns: patterns.clone(),
            all: false,
            at: None,
            source: WhichSource::Own,
        };
        let filter = self.filter(&reader, &request)?;
        let mut chosen = Vec::new();
        reader.each(&filter, |listed| {
            let revision = listed.revision;
            let is_file = matches!(revision.content, Content::Regular { .. });
            if is_file
                && listed.presence == Presence::Present
                && !is_left_out(&to_path(&revision.path))
            {
                chosen.push(Chosen {
                    stored: revision.path,
                    revision: revision.stamp.id,
                });
            }
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        })?;
        Ok(chosen)
    }

    /// Returns those that the store still has as they were chosen, with what it takes to delete them; takes note of the others.
    fn ready(
        &self,
        chosen: &[Chosen],
        kept: &mut Vec<(PathBuf, &str)>,
    ) -> Result<Vec<Ready>, ClientError> {
        let reader = self.catalog.reader()?;
        let source = self.node.source();
        let mut ready = Vec::with_capacity(chosen.len());
        for file in chosen {
            let path = to_path(&file.stored);
            let known = reader.known(source, &file.stored)?;
            let known = known
                .filter(|known| known.id == file.revision && known.presence == Presence::Present);
            let revision = reader.revision(file.revision)?;
            let (Some(known), Some(revision)) = (known, revision) else {
                kept.push((path, OVERTAKEN));
                continue;
            };
            let (Some(local), Content::Regular { size, blake3, .. }) =
                (known.local, &revision.content)
            else {
                kept.push((path, TOO_YOUNG));
                continue;
            };
            ready.push(Ready {
                candidate: Candidate {
                    path,
                    size: *size,
                    modified: revision.metadata.modified,
                    blake3: *blake3,
                    local,
                },
                packs: reader.packs_of(&revision.content)?,
                stored: revision.path,
            });
        }
        Ok(ready)
    }

    /// Has every channel prove all vital packs and the commit.
    fn prove_vital(&mut self, control: &Control) -> Result<(), ClientError> {
        for channel in self.channels()? {
            self.prove_vital_of(&channel, control)?;
        }
        Ok(())
    }

    /// Has a channel prove all its vital packs, by digest where they are kept here as it has them, and the commit.
    pub(crate) fn prove_vital_of(
        &mut self,
        channel: &OpenChannel,
        control: &Control,
    ) -> Result<(), ClientError> {
        if self.view(channel.id).is_none() {
            self.read_channel(channel)?;
        }
        let Some(view) = self.view(channel.id) else {
            return Ok(());
        };
        let wanted: BTreeMap<ObjectRef, LiveMap> = view
            .vital
            .entries()
            .map(|entry| (*entry.pack(), entry.live().clone()))
            .collect();
        let sequence = view.sequence();
        let commit = view.head.as_ref().map(|head| head.head().commit);
        let held: Option<Vec<(ObjectRef, Vec<u8>)>> = wanted
            .keys()
            .map(|pack| Some((*pack, self.journal.get(pack)?)))
            .collect();
        let by_digest = match held {
            Some(held) => prove_held_bytes(&*channel.session, &held, &mut random::system())
                .map_err(|source| channel.failed(source))?,
            None => false,
        };
        if !by_digest {
            let none = &mut BTreeMap::new();
            let unproven = prove(&*channel.session, &wanted, none, control)
                .map_err(|error| failed(channel, error))?;
            if !unproven.packs.is_empty() {
                self.look_into_unproven(channel, PackKind::Vital, &unproven)?;
                return Err(channel.wrong("the journal"));
            }
        }
        let shown = channel.call(channel.session.head(WhichHead::Sequence(sequence)))?;
        let shown = shown.and_then(|shown| shown.commit).unwrap_or_default();
        if commit.is_none_or(|commit| !commit.names(&shown)) {
            return Err(channel.wrong("the commit"));
        }
        Ok(())
    }

    /// Has every channel prove all groups that hold the files' bytes. Returns the packs of which one did not.
    fn prove_data(
        &mut self,
        files: &[Ready],
        proving: &mut Proving,
        control: &Control,
    ) -> Result<BTreeSet<PackNumber>, ClientError> {
        let channels = self.channels()?;
        let reader = self.catalog.reader()?;
        let tail: BTreeSet<PackNumber> = self
            .catalog
            .position()?
            .tail
            .iter()
            .map(|tail| tail.piece.number())
            .collect();
        let numbers: BTreeSet<PackNumber> = files
            .iter()
            .flat_map(|file| file.packs.iter().copied())
            // Those ride in the commit, which is proven whole.
            .filter(|number| !tail.contains(number))
            .collect();
        let mut lost = BTreeSet::new();
        for channel in &channels {
            if self.view(channel.id).is_none() {
                self.read_channel(channel)?;
            }
            let mut wanted: BTreeMap<ObjectRef, LiveMap> = BTreeMap::new();
            let mut number_of: BTreeMap<ObjectRef, PackNumber> = BTreeMap::new();
            for number in &numbers {
                let pack = reader.pack(*number, channel.id)?;
                let live = pack.and_then(|pack| {
                    let view = self.view(channel.id)?;
                    Some((pack, view.live(&pack)?.clone()))
                });
                // All that lives of the packs: what of them the files need is among it.
                match live {
                    Some((pack, live))
                        if proving
                            .data
                            .get(&(channel.id, pack))
                            .is_some_and(|proven| proven.contains_all(&live)) => {}
                    Some((pack, live)) => {
                        wanted.insert(pack, live);
                        number_of.insert(pack, *number);
                    }
                    None => {
                        lost.insert(*number);
                    }
                }
            }
            let known = proving.tokens.entry(channel.id).or_default();
            let unproven = prove(&*channel.session, &wanted, known, control)
                .map_err(|error| failed(channel, error))?;
            self.look_into_unproven(channel, PackKind::Data, &unproven)?;
            let Unproven { packs } = unproven;
            lost.extend(packs.keys().filter_map(|pack| number_of.get(pack)));
            wanted.retain(|pack, _| !packs.contains_key(pack));
            let proven = wanted.into_iter();
            proving
                .data
                .extend(proven.map(|(pack, live)| ((channel.id, pack), live)));
        }
        Ok(lost)
    }

    /// Writes down what of the packs that were not proven is damaged.
    fn look_into_unproven(
        &self,
        channel: &OpenChannel,
        kind: PackKind,
        unproven: &Unproven,
    ) -> Result<(), ClientError> {
        let packs = unproven.packs.iter();
        let suspects: Vec<_> = packs
            .map(|(pack, groups)| (kind, *pack, groups.clone()))
            .collect();
        self.look_into(channel.id, &*channel.session, &suspects)?;
        Ok(())
    }

    /// Commits that the files are evicted; returns whether no other machine was first.
    fn commit_evicted(&mut self, files: &[Ready], control: &Control) -> Result<bool, ClientError> {
        let mut change = Change {
            is_fixed: true,
            ..Change::default()
        };
        for file in files {
            let record = Record::Path {
                source: self.node.source(),
                path: file.stored.clone(),
                event: PathEvent::Evicted,
            };
            change.records.push((self.node.next_record(), record));
        }
        let outcome = self.commit(change, control)?;
        Ok(matches!(outcome, Outcome::Committed(_)))
    }
}

impl Intents for NodeState {
    fn left(&self) -> Result<Vec<Intent>, ClientError> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let sql = "SELECT body FROM intent ORDER BY id";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        let bodies = read().map_err(database)?;
        bodies.iter().map(|body| parse_intent(body)).collect()
    }

    fn replace(&mut self, intents: &[Intent]) -> Result<(), ClientError> {
        self.write(|tx| {
            tx.execute("DELETE FROM intent", [])?;
            let mut insert = tx.prepare_cached("INSERT INTO intent (body) VALUES (?1)")?;
            for intent in intents {
                insert.execute([encode_intent(intent)])?;
            }
            Ok(())
        })
    }
}

/// Two paths, a zero byte between them: the one byte that no path has.
fn encode_intent(intent: &Intent) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;

    let mut body = intent.path.as_os_str().as_bytes().to_vec();
    body.push(0);
    body.extend_from_slice(intent.aside.as_os_str().as_bytes());
    body
}

fn parse_intent(body: &[u8]) -> Result<Intent, ClientError> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let torn = || ClientError::Corrupt("a file set aside was not written down whole".to_owned());
    let at = body.iter().position(|byte| *byte == 0).ok_or_else(torn)?;
    let (path, aside) = body.split_at(at);
    let path_of = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    Ok(Intent {
        path: path_of(path),
        aside: path_of(aside.get(1..).ok_or_else(torn)?),
    })
}

fn absolute(path: &Path) -> Result<String, ClientError> {
    let path = to_path(&crate::browse::from_path(path)?);
    path.into_os_string()
        .into_string()
        .map_err(|name| ClientError::Input {
            message: format!("{} is not text", name.display()),
            hint: Some("name a folder above it"),
        })
}

fn failed(channel: &OpenChannel, error: ProveError) -> ClientError {
    match error {
        ProveError::Service(source) => channel.failed(source),
        ProveError::Cancelled(cancelled) => cancelled.into(),
    }
}

fn database(source: rusqlite::Error) -> ClientError {
    ClientError::Database {
        file: "node's state file",
        source,
    }
}
