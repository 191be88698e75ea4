//! What operators set.

use crate::server::Config;

/// How many namespaces are counted by name, in each section of ML.STATS.
pub static NAMESPACES: Config = Config::number(c"stats-max-namespaces", 256, 1, 65_536);

/// The configs of this room.
pub static CONFIGS: &[&Config] = &[&NAMESPACES];
