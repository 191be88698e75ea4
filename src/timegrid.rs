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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::MAX_TIME_US;
    use proptest::prelude::*;

    proptest! {
        /// A tile has the moments from the end of the one before to its own.
        #[test]
        fn every_moment_has_one_tile(
            tile_us in prop_oneof![1..100u64, 1..=MAX_TIME_US],
            at_us in prop_oneof![0..1_000u64, 0..=MAX_TIME_US],
        ) {
            let grid = TimeGrid { tile_us };
            let tile = grid.tile(at_us);
            prop_assert!(at_us <= grid.end_us(tile));
            prop_assert!(tile == 0 || grid.end_us(tile - 1) < at_us);
            prop_assert_eq!(grid.tile(grid.end_us(tile)), tile);
            prop_assert_eq!(grid.tile(grid.end_us(tile) + 1), tile + 1);
        }

        #[test]
        fn the_newest_tiles_end_with_the_running_one(
            tile_us in 1..100u64,
            at_us in 0..10_000u64,
            now_us in 0..10_000u64,
            tiles in 1..200u64,
        ) {
            let grid = TimeGrid { tile_us };
            let (tile, running) = (at_us / tile_us, now_us / tile_us);
            let is_newest = tile <= running && running - tile < tiles;
            prop_assert_eq!(grid.newest(tiles, now_us).contains(&tile), is_newest);
        }
    }
}
