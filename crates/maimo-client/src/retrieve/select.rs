//! What was asked for, found in the catalog: files by name without a look at their neighbours, folders and globs by a walk.

use std::{
    ops::ControlFlow,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use maimo_core::clock::Timestamp;
use maimo_vault::{
    journal::state::Presence,
    name::SourceId,
    path::{Prefix, StorePath},
};

use super::{Stored, StoredTree};
use crate::{
    catalog::{Filter, Kind, Listed, Pattern, Reader, Revision, When},
    error::ClientError,
};

/// What is to be retrieved.
#[derive(Debug, Clone, Default)]
pub struct RetrieveRequest {
    /// Paths as they are in the store: files, folders with all that is in them, globs.
    pub paths: Vec<PathBuf>,
    /// The folder to write below.
    pub to: PathBuf,
    /// Which revision, as `history` numbers them; the newest if none is said. Only of single files.
    pub revision: Option<u64>,
    /// As of the last run that completed by then; now if none is said.
    pub at: Option<Timestamp>,
    /// The machine whose paths these are, by its label; this one if none is said.
    pub source: Option<String>,
    /// Whether other files of the same names are replaced.
    pub overwrite: bool,
}

/// What was asked for of one source, found in a snapshot of the catalog.
pub struct Selection<'r> {
    reader: &'r Reader,
    source: SourceId,
    when: When,
    /// Files asked for by name.
    files: Vec<Revision>,
    /// What a walk is to find.
    patterns: Vec<Pattern>,
}

impl<'r> Selection<'r> {
    /// Reads what was asked for, and finds the files named.
    ///
    /// # Errors
    ///
    /// [`ClientError::Input`] for a path or revision that the store does not have; the catalog's.
    pub fn new(
        reader: &'r Reader,
        source: SourceId,
        request: &RetrieveRequest,
    ) -> Result<Self, ClientError> {
        let mut selection = Self {
            reader,
            source,
            when: request.at.map_or(When::Now, When::At),
            files: Vec::new(),
            patterns: Vec::new(),
        };
        for path in &request.paths {
            let pattern = selection.pattern(path)?;
            match (&pattern, request.revision) {
                (Pattern::Within(file), Some(number)) => {
                    let revision = selection.numbered(file, number)?;
                    let revision = revision.ok_or_else(|| no_revision(path, number))?;
                    selection.files.push(revision);
                }
                (_, Some(_)) => {
                    return Err(ClientError::Input {
                        message: "a revision is of one file, not of a pattern".to_owned(),
                        hint: Some("name the file, or say `--at`"),
                    });
                }
                (Pattern::Within(file), None) => match selection.file_now(file)? {
                    Some(revision) => selection.files.push(revision),
                    None => selection.patterns.push(pattern),
                },
                (Pattern::Glob(_), None) => selection.patterns.push(pattern),
            }
        }
        Ok(selection)
    }

    fn pattern(&self, path: &Path) -> Result<Pattern, ClientError> {
        if let Some(text) = path.to_str() {
            return Ok(self.reader.pattern(self.source, text)?);
        }
        let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
        let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
        let path = StorePath::new(Prefix::Unix, names.collect());
        let path = path.map_err(|error| ClientError::Input {
            message: error.to_string(),
            hint: None,
        })?;
        Ok(Pattern::Within(path))
    }

    fn numbered(&self, path: &StorePath, number: u64) -> Result<Option<Revision>, ClientError> {
        let history = self.reader.history(self.source, path)?.into_iter();
        let found = history.into_iter().find(|found| found.number == number);
        Ok(found.map(|found| found.revision))
    }

    /// Returns what is to be had of a path now, if that is no folder: whatever became of it since, as it was asked for by its name.
    fn file_now(&self, path: &StorePath) -> Result<Option<Revision>, ClientError> {
        if !matches!(self.when, When::Now) {
            return Ok(None);
        }
        let known = self.reader.known(self.source, path)?;
        if known.is_none_or(|known| known.kind == Kind::Folder || known.folder.is_some()) {
            return Ok(None);
        }
        let newest = self.reader.newest(self.source, path)?;
        Ok(newest.map(|(revision, _)| revision))
    }

    /// Returns whether a path of a walk is asked for: what is there, or was deleted here on purpose, and what was named itself.
    fn is_meant(&self, listed: &Listed) -> bool {
        let is_named = |pattern: &Pattern| matches!(pattern, Pattern::Within(path) if *path == listed.revision.path);
        matches!(listed.presence, Presence::Present | Presence::Evicted)
            || self.patterns.iter().any(is_named)
    }

    fn filter(&self, patterns: Vec<Pattern>) -> Filter {
        Filter {
            source: Some(self.source),
            patterns,
            all: true,
            when: self.when,
        }
    }
}

