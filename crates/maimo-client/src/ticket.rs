//! Tickets: the right to audit a channel, given to a machine that has no key of the store; which were given, what was used of them, and their end.
//!
//! Giving one asks nobody: the provider hears of it from who shows it. What is remembered here is what was given from this machine; what the
//! provider has met it tells, whoever of the store gave it. [`audit`] is the other side, which needs no node at all.

pub mod audit;
pub mod receipt;

use core::time::Duration;

use maimo_core::{
    address::{Address, Addresses},
    clock::Timestamp,
    codec::{Put as _, Reader},
    id::ChannelId,
    ticket::{Budget, Ticket, TicketId, TicketTerms},
};
use maimo_net::service::{ServiceError, TicketUse};
use rusqlite::params;

use crate::{
    client::Client,
    engine::{Engine, auth_key},
    error::ClientError,
    keys::channel_keys,
    node_state::{self, NodeState, failed},
    random,
};

/// What a ticket is to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketRequest {
    /// The channel's name.
    pub channel: String,
    /// For how long from now.
    pub valid_for: Duration,
    /// How much, over all audits.
    pub budget: Budget,
}

impl TicketRequest {
    /// How long a ticket is good unless told.
    pub const VALID_FOR: Duration = Duration::from_hours(24 * 30);
    /// What a ticket gives unless told: an audit of the usual size each day.
    pub const BUDGET: Budget = Budget {
        bytes: 1024 * 1024 * 1024,
        slices: 30_000,
    };

    /// Asks for the usual ticket for a channel.
    pub fn new(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            valid_for: Self::VALID_FOR,
            budget: Self::BUDGET,
        }
    }
}

/// A ticket that somebody of this store gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenTicket {
    /// Which.
    pub id: TicketId,
    /// The channel's name.
    pub channel: String,
    /// The ticket; none where another machine gave it.
    pub ticket: Option<Ticket>,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// What the provider knows of it; none where it never met it, or does not answer.
    pub used: Option<TicketUse>,
}

/// The tickets given, and which providers could not be asked about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenTickets {
    /// The tickets.
    pub tickets: Vec<GivenTicket>,
    /// Names of channels, and why their providers said nothing.
    pub silent: Vec<(String, ServiceError)>,
}

impl Client {
    /// Gives a ticket for a channel, held against the newest head seen of it. No provider is asked.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, ticket::TicketRequest};
    /// # fn example(client: &mut Client) -> Result<(), ClientError> {
    /// let ticket = client.ticket(&TicketRequest::new("disk"))?;
    /// println!("{}", ticket.to_line());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::NoChannel`], also where nothing was stored there yet; that local state cannot be written.
    pub fn ticket(&mut self, request: &TicketRequest) -> Result<Ticket, ClientError> {
        self.engine.give_ticket(request)
    }

    /// Returns the tickets given, those that expired left out, with what providers know of them.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &mut Client) -> Result<(), ClientError> {
    /// for given in client.tickets()?.tickets {
    ///     println!("{} {}", given.id, given.channel);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That local state cannot be read; a provider that does not answer is told in the report.
    pub fn tickets(&mut self) -> Result<GivenTickets, ClientError> {
        self.engine.given_tickets()
    }

    /// Makes a ticket worth nothing, at once: when this returns, its provider knows.
    ///
    /// # Errors
    ///
    /// A ticket that nobody knows, or [`ClientError::Provider`]: then it is good still.
    pub fn revoke_ticket(&mut self, id: TicketId) -> Result<GivenTicket, ClientError> {
        self.engine.revoke_ticket(id)
    }
}

