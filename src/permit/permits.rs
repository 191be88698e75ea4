//! A counting semaphore (Dijkstra, 1965) whose permits are leases (Gray and
//! Cheriton, SOSP 1989): who holds one returns it, renews it in time, or loses
//! it, so that a holder that crashed keeps nobody out for longer than its TTL.

use super::change::{Change, Step};
use super::stats::HELD;
use crate::allowance::Allowance;
use crate::bounds::MAX_AMOUNT;
use crate::bug;
use crate::hold::{Hold, Holds, MAX_HOLDS, Row};
use crate::id::Id;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::borrow::Cow;

/// A call for a permit, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How much may be in use at once; 0 denies all that takes something.
    pub max: u64,
    /// How much of it the permit takes.
    pub cost: u64,
    /// The permit to open, by its id, and how long it lasts; without it the call
    /// only looks.
    pub permit: Option<(Id, Millis)>,
    /// How many permits a key can have open.
    pub max_holds: usize,
}

/// A decision on one key. It has changed nothing: of several keys all are asked
/// before any is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call is let in.
    pub allowed: bool,
    /// What the key says, as it is when all is done.
    pub allowance: Allowance,
    /// What the call does to the state, if anything.
    pub change: Option<Change>,
    /// Whether the call only looks.
    looks: bool,
    /// Whether something lies ahead of a clock that stepped back.
    ahead: bool,
    /// Whether the permit is to be opened and as many are open as there can be.
    full: bool,
    /// What is in use before the call.
    in_use: u64,
    /// Until the last of the permits ends that are open before the call.
    reset_after_us: Micros,
}

/// A call that makes no sense on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The permit of that id was asked for with another cost.
    AskedFor(u64),
    /// As many permits as there can be are open.
    Full,
}

impl Decision {
    /// Whether it takes something that the caller has not yet.
    pub fn takes(&self) -> bool {
        match self.change.map(|change| change.step) {
            Some(Step::Acquire { cost, .. }) => cost > 0,
            Some(Step::Rewind | Step::Release { .. } | Step::Renew { .. }) => false,
            // It only looks, or it has it.
            None => self.allowance.granted > 0 && self.looks,
        }
    }

    /// Denies what another key denies. A denied call writes only what would else
    /// stay ahead of the clock.
    pub fn deny(&mut self) {
        let Allowance { limit, .. } = self.allowance;
        self.allowed = false;
        self.allowance.granted = 0;
        self.allowance.remaining = limit.saturating_sub(self.in_use).cast_signed();
        self.allowance.reset_after_us = self.reset_after_us;
        self.change = self
            .change
            .filter(|_| self.ahead)
            .map(|change| Change { step: Step::Rewind, ..change });
    }

    /// Whether there is room for the permit, if one is to be opened. To be asked
    /// when all keys have agreed.
    pub fn check_room(&self) -> Result<(), Refusal> {
        if self.allowed && self.full { Err(Refusal::Full) } else { Ok(()) }
    }
}

/// The state of one key. The default holds no permits. Those that are open hold at
/// most [`MAX_AMOUNT`] together: nothing is granted beyond a maximum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permits {
    holds: Holds<()>,
}

impl Default for Permits {
    fn default() -> Self {
        Self { holds: Holds::none(&HELD) }
    }
}

impl Permits {
    /// Adds a permit that is saved; `false` where it cannot be.
    pub fn load(&mut self, id: Id, hold: Hold<()>) -> bool {
        let sound = self.holds.len() < MAX_HOLDS
            && hold.cost <= MAX_AMOUNT.saturating_sub(self.holds.open_sum(0).cost)
            && self.holds.get(id).is_none();
        if sound {
            self.holds.add(Row { id, hold, seat: () });
        }
        sound
    }

    /// All permits, those that have ended included.
    pub fn holds(&self) -> &Holds<()> {
        &self.holds
    }

    /// When the last of the permits ends, in milliseconds since the epoch; `None`
    /// without any.
    pub fn expires_at_ms(&self) -> Option<Millis> {
        self.holds.last_end_us().map(|ends_us| ends_us.div_ceil(MICROS_PER_MILLI))
    }

