//! Black-box tests: everything a user sees, over a socket, against a real server.
//! One binary, a module a topic; [`support`] is what they stand on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

mod admission;
mod admission_history;
mod admission_queue;
mod admission_queue_again;
mod admission_queue_storm;
mod arguments;
mod attach;
mod cache;
mod cache_decided_again;
mod cache_drop;
mod cache_fetch;
mod cache_leases;
mod cache_retries;
mod cache_set;
mod cache_versions;
mod cache_versions_kept;
mod cache_waiters;
mod closing;
mod cluster;
mod defrag;
mod eviction;
mod feature_bounds;
mod features;
mod features_feast;
mod features_sequences;
mod features_vectors;
mod features_windows;
mod field_lists;
mod fuzz;
mod holds;
mod holds_ids;
mod holds_keys;
mod holds_model;
mod introspection;
mod limits_large;
mod maxmemory;
mod numbers;
mod old_data;
mod panics;
mod permit;
mod permit_state;
mod persistence;
mod power_cut;
mod propagation;
mod proportion;
mod ratelimit;
mod replication;
mod rows;
mod rows_model;
mod semantic;
mod semantic_fetch;
mod semantic_threads;
mod serve;
mod servers;
mod stats;
