//! Signed objects: the input is what is signed, and is signed here; it is tried as a signed whole as well.

use maimo_core::{
    address::AddressList,
    ancestry::{Ancestry, AncestryLog, AncestryProof},
    audit::{Answered, AuditReceipt, AuditStatement, Challenge, Stated},
    clock::Timestamp,
    codec::Extensions,
    head::{Head, SignedHead},
    id::{ChannelId, RootHash},
    identity::{AuthSecretKey, Authenticates, ClientSecretKey, SecretKey, Signature},
    inventory::InventoryRef,
    receipt::{Acknowledged, LedgerInstance, Receipt},
    reference::ObjectRef,
    ticket::{Budget, Ticket, TicketId, TicketTerms},
};

use super::{assert_canonical, objects::lists};

const CHANNEL: ChannelId = ChannelId([7; 32]);

pub(super) fn client() -> ClientSecretKey {
    ClientSecretKey::from_seed(&[1; 32])
}

fn auth() -> AuthSecretKey {
    AuthSecretKey::from_seed(&[2; 32])
}

/// Appends a signature by a key of ours over `signed`.
fn sign<R: Authenticates>(
    bytes: &[u8],
    key: &SecretKey<R>,
    context: &str,
    signed: &[u8],
) -> Vec<u8> {
    [bytes, key.sign(context, signed).as_bytes()].concat()
}

/// Returns the objects without their signatures.
fn insides(objects: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let inside = |bytes: Vec<u8>| bytes[..bytes.len() - Signature::LENGTH].to_vec();
    objects.into_iter().map(inside).collect()
}

pub(super) fn head(bytes: &[u8]) -> bool {
    let signers = [client().public()];
    let whole = sign(
        bytes,
        &client(),
        "maimo head v1",
        RootHash::of(bytes).as_bytes(),
    );
    for bytes in [bytes, &whole] {
        if let Ok(head) = SignedHead::verify(bytes, CHANNEL, &signers) {
            assert_canonical(bytes, &head.encode());
        }
    }
    let Ok(head) = Head::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &head.encode());
    assert_eq!(head.root(), RootHash::of(bytes));
    let is_ours = head.channel == CHANNEL && head.signer == signers[0];
    assert_eq!(
        SignedHead::verify(&whole, CHANNEL, &signers).is_ok(),
        is_ours
    );
    if is_ours {
        let signed = head.sign(&client()).expect("its signer signs");
        assert_canonical(&whole, &signed.encode());
    }
    true
}

pub(super) fn heads() -> Vec<Vec<u8>> {
    let mut inventory = super::forest::inventory(40);
    let head = |sequence: u64, data: InventoryRef| {
        let count = u8::try_from(sequence - 1).unwrap_or(0);
        let log = AncestryLog::of((0..count).map(|n| RootHash([n; 32])));
        let ancestry = log.ancestry(count.into()).unwrap_or_else(Ancestry::empty);
        Head {
            channel: CHANNEL,
            sequence,
            previous: if sequence == 1 {
                RootHash::NONE
            } else {
                RootHash([3; 32])
            },
            ancestry: ancestry.hash(),
            data,
            vital: InventoryRef::EMPTY,
            commit: ObjectRef::of(&[5; 512]),
            time: Timestamp(99),
            signer: client().public(),
            extensions: Extensions::default(),
        }
    };
    let full = inventory.reference();
    inventory.compact();
    [head(1, InventoryRef::EMPTY), head(2, full), head(200, full)]
        .iter()
        .map(Head::encode)
        .collect()
}

pub(super) fn receipt(bytes: &[u8]) -> bool {
    let key = auth();
    let whole = sign(bytes, &key, "maimo receipt v1", bytes);
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(receipt) = Receipt::verify(bytes, &key.public()) {
            assert_canonical(bytes, &receipt.encode());
            accepted = true;
        }
    }
    accepted
}

