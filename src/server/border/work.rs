//! What a call costs, counted by no clock: bytes allocated, the most that was
//! allocated at once, and, in a build made for that, how many edges of the module's
//! control flow were run. For tests, in debug builds only.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static NOW: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

/// What was done since the last time this was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Edges of the module's control flow; `None` in a build that counts none.
    pub edges: Option<u64>,
    /// Bytes allocated, those given back meanwhile included.
    pub allocated: u64,
    /// The most bytes at once, beyond those that there were at the beginning.
    pub most: u64,
    /// Bytes that the module has now.
    pub held: i64,
}

/// Counts a block that came from an allocator.
pub fn allocated(size: usize) {
    ALLOCATED.fetch_add(size as u64, Relaxed);
    let size = size as i64;
    let now = NOW.fetch_add(size, Relaxed).wrapping_add(size);
    MOST.fetch_max(now, Relaxed);
}

/// Counts a block that went back.
pub fn freed(size: usize) {
    NOW.fetch_sub(size as i64, Relaxed);
}

/// What was done since this was asked for the last time.
pub fn take() -> Work {
    let now = NOW.load(Relaxed);
    let most = MOST.swap(now, Relaxed).saturating_sub(BEFORE.swap(now, Relaxed));
    Work {
        edges: edges(),
        allocated: ALLOCATED.swap(0, Relaxed),
        most: most.max(0).cast_unsigned(),
        held: now,
    }
}

/// What there was when the counting began.
static BEFORE: AtomicI64 = AtomicI64::new(0);

#[cfg(counted)]
fn edges() -> Option<u64> {
    Some(EDGES.swap(0, Relaxed))
}

#[cfg(not(counted))]
fn edges() -> Option<u64> {
    None
}

#[cfg(counted)]
static EDGES: AtomicU64 = AtomicU64::new(0);

/// Runs at each edge of the module's control flow, where the compiler was told so
/// (SanitizerCoverage, trace-pc-guard). It is not instrumented itself, by its name;
/// what it calls has to be inlined.
///
/// # Safety
/// For instrumented code to call.
#[cfg(counted)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_trace_pc_guard(_guard: *mut u32) {
    EDGES.fetch_add(1, Relaxed);
}

/// Runs once before all else; the guards are left as they are.
///
/// # Safety
/// For instrumented code to call.
#[cfg(counted)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sanitizer_cov_trace_pc_guard_init(_first: *mut u32, _end: *mut u32) {}
