//! Who waits for a [scan] by threads on this node.
//!
//! Where a key holds more than is scanned at once, its callers are searched for one after
//! the other: as many as there are threads, and as many again that are next, with what
//! their keys hold then; the others wait in order. What comes back is only what was near
//! when it began. Whoever asked is then decided about like a new call: whether its user may
//! have it, whether the key is there, the version in force. So is at once whoever's scan
//! has lost its object, because the key was taken away.
//!
//! Callers of ML.SEMGET are answered from here. Those of ML.SEMFETCH belong to the
//! [flights](crate::flights), which decide about them. Of those that waited in a flight one
//! a key is searched for at a time: those behind it may be near what it is to compute.

use super::config::{INLINE_BYTES, LEASE_BYTES, THREADS};
use super::leases::{Ask, Hit, Key, Semantic};
use super::look::{self, Found, Unseen};
use super::scan::{Returned, Scan, Scanned};
use super::stats::{SCANNING, SCANS, SCANS_GIVEN_UP};
use super::table::{Misfit, Table};
use crate::flights;
use crate::id::Id;
use crate::pool::Done;
use crate::server::{
    BlockedClient, Call, Error, Event, Global, Lock, OnUnblock, Reply, Timer, User, Workers,
    let_in_anew, look_at, monotonic, now, refuse, wake,
};
use crate::time::MICROS_PER_MILLI;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Of how many entries the thresholds may change during a scan. They are looked at once
/// more when it is through, while everybody waits; where they are more, it begins again.
const MOST_CHANGED: usize = 1_000;

/// A key of a database.
type Place = (i32, Box<[u8]>);

/// One who is searched for.
struct Search {
    place: Place,
    ask: Arc<Ask>,
    asker: Asker,
    /// What is kept of it.
    bytes: usize,
    stage: Stage,
}

/// Whose answer it is to be.
enum Asker {
    /// A user's, by ML.SEMGET.
    Get(Option<User>),
    /// That of ML.SEMFETCH: the flights decide about it.
    Fetch,
}

/// How far a search is.
enum Stage {
    /// It waits for a thread, or is to be decided about.
    Waiting,
    /// It waits for the one that is searched for at its key.
    Behind,
    /// A thread has it, or is to have it next; the thresholds of some entries have changed
    /// meanwhile.
    Running { scan: Arc<Scan>, changed: BTreeSet<Id> },
}

/// What a caller of ML.SEMGET is told.
struct Told {
    status: &'static str,
    entries: Vec<(f64, Arc<Hit>)>,
}

#[derive(Default)]
struct State {
    searches: HashMap<BlockedClient, Search>,
    /// Those that wait for a thread, in order.
    waiting: VecDeque<BlockedClient>,
    /// Those that are running.
    running: Vec<BlockedClient>,
    /// Those behind another, by the key of the search that they are behind.
    behind: BTreeMap<Place, VecDeque<BlockedClient>>,
    /// What has come back, and is to be seen to.
    done: VecDeque<Done<Arc<Scan>>>,
    /// Those to be decided about, without anything that was found.
    due: VecDeque<BlockedClient>,
    /// What was found for those whom the flights decide about next.
    returned: HashMap<BlockedClient, (Place, Returned)>,
    /// What callers of ML.SEMGET are told that are woken.
    told: HashMap<BlockedClient, Result<Told, Error>>,
    /// What is kept of all that are searched for.
    bytes: usize,
}

static STATE: Global<State> = Global::new();

static WORKERS: Workers<Arc<Scan>> = Workers::new(see_to_soon);

/// What is decided is decided between commands: timers run in no command that lets others
/// in, and not while a data set is loaded.
static TIMER: Timer = Timer::new(settle);

fn see_to_soon(lock: &Lock) {
    TIMER.set(lock, monotonic());
}

impl Search {
    /// Whether others can be behind it: those that waited in flights.
    fn leads(&self) -> bool {
        matches!(self.asker, Asker::Fetch) && !self.ask.is_new.load(Relaxed)
    }
}

impl State {
    /// Takes one out, and has those behind it decided about.
    fn remove(&mut self, client: BlockedClient) -> Option<Search> {
        let search = self.searches.remove(&client)?;
        self.running.retain(|one| *one != client);
        self.bytes -= search.bytes;
        SCANNING.add(-1);
        if matches!(search.stage, Stage::Behind) {
            let behind = self.behind.get_mut(&search.place);
            behind.into_iter().for_each(|behind| behind.retain(|one| *one != client));
        } else if search.leads() {
            self.due.extend(self.behind.remove(&search.place).unwrap_or_default());
        }
        Some(search)
    }

