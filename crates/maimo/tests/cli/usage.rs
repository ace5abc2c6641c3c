//! Wrong usage, and outputs that go away.

use std::process::Stdio;

use crate::support::Machine;

#[test]
fn wrong_usage_is_told_on_standard_error_with_code_2() {
    let machine = Machine::new();
    for args in [
        &["no-such-command"][..],
        &["config"],
        &["config", "show", "--no-such-flag"],
        &[],
    ] {
        let ended = machine.run(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:#?}");
        assert_eq!(ended.out, "", "{args:?}");
        assert!(!ended.err.is_empty(), "{args:?}");
        let error = machine.error(2, args);
        assert_eq!(error["kind"], "bad_input");
    }
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let machine = Machine::new();
    let mut command = machine.command(&["completions", "bash"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty());
}

#[test]
fn nothing_is_coloured_off_a_terminal() {
    let machine = Machine::new();
    let ended = machine.run(&["--home", "x", "--config", "nowhere", "config", "path"]);
    assert!(
        ended.err.starts_with("error: cannot read nowhere"),
        "{ended:#?}"
    );
    assert!(!ended.err.contains('\u{1b}'));
}
