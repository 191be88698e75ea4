//! Allowances: what a key of limits or of permits says to a call.

use crate::time::{Micros, whole_millis};

/// An allowance of one key, after the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What the call was granted: its cost, a part of it, or 0 when it was denied.
    pub granted: u64,
    /// What could be taken if nothing were.
    pub limit: u64,
    /// What is left; below nothing where more than the limit was forced.
    pub remaining: i64,
    /// The wait after which the call is let in: 0 when it was, `None` when it never
    /// can be.
    pub retry_after_us: Option<Micros>,
    /// Until nothing is taken any more if nothing more comes.
    pub reset_after_us: Micros,
}

impl Allowance {
    /// `granted limit remaining retry_after_ms reset_after_ms`, as replies tell them:
    /// waits round up, and one without end is −1.
    pub fn figures(&self) -> [i64; 5] {
        [
            self.granted.cast_signed(),
            self.limit.cast_signed(),
            self.remaining,
            self.retry_after_us.map_or(-1, whole_millis),
            whole_millis(self.reset_after_us),
        ]
    }
}
