//! ML.SEMTHRESHOLD: from which similarity on an entry answers.

use super::arguments::{ID, KEY, similarity};
use super::store::commit;
use crate::semantic::change::Change;
use crate::semantic::leases::{self, By};
use crate::semantic::searches;
use crate::semantic::table::Table;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.SEMTHRESHOLD
pub const COMMAND: Command = Command {
    name: c"ML.SEMTHRESHOLD",
    run: handler(threshold),
    flags: c"write",
    categories: c"write",
    arity: 4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[KEY, ID, Argument::double(c"similarity")],
    summary: c"Says from which similarity on an entry answers.",
    complexity: c"O(W*V*D) where W is the number of callers that wait at the key, V that of the vectors that lead to the entry, 65 at most, and D that of dimensions.",
    since: c"0.1.0",
};

/// ML.SEMTHRESHOLD key id similarity
fn threshold(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = call.args.arg()?.id("id")?;
    let similarity = similarity(call.args.arg()?, "similarity")?;
    call.args.end()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let (lock, place) = (call.lock(), (call.db(), key.bytes()));
    let open = call.keys.write(key);
    let found = open.value_ref::<Box<Table>>()?.and_then(|table| {
        let entry = table.get(id).filter(|entry| entry.lifetime.is_alive(now_ms))?;
        Some((Box::<[u8]>::from(table.version(entry)), entry.threshold))
    });
    // Where it is what it was, there is nothing to write.
    if let Some((version, before)) = found.as_ref().filter(|(_, before)| *before != similarity) {
        let threshold = Some((id, similarity));
        commit(open, &Change { threshold, ..Change::default() }, None)?;
        searches::threshold_changed(&lock, place.0, key.bytes(), id);
        // Raised, it answers nobody that it did not answer before.
        if similarity < *before {
            leases::offer_entry(&lock, place, version, id, By::All);
        }
        leases::settle(&lock);
    }
    call.reply.integer(found.is_some().into());
    Ok(())
}
