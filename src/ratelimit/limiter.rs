//! A limiter: the windows of a key, decided together, and the reservations
//! open on it.
//!
//! A call is decided without changing anything; then, if it is to change
//! something, all windows are charged. So all are or none is.

use super::policy::{Cost, MAX_WINDOWS, Policy};
use super::request::{Decision, Mode, Refusal, Request, Standing};
use super::reservation::{Marks, Reservation};
use super::slot::{Algorithm, Slot};
use super::window::{Mark, Settlement};
use crate::id::Id;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};

/// The state of one key. Most have one window and nothing else: these are one
/// block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// One window.
    One(Slot),
    /// Several windows, or reservations.
    Many(Many),
}

/// Several windows, or reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// The windows, each of another length; at least one, at most
    /// [`MAX_WINDOWS`].
    pub slots: Vec<Slot>,
    /// What is yet to be settled, in the order it was charged.
    pub reservations: Vec<Reservation>,
}

/// What a write was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something was charged.
    Charge,
    /// A reservation was settled.
    Settlement,
}

/// What a write changed, as it is replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Anything.
    Whole,
    /// The windows, and of the reservations at most these.
    Windows {
        /// Those that had expired by then went.
        pruned_at_ms: Millis,
        /// The last one was added.
        added: bool,
        /// This one was settled.
        settled: Option<Id>,
    },
}

/// A limiter that nobody has charged.
impl Default for Limiter {
    fn default() -> Self {
        Self::One(Slot::unused(Algorithm::default(), Policy::default()))
    }
}

impl Limiter {
    /// A limiter of these parts; `None` unless there can be one.
    pub fn of(slots: Vec<Slot>, reservations: Vec<Reservation>) -> Option<Self> {
        let first = slots.first()?;
        let alike = slots.iter().all(|slot| slot.algorithm() == first.algorithm());
        let mut lengths: Vec<_> = slots.iter().map(|slot| slot.policy.window_us).collect();
        lengths.sort_unstable();
        let distinct = lengths.is_sorted_by(|one, next| one != next);
        let sound = alike && distinct && slots.len() <= MAX_WINDOWS;
        sound.then(|| Self::Many(Many { slots, reservations }).compact())
    }

    /// A limiter for a request, of which nothing is used.
    pub fn new(request: &Request, algorithm: Algorithm) -> Self {
        let unused = |policy: &Policy| Slot::unused(algorithm, *policy);
        match request.policies.as_slice() {
            [policy] => Self::One(unused(policy)),
            policies => {
                let slots = policies.iter().map(unused).collect();
                Self::Many(Many { slots, reservations: Vec::new() })
            }
        }
    }

