//! Holds docs/format.md against the code: its table of sizes, and the bytes of its worked example.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use data_encoding::HEXLOWER;
use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::Extensions,
    head::Head,
    id::{ChannelId, RootHash},
    identity::AuthPublicKey,
    inventory::{Change, Entry, Inventory, InventoryRef},
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_vault::{
    journal::{
        batch::{Batch, Stamp},
        content::{ChunkExtent, Content},
        metadata::{FileTime, Metadata},
        record::Record,
    },
    keys::{KeyEpoch, MasterSecret},
    name::{ChunkRef, PackNumber, RecordId, SourceId, WriterId},
    path::StorePath,
};

const PAGE: &str = include_str!("../../../docs/format.md");

/// Names constants by their paths, each with its value.
macro_rules! constants {
    ($($path:path,)*) => {
        [$((stringify!($path), $path.to_string())),*]
    };
}

/// All constants that are part of the formats: each must have a row on the page, and no other may.
#[expect(
    unused_qualifications,
    reason = "rows name constants by their whole paths"
)]
fn constants() -> BTreeMap<&'static str, String> {
    let numbers = constants![
        maimo_core::codec::Prelude::LENGTH,
        maimo_core::codec::Prelude::VERSION,
        maimo_core::codec::Prelude::SUITE,
        maimo_core::codec::Extensions::COUNT_MAX,
        maimo_core::codec::Extensions::LENGTH_MAX,
        maimo_core::codec::Extensions::CRITICAL,
        maimo_core::reference::ObjectRef::FIXED_LENGTH,
        maimo_core::units::LEAF_BYTES,
        maimo_core::units::BLOCK_BYTES,
        maimo_core::units::GROUP_BYTES,
        maimo_core::units::PACK_BYTES_MAX,
        maimo_core::units::PACK_GROUPS_MAX,
        maimo_vault::aead::NONCE_BYTES,
        maimo_vault::aead::TAG_BYTES,
        maimo_vault::pack::HEADER_BYTES,
        maimo_vault::pack::TRAILER_BYTES,
        maimo_vault::pack::CHUNKS_PER_PACK_MAX,
        maimo_vault::pack::DICTIONARIES_PER_PACK_MAX,
        maimo_vault::pack::RECORDS_BYTES_MAX,
        maimo_vault::pack::TABLE_BYTES_MAX,
        maimo_vault::pack::PIECE_BYTES_MAX,
        maimo_vault::chunker::CHUNK_BYTES_MIN,
        maimo_vault::chunker::CHUNK_BYTES_NORMAL,
        maimo_vault::chunker::CHUNK_BYTES_MAX,
        maimo_vault::compress::WINDOW_LOG_MAX,
        maimo_vault::dictionary::DICTIONARY_BYTES_MAX,
        maimo_vault::dictionary::SMALL_BYTES_MAX,
        maimo_core::live_map::LiveMap::RUNS_MAX,
        maimo_core::inventory::Node::SLOTS,
        maimo_core::inventory::Node::LEVEL_MAX,
        maimo_core::inventory::Node::BYTES_MAX,
        maimo_core::inventory::InventoryRef::FIXED_LENGTH,
        maimo_core::inventory::CHARGE_BYTES_MIN,
        maimo_core::head::Head::LENGTH,
        maimo_core::head::Head::LENGTH_MAX,
        maimo_core::head::SignedHead::LENGTH_MAX,
        maimo_core::head::ALGORITHM_ED25519,
        maimo_core::head::COMMIT_BYTES_MAX,
        maimo_core::head_move::HeadMove::LENGTH_MAX,
        maimo_core::head_move::HeadMove::NODES_MAX,
        maimo_core::head_move::HeadMove::NODES_BYTES_MAX,
        maimo_core::ancestry::SEQUENCE_MAX,
        maimo_core::ancestry::Ancestry::PEAKS_MAX,
        maimo_core::ancestry::AncestryProof::LENGTH_MAX,
        maimo_core::receipt::Receipt::LENGTH,
        maimo_core::receipt::Receipt::LENGTH_MAX,
        maimo_vault::commit::COMMIT_STEP_BYTES,
        maimo_vault::commit::PARENTS_MAX,
        maimo_vault::commit::WITNESSES_MAX,
        maimo_vault::commit::SEGMENTS_MAX,
        maimo_vault::commit::TAIL_BYTES_MAX,
        maimo_vault::journal::batch::BATCH_BYTES_MAX,
        maimo_vault::journal::batch::RECORDS_MAX,
        maimo_vault::journal::batch::PATHS_BYTES_MAX,
        maimo_vault::journal::batch::NAMES_MAX,
        maimo_vault::journal::record::TEXT_BYTES_MAX,
        maimo_vault::journal::record::ADDRESSES_MAX,
        maimo_vault::journal::record::CHANNELS_MAX,
        maimo_vault::journal::record::DROPPED_MAX,
        maimo_vault::journal::content::EXTENTS_MAX,
        maimo_vault::journal::metadata::XATTRS_MAX,
        maimo_vault::journal::metadata::XATTR_NAME_BYTES_MAX,
        maimo_vault::journal::metadata::XATTR_VALUE_BYTES_MAX,
        maimo_vault::path::StorePath::COMPONENTS_MAX,
        maimo_vault::path::StorePath::COMPONENT_BYTES_MAX,
        maimo_vault::path::StorePath::BYTES_MAX,
        maimo_core::audit::SLICES_MAX,
        maimo_core::digest::DigestRequest::PACKS_MAX,
        maimo_core::verify::Selection::OBJECT_BYTES_MAX,
        maimo_core::address::Address::NAME_BYTES_MAX,
        maimo_core::address::Addresses::COUNT_MAX,
        maimo_core::address::AddressList::LENGTH_MAX,
        maimo_core::ticket::Ticket::LENGTH_MAX,
        maimo_core::ticket::TicketId::LENGTH,
        maimo_core::audit::AuditStatement::LENGTH,
        maimo_core::audit::AuditStatement::LENGTH_MAX,
        maimo_core::audit::AuditReceipt::ANSWERS_MAX,
        maimo_core::audit::AuditReceipt::LENGTH_MAX,
        maimo_core::invitation::Invitation::LENGTH_MAX,
        maimo_core::invitation::InvitationToken::LENGTH,
        maimo_core::invitation::GRACE_SECONDS_MAX,
        maimo_core::line::LINE_CHARACTERS_MAX,
        maimo_vault::key_file::SALT_BYTES,
        maimo_vault::key_file::BARE_BYTES,
        maimo_vault::key_file::SEALED_BYTES,
    ];
    let mut all: BTreeMap<_, _> = numbers.into();
    macro_rules! ranges {
        ($($path:path,)*) => {
            $(all.insert(stringify!($path), format!("{} to {}", $path.start(), $path.end()));)*
        };
    }
    ranges![
        maimo_vault::key_file::PassphraseCost::MEMORY_KIB,
        maimo_vault::key_file::PassphraseCost::PASSES,
        maimo_vault::key_file::PassphraseCost::LANES,
    ];
    all
}