impl Engine {
    fn give_ticket(&mut self, request: &TicketRequest) -> Result<Ticket, ClientError> {
        let names = [request.channel.clone()];
        let ids = self.channels_named(&names)?;
        let id = ids.first().copied().ok_or_else(|| {
            ClientError::NoChannel(format!("no channel is called {}", request.channel))
        })?;
        let row = self.channel_row(id)?;
        let seen = self.node.seen(id)?.ok_or_else(|| {
            ClientError::NoChannel(format!("nothing was stored on channel {} yet", row.name))
        })?;
        let auth = auth_key(&row)?;
        let now = self.clock.now();
        let terms = TicketTerms {
            id: TicketId(random::id()),
            provider: auth,
            addresses: addresses(&row.addresses),
            sequence: seen.seen.sequence,
            root: seen.seen.root,
            expires: now.after(request.valid_for),
            budget: request.budget,
        };
        let (_, keys) = channel_keys(&self.secret, &auth);
        let ticket = Ticket::sign(terms, &keys.client).ok_or_else(|| too_long(&request.channel))?;
        let given = Kept {
            ticket: ticket.clone(),
            is_revoked: false,
        };
        self.node.keep_ticket(&given, now)?;
        Ok(ticket)
    }

    fn given_tickets(&mut self) -> Result<GivenTickets, ClientError> {
        let now = self.clock.now();
        let mut kept = self.node.kept_tickets()?;
        kept.retain(|kept| now < kept.ticket.terms().expires);
        let mut report = GivenTickets::default();
        let mut ids: Vec<ChannelId> = self.node.channels()?.iter().map(|row| row.id).collect();
        let layout = self.layout()?.into_iter();
        let others = kept.iter().map(|kept| kept.ticket.channel());
        for id in layout.chain(others) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        for id in ids {
            let name = match self.channel_row(id) {
                Ok(row) => row.name,
                // It was closed since.
                Err(ClientError::NoChannel(_)) => id.to_string(),
                Err(error) => return Err(error),
            };
            let mut known = match self.uses(id) {
                Ok(known) => known,
                Err(ClientError::Provider { source, .. }) => {
                    report.silent.push((name.clone(), source));
                    Vec::new()
                }
                Err(ClientError::NoChannel(_)) => Vec::new(),
                Err(error) => return Err(error),
            };
            for kept in kept.iter().filter(|kept| kept.ticket.channel() == id) {
                let terms = kept.ticket.terms();
                let at = known.iter().position(|known| known.id == terms.id);
                let used = at.map(|at| known.remove(at));
                report.tickets.push(GivenTicket {
                    id: terms.id,
                    channel: name.clone(),
                    ticket: Some(kept.ticket.clone()),
                    expires: terms.expires,
                    is_revoked: kept.is_revoked || used.is_some_and(|used| used.is_revoked),
                    used,
                });
            }
            let strange = known.into_iter().filter(|known| now < known.expires);
            report.tickets.extend(strange.map(|known| GivenTicket {
                id: known.id,
                channel: name.clone(),
                ticket: None,
                expires: known.expires,
                is_revoked: known.is_revoked,
                used: Some(known),
            }));
        }
        Ok(report)
    }

    fn revoke_ticket(&mut self, id: TicketId) -> Result<GivenTicket, ClientError> {
        let kept = self.node.kept_tickets()?.into_iter();
        let kept = kept.into_iter().find(|kept| kept.ticket.terms().id == id);
        let mut given = if let Some(kept) = &kept {
            GivenTicket {
                id,
                channel: self.channel_row(kept.ticket.channel())?.name,
                expires: kept.ticket.terms().expires,
                ticket: Some(kept.ticket.clone()),
                is_revoked: false,
                used: None,
            }
        } else {
            // Another machine of the store may have given it.
            let known = self.given_tickets()?;
            let found = known.tickets.into_iter().find(|given| given.id == id);
            match (found, known.silent.into_iter().next()) {
                (Some(given), _) => given,
                (None, Some((channel, source))) => {
                    return Err(ClientError::Provider { channel, source });
                }
                (None, None) => {
                    return Err(ClientError::Input {
                        message: format!("nobody knows a ticket {id}"),
                        hint: Some("`maimo ticket list` shows the tickets given"),
                    });
                }
            }
        };
        let channels = self.channels_named(core::slice::from_ref(&given.channel))?;
        for channel in channels {
            let open = self.channel(channel)?;
            open.call(open.session.revoke_ticket(id, given.expires))?;
        }
        if let Some(kept) = kept {
            let revoked = Kept {
                is_revoked: true,
                ..kept
            };
            self.node.keep_ticket(&revoked, self.clock.now())?;
        }
        given.is_revoked = true;
        Ok(given)
    }

