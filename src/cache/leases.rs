//! Who computes a missing answer on this node, and who waits for it: the flights
//! of the cache, and what becomes of those who wait in them.
//!
//! [`crate::singleflight`] decides; here is when it is asked, and by whom. What
//! takes an answer away ends leases at once, wherever it happens. Who has one next
//! is seen to in [`settle`], between commands or at their ends, when no key is
//! open: whether the answer is there meanwhile, whether the next caller's user may
//! have it, and whether a lease is to be had at all, is asked then, as a new call
//! would be.

use super::answer::Answer;
use super::config::{LEASE_BYTES, LEASES};
use super::counts::Counter;
use super::reply::{Fetched, millis, reply_fetched};
use super::state;
use super::stats;
use crate::id::Id;
use crate::metrics::Share;
use crate::server::{
    BlockedClient, Error, Event, Global, Listener, Lock, OnUnblock, Reply, Timer, User,
    avoids_replica_traffic, is_over_maxmemory, is_primary, let_in_anew, look_at, monotonic, new_id,
    now, wake,
};
use crate::singleflight::{
    FlightKey, Lease, Limits, Refusal, SingleFlight, Standing, WaitOutcome, Woken,
};
use crate::time::{MICROS_PER_MILLI, Millis, Monotonic};
use std::collections::{BTreeSet, HashMap};
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
enum Found {
    Fresh(Arc<Hit>),
    /// It may be served while another is computed, for so long as it says.
    Stale(Arc<Hit>),
}

/// What one is told that waited.
enum Verdict {
    Hit(Arc<Hit>),
    Stale(Arc<Hit>),
    Lease { key: FlightKey, token: Id, lease_us: Monotonic, meanwhile: Option<Found> },
    Busy { left_us: Monotonic },
    Retired,
    Refused(Error),
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

/// The flights of this node.
pub type Flights = SingleFlight<BlockedClient, Arc<Hit>>;

/// The state of all leases.
struct Leases {
    flights: Flights,
    /// The users of those who wait.
    users: HashMap<BlockedClient, Option<User>>,
    /// What those are told who were woken.
    verdicts: HashMap<BlockedClient, Verdict>,
    /// Flights at keys that a value has entered, with somebody waiting.
    entered: BTreeSet<FlightKey>,
    /// Whether INFO tells that there is nothing.
    told: bool,
    open: Share,
    past: Share,
    bytes: Share,
    waiters: Share,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            flights: Flights::default(),
            users: HashMap::new(),
            verdicts: HashMap::new(),
            entered: BTreeSet::new(),
            told: true,
            open: Share::none_of(&stats::LEASES),
            past: Share::none_of(&stats::PAST_LEASES),
            bytes: Share::none_of(&stats::LEASE_BYTES),
            waiters: Share::none_of(&stats::WAITERS),
        }
    }
}

impl Leases {
    /// Whether there is nothing to see to, and nothing was.
    fn is_idle(&self) -> bool {
        self.flights.is_settled() && self.entered.is_empty() && self.told
    }

    /// Whether somebody waits for no more than to be told.
    fn is_to_be_seen_to(&self) -> bool {
        self.flights.next_unheld().is_some() || self.flights.has_woken() || !self.entered.is_empty()
    }

    /// When there is something to do next, if there is.
    fn next_due(&self, now: Monotonic) -> Option<Monotonic> {
        let is_due = self.is_to_be_seen_to() || self.flights.is_behind(now);
        if is_due { Some(now) } else { self.flights.next_end() }
    }

    fn count(&mut self) {
        self.told = self.flights.is_idle();
        self.open.set(self.flights.open());
        self.past.set(self.flights.remembered());
        self.bytes.set(self.flights.bytes());
        self.waiters.set(self.flights.waiters());
    }
}

static STATE: Global<Leases> = Global::new();

static TIMER: Timer = Timer::new(settle);

/// How long after a refusal to hand leases over for want of writes it is tried
/// again, in microseconds.
const LATER_US: Monotonic = 100 * MICROS_PER_MILLI;

/// Works on the flights. Nobody is woken by that before [`settle`].
pub fn with<R>(lock: &Lock, work: impl FnOnce(&mut Flights) -> R) -> R {
    STATE.with(lock, |state| work(&mut state.flights))
}

