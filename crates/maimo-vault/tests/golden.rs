//! Holds the code against `testdata/v1`: files of every object, made once and never again.
//!
//! Each must parse to what `golden/store.rs` says it holds, encode to the same bytes again, and be refused with one byte wrong. The
//! twins of `twins.json` are refused for the reason that stands there.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that reads files"
)]

use std::{collections::BTreeMap, fmt::Debug, fs, path::PathBuf};

use data_encoding::HEXLOWER;
use maimo_core::{
    address::AddressList,
    ancestry::AncestryProof,
    audit::{self, AuditReceipt, AuditStatement, AuditedHead, Challenge},
    clock::Timestamp,
    codec::Reader,
    digest::DigestRequest,
    head::SignedHead,
    head_move::HeadMove,
    id::RootHash,
    identity::Signature,
    inventory::{Child, Inventory, Node, Slots},
    invitation::Invitation,
    live_map::LiveMap,
    receipt::Receipt,
    reference::ObjectRef,
    ticket::Ticket,
    verify::{Outboard, Selection, decode_slice},
};
use maimo_vault::{
    commit::Commit,
    compress::{Decompressor, Level},
    dictionary::Dictionary,
    journal::{
        batch::Batch,
        content::Content,
        repeat::{Repeat, rebuild},
        state::State,
    },
    key_file::KeyFile,
    keys::ChunkIdKey,
    name::{ChunkId, ChunkType, Domain},
    pack::{
        ChunkContext, FramedChunk, OpenedTable, PackBuilder, PackKeys, PackKind, PackReader, Piece,
        open_pack,
    },
    path::StorePath,
};
use serde_json::{Value, json};

#[path = "golden/store.rs"]
mod store;

/// Every golden file; `outboard.bin` has no parser of its own, and the lines are texts.
const FILES: [&str; 29] = [
    "address_list.bin",
    "ancestry_proof.bin",
    "answer.bin",
    "audit_receipt.bin",
    "audit_statement.bin",
    "batch.bin",
    "challenge.bin",
    "commit.bin",
    "data_pack.bin",
    "dictionary_pack.bin",
    "digest_request.bin",
    "head_move.bin",
    "inventory_data.bin",
    "inventory_inner.bin",
    "inventory_vital.bin",
    "invitation.bin",
    "invitation.txt",
    "journal_pack.bin",
    "key_file_bare.bin",
    "key_file_passphrase.bin",
    "live_map_bitmap.bin",
    "live_map_full.bin",
    "live_map_runs.bin",
    "piece.bin",
    "receipt.bin",
    "repeat.bin",
    "signed_head.bin",
    "ticket.bin",
    "ticket.txt",
];
const SLICES: [&str; 2] = ["slice_blocks.bin", "slice_groups.bin"];
/// Files whose bytes nothing vouches for but whoever sends them: a byte of them changed may be another good value.
const BARE: [&str; 9] = [
    "audit_receipt.bin",
    "batch.bin",
    "challenge.bin",
    "digest_request.bin",
    "head_move.bin",
    "invitation.bin",
    "live_map_bitmap.bin",
    "live_map_full.bin",
    "live_map_runs.bin",
];
const BARE_PARTS: [&str; 2] = ["piece.bin", "repeat.bin"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/v1")
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).expect(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&golden(name)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The names of an error's variants, outermost first, without what they carry.
fn kind(error: impl Debug) -> String {
    let mut depth = 0_usize;
    let mut text = String::new();
    for character in format!("{error:?}").chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => text.push(character),
            _ => {}
        }
    }
    text.replace(' ', "")
}

/// What it takes to open the chunks of the golden packs.
struct Context {
    keys: Vec<(ChunkType, ChunkIdKey)>,
    dictionary: Option<Dictionary>,
}

impl ChunkContext for Context {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        let mut keys = self.keys.iter();
        keys.find(|(of, _)| *of == chunk_type && domain == store::DOMAIN)
            .map(|(_, key)| key)
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        self.dictionary.as_ref().filter(|known| known.id() == *id)
    }
}

