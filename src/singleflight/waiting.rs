//! Those who wait in a flight for what is computed.

use super::{
    About, Flight, FlightKey, SingleFlight, Stage, WAITER_BYTES, WaitOutcome, Waiting, Woken,
};
use crate::bug;
use crate::id::Id;
use crate::time::Monotonic;
use std::hash::Hash;

impl<W: Copy + Eq + Hash, A: Clone, Q: About> SingleFlight<W, A, Q> {
    /// Whether a caller may wait of whom the owner keeps so many bytes: somebody
    /// computes, and there is room.
    pub fn may_wait(&mut self, key: &FlightKey<Q>, bytes: usize) -> bool {
        let computed = |flight: &Flight<W>| flight.stage != Stage::BackedOff;
        self.flights.get(key).is_some_and(computed) && self.make_room(0, WAITER_BYTES + bytes)
    }

    /// Has a caller wait that [may](Self::may_wait). `lease_us` is how long it
    /// would compute itself, `token` what it brought to do so under: one that
    /// waits with the same makes way, and has been told so.
    pub fn wait(
        &mut self,
        key: &FlightKey<Q>,
        waiter: W,
        token: Option<Id>,
        lease_us: Monotonic,
        bytes: usize,
        now: Monotonic,
    ) {
        let number = self.number();
        let Some(flight) = self.flights.get_mut(key) else {
            // Whoever waits for nothing is told so.
            self.woken.push(Woken { waiter, key: key.clone(), outcome: WaitOutcome::Closed });
            return;
        };
        let earlier = token.and_then(|token| flight.tokens.get(&token)).copied();
        let place = earlier.unwrap_or(number);
        let waiting = Waiting { waiter, lease_us, token, bytes };
        let replaced = flight.waiters.insert(place, waiting);
        if let Some(token) = token {
            flight.tokens.insert(token, place);
        }
        let left_us = flight.until.saturating_sub(now);
        self.waiting.insert(waiter, (key.clone(), place));
        self.bytes += WAITER_BYTES + bytes;
        if let Some(replaced) = replaced {
            self.bytes -= WAITER_BYTES + replaced.bytes;
            self.waiting.remove(&replaced.waiter);
            let (waiter, outcome) = (replaced.waiter, WaitOutcome::Replaced { left_us });
            self.woken.push(Woken { waiter, key: key.clone(), outcome });
        }
    }

    /// Who waits in a flight and brought a token.
    pub fn awaited_by(&self, key: &FlightKey<Q>, token: Id) -> Option<W> {
        let flight = self.flights.get(key)?;
        Some(flight.waiters.get(flight.tokens.get(&token)?)?.waiter)
    }

    /// Those who wait at a key and brought a token, and the flights that they wait in.
    pub fn waiting_with(&self, scope: i32, key: &[u8], token: Id) -> Vec<(W, FlightKey<Q>)> {
        let waiting = self.at(scope, key).filter_map(|(key, flight)| {
            let waiting = flight.waiters.get(flight.tokens.get(&token)?)?;
            Some((waiting.waiter, key.clone()))
        });
        waiting.collect()
    }

    /// A caller that waits makes way for another with its token, which others are kept
    /// out for, so long still.
    pub fn replace(&mut self, waiter: W, left_us: Monotonic) {
        self.end_wait(waiter, WaitOutcome::Replaced { left_us });
    }

    fn end_wait(&mut self, waiter: W, outcome: WaitOutcome<A>) {
        if let Some((key, _)) = self.waiting.get(&waiter) {
            let key = key.clone();
            self.leave(waiter);
            self.woken.push(Woken { waiter, key, outcome });
        }
    }

    /// Forgets a caller that waits no more.
    pub fn leave(&mut self, waiter: W) {
        let Some((key, number)) = self.waiting.remove(&waiter) else { return };
        self.take_waiter(&key, number);
        if self.unheld.contains(&key) && self.first_waiter(&key).is_none() {
            self.give_up(&key);
        }
    }

    pub(super) fn take_waiter(&mut self, key: &FlightKey<Q>, number: u64) -> Waiting<W> {
        let Some(flight) = self.flights.get_mut(key) else { bug("a caller waits in no flight") };
        let Some(waiting) = flight.waiters.remove(&number) else { bug("a caller has no place") };
        if let Some(token) = waiting.token {
            flight.tokens.remove(&token);
        }
        self.waiting.remove(&waiting.waiter);
        self.bytes -= WAITER_BYTES + waiting.bytes;
        waiting
    }

    /// What a caller waits for, and how long the stage that it waits for the end
    /// of lasts still.
    pub fn waits_for(&self, waiter: W, now: Monotonic) -> Option<(&FlightKey<Q>, Monotonic)> {
        let (key, _) = self.waiting.get(&waiter)?;
        let Some(flight) = self.flights.get(key) else { bug("a caller waits in no flight") };
        Some((key, flight.until.saturating_sub(now)))
    }

    /// Those who wait in a flight, by arrival.
    pub fn waiters_in(&self, key: &FlightKey<Q>) -> impl Iterator<Item = W> {
        let flight = self.flights.get(key).into_iter();
        flight.flat_map(|flight| flight.waiters.values().map(|one| one.waiter))
    }

    /// A caller that waits has what another flight, or nobody's, came to.
    pub fn serve(&mut self, waiter: W, answer: A) {
        self.end_wait(waiter, WaitOutcome::Completed(answer));
    }

    /// Who has waited longest in a flight.
    pub fn first_waiter(&self, key: &FlightKey<Q>) -> Option<W> {
        let flight = self.flights.get(key)?;
        flight.waiters.first_key_value().map(|(_, first)| first.waiter)
    }

    /// Nobody waits in the flight any more.
    pub(super) fn dismiss(&mut self, key: &FlightKey<Q>, outcome: &WaitOutcome<A>) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.tokens.clear();
        for (_, Waiting { waiter, bytes, .. }) in std::mem::take(&mut flight.waiters) {
            self.bytes -= WAITER_BYTES + bytes;
            self.waiting.remove(&waiter);
            self.woken.push(Woken { waiter, key: key.clone(), outcome: outcome.clone() });
        }
    }
}
