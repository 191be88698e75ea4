//! What a caller gets of single flight: an answer, a lease, or the advice to wait.
//! ML.CACHEFETCH, ML.CACHEMFETCH and ML.SERVE share it.

use crate::cache::answer::Answer;
use crate::cache::counts::Counter;
use crate::cache::early::is_early;
use crate::cache::leases::{self, Cache, Place};
use crate::cache::reply::Fetched;
use crate::cache::state::{self, Tally};
use crate::flights::{self, grants_leases};
use crate::id::Id;
use crate::server::{Lock, monotonic, random_fraction};
use crate::singleflight::{Lease, Refusal};
use crate::time::{Millis, Monotonic, millis};

/// What a caller asks for, of one key.
pub struct LeaseRequest {
    /// How long it has, if it is to compute.
    pub lease_us: Monotonic,
    /// The token it brings to do so under, if it does.
    pub token: Option<Id>,
    /// β of the early recomputation, if there is to be one.
    pub beta: Option<f64>,
}

/// What a caller gets.
pub enum Served<'a> {
    /// An answer, of whatever kind.
    Now(Fetched<'a>),
    /// Another caller computes, for so long at most: this one could wait.
    Later(Monotonic),
}

impl<'a> Served<'a> {
    /// What is answered where the caller does not wait.
    pub fn at_once(self) -> Fetched<'a> {
        match self {
            Self::Now(fetched) => fetched,
            Self::Later(left_us) => Fetched::Busy(millis(left_us)),
        }
    }
}

/// What there is of an answer.
#[derive(Clone, Copy)]
pub struct Held<'e> {
    alive: Option<&'e Answer>,
    fresh: Option<&'e Answer>,
    now_ms: Millis,
}

impl<'e> Held<'e> {
    /// That of a version.
    pub fn of(answers: Option<&'e Answer>, version: &[u8], now_ms: Millis) -> Self {
        let alive = answers
            .and_then(|answers| answers.answer(version))
            .filter(|answer| answer.lifetime().is_alive(now_ms));
        let fresh = alive.filter(|answer| answer.lifetime().is_fresh(now_ms));
        Self { alive, fresh, now_ms }
    }

    /// Whether there is anything to serve.
    pub fn is_any(&self) -> bool {
        self.alive.is_some()
    }

    /// The fresh answer is a hit.
    fn hit(&self, tally: &mut Tally, answer: &'e Answer) -> Fetched<'e> {
        tally.count(Counter::Hits, 1);
        tally.count(Counter::SavedMs, answer.lifetime().cost_ms.into());
        let ttl_ms = answer.lifetime().expires_at_ms.saturating_sub(self.now_ms);
        Fetched::Hit(answer.value(), ttl_ms)
    }
}

/// Looks for an answer, and asks for the lease on it where there is none. `mint`
/// makes the token of one that brings none.
pub fn look<'e>(
    lock: &Lock,
    place: Place,
    held: Held<'e>,
    asked: &LeaseRequest,
    mint: impl FnOnce() -> Id,
) -> Served<'e> {
    match look_first(lock, place, &held, asked) {
        Some(fetched) => Served::Now(fetched),
        None => lease(lock, place, held, asked, mint),
    }
}

/// What a caller gets that is to be had without a new lease: none of what is to be computed.
/// It counts a hit or a miss.
pub fn look_first<'e>(
    lock: &Lock,
    place: Place,
    held: &Held<'e>,
    asked: &LeaseRequest,
) -> Option<Fetched<'e>> {
    state::with(lock, |state| {
        let mut tally = state.tally(place.key, place.version);
        if !tally.is_in_force {
            tally.count(Counter::Misses, 1);
            return Some(Fetched::Retired);
        }
        // The lease that the caller has already, should it have lost the answer.
        if let Some(token) = asked.token
            && let Some(left_us) = leases::held(lock, place, token)
        {
            return Some(Fetched::Lease(token, millis(left_us), held.alive.map(Answer::value)));
        }
        let Some(answer) = held.fresh else {
            tally.count(Counter::Misses, 1);
            return None;
        };
        let early = |beta| is_early(&answer.lifetime(), beta, random_fraction(), held.now_ms);
        (!asked.beta.is_some_and(early)).then(|| held.hit(&mut tally, answer))
    })
}

/// Asks for the lease where an answer is to be computed: what a caller gets then.
pub fn lease<'e>(
    lock: &Lock,
    place: Place,
    held: Held<'e>,
    asked: &LeaseRequest,
    mint: impl FnOnce() -> Id,
) -> Served<'e> {
    let lease = match grants_leases(lock) {
        true => flights::lease::<Cache>(lock, &place.flight(), asked.token, mint, asked.lease_us),
        false => Err(refusal(lock, place)),
    };
    served(lock, place, held, lease)
}

/// Who computes already is to be waited for, also where no lease is granted.
fn refusal(lock: &Lock, place: Place) -> Refusal {
    let taken = leases::with(lock, |flights| flights.taken(&place.flight(), monotonic()));
    taken.unwrap_or(Refusal::Full)
}

/// What a caller gets with a lease, or without.
pub fn served<'e>(
    lock: &Lock,
    place: Place,
    held: Held<'e>,
    lease: Result<Lease, Refusal>,
) -> Served<'e> {
    match (lease, held.fresh, held.alive) {
        (Ok(Lease { token, left_us }), _, alive) => {
            state::tally(lock, place.key, place.version, Counter::Leases, 1);
            Served::Now(Fetched::Lease(token, millis(left_us), alive.map(Answer::value)))
        }
        (_, Some(answer), _) => Served::Now(state::with(lock, |state| {
            held.hit(&mut state.tally(place.key, place.version), answer)
        })),
        (_, _, Some(answer)) => stale(lock, place, answer, held.now_ms),
        (Err(refusal), ..) => refused(refusal),
    }
}

/// Whether [`lease`] would grant one. Nothing is changed by that.
pub fn may_lease(lock: &Lock, place: Place) -> Result<(), Refusal> {
    match grants_leases(lock) {
        true => flights::may_lease::<Cache>(lock, &place.flight()),
        false => Err(refusal(lock, place)),
    }
}

/// What a caller gets where its own call has just been granted the lease, at
/// another place.
pub fn look_again<'e>(lock: &Lock, place: Place, held: Held<'e>) -> Served<'e> {
    state::tally(lock, place.key, place.version, Counter::Misses, 1);
    match held.alive {
        Some(answer) => stale(lock, place, answer, held.now_ms),
        None => refused(refusal(lock, place)),
    }
}

fn stale<'e>(lock: &Lock, place: Place, answer: &'e Answer, now_ms: Millis) -> Served<'e> {
    state::tally(lock, place.key, place.version, Counter::Stale, 1);
    let left_ms = answer.lifetime().stale_until_ms.saturating_sub(now_ms);
    Served::Now(Fetched::Stale(answer.value(), left_ms))
}

fn refused<'e>(refusal: Refusal) -> Served<'e> {
    match refusal {
        Refusal::Leased(left_us) => Served::Later(left_us),
        Refusal::BackedOff(left_us) => Served::Now(Fetched::Busy(millis(left_us))),
        Refusal::Full => Served::Now(Fetched::Busy(0)),
    }
}
