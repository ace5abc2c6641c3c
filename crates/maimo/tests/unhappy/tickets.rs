//! Providers that lie to who has a ticket, in each way that there is; and a folder, which has no address.

use std::sync::Arc;

use bytes::Bytes;
use maimo_client::{
    audit::AuditResult,
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    clock::Clock,
    progress::Control,
    store::StoreRequest,
    ticket::{
        TicketRequest,
        audit::{TicketAudit, TicketAuditRequest, audit_ticket},
        receipt::check_receipt,
    },
};
use maimo_core::{
    audit::{AuditReceipt, AuditStatement, Challenge, Stated},
    clock::Timestamp,
    head::SignedHead,
    id::RootHash,
    identity::{AuthPublicKey, AuthSecretKey, ClientSecretKey, Signature},
    invitation::Invitation,
    receipt::LedgerInstance,
    reference::ObjectRef,
    ticket::Ticket,
};
use maimo_net::{
    connect::{Connector, Load, Provider as _, Welcome},
    in_process::InProcess,
    service::{
        ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead, StatedAnswer,
        WhichHead,
    },
};
use maimo_provider::provider::{FolderTerms, Provider};

/// How a provider lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    NoHead,
    OlderHead,
    HeadOfAnother,
    NoProof,
    ProofOfAnother,
    NothingOfIt,
    Unsigned,
    /// These it signs.
    WrongSlices,
    WrongNodes,
    Garbage,
    StatementOnAnother,
    StatementOfAnother,
}

/// The way to a folder, with a lie between.
struct Way {
    provider: Provider,
    lie: Lie,
}

struct Lying {
    inner: Arc<dyn Session>,
    /// The provider as its client meets it.
    of_client: Arc<dyn Session>,
    ticket: Ticket,
    key: Arc<AuthSecretKey>,
    lie: Lie,
}

impl Connector for Way {
    fn identify<'a>(&'a self, _: &'a str) -> Reply<'a, AuthPublicKey> {
        Box::pin(async { Ok(self.provider.auth()) })
    }

    fn connect<'a>(
        &'a self,
        _: &'a [String],
        _: AuthPublicKey,
        _: &'a Arc<ClientSecretKey>,
        _: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async { Err(ServiceError::UnknownClient) })
    }

    fn redeem<'a>(&'a self, _: &'a Invitation, _: &'a Arc<ClientSecretKey>) -> Reply<'a, Welcome> {
        Box::pin(async { Err(ServiceError::UnknownClient) })
    }

    fn audit<'a>(&'a self, _: &'a [String], ticket: &'a Ticket) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async {
            Ok(Arc::new(Lying {
                inner: self.provider.audit_session(ticket.clone())?,
                of_client: self.provider.session(*ticket.client())?,
                ticket: ticket.clone(),
                key: self.provider.identity(),
                lie: self.lie,
            }) as Arc<dyn Session>)
        })
    }
}

impl Session for Lying {
    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        match self.lie {
            Lie::NoHead => Box::pin(async { Ok(None) }),
            Lie::OlderHead => self.of_client.head(WhichHead::Sequence(1)),
            _ => Box::pin(async move {
                let mut shown = self.inner.head(which).await?.unwrap();
                if self.lie == Lie::HeadOfAnother {
                    shown.head = signed_by_another(&shown.head, &self.ticket);
                }
                Ok(Some(shown))
            }),
        }
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        match self.lie {
            Lie::NoProof => Box::pin(async {
                Err(ServiceError::NotHeld {
                    what: "a head of that sequence number",
                })
            }),
            Lie::ProofOfAnother => self.of_client.prove(1),
            _ => self.inner.prove(sequence),
        }
    }

    fn audit_stated(&self, challenge: Bytes) -> Reply<'_, StatedAnswer> {
        Box::pin(async move {
            let mut stated = self.inner.audit_stated(challenge.clone()).await?;
            let mut answer = stated.answer.to_vec();
            let length = answer.len();
            let mut asked = Challenge::parse(&challenge).unwrap();
            let mut key = &*self.key;
            let stranger = AuthSecretKey::from_seed(&[3; 32]);
            match self.lie {
                Lie::NothingOfIt => {
                    let detail = "later".to_owned();
                    return Err(ServiceError::Unavailable { detail });
                }
                Lie::WrongSlices | Lie::Unsigned => answer[length - 10] ^= 1,
                // Behind head and commit, which an answer to nothing is, the first node begins.
                Lie::WrongNodes => {
                    let nothing = Challenge::new(*asked.root(), Vec::new(), Vec::new()).unwrap();
                    let before = self.inner.audit_stated(nothing.encode().into()).await?;
                    answer[before.answer.len() + 40] ^= 1;
                }
                Lie::Garbage => answer.truncate(length / 2),
                Lie::StatementOnAnother => {
                    asked = Challenge::new(RootHash([1; 32]), vec![1], Vec::new()).unwrap();
                }
                Lie::StatementOfAnother => key = &stranger,
                _ => {}
            }
            if self.lie != Lie::Unsigned {
                stated.statement = stated_by(key, &self.ticket, &asked, &answer);
            }
            stated.answer = answer.into();
            Ok(stated)
        })
    }

    fn status(&self) -> Reply<'_, ChannelStatus> {
        self.inner.status()
    }

    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        self.inner.put(put)
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        self.inner.put_node(node)
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        self.inner.move_head(head_move)
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        self.inner.nodes(nodes)
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.inner.read(reads)
    }

    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        self.inner.audit(challenge)
    }

    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        self.inner.digest(request)
    }
}

