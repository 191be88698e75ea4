//! One window of a limiter, by whichever algorithm.

use super::closing::Closing;
use super::fixed::Fixed;
use super::gcra::Gcra;
use super::meter::{Meter, Position, Settlement};
use super::policy::{Algorithm, Cost, Policy};
use super::quota::Quota;
use super::sliding::Sliding;
use crate::time::Micros;

/// What has been used of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Of a fixed window.
    Fixed(Fixed),
    /// Of a sliding window.
    Sliding(Sliding),
    /// Of a token bucket.
    Gcra(Gcra),
    /// Of a window that closes at a moment, whatever the algorithm of the others.
    Closing(Closing),
}

/// The same expression for the meter of any algorithm.
macro_rules! each {
    ($usage:expr, $meter:ident => $result:expr) => {
        match $usage {
            Usage::Fixed($meter) => $result,
            Usage::Sliding($meter) => $result,
            Usage::Gcra($meter) => $result,
            Usage::Closing($meter) => $result,
        }
    };
}

impl Usage {
    fn none(algorithm: Algorithm, policy: &Policy) -> Self {
        match algorithm {
            _ if policy.close().is_some() => Self::Closing(Closing::default()),
            Algorithm::Fixed => Self::Fixed(Fixed::default()),
            Algorithm::Sliding => Self::Sliding(Sliding::default()),
            Algorithm::Gcra => Self::Gcra(Gcra::default()),
        }
    }
}

/// A window: a limit, known by its length, and what has been used of it.
///
/// Whoever asks brings a policy of its own, of the same length. It is judged by
/// that one's capacity and, where the algorithm is the window's too, by the
/// faster of the two rates: so a limit that was raised is so at once, and one
/// that was lowered keeps nobody out for longer than what was used before would
/// have. Only a charge has the window go on under the caller's policy. Whoever
/// alternates thus gets, in no time, more than the largest burst and what the
/// fastest rate gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The limit last charged under.
    pub policy: Policy,
    /// What has been used.
    pub usage: Usage,
}

impl Window {
    /// A window of which nothing has been used.
    pub fn unused(algorithm: Algorithm, policy: Policy) -> Self {
        Self { policy, usage: Usage::none(algorithm, &policy) }
    }

    /// The algorithm it is kept by; `None` of one that closes at a moment.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self.usage {
            Usage::Fixed(_) => Some(Algorithm::Fixed),
            Usage::Sliding(_) => Some(Algorithm::Sliding),
            Usage::Gcra(_) => Some(Algorithm::Gcra),
            Usage::Closing(_) => None,
        }
    }

    /// Whether a caller's algorithm is what it is kept by.
    pub fn is_kept_by(&self, algorithm: Algorithm) -> bool {
        self.algorithm().is_none_or(|own| own == algorithm)
    }

    /// What a limit says to a call of `cost`. One of another algorithm than the
    /// window's is judged by what that says is used at each moment.
    pub fn quota(
        &self,
        algorithm: Algorithm,
        policy: &Policy,
        cost: Cost,
        now_us: Micros,
    ) -> Quota {
        let capacity = policy.capacity(algorithm);
        if self.is_kept_by(algorithm) {
            let policy = self.policy.faster(policy);
            each!(&self.usage, meter => meter.quota(&policy, capacity, cost, now_us))
        } else {
            each!(&self.usage, meter => meter.quota(&self.policy, capacity, cost, now_us))
        }
    }

    /// What the limit last charged under says to a call of `cost`.
    pub fn own_quota(&self, cost: Cost, now_us: Micros) -> Quota {
        self.quota(self.algorithm().unwrap_or_default(), &self.policy, cost, now_us)
    }

    /// Charges `cost` under a limit, whether or not it fits. The window is kept
    /// by the limit's algorithm already.
    pub fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position {
        // The caller's, at the faster of the two rates.
        let pace = policy.faster(&self.policy);
        self.policy = *policy;
        each!(&mut self.usage, meter => meter.charge(&pace, cost, now_us))
    }

    /// Has the window kept by another algorithm, which takes over what is used as
    /// charged now.
    pub fn carry_over(&mut self, algorithm: Algorithm, now_us: Micros) {
        if !self.is_kept_by(algorithm) {
            let used = self.used(now_us);
            self.usage = Usage::none(algorithm, &self.policy);
            each!(&mut self.usage, meter => meter.charge(&self.policy, used, now_us));
        }
    }

    /// Whether it lies ahead of a clock that stepped back.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        each!(&self.usage, meter => meter.is_ahead(&self.policy, now_us))
    }

    /// See [`Meter::rewind_to`].
    pub fn rewind_to<'p>(
        &mut self,
        positions: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    ) {
        each!(&mut self.usage, meter => meter.rewind_to(&self.policy, positions, now_us));
    }

    /// How much is used.
    pub fn used(&self, now_us: Micros) -> u64 {
        each!(&self.usage, meter => meter.used(&self.policy, now_us))
    }

    /// Settles a charge of `estimate` by its actual cost, and says what gap that leaves;
    /// see [`Meter::settle`]. Of one without a position nothing comes back, and one of
    /// nothing was none: what they cost beyond the estimate is charged now.
    pub fn settle(
        &mut self,
        position: Option<Position>,
        estimate: Cost,
        actual: Cost,
        now_us: Micros,
    ) -> Cost {
        let policy = &self.policy;
        each!(&mut self.usage, meter => match position {
            Some(position) if estimate > 0 => {
                meter.settle(policy, &Settlement { position, estimate, actual }, now_us)
            }
            _ => {
                if actual > estimate {
                    meter.charge(policy, actual - estimate, now_us);
                }
                0
            }
        })
    }

    /// When nothing is used any more, or some time before now if nothing is.
    /// Under no limit is it later.
    pub fn reset_at(&self) -> Micros {
        each!(&self.usage, meter => meter.reset_at(&self.policy))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.usage {
            Usage::Sliding(sliding) => sliding.0.heap_bytes(),
            Usage::Fixed(_) | Usage::Gcra(_) | Usage::Closing(_) => 0,
        }
    }
}
