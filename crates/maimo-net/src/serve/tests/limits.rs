//! Clients that take more than they may.

use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_client_with_too_many_connections_is_told_to_come_again() {
    let world = World::new(Limits {
        connections_per_client: 2,
        connections: 3,
        ..Limits::DEFAULT
    });
    let first = world.connect(1).await;
    let second = world.connect(1).await;
    first.status().await.unwrap();
    second.status().await.unwrap();
    let third = world.connect(1).await.status().await;
    assert!(matches!(third, Err(ServiceError::Busy(_))));
    let other = world.connect(3).await;
    other.status().await.unwrap();
    let overall = world.connect(3).await.status().await;
    assert!(matches!(overall, Err(ServiceError::Busy(_))));
    drop(first);
    while world.server.counters().connected > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.connect(1).await.status().await.unwrap();
}

#[tokio::test]
async fn calls_beyond_the_limit_are_busy_and_control_goes_ahead_of_bulk() {
    let world = World::new(Limits {
        calls_per_client: 4,
        threads: 4,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let remote = remote.clone();
        slow.push(tokio::spawn(async move { remote.read(reads(1)).await }));
    }
    // Two of three threads for bulk are one client's.
    world.gate.until_waiting(2).await;
    remote.status().await.unwrap();
    let another = remote.clone();
    slow.push(tokio::spawn(async move {
        loop {
            // A question asked meanwhile may have taken its place.
            match another.read(reads(1)).await {
                Err(ServiceError::Busy(_)) => tokio::task::yield_now().await,
                read => break read,
            }
        }
    }));
    let busy = loop {
        if let Err(error) = remote.status().await {
            break error;
        }
    };
    assert!(matches!(busy, ServiceError::Busy(_)));
    // Another client's bulk is served on.
    let other = world.connect(3).await;
    other.put(put(range())).await.unwrap();
    assert_eq!(world.gate.waiting.load(Ordering::SeqCst), 2);
    world.gate.open();
    for read in slow {
        read.await.unwrap().unwrap();
    }
    remote.status().await.unwrap();
}

#[tokio::test]
async fn memory_is_waited_for_and_then_refused() {
    let world = World::new(Limits {
        bytes_per_client: 3 * MIB,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    let reader = remote.clone();
    let slow = tokio::spawn(async move { reader.read(reads(1)).await });
    world.gate.until_waiting(1).await;
    // Less than what is left.
    remote.put(put(Bytes::new())).await.unwrap();
    // Time does not pass by itself while a thread is blocked.
    tokio::time::pause();
    let began = Instant::now();
    let waiting = remote.put(put(range()));
    tokio::pin!(waiting);
    let busy = loop {
        tokio::select! {
            biased;
            result = &mut waiting => break result.unwrap_err(),
            () = tokio::task::yield_now() => tokio::time::advance(Duration::from_millis(1)).await,
        }
    };
    assert!(matches!(busy, ServiceError::Busy(_)), "{busy:?}");
    assert!(began.elapsed() >= Duration::from_secs(5));
    tokio::time::resume();
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 1);
    world.connect(3).await.put(put(range())).await.unwrap();
    world.gate.open();
    slow.await.unwrap().unwrap();
    remote.put(put(range())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn audits_and_digests_beyond_the_allowance_are_busy() {
    let world = World::new(Limits {
        slices_at_once: 1000,
        slices_per_minute: 600,
        digest_bytes_at_once: 1,
        digest_bytes_per_minute: MIB,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    remote.audit(challenge(460)).await.unwrap();
    // On another connection too.
    world.connect(1).await.audit(challenge(560)).await.unwrap();
    let ServiceError::Busy(pause) = remote.audit(challenge(1)).await.unwrap_err() else {
        panic!("not busy");
    };
    world.connect(3).await.audit(challenge(1)).await.unwrap();
    tokio::time::sleep(pause).await;
    remote.audit(challenge(1)).await.unwrap();
    assert_eq!(world.log.audits.load(Ordering::SeqCst), 4);

    let request = DigestRequest::new([1; 32], vec![(pack(), LiveMap::full(128))]).unwrap();
    let request = Bytes::from(request.encode());
    remote.digest(request.clone()).await.unwrap();
    let busy = remote.digest(request.clone()).await.unwrap_err();
    assert!(matches!(busy, ServiceError::Busy(_)));
    tokio::time::sleep(Duration::from_mins(3)).await;
    remote.digest(request).await.unwrap();
}
