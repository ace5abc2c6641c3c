//! Made the golden files of version 1: `cargo run -p maimo-vault --example golden -- FOLDER`.
//!
//! Kept so that anyone can see where they came from, and for the next version to begin with. It gives the same bytes again as long as
//! zstd compresses alike; the files in `testdata/v1` are never replaced by them.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a tool that writes files and may stop where it stands"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use maimo_core::{
    address::AddressList,
    ancestry::AncestryLog,
    audit::{
        self, Answered, AuditReceipt, AuditSource, AuditStatement, AuditedHead, Challenge, Stated,
    },
    clock::Timestamp,
    codec::Extensions,
    custody::Grace,
    digest::DigestRequest,
    head::{Head, SignedHead},
    head_move::HeadMove,
    id::RootHash,
    inventory::{Change, Entry, Inventory},
    invitation::{Invitation, InvitationToken, Offer},
    live_map::LiveMap,
    receipt::{Acknowledged, LedgerInstance, Receipt},
    reference::ObjectRef,
    ticket::{Budget, Ticket, TicketTerms},
    verify::{Outboard, Selection, encode_slice},
};
use maimo_vault::{
    commit::{Commit, Segment, TailPiece},
    compress::{Compressor, Level},
    dictionary::{Dictionary, train},
    key_file::{KeyFile, PassphraseCost},
    name::{ChunkType, PackNumber},
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, PackNonce, Piece},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

#[path = "../tests/golden/store.rs"]
mod store;

struct Provider {
    nodes: BTreeMap<ObjectRef, Vec<u8>>,
    packs: BTreeMap<ObjectRef, Vec<u8>>,
}

impl AuditSource for Provider {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        self.nodes.get(node).cloned()
    }

    fn slice(&mut self, pack: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        self.packs.get(pack).map(|bytes| slice(bytes, blocks))
    }
}

fn slice(object: &[u8], selection: &Selection) -> Vec<u8> {
    let outboard = Outboard::of(object);
    let mut out = Vec::new();
    let root = outboard.object().root;
    encode_slice(&object, &outboard.as_bytes(), &root, selection, &mut out).unwrap();
    out
}

