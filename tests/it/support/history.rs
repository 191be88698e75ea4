//! A history of what callers took and gave back, each call with the time at which it was
//! sent and that at which its answer was there; and whether it may be true. When a call was
//! carried out is not known, but it was between the two: if in some order that agrees with
//! that no limit was exceeded, nobody can tell that one was (as of any concurrent object:
//! Herlihy and Wing, "Linearizability", 1990).
//!
//! What is looked for is the opposite: so much that was certainly taken at once, whatever
//! the order. Of calls that were all sent after one moment and answered before another, one
//! was the last: it found all the others there.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in microseconds since 1970, by the clock that the servers go by.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// A call: when it was sent, and when it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub sent: u64,
    pub told: u64,
}

/// What a call took of a key.
#[derive(Clone, Debug)]
pub struct Taken {
    pub cost: i64,
    pub at: Span,
    /// How long its window was open still, of a fixed window: rounded up, in milliseconds.
    pub reset_ms: i64,
    /// How long it was held for certain, if nobody settled it.
    pub open_until: u64,
    /// When it was settled, and by what cost.
    pub settled: Option<(Span, i64)>,
    /// Whether it is not known if it was taken at all, or settled, since an answer was
    /// lost.
    pub is_uncertain: bool,
}

impl Taken {
    /// A cost that was charged.
    pub fn of(cost: i64, at: Span) -> Self {
        Self { cost, at, reset_ms: 0, open_until: 0, settled: None, is_uncertain: false }
    }

    /// The least that it came to up to a moment.
    fn least_until(&self, moment: u64) -> i64 {
        match self.settled {
            _ if self.is_uncertain => 0,
            Some((span, actual)) if span.sent < moment => actual.min(self.cost),
            _ => self.cost,
        }
    }

    /// What it comes to in the end: between the two.
    fn final_cost(&self) -> (i64, i64) {
        let actual = self.settled.map_or(self.cost, |(_, actual)| actual);
        match self.is_uncertain {
            true => (0, actual.max(self.cost)),
            false => (actual, actual),
        }
    }
}

/// What all come to in the end: between the two, which are the same where no answer was
/// lost.
pub fn total(all: &[Taken]) -> (i64, i64) {
    let add = |sum: (i64, i64), (least, most)| (sum.0 + least, sum.1 + most);
    all.iter().map(Taken::final_cost).fold((0, 0), add)
}

fn by_answer(all: &[Taken]) -> Vec<&Taken> {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by_key(|taken| taken.at.told);
    all
}

/// The most that was certainly used of a trailing window at the time of a charge.
pub fn most_in_any_window(all: &[Taken], window_us: u64) -> i64 {
    let all = by_answer(all);
    let (mut most, mut first) = (0, 0);
    for (place, last) in all.iter().enumerate() {
        let end = last.at.told;
        while all[first].at.told + window_us <= end {
            first += 1;
        }
        let within = all[first..=place].iter().filter(|taken| taken.at.sent + window_us > end);
        most = most.max(within.map(|taken| taken.least_until(end)).sum());
    }
    most
}

/// The most that was certainly used of one fixed window, which is known by when it closes.
/// No charge may have been settled below its cost: a window that comes back at full opens
/// anew.
pub fn most_in_a_fixed_window(all: &[Taken], window_us: u64) -> i64 {
    let closes = |taken: &Taken| {
        let reset_us = taken.reset_ms as u64 * 1_000;
        (taken.at.sent + reset_us - 1_000, taken.at.told + reset_us)
    };
    // Windows close at least one window apart: what is known so well is in one of them.
    let mut known: Vec<_> = all
        .iter()
        .map(|taken| (closes(taken), taken.least_until(u64::MAX)))
        .filter(|((from, to), _)| to - from < window_us / 3)
        .collect();
    known.sort_unstable();
    let (mut most, mut sum, mut common_end) = (0, 0, 0);
    for ((from, to), cost) in known {
        if from > common_end {
            (sum, common_end) = (0, to);
        }
        (sum, common_end) = (sum + cost, to.min(common_end));
        most = most.max(sum);
    }
    most
}

