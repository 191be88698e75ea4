//! Who computes the answer to a question on this node, and who waits for one near it:
//! the semantic cache's [flights](crate::flights).
//!
//! A flight is to one question. Its name is the id that the entry is to have, and the
//! version behind it; what it is near to is decided by its vector, kept with it. Whoever
//! waits has a question of its own, and is told what comes as if it had asked then: each
//! entry that is set, or is led to by a further vector, is held against all who wait at
//! its key. When a lease ends, nobody is handed it. All who wait in the flight are decided
//! anew, in the order in which they came: the first has a flight of its own, and those near
//! it wait in that.

use super::best::Best;
use super::config::{LEASE_BYTES, LEASES, MAX_LEASE};
use super::entry::Entry;
use super::look::{self, Found, Looked, Near, Shown, Unseen};
use super::scan::Returned;
use super::searches;
use super::shelves::Owner;
use super::stats::{self, Counter};
use super::table::{Misfit, Table};
use super::vector::{Code, OwnedCode, Unit};
use crate::bug;
use crate::flights::{self, Again, Domain, Gauges, Room, grants_leases};
use crate::id::Id;
use crate::server::{
    BlockedClient, Config, Error, Event, Listener, Lock, Reply, look_at, monotonic, new_id, now,
};
use crate::singleflight::{About, FlightKey, Lease, Limits, Refusal, Standing, WaitOutcome};
use crate::time::{MICROS_PER_MILLI, Millis, Monotonic, millis};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether a version may be read and filled under a key.
pub type Admits = fn(&Lock, &[u8], &[u8]) -> bool;

/// What is kept of a flight or of one who waits beside vectors and texts, in bytes.
const KEPT_BYTES: usize = 256;

/// What a flight is to.
#[derive(Debug)]
pub struct Question {
    code: OwnedCode,
    embedder: Option<Box<[u8]>>,
    digest: Option<Box<[u8]>>,
    /// From which similarity on its holder takes an answer.
    hit: f64,
    admits: Admits,
}

impl About for Question {
    fn bytes(&self) -> usize {
        KEPT_BYTES + self.code.bytes() + length(&self.embedder) + length(&self.digest)
    }
}

impl Question {
    /// How similar another one is: more than 1 where they are told by the same digest.
    fn similarity(&self, vector: &Unit, digest: Option<&[u8]>) -> Option<f64> {
        if self.code.dim() != vector.dim() {
            return None;
        }
        let is_same = digest.is_some() && digest == self.digest.as_deref();
        Some(if is_same { 2.0 } else { vector.similarity(&self.code.as_ref()) })
    }
}

fn length(text: &Option<Box<[u8]>>) -> usize {
    text.as_ref().map_or(0, |text| text.len())
}

/// What a caller asks for.
#[derive(Debug)]
pub struct Ask {
    /// Of which version.
    pub version: Box<[u8]>,
    /// Its vector.
    pub vector: Unit,
    /// From which similarity on it is answered.
    pub hit: f64,
    /// From which on it may be.
    pub maybe: Option<f64>,
    /// How many entries it takes.
    pub top: usize,
    /// What its vector was made by.
    pub embedder: Option<Box<[u8]>>,
    /// What its question is told by.
    pub digest: Option<Box<[u8]>>,
    /// How long it has, if it is to compute.
    pub lease_us: Monotonic,
    /// The token it brings to do so under, if it does.
    pub token: Option<Id>,
    /// Which versions may be read and filled.
    pub admits: Admits,
    /// Whether it takes what is stale where nothing is a hit.
    pub stale: bool,
    /// Whether it waits in flights.
    pub waits: bool,
    /// Whether it was not decided about yet.
    pub is_new: AtomicBool,
    /// Whether entries have come that nobody held against it.
    pub is_behind: AtomicBool,
    /// What a scan by threads has found for it, without any that was a hit.
    seen: Mutex<Vec<Id>>,
}

