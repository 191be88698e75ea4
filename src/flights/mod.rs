//! The flights of a domain on this node: who computes what is missing, who waits for
//! it, and what becomes of those who wait.
//!
//! [`crate::singleflight`] decides; here is when it is asked, and by whom. What
//! takes an answer away ends leases at once, wherever it happens. Who has one next
//! is seen to in [`settle`], between commands or at their ends, when no key is
//! open: whether the answer is there meanwhile, whether the next caller's user may
//! have it, and whether a lease is to be had at all, is asked then, as a new call
//! would be. What an answer is, and who of those that wait it is one for, the domain
//! says ([`Domain`]).

pub mod arguments;
mod commands;

pub use commands::{release, renew};

use crate::id::Id;
use crate::metrics::{Gauge, Share};
use crate::server::{
    BlockedClient, Call, Config, Error, Event, Global, Lock, OnUnblock, Reply, Timer, User,
    avoids_replica_traffic, is_over_maxmemory, is_primary, let_in_anew, monotonic, new_id, wake,
};
use crate::singleflight::{
    About, FlightKey, Lease, Limits, Refusal, SingleFlight, WaitOutcome, Woken,
};
use crate::time::{MICROS_PER_MILLI, Millis, Monotonic, millis};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::marker::PhantomData;

/// What the flights of a domain are to, and what those are told who wait in them.
pub trait Domain: Sized + 'static {
    /// What is known of a flight beside its key.
    type About: About + Send + Sync;
    /// What somebody has who waited for it.
    type Answer: Clone + Send;
    /// What is kept of one who waits.
    type Asked: Clone + Send;
    /// What one is told who waited.
    type Told: Send;
    /// What was found out for one who waits, for the next one of the same user in the
    /// same flight.
    type Seen: Default;

    /// Where the flights are kept.
    fn room() -> &'static Room<Self>;

    /// What INFO tells of them.
    const GAUGES: &'static Gauges;

    /// How long a lease, or a backoff, may be, in milliseconds.
    const MAX_LEASE: &'static Config;

    /// How much may be kept.
    fn limits() -> Limits;

    /// The call of whoever waits in a flight, its name first and its key second.
    fn call_of(key: &Key<Self>) -> Vec<&[u8]>;

    /// Counts a lease that ran out.
    fn count_expired(lock: &Lock, key: &Key<Self>);

    /// Sees to a flight at a key that a value has entered, with somebody waiting.
    fn see_to_entered(lock: &Lock, key: &Key<Self>, now: Monotonic);

    /// Sees to a flight that nobody has the lease of, with somebody waiting.
    fn see_to_unheld(lock: &Lock, key: &Key<Self>, now: Monotonic);

    /// What one who waited is told, whose user may have it; counted. Or how it is to be
    /// decided anew, in its turn.
    fn tell(
        lock: &Lock,
        key: &Key<Self>,
        outcome: WaitOutcome<Self::Answer>,
        seen: &mut Self::Seen,
    ) -> Result<Self::Told, Again>;

    /// What one is told whose time is over: decided once more where nobody is granted a
    /// lease. `left_us` is how long others are kept out still.
    fn tell_at_the_end(
        lock: &Lock,
        asked: &Self::Asked,
        key: &Key<Self>,
        left_us: Monotonic,
    ) -> Self::Told;

    /// What one is told who is decided anew, as a new call is; `None` where it waits again.
    fn decide_anew(
        lock: &Lock,
        client: BlockedClient,
        asked: &Self::Asked,
        key: &Key<Self>,
    ) -> Option<Self::Told>;

    /// Takes note that something has come to the key that nobody held against one who is to
    /// be decided anew.
    fn fall_behind(asked: &Self::Asked);

    /// One waits no more that may have been [to be decided about](wait_to_be_decided) once
    /// something is known.
    fn leave(_lock: &Lock, _client: BlockedClient) {}

    /// What one is told of whom nothing is known any more.
    fn nothing() -> Self::Told;

    /// The lease that somebody is told of.
    fn lease_of(told: &Self::Told) -> Option<(&Key<Self>, Id)>;

    /// Answers what somebody is told.
    fn reply(reply: Reply, told: &Self::Told);
}

