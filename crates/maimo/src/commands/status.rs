//! `status`: all there is to know of this node at a glance, without asking a provider at the other end of a network.

use std::{
    borrow::Cow,
    io::{self, Write},
    path::PathBuf,
};

use maimo_client::{
    audit::AuditResult,
    damage::DamageReport,
    status::{RootReport, StatusReport},
    verify::{PastAudit, Proven, ProvenStratum},
};
use maimo_provider::provider::Provider;
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    channel::{commits, network_of, role_text, seen_text, shown_root},
    client::{ClientView, write_clients},
    damage::{DamageView, sentence as damage_sentence, write_revisions},
    verify::{LOSSES, class_name, proven_sentences, result_name},
    volume::{VolumeState, VolumeStatus, VolumeView, write_volumes},
};
use crate::{
    context::Context,
    control::{Answer, ClientRow, FaceRow, Network, Request, astray},
    daemon::{AtWork, Doing, upkeep::state::State},
    error::{CommandError, Exit},
    quantity::{Count, Moment, Size},
    ui::{Page, Report, phase_name, shown_path},
};

/// Show this node: its store, channels, volumes, and what needs attention
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {}

/// Gathers it.
pub(crate) fn run(_args: &Args, ctx: &Context) -> Outcome {
    let provider = provider(ctx)?;
    let mut audits = Vec::new();
    let client = match ctx.view() {
        Ok(view) => {
            audits = view.audits()?;
            Some(view.status()?)
        }
        // A node that only stores for others.
        Err(error) if error.exit() == Exit::NoNode && provider.is_some() => None,
        Err(error) => return Err(error),
    };
    Ok(Box::new(Status {
        home: ctx.places.home.clone(),
        client,
        audits,
        provider,
        upkeep: State::read(&ctx.places.home),
        at_work: ctx.at_work(),
    }))
}

/// Asks the provider that this node is, if it is one.
fn provider(ctx: &Context) -> Result<Option<Standing>, CommandError> {
    if !Provider::exists(&ctx.places.provider) {
        return Ok(None);
    }
    match ctx.ask_provider(Request::Status)? {
        Answer::Status(row) => Ok(Some(Standing {
            faces: row.faces,
            volumes: row.volumes.into_iter().map(VolumeStatus::from).collect(),
            clients: row.clients,
            connections: row.connections,
        })),
        _ => Err(astray()),
    }
}

struct Status {
    home: PathBuf,
    client: Option<StatusReport>,
    audits: Vec<PastAudit>,
    provider: Option<Standing>,
    upkeep: Option<State>,
    /// What the node is at, if it runs.
    at_work: Option<AtWork>,
}

/// How this node stands as a provider.
struct Standing {
    faces: Vec<FaceRow>,
    volumes: Vec<VolumeStatus>,
    clients: Vec<ClientRow>,
    connections: Option<u64>,
}

/// Who and where a provider is on one network.
#[derive(Serialize)]
struct FaceView<'a> {
    network: Network,
    identity: &'a str,
    addresses: &'a [String],
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
    networks: Vec<FaceView<'a>>,
    volumes: Vec<VolumeView<'a>>,
    clients: Vec<ClientView<'a>>,
    connections: Option<u64>,
    /// How the upkeep stands, or stood when it last ran: as in the state file.
    upkeep: Option<&'a State>,
    damage: Vec<DamageView<'a>>,
    running: Option<RunningView<'a>>,
    attention: Vec<String>,
}

/// What a node that runs is at.
#[derive(Serialize)]
struct RunningView<'a> {
    since: Moment,
    doing: Option<DoingView<'a>>,
    waiting: &'a [String],
}

#[derive(Serialize)]
struct DoingView<'a> {
    what: &'a str,
    background: bool,
    since: Moment,
    phase: Option<&'static str>,
    files_done: u64,
    files_total: u64,
    bytes_done: u64,
    bytes_total: u64,
}

impl<'a> RunningView<'a> {
    fn of(at_work: &'a AtWork) -> Self {
        Self {
            since: at_work.since.into(),
            doing: at_work.doing.as_ref().map(|doing| DoingView {
                what: &doing.what,
                background: doing.is_background,
                since: doing.since.into(),
                phase: doing.heard.phase.map(phase_name),
                files_done: doing.heard.files_done,
                files_total: doing.heard.files_total,
                bytes_done: doing.heard.bytes_done,
                bytes_total: doing.heard.bytes_total,
            }),
            waiting: &at_work.waiting,
        }
    }
}

