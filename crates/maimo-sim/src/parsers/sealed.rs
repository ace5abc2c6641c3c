//! What `maimo-vault` reads: behind a seal or a checksum, so the input is the inside and is sealed here, as `docs/format.md` says.

use std::{collections::BTreeSet, sync::LazyLock};

use maimo_core::{
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    id::{ChannelId, RootHash},
    identity::AuthSecretKey,
    reference::ObjectRef,
};
use maimo_vault::{
    commit::{COMMIT_STEP_BYTES, Commit, Segment, StorePart, TailPiece, Witness},
    compress::{Codec, Compressor, Decompressor, Frame, Level},
    dictionary::{Dictionary, train},
    journal::{
        batch::{Batch, Stamp},
        content::{ChunkExtent, Content},
        merge::Judge,
        metadata::{FileTime, Metadata},
        record::{PathEvent, Record},
        repeat::Repeat,
        state::State,
    },
    key_file::{KeyFile, PassphraseCost},
    keys::{ChannelKeys, ChunkIdKey, CommitName, KeyEpoch, MasterSecret, StoreId},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
    pack::{
        ChunkContext, FramedChunk, HEADER_BYTES, PIECE_BYTES_MAX, PackBuilder, PackHeader,
        PackKeys, PackKind, PackNonce, PackReader, Piece, TRAILER_BYTES, open_pack,
    },
    path::{Prefix, StorePath},
    retention::Policy,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::assert_canonical;

const WRITER: WriterId = WriterId([9; 16]);
const OTHER_WRITER: WriterId = WriterId([8; 16]);
const NONCE: PackNonce = PackNonce([3; 24]);
const TAG_BYTES: usize = 32;

/// A store's keys and a dictionary.
struct Store {
    content: ChunkIdKey,
    journal: ChunkIdKey,
    dictionary_key: ChunkIdKey,
    channel: ChannelKeys,
    dictionary: Dictionary,
}

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let secret = MasterSecret::from_entropy(&[1; 32]);
    let id_key = |of| secret.chunk_id_key(KeyEpoch(0), of, Domain(0));
    let dictionary_key = id_key(ChunkType::Dictionary);
    let bytes = trained();
    let id = dictionary_key.id(&bytes);
    Store {
        content: id_key(ChunkType::Content),
        journal: id_key(ChunkType::Journal),
        channel: secret.channel_keys(KeyEpoch(0), &AuthSecretKey::from_seed(&[2; 32]).public()),
        dictionary: Dictionary::new(id, bytes, Level::default()).expect("just trained"),
        dictionary_key,
    }
});

fn trained() -> Vec<u8> {
    let samples: Vec<_> = (0..400).map(tiny).collect();
    train(samples.iter().map(Vec::as_slice)).expect("the samples are alike")
}

fn tiny(seed: u32) -> Vec<u8> {
    let hash = blake3::hash(&seed.to_le_bytes()).to_hex();
    format!(
        "{{\"name\":\"file-{seed}\",\"owner\":\"somebody\",\"digest\":\"{}\"}}",
        &hash[..8]
    )
    .into_bytes()
}

impl ChunkContext for Store {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        match (chunk_type, domain.0) {
            (ChunkType::Content, 0) => Some(&self.content),
            (ChunkType::Journal, 0) => Some(&self.journal),
            (ChunkType::Dictionary, 0) => Some(&self.dictionary_key),
            _ => None,
        }
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        (self.dictionary.id() == *id).then_some(&self.dictionary)
    }
}

const KINDS: [PackKind; 2] = [PackKind::Data, PackKind::Vital];

pub(super) fn pack_header(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for kind in KINDS {
        if let Ok(header) = PackHeader::parse(bytes, kind) {
            assert_canonical(bytes, &encode_header(header));
            accepted = true;
        }
    }
    accepted
}

fn encode_header(header: PackHeader) -> Vec<u8> {
    let mut out = Vec::new();
    header.encode(&mut out);
    out
}

