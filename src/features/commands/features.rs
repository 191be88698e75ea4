//! ML.FEATURES: the fields of one entity.

use super::answers::{Answers, VALUE_BYTES, most_bytes, reply_bytes, too_long};
use super::entity::{Entity, EntityKey, EntityReader};
use super::fields::Fields;
use crate::features::found::Found;
use crate::features::row::Row;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
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
    let fields = Fields::of(call.args.remaining());
    // What is asked for once is answered, as long as it is.
    let mut reader = EntityReader::new(call.lock(), &fields, None, call.now(), None, usize::MAX);
    let mut answers = Answers::of(call);
    let open = call.keys.read(key);
    let row = open.own::<Row>();
    reader.read(&EntityKey::new(key, &open, row.as_deref()), |entity| {
        if is_short(entity, &fields) {
            call.reply.array(fields.len());
            (0..fields.len()).for_each(|place| answers.reply(entity.get(place), None));
            return Ok(());
        }
        let all: Vec<_> = (0..fields.len()).map(|place| entity.peek(place)).collect();
        check(&all, &fields)?;
        call.reply.array(all.len());
        all.iter().for_each(|found| entity.count(found));
        all.into_iter().for_each(|found| answers.reply(found, None));
        Ok(())
    })
}

/// Whether a reply is no longer than it may be whatever is found.
fn is_short(entity: &Entity, fields: &Fields) -> bool {
    let bound = entity.text_bytes().filter(|_| fields.are_plain());
    let bound = bound.map(|each| each.saturating_add(VALUE_BYTES).saturating_mul(fields.len()));
    bound.is_some_and(|bound| bound <= most_bytes())
}

/// Refuses a reply that is too long because fields are asked for again and again.
/// What is asked for once is answered, as long as it is.
fn check(all_found: &[Found], fields: &Fields) -> Result<(), Error> {
    let (mut once, mut known) = (0usize, HashSet::new());
    for (found, name) in all_found.iter().zip(fields.names()) {
        // Places for items that are not there, and the same ones under several names,
        // are asked for again and again.
        if !matches!(found, Found::Items(_)) && known.insert(name) {
            once = once.saturating_add(reply_bytes(*found, None));
        }
    }
    let mut left = most_bytes().max(once);
    for found in all_found {
        // Looking further would be work for what is refused.
        left = left.checked_sub(reply_bytes(*found, None)).ok_or_else(too_long)?;
    }
    Ok(())
}
