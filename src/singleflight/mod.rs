//! Single flight: of all callers that miss the same thing, one computes it.
//!
//! One caller gets a lease and computes; the others are in the same flight and
//! wait. This is the single flight of Go's `singleflight` and the lease of R.
//! Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013, in one: a lease
//! ends by its time, by its holder, or by an invalidation, and is then handed
//! over to the caller that has waited longest.
//!
//! The table is pure and knows things by their bytes: no server, no domain, no
//! clock, no chance. Time is the clock that never steps, given from outside, as
//! are ids. Whoever owns it drives it: what ends with callers waiting is without
//! a holder ([`SingleFlight::next_unheld`]) until the owner has looked whether
//! the thing is there meanwhile, and completes the flight or hands it over.

mod key;
mod leasing;
mod past;
mod terms;
mod waiting;

pub use key::{About, FlightKey};
pub use past::PastLease;
pub use terms::{Lease, Limits, Refusal, Standing, WaitOutcome, Woken};

use crate::bug;
use crate::id::Id;
use crate::time::Monotonic;
use past::{End, PastLeases};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

/// What a flight takes of memory, the bytes of its key aside: of the record and
/// its places in the orders.
const FLIGHT_BYTES: usize = 512;

/// What a caller that waits takes of memory, beside what its owner keeps of it.
const WAITER_BYTES: usize = 256;

/// The most flights at a key: an event at a key goes through all of them.
const MOST_AT_A_KEY: usize = 256;

/// The most stages that end in one call.
const MOST_AT_ONCE: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Somebody computes.
    Leased { token: Id, since: Monotonic, lease_us: Monotonic },
    /// Nobody is to.
    BackedOff,
    /// Nobody does, and the first who waits is to be handed the lease. Until then it
    /// is still that of the holder whose time is over.
    Unheld { late: Option<Held> },
}

/// A lease that somebody holds, or did: its token, since when, and for how long.
type Held = (Id, Monotonic, Monotonic);

#[derive(Debug)]
struct Waiting<W> {
    waiter: W,
    /// How long it would compute.
    lease_us: Monotonic,
    /// The token it brought, if it did.
    token: Option<Id>,
    /// What the owner keeps of it.
    bytes: usize,
}

#[derive(Debug)]
struct Flight<W> {
    number: u64,
    stage: Stage,
    /// When the stage ends.
    until: Monotonic,
    /// Those who wait, by arrival.
    waiters: BTreeMap<u64, Waiting<W>>,
    /// Those of them that brought a token.
    tokens: HashMap<Id, u64>,
}

impl<W> Flight<W> {
    /// Whether its stage is over by then, and nobody waits to be told so.
    fn is_over(&self, now: Monotonic) -> bool {
        self.until <= now && self.waiters.is_empty()
    }

    /// Whether it is, or was till just now, to be completed with a token.
    fn is_of(&self, asked: Id) -> bool {
        match self.stage {
            Stage::Leased { token, .. } | Stage::Unheld { late: Some((token, ..)) } => {
                token == asked
            }
            Stage::Unheld { late: None } | Stage::BackedOff => false,
        }
    }

    fn is_held_by(&self, asked: Id) -> bool {
        matches!(self.stage, Stage::Leased { token, .. } if token == asked)
    }
}

/// The flights of a node, with those who wait in them (`W`) for what is computed
/// (`A`), and the leases that are over but not forgotten.
#[derive(Debug)]
pub struct SingleFlight<W, A, Q = ()> {
    limits: Limits,
    flights: BTreeMap<FlightKey<Q>, Flight<W>>,
    ends: BTreeMap<(Monotonic, u64), FlightKey<Q>>,
    unheld: BTreeSet<FlightKey<Q>>,
    waiting: HashMap<W, (FlightKey<Q>, u64)>,
    past: PastLeases<Q>,
    /// Numbers flights and arrivals.
    next: u64,
    bytes: usize,
    woken: Vec<Woken<W, A, Q>>,
    expired: Vec<FlightKey<Q>>,
}

impl<W, A, Q> Default for SingleFlight<W, A, Q> {
    fn default() -> Self {
        Self {
            limits: Limits { leases: usize::MAX, bytes: usize::MAX },
            flights: BTreeMap::new(),
            ends: BTreeMap::new(),
            unheld: BTreeSet::new(),
            waiting: HashMap::new(),
            past: PastLeases::default(),
            next: 0,
            bytes: 0,
            woken: Vec::new(),
            expired: Vec::new(),
        }
    }
}

