//! A node that stores for others: volumes, its keys, scrubbing.

use std::{fs, thread};

use crate::support::Machine;

#[test]
fn the_first_volume_makes_a_provider() {
    let machine = Machine::new();
    assert!(machine.json(&["volume", "list"]).is_empty());
    machine.error(10, &["provider", "backup"]);
    let volume = machine.object("volume", &["volume", "add", "disk", "--capacity", "10GiB"]);
    for key in ["path", "capacity", "used", "free", "state"] {
        assert!(volume.get(key).is_some(), "no {key} in {volume}");
    }
    assert_eq!(volume["path"], machine.text("disk"));
    assert_eq!(volume["capacity"], 10_u64 << 30);
    assert_eq!(volume["state"], "ready");
    let backup = machine.object("provider", &["provider", "backup"]);
    assert_eq!(
        backup["phrase"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .count(),
        24
    );
    assert_eq!(machine.json(&["volume", "list"]).len(), 1);
    let summary = machine.object("summary", &["scrub"]);
    assert_eq!(summary["damaged"], 0);
}

#[test]
fn a_volume_is_drained_and_removed() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "one", "--capacity", "1GiB"]);
    machine.done(&["volume", "add", "two", "--capacity", "1GiB"]);
    let drained = machine.object("volume", &["volume", "drain", "one"]);
    assert_eq!(drained["state"], "draining");
    machine.done(&["volume", "remove", "one"]);
    let left = machine.json(&["volume", "list"]);
    assert_eq!(left.len(), 1, "{left:#?}");
    machine.error(1, &["volume", "remove", "one"]);
}

#[test]
fn a_volume_that_is_not_mounted_is_unavailable_and_needs_attention() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    fs::rename(machine.path("disk"), machine.path("away")).unwrap();
    let volumes = machine.json(&["volume", "list"]);
    assert_eq!(volumes[0]["state"], "unavailable", "{volumes:#?}");
    let status = machine.object("status", &["status"]);
    assert_eq!(status["attention"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn sizes_that_are_none_are_refused() {
    let machine = Machine::new();
    machine.error(2, &["volume", "add", "disk", "--capacity", "lots"]);
    machine.error(2, &["volume", "add", "disk"]);
    assert!(!machine.path("disk").exists());
}

#[test]
fn an_invitation_is_one_line_and_its_label_is_listed_until_it_is_withdrawn() {
    let machine = Machine::new();
    machine.error(10, &["client", "list"]);
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    let invited = machine.object(
        "invitation",
        &[
            "client", "invite", "anna", "--cap", "5MiB", "--grace", "2 days",
        ],
    );
    let line = invited["invitation"].as_str().unwrap();
    assert!(line.starts_with("maimo:invite1"), "{line}");
    assert_eq!(invited["label"], "anna");
    assert_eq!(invited["cap"], 5 << 20);
    assert!(invited["expires"].as_str().unwrap().ends_with('Z'));
    let listed = machine.object("invitation", &["client", "list"]);
    assert_eq!(listed["state"], "open");
    assert_eq!(listed["network"], "tor");
    assert!(listed.get("invitation").is_none(), "it is shown once");
    let taken = machine.error(1, &["client", "invite", "anna", "--cap", "1"]);
    assert_eq!(taken["kind"], "bad_input");

    // As text, to a pipe: the line stands alone, and there is no picture.
    let text = machine
        .done(&["client", "invite", "bert", "--cap", "5MiB"])
        .out;
    assert!(text.lines().next().unwrap().starts_with("maimo:invite1"));
    machine.done(&["client", "withdraw", "anna"]);
    machine.error(1, &["client", "withdraw", "anna"]);
    let states: Vec<_> = machine.json(&["client", "list"]);
    let states: Vec<_> = states.iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["withdrawn", "open"]);
    machine.error(1, &["client", "cap", "nobody", "1GiB"]);
    machine.error(1, &["client", "revoke", "nobody"]);
    // Nobody can be asked here.
    machine.error(2, &["client", "revoke", "nobody", "--now"]);
}

#[test]
fn over_tcp_an_invitation_says_where_and_nothing_is_guessed() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    let invite = ["client", "invite", "anna", "--cap", "5MiB"];
    machine.error(2, &[&invite[..], &["--tcp"]].concat());
    let wrong = ["--address", "host.example"];
    machine.error(2, &[&invite[..], &wrong].concat());
    let both = ["--address", "192.0.2.1:5", "--address", "192.0.2.1:5"];
    machine.error(2, &[&invite[..], &both].concat());
    let by_flag = ["--address", "host.example:4243"];
    let invited = machine.object("invitation", &[&invite[..], &by_flag].concat());
    assert_eq!(invited["network"], "tcp");
    machine.write(
        "home/config.toml",
        "transport = \"tcp\"\nannounce = [\"host.example:1\"]\n",
    );
    let bert = ["client", "invite", "bert", "--cap", "5MiB"];
    assert_eq!(machine.object("invitation", &bert)["network"], "tcp");
}

#[test]
fn commands_that_come_together_wait_for_one_another() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    thread::scope(|scope| {
        for number in 0..6 {
            let machine = &machine;
            scope.spawn(move || {
                let label = format!("client {number}");
                machine.done(&["client", "invite", &label, "--cap", "1GiB"]);
            });
        }
    });
    assert_eq!(machine.json(&["client", "list"]).len(), 6);
}