fn header(kind: PackKind) -> PackHeader {
    PackHeader {
        kind,
        epoch: KeyEpoch(0),
        nonce: NONCE,
    }
}

pub(super) fn pack_headers() -> Vec<Vec<u8>> {
    KINDS.map(|kind| encode_header(header(kind))).to_vec()
}

/// Seals a part of a pack; `part` is 1 for a table and 2 for a trailer.
fn seal(kind: PackKind, part: u8, numbers: &[u32], plaintext: &[u8]) -> Vec<u8> {
    let mut ad = vec![Prelude::SUITE, kind.object_type() as u8, 0, part];
    ad.put_u32(0);
    for number in numbers {
        ad.put_u32(*number);
    }
    let mut sealed = plaintext.to_vec();
    let keys = PackKeys::new(&STORE.channel, KeyEpoch(0), kind);
    let tag = keys.pack.seal_in_place(&NONCE.0, &ad, &mut sealed);
    sealed.put(&tag);
    sealed
}

fn open_reader(kind: PackKind, length: u64) -> Option<PackReader<'static>> {
    let keys = PackKeys::new(&STORE.channel, KeyEpoch(0), kind);
    PackReader::new(keys.pack, kind, length, &encode_header(header(kind))).ok()
}

/// The pack's length in blocks (two bytes), then what the trailer says.
pub(super) fn pack_trailer(bytes: &[u8]) -> bool {
    let Some((blocks, plaintext)) = bytes.split_first_chunk::<2>() else {
        return false;
    };
    let length = u32::from(u16::from_le_bytes(*blocks)) * 4096;
    let Some(reader) = open_reader(PackKind::Data, length.into()) else {
        return false;
    };
    let Ok(trailer) = reader.open_trailer(&seal(PackKind::Data, 2, &[length], plaintext)) else {
        return false;
    };
    let table = trailer.table_range();
    assert!(
        table.start >= HEADER_BYTES as u64 && table.end + TRAILER_BYTES as u64 <= length.into()
    );
    let mut again = Vec::new();
    again.put(&table.start.to_le_bytes()[..4]);
    again.put(&(table.end - table.start).to_le_bytes()[..4]);
    assert_canonical(plaintext, &again);
    true
}

pub(super) fn pack_trailers() -> Vec<Vec<u8>> {
    let seed = |blocks: u16, offset: u32, length: u32| {
        let mut out = Vec::new();
        out.put_u16(blocks);
        out.put_u32(offset);
        out.put_u32(length);
        out
    };
    vec![
        seed(1, 64, 100),
        seed(1, 64, 4096 - 64 - 40),
        seed(16384, 60_000_000, 40),
        seed(5, 5000, 0),
    ]
}

const VITAL: u8 = 1;
const PACKED: u8 = 2;

