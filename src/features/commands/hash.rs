//! Reading plain hashes: resolved once a call, read once an entity.

use super::answers::too_long;
use super::fields::Field;
use crate::bug;
use crate::features::buffer::TakeText;
use crate::server::{Error, Hash, HashField};
use std::hash::{BuildHasher, RandomState};
use std::iter::{empty, successors};
use std::sync::LazyLock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The fields of a call, as they are looked for in hashes.
pub struct HashPlan<'a> {
    places: Places<'a>,
    /// How many names there are.
    names: usize,
    /// Their bytes.
    name_bytes: usize,
}

impl<'a> HashPlan<'a> {
    /// The plan for these fields.
    pub fn new(fields: Vec<Field<'a>>) -> Self {
        let places = Places::new(fields);
        let (mut names, mut name_bytes) = (0, 0);
        for place in places.firsts() {
            names += 1;
            name_bytes += places.field(place).name.len();
        }
        Self { places, names, name_bytes }
    }

    /// How many fields the call asks for.
    pub fn field_count(&self) -> usize {
        self.places.fields.len()
    }

    /// Reads the fields of an entity; how many bytes that took. An error where the
    /// values are longer than what takes them allows.
    pub fn read(&self, hash: &Hash, values: &mut impl TakeText) -> Result<usize, Error> {
        let mut bytes = 0;
        let look_ups = look_ups_in_list(hash.field_count(), self.names);
        if !look_ups && self.pass_over(hash, values, &mut bytes)? {
            return Ok(bytes);
        }
        for place in self.places.firsts() {
            // Where a pass was begun, some are known already.
            if values.has(place) {
                continue;
            }
            if let Some(value) = look_up(hash, self.places.field(place)) {
                let value = value.bytes();
                bytes += value.len();
                values.take(place, self.places.others(place), value).ok_or_else(too_long)?;
            }
        }
        Ok(bytes)
    }

    /// Reads the fields in one pass over all of the hash. Not to the end where it is a
    /// table in which looking them up takes less: whether it came to it.
    fn pass_over(
        &self,
        hash: &Hash,
        values: &mut impl TakeText,
        bytes: &mut usize,
    ) -> Result<bool, Error> {
        // Hashes are mostly written in the order in which they are asked for:
        // the field that follows the last one is tried first.
        let (mut next, mut taken, fields) = (0, Some(()), &self.places.fields);
        let repeats = self.names < self.field_count();
        let all = hash.each_if(
            |field, value| {
                *bytes += field.len() + value.len();
                if taken.is_none() {
                    return;
                }
                if !repeats && fields.get(next).is_some_and(|asked| asked.name == field) {
                    taken = values.take(next, empty(), value);
                    next += 1;
                } else if let Some(place) = self.places.first(field) {
                    taken = values.take(place, self.places.others(place), value);
                    next = place + 1;
                }
            },
            || !look_ups_in_table(hash.field_count(), self.names, self.name_bytes),
        )?;
        taken.ok_or_else(too_long)?;
        Ok(all)
    }
}

fn look_up<'k>(hash: &'k Hash, field: &Field) -> Option<HashField<'k>> {
    match field.arg {
        Some(arg) => hash.field(arg),
        None => hash.field_named(field.name),
    }
}

/// Whether to look so many names up in a hash that the server holds as a list, rather
/// than pass over it: each look-up walks through half of it.
///
/// Measured on Redis 7.0 and 8.2, with lists of 4 to 500 fields: a pass takes about
/// 64 ns for each field, a look-up 48 and one more for each field. A list of 50 is
/// passed over for 33 names and more, one of 500 for 59.
fn look_ups_in_list(fields: usize, names: usize) -> bool {
    names.saturating_mul(48 + fields) <= fields * 64
}

/// The same where it is a table, of which nothing tells but that a pass takes more than
/// one step.
///
/// Measured with tables of 250 fields out of the processor's caches: a pass takes about
/// 150 ns for each field, as the server makes a string of its name as well, a look-up 125.
/// The name is hashed for it, about a byte a ns.
fn look_ups_in_table(fields: usize, names: usize, name_bytes: usize) -> bool {
    names.saturating_mul(125).saturating_add(name_bytes) <= fields * 150
}

