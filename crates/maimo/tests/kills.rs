//! SIGKILL at random moments: the next run finishes, nothing acknowledged is lost, no local file is gone that cannot be retrieved.
//!
//! Each test measures how long its command takes, then kills it again and again at moments drawn over that time. `MAIMO_KILLS` sets how many
//! (12 unless set, to keep the suite short; 100 is what a release is tried with). A failure names the seed of its moments: `MAIMO_SEED`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::items_after_statements,
    reason = "a test may panic, and say why; its numbers are small"
)]

#[path = "support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use rig::{Found, PHRASE, Rig, SOURCE, Stream, args};

fn kills() -> u64 {
    number("MAIMO_KILLS").unwrap_or(12)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Draws moments over the time that an undisturbed run takes.
struct Moments {
    whole: Duration,
    draws: Stream,
}

impl Moments {
    fn over(whole: Duration) -> Self {
        let seed = number("MAIMO_SEED").unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("after 1970").as_nanos() as u64
        });
        eprintln!("MAIMO_SEED={seed}, an undisturbed run took {whole:?}");
        Self {
            whole,
            draws: Stream::new(seed),
        }
    }

    fn next(&mut self) -> Duration {
        self.whole
            .mul_f64((self.draws.next() % 1000) as f64 / 1000.0)
    }

    /// Runs a command and kills it at the next moment. Returns whether it was still running.
    fn kill(&mut self, rig: &Rig, args: &[OsString]) -> bool {
        let mut child = rig.start(args);
        sleep(self.next());
        let was_running = child.try_wait().expect("a child").is_none();
        child.kill().expect("to kill our own child");
        child.wait().expect("to reap it");
        was_running
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn assert_same(found: &BTreeMap<PathBuf, Found>, wanted: &BTreeMap<PathBuf, Found>, what: &str) {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(path, was)| found.get(*path) != Some(was))
        .map(|(path, _)| path)
        .collect();
    assert!(missing.is_empty(), "{what}: lost or changed: {missing:?}");
}

/// Returns what is a file of all that was found.
fn files_of(mut tree: BTreeMap<PathBuf, Found>) -> BTreeMap<PathBuf, Found> {
    tree.retain(|_, found| matches!(found, Found::File(..)));
    tree
}

#[test]
fn a_killed_store_is_finished_by_the_next() {
    let rig = Rig::ready();
    rig.grow(0, 200);
    let store = args([&"store", &rig.files()]);
    let whole = timed(|| {
        rig.ok(&store);
    });
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for round in 1..=kills() {
        rig.grow(round, 60);
        hit += u64::from(moments.kill(&rig, &store));
        if round % 4 == 0 {
            // Two in a row.
            moments.kill(&rig, &store);
        }
        rig.ok(&store);
        rig.ok(["verify"]);
        if round % 4 == 0 || round == kills() {
            assert_same(
                &rig.retrieved("back"),
                &Rig::tree(&rig.files()),
                "after a killed store",
            );
        }
    }
    assert!(hit > 0, "no kill hit a running store");
}

#[test]
fn a_killed_store_that_deletes_loses_no_file() {
    let rig = Rig::ready();
    let phrase = rig.folder.path().join("phrase");
    let store = args([&"store", &rig.files(), &"--delete-local", &"--single-copy"]);
    // A deletion wants the phrase verified once: a store made from a known phrase can say it.
    fs::remove_dir_all(rig.home()).expect("to begin anew");
    fs::remove_dir_all(rig.provider()).expect("to begin anew");
    fs::write(&phrase, PHRASE).expect("a file");
    rig.ok(args([
        &"init",
        &"--source",
        &SOURCE,
        &"--phrase-file",
        &phrase,
    ]));
    rig.ok(args([&"verify-phrase", &"--phrase-file", &phrase]));
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig.grow(0, 120);
    let mut wanted = Rig::tree(&rig.files());
    let whole = timed(|| {
        rig.ok(&store);
    });
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for round in 1..=kills() {
        rig.grow(round, 60);
        wanted.extend(Rig::tree(&rig.files()));
        hit += u64::from(moments.kill(&rig, &store));
        // Whatever is not at its name here must come back.
        rig.ok(args([&"verify"]));
        let here = Rig::tree(&rig.files());
        let mut all = if round % 3 == 0 || round == kills() {
            rig.retrieved("back")
        } else {
            BTreeMap::new()
        };
        if !all.is_empty() {
            all.extend(files_of(here));
            let files = files_of(wanted.clone());
            let lost: Vec<_> = files
                .keys()
                .filter(|path| !all.contains_key(*path))
                .collect();
            // A file that was set aside at the kill is at another name until the next run.
            let aside = Rig::tree(&rig.files())
                .into_iter()
                .filter(|(path, _)| path.to_string_lossy().contains(".maimo-aside-"))
                .count();
            assert!(
                lost.len() <= aside,
                "neither here nor there: {lost:?}, {aside} aside"
            );
        }
        rig.ok(&store);
        let left = files_of(Rig::tree(&rig.files()));
        assert!(
            left.is_empty(),
            "not deleted by the next run: {:?}",
            left.keys()
        );
    }
    assert_same(&rig.retrieved("back"), &files_of(wanted), "after all");
    assert!(hit > 0, "no kill hit a running store");
}

