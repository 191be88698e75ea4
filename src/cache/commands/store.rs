//! How answers change in a key: what the commands that write share, with what
//! applies their effects.

use crate::cache::answer::{Answer, MAX_VERSIONS};
use crate::cache::codec::{self, Change};
use crate::cache::config::VERSIONS;
use crate::cache::datatype::APPLY;
use crate::cache::flights::Place;
use crate::cache::lifetime::Lifetime;
use crate::cache::namespaces::Statistic;
use crate::cache::state;
use crate::cache::stats::count;
use crate::server::{Arg, Call, Error, Lock, WriteKey, effects_are_wanted, refuse};
use crate::time::Millis;
use std::ffi::CStr;

/// Whether a version may be read and filled.
pub fn admits(lock: &Lock, key: Arg, version: &[u8]) -> bool {
    state::with(lock, |state| state.namespace(key.bytes()).admits(version))
}

/// The answer of a version, not in a key yet.
pub fn answer(version: &[u8], value: Arg, lifetime: Lifetime) -> Result<Answer, Error> {
    Answer::of(version, value.bytes(), lifetime)
        .ok_or_else(|| refuse("not enough memory for value"))
}

/// Puts the answer of a version, whose value came as an argument, into a key,
/// replicates it, and gives it to those who wait.
pub fn put<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    version: &[u8],
    answer: Answer,
    value: Arg<'a>,
    now_ms: Millis,
) -> Result<(), Error> {
    let keep = usize::try_from(VERSIONS.get()).unwrap_or(1);
    let lifetime = answer.lifetime();
    let mut open = call.write(key);
    let outlived = open.value_ref::<Answer>()?.map(|entry| entry.outlived(version, keep, now_ms));
    let outlived = outlived.unwrap_or_default();
    let dropped: Vec<_> = outlived.iter().map(AsRef::as_ref).collect();
    store(&mut open, answer, &dropped)?;
    drop(open);
    replicate(call, key, &Change::Put { version, lifetime, dropped }, Some(value));
    state::act(&call.lock(), |state| {
        let namespace = state.namespace(key.bytes());
        count(namespace, Statistic::EntriesWritten, 1);
        count(namespace, Statistic::BytesWritten, value.bytes().len() as u64);
        if state.flights.count() > 0 {
            let ttl_ms = lifetime.expires_at_ms.saturating_sub(now_ms);
            let place = Place::new(call.db(), key.bytes());
            state.flights.fill(&place, version, ttl_ms, || value.bytes().into());
        }
    });
    Ok(())
}

/// Puts the answer into the key, which lives as long as one of its answers can
/// be served.
pub fn store(key: &mut WriteKey, answer: Answer, dropped: &[&[u8]]) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.cacheset";
    let stays =
        |held: &&Answer| held.version() != answer.version() && !dropped.contains(&held.version());
    let others = key.value_ref::<Answer>()?.map(|entry| {
        let others = entry.answers().filter(stays);
        (others.clone().count(), others.map(|held| held.lifetime().stale_until_ms).max())
    });
    let (count, longest_ms) = others.unwrap_or_default();
    if count >= MAX_VERSIONS {
        return Err(refuse(format!("the entry holds {MAX_VERSIONS} versions already")));
    }
    let expires_at_ms = longest_ms.unwrap_or(0).max(answer.lifetime().stale_until_ms);
    match count {
        // The common case: the one answer of a key takes its last one's place.
        0 => drop(key.set(answer)?),
        _ => {
            let version = answer.version().to_vec();
            let gone: Vec<_> = dropped.iter().copied().chain([version.as_slice()]).collect();
            let others = key.set(answer)?.and_then(|old| old.without(&gone));
            if let Some(head) = key.inner::<Answer>()? {
                head.set_older(others);
            }
        }
    }
    key.expire_at_ms(expires_at_ms);
    key.changed(EVENT);
    Ok(())
}

/// Takes versions out of an entry, or makes them stale; the key goes with the
/// last of them.
pub fn change_answers(key: &mut WriteKey, change: &Change) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.cachedrop";
    let newest = key.value_ref::<Answer>()?.map(|entry| entry.version().to_vec());
    let Some(newest) = newest else { return Ok(()) };
    match change {
        Change::Put { .. } => {}
        Change::Drop(versions) => {
            // What the key holds meanwhile is empty, and goes if nothing is left.
            let left = key.set(Answer::default())?.and_then(|all| all.without(versions));
            match left {
                Some(left) => drop(key.set(left)?),
                None => key.delete(),
            }
        }
        Change::Retime(lifetimes) => {
            for (version, lifetime) in lifetimes {
                let Some(head) = key.inner::<Answer>()? else { break };
                match *version == newest {
                    true => head.set_lifetime(*lifetime),
                    false => head.retime_older(version, *lifetime),
                }
            }
        }
    }
    let expires_at_ms = key.value_ref::<Answer>()?.map(|entry| entry.expires_at_ms());
    match expires_at_ms {
        Some(expires_at_ms) => {
            key.expire_at_ms(expires_at_ms);
            key.changed(EVENT);
        }
        None => key.deleted(EVENT),
    }
    Ok(())
}

/// Sends a change to replicas and the AOF.
pub fn replicate<'a>(call: &Call<'a>, key: Arg<'a>, change: &Change, value: Option<Arg<'a>>) {
    if effects_are_wanted() {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        call.replicate(APPLY, key, &payload, value);
    } else {
        call.replicate_nothing();
    }
}
