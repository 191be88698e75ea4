//! Callers that wait to be let in, and what becomes of them.
//!
//! [`crate::queue`] says who is next; here is when that is asked, and by whom. Whatever
//! changes a key, the first that it holds up is decided anew when the server is through
//! with it, and so it is when the wait is over that the key told. Each is decided as a
//! new call would be, with the words of its own: whether its user may, whether the
//! server lets writes in, and then by the keys. Only then it is woken.

use super::asked::{Admission, decide};
use super::caller::{Caller, FIRST_KEY};
use super::config::{MAX_WAITER_BYTES, MAX_WAITERS};
use super::request::{Item, Request};
use super::stats::{self, WAITERS};
use crate::bug;
use crate::id::Id;
use crate::metrics::Share;
use crate::queue::{self, Limits, Queue, Turn};
use crate::server::{
    Arg, Args, BlockedClient, Call, Error, Event, Global, Listener, Lock, OnUnblock, Reply, Timer,
    avoids_replica_traffic, call_again, is_over_maxmemory, is_primary, let_in_anew, may_evict,
    monotonic, now, wake,
};
use crate::time::{MICROS_PER_MILLI, Micros, Monotonic};
use std::collections::HashMap;
use std::sync::Arc;

/// Which key denies, and for how long.
type Binding = (usize, Option<Micros>);

/// What is decided of one that waits.
enum Verdict {
    Answer(Admission),
    Refused(Error),
}

/// All that wait on this node.
struct Waiting {
    queue: Queue<BlockedClient>,
    callers: HashMap<BlockedClient, Arc<Caller>>,
    /// Those whose wait is over before its time, as another call came under their id,
    /// with the turns that they had.
    ended: Vec<(BlockedClient, Turn)>,
    /// What those are told who were woken.
    verdicts: HashMap<BlockedClient, Verdict>,
    counted: Share,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            queue: Queue::default(),
            callers: HashMap::new(),
            ended: Vec::new(),
            verdicts: HashMap::new(),
            counted: Share::none_of(&WAITERS),
        }
    }
}

static STATE: Global<Waiting> = Global::new();

static TIMER: Timer = Timer::new(settle);

/// How long after it was not to be replicated anything it is tried again.
const LATER_US: Monotonic = 100 * MICROS_PER_MILLI;

/// How many are decided in one go, before others have their turn.
const AT_ONCE: usize = 256;

/// A wait that is told is not 0: somebody is held up.
const LEAST_WAIT_US: Micros = MICROS_PER_MILLI;

impl Waiting {
    /// One waits no more, whatever it is told: who it was, and its turn, if it had not left
    /// the queue before.
    fn forget(
        &mut self,
        lock: &Lock,
        client: BlockedClient,
    ) -> Option<(Arc<Caller>, Option<Turn>)> {
        let turn = self.queue.leave(client).map(|waiting| waiting.turn);
        let caller = self.callers.remove(&client)?;
        let waited_us = monotonic().saturating_sub(caller.since);
        stats::waited(lock, caller.held_up_first_at(), waited_us);
        Some((caller, turn))
    }
}

fn with<R>(lock: &Lock, work: impl FnOnce(&mut Waiting) -> R) -> R {
    STATE.with(lock, |state| {
        let result = work(state);
        state.counted.set(state.queue.waiters());
        result
    })
}

/// How long the first of those waits that are held up at a key, if it goes before a
/// turn.
fn held_back(queue: &Queue<BlockedClient>, db: i32, key: &[u8], turn: Turn) -> Option<Micros> {
    let due = queue.holds_back(db, key, turn)?;
    Some(due.saturating_sub(monotonic()).max(LEAST_WAIT_US))
}

/// A call that the queue may hold back, or have wait.
pub struct Queued<'r, 'a> {
    db: i32,
    request: &'r Request<'a>,
    words: Args<'a>,
}

impl<'r, 'a> Queued<'r, 'a> {
    /// That of a request, with the words that it was made with.
    pub fn of(db: i32, request: &'r Request<'a>, words: Args<'a>) -> Self {
        Self { db, request, words }
    }