    /// Decides on a call for a permit at `now_us`. Whether there is
    /// [room](Decision::check_room) for it is to be asked before that is done.
    pub fn decide(&self, request: &Request, now_us: Micros) -> Result<Decision, Refusal> {
        let Request { max, cost, permit, max_holds } = *request;
        let seen = self.seen_at(now_us);
        let in_use = seen.in_use(now_us);
        let ahead = self.holds.is_ahead(now_us);
        let change = |step| Some(Change { now_us, step });
        let rewind = || if ahead && permit.is_some() { change(Step::Rewind) } else { None };
        let reset_after_us = seen.holds.last_end_us().unwrap_or(0).saturating_sub(now_us);
        let decided = |retry_after_us, in_use_then: u64, reset_after_us, change| {
            let allowed = retry_after_us == Some(0);
            let allowance = Allowance {
                granted: if allowed { cost } else { 0 },
                limit: max,
                remaining: max.saturating_sub(in_use_then).cast_signed(),
                retry_after_us,
                reset_after_us,
            };
            let full = matches!(change, Some(Change { step: Step::Acquire { .. }, .. }))
                && seen.open(now_us) >= max_holds;
            let looks = permit.is_none();
            Decision { allowed, allowance, change, looks, ahead, full, in_use, reset_after_us }
        };
        let held = permit.and_then(|(id, _)| seen.holds.open(id, now_us));
        match held.map(|held| held.cost) {
            Some(held) if held != cost => return Err(Refusal::AskedFor(held)),
            // It is held already, and takes nothing more.
            Some(_) => return Ok(decided(Some(0), in_use, reset_after_us, rewind())),
            None => {}
        }
        let retry_after_us = if cost == 0 { Some(0) } else { seen.wait(request, now_us) };
        Ok(match permit.filter(|_| retry_after_us == Some(0)) {
            Some((id, ttl_ms)) => {
                let ends_after_us = ttl_ms.saturating_mul(MICROS_PER_MILLI);
                let (in_use_then, last_us) = (in_use + cost, reset_after_us.max(ends_after_us));
                let decision = decided(
                    retry_after_us,
                    in_use_then,
                    last_us,
                    change(Step::Acquire { id, cost, ttl_ms }),
                );
                Decision { reset_after_us, ..decision }
            }
            // Left ahead of the clock, permits would seem to be granted anew at each
            // call until the clock had caught up.
            None => decided(retry_after_us, in_use, reset_after_us, rewind()),
        })
    }

    /// Decides on a step with a permit: `None` unless that is open.
    pub fn decide_on(&self, id: Id, step: Step, now_us: Micros) -> Option<Change> {
        self.holds.open(id, now_us)?;
        Some(Change { now_us, step })
    }

    /// Until so many permits have ended that the request fits; `None` when it never
    /// can.
    fn wait(&self, request: &Request, now_us: Micros) -> Option<Micros> {
        let room = request.max.checked_sub(request.cost)?;
        let mut in_use = self.in_use(now_us);
        let mut wait_us = 0;
        if in_use > room {
            for (_, permit) in self.holds.iter().skip_while(|(_, permit)| !permit.is_open(now_us)) {
                in_use = in_use.saturating_sub(permit.cost);
                wait_us = permit.ends_us().saturating_sub(now_us);
                if in_use <= room {
                    break;
                }
            }
        }
        Some(wait_us)
    }

    /// How many are open at `now_us`.
    pub fn open(&self, now_us: Micros) -> usize {
        self.holds.open_sum(now_us).count
    }

    /// What is in use at `now_us`.
    pub fn in_use(&self, now_us: Micros) -> u64 {
        self.holds.open_sum(now_us).cost
    }

    /// The state as it is to be seen at `now_us`: after the clock stepped back,
    /// with each permit counted as granted now at the latest.
    pub fn seen_at(&self, now_us: Micros) -> Cow<'_, Self> {
        let mut seen = Cow::Borrowed(self);
        if self.holds.is_ahead(now_us) {
            seen.to_mut().holds.rewind_to(now_us);
        }
        seen
    }

    /// Whether a change that comes from elsewhere can be one of this state.
    pub fn takes(&self, change: &Change) -> bool {
        let now_us = change.now_us;
        match change.step {
            Step::Rewind => !self.holds.is_empty(),
            Step::Acquire { id, cost, .. } => {
                self.open(now_us) < MAX_HOLDS
                    && cost <= MAX_AMOUNT.saturating_sub(self.in_use(now_us))
                    && self.holds.open(id, now_us).is_none()
            }
            Step::Renew { id, .. } | Step::Release { id } => self.holds.open(id, now_us).is_some(),
        }
    }

    /// Carries out a change that was decided on this state, or that it
    /// [takes](Self::takes).
    pub fn apply(&mut self, change: &Change) {
        let now_us = change.now_us;
        self.holds.rewind_to(now_us);
        self.holds.end(now_us);
        match change.step {
            Step::Rewind => {}
            Step::Acquire { id, cost, ttl_ms } => {
                let hold = Hold { cost, ttl_ms, since_us: now_us, note: () };
                self.holds.add(Row { id, hold, seat: () });
            }
            Step::Renew { id, ttl_ms } => self.holds.renew(id, ttl_ms, now_us),
            Step::Release { id } => {
                if self.holds.remove(id).is_none() {
                    bug("a change of a permit that is not open");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
