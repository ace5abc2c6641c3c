//! No node, no provider, a disk that is not mounted or read-only, a cap that is reached.

use std::{fs, process::Command};

use crate::rig::{Rig, SOURCE, Stream, args, said};

#[test]
fn where_there_is_no_node_that_is_said_and_none_is_made() {
    let rig = Rig::new();
    for command in [
        args([&"store", &rig.files()]),
        args([&"list"]),
        args([&"verify"]),
        args([&"prune"]),
        args([&"status"]),
        args([&"retrieve", &rig.files(), &"--to", &rig.folder.path()]),
        args([&"recover", &rig.provider()]),
    ] {
        let told = rig.ends(10, command);
        assert!(told.contains("maimo init"), "{told}");
    }
    assert!(!rig.home().exists());
    assert!(!rig.provider().exists());
}

#[test]
fn a_provider_that_is_gone_is_offline_and_comes_back() {
    let rig = Rig::ready();
    rig.grow(0, 30);
    let store = args([&"store", &rig.files()]);
    rig.ok(&store);
    rig.grow(1, 30);
    let unplugged = rig.folder.path().join("unplugged");
    fs::rename(rig.provider(), &unplugged).unwrap();
    let to = rig.folder.path().join("back");
    for command in [
        store.clone(),
        args([&"verify"]),
        args([&"verify", &"--read-all"]),
        args([&"prune"]),
        args([&"retrieve", &rig.files(), &"--to", &to]),
        args([&"dump", &rig.files().join("large-0")]),
    ] {
        let told = rig.ends(21, command);
        assert!(told.contains("mounted"), "{told}");
    }
    // What the catalog knows needs no provider.
    assert!(rig.ok(["list"]).contains("large-0"));
    rig.ok(["status"]);
    rig.ok(["channel", "list"]);
    assert!(
        !rig.provider().exists(),
        "made in the place of what is away"
    );
    fs::rename(&unplugged, rig.provider()).unwrap();
    rig.ok(&store);
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

#[test]
fn a_volume_that_is_not_mounted_is_away_and_not_empty() {
    let rig = Rig::ready();
    rig.grow(0, 30);
    let store = args([&"store", &rig.files()]);
    rig.ok(&store);
    rig.grow(1, 30);
    let (volume, disk) = (
        rig.provider().join("volume"),
        rig.folder.path().join("disk"),
    );
    fs::rename(&volume, &disk).unwrap();
    // The mount point stays.
    fs::create_dir(&volume).unwrap();
    let to = rig.folder.path().join("back");
    for command in [
        store.clone(),
        args([&"verify"]),
        args([&"verify", &"--read-all"]),
        args([&"retrieve", &rig.files(), &"--to", &to]),
    ] {
        let told = rig.ends(21, command);
        assert!(told.contains("mounted"), "{told}");
        assert!(!told.contains("damaged"), "{told}");
    }
    let scrub = args([&"scrub", &"--directory", &rig.provider()]);
    assert!(rig.ends(20, &scrub).contains("not mounted"));
    let made = fs::read_dir(&volume).unwrap().count();
    assert_eq!(made, 0, "written beside the mount");
    fs::remove_dir(&volume).unwrap();
    fs::rename(&disk, &volume).unwrap();
    rig.ok(&store);
    rig.ok(["verify", "--read-all"]);
    rig.ok(&scrub);
    let _ = fs::remove_dir_all(&to);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

/// In a mount namespace of its own: permissions do not stop root.
#[test]
fn a_read_only_provider_takes_nothing_and_says_why() {
    let rig = Rig::ready();
    rig.grow(0, 30);
    rig.ok(args([&"store", &rig.files()]));
    rig.grow(1, 30);
    const SCRIPT: &str = r#"
mount --bind "$PROVIDER" "$PROVIDER" && mount -o remount,ro,bind "$PROVIDER" || exit 90
"$MAIMO" --home "$NODE" store "$FILES"
code=$?
"$MAIMO" --home "$NODE" list >/dev/null || exit 91
exit $code
"#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .env("MAIMO", env!("CARGO_BIN_EXE_maimo"))
        .env("PROVIDER", rig.provider())
        .env("NODE", rig.home())
        .env("FILES", rig.files())
        .output()
        .expect("`unshare` is there: it is part of util-linux, install that package");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(21), "{told}");
    assert!(told.to_lowercase().contains("read-only"), "{told}");
    rig.ok(args([&"store", &rig.files()]));
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

#[test]
fn beyond_the_cap_nothing_is_sent_and_what_comes_free_when_is_said() {
    let rig = Rig::new();
    rig.ok(["init", "--source", SOURCE]);
    rig.ok(args([
        &"channel",
        &"open",
        &rig.provider(),
        &"--cap",
        &"8MiB",
    ]));
    let store = args([&"store", &rig.files()]);
    let write = |name: &str, seed: u64, bytes: usize| {
        fs::write(rig.files().join(name), Stream::new(seed).take(bytes)).unwrap();
    };
    write("changing", 1, 2_000_000);
    rig.ok(&store);
    write("changing", 2, 2_000_000);
    rig.ok(&store);
    rig.ok(["keep", "--last", "1"]);
    rig.ok(["prune"]);
    rig.ok(&store);
    let before = Rig::tree(&rig.provider().join("volume/packs"));
    write("large", 3, 20_000_000);
    let told = rig.ends(23, &store);
    assert!(told.contains("come free on 20"), "{told}");
    let after = Rig::tree(&rig.provider().join("volume/packs"));
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    let incoming = Rig::tree(&rig.provider().join("volume/incoming"));
    assert!(incoming.is_empty(), "{:?}", incoming.keys());
    // With the cause gone the next run finishes.
    fs::remove_file(rig.files().join("large")).unwrap();
    rig.ok(&store);
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back").len(), 1);
}