impl Ask {
    /// What is asked for, without anything being granted.
    pub fn new(version: &[u8], vector: Unit, near: &Near, admits: Admits) -> Self {
        Self {
            version: version.into(),
            vector,
            hit: near.hit,
            maybe: near.maybe,
            top: near.top,
            embedder: near.embedder.map(Into::into),
            digest: near.digest.map(Into::into),
            lease_us: 0,
            token: None,
            admits,
            stale: near.stale,
            waits: false,
            is_new: AtomicBool::new(true),
            is_behind: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }

    /// What counts as near.
    pub fn near(&self) -> Near<'_> {
        Near {
            hit: self.hit,
            maybe: self.maybe,
            top: self.top,
            embedder: self.embedder.as_deref(),
            digest: self.digest.as_deref(),
            stale: self.stale,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<Id>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is near of what was when a scan was made for it.
    fn look_again(&self, table: &Table, now_ms: Millis) -> Looked {
        let seen = self.seen();
        let among = |serves: &dyn Fn(&Owner) -> bool, maybe| {
            let mut best = Best::new(self.top, self.hit, maybe);
            let similarity = |code: &Code| self.vector.similarity(code);
            table.find_among(seen.iter().copied(), similarity, &self.version, serves, &mut best);
            best
        };
        let stale = among(&|owner| owner.is_stale(now_ms), None);
        let best = among(&|owner| owner.is_fresh(now_ms), self.maybe);
        Looked { best, stale: stale.hits().to_vec() }
    }

    /// How many bytes are kept of it.
    pub fn bytes(&self) -> usize {
        let texts = length(&self.embedder) + length(&self.digest) + self.version.len();
        // What was seen is as much as it takes, of both kinds.
        KEPT_BYTES + self.vector.bytes() + texts + 2 * self.top * size_of::<Id>()
    }

    /// What it computes under, and for how long.
    pub fn lease(&self) -> (Option<Id>, Monotonic) {
        (self.token, self.lease_us)
    }

    /// How similar the question is that a flight is to, if it is near by the caller's own
    /// HIT, or told by the same digest.
    fn is_near(&self, flight: &Key) -> Option<f64> {
        let question = flight.about().filter(|_| is_of(flight.name(), &self.version))?;
        let embedders = question.embedder.as_ref().zip(self.embedder.as_ref());
        if embedders.is_some_and(|(one, other)| one != other) {
            return None;
        }
        let similarity = question.similarity(&self.vector, self.digest.as_deref())?;
        (similarity >= self.hit).then_some(similarity)
    }

    /// Whether another asks for the same.
    fn is_same(&self, other: &Self) -> bool {
        let is_same = self.token == other.token && self.version == other.version;
        let similarity = || other.question().similarity(&self.vector, self.digest.as_deref());
        is_same && similarity().is_some_and(|similarity| similarity >= self.hit)
    }

    /// What a flight of its own is to.
    fn question(&self) -> Question {
        Question {
            code: OwnedCode::of(&self.vector),
            embedder: self.embedder.clone(),
            digest: self.digest.clone(),
            hit: self.hit,
            admits: self.admits,
        }
    }
}

/// The key of a flight to a question.
pub type Key = FlightKey<Question>;

type Flights = flights::Flights<Semantic>;

/// The id that the entry of a flight is to have, and its version.
fn name(id: Id, version: &[u8]) -> Vec<u8> {
    [&id.0, version].concat()
}

/// The id that the entry of a flight is to have.
pub fn id_of(key: &Key) -> Option<Id> {
    key.name().first_chunk().map(|id| Id(*id))
}

fn is_of(name: &[u8], version: &[u8]) -> bool {
    name.get(size_of::<Id>()..) == Some(version)
}

/// What a call is answered: `[status, entries, token | nil, ms]`.
#[derive(Debug)]
pub struct Fetched {
    /// HIT, STALE, MAYBE, LEASE, BUSY or RETIRED.
    pub status: &'static str,
    /// From the best on: how similar, and which.
    pub entries: Vec<(f64, Id)>,
    /// The lease that is granted with it.
    pub lease: Option<(Key, Id)>,
    /// How long the entry, the lease, or what keeps others out lasts still.
    pub ms: Millis,
}

impl Fetched {
    /// Nothing but a status.
    const fn bare(status: &'static str, ms: Millis) -> Self {
        Self { status, entries: Vec::new(), lease: None, ms }
    }

    /// A status with what was found.
    fn with(status: &'static str, entries: Vec<(f64, Id)>, ms: Millis) -> Self {
        Self { status, entries, lease: None, ms }
    }

    /// How long others are kept out, as far as it tells.
    pub fn keeps_out_us(&self) -> Monotonic {
        match self.status {
            "LEASE" | "MAYBE" | "BUSY" => self.ms.saturating_mul(MICROS_PER_MILLI),
            _ => 0,
        }
    }

    /// Answers all but the entries, which are answered in between.
    pub fn reply(&self, reply: Reply, entries: impl FnOnce(Reply)) {
        reply.array(4);
        reply.bytes(self.status.as_bytes());
        entries(reply);
        match &self.lease {
            Some((_, token)) => reply.bytes(&token.text()),
            None => reply.null(),
        }
        reply.integer(i64::try_from(self.ms).unwrap_or(i64::MAX));
    }
}

/// An entry for those who waited for it, copied.
#[derive(Debug)]
pub struct Hit {
    id: Id,
    value: Box<[u8]>,
    prompt: Option<Box<[u8]>>,
    written_at_ms: Millis,
    expires_at_ms: Millis,
}

impl Hit {
    /// A copy of an entry.
    pub fn of(entry: &Entry) -> Arc<Self> {
        let Shown { id, value, prompt, written_at_ms } = Shown::of(entry);
        let (value, prompt) = (value.into(), prompt.map(Into::into));
        let expires_at_ms = entry.lifetime.expires_at_ms;
        Arc::new(Self { id, value, prompt, written_at_ms, expires_at_ms })
    }

    /// What is told of it.
    pub fn shown(&self) -> Shown<'_> {
        let Self { id, value, prompt, written_at_ms, .. } = self;
        let prompt = prompt.as_deref();
        Shown { id: *id, value, prompt, written_at_ms: *written_at_ms }
    }
}

/// What one is told that waited.
pub struct Told {
    fetched: Fetched,
    /// What is told of each of the entries.
    hits: Vec<Arc<Hit>>,
}

/// What a call gets.
pub enum Outcome {
    /// An answer, of whatever kind.
    Now(Fetched),
    /// Somebody computes an answer to what is near: this one could wait in that flight;
    /// else it is answered this.
    Later(Key, Fetched),
    /// That can't be told without a scan by threads.
    Unseen,
}

/// Whether a call may be granted a lease, and is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is made now.
    First,
    /// It is decided anew.
    Again,
    /// Its time is over: it is granted none, and others are kept out for so long still.
    Last(Monotonic),
}