/// A channel as this node knows it without asking its provider.
#[derive(Serialize)]
struct ChannelView<'a> {
    name: &'a str,
    address: &'a str,
    root: Option<String>,
    sequence: u64,
    check: &'a str,
    network: &'static str,
    last_seen: Option<String>,
    role: &'static str,
    behind: u64,
    last_audit: Option<AuditView>,
    proven: Option<ProvenView>,
}

/// What the newest audits of a channel, all intact, prove together.
#[derive(Serialize)]
struct ProvenView {
    since: Moment,
    last: Moment,
    audits: u64,
    strata: Vec<ProvenStratumView>,
}

#[derive(Serialize)]
struct ProvenStratumView {
    class: &'static str,
    slices: u64,
    whole: Option<Moment>,
    detects: Vec<Detects>,
}

/// A loss that stood before the first audit and stands since, and the least probability with which one of them would have failed.
#[derive(Serialize)]
struct Detects {
    loss: f64,
    probability: f64,
}

impl ProvenView {
    fn of(proven: &Proven) -> Self {
        let stratum = |stratum: &ProvenStratum| ProvenStratumView {
            class: class_name(stratum.stratum),
            slices: stratum.slices,
            whole: stratum.whole.map(Moment::from),
            detects: LOSSES
                .into_iter()
                .map(|loss| Detects {
                    loss,
                    probability: stratum.probability(loss),
                })
                .collect(),
        };
        Self {
            since: proven.since.into(),
            last: proven.last.into(),
            audits: proven.audits,
            strata: proven.strata.iter().map(stratum).collect(),
        }
    }
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
        let mut audits = audits
            .iter()
            .filter(|audit| audit.channel == channel.channel);
        let proven = Proven::of(audits.clone());
        let audit = audits.next();
        Self {
            name: &channel.channel,
            address: &channel.address,
            root: shown_root(&channel.root),
            sequence: channel.sequence,
            check: &channel.check,
            network: network_of(&channel.address),
            last_seen: channel.last_seen.map(|day| Moment::from(day).day()),
            role: role_text(channel.role),
            behind: channel.behind,
            last_audit: audit.map(AuditView::of),
            proven: proven.as_ref().map(ProvenView::of),
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
            for channel in client.channels.iter().filter(|channel| channel.behind > 0) {
                attention.push(format!(
                    "mirror {} is behind by {}: it catches up with the next `maimo store` that reaches it",
                    channel.channel,
                    commits(channel.behind)
                ));
            }
            if let Some(why) = &client.behind {
                attention.push(format!(
                    "the catalog was lost and cannot be made anew yet: {why}"
                ));
            }
            attention.extend(client.damage.iter().map(damage_sentence));
            for (channel, times, last) in &client.astray {
                attention.push(format!(
                    "{channel} showed a state that does not follow what was seen, last on {} ({} kept as evidence): `maimo channel repair {channel}`",
                    Moment::from(*last).local(),
                    if *times == 1 { "two signed heads".to_owned() } else { format!("{} pairs of signed heads", Count(*times)) },
                ));
            }
            if !client.is_phrase_verified {
                attention
                    .push("the 24 words were never verified: `maimo verify-phrase`".to_owned());
            }
        }
        for of_one in self.audits.chunk_by(|a, b| a.channel == b.channel) {
            let audit = &of_one[0];

            let is_told = |damage: &DamageReport| damage.channel == audit.channel;
            let is_told = self
                .client
                .iter()
                .any(|client| client.damage.iter().any(is_told));
            if matches!(audit.result, AuditResult::Damaged | AuditResult::Missing) && !is_told {
                attention.push(format!(
                    "the last audit of {} failed: `maimo verify --read-all` says what is lost",
                    audit.channel
                ));
            }
        }
        for trouble in self.upkeep.iter().flat_map(|upkeep| &upkeep.troubles) {
            let since = trouble.since.local();
            let (message, hint) = (&trouble.message, &trouble.hint);
            attention.push(format!("since {since}: {message} ({hint})"));
        }
        for volume in self.provider.iter().flat_map(|provider| &provider.volumes) {
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

impl Standing {
    fn faces(&self) -> impl Iterator<Item = FaceView<'_>> {
        self.faces.iter().map(|face| FaceView {
            network: face.network,
            identity: &face.identity,
            addresses: &face.addresses,
        })
    }

    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        writeln!(page, "\nprovider")?;
        match self.connections {
            Some(1) => writeln!(page, "  running; 1 connection of clients is open")?,
            Some(open) => writeln!(
                page,
                "  running; {} connections of clients are open",
                Count(open)
            )?,
            None => writeln!(page, "  not running: `maimo start` serves clients")?,
        }
        // Where it was never reached, it need not be known either.
        for face in self.faces.iter().filter(|face| !face.addresses.is_empty()) {
            writeln!(page, "  {}", face.addresses.join(", "))?;
            writeln!(page, "    as {}", face.identity)?;
        }
        if !self.volumes.is_empty() {
            writeln!(page, "\nvolumes")?;
            write_volumes(page, &self.volumes)?;
        }
        if !self.clients.is_empty() {
            writeln!(page, "\nclients")?;
            write_clients(page, &self.clients)?;
        }
        Ok(())
    }
}