fn context() -> Context {
    let types = [
        ChunkType::Content,
        ChunkType::Journal,
        ChunkType::Dictionary,
    ];
    let mut context = Context {
        keys: types.map(|of| (of, store::id_key(of))).into(),
        dictionary: None,
    };
    let (_, chunks) = open(
        "dictionary_pack.bin",
        &golden("dictionary_pack.bin"),
        &context,
    )
    .unwrap();
    let bytes = chunks.into_iter().next().unwrap();
    let id = store::id_key(ChunkType::Dictionary).id(&bytes);
    context.dictionary = Some(Dictionary::new(id, bytes, Level::default()).unwrap());
    context
}

fn pack_kind(name: &str) -> PackKind {
    if name == "data_pack.bin" {
        PackKind::Data
    } else {
        PackKind::Vital
    }
}

/// Opens a whole pack: its table and the plaintext of each chunk.
fn open(
    name: &str,
    bytes: &[u8],
    context: &Context,
) -> Result<(OpenedTable, Vec<Vec<u8>>), String> {
    let keys = store::channel_keys();
    let keys = PackKeys::new(&keys, store::EPOCH, pack_kind(name));
    let (reader, table) = open_pack(bytes, pack_kind(name), keys).map_err(kind)?;
    let mut chunks = Vec::new();
    for (index, entry) in (0..).zip(table.layout.entries()) {
        let sealed = sealed_chunk(bytes, &table, index).to_vec();
        let chunk = reader.open_chunk(entry, sealed, context, &mut Decompressor::new());
        chunks.push(chunk.map_err(kind)?);
    }
    Ok((table, chunks))
}

fn sealed_chunk<'b>(bytes: &'b [u8], table: &OpenedTable, index: u32) -> &'b [u8] {
    let range = table.layout.chunk_range(index).unwrap();
    &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn signed_head(bytes: &[u8]) -> Result<SignedHead, String> {
    let signer = store::channel_keys().client.public();
    SignedHead::verify(bytes, store::channel(), &[signer]).map_err(kind)
}

fn live_map(name: &str, bytes: &[u8]) -> Result<LiveMap, String> {
    let groups = if name == "live_map_bitmap.bin" {
        21
    } else {
        300
    };
    let mut reader = Reader::new(bytes);
    let map = LiveMap::parse(&mut reader, groups).map_err(kind)?;
    reader.finish().map_err(kind)?;
    Ok(map)
}

fn node(name: &str, bytes: &[u8]) -> Result<Node, String> {
    let node = Node::parse(bytes).map_err(kind)?;
    let head = signed_head(&golden("signed_head.bin")).unwrap();
    let top = match name {
        "inventory_data.bin" => head.head().data,
        "inventory_vital.bin" => head.head().vital,
        _ => store::forty_packs().reference(),
    };
    let top: &Child = top.child().unwrap();
    Node::open(bytes, top, None).map_err(kind)?;
    Ok(node)
}

fn audited(head: &[u8], signature: &[u8; Signature::LENGTH]) -> Option<AuditedHead> {
    let head = signed_head(&[head, signature].concat()).ok()?;
    Some(AuditedHead::from(head.head()))
}

/// Reads an audit's receipt and finds what it shows.
fn audit_receipt(bytes: &[u8]) -> Result<AuditReceipt, String> {
    let receipt = AuditReceipt::parse(bytes).map_err(kind)?;
    let ticket = &receipt.ticket;
    let head = SignedHead::verify(&receipt.head, ticket.channel(), &[*ticket.client()]);
    let head = head.map_err(kind)?;
    if receipt.proof.is_some() || ticket.terms().root != head.root() {
        return Err("OtherHead".to_owned());
    }
    for answered in &receipt.answers {
        let statement = AuditStatement::verify(&answered.statement, &ticket.terms().provider);
        let (challenge, answer) = (&answered.challenge, &answered.answer);
        statement
            .map_err(kind)?
            .check(&ticket.terms().id, ticket.channel(), challenge, answer)
            .map_err(kind)?;
        let report = audit::check(challenge, answer, audited).map_err(kind)?;
        if !report.is_intact() {
            return Err("NotIntact".to_owned());
        }
    }
    Ok(receipt)
}