/// The same head, by another client.
fn signed_by_another(signed: &[u8], ticket: &Ticket) -> Bytes {
    let key = ClientSecretKey::from_seed(&[9; 32]);
    let head = SignedHead::verify(signed, ticket.channel(), &[*ticket.client()]).unwrap();
    let mut head = head.head().clone();
    head.signer = key.public();
    head.sign(&key).unwrap().encode().into()
}

fn stated_by(key: &AuthSecretKey, ticket: &Ticket, asked: &Challenge, answer: &[u8]) -> Bytes {
    let stated = Stated {
        ticket: ticket.terms().id,
        channel: ticket.channel(),
        root: *asked.root(),
        challenge: RootHash::of(&asked.encode()),
        answer: ObjectRef::of(answer),
        time: Timestamp(1),
        instance: LedgerInstance([0; 16]),
    };
    AuditStatement::sign(stated, key).encode().into()
}

/// A store of several states in a folder, a ticket for the second of them, and the provider.
struct Stored {
    folder: tempfile::TempDir,
    ticket: Ticket,
    provider: Provider,
}

impl Stored {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let disk = folder.path().join("disk");
        Client::init(&home, &InitOptions::default()).unwrap();
        let make = |address: &str| {
            let path = address.strip_prefix("dir:").unwrap();
            let opened = Provider::open_folder(path.as_ref(), Some(FolderTerms::default()));
            Ok(Arc::new(opened.unwrap()) as Arc<dyn maimo_net::connect::Provider>)
        };
        let mut client =
            Client::open(&home, OpenOptions::new(Arc::new(InProcess::new(make)))).unwrap();
        let control = Control::default();
        let request = OpenChannelRequest {
            name: Some("disk".to_owned()),
            address: format!("dir:{}", disk.display()),
        };
        client.open_channel(&request, &control).unwrap();
        let mut store = |name: &str| {
            let path = folder.path().join(name);
            let bytes: Vec<u8> = (0..200_000_u32)
                .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
                .collect();
            std::fs::write(&path, [name.as_bytes(), &bytes].concat()).unwrap();
            let request = StoreRequest {
                paths: vec![path],
                ..StoreRequest::default()
            };
            client.store(&request, &control).unwrap();
        };
        store("first");
        store("second");
        let ticket = client.ticket(&TicketRequest::new("disk")).unwrap();
        let mut store = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            let request = StoreRequest {
                paths: vec![path],
                ..StoreRequest::default()
            };
            client.store(&request, &control).unwrap();
        };
        store("third");
        drop(client);
        let provider = Provider::open_folder(&disk, None).unwrap();
        Self {
            folder,
            ticket,
            provider,
        }
    }

    fn audit(&self, lie: Lie) -> (TicketAudit, Option<AuditReceipt>) {
        let way = Way {
            provider: self.provider.clone(),
            lie,
        };
        let request = TicketAuditRequest {
            slices: 20,
            addresses: vec![format!("dir:{}", self.folder.path().display())],
            keep_receipt: true,
        };
        let (clock, control) = (Clock::default(), Control::default());
        audit_ticket(&way, &self.ticket, &request, &clock, &control).unwrap()
    }
}

