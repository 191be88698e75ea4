//! The semantic cache: answers to nearly the same question.
//!
//! A key holds vectors of one size, each leading to an answer, and is asked for those
//! nearest to another vector, by the cosine. `vector` is how a vector is kept and asked
//! with, `segment` many of them in the order that a scan goes through, `best` what a
//! scan has found: pure, no server, no clock, no chance.

pub mod best;
pub mod segment;
pub mod vector;
