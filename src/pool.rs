//! A pool: a few threads that do jobs which would hold up the one that hands them out.
//!
//! It is two lists behind one mutex: jobs to be done, so many at most, and jobs that are
//! done, with what came of them. Whoever hands jobs out starts the threads, as many as it
//! is told to, and is told when there is something to take back; nobody waits for it but
//! the threads. A job that was given up is not begun; one that runs looks by itself.
//!
//! What is handed over is checked with loom: `RUSTFLAGS='--cfg loom' cargo test --lib pool`.

use std::collections::VecDeque;
use std::sync::PoisonError;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};

/// What a thread does.
pub trait Job: Send + 'static {
    /// What comes of it.
    type Outcome: Send + 'static;

    /// Does it, in one of the threads.
    fn run(&self) -> Self::Outcome;

    /// Whether nobody waits for it any more.
    fn is_given_up(&self) -> bool;
}

/// A job that is done, with what came of it: nothing where that was a panic.
pub type Done<J> = (J, Option<<J as Job>::Outcome>);

/// A pool.
pub struct Pool<J: Job> {
    lists: Mutex<Lists<J>>,
    /// Woken when there is a job, or too many threads.
    changed: Condvar,
}

struct Lists<J: Job> {
    jobs: VecDeque<J>,
    done: Vec<Done<J>>,
    /// How many threads there are, and how many there should be.
    threads: usize,
    wanted: usize,
}

impl<J: Job> Default for Pool<J> {
    fn default() -> Self {
        let lists = Lists { jobs: VecDeque::new(), done: Vec::new(), threads: 0, wanted: 0 };
        Self { lists: Mutex::new(lists), changed: Condvar::new() }
    }
}

impl<J: Job> Pool<J> {
    fn lists(&self) -> MutexGuard<'_, Lists<J>> {
        // Nothing panics while it is locked.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how many threads there should be: how many are to be started for that, each to
    /// [work](Self::next). Those that are too many leave when they are through with what
    /// they do.
    pub fn resize(&self, wanted: usize) -> usize {
        let mut lists = self.lists();
        lists.wanted = wanted;
        let missing = wanted.saturating_sub(lists.threads);
        lists.threads += missing;
        if lists.threads > wanted {
            self.changed.notify_all();
        }
        missing
    }

    /// So many threads could not be started.
    pub fn not_started(&self, threads: usize) {
        self.lists().threads -= threads;
    }

    /// Whether there is any thread.
    pub fn has_threads(&self) -> bool {
        self.lists().threads > 0
    }

    /// Whether a job can be handed out: none waits for a thread longer than another job
    /// takes, so that what it begins with is not old.
    pub fn has_room(&self) -> bool {
        let mut lists = self.lists();
        let jobs = std::mem::take(&mut lists.jobs).into_iter();
        let (given_up, jobs): (Vec<_>, Vec<_>) = jobs.partition(J::is_given_up);
        lists.jobs = jobs.into();
        let has_room = lists.jobs.len() < lists.wanted;
        // What a job holds may take long to be freed: nobody waits for that.
        drop(lists);
        drop(given_up);
        has_room
    }

