//! What an audit or a read finds damaged is known from then on, is stored again from what is still here, and is named where it cannot be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::rig::{Found, PHRASE, Rig, SOURCE, Stream, args};

/// Returns the pack files of a rig's provider, the largest first.
pub(crate) fn packs(rig: &Rig) -> Vec<PathBuf> {
    let at = rig.provider().join("volume/packs");
    let mut packs: Vec<(usize, PathBuf)> = Rig::tree(&at)
        .into_iter()
        .filter_map(|(path, found)| match found {
            Found::File(_, _, bytes) => Some((bytes.len(), at.join(path))),
            _ => None,
        })
        .collect();
    packs.sort();
    packs.into_iter().rev().map(|(_, path)| path).collect()
}

/// Flips a bit of a file.
fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn json(text: &str) -> Value {
    serde_json::from_str(text.trim().lines().last().unwrap()).unwrap()
}

fn damage(rig: &Rig) -> Vec<Value> {
    let status = json(&rig.ok(["--json", "status"]));
    status["damage"].as_array().unwrap().clone()
}

fn named(damage: &Value) -> Vec<String> {
    let revisions = damage["revisions"].as_array().unwrap().iter();
    let mut names: Vec<String> = revisions
        .map(|revision| {
            let path = Path::new(revision["path"].as_str().unwrap());
            path.file_name().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names
}

/// A store of one large file and some small ones, in one pack, large first.
fn stored() -> (Rig, PathBuf) {
    let rig = Rig::ready();
    fs::write(rig.files().join("a-large"), Stream::new(1).take(3_000_000)).unwrap();
    for n in 0..60 {
        let small = Stream::new(2 + n).take(5000);
        fs::write(rig.files().join(format!("small-{n}")), small).unwrap();
    }
    rig.ok(args([&"store", &rig.files()]));
    let pack = packs(&rig).remove(0);
    (rig, pack)
}

#[test]
fn what_an_audit_finds_is_known_after_a_restart_and_the_next_store_heals_it() {
    let (rig, pack) = stored();
    flip(&pack, 1_000_000);
    let told = rig.ends(20, ["verify", "--read-all"]);
    assert!(told.contains("a-large, revision 1 of 1"), "{told}");
    let [known] = damage(&rig).try_into().unwrap();
    assert_eq!(known["bytes"], 16_384, "{known}");
    assert_eq!(named(&known), ["a-large"]);
    // Nothing here has changed: only what is damaged is read and sent.
    let stored = json(&rig.ok(args([&"--json", &"store", &rig.files()])));
    assert!(stored["chunks_restored"].as_u64().unwrap() >= 1, "{stored}");
    assert_eq!(stored["files_changed"], 0);
    assert_eq!(stored["revisions_lost"].as_array().unwrap().len(), 0);
    assert!(damage(&rig).is_empty());
    rig.ok(["verify", "--read-all"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    let history = rig.ok(args([&"history", &rig.files().join("a-large"), &"--json"]));
    assert_eq!(
        history.lines().count(),
        1,
        "no revision was made: {history}"
    );
}

#[test]
fn what_a_read_meets_is_known_too() {
    let (rig, pack) = stored();
    flip(&pack, 1_000_000);
    let large = rig.files().join("a-large");
    let to = rig.folder.path().join("to");
    rig.ends(20, args([&"retrieve", &large, &"--to", &to]));
    let [known] = damage(&rig).try_into().unwrap();
    assert_eq!(known["found_by"], "read");
    assert_eq!(
        known["bytes"], 16_384,
        "exactly the group that is hit: {known}"
    );
    assert_eq!(named(&known), ["a-large"]);
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify", "--read-all"]);
}

#[test]
fn a_pack_that_is_gone_is_stored_again_from_files_that_are_still_here() {
    let (rig, pack) = stored();
    fs::remove_file(&pack).unwrap();
    rig.ends(20, ["verify", "--read-all"]);
    let [known] = damage(&rig).try_into().unwrap();
    assert_eq!(named(&known).len(), 61, "{known}");
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify", "--read-all"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

/// A copy stored after damage is known takes nothing of what is damaged by dedup.
#[test]
fn a_chunk_that_is_known_to_be_damaged_is_not_known_to_dedup() {
    let (rig, pack) = stored();
    flip(&pack, 1_000_000);
    rig.ends(20, ["verify", "--read-all"]);
    // The copy has all that the original has: without the damage it would cost nothing.
    let elsewhere = rig.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(rig.files().join("a-large"), elsewhere.join("copy")).unwrap();
    let stored = json(&rig.ok(args([&"--json", &"store", &elsewhere])));
    assert!(
        stored["bytes_stored"].as_u64().unwrap() > 16_384,
        "{stored}"
    );
    // The original's chunk is taken from where the copy's is now.
    assert!(damage(&rig).is_empty());
    let to = rig.folder.path().join("back");
    rig.ok(args([
        &"retrieve",
        &rig.files().join("a-large"),
        &"--to",
        &to,
    ]));
    rig.ok(["verify", "--read-all"]);
}

#[test]
fn what_nothing_has_any_more_is_named_until_it_is_taken_out() {
    let (rig, pack) = stored();
    flip(&pack, 1_000_000);
    rig.ends(20, ["verify", "--read-all"]);
    let large = rig.files().join("a-large");
    fs::remove_file(&large).unwrap();
    let told = rig.ends(20, args([&"store", &rig.files()]));
    assert!(told.contains("a-large, revision 1 of 1"), "{told}");
    let [known] = damage(&rig).try_into().unwrap();
    assert_eq!(known["packs_lost"], 1, "{known}");
    assert_eq!(named(&known), ["a-large"]);
    // Again and again, and nothing else suffers.
    rig.ends(20, args([&"store", &rig.files()]));
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    rig.ok(args([&"remove", &large, &"--revision", &"1"]));
    rig.ok(["prune"]);
    assert!(damage(&rig).is_empty());
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify", "--read-all"]);
}

/// Whatever byte of whatever pack is hit, data or vital: what was stored is whole again after one more store, for a new machine too.
#[test]
fn a_bit_of_any_pack_is_healed_by_the_next_store() {
    let rig = Rig::new();
    let words = rig.folder.path().join("words");
    fs::write(&words, PHRASE).unwrap();
    rig.ok(args([
        &"init",
        &"--source",
        &SOURCE,
        &"--phrase-file",
        &words,
    ]));
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig.grow(0, 120);
    for n in 0..150 {
        let tiny = Stream::new(1000 + n).take(40);
        fs::write(rig.files().join(format!("tiny-{n}")), tiny).unwrap();
    }
    rig.ok(args([&"store", &rig.files()]));
    let wanted = Rig::tree(&rig.files());
    let mut vital = 0;
    for turn in 0..3 {
        for pack in packs(&rig) {
            // Healing lets go of others on its way.
            let Ok(bytes) = fs::read(&pack) else {
                continue;
            };
            flip(&pack, [0, bytes.len() / 3, bytes.len() / 2][turn]);
            rig.run(["verify", "--read-all"]);
            for damage in damage(&rig) {
                vital += damage["packs_vital"].as_u64().unwrap();
            }
            rig.ok(args([&"store", &rig.files()]));
            rig.ok(["verify", "--read-all"]);
            assert!(damage(&rig).is_empty());
        }
    }
    assert!(vital > 0, "no vital pack was hit");
    let mut new = Rig::new();
    new.share(&rig);
    new.ok(args([&"init", &"--phrase-file", &words]));
    new.ok(args([&"recover", &rig.provider()]));
    let to = new.folder.path().join("back");
    new.ok(args([
        &"retrieve",
        &rig.files(),
        &"--source",
        &SOURCE,
        &"--to",
        &to,
    ]));
    let back = Rig::tree(&to.join(rig.files().strip_prefix("/").unwrap()));
    assert_eq!(back, wanted);
}
