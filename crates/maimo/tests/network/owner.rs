//! A node that keeps a store: every command for it goes through the process that has it open, and does the same as without.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::PathBuf,
    process::{Child, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    node::{Node, client_of, grow, until},
    support::{Ended, Machine, finished},
};

/// A process that runs a machine's node.
struct Running {
    child: Child,
    ready: Value,
}

impl Running {
    fn start(machine: &Machine) -> Self {
        let mut command = machine.command(&["--json", "start"]);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(machine.path("log"));
        command.stdout(Stdio::piped()).stderr(log.unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.as_mut().unwrap());
        out.read_line(&mut line).unwrap();
        let log = || fs::read_to_string(machine.path("log")).unwrap_or_default();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", log()));
        assert_eq!(ready["message_type"], "ready");
        Self { child, ready }
    }

    fn signal(&self, signal: Signal) {
        signal_to(&self.child, signal);
    }

    fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(child: &Child, signal: Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Makes a machine whose store is kept in a folder, with two runs of it.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.write("home/config.toml", "single-copy = true\n");
    let made = machine.object("init", &["init", "--source", "laptop"]);
    machine.write("phrase", made["phrase"].as_str().unwrap());
    machine.done(&["channel", "open", "disk", "--name", "disk"]);
    for (file, content) in [("mine/a", "first"), ("mine/deep/b", "second")] {
        machine.write(file, content);
    }
    machine.done(&["store", "mine"]);
    machine.write("mine/a", "another");
    machine.done(&["store", "mine"]);
    machine
}

fn said(ended: &Ended) -> (Option<i32>, &str, &str) {
    (ended.code, &ended.out, &ended.err)
}

#[test]
fn what_is_only_looked_at_is_the_same_with_a_node_and_without_byte_by_byte() {
    let machine = machine();
    let runs = machine.json(&["runs"]);
    let run = |place: usize| runs[place]["run"].as_str().unwrap().to_owned();
    let (one, two) = (run(0), run(1));
    let commands: &[&[&str]] = &[
        &["list"],
        &["list", "--all", "mine/deep"],
        &["list", "--at", "yesterday?"],
        &["find", "a*"],
        &["runs"],
        &["diff", &one, &two],
        &["diff", &one, "nothing"],
        &["history", "mine/a"],
        &["history", "mine/none"],
        &["root"],
        &["keep"],
        &["channel", "list"],
        &["channel", "close", "none"],
        &["dump", "mine/a"],
        &["dump", "mine/a", "--revision", "1"],
        &["dump", "mine"],
        &["retrieve", "mine", "--to", "back", "--overwrite"],
        &["verify", "--read-all"],
        &["verify", "other"],
        &["verify-phrase", "--phrase-file", "phrase"],
        &["remove", "--dry-run", "mine/*"],
        &["prune", "--dry-run"],
        &["undelete", "--dry-run"],
        &["store", "mine", "--dry-run"],
    ];
    let all = || {
        let run = |args: &&[&str]| {
            let json = machine.run(&[&["--json"], *args].concat());
            (machine.run(args), json)
        };
        commands.iter().map(run).collect::<Vec<_>>()
    };
    // Once before, so that what a first command does once is done.
    all();
    let without = all();
    let mut running = Running::start(&machine);
    assert_eq!(running.ready["keeps"]["source"], "laptop");
    assert_eq!(running.ready["keeps"]["channels"][0], "disk");
    let with = all();
    for ((args, without), with) in commands.iter().zip(&without).zip(&with) {
        assert_eq!(said(&without.0), said(&with.0), "{args:?}");
        assert_eq!(said(&without.1), said(&with.1), "{args:?}");
    }
    let codes: Vec<_> = with.iter().map(|ended| ended.0.code).collect();
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(1)));
    // A mode of 0600: the socket is as good as the key.
    let mode = fs::metadata(machine.path("home/socket")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    running.signal(Signal::TERM);
    assert_eq!(running.ended(), Some(0));
    assert!(!machine.path("home/socket").exists());
}

