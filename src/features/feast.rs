//! What Feast's own store for Redis writes: a hash for each entity, of which a field is
//! the hash of a feature's name, a value a serialized `feast.types.Value`, and beside them
//! stand the event times of the views.

mod decoded;
mod message;

use super::buffer::{TakeText, ValueBuffer};
use super::found::Found;
use super::value::Value;
use crate::bug;
use decoded::{Decoded, is_text, moment};
use std::collections::HashMap;

/// The features of a call, by the names that Feast's store gives them in hashes.
#[derive(Debug)]
pub struct Names {
    /// The features.
    hashed: Vec<[u8; 4]>,
    /// The event times of their views, each once, if the call asks for any.
    times: Vec<Vec<u8>>,
    /// Which of these is that of each feature.
    views: Vec<usize>,
}

impl Names {
    /// Those of features that are named `view:feature`, with the event times of their
    /// views if they are `timed`. An error is a name without a view.
    pub fn of<'n>(names: impl Iterator<Item = &'n [u8]>, timed: bool) -> Result<Self, &'n [u8]> {
        let (mut hashed, mut times, mut views) = (Vec::new(), Vec::new(), Vec::new());
        let mut numbers = HashMap::new();
        for name in names {
            let colon = name.iter().position(|byte| *byte == b':');
            let view = colon.and_then(|colon| name.get(..colon)).filter(|view| !view.is_empty());
            let view = view.ok_or(name)?;
            hashed.push(murmur3(name).to_le_bytes());
            if timed {
                views.push(*numbers.entry(view).or_insert_with(|| {
                    times.push([b"_ts:", view].concat());
                    times.len() - 1
                }));
            }
        }
        Ok(Self { hashed, times, views })
    }

    /// All names, the features in the order of the call, then the event times.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        let times = self.times.iter().map(Vec::as_slice);
        self.hashed.iter().map(<[u8; 4]>::as_slice).chain(times)
    }

    /// Where among all names the event time stands that is of the feature at a place.
    pub fn time_of(&self, place: usize) -> Option<usize> {
        self.views.get(place).map(|view| self.hashed.len() + view)
    }

    /// What puts into a buffer what bytes of a hash are, by their places in [`Self::all`].
    pub fn reading<'b>(&self, buffer: &'b mut ValueBuffer) -> Reading<'b> {
        Reading { buffer, features: self.hashed.len() }
    }
}

/// MurmurHash3 of 32 bits with seed 0.
fn murmur3(mut name: &[u8]) -> u32 {
    // Nothing can be wrong with reading bytes.
    murmur3::murmur3_32(&mut name, 0).unwrap_or_else(|_| bug("bytes that cannot be read"))
}

/// How many times its bytes a value may take that is read: an item of a list of two bytes
/// is one of 64 in memory. What would take more than there may be is not begun with.
const GROWTH: usize = 32;

/// A buffer that takes the bytes of hashes as what Feast's store wrote.
pub struct Reading<'b> {
    buffer: &'b mut ValueBuffer,
    features: usize,
}

impl TakeText for Reading<'_> {
    fn take(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        bytes: &[u8],
    ) -> Option<()> {
        if place < self.features {
            if bytes.len() > self.buffer.most() / GROWTH && !is_text(bytes) {
                return None;
            }
            let decoded = Decoded::of(bytes);
            return self.buffer.put(place, others, decoded.found());
        }
        let at_ms = moment(bytes).map_or(Found::Nothing, |at_ms| Found::Value(Value::I64(at_ms)));
        self.buffer.put(place, others, at_ms)
    }

    /// What says nothing is as good as not there.
    fn has(&self, place: usize) -> bool {
        self.buffer.has(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hashed_as_feast_does() {
        // Of https://en.wikipedia.org/wiki/MurmurHash, and of Feast 0.67.
        for (text, hash) in [
            ("", 0),
            ("test", 0xba6b_d213),
            ("Hello, world!", 0xc036_3e43),
            ("The quick brown fox jumps over the lazy dog", 0x2e4f_f723),
        ] {
            assert_eq!(murmur3(text.as_bytes()), hash, "{text}");
        }
        let names = Names::of([b"driver_hourly_stats:conv_rate".as_slice()].into_iter(), false);
        let names = names.unwrap();
        assert_eq!(names.all().collect::<Vec<_>>(), [[0x61, 0x60, 0xe3, 0xda]]);
        assert_eq!(names.time_of(0), None);
    }

    #[test]
    fn each_view_has_one_time() {
        let asked = ["v:a", "w:a", "v:b:c", "v:a[2]"].map(str::as_bytes);
        let names = Names::of(asked.into_iter(), true).unwrap();
        let times: Vec<_> = names.all().skip(4).collect();
        assert_eq!(times, [b"_ts:v", b"_ts:w"]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|place| names.time_of(place)),
            [Some(4), Some(5), Some(4), Some(4), None]
        );
        for name in ["a", "", ":a"] {
            let refused = Names::of([name.as_bytes()].into_iter(), true);
            assert_eq!(refused.unwrap_err(), name.as_bytes());
        }
    }

    #[test]
    fn a_buffer_holds_what_was_written_and_no_more_than_it_may() {
        let names = Names::of([b"v:a".as_slice(), b"v:a"].into_iter(), true).unwrap();
        let mut buffer = ValueBuffer::new(64);
        buffer.reset(3);
        let mut reading = names.reading(&mut buffer);
        reading.take(0, std::iter::once(1), b"\x20\x07").unwrap();
        reading.take(2, std::iter::empty(), b"\x08\x01\x10\xc0\x84\x3d").unwrap();
        let long = [b"\x12\x41", [b'x'; 65].as_slice()].concat();
        assert!(reading.take(0, std::iter::empty(), &long).is_none());
        // Three bytes that are no text might take more than 64.
        assert!(reading.take(0, std::iter::empty(), b"\x20\x80\x01").is_none());
        let is = |place, integer| matches!(buffer.get(place), Found::Value(Value::I64(found)) if found == integer);
        assert!(is(0, 7) && is(1, 7) && is(2, 1_001));
    }
}