    /// The same, of one whom nobody waits for any more.
    fn abandon(&mut self, client: BlockedClient) -> Option<Search> {
        self.returned.remove(&client);
        let search = self.remove(client)?;
        if let Stage::Running { scan, .. } = &search.stage {
            give_up(scan);
        }
        Some(search)
    }

    /// Has those decided about whose scans are of no use any more. `ends` says which, of the
    /// key and the entries whose thresholds have changed.
    fn end_scans(&mut self, mut ends: impl FnMut(&Place, &mut BTreeSet<Id>) -> bool) {
        self.returned.retain(|_, (place, returned)| !ends(place, &mut returned.changed));
        let Self { searches, running, due, .. } = self;
        running.retain(|client| {
            let Some(search) = searches.get_mut(client) else { return false };
            if let Stage::Running { scan, changed } = &mut search.stage
                && ends(&search.place, changed)
            {
                give_up(scan);
                search.stage = Stage::Waiting;
                due.push_back(*client);
                return false;
            }
            true
        });
    }
}

fn give_up(scan: &Scan) {
    scan.give_up();
    SCANS_GIVEN_UP.increment();
}

/// Has a caller of ML.SEMGET wait for a scan of a key, which is open for reading at most.
pub fn get(call: &Call, key: &[u8], ask: Ask) -> Result<(), Error> {
    let lock = call.lock();
    let user = call.may_wait().then(|| call.user());
    let user = user.ok_or_else(cannot_wait)?;
    check_room(&lock, &ask)?;
    let client = call.wait_beside::<Callers>(&lock, key, 0).ok_or_else(cannot_wait)?;
    begin(&lock, client, (call.db(), key), Arc::new(ask), Asker::Get(user));
    Ok(())
}

/// Has a caller of ML.SEMFETCH, in a flight, wait for a scan of its key, which is open for
/// reading at most.
pub fn fetch(lock: &Lock, client: BlockedClient, flight: &Key, ask: &Arc<Ask>) {
    begin(lock, client, (flight.scope(), flight.key()), Arc::clone(ask), Asker::Fetch);
}

/// Why a client is not answered that would have to wait for a scan, and can't.
pub fn cannot_wait() -> Error {
    refuse(format!(
        "key holds more than {} bytes of vectors (ml.semantic-inline-bytes): threads scan them \
         while the client waits, which it can't in MULTI, in scripts and wherever else clients \
         are not blocked",
        INLINE_BYTES.get()
    ))
}

/// Whether another can be kept that waits for a scan.
pub fn check_room(lock: &Lock, ask: &Ask) -> Result<(), Error> {
    let bytes = STATE.with(lock, |state| state.bytes);
    if bytes + ask.bytes() <= LEASE_BYTES.get_count() {
        return Ok(());
    }
    Err(refuse("too many callers wait for scans (ml.semantic-max-lease-bytes)"))
}

fn begin(lock: &Lock, client: BlockedClient, (db, key): (i32, &[u8]), ask: Arc<Ask>, asker: Asker) {
    let bytes = ask.bytes();
    let mut search = Search { place: (db, key.into()), ask, asker, bytes, stage: Stage::Waiting };
    STATE.with(lock, |state| {
        let leads = search.leads();
        if let Some(behind) = state.behind.get_mut(&search.place).filter(|_| leads) {
            behind.push_back(client);
            search.stage = Stage::Behind;
        } else {
            if leads {
                state.behind.insert(search.place.clone(), VecDeque::new());
            }
            // What comes from now on is held against it by its scan.
            search.ask.is_behind.store(true, Relaxed);
            state.waiting.push_back(client);
        }
        state.bytes += bytes;
        SCANNING.add(1);
        state.searches.insert(client, search);
    });
    hand_out(lock);
}

/// Has those searched for that are next, as long as there is room, until their turn is over.
fn hand_out(lock: &Lock) {
    let is_any = || STATE.with(lock, |state| !state.waiting.is_empty());
    let is_over = flights::turn();
    while is_any() && WORKERS.has_room(lock, THREADS.get_count()) {
        if is_over() {
            return see_to_soon(lock);
        }
        let next = STATE.with(lock, |state| {
            let client = state.waiting.pop_front()?;
            let search = state.searches.get(&client)?;
            let waits = matches!(search.stage, Stage::Waiting);
            waits.then(|| (client, search.place.clone(), Arc::clone(&search.ask)))
        });
        let Some((client, (db, key), ask)) = next else { continue };
        let scan = look_at(lock, db, &key, |open| {
            let table = open.value::<Table>().ok()??;
            table.check(ask.vector.dim(), ask.embedder.as_deref()).ok()?;
            Some(Arc::new(Scan::new(client, &ask, table, now() / MICROS_PER_MILLI)?))
        });
        let scan = scan.flatten().filter(|scan| WORKERS.hand_out(lock, Arc::clone(scan)).is_ok());
        let is_running = STATE.with(lock, |state| {
            match scan.zip(state.searches.get_mut(&client)) {
                Some((scan, search)) => {
                    search.stage = Stage::Running { scan, changed: BTreeSet::new() };
                    state.running.push(client);
                    true
                }
                // There is nothing to scan.
                None => {
                    state.due.push_back(client);
                    false
                }
            }
        });
        if !is_running {
            see_to_soon(lock);
        }
    }
}

