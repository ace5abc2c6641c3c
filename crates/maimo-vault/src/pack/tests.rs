use std::collections::HashSet;

use maimo_core::{
    codec::{Put, Reader},
    identity::AuthSecretKey,
    units::{BLOCK_BYTES, GROUP_BYTES, outboard_bytes},
};
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::{table::Table, *};
use crate::{
    compress::{Codec, Compressor, Decompressor, Level},
    dictionary::{Dictionary, train},
    keys::MasterSecret,
    name::{PackNumber, WriterId},
};

const NUMBER: PackNumber = PackNumber {
    writer: WriterId([9; 16]),
    n: 300,
};
const NONCE: PackNonce = PackNonce([3; 24]);

/// A store's keys, and those of its channel with provider `provider`.
struct Keys {
    content: ChunkIdKey,
    other_domain: ChunkIdKey,
    journal: ChunkIdKey,
    dictionary_key: ChunkIdKey,
    channel: ChannelKeys,
    dictionary: Option<Dictionary>,
}

impl Keys {
    fn new(provider: u8) -> Self {
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let epoch = KeyEpoch(0);
        let id_key = |of, domain| secret.chunk_id_key(epoch, of, Domain(domain));
        let auth = AuthSecretKey::from_seed(&[provider; 32]).public();
        Self {
            content: id_key(ChunkType::Content, 0),
            other_domain: id_key(ChunkType::Content, 5),
            journal: id_key(ChunkType::Journal, 0),
            dictionary_key: id_key(ChunkType::Dictionary, 0),
            channel: secret.channel_keys(epoch, &auth),
            dictionary: None,
        }
    }

    fn with_dictionary(mut self) -> Self {
        let samples: Vec<_> = (0..500).map(tiny).collect();
        let bytes = train(samples.iter().map(Vec::as_slice)).unwrap();
        let id = self.dictionary_key.id(&bytes);
        self.dictionary = Some(Dictionary::new(id, bytes, Level::default()).unwrap());
        self
    }

    fn of(&self, kind: PackKind) -> PackKeys<'_> {
        PackKeys::new(&self.channel, KeyEpoch(0), kind)
    }
}

impl ChunkContext for Keys {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        match (chunk_type, domain.0) {
            (ChunkType::Content, 0) => Some(&self.content),
            (ChunkType::Content, 5) => Some(&self.other_domain),
            (ChunkType::Journal, 0) => Some(&self.journal),
            (ChunkType::Dictionary, 0) => Some(&self.dictionary_key),
            _ => None,
        }
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        self.dictionary
            .as_ref()
            .filter(|dictionary| dictionary.id() == *id)
    }
}

fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn tiny(seed: u32) -> Vec<u8> {
    format!(
        "{{\"name\":\"file-{seed}\",\"owner\":\"somebody\",\"digest\":\"{}\"}}",
        &blake3::hash(&seed.to_le_bytes()).to_hex()[..8]
    )
    .into_bytes()
}

fn push(
    keys: &Keys,
    chunk_type: ChunkType,
    domain: u32,
    plaintext: &[u8],
    into: &mut impl FnMut(FramedChunk<'_>) -> Result<u32, PushError>,
) -> u32 {
    let mut compressor = Compressor::new(Level::default());
    let dictionary = keys
        .dictionary
        .as_ref()
        .filter(|_| plaintext.len() < 1000 && chunk_type == ChunkType::Content);
    let frame = compressor.compress(plaintext, dictionary);
    let domain = Domain(domain);
    into(FramedChunk {
        id: keys.id_key(chunk_type, domain).unwrap().id(plaintext),
        chunk_type,
        domain,
        codec: frame.codec,
        dictionary: dictionary
            .filter(|_| frame.codec == Codec::ZstdDictionary)
            .map(Dictionary::id),
        plaintext_length: u32::try_from(plaintext.len()).unwrap(),
        frame: frame.bytes,
    })
    .unwrap()
}

fn build(keys: &Keys, contents: &[Vec<u8>]) -> PackBuilder {
    let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
    for content in contents {
        push(keys, ChunkType::Content, 0, content, &mut |chunk| {
            builder.push(chunk)
        });
    }
    builder
}

/// One of each: raw, zstd, with a dictionary; and records.
fn mixed(keys: &Keys) -> (PackBuilder, Vec<Vec<u8>>) {
    let contents = vec![
        random(1, 5000),
        b"text that repeats itself, ".repeat(1000),
        tiny(1_000_000),
    ];
    let mut builder = build(keys, &contents);
    builder.set_records(b"records".to_vec()).unwrap();
    (builder, contents)
}

fn open_all(bytes: &[u8], kind: PackKind, keys: &Keys) -> Result<Vec<Vec<u8>>, OpenPackError> {
    let (reader, table) = open_pack(bytes, kind, keys.of(kind))?;
    let mut decompressor = Decompressor::new();
    let entries = table.layout.entries().iter().zip(0..);
    entries
        .map(|(entry, index)| {
            let sealed = part(bytes, &table.layout.chunk_range(index).unwrap());
            reader.open_chunk(entry, sealed.to_vec(), keys, &mut decompressor)
        })
        .collect()
}

fn part<'b>(bytes: &'b [u8], range: &Range<u64>) -> &'b [u8] {
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

