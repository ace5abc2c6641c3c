//! What has no content of its own: symbolic and hard links, pipes, devices.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, atomic::Ordering},
};

use maimo_vault::{
    journal::{content::Content, metadata::Metadata},
    path::StorePath,
};
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, chmod, fchmod, fstat,
        futimens, linkat, makedev, mknodat, openat, readlinkat, renameat, statat, symlinkat,
        unlinkat,
    },
    io::Errno,
};

use super::{
    Failure, StoredTree, metadata,
    plan::find,
    target::{Folder, Target, Walk, check_name, components},
    work::{Job, Work, Worker},
    write::{There, in_the_way, is_same, look},
};
use crate::{
    error::ClientError,
    fetch::{Fetch, Locator, PackIndex},
    progress::Cancelled,
};

/// A hard link that is to be made once the files are there.
pub(super) struct Link {
    pub(super) path: StorePath,
    pub(super) to: StorePath,
    pub(super) metadata: Metadata,
}

/// Makes a symbolic link, pipe or device. Returns what of its metadata could not be set.
pub(super) fn make_special(
    folder: &Folder,
    name: &[u8],
    content: &Content,
    metadata: &Metadata,
) -> io::Result<Option<io::Error>> {
    check_name(name)?;
    let target = &folder.target;
    if let Content::Device { .. } = content
        && !target.owner.is_root()
    {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "only root can make a device",
        ));
    }
    match make(folder, name, content) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !is_there(folder, name, content)? {
                if !target.overwrite {
                    return Err(in_the_way(
                        "something else of this name is there already, and nothing is overwritten unless told",
                    ));
                }
                let partial = target.partial_name();
                make(folder, &partial, content)?;
                if let Err(error) = renameat(folder, &partial[..], folder, name) {
                    let _ = unlinkat(folder, &partial[..], AtFlags::empty());
                    return Err(error.into());
                }
            }
        }
        made => made?,
    }
    let mut missed = metadata::apply_at(folder, name, metadata, &target.owner).err();
    if !matches!(content, Content::Symlink(_)) {
        missed = missed.or(set_mode(folder, name, metadata).err());
    } else if !metadata.xattrs.is_empty() {
        missed = missed.or(Some(io::Error::new(
            io::ErrorKind::Unsupported,
            "its extended attributes could not be set: it is a symbolic link",
        )));
    }
    Ok(missed)
}

/// Sets the mode of what was made at a name, and of nothing that a link put in its place leads to.
fn set_mode(folder: &Folder, name: &[u8], metadata: &Metadata) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(in_the_way("a symbolic link took its place"));
    }
    // Opening a pipe or a device would do more than that; by this name the open path is meant.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(chmod(path, Mode::from_raw_mode(metadata.mode & 0o1777))?)
}

fn make(folder: &Folder, name: &[u8], content: &Content) -> io::Result<()> {
    match content {
        Content::Symlink(to) => symlinkat(&to[..], folder, name)?,
        Content::Fifo => mknodat(folder, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?,
        Content::Device {
            block,
            major,
            minor,
        } => {
            let kind = if *block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(folder, name, kind, mode, makedev(*major, *minor))?;
        }
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this kind of file cannot be made here",
            ));
        }
    }
    Ok(())
}

/// Returns whether what is at a name is what was to be made.
fn is_there(folder: &Folder, name: &[u8], content: &Content) -> io::Result<bool> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    Ok(match content {
        Content::Symlink(to) => {
            kind == FileType::Symlink && readlinkat(folder, name, Vec::new())?.as_bytes() == to
        }
        Content::Fifo => kind == FileType::Fifo,
        Content::Device {
            block,
            major,
            minor,
        } => {
            let wanted = if *block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            kind == wanted && stat.st_rdev == makedev(*major, *minor)
        }
        _ => false,
    })
}

/// Makes the hard links, after all files: what a link is another name of may come after it, or not have been asked for. Then the first such
/// link is written as a file.
pub(super) fn make_hard(
    links: Vec<Link>,
    tree: &dyn StoredTree,
    index: &dyn PackIndex,
    fetch: &Fetch<'_>,
    target: &Arc<Target>,
) -> Result<(), ClientError> {
    if links.is_empty() {
        return Ok(());
    }
    let top = target
        .top()
        .map_err(ClientError::io("open", target.display_top()))?;
    let mut maker = Maker {
        tree,
        locator: Locator::new(fetch, index),
        worker: Worker::new(fetch, &target.outcome),
        top,
        stand_ins: HashMap::new(),
    };
    for link in links {
        if target.outcome.is_stopped() {
            return Err(Cancelled.into());
        }
        let before = target.outcome.errors.load(Ordering::Relaxed);
        match maker.make(&link) {
            Ok(true) => target.outcome.done(1, 0),
            // Written as a file, and counted as one.
            Ok(false) => {
                let after = target.outcome.errors.load(Ordering::Relaxed);
                if before == after {
                    maker.stand_ins.insert(link.to.clone(), link.path.clone());
                }
            }
            Err(why) => target.outcome.failed(&target.display(&link.path), why),
        }
    }
    Ok(())
}