    /// Hands a job out; gives it back where there is no room.
    pub fn push(&self, job: J) -> Result<(), J> {
        let mut lists = self.lists();
        if lists.jobs.len() >= lists.wanted {
            return Err(job);
        }
        lists.jobs.push_back(job);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job for a thread, which waits for it; `None` where the thread is to leave.
    pub fn next(&self) -> Option<J> {
        let mut lists = self.lists();
        loop {
            if lists.threads > lists.wanted {
                lists.threads -= 1;
                // Whom a job woke, and who leaves instead, passes it on.
                self.changed.notify_one();
                return None;
            }
            match lists.jobs.pop_front() {
                Some(job) if job.is_given_up() => {
                    drop(lists);
                    drop(job);
                    lists = self.lists();
                }
                Some(job) => return Some(job),
                None => {
                    lists = self.changed.wait(lists).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Gives back a job that is done; whether somebody has to be told, as nobody was since
    /// all was [taken](Self::take_done).
    pub fn give_back(&self, job: J, outcome: Option<J::Outcome>) -> bool {
        let mut lists = self.lists();
        lists.done.push((job, outcome));
        lists.done.len() == 1
    }

    /// Takes the jobs that are done.
    pub fn take_done(&self) -> Vec<Done<J>> {
        std::mem::take(&mut self.lists().done)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    #[derive(Clone)]
    struct Square(u64, Arc<AtomicBool>);

    impl Job for Square {
        type Outcome = u64;

        fn run(&self) -> u64 {
            self.0 * self.0
        }

        fn is_given_up(&self) -> bool {
            self.1.load(Relaxed)
        }
    }

    fn square(number: u64) -> Square {
        Square(number, Arc::default())
    }

    fn work(pool: &Arc<Pool<Square>>) -> std::thread::JoinHandle<()> {
        let pool = Arc::clone(pool);
        std::thread::spawn(move || {
            while let Some(job) = pool.next() {
                let outcome = job.run();
                pool.give_back(job, Some(outcome));
            }
        })
    }

    #[test]
    fn jobs_are_done_by_as_many_threads_as_there_should_be() {
        let pool = Arc::new(Pool::default());
        assert!(pool.push(square(1)).is_err(), "nobody would do it");
        let mut threads: Vec<_> = (0..pool.resize(3)).map(|_| work(&pool)).collect();
        assert_eq!((threads.len(), pool.resize(3)), (3, 0));
        let mut squares = Vec::new();
        let mut next = 0;
        while squares.len() < 1_000 {
            while next < 1_000 && pool.push(square(next)).is_ok() {
                next += 1;
            }
            squares.extend(pool.take_done().into_iter().filter_map(|(_, outcome)| outcome));
            std::thread::yield_now();
        }
        squares.sort_unstable();
        assert!(squares.into_iter().eq((0..1_000).map(|number| number * number)));
        // Fewer, and more again.
        assert_eq!(pool.resize(1), 0);
        assert_eq!(pool.resize(0), 0);
        threads.drain(..).for_each(|thread| thread.join().unwrap());
        assert!(!pool.has_threads());
        assert_eq!(pool.resize(2), 2);
        pool.not_started(1);
        assert!(pool.has_threads());
        assert_eq!(pool.resize(2), 1);
    }

    /// A job that is given up, and tells whether its pool was locked when it was dropped.
    struct Held(std::sync::Weak<Pool<Held>>, Arc<AtomicBool>);

    impl Job for Held {
        type Outcome = ();

        fn run(&self) {}

        fn is_given_up(&self) -> bool {
            self.0.strong_count() > 0
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let pool = self.0.upgrade();
            let is_locked = pool.is_some_and(|pool| pool.lists.try_lock().is_err());
            self.1.fetch_or(is_locked, Relaxed);
        }
    }

    #[test]
    fn nobody_waits_for_what_was_given_up_to_be_dropped() {
        let (pool, was_locked) = (Arc::new(Pool::default()), Arc::new(AtomicBool::new(false)));
        pool.resize(2);
        let give_up = || Held(Arc::downgrade(&pool), Arc::clone(&was_locked));
        assert!(pool.push(give_up()).is_ok() && pool.has_room());
        let wanted = Held(std::sync::Weak::new(), Arc::clone(&was_locked));
        assert!(pool.push(give_up()).is_ok() && pool.push(wanted).is_ok());
        assert!(pool.next().is_some_and(|next| !next.is_given_up()));
        assert!(!was_locked.load(Relaxed));
    }

    #[test]
    fn what_was_given_up_is_not_begun_and_makes_room() {
        let pool = Pool::default();
        pool.resize(1);
        let job = square(1);
        assert!(pool.has_room() && pool.push(job.clone()).is_ok() && !pool.has_room());
        job.1.store(true, Relaxed);
        assert!(pool.has_room() && pool.push(square(2)).is_ok());
        let next = pool.next().unwrap();
        assert_eq!(next.0, 2);
        assert!(pool.give_back(next, None), "the first is told");
        assert!(!pool.give_back(square(3), Some(9)), "of the next there is no need");
        assert_eq!(pool.take_done().len(), 2);
        assert!(pool.give_back(square(4), Some(16)), "told again once it was taken");
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::model::Builder;
    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
    use loom::sync::{Arc, Notify};
    use loom::thread::{self, JoinHandle};

    /// What a test sees of a job.
    struct Seen {
        begun: AtomicUsize,
        given_up: AtomicBool,
    }

    #[derive(Clone)]
    struct Watched(Arc<Seen>);

    impl Watched {
        fn new() -> Self {
            Self(Arc::new(Seen { begun: AtomicUsize::new(0), given_up: AtomicBool::new(false) }))
        }

        fn begun(&self) -> usize {
            self.0.begun.load(Relaxed)
        }
    }

    impl Job for Watched {
        type Outcome = ();

        fn run(&self) {
            self.0.begun.fetch_add(1, Relaxed);
        }

        fn is_given_up(&self) -> bool {
            self.0.given_up.load(Relaxed)
        }
    }

    /// A pool, its threads, and what tells that there is something to take.
    struct Working {
        pool: Arc<Pool<Watched>>,
        threads: Vec<JoinHandle<()>>,
        told: Arc<Notify>,
    }

    impl Working {
        fn of(threads: usize) -> Self {
            let (pool, told) = (Arc::new(Pool::<Watched>::default()), Arc::new(Notify::new()));
            let work = |_| {
                let (pool, told) = (Arc::clone(&pool), Arc::clone(&told));
                thread::spawn(move || {
                    while let Some(job) = pool.next() {
                        job.run();
                        if pool.give_back(job, Some(())) {
                            told.notify();
                        }
                    }
                })
            };
            let threads = (0..pool.resize(threads)).map(work).collect();
            Self { pool, threads, told }
        }

        /// Takes so many jobs that are done, never before it is told.
        fn take(&self, count: usize) {
            let mut taken = 0;
            while taken < count {
                self.told.wait();
                taken += self.pool.take_done().len();
            }
        }

        fn end(self) {
            self.pool.resize(0);
            self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    /// All ways in which threads can take turns, where none is interrupted more often than
    /// is likely to show what there is.
    fn check(test: impl Fn() + Sync + Send + 'static) {
        let mut model = Builder::new();
        model.preemption_bound = Some(3);
        model.check(test);
    }

    #[test]
    fn each_job_is_done_once_and_no_thread_sleeps_through_one() {
        check(|| {
            let working = Working::of(2);
            let jobs = [Watched::new(), Watched::new()];
            for job in &jobs {
                assert!(working.pool.push(job.clone()).is_ok());
            }
            working.take(jobs.len());
            working.end();
            assert!(jobs.iter().all(|job| job.begun() == 1));
        });
    }

    #[test]
    fn a_job_given_up_is_done_once_or_not_at_all_and_keeps_nobody() {
        check(|| {
            let working = Working::of(1);
            let (job, next) = (Watched::new(), Watched::new());
            assert!(working.pool.push(job.clone()).is_ok());
            job.0.given_up.store(true, Relaxed);
            // There is room for another at once, or it is being done.
            assert!(working.pool.has_room() && working.pool.push(next.clone()).is_ok());
            while next.begun() == 0 {
                working.take(1);
            }
            working.end();
            assert!(job.begun() <= 1 && next.begun() == 1);
        });
    }

    #[test]
    fn who_leaves_passes_on_what_it_was_woken_for() {
        check(|| {
            let working = Working::of(2);
            let job = Watched::new();
            assert!(working.pool.push(job.clone()).is_ok());
            working.pool.resize(1);
            working.take(1);
            working.end();
            assert_eq!(job.begun(), 1);
        });
    }
}
