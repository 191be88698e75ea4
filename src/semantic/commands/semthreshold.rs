//! ML.SEMTHRESHOLD: from which similarity on an entry answers.

use super::arguments::{ID, KEY, similarity};
use super::store::commit;
use crate::semantic::change::Change;
use crate::semantic::table::Table;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.SEMTHRESHOLD
pub const COMMAND: Command = Command {
    name: c"ML.SEMTHRESHOLD",
    run: handler(threshold),
    flags: c"write fast",
    categories: c"write fast",
    arity: 4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[KEY, ID, Argument::double(c"similarity")],
    summary: c"Says from which similarity on an entry answers.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

/// ML.SEMTHRESHOLD key id similarity
fn threshold(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = call.args.arg()?.id("id")?;
    let similarity = similarity(call.args.arg()?, "similarity")?;
    call.args.end()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.write(key);
    let is_there = open
        .value_ref::<Box<Table>>()?
        .is_some_and(|table| table.get(id).is_some_and(|entry| entry.lifetime.is_alive(now_ms)));
    if is_there {
        let threshold = Some((id, similarity));
        commit(open, &Change { threshold, ..Change::default() }, None)?;
    }
    call.reply.integer(is_there.into());
    Ok(())
}
