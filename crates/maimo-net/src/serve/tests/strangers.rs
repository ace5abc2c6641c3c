//! Who is not known, or no longer.

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_stranger_who_redeems_is_known_from_then_on() {
    let world = World::new(Limits::DEFAULT);
    let remote = world.connect(8).await;
    let welcome = remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    assert_eq!(welcome.addresses.unwrap(), "where");
    remote.put(put(range())).await.unwrap();
    // And once more, for a reply that was lost.
    remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    let wrong = remote.redeem(&InvitationToken::from_bytes(&[1; 16])).await;
    assert!(matches!(wrong, Err(ServiceError::InvitationRefused { .. })));
    remote.status().await.unwrap();
    assert_eq!(world.server.counters().connected, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_so_before_the_body_is_read_and_sent_away() {
    let world = World::new(Limits::DEFAULT);
    for path in ["/v1/put", "/v1/status", "/v1/move-head", "/v2/redeem", "/"] {
        let (client, served) = world.plain(8).await;
        let body = vec![1; usize::try_from(4 * MIB).unwrap()];
        assert_eq!(
            told(&client, call(path, body)).await,
            ServiceError::UnknownClient
        );
        served.await.unwrap();
        assert!(client.traffic().sent() < 256 * 1024);
    }
    let counters = world.server.counters();
    assert_eq!((counters.sent_away, counters.strangers), (5, 0));
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_whose_invitation_is_refused_is_sent_away() {
    let world = World::new(Limits::DEFAULT);
    for (body, is_bad) in [
        (vec![1; 16], false),
        (vec![7; 15], true),
        (vec![7; 17], true),
    ] {
        let (client, served) = world.plain(8).await;
        let error = told(&client, call("/v1/redeem", body)).await;
        match error {
            ServiceError::BadRequest { .. } => assert!(is_bad),
            ServiceError::InvitationRefused { .. } => assert!(!is_bad),
            other => panic!("{other:?}"),
        }
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_invitation_taken_up_too_late_or_too_slowly_is_not() {
    let world = World::new(Limits::DEFAULT);
    // Says nothing for too long.
    let (client, served) = world.plain(8).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        client
            .begin(call("/v1/redeem", TOKEN.to_vec()))
            .await
            .is_err()
    );
    served.await.unwrap();
    // Says that it will, and does not.
    let (mut raw, served) = world.stream(8);
    let began = Instant::now();
    let said = crate::http::tests::begun("/v1/redeem", b"16");
    tokio::io::AsyncWriteExt::write_all(&mut raw, &said)
        .await
        .unwrap();
    served.await.unwrap();
    assert!(began.elapsed() >= FIRST_CALL);
    assert!(began.elapsed() <= FIRST_CALL + Duration::from_secs(10));
    // As a second call.
    let remote = world.connect(8).await;
    assert_eq!(
        remote.status().await.unwrap_err(),
        ServiceError::UnknownClient
    );
    assert!(
        remote
            .redeem(&InvitationToken::from_bytes(&TOKEN))
            .await
            .is_err()
    );
    assert_eq!(world.server.counters().connected, 0);
}

#[tokio::test(start_paused = true)]
async fn whom_the_provider_revoked_is_told_so_unread() {
    let world = World::new(Limits::DEFAULT);
    let (client, served) = world.plain(2).await;
    let body = vec![1; usize::try_from(4 * MIB).unwrap()];
    assert_eq!(
        told(&client, call("/v1/put", body)).await,
        ServiceError::Revoked
    );
    served.await.unwrap();
    assert!(client.traffic().sent() < 256 * 1024);
    // Invited again, it is known again.
    let remote = world.connect(2).await;
    remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    remote.put(put(range())).await.unwrap();
}
