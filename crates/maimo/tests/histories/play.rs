//! [`histories`]: what a seed makes of two machines, a provider and a user.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Child,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    book::{Book, Tree},
    device::{Device, FILES, tree_of},
    node::Node,
    rig::Stream,
    support::{Ended, Machine, finished},
};

/// How many things happen in a history.
const ROUNDS: u64 = 18;

/// The machines of one history.
pub(crate) struct Scene {
    node: Node,
    devices: Vec<Device>,
    /// Machines that are no more; what they stored is owed all the same.
    lost: Vec<Device>,
    /// What the machines need to know of the network.
    join: Box<dyn Fn(&Machine)>,
    phrase: String,
    address: String,
    /// All that was done, for whoever reads why it failed.
    told: Vec<String>,
    /// How long an undisturbed command takes: kills are drawn over twice that.
    usual: Duration,
    /// Whether the network between them fails by itself now and then, so that a command may end with "offline" though nobody was killed.
    is_rough: bool,
    /// What this history went through.
    tally: Tally,
}

/// What histories went through, to see that they reach what they are for.
#[derive(Debug, Default)]
struct Tally {
    commands: u64,
    at_once: u64,
    killed: u64,
    provider_killed: u64,
    images: u64,
    lost: u64,
    refused: u64,
}

/// What a machine is told to do.
#[derive(Debug, Clone)]
enum Deed {
    Store,
    StoreAndDelete,
    /// Puts files back that only the store has.
    BringBack(Vec<String>),
    Remove(String),
    Prune,
    Undelete,
    Verify,
}

/// Who dies in the middle of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Nobody,
    First,
    Provider,
}

/// Plays as many histories as the environment says, `usual` if it is silent.
pub(crate) fn histories(usual: u64, make: &mut dyn FnMut() -> Scene) {
    let count = number("MAIMO_HISTORIES").unwrap_or(usual);
    let first = number("MAIMO_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs() * 1_000_000
    });
    let mut sum = Tally::default();
    for seed in first..first + count {
        let mut scene = make();
        let played = catch_unwind(AssertUnwindSafe(|| scene.play(&mut Stream::new(seed))));
        if let Err(panic) = played {
            scene.node.kill();
            eprintln!(
                "MAIMO_SEED={seed} MAIMO_HISTORIES=1\n{}",
                scene.told.join("\n")
            );
            eprintln!("the provider's log:\n{}", scene.node.log());
            for device in scene.devices.iter().chain(&scene.lost) {
                eprintln!("{} is left in {}", device.source, device.machine.text(""));
            }
            // Its folders are evidence.
            std::mem::forget(scene);
            resume_unwind(panic);
        }
        sum.add(&scene.tally);
    }
    eprintln!("{count} histories from seed {first}: {sum:?}");
    assert!(
        count < 3 || (sum.killed > 0 && sum.provider_killed > 0 && sum.at_once > 0),
        "nothing happened: {sum:?}"
    );
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.commands += other.commands;
        self.at_once += other.at_once;
        self.killed += other.killed;
        self.provider_killed += other.provider_killed;
        self.images += other.images;
        self.lost += other.lost;
        self.refused += other.refused;
    }
}

impl Scene {
    /// Two machines and a provider that speak TCP on loopback.
    pub(crate) fn over_tcp() -> Self {
        let node = Node::running();
        let address = node.at.to_string();
        let join = |machine: &Machine| {
            machine.write(
                "home/config.toml",
                "transport = \"tcp\"\nsingle-copy = true\n",
            );
        };
        Self::new(node, address, Box::new(join), false)
    }

    /// Two machines that `join` has speak with a provider, which runs and is at `address`.
    pub(crate) fn new(
        node: Node,
        address: String,
        join: Box<dyn Fn(&Machine)>,
        is_rough: bool,
    ) -> Self {
        Self {
            node,
            devices: Vec::new(),
            lost: Vec::new(),
            join,
            phrase: String::new(),
            address,
            told: Vec::new(),
            usual: Duration::from_millis(200),
            is_rough,
            tally: Tally::default(),
        }
    }

    fn play(&mut self, draws: &mut Stream) {
        self.begin(draws);
        let mut image: Option<usize> = None;
        for _ in 0..ROUNDS {
            let chosen = draws.next() as usize % 2;
            match draws.next() % 20 {
                0 if image.is_none() => {
                    self.copy_home(chosen, "home", "image");
                    image = Some(chosen);
                }
                1 | 2 => {
                    // A home from a backup of the machine: it wakes up in the past.
                    if let Some(of) = image.take() {
                        std::fs::remove_dir_all(self.devices[of].machine.path("home")).unwrap();
                        self.copy_home(of, "image", "home");
                        self.devices[of].book.forgot();
                        self.tally.images += 1;
                    }
                }
                3 => {
                    self.lose(chosen);
                    image = image.filter(|of| *of != chosen);
                }
                4 => self.pin(chosen),
                _ => self.work(chosen, draws),
            }
        }
        self.settle();
    }

