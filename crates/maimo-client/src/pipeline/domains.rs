//! [`Domains`]: which dedup domain a file is of, and what that cuts and names its chunks with.
//!
//! Whoever can write into a folder could else find out what the store has already, by watching how much is sent. A domain of its own shares
//! no chunk and no dictionary with the rest.

use std::path::{Path, PathBuf};

use maimo_vault::{chunker::Gear, name::Domain};

use crate::keys::StoreKeys;

/// A folder whose files are of another dedup domain than the store's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFolder {
    /// Where it is, absolute.
    pub folder: PathBuf,
    /// The domain, which several folders may have in common.
    pub domain: Domain,
}

/// The domains of a run.
pub(super) struct Domains {
    own: Cut,
    /// The folders deepest first.
    others: Vec<(PathBuf, Cut)>,
}

/// A domain, and where its files are cut.
pub(super) struct Cut {
    pub(super) domain: Domain,
    pub(super) gear: Gear,
}

impl Domains {
    pub(super) fn new(keys: &StoreKeys, folders: &[DomainFolder]) -> Self {
        let cut = |domain| Cut {
            domain,
            gear: Gear::new(keys.gear_key(domain)),
        };
        let mut others: Vec<(PathBuf, Cut)> = folders
            .iter()
            .map(|of| (of.folder.clone(), cut(of.domain)))
            .collect();
        others.sort_by_key(|(folder, _)| std::cmp::Reverse(folder.components().count()));
        Self {
            own: cut(Domain::default()),
            others,
        }
    }

    /// Returns the domain of the files that are in `folder`.
    pub(super) fn of(&self, folder: &Path) -> &Cut {
        let other = self.others.iter().find(|(of, _)| folder.starts_with(of));
        other.map_or(&self.own, |(_, cut)| cut)
    }
}

/// Returns whether chunks of a domain may be compressed with a dictionary, or train one: its size would tell what it shares with them.
pub(super) fn has_dictionary(domain: Domain) -> bool {
    domain == Domain::default()
}

#[cfg(test)]
mod tests {
    use maimo_vault::keys::MasterSecret;

    use super::*;

    #[test]
    fn a_file_is_of_the_deepest_folder_that_is_a_domain() {
        let keys = StoreKeys::new(&MasterSecret::from_entropy(&[1; 32]));
        let folder = |path: &str, domain| DomainFolder {
            folder: path.into(),
            domain: Domain(domain),
        };
        let folders = [folder("/u", 1), folder("/u/mail/lists", 2), folder("/v", 1)];
        let domains = Domains::new(&keys, &folders);
        let of = |path: &str| domains.of(Path::new(path)).domain.0;
        assert_eq!(of("/u/mail"), 1);
        assert_eq!(of("/u/mail/lists/deep"), 2);
        assert_eq!(of("/v"), 1);
        assert_eq!(of("/vw"), 0);
        assert_eq!(of("/"), 0);
    }
}
