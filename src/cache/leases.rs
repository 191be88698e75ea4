//! Who computes a missing answer on this node, and who waits for it: the cache's
//! [flights](crate::flights).

use super::answer::Answer;
use super::config::{LEASE_BYTES, LEASES, MAX_LEASE};
use super::counts::{Counter, FLIGHTS};
use super::reply::{Fetched, reply_fetched};
use super::state;
use crate::flights::{self, Again, Domain, Gauges, Room, grant_next};
use crate::id::Id;
use crate::server::{BlockedClient, Config, Event, Listener, Lock, Reply, look_at, monotonic, now};
use crate::singleflight::{self, Limits, Standing, WaitOutcome};
use crate::time::{MICROS_PER_MILLI, Millis, Monotonic, millis};
use std::sync::Arc;

/// An answer for those who waited for it, copied once for all of them.
#[derive(Debug)]
pub struct Hit {
    value: Box<[u8]>,
    left_ms: Millis,
}

impl Hit {
    /// An answer and how long it holds.
    pub fn new(value: &[u8], left_ms: Millis) -> Arc<Self> {
        Arc::new(Self { value: value.into(), left_ms })
    }
}

/// An answer that is there.
#[derive(Clone)]
pub enum Found {
    Fresh(Arc<Hit>),
    /// It may be served while another is computed, for so long as it says.
    Stale(Arc<Hit>),
}

/// What one is told that waited.
pub enum Told {
    Hit(Arc<Hit>),
    Stale(Arc<Hit>),
    Lease { key: FlightKey, token: Id, lease_us: Monotonic, meanwhile: Option<Found> },
    Busy { left_us: Monotonic },
    Retired,
}

/// Where an answer belongs: a version at a key of a database.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The database.
    pub db: i32,
    /// The key in it.
    pub key: &'a [u8],
    /// The version.
    pub version: &'a [u8],
}

impl Place<'_> {
    /// The flight to it.
    pub fn flight(&self) -> FlightKey {
        FlightKey::new(self.db, self.key, self.version)
    }
}

/// The cache, as the domain of flights.
pub struct Cache;

/// The key of a flight to an answer.
pub type FlightKey = singleflight::FlightKey;

/// The flights of this node.
pub type Flights = flights::Flights<Cache>;

impl Domain for Cache {
    type About = ();
    type Answer = Arc<Hit>;
    type Asked = ();
    type Told = Told;
    /// Once that was asked for, the answer that is there.
    type Seen = Option<Option<Found>>;

    const GAUGES: &'static Gauges = &FLIGHTS;

    const MAX_LEASE: &'static Config = &MAX_LEASE;

    fn room() -> &'static Room<Self> {
        static ROOM: Room<Cache> = Room::new();
        &ROOM
    }

    fn limits() -> Limits {
        Limits { leases: LEASES.get_count(), bytes: LEASE_BYTES.get_count() }
    }

    fn call_of(key: &FlightKey) -> Vec<&[u8]> {
        vec![b"ML.CACHEFETCH", key.key(), key.name(), b"LEASE", b"1"]
    }

    fn count_expired(lock: &Lock, key: &FlightKey) {
        tally_flight(lock, key, Counter::ExpiredLeases);
    }

    fn see_to_entered(lock: &Lock, key: &FlightKey, now: Monotonic) {
        if let Some(Found::Fresh(hit)) = find(lock, key) {
            with(lock, |flights| flights.deliver(key, now, || hit));
        }
    }

    fn see_to_unheld(lock: &Lock, key: &FlightKey, now: Monotonic) {
        match find(lock, key) {
            Some(Found::Fresh(hit)) => with(lock, |flights| flights.deliver(key, now, || hit)),
            Some(Found::Stale(_)) | None => grant_next::<Self>(lock, key, now),
        }
    }

    fn tell(
        lock: &Lock,
        key: &FlightKey,
        outcome: WaitOutcome<Arc<Hit>>,
        seen: &mut Self::Seen,
    ) -> Result<Told, Again> {
        Ok(match outcome {
            WaitOutcome::Completed(hit) => {
                tally_flight(lock, key, Counter::Coalesced);
                Told::Hit(hit)
            }
            WaitOutcome::Granted { token, lease_us } => {
                tally_flight(lock, key, Counter::Leases);
                let meanwhile = find(lock, key);
                Told::Lease { key: key.clone(), token, lease_us, meanwhile }
            }
            WaitOutcome::BackedOff { left_us } | WaitOutcome::Replaced { left_us } => {
                decide_again(lock, key, left_us, seen)
            }
            WaitOutcome::Withdrawn => Told::Retired,
            WaitOutcome::Closed => decide_again(lock, key, 0, seen),
        })
    }

    fn tell_at_the_end(lock: &Lock, (): &(), key: &FlightKey, left_us: Monotonic) -> Told {
        decide_again(lock, key, left_us, &mut None)
    }

    /// Nobody is: all who wait in a flight wait for the same.
    fn decide_anew(lock: &Lock, _: BlockedClient, (): &(), key: &FlightKey) -> Option<Told> {
        Some(decide_again(lock, key, 0, &mut None))
    }

    /// Nobody who is decided anew needs to know.
    fn fall_behind((): &()) {}

    fn nothing() -> Told {
        Told::Busy { left_us: 0 }
    }

    fn lease_of(told: &Told) -> Option<(&FlightKey, Id)> {
        match told {
            Told::Lease { key, token, .. } => Some((key, *token)),
            _ => None,
        }
    }

    fn reply(reply: Reply, told: &Told) {
        let fetched = match told {
            Told::Hit(hit) => Fetched::Hit(&hit.value, hit.left_ms),
            Told::Stale(hit) => Fetched::Stale(&hit.value, hit.left_ms),
            Told::Lease { token, lease_us, meanwhile, .. } => {
                let meanwhile =
                    meanwhile.as_ref().map(|(Found::Fresh(hit) | Found::Stale(hit))| &*hit.value);
                Fetched::Lease(*token, millis(*lease_us), meanwhile)
            }
            Told::Busy { left_us } => Fetched::Busy(millis(*left_us)),
            Told::Retired => Fetched::Retired,
        };
        reply_fetched(reply, &fetched);
    }
}

