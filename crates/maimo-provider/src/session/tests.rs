//! A provider on a real disk, spoken with as a client does.

use std::path::Path;

use futures_executor::block_on;
use maimo_core::{
    ancestry::Ancestry,
    audit::{Challenge, check},
    codec::Reader,
    custody::PackClass,
    digest::DigestRequest,
    head::SignedHead,
    live_map::LiveMap,
    units::GROUP_BYTES,
    verify::decode_slice,
};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;
use crate::{
    provider::{FolderTerms, Provider},
    testing::{TestClient, pack},
};

const MIB: u64 = 1024 * 1024;

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

/// Checks that a root is provable and its bytes come back.
fn check_channel(client: &TestClient, provider: &Provider, bytes: &Bytes) {
    let session = &client.session;
    let status = block_on(session.status()).unwrap();
    assert_eq!(
        (status.root, status.sequence),
        (client.root, client.sequence)
    );

    let shown = block_on(session.head(WhichHead::Newest)).unwrap().unwrap();
    let signers = [client.key.public()];
    let head = SignedHead::verify(&shown.head, client.channel, &signers).unwrap();
    assert_eq!(head.root(), client.root);
    let ancestry = Ancestry::parse(&mut Reader::new(&shown.ancestry)).unwrap();
    assert_eq!(ancestry.hash(), head.head().ancestry);
    assert!(head.head().commit.names(&shown.commit.unwrap()));

    let pack = ObjectRef::of(bytes);
    let groups = u32::try_from(groups(pack.length)).unwrap();
    let live = LiveMap::from_runs(groups, [0..1, groups - 2..groups]).unwrap();
    let read = Read {
        pack,
        groups: live.clone(),
    };
    let slices = block_on(session.read(vec![read])).unwrap();
    let selection = Selection::of_map(pack.length, &live).unwrap();
    let extents = decode_slice(&slices[0], &pack, &selection).unwrap();
    for extent in &*extents {
        let start = usize::try_from(extent.offset).unwrap();
        assert_eq!(bytes[start..start + extent.bytes.len()], extent.bytes);
    }
    assert_eq!(extents.len(), 2);

    let view = head.head().into();
    let mut rng = ChaCha8Rng::seed_from_u64(client.sequence);
    let challenge = Challenge::draw(&mut rng, client.root, &view, 460);
    let answer = block_on(session.audit(challenge.encode().into())).unwrap();
    let report = check(&challenge, &answer, |_, _| Some(view)).unwrap();
    assert!(report.is_intact());
    assert!(report.data.asked > 0);

    let request = DigestRequest::new([7; 32], vec![(pack, live)]).unwrap();
    let digest = block_on(session.digest(request.encode().into())).unwrap();
    assert_eq!(digest, request.digest(|_| Ok(&bytes[..])).unwrap());
    assert_eq!(provider.auth(), provider.auth());
}

#[test]
fn what_is_stored_is_proven_read_and_still_there_when_the_folder_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    assert_eq!(block_on(client.session.status()).unwrap().sequence, 0);

    let data = pack(1, PackClass::Data, 3 * MIB + 5 * GROUP_BYTES);
    let vital = pack(2, PackClass::Vital, 40 * 1024);
    for (bytes, class) in [(&data, PackClass::Data), (&vital, PackClass::Vital)] {
        let reference = client.upload(bytes, class).unwrap();
        client.name_all(reference, class);
    }
    let receipt = client.move_head(&provider).unwrap();
    check_channel(&client, &provider, &data);
    // The reply was lost: the same bytes again.
    client.sequence -= 1;
    let first = (client.root, client.ancestry.clone());
    client.root = RootHash::NONE;
    client.roots.pop();
    assert_eq!(client.move_head(&provider).unwrap(), receipt);
    assert_eq!((client.root, client.ancestry.clone()), first);

    for _ in 0..20 {
        client.move_head(&provider).unwrap();
    }
    let totals = block_on(client.session.status()).unwrap().totals;
    let client_session = std::mem::replace(&mut client.session, session_of(&provider, 9));
    drop(client_session);
    client.reconnect(&provider);
    let auth = provider.auth();
    drop(client.session);
    drop(provider);

    let provider = open(folder.path());
    assert_eq!(provider.auth(), auth);
    client.session = session_of(&provider, 1);
    check_channel(&client, &provider, &data);
    assert_eq!(block_on(client.session.status()).unwrap().totals, totals);
    let newest = block_on(client.session.head(WhichHead::Newest)).unwrap();
    let newest = newest.unwrap();
    let head = SignedHead::verify(&newest.head, client.channel, &[client.key.public()]).unwrap();
    for sequence in 1..=20 {
        let proof = block_on(client.session.prove(sequence)).unwrap();
        let proof = AncestryProof::parse(&proof).unwrap();
        let root = client.roots[usize::try_from(sequence).unwrap() - 1];
        proof
            .check(sequence, root, 21, &head.head().ancestry)
            .unwrap();
        let shown = block_on(client.session.head(WhichHead::Sequence(sequence))).unwrap();
        let shown = shown.unwrap();
        let signers = [client.key.public()];
        let old = SignedHead::verify(&shown.head, client.channel, &signers).unwrap();
        let ancestry = Ancestry::parse(&mut Reader::new(&shown.ancestry)).unwrap();
        assert_eq!(ancestry.hash(), old.head().ancestry);
    }
}

fn session_of(provider: &Provider, seed: u8) -> Arc<dyn Session> {
    TestClient::new(provider, seed).session
}

#[test]
fn a_folder_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let again = Provider::open_folder(folder.path(), None);
    assert!(matches!(again, Err(crate::error::ProviderError::InUse)));
    drop(provider);
    assert!(Provider::open_folder(folder.path(), None).is_ok());
}

#[test]
fn a_folder_without_a_provider_is_not_made_one_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let opened = Provider::open_folder(&folder.path().join("x"), None);
    assert!(matches!(
        opened,
        Err(crate::error::ProviderError::NotThere { .. })
    ));
    assert!(!folder.path().join("x").exists());
}
