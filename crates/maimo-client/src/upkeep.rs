//! What a node does for its store when nobody asks for it, besides storing, auditing and pruning: the rest of what time makes necessary.
//!
//! When it is done is for whoever runs the node to say; everything here may be cut off anywhere and done again.

use std::{
    fs, io,
    ops::ControlFlow,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use maimo_vault::{
    journal::{content::Content, state::Presence},
    path::{Prefix, StorePath},
};

use crate::{
    browse::to_path,
    catalog::{Filter, Pattern, When},
    client::Client,
    engine::Engine,
    error::ClientError,
    progress::{Control, Phase},
    retrieve::RetrieveRequest,
};

/// How many files are brought back at a time.
const AT_ONCE: usize = 4096;

impl Client {
    /// Has a channel's provider prove that it holds every vital pack (journal, dictionaries) and the newest commit: by one digest over what is
    /// kept here of them, and where that does not settle it by reading them back.
    ///
    /// A sample would pass the loss of one dictionary two times in three, and without it no small file opens.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn prove(client: &mut Client) -> Result<(), ClientError> {
    /// client.prove_vital("far away", &Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::WrongBytes`] where something is damaged or missing; [`ClientError::NoChannel`]; whatever keeps the provider from answering.
    pub fn prove_vital(&mut self, channel: &str, control: &Control) -> Result<(), ClientError> {
        self.engine.prove_vital_on(channel, control)
    }

    /// Merges segments of the journal where there are many, and asks providers where they are, if that was not done for long.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn tidy(client: &mut Client) -> Result<(), ClientError> {
    /// client.tidy(&Control::default())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from being read or a commit from being made.
    pub fn tidy(&mut self, control: &Control) -> Result<(), ClientError> {
        let engine = &mut self.engine;
        engine.sync(control)?;
        engine.merge_journal(control)?;
        let channels = engine.channels()?;
        engine.look_for_moves(&channels, control)?;
        engine.catalog.tidy()?;
        Ok(())
    }
}

/// What was brought back.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Files that are there again.
    pub files: u64,
    /// Files that are missing still.
    pub missing: Vec<PathBuf>,
}

impl Client {
    /// Brings back the files that the store has of this machine as present below some folders, and that are not there. Those that were deleted
    /// on purpose once possession was proven stay deleted; what is there is not touched, whatever it is.
    ///
    /// To be done before those folders are stored: what a run does not find is gone from then on.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control};
    /// # fn restore(client: &mut Client) -> Result<(), ClientError> {
    /// let report = client.restore_missing(&["/home/u/photos".into()], &Control::default())?;
    /// assert!(report.missing.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// No channel can be reached, the disk is full, it was cancelled; what is wrong with one file is in the report.
    pub fn restore_missing(
        &mut self,
        folders: &[PathBuf],
        control: &Control,
    ) -> Result<RestoreReport, ClientError> {
        self.engine.restore_missing(folders, control)
    }
}

impl Engine {
    fn restore_missing(
        &mut self,
        folders: &[PathBuf],
        control: &Control,
    ) -> Result<RestoreReport, ClientError> {
        let mut report = RestoreReport::default();
        let missing = self.missing_below(folders)?;
        for some in missing.chunks(AT_ONCE) {
            let request = RetrieveRequest {
                paths: some.to_vec(),
                to: PathBuf::from("/"),
                ..RetrieveRequest::default()
            };
            report.files += self.retrieve(&request, control)?.files;
        }
        report.missing = missing;
        report.missing.retain(|path| is_missing(path));
        Ok(report)
    }

    /// Returns the files below folders that this machine had when it last stored them, and has not now.
    fn missing_below(&self, folders: &[PathBuf]) -> Result<Vec<PathBuf>, ClientError> {
        let reader = self.known()?;
        let source = self.node.source();
        let mut patterns = Vec::new();
        for folder in folders {
            // By name alone: a path may look like a glob.
            let names = folder.as_os_str().as_bytes().split(|byte| *byte == b'/');
            let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
            let path = StorePath::new(Prefix::Unix, names.collect());
            patterns.extend(path.map(Pattern::Within));
        }
        let filter = Filter {
            source: Some(source),
            patterns,
            all: false,
            when: When::Now,
        };
        let mut missing = Vec::new();
        if filter.patterns.is_empty() {
            return Ok(missing);
        }
        reader.each(&filter, |listed| {
            let is_folder = matches!(listed.revision.content, Content::Folder);
            if listed.presence == Presence::Present && !is_folder {
                let path = to_path(&listed.revision.path);
                if is_missing(&path) {
                    missing.push(path);
                }
            }
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        })?;
        Ok(missing)
    }

    fn prove_vital_on(&mut self, name: &str, control: &Control) -> Result<(), ClientError> {
        control.tell(crate::progress::Event::Phase(Phase::Proving));
        for id in self.channels_named(&[name.to_owned()])? {
            // Before the first commit nothing is owed.
            if self.node.seen(id)?.is_some() {
                let channel = self.channel(id)?;
                self.prove_vital_of(&channel, control)?;
            }
        }
        Ok(())
    }
}

/// Whether nothing is at a path; where that cannot be told, something may be.
fn is_missing(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
