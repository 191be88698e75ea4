//! ML.APPLYVERSIONS: versions in force, as replicas and the AOF take them.

use crate::cache::versions::{APPLY_VERSIONS, put_in_force};
use crate::server::{Argument, Call, Command, Error, Event, announce, handler, refuse};

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
    let lock = call.lock();
    put_in_force(&lock, payload)
        .ok_or_else(|| refuse("payload is not one of versions in force"))?;
    call.commit_keyless(APPLY_VERSIONS, payload);
    announce(&lock, Event::VersionsChanged);
    call.reply.ok();
    Ok(())
}
