//! Reading where the chunks of packs stand, and what their tables repeat, from the packs themselves: header, trailer and table, as verified groups.

use maimo_core::{
    live_map::LiveMap,
    reference::ObjectRef,
    units::{GROUP_BYTES, groups},
    verify::{Extent, Selection, decode_slice},
};
use maimo_net::service::Read;
use maimo_vault::pack::{
    OpenPackError, OpenedTable, PackKind, PackLayout, PackReader, trailer_range,
};

use crate::{error::ClientError, session::OpenChannel};

/// How many packs are read from in one request.
pub(crate) const AT_ONCE: usize = 256;

/// Returns the layouts of any number of data packs.
pub(crate) fn read_all(
    channel: &OpenChannel,
    packs: &[ObjectRef],
) -> Result<Vec<PackLayout>, ClientError> {
    let mut layouts = Vec::with_capacity(packs.len());
    for some in packs.chunks(AT_ONCE) {
        layouts.extend(read(channel, some)?);
    }
    Ok(layouts)
}

/// Returns the layouts of data packs.
pub(crate) fn read(
    channel: &OpenChannel,
    packs: &[ObjectRef],
) -> Result<Vec<PackLayout>, ClientError> {
    let mut layouts = Vec::with_capacity(packs.len());
    // What tables repeat of records is as long as they are, and is let go one by one.
    each_table(channel, PackKind::Data, packs, |table| {
        layouts.push(table.layout);
        Ok(())
    })?;
    Ok(layouts)
}

/// Returns the tables of packs of one kind.
pub(crate) fn read_tables(
    channel: &OpenChannel,
    kind: PackKind,
    packs: &[ObjectRef],
) -> Result<Vec<OpenedTable>, ClientError> {
    let mut tables = Vec::with_capacity(packs.len());
    each_table(channel, kind, packs, |table| {
        tables.push(table);
        Ok(())
    })?;
    Ok(tables)
}

/// Calls `each` for the tables of packs of one kind, in order. Their first and last group tell nearly always; where a table is longer, its groups
/// are read too.
pub(crate) fn each_table(
    channel: &OpenChannel,
    kind: PackKind,
    packs: &[ObjectRef],
    mut each: impl FnMut(OpenedTable) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let ends = packs.iter().map(|pack| {
        let count = group_count(pack);
        let mut map = LiveMap::empty(count);
        // A pack is a block at least, so it has a first group and a last one.
        for run in [0..1, count.saturating_sub(1)..count] {
            let _ = map.insert(run);
        }
        (*pack, map)
    });
    let first = fetch(channel, ends.collect())?;
    for (pack, extents) in packs.iter().zip(first) {
        let wrong = |_: OpenPackError| channel.wrong(format!("the table of pack {}", pack.root));
        let trailer_at = trailer_range(pack.length).map_err(wrong)?;
        let header = cut(&extents, &PackReader::HEADER_RANGE).ok_or_else(|| short(channel))?;
        let reader = PackReader::new(channel.pack_keys(kind).pack, kind, pack.length, header);
        let reader = reader.map_err(wrong)?;
        let sealed = cut(&extents, &trailer_at).ok_or_else(|| short(channel))?;
        let trailer = reader.open_trailer(sealed).map_err(wrong)?;
        let range = trailer.table_range();
        let table = if let Some(table) = cut(&extents, range) {
            table.to_vec()
        } else {
            let from = range.start / GROUP_BYTES;
            let run = u32::try_from(from).unwrap_or(u32::MAX)
                ..u32::try_from(groups(range.end)).unwrap_or(u32::MAX);
            let mut map = LiveMap::empty(group_count(pack));
            let _ = map.insert(run);
            let extents = fetch(channel, vec![(*pack, map)])?
                .pop()
                .unwrap_or_default();
            cut(&extents, range).ok_or_else(|| short(channel))?.to_vec()
        };
        each(reader.open_table(&trailer, table).map_err(wrong)?)?;
    }
    Ok(())
}

fn fetch(
    channel: &OpenChannel,
    wanted: Vec<(ObjectRef, LiveMap)>,
) -> Result<Vec<Vec<Extent>>, ClientError> {
    let reads: Vec<Read> = wanted
        .into_iter()
        .map(|(pack, groups)| Read { pack, groups })
        .collect();
    let slices = channel.read_each(&reads)?;
    let decode = |(read, slice): (&Read, bytes::Bytes)| {
        let wrong = || channel.wrong(format!("pack {}", read.pack.root));
        let selection = Selection::of_map(read.pack.length, &read.groups).map_err(|_| wrong())?;
        let extents = decode_slice(&slice, &read.pack, &selection).map_err(|_| wrong())?;
        Ok(extents.into_inner())
    };
    reads.iter().zip(slices).map(decode).collect()
}

/// Returns a range of a pack's bytes, if one of the extents has all of it.
fn cut<'e>(extents: &'e [Extent], range: &core::ops::Range<u64>) -> Option<&'e [u8]> {
    extents.iter().find_map(|extent| {
        let start = usize::try_from(range.start.checked_sub(extent.offset)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(extent.offset)?).ok()?;
        extent.bytes.get(start..end)
    })
}

fn group_count(pack: &ObjectRef) -> u32 {
    u32::try_from(groups(pack.length)).unwrap_or(u32::MAX)
}

fn short(channel: &OpenChannel) -> ClientError {
    channel.wrong("parts of packs")
}
