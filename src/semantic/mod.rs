//! The semantic cache: answers to nearly the same question.
//!
//! A key holds vectors of one size, each leading to an answer, and is asked for those
//! nearest to another vector, by the cosine. `vector` is how a vector is kept and asked
//! with, `segment` many of them in the order that a scan goes through, `shelves` all of a
//! key, `best` what a scan has found; `table` is what a key holds, and `change` what a
//! write changes in it; `codec` is how both are saved and sent: pure, no server, no clock, no chance.

pub mod best;
pub mod change;
pub mod codec;
pub mod entry;
pub mod segment;
pub mod shelves;
pub mod table;
pub mod vector;
