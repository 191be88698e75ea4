//! A limiter: the windows of a key, decided together, and what is held of it.
//!
//! A call is [decided](Limiter::decide) without changing anything. What it
//! changes, if anything, is a [`Change`], and [`Limiter::apply`] the only code
//! that carries one out, on whoever decided it and on replicas alike. All of a
//! call's windows are charged there, or none is.

use super::change::{Change, Opened, Step};
use super::ledger::{Charge, Entry, Ledger, Positions};
use super::meter::Position;
use super::policy::{Algorithm, Cost, MAX_WINDOWS, Policy};
use super::quota::Quota;
use super::request::{Decision, HoldRequest, Mode, Refusal, Request};
use super::window::Window;
use crate::bug;
use crate::hold::{Hold, MAX_HOLDS};
use crate::id::Id;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use arrayvec::ArrayVec;
use std::borrow::Cow;
use std::iter;

/// The state of one key. Most have one window and nothing else: these are one
/// block.
#[derive(Clone, Debug)]
pub enum Limiter {
    /// One window.
    One(Window),
    /// One window, and holds.
    Held(Box<Held>),
    /// Several windows.
    Many(Many),
}

/// One window, and what is yet to be settled.
#[derive(Clone, Debug)]
pub struct Held {
    /// The window.
    pub window: Window,
    /// What is yet to be settled.
    pub ledger: Ledger,
}

/// Several windows.
#[derive(Clone, Debug)]
pub struct Many {
    /// The windows, each of another length; at least one, at most
    /// [`MAX_WINDOWS`].
    pub windows: Vec<Window>,
    /// What is yet to be settled, if anything is.
    pub ledger: Option<Box<Ledger>>,
}

/// The same windows and the same holds, in however many blocks.
impl PartialEq for Limiter {
    fn eq(&self, other: &Self) -> bool {
        self.windows() == other.windows() && self.entries().eq(other.entries())
    }
}

impl Eq for Limiter {}

/// A limiter that nobody has charged.
impl Default for Limiter {
    fn default() -> Self {
        Self::One(Window::unused(Algorithm::default(), Policy::default()))
    }
}

impl Limiter {
    /// A limiter of these parts, where the charges that are held sit in these windows;
    /// `None` unless there can be one.
    pub fn of(windows: Vec<Window>, ledger: Ledger) -> Option<Self> {
        let mut kept_by = windows.iter().filter_map(Window::algorithm);
        let first = kept_by.next();
        let alike = kept_by.all(|algorithm| Some(algorithm) == first);
        let mut lengths: Vec<_> = windows.iter().map(|window| window.policy.window_us).collect();
        lengths.sort_unstable();
        let distinct = lengths.is_sorted_by(|one, next| one != next);
        let sound = alike
            && distinct
            && (1..=MAX_WINDOWS).contains(&windows.len())
            && ledger.holds().len() <= MAX_HOLDS;
        let ledger = (!ledger.holds().is_empty()).then(|| Box::new(ledger));
        let mut limiter = Self::Many(Many { windows, ledger });
        limiter.compact();
        sound.then_some(limiter)
    }

    /// The windows.
    pub fn windows(&self) -> &[Window] {
        match self {
            Self::One(window) => std::slice::from_ref(window),
            Self::Held(held) => std::slice::from_ref(&held.window),
            Self::Many(many) => &many.windows,
        }
    }

