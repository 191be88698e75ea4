//! What is counted for `INFO ml`.

use crate::bug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A figure of `INFO ml`.
pub trait Metric: Sync {
    /// Its value now.
    fn value(&self) -> u64;
}

/// A count since the module was loaded.
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// So many more. Every command runs on the server's main thread, so that a load
    /// and a store lose nothing and cost less than a locked addition.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }
}

impl Metric for Counter {
    fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many there are of something that comes and goes, also in the threads
/// that free values in the background.
pub struct Gauge(AtomicI64);

impl Gauge {
    /// None.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// So many more, or fewer.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Relaxed);
    }
}

impl Metric for Gauge {
    fn value(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or_else(|_| bug("a gauge below nothing"))
    }
}

/// What one owner has of what a gauge counts; taken back when the owner goes.
/// It is no part of what the owner is: any two are equal.
pub struct Share {
    gauge: &'static Gauge,
    count: i64,
}

impl Share {
    /// Nothing of it.
    pub const fn none_of(gauge: &'static Gauge) -> Self {
        Self { gauge, count: 0 }
    }

    /// So many of it.
    pub fn set(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if count != self.count {
            self.gauge.add(count - self.count);
            self.count = count;
        }
    }
}

impl Clone for Share {
    fn clone(&self) -> Self {
        self.gauge.add(self.count);
        Self { ..*self }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.add(-self.count);
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "{}", self.count)
    }
}

impl PartialEq for Share {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Share {}
