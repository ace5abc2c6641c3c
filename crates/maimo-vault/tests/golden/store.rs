//! What the golden files hold: a tiny store, as values. The example `golden` made the files of it, the test `golden` reads them.
//!
//! Nothing here may change: the files are never made again.

use maimo_core::{
    address::{Address, Addresses},
    clock::Timestamp,
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, AuthSecretKey, OnionSecretKey},
    inventory::{Change, Entry, Inventory},
    live_map::LiveMap,
    reference::ObjectRef,
    ticket::TicketId,
};
use maimo_vault::{
    commit::{StorePart, Witness},
    journal::{
        batch::{Batch, Stamp},
        content::{ChunkExtent, Content},
        metadata::{FileTime, Metadata},
        record::{PathEvent, Record},
        repeat::Repeat,
    },
    keys::{ChannelKeys, ChunkIdKey, CommitName, KeyEpoch, MasterSecret},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
    path::{Prefix, StorePath},
    retention::Policy,
};

/// The secret of the vectors in docs/cryptography.md.
pub(crate) const SECRET: [u8; 32] = [
    0x73, 0x16, 0x0f, 0xb8, 0xe1, 0x9e, 0xa8, 0xa9, 0xcf, 0x9a, 0x81, 0xdf, 0xf0, 0x08, 0x0e, 0x4c,
    0x49, 0x9b, 0xee, 0xb6, 0xd7, 0x53, 0x0a, 0xed, 0xbc, 0x7a, 0xf8, 0x43, 0x9d, 0x7a, 0x89, 0xab,
];
/// The seed of RFC 8032's first test vector: its public key is the auth key of docs/cryptography.md.
pub(crate) const AUTH_SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
pub(crate) const WRITER: WriterId = WriterId([0x11; 16]);
pub(crate) const SOURCE: SourceId = SourceId([0x22; 16]);
pub(crate) const PASSPHRASE: &str = "correct horse";
pub(crate) const DOMAIN: Domain = Domain(0);
pub(crate) const EPOCH: KeyEpoch = KeyEpoch(0);
/// 2026-11-23T00:00:00Z.
pub(crate) const TIME: Timestamp = Timestamp(1_795_392_000_000);
pub(crate) const DIGEST_KEY: [u8; 32] = [0x66; 32];
pub(crate) const TICKET_ID: TicketId = TicketId([0x77; 16]);
pub(crate) const TOKEN: [u8; 16] = [0x88; 16];
pub(crate) const LEDGER: [u8; 16] = [0x99; 16];
pub(crate) const CAP: u64 = 1 << 40;
/// Blocks that the slice of blocks is of, and groups that the slice of groups is of.
pub(crate) const SLICE_BLOCKS: [u64; 3] = [0, 1, 9];
pub(crate) const SLICE_GROUP: u64 = 1;

/// The pack numbers, in the order in which they were given.
pub(crate) const DICTIONARY_PACK: PackNumber = number(0);
pub(crate) const DATA_PACK: PackNumber = number(1);
pub(crate) const JOURNAL_PACK: PackNumber = number(2);
pub(crate) const TAIL_PIECE: PackNumber = number(3);

const fn number(n: u64) -> PackNumber {
    PackNumber { writer: WRITER, n }
}

pub(crate) fn master() -> MasterSecret {
    MasterSecret::from_entropy(&SECRET)
}

pub(crate) fn auth_secret() -> AuthSecretKey {
    AuthSecretKey::from_seed(&AUTH_SEED)
}

pub(crate) fn auth() -> AuthPublicKey {
    auth_secret().public()
}

pub(crate) fn channel_keys() -> ChannelKeys {
    master().channel_keys(EPOCH, &auth())
}

pub(crate) fn channel() -> ChannelId {
    ChannelId::derive(auth().as_bytes(), channel_keys().client.public().as_bytes())
}

pub(crate) fn id_key(of: ChunkType) -> ChunkIdKey {
    master().chunk_id_key(EPOCH, of, DOMAIN)
}

/// What the file `/home/u/letters` holds, in three chunks: one stored as it is, one compressed, one compressed with the dictionary.
pub(crate) fn chunks() -> [Vec<u8>; 3] {
    let mut random = vec![0; 40_000];
    blake3::Hasher::new()
        .update(b"golden")
        .finalize_xof()
        .fill(&mut random);
    let repeated = b"All work and no play. ".repeat(1000);
    [random, repeated, letter(1000)]
}

/// A small text, much like all others of its kind.
pub(crate) fn letter(n: u32) -> Vec<u8> {
    let day = n % 28 + 1;
    format!("{{\"from\": \"alice{n}@example.org\", \"to\": \"bob@example.org\", \"date\": \"2026-11-{day:02}\", \"subject\": \"letter {n}\"}}\n")
        .into_bytes()
}

