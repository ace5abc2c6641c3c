//! `audit-ticket`: is somebody else's store still there? `check-receipt`: what such an audit came to, found again from its file.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    path::PathBuf,
};

use maimo_client::{
    clock::Clock,
    ticket::{
        audit::{TicketAudit, TicketAuditRequest, audit_ticket},
        receipt,
    },
};
use maimo_core::{
    address::Address, audit::AuditReceipt, line::LINE_CHARACTERS_MAX, ticket::Ticket,
};
use serde::Serialize;

use super::{
    Outcome,
    verify::{StratumView, failed_by, result_name, sentence},
};
use crate::{
    connect,
    context::Context,
    error::{CommandError, Exit},
    quantity::{Moment, Size},
    ui::{Page, Report},
};

/// Prove a store that is not yours, with a ticket from its owner
///
/// Needs no node, no key and no phrase, and leaves nothing behind. Asks the ticket's provider for blocks drawn at random and checks them against the
/// newest signed state that it shows, which must be the ticket's or descend from it. What it learns are sizes of packs, which ranges of them
/// live and which packs are vital; the blocks themselves are sealed.
///
/// Exits with 0 if all was proven, 20 if something is damaged or missing, 21 if the provider is away or refuses, 22 if it shows an older state or
/// another history than the ticket's.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The ticket, maimo:ticket1...; - to read it from standard input
    ticket: String,
    /// How many blocks of each stratum
    #[arg(long, value_name = "N", default_value_t = 460)]
    slices: u32,
    /// Where the provider is, if not where the ticket says: an address, or a folder
    #[arg(long, value_name = "ADDRESS|DIRECTORY")]
    at: Vec<String>,
    /// Keep what was asked and answered in a new file, which anybody can check again with `maimo check-receipt`
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// Check the receipt of an audit again, from the file alone
///
/// Finds what the audit came to from what the provider signed: asks nobody, and takes nobody's word. What a receipt cannot show is that its blocks
/// were drawn by chance; and it speaks of the moment when it was made. Exits as the audit did.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The file that `maimo audit-ticket --receipt` wrote
    file: PathBuf,
}

/// Asks and checks.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let ticket = read_ticket(&args.ticket)?;
    let addresses = args.at.iter().map(|text| place(text));
    let request = TicketAuditRequest {
        slices: args.slices.into(),
        addresses: addresses.collect::<Result<_, _>>()?,
        keep_receipt: args.receipt.is_some(),
    };
    // Before anything is spent of the budget.
    let file = args.receipt.as_ref().map(|path| {
        let created = File::create_new(path);
        created.map_err(|error| CommandError::io("make", path, &error))
    });
    let mut file = file.transpose()?;
    let connector = ctx.network.and(connect::existing());
    let progress = ctx.ui.progress();
    let clock = Clock::default();
    let audited = audit_ticket(&*connector, &ticket, &request, &clock, progress.control());
    let written = match (&audited, &mut file, &args.receipt) {
        (Ok((_, Some(receipt))), Some(file), Some(path)) => {
            let written = file.write_all(&receipt.encode());
            let written = written.and_then(|()| file.sync_all());
            written.map_err(|error| CommandError::io("write", path, &error))?;
            true
        }
        (_, Some(_), Some(path)) => {
            // Nothing was answered that could be kept.
            fs::remove_file(path).map_err(|error| CommandError::io("remove", path, &error))?;
            ctx.ui
                .warn("There is no receipt: the provider answered nothing.");
            false
        }
        _ => false,
    };
    let (audit, _) = audited?;
    let receipt = args.receipt.clone().filter(|_| written);
    Ok(Box::new(Audited { audit, receipt }))
}

/// Reads a receipt and checks it.
pub(crate) fn check(args: &CheckArgs) -> Outcome {
    let failed = |error| CommandError::io("read", &args.file, &error);
    let file = File::open(&args.file).map_err(failed)?;
    let mut bytes = Vec::new();
    let longest = AuditReceipt::LENGTH_MAX as u64 + 1;
    file.take(longest).read_to_end(&mut bytes).map_err(failed)?;
    let parsed = AuditReceipt::parse(&bytes);
    drop(bytes);
    let receipt = parsed.map_err(|error| {
        CommandError::classified(Exit::Failed, &error)
            .hint("ask the auditor for the file as it was written")
    })?;
    let audit = receipt::check_receipt(&receipt)?;
    Ok(Box::new(Audited {
        audit,
        receipt: Some(args.file.clone()),
    }))
}

fn read_ticket(text: &str) -> Result<Ticket, CommandError> {
    let mut line = text.to_owned();
    if text == "-" {
        line.clear();
        let mut input = io::stdin().lock().take(LINE_CHARACTERS_MAX as u64 + 2);
        input
            .read_to_string(&mut line)
            .map_err(|error| CommandError::usage(format!("cannot read the ticket: {error}")))?;
    }
    Ticket::from_line(line.trim()).map_err(|error| CommandError::classified(Exit::Usage, &error))
}

/// Returns the address of what a user names.
fn place(text: &str) -> Result<String, CommandError> {
    match text.parse::<Address>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => connect::address_of(text.as_ref()),
    }
}

struct Audited {
    audit: TicketAudit,
    receipt: Option<PathBuf>,
}

#[derive(Serialize)]
struct AuditedView<'a> {
    ticket: String,
    channel: String,
    root: String,
    sequence: Option<u64>,
    made: Option<Moment>,
    time: Moment,
    answered: Option<Moment>,
    strata: Vec<StratumView>,
    bytes_received: u64,
    result: &'static str,
    detail: Option<&'a str>,
    receipt: Option<String>,
}

impl Report for Audited {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let TicketAudit { state, audit, .. } = &self.audit;
        let result = result_name(audit.result);
        writeln!(page, "channel {}: {result}", self.audit.channel)?;
        if let Some(state) = state {
            writeln!(page, "  root {}", state.root)?;
            writeln!(
                page,
                "  state {}, made {} by its owner's clock",
                state.sequence,
                Moment::from(state.time).local()
            )?;
        }
        if let Some(answered) = self.audit.answered {
            let answered = Moment::from(answered).local();
            writeln!(page, "  answered {answered} by the provider's clock")?;
        }
        for stratum in &audit.strata {
            writeln!(page, "  {}", sentence(stratum))?;
        }
        if let Some(detail) = &audit.detail {
            writeln!(page, "  {detail}")?;
        }
        if audit.bytes_received > 0 {
            writeln!(page, "  {} received", Size(audit.bytes_received))?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let audit = &self.audit.audit;
        let view = AuditedView {
            ticket: self.audit.ticket.to_string(),
            channel: self.audit.channel.to_string(),
            root: audit.root.to_string(),
            sequence: self.audit.state.map(|state| state.sequence),
            made: self.audit.state.map(|state| state.time.into()),
            time: self.audit.time.into(),
            answered: self.audit.answered.map(Moment::from),
            strata: audit.strata.iter().map(StratumView::of).collect(),
            bytes_received: audit.bytes_received,
            result: result_name(audit.result),
            detail: audit.detail.as_deref(),
            receipt: self
                .receipt
                .as_deref()
                .map(|path| path.display().to_string()),
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        failed_by(&self.audit.audit).map_or(Ok(()), |error| {
            Err(error.hint("tell the store's owner, who can find out more with `maimo verify`"))
        })
    }
}
