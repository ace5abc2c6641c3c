//! The few packs whose files stay open: opening one costs as much as reading a slice of it.

use std::sync::{Arc, Mutex};

use maimo_core::id::{ChannelId, RootHash};

use super::{PackFile, lock};

/// How many files stay open: few enough for any limit, and to look through one by one.
const OPEN_MAX: usize = 64;

/// Open packs, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Cache {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Vec<Arc<PackFile>>,
    /// How often something was forgotten.
    generation: u64,
}

impl Cache {
    pub(super) fn get(&self, channel: &ChannelId, root: &RootHash) -> Option<Arc<PackFile>> {
        let open = &mut lock(&self.state).open;
        let at = open.iter().rposition(|file| file.is(channel, root))?;
        let file = open.remove(at);
        open.push(Arc::clone(&file));
        Some(file)
    }

    /// Returns what [`Self::put`] is to be told, asked for before the file is opened.
    pub(super) fn generation(&self) -> u64 {
        lock(&self.state).generation
    }

    /// Keeps a file open, unless some file was replaced since `generation`: it might be this one.
    pub(super) fn put(&self, file: Arc<PackFile>, generation: u64) {
        let mut state = lock(&self.state);
        if state.generation != generation {
            return;
        }
        if state.open.len() == OPEN_MAX {
            state.open.remove(0);
        }
        state.open.push(file);
    }

    /// Closes a pack's file: another is in its place, or none.
    pub(super) fn forget(&self, channel: &ChannelId, root: &RootHash) {
        let mut state = lock(&self.state);
        state.generation += 1;
        state.open.retain(|file| !file.is(channel, root));
    }
}
