//! The whole of `store`: put back what a crash left aside, run, commit, tidy.

use std::{path::PathBuf, sync::Arc};

use maimo_core::id::RootHash;
use maimo_net::connect::Load;
use maimo_vault::{
    compress::Level,
    dictionary::Dictionary,
    journal::record::Record,
    name::{ChunkId, ChunkRef, PackNumber, RecordId},
    pack::{PackBuilder, PackKeys, PackKind, Piece},
};

use super::{Run, StoreReport, StoreRequest};
use crate::{
    catalog::DictionaryVersion,
    damage::is_evidence,
    delete_local::Tokens,
    engine::Engine,
    error::ClientError,
    journal_cache::open_dictionary,
    keys::EPOCH,
    known_tree::CatalogTree,
    local_stat::LocalStat,
    pipeline::{self, KnownChunks, Outcome, PipelineRequest, StoreSink, Trouble},
    progress::{Control, Event},
};
/// How often a run is made again because other devices were faster.
const ATTEMPTS: u32 = 5;
/// How many dictionaries beside the newest may serve again.
const OLDER_MAX: usize = 3;

impl Engine {
    pub(crate) fn store(
        &mut self,
        request: &StoreRequest,
        control: &Control,
    ) -> Result<StoreReport, ClientError> {
        if request.delete_local {
            self.check_delete_local(request.single_copy)?;
        }
        self.put_back_local(control)?;
        let mut asked = PipelineRequest::new(self.node.source(), request.paths.clone());
        asked.excludes.clone_from(&request.excludes);
        asked.domains.clone_from(&request.domains);
        asked.leave_out = self.left_out()?;
        asked.dry_run = request.dry_run;
        asked.changed = request.changed;
        if request.dry_run {
            let mut tree = CatalogTree::new(self.catalog.reader()?, self.node.source());
            let keys = Arc::clone(&self.keys);
            let outcome = pipeline::run(&asked, &keys, &mut tree, &mut Nowhere, control)?;
            return Ok(report(outcome));
        }
        for attempt in 0..ATTEMPTS {
            let ran = self.run_once(&mut asked, request, attempt == 0, control)?;
            if let Some((mut report, tokens)) = ran {
                self.heal_after(&mut report, control)?;
                // Before local copies go, which wait for every channel.
                match self.bring_up_mirrors(control) {
                    Ok(mirrors) => {
                        report.bytes_sent += mirrors.bytes_sent;
                        report.sequence = mirrors.sequence;
                        report.behind = mirrors.behind;
                        report.roots = self.named_roots()?;
                    }
                    // It is acknowledged; what is behind is told.
                    Err(ClientError::Provider { .. } | ClientError::Cancelled(_)) => {
                        report.behind = self.mirror_report()?.behind;
                    }
                    Err(error) => return Err(error),
                }
                if request.delete_local {
                    let deleted =
                        self.delete_local(&request.paths, &request.excludes, tokens, control)?;
                    report.files_deleted = deleted.files;
                    let kept = deleted.kept.into_iter();
                    let kept = kept.map(|(path, message)| Trouble { path, message });
                    report.troubles.extend(kept);
                    report.sequence = self.catalog.position()?.sequence;
                    report.roots = self.named_roots()?;
                }
                // Upkeep that nobody waits for, and that the next run does if this one cannot.
                match self.merge_journal(control) {
                    Ok(()) | Err(ClientError::Provider { .. } | ClientError::Cancelled(_)) => {}
                    Err(error) => return Err(error),
                }
                let channels = self.answering(Load::Unknown)?;
                self.look_for_moves(&channels, control)?;
                // The store stands; a log that stays costs those who come next some time.
                let _ = self.catalog.tidy();
                return Ok(report);
            }
        }
        Err(ClientError::Input {
            message: "other devices were faster, again and again".to_owned(),
            hint: Some("run the command again once they are done"),
        })
    }

