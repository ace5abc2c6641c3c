//! Objects of `maimo-core` that anyone may write: nothing stands between their bytes and their parser.

use core::time::Duration;

use maimo_core::{
    address::{Address, Addresses},
    ancestry::{Ancestry, AncestryLog, AncestryProof},
    audit::{Challenge, Stratum},
    clock::Timestamp,
    codec::{Extensions, ObjectType, Prelude, Put, Reader},
    custody::Grace,
    digest::DigestRequest,
    head_move::HeadMove,
    id::RootHash,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, OnionPublicKey, OnionSecretKey},
    invitation::{Invitation, InvitationToken, Offer},
    live_map::LiveMap,
    reference::ObjectRef,
    ticket::Ticket,
    units::{GROUP_BYTES, PACK_GROUPS_MAX},
    verify::{Outboard, Selection, decode_slice, encode_slice, inspect_slice},
};

use super::{assert_canonical, signed};

/// Returns the bytes that were read, given the whole and what is left.
fn read<'a>(bytes: &'a [u8], reader: &Reader<'_>) -> &'a [u8] {
    &bytes[..bytes.len() - reader.remaining()]
}

pub(super) fn prelude(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for object_type in [
        ObjectType::DataPack,
        ObjectType::Head,
        ObjectType::AncestryProof,
    ] {
        let mut reader = Reader::new(bytes);
        if let Ok(prelude) = Prelude::parse(&mut reader, object_type) {
            let mut again = Vec::new();
            prelude.encode(object_type, &mut again);
            assert_canonical(read(bytes, &reader), &again);
            let without = Prelude::parse_without_epoch(&mut Reader::new(bytes), object_type);
            assert_eq!(without.is_ok(), prelude.epoch == 0);
            accepted = true;
        }
    }
    accepted
}

pub(super) fn preludes() -> Vec<Vec<u8>> {
    let encode = |epoch, object_type| {
        let mut out = Vec::new();
        Prelude { epoch }.encode(object_type, &mut out);
        out
    };
    vec![
        encode(0, ObjectType::Head),
        encode(u32::MAX, ObjectType::DataPack),
        encode(1, ObjectType::AncestryProof),
    ]
}

pub(super) fn extensions(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(extensions) = Extensions::parse(&mut reader) else {
        return false;
    };
    let mut again = Vec::new();
    extensions.encode(&mut again);
    assert_canonical(read(bytes, &reader), &again);
    true
}

pub(super) fn some_extensions() -> Vec<Vec<u8>> {
    let encode = |fields: &[(u16, &[u8])]| {
        let mut out = Vec::new();
        out.put_varint(fields.len() as u64);
        for (tag, bytes) in fields {
            out.put_u16(*tag);
            out.put_bytes(bytes);
        }
        out
    };
    let long = [7; Extensions::LENGTH_MAX];
    let all: Vec<(u16, &[u8])> = (0..16).map(|tag| (tag, &b"x"[..])).collect();
    vec![
        encode(&[]),
        encode(&[(1, b""), (0x7fff, b"later")]),
        encode(&[(9, &long)]),
        encode(&all),
    ]
}

/// The object's groups (two bytes), then its map.
pub(super) fn live_map(bytes: &[u8]) -> bool {
    let Some((count, bytes)) = bytes.split_first_chunk::<2>() else {
        return false;
    };
    let groups = u32::from(u16::from_le_bytes(*count)) % (PACK_GROUPS_MAX + 1);
    let mut reader = Reader::new(bytes);
    let Ok(map) = LiveMap::parse(&mut reader, groups) else {
        return false;
    };
    let mut again = Vec::new();
    map.encode(&mut again);
    assert_canonical(read(bytes, &reader), &again);
    assert!(again.len() <= maimo_core::live_map::encoded_bytes_max(groups));
    assert_eq!(
        LiveMap::from_runs(groups, map.runs()).as_ref(),
        Ok(&map),
        "not what its runs make"
    );
    let length = u64::from(groups) * GROUP_BYTES;
    assert_eq!(map.live_bytes(length), u64::from(map.count()) * GROUP_BYTES);
    let blocks = map.live_blocks(length);
    assert!(blocks == 0 || map.nth_live_block(length, blocks - 1).is_some());
    assert_eq!(map.nth_live_block(length, blocks), None);
    let dead = LiveMap::full(groups).minus(&map);
    assert!(!dead.intersects(&map) && dead.union(&map).is_full());
    true
}

pub(super) fn live_maps() -> Vec<Vec<u8>> {
    let seed = |map: &LiveMap| {
        let mut out = Vec::new();
        out.put_u16(u16::try_from(map.groups()).unwrap_or(u16::MAX));
        map.encode(&mut out);
        out
    };
    maps().iter().map(seed).collect()
}

