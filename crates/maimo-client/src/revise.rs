//! Saying something about what is stored: that a path is no longer wanted, that a run is kept, what a policy keeps. Records of the journal,
//! nothing else; what they let go of leaves with the next prune.

use std::path::PathBuf;

use maimo_vault::{
    journal::{
        record::{DROPPED_MAX, PathEvent, Record, TEXT_BYTES_MAX},
        state::Presence,
    },
    name::RecordId,
    retention::Policy,
};

use crate::{
    browse::{ListRequest, RunReport, WhichSource, from_path, run_named, run_report, unknown_path},
    client::Client,
    commit::{Change, Outcome, too_busy},
    error::ClientError,
    progress::Control,
    view::View,
};

/// How often a pin is held against a newer state after other devices were faster.
const ATTEMPTS: u32 = 8;

/// What is to be taken out of the store.
#[derive(Debug, Clone, Default)]
pub struct RemoveRequest {
    /// Folders, files or globs.
    pub paths: Vec<String>,
    /// Only this revision of the one path given, by its number.
    pub revision: Option<u64>,
    /// Whose paths.
    pub source: WhichSource,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoveReport {
    /// Paths that are no longer in the store.
    pub files: u64,
    /// Their bytes, or those of the revision.
    pub bytes: u64,
    /// Revisions let go of at once.
    pub revisions: u64,
    /// The store's sequence afterwards.
    pub sequence: u64,
}

/// A policy as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReport {
    /// The paths it is for: a glob; empty for the store's own.
    pub pattern: String,
    /// What it keeps.
    pub policy: Policy,
}

impl View {
    /// Returns the store's policy, then those of patterns.
    ///
    /// # Errors
    ///
    /// As [`Client::policies`].
    pub fn policies(&self) -> Result<Vec<PolicyReport>, ClientError> {
        let reader = self.known()?;
        let mut policies = vec![PolicyReport {
            pattern: String::new(),
            policy: reader.policy()?,
        }];
        for (pattern, policy) in reader.policies()? {
            if let (false, Some(policy)) = (pattern.is_empty(), policy) {
                policies.push(PolicyReport { pattern, policy });
            }
        }
        Ok(policies)
    }
}

impl Client {
    /// Takes paths out of the store: from the next prune on only what a policy keeps of them is left. Local files are not touched; a file that is
    /// still there is stored again by the next run that finds it.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, revise::RemoveRequest};
    /// # fn remove(client: &mut Client) -> Result<(), ClientError> {
    /// let request = RemoveRequest {
    ///     paths: vec!["/home/u/cache".to_owned()],
    ///     ..RemoveRequest::default()
    /// };
    /// client.remove(&request, &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing in the store that the paths mean, or whatever keeps a commit from being made.
    pub fn remove(
        &mut self,
        request: &RemoveRequest,
        control: &Control,
    ) -> Result<RemoveReport, ClientError> {
        self.engine.sync(control)?;
        let (records, mut report) = match request.revision {
            Some(number) => self.drop_revision(request, number)?,
            None => self.remove_paths(request)?,
        };
        if records.is_empty() {
            let path = PathBuf::from(request.paths.first().map_or("", String::as_str));
            return Err(unknown_path(&path));
        }
        if request.dry_run {
            report.sequence = self.engine.catalog.position()?.sequence;
        } else {
            report.sequence = self.engine.commit_records(&records, control)?.sequence;
        }
        Ok(report)
    }

    fn remove_paths(
        &self,
        request: &RemoveRequest,
    ) -> Result<(Vec<Record>, RemoveReport), ClientError> {
        let list = ListRequest {
            patterns: request.paths.clone(),
            all: true,
            at: None,
            source: request.source.clone(),
        };
        let reader = self.engine.known()?;
        let filter = self.engine.filter(&reader, &list)?;
        let mut records = Vec::new();
        let mut report = RemoveReport::default();
        if filter.patterns.is_empty() {
            return Ok((records, report));
        }
        for listed in reader.list(&filter)? {
            if listed.presence == Presence::Removed {
                continue;
            }
            report.files += 1;
            if let maimo_vault::journal::content::Content::Regular { size, .. } =
                listed.revision.content
            {
                report.bytes += size;
            }
            records.push(Record::Path {
                source: listed.revision.source,
                path: listed.revision.path,
                event: PathEvent::Removed,
            });
        }
        Ok((records, report))
    }

