//! Holds docs/format.md against the code: its table of sizes, and the bytes of its worked example.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const PAGE: &str = include_str!("../../../docs/format.md");

/// Names constants by their paths, each with its value.
macro_rules! constants {
    ($($path:path,)*) => {
        [$((stringify!($path), $path.to_string())),*]
    };
}

/// All constants that are part of the formats: each must have a row on the page, and no other may.
fn constants() -> BTreeMap<&'static str, String> {
    let numbers = constants![
        maimo_core::codec::Prelude::LENGTH,
        maimo_core::codec::Prelude::VERSION,
        maimo_core::codec::Prelude::SUITE,
        maimo_core::codec::Extensions::COUNT_MAX,
        maimo_core::codec::Extensions::LENGTH_MAX,
        maimo_core::codec::Extensions::CRITICAL,
        maimo_core::reference::ObjectRef::FIXED_LENGTH,
        maimo_core::units::LEAF_BYTES,
        maimo_core::units::BLOCK_BYTES,
        maimo_core::units::GROUP_BYTES,
        maimo_core::units::PACK_BYTES_MAX,
        maimo_core::units::PACK_GROUPS_MAX,
        maimo_vault::aead::NONCE_BYTES,
        maimo_vault::aead::TAG_BYTES,
        maimo_vault::pack::HEADER_BYTES,
        maimo_vault::pack::TRAILER_BYTES,
        maimo_vault::pack::CHUNKS_PER_PACK_MAX,
        maimo_vault::pack::DICTIONARIES_PER_PACK_MAX,
        maimo_vault::pack::RECORDS_BYTES_MAX,
        maimo_vault::pack::TABLE_BYTES_MAX,
        maimo_vault::pack::PIECE_BYTES_MAX,
        maimo_vault::chunker::CHUNK_BYTES_MIN,
        maimo_vault::chunker::CHUNK_BYTES_NORMAL,
        maimo_vault::chunker::CHUNK_BYTES_MAX,
        maimo_vault::compress::WINDOW_LOG_MAX,
        maimo_vault::dictionary::DICTIONARY_BYTES_MAX,
        maimo_vault::dictionary::SMALL_BYTES_MAX,
        maimo_core::live_map::LiveMap::RUNS_MAX,
        maimo_core::inventory::Node::SLOTS,
        maimo_core::inventory::Node::LEVEL_MAX,
        maimo_core::inventory::Node::BYTES_MAX,
        maimo_core::inventory::InventoryRef::FIXED_LENGTH,
        maimo_core::inventory::CHARGE_BYTES_MIN,
        maimo_core::head::Head::LENGTH,
        maimo_core::head::Head::LENGTH_MAX,
        maimo_core::head::SignedHead::LENGTH_MAX,
        maimo_core::head::ALGORITHM_ED25519,
        maimo_core::head::COMMIT_BYTES_MAX,
        maimo_core::head_move::HeadMove::LENGTH_MAX,
        maimo_core::head_move::HeadMove::NODES_MAX,
        maimo_core::head_move::HeadMove::NODES_BYTES_MAX,
        maimo_core::ancestry::SEQUENCE_MAX,
        maimo_core::ancestry::Ancestry::PEAKS_MAX,
        maimo_core::ancestry::AncestryProof::LENGTH_MAX,
        maimo_core::receipt::Receipt::LENGTH,
        maimo_core::receipt::Receipt::LENGTH_MAX,
        maimo_vault::commit::COMMIT_STEP_BYTES,
        maimo_vault::commit::PARENTS_MAX,
        maimo_vault::commit::WITNESSES_MAX,
        maimo_vault::commit::SEGMENTS_MAX,
        maimo_vault::commit::TAIL_BYTES_MAX,
        maimo_vault::journal::batch::BATCH_BYTES_MAX,
        maimo_vault::journal::batch::RECORDS_MAX,
        maimo_vault::journal::batch::NAMES_MAX,
        maimo_vault::journal::record::TEXT_BYTES_MAX,
        maimo_vault::journal::record::ADDRESSES_MAX,
        maimo_vault::journal::record::CHANNELS_MAX,
        maimo_vault::journal::record::DROPPED_MAX,
        maimo_vault::journal::record::EXTENTS_MAX,
        maimo_vault::journal::metadata::XATTRS_MAX,
        maimo_vault::journal::metadata::XATTR_NAME_BYTES_MAX,
        maimo_vault::journal::metadata::XATTR_VALUE_BYTES_MAX,
        maimo_vault::path::StorePath::COMPONENTS_MAX,
        maimo_vault::path::StorePath::COMPONENT_BYTES_MAX,
        maimo_vault::path::StorePath::BYTES_MAX,
        maimo_core::audit::SLICES_MAX,
        maimo_core::digest::DigestRequest::PACKS_MAX,
        maimo_core::verify::Selection::OBJECT_BYTES_MAX,
        maimo_core::address::Address::NAME_BYTES_MAX,
        maimo_core::address::Addresses::COUNT_MAX,
        maimo_core::address::AddressList::LENGTH_MAX,
        maimo_core::ticket::Ticket::LENGTH_MAX,
        maimo_core::invitation::Invitation::LENGTH_MAX,
        maimo_core::invitation::InvitationToken::LENGTH,
        maimo_core::invitation::GRACE_SECONDS_MAX,
        maimo_core::line::LINE_CHARACTERS_MAX,
        maimo_vault::key_file::SALT_BYTES,
        maimo_vault::key_file::BARE_BYTES,
        maimo_vault::key_file::SEALED_BYTES,
    ];
    let mut all: BTreeMap<_, _> = numbers.into();
    macro_rules! ranges {
        ($($path:path,)*) => {
            $(all.insert(stringify!($path), format!("{} to {}", $path.start(), $path.end()));)*
        };
    }
    ranges![
        maimo_vault::key_file::PassphraseCost::MEMORY_KIB,
        maimo_vault::key_file::PassphraseCost::PASSES,
        maimo_vault::key_file::PassphraseCost::LANES,
    ];
    all
}

