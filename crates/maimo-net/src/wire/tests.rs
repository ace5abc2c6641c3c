use core::{ops::Range, time::Duration};

use bytes::Bytes;
use maimo_core::{
    clock::Timestamp,
    custody::{CapExceeded, Grace, NotHeld, PackClass, Refusal, Terms, Totals, UploadRefusal},
    id::RootHash,
    invitation::InvitationToken,
    live_map::LiveMap,
    receipt::LedgerInstance,
    ticket::TicketId,
    units::{GROUP_BYTES, PACK_BYTES_MAX, groups},
};
use proptest::prelude::*;

use super::*;
use crate::{
    connect::Welcome,
    service::{Put, Read, ServiceError, ShownHead, TicketUse},
};

fn pack(number: u8, length: u64) -> ObjectRef {
    ObjectRef {
        root: RootHash([number; 32]),
        length,
    }
}

/// Checks that `bytes` are read to the last one, and that each beginning of them, and more of them, is refused or is another message.
fn check<T, D: core::fmt::Debug + PartialEq>(
    bytes: &[u8],
    parse: impl Fn(&Bytes) -> Result<T, ParseError>,
    as_bytes: impl Fn(&T) -> D,
    expected: &D,
) {
    let body = Bytes::copy_from_slice(bytes);
    let read = parse(&body).expect("what was encoded parses");
    assert_eq!(as_bytes(&read), *expected);
    for end in (0..bytes.len()).take(300) {
        let cut = parse(&body.slice(..end));
        assert!(cut.is_err() || as_bytes(&cut.unwrap()) != *expected);
    }
    let more = parse(&Bytes::from([bytes, &[0]].concat()));
    assert!(more.is_err() || as_bytes(&more.unwrap()) != *expected);
}

fn terms() -> impl Strategy<Value = Terms> {
    let grace = prop_oneof![
        Just(Grace::Endless),
        any::<u32>().prop_map(|seconds| Grace::For(Duration::from_secs(seconds.into())))
    ];
    let lowering = proptest::option::of((any::<u32>(), 0..u64::from(u32::MAX)));
    (any::<u64>(), any::<u64>(), grace, lowering).prop_map(|(cap, reserve, grace, lowering)| {
        let terms = Terms::new(cap, Some(reserve), Some(grace));
        let Some((shorter, asked)) = lowering else {
            return terms;
        };
        terms
            .change_grace(
                Grace::For(Duration::from_millis(shorter.into())),
                Timestamp(asked),
            )
            .unwrap_or(terms)
    })
}

/// Maps of a pack that may stand in a request, and its length.
fn read() -> impl Strategy<Value = Read> {
    let length = 1..=1024_u64;
    (length, any::<u8>(), any::<[u16; 4]>()).prop_map(|(blocks, number, marks)| {
        let length = blocks * 4096;
        let count = u32::try_from(groups(length)).unwrap();
        let mut marks = marks.map(|mark| u32::from(mark) % (count + 1));
        marks.sort_unstable();
        let runs: Vec<Range<u32>> = marks
            .chunks(2)
            .map(|pair| pair[0]..pair[1])
            .filter(|run| !run.is_empty())
            .collect();
        let groups = LiveMap::from_runs(count, runs)
            .ok()
            .filter(|map| !map.is_empty())
            .unwrap_or_else(|| LiveMap::full(count));
        Read {
            pack: pack(number, length),
            groups,
        }
    })
}

