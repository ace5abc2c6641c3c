//! Random histories on a real disk, held against the sums of the rows and against the ledger made anew from log and files.

use core::time::Duration;
use std::{fmt::Write as _, fs};

use maimo_core::{
    address::Network,
    custody::{PackClass, Refusal, Terms, UploadRefusal},
    identity::ClientSecretKey,
    live_map::LiveMap,
    reference::ObjectRef,
    units::GROUP_BYTES,
};
use maimo_net::service::ServiceError;
use proptest::prelude::*;

use crate::{
    ledger::changes,
    provider::{Provider, now},
    testing::{TestClient, pack},
};

#[derive(Debug, Clone)]
enum Step {
    Upload(u64),
    /// Which groups of which pack the next head names.
    Name(u64, u8),
    Move,
    SweepAfterDays(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..5_u64).prop_map(Step::Upload),
        4 => (0..5_u64, any::<u8>()).prop_map(|(pack, map)| Step::Name(pack, map)),
        3 => Just(Step::Move),
        1 => (0..60_u64).prop_map(Step::SweepAfterDays),
    ]
}

fn rows_of(provider: &Provider) -> String {
    let rows = provider.inner.readers.read(|rows| {
        let mut text = String::new();
        for channel in rows.channels()? {
            let row = rows.channel(&channel)?.unwrap();
            assert_eq!(changes::recomputed(rows, row.number)?, row.state.totals);
            let (packs, nodes) = (rows.packs(row.number)?, rows.nodes(row.number)?);
            let heads = rows.heads(row.number)?;
            let _ = write!(text, "{row:?}{packs:?}{nodes:?}{heads:?}");
        }
        Ok(text)
    });
    rows.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn the_ledger_is_what_log_and_files_say(steps in prop::collection::vec(step(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        let provider = Provider::create(&home).unwrap();
        provider.add_volume(&folder.path().join("disk"), 1 << 40).unwrap();
        let key = ClientSecretKey::from_seed(&[1; 32]).public();
        let terms = Terms::new(4 * 128 * 1024, Some(0), None);
        provider.register(Network::Onion, key, "a", terms).unwrap();
        let mut client = TestClient::new(&provider, 1);
        for step in steps {
            let charged = |provider: &Provider| {
                let client = provider.clients().unwrap().remove(0);
                client.totals.charged(&client.terms)
            };
            let before = charged(&provider);
            match step {
                Step::Upload(seed) => {
                    let bytes = pack(seed, PackClass::Data, 8 * GROUP_BYTES);
                    match client.upload(&bytes, PackClass::Data) {
                        Ok(_) => {}
                        Err(ServiceError::UploadRefused(UploadRefusal::CapExceeded(_))) => {
                            // Refused before a byte moved.
                            let volume = provider.inner.volumes.all_mounted().remove(0);
                            prop_assert!(volume.all_incoming().unwrap().is_empty());
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Name(seed, map) => {
                    let bytes = pack(seed, PackClass::Data, 8 * GROUP_BYTES);
                    let runs = (0..8).filter(|group| map >> group & 1 == 1);
                    let live = LiveMap::from_runs(8, runs.map(|group| group..group + 1)).unwrap();
                    client.name(ObjectRef::of(&bytes), PackClass::Data, live);
                }
                Step::Move => match client.move_head(&provider) {
                    Ok(_)
                    | Err(ServiceError::Refused(Refusal::NotHeld(_) | Refusal::CapExceeded(_))) => {}
                    Err(error) => panic!("{error}"),
                },
                Step::SweepAfterDays(days) => {
                    let at = now().after(Duration::from_hours(24 * days));
                    provider.sweep(at).unwrap();
                }
            }
            prop_assert!(charged(&provider) <= terms.cap.max(before));
            rows_of(&provider);
        }
        prop_assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
        let rows = rows_of(&provider);
        drop((client.session, provider));
        fs::remove_file(home.join("ledger.sqlite")).unwrap();
        let provider = Provider::open(&home).unwrap();
        prop_assert_eq!(rows_of(&provider), rows);
    }
}
