//! Runs one of the simulations and prints what came of it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

use std::process::ExitCode;

use maimo_sim::{audit_size, history, years};

const USAGE: &str = "usage: maimo-sim COMMAND

  years [DAYS]    three simulated years, or so many days of each, as a table
  audits          what an audit of a tebibyte and of a pebibyte costs
  histories SEED COUNT
                  so many random histories of honest providers, from a seed on
  faults SEED COUNT
                  so many in which a provider loses bytes, is rolled back or forks";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["years"] => years(365),
        ["years", days] => match days.parse() {
            Ok(days) => years(days),
            Err(_) => return usage(),
        },
        ["audits"] => audits(),
        [kind @ ("histories" | "faults"), seed, count] => match (seed.parse(), count.parse()) {
            (Ok(seed), Ok(count)) => return histories(kind, seed, count),
            _ => return usage(),
        },
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn histories(kind: &str, seed: u64, count: u64) -> ExitCode {
    let seeds = seed..seed.saturating_add(count);
    let played = if kind == "faults" {
        history::play_all_faulty(seeds).map(|seen| format!("{seen:?}"))
    } else {
        history::play_all(seeds).map(|tally| format!("{tally:?}"))
    };
    match played {
        Ok(tally) => {
            println!("{tally}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("seed {}: {}", broken.seed, broken.what);
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn years(days: u64) {
    println!("{}", years::run(1, years::Scale::of_days(days)));
}

fn audits() {
    println!("{}", audit_size::Row::HEADER);
    for row in audit_size::table() {
        println!("{row}");
    }
}