fn error() -> impl Strategy<Value = ServiceError> {
    let detail = "[^\\p{Cc}]{0,80}";
    prop_oneof![
        Just(ServiceError::UnknownClient),
        Just(ServiceError::Revoked),
        Just(ServiceError::WrongBytes),
        detail.prop_map(|detail| ServiceError::InvitationRefused { detail }),
        detail.prop_map(|detail| ServiceError::TicketRefused { detail }),
        detail.prop_map(|detail| ServiceError::DiskFull { detail }),
        detail.prop_map(|detail| ServiceError::Unavailable { detail }),
        detail.prop_map(|detail| ServiceError::BadRequest { detail }),
        detail.prop_map(|detail| ServiceError::Damaged {
            what: "a pack",
            detail
        }),
        Just(ServiceError::NotHeld {
            what: "a head of that root"
        }),
        any::<u32>().prop_map(|ms| ServiceError::Busy(Duration::from_millis(ms.into()))),
        any::<u64>().prop_map(|expected| Refusal::Sequence { expected }.into()),
        any::<u64>().prop_map(|length| UploadRefusal::Length { length }.into()),
        any::<u64>().prop_map(|over_by| UploadRefusal::from(CapExceeded {
            over_by,
            frees: Vec::new()
        })
        .into()),
    ]
}

proptest! {
    #[test]
    fn a_status_comes_back(terms in terms(), numbers: [u64; 5], root: [u8; 32], instance: [u8; 16]) {
        let [live, held, reserved, sequence, now] = numbers;
        let status = ChannelStatus {
            terms,
            totals: Totals { live, held, reserved },
            root: RootHash(root),
            sequence,
            instance: LedgerInstance(instance),
            now: Timestamp(now),
        };
        let bytes = status.encode();
        prop_assert!(bytes.len() <= Call::Status.response_bytes_max());
        let as_bytes = |status: &ChannelStatus| format!("{status:?}");
        check(&bytes, |body| ChannelStatus::parse(body), as_bytes, &as_bytes(&status));
    }

    #[test]
    fn a_welcome_comes_back(terms in terms(), list: Option<[u8; 40]>) {
        let welcome = Welcome { terms, addresses: list.map(|list| Bytes::copy_from_slice(&list)) };
        let bytes = welcome.encode();
        let read = Welcome::parse(&Bytes::from(bytes)).unwrap();
        prop_assert_eq!((read.terms, read.addresses), (welcome.terms, welcome.addresses));
    }

    #[test]
    fn requests_for_slices_come_back(reads in proptest::collection::vec(read(), 0..12)) {
        let bytes = encode_reads(&reads);
        prop_assert!(bytes.len() <= Call::Read.request_bytes_max());
        let as_bytes = |reads: &Vec<Read>| format!("{reads:?}");
        check(&bytes, |body| parse_reads(body), as_bytes, &as_bytes(&reads));
    }

    #[test]
    fn slices_come_back_without_being_copied(reads in proptest::collection::vec(read(), 0..5), short: bool) {
        let slices: Vec<Bytes> = reads
            .iter()
            .zip(0_u8..)
            .map(|(read, number)| {
                let bytes = slice_bytes_max(core::slice::from_ref(read)) - 4;
                vec![number; usize::try_from(bytes).unwrap() - usize::from(short)].into()
            })
            .collect();
        let mut body = encode_lengths(&slices);
        for slice in &slices {
            body.extend_from_slice(slice);
        }
        let body = Bytes::from(body);
        prop_assert!(body.len() as u64 <= slice_bytes_max(&reads));
        prop_assert!(body.len() <= Call::Read.response_bytes_max());
        let found = parse_slices(&body, &reads).unwrap();
        prop_assert_eq!(&found, &slices);
        let whole = body.as_ptr_range();
        prop_assert!(found.iter().all(|slice| slice.is_empty() || whole.contains(&slice.as_ptr())));
        prop_assert!(parse_slices(&Bytes::from([&body[..], &[0]].concat()), &reads).is_err());
        if let Some(end) = body.len().checked_sub(1) {
            prop_assert!(parse_slices(&body.slice(..end), &reads).is_err());
        }
    }

    #[test]
    fn names_of_nodes_come_back(lengths in proptest::collection::vec(0..Node::BYTES_MAX as u64, 0..40)) {
        let nodes: Vec<ObjectRef> = lengths.into_iter().map(|length| pack(1, length)).collect();
        let bytes = encode_nodes(&nodes);
        prop_assert!(bytes.len() <= Call::Nodes.request_bytes_max());
        prop_assert!(nodes_bytes_max(&nodes) <= Call::Nodes.response_bytes_max() as u64);
        check(&bytes, |body| parse_nodes(body), Clone::clone, &nodes);
    }

    #[test]
    fn errors_come_back(error in error()) {
        let bytes = error.encode();
        prop_assert!(bytes.len() <= ERROR_BYTES_MAX);
        check(&bytes, |body| ServiceError::parse(body), Clone::clone, &error);
    }

    #[test]
    fn what_parses_as_an_error_encodes_to_the_same_bytes(code in 0..15_u16, rest in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [&code.to_le_bytes()[..], &rest].concat();
        if let Ok(error) = ServiceError::parse(&bytes) {
            prop_assert_eq!(error.encode(), bytes);
        }
    }

    #[test]
    fn any_text_is_carried_without_what_could_move_a_cursor(detail in ".{0,300}", control in "\\p{Cc}{0,3}") {
        let error = ServiceError::DiskFull { detail: format!("{control}{detail}{control}") };
        let Ok(ServiceError::DiskFull { detail: told }) = ServiceError::parse(&error.encode()) else {
            panic!("every text can be told");
        };
        prop_assert!(told.len() <= 512 && !told.chars().any(char::is_control));
    }
}

