//! [`perform`]: what each request does to a provider that is open, here or behind a socket.

use core::time::Duration;

use maimo_core::{
    address::{Address, AddressList, Addresses},
    check_code::check_words,
    clock::Timestamp,
    custody::Grace,
};
use maimo_net::connect::Provider as _;
use maimo_provider::{
    provider::{
        ClientStatus, InvitationState, InvitationStatus, InviteRequest, Provider, Revocation,
    },
    scrub::Damage,
};

use super::request::{
    Answer, ClientRow, FaceRow, GraceText, InvitationRow, InviteArgs, Network, Request, ScrubRow,
    StatusRow, VolumeRow,
};
use crate::{
    daemon::now,
    error::CommandError,
    network::ONION_PORT,
    quantity::{Count, Size},
    ui::shown_path,
};

/// Does what is asked. `progress` hears how much of how much is done, and stops it by returning false.
pub(crate) fn perform(
    provider: &Provider,
    request: Request,
    progress: &dyn Fn(u64, u64) -> bool,
) -> Result<Answer, CommandError> {
    match request {
        Request::Status => Ok(Answer::Status(StatusRow {
            faces: [Network::Tor, Network::Tcp]
                .map(|network| face_row(provider, network))
                .into(),
            volumes: volume_rows(provider)?,
            clients: provider.clients()?.iter().map(client_row).collect(),
            connections: None,
        })),
        Request::Volumes => volumes(provider),
        Request::AddVolume { path, capacity } => {
            provider.add_volume(&path.path(), capacity)?;
            volumes(provider)
        }
        Request::DrainVolume { path } => {
            provider.drain_volume(&path.path(), progress)?;
            volumes(provider)
        }
        Request::RemoveVolume { path } => {
            provider.remove_volume(&path.path())?;
            volumes(provider)
        }
        Request::Scrub => {
            let report = provider.scrub(progress)?;
            Ok(Answer::Scrubbed(ScrubRow {
                packs: report.packs,
                bytes: report.bytes,
                damaged: report.damaged.iter().map(sentence).collect(),
            }))
        }
        Request::Clients => Ok(Answer::Clients {
            clients: provider.clients()?.iter().map(client_row).collect(),
            invitations: provider
                .invitations(now())?
                .iter()
                .map(invitation_row)
                .collect(),
        }),
        Request::Invite(args) => invite(provider, args),
        Request::Cap { client, cap } => {
            let client = provider.set_cap(&client, cap)?;
            Ok(Answer::Client {
                client: client_row(&client),
                freed: 0,
            })
        }
        Request::Revoke { client, is_now } => {
            let how = if is_now {
                Revocation::Now
            } else {
                Revocation::AfterGrace
            };
            let (client, swept) = provider.revoke(&client, how, now())?;
            Ok(Answer::Client {
                client: client_row(&client),
                freed: swept.bytes,
            })
        }
        Request::Withdraw { label } => {
            provider.withdraw(&label, now())?;
            Ok(Answer::Done)
        }
    }
}

fn volumes(provider: &Provider) -> Result<Answer, CommandError> {
    volume_rows(provider).map(Answer::Volumes)
}

fn volume_rows(provider: &Provider) -> Result<Vec<VolumeRow>, CommandError> {
    let rows = provider.volumes()?.into_iter().map(VolumeRow::from);
    Ok(rows.collect())
}

fn face_row(provider: &Provider, network: Network) -> FaceRow {
    let published = published(provider, network);
    let addresses = published
        .iter()
        .flat_map(|list| list.addresses().as_slice());
    FaceRow {
        network,
        identity: provider.face(network.into()).auth().to_string(),
        addresses: addresses.map(Address::to_string).collect(),
    }
}

/// Returns where a provider has said that it is.
fn published(provider: &Provider, network: Network) -> Option<AddressList> {
    let face = provider.face(network.into());
    AddressList::verify(&face.addresses()?, &face.auth()).ok()
}