    /// Asks a channel's provider which tickets it knows.
    fn uses(&mut self, id: ChannelId) -> Result<Vec<TicketUse>, ClientError> {
        let channel = self.channel(id)?;
        channel.call(channel.session.tickets())
    }
}

/// Returns the addresses that a ticket can name: a folder has none, and of two networks the first's are taken, as they never share a list.
fn addresses(texts: &[String]) -> Option<Addresses> {
    let mut found: Vec<Address> = Vec::new();
    for address in texts.iter().filter_map(|text| text.parse::<Address>().ok()) {
        let first = found.first().map(Address::network);
        let fits = first.is_none_or(|first| first == address.network());
        if fits && !found.contains(&address) && found.len() < Addresses::COUNT_MAX {
            found.push(address);
        }
    }
    Addresses::new(found).ok()
}

fn too_long(channel: &str) -> ClientError {
    ClientError::Input {
        message: format!("the addresses of channel {channel} are too long for a ticket"),
        hint: None,
    }
}

/// A ticket as this node remembers it.
struct Kept {
    ticket: Ticket,
    is_revoked: bool,
}

/// Under which name a ticket is among the node's values, and what all those names begin with.
fn name_of(id: TicketId) -> String {
    format!("{NAME}{id}")
}
const NAME: &str = "ticket ";
const AFTER: &str = "ticket!";

impl NodeState {
    /// Remembers a ticket until it has expired; forgets those that have.
    fn keep_ticket(&self, given: &Kept, now: Timestamp) -> Result<(), ClientError> {
        let expired: Vec<String> = self
            .kept_tickets()?
            .iter()
            .map(|kept| kept.ticket.terms())
            .filter(|terms| terms.expires <= now)
            .map(|terms| name_of(terms.id))
            .collect();
        let mut body = Vec::new();
        body.put_u8(u8::from(given.is_revoked));
        body.put(&given.ticket.encode());
        let name = name_of(given.ticket.terms().id);
        self.write(|tx| {
            for name in &expired {
                tx.execute("DELETE FROM value WHERE name = ?1", [name])?;
            }
            node_state::put(tx, &name, &body)
        })
    }

    fn kept_tickets(&self) -> Result<Vec<Kept>, ClientError> {
        let read = || -> rusqlite::Result<Vec<Vec<u8>>> {
            let sql = "SELECT value FROM value WHERE name >= ?1 AND name < ?2 ORDER BY name";
            let mut statement = self.db().prepare_cached(sql)?;
            let rows = statement.query_map(params![NAME, AFTER], |row| row.get(0))?;
            rows.collect()
        };
        let bodies = read().map_err(failed)?;
        let kept = bodies.iter().map(|body| {
            parse(body).ok_or_else(|| {
                ClientError::Corrupt("a ticket that was given cannot be read".to_owned())
            })
        });
        kept.collect()
    }
}

fn parse(body: &[u8]) -> Option<Kept> {
    let mut reader = Reader::new(body);
    let is_revoked = match reader.u8("ticket").ok()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Kept {
        ticket: Ticket::parse(body.get(1..)?).ok()?,
        is_revoked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_names_addresses_of_one_network_and_of_no_folder() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            addresses(&texts).map(|list| {
                let list = list.as_slice().iter();
                list.map(Address::to_string).collect::<Vec<_>>()
            })
        };
        assert_eq!(of(&["dir:/mnt/disk"]), None);
        assert_eq!(of(&[]), None);
        // The Tor Project's own.
        let onion = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:4100";
        let texts = ["192.0.2.1:80", onion, "192.0.2.1:80", "a.example:1"];
        assert_eq!(of(&texts).unwrap(), ["192.0.2.1:80", "a.example:1"]);
        let many: Vec<String> = (1..20).map(|port| format!("192.0.2.1:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(of(&many).unwrap().len(), 8);
    }
}