/// Reads a file as its reader would and holds it against all that vouches for it; returns what it encodes to, or why it is refused.
fn read(name: &str, bytes: &[u8], context: &Context) -> Result<Vec<u8>, String> {
    let again = match name {
        "data_pack.bin" | "journal_pack.bin" | "dictionary_pack.bin" => {
            open(name, bytes, context)?;
            if ObjectRef::of(bytes) != ObjectRef::of(&golden(name)) {
                return Err("OtherObject".to_owned());
            }
            bytes.to_vec()
        }
        "commit.bin" => {
            Commit::open(bytes, &store::channel_keys().commit).map_err(kind)?;
            bytes.to_vec()
        }
        "inventory_data.bin" | "inventory_vital.bin" | "inventory_inner.bin" => {
            node(name, bytes)?.encode()
        }
        "signed_head.bin" => signed_head(bytes)?.encode(),
        "ancestry_proof.bin" => {
            let proof = AncestryProof::parse(bytes).map_err(kind)?;
            let roots = maimo_core::ancestry::AncestryLog::of(store::earlier_roots());
            let ancestry = roots.ancestry(10).unwrap().hash();
            let root = store::earlier_roots()[2];
            proof.check(3, root, 11, &ancestry).map_err(kind)?;
            proof.encode()
        }
        "receipt.bin" => Receipt::verify(bytes, &store::auth())
            .map_err(kind)?
            .encode(),
        "head_move.bin" => HeadMove::parse(bytes).map_err(kind)?.encode(),
        "address_list.bin" => AddressList::verify(bytes, &store::auth())
            .map_err(kind)?
            .encode(),
        "ticket.bin" => Ticket::parse(bytes).map_err(kind)?.encode(),
        "invitation.bin" => Invitation::parse(bytes).map_err(kind)?.encode().to_vec(),
        "ticket.txt" => {
            let text = core::str::from_utf8(bytes).map_err(|_| "Text")?;
            Ticket::from_line(text)
                .map_err(kind)?
                .to_line()
                .into_bytes()
        }
        "invitation.txt" => {
            let text = core::str::from_utf8(bytes).map_err(|_| "Text")?;
            let invitation = Invitation::from_line(text).map_err(kind)?;
            invitation.to_line().as_bytes().to_vec()
        }
        "challenge.bin" => Challenge::parse(bytes).map_err(kind)?.encode(),
        "answer.bin" => {
            let challenge = Challenge::parse(&golden("challenge.bin")).unwrap();
            let report = audit::check(&challenge, bytes, audited).map_err(kind)?;
            if !report.is_intact() {
                return Err("NotIntact".to_owned());
            }
            bytes.to_vec()
        }
        "audit_statement.bin" => AuditStatement::verify(bytes, &store::auth())
            .map_err(kind)?
            .encode(),
        "audit_receipt.bin" => audit_receipt(bytes)?.encode(),
        "digest_request.bin" => DigestRequest::parse(bytes).map_err(kind)?.encode(),
        "slice_blocks.bin" | "slice_groups.bin" => {
            let pack = ObjectRef::of(&golden("data_pack.bin"));
            decode_slice(bytes, &pack, &selection(name, pack.length)).map_err(kind)?;
            bytes.to_vec()
        }
        "key_file_bare.bin" | "key_file_passphrase.bin" => {
            let file = KeyFile::parse(bytes).map_err(kind)?;
            // Stretching takes long: a file whose bytes are the golden one's is opened in a test of its own.
            file.encode().to_vec()
        }
        "batch.bin" => Batch::parse(bytes).map_err(kind)?.encode(),
        "repeat.bin" => {
            let repeat = Repeat::parse(bytes).map_err(kind)?;
            repeat.map(|repeat| repeat.encode()).unwrap_or_default()
        }
        "piece.bin" => {
            let mut out = Vec::new();
            Piece::parse(bytes).map_err(kind)?.encode(&mut out);
            out
        }
        "live_map_full.bin" | "live_map_runs.bin" | "live_map_bitmap.bin" => {
            let mut out = Vec::new();
            live_map(name, bytes)?.encode(&mut out);
            out
        }
        _ => panic!("no reader for {name}"),
    };
    Ok(again)
}