#[test]
fn a_range_of_a_pack_comes_back_and_is_not_copied() {
    let whole = pack(7, PACK_BYTES_MAX - 4096);
    let last = PACK_BYTES_MAX - PUT_BYTES;
    for (offset, length) in [
        (0, PUT_BYTES),
        (PUT_BYTES, 0),
        (last, PUT_BYTES - 4096),
        (last, 0),
    ] {
        let put = Put {
            pack: whole,
            class: PackClass::Vital,
            offset,
            bytes: vec![3; usize::try_from(length).unwrap()].into(),
        };
        let body = Bytes::from([&put.head().encode()[..], &put.bytes].concat());
        assert!(body.len() <= Call::Put.request_bytes_max());
        let read = Put::parse(&body).unwrap();
        assert_eq!((read.head(), &read.bytes), (put.head(), &put.bytes));
        assert!(read.bytes.is_empty() || body.as_ptr_range().contains(&read.bytes.as_ptr()));
    }
}

#[test]
fn a_range_that_no_pack_has_is_refused() {
    let body = |length: u64, class: u8, offset: u64, bytes: u64| {
        let mut body = [7; 32].to_vec();
        body.extend_from_slice(&length.to_le_bytes());
        body.push(class);
        body.extend_from_slice(&offset.to_le_bytes());
        body.resize(body.len() + usize::try_from(bytes).unwrap(), 1);
        Put::parse(&body.into())
    };
    assert!(body(2 * PUT_BYTES, 0, PUT_BYTES, PUT_BYTES).is_ok());
    assert!(body(2 * PUT_BYTES, 2, PUT_BYTES, PUT_BYTES).is_err());
    assert!(body(2 * PUT_BYTES, 0, 4096, PUT_BYTES).is_err());
    assert!(body(2 * PUT_BYTES, 0, 2 * PUT_BYTES, 0).is_err());
    assert!(body(2 * PUT_BYTES, 0, 0, PUT_BYTES - 1).is_err());
    assert!(body(2 * PUT_BYTES, 0, 0, PUT_BYTES + 1).is_err());
    assert!(body(4096, 0, 0, 4096).is_ok());
    assert!(body(4096, 0, 0, 4097).is_err());
    assert!(body(PACK_BYTES_MAX + 4096, 0, 0, 0).is_err());
    assert!(Put::parse(&Bytes::from(vec![0; 48])).is_err());
}