/// Flags, then a table: as it is, or as it is packed (codec, length, frame).
pub(super) fn pack_table(bytes: &[u8]) -> bool {
    let Some((flags, table)) = bytes.split_first() else {
        return false;
    };
    let kind = KINDS[usize::from(flags & VITAL)];
    // The chunks must be as long as the table says, so a piece with frames of zeros is read first: it begins with the same table.
    let piece = (flags & PACKED == 0).then(|| piece_of(table)).flatten();
    let packed = if flags & PACKED == 0 {
        [&[Codec::Raw as u8], table].concat()
    } else {
        table.to_vec()
    };
    let sealed_length = |piece: &Piece| {
        piece
            .entries()
            .iter()
            .map(|entry| entry.frame_length as usize + TAG_BYTES)
            .sum()
    };
    let offset = HEADER_BYTES + piece.as_ref().map_or(0, sealed_length);
    let table_length = packed.len() + TAG_BYTES;
    let length = (offset + table_length + TRAILER_BYTES).next_multiple_of(4096);
    let [offset, table_length, pack_length] = [offset, table_length, length]
        .map(|length| u32::try_from(length).expect("inputs are short"));
    let Some(reader) = open_reader(kind, length as u64) else {
        return false;
    };
    let mut plaintext = Vec::new();
    plaintext.put_u32(offset);
    plaintext.put_u32(table_length);
    let trailer = reader
        .open_trailer(&seal(kind, 2, &[pack_length], &plaintext))
        .expect("a trailer that is right");
    let opened = reader.open_table(&trailer, seal(kind, 1, &[offset, table_length], &packed));
    if let Some(piece) = &piece {
        let belong = piece
            .entries()
            .iter()
            .all(|entry| kind.holds(entry.chunk_type));
        assert_eq!(
            opened.is_ok(),
            belong,
            "a piece and a pack read one table differently"
        );
    }
    let Ok(opened) = opened else {
        return false;
    };
    assert_eq!(opened.layout.length(), length as u64);
    if let Some(piece) = &piece {
        assert_eq!(opened.layout.entries(), piece.entries());
        assert_eq!(opened.records, piece.records());
    }
    let all = 0..u32::try_from(opened.layout.entries().len()).unwrap_or(0);
    assert!(opened.layout.live_map(all).is_some());
    true
}

/// Reads a table by itself, as that of a piece whose frames are zeros.
fn piece_of(table: &[u8]) -> Option<Piece> {
    let room = PIECE_BYTES_MAX.checked_sub(table.len())?;
    let mut bytes = table.to_vec();
    bytes.resize(PIECE_BYTES_MAX, 0);
    if let Err(ParseError::Trailing { extra }) = Piece::parse(&bytes) {
        bytes.truncate(table.len() + room.checked_sub(extra)?);
    }
    let piece = Piece::parse(&bytes).ok()?;
    // Of a table cut short, the zeros would have become a part.
    let frames: usize = piece.chunks().map(|chunk| chunk.frame.len()).sum();
    (piece.encoded_length() - frames == table.len()).then_some(piece)
}

pub(super) fn pack_tables() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (flags, piece) in [
        (0, small_piece()),
        (VITAL, vital_piece()),
        (0, Piece::new(number(1))),
    ] {
        let mut encoded = Vec::new();
        piece.encode(&mut encoded);
        let frames: usize = piece
            .entries()
            .iter()
            .map(|entry| entry.frame_length as usize)
            .sum();
        let table = &encoded[..encoded.len() - frames];
        seeds.push([&[flags], table].concat());
    }
    let mut empty = Piece::new(number(5));
    empty.set_records(some_batch().encode()).expect("short");
    let mut table = Vec::new();
    empty.encode(&mut table);
    let mut packed = vec![PACKED, Codec::Zstd as u8];
    packed.put_varint(table.len() as u64);
    packed.put(
        Compressor::new(Level::default())
            .compress(&table, None)
            .bytes,
    );
    seeds.push(packed);
    seeds
}

const fn number(n: u64) -> PackNumber {
    PackNumber { writer: WRITER, n }
}

