//! Flights: who computes a missing answer, and who waits for it.
//!
//! Of all callers that miss an answer, one gets a lease and computes; the others
//! are in the same flight. This is the single flight of Go's `singleflight` and
//! the lease of R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013,
//! in one: a lease ends, by its time, by its holder, or by an invalidation, and
//! is then handed to the caller that has waited longest.
//!
//! None of this is in the keys: it is never replicated, saved or evicted, and
//! reads no value. Time is the clock that never steps, given from outside, as
//! are tokens.

use super::namespaces::name_of;
use crate::id::Id;
use crate::server::{BlockedClient, Monotonic};
use crate::time::Millis;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Where an answer belongs: a key of a database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place(Arc<[u8]>);

impl Place {
    const DB_BYTES: usize = size_of::<i32>();

    /// The place of a key.
    pub fn new(db: i32, key: &[u8]) -> Self {
        Self([&db.to_le_bytes(), key].concat().into())
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.0.get(Self::DB_BYTES..).unwrap_or_default()
    }

    fn is_in(&self, db: i32) -> bool {
        self.0.starts_with(&db.to_le_bytes())
    }
}

/// What a caller that waited is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer was set.
    Hit {
        /// The answer.
        value: Arc<[u8]>,
        /// How long it holds.
        ttl_ms: Millis,
    },
    /// The caller computes.
    Lease {
        /// What it sets the answer with.
        token: Id,
        /// How long it has.
        lease_us: Monotonic,
    },
    /// There is no answer, and nobody is to compute one for so long.
    Busy {
        /// How long.
        left_us: Monotonic,
    },
    /// The version is not in force any more.
    Retired,
}

/// A caller that waits no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Woken {
    /// Who.
    pub waiter: BlockedClient,
    /// For what.
    pub place: Place,
    /// What it is told.
    pub verdict: Verdict,
}

/// Why a lease is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody computes, and has so long still.
    Leased(Monotonic),
    /// A holder gave up: nobody is to compute for so long.
    BackedOff(Monotonic),
    /// As many leases as there may be are open.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Somebody computes.
    Leased { token: Id, since: Monotonic },
    /// Nobody is to.
    BackedOff,
}

#[derive(Debug)]
struct Flight {
    place: Place,
    version: Box<[u8]>,
    stage: Stage,
    /// When the stage ends.
    until: Monotonic,
    /// Those who wait, the first one first, with how long they would compute.
    waiters: VecDeque<(BlockedClient, Monotonic)>,
}

type Number = u64;

/// All flights of a state.
#[derive(Debug, Default)]
pub struct Flights {
    flights: HashMap<Number, Flight>,
    /// The flights to each place, one for a version.
    places: HashMap<Place, Vec<Number>>,
    waiting: HashMap<BlockedClient, Number>,
    ends: BTreeSet<(Monotonic, Number)>,
    next: Number,
    woken: Vec<Woken>,
    lapsed: Vec<Place>,
}

