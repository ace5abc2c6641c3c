//! Every parser of Maimo, with what must hold of it whatever the bytes: it never panics, what it accepts encodes to the same bytes
//! again, and nothing it makes is out of proportion to what it read.
//!
//! One table, used twice: the tests run [`structured`] inputs against it (real objects, damaged a little), and `fuzz/` hands each entry to
//! a fuzzer that follows coverage. What stands behind a seal, a signature or a checksum is reached by taking the input for the inside and
//! sealing or signing it here; the sealed whole has an entry of its own, or is tried as well.

mod commit;
mod forest;
mod frame;
mod journal;
mod mutate;
mod objects;
mod pack;
mod provider;
mod sealed;
mod secret;
mod signed;
mod wire;

pub use mutate::structured;

/// A parser and its claims.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called; its fuzz target has the same name.
    pub name: &'static str,
    /// Holds the claims against some bytes and returns whether they were accepted; panics if a claim is broken.
    pub run: fn(&[u8]) -> bool,
    /// Returns inputs that are accepted, of several shapes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every parser there is.
pub const TARGETS: &[Target] = &[
    target("prelude", objects::prelude, objects::preludes),
    target("extensions", objects::extensions, objects::some_extensions),
    target("live_map", objects::live_map, objects::live_maps),
    target("ancestry", objects::ancestry, objects::ancestries),
    target(
        "ancestry_proof",
        objects::ancestry_proof,
        objects::ancestry_proofs,
    ),
    target("head_move", objects::head_move, objects::head_moves),
    target("challenge", objects::challenge, objects::challenges),
    target(
        "digest_request",
        objects::digest_request,
        objects::digest_requests,
    ),
    target("slice", objects::slice, objects::slices),
    target("invitation", objects::invitation, objects::invitations),
    target("address", objects::address, objects::addresses),
    target("text", objects::text, objects::texts),
    target("head", signed::head, signed::heads),
    target("receipt", signed::receipt, signed::receipts),
    target("ticket", signed::ticket, signed::tickets),
    target(
        "audit_statement",
        signed::audit_statement,
        signed::audit_statements,
    ),
    target(
        "audit_receipt",
        signed::audit_receipt,
        signed::audit_receipts,
    ),
    target("address_list", signed::address_list, signed::address_lists),
    target("inventory_node", forest::node, forest::nodes),
    target("inventory_tree", forest::tree, forest::trees),
    target("inventory_diff", forest::difference, forest::pairs),
    target("audit_answer", forest::audit_answer, forest::audit_answers),
    target("audit_inventory", forest::audit_inventory, forest::audited),
    target("pack_header", pack::pack_header, pack::pack_headers),
    target("pack_trailer", pack::pack_trailer, pack::pack_trailers),
    target("pack_table", pack::pack_table, pack::pack_tables),
    target("pack", pack::pack, pack::packs),
    target("piece", pack::piece, pack::pieces),
    target("commit", commit::commit, commit::commits),
    target("batch", journal::batch, journal::batches),
    target("repeat", journal::repeat, journal::repeats),
    target("path", journal::path, journal::paths),
    target("frame", frame::frame, frame::frames),
    target("dictionary", frame::dictionary, frame::dictionaries),
    target("key_file", secret::key_file, secret::key_files),
    target("phrase", secret::phrase, secret::phrases),
    target("wire_request", wire::request, wire::requests),
    target("wire_response", wire::response, wire::responses),
    target("wire_error", wire::error, wire::errors),
    target("provider", provider::provider, provider::histories),
];

const fn target(name: &'static str, run: fn(&[u8]) -> bool, seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// Returns the entry called `name`.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Holds what was accepted against what it encodes to.
#[track_caller]
fn assert_canonical(read: &[u8], again: &[u8]) {
    assert!(
        read == again,
        "accepted bytes encode to others:\n read {}\nagain {}",
        hex(read),
        hex(again)
    );
}

/// Returns bytes as they are written in a report.
pub fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
