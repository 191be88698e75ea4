//! From arguments to checked options.

use super::codec::MAX_TIME_MS;
use super::config::{MAX_VALUE_BYTES, TTL};
use super::entry::MAX_VERSION_BYTES;
use super::term::Term;
use crate::bounds::MAX_TTL_MS;
use crate::id::Id;
use crate::server::{Arg, Args, EXPIRIES, Error, Options, refuse};
use crate::time::{MICROS_PER_SECOND, MILLIS_PER_SECOND, Millis};
use serde::de::IgnoredAny;

const TTLS: std::ops::RangeInclusive<i64> = 1..=MAX_TTL_MS.cast_signed();

/// A version.
pub fn version(version: Arg<'_>) -> Result<&[u8], Error> {
    version.sized("version", 1..=MAX_VERSION_BYTES)
}

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

    /// The term of the answer. `fraction`, from [0, 1), says how much of the
    /// jitter is taken off.
    pub fn term(&self, fraction: impl FnOnce() -> f64, cost_ms: u32, now_ms: Millis) -> Term {
        let mut expires_at_ms = self.expires_at_ms;
        if self.jitter_percent > 0 && expires_at_ms > now_ms {
            let ttl_ms = expires_at_ms - now_ms;
            let off = ttl_ms as f64 * self.jitter_percent as f64 / 100.0 * fraction();
            // A millisecond at least is left.
            expires_at_ms -= (off as Millis).min(ttl_ms - 1);
        }
        let stale_until_ms = expires_at_ms.saturating_add(self.stale_ms).min(MAX_TIME_MS);
        Term { expires_at_ms, stale_until_ms, written_at_ms: now_ms, cost_ms }
    }
}

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

/// `LEASE ms`, at its place.
pub fn lease(args: &mut Args) -> Result<Fetch, Error> {
    args.arg()?.one_of("the argument after version", &["LEASE"])?;
    let lease_ms = args.arg()?.integer("LEASE", TTLS)?.cast_unsigned();
    Ok(Fetch { lease_ms, wait_ms: None, beta: None })
}

/// A factor, exact to six decimals as a number of seconds is.
fn beta(value: Arg) -> Result<f64, Error> {
    const MOST: u64 = 1_000;
    let millionths = value.decimal(1..=MOST * MICROS_PER_SECOND).ok_or_else(|| {
        refuse(format!("EARLY must be a number from 0.000001 to {MOST}, with at most 6 decimals"))
    })?;
    Ok(millionths as f64 / MICROS_PER_SECOND as f64)
}

/// The options of ML.CACHEDROP.
pub struct Drop<'a> {
    /// The one version to drop; else all.
    pub version: Option<&'a [u8]>,
    /// Whether what is fresh is made stale instead.
    pub stale: bool,
}

impl<'a> Drop<'a> {
    /// `[VERSION version] [STALE]`
    pub fn parse(args: &mut Args<'a>) -> Result<Self, Error> {
        let mut drop = Self { version: None, stale: false };
        let mut options = args.options();
        while let Some(option) = options.next(&["VERSION", "STALE"])? {
            match option {
                "VERSION" => drop.version = Some(version(options.value()?)?),
                _ => drop.stale = true,
            }
        }
        Ok(drop)
    }
}

/// `[BACKOFF ms]`
pub fn back_off(args: &mut Args) -> Result<Option<Millis>, Error> {
    let mut options = args.options();
    let mut back_off_ms = None;
    while options.next(&["BACKOFF"])?.is_some() {
        back_off_ms = Some(unsigned(&mut options, TTLS)?);
    }
    Ok(back_off_ms)
}

/// A token; `None` for what none can be.
pub fn token(token: Arg) -> Option<Id> {
    Id::parse(token.bytes())
}

/// Refuses a value that is too long.
pub fn check_size(value: Arg) -> Result<(), Error> {
    let longest = MAX_VALUE_BYTES.get_unsigned();
    if value.bytes().len() as u64 > longest {
        return Err(refuse(format!(
            "value must be at most {longest} bytes long (ml.cache-max-value-bytes)"
        )));
    }
    Ok(())
}

/// Refuses a value that is not one JSON document (RFC 8259, in UTF-8).
pub fn check_json(value: Arg) -> Result<(), Error> {
    let not_json = |why: String| refuse(format!("value must be a JSON document: {why}"));
    let text = std::str::from_utf8(value.bytes()).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(error.to_string()))?;
    Ok(())
}

fn unsigned(options: &mut Options, range: std::ops::RangeInclusive<i64>) -> Result<u64, Error> {
    options.integer(range).map(i64::cast_unsigned)
}