/// How one who waited is decided anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// As [a new call](Domain::decide_anew).
    AsNew,
    /// As [at the end](Domain::tell_at_the_end) of its time: others are kept out until
    /// then.
    AtTheEnd(Monotonic),
}

impl Again {
    /// At the end of its time, where others are kept out for so long still.
    pub fn kept_out_for(left_us: Monotonic) -> Self {
        Self::AtTheEnd(monotonic().saturating_add(left_us))
    }
}

/// The key of a domain's flight.
pub type Key<D> = FlightKey<<D as Domain>::About>;

/// The flights of a domain.
pub type Flights<D> = SingleFlight<BlockedClient, <D as Domain>::Answer, <D as Domain>::About>;

/// What INFO tells of flights.
pub struct Gauges {
    /// Leases open, and backoffs not over yet.
    pub open: Gauge,
    /// Leases that ran out or were completed, and are not forgotten.
    pub past: Gauge,
    /// What all of these take of memory, with those who wait.
    pub bytes: Gauge,
    /// Callers that wait.
    pub waiters: Gauge,
}

impl Gauges {
    /// Of no flights.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        let [open, past, bytes, waiters] = [const { Gauge::new() }; 4];
        Self { open, past, bytes, waiters }
    }
}

/// One who waits.
struct Caller<D: Domain> {
    user: Option<User>,
    asked: D::Asked,
    /// Where it is to be decided anew: the flight it was in, and how.
    again: Option<(Key<D>, Again)>,
}

impl<D: Domain> Caller<D> {
    /// Whether it is to be decided anew at a key.
    fn is_anew_at(&self, scope: i32, key: &[u8]) -> bool {
        self.again.as_ref().is_some_and(|(flight, _)| flight.is_at(scope, key))
    }
}

/// What one is told who was woken.
type Verdict<D> = Result<<D as Domain>::Told, Error>;

/// The state of all flights.
struct State<D: Domain> {
    flights: Flights<D>,
    /// Those who wait, or were woken and not told yet.
    callers: HashMap<BlockedClient, Caller<D>>,
    /// What those are told who were woken.
    verdicts: HashMap<BlockedClient, Verdict<D>>,
    /// Flights at keys that a value has entered, with somebody waiting.
    entered: BTreeSet<Key<D>>,
    /// Those who are to be decided anew, or were and have left; by arrival.
    anew: VecDeque<BlockedClient>,
    /// Whether INFO tells that there is nothing.
    told: bool,
    open: Share,
    past: Share,
    bytes: Share,
    waiters: Share,
}

impl<D: Domain> Default for State<D> {
    fn default() -> Self {
        Self {
            flights: Flights::<D>::default(),
            callers: HashMap::new(),
            verdicts: HashMap::new(),
            entered: BTreeSet::new(),
            anew: VecDeque::new(),
            told: true,
            open: Share::none_of(&D::GAUGES.open),
            past: Share::none_of(&D::GAUGES.past),
            bytes: Share::none_of(&D::GAUGES.bytes),
            waiters: Share::none_of(&D::GAUGES.waiters),
        }
    }
}

impl<D: Domain> State<D> {
    /// Whether there is nothing to see to, and nothing was.
    fn is_idle(&self) -> bool {
        self.flights.is_settled() && self.entered.is_empty() && self.anew.is_empty() && self.told
    }

    /// Whether somebody waits for no more than to be told.
    fn is_to_be_seen_to(&self) -> bool {
        self.flights.next_unheld().is_some()
            || self.flights.has_woken()
            || !self.entered.is_empty()
            || !self.anew.is_empty()
    }

    /// When there is something to do next, if there is.
    fn next_due(&self, now: Monotonic) -> Option<Monotonic> {
        let is_due = self.is_to_be_seen_to() || self.flights.is_behind(now);
        if is_due { Some(now) } else { self.flights.next_end() }
    }

