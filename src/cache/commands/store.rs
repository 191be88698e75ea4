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

    fn newest(&mut self) -> Result<Option<&mut Head>, Error> {
        self.inner::<Answer>()
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

/// Puts the answer of a version, whose value came as an argument, into its key. Those
/// who wait for it have it when leases are settled.
pub fn put(
    open: WriteKey,
    lock: &Lock,
    place: Place,
    answer: Answer,
    value: Arg,
    token: Option<Id>,
    now_ms: Millis,
) -> Result<(), Error> {
    let Place { key, version, .. } = place;
    let lifetime = answer.lifetime();
    let change = {
        let answers = open.value_ref::<Answer>()?;
        state::with(lock, |state| {
            let keep = state.versions_to_keep(key);
            let in_force = |version: &[u8]| state.in_force.admits(key, version);
            decide_put(answers.as_deref(), (version, lifetime), keep, in_force, now_ms)
        })
    };
    commit(open, &change, Some((answer, value)))?;
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

/// Commits a change of what a key holds, on the primary and on whatever follows
/// it; with the answer that is put in goes the argument that its value came as.
pub fn commit(mut key: WriteKey, change: &Change, put: Option<(Answer, Arg)>) -> Result<(), Error> {
    const SET: &CStr = c"ml.cacheset";
    const DROP: &CStr = c"ml.cachedrop";
    let event = if put.is_some() { SET } else { DROP };
    let (answer, value) = put.unzip();
    let lives = match change.apply(&mut key, answer)? {
        Some(until_ms) => Lives::Until(until_ms),
        None => Lives::Gone,
    };
    let effect = || {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        payload
    };
    key.commit_with(lives, event, APPLY, effect, value);
    Ok(())
}
