//! ML.CACHEMFETCH: the answers of several keys, or the leases to compute them.

use super::arguments::{KEYS, LEASE, TTLS, VERSION, version};
use super::cachefetch::Fetch;
use super::look::{Outcome, look};
use crate::cache::answer::Answer;
use crate::cache::reply::{Fetched, millis, reply_fetched};
use crate::server::{Args, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.CACHEMFETCH
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMFETCH",
    run: handler(mfetch),
    flags: c"readonly",
    categories: c"read",
    arity: -5,
    keys: Some(KeySpec::to_the_end(4, 1, KeyAccess::Read)),
    arguments: &[VERSION, LEASE, KEYS],
    summary:
        c"Returns the answers of several keys, and has one caller compute each that is missing.",
    complexity: c"O(N) where N is the number of keys.",
    since: c"0.1.0",
};

/// `LEASE ms`, at its place.
fn lease(args: &mut Args) -> Result<Fetch, Error> {
    args.arg()?.one_of("the argument after version", &["LEASE"])?;
    let lease_ms = args.arg()?.integer("LEASE", TTLS)?.cast_unsigned();
    Ok(Fetch { lease_ms, wait_ms: None, beta: None })
}

/// ML.CACHEMFETCH version LEASE ms key [key ...]
fn mfetch(call: &mut Call) -> Result<(), Error> {
    let version = version(call.args.arg()?)?;
    let asked = lease(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let keys: Vec<_> = call.args.remaining().collect();
    for key in &keys {
        call.read(*key).value_ref::<Answer>()?;
    }
    call.reply.array(keys.len());
    for key in keys {
        let open = call.read(key);
        let entry = open.value_ref::<Answer>()?;
        let fetched = match look(call, key, version, entry.as_deref(), &asked, now_ms) {
            Outcome::Now(fetched) => fetched,
            Outcome::Later(left_us) => Fetched::Busy(millis(left_us)),
        };
        reply_fetched(call.reply, &fetched);
    }
    Ok(())
}
