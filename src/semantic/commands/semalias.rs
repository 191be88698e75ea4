//! ML.SEMALIAS: a question that has the answer to another.

use super::InForce;
use super::arguments::{ID, KEY, VECTOR, VERSION, vector, version};
use super::store::commit;
use crate::flights::arguments::{TOKEN, token};
use crate::semantic::change::Change;
use crate::semantic::config::bounds;
use crate::semantic::leases::{self, By};
use crate::semantic::stats::{self, Counter};
use crate::semantic::table::{Misfit, Table};
use crate::semantic::vector::OwnedCode;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse};
use crate::singleflight::Standing;
use crate::time::MICROS_PER_MILLI;

/// ML.SEMALIAS
pub const fn command<V: InForce>() -> Command {
    Command {
        name: c"ML.SEMALIAS",
        run: handler(alias::<V>),
        flags: c"write deny-oom",
        categories: c"write",
        arity: 7,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: ARGUMENTS,
        summary: c"Has a question lead to an entry that answers another.",
        complexity: c"O(D*log(D)+W*D) where D is the number of dimensions, and W that of callers that wait at the key.",
        since: c"0.1.0",
    }
}

const ARGUMENTS: &[Argument] = &[KEY, VERSION, VECTOR, ID, TOKEN.after(c"TOKEN")];

/// ML.SEMALIAS key version vector id TOKEN token
fn alias<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let vector = vector(call.args.arg()?)?;
    let id = call.args.arg()?.id("id")?;
    let mut by = None;
    let mut options = call.args.options();
    while options.next(&["TOKEN"])?.is_some() {
        by = Some(token(options.value()?));
    }
    let by = by.ok_or_else(|| refuse("TOKEN must be given: the lease that was granted"))?;
    let (lock, place) = (call.lock(), (call.db(), key.bytes()));
    let now_ms = call.now() / MICROS_PER_MILLI;
    let code = OwnedCode::of(&vector);
    let open = call.keys.write(key);
    let standing = {
        let table = open.value_ref::<Box<Table>>()?;
        let table = table.as_deref().map(|table| &**table);
        leases::check(&lock, place, table, code.dim(), None).map_err(Misfit::refusal)?;
        let standing = by.and_then(|token| {
            let (flight, standing) =
                leases::standing(&lock, place, version, (&vector, None), token)?;
            Some((flight, standing, token))
        });
        let entry = table.and_then(|table| Some((table, table.get(id)?)));
        let entry = entry.filter(|(table, entry)| {
            entry.lifetime.is_fresh(now_ms) && table.version(entry) == version
        });
        match standing.zip(entry).filter(|_| V::admits(&lock, key.bytes(), version)) {
            Some(((flight, Standing::Holder { is_late, .. }, token), (table, entry))) => {
                let (bounds, cost) = (bounds(), table.cost_of_aliased(entry));
                if cost > bounds.bytes {
                    let most = bounds.bytes;
                    return Err(refuse(format!(
                        "vector must leave the entry at most {most} bytes (ml.semantic-max-bytes), \
                         with all vectors that lead to it"
                    )));
                }
                table.touch(id);
                let dropped = table.decide_room(id, cost, bounds, now_ms);
                Some((flight, is_late, token, dropped))
            }
            // It was this very call, whose answer was lost, if the entry has this vector.
            Some(((_, Standing::Completed, _), (table, entry))) => {
                let is_done = table.codes(entry).any(|one| one == code.as_ref());
                call.reply.integer(is_done.into());
                return Ok(());
            }
            _ => None,
        }
    };
    let Some((flight, is_late, token, dropped)) = standing else {
        stats::count(&lock, key.bytes(), Counter::RefusedSets, 1);
        call.reply.integer(0);
        return Ok(());
    };
    let evicted = dropped.len() as u64;
    commit(open, &Change { dropped, alias: Some((id, code)), ..Change::default() }, None)?;
    stats::count(&lock, key.bytes(), Counter::Aliases, 1);
    stats::count(&lock, key.bytes(), Counter::EntriesEvicted, evicted);
    stats::count(&lock, key.bytes(), Counter::LateSets, is_late.into());
    leases::offer_entry(&lock, place, version, id, By::Last);
    leases::complete(&lock, &flight, token);
    leases::settle(&lock);
    call.reply.integer(1);
    Ok(())
}
