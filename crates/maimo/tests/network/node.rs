//! A node that serves, and a client of it, each a home of its own.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    process::{Child, ChildStdout, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::Machine;

/// A provider with one volume, and its process while it runs.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) at: SocketAddr,
    running: Option<(Child, BufReader<ChildStdout>)>,
}

impl Node {
    /// Makes one that is to serve on a port of loopback which was free just now; it does not run yet.
    pub(crate) fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST)
    }

    /// Makes one as [`Self::new`] on this address of the machine.
    pub(crate) fn on(address: Ipv4Addr) -> Self {
        let machine = Machine::new();
        let free = TcpListener::bind((address, 0)).unwrap();
        let at = free.local_addr().unwrap();
        machine.write(
            "home/config.toml",
            format!("transport = \"tcp\"\nlisten = [\"{at}\"]\ndrain-seconds = 10\n"),
        );
        machine.done(&["volume", "add", "disk", "--capacity", "10GiB"]);
        Self {
            machine,
            at,
            running: None,
        }
    }

    /// Runs what a machine has, whatever it is.
    pub(crate) fn of(machine: Machine) -> Self {
        Self {
            machine,
            at: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            running: None,
        }
    }

    /// Makes one that runs.
    pub(crate) fn running() -> Self {
        let mut node = Self::new();
        node.start();
        node
    }

    /// Starts it and returns what it says when it is ready.
    pub(crate) fn start(&mut self) -> Value {
        let mut command = self.machine.command(&["--json", "start"]);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.machine.path("log"));
        command.stdout(Stdio::piped()).stderr(log.unwrap());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}; {}", self.log()));
        assert_eq!(ready["message_type"], "ready");
        self.running = Some((child, out));
        ready
    }

    /// Returns what it wrote to standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.machine.path("log")).unwrap_or_default()
    }

    /// Returns its process's number.
    pub(crate) fn id(&self) -> u32 {
        let (child, _) = self.running.as_ref().unwrap();
        child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let (child, _) = self.running.as_ref().unwrap();
        let id = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let (mut child, _) = self.running.take().unwrap();
        child.wait().unwrap().code()
    }

    /// Has it killed and returns it: it ends when it does.
    pub(crate) fn dying(&mut self) -> Child {
        let (mut child, _) = self.running.take().unwrap();
        child.kill().unwrap();
        child
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Begins to store a folder of a client's, slowly, and returns the running program once something has arrived here.
    pub(crate) fn storing(&self, client: &Machine, folder: &str) -> Child {
        let folder = client.text(folder);
        let child = client.begin(&["--json", "--limit-upload", "8MiB", "store", &folder]);
        let before = self.bytes_on_disk();
        until("something arrived", || {
            self.bytes_on_disk() > before + (1 << 20)
        });
        child
    }

    /// Returns how many bytes lie in the volume, holes aside.
    fn bytes_on_disk(&self) -> u64 {
        let mut sum = 0;
        let mut waiting = vec![self.machine.path("disk")];
        while let Some(path) = waiting.pop() {
            // Files come and go while it runs.
            let Ok(metadata) = std::fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
                waiting.extend(entries.map(|entry| entry.path()));
            } else {
                sum += metadata.blocks() * 512;
            }
        }
        sum
    }

    /// Invites a client and returns the line.
    pub(crate) fn invite(&self, label: &str) -> String {
        let args = ["client", "invite", label, "--cap", "1GiB"];
        let invitation = self.machine.object("invitation", &args);
        invitation["invitation"].as_str().unwrap().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a client's machine that uses TCP, with a store of its own.
pub(crate) fn client() -> Machine {
    let machine = Machine::new();
    machine.write(
        "home/config.toml",
        "transport = \"tcp\"\nsingle-copy = true\n",
    );
    let made = machine.object("init", &["init", "--source", "laptop"]);
    machine.write("phrase", made["phrase"].as_str().unwrap());
    machine
}

/// Makes a client with a channel to a node that runs.
pub(crate) fn client_of(node: &Node) -> Machine {
    let machine = client();
    machine.done(&["channel", "open", &node.invite("bob"), "--name", "far"]);
    machine
}

/// Writes files that do not compress, a mebibyte each.
pub(crate) fn grow(machine: &Machine, folder: &str, files: u32) {
    for file in 0..files {
        machine.write(&format!("{folder}/{file}"), noise(u64::from(file) + 1));
    }
}

fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(1 << 20);
    while bytes.len() < 1 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes
}

/// Expects that what came back below a folder is what there was.
pub(crate) fn assert_back(machine: &Machine, folder: &str, files: u32) {
    let to = machine.text("back");
    machine.done(&[
        "retrieve",
        &machine.text(folder),
        "--to",
        &to,
        "--overwrite",
    ]);
    let back = machine.back(folder);
    for file in 0..files {
        let found = std::fs::read(back.join(file.to_string())).unwrap();
        assert!(found == noise(u64::from(file) + 1), "{folder}/{file}");
    }
}

/// Waits for a condition that another process brings about.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}