#[test]
fn a_pack_comes_back_whole() {
    let keys = Keys::new(1).with_dictionary();
    let (builder, contents) = mixed(&keys);
    let pack = builder.seal(keys.of(PackKind::Data), NONCE);
    assert!(pack.reference.names(&pack.bytes));
    assert_eq!(pack.bytes.len() as u64, pack.layout.length());
    assert!(pack.reference.length.is_multiple_of(BLOCK_BYTES));

    let (_, table) = open_pack(&pack.bytes, PackKind::Data, keys.of(PackKind::Data)).unwrap();
    assert_eq!(table.layout, pack.layout);
    assert_eq!(table.layout.number(), NUMBER);
    assert_eq!(table.records, b"records");
    let codecs: Vec<_> = table.layout.entries().iter().map(|e| e.codec).collect();
    assert_eq!(codecs, [Codec::Raw, Codec::Zstd, Codec::ZstdDictionary]);
    assert_eq!(
        open_all(&pack.bytes, PackKind::Data, &keys).unwrap(),
        contents
    );
}

#[test]
fn a_vital_pack_holds_journal_and_dictionaries_and_no_content() {
    let keys = Keys::new(1).with_dictionary();
    let dictionary = keys.dictionary.as_ref().unwrap().bytes().to_vec();
    let contents = [b"a batch of records".repeat(50), dictionary];
    let mut builder = PackBuilder::new(NUMBER, PackKind::Vital);
    let mut into = |chunk: FramedChunk<'_>| builder.push(chunk);
    push(&keys, ChunkType::Journal, 0, &contents[0], &mut into);
    push(&keys, ChunkType::Dictionary, 0, &contents[1], &mut into);
    let pack = builder.seal(keys.of(PackKind::Vital), NONCE);
    assert_eq!(
        open_all(&pack.bytes, PackKind::Vital, &keys).unwrap(),
        contents
    );
    // Named as data, its header says otherwise.
    assert!(matches!(
        open_all(&pack.bytes, PackKind::Data, &keys),
        Err(OpenPackError::Parse(ParseError::WrongType { .. }))
    ));

    let (mixed, _) = mixed(&keys);
    let pack = mixed.seal(keys.of(PackKind::Data), NONCE);
    let (reader, table) = open_pack(&pack.bytes, PackKind::Data, keys.of(PackKind::Data)).unwrap();
    let entry = table.layout.entries()[0];
    let sealed = part(&pack.bytes, &table.layout.chunk_range(0).unwrap()).to_vec();
    let frame = reader.open_frame(&entry, sealed).unwrap();
    let chunk = FramedChunk::new(&entry, &frame);
    assert_eq!(builder.push(chunk), Err(PushError::WrongKind));
}

#[test]
fn every_byte_of_a_pack_counts() {
    let keys = Keys::new(1).with_dictionary();
    let pack = mixed(&keys).0.seal(keys.of(PackKind::Data), NONCE);
    // Of the long raw chunk every 16th byte will do, as opening a pack so often takes its time.
    let chunk = pack.layout.chunk_range(0).unwrap();
    for at in 0..pack.bytes.len() {
        if chunk.contains(&(at as u64 + 64)) && at % 16 != 0 {
            continue;
        }
        let mut bytes = pack.bytes.clone();
        bytes[at] ^= 1;
        let found = open_all(&bytes, PackKind::Data, &keys);
        assert!(found.is_err(), "byte {at}");
        if at >= HEADER_BYTES {
            assert_eq!(found, Err(OpenPackError::CannotOpen), "byte {at}");
        }
    }
}

