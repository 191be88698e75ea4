//! Reading plain hashes: resolved once a call, read once an entity.

use super::answers::too_long;
use super::fields::Field;
use crate::bug;
use crate::features::buffer::TakeText;
use crate::server::{Error, Hash, HashField};
use std::iter::empty;

/// The fields of a call, as they are looked for in hashes.
pub struct HashPlan<'a> {
    fields: Vec<Field<'a>>,
    /// The names sorted, each with its place in the call.
    sorted: Vec<(&'a [u8], usize)>,
    /// Whether a name is asked for more than once.
    repeats: bool,
}

impl<'a> HashPlan<'a> {
    /// The plan for these fields.
    pub fn new(fields: Vec<Field<'a>>) -> Self {
        let mut sorted: Vec<_> = fields.iter().map(|field| field.name).zip(0..).collect();
        // Names that are the same meet, as all neighbours do that are put in order.
        let mut repeats = false;
        sorted.sort_unstable_by(|(one, place), (other, other_place)| {
            one.cmp(other).then_with(|| {
                repeats |= place != other_place;
                place.cmp(other_place)
            })
        });
        Self { fields, sorted, repeats }
    }

    /// How many fields the call asks for.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// Reads the fields of an entity; how many bytes that took. An error where the
    /// values are longer than what takes them allows.
    pub fn read(&self, hash: &Hash, values: &mut impl TakeText) -> Result<usize, Error> {
        let mut bytes = 0;
        if one_pass_is_faster(hash.field_count(), self.fields.len(), || self.long_bytes()) {
            // Hashes are mostly written in the order in which they are asked for:
            // the field that follows the last one is tried first.
            let (mut next, mut taken) = (0, Some(()));
            hash.each(|field, value| {
                bytes += field.len() + value.len();
                if taken.is_none() {
                    return;
                }
                if !self.repeats && self.fields.get(next).is_some_and(|asked| asked.name == field) {
                    taken = values.take(next, empty(), value);
                    next += 1;
                    return;
                }
                let mut places = self.places(field).inspect(|place| next = *place + 1);
                if let Some(first) = places.next() {
                    taken = values.take(first, places, value);
                }
            })?;
            taken.ok_or_else(too_long)?;
        } else if self.repeats {
            for same in self.sorted.chunk_by(|one, next| one.0 == next.0) {
                let mut places = same.iter().map(|(_, place)| *place);
                let first = places.next().unwrap_or_else(|| bug("a name without a place"));
                let field = self.fields.get(first);
                let field = field.unwrap_or_else(|| bug("a place without a field"));
                if let Some(value) = look_up(hash, field) {
                    let value = value.bytes();
                    bytes += value.len();
                    values.take(first, places, value).ok_or_else(too_long)?;
                }
            }
        } else {
            for (place, field) in self.fields.iter().enumerate() {
                if let Some(value) = look_up(hash, field) {
                    let value = value.bytes();
                    bytes += value.len();
                    values.take(place, empty(), value).ok_or_else(too_long)?;
                }
            }
        }
        Ok(bytes)
    }

    /// Bytes of the names that are longer than those in lists.
    fn long_bytes(&self) -> usize {
        self.fields.iter().map(|field| field.name.len()).filter(|length| *length > LIST_NAME).sum()
    }

    /// Where a name stands in the call.
    fn places(&self, name: &[u8]) -> impl Iterator<Item = usize> {
        let start = self.sorted.partition_point(|(other, _)| *other < name);
        let from = self.sorted.get(start..).unwrap_or_else(|| bug("a point beyond the names"));
        from.iter().take_while(move |(other, _)| *other == name).map(|(_, place)| *place)
    }
}

fn look_up<'k>(hash: &'k Hash, field: &Field) -> Option<HashField<'k>> {
    match field.arg {
        Some(arg) => hash.field(arg),
        None => hash.field_named(field.name),
    }
}

/// Whether to pass over all of a hash rather than look so many fields up. A small
/// hash is a list, in which each look-up walks through half of it; a large one is
/// a table, of which a pass would read all.
///
/// Measured on Redis 7.0 and 8.2, with lists of 4 to 500 fields: a pass takes
/// about 64 units for each field, a look-up 48 and one more for each field. A
/// list of 50 is passed over for 33 fields and more, one of 500 for 59.
///
/// A table hashes each name that is looked up, about a byte a unit.
fn one_pass_is_faster(fields: usize, asked: usize, long_bytes: impl FnOnce() -> usize) -> bool {
    const LARGEST_LIST: usize = 512;
    if fields > LARGEST_LIST {
        return false;
    }
    let (pass, look_ups) = (fields * 64, asked.saturating_mul(48 + fields));
    look_ups > pass || look_ups.saturating_add(long_bytes()) > pass
}

/// The longest name of a field in a list, as servers come.
const LIST_NAME: usize = 64;