/// What a new call would be told where nobody is granted a lease.
fn decide_again(
    lock: &Lock,
    key: &FlightKey,
    left_us: Monotonic,
    seen: &mut Option<Option<Found>>,
) -> Told {
    match seen.get_or_insert_with(|| find(lock, key)) {
        Some(Found::Fresh(hit)) => {
            tally_flight(lock, key, Counter::Coalesced);
            Told::Hit(hit.clone())
        }
        Some(Found::Stale(hit)) => {
            tally_flight(lock, key, Counter::Stale);
            Told::Stale(hit.clone())
        }
        None => Told::Busy { left_us },
    }
}

/// The answer, if it is there and may be served.
fn find(lock: &Lock, key: &FlightKey) -> Option<Found> {
    let (version, now_ms) = (key.name(), now() / MICROS_PER_MILLI);
    if !state::admits(lock, key.key(), version) {
        return None;
    }
    let found = look_at(lock, key.scope(), key.key(), |open| {
        // What is no answer is none.
        let answers = open.value_ref::<Answer>().ok()??;
        let answer = answers.answer(version)?;
        let lifetime = answer.lifetime();
        let hit_until = |end_ms: Millis| Hit::new(answer.value(), end_ms.saturating_sub(now_ms));
        if lifetime.is_fresh(now_ms) {
            return Some(Found::Fresh(hit_until(lifetime.expires_at_ms)));
        }
        lifetime.is_alive(now_ms).then(|| Found::Stale(hit_until(lifetime.stale_until_ms)))
    });
    found.flatten()
}

fn tally_flight(lock: &Lock, key: &FlightKey, counter: Counter) {
    state::tally(lock, key.key(), key.name(), counter, 1);
}

/// Works on the flights. Nobody is woken by that before [`settle`].
pub fn with<R>(lock: &Lock, work: impl FnOnce(&mut Flights) -> R) -> R {
    flights::with::<Cache, R>(lock, work)
}

/// Hands over what is to be handed over, and wakes those who need wait no more.
/// Called while no key is open.
pub fn settle(lock: &Lock) {
    flights::settle::<Cache>(lock);
}

/// What a token may do, asked while its key is open.
pub fn standing(lock: &Lock, place: Place, token: Id) -> Standing {
    let standing = |flights: &mut Flights| flights.standing(&place.flight(), token, monotonic());
    flights::look::<Cache, _>(lock, standing).unwrap_or(Standing::Nobody)
}

/// How long the lease that a token holds lasts still, asked likewise.
pub fn held(lock: &Lock, place: Place, token: Id) -> Option<Monotonic> {
    let held = |flights: &mut Flights| flights.held(&place.flight(), token, monotonic());
    flights::look::<Cache, _>(lock, held).flatten()
}

/// An answer was set, under a lease or without any: those who wait have it when
/// things are [settled](settle).
pub fn complete(lock: &Lock, place: Place, token: Option<Id>, hit: impl FnOnce() -> Arc<Hit>) {
    flights::look::<Cache, _>(lock, |flights| {
        flights.complete(&place.flight(), token, monotonic(), hit);
    });
}

/// Ends the leases at a key, on one version or on all: what was read for them is
/// no longer true. Also where the key is open, or just going.
pub fn invalidate(lock: &Lock, db: i32, key: &[u8], version: Option<&[u8]>) {
    flights::note::<Cache>(lock, |flights| flights.invalidate(db, key, version));
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| {
    if event == Event::VersionsChanged {
        let is_retired = |key: &FlightKey| !state::admits(lock, key.key(), key.name());
        flights::note::<Cache>(lock, |flights| flights.withdraw(is_retired));
    }
    flights::follow::<Cache>(lock, event);
};
