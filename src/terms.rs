//! The terms of an answer: how long it is to hold, as its caller says. What commands
//! that keep answers have in common.

use crate::bounds::MAX_TTL_MS;
use crate::lifetime::{Lifetime, MAX_TIME_MS};
use crate::server::{Argument, EXPIRIES, Error, Options};
use crate::time::Millis;

/// How long past its time an answer may be served.
pub const STALE: Argument = Argument::integer(c"milliseconds").after(c"STALE");

/// How much of its time may be taken off.
pub const JITTER: Argument = Argument::integer(c"percent").after(c"JITTER");

/// The terms of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// When the answer expires, before jitter.
    expires_at_ms: Millis,
    /// How long it may be served past that.
    stale_ms: Millis,
    /// How much of its time to live may be taken off, in percent.
    jitter_percent: u64,
}

impl Terms {
    /// Those of an answer whose caller says nothing.
    pub fn until(expires_at_ms: Millis) -> Self {
        Self { expires_at_ms, stale_ms: 0, jitter_percent: 0 }
    }

    /// Reads what follows one of `[EX s | PX ms | EXAT s | PXAT ms] [STALE ms]
    /// [JITTER percent]`, which a command takes among its `words`.
    pub fn read(
        &mut self,
        word: &'static str,
        options: &mut Options,
        words: &[&'static str],
        now_ms: Millis,
    ) -> Result<(), Error> {
        let unsigned =
            |most: i64, options: &mut Options| options.integer(0..=most).map(i64::cast_unsigned);
        match word {
            "STALE" => self.stale_ms = unsigned(MAX_TTL_MS.cast_signed(), options)?,
            "JITTER" => self.jitter_percent = unsigned(100, options)?,
            unit => {
                options.excludes(words, EXPIRIES)?;
                self.expires_at_ms = options.value()?.expiry(unit, now_ms, MAX_TIME_MS)?;
            }
        }
        Ok(())
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
