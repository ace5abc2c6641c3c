use core::time::Duration;
use std::{fs, path::Path};

use futures_executor::block_on;
use maimo_core::{
    ancestry::AncestryProof,
    audit::{AuditStatement, AuditedHead, check},
    custody::PackClass,
    head::SignedHead,
    identity::ClientSecretKey,
    ticket::{Budget, TicketTerms},
};
use maimo_net::connect::Provider as _;
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

/// A provider with a store of three heads.
fn stored(folder: &Path, seed: u8) -> (Provider, TestClient) {
    let provider = open(folder);
    let mut client = TestClient::new(&provider, seed);
    let bytes = pack(seed.into(), PackClass::Data, 2 * MIB);
    let reference = client.upload(&bytes, PackClass::Data).unwrap();
    client.name_all(reference, PackClass::Data);
    for _ in 0..3 {
        client.move_head(&provider).unwrap();
    }
    (provider, client)
}

fn terms(provider: &Provider, client: &TestClient, id: u8) -> TicketTerms {
    TicketTerms {
        id: TicketId([id; 16]),
        provider: provider.auth(),
        addresses: None,
        sequence: 2,
        root: client.roots[1],
        expires: now().after(Duration::from_hours(1)),
        budget: Budget {
            bytes: 10 * MIB,
            slices: 100,
        },
    }
}

fn sign(terms: TicketTerms, client: &TestClient) -> Ticket {
    Ticket::sign(terms, &client.key).unwrap()
}

fn is_refused<T>(result: &Result<T>) -> bool {
    matches!(result, Err(ServiceError::TicketRefused { .. }))
}

/// Asks for so many slices of the newest head.
fn ask(session: &dyn Session, client: &TestClient, slices: usize) -> Result<StatedAnswer> {
    block_on(session.audit_stated(challenge(client, slices).encode().into()))
}

fn challenge(client: &TestClient, slices: usize) -> Challenge {
    let head = AuditedHead {
        data: client.data.reference(),
        vital: client.vital.reference(),
        commit: ObjectRef::of(b""),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(slices as u64);
    Challenge::draw(&mut rng, client.root, &head, slices)
}

#[test]
fn a_ticket_gives_the_newest_head_its_descent_and_answers_that_the_provider_stands_by() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, client) = stored(folder.path(), 1);
    let ticket = sign(terms(&provider, &client, 1), &client);
    let session = provider.audit_session(ticket.clone()).unwrap();

    let shown = block_on(session.head(WhichHead::Newest)).unwrap().unwrap();
    let head = SignedHead::verify(&shown.head, ticket.channel(), &[*ticket.client()]).unwrap();
    assert_eq!(head.root(), client.root);
    let proof = AncestryProof::parse(&block_on(session.prove(2)).unwrap()).unwrap();
    proof
        .check(2, ticket.terms().root, 3, &head.head().ancestry)
        .unwrap();

    let challenge = challenge(&client, 20);
    let stated = block_on(session.audit_stated(challenge.encode().into())).unwrap();
    let statement = AuditStatement::verify(&stated.statement, &provider.auth()).unwrap();
    statement
        .check(
            &ticket.terms().id,
            ticket.channel(),
            &challenge,
            &stated.answer,
        )
        .unwrap();
    let view = head.head().into();
    let report = check(&challenge, &stated.answer, |_, _| Some(view)).unwrap();
    assert!(report.is_intact());

    let nodes = block_on(session.nodes(vec![client.data.reference().top().unwrap()])).unwrap();
    assert!(client.data.reference().top().unwrap().names(&nodes[0]));
    // What all of that took is known, to the byte.
    let known = block_on(client.session.tickets()).unwrap();
    let commit = shown.commit.unwrap().len();
    let head = (shown.head.len() + shown.ancestry.len() + commit) as u64;
    let least = 1024;
    let answer = (stated.statement.len() + stated.answer.len()) as u64;
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].slices, 20);
    let node = (nodes[0].len() as u64).max(least);
    assert_eq!(known[0].bytes, head.max(least) + least + answer + node);
}