#[test]
fn a_truncated_or_extended_pack_is_rejected() {
    let keys = Keys::new(1);
    let pack = build(&keys, &[random(1, 30_000)]).seal(keys.of(PackKind::Data), NONCE);
    let length = pack.bytes.len();
    for cut in [0, 1, 63, 64, 4096, length - 4096, length - 1] {
        assert!(open_all(&pack.bytes[..cut], PackKind::Data, &keys).is_err());
    }
    let mut longer = pack.bytes.clone();
    longer.extend([0; 4096]);
    assert!(open_all(&longer, PackKind::Data, &keys).is_err());
    // A block cut out of the middle leaves header and trailer in place.
    let mut shorter = pack.bytes.clone();
    shorter.drain(8192..12_288);
    assert_eq!(
        open_all(&shorter, PackKind::Data, &keys),
        Err(OpenPackError::CannotOpen)
    );
}

#[test]
fn a_chunk_does_not_open_in_another_pack_or_place_or_under_another_entry() {
    let keys = Keys::new(1).with_dictionary();
    // Of equal geometry: only the contents differ.
    let [one, two] = [1_u8, 2].map(|seed| {
        build(
            &keys,
            &[
                random(seed.into(), 5000),
                random(u64::from(seed) + 10, 5000),
            ],
        )
        .seal(keys.of(PackKind::Data), PackNonce([seed; 24]))
    });
    let [range, other] = [0, 1].map(|index| one.layout.chunk_range(index).unwrap());
    let cell = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();

    let mut swapped = one.bytes.clone();
    swapped[cell.clone()].copy_from_slice(&two.bytes[cell.clone()]);
    assert_eq!(
        open_all(&swapped, PackKind::Data, &keys),
        Err(OpenPackError::CannotOpen)
    );
    let mut swapped = one.bytes.clone();
    swapped[cell].copy_from_slice(part(&one.bytes, &other));
    assert_eq!(
        open_all(&swapped, PackKind::Data, &keys),
        Err(OpenPackError::CannotOpen)
    );

    let table = one.layout.table_range();
    let cell = usize::try_from(table.start).unwrap()..usize::try_from(table.end).unwrap();
    assert_eq!(table, two.layout.table_range());
    let mut swapped = one.bytes.clone();
    swapped[cell.clone()].copy_from_slice(&two.bytes[cell]);
    assert_eq!(
        open_all(&swapped, PackKind::Data, &keys),
        Err(OpenPackError::CannotOpen)
    );

    // Each field of an entry is under the chunk's seal.
    let (reader, opened) = open_pack(&one.bytes, PackKind::Data, keys.of(PackKind::Data)).unwrap();
    let entry = opened.layout.entries()[0];
    let sealed = part(&one.bytes, &range).to_vec();
    assert!(reader.open_frame(&entry, sealed.clone()).is_ok());
    for wrong in [
        Entry {
            id: ChunkId([0; 32]),
            ..entry
        },
        Entry {
            chunk_type: ChunkType::Journal,
            ..entry
        },
        Entry {
            domain: Domain(1),
            ..entry
        },
        Entry {
            codec: Codec::Zstd,
            ..entry
        },
        Entry {
            dictionary: Some(ChunkId([1; 32])),
            ..entry
        },
        Entry {
            plaintext_length: 5001,
            ..entry
        },
        Entry {
            frame_length: 4999,
            ..entry
        },
    ] {
        assert_eq!(
            reader.open_frame(&wrong, sealed.clone()),
            Err(OpenPackError::CannotOpen)
        );
    }
}

