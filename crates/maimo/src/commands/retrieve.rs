//! `retrieve` and `dump`: files come back, verified while they stream.

use std::{
    io::{self, Write},
    path::{PathBuf, absolute},
};

use maimo_client::{
    dump::DumpRequest,
    retrieve::{RetrieveFailure, RetrieveReport, RetrieveRequest},
};
use maimo_core::{clock::Timestamp, error::ErrorKind};
use serde::{Deserialize, Serialize};

use super::{Outcome, absolute_all};
use crate::{
    context::Context,
    error::{CommandError, Exit},
    quantity::{Count, Size, parse_moment},
    relay::form,
    ui::{Page, Report, Told, shown_path},
};

/// Bring files back
///
/// Every byte is checked against the root before it is written; no half file ever stands under its final name. Nothing that is there is
/// overwritten unless told.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// Files and folders, by their paths on the machine they came from
    #[serde(with = "form::paths")]
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Where to; made if it is not there
    #[serde(with = "form::path")]
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// This revision of a file, as `maimo history` numbers it
    #[arg(long, value_name = "N", conflicts_with = "at")]
    revision: Option<u64>,
    /// As it was at TIME: 2026-11-23, "2026-11-23 18:00", 2026-11-23T18:00:00Z or "2 days ago"
    #[serde(with = "form::time")]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Option<Timestamp>,
    /// Files of this machine [default: this one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Replace what is in the way
    #[arg(long)]
    overwrite: bool,
}

/// Write a file's content to standard output
///
/// Verified as it streams: after an error, what came before it is right and the rest is missing.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct DumpArgs {
    /// The file, by its path on the machine it came from
    #[serde(with = "form::path")]
    path: PathBuf,
    /// This revision, as `maimo history` numbers it
    #[arg(long, value_name = "N", conflicts_with = "at")]
    revision: Option<u64>,
    /// As it was at TIME
    #[serde(with = "form::time")]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    at: Option<Timestamp>,
    /// The file of this machine [default: this one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// Retrieves them.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let request = RetrieveRequest {
        paths: absolute_all(&ctx.folder, &args.paths)?,
        to: absolute(ctx.folder.path(&args.to)?)
            .map_err(|error| CommandError::io("find", &args.to, &error))?,
        revision: args.revision,
        at: args.at,
        source: args.source.clone(),
        overwrite: args.overwrite,
    };
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let report = client.retrieve(&request, progress.control())?;
    Ok(Box::new(Retrieved(report)))
}

/// Writes one to standard output.
pub(crate) fn dump(args: &DumpArgs, ctx: &Context) -> Outcome {
    let [path]: [PathBuf; 1] = absolute_all(&ctx.folder, std::slice::from_ref(&args.path))?
        .try_into()
        .map_err(|_| CommandError::usage("one path at a time"))?;
    let mut client = ctx.client()?;
    let mut page = ctx.ui.page();
    let progress = ctx.ui.progress_beside_bytes();
    let request = DumpRequest {
        path,
        revision: args.revision,
        at: args.at,
        source: args.source.clone(),
    };
    client.dump(&request, &mut page, progress.control())?;
    page.flush()?;
    Ok(Box::new(Told))
}

struct Retrieved(RetrieveReport);

#[derive(Serialize)]
struct RetrievedView {
    files: u64,
    bytes_written: u64,
    bytes_received: u64,
    errors: u64,
}

impl Report for Retrieved {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(
            page,
            "{} files, {} written, {} received",
            Count(self.0.files),
            Size(self.0.bytes_written),
            Size(self.0.bytes_received),
        )
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = RetrievedView {
            files: self.0.files,
            bytes_written: self.0.bytes_written,
            bytes_received: self.0.bytes_received,
            errors: self.0.errors,
        };
        page.json("summary", &view)
    }

    /// Bytes that are not what they were are worse than files that could not be written, and have a code of their own.
    fn verdict(&self) -> Result<(), CommandError> {
        let failures = &self.0.failures;
        let of_kind = |kind| failures.iter().filter(move |failure| failure.kind == kind);
        if let Some(worst) = of_kind(ErrorKind::ProviderMisbehaved).next() {
            let path = shown_path(&worst.path);
            let count = Count(of_kind(ErrorKind::ProviderMisbehaved).count() as u64);
            return Err(CommandError::new(
                Exit::AuditFailed,
                "provider_misbehaved",
                format!(
                    "{count} files are damaged or missing at the provider; the first: {path}: {}",
                    worst.message
                ),
            )
            .hint("`maimo verify --read-all` tells how much is lost"));
        }
        let away = |failure: &&RetrieveFailure| {
            matches!(
                failure.kind,
                ErrorKind::Network | ErrorKind::ProviderRefused
            )
        };
        if let Some(first) = failures.iter().find(away) {
            let path = shown_path(&first.path);
            let count = Count(failures.iter().filter(away).count() as u64);
            return Err(CommandError::new(
                Exit::Provider,
                "provider_refused",
                format!(
                    "{count} files cannot be had now; the first: {path}: {}",
                    first.message
                ),
            )
            .hint("is the provider's disk mounted and readable? then try again"));
        }
        CommandError::in_part(self.0.errors)
    }
}
