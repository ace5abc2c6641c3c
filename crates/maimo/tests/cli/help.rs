//! Help is part of the program: every page of it is a snapshot.

use std::{collections::BTreeSet, fs};

use crate::support::{Machine, snapshot};

/// Returns every command as its words, by the manual pages, which come from the same definition.
fn commands(machine: &Machine) -> Vec<Vec<String>> {
    machine.done(&["man", &machine.text("man")]);
    let pages = fs::read_dir(machine.path("man")).unwrap();
    let names = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.collect();
    // `verify-phrase` is one word of the command line, `volume-add` two.
    let is_group = |name: &str| names.contains(&format!("maimo-{name}.1"));
    let words = names.iter().map(|name| {
        let name = name.strip_suffix(".1").unwrap();
        let Some(name) = name.strip_prefix("maimo-") else {
            return Vec::new();
        };
        match name.split_once('-') {
            Some((group, part)) if is_group(group) && name != "verify-phrase" => {
                vec![group.to_owned(), part.to_owned()]
            }
            _ => vec![name.to_owned()],
        }
    });
    words.collect()
}

#[test]
fn every_page_of_help_is_as_committed() {
    let machine = Machine::new();
    let commands = commands(&machine);
    assert!(commands.len() > 5, "{commands:?}");
    let mut all = String::new();
    for words in commands {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let help = machine.done(&args);
        assert_eq!(help.err, "");
        let own = if words.is_empty() {
            help.out.as_str()
        } else {
            // What every command takes stands once.
            help.out.split("\nEverywhere:").next().unwrap()
        };
        all += &format!("$ maimo {}\n{}\n", args.join(" "), own.trim_end());
        all += "\n";
    }
    snapshot("help.txt", &all);
}

#[test]
fn pages_of_the_manual_say_what_help_says() {
    let machine = Machine::new();
    machine.done(&["man", &machine.text("man")]);
    let page = fs::read_to_string(machine.path("man/maimo.1")).unwrap();
    assert!(page.contains(".TH maimo 1"), "{page}");
    assert!(page.contains("Exit codes: 0 done"));
    let page = fs::read_to_string(machine.path("man/maimo-config-show.1")).unwrap();
    assert!(page.contains("maimo config show"), "{page}");
}

#[test]
fn each_shell_gets_its_completions() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = machine.done(&["completions", shell]);
        assert!(script.out.contains("completions"), "{shell}");
        assert_eq!(script.err, "");
    }
    machine.error(2, &["completions", "tcsh-ish"]);
}

#[test]
fn the_version_is_told() {
    let machine = Machine::new();
    let version = machine.done(&["--version"]).out;
    assert_eq!(version, format!("maimo {}\n", env!("CARGO_PKG_VERSION")));
}