/// The id is checked against the plaintext too: a writer's bug must not return one file for another.
#[test]
fn a_chunk_under_a_wrong_name_is_refused() {
    let keys = Keys::new(1);
    for content in [random(1, 100), vec![7; 1000]] {
        let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
        push(&keys, ChunkType::Content, 0, &content, &mut |chunk| {
            builder.push(FramedChunk {
                id: ChunkId([1; 32]),
                ..chunk
            })
        });
        let pack = builder.seal(keys.of(PackKind::Data), NONCE);
        assert_eq!(
            open_all(&pack.bytes, PackKind::Data, &keys),
            Err(OpenPackError::CannotOpen)
        );
    }
}

#[test]
fn what_is_missing_to_open_a_chunk_is_named() {
    let mut keys = Keys::new(1).with_dictionary();
    let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
    push(&keys, ChunkType::Content, 0, &tiny(7), &mut |chunk| {
        builder.push(chunk)
    });
    let pack = builder.seal(keys.of(PackKind::Data), NONCE);
    let id = keys.dictionary.take().unwrap().id();
    assert_eq!(
        open_all(&pack.bytes, PackKind::Data, &keys),
        Err(OpenPackError::NoDictionary(id))
    );

    let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
    push(&keys, ChunkType::Content, 5, b"mail", &mut |chunk| {
        builder.push(FramedChunk {
            domain: Domain(6),
            ..chunk
        })
    });
    let pack = builder.seal(keys.of(PackKind::Data), NONCE);
    assert_eq!(
        open_all(&pack.bytes, PackKind::Data, &keys),
        Err(OpenPackError::NoIdKey(Domain(6)))
    );
}

#[test]
fn the_same_contents_and_nonce_rebuild_the_same_pack() {
    let keys = Keys::new(1).with_dictionary();
    let pack = mixed(&keys).0.seal(keys.of(PackKind::Data), NONCE);

    // From frames read back out of the pack, as `prune` and repair do.
    let (reader, table) = open_pack(&pack.bytes, PackKind::Data, keys.of(PackKind::Data)).unwrap();
    let mut again = PackBuilder::new(table.layout.number(), PackKind::Data);
    for (entry, index) in table.layout.entries().iter().zip(0..) {
        let sealed = part(&pack.bytes, &table.layout.chunk_range(index).unwrap()).to_vec();
        let frame = reader.open_frame(entry, sealed).unwrap();
        assert_eq!(again.push(FramedChunk::new(entry, &frame)), Ok(index));
    }
    again.set_records(table.records).unwrap();
    assert_eq!(again.seal(keys.of(PackKind::Data), NONCE), pack);
}

/// What two providers hold has the same shape and no equal bytes, but for the header's first twelve and its zeros.
#[test]
fn two_channels_get_the_same_geometry_and_no_equal_block() {
    let [one, two] = [Keys::new(1), Keys::new(2)];
    let builder = build(&one, &[random(1, 100_000), vec![0; 100_000]]);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let one = builder.seal(one.of(PackKind::Data), PackNonce::draw(&mut rng));
    let two = builder.seal(two.of(PackKind::Data), PackNonce::draw(&mut rng));
    assert_eq!(one.layout, two.layout);
    assert_eq!(builder.layout(), one.layout);
    assert_ne!(one.reference.root, two.reference.root);
    assert_no_shared_windows(&one.bytes[HEADER_BYTES..], &two.bytes[HEADER_BYTES..]);
}

#[test]
fn a_pack_sealed_where_it_lies_is_the_one_sealed_beside_it() {
    let keys = Keys::new(1);
    for chunks in [0, 1, 40] {
        let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
        for n in 0_u64..chunks {
            // Together long enough for room to be made all at once.
            let mut noise = vec![0; 10_000];
            let mut hasher = blake3::Hasher::new();
            hasher.update(&n.to_le_bytes());
            hasher.finalize_xof().fill(&mut noise);
            push(&keys, ChunkType::Content, 0, &noise, &mut |chunk| {
                builder.push(chunk)
            });
        }
        builder.set_records(vec![7; 100]).unwrap();
        let beside = builder.seal(keys.of(PackKind::Data), NONCE);
        assert_eq!(builder.into_sealed(keys.of(PackKind::Data), NONCE), beside);
    }
}

