//! Runs one of the simulations and prints what came of it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

use std::process::ExitCode;

use maimo_sim::{audit_size, years};

const USAGE: &str = "usage: maimo-sim COMMAND

  years [DAYS]    three simulated years, or so many days of each, as a table
  audits          what an audit of a tebibyte and of a pebibyte costs";

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
        _ => return usage(),
    }
    ExitCode::SUCCESS
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