    fn count(&mut self) {
        self.told = self.flights.is_idle() && self.callers.is_empty();
        self.open.set(self.flights.open());
        self.past.set(self.flights.remembered());
        self.bytes.set(self.flights.bytes());
        // In a flight, or to be decided anew, be it once something is known.
        self.waiters.set(self.callers.len().saturating_sub(self.verdicts.len()));
    }
}

/// Where the flights of a domain are kept.
pub struct Room<D: Domain> {
    state: Global<State<D>>,
    timer: Timer,
}

impl<D: Domain> Room<D> {
    /// One without flights.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { state: Global::new(), timer: Timer::new(settle::<D>) }
    }
}

/// How long after a refusal to hand leases over for want of writes it is tried
/// again, in microseconds.
const LATER_US: Monotonic = 100 * MICROS_PER_MILLI;

/// How long those are seen to at once who are to be decided anew, in microseconds: others
/// have their turn then.
const TURN_US: Monotonic = 5 * MICROS_PER_MILLI;

/// A turn that begins now: tells whether it is over.
pub fn turn() -> impl Fn() -> bool {
    let until = monotonic().saturating_add(TURN_US);
    move || monotonic() >= until
}

fn with_state<D: Domain, R>(lock: &Lock, work: impl FnOnce(&mut State<D>) -> R) -> R {
    D::room().state.with(lock, work)
}

/// Works on the flights. Nobody is woken by that before [`settle`].
pub fn with<D: Domain, R>(lock: &Lock, work: impl FnOnce(&mut Flights<D>) -> R) -> R {
    with_state::<D, R>(lock, |state| work(&mut state.flights))
}

/// Works on the flights where keys may be open, or are just going: those whose
/// waits are over by that are seen to when the server is through with it.
pub fn note<D: Domain>(lock: &Lock, work: impl FnOnce(&mut Flights<D>)) {
    note_state::<D>(lock, |state| work(&mut state.flights));
}

fn note_state<D: Domain>(lock: &Lock, work: impl FnOnce(&mut State<D>)) {
    let is_to_be_seen_to = with_state::<D, _>(lock, |state| {
        if state.flights.is_idle() {
            return false;
        }
        work(state);
        state.count();
        state.is_to_be_seen_to()
    });
    if is_to_be_seen_to {
        D::room().timer.set(lock, monotonic());
    }
}

/// Has what a call has changed seen to when the server is through with it. Also
/// where keys are open, and before an answer is begun: nothing of it can fail then.
pub fn settle_later<D: Domain>(lock: &Lock) {
    count_expired::<D>(lock);
    let next = with_state::<D, _>(lock, |state| {
        if state.is_idle() {
            return None;
        }
        state.count();
        state.next_due(monotonic())
    });
    if let Some(next) = next {
        D::room().timer.set(lock, next);
    }
}

/// Hands over what is to be handed over, and wakes those who need wait no more.
/// Called while no key is open.
pub fn settle<D: Domain>(lock: &Lock) {
    if with_state::<D, _>(lock, |state| state.is_idle()) {
        return;
    }
    let (now, paused, is_over) = (monotonic(), avoids_replica_traffic(lock), turn());
    with_state::<D, _>(lock, |state| {
        state.flights.set_limits(D::limits());
        if !paused {
            state.flights.advance(now);
        }
    });
    while let Some(key) = with_state::<D, _>(lock, |state| state.entered.pop_first()) {
        D::see_to_entered(lock, &key, now);
        if is_over() {
            break;
        }
    }
    while !paused && let Some(key) = with::<D, _>(lock, |flights| flights.next_unheld()) {
        D::see_to_unheld(lock, &key, now);
        if is_over() {
            break;
        }
    }
    tell::<D>(lock);
    if !paused || !is_primary(lock) {
        decide_anew::<D>(lock, is_over);
    }
    let next = with_state::<D, _>(lock, |state| {
        state.count();
        state.next_due(now)
    });
    if let Some(next) = next {
        // What was due and could not be done is tried again a little later.
        D::room().timer.set(lock, if paused { next.max(now + LATER_US) } else { next });
    }
}

