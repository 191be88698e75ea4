//! Leases: granted, held, renewed, given up, handed over.

use super::past::{End, PastLease};
use super::{
    About, FlightKey, Held, Lease, Refusal, SingleFlight, Stage, Standing, WaitOutcome, Woken,
};
use crate::id::Id;
use crate::time::Monotonic;
use std::hash::Hash;

impl<W: Copy + Eq + Hash, A: Clone, Q: About> SingleFlight<W, A, Q> {
    /// Grants a lease, unless somebody has it, or nobody is to. The token is the
    /// caller's `own`, if it brings one; the lease that this names is granted as
    /// it stands, however often it is asked for.
    pub fn lease(
        &mut self,
        key: &FlightKey<Q>,
        own: Option<Id>,
        mint: impl FnOnce() -> Id,
        lease_us: Monotonic,
        now: Monotonic,
    ) -> Result<Lease, Refusal> {
        self.advance(now);
        self.end_if_over(key, now);
        if let Some(token) = own
            && let Some(left_us) = self.held(key, token, now)
        {
            return Ok(Lease { token, left_us });
        }
        self.may_lease(key, now)?;
        self.make_place(key);
        let token = own.unwrap_or_else(mint);
        self.open_flight(key, Stage::Leased { token, since: now, lease_us }, now, lease_us);
        Ok(Lease { token, left_us: lease_us })
    }

    /// Whether a lease would be granted now, to one who has none.
    pub fn may_lease(&self, key: &FlightKey<Q>, now: Monotonic) -> Result<(), Refusal> {
        match self.taken(key, now) {
            Some(refusal) => Err(refusal),
            None if self.has_place(key) => Ok(()),
            None => Err(Refusal::Full),
        }
    }

    /// How long the lease of this token lasts still; `None` if it holds none, or
    /// its time is over.
    pub fn held(&self, key: &FlightKey<Q>, token: Id, now: Monotonic) -> Option<Monotonic> {
        let flight = self.flights.get(key).filter(|flight| flight.is_held_by(token))?;
        flight.until.checked_sub(now).filter(|left_us| *left_us > 0)
    }

    /// Why nobody would be granted a lease now, but for want of room.
    pub fn taken(&self, key: &FlightKey<Q>, now: Monotonic) -> Option<Refusal> {
        let flight = self.flights.get(key).filter(|flight| !flight.is_over(now))?;
        let left_us = flight.until.saturating_sub(now);
        Some(match flight.stage {
            Stage::Leased { .. } | Stage::Unheld { .. } => Refusal::Leased(left_us),
            Stage::BackedOff => Refusal::BackedOff(left_us),
        })
    }

    /// What a token may do. A holder whose time is over is one until another
    /// takes the lease, or for as long again.
    pub fn standing(&self, key: &FlightKey<Q>, token: Id, now: Monotonic) -> Standing {
        if let Some(flight) = self.flights.get(key)
            && let Stage::Leased { token: held, since, lease_us } = flight.stage
            && held == token
            && !flight.is_over(now.saturating_sub(lease_us))
        {
            return Standing::Holder { since, is_late: flight.until <= now };
        }
        if let Some(((held, since, lease_us), ran_out)) = self.late(key)
            && held == token
            && now < ran_out.saturating_add(lease_us)
        {
            return Standing::Holder { since, is_late: true };
        }
        let past = |end| self.past.find(key, end, now).filter(|past| past.token == token);
        if let Some(past) = past(End::RanOut) {
            return Standing::Holder { since: past.since, is_late: true };
        }
        match past(End::Completed) {
            Some(_) => Standing::Completed,
            None => Standing::Nobody,
        }
    }

    /// What a token may do at a key, in the flight to whichever name: in those that are
    /// open first, then in those that are over.
    pub fn standings_at(
        &self,
        scope: i32,
        key: &[u8],
        token: Id,
        now: Monotonic,
    ) -> Vec<(FlightKey<Q>, Standing)> {
        let open = self.at(scope, key).filter(|(_, flight)| flight.is_of(token));
        let open = open.map(|(flight, _)| flight.clone());
        let past = [End::RanOut, End::Completed].into_iter().flat_map(|end| {
            let past = self.past.of_token(scope, key, token, end, now);
            past.map(|lease| lease.flight(scope, key))
        });
        let standings = open.chain(past).map(|flight| {
            let standing = self.standing(&flight, token, now);
            (flight, standing)
        });
        standings.filter(|(_, standing)| *standing != Standing::Nobody).collect()
    }

    /// The flights at a key that keep others out, each with what keeps them out.
    pub fn taken_at(
        &self,
        scope: i32,
        key: &[u8],
        now: Monotonic,
    ) -> impl Iterator<Item = (&FlightKey<Q>, Refusal)> {
        self.at(scope, key).filter_map(move |(key, _)| Some((key, self.taken(key, now)?)))
    }

    /// The holder gives up. With a time to back off, all who wait are told so,
    /// and nobody is granted a lease for as long; else it is handed over. Whether
    /// the token is a holder's.
    pub fn release(
        &mut self,
        scope: i32,
        key: &[u8],
        token: Id,
        back_off_us: Option<Monotonic>,
        now: Monotonic,
    ) -> bool {
        let mut any = false;
        // Under each name that the token computes at the key.
        while self.release_one(scope, key, token, back_off_us, now) {
            any = true;
        }
        any
    }

