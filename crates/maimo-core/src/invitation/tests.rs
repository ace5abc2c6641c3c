use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::identity::{AuthSecretKey, OnionSecretKey};

fn offer() -> Offer {
    let onion = OnionSecretKey::from_seed(&[3; 32]).public();
    let address = crate::address::Address::onion(onion, 443).unwrap();
    Offer {
        provider: AuthSecretKey::from_seed(&[2; 32]).public(),
        addresses: Addresses::new(vec![address]).unwrap(),
        expires: Timestamp(1000),
        cap: 1 << 40,
        reserve: 1 << 36,
        grace: Grace::DEFAULT,
    }
}

fn invitation(offer: Offer) -> Option<Invitation> {
    Invitation::new(offer, InvitationToken::from_bytes(&[5; 16]))
}

#[test]
fn an_invitation_comes_back_from_its_line_and_offers_its_terms() {
    let line = invitation(offer()).unwrap().to_line();
    assert!(line.starts_with("maimo:invite1"));
    let again = Invitation::from_line(&line).unwrap();
    assert_eq!(again.offer(), &offer());
    assert_eq!(again.token().as_bytes(), &[5; 16]);
    assert_eq!(again.encode(), invitation(offer()).unwrap().encode());
    let terms = again.offer().terms();
    assert_eq!((terms.cap, terms.reserve), (1 << 40, 1 << 36));
    assert_eq!(terms.grace(Timestamp(0)), Grace::DEFAULT);
    // Short enough for one QR code that a phone reads from a screen.
    assert!(line.len() < 250, "{}", line.len());
}

#[test]
fn a_ticket_s_line_is_no_invitation() {
    let line = line::encode("ticket", &invitation(offer()).unwrap().encode());
    assert!(matches!(
        Invitation::from_line(&line),
        Err(InvitationError::Line(LineError::Kind { .. }))
    ));
}

#[test]
fn an_invitation_of_a_newer_maimo_is_told_from_a_damaged_line() {
    let mut bytes = invitation(offer()).unwrap().encode().to_vec();
    // Magic and type, then the version.
    bytes[5] += 1;
    let error = Invitation::from_line(&line::encode("invite", &bytes))
        .err()
        .unwrap();
    let newer = InvitationError::Parse(ParseError::Version { found: 2 });
    assert_eq!(error, newer);
    assert!(
        error.hint().is_some_and(|hint| hint.contains("update")),
        "{error:?}"
    );
}

#[test]
fn an_invitation_expires() {
    let invitation = invitation(offer()).unwrap();
    assert_eq!(invitation.check(Timestamp(999)), Ok(()));
    assert_eq!(
        invitation.check(Timestamp(1000)),
        Err(InvitationError::Expired)
    );
}

#[test]
fn grace_is_whole_seconds_or_endless() {
    let with = |grace| invitation(Offer { grace, ..offer() });
    for grace in [
        Grace::For(Duration::ZERO),
        Grace::For(Duration::from_secs(GRACE_SECONDS_MAX)),
        Grace::Endless,
    ] {
        let bytes = with(grace).unwrap().encode();
        assert_eq!(Invitation::parse(&bytes).unwrap().offer().grace, grace);
    }
    assert!(with(Grace::For(Duration::from_millis(1500))).is_none());
    assert!(with(Grace::For(Duration::from_secs(GRACE_SECONDS_MAX + 1))).is_none());
}

#[test]
fn a_provider_finds_an_invitation_by_the_hash_of_its_token() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let token = InvitationToken::generate(&mut rng);
    let other = InvitationToken::generate(&mut rng);
    assert_ne!(token.hash(), other.hash());
    assert_eq!(
        token.hash(),
        InvitationToken::from_bytes(token.as_bytes()).hash()
    );
    assert_eq!(
        token.hash(),
        blake3::derive_key("maimo v1 invitation token", token.as_bytes())
    );
}

#[test]
fn an_invitation_that_needs_restricted_discovery_asks_for_a_newer_maimo() {
    let mut bytes = invitation(offer()).unwrap().encode().to_vec();
    *bytes.last_mut().unwrap() = 1;
    bytes.put_u16(TAG_RESTRICTED_DISCOVERY);
    bytes.put_bytes(&[1; 32]);
    let error = Invitation::parse(&bytes).err().unwrap();
    assert_eq!(error, ParseError::UnknownCritical { tag: 0x8001 });
    assert!(InvitationError::from(error).hint().is_some());
}

proptest! {
    #[test]
    fn what_parses_encodes_to_the_same_bytes(at: prop::sample::Index, to: u8, cut in 0_usize..3) {
        let mut bytes = invitation(offer()).unwrap().encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(bytes.len() - cut);
        if let Ok(again) = Invitation::parse(&bytes) {
            prop_assert_eq!(&*again.encode(), &bytes);
        }
    }
}