    /// Makes the store on the first machine and brings the second one to it.
    fn begin(&mut self, draws: &mut Stream) {
        let grace = if draws.next().is_multiple_of(2) {
            "0s"
        } else {
            "30d"
        };
        let args = ["client", "invite", "us", "--cap", "1GiB", "--grace", grace];
        let invitation = self.node.machine.object("invitation", &args);
        let line = invitation["invitation"].as_str().unwrap();
        let machine = Machine::new();
        (self.join)(&machine);
        let made = machine.object("init", &["init", "--source", "a"]);
        made["phrase"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.phrase);
        machine.write("phrase", &self.phrase);
        machine.done(&["verify-phrase", "--phrase-file", "phrase"]);
        self.surely(&machine, &["channel", "open", line, "--name", "far"]);
        // All that no policy has to keep goes as soon as it may: the hardest case.
        self.surely(&machine, &["keep", "--last", "1"]);
        self.devices.push(Device::new(machine, "a"));
        self.join_store("b");
        self.told.push(format!("grace {grace}"));
    }

    /// Adds a machine that has nothing but the words.
    fn join_store(&mut self, source: &str) {
        let machine = Machine::new();
        (self.join)(&machine);
        machine.write("phrase", &self.phrase);
        machine.done(&["init", "--phrase-file", "phrase", "--source", source]);
        machine.done(&["verify-phrase", "--phrase-file", "phrase"]);
        self.surely(&machine, &["recover", &self.address]);
        self.devices.push(Device::new(machine, source));
    }

    /// Runs a command that must succeed, again where the network failed it.
    fn surely(&self, machine: &Machine, args: &[&str]) -> Ended {
        let mut tries = if self.is_rough { 5 } else { 1 };
        loop {
            tries -= 1;
            let ended = machine.run(args);
            match ended.code {
                Some(0) => return ended,
                Some(21) if tries > 0 => {}
                _ => panic!("{args:?}: {ended:#?}"),
            }
        }
    }

    fn copy_home(&mut self, of: usize, from: &str, to: &str) {
        let machine = &self.devices[of].machine;
        let (from, to) = (machine.path(from), machine.path(to));
        self.told.push(format!(
            "{}: {} becomes {}",
            self.devices[of].source,
            from.display(),
            to.display()
        ));
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(copied.unwrap().success());
    }

    /// Takes a machine away with all that is on it, and puts a new one in its place.
    fn lose(&mut self, chosen: usize) {
        let source = format!("{}'", self.devices[chosen].source);
        self.told.push(format!("{source} takes over"));
        self.join_store(&source);
        let new = self.devices.pop().unwrap();
        self.lost
            .push(std::mem::replace(&mut self.devices[chosen], new));
        self.tally.lost += 1;
    }

    /// Has a machine store, then keeps that run whatever the policy.
    fn pin(&mut self, chosen: usize) {
        let files = self.devices[chosen].files();
        self.store_surely(chosen);
        let machine = &self.devices[chosen].machine;
        let runs = machine.json(&["runs"]);
        let last = runs.last().unwrap()["run"].as_str().unwrap().to_owned();
        let now = jiff::Timestamp::now().to_string();
        self.surely(machine, &["pin", &last]);
        let device = &mut self.devices[chosen];
        self.told
            .push(format!("{}: pin {last} at {now}", device.source));
        device.pinned.push((now, files));
    }

    /// Does something on a machine, now and then on both at once, now and then with someone killed in the middle.
    fn work(&mut self, chosen: usize, draws: &mut Stream) {
        let both = draws.next() % 5 < 2;
        let victim = match draws.next() % 10 {
            0..=2 => Victim::First,
            3 | 4 => Victim::Provider,
            _ => Victim::Nobody,
        };
        let who = if both {
            vec![chosen, 1 - chosen]
        } else {
            vec![chosen]
        };
        let deeds: Vec<(usize, Deed)> = who
            .into_iter()
            .map(|who| {
                let edited = self.devices[who].edit(draws);
                self.told
                    .push(format!("{}: {edited}", self.devices[who].source));
                (who, self.draw_deed(who, draws))
            })
            .collect();
        self.tally.at_once += u64::from(both);
        self.run(&deeds, victim, draws.next());
        if draws.next().is_multiple_of(6) {
            self.check(chosen);
        }
    }

