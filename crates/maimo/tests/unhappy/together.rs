//! Two processes at once, an interrupt, a reader who has read enough.

use std::{
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::rig::{Rig, SOURCE, Stream, args, said};

/// Locks a file as a process that works there does.
fn locked(path: std::path::PathBuf) -> std::fs::File {
    let file = std::fs::File::open(path).unwrap();
    file.try_lock().unwrap();
    file
}

#[test]
fn a_second_process_on_a_home_is_told_who_works_here() {
    let rig = Rig::ready();
    rig.grow(0, 20);
    let lock = locked(rig.home().join("lock"));
    let told = rig.ends(1, args([&"store", &rig.files()]));
    assert!(told.contains("another maimo process works on"), "{told}");
    assert!(told.contains("Waiting for another maimo process"), "{told}");
    drop(lock);
    rig.ok(args([&"store", &rig.files()]));
}

#[test]
fn stores_of_one_home_at_once_break_nothing() {
    let rig = Rig::ready();
    rig.grow(0, 200);
    let store = args([&"store", &rig.files()]);
    for round in 1..=4 {
        rig.grow(round, 50);
        let all: Vec<_> = (0..3)
            .map(|_| {
                let mut command = rig.command(&store);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        let mut done = 0;
        for child in all {
            let output = child.wait_with_output().unwrap();
            let told = said(&output);
            match output.status.code() {
                Some(0) => done += 1,
                Some(1) => assert!(told.contains("another maimo process"), "{told}"),
                _ => panic!("{told}"),
            }
        }
        assert!(done > 0, "none got to it");
    }
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

/// A folder is used by one at a time; whoever comes second is told so, and gets to it later.
#[test]
fn two_homes_on_one_folder_take_turns() {
    let (one, mut two) = (Rig::ready(), Rig::new());
    two.share(&one);
    two.ok(["init", "--source", SOURCE]);
    two.ok(args([&"channel", &"open", &two.provider()]));
    for rig in [&one, &two] {
        rig.grow(7, 150);
    }
    let lock = locked(one.provider().join("lock"));
    let told = two.ends(21, args([&"store", &two.files()]));
    assert!(told.contains("another process"), "{told}");
    drop(lock);
    let mut refused = 0;
    for round in 8..12 {
        for rig in [&one, &two] {
            rig.grow(round, 30);
        }
        let children = [&one, &two].map(|rig| {
            let mut command = rig.command(args([&"store", &rig.files()]));
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        });
        for child in children {
            let output = child.wait_with_output().unwrap();
            let told = said(&output);
            match output.status.code() {
                Some(0) => {}
                Some(21) => {
                    assert!(told.contains("another process"), "{told}");
                    refused += 1;
                }
                _ => panic!("{told}"),
            }
        }
    }
    eprintln!("{refused} of 8 were refused");
    for rig in [&one, &two] {
        rig.ok(args([&"store", &rig.files()]));
        rig.ok(["verify", "--read-all"]);
        assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    }
}

#[test]
fn an_interrupt_ends_with_130_and_the_next_run_finishes() {
    let rig = Rig::ready();
    let store = args([&"store", &rig.files()]);
    let mut interrupted = 0;
    for round in 0..8 {
        rig.grow(round, 150);
        let bytes = Stream::new(100 + round).take(6_000_000);
        std::fs::write(rig.files().join(format!("huge-{round}")), bytes).unwrap();
        let child = rig.start(&store);
        sleep(Duration::from_millis(15 + 15 * round));
        let pid = child.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).output();
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(130) => interrupted += 1,
            Some(0) => {}
            // Before the program could say what it does with a signal, it ends as any other.
            None if round < 2 => {}
            code => panic!("ended with {code:?}"),
        }
        rig.ok(&store);
    }
    eprintln!("{interrupted} of 8 were interrupted");
    assert!(interrupted > 0, "no interrupt came in time");
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

#[test]
fn a_reader_who_has_read_enough_is_no_error() {
    let rig = Rig::ready();
    rig.grow(0, 1200);
    rig.ok(args([&"store", &rig.files()]));
    for command in [
        "list",
        "--json list",
        "find '*'",
        "dump \"$FILES/large-0\"",
        "--help",
    ] {
        let script = format!(
            "{{ \"$MAIMO\" --home \"$NODE\" {command}; echo $? >\"$CODE\"; }} | head -c 20 >/dev/null"
        );
        let code = rig.folder.path().join("code");
        let output = Command::new("sh")
            .args(["-c", &script])
            .env("MAIMO", env!("CARGO_BIN_EXE_maimo"))
            .env("NODE", rig.home())
            .env("FILES", rig.files())
            .env("CODE", &code)
            .output()
            .unwrap();
        assert_eq!(output.stderr, b"", "{command}: {}", said(&output));
        let code = std::fs::read_to_string(&code).unwrap();
        assert_eq!(code.trim(), "0", "{command}");
    }
}