struct Maker<'a, 'k> {
    tree: &'a dyn StoredTree,
    locator: Locator<'a, 'k>,
    worker: Worker<'a, 'k>,
    top: Arc<Folder>,
    /// Links that were written as files, by what they were to be other names of.
    stand_ins: HashMap<StorePath, StorePath>,
}

impl Maker<'_, '_> {
    /// Makes one link; returns whether it is a link, and not a file of its own.
    fn make(&mut self, link: &Link) -> Result<bool, Failure> {
        let stored = self.tree.at(&link.to);
        let stored = stored.map_err(|error| Failure::Fetch(error.into()))?;
        let Some(Content::Regular {
            size,
            blake3,
            chunks,
        }) = stored.map(|stored| stored.content)
        else {
            return Err(Failure::Record(
                "what it is another name of is not in the store",
            ));
        };
        let (folder, name) = self.enter(&link.path, true)?;
        let kept = Kept::of(&folder)?;
        let original = self.stand_ins.get(&link.to).unwrap_or(&link.to);
        let made = match self.enter(original, false) {
            Ok((from, original)) if is_same(&from, &original, size, &blake3).unwrap_or(false) => {
                link_new(&from, &original, &folder, &name, size, &blake3).map(|()| true)
            }
            _ => {
                let chunks = find(&mut self.locator, &chunks, size)?;
                self.write(Job {
                    folder: Arc::clone(&folder),
                    name,
                    size,
                    blake3,
                    metadata: link.metadata.clone(),
                    chunks,
                })?;
                Ok(false)
            }
        };
        kept.put_back(&folder);
        Ok(made?)
    }

    /// Writes a file on this thread, in parts where it is large.
    fn write(&mut self, mut job: Job) -> Result<(), Failure> {
        if job.size <= super::plan::PLAIN_BYTES {
            self.worker.take(Work::Batch(vec![job]));
            return Ok(());
        }
        if let There::Same = look(&job.folder, &job.name, job.size, &job.blake3)? {
            job.folder.target.outcome.done(1, 0);
            return Ok(());
        }
        let chunks = std::mem::take(&mut job.chunks);
        let large = Arc::new(super::large::Large::begin(job)?);
        let mut offset = 0;
        for chunk in chunks {
            let length = chunk.plaintext_length();
            self.worker.take(Work::Part {
                large: Arc::clone(&large),
                offset,
                chunks: vec![chunk],
            });
            offset += length;
        }
        Ok(())
    }

    fn enter(&self, path: &StorePath, make: bool) -> io::Result<(Arc<Folder>, Vec<u8>)> {
        let mut names = components(path);
        let name = names
            .pop()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        if make {
            let folder = Walk::new(Arc::clone(&self.top)).enter(&names, |_| None)?;
            return Ok((folder, name));
        }
        let mut folder = Arc::clone(&self.top);
        for name in &names {
            folder = folder.open(name, false)?;
        }
        Ok((folder, name))
    }
}

/// Gives a file a second name.
fn link_new(
    from: &Folder,
    original: &[u8],
    folder: &Folder,
    name: &[u8],
    size: u64,
    blake3: &[u8; 32],
) -> io::Result<()> {
    check_name(name)?;
    match linkat(from, original, folder, name, AtFlags::empty()) {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    let one = statat(from, original, AtFlags::SYMLINK_NOFOLLOW)?;
    let other = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino) {
        return Ok(());
    }
    if let There::Same = look(folder, name, size, blake3)?
        && !folder.target.overwrite
    {
        // A copy: as good to read, and not to be replaced unless told.
        return Ok(());
    }
    let partial = folder.target.partial_name();
    linkat(from, original, folder, &partial[..], AtFlags::empty())?;
    if let Err(error) = renameat(folder, &partial[..], folder, name) {
        let _ = unlinkat(folder, &partial[..], AtFlags::empty());
        return Err(error.into());
    }
    Ok(())
}

/// How a folder was, before a link was put into it after it was finished.
struct Kept {
    mode: Mode,
    times: Timestamps,
}

impl Kept {
    fn of(folder: &Folder) -> io::Result<Self> {
        let stat = fstat(folder.as_fd())?;
        let kept = Self {
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
            times: Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: stat.st_mtime,
                    tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                },
            },
        };
        if !kept.mode.contains(Mode::WUSR | Mode::XUSR) {
            folder.unlock();
        }
        Ok(kept)
    }

    fn put_back(&self, folder: &Folder) {
        // Where that fails it is not ours, and was not changed either.
        let _ = fchmod(folder, self.mode);
        let _ = futimens(folder, &self.times);
    }
}
