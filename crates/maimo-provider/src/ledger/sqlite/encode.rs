//! Columns that are bytes: terms, extents, inventories, ancestry.

use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    custody::{Extent, HeldPack, Hold, PackClass, Terms},
    inventory::InventoryRef,
    reference::ObjectRef,
    units::PACK_GROUPS_MAX,
};

use crate::ledger::{LedgerError, Result};

/// Appends terms.
pub(crate) fn put_terms(terms: &Terms, out: &mut Vec<u8>) {
    terms.encode(out);
}

/// Reads what [`put_terms`] wrote.
pub(crate) fn terms(reader: &mut Reader<'_>) -> core::result::Result<Terms, ParseError> {
    Terms::parse(reader)
}

pub(super) fn class(class: PackClass) -> i64 {
    match class {
        PackClass::Data => 0,
        PackClass::Vital => 1,
    }
}

pub(super) fn parse_class(class: i64) -> Result<PackClass> {
    match class {
        0 => Ok(PackClass::Data),
        1 => Ok(PackClass::Vital),
        _ => Err(damaged("the class of a pack")),
    }
}

/// Returns how something is held as a date, none while it lives.
pub(super) fn hold(hold: Hold) -> Option<i64> {
    match hold {
        Hold::Live => None,
        Hold::FreeAfter(date) => Some(date.0.cast_signed()),
    }
}

pub(super) fn parse_hold(free_after: Option<i64>) -> Hold {
    free_after.map_or(Hold::Live, |date| {
        Hold::FreeAfter(Timestamp(date.cast_unsigned()))
    })
}

/// Returns extents as their count, then each one's distance from the last, length, and date; a date of 0 and a flag say that it lives.
pub(crate) fn extents(pack: &HeldPack) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_varint(pack.extents().len() as u64);
    let mut at = 0;
    for Extent { groups, hold } in pack.extents() {
        out.put_varint(u64::from(groups.start - at));
        out.put_varint(u64::from(groups.end - groups.start));
        match hold {
            Hold::Live => out.put_u8(0),
            Hold::FreeAfter(date) => {
                out.put_u8(1);
                out.put_u64(date.0);
            }
        }
        at = groups.end;
    }
    out
}

pub(crate) fn parse_extents(pack: ObjectRef, class: PackClass, bytes: &[u8]) -> Result<HeldPack> {
    let parse = || -> core::result::Result<Vec<Extent>, ParseError> {
        const WHAT: &str = "extents of a pack";
        let mut reader = Reader::new(bytes);
        let count = reader.count(u64::from(PACK_GROUPS_MAX), 3, WHAT)?;
        let mut extents = Vec::with_capacity(count);
        let mut at = 0_u32;
        for _ in 0..count {
            let mut number = || -> core::result::Result<u32, ParseError> {
                let number = reader.varint_max(u64::from(PACK_GROUPS_MAX), WHAT)?;
                Ok(u32::try_from(number).unwrap_or(PACK_GROUPS_MAX))
            };
            // Two numbers of at most 4096 each, 4096 times: far from overflow.
            let start = at + number()?;
            let end = start + number()?;
            let hold = match reader.u8(WHAT)? {
                0 => Hold::Live,
                1 => Hold::FreeAfter(Timestamp(reader.u64(WHAT)?)),
                _ => return Err(ParseError::Invalid { what: WHAT }),
            };
            let groups = start..end;
            extents.push(Extent { groups, hold });
            at = end;
        }
        reader.finish()?;
        Ok(extents)
    };
    let extents = parse().map_err(|_| damaged("the extents of a pack"))?;
    HeldPack::from_extents(pack, class, extents).ok_or(damaged("the extents of a pack"))
}

pub(super) fn inventory(inventory: &InventoryRef) -> Vec<u8> {
    let mut out = Vec::with_capacity(InventoryRef::FIXED_LENGTH);
    inventory.encode_fixed(&mut out);
    out
}

pub(super) fn parse_inventory(bytes: &[u8]) -> Result<InventoryRef> {
    let mut reader = Reader::new(bytes);
    InventoryRef::parse_fixed(&mut reader).map_err(|_| damaged("an inventory of a channel"))
}

pub(super) fn parse_ancestry(bytes: &[u8]) -> Result<Ancestry> {
    let mut reader = Reader::new(bytes);
    Ancestry::parse(&mut reader).map_err(|_| damaged("the ancestry of a channel"))
}

pub(super) fn parse_terms(bytes: &[u8]) -> Result<Terms> {
    terms(&mut Reader::new(bytes)).map_err(|_| damaged("the terms of a channel"))
}

pub(super) const fn damaged(what: &'static str) -> LedgerError {
    LedgerError::Damaged { what }
}
