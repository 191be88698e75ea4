//! What commands of this domain do alike: decide on a key, charge it, answer.

use crate::id::Id;
use crate::ratelimit::by_namespace;
use crate::ratelimit::change::{Change, Step};
use crate::ratelimit::codec;
use crate::ratelimit::datatype::APPLY;
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::Cost;
use crate::ratelimit::quota::Quota;
use crate::ratelimit::request::{Decision, Mode, Refusal, Request};
use crate::ratelimit::stats;
use crate::server::{Arg, Error, Lives, Lock, Reply, WriteKey, new_id, refuse};
use crate::time::{Micros, whole_millis};
use std::ffi::CStr;

/// Decides on a call on one key. When all of the call's keys have agreed, it is to
/// be [checked](check_room) for room.
pub fn decide<'r>(
    current: Option<&Limiter>,
    request: &'r Request,
    now_us: Micros,
) -> Result<Decision<'r>, Error> {
    let decision = Limiter::decide(current, request, now_us, new_id);
    decision.map_err(|refusal| error(refusal, request))
}

/// Refuses a call whose reservation one of its keys has no room for.
pub fn check_room(decision: &Decision, request: &Request) -> Result<(), Error> {
    decision.check_room().map_err(|refusal| error(refusal, request))
}

fn error(refusal: Refusal, request: &Request) -> Error {
    match refusal {
        Refusal::BurstWithoutBucket => refuse("BURST needs ALGORITHM GCRA"),
        Refusal::TooManyReservations => refuse(format!(
            "key has {} reservations open already (ml.ratelimit-max-reservations)",
            request.max_reservations
        )),
    }
}

/// Carries a decision out on the key that it was made on, and counts it: the
/// answer.
pub fn carry_out(
    lock: &Lock,
    key: Arg,
    open: WriteKey,
    request: &Request,
    decision: &Decision,
    now_us: Micros,
) -> Result<Row, Error> {
    let Decision { algorithm, granted, mut quota, .. } = *decision;
    let in_full = granted == request.cost;
    if let Some(change) = &decision.change {
        commit(open, change, |limiter| {
            if granted > 0 {
                let (policies, cost) = (&request.policies, request.cost);
                quota = Limiter::quota(Some(limiter), algorithm, policies, cost, in_full, now_us);
            }
        })?;
    }
    stats::count(algorithm, request.mode, granted > 0);
    if request.mode != Mode::Peek {
        by_namespace::count(lock, key.bytes(), decision, now_us);
    }
    let remaining = match request.mode {
        Mode::Force => quota.balance(),
        _ => quota.remaining().cast_signed(),
    };
    let reservation = request.reserve_ms.map(|_| decision.reservation());
    Ok(Row { granted, remaining, quota, in_full, reservation })
}

/// Makes a change to the limiter in a key, and has a look at what it is then.
pub fn commit(
    mut open: WriteKey,
    change: &Change,
    look: impl FnOnce(&Limiter),
) -> Result<(), Error> {
    let expires_at_ms = match open.value::<Limiter>()? {
        Some(limiter) => {
            limiter.apply(change);
            look(limiter);
            limiter.expires_at_ms()
        }
        None => {
            let mut limiter = Limiter::default();
            limiter.apply(change);
            look(&limiter);
            let expires_at_ms = limiter.expires_at_ms();
            open.set(Box::new(limiter))?;
            expires_at_ms
        }
    };
    open.commit(Lives::Until(expires_at_ms), event(change), APPLY, || {
        let mut payload = Vec::with_capacity(64);
        codec::encode_change(change, &mut payload);
        payload
    });
    Ok(())
}

/// The keyspace notification of a change.
fn event(change: &Change) -> &'static CStr {
    match change.step {
        Step::Rewind | Step::Charge { .. } => c"ml.ratelimit",
        Step::Settle { .. } => c"ml.ratesettle",
    }
}

/// The answer for one key.
pub struct Row {
    granted: Cost,
    remaining: i64,
    /// What the limits say after the call.
    quota: Quota,
    /// Whether all that was asked for was granted.
    in_full: bool,
    /// With RESERVE, the reservation; none where the call was denied.
    reservation: Option<Option<Id>>,
}

impl Row {
    /// `[granted, limit, remaining, retry_after_ms, reset_after_ms]`, with RESERVE
    /// the id too. Waits round up, and a wait without end is −1.
    pub fn reply(&self, reply: Reply) {
        let retry_after_ms = match self.quota.retry_after_us {
            _ if self.in_full => 0,
            Some(wait_us) => whole_millis(wait_us),
            None => -1,
        };
        reply.array(5 + usize::from(self.reservation.is_some()));
        reply.integer(self.granted.cast_signed());
        reply.integer(self.quota.limit.cast_signed());
        reply.integer(self.remaining);
        reply.integer(retry_after_ms);
        reply.integer(whole_millis(self.quota.reset_after_us));
        match self.reservation {
            Some(Some(id)) => reply.bytes(&id.text()),
            Some(None) => reply.null(),
            None => {}
        }
    }
}