/// Decides a call at a key of a database, whose table it goes with.
pub fn decide(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    table: Option<&Table>,
    ask: &Ask,
    turn: Turn,
    returned: Option<&Returned>,
) -> Outcome {
    let (version, near, now_ms) = (&*ask.version, ask.near(), now() / MICROS_PER_MILLI);
    if !(ask.admits)(lock, key, version) {
        return Outcome::Now(Fetched::bare("RETIRED", 0));
    }
    // All that has come since it asked was held against one who waited, but for what it is
    // behind with: at its end there is nothing to look for, but for what is stale.
    let is_known =
        matches!(turn, Turn::Last(_)) && ask.maybe.is_none() && !ask.is_behind.load(Relaxed);
    let looked_in = table.filter(|table| !is_known || table.has_stale(now_ms));
    let look = |table| near.look(table, version, &ask.vector, now_ms, returned);
    let looked = match (looked_in.map(look).transpose(), table, turn) {
        (Ok(looked), ..) => looked,
        // There is no time for a scan.
        (Err(Unseen), Some(table), Turn::Last(_)) => Some(ask.look_again(table, now_ms)),
        (Err(Unseen), ..) => return Outcome::Unseen,
    };
    let (best, stale) =
        looked.map_or((None, Vec::new()), |looked| (Some(looked.best), looked.stale));
    ask.is_new.store(false, Relaxed);
    if returned.is_some() {
        let found = best.iter().flat_map(|best| best.maybes()).chain(&stale);
        *ask.seen() = found.map(|(_, id)| *id).collect();
    }
    if turn == Turn::First {
        look::count(lock, key, table, best.as_ref());
    }
    let found = best.as_ref().map_or(Found::MISS, Found::of);
    let ends = |entries: &[(f64, Id)], end: fn(&Entry) -> Millis| {
        let first = entries.first().and_then(|(_, id)| table?.get(*id));
        first.map_or(0, |entry| end(entry).saturating_sub(now_ms))
    };
    if found.status == "HIT" {
        if let (Some(table), Turn::Again | Turn::Last(_)) = (table, turn) {
            found.entries.first().into_iter().for_each(|(_, id)| table.touch(*id));
            stats::count(lock, key, Counter::Coalesced, 1);
        }
        let ms = ends(&found.entries, |entry| entry.lifetime.expires_at_ms);
        return Outcome::Now(Fetched::with("HIT", found.entries, ms));
    }
    let maybes = found.entries;
    let lease = match turn {
        Turn::Last(left_us) => Err((None, Refusal::BackedOff(left_us))),
        Turn::First | Turn::Again => lease(lock, (db, key), ask),
    };
    let (flight, refusal) = match lease {
        Ok((flight, Lease { token, left_us })) => {
            let (status, entries) = match (stale.is_empty(), maybes.is_empty()) {
                (true, false) => ("MAYBE", maybes),
                _ => ("LEASE", stale),
            };
            let (lease, ms) = (Some((flight, token)), millis(left_us));
            return Outcome::Now(Fetched { status, entries, lease, ms });
        }
        Err(refused) => refused,
    };
    if !stale.is_empty() {
        stats::count(lock, key, Counter::Stale, 1);
        let ms = ends(&stale, |entry| entry.lifetime.stale_until_ms);
        return Outcome::Now(Fetched::with("STALE", stale, ms));
    }
    let left_us = match refusal {
        Refusal::Leased(left_us) | Refusal::BackedOff(left_us) => left_us,
        Refusal::Full => 0,
    };
    let status = if maybes.is_empty() { "BUSY" } else { "MAYBE" };
    let fetched = Fetched::with(status, maybes, millis(left_us));
    match (flight, refusal) {
        (Some(flight), Refusal::Leased(_)) => Outcome::Later(flight, fetched),
        _ => Outcome::Now(fetched),
    }
}

