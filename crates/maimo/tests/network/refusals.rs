//! What a node will not do: speak outside the ways it was told to use, serve without a volume or an address.

use std::net::{Ipv4Addr, TcpListener};

use crate::{
    node::{Node, client},
    support::Machine,
};

/// Returns a socket that notices who comes.
fn watched() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// The one promise that a slip would break for good: who was told to use Tor shows its address to nobody.
#[test]
fn a_node_told_to_use_tor_refuses_tcp_and_connects_to_nothing() {
    let node = Node::running();
    let line = node.invite("bob");
    for transport in ["tor", "system-tor"] {
        let machine = Machine::new();
        let socks = watched();
        machine.write(
            "home/config.toml",
            format!(
                "transport = \"{transport}\"\nsocks = \"{}\"\n",
                socks.local_addr().unwrap()
            ),
        );
        machine.done(&["init", "--source", "laptop"]);
        let there = watched();
        let address = there.local_addr().unwrap().to_string();
        let error = machine.error(2, &["channel", "open", &address]);
        assert_eq!(error["kind"], "config", "{error}");
        let error = machine.error(2, &["recover", "localhost:1"]);
        assert!(
            error["message"].as_str().unwrap().contains("tcp"),
            "{error}"
        );
        let error = machine.error(2, &["channel", "open", &line]);
        assert_eq!(error["kind"], "config", "{error}");
        assert!(there.accept().is_err(), "somebody connected");
        assert!(socks.accept().is_err(), "somebody asked Tor for it");
        assert!(
            !machine.path("home/tor").exists(),
            "a Tor was started for it"
        );
    }
}

#[test]
fn a_node_told_to_use_tcp_refuses_onion_addresses() {
    let machine = client();
    let onion = format!("{}.onion:80", "a".repeat(56));
    // Mistyped: neither a folder of that name is made, nor a name server asked for it.
    machine.error(2, &["channel", "open", &onion]);
    assert!(!machine.path(&onion).exists());
    let onion = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:80";
    let error = machine.error(2, &["channel", "open", onion]);
    assert_eq!(error["kind"], "config", "{error}");
}

/// The provider may be well: what is to be looked at is here.
#[cfg(feature = "tor")]
#[test]
fn a_node_whose_tor_cannot_connect_blames_no_provider() {
    let machine = Machine::new();
    // Nobody answers on port 1.
    let authority = format!(
        "{} {} 127.0.0.1:1 {}\n",
        "11".repeat(20),
        "A".repeat(43),
        "22".repeat(20)
    );
    let file = machine.write("authorities", authority);
    machine.write(
        "home/config.toml",
        format!(
            "transport = \"tor\"\ntor-network-file = \"{}\"\n",
            file.display()
        ),
    );
    machine.done(&["init", "--source", "laptop"]);
    let onion = "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion:80";
    let error = machine.error(21, &["recover", onion]);
    assert_eq!(error["kind"], "tor_unavailable", "{error}");
    let says = |part: &str, words: &str| {
        let text = error[part].as_str().unwrap();
        assert!(text.contains(words), "{error}");
    };
    says("message", "not connected to tor");
    says("message", "relays cannot be reached");
    says("hint", "internet connection");
}

#[test]
fn a_node_without_a_volume_says_what_to_do() {
    let error = Machine::new().error(10, &["start"]);
    assert!(
        error["hint"].as_str().unwrap().contains("maimo volume add"),
        "{error}"
    );
}

#[test]
fn a_node_must_know_where_to_listen_and_where_it_is_found() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    let told = |config: &str| {
        machine.write("home/config.toml", config);
        machine.error(2, &["start"])["hint"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(told("transport = \"tcp\"").contains("listen"));
    assert!(told("transport = \"tcp\"\nlisten = [\"0.0.0.0:1\"]").contains("announce"));
    // A socket of the machine's own, open on a node that was told to hide.
    assert!(told("listen = [\"127.0.0.1:1\"]").contains("tor,tcp"));
}

#[test]
fn an_address_that_is_taken_ends_the_node() {
    let node = Node::running();
    let other = Machine::new();
    other.write(
        "home/config.toml",
        format!("transport = \"tcp\"\nlisten = [\"{}\"]\n", node.at),
    );
    other.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    let error = other.error(1, &["start"]);
    assert!(
        error["message"].as_str().unwrap().contains("cannot listen"),
        "{error}"
    );
    assert_eq!(
        error["message"].as_str().unwrap().matches("listen").count(),
        1,
        "{error}"
    );
}

#[test]
fn a_second_node_in_one_home_is_told_which_home() {
    let node = Node::running();
    let error = node.machine.error(1, &["start"]);
    let home = node.machine.text("home/provider");
    assert!(
        error["message"].as_str().unwrap().contains(&home),
        "{error}"
    );
    assert!(
        error["hint"].as_str().unwrap().contains("--home"),
        "{error}"
    );
}

/// Neither is a provider made there, in a folder of that name, without a word.
#[test]
fn an_address_that_is_mistyped_is_neither_asked_for_nor_made_a_folder() {
    let machine = client();
    for wrong in [
        "node.example:port",
        "node.example:",
        "node.example:99999",
        "no de:80",
    ] {
        let error = machine.error(2, &["channel", "open", wrong]);
        assert!(
            error["hint"].as_str().unwrap().contains("./NAME"),
            "{error}"
        );
        assert!(!machine.path(wrong).exists(), "{wrong}");
    }
    machine.done(&["channel", "open", "./with:colon"]);
}

#[test]
fn an_address_at_which_another_provider_is_tells_whom_to_ask() {
    let (node, other) = (Node::running(), Node::running());
    let at = other.at.to_string();
    let args = ["client", "invite", "bob", "--cap", "1GiB", "--address", &at];
    let line = node.machine.object("invitation", &args);
    let line = line["invitation"].as_str().unwrap();
    let error = client().error(21, &["channel", "open", line]);
    assert!(
        error["hint"].as_str().unwrap().contains("ask the provider"),
        "{error}"
    );
}