/// Works on the flights where keys may be open, or are just going: those whose
/// waits are over by that are seen to when the server is through with it.
fn note(lock: &Lock, work: impl FnOnce(&mut Leases)) {
    let is_to_be_seen_to = STATE.with(lock, |state| {
        if state.flights.is_idle() {
            return false;
        }
        work(state);
        state.count();
        state.is_to_be_seen_to()
    });
    if is_to_be_seen_to {
        TIMER.set(lock, monotonic());
    }
}

/// Has what a call has changed seen to when the server is through with it. Also
/// where keys are open, and before an answer is begun: nothing of it can fail then.
pub fn settle_later(lock: &Lock) {
    let next = STATE.with(lock, |state| {
        if state.is_idle() {
            return None;
        }
        state.count();
        state.next_due(monotonic())
    });
    if let Some(next) = next {
        TIMER.set(lock, next);
    }
}

/// Hands over what is to be handed over, and wakes those who need wait no more.
/// Called while no key is open.
pub fn settle(lock: &Lock) {
    let is_idle = STATE.with(lock, |state| state.is_idle());
    if is_idle {
        return;
    }
    let (now, paused) = (monotonic(), avoids_replica_traffic(lock));
    STATE.with(lock, |state| {
        state.flights.set_limits(limits());
        if !paused {
            state.flights.advance(now);
        }
    });
    deliver_what_entered(lock);
    while !paused && let Some(key) = with(lock, |flights| flights.next_unheld()) {
        match find(lock, &key) {
            Some(Found::Fresh(hit)) => with(lock, |flights| flights.deliver(&key, now, || hit)),
            Some(Found::Stale(_)) | None => grant_next(lock, &key, now),
        }
    }
    tell(lock);
    let next = STATE.with(lock, |state| {
        state.count();
        state.next_due(now)
    });
    if let Some(next) = next {
        // What was due and could not be done is tried again a little later.
        TIMER.set(lock, if paused { next.max(now + LATER_US) } else { next });
    }
}

fn limits() -> Limits {
    Limits { leases: LEASES.get_count(), bytes: LEASE_BYTES.get_count() }
}

/// Gives the answers that have entered keys by other ways to those who wait.
fn deliver_what_entered(lock: &Lock) {
    let entered = STATE.with(lock, |state| std::mem::take(&mut state.entered));
    for key in entered {
        if let Some(Found::Fresh(hit)) = find(lock, &key) {
            with(lock, |flights| flights.deliver(&key, monotonic(), || hit));
        }
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

/// Has the one that has waited longest compute, if it may and leases are to be
/// had.
fn grant_next(lock: &Lock, key: &FlightKey, now: Monotonic) {
    let first = with(lock, |flights| flights.first_waiter(key));
    let refused = first.and_then(|client| Some((client, refused(lock, client, key)?)));
    if let Some((client, error)) = refused {
        STATE.with(lock, |state| {
            state.flights.leave(client);
            state.verdicts.insert(client, Verdict::Refused(error));
        });
        wake(lock, client);
    } else if is_over_maxmemory(lock) || !is_primary(lock) {
        with(lock, |flights| flights.give_up(key));
    } else {
        with(lock, |flights| flights.hand_over(key, new_id, now));
    }
}

/// Why a client may not compute, or no longer, what it waits for.
fn refused(lock: &Lock, client: BlockedClient, key: &FlightKey) -> Option<Error> {
    let user = STATE.with(lock, |state| state.users.get(&client).cloned().flatten());
    let_in_anew(lock, user.as_ref(), key.scope(), &call_of(key), 1).err()
}

/// Why a client's user may not have, or no longer, what it waits for.
fn refused_to(lock: &Lock, user: &User, key: &FlightKey) -> Option<Error> {
    user.may(lock, key.scope(), &call_of(key), 1).err()
}

/// The call of whoever waits in a flight.
fn call_of(key: &FlightKey) -> [&[u8]; 5] {
    [b"ML.CACHEFETCH", key.key(), key.name(), b"LEASE", b"1"]
}

/// Counts, and wakes those who wait no more with what they are told.
fn tell(lock: &Lock) {
    let (woken, expired) = with(lock, |flights| (flights.take_woken(), flights.take_expired()));
    for key in expired {
        tally_flight(lock, &key, Counter::ExpiredLeases);
    }
    // Of many who wait for one answer, most are of one user.
    let mut last = None;
    for Woken { waiter, key, outcome } in woken {
        let user = STATE.with(lock, |state| state.users.get(&waiter).cloned());
        let Some(user) = user else {
            // It is gone already: what it was granted goes to the next.
            if let WaitOutcome::Granted { token, .. } = outcome {
                give_back(lock, &key, token);
            }
            continue;
        };
        let verdict = match outcome {
            WaitOutcome::Completed(hit) => match judge(lock, user, &key, &mut last).0.clone() {
                Some(error) => Verdict::Refused(error),
                None => {
                    tally_flight(lock, &key, Counter::Coalesced);
                    Verdict::Hit(hit)
                }
            },
            WaitOutcome::Granted { token, lease_us } => {
                tally_flight(lock, &key, Counter::Leases);
                let meanwhile = find(lock, &key);
                Verdict::Lease { key, token, lease_us, meanwhile }
            }
            WaitOutcome::BackedOff { left_us } | WaitOutcome::Replaced { left_us } => {
                decide_again(lock, user, &key, left_us, &mut last)
            }
            WaitOutcome::Withdrawn => Verdict::Retired,
            WaitOutcome::Closed => decide_again(lock, user, &key, 0, &mut last),
        };
        STATE.with(lock, |state| state.verdicts.insert(waiter, verdict));
        wake(lock, waiter);
    }
}

/// What was found out last: of a user, at a flight, whether it is refused it, and,
/// once that is asked for, the answer that is there.
type Judged = (Option<User>, FlightKey, (Option<Error>, Option<Option<Found>>));

/// What is known of a user at a flight.
fn judge<'j>(
    lock: &Lock,
    user: Option<User>,
    key: &FlightKey,
    last: &'j mut Option<Judged>,
) -> &'j mut (Option<Error>, Option<Option<Found>>) {
    let known = last.take().filter(|(one, at, _)| *one == user && at == key);
    let known = known.unwrap_or_else(|| {
        let error = user.as_ref().and_then(|user| refused_to(lock, user, key));
        (user, key.clone(), (error, None))
    });
    &mut last.insert(known).2
}

