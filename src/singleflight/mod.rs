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
mod past;

pub use key::FlightKey;
pub use past::PastLease;

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

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Leases: open, backed off, and over but remembered.
    pub leases: usize,
    /// Bytes of all of these, and of those who wait.
    pub bytes: usize,
}

/// How it ended for a caller that waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// The thing was computed: here it is.
    Completed(A),
    /// The caller computes.
    Granted {
        /// What it completes the flight with.
        token: Id,
        /// How long it has.
        lease_us: Monotonic,
    },
    /// The holder gave up: nobody is to compute for so long.
    BackedOff {
        /// How long.
        left_us: Monotonic,
    },
    /// Another caller with its token has its place; the flight goes on.
    Replaced {
        /// How long the lease lasts still.
        left_us: Monotonic,
    },
    /// The thing is not wanted any more.
    Withdrawn,
    /// The flight is over, and nothing came of it.
    Closed,
}

/// A caller that waits no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken<W, A> {
    /// Who.
    pub waiter: W,
    /// For what.
    pub key: FlightKey,
    /// How it ended.
    pub outcome: Outcome<A>,
}

/// Why a lease is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody computes, and has so long still.
    Leased(Monotonic),
    /// A holder gave up: nobody is to compute for so long.
    BackedOff(Monotonic),
    /// There is no room for another.
    Full,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is completed, renewed and released by.
    pub token: Id,
    /// How long it lasts still.
    pub left_us: Monotonic,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds the lease: it completes the flight.
    Holder {
        /// Since when it has computed.
        since: Monotonic,
        /// Whether the time of its lease is over.
        is_late: bool,
    },
    /// It has completed the flight, and nothing has changed since.
    Completed,
    /// Nothing.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Somebody computes.
    Leased { token: Id, since: Monotonic, lease_us: Monotonic },
    /// Nobody is to.
    BackedOff,
    /// Nobody does, and the first who waits is to be handed the lease.
    Unheld,
}

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
    fn is_held_by(&self, asked: Id) -> bool {
        matches!(self.stage, Stage::Leased { token, .. } if token == asked)
    }
}

/// The flights of a node, with those who wait in them (`W`) for what is computed
/// (`A`), and the leases that are over but not forgotten.
#[derive(Debug)]
pub struct SingleFlight<W, A> {
    limits: Limits,
    flights: BTreeMap<FlightKey, Flight<W>>,
    ends: BTreeMap<(Monotonic, u64), FlightKey>,
    unheld: BTreeSet<FlightKey>,
    waiting: HashMap<W, (FlightKey, u64)>,
    past: PastLeases,
    /// Numbers flights and arrivals.
    next: u64,
    bytes: usize,
    woken: Vec<Woken<W, A>>,
    expired: Vec<FlightKey>,
}

impl<W, A> Default for SingleFlight<W, A> {
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

impl<W: Copy + Eq + Hash, A: Clone> SingleFlight<W, A> {
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
    pub fn take_woken(&mut self) -> Vec<Woken<W, A>> {
        std::mem::take(&mut self.woken)
    }

    /// The keys of leases that ran out, since this was last asked.
    pub fn take_expired(&mut self) -> Vec<FlightKey> {
        std::mem::take(&mut self.expired)
    }

    /// When the next stage ends, if somebody waits for one.
    pub fn next_end(&self) -> Option<Monotonic> {
        let ((end, _), _) = self.ends.first_key_value().filter(|_| !self.waiting.is_empty())?;
        Some(*end)
    }

