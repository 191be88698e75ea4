//! ML.APPLYFIELDLISTS: field lists, as replicas and the AOF take them.

use crate::features::field_lists::{self, APPLY_LISTS};
use crate::server::{Argument, Call, Command, Error, handler, refuse};

/// ML.APPLYFIELDLISTS
pub const COMMAND: Command = Command::internal(
    APPLY_LISTS,
    handler(apply),
    &[Argument::string(c"payload")],
    c"Internal: has names stand for fields, for replicas and the AOF.",
    c"O(N) where N is the length of the payload.",
)
.keyless();

/// ML.APPLYFIELDLISTS payload
fn apply(call: &mut Call) -> Result<(), Error> {
    let payload = call.args.arg()?.bytes();
    field_lists::with(&call.lock(), |lists| field_lists::apply(lists, payload))
        .ok_or_else(|| refuse("payload is not one of field lists"))?;
    call.commit_keyless(APPLY_LISTS, payload);
    call.reply.ok();
    Ok(())
}
