//! From arguments to a checked request.

use super::config::{ALGORITHM, MAX_RESERVATIONS};
use super::policy::{MAX_WINDOW_US, MAX_WINDOWS, MIN_WINDOW_US, Policy};
use super::request::{Mode, Policies, Request};
use super::slot::Algorithm;
use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::server::{Arg, Args, Error, refuse};
use crate::time::Millis;

const COSTS: std::ops::RangeInclusive<i64> = 1..=MAX_AMOUNT.cast_signed();

/// `limit window [limit window ...]` and the options of ML.RATELIMIT.
pub fn ratelimit(args: &mut Args) -> Result<Request, Error> {
    const OPTIONS: &[&str] = &["COST", "PEEK", "PARTIAL", "FORCE", "ALGORITHM", "BURST", "RESERVE"];
    let mut request = plain();
    let policies = &mut request.policies;
    while policies.is_empty() || args.peek().is_some_and(is_number) {
        let policy = policy(args)?;
        if policies.iter().any(|other| other.window_us == policy.window_us) {
            return Err(refuse("window is given twice: each must be of another length"));
        }
        policies.try_push(policy).map_err(|_| {
            refuse(format!("limit and window may be given at most {MAX_WINDOWS} times"))
        })?;
    }
    options(args, OPTIONS, &mut request)?;
    Ok(request)
}

/// `limit window` for each of the keys and the options of ML.RATEMULTI: a
/// request a key.
pub fn ratemulti(args: &mut Args, keys: usize) -> Result<Vec<Request>, Error> {
    const OPTIONS: &[&str] = &["COST", "PEEK", "FORCE", "ALGORITHM", "RESERVE"];
    let policies: Vec<_> = (0..keys).map(|_| policy(args)).collect::<Result<_, _>>()?;
    let mut rest = plain();
    options(args, OPTIONS, &mut rest)?;
    let request =
        |policy: Policy| Request { policies: Policies::from_iter([policy]), ..rest.clone() };
    let requests: Vec<_> = policies.into_iter().map(request).collect();
    requests.iter().try_for_each(check_force)?;
    Ok(requests)
}

/// A number where a limit may stand: options are words.
fn is_number(arg: Arg) -> bool {
    matches!(arg.bytes(), [b'0'..=b'9' | b'-' | b'+' | b'.', ..])
}

fn policy(args: &mut Args) -> Result<Policy, Error> {
    let limit = args.arg()?.integer("limit", 0..=MAX_AMOUNT.cast_signed())?;
    let window_us = args.arg()?.seconds("window", MIN_WINDOW_US..=MAX_WINDOW_US)?;
    Ok(Policy::new(limit.cast_unsigned(), window_us))
}

/// A request without limits and options.
fn plain() -> Request {
    Request {
        policies: Policies::new(),
        algorithm: None,
        default_algorithm: algorithm(ALGORITHM.get_unsigned()),
        has_burst: false,
        cost: 1,
        mode: Mode::Whole,
        reserve_ms: None,
        max_reservations: usize::try_from(MAX_RESERVATIONS.get_unsigned()).unwrap_or(1),
    }
}

fn options(args: &mut Args, known: &[&'static str], request: &mut Request) -> Result<(), Error> {
    const MODES: &[&str] = &["PEEK", "PARTIAL", "FORCE"];
    let mut options = args.options();
    while let Some(option) = options.next(known)? {
        match option {
            "COST" => request.cost = options.integer(COSTS)?.cast_unsigned(),
            "ALGORITHM" => {
                let names = Algorithm::ALL.map(Algorithm::name);
                let place = options.value()?.one_of("ALGORITHM", &names)?;
                request.algorithm = Some(algorithm(place as u64));
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
fn check_force(request: &Request) -> Result<(), Error> {
    let denies = request.policies.iter().any(|policy| policy.limit == 0);
    if request.mode == Mode::Force && denies {
        return Err(refuse("limit must be at least 1 with FORCE"));
    }
    Ok(())
}

fn algorithm(place: u64) -> Algorithm {
    let place = usize::try_from(place).unwrap_or_default();
    Algorithm::ALL.get(place).copied().unwrap_or_default()
}
