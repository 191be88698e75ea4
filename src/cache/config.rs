//! What operators set.

use super::answer::MAX_VERSIONS;
use super::in_force::MAX_NAMESPACES;
use crate::bounds::MAX_TTL_MS;
use crate::server::Config;

/// How long an answer holds that is set without an expiry, in seconds.
pub static TTL: Config = Config::number(c"cache-ttl", 3600, 1, 100 * 366 * 86_400);

/// How many versions a key holds.
pub static VERSIONS: Config = Config::number(c"cache-versions-per-key", 2, 1, MAX_VERSIONS as i64);

/// How long a value may be; with its version it is below 4 GiB.
pub static MAX_VALUE_BYTES: Config =
    Config::bytes(c"cache-max-value-bytes", 512 << 20, 1, (4 << 30) - 1024);

/// How many namespaces can have versions in force.
pub static NAMESPACES: Config =
    Config::number(c"cache-max-namespaces", 1024, 1, MAX_NAMESPACES as i64);

/// How many leases can be open at once, those that ran out or were completed and
/// are remembered included.
pub static LEASES: Config = Config::number(c"cache-max-leases", 65_536, 1, 1 << 24);

/// How many bytes leases, and those who wait, may take.
pub static LEASE_BYTES: Config =
    Config::bytes(c"cache-max-lease-bytes", 64 << 20, 1 << 16, 1 << 40);

/// How long a lease, or a backoff, may be, in milliseconds.
pub static MAX_LEASE: Config =
    Config::number(c"cache-max-lease", 3_600_000, 1, MAX_TTL_MS.cast_signed());

/// The configs of this domain.
pub static CONFIGS: &[&Config] =
    &[&TTL, &VERSIONS, &MAX_VALUE_BYTES, &NAMESPACES, &LEASES, &LEASE_BYTES, &MAX_LEASE];
