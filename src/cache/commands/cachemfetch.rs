//! ML.CACHEMFETCH: the answers of several keys, or the leases to compute them.

use super::arguments::{KEYS, NUMKEYS, VERSION, version};
use super::look::{Held, LeaseRequest, look, look_again};
use crate::cache::answer::Answer;
use crate::cache::config::MAX_LEASE;
use crate::cache::leases::{Cache, Place};
use crate::cache::reply::{Fetched, reply_fetched};
use crate::flights;
use crate::flights::arguments::{LEASE, TOKEN, lease_ms, lease_us};
use crate::server::{Args, Call, Command, Error, KeyAccess, KeySpec, handler, new_id};
use crate::time::MICROS_PER_MILLI;
use std::collections::HashSet;

/// ML.CACHEMFETCH
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMFETCH",
    run: handler(mfetch),
    flags: c"write",
    categories: c"write",
    arity: -6,
    keys: Some(KeySpec::counted(1, KeyAccess::Read).multi_shard()),
    arguments: &[NUMKEYS, KEYS, VERSION, LEASE, TOKEN.after(c"TOKEN").optional()],
    summary:
        c"Returns the answers of several keys, and has one caller compute each that is missing.",
    complexity: c"O(N*log(M)) where N is the number of keys and M that of open leases.",
    since: c"0.1.0",
};

/// `LEASE ms [TOKEN token]`
fn asked(args: &mut Args) -> Result<LeaseRequest, Error> {
    let (mut lease, mut token) = (None, None);
    let mut options = args.options();
    while let Some(option) = options.next(&["LEASE", "TOKEN"])? {
        match option {
            "LEASE" => lease = Some(lease_ms(options.value()?, "LEASE", &MAX_LEASE)?),
            _ => token = Some(options.value()?.id("TOKEN")?),
        }
    }
    Ok(LeaseRequest { lease_us: lease_us(lease)?, token, beta: None })
}

/// ML.CACHEMFETCH numkeys key [key ...] version LEASE ms [TOKEN token]
fn mfetch(call: &mut Call) -> Result<(), Error> {
    let keys: Vec<_> = call.args.counted("numkeys", "keys")?.collect();
    let version = version(call.args.arg()?)?;
    let asked = asked(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let (lock, db) = (call.lock(), call.db());
    flights::settle::<Cache>(&lock);
    // All are read before anything is granted.
    let open: Vec<_> = keys.iter().map(|key| call.keys.read(*key)).collect();
    let answers: Vec<_> =
        open.iter().map(|open| open.value_ref::<Answer>()).collect::<Result<_, _>>()?;
    // One token for all that the batch leases.
    let mut minted = None;
    let mut leased = HashSet::new();
    let mut all = Vec::with_capacity(keys.len());
    for (key, answers) in keys.iter().zip(&answers) {
        let place = Place { db, key: key.bytes(), version };
        let held = Held::of(answers.as_deref(), version, now_ms);
        let served = if leased.contains(key.bytes()) {
            look_again(&lock, place, held)
        } else {
            look(&lock, place, held, &asked, || *minted.get_or_insert_with(new_id))
        };
        let fetched = served.at_once();
        if matches!(fetched, Fetched::Lease(..)) {
            leased.insert(key.bytes());
        }
        all.push(fetched);
    }
    flights::settle_later::<Cache>(&lock);
    call.reply.array(all.len());
    all.iter().for_each(|fetched| reply_fetched(call.reply, fetched));
    Ok(())
}
