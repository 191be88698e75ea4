//! The arguments that several commands take: what COMMAND DOCS says of them, and their parsers.

use crate::bounds::MAX_TTL_MS;
use crate::cache::answer::MAX_VERSION_BYTES;
use crate::cache::config::MAX_VALUE_BYTES;
use crate::id::Id;
use crate::server::{Arg, Argument, Error, Options, refuse};
use std::ops::RangeInclusive;

/// A key.
pub const KEY: Argument = Argument::key(c"key");

/// Several keys.
pub const KEYS: Argument = KEY.repeated();

/// A version.
pub const VERSION: Argument = Argument::string(c"version");

/// How long a caller has to compute.
pub const LEASE: Argument = Argument::integer(c"milliseconds").after(c"LEASE");

/// The spans, in milliseconds, that a lease, a wait and a backoff may last.
pub const TTLS: RangeInclusive<i64> = 1..=MAX_TTL_MS.cast_signed();

/// A version.
pub fn version(version: Arg<'_>) -> Result<&[u8], Error> {
    version.sized("version", 1..=MAX_VERSION_BYTES)
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

/// An integer that cannot be negative, after its keyword.
pub fn unsigned(options: &mut Options, range: RangeInclusive<i64>) -> Result<u64, Error> {
    options.integer(range).map(i64::cast_unsigned)
}