/// Maxima that are no part of a format: (module, name) and what they are.
const ELSEWHERE: [(&str, &str); 13] = [
    // What a provider's answers hold, and how it works: docs/protocol.md.
    ("custody", "EXTENTS_SOFT_MAX"),
    ("custody", "WORK_MAX"),
    ("custody", "PACKS_MAX"),
    ("custody", "RUNS_MAX"),
    ("custody", "FREES_MAX"),
    ("custody", "HEADROOM_BYTES_MAX"),
    ("custody", "REPORT_BYTES_MAX"),
    ("terms", "LENGTH_MAX"),
    ("codec", "REPORT_BYTES_MAX"),
    // How this writer goes about it.
    ("merge", "STEP_BYTES_MAX"),
    ("compose", "PIECE_BYTES_MAX"),
    ("dictionary", "SAMPLE_BYTES_MAX"),
    ("dictionary", "SAMPLES_BYTES_MAX"),
];

fn section(heading: &str) -> &'static str {
    let start = PAGE.find(&format!("\n{heading}\n")).expect(heading) + heading.len() + 2;
    let level = heading.split(' ').next().unwrap();
    let rest = &PAGE[start..];
    let end = (1..=level.len())
        .filter_map(|depth| rest.find(&format!("\n{} ", "#".repeat(depth))))
        .min();
    &rest[..end.unwrap_or(rest.len())]
}

