//! Summaries: what the events of a span come to, of which aggregates are read.

use super::tile::{Sum, Tile};
use crate::bug;
use crate::features::value::Value;
use std::collections::vec_deque::Iter;

/// What a read makes of the events of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// How many there are.
    Count,
    /// The sum of their amounts.
    Sum,
    /// The mean of them.
    Mean,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their standard deviation, that of a population.
    Std,
}

impl Aggregate {
    /// All of them, by the names that fields are asked for by.
    const NAMES: [(&'static [u8], Self); 6] = [
        (b"count", Self::Count),
        (b"sum", Self::Sum),
        (b"mean", Self::Mean),
        (b"min", Self::Min),
        (b"max", Self::Max),
        (b"std", Self::Std),
    ];

    /// The one of a name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, aggregate)| *aggregate)
    }
}

/// What tiles come to that were added up one after the other, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    /// How many tiles there are.
    pub tiles: u64,
    count: u64,
    sum: Sum,
    min: f64,
    max: f64,
}

impl Totals {
    /// Those of some tiles, oldest first.
    #[inline(never)]
    pub fn of(tiles: Iter<Tile>) -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut totals = Self { tiles: 0, count: 0, sum: Sum::default(), min, max };
        // Not by `for`, which asks of each tile where in the ring it is.
        tiles.for_each(|tile| totals.add(tile));
        totals
    }

    /// Adds a tile that is younger than all of them.
    #[inline(always)]
    pub fn add(&mut self, tile: &Tile) {
        self.tiles += 1;
        self.count += tile.count();
        self.sum = self.sum.with(tile.sum);
        // Of 0 and -0 the first stays, on every processor.
        self.min = if tile.min < self.min { tile.min } else { self.min };
        self.max = if tile.max > self.max { tile.max } else { self.max };
    }
}

/// What the events of a span come to.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// How many tiles were looked at for it, or would have been, had they not been added
    /// up before.
    pub tiles: u64,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    /// The deviation, if it was asked for.
    std: Option<f64>,
}

impl Summary {
    /// That of the totals of tiles, which are looked at again where the totals do not say
    /// all.
    pub fn new<'t>(totals: Totals, deviates: bool, tiles: impl Fn() -> Iter<'t, Tile>) -> Self {
        let sum = match totals.sum.value() {
            sum if sum.is_finite() => sum,
            // The error of what overflows is none.
            _ => tiles().fold(0.0, |sum, tile| sum + tile.sum.value()),
        };
        let Totals { tiles: looked_at, count, min, max, .. } = totals;
        let mut summary = Self { tiles: looked_at, count, sum, min, max, std: None };
        if deviates {
            summary.tiles += looked_at;
            summary.std = Some(match min == max {
                true => 0.0,
                false => deviation(tiles(), count, summary.mean()),
            });
        }
        summary
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// What one asks for of it: a count is an integer, all else a double. Where sums
    /// overflow it is infinite, and NaN where they do so both ways. Of no events there is
    /// no mean, extreme and deviation.
    #[inline]
    pub fn read(&self, aggregate: Aggregate) -> Option<Value<'static>> {
        let value = match aggregate {
            // There are not as many events as that.
            Aggregate::Count => return Some(Value::I64(self.count.cast_signed())),
            Aggregate::Sum => self.sum,
            _ if self.count == 0 => return None,
            Aggregate::Mean => self.mean(),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Std => self.std.unwrap_or_else(|| bug("a deviation not asked for")),
        };
        // One NaN, whatever the processor makes of it.
        Some(Value::F64(if value.is_nan() { f64::NAN } else { value }))
    }
}

/// The standard deviation of the events of tiles, as Chan, Golub and LeVeque put together
/// samples: "Algorithms for computing the sample variance", The American Statistician 37
/// (1983).
#[inline(never)]
fn deviation(tiles: Iter<Tile>, count: u64, mean: f64) -> f64 {
    let spread: f64 =
        tiles.map(|tile| tile.spread + tile.count() as f64 * (tile.mean() - mean).powi(2)).sum();
    let std = (spread / count as f64).sqrt();
    // Of sums that overflow both ways there is no mean.
    if std.is_nan() { f64::INFINITY } else { std }
}
