//! Channels: opened in a folder, listed, told from a folder that is not there.

use std::fs;

use crate::support::Machine;

fn machine() -> Machine {
    let machine = Machine::new();
    machine.done(&["init", "--source", "laptop"]);
    machine
}

#[test]
fn a_channel_tells_its_figures() {
    let machine = machine();
    let opened = machine.object(
        "channel",
        &["channel", "open", "provider", "--name", "disk"],
    );
    let channel = machine.object("channel", &["channel", "list"]);
    assert_eq!(opened, channel);
    for key in [
        "name", "address", "cap", "used", "root", "sequence", "check",
    ] {
        assert!(channel.get(key).is_some(), "no {key} in {channel}");
    }
    assert_eq!(channel["name"], "disk");
    let address = channel["address"].as_str().unwrap();
    assert!(
        address.starts_with("dir:/") && address.ends_with("/provider"),
        "{address}"
    );
    assert_eq!(
        channel["check"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .count(),
        6
    );
    let root = machine.object("root", &["root"]);
    assert_eq!(root["channel"], "disk");
    assert_eq!(
        (&root["root"], &root["sequence"]),
        (&channel["root"], &channel["sequence"])
    );
    let status = machine.object("status", &["status"]);
    assert_eq!(status["source"], "laptop");
    assert_eq!(status["channels"][0]["root"], channel["root"]);
}

#[test]
fn a_cap_is_the_folders() {
    let machine = machine();
    let args = ["channel", "open", "provider", "--cap", "1GiB"];
    assert_eq!(machine.object("channel", &args)["cap"], 1 << 30);
}

#[test]
fn a_folder_whose_parent_is_not_there_is_not_made() {
    let machine = machine();
    machine.error(1, &["channel", "open", "unmounted/provider"]);
    assert!(!machine.path("unmounted").exists());
}

#[test]
fn a_provider_opens_once_and_the_layouts_channel_does_not_close() {
    let machine = machine();
    machine.done(&["channel", "open", "provider"]);
    machine.error(1, &["channel", "open", "provider", "--name", "again"]);
    machine.error(1, &["channel", "close", "provider"]);
    machine.error(1, &["channel", "close", "nobody"]);
    assert_eq!(machine.json(&["channel", "list"]).len(), 1);
}

#[test]
fn a_channel_whose_folder_is_gone_is_listed_with_the_reason() {
    let machine = machine();
    machine.done(&["channel", "open", "provider"]);
    fs::rename(machine.path("provider"), machine.path("unplugged")).unwrap();
    let channel = machine.object("channel", &["channel", "list"]);
    assert!(channel["used"].is_null(), "{channel}");
    assert!(
        channel["trouble"].as_str().unwrap().contains("mounted"),
        "{channel}"
    );
    assert!(!machine.path("provider").exists());
}
