//! ML.CACHESET: an answer, kept under the version that gave it.

use super::arguments::{self, KEY, TTLS, VERSION, check_size, unsigned, version};
use super::store::{admits, answer, put};
use crate::cache::answer::Answer;
use crate::cache::codec::MAX_TIME_MS;
use crate::cache::config::TTL;
use crate::cache::flights::Place;
use crate::cache::lifetime::Lifetime;
use crate::cache::namespaces::Statistic;
use crate::cache::state;
use crate::cache::stats::count;
use crate::server::{
    Arg, Args, Argument, Call, Command, EXPIRIES, Error, KeyAccess, KeySpec, Lock, handler,
    monotonic, random_fraction, refuse,
};
use crate::time::{MICROS_PER_MILLI, MILLIS_PER_SECOND, Millis};
use serde::de::IgnoredAny;

/// ML.CACHESET
pub const COMMAND: Command = Command {
    name: c"ML.CACHESET",
    run: handler(set),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[
        KEY,
        VERSION,
        Argument::string(c"value"),
        Argument::EXPIRATION.optional(),
        Argument::integer(c"milliseconds").after(c"STALE").optional(),
        Argument::integer(c"percent").after(c"JITTER").optional(),
        Argument::string(c"token").after(c"TOKEN").optional(),
        Argument::token(c"json", c"JSON").optional(),
    ],
    summary: c"Keeps the answer that a version of the model gave.",
    complexity: c"O(1), and O(N) to wake N callers that wait for it.",
    since: c"0.1.0",
};

/// The options of ML.CACHESET.
pub struct Set<'a> {
    /// When the answer expires, before jitter.
    expires_at_ms: Millis,
    /// How long it may be served past that.
    stale_ms: Millis,
    /// How much of its time to live may be taken off, in percent.
    jitter_percent: u64,
    /// The lease that it is set under, if under one.
    pub token: Option<Arg<'a>>,
    /// Whether the value must be JSON.
    pub json: bool,
}

impl<'a> Set<'a> {
    /// `[EX s | PX ms | EXAT s | PXAT ms] [STALE ms] [JITTER percent]
    /// [TOKEN token] [JSON]`
    pub fn parse(args: &mut Args<'a>, now_ms: Millis) -> Result<Self, Error> {
        const KNOWN: &[&str] = &["EX", "PX", "EXAT", "PXAT", "STALE", "JITTER", "TOKEN", "JSON"];
        let expires_at_ms = now_ms.saturating_add(TTL.get_unsigned() * MILLIS_PER_SECOND);
        let mut set =
            Self { expires_at_ms, stale_ms: 0, jitter_percent: 0, token: None, json: false };
        let mut options = args.options();
        while let Some(option) = options.next(KNOWN)? {
            match option {
                "STALE" => set.stale_ms = unsigned(&mut options, 0..=*TTLS.end())?,
                "JITTER" => set.jitter_percent = unsigned(&mut options, 0..=100)?,
                "TOKEN" => set.token = Some(options.value()?),
                "JSON" => set.json = true,
                unit => {
                    options.excludes(KNOWN, EXPIRIES)?;
                    set.expires_at_ms = options.value()?.expiry(unit, now_ms, MAX_TIME_MS)?;
                }
            }
        }
        Ok(set)
    }

    /// The lifetime of the answer. `fraction`, from [0, 1), says how much of the
    /// jitter is taken off.
    pub fn lifetime(
        &self,
        fraction: impl FnOnce() -> f64,
        cost_ms: u32,
        now_ms: Millis,
    ) -> Lifetime {
        let mut expires_at_ms = self.expires_at_ms;
        if self.jitter_percent > 0 && expires_at_ms > now_ms {
            let ttl_ms = expires_at_ms - now_ms;
            let off = ttl_ms as f64 * self.jitter_percent as f64 / 100.0 * fraction();
            // A millisecond at least is left.
            expires_at_ms -= (off as Millis).min(ttl_ms - 1);
        }
        let stale_until_ms = expires_at_ms.saturating_add(self.stale_ms).min(MAX_TIME_MS);
        Lifetime { expires_at_ms, stale_until_ms, written_at_ms: now_ms, cost_ms }
    }
}

/// Refuses a value that is not one JSON document (RFC 8259, in UTF-8).
fn check_json(value: Arg) -> Result<(), Error> {
    let not_json = |why: String| refuse(format!("value must be a JSON document: {why}"));
    let text = std::str::from_utf8(value.bytes()).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(error.to_string()))?;
    Ok(())
}

/// ML.CACHESET key version value [EX s | PX ms | EXAT s | PXAT ms] [STALE ms]
/// [JITTER percent] [TOKEN token] [JSON]
fn set(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let value = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, now_ms)?;
    check_size(value)?;
    if options.json {
        check_json(value)?;
    }

    let lock = call.lock();
    let place = || Place::new(call.db(), key.bytes());
    let permission = match options.token {
        Some(token) => may_fill(&lock, &place(), version, token),
        None => admits(&lock, key, version).then_some(0),
    };
    let Some(cost_ms) = permission else {
        call.read(key).value_ref::<Answer>()?;
        state::with(&lock, |state| count(state.namespace(key.bytes()), Statistic::RefusedSets, 1));
        call.reply.null();
        return Ok(());
    };
    let answer = answer(version, value, options.lifetime(random_fraction, cost_ms, now_ms))?;
    put(call, key, version, answer, value, now_ms)?;
    call.reply.ok();
    Ok(())
}

/// Whether the holder of a token may set the answer, and then what computing it
/// took, in milliseconds.
fn may_fill(lock: &Lock, place: &Place, version: &[u8], token: Arg) -> Option<u32> {
    let token = arguments::token(token)?;
    let now = monotonic();
    state::with(lock, |state| {
        let since = state.flights.held_since(place, version, token, now)?;
        let took_ms = now.saturating_sub(since).div_ceil(MICROS_PER_MILLI).max(1);
        state
            .namespace(place.key())
            .admits(version)
            .then_some(u32::try_from(took_ms).unwrap_or(u32::MAX))
    })
}
