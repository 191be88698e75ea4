//! What operators set.

use crate::server::Config;

/// The algorithm of a key that has none yet, when the call names none; by its
/// index in [`super::policy::Algorithm::ALL`].
pub static ALGORITHM: Config =
    Config::choice(c"ratelimit-algorithm", &[c"FIXED", c"SLIDING", c"GCRA"]);

/// How many holds a key can have open, of limits or of permits.
pub static MAX_HOLDS: Config = Config::number(c"limit-max-holds", 65_536, 1, 65_536);

/// The configs of this domain.
pub static CONFIGS: &[&Config] = &[&ALGORITHM, &MAX_HOLDS];
