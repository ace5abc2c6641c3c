//! A node serves more clients than a process may commonly have files open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::node::Node;

/// Returns how many files a process may have open now.
fn may_open(id: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace();
    words.nth(3).unwrap().parse().unwrap()
}

#[test]
fn a_node_that_is_started_with_few_open_files_may_have_as_many_as_its_clients_need() {
    let before = getrlimit(Resource::Nofile);
    // What it is started with is this process's own; each test has one to itself.
    let few = Rlimit {
        current: Some(200),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let mut node = Node::new();
    node.start();
    let most = before.maximum.unwrap_or(u64::MAX);
    assert!(most > 2_048, "this system lets nobody open more");
    assert!(may_open(node.id()) > 2_048);
    node.kill();
}