pub(super) fn receipts() -> Vec<Vec<u8>> {
    let acknowledged = |sequence| Acknowledged {
        channel: CHANNEL,
        root: RootHash([8; 32]),
        sequence,
        time: Timestamp(5),
        instance: LedgerInstance([4; 16]),
    };
    insides(
        [1, (1 << 48) - 1].map(|sequence| Receipt::sign(acknowledged(sequence), &auth()).encode()),
    )
}

pub(super) fn all_tickets() -> Vec<Ticket> {
    let ticket = |addresses| {
        let terms = TicketTerms {
            id: TicketId([3; 16]),
            provider: auth().public(),
            addresses,
            sequence: 9,
            root: RootHash([8; 32]),
            expires: Timestamp(1 << 40),
            budget: Budget {
                bytes: 1 << 30,
                slices: 920,
            },
        };
        Ticket::sign(terms, &client()).expect("short")
    };
    let lists = lists().into_iter().map(Some);
    lists.chain([None]).map(ticket).collect()
}

pub(super) fn ticket(bytes: &[u8]) -> bool {
    let whole = sign(bytes, &client(), "maimo ticket v1", bytes);
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(ticket) = Ticket::parse(bytes) {
            assert_canonical(bytes, &ticket.encode());
            assert_eq!(Ticket::from_line(&ticket.to_line()), Ok(ticket));
            accepted = true;
        }
    }
    accepted
}

pub(super) fn tickets() -> Vec<Vec<u8>> {
    insides(all_tickets().iter().map(Ticket::encode))
}

pub(super) fn audit_statement(bytes: &[u8]) -> bool {
    let key = auth();
    let whole = sign(bytes, &key, "maimo audit statement v1", bytes);
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(statement) = AuditStatement::verify(bytes, &key.public()) {
            assert_canonical(bytes, &statement.encode());
            accepted = true;
        }
    }
    accepted
}

pub(super) fn audit_statements() -> Vec<Vec<u8>> {
    insides([&b"answer"[..], b""].map(|answer| statement(answer).encode()))
}

fn statement(answer: &[u8]) -> AuditStatement {
    let stated = Stated {
        ticket: TicketId([3; 16]),
        channel: CHANNEL,
        root: RootHash([8; 32]),
        challenge: RootHash([9; 32]),
        answer: ObjectRef::of(answer),
        time: Timestamp(5),
        instance: LedgerInstance([4; 16]),
    };
    AuditStatement::sign(stated, &auth())
}

/// The ticket in it is signed, so only what stands around it can be varied.
pub(super) fn audit_receipt(bytes: &[u8]) -> bool {
    let Ok(receipt) = AuditReceipt::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &receipt.encode());
    true
}

pub(super) fn audit_receipts() -> Vec<Vec<u8>> {
    let answered = |positions: Vec<u64>| Answered {
        challenge: Challenge::new(RootHash([8; 32]), positions, vec![1]).expect("ascending"),
        statement: statement(b"answer").encode(),
        answer: b"answer".to_vec(),
    };
    let receipt = |ticket, proof, answers| {
        let receipt = AuditReceipt {
            ticket,
            head: vec![6; 400],
            proof,
            time: Timestamp(7),
            answers,
            extensions: Extensions::default(),
        };
        receipt.encode()
    };
    let tickets = all_tickets();
    let proof = AncestryProof::build(9, 12, |_, _| Some([1; 32]));
    vec![
        receipt(tickets[0].clone(), None, Vec::new()),
        receipt(
            tickets[1].clone(),
            proof,
            vec![answered(vec![4, 9]), answered(vec![])],
        ),
    ]
}

pub(super) fn address_list(bytes: &[u8]) -> bool {
    let key = auth();
    let whole = sign(bytes, &key, "maimo addresses v1", bytes);
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(list) = AddressList::verify(bytes, &key.public()) {
            assert_canonical(bytes, &list.encode());
            accepted = true;
        }
    }
    accepted
}

pub(super) fn address_lists() -> Vec<Vec<u8>> {
    insides(
        lists()
            .into_iter()
            .zip(1..)
            .map(|(list, sequence)| AddressList::sign(list, sequence, &auth()).encode()),
    )
}
