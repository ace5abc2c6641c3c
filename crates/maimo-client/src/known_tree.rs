//! The catalog as a scan asks it: the newest state of one source's paths.

use maimo_vault::{
    journal::{content::Content, metadata::Metadata},
    name::{RecordId, SourceId},
    path::StorePath,
};

use crate::{
    catalog::{self, CatalogError, FolderId, Reader},
    error::ClientError,
    scan::{
        known::{KnownEntry, KnownFolder, KnownRevision, KnownTree},
        stat::Kind,
    },
};

/// A snapshot of the catalog, of one source.
pub(crate) struct CatalogTree {
    reader: Reader,
    source: SourceId,
}

impl CatalogTree {
    /// Looks at the paths of `source`.
    pub(crate) const fn new(reader: Reader, source: SourceId) -> Self {
        Self { reader, source }
    }

    fn known_revision(
        &self,
        known: &catalog::KnownEntry,
    ) -> Result<Option<KnownRevision>, CatalogError> {
        let kind = match known.kind {
            catalog::Kind::Regular | catalog::Kind::HardLink => Kind::Regular,
            catalog::Kind::Folder => Kind::Folder,
            catalog::Kind::Symlink => Kind::Symlink,
            catalog::Kind::Fifo => Kind::Fifo,
            // Which of the two is not in the hot row: devices are few.
            catalog::Kind::Device => match self.reader.revision(known.id)? {
                Some(revision) => device(&revision.content),
                None => return Ok(None),
            },
        };
        Ok(Some(KnownRevision {
            id: known.id,
            kind,
            size: if kind == Kind::Regular { known.size } else { 0 },
            modified: known.modified,
            local: known.local,
            presence: known.presence,
        }))
    }
}

const fn device(content: &Content) -> Kind {
    match content {
        Content::Device { block: true, .. } => Kind::BlockDevice,
        _ => Kind::CharDevice,
    }
}

impl KnownTree for CatalogTree {
    fn folder(&mut self, path: &StorePath) -> Result<Option<KnownFolder>, ClientError> {
        let folder = self.reader.folder(self.source, path)?;
        Ok(folder.map(|folder| KnownFolder(folder.0)))
    }

    fn entry(&mut self, path: &StorePath) -> Result<Option<KnownEntry>, ClientError> {
        let folder = self.folder(path)?;
        let known = self.reader.known(self.source, path)?;
        let revision = match &known {
            Some(known) => self.known_revision(known)?,
            None => None,
        };
        if folder.is_none() && revision.is_none() {
            return Ok(None);
        }
        let name = path.components().last().cloned().unwrap_or_default();
        Ok(Some(KnownEntry {
            name,
            folder,
            revision,
        }))
    }

    fn children(
        &mut self,
        folder: KnownFolder,
        after: Option<&[u8]>,
        out: &mut Vec<KnownEntry>,
    ) -> Result<(), ClientError> {
        let mut after = after.map(<[u8]>::to_vec);
        // A page of paths that are not kept says nothing, and nothing would be taken for the end.
        loop {
            let begun = out.len();
            let mut last = None;
            self.reader.each_name(
                FolderId(folder.0),
                after.as_deref(),
                |name, child, known| {
                    last = Some(name.to_vec());
                    let revision = match &known {
                        Some(known) => self.known_revision(known)?,
                        None => None,
                    };
                    if child.is_some() || revision.is_some() {
                        out.push(KnownEntry {
                            name: name.to_vec(),
                            folder: child.map(|child| KnownFolder(child.0)),
                            revision,
                        });
                    }
                    Ok(())
                },
            )?;
            if last.is_none() || out.len() > begun {
                return Ok(());
            }
            after = last;
        }
    }

    fn revision(&mut self, id: RecordId) -> Result<Option<(Metadata, Content)>, ClientError> {
        let revision = self.reader.revision(id)?;
        Ok(revision.map(|revision| (revision.metadata, revision.content)))
    }
}
