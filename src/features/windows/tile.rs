//! Tiles: the events of one length of time, summed up.

use crate::wire::{Reader, push_number};

/// A sum with the error of its rounding: Neumaier, "Rundungsfehleranalyse einiger
/// Verfahren zur Summation endlicher Summen", ZAMM 54 (1974). Once it has overflown
/// it stays infinite.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn add(&mut self, amount: f64) {
        let high = self.high + amount;
        let error = if self.high.abs() >= amount.abs() {
            (self.high - high) + amount
        } else {
            (amount - high) + self.high
        };
        let sum = Self { high, low: self.low + error };
        *self = match sum.value().is_finite() {
            true => sum,
            // The error of what is infinite is none.
            false if high.is_finite() => Self { high: sum.value(), low: 0.0 },
            false => Self { high, low: 0.0 },
        };
    }

    /// The sum of both, without a look at which is the larger: Knuth, "The Art of
    /// Computer Programming" 2, 4.2.2. Of what overflows it is none.
    #[inline]
    pub fn with(self, other: Self) -> Self {
        let high = self.high + other.high;
        let (of_other, of_self) = (high - self.high, high - (high - self.high));
        let error = (self.high - of_self) + (other.high - of_other);
        Self { high, low: self.low + (other.low + error) }
    }

    /// The nearest double.
    pub fn value(self) -> f64 {
        self.high + self.low
    }

    /// Whether adding finite amounts can have made it.
    fn can_be(self) -> bool {
        self.value().is_finite() || (self.high.is_infinite() && self.low.to_bits() == 0)
    }
}

/// The events of a tile.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// The lowest 16 bits of the tile's number, then how many events fell into it. A
    /// ring is shorter than 2^16 tiles, so that the newest's number has the rest.
    number_and_count: u64,
    /// The sum of their amounts.
    pub sum: Sum,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The sum of the squares of how far the amounts are from their mean.
    pub spread: f64,
}

/// Bits of a count.
const COUNT_BITS: u32 = 48;

/// The most events that a tile counts, so that all tiles of a span together do not
/// wrap.
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Tile {
    /// That of a number, with its first amount.
    pub fn new(number: u64, amount: f64) -> Self {
        let mut sum = Sum::default();
        sum.add(amount);
        Self {
            number_and_count: (number << COUNT_BITS) | 1,
            sum,
            min: amount,
            max: amount,
            spread: 0.0,
        }
    }

    /// How many events it has.
    #[inline]
    pub fn count(&self) -> u64 {
        self.number_and_count & MAX_COUNT
    }

    /// How many tiles it lies before one that is not before it.
    #[inline]
    pub fn before(&self, number: u64) -> u64 {
        u64::from((number as u16).wrapping_sub((self.number_and_count >> COUNT_BITS) as u16))
    }

    /// The mean of the amounts.
    pub fn mean(&self) -> f64 {
        self.sum.value() / self.count() as f64
    }

    /// Adds an amount. The spread grows as by Welford, "Note on a method for
    /// calculating corrected sums of squares and products", Technometrics 4 (1962).
    pub fn add(&mut self, amount: f64) {
        let old_mean = self.mean();
        self.sum.add(amount);
        if self.count() < MAX_COUNT {
            self.number_and_count += 1;
        }
        let growth = (amount - old_mean) * (amount - self.mean());
        if !growth.is_finite() {
            self.spread = f64::INFINITY;
        } else if growth > 0.0 {
            self.spread += growth;
        }
        // Of 0 and -0 the first stays, on every processor.
        if amount < self.min {
            self.min = amount;
        }
        if amount > self.max {
            self.max = amount;
        }
    }

    /// All that it is but its number.
    fn bits(&self) -> [u64; 6] {
        let [high, low] = [self.sum.high, self.sum.low].map(f64::to_bits);
        let [min, max, spread] = [self.min, self.max, self.spread].map(f64::to_bits);
        [self.count(), high, low, min, max, spread]
    }

    /// Appends the payload, without its number.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_number(self.count(), out);
        let double = |double: f64, out: &mut Vec<u8>| out.extend(double.to_le_bytes());
        if self.count() == 1 {
            double(self.min, out);
        } else {
            for one in [self.sum.high, self.sum.low, self.min, self.max, self.spread] {
                double(one, out);
            }
        }
    }

    /// Reads the payload of the tile of a number; `None` unless it is one of a tile that
    /// can be.
    pub fn decode(number: u64, reader: &mut Reader) -> Option<Self> {
        let count = reader.number().filter(|count| (1..=MAX_COUNT).contains(count))?;
        let mut double = || reader.array().map(f64::from_le_bytes);
        if count == 1 {
            let amount = double()?;
            return amount.is_finite().then(|| Self::new(number, amount));
        }
        let tile = Self {
            number_and_count: (number << COUNT_BITS) | count,
            sum: Sum { high: double()?, low: double()? },
            min: double()?,
            max: double()?,
            spread: double()?,
        };
        let extremes = tile.min.is_finite() && tile.max.is_finite() && tile.min <= tile.max;
        (extremes && tile.sum.can_be() && tile.spread >= 0.0).then_some(tile)
    }
}

/// The same events, to the bit, in whichever tile.
impl PartialEq for Tile {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}
