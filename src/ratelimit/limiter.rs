//! A limiter: the policy of a key and what has been used of it. Deciding is
//! pure; what a call changes comes back as the limiter's next state.

use super::fixed::Fixed;
use super::policy::{Cost, Policy};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};

/// The state of one key. The default is a limiter without a limit that nobody
/// has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limiter {
    /// The limit last charged under.
    pub policy: Policy,
    /// What has been used of it.
    pub window: Fixed,
}

/// A call, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The limit to hold the call to.
    pub policy: Policy,
    /// What the call takes.
    pub cost: Cost,
    /// Only look: what would the call answer?
    pub peek: bool,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The cost charged; 0 when denied. With PEEK, what would be charged.
    pub granted: Cost,
    /// The limit of the window that binds.
    pub limit: u64,
    /// What could be taken right after this call.
    pub remaining: u64,
    /// The wait after which the same call is granted, in microseconds: 0 when
    /// it was, `None` when it never can be.
    pub retry_after_us: Option<Micros>,
    /// Until the window is back at full, in microseconds.
    pub reset_after_us: Micros,
    /// The state to store, where the call changes it.
    pub next: Option<Limiter>,
}

impl Limiter {
    /// Decides on a call at `now_us`. `current` is the key's state, if it has
    /// one.
    pub fn decide(current: Option<&Self>, request: &Request, now_us: Micros) -> Outcome {
        let Request { policy, cost, peek } = *request;
        // Windows are known by their length: of another one, nothing is used.
        let mut window = current
            .filter(|limiter| limiter.policy.window_us == policy.window_us)
            .map(|limiter| limiter.window)
            .unwrap_or_default();
        let healed = window.follow_clock_back(now_us);
        let before = window.read(&policy, cost, now_us);
        let granted = before.retry_after_us == Some(0);
        if granted && !peek {
            window.charge(&policy, cost, now_us);
        }
        let after = window.read(&policy, cost, now_us);
        Outcome {
            granted: if granted { cost } else { 0 },
            limit: policy.limit,
            remaining: after.remaining,
            retry_after_us: before.retry_after_us,
            reset_after_us: after.reset_after_us,
            next: (!peek && (granted || healed)).then_some(Self { policy, window }),
        }
    }

    /// When the key can go, in milliseconds since the epoch: nothing is used
    /// any more.
    pub fn expires_at_ms(&self) -> Millis {
        self.window.full_at(&self.policy).div_ceil(MICROS_PER_MILLI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn request(limit: u64, window_s: u64, cost: Cost) -> Request {
        let policy = Policy { limit, window_us: window_s * SECOND };
        Request { policy, cost, peek: false }
    }

    fn charge(state: &mut Option<Limiter>, request: &Request, now_us: Micros) -> Outcome {
        let outcome = Limiter::decide(state.as_ref(), request, now_us);
        if let Some(next) = outcome.next.clone() {
            *state = Some(next);
        }
        outcome
    }

    #[test]
    fn a_peek_says_what_the_call_would_and_shows_the_state_as_it_stands() {
        let mut state = None;
        charge(&mut state, &request(10, 60, 4), SECOND);
        let peek = Request { peek: true, ..request(10, 60, 5) };
        let seen = Limiter::decide(state.as_ref(), &peek, 11 * SECOND);
        assert_eq!((seen.granted, seen.remaining, seen.retry_after_us), (5, 6, Some(0)));
        assert_eq!((seen.reset_after_us, seen.next), (50 * SECOND, None));
    }

    #[test]
    fn a_new_limit_keeps_what_is_used_and_a_new_window_starts_empty() {
        let mut state = None;
        charge(&mut state, &request(10, 60, 8), 0);
        assert_eq!(charge(&mut state, &request(5, 60, 1), SECOND).granted, 0);
        let relaxed = charge(&mut state, &request(20, 60, 1), SECOND);
        assert_eq!((relaxed.granted, relaxed.remaining), (1, 11));
        let other = charge(&mut state, &request(10, 1, 1), SECOND);
        assert_eq!((other.granted, other.remaining), (1, 9));
    }

    #[test]
    fn a_denied_call_changes_nothing_but_a_window_ahead_of_the_clock() {
        let mut state = None;
        charge(&mut state, &request(1, 60, 1), 5_000 * SECOND);
        let denied = Limiter::decide(state.as_ref(), &request(1, 60, 1), 5_001 * SECOND);
        assert_eq!((denied.granted, denied.next), (0, None));
        // The clock steps back an hour: denied still, for one window, not more.
        let denied = charge(&mut state, &request(1, 60, 1), 1_400 * SECOND);
        assert_eq!((denied.granted, denied.retry_after_us), (0, Some(60 * SECOND)));
        assert_eq!(charge(&mut state, &request(1, 60, 1), 1_460 * SECOND).granted, 1);
    }

    #[test]
    fn the_key_goes_when_the_window_closes() {
        let mut state = None;
        let odd = Request { policy: Policy { limit: 1, window_us: 1_001 }, ..request(1, 1, 1) };
        charge(&mut state, &odd, 10_000);
        assert_eq!(state.map(|limiter| limiter.expires_at_ms()), Some(12));
    }
}
