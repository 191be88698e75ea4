//! The one source of chance: the server's.

use crate::id::Id;

/// A new id. The server draws from a cryptographic generator seeded by the
/// system, anew in each process.
pub fn new_id() -> Id {
    let mut bytes = [0; 16];
    // SAFETY: the buffer is as long as the call is told.
    unsafe { api!(RedisModule_GetRandomBytes(bytes.as_mut_ptr(), bytes.len())) };
    Id(bytes)
}
