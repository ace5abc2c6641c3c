//! A sink that keeps what a run hands over, and a tree of what earlier runs brought: the engine and the catalog in a few lines.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use maimo_client::{
    error::ClientError,
    keys::{EPOCH, StoreKeys},
    local_stat::LocalStat,
    pipeline::{KnownChunks, StoreSink, dictionary_level},
    scan::{
        known::{KnownEntry, KnownFolder, KnownRevision, KnownTree},
        stat::Kind,
    },
};
use maimo_core::identity::AuthSecretKey;
use maimo_vault::{
    compress::Level,
    dictionary::Dictionary,
    journal::{
        content::Content,
        metadata::Metadata,
        record::{PathEvent, Record},
        state::Presence,
    },
    keys::{ChannelKeys, MasterSecret},
    name::{ChunkId, ChunkRef, PackNumber, RecordId, SourceId, WriterId},
    pack::{PackBuilder, PackKeys, PackNonce, Piece, SealedPack},
    path::StorePath,
};

pub const SOURCE: SourceId = SourceId([3; 16]);
const WRITER: WriterId = WriterId([1; 16]);

pub fn secret() -> MasterSecret {
    MasterSecret::from_entropy(&[7; 32])
}

pub fn channel() -> ChannelKeys {
    secret().channel_keys(EPOCH, &AuthSecretKey::from_seed(&[9; 32]).public())
}

/// What runs handed over.
pub struct Collector {
    pub keys: StoreKeys,
    channel: ChannelKeys,
    pub level: Level,
    /// Packs as they were sealed, if they are kept.
    pub packs: Option<Vec<SealedPack>>,
    pub pack_bytes: u64,
    pub pack_count: u64,
    pub tag_bytes: u64,
    pub pieces: Vec<Piece>,
    pub dictionaries: Vec<Arc<Dictionary>>,
    pub records: Vec<(RecordId, Record)>,
    pub keep_records: bool,
    pub locals: HashMap<RecordId, LocalStat>,
    pub checkpoints: u64,
    pub index: Arc<Index>,
    pub next: (u64, u64),
}

#[derive(Default)]
pub struct Index(Mutex<HashMap<ChunkId, ChunkRef>>);

impl KnownChunks for Index {
    fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.0.lock().unwrap().get(id).copied()
    }
}

impl Collector {
    pub fn new(keep: bool) -> Self {
        Self {
            keys: StoreKeys::new(&secret()),
            channel: channel(),
            level: Level::default(),
            packs: keep.then(Vec::new),
            pack_bytes: 0,
            pack_count: 0,
            tag_bytes: 0,
            pieces: Vec::new(),
            dictionaries: Vec::new(),
            records: Vec::new(),
            keep_records: true,
            locals: HashMap::new(),
            checkpoints: 0,
            index: Arc::default(),
            next: (0, 0),
        }
    }

    /// Returns what a next run knows.
    pub fn tree(&self) -> Tree {
        Tree::new(&self.records, &self.locals)
    }
}

impl StoreSink for Collector {
    fn known(&self) -> Arc<dyn KnownChunks> {
        self.index.clone()
    }

    fn as_of(&self) -> u64 {
        1
    }

    fn next_record(&mut self) -> Result<RecordId, ClientError> {
        self.next.0 += 1;
        Ok(RecordId {
            writer: WRITER,
            counter: self.next.0,
        })
    }

    fn next_pack(&mut self) -> Result<PackNumber, ClientError> {
        self.next.1 += 1;
        Ok(PackNumber {
            writer: WRITER,
            n: self.next.1,
        })
    }

    fn seal(&mut self, builder: PackBuilder) -> Result<(), ClientError> {
        let keys = PackKeys::new(&self.channel, EPOCH, builder.kind());
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&builder.number().n.to_le_bytes());
        let sealed = builder.seal(keys, PackNonce(nonce));
        self.pack_bytes += sealed.bytes.len() as u64;
        self.pack_count += 1;
        let mut index = self.index.0.lock().unwrap();
        for (place, entry) in (0..).zip(sealed.layout.entries()) {
            self.tag_bytes += 32;
            let chunk = ChunkRef {
                pack: builder.number(),
                index: place,
            };
            index.entry(entry.id).or_insert(chunk);
        }
        if let Some(packs) = &mut self.packs {
            packs.push(sealed);
        }
        Ok(())
    }

    fn dictionary(&mut self, bytes: Vec<u8>) -> Result<Arc<Dictionary>, ClientError> {
        let id = self.keys.dictionary.id(&bytes);
        let dictionary = Arc::new(
            Dictionary::new(
                id,
                bytes,
                std::env::var("DLEVEL").map_or(dictionary_level(self.level), |l| {
                    Level::new(l.parse().unwrap()).unwrap()
                }),
            )
            .unwrap(),
        );
        self.dictionaries.push(Arc::clone(&dictionary));
        Ok(dictionary)
    }

    fn record(
        &mut self,
        id: RecordId,
        record: Record,
        local: Option<LocalStat>,
    ) -> Result<(), ClientError> {
        assert!(self.records.last().is_none_or(|(last, _)| *last < id));
        if self.keep_records {
            self.records.push((id, record));
            self.locals.extend(local.map(|local| (id, local)));
        }
        Ok(())
    }

    fn refresh(&mut self, id: RecordId, local: LocalStat) -> Result<(), ClientError> {
        self.locals.insert(id, local);
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), ClientError> {
        self.checkpoints += 1;
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ClientError> {
        let mut index = self.index.0.lock().unwrap();
        for (place, entry) in (0..).zip(piece.entries()) {
            let chunk = ChunkRef {
                pack: piece.number(),
                index: place,
            };
            index.entry(entry.id).or_insert(chunk);
        }
        drop(index);
        self.pieces.push(piece);
        Ok(())
    }
}

