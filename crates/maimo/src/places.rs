//! Where a node keeps its things: one folder if told, else where the system says such things go.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf, absolute},
};

use crate::error::CommandError;

/// The name of the configuration file in its folder.
const CONFIG_FILE: &str = "config.toml";

/// The folders of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// The client: key, state, catalog, journal.
    pub(crate) home: PathBuf,
    /// The provider, if this node is one.
    pub(crate) provider: PathBuf,
    /// The configuration.
    pub(crate) config: PathBuf,
    /// What the Tor in this program must keep: its guards. A folder in it for each that runs.
    pub(crate) tor_state: PathBuf,
    /// What it can fetch again.
    pub(crate) tor_cache: PathBuf,
}

impl Places {
    /// Finds them: all in `home` if that is given.
    ///
    /// # Errors
    ///
    /// Nothing says where the user's folders are.
    pub(crate) fn find(home: Option<&Path>) -> Result<Self, CommandError> {
        if let Some(home) = home {
            // Absolute, since a node's work outlives the folder that a command was called in.
            let home = absolute(home)
                .map_err(|error| CommandError::io("find the folder", home, &error))?;
            return Ok(Self {
                provider: home.join("provider"),
                config: home.join(CONFIG_FILE),
                tor_state: home.join("tor/state"),
                tor_cache: home.join("tor/cache"),
                home,
            });
        }
        Self::of_user(|name| env::var_os(name)).ok_or_else(|| {
            CommandError::config("nothing says where your files are: HOME is not set")
                .hint("name a folder with --home or MAIMO_HOME")
        })
    }

    /// Finds them by the system's conventions.
    fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let user = || {
            variable("HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let (data, config, state, cache) = if cfg!(target_os = "macos") {
            let folder = user()?.join("Library/Application Support/maimo");
            let cache = user()?.join("Library/Caches/maimo");
            (folder.clone(), folder.clone(), folder, cache)
        } else {
            // The specification has a relative path ignored.
            let xdg = |name, or| {
                variable(name)
                    .map(PathBuf::from)
                    .filter(|path| path.is_absolute())
                    .or_else(|| Some(user()?.join(or)))
            };
            (
                xdg("XDG_DATA_HOME", ".local/share")?.join("maimo"),
                xdg("XDG_CONFIG_HOME", ".config")?.join("maimo"),
                xdg("XDG_STATE_HOME", ".local/state")?.join("maimo"),
                xdg("XDG_CACHE_HOME", ".cache")?.join("maimo"),
            )
        };
        Some(Self {
            provider: data.join("provider"),
            config: config.join(CONFIG_FILE),
            tor_state: state.join("tor"),
            tor_cache: cache.join("tor"),
            home: data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<Places> {
        let find = |name: &str| variables.iter().find(|v| v.0 == name).map(|v| v.1.into());
        Places::of_user(find)
    }

    #[test]
    fn a_home_holds_everything() {
        let places = Places::find(Some(Path::new("/n"))).unwrap();
        assert_eq!(places.home, Path::new("/n"));
        assert_eq!(places.provider, Path::new("/n/provider"));
        assert_eq!(places.config, Path::new("/n/config.toml"));
        assert_eq!(places.tor_state, Path::new("/n/tor/state"));
        assert_eq!(places.tor_cache, Path::new("/n/tor/cache"));
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn the_users_folders_are_those_of_xdg() {
        let places = of(&[("HOME", "/h")]).unwrap();
        assert_eq!(places.home, Path::new("/h/.local/share/maimo"));
        assert_eq!(places.config, Path::new("/h/.config/maimo/config.toml"));
        assert_eq!(places.tor_state, Path::new("/h/.local/state/maimo/tor"));
        assert_eq!(places.tor_cache, Path::new("/h/.cache/maimo/tor"));
        let places = of(&[
            ("HOME", "/h"),
            ("XDG_DATA_HOME", "/d"),
            ("XDG_CONFIG_HOME", "rel"),
        ]);
        let places = places.unwrap();
        assert_eq!(places.home, Path::new("/d/maimo"));
        assert_eq!(places.config, Path::new("/h/.config/maimo/config.toml"));
    }

    #[test]
    fn without_a_user_there_is_no_place() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HOME", "relative")]), None);
    }
}
