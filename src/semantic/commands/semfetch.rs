//! ML.SEMFETCH: the answer to nearly the same question, or the lease to compute it, or a
//! wait for who has that.

use super::InForce;
use super::arguments::{KEY, VECTOR, VERSION, vector, version};
use crate::bounds::MAX_TTL_MS;
use crate::flights::arguments::{LEASE, TOKEN, lease_ms, lease_us};
use crate::flights::{self};
use crate::semantic::config::MAX_LEASE;
use crate::semantic::leases::{self, Ask, Fetched, Outcome, Semantic, Turn, decide};
use crate::semantic::look::{EMBEDDER_AND_DIGEST, HIT, MAYBE_AND_TOP, Near, reply_entries};
use crate::semantic::searches;
use crate::semantic::stats::{self, Counter};
use crate::semantic::table::{Misfit, Table};
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::sync::Arc;

/// ML.SEMFETCH
pub const fn command<V: InForce>() -> Command {
    Command {
        name: c"ML.SEMFETCH",
        run: handler(fetch::<V>),
        flags: c"write blocking",
        categories: c"write blocking",
        arity: -4,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: ARGUMENTS,
        summary: c"Returns the answers nearest to a question, or has one caller compute one while those near wait.",
        complexity: c"O((N+L)*D) where N is the number of vectors in the key, L that of its open leases, 256 at most, and D that of dimensions; as much again for who waits and is decided anew.",
        since: c"0.1.0",
    }
}

const ARGUMENTS: &[Argument] = {
    let ([maybe, top], [embedder, digest]) = (MAYBE_AND_TOP, EMBEDDER_AND_DIGEST);
    let wait = Argument::integer(c"milliseconds").after(c"WAIT").optional();
    let token = TOKEN.after(c"TOKEN").optional();
    &[KEY, VERSION, VECTOR, HIT, LEASE, wait, maybe, top, embedder, digest, token]
};

const WORDS: &[&str] = &["HIT", "LEASE", "WAIT", "MAYBE", "TOP", "EMBEDDER", "DIGEST", "TOKEN"];

/// `HIT s LEASE ms [WAIT ms] [MAYBE s] [TOP k] [EMBEDDER name] [DIGEST bytes]
/// [TOKEN token]`; how long it waits, if it does.
fn parse<V: InForce>(args: &mut Args) -> Result<(Ask, Option<Millis>), Error> {
    let version = version(args.arg()?)?;
    let vector = vector(args.arg()?)?;
    let (mut near, mut lease, mut wait_ms, mut token) = (Near::UNSAID, None, None, None);
    let mut options = args.options();
    while let Some(word) = options.next(WORDS)? {
        match word {
            "LEASE" => lease = Some(lease_ms(options.value()?, "LEASE", &MAX_LEASE)?),
            "WAIT" => {
                let waits = options.integer(1..=MAX_TTL_MS.cast_signed())?;
                wait_ms = Some(waits.cast_unsigned());
            }
            "TOKEN" => token = Some(options.value()?.id("TOKEN")?),
            near_word => near.read(near_word, &mut options)?,
        }
    }
    near.check()?;
    near.stale = true;
    let mut ask = Ask::new(version, vector, &near, V::admits);
    (ask.lease_us, ask.token, ask.waits) = (lease_us(lease)?, token, wait_ms.is_some());
    Ok((ask, wait_ms))
}

/// ML.SEMFETCH key version vector HIT s LEASE ms [WAIT ms] [MAYBE s] [TOP k]
/// [EMBEDDER name] [DIGEST bytes] [TOKEN token]
fn fetch<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (ask, wait_ms) = parse::<V>(&mut call.args)?;
    let ask = Arc::new(ask);
    let lock = call.lock();
    leases::settle(&lock);
    let place = (call.db(), key.bytes());
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.read(key);
    let table = open.value::<Table>()?;
    let embedder = ask.embedder.as_deref();
    leases::check(&lock, place, table, ask.vector.dim(), embedder).map_err(Misfit::refusal)?;
    let outcome = decide(&lock, place, table, &ask, Turn::First, None);
    let make_way = |fetched: &Fetched, waits_in| {
        leases::make_way(&lock, place, (None, &ask), fetched.keeps_out_us(), waits_in);
    };
    let fetched = match &outcome {
        Outcome::Unseen => {
            searches::check_room(&lock, &ask)?;
            let flight = leases::flight_of(place, &ask);
            let asked = Arc::clone(&ask);
            let client =
                flights::wait_to_be_decided::<Semantic>(call, &flight, asked, wait_ms.unwrap_or(0));
            let client = client.ok_or_else(searches::cannot_wait)?;
            searches::fetch(&lock, client, &flight, &ask);
            return Ok(());
        }
        Outcome::Now(fetched) => fetched,
        Outcome::Later(flight, fetched) => {
            let waits = wait_ms.is_some_and(|at_most| {
                let asked = Arc::clone(&ask);
                flights::wait::<Semantic>(call, flight, asked, ask.bytes(), ask.lease(), at_most)
            });
            if waits {
                make_way(fetched, Some(flight));
                stats::count(&lock, key.bytes(), Counter::Waits, 1);
                flights::settle_later::<Semantic>(&lock);
                return Ok(());
            }
            fetched
        }
    };
    make_way(fetched, None);
    flights::settle_later::<Semantic>(&lock);
    reply(call.reply, fetched, table, now_ms);
    Ok(())
}

fn reply(reply: Reply, fetched: &Fetched, table: Option<&Table>, now_ms: Millis) {
    fetched.reply(reply, |reply| reply_entries(reply, table, &fetched.entries, now_ms));
}
