//! What each side tells of the other: who, how much, by which network, and the day on which it was last there.

use rustix::process::Signal;

use crate::node::{Node, client_of, grow};

#[test]
fn each_side_tells_the_day_on_which_the_other_was_last_there() {
    let mut node = Node::new();
    let ready = node.start();
    let bob = client_of(&node);
    let channel = bob.object("channel", &["channel", "list"]);
    let day = channel["last_seen"].as_str().unwrap().to_owned();
    assert_eq!((day.len(), &day[4..5]), (10, "-"), "{day}");
    assert_eq!(channel["network"], "tcp");
    let provider = node.machine.object("status", &["status"]);
    let known = &provider["clients"][0];
    assert_eq!(known["label"], "bob", "{provider}");
    assert_eq!(known["last_seen"].as_str().unwrap().len(), 10);
    assert_eq!(known["used"], channel["used"]);
    assert!(known["revoked"].is_null(), "{known}");
    let faces = provider["networks"].as_array().unwrap();
    let tcp = faces.iter().find(|face| face["network"] == "tcp").unwrap();
    assert_eq!(tcp["identity"], ready["identity"]);
    assert_eq!(tcp["addresses"], ready["addresses"]);
    assert!(provider["connections"].is_u64(), "{provider}");

    node.machine.done(&["client", "revoke", "bob"]);
    node.signal(Signal::TERM);
    assert_eq!(node.ended(), Some(0));
    let provider = node.machine.object("status", &["status"]);
    assert!(provider["clients"][0]["revoked"].is_string(), "{provider}");
    assert!(provider["connections"].is_null(), "{provider}");
    // Without asking anyone.
    let status = bob.object("status", &["status"]);
    assert_eq!(status["channels"][0]["last_seen"], *day);
    assert_eq!(status["channels"][0]["network"], "tcp");
    let away = bob.object("channel", &["channel", "list"]);
    assert!(away["trouble"].is_string(), "{away}");
    assert_eq!(away["last_seen"], *day);
    for (machine, words) in [(&bob, "by tcp, last seen 2"), (&node.machine, "revoked")] {
        let shown = machine.done(&["status"]).out;
        assert!(shown.contains(words), "no `{words}`: {shown}");
    }
}

#[test]
fn a_cap_that_is_reached_is_told_in_sizes_and_a_larger_one_is_enough() {
    let node = Node::running();
    let bob = client_of(&node);
    grow(&bob, "mine", 4);
    node.machine.done(&["client", "cap", "bob", "2MiB"]);
    let error = bob.error(23, &["store", &bob.text("mine")]);
    let message = error["message"].as_str().unwrap();
    assert!(
        message.starts_with("channel far: ") && message.ends_with("iB"),
        "{message}"
    );
    assert!(error["hint"].as_str().unwrap().contains("larger cap"));
    node.machine.done(&["client", "cap", "bob", "1GiB"]);
    bob.done(&["store", &bob.text("mine")]);
}
