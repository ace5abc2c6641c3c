//! The structured random run of every parser. Inputs are the same in every run; a failure prints its input in hex.

use std::panic::{AssertUnwindSafe, catch_unwind};

use maimo_sim::parsers::{TARGETS, Target, hex, structured};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// Inputs for each target.
const RUNS: u64 = 3000;

/// Runs one input; returns whether it was accepted, or the report of a broken claim.
fn run(target: &Target, bytes: &[u8]) -> Result<bool, String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)))
        .map_err(|_| format!("target {}, input {}", target.name, hex(bytes)))
}

#[test]
fn every_seed_is_accepted_by_its_parser() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            assert_eq!(
                run(target, &seed),
                Ok(true),
                "{} refuses {}",
                target.name,
                hex(&seed)
            );
        }
    }
}

fn hold(which: impl Fn(usize) -> bool) {
    let targets = TARGETS.iter().enumerate().filter(|(at, _)| which(*at));
    let mut broken = Vec::new();
    for (at, target) in targets {
        let seeds = (target.seeds)();
        let mut rng = ChaCha8Rng::seed_from_u64(at as u64);
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..RUNS {
            match run(target, &structured(&mut rng, &seeds)) {
                Ok(true) => accepted += 1,
                Ok(false) => refused += 1,
                Err(report) => {
                    broken.push(report);
                    break;
                }
            }
        }
        // A run in which nothing is refused, or nothing accepted, has looked at half of the parser only.
        assert!(
            refused > 0 && accepted > 0 || !broken.is_empty(),
            "{}: {accepted} accepted, {refused} refused",
            target.name
        );
    }
    assert!(broken.is_empty(), "broken claims:\n{}", broken.join("\n"));
}

// In two halves, so that two processors share the work.
#[test]
fn parsers_hold_their_claims_on_structured_random_input_one_half() {
    hold(|at| at % 2 == 0);
}

#[test]
fn parsers_hold_their_claims_on_structured_random_input_other_half() {
    hold(|at| at % 2 == 1);
}

#[test]
fn every_parser_has_a_fuzz_target_and_every_fuzz_target_a_parser() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/fuzz_targets");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    files.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(files, names);
}