    fn keys(&self) -> Vec<&'a [u8]> {
        self.request.keys.iter().map(|key| key.bytes()).collect()
    }

    /// As the queue sees it.
    fn call<'k>(&self, keys: &'k [&[u8]], bytes: usize) -> queue::Call<'k> {
        let Request { hold, priority, .. } = *self.request;
        let id = hold.map(|hold| hold.id);
        queue::Call { scope: self.db, keys, priority, id, bytes }
    }

    /// How long the first of those waits that are held up at a key, if it goes before
    /// this call.
    pub fn held_back(&self, lock: &Lock, key: &[u8]) -> Option<Micros> {
        with(lock, |state| match state.queue.waiters() {
            0 => None,
            _ => {
                let turn = state.queue.turn(&self.call(&[], 0));
                held_back(&state.queue, self.db, key, turn)
            }
        })
    }

    /// Has the caller wait that was denied; whether it does.
    pub fn wait(&self, call: &Call<'a>, request: &Request<'a>, binding: Binding) -> bool {
        let (held_up_by, Some(wait_us)) = binding else { return false };
        let (Some(key), Some(item)) = (request.keys.get(held_up_by), request.items.get(held_up_by))
        else {
            return false;
        };
        let lock = call.lock();
        // A replica that takes writes would let in by the clock what its primary knows not of.
        let may_wait = is_primary(&lock) && call.may_wait();
        let Some(user) = may_wait.then(|| call.user()) else { return false };
        let caller = Caller::new(self.db, user, request, self.words, held_up_by);
        let since = caller.since;
        let keys = self.keys();
        let queued = self.call(&keys, caller.bytes());
        let has_room = with(&lock, |state| {
            let limits =
                Limits { waiters: MAX_WAITERS.get_count(), bytes: MAX_WAITER_BYTES.get_count() };
            state.queue.set_limits(limits);
            let before = state.queue.held_up_beside(&queued, key.bytes());
            state.queue.has_room(&queued) && item.queue.is_none_or(|most| before < most)
        });
        if !has_room {
            return false;
        }
        let Some(client) = call.wait_beside::<Callers>(&lock, key.bytes(), request.wait_ms) else {
            return false;
        };
        call.watch_keys(look_at);
        stats::waits(&lock, key.bytes());
        with(&lock, |state| {
            state.callers.insert(client, Arc::new(caller));
            let turn = state.queue.turn(&queued);
            let due = since.saturating_add(wait_us);
            let replaced = state.queue.enter(client, &queued, held_up_by, due);
            // The one whose place it takes is answered as if its time were over.
            state.ended.extend(replaced.map(|replaced| (replaced, turn)));
        });
        settle_later(&lock);
        true
    }
}

/// A call was let in: one that waits under the same id need wait no more.
pub fn is_admitted(lock: &Lock, db: i32, id: Id) {
    with(lock, |state| {
        if let Some(client) = state.queue.waiting_as(db, id)
            && let Some(waiting) = state.queue.leave(client)
        {
            state.ended.push((client, waiting.turn));
        }
    });
    settle_later(lock);
}

/// How many a key holds up.
pub fn held_up(lock: &Lock, db: i32, key: &[u8]) -> usize {
    with(lock, |state| state.queue.held_up(db, key))
}

/// A key has changed, which may be open; or a call found it free but for those that it
/// holds up, who may have been forgotten, as when the clock leapt forward.
pub fn look_at(lock: &Lock, db: i32, key: &[u8]) {
    note(lock, |queue| {
        let holds_up = queue.held_up(db, key) > 0;
        if holds_up {
            queue.look_at(db, key);
        }
        holds_up
    });
}

/// Has those seen to, when the server is through with it, who may be let in by what
/// happened; `happened` says whether something did.
fn note(lock: &Lock, happened: impl FnOnce(&mut Queue<BlockedClient>) -> bool) {
    let something = with(lock, |state| state.queue.waiters() > 0 && happened(&mut state.queue));
    if something {
        TIMER.set(lock, monotonic());
    }
}

