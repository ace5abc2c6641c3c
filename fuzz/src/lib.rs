//! What every fuzz target is: one entry of [`maimo_sim::parsers::TARGETS`], handed to libFuzzer.
//!
//! The claims are the table's, and the structured random run in the ordinary tests holds the same ones; a crash here is one of them broken.

use std::{fs, path::Path};

#[doc(hidden)]
pub use libfuzzer_sys;
use maimo_sim::parsers::{self, Target};

/// Names the folder that a target writes its seeds into before it begins, if set.
const SEEDS_VARIABLE: &str = "MAIMO_FUZZ_SEEDS";

/// Makes the fuzz target of the table's entry `$name`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        static TARGET: std::sync::LazyLock<$crate::Entry> =
            std::sync::LazyLock::new(|| $crate::begin($name));

        $crate::libfuzzer_sys::fuzz_target!(
            init: drop(std::sync::LazyLock::force(&TARGET)),
            |bytes: &[u8]| {
                (TARGET.run)(bytes);
            }
        );
    };
}

/// An entry of the table.
pub type Entry = &'static Target;

/// Finds the entry called `name`, and writes its seeds where the environment says.
///
/// # Panics
///
/// If there is no such entry, or its seeds cannot be written.
pub fn begin(name: &str) -> Entry {
    let target = parsers::find(name).expect("the table has an entry of this name");
    if let Some(folder) = std::env::var_os(SEEDS_VARIABLE) {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let file = Path::new(&folder).join(format!("seed-{number:02}"));
            fs::write(file, seed).expect("the corpus can be written");
        }
    }
    target
}
