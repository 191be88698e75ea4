//! ML.APPLYANSWERS: a change of the answers of a key, as replicas and the AOF take
//! it.

use super::arguments::KEY;
use super::store::commit;
use crate::cache::answer::Answer;
use crate::cache::codec;
use crate::cache::datatype::APPLY;
use crate::cache::leases;
use crate::server::{Argument, Call, Command, Error, handler, refuse};

/// ML.APPLYANSWERS
pub const COMMAND: Command = Command {
    arity: -3,
    ..Command::internal(
        APPLY,
        handler(apply),
        &[KEY, Argument::string(c"change"), Argument::string(c"value").optional()],
        c"Internal: changes the answers of a key, for replicas and the AOF.",
        c"O(1)",
    )
};

/// ML.APPLYANSWERS key change [value]
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let change = codec::decode_change(call.args.arg()?.bytes())
        .ok_or_else(|| refuse("change is not a change of the answers of a key"))?;
    let value = change.put.as_ref().map(|_| call.args.arg()).transpose()?;
    call.args.end()?;
    let open = call.keys.write(key);
    {
        let answers = open.value_ref::<Answer>()?;
        if change.is_too_much_for(answers.as_deref()) {
            return Err(refuse("change would have the key hold too many versions"));
        }
        if answers.is_none() && value.is_none() {
            // A key that expired here already.
            call.reply.ok();
            return Ok(());
        }
    }
    commit(open, &change, value, None)?;
    if let Some((version, _)) = &change.put {
        // On a primary, where slots arrive or somebody mends by hand: who waits for
        // it has it, and no lease on it is worth anything.
        leases::invalidate(&call.lock(), call.db(), key.bytes(), Some(version));
    }
    call.reply.ok();
    Ok(())
}