    fn release_one(
        &mut self,
        scope: i32,
        key: &[u8],
        token: Id,
        back_off_us: Option<Monotonic>,
        now: Monotonic,
    ) -> bool {
        let Some((flight, late)) = self.held_at(scope, key, token, now) else { return false };
        match (back_off_us, late) {
            (None, None) => self.end_lease(&flight),
            (None, Some(_)) => self.past.forget_one(&flight, End::RanOut),
            (Some(left_us), late) => {
                if late.is_some_and(|late| !self.reopen(&flight, &late, now)) {
                    return false;
                }
                self.set_stage(&flight, Stage::BackedOff, now.saturating_add(left_us));
                self.dismiss(&flight, &WaitOutcome::BackedOff { left_us });
            }
        }
        true
    }

    /// Has the time of a lease start anew, `lease_us` from now; also of one that
    /// ran out, if nobody has taken it. Whether the token is a holder's.
    pub fn renew(
        &mut self,
        scope: i32,
        key: &[u8],
        token: Id,
        lease_us: Monotonic,
        now: Monotonic,
    ) -> bool {
        let held = |flights: &Self| -> Vec<FlightKey<Q>> {
            let held = flights.at(scope, key).filter(|(_, flight)| flight.is_held_by(token));
            held.map(|(key, _)| key.clone()).collect()
        };
        held(self).iter().for_each(|flight| self.end_if_over(flight, now));
        // What the token is late with is open again.
        while let Some((flight, late)) = self.late_at(scope, key, token, now) {
            if !self.reopen(&flight, &late, now) {
                break;
            }
        }
        // Under each name that the token computes at the key.
        let held = held(self);
        for flight in &held {
            if let Some(Stage::Leased { since, .. }) = self.flights.get(flight).map(|one| one.stage)
            {
                let stage = Stage::Leased { token, since, lease_us };
                self.set_stage(flight, stage, now.saturating_add(lease_us));
            }
        }
        !held.is_empty()
    }

    /// The flight at a key that a token holds; with the lease, if that ran out.
    fn held_at(
        &mut self,
        scope: i32,
        key: &[u8],
        token: Id,
        now: Monotonic,
    ) -> Option<(FlightKey<Q>, Option<PastLease<Q>>)> {
        let open = self.at(scope, key).find(|(_, flight)| flight.is_held_by(token));
        if let Some((open, _)) = open {
            let open = open.clone();
            self.end_if_over(&open, now);
            if self.flights.contains_key(&open) {
                return Some((open, None));
            }
        }
        self.late_at(scope, key, token, now).map(|(flight, late)| (flight, Some(late)))
    }

    /// The flight at a key that a token is late with, and the lease that ran out.
    fn late_at(
        &self,
        scope: i32,
        key: &[u8],
        token: Id,
        now: Monotonic,
    ) -> Option<(FlightKey<Q>, PastLease<Q>)> {
        let late = self.past.of_token(scope, key, token, End::RanOut, now);
        let late = late.map(|late| (late.flight(scope, key), late));
        // Another may have backed off from it meanwhile.
        let mut late = late.filter(|(flight, _)| !self.flights.contains_key(flight));
        late.next().map(|(flight, late)| (flight, late.clone()))
    }

    /// Opens the flight of a lease that ran out again; whether there was room to
    /// copy its key again. Where there was none, it stays as late as it is.
    fn reopen(&mut self, key: &FlightKey<Q>, late: &PastLease<Q>, now: Monotonic) -> bool {
        let PastLease { token, since, lease_us, .. } = *late;
        let has_place = self.make_place(key);
        if has_place {
            self.open_flight(key, Stage::Leased { token, since, lease_us }, now, lease_us);
        }
        has_place
    }

    /// How long the longest lease at a key lasts still, and how many callers wait
    /// there.
    pub fn look(&self, scope: i32, key: &[u8], now: Monotonic) -> (Monotonic, usize) {
        let (mut longest_us, mut waiters) = (0, 0);
        for (_, flight) in self.at(scope, key) {
            waiters += flight.waiters.len();
            if matches!(flight.stage, Stage::Leased { .. }) {
                longest_us = longest_us.max(flight.until.saturating_sub(now));
            }
        }
        (longest_us, waiters)
    }

    /// The lease that ran out at a flight that nobody has been handed since, and
    /// when it did.
    pub(super) fn late(&self, key: &FlightKey<Q>) -> Option<(Held, Monotonic)> {
        let flight = self.flights.get(key)?;
        match flight.stage {
            Stage::Unheld { late } => late.map(|late| (late, flight.until)),
            _ => None,
        }
    }

    /// Grants the lease of a flight to the caller that has waited longest; without
    /// any, the flight is over. One that somebody has the lease of stays as it is.
    pub fn hand_over(&mut self, key: &FlightKey<Q>, mint: impl FnOnce() -> Id, now: Monotonic) {
        if !self.unheld.contains(key) {
            return;
        }
        let first = self.flights.get(key).and_then(|flight| flight.waiters.first_key_value());
        let first = first.map(|(number, _)| *number);
        let Some(next) = first.map(|number| self.take_waiter(key, number)) else {
            self.give_up(key);
            return;
        };
        let (waiter, lease_us) = (next.waiter, next.lease_us);
        let token = next.token.unwrap_or_else(mint);
        self.unheld.remove(key);
        let stage = Stage::Leased { token, since: now, lease_us };
        self.set_stage(key, stage, now.saturating_add(lease_us));
        let outcome = WaitOutcome::Granted { token, lease_us };
        self.woken.push(Woken { waiter, key: key.clone(), outcome });
    }
}
