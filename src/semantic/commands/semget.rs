//! ML.SEMGET: the answer to nearly the same question.

use super::InForce;
use super::arguments::{KEY, VECTOR, VERSION, vector, version};
use crate::semantic::leases::Ask;
use crate::semantic::look::{self, EMBEDDER_AND_DIGEST, HIT, MAYBE_AND_TOP, Near, reply_entries};
use crate::semantic::searches;
use crate::semantic::table::{Misfit, Table};
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.SEMGET
pub const fn command<V: InForce>() -> Command {
    Command {
        name: c"ML.SEMGET",
        run: handler(get::<V>),
        flags: c"readonly blocking",
        categories: c"read",
        arity: -4,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: ARGUMENTS,
        summary: c"Returns the answers to the questions nearest to one.",
        complexity:
            c"O(N*D) where N is the number of vectors in the key, and D that of dimensions.",
        since: c"0.1.0",
    }
}

const ARGUMENTS: &[Argument] = {
    let ([maybe, top], [embedder, digest]) = (MAYBE_AND_TOP, EMBEDDER_AND_DIGEST);
    &[KEY, VERSION, VECTOR, HIT, maybe, top, embedder, digest]
};

/// ML.SEMGET key version vector HIT s [MAYBE s] [TOP k] [EMBEDDER name] [DIGEST bytes]
fn get<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let vector = vector(call.args.arg()?)?;
    let mut near = Near::UNSAID;
    let mut options = call.args.options();
    while let Some(word) = options.next(&Near::WORDS)? {
        near.read(word, &mut options)?;
    }
    near.check()?;
    let ask = Ask::new(version, vector, &near, V::admits);
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.read(key);
    let table = open.value::<Table>()?;
    if let Some(table) = table {
        table.check(ask.vector.dim(), near.embedder).map_err(Misfit::refusal)?;
    }
    let Ok(found) = look::get(&call.lock(), key.bytes(), table, &ask, None) else {
        return searches::get(call, key.bytes(), ask);
    };
    let reply = call.reply;
    reply.array(2);
    reply.bytes(found.status.as_bytes());
    reply_entries(reply, table, &found.entries, now_ms);
    Ok(())
}
