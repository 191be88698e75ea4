//! The one source of random numbers: the server's.

use crate::id::Id;

/// A new id. The server draws from a cryptographic generator seeded by the
/// system, anew in each process.
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
    // SAFETY: the buffer is as long as the call is told.
    unsafe { api!(RedisModule_GetRandomBytes(bytes.as_mut_ptr(), bytes.len())) };
    bytes
}
