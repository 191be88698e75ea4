//! Events: what happened to one field. The values of the newest, or amounts summed
//! up by time.
//!
//! ```text
//! events    1 u8 · sequence | 2 u8 · windows
//! last_seq  0 u8 (none) | 1 u8 · number
//! ```
//!
//! What the two hold is written as their own pages say, numbers as [`crate::wire`]
//! writes them. Equal events have equal payloads.

use super::sequence::Sequence;
use super::windows::Windows;
use crate::time::{MICROS_PER_SECOND, Micros, Millis};
use crate::wire::{Reader, push_number};
use std::collections::VecDeque;

const SEQUENCE: u8 = 1;
const WINDOWS: u8 = 2;

/// What happened to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// The values of the newest events.
    Sequence(Sequence),
    /// Amounts, summed up.
    Windows(Windows),
}

impl Events {
    /// The event time of the newest event.
    pub fn newest_ms(&self) -> Millis {
        match self {
            Self::Sequence(sequence) => sequence.newest_ms(),
            Self::Windows(windows) => windows.newest_ms(),
        }
    }

    /// The largest SEQ that was taken, if any was.
    pub fn last_seq(&self) -> Option<u64> {
        match self {
            Self::Sequence(sequence) => sequence.last_seq(),
            Self::Windows(windows) => windows.last_seq(),
        }
    }

    /// Bytes of a row that they take, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.row_bytes(),
            Self::Windows(windows) => windows.row_bytes(),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.heap_bytes(),
            Self::Windows(windows) => windows.heap_bytes(),
        }
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.blocks(),
            Self::Windows(windows) => windows.blocks(),
        }
    }

    /// What they are.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sequence(_) => "SEQUENCE",
            Self::Windows(_) => "WINDOWS",
        }
    }

    /// What people are told: the items of a sequence, the spans and tiles of windows in
    /// seconds.
    pub fn describe(&self) -> String {
        let mut told = self.name().to_owned();
        match self {
            Self::Sequence(sequence) => told.push_str(&format!("[{}]", sequence.len())),
            Self::Windows(windows) => windows.rings().for_each(|ring| {
                let [span, tile] = [ring.span.span_us(), ring.span.tile_us()];
                let seconds = |us: Micros| us as f64 / MICROS_PER_SECOND as f64;
                told.push_str(&format!(" SPAN {} TILE {}", seconds(span), seconds(tile)));
            }),
        }
        told
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sequence(sequence) => {
                out.push(SEQUENCE);
                sequence.encode(out);
            }
            Self::Windows(windows) => {
                out.push(WINDOWS);
                windows.encode(out);
            }
        }
    }

    /// Reads a payload; `None` unless it is one of events that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        match reader.u8()? {
            SEQUENCE => Sequence::decode(reader).map(Self::Sequence),
            WINDOWS => Windows::decode(reader).map(Self::Windows),
            _ => None,
        }
    }
}

/// Whether events of a SEQ were not seen before. What has none always counts as
/// new.
pub fn is_new(seq: Option<u64>, last_seq: Option<u64>) -> bool {
    seq.is_none() || seq > last_seq
}

/// Appends the last SEQ.
pub fn push_seq(seq: Option<u64>, out: &mut Vec<u8>) {
    out.push(seq.is_some().into());
    if let Some(seq) = seq {
        push_number(seq, out);
    }
}

/// The next last SEQ.
pub fn seq(reader: &mut Reader) -> Option<Option<u64>> {
    match reader.u8()? {
        0 => Some(None),
        1 => reader.number().map(Some),
        _ => None,
    }
}

/// Makes room for one more: as much again as there is, but never for more than
/// `most` if these are enough. So one takes the room of one.
pub fn make_room<T>(list: &mut VecDeque<T>, most: usize) {
    let length = list.len();
    if length == list.capacity() {
        let least = length + 1;
        let room = (2 * length).clamp(least, most.max(least));
        list.reserve_exact(room - length);
    }
}

/// Gives back the room of a list that has become much shorter: each time for at
/// least as many that went as it moves.
pub fn give_back_room<T>(list: &mut VecDeque<T>) {
    let room = list.capacity();
    if list.len() <= room / 4 {
        list.shrink_to(room / 2);
    }
}
