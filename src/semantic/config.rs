//! What operators set.

use super::table::Bounds;
use crate::bounds::MAX_TTL_MS;
use crate::server::Config;

/// How long an answer holds that is set without an expiry, in seconds.
pub static TTL: Config = Config::number(c"semantic-ttl", 3600, 1, 100 * 366 * 86_400);

/// How many entries a key holds.
static MAX_ENTRIES: Config = Config::number(c"semantic-max-entries", 100_000, 1, 1 << 24);

/// How many bytes the entries of a key may take.
static MAX_BYTES: Config =
    Config::bytes(c"semantic-max-bytes", 256 << 20, 1 << 16, (4 << 30) - 1024);

/// What a key holds at most.
pub fn bounds() -> Bounds {
    Bounds { entries: MAX_ENTRIES.get_count(), bytes: MAX_BYTES.get_count() }
}

/// How many leases can be open at once, those that ran out or were completed and
/// are remembered included.
pub static LEASES: Config = Config::number(c"semantic-max-leases", 65_536, 1, 1 << 24);

/// How many bytes leases, and those who wait, may take, with their vectors.
pub static LEASE_BYTES: Config =
    Config::bytes(c"semantic-max-lease-bytes", 64 << 20, 1 << 16, 1 << 40);

/// How long a lease, or a backoff, may be, in milliseconds.
pub static MAX_LEASE: Config =
    Config::number(c"semantic-max-lease", 3_600_000, 1, MAX_TTL_MS.cast_signed());

/// Up to how many bytes of vectors are scanned at once; more is scanned by threads.
pub static INLINE_BYTES: Config =
    Config::bytes(c"semantic-inline-bytes", 16 << 20, 1, (4 << 30) - 1024);

/// How many threads scan.
pub static THREADS: Config = Config::number(c"semantic-threads", 2, 1, 64);

/// The configs of this domain.
pub const CONFIGS: &[&Config] =
    &[&TTL, &MAX_ENTRIES, &MAX_BYTES, &LEASES, &LEASE_BYTES, &MAX_LEASE, &INLINE_BYTES, &THREADS];
