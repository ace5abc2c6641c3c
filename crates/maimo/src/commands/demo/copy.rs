//! A copy of a folder with its metadata, for the demo to work on: the user's own files are only ever read.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// What a copy left out, with the reason.
pub(crate) type LeftOut = Vec<(PathBuf, String)>;

/// Copies a file or folder to `target`, which is not there yet. What cannot be read is left out and told.
pub(crate) fn copy(source: &Path, target: &Path) -> io::Result<LeftOut> {
    let mut copying = Copying::default();
    copying.any(source, target)?;
    Ok(copying.left_out)
}

#[derive(Default)]
struct Copying {
    left_out: LeftOut,
    /// Files with several names, by device and inode: the first copy.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copying {
    fn any(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(source)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.folder(source, target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            if metadata.nlink() > 1 {
                let key = (metadata.dev(), metadata.ino());
                if let Some(first) = self.linked.get(&key) {
                    return fs::hard_link(first, target);
                }
                self.linked.insert(key, target.to_owned());
            }
            fs::copy(source, target)?;
        } else {
            self.left_out
                .push((source.to_owned(), "not a file, folder or link".to_owned()));
            return Ok(());
        }
        dress(source, target, &metadata)
    }

    fn folder(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        // Read whole before it is made: a target inside the source would else never end.
        let names: Vec<_> = fs::read_dir(source)?.collect::<io::Result<_>>()?;
        fs::create_dir(target)?;
        for entry in names {
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            // What fails here is the source's fault more often than the target's; a full disk shows again at once.
            match self.any(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(error),
                Err(error) => self.left_out.push((from, error.to_string())),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Gives the copy the metadata of its source: attributes and owner as far as this user may, then mode and time.
fn dress(source: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
    let is_link = metadata.is_symlink();
    if !is_link && let Ok(names) = xattr::list(source) {
        for name in names {
            if let Ok(Some(value)) = xattr::get(source, &name) {
                let _ = xattr::set(target, &name, &value);
            }
        }
    }
    let _ = std::os::unix::fs::lchown(target, Some(metadata.uid()), Some(metadata.gid()));
    if !is_link {
        // After the owner: changing that clears set-id bits.
        fs::set_permissions(target, metadata.permissions())?;
    }
    let time = |seconds, nanos| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{made_up, manifest::Manifest},
        *,
    };

    #[test]
    fn a_copy_is_like_its_source_and_leaves_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("s"), folder.path().join("t"));
        let amount = made_up::Amount {
            small_files: 20,
            large_bytes: 10_000,
        };
        made_up::make(&source, amount).unwrap();
        let before = Manifest::of(&source).unwrap();
        assert!(copy(&source, &target).unwrap().is_empty());
        let none: Vec<String> = Vec::new();
        assert_eq!(before.differences(&Manifest::of(&target).unwrap()), none);
        assert_eq!(before.differences(&Manifest::of(&source).unwrap()), none);
    }

    #[test]
    fn what_is_no_file_is_left_out_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("s");
        fs::create_dir(&source).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
        let left_out = copy(&source, &folder.path().join("t")).unwrap();
        assert_eq!(left_out.len(), 1);
        assert_eq!(left_out[0].0, source.join("socket"));
    }
}
