use super::*;

const AUTHORITY: &str = "0123456789ABCDEF0123456789ABCDEF01234567 \
    qpL/LxLYVEXghU76iG3LsSI/UW7MBpIROZK0AB18560 127.0.0.1:5001 89ABCDEF0123456789ABCDEF0123456789ABCDEF";
const FINGERPRINT: &str = "316E643333645F6D79216558614D3931657A5F5F";

fn with_bridge(line: String) -> ArtiSettings {
    ArtiSettings {
        bridges: vec![format!("192.0.2.1:443 {FINGERPRINT}"), line],
        ..ArtiSettings::new("state", "cache")
    }
}

#[test]
fn plain_bridges_are_taken() {
    for word in ["", "Bridge "] {
        let settings = with_bridge(format!("{word}198.51.100.25:443 {FINGERPRINT}"));
        assert!(settings.config().is_ok());
    }
}

#[test]
fn a_bridge_that_needs_another_program_is_refused_and_not_shown() {
    let error = with_bridge(format!("obfs4 198.51.100.25:443 {FINGERPRINT} cert=secret"))
        .config()
        .unwrap_err();
    assert_eq!(error, TorError::PluggableTransport { number: 2 });
    let error = with_bridge("198.51.100.25".to_owned())
        .config()
        .unwrap_err();
    assert_eq!(error, TorError::Bridge { number: 2 });
    assert!(!format!("{error} {error:?}").contains("198.51"));
}

#[test]
fn the_onion_key_has_no_keystore_on_disk() {
    for serves in [false, true] {
        let settings = ArtiSettings {
            serves,
            ..ArtiSettings::new("state", "cache")
        };
        let config = format!("{:?}", settings.config().unwrap().keystore());
        assert!(config.contains("Ephemeral"), "{config}");
    }
}

#[test]
fn a_path_is_taken_as_it_is() {
    let settings = ArtiSettings::new("/home/${USER}/state", "/home/~x/cache");
    let config = format!("{:?}", settings.config().unwrap());
    assert!(config.contains("Literal"), "{config}");
}

#[test]
fn an_authority_is_read_from_text() {
    let authority: Authority = AUTHORITY.parse().unwrap();
    assert_eq!(authority.rsa_identity[..2], [0x01, 0x23]);
    assert_eq!(authority.v3_identity[..2], [0x89, 0xab]);
    assert_eq!(authority.or_port.port(), 5001);
    let network = PrivateNetwork {
        authorities: vec![authority],
        parameters: vec![("cc_sendme_inc".to_owned(), 100)],
    };
    let settings = ArtiSettings {
        network: Some(network),
        ..ArtiSettings::new("state", "cache")
    };
    let config = format!("{:?}", settings.config().unwrap());
    assert!(config.contains("cc_sendme_inc"), "{config}");
    for text in [
        "",
        &AUTHORITY[1..],
        &AUTHORITY[..90],
        &format!("{AUTHORITY} x"),
    ] {
        assert_eq!(
            text.parse::<Authority>(),
            Err(ParseAuthorityError),
            "{text}"
        );
    }
}
