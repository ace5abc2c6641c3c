use super::*;

fn object_of(number: u8) -> ObjectRef {
    ObjectRef {
        root: RootHash([number; 32]),
        length: 40_960,
    }
}

fn inventory_errors() -> Vec<InventoryError> {
    let node = object_of(1);
    vec![
        InventoryError::Parse(ParseError::Version { found: 2 }),
        InventoryError::LiveMap(LiveMapError::TooManyRuns { found: 1025 }),
        InventoryError::LiveMap(LiveMapError::OutOfRange {
            start: 1,
            end: 9,
            groups: 3,
        }),
        InventoryError::PackLength { length: u64::MAX },
        InventoryError::Groups {
            expected: 1,
            found: 2,
        },
        InventoryError::NothingLives,
        InventoryError::MissingNode { node },
        InventoryError::WrongNode { node },
        InventoryError::Level {
            expected: 1,
            found: 7,
        },
        InventoryError::TooDeep,
        InventoryError::Sums { node },
        InventoryError::Overflow,
        InventoryError::PackTwice { pack: node },
        InventoryError::UnknownPack { root: node.root },
        InventoryError::OtherLength { pack: node },
        InventoryError::TooManyPacks { max: 4 },
        InventoryError::TooMuchWork { max: 65_536 },
    ]
}

fn cap() -> CapExceeded {
    let free = |date| Freeing {
        date: Timestamp(date),
        bytes: 9,
    };
    CapExceeded {
        over_by: 77,
        frees: (0..FREES_MAX as u64).map(free).collect(),
    }
}

fn longest_list() -> NotHeld {
    let runs: Vec<_> = (0..16).map(|n| 2 * n..2 * n + 1).collect();
    let pack = ObjectRef {
        length: PACK_BYTES_MAX,
        ..object_of(5)
    };
    NotHeld {
        missing: vec![(pack, runs); NotHeld::PACKS_MAX],
        more: true,
    }
}

fn refusals() -> Vec<Refusal> {
    let pack = object_of(3);
    let mut all = vec![
        Refusal::Head(HeadError::Parse(ParseError::Magic)),
        Refusal::Head(HeadError::Channel),
        Refusal::Head(HeadError::Signer),
        Refusal::Head(HeadError::Signature),
        Refusal::Conflict {
            current: RootHash::NONE,
            sequence: 3,
        },
        Refusal::Sequence { expected: 4 },
        Refusal::Ancestry,
        Refusal::Commit,
        Refusal::PackTwice { pack },
        Refusal::WrongClass { pack },
        Refusal::NotHeld(longest_list()),
        Refusal::NotHeld(NotHeld {
            missing: vec![(pack, vec![0..1, 2..3])],
            more: false,
        }),
        Refusal::CapExceeded(cap()),
        Refusal::Unavailable(Unavailable),
    ];
    for class in [PackClass::Data, PackClass::Vital] {
        let of = |source| Refusal::Inventory { class, source };
        all.extend(inventory_errors().into_iter().map(of));
    }
    all
}

fn upload_refusals() -> Vec<UploadRefusal> {
    let mut all = vec![
        UploadRefusal::Length { length: 3 },
        UploadRefusal::WrongClass,
        UploadRefusal::CapExceeded(cap()),
        UploadRefusal::Unavailable(Unavailable),
    ];
    all.extend(inventory_errors().into_iter().map(UploadRefusal::Node));
    all
}

/// Checks that a report is read to its last byte, and that no shorter one and none with another number is taken for it.
fn check<T: PartialEq + core::fmt::Debug>(
    value: &T,
    bytes: &[u8],
    parse: fn(&mut Reader<'_>) -> Result<T>,
) {
    assert!(bytes.len() <= Refusal::REPORT_BYTES_MAX);
    let mut reader = Reader::new(bytes);
    assert_eq!(parse(&mut reader).as_ref(), Ok(value));
    assert_eq!(reader.finish(), Ok(()));
    for end in 0..bytes.len().min(300) {
        assert!(parse(&mut Reader::new(&bytes[..end])).is_err());
    }
    for first in (0..=255).filter(|first| *first != bytes[0]) {
        let other = [&[first], &bytes[1..]].concat();
        assert_ne!(parse(&mut Reader::new(&other)).as_ref(), Ok(value));
    }
}

#[test]
fn every_refusal_comes_back_with_all_it_says() {
    for refusal in refusals() {
        let mut bytes = Vec::new();
        refusal.encode(&mut bytes);
        check(&refusal, &bytes, Refusal::parse);
    }
    for refusal in upload_refusals() {
        let mut bytes = Vec::new();
        refusal.encode(&mut bytes);
        check(&refusal, &bytes, UploadRefusal::parse);
    }
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    for code in [0, 12, 255] {
        let bytes = [&[code][..], &[1; 200]].concat();
        assert_eq!(Refusal::parse(&mut Reader::new(&bytes)), Err(INVALID));
    }
    for code in [0, 6] {
        let bytes = [&[code][..], &[1; 200]].concat();
        assert_eq!(UploadRefusal::parse(&mut Reader::new(&bytes)), Err(INVALID));
    }
}

/// A list of one pack and the runs given.
fn list(length: u64, runs: &[(u32, u32)]) -> Result<Refusal> {
    let not_held = NotHeld {
        missing: vec![(
            ObjectRef {
                length,
                ..object_of(1)
            },
            runs.iter().map(|(start, end)| *start..*end).collect(),
        )],
        more: false,
    };
    let mut bytes = Vec::new();
    Refusal::NotHeld(not_held).encode(&mut bytes);
    Refusal::parse(&mut Reader::new(&bytes))
}

#[test]
fn a_list_whose_runs_no_pack_has_is_refused() {
    // 40,960 bytes are three groups.
    assert!(list(40_960, &[(0, 1), (2, 3)]).is_ok());
    assert!(list(40_960, &[(0, 1), (1, 3)]).is_err());
    assert!(list(40_960, &[(2, 3), (0, 1)]).is_err());
    assert!(list(40_960, &[(1, 1)]).is_err());
    assert!(list(40_960, &[(2, 4)]).is_err());
    assert!(list(PACK_BYTES_MAX, &[(4095, 4096)]).is_ok());
    assert!(list(PACK_BYTES_MAX + 1, &[(0, 1)]).is_err());
}

#[test]
fn a_list_longer_than_any_provider_may_send_is_refused() {
    let mut long = longest_list();
    long.missing.push(long.missing[0].clone());
    let mut bytes = Vec::new();
    Refusal::NotHeld(long.clone()).encode(&mut bytes);
    assert!(Refusal::parse(&mut Reader::new(&bytes)).is_err());
    long.missing.truncate(NotHeld::PACKS_MAX);
    long.missing[0].1.push(100..101);
    bytes.clear();
    Refusal::NotHeld(long).encode(&mut bytes);
    assert!(Refusal::parse(&mut Reader::new(&bytes)).is_err());
}
