//! A queue: of all callers that may not have what they ask for yet, who is next.
//!
//! A caller asks for much at once, each under a key, and waits where one of them
//! holds it up. Only there it holds others back; at its other keys they pass, so
//! that nobody is blocked by the head of a line for what is free (as by a queue for
//! each output: Y. Tamir and G. Frazier, "High-Performance Multi-Queue Buffers for
//! VLSI Communication Switches", ISCA 1988). In a line nobody passes: a large
//! request would starve behind small ones (as in Go's `semaphore.Weighted`). Higher
//! priority goes first, then arrival; no aging.
//!
//! The queue is pure, and knows no limiter, no server and no clock. Its owner
//! decides: while there is a [next](Queue::next), that one [leaves](Queue::leave)
//! with what it asked for, or was [denied](Queue::denied). Each that is admitted,
//! moved to another key or found first costs O(log waiters).

mod lines;

pub use lines::Turn;

use crate::bug;
use crate::id::Id;
use crate::time::Monotonic;
use lines::Lines;
use std::collections::BTreeMap;

/// What a caller that waits takes of memory, its keys and what its owner keeps of
/// it aside: of the record, its places in the orders, and a line of its own (970
/// measured with each at a key of its own, and glibc's allocator).
const WAITER_BYTES: usize = 1_024;

/// What each of its keys takes beside its bytes.
const KEY_BYTES: usize = 32;

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Callers that wait.
    pub waiters: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// A call that may have to wait.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Where the keys are: a database.
    pub scope: i32,
    /// The keys, none twice.
    pub keys: &'a [&'a [u8]],
    /// Whoever has a higher one goes first.
    pub priority: u8,
    /// What it asks under: of two calls with one id in a scope only the later waits.
    pub id: Option<Id>,
    /// What its owner keeps of it.
    pub bytes: usize,
}

impl Call<'_> {
    /// What it would take of memory. The line at the key that holds it up has a
    /// copy of that, which may be any.
    fn weight(&self) -> usize {
        let keys: usize = self.keys.iter().map(|key| KEY_BYTES + key.len()).sum();
        let longest = self.keys.iter().map(|key| key.len()).max().unwrap_or(0);
        WAITER_BYTES + keys + longest + self.bytes
    }
}

/// A call that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Where its keys are.
    pub scope: i32,
    /// Its keys, in the order in which it named them.
    pub keys: Box<[Box<[u8]>]>,
    /// Which of them holds it up.
    pub held_up_by: usize,
    /// Its turn there.
    pub turn: Turn,
    /// What it asks under.
    pub id: Option<Id>,
    weight: usize,
}

impl Waiting {
    /// The key that holds it up.
    pub fn held_up_at(&self) -> &[u8] {
        let Some(key) = self.keys.get(self.held_up_by) else { bug("held up by none of its keys") };
        key
    }
}

/// The callers (`W`) that wait on a node.
#[derive(Debug)]
pub struct Queue<W> {
    limits: Limits,
    waiting: BTreeMap<W, Waiting>,
    ids: BTreeMap<(i32, Id), W>,
    lines: Lines<W>,
    arrivals: u64,
    bytes: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            limits: Limits { waiters: usize::MAX, bytes: usize::MAX },
            waiting: BTreeMap::new(),
            ids: BTreeMap::new(),
            lines: Lines::default(),
            arrivals: 0,
            bytes: 0,
        }
    }
}

