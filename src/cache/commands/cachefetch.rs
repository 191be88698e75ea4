//! ML.CACHEFETCH: an answer, or the lease to compute it, or a wait for who has that.

use super::arguments::{KEY, LEASE, TTLS, VERSION, unsigned, version};
use super::look::{Outcome, look};
use crate::cache::answer::Answer;
use crate::cache::flights::Place;
use crate::cache::namespaces::Statistic;
use crate::cache::reply::{Fetched, millis, reply_fetched};
use crate::cache::state::{self, Callers};
use crate::cache::stats::count;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse,
};
use crate::time::{MICROS_PER_MILLI, MICROS_PER_SECOND, Millis};

/// ML.CACHEFETCH
pub const COMMAND: Command = Command {
    name: c"ML.CACHEFETCH",
    run: handler(fetch),
    flags: c"readonly blocking",
    categories: c"read blocking",
    arity: -3,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[
        KEY,
        VERSION,
        LEASE,
        Argument::integer(c"milliseconds").after(c"WAIT").optional(),
        Argument::double(c"beta").after(c"EARLY").optional(),
    ],
    summary: c"Returns an answer, or has one caller compute it while the others wait.",
    complexity: c"O(1)",
    since: c"0.1.0",
};

/// The options of ML.CACHEFETCH.
pub struct Fetch {
    /// How long the caller has, if it is to compute.
    pub lease_ms: Millis,
    /// How long it waits, if it does.
    pub wait_ms: Option<Millis>,
    /// β of the early recomputation, if there is to be one.
    pub beta: Option<f64>,
}

impl Fetch {
    /// `LEASE ms [WAIT ms] [EARLY beta]`
    pub fn parse(args: &mut Args) -> Result<Self, Error> {
        let (mut lease_ms, mut wait_ms, mut beta) = (None, None, None);
        let mut options = args.options();
        while let Some(option) = options.next(&["LEASE", "WAIT", "EARLY"])? {
            match option {
                "LEASE" => lease_ms = Some(unsigned(&mut options, TTLS)?),
                "WAIT" => wait_ms = Some(unsigned(&mut options, TTLS)?),
                _ => beta = Some(self::beta(options.value()?)?),
            }
        }
        let lease_ms = lease_ms.ok_or_else(|| {
            refuse("LEASE must be given: how many milliseconds the caller has to compute")
        })?;
        Ok(Self { lease_ms, wait_ms, beta })
    }
}

/// A factor, exact to six decimals as a number of seconds is.
fn beta(value: Arg) -> Result<f64, Error> {
    const MOST: u64 = 1_000;
    let millionths = value.decimal(1..=MOST * MICROS_PER_SECOND).ok_or_else(|| {
        refuse(format!("EARLY must be a number from 0.000001 to {MOST}, with at most 6 decimals"))
    })?;
    Ok(millionths as f64 / MICROS_PER_SECOND as f64)
}

/// ML.CACHEFETCH key version LEASE ms [WAIT ms] [EARLY beta]
fn fetch(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let asked = Fetch::parse(&mut call.args)?;
    let open = call.read(key);
    open.prefetch::<Answer>();
    let now_ms = call.now() / MICROS_PER_MILLI;
    let entry = open.value_ref::<Answer>()?;
    let left_us = match look(call, key, version, entry.as_deref(), &asked, now_ms) {
        Outcome::Now(fetched) => {
            reply_fetched(call.reply, &fetched);
            return Ok(());
        }
        Outcome::Later(left_us) => left_us,
    };
    match asked.wait_ms.filter(|_| call.may_wait()) {
        Some(wait_ms) => {
            let lock = call.lock();
            let waiter = call.wait::<Callers>(&lock, key, wait_ms)?;
            state::act(&lock, |state| {
                count(state.namespace(key.bytes()), Statistic::OnUnblock, 1);
                let lease_us = asked.lease_ms.saturating_mul(MICROS_PER_MILLI);
                state.flights.wait(&Place::new(call.db(), key.bytes()), version, waiter, lease_us);
            });
        }
        None => reply_fetched(call.reply, &Fetched::Busy(millis(left_us))),
    }
    Ok(())
}
