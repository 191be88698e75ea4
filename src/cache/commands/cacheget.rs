//! ML.CACHEGET: the answer of one key.

use super::arguments::{KEY, VERSION, version};
use super::find::{Wanted, find, reply_value};
use crate::cache::answer::Answer;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, fetch, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.CACHEGET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEGET",
    run: handler(get),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -3,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[KEY, VERSION, Argument::token(c"stale", c"STALE").optional()],
    summary: c"Returns the answer that a version of the model gave, unless it has expired.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

/// ML.CACHEGET key version [STALE]
fn get(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let mut stale = false;
    let mut options = call.args.options();
    while options.next(&["STALE"])?.is_some() {
        stale = true;
    }
    let open = call.keys.read(key);
    let answers = open.value_ref::<Answer>()?.inspect(|all| fetch(all.address()));
    let wanted = Wanted { version, stale, now_ms: call.now() / MICROS_PER_MILLI };
    let found = find(&call.lock(), key, &wanted, answers.as_deref());
    reply_value(call.reply, found);
    Ok(())
}
