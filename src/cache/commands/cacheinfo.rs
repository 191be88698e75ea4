//! ML.CACHEINFO: what a key holds, who computes, who waits.

use super::arguments::KEY;
use crate::cache::answer::Answer;
use crate::cache::leases::{self, Flights};
use crate::cache::state;
use crate::server::{Call, Command, Error, KeyAccess, KeySpec, Reply, handler, monotonic};
use crate::time::{MICROS_PER_MILLI, millis};

/// ML.CACHEINFO
pub const COMMAND: Command = Command {
    name: c"ML.CACHEINFO",
    run: handler(info),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[KEY],
    summary: c"Returns what a key holds: its versions, who computes, who waits.",
    complexity: c"O(log(N)) where N is the number of open leases.",
    since: c"0.1.0",
};

/// ML.CACHEINFO key
fn info(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let (lock, db) = (call.lock(), call.db());
    leases::settle(&lock);
    let look = |flights: &mut Flights| flights.look(db, key.bytes(), monotonic());
    let (lease_us, waiters) = leases::with(&lock, look);
    let open = call.keys.read(key);
    let held = open.value_ref::<Answer>()?;
    let held = held.as_deref().into_iter().flat_map(Answer::answers);
    let answers = state::with(&lock, |state| {
        let is_served = |answer: &&Answer| {
            answer.lifetime().is_alive(now_ms)
                && state.in_force.admits(key.bytes(), answer.version())
        };
        held.filter(is_served).collect::<Vec<_>>()
    });
    if answers.is_empty() && lease_us == 0 && waiters == 0 {
        call.reply.null();
        return Ok(());
    }
    let reply = call.reply;
    reply.map(3);
    field(reply, "lease_ms", millis(lease_us));
    field(reply, "waiters", waiters as u64);
    reply.bytes(b"versions");
    reply.array(answers.len());
    for answer in answers {
        let lifetime = answer.lifetime();
        reply.map(6);
        reply.bytes(b"version");
        reply.bytes(answer.version());
        field(reply, "bytes", answer.value().len() as u64);
        field(reply, "ttl_ms", lifetime.expires_at_ms.saturating_sub(now_ms));
        let stale_from_ms = lifetime.expires_at_ms.max(now_ms);
        field(reply, "stale_ms", lifetime.stale_until_ms.saturating_sub(stale_from_ms));
        field(reply, "age_ms", now_ms.saturating_sub(lifetime.written_at_ms));
        field(reply, "cost_ms", lifetime.cost_ms.into());
    }
    Ok(())
}

fn field(reply: Reply, name: &str, value: u64) {
    reply.bytes(name.as_bytes());
    reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
}
