//! Naming: what a commit changes of the data packs that a channel's head names.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{id::ChannelId, inventory::Change, live_map::LiveMap, reference::ObjectRef};
use maimo_vault::{
    candidate::{ChannelView, name_also, name_exactly},
    compose::Base,
    demand::Demand,
    journal::{record::Record, state::State},
    name::{ChunkRef, PackNumber},
    pack::PackLayout,
    prune,
};

use super::job::{Naming, Plan};

/// Returns what a commit changes of a channel's data packs.
pub fn data_changes(
    base: &Base,
    layouts: &BTreeMap<PackNumber, Rc<PackLayout>>,
    view: &ChannelView,
    plan: &Plan,
    channel: ChannelId,
) -> Vec<Change> {
    let demand = match plan.naming {
        Naming::New => new_demand(base, layouts, view, plan, channel),
        Naming::All | Naming::Exactly => Demand::of(&base.state),
    };
    let target: BTreeMap<ObjectRef, LiveMap> =
        prune::target(&demand, layouts.values().map(|layout| &**layout))
            .into_iter()
            .filter_map(|(number, live)| Some((base.state.pack(number, channel)?, live)))
            .collect();
    if plan.naming == Naming::Exactly {
        name_exactly(&view.data, target)
    } else {
        name_also(&view.data, target)
    }
    .expect("live maps of these lengths")
}

/// Returns what a draft refers to, and what a spilled tail has moved into a pack that no record of the draft names.
fn new_demand(
    base: &Base,
    layouts: &BTreeMap<PackNumber, Rc<PackLayout>>,
    view: &ChannelView,
    plan: &Plan,
    channel: ChannelId,
) -> Demand {
    let mut demand = Demand::default();
    for (_, record) in &plan.draft.records {
        if let Record::File { content, .. } = record {
            for chunk in base.state.resolve_all(content.extents()) {
                demand.add(chunk);
            }
        }
    }
    for layout in layouts.values() {
        let pack = base.state.pack(layout.number(), channel);
        if pack.is_some_and(|pack| view.data.entry(&pack.root).is_none()) {
            for (chunk, needed) in chunks_of(&base.state, layout) {
                if needed {
                    demand.add(chunk);
                }
            }
        }
    }
    demand
}

/// Returns a pack's chunks and whether any kept revision needs them.
fn chunks_of(state: &State, layout: &PackLayout) -> Vec<(ChunkRef, bool)> {
    let demand = Demand::of(state);
    let needed: BTreeSet<u32> = demand.of_pack(layout.number()).collect();
    (0..)
        .zip(layout.entries())
        .map(|(index, _)| {
            let chunk = ChunkRef {
                pack: layout.number(),
                index,
            };
            (chunk, needed.contains(&index))
        })
        .collect()
}
