//! A grid of time: tiles of equal length, cut from the epoch on and not from a
//! first event, so that a moment has the same tile whoever asks, and whenever.

use crate::time::Micros;
use std::ops::RangeInclusive;

/// A grid of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeGrid {
    /// How long a tile is; never 0.
    pub tile_us: Micros,
}

impl TimeGrid {
    /// The number of a moment's tile.
    pub const fn tile(self, at_us: Micros) -> u64 {
        at_us / self.tile_us
    }

    /// The last microsecond of a tile.
    pub const fn end_us(self, tile: u64) -> Micros {
        tile.saturating_add(1).saturating_mul(self.tile_us) - 1
    }

    /// The numbers of the so many newest tiles, the running one included; fewer
    /// where time has not seen as many.
    pub const fn newest(self, tiles: u64, now_us: Micros) -> RangeInclusive<u64> {
        let running = self.tile(now_us);
        running.saturating_add(1).saturating_sub(tiles)..=running
    }
}
