//! Figures of a running node, as a program that watches it reads them.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use crate::node::{Node, client_of, grow, until};

/// Asks for the page as the host `host`; returns the first line of the answer and its body.
fn ask(at: SocketAddr, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap();
    assert_eq!(length.parse(), Ok(body.len()));
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Reads a page by the rules of its format: each figure by its name and labels.
fn figures(page: &str) -> BTreeMap<String, u64> {
    let mut kinds = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let family = name.split('{').next().unwrap();
            assert!(kinds.contains_key(family), "no type before {line}");
            let value = value.parse().unwrap();
            assert!(
                found.insert(name.to_owned(), value).is_none(),
                "twice: {line}"
            );
        }
    }
    assert!(page.ends_with('\n'));
    found
}

fn free() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap()
}

fn configure(node: &Node, lines: &str) {
    let file = node.machine.path("home/config.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}{lines}")).unwrap();
}

#[test]
fn a_provider_tells_what_it_serves_and_not_whom_unless_it_is_to() {
    let mut node = Node::new();
    let at = free();
    configure(&node, &format!("metrics = \"{at}\"\n"));
    node.start();
    let bob = client_of(&node);
    grow(&bob, "mine", 2);
    bob.done(&["store", &bob.text("mine")]);
    bob.done(&["verify"]);
    let (status, page) = ask(at, &at.to_string());
    assert_eq!(status, "HTTP/1.1 200 OK");
    let found = figures(&page);
    let figure = |name: &str| {
        *found
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    assert!(figure("maimo_provider_answered_total{call=\"put\"}") > 0);
    assert_eq!(figure("maimo_provider_answered_total{call=\"audit\"}"), 1);
    assert_eq!(figure("maimo_provider_answered_total{call=\"redeem\"}"), 1);
    assert_eq!(figure("maimo_provider_clients{state=\"active\"}"), 1);
    assert!(figure("maimo_provider_bytes_total{direction=\"in\"}") > 2 << 20);
    assert!(figure("maimo_provider_sweeps_total") > 0);
    assert!(figure("maimo_provider_syncs_total") > 0);
    let volume = node.machine.text("disk");
    let used = format!("maimo_provider_volume_used_bytes{{volume=\"{volume}\"}}");
    assert!(figure(&used) > 2 << 20);
    let up = format!("maimo_provider_volume_up{{volume=\"{volume}\",state=\"ready\"}}");
    assert_eq!(figure(&up), 1);
    assert!(!page.contains("bob"), "{page}");
    assert!(!page.contains("maimo_client_"), "{page}");
    // A page of the web that found its way here reads nothing.
    let (status, body) = ask(at, "evil.example");
    assert_eq!(status, "HTTP/1.1 421 Misdirected Request");
    assert!(!body.contains("maimo_"));

    node.kill();
    configure(&node, "metrics-clients = true\n");
    node.start();
    let (_, page) = ask(at, "localhost");
    let found = figures(&page);
    assert!(found["maimo_provider_client_charged_bytes{client=\"bob\"}"] > 2 << 20);
    assert_eq!(
        found["maimo_provider_client_cap_bytes{client=\"bob\"}"],
        1 << 30
    );
}

#[test]
fn a_store_that_is_kept_tells_its_channels_and_its_last_audit() {
    let mut node = Node::running();
    let bob = client_of(&node);
    grow(&bob, "mine", 1);
    bob.done(&["store", &bob.text("mine")]);
    let audit = bob.object("summary", &["verify"]);
    let mut keeper = Node::of(bob);
    let at = free();
    configure(&keeper, &format!("metrics = \"{at}\"\n"));
    keeper.start();
    until("the store was looked at", || {
        ask(at, "127.0.0.1").1.contains("maimo_client_audit_intact")
    });
    let found = figures(&ask(at, "127.0.0.1").1);
    assert_eq!(found["maimo_client_audit_intact{channel=\"far\"}"], 1);
    let asked = |class: &str| {
        found[&format!("maimo_client_audit_slices{{channel=\"far\",class=\"{class}\"}}")]
    };
    assert_eq!(
        asked("data"),
        audit["strata"][0]["slices"].as_u64().unwrap()
    );
    assert!(found["maimo_client_channel_sequence{channel=\"far\"}"] > 0);
    assert_eq!(found["maimo_client_files"], 1);
    keeper.kill();
    node.kill();
}

#[test]
fn figures_are_for_this_machine_alone() {
    let node = Node::new();
    configure(&node, "metrics = \"0.0.0.0:9464\"\n");
    let error = node.machine.error(2, &["status"]);
    assert!(
        error["message"].as_str().unwrap().contains("loopback"),
        "{error}"
    );
}
