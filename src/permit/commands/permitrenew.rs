//! ML.PERMITRENEW: a permit whose time starts anew.

use super::store::{step, ttl};
use crate::id::Id;
use crate::permit::change::Step;
use crate::permit::stats::RENEWED;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};

/// ML.PERMITRENEW
pub const COMMAND: Command = Command {
    name: c"ML.PERMITRENEW",
    run: handler(permitrenew),
    flags: c"write",
    categories: c"write",
    arity: 4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[Argument::key(c"key"), Argument::string(c"id"), Argument::integer(c"ttl_ms")],
    summary: c"Has the time of a permit start anew, unless it has expired.",
    complexity: c"O(N) where N is the number of permits.",
    since: c"0.1.0",
};

/// ML.PERMITRENEW key id ttl_ms
fn permitrenew(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let ttl_ms = ttl(call.args.arg()?)?;
    let renewed = step(call, key, id, |id| Step::Renew { id, ttl_ms })?;
    if renewed {
        RENEWED.increment();
    }
    call.reply.integer(renewed.into());
    Ok(())
}
