//! What commands do to limiters: decide on a call on one key, charge it, say what is
//! left.

use crate::allowance::Allowance;
use crate::ratelimit::by_namespace;
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::{Algorithm, Policy};
use crate::ratelimit::quota::Quota;
use crate::ratelimit::request::{Decision, Mode, Refusal, Request};
use crate::ratelimit::stats;
use crate::server::{Error, Lives, Lock, WriteKey, refuse};
use crate::time::Micros;

/// Charges a call that is [common](crate::ratelimit::common), which is to be committed,
/// and does not move the end of its key: what the key says. Else nothing is done.
pub fn charge_one(
    limiter: Option<&mut Limiter>,
    policy: &Policy,
    now_us: Micros,
) -> Option<Allowance> {
    let quota = limiter?.charge_one(policy, now_us)?;
    let Quota { limit, retry_after_us, reset_after_us, .. } = quota;
    let remaining = quota.remaining().cast_signed();
    Some(Allowance { granted: 1, limit, remaining, retry_after_us, reset_after_us })
}

/// Decides on a call on one key. When all of the call's keys have agreed, it is to
/// be [checked](check_room) for room.
pub fn decide<'r>(
    current: Option<&Limiter>,
    request: &'r Request,
    now_us: Micros,
) -> Result<Decision<'r>, Error> {
    Limiter::decide(current, request, now_us).map_err(|refusal| error(refusal, request))
}

/// Refuses a call whose hold one of its keys has no room for.
pub fn check_room(decision: &Decision, request: &Request) -> Result<(), Error> {
    decision.check_room().map_err(|refusal| error(refusal, request))
}

fn error(refusal: Refusal, request: &Request) -> Error {
    match refusal {
        Refusal::BurstWithoutBucket => refuse("BURST needs ALGORITHM GCRA"),
        Refusal::AskedFor(cost) => {
            refuse(format!("COST must be {cost}, with which the hold of that ID was asked for"))
        }
        Refusal::TooManyHolds => {
            refuse(format!("key has {} holds open already (ml.limit-max-holds)", request.max_holds))
        }
    }
}

/// Carries a decision out on the key that it was made on, which is to be committed with
/// its change, if there is one: how long it is to live then, and what it says.
pub fn apply(
    open: &mut WriteKey,
    request: &Request,
    decision: &Decision,
    now_us: Micros,
) -> Result<(Lives, Allowance), Error> {
    let Decision { algorithm, granted, .. } = *decision;
    // A common charge, unless the key has run out since.
    if let Some(quota) = &decision.after
        && let Some(limiter) = open.value::<Limiter>()?
    {
        limiter.charge_common(quota);
        return Ok((Lives::AsBefore, allowance(request, decision, quota)));
    }
    let mut quota = decision.quota;
    let mut lives = Lives::AsBefore;
    if let Some(change) = &decision.change {
        lives = open.apply::<Limiter>(change, |limiter| {
            if granted > 0 {
                let (policies, cost) = (&request.policies, request.cost);
                let in_full = decision.is_in_full(cost);
                quota = Limiter::quota(Some(limiter), algorithm, policies, cost, in_full, now_us);
            }
        })?;
    }
    Ok((lives, allowance(request, decision, &quota)))
}

/// What the key says of a call, with what its limits say when all is done.
pub fn allowance(request: &Request, decision: &Decision, quota: &Quota) -> Allowance {
    Allowance {
        granted: decision.granted,
        limit: quota.limit,
        remaining: match request.mode {
            Mode::Force => quota.balance(),
            _ => quota.remaining().cast_signed(),
        },
        retry_after_us: match decision.is_in_full(request.cost) {
            true => Some(0),
            false => quota.retry_after_us,
        },
        reset_after_us: quota.reset_after_us,
    }
}

/// Counts what came of a call on one key.
pub fn count(lock: &Lock, key: &[u8], request: &Request, decision: &Decision, now_us: Micros) {
    match request.mode {
        Mode::Peek => stats::PEEKED.increment(),
        _ if decision.allowed => count_allowed(lock, key, decision.algorithm),
        _ => {
            let by_itself = decision.quota.retry_after_us != Some(0);
            stats::tally(decision.algorithm).denied.increment();
            by_namespace::count_denied(lock, key, by_itself, now_us);
        }
    }
}

/// Counts a call that a key allowed.
pub fn count_allowed(lock: &Lock, key: &[u8], algorithm: Algorithm) {
    stats::tally(algorithm).allowed.increment();
    by_namespace::count_allowed(lock, key);
}
