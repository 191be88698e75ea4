//! How much was counted of each of a few things, which a domain numbers.

use super::reply_count;
use crate::bug;
use crate::metrics::Counter;
use crate::server::Reply;
use std::ffi::CStr;

/// The things that a domain counts, each with its name in ML.STATS: an enum `Counter`,
/// `Counts` of them, `TOTALS` of all namespaces, and the section of INFO that tells these
/// by the domain's name and theirs, and further figures after them.
macro_rules! counters {
    (
        $domain:literal: $($(#[$what:meta])+ $counter:ident = $name:literal,)+
        with $($figure:literal = $metric:expr,)*
    ) => {
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

        /// How much was counted of each, of all namespaces together.
        pub static TOTALS: $crate::stats::Totals<{ Counter::ALL.len() }> =
            $crate::stats::Totals::new();

        /// The section of INFO.
        #[allow(clippy::indexing_slicing)] // Checked when it is compiled.
        pub static INFO: $crate::server::Section = $crate::server::Section {
            name: $crate::stats::c_name(concat!($domain, "\0")),
            fields: &[
                $((
                    $crate::stats::c_name(concat!($domain, "_", $name, "\0")),
                    &TOTALS.0[Counter::$counter as usize],
                ),)+
                $(($crate::stats::c_name(concat!($domain, "_", $figure, "\0")), $metric),)*
            ],
        };
    };
}

pub(crate) use counters;

/// A name as C has it, of a text that ends in its zero; checked when it is compiled.
#[allow(clippy::panic)]
pub const fn c_name(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(name) => name,
        Err(_) => panic!("a name ends in its only zero"),
    }
}

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
