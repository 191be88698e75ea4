//! What operators set.

use crate::server::Config;

/// The most field lists that replaying accepts, whatever the config says.
pub const MAX_LISTS: usize = 65_536;

/// How many values one call reads.
pub static MAX_VALUES: Config = Config::number(c"features-max-values", 1_000_000, 1, 100_000_000);

/// How far ahead of the clock an event time may be, in seconds.
pub static MAX_SKEW: Config = Config::number(c"features-max-skew", 86_400, 0, 100 * 366 * 86_400);

/// How long a reply may be, in bytes.
pub static MAX_REPLY_BYTES: Config =
    Config::bytes(c"features-max-reply-bytes", 128 << 20, 1 << 20, 1 << 40);

/// How many field lists there may be.
pub static LISTS: Config = Config::number(c"features-max-lists", 1_024, 1, MAX_LISTS as i64);

/// The configs of this domain.
pub static CONFIGS: &[&Config] = &[&MAX_VALUES, &MAX_SKEW, &MAX_REPLY_BYTES, &LISTS];