#[test]
fn what_changes_the_store_is_done_by_the_node() {
    let machine = machine();
    let running = Running::start(&machine);
    machine.write("mine/c", "third");
    let stored = machine.object("summary", &["store", "mine"]);
    assert_eq!(stored["files_new"], 1, "{stored}");
    let runs = machine.json(&["runs"]);
    assert_eq!(runs.len(), 3);
    let run = runs[0]["run"].as_str().unwrap();
    assert_eq!(machine.object("run", &["pin", run])["pinned"], true);
    assert_eq!(
        machine.object("policy", &["keep", "--last", "1"])["last"],
        1
    );
    assert_eq!(machine.object("summary", &["remove", "mine/c"])["files"], 1);
    assert!(machine.object("summary", &["prune"])["runs_dropped"].is_u64());
    // Nothing was let go of that could come back.
    machine.error(1, &["undelete"]);
    machine.done(&[
        "channel", "open", "other", "--cap", "1GiB", "--name", "other",
    ]);
    assert_eq!(machine.json(&["channel", "list"]).len(), 2);
    machine.done(&["channel", "close", "other"]);
    let recovered = machine.object("summary", &["recover", "disk"]);
    assert!(recovered["files"].as_u64().unwrap() > 0, "{recovered}");
    // A folder is let go of after each command: others use it too.
    assert!(running.ready["identity"].is_null());
    let status = machine.object("status", &["status"]);
    assert!(status["running"]["since"].is_string(), "{status}");
    assert!(status["running"]["doing"].is_null(), "{status}");
    let shown = machine.done(&["status"]).out;
    assert!(shown.contains("running since 20"), "{shown}");
    drop(running);
    let shown = machine.done(&["status"]).out;
    assert!(shown.contains("no node runs here"), "{shown}");
    assert!(machine.object("status", &["status"])["running"].is_null());
}

#[test]
fn words_and_lines_are_read_where_the_user_is() {
    let machine = machine();
    let _running = Running::start(&machine);
    let words = fs::read_to_string(machine.path("phrase")).unwrap();
    let right = machine.fed(&words, &["verify-phrase", "--phrase-file", "-"]);
    assert_eq!(right.code, Some(0), "{right:#?}");
    let other = "abandon ".repeat(23) + "art";
    let wrong = machine.fed(&other, &["verify-phrase", "--phrase-file", "-"]);
    assert_eq!(wrong.code, Some(1), "{wrong:#?}");
    assert!(wrong.err.contains("another store"), "{wrong:#?}");
    let none = machine.fed("maimo:invite1qqqq", &["channel", "open", "-"]);
    assert_eq!(none.code, Some(2), "{none:#?}");
}

#[test]
fn a_node_that_is_killed_leaves_nothing_in_the_way() {
    let machine = machine();
    let mut running = Running::start(&machine);
    running.child.kill().unwrap();
    running.ended();
    assert!(machine.path("home/socket").exists());
    machine.done(&["list"]);
    let running = Running::start(&machine);
    let second = machine.error(1, &["start"]);
    let home = machine.text("home");
    assert!(
        second["message"].as_str().unwrap().contains(&home),
        "{second}"
    );
    drop(running);
    machine.done(&["store", "mine"]);
}

/// Has a home as one has it that was killed and has not ended yet: its locks are held, its socket can be connected to, nobody answers there.
struct Dying {
    _locks: Vec<fs::File>,
    _sockets: Vec<UnixListener>,
}

impl Dying {
    fn at(homes: &[PathBuf]) -> Self {
        let lock = |home: &PathBuf| {
            let file = fs::File::open(home.join("lock")).unwrap();
            file.try_lock().unwrap();
            file
        };
        let listen = |home: &PathBuf| {
            let _ = fs::remove_file(home.join("socket"));
            UnixListener::bind(home.join("socket")).unwrap()
        };
        Self {
            _locks: homes.iter().map(lock).collect(),
            _sockets: homes.iter().map(listen).collect(),
        }
    }

    /// Has it end after a moment.
    fn ends_soon(self) -> JoinHandle<()> {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(300));
            drop(self);
        })
    }
}

#[test]
fn whatever_comes_right_after_a_kill_waits_for_the_end_of_what_was_killed() {
    let mut node = Node::new();
    let machine = &node.machine;
    machine.done(&["init", "--source", "both"]);
    machine.done(&["channel", "open", "own", "--name", "own"]);
    machine.write("mine/file", "content");
    let homes = [machine.path("home"), machine.path("home/provider")];
    let lines = "maimo:invite1qqqq";
    for command in [&["store", "mine"][..], &["list"], &["client", "list"]] {
        let ended = Dying::at(&homes).ends_soon();
        machine.done(command);
        ended.join().unwrap();
    }
    // What was read from standard input is not asked for again.
    let ended = Dying::at(&homes).ends_soon();
    let none = machine.fed(lines, &["channel", "open", "-"]);
    assert_eq!(none.code, Some(2), "{none:#?}");
    ended.join().unwrap();
    let ended = Dying::at(&homes).ends_soon();
    assert_eq!(node.start()["keeps"]["source"], "both");
    ended.join().unwrap();
    for _ in 0..3 {
        let mut killed = node.dying();
        node.start();
        node.machine.done(&["list"]);
        killed.wait().unwrap();
    }
}

