//! [`Manifest`]: everything a folder says and holds, to be held against another one.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::ui::shown_path;

/// A folder: every path in it, and what was found there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    entries: BTreeMap<PathBuf, Entry>,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    content: Content,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// The first path that is the same file by another name.
    same_as: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    File { length: u64, hash: blake3::Hash },
    Folder,
    Link(PathBuf),
    Other(&'static str),
}

impl Manifest {
    /// Reads a folder, every byte of it.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut manifest = Self::default();
        let mut seen = HashMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(relative) = waiting.pop() {
            let path = folder.join(&relative);
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_dir() {
                let mut names: Vec<OsString> = Vec::new();
                for entry in fs::read_dir(&path)? {
                    names.push(entry?.file_name());
                }
                // Popped from the end: descending, so that the first of hard links is the first by name.
                names.sort_unstable_by(|a, b| b.cmp(a));
                waiting.extend(names.into_iter().map(|name| relative.join(name)));
            }
            let entry = Entry::read(&path, &relative, &metadata, &mut seen)?;
            manifest.entries.insert(relative, entry);
        }
        Ok(manifest)
    }

    /// Returns how many files there are, hard links each.
    pub(crate) fn files(&self) -> u64 {
        let lengths = self.entries.values().filter_map(Entry::length);
        lengths.count() as u64
    }

    /// Returns how many bytes all files have.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().filter_map(Entry::length).sum()
    }

    /// Returns how many paths there are, the folder's own not counted.
    pub(crate) fn paths(&self) -> u64 {
        (self.entries.len() as u64).saturating_sub(1)
    }

    /// Returns what differs in `other`, a line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (path, entry) in &self.entries {
            match other.entries.get(path) {
                None => differences.push(format!("{}: is not there", shown_path(path))),
                Some(found) => {
                    let what = entry.differs_in(found);
                    if !what.is_empty() {
                        let what = what.join(", ");
                        differences.push(format!("{}: another {what}", shown_path(path)));
                    }
                }
            }
        }
        let extra = other
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(*path));
        differences.extend(extra.map(|path| format!("{}: was not there before", shown_path(path))));
        differences
    }
}

impl Entry {
    fn read(
        path: &Path,
        relative: &Path,
        metadata: &Metadata,
        seen: &mut HashMap<(u64, u64), PathBuf>,
    ) -> io::Result<Self> {
        let kind = metadata.file_type();
        let content = if kind.is_file() {
            let mut hasher = blake3::Hasher::new();
            let length = io::copy(&mut File::open(path)?, &mut hasher)?;
            let hash = hasher.finalize();
            Content::File { length, hash }
        } else if kind.is_dir() {
            Content::Folder
        } else if kind.is_symlink() {
            Content::Link(fs::read_link(path)?)
        } else if kind.is_fifo() {
            Content::Other("fifo")
        } else {
            Content::Other("device or socket")
        };
        let mut same_as = None;
        if !kind.is_dir() && metadata.nlink() > 1 {
            let first = seen
                .entry((metadata.dev(), metadata.ino()))
                .or_insert_with(|| relative.to_owned());
            same_as = (first != relative).then(|| first.clone());
        }
        Ok(Self {
            content,
            // A symbolic link's own mode says nothing.
            mode: if kind.is_symlink() {
                0
            } else {
                metadata.mode() & 0o7777
            },
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            attributes: attributes(path),
            same_as,
        })
    }

    const fn length(&self) -> Option<u64> {
        match self.content {
            Content::File { length, .. } => Some(length),
            _ => None,
        }
    }

    fn differs_in(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.content == other.content, "content"),
            (self.mode == other.mode, "mode"),
            (self.owner == other.owner, "owner"),
            (self.modified == other.modified, "modification time"),
            (self.attributes == other.attributes, "set of attributes"),
            (self.same_as == other.same_as, "set of hard links"),
        ];
        let differing = parts.into_iter().filter(|part| !part.0);
        differing.map(|part| part.1).collect()
    }
}

/// Returns the extended attributes that a user may set; none where the file system has none.
fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let Ok(names) = xattr::list(path) else {
        return BTreeMap::new();
    };
    let own = names.filter(|name| name.to_string_lossy().starts_with("user."));
    own.filter_map(|name| {
        let value = xattr::get(path, &name).ok()??;
        Some((name, value))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        symlink("a", folder.path().join("l")).unwrap();
        folder
    }

    #[test]
    fn a_folder_is_like_itself_and_counts_its_files() {
        let folder = folder();
        let manifest = Manifest::of(folder.path()).unwrap();
        assert_eq!(
            (manifest.files(), manifest.bytes(), manifest.paths()),
            (1, 3, 3)
        );
        let again = Manifest::of(folder.path()).unwrap();
        assert!(manifest.differences(&again).is_empty());
    }

    /// The comparison is what the whole demo rests on: it must see each kind of change.
    #[test]
    fn every_kind_of_change_is_seen() {
        let change = |name: &str, change: &dyn Fn(&Path)| {
            let folder = folder();
            let before = Manifest::of(folder.path()).unwrap();
            change(folder.path());
            let after = Manifest::of(folder.path()).unwrap();
            let differences = before.differences(&after);
            let found = differences.iter().any(|line| line.contains(name));
            assert!(found, "{name}: {differences:?}");
        };
        change("a: another content", &|f| {
            fs::write(f.join("a"), "two").unwrap();
        });
        change("a: is not there", &|f| {
            fs::remove_file(f.join("a")).unwrap();
        });
        change("b: was not there", &|f| fs::write(f.join("b"), "").unwrap());
        change("another mode", &|f| {
            fs::set_permissions(f.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
        });
        change("another modification time", &|f| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::new(7, 8);
            File::options()
                .write(true)
                .open(f.join("a"))
                .unwrap()
                .set_modified(time)
                .unwrap();
        });
        change("another set of hard links", &|f| {
            fs::hard_link(f.join("a"), f.join("c")).unwrap();
            fs::write(f.join("A"), "").unwrap();
            fs::hard_link(f.join("a"), f.join("0")).unwrap();
        });
        change("l: another content", &|f| {
            fs::remove_file(f.join("l")).unwrap();
            symlink("d", f.join("l")).unwrap();
        });
    }
}