#[test]
fn missing_ranges_come_back_and_only_of_that_pack() {
    let all: Vec<u64> = (0..64).map(|range| range * PUT_BYTES).collect();
    for missing in [Vec::new(), all.clone(), vec![3 * PUT_BYTES]] {
        let reply = PutReply { missing };
        let bytes = reply.encode();
        assert!(bytes.len() <= Call::Put.response_bytes_max());
        assert_eq!(PutReply::parse(&bytes, PACK_BYTES_MAX), Ok(reply));
    }
    let parse = |missing: &[u64]| {
        let missing = missing.to_vec();
        PutReply::parse(&PutReply { missing }.encode(), 2 * PUT_BYTES + 4096)
    };
    assert!(parse(&[0, 2 * PUT_BYTES]).is_ok());
    assert!(parse(&[3 * PUT_BYTES]).is_err());
    assert!(parse(&[PUT_BYTES, 0]).is_err());
    assert!(parse(&[0, 0]).is_err());
    assert!(parse(&[1]).is_err());
    assert!(PutReply::parse(&[0; 7], PACK_BYTES_MAX).is_err());
    let long = PutReply {
        missing: [&all[..], &[64 * PUT_BYTES]].concat(),
    };
    assert!(PutReply::parse(&long.encode(), u64::MAX).is_err());
}

#[test]
fn heads_are_asked_for_and_shown() {
    for which in [
        WhichHead::Newest,
        WhichHead::Sequence(u64::MAX),
        WhichHead::At(Timestamp(5)),
    ] {
        let bytes = which.encode();
        assert!(bytes.len() <= Call::Head.request_bytes_max());
        check(&bytes, |body| WhichHead::parse(body), Clone::clone, &which);
    }
    assert!(WhichHead::parse(&[3; 9]).is_err());
    assert_eq!(parse_sequence(&encode_sequence(9)), Ok(9));
    assert!(parse_sequence(&[0; 9]).is_err());

    assert!(matches!(parse_shown(&encode_shown(None).into()), Ok(None)));
    let longest = ShownHead {
        head: vec![1; 4160].into(),
        ancestry: vec![2; 1546].into(),
        commit: Some(vec![3; 64 * 1024].into()),
        admitted: Timestamp(u64::MAX),
    };
    let thinned = ShownHead {
        commit: None,
        ..longest.clone()
    };
    for shown in [longest, thinned] {
        let bytes = encode_shown(Some(&shown));
        assert!(bytes.len() <= Call::Head.response_bytes_max());
        let as_bytes = |shown: &Option<ShownHead>| format!("{shown:?}");
        check(
            &bytes,
            parse_shown,
            as_bytes,
            &as_bytes(&Some(shown.clone())),
        );
        let over = ShownHead {
            head: vec![1; 4161].into(),
            ..shown
        };
        assert!(parse_shown(&encode_shown(Some(&over)).into()).is_err());
    }
}

#[test]
fn a_token_comes_back_and_nothing_else_is_one() {
    let token = InvitationToken::from_bytes(&[9; 16]);
    let bytes = encode_token(&token);
    assert_eq!(bytes.len(), Call::Redeem.request_bytes_max());
    assert_eq!(parse_token(&bytes).unwrap().as_bytes(), &[9; 16]);
    assert!(parse_token(&bytes[..15]).is_err());
    assert!(parse_token(&[9; 17]).is_err());
}

#[test]
fn what_is_known_of_tickets_comes_back_and_no_more_of_them_than_there_may_be() {
    let ticket = |id: u8| TicketUse {
        id: TicketId([id; 16]),
        expires: Timestamp(u64::MAX),
        met: Timestamp(5),
        bytes: u64::MAX,
        slices: 7,
        is_revoked: id % 2 == 1,
    };
    for count in [0, 1, 64] {
        let tickets: Vec<TicketUse> = (0..count).map(ticket).collect();
        let bytes = encode_tickets(&tickets);
        assert!(bytes.len() <= Call::Tickets.response_bytes_max());
        check(&bytes, |body| parse_tickets(body), Clone::clone, &tickets);
    }
    let many: Vec<TicketUse> = (0..65).map(ticket).collect();
    assert!(parse_tickets(&encode_tickets(&many)).is_err());
    let mut neither = encode_tickets(&[ticket(1)]);
    *neither.last_mut().unwrap() = 2;
    assert!(parse_tickets(&neither).is_err());
}