/// What a new call would be told where nobody is granted a lease.
fn decide_again(
    lock: &Lock,
    user: Option<User>,
    key: &FlightKey,
    left_us: Monotonic,
    last: &mut Option<Judged>,
) -> Verdict {
    let (error, found) = judge(lock, user, key, last);
    if let Some(error) = error {
        return Verdict::Refused(error.clone());
    }
    match found.get_or_insert_with(|| find(lock, key)) {
        Some(Found::Fresh(hit)) => {
            tally_flight(lock, key, Counter::Coalesced);
            Verdict::Hit(hit.clone())
        }
        Some(Found::Stale(hit)) => {
            tally_flight(lock, key, Counter::Stale);
            Verdict::Stale(hit.clone())
        }
        None => Verdict::Busy { left_us },
    }
}

/// A lease that nobody has heard of goes to the next.
fn give_back(lock: &Lock, key: &FlightKey, token: Id) {
    with(lock, |flights| flights.release(key.scope(), key.key(), token, None, monotonic()));
}

fn tally_flight(lock: &Lock, key: &FlightKey, counter: Counter) {
    state::tally(lock, key.key(), key.name(), counter, 1);
}

/// Has a client wait that may, for an answer that another caller computes.
pub fn wait(
    lock: &Lock,
    key: &FlightKey,
    client: BlockedClient,
    user: Option<User>,
    token: Option<Id>,
    lease_us: Monotonic,
) {
    let bytes = user.as_ref().map_or(0, User::bytes);
    STATE.with(lock, |state| {
        state.users.insert(client, user);
        state.flights.wait(key, client, token, lease_us, bytes, monotonic());
    });
}

/// Asks for a lease; see [`SingleFlight::lease`].
pub fn lease(
    lock: &Lock,
    key: &FlightKey,
    own: Option<Id>,
    mint: impl FnOnce() -> Id,
    lease_us: Monotonic,
) -> Result<Lease, Refusal> {
    with(lock, |flights| {
        flights.set_limits(limits());
        flights.lease(key, own, mint, lease_us, monotonic())
    })
}

/// Whether [`lease`] would grant one to a caller that has none.
pub fn may_lease(lock: &Lock, key: &FlightKey) -> Result<(), Refusal> {
    with(lock, |flights| {
        flights.set_limits(limits());
        flights.may_lease(key, monotonic())
    })
}

