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
        if tile_us == 0 || span_us == 0 || span_us % tile_us != 0 || span_us > MAX_TIME_US {
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
        let mut spans: ArrayVec<_, _> = [first].into_iter().chain(second).collect();
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
struct Tile {
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
                make_room(&mut self.tiles, self.span.tiles() as usize);
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

/// What people are told of a ring.
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
    /// from the finest ring that the span fits.
    pub fn read(&self, aggregate: Aggregate, span_us: Micros, now_us: Micros) -> Read {
        let fits = |span: Span| {
            Span::new(span_us, span.tile_us).ok().filter(|asked| asked.span_us <= span.span_us)
        };
        let found = self.rings.iter().find_map(|ring| Some((ring, fits(ring.span)?)));
        let Some((ring, asked)) = found else { return Read::NoSuchSpan };
        let tiles = ring.range(&asked.grid().newest(asked.tiles(), now_us));
        aggregate_of(aggregate, &tiles)
    }

    /// The event time of the newest event; 0 before the first.
    pub fn newest_ms(&self) -> Millis {
        self.newest_ms
    }

    /// The largest SEQ that was taken, if any was.
    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// What people are told of each ring.
    pub fn rings(&self) -> impl Iterator<Item = RingInfo> {
        self.rings.iter().map(|ring| RingInfo {
            span: ring.span,
            tiles: ring.tiles.len(),
            events: ring.tiles.iter().map(Tile::count).sum(),
        })
    }

    /// Bytes of a row that they take, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        self.rings.iter().map(|ring| ring.tiles.len() * Self::TILE_BYTES).sum()
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

    fn spans(&self) -> Spans {
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

/// What the events of some tiles, oldest first, come to.
fn aggregate_of(aggregate: Aggregate, tiles: &Iter<'_, Tile>) -> Read {
    let tiles = || tiles.clone();
    let count: u64 = tiles().map(Tile::count).sum();
    let sum = || {
        let mut sum = Sum::default();
        tiles().for_each(|tile| {
            sum.add(tile.sum.high);
            sum.add(tile.sum.low);
        });
        sum.value()
    };
    let smallest =
        || tiles().map(|tile| tile.min).reduce(|one, other| if other < one { other } else { one });
    let largest =
        || tiles().map(|tile| tile.max).reduce(|one, other| if other > one { other } else { one });
    let value = match aggregate {
        Aggregate::Count => return Read::Count(count),
        Aggregate::Sum => Some(sum()),
        _ if count == 0 => None,
        Aggregate::Mean => Some(sum() / count as f64),
        Aggregate::Min => smallest(),
        Aggregate::Max => largest(),
        Aggregate::Std if smallest() == largest() => Some(0.0),
        Aggregate::Std => {
            // As Chan, Golub and LeVeque put together samples: "Algorithms for
            // computing the sample variance", The American Statistician 37 (1983).
            let mean = sum() / count as f64;
            let spread: f64 = tiles()
                .map(|tile| tile.spread + tile.count() as f64 * (tile.mean() - mean).powi(2))
                .sum();
            // Of sums that overflow both ways there is no mean.
            Some((spread / count as f64).sqrt()).filter(|std| !std.is_nan()).or(Some(f64::INFINITY))
        }
    };
    // One NaN, whatever the processor makes of it.
    value.map_or(Read::Nothing, |value| Read::Value(if value.is_nan() { f64::NAN } else { value }))
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
