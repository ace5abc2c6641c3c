//! Progress: what the engine tells while it works, drawn on a terminal, in plain lines now and then elsewhere.
//!
//! Events may come many times a millisecond and from several threads: each only counts, unless something is due to be shown.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use maimo_client::progress::{Control, Event, Phase};
use serde::Serialize;

use super::{Far, Out, Tor, Ui, page::shown_path};
use crate::{
    quantity::{Count, Size},
    signals,
};

/// How often a terminal is drawn, at most.
const DRAWN_HZ: u8 = 10;
/// How often is looked whether something is due.
const TICK: Duration = Duration::from_millis(100);
/// How long a rate must have been seen before it says anything about the rest.
const ETA_AFTER: Duration = Duration::from_secs(1);

/// The progress of one command. Dropping it clears what was drawn.
pub(crate) struct Progress {
    control: Control,
    shown: Shown,
}

/// Where it is shown.
enum Shown {
    Here(Arc<Meter>),
    Far(Arc<dyn Far>),
}

impl Progress {
    pub(super) fn new(ui: &Ui, beside_bytes: bool) -> Self {
        if let Out::Far(far, _) = &ui.out {
            far.begin(beside_bytes);
            return Self {
                control: far.control().clone(),
                shown: Shown::Far(Arc::clone(far)),
            };
        }
        let meter = Arc::new(Meter::new(ui, beside_bytes));
        let observer = Arc::clone(&meter);
        let control = Control::new(move |event| observer.take(event));
        signals::cancel_on_interrupt(&control);
        let tells = Arc::downgrade(&meter);
        ui.link().listen(move |tor| {
            if let Some(meter) = tells.upgrade() {
                meter.tor(*tor);
            }
        });
        let ticks = Arc::downgrade(&meter);
        // Without it nothing but events would be shown; no harm where the system gives no thread.
        let _ = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                while ticks.upgrade().is_some_and(|meter| meter.tick()) {
                    thread::sleep(TICK);
                }
            });
        Self {
            control,
            shown: Shown::Here(meter),
        }
    }

    /// Writes a line to standard error, above what is drawn.
    pub(crate) fn line(&self, ui: &Ui, text: &str) {
        match &self.shown {
            Shown::Here(meter) => meter.aside(|ui| ui.line(text)),
            Shown::Far(_) => ui.line(text),
        }
    }

    /// Returns what the engine tells its events to; an interrupt cancels it.
    pub(crate) const fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.shown {
            Shown::Here(meter) => {
                // Who keeps the control must not draw among the results.
                meter.lock().due = None;
                if let Show::Drawn(bar) = &meter.show {
                    bar.finish_and_clear();
                }
            }
            Shown::Far(far) => far.end(),
        }
    }
}

/// How progress is shown.
enum Show {
    Drawn(ProgressBar),
    Lines,
    Json,
    Not,
}

impl Show {
    /// Returns how long to wait before the first time and between two.
    const fn pace(&self) -> (Duration, Duration) {
        match self {
            Self::Drawn(_) => (
                Duration::ZERO,
                Duration::from_millis(1000 / DRAWN_HZ as u64),
            ),
            Self::Lines => (Duration::from_secs(5), Duration::from_secs(30)),
            Self::Json => (Duration::from_secs(1), Duration::from_secs(1)),
            Self::Not => (Duration::MAX, Duration::MAX),
        }
    }
}

struct Meter {
    ui: Ui,
    show: Show,
    state: Mutex<State>,
}

struct State {
    snapshot: Snapshot,
    began: Instant,
    due: Option<Instant>,
    troubles: u64,
    tor: Option<Tor>,
}

/// How far a phase is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Snapshot {
    phase: Option<Phase>,
    files_done: u64,
    files_total: u64,
    bytes_done: u64,
    bytes_total: u64,
    elapsed: Duration,
    /// How far Tor is, while it is not there yet.
    connecting: Option<Tor>,
    /// How many circuits carry it, over a network.
    circuits: Option<usize>,
}

