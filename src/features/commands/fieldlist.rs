//! ML.FIELDLIST: has a name stand for fields.

use crate::features::config::LISTS;
use crate::features::field_lists::{self, APPLY_LISTS, FieldList, MAX_LIST_NAME_BYTES};
use crate::server::{Arg, Argument, Call, Command, Error, handler, refuse};

/// ML.FIELDLIST
pub const COMMAND: Command = Command {
    name: c"ML.FIELDLIST",
    run: handler(fieldlist),
    flags: c"write admin",
    categories: c"write admin dangerous",
    arity: -2,
    keys: None,
    arguments: &[
        Argument::string(c"name"),
        Argument::one_of(
            c"change",
            &[Argument::string(c"field").repeated(), Argument::token(c"clear", c"CLEAR")],
        )
        .optional(),
    ],
    summary: c"Has a name stand for a list of fields, or returns what it stands for.",
    complexity: c"O(N) where N is the number of fields.",
    since: c"0.1.0",
};

/// ML.FIELDLIST name [field [field ...] | CLEAR]
fn fieldlist(call: &mut Call) -> Result<(), Error> {
    let name = call.args.arg()?.sized("name", 1..=MAX_LIST_NAME_BYTES)?;
    let lock = call.lock();
    if call.args.left() == 0 {
        let reply = call.reply;
        field_lists::with(&lock, |lists| match lists.get(name) {
            None => reply.null(),
            Some(list) => {
                reply.array(list.fields().len());
                list.fields().for_each(|field| reply.bytes(field));
            }
        });
        return Ok(());
    }
    let args: Vec<_> = call.args.remaining().collect();
    let fields = parse(&args)?;
    let list = || FieldList::new(fields.iter().map(|field| field.bytes()));
    let most = LISTS.get_count();
    let changed = field_lists::with(&lock, |lists| lists.set(name, list(), most));
    if changed.map_err(|why| refuse(why.to_string()))? {
        let mut payload = Vec::new();
        field_lists::encode([(name, &list())].into_iter(), &mut payload);
        call.commit_keyless(APPLY_LISTS, &payload);
    }
    call.reply.ok();
    Ok(())
}

/// `field [field ...] | CLEAR`
fn parse<'c, 'a>(args: &'c [Arg<'a>]) -> Result<&'c [Arg<'a>], Error> {
    match args {
        [word] if word.is(b"CLEAR") => Ok(&[]),
        _ if args.iter().any(|word| word.is(b"CLEAR")) => {
            Err(refuse("CLEAR stands alone: no field of a list can be called so"))
        }
        _ => Ok(args),
    }
}
