//! Requests, responses and errors: the first byte says of which call, the rest is the body.

use core::time::Duration;

use bytes::Bytes;
use maimo_core::{
    clock::Timestamp,
    codec::ParseError,
    custody::{
        CapExceeded, Freeing, Grace, NotHeld, PackClass, Refusal, Terms, Totals, Unavailable,
        UploadRefusal,
    },
    head::HeadError,
    id::RootHash,
    inventory::{InventoryError, Node},
    live_map::{LiveMap, LiveMapError},
    receipt::LedgerInstance,
    reference::ObjectRef,
    ticket::TicketId,
    units::{PACK_BYTES_MAX, groups},
};
use maimo_net::{
    connect::Welcome,
    service::{ChannelStatus, Put, PutReply, Read, ServiceError, ShownHead, TicketUse, WhichHead},
    wire::{
        self, Call, ERROR_BYTES_MAX, encode_addresses, encode_lengths, encode_nodes, encode_reads,
        encode_revocation, encode_sequence, encode_shown, encode_statement, encode_tickets,
        encode_token, parse_addresses, parse_nodes, parse_parts, parse_reads, parse_revocation,
        parse_sequence, parse_shown, parse_slices, parse_stated, parse_tickets, parse_token,
    },
};

use super::assert_canonical;

fn pack(length: u64) -> ObjectRef {
    ObjectRef {
        root: RootHash([5; 32]),
        length,
    }
}

/// Splits the call off.
fn split(bytes: &[u8]) -> Option<(Call, Bytes)> {
    let (first, body) = bytes.split_first()?;
    let call = *Call::ALL.get(usize::from(*first))?;
    Some((call, Bytes::copy_from_slice(body)))
}

fn with_call(call: Call, body: &[u8]) -> Vec<u8> {
    let at = Call::ALL
        .iter()
        .zip(0_u8..)
        .find(|(other, _)| **other == call);
    let at = at.expect("all calls are among all calls").1;
    [&[at], body].concat()
}

pub(super) fn request(bytes: &[u8]) -> bool {
    let Some((call, body)) = split(bytes) else {
        return false;
    };
    let again = match call {
        Call::Put => Put::parse(&body).map(|put| [&put.head().encode()[..], &put.bytes].concat()),
        Call::Head => WhichHead::parse(&body).map(WhichHead::encode),
        Call::Prove => parse_sequence(&body).map(encode_sequence),
        Call::Nodes => parse_nodes(&body).map(|nodes| encode_nodes(&nodes)),
        Call::Read => parse_reads(&body).map(|reads| encode_reads(&reads)),
        Call::Redeem => parse_token(&body).map(|token| encode_token(&token).to_vec()),
        Call::RevokeTicket => {
            parse_revocation(&body).map(|(ticket, expires)| encode_revocation(ticket, expires))
        }
        // Objects of the core or nothing, which have entries of their own.
        _ => return false,
    };
    check(&body, again, call.request_bytes_max())
}

fn check(body: &Bytes, again: Result<Vec<u8>, ParseError>, max: usize) -> bool {
    let Ok(again) = again else { return false };
    assert_canonical(body, &again);
    assert!(body.len() <= max, "a longer body than any was accepted");
    true
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    let put = Put {
        pack: pack(8192),
        class: PackClass::Vital,
        offset: 0,
        bytes: vec![1; 8192].into(),
    };
    let put = [&put.head().encode()[..], &put.bytes].concat();
    vec![
        with_call(Call::Put, &put),
        with_call(Call::Put, &put[..49]),
        with_call(Call::Head, &WhichHead::Newest.encode()),
        with_call(Call::Head, &WhichHead::Sequence(7).encode()),
        with_call(Call::Head, &WhichHead::At(Timestamp(9)).encode()),
        with_call(Call::Prove, &encode_sequence(4)),
        with_call(
            Call::Nodes,
            &encode_nodes(&[pack(0), pack(Node::BYTES_MAX as u64)]),
        ),
        with_call(Call::Read, &encode_reads(&reads())),
        with_call(Call::Redeem, &[8; 16]),
        with_call(
            Call::RevokeTicket,
            &encode_revocation(TicketId([4; 16]), Timestamp(9)),
        ),
    ]
}

