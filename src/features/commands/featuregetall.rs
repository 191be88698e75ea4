//! ML.FEATUREGETALL: all fields of an entity.

use super::answers::{Answers, most_bytes, reply_bytes, too_long};
use super::write_options::{VIEW, view};
use crate::bug;
use crate::features::by_namespace::{self, Counts};
use crate::features::change::is_alive;
use crate::features::form::Form;
use crate::features::found::Found;
use crate::features::layout::Layout;
use crate::features::row::Row;
use crate::features::stats::FOUND;
use crate::features::value::Value;
use crate::server::{Arg, Args, Argument, Call, Command, Error, Hash, KeyAccess, KeySpec, handler};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::collections::HashSet;
use std::ops::Range;

/// ML.FEATUREGETALL
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREGETALL",
    run: handler(featuregetall),
    flags: c"readonly",
    categories: c"read",
    arity: -2,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key"), VIEW.optional()],
    summary: c"Returns all fields of an entity and their values.",
    complexity: c"O(N) where N is the size of the entity.",
    since: c"0.1.0",
};

/// ML.FEATUREGETALL key [VIEW view]
fn featuregetall(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let only = parse(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.read(key);
    match open.value_ref::<Row>() {
        Ok(None) => call.reply.map(0),
        Ok(Some(row)) => {
            let found = answer_row(call, &row, only, now_ms)?;
            count(call, key, Counts { rows: 1, found, ..Counts::default() });
        }
        // It may still be a hash.
        Err(_) => match open.hash()? {
            Some(hash) if only.is_none_or(<[u8]>::is_empty) => {
                let found = answer_hash(call, &hash)?;
                count(call, key, Counts { hashes: 1, found, ..Counts::default() });
            }
            // All fields of a hash are in the view without a name.
            _ => call.reply.map(0),
        },
    }
    Ok(())
}

fn count(call: &Call, key: Arg, counts: Counts) {
    FOUND.add(counts.found);
    by_namespace::count(&call.lock(), key.bytes(), counts);
}

fn parse<'a>(args: &mut Args<'a>) -> Result<Option<&'a [u8]>, Error> {
    let (mut only, mut options) = (None, args.options());
    while options.next(&["VIEW"])?.is_some() {
        only = Some(view(options.value()?)?);
    }
    Ok(only)
}

/// Of all views each field has the name that it is read by, and one that is
/// hidden by another's name is left out; of one view, its own.
fn answer_row(call: &Call, row: &Row, only: Option<&[u8]>, now_ms: Millis) -> Result<u64, Error> {
    let layout: &Layout = row.layout();
    let alive = |view: &usize| is_alive(row, *view, now_ms);
    let views = (0..layout.views()).filter(alive);
    let views: Vec<_> =
        views.filter(|view| only.is_none_or(|only| layout.view_name(*view) == only)).collect();
    let values = row.values();
    let found = |field: usize| Form::One.of_row(values.get(field), 0);
    let value_bytes = |field: usize| reply_bytes(found(field), None);
    // What the row holds is answered, as long as it is. But the name of a view stands
    // before each of its fields.
    let held = views.iter().fold(0usize, |held, view| {
        let fields = layout.fields(*view);
        let each = fields.map(|field| layout.field_name(field).len() + 1 + value_bytes(field));
        held.saturating_add(layout.view_name(*view).len()).saturating_add(each.sum())
    });
    let most = most_bytes().max(held);
    let (mut name, mut pairs, mut bytes) = (Vec::new(), Vec::new(), 0usize);
    // Only what is in the default view hides others.
    let default = layout.view(b"").filter(|view| only.is_none() && alive(view));
    for view in views {
        let prefix = start_name(layout, view, only, &mut name);
        for field in layout.fields(view) {
            // What is in windows is read by aggregate.
            if matches!(found(field), Found::Misfit) {
                continue;
            }
            let own = layout.field_name(field);
            if let Some(default) = default.filter(|default| *default != view) {
                name.truncate(prefix);
                name.extend_from_slice(own);
                if layout.field(default, &name).is_some() {
                    continue;
                }
            }
            bytes = bytes.saturating_add(prefix + own.len() + value_bytes(field));
            if bytes > most {
                return Err(too_long());
            }
            pairs.push((view, field));
        }
    }
    let mut answers = Answers::of(call);
    call.reply.map(pairs.len());
    let count = pairs.len() as u64;
    for same in pairs.chunk_by(|(one, _), (next, _)| one == next) {
        let Some((view, _)) = same.first() else { bug("no fields of a view") };
        let prefix = start_name(layout, *view, only, &mut name);
        for (_, field) in same {
            name.truncate(prefix);
            name.extend_from_slice(layout.field_name(*field));
            call.reply.bytes(&name);
            answers.reply(found(*field), None);
        }
    }
    Ok(count)
}

/// Begins the names of a view's fields, as they are answered; returns how long that is.
fn start_name(layout: &Layout, view: usize, only: Option<&[u8]>, name: &mut Vec<u8>) -> usize {
    name.clear();
    let prefix = layout.view_name(view);
    if only.is_none() && !prefix.is_empty() {
        name.extend_from_slice(prefix);
        name.push(b':');
    }
    name.len()
}

/// All is read before anything is answered: a pass may fail.
fn answer_hash(call: &Call, hash: &Hash) -> Result<u64, Error> {
    let (mut bytes, mut pairs) = (Vec::new(), Vec::new());
    hash.each(|field, value| {
        let mut keep = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        pairs.push((keep(field), keep(value)));
    })?;
    let part = |part: &Range<usize>| {
        bytes.get(part.clone()).unwrap_or_else(|| bug("a field outside of what was read"))
    };
    // In a pass a field may come twice.
    let mut known = HashSet::with_capacity(pairs.len());
    pairs.retain(|(field, _)| known.insert(part(field)));
    let mut answers = Answers::of(call);
    call.reply.map(pairs.len());
    for (field, value) in &pairs {
        call.reply.bytes(part(field));
        answers.value(Value::Text(part(value)));
    }
    Ok(pairs.len() as u64)
}
