//! ML.FEATUREDEL: removes fields of an entity.

use super::listed::Listed;
use super::store::{event, payload, refused, store};
use super::write_options::{FIELDS, VIEW, view};
use crate::features::change::{Applier, Deletion};
use crate::features::datatype::APPLY;
use crate::features::row::Row;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse,
};
use crate::time::MICROS_PER_MILLI;

/// ML.FEATUREDEL
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREDEL",
    run: handler(featuredel),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[Argument::key(c"key"), Argument::one_of(c"what", &[VIEW, FIELDS])],
    summary: c"Removes fields, or a view, of an entity.",
    complexity:
        c"O(N+M*log(N)) where N is the size of the entity and M the number of fields named.",
    since: c"0.1.0",
};

/// ML.FEATUREDEL key (VIEW view | FIELDS n field [field ...])
fn featuredel(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let listed = Listed::new(call.lock(), &call.kept);
    let deletion = parse(&mut call.args, &listed)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.write(key);
    let row = open.value_ref::<Row>()?;
    let decided = row.as_deref().and_then(|row| deletion.decide(row, now_ms));
    let Some((removed, change)) = decided else {
        call.reply.integer(0);
        return Ok(());
    };
    let left = Applier::new(&change).apply(row.as_deref(), None).map_err(refused)?;
    let ends = store(open, left)?;
    call.keys.commit_all(&[(key, ends)], event(&change), APPLY, || payload(&change, None));
    call.reply.integer(removed as i64);
    Ok(())
}

/// `VIEW view | FIELDS n field [field ...]`
fn parse<'a>(args: &mut Args<'a>, listed: &Listed<'_, 'a>) -> Result<Deletion<'a>, Error> {
    let deletion = match args.arg()?.one_of("the argument after key", &["VIEW", "FIELDS"])? {
        0 => Deletion::View(view(args.arg()?)?),
        _ => {
            let names: Vec<_> = match listed.next(args)? {
                Some(listing) => listing.strings().iter().map(Arg::bytes).collect(),
                None => args.counted("FIELDS", "fields")?.map(|name| name.bytes()).collect(),
            };
            Deletion::Fields(names)
        }
    };
    match args.left() {
        0 => Ok(deletion),
        _ => Err(refuse("nothing may follow what is to be deleted")),
    }
}
