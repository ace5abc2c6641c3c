//! `ticket`: the right to audit a channel, for a machine that has no key.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Subcommand;
use maimo_client::ticket::{GivenTicket, GivenTickets, TicketRequest};
use maimo_core::ticket::{Budget, Ticket, TicketId};
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{
    context::Context,
    error::CommandError,
    quantity::{Count, Moment, Size, parse_size, parse_span_ms},
    relay::form,
    ui::{Align, Page, Report, Table},
};

/// Let another machine audit a channel, without any key
///
/// Prints a ticket: one line, which `maimo audit-ticket` takes on any machine. Who has it can have the provider prove the channel until it expires or its
/// budget is spent, and learns the sizes of its packs, which ranges of them live, and which packs are vital: how much is stored, and how that
/// changes. Not what: it opens nothing, and no name, file or key is in reach. The provider learns that somebody has a ticket.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The channel's name
    #[arg(required = true)]
    channel: Option<String>,
    /// How long it is good, as in "7 days" [default: 30 days]
    #[arg(long, value_name = "DURATION", value_parser = parse_span_ms)]
    expires: Option<u64>,
    /// How many bytes of answers it gives, over all audits [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    budget: Option<u64>,
    /// How many slices it gives, over all audits [default: 30000]
    #[arg(long, value_name = "N")]
    slices: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize, Subcommand)]
enum Command {
    /// List the tickets given, with what was used of them
    List,
    /// Make a ticket worth nothing from now on
    Revoke {
        /// Its id, as `maimo ticket list` shows it
        #[serde(with = "form::text")]
        id: TicketId,
    },
}

/// Does it.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    match (&args.command, &args.channel) {
        (Some(Command::List), _) => Ok(Box::new(Listed(ctx.client()?.tickets()?))),
        (Some(Command::Revoke { id }), _) => {
            let revoked = ctx.client()?.revoke_ticket(*id)?;
            Ok(Box::new(Listed(GivenTickets {
                tickets: vec![revoked],
                silent: Vec::new(),
            })))
        }
        (None, Some(channel)) => {
            let mut request = TicketRequest::new(channel);
            if let Some(ms) = args.expires {
                request.valid_for = Duration::from_millis(ms);
            }
            request.budget = Budget {
                bytes: args.budget.unwrap_or(request.budget.bytes),
                slices: args.slices.unwrap_or(request.budget.slices),
            };
            let ticket = ctx.client()?.ticket(&request)?;
            Ok(Box::new(Made {
                channel: channel.clone(),
                ticket,
            }))
        }
        (None, None) => Err(CommandError::usage("which channel?")),
    }
}

/// A ticket that was just made.
struct Made {
    channel: String,
    ticket: Ticket,
}

#[derive(Serialize)]
struct TicketView<'a> {
    id: String,
    channel: &'a str,
    ticket: Option<String>,
    expires: Moment,
    budget: Option<u64>,
    slices: Option<u64>,
    used: Option<u64>,
    slices_used: Option<u64>,
    revoked: bool,
}

impl Report for Made {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(page, "{}", self.ticket.to_line())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let terms = self.ticket.terms();
        let view = TicketView {
            id: terms.id.to_string(),
            channel: &self.channel,
            ticket: Some(self.ticket.to_line()),
            expires: terms.expires.into(),
            budget: Some(terms.budget.bytes),
            slices: Some(terms.budget.slices),
            used: Some(0),
            slices_used: Some(0),
            revoked: false,
        };
        page.json("ticket", &view)
    }
}

struct Listed(GivenTickets);

impl Report for Listed {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut table = Table::new(&[
            ("id", Align::Left),
            ("channel", Align::Left),
            ("expires", Align::Left),
            ("used", Align::Right),
            ("slices", Align::Right),
            ("", Align::Left),
        ]);
        for given in &self.0.tickets {
            let budget = given.ticket.as_ref().map(|ticket| ticket.terms().budget);
            let of = |used: String, budget: Option<String>| match budget {
                Some(budget) => format!("{used} of {budget}"),
                None => used,
            };
            let (bytes, slices) = given.used.map_or((0, 0), |used| (used.bytes, used.slices));
            table.row([
                given.id.to_string(),
                given.channel.clone(),
                Moment::from(given.expires).local(),
                of(
                    Size(bytes).to_string(),
                    budget.map(|budget| Size(budget.bytes).to_string()),
                ),
                of(
                    Count(slices).to_string(),
                    budget.map(|budget| Count(budget.slices).to_string()),
                ),
                what(given).to_owned(),
            ]);
        }
        table.write(page)?;
        for (channel, error) in &self.0.silent {
            writeln!(
                page,
                "What channel {channel} knows of them is not known: {error}"
            )?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        for given in &self.0.tickets {
            let budget = given.ticket.as_ref().map(|ticket| ticket.terms().budget);
            let view = TicketView {
                id: given.id.to_string(),
                channel: &given.channel,
                ticket: given.ticket.as_ref().map(Ticket::to_line),
                expires: given.expires.into(),
                budget: budget.map(|budget| budget.bytes),
                slices: budget.map(|budget| budget.slices),
                used: given.used.map(|used| used.bytes),
                slices_used: given.used.map(|used| used.slices),
                revoked: given.is_revoked,
            };
            page.json("ticket", &view)?;
        }
        Ok(())
    }
}

fn what(given: &GivenTicket) -> &'static str {
    match (given.is_revoked, &given.ticket) {
        (true, _) => "revoked",
        (false, None) => "given by another machine",
        (false, Some(_)) => "",
    }
}