/// Has those seen to who are to be decided anew: now, if there are such, or when their
/// time comes.
fn settle_later(lock: &Lock) {
    let next = with(lock, |state| match state.queue.next() {
        None if state.ended.is_empty() => state.queue.next_due(),
        _ => Some(monotonic()),
    });
    if let Some(next) = next {
        TIMER.set(lock, next);
    }
}

/// Decides those anew whose time has come, and wakes those who need wait no more.
/// Called while no key is open.
fn settle(lock: &Lock) {
    let now = monotonic();
    // For a new call the server makes room by evicting; here is nobody who does.
    let lacks_room = is_over_maxmemory(lock) && may_evict(lock);
    if avoids_replica_traffic(lock) || lacks_room {
        if with(lock, |state| state.queue.waiters() > 0 || !state.ended.is_empty()) {
            TIMER.set(lock, now + LATER_US);
        }
        return;
    }
    for (client, turn) in with(lock, |state| std::mem::take(&mut state.ended)) {
        if let Some(caller) = with(lock, |state| state.callers.get(&client).cloned()) {
            leave(lock, client, at_the_end(lock, &caller, turn));
        }
    }
    with(lock, |state| state.queue.advance(now));
    for _ in 0..AT_ONCE {
        let Some((client, place, caller)) = with(lock, next) else { break };
        match decide_again(lock, &caller, place.turn, Some(place.held_up_by)) {
            Ok(Again::HeldUp(held_up_by, wait_us)) => with(lock, |state| {
                let due = monotonic().saturating_add(wait_us);
                state.queue.denied(client, held_up_by, due);
            }),
            Ok(Again::Answer(answer)) => leave(lock, client, Verdict::Answer(answer)),
            Err(error) => leave(lock, client, Verdict::Refused(error)),
        }
    }
    // Who was let in has changed keys, which has set it again.
    TIMER.stop(lock);
    settle_later(lock);
}

/// Where one that waits stands: at which of its keys, and its turn there.
struct Place {
    held_up_by: usize,
    turn: Turn,
}

/// Who is to be decided next.
fn next(state: &mut Waiting) -> Option<(BlockedClient, Place, Arc<Caller>)> {
    let client = state.queue.next()?;
    let queue::Waiting { held_up_by, turn, .. } = *state.queue.get(client)?;
    Some((client, Place { held_up_by, turn }, state.callers.get(&client)?.clone()))
}

/// Has one wait no more, who is told why.
fn leave(lock: &Lock, client: BlockedClient, verdict: Verdict) {
    with(lock, |state| {
        state.forget(lock, client);
        state.verdicts.insert(client, verdict);
    });
    wake(lock, client);
}

/// What a new call of one that waits comes to.
enum Again {
    /// It waits on, at one of its keys, so long.
    HeldUp(usize, Micros),
    /// Its answer: it is let in, or it is denied and waits no more.
    Answer(Admission),
}

