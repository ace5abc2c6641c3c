//! Why there is no network.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a network, or a node of it, does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// C tor is not installed.
    #[error("{program} is not installed: it comes with the package `tor` (apt-get install tor)")]
    MissingTor {
        /// The program that was not found.
        program: &'static str,
    },
    /// A file or a process could not be made.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// A program that makes keys failed, or its keys cannot be read.
    #[error("{program} made no keys for {node}:\n{output}")]
    Keys {
        /// The node.
        node: String,
        /// The program.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// A node ended by itself.
    #[error("the tor node {node} ended; its log ends in:\n{log}")]
    Ended {
        /// The node.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// A node did not get as far as it should.
    #[error("the tor node {node} is not ready after {seconds} s: {state}; its log ends in:\n{log}")]
    NotReady {
        /// The node.
        node: String,
        /// How long was waited.
        seconds: u64,
        /// How far it is.
        state: String,
        /// The end of its log.
        log: String,
    },
    /// No port of this machine was free.
    #[error("no free port on 127.0.0.1")]
    NoPort,
    /// A node of a shared network is not for one of its users to end.
    #[error("the network is shared: its nodes are not this process's to stop")]
    Shared,
    /// There is no relay of that number.
    #[error("there is no relay {index}")]
    NoRelay {
        /// The number asked for.
        index: usize,
    },
}

impl NetworkError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
