//! What commands do to permits: decide on a call on one key, carry it out.

use crate::permit::change::{Change, Step};
use crate::permit::codec;
use crate::permit::datatype::APPLY;
use crate::permit::permits::{Decision, Permits, Refusal, Request};
use crate::permit::stats::{DENIED, GRANTED};
use crate::server::{Error, Lives, WriteKey, refuse};
use crate::time::Micros;
use std::ffi::CStr;

/// Decides on a call on one key. When all of the call's keys have agreed, it is to
/// be [checked](check_room) for room.
pub fn decide(
    current: Option<&Permits>,
    request: &Request,
    now_us: Micros,
) -> Result<Decision, Error> {
    let none = Permits::default();
    let decision = current.unwrap_or(&none).decide(request, now_us);
    decision.map_err(|refusal| error(refusal, request))
}

/// Refuses a call whose permit its key has no room for.
pub fn check_room(decision: &Decision, request: &Request) -> Result<(), Error> {
    decision.check_room().map_err(|refusal| error(refusal, request))
}

fn error(refusal: Refusal, request: &Request) -> Error {
    match refusal {
        Refusal::AskedFor(cost) => {
            refuse(format!("COST must be {cost}, with which the hold of that ID was asked for"))
        }
        Refusal::Full => {
            refuse(format!("key has {} holds open already (ml.limit-max-holds)", request.max_holds))
        }
    }
}

/// Carries a decision out on the key that it was made on, and counts it.
pub fn carry_out(open: WriteKey, request: &Request, decision: &Decision) -> Result<(), Error> {
    if let Some(change) = &decision.change {
        commit(open, change)?;
    }
    if request.permit.is_some() {
        let counter = if decision.allowed { &GRANTED } else { &DENIED };
        counter.increment();
    }
    Ok(())
}

/// Makes a change to the permits in a key, which lives as long as one of them.
pub fn commit(mut open: WriteKey, change: &Change) -> Result<(), Error> {
    let expires_at_ms = match open.value::<Permits>()? {
        Some(permits) => {
            permits.apply(change);
            permits.expires_at_ms()
        }
        None => {
            let mut permits = Permits::default();
            permits.apply(change);
            let expires_at_ms = permits.expires_at_ms();
            open.set(Box::new(permits))?;
            expires_at_ms
        }
    };
    let lives = expires_at_ms.map_or(Lives::Gone, Lives::Until);
    open.commit(lives, event(change), APPLY, || {
        let mut payload = Vec::with_capacity(64);
        codec::encode_change(change, &mut payload);
        payload
    });
    Ok(())
}

/// The keyspace notification of a change.
fn event(change: &Change) -> &'static CStr {
    match change.step {
        Step::Rewind | Step::Acquire { .. } => c"ml.permit",
        Step::Release { .. } => c"ml.settle",
        Step::Renew { .. } => c"ml.renew",
    }
}
