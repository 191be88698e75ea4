//! How answers change in a key: what the commands that write share, with what
//! applies their effects.

use crate::cache::answer::{Answer, Head};
use crate::cache::change::{Change, Holder, decide_put};
use crate::cache::codec;
use crate::cache::counts::Counter;
use crate::cache::datatype::APPLY;
use crate::cache::leases::{self, Hit, Place};
use crate::cache::state;
use crate::id::Id;
use crate::lifetime::Lifetime;
use crate::server::{Arg, Error, Lives, Lock, WriteKey, refuse};
use crate::time::Millis;
use std::ffi::CStr;

impl Holder for WriteKey<'_> {
    type Error = Error;

    fn newest(&mut self) -> Result<Option<(&mut Head, &mut [u8])>, Error> {
        self.block()
    }

    fn replace(&mut self, answers: Answer) -> Result<Option<Answer>, Error> {
        self.set(answers)
    }
}

/// The answer of a version, not in a key yet.
pub fn answer(version: &[u8], value: Arg, lifetime: Lifetime) -> Result<Answer, Error> {
    Answer::of(version, value.bytes(), lifetime)
        .ok_or_else(|| refuse("not enough memory for value"))
}

/// An answer that is to be put into its key.
pub struct Put<'a> {
    /// Its value, as it came.
    pub value: Arg<'a>,
    /// How long it holds.
    pub lifetime: Lifetime,
    /// The lease that it is set under, if under one.
    pub token: Option<Id>,
    /// The answer, where it has been made already.
    pub made: Option<Answer>,
}

/// Puts the answer of a version into its key. Those who wait for it have it when leases are
/// settled.
pub fn put(
    open: WriteKey,
    lock: &Lock,
    place: Place,
    put: Put,
    now_ms: Millis,
) -> Result<(), Error> {
    let Place { key, version, .. } = place;
    let Put { value, lifetime, token, made } = put;
    let change = {
        let answers = open.value_ref::<Answer>()?;
        state::with(lock, |state| {
            let keep = state.versions_to_keep(key);
            let in_force = |version: &[u8]| state.in_force.admits(key, version);
            decide_put(answers.as_deref(), (version, lifetime), keep, in_force, now_ms)
        })
    };
    commit(open, &change, Some(value), made)?;
    let length = value.bytes().len() as u64;
    state::with(lock, |state| {
        let mut tally = state.tally(key, version);
        tally.count(Counter::EntriesWritten, 1);
        tally.count(Counter::BytesWritten, length);
    });
    let ttl_ms = lifetime.expires_at_ms.saturating_sub(now_ms);
    leases::complete(lock, place, token, || Hit::new(value.bytes(), ttl_ms));
    Ok(())
}

/// Commits a change of what a key holds, on the primary and on whatever follows it. With an
/// answer that is put in goes the argument that its value came as. It may have been made
/// already; else it is written over the one that is there, if that can be.
pub fn commit(
    mut key: WriteKey,
    change: &Change,
    value: Option<Arg>,
    made: Option<Answer>,
) -> Result<(), Error> {
    const SET: &CStr = c"ml.cacheset";
    const DROP: &CStr = c"ml.cachedrop";
    let event = if value.is_some() { SET } else { DROP };
    let until_ms = match (&change.put, value) {
        (Some((version, lifetime)), Some(value)) if made.is_none() => {
            match change.overwrite(&mut key, value.bytes())? {
                None => change.apply(&mut key, Some(answer(version, value, *lifetime)?))?,
                until_ms => until_ms,
            }
        }
        _ => change.apply(&mut key, made)?,
    };
    let lives = until_ms.map_or(Lives::Gone, Lives::Until);
    let effect = || {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        payload
    };
    key.commit_with(lives, event, APPLY, effect, value);
    Ok(())
}