fn selection(name: &str, length: u64) -> Selection {
    if name == "slice_blocks.bin" {
        Selection::blocks(length, store::SLICE_BLOCKS).unwrap()
    } else {
        let run = store::SLICE_GROUP..store::SLICE_GROUP + 1;
        Selection::groups(length, core::iter::once(run)).unwrap()
    }
}

fn all_files() -> impl Iterator<Item = &'static str> {
    FILES.into_iter().chain(SLICES)
}

#[test]
fn every_file_of_the_folder_is_known_and_unchanged() {
    let known = json("golden.json");
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if ["README.md", "golden.json", "read.py", "twins.json"].contains(&name.as_str()) {
            continue;
        }
        let reference = ObjectRef::of(&golden(&name));
        let value = json!({ "length": reference.length, "blake3": reference.root.to_string() });
        found.insert(name, value);
    }
    assert_eq!(json!(found), known["files"]);
    for name in all_files().chain(["outboard.bin"]) {
        assert!(found.contains_key(name), "{name}");
    }
    assert_eq!(found.len(), FILES.len() + SLICES.len() + 1);
}

#[test]
fn every_golden_object_parses_and_encodes_to_the_same_bytes() {
    let context = context();
    for name in all_files() {
        let bytes = golden(name);
        assert_eq!(read(name, &bytes, &context).as_ref(), Ok(&bytes), "{name}");
    }
}

