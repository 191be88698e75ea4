//! Threads of the module's own, for what would hold up all clients: a [pool](crate::pool)
//! whose jobs come back through the server's event loop.
//!
//! A thread touches nothing but its job: it calls the server for memory, for the log, and
//! to have the event loop call back, all of which any thread may. What is to become of a
//! job is decided by whoever is told, under the server's lock.
//!
//! Threads are started with the first job. The processes that the server forks to save
//! have none: they run no command, and no callback of theirs locks what threads lock.

use super::global::{Global, Lock};
use crate::pool::{Done, Job, Pool};
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log};
use std::ffi::c_void;
use std::sync::Arc;

/// Threads that do jobs of one kind.
pub struct Workers<J: Job> {
    pool: Global<Arc<Pool<J>>>,
    told: fn(&Lock),
}

impl<J: Job> Workers<J> {
    /// None yet. `told` is called when there are jobs to [take back](Self::take_done).
    pub const fn new(told: fn(&Lock)) -> Self {
        Self { pool: Global::new(), told }
    }

    fn pool(&self, lock: &Lock) -> Arc<Pool<J>> {
        self.pool.with(lock, |pool| Arc::clone(pool))
    }

    /// Whether so many threads, started now where they are not, have room for a job.
    pub fn has_room(&'static self, lock: &Lock, threads: usize) -> bool {
        let pool = self.pool(lock);
        let missing = pool.resize(threads);
        for left in (1..=missing).rev() {
            let own = Arc::clone(&pool);
            let name = std::thread::Builder::new().name("ml-worker".to_owned());
            if let Err(error) = name.spawn(move || self.work(&own)) {
                log(&format!("a thread could not be started: {error}"));
                if pool.not_started(left) == 0 {
                    return false;
                }
                break;
            }
        }
        pool.has_room()
    }

    /// Hands a job out, where there [is room](Self::has_room); else it is given back.
    pub fn hand_out(&self, lock: &Lock, job: J) -> Result<(), J> {
        self.pool(lock).push(job)
    }

    /// Takes back the jobs that are done.
    pub fn take_done(&self, lock: &Lock) -> Vec<Done<J>> {
        self.pool(lock).take_done()
    }

    /// What a thread does.
    fn work(&'static self, pool: &Pool<J>) {
        while let Some(job) = pool.next() {
            #[cfg(debug_assertions)]
            while crate::server::border::faults::is_held_back() && !job.is_given_up() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let outcome = guard(Callback::Worker, || job.run());
            if pool.give_back(job, outcome) {
                self.tell();
            }
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
