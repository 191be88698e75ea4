//! ML.RENEW: a hold whose time starts anew.

use super::held::{Value, change_each};
use crate::admission::change::Change;
use crate::id::Id;
use crate::permit;
use crate::ratelimit::{self, arguments::ttl_ms};
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};

/// ML.RENEW
pub const COMMAND: Command = Command {
    name: c"ML.RENEW",
    run: handler(renew),
    flags: c"write",
    categories: c"write",
    arity: -5,
    keys: Some(KeySpec::counted(1, KeyAccess::Update)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        Argument::string(c"id"),
        Argument::integer(c"milliseconds"),
    ],
    summary: c"Has the time of a hold start anew, where it has not ended.",
    complexity: c"O(N) where N is the number of keys, and the logarithm of the holds open on each.",
    since: c"0.1.0",
};

/// ML.RENEW numkeys key [key ...] id ms
fn renew(call: &mut Call) -> Result<(), Error> {
    let keys = call.args.distinct_keys()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let ttl_ms = ttl_ms(call.args.arg()?, "milliseconds")?;
    call.args.end()?;
    let now_us = call.now();
    let decide = |_, value: Value| {
        Ok(id.and_then(|id| match value {
            Value::Limit(limiter) => limiter.decide_renewal(id, ttl_ms, now_us).map(Change::Limit),
            Value::Permit(permits) => {
                let step = permit::Step::Renew { id, ttl_ms };
                permits.decide_on(id, step, now_us).map(Change::Permit)
            }
        }))
    };
    change_each(call, &keys, decide, |change| match change {
        Change::Limit(_) => ratelimit::RENEWED.increment(),
        Change::Permit(_) => permit::RENEWED.increment(),
    })
}
