//! The lines of a queue: those that a key holds up, in their turn, and when the
//! first of them is to be decided anew.

use super::Waiting;
use crate::bug;
use crate::time::Monotonic;
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A turn: a higher priority goes first, and of equals the one that came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    priority: Reverse<u8>,
    arrival: u64,
}

impl Turn {
    pub(super) fn new(priority: u8, arrival: u64) -> Self {
        Self { priority: Reverse(priority), arrival }
    }

    /// The turn of whoever comes now, and does not wait yet: after its equals.
    pub fn of_newcomer(priority: u8) -> Self {
        Self::new(priority, u64::MAX)
    }

    pub(super) fn arrival(self) -> u64 {
        self.arrival
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        #[cfg(test)]
        super::tests::count_a_step();
        (self.priority, self.arrival).cmp(&(other.priority, other.arrival))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A key in its scope.
type LineKey = (i32, Arc<[u8]>);

/// When a line is to be looked at, and a number: those of one moment in the order
/// in which that was said.
type Look = (Monotonic, u64);

/// Before every moment of the clock.
const AT_ONCE: Monotonic = 0;

#[derive(Debug)]
struct Line<W> {
    key: LineKey,
    waiters: BTreeMap<Turn, W>,
    look: Look,
}

/// The lines. One is there as long as somebody stands in it.
#[derive(Debug)]
pub(super) struct Lines<W> {
    by_scope: BTreeMap<i32, BTreeMap<Arc<[u8]>, Line<W>>>,
    looks: BTreeMap<Look, LineKey>,
    /// Numbers looks.
    next: u64,
}

impl<W> Default for Lines<W> {
    fn default() -> Self {
        Self { by_scope: BTreeMap::new(), looks: BTreeMap::new(), next: 0 }
    }
}

impl<W: Copy> Lines<W> {
    fn line(&self, scope: i32, key: &[u8]) -> Option<&Line<W>> {
        self.by_scope.get(&scope)?.get(key)
    }

    fn line_mut(&mut self, scope: i32, key: &[u8]) -> Option<&mut Line<W>> {
        self.by_scope.get_mut(&scope)?.get_mut(key)
    }

    pub fn len(&self, scope: i32, key: &[u8]) -> usize {
        self.line(scope, key).map_or(0, |line| line.waiters.len())
    }

    pub fn first(&self, scope: i32, key: &[u8]) -> Option<(Turn, W)> {
        let (turn, waiter) = self.line(scope, key)?.waiters.first_key_value()?;
        Some((*turn, *waiter))
    }

    /// When the first is to be decided anew: 0 for at once.
    pub fn look(&self, scope: i32, key: &[u8]) -> Option<Monotonic> {
        self.line(scope, key).map(|line| line.look.0)
    }

    /// Whoever is first of a line is to be decided at once, unless it
    /// [was](Self::was_denied).
    pub fn join(&mut self, waiting: &Waiting, waiter: W) {
        let (scope, key) = (waiting.scope, waiting.held_up_at());
        if let Some(line) = self.line_mut(scope, key) {
            line.waiters.insert(waiting.turn, waiter);
            return;
        }
        let key: Arc<[u8]> = key.into();
        let waiters = BTreeMap::from([(waiting.turn, waiter)]);
        let look = self.new_look(AT_ONCE);
        let line = Line { key: (scope, Arc::clone(&key)), waiters, look };
        self.looks.insert(look, line.key.clone());
        self.by_scope.entry(scope).or_default().insert(key, line);
    }

    /// If that was the first, whoever stood behind it is to be decided now.
    pub fn leave(&mut self, waiting: &Waiting) {
        let (scope, key) = (waiting.scope, waiting.held_up_at());
        let was_first = self.is_first(waiting);
        let Some(line) = self.line_mut(scope, key) else { bug("a waiter in no line") };
        line.waiters.remove(&waiting.turn);
        if line.waiters.is_empty() {
            self.close(scope, key);
        } else if was_first {
            self.look_at_once(scope, key);
        }
    }

    /// If that is the first, its line has been looked at: it is again at that moment.
    pub fn was_denied(&mut self, waiting: &Waiting, due: Monotonic) {
        if self.is_first(waiting) {
            self.set_look(waiting.scope, waiting.held_up_at(), due.max(AT_ONCE + 1));
        }
    }

    fn is_first(&self, waiting: &Waiting) -> bool {
        let first = self.first(waiting.scope, waiting.held_up_at());
        first.is_some_and(|(turn, _)| turn == waiting.turn)
    }

    fn close(&mut self, scope: i32, key: &[u8]) {
        let Some(lines) = self.by_scope.get_mut(&scope) else { bug("a line in no scope") };
        let Some(line) = lines.remove(key) else { bug("a line that is not there is closed") };
        self.looks.remove(&line.look);
        if lines.is_empty() {
            self.by_scope.remove(&scope);
        }
    }

    pub fn look_at_once(&mut self, scope: i32, key: &[u8]) {
        if self.look(scope, key) != Some(AT_ONCE) {
            self.set_look(scope, key, AT_ONCE);
        }
    }

    pub fn look_at_all(&mut self, scope: Option<i32>) {
        let lines = self.by_scope.iter().filter(|(of, _)| scope.is_none_or(|one| one == **of));
        let lines = lines.flat_map(|(_, lines)| lines.values());
        let keys: Vec<_> = lines.map(|line| line.key.clone()).collect();
        for (scope, key) in keys {
            self.look_at_once(scope, &key);
        }
    }

    /// What is due is to be looked at now.
    pub fn advance(&mut self, now: Monotonic) {
        while let Some(((moment, _), (scope, key))) = self.next_timed()
            && *moment <= now
        {
            let (scope, key) = (*scope, Arc::clone(key));
            self.look_at_once(scope, &key);
        }
    }

    /// The moment at which a line is next to be looked at, those aside that are now.
    pub fn next_due(&self) -> Option<Monotonic> {
        let ((moment, _), _) = self.next_timed()?;
        Some(*moment)
    }

    fn next_timed(&self) -> Option<(&Look, &LineKey)> {
        self.looks.range((AT_ONCE + 1, 0)..).next()
    }

    /// The first of the line that is to be looked at now, and was before others.
    pub fn next(&self) -> Option<W> {
        let (_, (scope, key)) =
            self.looks.first_key_value().filter(|((moment, _), _)| *moment == AT_ONCE)?;
        let Some((_, first)) = self.first(*scope, key) else { bug("a look at no line") };
        Some(first)
    }

    fn new_look(&mut self, moment: Monotonic) -> Look {
        self.next += 1;
        (moment, self.next)
    }

    fn set_look(&mut self, scope: i32, key: &[u8], moment: Monotonic) {
        let look = self.new_look(moment);
        let Some(line) = self.line_mut(scope, key) else { return };
        let earlier = std::mem::replace(&mut line.look, look);
        let key = line.key.clone();
        self.looks.remove(&earlier);
        self.looks.insert(look, key);
    }
}

#[cfg(test)]
impl<W: Copy + Ord + std::fmt::Debug> Lines<W> {
    pub fn is_empty(&self) -> bool {
        self.by_scope.is_empty() && self.looks.is_empty()
    }

    pub fn looks_at_once(&self) -> usize {
        self.looks.range(..(AT_ONCE + 1, 0)).count()
    }

    /// Who stands at which key, in order; what is kept of the lines agrees.
    pub fn assert_sound(&self) -> Vec<(LineKey, Turn, W)> {
        let mut all = Vec::new();
        let mut looks = BTreeMap::new();
        for (scope, lines) in &self.by_scope {
            assert!(!lines.is_empty(), "an empty scope");
            for (key, line) in lines {
                assert_eq!(line.key, (*scope, Arc::clone(key)));
                assert!(!line.waiters.is_empty(), "an empty line");
                looks.insert(line.look, line.key.clone());
                let waiters = line.waiters.iter();
                all.extend(waiters.map(|(turn, waiter)| (line.key.clone(), *turn, *waiter)));
            }
        }
        assert_eq!(looks, self.looks);
        all
    }
}