/// Hands each of some chunks to `into`: raw, compressed, and by the dictionary.
fn push(chunk_type: ChunkType, chunks: &[Vec<u8>], into: &mut impl FnMut(FramedChunk<'_>)) {
    let mut compressor = Compressor::new(Level::default());
    for plaintext in chunks {
        let dictionary = (chunk_type == ChunkType::Content && plaintext.len() < 100)
            .then_some(&STORE.dictionary);
        let frame = compressor.compress(plaintext, dictionary);
        let id_key = STORE
            .id_key(chunk_type, Domain(0))
            .expect("domain 0 is known");
        into(FramedChunk {
            id: id_key.id(plaintext),
            chunk_type,
            domain: Domain(0),
            codec: frame.codec,
            dictionary: (frame.codec == Codec::ZstdDictionary).then(|| STORE.dictionary.id()),
            plaintext_length: u32::try_from(plaintext.len()).expect("short"),
            frame: frame.bytes,
        });
    }
}

fn contents() -> Vec<Vec<u8>> {
    vec![
        tiny(1),
        tiny(2),
        b"\x00\x81 raw".to_vec(),
        vec![b'a'; 500],
        tiny(3).repeat(4),
    ]
}

fn small_piece() -> Piece {
    let mut piece = Piece::new(number(300));
    push(ChunkType::Content, &contents(), &mut |chunk| {
        piece.push(chunk).expect("short");
    });
    piece.set_records(some_batch().encode()).expect("short");
    piece
}

fn vital_piece() -> Piece {
    let mut piece = Piece::new(number(u64::MAX));
    push(ChunkType::Journal, &[some_batch().encode()], &mut |chunk| {
        piece.push(chunk).expect("short");
    });
    piece
}

pub(super) fn piece(bytes: &[u8]) -> bool {
    let Ok(piece) = Piece::parse(bytes) else {
        return false;
    };
    let mut again = Vec::new();
    piece.encode(&mut again);
    assert_canonical(bytes, &again);
    assert_eq!(piece.encoded_length(), bytes.len());
    assert_eq!(piece.chunks().count(), piece.entries().len());
    let mut decompressor = Decompressor::new();
    for (index, entry) in (0..8).zip(piece.entries()) {
        let opened = piece
            .open_chunk(index, &*STORE, &mut decompressor)
            .expect("an entry is there");
        assert!(
            opened.is_err()
                || opened.is_ok_and(|chunk| chunk.len() == entry.plaintext_length as usize)
        );
    }
    true
}

pub(super) fn pieces() -> Vec<Vec<u8>> {
    let encode = |piece: Piece| {
        let mut out = Vec::new();
        piece.encode(&mut out);
        out
    };
    vec![
        encode(small_piece()),
        encode(vital_piece()),
        encode(Piece::new(number(0))),
    ]
}

/// A whole pack, which only its owner can write.
pub(super) fn pack(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for kind in KINDS {
        let keys = PackKeys::new(&STORE.channel, KeyEpoch(0), kind);
        let Ok((reader, table)) = open_pack(bytes, kind, keys) else {
            continue;
        };
        accepted = true;
        let mut decompressor = Decompressor::new();
        for (index, entry) in (0..).zip(table.layout.entries()) {
            let range = table
                .layout
                .chunk_range(index)
                .expect("an entry has a place");
            let at = |place| usize::try_from(place).expect("a pack in memory");
            let sealed = bytes[at(range.start)..at(range.end)].to_vec();
            if let Ok(chunk) = reader.open_chunk(entry, sealed, &*STORE, &mut decompressor) {
                assert_eq!(chunk.len(), entry.plaintext_length as usize);
            }
        }
    }
    accepted
}

pub(super) fn packs() -> Vec<Vec<u8>> {
    let seal = |kind, chunk_type, chunks: &[Vec<u8>]| {
        let mut builder = PackBuilder::new(number(7), kind);
        push(chunk_type, chunks, &mut |chunk| {
            builder.push(chunk).expect("short");
        });
        builder
            .seal(PackKeys::new(&STORE.channel, KeyEpoch(0), kind), NONCE)
            .bytes
    };
    vec![
        seal(PackKind::Data, ChunkType::Content, &contents()),
        seal(
            PackKind::Vital,
            ChunkType::Journal,
            &[some_batch().encode()],
        ),
        seal(PackKind::Data, ChunkType::Content, &[]),
    ]
}

/// The randomness of a commit's nonce: always the same, so that sealing again gives the same bytes.
fn nonce_rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(3)
}