    /// Grants a lease, unless somebody has it, or nobody is to. The token is the
    /// caller's `own`, if it brings one; the lease that this names is granted as
    /// it stands, however often it is asked for.
    pub fn lease(
        &mut self,
        key: &FlightKey,
        own: Option<Id>,
        mint: impl FnOnce() -> Id,
        lease_us: Monotonic,
        now: Monotonic,
    ) -> Result<Lease, Refusal> {
        self.advance(now);
        if let Some(token) = own
            && let Some(left_us) = self.held(key, token, now)
        {
            return Ok(Lease { token, left_us });
        }
        if let Some(refusal) = self.taken(key, now) {
            return Err(refusal);
        }
        // Whoever was late with it is too late.
        self.past.forget_one(key, End::RanOut);
        if !self.make_room(1, FLIGHT_BYTES + key.bytes()) {
            return Err(Refusal::Full);
        }
        let token = own.unwrap_or_else(mint);
        self.open_flight(key, Stage::Leased { token, since: now, lease_us }, now, lease_us);
        Ok(Lease { token, left_us: lease_us })
    }

    /// How long the lease of this token lasts still; `None` if it holds none, or
    /// its time is over.
    pub fn held(&self, key: &FlightKey, token: Id, now: Monotonic) -> Option<Monotonic> {
        let flight = self.flights.get(key).filter(|flight| flight.is_held_by(token))?;
        flight.until.checked_sub(now).filter(|left_us| *left_us > 0)
    }

    /// Why nobody would be granted a lease now, but for want of room.
    pub fn taken(&self, key: &FlightKey, now: Monotonic) -> Option<Refusal> {
        let flight = self.flights.get(key)?;
        let left_us = flight.until.saturating_sub(now);
        Some(match flight.stage {
            Stage::Leased { .. } | Stage::Unheld => Refusal::Leased(left_us),
            Stage::BackedOff => Refusal::BackedOff(left_us),
        })
    }

    /// Whether a caller may wait of whom the owner keeps so many bytes: somebody
    /// computes, and there is room.
    pub fn may_wait(&mut self, key: &FlightKey, bytes: usize) -> bool {
        let computed = |flight: &Flight<W>| flight.stage != Stage::BackedOff;
        self.flights.get(key).is_some_and(computed) && self.make_room(0, WAITER_BYTES + bytes)
    }

    /// Has a caller wait that [may](Self::may_wait). `lease_us` is how long it
    /// would compute itself, `token` what it brought to do so under: one that
    /// waits with the same makes way, and has been told so.
    pub fn wait(
        &mut self,
        key: &FlightKey,
        waiter: W,
        token: Option<Id>,
        lease_us: Monotonic,
        bytes: usize,
        now: Monotonic,
    ) {
        let number = self.number();
        let Some(flight) = self.flights.get_mut(key) else {
            // Whoever waits for nothing is told so.
            self.woken.push(Woken { waiter, key: key.clone(), outcome: Outcome::Closed });
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
            let (waiter, outcome) = (replaced.waiter, Outcome::Replaced { left_us });
            self.woken.push(Woken { waiter, key: key.clone(), outcome });
        }
    }

    /// Forgets a caller that waits no more.
    pub fn leave(&mut self, waiter: W) {
        let Some((key, number)) = self.waiting.remove(&waiter) else { return };
        self.take_waiter(&key, number);
        if self.unheld.contains(&key) && self.first_waiter(&key).is_none() {
            self.close(&key, &Outcome::Closed);
        }
    }

    fn take_waiter(&mut self, key: &FlightKey, number: u64) -> Option<Waiting<W>> {
        let flight = self.flights.get_mut(key)?;
        let waiting = flight.waiters.remove(&number)?;
        if let Some(token) = waiting.token {
            flight.tokens.remove(&token);
        }
        self.waiting.remove(&waiting.waiter);
        self.bytes -= WAITER_BYTES + waiting.bytes;
        Some(waiting)
    }

    /// What a caller waits for, and how long the stage that it waits for the end
    /// of lasts still.
    pub fn waits_for(&self, waiter: W, now: Monotonic) -> Option<(&FlightKey, Monotonic)> {
        let (key, _) = self.waiting.get(&waiter)?;
        let flight = self.flights.get(key)?;
        Some((key, flight.until.saturating_sub(now)))
    }