fn rows() -> Vec<(&'static str, String)> {
    section("## Sizes and maxima")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect(row);
            let (value, unit) = rest.split_once(" | ").expect(row);
            assert!(!unit.trim_matches([' ', '|']).is_empty(), "{row}");
            (name, value.replace(',', ""))
        })
        .collect()
}

#[test]
fn every_row_of_sizes_is_a_constant_and_every_constant_has_a_row() {
    let constants = constants();
    let rows = rows();
    let missing: Vec<_> = constants
        .iter()
        .filter(|(name, _)| !rows.iter().any(|(row, _)| row == *name))
        .collect();
    assert!(missing.is_empty(), "rows are missing: {missing:#?}");
    let mut seen = BTreeSet::new();
    for (name, value) in rows {
        assert_eq!(constants.get(name), Some(&value), "{name}");
        assert!(seen.insert(name), "{name} stands twice");
    }
}

#[test]
fn every_public_maximum_of_the_sources_is_on_the_page_or_known_to_belong_elsewhere() {
    let mut found = 0;
    let mut missing = Vec::new();
    for (crate_name, folder) in [("maimo_core", "maimo-core"), ("maimo_vault", "maimo-vault")] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder)
            .join("src");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let modules: Vec<String> = path
                    .strip_prefix(&root)
                    .unwrap()
                    .with_extension("")
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .collect();
                for line in fs::read_to_string(&path).unwrap().lines() {
                    let Some(rest) = line.trim_start().strip_prefix("pub const ") else {
                        continue;
                    };
                    let name = rest.split(':').next().unwrap();
                    if !name.ends_with("_MAX") || name.contains('(') {
                        continue;
                    }
                    found += 1;
                    let is_elsewhere = ELSEWHERE.iter().any(|(module, other)| {
                        *other == name && modules.iter().any(|m| m == module)
                    });
                    let has_row = rows().iter().any(|(row, _)| {
                        let parts: Vec<&str> = row.split("::").collect();
                        parts.first() == Some(&crate_name)
                            && parts.last() == Some(&name)
                            && modules
                                .iter()
                                .any(|module| parts.contains(&module.as_str()))
                    });
                    if !is_elsewhere && !has_row {
                        missing.push(format!("{modules:?} {name}"));
                    }
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    // Else the search itself is broken.
    assert!(found > 50, "only {found} maxima found");
}

/// The secret and the auth key of the vectors in docs/cryptography.md.
const SECRET: [u8; 32] = [
    0x73, 0x16, 0x0f, 0xb8, 0xe1, 0x9e, 0xa8, 0xa9, 0xcf, 0x9a, 0x81, 0xdf, 0xf0, 0x08, 0x0e, 0x4c,
    0x49, 0x9b, 0xee, 0xb6, 0xd7, 0x53, 0x0a, 0xed, 0xbc, 0x7a, 0xf8, 0x43, 0x9d, 0x7a, 0x89, 0xab,
];
const AUTH: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

/// The bytes of the fenced block under a heading of the worked example: what stands before the bar of each line.
fn example(heading: &str) -> Vec<u8> {
    let block = section(&format!("### {heading}"))
        .split("```")
        .nth(1)
        .expect(heading);
    let lines = block
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('|'));
    let digits: String = lines
        .flat_map(|(bytes, _)| bytes.split_whitespace())
        .collect();
    HEXLOWER.decode(digits.as_bytes()).expect(heading)
}