impl Meter {
    fn new(ui: &Ui, beside_bytes: bool) -> Self {
        let show = if ui.is_json() && beside_bytes {
            Show::Not
        } else if ui.is_json() && !ui.is_quiet() {
            Show::Json
        } else if ui.is_quiet() {
            Show::Not
        } else if ui.is_terminal() {
            Show::Drawn(drawn())
        } else {
            Show::Lines
        };
        let now = Instant::now();
        let due = now.checked_add(show.pace().0);
        Self {
            ui: ui.clone(),
            show,
            state: Mutex::new(State {
                snapshot: Snapshot::default(),
                began: now,
                due,
                troubles: 0,
                tor: None,
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Counts are whole after every statement: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Phase(phase) => {
                state.began = Instant::now();
                state.snapshot = Snapshot {
                    phase: Some(phase),
                    ..Snapshot::default()
                };
            }
            Event::Total { files, bytes } => {
                state.snapshot.files_total = files;
                state.snapshot.bytes_total = bytes;
            }
            Event::Done { files, bytes } => {
                state.snapshot.files_done = files;
                state.snapshot.bytes_done = bytes;
            }
            Event::Trouble { path, message } => {
                state.troubles += 1;
                self.aside(|ui| ui.warn(&format!("{}: {message}", shown_path(&path))));
            }
            Event::Notice(text) => self.aside(|ui| ui.warn(&text)),
            Event::Committed { sequence } if self.ui.is_verbose() => {
                self.aside(|ui| ui.say(&format!("state {sequence} is acknowledged")));
            }
            _ => {}
        }
        self.draw_if_due(&mut state);
    }

    /// Shows what is due while the engine waits for a network and tells nothing. Returns whether there is still something to show.
    fn tick(&self) -> bool {
        let mut state = self.lock();
        if state.snapshot.phase.is_some() {
            self.draw_if_due(&mut state);
        }
        state.due.is_some()
    }

    /// Shows how far Tor is: a command that only waits tells nothing else.
    fn tor(&self, tor: Tor) {
        let mut state = self.lock();
        let is_news = tor.is_news(state.tor);
        match &self.show {
            Show::Lines if is_news => self.ui.say(&tor.to_string()),
            Show::Lines | Show::Not => {}
            Show::Drawn(_) | Show::Json => self.draw_if_due(&mut state),
        }
        if is_news {
            state.tor = Some(tor);
        }
    }

    fn draw_if_due(&self, state: &mut State) {
        let now = Instant::now();
        if state.due.is_some_and(|due| now >= due) {
            state.due = now.checked_add(self.show.pace().1);
            state.snapshot.elapsed = now.duration_since(state.began);
            state.snapshot.connecting = self.ui.link().connecting();
            state.snapshot.circuits = self.ui.link().circuits();
            self.draw(&state.snapshot);
        }
    }

    fn draw(&self, snapshot: &Snapshot) {
        match &self.show {
            Show::Drawn(bar) => bar.set_message(snapshot.line()),
            Show::Lines => self.ui.say(&snapshot.line()),
            Show::Json => {
                if let Ok(line) = serde_json::to_string(&snapshot.view()) {
                    // A reader who left is noticed when the summary is written.
                    let _ = writeln!(io::stdout().lock(), "{line}");
                }
            }
            Show::Not => {}
        }
    }

    /// Writes a line above what is drawn.
    fn aside(&self, write: impl FnOnce(&Ui)) {
        match &self.show {
            Show::Drawn(bar) => bar.suspend(|| write(&self.ui)),
            _ => write(&self.ui),
        }
    }
}

fn drawn() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN_HZ));
    let style = ProgressStyle::with_template("{spinner} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    // Shows that it lives while a phase tells nothing.
    bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(DRAWN_HZ)));
    bar
}

impl Snapshot {
    /// Returns bytes a second.
    fn rate(&self) -> Option<u64> {
        let millis = u64::try_from(self.elapsed.as_millis()).ok()?;
        (self.elapsed >= ETA_AFTER && self.bytes_done > 0)
            .then(|| self.bytes_done.saturating_mul(1000) / millis)
    }

    /// Returns how much of it is done, in percent: by bytes where there are any, else by files.
    fn percent(&self) -> Option<u64> {
        let (done, total) = if self.bytes_total > 0 {
            (self.bytes_done, self.bytes_total)
        } else {
            (self.files_done, self.files_total)
        };
        let percent = u128::from(done.min(total)) * 100;
        u64::try_from(percent.checked_div(u128::from(total))?).ok()
    }

    /// Returns the seconds that the rest takes at this rate.
    fn remaining(&self) -> Option<u64> {
        let rest = self.bytes_total.checked_sub(self.bytes_done)?;
        (rest > 0).then_some(rest)?.checked_div(self.rate()?.max(1))
    }

