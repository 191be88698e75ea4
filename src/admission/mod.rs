//! Admission: the limits and the permits of everybody in one decision.
//!
//! A call names the keys of a user, a team, a model, and what each is asked: a cost
//! of a limit, or a permit. All are asked, then all are charged, or none is: what is
//! decided on one key is the business of [`crate::ratelimit`] and [`crate::permit`],
//! and `asked` puts it together. What is to be settled or given back is a hold, one
//! id on all of the keys. Who is denied may wait in the server: who is next is decided
//! in [`crate::queue`], and `waiting` is when it is asked.

mod asked;
mod caller;
mod change;
mod commands;
mod config;
mod request;
mod stats;
mod waiting;

pub use commands::{COMMANDS, ITEMS, admit};
pub use config::CONFIGS;
pub use request::Request;
pub use stats::INFO;
pub use waiting::LISTENER;