/// Maxima that are no part of a format: (module, name) and what they are.
const ELSEWHERE: [(&str, &str); 10] = [
    // What a provider's answers hold, and how it works: docs/protocol.md.
    ("custody", "EXTENTS_SOFT_MAX"),
    ("custody", "WORK_MAX"),
    ("custody", "PACKS_MAX"),
    ("custody", "RUNS_MAX"),
    ("custody", "FREES_MAX"),
    ("custody", "HEADROOM_BYTES_MAX"),
    // How this writer goes about it.
    ("merge", "STEP_BYTES_MAX"),
    ("compose", "PIECE_BYTES_MAX"),
    ("dictionary", "SAMPLE_BYTES_MAX"),
    ("dictionary", "SAMPLES_BYTES_MAX"),
];

fn section(heading: &str) -> &'static str {
    let start = PAGE.find(&format!("\n{heading}\n")).expect(heading) + heading.len() + 2;
    let level = heading.split(' ').next().unwrap();
    let rest = &PAGE[start..];
    let end = (1..=level.len())
        .filter_map(|depth| rest.find(&format!("\n{} ", "#".repeat(depth))))
        .min();
    &rest[..end.unwrap_or(rest.len())]
}

fn rows() -> Vec<(&'static str, String)> {
    section("## Sizes and maxima")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect(row);
            let (value, unit) = rest.split_once(" | ").expect(row);
            assert!(!unit.trim_matches([' ', '|']).is_empty(), "{row}");
            (name, value.replace(',', ""))
        })
        .collect()
}

#[test]
fn every_row_of_sizes_is_a_constant_and_every_constant_has_a_row() {
    let constants = constants();
    let rows = rows();
    let missing: Vec<_> = constants
        .iter()
        .filter(|(name, _)| !rows.iter().any(|(row, _)| row == *name))
        .collect();
    assert!(missing.is_empty(), "rows are missing: {missing:#?}");
    let mut seen = BTreeSet::new();
    for (name, value) in rows {
        assert_eq!(constants.get(name), Some(&value), "{name}");
        assert!(seen.insert(name), "{name} stands twice");
    }
}

#[test]
fn every_public_maximum_of_the_sources_is_on_the_page_or_known_to_belong_elsewhere() {
    let mut found = 0;
    let mut missing = Vec::new();
    for (crate_name, folder) in [("maimo_core", "maimo-core"), ("maimo_vault", "maimo-vault")] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder)
            .join("src");
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let modules: Vec<String> = path
                    .strip_prefix(&root)
                    .unwrap()
                    .with_extension("")
                    .iter()
                    .map(|part| part.to_str().unwrap().to_owned())
                    .collect();
                for line in fs::read_to_string(&path).unwrap().lines() {
                    let Some(rest) = line.trim_start().strip_prefix("pub const ") else {
                        continue;
                    };
                    let name = rest.split(':').next().unwrap();
                    if !name.ends_with("_MAX") || name.contains('(') {
                        continue;
                    }
                    found += 1;
                    let is_elsewhere = ELSEWHERE.iter().any(|(module, other)| {
                        *other == name && modules.iter().any(|m| m == module)
                    });
                    let has_row = rows().iter().any(|(row, _)| {
                        let parts: Vec<&str> = row.split("::").collect();
                        parts.first() == Some(&crate_name)
                            && parts.last() == Some(&name)
                            && modules
                                .iter()
                                .any(|module| parts.contains(&module.as_str()))
                    });
                    if !is_elsewhere && !has_row {
                        missing.push(format!("{modules:?} {name}"));
                    }
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    // Else the search itself is broken.
    assert!(found > 50, "only {found} maxima found");
}
