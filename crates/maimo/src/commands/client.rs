//! `client`: whom this node stores for.

use std::io::{self, IsTerminal, Write};

use clap::Subcommand;
use maimo_core::{address::Address, clock::Timestamp};
use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};
use serde::Serialize;

use super::Outcome;
use crate::{
    config::Way,
    context::Context,
    control::{Answer, ClientRow, GraceText, InvitationRow, InviteArgs, Network, Request, astray},
    daemon::now,
    error::CommandError,
    network::announced_by_tcp,
    quantity::{Moment, Size, parse_size, parse_span_ms},
    ui::{Align, Page, Report, Table},
};

/// How long an invitation can be redeemed if nothing else is said: a week, in milliseconds.
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;

/// Store for others: invite clients, list them, change their caps, revoke them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an invitation: one line that lets one client store here
    ///
    /// The line is a secret until it is used: hand it over so that nobody else reads it. Then compare the six check words that both sides show
    /// (`client list` here, `channel list` there).
    Invite(InviteFlags),
    /// List the clients and the invitations
    List,
    /// Give a client another cap
    Cap {
        /// The client's label, or its key
        label: String,
        /// How many bytes may be charged: 500GiB, 2TB
        #[arg(value_parser = parse_size)]
        size: u64,
    },
    /// End what a client may do: it writes no more, reads until its grace is over, and then its bytes are freed
    ///
    /// Invited again before that, it finds everything as it was.
    Revoke {
        /// The client's label, or its key
        label: String,
        /// Free its bytes at once, without the grace; asks first
        #[arg(long)]
        now: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Withdraw an invitation that nobody has used yet
    Withdraw {
        /// Its label
        label: String,
    },
}

/// What an invitation takes.
#[derive(Debug, clap::Args)]
pub(crate) struct InviteFlags {
    /// What to call the client; only you see it
    label: String,
    /// How many bytes may be charged: 500GiB, 2TB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cap: u64,
    /// How long what the client lets go is held, as in "30 days"; `endless` for ever [default: 30 days]
    #[arg(long, value_name = "DURATION", value_parser = parse_grace)]
    grace: Option<GraceText>,
    /// How many bytes held but not live are not charged [default: a tenth of the cap]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    reserve: Option<u64>,
    /// How long it can be redeemed [default: 7 days]
    #[arg(long, value_name = "DURATION", value_parser = parse_span_ms)]
    expires: Option<u64>,
    /// Where this node is reached, as in host.example:4243; may be given again [default: where it says itself that it is]
    #[arg(long, value_name = "ADDRESS")]
    address: Vec<String>,
    /// Invite to this node over TCP, with no anonymity, where it has both kinds of networks
    #[arg(long)]
    tcp: bool,
}

fn parse_grace(text: &str) -> Result<GraceText, String> {
    if text.eq_ignore_ascii_case("endless") {
        return Ok(GraceText::Endless);
    }
    parse_span_ms(text).map(GraceText::Ms)
}

/// Does it.
pub(crate) fn run(command: &Command, ctx: &Context) -> Outcome {
    match command {
        Command::Invite(flags) => match ctx.ask_provider(Request::Invite(invite(flags, ctx)?))? {
            Answer::Invited { line, row } => Ok(Box::new(Invited { line, row })),
            _ => Err(astray()),
        },
        Command::List => match ctx.ask_provider(Request::Clients)? {
            Answer::Clients {
                clients,
                invitations,
            } => Ok(Box::new(Clients {
                clients,
                invitations,
            })),
            _ => Err(astray()),
        },
        Command::Cap { label, size } => {
            let request = Request::Cap {
                client: label.clone(),
                cap: *size,
            };
            Ok(Box::new(one_client(ctx.ask_provider(request)?)?.0))
        }
        Command::Revoke { label, now, yes } => {
            let label = label.clone();
            if *now && !yes {
                confirm(ctx, &label)?;
            }
            let request = Request::Revoke {
                client: label,
                is_now: *now,
            };
            let (clients, freed) = one_client(ctx.ask_provider(request)?)?;
            for client in &clients.clients {
                tell_revoked(ctx, client, freed, *now);
            }
            Ok(Box::new(clients))
        }
        Command::Withdraw { label } => {
            ctx.ask_provider(Request::Withdraw {
                label: label.clone(),
            })?;
            ctx.ui
                .say(&format!("the invitation for {} is withdrawn", shown(label)));
            Ok(Box::new(crate::ui::Told))
        }
    }
}