/// Decides those anew who are to be, until their turn is over.
fn decide_anew<D: Domain>(lock: &Lock, is_over: impl Fn() -> bool) {
    while let Some(client) = with_state::<D, _>(lock, |state| state.anew.pop_front()) {
        let caller = with_state::<D, _>(lock, |state| {
            let caller = state.callers.get_mut(&client)?;
            Some((caller.asked.clone(), caller.user.clone(), caller.again.take()?))
        });
        let Some((asked, user, (key, again))) = caller else { continue };
        let verdict = match again {
            Again::AsNew if is_primary(lock) => match refused::<D>(lock, client, &key) {
                Some(error) => Some(Err(error)),
                None => D::decide_anew(lock, client, &asked, &key).map(Ok),
            },
            again => Some(at_the_end::<D>(lock, user.as_ref(), &asked, &key, again)),
        };
        if let Some(verdict) = verdict {
            conclude::<D>(lock, client, verdict);
        }
        if is_over() {
            break;
        }
    }
}

/// What one is told whose time is over.
fn at_the_end<D: Domain>(
    lock: &Lock,
    user: Option<&User>,
    asked: &D::Asked,
    key: &Key<D>,
    again: Again,
) -> Verdict<D> {
    let left_us = match again {
        Again::AsNew => 0,
        Again::AtTheEnd(until) => until.saturating_sub(monotonic()),
    };
    match user.and_then(|user| refused_to::<D>(lock, user, key)) {
        Some(error) => Err(error),
        None => Ok(D::tell_at_the_end(lock, asked, key, left_us)),
    }
}

/// Wakes somebody with what it is told.
pub fn conclude<D: Domain>(lock: &Lock, client: BlockedClient, verdict: Verdict<D>) {
    with_state::<D, _>(lock, |state| state.verdicts.insert(client, verdict));
    wake(lock, client);
}

/// Has the one that has waited longest compute, if it may and leases are to be
/// had.
pub fn grant_next<D: Domain>(lock: &Lock, key: &Key<D>, now: Monotonic) {
    let first = with::<D, _>(lock, |flights| flights.first_waiter(key));
    let refused = first.and_then(|client| Some((client, refused::<D>(lock, client, key)?)));
    if let Some((client, error)) = refused {
        with::<D, _>(lock, |flights| flights.leave(client));
        conclude::<D>(lock, client, Err(error));
    } else if grants_leases(lock) {
        with::<D, _>(lock, |flights| flights.hand_over(key, new_id, now));
    } else {
        with::<D, _>(lock, |flights| flights.give_up(key));
    }
}

/// Whether leases are granted: where this server decides, and has memory.
pub fn grants_leases(lock: &Lock) -> bool {
    is_primary(lock) && !is_over_maxmemory(lock)
}

/// Why a client may not compute, or no longer, what it waits for.
fn refused<D: Domain>(lock: &Lock, client: BlockedClient, key: &Key<D>) -> Option<Error> {
    let user = with_state::<D, _>(lock, |state| {
        state.callers.get(&client).and_then(|caller| caller.user.clone())
    });
    let_in_anew(lock, user.as_ref(), key.scope(), &D::call_of(key), 1).err()
}

/// Counts the leases that ran out, as soon as that is seen.
fn count_expired<D: Domain>(lock: &Lock) {
    for key in with::<D, _>(lock, |flights| flights.take_expired()) {
        D::count_expired(lock, &key);
    }
}

/// Counts, and wakes those who wait no more with what they are told.
fn tell<D: Domain>(lock: &Lock) {
    count_expired::<D>(lock);
    let woken = with::<D, _>(lock, |flights| flights.take_woken());
    // Of many who wait for one answer, most are of one user.
    let mut last = None;
    for Woken { waiter, key, outcome } in woken {
        let user = with_state::<D, _>(lock, |state| {
            state.callers.get(&waiter).map(|caller| caller.user.clone())
        });
        let Some(user) = user else {
            // It is gone already: what it was granted goes to the next.
            if let WaitOutcome::Granted { token, .. } = outcome {
                give_back::<D>(lock, &key, token);
            }
            continue;
        };
        let judged = judge::<D>(lock, user, &key, &mut last);
        let is_asked = !matches!(outcome, WaitOutcome::Granted { .. } | WaitOutcome::Withdrawn);
        let verdict = match &judged.error {
            Some(error) if is_asked => Err(error.clone()),
            _ => match D::tell(lock, &key, outcome, &mut judged.seen) {
                Ok(told) => Ok(told),
                Err(again) => {
                    with_state::<D, _>(lock, |state| {
                        let caller = state.callers.get_mut(&waiter);
                        caller.into_iter().for_each(|one| one.again = Some((key.clone(), again)));
                        state.anew.push_back(waiter);
                    });
                    continue;
                }
            },
        };
        conclude::<D>(lock, waiter, verdict);
    }
}

