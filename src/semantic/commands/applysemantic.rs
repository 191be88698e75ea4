//! ML.APPLYSEMANTIC: a change of a semantic cache, as replicas and the AOF take it.

use super::arguments::KEY;
use super::store::{check, commit, texts};
use crate::semantic::codec;
use crate::semantic::datatype::APPLY;
use crate::semantic::searches;
use crate::semantic::table::{Misfit, Table};
use crate::server::{Argument, Call, Command, Error, handler, refuse};

/// ML.APPLYSEMANTIC
pub const COMMAND: Command = Command::internal(
    APPLY,
    handler(apply),
    &[KEY, Argument::string(c"change")],
    c"Internal: changes a semantic cache, for replicas and the AOF.",
    c"O(N) where N is the length of the change.",
);

/// ML.APPLYSEMANTIC key change
fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let change = codec::decode_change(call.args.arg()?.bytes())
        .ok_or_else(|| refuse("change is not a change of a semantic cache"))?;
    call.args.end()?;
    let open = call.keys.write(key);
    let is_there = {
        let table = open.value_ref::<Box<Table>>()?;
        let table = table.as_deref().map(|table| &**table);
        if let Some(put) = &change.put {
            check(table, put)?;
        }
        if let (Some(table), Some((_, code))) = (table, &change.alias) {
            table.check(code.dim(), None).map_err(Misfit::refusal)?;
        }
        table.is_some()
    };
    // A key without anything to put in has expired here already.
    if is_there || change.put.is_some() {
        let texts = change.put.as_ref().map(texts).transpose()?;
        commit(open, &change, texts)?;
        if let Some((id, _)) = change.threshold {
            searches::threshold_changed(&call.lock(), call.db(), key.bytes(), id);
        }
    }
    call.reply.ok();
    Ok(())
}
