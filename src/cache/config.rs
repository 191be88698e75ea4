//! What operators set.

use super::answer::MAX_VERSIONS;
use super::namespaces::MAX_NAMESPACES;
use crate::server::Config;

/// How long an answer holds that is set without an expiry, in seconds.
pub static TTL: Config = Config::number(c"cache-ttl", 3600, 1, 100 * 366 * 86_400);

/// How many versions a key holds.
pub static VERSIONS: Config = Config::number(c"cache-versions-per-key", 2, 1, MAX_VERSIONS as i64);

/// How long a value may be; with its version it is below 4 GiB.
pub static MAX_VALUE_BYTES: Config =
    Config::bytes(c"cache-max-value-bytes", 512 << 20, 1, (4 << 30) - 1024);

/// How many namespaces are known by name.
pub static NAMESPACES: Config =
    Config::number(c"cache-max-namespaces", 1024, 1, MAX_NAMESPACES as i64);

/// How many leases can be open at once.
pub static LEASES: Config = Config::number(c"cache-max-leases", 65_536, 1, 1 << 24);

/// The configs of this domain.
pub const CONFIGS: &[&Config] = &[&TTL, &VERSIONS, &MAX_VALUE_BYTES, &NAMESPACES, &LEASES];
