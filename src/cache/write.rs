//! The commands that write: parse → decide → write → replicate → reply.

use super::codec::{self, Change, MAX_TIME_MS};
use super::config::VERSIONS;
use super::datatype::APPLY;
use super::entry::{Entry, MAX_VERSIONS};
use super::flights::Place;
use super::namespaces::Figure;
use super::node;
use super::parse::{self, Drop, Set, version};
use super::stats::count;
use super::term::Term;
use crate::server::{
    Arg, Call, Error, Lock, WriteKey, effects_are_wanted, monotonic, new_id, random_fraction,
    refuse,
};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::ffi::CStr;

/// ML.CACHESET key version value [EX s | PX ms | EXAT s | PXAT ms] [STALE ms]
/// [JITTER percent] [TOKEN token] [JSON]
pub fn set(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let value = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, now_ms)?;
    parse::check_size(value)?;
    if options.json {
        parse::check_json(value)?;
    }

    let lock = call.lock();
    let place = || Place::new(call.db(), key.bytes());
    let permission = match options.token {
        Some(token) => may_fill(&lock, &place(), version, token),
        None => admits(&lock, key, version).then_some(0),
    };
    let Some(cost_ms) = permission else {
        call.read(key).value_ref::<Entry>()?;
        node::with(&lock, |node| count(node.namespace(key.bytes()), Figure::RefusedSets, 1));
        call.reply.null();
        return Ok(());
    };
    let answer = answer(version, value, options.term(random_fraction, cost_ms, now_ms))?;
    put(call, key, version, answer, value, now_ms)?;
    call.reply.ok();
    Ok(())
}

/// ML.CACHEMSET version EX s | PX ms key value [key value ...]
pub fn mset(call: &mut Call) -> Result<(), Error> {
    const UNITS: &[&str] = &["EX", "PX"];
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let unit = call.args.arg()?.one_of("the argument after version", UNITS)?;
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    let expires_at_ms = call.args.arg()?.expiry(unit, now_ms, MAX_TIME_MS)?;
    if !call.args.left().is_multiple_of(2) {
        return Err(Error::WrongArity);
    }
    let term =
        Term { expires_at_ms, stale_until_ms: expires_at_ms, written_at_ms: now_ms, cost_ms: 0 };
    let mut pairs = Vec::with_capacity(call.args.left() / 2);
    while call.args.left() > 0 {
        let (key, value) = (call.args.arg()?, call.args.arg()?);
        parse::check_size(value)?;
        call.read(key).value_ref::<Entry>()?;
        pairs.push((key, value, answer(version, value, term)?));
    }
    let lock = call.lock();
    if let Some((key, ..)) = pairs.iter().find(|(key, ..)| !admits(&lock, *key, version)) {
        node::with(&lock, |node| count(node.namespace(key.bytes()), Figure::RefusedSets, 1));
        call.reply.null();
        return Ok(());
    }
    for (key, value, answer) in pairs {
        put(call, key, version, answer, value, now_ms)?;
    }
    call.reply.ok();
    Ok(())
}

fn admits(lock: &Lock, key: Arg, version: &[u8]) -> bool {
    node::with(lock, |node| node.namespace(key.bytes()).admits(version))
}

/// Whether the holder of a token may set the answer, and then what computing it
/// took, in milliseconds.
fn may_fill(lock: &Lock, place: &Place, version: &[u8], token: Arg) -> Option<u32> {
    let token = parse::token(token)?;
    let now = monotonic();
    node::with(lock, |node| {
        let since = node.flights.held_since(place, version, token, now)?;
        let took_ms = now.saturating_sub(since).div_ceil(MICROS_PER_MILLI).max(1);
        node.namespace(place.key())
            .admits(version)
            .then_some(u32::try_from(took_ms).unwrap_or(u32::MAX))
    })
}

fn answer(version: &[u8], value: Arg, term: Term) -> Result<Entry, Error> {
    Entry::of(version, value.bytes(), term).ok_or_else(|| refuse("not enough memory for value"))
}

/// Puts the answer of a version, whose value came as an argument, into a key,
/// replicates it, and gives it to those who wait.
fn put<'a>(
    call: &mut Call<'a>,
    key: Arg<'a>,
    version: &[u8],
    answer: Entry,
    value: Arg<'a>,
    now_ms: Millis,
) -> Result<(), Error> {
    let keep = usize::try_from(VERSIONS.get()).unwrap_or(1);
    let term = answer.term();
    let mut open = call.write(key);
    let outlived = open.value_ref::<Entry>()?.map(|entry| entry.outlived(version, keep, now_ms));
    let outlived = outlived.unwrap_or_default();
    let dropped: Vec<_> = outlived.iter().map(AsRef::as_ref).collect();
    store(&mut open, answer, &dropped)?;
    drop(open);
    replicate(call, key, &Change::Put { version, term, dropped }, Some(value));
    node::act(&call.lock(), |node| {
        let namespace = node.namespace(key.bytes());
        count(namespace, Figure::EntriesWritten, 1);
        count(namespace, Figure::BytesWritten, value.bytes().len() as u64);
        if node.flights.count() > 0 {
            let ttl_ms = term.expires_at_ms.saturating_sub(now_ms);
            let place = Place::new(call.db(), key.bytes());
            node.flights.fill(&place, version, ttl_ms, || value.bytes().into());
        }
    });
    Ok(())
}