#[test]
fn packs_open_to_what_was_stored_and_seal_to_the_same_bytes_again() {
    let context = context();
    let (table, chunks) = open("data_pack.bin", &golden("data_pack.bin"), &context).unwrap();
    assert_eq!(chunks, store::chunks());
    assert_eq!(
        Repeat::parse(&table.records).unwrap(),
        Some(store::repeat())
    );
    assert_eq!(table.records, golden("repeat.bin"));
    assert_eq!(table.layout.number(), store::DATA_PACK);
    let (_, chunks) = open("journal_pack.bin", &golden("journal_pack.bin"), &context).unwrap();
    assert_eq!(chunks, [golden("batch.bin")]);
    for name in ["data_pack.bin", "journal_pack.bin", "dictionary_pack.bin"] {
        let bytes = golden(name);
        let keys = store::channel_keys();
        let keys = PackKeys::new(&keys, store::EPOCH, pack_kind(name));
        let (reader, table): (PackReader<'_>, _) =
            open_pack(&bytes, pack_kind(name), keys).unwrap();
        let mut builder = PackBuilder::new(table.layout.number(), pack_kind(name));
        for (index, entry) in (0..).zip(table.layout.entries()) {
            let sealed = sealed_chunk(&bytes, &table, index).to_vec();
            let frame = reader.open_frame(entry, sealed).unwrap();
            builder.push(FramedChunk::new(entry, &frame)).unwrap();
        }
        builder.set_records(table.records.clone()).unwrap();
        let again = builder.seal(keys, reader.header().nonce);
        // From the table on, another zstd may compress differently.
        let end = usize::try_from(table.layout.table_range().start).unwrap();
        assert_eq!(again.bytes[..end], bytes[..end], "{name}");
    }
}

#[test]
fn the_journal_and_the_tail_hold_the_records_that_were_written() {
    let [dictionary_pack, data_pack] =
        ["dictionary_pack.bin", "data_pack.bin"].map(|name| ObjectRef::of(&golden(name)));
    let dictionary = context().dictionary.unwrap().id();
    let batch = Batch::parse(&golden("batch.bin")).unwrap();
    assert_eq!(batch, store::batch(dictionary_pack, data_pack, dictionary));
    let piece = Piece::parse(&golden("piece.bin")).unwrap();
    assert_eq!(Batch::parse(piece.records()), Ok(store::tail_batch()));
    let chunk = piece.open_chunk(0, &context(), &mut Decompressor::new());
    assert_eq!(chunk, Some(Ok(store::note())));
    let commit = Commit::open(&golden("commit.bin"), &store::channel_keys().commit).unwrap();
    assert_eq!(commit.store, store::store_part());
    assert_eq!(commit.tail[0].piece, piece);
    assert_eq!(commit.journal[0].0.number, store::JOURNAL_PACK);
    assert_eq!(
        commit.journal[0].1,
        ObjectRef::of(&golden("journal_pack.bin"))
    );
}

/// The steps of docs/format.md, "Reading a store".
#[test]
fn a_store_is_read_from_the_secret_and_the_auth_key() {
    let context = context();
    let head = signed_head(&golden("signed_head.bin")).unwrap();
    let commit = golden("commit.bin");
    assert!(head.head().commit.names(&commit));
    let commit = Commit::open(&commit, &store::channel_keys().commit).unwrap();
    let objects: BTreeMap<ObjectRef, &str> =
        ["dictionary_pack.bin", "data_pack.bin", "journal_pack.bin"]
            .map(|name| (ObjectRef::of(&golden(name)), name))
            .into();
    let mut state = State::default();
    for (segment, reference) in &commit.journal {
        let name = objects[reference];
        for chunk in open(name, &golden(name), &context).unwrap().1 {
            for (stamp, record) in Batch::parse(&chunk).unwrap().into_records(segment.sequence) {
                state.apply(stamp, record);
            }
        }
    }
    for tail in &commit.tail {
        let batch = Batch::parse(tail.piece.records()).unwrap();
        for (stamp, record) in batch.into_records(tail.sequence) {
            state.apply(stamp, record);
        }
    }
    for (path, bytes) in [
        ("/home/u/letters", store::letters()),
        ("/home/u/note", store::note()),
    ] {
        let path = StorePath::unix(path).unwrap();
        let (_, _, content, _) = state.newest(store::SOURCE, &path).unwrap();
        let Content::Regular { size, blake3, .. } = content else {
            panic!("{path:?} is a file");
        };
        let mut file = Vec::new();
        for chunk in state.resolve_all(content.extents()) {
            let piece = commit
                .tail
                .iter()
                .find(|tail| tail.piece.number() == chunk.pack);
            if let Some(tail) = piece {
                let chunk = tail
                    .piece
                    .open_chunk(chunk.index, &context, &mut Decompressor::new());
                file.extend(chunk.unwrap().unwrap());
            } else {
                let name = objects[&state.pack(chunk.pack, store::channel()).unwrap()];
                let (_, chunks) = open(name, &golden(name), &context).unwrap();
                file.extend_from_slice(&chunks[chunk.index as usize]);
            }
        }
        assert_eq!(*size, file.len() as u64);
        assert_eq!(blake3, blake3::hash(&file).as_bytes());
        assert_eq!(file, bytes);
    }
    // And without the journal, from the data pack alone.
    let repeated = Repeat::parse(&golden("repeat.bin")).unwrap();
    let rebuilt = rebuild(repeated, |chunk| chunk.pack == store::DATA_PACK);
    let letters = StorePath::unix("/home/u/letters").unwrap();
    assert_eq!(
        rebuilt
            .newest(store::SOURCE, &letters)
            .map(|(id, metadata, content, _)| (id, metadata.clone(), content.clone())),
        state
            .newest(store::SOURCE, &letters)
            .map(|(id, metadata, content, _)| (id, metadata.clone(), content.clone())),
    );
}

#[test]
fn the_values_in_the_files_are_those_written_down() {
    let head = signed_head(&golden("signed_head.bin")).unwrap();
    let (root, head) = (head.root(), head.head().clone());
    let receipt = Receipt::verify(&golden("receipt.bin"), &store::auth()).unwrap();
    receipt.check(store::channel(), 3, root).unwrap();
    assert_eq!(receipt.acknowledged().instance.0, store::LEDGER);
    let list = AddressList::verify(&golden("address_list.bin"), &store::auth()).unwrap();
    assert_eq!(*list.addresses(), store::tcp_addresses());
    let ticket = Ticket::parse(&golden("ticket.bin")).unwrap();
    assert_eq!(golden("ticket.txt"), ticket.to_line().into_bytes());
    ticket.check(&store::auth(), store::TIME).unwrap();
    assert_eq!(
        (ticket.terms().id, ticket.terms().root),
        (store::TICKET_ID, root)
    );
    assert_eq!(ticket.channel(), store::channel());
    let invitation = Invitation::parse(&golden("invitation.bin")).unwrap();
    assert_eq!(golden("invitation.txt"), invitation.to_line().as_bytes());
    assert_eq!(invitation.offer().addresses, store::addresses());
    assert_eq!(*invitation.token().as_bytes(), store::TOKEN);
    assert_eq!(invitation.offer().cap, store::CAP);
    let digest_request = DigestRequest::parse(&golden("digest_request.bin")).unwrap();
    let digest = digest_request
        .digest(|_| Ok(golden("data_pack.bin")))
        .unwrap();
    let mut hasher = blake3::Hasher::new_keyed(&store::DIGEST_KEY);
    let pack = golden("data_pack.bin");
    hasher.update(&pack[..16_384]).update(&pack[32_768..]);
    assert_eq!(digest, *hasher.finalize().as_bytes());
    assert_eq!(Outboard::of(&pack).as_bytes(), golden("outboard.bin"));
    for name in SLICES {
        let reference = ObjectRef::of(&pack);
        let selection = selection(name, reference.length);
        let extents = decode_slice(&golden(name), &reference, &selection)
            .unwrap()
            .into_inner();
        for extent in extents {
            let start = usize::try_from(extent.offset).unwrap();
            assert_eq!(
                pack[start..start + extent.bytes.len()],
                extent.bytes,
                "{name}"
            );
        }
    }
    assert_eq!(
        live_map("live_map_runs.bin", &golden("live_map_runs.bin")),
        Ok(store::live_map_runs())
    );
    assert_eq!(
        live_map("live_map_bitmap.bin", &golden("live_map_bitmap.bin")),
        Ok(store::live_map_bitmap())
    );
    assert!(
        live_map("live_map_full.bin", &golden("live_map_full.bin"))
            .unwrap()
            .is_full()
    );
    let request = HeadMove::parse(&golden("head_move.bin")).unwrap();
    assert_eq!(request.head, golden("signed_head.bin"));
    assert_eq!(request.commit, golden("commit.bin"));
    let nodes: BTreeMap<ObjectRef, Vec<u8>> = request
        .nodes
        .into_iter()
        .map(|node| (ObjectRef::of(&node), node))
        .collect();
    let load = |top| Inventory::load(top, 100, &mut |node| nodes.get(node).cloned()).unwrap();
    let (data, vital) = (load(&head.data), load(&head.vital));
    assert_eq!(
        data.entry(&RootHash::of(&pack)).unwrap().pack().length,
        40_960
    );
    let inner = node("inventory_inner.bin", &golden("inventory_inner.bin")).unwrap();
    let Slots::Inner(children) = inner.slots() else {
        panic!("an inner node");
    };
    let context = context();
    let (table, _) = open("data_pack.bin", &pack, &context).unwrap();
    let ids: Vec<String> = table
        .layout
        .entries()
        .iter()
        .map(|entry| hex(&entry.id.0))
        .collect();
    let values = json!({
        "secret": hex(&store::SECRET),
        "auth key": hex(store::auth().as_bytes()),
        "client key": hex(head.signer.as_bytes()),
        "channel": store::channel().to_string(),
        "store id": hex(&store::store_part().store.0),
        "commit name": hex(&store::store_part().name(&store::master().commit_name_key(store::EPOCH)).0),
        "root": root.to_string(),
        "sequence": head.sequence,
        "time": head.time.0,
        "ancestry": hex(&head.ancestry),
        "data packs": data.len(),
        "data live blocks": head.data.sums().live_blocks,
        "data charged": head.data.sums().charged,
        "vital packs": vital.len(),
        "vital live blocks": head.vital.sums().live_blocks,
        "vital charged": head.vital.sums().charged,
        "inner level": inner.level(),
        "inner children": children.len(),
        "inner live blocks": inner.sums().live_blocks,
        "inner charged": inner.sums().charged,
        "content chunk ids": ids,
        "content frame lengths": table.layout.entries().iter().map(|e| e.frame_length).collect::<Vec<_>>(),
        "dictionary id": hex(&context.dictionary.unwrap().id().0),
        "digest": hex(&digest),
        "receipt time": receipt.acknowledged().time.0,
        "address list sequence": list.sequence(),
        "records in the segment": Batch::parse(&golden("batch.bin")).unwrap().records().len(),
        "token hash": hex(&invitation.token().hash()),
    });
    assert_eq!(values, json("golden.json")["values"], "{values:#}");
}

#[test]
fn key_files_open_to_the_secret() {
    for (name, passphrase) in [
        ("key_file_bare.bin", None),
        ("key_file_passphrase.bin", Some(store::PASSPHRASE)),
    ] {
        let file = KeyFile::parse(&golden(name)).unwrap();
        assert_eq!(
            *file.open(passphrase).unwrap().as_entropy(),
            store::SECRET,
            "{name}"
        );
        assert!(file.open(Some("wrong horse")).is_err(), "{name}");
    }
}

#[test]
fn a_ticket_and_an_invitation_are_worth_nothing_from_their_time_on() {
    let late = Timestamp(store::TIME.0 + 1_000_000);
    let ticket = Ticket::parse(&golden("ticket.bin")).unwrap();
    assert_eq!(
        ticket.check(&store::auth(), late).map_err(kind),
        Err("Expired".to_owned())
    );
    let invitation = Invitation::parse(&golden("invitation.bin")).unwrap();
    assert_eq!(
        invitation.check(late).map_err(kind),
        Err("Expired".to_owned())
    );
}

/// Places to look at: all of a short file, and of a long one its ends and some in between.
fn places(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 300).max(1);
    let step = if step > 1 { step | 1 } else { 1 };
    let ends = 64.min(length);
    let mut places: Vec<usize> = (0..length).step_by(step).collect();
    places.extend(0..ends);
    places.extend(length - ends..length);
    places.sort_unstable();
    places.dedup();
    places.into_iter()
}