fn reads() -> Vec<Read> {
    let read = |length: u64, runs: &[(u32, u32)]| {
        let count = u32::try_from(groups(length)).expect("a pack's");
        let runs = runs.iter().map(|(start, end)| *start..*end);
        Read {
            pack: pack(length),
            groups: LiveMap::from_runs(count, runs).expect("within the pack"),
        }
    };
    vec![
        read(4096, &[(0, 1)]),
        read(100 * 4096, &[(0, 2), (9, 25)]),
        read(PACK_BYTES_MAX, &[(4000, 4096)]),
    ]
}

/// The first byte says of which call; of nodes as many are asked for as the first byte of the body says, each of at most 100 bytes.
pub(super) fn response(bytes: &[u8]) -> bool {
    let Some((call, body)) = split(bytes) else {
        return false;
    };
    let again = match call {
        Call::Status => ChannelStatus::parse(&body).map(|status| status.encode()),
        Call::Put => PutReply::parse(&body, PACK_BYTES_MAX).map(|reply| reply.encode()),
        Call::Head => parse_shown(&body).map(|shown| encode_shown(shown.as_ref())),
        Call::Nodes => {
            let Some(first) = body.first().copied() else {
                return false;
            };
            let parts = parse_parts(&body.slice(1..), (0..first).map(|_| 100));
            parts.map(|parts| [&[first][..], &encode_lengths(&parts), &parts.concat()].concat())
        }
        Call::Read => {
            let asked = small_reads();
            let slices = parse_slices(&body, &asked);
            assert!(slices.is_err() || body.len() as u64 <= wire::slice_bytes_max(&asked));
            slices.map(|slices| [&encode_lengths(&slices)[..], &slices.concat()].concat())
        }
        Call::Redeem => Welcome::parse(&body).map(|welcome| welcome.encode()),
        Call::Addresses => {
            parse_addresses(&body).map(|list| encode_addresses(list.as_ref()).to_vec())
        }
        Call::AuditStated => parse_stated(&body)
            .map(|stated| [&encode_statement(&stated.statement)[..], &stated.answer].concat()),
        Call::Tickets => parse_tickets(&body).map(|tickets| encode_tickets(&tickets)),
        _ => return false,
    };
    check(&body, again, call.response_bytes_max())
}

fn ticket(is_revoked: bool) -> TicketUse {
    TicketUse {
        id: TicketId([3; 16]),
        expires: Timestamp(9),
        met: Timestamp(8),
        bytes: 7,
        slices: 6,
        is_revoked,
    }
}

fn small_reads() -> Vec<Read> {
    reads().into_iter().take(2).collect()
}

pub(super) fn responses() -> Vec<Vec<u8>> {
    let day = |days: u64| Grace::For(Duration::from_hours(24 * days));
    let terms = Terms::new(1 << 30, None, Some(day(30)));
    let lowered = terms
        .change_grace(day(1), Timestamp(5))
        .expect("it has an end");
    let status = ChannelStatus {
        terms: lowered,
        totals: Totals {
            live: 1,
            held: 2,
            reserved: 3,
        },
        root: RootHash([6; 32]),
        sequence: 4,
        instance: LedgerInstance([7; 16]),
        now: Timestamp(8),
    };
    let welcome = |terms, addresses| Welcome { terms, addresses }.encode();
    let endless = Terms::new(9, None, Some(Grace::Endless));
    let reply = PutReply {
        missing: vec![0, 5 << 20, 63 << 20],
    };
    let shown = |commit| {
        encode_shown(Some(&ShownHead {
            head: vec![1; 300].into(),
            ancestry: vec![2; 33].into(),
            commit,
            admitted: Timestamp(9),
        }))
    };
    let parts = [
        Bytes::from(vec![3; 100]),
        Bytes::new(),
        Bytes::from(vec![4; 9]),
    ];
    let nodes = [&[3][..], &encode_lengths(&parts), &parts.concat()].concat();
    let slices = [Bytes::from(vec![3; 4104]), Bytes::from(vec![4; 500])];
    vec![
        with_call(Call::Status, &status.encode()),
        with_call(Call::Put, &reply.encode()),
        with_call(Call::Put, &[]),
        with_call(Call::Head, &[]),
        with_call(Call::Head, &shown(None)),
        with_call(Call::Head, &shown(Some(vec![5; 600].into()))),
        with_call(Call::Nodes, &nodes),
        with_call(Call::Nodes, &[0]),
        with_call(
            Call::Read,
            &[&encode_lengths(&slices)[..], &slices.concat()].concat(),
        ),
        with_call(Call::Redeem, &welcome(terms, None)),
        with_call(Call::Redeem, &welcome(endless, Some(vec![6; 200].into()))),
        with_call(Call::Addresses, &[7; 90]),
        with_call(
            Call::AuditStated,
            &[&encode_statement(&[1; 286])[..], &[2; 400]].concat(),
        ),
        with_call(Call::Tickets, &encode_tickets(&[])),
        with_call(Call::Tickets, &encode_tickets(&[false, true].map(ticket))),
    ]
}