#[test]
fn an_equal_chunk_never_seals_alike() {
    let keys = Keys::new(1);
    let builder = build(&keys, &[random(1, 50_000)]);
    let one = builder.seal(keys.of(PackKind::Data), PackNonce([1; 24]));
    let two = builder.seal(keys.of(PackKind::Data), PackNonce([2; 24]));
    assert_no_shared_windows(&one.bytes[HEADER_BYTES..], &two.bytes[HEADER_BYTES..]);

    // Nor within a pack: the second is the first.
    let builder = build(&keys, &[random(1, 50), random(2, 50), random(1, 50)]);
    assert_eq!(builder.len(), 2);
    assert_eq!(builder.index_of(&keys.content.id(&random(2, 50))), Some(1));
}

fn assert_no_shared_windows(one: &[u8], two: &[u8]) {
    let seen: HashSet<_> = one.windows(16).collect();
    assert!(two.windows(16).all(|window| !seen.contains(window)));
}

#[test]
fn a_provider_sees_no_run_of_zeros_in_a_pack_of_zeros() {
    let keys = Keys::new(1);
    let pack = build(&keys, &[vec![0; 1 << 20]]).seal(keys.of(PackKind::Data), NONCE);
    assert!(pack.layout.padding_range().clone().count() > 1000);
    let sealed = &pack.bytes[HEADER_BYTES..];
    assert!(sealed.windows(6).all(|window| window != [0; 6]));
}

#[test]
fn a_pack_and_its_outboard_are_within_a_hundredth_of_what_was_sealed() {
    let keys = Keys::new(1);
    for contents in [
        vec![random(1, 1 << 20)],
        (0..16).map(|seed| random(seed, 1 << 20)).collect(),
        // Tiny files are measured by what is sealed of them: frames, tags, table.
        (0..1500).map(|seed| random(seed, 700)).collect(),
    ] {
        let builder = build(&keys, &contents);
        let pack = builder.seal(keys.of(PackKind::Data), NONCE);
        let layout = &pack.layout;
        let sealed = layout.table_range().end - layout.chunk_range(0).unwrap().start;
        let stored = layout.length() + outboard_bytes(layout.length());
        assert!(sealed >= 1 << 20);
        assert!(stored * 100 <= sealed * 101, "{stored} for {sealed}");
    }
}

#[test]
fn a_live_map_names_the_groups_of_frame_and_chunks_and_no_others() {
    let keys = Keys::new(1);
    let contents: Vec<_> = (0..8).map(|seed| random(seed, 40_000)).collect();
    let layout = build(&keys, &contents)
        .seal(keys.of(PackKind::Data), NONCE)
        .layout;
    let groups = u32::try_from(layout.length().div_ceil(GROUP_BYTES)).unwrap();
    let frame = layout.frame_live_map();
    assert!(frame.contains(0) && frame.contains(groups - 1));
    assert_eq!(frame.count(), 2);
    assert_eq!(layout.live_map([]), Some(frame));
    assert!(layout.live_map(0..8).unwrap().is_full());

    let map = layout.live_map([3]).unwrap();
    let range = layout.chunk_range(3).unwrap();
    for group in 0..groups {
        let bytes = u64::from(group) * GROUP_BYTES..(u64::from(group) + 1) * GROUP_BYTES;
        let is_touched = bytes.start < range.end && range.start < bytes.end;
        assert_eq!(
            map.contains(group),
            is_touched || group == 0 || group == groups - 1
        );
    }
    assert_eq!(layout.live_map([8]), None);
    assert_eq!(layout.chunk_range(8), None);
    assert_eq!(layout.chunk_range(u32::MAX), None);
}

/// A table and a trailer that each open, and contradict each other: only a faulty writer makes them, and no offset may come of it.
#[test]
fn lengths_that_do_not_add_up_to_the_pack_are_refused() {
    let keys = Keys::new(1);
    let layout = mixed(&keys).0.seal(keys.of(PackKind::Data), NONCE).layout;
    let check = |table: Range<u64>, length| {
        PackLayout::check(NUMBER, layout.entries().to_vec(), &table, length)
    };
    let Range { start, end } = layout.table_range();
    assert_eq!(check(start..end, layout.length()), Ok(layout.clone()));
    for (table, length) in [
        (start + 1..end + 1, layout.length()),
        (start..end + 4096, layout.length()),
        (start..end, layout.length() + 4096),
        (start..end, layout.length() - 4096),
    ] {
        assert!(check(table, length).is_err());
    }
}

