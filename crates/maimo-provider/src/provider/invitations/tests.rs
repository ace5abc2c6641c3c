//! Invitations on a real disk: one client each, whatever crashes between and whoever else comes.

use core::time::Duration;
use std::{fs, path::Path, thread};

use maimo_core::{
    address::{Address, AddressList},
    identity::ClientSecretKey,
};
use maimo_net::connect::Provider as _;
use proptest::prelude::*;

use super::*;
use crate::provider::Revocation;

const WEEK: Duration = Duration::from_hours(7 * 24);

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> (Self, Provider) {
        let home = Self(tempfile::tempdir().unwrap());
        let provider = Provider::create(&home.at("home")).unwrap();
        provider.add_volume(&home.at("disk"), 1 << 30).unwrap();
        (home, provider)
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Provider {
        Provider::open(&self.at("home")).unwrap()
    }

    /// Opens it with all rows made anew from the logs.
    fn rebuilt(&self) -> Provider {
        remove_ledger(&self.at("home"));
        self.open()
    }
}

fn remove_ledger(home: &Path) {
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(home.join(name));
    }
}

fn key(seed: u8) -> ClientPublicKey {
    ClientSecretKey::from_seed(&[seed; 32]).public()
}

fn onion(provider: &Provider, port: u16) -> Addresses {
    let address = Address::onion(provider.onion_key().public(), port).unwrap();
    Addresses::new(vec![address]).unwrap()
}

fn request(label: &str) -> InviteRequest {
    InviteRequest {
        network: Network::Onion,
        label: label.to_owned(),
        cap: 1 << 20,
        grace: None,
        reserve: None,
        expires: now().after(WEEK),
    }
}

fn invite(provider: &Provider, label: &str) -> Invitation {
    let addresses = onion(provider, 4243);
    provider.invite(request(label), addresses, now()).unwrap()
}

fn redeem(provider: &Provider, client: u8, invitation: &Invitation) -> Result<Terms, ServiceError> {
    let face = provider.face(Network::Onion);
    let welcome = face.redeem(key(client), invitation.token());
    welcome.map(|welcome| welcome.terms)
}