/// Sees to what has come back, and to those who are to be decided about, until their turn is
/// over. Called while no key is open.
fn settle(lock: &Lock) {
    let is_over = flights::turn();
    let done = WORKERS.take_done(lock);
    STATE.with(lock, |state| state.done.extend(done));
    while !is_over()
        && let Some((scan, outcome)) = STATE.with(lock, |state| state.done.pop_front())
    {
        came_back(lock, scan, outcome);
    }
    while !is_over()
        && let Some(client) = STATE.with(lock, |state| state.due.pop_front())
    {
        let search = STATE.with(lock, |state| state.abandon(client));
        search.into_iter().for_each(|search| decide(lock, client, search, None));
    }
    if STATE.with(lock, |state| !state.done.is_empty() || !state.due.is_empty()) {
        see_to_soon(lock);
    }
    hand_out(lock);
    flights::settle::<Semantic>(lock);
}

/// A scan is through; it has no outcome if it panicked.
fn came_back(lock: &Lock, scan: Arc<Scan>, outcome: Option<Option<Scanned>>) {
    let client = scan.client;
    let search = STATE.with(lock, |state| match state.searches.get(&client)?.stage {
        Stage::Running { scan: ref own, .. } if Arc::ptr_eq(own, &scan) => state.remove(client),
        _ => None,
    });
    // Another is under way, or nobody waits any more.
    let Some(mut search) = search else { return };
    let stage = std::mem::replace(&mut search.stage, Stage::Waiting);
    match (outcome.flatten(), stage, &search.asker) {
        (Some(scanned), Stage::Running { changed, .. }, _) => {
            SCANS.increment();
            decide(lock, client, search, Some(Returned { scan, scanned, changed }));
        }
        (_, _, Asker::Get(_)) => tell(lock, client, Err(Error::Internal)),
        (_, _, Asker::Fetch) => {
            flights::conclude::<Semantic>(lock, client, Err(Error::Internal));
        }
    }
}

/// Decides about one, with what was found, if anything was.
fn decide(lock: &Lock, client: BlockedClient, search: Search, returned: Option<Returned>) {
    let Search { place, ask, asker, .. } = search;
    match asker {
        Asker::Fetch => {
            STATE.with(lock, |state| {
                let returned = returned.map(|returned| (client, (place, returned)));
                state.returned.extend(returned);
            });
            flights::decide_again::<Semantic>(lock, client);
        }
        Asker::Get(user) => {
            let (db, key) = (place.0, &*place.1);
            let call = [b"ML.SEMGET", key, &ask.version, b"", b"HIT", b"1"];
            let decided = let_in_anew(lock, user.as_ref(), db, &call, 1)
                .and_then(|()| judge(lock, (db, key), &ask, returned.as_ref()));
            match decided {
                Ok(Ok(told)) => tell(lock, client, Ok(told)),
                Ok(Err(Unseen)) => begin(lock, client, (db, key), ask, Asker::Get(user)),
                Err(error) => tell(lock, client, Err(error)),
            }
        }
    }
}

/// What a caller of ML.SEMGET is told.
fn judge(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    ask: &Ask,
    returned: Option<&Returned>,
) -> Result<Result<Told, Unseen>, Error> {
    let judged = look_at(lock, db, key, |open| {
        let table = open.value::<Table>()?;
        if let Some(table) = table {
            table.check(ask.vector.dim(), ask.embedder.as_deref()).map_err(Misfit::refusal)?;
        }
        let found = look::get(lock, key, table, ask, returned);
        Ok(found.map(|Found { status, entries }| {
            let entry = |id| Hit::of(look::entry(table, id));
            let entries = entries.into_iter().map(|(similarity, id)| (similarity, entry(id)));
            Told { status, entries: entries.collect() }
        }))
    });
    let none = Told { status: Found::MISS.status, entries: Vec::new() };
    judged.unwrap_or(Ok(Ok(none)))
}

fn tell(lock: &Lock, client: BlockedClient, verdict: Result<Told, Error>) {
    STATE.with(lock, |state| state.told.insert(client, verdict));
    wake(lock, client);
}

/// Callers of ML.SEMGET that wait for a scan.
struct Callers;