/// What was found out of a user at a flight.
struct Judged<D: Domain> {
    user: Option<User>,
    key: Key<D>,
    /// Why it is refused what it waited for, if it is.
    error: Option<Error>,
    seen: D::Seen,
}

/// What is known of a user at a flight, which may have been found out last.
fn judge<'j, D: Domain>(
    lock: &Lock,
    user: Option<User>,
    key: &Key<D>,
    last: &'j mut Option<Judged<D>>,
) -> &'j mut Judged<D> {
    let known = last.take().filter(|known| known.user == user && known.key == *key);
    let known = known.unwrap_or_else(|| {
        let error = user.as_ref().and_then(|user| refused_to::<D>(lock, user, key));
        Judged { user, key: key.clone(), error, seen: D::Seen::default() }
    });
    last.insert(known)
}

/// Why a client's user may not have, or no longer, what it waits for.
fn refused_to<D: Domain>(lock: &Lock, user: &User, key: &Key<D>) -> Option<Error> {
    user.may(lock, key.scope(), &D::call_of(key), 1).err()
}

/// A lease that nobody has heard of goes to the next.
fn give_back<D: Domain>(lock: &Lock, key: &Key<D>, token: Id) {
    let now = monotonic();
    with::<D, _>(lock, |flights| flights.release(key.scope(), key.key(), token, None, now));
}

/// Has the caller wait in a flight, if it may, at most so long; whether it does. `bytes`
/// is what `asked` takes, `token` what it would compute under, for so long.
pub fn wait<D: Domain>(
    call: &Call,
    flight: &Key<D>,
    asked: D::Asked,
    bytes: usize,
    (token, lease_us): (Option<Id>, Monotonic),
    at_most: Millis,
) -> bool {
    let lock = call.lock();
    let user = call.may_wait().then(|| call.user());
    let Some(user) = user else { return false };
    let bytes = bytes + user.as_ref().map_or(0, User::bytes);
    if !with::<D, _>(&lock, |flights| flights.may_wait(flight, bytes)) {
        return false;
    }
    let Some(client) = call.wait::<Callers<D>>(&lock, flight.key(), at_most) else { return false };
    with_state::<D, _>(&lock, |state| {
        state.callers.insert(client, Caller { user, asked, again: None });
        state.flights.wait(flight, client, token, lease_us, bytes, monotonic());
    });
    true
}

/// Has the caller wait until what is needed to decide about it is known, if it may, at most
/// so long, or for as long as it takes (0): it is in a flight by name only. Then it is to be
/// [decided about](decide_again).
pub fn wait_to_be_decided<D: Domain>(
    call: &Call,
    flight: &Key<D>,
    asked: D::Asked,
    at_most: Millis,
) -> Option<BlockedClient> {
    let lock = call.lock();
    let user = call.may_wait().then(|| call.user())?;
    let client = call.wait::<Callers<D>>(&lock, flight.key(), at_most)?;
    let again = Some((flight.clone(), Again::AsNew));
    with_state::<D, _>(&lock, |state| {
        state.callers.insert(client, Caller { user, asked, again });
    });
    Some(client)
}

/// The same, of one who is decided anew.
pub fn wait_again_to_be_decided<D: Domain>(lock: &Lock, client: BlockedClient, flight: &Key<D>) {
    with_state::<D, _>(lock, |state| {
        let caller = state.callers.get_mut(&client);
        caller.into_iter().for_each(|one| one.again = Some((flight.clone(), Again::AsNew)));
    });
}

