//! What commands of this domain take alike: limits, and the options beside them.

use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::bug;
use crate::ratelimit::config::{ALGORITHM as DEFAULT_ALGORITHM, MAX_RESERVATIONS};
use crate::ratelimit::policy::{Algorithm, MAX_WINDOW_US, MIN_WINDOW_US, Policies, Policy};
use crate::ratelimit::request::{Mode, Request};
use crate::server::{Args, Argument, Error, refuse};
use crate::time::Millis;
use std::ops::RangeInclusive;

/// `limit window [limit window ...]`
pub const LIMITS: Argument =
    Argument::block(c"limits", &[Argument::integer(c"limit"), Argument::double(c"window")])
        .repeated();

/// `[ALGORITHM FIXED|SLIDING|GCRA]`
pub const ALGORITHM: Argument = Argument::one_of(
    c"algorithm",
    &[
        Argument::token(c"fixed", c"FIXED"),
        Argument::token(c"sliding", c"SLIDING"),
        Argument::token(c"gcra", c"GCRA"),
    ],
)
.after(c"ALGORITHM")
.optional();

/// `[COST cost]`
pub const COST: Argument = Argument::integer(c"cost").after(c"COST").optional();

/// `[RESERVE milliseconds]`
pub const RESERVE: Argument = Argument::integer(c"milliseconds").after(c"RESERVE").optional();

/// `PEEK`
pub const PEEK: Argument = Argument::token(c"peek", c"PEEK");

/// `FORCE`
pub const FORCE: Argument = Argument::token(c"force", c"FORCE");

const COSTS: RangeInclusive<i64> = 1..=MAX_AMOUNT.cast_signed();

/// `limit window`
pub fn policy(args: &mut Args) -> Result<Policy, Error> {
    let limit = args.arg()?.integer("limit", 0..=MAX_AMOUNT.cast_signed())?;
    let window_us = args.arg()?.seconds("window", MIN_WINDOW_US..=MAX_WINDOW_US)?;
    Ok(Policy::new(limit.cast_unsigned(), window_us))
}

/// A request of these limits and no options.
pub fn plain(policies: Policies) -> Request {
    let Ok(max_reservations) = usize::try_from(MAX_RESERVATIONS.get_unsigned()) else {
        bug("a config beyond its bounds")
    };
    Request {
        policies,
        algorithm: None,
        default_algorithm: algorithm(DEFAULT_ALGORITHM.get_unsigned()),
        has_burst: false,
        cost: 1,
        mode: Mode::Whole,
        reserve_ms: None,
        max_reservations,
    }
}

/// The algorithm of a number in [`Algorithm::ALL`], by which it was chosen.
fn algorithm(number: u64) -> Algorithm {
    let index = usize::try_from(number).ok();
    match index.and_then(|index| Algorithm::ALL.get(index)) {
        Some(algorithm) => *algorithm,
        None => bug("an algorithm that is none"),
    }
}

/// The options of a call, those that it knows.
pub fn options(
    args: &mut Args,
    known: &[&'static str],
    request: &mut Request,
) -> Result<(), Error> {
    const MODES: &[&str] = &["PEEK", "PARTIAL", "FORCE"];
    let mut options = args.options();
    while let Some(option) = options.next(known)? {
        match option {
            "COST" => request.cost = options.integer(COSTS)?.cast_unsigned(),
            "ALGORITHM" => {
                let names = Algorithm::ALL.map(Algorithm::name);
                let index = options.value()?.one_of("ALGORITHM", &names)?;
                request.algorithm = Some(algorithm(index as u64));
            }
            "BURST" => {
                let burst = options.integer(COSTS)?.cast_unsigned();
                let [policy] = request.policies.as_mut_slice() else {
                    return Err(refuse("BURST needs exactly one limit and window"));
                };
                policy.burst = burst;
                request.has_burst = true;
            }
            "RESERVE" => {
                options.excludes(known, &["PEEK"])?;
                let ttl_ms: Millis = options.integer(1..=MAX_TTL_MS.cast_signed())?.cast_unsigned();
                request.reserve_ms = Some(ttl_ms);
            }
            mode => {
                options.excludes(known, MODES)?;
                request.mode = match mode {
                    "PEEK" => {
                        options.excludes(known, &["RESERVE"])?;
                        Mode::Peek
                    }
                    "PARTIAL" => Mode::Partial,
                    _ => Mode::Force,
                };
            }
        }
    }
    check_force(request)
}

/// What a limit of 0 denies, no force grants.
pub fn check_force(request: &Request) -> Result<(), Error> {
    let denies = request.policies.iter().any(|policy| policy.limit == 0);
    if request.mode == Mode::Force && denies {
        return Err(refuse("limit must be at least 1 with FORCE"));
    }
    Ok(())
}
