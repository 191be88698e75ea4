//! The arguments of commands that grant leases, renew and end them.

use crate::id::Id;
use crate::server::{Arg, Argument, Config, Error, refuse};
use crate::time::{MICROS_PER_MILLI, Millis, Monotonic};

/// How long a caller has to compute.
pub const LEASE: Argument = Argument::integer(c"milliseconds").after(c"LEASE");

/// What a lease is named by.
pub const TOKEN: Argument = Argument::string(c"token");

/// A time of a lease or a backoff, in milliseconds and at most a config; otherwise an
/// error that names `what`.
pub fn lease_ms(value: Arg, what: &str, most: &Config) -> Result<Millis, Error> {
    value.integer(what, 1..=most.get()).map(i64::cast_unsigned).map_err(|_| {
        let (most, name) = (most.get(), most.name());
        refuse(format!("{what} must be an integer from 1 to {most} ({name})"))
    })
}

/// How long a caller of a fetch has to compute, in microseconds, once all options are
/// read: one must say.
pub fn lease_us(lease_ms: Option<Millis>) -> Result<Monotonic, Error> {
    let lease_ms = lease_ms.ok_or_else(|| {
        refuse("LEASE must be given: how many milliseconds the caller has to compute")
    })?;
    Ok(lease_ms.saturating_mul(MICROS_PER_MILLI))
}

/// A token that names something; `None` for what names nothing.
pub fn token(token: Arg) -> Option<Id> {
    Id::parse(token.bytes())
}
