//! Single flight: of all callers that miss an answer, one computes it.

use super::config::LEASES;
use super::early::is_early;
use super::entry::Entry;
use super::flights::{Place, Refusal};
use super::namespaces::{Figure, Namespace};
use super::node::{self, Callers};
use super::parse::{self, Fetch, version};
use super::reply::{Fetched, millis, reply_fetched};
use super::stats::count;
use crate::server::{Arg, Call, Error, Monotonic, monotonic, new_id, random_fraction};
use crate::time::{MICROS_PER_MILLI, Millis};

/// What a caller gets.
enum Outcome<'a> {
    /// An answer, of whatever kind.
    Now(Fetched<'a>),
    /// Another caller computes, for so long at most: this one could wait.
    Later(Monotonic),
}

/// ML.CACHEFETCH key version LEASE ms [WAIT ms] [EARLY beta]
pub fn fetch(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let asked = Fetch::parse(&mut call.args)?;
    let open = call.read(key);
    open.prefetch::<Entry>();
    let now_ms = call.now() / MICROS_PER_MILLI;
    let entry = open.value_ref::<Entry>()?;
    let left_us = match look(call, key, version, entry.as_deref(), &asked, now_ms) {
        Outcome::Now(fetched) => {
            reply_fetched(call.reply, &fetched);
            return Ok(());
        }
        Outcome::Later(left_us) => left_us,
    };
    match asked.wait_ms.filter(|_| call.may_wait()) {
        Some(wait_ms) => {
            let lock = call.lock();
            let waiter = call.wait::<Callers>(&lock, key, wait_ms)?;
            node::act(&lock, |node| {
                count(node.namespace(key.bytes()), Figure::OnUnblock, 1);
                let lease_us = asked.lease_ms.saturating_mul(MICROS_PER_MILLI);
                node.flights.wait(&Place::new(call.db(), key.bytes()), version, waiter, lease_us);
            });
        }
        None => reply_fetched(call.reply, &Fetched::Busy(millis(left_us))),
    }
    Ok(())
}

/// ML.CACHEMFETCH version LEASE ms key [key ...]
pub fn mfetch(call: &mut Call) -> Result<(), Error> {
    let version = version(call.args.arg()?)?;
    let asked = parse::lease(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let keys: Vec<_> = call.args.remaining().collect();
    for key in &keys {
        call.read(*key).value_ref::<Entry>()?;
    }
    call.reply.array(keys.len());
    for key in keys {
        let open = call.read(key);
        let entry = open.value_ref::<Entry>()?;
        let fetched = match look(call, key, version, entry.as_deref(), &asked, now_ms) {
            Outcome::Now(fetched) => fetched,
            Outcome::Later(left_us) => Fetched::Busy(millis(left_us)),
        };
        reply_fetched(call.reply, &fetched);
    }
    Ok(())
}

fn look<'e>(
    call: &Call,
    key: Arg,
    version: &[u8],
    entry: Option<&'e Entry>,
    asked: &Fetch,
    now_ms: Millis,
) -> Outcome<'e> {
    let lock = call.lock();
    let hit = |namespace: &mut Namespace, answer: &'e Entry| {
        count(namespace, Figure::Hits, 1);
        count(namespace, Figure::SavedMs, answer.term().cost_ms.into());
        let ttl_ms = answer.term().expires_at_ms.saturating_sub(now_ms);
        Outcome::Now(Fetched::Hit(answer.value(), ttl_ms))
    };
    let is_early = |term| {
        let early = |beta| is_early(&term, beta, random_fraction(), now_ms);
        asked.beta.is_some_and(early) && call.is_primary()
    };
    let mut alive = None;
    let at_once = node::with(&lock, |node| {
        let namespace = node.namespace(key.bytes());
        if !namespace.admits(version) {
            count(namespace, Figure::Misses, 1);
            return Some(Outcome::Now(Fetched::Retired));
        }
        let held = entry.and_then(|entry| entry.answer(version));
        alive = held.filter(|answer| answer.term().is_alive(now_ms));
        match alive.filter(|answer| answer.term().is_fresh(now_ms)) {
            Some(answer) => (!is_early(answer.term())).then(|| hit(namespace, answer)),
            None => {
                count(namespace, Figure::Misses, 1);
                None
            }
        }
    });
    if let Some(outcome) = at_once {
        return outcome;
    }
    let fresh = alive.filter(|answer| answer.term().is_fresh(now_ms));
    let lease = match call.is_primary() {
        true => node::act(&lock, |node| {
            let place = Place::new(call.db(), key.bytes());
            let lease_us = asked.lease_ms.saturating_mul(MICROS_PER_MILLI);
            let most = usize::try_from(LEASES.get()).unwrap_or(0);
            let lease =
                node.flights.lease(&place, version, lease_us, most, monotonic(), &mut new_id);
            if lease.is_ok() {
                count(node.namespace(key.bytes()), Figure::Leases, 1);
            }
            lease
        }),
        false => Err(Refusal::Full),
    };
    match (lease, fresh, alive) {
        (Ok(token), ..) => {
            let value = alive.map(Entry::value);
            Outcome::Now(Fetched::Lease(token, asked.lease_ms, value))
        }
        (_, Some(answer), _) => node::with(&lock, |node| hit(node.namespace(key.bytes()), answer)),
        (_, _, Some(answer)) => {
            node::with(&lock, |node| count(node.namespace(key.bytes()), Figure::Stale, 1));
            let left_ms = answer.term().stale_until_ms.saturating_sub(now_ms);
            Outcome::Now(Fetched::Stale(answer.value(), left_ms))
        }
        (Err(Refusal::Leased(left_us)), ..) => Outcome::Later(left_us),
        (Err(Refusal::BackedOff(left_us)), ..) => Outcome::Now(Fetched::Busy(millis(left_us))),
        (Err(Refusal::Full), ..) => Outcome::Now(Fetched::Busy(0)),
    }
}

/// ML.CACHERELEASE key token [BACKOFF ms]
pub fn release(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = parse::token(call.args.arg()?);
    let back_off_ms = parse::back_off(&mut call.args)?;
    call.read(key).value_ref::<Entry>()?;
    let released = token.is_some_and(|token| {
        node::act(&call.lock(), |node| {
            let place = Place::new(call.db(), key.bytes());
            let back_off_us = back_off_ms.map(|ms| ms.saturating_mul(MICROS_PER_MILLI));
            node.flights.release(&place, token, back_off_us, monotonic(), &mut new_id)
        })
    });
    call.reply.integer(released.into());
    Ok(())
}
