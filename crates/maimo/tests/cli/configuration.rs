//! Flag beats variable beats file beats default, and nothing that does not parse is passed over.

use serde_json::{Value, json};

use crate::support::{Machine, ended};

fn key(objects: &[Value], name: &str) -> Value {
    let found = objects.iter().find(|object| object["key"] == name);
    found.unwrap_or_else(|| panic!("no {name}")).clone()
}

#[test]
fn each_value_tells_where_it_comes_from() {
    let machine = Machine::new();
    machine.write("home/config.toml", "slices = 10\nsingle-copy = true\n");
    let mut command = machine.command(&["--json", "-v", "config", "show", "--origin"]);
    let ended = ended(command.env("MAIMO_SINGLE_COPY", "off"));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let objects = ended.objects();
    let slices = key(&objects, "slices");
    assert_eq!(slices["value"], 10);
    assert_eq!(slices["default"], 460);
    assert_eq!(slices["origin"], "file");
    assert_eq!(slices["from"], machine.text("home/config.toml"));
    let single = key(&objects, "single-copy");
    assert_eq!(
        (&single["value"], &single["origin"]),
        (&json!(false), &json!("variable"))
    );
    assert_eq!(single["from"], "MAIMO_SINGLE_COPY");
    assert_eq!(key(&objects, "verbose")["origin"], "flag");
    assert_eq!(key(&objects, "exclude")["origin"], "default");
}

#[test]
fn what_is_shown_is_a_configuration_that_says_the_same() {
    let machine = Machine::new();
    machine.write(
        "home/config.toml",
        "slices = 7\nexclude = [\"*.o\", \"a\\\"b\"]\n",
    );
    let shown = machine.done(&["config", "show", "--origin"]).out;
    machine.write("home/config.toml", &shown);
    let again = machine.done(&["config", "show", "--origin"]).out;
    assert!(shown.contains("slices = 7"), "{shown}");
    let plain = |text: &str| -> Vec<String> {
        let values = text
            .lines()
            .map(|line| line.split("  #").next().unwrap().to_owned());
        values.collect()
    };
    assert_eq!(plain(&shown), plain(&again));
}

#[test]
fn what_does_not_parse_ends_every_command() {
    let machine = Machine::new();
    machine.write("home/config.toml", "slices = \"many\"\n");
    let error = machine.error(2, &["config", "path"]);
    assert_eq!(error["kind"], "config");
    machine.write("home/config.toml", "no-such-key = 1\n");
    let error = machine.error(2, &["config", "show"]);
    assert!(
        error["hint"].as_str().unwrap().contains("slices"),
        "{error}"
    );
    machine.write("home/config.toml", "");
    let mut command = machine.command(&["--json", "config", "show"]);
    ended(command.env("MAIMO_SLICES", "1.5")).error(2);
    let mut command = machine.command(&["--json", "config", "show"]);
    ended(command.env("MAIMO_QUIET", "perhaps")).error(2);
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let machine = Machine::new();
    machine.error(2, &["--config", "nowhere.toml", "config", "show"]);
    machine.write("other.toml", "slices = 3\n");
    let objects = machine.json(&["--config", "other.toml", "config", "show"]);
    assert_eq!(key(&objects, "slices")["value"], 3);
}

#[test]
fn without_a_home_the_users_folders_are_used() {
    let machine = Machine::new();
    let mut command = machine.command(&["config", "path"]);
    let ended = ended(command.env_remove("MAIMO_HOME"));
    let expected = if cfg!(target_os = "macos") {
        "user/Library/Application Support/maimo/config.toml"
    } else {
        "user/.config/maimo/config.toml"
    };
    assert_eq!(ended.out.trim_end(), machine.text(expected));
}
