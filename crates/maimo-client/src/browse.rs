//! Looking: what the store holds, what was stored when, what differs. Asks the catalog alone, and no provider.

use std::{ops::ControlFlow, path::PathBuf};

use maimo_core::clock::Timestamp;
use maimo_vault::{
    journal::{content::Content, metadata::FileTime, state::Presence},
    name::{RecordId, SourceId},
    path::{Prefix, StorePath},
};

use crate::{
    catalog::{CatalogError, Filter, Listed, Pattern, Reader, Revision, RunInfo, When},
    client::Client,
    engine::Engine,
    error::ClientError,
    view::View,
};

/// Whose paths are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WhichSource {
    /// This machine's.
    #[default]
    Own,
    /// Those of the machine with this label.
    Named(String),
    /// Every machine's.
    All,
}

/// What is to be listed.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Folders, files or globs; everything if there are none.
    pub patterns: Vec<String>,
    /// Also what is evicted, gone or removed.
    pub all: bool,
    /// As the last run that had completed by then left it.
    pub at: Option<Timestamp>,
    /// Whose.
    pub source: WhichSource,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another name of a file.
    HardLink,
    /// A named pipe.
    Fifo,
    /// A device node.
    Device,
}

/// A revision of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The machine.
    pub source: String,
    /// The path there.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes; 0 for all but regular files.
    pub size: u64,
    /// When its content last changed.
    pub modified: FileTime,
    /// Plain BLAKE3 of a regular file's bytes.
    pub blake3: Option<[u8; 32]>,
    /// Its number among the path's kept revisions; the oldest is 1.
    pub revision: u64,
    /// How many of the path's revisions are kept.
    pub revisions: u64,
    /// Whether it is there.
    pub state: Presence,
}

/// One of a path's revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionReport {
    /// The machine.
    pub source: String,
    /// The path there.
    pub path: PathBuf,
    /// Its number; the oldest kept one is 1.
    pub revision: u64,
    /// When the run that stored it began, where that is known.
    pub stored: Option<Timestamp>,
    /// What it was.
    pub kind: FileKind,
    /// Its length in bytes.
    pub size: u64,
    /// When its content had last changed.
    pub modified: FileTime,
    /// Plain BLAKE3 of a regular file's bytes.
    pub blake3: Option<[u8; 32]>,
}

/// A `store` that completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// Its name, to be given to `diff` and `pin`.
    pub run: String,
    /// The machine.
    pub source: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How many files it saw.
    pub files: u64,
    /// How many bytes it added, sealed.
    pub bytes_stored: u64,
    /// Whether it is kept whatever the policy.
    pub pinned: bool,
}

/// What became of a path between two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiffKind {
    /// It was not there before.
    Added,
    /// Its content is another.
    Changed,
    /// Its content is the same, something else of it is not.
    Metadata,
    /// It is not there any more.
    Removed,
}

/// A path that two runs saw differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffReport {
    /// What became of it.
    pub kind: DiffKind,
    /// The path.
    pub path: PathBuf,
    /// Its length before, in bytes.
    pub size_before: Option<u64>,
    /// Its length after, in bytes.
    pub size_after: Option<u64>,
}

impl Client {
    /// Passes the paths that a request means to `visit`, in the order of a walk, until it returns false. Memory stays flat.
    ///
    /// ```no_run
    /// # use maimo_client::{browse::ListRequest, client::Client, error::ClientError};
    /// # fn list(client: &Client) -> Result<(), ClientError> {
    /// let request = ListRequest {
    ///     patterns: vec!["*.jpg".to_owned()],
    ///     all: true,
    ///     ..ListRequest::default()
    /// };
    /// let mut bytes = 0;
    /// client.list(&request, |file| {
    ///     bytes += file.size;
    ///     true
    /// })?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A pattern that is none, a machine that nobody knows, a catalog that cannot be read.
    pub fn list(
        &self,
        request: &ListRequest,
        visit: impl FnMut(FileReport) -> bool,
    ) -> Result<(), ClientError> {
        self.view()?.list(request, visit)
    }

