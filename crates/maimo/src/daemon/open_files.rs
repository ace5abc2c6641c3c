//! How many files a node may have open: every connection is one, every pack that is read or written another.
//!
//! Services and shells commonly begin with 1,024, for the sake of programs that cannot count further. A provider with a thousand clients needs more, and
//! may take more without asking: up to what the system's own limit says.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as the connections and what they have in hand can come to, with room to spare.
const MOST: u64 = 16_384;

/// Raises this process's limit as far as it may and needs to be.
pub(super) fn allow() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(MOST, |maximum| maximum.min(MOST));
    if limit.current.is_none_or(|current| current >= most) {
        return;
    }
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise how many files this node may have open");
    }
}
