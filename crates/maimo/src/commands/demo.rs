//! `demo`: the main job, before one's eyes, in a scratch folder: store, delete, audit against 32 bytes, retrieve, compare.
//!
//! It works on a copy: the user's own files are read once and never touched. What it claims it has checked: it ends well only if every file was
//! deleted here, every audited block was right, and what came back is the same in every byte, name, mode, time and link.

mod copy;
mod made_up;
mod manifest;
mod provider;
mod road;
mod scratch;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use maimo_client::{
    audit::{AuditResult, Sample},
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    progress::Control,
    retrieve::RetrieveRequest,
    store::{StoreReport, StoreRequest},
    verify::VerifyRequest,
};
use serde::Serialize;

use self::{manifest::Manifest, provider::Served, road::Road, scratch::Scratch};
use super::{Outcome, verify::sentence};
use crate::{
    connect,
    context::Context,
    error::{CommandError, Exit},
    quantity::{Count, Size},
    ui::{Page, Report, Ui, shown_path},
};

/// Watch the whole job in a scratch folder: store, delete, audit, retrieve, compare
///
/// Makes a provider and a client on this machine, which speak over TCP with the keys, the TLS and the invitation that strangers would use;
/// stores a copy of PATH (or made-up files), deletes that copy, audits the provider against the 32 bytes that are left, retrieves everything
/// and compares it byte for byte. PATH itself is only read. Nothing is left behind unless told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to store [default: some thousand made-up files, 96 MiB]
    path: Option<PathBuf>,
    /// Reach the provider over Tor: a private network on this machine if a tor is installed, else the public one
    #[arg(long)]
    tor: bool,
    /// Leave the scratch folder, to look around in it
    #[arg(long)]
    keep: bool,
}

/// What the provider holds with one channel and the client calls it.
const CHANNEL: &str = "demo";

/// Runs it.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let mut scratch = Scratch::make()?;
    if args.keep {
        scratch.keep();
    }
    let progress = ctx.ui.progress();
    let demo = Demo {
        ui: &ctx.ui,
        control: progress.control(),
        folder: scratch.path(),
    };
    let result = demo.run(args);
    drop(progress);
    if result.is_err() {
        // Evidence, unless the user ended it.
        let interrupted = matches!(&result, Err(error) if error.exit() == Exit::Interrupted);
        if !interrupted {
            scratch.keep();
        }
    }
    if scratch.is_kept() {
        ctx.ui
            .say(&format!("Left in {}", shown_path(scratch.path())));
    }
    Ok(Box::new(result?))
}

struct Demo<'a> {
    ui: &'a Ui,
    control: &'a Control,
    folder: &'a Path,
}