/// Puts together what is asked for: the flags, and what the configuration says of the network.
fn invite(flags: &InviteFlags, ctx: &Context) -> Result<InviteArgs, CommandError> {
    let ways = ctx.config.transport.value.as_slice();
    let mut addresses = flags.address.clone();
    let named: Option<Address> = match addresses.first() {
        Some(first) => Some(
            first
                .parse()
                .map_err(|error| CommandError::usage(format!("`{first}`: {error}")))?,
        ),
        None => None,
    };
    let network = match named {
        Some(address) => address.network().into(),
        None if flags.tcp || ways == [Way::Tcp] => Network::Tcp,
        None => Network::Tor,
    };
    if network == Network::Tcp && addresses.is_empty() {
        let announced = announced_by_tcp(&ctx.config);
        addresses.extend(announced.iter().map(Address::to_string));
    }
    Ok(InviteArgs {
        label: flags.label.clone(),
        network,
        cap: flags.cap,
        reserve: flags.reserve,
        grace: flags.grace,
        expires: now().0.saturating_add(flags.expires.unwrap_or(WEEK_MS)),
        addresses,
    })
}

fn confirm(ctx: &Context, label: &str) -> Result<(), CommandError> {
    if !ctx.ui.is_terminal() || !io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "what a client stored is freed at once only when that is meant",
        )
        .hint("say --yes"));
    }
    let mut out = io::stderr().lock();
    write!(
        out,
        "All that {} stored here is freed at once and cannot be brought back. Type `yes`: ",
        shown(label)
    )?;
    out.flush()?;
    let mut said = String::new();
    io::stdin().read_line(&mut said)?;
    if said.trim() == "yes" {
        return Ok(());
    }
    Err(CommandError::usage("nothing was changed"))
}

fn tell_revoked(ctx: &Context, client: &ClientRow, freed: u64, is_now: bool) {
    let label = shown(&client.label);
    let text = match client.reads_until {
        _ if is_now => format!("{label} may do no more; {} were freed", Size(freed)),
        Some(u64::MAX) => format!(
            "{label} may write no more; its grace has no end, so it may always read, and nothing is freed without --now"
        ),
        Some(until) => format!(
            "{label} may write no more; it may read until {}, then its bytes are freed",
            Moment::from(Timestamp(until)).local()
        ),
        None => return,
    };
    ctx.ui.say(&text);
}

fn one_client(answer: Answer) -> Result<(Clients, u64), CommandError> {
    let Answer::Client { client, freed } = answer else {
        return Err(astray());
    };
    let clients = Clients {
        clients: vec![client],
        invitations: Vec::new(),
    };
    Ok((clients, freed))
}

/// A new invitation; the only time that its line is shown.
struct Invited {
    line: String,
    row: InvitationRow,
}

#[derive(Serialize)]
struct InvitedView<'a> {
    invitation: &'a str,
    label: &'a str,
    network: Network,
    cap: u64,
    expires: Moment,
}

impl Report for Invited {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if io::stdout().is_terminal()
            && let Some(picture) = picture(&self.line)
        {
            writeln!(page, "{picture}\n")?;
        }
        writeln!(page, "{}", self.line)?;
        let expires = Moment::from(Timestamp(self.row.expires)).local();
        writeln!(
            page,
            "\nfor {}: {}, once, until {expires}. Whoever has the line can take it up: hand it over unread.",
            shown(&self.row.label),
            Size(self.row.cap),
        )
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = InvitedView {
            invitation: &self.line,
            label: &self.row.label,
            network: self.row.network,
            cap: self.row.cap,
            expires: Timestamp(self.row.expires).into(),
        };
        page.json("invitation", &view)
    }
}

