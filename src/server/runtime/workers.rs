//! Threads of the module's own, for what would hold up all clients: a [pool](crate::pool)
//! whose jobs come back through the server's event loop.
//!
//! A thread touches nothing but its job: it calls the server for memory, for the log, and
//! to have the event loop call back, all of which any thread may. What is to become of a
//! job is decided by whoever is told, under the server's lock.
//!
//! Threads are started with the first job. Where none can be started (the system has too
//! many, or no memory for it), jobs are done at once by whoever hands them out. The
//! processes that the server forks to save have none: they run no command, and no callback
//! of theirs locks what threads lock.

use super::global::{Global, Lock};
use crate::pool::{Done, Job, Pool};
use crate::server::border::callback::Callback;
#[cfg(debug_assertions)]
use crate::server::border::faults;
use crate::server::border::guard::{guard, log};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Threads that do jobs of one kind.
pub struct Workers<J: Job> {
    pool: Global<Arc<Pool<J>>>,
    /// Whether the last thread that was to be started could not be, which is logged once.
    are_missing: AtomicBool,
    told: fn(&Lock),
}

impl<J: Job> Workers<J> {
    /// None yet. `told` is called when there are jobs to [take back](Self::take_done).
    pub const fn new(told: fn(&Lock)) -> Self {
        Self { pool: Global::new(), are_missing: AtomicBool::new(false), told }
    }

    fn pool(&self, lock: &Lock) -> Arc<Pool<J>> {
        self.pool.with(lock, |pool| Arc::clone(pool))
    }

    /// Whether so many threads, started now where they are not, have room for a job. So has
    /// who hands it out, where none can be started.
    pub fn has_room(&'static self, lock: &Lock, threads: usize) -> bool {
        let pool = self.pool(lock);
        let missing = pool.resize(threads);
        for left in (1..=missing).rev() {
            let started = self.start(&pool);
            let were_missing = self.are_missing.swap(started.is_err(), Relaxed);
            if let Err(error) = started {
                if !were_missing {
                    log(&format!("a thread could not be started: {error}"));
                }
                pool.not_started(left);
                break;
            }
        }
        pool.has_room()
    }

    fn start(&'static self, pool: &Arc<Pool<J>>) -> std::io::Result<()> {
        #[cfg(debug_assertions)]
        if faults::planted(faults::Fault::Threads) {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let own = Arc::clone(pool);
        let thread = std::thread::Builder::new().name("ml-worker".to_owned());
        thread.spawn(move || self.work(&own)).map(drop)
    }

    /// Hands a job out, where there [is room](Self::has_room); else it is given back. It is
    /// done at once where there are no threads.
    pub fn hand_out(&'static self, lock: &Lock, job: J) -> Result<(), J> {
        let pool = self.pool(lock);
        if pool.has_threads() {
            return pool.push(job);
        }
        self.work_at(&pool, job);
        Ok(())
    }

    /// Takes back the jobs that are done.
    pub fn take_done(&self, lock: &Lock) -> Vec<Done<J>> {
        self.pool(lock).take_done()
    }

    /// What a thread does.
    fn work(&'static self, pool: &Pool<J>) {
        while let Some(job) = pool.next() {
            #[cfg(debug_assertions)]
            while faults::is_held_back() && !job.is_given_up() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            self.work_at(pool, job);
        }
    }

    fn work_at(&'static self, pool: &Pool<J>, job: J) {
        let outcome = guard(Callback::Worker, || job.run());
        if pool.give_back(job, outcome) {
            self.tell();
        }
    }

    /// Has the event loop call back.
    fn tell(&'static self) {
        let data = (&raw const *self).cast_mut().cast();
        // SAFETY: the function may be called by any thread; the callback matches its
        // declaration, and gets back this static.
        unsafe { api!(RedisModule_EventLoopAddOneShot(Some(tells::<J>), data)) };
    }
}

unsafe extern "C" fn tells<J: Job>(workers: *mut c_void) {
    // SAFETY: the server passes the data back, a static of this type, and runs its event
    // loop under its lock.
    let (workers, lock) = unsafe { (&*workers.cast::<Workers<J>>(), Lock::held()) };
    guard(Callback::HandOver, || (workers.told)(&lock));
}