    /// Returns it in words: phase, files, bytes, percent, rate, time to go.
    fn line(&self) -> String {
        let mut line = self.phase.map_or("working", phase_name).to_owned();
        let mut add = |text: std::fmt::Arguments<'_>| {
            let _ = line.write_fmt(format_args!("  {text}"));
        };
        if self.files_total > 0 {
            let (done, total) = (Count(self.files_done), Count(self.files_total));
            add(format_args!("{done} of {total} files"));
        } else if self.files_done > 0 {
            add(format_args!("{} files", Count(self.files_done)));
        }
        if self.bytes_total > 0 {
            let (done, total) = (Size(self.bytes_done), Size(self.bytes_total));
            add(format_args!("{done} of {total}"));
        } else if self.bytes_done > 0 {
            add(format_args!("{}", Size(self.bytes_done)));
        }
        if let Some(percent) = self.percent() {
            add(format_args!("{percent} %"));
        }
        if let Some(rate) = self.rate() {
            add(format_args!("{}/s", Size(rate)));
        }
        if let Some(seconds) = self.remaining() {
            add(format_args!("{} to go", clock_face(seconds)));
        }
        if let Some(circuits) = self.circuits {
            let s = if circuits == 1 { "" } else { "s" };
            add(format_args!("{circuits} circuit{s}"));
        }
        if let Some(tor) = self.connecting {
            add(format_args!("{tor}"));
        }
        line
    }

    fn view(&self) -> StatusView {
        StatusView {
            message_type: "status",
            phase: self.phase.map(phase_name),
            files_done: self.files_done,
            files_total: self.files_total,
            bytes_done: self.bytes_done,
            bytes_total: self.bytes_total,
            bytes_per_second: self.rate(),
            seconds_elapsed: self.elapsed.as_secs(),
            seconds_remaining: self.remaining(),
            circuits: self.circuits,
            tor_percent: self.connecting.map(|tor| tor.percent),
        }
    }
}

/// A `status` line.
#[derive(Serialize)]
struct StatusView {
    message_type: &'static str,
    phase: Option<&'static str>,
    files_done: u64,
    files_total: u64,
    bytes_done: u64,
    bytes_total: u64,
    bytes_per_second: Option<u64>,
    seconds_elapsed: u64,
    seconds_remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    circuits: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tor_percent: Option<u8>,
}

/// Returns a phase in a word.
pub(crate) const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Synchronising => "synchronising",
        Phase::Scanning => "scanning",
        Phase::Storing => "storing",
        Phase::Committing => "committing",
        Phase::Proving => "proving",
        Phase::Deleting => "deleting",
        Phase::Retrieving => "retrieving",
        Phase::Pruning => "pruning",
        Phase::Mirroring => "mirroring",
        Phase::Recovering => "recovering",
        Phase::Repairing => "repairing",
        _ => "working",
    }
}

/// Returns hours (where there are any), minutes and seconds.
fn clock_face(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            phase: Some(Phase::Storing),
            files_done: 1200,
            files_total: 20_000,
            bytes_done: 64 << 20,
            bytes_total: 256 << 20,
            elapsed: Duration::from_secs(2),
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_network_tells_its_circuits_and_how_far_tor_is() {
        let far = Snapshot {
            circuits: Some(3),
            ..snapshot()
        };
        assert!(
            far.line().ends_with("0:06 to go  3 circuits"),
            "{}",
            far.line()
        );
        let waiting = Snapshot {
            connecting: Some(Tor {
                percent: 40,
                trouble: None,
            }),
            ..Snapshot::default()
        };
        assert_eq!(waiting.line(), "working  connecting to Tor: 40 %");
        assert_eq!(waiting.view().tor_percent, Some(40));
    }

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long() {
        assert_eq!(
            snapshot().line(),
            "storing  1,200 of 20,000 files  64.0 MiB of 256 MiB  25 %  32.0 MiB/s  0:06 to go"
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let start = Snapshot {
            phase: Some(Phase::Scanning),
            files_done: 7,
            ..Snapshot::default()
        };
        assert_eq!(start.line(), "scanning  7 files");
        assert_eq!(start.view().seconds_remaining, None);
        assert_eq!(Snapshot::default().line(), "working");
    }

    #[test]
    fn more_done_than_was_expected_is_all_of_it() {
        let over = Snapshot {
            bytes_done: 300 << 20,
            ..snapshot()
        };
        assert_eq!(over.percent(), Some(100));
        assert_eq!(over.remaining(), None);
    }

    #[test]
    fn a_new_phase_begins_from_nothing_and_troubles_are_counted() {
        let ui = Ui {
            json: false,
            talk: super::super::Talk::Quiet,
            terminal: false,
            colour: false,
            link: super::super::Link::default(),
            out: Out::Here,
        };
        let progress = Progress::new(&ui, false);
        progress.control().tell(Event::Done { files: 3, bytes: 9 });
        progress.control().tell(Event::Phase(Phase::Deleting));
        let trouble = Event::Trouble {
            path: "/x".into(),
            message: "cannot be read".to_owned(),
        };
        progress.control().tell(trouble);
        let Shown::Here(meter) = &progress.shown else {
            panic!("it is shown here");
        };
        let state = meter.lock();
        assert_eq!(state.snapshot.files_done, 0);
        assert_eq!(state.troubles, 1);
        drop(state);
    }

    #[test]
    fn times_are_read_like_a_clock() {
        assert_eq!(clock_face(59), "0:59");
        assert_eq!(clock_face(3601), "1:00:01");
    }
}