#[test]
fn a_killed_prune_is_finished_by_the_next() {
    let rig = Rig::ready();
    rig.grow(0, 200);
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["keep", "--last", "1"]);
    let change = |round: u64| {
        for n in 0..60 {
            let path = rig.files().join(format!("d{}/changing-{n}", n % 7));
            fs::write(path, Stream::new(round * 1000 + n).take(9000)).expect("a file");
        }
        rig.ok(args([&"store", &rig.files()]));
    };
    change(1);
    change(2);
    let prune = args([&"prune"]);
    let whole = timed(|| {
        rig.ok(&prune);
    });
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for round in 0..kills() {
        change(3 + round);
        hit += u64::from(moments.kill(&rig, &prune));
        rig.ok(&prune);
        rig.ok(["verify"]);
        if round % 4 == 3 || round + 1 == kills() {
            assert_same(
                &rig.retrieved("back"),
                &Rig::tree(&rig.files()),
                "after a killed prune",
            );
        }
    }
    assert!(hit > 0, "no kill hit a running prune");
}

#[test]
fn a_killed_recovery_is_finished_by_the_next() {
    let rig = Rig::new();
    let phrase = rig.folder.path().join("phrase");
    fs::write(&phrase, PHRASE).expect("a file");
    let init = |source: &str| args([&"init", &"--source", &source, &"--phrase-file", &phrase]);
    rig.ok(init(SOURCE));
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig.grow(0, 300);
    rig.ok(args([&"store", &rig.files()]));
    let recover = args([&"recover", &rig.provider()]);
    let anew = || {
        fs::remove_dir_all(rig.home()).expect("to lose the home");
        rig.ok(init("another machine"));
    };
    anew();
    let whole = timed(|| {
        rig.ok(&recover);
    });
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for round in 0..kills() {
        anew();
        hit += u64::from(moments.kill(&rig, &recover));
        rig.ok(&recover);
        if round % 4 == 3 || round + 1 == kills() {
            assert_same(
                &rig.retrieved("back"),
                &Rig::tree(&rig.files()),
                "after a killed recovery",
            );
        }
    }
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify"]);
    assert!(hit > 0, "no kill hit a running recovery");
}

#[test]
fn a_killed_retrieval_leaves_no_half_file_and_is_finished_by_the_next() {
    let rig = Rig::ready();
    rig.grow(0, 300);
    let wanted = Rig::tree(&rig.files());
    rig.ok(args([&"store", &rig.files()]));
    let to = rig.folder.path().join("back");
    let retrieve = args([&"retrieve", &rig.files(), &"--to", &to]);
    let whole = timed(|| {
        rig.ok(&retrieve);
    });
    let inside = to.join(rig.files().strip_prefix("/").expect("an absolute path"));
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for _ in 0..kills() {
        fs::remove_dir_all(&to).expect("to begin anew");
        hit += u64::from(moments.kill(&rig, &retrieve));
        for (path, found) in Rig::tree(&inside) {
            if let (Found::File(_, _, bytes), Some(Found::File(_, _, whole))) =
                (&found, wanted.get(&path))
            {
                assert!(bytes == whole, "half a file at {}", path.display());
            }
        }
        rig.ok(&retrieve);
        let back = Rig::tree(&inside);
        assert_same(&back, &wanted, "after a killed retrieval");
        assert_eq!(back.len(), wanted.len(), "something is left over");
    }
    assert!(hit > 0, "no kill hit a running retrieval");
}

#[test]
fn a_mirror_killed_on_its_way_goes_on() {
    let rig = Rig::ready();
    rig.grow(0, 120);
    let store = args([&"store", &rig.files()]);
    rig.ok(&store);
    let second = rig.folder.path().join("second");
    rig.ok(args([&"channel", &"open", &second]));
    let mirror = args([&"channel", &"mirror", &"provider", &"second"]);
    let unmirror = args([&"channel", &"unmirror", &"second"]);
    let whole = timed(|| {
        rig.ok(&mirror);
    });
    let mut moments = Moments::over(whole);
    let mut hit = 0;
    for round in 1..=kills() / 2 {
        // With work for the mirror in the run, and in what comes after it.
        rig.grow(round, 40);
        if round % 2 == 0 {
            rig.ok(&unmirror);
            rig.ok(&store);
            hit += u64::from(moments.kill(&rig, &mirror));
        } else {
            hit += u64::from(moments.kill(&rig, &store));
        }
        rig.ok(&mirror);
        rig.ok(&store);
        rig.ok(["verify"]);
    }
    assert!(hit > 0, "no kill hit a running command");
    fs::rename(rig.provider(), rig.folder.path().join("lost")).expect("to lose a provider");
    assert_same(
        &rig.retrieved("back"),
        &Rig::tree(&rig.files()),
        "from the mirror alone",
    );
}
