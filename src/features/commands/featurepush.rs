//! ML.FEATUREPUSH: adds items to a sequence.

use super::event_options::{EventOptions, SEQ, happen};
use super::featureset::TYPES;
use super::listed::Listed;
use super::write_options::{AT, VIEW, wrong_value};
use crate::features::event::{Event, What};
use crate::features::sequence::MAX_ITEMS;
use crate::features::value::Type;
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse};
use crate::time::Micros;

/// ML.FEATUREPUSH
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREPUSH",
    run: handler(featurepush),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[
        Argument::key(c"key"),
        Argument::string(c"field"),
        Argument::string(c"item").repeated(),
        Argument::integer(c"n").after(c"LAST"),
        AT.optional(),
        SEQ,
        Argument::one_of(c"type", TYPES).after(c"TYPE").optional(),
        VIEW.optional(),
    ],
    summary: c"Adds items to the sequence of an entity's newest ones.",
    complexity: c"O(N+M) where N is the number of items added and M that of newer ones held, \
for a field that is new also the size of the entity.",
    since: c"0.1.0",
};

/// ML.FEATUREPUSH key field item [item ...] LAST n [AT ms] [SEQ s]
/// [TYPE AUTO|F32|F64|I64|STRING] [VIEW view]
fn featurepush(call: &mut Call) -> Result<(), Error> {
    happen(call, parse)
}

fn parse<'a>(args: &mut Args<'a>, _: &Listed<'_, 'a>, now_us: Micros) -> Result<Event<'a>, Error> {
    const KNOWN: &[&str] = &["LAST", "AT", "SEQ", "TYPE", "VIEW"];
    let field = args.arg()?;
    // The word LAST ends the items; one that says so is pushed by itself.
    let mut items = vec![args.arg()?];
    while args.peek_at(&["LAST"]).is_none() {
        let item = args.arg();
        items.push(item.map_err(|_| refuse("LAST must be given, after the items"))?);
    }
    let (mut last, mut kind, mut all) = (None, Type::default(), EventOptions::at(now_us));
    let mut options = args.options();
    while let Some(option) = options.next(KNOWN)? {
        match option {
            "LAST" => last = Some(options.integer(1..=MAX_ITEMS as i64)? as usize),
            "TYPE" => kind = Type::at(options.value()?.one_of("TYPE", &Type::NAMES)?),
            option => all.read(option, &mut options)?,
        }
    }
    let last = last.ok_or_else(|| refuse("LAST must be given, after the items"))?;
    let values = items.iter().map(|item| kind.read(item.bytes()));
    let values = values.map(|value| value.ok_or_else(|| wrong_value(field, kind.describe())));
    let items = values.collect::<Result<_, _>>()?;
    all.event(What::Push { field: field.bytes(), last, items })
}
