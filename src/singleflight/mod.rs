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

pub use key::{About, FlightKey};
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

/// The most flights at a key: an event at a key goes through all of them.
const MOST_AT_A_KEY: usize = 256;

/// The most stages that end in one call.
const MOST_AT_ONCE: usize = 1_000;

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
pub enum WaitOutcome<A> {
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
pub struct Woken<W, A, Q = ()> {
    /// Who.
    pub waiter: W,
    /// For what.
    pub key: FlightKey<Q>,
    /// How it ended.
    pub outcome: WaitOutcome<A>,
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

    fn take_waiter(&mut self, key: &FlightKey<Q>, number: u64) -> Waiting<W> {
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

    /// Those who wait in a flight, by arrival.
    pub fn waiters_in(&self, key: &FlightKey<Q>) -> impl Iterator<Item = W> {
        let flight = self.flights.get(key).into_iter();
        flight.flat_map(|flight| flight.waiters.values().map(|one| one.waiter))
    }

    /// A caller that waits has what another flight, or nobody's, came to.
    pub fn serve(&mut self, waiter: W, answer: A) {
        self.end_wait(waiter, WaitOutcome::Completed(answer));
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

    /// The lease that ran out at a flight that nobody has been handed since, and
    /// when it did.
    fn late(&self, key: &FlightKey<Q>) -> Option<(Held, Monotonic)> {
        let flight = self.flights.get(key)?;
        match flight.stage {
            Stage::Unheld { late } => late.map(|late| (late, flight.until)),
            _ => None,
        }
    }

    /// A flight that somebody waits in and nobody has the lease of. The owner
    /// looks whether the thing is there, and [delivers](Self::deliver) it, [hands
    /// the flight over](Self::hand_over) or [ends it](Self::give_up).
    pub fn next_unheld(&self) -> Option<FlightKey<Q>> {
        self.unheld.first().cloned()
    }

    /// Who has waited longest in a flight.
    pub fn first_waiter(&self, key: &FlightKey<Q>) -> Option<W> {
        let flight = self.flights.get(key)?;
        flight.waiters.first_key_value().map(|(_, first)| first.waiter)
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

    /// Nobody waits in the flight any more.
    fn dismiss(&mut self, key: &FlightKey<Q>, outcome: &WaitOutcome<A>) {
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