pub(super) fn commit(bytes: &[u8]) -> bool {
    let key = &STORE.channel.commit;
    let mut nonce = [0; 24];
    nonce_rng().fill_bytes(&mut nonce);
    let mut whole = Vec::new();
    Prelude { epoch: 0 }.encode(ObjectType::Commit, &mut whole);
    let ad = whole.clone();
    whole.put(&nonce);
    let front = whole.len();
    whole.put(bytes);
    let padded = (whole.len() + TAG_BYTES).next_multiple_of(COMMIT_STEP_BYTES);
    whole.resize(padded - TAG_BYTES, 0);
    let tag = key.seal_in_place(&nonce, &ad, &mut whole[front..]);
    whole.put(&tag);
    let opened = Commit::open(&whole, key);
    assert!(
        Commit::open(bytes, key).is_err(),
        "nobody but the owner seals a commit"
    );
    let Ok(commit) = opened else {
        return false;
    };
    let again = commit
        .seal(key, &mut nonce_rng())
        .expect("what was opened fits");
    assert_canonical(&whole, &again);
    true
}

pub(super) fn commits() -> Vec<Vec<u8>> {
    let key = &STORE.channel.commit;
    let witness = |n| Witness {
        channel: ChannelId([n; 32]),
        sequence: n.into(),
        root: RootHash([n; 32]),
    };
    let store = |sequence, witnesses: u8| StorePart {
        store: StoreId([1; 32]),
        sequence,
        parents: [[2; 32], [4; 32]]
            .map(CommitName)
            .into_iter()
            .take(if sequence > 2 {
                2
            } else {
                usize::from(sequence == 2)
            })
            .collect(),
        writer: WRITER,
        run: (sequence > 1).then_some(RecordId {
            writer: WRITER,
            counter: sequence,
        }),
        layout_epoch: sequence,
        witnesses: (0..witnesses).map(witness).collect(),
    };
    let segment = |n| {
        let segment = Segment {
            number: number(n),
            sequence: n % 2 + 1,
            level: 2,
        };
        (
            segment,
            ObjectRef {
                root: RootHash([5; 32]),
                length: 4096 * (n + 1),
            },
        )
    };
    let commit = |sequence, witnesses, segments, tail: Vec<Piece>| Commit {
        store: store(sequence, witnesses),
        journal: (0..segments).map(segment).collect(),
        tail: tail
            .into_iter()
            .map(|piece| TailPiece { sequence, piece })
            .collect(),
        extensions: Extensions::default(),
    };
    let commits = [
        commit(1, 0, 0, vec![]),
        commit(2, 1, 3, vec![small_piece()]),
        commit(
            1 << 40,
            32,
            200,
            vec![vital_piece(), Piece::new(number(4000)), small_piece()],
        ),
    ];
    let inside = |commit: &Commit| {
        let sealed = commit.seal(key, &mut nonce_rng()).expect("short");
        let (ad, rest) = sealed.split_at(Prelude::LENGTH);
        let (nonce, rest) = rest.split_first_chunk().expect("a nonce");
        let (body, tag) = rest.split_last_chunk().expect("a tag");
        let mut body = body.to_vec();
        key.open_in_place(nonce, ad, &mut body, tag)
            .expect("just sealed");
        body
    };
    commits.iter().map(inside).collect()
}

pub(super) fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &batch.encode());
    let records = batch.records();
    assert_eq!(Batch::new(records.to_vec()), batch);
    // Replay holds whatever the records say.
    let replay = |records: &mut dyn Iterator<Item = &(Stamp, Record)>| {
        let mut state = State::default();
        records.for_each(|(stamp, record)| state.apply(*stamp, record.clone()));
        state
    };
    let mut state = replay(&mut records.iter());
    let ids: BTreeSet<RecordId> = records.iter().map(|(stamp, _)| stamp.id).collect();
    if ids.len() == records.len() {
        assert!(
            state == replay(&mut records.iter().rev()),
            "replay depends on the order"
        );
    }
    for (_, record) in records {
        if let Record::Moved { from, to, .. } = record {
            state.resolve(*from);
            state.resolve(*to);
        }
    }
    let _ = state.policy();
    for (_, content) in state.kept_revisions() {
        let _ = state.resolve_all(content.extents()).take(100).count();
    }
    let judge = Judge::new(&state);
    let _ = judge.weigh(0, 4096, records.to_vec());
    let kept = judge.merge(records.to_vec());
    assert!(kept.len() <= records.len());
    state.forget(records);
    true
}

