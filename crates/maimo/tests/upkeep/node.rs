//! A node that keeps a store on a folder, and its process while it runs.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::Machine;

/// A hook that writes down what it is told.
const HOOK: &str = "#!/bin/sh
cat >> \"$HOME/told.json\"
env >> \"$HOME/told.env\"
echo \"$MAIMO_EVENT $MAIMO_KIND $MAIMO_CHANNEL\" >> \"$HOME/told\"
";

/// A node with a channel, the folder `mine` watched.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    running: Option<Child>,
}

impl Node {
    /// Makes one; `more` is said in its configuration besides.
    pub(crate) fn new(more: &str) -> Self {
        let machine = Machine::new();
        let hook = machine.write("hook", HOOK);
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let (mine, hook) = (machine.text("mine"), machine.text("hook"));
        let usual = format!(
            "watch = [\"{mine}\"]\nhook = \"{hook}\"\nwatch-quiet = \"400ms\"\nrescan-every = \"0s\"\naudit-every = \"0s\"\nvital-every = \"0s\"\nprune-every = \"0s\"\npatience = \"0s\"\n"
        );
        let kept = usual.lines().filter(|line| {
            let key = line.split(" = ").next().unwrap();
            !more.lines().any(|line| line.starts_with(key))
        });
        let kept: Vec<&str> = kept.collect();
        machine.write("home/config.toml", format!("{}\n{more}\n", kept.join("\n")));
        machine.done(&["init", "--source", "laptop"]);
        machine.done(&["channel", "open", "disk", "--name", "disk"]);
        fs::create_dir(machine.path("mine")).unwrap();
        Self {
            machine,
            running: None,
        }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let mut command = self.machine.command(&["--json", "start"]);
        command.env("MAIMO_PASSPHRASE", "correct horse");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.machine.path("log"));
        command.stdout(Stdio::piped()).stderr(log.unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        self.running = Some(child);
        assert!(line.contains("ready"), "{line:?}: {}", self.log());
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(0), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.machine.path("log")).unwrap_or_default()
    }

    /// Returns what the state file says.
    pub(crate) fn state(&self) -> Value {
        let text = fs::read(self.machine.path("home/state.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Returns the store's sequence as of the last run, once nothing is left to be stored and it is beyond `before`.
    pub(crate) fn stored_after(&self, before: u64) -> u64 {
        let mut sequence = 0;
        self.until("stored", |state| {
            sequence = state["stored"]["sequence"].as_u64().unwrap_or(0);
            sequence > before && state["pending"] == false && state["doing"].is_null()
        });
        sequence
    }

    /// Waits until the state file says what `holds` wants.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&Value) -> bool) {
        for _ in 0..1200 {
            if holds(&self.state()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never: {what}: {:#}\n{}", self.state(), self.log());
    }

    /// Waits until the hook was told so many lines, and returns all of them.
    pub(crate) fn told(&self, count: usize) -> Vec<String> {
        for _ in 0..1200 {
            let told = fs::read_to_string(self.machine.path("user/told")).unwrap_or_default();
            let lines: Vec<String> = told.lines().map(str::to_owned).collect();
            if lines.len() >= count {
                return lines;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never told: {:#}\n{}", self.state(), self.log());
    }

    /// Returns the kinds of what is wrong.
    pub(crate) fn troubles(&self) -> Vec<String> {
        kinds(&self.state())
    }

    /// Returns how each path of the store stands, by its name: the node must not run.
    pub(crate) fn paths(&self) -> Vec<(String, String)> {
        let listed = self.machine.json(&["list", "--all"]);
        let of = |file: &Value| {
            let path = file["path"].as_str().unwrap();
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, file["state"].as_str().unwrap().to_owned())
        };
        let mut paths: Vec<_> = listed.iter().map(of).collect();
        paths.sort();
        paths
    }
}

/// Returns the kinds of what is wrong.
pub(crate) fn kinds(state: &Value) -> Vec<String> {
    let troubles = state["troubles"].as_array().cloned().unwrap_or_default();
    let kind = |trouble: &Value| trouble["kind"].as_str().unwrap().to_owned();
    troubles.iter().map(kind).collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