/// What a token may do, asked while its key is open.
pub fn standing(lock: &Lock, place: Place, token: Id) -> Standing {
    with(lock, |flights| match flights.is_idle() {
        true => Standing::Nobody,
        false => flights.standing(&place.flight(), token, monotonic()),
    })
}

/// How long the lease that a token holds lasts still, asked likewise.
pub fn held(lock: &Lock, place: Place, token: Id) -> Option<Monotonic> {
    with(lock, |flights| match flights.is_idle() {
        true => None,
        false => flights.held(&place.flight(), token, monotonic()),
    })
}

/// An answer was set, under a lease or without any: those who wait have it when
/// things are [settled](settle).
pub fn complete(lock: &Lock, place: Place, token: Option<Id>, hit: impl FnOnce() -> Arc<Hit>) {
    with(lock, |flights| {
        if !flights.is_idle() {
            flights.complete(&place.flight(), token, monotonic(), hit);
        }
    });
}

/// Ends the leases at a key, on one version or on all: what was read for them is
/// no longer true. Also where the key is open, or just going.
pub fn invalidate(lock: &Lock, db: i32, key: &[u8], version: Option<&[u8]>) {
    note(lock, |state| state.flights.invalidate(db, key, version));
}

/// Ends the flights to versions that are not in force any more. To be called when
/// that has changed.
pub fn withdraw_retired(lock: &Lock) {
    let admits = |key: &FlightKey| state::admits(lock, key.key(), key.name());
    note(lock, |state| state.flights.withdraw(|key| !admits(key)));
}

/// Callers that wait for an answer.
pub struct Callers;

impl OnUnblock for Callers {
    fn answer(lock: &Lock, client: BlockedClient, reply: Reply) -> Result<(), Error> {
        // It may be decided already, and only not told yet.
        tell(lock);
        let now = monotonic();
        let (verdict, user, awaited) = STATE.with(lock, |state| {
            let awaited = state.flights.waits_for(client, now);
            let awaited = awaited.map(|(key, left_us)| (key.clone(), left_us));
            state.flights.leave(client);
            (state.verdicts.remove(&client), state.users.remove(&client).flatten(), awaited)
        });
        let verdict = match (verdict, awaited) {
            (Some(verdict), _) => verdict,
            (None, None) => Verdict::Busy { left_us: 0 },
            // Its time is over: it is decided once more.
            (None, Some((key, left_us))) => decide_again(lock, user, &key, left_us, &mut None),
        };
        settle_later(lock);
        let fetched = match &verdict {
            Verdict::Hit(hit) => Fetched::Hit(&hit.value, hit.left_ms),
            Verdict::Stale(hit) => Fetched::Stale(&hit.value, hit.left_ms),
            Verdict::Lease { token, lease_us, meanwhile, .. } => {
                let meanwhile =
                    meanwhile.as_ref().map(|(Found::Fresh(hit) | Found::Stale(hit))| &*hit.value);
                Fetched::Lease(*token, millis(*lease_us), meanwhile)
            }
            Verdict::Busy { left_us } => Fetched::Busy(millis(*left_us)),
            Verdict::Retired => Fetched::Retired,
            Verdict::Refused(error) => return Err(error.clone()),
        };
        reply_fetched(reply, &fetched);
        Ok(())
    }

    fn gone(lock: &Lock, client: BlockedClient) {
        let verdict = STATE.with(lock, |state| {
            state.users.remove(&client);
            state.verdicts.remove(&client)
        });
        if let Some(Verdict::Lease { key, token, .. }) = verdict {
            give_back(lock, &key, token);
        }
        with(lock, |flights| flights.leave(client));
        settle_later(lock);
    }

    fn ready(lock: &Lock, client: BlockedClient) {
        note(lock, |state| {
            if let Some((key, _)) = state.flights.waits_for(client, monotonic()) {
                let key = key.clone();
                state.entered.insert(key);
            }
        });
    }
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| match event {
    Event::Flushed(db) => note(lock, |state| state.flights.invalidate_scope(db)),
    Event::Swapped(one, other) => note(lock, |state| {
        for db in [one, other] {
            state.flights.invalidate_scope(Some(db));
        }
    }),
    Event::RoleChanged => {
        with(lock, |flights| flights.clear());
        settle(lock);
    }
    Event::Tick => TIMER.check(lock),
    Event::LoadingStarted | Event::LoadingEnded | Event::LoadingFailed => {}
};
