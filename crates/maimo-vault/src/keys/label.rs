//! The labels keys are derived by: the context strings of `docs/cryptography.md`.

use super::KeyEpoch;

/// What a derived key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    StoreId,
    ContentChunkId,
    JournalChunkId,
    DictionaryChunkId,
    Gear,
    CommitName,
    ChannelClient,
    ChannelData,
    ChannelVital,
    ChannelPadding,
    ChannelCommit,
}

impl Label {
    #[cfg(test)]
    pub(super) const ALL: [Self; 11] = [
        Self::StoreId,
        Self::ContentChunkId,
        Self::JournalChunkId,
        Self::DictionaryChunkId,
        Self::Gear,
        Self::CommitName,
        Self::ChannelClient,
        Self::ChannelData,
        Self::ChannelVital,
        Self::ChannelPadding,
        Self::ChannelCommit,
    ];

    /// Returns the context string: product, version, purpose, key epoch. Nothing in it comes from outside.
    pub(super) fn context(self, KeyEpoch(epoch): KeyEpoch) -> String {
        format!("maimo v1 {}, epoch {epoch}", self.purpose())
    }

    pub(super) const fn purpose(self) -> &'static str {
        match self {
            Self::StoreId => "store id",
            Self::ContentChunkId => "content chunk id",
            Self::JournalChunkId => "journal chunk id",
            Self::DictionaryChunkId => "dictionary chunk id",
            Self::Gear => "chunk boundaries",
            Self::CommitName => "commit name",
            Self::ChannelClient => "channel client",
            Self::ChannelData => "channel data packs",
            Self::ChannelVital => "channel vital packs",
            Self::ChannelPadding => "channel padding",
            Self::ChannelCommit => "channel commit",
        }
    }
}