fn chunk(n: u64, index: u32) -> ChunkRef {
    ChunkRef {
        pack: number(n),
        index,
    }
}

fn some_records() -> Vec<Record> {
    const SOURCE: SourceId = SourceId([7; 16]);
    const CHANNEL: ChannelId = ChannelId([4; 32]);
    let path = |text| StorePath::unix(text).expect("a path");
    let metadata = || Metadata {
        mode: 0o644,
        uid: 1000,
        modified: FileTime {
            seconds: -1,
            nanos: 999_999_999,
        },
        created: Some(FileTime {
            seconds: i64::MIN,
            nanos: 0,
        }),
        xattrs: vec![
            (b"user.a".to_vec(), b"1".to_vec()),
            (b"user.b".to_vec(), vec![]),
        ],
        ..Metadata::default()
    };
    let file = |name, content| Record::File {
        source: SOURCE,
        path: path(name),
        metadata: metadata(),
        content,
    };
    let chunks = [chunk(1, 0), chunk(1, 1), chunk(2, 5), chunk(1, 9)];
    let regular = Content::Regular {
        size: 99,
        blake3: [3; 32],
        chunks: ChunkExtent::join(chunks),
    };
    let run = RecordId {
        writer: WRITER,
        counter: 3,
    };
    let windows = StorePath::new(
        Prefix::Windows(b"C:".to_vec()),
        vec![b"Users".to_vec(), b"me".to_vec()],
    );
    vec![
        Record::Source {
            source: SOURCE,
            label: "laptop".to_owned(),
        },
        Record::Channel {
            channel: CHANNEL,
            auth: [2; 32],
            name: "friend".to_owned(),
            addresses: vec!["192.0.2.1:7000".to_owned()],
            closed: false,
        },
        Record::Layout {
            epoch: 1,
            channels: vec![CHANNEL],
        },
        Record::RunBegin {
            source: SOURCE,
            time: 1 << 40,
        },
        Record::Pack {
            number: number(1),
            channel: CHANNEL,
            reference: ObjectRef {
                root: RootHash([6; 32]),
                length: 4096,
            },
        },
        file("/home/u/a", regular),
        file("/home/u/b", Content::Symlink(b"a".to_vec())),
        file("/home/u/c", Content::HardLink(path("/home/u/a"))),
        file(
            "/home/u/dev",
            Content::Device {
                block: true,
                major: 8,
                minor: 1,
            },
        ),
        file("/home/u/folder", Content::Folder),
        file("/home/u/folder/fifo", Content::Fifo),
        Record::Path {
            source: SOURCE,
            path: path("/home/u/b"),
            event: PathEvent::Gone,
        },
        Record::Path {
            source: SOURCE,
            path: windows.expect("a path"),
            event: PathEvent::Evicted,
        },
        Record::Moved {
            from: chunk(1, 0),
            to: chunk(3, 7),
            count: 2,
        },
        Record::RunEnd {
            run,
            time: 1 << 41,
            files: 6,
            bytes_stored: 99,
        },
        Record::Dropped {
            ids: vec![run, RecordId { counter: 9, ..run }],
        },
        Record::Pin {
            id: run,
            pinned: true,
        },
        Record::Policy {
            pattern: "**".to_owned(),
            policy: Some(Policy::default()),
        },
        Record::Policy {
            pattern: "tmp".to_owned(),
            policy: None,
        },
        Record::Dictionary {
            id: ChunkId([1; 32]),
            domain: Domain(0),
            chunk: chunk(4, 0),
            retired: false,
        },
        Record::Unknown {
            kind: 5,
            body: b"later".to_vec(),
        },
    ]
}