/// The one chunk of the tail's piece.
pub(crate) fn note() -> Vec<u8> {
    b"remember the milk\n".to_vec()
}

pub(crate) fn letters() -> Vec<u8> {
    chunks().concat()
}

fn id(counter: u64) -> RecordId {
    RecordId {
        writer: WRITER,
        counter,
    }
}

fn stamped(sequence: u64, counter: u64, record: Record) -> (Stamp, Record) {
    let id = id(counter);
    (Stamp { sequence, id }, record)
}

fn path(text: &str) -> StorePath {
    StorePath::unix(text).unwrap()
}

fn file(path: StorePath, content: Content) -> Record {
    Record::File {
        source: SOURCE,
        path,
        metadata: Metadata {
            mode: 0o644,
            uid: 1000,
            gid: 100,
            modified: FileTime {
                seconds: 1_795_392_000,
                nanos: 123_456_789,
            },
            ..Metadata::default()
        },
        content,
    }
}

fn regular(pack: PackNumber, count: u32, bytes: &[u8]) -> Content {
    Content::Regular {
        size: bytes.len() as u64,
        blake3: *blake3::hash(bytes).as_bytes(),
        chunks: vec![ChunkExtent {
            first: ChunkRef { pack, index: 0 },
            count,
        }],
    }
}

/// The record of `/home/u/letters`.
fn letters_record() -> (Stamp, Record) {
    let record = file(path("/home/u/letters"), regular(DATA_PACK, 3, &letters()));
    stamped(0, 6, record)
}

/// What the data pack repeats.
pub(crate) fn repeat() -> Repeat {
    let (stamp, record) = letters_record();
    Repeat {
        as_of: 1,
        batch: Batch::new(vec![(
            Stamp {
                sequence: 1,
                ..stamp
            },
            record,
        )]),
    }
}

/// The records of the one segment: one of every type, and one that version 1 does not know.
pub(crate) fn batch(
    dictionary_pack: ObjectRef,
    data_pack: ObjectRef,
    dictionary: ChunkId,
) -> Batch {
    let channel = channel();
    let pack = |number, reference| Record::Pack {
        number,
        channel,
        reference,
    };
    let full = Record::File {
        source: SOURCE,
        path: path("/home/u/old"),
        metadata: Metadata {
            mode: 0o100_600,
            uid: u32::MAX,
            gid: 0,
            modified: FileTime {
                seconds: -1,
                nanos: 999_999_999,
            },
            created: Some(FileTime {
                seconds: i64::MIN,
                nanos: 0,
            }),
            xattrs: vec![
                (b"user.a".to_vec(), Vec::new()),
                (b"user.b".to_vec(), vec![0xff, 0]),
            ],
            sparse: true,
        },
        content: regular(number(9), 1, b"was in a pack that was rewritten"),
    };
    let windows = Prefix::Windows(b"C:".to_vec());
    let on_windows = StorePath::new(windows, vec![b"Users".to_vec(), b"u".to_vec()]).unwrap();
    let zero = vec![
        stamped(
            0,
            0,
            Record::Source {
                source: SOURCE,
                label: "laptop".into(),
            },
        ),
        stamped(
            0,
            1,
            Record::Channel {
                channel,
                auth: *auth().as_bytes(),
                name: "first".into(),
                addresses: vec!["192.0.2.1:9137".into()],
                closed: false,
            },
        ),
        stamped(
            0,
            2,
            Record::Layout {
                epoch: 1,
                channels: vec![channel],
            },
        ),
        stamped(0, 3, pack(DICTIONARY_PACK, dictionary_pack)),
        stamped(
            0,
            4,
            Record::Dictionary {
                id: dictionary,
                domain: DOMAIN,
                chunk: ChunkRef {
                    pack: DICTIONARY_PACK,
                    index: 0,
                },
                retired: false,
            },
        ),
        stamped(
            0,
            5,
            Record::RunBegin {
                source: SOURCE,
                time: TIME.0,
            },
        ),
        letters_record(),
        stamped(0, 7, file(path("/home/u"), Content::Folder)),
        stamped(
            0,
            8,
            file(
                path("/home/u/link"),
                Content::Symlink(b"../u/letters".to_vec()),
            ),
        ),
        stamped(
            0,
            9,
            file(
                path("/home/u/same"),
                Content::HardLink(path("/home/u/letters")),
            ),
        ),
        stamped(0, 10, file(path("/home/u/pipe"), Content::Fifo)),
        stamped(
            0,
            11,
            file(
                path("/dev/sda"),
                Content::Device {
                    block: true,
                    major: 8,
                    minor: 0,
                },
            ),
        ),
        stamped(
            0,
            12,
            file(
                path("/dev/tty"),
                Content::Device {
                    block: false,
                    major: 5,
                    minor: 0,
                },
            ),
        ),
        stamped(0, 13, file(on_windows, Content::Folder)),
        stamped(0, 14, pack(DATA_PACK, data_pack)),
        stamped(
            0,
            15,
            Record::RunEnd {
                run: id(5),
                time: TIME.0 + 1000,
                files: 8,
                bytes_stored: 49_152,
            },
        ),
        stamped(
            0,
            1000,
            Record::Path {
                source: SOURCE,
                path: path("/home/u/pipe"),
                event: PathEvent::Gone,
            },
        ),
        stamped(
            0,
            1001,
            Record::Pin {
                id: id(5),
                pinned: true,
            },
        ),
        stamped(
            0,
            1002,
            Record::Policy {
                pattern: String::new(),
                policy: Some(Policy::default()),
            },
        ),
        stamped(
            0,
            1003,
            Record::Policy {
                pattern: "*.iso".into(),
                policy: None,
            },
        ),
        stamped(
            0,
            1004,
            Record::Unknown {
                kind: 0x01,
                body: b"of a later version".to_vec(),
            },
        ),
    ];
    let other = WriterId([0x33; 16]);
    let old = |counter, record| {
        let id = RecordId {
            writer: other,
            counter,
        };
        (Stamp { sequence: 1, id }, record)
    };
    let old_chunk = ChunkRef {
        pack: number(9),
        index: 0,
    };
    let now = ChunkRef {
        pack: PackNumber {
            writer: other,
            n: 0,
        },
        index: 65_535,
    };
    let explicit = vec![
        old(
            0,
            Record::Moved {
                from: old_chunk,
                to: now,
                count: 1,
            },
        ),
        old(1, full),
        old(
            2,
            Record::Dropped {
                ids: vec![
                    RecordId {
                        writer: other,
                        counter: 1,
                    },
                    RecordId {
                        writer: other,
                        counter: 7,
                    },
                ],
            },
        ),
    ];
    Batch::new([zero, explicit].concat())
}

