//! A full disk at each write of a store: it ends with a clear error, and with more room the next run finishes and all is there.
//!
//! The disk is a small tmpfs in a mount namespace of its own (`unshare` from util-linux; no root needed where user namespaces are allowed), which
//! grows between the two runs. Its first size goes through all from "not even the node fits" to "everything fits", so the full disk is met at one
//! write after another.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::items_after_statements,
    reason = "a test may panic, and say why; its numbers are small"
)]

#[path = "support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;

use std::{
    fs,
    process::{Command, Output},
};

use rig::{Rig, Stream, said};

/// What a provider leaves free for its log, as every volume must: no pack is taken on a disk that has no more.
const HEADROOM_KIB: u64 = 64 * 1024;

/// Which of the two is on the small disk.
#[derive(Debug, Clone, Copy)]
enum Small {
    Home,
    Provider,
}

/// Runs all of it in one mount namespace. The first line of stdout is the first store's exit code.
const SCRIPT: &str = r#"
set -u
mkdir -p "$DISK"
mount -t tmpfs -o "size=$SIZE" none "$DISK" || exit 90
first=0
for step in "init --source full" "channel open $PROVIDER" "store $FILES"; do
    "$MAIMO" --home "$NODE" $step >>"$OUT" 2>&1 || { first=$?; break; }
done
echo "$first"
mount -o remount,size=256m "$DISK" || exit 91
if ! "$MAIMO" --home "$NODE" status >/dev/null 2>&1; then
    "$MAIMO" --home "$NODE" init --source full >>"$OUT" 2>&1 || exit 92
fi
"$MAIMO" --home "$NODE" channel list 2>>"$OUT" | grep -q . || "$MAIMO" --home "$NODE" channel open "$PROVIDER" >>"$OUT" 2>&1 || exit 93
"$MAIMO" --home "$NODE" store "$FILES" >>"$OUT" 2>&1 || exit 94
"$MAIMO" --home "$NODE" verify >>"$OUT" 2>&1 || exit 95
"$MAIMO" --home "$NODE" retrieve "$FILES" --to "$BACK" >>"$OUT" 2>&1 || exit 96
diff -r "$FILES" "$BACK$FILES" >>"$OUT" 2>&1 || exit 97
"#;

fn run(rig: &Rig, small: Small, size_kib: u64) -> (Output, String) {
    let at = |name: &str| rig.folder.path().join(format!("{name}-{size_kib}"));
    let disk = at("disk");
    let (home, provider) = match small {
        Small::Home => (disk.join("home"), at("provider")),
        Small::Provider => (at("home"), disk.join("provider")),
    };
    let out = at("out");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .env("MAIMO", env!("CARGO_BIN_EXE_maimo"))
        .env("DISK", &disk)
        .env("SIZE", format!("{size_kib}k"))
        .env("NODE", home)
        .env("PROVIDER", provider)
        .env("FILES", rig.files())
        .env("BACK", at("back"))
        .env("OUT", &out)
        .env("HOME", rig.folder.path())
        .output()
        .expect("`unshare` is there: it is part of util-linux, install that package");
    let log = fs::read_to_string(out).unwrap_or_default();
    (output, log)
}

fn goes_through_all_sizes(small: Small) {
    let rig = Rig::new();
    for n in 0..40 {
        fs::write(
            rig.files().join(format!("f{n}")),
            Stream::new(n).take(30_000),
        )
        .expect("a file");
    }
    let (mut failed, mut fitted) = (0, 0);
    let mut size_kib = 16;
    while fitted < 2 {
        let (output, log) = run(&rig, small, size_kib);
        let first = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_ne!(
            output.status.code(),
            Some(90),
            "cannot mount a tmpfs: user namespaces must be allowed\n{}",
            said(&output)
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "{small:?} on {size_kib} KiB: the second run\n{log}{}",
            said(&output)
        );
        match first.as_str() {
            "0" => fitted += 1,
            "1" | "21" => {
                failed += 1;
                let told = log.to_lowercase();
                assert!(
                    told.contains("full") || told.contains("no space"),
                    "{size_kib} KiB: the error does not say why\n{log}"
                );
                assert!(!told.contains("panicked"), "{log}");
            }
            other => panic!("{small:?} on {size_kib} KiB: exit {other}\n{log}"),
        }
        size_kib += if size_kib < HEADROOM_KIB / 2 {
            size_kib / 4 + 12
        } else {
            700
        };
        if matches!(small, Small::Provider) && size_kib > 1024 && size_kib < HEADROOM_KIB {
            size_kib = HEADROOM_KIB - 128;
        }
        assert!(size_kib < 2 * HEADROOM_KIB, "nothing ever fitted");
    }
    assert!(failed >= 6, "the disk was full only {failed} times");
}

#[test]
fn a_full_disk_under_the_provider_loses_nothing_and_the_next_store_finishes() {
    goes_through_all_sizes(Small::Provider);
}

#[test]
fn a_full_disk_under_the_home_loses_nothing_and_the_next_store_finishes() {
    goes_through_all_sizes(Small::Home);
}
