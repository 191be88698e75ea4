//! ML.APPLYVERSIONS: versions in force, as replicas and the AOF take them.

use crate::cache::versions::{APPLY_VERSIONS, load};
use crate::server::{Argument, Call, Command, Error, handler, refuse};

/// ML.APPLYVERSIONS
pub const COMMAND: Command = Command::internal(
    APPLY_VERSIONS,
    handler(apply),
    &[Argument::string(c"payload")],
    c"Internal: puts versions in force, for replicas and the AOF.",
    c"O(N) where N is the length of the payload.",
)
.keyless();

/// ML.APPLYVERSIONS payload
fn apply(call: &mut Call) -> Result<(), Error> {
    let payload = call.args.arg()?.bytes();
    load(&call.lock(), payload).ok_or_else(|| refuse("payload is not one of versions in force"))?;
    call.commit_keyless(APPLY_VERSIONS, payload);
    call.reply.ok();
    Ok(())
}
