//! The commands: parse → decide → replicate → reply.

use super::datatype::APPLY;
use super::limiter::{Limiter, Outcome, Request};
use super::policy::{MAX_AMOUNT, MAX_WINDOW_US, MIN_WINDOW_US, Policy};
use crate::server::{
    Arg, Args, Argument, Call, Command, Counter, DataType, Error, KeyAccess, Keys, Section,
    TypeSpec, WriteKey, handler, load_command, refuse,
};
use crate::time::{MICROS_PER_MILLI, Micros};
use std::ffi::CStr;

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Limiter>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.RATELIMIT",
        run: handler(ratelimit),
        flags: c"write deny-oom fast",
        categories: c"write fast",
        arity: -4,
        keys: Some(Keys::one(1, KeyAccess::Update)),
        arguments: &[
            Argument::key(c"key"),
            Argument::integer(c"limit"),
            Argument::double(c"window"),
            Argument::one_of(c"algorithm", &[Argument::token(c"fixed", c"FIXED")])
                .after(c"ALGORITHM")
                .optional(),
            Argument::integer(c"cost").after(c"COST").optional(),
            Argument::token(c"peek", c"PEEK").optional(),
        ],
        summary: c"Takes a call's cost from a limit if it fits, and says how long to wait if not.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: APPLY,
        run: handler(apply),
        flags: c"write admin fast",
        categories: c"write admin dangerous",
        arity: 3,
        keys: Some(Keys::one(1, KeyAccess::Write)),
        arguments: &[Argument::key(c"key"), Argument::string(c"state")],
        summary: c"Internal: puts a limiter's state into a key, for replicas and the AOF.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    load_command::<Limiter>(),
];

static ALLOWED: Counter = Counter::new();
static DENIED: Counter = Counter::new();
static PEEKED: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"ratelimit",
    fields: &[
        (c"ratelimit_allowed", &ALLOWED),
        (c"ratelimit_denied", &DENIED),
        (c"ratelimit_peeked", &PEEKED),
    ],
};

/// ML.RATELIMIT key limit window [ALGORITHM FIXED] [COST n] [PEEK]
fn ratelimit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let request = parse(&mut call.args)?;
    let now_us = call.now();
    let outcome = if request.peek {
        let key = call.read(key);
        Limiter::decide(key.value::<Limiter>()?, &request, now_us)
    } else {
        charge(call, key, &request, now_us)?
    };
    count(&request, &outcome);
    call.reply.integers(&reply(&outcome));
    Ok(())
}

fn parse(args: &mut Args) -> Result<Request, Error> {
    const OPTIONS: &[&str] = &["ALGORITHM", "COST", "PEEK"];
    let limit = args.arg()?.integer("limit", 0..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    let window_us = args.arg()?.seconds("window", MIN_WINDOW_US..=MAX_WINDOW_US)?;
    let mut request = Request { policy: Policy { limit, window_us }, cost: 1, peek: false };
    let mut options = args.options();
    while let Some(option) = options.next(OPTIONS)? {
        match option {
            "COST" => {
                request.cost = options.integer(1..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
            }
            "PEEK" => request.peek = true,
            _ => {
                if !options.value()?.is(b"FIXED") {
                    return Err(refuse("ALGORITHM must be FIXED"));
                }
            }
        }
    }
    Ok(request)
}

fn charge<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    request: &Request,
    now_us: Micros,
) -> Result<Outcome, Error> {
    let mut open = call.write(key);
    let outcome = Limiter::decide(open.value::<Limiter>()?.as_deref(), request, now_us);
    if let Some(next) = &outcome.next {
        store(&mut open, next.clone())?;
        drop(open);
        let mut payload = Vec::new();
        next.encode(&mut payload);
        call.replicate(APPLY, key, &payload, None);
    }
    Ok(outcome)
}

/// Puts the state into the key, which lives until nothing of it is used.
fn store(key: &mut WriteKey, limiter: Limiter) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.ratelimit";
    let expires_at_ms = limiter.expires_at_ms();
    match key.value::<Limiter>()? {
        Some(current) => *current = limiter,
        None => key.set(limiter)?,
    }
    key.expire_at(expires_at_ms);
    key.changed(EVENT);
    Ok(())
}

fn count(request: &Request, outcome: &Outcome) {
    let counter = match (request.peek, outcome.granted) {
        (true, _) => &PEEKED,
        (false, 0) => &DENIED,
        (false, _) => &ALLOWED,
    };
    counter.increment();
}

/// `[granted, limit, remaining, retry_after_ms, reset_after_ms]`; both waits
/// round up, and a wait without end is −1.
fn reply(outcome: &Outcome) -> [i64; 5] {
    let millis = |micros: Micros| micros.div_ceil(MICROS_PER_MILLI).cast_signed();
    [
        outcome.granted.cast_signed(),
        outcome.limit.cast_signed(),
        outcome.remaining.cast_signed(),
        outcome.retry_after_us.map_or(-1, millis),
        millis(outcome.reset_after_us),
    ]
}

/// ML.APPLYRATE key state
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let state = call.args.arg()?;
    let limiter = Limiter::decode(state.bytes())
        .ok_or_else(|| refuse("state is not the state of a limiter"))?;
    store(&mut call.write(key), limiter)?;
    call.replicate(APPLY, key, state.bytes(), None);
    call.reply.ok();
    Ok(())
}
