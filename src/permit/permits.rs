//! A counting semaphore (Dijkstra, 1965) whose permits are leases (Gray and
//! Cheriton, SOSP 1989): who holds one returns it, renews it in time, or loses
//! it, so that a holder that crashed keeps nobody out for longer than its TTL.

use super::change::{Change, Step};
use crate::bounds::MAX_AMOUNT;
use crate::bug;
use crate::id::Id;
use crate::metrics::{Gauge, Share};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::borrow::Cow;
use std::collections::VecDeque;

/// The most permits a key holds at once: bounds its memory, and how long the
/// search for one of them takes.
pub const MAX_PERMITS: usize = 65_536;

/// A permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Whose it is.
    pub id: Id,
    /// How much of the limit it takes.
    pub cost: u64,
    /// How long it lasts, from `since_us` on.
    pub ttl_ms: Millis,
    /// When it was granted, or last renewed.
    pub since_us: Micros,
}

impl Permit {
    /// When it ends by itself.
    pub fn expires_us(&self) -> Micros {
        self.since_us.saturating_add(self.ttl_ms.saturating_mul(MICROS_PER_MILLI))
    }

    /// What permits are sorted by: no two are equal in it.
    pub fn order(&self) -> (Micros, Id) {
        (self.expires_us(), self.id)
    }
}

/// A call for a permit, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How much may be in use at once; 0 denies always.
    pub max: u64,
    /// How much of it the permit takes.
    pub cost: u64,
    /// How long the permit lasts.
    pub ttl_ms: Millis,
}

/// The answer to a call for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The permit's id; `None` when denied.
    pub id: Option<Id>,
    /// What is in use after the call.
    pub in_use: u64,
    /// The wait after which the same call is granted, if nobody releases or
    /// renews: 0 when it was, `None` when it never can be.
    pub retry_after_us: Option<Micros>,
    /// What the call does to the state, if anything.
    pub change: Option<Change>,
}

/// The refusal of a call that fits, because the key holds [`MAX_PERMITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The permits of all keys.
pub static HELD: Gauge = Gauge::new();

/// The state of one key. The default holds no permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    /// Sorted by [`Permit::order`]: what expires first stands first.
    all: VecDeque<Permit>,
    /// The cost of all of them. At most [`MAX_AMOUNT`]: nothing is granted
    /// beyond a maximum, and what has expired goes before something is granted.
    cost: u64,
    /// The clock as the last write read it: no permit is from a later moment.
    clock_us: Micros,
    /// How many they are, counted.
    counted: Share,
}

impl Default for Permits {
    fn default() -> Self {
        Self { all: VecDeque::new(), cost: 0, clock_us: 0, counted: Share::none_of(&HELD) }
    }
}

impl Permits {
    /// The state of these permits, as the clock stood at `clock_us`; `None`
    /// unless they are sorted, distinct, not from later and not too many.
    pub fn of(all: VecDeque<Permit>, clock_us: Micros) -> Option<Self> {
        let mut ids: Vec<_> = all.iter().map(|permit| permit.id).collect();
        ids.sort_unstable();
        let cost = all.iter().try_fold(0u64, |sum, permit| sum.checked_add(permit.cost))?;
        let sound = all.len() <= MAX_PERMITS
            && cost <= MAX_AMOUNT
            && ids.is_sorted_by(|one, next| one != next)
            && all.iter().is_sorted_by_key(Permit::order)
            && all.iter().all(|permit| permit.since_us <= clock_us);
        let mut counted = Share::none_of(&HELD);
        counted.set(all.len());
        sound.then_some(Self { all, cost, clock_us, counted })
    }

    /// All permits, those that have expired included; what expires first, first.
    pub fn all(&self) -> &VecDeque<Permit> {
        &self.all
    }

    /// The clock as the last write read it.
    pub fn clock_us(&self) -> Micros {
        self.clock_us
    }

    /// When the last of the permits expires, in milliseconds since the epoch;
    /// `None` without any.
    pub fn expires_at_ms(&self) -> Option<Millis> {
        self.all.back().map(|last| last.expires_us().div_ceil(MICROS_PER_MILLI))
    }

    /// Decides on a call for a permit at `now_us`.
    pub fn decide(
        &self,
        request: &Request,
        now_us: Micros,
        new_id: impl FnOnce() -> Id,
    ) -> Result<Outcome, Full> {
        let Request { cost, ttl_ms, .. } = *request;
        let in_use = self.in_use(now_us);
        let retry_after_us = self.wait(request, now_us);
        let change = |step| Some(Change { now_us, step });
        if retry_after_us != Some(0) {
            // Left ahead of the clock, permits would seem to be granted anew at
            // each call until the clock had caught up.
            let change = if self.is_ahead(now_us) { change(Step::Rewind) } else { None };
            return Ok(Outcome { id: None, in_use, retry_after_us, change });
        }
        if self.open(now_us).len() >= MAX_PERMITS {
            return Err(Full);
        }
        let id = new_id();
        Ok(Outcome {
            id: Some(id),
            in_use: in_use + cost,
            retry_after_us,
            change: change(Step::Acquire { id, cost, ttl_ms }),
        })
    }