fn detail(refused: Result<Terms, ServiceError>) -> String {
    match refused {
        Err(ServiceError::InvitationRefused { detail }) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invitation_lets_one_client_in_under_its_label_and_cap() {
    let (_home, provider) = Home::new();
    let invitation = invite(&provider, "anna");
    // As it went from hand to hand.
    let invitation = Invitation::from_line(&invitation.to_line()).unwrap();
    let face = provider.face(Network::Onion);
    assert_eq!(invitation.offer().provider, face.auth());
    assert!(face.session(key(1)).is_err());
    let terms = redeem(&provider, 1, &invitation).unwrap();
    assert_eq!(terms, invitation.offer().terms());
    assert!(face.session(key(1)).is_ok());
    let client = provider.client("anna").unwrap();
    assert_eq!((client.client, client.terms.cap), (key(1), 1 << 20));
    // The reply was lost.
    assert_eq!(redeem(&provider, 1, &invitation).unwrap(), terms);
    assert_eq!(
        detail(redeem(&provider, 2, &invitation)),
        "it was used by somebody else"
    );
    assert_eq!(provider.clients().unwrap().len(), 1);
    let state = provider.invitations(now()).unwrap()[0].state;
    assert!(matches!(state, InvitationState::Used { by, .. } if by == key(1)));
}

#[test]
fn a_token_that_comes_again_later_changes_nothing_that_was_agreed_since() {
    let (_home, provider) = Home::new();
    let invitation = invite(&provider, "anna");
    redeem(&provider, 1, &invitation).unwrap();
    provider.set_cap("anna", 7 << 20).unwrap();
    assert_eq!(redeem(&provider, 1, &invitation).unwrap().cap, 7 << 20);
    let revocation = Revocation::AfterGrace;
    provider.revoke("anna", revocation, now()).unwrap();
    assert_eq!(
        redeem(&provider, 1, &invitation).unwrap_err(),
        ServiceError::Revoked
    );
    assert!(provider.client("anna").unwrap().revoked.is_some());
    // Invited again, with the same label: it is let in as it was.
    let again = invite(&provider, "anna");
    assert_eq!(redeem(&provider, 1, &again).unwrap().cap, 1 << 20);
    assert!(provider.client("anna").unwrap().revoked.is_none());
}

#[test]
fn nobody_comes_in_by_a_token_of_another_face_or_none_or_too_late() {
    let (_home, provider) = Home::new();
    let invitation = invite(&provider, "anna");
    let tcp = provider.face(Network::Tcp);
    let refused = tcp.redeem(key(1), invitation.token());
    assert_eq!(detail(refused.map(|welcome| welcome.terms)), UNKNOWN);
    let made_up = InvitationToken::from_bytes(&[9; 16]);
    let refused = provider
        .face(Network::Onion)
        .redeem(key(1), &made_up)
        .map(|welcome| welcome.terms);
    assert_eq!(detail(refused), UNKNOWN);

    provider.withdraw("anna", now()).unwrap();
    assert_eq!(
        detail(redeem(&provider, 1, &invitation)),
        "it was withdrawn"
    );
    assert!(matches!(
        provider.withdraw("anna", now()),
        Err(ProviderError::NoInvitation { .. })
    ));
    let early = InviteRequest {
        expires: now().after(Duration::from_millis(1)),
        ..request("anna")
    };
    let late = provider.invite(early, onion(&provider, 1), now()).unwrap();
    thread::sleep(Duration::from_millis(2));
    assert_eq!(detail(redeem(&provider, 1, &late)), "it has expired");
    assert_eq!(provider.clients().unwrap().len(), 0);
    let states = provider.invitations(now()).unwrap();
    let states: Vec<_> = states.iter().map(|invitation| invitation.state).collect();
    assert_eq!(
        states,
        [InvitationState::Withdrawn, InvitationState::Expired]
    );
    // After a while nobody can tell any more that there was one.
    let later = now().after(Duration::from_hours(24 * 365));
    provider.sweep(later).unwrap();
    assert_eq!(provider.invitations(now()).unwrap(), []);
    assert_eq!(detail(redeem(&provider, 1, &late)), UNKNOWN);
}

#[test]
fn what_an_invitation_cannot_say_is_refused_before_anything_is_kept() {
    let (_home, provider) = Home::new();
    let try_to = |request: InviteRequest| provider.invite(request, onion(&provider, 1), now());
    for label in ["", " anna", "an\nna", &"a".repeat(257), &key(1).to_string()] {
        assert!(matches!(try_to(request(label)), Err(ProviderError::Label)));
    }
    let offers = [
        InviteRequest {
            network: Network::Tcp,
            ..request("a")
        },
        InviteRequest {
            expires: now(),
            ..request("a")
        },
        InviteRequest {
            grace: Some(Grace::For(Duration::from_millis(1500))),
            ..request("a")
        },
    ];
    for offer in offers {
        assert!(matches!(try_to(offer), Err(ProviderError::Offer { .. })));
    }
    assert_eq!(provider.invitations(now()).unwrap(), []);
    let first = invite(&provider, "anna");
    let taken = |label| {
        matches!(
            try_to(request(label)),
            Err(ProviderError::LabelTaken { .. })
        )
    };
    assert!(taken("anna"));
    redeem(&provider, 1, &first).unwrap();
    assert!(taken("anna"));
    let ana = Invitation::from_line("maimo:invite1nothing");
    assert!(ana.is_err());
}

#[test]
fn of_many_who_race_for_a_token_one_gets_in() {
    let (home, provider) = Home::new();
    let invitation = invite(&provider, "anna");
    let won: Vec<bool> = thread::scope(|scope| {
        let racers = (1..9).map(|client| {
            let (provider, invitation) = (&provider, &invitation);
            scope.spawn(move || redeem(provider, client, invitation).is_ok())
        });
        let racers: Vec<_> = racers.collect();
        racers
            .into_iter()
            .map(|race| race.join().unwrap())
            .collect()
    });
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let clients = provider.clients().unwrap();
    assert_eq!(clients.len(), 1);
    let winner = won.iter().position(|won| *won).unwrap() + 1;
    assert_eq!(clients[0].client, key(u8::try_from(winner).unwrap()));
    drop(provider);
    let provider = home.rebuilt();
    assert_eq!(provider.clients().unwrap()[0].client, clients[0].client);
}

/// Returns the segments of a volume's log.
fn segments(log: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    found
}

/// The log is cut off at every byte that redeeming appended to it: then the token is either good for its client or for everybody, never for
/// somebody else once it was used; and its client gets in.
#[test]
fn a_redemption_that_is_torn_anywhere_is_finished_by_its_client_alone() {
    let (home, provider) = Home::new();
    let invitation = invite(&provider, "anna");
    drop(provider);
    let log = segments(&home.at("disk/log")).remove(0);
    let before = fs::read(&log).unwrap();
    let ledger = home.at("home/ledger.sqlite");
    let behind = fs::read(&ledger).unwrap();
    let provider = home.open();
    redeem(&provider, 1, &invitation).unwrap();
    drop(provider);
    let after = fs::read(&log).unwrap();
    assert!(after.len() > before.len());
    let mut finished = 0;
    let cuts = (before.len()..=after.len()).step_by(17);
    for (cut, is_anew) in cuts
        .chain([after.len()])
        .zip([true, false].into_iter().cycle())
    {
        fs::write(&log, &after[..cut]).unwrap();
        let provider = if is_anew {
            home.rebuilt()
        } else {
            // The process died before the transaction was in the ledger.
            remove_ledger(&home.at("home"));
            fs::write(&ledger, &behind).unwrap();
            home.open()
        };
        let invited = provider.invitations(now()).unwrap().remove(0);
        if matches!(invited.state, InvitationState::Used { .. }) {
            assert!(redeem(&provider, 2, &invitation).is_err());
            finished += 1;
        } else {
            assert_eq!(provider.clients().unwrap().len(), 0);
        }
        redeem(&provider, 1, &invitation).unwrap();
        let client = provider.client("anna").unwrap();
        assert_eq!((client.client, client.terms.cap), (key(1), 1 << 20));
        assert!(redeem(&provider, 2, &invitation).is_err());
    }
    assert!(finished > 1, "no cut fell between the two entries");
}

#[test]
fn the_list_of_addresses_is_signed_anew_only_when_it_changes() {
    let (home, provider) = Home::new();
    let auth = provider.face(Network::Onion).auth();
    assert_eq!(provider.face(Network::Onion).addresses(), None);
    let publish = |provider: &Provider, port| {
        let addresses = onion(provider, port);
        provider.publish(Network::Onion, addresses, now()).unwrap();
        let list = provider.face(Network::Onion).addresses().unwrap();
        AddressList::verify(&list, &auth).unwrap()
    };
    let first = publish(&provider, 1);
    assert_eq!(publish(&provider, 1), first);
    let second = publish(&provider, 2);
    assert!(second.supersedes(&first));
    drop(provider);
    let provider = home.rebuilt();
    assert_eq!(publish(&provider, 2), second);
    // A clock that was set back does not count back.
    let past = Timestamp(5);
    provider
        .publish(Network::Onion, onion(&provider, 3), past)
        .unwrap();
    let list = provider.face(Network::Onion).addresses().unwrap();
    assert!(
        AddressList::verify(&list, &auth)
            .unwrap()
            .supersedes(&second)
    );
    assert_eq!(provider.face(Network::Tcp).addresses(), None);
    let wrong = provider.publish(Network::Tcp, onion(&provider, 1), now());
    assert!(wrong.is_err());
    let invitation = invite(&provider, "anna");
    let face = provider.face(Network::Onion);
    let welcome = face.redeem(key(1), invitation.token()).unwrap();
    assert_eq!(welcome.addresses, Some(list));
    // Words and volumes alone bring it all back.
    let phrase = provider.phrase();
    drop((face, provider));
    let again = Provider::restore(&home.at("again"), phrase.as_str()).unwrap();
    again.add_volume(&home.at("disk"), 1 << 30).unwrap();
    assert_eq!(again.client("anna").unwrap().client, key(1));
    assert_eq!(again.invitations(now()).unwrap().len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Invite(u8),
    Redeem(usize, u8),
    Withdraw(u8),
    Revoke(u8, bool),
    Cap(u8, u64),
    Publish(u16),
    Sweep(u64),
    Shrink,
    AddVolume,
    RemoveFirstVolume,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Step::Invite),
        6 => (any::<usize>(), 1..4_u8).prop_map(|(token, client)| Step::Redeem(token, client)),
        1 => (0..3_u8).prop_map(Step::Withdraw),
        2 => (0..3_u8, any::<bool>()).prop_map(|(label, is_now)| Step::Revoke(label, is_now)),
        1 => (0..3_u8, 0..1_u64 << 30).prop_map(|(label, cap)| Step::Cap(label, cap)),
        1 => (1..4_u16).prop_map(Step::Publish),
        1 => (0..60_u64).prop_map(Step::Sweep),
        1 => Just(Step::Shrink),
        1 => Just(Step::AddVolume),
        1 => Just(Step::RemoveFirstVolume),
        1 => Just(Step::Rebuild),
    ]
}

fn shown(provider: &Provider) -> String {
    let mut clients = provider.clients().unwrap();
    clients.sort_by_key(|client| *client.channel.as_bytes());
    let mut invitations = provider.invitations(Timestamp(0)).unwrap();
    invitations.sort_by_key(|invited| (invited.made, invited.label.clone()));
    let addresses = provider.face(Network::Onion).addresses();
    format!("{clients:?}{invitations:?}{addresses:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Whatever the owner and the clients do: a token serves one key, and rows made anew from the logs say the same.
    #[test]
    fn a_token_serves_one_client_and_all_of_it_is_in_the_logs(steps in prop::collection::vec(step(), 1..30)) {
        let (home, mut provider) = Home::new();
        let mut volumes = vec![home.at("disk")];
        let mut tokens: Vec<(Invitation, Option<u8>)> = Vec::new();
        let label = |number: u8| format!("label {number}");
        for step in steps {
            match step {
                Step::Invite(number) => {
                    let made = provider.invite(request(&label(number)), onion(&provider, 1), now());
                    tokens.extend(made.ok().map(|made| (made, None)));
                }
                Step::Redeem(token, client) => {
                    let count = tokens.len().max(1);
                    let Some((invitation, owner)) = tokens.get_mut(token % count) else {
                        continue;
                    };
                    if redeem(&provider, client, invitation).is_ok() {
                        prop_assert_eq!(*owner.get_or_insert(client), client);
                    }
                }
                Step::Withdraw(number) => drop(provider.withdraw(&label(number), now())),
                Step::Revoke(number, is_now) => {
                    let how = if is_now { Revocation::Now } else { Revocation::AfterGrace };
                    drop(provider.revoke(&label(number), how, now()));
                }
                Step::Cap(number, cap) => drop(provider.set_cap(&label(number), cap)),
                Step::Publish(port) => {
                    provider.publish(Network::Onion, onion(&provider, port), now()).unwrap();
                }
                Step::Sweep(days) => {
                    provider.sweep(now().after(Duration::from_hours(24 * days))).unwrap();
                }
                Step::Shrink => {
                    for volume in provider.inner.volumes.all_mounted() {
                        provider.inner.shrink_log(&volume).unwrap();
                    }
                }
                Step::AddVolume => {
                    let path = home.at(&format!("disk {}", volumes.len()));
                    if !volumes.contains(&path) {
                        provider.add_volume(&path, 1 << 30).unwrap();
                        volumes.push(path);
                    }
                }
                Step::RemoveFirstVolume => {
                    if volumes.len() > 1 {
                        provider.remove_volume(&volumes.remove(0)).unwrap();
                    }
                }
                Step::Rebuild => {
                    let before = shown(&provider);
                    drop(provider);
                    provider = home.rebuilt();
                    prop_assert_eq!(shown(&provider), before);
                }
            }
        }
        let before = shown(&provider);
        drop(provider);
        provider = home.open();
        prop_assert_eq!(shown(&provider), before);
    }
}
