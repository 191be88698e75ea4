//! One window of a limiter, by whichever algorithm.

use super::fixed::Fixed;
use super::gcra::Gcra;
use super::policy::{Cost, Policy};
use super::sliding::Sliding;
use super::window::{Mark, Reading, Settlement, Window};
use crate::time::Micros;

/// How a limit is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Fixed windows, opened by the first charge.
    #[default]
    Fixed,
    /// Sliding windows: never more than the limit in any trailing window.
    Sliding,
    /// A token bucket, by the generic cell rate algorithm.
    Gcra,
}

impl Algorithm {
    /// All of them; the place of each is its number in payloads and configs.
    pub const ALL: [Self; 3] = [Self::Fixed, Self::Sliding, Self::Gcra];

    /// The keyword that names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "FIXED",
            Self::Sliding => "SLIDING",
            Self::Gcra => "GCRA",
        }
    }
}

/// What has been used of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Of a fixed window.
    Fixed(Fixed),
    /// Of a sliding window.
    Sliding(Sliding),
    /// Of a token bucket.
    Gcra(Gcra),
}

/// The same expression for the window of any algorithm.
macro_rules! each {
    ($usage:expr, $window:ident => $result:expr) => {
        match $usage {
            Usage::Fixed($window) => $result,
            Usage::Sliding($window) => $result,
            Usage::Gcra($window) => $result,
        }
    };
}

impl Usage {
    fn carried(algorithm: Algorithm, policy: &Policy, used: u64, now_us: Micros) -> Self {
        match algorithm {
            Algorithm::Fixed => Self::Fixed(Fixed::carried(policy, used, now_us)),
            Algorithm::Sliding => Self::Sliding(Sliding::carried(policy, used, now_us)),
            Algorithm::Gcra => Self::Gcra(Gcra::carried(policy, used, now_us)),
        }
    }
}

/// A limit and what has been used of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The limit last charged under.
    pub policy: Policy,
    /// What has been used.
    pub usage: Usage,
}

impl Slot {
    /// A limit of which nothing has been used.
    pub fn unused(algorithm: Algorithm, policy: Policy) -> Self {
        let usage = match algorithm {
            Algorithm::Fixed => Usage::Fixed(Fixed::default()),
            Algorithm::Sliding => Usage::Sliding(Sliding::default()),
            Algorithm::Gcra => Usage::Gcra(Gcra::default()),
        };
        Self { policy, usage }
    }

    /// The algorithm it is kept by.
    pub fn algorithm(&self) -> Algorithm {
        match self.usage {
            Usage::Fixed(_) => Algorithm::Fixed,
            Usage::Sliding(_) => Algorithm::Sliding,
            Usage::Gcra(_) => Algorithm::Gcra,
        }
    }

    /// What could be taken if nothing were used.
    pub fn capacity(&self) -> u64 {
        match self.usage {
            Usage::Fixed(_) => Fixed::capacity(&self.policy),
            Usage::Sliding(_) => Sliding::capacity(&self.policy),
            Usage::Gcra(_) => Gcra::capacity(&self.policy),
        }
    }

    /// Puts another limit in force, or another algorithm, which takes over
    /// what is used.
    pub fn put_under(&mut self, algorithm: Algorithm, policy: Policy, now_us: Micros) {
        if self.algorithm() != algorithm {
            let used = self.used(now_us);
            self.usage = Usage::carried(algorithm, &policy, used, now_us);
        } else if self.policy != policy {
            each!(&mut self.usage, window => window.advance(&self.policy, now_us));
        }
        self.policy = policy;
    }

    /// Whether this algorithm and this limit are in force.
    pub fn is_under(&self, algorithm: Algorithm, policy: &Policy) -> bool {
        self.algorithm() == algorithm && self.policy == *policy
    }

    /// The slot as it would be under another limit or algorithm.
    pub fn seen_under(&self, algorithm: Algorithm, policy: Policy, now_us: Micros) -> Self {
        let mut slot = self.clone();
        slot.put_under(algorithm, policy, now_us);
        slot
    }

    /// Whether it lies ahead of a clock that stepped back.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        each!(&self.usage, window => window.is_ahead(now_us))
    }

    /// See [`Window::follow_clock_back`].
    pub fn follow_clock_back<'m>(
        &mut self,
        marks: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    ) -> bool {
        each!(&mut self.usage, window => window.follow_clock_back(&self.policy, marks, now_us))
    }

    /// How much is used.
    pub fn used(&self, now_us: Micros) -> u64 {
        each!(&self.usage, window => window.used(&self.policy, now_us))
    }

    /// What the limit says to a call of `cost`.
    pub fn read(&self, cost: Cost, now_us: Micros) -> Reading {
        each!(&self.usage, window => window.read(&self.policy, cost, now_us))
    }

    /// Charges `cost`, whether or not it fits.
    pub fn charge(&mut self, cost: Cost, now_us: Micros) -> Mark {
        each!(&mut self.usage, window => window.charge(&self.policy, cost, now_us))
    }

    /// See [`Window::settle`].
    pub fn settle<'m>(
        &mut self,
        settlement: &Settlement,
        others: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    ) {
        each!(&mut self.usage, window => window.settle(&self.policy, settlement, others, now_us));
    }

    /// When nothing is used any more, or some time before now if nothing is.
    pub fn full_at(&self) -> Micros {
        each!(&self.usage, window => window.full_at(&self.policy))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.usage {
            Usage::Sliding(sliding) => sliding.0.heap_bytes(),
            Usage::Fixed(_) | Usage::Gcra(_) => 0,
        }
    }
}
