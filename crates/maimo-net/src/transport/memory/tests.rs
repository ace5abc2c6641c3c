use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::*;

fn address(port: u16) -> Address {
    Address::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap()
}

async fn read_all(stream: &mut MemoryStream) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).await.err();
    (bytes, error.map(|error| error.kind()))
}

const RESET: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::ConnectionReset);

#[tokio::test]
async fn what_is_written_arrives_and_then_the_end() {
    let (mut near, mut far) = pair(Faults {
        buffer_bytes: 7,
        ..Faults::default()
    });
    let sends = async {
        near.write_all(&[5; 1000]).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(read_all(&mut near).await, (b"answer".to_vec(), None));
    };
    let answers = async {
        assert_eq!(read_all(&mut far).await, (vec![5; 1000], None));
        far.write_all(b"answer").await.unwrap();
        drop(far);
    };
    tokio::join!(sends, answers);
    assert_eq!(near.written(), (1000, 6));
}

#[tokio::test]
async fn a_cut_stream_delivers_exactly_what_was_before_the_cut() {
    let (mut near, mut far) = pair(Faults {
        cut_up: Some(10),
        ..Faults::default()
    });
    assert!(near.write_all(&[1; 11]).await.is_err());
    assert_eq!(read_all(&mut far).await, (vec![1; 10], RESET));
    assert!(far.write_all(b"x").await.is_err());
    assert_eq!(read_all(&mut near).await, (vec![], RESET));

    let (mut near, mut far) = pair(Faults {
        cut_down: Some(3),
        ..Faults::default()
    });
    far.write_all(b"abc").await.unwrap();
    assert_eq!(read_all(&mut near).await, (b"abc".to_vec(), RESET));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_stream_is_silent_for_ever_but_can_be_cut() {
    let (mut near, mut far) = pair(Faults {
        stall_up: Some(4),
        ..Faults::default()
    });
    let day = Duration::from_hours(24);
    let write = tokio::time::timeout(day, near.write_all(b"12345"));
    assert!(write.await.is_err());
    let mut found = [0; 5];
    assert_eq!(far.read(&mut found).await.unwrap(), 4);
    let waits = tokio::spawn(async move { read_all(&mut far).await });
    tokio::task::yield_now().await;
    assert!(near.kill() && !near.kill());
    assert_eq!(waits.await.unwrap(), (vec![], RESET));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_under_way_as_long_as_delay_and_rate_say() {
    let (mut near, mut far) = pair(Faults {
        delay: Duration::from_secs(2),
        bytes_per_second: Some(100),
        ..Faults::default()
    });
    let begun = Instant::now();
    near.write_all(&[0; 100]).await.unwrap();
    near.write_all(&[0; 200]).await.unwrap();
    far.read_exact(&mut [0; 100]).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    far.read_exact(&mut [0; 200]).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn a_network_connects_by_address_and_counts() {
    let network = MemoryNetwork::new();
    let transport = network.transport(Network::Tcp);
    let dial = |port| {
        let address = address(port);
        let transport = &transport;
        async move { transport.dial(&address, Isolation([1; 16])).await }
    };
    assert!(dial(1).await.is_err());
    let mut listener = network.listen(address(1));
    assert_eq!(listener.address(), address(1));
    let (near, far) = tokio::join!(dial(1), listener.accept());
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    near.write_all(b"four").await.unwrap();
    far.write_all(b"six666").await.unwrap();
    let counts = Counts {
        dialled: 1,
        live: 1,
        up: 4,
        down: 6,
    };
    assert_eq!(network.counts(), counts);
    assert_eq!(network.isolations(), [Isolation([1; 16])]);
    network.kill_all();
    assert!(near.read_u8().await.is_err() && far.read_u8().await.is_err());
    drop((near, far));
    assert_eq!(network.counts(), Counts { live: 0, ..counts });

    network.set_next_faults(Faults {
        refused: true,
        ..Faults::default()
    });
    assert!(dial(1).await.is_err());
    assert!(dial(1).await.is_ok());
    drop(listener);
    assert!(dial(1).await.is_err());
}

#[tokio::test]
async fn an_address_of_another_kind_is_refused() {
    let network = MemoryNetwork::new();
    let _listener = network.listen(address(1));
    let onion = network.transport(Network::Onion);
    let dialled = onion.dial(&address(1), Isolation([0; 16])).await;
    assert!(matches!(
        dialled.map(drop),
        Err(TransportError::OtherNetwork { .. })
    ));
}
