//! Invitations: good once, for one client, for a time; and what revoking ends.

use crate::node::{Node, client, client_of, grow};

#[test]
fn an_invitation_is_good_once_and_both_sides_show_the_same_words() {
    let node = Node::running();
    let line = node.invite("bob");
    let bob = client();
    // As a secret it need not be an argument.
    let opened = bob.fed(&line, &["--json", "channel", "open", "-", "--name", "far"]);
    assert_eq!(opened.code, Some(0), "{opened:#?}");
    let channel = bob.object("channel", &["channel", "list"]);
    let listed = node.machine.json(&["client", "list"]);
    let seen = listed
        .iter()
        .find(|client| client["label"] == "bob")
        .unwrap();
    assert_eq!(seen["check"], channel["check"]);

    let eve = client();
    let error = eve.error(21, &["channel", "open", &line]);
    assert!(
        error["message"].as_str().unwrap().contains("invitation"),
        "{error}"
    );
    assert!(eve.json(&["channel", "list"]).is_empty());
}

#[test]
fn a_line_that_is_damaged_is_a_wrong_argument_and_is_not_repeated() {
    let node = Node::running();
    let mut line = node.invite("bob");
    let last = line.pop().unwrap();
    line.push(if last == 'q' { 'p' } else { 'q' });
    let ended = client().run(&["--json", "channel", "open", &line]);
    let error = ended.error(2);
    assert!(
        !error["message"].as_str().unwrap().contains(&line[..40]),
        "{error}"
    );
}

#[test]
fn who_was_not_invited_is_refused() {
    let node = Node::running();
    let error = client().error(21, &["channel", "open", &node.at.to_string()]);
    assert_eq!(error["kind"], "provider_refused", "{error}");
}

#[test]
fn who_is_revoked_writes_no_more_and_reads_until_the_grace_is_over() {
    let node = Node::running();
    let bob = client_of(&node);
    grow(&bob, "mine", 2);
    bob.done(&["store", &bob.text("mine")]);
    node.machine.done(&["client", "revoke", "bob"]);
    bob.write("mine/new", "more");
    let error = bob.error(21, &["store", &bob.text("mine")]);
    assert_eq!(error["kind"], "provider_refused", "{error}");
    let to = bob.text("back");
    bob.done(&["retrieve", &bob.text("mine/1"), "--to", &to]);

    // No word of damage: the bytes may be there, only not for this client any more.
    node.machine
        .done(&["client", "revoke", "bob", "--now", "--yes"]);
    let again = ["retrieve", &bob.text("mine/1"), "--to", &bob.text("again")];
    let error = bob.error(21, &again);
    assert_eq!(error["kind"], "provider_refused", "{error}");
}