    /// What is yet to be settled, if anything is.
    pub fn ledger(&self) -> Option<&Ledger> {
        match self {
            Self::One(_) => None,
            Self::Held(held) => Some(&held.ledger),
            Self::Many(many) => many.ledger.as_deref(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.ledger().into_iter().flat_map(Ledger::entries)
    }

    /// The windows and what is yet to be settled.
    fn parts_mut(&mut self) -> (&mut [Window], Option<&mut Ledger>) {
        match self {
            Self::One(window) => (std::slice::from_mut(window), None),
            Self::Held(held) => (std::slice::from_mut(&mut held.window), Some(&mut held.ledger)),
            Self::Many(many) => (&mut many.windows, many.ledger.as_deref_mut()),
        }
    }

    /// The algorithm that its windows are kept by; `None` where all of them close at a
    /// moment.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.windows().iter().find_map(Window::algorithm)
    }

    /// Decides on a call. `current` is the key's state, if it has one. Whether there
    /// is [room](Decision::check_room) for it is to be asked before that is done.
    pub fn decide<'r>(
        current: Option<&Self>,
        request: &'r Request,
        now_us: Micros,
    ) -> Result<Decision<'r>, Refusal> {
        match current.and_then(|limiter| limiter.decide_common(request, now_us)) {
            Some(decision) => Ok(decision),
            None => Self::decide_any(current, request, now_us),
        }
    }

    /// Decides on a call that need not be [common](super::common).
    pub(super) fn decide_any<'r>(
        current: Option<&Self>,
        request: &'r Request,
        now_us: Micros,
    ) -> Result<Decision<'r>, Refusal> {
        let kept = || current.and_then(Self::algorithm).unwrap_or(request.default_algorithm);
        let algorithm = request.algorithm.unwrap_or_else(kept);
        if request.has_burst && algorithm != Algorithm::Gcra {
            return Err(Refusal::BurstWithoutBucket);
        }
        let ask = |cost, granted| {
            Self::quota(current, algorithm, &request.policies, cost, granted, now_us)
        };
        let ahead = current.is_some_and(|limiter| limiter.is_ahead(now_us));
        let change = |step| Some(Change { now_us, step });
        let hold = request.hold.filter(|_| request.mode != Mode::Peek);
        if let Some(held) = hold.and_then(|hold| current?.held(hold.id, now_us)) {
            if held.note.asked != request.cost {
                return Err(Refusal::AskedFor(held.note.asked));
            }
            // It is let in already, and takes nothing more.
            return Ok(Decision {
                algorithm,
                allowed: true,
                granted: held.cost,
                quota: ask(request.cost, true),
                after: None,
                change: if ahead { change(Step::Rewind) } else { None },
                ahead,
                full: false,
                hold: hold.map(|hold| hold.id),
            });
        }
        let mut quota = ask(request.cost, false);
        let fits = quota.retry_after_us == Some(0) || request.cost == 0;
        let granted = match request.mode {
            _ if fits => request.cost,
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
        let allowed = fits || granted > 0;
        let opens = hold.filter(|_| allowed);
        let full = opens.is_some()
            && current.is_some_and(|limiter| limiter.open(now_us) >= request.max_holds);
        let change = match request.mode {
            Mode::Peek => None,
            _ if granted > 0 || opens.is_some() => {
                let hold = opens.map(|HoldRequest { id, ttl_ms }| Opened {
                    id,
                    ttl_ms,
                    asked: request.cost,
                });
                let policies = request.policies.as_slice();
                change(Step::Charge { algorithm, policies, cost: granted, hold })
            }
            _ if ahead => change(Step::Rewind),
            _ => None,
        };
        let hold = opens.map(|hold| hold.id);
        let after = None;
        Ok(Decision { algorithm, allowed, granted, quota, after, change, ahead, full, hold })
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

    /// How many holds are open.
    pub fn open(&self, now_us: Micros) -> usize {
        self.ledger().map_or(0, |ledger| ledger.holds().open_sum(now_us).count)
    }

    /// The state as it is to be seen at `now_us`: rewound, where the clock stepped
    /// back behind it.
    pub fn seen_at(&self, now_us: Micros) -> Cow<'_, Self> {
        let mut seen = Cow::Borrowed(self);
        if self.is_ahead(now_us) {
            seen.to_mut().rewind_to(now_us);
        }
        seen
    }

    /// What is open under an id.
    fn held(&self, id: Id, now_us: Micros) -> Option<&Hold<Charge>> {
        self.ledger()?.holds().open(id, now_us)
    }

    /// Whether anything of it lies ahead of a clock that stepped back.
    fn is_ahead(&self, now_us: Micros) -> bool {
        self.windows().iter().any(|window| window.is_ahead(now_us))
            || self.ledger().is_some_and(|ledger| ledger.holds().is_ahead(now_us))
    }

    /// Decides on a settlement, by the actual cost or else as estimated: `None`
    /// unless the hold is open.
    pub fn decide_settlement(
        &self,
        id: Id,
        actual: Option<Cost>,
        now_us: Micros,
    ) -> Option<Change<'static>> {
        self.held(id, now_us)?;
        Some(Change { now_us, step: Step::Settle { id, actual } })
    }

    /// Decides on a renewal: `None` unless the hold is open.
    pub fn decide_renewal(
        &self,
        id: Id,
        ttl_ms: Millis,
        now_us: Micros,
    ) -> Option<Change<'static>> {
        self.held(id, now_us)?;
        Some(Change { now_us, step: Step::Renew { id, ttl_ms } })
    }

    /// Whether a change that comes from elsewhere can be one of this state, or of
    /// a key that does not exist.
    pub fn takes(current: Option<&Self>, change: &Change) -> bool {
        let is_open = |id| current.is_some_and(|limiter| limiter.held(id, change.now_us).is_some());
        match change.step {
            Step::Rewind => current.is_some(),
            Step::Charge { hold: None, .. } => true,
            Step::Charge { hold: Some(Opened { id, .. }), .. } => {
                let open = current.map_or(0, |limiter| limiter.open(change.now_us));
                open < MAX_HOLDS && !is_open(id)
            }
            Step::Settle { id, .. } | Step::Renew { id, .. } => is_open(id),
        }
    }

    /// Carries out a change that was decided on this state, or that it
    /// [takes](Self::takes). A key that does not exist is one of the default.
    pub fn apply(&mut self, change: &Change) {
        let now_us = change.now_us;
        // Nearly every change is a charge to one window that is there already: the
        // same steps, without a look for what is not.
        if let (Self::One(window), Step::Charge { algorithm, policies, cost, hold: None }) =
            (&mut *self, change.step)
            && let [policy] = policies
            && window.policy.window_us == policy.window_us
            && window.is_kept_by(algorithm)
        {
            window.rewind_to(std::iter::empty(), now_us);
            window.charge(policy, cost, now_us);
            return;
        }
        self.rewind_to(now_us);
        self.end(now_us);
        match change.step {
            Step::Rewind => {}
            Step::Charge { algorithm, policies, cost, hold } => {
                self.make_room(policies, algorithm, now_us);
                if cost > 0 && self.algorithm().is_some_and(|kept| kept != algorithm) {
                    self.carry_over(algorithm, now_us);
                }
                let positions = self.charge(policies, cost, now_us);
                if let Some(Opened { id, ttl_ms, asked }) = hold {
                    let entry = Entry { id, cost, asked, ttl_ms, since_us: now_us, positions };
                    self.ledger_or_none_yet().add(entry);
                }
            }
            Step::Settle { id, actual } => self.settle(id, actual, now_us),
            Step::Renew { id, ttl_ms } => self.ledger_mut().renew(id, ttl_ms, now_us),
        }
    }

    /// Rewinds to a clock that stepped back what lies ahead of it.
    fn rewind_to(&mut self, now_us: Micros) {
        let (windows, mut ledger) = self.parts_mut();
        for window in windows.iter_mut().filter(|window| window.is_ahead(now_us)) {
            let window_us = window.policy.window_us;
            match &mut ledger {
                Some(ledger) => window.rewind_to(ledger.positions_mut(window_us), now_us),
                None => window.rewind_to(iter::empty(), now_us),
            }
        }
        if let Some(ledger) = ledger {
            ledger.rewind_to(now_us);
        }
    }

    /// Has the holds be over that have ended.
    fn end(&mut self, now_us: Micros) {
        if let (_, Some(ledger)) = self.parts_mut() {
            ledger.end(now_us);
            self.compact();
        }
    }

    /// Has all windows kept by another algorithm, which takes over what is
    /// used; the charges in it can be told apart no more.
    fn carry_over(&mut self, algorithm: Algorithm, now_us: Micros) {
        let (windows, ledger) = self.parts_mut();
        windows.iter_mut().for_each(|window| window.carry_over(algorithm, now_us));
        if let Some(ledger) = ledger {
            ledger.take_over();
        }
    }

    /// Makes sure that there is a window for each of the policies. Other ones
    /// stay while something is used of them: a caller that asks by turns for
    /// different windows finds each as it left it.
    fn make_room(&mut self, policies: &[Policy], algorithm: Algorithm, now_us: Micros) {
        // A new key is kept as its first caller says, who may charge nothing yet.
        if let ([first, ..], true) = (policies, *self == Self::default()) {
            *self = Self::One(Window::unused(algorithm, *first));
        }
        if policies.iter().all(|policy| self.window(policy.window_us).is_some()) {
            return;
        }
        // No window stays for what is over.
        if let (_, Some(ledger)) = self.parts_mut() {
            ledger.remove_all_over();
            self.compact();
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
        let kept_by = self.algorithm().unwrap_or(algorithm);
        let Many { windows, ledger } = self.many();
        // What is held of a window may yet be charged to it.
        let is_tracked = |window: &Window| {
            ledger.as_ref().is_some_and(|ledger| ledger.tracks(window.policy.window_us))
        };
        windows
            .retain(|window| is_asked(window) || window.reset_at() > now_us || is_tracked(window));
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
        if let Some(ledger) = ledger {
            ledger.keep_tracks(|window_us| {
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
            // Nothing is stored for nothing: not the caller's limit either.
            let position = match cost {
                0 => Position::GONE,
                _ => window.charge(policy, cost, now_us),
            };
            if positions.try_push((policy.window_us, Some(position))).is_err() {
                bug("a call with more limits than a key has windows")
            }
        }
        positions
    }

    fn settle(&mut self, id: Id, actual: Option<Cost>, now_us: Micros) {
        let (windows, ledger) = self.parts_mut();
        let Some(ledger) = ledger else { bug("a change of a hold where there is none") };
        let settled = ledger.entry(id);
        let mut gaps = ArrayVec::<_, MAX_WINDOWS>::new();
        let actual = actual.unwrap_or(settled.cost);
        for (window_us, position) in settled.positions {
            let mut windows = windows.iter_mut();
            let Some(window) = windows.find(|window| window.policy.window_us == window_us) else {
                bug("a charge in a window that is not there")
            };
            gaps.push((window_us, window.settle(position, settled.cost, actual, now_us)));
        }
        ledger.close_gaps(id, &gaps);
        ledger.remove(id);
        self.compact();
    }

    fn ledger_mut(&mut self) -> &mut Ledger {
        match self.parts_mut() {
            (_, Some(ledger)) => ledger,
            (_, None) => bug("a change of a hold where there is none"),
        }
    }

    /// When the key can go, in milliseconds since the epoch: nothing is used
    /// any more, and nothing can be settled.
    pub fn expires_at_ms(&self) -> Millis {
        let windows_us = match self.windows() {
            [window] => window.reset_at(),
            windows => windows.iter().map(Window::reset_at).fold(0, Micros::max),
        };
        let held_us = self.ledger().and_then(|ledger| ledger.holds().last_end_us());
        windows_us.max(held_us.unwrap_or(0)).div_ceil(MICROS_PER_MILLI)
    }

    /// The ledger, which is one without holds if there was none.
    fn ledger_or_none_yet(&mut self) -> &mut Ledger {
        if let Self::One(_) = self {
            let Self::One(window) = std::mem::take(self) else { bug("one window is not one") };
            *self = Self::Held(Box::new(Held { window, ledger: Ledger::default() }));
        }
        match self {
            Self::Held(held) => &mut held.ledger,
            Self::Many(many) => many.ledger.get_or_insert_default(),
            Self::One(_) => bug("one window has holds"),
        }
    }

    /// Several windows, and what is yet to be settled.
    fn many(&mut self) -> &mut Many {
        *self = Self::Many(match std::mem::take(self) {
            Self::One(window) => Many { windows: vec![window], ledger: None },
            Self::Held(held) => {
                let Held { window, ledger } = *held;
                Many { windows: vec![window], ledger: Some(Box::new(ledger)) }
            }
            Self::Many(many) => many,
        });
        match self {
            Self::Many(many) => many,
            Self::One(_) | Self::Held(_) => bug("one window is not many"),
        }
    }

    /// Goes back to as few blocks as are enough.
    fn compact(&mut self) {
        let is_spent = self.ledger().is_none_or(|ledger| ledger.holds().is_spent());
        match self {
            Self::One(_) => return,
            Self::Held(_) if !is_spent => return,
            Self::Held(_) => {}
            Self::Many(many) => {
                many.ledger.take_if(|_| is_spent);
                if many.windows.len() > 1 {
                    return;
                }
            }
        }
        *self = match std::mem::take(self) {
            Self::One(window) => Self::One(window),
            Self::Held(held) => Self::One(held.window),
            Self::Many(Many { mut windows, ledger }) => match (windows.pop(), ledger) {
                (Some(window), None) => Self::One(window),
                (Some(window), Some(ledger)) => {
                    Self::Held(Box::new(Held { window, ledger: *ledger }))
                }
                (None, _) => bug("one window is none"),
            },
        };
    }
}

#[cfg(test)]
mod tests;
