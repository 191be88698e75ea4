//! ML.FEATUREINFO: describes a row.

use crate::features::change::is_alive;
use crate::features::layout::Layout;
use crate::features::row::Row;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::{MICROS_PER_MILLI, Millis};

/// ML.FEATUREINFO
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREINFO",
    run: handler(featureinfo),
    flags: c"readonly",
    categories: c"read",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key")],
    summary: c"Returns the views of an entity and the fields of each.",
    complexity: c"O(N) where N is the number of fields that the entity has.",
    since: c"0.1.0",
};

/// ML.FEATUREINFO key
fn featureinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.read(key);
    match open.value_ref::<Row>()? {
        None => call.reply.null(),
        Some(row) => describe(call, &row, now_ms),
    }
    Ok(())
}

fn describe(call: &Call, row: &Row, now_ms: Millis) {
    let reply = call.reply;
    let layout: &Layout = row.layout();
    let values = row.values();
    let alive = (0..layout.views()).filter(|view| is_alive(row, *view, now_ms));
    let alive: Vec<_> = alive.collect();
    reply.map(2);
    reply.bytes(b"bytes");
    let events = row.head().heap_bytes();
    reply.integer((crate::server::block_bytes(row) + events) as i64);
    reply.bytes(b"views");
    reply.array(alive.len());
    for view in alive {
        let times = row.times(view);
        reply.map(4);
        reply.bytes(b"view");
        reply.bytes(layout.view_name(view));
        reply.bytes(b"at_ms");
        reply.integer(times.at_ms as i64);
        reply.bytes(b"ttl_ms");
        reply.integer(times.expires_at_ms.map_or(-1, |at_ms| (at_ms - now_ms) as i64));
        reply.bytes(b"fields");
        let fields = layout.fields(view);
        reply.array(fields.len());
        for field in fields {
            reply.array(2);
            reply.bytes(layout.field_name(field));
            reply.bytes(values.get(field).describe().as_bytes());
        }
    }
}