fn framed<'f>(
    compressor: &'f mut Compressor<'_>,
    chunk_type: ChunkType,
    plaintext: &'f [u8],
) -> FramedChunk<'f> {
    let frame = compressor.compress(plaintext, None);
    FramedChunk {
        id: store::id_key(chunk_type).id(plaintext),
        chunk_type,
        domain: store::DOMAIN,
        codec: frame.codec,
        dictionary: None,
        plaintext_length: u32::try_from(plaintext.len()).unwrap(),
        frame: frame.bytes,
    }
}

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder to write into"));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let keys = store::channel_keys();
    let mut compressor = Compressor::new(Level::default());

    let letters: Vec<Vec<u8>> = (0..400).map(store::letter).collect();
    let trained = train(letters.iter().map(Vec::as_slice)).unwrap();
    let id = store::id_key(ChunkType::Dictionary).id(&trained);
    let dictionary = Dictionary::new(id, trained.clone(), Level::default()).unwrap();
    let vital = PackKeys::new(&keys, store::EPOCH, PackKind::Vital);
    let mut builder = PackBuilder::new(store::DICTIONARY_PACK, PackKind::Vital);
    builder
        .push(framed(&mut compressor, ChunkType::Dictionary, &trained))
        .unwrap();
    let dictionary_pack = builder.seal(vital, PackNonce::draw(&mut rng));
    write("dictionary_pack.bin", &dictionary_pack.bytes);

    let mut builder = PackBuilder::new(store::DATA_PACK, PackKind::Data);
    let [random, repeated, letter] = store::chunks();
    for plaintext in [&random, &repeated] {
        builder
            .push(framed(&mut compressor, ChunkType::Content, plaintext))
            .unwrap();
    }
    let mut with_dictionary = Compressor::new(Level::default());
    let frame = with_dictionary.compress(&letter, Some(&dictionary));
    let chunk = FramedChunk {
        id: store::id_key(ChunkType::Content).id(&letter),
        chunk_type: ChunkType::Content,
        domain: store::DOMAIN,
        codec: frame.codec,
        dictionary: Some(id),
        plaintext_length: u32::try_from(letter.len()).unwrap(),
        frame: frame.bytes,
    };
    builder.push(chunk).unwrap();
    builder.set_records(store::repeat().encode()).unwrap();
    write("repeat.bin", &store::repeat().encode());
    let data = PackKeys::new(&keys, store::EPOCH, PackKind::Data);
    let data_pack = builder.seal(data, PackNonce::draw(&mut rng));
    write("data_pack.bin", &data_pack.bytes);
    write("outboard.bin", Outboard::of(&data_pack.bytes).as_bytes());

    let batch = store::batch(dictionary_pack.reference, data_pack.reference, id).encode();
    write("batch.bin", &batch);
    let mut builder = PackBuilder::new(store::JOURNAL_PACK, PackKind::Vital);
    builder
        .push(framed(&mut compressor, ChunkType::Journal, &batch))
        .unwrap();
    let journal_pack = builder.seal(vital, PackNonce::draw(&mut rng));
    write("journal_pack.bin", &journal_pack.bytes);

    let mut piece = Piece::new(store::TAIL_PIECE);
    piece
        .push(framed(&mut compressor, ChunkType::Content, &store::note()))
        .unwrap();
    piece.set_records(store::tail_batch().encode()).unwrap();
    let mut bytes = Vec::new();
    piece.encode(&mut bytes);
    write("piece.bin", &bytes);
    let segment = |number: PackNumber| Segment {
        number,
        sequence: 2,
        level: 0,
    };
    let commit = Commit {
        store: store::store_part(),
        journal: vec![(segment(store::JOURNAL_PACK), journal_pack.reference)],
        tail: vec![TailPiece { sequence: 3, piece }],
        extensions: Extensions::default(),
    };
    let commit = commit.seal(&keys.commit, &mut rng).unwrap();
    write("commit.bin", &commit);

    write_maps(&write);
    let inventory = |packs: &[(ObjectRef, LiveMap)]| {
        let mut inventory = Inventory::new();
        let changes = packs
            .iter()
            .map(|(pack, live)| Change::Set(Entry::new(*pack, live.clone()).unwrap()));
        inventory.apply(changes.collect::<Vec<_>>()).unwrap();
        inventory
    };
    let whole = |pack: ObjectRef| {
        let groups = u32::try_from(pack.length.div_ceil(16 * 1024)).unwrap();
        (pack, LiveMap::full(groups))
    };
    let live = data_pack.layout.live_map(0..3).unwrap();
    let data = inventory(&[(data_pack.reference, live)]);
    let vital = inventory(&[
        whole(dictionary_pack.reference),
        whole(journal_pack.reference),
    ]);
    let mut nodes = BTreeMap::new();
    for (name, inventory) in [
        ("inventory_data.bin", &data),
        ("inventory_vital.bin", &vital),
    ] {
        for (reference, bytes) in inventory.nodes() {
            write(name, bytes);
            nodes.insert(reference, bytes.to_vec());
        }
    }
    let forty = store::forty_packs();
    for (reference, bytes) in forty.nodes() {
        if Some(reference) == forty.reference().top() {
            write("inventory_inner.bin", bytes);
        }
    }

    let earlier = AncestryLog::of(store::earlier_roots());
    let head = Head {
        channel: store::channel(),
        sequence: 3,
        previous: store::earlier_roots()[1],
        ancestry: earlier.ancestry(2).unwrap().hash(),
        data: data.reference(),
        vital: vital.reference(),
        commit: ObjectRef::of(&commit),
        time: store::TIME,
        signer: keys.client.public(),
        extensions: Extensions::default(),
    };
    let head = head.sign(&keys.client).unwrap();
    write("signed_head.bin", &head.encode());
    write(
        "ancestry_proof.bin",
        &earlier.prove(3, 10).unwrap().encode(),
    );
    let request = HeadMove {
        head: head.encode(),
        commit: commit.clone(),
        nodes: nodes.values().cloned().collect(),
        extensions: Extensions::default(),
    };
    write("head_move.bin", &request.encode());
    let acknowledged = Acknowledged {
        channel: store::channel(),
        root: head.root(),
        sequence: 3,
        time: Timestamp(store::TIME.0 + 5),
        instance: LedgerInstance(store::LEDGER),
    };
    let receipt = Receipt::sign(acknowledged, &store::auth_secret());
    write("receipt.bin", &receipt.encode());

    let list = AddressList::sign(store::tcp_addresses(), 7, &store::auth_secret());
    write("address_list.bin", &list.encode());
    write_lines(&write, head.root());

    let packs = [
        dictionary_pack.bytes,
        data_pack.bytes.clone(),
        journal_pack.bytes,
    ];
    let mut provider = Provider {
        nodes,
        packs: packs.map(|bytes| (ObjectRef::of(&bytes), bytes)).into(),
    };
    let challenge = Challenge::new(head.root(), vec![0, 5, 9], vec![1]).unwrap();
    write("challenge.bin", &challenge.encode());
    let (head_bytes, signature) = {
        let bytes = head.encode();
        let (head, signature) = bytes.split_last_chunk::<64>().unwrap();
        (head.to_vec(), *signature)
    };
    let audited = AuditedHead::from(head.head());
    let answer = audit::answer(
        &challenge,
        &audited,
        &head_bytes,
        &signature,
        Some(&commit),
        &mut provider,
    );
    let answer = answer.unwrap();
    write("answer.bin", &answer);
    write_audit(&write, &head, challenge, answer);
    let first_group = LiveMap::from_runs(3, [0..1, 2..3]).unwrap();
    let request =
        DigestRequest::new(store::DIGEST_KEY, vec![(data_pack.reference, first_group)]).unwrap();
    write("digest_request.bin", &request.encode());
    let length = data_pack.reference.length;
    let blocks = Selection::blocks(length, store::SLICE_BLOCKS).unwrap();
    write("slice_blocks.bin", &slice(&data_pack.bytes, &blocks));
    let groups = Selection::groups(
        length,
        core::iter::once(store::SLICE_GROUP..store::SLICE_GROUP + 1),
    )
    .unwrap();
    write("slice_groups.bin", &slice(&data_pack.bytes, &groups));

    let bare = KeyFile::bare(&store::master());
    write("key_file_bare.bin", &bare.encode());
    let cost = PassphraseCost::new(19 * 1024, 2, 1).unwrap();
    let sealed = KeyFile::seal(&store::master(), store::PASSPHRASE, cost, &mut rng).unwrap();
    write("key_file_passphrase.bin", &sealed.encode());
}

