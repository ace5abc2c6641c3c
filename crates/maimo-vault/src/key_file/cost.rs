//! [`PassphraseCost`]: what Argon2id is made to cost, within bounds that hold for hostile files and hasty users alike.

use core::ops::RangeInclusive;

use maimo_core::codec::{ParseError, Put, Reader};

/// Argon2id's memory, passes and lanes, within their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl PassphraseCost {
    /// 256 MiB, 3 passes, 1 lane.
    pub const DEFAULT: Self = Self {
        memory_kib: 256 * 1024,
        passes: 3,
        lanes: 1,
    };
    /// Allowed memory in KiB. Below 19 MiB a guess is too cheap; above 1 GiB a file from elsewhere could exhaust a machine.
    pub const MEMORY_KIB: RangeInclusive<u32> = 19 * 1024..=1024 * 1024;
    /// Allowed passes over the memory.
    pub const PASSES: RangeInclusive<u32> = 2..=16;
    /// Allowed lanes.
    pub const LANES: RangeInclusive<u32> = 1..=16;

    pub(super) const ENCODED_BYTES: usize = 12;

    /// Checks a cost against its bounds; the error names the field that is out of them.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, ParseError> {
        check(memory_kib, &Self::MEMORY_KIB, "memory of the passphrase")?;
        check(passes, &Self::PASSES, "passes of the passphrase")?;
        check(lanes, &Self::LANES, "lanes of the passphrase")?;
        Ok(Self {
            memory_kib,
            passes,
            lanes,
        })
    }

    /// Returns the memory in KiB.
    pub const fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Returns the passes over the memory.
    pub const fn passes(self) -> u32 {
        self.passes
    }

    /// Returns the lanes.
    pub const fn lanes(self) -> u32 {
        self.lanes
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.put_u32(self.memory_kib);
        out.put_u32(self.passes);
        out.put_u32(self.lanes);
    }

    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let memory_kib = reader.u32("memory of the passphrase")?;
        let passes = reader.u32("passes of the passphrase")?;
        let lanes = reader.u32("lanes of the passphrase")?;
        Self::new(memory_kib, passes, lanes)
    }
}

fn check(value: u32, bounds: &RangeInclusive<u32>, what: &'static str) -> Result<(), ParseError> {
    if value > *bounds.end() {
        Err(ParseError::TooLarge {
            what,
            found: value.into(),
            max: (*bounds.end()).into(),
        })
    } else if value < *bounds.start() {
        Err(ParseError::Invalid { what })
    } else {
        Ok(())
    }
}