fn invite(provider: &Provider, args: InviteArgs) -> Result<Answer, CommandError> {
    let addresses = addresses(provider, &args)?;
    let made = now();
    let request = InviteRequest {
        network: args.network.into(),
        label: args.label.clone(),
        cap: args.cap,
        grace: args.grace.map(|grace| match grace {
            GraceText::Ms(ms) => Grace::For(Duration::from_millis(ms)),
            GraceText::Endless => Grace::Endless,
        }),
        reserve: args.reserve,
        expires: Timestamp(args.expires),
    };
    let invitation = provider.invite(request, addresses, made)?;
    Ok(Answer::Invited {
        line: invitation.to_line().to_string(),
        row: InvitationRow {
            label: args.label,
            network: args.network,
            cap: args.cap,
            made: made.0,
            expires: args.expires,
            state: "open".to_owned(),
        },
    })
}

/// Returns where an invitation leads: as told, else where the provider has said that it is, else where its onion service will be.
fn addresses(provider: &Provider, args: &InviteArgs) -> Result<Addresses, CommandError> {
    let wrong = || CommandError::usage("these addresses cannot stand in one invitation");
    if !args.addresses.is_empty() {
        let mut all = Vec::with_capacity(args.addresses.len());
        for text in &args.addresses {
            let address: Address = text
                .parse()
                .map_err(|error| CommandError::usage(format!("`{text}`: {error}")))?;
            all.push(address);
        }
        return Addresses::new(all).map_err(|_| wrong());
    }
    if let Some(list) = published(provider, args.network) {
        return Ok(list.addresses().clone());
    }
    match args.network {
        Network::Tor => {
            let address = Address::onion(provider.onion_key().public(), ONION_PORT);
            Addresses::new(address.into_iter().collect()).map_err(|_| wrong())
        }
        Network::Tcp => Err(CommandError::usage(
            "nothing says where this node is reached over TCP",
        )
        .hint("name it: --address host.example:4243; or set `announce` in the configuration")),
    }
}

fn client_row(client: &ClientStatus) -> ClientRow {
    ClientRow {
        label: client.label.clone(),
        identity: client.client.to_string(),
        network: client.network.into(),
        check: check_words(&client.channel).join(" "),
        cap: client.terms.cap,
        used: client.totals.charged(&client.terms),
        sequence: client.sequence,
        registered: client.registered.0,
        last_seen: client.seen.0,
        revoked: client.revoked.map(|revoked| revoked.since.0),
        reads_until: client.revoked.map(|revoked| revoked.reads_until.0),
    }
}

fn invitation_row(invitation: &InvitationStatus) -> InvitationRow {
    InvitationRow {
        label: invitation.label.clone(),
        network: invitation.network.into(),
        cap: invitation.terms.cap,
        made: invitation.made.0,
        expires: invitation.expires.0,
        state: match invitation.state {
            InvitationState::Open => "open",
            InvitationState::Used { .. } => "used",
            InvitationState::Withdrawn => "withdrawn",
            _ => "expired",
        }
        .to_owned(),
    }
}

/// Returns what is damaged, in words.
fn sentence(damage: &Damage) -> String {
    match damage {
        Damage::Groups {
            channel,
            pack,
            groups,
        } => format!(
            "{} groups of pack {} of channel {channel} are not what they were",
            Count(groups.count().into()),
            pack.root
        ),
        Damage::Missing {
            channel,
            pack,
            groups,
        } => format!(
            "{} groups of pack {} of channel {channel} are not there",
            Count(groups.count().into()),
            pack.root
        ),
        Damage::File { channel, pack } => {
            format!(
                "the file of pack {} of channel {channel} is damaged at its end; its content is sound",
                pack.root
            )
        }
        Damage::Log { volume, bytes } => {
            format!(
                "{} of the log of volume {}",
                Size(*bytes),
                shown_path(volume)
            )
        }
        Damage::Unmounted { volume } => {
            format!(
                "volume {} is not mounted: nothing on it was read",
                shown_path(volume)
            )
        }
        _ => "damage of a kind that this version has no word for".to_owned(),
    }
}
