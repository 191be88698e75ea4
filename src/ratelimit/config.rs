//! What operators set.

use crate::server::Config;

/// The algorithm of a key that has none yet, when the call names none; by its
/// index in [`super::policy::Algorithm::ALL`].
pub static ALGORITHM: Config =
    Config::choice(c"ratelimit-algorithm", &[c"FIXED", c"SLIDING", c"GCRA"]);

/// How many reservations a key can have open.
pub static MAX_RESERVATIONS: Config =
    Config::number(c"ratelimit-max-reservations", 1024, 1, 65_536);

/// The configs of this domain.
pub const CONFIGS: &[&Config] = &[&ALGORITHM, &MAX_RESERVATIONS];
