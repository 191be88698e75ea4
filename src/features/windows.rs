//! Windows: the amounts of a field's events, summed up by time. A ring has the tiles
//! of one length that lie in its span, of which a read takes the newest.
//!
//! Only tiles that something fell into are there. They are counted by the clock, and
//! an event falls into the one that its own time is in, late or not. A tile that is
//! ahead of the clock waits there until the clock has come to it.
//!
//! ```text
//! windows   last_seq · newest_ms · spans · for each: tiles · for each, oldest first:
//!           its number, from the one before · count · of one: amount f64
//!           · of more: sum f64 · its low part f64 · min f64 · max f64 · spread f64
//! spans     how many u8 · for each: tile_us · tiles
//! ```

use super::codec;
use super::events::{self, give_back_room, is_new, make_room};
use crate::bounds::MAX_TIME_US;
use crate::bug;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use crate::timegrid::TimeGrid;
use crate::wire::{Reader, push_number};
use arrayvec::ArrayVec;
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::ops::{Deref, RangeInclusive};

/// The most tiles in a span.
pub const MAX_TILES: u64 = 4_096;

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

/// What a read finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Read {
    /// A sum, a mean, an extreme, a deviation. Where sums overflow it is infinite,
    /// and NaN where they do so both ways.
    Value(f64),
    /// How many events.
    Count(u64),
    /// No events, of which there is no mean, extreme and deviation.
    Nothing,
    /// No ring that the span fits.
    NoSuchSpan,
}

/// Why windows cannot be of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The span is no multiple of its tile.
    #[error("SPAN must be a multiple of its TILE, and at least once that")]
    NotWhole,
    /// There are too many tiles in it.
    #[error("SPAN must be at most 4096 times its TILE")]
    TooManyTiles,
    /// Two spans are of one tile.
    #[error("the TILE of both SPANs is the same")]
    SameTile,
    /// The windows that are there have another tile.
    #[error("the field's windows have another TILE")]
    AnotherTile,
}

/// A span of time, and the tiles that it is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    span_us: Micros,
    tile_us: Micros,
}

impl Span {
    /// A span of so many tiles: one or more, all whole.
    pub fn new(span_us: Micros, tile_us: Micros) -> Result<Self, Misfit> {
        if !(1..=MAX_TIME_US).contains(&span_us) || !span_us.is_multiple_of(tile_us) {
            return Err(Misfit::NotWhole);
        }
        if span_us / tile_us > MAX_TILES {
            return Err(Misfit::TooManyTiles);
        }
        Ok(Self { span_us, tile_us })
    }

    /// How long it is.
    pub fn span_us(self) -> Micros {
        self.span_us
    }

    /// How long a tile is.
    pub fn tile_us(self) -> Micros {
        self.tile_us
    }

    fn tiles(self) -> u64 {
        self.span_us / self.tile_us
    }

    fn grid(self) -> TimeGrid {
        TimeGrid { tile_us: self.tile_us }
    }

    /// The numbers of the tiles that are kept: of the span, and ahead of the clock
    /// as many and one more, for a clock that steps back.
    fn kept(self, now_us: Micros) -> RangeInclusive<u64> {
        let in_span = self.grid().newest(self.tiles(), now_us);
        *in_span.start()..=in_span.end().saturating_add(self.tiles() + 1)
    }

    fn takes(self, at_us: Micros, now_us: Micros) -> bool {
        self.kept(now_us).contains(&self.grid().tile(at_us))
    }

    /// The most tiles that are kept.
    fn most(self) -> u64 {
        2 * self.tiles() + 1
    }
}

/// The spans of a field's windows, each of another tile, the finest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(ArrayVec<Span, { Windows::MAX_RINGS }>);

impl Spans {
    /// One span or two.
    pub fn new(first: Span, second: Option<Span>) -> Result<Self, Misfit> {
        let mut spans: ArrayVec<Span, { Windows::MAX_RINGS }> =
            [first].into_iter().chain(second).collect();
        spans.sort_unstable_by_key(|span: &Span| span.tile_us);
        let distinct = spans.is_sorted_by(|one, other| one.tile_us < other.tile_us);
        if distinct { Ok(Self(spans)) } else { Err(Misfit::SameTile) }
    }

    fn of_tile(&self, tile_us: Micros) -> Option<&Span> {
        self.iter().find(|span| span.tile_us == tile_us)
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.len() as u8);
        for span in self.iter() {
            push_number(span.tile_us, out);
            push_number(span.tiles(), out);
        }
    }

    /// Reads a payload; `None` unless it is one of spans that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        let count = reader.u8()?;
        let mut span = || {
            let tile_us = reader.number()?;
            Span::new(tile_us.checked_mul(reader.number()?)?, tile_us).ok()
        };
        let first = span()?;
        let spans = match count {
            1 => Self::new(first, None).ok()?,
            2 => Self::new(first, Some(span()?)).ok()?,
            _ => return None,
        };
        (spans.first() == Some(&first)).then_some(spans)
    }
}

impl Deref for Spans {
    type Target = [Span];

    fn deref(&self) -> &[Span] {
        &self.0
    }
}

/// A sum with the error of its rounding: Neumaier, "Rundungsfehleranalyse einiger
/// Verfahren zur Summation endlicher Summen", ZAMM 54 (1974). Once it has overflown
/// it stays infinite.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
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
    fn with(self, other: Self) -> Self {
        let high = self.high + other.high;
        let (of_other, of_self) = (high - self.high, high - (high - self.high));
        let error = (self.high - of_self) + (other.high - of_other);
        Self { high, low: self.low + (other.low + error) }
    }

    fn value(self) -> f64 {
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
    sum: Sum,
    min: f64,
    max: f64,
    /// The sum of the squares of how far the amounts are from their mean.
    spread: f64,
}

/// Bits of a count.
const COUNT_BITS: u32 = 48;

