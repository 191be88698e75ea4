//! The commands that only read: look up → reply.

use super::entry::Entry;
use super::flights::Place;
use super::namespaces::Figure;
use super::node;
use super::parse::version;
use super::reply::millis;
use super::stats::count;
use crate::server::{Arg, Call, Error, Lock, Reply, monotonic};
use crate::time::{MICROS_PER_MILLI, Millis};
use arrayvec::ArrayVec;

/// ML.CACHEGET key version
pub fn get(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let open = call.read(key);
    open.prefetch::<Entry>();
    let now_ms = call.now() / MICROS_PER_MILLI;
    let entry = open.value_ref::<Entry>()?;
    let found = find(&call.lock(), key, version, entry.as_deref(), now_ms);
    reply_value(call.reply, found);
    Ok(())
}

/// How many keys are looked up before the first of them is read.
const AHEAD: usize = 16;

/// ML.CACHEMGET version key [key ...]
pub fn mget(call: &mut Call) -> Result<(), Error> {
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let lock = call.lock();
    let mut keys = call.args.remaining();
    call.reply.array(keys.len());
    while keys.len() > 0 {
        // The answers come from memory while further keys are looked up.
        let ahead: ArrayVec<_, AHEAD> = keys.by_ref().take(AHEAD).collect();
        let open: ArrayVec<_, AHEAD> = ahead
            .iter()
            .map(|key| {
                let open = call.read(*key);
                open.prefetch::<Entry>();
                open
            })
            .collect();
        for (key, open) in ahead.iter().zip(&open) {
            // What is no entry has no answer, as MGET has it.
            let entry = open.value_ref::<Entry>().unwrap_or_default();
            reply_value(call.reply, find(&lock, *key, version, entry.as_deref(), now_ms));
        }
    }
    Ok(())
}

/// The fresh answer of a version in force; counts a hit or a miss.
fn find<'e>(
    lock: &Lock,
    key: Arg,
    version: &[u8],
    entry: Option<&'e Entry>,
    now_ms: Millis,
) -> Option<&'e Entry> {
    node::with(lock, |node| {
        let namespace = node.namespace(key.bytes());
        let found = entry
            .filter(|_| namespace.admits(version))
            .and_then(|entry| entry.get(version, now_ms));
        match found {
            Some(answer) => {
                count(namespace, Figure::Hits, 1);
                count(namespace, Figure::SavedMs, answer.term().cost_ms.into());
            }
            None => count(namespace, Figure::Misses, 1),
        }
        found
    })
}

fn reply_value(reply: Reply, found: Option<&Entry>) {
    match found {
        Some(answer) => reply.bytes(answer.value()),
        None => reply.null(),
    }
}

/// ML.CACHEINFO key
pub fn info(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let place = Place::new(call.db(), key.bytes());
    let (lease_us, waiters) =
        node::with(&call.lock(), |node| node.flights.look(&place, monotonic()));
    let open = call.read(key);
    let entry = open.value_ref::<Entry>()?;
    if entry.is_none() && lease_us == 0 && waiters == 0 {
        call.reply.null();
        return Ok(());
    }
    let answers = || {
        let all = entry.as_deref().into_iter().flat_map(Entry::answers);
        all.filter(|answer| answer.term().is_alive(now_ms))
    };
    let reply = call.reply;
    reply.map(3);
    field(reply, "lease_ms", millis(lease_us));
    field(reply, "waiters", waiters as u64);
    reply.bytes(b"versions");
    reply.array(answers().count());
    for answer in answers() {
        let term = answer.term();
        reply.map(6);
        reply.bytes(b"version");
        reply.bytes(answer.version());
        field(reply, "bytes", answer.value().len() as u64);
        field(reply, "ttl_ms", term.expires_at_ms.saturating_sub(now_ms));
        let stale_from_ms = term.expires_at_ms.max(now_ms);
        field(reply, "stale_ms", term.stale_until_ms.saturating_sub(stale_from_ms));
        field(reply, "age_ms", now_ms.saturating_sub(term.written_at_ms));
        field(reply, "cost_ms", term.cost_ms.into());
    }
    Ok(())
}

fn field(reply: Reply, name: &str, value: u64) {
    reply.bytes(name.as_bytes());
    reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
}