/// Draws a line as a QR code, two rows of squares a row of text; nothing where it is too long for one. In capitals, which take fewer squares
/// and mean the same.
fn picture(line: &str) -> Option<String> {
    let capitals = line.to_ascii_uppercase();
    let code = QrCode::with_error_correction_level(capitals, EcLevel::L).ok()?;
    // Light on dark, as terminals mostly are; readers take either.
    Some(
        code.render::<Dense1x2>()
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark)
            .build(),
    )
}

struct Clients {
    clients: Vec<ClientRow>,
    invitations: Vec<InvitationRow>,
}

/// A client as a program reads it.
#[derive(Serialize)]
pub(super) struct ClientView<'a> {
    label: &'a str,
    identity: &'a str,
    network: Network,
    cap: u64,
    used: u64,
    last_seen: String,
    check: &'a str,
    sequence: u64,
    registered: Moment,
    revoked: Option<Moment>,
    reads_until: Option<Moment>,
}

impl<'a> ClientView<'a> {
    pub(super) fn of(client: &'a ClientRow) -> Self {
        let moment = |ms| Moment::from(Timestamp(ms));
        Self {
            label: &client.label,
            identity: &client.identity,
            network: client.network,
            cap: client.cap,
            used: client.used,
            last_seen: moment(client.last_seen).day(),
            check: &client.check,
            sequence: client.sequence,
            registered: moment(client.registered),
            revoked: client.revoked.map(moment),
            reads_until: client.reads_until.map(moment),
        }
    }
}

#[derive(Serialize)]
struct InvitationView<'a> {
    label: &'a str,
    network: Network,
    cap: u64,
    expires: Moment,
    state: &'a str,
}

impl Report for Clients {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let open = self.invitations.iter().filter(|row| row.state == "open");
        let open: Vec<_> = open.collect();
        if self.clients.is_empty() && open.is_empty() {
            return writeln!(
                page,
                "no clients; `maimo client invite` makes an invitation"
            );
        }
        write_clients(page, &self.clients)?;
        if !self.clients.is_empty() && !open.is_empty() {
            writeln!(page)?;
        }
        let mut table = Table::new(&[
            ("invited", Align::Left),
            ("cap", Align::Right),
            ("until", Align::Left),
        ]);
        for row in open {
            table.row([
                shown(&row.label),
                Size(row.cap).to_string(),
                Moment::from(Timestamp(row.expires)).local(),
            ]);
        }
        table.write(page)
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for client in &self.clients {
            page.json("client", &ClientView::of(client))?;
        }
        for row in &self.invitations {
            let view = InvitationView {
                label: &row.label,
                network: row.network,
                cap: row.cap,
                expires: Timestamp(row.expires).into(),
                state: &row.state,
            };
            page.json("invitation", &view)?;
        }
        Ok(())
    }
}

/// Writes clients as a table.
pub(super) fn write_clients(page: &mut Page<'_>, clients: &[ClientRow]) -> io::Result<()> {
    let mut table = Table::new(&[
        ("client", Align::Left),
        ("used", Align::Right),
        ("cap", Align::Right),
        ("last seen", Align::Left),
        ("state", Align::Left),
        ("check words", Align::Left),
    ]);
    for client in clients {
        table.row([
            shown(&client.label),
            Size(client.used).to_string(),
            Size(client.cap).to_string(),
            Moment::from(Timestamp(client.last_seen)).day(),
            if client.revoked.is_some() {
                "revoked"
            } else {
                "active"
            }
            .to_owned(),
            client.check.clone(),
        ]);
    }
    table.write(page)
}

/// Returns a label, which has no control characters, as it is; of an older ledger it could have some.
fn shown(label: &str) -> String {
    label.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_invitation_is_a_picture_and_what_is_longer_is_only_text() {
        assert!(picture(&format!("maimo:invite1{}", "q".repeat(4000))).is_some());
        assert!(picture(&"q".repeat(10_000)).is_none());
    }
}
