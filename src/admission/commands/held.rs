//! What commands do alike that end or prolong a hold: on each of its keys where it is
//! open, whatever became of the others.

use crate::permit::{self, Permits};
use crate::ratelimit::{self, Limiter};
use crate::server::{Arg, Call, Error, Keyspace};

/// A change of a hold on one key.
pub enum Change {
    /// Of a limiter.
    Limit(ratelimit::Change<'static>),
    /// Of permits.
    Permit(permit::Change),
}

/// What a key holds.
pub enum Value<'k> {
    /// A limiter.
    Limit(&'k Limiter),
    /// Permits.
    Permit(&'k Permits),
}

/// Looks at what a key holds: nothing where there is no key.
pub fn look<'a, R>(
    keys: &Keyspace<'a>,
    key: Arg<'a>,
    work: impl FnOnce(Option<Value>) -> R,
) -> Result<R, Error> {
    let open = keys.read(key);
    match open.value::<Limiter>() {
        Ok(limiter) => Ok(work(limiter.map(Value::Limit))),
        Err(_) => Ok(work(open.value::<Permits>()?.map(Value::Permit))),
    }
}

/// Decides on each key, then changes each on which there is something to change,
/// and answers which: 1 or 0, a key.
pub fn change_each<'a>(
    call: &mut Call<'a>,
    keys: &[Arg<'a>],
    mut decide: impl FnMut(usize, Value) -> Result<Option<Change>, Error>,
    mut count: impl FnMut(&Change),
) -> Result<(), Error> {
    let decide = |(place, key): (usize, &Arg<'a>)| {
        let decided = look(&call.keys, *key, |value| match value {
            Some(value) => decide(place, value),
            None => Ok(None),
        });
        decided?
    };
    let changes = keys.iter().enumerate().map(decide).collect::<Result<Vec<_>, _>>()?;
    for (key, change) in keys.iter().zip(&changes) {
        match change {
            Some(Change::Limit(change)) => {
                ratelimit::store::commit(call.keys.write(*key), change, |_| ())?;
            }
            Some(Change::Permit(change)) => permit::store::commit(call.keys.write(*key), change)?,
            None => continue,
        }
        change.iter().for_each(&mut count);
    }
    call.reply.array(changes.len());
    changes.iter().for_each(|change| call.reply.integer(change.is_some().into()));
    Ok(())
}