/// The most events that a tile counts, so that all tiles of a span together do not
/// wrap.
const MAX_COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Tile {
    fn new(number: u64, amount: f64) -> Self {
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

    fn count(&self) -> u64 {
        self.number_and_count & MAX_COUNT
    }

    /// How many tiles it lies before one that is not before it.
    fn before(&self, number: u64) -> u64 {
        u64::from((number as u16).wrapping_sub((self.number_and_count >> COUNT_BITS) as u16))
    }

    fn mean(&self) -> f64 {
        self.sum.value() / self.count() as f64
    }

    /// Adds an amount. The spread grows as by Welford, "Note on a method for
    /// calculating corrected sums of squares and products", Technometrics 4 (1962).
    fn add(&mut self, amount: f64) {
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

    fn encode(&self, out: &mut Vec<u8>) {
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

    fn decode(number: u64, reader: &mut Reader) -> Option<Self> {
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

/// The tiles of one length.
#[derive(Clone, Debug)]
struct Ring {
    span: Span,
    /// The number of the newest tile, if there is any.
    newest: u64,
    /// Oldest first.
    tiles: VecDeque<Tile>,
}

impl Ring {
    fn new(span: Span) -> Self {
        Self { span, newest: 0, tiles: VecDeque::new() }
    }

    /// The tiles and their numbers, oldest first.
    fn numbered(&self) -> impl Iterator<Item = (u64, &Tile)> {
        self.tiles.iter().map(|tile| (self.newest - tile.before(self.newest), tile))
    }

    /// How many tiles have a number below this one.
    fn place(&self, number: u64) -> usize {
        match self.newest.checked_sub(number) {
            None => self.tiles.len(),
            Some(before) => self.tiles.partition_point(|tile| tile.before(self.newest) > before),
        }
    }

    /// The tiles of these numbers.
    fn range(&self, numbers: &RangeInclusive<u64>) -> Iter<'_, Tile> {
        let end = self.place(numbers.end().saturating_add(1));
        self.tiles.range(self.place(*numbers.start()).min(end)..end)
    }

    /// Drops all tiles but these.
    fn keep(&mut self, numbers: &RangeInclusive<u64>) {
        let start = self.place(*numbers.start());
        let end = self.place(numbers.end().saturating_add(1));
        if end < self.tiles.len() {
            self.tiles.truncate(end);
            self.newest -= self.tiles.back().map_or(0, |tile| tile.before(self.newest));
        }
        self.tiles.drain(..start.min(end));
        give_back_room(&mut self.tiles);
    }

    /// Adds an amount to a tile, one of those that are kept.
    fn add(&mut self, number: u64, amount: f64) {
        let place = self.place(number);
        match self.tiles.get_mut(place) {
            Some(tile) if tile.before(self.newest) == self.newest - number => tile.add(amount),
            _ => {
                if place == self.tiles.len() {
                    self.newest = number;
                }
                // While nothing is ahead of the clock, no more than the span's.
                let tiles = self.span.tiles();
                let is_ahead = self.tiles.len() as u64 >= tiles;
                let most = if is_ahead { self.span.most() } else { tiles };
                make_room(&mut self.tiles, most as usize);
                self.tiles.insert(place, Tile::new(number, amount));
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        push_number(self.tiles.len() as u64, out);
        let mut next = 0;
        for (number, tile) in self.numbered() {
            push_number(number - next, out);
            tile.encode(out);
            next = number + 1;
        }
    }

    /// Of which the newest number is at most `last`.
    fn decode(span: Span, last: u64, reader: &mut Reader) -> Option<Self> {
        /// The fewest bytes that a tile takes: a number, a count, an amount.
        const LEAST_BYTES: u64 = 10;
        let count = reader.number()?;
        if count > span.most().min(reader.rest().len() as u64 / LEAST_BYTES) {
            return None;
        }
        let mut tiles = VecDeque::with_capacity(count as usize);
        let (mut first, mut next) = (None, 0u64);
        for _ in 0..count {
            let number = next.checked_add(reader.number()?).filter(|number| *number <= last)?;
            if number - *first.get_or_insert(number) >= span.most() {
                return None;
            }
            tiles.push_back(Tile::decode(number, reader)?);
            next = number + 1;
        }
        Some(Self { span, newest: next.saturating_sub(1), tiles })
    }
}

/// What tests look at of a ring.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingInfo {
    /// Its span.
    pub span: Span,
    /// How many tiles it has.
    pub tiles: usize,
    /// How many events are in them.
    pub events: u64,
}

/// The amounts of a field's events, summed up. The default is of no span.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// The finest first.
    rings: SmallVec<[Ring; 1]>,
    newest_ms: Millis,
    last_seq: Option<u64>,
}

/// A moment in microseconds, the last one where it is beyond that.
fn micros(at_ms: Millis) -> Micros {
    at_ms.saturating_mul(MICROS_PER_MILLI).min(MAX_TIME_US)
}

impl Windows {
    /// The most rings.
    pub const MAX_RINGS: usize = 2;

    /// Bytes of a row that a tile takes.
    pub const TILE_BYTES: usize = size_of::<Tile>();

    /// Has the blocks of the tiles moved.
    pub fn relocate(&mut self, tiles: impl Fn(&mut VecDeque<Tile>)) {
        self.rings.iter_mut().for_each(|ring| tiles(&mut ring.tiles));
    }

    /// Refuses spans of other tiles. Rings are known by their tile: a call names some
    /// of them, or all and one more.
    pub fn check(&self, spans: &Spans) -> Result<(), Misfit> {
        let has = |span: &Span| self.rings.iter().any(|ring| ring.span.tile_us == span.tile_us);
        let named = |ring: &Ring| spans.of_tile(ring.span.tile_us).is_some();
        let fits = spans.iter().all(has) || self.rings.iter().all(named);
        if fits { Ok(()) } else { Err(Misfit::AnotherTile) }
    }

    /// Whether any ring would take an event: not if its SEQ was seen, or if it is
    /// older than every span.
    pub fn would_take(
        &self,
        spans: &Spans,
        at_ms: Millis,
        seq: Option<u64>,
        now_ms: Millis,
    ) -> bool {
        let (at_us, now_us) = (micros(at_ms), micros(now_ms));
        let own = self.rings.iter().map(|ring| ring.span);
        let unnamed = own.filter(|span| spans.of_tile(span.tile_us).is_none());
        is_new(seq, self.last_seq)
            && spans.iter().copied().chain(unnamed).any(|span| span.takes(at_us, now_us))
    }

    /// How many tiles come at most when an event happens: one in each ring that takes it
    /// and has none there.
    pub fn new_tiles(&self, spans: &Spans, at_ms: Millis, now_ms: Millis) -> usize {
        let (at_us, now_us) = (micros(at_ms), micros(now_ms));
        let has = |span: &Span| {
            let ring = self.rings.iter().find(|ring| ring.span.tile_us == span.tile_us);
            let number = span.grid().tile(at_us);
            ring.is_some_and(|ring| ring.range(&(number..=number)).next().is_some())
        };
        let own = self.rings.iter().map(|ring| ring.span);
        let unnamed = own.filter(|span| spans.of_tile(span.tile_us).is_none());
        let all = spans.iter().copied().chain(unnamed);
        all.filter(|span| span.takes(at_us, now_us) && !has(span)).count()
    }

    /// Adds an event to each ring that it is not too old for, of spans that were
    /// [checked](Self::check). Rings that a call does not name take it too: a read
    /// finds the same in each.
    pub fn tally(
        &mut self,
        spans: &Spans,
        amount: f64,
        at_ms: Millis,
        seq: Option<u64>,
        now_ms: Millis,
    ) {
        if !amount.is_finite() {
            bug("an amount that is not finite");
        }
        let (at_us, now_us) = (micros(at_ms), micros(now_ms));
        for span in spans.iter() {
            let place = self.rings.partition_point(|ring| ring.span.tile_us < span.tile_us);
            let is_full = self.rings.len() == Self::MAX_RINGS;
            match self.rings.get_mut(place) {
                Some(ring) if ring.span.tile_us == span.tile_us => ring.span = *span,
                _ if is_full => bug("a ring too many"),
                _ => self.rings.insert(place, Ring::new(*span)),
            }
        }
        for ring in &mut self.rings {
            ring.keep(&ring.span.kept(now_us));
            if ring.span.takes(at_us, now_us) {
                ring.add(ring.span.grid().tile(at_us), amount);
            }
        }
        self.newest_ms = self.newest_ms.max(at_ms);
        self.last_seq = self.last_seq.max(seq);
    }

    /// What the newest tiles of a span have, the running one included. They are read
    /// from the finest ring that the span fits. A summary that was made of the same
    /// span is not made again.
    #[inline]
    pub fn read(
        &self,
        aggregate: Aggregate,
        span_us: Micros,
        now_us: Micros,
        looks: &Looks,
    ) -> Read {
        let own = std::ptr::from_ref(self).addr();
        let (slot, mut summary) = match looks.find(own, span_us) {
            Some(found) => found,
            None => {
                let Some(tiles) = self.newest(span_us, now_us) else { return Read::NoSuchSpan };
                looks.count(tiles.len());
                looks.keep(Summary::new(own, span_us, tiles))
            }
        };
        if aggregate == Aggregate::Std && summary.std.is_none() {
            let tiles = self.newest(span_us, now_us);
            let tiles = tiles.unwrap_or_else(|| bug("a span that was summed up and is not there"));
            looks.count(tiles.len());
            summary.std = Some(summary.deviation(tiles));
            slot.set(Some(summary));
        }
        summary.read(aggregate)
    }

    /// The newest tiles of a span, oldest first, of the finest ring that it fits.
    fn newest(&self, span_us: Micros, now_us: Micros) -> Option<Iter<'_, Tile>> {
        self.rings.iter().find_map(|ring| {
            let asked = Span::new(span_us, ring.span.tile_us).ok()?;
            let fits = asked.span_us <= ring.span.span_us;
            fits.then(|| ring.range(&asked.grid().newest(asked.tiles(), now_us)))
        })
    }

    /// The event time of the newest event; 0 before the first.
    pub fn newest_ms(&self) -> Millis {
        self.newest_ms
    }

    /// The largest SEQ that was taken, if any was.
    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// What tests look at of each ring.
    #[cfg(test)]
    pub fn rings(&self) -> impl Iterator<Item = RingInfo> {
        self.rings.iter().map(|ring| RingInfo {
            span: ring.span,
            tiles: ring.tiles.len(),
            events: ring.tiles.iter().map(Tile::count).sum(),
        })
    }

    /// How many tiles all rings have: no read looks at more.
    pub fn tiles(&self) -> usize {
        self.rings.iter().map(|ring| ring.tiles.len()).sum()
    }

    /// Bytes of a row that they take, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        self.tiles() * Self::TILE_BYTES
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let spilled = if self.rings.spilled() { self.rings.capacity() } else { 0 };
        let tiles: usize = self.rings.iter().map(|ring| ring.tiles.capacity()).sum();
        spilled * size_of::<Ring>() + tiles * size_of::<Tile>()
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        let tiles = self.rings.iter().filter(|ring| ring.tiles.capacity() > 0).count();
        usize::from(self.rings.spilled()) + tiles
    }

    /// The span of each ring, the finest first.
    pub fn spans(&self) -> Spans {
        Spans(self.rings.iter().map(|ring| ring.span).collect())
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        events::push_seq(self.last_seq, out);
        push_number(self.newest_ms, out);
        self.spans().encode(out);
        self.rings.iter().for_each(|ring| ring.encode(out));
    }

    /// Reads a payload; `None` unless it is one of windows that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        let last_seq = events::seq(reader)?;
        let newest_ms = codec::time(reader)?;
        let mut rings = SmallVec::new();
        let spans = Spans::decode(reader)?;
        rings.reserve_exact(spans.len());
        for span in spans.iter() {
            let last = span.grid().tile(micros(newest_ms));
            rings.push(Ring::decode(*span, last, reader)?);
        }
        Some(Self { rings, newest_ms, last_seq })
    }
}

/// What was read of windows last, and how many tiles were looked at for all of it.
#[derive(Debug, Default)]
pub struct Looks {
    /// As many as the spans that are mostly asked for of one field in turn.
    summaries: [Cell<Option<Summary>>; Self::KEPT],
    next: Cell<usize>,
    tiles: Cell<u64>,
}

impl Looks {
    const KEPT: usize = 4;

    /// How many tiles were looked at.
    pub fn tiles(&self) -> u64 {
        self.tiles.get()
    }

    /// Forgets what was read, but not how much.
    pub fn forget(&self) {
        // Most calls ask for no windows.
        if self.tiles.get() > 0 {
            self.summaries.iter().for_each(|slot| slot.set(None));
        }
    }

    fn count(&self, tiles: usize) {
        self.tiles.set(self.tiles.get().saturating_add(tiles as u64));
    }

    fn find(&self, of: usize, span_us: Micros) -> Option<(&Cell<Option<Summary>>, Summary)> {
        let mut kept = self.summaries.iter().filter_map(|slot| Some((slot, slot.get()?)));
        kept.find(|(_, known)| (known.of, known.span_us) == (of, span_us))
    }

    fn keep(&self, summary: Summary) -> (&Cell<Option<Summary>>, Summary) {
        let place = self.next.get();
        self.next.set((place + 1) % Self::KEPT);
        let slot = self.summaries.get(place).unwrap_or_else(|| bug("a place too many"));
        slot.set(Some(summary));
        (slot, summary)
    }
}

/// What the events of a span come to.
#[derive(Clone, Copy, Debug)]
struct Summary {
    /// Whose they are, by where it stands in memory, and of which span.
    of: usize,
    span_us: Micros,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    /// The deviation, once somebody asked for it.
    std: Option<f64>,
}

impl Summary {
    /// That of some tiles, oldest first, in one pass.
    #[inline(never)]
    fn new(of: usize, span_us: Micros, tiles: Iter<Tile>) -> Self {
        let (mut count, mut sum) = (0, Sum::default());
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        // Not by `for`, which asks of each tile where in the ring it is.
        tiles.clone().for_each(|tile| {
            count += tile.count();
            sum = sum.with(tile.sum);
            // Of 0 and -0 the first stays, on every processor.
            min = if tile.min < min { tile.min } else { min };
            max = if tile.max > max { tile.max } else { max };
        });
        let sum = match sum.value() {
            sum if sum.is_finite() => sum,
            // The error of what overflows is none.
            _ => tiles.fold(0.0, |sum, tile| sum + tile.sum.value()),
        };
        Self { of, span_us, count, sum, min, max, std: None }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The deviation of the amounts in the same tiles, for which they are looked at once
    /// more.
    fn deviation(&self, tiles: Iter<Tile>) -> f64 {
        if self.min == self.max { 0.0 } else { deviation(tiles, self.count, self.mean()) }
    }

    /// What one asks for of it.
    fn read(&self, aggregate: Aggregate) -> Read {
        let value = match aggregate {
            Aggregate::Count => return Read::Count(self.count),
            Aggregate::Sum => self.sum,
            _ if self.count == 0 => return Read::Nothing,
            Aggregate::Mean => self.mean(),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Std => self.std.unwrap_or_else(|| bug("a deviation not looked at")),
        };
        // One NaN, whatever the processor makes of it.
        Read::Value(if value.is_nan() { f64::NAN } else { value })
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

impl PartialEq for Tile {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

/// The same spans, tiles and SEQ, to the bit.
impl PartialEq for Windows {
    fn eq(&self, other: &Self) -> bool {
        let rings = self.rings.iter().zip(&other.rings);
        (self.newest_ms, self.last_seq) == (other.newest_ms, other.last_seq)
            && self.spans() == other.spans()
            && rings.into_iter().all(|(one, other)| one.numbered().eq(other.numbered()))
    }
}

impl Eq for Windows {}

#[cfg(test)]
pub mod testing {
    //! Windows at random, for tests.

    use super::super::row::MAX_TIME_MS;
    use super::*;
    use proptest::prelude::*;

    /// A call, and the clock.
    #[derive(Clone, Debug)]
    pub struct Call {
        /// The spans it names.
        pub spans: Spans,
        /// What it adds.
        pub amount: f64,
        /// When it happened.
        pub at_ms: Millis,
        /// Its number, if it has one.
        pub seq: Option<u64>,
        /// What the clock says.
        pub now_ms: Millis,
    }

    impl Call {
        /// Whether it would be let through, and taken.
        pub fn would_take(&self, windows: &Windows) -> bool {
            windows.check(&self.spans).is_ok()
                && windows.would_take(&self.spans, self.at_ms, self.seq, self.now_ms)
        }

        /// Makes the call.
        pub fn make(&self, windows: &mut Windows) {
            windows.tally(&self.spans, self.amount, self.at_ms, self.seq, self.now_ms);
        }
    }

    /// A span of so many tiles.
    pub fn span(tile_us: Micros, tiles: u64) -> Span {
        Span::new(tile_us * tiles, tile_us).unwrap()
    }

    /// Spans that may follow each other, or not.
    fn spans() -> impl Strategy<Value = Vec<Spans>> {
        let tile_us = prop::sample::select(vec![1, 7_777, 250_000, 1_000_000, 60_000_000]);
        let tiles = || prop_oneof![1..4u64, 1..20u64, Just(MAX_TILES)];
        (tile_us, 2..5u64, tiles(), tiles(), tiles()).prop_map(|(tile_us, times, a, b, c)| {
            let (one, other) = (span(tile_us, a), span(tile_us, b));
            let coarse = span(tile_us * times, c);
            let third = span(tile_us * 7, c);
            [(one, None), (one, None), (other, None), (one, Some(coarse)), (coarse, Some(third))]
                .map(|(first, second)| Spans::new(first, second).unwrap())
                .into()
        })
    }

    /// Calls with these amounts. Events come late, early and twice; the clock stands,
    /// goes on, and now and then jumps, both ways.
    pub fn calls(amount: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<Call>> {
        let quarters = prop_oneof![
            6 => 0..3i64,
            3 => 0..20i64,
            1 => -300..300i64,
            1 => -40_000..40_000i64,
        ];
        let late = prop_oneof![4 => Just(0i64), 4 => 0..12i64, 2 => -9..90i64, 1 => -400..400i64];
        let seq = prop::option::of(0..60u64);
        let start_ms = prop_oneof![Just(0u64), Just(1_800_000_000_123u64), Just(MAX_TIME_MS)];
        let call = (quarters, late, amount, seq, any::<prop::sample::Index>());
        let calls = prop::collection::vec(call, 1..40);
        (spans(), start_ms, calls).prop_map(|(spans, mut now_ms, calls)| {
            let quarter_ms = (spans[0][0].tile_us / 4_000).max(1);
            let moved = |moment: Millis, quarters: i64| {
                let step_ms = quarters * i64::try_from(quarter_ms).unwrap();
                moment.saturating_add_signed(step_ms).min(MAX_TIME_MS)
            };
            let call = |(quarters, late, amount, seq, which): (_, i64, _, _, _)| {
                now_ms = moved(now_ms, quarters);
                let which: prop::sample::Index = which;
                let spans = spans[which.index(spans.len())].clone();
                Call { spans, amount, at_ms: moved(now_ms, -late), seq, now_ms }
            };
            calls.into_iter().map(call).collect()
        })
    }

    /// Amounts of all kinds.
    pub fn amounts() -> impl Strategy<Value = f64> {
        let any =
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |one| one.is_finite());
        let extremes = vec![0.0, -0.0, f64::MAX, f64::MIN, 5e-324, 1.0, -1.0, 0.1];
        prop_oneof![any, prop::sample::select(extremes)]
    }

    /// The windows that calls lead to.
    pub fn tallied(calls: &[Call]) -> Windows {
        let mut windows = Windows::default();
        for call in calls {
            if call.would_take(&windows) {
                call.make(&mut windows);
            }
        }
        windows
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MINUTE_US: Micros = 60_000_000;
    const MINUTE_MS: Millis = 60_000;

    const ALL: [Aggregate; 6] = [
        Aggregate::Count,
        Aggregate::Sum,
        Aggregate::Mean,
        Aggregate::Min,
        Aggregate::Max,
        Aggregate::Std,
    ];

    fn hour() -> Spans {
        Spans::new(span(MINUTE_US, 60), None).unwrap()
    }

    /// An hour by minutes, of events that come as they happen.
    fn by_minutes(events: &[(Millis, f64)]) -> Windows {
        let mut windows = Windows::default();
        for (at_ms, amount) in events {
            windows.tally(&hour(), *amount, *at_ms, None, *at_ms);
        }
        windows
    }

    fn read(windows: &Windows, aggregate: Aggregate, minutes: u64, now_ms: Millis) -> Read {
        windows.read(aggregate, minutes * MINUTE_US, micros(now_ms), &Looks::default())
    }

    fn value(read: Read) -> f64 {
        let Read::Value(value) = read else { panic!("{read:?}") };
        value
    }

    /// Every event, by the ring's tile: when it happened, and its amount, an integer.
    #[derive(Default)]
    struct Oracle {
        rings: BTreeMap<Micros, (u64, Vec<(Micros, i128)>)>,
        last_seq: Option<u64>,
    }

    /// By how many tiles an event is older than the clock.
    fn age(tile_us: Micros, at_us: Micros, now_us: Micros) -> i128 {
        i128::from(now_us / tile_us) - i128::from(at_us / tile_us)
    }

    fn is_kept(tile_us: Micros, tiles: u64, at_us: Micros, now_us: Micros) -> bool {
        let tiles = i128::from(tiles);
        (-tiles - 1..tiles).contains(&age(tile_us, at_us, now_us))
    }

    impl Oracle {
        fn check(&self, spans: &Spans) -> bool {
            let named: Vec<_> = spans.iter().map(|span| span.tile_us).collect();
            let living: Vec<_> = self.rings.keys().copied().collect();
            named.iter().all(|tile| living.contains(tile))
                || living.iter().all(|tile| named.contains(tile))
        }

        /// Takes the event if any ring does.
        fn take(&mut self, call: &Call) -> bool {
            let (at_us, now_us) = (call.at_ms * 1_000, call.now_ms * 1_000);
            let mut tiles: BTreeMap<_, _> =
                self.rings.iter().map(|(tile_us, (tiles, _))| (*tile_us, *tiles)).collect();
            tiles.extend(call.spans.iter().map(|span| (span.tile_us, span.span_us / span.tile_us)));
            let fits = |(tile_us, tiles): (&Micros, &u64)| is_kept(*tile_us, *tiles, at_us, now_us);
            let is_seen = call.seq.is_some_and(|seq| Some(seq) <= self.last_seq);
            if is_seen || !tiles.iter().any(fits) {
                return false;
            }
            for (tile_us, tiles) in tiles {
                let ring = self.rings.entry(tile_us).or_default();
                ring.0 = tiles;
                ring.1.push((at_us, call.amount as i128));
                ring.1.retain(|(at_us, _)| is_kept(tile_us, tiles, *at_us, now_us));
            }
            self.last_seq = call.seq.or(self.last_seq);
            true
        }

        /// The amounts that a read finds, if it finds a ring.
        fn read(&self, span_us: Micros, now_us: Micros) -> Option<Vec<i128>> {
            let fits = |tile_us: &Micros, tiles: u64| {
                span_us >= *tile_us
                    && span_us.is_multiple_of(*tile_us)
                    && span_us / tile_us <= tiles
            };
            let (tile_us, (_, events)) =
                self.rings.iter().find(|(tile_us, (tiles, _))| fits(tile_us, *tiles))?;
            let ages = 0..i128::from(span_us / tile_us);
            let counted =
                events.iter().filter(|(at, _)| ages.contains(&age(*tile_us, *at, now_us)));
            Some(counted.map(|(_, amount)| *amount).collect())
        }
    }

    /// Integers that lose nothing as doubles, however many are added, and a sum that
    /// squares would lose.
    fn integers() -> impl Strategy<Value = f64> {
        let integer = prop_oneof![-5..5i64, (1i64 << 40)..(1 << 40) + 9];
        integer.prop_map(|integer| integer as f64)
    }

    fn assert_reads(windows: &Windows, amounts: Option<&[i128]>, span_us: Micros, now_us: Micros) {
        for aggregate in ALL {
            let read = windows.read(aggregate, span_us, now_us, &Looks::default());
            let Some(amounts) = amounts else {
                assert_eq!(read, Read::NoSuchSpan);
                continue;
            };
            let count = amounts.len() as i128;
            let sum: i128 = amounts.iter().sum();
            let expected = match aggregate {
                Aggregate::Count => Read::Count(amounts.len() as u64),
                Aggregate::Sum => Read::Value(sum as f64),
                _ if amounts.is_empty() => Read::Nothing,
                Aggregate::Mean => Read::Value(sum as f64 / count as f64),
                Aggregate::Min => Read::Value(*amounts.iter().min().unwrap() as f64),
                Aggregate::Max => Read::Value(*amounts.iter().max().unwrap() as f64),
                Aggregate::Std => {
                    let squares: i128 = amounts.iter().map(|amount| amount * amount).sum();
                    let exact = ((count * squares - sum * sum) as f64).sqrt() / count as f64;
                    let std = value(read);
                    assert!((std - exact).abs() <= 1e-3 + exact * 1e-12, "{std} {exact}");
                    continue;
                }
            };
            assert_eq!(read, expected, "{aggregate:?} of {amounts:?}");
        }
    }

    proptest! {
        /// The oracle keeps every event of every ring, and counts those of the right
        /// age. Late events, early ones, those delivered again, gaps longer than the
        /// span, clocks that jump, spans that change.
        #[test]
        fn a_read_finds_the_events_of_its_tiles(
            calls in calls(integers()),
            spans in prop::collection::vec((any::<prop::sample::Index>(), 0..30u64), 4),
        ) {
            let (mut windows, mut replica) = (Windows::default(), Windows::default());
            let mut oracle = Oracle::default();
            let mut newest_ms = 0;
            for call in calls {
                prop_assert_eq!(windows.check(&call.spans).is_ok(), oracle.check(&call.spans));
                if windows.check(&call.spans).is_err() {
                    continue;
                }
                let takes = oracle.take(&call);
                prop_assert_eq!(call.would_take(&windows), takes);
                if takes {
                    call.make(&mut windows);
                    newest_ms = newest_ms.max(call.at_ms);
                    // What was saved and loaded goes on alike.
                    let mut payload = Vec::new();
                    replica.encode(&mut payload);
                    replica = Windows::decode(&mut Reader::new(&payload)).unwrap_or_default();
                    call.make(&mut replica);
                    prop_assert_eq!(&windows, &replica);
                }
                prop_assert_eq!(windows.last_seq(), oracle.last_seq);
                prop_assert_eq!(windows.newest_ms(), newest_ms);
                let rings: Vec<_> = windows.rings().collect();
                let told = rings.iter().map(|ring| (ring.span.tile_us, ring.events));
                let held = oracle.rings.iter();
                let held = held.map(|(tile_us, (_, events))| (*tile_us, events.len() as u64));
                prop_assert!(told.eq(held));
                for ring in &rings {
                    prop_assert!(ring.tiles as u64 <= 2 * ring.span.tiles() + 1);
                }
                let now_us = call.now_ms * 1_000;
                for (which, tiles) in &spans {
                    let Some(ring) = rings.get(which.index(rings.len().max(1))) else { continue };
                    // Within the span, and a little beyond it.
                    let tiles = (ring.span.tiles() + 2).min(*tiles);
                    let span_us = tiles * ring.span.tile_us;
                    let amounts = oracle.read(span_us, now_us);
                    assert_reads(&windows, amounts.as_deref(), span_us, now_us);
                }
                let whole = rings.iter().map(|ring| ring.span.span_us);
                for span_us in whole.flat_map(|span_us| [span_us, span_us + 1]) {
                    let amounts = oracle.read(span_us, now_us);
                    assert_reads(&windows, amounts.as_deref(), span_us, now_us);
                }
            }
        }

        /// While the clock goes on, what was let go would not have been counted: the
        /// oracle forgets nothing.
        #[test]
        fn nothing_is_forgotten_that_counts(
            steps in prop::collection::vec((0..9u64, 0..40u64, integers()), 1..80),
            tiles in 1..12u64,
        ) {
            let spans = Spans::new(span(1_000, tiles), None).unwrap();
            let (mut windows, mut events) = (Windows::default(), Vec::new());
            let mut now_ms = 100;
            for (step_ms, late_ms, amount) in steps {
                now_ms += step_ms;
                let at_ms = now_ms - late_ms;
                let takes = windows.would_take(&spans, at_ms, None, now_ms);
                prop_assert_eq!(takes, late_ms < tiles);
                if takes {
                    windows.tally(&spans, amount, at_ms, None, now_ms);
                    events.push((at_ms, amount as i128));
                }
                let in_span = events.iter().filter(|(at_ms, _)| now_ms - at_ms < tiles);
                let amounts: Vec<_> = in_span.map(|(_, amount)| *amount).collect();
                if !events.is_empty() {
                    assert_reads(&windows, Some(&amounts), tiles * 1_000, now_ms * 1_000);
                }
            }
        }

        /// The exact sum is one of integers: amounts are multiples of 2^-40.
        #[test]
        fn sums_do_not_drift(
            amounts in prop::collection::vec((-(1i64 << 20)..1 << 20, 0..80u32, 0..5u64), 1..300),
            twice: bool,
        ) {
            let ulp = |sum: f64| (f64::from_bits(sum.abs().to_bits() + 1) - sum.abs()) * 2.0;
            let mut windows = Windows::default();
            let (mut exact, mut size) = (0i128, 0f64);
            for sign in [1, -1].iter().take(1 + usize::from(twice)) {
                for (digits, shift, minute) in &amounts {
                    let scaled = (i128::from(*digits) * sign) << shift;
                    let amount = scaled as f64 / (1u64 << 40) as f64;
                    let now_ms = 4 * MINUTE_MS;
                    windows.tally(&hour(), amount, minute * MINUTE_MS, None, now_ms);
                    exact += scaled;
                    size += amount.abs();
                }
            }
            let exact = exact as f64 / (1u64 << 40) as f64;
            let sum = value(read(&windows, Aggregate::Sum, 60, 4 * MINUTE_MS));
            // Twice the precision of a double, and the rounding of the result.
            let count = (2 * amounts.len()) as f64;
            let bound = ulp(exact) + (count * f64::EPSILON).powi(2) * size;
            prop_assert!((sum - exact).abs() <= bound, "{} {}", sum, exact);
        }

        #[test]
        fn equal_amounts_do_not_deviate(amount in amounts(), count in 1..50u64) {
            let events: Vec<_> = (0..count).map(|one| (one * 20_000, amount)).collect();
            let std = read(&by_minutes(&events), Aggregate::Std, 60, 49 * 20_000);
            prop_assert_eq!(std, Read::Value(0.0));
        }

        /// Whatever is added, what is read is a number, or NaN of two infinite sums,
        /// and extremes are extremes.
        #[test]
        fn nothing_that_is_added_makes_what_cannot_be(calls in calls(amounts())) {
            let windows = tallied(&calls);
            let Some(last) = calls.last() else { return Ok(()) };
            for ring in windows.rings() {
                let now_us = micros(last.now_ms);
                let read = |aggregate| windows.read(aggregate, ring.span.span_us, now_us, &Looks::default());
                if read(Aggregate::Min) == Read::Nothing {
                    continue;
                }
                let [min, max, mean, std] =
                    [Aggregate::Min, Aggregate::Max, Aggregate::Mean, Aggregate::Std]
                        .map(|aggregate| value(read(aggregate)));
                prop_assert!(min <= max && min.is_finite() && max.is_finite());
                prop_assert!(std >= 0.0, "{}", std);
                prop_assert!(std <= (max - min) * (1.0 + 1e-9) || std.is_infinite());
                let slack = 1e-9 * min.abs().max(max.abs());
                let within = min - slack <= mean && mean <= max + slack;
                prop_assert!(within || !mean.is_finite(), "{} {} {}", min, mean, max);
            }
        }
    }

    #[test]
    fn an_extreme_goes_with_its_tile() {
        let windows = by_minutes(&[(30_000, -9.0), (61_000, 2.0), (62_000, 5.0)]);
        let at = |aggregate, minutes, now_ms| read(&windows, aggregate, minutes, now_ms);
        assert_eq!(at(Aggregate::Min, 2, 119_999), Read::Value(-9.0));
        assert_eq!(at(Aggregate::Min, 2, 120_000), Read::Value(2.0));
        assert_eq!(at(Aggregate::Max, 1, 119_999), Read::Value(5.0));
        assert_eq!(at(Aggregate::Max, 1, 120_000), Read::Nothing);
    }

    #[test]
    fn after_a_gap_nothing_is_left_and_the_lifetime_is_not_counted() {
        let mut windows = by_minutes(&[(0, 1.0), (MINUTE_MS, 2.0)]);
        let later_ms = 200 * MINUTE_MS;
        assert_eq!(read(&windows, Aggregate::Count, 60, later_ms), Read::Count(0));
        assert_eq!(read(&windows, Aggregate::Sum, 60, later_ms), Read::Value(0.0));
        for aggregate in [Aggregate::Mean, Aggregate::Min, Aggregate::Max, Aggregate::Std] {
            assert_eq!(read(&windows, aggregate, 60, later_ms), Read::Nothing);
        }
        windows.tally(&hour(), 4.0, later_ms, None, later_ms);
        assert_eq!(read(&windows, Aggregate::Sum, 60, later_ms), Read::Value(4.0));
        assert_eq!(windows.rings().map(|ring| (ring.tiles, ring.events)).next(), Some((1, 1)));
    }

    #[test]
    fn what_is_older_than_the_span_or_was_seen_is_not_taken() {
        let mut windows = Windows::default();
        let now_ms = 100 * MINUTE_MS;
        let takes = |windows: &Windows, at_ms, seq| windows.would_take(&hour(), at_ms, seq, now_ms);
        assert!(takes(&windows, 41 * MINUTE_MS, None));
        assert!(!takes(&windows, 41 * MINUTE_MS - 1, None));
        windows.tally(&hour(), 1.0, now_ms, Some(7), now_ms);
        assert!(!takes(&windows, now_ms, Some(7)) && !takes(&windows, now_ms, Some(6)));
        assert!(takes(&windows, now_ms, Some(8)) && takes(&windows, now_ms, None));
    }

    #[test]
    fn a_tile_ahead_counts_when_the_clock_has_come_to_it() {
        let mut windows = Windows::default();
        windows.tally(&hour(), 3.0, MINUTE_MS, None, 0);
        assert_eq!(read(&windows, Aggregate::Sum, 60, 0), Read::Value(0.0));
        assert_eq!(read(&windows, Aggregate::Sum, 1, MINUTE_MS), Read::Value(3.0));
        // A clock that was days ahead, for a moment.
        windows.tally(&hour(), 5.0, 9_999 * MINUTE_MS, None, 9_999 * MINUTE_MS);
        windows.tally(&hour(), 7.0, 2 * MINUTE_MS, None, 2 * MINUTE_MS);
        assert_eq!(read(&windows, Aggregate::Sum, 60, 2 * MINUTE_MS), Read::Value(7.0));
        assert_eq!(read(&windows, Aggregate::Sum, 60, 9_999 * MINUTE_MS), Read::Value(0.0));
    }

    /// Each time the newest tile goes and an older one is the newest, until they are
    /// farther apart than the bits that a tile keeps of its number tell.
    #[test]
    fn a_clock_that_steps_back_again_and_again_leaves_tiles_their_numbers() {
        let spans = Spans::new(span(1_000, MAX_TILES), None).unwrap();
        let mut windows = Windows::default();
        let mut now_ms = 50 * MAX_TILES;
        for step in 0..40 {
            windows.tally(&spans, f64::from(step), now_ms, None, now_ms);
            let sum = |at_ms| windows.read(Aggregate::Sum, 1_000, at_ms * 1_000, &Looks::default());
            assert_eq!(sum(now_ms), Read::Value(step.into()));
            assert_eq!(sum(now_ms + MAX_TILES), Read::Value((step - 1).max(0).into()));
            assert_eq!(sum(now_ms + 2 * MAX_TILES), Read::Value(0.0));
            now_ms -= MAX_TILES;
        }
    }

    #[test]
    fn the_finest_ring_is_read_that_the_span_fits() {
        let both = Spans::new(span(MINUTE_US * 60, 24), Some(span(MINUTE_US, 60))).unwrap();
        assert_eq!(both[0].tile_us(), MINUTE_US, "the finest is first");
        let mut windows = Windows::default();
        windows.tally(&both, 1.0, 0, None, 0);
        windows.tally(&both, 1.0, 90 * MINUTE_MS, None, 90 * MINUTE_MS);
        // 60 minutes by minutes, which the first has left; two hours by hours.
        let count = |minutes| read(&windows, Aggregate::Count, minutes, 90 * MINUTE_MS);
        assert_eq!(count(60), Read::Count(1));
        assert_eq!(count(120), Read::Count(2));
        assert_eq!(count(24 * 60), Read::Count(2));
        for minutes in [0, 61, 90, 25 * 60] {
            assert_eq!(count(minutes), Read::NoSuchSpan, "{minutes}");
        }
        assert_eq!(
            windows.read(Aggregate::Sum, MINUTE_US + 1, 0, &Looks::default()),
            Read::NoSuchSpan
        );
    }

    #[test]
    fn rings_are_known_by_their_tile() {
        let spans = |first, second| Spans::new(first, second).unwrap();
        let mut windows = by_minutes(&[(0, 1.0), (MINUTE_MS, 2.0)]);
        let (minutes, seconds) = (span(MINUTE_US, 60), span(1_000_000, 60));
        let days = span(1_440 * MINUTE_US, 30);
        assert_eq!(windows.check(&spans(seconds, None)), Err(Misfit::AnotherTile));
        assert_eq!(windows.check(&spans(minutes, Some(seconds))), Ok(()));
        assert_eq!(Windows::default().check(&spans(seconds, Some(days))), Ok(()));
        // A new span at the same tile, at once.
        windows.tally(&spans(span(MINUTE_US, 1), None), 4.0, MINUTE_MS, None, MINUTE_MS);
        assert_eq!(read(&windows, Aggregate::Sum, 1, MINUTE_MS), Read::Value(6.0));
        assert_eq!(read(&windows, Aggregate::Sum, 2, MINUTE_MS), Read::NoSuchSpan);
        // A second ring, which takes what a call that does not name it brings.
        windows.tally(&spans(minutes, Some(seconds)), 8.0, MINUTE_MS, None, MINUTE_MS);
        windows.tally(&hour(), 16.0, MINUTE_MS, None, MINUTE_MS);
        let sum =
            |span_us| windows.read(Aggregate::Sum, span_us, micros(MINUTE_MS), &Looks::default());
        assert_eq!((sum(2 * MINUTE_US), sum(1_000_000)), (Read::Value(30.0), Read::Value(24.0)));
        assert_eq!(windows.check(&hour()), Ok(()));
        assert_eq!(windows.check(&spans(days, None)), Err(Misfit::AnotherTile));
        assert_eq!(windows.check(&spans(minutes, Some(days))), Err(Misfit::AnotherTile));
    }

    #[test]
    fn spans_are_of_whole_tiles() {
        assert_eq!(Span::new(60, 60).map(Span::tiles), Ok(1));
        assert_eq!(Span::new(4_096 * 7, 7).map(Span::tiles), Ok(4_096));
        assert_eq!(Span::new(4_097 * 7, 7), Err(Misfit::TooManyTiles));
        for (span_us, tile_us) in
            [(61, 60), (59, 60), (0, 60), (60, 0), (0, 0), (u64::MAX, 1 << 60)]
        {
            assert_eq!(Span::new(span_us, tile_us), Err(Misfit::NotWhole), "{span_us} {tile_us}");
        }
        let twice = Spans::new(span(60, 1), Some(span(60, 2)));
        assert_eq!(twice, Err(Misfit::SameTile));
    }

    #[test]
    fn a_tile_takes_six_words_and_one_takes_no_more_room() {
        let mut windows = Windows::default();
        assert_eq!((windows.heap_bytes(), windows.blocks()), (0, 0));
        for (minute, room) in [(0, 1), (1, 2), (2, 4), (4, 8), (59, 60), (60, 60), (300, 15)] {
            while windows.newest_ms() < minute * MINUTE_MS {
                let at_ms = match minute {
                    300 => 300 * MINUTE_MS,
                    _ => windows.newest_ms() + MINUTE_MS,
                };
                windows.tally(&hour(), 1.0, at_ms, None, at_ms);
            }
            windows.tally(&hour(), 1.0, minute * MINUTE_MS, None, minute * MINUTE_MS);
            assert_eq!((windows.heap_bytes(), windows.blocks()), (room * 48, 1), "{minute}");
        }
        let both = Spans::new(span(MINUTE_US, 60), Some(span(1_000, 60))).unwrap();
        windows.tally(&both, 1.0, 300 * MINUTE_MS, None, 300 * MINUTE_MS);
        assert_eq!(windows.blocks(), 3);
    }

    #[test]
    fn a_sum_that_has_overflown_stays_infinite() {
        let minute = |amounts: &[f64]| {
            by_minutes(&amounts.iter().map(|amount| (7, *amount)).collect::<Vec<_>>())
        };
        let windows = minute(&[f64::MAX, f64::MAX, f64::MIN, f64::MIN]);
        let at = |aggregate| read(&windows, aggregate, 1, 7);
        assert_eq!(at(Aggregate::Sum), Read::Value(f64::INFINITY));
        assert_eq!(at(Aggregate::Mean), Read::Value(f64::INFINITY));
        assert_eq!(at(Aggregate::Std), Read::Value(f64::INFINITY));
        assert_eq!(at(Aggregate::Min), Read::Value(f64::MIN));
        let windows = minute(&[f64::MAX, f64::MIN, 1.0]);
        assert_eq!(read(&windows, Aggregate::Sum, 1, 7), Read::Value(1.0));
        // Two tiles that overflow both ways have no sum: one NaN on every processor.
        let (one, other) = (f64::MAX, f64::MIN);
        let windows = by_minutes(&[(0, one), (0, one), (MINUTE_MS, other), (MINUTE_MS, other)]);
        let sum = value(read(&windows, Aggregate::Sum, 2, MINUTE_MS));
        assert_eq!(sum.to_bits(), f64::NAN.to_bits());
        assert_eq!(read(&windows, Aggregate::Std, 2, MINUTE_MS), Read::Value(f64::INFINITY));
    }

    #[test]
    fn an_aggregate_has_a_name() {
        let names = [&b"count"[..], b"sum", b"mean", b"min", b"max", b"std"];
        assert_eq!(names.map(Aggregate::from_name), ALL.map(Some));
        for name in [&b""[..], b"SUM", b"su", b"sums", b"avg"] {
            assert_eq!(Aggregate::from_name(name), None);
        }
    }

    #[test]
    fn an_amount_that_is_not_finite_is_loud() {
        for amount in [f64::NAN, f64::INFINITY] {
            std::panic::catch_unwind(|| by_minutes(&[(0, amount)])).unwrap_err();
        }
    }
}
