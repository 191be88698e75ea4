//! What operators set.

use crate::server::Config;

/// How long an answer holds that is set without an expiry, in seconds.
pub static TTL: Config = Config::number(c"semantic-ttl", 3600, 1, 100 * 366 * 86_400);

/// How many entries a key holds.
pub static MAX_ENTRIES: Config = Config::number(c"semantic-max-entries", 100_000, 1, 1 << 24);

/// How many bytes the entries of a key may take.
pub static MAX_BYTES: Config =
    Config::bytes(c"semantic-max-bytes", 256 << 20, 1 << 16, (4 << 30) - 1024);

/// The configs of this domain.
pub const CONFIGS: &[&Config] = &[&TTL, &MAX_ENTRIES, &MAX_BYTES];
