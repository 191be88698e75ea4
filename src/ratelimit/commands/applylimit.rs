//! ML.APPLYLIMIT: what a write did to a limiter, for replicas and the AOF.

use crate::ratelimit::codec;
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::Policies;
use crate::server::{Argument, Call, Changeable, Command, Error, handler, refuse};

/// ML.APPLYLIMIT
pub const COMMAND: Command = Command::internal(
    Limiter::APPLY,
    handler(applylimit),
    &[Argument::key(c"key"), Argument::string(c"change")],
    c"Internal: makes a change to a limiter, for replicas and the AOF.",
    c"O(1); O(log(N)) where N holds are open on the key.",
);

/// ML.APPLYLIMIT key change
fn applylimit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let mut policies = Policies::new();
    let change = codec::decode_change(payload.bytes(), &mut policies).ok_or_else(|| {
        refuse(match payload.bytes() {
            [1, ..] => "change is of an older module, whose changes of limiters are other ones",
            _ => "change is not a change of a limiter",
        })
    })?;
    let mut open = call.keys.write(key);
    if !Limiter::takes(open.value::<Limiter>()?.as_deref(), &change) {
        return Err(refuse("change is not one of the limiter in the key"));
    }
    open.change::<Limiter>(&change)?;
    call.reply.ok();
    Ok(())
}
