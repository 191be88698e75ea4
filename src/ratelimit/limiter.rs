//! A limiter: the windows of a key, decided together, and the reservations
//! open on it.
//!
//! A call is [decided](Limiter::decide) without changing anything. What it
//! changes, if anything, is a [`Change`], and [`Limiter::apply`] the only code
//! that carries one out, on whoever decided it and on replicas alike. All of a
//! call's windows are charged there, or none is.

use super::change::{Change, Step};
use super::meter::{Position, Settlement};
use super::policy::{Algorithm, Cost, MAX_WINDOWS, Policy};
use super::quota::Quota;
use super::request::{Decision, Mode, Refusal, Request};
use super::reservation::{MAX_RESERVATIONS, Positions, Reservation};
use super::window::Window;
use crate::bug;
use crate::id::Id;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};

/// The state of one key. Most have one window and nothing else: these are one
/// block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// One window.
    One(Window),
    /// Several windows, or reservations.
    Many(Many),
}

/// Several windows, or reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Many {
    /// The windows, each of another length; at least one, at most
    /// [`MAX_WINDOWS`].
    pub windows: Vec<Window>,
    /// What is yet to be settled, in the order it was charged.
    pub reservations: Vec<Reservation>,
}

/// A limiter that nobody has charged.
impl Default for Limiter {
    fn default() -> Self {
        Self::One(Window::unused(Algorithm::default(), Policy::default()))
    }
}

impl Limiter {
    /// A limiter of these parts; `None` unless there can be one.
    pub fn of(windows: Vec<Window>, reservations: Vec<Reservation>) -> Option<Self> {
        let first = windows.first()?;
        let alike = windows.iter().all(|window| window.algorithm() == first.algorithm());
        let mut lengths: Vec<_> = windows.iter().map(|window| window.policy.window_us).collect();
        lengths.sort_unstable();
        let distinct = lengths.is_sorted_by(|one, next| one != next);
        // A charge sits in windows that are there, in each once.
        let sits = |reservation: &Reservation| {
            let charged = || reservation.positions.iter().map(|(window_us, _)| window_us);
            charged().enumerate().all(|(index, window_us)| {
                lengths.contains(window_us) && !charged().take(index).any(|one| one == window_us)
            })
        };
        let mut ids: Vec<_> = reservations.iter().map(|reservation| reservation.id).collect();
        ids.sort_unstable();
        let sound = alike
            && distinct
            && reservations.iter().all(sits)
            && windows.len() <= MAX_WINDOWS
            && ids.is_sorted_by(|one, next| one != next)
            && ids.len() <= MAX_RESERVATIONS;
        let mut limiter = Self::Many(Many { windows, reservations });
        limiter.compact();
        sound.then_some(limiter)
    }

    /// The windows.
    pub fn windows(&self) -> &[Window] {
        match self {
            Self::One(window) => std::slice::from_ref(window),
            Self::Many(many) => &many.windows,
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
    fn parts_mut(&mut self) -> (&mut [Window], &mut [Reservation]) {
        match self {
            Self::One(window) => (std::slice::from_mut(window), &mut []),
            Self::Many(many) => (&mut many.windows, &mut many.reservations),
        }
    }

    /// The algorithm that its windows are kept by.
    pub fn algorithm(&self) -> Algorithm {
        match self.windows() {
            [first, ..] => first.algorithm(),
            [] => bug("a limiter without a window"),
        }
    }

    /// Decides on a call. `current` is the key's state, if it has one; `new_id`
    /// is drawn where a reservation is to be opened. Whether there is
    /// [room](Decision::check_room) for it is to be asked before that is done.
    pub fn decide<'r>(
        current: Option<&Self>,
        request: &'r Request,
        now_us: Micros,
        new_id: impl FnOnce() -> Id,
    ) -> Result<Decision<'r>, Refusal> {
        let kept = || current.map_or(request.default_algorithm, Self::algorithm);
        let algorithm = request.algorithm.unwrap_or_else(kept);
        if request.has_burst && algorithm != Algorithm::Gcra {
            return Err(Refusal::BurstWithoutBucket);
        }
        let ask = |cost, granted| {
            Self::quota(current, algorithm, &request.policies, cost, granted, now_us)
        };
        let mut quota = ask(request.cost, false);
        let granted = match request.mode {
            _ if quota.retry_after_us == Some(0) => request.cost,
            Mode::Force => request.cost,
            Mode::Partial => {
                // What all of them have left, whichever denies for the longest.
                let left = ask(request.cost, true).remaining().min(request.cost);
                if left == 0 {
                    quota = ask(1, false);
                }
                left
            }
            Mode::Whole | Mode::Peek => 0,
        };
        let ahead = current.is_some_and(|limiter| limiter.is_ahead(now_us));
        let mut full = false;
        let step = match request.mode {
            Mode::Peek => None,
            _ if granted > 0 => {
                let mut reservation = None;
                if let Some(ttl_ms) = request.reserve_ms {
                    let open = current.map_or(0, |limiter| limiter.open(now_us).count());
                    full = open >= request.max_reservations;
                    reservation = Some((new_id(), ttl_ms));
                }
                let policies = request.policies.as_slice();
                Some(Step::Charge { algorithm, policies, cost: granted, reservation })
            }
            _ => ahead.then_some(Step::Rewind),
        };
        let change = step.map(|step| Change { now_us, step });
        Ok(Decision { algorithm, granted, quota, change, ahead, full })
    }

