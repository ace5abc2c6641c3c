//! Drills over TCP: a machine is lost, a provider wakes up in the past.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    node::{Node, assert_back, client_of, grow},
    support::Machine,
};

/// A new machine that has nothing but the words of another.
fn empty(of: &Machine) -> Machine {
    let machine = Machine::new();
    machine.write("home/config.toml", "transport = \"tcp\"\n");
    machine.write("phrase", fs::read(of.path("phrase")).unwrap());
    machine.done(&["init", "--phrase-file", "phrase", "--source", "new"]);
    machine
}

/// Retrieves what another machine stored and compares it with what is there.
fn assert_same(machine: &Machine, of: &Machine, files: u32) {
    let (mine, to) = (of.text("mine"), machine.text("back"));
    // Packs tell of a machine, and not what it is called.
    let listed = machine.json(&["list", "--source", "all"]);
    let source = listed[0]["source"].as_str().unwrap();
    machine.done(&["retrieve", &mine, "--source", source, "--to", &to]);
    for file in 0..files {
        let original = of.path(&format!("mine/{file}"));
        let back = machine
            .path("back")
            .join(original.strip_prefix("/").unwrap());
        assert!(
            fs::read(original).unwrap() == fs::read(back).unwrap(),
            "{file}"
        );
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// Copies the home and the disk of a provider, between two of its processes.
fn image(node: &mut Node) -> PathBuf {
    let image = node.machine.path("image");
    fs::create_dir(&image).unwrap();
    node.kill();
    for part in ["home", "disk"] {
        copy(&node.machine.path(part), &image.join(part));
    }
    node.start();
    image
}

fn put_back(node: &mut Node, image: &Path) {
    node.kill();
    for part in ["home", "disk"] {
        fs::remove_dir_all(node.machine.path(part)).unwrap();
        copy(&image.join(part), &node.machine.path(part));
    }
    node.start();
}

#[test]
fn an_empty_machine_is_told_what_confirms_the_state_it_recovers() {
    let node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 2);
    machine.done(&["store", &machine.text("mine")]);
    let root = machine.object("root", &["root"]);
    let late = root["root"].as_str().unwrap();
    let address = node.at.to_string();

    let alone = empty(&machine);
    let found = alone.object("summary", &["recover", &address]);
    assert_eq!(
        (&found["confirmed"], &found["root"]),
        (&false.into(), &late.into())
    );
    assert_same(&alone, &machine, 2);
    // A root that was kept tells, one that never was does not.
    let by_root = empty(&machine);
    let found = by_root.object("summary", &["recover", &address, "--root", late]);
    assert_eq!(found["confirmed_by"], "root", "{found}");
    assert_same(&by_root, &machine, 2);
    let never = "ab".repeat(32);
    let misled = empty(&machine);
    let found = misled.object("summary", &["recover", &address, "--root", &never]);
    assert_eq!(found["confirmed"], false, "{found}");
}

#[test]
fn packs_alone_bring_the_files_back_over_a_network() {
    let node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 3);
    machine.done(&["store", &machine.text("mine")]);
    let other = empty(&machine);
    let address = node.at.to_string();
    let found = other.object("summary", &["recover", &address, "--from-packs"]);
    assert_eq!(found["unreadable_packs"], 0, "{found}");
    assert_same(&other, &machine, 3);
}

#[test]
fn a_provider_restored_from_an_old_image_is_found_out_and_repaired() {
    let mut node = Node::running();
    let machine = client_of(&node);
    let mine = machine.text("mine");
    grow(&machine, "mine", 2);
    machine.done(&["store", &mine]);
    let image = image(&mut node);
    grow(&machine, "mine", 5);
    machine.done(&["store", &mine]);
    put_back(&mut node, &image);
    machine.error(22, &["store", &mine]);
    machine.error(22, &["verify"]);
    let kept = machine.json(&["channel", "evidence", "far"]);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_ne!(kept[0]["seen"], kept[0]["shown"]);
    let done = machine.object("summary", &["channel", "repair", "far", "--yes"]);
    assert_eq!(done["astray"]["kind"], "rollback", "{done}");
    assert_eq!(
        done["astray"]["revisions_lost"].as_array().unwrap().len(),
        0
    );
    machine.done(&["verify", "--read-all"]);
    assert_back(&machine, "mine", 5);
    let other = empty(&machine);
    other.done(&["recover", &node.at.to_string()]);
    assert_same(&other, &machine, 5);
}

/// The mirror has what the image lacks, and no machine any more.
#[test]
fn a_first_restored_from_an_old_image_is_repaired_from_its_mirror() {
    let mut far = Node::running();
    let near = Node::running();
    let machine = client_of(&far);
    let mine = machine.text("mine");
    grow(&machine, "mine", 2);
    machine.done(&["store", &mine]);
    machine.done(&["channel", "open", &near.invite("bob"), "--name", "near"]);
    machine.done(&["channel", "mirror", "far", "near"]);
    let image = image(&mut far);
    grow(&machine, "mine", 4);
    machine.done(&["store", &mine]);
    put_back(&mut far, &image);
    fs::remove_dir_all(machine.path("mine")).unwrap();
    machine.error(22, &["verify"]);
    let done = machine.object("summary", &["channel", "repair", "far", "--yes"]);
    assert_eq!(
        done["astray"]["revisions_lost"].as_array().unwrap().len(),
        0,
        "{done}"
    );
    machine.done(&["verify", "--read-all"]);
    assert_back(&machine, "mine", 4);
}
