//! ML.RATEINFO: what is used of the limits of a key.

use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::Algorithm;
use crate::ratelimit::window::Window;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler};
use crate::time::{Micros, whole_millis};

/// ML.RATEINFO
pub const COMMAND: Command = Command {
    name: c"ML.RATEINFO",
    run: handler(rateinfo),
    flags: c"readonly",
    categories: c"read",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key")],
    summary: c"Returns what is used of the limits of a key.",
    complexity: c"O(N) where N is the number of reservations open on the key.",
    since: c"0.1.0",
};

/// ML.RATEINFO key
fn rateinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_us = call.now();
    let open = call.keys.read(key);
    match open.value::<Limiter>()? {
        None => call.reply.null(),
        Some(limiter) => reply_limiter(call.reply, limiter, now_us),
    }
    Ok(())
}

fn reply_limiter(reply: Reply, limiter: &Limiter, now_us: Micros) {
    let reservations = limiter.open(now_us).count();
    reply.map(3);
    reply.bytes(b"algorithm");
    reply.bytes(limiter.algorithm().name().as_bytes());
    reply.bytes(b"reservations");
    reply.integer(reservations as i64);
    reply.bytes(b"windows");
    reply.array(limiter.windows().len());
    limiter.windows().iter().for_each(|window| reply_window(reply, window, now_us));
}

fn reply_window(reply: Reply, window: &Window, now_us: Micros) {
    let quota = window.own_quota(1, now_us);
    let field = |name: &str, value: i64| {
        reply.bytes(name.as_bytes());
        reply.integer(value);
    };
    let is_bucket = window.algorithm() == Algorithm::Gcra;
    reply.map(5 + usize::from(is_bucket));
    field("limit", window.policy.limit.cast_signed());
    if is_bucket {
        field("burst", window.policy.burst.cast_signed());
    }
    field("window_ms", whole_millis(window.policy.window_us));
    field("used", i64::try_from(quota.used).unwrap_or(i64::MAX));
    field("remaining", quota.remaining().cast_signed());
    field("reset_after_ms", whole_millis(quota.reset_after_us));
}
