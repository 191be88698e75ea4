//! One moment to be woken at.

use super::global::{Global, Lock};
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{RedisModuleCtx, RedisModuleTimerID};
use crate::server::call::monotonic;
use crate::server::declare::module::context;
use crate::time::{MICROS_PER_MILLI, Monotonic};
use std::ffi::c_void;
use std::ptr::null_mut;

/// A timer of which one at most runs at a time: the earliest asked for.
pub struct Timer {
    fire: fn(&Lock),
    set: Global<Option<(RedisModuleTimerID, Monotonic)>>,
}

impl Timer {
    /// A timer that calls `fire`.
    pub const fn new(fire: fn(&Lock)) -> Self {
        Self { fire, set: Global::new() }
    }

    /// Has it fire at `due`, or earlier if it was to fire earlier.
    pub fn set(&'static self, lock: &Lock, due: Monotonic) {
        self.set.with(lock, |set| {
            if set.is_some_and(|(_, earlier)| earlier <= due) {
                return;
            }
            // Rounded up, so that it never fires before it is due.
            let wait_ms = due.saturating_sub(monotonic()).div_ceil(MICROS_PER_MILLI);
            let wait_ms = i64::try_from(wait_ms).unwrap_or(i64::MAX);
            let data = (&raw const *self).cast_mut().cast();
            // SAFETY: the module's own context outlives the module; the timer
            // to stop is one that runs, and the callback gets back this static.
            unsafe {
                if let Some((id, _)) = set.take() {
                    api!(RedisModule_StopTimer(context(), id, null_mut()));
                }
                let id = api!(RedisModule_CreateTimer(context(), wait_ms, Some(fires), data));
                *set = Some((id, due));
            }
        });
    }

    /// Has it not fire, unless it is set anew: what it was set for while it was firing has
    /// been seen to. The server would fire it a millisecond later, and until then nothing
    /// could have it fire at once.
    pub fn stop(&'static self, lock: &Lock) {
        if let Some((id, _)) = self.set.with(lock, Option::take) {
            // SAFETY: the module's own context outlives the module; the timer is one
            // that runs.
            unsafe { api!(RedisModule_StopTimer(context(), id, null_mut())) };
        }
    }

    /// Fires if it is overdue. The server's timers run on the wall clock: one that
    /// steps back holds them up by as much. To be called now and then.
    pub fn check(&'static self, lock: &Lock) {
        if self.set.with(lock, |set| set.is_some_and(|(_, due)| due <= monotonic())) {
            self.stop(lock);
            (self.fire)(lock);
        }
    }
}

unsafe extern "C" fn fires(_ctx: *mut RedisModuleCtx, timer: *mut c_void) {
    // SAFETY: the server passes the data of the timer back, a static, and runs
    // timers under its lock.
    let (timer, lock) = unsafe { (&*timer.cast::<Timer>(), Lock::held()) };
    // Without a guard, because it can be set anew only when it is not set, and
    // nothing here can panic: nobody else uses it now.
    timer.set.with(&lock, Option::take);
    guard(Callback::Timer, || (timer.fire)(&lock));
}
