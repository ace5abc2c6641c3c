use proptest::prelude::*;

use super::*;
use crate::identity::AuthSecretKey;

fn provider(seed: u8) -> AuthPublicKey {
    AuthSecretKey::from_seed(&[seed; 32]).public()
}

fn addresses(texts: &[&str]) -> Addresses {
    Addresses::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap()
}

fn terms() -> TicketTerms {
    TicketTerms {
        id: TicketId([7; 16]),
        provider: provider(2),
        addresses: Some(addresses(&["192.0.2.1:80"])),
        sequence: 12,
        root: RootHash([9; 32]),
        expires: Timestamp(1000),
        budget: Budget {
            bytes: 64 << 20,
            slices: 5000,
        },
    }
}

fn ticket() -> Ticket {
    Ticket::sign(terms(), &ClientSecretKey::from_seed(&[1; 32])).unwrap()
}

#[test]
fn a_ticket_comes_back_from_its_line() {
    let line = ticket().to_line();
    assert!(line.starts_with("maimo:ticket1"));
    assert_eq!(Ticket::from_line(&line), Ok(ticket()));
    assert_eq!(Ticket::from_line(&line.to_ascii_uppercase()), Ok(ticket()));
    let channel = ChannelId::derive(provider(2).as_bytes(), ticket().client().as_bytes());
    assert_eq!(ticket().channel(), channel);
}

#[test]
fn a_ticket_is_good_at_one_provider_until_it_expires() {
    assert_eq!(ticket().check(&provider(2), Timestamp(999)), Ok(()));
    assert_eq!(
        ticket().check(&provider(2), Timestamp(1000)),
        Err(TicketError::Expired)
    );
    assert_eq!(
        ticket().check(&provider(3), Timestamp(0)),
        Err(TicketError::OtherProvider)
    );
}

/// Eight host names of 253 characters: the longest addresses that there are, and a line too long for plain bech32m.
#[test]
fn a_ticket_with_the_longest_addresses_fits_a_line() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", &label[..61]);
    let texts: Vec<String> = (1..=8).map(|port| format!("{name}:{port}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let long = TicketTerms {
        addresses: Some(addresses(&texts)),
        ..terms()
    };
    let long = Ticket::sign(long, &ClientSecretKey::from_seed(&[1; 32])).unwrap();
    let line = long.to_line();
    assert!(line.len() > 3000);
    assert_eq!(Ticket::from_line(&line), Ok(long));
}

#[test]
fn a_ticket_for_a_folder_says_no_address() {
    let folder = TicketTerms {
        addresses: None,
        ..terms()
    };
    let folder = Ticket::sign(folder, &ClientSecretKey::from_seed(&[1; 32])).unwrap();
    assert_eq!(Ticket::from_line(&folder.to_line()), Ok(folder.clone()));
    assert_eq!(folder.terms().addresses, None);
}

#[test]
fn a_ticket_for_no_head_is_refused() {
    let none = TicketTerms {
        sequence: 0,
        ..terms()
    };
    let none = Ticket::sign(none, &ClientSecretKey::from_seed(&[1; 32])).unwrap();
    assert!(matches!(
        Ticket::parse(&none.encode()),
        Err(TicketError::Parse(_))
    ));
}

#[test]
fn printing_a_ticket_does_not_show_what_makes_it_one() {
    let signature = format!("{:?}", ticket().signature);
    assert!(!format!("{:?}", ticket()).contains(&signature));
}

proptest! {
    #[test]
    fn no_bit_of_a_ticket_may_change(at: prop::sample::Index, bit in 0_u32..8) {
        let mut bytes = ticket().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Ticket::parse(&bytes).is_err());
    }

    #[test]
    fn a_ticket_cut_short_is_refused(cut: prop::sample::Index) {
        let bytes = ticket().encode();
        prop_assert!(Ticket::parse(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

#[test]
fn an_id_comes_back_from_its_text_and_nothing_else_does() {
    let id = TicketId([0xab; 16]);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
    for text in ["", "ab", &"ab".repeat(17), &"zz".repeat(16)] {
        assert_eq!(text.parse::<TicketId>(), Err(TicketError::Id));
    }
}