impl Demo<'_> {
    fn run(&self, args: &Args) -> Result<Shown, CommandError> {
        let began = Instant::now();
        let files = self.folder.join("files");
        let before = self.prepare(args.path.as_deref(), &files)?;
        self.step(
            2,
            "Making a provider that serves, and a client with a new store and its 24 words.",
        );
        let road = if args.tor {
            Road::tor(self.folder, self.ui)?
        } else {
            Road::loopback(self.folder, self.ui)
        };
        let provider = self.folder.join("provider");
        let served = Served::start(
            &provider,
            &road.network,
            road.entrance.clone(),
            self.control,
        )?;
        let mut client = self.open(&road, &served)?;
        let stored = self.store(&mut client, &files, false)?;
        self.delete(&mut client, &files, &before)?;
        let slices = self.audit(&mut client)?;
        let differences = self.retrieve(&mut client, &files, &before)?;
        Ok(Shown {
            files: before.files(),
            bytes: before.bytes(),
            bytes_read: stored.bytes_read,
            bytes_stored: stored.bytes_stored,
            slices,
            differences,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    fn prepare(&self, path: Option<&Path>, files: &Path) -> Result<Manifest, CommandError> {
        let failed = |error: io::Error| CommandError::io("fill", files, &error);
        if let Some(path) = path {
            self.step(
                1,
                &format!("Copying {}: yours are only read.", shown_path(path)),
            );
            let left_out =
                copy::copy(path, files).map_err(|error| CommandError::io("copy", path, &error))?;
            for (path, why) in left_out {
                self.ui
                    .warn(&format!("{}: left out: {why}", shown_path(&path)));
            }
        } else {
            self.step(
                1,
                "Making up files: small ones, large ones, a duplicate, links, odd names, holes.",
            );
            made_up::make(files, made_up::Amount::default()).map_err(failed)?;
        }
        let manifest = Manifest::of(files).map_err(failed)?;
        let (count, bytes) = (Count(manifest.files()), Size(manifest.bytes()));
        self.fact(&format!(
            "{count} files, {bytes}; each byte hashed, to be compared at the end."
        ));
        Ok(manifest)
    }

    fn open(&self, road: &Road, served: &Served) -> Result<Client, CommandError> {
        self.fact(&format!(
            "The provider is at {}, over {}.",
            served.address(),
            road.words
        ));
        let home = self.folder.join("client");
        let options = InitOptions {
            phrase: None,
            source: Some("demo".to_owned()),
            passphrase: None,
        };
        let made = Client::init(&home, &options)?;
        let connector = road.network.and(connect::existing());
        let mut client = Client::open(&home, OpenOptions::new(connector))?;
        let words = made
            .phrase
            .ok_or_else(|| broken("a new store has no words"))?;
        if !client.verify_phrase(words.as_str())? {
            return Err(broken("the store does not know its own words"));
        }
        let request = OpenChannelRequest {
            address: served.invitation(),
            name: Some(CHANNEL.to_owned()),
        };
        client.open_channel(&request, self.control)?;
        self.fact("The client took up its invitation; each has proven its key to the other, and the provider sees sealed packs and no key.");
        Ok(client)
    }

    fn store(
        &self,
        client: &mut Client,
        files: &Path,
        delete: bool,
    ) -> Result<StoreReport, CommandError> {
        if !delete {
            self.step(3, "Storing: cut, deduplicated, compressed, sealed, sent.");
        }
        let began = Instant::now();
        let request = StoreRequest {
            paths: vec![files.to_owned()],
            excludes: Vec::new(),
            domains: Vec::new(),
            delete_local: delete,
            single_copy: delete,
            dry_run: false,
            ..StoreRequest::default()
        };
        let report = client.store(&request, self.control)?;
        // A file of several names is stored and not deleted, and told as a trouble of the deletion.
        if !delete && !report.troubles.is_empty() {
            return Err(broken("some files could not be stored"));
        }
        if !delete {
            let (read, stored) = (Size(report.bytes_read), Size(report.bytes_stored));
            self.fact(&format!(
                "{read} read, {stored} at the provider, {}.",
                pace(report.bytes_read, began.elapsed())
            ));
            for (_, root) in &report.roots {
                self.fact(&format!("The 32 bytes to keep: {root}"));
            }
        }
        Ok(report)
    }

    fn delete(
        &self,
        client: &mut Client,
        files: &Path,
        before: &Manifest,
    ) -> Result<(), CommandError> {
        self.step(
            4,
            "Deleting the local copy, each file once possession of all its bytes is proven.",
        );
        let report = self.store(client, files, true)?;
        self.fact(&format!(
            "{} of {} files deleted.",
            Count(report.files_deleted),
            Count(before.files())
        ));
        // Folders, links and files with several names are nobody's to delete but the user's: here, the demo's.
        fs::remove_dir_all(files).map_err(|error| CommandError::io("remove", files, &error))?;
        self.fact("What else was in that folder is removed too: nothing of it is left here.");
        Ok(())
    }

    fn audit(&self, client: &mut Client) -> Result<u64, CommandError> {
        self.step(
            5,
            "Auditing: blocks drawn at random, checked against the 32 bytes.",
        );
        let began = Instant::now();
        let request = VerifyRequest {
            channels: Vec::new(),
            sample: Sample::default(),
            path: None,
        };
        let audits = client.verify(&request, self.control)?;
        let mut slices = 0;
        for audit in &audits {
            for stratum in &audit.strata {
                self.fact(&format!("{}.", sentence(stratum)));
                slices += stratum.slices;
            }
            self.fact(&format!(
                "{} of traffic, {} ms.",
                Size(audit.bytes_received),
                began.elapsed().as_millis()
            ));
            if audit.result != AuditResult::Intact {
                let detail = audit.detail.as_deref().unwrap_or("no more is known");
                return Err(CommandError::new(
                    Exit::AuditFailed,
                    "provider_misbehaved",
                    format!("the audit failed: {detail}"),
                ));
            }
        }
        if slices == 0 {
            self.fact("So little is in no pack yet: it is in the commit, which was read whole and checked.");
        }
        Ok(slices)
    }

    fn retrieve(
        &self,
        client: &mut Client,
        files: &Path,
        before: &Manifest,
    ) -> Result<Vec<String>, CommandError> {
        self.step(6, "Retrieving everything, verified while it streams.");
        let to = self.folder.join("retrieved");
        let began = Instant::now();
        let request = RetrieveRequest {
            paths: vec![files.to_owned()],
            to: to.clone(),
            revision: None,
            at: None,
            source: None,
            overwrite: false,
        };
        let report = client.retrieve(&request, self.control)?;
        let (count, bytes) = (Count(report.files), Size(report.bytes_written));
        self.fact(&format!(
            "{count} files, {bytes}, {}.",
            pace(report.bytes_written, began.elapsed())
        ));
        self.step(7, "Comparing what came back with what there was.");
        // What is stored by an absolute path comes back below the folder by all of it.
        let back = to.join(files.strip_prefix("/").unwrap_or(files));
        let after = Manifest::of(&back).map_err(|error| CommandError::io("read", &back, &error))?;
        let differences = before.differences(&after);
        for difference in differences.iter().take(20) {
            self.ui.warn(difference);
        }
        if differences.is_empty() {
            self.fact(&format!(
                "{} paths, {}: the same in every byte, name, mode, owner, time, attribute and link.",
                Count(before.paths()),
                Size(before.bytes())
            ));
        }
        Ok(differences)
    }

    fn step(&self, number: u32, text: &str) {
        self.ui.say(&format!("{number}/7  {text}"));
    }

    fn fact(&self, text: &str) {
        self.ui.say(&format!("     {text}"));
    }
}

/// Returns an error that says the demo did not show what it promised.
fn broken(message: &str) -> CommandError {
    CommandError::new(Exit::Failed, "bug", message)
}

fn pace(bytes: u64, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let rate = Size(bytes.saturating_mul(1000) / millis);
    format!("{}.{:02} s, {rate}/s", millis / 1000, millis % 1000 / 10)
}

struct Shown {
    files: u64,
    bytes: u64,
    bytes_read: u64,
    bytes_stored: u64,
    slices: u64,
    differences: Vec<String>,
    seconds: f64,
}

#[derive(Serialize)]
struct ShownView {
    files: u64,
    bytes_read: u64,
    bytes_stored: u64,
    slices: u64,
    intact: bool,
    seconds: f64,
}

impl Report for Shown {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        let intact = if self.differences.is_empty() {
            "intact"
        } else {
            "NOT intact"
        };
        writeln!(
            page,
            "{intact}: {} files, {} stored as {}, {} blocks audited, all in {:.1} s",
            Count(self.files),
            Size(self.bytes),
            Size(self.bytes_stored),
            Count(self.slices),
            self.seconds,
        )
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let view = ShownView {
            files: self.files,
            bytes_read: self.bytes_read,
            bytes_stored: self.bytes_stored,
            slices: self.slices,
            intact: self.differences.is_empty(),
            seconds: self.seconds,
        };
        page.json("summary", &view)
    }

    fn verdict(&self) -> Result<(), CommandError> {
        match self.differences.len() {
            0 => Ok(()),
            count => Err(broken(&format!(
                "{count} paths came back other than they were"
            ))),
        }
    }
}