#[test]
fn a_builder_says_when_its_pack_is_full() {
    let keys = Keys::new(1);
    let size = PackSize::new(1 << 20).unwrap();
    let mut builder = PackBuilder::new(NUMBER, PackKind::Data).with_size(size);
    assert!(
        builder.would_fit(4 << 20, 0),
        "an empty pack takes any chunk"
    );
    assert!(!builder.would_fit(1, RECORDS_BYTES_MAX + 1));
    let mut seed = 0;
    while builder.would_fit(10_000, 5000) {
        push(
            &keys,
            ChunkType::Content,
            0,
            &random(seed, 10_000),
            &mut |c| builder.push(c),
        );
        seed += 1;
    }
    builder.set_records(random(1, 5000)).unwrap();
    let length = builder.seal(keys.of(PackKind::Data), NONCE).layout.length();
    assert!(length <= 1 << 20 && length > (1 << 20) - 20_000, "{length}");
    assert_eq!(
        builder.set_records(vec![0; RECORDS_BYTES_MAX + 1]),
        Err(PushError::Full)
    );
    assert!(PackSize::new((64 << 20) + 1).is_none() && PackSize::new(1000).is_none());
}

/// At the format's maximum the builder refuses, so that sealing never has to.
#[test]
fn no_pack_grows_past_sixty_four_mebibytes() {
    let keys = Keys::new(1);
    let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
    let frame = random(1, 4 << 20);
    let mut chunk = FramedChunk {
        id: ChunkId([0; 32]),
        chunk_type: ChunkType::Content,
        domain: Domain(0),
        codec: Codec::Raw,
        dictionary: None,
        plaintext_length: 4 << 20,
        frame: &frame,
    };
    for n in 0..15 {
        chunk.id.0[0] = n;
        assert_eq!(builder.push(chunk), Ok(u32::from(n)));
    }
    chunk.id.0[0] = 15;
    assert_eq!(builder.push(chunk), Err(PushError::Full));
    assert_eq!(builder.len(), 15);
    let pack = builder.seal(keys.of(PackKind::Data), NONCE);
    assert!(pack.layout.length() <= PACK_BYTES_MAX);
}

#[test]
fn a_chunk_whose_fields_contradict_each_other_is_refused() {
    let chunk = FramedChunk {
        id: ChunkId([1; 32]),
        chunk_type: ChunkType::Content,
        domain: Domain(0),
        codec: Codec::Raw,
        dictionary: None,
        plaintext_length: 4,
        frame: b"four",
    };
    let push = |chunk| PackBuilder::new(NUMBER, PackKind::Data).push(chunk);
    assert_eq!(push(chunk), Ok(0));
    let long = vec![0; (4 << 20) + 1];
    for wrong in [
        FramedChunk {
            plaintext_length: 5,
            ..chunk
        },
        FramedChunk {
            codec: Codec::Zstd,
            ..chunk
        },
        FramedChunk {
            dictionary: Some(ChunkId([2; 32])),
            ..chunk
        },
        FramedChunk {
            codec: Codec::ZstdDictionary,
            plaintext_length: 5,
            ..chunk
        },
        FramedChunk {
            plaintext_length: 0,
            frame: b"",
            ..chunk
        },
        FramedChunk {
            plaintext_length: (4 << 20) + 1,
            frame: &long,
            ..chunk
        },
    ] {
        assert!(matches!(push(wrong), Err(PushError::Chunk(_))));
    }
}

fn piece(keys: &Keys) -> (Piece, Vec<Vec<u8>>) {
    let contents = vec![random(5, 300), tiny(8), b"abc".repeat(400)];
    let mut piece = Piece::new(NUMBER);
    for content in &contents {
        push(keys, ChunkType::Content, 0, content, &mut |chunk| {
            piece.push(chunk)
        });
    }
    piece.set_records(b"one commit's".to_vec()).unwrap();
    (piece, contents)
}