/// As many bytes as each line has must be what its offset says: the number that a line begins its note with.
fn offsets_fit(heading: &str) {
    let block = section(&format!("### {heading}"))
        .split("```")
        .nth(1)
        .unwrap();
    let mut offset = 0;
    for (bytes, note) in block
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once('|'))
    {
        let said = note.split_whitespace().next().unwrap();
        assert_eq!(said.parse(), Ok(offset), "{heading}: {note}");
        offset += bytes
            .split_whitespace()
            .map(|word| word.len() / 2)
            .sum::<usize>();
    }
}

struct Example {
    live: LiveMap,
    leaf: Vec<u8>,
    head: Head,
    batch: Batch,
}

/// The store of the worked example: one file of 40,000 bytes in one pack, of which the first group has died.
fn worked() -> Example {
    let master = MasterSecret::from_entropy(&SECRET);
    let auth = AuthPublicKey::from_bytes(&AUTH).unwrap();
    let client = master.channel_keys(KeyEpoch(0), &auth).client.public();
    let pack = ObjectRef {
        root: RootHash::of(b"a pack"),
        length: 45_056,
    };
    let live = LiveMap::from_runs(3, core::iter::once(1..3)).unwrap();
    let mut data = Inventory::new();
    data.apply([Change::Set(Entry::new(pack, live.clone()).unwrap())])
        .unwrap();
    let leaf = data.nodes().next().unwrap().1.to_vec();
    let head = Head {
        channel: ChannelId::derive(auth.as_bytes(), client.as_bytes()),
        sequence: 1,
        previous: RootHash::NONE,
        ancestry: Ancestry::empty().hash(),
        data: data.reference(),
        vital: InventoryRef::EMPTY,
        commit: ObjectRef {
            root: RootHash::of(b"a commit"),
            length: 512,
        },
        time: Timestamp(1_795_392_000_000),
        signer: client,
        extensions: Extensions::default(),
    };
    let writer = WriterId([0x11; 16]);
    let source = SourceId([0x22; 16]);
    let id = |counter| RecordId { writer, counter };
    let chunk = ChunkRef {
        pack: PackNumber { writer, n: 7 },
        index: 2,
    };
    let records = [
        Record::RunBegin {
            source,
            time: 1_795_392_000_000,
        },
        Record::File {
            source,
            path: StorePath::unix("/home/u/a").unwrap(),
            metadata: Metadata {
                mode: 0o644,
                uid: 1000,
                gid: 1000,
                modified: FileTime {
                    seconds: 1_795_391_999,
                    nanos: 500,
                },
                ..Metadata::default()
            },
            content: Content::Regular {
                size: 40_000,
                blake3: *blake3::hash(b"a file").as_bytes(),
                chunks: ChunkExtent::join([chunk]),
            },
        },
        Record::RunEnd {
            run: id(40),
            time: 1_795_392_001_000,
            files: 1,
            bytes_stored: 45_056,
        },
    ];
    let records = (40..).zip(records).map(|(counter, record)| {
        let id = id(counter);
        (Stamp { sequence: 0, id }, record)
    });
    Example {
        live,
        leaf,
        head,
        batch: Batch::new(records.collect()),
    }
}

#[test]
fn the_worked_example_is_what_the_code_encodes() {
    let Example {
        live,
        leaf,
        head,
        batch,
    } = worked();
    let mut map = Vec::new();
    live.encode(&mut map);
    let root = head.root().to_string();
    for (heading, bytes) in [
        ("A live map", map),
        ("An inventory leaf", leaf),
        ("A head", head.encode()),
        ("A batch", batch.encode()),
    ] {
        assert_eq!(
            HEXLOWER.encode(&example(heading)),
            HEXLOWER.encode(&bytes),
            "{heading}"
        );
        offsets_fit(heading);
    }
    assert!(section("### A head").contains(&root), "{root}");
}
