//! mlserve: rate limits, a versioned prediction cache and feature look-ups as
//! native commands of Redis and Valkey.
//!
//! This page is the table of contents. What a user buys stands in a folder of
//! its own: [`ratelimit`], [`permit`], [`cache`], [`features`], [`semantic`]. Each parses, decides
//! on plain state, sends the effect to replicas and the AOF, and replies. Only
//! [`server`] touches the module API. Who computes what many miss, and who waits for
//! it, is decided in [`singleflight`] and seen to in [`flights`], who is next of those
//! that wait to be admitted in [`queue`], by bytes, for any domain; what would hold up all
//! others is done by the threads of a `pool`. [`serve`] puts three of them into one call.

#[macro_use]
pub mod server;

pub mod admission;
pub mod allowance;
pub mod block;
pub mod bounds;
mod bug;
mod by_id;
pub mod cache;
pub mod features;
pub mod flights;
pub mod hold;
pub mod id;
pub mod lifetime;
pub mod metrics;
mod namespace;
pub mod number;
pub mod permit;
mod pool;
pub mod queue;
pub mod ratelimit;
mod rows;
pub mod semantic;
pub mod serve;
pub mod simd;
pub mod singleflight;
mod stats;
mod terms;
pub mod time;
pub mod timegrid;
mod wire;

pub use bug::bug;

#[global_allocator]
static ALLOCATOR: server::ServerAllocator = server::ServerAllocator;

/// The module `ml`.
pub static MODULE: server::Module = server::Module {
    name: c"ml",
    version: 100,
    types: &[ratelimit::TYPES, permit::TYPES, cache::TYPES, features::TYPES, semantic::TYPES],
    commands: &[
        ratelimit::COMMANDS,
        admission::COMMANDS,
        permit::COMMANDS,
        cache::COMMANDS,
        features::COMMANDS,
        &semantic::commands::<Served>(),
        serve::COMMANDS,
        &[stats::command::<Counted>()],
    ],
    configs: &[
        ratelimit::CONFIGS,
        admission::CONFIGS,
        cache::CONFIGS,
        features::CONFIGS,
        semantic::CONFIGS,
        stats::CONFIGS,
    ],
    info: &[
        &ratelimit::INFO,
        &permit::INFO,
        &admission::INFO,
        &cache::INFO,
        &features::INFO,
        &semantic::INFO,
        &serve::INFO,
    ],
    listeners: &[
        cache::LISTENER,
        cache::LEASES,
        features::LISTENER,
        admission::LISTENER,
        semantic::LISTENER,
    ],
};

/// What ML.STATS tells of.
struct Counted;

impl stats::Sections for Counted {
    const ALL: &'static [stats::Section] =
        &[ratelimit::STATS, cache::STATS, features::STATS, semantic::STATS];

    fn settle(lock: &server::Lock) {
        // Leases that nobody waits for run out when somebody looks.
        cache::settle(lock);
        semantic::settle(lock);
    }
}

/// Which versions may be served: the cache's table says so for all domains.
struct Served;

impl semantic::InForce for Served {
    fn admits(lock: &server::Lock, key: &[u8], version: &[u8]) -> bool {
        cache::admits(lock, key, version)
    }
}

export_module!(MODULE);