#[test]
fn a_piece_comes_back_and_spills_into_a_pack_as_it_is() {
    let keys = Keys::new(1).with_dictionary();
    let (piece, contents) = piece(&keys);
    let mut bytes = Vec::new();
    piece.encode(&mut bytes);
    assert_eq!(bytes.len(), piece.encoded_length());
    let piece = Piece::parse(&bytes).unwrap();
    assert_eq!(piece.number(), NUMBER);
    assert_eq!(piece.records(), b"one commit's");
    let mut decompressor = Decompressor::new();
    for (content, index) in contents.iter().zip(0..) {
        let opened = piece.open_chunk(index, &keys, &mut decompressor).unwrap();
        assert_eq!(opened.as_ref(), Ok(content));
    }
    assert_eq!(piece.chunk(3), None);

    let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
    for index in 0..3 {
        assert_eq!(builder.push(piece.chunk(index).unwrap()), Ok(index));
    }
    let pack = builder.seal(keys.of(PackKind::Data), NONCE);
    assert_eq!(
        open_all(&pack.bytes, PackKind::Data, &keys).unwrap(),
        contents
    );
}

#[test]
fn a_piece_stays_within_a_commit() {
    let keys = Keys::new(1);
    let mut piece = Piece::new(NUMBER);
    assert_eq!(
        piece.set_records(vec![0; PIECE_BYTES_MAX]),
        Err(PushError::Full)
    );
    assert_eq!(piece.records(), b"");
    let frame = random(1, PIECE_BYTES_MAX);
    let chunk = FramedChunk {
        id: keys.content.id(&frame),
        chunk_type: ChunkType::Content,
        domain: Domain(0),
        codec: Codec::Raw,
        dictionary: None,
        plaintext_length: u32::try_from(frame.len()).unwrap(),
        frame: &frame,
    };
    let before = piece.clone();
    assert_eq!(piece.push(chunk), Err(PushError::Full));
    assert_eq!(piece, before);
    assert!(matches!(
        Piece::parse(&vec![0; PIECE_BYTES_MAX + 1]),
        Err(ParseError::TooLarge { .. })
    ));
}

#[test]
fn every_cut_of_a_piece_is_rejected() {
    let (piece, _) = piece(&Keys::new(1));
    let mut bytes = Vec::new();
    piece.encode(&mut bytes);
    for length in 0..bytes.len() {
        assert!(Piece::parse(&bytes[..length]).is_err(), "{length}");
    }
    bytes.push(0);
    assert_eq!(Piece::parse(&bytes), Err(ParseError::Trailing { extra: 1 }));
}

fn entry(id: u8, dictionary: Option<u8>) -> Entry {
    Entry {
        id: ChunkId([id; 32]),
        chunk_type: ChunkType::Content,
        domain: Domain(0),
        codec: if dictionary.is_some() {
            Codec::ZstdDictionary
        } else {
            Codec::Zstd
        },
        dictionary: dictionary.map(|id| ChunkId([id; 32])),
        plaintext_length: 1000,
        frame_length: 10,
    }
}

fn parse_table(bytes: &[u8]) -> Result<Table, ParseError> {
    let mut reader = Reader::new(bytes);
    let table = Table::parse(&mut reader)?;
    reader.finish()?;
    Ok(table)
}

#[test]
fn a_table_has_one_form() {
    let table = Table {
        entries: vec![entry(1, None), entry(2, Some(8)), entry(3, Some(9))],
        ..Table::new(NUMBER)
    };
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    assert_eq!(parse_table(&bytes), Ok(table));

    // The dictionaries' list begins behind writer, number (300 takes two bytes) and count; entries behind it are 39 bytes each.
    let dictionaries = 16 + 2 + 1;
    let entries = dictionaries + 64 + 1;
    assert_eq!(bytes[dictionaries], 8);
    let mut swapped = bytes.clone();
    swapped[dictionaries..dictionaries + 32].fill(9);
    swapped[dictionaries + 32..dictionaries + 64].fill(8);
    assert_eq!(
        parse_table(&swapped).map(|table| table.entries[1].dictionary),
        Ok(Some(ChunkId([9; 32]))),
        "other ids in the same places are another table"
    );
    let place = |entry: usize| entries + 39 * entry + 35;
    assert_eq!([bytes[place(1)], bytes[place(2)]], [1, 2]);
    let mut disordered = bytes.clone();
    (disordered[place(1)], disordered[place(2)]) = (2, 1);
    assert!(matches!(
        parse_table(&disordered),
        Err(ParseError::NotCanonical { .. })
    ));
    let mut unused = bytes.clone();
    unused[place(2)] = 1;
    assert!(matches!(
        parse_table(&unused),
        Err(ParseError::NotCanonical { .. })
    ));
    let mut unknown = bytes.clone();
    unknown[place(2)] = 3;
    assert!(matches!(
        parse_table(&unknown),
        Err(ParseError::TooLarge { .. })
    ));
    let mut twice = bytes;
    twice.copy_within(entries..entries + 32, entries + 39);
    assert!(matches!(
        parse_table(&twice),
        Err(ParseError::Invalid { .. })
    ));
}

