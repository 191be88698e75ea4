//! What commands of this domain take alike: limits, and the options beside them.

use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::bug;
use crate::id::Id;
use crate::number::parse_seconds;
use crate::ratelimit::closing::Close;
use crate::ratelimit::config::{ALGORITHM as DEFAULT_ALGORITHM, MAX_HOLDS};
use crate::ratelimit::policy::{
    Algorithm, Cost, MAX_WINDOW_US, MAX_WINDOWS, MIN_WINDOW_US, Policies, Policy,
};
use crate::ratelimit::request::{HoldRequest, Mode, Request};
use crate::server::{Arg, Args, Argument, Error, Options, new_id, refuse};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::ops::RangeInclusive;

/// `limit window [limit window ...]`
pub const LIMITS: Argument =
    Argument::block(c"limits", &[Argument::integer(c"limit"), WINDOW]).repeated();

/// `seconds`, or the word of a window that closes at a moment.
const WINDOW: Argument = Argument::one_of(
    c"window",
    &[
        Argument::double(c"seconds"),
        Argument::token(c"day", c"DAY"),
        Argument::token(c"week", c"WEEK"),
        Argument::token(c"month", c"MONTH"),
        Argument::unix_time(c"unix-time-milliseconds").after(c"UNTIL"),
    ],
);

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

/// `[BURST burst]`
pub const BURST: Argument = Argument::integer(c"burst").after(c"BURST").optional();

/// `[HOLD milliseconds [ID id]]`
pub const HOLD: Argument = Argument::block(
    c"hold",
    &[
        Argument::integer(c"milliseconds").after(c"HOLD"),
        Argument::string(c"id").after(c"ID").optional(),
    ],
)
.optional();

/// `PEEK`
pub const PEEK: Argument = Argument::token(c"peek", c"PEEK");

/// `FORCE`
pub const FORCE: Argument = Argument::token(c"force", c"FORCE");

/// The keywords of a limit: `[ALGORITHM a] [BURST n] [COST n]`.
pub const KEYWORDS: [&str; 3] = ["ALGORITHM", "BURST", "COST"];

const AMOUNTS: RangeInclusive<i64> = 0..=MAX_AMOUNT.cast_signed();

const WINDOWS_US: RangeInclusive<Micros> = MIN_WINDOW_US..=MAX_WINDOW_US;

/// `COST n`
pub fn cost(options: &mut Options) -> Result<Cost, Error> {
    Ok(options.integer(AMOUNTS)?.cast_unsigned())
}

/// `limit window`
pub fn policy(args: &mut Args, now_us: Micros) -> Result<Policy, Error> {
    let limit = args.arg()?.integer("limit", AMOUNTS)?.cast_unsigned();
    let window = args.arg()?.bytes();
    let Some(close) = close(window) else {
        let window_us = parse_seconds(window).filter(|us| WINDOWS_US.contains(us)).ok_or_else(|| {
            refuse(
                "window must be seconds from 0.001 to 31622400, with at most 6 decimals, or DAY, \
                 WEEK, MONTH or UNTIL and a moment",
            )
        })?;
        return Ok(Policy::new(limit, window_us));
    };
    let latest_us = close.next(now_us);
    let closes_us = match close {
        Close::Until => {
            let next_ms = (now_us / MICROS_PER_MILLI + 1).cast_signed();
            let latest_ms = (latest_us / MICROS_PER_MILLI).cast_signed();
            let at_ms = args.arg()?.integer("UNTIL", 1..=i64::MAX)?;
            if !(next_ms..=latest_ms).contains(&at_ms) {
                return Err(refuse(
                    "UNTIL must be a moment to come, at most 366 days ahead, in milliseconds \
                     since the epoch",
                ));
            }
            at_ms.cast_unsigned() * MICROS_PER_MILLI
        }
        Close::Day | Close::Week | Close::Month => latest_us,
    };
    Ok(Policy::until(limit, close, closes_us))
}

/// The word of a window that closes at a moment; most windows are numbers.
fn close(word: &[u8]) -> Option<Close> {
    let is = |close: &Close| word.eq_ignore_ascii_case(close.name().as_bytes());
    word.first().filter(|first| first.is_ascii_alphabetic())?;
    Close::ALL.into_iter().find(is)
}

