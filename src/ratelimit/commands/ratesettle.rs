//! ML.RATESETTLE: what a reservation really cost.

use super::store::commit;
use crate::bounds::MAX_AMOUNT;
use crate::id::Id;
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::stats::SETTLED;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};

/// ML.RATESETTLE
pub const COMMAND: Command = Command {
    name: c"ML.RATESETTLE",
    run: handler(ratesettle),
    flags: c"write",
    categories: c"write",
    arity: 4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[Argument::key(c"key"), Argument::string(c"id"), Argument::integer(c"actual")],
    summary: c"Replaces a reservation's estimate by the actual cost.",
    complexity: c"O(N) where N is the number of reservations open on the key.",
    since: c"0.1.0",
};

/// ML.RATESETTLE key id actual
fn ratesettle(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let actual = call.args.arg()?.integer("actual", 0..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    let now_us = call.now();
    let mut open = call.keys.write(key);
    let open_reservation = open.value::<Limiter>()?.zip(id);
    let change =
        open_reservation.and_then(|(limiter, id)| limiter.decide_settlement(id, actual, now_us));
    if let Some(change) = &change {
        commit(open, change, |_| ())?;
        SETTLED.increment();
    }
    call.reply.integer(change.is_some().into());
    Ok(())
}