/// The flight that a call could be in.
pub fn flight_of((db, key): (i32, &[u8]), ask: &Ask) -> Key {
    Key::new(db, key, &name(new_id(), &ask.version))
}

/// Asks for the lease on a question; or what keeps the caller from it, and the flight to
/// what is near.
fn lease(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    ask: &Ask,
) -> Result<(Key, Lease), (Option<Key>, Refusal)> {
    let now = monotonic();
    let taken = flights::look::<Semantic, _>(lock, |flights| {
        // The lease that the caller has already on this question, should it have lost the
        // answer.
        let own = ask.token.and_then(|token| {
            let standings = flights.standings_at(db, key, token, now).into_iter();
            let held = standings.filter_map(|(flight, _)| {
                let left_us = flights.held(&flight, token, now)?;
                Some((ask.is_near(&flight)?, flight, left_us))
            });
            let (_, flight, left_us) = held.max_by(|one, other| one.0.total_cmp(&other.0))?;
            Some((flight, Lease { token, left_us }))
        });
        own.map(Ok).or_else(|| nearest(flights, (db, key), ask, now).map(Err))
    });
    match taken.flatten() {
        Some(Ok(own)) => return Ok(own),
        Some(Err((flight, refusal))) => return Err((Some(flight), refusal)),
        None if !grants_leases(lock) => return Err((None, Refusal::Full)),
        None => {}
    }
    let question = Some(Arc::new(ask.question()));
    let flight = flight_of((db, key), ask).with(question);
    let lease = flights::lease::<Semantic>(lock, &flight, ask.token, new_id, ask.lease_us);
    let lease = lease.map_err(|refusal| (None, refusal))?;
    stats::count(lock, key, Counter::Leases, 1);
    Ok((flight, lease))
}

/// The flight that is nearest to what a caller asks for, by the caller's own HIT, and what
/// keeps others out.
fn nearest(
    flights: &Flights,
    (db, key): (i32, &[u8]),
    ask: &Ask,
    now: Monotonic,
) -> Option<(Key, Refusal)> {
    let near = flights.taken_at(db, key, now);
    let near = near.filter_map(|(flight, refusal)| Some((ask.is_near(flight)?, flight, refusal)));
    let nearest = near.max_by(|one, other| one.0.total_cmp(&other.0))?;
    Some((nearest.1.clone(), nearest.2))
}