/// What records say, as a tree.
#[derive(Default)]
pub struct Tree {
    folders: HashMap<Vec<Vec<u8>>, i64>,
    children: Vec<Vec<KnownEntry>>,
    revisions: HashMap<RecordId, (Metadata, Content)>,
    /// How many entries a page has.
    pub page: usize,
}

impl Tree {
    fn new(records: &[(RecordId, Record)], locals: &HashMap<RecordId, LocalStat>) -> Self {
        let mut newest: BTreeMap<Vec<Vec<u8>>, Option<KnownRevision>> = BTreeMap::new();
        let mut tree = Self {
            page: 1000,
            ..Self::default()
        };
        for (id, record) in records {
            match record {
                Record::File {
                    path,
                    metadata,
                    content,
                    ..
                } => {
                    let (kind, size) = match content {
                        Content::Regular { size, .. } => (Kind::Regular, *size),
                        Content::HardLink(_) => (Kind::Regular, locals_size(records, content)),
                        Content::Folder => (Kind::Folder, 0),
                        Content::Symlink(_) => (Kind::Symlink, 0),
                        Content::Fifo => (Kind::Fifo, 0),
                        Content::Device { block: true, .. } => (Kind::BlockDevice, 0),
                        Content::Device { .. } => (Kind::CharDevice, 0),
                    };
                    let revision = KnownRevision {
                        id: *id,
                        kind,
                        size,
                        modified: metadata.modified,
                        local: locals.get(id).copied(),
                        presence: Presence::Present,
                    };
                    newest.insert(path.components().to_vec(), Some(revision));
                    tree.revisions
                        .insert(*id, (metadata.clone(), content.clone()));
                }
                Record::Path { path, event, .. } => {
                    if let Some(Some(revision)) = newest.get_mut(path.components()) {
                        revision.presence = match event {
                            PathEvent::Gone => Presence::Gone,
                            PathEvent::Evicted => Presence::Evicted,
                            PathEvent::Found => Presence::Present,
                            PathEvent::Removed => Presence::Removed,
                        };
                    }
                }
                _ => {}
            }
        }
        let paths: Vec<Vec<Vec<u8>>> = newest.keys().cloned().collect();
        for path in paths {
            for depth in 0..path.len() {
                newest.entry(path[..depth].to_vec()).or_default();
            }
        }
        for path in newest.keys() {
            if !path.is_empty() {
                let number = i64::try_from(tree.children.len()).unwrap();
                let parent = path[..path.len() - 1].to_vec();
                if let std::collections::hash_map::Entry::Vacant(new) = tree.folders.entry(parent) {
                    new.insert(number);
                    tree.children.push(Vec::new());
                }
            }
        }
        for (path, revision) in &newest {
            if let Some((name, parent)) = path.split_last() {
                let folder = usize::try_from(tree.folders[parent]).unwrap();
                tree.children[folder].push(KnownEntry {
                    name: name.clone(),
                    folder: tree.folders.get(path).copied().map(KnownFolder),
                    revision: *revision,
                });
            }
        }
        tree
    }
}

fn locals_size(records: &[(RecordId, Record)], content: &Content) -> u64 {
    let Content::HardLink(to) = content else {
        return 0;
    };
    let mut sizes = records.iter().filter_map(|(_, record)| match record {
        Record::File {
            path,
            content: Content::Regular { size, .. },
            ..
        } if path == to => Some(*size),
        _ => None,
    });
    sizes.next_back().unwrap_or(0)
}

impl KnownTree for Tree {
    fn folder(&mut self, path: &StorePath) -> Result<Option<KnownFolder>, ClientError> {
        Ok(self
            .folders
            .get(path.components())
            .copied()
            .map(KnownFolder))
    }

    fn entry(&mut self, path: &StorePath) -> Result<Option<KnownEntry>, ClientError> {
        let Some((name, parent)) = path.components().split_last() else {
            return Ok(None);
        };
        let Some(folder) = self.folders.get(parent) else {
            return Ok(None);
        };
        let folder = &self.children[usize::try_from(*folder).unwrap()];
        Ok(folder.iter().find(|entry| entry.name == *name).cloned())
    }

    fn children(
        &mut self,
        folder: KnownFolder,
        after: Option<&[u8]>,
        out: &mut Vec<KnownEntry>,
    ) -> Result<(), ClientError> {
        let children = &self.children[usize::try_from(folder.0).unwrap()];
        let from = after.map_or(0, |after| {
            children.partition_point(|entry| entry.name.as_slice() <= after)
        });
        out.extend(children[from..].iter().take(self.page).cloned());
        Ok(())
    }

    fn revision(&mut self, id: RecordId) -> Result<Option<(Metadata, Content)>, ClientError> {
        Ok(self.revisions.get(&id).cloned())
    }
}
