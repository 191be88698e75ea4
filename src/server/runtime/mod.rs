//! What runs by itself, between commands: clients that wait, timers, threads, the
//! state beside the keys, and whether anybody gets the effects of writes.

mod anew;
mod blocked;
mod global;
mod node;
pub(in crate::server) mod propagation;
mod slot;
mod timer;
mod user;
mod workers;

pub use anew::let_in_anew;
pub(in crate::server) use anew::only_asks;
pub use blocked::{BlockedClient, OnUnblock, wake};
pub use global::{Global, Lock};
pub use node::{
    avoids_replica_traffic, call_again, is_over_maxmemory, is_primary, look_at, may_evict,
};
pub use timer::Timer;
pub use user::User;
pub use workers::Workers;