/// The records of the tail's piece.
pub(crate) fn tail_batch() -> Batch {
    Batch::new(vec![
        stamped(
            0,
            2000,
            Record::RunBegin {
                source: SOURCE,
                time: TIME.0 + 60_000,
            },
        ),
        stamped(
            0,
            2001,
            file(path("/home/u/note"), regular(TAIL_PIECE, 1, &note())),
        ),
        stamped(
            0,
            2002,
            Record::RunEnd {
                run: id(2000),
                time: TIME.0 + 61_000,
                files: 1,
                bytes_stored: 100,
            },
        ),
    ])
}

/// The roots of the channel's heads before the golden one, which is its third, and of ten more for the proof of ancestry.
pub(crate) fn earlier_roots() -> Vec<RootHash> {
    (1..=10_u8).map(|n| RootHash::of(&[n])).collect()
}

pub(crate) fn store_part() -> StorePart {
    StorePart {
        store: master().store_id(EPOCH),
        sequence: 3,
        parents: vec![CommitName([0x44; 32])],
        writer: WRITER,
        run: Some(id(2000)),
        layout_epoch: 1,
        witnesses: vec![Witness {
            channel: channel(),
            sequence: 2,
            root: earlier_roots()[1],
        }],
    }
}

/// A map of `groups` groups in runs; and one that is shorter as a bitmap.
pub(crate) fn live_map_runs() -> LiveMap {
    LiveMap::from_runs(300, [0..3, 7..8, 200..300]).unwrap()
}

pub(crate) fn live_map_bitmap() -> LiveMap {
    LiveMap::from_runs(21, (0..10).map(|n| 2 * n..2 * n + 1)).unwrap()
}

/// Forty packs that exist nowhere: a top of level 1 over two leaves.
pub(crate) fn forty_packs() -> Inventory {
    let mut inventory = Inventory::new();
    let change = |n: u8| {
        let length = 4096 * (1 + 100 * u64::from(n));
        let root = RootHash::of(&[n]);
        let groups = u32::try_from(length.div_ceil(16 * 1024)).unwrap();
        let live = LiveMap::from_runs(groups, core::iter::once(groups / 2..groups)).unwrap();
        Change::Set(Entry::new(ObjectRef { root, length }, live).unwrap())
    };
    inventory.apply((0..40).map(change)).unwrap();
    inventory
}

pub(crate) fn addresses() -> Addresses {
    let onion = OnionSecretKey::from_seed(&[0x55; 32]).public();
    Addresses::new(vec![Address::onion(onion, 9137).unwrap()]).unwrap()
}

pub(crate) fn tcp_addresses() -> Addresses {
    let all = ["192.0.2.1:9137", "[2001:db8::1]:9137", "host.example:443"];
    Addresses::new(all.map(|text| text.parse().unwrap()).to_vec()).unwrap()
}
