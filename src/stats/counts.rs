//! How much was counted of each of a few things, which a domain numbers.

use super::reply_count;
use crate::bug;
use crate::metrics::Counter;
use crate::server::Reply;

/// The things that a domain counts, each with its name in ML.STATS: an enum `Counter`, and
/// `Counts` of them.
macro_rules! counters {
    ($($(#[$what:meta])+ $counter:ident = $name:literal,)+) => {
        /// One of the things counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$what])+ $counter,)+
        }

        impl Counter {
            /// All of them.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$counter),+];

            /// Its name in ML.STATS.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$counter => $name,)+
                }
            }
        }

        /// How much was counted of each.
        pub type Counts = $crate::stats::Counts<{ Counter::ALL.len() }>;
    };
}

pub(crate) use counters;

/// How much was counted of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Counts<N> {
    /// How much was counted of one.
    #[cfg(test)]
    pub fn get(&self, number: usize) -> u64 {
        let Self(counts) = self;
        counts.get(number).copied().unwrap_or_else(|| no_place())
    }

    /// Counts so many more.
    pub fn add(&mut self, number: usize, more: u64) {
        let count = self.0.get_mut(number).unwrap_or_else(|| no_place());
        *count = count.wrapping_add(more);
    }

    /// Answers all of them, by their names.
    pub fn reply(&self, reply: Reply, names: [&'static str; N]) {
        for (name, count) in names.into_iter().zip(self.0) {
            reply_count(reply, name, count);
        }
    }
}

/// The same of all namespaces together, for INFO.
pub struct Totals<const N: usize>(pub [Counter; N]);

impl<const N: usize> Totals<N> {
    /// Nothing yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self([const { Counter::new() }; N])
    }

    /// Counts so many more.
    pub fn add(&self, number: usize, more: u64) {
        self.0.get(number).unwrap_or_else(|| no_place()).add(more);
    }
}

#[cold]
fn no_place() -> ! {
    bug("a counter has no place")
}
