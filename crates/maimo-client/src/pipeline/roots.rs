//! The paths a run was given: made absolute, put in walk order, none below another; and the folders that are never entered.

use std::{
    collections::HashSet,
    ffi::CString,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{
    error::ClientError,
    scan::{
        stat::{FileStat, Kind},
        walk::{Entry, FolderPath, Found, Walk},
    },
};

/// One path of a run, ready to be scanned.
pub(super) struct Root {
    pub(super) folder: Arc<FolderPath>,
    pub(super) entry: Entry,
}

/// Makes paths absolute, and puts them in walk order without those that are below others.
///
/// Links on the way are left as they are: a path is stored under the name it was given by. Only where it goes up (`..`), what is before is
/// resolved, as the system would.
///
/// # Errors
///
/// [`ClientError::Input`] for an empty path; [`ClientError::Io`] where there is no working folder, or what is before `..` does not resolve.
pub(super) fn in_order(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ClientError> {
    let mut ordered: Vec<(Vec<Vec<u8>>, PathBuf)> = Vec::new();
    for path in paths {
        if path.as_os_str().is_empty() {
            return Err(ClientError::Input {
                message: "an empty path names nothing to store".to_owned(),
                hint: Some("give files or folders; `.` is the working folder"),
            });
        }
        let mut absolute =
            std::path::absolute(path).map_err(ClientError::io("find", path.clone()))?;
        if absolute
            .components()
            .any(|part| part == Component::ParentDir)
        {
            let resolve = |path: &Path| {
                path.canonicalize()
                    .map_err(ClientError::io("find", path.to_owned()))
            };
            absolute = match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => resolve(parent)?.join(name),
                _ => resolve(&absolute)?,
            };
        }
        let names = absolute.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name.as_bytes().to_vec()),
            _ => None,
        });
        ordered.push((names.collect(), absolute));
    }
    ordered.sort();
    let mut roots: Vec<(Vec<Vec<u8>>, PathBuf)> = Vec::new();
    for (names, path) in ordered {
        if roots
            .last()
            .is_none_or(|(last, _)| !names.starts_with(last))
        {
            roots.push((names, path));
        }
    }
    Ok(roots.into_iter().map(|(_, path)| path).collect())
}

/// Returns what names each folder that is never entered.
pub(super) fn never(leave_out: &[PathBuf]) -> HashSet<(u64, u64)> {
    let identities = leave_out.iter().filter_map(|path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, path, flags, Mode::empty()).ok()?;
        let stat = FileStat::of(fd.as_fd(), c"").ok()?;
        Some((stat.local.device, stat.local.inode))
    });
    identities.collect()
}

/// Looks at a path of the run, and begins to list it if it is a folder. The file system's root has no name: what is in it is scanned.
pub(super) fn begin(walk: &Walk, path: &Path) -> Root {
    let parent = path.parent().unwrap_or(path);
    let name = path.file_name().unwrap_or_default();
    let folder = Arc::new(FolderPath::new(parent));
    let mut c_name = name.as_bytes().to_vec();
    c_name.retain(|byte| *byte != 0);
    let name = CString::new(c_name).unwrap_or_default();
    let look = || {
        if is_below_never(walk, path) {
            return Ok(Found::LeftOut);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, parent, flags, Mode::empty())?;
        let stat = FileStat::of(fd.as_fd(), &name)?;
        Ok(if stat.kind == Kind::Folder {
            Found::Folder(stat, walk.begin(path))
        } else {
            Found::Other(stat)
        })
    };
    let found = look().unwrap_or_else(Found::Unreadable);
    Root {
        folder,
        entry: Entry { name, found },
    }
}

/// Returns whether a path of the run is one of the folders that are never entered, or in one.
fn is_below_never(walk: &Walk, path: &Path) -> bool {
    let never = &walk.scope().never;
    if never.is_empty() {
        return false;
    }
    let Ok(real) = path.canonicalize() else {
        return false;
    };
    real.ancestors().any(|folder| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(CWD, folder, flags, Mode::empty());
        let stat = fd.and_then(|fd| FileStat::of(fd.as_fd(), c""));
        stat.is_ok_and(|stat| never.contains(&(stat.local.device, stat.local.inode)))
    })
}