#[test]
fn a_revocation_comes_back() {
    let said = (TicketId([9; 16]), Timestamp(1 << 50));
    let bytes = encode_revocation(said.0, said.1);
    assert_eq!(bytes.len(), Call::RevokeTicket.request_bytes_max());
    check(&bytes, |body| parse_revocation(body), |said| *said, &said);
}

#[test]
fn an_answer_with_the_word_for_it_comes_back_and_is_not_copied() {
    let body = |statement: &[u8], answer: &[u8]| {
        Bytes::from([&encode_statement(statement)[..], answer].concat())
    };
    for (statement, answer) in [(4096, 0), (0, 5), (286, 9000)] {
        let (statement, answer) = (vec![1; statement], vec![2; answer]);
        let whole = body(&statement, &answer);
        let read = parse_stated(&whole).unwrap();
        assert_eq!(
            (&read.statement[..], &read.answer[..]),
            (&statement[..], &answer[..])
        );
        assert!(read.answer.is_empty() || whole.as_ptr_range().contains(&read.answer.as_ptr()));
        if let Some(end) = (statement.len() + 4).checked_sub(1) {
            assert!(parse_stated(&whole.slice(..end)).is_err());
        }
    }
    assert!(parse_stated(&body(&[1; 4097], &[])).is_err());
    assert!(stated_bytes_max(3) == audit_bytes_max(3) + 4100);
}

#[test]
fn a_list_of_addresses_is_carried_as_it_is_or_not_at_all() {
    let list = Bytes::from_static(b"signed");
    assert_eq!(
        parse_addresses(&encode_addresses(Some(&list))),
        Ok(Some(list))
    );
    assert_eq!(parse_addresses(&encode_addresses(None)), Ok(None));
    assert!(parse_addresses(&Bytes::from(vec![0; 4097])).is_err());
}

#[test]
fn more_than_one_request_may_ask_for_is_refused() {
    let node = pack(1, 100);
    assert!(parse_nodes(&encode_nodes(&vec![node; 1024])).is_ok());
    assert!(parse_nodes(&encode_nodes(&vec![node; 1025])).is_err());
    let long = pack(1, Node::BYTES_MAX as u64 + 1);
    assert!(parse_nodes(&encode_nodes(&[long])).is_err());

    let read = |length: u64, groups: LiveMap| Read {
        pack: pack(1, length),
        groups,
    };
    let all = read(PACK_BYTES_MAX, LiveMap::full(4096));
    assert!(parse_reads(&encode_reads(core::slice::from_ref(&all))).is_ok());
    let one = read(4096, LiveMap::full(1));
    assert!(parse_reads(&encode_reads(&[all, one.clone()])).is_err());
    assert!(parse_reads(&encode_reads(&vec![one.clone(); 1024])).is_ok());
    assert!(parse_reads(&encode_reads(&vec![one; 1025])).is_err());
    assert!(parse_reads(&encode_reads(&[read(4096, LiveMap::empty(1))])).is_err());
    assert!(parse_reads(&encode_reads(&[read(0, LiveMap::full(0))])).is_err());
}

/// Many far apart groups of many packs need the most hashes.
#[test]
fn no_slices_are_longer_than_the_longest_response() {
    let far_apart = |length: u64, step: usize| {
        let count = u32::try_from(groups(length)).unwrap();
        let runs = (0..count).step_by(step).map(|group| group..group + 1);
        Read {
            pack: pack(1, length),
            groups: LiveMap::from_runs(count, runs).unwrap(),
        }
    };
    let one_each = vec![far_apart(PACK_BYTES_MAX, 4096); 1024];
    let half = vec![far_apart(PACK_BYTES_MAX, 4); 4];
    let short = vec![far_apart(GROUP_BYTES + 4096, 1); 1024];
    let whole = vec![far_apart(PACK_BYTES_MAX, 4096); 1];
    for reads in [one_each, half, short, whole] {
        assert!(parse_reads(&encode_reads(&reads)).is_ok());
        assert!(slice_bytes_max(&reads) <= Call::Read.response_bytes_max() as u64);
    }
}

