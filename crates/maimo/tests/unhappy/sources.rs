//! Files that cannot be read, or will not keep still while they are.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::rig::{Rig, Stream, args, said};

/// As a user to whom nothing belongs: permissions do not stop root.
#[test]
fn what_cannot_be_read_is_named_the_rest_is_stored_and_nothing_is_called_gone() {
    let rig = Rig::ready();
    rig.grow(0, 10);
    let closed = rig.files().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("inside"), "inside").unwrap();
    let secret = rig.files().join("secret");
    fs::write(&secret, "secret").unwrap();
    let fifo = rig.files().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    rig.ok(args([&"store", &rig.files()]));
    let mode = |mode| {
        fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0);
    fs::write(rig.files().join("new"), "new").unwrap();
    let mut program = rig.command(args([&"store", &rig.files()]));
    let program = std::mem::replace(&mut program, Command::new("true"));
    let output = Command::new("unshare")
        .arg("--user")
        .arg(program.get_program())
        .args(program.get_args())
        .output()
        .expect("`unshare` is there: it is part of util-linux, install that package");
    mode(0o755);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(
        told.contains("closed: ") && told.contains("ermission"),
        "{told}"
    );
    let listed = rig.ok(["list"]);
    for name in ["closed/inside", "secret", "new", "fifo"] {
        assert!(listed.contains(name), "{name} is gone from\n{listed}");
    }
}

#[test]
fn a_path_that_does_not_exist_is_told() {
    let rig = Rig::ready();
    rig.grow(0, 3);
    let told = rig.ends(
        3,
        args([&"store", &rig.files(), &rig.folder.path().join("none")]),
    );
    assert!(told.contains("does not exist"), "{told}");
    assert!(rig.ok(["list"]).contains("large-0"));
}

/// Runs `change` over and over on a thread while `work` runs.
fn meanwhile(change: impl Fn(u64) + Sync, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                change(round);
                round += 1;
            }
        });
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = work {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Done, or done in part.
fn stores(rig: &Rig) {
    let output = rig.run(args([&"store", &rig.files()]));
    let told = said(&output);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{told}");
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_stored_as_it_was_at_one_moment() {
    let rig = Rig::ready();
    rig.grow(0, 100);
    let whole = Stream::new(9).take(40_000_000);
    let growing = rig.files().join("growing");
    fs::write(&growing, &whole[..10_000]).unwrap();
    let write = |round: u64| {
        use std::io::Write;
        let start = 10_000 + round as usize * 5000;
        let Some(more) = whole.get(start..start + 5000) else {
            return;
        };
        let mut file = fs::OpenOptions::new().append(true).open(&growing).unwrap();
        file.write_all(more).unwrap();
        thread::sleep(std::time::Duration::from_micros(300));
    };
    meanwhile(write, || (0..6).for_each(|_| stores(&rig)));
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    let history = rig.ok(args([&"history", &growing]));
    let revisions = history.lines().filter(|line| !line.is_empty()).count();
    for revision in 1..=revisions.min(8) {
        let output = rig.run(args([
            &"dump",
            &growing,
            &"--revision",
            &revision.to_string(),
        ]));
        if output.status.success() {
            assert!(whole.starts_with(&output.stdout), "revision {revision}");
        }
    }
}

#[test]
fn files_that_vanish_and_come_back_do_not_stop_a_store() {
    let rig = Rig::ready();
    rig.grow(0, 60);
    let folder = rig.files().join("restless");
    let change = |round: u64| {
        let path = folder.join(format!("f{}", round % 20));
        match round / 20 % 3 {
            0 => {
                let _ = fs::create_dir(&folder);
                let _ = fs::write(path, Stream::new(round).take(3000));
            }
            1 => {
                let _ = fs::remove_file(path);
            }
            _ => {
                let _ = fs::remove_dir_all(&folder);
            }
        }
    };
    meanwhile(change, || (0..8).for_each(|_| stores(&rig)));
    // What changed in the moment it was stored is known for what it is only by the run after.
    for _ in 0..2 {
        thread::sleep(std::time::Duration::from_millis(50));
        rig.ok(args([&"store", &rig.files()]));
    }
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

/// What is behind a symbolic link is not what was to be stored, however quickly the link was put in a file's place.
#[test]
fn a_file_replaced_by_a_link_is_never_followed() {
    const OUTSIDE: &[u8] = b"behind the link";
    let rig = Rig::ready();
    rig.grow(0, 40);
    let outside = rig.folder.path().join("outside");
    fs::write(&outside, OUTSIDE).unwrap();
    let deep = rig.folder.path().join("outside-folder");
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("inside"), OUTSIDE).unwrap();
    let paths: Vec<_> = (0..10)
        .map(|n| rig.files().join(format!("swap-{n}")))
        .collect();
    let folder = rig.files().join("swapped-folder");
    let swap = |round: u64| {
        let aside = rig.folder.path().join("aside");
        for path in &paths {
            let _ = fs::remove_file(&aside);
            if round.is_multiple_of(2) {
                fs::write(&aside, format!("a file, {round}")).unwrap();
            } else {
                symlink(&outside, &aside).unwrap();
            }
            fs::rename(&aside, path).unwrap();
        }
        let _ = fs::remove_file(&folder);
        let _ = fs::remove_dir_all(&folder);
        if round.is_multiple_of(2) {
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("inside"), "inside").unwrap();
        } else {
            symlink(&deep, &folder).unwrap();
        }
    };
    for _ in 0..8 {
        meanwhile(swap, || stores(&rig));
        // A folder that was a link, too, is in the way of itself: not all may come back of a moment that never was.
        let to = rig.folder.path().join("back");
        let output = rig.run(args([&"retrieve", &rig.files(), &"--to", &to]));
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{}",
            said(&output)
        );
        let found = Rig::tree(&to);
        fs::remove_dir_all(&to).unwrap();
        for (path, what) in found {
            if let crate::rig::Found::File(_, _, bytes) = what {
                assert!(bytes != OUTSIDE, "{} was followed", path.display());
            }
        }
    }
    // What changed in the moment it was stored is known for what it is only by the run after.
    for _ in 0..2 {
        thread::sleep(std::time::Duration::from_millis(50));
        rig.ok(args([&"store", &rig.files()]));
    }
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}
