//! A client, its folder provider and some files in a scratch folder, driven through the real program.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// What a rig's machine is called in its store.
pub(crate) const SOURCE: &str = "rig";

/// Arguments of several kinds.
pub(crate) fn args<const N: usize>(args: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    args.map(|arg| arg.as_ref().to_owned()).to_vec()
}

/// A phrase of no store that matters: the BIP-39 test vector of all-zero entropy.
pub(crate) const PHRASE: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
abandon abandon abandon abandon abandon abandon abandon art";

/// A scratch folder with a client's home, a provider's folder and a tree of files.
pub(crate) struct Rig {
    /// The scratch folder: gone with the rig.
    pub(crate) folder: TempDir,
    provider: PathBuf,
}

/// What a path is, as far as a test compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file: mode, modification time in nanoseconds, bytes.
    File(u32, i128, Vec<u8>),
    /// A folder: mode.
    Folder(u32),
    /// A symbolic link: its target.
    Link(PathBuf),
}

impl Rig {
    /// Makes the folders; nothing is run yet.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        fs::create_dir(folder.path().join("files")).expect("a folder");
        let provider = folder.path().join("provider");
        Self { folder, provider }
    }

    /// Makes a store with one channel to a folder.
    pub(crate) fn ready() -> Self {
        let rig = Self::new();
        rig.ok(["init", "--source", SOURCE]);
        rig.ok([
            OsStr::new("channel"),
            OsStr::new("open"),
            rig.provider().as_os_str(),
        ]);
        rig
    }

    /// Returns where the client's state is.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Returns where the provider's folder is.
    pub(crate) fn provider(&self) -> PathBuf {
        self.provider.clone()
    }

    /// Takes another rig's provider for its own.
    pub(crate) fn share(&mut self, other: &Self) {
        self.provider = other.provider();
    }

    /// Returns where the files are.
    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// Returns the command that runs the program on this rig's home.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maimo"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .arg("--home")
            .arg(self.home())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// Runs it and returns its stdout; fails the test unless it succeeds.
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs it, expects this exit code, and returns all that it said.
    pub(crate) fn ends<A: AsRef<OsStr>>(
        &self,
        code: i32,
        args: impl IntoIterator<Item = A>,
    ) -> String {
        let output = self.run(args);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(!told.contains("panicked"), "{told}");
        told
    }

    /// Starts it; what it says goes nowhere.
    pub(crate) fn start<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Child {
        self.command(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts")
    }

    /// Writes a tree that has a bit of everything: `seed` chooses its bytes.
    pub(crate) fn grow(&self, seed: u64, files: usize) {
        let at = self.files();
        let mut bytes = Stream::new(seed);
        for n in 0..files {
            let folder = at.join(format!("d{}", n % 7));
            fs::create_dir_all(&folder).expect("a folder");
            let length = match n % 40 {
                0 => 600_000,
                1 => 0,
                _ => 50 + (bytes.next() % 6000) as usize,
            };
            let path = folder.join(format!("s{seed}-f{n}"));
            fs::write(&path, bytes.take(length)).expect("a file");
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o600 + u32::try_from(n % 8).expect("below 8")),
            )
            .expect("a mode");
        }
        fs::write(at.join(format!("large-{seed}")), bytes.take(5_000_000)).expect("a file");
        let _ = symlink("d0/nowhere", at.join("link"));
    }

    /// Returns all that is in a folder, by path relative to it.
    pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, Found> {
        let mut found = BTreeMap::new();
        let mut left = vec![folder.to_owned()];
        while let Some(at) = left.pop() {
            let Ok(entries) = fs::read_dir(&at) else {
                continue;
            };
            for entry in entries {
                let path = entry.expect("an entry").path();
                let stat = fs::symlink_metadata(&path).expect("metadata");
                let mode = stat.mode() & 0o7777;
                let what = if stat.is_symlink() {
                    Found::Link(fs::read_link(&path).expect("a target"))
                } else if stat.is_dir() {
                    left.push(path.clone());
                    Found::Folder(mode)
                } else {
                    let time =
                        i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
                    Found::File(mode, time, fs::read(&path).expect("bytes"))
                };
                let name = path.strip_prefix(folder).expect("within the folder");
                found.insert(name.to_owned(), what);
            }
        }
        found
    }

    /// Retrieves everything into a fresh folder and returns what is there of the rig's files.
    pub(crate) fn retrieved(&self, name: &str) -> BTreeMap<PathBuf, Found> {
        self.retrieved_of(SOURCE, name)
    }

    /// As [`Self::retrieved`], of the machine of this name.
    pub(crate) fn retrieved_of(&self, source: &str, name: &str) -> BTreeMap<PathBuf, Found> {
        let to = self.folder.path().join(name);
        let files = self.files();
        self.ok([
            OsStr::new("retrieve"),
            files.as_os_str(),
            OsStr::new("--source"),
            OsStr::new(source),
            OsStr::new("--to"),
            to.as_os_str(),
        ]);
        let inside = to.join(files.strip_prefix("/").expect("an absolute path"));
        let tree = Self::tree(&inside);
        fs::remove_dir_all(&to).expect("to clean up");
        tree
    }
}

/// Returns what a run said, for a failing test.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "exit {:?}\nstdout: {}\nstderr: {}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Numbers and bytes from a seed: BLAKE3's output, half of it text so that it compresses somewhat.
pub(crate) struct Stream(blake3::OutputReader);

impl Stream {
    /// Begins the stream of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns the next `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        for byte in bytes.iter_mut().take(length / 2) {
            *byte = b'a' + *byte % 6;
        }
        bytes
    }
}
