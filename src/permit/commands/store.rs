//! What commands do to permits: decide on a call on one key, count it.

use crate::permit::permits::{Decision, Permits, Refusal, Request};
use crate::permit::stats::{DENIED, GRANTED};
use crate::server::{Error, refuse};
use crate::time::Micros;

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

/// Counts what came of a call on one key.
pub fn count(request: &Request, decision: &Decision) {
    if request.permit.is_some() {
        let counter = if decision.allowed { &GRANTED } else { &DENIED };
        counter.increment();
    }
}