    /// What the limits of a call say to a cost, the one that binds: before any of
    /// it was `granted`, or after all of it was.
    pub fn quota(
        current: Option<&Self>,
        algorithm: Algorithm,
        policies: &[Policy],
        cost: Cost,
        granted: bool,
        now_us: Micros,
    ) -> Quota {
        if let (Some(Self::One(window)), [policy]) = (current, policies)
            && window.policy.window_us == policy.window_us
        {
            return window.quota(algorithm, policy, cost, now_us);
        }
        let ask =
            |policy: &Policy| match current.and_then(|limiter| limiter.window(policy.window_us)) {
                Some(window) => window.quota(algorithm, policy, cost, now_us),
                None => Quota::unused(policy.capacity(algorithm), cost),
            };
        let [first, others @ ..] = policies else { bug("a call without a limit") };
        others.iter().map(ask).fold(ask(first), |binding, quota| quota.binding(binding, granted))
    }

    fn window(&self, window_us: Micros) -> Option<&Window> {
        self.windows().iter().find(|window| window.policy.window_us == window_us)
    }

    /// The reservations that can be settled at `now_us`.
    pub fn open(&self, now_us: Micros) -> impl Iterator<Item = &Reservation> {
        let now_ms = now_us / MICROS_PER_MILLI;
        self.reservations().iter().filter(move |reservation| reservation.is_open(now_ms))
    }

    /// Whether anything of it lies ahead of a clock that stepped back.
    fn is_ahead(&self, now_us: Micros) -> bool {
        let now_ms = now_us / MICROS_PER_MILLI;
        self.windows().iter().any(|window| window.is_ahead(now_us))
            || self.reservations().iter().any(|reservation| reservation.is_ahead(now_ms))
    }