/// Whether a vector goes with those of a key: of its table, or, where there is none, of
/// the leases that are open.
pub fn check(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    table: Option<&Table>,
    dim: usize,
    embedder: Option<&[u8]>,
) -> Result<(), Misfit> {
    if let Some(table) = table.filter(|table| table.dim().is_some()) {
        return table.check(dim, embedder);
    }
    let checked = flights::look::<Semantic, _>(lock, |flights| {
        flights.taken_at(db, key, monotonic()).try_for_each(|(flight, _)| {
            let Some(question) = flight.about() else { return Ok(()) };
            match (&question.embedder, embedder) {
                _ if question.code.dim() != dim => Err(Misfit::Dimensions(question.code.dim())),
                (Some(own), Some(other)) if **own != *other => Err(Misfit::Embedder),
                _ => Ok(()),
            }
        })
    });
    checked.unwrap_or(Ok(()))
}

/// What a token may do for the answer to a question, of a version at a key, in which
/// flight; asked while the key is open. A caller that computes more than one answer under
/// a token has a flight for each: it is in the one whose question is nearest.
pub fn standing(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    version: &[u8],
    (vector, digest): (&Unit, Option<&[u8]>),
    token: Id,
) -> Option<(Key, Standing)> {
    flights::look::<Semantic, _>(lock, |flights| {
        let all = flights.standings_at(db, key, token, monotonic());
        let of_version = all.into_iter().filter(|(flight, _)| is_of(flight.name(), version));
        let similar = of_version.map(|(flight, standing)| {
            let similarity = flight.about().and_then(|about| about.similarity(vector, digest));
            (similarity.unwrap_or(f64::NEG_INFINITY), flight, standing)
        });
        // Of equals the first: what is open is before what is over.
        let nearest = similar.reduce(|best, one| if one.0 > best.0 { one } else { best });
        nearest.map(|(_, flight, standing)| (flight, standing))
    })?
}

/// A caller has come with a token: those who came before it and wait with the same make way.
/// Of one who was made to wait until it could be decided about, others may have come after.
/// `waits_in` is the flight that the caller waits in itself, if it does.
pub fn make_way(
    lock: &Lock,
    place: (i32, &[u8]),
    (client, ask): (Option<BlockedClient>, &Ask),
    left_us: Monotonic,
    waits_in: Option<&Key>,
) {
    if let Some(token) = ask.token {
        let is_one = |other: BlockedClient, asked: &Arc<Ask>| {
            client.is_none_or(|client| other < client) && ask.is_same(asked)
        };
        for client in searches::end(lock, place, is_one) {
            flights::keep_out::<Semantic>(lock, client, left_us);
        }
        flights::make_way::<Semantic>(lock, place, (token, left_us), waits_in, is_one);
    }
}

/// An entry that has come, or that more leads to, for those who wait.
pub struct Offer {
    /// The entry, copied.
    hit: Arc<Hit>,
    codes: Vec<OwnedCode>,
    /// From which similarity on it answers.
    threshold: f64,
    digest: Option<Box<[u8]>>,
}

/// Which vectors of an entry an offer is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// All that lead to it.
    All,
    /// The one that was added last: by the others it was offered before.
    Last,
}

impl Offer {
    /// Of an entry of a table.
    pub fn of(table: &Table, entry: &Entry, by: By) -> Self {
        let dim = table.dim().unwrap_or(0);
        let codes = table.codes(entry);
        let codes: Vec<_> = match by {
            By::All => codes.collect(),
            By::Last => codes.last().into_iter().collect(),
        };
        Self {
            hit: Hit::of(entry),
            codes: codes.iter().map(|code| code.to_owned(dim)).collect(),
            threshold: entry.answers_from(),
            digest: entry.texts.digest().map(Into::into),
        }
    }

    /// How similar it is to what a caller asks for, if it is a hit.
    fn similarity(&self, ask: &Ask) -> Option<f64> {
        if ask.digest.is_some() && ask.digest == self.digest {
            return Some(1.0);
        }
        let of_size = self.codes.iter().filter(|code| code.dim() == ask.vector.dim());
        let similarities = of_size.map(|code| ask.vector.similarity(&code.as_ref()));
        let best = similarities.max_by(f64::total_cmp)?;
        (best >= ask.hit && best >= self.threshold).then_some(best)
    }
}