pub(super) fn error(bytes: &[u8]) -> bool {
    let Ok(error) = ServiceError::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &error.encode());
    assert!(bytes.len() <= ERROR_BYTES_MAX);
    let text = error.to_string();
    assert!(
        !text.chars().any(char::is_control),
        "it could move a cursor"
    );
    true
}

pub(super) fn errors() -> Vec<Vec<u8>> {
    let detail = || "why it is so, in words".to_owned();
    let source = InventoryError::MissingNode { node: pack(900) };
    let exceeded = || CapExceeded {
        over_by: 9,
        frees: vec![
            Freeing {
                date: Timestamp(1),
                bytes: 2,
            };
            16
        ],
    };
    let class = PackClass::Vital;
    let not_held = NotHeld {
        missing: vec![
            (pack(10 << 14), vec![0..2, 5..9]),
            (pack(4096), core::iter::once(0..1).collect()),
        ],
        more: true,
    };
    let parse = |error| Refusal::Head(HeadError::Parse(error));
    let refusals = [
        parse(ParseError::TooLarge {
            what: "head",
            found: 5000,
            max: 4096,
        }),
        parse(ParseError::Trailing { extra: 3 }),
        parse(ParseError::UnknownCritical { tag: 0x8001 }),
        Refusal::Head(HeadError::Signature),
        Refusal::Conflict {
            current: RootHash([1; 32]),
            sequence: 2,
        },
        Refusal::Sequence { expected: 2 },
        Refusal::Ancestry,
        Refusal::Inventory { class, source },
        Refusal::PackTwice { pack: pack(4096) },
        Refusal::NotHeld(not_held),
        Refusal::CapExceeded(exceeded()),
        Refusal::Unavailable(Unavailable),
    ];
    let runs = LiveMapError::TooManyRuns { found: 2000 };
    let uploads = [
        UploadRefusal::Length { length: 1 },
        UploadRefusal::WrongClass,
        UploadRefusal::Node(InventoryError::LiveMap(runs)),
        UploadRefusal::CapExceeded(exceeded()),
    ];
    let others = [
        ServiceError::UnknownClient,
        ServiceError::Revoked,
        ServiceError::InvitationRefused { detail: detail() },
        ServiceError::TicketRefused { detail: detail() },
        ServiceError::WrongBytes,
        ServiceError::NotHeld { what: "a pack" },
        ServiceError::Damaged {
            what: "the head",
            detail: detail(),
        },
        ServiceError::DiskFull { detail: detail() },
        ServiceError::Unavailable { detail: detail() },
        ServiceError::BadRequest { detail: detail() },
        ServiceError::Busy(Duration::from_millis(1500)),
    ];
    refusals
        .into_iter()
        .map(ServiceError::from)
        .chain(uploads.into_iter().map(ServiceError::from))
        .chain(others)
        .map(|error| error.encode())
        .collect()
}
