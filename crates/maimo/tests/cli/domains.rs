//! Dedup domains: what outsiders can write to shares nothing with the rest.

use std::fs;

use crate::support::Machine;

/// Bytes that do not compress, more than one chunk of them.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn store(machine: &Machine, folder: &str) -> u64 {
    let stored = machine.object("summary", &["store", &machine.text(folder)]);
    assert_eq!(stored["errors"], 0, "{stored}");
    stored["bytes_stored"].as_u64().unwrap()
}

#[test]
fn a_folder_of_another_domain_is_stored_as_if_nothing_were_known_and_comes_back() {
    let machine = Machine::new();
    let made = machine.object("init", &["init", "--source", "laptop"]);
    machine.done(&["channel", "open", &machine.text("usb")]);
    for folder in ["own", "copy", "mail", "mail/lists", "news"] {
        machine.write(&format!("{folder}/large"), noise());
        machine.write(&format!("{folder}/small"), "a letter");
    }
    let config = format!(
        "domains = [\"outside={}\", \"lists={}\", \"outside={}\"]\n",
        machine.text("mail"),
        machine.text("mail/lists"),
        machine.text("news"),
    );
    machine.write("home/config.toml", config);
    let whole = noise().len() as u64;
    assert!(store(&machine, "own") > whole);
    assert!(store(&machine, "copy") < whole / 10, "it is known");
    // Two domains below one folder: neither knows the other's.
    assert!(store(&machine, "mail") > 2 * whole);
    assert!(store(&machine, "news") < whole / 10, "it is of the domain");

    // A machine that has only the words, and knows no domain's name.
    let other = Machine::new();
    other.write("phrase", made["phrase"].as_str().unwrap());
    other.done(&["init", "--phrase-file", "phrase", "--source", "new"]);
    other.done(&["recover", &machine.text("usb")]);
    let to = other.text("back");
    for folder in ["mail", "news"] {
        let path = machine.text(folder);
        other.done(&["retrieve", &path, "--source", "laptop", "--to", &to]);
        for file in ["large", "small"] {
            let there = machine.path(folder).join(file);
            let back = other.path("back").join(there.strip_prefix("/").unwrap());
            assert!(
                fs::read(back).unwrap() == fs::read(there).unwrap(),
                "{folder}/{file}"
            );
        }
    }
}