    fn draw_deed(&self, who: usize, draws: &mut Stream) -> Deed {
        let device = &self.devices[who];
        let certain = device.book.certain();
        match draws.next() % 12 {
            0..=4 => Deed::Store,
            5 | 6 => Deed::StoreAndDelete,
            7 => {
                let here = device.files();
                let away = certain.into_iter().filter(|path| !here.contains_key(path));
                Deed::BringBack(away.take(4).collect())
            }
            8 => {
                let chosen = draws.next() as usize % certain.len().max(1);
                certain
                    .into_iter()
                    .nth(chosen)
                    .map_or(Deed::Store, Deed::Remove)
            }
            9 | 10 => Deed::Prune,
            _ if draws.next().is_multiple_of(2) => Deed::Undelete,
            _ => Deed::Verify,
        }
    }

    fn store_surely(&mut self, who: usize) {
        let mut tries = if self.is_rough { 5 } else { 1 };
        while !self.run(&[(who, Deed::Store)], Victim::Nobody, 0) {
            tries -= 1;
            assert!(tries > 0, "never acknowledged");
        }
    }

    /// Runs commands at the same time and writes down what must be had now. Returns whether all were acknowledged.
    fn run(&mut self, deeds: &[(usize, Deed)], victim: Victim, draw: u64) -> bool {
        let begun = Instant::now();
        let before: Vec<Tree> = deeds
            .iter()
            .map(|(who, _)| self.devices[*who].files())
            .collect();
        let mut running: Vec<Child> = Vec::new();
        for (who, deed) in deeds {
            self.told
                .push(format!("{}: {deed:?}", self.devices[*who].source));
            running.push(begin(&self.devices[*who], deed));
        }
        if victim != Victim::Nobody {
            let within = u64::try_from(self.usual.as_micros() * 2).unwrap();
            let after = Duration::from_micros(draw % within);
            sleep(after);
            self.told.push(format!("kill {victim:?} after {after:?}"));
        }
        match victim {
            Victim::Nobody => {}
            Victim::First => {
                self.tally.killed += u64::from(running[0].try_wait().unwrap().is_none());
                running[0].kill().unwrap();
            }
            Victim::Provider => {
                self.tally.provider_killed += 1;
                self.node.kill();
                sleep(Duration::from_millis(draw % 300));
                self.node.start();
            }
        }
        let ended: Vec<Ended> = running.into_iter().map(finished).collect();
        let mut all = true;
        for (place, ((who, deed), ended)) in deeds.iter().zip(&ended).enumerate() {
            let was_killed = victim == Victim::First && place == 0;
            let is_done = self.is_done(deed, ended, was_killed, victim == Victim::Provider);
            let device = &mut self.devices[*who];
            let after = device.files();
            note(&mut device.book, deed, is_done, &before[place], &after);
            self.told
                .push(format!("{}: {:?}", device.source, ended.code));
            if !is_done && matches!(deed, Deed::StoreAndDelete) {
                // Puts back what was set aside, before a user takes its name.
                self.store_surely(*who);
            }
            all &= is_done;
        }
        if victim == Victim::Nobody && deeds.len() == 1 {
            self.usual = (self.usual * 3 + begun.elapsed()) / 4;
        }
        all
    }

    /// Returns whether a command was acknowledged; panics where it ended as it must not.
    fn is_done(&mut self, deed: &Deed, ended: &Ended, was_killed: bool, was_alone: bool) -> bool {
        self.tally.commands += 1;
        assert!(!ended.err.contains("panicked"), "{deed:?}: {ended:#?}");
        match ended.code {
            Some(0) => true,
            // Some files were too young to be deleted.
            Some(3) if matches!(deed, Deed::StoreAndDelete) => true,
            None if was_killed => false,
            Some(1) if is_pointless(deed, &ended.err) => false,
            Some(21) if was_alone || self.is_rough => {
                self.tally.refused += 1;
                false
            }
            _ => panic!("{deed:?}: {ended:#?}"),
        }
    }

    /// Everyone finishes; then all that is owed is asked for, by each machine and by one that has nothing but the words.
    fn settle(&mut self) {
        self.node.kill();
        self.node.start();
        for who in 0..self.devices.len() {
            self.store_surely(who);
        }
        self.join_store("third");
        for who in 0..self.devices.len() {
            self.run(&[(who, Deed::Prune)], Victim::Nobody, 0);
            self.surely(&self.devices[who].machine, &["verify", "--read-all"]);
            self.check(who);
        }
    }

