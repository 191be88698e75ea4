//! ML.PERMITRELEASE: a permit given back.

use super::store::step;
use crate::id::Id;
use crate::permit::change::Step;
use crate::permit::stats::RELEASED;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};

/// ML.PERMITRELEASE
pub const COMMAND: Command = Command {
    name: c"ML.PERMITRELEASE",
    run: handler(permitrelease),
    flags: c"write",
    categories: c"write",
    arity: 3,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[Argument::key(c"key"), Argument::string(c"id")],
    summary: c"Gives a permit back, unless it has expired.",
    complexity: c"O(N) where N is the number of permits.",
    since: c"0.1.0",
};

/// ML.PERMITRELEASE key id
fn permitrelease(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let released = step(call, key, id, |id| Step::Release { id })?;
    if released {
        RELEASED.increment();
    }
    call.reply.integer(released.into());
    Ok(())
}