/// Has one who waits for that decided about, when things are [settled](settle).
pub fn decide_again<D: Domain>(lock: &Lock, client: BlockedClient) {
    with_state::<D, _>(lock, |state| state.anew.push_back(client));
}

/// Has one who is decided anew wait in another flight; whether there is room, and nobody
/// waits there who came later with its token.
pub fn wait_again<D: Domain>(
    lock: &Lock,
    flight: &Key<D>,
    client: BlockedClient,
    bytes: usize,
    (token, lease_us): (Option<Id>, Monotonic),
) -> bool {
    with_state::<D, _>(lock, |state| {
        let user = state.callers.get(&client).and_then(|caller| caller.user.as_ref());
        let bytes = bytes + user.map_or(0, User::bytes);
        let other = token.and_then(|token| state.flights.awaited_by(flight, token));
        let may = other.is_none_or(|other| other < client) && state.flights.may_wait(flight, bytes);
        if may {
            state.flights.wait(flight, client, token, lease_us, bytes, monotonic());
        }
        may
    })
}

/// What is kept of one who waits, or is decided anew.
pub fn asked<D: Domain>(lock: &Lock, client: BlockedClient) -> Option<D::Asked> {
    with_state::<D, _>(lock, |state| state.callers.get(&client).map(|one| one.asked.clone()))
}

/// Has those who wait at a key, or are to be decided anew there, make way for a caller
/// that came later with their token, by which others are kept out for so long still: those
/// that `is_one` says came earlier and have asked for the same. In the flight that the caller
/// waits in itself, that was seen to.
pub fn make_way<D: Domain>(
    lock: &Lock,
    (scope, key): (i32, &[u8]),
    (token, left_us): (Id, Monotonic),
    waits_in: Option<&Key<D>>,
    is_one: impl Fn(BlockedClient, &D::Asked) -> bool,
) {
    with_state::<D, _>(lock, |state| {
        let State { flights, callers, anew, .. } = state;
        for (client, flight) in flights.waiting_with(scope, key, token) {
            let is_one = callers.get(&client).is_some_and(|caller| is_one(client, &caller.asked));
            if is_one && waits_in != Some(&flight) {
                flights.replace(client, left_us);
            }
        }
        for client in anew {
            let caller = callers.get_mut(client).filter(|one| one.is_anew_at(scope, key));
            if let Some(Caller { asked, again: Some((_, again)), .. }) = caller
                && is_one(*client, asked)
            {
                *again = Again::kept_out_for(left_us);
            }
        }
    });
}

/// Has one that is to be decided about, once something is known, make way for a caller that
/// came later with its token, by which others are kept out for so long still.
pub fn keep_out<D: Domain>(lock: &Lock, client: BlockedClient, left_us: Monotonic) {
    with_state::<D, _>(lock, |state| {
        let again = state.callers.get_mut(&client).and_then(|caller| caller.again.as_mut());
        again.into_iter().for_each(|(_, again)| *again = Again::kept_out_for(left_us));
    });
}

/// Takes note that something has come to a key for those who are to be decided anew there,
/// and were in no flight.
pub fn fall_behind<D: Domain>(lock: &Lock, scope: i32, key: &[u8]) {
    with_state::<D, _>(lock, |state| {
        let anew = state.anew.iter().filter_map(|client| state.callers.get(client));
        anew.filter(|one| one.is_anew_at(scope, key)).for_each(|one| D::fall_behind(&one.asked));
    });
}

/// Asks for a lease; see [`SingleFlight::lease`].
pub fn lease<D: Domain>(
    lock: &Lock,
    key: &Key<D>,
    own: Option<Id>,
    mint: impl FnOnce() -> Id,
    lease_us: Monotonic,
) -> Result<Lease, Refusal> {
    with::<D, _>(lock, |flights| {
        flights.set_limits(D::limits());
        flights.lease(key, own, mint, lease_us, monotonic())
    })
}