/// Gives an entry to all who wait for what is near it, of a version at a key of a
/// database. They have it when things are [settled](settle).
pub fn offer(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    version: &[u8],
    offer: impl FnOnce() -> Option<Offer>,
) {
    flights::fall_behind::<Semantic>(lock, db, key);
    searches::fall_behind(lock, db, key);
    let waiting = flights::look::<Semantic, _>(lock, |flights| {
        let at = flights.taken_at(db, key, 0).map(|(flight, _)| flight);
        let of_version = at.filter(|flight| is_of(flight.name(), version));
        of_version.flat_map(|flight| flights.waiters_in(flight)).collect::<Vec<_>>()
    });
    let waiting = waiting.unwrap_or_default();
    if waiting.is_empty() {
        return;
    }
    let Some(offer) = offer() else { return };
    for client in waiting {
        let ask = flights::asked::<Semantic>(lock, client);
        if let Some(similarity) = ask.and_then(|ask| offer.similarity(&ask)) {
            let answer = Some((similarity, Arc::clone(&offer.hit)));
            flights::with::<Semantic, _>(lock, |flights| flights.serve(client, answer));
        }
    }
}

/// The same, with an entry that has just been written, by its id.
pub fn offer_entry(lock: &Lock, place: (i32, &[u8]), version: &[u8], id: Id, by: By) {
    offer(lock, place, version, || {
        let (db, key) = place;
        let offered = look_at(lock, db, key, |open| {
            let table = open.value::<Table>().ok()??;
            let now_ms = now() / MICROS_PER_MILLI;
            let fresh = table.get(id).filter(|entry| entry.lifetime.is_fresh(now_ms));
            Some(Offer::of(table, fresh?, by))
        });
        offered.flatten()
    });
}

/// A flight is over: its holder has set an entry, or found one. Who waits in it and has
/// nothing of that is decided anew.
pub fn complete(lock: &Lock, flight: &Key, token: Id) {
    flights::with::<Semantic, _>(lock, |flights| {
        flights.complete(flight, Some(token), monotonic(), || None);
    });
}

/// Ends leases at a key: all of a version, or all, where what was read for them is no
/// longer true. Also where the key is open, or just going.
pub fn invalidate(lock: &Lock, db: i32, key: &[u8], version: Option<&[u8]>) {
    let is_one = |flight: &Key| version.is_none_or(|version| is_of(flight.name(), version));
    flights::note::<Semantic>(lock, |flights| flights.invalidate_if(db, key, is_one));
}

/// Ends the leases at a key on what an entry, which is no longer true, would answer.
pub fn invalidate_near(lock: &Lock, db: i32, key: &[u8], table: &Table, entry: &Entry) {
    let (version, threshold) = (table.version(entry), entry.answers_from());
    let digest = entry.texts.digest();
    flights::note::<Semantic>(lock, |flights| {
        let vectors: Vec<_> = table.codes(entry).map(|code| Unit::kept(&code)).collect();
        flights.invalidate_if(db, key, |flight| {
            let Some(question) = flight.about() else { return false };
            let is_same = digest.is_some() && question.digest.as_deref() == digest;
            let similarities = vectors.iter().map(|one| one.similarity(&question.code.as_ref()));
            let best = similarities.fold(f64::NEG_INFINITY, f64::max);
            let is_near = best >= question.hit && best >= threshold;
            is_of(flight.name(), version) && (is_same || is_near)
        });
    });
}

/// How many leases are open at a key, and how many wait there.
pub fn count_at(lock: &Lock, db: i32, key: &[u8]) -> (usize, usize) {
    let counted = flights::look::<Semantic, _>(lock, |flights| {
        let now = monotonic();
        let at = flights.taken_at(db, key, now);
        let leased = at.filter(|(_, refusal)| matches!(refusal, Refusal::Leased(_)));
        let (_, waiters) = flights.look(db, key, now);
        (leased.count(), waiters)
    });
    counted.unwrap_or((0, 0))
}

/// Hands over what is to be handed over, and wakes those who need wait no more. Called
/// while no key is open.
pub fn settle(lock: &Lock) {
    flights::settle::<Semantic>(lock);
}

/// The semantic cache, as the domain of flights.
pub struct Semantic;