    /// Returns the paths whose name a glob matches, wherever they are and whether they are there or not.
    ///
    /// ```no_run
    /// # use maimo_client::{browse::WhichSource, client::Client, error::ClientError};
    /// # fn find(client: &mut Client) -> Result<(), ClientError> {
    /// for file in client.find("invoice-*.pdf", &WhichSource::All)? {
    ///     assert!(file.path.is_absolute());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Self::list`].
    pub fn find(
        &mut self,
        glob: &str,
        source: &WhichSource,
    ) -> Result<Vec<FileReport>, ClientError> {
        self.view()?.find(glob, source)
    }

    /// Returns the runs that completed and are kept, oldest first.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn compare(client: &Client) -> Result<(), ClientError> {
    /// let runs = client.runs()?;
    /// if let [.., before, after] = &runs[..] {
    ///     let changed = client.diff(&before.run, &after.run)?;
    ///     assert!(changed.iter().all(|path| path.path.is_absolute()));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A catalog that cannot be read.
    pub fn runs(&self) -> Result<Vec<RunReport>, ClientError> {
        self.view()?.runs()
    }

    /// Returns what differs between what two runs of one machine left, in the order of paths.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let changed = client.diff("25830ef5-67", "25830ef5-247")?;
    /// println!("{} paths changed", changed.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A run that nobody knows or that did not complete, runs of two machines.
    pub fn diff(&self, before: &str, after: &str) -> Result<Vec<DiffReport>, ClientError> {
        self.view()?.diff(before, after)
    }

    /// Returns a path's kept revisions, oldest first.
    ///
    /// ```no_run
    /// # use maimo_client::{browse::WhichSource, client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// let path = std::path::Path::new("/home/u/letter.txt");
    /// for revision in client.history(path, &WhichSource::Own)? {
    ///     println!("{} of {} bytes", revision.revision, revision.size);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A path that the store does not know.
    pub fn history(
        &self,
        path: &std::path::Path,
        source: &WhichSource,
    ) -> Result<Vec<RevisionReport>, ClientError> {
        self.view()?.history(path, source)
    }
}

