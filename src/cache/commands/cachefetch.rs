//! ML.CACHEFETCH: an answer, or the lease to compute it, or a wait for who has that.

use super::arguments::{KEY, TTLS, VERSION, unsigned, version};
use super::look::{Held, LeaseRequest, Served, look};
use crate::cache::answer::Answer;
use crate::cache::config::MAX_LEASE;
use crate::cache::counts::Counter;
use crate::cache::leases::{self, Cache, Place};
use crate::cache::reply::{Fetched, reply_fetched};
use crate::cache::state;
use crate::flights;
use crate::flights::arguments::{LEASE, TOKEN, lease_ms, lease_us};
use crate::server::{
    Arg, Argument, Call, Command, Error, KeyAccess, KeySpec, Options, fetch as fetch_ahead,
    handler, new_id, refuse,
};
use crate::time::{MICROS_PER_MILLI, MICROS_PER_SECOND, Millis, millis};

/// ML.CACHEFETCH
pub const COMMAND: Command = Command {
    name: c"ML.CACHEFETCH",
    run: handler(fetch),
    flags: c"write blocking",
    categories: c"write blocking",
    arity: -3,
    keys: Some(KeySpec::one(1, KeyAccess::Read)),
    arguments: &[
        KEY,
        VERSION,
        LEASE,
        Argument::integer(c"milliseconds").after(c"WAIT").optional(),
        EARLY.optional(),
        TOKEN.after(c"TOKEN").optional(),
    ],
    summary: c"Returns an answer, or has one caller compute it while the others wait.",
    complexity: c"O(log(N)) where N is the number of open leases.",
    since: c"0.1.0",
};

/// `EARLY beta`
pub const EARLY: Argument = Argument::double(c"beta").after(c"EARLY");

/// The options of a fetch.
pub struct Fetch {
    /// What is asked for of the lease.
    pub asked: LeaseRequest,
    /// How long it waits, if it does.
    pub wait_ms: Option<Millis>,
    /// Whether what needs no lease is to be free, in a call that is to be admitted.
    pub free_hits: bool,
}

impl Fetch {
    /// The words of ML.CACHEFETCH.
    const OWN: &[&str] = &["LEASE", "EARLY", "TOKEN", "WAIT"];

    /// Those of its part of ML.SERVE, which does not wait.
    pub const OF_A_PART: &[&str] = &["LEASE", "EARLY", "TOKEN", "FREEHITS"];

    /// The options among `known`: LEASE and what may go with it.
    pub fn parse(mut options: Options, known: &[&'static str]) -> Result<Self, Error> {
        let (mut lease, mut wait_ms, mut beta, mut token) = (None, None, None, None);
        let mut free_hits = false;
        while let Some(option) = options.next(known)? {
            match option {
                "LEASE" => lease = Some(lease_ms(options.value()?, "LEASE", &MAX_LEASE)?),
                "WAIT" => wait_ms = Some(unsigned(&mut options, TTLS)?),
                "TOKEN" => token = Some(options.value()?.id("TOKEN")?),
                "FREEHITS" => free_hits = true,
                _ => beta = Some(self::beta(options.value()?)?),
            }
        }
        let asked = LeaseRequest { lease_us: lease_us(lease)?, token, beta };
        Ok(Self { asked, wait_ms, free_hits })
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

/// ML.CACHEFETCH key version LEASE ms [WAIT ms] [EARLY beta] [TOKEN token]
fn fetch(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let Fetch { asked, wait_ms, .. } = Fetch::parse(call.args.options(), Fetch::OWN)?;
    let lock = call.lock();
    leases::settle(&lock);
    let place = Place { db: call.db(), key: key.bytes(), version };
    let left_us = {
        let open = call.keys.read(key);
        let answers = open.value_ref::<Answer>()?.inspect(|all| fetch_ahead(all.address()));
        let now_ms = call.now() / MICROS_PER_MILLI;
        let held = Held::of(answers.as_deref(), version, now_ms);
        match look(&lock, place, held, &asked, new_id) {
            Served::Now(fetched) => {
                flights::settle_later::<Cache>(&lock);
                reply_fetched(call.reply, &fetched);
                return Ok(());
            }
            Served::Later(left_us) => left_us,
        }
    };
    let waits = wait_ms.is_some_and(|at_most| {
        let by = (asked.token, asked.lease_us);
        flights::wait::<Cache>(call, &place.flight(), (), 0, by, at_most)
    });
    if waits {
        state::tally(&lock, place.key, place.version, Counter::Waits, 1);
    }
    flights::settle_later::<Cache>(&lock);
    if !waits {
        reply_fetched(call.reply, &Fetched::Busy(millis(left_us)));
    }
    Ok(())
}
