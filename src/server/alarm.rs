//! One moment to be woken at.

use super::clock::{Monotonic, monotonic};
use super::entry::Entry;
use super::global::{Global, Lock};
use super::guard::guard;
use super::module::context;
use super::raw::{RedisModuleCtx, RedisModuleTimerID};
use crate::time::MICROS_PER_MILLI;
use std::ffi::c_void;
use std::ptr::null_mut;

/// A timer of which one at most runs at a time: the earliest asked for.
pub struct Alarm {
    ring: fn(&Lock),
    set: Global<Option<(RedisModuleTimerID, Monotonic)>>,
}

impl Alarm {
    /// An alarm that calls `ring`.
    pub const fn new(ring: fn(&Lock)) -> Self {
        Self { ring, set: Global::new() }
    }

    /// Has it ring at `due`, or earlier if it was to ring earlier.
    pub fn set(&'static self, lock: &Lock, due: Monotonic) {
        self.set.with(lock, |set| {
            if set.is_some_and(|(_, earlier)| earlier <= due) {
                return;
            }
            // Rounded up, so that it never rings before it is due.
            let wait_ms = due.saturating_sub(monotonic()).div_ceil(MICROS_PER_MILLI);
            let wait_ms = i64::try_from(wait_ms).unwrap_or(i64::MAX);
            let data = (&raw const *self).cast_mut().cast();
            // SAFETY: the module's own context outlives the module; the timer
            // to stop is one that runs, and the callback gets back this static.
            unsafe {
                if let Some((id, _)) = set.take() {
                    api!(RedisModule_StopTimer(context(), id, null_mut()));
                }
                let id = api!(RedisModule_CreateTimer(context(), wait_ms, Some(rings), data));
                *set = Some((id, due));
            }
        });
    }
}

unsafe extern "C" fn rings(_ctx: *mut RedisModuleCtx, alarm: *mut c_void) {
    // SAFETY: the server passes the data of the timer back, a static, and runs
    // timers under its lock.
    let (alarm, lock) = unsafe { (&*alarm.cast::<Alarm>(), Lock::held()) };
    // Without a guard, because it can be set anew only when it is not set, and
    // nothing here can panic: nobody else uses it now.
    alarm.set.with(&lock, Option::take);
    guard(Entry::Timer, || (alarm.ring)(&lock));
}