/// Decides on one that waits at one of its keys; where it waits at `None` any more, it
/// is to be answered in any case. Those who would be let in are asked at the door.
fn decide_again(
    lock: &Lock,
    caller: &Caller,
    turn: Turn,
    waits_at: Option<usize>,
) -> Result<Again, Error> {
    let Caller { db, user, .. } = caller;
    let ends = waits_at.is_none();
    let ask_at_the_door = || let_in_anew(lock, user.as_ref(), *db, &caller.words(), FIRST_KEY);
    if ends || !is_primary(lock) {
        ask_at_the_door()?;
    }
    if let Some(held_up_by) = waits_at
        && let Some(wait_us) = still_held_up(lock, caller, held_up_by)
    {
        return Ok(Again::HeldUp(held_up_by, wait_us));
    }
    let again = call_again(lock, *db, &caller.words(), |keys, mut args| {
        let now_us = now();
        let request = Request::parse(&mut args, now_us)?;
        let behind = |key: &[u8]| with(lock, |state| held_back(&state.queue, *db, key, turn));
        let mut decided = decide(&keys.write_all(&request.keys), &request, now_us, &behind)?;
        // Who has to wait at another key from now on finds so many there already.
        let is_full = |(key, item): (&Arg, &Item)| {
            item.queue.is_some_and(|most| held_up(lock, *db, key.bytes()) >= most)
        };
        let may_wait_at = |at| {
            let asked = request.keys.get(at).zip(request.items.get(at));
            Some(at) == waits_at || !asked.is_none_or(is_full)
        };
        if ends && avoids_replica_traffic(lock) {
            return Ok(Again::Answer(decided.put_off(LATER_US)));
        }
        match decided.binding() {
            None => {
                ask_at_the_door()?;
                if is_over_maxmemory(lock) {
                    return Err(Error::OutOfMemory);
                }
            }
            Some((held_up_by, Some(wait_us))) if !ends && may_wait_at(held_up_by) => {
                decided.rewind(keys, &request)?;
                return Ok(Again::HeldUp(held_up_by, wait_us));
            }
            Some(_) => {}
        }
        let open = keys.write_all(&request.keys);
        decided.carry_out(open, now_us)?;
        decided.tell(lock, keys, &request, now_us);
        Ok(Again::Answer(decided.admission(request.hold)))
    });
    again.unwrap_or(Err(Error::Internal))
}

/// How long one of the keys at which one waits denies it still, whatever the others say,
/// of which there may be many: whatever happens at a key costs as much as it is worth.
fn still_held_up(lock: &Lock, caller: &Caller, held_up_by: usize) -> Option<Micros> {
    let words = caller.words_at(held_up_by)?;
    call_again(lock, caller.db, &words, |keys, mut args| {
        let now_us = now();
        let request = Request::parse(&mut args, now_us).ok()?;
        let decided = decide(&keys.write_all(&request.keys), &request, now_us, &|_| None).ok()?;
        let (_, wait_us) = decided.binding()?;
        decided.rewind(keys, &request).ok()?;
        wait_us
    })?
}

/// Decides once more on one whose wait is over.
fn at_the_end(lock: &Lock, caller: &Caller, turn: Turn) -> Verdict {
    match decide_again(lock, caller, turn, None) {
        Ok(Again::Answer(answer)) => Verdict::Answer(answer),
        Ok(Again::HeldUp(..)) => bug("whose wait is over waits on"),
        Err(error) => Verdict::Refused(error),
    }
}

/// Callers that wait to be let in.
struct Callers;

impl OnUnblock for Callers {
    fn answer(lock: &Lock, client: BlockedClient, reply: Reply) -> Result<(), Error> {
        let verdict = with(lock, |state| state.verdicts.remove(&client));
        let verdict = verdict.or_else(|| {
            let (caller, turn) = with(lock, |state| state.forget(lock, client))?;
            Some(at_the_end(lock, &caller, turn.unwrap_or(Turn::of_newcomer(0))))
        });
        settle_later(lock);
        match verdict {
            Some(Verdict::Answer(answer)) => answer.reply(reply),
            Some(Verdict::Refused(error)) => return Err(error),
            None => return Err(Error::Internal),
        }
        Ok(())
    }

    fn gone(lock: &Lock, client: BlockedClient) {
        with(lock, |state| {
            state.verdicts.remove(&client);
            state.forget(lock, client);
        });
        settle_later(lock);
    }

    /// Whatever enters a key is told by [`look_at`].
    fn ready(_: &Lock, _: BlockedClient) {}
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| match event {
    Event::Flushed(db) => note(lock, |queue| {
        queue.look_at_all(db);
        true
    }),
    Event::Swapped(one, other) => note(lock, |queue| {
        queue.look_at_all(Some(one));
        queue.look_at_all(Some(other));
        true
    }),
    // Those who wait are told that this node is not the one to ask.
    Event::RoleChanged => note(lock, |queue| {
        queue.look_at_all(None);
        true
    }),
    Event::Tick => TIMER.check(lock),
    Event::LoadingStarted | Event::LoadingEnded | Event::LoadingFailed | Event::VersionsChanged => {
    }
};