#[test]
fn what_a_ticket_does_not_give_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, client) = stored(folder.path(), 1);
    let session = provider
        .audit_session(sign(terms(&provider, &client, 1), &client))
        .unwrap();
    let not_given = ServiceError::not_given();
    let pack = ObjectRef::of(b"x");
    assert_eq!(block_on(session.status()).unwrap_err(), not_given);
    assert_eq!(block_on(session.read(Vec::new())).unwrap_err(), not_given);
    let put = Put {
        pack,
        class: PackClass::Data,
        offset: 0,
        bytes: Bytes::new(),
    };
    assert_eq!(block_on(session.put(put)).unwrap_err(), not_given);
    let (request, ..) = client.request();
    let moved = block_on(session.move_head(request.encode().into()));
    assert_eq!(moved.unwrap_err(), not_given);
    assert_eq!(block_on(session.tickets()).unwrap_err(), not_given);
    let revoked = block_on(session.revoke_ticket(TicketId([1; 16]), now()));
    assert_eq!(revoked.unwrap_err(), not_given);
    let old = block_on(session.head(WhichHead::Sequence(1)));
    assert_eq!(old.unwrap_err(), not_given);
    assert_eq!(block_on(session.prove(1)).unwrap_err(), not_given);
    // The head before the ticket's is held, and none of its bearer's affair.
    let before = Challenge::new(client.roots[0], vec![0], Vec::new()).unwrap();
    let asked = block_on(session.audit_stated(before.encode().into()));
    assert!(matches!(asked, Err(ServiceError::NotHeld { .. })));
    assert_eq!(block_on(client.session.status()).unwrap().sequence, 3);
}

#[test]
fn a_budget_survives_a_restart_and_a_ledger_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, mut client) = stored(folder.path(), 1);
    let ticket = sign(terms(&provider, &client, 1), &client);
    let session = provider.audit_session(ticket.clone()).unwrap();
    ask(&*session, &client, 60).unwrap();
    // A second one of the same ticket has what the first has left.
    let second = provider.audit_session(ticket.clone()).unwrap();
    assert!(is_refused(&ask(&*second, &client, 41)));
    let used = block_on(client.session.tickets()).unwrap();
    drop((session, second));
    client.session = TestClient::new(&provider, 1).session;
    drop(provider);

    for is_rebuilt in [false, true] {
        // All that holds the provider open.
        client.session = {
            let elsewhere = tempfile::tempdir().unwrap();
            TestClient::new(&open(elsewhere.path()), 9).session
        };
        if is_rebuilt {
            fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
        }
        let provider = open(folder.path());
        client.reconnect(&provider);
        assert_eq!(block_on(client.session.tickets()).unwrap(), used);
        let session = provider.audit_session(ticket.clone()).unwrap();
        assert!(is_refused(&ask(&*session, &client, 41)));
    }
}

#[test]
fn a_budget_of_bytes_ends_what_may_be_asked_and_is_not_exceeded() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, client) = stored(folder.path(), 1);
    let small = TicketTerms {
        budget: Budget {
            bytes: 100 * 1024,
            slices: u64::MAX,
        },
        ..terms(&provider, &client, 1)
    };
    let session = provider.audit_session(sign(small, &client)).unwrap();
    let mut received = 0;
    let refused = loop {
        match ask(&*session, &client, 8) {
            Ok(stated) => received += stated.statement.len() + stated.answer.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ServiceError::TicketRefused { .. }));
    assert!(received > 0 && received <= 100 * 1024);
    // The slices that were read for nothing count.
    let used = block_on(client.session.tickets()).unwrap()[0];
    assert_eq!(used.bytes, received as u64);
    assert_eq!(used.slices % 8, 0);
    assert!(used.slices > 0);
}