impl<W: Copy + Eq + Hash, A: Clone, Q: About> SingleFlight<W, A, Q> {
    /// How many flights there are: leased, or backed off.
    pub fn open(&self) -> usize {
        self.flights.len()
    }

    /// How many leases are over but remembered.
    pub fn remembered(&self) -> usize {
        self.past.len()
    }

    /// How many callers wait.
    pub fn waiters(&self) -> usize {
        self.waiting.len()
    }

    /// How many bytes all of these take.
    pub fn bytes(&self) -> usize {
        self.bytes + self.past.bytes()
    }

    /// Whether there is nothing that an event could end.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.past.len() == 0
    }

    /// Whether there is nothing to be seen to at all.
    pub fn is_settled(&self) -> bool {
        self.is_idle() && self.woken.is_empty() && self.expired.is_empty()
    }

    /// How much may be kept from now on. What is open stays; what is remembered
    /// makes room.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.trim();
    }

    /// Whether there are such as [`Self::take_woken`] tells of.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Those who wait no more, since this was last asked.
    pub fn take_woken(&mut self) -> Vec<Woken<W, A, Q>> {
        std::mem::take(&mut self.woken)
    }

    /// The keys of leases that ran out, since this was last asked.
    pub fn take_expired(&mut self) -> Vec<FlightKey<Q>> {
        std::mem::take(&mut self.expired)
    }

    /// Whether more is over than was [seen to](Self::advance) in one call.
    pub fn is_behind(&self, now: Monotonic) -> bool {
        let end = self.ends.first_key_value().map(|((end, _), _)| *end);
        end.is_some_and(|end| end <= now) || self.past.is_behind(now)
    }

    /// When the next stage ends, if somebody waits for one.
    pub fn next_end(&self) -> Option<Monotonic> {
        let ((end, _), _) = self.ends.first_key_value().filter(|_| !self.waiting.is_empty())?;
        Some(*end)
    }

    /// The thing was computed, under a lease or without any: the flight is over,
    /// and all who wait have it. The lease it was computed under is remembered
    /// as such for as long again; every other one is worthless.
    pub fn complete(
        &mut self,
        key: &FlightKey<Q>,
        token: Option<Id>,
        now: Monotonic,
        answer: impl FnOnce() -> A,
    ) {
        let held = token.and_then(|token| {
            let open = self.flights.get(key).and_then(|flight| match flight.stage {
                Stage::Leased { token: held, since, lease_us }
                | Stage::Unheld { late: Some((held, since, lease_us)) }
                    if held == token =>
                {
                    Some((since, lease_us))
                }
                _ => None,
            });
            // Or was late with it, or says so a second time.
            let past = |end| {
                let past = self.past.find(key, end, now)?;
                (past.token == token).then_some((past.since, past.lease_us))
            };
            let past = || past(End::RanOut).or_else(|| past(End::Completed));
            open.or_else(past).map(|(since, lease_us)| (token, since, lease_us))
        });
        match self.flights.get(key).map(|flight| flight.waiters.is_empty()) {
            None => {}
            Some(true) => self.close(key, &WaitOutcome::Closed),
            Some(false) => self.close(key, &WaitOutcome::Completed(answer())),
        }
        self.past.forget_at(key.scope(), key.key(), Some(key.name()));
        if let Some((token, since, lease_us)) = held {
            self.remember(key, End::Completed, (token, since, lease_us), now);
        }
    }

    /// Who waits for a thing that is there has it: it came another way.
    pub fn deliver(&mut self, key: &FlightKey<Q>, now: Monotonic, answer: impl FnOnce() -> A) {
        self.complete(key, None, now, answer);
    }

    /// Ends the leases and backoffs at a key, on one name or on all: what was read
    /// for them is no longer true.
    pub fn invalidate(&mut self, scope: i32, key: &[u8], name: Option<&[u8]>) {
        match name {
            Some(name) => self.end_lease(&FlightKey::new(scope, key, name)),
            None => {
                let all: Vec<_> = self.at(scope, key).map(|(key, _)| key.clone()).collect();
                all.iter().for_each(|flight| self.end_lease(flight));
            }
        }
        self.past.forget_at(scope, key, name);
    }

    /// Ends the leases and backoffs at a key that are to things of a kind. What was
    /// completed is known still: whoever asks about that looks what came of it.
    pub fn invalidate_if(
        &mut self,
        scope: i32,
        key: &[u8],
        is_one: impl Fn(&FlightKey<Q>) -> bool,
    ) {
        let all = self.at(scope, key).map(|(flight, _)| flight).filter(|flight| is_one(flight));
        let all: Vec<_> = all.cloned().collect();
        all.iter().for_each(|flight| self.end_lease(flight));
        self.past.forget_late_if(scope, key, is_one);
    }

    /// Ends the leases and backoffs of a scope, or of all.
    pub fn invalidate_scope(&mut self, scope: Option<i32>) {
        let keys: Vec<_> = self.flights.keys().cloned().collect();
        for key in keys {
            if scope.is_none_or(|scope| key.scope() == scope) {
                self.end_lease(&key);
            }
        }
        self.past.forget_scope(scope);
    }

    /// Ends the flights to what is not wanted any more. Keys of what is
    /// remembered are not known: all of that is forgotten.
    pub fn withdraw(&mut self, unwanted: impl Fn(&FlightKey<Q>) -> bool) {
        let keys: Vec<_> = self.flights.keys().filter(|key| unwanted(key)).cloned().collect();
        for key in keys {
            self.close(&key, &WaitOutcome::Withdrawn);
        }
        self.past.forget_scope(None);
    }

    /// Ends all flights: this node is not the one to decide any more.
    pub fn clear(&mut self) {
        let keys: Vec<_> = self.flights.keys().cloned().collect();
        for key in keys {
            self.close(&key, &WaitOutcome::Closed);
        }
        self.past.forget_scope(None);
    }

    /// Ends stages whose time is over, the earliest first and so many at most that
    /// nobody else is held up; whether there are more is [known](Self::is_behind). A
    /// lease that nobody waits for is remembered, in case its holder is only late.
    pub fn advance(&mut self, now: Monotonic) {
        for _ in 0..MOST_AT_ONCE {
            let first = self.ends.first_key_value().filter(|((end, _), _)| *end <= now);
            let Some(key) = first.map(|(_, key)| key.clone()) else { break };
            self.end_stage(&key);
        }
        self.past.advance(now);
    }

    /// Ends the stage of a flight if it is over and nobody waits in it, whether or
    /// not it is the turn of that.
    fn end_if_over(&mut self, key: &FlightKey<Q>, now: Monotonic) {
        if self.flights.get(key).is_some_and(|flight| flight.is_over(now)) {
            self.end_stage(key);
        }
    }

    fn end_stage(&mut self, key: &FlightKey<Q>) {
        let Some(flight) = self.flights.get(key) else { bug("an end of no flight") };
        let (stage, until) = (flight.stage, flight.until);
        let awaited = !flight.waiters.is_empty();
        self.end_lease(key);
        if let Stage::Leased { token, since, lease_us } = stage {
            self.expired.push(key.clone());
            let late = (token, since, lease_us);
            match awaited {
                true => self.set_stage(key, Stage::Unheld { late: Some(late) }, until),
                false => self.remember(key, End::RanOut, late, until),
            }
        }
    }

    /// A flight that somebody waits in and nobody has the lease of. The owner
    /// looks whether the thing is there, and [delivers](Self::deliver) it, [hands
    /// the flight over](Self::hand_over) or [ends it](Self::give_up).
    pub fn next_unheld(&self) -> Option<FlightKey<Q>> {
        self.unheld.first().cloned()
    }

    /// Ends a flight that nobody has the lease of, for each who waits in it to be in
    /// flights of their own: whoever was late with it is too late.
    pub fn disband(&mut self, key: &FlightKey<Q>) {
        if self.unheld.contains(key) {
            self.close(key, &WaitOutcome::Closed);
        }
    }

    /// Ends a flight that nobody has the lease of, and nothing comes of.
    pub fn give_up(&mut self, key: &FlightKey<Q>) {
        if !self.unheld.contains(key) {
            return;
        }
        let late = self.late(key);
        self.close(key, &WaitOutcome::Closed);
        // Nobody took it: it stays its holder's.
        if let Some((late, ran_out)) = late {
            self.remember(key, End::RanOut, late, ran_out);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The flights at a key.
    fn at(&self, scope: i32, key: &[u8]) -> impl Iterator<Item = (&FlightKey<Q>, &Flight<W>)> {
        let from = (!self.flights.is_empty()).then(|| FlightKey::new(scope, key, b""));
        let all = from.into_iter().flat_map(|from| self.flights.range(from..));
        all.take_while(move |(one, _)| one.is_at(scope, key))
    }

    /// The leases that are over make room, the oldest first, for so many flights
    /// and bytes more; whether there is room then. Where there would be none, they
    /// stay.
    fn make_room(&mut self, flights: usize, bytes: usize) -> bool {
        let fits = self.fits(flights, bytes);
        while fits
            && !(self.has_room_for(bytes) && self.has_place_for(flights))
            && self.past.forget_oldest()
        {}
        fits
    }

    /// Whether so much more may be open. What is open already may be more than may be
    /// opened.
    fn fits(&self, flights: usize, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= self.limits.bytes
            && (flights == 0 || self.flights.len() + flights <= self.limits.leases)
    }

    fn has_place_for(&self, flights: usize) -> bool {
        self.flights.len() + self.past.len() + flights <= self.limits.leases
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= self.limits.bytes
    }

    fn trim(&mut self) {
        while !(self.has_room_for(0) && self.has_place_for(0)) && self.past.forget_oldest() {}
    }

    fn remember(
        &mut self,
        key: &FlightKey<Q>,
        end: End,
        (token, since, lease_us): (Id, Monotonic, Monotonic),
        from: Monotonic,
    ) {
        self.past.remember(key, end, token, since, lease_us, from.saturating_add(lease_us));
        self.trim();
    }

    /// Makes room for a flight; whether there is, at its key too. Whoever was late
    /// with it is too late then.
    fn make_place(&mut self, key: &FlightKey<Q>) -> bool {
        let has_place = self.has_place(key);
        if has_place {
            self.past.forget_one(key, End::RanOut);
            self.make_room(1, FLIGHT_BYTES + key.bytes());
        }
        has_place
    }

    /// Whether there is room for a flight, or can be made.
    fn has_place(&self, key: &FlightKey<Q>) -> bool {
        let neighbours = || self.at(key.scope(), key.key()).take(MOST_AT_A_KEY).count();
        self.fits(1, FLIGHT_BYTES + key.bytes()) && neighbours() < MOST_AT_A_KEY
    }

    fn open_flight(
        &mut self,
        key: &FlightKey<Q>,
        stage: Stage,
        now: Monotonic,
        lease_us: Monotonic,
    ) {
        let (number, until) = (self.number(), now.saturating_add(lease_us));
        let (waiters, tokens) = (BTreeMap::new(), HashMap::new());
        self.flights.insert(key.clone(), Flight { number, stage, until, waiters, tokens });
        self.ends.insert((until, number), key.clone());
        self.bytes += FLIGHT_BYTES + key.bytes();
    }

    fn set_stage(&mut self, key: &FlightKey<Q>, stage: Stage, until: Monotonic) {
        if let Some(flight) = self.flights.get_mut(key) {
            self.ends.remove(&(flight.until, flight.number));
            flight.stage = stage;
            flight.until = until;
            if !matches!(stage, Stage::Unheld { .. }) {
                self.ends.insert((until, flight.number), key.clone());
            }
        }
    }

    /// The lease of a flight is worthless: without anybody who waits, the flight
    /// is over.
    fn end_lease(&mut self, key: &FlightKey<Q>) {
        let Some(flight) = self.flights.get(key) else { return };
        if flight.waiters.is_empty() {
            self.close(key, &WaitOutcome::Closed);
        } else {
            let until = flight.until;
            self.set_stage(key, Stage::Unheld { late: None }, until);
            self.unheld.insert(key.clone());
        }
    }

    /// The flight is over; who waits is told so.
    fn close(&mut self, key: &FlightKey<Q>, outcome: &WaitOutcome<A>) {
        self.dismiss(key, outcome);
        if let Some(flight) = self.flights.remove(key) {
            self.ends.remove(&(flight.until, flight.number));
            self.unheld.remove(key);
            self.bytes -= FLIGHT_BYTES + key.bytes();
        }
    }
}

#[cfg(test)]
mod tests;
