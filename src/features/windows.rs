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

mod memos;
mod ring;
mod summary;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tile;

use super::codec;
use super::events::{self, is_new};
use crate::bounds::MAX_TIME_US;
use crate::bug;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use crate::timegrid::TimeGrid;
use crate::wire::{Reader, push_number};
use arrayvec::ArrayVec;
use memos::Memos;
use ring::Ring;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::{Deref, RangeInclusive};
pub use summary::{Aggregate, Summary};
pub use tile::Tile;

/// The most tiles in a span.
pub const MAX_TILES: u64 = 4_096;

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
    #[error("the field's windows have another TILE, which ML.FEATUREINFO tells")]
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
    memos: Memos,
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

    /// Has the blocks of the tiles moved, and leaves nothing else to be.
    pub fn relocate(&mut self, tiles: impl Fn(&mut VecDeque<Tile>)) {
        self.memos.forget();
        self.rings.iter_mut().for_each(|ring| ring.relocate(&tiles));
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
            ring.is_some_and(|ring| ring.get(span.grid().tile(at_us)).is_some())
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
            if ring.keep(&ring.span.kept(now_us)) {
                self.memos.forget();
            }
            if ring.span.takes(at_us, now_us) {
                let number = ring.span.grid().tile(at_us);
                self.memos.forget_tile(ring.span.tile_us, number);
                ring.add(number, amount);
            }
        }
        self.newest_ms = self.newest_ms.max(at_ms);
        self.last_seq = self.last_seq.max(seq);
    }

    /// What the newest tiles of a span come to, the running one included, and how they
    /// deviate, if that is asked for. They are read from the finest ring that the span fits;
    /// `None` where there is none.
    pub fn summary(&self, span_us: Micros, now_us: Micros, deviates: bool) -> Option<Summary> {
        self.rings.iter().find_map(|ring| {
            let asked = Span::new(span_us, ring.span.tile_us).ok()?;
            let fits = asked.span_us <= ring.span.span_us;
            let numbers = asked.grid().newest(asked.tiles(), now_us);
            fits.then(|| ring.summary(&numbers, deviates, &self.memos))
        })
    }

    /// The newest tile of the finest ring.
    pub fn newest(&self) -> Option<&Tile> {
        self.rings.first()?.newest_tile()
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
            tiles: ring.len(),
            events: ring.numbered().map(|(_, tile)| tile.count()).sum(),
        })
    }

    /// How many tiles all rings have.
    pub fn tiles(&self) -> usize {
        self.rings.iter().map(Ring::len).sum()
    }

    /// Bytes of a row that they take, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        self.tiles() * Self::TILE_BYTES
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let spilled = if self.rings.spilled() { self.rings.capacity() } else { 0 };
        let rings: usize = self.rings.iter().map(Ring::heap_bytes).sum();
        spilled * size_of::<Ring>() + rings + self.memos.heap_bytes()
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        let rings: usize = self.rings.iter().map(Ring::blocks).sum();
        usize::from(self.rings.spilled()) + rings + self.memos.blocks()
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
        Some(Self { rings, newest_ms, last_seq, memos: Memos::default() })
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
