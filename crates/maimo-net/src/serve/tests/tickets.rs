//! Who shows a ticket: what the connection gives from then on, and how little before.

use maimo_core::{
    error::{Classify, ErrorKind},
    ticket::{Budget, Ticket, TicketId, TicketTerms},
};

use super::*;

/// A ticket of the client `client` for the provider `provider`.
fn ticket(provider: u8, client: u8, id: u8) -> Bytes {
    let terms = TicketTerms {
        id: TicketId([id; 16]),
        provider: AuthSecretKey::from_seed(&[provider; 32]).public(),
        addresses: None,
        sequence: 1,
        root: RootHash([1; 32]),
        expires: Timestamp(u64::MAX),
        budget: Budget {
            bytes: u64::MAX,
            slices: u64::MAX,
        },
    };
    let ticket = Ticket::sign(terms, &ClientSecretKey::from_seed(&[client; 32]));
    ticket.unwrap().encode().into()
}

fn challenge(positions: u64) -> Bytes {
    let positions = (0..positions).collect();
    let challenge = Challenge::new(RootHash([1; 32]), positions, Vec::new());
    challenge.unwrap().encode().into()
}

#[tokio::test]
async fn who_shows_a_ticket_may_make_the_calls_of_auditors_and_no_others() {
    let world = World::new(Limits::DEFAULT);
    let remote = world.connect(8).await;
    remote.present(ticket(9, 1, 1)).await.unwrap();
    remote.head(WhichHead::Newest).await.unwrap();
    assert_eq!(remote.prove(3).await.unwrap(), "3");
    assert_eq!(
        remote.nodes(vec![pack()]).await.unwrap_err().kind(),
        ErrorKind::Bug
    );
    let small = ObjectRef {
        length: 9,
        ..pack()
    };
    assert_eq!(remote.nodes(vec![small]).await.unwrap(), [vec![9; 9]]);
    let stated = remote.audit_stated(challenge(4)).await.unwrap();
    assert_eq!(
        (&stated.statement[..], &stated.answer[..]),
        (&b"statement"[..], &b"answer"[..])
    );
    drop(remote);

    let (client, _served) = world.plain(8).await;
    let (status, _) = client
        .begin(call("/v1/present-ticket", ticket(9, 1, 1)))
        .await
        .unwrap()
        .answer()
        .await
        .unwrap();
    assert_eq!(status, StatusCode::OK);
    for other in Call::ALL.into_iter().filter(|call| !call.is_for_auditors()) {
        let body = vec![0; usize::try_from(4 * MIB).unwrap()];
        let error = told(&client, call(other.path(), body)).await;
        assert_eq!(error, ServiceError::not_given(), "{other:?}");
    }
    // None of those bodies was read.
    assert!(client.traffic().sent() < 6 * MIB);
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 0);
    assert_eq!(world.server.counters().clients, 0);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_none_or_refused_is_the_last_that_is_heard_of_its_bearer() {
    let world = World::new(Limits::DEFAULT);
    let mut forged = ticket(9, 1, 1).to_vec();
    forged[20] ^= 1;
    let too_long = vec![0; 2501];
    for (body, is_bad) in [
        (Bytes::from(forged), false),
        (ticket(7, 1, 1), false),
        (Bytes::from(too_long), true),
        (Bytes::new(), false),
    ] {
        let (client, served) = world.plain(8).await;
        match told(&client, call("/v1/present-ticket", body)).await {
            ServiceError::BadRequest { .. } => assert!(is_bad),
            ServiceError::TicketRefused { .. } => assert!(!is_bad),
            other => panic!("{other:?}"),
        }
        served.await.unwrap();
    }
    assert_eq!(world.server.counters().sent_away, 4);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_is_shown_first_in_time_or_not_at_all() {
    let world = World::new(Limits::DEFAULT);
    let (client, served) = world.plain(8).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let late = client
        .begin(call("/v1/present-ticket", ticket(9, 1, 1)))
        .await;
    assert!(late.is_err());
    served.await.unwrap();
    // A known client has no use for one.
    let remote = world.connect(1).await;
    let shown = remote.present(ticket(9, 1, 1)).await;
    assert_eq!(shown, Err(ServiceError::not_given()));
    remote.status().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn many_tickets_of_a_client_take_no_more_than_one_and_nothing_of_its_own_share() {
    let limits = Limits {
        connections_per_client: 8,
        slices_at_once: 400,
        slices_per_minute: 4,
        ..Limits::DEFAULT
    };
    let world = World::new(limits);
    let mut remotes = Vec::new();
    for id in 0..2 {
        let remote = world.connect(20 + id).await;
        remote.present(ticket(9, 1, id)).await.unwrap();
        remotes.push(remote);
    }
    let third = world.connect(30).await.present(ticket(9, 1, 9)).await;
    assert!(matches!(third, Err(ServiceError::Busy(_))));
    // Of another client's channel there are others.
    let other = world.connect(31).await;
    other.present(ticket(9, 3, 1)).await.unwrap();

    remotes[0].audit_stated(challenge(100)).await.unwrap();
    let more = remotes[1].audit_stated(challenge(1)).await;
    assert!(matches!(more, Err(ServiceError::Busy(_))));
    other.audit_stated(challenge(1)).await.unwrap();
    let client = world.connect(1).await;
    client.audit(challenge(1)).await.unwrap();
    assert_eq!(client.tickets().await.unwrap(), []);
    let id = TicketId([1; 16]);
    client.revoke_ticket(id, Timestamp(5)).await.unwrap();
}
