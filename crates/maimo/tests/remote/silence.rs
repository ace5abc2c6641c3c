//! A provider that answers everything but the one question.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use maimo_client::{
    audit::{AuditResult, ChannelAudit, Sample},
    client::Client,
    progress::Control,
    verify::{Proven, VerifyRequest},
};

use crate::scene::{Scene, noise};

fn audited(client: &mut Client) -> ChannelAudit {
    let request = VerifyRequest {
        sample: Sample::Slices(20),
        ..VerifyRequest::default()
    };
    let mut audits = client.verify(&request, &Control::default()).unwrap();
    audits.remove(0)
}

#[test]
fn what_was_asked_for_five_times_on_three_days_and_never_shown_counts_as_missing() {
    let scene = Scene::new();
    scene.begin("home");
    scene.write("files/large", &noise(1, 2_000_000));
    let hours = Arc::new(AtomicU64::new(500_000));
    let mut client = scene.open_at("home", &hours);
    scene.store(&mut client, "files");
    assert_eq!(audited(&mut client).result, AuditResult::Intact);
    let wire = &scene.far.wire;
    // Away is no answer, but no question either.
    wire.is_away.store(true, Ordering::Relaxed);
    for _ in 0..8 {
        assert_eq!(audited(&mut client).result, AuditResult::Offline);
        hours.fetch_add(24, Ordering::Relaxed);
    }
    wire.is_away.store(false, Ordering::Relaxed);
    wire.is_deaf.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        assert_eq!(audited(&mut client).result, AuditResult::Offline);
        hours.fetch_add(12, Ordering::Relaxed);
        // It is written down, and known to the next process.
        drop(client);
        client = scene.open_at("home", &hours);
    }
    let silent = audited(&mut client);
    assert_eq!(silent.result, AuditResult::Missing);
    let detail = silent.detail.unwrap();
    assert!(detail.contains("5 times on 3 days"), "{detail}");
    // What adds up is over with it, and `status` has it.
    assert_eq!(
        client.last_audits().unwrap()[0].result,
        AuditResult::Missing
    );
    assert_eq!(Proven::of(&client.audits().unwrap()), None);
    // The same slices, once they are shown, speak for themselves.
    wire.is_deaf.store(false, Ordering::Relaxed);
    assert_eq!(audited(&mut client).result, AuditResult::Intact);
    wire.is_deaf.store(true, Ordering::Relaxed);
    assert_eq!(audited(&mut client).result, AuditResult::Offline);
}
