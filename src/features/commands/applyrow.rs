//! ML.APPLYROW: makes a change of rows that was decided elsewhere.

use super::event_options::notice;
use super::store::{event, happen, make_room, refused, store};
use crate::bug;
use crate::features::change::{Applier, Put};
use crate::features::codec;
use crate::features::datatype::APPLY;
use crate::features::event::Event;
use crate::features::row::Row;
use crate::features::stats::WRITTEN;
use crate::server::{Arg, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse};
use std::collections::HashSet;

/// ML.APPLYROW
pub const COMMAND: Command = Command {
    arity: -3,
    keys: Some(KeySpec::to_the_end(2, 1, KeyAccess::Write)),
    ..Command::internal(
        APPLY,
        handler(applyrow),
        &[Argument::string(c"change"), Argument::key(c"key").repeated()],
        c"Internal: changes rows as a write did, for replicas and the AOF.",
        c"O(N) where N is the size of the change and of the rows.",
    )
};

/// ML.APPLYROW change key [key ...]
///
/// Nothing is decided here: there is no clock and no config. What is refused is
/// what no primary sends.
fn applyrow(call: &mut Call) -> Result<(), Error> {
    let payload = call.args.arg()?;
    let keys: Vec<_> = call.args.remaining().collect();
    let wrong = || refuse("change is not a change of rows");
    if codec::is_event(payload.bytes()) {
        let event = codec::decode_event(payload.bytes()).ok_or_else(wrong)?;
        let [key] = *keys else { return Err(refuse("an event happens to one key")) };
        return apply_event(call, key, payload, &event);
    }
    let (change, puts) = codec::decode_change(payload.bytes(), keys.len()).ok_or_else(wrong)?;
    let mut known = HashSet::new();
    if !keys.iter().all(|key| known.insert(key.bytes())) {
        return Err(refuse("a change names a key once"));
    }
    let mut values = Vec::new();
    // All are looked at before any is written.
    let mut applier = Applier::new(&change);
    let mut each = puts.clone();
    for key in &keys {
        let times = each.as_mut().map(|puts| puts.next(&mut values).unwrap_or_else(|| short()));
        let put = times.map(|times| Put { times, values: &values });
        let open = call.keys.write(*key);
        applier.check(open.value_ref::<Row>()?.as_deref(), put).map_err(refused)?;
    }
    let mut written = Vec::with_capacity(keys.len());
    let mut each = puts;
    let outcome = keys.iter().try_for_each(|key| {
        let times = each.as_mut().map(|puts| puts.next(&mut values).unwrap_or_else(|| short()));
        let put = times.map(|times| Put { times, values: &values });
        let open = call.keys.write(*key);
        let row = open.value_ref::<Row>()?;
        if change.concerns(row.as_deref()) {
            let new = applier.apply(row.as_deref(), put).map_err(refused)?;
            written.push((*key, store(open, new)?));
        }
        Ok(())
    });
    if !written.is_empty() {
        call.keys.commit_all(&written, event(&change), APPLY, || payload.bytes());
        WRITTEN.add(each.map_or(0, |_| written.len() as u64));
    }
    outcome?;
    call.reply.ok();
    Ok(())
}

fn apply_event<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    payload: Arg,
    event: &Event,
) -> Result<(), Error> {
    let mut open = call.keys.write(key);
    // What the primary has there is of the event's kind; what else there may be stays.
    if event.can_happen(open.value_ref::<Row>()?.as_deref()) {
        let room = make_room(&mut open, event, |_, _| Ok(()))?;
        let ends = happen(open, event, room)?;
        call.keys.commit_all(&[(key, ends)], notice(event), APPLY, || payload.bytes());
        WRITTEN.increment();
    }
    call.reply.ok();
    Ok(())
}

#[cold]
fn short() -> ! {
    bug("a change that is shorter than when it was checked")
}
