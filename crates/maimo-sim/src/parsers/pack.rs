//! Packs and their parts, and pieces.

use maimo_core::codec::{ParseError, Prelude, Put};
use maimo_vault::{
    compress::{Codec, Compressor, Decompressor, Level},
    keys::KeyEpoch,
    name::{ChunkType, Domain},
    pack::{
        ChunkContext, FramedChunk, HEADER_BYTES, PIECE_BYTES_MAX, PackBuilder, PackHeader,
        PackKeys, PackKind, PackReader, Piece, TRAILER_BYTES, open_pack,
    },
};

use super::{
    assert_canonical,
    journal::some_batch,
    sealed::{NONCE, STORE, TAG_BYTES, number, tiny},
};

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

pub(super) fn small_piece() -> Piece {
    let mut piece = Piece::new(number(300));
    push(ChunkType::Content, &contents(), &mut |chunk| {
        piece.push(chunk).expect("short");
    });
    piece.set_records(some_batch().encode()).expect("short");
    piece
}

pub(super) fn vital_piece() -> Piece {
    let mut piece = Piece::new(number(u64::MAX));
    push(ChunkType::Journal, &[some_batch().encode()], &mut |chunk| {
        piece.push(chunk).expect("short");
    });
    piece
}
