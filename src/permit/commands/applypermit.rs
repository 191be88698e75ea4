//! ML.APPLYPERMIT: what a write did to permits, for replicas and the AOF.

use crate::permit::codec;
use crate::permit::permits::Permits;
use crate::server::{Argument, Call, Changeable, Command, Error, handler, refuse};

/// ML.APPLYPERMIT
pub const COMMAND: Command = Command::internal(
    Permits::APPLY,
    handler(applypermit),
    &[Argument::key(c"key"), Argument::string(c"change")],
    c"Internal: changes the permits of a key, for replicas and the AOF.",
    c"O(log(N)) where N is the number of permits.",
);

/// ML.APPLYPERMIT key change
fn applypermit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let change = codec::decode_change(payload.bytes()).ok_or_else(|| {
        refuse(match payload.bytes() {
            [1, ..] => "change is of an older module, whose changes of permits are other ones",
            _ => "change is not a change of permits",
        })
    })?;
    let mut open = call.keys.write(key);
    let none = Permits::default();
    if !open.value::<Permits>()?.map_or(&none, |permits| permits).takes(&change) {
        return Err(refuse("change is not one of the permits in the key"));
    }
    open.change::<Permits>(&change)?;
    call.reply.ok();
    Ok(())
}
