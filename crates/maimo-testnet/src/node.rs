//! One tor process: started, watched, ended by its id.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{error::NetworkError, torrc};

/// How much of a log an error shows, in bytes.
const LOG_SHOWN: u64 = 2_000;
/// How often a node's progress is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(100);

/// Returns why no network can be started on this machine; nothing if one can.
pub fn missing_tor() -> Option<NetworkError> {
    ["tor", "tor-gencert"]
        .into_iter()
        .find_map(|name| program(name).err())
}

/// Returns where a program is.
pub(crate) fn program(name: &'static str) -> Result<PathBuf, NetworkError> {
    // A daemon's folder, which not every user's PATH names.
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or(NetworkError::MissingTor { program: name })
}

/// Whose end is a node's end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    /// This process: an interrupt from the terminal reaches the node too.
    This,
    /// Another process; the node is out of the reach of what ends this one.
    Process(u32),
}

/// A tor process with a folder of its own: `torrc`, `tor.log`, `data`. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Node {
    name: String,
    folder: PathBuf,
    owner: Owner,
    child: Option<Child>,
}

impl Node {
    /// Writes a node's configuration, and does not start it yet.
    pub(crate) fn new(
        name: &str,
        folder: &Path,
        lines: &str,
        owner: Owner,
    ) -> Result<Self, NetworkError> {
        prepare(folder)?;
        let file = folder.join("torrc");
        let lines = format!("{}{lines}", torrc::node(folder));
        fs::write(&file, lines).map_err(NetworkError::io("write", &file))?;
        Ok(Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            owner,
            child: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<(), NetworkError> {
        let tor = program("tor")?;
        let log = self.log_file();
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(NetworkError::io("write", &log))?;
        let errors = output
            .try_clone()
            .map_err(NetworkError::io("write", &log))?;
        let mut command = tor_command(&tor, &self.folder);
        let owner = match self.owner {
            Owner::This => process::id(),
            Owner::Process(id) => {
                command.process_group(0);
                id
            }
        };
        command
            .args(["__OwningControllerProcess", &owner.to_string()])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        let child = command.spawn().map_err(NetworkError::io("start", tor))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has ended and was waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Leaves it to its owner, another process.
    pub(crate) fn leave(mut self) {
        self.child = None;
    }

    /// Returns an error if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), NetworkError> {
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            _ => Err(NetworkError::Ended {
                node: self.name.clone(),
                log: self.log(),
            }),
        }
    }

    /// Waits until `ready` says so, which else says how far the node is.
    pub(crate) fn wait(
        &mut self,
        patience: Duration,
        mut ready: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), NetworkError> {
        let begin = Instant::now();
        loop {
            self.check()?;
            let Err(state) = ready(self) else {
                return Ok(());
            };
            if begin.elapsed() > patience {
                return Err(NetworkError::NotReady {
                    node: self.name.clone(),
                    seconds: patience.as_secs(),
                    state,
                    log: self.log(),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Returns the end of its log.
    pub(crate) fn log(&self) -> String {
        self.log_from(0)
    }

    /// Returns the end of what it logged after so many bytes.
    pub(crate) fn log_from(&self, offset: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.log_file()) {
            let begin = self.log_length().saturating_sub(LOG_SHOWN).max(offset);
            let _ = file
                .seek(SeekFrom::Start(begin))
                .and_then(|_| file.take(LOG_SHOWN).read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(self.log_file()).map_or(0, |file| file.len())
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("tor.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a node's folder, with nothing in it that could come from another configuration.
pub(crate) fn prepare(folder: &Path) -> Result<(), NetworkError> {
    let data = torrc::data(folder);
    fs::create_dir_all(&data).map_err(NetworkError::io("make", &data))?;
    private(&data)?;
    let empty = torrc::empty(folder);
    fs::write(&empty, "").map_err(NetworkError::io("write", &empty))
}

/// Keeps a folder to its user: tor refuses one that others may write to.
pub(crate) fn private(folder: &Path) -> Result<(), NetworkError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(NetworkError::io("protect", folder))
}

/// Returns a tor that reads the configuration of this folder and no other.
pub(crate) fn tor_command(tor: &Path, folder: &Path) -> Command {
    let mut command = Command::new(tor);
    command
        .arg("-f")
        .arg(folder.join("torrc"))
        // In place of the system's defaults, which are another node's.
        .arg("--defaults-torrc")
        .arg(torrc::empty(folder));
    command
}