#[test]
fn no_golden_object_is_taken_with_a_byte_wrong_cut_or_added() {
    let context = context();
    for name in all_files() {
        let bytes = golden(name);
        for at in places(bytes.len()) {
            for xor in [0x01, 0x80] {
                let mut twin = bytes.clone();
                twin[at] ^= xor;
                match read(name, &twin, &context) {
                    Err(_) => {}
                    Ok(again) => {
                        let is_bare = BARE.contains(&name) || BARE_PARTS.contains(&name);
                        assert!(is_bare, "{name}, byte {at} xor {xor:#x}");
                        assert_eq!(again, twin, "{name}, byte {at} xor {xor:#x}");
                    }
                }
            }
            // Nothing repeated has a form of its own: no bytes.
            if !(name == "repeat.bin" && at == 0) {
                assert!(
                    read(name, &bytes[..at], &context).is_err(),
                    "{name} cut to {at}"
                );
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            read(name, &longer, &context).is_err(),
            "{name} with a byte more"
        );
    }
}

#[test]
fn every_twin_is_refused_for_the_reason_written_down() {
    let context = context();
    let twins = json("twins.json");
    let twins = twins.as_array().unwrap();
    let mut of_file: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for twin in twins {
        let name = twin["file"].as_str().unwrap();
        let mut bytes = golden(name);
        let number = |field: &str| usize::try_from(twin[field].as_u64().unwrap()).unwrap();
        match twin["edit"].as_str().unwrap() {
            "xor" => bytes[number("offset")] ^= u8::try_from(number("with")).unwrap(),
            "cut" => bytes.truncate(number("length")),
            "add" => bytes.push(u8::try_from(number("byte")).unwrap()),
            other => panic!("an edit that is not known: {other}"),
        }
        let found = match read(name, &bytes, &context) {
            Err(kind) => kind,
            Ok(again) => {
                assert_eq!(again, bytes, "{twin}");
                "AnotherValue".to_owned()
            }
        };
        if twin["kind"] != found {
            let mut twin = twin.clone();
            twin["kind"] = found.into();
            wrong.push(twin.to_string());
        }
        *of_file.entry(name).or_default() += 1;
    }
    assert!(wrong.is_empty(), "found\n{}", wrong.join(",\n"));
    for name in all_files() {
        let least = if name.starts_with("live_map") { 2 } else { 5 };
        assert!(
            of_file.get(name).is_some_and(|count| *count >= least),
            "{name} has too few twins"
        );
    }
}