#[test]
fn commands_while_the_node_opens_are_done() {
    let machine = machine();
    for _ in 0..3 {
        let mut command = machine.command(&["--json", "start"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let opening = thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            line
        });
        while !opening.is_finished() {
            machine.done(&["list"]);
            machine.done(&["root"]);
        }
        let line = opening.join().unwrap();
        assert!(line.contains("\"ready\""), "{line}");
        child.kill().unwrap();
        machine.done(&["list"]);
        child.wait().unwrap();
    }
}

/// A client over a slow network, whose node runs.
fn slow() -> (Node, Machine, Running) {
    let node = Node::running();
    let machine = client_of(&node);
    machine.write(
        "home/config.toml",
        "transport = \"tcp\"\nsingle-copy = true\nlimit-upload = \"1MiB\"\ndrain-seconds = 1\n",
    );
    grow(&machine, "mine", 40);
    let running = Running::start(&machine);
    (node, machine, running)
}

fn doing(machine: &Machine) -> String {
    let status = machine.object("status", &["status"]);
    let what = status["running"]["doing"]["what"].as_str();
    what.unwrap_or_default().to_owned()
}

#[test]
fn looking_does_not_wait_for_a_long_store_and_who_waits_hears_for_what() {
    let (_node, machine, running) = slow();
    let store = machine.begin(&["--json", "store", "mine"]);
    until("the node stores", || doing(&machine).starts_with("store"));
    // At once, though the store takes a minute.
    for look in [
        &["list"][..],
        &["find", "x*"],
        &["runs"],
        &["root"],
        &["keep"],
    ] {
        machine.done(look);
    }
    let waits = machine.begin(&["verify"]);
    until("it is told what waits", || {
        let status = machine.object("status", &["status"]);
        status["running"]["waiting"][0] == "verify"
    });
    // An interrupt ends that command, and neither the one before it nor the node.
    signal_to(&waits, Signal::INT);
    let waited = finished(waits);
    assert_eq!(waited.code, Some(130), "{waited:#?}");
    assert!(
        waited.err.contains("Waiting for `store mine`"),
        "{waited:#?}"
    );
    assert!(doing(&machine).starts_with("store"));
    signal_to(&store, Signal::INT);
    let stored = finished(store);
    let error = stored.error(130);
    assert_eq!(error["kind"], "interrupted");
    until("the node is idle", || doing(&machine).is_empty());
    drop(running);
}

#[test]
fn a_command_that_is_killed_is_cancelled_and_the_node_goes_on() {
    let (_node, machine, running) = slow();
    let mut store = machine.begin(&["store", "mine"]);
    until("the node stores", || doing(&machine).starts_with("store"));
    store.kill().unwrap();
    store.wait().unwrap();
    until("the node is idle", || doing(&machine).is_empty());
    machine.done(&["verify"]);
    drop(running);
}

#[test]
fn a_stop_cancels_what_takes_too_long_and_ends_in_order() {
    let (_node, machine, mut running) = slow();
    let store = machine.begin(&["--json", "store", "mine"]);
    until("the node stores", || doing(&machine).starts_with("store"));
    running.signal(Signal::TERM);
    assert_eq!(running.ended(), Some(0));
    assert_eq!(finished(store).error(130)["kind"], "interrupted");
    // What was sealed is not sealed again, and all of it is stored in the end.
    let fast = ["--limit-upload", "0", "store", "mine"];
    machine.done(&fast);
    machine.done(&["verify", "--read-all"]);
}

#[test]
fn what_a_command_says_of_the_node_itself_is_warned_of() {
    let machine = machine();
    let _running = Running::start(&machine);
    let warned = machine.done(&["--limit-upload", "2MiB", "store", "mine"]);
    assert!(warned.err.contains("limit-upload"), "{warned:#?}");
    assert!(machine.done(&["store", "mine"]).err.is_empty());
}

#[test]
fn one_process_serves_others_and_keeps_its_own_store() {
    let mut node = Node::new();
    node.machine.done(&["init", "--source", "both"]);
    node.machine
        .done(&["channel", "open", "own", "--name", "own"]);
    let ready = node.start();
    assert_eq!(ready["keeps"]["source"], "both");
    assert!(ready["identity"].is_string());
    let bob = client_of(&node);
    for machine in [&node.machine, &bob] {
        machine.write("mine/file", "content");
        machine.done(&["store", "mine"]);
        machine.done(&["verify"]);
    }
    let status = node.machine.object("status", &["status"]);
    assert!(status["running"]["since"].is_string(), "{status}");
    assert!(status["connections"].is_u64(), "{status}");
    node.signal(Signal::TERM);
    assert_eq!(node.ended(), Some(0));
}
