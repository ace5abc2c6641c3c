//! One network for all processes of a test run, so that its start is paid for once.
//!
//! ```text
//!  user --lock--> `current` names a folder, `ready` is in it, its keeper lives? --> use it
//!    |                         no: start keeper and nodes, write `ready`, then `current`
//!    '-- while it uses it: touches `lease`
//!
//!  keeper (a shell): nobody touched `lease`? --> `ready` away; still nobody? --> ends; the nodes, which belong to it, end with it
//! ```
//!
//! Why a shell: what starts the network is a test, which ends long before the last user, and of a library that a test links there need be no
//! program of its own.
//!
//! Invariant: whoever finds `ready` after it has touched `lease` finds a network that lives on: the keeper looks at `lease` once more after `ready` is
//! away.

use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::NetworkError,
    network::{Network, RELAYS},
    node::Owner,
    relay::Relay,
};

/// How often a user says that it is there.
const TOUCH: Duration = Duration::from_secs(5);

/// `-mmin -2`: touched less than one or two minutes ago, as the system's `find` rounds.
const KEEPER: &str = r#"
cd "$1" || exit
while sleep 5; do
    if [ -z "$(find lease -mmin -2)" ]; then
        mv ready ready.over
        [ -z "$(find lease -mmin -2)" ] && exit
        mv ready.over ready
    fi
done
"#;

/// What a user holds while it uses the network.
#[derive(Debug)]
pub(crate) struct Lease {
    _alive: Arc<()>,
}

impl Lease {
    /// Touches the file now and until it is dropped.
    fn take(file: PathBuf) -> Result<Self, NetworkError> {
        touch(&file)?;
        let alive = Arc::new(());
        let watched = Arc::downgrade(&alive);
        thread::spawn(move || {
            while watched.strong_count() > 0 {
                thread::sleep(TOUCH);
                // Fails if the folder was cleaned away; the network then ends, and its user sees that.
                let _ = touch(&file);
            }
        });
        Ok(Self { _alive: alive })
    }
}

/// Joins the shared network, or starts it.
pub(crate) fn join() -> Result<Network, NetworkError> {
    let base = base();
    fs::create_dir_all(&base).map_err(NetworkError::io("make", &base))?;
    let lock_file = base.join("lock");
    // Held until the end of this function, and by a start until all is ready: who comes meanwhile waits.
    let lock = File::create(&lock_file).map_err(NetworkError::io("make", &lock_file))?;
    lock.lock().map_err(NetworkError::io("lock", &lock_file))?;

    let current = base.join("current");
    if let Some(network) = fs::read_to_string(&current)
        .ok()
        .and_then(|name| join_running(&base.join(name.trim())))
    {
        return Ok(network);
    }
    remove_old(&base);
    let name = format!("{}-{}", process::id(), unix_millis());
    let folder = base.join(&name);
    start(&folder)?;
    fs::write(&current, name).map_err(NetworkError::io("write", &current))?;
    join_running(&folder).ok_or_else(|| NetworkError::Ended {
        node: "keeper".to_owned(),
        log: String::new(),
    })
}

fn join_running(folder: &Path) -> Option<Network> {
    let lease = Lease::take(folder.join("lease")).ok()?;
    if !keeper_lives(folder) {
        return None;
    }
    let ready = fs::read_to_string(folder.join("ready")).ok()?;
    let (nodes, relays) = ready.split_once('\n')?;
    let relays: Vec<_> = relays.lines().filter_map(Relay::parse).collect();
    (relays.len() == RELAYS).then(|| Network::of_others(PathBuf::from(nodes), relays, lease))
}

fn start(folder: &Path) -> Result<(), NetworkError> {
    fs::create_dir_all(folder).map_err(NetworkError::io("make", folder))?;
    // Touched while the network starts: the keeper watches from the beginning.
    let lease = Lease::take(folder.join("lease"))?;
    let mut keeper = start_keeper(folder)?;
    let pid = folder.join("keeper");
    let started = fs::write(&pid, keeper.id().to_string())
        .map_err(NetworkError::io("write", &pid))
        .and_then(|()| Network::start_for(Ipv4Addr::LOCALHOST, folder, Owner::Process(keeper.id())))
        .and_then(|network| {
            let mut lines = format!("{}\n", network.folder().display());
            for relay in network.relays() {
                lines.push_str(&relay.encode());
                lines.push('\n');
            }
            let ready = folder.join("ready");
            fs::write(&ready, lines).map_err(NetworkError::io("write", &ready))?;
            network.leave();
            Ok(())
        });
    if started.is_err() {
        // Dies or is dead already.
        let _ = keeper.kill();
        let _ = keeper.wait();
    }
    drop(lease);
    started
}

fn start_keeper(folder: &Path) -> Result<Child, NetworkError> {
    Command::new("sh")
        .args(["-c", KEEPER, "keeper-of-a-tor-network"])
        .arg(folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(NetworkError::io("start", "sh"))
}

/// Returns whether the keeper was not killed, nor the machine started again.
fn keeper_lives(folder: &Path) -> bool {
    fs::read_to_string(folder.join("keeper")).is_ok_and(|pid| {
        Command::new("kill")
            .args(["-0", &pid])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// Removes what networks that have ended left.
fn remove_old(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let folder = entry.path();
        if folder.join("lease").exists() && !keeper_lives(&folder) {
            // What fails now, because a node is just ending, is done next time.
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Returns the folder for shared networks of this configuration: below the build's own folder if this is one of its programs.
fn base() -> PathBuf {
    let target = env::current_exe().ok().and_then(|program| {
        program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").exists())
            .map(|folder| folder.join("tmp"))
    });
    let mut hasher = DefaultHasher::new();
    // Another configuration is another network.
    (include_str!("torrc.rs"), include_str!("shared.rs"), RELAYS).hash(&mut hasher);
    target
        .unwrap_or_else(env::temp_dir)
        .join(format!("maimo-testnet-{:016x}", hasher.finish()))
}

fn touch(file: &Path) -> Result<(), NetworkError> {
    File::options()
        .create(true)
        .append(true)
        .open(file)
        .and_then(|open| open.set_modified(SystemTime::now()))
        .map_err(NetworkError::io("touch", file))
}

fn unix_millis() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis())
}
