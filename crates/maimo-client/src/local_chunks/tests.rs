//! Claims about chunks taken from local files, and about how they are compressed again.

use std::{collections::HashMap, fs, os::unix::fs::symlink};

use maimo_core::{id::ChannelId, id::RootHash, reference::ObjectRef};
use maimo_vault::{
    dictionary::train,
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        metadata::Metadata,
        record::Record,
    },
    keys::MasterSecret,
    name::{ChunkId, RecordId, WriterId},
    pack::{FramedChunk, PackBuilder, PackKind},
    path::StorePath,
};
use tempfile::TempDir;

use super::*;
use crate::catalog::{Catalog, Position, TakeIn};

const SOURCE: SourceId = SourceId([7; 16]);
const WRITER: WriterId = WriterId([1; 16]);
const OUTSIDE: Domain = Domain(5);

/// A catalog of files that consist of whole chunks, all in one pack.
struct Scene {
    folder: TempDir,
    keys: StoreKeys,
    layout: PackLayout,
    records: Vec<(Stamp, Record)>,
}

fn number(n: u64) -> PackNumber {
    PackNumber { writer: WRITER, n }
}

fn chunk(index: u32) -> ChunkRef {
    let pack = number(1);
    ChunkRef { pack, index }
}

impl Scene {
    /// Stores `files`, each as (name, chunks); all chunks are of `domain`.
    fn new(domain: Domain, files: &[(&str, &[&str])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = StoreKeys::new(&MasterSecret::from_entropy(&[3; 32]));
        let mut builder = PackBuilder::new(number(1), PackKind::Data);
        let mut records = Vec::new();
        for (counter, (name, chunks)) in (1..).zip(files) {
            fs::write(folder.path().join(name), chunks.concat()).unwrap();
            let places = chunks.iter().map(|text| {
                let entry = entry(&keys, domain, text);
                let index = builder.push(FramedChunk::new(&entry, text.as_bytes()));
                chunk(index.unwrap())
            });
            let content = Content::Regular {
                size: 0,
                blake3: [0; 32],
                chunks: ChunkExtent::join(places),
            };
            let path = folder.path().join(name);
            let record = Record::File {
                source: SOURCE,
                path: StorePath::unix(path.to_str().unwrap()).unwrap(),
                metadata: Metadata::default(),
                content,
            };
            let writer = WRITER;
            let id = RecordId { writer, counter };
            records.push((Stamp { sequence: 1, id }, record));
        }
        let layout = builder.layout();
        Self {
            folder,
            keys,
            layout,
            records,
        }
    }

    fn by_catalog(&self) -> LocalChunks {
        let mut catalog = Catalog::open(&self.folder.path().join("catalog")).unwrap();
        let position = Position {
            sequence: 1,
            ..Position::default()
        };
        let with = TakeIn {
            position: &position,
            local: &HashMap::new(),
            layouts: core::slice::from_ref(&self.layout),
            vanished: &[],
        };
        let of_pack = Record::Pack {
            number: number(1),
            channel: ChannelId([9; 32]),
            reference: ObjectRef {
                root: RootHash([8; 32]),
                length: self.layout.length(),
            },
        };
        let id = RecordId {
            writer: WRITER,
            counter: 0,
        };
        let mut records = vec![(Stamp { sequence: 1, id }, of_pack)];
        records.extend(self.records.iter().cloned());
        catalog.take_in(&records, &with).unwrap();
        LocalChunks::in_catalog(&catalog.reader().unwrap(), SOURCE, |_| true).unwrap()
    }

    fn by_state(&self) -> LocalChunks {
        let mut state = State::default();
        for (stamp, record) in &self.records {
            state.apply(*stamp, record.clone());
        }
        let wanted = (0..).zip(self.layout.entries()).map(|(at, _)| chunk(at));
        let length = |chunk: ChunkRef| {
            let entry = self.layout.entries().get(chunk.index as usize);
            Some(u64::from(entry?.plaintext_length))
        };
        LocalChunks::in_state(&state, SOURCE, &wanted.collect(), length).unwrap()
    }

    /// Reads every chunk of the pack, by catalog and by state, which must agree.
    fn read(&self) -> Vec<Option<String>> {
        let all = |mut local: LocalChunks| -> Vec<Option<String>> {
            let entries = (0..).zip(self.layout.entries());
            let read = entries.map(|(at, entry)| local.read(chunk(at), entry, &self.keys));
            read.map(|plain| Some(String::from_utf8(plain?).unwrap()))
                .collect()
        };
        let by_catalog = all(self.by_catalog());
        assert_eq!(by_catalog, all(self.by_state()));
        fs::remove_file(self.folder.path().join("catalog")).unwrap();
        by_catalog
    }
}

fn entry(keys: &StoreKeys, domain: Domain, text: &str) -> Entry {
    let length = u32::try_from(text.len()).unwrap();
    Entry {
        id: keys.content_key(domain).id(text.as_bytes()),
        chunk_type: ChunkType::Content,
        domain,
        codec: Codec::Raw,
        dictionary: None,
        plaintext_length: length,
        frame_length: length,
    }
}

fn all(chunks: &[&str]) -> Vec<Option<String>> {
    chunks.iter().map(|text| Some((*text).to_owned())).collect()
}

#[test]
fn chunks_are_read_where_their_files_have_them() {
    let scene = Scene::new(
        Domain::default(),
        &[("a", &["one", "three", "seventeen"]), ("b", &["two"])],
    );
    assert_eq!(scene.read(), all(&["one", "three", "seventeen", "two"]));
}

/// Pruning held them against the key of the store's own domain, and downloaded them all.
#[test]
fn chunks_of_another_domain_are_found_by_its_key() {
    let scene = Scene::new(OUTSIDE, &[("mail", &["from", "outside"])]);
    assert_eq!(scene.read(), all(&["from", "outside"]));
}

#[test]
fn what_changed_of_a_file_is_not_taken_and_what_did_not_is() {
    let scene = Scene::new(Domain::default(), &[("a", &["one", "two", "six"])]);
    fs::write(scene.folder.path().join("a"), "oneTWOsix").unwrap();
    let six = Some("six".to_owned());
    assert_eq!(scene.read(), [Some("one".to_owned()), None, six]);
    fs::write(scene.folder.path().join("a"), "onetw").unwrap();
    assert_eq!(scene.read(), [Some("one".to_owned()), None, None]);
}

#[test]
fn a_link_or_a_folder_in_place_of_a_file_is_not_read() {
    let scene = Scene::new(Domain::default(), &[("a", &["one"]), ("b", &["two"])]);
    let (a, b) = (scene.folder.path().join("a"), scene.folder.path().join("b"));
    fs::rename(&a, scene.folder.path().join("elsewhere")).unwrap();
    symlink(scene.folder.path().join("elsewhere"), &a).unwrap();
    fs::remove_file(&b).unwrap();
    fs::create_dir(&b).unwrap();
    assert_eq!(scene.read(), [None, None]);
}

fn dictionary() -> Dictionary {
    let samples: Vec<String> = (0..2000)
        .map(|n| format!("from: someone-{n}@example.org, subject: letter {}", n * 7))
        .collect();
    let bytes = train(samples.iter().map(String::as_bytes)).unwrap();
    Dictionary::new(ChunkId([6; 32]), bytes, Level::default()).unwrap()
}

/// How short a letter becomes would tell its sender what the other files have in common with it.
#[test]
fn no_chunk_of_another_domain_is_compressed_with_the_dictionary() {
    let dictionary = dictionary();
    let keys = StoreKeys::new(&MasterSecret::from_entropy(&[3; 32]));
    let text = "from: someone-77@example.org, subject: letter 539";
    let mut framing = Framing::new(Some(&dictionary));
    let (own, frame) = framing.frame(&entry(&keys, Domain::default(), text), text.as_bytes());
    assert_eq!(own.dictionary, Some(dictionary.id()));
    assert_eq!(own.codec, Codec::ZstdDictionary);
    assert_eq!(own.frame_length as usize, frame.len());
    // One after the other: the compressor remembers none.
    let (other, frame) = framing.frame(&entry(&keys, OUTSIDE, text), text.as_bytes());
    assert_eq!(other.dictionary, None);
    assert_ne!(other.codec, Codec::ZstdDictionary);
    assert_eq!(other.frame_length as usize, frame.len());
}
