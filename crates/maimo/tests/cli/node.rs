//! A node: making one, opening it, its passphrase, its words.

use crate::support::{Machine, ended};

#[test]
fn without_a_node_every_command_that_needs_one_ends_with_10() {
    let machine = Machine::new();
    for args in [
        &["status"][..],
        &["channel", "list"],
        &["channel", "open", "provider"],
        &["root"],
        &["store", "."],
        &["list"],
        &["find", "x*"],
        &["runs"],
        &["diff", "a", "b"],
        &["pin", "a"],
        &["history", "x"],
        &["retrieve", "x", "--to", "y"],
        &["dump", "x"],
        &["remove", "x"],
        &["keep"],
        &["prune"],
        &["undelete"],
        &["verify"],
        &["recover", "provider"],
        &["verify-phrase", "--phrase-file", "-"],
    ] {
        let error = machine.error(10, args);
        assert!(
            error["hint"].as_str().unwrap().contains("maimo init"),
            "{error}"
        );
    }
    assert!(!machine.path("home/key").exists());
}

#[test]
fn a_new_node_shows_its_words_once() {
    let machine = Machine::new();
    let made = machine.object("init", &["init", "--source", "laptop"]);
    assert_eq!(made["source"], "laptop");
    let words = made["phrase"].as_str().unwrap();
    assert_eq!(words.split_whitespace().count(), 24);
    let again = machine.run(&["init"]);
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(!again.err.contains(words) && again.out.is_empty());
    let mode = std::fs::metadata(machine.path("home"))
        .unwrap()
        .permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
}

#[test]
fn words_are_verified() {
    let machine = Machine::new();
    let made = machine.object("init", &["init"]);
    let words = made["phrase"].as_str().unwrap();
    let args = ["--json", "verify-phrase", "--phrase-file", "-"];
    let right = machine.fed(words, &args);
    assert_eq!(right.code, Some(0), "{right:#?}");
    assert_eq!(right.objects()[0]["matches"], true);
    let other = Machine::new();
    let made = other.object("init", &["init"]);
    let wrong = machine.fed(made["phrase"].as_str().unwrap(), &args);
    assert_eq!(wrong.objects()[0]["matches"], false);
    wrong.error(1);
    let nonsense = machine.fed("these are no words", &args);
    assert_eq!(nonsense.code, Some(1), "{nonsense:#?}");
}

#[test]
fn a_node_can_be_made_of_words() {
    let machine = Machine::new();
    let made = machine.object("init", &["init"]);
    machine.write("words", made["phrase"].as_str().unwrap());
    let other = Machine::new();
    let words = machine.text("words");
    let taken = other.object("init", &["init", "--phrase-file", &words]);
    assert!(taken.get("phrase").is_none(), "{taken}");
    let matches = other.object("verify_phrase", &["verify-phrase", "--phrase-file", &words]);
    assert_eq!(matches["matches"], true);
}

#[test]
fn a_passphrase_comes_from_file_command_or_variable_and_a_wrong_one_ends_with_12() {
    let machine = Machine::new();
    machine.write("secret", "correct horse\n");
    let secret = machine.text("secret");
    machine.done(&["init", "--passphrase-file", &secret]);
    machine.done(&["--passphrase-file", &secret, "root"]);
    machine.done(&["--passphrase-command", "echo correct horse", "root"]);
    let mut command = machine.command(&["root"]);
    let right = ended(command.env("MAIMO_PASSPHRASE", "correct horse"));
    assert_eq!(right.code, Some(0), "{right:#?}");
    machine.error(12, &["root"]);
    machine.error(12, &["--passphrase-command", "echo wrong", "root"]);
    machine.error(12, &["--passphrase-command", "exit 1", "root"]);
    // A flag beats a variable.
    let mut command = machine.command(&["--passphrase-file", &secret, "root"]);
    let right = ended(command.env("MAIMO_PASSPHRASE", "wrong"));
    assert_eq!(right.code, Some(0), "{right:#?}");
}