    /// Retrieves what is owed of every machine to one of them and compares.
    fn check(&mut self, viewer: usize) {
        let machine = &self.devices[viewer].machine;
        // What the others did since is not known here before it is asked for.
        self.surely(machine, &["verify", "--slices", "1"]);
        let listed = machine.json(&["list", "--source", "all", "--all"]);
        for of in self.devices.iter().chain(&self.lost) {
            let found = self.retrieved(machine, of, None);
            let wrong = of.book.wrong(&found);
            assert!(
                wrong.is_empty(),
                "{} sees of {}: {wrong:?}",
                self.devices[viewer].source,
                of.source
            );
            let names = listed
                .iter()
                .filter(|row| row["source"] == *of.source && row["kind"] == "file");
            let is_had = |row: &&Value| row["state"] == "present" || row["state"] == "evicted";
            let names: Vec<&Value> = names.filter(is_had).collect();
            assert_eq!(
                names.len(),
                found.len(),
                "{} lists of {}: {names:#?}",
                self.devices[viewer].source,
                of.source
            );
            for (at, files) in &of.pinned {
                let found = self.retrieved(machine, of, Some(at));
                for (path, content) in files {
                    assert_eq!(
                        found.get(path),
                        Some(content),
                        "{path} of {} as pinned at {at}",
                        of.source
                    );
                }
            }
        }
        self.told
            .push(format!("{} checked", self.devices[viewer].source));
    }

    /// Retrieves the files of a machine to another, and returns what came.
    fn retrieved(&self, machine: &Machine, of: &Device, at: Option<&str>) -> Tree {
        let folder = of.folder();
        let to = machine.text("back");
        let mut args = vec![
            "retrieve",
            &folder,
            "--source",
            &of.source,
            "--to",
            &to,
            "--overwrite",
        ];
        args.extend(at.iter().flat_map(|at| ["--at", at]));
        if of.book.certain().is_empty() && at.is_none() {
            // Nothing may be there, which is an error.
            let ended = machine.run(&args);
            assert!(matches!(ended.code, Some(0 | 1)), "{args:?}: {ended:#?}");
        } else {
            self.surely(machine, &args);
        }
        let back = machine.path("back");
        let found = tree_of(&back.join(of.machine.path(FILES).strip_prefix("/").unwrap()));
        let _ = std::fs::remove_dir_all(back);
        found
    }
}

fn begin(device: &Device, deed: &Deed) -> Child {
    let folder = device.folder();
    let at = |path: &String| format!("{folder}/{path}");
    let args: Vec<String> = match deed {
        Deed::Store => vec!["store".to_owned(), folder.clone()],
        Deed::StoreAndDelete => vec![
            "store".to_owned(),
            folder.clone(),
            "--delete-local".to_owned(),
        ],
        Deed::BringBack(paths) if paths.is_empty() => vec!["status".to_owned()],
        Deed::BringBack(paths) => {
            let mut args = vec!["retrieve".to_owned(), "--to".to_owned(), "/".to_owned()];
            args.extend(paths.iter().map(at));
            args
        }
        Deed::Remove(path) => vec!["remove".to_owned(), at(path)],
        Deed::Prune => vec!["prune".to_owned()],
        Deed::Undelete => vec!["undelete".to_owned()],
        Deed::Verify => vec!["verify".to_owned()],
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    device.machine.begin(&args)
}

/// Returns whether a command had nothing to do, or was not let: two machines of a history are one to those who lock.
fn is_pointless(deed: &Deed, told: &str) -> bool {
    match deed {
        Deed::Undelete => told.contains("no earlier state of which anything was let go"),
        Deed::BringBack(_) => told.contains("another process retrieves into"),
        _ => false,
    }
}

/// Writes down what a command did, or may have done.
fn note(book: &mut Book, deed: &Deed, is_done: bool, before: &Tree, after: &Tree) {
    match deed {
        Deed::Store if is_done => book.stored(before),
        Deed::Store => book.may_be_stored(before),
        Deed::StoreAndDelete => {
            if is_done {
                book.stored(before);
            } else {
                book.may_be_stored(before);
            }
            book.evicted(before, after);
        }
        Deed::Remove(path) if is_done => book.removed(path),
        Deed::Remove(path) => book.may_be_removed(path),
        Deed::BringBack(_) | Deed::Prune | Deed::Undelete | Deed::Verify => {}
    }
}