impl Semantic {
    /// Refuses what its key would refuse of a new call.
    fn check(lock: &Lock, key: &Key, ask: &Ask) -> Result<(), Error> {
        let place = (key.scope(), key.key());
        let checked = look_at(lock, key.scope(), key.key(), |open| {
            let (dim, embedder) = (ask.vector.dim(), ask.embedder.as_deref());
            check(lock, place, open.value::<Table>()?, dim, embedder).map_err(Misfit::refusal)
        });
        checked.unwrap_or(Ok(()))
    }

    /// Decides one who waited, with its key's table.
    fn decide(
        lock: &Lock,
        key: &Key,
        ask: &Ask,
        turn: Turn,
        returned: Option<&Returned>,
    ) -> (Outcome, Vec<Arc<Hit>>) {
        let place = (key.scope(), key.key());
        let decided = look_at(lock, key.scope(), key.key(), |open| {
            // What is no table, or of other vectors, has no answer.
            let table = open.value::<Table>().ok().flatten();
            let dim = ask.vector.dim();
            let table = table.filter(|table| table.check(dim, ask.embedder.as_deref()).is_ok());
            let outcome = decide(lock, place, table, ask, turn, returned);
            let found = match &outcome {
                Outcome::Now(fetched) | Outcome::Later(_, fetched) => &*fetched.entries,
                Outcome::Unseen => &[],
            };
            let ids = found.iter();
            let hits = ids.map(|(_, id)| Hit::of(look::entry(table, *id))).collect();
            (outcome, hits)
        });
        decided.unwrap_or_else(|| (decide(lock, place, None, ask, turn, None), Vec::new()))
    }
}

impl Domain for Semantic {
    type About = Question;
    /// The entry and how similar it is; `None` for those who are to be decided anew.
    type Answer = Option<(f64, Arc<Hit>)>;
    type Asked = Arc<Ask>;
    type Told = Told;
    type Seen = ();

    const GAUGES: &'static Gauges = &stats::FLIGHTS;

    const MAX_LEASE: &'static Config = &MAX_LEASE;

