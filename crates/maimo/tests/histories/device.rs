//! A machine of the store: its home, its files, what must be had of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    book::{Book, Content, Tree},
    rig::Stream,
    support::Machine,
};

/// The folder of a machine that is stored.
pub(crate) const FILES: &str = "files";
/// Where a file is while it is about to be deleted.
const ASIDE: &str = ".maimo-aside-";
/// How many contents the machines have in common.
const COMMON: u64 = 24;

/// A machine of the store.
pub(crate) struct Device {
    pub(crate) machine: Machine,
    /// What it is called in the store.
    pub(crate) source: String,
    pub(crate) book: Book,
    /// What a pinned run had, and a moment of which it is the last run.
    pub(crate) pinned: Vec<(String, Tree)>,
}

impl Device {
    pub(crate) fn new(machine: Machine, source: &str) -> Self {
        fs::create_dir_all(machine.path(FILES)).unwrap();
        Self {
            machine,
            source: source.to_owned(),
            book: Book::default(),
            pinned: Vec::new(),
        }
    }

    /// Returns the folder that is stored, as an argument.
    pub(crate) fn folder(&self) -> String {
        self.machine.text(FILES)
    }

    /// Returns the files that are here, those set aside not.
    pub(crate) fn files(&self) -> Tree {
        tree_of(&self.machine.path(FILES))
    }

    /// Changes some files as a user does, and says what.
    pub(crate) fn edit(&self, draws: &mut Stream) -> String {
        let mut done = String::from("edit");
        for _ in 0..=draws.next() % 6 {
            let name = format!("d{}/f{}", draws.next() % 3, draws.next() % 6);
            let path = self.machine.path(FILES).join(&name);
            match draws.next() % 8 {
                0 | 1 => {
                    let _ = fs::remove_file(&path);
                    done += &format!(" -{name}");
                }
                2 => {
                    let other = self
                        .machine
                        .path(FILES)
                        .join(format!("d0/f{}", draws.next() % 6));
                    fs::create_dir_all(other.parent().unwrap()).unwrap();
                    let _ = fs::rename(&path, other);
                    done += &format!(" {name}>");
                }
                kind => {
                    // Of the contents that all have in common, or one that nobody has.
                    let seed = if kind < 6 {
                        draws.next() % COMMON
                    } else {
                        draws.next()
                    };
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, content(seed)).unwrap();
                    done += &format!(" {name}={seed:x}");
                }
            }
        }
        done
    }
}

/// Returns the bytes of a content: most are small, as files are.
fn content(seed: u64) -> Vec<u8> {
    let mut stream = Stream::new(seed);
    let draw = stream.next() as usize;
    let length = match seed % 8 {
        0 => draw % 3,
        1..=4 => draw % 3000,
        5 | 6 => draw % 60_000,
        _ => 300_000 + draw % 1_500_000,
    };
    stream.take(length)
}

/// Returns the files below a folder.
pub(crate) fn tree_of(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if !path.to_string_lossy().contains(ASIDE) {
                tree.insert(name_in(folder, &path), hash_of(&path));
            }
        }
    }
    tree
}

fn name_in(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder)
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn hash_of(path: &PathBuf) -> Content {
    blake3::hash(&fs::read(path).unwrap())
}
