//! Compressed frames, and the dictionaries that some need.

use maimo_core::codec::{Put, Reader};
use maimo_vault::{
    compress::{Codec, Compressor, Decompressor, Frame, Level},
    dictionary::Dictionary,
    name::ChunkId,
};

use super::{
    assert_canonical,
    journal::some_batch,
    sealed::{STORE, tiny, trained},
};

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
