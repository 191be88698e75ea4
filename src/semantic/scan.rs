//! A scan by a thread, of what a key held when it began; and what is to be made of it when
//! it comes back, so that it says what a scan of all that is there then would.
//!
//! A thread goes through the segments that were full. By the time that it is through, some
//! of what it found may be gone, or not answer any more; that is held against the question
//! again. So are all vectors that have come since and those of the segment that was being
//! filled, which are about as many, and entries whose thresholds changed. It finds a few
//! more than it is asked for, so that it need not begin again where one of them is gone.

use super::best::Best;
use super::leases::Ask;
use super::look::Near;
use super::shelves::{Held, Owner};
use super::table::Table;
use super::vector::Query;
use crate::id::Id;
use crate::pool::Job;
use crate::server::BlockedClient;
use crate::time::Millis;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many more are found than are asked for.
const SPARE: usize = 8;

/// How long a thread goes on at least before it lets others have its processor, the server's
/// own thread first of all, where there are more of them than processors.
const TURN: Duration = Duration::from_micros(50);

/// A scan.
pub struct Scan {
    /// Who asks.
    pub client: BlockedClient,
    ask: Arc<Ask>,
    /// What it goes through, until a thread has it: that lets go of it where it was given
    /// up, as whoever gives it up could be held up by that.
    held: Mutex<Option<Arc<Held>>>,
    version: u16,
    /// Whether anything stale is asked for that there may be.
    has_stale: bool,
    now_ms: Millis,
    is_given_up: AtomicBool,
}

/// What a scan has found.
pub struct Scanned {
    held: Arc<Held>,
    query: Query,
    fresh: Best<Id>,
    /// What is stale, where that was looked for.
    stale: Option<Best<Id>>,
}

impl Scan {
    /// The scan of a table for what a client asks; `None` where there is nothing of that
    /// version.
    pub fn new(
        client: BlockedClient,
        ask: &Arc<Ask>,
        table: &Table,
        now_ms: Millis,
    ) -> Option<Self> {
        let (held, version) = table.hold(&ask.version)?;
        Some(Self {
            client,
            ask: Arc::clone(ask),
            held: Mutex::new(Some(held)),
            version,
            has_stale: ask.near().stale && table.has_stale(now_ms),
            now_ms,
            is_given_up: AtomicBool::new(false),
        })
    }

    /// Has nobody wait for it any more.
    pub fn give_up(&self) {
        self.is_given_up.store(true, Relaxed);
    }

    /// Whether it was to the end.
    fn find(
        &self,
        held: &Held,
        query: &Query,
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
    ) -> bool {
        let mut begun = Instant::now();
        held.scan(query, self.version, serves, best, || {
            if begun.elapsed() >= TURN {
                thread::yield_now();
                begun = Instant::now();
            }
            !self.is_given_up.load(Relaxed)
        })
    }
}

impl Job for Arc<Scan> {
    /// Nothing where it was given up.
    type Outcome = Option<Scanned>;

    fn run(&self) -> Option<Scanned> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (near, now_ms) = (self.ask.near(), self.now_ms);
        let query = Query::new(&self.ask.vector);
        let mut fresh = Best::new(near.top + SPARE, near.hit, near.maybe);
        if !self.find(&held, &query, |owner| owner.is_fresh(now_ms), &mut fresh) {
            return None;
        }
        let mut stale = None;
        if self.has_stale && fresh.hits().is_empty() {
            let best = stale.insert(Best::new(near.top + SPARE, near.hit, None));
            if !self.find(&held, &query, |owner| owner.is_stale(now_ms), best) {
                return None;
            }
        }
        Some(Scanned { held, query, fresh, stale })
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Relaxed)
    }
}

/// A scan that has come back.
pub struct Returned {
    /// The scan.
    pub scan: Arc<Scan>,
    /// What it has found.
    pub scanned: Scanned,
    /// The entries whose thresholds changed meanwhile.
    pub changed: BTreeSet<Id>,
}

impl Returned {
    /// What a scan of the same table would find now, of what is fresh and, where that is
    /// asked for and may be, of what is stale; `None` where that can't be told, because too
    /// much of what was found is gone.
    pub fn as_it_is(
        &self,
        near: &Near,
        table: &Table,
        version: &[u8],
        now_ms: Millis,
    ) -> Option<(Best<Id>, Option<Best<Id>>)> {
        let Scanned { fresh, stale, .. } = &self.scanned;
        let best =
            self.complete(fresh, near.top, table, version, |owner| owner.is_fresh(now_ms))?;
        if !near.wants_stale(&best, table, now_ms) {
            return Some((best, None));
        }
        let none = Best::new(near.top, near.hit, None);
        let before = match stale {
            Some(stale) => stale,
            None if self.scan.has_stale => return None,
            None => &none,
        };
        let is_stale = |owner: &Owner| owner.is_stale(now_ms);
        Some((best, Some(self.complete(before, near.top, table, version, is_stale)?)))
    }

    fn complete(
        &self,
        found: &Best<Id>,
        top: usize,
        table: &Table,
        version: &[u8],
        serves: impl Fn(&Owner) -> bool,
    ) -> Option<Best<Id>> {
        let Scanned { held, query, .. } = &self.scanned;
        let mut best = Best::after(found, top);
        let ids = found.hits().iter().chain(found.maybes()).map(|(_, id)| *id);
        let ids = ids.chain(self.changed.iter().copied());
        table.find_among(ids, |code| query.similarity(code), version, &serves, &mut best);
        table.find_beside(held, query, version, &serves, &mut best);
        best.is_complete_after(found).then_some(best)
    }
}
