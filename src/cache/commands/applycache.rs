//! ML.APPLYCACHE: a change of the answers of a key, as replicas and the AOF take it.

use super::arguments::KEY;
use super::store::{answer, change_answers, store};
use crate::cache::codec::{self, Change};
use crate::cache::datatype::APPLY;
use crate::server::{Argument, Call, Command, Error, handler, refuse};

/// ML.APPLYCACHE
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

/// ML.APPLYCACHE key change [value]
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let value = call.args.peek();
    let change = codec::decode_change(payload.bytes())
        .ok_or_else(|| refuse("change is not a change of a cache entry"))?;
    let mut open = call.write(key);
    match (&change, value) {
        (Change::Put { version, lifetime, dropped }, Some(value)) => {
            store(&mut open, answer(version, value, *lifetime)?, dropped)?;
        }
        (Change::Put { .. }, None) => return Err(Error::WrongArity),
        (_, Some(_)) => return Err(refuse("value goes with a change that puts one in only")),
        (_, None) => change_answers(&mut open, &change)?,
    }
    drop(open);
    call.replicate(APPLY, key, payload.bytes(), value);
    call.reply.ok();
    Ok(())
}
