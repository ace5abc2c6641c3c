//! The associated data of a pack's three kinds of part: the only place where their layouts stand.
//!
//! | part | bytes |
//! |---|---|
//! | chunk | suite, chunk type, codec, 0; epoch u32; domain u32; plaintext length u64; chunk id 32; dictionary id 32 or zeros |
//! | table | suite, object type, 0, 1; epoch u32; table offset u32; sealed table length u32 |
//! | trailer | suite, object type, 0, 2; epoch u32; pack length u32 |
//!
//! The fourth byte tells the parts apart, and so does the length. That a chunk is of a data or a vital pack follows from the key.

use maimo_core::codec::{Prelude, Put};

use super::{Entry, PackHeader};

const CHUNK: u8 = 0;
const TABLE: u8 = 1;
const TRAILER: u8 = 2;

pub(super) fn chunk_ad(header: &PackHeader, entry: &Entry) -> Vec<u8> {
    let mut ad = Vec::with_capacity(84);
    ad.put(&[
        Prelude::SUITE,
        entry.chunk_type as u8,
        entry.codec as u8,
        CHUNK,
    ]);
    ad.put_u32(header.epoch.0);
    ad.put_u32(entry.domain.0);
    ad.put_u64(u64::from(entry.plaintext_length));
    ad.put(&entry.id.0);
    ad.put(&entry.dictionary.map_or([0; 32], |id| id.0));
    ad
}

pub(super) fn table_ad(header: &PackHeader, table_offset: u32, table_length: u32) -> Vec<u8> {
    let mut ad = part_ad(header, TABLE);
    ad.put_u32(table_offset);
    ad.put_u32(table_length);
    ad
}

pub(super) fn trailer_ad(header: &PackHeader, pack_length: u32) -> Vec<u8> {
    let mut ad = part_ad(header, TRAILER);
    ad.put_u32(pack_length);
    ad
}

fn part_ad(header: &PackHeader, part: u8) -> Vec<u8> {
    let mut ad = Vec::with_capacity(16);
    ad.put(&[Prelude::SUITE, header.kind.object_type() as u8, 0, part]);
    ad.put_u32(header.epoch.0);
    ad
}