    /// Until so many permits have expired that the request fits; `None` when it
    /// never can.
    fn wait(&self, request: &Request, now_us: Micros) -> Option<Micros> {
        let room = request.max.checked_sub(request.cost)?;
        let mut in_use = self.in_use(now_us);
        let mut wait_us = 0;
        if in_use > room {
            for permit in self.seen_at(now_us).open(now_us) {
                in_use = in_use.saturating_sub(permit.cost);
                wait_us = permit.expires_us().saturating_sub(now_us);
                if in_use <= room {
                    break;
                }
            }
        }
        Some(wait_us)
    }

    /// What is in use at `now_us`.
    pub fn in_use(&self, now_us: Micros) -> u64 {
        let expired = self.all.range(..self.expired(now_us)).map(|permit| permit.cost).sum();
        self.cost.saturating_sub(expired)
    }

    /// Whether the permit is open at `now_us`.
    pub fn is_open(&self, id: Id, now_us: Micros) -> bool {
        self.open(now_us).any(|permit| permit.id == id)
    }

    /// The permits open at `now_us`.
    pub fn open(&self, now_us: Micros) -> impl ExactSizeIterator<Item = &Permit> {
        self.all.range(self.expired(now_us)..)
    }

    /// How many permits, the first ones, have expired at `now_us`.
    fn expired(&self, now_us: Micros) -> usize {
        self.all.partition_point(|permit| permit.expires_us() <= now_us)
    }

    /// The state as it is to be seen at `now_us`: after the clock stepped back,
    /// with each permit counted as granted now at the latest.
    pub fn seen_at(&self, now_us: Micros) -> Cow<'_, Self> {
        let mut seen = Cow::Borrowed(self);
        if self.is_ahead(now_us) {
            seen.to_mut().rewind_to(now_us);
        }
        seen
    }

    /// Whether a permit is from later than `now_us`: the clock stepped back.
    fn is_ahead(&self, now_us: Micros) -> bool {
        now_us < self.clock_us && self.all.iter().any(|permit| permit.since_us > now_us)
    }

    /// Whether a change that comes from elsewhere can be one of this state.
    pub fn takes(&self, change: &Change) -> bool {
        let now_us = change.now_us;
        match change.step {
            Step::Rewind => self.open(now_us).len() > 0,
            Step::Acquire { id, cost, .. } => {
                self.open(now_us).len() < MAX_PERMITS
                    && cost <= MAX_AMOUNT.saturating_sub(self.in_use(now_us))
                    && !self.all.iter().any(|permit| permit.id == id)
            }
            Step::Renew { id, .. } | Step::Release { id } => self.is_open(id, now_us),
        }
    }

    /// Carries out a change that was decided on this state, or that it
    /// [takes](Self::takes).
    pub fn apply(&mut self, change: &Change) {
        let now_us = change.now_us;
        if now_us < self.clock_us {
            self.rewind_to(now_us);
        }
        self.clock_us = now_us;
        self.all.drain(..self.expired(now_us)).for_each(|permit| self.cost -= permit.cost);
        match change.step {
            Step::Rewind => {}
            Step::Acquire { id, cost, ttl_ms } => {
                self.insert(Permit { id, cost, ttl_ms, since_us: now_us });
            }
            Step::Renew { id, ttl_ms } => {
                let permit = self.remove(id);
                self.insert(Permit { ttl_ms, since_us: now_us, ..permit });
            }
            Step::Release { id } => _ = self.remove(id),
        }
        self.give_back();
        self.counted.set(self.all.len());
    }

    /// Counts permits from later than `now_us` as granted now: left as they
    /// are, they would outlive their TTL by as much as the clock stepped back.
    fn rewind_to(&mut self, now_us: Micros) {
        self.all.iter_mut().for_each(|permit| permit.since_us = permit.since_us.min(now_us));
        self.all.make_contiguous().sort_unstable_by_key(Permit::order);
    }

    fn insert(&mut self, permit: Permit) {
        let at = self.all.partition_point(|other| other.order() < permit.order());
        self.all.insert(at, permit);
        self.cost += permit.cost;
    }

    fn remove(&mut self, id: Id) -> Permit {
        let at = self.all.iter().position(|permit| permit.id == id);
        let Some(permit) = at.and_then(|at| self.all.remove(at)) else {
            bug("a change of a permit that is not open")
        };
        self.cost -= permit.cost;
        permit
    }

    /// Has the block of the permits moved.
    pub fn relocate(&mut self, block: impl FnOnce(&mut Vec<Permit>)) {
        let mut all = Vec::from(std::mem::take(&mut self.all));
        block(&mut all);
        self.all = all.into();
    }

    /// Gives the memory of a rush back after it.
    fn give_back(&mut self) {
        if self.all.capacity() > 16 && self.all.len() < self.all.capacity() / 4 {
            self.all.shrink_to(self.all.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests;