    /// Decides on a settlement: `None` unless the reservation is open.
    pub fn decide_settlement(
        &self,
        id: Id,
        actual: Cost,
        now_us: Micros,
    ) -> Option<Change<'static>> {
        let is_open = self.open(now_us).any(|reservation| reservation.id == id);
        is_open.then_some(Change { now_us, step: Step::Settle { id, actual } })
    }

    /// Whether a change that comes from elsewhere can be one of this state, or of
    /// a key that does not exist.
    pub fn takes(current: Option<&Self>, change: &Change) -> bool {
        let is_open = |id| {
            let mut open = current.into_iter().flat_map(|limiter| limiter.open(change.now_us));
            open.any(|reservation| reservation.id == id)
        };
        match change.step {
            Step::Rewind => current.is_some(),
            Step::Charge { reservation: None, .. } => true,
            Step::Charge { reservation: Some((id, _)), .. } => {
                let open = current.map_or(0, |limiter| limiter.open(change.now_us).count());
                open < MAX_RESERVATIONS && !is_open(id)
            }
            Step::Settle { id, .. } => is_open(id),
        }
    }

    /// Carries out a change that was decided on this state, or that it
    /// [takes](Self::takes). A key that does not exist is one of the default.
    pub fn apply(&mut self, change: &Change) {
        let now_us = change.now_us;
        // Nearly every change is a charge to one window that is there already: the
        // same steps, without a look for what is not.
        if let (Self::One(window), Step::Charge { algorithm, policies, cost, reservation: None }) =
            (&mut *self, change.step)
            && let [policy] = policies
            && window.policy.window_us == policy.window_us
            && window.algorithm() == algorithm
        {
            window.rewind_to(std::iter::empty(), now_us);
            window.charge(policy, cost, now_us);
            return;
        }
        self.rewind_to(now_us);
        self.prune(now_us);
        match change.step {
            Step::Rewind => {}
            Step::Charge { algorithm, policies, cost, reservation } => {
                self.make_room(policies, algorithm, now_us);
                if self.algorithm() != algorithm {
                    self.carry_over(algorithm, now_us);
                }
                let positions = self.charge(policies, cost, now_us);
                if let Some((id, ttl_ms)) = reservation {
                    let expires_at_ms = (now_us / MICROS_PER_MILLI).saturating_add(ttl_ms);
                    self.add(Reservation::new(id, cost, ttl_ms, expires_at_ms, &positions));
                }
            }
            Step::Settle { id, actual } => self.settle(id, actual, now_us),
        }
        self.give_back();
    }

    /// Rewinds to a clock that stepped back what lies ahead of it.
    fn rewind_to(&mut self, now_us: Micros) {
        let now_ms = now_us / MICROS_PER_MILLI;
        let (windows, reservations) = self.parts_mut();
        for window in windows {
            let window_us = window.policy.window_us;
            let positions = reservations.iter_mut().filter_map(|held| held.position_mut(window_us));
            window.rewind_to(positions, now_us);
        }
        reservations.iter_mut().for_each(|reservation| reservation.rewind_to(now_ms));
    }

    /// Forgets the reservations that have expired.
    fn prune(&mut self, now_us: Micros) {
        if let Self::Many(many) = self {
            many.reservations.retain(|reservation| reservation.is_open(now_us / MICROS_PER_MILLI));
            self.compact();
        }
    }

    /// Has all windows kept by another algorithm, which takes over what is
    /// used; the charges in it can be told apart no more.
    fn carry_over(&mut self, algorithm: Algorithm, now_us: Micros) {
        let (windows, reservations) = self.parts_mut();
        windows.iter_mut().for_each(|window| window.carry_over(algorithm, now_us));
        reservations.iter_mut().for_each(|reservation| reservation.positions = Box::default());
    }

    /// Makes sure that there is a window for each of the policies. Other ones
    /// stay while something is used of them: a caller that asks by turns for
    /// different windows finds each as it left it.
    fn make_room(&mut self, policies: &[Policy], algorithm: Algorithm, now_us: Micros) {
        if policies.iter().all(|policy| self.window(policy.window_us).is_some()) {
            return;
        }
        if let (Self::One(window), [policy]) = (&mut *self, policies)
            && window.reset_at() <= now_us
        {
            *window = Window::unused(algorithm, *policy);
            return;
        }
        let is_asked = |window: &Window| {
            policies.iter().any(|policy| policy.window_us == window.policy.window_us)
        };
        let kept_by = self.algorithm();
        let Many { windows, reservations } = self.many();
        windows.retain(|window| is_asked(window) || window.reset_at() > now_us);
        for policy in policies {
            if !windows.iter().any(|window| window.policy.window_us == policy.window_us) {
                windows.push(Window::unused(kept_by, *policy));
            }
        }
        while windows.len() > MAX_WINDOWS {
            // Of the others, the one that is back at full first.
            let others = windows.iter().enumerate().filter(|(_, window)| !is_asked(window));
            let Some((index, _)) = others.min_by_key(|(_, window)| window.reset_at()) else {
                bug("a call with more limits than a key has windows")
            };
            windows.remove(index);
        }
        for reservation in reservations {
            reservation.keep_positions(|window_us| {
                windows.iter().any(|window| window.policy.window_us == window_us)
            });
        }
        self.compact();
    }

    /// Charges the window of each policy: where in it.
    fn charge(&mut self, policies: &[Policy], cost: Cost, now_us: Micros) -> Positions {
        let mut positions = Positions::new();
        let (windows, _) = self.parts_mut();
        for policy in policies {
            let mut windows = windows.iter_mut();
            let Some(window) = windows.find(|window| window.policy.window_us == policy.window_us)
            else {
                bug("a limit without a window")
            };
            let position: Position = window.charge(policy, cost, now_us);
            if positions.try_push((policy.window_us, position)).is_err() {
                bug("a call with more limits than a key has windows")
            }
        }
        positions
    }

    fn add(&mut self, reservation: Reservation) {
        self.many().reservations.push(reservation);
    }

    fn settle(&mut self, id: Id, actual: Cost, now_us: Micros) {
        let Self::Many(many) = self else { bug("a settlement without a reservation") };
        let index = many.reservations.iter().position(|reservation| reservation.id == id);
        let Some(index) = index else { bug("a settlement without its reservation") };
        let settled = many.reservations.remove(index);
        for window in &mut many.windows {
            let window_us = window.policy.window_us;
            let position = settled.positions.iter().find(|(length_us, _)| *length_us == window_us);
            let Some((_, position)) = position else { continue };
            let settlement = Settlement { position: *position, estimate: settled.estimate, actual };
            let others = many.reservations.iter_mut();
            let others = others.filter_map(|other| other.position_mut(window_us));
            window.settle(&settlement, others, now_us);
        }
        self.compact();
    }

    /// When the key can go, in milliseconds since the epoch: nothing is used
    /// any more, and nothing can be settled.
    pub fn expires_at_ms(&self) -> Millis {
        match self {
            Self::One(window) => window.reset_at().div_ceil(MICROS_PER_MILLI),
            Self::Many(many) => {
                let windows = many.windows.iter().map(Window::reset_at);
                let settled = many.reservations.iter().map(|reservation| reservation.expires_at_ms);
                let windows = windows.map(|at_us| at_us.div_ceil(MICROS_PER_MILLI));
                windows.chain(settled).fold(0, Millis::max)
            }
        }
    }

    /// The parts of several blocks.
    fn many(&mut self) -> &mut Many {
        if let Self::One(_) = self {
            let Self::One(window) = std::mem::take(self) else { bug("one window is not one") };
            *self = Self::Many(Many { windows: vec![window], reservations: Vec::new() });
        }
        match self {
            Self::Many(many) => many,
            Self::One(_) => bug("one window is not many"),
        }
    }

    /// Gives the memory of a rush of reservations back after it.
    fn give_back(&mut self) {
        if let Self::Many(Many { reservations, .. }) = self
            && reservations.capacity() > 16
            && reservations.len() < reservations.capacity() / 4
        {
            reservations.shrink_to(reservations.len() * 2);
        }
    }

    /// Goes back to one block, if that is enough.
    fn compact(&mut self) {
        if let Self::Many(many) = self
            && let ([_], []) = (many.windows.as_slice(), many.reservations.as_slice())
            && let Some(window) = many.windows.pop()
        {
            *self = Self::One(window);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::policy::Policies;
    use super::*;
    use crate::bounds::MAX_AMOUNT;
    use proptest::prelude::*;
    use std::cell::Cell;

    const SECOND: Micros = 1_000_000;
    const MILLI: Micros = MICROS_PER_MILLI;

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

    /// A token bucket.
    fn bucket(limit: u64, seconds: u64, burst: u64, cost: Cost) -> Request {
        let mut request = request(&[(limit, seconds)], cost);
        request.policies[0].burst = burst;
        Request { algorithm: Some(Algorithm::Gcra), has_burst: true, ..request }
    }

    /// A key, and the replica of it: both apply what is decided.
    #[derive(Default)]
    struct Key {
        limiter: Option<Limiter>,
        replica: Option<Limiter>,
        ids: Cell<u8>,
    }

    impl Key {
        fn decide<'r>(
            &self,
            request: &'r Request,
            now_us: Micros,
        ) -> Result<Decision<'r>, Refusal> {
            Limiter::decide(self.limiter.as_ref(), request, now_us, || {
                self.ids.set(self.ids.get() + 1);
                Id([self.ids.get(); 16])
            })
        }

        fn apply(&mut self, change: &Change) {
            self.limiter.get_or_insert_default().apply(change);
            let mut payload = Vec::new();
            codec::encode_change(change, &mut payload);
            let mut policies = Policies::new();
            let sent = codec::decode_change(&payload, &mut policies).unwrap();
            assert!(Limiter::takes(self.replica.as_ref(), &sent), "{sent:?}");
            self.replica.get_or_insert_default().apply(&sent);
            assert_eq!(self.replica, self.limiter);
        }

        /// What is granted, what the limits say then, and the reservation.
        fn reserve(
            &mut self,
            request: &Request,
            now_us: Micros,
        ) -> Result<(Cost, Quota, Option<Id>), Refusal> {
            let decision = self.decide(request, now_us)?;
            decision.check_room()?;
            let Decision { algorithm, granted, mut quota, .. } = decision;
            if let Some(change) = &decision.change {
                self.apply(change);
                let (policies, all) = (&request.policies, granted == request.cost);
                let limiter = self.limiter.as_ref();
                if granted > 0 {
                    quota = Limiter::quota(limiter, algorithm, policies, request.cost, all, now_us);
                }
            }
            Ok((granted, quota, decision.reservation()))
        }

        fn call(&mut self, request: &Request, now_us: Micros) -> Result<(Cost, Quota), Refusal> {
            self.reserve(request, now_us).map(|(granted, quota, _)| (granted, quota))
        }

        fn settle(&mut self, id: Id, actual: Cost, now_us: Micros) -> bool {
            let limiter = self.limiter.as_ref();
            let change = limiter.and_then(|limiter| limiter.decide_settlement(id, actual, now_us));
            change.inspect(|change| self.apply(change)).is_some()
        }

        fn fits(&self, request: &Request, now_us: Micros) -> bool {
            self.decide(request, now_us).unwrap().quota.retry_after_us == Some(0)
        }

        fn remaining(&self, pairs: &[(u64, u64)], now_us: Micros) -> u64 {
            let look = Request { mode: Mode::Peek, ..request(pairs, 1) };
            self.decide(&look, now_us).unwrap().quota.remaining()
        }
    }

    #[test]
    fn a_key_with_one_window_is_one_block_of_64_bytes() {
        assert_eq!(size_of::<Limiter>(), 64);
        let mut key = Key::default();
        key.call(&request(&[(10, 60)], 1), 0).unwrap();
        key.call(&request(&[(10, 60)], 1), SECOND).unwrap();
        assert!(matches!(key.limiter, Some(Limiter::One(_))));
    }

    #[test]
    fn the_window_that_binds_answers() {
        let mut key = Key::default();
        let (granted, quota) = key.call(&request(&[(10, 1), (12, 60)], 9), 0).unwrap();
        assert_eq!((granted, quota.limit, quota.remaining()), (9, 10, 1));
        // Both deny: the longer wait binds.
        let (granted, quota) = key.call(&request(&[(10, 1), (12, 60)], 4), 0).unwrap();
        let retry_after_us = quota.retry_after_us;
        assert_eq!((granted, quota.limit, retry_after_us), (0, 12, Some(60 * SECOND)));
        // One that never can is the longest wait.
        let (_, quota) = key.call(&request(&[(10, 1), (12, 60)], 11), 0).unwrap();
        assert_eq!((quota.limit, quota.retry_after_us), (10, None));
    }

    #[test]
    fn windows_asked_for_by_turns_keep_what_is_used_of_them() {
        let mut key = Key::default();
        let granted: Vec<_> = (0..8)
            .map(|call| key.call(&request(&[(1, 60 + call % 2)], 1), call * SECOND).unwrap().0)
            .collect();
        assert_eq!(granted, [1, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(key.limiter.as_ref().unwrap().expires_at_ms(), 62_000);
        // When they are back at full, they are forgotten.
        key.call(&request(&[(1, 10)], 1), 100 * SECOND).unwrap();
        assert_eq!(key.limiter.unwrap().windows().len(), 1);
    }

    #[test]
    fn no_more_windows_are_kept_than_there_may_be() {
        let mut key = Key::default();
        for seconds in 1..=20 {
            key.call(&request(&[(1, 1_000 - seconds)], 1), 0).unwrap();
        }
        let limiter = key.limiter.as_ref().unwrap();
        assert_eq!(limiter.windows().len(), MAX_WINDOWS);
        assert_eq!(key.remaining(&[(1, 980)], 0), 0, "what was charged last is kept");
    }

    #[test]
    fn another_algorithm_takes_over_what_is_used() {
        let mut key = Key::default();
        key.call(&request(&[(10, 60), (20, 600)], 7), 0).unwrap();
        for algorithm in [Algorithm::Sliding, Algorithm::Gcra, Algorithm::Fixed] {
            let call = Request { algorithm: Some(algorithm), ..request(&[(10, 60)], 1) };
            assert_eq!(key.call(&call, 0).unwrap().0, 1);
            let limiter = key.limiter.as_ref().unwrap();
            assert!(limiter.windows().iter().all(|window| window.algorithm() == algorithm));
            assert_eq!(key.remaining(&[(20, 600)], 0), 13, "and of all windows");
        }
        assert_eq!(key.remaining(&[(10, 60)], 0), 0);
        // Without a word, a key keeps its own.
        let call = Request { default_algorithm: Algorithm::Gcra, ..request(&[(20, 60)], 1) };
        key.call(&call, 0).unwrap();
        assert_eq!(key.limiter.unwrap().algorithm(), Algorithm::Fixed);
    }

    #[test]
    fn part_of_a_cost_is_granted_and_all_of_it_forced() {
        let mut key = Key::default();
        let part = Request { mode: Mode::Partial, ..request(&[(10, 60), (6, 600)], 8) };
        assert_eq!(key.call(&part, 0).unwrap().0, 6);
        assert_eq!(key.call(&part, 0).unwrap().0, 0);
        let force = Request { mode: Mode::Force, ..request(&[(10, 60)], 8) };
        assert_eq!(key.call(&force, 0).unwrap().0, 8);
        assert_eq!(key.limiter.unwrap().windows()[0].used(0), 14);
    }

    #[test]
    fn a_part_fits_the_window_with_the_least_left_whichever_has_the_longest_wait() {
        let mut key = Key::default();
        key.call(&request(&[(9, 1)], 8), 0).unwrap();
        let part = Request { mode: Mode::Partial, ..request(&[(9, 1), (5, 600)], 7) };
        let (granted, quota) = key.call(&part, 0).unwrap();
        assert_eq!((granted, quota.limit, quota.remaining()), (1, 5, 4));
    }

    #[test]
    fn a_part_of_nothing_waits_for_the_first_unit() {
        let mut key = Key::default();
        key.call(&bucket(10, 10, 5, 5), 0).unwrap();
        // A cost that never fits whole is granted in part in a second.
        let part = Request { mode: Mode::Partial, ..bucket(10, 10, 5, 9) };
        let (granted, quota) = key.call(&part, 0).unwrap();
        assert_eq!((granted, quota.retry_after_us), (0, Some(SECOND)));
        assert_eq!(key.call(&part, SECOND).unwrap().0, 1);
    }

    #[test]
    fn what_is_forced_beyond_the_limit_is_owed() {
        let mut key = Key::default();
        let force = Request { mode: Mode::Force, ..request(&[(10, 60), (20, 600)], 25) };
        let (_, quota) = key.call(&force, 0).unwrap();
        assert_eq!((quota.limit, quota.balance(), quota.remaining()), (10, -15, 0));
        let most = Request { cost: MAX_AMOUNT, ..force };
        for _ in 0..5_000 {
            key.call(&most, 0).unwrap();
        }
        assert_eq!(key.call(&most, 0).unwrap().1.balance(), i64::MIN, "and ends there");
    }

    #[test]
    fn a_limit_that_was_raised_is_so_at_once() {
        // 1 in 10 s: told 10 s. 100 in 10 s: told 100 ms, and granted then.
        let mut key = Key::default();
        key.call(&bucket(1, 10, 1, 1), 0).unwrap();
        assert_eq!(key.call(&bucket(1, 10, 1, 1), 0).unwrap().1.retry_after_us, Some(10 * SECOND));
        let raised = bucket(100, 10, 1, 1);
        assert_eq!(key.call(&raised, 0).unwrap().1.retry_after_us, Some(100 * MILLI));
        assert!(!key.fits(&raised, 99 * MILLI));
        assert_eq!(key.call(&raised, 100 * MILLI).unwrap().0, 1);
    }

    #[test]
    fn a_limit_that_was_lowered_keeps_nobody_out_for_longer_than_the_old_one() {
        let mut key = Key::default();
        key.call(&bucket(1_000, 2, 1_000, 1_000), 0).unwrap();
        let lowered = bucket(10, 2, 10, 1);
        // 991 are to be paid, at 500 a second.
        assert_eq!(key.call(&lowered, 0).unwrap().1.retry_after_us, Some(1_982 * MILLI));
        assert!(!key.fits(&lowered, 1_981 * MILLI));
        assert_eq!(key.call(&lowered, 1_982 * MILLI).unwrap().0, 1);
        // From then on time pays at the new rate.
        let (_, quota) = key.call(&lowered, 1_982 * MILLI).unwrap();
        assert_eq!(quota.retry_after_us, Some(200 * MILLI));
    }

    #[test]
    fn only_a_grant_puts_another_limit_in_force() {
        let mut key = Key::default();
        key.call(&bucket(1, 10, 1, 1), 0).unwrap();
        let before = key.limiter.clone();
        for mode in [Mode::Whole, Mode::Partial, Mode::Peek] {
            let denied = Request { mode, ..bucket(2, 10, 1, 1) };
            assert_eq!(key.call(&denied, 0).unwrap().0, 0);
            let nothing = Request { mode, cost: 0, ..bucket(100, 10, 100, 1) };
            assert_eq!(key.call(&nothing, 5 * SECOND).unwrap().0, 0);
            assert_eq!(key.limiter, before, "{mode:?}");
        }
        let force = Request { mode: Mode::Force, ..bucket(2, 10, 1, 1) };
        key.call(&force, 0).unwrap();
        assert_eq!(key.limiter.unwrap().windows()[0].policy.limit, 2);
    }

    #[test]
    fn a_refund_leaves_the_time_of_the_last_charge_and_a_surcharge_is_one() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(60_000), ..bucket(10, 10, 10, 10) };
        let (_, _, id) = key.reserve(&estimate, 0).unwrap();
        assert!(key.settle(id.unwrap(), 4, 2 * SECOND));
        // 4 of 10 since then: at the caller's 20 in 10 s, 2 s have paid them.
        assert!(key.fits(&bucket(20, 10, 10, 10), 2 * SECOND));
        assert!(!key.fits(&bucket(10, 10, 10, 9), 2 * SECOND));

        let (_, _, id) = key.reserve(&estimate, 4 * SECOND).unwrap();
        assert!(key.settle(id.unwrap(), 15, 5 * SECOND));
        // 14 are owed from then on, so that time before pays at no caller's rate.
        let quota = key.decide(&bucket(100, 10, 10, 1), 5 * SECOND).unwrap().quota;
        assert_eq!((quota.used, quota.retry_after_us), (14, Some(500 * MILLI)));
    }

    #[test]
    fn another_algorithm_is_judged_by_what_the_old_one_says_until_it_is_charged() {
        let mut key = Key::default();
        key.call(&request(&[(10, 60)], 10), 0).unwrap();
        // A fixed window gives all back as it closes, also to a bucket.
        let gcra = Request { algorithm: Some(Algorithm::Gcra), ..request(&[(10, 60)], 1) };
        let (granted, quota) = key.call(&gcra, 30 * SECOND).unwrap();
        assert_eq!((granted, quota.retry_after_us), (0, Some(30 * SECOND)));
        assert_eq!(key.limiter.as_ref().unwrap().algorithm(), Algorithm::Fixed);
        let raised = Request { algorithm: Some(Algorithm::Gcra), ..request(&[(12, 60)], 1) };
        assert_eq!(key.call(&raised, 30 * SECOND).unwrap().0, 1);
        // 11 are charged as of then, and paid at 12 in 60 s.
        let (_, quota) = key.call(&raised, 30 * SECOND).unwrap();
        assert_eq!((quota.remaining(), quota.reset_after_us), (0, 60 * SECOND));
    }

    #[test]
    fn a_reservation_is_settled_once_and_only_while_it_is_open() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(5_000), ..request(&[(10, 60)], 6) };
        let (_, _, first) = key.reserve(&estimate, 0).unwrap();
        assert_eq!(key.reserve(&estimate, 0).unwrap().2, None);
        assert!(!key.settle(Id([2; 16]), 0, 0), "a denied one leaves nothing behind");
        assert!(key.settle(first.unwrap(), 2, SECOND));
        assert!(!key.settle(first.unwrap(), 2, SECOND));
        assert!(matches!(key.limiter, Some(Limiter::One(_))));
        assert_eq!(key.remaining(&[(10, 60)], SECOND), 8);

        let (_, _, next) = key.reserve(&estimate, SECOND).unwrap();
        assert!(!key.settle(next.unwrap(), 0, 6 * SECOND), "late");
        assert_eq!(key.remaining(&[(10, 60)], 6 * SECOND), 2);
    }

    #[test]
    fn a_key_has_as_many_reservations_open_as_it_may_and_outlives_them() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(90_000), ..request(&[(10, 60)], 1) };
        for _ in 0..2 {
            key.reserve(&estimate, 0).unwrap();
        }
        assert_eq!(key.reserve(&estimate, 0), Err(Refusal::TooManyReservations));
        // Whoever is denied has to wait, room or not.
        let beyond = Request { cost: 9, ..estimate.clone() };
        let (granted, quota, id) = key.reserve(&beyond, 0).unwrap();
        assert_eq!((granted, quota.retry_after_us, id), (0, Some(60 * SECOND), None));
        // So it is when another key denies.
        let mut decision = key.decide(&estimate, 0).unwrap();
        assert_eq!(decision.check_room(), Err(Refusal::TooManyReservations));
        decision.deny();
        assert_eq!(decision.check_room(), Ok(()));
        assert!(!decision.denies() && key.decide(&beyond, 0).unwrap().denies());
        assert_eq!(key.remaining(&[(10, 60)], 0), 8);
        assert_eq!(key.limiter.as_ref().unwrap().expires_at_ms(), 90_000);
        // Those that have expired make room.
        assert!(key.reserve(&estimate, 90 * SECOND).is_ok());
        assert_eq!(key.limiter.unwrap().reservations().len(), 1);
    }

    #[test]
    fn the_memory_of_a_rush_of_reservations_is_given_back() {
        let rush = |settles: bool| {
            let mut key = Limiter::default();
            let policies = [Policy::new(MAX_AMOUNT, SECOND)];
            let mut apply = |step, now_us| {
                key.apply(&Change { now_us, step });
                key.reservations().len()
            };
            let charge = |id: u16, ttl_ms| {
                let mut bytes = [0; 16];
                bytes[..2].copy_from_slice(&id.to_le_bytes());
                Step::Charge {
                    algorithm: Algorithm::Fixed,
                    policies: &policies,
                    cost: 1,
                    reservation: Some((Id(bytes), ttl_ms)),
                }
            };
            for id in 0..10_000 {
                assert_eq!(apply(charge(id, 300), 0), usize::from(id) + 1);
            }
            if settles {
                for id in 0..9_999 {
                    let Step::Charge { reservation: Some((id, _)), .. } = charge(id, 300) else {
                        unreachable!()
                    };
                    apply(Step::Settle { id, actual: 1 }, 0);
                }
            } else {
                assert_eq!(apply(charge(10_000, 300), 300 * MILLI), 1);
            }
            let Limiter::Many(many) = key else { panic!("one is open") };
            many.reservations.capacity()
        };
        assert!(rush(false) <= 16 && rush(true) <= 16);
    }

    #[test]
    fn a_clock_that_steps_back_keeps_no_reservation_longer_than_it_was_to_be_open() {
        let mut key = Key::default();
        let estimate = Request { reserve_ms: Some(5_000), ..request(&[(1, 60)], 1) };
        key.reserve(&estimate, 10_000 * SECOND).unwrap();
        assert_eq!(key.call(&request(&[(1, 60)], 1), 10 * SECOND).unwrap().0, 0);
        let limiter = key.limiter.unwrap();
        assert_eq!(limiter.reservations()[0].expires_at_ms, 15_000);
        assert_eq!(limiter.expires_at_ms(), 70_000);
    }

    #[test]
    fn a_window_forgotten_takes_no_settlement_of_an_older_charge() {
        let mut key = Key::default();
        let estimate = Request {
            algorithm: Some(Algorithm::Gcra),
            reserve_ms: Some(900_000),
            ..request(&[(10, 60)], 5)
        };
        let (_, _, id) = key.reserve(&estimate, 0).unwrap();
        // Back at full, and another window asked for: the first one is gone.
        key.call(&request(&[(10, 1)], 1), 100 * SECOND).unwrap();
        key.call(&request(&[(10, 60)], 10), 101 * SECOND).unwrap();
        assert!(key.settle(id.unwrap(), 0, 101 * SECOND));
        assert_eq!(key.remaining(&[(10, 60)], 101 * SECOND), 0);
    }

    #[test]
    fn takes_no_change_that_cannot_be_one_of_it() {
        let mut key = Key::default();
        let settle =
            |id: u8| Change { now_us: 0, step: Step::Settle { id: Id([id; 16]), actual: 1 } };
        let rewind = Change { now_us: 0, step: Step::Rewind };
        assert!(!Limiter::takes(None, &rewind) && !Limiter::takes(None, &settle(1)));
        let estimate = Request { reserve_ms: Some(5_000), ..request(&[(10, 60)], 1) };
        let open = key.decide(&estimate, 0).unwrap().change.unwrap();
        key.apply(&open);
        let limiter = key.limiter.as_ref();
        assert!(Limiter::takes(limiter, &settle(1)) && !Limiter::takes(limiter, &settle(2)));
        assert!(!Limiter::takes(limiter, &open), "that one is open already");
        assert!(Limiter::takes(limiter, &rewind));
        assert!(!Limiter::takes(limiter, &Change { now_us: 5 * SECOND, ..settle(1) }));
    }

    /// A call under one of a few limits that a key may be asked under by turns,
    /// and how many milliseconds later.
    fn turn() -> impl Strategy<Value = (Request, Micros)> {
        let limit = prop_oneof![4 => 1u64..30, 1 => Just(1_000u64), 1 => Just(0u64)];
        let burst = prop_oneof![Just(None), (1u64..40).prop_map(Some)];
        let windows = prop::sample::subsequence(vec![1u64, 3, 60], 1..=2);
        let algorithm = prop_oneof![
            3 => Just(None),
            1 => prop::sample::select(&Algorithm::ALL[..]).prop_map(Some)
        ];
        let mode = prop::sample::select(vec![Mode::Whole, Mode::Whole, Mode::Partial]);
        let step_ms = prop_oneof![Just(0u64), 0u64..40, 0u64..3_000];
        (windows, prop::collection::vec(limit, 2), burst, algorithm, 1u64..12, mode, step_ms)
            .prop_map(|(windows, limits, burst, algorithm, cost, mode, step_ms)| {
                let pairs: Vec<_> = limits.into_iter().zip(windows).collect();
                let mut request = Request { algorithm, mode, ..request(&pairs, cost) };
                if let ([policy], Some(burst)) = (request.policies.as_mut_slice(), burst) {
                    policy.burst = burst;
                }
                (request, step_ms * MILLI)
            })
    }

    proptest! {
        /// Denied in whole one millisecond before the wait is over, granted when
        /// it is, whatever the limits, bursts and algorithms before.
        #[test]
        fn the_told_wait_is_true_after_every_change_of_limit_burst_and_algorithm(
            start_us in prop_oneof![Just(1_800_000_000_000_000u64), 1_800_000_000_000_000u64..1_800_000_000_001_000],
            turns in prop::collection::vec(turn(), 1..80),
        ) {
            let (mut key, mut now_us) = (Key::default(), start_us);
            for (request, step_us) in turns {
                now_us += step_us;
                let (granted, quota) = key.call(&request, now_us).unwrap();
                if granted == request.cost {
                    continue;
                }
                // What a partial call waits for when nothing is left.
                let cost = if request.mode == Mode::Partial && granted == 0 { 1 } else { request.cost };
                let fits = |at_us| key.fits(&Request { cost, ..request.clone() }, at_us);
                match quota.retry_after_us {
                    None => {
                        let capacity = |policy: &Policy| {
                            policy.capacity(key.decide(&request, now_us).unwrap().algorithm)
                        };
                        prop_assert!(request.policies.iter().any(|policy| cost > capacity(policy)));
                    }
                    Some(wait_us) => {
                        let told_us = wait_us.div_ceil(MILLI) * MILLI;
                        prop_assert!(wait_us > 0);
                        prop_assert!(!fits(now_us + told_us - MILLI) && !fits(now_us + wait_us - 1));
                        prop_assert!(fits(now_us + told_us) && fits(now_us + wait_us));
                        prop_assert_eq!(quota.reset_after_us >= wait_us, true);
                    }
                }
            }
        }

        /// Whoever alternates between limits, as fast as the waits let it.
        #[test]
        fn no_interval_lets_in_more_than_the_largest_burst_and_the_fastest_rate(
            window_s in prop::sample::select(vec![1u64, 7, 60]),
            limits in prop::collection::vec((1u64..2_000, 1u64..50), 1..4),
            turns in prop::collection::vec((any::<prop::sample::Index>(), 1u64..60, any::<bool>(), any::<bool>(), 0u64..500), 1..120),
        ) {
            let (mut key, mut now_us) = (Key::default(), 1_800_000_000 * SECOND);
            let mut taken: Vec<(Micros, Cost)> = Vec::new();
            for (which, cost, partial, waits, step_ms) in turns {
                let (limit, burst) = limits[which.index(limits.len())];
                let mode = if partial { Mode::Partial } else { Mode::Whole };
                let call = Request { mode, ..bucket(limit, window_s, burst, cost) };
                let (granted, quota) = key.call(&call, now_us).unwrap();
                taken.push((now_us, granted));
                now_us += match quota.retry_after_us {
                    Some(wait_us) if waits => wait_us.div_ceil(MILLI) * MILLI,
                    _ => step_ms * MILLI,
                };
            }
            let fastest = u128::from(limits.iter().map(|(limit, _)| *limit).max().unwrap());
            let largest = u128::from(limits.iter().map(|(_, burst)| *burst).max().unwrap());
            let window_us = u128::from(window_s * SECOND);
            for (first, (from_us, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until_us, granted) in &taken[first..] {
                    sum += u128::from(*granted);
                    let most = largest * window_us + fastest * u128::from(until_us - from_us);
                    prop_assert!(sum * window_us <= most);
                }
            }
        }
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
                let quotas: Vec<Quota> = pairs.iter().map(|pair| {
                    alone.entry(pair.1).or_default().decide(&single(pair), now_us).unwrap().quota
                }).collect();
                let fits = quotas.iter().all(|quota| quota.retry_after_us == Some(0));

                let (granted, quota) = key.call(&whole, now_us).unwrap();
                prop_assert_eq!(granted, if fits { cost } else { 0 });
                let least = pairs.iter().map(|pair| {
                    let own = alone.get_mut(&pair.1).unwrap();
                    if fits {
                        own.call(&single(pair), now_us).unwrap();
                    }
                    own.remaining(&[*pair], now_us)
                }).min().unwrap();
                if fits {
                    prop_assert_eq!(quota.remaining(), least);
                } else {
                    let never = quotas.iter().any(|quota| quota.retry_after_us.is_none());
                    let longest = quotas.iter().filter_map(|quota| quota.retry_after_us).max();
                    prop_assert_eq!(quota.retry_after_us, longest.filter(|_| !never));
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
