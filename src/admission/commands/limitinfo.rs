//! ML.LIMITINFO: what is used of the limits or permits of a key, and who holds what.

use super::held::Value;
use crate::admission::waiting::held_up;
use crate::hold::Hold;
use crate::id::Id;
use crate::permit::Permits;
use crate::ratelimit::{Algorithm, Limiter, Window};
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler};
use crate::time::{Micros, whole_millis};

/// ML.LIMITINFO
pub const COMMAND: Command = Command {
    name: c"ML.LIMITINFO",
    run: handler(limitinfo),
    flags: c"readonly",
    categories: c"read",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key")],
    summary: c"Returns what is used of the limits or permits of a key, and the holds on it.",
    complexity: c"O(N) where N is the number of holds open on the key.",
    since: c"0.1.0",
};

/// How much of an id is shown: whoever has all of it can settle the hold.
const SHOWN_DIGITS: usize = 8;

/// ML.LIMITINFO key
fn limitinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (now_us, reply) = (call.now(), call.reply);
    let waiters = held_up(&call.lock(), call.db(), key.bytes()) as i64;
    match Value::of(&call.keys.read(key))? {
        Some(Value::Limit(limiter)) => reply_limiter(reply, limiter, waiters, now_us),
        Some(Value::Permit(permits)) => reply_permits(reply, permits, waiters, now_us),
        None => reply.null(),
    }
    Ok(())
}

fn reply_limiter(reply: Reply, limiter: &Limiter, waiters: i64, now_us: Micros) {
    reply.map(4);
    reply.bytes(b"algorithm");
    reply.bytes(limiter.algorithm().unwrap_or_default().name().as_bytes());
    reply.bytes(b"windows");
    reply.array(limiter.windows().len());
    limiter.windows().iter().for_each(|window| reply_window(reply, window, now_us));
    let seen = limiter.seen_at(now_us);
    reply_holds(reply, seen.ledger().into_iter().flat_map(|ledger| ledger.holds().iter()), now_us);
    field(reply, "waiters", waiters);
}

fn reply_window(reply: Reply, window: &Window, now_us: Micros) {
    let quota = window.own_quota(1, now_us);
    let is_bucket = window.algorithm() == Some(Algorithm::Gcra);
    reply.map(5 + usize::from(is_bucket));
    field(reply, "limit", window.policy.limit.cast_signed());
    if is_bucket {
        field(reply, "burst", window.policy.burst.cast_signed());
    }
    match window.policy.close() {
        None => field(reply, "window_ms", whole_millis(window.policy.window_us)),
        Some(close) => {
            reply.bytes(b"window");
            reply.bytes(close.name().as_bytes());
        }
    }
    field(reply, "used", i64::try_from(quota.used).unwrap_or(i64::MAX));
    field(reply, "remaining", quota.remaining().cast_signed());
    field(reply, "reset_after_ms", whole_millis(quota.reset_after_us));
}

fn reply_permits(reply: Reply, permits: &Permits, waiters: i64, now_us: Micros) {
    let permits = permits.seen_at(now_us);
    if permits.open(now_us) == 0 {
        return reply.null();
    }
    reply.map(3);
    field(reply, "in_use", permits.in_use(now_us).cast_signed());
    reply_holds(reply, permits.holds().iter(), now_us);
    field(reply, "waiters", waiters);
}

/// Those that are open, what ends first, first, as they come.
fn reply_holds<'h, N: 'h>(
    reply: Reply,
    holds: impl Iterator<Item = (Id, &'h Hold<N>)>,
    now_us: Micros,
) {
    let open: Vec<_> = holds.skip_while(|(_, hold)| !hold.is_open(now_us)).collect();
    reply.bytes(b"holds");
    reply.array(open.len());
    for (id, hold) in open {
        reply_hold(reply, &id.text(), hold, now_us);
    }
}

fn reply_hold<N>(reply: Reply, id: &[u8], hold: &Hold<N>, now_us: Micros) {
    reply.map(3);
    reply.bytes(b"id");
    reply.bytes(id.get(..SHOWN_DIGITS).unwrap_or(id));
    field(reply, "cost", hold.cost.cast_signed());
    field(reply, "ttl_ms", whole_millis(hold.ends_us().saturating_sub(now_us)));
}

fn field(reply: Reply, name: &str, value: i64) {
    reply.bytes(name.as_bytes());
    reply.integer(value);
}
