//! What runs the commands: parse → decide → replicate → reply.

use super::codec;
use super::datatype::APPLY;
use super::limiter::{Event, Limiter};
use super::parse;
use super::policy::Cost;
use super::request::{Decision, Mode, Refusal, Request, Standing};
use super::slot::{Algorithm, Slot};
use super::stats::{PEEKED, SETTLED, count};
use crate::bounds::MAX_AMOUNT;
use crate::id::Id;
use crate::server::{Call, Error, Reply, WriteKey, effects_are_wanted, new_id, now, refuse};
use crate::time::{MICROS_PER_MILLI, Micros};
use std::ffi::CStr;

/// The keyspace notification of a write.
fn notification(event: Event) -> &'static CStr {
    match event {
        Event::Charge => c"ml.ratelimit",
        Event::Settlement => c"ml.ratesettle",
    }
}

/// The answer for one key.
struct Row {
    granted: Cost,
    /// What the windows say after the call.
    standing: Standing,
    /// Whether all that was asked for was granted.
    in_full: bool,
    /// With RESERVE, the reservation; none where the call was denied.
    reservation: Option<Option<Id>>,
}

/// ML.RATELIMIT key limit window [limit window ...] [ALGORITHM a] [BURST n]
/// [COST n] [PEEK | PARTIAL | FORCE] [RESERVE ms]
pub fn ratelimit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (mut args, reply) = (call.args, call.reply);
    // The limiter comes from memory while the other arguments are read.
    let mut open = call.write(key);
    open.prefetch::<Box<Limiter>>();
    let request = parse::ratelimit(&mut args)?;
    let now_us = now();
    let decision = decide(open.value::<Limiter>()?.as_deref(), &request, now_us)?;
    if request.mode == Mode::Peek {
        PEEKED.increment();
    } else {
        count(decision.algorithm, decision.granted > 0);
    }
    let row = if decision.writes {
        let wanted = effects_are_wanted();
        let (row, payload) = write(&mut open, &request, &decision, wanted, now_us)?;
        drop(open);
        if wanted {
            call.replicate(APPLY, key, &payload, None);
        } else {
            call.replicate_nothing();
        }
        row
    } else {
        seen(&request, &decision)
    };
    reply_row(reply, &row);
    Ok(())
}

/// ML.RATEMULTI numkeys key [key ...] limit window [limit window ...]
/// [ALGORITHM a] [COST n] [PEEK | FORCE] [RESERVE ms]
pub fn ratemulti(call: &mut Call) -> Result<(), Error> {
    let numkeys = call.args.arg()?.integer("numkeys", 1..=i64::MAX)?;
    // A key, a limit and a window each.
    let numkeys = usize::try_from(numkeys).ok().filter(|keys| *keys <= call.args.left() / 3);
    let numkeys = numkeys.ok_or_else(|| {
        refuse("numkeys must be the number of keys, each with a limit and a window")
    })?;
    let keys: Vec<_> = (0..numkeys).map(|_| call.args.arg()).collect::<Result<_, _>>()?;
    let mut names: Vec<_> = keys.iter().map(|key| key.bytes()).collect();
    names.sort_unstable();
    if !names.is_sorted_by(|one, next| one != next) {
        return Err(refuse("key is given twice: each must be another"));
    }
    let requests = parse::ratemulti(&mut call.args, numkeys)?;
    let now_us = call.now();

    let mut decisions = Vec::with_capacity(numkeys);
    for (key, request) in keys.iter().zip(&requests) {
        let open = call.read(*key);
        decisions.push(decide(open.value::<Limiter>()?, request, now_us)?);
    }
    let peek = requests.iter().any(|request| request.mode == Mode::Peek);
    let all = decisions.iter().all(|decision| decision.granted > 0);
    let mut rows = Vec::with_capacity(numkeys);
    for ((key, request), mut decision) in keys.iter().zip(&requests).zip(decisions) {
        if !all {
            decision.deny();
        }
        if peek {
            PEEKED.increment();
        } else {
            count(decision.algorithm, all);
        }
        rows.push(if decision.writes {
            let mut open = call.write(*key);
            let (row, payload) = write(&mut open, request, &decision, true, now_us)?;
            drop(open);
            call.replicate(APPLY, *key, &payload, None);
            row
        } else {
            seen(request, &decision)
        });
    }
    call.reply.array(rows.len());
    rows.iter().for_each(|row| reply_row(call.reply, row));
    Ok(())
}

fn decide(current: Option<&Limiter>, request: &Request, now_us: Micros) -> Result<Decision, Error> {
    Limiter::decide(current, request, now_us).map_err(|refusal| match refusal {
        Refusal::BurstWithoutBucket => refuse("BURST needs ALGORITHM GCRA"),
        Refusal::TooManyReservations => refuse(format!(
            "key has {} reservations open already (ml.ratelimit-max-reservations)",
            request.max_reservations
        )),
    })
}

/// The answer of a call that writes nothing.
fn seen(request: &Request, decision: &Decision) -> Row {
    Row {
        granted: decision.granted,
        standing: decision.before,
        in_full: decision.granted == request.cost,
        reservation: request.reserve_ms.map(|_| None),
    }
}

