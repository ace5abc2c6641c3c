use super::*;

fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, CommandError> {
    let variable = |name: &str| {
        let found = variables.iter().find(|variable| variable.0 == name);
        found.map(|variable| variable.1.into())
    };
    Config::parse(text, Path::new("/c.toml"), &variable)
}

#[test]
fn a_variable_beats_the_file_and_that_the_default() {
    let plain = config("", &[]).unwrap();
    assert_eq!(
        (plain.slices.value, plain.slices.origin),
        (460, Origin::Default)
    );
    let file = config("slices = 10", &[]).unwrap();
    assert_eq!(file.slices.value, 10);
    assert_eq!(file.slices.origin, Origin::File("/c.toml".into()));
    let variable = config("slices = 10", &[("MAIMO_SLICES", "20")]).unwrap();
    assert_eq!(variable.slices.value, 20);
    assert_eq!(
        variable.slices.origin,
        Origin::Variable("MAIMO_SLICES".to_owned())
    );
}

#[test]
fn a_flag_beats_all() {
    let mut config = config("slices = 10", &[("MAIMO_SLICES", "20")]).unwrap();
    config.slices.flag(false, 30);
    assert_eq!(config.slices.value, 20);
    config.slices.flag(true, 30);
    assert_eq!(
        (config.slices.value, config.slices.origin),
        (30, Origin::Flag)
    );
}

#[test]
fn what_does_not_parse_is_an_error_wherever_it_stands() {
    let wrong = |text, variables: &[_]| config(text, variables).unwrap_err().to_string();
    assert_eq!(
        wrong("slices = -1", &[]),
        "`slices` in /c.toml: not a whole number from 0 up"
    );
    assert_eq!(
        wrong("slices = \"x\"", &[("MAIMO_SLICES", "1")]),
        "`slices` in /c.toml: not a whole number from 0 up"
    );
    assert_eq!(
        wrong("", &[("MAIMO_SINGLE_COPY", "maybe")]),
        "the variable MAIMO_SINGLE_COPY: `maybe` is neither true nor false"
    );
    assert_eq!(
        wrong("exclude = [1]", &[]),
        "`exclude` in /c.toml: not a list of texts"
    );
    let told = wrong("slices = 1\n\nexclude = [", &[]);
    assert!(told.starts_with("/c.toml, line 3, is no TOML: "), "{told}");
}

#[test]
fn every_wrong_value_comes_with_what_to_do() {
    let hint = |text, variables: &[_]| {
        let error = config(text, variables).unwrap_err();
        error.hint_text().unwrap_or_default().to_owned()
    };
    assert!(hint("slices = -1", &[]).contains("take it out"));
    assert!(hint("", &[("MAIMO_SLICES", "x")]).contains("unset it"));
    assert!(hint("slices", &[]).contains("equals sign"));
}

#[test]
fn a_key_that_there_is_not_is_an_error_that_names_those_there_are() {
    for key in ["slice", "single_copy"] {
        let error = config(&format!("{key} = 1"), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("/c.toml has a key that there is not: `{key}`")
        );
        assert!(
            error
                .hint_text()
                .is_some_and(|hint| hint.contains("single-copy"))
        );
    }
}

#[test]
fn lists_in_variables_stand_one_a_line() {
    let config = config("", &[("MAIMO_EXCLUDE", "*.o\n\ntarget")]).unwrap();
    assert_eq!(config.exclude.value, ["*.o", "target"]);
}

#[test]
fn every_key_has_documentation() {
    for row in config("", &[]).unwrap().rows() {
        assert!(
            row.doc.ends_with('.') || row.doc.contains(". "),
            "{}",
            row.key
        );
    }
}
