//! What operators set.

use crate::server::Config;

/// How many callers can wait to be let in.
pub static MAX_WAITERS: Config = Config::number(c"limit-max-waiters", 65_536, 0, 1 << 20);

/// How many bytes they may take.
pub static MAX_WAITER_BYTES: Config =
    Config::bytes(c"limit-max-waiter-bytes", 64 << 20, 1 << 16, 1 << 40);

/// The configs of this domain.
pub static CONFIGS: &[&Config] = &[&MAX_WAITERS, &MAX_WAITER_BYTES];
