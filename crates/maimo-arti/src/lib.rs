//! Tor in the process, by arti: the way out to onion services, and an onion service of one's own. The only crate that links arti.
//!
//! It reaches onion services and nothing else: no exit, no name server. Every socket it opens leads to a Tor relay or bridge.

mod bootstrap;
mod connector;
mod error;
mod isolation;
mod onion_service;
mod settings;
mod software;
mod stream;

pub use bootstrap::{ArtiTor, Blocked, TorStatus};
pub use error::TorError;
pub use onion_service::{OnionListener, Reachability};
pub use settings::{ArtiSettings, Authority, ParseAuthorityError, PrivateNetwork};
pub use software::Software;