fn write_maps(write: &impl Fn(&str, &[u8])) {
    let maps = [
        ("live_map_full.bin", LiveMap::full(300)),
        ("live_map_runs.bin", store::live_map_runs()),
        ("live_map_bitmap.bin", store::live_map_bitmap()),
    ];
    for (name, map) in maps {
        let mut bytes = Vec::new();
        map.encode(&mut bytes);
        write(name, &bytes);
    }
}

fn write_audit(
    write: &impl Fn(&str, &[u8]),
    head: &SignedHead,
    challenge: Challenge,
    answer: Vec<u8>,
) {
    let stated = Stated {
        ticket: store::TICKET_ID,
        channel: store::channel(),
        root: head.root(),
        challenge: RootHash::of(&challenge.encode()),
        answer: ObjectRef::of(&answer),
        time: Timestamp(store::TIME.0 + 9),
        instance: LedgerInstance(store::LEDGER),
    };
    let statement = AuditStatement::sign(stated, &store::auth_secret()).encode();
    write("audit_statement.bin", &statement);
    let receipt = AuditReceipt {
        ticket: ticket(head.root()),
        head: head.encode(),
        proof: None,
        time: Timestamp(store::TIME.0 + 10),
        answers: vec![Answered {
            challenge,
            statement,
            answer,
        }],
        extensions: Extensions::default(),
    };
    write("audit_receipt.bin", &receipt.encode());
}

fn ticket(root: RootHash) -> Ticket {
    let terms = TicketTerms {
        id: store::TICKET_ID,
        provider: store::auth(),
        addresses: Some(store::addresses()),
        sequence: 3,
        root,
        expires: Timestamp(store::TIME.0 + 1_000_000),
        budget: Budget {
            bytes: 10_000_000,
            slices: 4600,
        },
    };
    Ticket::sign(terms, &store::channel_keys().client).unwrap()
}

fn write_lines(write: &impl Fn(&str, &[u8]), root: RootHash) {
    let ticket = ticket(root);
    write("ticket.bin", &ticket.encode());
    write("ticket.txt", ticket.to_line().as_bytes());
    let offer = Offer {
        provider: store::auth(),
        addresses: store::addresses(),
        expires: Timestamp(store::TIME.0 + 1_000_000),
        cap: store::CAP,
        reserve: store::CAP / 10,
        grace: Grace::For(std::time::Duration::from_hours(30 * 24)),
    };
    let invitation = Invitation::new(offer, InvitationToken::from_bytes(&store::TOKEN)).unwrap();
    write("invitation.bin", &invitation.encode());
    write("invitation.txt", invitation.to_line().as_bytes());
}