#[test]
fn each_lie_of_a_provider_is_told_for_what_it_is() {
    let stored = Stored::new();
    let (honest, receipt) = stored.audit(Lie::None);
    assert_eq!(honest.audit.result, AuditResult::Intact, "{honest:?}");
    assert!(honest.state.unwrap().sequence > stored.ticket.terms().sequence);
    assert_eq!(
        check_receipt(&receipt.unwrap()).unwrap().audit.result,
        AuditResult::Intact
    );
    for (lie, result) in [
        (Lie::NoHead, AuditResult::Rollback),
        (Lie::OlderHead, AuditResult::Rollback),
        (Lie::NoProof, AuditResult::Rollback),
        (Lie::ProofOfAnother, AuditResult::Rollback),
        (Lie::HeadOfAnother, AuditResult::Damaged),
        (Lie::NothingOfIt, AuditResult::Offline),
        // What it does not sign is no answer, whatever it says.
        (Lie::Unsigned, AuditResult::Refused),
        (Lie::StatementOnAnother, AuditResult::Refused),
        (Lie::StatementOfAnother, AuditResult::Refused),
    ] {
        let (told, receipt) = stored.audit(lie);
        assert_eq!(told.audit.result, result, "{lie:?}: {told:?}");
        assert!(told.audit.detail.is_some(), "{lie:?}");
        assert!(receipt.is_none(), "{lie:?}");
    }
    // What it does sign it can be shown for ever.
    for lie in [Lie::WrongSlices, Lie::WrongNodes, Lie::Garbage] {
        let (told, receipt) = stored.audit(lie);
        assert_eq!(told.audit.result, AuditResult::Damaged, "{lie:?}: {told:?}");
        let checked = check_receipt(&receipt.unwrap()).unwrap();
        assert_eq!(checked.audit.result, AuditResult::Damaged, "{lie:?}");
        assert_eq!(checked.audit.strata, told.audit.strata, "{lie:?}");
    }
}

/// What an auditor could make up of a receipt that is right, and what nobody would have signed.
#[test]
fn a_receipt_that_was_touched_shows_nothing() {
    let stored = Stored::new();
    let receipt = stored.audit(Lie::None).1.unwrap();
    let shows = |receipt: &AuditReceipt| check_receipt(receipt).is_ok();
    assert!(shows(&receipt));
    let mut twice = receipt.clone();
    twice.answers.push(receipt.answers[0].clone());
    assert!(!shows(&twice));
    let mut none = receipt.clone();
    none.answers.clear();
    assert!(!shows(&none));
    let mut unproven = receipt.clone();
    unproven.proof = None;
    assert!(!shows(&unproven));
    let mut other_head = receipt.clone();
    other_head.head = signed_by_another(&receipt.head, &receipt.ticket).to_vec();
    assert!(!shows(&other_head));
    let mut unsigned = receipt.clone();
    let at = unsigned.head.len() - Signature::LENGTH;
    unsigned.head[at] ^= 1;
    assert!(!shows(&unsigned));
    let mut answer = receipt.clone();
    let last = answer.answers[0].answer.len() - 1;
    answer.answers[0].answer[last] ^= 1;
    assert!(!shows(&answer));
    let mut fewer = receipt;
    let challenge = &fewer.answers[0].challenge;
    let all = challenge.positions(maimo_core::audit::Stratum::Data);
    let root = *challenge.root();
    fewer.answers[0].challenge = Challenge::new(root, all[1..].to_vec(), Vec::new()).unwrap();
    assert!(!shows(&fewer));
}

#[test]
fn a_ticket_for_a_folder_is_audited_where_its_bearer_has_the_folder() {
    let stored = Stored::new();
    assert_eq!(stored.ticket.terms().addresses, None);
    let Stored {
        folder,
        ticket,
        provider,
    } = stored;
    drop(provider);
    let line = ticket.to_line();
    let rig = crate::rig::Rig::new();
    let disk = folder.path().join("disk");
    rig.ends(1, crate::rig::args([&"audit-ticket", &line]));
    let args = crate::rig::args([&"audit-ticket", &line, &"--at", &disk]);
    let said = rig.ok(&args);
    assert!(said.contains("intact"), "{said}");
}
