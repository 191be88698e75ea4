//! ML.SEMINFO: what a key holds, and what it was asked.

use super::arguments::KEY;
use crate::semantic::asked::PARTS;
use crate::semantic::leases;
use crate::semantic::table::Table;
use crate::server::{Call, Command, Error, KeyAccess, KeySpec, Reply, handler};

/// ML.SEMINFO
pub const COMMAND: Command = Command {
    name: c"ML.SEMINFO",
    run: handler(info),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: 2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[KEY],
    summary: c"Returns what a semantic cache holds, and what it was asked on this node.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

/// ML.SEMINFO key
fn info(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let lock = call.lock();
    leases::settle(&lock);
    let (leased, waiters) = leases::count_at(&lock, call.db(), key.bytes());
    let open = call.keys.read(key);
    let none = Table::default();
    let table = match open.value::<Table>()? {
        None if leased + waiters == 0 => {
            call.reply.null();
            return Ok(());
        }
        table => table.unwrap_or(&none),
    };
    let (reply, asked) = (call.reply, &table.asked);
    reply.map(11);
    field(reply, "dim", table.dim().unwrap_or(0) as u64);
    reply.bytes(b"embedder");
    match table.embedder() {
        Some(embedder) => reply.bytes(embedder),
        None => reply.null(),
    }
    field(reply, "entries", table.len() as u64);
    field(reply, "bytes", table.bytes() as u64);
    field(reply, "leases", leased as u64);
    field(reply, "waiters", waiters as u64);
    field(reply, "hits", asked.hits.get());
    field(reply, "maybes", asked.maybes.get());
    field(reply, "misses", asked.misses.get());
    field(reply, "saved_ms", asked.saved_ms.get());
    reply.bytes(b"histogram");
    reply.array(PARTS);
    asked.histogram().for_each(|count| reply.integer(count.into()));
    Ok(())
}

fn field(reply: Reply, name: &str, value: u64) {
    reply.bytes(name.as_bytes());
    reply.integer(i64::try_from(value).unwrap_or(i64::MAX));
}