/// Where each name stands in a call. A table by hashes, at most half of it full, in which
/// what has no place of its own stands in the next that is free.
struct Places<'a> {
    fields: Vec<Field<'a>>,
    /// The first place of a name, or [`NOWHERE`].
    firsts: Vec<u32>,
    /// For each place the next that asks for the same, or [`NOWHERE`].
    others: Vec<u32>,
    /// Nobody can make up names that hash alike without it.
    seed: u64,
}

/// No place. A call has fewer by far.
const NOWHERE: u32 = u32::MAX;

impl<'a> Places<'a> {
    fn new(fields: Vec<Field<'a>>) -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
        let firsts = vec![NOWHERE; (2 * fields.len()).next_power_of_two()];
        let others = vec![NOWHERE; fields.len()];
        let mut places = Self { fields, firsts, others, seed: *SEED };
        // From the last on, so that the first of a name is met last.
        for place in (0..places.fields.len()).rev() {
            let slot = places.slot(places.field(place).name);
            let first = places.firsts.get_mut(slot).zip(places.others.get_mut(place));
            let (first, other) = first.unwrap_or_else(|| bug("a slot that is not there"));
            *other = std::mem::replace(first, place as u32);
        }
        places
    }

    fn field(&self, place: usize) -> &Field<'a> {
        self.fields.get(place).unwrap_or_else(|| bug("a place without a field"))
    }

    /// The slot of a name: it is free, or has its first place.
    fn slot(&self, name: &[u8]) -> usize {
        let last = self.firsts.len() - 1;
        let mut slot = xxh3_64_with_seed(name, self.seed) as usize & last;
        loop {
            let first = self.firsts.get(slot).unwrap_or_else(|| bug("a slot that is not there"));
            match place(*first).and_then(|first| self.fields.get(first)) {
                Some(field) if field.name != name => slot = (slot + 1) & last,
                _ => return slot,
            }
        }
    }

    /// The first place of a name, if it has any.
    fn first(&self, name: &[u8]) -> Option<usize> {
        self.firsts.get(self.slot(name)).copied().and_then(place)
    }

    /// The places that ask for the same as the first of a name.
    fn others(&self, first: usize) -> impl Iterator<Item = usize> {
        let next = |of: &usize| self.others.get(*of).copied().and_then(place);
        successors(next(&first), next)
    }

    /// The first place of each name.
    fn firsts(&self) -> impl Iterator<Item = usize> {
        self.firsts.iter().copied().filter_map(place)
    }
}

fn place(place: u32) -> Option<usize> {
    (place != NOWHERE).then_some(place as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_are_found_where_they_stand(
            asked in prop::collection::vec("[a-c]{0,2}", 0..40),
            others in prop::collection::vec("[a-d]{0,3}", 0..8),
        ) {
            let name = |text: &str| text.to_owned().into_bytes();
            let names: Vec<_> = asked.iter().map(|text| name(text)).collect();
            let fields: Vec<_> = names.iter().map(|name| Field { arg: None, name }).collect();
            let plan = HashPlan::new(fields);
            let mut distinct = names.clone();
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(plan.names, distinct.len());
            prop_assert_eq!(plan.name_bytes, distinct.iter().map(Vec::len).sum::<usize>());
            let mut firsts: Vec<_> = plan.places.firsts().map(|place| &names[place]).collect();
            firsts.sort();
            prop_assert!(firsts.into_iter().eq(&distinct));
            let others = others.iter().map(|text| name(text));
            for name in names.iter().cloned().chain(others) {
                let first = plan.places.first(&name);
                let found = first.into_iter().chain(first.into_iter().flat_map(|first| plan.places.others(first)));
                let stands = names.iter().enumerate().filter(|(_, other)| **other == name);
                prop_assert!(found.eq(stands.map(|(place, _)| place)));
            }
        }
    }

    #[test]
    fn most_of_a_list_is_passed_over_and_a_table_looked_up_in() {
        for (fields, names) in [(50, 33), (250, 54), (500, 59)] {
            assert!(!look_ups_in_list(fields, names) && look_ups_in_list(fields, names - 1));
            for names in [names, fields] {
                assert!(look_ups_in_table(fields, names, names * 10));
                assert!(!look_ups_in_table(fields, names, 1 << 20), "names of a megabyte");
            }
            assert!(!look_ups_in_table(fields, 2 * fields, fields * 20));
        }
    }
}
