//! ML.SETTLE: the end of a hold, by what it really cost.

use super::held::{PerKey, Value, change_each};
use crate::admission::change::Change;
use crate::bounds::MAX_AMOUNT;
use crate::id::Id;
use crate::permit::{self, RELEASED};
use crate::ratelimit::SETTLED;
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse};

/// ML.SETTLE
pub const COMMAND: Command = Command {
    name: c"ML.SETTLE",
    run: handler(settle),
    flags: c"write",
    categories: c"write",
    arity: -4,
    keys: Some(KeySpec::counted(1, KeyAccess::Update)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        Argument::string(c"id"),
        Argument::string(c"actual").repeated().after(c"ACTUAL").optional(),
    ],
    summary: c"Ends a hold: charges what it really cost, and gives its permits back.",
    complexity: c"O(N) where N is the number of keys, and the logarithm of the holds open on each.",
    since: c"0.1.0",
};

/// `[ACTUAL actual [actual ...]]`: one a key, or none; `None` as estimated.
fn actuals(args: &mut Args, keys: usize) -> Result<Option<PerKey<Option<u64>>>, Error> {
    if args.left() == 0 {
        return Ok(None);
    }
    let mut options = args.options();
    options.next(&["ACTUAL"])?;
    let actual = |_| {
        let value = options.value()?;
        if value.bytes() == b"-" {
            return Ok(None);
        }
        let actual = value.integer("ACTUAL", 0..=MAX_AMOUNT.cast_signed());
        let actual = actual.map_err(|_| {
            refuse(format!("ACTUAL must be - or an integer from 0 to {MAX_AMOUNT}, one a key"))
        })?;
        Ok(Some(actual.cast_unsigned()))
    };
    let actuals = (0..keys).map(actual).collect::<Result<_, Error>>()?;
    if args.left() > 0 {
        return Err(refuse(format!("ACTUAL must be given once for each of the {keys} keys")));
    }
    Ok(Some(actuals))
}

/// ML.SETTLE numkeys key [key ...] id [ACTUAL actual [actual ...]]
fn settle(call: &mut Call) -> Result<(), Error> {
    let keys = call.args.distinct_keys()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let actuals = actuals(&mut call.args, keys.len())?;
    let now_us = call.now();
    let decide = |place: usize, value: Value| {
        let actual = actuals.as_ref().and_then(|actuals| *actuals.get(place)?);
        match (value, id) {
            (Value::Permit(_), _) if actual.is_some() => {
                Err(refuse("ACTUAL must be - for a key of permits: they have no other cost"))
            }
            (_, None) => Ok(None),
            (Value::Limit(limiter), Some(id)) => {
                Ok(limiter.decide_settlement(id, actual, now_us).map(Change::Limit))
            }
            (Value::Permit(permits), Some(id)) => {
                let step = permit::Step::Release { id };
                Ok(permits.decide_on(id, step, now_us).map(Change::Permit))
            }
        }
    };
    change_each(call, &keys, decide, |change| match change {
        Change::Limit(_) => SETTLED.increment(),
        Change::Permit(_) => RELEASED.increment(),
    })
}
