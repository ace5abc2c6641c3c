//! Stopping: what runs may end, and a second request ends it at once.

use rustix::process::Signal;

use crate::{
    node::{Node, assert_back, client_of, grow},
    support::finished,
};

#[test]
fn a_request_to_stop_ends_in_order_and_the_next_start_serves_on() {
    let mut node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 2);
    machine.done(&["store", &machine.text("mine")]);
    node.signal(Signal::HUP);
    node.signal(Signal::TERM);
    assert_eq!(node.ended(), Some(0), "{}", node.log());
    node.start();
    machine.done(&["verify"]);
    node.signal(Signal::INT);
    assert_eq!(node.ended(), Some(0), "{}", node.log());
    // Away is neither damaged nor missing, and it does not take a minute to say so.
    let error = machine.error(21, &["verify"]);
    assert!(error["hint"].is_string(), "{error}");
}

#[test]
fn a_stop_in_the_middle_of_a_store_loses_nothing() {
    let mut node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 16);
    let child = node.storing(&machine, "mine");
    node.signal(Signal::TERM);
    assert_eq!(node.ended(), Some(0), "{}", node.log());
    node.start();
    let first = finished(child);
    assert!(matches!(first.code, Some(0 | 21)), "{first:#?}");
    machine.done(&["store", &machine.text("mine")]);
    assert_back(&machine, "mine", 16);
}
