//! ML.CACHEMSET: the answers of several keys, kept under the version that gave them.

use super::arguments::{KEY, VERSION, check_size, version};
use super::store::{admits, answer, put};
use crate::cache::answer::Answer;
use crate::cache::codec::MAX_TIME_MS;
use crate::cache::lifetime::Lifetime;
use crate::cache::namespaces::Statistic;
use crate::cache::state;
use crate::cache::stats::count;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

const SECONDS: Argument = Argument::integer(c"seconds").after(c"EX");
const MILLISECONDS: Argument = Argument::integer(c"milliseconds").after(c"PX");

/// ML.CACHEMSET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMSET",
    run: handler(mset),
    flags: c"write deny-oom",
    categories: c"write",
    arity: -6,
    keys: Some(KeySpec::to_the_end(4, 2, KeyAccess::Write)),
    arguments: &[
        VERSION,
        Argument::one_of(c"expiration", &[SECONDS, MILLISECONDS]),
        Argument::block(c"data", &[KEY, Argument::string(c"value")]).repeated(),
    ],
    summary: c"Keeps the answers that a version of the model gave, of several keys.",
    complexity: c"O(N) where N is the number of keys.",
    since: c"0.1.0",
};

/// ML.CACHEMSET version EX s | PX ms key value [key value ...]
fn mset(call: &mut Call) -> Result<(), Error> {
    const UNITS: &[&str] = &["EX", "PX"];
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let unit = call.args.arg()?.one_of("the argument after version", UNITS)?;
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    let expires_at_ms = call.args.arg()?.expiry(unit, now_ms, MAX_TIME_MS)?;
    if !call.args.left().is_multiple_of(2) {
        return Err(Error::WrongArity);
    }
    let lifetime = Lifetime {
        expires_at_ms,
        stale_until_ms: expires_at_ms,
        written_at_ms: now_ms,
        cost_ms: 0,
    };
    let mut pairs = Vec::with_capacity(call.args.left() / 2);
    while call.args.left() > 0 {
        let (key, value) = (call.args.arg()?, call.args.arg()?);
        check_size(value)?;
        call.read(key).value_ref::<Answer>()?;
        pairs.push((key, value, answer(version, value, lifetime)?));
    }
    let lock = call.lock();
    if let Some((key, ..)) = pairs.iter().find(|(key, ..)| !admits(&lock, *key, version)) {
        state::with(&lock, |state| count(state.namespace(key.bytes()), Statistic::RefusedSets, 1));
        call.reply.null();
        return Ok(());
    }
    for (key, value, answer) in pairs {
        put(call, key, version, answer, value, now_ms)?;
    }
    call.reply.ok();
    Ok(())
}