/// Carries a decision out on an open key: the answer and, where wanted, the
/// payload to replicate.
fn write(
    open: &mut WriteKey,
    request: &Request,
    decision: &Decision,
    wanted: bool,
    now_us: Micros,
) -> Result<(Row, Vec<u8>), Error> {
    let id = request.reserve_ms.filter(|_| decision.granted > 0).map(|_| new_id());
    let mut payload = Vec::new();
    let mut commit = |limiter: &mut Limiter| {
        let change = limiter.commit(request, decision, id, now_us);
        if wanted {
            codec::encode_change(limiter, Event::Charge, &change, &mut payload);
        }
        let Decision { algorithm, granted, .. } = *decision;
        let standing = Limiter::standing(Some(limiter), algorithm, request, granted, now_us);
        (standing, limiter.expires_at_ms())
    };
    let (standing, expires_at_ms) = match open.value::<Limiter>()? {
        Some(limiter) => commit(limiter),
        None => {
            let mut limiter = Limiter::new(request, decision.algorithm);
            let committed = commit(&mut limiter);
            open.set(Box::new(limiter))?;
            committed
        }
    };
    open.expire_at_ms(expires_at_ms);
    open.changed(notification(Event::Charge));
    let row = Row {
        granted: decision.granted,
        standing,
        in_full: decision.granted == request.cost,
        reservation: request.reserve_ms.map(|_| id),
    };
    Ok((row, payload))
}

/// `[granted, limit, remaining, retry_after_ms, reset_after_ms]`, with RESERVE
/// the id too. OnUnblock round up, and a wait without end is −1.
fn reply_row(reply: Reply, row: &Row) {
    let Standing { limit, reading } = row.standing;
    let retry_after_ms = match reading.retry_after_us {
        _ if row.in_full => 0,
        Some(wait_us) => millis(wait_us),
        None => -1,
    };
    reply.array(5 + usize::from(row.reservation.is_some()));
    reply.integer(row.granted.cast_signed());
    reply.integer(limit.cast_signed());
    reply.integer(reading.remaining.cast_signed());
    reply.integer(retry_after_ms);
    reply.integer(millis(reading.reset_after_us));
    match row.reservation {
        Some(Some(id)) => reply.bytes(&id.text()),
        Some(None) => reply.null(),
        None => {}
    }
}

fn millis(micros: Micros) -> i64 {
    micros.div_ceil(MICROS_PER_MILLI).cast_signed()
}

/// ML.RATESETTLE key id actual
pub fn ratesettle(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let id = Id::parse(call.args.arg()?.bytes());
    let actual = call.args.arg()?.integer("actual", 0..=MAX_AMOUNT.cast_signed())?;
    let now_us = call.now();
    let mut open = call.write(key);
    let limiter = open.value::<Limiter>()?;
    let settled = limiter.zip(id).and_then(|(limiter, id)| {
        let change = limiter.settle(id, actual.cast_unsigned(), now_us)?;
        let mut payload = Vec::new();
        codec::encode_change(limiter, Event::Settlement, &change, &mut payload);
        Some((payload, limiter.expires_at_ms()))
    });
    if let Some((_, expires_at_ms)) = &settled {
        SETTLED.increment();
        open.expire_at_ms(*expires_at_ms);
        open.changed(notification(Event::Settlement));
    }
    drop(open);
    if let Some((payload, _)) = &settled {
        call.replicate(APPLY, key, payload, None);
    }
    call.reply.integer(settled.is_some().into());
    Ok(())
}

/// ML.RATEINFO key
pub fn rateinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_us = call.now();
    let open = call.read(key);
    match open.value::<Limiter>()? {
        None => call.reply.null(),
        Some(limiter) => reply_info(call.reply, limiter, now_us),
    }
    Ok(())
}

fn reply_info(reply: Reply, limiter: &Limiter, now_us: Micros) {
    let now_ms = now_us / MICROS_PER_MILLI;
    let reservations = limiter.reservations().iter().filter(|held| held.is_open(now_ms)).count();
    reply.map(3);
    reply.bytes(b"algorithm");
    reply.bytes(limiter.algorithm().name().as_bytes());
    reply.bytes(b"reservations");
    reply.integer(reservations as i64);
    reply.bytes(b"windows");
    reply.array(limiter.slots().len());
    limiter.slots().iter().for_each(|slot| reply_slot(reply, slot, now_us));
}

fn reply_slot(reply: Reply, slot: &Slot, now_us: Micros) {
    let reading = slot.read(1, now_us);
    let field = |name: &str, value: i64| {
        reply.bytes(name.as_bytes());
        reply.integer(value);
    };
    let is_bucket = slot.algorithm() == Algorithm::Gcra;
    reply.map(5 + usize::from(is_bucket));
    field("limit", slot.policy.limit.cast_signed());
    if is_bucket {
        field("burst", slot.policy.burst.cast_signed());
    }
    field("window_ms", millis(slot.policy.window_us));
    field("used", i64::try_from(slot.used(now_us)).unwrap_or(i64::MAX));
    field("remaining", reading.remaining.cast_signed());
    field("reset_after_ms", millis(reading.reset_after_us));
}

/// ML.APPLYRATE key change
pub fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let change = call.args.arg()?;
    let mut open = call.write(key);
    let current = open.value::<Limiter>()?;
    let (event, changed) = codec::apply(change.bytes(), current.as_deref())
        .ok_or_else(|| refuse("change is not a change of a limiter"))?;
    let expires_at_ms = changed.expires_at_ms();
    match current {
        Some(limiter) => *limiter = changed,
        None => {
            open.set(Box::new(changed))?;
        }
    }
    open.expire_at_ms(expires_at_ms);
    open.changed(notification(event));
    drop(open);
    call.replicate(APPLY, key, change.bytes(), None);
    call.reply.ok();
    Ok(())
}
