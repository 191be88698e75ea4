//! What is counted of each namespace, for ML.STATS.

use crate::server::{Global, Lock, Reply};
use crate::stats::{Namespaces, Section, Selection, max_namespaces, reply_count};
use crate::time::Micros;

/// Counts of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows read.
    pub rows: u64,
    /// Hashes read.
    pub hashes: u64,
    /// Fields that were asked for and there.
    pub found: u64,
    /// Fields that were asked for and not there.
    pub missing: u64,
    /// Fields that were asked for and older than the call took them.
    pub too_old: u64,
    /// Rows written.
    pub written: u64,
    /// Writes left out since the row held newer values.
    pub late: u64,
}

impl Counts {
    fn all(&self) -> [(&'static str, u64); 7] {
        let Self { rows, hashes, found, missing, too_old, written, late } = *self;
        [
            ("rows", rows),
            ("hashes", hashes),
            ("found", found),
            ("missing", missing),
            ("too_old", too_old),
            ("written", written),
            ("late", late),
        ]
    }

    /// What was counted between `before` and now.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            rows: self.rows - before.rows,
            hashes: self.hashes - before.hashes,
            found: self.found - before.found,
            missing: self.missing - before.missing,
            too_old: self.too_old - before.too_old,
            written: self.written - before.written,
            late: self.late - before.late,
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.hashes += more.hashes;
        self.found += more.found;
        self.missing += more.missing;
        self.too_old += more.too_old;
        self.written += more.written;
        self.late += more.late;
    }
}

static COUNTS: Global<Namespaces<Counts>> = Global::new();

/// Counts so much more of a key.
pub fn count(lock: &Lock, key: &[u8], more: Counts) {
    COUNTS.with(lock, |namespaces| *namespaces.of_key(key, max_namespaces) += more);
}

/// The section of ML.STATS.
pub const STATS: Section = Section { keyword: "FEATURES", report, reset };

fn report(lock: &Lock, selection: Selection, _now: Micros, reply: Reply) {
    COUNTS.with(lock, |namespaces| {
        let asked_for = namespaces
            .iter_mut()
            .filter(|(name, counts)| selection.has(name) && **counts != Counts::default());
        let asked_for: Vec<_> = asked_for.collect();
        reply.map(asked_for.len());
        for (name, counts) in asked_for {
            let counts = counts.all();
            reply.bytes(name);
            reply.map(counts.len());
            counts.iter().for_each(|(name, count)| reply_count(reply, name, *count));
        }
    });
}

fn reset(lock: &Lock, selection: Selection) {
    COUNTS.with(lock, |namespaces| namespaces.reset(|name| selection.has(name)));
}
