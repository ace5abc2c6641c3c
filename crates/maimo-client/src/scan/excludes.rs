//! [`Excludes`]: what a run leaves out.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::ClientError;

/// Globs of names and paths to leave out, with all that is below.
///
/// Without `/` a glob is matched against names at any depth, with a leading one against the whole path, else against the path's end.
/// `*` and `?` match within one name, `**` any number of folders.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    names: GlobSet,
    paths: GlobSet,
}

impl Excludes {
    /// Reads globs.
    ///
    /// # Errors
    ///
    /// [`ClientError::Input`] for what is no glob.
    pub fn new(globs: &[String]) -> Result<Self, ClientError> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for text in globs {
            // A trailing separator says "a folder", and only folders have anything below.
            let trimmed = text.strip_suffix('/').unwrap_or(text);
            let (set, pattern) = if !trimmed.contains('/') {
                (&mut names, trimmed.to_owned())
            } else if trimmed.starts_with('/') {
                (&mut paths, trimmed.to_owned())
            } else {
                (&mut paths, format!("**/{trimmed}"))
            };
            let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
            set.add(glob.map_err(|error| bad_glob(text, &error))?);
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| bad_glob("", &error));
        Ok(Self {
            names: build(&names)?,
            paths: build(&paths)?,
        })
    }

    /// Returns whether a run over `root` leaves out `path`, which is below it: by its own name or a folder's on the way.
    pub fn leave_out(&self, root: &[u8], path: &[u8]) -> bool {
        let root = root.strip_suffix(b"/").unwrap_or(root);
        let Some(below) = path.strip_prefix(root) else {
            return false;
        };
        let mut folder = root.len();
        below.split(|byte| *byte == b'/').skip(1).any(|name| {
            let at = folder.max(1);
            folder += 1 + name.len();
            self.matches(&path[..at], name)
        })
    }

    /// Returns whether the entry `name` of the folder whose path is `folder` is left out.
    pub fn matches(&self, folder: &[u8], name: &[u8]) -> bool {
        if !self.names.is_empty() && self.names.is_match_candidate(&Candidate::from_bytes(name)) {
            return true;
        }
        if self.paths.is_empty() {
            return false;
        }
        let mut path = folder.to_vec();
        if path.last() != Some(&b'/') {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.paths.is_match_candidate(&Candidate::from_bytes(&path))
    }
}

fn bad_glob(text: &str, error: &globset::Error) -> ClientError {
    ClientError::Input {
        message: format!("cannot exclude {text:?}: {}", error.kind()),
        hint: Some("a glob is a name or path with *, **, ? or [..] in it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, folder: &str, name: &str) -> bool {
        let excludes = Excludes::new(&[glob.to_owned()]).unwrap();
        excludes.matches(folder.as_bytes(), name.as_bytes())
    }

    #[test]
    fn a_glob_without_a_separator_is_for_names_at_any_depth() {
        assert!(matches("*.o", "/a/b", "c.o"));
        assert!(matches("target/", "/a", "target"));
        assert!(!matches("*.o", "/a/b.o", "c"));
    }

    #[test]
    fn a_glob_with_separators_is_for_whole_paths_or_their_ends() {
        assert!(matches("/a/*/c", "/a/b", "c"));
        assert!(!matches("/a/*", "/a/b", "c"));
        assert!(matches("b/c", "/a/b", "c"));
        assert!(!matches("/b/c", "/a/b", "c"));
        assert!(matches("/top", "/", "top"));
    }

    #[test]
    fn what_is_no_glob_is_told() {
        assert!(Excludes::new(&["a[".to_owned()]).is_err());
    }

    #[test]
    fn what_is_below_a_folder_that_is_left_out_is_left_out_and_the_root_never() {
        let excludes = Excludes::new(&["cache".to_owned(), "/home/u/tmp".to_owned()]).unwrap();
        let leaves = |root: &str, path: &str| excludes.leave_out(root.as_bytes(), path.as_bytes());
        assert!(leaves("/home/u", "/home/u/cache/a/b"));
        assert!(leaves("/home/u/", "/home/u/a/cache"));
        assert!(leaves("/", "/home/u/tmp/file"));
        assert!(!leaves("/home/u", "/home/u/a/b"));
        assert!(!leaves("/home/u/cache", "/home/u/cache/a"));
        assert!(!leaves("/home/u/cache", "/home/u/cache"));
    }
}