    fn drop_revision(
        &self,
        request: &RemoveRequest,
        number: u64,
    ) -> Result<(Vec<Record>, RemoveReport), ClientError> {
        let [path] = &request.paths[..] else {
            return Err(ClientError::Input {
                message: "a revision is of one path".to_owned(),
                hint: Some("name one file, not a pattern"),
            });
        };
        let path = PathBuf::from(path);
        let stored = from_path(&path)?;
        let reader = self.engine.known()?;
        let sources = reader.sources()?;
        let source = self.engine.source_meant(&sources, &request.source)?;
        let source = source.unwrap_or_else(|| self.engine.node.source());
        let history = reader.history(source, &stored)?;
        if history.is_empty() {
            return Err(unknown_path(&path));
        }
        let found = history.iter().find(|known| known.number == number);
        let found = found.ok_or_else(|| ClientError::Input {
            message: format!("{} has no revision {number}", path.display()),
            hint: Some("`maimo history PATH` lists them"),
        })?;
        let report = RemoveReport {
            revisions: 1,
            bytes: match &found.revision.content {
                maimo_vault::journal::content::Content::Regular { size, .. } => *size,
                _ => 0,
            },
            ..RemoveReport::default()
        };
        let ids = vec![found.revision.stamp.id];
        debug_assert!(ids.len() <= DROPPED_MAX);
        Ok((vec![Record::Dropped { ids }], report))
    }

    /// Keeps a run whatever the policy, or no longer.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn example(client: &mut Client) -> Result<(), ClientError> {
    /// let runs = client.runs()?;
    /// let last = runs.last().expect("something was stored");
    /// client.pin(&last.run, true, &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// No such run, one that was let go of, or whatever keeps a commit from being made.
    pub fn pin(
        &mut self,
        run: &str,
        pinned: bool,
        control: &Control,
    ) -> Result<RunReport, ClientError> {
        self.engine.sync(control)?;
        for _ in 0..ATTEMPTS {
            let found = run_named(&self.engine.known()?, run)?;
            if !found.kept {
                return Err(ClientError::Input {
                    message: format!("{run} was let go of: nothing of it would be kept"),
                    hint: Some("`maimo undelete` brings back what is still in grace"),
                });
            }
            if found.pinned == pinned || self.commit_pin(found.id, pinned, control)? {
                return self.run_report(run);
            }
        }
        Err(too_busy())
    }

    /// Returns whether it is committed: what another device has let go of meanwhile is not pinned.
    fn commit_pin(
        &mut self,
        id: RecordId,
        pinned: bool,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let record = Record::Pin { id, pinned };
        let change = Change {
            records: vec![(self.engine.node.next_record(), record)],
            is_fixed: true,
            ..Change::default()
        };
        let outcome = self.engine.commit(change, control)?;
        Ok(matches!(outcome, Outcome::Committed(_)))
    }

    fn run_report(&self, run: &str) -> Result<RunReport, ClientError> {
        let reader = self.engine.known()?;
        let sources = reader.sources()?;
        let found = run_named(&reader, run)?;
        run_report(&found, &sources)
            .ok_or_else(|| ClientError::Bug("a completed run has no end".to_owned()))
    }

    /// Returns the policies: the store's own first, then those for some paths only.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let [of_the_store, ..] = &client.policies()?[..] else {
    ///     unreachable!("the store always has one")
    /// };
    /// println!("{} daily runs are kept", of_the_store.policy.daily);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A catalog that cannot be read.
    pub fn policies(&self) -> Result<Vec<PolicyReport>, ClientError> {
        self.view()?.policies()
    }

    /// Sets what is kept: of the whole store where `pattern` is empty, else of the paths it matches; nothing falls back to the store's policy, or
    /// to the default. It takes effect with the next prune.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn keep(client: &mut Client) -> Result<(), ClientError> {
    /// use maimo_vault::retention::Policy;
    ///
    /// let policy = Policy { daily: 90, ..Policy::default() };
    /// client.keep("", Some(policy), &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A pattern that is none or too long, or whatever keeps a commit from being made.
    pub fn keep(
        &mut self,
        pattern: &str,
        policy: Option<Policy>,
        control: &Control,
    ) -> Result<Vec<PolicyReport>, ClientError> {
        let is_pattern = globset::Glob::new(pattern).is_ok() && pattern.len() <= TEXT_BYTES_MAX;
        if !is_pattern {
            return Err(ClientError::Input {
                message: format!("`{pattern}` is not a pattern"),
                hint: Some("for example `--pattern '/home/u/mail/**'`"),
            });
        }
        self.engine.sync(control)?;
        let record = Record::Policy {
            pattern: pattern.to_owned(),
            policy,
        };
        self.engine.commit_records(&[record], control)?;
        self.policies()
    }
}
