//! Memos: what closed tiles were added up to, for the next read of the same ones. What
//! is read again within a tile's length then costs the same however many tiles there
//! are, and finds the same bits: the tiles were added in the same order.
//!
//! They are no part of what windows hold: nobody saves, copies or compares them. Who
//! changes a closed tile has them forgotten.

use super::summary::Totals;
use crate::time::Micros;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What closed tiles come to. Reads are made by one thread at a time, so
/// nobody ever waits; who finds the memos taken all the same does without.
#[derive(Debug, Default)]
pub struct Memos(Mutex<Box<[Memo]>>);

#[derive(Debug)]
struct Memo {
    of: Closed,
    totals: Totals,
}

/// Tiles of one length, by their numbers, that the clock has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// How long one is.
    pub tile_us: Micros,
    /// Their numbers.
    pub numbers: Range<u64>,
}

impl Memos {
    /// As many as the spans that are mostly read of one field.
    const MOST: usize = 4;

    /// Fewer tiles are added up as fast as they are found. Tests look whether any are.
    const LEAST_TILES: u64 = if cfg!(test) { 1 } else { 8 };

    /// What these tiles come to, as `add_up` finds it if nobody asked before.
    pub fn of(&self, of: Closed, add_up: impl FnOnce() -> Totals) -> Totals {
        let Ok(mut memos) = self.0.try_lock() else { return add_up() };
        if let Some(known) = memos.iter().find(|memo| memo.of == of) {
            return known.totals;
        }
        let totals = add_up();
        if totals.tiles >= Self::LEAST_TILES {
            let mut list = std::mem::take(&mut *memos).into_vec();
            // Time goes on: nobody asks for what ended earlier.
            let has_gone =
                |known: &Closed| known.tile_us == of.tile_us && known.numbers.end != of.numbers.end;
            list.retain(|memo| !has_gone(&memo.of));
            list.truncate(Self::MOST - 1);
            list.reserve_exact(1);
            list.push(Memo { of, totals });
            *memos = list.into_boxed_slice();
        }
        totals
    }

    /// Forgets them.
    pub fn forget(&mut self) {
        *self.all() = Box::default();
    }

    /// Forgets them if one has a tile in it.
    pub fn forget_tile(&mut self, tile_us: Micros, number: u64) {
        let has = |of: &Closed| of.tile_us == tile_us && of.numbers.contains(&number);
        if self.all().iter().any(|memo| has(&memo.of)) {
            self.forget();
        }
    }

    fn all(&mut self) -> &mut Box<[Memo]> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    fn len(&self) -> usize {
        self.0.try_lock().map_or(0, |memos| memos.len())
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.len() * size_of::<Memo>()
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        usize::from(self.len() > 0)
    }
}

/// A copy has none.
impl Clone for Memos {
    fn clone(&self) -> Self {
        Self::default()
    }
}
