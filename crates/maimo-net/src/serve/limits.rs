//! How much a provider lets its clients, and strangers, take of it.

use core::time::Duration;

/// What one process that serves holds back. All of it is for the owner to set; what no client has to know is not in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many connections of known clients there are at a time.
    pub connections: usize,
    /// How many connections there are at a time whose client is not known, or not yet. One more, and the oldest of them is closed.
    pub strangers: usize,
    /// How many connections one client has at a time.
    pub connections_per_client: usize,
    /// How many calls of one client are in flight at a time.
    pub calls_per_client: usize,
    /// How many bytes of requests and answers of one client are in memory at a time.
    pub bytes_per_client: u64,
    /// How many bytes of requests and answers of all clients are in memory at a time.
    pub bytes: u64,
    /// How many bytes windows of all connections may have grown by.
    pub window_bytes: u64,
    /// How many slices one client may have audited each minute.
    pub slices_per_minute: u64,
    /// How many it may have audited at once, after a time without any.
    pub slices_at_once: u64,
    /// How many bytes one client may have digested each minute.
    pub digest_bytes_per_minute: u64,
    /// How many it may have digested at once, after a time without any.
    pub digest_bytes_at_once: u64,
    /// How many calls are worked on at a time, each by a thread; two at least.
    pub threads: usize,
    /// How long what is in flight may take to finish once the server is told to stop.
    pub drain: Duration,
}

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

impl Limits {
    /// For a small machine with a thousand clients.
    pub const DEFAULT: Self = Self {
        connections: 2048,
        strangers: 64,
        connections_per_client: 16,
        calls_per_client: 48,
        bytes_per_client: 96 * MIB,
        bytes: 256 * MIB,
        window_bytes: 128 * MIB,
        slices_per_minute: 120_000,
        slices_at_once: 1_000_000,
        digest_bytes_per_minute: 32 * GIB,
        digest_bytes_at_once: 512 * GIB,
        threads: 32,
        drain: Duration::from_secs(30),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