fn stamped(sequence: u64, writer: WriterId, records: Vec<Record>) -> Vec<(Stamp, Record)> {
    let stamp = |counter| Stamp {
        sequence,
        id: RecordId { writer, counter },
    };
    (0..)
        .zip(records)
        .map(|(counter, record)| (stamp(counter), record))
        .collect()
}

fn some_batch() -> Batch {
    Batch::new(stamped(0, WRITER, some_records()))
}

pub(super) fn batches() -> Vec<Vec<u8>> {
    let mut two = stamped(5, WRITER, some_records());
    two.extend(stamped(6, OTHER_WRITER, some_records()));
    let mut seeds = vec![
        Batch::default().encode(),
        some_batch().encode(),
        Batch::new(two).encode(),
    ];
    seeds.extend(
        some_records()
            .into_iter()
            .map(|record| Batch::new(stamped(1, WRITER, vec![record])).encode()),
    );
    seeds
}

/// What a data pack's table repeats.
pub(super) fn repeat(bytes: &[u8]) -> bool {
    let Ok(Some(repeat)) = Repeat::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &repeat.encode());
    true
}

pub(super) fn repeats() -> Vec<Vec<u8>> {
    let is_file = |record: &Record| matches!(record, Record::File { .. } | Record::Unknown { .. });
    let files: Vec<Record> = some_records().into_iter().filter(is_file).collect();
    let encode = |as_of, records| {
        Repeat {
            as_of,
            batch: Batch::new(records),
        }
        .encode()
    };
    vec![
        encode(9, stamped(0, WRITER, files.clone())),
        encode(u64::MAX, stamped(8, OTHER_WRITER, files[..1].to_vec())),
    ]
}

/// Paths, each after the one before.
pub(super) fn path(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut previous: Option<StorePath> = None;
    let mut again = Vec::new();
    while reader.remaining() > 0 {
        let Ok(path) = StorePath::parse_after(previous.as_ref(), &mut reader) else {
            return false;
        };
        path.encode_after(previous.as_ref(), &mut again);
        assert_canonical(&bytes[..bytes.len() - reader.remaining()], &again);
        assert_eq!(
            StorePath::new(path.prefix().clone(), path.components().to_vec()).as_ref(),
            Ok(&path)
        );
        let is_safe = |name: &Vec<u8>| {
            !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/')
        };
        assert!(
            path.components().iter().all(is_safe),
            "a component that leads elsewhere"
        );
        previous = Some(path);
    }
    previous.is_some()
}

pub(super) fn paths() -> Vec<Vec<u8>> {
    let paths = |texts: &[&str]| {
        let mut out = Vec::new();
        let mut previous = None;
        for text in texts {
            let path = StorePath::unix(text).expect("a path");
            path.encode_after(previous.as_ref(), &mut out);
            previous = Some(path);
        }
        out
    };
    let mut windows = Vec::new();
    StorePath::new(Prefix::Windows(b"C:".to_vec()), vec![b"a".to_vec()])
        .expect("a path")
        .encode_after(None, &mut windows);
    vec![
        paths(&["/", "/home", "/home/u/a", "/home/u/b", "/home/u/b", "/etc"]),
        paths(&["/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/i"]),
        windows,
    ]
}

/// A codec, a length in three bytes, then the frame.
pub(super) fn frame(bytes: &[u8]) -> bool {
    let Some(([codec, length @ ..], frame)) = bytes.split_first_chunk::<4>() else {
        return false;
    };
    let length = length
        .iter()
        .rev()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    let Ok(codec) = Codec::parse(&mut Reader::new(&[*codec])) else {
        return false;
    };
    let dictionary = (codec == Codec::ZstdDictionary).then_some(&STORE.dictionary);
    let frame = Frame {
        codec,
        bytes: frame,
    };
    let Ok(plaintext) = Decompressor::new().decompress(frame, length, dictionary) else {
        return false;
    };
    assert_eq!(plaintext.len(), length);
    if length > 0 {
        let other = Decompressor::new().decompress(frame, length - 1, dictionary);
        assert!(other.is_err(), "a frame of two lengths");
    }
    true
}