    /// Stores again what is known to be damaged and is still here, changed or not. What was stored stands, even if this cannot be done now.
    fn heal_after(
        &mut self,
        report: &mut StoreReport,
        control: &Control,
    ) -> Result<(), ClientError> {
        match self.heal(control) {
            Ok(healed) => {
                if healed.is_empty() {
                    return Ok(());
                }
                report.bytes_sent += healed.bytes_sent;
                report.sequence = self.catalog.position()?.sequence;
                report.roots = self.named_roots()?;
                report.healed = healed;
                Ok(())
            }
            Err(error @ ClientError::Provider { .. }) => {
                control.tell(Event::Notice(format!(
                    "what is damaged was not stored again: {error}"
                )));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes one run; nothing where another device made it necessary to make it again.
    fn run_once(
        &mut self,
        asked: &mut PipelineRequest,
        request: &StoreRequest,
        trusting: bool,
        control: &Control,
    ) -> Result<Option<(StoreReport, Tokens)>, ClientError> {
        let keys = Arc::clone(&self.keys);
        let source = self.node.source();
        let channels = self.answering(Load::Unknown)?;
        if self.begins_with_much(asked, control)? {
            for channel in &channels {
                channel.session.expect_much();
            }
        }
        let mut run = Run::begin(self, control, asked.level, request.delete_local, trusting)?;
        asked.dictionaries = run.engine.dictionaries(asked.level)?;
        asked.recent = Arc::clone(&run.engine.recent);
        let mut tree = CatalogTree::new(run.engine.catalog.reader()?, source);
        let outcome = match pipeline::run(asked, &keys, &mut tree, &mut run, control) {
            Err(_) if run.is_superseded => return Ok(None),
            outcome => outcome?,
        };
        drop(tree);
        if request.changed && run.is_empty() {
            run.leave()?;
            let mut report = report(outcome);
            report.sequence = self.catalog.position()?.sequence;
            report.roots = self.named_roots()?;
            return Ok(Some((report, Tokens::default())));
        }
        let ended = run.end(outcome.files())?;
        let Some(committed) = ended.committed else {
            return Ok(None);
        };
        let mut report = report(outcome);
        report.bytes_stored = ended.bytes_stored;
        report.bytes_sent = ended.bytes_sent;
        report.run = Some(ended.run);
        report.sequence = committed.sequence;
        report.roots = self.named_roots()?;
        Ok(Some((report, ended.tokens)))
    }

    /// Returns whether this machine stores for the first time, and much: its circuits can then be opened while the provider is asked what it has.
    fn begins_with_much(
        &self,
        asked: &PipelineRequest,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let reader = self.catalog.reader()?;
        let source = self.node.source();
        if reader.runs()?.iter().any(|run| run.source == source) {
            return Ok(false);
        }
        let mut tree = CatalogTree::new(reader, source);
        pipeline::comes_to(Load::HEAVY_BYTES, asked, &mut tree, control)
    }

    fn named_roots(&self) -> Result<Vec<(String, RootHash)>, ClientError> {
        let name = |(channel, root)| Ok((self.channel_row(channel)?.name, root));
        self.roots()?.into_iter().map(name).collect()
    }

    /// Returns the folders that are never stored: this node's home, and those that are providers.
    fn left_out(&self) -> Result<Vec<PathBuf>, ClientError> {
        let mut folders = vec![self.home.path().to_owned()];
        for row in self.node.channels()? {
            let folder = |address: &String| address.strip_prefix("dir:").map(PathBuf::from);
            folders.extend(row.addresses.iter().filter_map(folder));
        }
        Ok(folders)
    }

    /// Returns the store's newest dictionary, if it has one in use.
    pub(crate) fn dictionary(
        &mut self,
        level: Level,
    ) -> Result<Option<Arc<Dictionary>>, ClientError> {
        let Some((id, plaintext)) = self.dictionary_bytes()? else {
            return Ok(None);
        };
        let dictionary = Dictionary::new(id, plaintext, level);
        let dictionary = dictionary.map_err(|error| ClientError::Corrupt(error.to_string()))?;
        Ok(Some(Arc::new(dictionary)))
    }

    /// Returns the store's newest dictionaries in use, the newest first; of the others those that are here.
    fn dictionaries(&mut self, level: Level) -> Result<Vec<Arc<Dictionary>>, ClientError> {
        let Some(newest) = self.dictionary(level)? else {
            return Ok(Vec::new());
        };
        let first = self.first()?;
        let reader = self.catalog.reader()?;
        let keys = PackKeys::new(&first.keys, EPOCH, PackKind::Vital);
        let versions = reader.dictionary_versions()?.into_iter().rev();
        let newest_id = newest.id();
        let others = versions.filter(|it| !it.known.retired && it.id != newest_id);
        let mut dictionaries = vec![newest];
        for DictionaryVersion { id, known, .. } in others.take(OLDER_MAX) {
            let bytes = reader.pack(known.chunk.pack, first.id)?;
            let bytes = bytes.and_then(|pack| self.journal.get(&pack));
            let plain = bytes.and_then(|bytes| {
                open_dictionary(&bytes, keys, &self.keys, known.chunk.index).ok()
            });
            let dictionary = plain.and_then(|plain| Dictionary::new(id, plain, level).ok());
            dictionaries.extend(dictionary.map(Arc::new));
        }
        Ok(dictionaries)
    }

    /// Returns the bytes of the store's newest dictionary, if it has one in use.
    pub(crate) fn dictionary_bytes(&mut self) -> Result<Option<(ChunkId, Vec<u8>)>, ClientError> {
        let reader = self.catalog.reader()?;
        let versions = reader.dictionary_versions()?.into_iter();
        let mut in_use = versions.rev().filter(|version| !version.known.retired);
        let Some(DictionaryVersion { id, known, .. }) = in_use.next() else {
            return Ok(None);
        };
        drop(in_use);
        let first = self.first()?;
        let Some(pack) = reader.pack(known.chunk.pack, first.id)? else {
            return Ok(None);
        };
        let bytes = if let Some(bytes) = self.journal.get(&pack) {
            bytes
        } else {
            let bytes = match first.fetch_whole(&[pack]) {
                Ok(mut bytes) => bytes.pop().unwrap_or_default(),
                Err(error) if is_evidence(&error) => {
                    // Files must not wait for it: they are stored without, and their owner hears of what was compressed with it.
                    self.look_into_whole(&first, PackKind::Vital, &[pack], &error);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            self.journal.put(&pack, &bytes)?;
            bytes
        };
        let keys = PackKeys::new(&first.keys, EPOCH, PackKind::Vital);
        let plaintext = open_dictionary(&bytes, keys, &self.keys, known.chunk.index)
            .map_err(|error| ClientError::Corrupt(error.to_string()))?;
        Ok(Some((id, plaintext)))
    }
}

fn report(outcome: Outcome) -> StoreReport {
    StoreReport {
        files_new: outcome.files_new,
        files_changed: outcome.files_changed,
        files_unmodified: outcome.files_unmodified,
        bytes_read: outcome.bytes_read,
        troubles: outcome.troubles,
        ..StoreReport::default()
    }
}

/// The sink of a dry run, which hands nothing over.
struct Nowhere;

impl KnownChunks for Nowhere {
    fn find(&self, _: &ChunkId) -> Option<ChunkRef> {
        None
    }
}

impl StoreSink for Nowhere {
    fn known(&self) -> Arc<dyn KnownChunks> {
        Arc::new(Self)
    }

    fn as_of(&self) -> u64 {
        1
    }

    fn next_record(&mut self) -> Result<RecordId, ClientError> {
        Err(dry())
    }

    fn next_pack(&mut self) -> Result<PackNumber, ClientError> {
        Err(dry())
    }

    fn seal(&mut self, _: PackBuilder) -> Result<(), ClientError> {
        Err(dry())
    }

    fn dictionary(&mut self, _: Vec<u8>) -> Result<Arc<Dictionary>, ClientError> {
        Err(dry())
    }

    fn record(&mut self, _: RecordId, _: Record, _: Option<LocalStat>) -> Result<(), ClientError> {
        Err(dry())
    }

    fn refresh(&mut self, _: RecordId, _: LocalStat) -> Result<(), ClientError> {
        Err(dry())
    }

    fn checkpoint(&mut self) -> Result<(), ClientError> {
        Err(dry())
    }

    fn piece(&mut self, _: Piece) -> Result<(), ClientError> {
        Err(dry())
    }
}

fn dry() -> ClientError {
    ClientError::Bug("a dry run was about to store".to_owned())
}
