//! What is measured: what a commit sends, and what a recovery would read.

use maimo_vault::{
    compose::{SegmentWriter, write_segments},
    compress::Level,
    journal::{
        batch::{Batch, Stamp},
        merge::Judge,
        record::Record,
    },
    pack::PackKind,
};

use super::Store;
use crate::years::sealer::{Purpose, Scales, Upload};

/// What one put carries of a pack, in bytes.
const PUT_BYTES: u64 = 1024 * 1024;

impl Store {
    pub(super) fn measure(
        &mut self,
        uploads: &[Upload],
        request: u64,
        nodes_ahead: u64,
        is_waited_for: bool,
    ) {
        let figures = &mut self.figures;
        let mut bytes = request;
        let mut requests = 1 + nodes_ahead;
        figures.sent += request;
        figures.packs_sent += uploads.len() as u64;
        for upload in uploads {
            let length = upload.reference.length;
            figures.sent += length;
            if upload.kind == PackKind::Data {
                figures.data_uploaded += length;
                if upload.purpose != Purpose::Rewrite {
                    figures.first_packs += length;
                }
            }
            if upload.purpose != Purpose::Content {
                bytes += length;
                requests += length.div_ceil(PUT_BYTES);
            }
        }
        figures.commits += 1;
        figures.commit_bytes.count(bytes);
        figures.requests.count(requests);
        if is_waited_for {
            figures.waited_bytes.count(bytes);
            if self.is_settled {
                figures.waited_later_bytes.count(bytes);
            }
        }
    }

    /// Measures what a recovery reads now; `with_ratio` also against the kept records merged into one, which takes its time.
    pub(in crate::years) fn sample(&mut self, with_ratio: bool) {
        let journal: u64 = self
            .view
            .segments
            .values()
            .map(|segment| segment.length)
            .sum();
        let head = self
            .view
            .head
            .as_ref()
            .map_or(0, |head| head.encode().len() as u64);
        let read = head + self.commit_length + journal;
        self.figures.recovery.count(read);
        self.figures
            .recovery_packs
            .count(self.base.segments.len() as u64);
        self.figures.journal = journal;
        self.figures.data_packs = self.view.data.len();
        self.figures.vital_packs = self.view.vital.len();
        let nodes = self.view.data.nodes().chain(self.view.vital.nodes());
        self.figures.inventory = nodes.map(|(_, bytes)| bytes.len() as u64).sum();
        if !with_ratio {
            return;
        }
        let mut all: Vec<(Stamp, Record)> = self
            .base
            .segments
            .iter()
            .flat_map(|one| self.records_in(*one))
            .collect();
        for tail in &self.base.tail {
            let batch = Batch::parse(tail.piece.records()).expect("it was encoded here");
            all.extend(batch.into_records(tail.sequence));
        }
        let live = self.weigh_merged(Judge::new(&self.base.state).merge(all));
        let share = u32::try_from(read * 100_000 / live.max(1)).unwrap_or(u32::MAX);
        self.figures
            .recovery_ratio
            .add(f64::from(share) / 100_000.0);
    }

    fn weigh_merged(&self, records: Vec<(Stamp, Record)>) -> u64 {
        let mut scales = Scales {
            writer: self.sealer.writer,
            packs: 0,
            bytes: 0,
        };
        let writer = SegmentWriter {
            id_key: &self.id_key,
            level: Level::default(),
        };
        write_segments(records, &writer, &mut scales);
        scales.bytes
    }
}