    fn room() -> &'static Room<Self> {
        static ROOM: Room<Semantic> = Room::new();
        &ROOM
    }

    fn limits() -> Limits {
        Limits { leases: LEASES.get_count(), bytes: LEASE_BYTES.get_count() }
    }

    fn call_of(key: &Key) -> Vec<&[u8]> {
        // Of eight words, as any.
        let version = key.name().get(size_of::<Id>()..).unwrap_or_default();
        vec![b"ML.SEMFETCH", key.key(), version, b"", b"HIT", b"1", b"LEASE", b"1"]
    }

    fn count_expired(lock: &Lock, key: &Key) {
        stats::count(lock, key.key(), Counter::ExpiredLeases, 1);
    }

    /// All who wait look at what has come.
    fn see_to_entered(lock: &Lock, key: &Key, _: Monotonic) {
        let waiting =
            flights::with::<Self, _>(lock, |flights| flights.waiters_in(key).collect::<Vec<_>>());
        for client in waiting {
            flights::asked::<Self>(lock, client).iter().for_each(Self::fall_behind);
            flights::with::<Self, _>(lock, |flights| flights.serve(client, None));
        }
    }

    fn see_to_unheld(lock: &Lock, key: &Key, _: Monotonic) {
        flights::with::<Self, _>(lock, |flights| match grants_leases(lock) {
            true => flights.disband(key),
            false => flights.give_up(key),
        });
    }

    fn tell(
        lock: &Lock,
        key: &Key,
        outcome: WaitOutcome<Self::Answer>,
        (): &mut (),
    ) -> Result<Told, Again> {
        match outcome {
            WaitOutcome::Completed(Some((similarity, hit))) => {
                stats::count(lock, key.key(), Counter::Coalesced, 1);
                let ms = hit.expires_at_ms.saturating_sub(now() / MICROS_PER_MILLI);
                let fetched = Fetched::with("HIT", vec![(similarity, hit.id)], ms);
                Ok(Told { fetched, hits: vec![hit] })
            }
            WaitOutcome::Completed(None) | WaitOutcome::Closed => Err(Again::AsNew),
            WaitOutcome::BackedOff { left_us } | WaitOutcome::Replaced { left_us } => {
                Err(Again::kept_out_for(left_us))
            }
            WaitOutcome::Granted { token, lease_us } => {
                let lease = Some((key.clone(), token));
                let fetched = Fetched { lease, ..Fetched::bare("LEASE", millis(lease_us)) };
                Ok(Told { fetched, hits: Vec::new() })
            }
            WaitOutcome::Withdrawn => {
                Ok(Told { fetched: Fetched::bare("RETIRED", 0), hits: Vec::new() })
            }
        }
    }

    fn tell_at_the_end(lock: &Lock, ask: &Arc<Ask>, key: &Key, left_us: Monotonic) -> Told {
        match Self::decide(lock, key, ask, Turn::Last(left_us), None) {
            (Outcome::Now(fetched) | Outcome::Later(_, fetched), hits) => Told { fetched, hits },
            (Outcome::Unseen, _) => bug("a scan is wanted that nobody waits for"),
        }
    }

    fn decide_anew(lock: &Lock, client: BlockedClient, ask: &Arc<Ask>, key: &Key) -> Option<Told> {
        let wait = |flight: &Key| {
            ask.waits && flights::wait_again::<Self>(lock, flight, client, ask.bytes(), ask.lease())
        };
        let returned = searches::take_returned(lock, client);
        // All that has come since it asked was held against it, but for what it is behind
        // with: whoever finds a flight near it need look no further.
        let was_behind = ask.is_behind.swap(false, Relaxed);
        if !was_behind && returned.is_none() {
            let place = (key.scope(), key.key());
            let near =
                flights::look::<Self, _>(lock, |flights| nearest(flights, place, ask, monotonic()));
            if let Some((flight, Refusal::Leased(_))) = near.flatten()
                && wait(&flight)
            {
                return None;
            }
        }
        let is_new = ask.is_new.load(Relaxed);
        if is_new && let Err(error) = Self::check(lock, key, ask) {
            flights::conclude::<Self>(lock, client, Err(error));
            return None;
        }
        let turn = if is_new { Turn::First } else { Turn::Again };
        let (outcome, hits) = Self::decide(lock, key, ask, turn, returned.as_ref());
        let make_way = |fetched: &Fetched, waits_in| {
            if is_new {
                let (place, left_us) = ((key.scope(), key.key()), fetched.keeps_out_us());
                make_way(lock, place, (Some(client), ask), left_us, waits_in);
            }
        };
        match outcome {
            Outcome::Later(flight, fetched) if wait(&flight) => {
                make_way(&fetched, Some(&flight));
                stats::count(lock, key.key(), Counter::Waits, is_new.into());
                None
            }
            Outcome::Now(fetched) | Outcome::Later(_, fetched) => {
                make_way(&fetched, None);
                Some(Told { fetched, hits })
            }
            Outcome::Unseen => {
                // Nobody has looked at what it is behind with.
                ask.is_behind.store(was_behind, Relaxed);
                flights::wait_again_to_be_decided::<Self>(lock, client, key);
                searches::fetch(lock, client, key, ask);
                None
            }
        }
    }

    fn leave(lock: &Lock, client: BlockedClient) {
        searches::leave(lock, client);
    }

    fn fall_behind(ask: &Arc<Ask>) {
        ask.is_behind.store(true, Relaxed);
    }

    fn nothing() -> Told {
        Told { fetched: Fetched::bare("BUSY", 0), hits: Vec::new() }
    }

    fn lease_of(told: &Told) -> Option<(&Key, Id)> {
        told.fetched.lease.as_ref().map(|(key, token)| (key, *token))
    }

    fn reply(reply: Reply, told: &Told) {
        let now_ms = now() / MICROS_PER_MILLI;
        told.fetched.reply(reply, |reply| {
            reply.array(told.hits.len());
            for ((similarity, _), hit) in told.fetched.entries.iter().zip(&told.hits) {
                hit.shown().reply(reply, *similarity, now_ms);
            }
        });
    }
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| {
    if matches!(event, Event::VersionsChanged | Event::LoadingEnded) {
        let is_retired = |key: &Key| {
            let version = key.name().get(size_of::<Id>()..).unwrap_or_default();
            key.about().is_some_and(|about| !(about.admits)(lock, key.key(), version))
        };
        flights::note::<Semantic>(lock, |flights| flights.withdraw(is_retired));
    }
    searches::follow(lock, event);
    flights::follow::<Semantic>(lock, event);
};
