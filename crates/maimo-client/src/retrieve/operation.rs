//! Retrieving and dumping as operations of a node: its catalog, its channels.

use std::{io::Write, sync::Arc};

use maimo_net::{connect::Load, service::Session};
use maimo_vault::{journal::content::Content, name::SourceId};

use super::{
    RetrieveOptions, RetrieveReport, StoredTree, retrieve,
    select::{RetrieveRequest, Selection},
};
use crate::{
    browse::source_labelled,
    catalog::Reader,
    dump::{self, DumpError, DumpRequest},
    engine::Engine,
    error::ClientError,
    fetch::{CatalogPacks, Channel, Fetch},
    progress::{Cancelled, Control},
    session::OpenChannel,
};

impl Engine {
    /// Writes files of the store below a folder.
    pub(crate) fn retrieve(
        &mut self,
        request: &RetrieveRequest,
        control: &Control,
    ) -> Result<RetrieveReport, ClientError> {
        // Another machine may have stored what is asked for, or moved it to other packs and let go of those.
        self.refresh(control)?;
        let reader = self.catalog.reader()?;
        let source = self.source_asked(&reader, request.source.as_deref())?;
        let selection = Selection::new(&reader, source, request)?;
        let channels = self.reachable(load(&selection)?)?;
        let fetch = fetch(&channels, &self.keys);
        let options = RetrieveOptions {
            to: request.to.clone(),
            overwrite: request.overwrite,
        };
        let packs = CatalogPacks::new(&reader);
        let done = retrieve(&selection, &packs, &fetch, &options, control);
        self.look_into_read(&fetch, &channels)?;
        done
    }

    /// Writes down what a read met of damage.
    pub(crate) fn look_into_read(
        &self,
        fetch: &Fetch<'_>,
        channels: &[Arc<OpenChannel>],
    ) -> Result<(), ClientError> {
        for (id, kind, pack, groups) in fetch.suspects() {
            if let Some(channel) = channels.iter().find(|channel| channel.id == id) {
                self.look_into(id, &*channel.session, &[(kind, pack, groups)])?;
            }
        }
        Ok(())
    }

    fn source_asked(&self, reader: &Reader, label: Option<&str>) -> Result<SourceId, ClientError> {
        match label {
            None => Ok(self.node.source()),
            Some(label) => source_labelled(&reader.sources()?, label),
        }
    }

    /// Writes one file's content to `out`.
    pub(crate) fn dump(
        &mut self,
        request: &DumpRequest,
        out: &mut dyn Write,
        control: &Control,
    ) -> Result<u64, DumpError> {
        self.refresh(control)?;
        let reader = self.catalog.reader().map_err(ClientError::from)?;
        let source = self.source_asked(&reader, request.source.as_deref())?;
        let request = RetrieveRequest {
            paths: vec![request.path.clone()],
            revision: request.revision,
            at: request.at,
            ..RetrieveRequest::default()
        };
        let selection = Selection::new(&reader, source, &request)?;
        // The first is the one: of a folder it is the folder itself, which cannot be dumped, and says so.
        let mut content = None;
        let found = selection.each(&mut |stored| {
            content = Some(stored.content);
            Err(Cancelled.into())
        });
        let Some(content) = content else {
            return Err(found.err().map_or(DumpError::NotAFile, DumpError::from));
        };
        let channels = self.reachable(Load::of(size(&content)))?;
        let fetch = fetch(&channels, &self.keys);
        let packs = CatalogPacks::new(&reader);
        let done = dump::dump(&content, &packs, &fetch, out, control);
        self.look_into_read(&fetch, &channels)?;
        done
    }

    /// Returns the layout's channels that answer, the first one first.
    pub(crate) fn reachable(&mut self, load: Load) -> Result<Vec<Arc<OpenChannel>>, ClientError> {
        let mut open = Vec::new();
        let mut away = None;
        for id in self.layout()? {
            match self.channel_for(id, load) {
                Ok(channel) => open.push(channel),
                Err(error @ ClientError::Provider { .. }) => {
                    away.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match away {
            Some(error) if open.is_empty() => Err(error),
            _ if open.is_empty() => Err(ClientError::NoChannel("no channel is open".to_owned())),
            _ => Ok(open),
        }
    }
}

/// Returns whether much is to be read.
fn load(selection: &Selection<'_>) -> Result<Load, ClientError> {
    let mut bytes = 0;
    let counted = selection.each(&mut |stored| {
        bytes += size(&stored.content);
        if bytes < Load::HEAVY_BYTES {
            return Ok(());
        }
        // Enough is known.
        Err(Cancelled.into())
    });
    if bytes < Load::HEAVY_BYTES {
        counted?;
    }
    Ok(Load::of(bytes))
}

fn size(content: &Content) -> u64 {
    match content {
        Content::Regular { size, .. } => *size,
        _ => 0,
    }
}

/// Prepares to read from channels, the first first.
pub(crate) fn fetch<'k>(
    channels: &'k [Arc<OpenChannel>],
    keys: &'k crate::keys::StoreKeys,
) -> Fetch<'k> {
    let channels = channels.iter().map(|open| Channel {
        id: open.id,
        name: &open.name,
        keys: &open.keys,
        session: Arc::clone(&open.session) as Arc<dyn Session>,
    });
    Fetch::new(channels.collect(), keys)
}
