//! ML.PERMITINFO: who holds what.

use crate::permit::permits::Permits;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::whole_millis;

/// ML.PERMITINFO
pub const COMMAND: Command = Command {
    name: c"ML.PERMITINFO",
    run: handler(permitinfo),
    flags: c"readonly",
    categories: c"read",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key")],
    summary: c"Returns what is in use, and the permits that are open.",
    complexity: c"O(N) where N is the number of permits.",
    since: c"0.1.0",
};

/// ML.PERMITINFO key
fn permitinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_us = call.now();
    let open = call.keys.read(key);
    let Some(permits) = open.value::<Permits>()?.map(|permits| permits.seen_at(now_us)) else {
        call.reply.null();
        return Ok(());
    };
    let open = permits.open(now_us);
    if open.len() == 0 {
        call.reply.null();
        return Ok(());
    }
    let field = |name: &str, value: i64| {
        call.reply.bytes(name.as_bytes());
        call.reply.integer(value);
    };
    call.reply.map(2);
    field("in_use", permits.in_use(now_us).cast_signed());
    call.reply.bytes(b"permits");
    call.reply.array(open.len());
    for permit in open {
        call.reply.map(3);
        call.reply.bytes(b"id");
        call.reply.bytes(&permit.id.text());
        field("cost", permit.cost.cast_signed());
        field("ttl_ms", whole_millis(permit.expires_us().saturating_sub(now_us)));
    }
    Ok(())
}