/// Puts the answer into the key, which lives as long as one of its answers can
/// be served.
fn store(key: &mut WriteKey, answer: Entry, dropped: &[&[u8]]) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.cacheset";
    let stays =
        |held: &&Entry| held.version() != answer.version() && !dropped.contains(&held.version());
    let others = key.value_ref::<Entry>()?.map(|entry| {
        let others = entry.answers().filter(stays);
        (others.clone().count(), others.map(|held| held.term().stale_until_ms).max())
    });
    let (count, longest_ms) = others.unwrap_or_default();
    if count >= MAX_VERSIONS {
        return Err(refuse(format!("the entry holds {MAX_VERSIONS} versions already")));
    }
    let expires_at_ms = longest_ms.unwrap_or(0).max(answer.term().stale_until_ms);
    match count {
        // The common case: the one answer of a key takes its last one's place.
        0 => drop(key.set(answer)?),
        _ => {
            let version = answer.version().to_vec();
            let gone: Vec<_> = dropped.iter().copied().chain([version.as_slice()]).collect();
            let others = key.set(answer)?.and_then(|old| old.without(&gone));
            if let Some(head) = key.inner::<Entry>()? {
                head.set_older(others);
            }
        }
    }
    key.expire_at_ms(expires_at_ms);
    key.changed(EVENT);
    Ok(())
}

/// ML.CACHEDROP key [VERSION version] [STALE]
pub fn drop_versions(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let options = Drop::parse(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let lock = call.lock();
    let mut open = call.write(key);
    let concerned: Vec<(Box<[u8]>, Term)> = {
        let entry = open.value_ref::<Entry>()?;
        let asked = |answer: &&Entry| {
            let term = answer.term();
            let serves = if options.stale { term.is_fresh(now_ms) } else { term.is_alive(now_ms) };
            serves && options.version.is_none_or(|version| answer.version() == version)
        };
        let asked = entry.as_deref().into_iter().flat_map(Entry::answers).filter(asked);
        asked.map(|answer| (answer.version().into(), answer.term().made_stale(now_ms))).collect()
    };
    let mut versions = concerned.iter().map(|(version, term)| (version.as_ref(), *term));
    let change = match options.stale {
        true => Change::Retime(versions.collect()),
        false => Change::Drop(versions.by_ref().map(|(version, _)| version).collect()),
    };
    if !concerned.is_empty() {
        change_entry(&mut open, &change)?;
    }
    drop(open);
    if !concerned.is_empty() {
        replicate(call, key, &change, None);
    }
    node::act(&lock, |node| {
        if node.flights.count() > 0 {
            let place = Place::new(call.db(), key.bytes());
            node.flights.void(&place, options.version, monotonic(), &mut new_id);
        }
    });
    call.reply.integer(concerned.len() as i64);
    Ok(())
}

/// Takes versions out of an entry, or makes them stale; the key goes with the
/// last of them.
fn change_entry(key: &mut WriteKey, change: &Change) -> Result<(), Error> {
    const EVENT: &CStr = c"ml.cachedrop";
    let newest = key.value_ref::<Entry>()?.map(|entry| entry.version().to_vec());
    let Some(newest) = newest else { return Ok(()) };
    match change {
        Change::Put { .. } => {}
        Change::Drop(versions) => {
            // What the key holds meanwhile is empty, and goes if nothing is left.
            let left = key.set(Entry::default())?.and_then(|all| all.without(versions));
            match left {
                Some(left) => drop(key.set(left)?),
                None => key.delete(),
            }
        }
        Change::Retime(terms) => {
            for (version, term) in terms {
                let Some(head) = key.inner::<Entry>()? else { break };
                match *version == newest {
                    true => head.set_term(*term),
                    false => head.retime_older(version, *term),
                }
            }
        }
    }
    let expires_at_ms = key.value_ref::<Entry>()?.map(|entry| entry.expires_at_ms());
    match expires_at_ms {
        Some(expires_at_ms) => {
            key.expire_at_ms(expires_at_ms);
            key.changed(EVENT);
        }
        None => key.deleted(EVENT),
    }
    Ok(())
}

fn replicate<'a>(call: &Call<'a>, key: Arg<'a>, change: &Change, value: Option<Arg<'a>>) {
    if effects_are_wanted() {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        call.replicate(APPLY, key, &payload, value);
    } else {
        call.replicate_nothing();
    }
}

/// ML.APPLYCACHE key change [value]
pub fn apply(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let payload = call.args.arg()?;
    let value = call.args.peek();
    let change = codec::decode_change(payload.bytes())
        .ok_or_else(|| refuse("change is not a change of a cache entry"))?;
    let mut open = call.write(key);
    match (&change, value) {
        (Change::Put { version, term, dropped }, Some(value)) => {
            store(&mut open, answer(version, value, *term)?, dropped)?;
        }
        (Change::Put { .. }, None) => return Err(Error::WrongArity),
        (_, Some(_)) => return Err(refuse("value goes with a change that puts one in only")),
        (_, None) => change_entry(&mut open, &change)?,
    }
    drop(open);
    call.replicate(APPLY, key, payload.bytes(), value);
    call.reply.ok();
    Ok(())
}