/// A request of no limits yet, and no options.
pub fn plain() -> Request {
    Request {
        policies: Policies::new(),
        algorithm: None,
        default_algorithm: algorithm(DEFAULT_ALGORITHM.get_unsigned()),
        has_burst: false,
        cost: 1,
        mode: Mode::Whole,
        hold: None,
        max_holds: max_holds(),
    }
}

/// `limit window [limit window ...]`
pub fn limits(args: &mut Args, now_us: Micros, policies: &mut Policies) -> Result<(), Error> {
    while policies.is_empty() || args.peek().is_some_and(is_number) {
        let policy = policy(args, now_us)?;
        if policies.iter().any(|other| other.window_us == policy.window_us) {
            return Err(refuse("window is given twice: each must be of another length"));
        }
        policies.try_push(policy).map_err(|_| {
            refuse(format!("limit and window may be given at most {MAX_WINDOWS} times"))
        })?;
    }
    Ok(())
}

/// How many holds a key can have open, as configured.
pub fn max_holds() -> usize {
    MAX_HOLDS.get_count()
}

/// A number where a limit may stand: options are words.
fn is_number(word: &[u8]) -> bool {
    matches!(word, [b'0'..=b'9' | b'-' | b'+' | b'.', ..])
}

/// The algorithm of a number in [`Algorithm::ALL`], by which it was chosen.
fn algorithm(number: u64) -> Algorithm {
    let index = usize::try_from(number).ok();
    match index.and_then(|index| Algorithm::ALL.get(index)) {
        Some(algorithm) => *algorithm,
        None => bug("an algorithm that is none"),
    }
}

/// Takes note of one of the [`KEYWORDS`] of a limit.
pub fn limit_option(
    options: &mut Options,
    keyword: &str,
    request: &mut Request,
) -> Result<(), Error> {
    match keyword {
        "COST" => request.cost = cost(options)?,
        "ALGORITHM" => {
            let names = Algorithm::ALL.map(Algorithm::name);
            let index = options.value()?.one_of("ALGORITHM", &names)?;
            request.algorithm = Some(algorithm(index as u64));
        }
        "BURST" => {
            let burst = options.integer(1..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
            let mut buckets = request.policies.iter_mut().filter(|policy| policy.close().is_none());
            let (Some(policy), None) = (buckets.next(), buckets.next()) else {
                return Err(refuse("BURST needs exactly one limit and window of seconds"));
            };
            policy.burst = burst;
            request.has_burst = true;
        }
        _ => bug("a keyword that no limit has"),
    }
    Ok(())
}

/// `HOLD ms [ID id]`, as it is read.
#[derive(Default)]
pub struct HoldOptions {
    ttl_ms: Option<Millis>,
    id: Option<Id>,
}

impl HoldOptions {
    /// `HOLD ms`
    pub fn hold(&mut self, options: &mut Options) -> Result<(), Error> {
        self.ttl_ms = Some(ttl_ms(options.value()?, "HOLD")?);
        Ok(())
    }

    /// `ID id`
    pub fn id(&mut self, options: &mut Options) -> Result<(), Error> {
        self.id = Some(options.value()?.id("ID")?);
        Ok(())
    }

    /// The hold to open, if one is asked for, under an id of its own if none is
    /// brought.
    pub fn done(self) -> Result<Option<HoldRequest>, Error> {
        match (self.ttl_ms, self.id) {
            (Some(ttl_ms), id) => Ok(Some(HoldRequest { id: id.unwrap_or_else(new_id), ttl_ms })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(refuse("ID needs HOLD")),
        }
    }
}

/// How long a hold lasts; otherwise an error that names `what`.
pub fn ttl_ms(value: Arg, what: &str) -> Result<Millis, Error> {
    Ok(value.integer(what, 1..=MAX_TTL_MS.cast_signed())?.cast_unsigned())
}

/// What a limit of 0 denies, no force grants.
pub fn check_force(request: &Request) -> Result<(), Error> {
    let denies = request.policies.iter().any(|policy| policy.limit == 0);
    if request.mode == Mode::Force && denies {
        return Err(refuse("limit must be at least 1 with FORCE"));
    }
    Ok(())
}
