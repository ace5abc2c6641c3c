//! Stored files that rot, vanish or are cut: found by a scrub or an audit, or healed, and never more lost than what was hit.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::rig::{Found, Rig, Stream, args, said};

/// A store with several files in its packs, its journal and its log, and a copy of it to begin from each time.
struct Stored {
    rig: Rig,
    /// All files of the provider but its lock, relative to it.
    files: Vec<PathBuf>,
}

impl Stored {
    fn new() -> Self {
        let rig = Rig::ready();
        rig.grow(0, 120);
        // Enough records for a journal segment: a vital pack, too.
        for n in 0..150 {
            fs::write(
                rig.files().join(format!("tiny-{n}")),
                Stream::new(1000 + n).take(40),
            )
            .unwrap();
        }
        let store = args([&"store", &rig.files()]);
        rig.ok(&store);
        fs::write(rig.files().join("later"), "of another run").unwrap();
        rig.ok(&store);
        let all = Rig::tree(&rig.provider()).into_iter();
        let files = all
            .filter(|(_, found)| matches!(found, Found::File(_, _, bytes) if !bytes.is_empty()))
            .map(|(path, _)| path)
            .filter(|path| !path.ends_with("lock"))
            .collect::<Vec<_>>();
        let packs = files.iter().filter(|path| is_pack(path)).count();
        assert!(packs >= 2, "no vital pack: {files:?}");
        let stored = Self { rig, files };
        copy(&stored.rig.provider(), &stored.kept("provider"));
        copy(&stored.rig.home(), &stored.kept("home"));
        stored
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.rig.folder.path().join("kept").join(name)
    }

    /// Brings provider and home back to what they were.
    fn begin(&self) {
        for (name, at) in [("provider", self.rig.provider()), ("home", self.rig.home())] {
            fs::remove_dir_all(&at).unwrap();
            copy(&self.kept(name), &at);
        }
    }

    /// Holds the program to its promise after something happened to `hurt`.
    fn hold(&self, hurt: &Path, what: &str) {
        let rig = &self.rig;
        let what = format!("{what} of {}", hurt.display());
        let calm = |output: &std::process::Output| {
            let told = said(output);
            assert!(!told.contains("panicked"), "{what}: {told}");
            output.status.code().expect("it ends by itself")
        };
        let verify = rig.run(["verify", "--read-all"]);
        let scrub = rig.run(args([&"scrub", &"--directory", &rig.provider()]));
        let found = [calm(&verify), calm(&scrub)];
        let to = rig.folder.path().join("back");
        let retrieve = rig.run(args([&"retrieve", &rig.files(), &"--to", &to]));
        let told = said(&retrieve);
        let inside = to.join(rig.files().strip_prefix("/").unwrap());
        let back = Rig::tree(&inside);
        let wanted = Rig::tree(&rig.files());
        for (path, found) in &back {
            // Whatever comes back is right.
            if let (Found::File(_, _, bytes), Some(Found::File(_, _, wanted))) =
                (found, wanted.get(path))
            {
                assert!(bytes == wanted, "{what}: {} is wrong", path.display());
            }
        }
        let code = calm(&retrieve);
        match code {
            0 => assert_eq!(back, wanted, "{what}"),
            20 => {
                assert!(found.contains(&20), "{what}: not found, {told}");
                let missing = wanted.keys().filter(|path| !back.contains_key(*path));
                for path in missing {
                    let name = path.to_str().unwrap();
                    assert!(told.contains(name), "{what}: {name} not named: {told}");
                }
            }
            // The provider cannot be opened with what is left, and says so.
            21 => assert!(found[0] == 21 && found[1] != 0, "{what}: {found:?}"),
            code => panic!("{what}: exit {code}: {told}"),
        }
        if is_pack(hurt) {
            assert!(found.contains(&20), "{what}: {found:?}");
        }
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
    }
}

fn is_pack(path: &Path) -> bool {
    path.starts_with("volume/packs")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_flipped_bit_in_any_stored_file_is_found_or_healed() {
    let stored = Stored::new();
    for path in &stored.files {
        let at = stored.rig.provider().join(path);
        let good = fs::read(&at).unwrap();
        for place in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
            stored.begin();
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&at, bad).unwrap();
            stored.hold(path, &format!("byte {place}"));
        }
    }
}

#[test]
fn a_stored_file_that_is_gone_or_cut_is_found_or_healed() {
    let stored = Stored::new();
    for path in &stored.files {
        let at = stored.rig.provider().join(path);
        let length = fs::metadata(&at).unwrap().len();
        stored.begin();
        fs::remove_file(&at).unwrap();
        stored.hold(path, "the loss");
        for left in [0, length / 2, length - 1] {
            stored.begin();
            let file = fs::OpenOptions::new().write(true).open(&at).unwrap();
            file.set_len(left).unwrap();
            stored.hold(path, &format!("all after byte {left}"));
        }
    }
}

/// One file's bytes are hit: that one is named, all others come back.
#[test]
fn of_a_damaged_pack_all_files_but_those_hit_come_back() {
    let rig = Rig::ready();
    fs::write(rig.files().join("a-large"), Stream::new(1).take(3_000_000)).unwrap();
    for n in 0..60 {
        fs::write(
            rig.files().join(format!("small-{n}")),
            Stream::new(2 + n).take(5000),
        )
        .unwrap();
    }
    rig.ok(args([&"store", &rig.files()]));
    let packs = rig.provider().join("volume/packs");
    let tree = Rig::tree(&packs).into_iter();
    let largest = tree.max_by_key(|(_, found)| match found {
        Found::File(_, _, bytes) => bytes.len(),
        _ => 0,
    });
    let at = packs.join(largest.unwrap().0);
    let mut bytes = fs::read(&at).unwrap();
    // The large file comes first in the walk.
    bytes[1_000_000] ^= 1;
    fs::write(&at, bytes).unwrap();
    let told = rig.ends(20, ["verify", "--read-all"]);
    assert!(told.contains(": 4 of "), "one group of 4 blocks: {told}");
    let to = rig.folder.path().join("back");
    let told = rig.ends(20, args([&"retrieve", &rig.files(), &"--to", &to]));
    assert!(told.contains("a-large"), "{told}");
    assert!(!told.contains("small-"), "{told}");
    let back = Rig::tree(&to.join(rig.files().strip_prefix("/").unwrap()));
    let mut wanted = Rig::tree(&rig.files());
    wanted.remove(Path::new("a-large"));
    assert_eq!(back, wanted);
}
