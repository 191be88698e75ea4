//! What runs by itself, between commands: clients that wait, timers, the state
//! beside the keys, and whether anybody gets the effects of writes.

mod blocked;
mod global;
pub(in crate::server) mod propagation;
mod timer;

pub use blocked::{BlockedClient, OnUnblock, wake};
pub use global::{Global, Lock};
pub use timer::Timer;
