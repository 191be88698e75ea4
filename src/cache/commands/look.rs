//! What a caller gets of single flight: an answer, a lease, or the advice to wait.
//! ML.CACHEFETCH and ML.CACHEMFETCH share it.

use super::cachefetch::Fetch;
use crate::cache::answer::Answer;
use crate::cache::config::LEASES;
use crate::cache::early::is_early;
use crate::cache::flights::{Place, Refusal};
use crate::cache::namespaces::{Namespace, Statistic};
use crate::cache::reply::{Fetched, millis};
use crate::cache::state;
use crate::cache::stats::count;
use crate::server::{Arg, Call, Monotonic, monotonic, new_id, random_fraction};
use crate::time::{MICROS_PER_MILLI, Millis};

/// What a caller gets.
pub enum Outcome<'a> {
    /// An answer, of whatever kind.
    Now(Fetched<'a>),
    /// Another caller computes, for so long at most: this one could wait.
    Later(Monotonic),
}

/// Looks for an answer, and asks for the lease on it where there is none.
pub fn look<'e>(
    call: &Call,
    key: Arg,
    version: &[u8],
    entry: Option<&'e Answer>,
    asked: &Fetch,
    now_ms: Millis,
) -> Outcome<'e> {
    let lock = call.lock();
    let hit = |namespace: &mut Namespace, answer: &'e Answer| {
        count(namespace, Statistic::Hits, 1);
        count(namespace, Statistic::SavedMs, answer.lifetime().cost_ms.into());
        let ttl_ms = answer.lifetime().expires_at_ms.saturating_sub(now_ms);
        Outcome::Now(Fetched::Hit(answer.value(), ttl_ms))
    };
    let is_early = |lifetime| {
        let early = |beta| is_early(&lifetime, beta, random_fraction(), now_ms);
        asked.beta.is_some_and(early) && call.is_primary()
    };
    let mut alive = None;
    let at_once = state::with(&lock, |state| {
        let namespace = state.namespace(key.bytes());
        if !namespace.admits(version) {
            count(namespace, Statistic::Misses, 1);
            return Some(Outcome::Now(Fetched::Retired));
        }
        let held = entry.and_then(|entry| entry.answer(version));
        alive = held.filter(|answer| answer.lifetime().is_alive(now_ms));
        match alive.filter(|answer| answer.lifetime().is_fresh(now_ms)) {
            Some(answer) => (!is_early(answer.lifetime())).then(|| hit(namespace, answer)),
            None => {
                count(namespace, Statistic::Misses, 1);
                None
            }
        }
    });
    if let Some(outcome) = at_once {
        return outcome;
    }
    let fresh = alive.filter(|answer| answer.lifetime().is_fresh(now_ms));
    let lease = match call.is_primary() {
        true => state::act(&lock, |state| {
            let place = Place::new(call.db(), key.bytes());
            let lease_us = asked.lease_ms.saturating_mul(MICROS_PER_MILLI);
            let most = usize::try_from(LEASES.get()).unwrap_or(0);
            let lease =
                state.flights.lease(&place, version, lease_us, most, monotonic(), &mut new_id);
            if lease.is_ok() {
                count(state.namespace(key.bytes()), Statistic::Leases, 1);
            }
            lease
        }),
        false => Err(Refusal::Full),
    };
    match (lease, fresh, alive) {
        (Ok(token), ..) => {
            let value = alive.map(Answer::value);
            Outcome::Now(Fetched::Lease(token, asked.lease_ms, value))
        }
        (_, Some(answer), _) => {
            state::with(&lock, |state| hit(state.namespace(key.bytes()), answer))
        }
        (_, _, Some(answer)) => {
            state::with(&lock, |state| count(state.namespace(key.bytes()), Statistic::Stale, 1));
            let left_ms = answer.lifetime().stale_until_ms.saturating_sub(now_ms);
            Outcome::Now(Fetched::Stale(answer.value(), left_ms))
        }
        (Err(Refusal::Leased(left_us)), ..) => Outcome::Later(left_us),
        (Err(Refusal::BackedOff(left_us)), ..) => Outcome::Now(Fetched::Busy(millis(left_us))),
        (Err(Refusal::Full), ..) => Outcome::Now(Fetched::Busy(0)),
    }
}
