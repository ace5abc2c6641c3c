//! A circuit, as the scheduler sees it: calls, a meter, and whether it lives.

use core::{future::Future, pin::Pin};
use std::sync::Arc;

use crate::{
    rate::{Meter, Priority},
    service::{ServiceError, Session},
};

/// One connection to a provider over one circuit.
///
/// A call whose future is dropped is cancelled at the provider, too: what is not wanted costs no bytes. A call that ends as
/// [`ServiceError::Offline`] may or may not have been carried out; so may one that was dropped. The bodies of puts leave one after the
/// other, in the order of the calls: two at once would both be lost with the circuit.
pub trait Circuit: Session {
    /// Returns whether it takes calls.
    fn is_open(&self) -> bool;

    /// Waits until it is dead: no call on it will be answered any more.
    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// Returns what counts its bytes.
    fn meter(&self) -> &Meter;
}

/// What a circuit is for.
pub type Purpose = Priority;

/// A circuit that is being opened.
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Circuit>, ServiceError>> + Send>>;

/// Opens circuits to one provider.
pub trait Dial: Send + Sync + 'static {
    /// Opens a circuit that shares nothing with any other.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing open.
    fn open(&self, purpose: Purpose) -> Opening;
}