fn maps() -> Vec<LiveMap> {
    let map = |groups, runs: &[(u32, u32)]| {
        LiveMap::from_runs(groups, runs.iter().map(|(start, end)| *start..*end)).expect("runs fit")
    };
    let every_other: Vec<_> = (0..512).map(|at| (2 * at, 2 * at + 1)).collect();
    vec![
        LiveMap::full(1),
        LiveMap::full(4096),
        map(8, &[(1, 3), (5, 8)]),
        map(1024, &[(0, 700)]),
        map(1024, &every_other),
        map(4096, &[(0, 1), (200, 300), (4000, 4096)]),
    ]
}

fn roots(count: u8) -> impl Iterator<Item = RootHash> {
    (0..count).map(|n| RootHash::of(&[n]))
}

pub(super) fn ancestry(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(ancestry) = Ancestry::parse(&mut reader) else {
        return false;
    };
    let mut again = Vec::new();
    ancestry.encode(&mut again);
    assert_canonical(read(bytes, &reader), &again);
    let mut grown = ancestry.clone();
    grown.append(RootHash([1; 32]));
    assert_ne!(grown.hash(), ancestry.hash());
    true
}

pub(super) fn ancestries() -> Vec<Vec<u8>> {
    let seed = |count| {
        let mut ancestry = Ancestry::empty();
        roots(count).for_each(|root| ancestry.append(root));
        let mut out = Vec::new();
        ancestry.encode(&mut out);
        out
    };
    [0, 1, 2, 7, 100].into_iter().map(seed).collect()
}

pub(super) fn ancestry_proof(bytes: &[u8]) -> bool {
    let Ok(proof) = AncestryProof::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &proof.encode());
    // What it proves about a real channel, it proves rightly.
    let log = AncestryLog::of(roots(100));
    for (sequence, root) in (1..).zip(roots(100)) {
        for count in [sequence, 64, 100] {
            if let Some(ancestry) = log.ancestry(count) {
                let other = RootHash([9; 32]);
                assert!(
                    proof
                        .check(sequence, other, count + 1, &ancestry.hash())
                        .is_err()
                );
                let right = log.prove(sequence, count).map(|right| right.encode());
                if proof
                    .check(sequence, root, count + 1, &ancestry.hash())
                    .is_ok()
                {
                    // Only its extensions, which nothing is proven by, may be other.
                    let nodes =
                        |bytes: &[u8]| bytes[..right.as_ref().map_or(0, Vec::len) - 1].to_vec();
                    assert_eq!(right.as_deref().map(nodes), Some(nodes(bytes)));
                }
            }
        }
    }
    true
}

pub(super) fn ancestry_proofs() -> Vec<Vec<u8>> {
    let log = AncestryLog::of(roots(100));
    [(1, 1), (1, 64), (64, 100), (97, 100), (100, 100)]
        .into_iter()
        .filter_map(|(sequence, count)| Some(log.prove(sequence, count)?.encode()))
        .collect()
}

pub(super) fn head_move(bytes: &[u8]) -> bool {
    let Ok(request) = HeadMove::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &request.encode());
    true
}

pub(super) fn head_moves() -> Vec<Vec<u8>> {
    let nodes = super::forest::nodes();
    let head = signed::heads().swap_remove(0);
    let request = |head: &[u8], commit: usize, nodes: &[Vec<u8>]| HeadMove {
        head: head.to_vec(),
        commit: vec![5; commit],
        nodes: nodes.to_vec(),
        ..HeadMove::default()
    };
    vec![
        HeadMove::default().encode(),
        request(&head, 512, &nodes).encode(),
        request(&head, 3000, &[]).encode(),
        request(&[], 1, &nodes[..1]).encode(),
    ]
}

pub(super) fn challenge(bytes: &[u8]) -> bool {
    let Ok(challenge) = Challenge::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &challenge.encode());
    let positions = |stratum| challenge.positions(stratum).to_vec();
    let (data, vital) = (positions(Stratum::Data), positions(Stratum::Vital));
    assert_eq!(
        Challenge::new(*challenge.root(), data, vital),
        Ok(challenge)
    );
    true
}

pub(super) fn challenges() -> Vec<Vec<u8>> {
    let many: Vec<u64> = (0..460).map(|n| n * n * 1000).collect();
    [
        (vec![], vec![]),
        (vec![0, 1, u64::MAX], vec![7]),
        (many.clone(), many),
    ]
    .into_iter()
    .map(|(data, vital)| {
        let challenge = Challenge::new(RootHash([4; 32]), data, vital);
        challenge.expect("positions ascend").encode()
    })
    .collect()
}

