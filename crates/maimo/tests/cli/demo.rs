//! The demo shows what it says, and touches nothing of the user's.

use std::fs;

use crate::support::Machine;

/// Returns names, times and contents of a folder.
fn image(machine: &Machine, folder: &str) -> Vec<(String, std::time::SystemTime, Vec<u8>)> {
    let mut image = Vec::new();
    let mut waiting = vec![machine.path(folder)];
    while let Some(path) = waiting.pop() {
        let modified = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        let content = if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        image.push((path.to_str().unwrap().to_owned(), modified, content));
    }
    image.sort();
    image
}

#[test]
fn a_users_files_come_back_and_are_never_touched() {
    let machine = Machine::new();
    for number in 0..40 {
        let text = format!("file {number}\n").repeat(number * 50);
        machine.write(&format!("mine/{}/{number}.txt", number % 4), text);
    }
    let before = image(&machine, "mine");
    let summary = machine.object("summary", &["demo", "mine"]);
    for key in ["files", "bytes_read", "bytes_stored", "slices", "intact"] {
        assert!(summary.get(key).is_some(), "no {key} in {summary}");
    }
    assert_eq!(summary["files"], 40);
    assert_eq!(summary["intact"], true);
    assert!(summary["slices"].as_u64().unwrap() > 0);
    assert_eq!(image(&machine, "mine"), before);
    let left = fs::read_dir(machine.path("")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("maimo-demo-")
    });
    assert_eq!(left.count(), 0);
    assert!(
        !machine.path("home").exists(),
        "the node of the user is not used"
    );
}

#[test]
fn what_it_does_is_told_while_it_does_it() {
    let machine = Machine::new();
    machine.write("mine/a", "hello\n");
    let ended = machine.done(&["demo", "mine", "--keep"]);
    for step in 1..=7 {
        assert!(
            ended.err.contains(&format!("{step}/7")),
            "no step {step}: {}",
            ended.err
        );
    }
    assert!(ended.out.starts_with("intact: 1 files"), "{}", ended.out);
    assert!(ended.err.contains("Left in "));
}

#[test]
fn a_path_that_is_not_there_is_an_error() {
    let machine = Machine::new();
    machine.error(1, &["demo", "nowhere"]);
}