/// What a bucket must have held at least, that `limit` in a window flows into, for all
/// charges to have been granted.
pub fn least_bucket(all: &[Taken], limit: i64, window_us: u64) -> i64 {
    let mut all: Vec<_> = all.iter().collect();
    all.sort_by_key(|taken| taken.at.sent);
    let (limit, window_us) = (i128::from(limit), i128::from(window_us));
    let (mut charged, mut last_told, mut full, mut most) = (0, 0, i128::MIN, 0);
    for taken in all {
        full = full.max(limit * i128::from(taken.at.sent) - charged);
        charged += i128::from(taken.least_until(u64::MAX)) * window_us;
        last_told = last_told.max(i128::from(taken.at.told));
        most = most.max(charged - limit * last_told + full);
    }
    i64::try_from((most + window_us - 1) / window_us).unwrap()
}

/// The most that was certainly held at once.
pub fn most_held_at_once(all: &[Taken]) -> i64 {
    most_at_once(all, |taken| {
        let settled = taken.settled.map_or(u64::MAX, |(span, _)| span.sent);
        (taken.open_until.min(settled), 0)
    })
}

/// The most that was certainly used of what nothing leaves but what a settlement gives back.
pub fn most_charged(all: &[Taken]) -> i64 {
    most_at_once(all, |taken| {
        taken.settled.map_or((u64::MAX, taken.cost), |(span, actual)| (span.sent, actual))
    })
}

/// The most there certainly was at once; `end` says until when a charge was whole, and what
/// was left of it then.
fn most_at_once(all: &[Taken], end: impl Fn(&Taken) -> (u64, i64)) -> i64 {
    let mut changes = Vec::new();
    for taken in all.iter().filter(|taken| !taken.is_uncertain) {
        let (until, left) = end(taken);
        let left = left.min(taken.cost);
        match taken.at.told < until {
            true => changes.extend([(taken.at.told, taken.cost), (until, left - taken.cost)]),
            false => changes.push((taken.at.told, left)),
        }
    }
    // What ends at a moment ends before anything begins.
    changes.sort_unstable();
    let mut sum = 0;
    changes.iter().fold(0, |most, (_, change)| {
        sum += change;
        most.max(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(cost: i64, sent: u64, told: u64) -> Taken {
        Taken::of(cost, Span { sent, told })
    }

    fn settled(taken: Taken, sent: u64, told: u64, actual: i64) -> Taken {
        Taken { settled: Some((Span { sent, told }, actual)), ..taken }
    }

    #[test]
    fn what_is_certain_of_windows() {
        let two = [taken(3, 10, 20), taken(4, 15, 60)];
        assert_eq!(most_in_any_window(&two, 51), 7);
        assert_eq!(most_in_any_window(&two, 50), 4, "the first may have been at 10");
        let settled = [settled(taken(9, 0, 5), 10, 20, 2), taken(1, 6, 9), taken(1, 8, 12)];
        assert_eq!(most_in_any_window(&settled[..2], 100), 10);
        assert_eq!(most_in_any_window(&settled[1..], 100), 2);
        assert_eq!(total(&settled), (4, 4));
        let closing = |cost, sent, told, reset_ms| Taken { reset_ms, ..taken(cost, sent, told) };
        let two = [
            closing(3, 0, 400, 60),
            closing(4, 30_000, 30_400, 30),
            closing(5, 60_100, 60_500, 60),
        ];
        assert_eq!(most_in_a_fixed_window(&two, 60_000), 7);
    }

    #[test]
    fn what_is_certain_of_buckets_and_of_permits() {
        // Ten in a hundred: five come back in fifty.
        let all = [taken(20, 100, 110), taken(5, 120, 160), taken(9, 400, 400)];
        assert_eq!(least_bucket(&all, 10, 100), 19);
        assert_eq!(least_bucket(&all[1..], 10, 100), 9);
        let held = |cost, told, open_until| Taken { open_until, ..taken(cost, 0, told) };
        assert_eq!(most_held_at_once(&[held(2, 10, 50), held(3, 40, 60), held(4, 50, 90)]), 7);
        let one = settled(held(2, 10, 50), 40, 45, 1);
        assert_eq!(most_charged(&[one.clone(), held(3, 40, 60)]), 4);
        assert_eq!(most_held_at_once(&[one, held(3, 40, 60)]), 3);
    }
}
