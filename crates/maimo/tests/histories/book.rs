//! [`Book`]: what must be had of a machine's files.
//!
//! Invariant: a path's possible contents are what was acknowledged last and whatever an unacknowledged command may have made of it since. Nothing
//! else may ever come back, and where there is no `None` among them something must.

use std::collections::{BTreeMap, BTreeSet};

/// The BLAKE3 hash of a file's content, which stands for it.
pub(crate) type Content = blake3::Hash;
/// Files by their paths below the machine's folder.
pub(crate) type Tree = BTreeMap<String, Content>;

/// What the store may have of a machine's files, as far as its user can know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book {
    paths: BTreeMap<String, Paths>,
}

/// What may be had at one path.
#[derive(Debug, Clone)]
struct Paths {
    possible: BTreeSet<Option<[u8; 32]>>,
    evicted: Evicted,
}

/// Whether the local copy was deleted on purpose, so that the path stays in the store although it is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evicted {
    No,
    /// Unless a store that was cut off has found it here again; or the machine's state does not know that it was ever here.
    Perhaps,
    Yes,
}

impl Paths {
    fn only(content: Option<Content>) -> Self {
        Self {
            possible: BTreeSet::from([content.map(|hash| *hash.as_bytes())]),
            evicted: Evicted::No,
        }
    }
}

impl Book {
    /// Notes that a store of the whole folder was acknowledged, which had these files when it began.
    pub(crate) fn stored(&mut self, files: &Tree) {
        for (path, known) in &mut self.paths {
            match known.evicted {
                _ if files.contains_key(path) => {}
                Evicted::No => *known = Paths::only(None),
                Evicted::Perhaps => {
                    known.possible.insert(None);
                }
                Evicted::Yes => {}
            }
        }
        for (path, content) in files {
            self.paths.insert(path.clone(), Paths::only(Some(*content)));
        }
    }

    /// Notes that one was cut off: each file is there as it was, or as it was then.
    pub(crate) fn may_be_stored(&mut self, files: &Tree) {
        for (path, known) in &mut self.paths {
            if known.evicted != Evicted::Yes && !files.contains_key(path) {
                known.possible.insert(None);
            }
        }
        for (path, content) in files {
            let known = self
                .paths
                .entry(path.clone())
                .or_insert_with(|| Paths::only(None));
            known.possible.insert(Some(*content.as_bytes()));
            if known.evicted == Evicted::Yes {
                known.evicted = Evicted::Perhaps;
            }
        }
    }

    /// Notes what a deletion of local copies has deleted: it had these files before it, and has those after it.
    pub(crate) fn evicted(&mut self, before: &Tree, after: &Tree) {
        for (path, content) in before {
            if !after.contains_key(path) {
                let mut only = Paths::only(Some(*content));
                only.evicted = Evicted::Yes;
                self.paths.insert(path.clone(), only);
            }
        }
    }

    /// Notes that the machine's state is an older one: what it has not seen itself is not said to be gone when it is not here.
    pub(crate) fn forgot(&mut self) {
        for known in self.paths.values_mut() {
            if known.evicted == Evicted::No {
                known.evicted = Evicted::Perhaps;
            }
        }
    }

    /// Notes that a path was taken out of the store.
    pub(crate) fn removed(&mut self, path: &str) {
        if let Some(known) = self.paths.get_mut(path) {
            *known = Paths::only(None);
        }
    }

    /// Notes that this was cut off.
    pub(crate) fn may_be_removed(&mut self, path: &str) {
        if let Some(known) = self.paths.get_mut(path) {
            known.possible.insert(None);
        }
    }

    /// Returns the paths of which something must be there.
    pub(crate) fn certain(&self) -> Vec<String> {
        let certain = self
            .paths
            .iter()
            .filter(|(_, known)| !known.possible.contains(&None));
        certain.map(|(path, _)| path.clone()).collect()
    }

    /// Returns what is wrong with what came back.
    pub(crate) fn wrong(&self, found: &Tree) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, known) in &self.paths {
            let content = found.get(path).map(|hash| *hash.as_bytes());
            if !known.possible.contains(&content) {
                wrong.push(match content {
                    None => format!("{path} is lost"),
                    Some(_) => format!("{path} is not what it was"),
                });
            }
        }
        let unknown = found.keys().filter(|path| !self.paths.contains_key(*path));
        wrong.extend(unknown.map(|path| format!("{path} was never stored")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let hash =
            |(path, text): &(&str, &str)| ((*path).to_owned(), blake3::hash(text.as_bytes()));
        files.iter().map(hash).collect()
    }

    #[test]
    fn what_was_acknowledged_must_come_back_and_what_was_cut_off_may() {
        let mut book = Book::default();
        book.stored(&tree(&[("a", "1"), ("b", "1")]));
        assert_eq!(book.wrong(&tree(&[("a", "1")])), ["b is lost"]);
        assert_eq!(
            book.wrong(&tree(&[("a", "2"), ("b", "1")])),
            ["a is not what it was"]
        );
        book.may_be_stored(&tree(&[("a", "2"), ("c", "1")]));
        for possible in [&[("a", "1"), ("b", "1")][..], &[("a", "2"), ("c", "1")]] {
            assert_eq!(book.wrong(&tree(possible)), [""; 0]);
        }
        assert_eq!(book.wrong(&tree(&[])), ["a is lost"]);
        assert_eq!(
            book.wrong(&tree(&[("a", "1"), ("d", "1")])),
            ["d was never stored"]
        );
    }

    #[test]
    fn what_only_the_store_has_stays_whatever_is_stored_later() {
        let mut book = Book::default();
        let both = tree(&[("a", "1"), ("b", "1")]);
        book.stored(&both);
        book.evicted(&both, &tree(&[("b", "1")]));
        book.stored(&tree(&[]));
        book.may_be_stored(&tree(&[]));
        assert_eq!(book.wrong(&tree(&[])), ["a is lost"]);
    }
}
