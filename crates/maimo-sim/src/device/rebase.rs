//! A lost race: a draft is turned to the winner's state, or made anew from the files.

use std::{collections::BTreeMap, rc::Rc};

use maimo_vault::{
    compose::{Body, Sealing},
    pack::Piece,
    rebase::{Fate, fate, turn},
};

use super::{Home, Living, Sealer, draft::draft, job::Plan, store::dedup, sync};
use crate::world::Shared;

/// Turns a draft to a state that another device won the race for. Nothing where it must be made anew from the files.
pub fn rebase(home: &mut Home, shared: &mut Shared, mut plan: Plan) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let known = dedup(&cache, &channels);
    let living = Living {
        base: &cache.base,
        layouts: &cache.layouts,
        view: &cache.views[&channels[0]],
    };
    let mut now_at = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (chunk, id) in &plan.taken {
        let here = match fate(*chunk, id, &cache.base.state, &known, &living) {
            Fate::Lives(here) => {
                shared.fates.moved += u64::from(here != *chunk);
                here
            }
            Fate::LetGo(here) => {
                shared.fates.let_go += 1;
                // Named again, unless the provider has said that it is freed.
                let reference = cache.base.state.pack(here.pack, channels[0])?;
                if home.not_held.contains(&(channels[0], reference)) {
                    shared.fates.lost += 1;
                    return None;
                }
                here
            }
            Fate::Lost => {
                shared.fates.lost += 1;
                return None;
            }
        };
        now_at.insert(*chunk, here);
        taken.insert(here, *id);
    }
    plan.taken = taken;
    if now_at.iter().any(|(was, is)| was != is) {
        let before = plan.draft.records.clone();
        let records = plan.draft.records.iter_mut();
        turn(records.map(|(_, record)| record), &now_at);
        for (old, new) in before.iter().zip(&plan.draft.records) {
            if old != new {
                // The pack it ends in was sealed with the old references.
                shared.repeated.remove(&old.0);
            }
        }
        let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
        let piece = match &plan.draft.body {
            Body::Piece(piece) => piece.clone(),
            Body::Segments(_) => Piece::new(sealer.next_pack()),
        };
        plan.draft = draft(piece, plan.draft.records, &keys, &mut sealer);
    }
    Some(plan)
}
