//! The arguments that several commands take: what COMMAND DOCS says of them, and their parsers.

use crate::bounds::MAX_TTL_MS;
use crate::cache::answer::MAX_VERSION_BYTES;
use crate::cache::config::MAX_VALUE_BYTES;
use crate::cache::in_force::MAX_NAME_BYTES;
use crate::namespace::bare;
use crate::server::{Arg, Argument, Error, Options, refuse};
use std::borrow::Cow;
use std::ops::RangeInclusive;

/// A key.
pub const KEY: Argument = Argument::key(c"key");

/// Several keys.
pub const KEYS: Argument = KEY.repeated();

/// How many keys follow.
pub const NUMKEYS: Argument = Argument::integer(c"numkeys");

/// A version.
pub const VERSION: Argument = Argument::string(c"version");

/// The spans, in milliseconds, that a wait and an answer may last.
pub const TTLS: RangeInclusive<i64> = 1..=MAX_TTL_MS.cast_signed();

/// A version.
pub fn version(version: Arg<'_>) -> Result<&[u8], Error> {
    version.sized("version", 1..=MAX_VERSION_BYTES)
}

/// A namespace with versions in force, without the braces of a hash tag.
pub fn namespace(namespace: Arg<'_>) -> Result<Cow<'_, [u8]>, Error> {
    let name = bare(namespace.bytes());
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse(format!("namespace must be at most {MAX_NAME_BYTES} bytes long")));
    }
    Ok(name)
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
