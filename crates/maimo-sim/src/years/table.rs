//! The years side by side, each figure beside its target.
#![expect(
    clippy::cast_precision_loss,
    reason = "figures are printed with a few digits"
)]

use core::fmt;

use super::{Figures, Scale};

/// What came of the years.
#[derive(Debug, Clone)]
pub struct Table {
    /// How much was simulated.
    pub scale: Scale,
    /// A year of a home folder.
    pub home: Figures,
    /// A year of a store of tiny files.
    pub tiny: Figures,
    /// A year of a daemon that stores every minute.
    pub minutely: Figures,
    /// Bytes of the journal of many small files, freshly stored.
    pub fresh_journal: u64,
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// One figure and what it should be.
struct Cell {
    text: String,
    target: Option<(f64, bool)>,
}

impl Cell {
    const fn plain(text: String) -> Self {
        Self { text, target: None }
    }

    /// A figure that should be at most `most`, in the unit it is shown in.
    fn at_most(text: String, value: f64, most: f64) -> Self {
        Self {
            text,
            target: Some((most, value <= most)),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((most, is_met)) = self.target else {
            return f.pad(&self.text);
        };
        let verdict = if is_met { "met" } else { "MISSED" };
        f.pad(&format!("{} <= {most}: {verdict}", self.text))
    }
}

impl Table {
    /// Returns the names of the figures that miss their targets.
    pub fn missed(&self) -> Vec<String> {
        let columns = ["home folder", "tiny files", "minutely daemon"];
        let missed = |cell: &Cell| cell.target.is_some_and(|(_, is_met)| !is_met);
        let mut names: Vec<String> = self
            .rows()
            .iter()
            .flat_map(|(name, cells)| columns.iter().zip(cells).map(move |cell| (name, cell)))
            .filter(|(_, (_, cell))| missed(cell))
            .map(|(name, (column, _))| format!("{column}: {name}"))
            .collect();
        if missed(&self.fresh()) {
            names.push("journal of small files freshly stored".to_owned());
        }
        names
    }

    fn years(&self) -> [&Figures; 3] {
        [&self.home, &self.tiny, &self.minutely]
    }

    fn rows(&self) -> Vec<(&'static str, [Cell; 3])> {
        let row = |cell: fn(&Figures) -> Cell| self.years().map(cell);
        let mut rows = vec![
            ("commits", row(|year| Cell::plain(year.commits.to_string()))),
            (
                "KiB a commit, mean",
                row(|year| Cell::plain(kib(year.commit_bytes.mean()))),
            ),
            (
                "MiB a commit, worst",
                row(|year| at_most_mib(year.commit_bytes.worst(), 16.0)),
            ),
            (
                "KiB a commit that a store waits for, mean",
                row(|year| Cell::plain(kib(year.waited_bytes.mean()))),
            ),
            (
                "the same after the first store, worst",
                row(|year| Cell::plain(kib(year.waited_later_bytes.worst()))),
            ),
            (
                "requests a commit, mean",
                row(|year| two(year.requests.mean())),
            ),
            (
                "requests a commit, worst",
                row(|year| Cell::plain(year.requests.worst().to_string())),
            ),
            (
                "content stored, MiB",
                row(|year| Cell::plain(mib(year.content))),
            ),
            (
                "data living at the end, MiB",
                row(|year| Cell::plain(mib(year.data_living))),
            ),
            (
                "journal at the end, KiB",
                row(|year| Cell::plain(kib(year.journal as f64))),
            ),
            (
                "inventories at the end, KiB",
                row(|year| Cell::plain(kib(year.inventory as f64))),
            ),
            (
                "data packs at the end",
                row(|year| Cell::plain(year.data_packs.to_string())),
            ),
            (
                "vital packs at the end",
                row(|year| Cell::plain(year.vital_packs.to_string())),
            ),
            ("waste %, mean", row(|year| two(year.waste_percent.mean()))),
            (
                "waste %, worst",
                row(|year| two(year.waste_percent.worst())),
            ),
            (
                "write amplification",
                row(|year| two(year.write_amplification())),
            ),
            (
                "a recovery reads, KiB, mean",
                row(|year| Cell::plain(kib(year.recovery.mean()))),
            ),
            (
                "a recovery against the live journal, mean",
                row(|year| {
                    let ratio = year.recovery_ratio.mean();
                    Cell::at_most(format!("{ratio:.3}"), ratio, 1.1)
                }),
            ),
            (
                "packs a recovery reads, mean",
                row(|year| {
                    let packs = year.recovery_packs.mean();
                    Cell::at_most(format!("{packs:.1}"), packs, 30.0)
                }),
            ),
        ];
        // Some targets are of some years only.
        for (name, cells) in &mut rows {
            let mut bound = |column: usize, value: f64, most: f64| {
                let text = core::mem::take(&mut cells[column].text);
                cells[column] = Cell::at_most(text, value, most);
            };
            match *name {
                "KiB a commit, mean" => bound(2, self.minutely.commit_bytes.mean() / KIB, 10.0),
                "waste %, worst" => {
                    bound(0, self.home.waste_percent.worst(), 10.0);
                    bound(1, self.tiny.waste_percent.worst(), 10.0);
                }
                "write amplification" => {
                    bound(0, self.home.write_amplification(), 1.05);
                    bound(1, self.tiny.write_amplification(), 1.6);
                }
                _ => {}
            }
        }
        rows
    }

    fn fresh(&self) -> Cell {
        // Scaled with the number of files where that is not a million.
        let most = 110.0 * self.scale.fresh_files as f64 / 1_000_000.0;
        at_most_mib(self.fresh_journal as f64, most)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scale {
            home,
            tiny,
            minutely_days,
            fresh_files,
        } = &self.scale;
        writeln!(
            f,
            "home folder: {} files, {} days, a store and a prune a day, Zipf's law over {} edits a day\n\
             tiny files: {} files of 100 to 4,000 bytes, {} days, a store a day (0.5 to 0.9 % change), a prune a week,\n\
             \x20 the likeness of a store {} times as large: waste floor and small packs are scaled with it\n\
             minutely daemon: {minutely_days} days, 30 files, a store a minute, a prune a day\n\
             one device, one channel, no faults; a figure is of the bytes and requests of a commit beyond new content's own packs\n",
            home.files, home.days, home.edits, tiny.files, tiny.days, tiny.likeness,
        )?;
        writeln!(
            f,
            "{:42} {:24} {:24} minutely daemon",
            "", "home folder", "tiny files"
        )?;
        for (name, [home, tiny, minutely]) in self.rows() {
            writeln!(f, "{name:42} {home:24} {tiny:24} {minutely}")?;
        }
        let name = format!("journal of {fresh_files} small files, fresh, MiB");
        write!(f, "{name:42} {}", self.fresh())
    }
}

fn two(value: f64) -> Cell {
    Cell::plain(format!("{value:.2}"))
}

fn kib(bytes: f64) -> String {
    format!("{:.1}", bytes / KIB)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

fn at_most_mib(bytes: f64, most: f64) -> Cell {
    let value = bytes / MIB;
    Cell::at_most(format!("{value:.2}"), value, most)
}