    /// What a token may do. A holder whose time is over is one until another
    /// takes the lease, or for as long again.
    pub fn standing(&self, key: &FlightKey, token: Id, now: Monotonic) -> Standing {
        if let Some(flight) = self.flights.get(key)
            && let Stage::Leased { token: held, since, .. } = flight.stage
            && held == token
        {
            return Standing::Holder { since, is_late: flight.until <= now };
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

    /// The thing was computed, under a lease or without any: the flight is over,
    /// and all who wait have it. The lease it was computed under is remembered
    /// as such for as long again; every other one is worthless.
    pub fn complete(
        &mut self,
        key: &FlightKey,
        token: Option<Id>,
        now: Monotonic,
        answer: impl FnOnce() -> A,
    ) {
        let held = token.and_then(|token| {
            let open = self.flights.get(key).and_then(|flight| match flight.stage {
                Stage::Leased { token: held, since, lease_us } if held == token => {
                    Some((since, lease_us))
                }
                _ => None,
            });
            let late = || {
                let past = self.past.find(key, End::RanOut, now)?;
                (past.token == token).then_some((past.since, past.lease_us))
            };
            open.or_else(late).map(|(since, lease_us)| (token, since, lease_us))
        });
        match self.flights.get(key).map(|flight| flight.waiters.is_empty()) {
            None => {}
            Some(true) => self.close(key, &Outcome::Closed),
            Some(false) => self.close(key, &Outcome::Completed(answer())),
        }
        self.past.forget_at(key.scope(), key.key(), Some(key.name()));
        if let Some((token, since, lease_us)) = held {
            self.remember(key, End::Completed, (token, since, lease_us), now);
        }
    }

    /// Who waits for a thing that is there has it: it came another way.
    pub fn deliver(&mut self, key: &FlightKey, now: Monotonic, answer: impl FnOnce() -> A) {
        self.complete(key, None, now, answer);
    }

    /// Ends the leases and backoffs at a key, on one name or on all: what was read
    /// for them is no longer true.
    pub fn invalidate(&mut self, scope: i32, key: &[u8], name: Option<&[u8]>) {
        for flight in self.keys_at(scope, key) {
            if name.is_none_or(|name| flight.name() == name) {
                self.end_lease(&flight);
            }
        }
        self.past.forget_at(scope, key, name);
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
    pub fn withdraw(&mut self, unwanted: impl Fn(&FlightKey) -> bool) {
        let keys: Vec<_> = self.flights.keys().filter(|key| unwanted(key)).cloned().collect();
        for key in keys {
            self.close(&key, &Outcome::Withdrawn);
        }
        self.past.forget_scope(None);
    }

    /// Ends all flights: this node is not the one to decide any more.
    pub fn clear(&mut self) {
        let keys: Vec<_> = self.flights.keys().cloned().collect();
        for key in keys {
            self.close(&key, &Outcome::Closed);
        }
        self.past.forget_scope(None);
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
        let Some(flight) = self.key_held_by(scope, key, token, now) else { return false };
        match back_off_us {
            None => self.end_lease(&flight),
            Some(left_us) => {
                self.set_stage(&flight, Stage::BackedOff, now.saturating_add(left_us));
                self.dismiss(&flight, &Outcome::BackedOff { left_us });
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
        let Some(flight) = self.key_held_by(scope, key, token, now) else { return false };
        if let Some(Stage::Leased { since, .. }) = self.flights.get(&flight).map(|one| one.stage) {
            let stage = Stage::Leased { token, since, lease_us };
            self.set_stage(&flight, stage, now.saturating_add(lease_us));
        }
        true
    }

    /// The flight at a key that a token holds; one whose lease ran out is open
    /// again.
    fn key_held_by(
        &mut self,
        scope: i32,
        key: &[u8],
        token: Id,
        now: Monotonic,
    ) -> Option<FlightKey> {
        let held =
            |key: &&FlightKey| self.flights.get(key).is_some_and(|flight| flight.is_held_by(token));
        if let Some(open) = self.keys_at(scope, key).iter().find(held) {
            return Some(open.clone());
        }
        let PastLease { since, lease_us, name, .. } =
            self.past.take_ran_out(scope, key, token, now)?;
        let flight = FlightKey::new(scope, key, &name);
        // Another may have backed off from it meanwhile; and the key is copied
        // again, for which there must be room.
        if self.flights.contains_key(&flight) || !self.make_room(1, FLIGHT_BYTES + flight.bytes()) {
            return None;
        }
        self.open_flight(&flight, Stage::Leased { token, since, lease_us }, now, lease_us);
        Some(flight)
    }

    /// How long the longest lease at a key lasts still, and how many callers wait
    /// there.
    pub fn look(&self, scope: i32, key: &[u8], now: Monotonic) -> (Monotonic, usize) {
        let keys = self.keys_at(scope, key);
        let flights = || keys.iter().filter_map(|key| self.flights.get(key));
        let leased = flights().filter(|flight| matches!(flight.stage, Stage::Leased { .. }));
        let left_us = leased.map(|flight| flight.until.saturating_sub(now)).max();
        (left_us.unwrap_or(0), flights().map(|flight| flight.waiters.len()).sum())
    }

    /// The things that somebody waits for at a key.
    pub fn waited_for(&self, scope: i32, key: &[u8]) -> Vec<FlightKey> {
        let awaited =
            |key: &FlightKey| self.flights.get(key).is_some_and(|one| !one.waiters.is_empty());
        self.keys_at(scope, key).into_iter().filter(awaited).collect()
    }

    /// Ends the stages whose time is over. A lease that nobody waits for is
    /// remembered, in case its holder is only late.
    pub fn advance(&mut self, now: Monotonic) {
        while let Some(((end, _), key)) = self.ends.first_key_value()
            && *end <= now
        {
            let key = key.clone();
            let Some(flight) = self.flights.get(&key) else { bug("an end of no flight") };
            let (stage, until) = (flight.stage, flight.until);
            let awaited = !flight.waiters.is_empty();
            self.end_lease(&key);
            if let Stage::Leased { token, since, lease_us } = stage {
                self.expired.push(key.clone());
                if !awaited {
                    self.remember(&key, End::RanOut, (token, since, lease_us), until);
                }
            }
        }
        self.past.advance(now);
    }

    /// A flight that somebody waits in and nobody has the lease of. The owner
    /// looks whether the thing is there, and [delivers](Self::deliver) it, [hands
    /// the flight over](Self::hand_over) or [ends it](Self::give_up).
    pub fn next_unheld(&self) -> Option<FlightKey> {
        self.unheld.first().cloned()
    }

    /// Who has waited longest in a flight.
    pub fn first_waiter(&self, key: &FlightKey) -> Option<W> {
        let flight = self.flights.get(key)?;
        flight.waiters.first_key_value().map(|(_, first)| first.waiter)
    }

    /// Grants the lease of a flight to the caller that has waited longest; without
    /// any, the flight is over.
    pub fn hand_over(&mut self, key: &FlightKey, mint: impl FnOnce() -> Id, now: Monotonic) {
        let first = self.flights.get(key).and_then(|flight| flight.waiters.first_key_value());
        let first = first.map(|(number, _)| *number);
        let Some(next) = first.and_then(|number| self.take_waiter(key, number)) else {
            self.close(key, &Outcome::Closed);
            return;
        };
        let (waiter, lease_us) = (next.waiter, next.lease_us);
        let token = next.token.unwrap_or_else(mint);
        self.unheld.remove(key);
        let stage = Stage::Leased { token, since: now, lease_us };
        self.set_stage(key, stage, now.saturating_add(lease_us));
        let outcome = Outcome::Granted { token, lease_us };
        self.woken.push(Woken { waiter, key: key.clone(), outcome });
    }

    /// Ends a flight that nothing comes of.
    pub fn give_up(&mut self, key: &FlightKey) {
        self.close(key, &Outcome::Closed);
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn keys_at(&self, scope: i32, key: &[u8]) -> Vec<FlightKey> {
        if self.flights.is_empty() {
            return Vec::new();
        }
        let from = FlightKey::new(scope, key, b"");
        let all = self.flights.range(from..).map(|(key, _)| key);
        all.take_while(|one| one.is_at(scope, key)).cloned().collect()
    }

    /// The leases that are over make room, the oldest first, for so many flights
    /// and bytes more; whether there is room then.
    fn make_room(&mut self, flights: usize, bytes: usize) -> bool {
        while !(self.has_room_for(bytes) && self.has_place_for(flights)) {
            if !self.past.forget_oldest() {
                // What is open already may be more than may be opened.
                return self.has_room_for(bytes) && (flights == 0 || self.has_place_for(flights));
            }
        }
        true
    }

    fn has_place_for(&self, flights: usize) -> bool {
        self.flights.len() + self.past.len() + flights <= self.limits.leases
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes().saturating_add(bytes) <= self.limits.bytes
    }

    fn trim(&mut self) {
        // Whether what is open fits is not asked any more.
        let _ = self.make_room(0, 0);
    }

    fn remember(
        &mut self,
        key: &FlightKey,
        end: End,
        (token, since, lease_us): (Id, Monotonic, Monotonic),
        from: Monotonic,
    ) {
        self.past.remember(key, end, token, since, lease_us, from.saturating_add(lease_us));
        self.trim();
    }

    fn open_flight(&mut self, key: &FlightKey, stage: Stage, now: Monotonic, lease_us: Monotonic) {
        let (number, until) = (self.number(), now.saturating_add(lease_us));
        let (waiters, tokens) = (BTreeMap::new(), HashMap::new());
        self.flights.insert(key.clone(), Flight { number, stage, until, waiters, tokens });
        self.ends.insert((until, number), key.clone());
        self.bytes += FLIGHT_BYTES + key.bytes();
    }

    fn set_stage(&mut self, key: &FlightKey, stage: Stage, until: Monotonic) {
        if let Some(flight) = self.flights.get_mut(key) {
            self.ends.remove(&(flight.until, flight.number));
            flight.stage = stage;
            flight.until = until;
            if stage != Stage::Unheld {
                self.ends.insert((until, flight.number), key.clone());
            }
        }
    }

    /// The lease of a flight is worthless: without anybody who waits, the flight
    /// is over.
    fn end_lease(&mut self, key: &FlightKey) {
        let Some(flight) = self.flights.get(key) else { return };
        if flight.waiters.is_empty() {
            self.close(key, &Outcome::Closed);
        } else {
            let until = flight.until;
            self.set_stage(key, Stage::Unheld, until);
            self.unheld.insert(key.clone());
        }
    }

    /// The flight is over; who waits is told so.
    fn close(&mut self, key: &FlightKey, outcome: &Outcome<A>) {
        self.dismiss(key, outcome);
        if let Some(flight) = self.flights.remove(key) {
            self.ends.remove(&(flight.until, flight.number));
            self.unheld.remove(key);
            self.bytes -= FLIGHT_BYTES + key.bytes();
        }
    }

    /// Nobody waits in the flight any more.
    fn dismiss(&mut self, key: &FlightKey, outcome: &Outcome<A>) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        flight.tokens.clear();
        for (_, Waiting { waiter, bytes, .. }) in std::mem::take(&mut flight.waiters) {
            self.bytes -= WAITER_BYTES + bytes;
            self.waiting.remove(&waiter);
            self.woken.push(Woken { waiter, key: key.clone(), outcome: outcome.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
