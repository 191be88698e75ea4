//! What commands do alike that end or prolong a hold: on each of its keys where it is
//! open, whatever became of the others.

use crate::admission::change::{Change, tell};
use crate::permit::Permits;
use crate::ratelimit::Limiter;
use crate::server::{Call, DistinctKeys, Error, ReadKey, WriteKey};
use smallvec::SmallVec;

/// Something of each key, mostly of few.
pub type PerKey<T> = SmallVec<[T; 4]>;

/// What a key holds.
pub enum Value<'k> {
    /// A limiter.
    Limit(&'k Limiter),
    /// Permits.
    Permit(&'k Permits),
}

impl<'k> Value<'k> {
    /// What an open key holds: nothing where there is no key.
    pub fn of(open: &'k ReadKey) -> Result<Option<Self>, Error> {
        match open.value::<Limiter>() {
            Ok(limiter) => Ok(limiter.map(Self::Limit)),
            Err(_) => Ok(open.value::<Permits>()?.map(Self::Permit)),
        }
    }
}

/// Decides on each key, then changes each on which there is something to change,
/// and answers which: 1 or 0, a key.
pub fn change_each<'a>(
    call: &mut Call<'a>,
    keys: &DistinctKeys<'a>,
    mut decide: impl FnMut(usize, Value) -> Result<Option<Change<'static>>, Error>,
    count: impl Fn(&Change),
) -> Result<(), Error> {
    let open = call.keys.write_all(keys);
    let decide = |(place, open)| match Value::of(open)? {
        Some(value) => decide(place, value),
        None => Ok(None),
    };
    let open_to_read = open.iter().map(|open| &**open);
    let changes = open_to_read.enumerate().map(decide).collect::<Result<PerKey<_>, Error>>()?;
    let make = |(change, open): (&Option<Change>, WriteKey)| {
        change.as_ref().map(|change| change.make(open)).transpose()
    };
    let ends = changes.iter().zip(open).map(make).collect::<Result<PerKey<_>, Error>>()?;
    let made = changes.iter().zip(&ends).map(|(change, ends)| (*change).zip(*ends));
    tell(&mut call.keys, keys.iter().copied().zip(made));
    changes.iter().flatten().for_each(count);
    call.reply.array(keys.len());
    changes.iter().for_each(|change| call.reply.integer(change.is_some().into()));
    Ok(())
}