impl OnUnblock for Callers {
    fn answer(lock: &Lock, client: BlockedClient, reply: Reply) -> Result<(), Error> {
        let verdict = STATE.with(lock, |state| {
            state.abandon(client);
            state.told.remove(&client)
        });
        // Without one it was unblocked by hand: there is nothing to tell it.
        let unblocked = || Error::Server("UNBLOCKED the scan was given up".to_owned());
        let Told { status, entries } = verdict.unwrap_or_else(|| Err(unblocked()))?;
        let now_ms = now() / MICROS_PER_MILLI;
        reply.array(2);
        reply.bytes(status.as_bytes());
        reply.array(entries.len());
        for (similarity, hit) in &entries {
            hit.shown().reply(reply, *similarity, now_ms);
        }
        Ok(())
    }

    fn gone(lock: &Lock, client: BlockedClient) {
        STATE.with(lock, |state| {
            state.abandon(client);
            state.told.remove(&client);
        });
    }

    fn ready(_: &Lock, _: BlockedClient) {}
}

/// What was found for one that the flights decide about, if anything was.
pub fn take_returned(lock: &Lock, client: BlockedClient) -> Option<Returned> {
    STATE.with(lock, |state| state.returned.remove(&client)).map(|(_, returned)| returned)
}

/// Nobody waits any more for what one may be searched for.
pub fn leave(lock: &Lock, client: BlockedClient) {
    change(lock, |state| _ = state.abandon(client));
}

/// Changes who is searched for, and has those seen to who are to be decided about by that.
fn change<R>(lock: &Lock, work: impl FnOnce(&mut State) -> R) -> R {
    let (outcome, is_any_due) = STATE.with(lock, |state| (work(state), !state.due.is_empty()));
    if is_any_due {
        see_to_soon(lock);
    }
    outcome
}

/// Has those of the flights decided about that are searched for at a key, and of whom `is_one`
/// says that there is no need: who they are.
pub fn end(
    lock: &Lock,
    (db, key): (i32, &[u8]),
    is_one: impl Fn(BlockedClient, &Arc<Ask>) -> bool,
) -> Vec<BlockedClient> {
    change(lock, |state| {
        let at = state.searches.iter().filter(|(client, search)| {
            search.place.0 == db
                && *search.place.1 == *key
                && matches!(search.asker, Asker::Fetch)
                && is_one(**client, &search.ask)
        });
        let ended: Vec<_> = at.map(|(client, _)| *client).collect();
        state.due.extend(&ended);
        ended
    })
}

/// An entry has come to a key: nobody held it against those who are behind another.
pub fn fall_behind(lock: &Lock, db: i32, key: &[u8]) {
    STATE.with(lock, |state| {
        if state.behind.is_empty() {
            return;
        }
        let behind = state.behind.get(&(db, key.into()));
        for search in behind.into_iter().flatten().filter_map(|one| state.searches.get(one)) {
            search.ask.is_behind.store(true, Relaxed);
        }
    });
}

/// The threshold of an entry has changed: scans of its key that are under way know it as it
/// was.
pub fn threshold_changed(lock: &Lock, db: i32, key: &[u8], id: Id) {
    end_scans(lock, |place, changed| {
        let is_here = place.0 == db && *place.1 == *key;
        is_here && changed.insert(id) && changed.len() > MOST_CHANGED
    });
}

/// What a key held is gone. Also where keys are open, or just going.
pub fn taken_away(lock: &Lock, db: i32, key: &[u8]) {
    end_scans(lock, |place, _| place.0 == db && *place.1 == *key);
}

fn end_scans(lock: &Lock, ends: impl FnMut(&Place, &mut BTreeSet<Id>) -> bool) {
    change(lock, |state| state.end_scans(ends));
}

/// Follows what happens to the server as a whole.
pub fn follow(lock: &Lock, event: Event) {
    match event {
        Event::Flushed(db) => end_scans(lock, |place, _| db.is_none_or(|db| db == place.0)),
        Event::Swapped(one, other) => end_scans(lock, |place, _| [one, other].contains(&place.0)),
        Event::LoadingStarted => end_scans(lock, |_, _| true),
        Event::VersionsChanged | Event::LoadingEnded => {
            STATE.with(lock, |state| {
                let retired = state.searches.iter().filter(|(_, search)| {
                    !(search.ask.admits)(lock, &search.place.1, &search.ask.version)
                });
                state.due.extend(retired.map(|(client, _)| *client));
            });
            see_to_soon(lock);
        }
        Event::Tick => {
            TIMER.check(lock);
            // Whatever became of who should have told.
            if STATE.with(lock, |state| !state.searches.is_empty()) {
                see_to_soon(lock);
            }
        }
        Event::LoadingFailed | Event::RoleChanged => {}
    }
}
