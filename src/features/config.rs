//! What operators set.

use crate::server::Config;

/// How many values one call reads.
pub static MAX_VALUES: Config = Config::number(c"features-max-values", 1_000_000, 1, 100_000_000);

/// The configs of this domain.
pub const CONFIGS: &[&Config] = &[&MAX_VALUES];