#[test]
fn the_longest_refusal_fits() {
    let runs = (0..16).map(|n| 2 * n..2 * n + 1).collect();
    let not_held = NotHeld {
        missing: vec![(pack(1, PACK_BYTES_MAX), runs); NotHeld::PACKS_MAX],
        more: true,
    };
    let error = ServiceError::from(Refusal::from(not_held));
    let bytes = error.encode();
    assert!(bytes.len() <= ERROR_BYTES_MAX && bytes.len() > ERROR_BYTES_MAX - 1024);
    assert_eq!(ServiceError::parse(&bytes), Ok(error));
}

#[test]
fn a_provider_cannot_say_what_only_the_client_can_find() {
    let detail = || "x".to_owned();
    for error in [
        ServiceError::OtherProvider,
        ServiceError::NotAllowed { detail: detail() },
        ServiceError::TorUnavailable {
            detail: detail(),
            hint: "",
        },
        ServiceError::Offline { detail: detail() },
    ] {
        let told = ServiceError::parse(&error.encode()).unwrap();
        assert!(matches!(told, ServiceError::Unavailable { detail } if !detail.contains('x')));
    }
    for code in [0, 14, u16::MAX] {
        assert!(ServiceError::parse(&u16::to_le_bytes(code)).is_err());
    }
}

#[test]
fn an_escape_sequence_in_a_text_is_refused() {
    let good = ServiceError::DiskFull {
        detail: "a b".to_owned(),
    };
    let mut bytes = good.encode();
    let at = bytes.len() - 2;
    bytes[at] = 0x1b;
    assert!(ServiceError::parse(&bytes).is_err());
    bytes[at] = 0xff;
    assert!(ServiceError::parse(&bytes).is_err());
}

#[test]
fn every_call_has_a_path_of_its_own() {
    for call in Call::ALL {
        assert_eq!(Call::of_path(call.path()), Some(call));
    }
    assert_eq!(Call::of_path("/v1/statu"), None);
    assert_eq!(Call::of_path("/v2/status"), None);
}

/// The audit of 460 positions in each stratum, each alone in its own branch of the deepest tree.
#[test]
fn the_maximum_of_an_audit_answer_grows_with_what_is_asked() {
    assert!(audit_bytes_max(920) < 40 * 1024 * 1024);
    assert!(audit_bytes_max(1) < 128 * 1024);
}

/// Rows of the table in `docs/protocol.md`: path, request, at most, response, at most.
#[test]
fn the_maxima_are_those_of_the_document() {
    let document = include_str!("../../../../docs/protocol.md");
    let number = |cell: &str| cell.trim().replace(',', "").parse::<usize>().unwrap();
    for call in Call::ALL {
        let start = format!("| `{}` |", call.path());
        let row = document.lines().find(|line| line.starts_with(&start));
        let cells: Vec<&str> = row.expect("every call has a row").split('|').collect();
        let maxima = (number(cells[3]), number(cells[5]));
        let ours = (call.request_bytes_max(), call.response_bytes_max());
        assert_eq!(maxima, ours, "{call:?}");
    }
    let says = |text: &str| assert!(document.contains(text), "{text}");
    let with_commas = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    says(&format!("{} bytes at most", with_commas(ERROR_BYTES_MAX)));
    let position = audit_bytes_max(1) - audit_bytes_max(0);
    let fixed = with_commas(audit_bytes_max(0));
    says(&format!(
        "{fixed} bytes and {} a position",
        with_commas(position)
    ));
}
