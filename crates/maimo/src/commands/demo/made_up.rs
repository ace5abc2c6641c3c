//! Files made up for the demo: many small ones, a few large, and the odd things that real folders have.
//!
//! The same every time, so that two runs can be compared; nothing in them is anybody's.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, symlink},
    },
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

/// How much is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) small_files: u64,
    pub(crate) large_bytes: u64,
}

impl Default for Amount {
    fn default() -> Self {
        Self {
            small_files: 3000,
            large_bytes: 32 * 1024 * 1024,
        }
    }
}

const FILES_PER_FOLDER: u64 = 100;
const WORDS: [&str; 16] = [
    "amber", "basalt", "cedar", "delta", "ember", "fjord", "granite", "harbour", "island",
    "juniper", "kelp", "lagoon", "meadow", "nectar", "opal", "prairie",
];

/// Fills a folder, which is made.
pub(crate) fn make(folder: &Path, amount: Amount) -> io::Result<()> {
    let mut random = Random::new();
    fs::create_dir_all(folder)?;
    for number in 0..amount.small_files {
        let place = folder.join(format!("records/{:02}", number / FILES_PER_FOLDER));
        if number % FILES_PER_FOLDER == 0 {
            fs::create_dir_all(&place)?;
        }
        let path = place.join(format!("record-{number:05}.json"));
        fs::write(&path, record(number, &mut random))?;
        // Distinct times with all their digits, so that a rounded one would be seen.
        let age = Duration::new(1_700_000_000 + number * 61, 123_456_789);
        File::options()
            .write(true)
            .open(&path)?
            .set_modified(UNIX_EPOCH + age)?;
    }
    let large = folder.join("large");
    fs::create_dir(&large)?;
    noise(&large.join("noise.bin"), amount.large_bytes, &mut random)?;
    log(&large.join("events.log"), amount.large_bytes, &mut random)?;
    fs::copy(large.join("noise.bin"), large.join("noise-again.bin"))?;
    odd_things(&folder.join("odd"), &large.join("events.log"))
}

/// What goes wrong first where something does: links, empty things, strange names, modes, holes.
fn odd_things(odd: &Path, target: &Path) -> io::Result<()> {
    fs::create_dir(odd)?;
    fs::create_dir(odd.join("empty folder"))?;
    fs::write(odd.join("empty file"), "")?;
    symlink("../large/events.log", odd.join("a symbolic link"))?;
    symlink("nowhere", odd.join("a dangling link"))?;
    fs::hard_link(target, odd.join("a hard link"))?;
    fs::write(
        odd.join("naïve — ünïcode, line\nbreak"),
        "a name of several scripts\n",
    )?;
    let script = odd.join("script.sh");
    fs::write(&script, "#!/bin/sh\necho hello\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750))?;
    let sparse = File::create(odd.join("mostly a hole"))?;
    sparse.set_len(16 * 1024 * 1024)?;
    // Not every file system takes such a name or has attributes: then there is one odd thing fewer.
    let _ = fs::write(odd.join(OsStr::from_bytes(b"not \xff UTF-8")), "bytes\n");
    let _ = xattr::set(&script, "user.colour", b"green");
    Ok(())
}

fn record(number: u64, random: &mut Random) -> String {
    let mut text = format!("{{\n  \"id\": {number},\n  \"tags\": [");
    for index in 0..4 + random.below(12) {
        let comma = if index > 0 { ", " } else { "" };
        let word = WORDS[usize::try_from(random.below(16)).unwrap_or(0)];
        let _ = write!(text, "{comma}\"{word}-{}\"", random.below(1000));
    }
    text += "],\n  \"values\": {\n";
    for index in 0..4 + random.below(40) {
        let value = random.below(1_000_000);
        let _ = writeln!(text, "    \"sensor {index:02}\": {value},");
    }
    text + "    \"end\": null\n  }\n}\n"
}

fn noise(path: &Path, bytes: u64, random: &mut Random) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    io::copy(&mut io::Read::take(&mut random.0, bytes), &mut file)?;
    file.flush()
}

fn log(path: &Path, bytes: u64, random: &mut Random) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut written = 0;
    let mut time = 1_700_000_000_u64;
    let mut line = String::new();
    while written < bytes {
        time += random.below(5);
        let word = WORDS[usize::try_from(random.below(16)).unwrap_or(0)];
        let number = random.below(1_000_000);
        line.clear();
        let _ = writeln!(
            line,
            "{time} INFO request {number:06} to /{word} took {} ms",
            number % 997
        );
        file.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    file.flush()
}

/// Numbers without end, the same in every run: the output of a hash.
struct Random(blake3::OutputReader);

impl Random {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key("maimo demo 2026 made-up files").finalize_xof())
    }

    fn below(&mut self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        // Slightly uneven, which does not matter here.
        u64::from_le_bytes(bytes) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::{super::manifest::Manifest, *};

    const LITTLE: Amount = Amount {
        small_files: 150,
        large_bytes: 100_000,
    };

    #[test]
    fn small_ones_large_ones_and_odd_ones_are_made() {
        let folder = tempfile::tempdir().unwrap();
        make(&folder.path().join("f"), LITTLE).unwrap();
        let manifest = Manifest::of(&folder.path().join("f")).unwrap();
        assert!(manifest.files() >= 150 + 3 + 5, "{}", manifest.files());
        let noise = fs::read(folder.path().join("f/large/noise.bin")).unwrap();
        assert_eq!(noise.len(), 100_000);
        assert_eq!(
            noise,
            fs::read(folder.path().join("f/large/noise-again.bin")).unwrap()
        );
        assert!(
            fs::symlink_metadata(folder.path().join("f/odd/a symbolic link"))
                .unwrap()
                .is_symlink()
        );
    }
}