pub(super) fn digest_request(bytes: &[u8]) -> bool {
    let Ok(request) = DigestRequest::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &request.encode());
    let ranges = request.byte_ranges().map(|(pack, range)| {
        assert!(range.start < range.end && range.end <= pack.length);
        range.end - range.start
    });
    assert_eq!(ranges.sum::<u64>(), request.total_bytes());
    true
}

pub(super) fn digest_requests() -> Vec<Vec<u8>> {
    let seed = |count: usize| {
        let ranges = maps()
            .into_iter()
            .cycle()
            .zip(0_u8..)
            .take(count)
            .map(|(map, n)| {
                let length = u64::from(map.groups()) * GROUP_BYTES;
                let root = RootHash::of(&[n]);
                (ObjectRef { root, length }, map)
            });
        let request = DigestRequest::new([3; 32], ranges.collect());
        request.expect("maps fit their packs").encode()
    };
    [0, 1, 6, 40].into_iter().map(seed).collect()
}

/// The objects that slices are taken of.
fn sliced(which: u8) -> (Vec<u8>, Outboard) {
    const LENGTHS: [usize; 5] = [0, 1, 16 * 1024, 100_000, 4096 * 30];
    let mut data = vec![0; LENGTHS[usize::from(which) % LENGTHS.len()]];
    blake3::Hasher::new()
        .update(&[which])
        .finalize_xof()
        .fill(&mut data);
    let outboard = Outboard::of(&data);
    (data, outboard)
}

/// Which object, whether blocks or groups, a count, so many starts and lengths, then the slice. The selection is the reader's own, but is
/// made of numbers that a peer may have sent.
pub(super) fn slice(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Some((which, selection)) = selection(&mut reader) else {
        return false;
    };
    let slice = &bytes[bytes.len() - reader.remaining()..];
    let (data, outboard) = sliced(which);
    let object = outboard.object();
    let decoded = decode_slice(slice, object, &selection);
    let inspected = inspect_slice(slice, object, &selection);
    let Ok(decoded) = decoded else {
        assert!(
            !inspected.is_ok_and(|failed| failed.is_empty()),
            "inspected as whole, not decoded"
        );
        return false;
    };
    assert_eq!(inspected, Ok(Vec::new()));
    for extent in decoded.iter() {
        let start = usize::try_from(extent.offset).expect("an offset in memory");
        assert_eq!(
            data[start..][..extent.bytes.len()],
            extent.bytes[..],
            "verified, yet not the object's"
        );
    }
    let mut again = Vec::new();
    encode_slice(
        &data,
        &outboard.as_bytes(),
        &object.root,
        &selection,
        &mut again,
    )
    .expect("what was decoded can be encoded");
    assert_canonical(slice, &again);
    assert_eq!(selection.slice_bytes(), slice.len() as u64);
    true
}

fn selection(reader: &mut Reader<'_>) -> Option<(u8, Selection)> {
    let which = reader.u8("object").ok()?;
    let of_blocks = reader.u8("unit").ok()? == 0;
    let length = sliced(which).0.len() as u64;
    let count = reader.count(64, 2, "runs").ok()?;
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push((reader.varint("start").ok()?, reader.varint("length").ok()?));
    }
    let selection = if of_blocks {
        Selection::blocks(length, runs.iter().map(|(start, _)| *start))
    } else {
        Selection::groups(
            length,
            runs.iter()
                .map(|(start, long)| *start..start.saturating_add(*long)),
        )
    };
    Some((which, selection.ok()?))
}