#[test]
fn a_ticket_that_is_expired_foreign_or_of_a_stranger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, client) = stored(folder.path(), 1);
    let refused = |ticket| is_refused(&provider.audit_session(ticket).map(|_| ()));
    let expired = TicketTerms {
        expires: now(),
        ..terms(&provider, &client, 1)
    };
    assert!(refused(sign(expired, &client)));
    let elsewhere = TicketTerms {
        provider: maimo_core::identity::AuthSecretKey::from_seed(&[5; 32]).public(),
        ..terms(&provider, &client, 1)
    };
    assert!(refused(sign(elsewhere, &client)));
    // Signed by somebody who stores nothing here: another channel.
    let stranger = ClientSecretKey::from_seed(&[77; 32]);
    let ticket = Ticket::sign(terms(&provider, &client, 1), &stranger).unwrap();
    assert!(refused(ticket));
    let nothing = TicketTerms {
        budget: Budget {
            bytes: 0,
            slices: 0,
        },
        ..terms(&provider, &client, 1)
    };
    assert!(refused(sign(nothing, &client)));
    assert!(block_on(client.session.tickets()).unwrap().is_empty());
}

#[test]
fn a_ticket_of_one_channel_shows_nothing_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, mine) = stored(folder.path(), 1);
    let mut theirs = TestClient::new(&provider, 2);
    theirs.move_head(&provider).unwrap();
    theirs.move_head(&provider).unwrap();
    // Signed by one client, naming the other's head.
    let ticket = sign(terms(&provider, &mine, 1), &theirs);
    let session = provider.audit_session(ticket).unwrap();
    let asked = ask(&*session, &mine, 5);
    assert!(matches!(asked, Err(ServiceError::NotHeld { .. })));
    let nodes = block_on(session.nodes(vec![mine.data.reference().top().unwrap()])).unwrap();
    assert!(nodes[0].is_empty());
}

#[test]
fn a_revoked_ticket_gives_nothing_to_who_is_connected_nor_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, mut client) = stored(folder.path(), 1);
    let met = sign(terms(&provider, &client, 1), &client);
    let unmet = sign(terms(&provider, &client, 2), &client);
    let session = provider.audit_session(met.clone()).unwrap();
    ask(&*session, &client, 5).unwrap();
    for ticket in [&met, &unmet, &met] {
        let TicketTerms { id, expires, .. } = *ticket.terms();
        block_on(client.session.revoke_ticket(id, expires)).unwrap();
    }
    assert!(is_refused(&ask(&*session, &client, 5)));
    assert!(is_refused(
        &block_on(session.head(WhichHead::Newest)).map(|_| ())
    ));
    drop(session);
    let known = block_on(client.session.tickets()).unwrap();
    assert!(known.iter().all(|ticket| ticket.is_revoked));
    assert_eq!(known.len(), 2);
    client.session = {
        let elsewhere = tempfile::tempdir().unwrap();
        TestClient::new(&open(elsewhere.path()), 9).session
    };
    drop(provider);

    let provider = open(folder.path());
    client.reconnect(&provider);
    for ticket in [met, unmet] {
        assert!(is_refused(&provider.audit_session(ticket).map(|_| ())));
    }
}

#[test]
fn a_book_outlives_a_sweep_until_its_tickets_have_long_expired() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, client) = stored(folder.path(), 1);
    let ticket = sign(terms(&provider, &client, 1), &client);
    let session = provider.audit_session(ticket.clone()).unwrap();
    ask(&*session, &client, 5).unwrap();
    provider.sweep(now()).unwrap();
    assert_eq!(block_on(client.session.tickets()).unwrap().len(), 1);
    provider
        .sweep(now().after(Duration::from_hours(72)))
        .unwrap();
    assert!(block_on(client.session.tickets()).unwrap().is_empty());
    // By this clock it is good still: what is counted anew outdoes what is in the log.
    ask(&*session, &client, 7).unwrap();
    drop(session);
    drop((provider, client.session));
    fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
    let provider = open(folder.path());
    let again = TestClient::new(&provider, 1);
    assert_eq!(block_on(again.session.tickets()).unwrap()[0].slices, 7);
}