impl Flights {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.flights.len()
    }

    /// How many callers wait.
    pub fn waiters(&self) -> usize {
        self.waiting.len()
    }

    /// Those who wait no more, since this was last asked.
    pub fn take_woken(&mut self) -> Vec<Woken> {
        std::mem::take(&mut self.woken)
    }

    /// The places of leases that ran out, since this was last asked.
    pub fn take_lapsed(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.lapsed)
    }

    /// When the next stage ends that somebody waits for the end of.
    pub fn next_end(&self) -> Option<Monotonic> {
        let first = self.ends.first().filter(|_| !self.waiting.is_empty())?;
        Some(first.0)
    }

    /// Grants a lease on an answer, unless somebody has it, or nobody is to.
    /// At most `most` flights are open at once.
    pub fn lease(
        &mut self,
        place: &Place,
        version: &[u8],
        lease_us: Monotonic,
        most: usize,
        now: Monotonic,
        mint: &mut dyn FnMut() -> Id,
    ) -> Result<Id, Refusal> {
        self.advance(now, mint);
        if let Some(flight) = self.find(place, version).and_then(|number| self.flights.get(&number))
        {
            let left_us = flight.until.saturating_sub(now);
            return Err(match flight.stage {
                Stage::Leased { .. } => Refusal::Leased(left_us),
                Stage::BackedOff => Refusal::BackedOff(left_us),
            });
        }
        if self.flights.len() >= most {
            return Err(Refusal::Full);
        }
        let token = mint();
        let number = self.next;
        self.next += 1;
        let until = now.saturating_add(lease_us);
        let stage = Stage::Leased { token, since: now };
        let (version, waiters) = (version.into(), VecDeque::new());
        let flight = Flight { place: place.clone(), version, stage, until, waiters };
        self.flights.insert(number, flight);
        self.places.entry(place.clone()).or_default().push(number);
        self.ends.insert((until, number));
        Ok(token)
    }

    /// Has a caller wait for the answer that somebody has a lease on. `lease_us`
    /// is how long it would compute itself.
    pub fn wait(
        &mut self,
        place: &Place,
        version: &[u8],
        waiter: BlockedClient,
        lease_us: Monotonic,
    ) {
        match self.find(place, version) {
            Some(number) => {
                if let Some(flight) = self.flights.get_mut(&number) {
                    flight.waiters.push_back((waiter, lease_us));
                    self.waiting.insert(waiter, number);
                }
            }
            // Whoever waits for nothing is told so.
            None => self.woken.push(Woken {
                waiter,
                place: place.clone(),
                verdict: Verdict::Busy { left_us: 0 },
            }),
        }
    }

    /// Forgets a caller that waits no more.
    pub fn forget(&mut self, waiter: BlockedClient) {
        let number = self.waiting.remove(&waiter);
        if let Some(flight) = number.and_then(|number| self.flights.get_mut(&number)) {
            flight.waiters.retain(|(other, _)| *other != waiter);
        }
    }

    /// How long the stage that a caller waits for the end of lasts still.
    pub fn left_us(&self, waiter: BlockedClient, now: Monotonic) -> Monotonic {
        let flight = self.waiting.get(&waiter).and_then(|number| self.flights.get(number));
        flight.map_or(0, |flight| flight.until.saturating_sub(now))
    }

    /// Since when the holder of a token has had its lease; `None` if it has it
    /// no more.
    pub fn held_since(
        &self,
        place: &Place,
        version: &[u8],
        token: Id,
        now: Monotonic,
    ) -> Option<Monotonic> {
        let flight = self.flights.get(&self.find(place, version)?)?;
        match flight.stage {
            Stage::Leased { token: held, since } if held == token && now < flight.until => {
                Some(since)
            }
            _ => None,
        }
    }

    /// The answer was set: the flight is over, and all who wait have it.
    pub fn fill(
        &mut self,
        place: &Place,
        version: &[u8],
        ttl_ms: Millis,
        value: impl FnOnce() -> Arc<[u8]>,
    ) {
        let Some(number) = self.find(place, version) else { return };
        if self.flights.get(&number).is_some_and(|flight| flight.waiters.is_empty()) {
            self.close(number, None);
        } else {
            let value = value();
            self.close(number, Some(Verdict::Hit { value, ttl_ms }));
        }
    }

    /// Ends the leases on a place, of one version or of all: what was read for
    /// them is no longer true.
    pub fn void(
        &mut self,
        place: &Place,
        version: Option<&[u8]>,
        now: Monotonic,
        mint: &mut dyn FnMut() -> Id,
    ) {
        let numbers = self.places.get(place).cloned().unwrap_or_default();
        for number in numbers {
            let asked = |flight: &Flight| {
                version.is_none_or(|version| *flight.version == *version)
                    && matches!(flight.stage, Stage::Leased { .. })
            };
            if self.flights.get(&number).is_some_and(asked) {
                self.pass_on(number, now, mint);
            }
        }
    }

    /// Ends the leases of a database, or of all.
    pub fn void_db(&mut self, db: Option<i32>, now: Monotonic, mint: &mut dyn FnMut() -> Id) {
        let asked = |flight: &Flight| db.is_none_or(|db| flight.place.is_in(db));
        for number in self.numbers(asked) {
            self.pass_on(number, now, mint);
        }
    }

    /// Ends the flights of a namespace to versions that are not in force.
    pub fn retire(&mut self, namespace: &[u8], admits: impl Fn(&[u8]) -> bool) {
        let asked =
            |flight: &Flight| name_of(flight.place.key()) == namespace && !admits(&flight.version);
        for number in self.numbers(asked) {
            self.close(number, Some(Verdict::Retired));
        }
    }

    /// Ends all flights: this node is not the one to decide any more.
    pub fn clear(&mut self) {
        for number in self.numbers(|_| true) {
            self.close(number, Some(Verdict::Busy { left_us: 0 }));
        }
    }

    /// The holder gives up. With a time to back off, all who wait are told so,
    /// and nobody is granted a lease for as long; else it is handed on.
    pub fn release(
        &mut self,
        place: &Place,
        token: Id,
        back_off_us: Option<Monotonic>,
        now: Monotonic,
        mint: &mut dyn FnMut() -> Id,
    ) -> bool {
        let held = |number: &&Number| {
            let flight = self.flights.get(number);
            flight.is_some_and(|flight| {
                matches!(flight.stage, Stage::Leased { token: held, .. } if held == token)
                    && now < flight.until
            })
        };
        let number = self.places.get(place).and_then(|all| all.iter().find(held)).copied();
        let Some(number) = number else { return false };
        match back_off_us {
            None => self.pass_on(number, now, mint),
            Some(left_us) => {
                if let Some(flight) = self.flights.get_mut(&number) {
                    let waiters = std::mem::take(&mut flight.waiters);
                    flight.stage = Stage::BackedOff;
                    let place = flight.place.clone();
                    self.end_at(number, now.saturating_add(left_us));
                    self.tell(waiters, &place, &Verdict::Busy { left_us });
                }
            }
        }
        true
    }

    /// How long the longest lease on a place lasts still, and how many callers
    /// wait there.
    pub fn look(&self, place: &Place, now: Monotonic) -> (Monotonic, usize) {
        let numbers = self.places.get(place).into_iter().flatten();
        let flights = || numbers.clone().filter_map(|number| self.flights.get(number));
        let leased = flights().filter(|flight| matches!(flight.stage, Stage::Leased { .. }));
        let left_us = leased.map(|flight| flight.until.saturating_sub(now)).max();
        (left_us.unwrap_or(0), flights().map(|flight| flight.waiters.len()).sum())
    }

    /// Ends the stages whose time is over: a lease is handed on, or forgotten if
    /// nobody waits.
    pub fn advance(&mut self, now: Monotonic, mint: &mut dyn FnMut() -> Id) {
        while let Some((_, number)) = self.ends.first().copied().filter(|(end, _)| *end <= now) {
            if let Some(flight) = self.flights.get(&number)
                && matches!(flight.stage, Stage::Leased { .. })
            {
                self.lapsed.push(flight.place.clone());
            }
            self.pass_on(number, now, mint);
        }
    }

    fn find(&self, place: &Place, version: &[u8]) -> Option<Number> {
        let is_version = |number: &&Number| {
            self.flights.get(number).is_some_and(|flight| *flight.version == *version)
        };
        self.places.get(place)?.iter().find(is_version).copied()
    }

    fn numbers(&self, asked: impl Fn(&Flight) -> bool) -> Vec<Number> {
        let all = self.flights.iter().filter(|(_, flight)| asked(flight));
        all.map(|(number, _)| *number).collect()
    }

    /// Hands the lease to the caller that has waited longest; without any, the
    /// flight is over.
    fn pass_on(&mut self, number: Number, now: Monotonic, mint: &mut dyn FnMut() -> Id) {
        let next = self.flights.get_mut(&number).and_then(|flight| {
            let (waiter, lease_us) = flight.waiters.pop_front()?;
            let token = mint();
            flight.stage = Stage::Leased { token, since: now };
            Some((waiter, flight.place.clone(), token, lease_us))
        });
        match next {
            None => self.close(number, None),
            Some((waiter, place, token, lease_us)) => {
                self.end_at(number, now.saturating_add(lease_us));
                self.tell([(waiter, lease_us)], &place, &Verdict::Lease { token, lease_us });
            }
        }
    }

    fn end_at(&mut self, number: Number, until: Monotonic) {
        if let Some(flight) = self.flights.get_mut(&number) {
            self.ends.remove(&(flight.until, number));
            flight.until = until;
            self.ends.insert((until, number));
        }
    }

    /// The flight is over; who waits is told `verdict`.
    fn close(&mut self, number: Number, verdict: Option<Verdict>) {
        let Some(flight) = self.flights.remove(&number) else { return };
        self.ends.remove(&(flight.until, number));
        if let Some(numbers) = self.places.get_mut(&flight.place) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.places.remove(&flight.place);
            }
        }
        let verdict = verdict.unwrap_or(Verdict::Busy { left_us: 0 });
        self.tell(flight.waiters, &flight.place, &verdict);
    }

    fn tell(
        &mut self,
        waiters: impl IntoIterator<Item = (BlockedClient, Monotonic)>,
        place: &Place,
        verdict: &Verdict,
    ) {
        for (waiter, _) in waiters {
            self.waiting.remove(&waiter);
            let (place, verdict) = (place.clone(), verdict.clone());
            self.woken.push(Woken { waiter, place, verdict });
        }
    }
}

#[cfg(test)]
mod tests;