impl View {
    /// Passes the paths that a request means to `visit`, in the order of a walk, until it returns false. Memory stays flat.
    ///
    /// # Errors
    ///
    /// As [`Client::list`].
    pub fn list(
        &self,
        request: &ListRequest,
        mut visit: impl FnMut(FileReport) -> bool,
    ) -> Result<(), ClientError> {
        let reader = self.known()?;
        let sources = reader.sources()?;
        let filter = filter(self.source(), &reader, request)?;
        reader.each(&filter, |listed| {
            let go_on = visit(file_report(&listed, &sources));
            Ok::<_, ClientError>(if go_on {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })
    }

    /// Returns the paths whose name a glob matches, wherever they are and whether they are there or not.
    ///
    /// # Errors
    ///
    /// As [`Client::find`].
    pub fn find(&self, glob: &str, source: &WhichSource) -> Result<Vec<FileReport>, ClientError> {
        self.index_names()?;
        let reader = self.known()?;
        let sources = reader.sources()?;
        let source = source_meant(self.source(), &sources, source)?;
        let found = reader.find(glob, source)?;
        Ok(found
            .iter()
            .map(|listed| file_report(listed, &sources))
            .collect())
    }

    /// Returns the runs that completed and are kept, oldest first.
    ///
    /// # Errors
    ///
    /// As [`Client::runs`].
    pub fn runs(&self) -> Result<Vec<RunReport>, ClientError> {
        let reader = self.known()?;
        let sources = reader.sources()?;
        let runs = reader.runs()?.into_iter();
        Ok(runs
            .filter(|run| run.kept)
            .filter_map(|run| run_report(&run, &sources))
            .collect())
    }

    /// Returns what differs between what two runs of one machine left, in the order of paths.
    ///
    /// # Errors
    ///
    /// As [`Client::diff`].
    pub fn diff(&self, before: &str, after: &str) -> Result<Vec<DiffReport>, ClientError> {
        let reader = self.known()?;
        let before = run_named(&reader, before)?;
        let after = run_named(&reader, after)?;
        if before.source != after.source {
            return Err(ClientError::Input {
                message: "the two runs are of different machines".to_owned(),
                hint: Some("paths of two machines never meet: compare runs of one"),
            });
        }
        let differences = reader.diff(before.id, after.id)?.into_iter();
        Ok(differences
            .map(|difference| {
                let (before, after) = (difference.before.as_ref(), difference.after.as_ref());
                let kind = match (before, after) {
                    (None, _) => DiffKind::Added,
                    (_, None) => DiffKind::Removed,
                    (Some(before), Some(after)) if is_same_content(before, after) => {
                        DiffKind::Metadata
                    }
                    _ => DiffKind::Changed,
                };
                let size = |revision: Option<&Revision>| {
                    revision.map(|revision| size_of(&revision.content))
                };
                DiffReport {
                    kind,
                    path: to_path(&difference.path),
                    size_before: size(before),
                    size_after: size(after),
                }
            })
            .collect())
    }

    /// Returns a path's kept revisions, oldest first.
    ///
    /// # Errors
    ///
    /// As [`Client::history`].
    pub fn history(
        &self,
        path: &std::path::Path,
        source: &WhichSource,
    ) -> Result<Vec<RevisionReport>, ClientError> {
        let reader = self.known()?;
        let sources = reader.sources()?;
        let stored = from_path(path)?;
        let mut all = Vec::new();
        for (id, label) in &sources {
            if source_meant(self.source(), &sources, source)?.is_some_and(|of| of != *id) {
                continue;
            }
            for numbered in reader.history(*id, &stored)? {
                let revision = &numbered.revision;
                all.push(RevisionReport {
                    source: label.clone(),
                    path: to_path(&revision.path),
                    revision: numbered.number,
                    stored: numbered.stored,
                    kind: kind_of(&revision.content),
                    size: size_of(&revision.content),
                    modified: revision.metadata.modified,
                    blake3: blake3_of(&revision.content),
                });
            }
        }
        if all.is_empty() {
            return Err(unknown_path(path));
        }
        Ok(all)
    }
}

impl Engine {
    /// Returns what the catalog is to list for a request.
    pub(crate) fn filter(
        &self,
        reader: &Reader,
        request: &ListRequest,
    ) -> Result<Filter, ClientError> {
        filter(self.node.source(), reader, request)
    }

    /// Returns the machine that is meant; none where all are.
    pub(crate) fn source_meant(
        &self,
        sources: &[(SourceId, String)],
        which: &WhichSource,
    ) -> Result<Option<SourceId>, ClientError> {
        source_meant(self.node.source(), sources, which)
    }
}

/// Returns what the catalog is to list for a request of the machine `own`.
fn filter(own: SourceId, reader: &Reader, request: &ListRequest) -> Result<Filter, ClientError> {
    let sources = reader.sources()?;
    let source = source_meant(own, &sources, &request.source)?;
    let patterns: Result<Vec<Pattern>, CatalogError> = request
        .patterns
        .iter()
        .map(|text| match source {
            Some(source) => reader.pattern(source, text),
            None => Pattern::parse(text),
        })
        .collect();
    Ok(Filter {
        source,
        patterns: patterns?,
        all: request.all,
        when: request.at.map_or(When::Now, When::At),
    })
}

/// Returns the machine that is meant; none where all are.
fn source_meant(
    own: SourceId,
    sources: &[(SourceId, String)],
    which: &WhichSource,
) -> Result<Option<SourceId>, ClientError> {
    match which {
        WhichSource::Own => Ok(Some(own)),
        WhichSource::All => Ok(None),
        WhichSource::Named(label) => source_labelled(sources, label).map(Some),
    }
}

/// Returns the machine of this label.
pub(crate) fn source_labelled(
    sources: &[(SourceId, String)],
    label: &str,
) -> Result<SourceId, ClientError> {
    let mut named = sources.iter().filter(|(_, known)| known == label);
    match (named.next(), named.next()) {
        (Some((source, _)), None) => Ok(*source),
        (Some(_), Some(_)) => Err(ClientError::Input {
            message: format!("several machines are called {label}"),
            hint: Some("list them with `--source all`"),
        }),
        (None, _) => Err(ClientError::Input {
            message: format!("no machine of this store is called {label}"),
            hint: Some("`maimo list --source all` shows the machines of the store"),
        }),
    }
}

/// Returns the run of this name.
pub(crate) fn run_named(reader: &Reader, name: &str) -> Result<RunInfo, ClientError> {
    let mut runs = reader.runs()?.into_iter().filter(|run| run.end.is_some());
    runs.find(|run| run_name(run.id) == name)
        .ok_or_else(|| ClientError::Input {
            message: format!("no completed run is called {name}"),
            hint: Some("`maimo runs` lists them"),
        })
}

/// Returns a run's name: eight digits of who wrote it, and its number there.
pub(crate) fn run_name(run: RecordId) -> String {
    let [a, b, c, d, ..] = run.writer.0;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}-{}", run.counter)
}

pub(crate) fn run_report(run: &RunInfo, sources: &[(SourceId, String)]) -> Option<RunReport> {
    let end = run.end?;
    Some(RunReport {
        run: run_name(run.id),
        source: label_of(sources, run.source),
        started: run.time,
        ended: end.time,
        files: end.files,
        bytes_stored: end.bytes_stored,
        pinned: run.pinned,
    })
}

pub(crate) fn unknown_path(path: &std::path::Path) -> ClientError {
    ClientError::Input {
        message: format!("{} is not in the store", path.display()),
        hint: Some("`maimo list --all` shows what is, `maimo find NAME` looks everywhere"),
    }
}

fn file_report(listed: &Listed, sources: &[(SourceId, String)]) -> FileReport {
    let revision = &listed.revision;
    FileReport {
        source: label_of(sources, revision.source),
        path: to_path(&revision.path),
        kind: kind_of(&revision.content),
        size: size_of(&revision.content),
        modified: revision.metadata.modified,
        blake3: blake3_of(&revision.content),
        revision: listed.number,
        revisions: listed.revisions,
        state: listed.presence,
    }
}

fn label_of(sources: &[(SourceId, String)], source: SourceId) -> String {
    let mut known = sources.iter();
    let known = known.find(|(id, _)| *id == source);
    known.map_or_else(|| "unknown".to_owned(), |(_, label)| label.clone())
}

fn is_same_content(one: &Revision, other: &Revision) -> bool {
    match (blake3_of(&one.content), blake3_of(&other.content)) {
        (Some(one), Some(other)) => one == other,
        _ => one.content == other.content,
    }
}

const fn kind_of(content: &Content) -> FileKind {
    match content {
        Content::Regular { .. } => FileKind::Regular,
        Content::Folder => FileKind::Folder,
        Content::Symlink(_) => FileKind::Symlink,
        Content::HardLink(_) => FileKind::HardLink,
        Content::Fifo => FileKind::Fifo,
        Content::Device { .. } => FileKind::Device,
    }
}

const fn size_of(content: &Content) -> u64 {
    match content {
        Content::Regular { size, .. } => *size,
        _ => 0,
    }
}

const fn blake3_of(content: &Content) -> Option<[u8; 32]> {
    match content {
        Content::Regular { blake3, .. } => Some(*blake3),
        _ => None,
    }
}

/// Returns a stored path as this machine writes paths; of another system's, the nearest to it.
pub(crate) fn to_path(path: &StorePath) -> PathBuf {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let mut bytes = match path.prefix() {
        Prefix::Unix => Vec::new(),
        Prefix::Windows(drive) => drive.clone(),
    };
    for component in path.components() {
        bytes.push(b'/');
        bytes.extend_from_slice(component);
    }
    if bytes.is_empty() {
        bytes.push(b'/');
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Returns a path of this machine, made absolute, as the store keeps it. Nothing is looked up: what is not there any more may be in the store.
pub(crate) fn from_path(path: &std::path::Path) -> Result<StorePath, ClientError> {
    use std::{os::unix::ffi::OsStrExt, path::Component};

    let absolute = std::path::absolute(path).map_err(ClientError::io("find", path))?;
    let mut components = Vec::new();
    for component in absolute.components() {
        match component {
            Component::Normal(name) => components.push(name.as_bytes().to_vec()),
            Component::ParentDir => {
                components.pop();
            }
            _ => {}
        }
    }
    StorePath::new(Prefix::Unix, components).map_err(|error| ClientError::Input {
        message: format!("{} cannot be a path of the store: {error}", path.display()),
        hint: None,
    })
}