pub(super) fn frames() -> Vec<Vec<u8>> {
    let mut compressor = Compressor::new(Level::default());
    let mut seed = |plaintext: &[u8], dictionary| {
        let frame = compressor.compress(plaintext, dictionary);
        let length = u32::try_from(plaintext.len()).expect("short").to_le_bytes();
        [&[frame.codec as u8], &length[..3], frame.bytes].concat()
    };
    let noise: Vec<u8> = blake3::hash(b"noise").as_bytes().repeat(2);
    vec![
        seed(&tiny(9), Some(&STORE.dictionary)),
        seed(&tiny(9).repeat(300), None),
        seed(&vec![7; 1 << 20], None),
        seed(&noise, None),
        seed(b"raw", None),
        seed(&some_batch().encode(), None),
    ]
}

/// A length, so much plaintext, then a dictionary for it.
pub(super) fn dictionary(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first() else {
        return false;
    };
    let Some((plaintext, bytes)) = rest.split_at_checked(usize::from(*length)) else {
        return false;
    };
    let Ok(dictionary) = Dictionary::new(ChunkId([1; 32]), bytes.to_vec(), Level::default()) else {
        return false;
    };
    assert_canonical(bytes, dictionary.bytes());
    let mut compressor = Compressor::new(Level::default());
    let frame = compressor.compress(plaintext, Some(&dictionary));
    let with = (frame.codec == Codec::ZstdDictionary).then_some(&dictionary);
    let again = Decompressor::new().decompress(frame, plaintext.len(), with);
    assert_eq!(
        again.as_deref(),
        Ok(plaintext),
        "a dictionary that compresses and does not decompress"
    );
    true
}

pub(super) fn dictionaries() -> Vec<Vec<u8>> {
    let plaintext = tiny(12345);
    let seed = |dictionary: &[u8]| {
        let mut out = Vec::new();
        out.put_bytes(&plaintext);
        out.put(dictionary);
        out
    };
    vec![seed(&trained())]
}

pub(super) fn key_file(bytes: &[u8]) -> bool {
    let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(file) = KeyFile::parse(bytes) {
            assert_canonical(bytes, &file.encode());
            assert_eq!(file.open(None).is_ok(), !file.needs_passphrase());
            accepted = true;
        }
    }
    accepted
}

pub(super) fn key_files() -> Vec<Vec<u8>> {
    static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let cost =
            PassphraseCost::new(*PassphraseCost::MEMORY_KIB.start(), 2, 1).expect("the least");
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let file = KeyFile::seal(&secret, "passphrase", cost, &mut nonce_rng());
        file.expect("a little memory").encode().to_vec()
    });
    let bare = KeyFile::bare(&MasterSecret::from_entropy(&[1; 32])).encode();
    [&bare, &*SEALED]
        .map(|bytes| bytes[..bytes.len() - 32].to_vec())
        .to_vec()
}

pub(super) fn phrase(bytes: &[u8]) -> bool {
    if let Some(entropy) = bytes.first_chunk() {
        let secret = MasterSecret::from_entropy(entropy);
        let again = MasterSecret::from_phrase(secret.phrase().as_str());
        assert!(again.is_ok_and(|again| again.as_entropy() == entropy));
    }
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(secret) = MasterSecret::from_phrase(text) else {
        return false;
    };
    let words: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    assert_eq!(secret.phrase().as_str(), words.join(" "));
    true
}

pub(super) fn phrases() -> Vec<Vec<u8>> {
    [[0; 32], [0xff; 32], *blake3::hash(b"entropy").as_bytes()]
        .map(|entropy| {
            MasterSecret::from_entropy(&entropy)
                .phrase()
                .as_str()
                .as_bytes()
                .to_vec()
        })
        .to_vec()
}