/// Whether [`lease`] would grant one to a caller that has none.
pub fn may_lease<D: Domain>(lock: &Lock, key: &Key<D>) -> Result<(), Refusal> {
    with::<D, _>(lock, |flights| {
        flights.set_limits(D::limits());
        flights.may_lease(key, monotonic())
    })
}

/// Looks at the flights, asked while a key is open; `None` if there are none.
pub fn look<D: Domain, R>(lock: &Lock, look: impl FnOnce(&mut Flights<D>) -> R) -> Option<R> {
    with::<D, _>(lock, |flights| (!flights.is_idle()).then(|| look(flights)))
}

/// What a holder took to compute, who has done so since then: in milliseconds, 1 at least.
pub fn took_ms(since: Monotonic) -> u32 {
    let took_ms = millis(monotonic().saturating_sub(since)).max(1);
    u32::try_from(took_ms).unwrap_or(u32::MAX)
}

/// Callers that wait for an answer.
pub struct Callers<D>(PhantomData<D>);

impl<D: Domain> OnUnblock for Callers<D> {
    fn answer(lock: &Lock, client: BlockedClient, reply: Reply) -> Result<(), Error> {
        // It may be decided already, and only not told yet.
        tell::<D>(lock);
        let now = monotonic();
        let (verdict, caller, awaited) = with_state::<D, _>(lock, |state| {
            let awaited = state.flights.waits_for(client, now);
            let awaited = awaited.map(|(key, left_us)| (key.clone(), Again::kept_out_for(left_us)));
            state.flights.leave(client);
            (state.verdicts.remove(&client), state.callers.remove(&client), awaited)
        });
        D::leave(lock, client);
        let verdict = match (verdict, caller) {
            (Some(verdict), _) => verdict,
            // Its time is over: it is decided once more.
            (None, Some(Caller { user, asked, again })) => match awaited.or(again) {
                Some((key, again)) => at_the_end::<D>(lock, user.as_ref(), &asked, &key, again),
                None => Ok(D::nothing()),
            },
            (None, None) => Ok(D::nothing()),
        };
        settle_later::<D>(lock);
        D::reply(reply, &verdict?);
        Ok(())
    }

    fn gone(lock: &Lock, client: BlockedClient) {
        let verdict = with_state::<D, _>(lock, |state| {
            state.callers.remove(&client);
            state.verdicts.remove(&client)
        });
        if let Some(Ok(told)) = verdict
            && let Some((key, token)) = D::lease_of(&told)
        {
            give_back::<D>(lock, key, token);
        }
        with::<D, _>(lock, |flights| flights.leave(client));
        D::leave(lock, client);
        settle_later::<D>(lock);
    }

    fn ready(lock: &Lock, client: BlockedClient) {
        // It may be to be decided anew, with no flight open.
        with_state::<D, _>(lock, |state| {
            let caller = state.callers.get(&client);
            caller.into_iter().for_each(|caller| D::fall_behind(&caller.asked));
        });
        note_state::<D>(lock, |state| {
            if let Some((key, _)) = state.flights.waits_for(client, monotonic()) {
                state.entered.insert(key.clone());
            }
        });
    }
}

/// Follows what happens to the server as a whole.
pub fn follow<D: Domain>(lock: &Lock, event: Event) {
    if !matches!(event, Event::Tick | Event::VersionsChanged) {
        // What keys hold now, nobody who waits was held against.
        with_state::<D, _>(lock, |state| {
            state.callers.values().for_each(|caller| D::fall_behind(&caller.asked));
        });
    }
    match event {
        Event::Flushed(db) => note::<D>(lock, |flights| flights.invalidate_scope(db)),
        Event::Swapped(one, other) => note::<D>(lock, |flights| {
            for db in [one, other] {
                flights.invalidate_scope(Some(db));
            }
        }),
        Event::RoleChanged => {
            with::<D, _>(lock, |flights| flights.clear());
            settle::<D>(lock);
        }
        Event::Tick => D::room().timer.check(lock),
        Event::LoadingStarted
        | Event::LoadingEnded
        | Event::LoadingFailed
        | Event::VersionsChanged => {}
    }
}
