//! Time as the engine sees it: microseconds since an epoch that the caller chose.

use core::ops::{Add, Sub};

/// A point in time, in microseconds since the caller's epoch. Never read from a clock here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Microseconds since the caller's epoch.
    pub micros: u64,
}

impl Instant {
    /// `micros` microseconds after the caller's epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self { micros }
    }

    /// Microseconds from `earlier` to `self`; zero when `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.micros.saturating_sub(earlier.micros)
    }
}

impl Add<u64> for Instant {
    type Output = Self;
    /// `micros` microseconds later, saturating.
    fn add(self, micros: u64) -> Self {
        Self { micros: self.micros.saturating_add(micros) }
    }
}

impl Sub<u64> for Instant {
    type Output = Self;
    /// `micros` microseconds earlier, saturating at the epoch.
    fn sub(self, micros: u64) -> Self {
        Self { micros: self.micros.saturating_sub(micros) }
    }
}
