//! ML.PERMITACQUIRE: a permit, if it fits under a maximum.

use super::store::{commit, ttl};
use crate::bounds::MAX_AMOUNT;
use crate::permit::permits::{Full, MAX_PERMITS, Outcome, Permits, Request};
use crate::permit::stats::{DENIED, GRANTED};
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler, new_id, refuse,
};
use crate::time::whole_millis;

/// ML.PERMITACQUIRE
pub const COMMAND: Command = Command {
    name: c"ML.PERMITACQUIRE",
    run: handler(permitacquire),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[
        Argument::key(c"key"),
        Argument::integer(c"max"),
        Argument::integer(c"ttl_ms"),
        Argument::integer(c"cost").after(c"COST").optional(),
    ],
    summary: c"Grants a permit if it fits under a maximum, and says how long to wait if not.",
    complexity: c"O(log(N)) where N is the number of permits, plus those expired or waited for.",
    since: c"0.1.0",
};

/// `max ttl_ms [COST cost]`
fn parse(args: &mut Args) -> Result<Request, Error> {
    let max = args.arg()?.integer("max", 0..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    let ttl_ms = ttl(args.arg()?)?;
    let mut request = Request { max, cost: 1, ttl_ms };
    let mut options = args.options();
    while options.next(&["COST"])?.is_some() {
        request.cost = options.integer(1..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    }
    Ok(request)
}

/// ML.PERMITACQUIRE key max ttl_ms [COST n]
fn permitacquire(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let request = parse(&mut call.args)?;
    let now_us = call.now();
    let mut open = call.keys.write(key);
    let none = Permits::default();
    let permits = open.value::<Permits>()?.map_or(&none, |permits| permits);
    let outcome = permits
        .decide(&request, now_us, new_id)
        .map_err(|Full| refuse(format!("the key holds {MAX_PERMITS} permits already")))?;
    if let Some(change) = &outcome.change {
        commit(open, change)?;
    }
    let counter = if outcome.id.is_some() { &GRANTED } else { &DENIED };
    counter.increment();
    answer(call.reply, &request, &outcome);
    Ok(())
}

/// `[granted, max, in_use, retry_after_ms, id|nil]`; the wait rounds up, and
/// one without end is −1.
fn answer(reply: Reply, request: &Request, outcome: &Outcome) {
    reply.array(5);
    let granted = if outcome.id.is_some() { request.cost } else { 0 };
    for amount in [granted, request.max, outcome.in_use] {
        reply.integer(amount.cast_signed());
    }
    reply.integer(outcome.retry_after_us.map_or(-1, whole_millis));
    match outcome.id {
        Some(id) => reply.bytes(&id.text()),
        None => reply.null(),
    }
}
