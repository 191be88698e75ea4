//! ML.SEMDROP: entries dropped.

use super::arguments::{ID, KEY, VERSION, version};
use super::store::commit;
use crate::semantic::change::Change;
use crate::semantic::leases;
use crate::semantic::table::Table;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse};
use crate::time::MICROS_PER_MILLI;

/// ML.SEMDROP
pub const COMMAND: Command = Command {
    name: c"ML.SEMDROP",
    run: handler(drop_entries),
    flags: c"write",
    categories: c"write",
    arity: -2,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[KEY, Argument::one_of(c"entries", &[ID.after(c"ID"), VERSION.after(c"VERSION")])],
    summary: c"Drops an entry, or those of a version.",
    complexity: c"O(N+L*V*D) where N is the number of entries if a version is named, L that of leases at the key, open and late, V that of the vectors that lead to the entry, 65 at most, and D that of dimensions.",
    since: c"0.1.0",
};

/// ML.SEMDROP key ID id | VERSION version
fn drop_entries(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (mut id, mut of_version) = (None, None);
    const WORDS: &[&str] = &["ID", "VERSION"];
    let mut options = call.args.options();
    while let Some(option) = options.next(WORDS)? {
        options.excludes(WORDS, WORDS)?;
        match option {
            "ID" => id = Some(options.value()?.id("ID")?),
            _ => of_version = Some(version(options.value()?)?),
        }
    }
    if id.is_none() && of_version.is_none() {
        return Err(refuse("ID or VERSION must be given: which entries are dropped"));
    }
    let now_ms = call.now() / MICROS_PER_MILLI;
    let (lock, db) = (call.lock(), call.db());
    let open = call.keys.write(key);
    let (concerned, dropped) = match open.value_ref::<Box<Table>>()?.as_deref() {
        None => (0, Vec::new()),
        Some(table) => {
            let one = id.and_then(|id| table.get(id));
            one.into_iter().for_each(|entry| {
                leases::invalidate_near(&lock, db, key.bytes(), table, entry);
            });
            let one = one.map(|entry| entry.id);
            let of_version = of_version.map(|version| table.of_version(version));
            let dropped = of_version.unwrap_or_else(|| one.into_iter().collect());
            let entries = dropped.iter().filter_map(|id| table.get(*id));
            (entries.filter(|entry| entry.lifetime.is_alive(now_ms)).count(), dropped)
        }
    };
    match dropped.is_empty() {
        true => drop(open),
        false => commit(open, &Change { dropped, ..Change::default() }, None)?,
    }
    if of_version.is_some() {
        leases::invalidate(&lock, db, key.bytes(), of_version);
    }
    leases::settle(&lock);
    call.reply.integer(concerned as i64);
    Ok(())
}
