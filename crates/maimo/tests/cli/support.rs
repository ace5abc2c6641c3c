//! Running the binary in a folder of its own, with none of the caller's variables.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A machine of its own: a home folder, and whatever a test puts beside it.
pub(crate) struct Machine {
    folder: TempDir,
}

/// How one run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("user")).unwrap();
        Self { folder }
    }

    /// Returns a path on this machine.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Returns a path on this machine as an argument.
    pub(crate) fn text(&self, relative: &str) -> String {
        self.path(relative).to_str().unwrap().to_owned()
    }

    /// Writes a file, with the folders to it.
    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Prepares a run with `--home` set by its variable.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maimo"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.path("user"))
            .env("MAIMO_HOME", self.path("home"))
            .env("PATH", "/usr/bin:/bin")
            .env("TMPDIR", self.folder.path())
            .env("TZ", "UTC")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    /// Runs it and expects success.
    pub(crate) fn done(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:#?}");
        ended
    }

    /// Runs it with `--json`, expects success, and returns the objects it wrote.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        self.done(&[&["--json"], args].concat()).objects()
    }

    /// Runs it with `--json`, expects one object of this type, and returns it.
    pub(crate) fn object(&self, message_type: &str, args: &[&str]) -> Value {
        let objects = self.json(args);
        let mut found = objects.iter().filter(|o| o["message_type"] == message_type);
        let first = found.next();
        assert!(found.next().is_none(), "more than one in {objects:#?}");
        first
            .unwrap_or_else(|| panic!("no {message_type} in {objects:#?}"))
            .clone()
    }

    /// Runs it with `--json`, expects this exit code, and returns the error object, which must tell the same.
    pub(crate) fn error(&self, code: i32, args: &[&str]) -> Value {
        let ended = self.run(&[&["--json"], args].concat());
        ended.error(code)
    }

    /// Begins to run it, what it writes being kept for [`finished`].
    pub(crate) fn begin(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Returns where something of this machine is after `retrieve --to back`.
    pub(crate) fn back(&self, relative: &str) -> PathBuf {
        let path = self.path(relative);
        self.path("back").join(path.strip_prefix("/").unwrap())
    }

    /// Runs it with this on standard input.
    pub(crate) fn fed(&self, input: &str, args: &[&str]) -> Ended {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        finished(child)
    }
}

/// Returns how a run that was begun ended.
pub(crate) fn finished(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

/// Runs a prepared command.
pub(crate) fn ended(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

impl From<std::process::Output> for Ended {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Returns the objects on standard output; each line must be one, with a type.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| {
            let object: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{error} in {line:?} of {self:#?}"));
            assert!(object["message_type"].is_string(), "no type: {line}");
            object
        };
        self.out.lines().map(parse).collect()
    }

    /// Expects this exit code and returns the error object that ends standard error.
    pub(crate) fn error(&self, code: i32) -> Value {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let last = self.err.lines().last().unwrap_or_default();
        let object: Value = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{error}: no error object ends {self:#?}"));
        assert_eq!(object["message_type"], "error");
        assert_eq!(object["code"], code);
        assert!(object["message"].is_string() && object["kind"].is_string());
        assert!(object.as_object().unwrap().contains_key("hint"));
        object
    }
}

/// Compares with a committed file; `UPDATE_SNAPSHOTS=1` writes it instead.
pub(crate) fn snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    // No spaces at the ends of lines: editors and reviews would fight over them.
    let found: String = found
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected != found {
        let differ = |(a, b): &(&str, &str)| a != b;
        let both = expected.lines().chain([""]).zip(found.lines().chain([""]));
        let line = both.clone().position(|pair| differ(&pair)).unwrap_or(0);
        let pair = both.clone().nth(line);
        panic!(
            "{name} differs from line {}: {pair:#?}\n(UPDATE_SNAPSHOTS=1 writes what is found, which is)\n{found}",
            line + 1
        );
    }
}