/// An object, blocks or groups, and their starts and lengths.
type Sliced = (u8, u8, &'static [(u64, u64)]);

pub(super) fn slices() -> Vec<Vec<u8>> {
    let seed = |(which, unit, runs): Sliced| {
        let mut out = vec![which, unit];
        out.put_varint(runs.len() as u64);
        for (start, long) in runs {
            out.put_varint(*start);
            out.put_varint(*long);
        }
        let (data, outboard) = sliced(which);
        let (_, selection) = selection(&mut Reader::new(&out)).expect("runs fit");
        let root = outboard.object().root;
        encode_slice(&data, &outboard.as_bytes(), &root, &selection, &mut out)
            .expect("it is in memory");
        out
    };
    let seeds: [Sliced; 6] = [
        (1, 0, &[(0, 1)]),
        (2, 1, &[(0, 1)]),
        (3, 1, &[(0, 2), (4, 1)]),
        (3, 0, &[(0, 1), (9, 1), (24, 1)]),
        (4, 1, &[(0, 8)]),
        (4, 0, &[(29, 1)]),
    ];
    seeds.into_iter().map(seed).collect()
}

fn auth() -> AuthPublicKey {
    AuthSecretKey::from_seed(&[2; 32]).public()
}

/// Lists of addresses, of either network.
pub(super) fn lists() -> Vec<Addresses> {
    let onion = |seed| {
        let service = OnionSecretKey::from_seed(&[seed; 32]).public();
        Address::onion(service, 80).expect("a port")
    };
    let tcp = |text: &str| -> Address { text.parse().expect("an address") };
    [
        vec![onion(1)],
        (1..=8).map(onion).collect(),
        vec![
            tcp("192.0.2.1:7000"),
            tcp("[2001:db8::1]:1"),
            tcp("store.example.org:65535"),
        ],
    ]
    .into_iter()
    .map(|list| Addresses::new(list).expect("alike and few"))
    .collect()
}

fn all_invitations() -> Vec<Invitation> {
    let graces = [Grace::DEFAULT, Grace::Endless, Grace::For(Duration::ZERO)];
    let offers = lists()
        .into_iter()
        .zip(graces)
        .map(|(addresses, grace)| Offer {
            provider: auth(),
            addresses,
            expires: Timestamp(77),
            cap: 1 << 40,
            reserve: 1 << 33,
            grace,
        });
    offers
        .map(|offer| Invitation::new(offer, InvitationToken::from_bytes(&[6; 16])).expect("short"))
        .collect()
}

pub(super) fn invitation(bytes: &[u8]) -> bool {
    let Ok(invitation) = Invitation::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &invitation.encode());
    let line = invitation.to_line();
    let again = Invitation::from_line(&line).expect("its own line");
    assert_canonical(bytes, &again.encode());
    true
}

pub(super) fn invitations() -> Vec<Vec<u8>> {
    all_invitations()
        .iter()
        .map(|invitation| invitation.encode().to_vec())
        .collect()
}

pub(super) fn address(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Ok(list) = Addresses::parse(&mut reader) else {
        return false;
    };
    let mut again = Vec::new();
    list.encode(&mut again);
    assert_canonical(read(bytes, &reader), &again);
    for address in list.as_slice() {
        // What can be sent can be shown and typed in again.
        assert_eq!(address.to_string().parse().as_ref(), Ok(address));
    }
    true
}

pub(super) fn addresses() -> Vec<Vec<u8>> {
    let encode = |list: &Addresses| {
        let mut out = Vec::new();
        list.encode(&mut out);
        out
    };
    lists().iter().map(encode).collect()
}

/// Whatever a person may type or paste.
pub(super) fn text(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    let mut accepted = false;
    if let Ok(invitation) = Invitation::from_line(text) {
        assert_eq!(*invitation.to_line(), text.to_ascii_lowercase());
        accepted = true;
    }
    if let Ok(ticket) = Ticket::from_line(text) {
        assert_eq!(ticket.to_line(), text.to_ascii_lowercase());
        accepted = true;
    }
    if let Ok(address) = text.parse::<Address>() {
        let mut bytes = Vec::new();
        address.encode(&mut bytes);
        assert_eq!(
            Address::parse(&mut Reader::new(&bytes)).as_ref(),
            Ok(&address)
        );
        assert_eq!(address.to_string().parse(), Ok(address));
        accepted = true;
    }
    if let Ok(key) = text.parse::<ClientPublicKey>() {
        assert_eq!(key.to_string(), text.to_ascii_lowercase());
        accepted = true;
    }
    if let Ok(key) = text.parse::<OnionPublicKey>() {
        assert_eq!(key.to_string(), text.to_ascii_lowercase());
        accepted = true;
    }
    if let Ok(root) = text.parse::<RootHash>() {
        assert_eq!(root.to_string(), text.to_ascii_lowercase());
        accepted = true;
    }
    accepted
}

pub(super) fn texts() -> Vec<Vec<u8>> {
    let invitations = all_invitations();
    let mut texts: Vec<String> = invitations
        .iter()
        .map(|invitation| invitation.to_line().to_string())
        .collect();
    texts.extend(signed::all_tickets().iter().map(Ticket::to_line));
    for list in lists() {
        texts.extend(list.as_slice().iter().map(ToString::to_string));
    }
    texts.push(auth().to_string());
    texts.push(OnionSecretKey::from_seed(&[1; 32]).public().to_string());
    texts.push(RootHash::of(b"root").to_string());
    texts.into_iter().map(String::into_bytes).collect()
}
