//! ML.CACHERENEW: a lease whose time starts anew.

use super::arguments::{KEY, TOKEN, lease_ms, token};
use crate::cache::answer::Answer;
use crate::cache::leases;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler, monotonic};
use crate::time::MICROS_PER_MILLI;

/// ML.CACHERENEW
pub const COMMAND: Command = Command {
    name: c"ML.CACHERENEW",
    run: handler(renew),
    flags: c"write fast",
    categories: c"write fast",
    arity: 4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[KEY, TOKEN, Argument::integer(c"milliseconds")],
    summary: c"Has the time of a lease start anew.",
    complexity: c"O(log(N)) where N is the number of open leases.",
    since: c"0.1.0",
};

/// ML.CACHERENEW key token ms
fn renew(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = token(call.args.arg()?);
    let lease_us = lease_ms(call.args.arg()?, "ms")?.saturating_mul(MICROS_PER_MILLI);
    let lock = call.lock();
    call.keys.read(key).value_ref::<Answer>()?;
    let renewed = token.is_some_and(|token| {
        let (db, now) = (call.db(), monotonic());
        leases::with(&lock, |flights| flights.renew(db, key.bytes(), token, lease_us, now))
    });
    leases::settle(&lock);
    call.reply.integer(renewed.into());
    Ok(())
}
