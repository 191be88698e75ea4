//! ML.CACHERELEASE: a lease given up.

use super::arguments::{KEY, TOKEN, lease_ms, token};
use crate::cache::answer::Answer;
use crate::cache::leases;
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, monotonic};
use crate::time::{MICROS_PER_MILLI, Millis};

/// ML.CACHERELEASE
pub const COMMAND: Command = Command {
    name: c"ML.CACHERELEASE",
    run: handler(release),
    flags: c"write fast",
    categories: c"write fast",
    arity: -3,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[
        KEY,
        TOKEN,
        Argument::integer(c"milliseconds").after(c"BACKOFF").optional(),
    ],
    summary: c"Gives a lease up, without an answer.",
    complexity: c"O(log(N)) where N is the number of open leases, with BACKOFF O(M) to tell M callers that wait.",
    since: c"0.1.0",
};

/// `[BACKOFF ms]`
fn back_off(args: &mut Args) -> Result<Option<Millis>, Error> {
    let mut options = args.options();
    let mut back_off_ms = None;
    while options.next(&["BACKOFF"])?.is_some() {
        back_off_ms = Some(lease_ms(options.value()?, "BACKOFF")?);
    }
    Ok(back_off_ms)
}

/// ML.CACHERELEASE key token [BACKOFF ms]
fn release(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = token(call.args.arg()?);
    let back_off_ms = back_off(&mut call.args)?;
    let lock = call.lock();
    call.keys.read(key).value_ref::<Answer>()?;
    let released = token.is_some_and(|token| {
        let back_off_us = back_off_ms.map(|ms| ms.saturating_mul(MICROS_PER_MILLI));
        let (db, now) = (call.db(), monotonic());
        leases::with(&lock, |flights| flights.release(db, key.bytes(), token, back_off_us, now))
    });
    leases::settle(&lock);
    call.reply.integer(released.into());
    Ok(())
}