#[test]
fn a_table_longer_than_a_pack_is_refused() {
    let mut entries: Vec<_> = (0..17).map(|id| entry(id, None)).collect();
    for entry in &mut entries {
        (entry.plaintext_length, entry.frame_length) = (4 << 20, (4 << 20) - 1);
    }
    let mut table = Table {
        entries,
        ..Table::new(NUMBER)
    };
    let mut bytes = Vec::new();
    table.encode(&mut bytes);
    assert!(matches!(
        parse_table(&bytes),
        Err(ParseError::TooLarge { .. })
    ));
    table.entries.truncate(15);
    bytes.clear();
    table.encode(&mut bytes);
    assert_eq!(parse_table(&bytes), Ok(table));
}

#[test]
fn reserved_bytes_of_the_header_must_be_zero() {
    let mut bytes = Vec::new();
    let header = PackHeader {
        kind: PackKind::Data,
        epoch: KeyEpoch(7),
        nonce: NONCE,
    };
    header.encode(&mut bytes);
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(PackHeader::parse(&bytes, PackKind::Data), Ok(header));
    for at in 36..64 {
        let mut wrong = bytes.clone();
        wrong[at] = 1;
        assert!(matches!(
            PackHeader::parse(&wrong, PackKind::Data),
            Err(ParseError::Invalid { .. })
        ));
    }
    bytes.put_u8(0);
    assert!(PackHeader::parse(&bytes, PackKind::Data).is_err());
}

#[test]
fn lengths_that_no_pack_has_are_refused() {
    for length in [0, 1, 4095, 4097, PACK_BYTES_MAX + 4096, u64::MAX] {
        assert_eq!(trailer_range(length), Err(OpenPackError::Length { length }));
    }
    assert_eq!(trailer_range(4096), Ok(4056..4096));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn packs_come_back(
        seeds in proptest::collection::vec((any::<u64>(), 1_usize..20_000, any::<bool>()), 0..20),
        records in proptest::collection::vec(any::<u8>(), 0..3000),
        nonce: [u8; 24],
    ) {
        let keys = Keys::new(1);
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for (seed, length, is_random) in seeds {
            let content = if is_random { random(seed, length) } else { vec![b'a'; length] };
            if !contents.contains(&content) {
                contents.push(content);
            }
        }
        let mut builder = build(&keys, &contents);
        builder.set_records(records.clone()).unwrap();
        let pack = builder.seal(keys.of(PackKind::Data), PackNonce(nonce));
        prop_assert_eq!(open_all(&pack.bytes, PackKind::Data, &keys).unwrap(), contents);
        let (_, table) = open_pack(&pack.bytes, PackKind::Data, keys.of(PackKind::Data)).unwrap();
        prop_assert_eq!(table.records, records);
        prop_assert_eq!(&table.layout, &pack.layout);
        let mut kept = Vec::new();
        pack.layout.encode(&mut kept);
        let mut reader = Reader::new(&kept);
        prop_assert_eq!(PackLayout::parse(&mut reader).unwrap(), pack.layout);
        prop_assert_eq!(reader.finish(), Ok(()));
        for cut in 0..kept.len() {
            let cut = PackLayout::parse(&mut Reader::new(&kept[..cut]));
            prop_assert!(cut.is_err());
        }
    }
}

proptest! {
    #[test]
    fn a_piece_that_parses_is_the_one_form_of_itself(
        at in any::<prop::sample::Index>(),
        byte: u8,
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = Vec::new();
        piece(&Keys::new(1)).0.encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [bytes, noise] {
            if let Ok(piece) = Piece::parse(&bytes) {
                let mut again = Vec::new();
                piece.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
