//! ML.CACHERELEASE: a lease given up.

use super::arguments::{KEY, TTLS, token, unsigned};
use crate::cache::answer::Answer;
use crate::cache::flights::Place;
use crate::cache::state;
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, monotonic, new_id,
};
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
        Argument::string(c"token"),
        Argument::integer(c"milliseconds").after(c"BACKOFF").optional(),
    ],
    summary: c"Gives a lease up, without an answer.",
    complexity: c"O(1), with BACKOFF O(N) to tell N callers that wait.",
    since: c"0.1.0",
};

/// `[BACKOFF ms]`
fn back_off(args: &mut Args) -> Result<Option<Millis>, Error> {
    let mut options = args.options();
    let mut back_off_ms = None;
    while options.next(&["BACKOFF"])?.is_some() {
        back_off_ms = Some(unsigned(&mut options, TTLS)?);
    }
    Ok(back_off_ms)
}

/// ML.CACHERELEASE key token [BACKOFF ms]
fn release(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let token = token(call.args.arg()?);
    let back_off_ms = back_off(&mut call.args)?;
    call.read(key).value_ref::<Answer>()?;
    let released = token.is_some_and(|token| {
        state::act(&call.lock(), |state| {
            let place = Place::new(call.db(), key.bytes());
            let back_off_us = back_off_ms.map(|ms| ms.saturating_mul(MICROS_PER_MILLI));
            state.flights.release(&place, token, back_off_us, monotonic(), &mut new_id)
        })
    });
    call.reply.integer(released.into());
    Ok(())
}
