//! Random numbers: of a cryptographic generator, which the system seeds, and seeds anew
//! every 64 KiB.
//!
//! The server has one, too, whose 16 bytes cost 18,000 instructions, four times what a
//! look-up does. A process that the server forks draws nothing.

use crate::id::Id;
use rand::RngCore;

/// A new id.
pub fn new_id() -> Id {
    Id(random())
}

/// A number drawn evenly from [0, 1).
pub fn random_fraction() -> f64 {
    // As many bits as a double holds exactly.
    (u64::from_le_bytes(random()) >> 11) as f64 / (1u64 << 53) as f64
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
