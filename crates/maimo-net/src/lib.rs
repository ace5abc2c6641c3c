//! How bytes move between a client and a provider. Knows messages, not meanings.
//!
//! [`service`] is what a provider does for a client, as a trait of owned messages; [`in_process`] carries it to a provider in the same
//! process, [`transport`] is what carries it over a network, [`wire`] the bytes it is there. Neither side knows which one it has.

pub mod backoff;
pub mod circuits;
pub mod connect;
pub mod connector;
pub mod http;
pub mod in_process;
pub mod rate;
pub mod remote;
pub mod serve;
pub mod service;
pub mod tls;
pub mod transport;
pub mod wire;
