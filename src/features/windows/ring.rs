//! Rings: the tiles of one length.

use super::Span;
use super::memos::{Closed, Memos};
use super::summary::{Summary, Totals};
use super::tile::Tile;
use crate::features::events::{give_back_room, make_room};
use crate::wire::{Reader, push_number};
use std::collections::VecDeque;
use std::collections::vec_deque::Iter;
use std::ops::{Range, RangeInclusive};

/// The tiles of one length.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The span that they lie in.
    pub span: Span,
    /// The number of the newest tile, if there is any.
    newest: u64,
    /// Oldest first.
    tiles: VecDeque<Tile>,
}

impl Ring {
    /// One without tiles.
    pub fn new(span: Span) -> Self {
        Self { span, newest: 0, tiles: VecDeque::new() }
    }

    /// How many tiles it has.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Has the block of the tiles moved.
    pub fn relocate(&mut self, tiles: impl Fn(&mut VecDeque<Tile>)) {
        tiles(&mut self.tiles);
    }

    /// The tiles and their numbers, oldest first.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Tile)> {
        self.tiles.iter().map(|tile| (self.number(tile), tile))
    }

    fn number(&self, tile: &Tile) -> u64 {
        self.newest - tile.before(self.newest)
    }

    /// How many tiles have a number below this one. What is mostly asked for is the
    /// newest, or younger than that: then none of the others is looked at.
    fn place(&self, number: u64) -> usize {
        match self.newest.checked_sub(number) {
            None => self.tiles.len(),
            Some(0) => self.tiles.len().saturating_sub(1),
            Some(before) => self.tiles.partition_point(|tile| tile.before(self.newest) > before),
        }
    }

    /// The newest tile.
    pub fn newest_tile(&self) -> Option<&Tile> {
        self.tiles.back()
    }

    /// The tile of a number.
    pub fn get(&self, number: u64) -> Option<&Tile> {
        self.tiles.get(self.place(number)).filter(|tile| self.number(tile) == number)
    }

    /// The tiles of these numbers.
    fn range(&self, numbers: Range<u64>) -> Iter<'_, Tile> {
        let end = self.place(numbers.end);
        self.tiles.range(self.place(numbers.start).min(end)..end)
    }

    /// What the tiles of these numbers come to, of which the last is the running one, and
    /// how they deviate, if that is asked for.
    pub fn summary(&self, numbers: &RangeInclusive<u64>, deviates: bool, memos: &Memos) -> Summary {
        let (first, running) = (*numbers.start(), *numbers.end());
        let closed = Closed { tile_us: self.span.tile_us(), numbers: first..running };
        let mut totals = memos.of(closed, || Totals::of(self.range(first..running)));
        if let Some(tile) = self.get(running) {
            totals.add(tile);
        }
        Summary::new(totals, deviates, || self.range(first..running.saturating_add(1)))
    }

    /// Drops all tiles but these; whether there were any.
    pub fn keep(&mut self, numbers: &RangeInclusive<u64>) -> bool {
        let before = self.len();
        while self.tiles.front().is_some_and(|tile| self.number(tile) < *numbers.start()) {
            self.tiles.pop_front();
        }
        while self.newest > *numbers.end() && self.tiles.pop_back().is_some() {
            self.newest = self.tiles.back().map_or(0, |tile| self.number(tile));
        }
        give_back_room(&mut self.tiles);
        self.len() < before
    }

    /// Adds an amount to a tile, one of those that are kept.
    pub fn add(&mut self, number: u64, amount: f64) {
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

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.tiles.capacity() * size_of::<Tile>()
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        usize::from(self.tiles.capacity() > 0)
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_number(self.tiles.len() as u64, out);
        let mut next = 0;
        for (number, tile) in self.numbered() {
            push_number(number - next, out);
            tile.encode(out);
            next = number + 1;
        }
    }

    /// Reads a payload, of which the newest number is at most `last`; `None` unless it is
    /// one of a ring that can be.
    pub fn decode(span: Span, last: u64, reader: &mut Reader) -> Option<Self> {
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
