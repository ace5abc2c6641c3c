//! `status`: all there is to know of this node at a glance, without asking a provider.

use std::{
    borrow::Cow,
    io::{self, Write},
    path::PathBuf,
};

use maimo_client::{
    audit::AuditResult,
    status::{RootReport, StatusReport},
    verify::PastAudit,
};
use serde::Serialize;

use super::{
    Outcome,
    channel::shown_root,
    verify::result_name,
    volume::{self, VolumeState, VolumeStatus, VolumeView, write_volumes},
};
use crate::{
    context::Context,
    error::Exit,
    quantity::{Count, Moment, Size},
    ui::{Page, Report, shown_path},
};

/// Show this node: its store, channels, volumes, and what needs attention
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Gathers it.
pub(crate) fn run(_args: &Args, ctx: &Context) -> Outcome {
    let volumes = volume::all(ctx)?;
    let mut audits = Vec::new();
    let client = match ctx.client() {
        Ok(client) => {
            audits = client.last_audits()?;
            Some(client.status()?)
        }
        // A node that only stores for others.
        Err(error) if error.exit() == Exit::NoNode && !volumes.is_empty() => None,
        Err(error) => return Err(error),
    };
    Ok(Box::new(Status {
        home: ctx.places.home.clone(),
        client,
        audits,
        volumes,
    }))
}

struct Status {
    home: PathBuf,
    client: Option<StatusReport>,
    audits: Vec<PastAudit>,
    volumes: Vec<VolumeStatus>,
}

#[derive(Serialize)]
struct StatusView<'a> {
    home: Cow<'a, str>,
    source: Option<&'a str>,
    sources: &'a [String],
    sequence: Option<u64>,
    files: Option<u64>,
    bytes: Option<u64>,
    files_evicted: Option<u64>,
    bytes_evicted: Option<u64>,
    revisions: Option<u64>,
    channels: Vec<ChannelView<'a>>,
    volumes: Vec<VolumeView<'a>>,
    attention: Vec<String>,
}

/// A channel as this node knows it without asking its provider.
#[derive(Serialize)]
struct ChannelView<'a> {
    name: &'a str,
    address: &'a str,
    root: Option<String>,
    sequence: u64,
    check: &'a str,
    last_audit: Option<AuditView>,
}

/// What the newest audit of a channel came to.
#[derive(Serialize)]
struct AuditView {
    time: Moment,
    result: &'static str,
    slices_data: u64,
    slices_vital: u64,
    failed: u64,
}

impl AuditView {
    fn of(audit: &PastAudit) -> Self {
        Self {
            time: audit.time.into(),
            result: result_name(audit.result),
            slices_data: audit.slices[0],
            slices_vital: audit.slices[1],
            failed: audit.failed,
        }
    }
}

impl<'a> ChannelView<'a> {
    fn of(channel: &'a RootReport, audits: &[PastAudit]) -> Self {
        let mut audits = audits.iter();
        let audit = audits.find(|audit| audit.channel == channel.channel);
        Self {
            name: &channel.channel,
            address: &channel.address,
            root: shown_root(&channel.root),
            sequence: channel.sequence,
            check: &channel.check,
            last_audit: audit.map(AuditView::of),
        }
    }
}

impl Status {
    /// Returns what the user should look at, a sentence each.
    fn attention(&self) -> Vec<String> {
        let mut attention = Vec::new();
        if let Some(client) = &self.client {
            if client.channels.is_empty() {
                attention.push("no channel is open: `maimo channel open DIRECTORY`".to_owned());
            }
            if let Some(why) = &client.behind {
                attention.push(format!(
                    "the catalog was lost and cannot be made anew yet: {why}"
                ));
            }
            if !client.is_phrase_verified {
                attention
                    .push("the 24 words were never verified: `maimo verify-phrase`".to_owned());
            }
        }
        for audit in &self.audits {
            if matches!(audit.result, AuditResult::Damaged | AuditResult::Missing) {
                attention.push(format!(
                    "the last audit of {} failed: `maimo verify --read-all` says what is lost",
                    audit.channel
                ));
            }
        }
        for volume in &self.volumes {
            let path = shown_path(&volume.path);
            match volume.state {
                VolumeState::Ready | VolumeState::Draining => {}
                VolumeState::Unavailable => {
                    attention.push(format!("volume {path} is not there; is its disk mounted?"));
                }
                _ => {
                    attention.push(format!(
                        "volume {path} failed to keep what it was given: check its disk"
                    ));
                }
            }
        }
        attention
    }
}

impl Report for Status {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        if let Some(client) = &self.client {
            let totals = &client.totals;
            writeln!(
                page,
                "this machine is `{}`; state {}",
                client.label, client.sequence
            )?;
            if client.sources.len() > 1 {
                writeln!(page, "machines of the store: {}", client.sources.join(", "))?;
            }
            writeln!(
                page,
                "{} files, {}; {} more, {}, deleted here on purpose",
                Count(totals.files_present),
                Size(totals.bytes_present),
                Count(totals.files_evicted),
                Size(totals.bytes_evicted),
            )?;
            if !client.channels.is_empty() {
                writeln!(page, "\nchannels")?;
            }
            for channel in &client.channels {
                writeln!(page, "  {}  {}", channel.channel, channel.address)?;
                if let Some(root) = shown_root(&channel.root) {
                    writeln!(page, "    root {root}")?;
                }
                let mut audits = self.audits.iter();
                if let Some(audit) = audits.find(|audit| audit.channel == channel.channel) {
                    writeln!(
                        page,
                        "    audited {}: {}, {} + {} slices",
                        Moment::from(audit.time).local(),
                        result_name(audit.result),
                        Count(audit.slices[0]),
                        Count(audit.slices[1]),
                    )?;
                }
            }
        }
        if !self.volumes.is_empty() {
            writeln!(page, "\nvolumes")?;
            write_volumes(page, &self.volumes)?;
        }
        let attention = self.attention();
        if !attention.is_empty() {
            writeln!(page, "\nneeds attention")?;
        }
        for text in attention {
            writeln!(page, "  {text}")?;
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let client = self.client.as_ref();
        let totals = client.map(|client| &client.totals);
        let channels = client.map_or(&[][..], |client| &client.channels);
        let view = StatusView {
            home: self.home.to_string_lossy(),
            source: client.map(|client| client.label.as_str()),
            sources: client.map_or(&[][..], |client| &client.sources),
            sequence: client.map(|client| client.sequence),
            files: totals.map(|totals| totals.files_present),
            bytes: totals.map(|totals| totals.bytes_present),
            files_evicted: totals.map(|totals| totals.files_evicted),
            bytes_evicted: totals.map(|totals| totals.bytes_evicted),
            revisions: totals.map(|totals| totals.revisions),
            channels: channels
                .iter()
                .map(|channel| ChannelView::of(channel, &self.audits))
                .collect(),
            volumes: self.volumes.iter().map(VolumeView::of).collect(),
            attention: self.attention(),
        };
        page.json("status", &view)
    }
}
