//! What is stored of a watched folder, and when.

use std::fs;

use crate::node::{Node, kinds};

fn named(paths: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, state): &(&str, &str)| ((*name).to_owned(), (*state).to_owned());
    paths.iter().map(owned).collect()
}

#[test]
fn what_changes_in_a_watched_folder_is_stored_without_a_rescan() {
    let mut node = Node::new("");
    for name in ["keep", "change", "remove", "rename", "folder/inner"] {
        node.machine.write(&format!("mine/{name}"), name);
    }
    node.start();
    let before = node.stored_after(0);
    let mine = node.machine.path("mine");
    fs::write(mine.join("change"), "changed").unwrap();
    fs::remove_file(mine.join("remove")).unwrap();
    fs::rename(mine.join("rename"), mine.join("renamed")).unwrap();
    fs::remove_dir_all(mine.join("folder")).unwrap();
    fs::create_dir(mine.join("new")).unwrap();
    fs::write(mine.join("new/file"), "new").unwrap();
    node.stored_after(before);
    node.stop();
    let expected = named(&[
        ("change", "present"),
        ("file", "present"),
        ("inner", "gone"),
        ("keep", "present"),
        ("remove", "gone"),
        ("rename", "gone"),
        ("renamed", "present"),
    ]);
    assert_eq!(node.paths(), expected, "{}", node.log());
    assert_eq!(node.state()["running"], false);
    assert_eq!(node.troubles(), [""; 0]);
}

#[test]
fn a_storm_of_changes_is_a_few_runs_and_a_quiet_folder_none() {
    let mut node = Node::new("");
    node.machine.write("mine/first", "first");
    node.start();
    let before = node.stored_after(0);
    for number in 0..500 {
        node.machine
            .write(&format!("mine/{number}"), format!("{number}"));
    }
    node.stored_after(before);
    node.stop();
    let runs = node.machine.json(&["runs"]).len();
    assert!((2..12).contains(&runs), "{runs} runs");
    assert_eq!(node.paths().len(), 501);
    // Looked through again at the next start: nothing changed, so nothing is told of it.
    node.start();
    node.until("looked through", |state| {
        state["running"] == true && state["pending"] == false && state["doing"].is_null()
    });
    node.stop();
    assert_eq!(node.machine.json(&["runs"]).len(), runs);
}

#[test]
fn a_folder_that_vanishes_is_a_trouble_and_makes_nothing_gone() {
    let mut node = Node::new("");
    node.machine.write("mine/a", "a");
    node.machine.write("mine/b", "b");
    node.start();
    let before = node.stored_after(0);
    let (mine, aside) = (node.machine.path("mine"), node.machine.path("aside"));
    fs::rename(&mine, &aside).unwrap();
    assert_eq!(node.told(1), ["trouble folder_gone "]);
    fs::write(aside.join("b"), "changed").unwrap();
    fs::rename(&aside, &mine).unwrap();
    assert_eq!(node.told(2)[1..], ["recovered folder_gone "]);
    node.stored_after(before);
    node.stop();
    let expected = named(&[("a", "present"), ("b", "present")]);
    assert_eq!(node.paths(), expected);
}

#[test]
fn a_folder_that_is_not_there_is_waited_for_and_never_made() {
    let mut node = Node::new("");
    let mine = node.machine.path("mine");
    fs::remove_dir(&mine).unwrap();
    node.start();
    node.until("missed", |state| state["folders"][0]["state"] == "absent");
    assert!(!mine.exists());
    assert_eq!(kinds(&node.state()), [""; 0]);
    node.machine.write("mine/a", "a");
    node.stored_after(0);
    node.stop();
    assert_eq!(node.paths(), named(&[("a", "present")]));
}

#[test]
fn what_is_missing_comes_back_where_that_is_wanted_and_is_gone_elsewhere() {
    let mut node = Node::new("");
    let mine = node.machine.path("mine");
    let config = node.machine.path("home/config.toml");
    let said = fs::read_to_string(&config).unwrap();
    let kept = node.machine.text("mine/kept");
    fs::write(&config, format!("{said}restore-missing = [\"{kept}\"]\n")).unwrap();
    for name in ["kept/a", "kept/below/[b]", "kept/removed", "other"] {
        node.machine.write(&format!("mine/{name}"), name);
    }
    node.start();
    let before = node.stored_after(0);
    fs::remove_dir_all(mine.join("kept/below")).unwrap();
    fs::remove_file(mine.join("kept/a")).unwrap();
    fs::remove_file(mine.join("other")).unwrap();
    node.stored_after(before);
    node.stop();
    assert_eq!(fs::read_to_string(mine.join("kept/a")).unwrap(), "kept/a");
    let below = fs::read_to_string(mine.join("kept/below/[b]")).unwrap();
    assert_eq!(below, "kept/below/[b]");
    assert!(!mine.join("other").exists());
    // Also what went while the node did not run; but not what was taken out.
    node.machine
        .done(&["remove", &node.machine.text("mine/kept/removed")]);
    fs::remove_file(mine.join("kept/removed")).unwrap();
    fs::remove_file(mine.join("kept/a")).unwrap();
    node.start();
    node.until("back", |_| mine.join("kept/a").exists());
    node.until("quiet", |state| {
        state["pending"] == false && state["doing"].is_null()
    });
    node.stop();
    assert!(!mine.join("kept/removed").exists());
    let expected = named(&[
        ("[b]", "present"),
        ("a", "present"),
        ("other", "gone"),
        ("removed", "removed"),
    ]);
    assert_eq!(node.paths(), expected, "{}", node.log());
}