/// Writes whether a node runs here, and what it is at.
fn write_running(page: &mut Page<'_>, at_work: Option<&AtWork>) -> io::Result<()> {
    let Some(at_work) = at_work else {
        return writeln!(page, "no node runs here: `maimo start` runs one");
    };
    let since = Moment::from(at_work.since).local();
    match &at_work.doing {
        None => writeln!(page, "running since {since}; nothing to do")?,
        Some(doing) => writeln!(page, "running since {since}; {}", doing_text(doing))?,
    }
    for what in &at_work.waiting {
        writeln!(page, "  waiting: {what}")?;
    }
    Ok(())
}

fn doing_text(doing: &Doing) -> String {
    let heard = &doing.heard;
    let mut text = doing.what.clone();
    if let Some(phase) = heard.phase {
        text = format!("{text}: {}", phase_name(phase));
    }
    if heard.files_total > 0 {
        let (done, total) = (Count(heard.files_done), Count(heard.files_total));
        text = format!("{text}, {done} of {total} files");
    } else if heard.files_done > 0 {
        text = format!("{text}, {} files", Count(heard.files_done));
    }
    if heard.bytes_total > 0 {
        let (done, total) = (Size(heard.bytes_done), Size(heard.bytes_total));
        text = format!("{text}, {done} of {total}");
    }
    text
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
            write_running(page, self.at_work.as_ref())?;
            if !client.channels.is_empty() {
                writeln!(page, "\nchannels")?;
            }
            for channel in &client.channels {
                writeln!(page, "  {}  {}", channel.channel, channel.address)?;
                let network = network_of(&channel.address);
                let seen = seen_text(channel.last_seen);
                let role = role_text(channel.role);
                writeln!(page, "    {role}, by {network}, last seen {seen}")?;
                if let Some(root) = shown_root(&channel.root) {
                    writeln!(page, "    root {root}")?;
                }
                let audits = self.audits.iter();
                let mut audits = audits.filter(|audit| audit.channel == channel.channel);
                let proven = Proven::of(audits.clone());
                if let Some(audit) = audits.next() {
                    writeln!(
                        page,
                        "    audited {}: {}, {} + {} slices",
                        Moment::from(audit.time).local(),
                        result_name(audit.result),
                        Count(audit.slices[0]),
                        Count(audit.slices[1]),
                    )?;
                }
                for text in proven.iter().flat_map(proven_sentences) {
                    writeln!(page, "    {text}")?;
                }
            }
        }
        if let Some(upkeep) = self.upkeep.as_ref().filter(|it| !it.folders.is_empty()) {
            writeln!(page, "\nwatched folders")?;
            for folder in &upkeep.folders {
                let path = shown_path(&folder.path);
                writeln!(page, "  {path}  {}", folder.state.text(upkeep.running))?;
            }
        }
        if let Some(provider) = &self.provider {
            provider.text(page)?;
        }
        let attention = self.attention();
        if !attention.is_empty() {
            writeln!(page, "\nneeds attention")?;
        }
        for text in attention {
            writeln!(page, "  {text}")?;
        }
        for damage in self.client.iter().flat_map(|client| &client.damage) {
            if !damage.touched.is_empty() {
                writeln!(page, "\ndamaged on {}", damage.channel)?;
                write_revisions(page, "  ", &damage.touched)?;
            }
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        let client = self.client.as_ref();
        let totals = client.map(|client| &client.totals);
        let channels = client.map_or(&[][..], |client| &client.channels);
        let provider = self.provider.as_ref();
        let volumes = provider.iter().flat_map(|provider| &provider.volumes);
        let clients = provider.iter().flat_map(|provider| &provider.clients);
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
            networks: provider.iter().flat_map(|p| p.faces()).collect(),
            volumes: volumes.map(VolumeView::of).collect(),
            clients: clients.map(ClientView::of).collect(),
            connections: provider.and_then(|provider| provider.connections),
            upkeep: self.upkeep.as_ref(),
            damage: client.map_or_else(Vec::new, |client| {
                client.damage.iter().map(DamageView::of).collect()
            }),
            running: self.at_work.as_ref().map(RunningView::of),
            attention: self.attention(),
        };
        page.json("status", &view)
    }
}
