//! The frames of a pack made again from the files of this machine.
//!
//! A chunk counts only if it compresses to a frame of the same length. So another release of zstd makes this useless, and never wrong.

use std::sync::Arc;

use maimo_vault::{
    compress::{Compressor, Level},
    dictionary::Dictionary,
    name::{ChunkId, ChunkRef},
    pack::PackLayout,
};

use crate::{keys::StoreKeys, local_chunks::LocalChunks};

/// Returns the frames of a pack that can be made from files, by index.
pub(super) fn frames(
    local: &mut LocalChunks,
    layout: &PackLayout,
    dictionaries: &[(ChunkId, Arc<Dictionary>)],
    keys: &StoreKeys,
) -> Vec<Option<Vec<u8>>> {
    let mut compressors: Vec<(Option<ChunkId>, Compressor<'_>)> = Vec::new();
    let mut frames = Vec::with_capacity(layout.entries().len());
    for (index, entry) in (0..).zip(layout.entries()) {
        let chunk = ChunkRef {
            pack: layout.number(),
            index,
        };
        let frame = local.read(chunk, entry, keys).and_then(|plain| {
            let dictionary = match entry.dictionary {
                Some(id) => {
                    let mut known = dictionaries.iter();
                    Some(&*known.find(|(known, _)| *known == id)?.1)
                }
                None => None,
            };
            let known = compressors
                .iter()
                .position(|(id, _)| *id == entry.dictionary);
            let at = known.unwrap_or_else(|| {
                let compressor = Compressor::new(Level::default());
                compressors.push((entry.dictionary, compressor));
                compressors.len() - 1
            });
            let frame = compressors[at].1.compress(&plain, dictionary);
            let is_same = frame.codec == entry.codec
                && frame.bytes.len() as u64 == u64::from(entry.frame_length);
            is_same.then(|| frame.bytes.to_vec())
        });
        frames.push(frame);
    }
    frames
}