impl StoredTree for Selection<'_> {
    fn each(
        &self,
        visit: &mut dyn FnMut(Stored) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut found = !self.files.is_empty();
        for revision in &self.files {
            visit(stored(revision.clone()))?;
        }
        if !self.patterns.is_empty() {
            let filter = self.filter(self.patterns.clone());
            self.reader.each(&filter, |listed| {
                if self.is_meant(&listed) {
                    found = true;
                    visit(stored(listed.revision))?;
                }
                Ok::<_, ClientError>(ControlFlow::Continue(()))
            })?;
        }
        if found {
            return Ok(());
        }
        Err(ClientError::Input {
            message: "nothing in the store matches".to_owned(),
            hint: Some(
                "run `maimo list` to see what is there; paths are absolute, as on the machine they came from",
            ),
        })
    }

    fn at(&self, path: &StorePath) -> Result<Option<Stored>, ClientError> {
        if let When::Now = self.when {
            let newest = self.reader.newest(self.source, path)?;
            return Ok(newest.map(|(revision, _)| stored(revision)));
        }
        let mut found = None;
        let filter = self.filter(vec![Pattern::Within(path.clone())]);
        self.reader.each(&filter, |listed| {
            if listed.revision.path == *path {
                found = Some(stored(listed.revision));
            }
            Ok::<_, ClientError>(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

fn stored(revision: Revision) -> Stored {
    Stored {
        path: revision.path,
        metadata: revision.metadata,
        content: revision.content,
    }
}

fn no_revision(path: &Path, number: u64) -> ClientError {
    ClientError::Input {
        message: format!("there is no revision {number} of {}", path.display()),
        hint: Some("run `maimo history` to see its revisions"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use maimo_vault::{
        journal::{
            batch::Stamp,
            content::Content,
            metadata::Metadata,
            record::{PathEvent, Record},
        },
        name::{RecordId, WriterId},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::catalog::{Catalog, Position, TakeIn};

    const SOURCE: SourceId = SourceId([7; 16]);

    fn file(path: &str, size: u64) -> Record {
        let content = Content::Regular {
            size,
            blake3: [0; 32],
            chunks: Vec::new(),
        };
        revision(path, content)
    }

    fn revision(path: &str, content: Content) -> Record {
        Record::File {
            source: SOURCE,
            path: StorePath::unix(path).unwrap(),
            metadata: Metadata::default(),
            content,
        }
    }

    fn event(path: &str, event: PathEvent) -> Record {
        Record::Path {
            source: SOURCE,
            path: StorePath::unix(path).unwrap(),
            event,
        }
    }

    fn catalog(folder: &TempDir) -> Catalog {
        let records = [
            revision("/home/u", Content::Folder),
            file("/home/u/a", 1),
            file("/home/u/b", 2),
            file("/home/u/evicted", 3),
            file("/home/u/gone", 4),
            event("/home/u/evicted", PathEvent::Evicted),
            event("/home/u/gone", PathEvent::Gone),
            file("/home/u/a", 10),
        ];
        let stamped = (0_u64..).zip(records).map(|(counter, record)| {
            let writer = WriterId([1; 16]);
            let id = RecordId { writer, counter };
            let sequence = 1;
            (Stamp { sequence, id }, record)
        });
        let position = Position {
            sequence: 1,
            ..Position::default()
        };
        let with = TakeIn {
            position: &position,
            local: &HashMap::new(),
            layouts: &[],
            vanished: &[],
        };
        let mut catalog = Catalog::open(&folder.path().join("catalog.sqlite")).unwrap();
        catalog.take_in(stamped.collect::<Vec<_>>(), &with).unwrap();
        catalog
    }

    fn found(paths: &[&str], revision: Option<u64>) -> Result<Vec<(String, u64)>, ClientError> {
        let folder = TempDir::new().unwrap();
        let reader = catalog(&folder).reader().unwrap();
        let request = RetrieveRequest {
            paths: paths.iter().map(PathBuf::from).collect(),
            revision,
            ..RetrieveRequest::default()
        };
        let mut found = Vec::new();
        Selection::new(&reader, SOURCE, &request)?.each(&mut |stored| {
            let size = match stored.content {
                Content::Regular { size, .. } => size,
                _ => 0,
            };
            found.push((format!("{:?}", stored.path), size));
            Ok(())
        })?;
        Ok(found)
    }

    fn list(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        let pairs = pairs.iter();
        pairs
            .map(|(path, size)| ((*path).to_owned(), *size))
            .collect()
    }

    #[test]
    fn a_folder_means_what_is_there_or_was_evicted() {
        let all = list(&[
            ("/home/u", 0),
            ("/home/u/a", 10),
            ("/home/u/b", 2),
            ("/home/u/evicted", 3),
        ]);
        assert_eq!(found(&["/home/u"], None).unwrap(), all);
        assert_eq!(found(&["/home"], None).unwrap(), all);
        assert_eq!(found(&["/home/u/*"], None).unwrap(), all[1..]);
    }

    #[test]
    fn a_file_named_is_had_whatever_became_of_it_and_in_any_revision() {
        assert_eq!(
            found(&["/home/u/gone"], None).unwrap(),
            list(&[("/home/u/gone", 4)])
        );
        assert_eq!(
            found(&["/home/u/a"], None).unwrap(),
            list(&[("/home/u/a", 10)])
        );
        assert_eq!(
            found(&["/home/u/a"], Some(1)).unwrap(),
            list(&[("/home/u/a", 1)])
        );
        assert!(found(&["/home/u/a"], Some(3)).is_err());
        assert!(found(&["/home/u/*"], Some(1)).is_err());
        assert!(found(&["/home/nobody"], None).is_err());
    }
}