    /// The windows.
    pub fn slots(&self) -> &[Slot] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(many) => &many.slots,
        }
    }

    /// What is yet to be settled, in the order it was charged.
    pub fn reservations(&self) -> &[Reservation] {
        match self {
            Self::One(_) => &[],
            Self::Many(many) => &many.reservations,
        }
    }

    /// The windows and the reservations.
    fn parts_mut(&mut self) -> (&mut [Slot], &mut [Reservation]) {
        match self {
            Self::One(slot) => (std::slice::from_mut(slot), &mut []),
            Self::Many(many) => (&mut many.slots, &mut many.reservations),
        }
    }

    /// The algorithm that its windows are kept by.
    pub fn algorithm(&self) -> Algorithm {
        self.slots().first().map(Slot::algorithm).unwrap_or_default()
    }

    /// Decides on a call. `current` is the key's state, if it has one.
    pub fn decide(
        current: Option<&Self>,
        request: &Request,
        now_us: Micros,
    ) -> Result<Decision, Refusal> {
        let kept = current.map_or(request.default_algorithm, Self::algorithm);
        let algorithm = request.algorithm.unwrap_or(kept);
        if request.has_burst && algorithm != Algorithm::Gcra {
            return Err(Refusal::BurstWithoutBucket);
        }
        let before = Self::standing(current, algorithm, request, 0, now_us);
        let granted = match request.mode {
            Mode::Force => request.cost,
            Mode::Partial => {
                // What all of them have left, whichever denies for the longest.
                let least = Self::standing(current, algorithm, request, request.cost, now_us);
                request.cost.min(least.reading.remaining)
            }
            _ if before.reading.retry_after_us == Some(0) => request.cost,
            _ => 0,
        };
        let open = || {
            let now_ms = now_us / MICROS_PER_MILLI;
            let reservations = current.map(Self::reservations).unwrap_or_default();
            reservations.iter().filter(|held| held.is_open(now_ms)).count()
        };
        if granted > 0 && request.reserve_ms.is_some() && open() >= request.max_reservations {
            return Err(Refusal::TooManyReservations);
        }
        let ahead = current.is_some_and(|limiter| limiter.is_ahead(now_us));
        let writes = request.mode != Mode::Peek && (granted > 0 || ahead);
        Ok(Decision { algorithm, granted, before, ahead, writes })
    }

    /// What the windows of a call say to it, before it or after so much of it
    /// was granted.
    pub fn standing(
        current: Option<&Self>,
        algorithm: Algorithm,
        request: &Request,
        granted: Cost,
        now_us: Micros,
    ) -> Standing {
        let standing = |slot: &Slot| Standing {
            limit: slot.capacity(),
            reading: slot.read(request.cost, now_us),
        };
        let under =
            |policy: &Policy| match current.and_then(|limiter| limiter.slot(policy.window_us)) {
                Some(slot) if slot.is_under(algorithm, policy) => standing(slot),
                Some(slot) => standing(&slot.seen_under(algorithm, *policy, now_us)),
                None => standing(&Slot::unused(algorithm, *policy)),
            };
        match request.policies.as_slice() {
            [policy] => under(policy),
            // A request has a policy at least: nothing stands for none.
            policies => Standing::of(policies.iter().map(under), granted == request.cost)
                .unwrap_or_else(|| under(&Policy::default())),
        }
    }

    fn slot(&self, window_us: Micros) -> Option<&Slot> {
        self.slots().iter().find(|slot| slot.policy.window_us == window_us)
    }

    fn is_ahead(&self, now_us: Micros) -> bool {
        let now_ms = now_us / MICROS_PER_MILLI;
        self.slots().iter().any(|slot| slot.is_ahead(now_us))
            || self.reservations().iter().any(|held| held.longest_until(now_ms).is_some())
    }

    /// Carries a decision out. `id` is that of the reservation, if one is asked
    /// for.
    pub fn commit(
        &mut self,
        request: &Request,
        decision: &Decision,
        id: Option<Id>,
        now_us: Micros,
    ) -> Change {
        let now_ms = now_us / MICROS_PER_MILLI;
        let mut whole = decision.ahead && self.follow_clock_back(now_us);
        let pruned_at_ms = if self.reservations().is_empty() { 0 } else { now_ms };
        self.prune(pruned_at_ms);
        if decision.granted > 0 {
            if self.algorithm() != decision.algorithm {
                self.change_algorithm(decision.algorithm, now_us);
                whole = true;
            }
            whole |= self.make_room(&request.policies, decision.algorithm, now_us);
            if let Some((id, ttl_ms)) = id.zip(request.reserve_ms) {
                let mut marks = Marks::new();
                // There are no more policies than there is room for.
                let mark = |window_us, mark| _ = marks.try_push((window_us, mark));
                self.charge(&request.policies, decision, now_us, mark);
                let expires_at_ms = now_ms.saturating_add(ttl_ms);
                let estimate = decision.granted;
                self.add(Reservation::new(id, estimate, ttl_ms, expires_at_ms, &marks));
            } else {
                self.charge(&request.policies, decision, now_us, |_, _| {});
            }
        }
        match whole {
            true => Change::Whole,
            false => Change::Windows { pruned_at_ms, added: id.is_some(), settled: None },
        }
    }

    /// Brings what lies ahead of a clock that stepped back to now, and says
    /// whether anything did.
    fn follow_clock_back(&mut self, now_us: Micros) -> bool {
        let now_ms = now_us / MICROS_PER_MILLI;
        let (slots, reservations) = self.parts_mut();
        let mut ahead = false;
        for slot in slots {
            let window_us = slot.policy.window_us;
            let marks = reservations.iter_mut().filter_map(|held| held.mark_mut(window_us));
            ahead |= slot.follow_clock_back(marks, now_us);
        }
        for held in reservations {
            if let Some(longest_ms) = held.longest_until(now_ms) {
                held.expires_at_ms = longest_ms;
                ahead = true;
            }
        }
        ahead
    }

    /// Forgets the reservations that had expired at `now_ms`.
    fn prune(&mut self, now_ms: Millis) {
        if let Self::Many(many) = self {
            many.reservations.retain(|held| held.is_open(now_ms));
            if many.slots.len() == 1 {
                *self = std::mem::take(self).compact();
            }
        }
    }

    /// Has all windows kept by another algorithm, which takes over what is
    /// used; the charges in it can be told apart no more.
    fn change_algorithm(&mut self, algorithm: Algorithm, now_us: Micros) {
        let (slots, reservations) = self.parts_mut();
        for slot in slots {
            slot.put_under(algorithm, slot.policy, now_us);
        }
        for held in reservations {
            held.marks = Box::default();
        }
    }

    /// Makes sure that there is a window for each of the policies. Other ones
    /// stay while something is used of them: a caller that asks by turns for
    /// different windows finds each as it left it. Says whether reservations
    /// lost a window they were charged to.
    fn make_room(&mut self, policies: &[Policy], algorithm: Algorithm, now_us: Micros) -> bool {
        if policies.iter().all(|policy| self.slot(policy.window_us).is_some()) {
            return false;
        }
        let asked =
            |slot: &Slot| policies.iter().any(|policy| policy.window_us == slot.policy.window_us);
        let Many { mut slots, mut reservations } = std::mem::take(self).into_many();
        slots.retain(|slot| asked(slot) || slot.full_at() > now_us);
        for policy in policies {
            if !slots.iter().any(|slot| slot.policy.window_us == policy.window_us) {
                slots.push(Slot::unused(algorithm, *policy));
            }
        }
        while slots.len() > MAX_WINDOWS {
            // Of the others, the one that is back at full first.
            let others = slots.iter().enumerate().filter(|(_, slot)| !asked(slot));
            let Some((place, _)) = others.min_by_key(|(_, slot)| slot.full_at()) else { break };
            slots.remove(place);
        }
        let mut lost = false;
        for held in &mut reservations {
            let stays = |window_us| slots.iter().any(|slot| slot.policy.window_us == window_us);
            lost |= held.keep_marks(stays);
        }
        *self = Self::Many(Many { slots, reservations }).compact();
        lost
    }

    /// Charges the window of each policy, and tells `marked` where in it.
    fn charge(
        &mut self,
        policies: &[Policy],
        decision: &Decision,
        now_us: Micros,
        mut marked: impl FnMut(Micros, Mark),
    ) {
        let (slots, _) = self.parts_mut();
        for policy in policies {
            let slot = slots.iter_mut().find(|slot| slot.policy.window_us == policy.window_us);
            if let Some(slot) = slot {
                slot.put_under(decision.algorithm, *policy, now_us);
                marked(policy.window_us, slot.charge(decision.granted, now_us));
            }
        }
    }

    fn add(&mut self, reservation: Reservation) {
        let mut many = std::mem::take(self).into_many();
        many.reservations.push(reservation);
        *self = Self::Many(many);
    }

    /// Settles a reservation by the actual cost; `None`, and nothing changed,
    /// if it is not open.
    pub fn settle(&mut self, id: Id, actual: Cost, now_us: Micros) -> Option<Change> {
        let now_ms = now_us / MICROS_PER_MILLI;
        let open = |held: &Reservation| held.id == id && held.is_open(now_ms);
        if !self.reservations().iter().any(open) {
            return None;
        }
        let mut whole = self.follow_clock_back(now_us);
        let settled = self.remove(id)?;
        let (slots, reservations) = self.parts_mut();
        for slot in slots {
            let window_us = slot.policy.window_us;
            let mark = settled.marks.iter().find(|(length_us, _)| *length_us == window_us);
            let Some((_, mark)) = mark else { continue };
            let settlement = Settlement { mark: *mark, estimate: settled.estimate, actual };
            let others = reservations.iter_mut().filter_map(|held| held.mark_mut(window_us));
            slot.settle(&settlement, others, now_us);
        }
        // Settling a charge of a token bucket moves the marks of the others.
        whole |= self.algorithm() == Algorithm::Gcra && !self.reservations().is_empty();
        self.prune(now_ms);
        Some(match whole {
            true => Change::Whole,
            false => Change::Windows { pruned_at_ms: now_ms, added: false, settled: Some(id) },
        })
    }

    fn remove(&mut self, id: Id) -> Option<Reservation> {
        let Self::Many(many) = self else { return None };
        let place = many.reservations.iter().position(|held| held.id == id)?;
        Some(many.reservations.remove(place))
    }

    /// When the key can go, in milliseconds since the epoch: nothing is used
    /// any more, and nothing can be settled.
    pub fn expires_at_ms(&self) -> Millis {
        let full_at = |slot: &Slot| slot.full_at().div_ceil(MICROS_PER_MILLI);
        let full_at_ms = self.slots().iter().map(full_at).max().unwrap_or(0);
        let settled_at_ms = self.reservations().iter().map(|held| held.expires_at_ms).max();
        full_at_ms.max(settled_at_ms.unwrap_or(0))
    }

    fn into_many(self) -> Many {
        match self {
            Self::One(slot) => Many { slots: vec![slot], reservations: Vec::new() },
            Self::Many(many) => many,
        }
    }

    /// As one block, if that is enough.
    fn compact(self) -> Self {
        match self {
            Self::Many(mut many) if many.slots.len() == 1 && many.reservations.is_empty() => {
                many.slots.pop().map_or_else(Self::default, Self::One)
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Policies;
    use super::super::window::Reading;
    use super::*;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    fn request(pairs: &[(u64, u64)], cost: Cost) -> Request {
        let policies = pairs.iter().map(|(limit, seconds)| Policy::new(*limit, seconds * SECOND));
        Request {
            policies: Policies::from_iter(policies),
            algorithm: None,
            default_algorithm: Algorithm::Fixed,
            has_burst: false,
            cost,
            mode: Mode::Whole,
            reserve_ms: None,
            max_reservations: 2,
        }
    }

    /// A key: decides, and writes if the decision says so.
    #[derive(Default)]
    struct Key(Option<Limiter>);

    impl Key {
        fn call(&mut self, request: &Request, now_us: Micros) -> Result<(Cost, Standing), Refusal> {
            self.reserve(request, None, now_us)
        }

        fn reserve(
            &mut self,
            request: &Request,
            id: Option<Id>,
            now_us: Micros,
        ) -> Result<(Cost, Standing), Refusal> {
            let decision = Limiter::decide(self.0.as_ref(), request, now_us)?;
            if !decision.writes {
                return Ok((decision.granted, decision.before));
            }
            let algorithm = decision.algorithm;
            let limiter = self.0.get_or_insert_with(|| Limiter::new(request, algorithm));
            limiter.commit(request, &decision, id.filter(|_| decision.granted > 0), now_us);
            Ok((
                decision.granted,
                Limiter::standing(Some(limiter), algorithm, request, decision.granted, now_us),
            ))
        }

        fn remaining(&self, pairs: &[(u64, u64)], now_us: Micros) -> u64 {
            let look = Request { mode: Mode::Peek, ..request(pairs, 1) };
            Limiter::decide(self.0.as_ref(), &look, now_us).unwrap().before.reading.remaining
        }
    }

    #[test]
    fn a_key_with_one_window_is_one_block_of_64_bytes() {
        assert_eq!(size_of::<Limiter>(), 64);
        let mut key = Key::default();
        key.call(&request(&[(10, 60)], 1), 0).unwrap();
        key.call(&request(&[(10, 60)], 1), SECOND).unwrap();
        assert!(matches!(key.0, Some(Limiter::One(_))));
    }

    #[test]
    fn the_window_that_binds_answers() {
        let mut key = Key::default();
        let (granted, standing) = key.call(&request(&[(10, 1), (12, 60)], 9), 0).unwrap();
        assert_eq!((granted, standing.limit, standing.reading.remaining), (9, 10, 1));
        // Both deny: the longer wait binds.
        let (granted, standing) = key.call(&request(&[(10, 1), (12, 60)], 4), 0).unwrap();
        let retry_after_us = standing.reading.retry_after_us;
        assert_eq!((granted, standing.limit, retry_after_us), (0, 12, Some(60 * SECOND)));
        // One that never can is the longest wait.
        let (_, standing) = key.call(&request(&[(10, 1), (12, 60)], 11), 0).unwrap();
        assert_eq!((standing.limit, standing.reading.retry_after_us), (10, None));
    }

    #[test]
    fn windows_asked_for_by_turns_keep_what_is_used_of_them() {
        let mut key = Key::default();
        let granted: Vec<_> = (0..8)
            .map(|call| key.call(&request(&[(1, 60 + call % 2)], 1), call * SECOND).unwrap().0)
            .collect();
        assert_eq!(granted, [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(key.0.as_ref().unwrap().expires_at_ms(), 62_000);
        // When they are back at full, they are forgotten.
        key.call(&request(&[(1, 10)], 1), 100 * SECOND).unwrap();
        assert_eq!(key.0.unwrap().slots().len(), 1);
    }

    #[test]
    fn no_more_windows_are_kept_than_there_may_be() {
        let mut key = Key::default();
        for seconds in 1..=20 {
            key.call(&request(&[(1, 1_000 - seconds)], 1), 0).unwrap();
        }
        let limiter = key.0.as_ref().unwrap();
        assert_eq!(limiter.slots().len(), MAX_WINDOWS);
        assert_eq!(key.remaining(&[(1, 980)], 0), 0, "what was charged last is kept");
    }

    #[test]
    fn another_algorithm_takes_over_what_is_used() {
        let mut key = Key::default();
        key.call(&request(&[(10, 60), (20, 600)], 7), 0).unwrap();
        for algorithm in [Algorithm::Sliding, Algorithm::Gcra, Algorithm::Fixed] {
            let call = Request { algorithm: Some(algorithm), ..request(&[(10, 60)], 1) };
            assert_eq!(key.call(&call, 0).unwrap().0, 1);
            let limiter = key.0.as_ref().unwrap();
            assert!(limiter.slots().iter().all(|slot| slot.algorithm() == algorithm));
            assert_eq!(key.remaining(&[(20, 600)], 0), 13, "and of all windows");
        }
        assert_eq!(key.remaining(&[(10, 60)], 0), 0);
        // Without a word, a key keeps its own.
        let call = Request { default_algorithm: Algorithm::Gcra, ..request(&[(20, 60)], 1) };
        key.call(&call, 0).unwrap();
        assert_eq!(key.0.unwrap().algorithm(), Algorithm::Fixed);
    }

    #[test]
    fn part_of_a_cost_is_granted_and_all_of_it_forced() {
        let mut key = Key::default();
        let part = Request { mode: Mode::Partial, ..request(&[(10, 60), (6, 600)], 8) };
        assert_eq!(key.call(&part, 0).unwrap().0, 6);
        assert_eq!(key.call(&part, 0).unwrap().0, 0);
        let force = Request { mode: Mode::Force, ..request(&[(10, 60)], 8) };
        assert_eq!(key.call(&force, 0).unwrap().0, 8);
        assert_eq!(key.0.unwrap().slots()[0].used(0), 14);
    }

    #[test]
    fn a_part_fits_the_window_with_the_least_left_whichever_has_the_longest_wait() {
        let mut key = Key::default();
        key.call(&request(&[(9, 1)], 8), 0).unwrap();
        let part = Request { mode: Mode::Partial, ..request(&[(9, 1), (5, 600)], 7) };
        let (granted, standing) = key.call(&part, 0).unwrap();
        assert_eq!((granted, standing.limit, standing.reading.remaining), (1, 5, 4));
    }

    #[test]
    fn a_reservation_is_settled_once_and_only_while_it_is_open() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(5_000), ..request(&[(10, 60)], 6) };
        key.reserve(&estimate, Some(Id([1; 16])), 0).unwrap();
        assert_eq!(key.reserve(&estimate, Some(Id([2; 16])), 0).unwrap().0, 0);
        let limiter = key.0.as_mut().unwrap();
        assert_eq!(limiter.settle(Id([2; 16]), 0, 0), None, "a denied one leaves nothing behind");
        assert!(limiter.settle(Id([1; 16]), 2, SECOND).is_some());
        assert_eq!(limiter.settle(Id([1; 16]), 2, SECOND), None);
        assert!(matches!(limiter, Limiter::One(_)));
        assert_eq!(key.remaining(&[(10, 60)], SECOND), 8);

        key.reserve(&estimate, Some(Id([3; 16])), SECOND).unwrap();
        let limiter = key.0.as_mut().unwrap();
        assert_eq!(limiter.settle(Id([3; 16]), 0, 6 * SECOND), None, "late");
        assert_eq!(key.remaining(&[(10, 60)], 6 * SECOND), 2);
    }

    #[test]
    fn a_key_has_as_many_reservations_open_as_it_may_and_outlives_them() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(90_000), ..request(&[(10, 60)], 1) };
        for id in 0..2 {
            key.reserve(&estimate, Some(Id([id; 16])), 0).unwrap();
        }
        let refused = key.reserve(&estimate, Some(Id([9; 16])), 0);
        assert_eq!(refused, Err(Refusal::TooManyReservations));
        assert_eq!(key.remaining(&[(10, 60)], 0), 8);
        assert_eq!(key.0.as_ref().unwrap().expires_at_ms(), 90_000);
        // Those that have expired make room.
        assert!(key.reserve(&estimate, Some(Id([9; 16])), 90 * SECOND).is_ok());
        assert_eq!(key.0.unwrap().reservations().len(), 1);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_no_reservation_longer_than_it_was_to_be_open() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(5_000), ..request(&[(1, 60)], 1) };
        key.reserve(&estimate, Some(Id([1; 16])), 10_000 * SECOND).unwrap();
        assert_eq!(key.call(&request(&[(1, 60)], 1), 10 * SECOND).unwrap().0, 0);
        assert_eq!(key.0.as_ref().unwrap().reservations()[0].expires_at_ms, 15_000);
        assert_eq!(key.0.unwrap().expires_at_ms(), 70_000);
    }

    #[test]
    fn a_window_forgotten_takes_no_settlement_of_an_older_charge() {
        let mut key = Key::default();
        let bucket = Request {
            algorithm: Some(Algorithm::Gcra),
            reserve_ms: Some(900_000),
            ..request(&[(10, 60)], 5)
        };
        key.reserve(&bucket, Some(Id([1; 16])), 0).unwrap();
        // Back at full, and another window asked for: the first one is gone.
        key.call(&request(&[(10, 1)], 1), 100 * SECOND).unwrap();
        key.call(&request(&[(10, 60)], 10), 101 * SECOND).unwrap();
        assert!(key.0.as_mut().unwrap().settle(Id([1; 16]), 0, 101 * SECOND).is_some());
        assert_eq!(key.remaining(&[(10, 60)], 101 * SECOND), 0);
    }

    fn call() -> impl Strategy<Value = (Vec<(u64, u64)>, Cost, Micros)> {
        let pairs = prop::sample::subsequence(vec![1u64, 2, 7, 30, 300], 1..=3);
        let pairs = pairs.prop_flat_map(|windows| {
            let limits = prop::collection::vec(0u64..40, windows.len());
            limits.prop_map(move |limits| limits.into_iter().zip(windows.clone()).collect())
        });
        (pairs, 1u64..12, 0u64..5_000_000)
    }

    proptest! {
        /// The oracle: a key for each window, charged when all would be.
        #[test]
        fn several_windows_are_charged_all_or_none(
            algorithm in prop::sample::select(&Algorithm::ALL[..]),
            calls in prop::collection::vec(call(), 1..60),
        ) {
            let mut key = Key::default();
            let mut alone: std::collections::HashMap<u64, Key> = Default::default();
            let mut now_us = 1_800_000_000 * SECOND;
            for (pairs, cost, step_us) in calls {
                now_us += step_us;
                let whole = Request { default_algorithm: algorithm, ..request(&pairs, cost) };
                let single = |pair: &(u64, u64)| Request {
                    default_algorithm: algorithm,
                    ..request(&[*pair], cost)
                };
                let readings: Vec<Reading> = pairs.iter().map(|pair| {
                    let current = alone.entry(pair.1).or_default().0.as_ref();
                    Limiter::decide(current, &single(pair), now_us).unwrap().before.reading
                }).collect();
                let fits = readings.iter().all(|reading| reading.retry_after_us == Some(0));

                let (granted, standing) = key.call(&whole, now_us).unwrap();
                prop_assert_eq!(granted, if fits { cost } else { 0 });
                let least = pairs.iter().map(|pair| {
                    let own = alone.get_mut(&pair.1).unwrap();
                    if fits {
                        own.call(&single(pair), now_us).unwrap();
                    }
                    own.remaining(&[*pair], now_us)
                }).min().unwrap();
                if fits {
                    prop_assert_eq!(standing.reading.remaining, least);
                } else {
                    let never = readings.iter().any(|reading| reading.retry_after_us.is_none());
                    let longest = readings.iter().filter_map(|reading| reading.retry_after_us).max();
                    prop_assert_eq!(standing.reading.retry_after_us, longest.filter(|_| !never));
                }
                // What is not asked for is kept, while anything of it is used.
                for (seconds, own) in &alone {
                    let pair = [(1_000, *seconds)];
                    prop_assert_eq!(key.remaining(&pair, now_us), own.remaining(&pair, now_us));
                }
            }
        }
    }
}
