//! The engine against a real provider in a folder: what `maimo` joins, without its command line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use maimo_client::{
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    error::ClientError,
    progress::Control,
};
use maimo_core::id::RootHash;
use maimo_net::{connect, in_process::InProcess, service::ServiceError};
use maimo_provider::provider::{FolderTerms, Provider};

/// A home and a folder to store in.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let made = Client::init(&scene.home(), &InitOptions::default()).unwrap();
        assert!(made.phrase.is_some());
        scene
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn address(&self) -> String {
        format!("dir:{}", self.folder.path().join("disk").display())
    }

    fn open(&self) -> Client {
        Client::open(&self.home(), OpenOptions::new(connector())).unwrap()
    }

    fn begun() -> (Self, Client) {
        let scene = Self::new();
        let mut client = scene.open();
        let request = OpenChannelRequest::new(scene.address());
        client.open_channel(&request, &Control::default()).unwrap();
        (scene, client)
    }
}

fn connector() -> Arc<InProcess> {
    Arc::new(InProcess::new(|address| {
        let path = address.strip_prefix("dir:").expect("a folder");
        let provider = Provider::open_folder(Path::new(path), Some(FolderTerms::default()));
        let provider = provider.map_err(|error| ServiceError::Unavailable {
            detail: error.to_string(),
        })?;
        Ok(Arc::new(provider) as Arc<dyn connect::Provider>)
    }))
}

#[test]
fn opening_a_channel_begins_the_store() {
    let scene = Scene::new();
    let mut client = scene.open();
    assert_eq!(client.status().unwrap().sequence, 0);
    let request = OpenChannelRequest::new(scene.address());
    let channel = client.open_channel(&request, &Control::default()).unwrap();
    assert_eq!(channel.name, "disk");
    assert_eq!(channel.sequence, 1);
    assert_ne!(channel.root, RootHash::NONE);
    assert_eq!(client.status().unwrap().sequence, 1);
    let again = client.open_channel(&request, &Control::default());
    assert!(matches!(again, Err(ClientError::Input { .. })));
    drop(client);
    let client = scene.open();
    let roots = client.root().unwrap();
    assert_eq!((roots[0].root, roots[0].sequence), (channel.root, 1));
}

#[test]
fn a_home_is_open_once() {
    let (scene, client) = Scene::begun();
    let second = Client::open(&scene.home(), OpenOptions::new(connector()));
    assert!(matches!(second, Err(ClientError::Locked(_))));
    drop(client);
    scene.open();
}

#[test]
fn a_catalog_that_was_deleted_is_there_again() {
    let (scene, client) = Scene::begun();
    drop(client);
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(scene.home().join(name));
    }
    let client = scene.open();
    assert_eq!(client.status().unwrap().sequence, 1);
}
