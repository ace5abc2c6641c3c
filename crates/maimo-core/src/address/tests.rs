use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> AuthSecretKey {
    AuthSecretKey::from_seed(&[seed; 32])
}

/// The Tor Project's own onion service.
const TOR: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

fn parse(bytes: &[u8]) -> Result<Address, ParseError> {
    let mut reader = Reader::new(bytes);
    let address = Address::parse(&mut reader)?;
    reader.finish()?;
    Ok(address)
}

fn encode(address: &Address) -> Vec<u8> {
    let mut bytes = Vec::new();
    address.encode(&mut bytes);
    bytes
}

#[test]
fn addresses_of_every_kind_come_back_from_text_and_bytes() {
    for (text, network) in [
        (&*format!("{TOR}:443"), Network::Onion),
        ("192.0.2.1:1", Network::Tcp),
        ("[2001:db8::1]:65535", Network::Tcp),
        ("store.example:7000", Network::Tcp),
        ("x:7000", Network::Tcp),
        ("1.2.3.com:7000", Network::Tcp),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        assert_eq!(address.network(), network);
        assert_eq!(parse(&encode(&address)), Ok(address));
    }
}

#[test]
fn capitals_are_small_letters_in_text_and_refused_in_bytes() {
    let address: Address = "Store.EXAMPLE:7000".parse().unwrap();
    assert_eq!(address.to_string(), "store.example:7000");
    assert_eq!(
        TOR.to_ascii_uppercase()
            .replace("ONION", "Onion:80")
            .parse::<Address>()
            .unwrap()
            .host(),
        TOR
    );
    let mut bytes = encode(&address);
    bytes[2] = b'S';
    assert!(parse(&bytes).is_err());
}

#[test]
fn texts_that_are_no_address_are_refused() {
    for text in [
        "",
        ":",
        ":80",
        "host",
        "host:",
        "host:0",
        "host:080",
        "host:+80",
        "host:65536",
        "host: 80",
        "192.0.2.1",
        "192.0.2.1:0",
        "192.0.2.256:80",
        "1.2.3:80",
        "host.7:80",
        "2001:db8::1:80",
        "[::1%1]:80",
        "[::ffff:192.0.2.1]:80",
        "-a.example:80",
        "a-.example:80",
        "a..example:80",
        "a.example.:80",
        "ä.example:80",
        "a_b.example:80",
        "onion:80",
        "abc.onion:80",
        "abc.onion.:80",
        "user@host:80",
        "host/path:80",
    ] {
        assert!(text.parse::<Address>().is_err(), "{text:?}");
    }
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
    assert!(Address::name(&longest, 80).is_some());
    assert!(Address::name(&format!("{longest}a"), 80).is_none());
    assert!(Address::name(&"a".repeat(64), 80).is_none());
}

/// A resolver asked for a name under .onion would tell the network whom a client wants to reach.
#[test]
fn no_onion_name_becomes_a_host_name() {
    assert_eq!(Address::name(TOR, 80), None);
    assert_eq!(Address::name("a.ONION", 80), None);
    let mut bytes = vec![KIND_NAME];
    bytes.put_bytes(b"a.onion");
    bytes.put_u16(80);
    assert!(parse(&bytes).is_err());
    assert!(matches!(
        "abc.onion:80".parse::<Address>(),
        Err(ParseAddressError::Onion(_))
    ));
}

#[test]
fn a_list_has_one_network_no_address_twice_and_at_least_one() {
    let address = |text: &str| text.parse::<Address>().unwrap();
    let tcp = address("192.0.2.1:80");
    let onion = address(&format!("{TOR}:80"));
    assert!(Addresses::new(vec![tcp.clone(), address("a.example:80")]).is_ok());
    assert!(Addresses::new(vec![]).is_err());
    assert!(Addresses::new(vec![tcp.clone(), onion.clone()]).is_err());
    assert!(Addresses::new(vec![onion.clone(), onion]).is_err());
    let many = |count| {
        Addresses::new(
            (1..=count)
                .map(|port| address(&format!("a:{port}")))
                .collect(),
        )
    };
    assert!(many(8).is_ok());
    assert!(many(9).is_err());
}

fn list(sequence: u64) -> AddressList {
    let addresses = ["192.0.2.1:80", "a.example:80"].map(|text| text.parse().unwrap());
    AddressList::sign(
        Addresses::new(addresses.to_vec()).unwrap(),
        sequence,
        &key(1),
    )
}

#[test]
fn a_signed_list_comes_back_and_a_newer_one_replaces_it() {
    let bytes = list(3).encode();
    assert_eq!(AddressList::verify(&bytes, &key(1).public()), Ok(list(3)));
    assert_eq!(
        AddressList::verify(&bytes, &key(2).public()),
        Err(AddressListError::Signer)
    );
    assert!(list(4).supersedes(&list(3)));
    assert!(!list(3).supersedes(&list(3)));
    let other = AddressList::sign(list(9).addresses().clone(), 9, &key(2));
    assert!(!other.supersedes(&list(3)));
}

proptest! {
    #[test]
    fn no_bit_of_a_list_may_change(at: prop::sample::Index, bit in 0_u32..8) {
        let mut bytes = list(3).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(AddressList::verify(&bytes, &key(1).public()).is_err());
    }

    #[test]
    fn what_parses_as_an_address_encodes_to_the_same_bytes_and_comes_back_from_text(
        kind in 0_u8..6, bytes in prop::collection::vec(prop_oneof![Just(b'a'), Just(b'.'), Just(b'-'), Just(4), any::<u8>()], 0..24),
    ) {
        let bytes = [&[kind][..], &bytes].concat();
        if let Ok(address) = parse(&bytes) {
            prop_assert_eq!(encode(&address), bytes);
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }

    #[test]
    fn what_parses_as_text_comes_back_from_bytes(text in "[a-z0-9.:\\[\\]-]{1,20}:[0-9]{1,5}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(parse(&encode(&address)), Ok(address));
        }
    }
}
