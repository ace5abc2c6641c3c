//! Paths as arguments and in JSON.

use std::{
    borrow::Cow,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use serde::Serialize;

use crate::{context::Folder, error::CommandError, ui::hex};

/// A path in JSON: text, and its very bytes where they are not UTF-8.
#[derive(Debug, Serialize)]
pub(super) struct PathView<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl<'a> PathView<'a> {
    /// Makes the view.
    pub(super) fn of(path: &'a Path) -> Self {
        let text = path.to_string_lossy();
        let is_exact = matches!(text, Cow::Borrowed(_));
        Self {
            path: text,
            path_hex: (!is_exact).then(|| hex(path.as_os_str().as_bytes())),
        }
    }
}

/// Makes paths whole, from the current folder on.
///
/// By their words alone, as a shell does: the store knows paths that are no longer on the disk, and must find them under the same names.
pub(super) fn absolute_all(
    folder: &Folder,
    paths: &[PathBuf],
) -> Result<Vec<PathBuf>, CommandError> {
    for path in paths {
        if path.as_os_str().is_empty() {
            return Err(CommandError::usage("a path is empty"));
        }
    }
    paths
        .iter()
        .map(|path| Ok(resolved(&folder.path(path)?)))
        .collect()
}

/// Makes a pattern whole: one that names a folder, or has one in front. A bare glob is for names anywhere.
pub(super) fn absolute_pattern(folder: &Folder, pattern: &str) -> Result<String, CommandError> {
    let is_glob = pattern.contains(['*', '?', '[', '{']);
    if is_glob && (pattern.starts_with('/') || !pattern.contains('/')) {
        return Ok(pattern.to_owned());
    }
    let whole = resolved(&folder.path(Path::new(pattern))?);
    whole.into_os_string().into_string().map_err(|_| {
        CommandError::usage("the current folder's path is not UTF-8, which a pattern cannot say")
    })
}

fn resolved(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn paths_are_resolved_by_their_words() {
        for (path, whole) in [
            ("a", "/f/a"),
            ("./a/./b/", "/f/a/b"),
            ("../a", "/a"),
            ("../../../a", "/a"),
            ("/x/../y", "/y"),
            (".", "/f"),
        ] {
            assert_eq!(
                resolved(&Path::new("/f").join(path)),
                Path::new(whole),
                "{path}"
            );
        }
    }

    #[test]
    fn a_bare_glob_stays_and_a_folder_becomes_whole() {
        assert_eq!(absolute_pattern(&Folder::Own, "*.jpg").unwrap(), "*.jpg");
        assert_eq!(
            absolute_pattern(&Folder::Own, "/a/**/x*").unwrap(),
            "/a/**/x*"
        );
        assert!(
            absolute_pattern(&Folder::Own, "docs")
                .unwrap()
                .starts_with('/')
        );
        assert!(
            absolute_pattern(&Folder::Own, "docs/*.md")
                .unwrap()
                .ends_with("/docs/*.md")
        );
    }

    #[test]
    fn a_path_that_is_not_text_comes_with_its_bytes() {
        let json = |path: &Path| serde_json::to_string(&PathView::of(path)).unwrap();
        assert_eq!(json(Path::new("/a")), r#"{"path":"/a"}"#);
        let odd = Path::new(OsStr::from_bytes(b"/a\xff"));
        assert_eq!(
            json(odd),
            "{\"path\":\"/a\u{fffd}\",\"path_hex\":\"2f61ff\"}"
        );
    }
}
