//! ML.FEATURES: the fields of one entity.

use super::answers::{Answers, VALUE_BYTES, most_bytes, too_long};
use super::entity::{Entity, EntityReader, Field};
use crate::features::buffer::Found;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;
use std::collections::HashSet;

/// ML.FEATURES
pub const COMMAND: Command = Command {
    name: c"ML.FEATURES",
    run: handler(features),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -3,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key"), Argument::string(c"field").repeated()],
    summary: c"Returns the values of an entity's fields, in the order asked for.",
    complexity: c"O(N*log(N)) where N is the number of fields asked for.",
    since: c"0.1.0",
};

/// ML.FEATURES key field [field ...]
fn features(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let fields: Vec<_> = call.args.remaining().map(Field::of).collect();
    let now_ms = call.now() / MICROS_PER_MILLI;
    // What is asked for once is answered, as long as it is.
    let mut reader = EntityReader::new(call.lock(), &fields, now_ms, None, usize::MAX);
    let mut answers = Answers::of(call);
    reader.read(&call.keys, key, |entity| {
        check(entity, &fields)?;
        call.reply.array(fields.len());
        (0..fields.len()).for_each(|place| answers.reply(entity.get(place), None));
        Ok(())
    })
}

/// Refuses a reply that is too long because fields are asked for again and again.
/// What is asked for once is answered, as long as it is.
fn check(entity: &Entity, fields: &[Field]) -> Result<(), Error> {
    let most = most_bytes();
    let bound = entity.text_bytes().saturating_add(VALUE_BYTES).saturating_mul(fields.len());
    if bound <= most {
        return Ok(());
    }
    let (mut all, mut once, mut known) = (0usize, 0usize, HashSet::new());
    for (place, field) in fields.iter().enumerate() {
        let text = match entity.peek(place) {
            Found::Value(value) => value.text().map_or(0, <[u8]>::len),
            Found::TooOld | Found::Nothing => 0,
        };
        all = all.saturating_add(text + VALUE_BYTES);
        if known.insert(field.name) {
            once += text + VALUE_BYTES;
        }
    }
    if all > most.max(once) { Err(too_long()) } else { Ok(()) }
}
