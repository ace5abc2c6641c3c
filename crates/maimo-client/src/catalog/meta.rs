//! The few values that are one for the catalog: its position, the layout, the totals.

use maimo_core::{
    codec::{Put, Reader},
    id::ChannelId,
};
use maimo_vault::{journal::record::CHANNELS_MAX, layout::Layout};
use rusqlite::{Connection, OptionalExtension, Row, types::ValueRef};

use super::{error::CatalogError, position::Position, rows::Totals};

const POSITION: &str = "position";
const LAYOUT: &str = "layout";
const TOTALS: &str = "totals";
/// Whether some id was dropped that the catalog does not know.
pub(super) const DROPPED_AHEAD: &str = "dropped ahead";

pub(super) fn position(connection: &Connection) -> Result<Position, CatalogError> {
    match get(connection, POSITION)? {
        Some(bytes) => Ok(Position::parse(&bytes)?),
        None => Ok(Position::default()),
    }
}

pub(super) fn set_position(
    connection: &Connection,
    position: &Position,
) -> Result<(), CatalogError> {
    set(connection, POSITION, &position.encode())
}

pub(super) fn totals(connection: &Connection) -> Result<Totals, CatalogError> {
    match get(connection, TOTALS)? {
        Some(bytes) => Ok(Totals::parse(&bytes)?),
        None => Ok(Totals::default()),
    }
}

pub(super) fn set_totals(connection: &Connection, totals: &Totals) -> Result<(), CatalogError> {
    set(connection, TOTALS, &totals.encode())
}

pub(super) fn flag(connection: &Connection, key: &str) -> Result<bool, CatalogError> {
    Ok(get(connection, key)?.is_some_and(|bytes| bytes == [1]))
}

pub(super) fn set_flag(
    connection: &Connection,
    key: &str,
    value: bool,
) -> Result<(), CatalogError> {
    set(connection, key, &[u8::from(value)])
}

/// Returns how the store is spread; nothing before the first channel.
pub(super) fn layout(connection: &Connection) -> Result<Option<Layout>, CatalogError> {
    let Some(bytes) = get(connection, LAYOUT)? else {
        return Ok(None);
    };
    let mut r = Reader::new(&bytes);
    let epoch = r.varint("layout")?;
    let count = r.count(CHANNELS_MAX, 32, "layout")?;
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        channels.push(ChannelId(r.array("layout")?));
    }
    r.finish()?;
    Ok(Some(Layout { epoch, channels }))
}

/// Takes a layout in unless one of a higher epoch is known; records come in the order of their stamps.
pub(super) fn later_layout(
    connection: &Connection,
    epoch: u64,
    channels: &[ChannelId],
) -> Result<(), CatalogError> {
    if layout(connection)?.is_some_and(|known| known.epoch > epoch) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    bytes.put_varint(epoch);
    bytes.put_varint(channels.len() as u64);
    for channel in channels {
        bytes.put(channel.as_bytes());
    }
    set(connection, LAYOUT, &bytes)
}

fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
    let value = connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    Ok(value)
}

fn set(connection: &Connection, key: &str, value: &[u8]) -> Result<(), CatalogError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, value))?;
    Ok(())
}

/// Borrows a blob column.
pub(super) fn blob<'r>(row: &'r Row<'_>, index: usize) -> Result<&'r [u8], CatalogError> {
    match row.get_ref(index)? {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(CatalogError::Damaged(
            "a column is not of its type".to_owned(),
        )),
    }
}