impl<W: Copy + Ord> Queue<W> {
    /// How much may be kept from now on. Who waits stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.waiting.len()
    }

    /// What is known of one that waits.
    pub fn get(&self, waiter: W) -> Option<&Waiting> {
        self.waiting.get(&waiter)
    }

    /// The one that waits under this id.
    pub fn waiting_as(&self, scope: i32, id: Id) -> Option<W> {
        self.ids.get(&(scope, id)).copied()
    }

    /// How many a key holds up.
    pub fn held_up(&self, scope: i32, key: &[u8]) -> usize {
        self.lines.len(scope, key)
    }

    /// Who is first of those that a key holds up.
    pub fn first(&self, scope: i32, key: &[u8]) -> Option<W> {
        self.lines.first(scope, key).map(|(_, first)| first)
    }

    /// When that one is to be decided anew: 0 if something has happened.
    pub fn due(&self, scope: i32, key: &[u8]) -> Option<Monotonic> {
        self.lines.look(scope, key)
    }

    /// When the first that a key holds up is [due](Self::due), if that one goes before a
    /// turn: that of a [call](Self::turn) which is decided, or of one that
    /// [waits](Waiting::turn).
    pub fn holds_back(&self, scope: i32, key: &[u8], turn: Turn) -> Option<Monotonic> {
        let (first, _) = self.lines.first(scope, key)?;
        if first < turn { self.due(scope, key) } else { None }
    }

    /// The turn that a call has where it comes now: after its equals, but in the
    /// place of the one that waits under its id.
    pub fn turn(&self, call: &Call) -> Turn {
        match self.predecessor(call) {
            Some((_, waiting)) => Turn::new(call.priority, waiting.turn.arrival()),
            None => Turn::of_newcomer(call.priority),
        }
    }

    /// How many one of its keys holds up beside the one whose place a call takes.
    pub fn held_up_beside(&self, call: &Call, key: &[u8]) -> usize {
        let own = self.predecessor(call).is_some_and(|(_, waiting)| waiting.held_up_at() == key);
        self.held_up(call.scope, key) - usize::from(own)
    }

    /// Whether there is room for a call to wait.
    pub fn has_room(&self, call: &Call) -> bool {
        let (waiters, bytes) = match self.predecessor(call) {
            Some((_, waiting)) => (self.waiters() - 1, self.bytes - waiting.weight),
            None => (self.waiters(), self.bytes),
        };
        waiters < self.limits.waiters && bytes.saturating_add(call.weight()) <= self.limits.bytes
    }

    fn predecessor(&self, call: &Call) -> Option<(W, &Waiting)> {
        let waiter = self.waiting_as(call.scope, call.id?)?;
        Some((waiter, self.get(waiter)?))
    }

    /// Has a call wait that was denied: by which of its keys, and when it is to be
    /// decided anew if it is first there. Answers the one that waited under the same id;
    /// it waits no more.
    pub fn enter(
        &mut self,
        waiter: W,
        call: &Call,
        held_up_by: usize,
        due: Monotonic,
    ) -> Option<W> {
        if self.waiting.contains_key(&waiter) {
            bug("a caller waits twice");
        }
        let predecessor = self.predecessor(call).map(|(predecessor, _)| predecessor);
        let earlier = predecessor.and_then(|predecessor| self.leave(predecessor));
        let arrival = earlier.map_or_else(|| self.arrive(), |earlier| earlier.turn.arrival());
        let waiting = Waiting {
            scope: call.scope,
            keys: call.keys.iter().map(|key| Box::from(*key)).collect(),
            held_up_by,
            turn: Turn::new(call.priority, arrival),
            id: call.id,
            weight: call.weight(),
        };
        self.lines.join(&waiting, waiter);
        match predecessor {
            None => self.lines.was_denied(&waiting, due),
            // It may have been held back by the very one whose place it takes.
            Some(_) => self.look_at(call.scope, waiting.held_up_at()),
        }
        self.bytes += waiting.weight;
        if let Some(id) = call.id {
            self.ids.insert((call.scope, id), waiter);
        }
        self.waiting.insert(waiter, waiting);
        predecessor
    }

    fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// One that waits was decided, and denied: by which of its keys, and when it is
    /// to be decided anew if it is first there.
    pub fn denied(&mut self, waiter: W, held_up_by: usize, due: Monotonic) {
        let Some(waiting) = self.waiting.get_mut(&waiter) else { bug("who does not wait") };
        if waiting.held_up_by != held_up_by {
            self.lines.leave(waiting);
            waiting.held_up_by = held_up_by;
            self.lines.join(waiting, waiter);
        }
        self.lines.was_denied(waiting, due);
    }

    /// Whoever waits no more leaves: it has what it asked for, or is gone. The next
    /// at the key that held it up is to be decided, if it was first.
    pub fn leave(&mut self, waiter: W) -> Option<Waiting> {
        let waiting = self.waiting.remove(&waiter)?;
        self.bytes -= waiting.weight;
        if let Some(id) = waiting.id {
            self.ids.remove(&(waiting.scope, id));
        }
        self.lines.leave(&waiting);
        Some(waiting)
    }

    /// Something may be free at a key: the first that it holds up is to be decided.
    pub fn look_at(&mut self, scope: i32, key: &[u8]) {
        self.lines.look_at_once(scope, key);
    }

    /// The same at all keys of a scope, or of all.
    pub fn look_at_all(&mut self, scope: Option<i32>) {
        self.lines.look_at_all(scope);
    }

    /// The same where the time has come.
    pub fn advance(&mut self, now: Monotonic) {
        self.lines.advance(now);
    }

    /// When the time comes next.
    pub fn next_due(&self) -> Option<Monotonic> {
        self.lines.next_due()
    }

    /// Who is to be decided. It [leaves](Self::leave), or is
    /// [denied](Self::denied); then the next.
    pub fn next(&self) -> Option<W> {
        self.lines.next()
    }
}

#[cfg(test)]
mod tests;
