//! What tests do to the module, in debug builds only: stop its clock, hold its threads
//! back, make an entry point panic, plant a fault that the tests have to find.

use super::callback::Callback;
use crate::time::Micros;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

const REAL: u64 = u64::MAX;
const NOTHING: u8 = u8::MAX;

static CLOCK: AtomicU64 = AtomicU64::new(REAL);
static ARMED: AtomicU8 = AtomicU8::new(NOTHING);

/// A fault that lasts until another is planted. The checks of the fuzzers are held
/// to find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None.
    Nothing,
    /// Effects are not sent, as if nobody listened: calls are, as they were written.
    Effects,
    /// Each call leaks a block.
    Leak,
    /// The next call answers twice.
    Answer,
    /// No thread can be started.
    Threads,
}

impl Fault {
    pub const ALL: [Self; 5] =
        [Self::Nothing, Self::Effects, Self::Leak, Self::Answer, Self::Threads];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Effects => "effects",
            Self::Leak => "leak",
            Self::Answer => "answer",
            Self::Threads => "threads",
        }
    }
}

static PLANTED: AtomicU8 = AtomicU8::new(Fault::Nothing as u8);

/// Plants a fault, in place of the one planted before.
pub fn plant(fault: Fault) {
    PLANTED.store(fault as u8, Relaxed);
}

/// Whether a fault is planted.
pub fn planted(fault: Fault) -> bool {
    PLANTED.load(Relaxed) == fault as u8
}

/// Stops the clock at a moment; `None` lets it run.
pub fn freeze_clock(at: Option<Micros>) {
    CLOCK.store(at.unwrap_or(REAL), Relaxed);
}

/// The moment the clock was stopped at, if it was.
pub fn frozen_clock() -> Option<Micros> {
    Some(CLOCK.load(Relaxed)).filter(|at| *at != REAL)
}

static HELD_BACK: AtomicBool = AtomicBool::new(false);

/// Has threads wait before they begin a job, or no more.
pub fn hold_back(is_held: bool) {
    HELD_BACK.store(is_held, Relaxed);
}

/// Whether threads wait before they begin a job.
pub fn is_held_back() -> bool {
    HELD_BACK.load(Relaxed)
}

/// Has the next entry point of this kind panic.
pub fn arm(entry: Callback) {
    ARMED.store(entry as u8, Relaxed);
}

/// Panics, once, if this kind of entry point is armed.
#[allow(clippy::panic)]
pub fn panic_if_armed(entry: Callback) {
    let armed = ARMED.compare_exchange(entry as u8, NOTHING, Relaxed, Relaxed);
    if armed.is_ok() {
        panic!("injected panic in {}", entry.name());
    }
}
