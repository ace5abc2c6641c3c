//! `keep`: which older revisions are kept.

use std::io::{self, Write};

use maimo_client::revise::PolicyReport;
use maimo_vault::retention::Policy;
use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::{
    context::Context,
    quantity::{Count, parse_span_ms},
    ui::{Page, Report},
};

/// Show or set which older revisions are kept
///
/// A run is kept if any rule keeps it; the newest revision of a file is always kept. Rules name how many: `--daily 30` keeps the last run of
/// each of the last 30 days that have one; `all` keeps them for ever. Setting any rule sets all of them: those not named keep nothing.
#[derive(Debug, Serialize, Deserialize, clap::Args)]
pub(crate) struct Args {
    /// The newest N runs
    #[arg(long, value_name = "N", value_parser = parse_count)]
    last: Option<u32>,
    /// The newest run of each of N hours
    #[arg(long, value_name = "N", value_parser = parse_count)]
    hourly: Option<u32>,
    /// The newest run of each of N days
    #[arg(long, value_name = "N", value_parser = parse_count)]
    daily: Option<u32>,
    /// The newest run of each of N weeks
    #[arg(long, value_name = "N", value_parser = parse_count)]
    weekly: Option<u32>,
    /// The newest run of each of N months
    #[arg(long, value_name = "N", value_parser = parse_count)]
    monthly: Option<u32>,
    /// The newest run of each of N years
    #[arg(long, value_name = "N", value_parser = parse_count)]
    yearly: Option<u32>,
    /// All runs of this time: 12h, "30 days", 1y6mo
    #[arg(long, value_name = "DURATION", value_parser = parse_span_ms)]
    within: Option<u64>,
    /// The newest N revisions of each file, whatever runs hold them
    #[arg(long, value_name = "N", value_parser = parse_count)]
    revisions: Option<u32>,
    /// Set it for the files that this glob matches alone
    #[arg(long, value_name = "GLOB")]
    pattern: Option<String>,
    /// Take back what was set
    #[arg(long)]
    default: bool,
}

fn parse_count(text: &str) -> Result<u32, String> {
    if text == "all" {
        return Ok(Policy::ALL);
    }
    text.parse()
        .map_err(|_| "neither a number nor `all`".to_owned())
}

impl Args {
    /// Returns the policy that is asked for; nothing where none is.
    fn policy(&self) -> Option<Policy> {
        let counts = [
            self.last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
            self.revisions,
        ];
        if counts.iter().all(Option::is_none) && self.within.is_none() {
            return None;
        }
        Some(Policy {
            last: self.last.unwrap_or(0),
            hourly: self.hourly.unwrap_or(0),
            daily: self.daily.unwrap_or(0),
            weekly: self.weekly.unwrap_or(0),
            monthly: self.monthly.unwrap_or(0),
            yearly: self.yearly.unwrap_or(0),
            within_ms: self.within.unwrap_or(0),
            revisions: self.revisions.unwrap_or(0),
        })
    }
}

/// Sets it if anything is to be set, and shows it.
pub(crate) fn run(args: &Args, ctx: &Context) -> Outcome {
    let policy = args.policy();
    if policy.is_none() && !args.default {
        return Ok(Box::new(Policies(ctx.view()?.policies()?)));
    }
    let mut client = ctx.client()?;
    let progress = ctx.ui.progress();
    let pattern = args.pattern.as_deref().unwrap_or_default();
    let policies = client.keep(pattern, policy, progress.control())?;
    Ok(Box::new(Policies(policies)))
}

struct Policies(Vec<PolicyReport>);

#[derive(Serialize)]
struct PolicyView<'a> {
    pattern: Option<&'a str>,
    last: Option<u32>,
    hourly: Option<u32>,
    daily: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    within_seconds: u64,
    revisions: Option<u32>,
}

impl Report for Policies {
    fn text(&self, page: &mut Page<'_>) -> io::Result<()> {
        for PolicyReport { pattern, policy } in &self.0 {
            let whose = Some(pattern.as_str()).filter(|pattern| !pattern.is_empty());
            writeln!(page, "{}:", whose.unwrap_or("all files"))?;
            for (count, what) in [
                (policy.last, "newest runs"),
                (policy.hourly, "hours"),
                (policy.daily, "days"),
                (policy.weekly, "weeks"),
                (policy.monthly, "months"),
                (policy.yearly, "years"),
                (policy.revisions, "revisions of each file"),
            ] {
                match count {
                    0 => {}
                    Policy::ALL => writeln!(page, "  all {what}")?,
                    _ => writeln!(page, "  {} {what}", Count(count.into()))?,
                }
            }
            if policy.within_ms > 0 {
                writeln!(
                    page,
                    "  everything of the last {} hours",
                    Count(policy.within_ms / 3_600_000)
                )?;
            }
        }
        Ok(())
    }

    fn json(&self, page: &mut Page<'_>) -> io::Result<()> {
        // Nothing in place of a number: for ever.
        let number = |count: u32| (count != Policy::ALL).then_some(count);
        for PolicyReport { pattern, policy } in &self.0 {
            let view = PolicyView {
                pattern: Some(pattern.as_str()).filter(|pattern| !pattern.is_empty()),
                last: number(policy.last),
                hourly: number(policy.hourly),
                daily: number(policy.daily),
                weekly: number(policy.weekly),
                monthly: number(policy.monthly),
                yearly: number(policy.yearly),
                within_seconds: policy.within_ms / 1000,
                revisions: number(policy.revisions),
            };
            page.json("policy", &view)?;
        }
        Ok(())
    }
}
