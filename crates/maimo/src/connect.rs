//! Folders as providers: each a whole one, in this process.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    sync::{Arc, Mutex, PoisonError},
};

use maimo_core::{
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    ticket::Ticket,
};
use maimo_net::{
    connect::{Connector, Load, Welcome},
    in_process::InProcess,
    service::{Reply, ServiceError, Session},
};
pub(crate) use maimo_provider::provider::FolderTerms;
use maimo_provider::{error::ProviderError, provider};

use crate::error::CommandError;

/// A cap that is none.
pub(crate) const ENDLESS: u64 = provider::ENDLESS_CAP;

/// What the address of a folder begins with.
const FOLDER: &str = "dir:";

/// Returns the address of a folder, which need not be there yet.
pub(crate) fn address_of(folder: &Path) -> Result<String, CommandError> {
    let failed = |error| CommandError::io("find", folder, &error);
    let path = match fs::canonicalize(folder) {
        Ok(path) => path,
        // Its own name apart, it must be there: a path whose disk is not mounted is not to be made.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let path = absolute(folder).map_err(failed)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(failed(error));
            };
            fs::canonicalize(parent)
                .map_err(|error| CommandError::io("find", parent, &error))?
                .join(name)
        }
        Err(error) => return Err(failed(error)),
    };
    let text = path.to_str().ok_or_else(|| {
        CommandError::usage(format!("the path {} is not UTF-8", folder.display()))
            .hint("an address is text; give the folder another name")
    })?;
    Ok(format!("{FOLDER}{text}"))
}

/// Returns the way to providers that are there.
pub(crate) fn existing() -> InProcess {
    InProcess::new(|address| open(address, None))
}

/// Returns the way to providers that are there, and to the one at `address`, which is made on these terms if it is not.
pub(crate) fn making(address: &str, terms: FolderTerms) -> InProcess {
    let new = address.to_owned();
    InProcess::new(move |address| open(address, (address == new).then_some(terms)))
}

/// Folders for a process that runs for long: each is let go of when what needed it is done, for a disk is to be unmounted, and a folder is
/// used by one machine at a time. Clones are the same.
#[derive(Clone)]
pub(crate) struct Folders(Arc<Mutex<Arc<InProcess>>>);

impl Folders {
    /// Begins with none open.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(existing()))))
    }

    /// Opens folders by this from now on, those that are open too.
    pub(crate) fn open_by(&self, folders: InProcess) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(folders);
    }

    /// Lets go of all that no session uses.
    pub(crate) fn let_go(&self) {
        self.open_by(existing());
    }

    fn now(&self) -> Arc<InProcess> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Connector for Folders {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        Box::pin(async move { self.now().identify(address).await })
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        load: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move { self.now().connect(addresses, auth, client, load).await })
    }

    fn audit<'a>(
        &'a self,
        addresses: &'a [String],
        ticket: &'a Ticket,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move { self.now().audit(addresses, ticket).await })
    }

    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        Box::pin(async move { self.now().redeem(invitation, client).await })
    }
}

/// Returns whether an address is a folder's.
pub(crate) fn is_folder(address: &str) -> bool {
    address.starts_with(FOLDER)
}

fn open(
    address: &str,
    make: Option<FolderTerms>,
) -> Result<Arc<dyn maimo_net::connect::Provider>, ServiceError> {
    let Some(folder) = address.strip_prefix(FOLDER).map(PathBuf::from) else {
        return Err(ServiceError::Offline {
            detail: "that is no folder".to_owned(),
        });
    };
    match provider::Provider::open_folder(&folder, make) {
        Ok(provider) => Ok(Arc::new(provider)),
        Err(ProviderError::NotThere { path }) => Err(ServiceError::Offline {
            detail: format!("no provider is at {}; is its disk mounted?", path.display()),
        }),
        Err(error) => Err(error.to_service()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_has_an_address_if_its_parent_is() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap();
        let address = address_of(&folder.path().join("new")).unwrap();
        assert_eq!(address, format!("dir:{}/new", real.display()));
        assert!(address_of(&folder.path().join("not/there")).is_err());
    }

    #[test]
    fn what_is_not_there_is_offline_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let address = address_of(&folder.path().join("new")).unwrap();
        let refused = open(&address, None).err().unwrap();
        assert!(matches!(refused, ServiceError::Offline { .. }), "{refused}");
        assert!(!folder.path().join("new").exists());
        let refused = open("tcp:somewhere", None).err().unwrap();
        assert!(matches!(refused, ServiceError::Offline { .. }), "{refused}");
    }
}
