//! Queues by example, and against a list of waiters that is looked through from
//! end to end.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::cmp::Reverse;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Each comparison of turns is one.
pub(super) fn count_a_step() {
    STEPS.set(STEPS.get() + 1);
}

type Key = (i32, u8);

/// One key of a call: which, how much of it, and the most that it lets be taken.
type Item = (u8, u64, u64);

/// What a caller asks for.
#[derive(Clone, Debug)]
struct Ask {
    scope: i32,
    items: Vec<Item>,
    priority: u8,
    id: Option<u8>,
    hold_ms: u64,
}

fn ask(items: &[Item]) -> Ask {
    Ask { scope: 0, items: items.to_vec(), priority: 0, id: None, hold_ms: 100 }
}

impl Ask {
    fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    fn id(self, id: u8) -> Self {
        Self { id: Some(id), ..self }
    }

    fn at(&self, index: usize) -> Key {
        (self.scope, self.items[index].0)
    }

    /// Has the queue's view of it.
    fn call<T>(&self, with: impl FnOnce(&Call) -> T) -> T {
        let names: Vec<[u8; 1]> = self.items.iter().map(|(at, ..)| [*at]).collect();
        let keys: Vec<&[u8]> = names.iter().map(<[u8; 1]>::as_slice).collect();
        let id = self.id.map(|id| Id([id; 16]));
        with(&Call { scope: self.scope, keys: &keys, priority: self.priority, id, bytes: 0 })
    }
}

/// What is taken at each key, and until when: a stand-in for limiters and permits.
#[derive(Clone, Debug, Default)]
struct Shop {
    now: u64,
    /// Key, cost, end, whose.
    taken: Vec<(Key, u64, u64, usize)>,
}

/// What a call is told to wait that only others hold back.
const BEHIND: u64 = 7;

impl Shop {
    fn wait(&self, key: Key, cost: u64, most: u64) -> u64 {
        let open = |at: u64| -> u64 {
            let open = self.taken.iter().filter(|taken| taken.0 == key && taken.2 > at);
            open.map(|taken| taken.1).sum()
        };
        let ends = self.taken.iter().filter(|taken| taken.0 == key).map(|taken| taken.2);
        let moments = ends.filter(|end| *end > self.now).chain([self.now]);
        moments.filter(|at| open(*at) + cost <= most).min().unwrap() - self.now
    }

    /// Nothing if it is admitted; else which key holds it up, and for how long: the
    /// one with the longest wait.
    fn decide(&self, ask: &Ask, is_held_back: impl Fn(Key) -> bool) -> Option<(usize, u64)> {
        let wait = |(index, item): (usize, &Item)| {
            let behind = if is_held_back((ask.scope, item.0)) { BEHIND } else { 0 };
            (index, behind.max(self.wait((ask.scope, item.0), item.1, item.2)))
        };
        let waits = ask.items.iter().enumerate().map(wait).filter(|(_, wait)| *wait > 0);
        waits.min_by_key(|(_, wait)| Reverse(*wait))
    }

    fn take(&mut self, ask: &Ask, who: usize) {
        let end = self.now + ask.hold_ms;
        let taken = ask.items.iter().map(|(at, cost, _)| ((ask.scope, *at), *cost, end, who));
        self.taken.extend(taken);
    }

    /// Gives back what somebody has taken; where.
    fn give_back(&mut self, who: usize) -> Vec<Key> {
        let keys = self.taken.iter().filter(|taken| taken.3 == who).map(|taken| taken.0).collect();
        self.taken.retain(|taken| taken.3 != who);
        keys
    }
}

/// What became of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Admitted(usize),
    /// By its key of this index.
    Denied(usize, usize),
    /// Another with its id has its place.
    Replaced(usize),
}

/// A queue under test, driven as an owner drives it.
#[derive(Default)]
struct Desk {
    queue: Queue<usize>,
    shop: Shop,
    asks: BTreeMap<usize, Ask>,
    events: Vec<Event>,
    callers: usize,
    is_paused: bool,
}

impl Desk {
    /// Who is first of those that a key holds up.
    fn first(&self, scope: i32, key: &[u8]) -> Option<usize> {
        self.queue.lines.first(scope, key).map(|(_, first)| first)
    }

    /// The number of the caller.
    fn come(&mut self, ask: Ask) -> usize {
        let who = self.callers;
        self.callers += 1;
        let turn = ask.call(|call| self.queue.turn(call));
        match self.shop.decide(&ask, |key| self.is_held_back(key, turn)) {
            None => self.admit(who, &ask),
            Some((index, wait)) => {
                let due = self.shop.now + wait;
                let earlier = ask.call(|call| self.queue.enter(who, call, index, due));
                self.events.push(Event::Denied(who, index));
                if let Some(earlier) = earlier {
                    self.asks.remove(&earlier);
                    self.events.push(Event::Replaced(earlier));
                }
                self.asks.insert(who, ask);
            }
        }
        self.settle();
        who
    }

    fn is_held_back(&self, (scope, at): Key, turn: Turn) -> bool {
        self.queue.holds_back(scope, &[at], turn).is_some()
    }

    fn admit(&mut self, who: usize, ask: &Ask) {
        self.shop.take(ask, who);
        self.events.push(Event::Admitted(who));
    }

    /// Decides whoever is next, until nobody is: so many are admitted or moved, and one
    /// more at most where something happened.
    fn settle(&mut self) {
        if self.is_paused {
            return;
        }
        let mut decided = 0;
        let mut may_be = self.queue.lines.looks_at_once();
        while let Some(who) = self.queue.next() {
            decided += 1;
            let (ask, waiting) = (self.asks[&who].clone(), self.queue.get(who).unwrap());
            let (turn, held_up_by) = (waiting.turn, waiting.held_up_by);
            match self.shop.decide(&ask, |key| self.is_held_back(key, turn)) {
                None => {
                    self.queue.leave(who);
                    self.asks.remove(&who);
                    self.admit(who, &ask);
                    may_be += 1;
                }
                Some((index, wait)) => {
                    self.queue.denied(who, index, self.shop.now + wait);
                    self.events.push(Event::Denied(who, index));
                    may_be += usize::from(index != held_up_by);
                }
            }
            assert!(decided <= may_be, "nobody is decided for nothing");
        }
    }

    fn give_back(&mut self, who: usize) {
        for (scope, at) in self.shop.give_back(who) {
            self.queue.look_at(scope, &[at]);
        }
        self.settle();
    }

    fn leave(&mut self, who: usize) {
        self.queue.leave(who);
        self.asks.remove(&who);
        self.settle();
    }

    fn pass_to(&mut self, now: u64) {
        self.shop.now = now;
        self.queue.advance(now);
        self.settle();
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Those admitted since this was last asked.
    fn admitted(&mut self) -> Vec<usize> {
        let admitted = |event| match event {
            Event::Admitted(who) => Some(who),
            Event::Denied(..) | Event::Replaced(_) => None,
        };
        self.events().into_iter().filter_map(admitted).collect()
    }

    /// All that is kept agrees, and there is nothing that should be gone.
    fn assert_sound(&self) {
        let queue = &self.queue;
        let mut standing = queue.lines.assert_sound();
        let expected = |(who, waiting): (&usize, &Waiting)| {
            ((waiting.scope, waiting.held_up_at().into()), waiting.turn, *who)
        };
        let mut expected: Vec<_> = queue.waiting.iter().map(expected).collect();
        standing.sort();
        expected.sort();
        assert_eq!(standing, expected);
        let ids = |(who, waiting): (&usize, &Waiting)| Some(((waiting.scope, waiting.id?), *who));
        let ids: BTreeMap<_, _> = queue.waiting.iter().filter_map(ids).collect();
        assert_eq!(ids, queue.ids);
        assert_eq!(queue.bytes, queue.waiting.values().map(|one| one.weight).sum::<usize>());
        assert!(queue.waiting.keys().eq(self.asks.keys()));
    }
}

const USER: u8 = b'u';
const OTHER_USER: u8 = b'v';
const MODEL: u8 = b'm';

#[test]
fn whoever_waits_longest_is_next() {
    let mut desk = Desk::default();
    let one = desk.come(ask(&[(MODEL, 1, 1)]));
    let two = desk.come(ask(&[(MODEL, 1, 1)]));
    let three = desk.come(ask(&[(MODEL, 1, 1)]));
    assert_eq!(desk.admitted(), [one]);
    assert_eq!((desk.queue.held_up(0, &[MODEL]), desk.first(0, &[MODEL])), (2, Some(two)));
    desk.give_back(one);
    assert_eq!(desk.admitted(), [two]);
    desk.give_back(two);
    assert_eq!(desk.admitted(), [three]);
    assert_eq!(desk.first(0, &[MODEL]), None);
    desk.assert_sound();
}

#[test]
fn an_exhausted_user_delays_nobody_on_a_shared_key() {
    let mut desk = Desk::default();
    desk.come(ask(&[(USER, 1, 1), (MODEL, 1, 3)]));
    let exhausted = desk.come(ask(&[(USER, 1, 1), (MODEL, 1, 3)]));
    let other = desk.come(ask(&[(OTHER_USER, 1, 1), (MODEL, 1, 3)]));
    assert_eq!(
        desk.events(),
        [Event::Admitted(0), Event::Denied(exhausted, 0), Event::Admitted(other)]
    );
    assert_eq!((desk.queue.held_up(0, &[USER]), desk.queue.held_up(0, &[MODEL])), (1, 0));
}

#[test]
fn a_waiter_found_to_lack_something_else_moves_there_and_lets_others_pass() {
    let mut desk = Desk::default();
    let model = desk.come(ask(&[(MODEL, 1, 1)]));
    let both = desk.come(ask(&[(USER, 1, 1), (MODEL, 1, 1)]));
    let behind = desk.come(ask(&[(MODEL, 1, 1)]));
    let user = desk.come(ask(&[(USER, 1, 1)]));
    assert_eq!(desk.admitted(), [model, user], "the user is held up by nobody");
    desk.give_back(model);
    assert_eq!(desk.events(), [Event::Denied(both, 0), Event::Admitted(behind)]);
    assert_eq!(desk.first(0, &[USER]), Some(both));
    // It has come before whoever is held up there now.
    let late = desk.come(ask(&[(USER, 1, 1)]));
    desk.give_back(behind);
    desk.give_back(user);
    assert_eq!(desk.admitted(), [both]);
    desk.give_back(both);
    assert_eq!(desk.admitted(), [late]);
    desk.assert_sound();
}

#[test]
fn a_large_cost_is_not_overtaken_at_its_key() {
    let mut desk = Desk::default();
    let first = desk.come(ask(&[(MODEL, 6, 10)]));
    let large = desk.come(ask(&[(MODEL, 10, 10)]));
    let small: Vec<_> = (0..5).map(|_| desk.come(ask(&[(MODEL, 1, 10)]))).collect();
    assert_eq!(desk.admitted(), [first], "four are free, but the large one is first");
    desk.give_back(first);
    assert_eq!(desk.admitted(), [large]);
    desk.give_back(large);
    assert_eq!(desk.admitted(), small);
}

#[test]
fn a_higher_priority_goes_first_and_is_held_back_by_none_that_is_lower() {
    let mut desk = Desk::default();
    let holder = desk.come(ask(&[(MODEL, 2, 3)]));
    let low = desk.come(ask(&[(MODEL, 2, 3)]).priority(1));
    let equal = desk.come(ask(&[(MODEL, 1, 3)]).priority(1));
    let higher = desk.come(ask(&[(MODEL, 1, 3)]).priority(2));
    assert_eq!(desk.admitted(), [holder, higher]);
    let highest = desk.come(ask(&[(MODEL, 3, 3)]).priority(255));
    let newcomer = |priority| ask(&[]).priority(priority).call(|call| desk.queue.turn(call));
    let held_back = [0, 254, 255].map(|one| desk.is_held_back((0, MODEL), newcomer(one)));
    assert_eq!(held_back, [true; 3]);
    desk.give_back(holder);
    desk.give_back(higher);
    assert_eq!(desk.admitted(), [highest]);
    let newcomer = |priority| ask(&[]).priority(priority).call(|call| desk.queue.turn(call));
    let held_back = [0, 1, 2].map(|one| desk.is_held_back((0, MODEL), newcomer(one)));
    assert_eq!(held_back, [true, true, false]);
    desk.give_back(highest);
    assert_eq!(desk.admitted(), [low, equal]);
}

#[test]
fn of_two_callers_with_one_id_the_later_has_the_place() {
    let mut desk = Desk::default();
    let holder = desk.come(ask(&[(MODEL, 1, 1)]));
    let lost = desk.come(ask(&[(MODEL, 1, 1)]).id(9));
    let next = desk.come(ask(&[(MODEL, 1, 1)]));
    let other_scope = Ask { scope: 1, ..ask(&[(MODEL, 1, 1)]).id(9) };
    let other = desk.come(other_scope.clone());
    desk.come(other_scope);
    assert_eq!(desk.events().len(), 5, "another scope is another thing");

    let again = ask(&[(MODEL, 1, 1)]).id(9);
    assert_eq!(again.call(|call| desk.queue.held_up_beside(call, &[MODEL])), 1);
    assert_eq!(ask(&[]).call(|call| desk.queue.held_up_beside(call, &[MODEL])), 2);
    let again = desk.come(again);
    assert_eq!(desk.events()[..2], [Event::Denied(again, 0), Event::Replaced(lost)]);
    assert_eq!(desk.queue.waiting_as(0, Id([9; 16])), Some(again));
    desk.leave(lost);
    desk.give_back(holder);
    desk.give_back(again);
    assert_eq!(desk.admitted(), [again, next]);
    desk.give_back(other);
    desk.assert_sound();
}

#[test]
fn a_caller_is_not_held_back_by_the_one_whose_place_it_takes() {
    let mut desk = Desk::default();
    let holder = desk.come(ask(&[(MODEL, 1, 2)]));
    let lost = desk.come(ask(&[(MODEL, 2, 2)]).priority(3).id(9));
    // Asks for less, in a lower voice.
    let again = desk.come(ask(&[(MODEL, 1, 2)]).id(9));
    assert_eq!(
        desk.events(),
        [
            Event::Admitted(holder),
            Event::Denied(lost, 0),
            Event::Denied(again, 0),
            Event::Replaced(lost),
            Event::Admitted(again),
        ]
    );
    assert_eq!(desk.queue.waiters(), 0);
}

#[test]
fn whoever_leaves_takes_nothing_along_and_the_next_is_decided() {
    let mut desk = Desk::default();
    desk.come(ask(&[(MODEL, 6, 10)]));
    let large = desk.come(ask(&[(MODEL, 10, 10)]));
    let small = desk.come(ask(&[(MODEL, 1, 10)]));
    let too_large = desk.come(ask(&[(MODEL, 9, 10)]));
    let last = desk.come(ask(&[(MODEL, 1, 10)]));
    desk.events();
    desk.leave(large);
    assert_eq!(desk.events(), [Event::Admitted(small), Event::Denied(too_large, 0)]);
    desk.leave(last);
    assert_eq!(desk.events(), [], "who is not first holds nobody back");
    desk.leave(too_large);
    desk.leave(too_large);
    assert_eq!(desk.queue.next_due(), None);
    desk.assert_sound();
}

#[test]
fn the_first_of_a_key_is_decided_when_its_time_comes() {
    let mut desk = Desk::default();
    let holder = desk.come(ask(&[(MODEL, 1, 1)]));
    desk.shop.now = 40;
    let first = desk.come(ask(&[(MODEL, 1, 1)]));
    let second = desk.come(ask(&[(MODEL, 1, 1)]));
    let other = desk.come(Ask { hold_ms: 10, ..ask(&[(USER, 1, 1)]) });
    let third = desk.come(ask(&[(USER, 1, 1)]));
    assert_eq!((desk.queue.due(0, &[MODEL]), desk.queue.next_due()), (Some(100), Some(50)));
    assert_eq!(desk.admitted(), [holder, other]);
    desk.pass_to(49);
    assert_eq!(desk.events(), []);
    desk.pass_to(50);
    assert_eq!(desk.events(), [Event::Admitted(third)]);
    assert_eq!(desk.queue.next_due(), Some(100));
    desk.pass_to(100);
    assert_eq!(desk.events(), [Event::Admitted(first), Event::Denied(second, 0)]);
    assert_eq!(desk.queue.next_due(), Some(200));
    desk.leave(second);
    assert_eq!(desk.queue.next_due(), None);
}

#[test]
fn one_that_is_due_and_denied_again_is_not_asked_for_ever() {
    let mut queue = Queue::<u8>::default();
    ask(&[(MODEL, 1, 1)]).call(|call| queue.enter(1, call, 0, 10));
    queue.advance(10);
    assert_eq!((queue.next(), queue.next_due()), (Some(1), None));
    // The owner's clock may tell a moment that is over.
    queue.denied(1, 0, 0);
    assert_eq!((queue.next(), queue.next_due()), (None, Some(1)));
}

#[test]
fn a_key_is_looked_at_once_and_one_that_holds_nobody_up_leaves_no_trace() {
    let mut desk = Desk::default();
    desk.queue.look_at(0, &[MODEL]);
    desk.queue.look_at_all(None);
    assert_eq!(desk.queue.next(), None);
    desk.come(ask(&[(MODEL, 1, 1)]));
    let first = desk.come(ask(&[(MODEL, 1, 1), (USER, 1, 1)]));
    desk.events();
    desk.queue.look_at(0, &[MODEL]);
    desk.queue.look_at(0, &[MODEL]);
    desk.queue.look_at(0, &[USER]);
    desk.queue.look_at(1, &[MODEL]);
    assert_eq!(desk.queue.due(0, &[MODEL]), Some(0));
    desk.settle();
    assert_eq!(desk.events(), [Event::Denied(first, 0)]);
    desk.queue.look_at(0, &[MODEL]);
    desk.leave(first);
    desk.assert_sound();
    assert!(desk.queue.lines.is_empty());
}

#[test]
fn keys_are_looked_at_in_the_order_in_which_something_happened() {
    let mut desk = Desk::default();
    let keys = [b'c', b'a', b'b'];
    keys.iter().for_each(|at| _ = desk.come(ask(&[(*at, 1, 1)])));
    let waiters = keys.map(|at| desk.come(ask(&[(at, 1, 1)])));
    desk.events();
    keys.iter().for_each(|at| desk.queue.look_at(0, &[*at]));
    desk.settle();
    assert_eq!(desk.events(), waiters.map(|who| Event::Denied(who, 0)));
}

#[test]
fn a_flush_has_the_keys_of_its_scope_looked_at() {
    for (scope, expected) in [(Some(0), [true, false]), (Some(1), [false, true]), (None, [true; 2])]
    {
        let mut queue = Queue::<u8>::default();
        for scope in [0, 1] {
            let one = Ask { scope, ..ask(&[(MODEL, 1, 1)]) };
            one.call(|call| queue.enter(scope as u8, call, 0, 9));
        }
        queue.look_at_all(scope);
        assert_eq!([0, 1].map(|scope| queue.due(scope, &[MODEL]) == Some(0)), expected);
    }
}

#[test]
fn those_who_wait_are_bounded_in_number_and_in_bytes() {
    let long = [b'k'; 1_000];
    let call = Call { scope: 0, keys: &[&long, b"x"], priority: 0, id: None, bytes: 500 };
    let one = WAITER_BYTES + 2 * KEY_BYTES + 1_001 + 1_000 + 500;
    let mut queue = Queue::<u8>::default();
    queue.set_limits(Limits { waiters: 2, bytes: usize::MAX });
    for waiter in 0..2 {
        assert!(queue.has_room(&call));
        let mine = Call { id: Some(Id([waiter; 16])), ..call };
        queue.enter(waiter, &mine, 0, 9);
    }
    assert_eq!((queue.waiters(), queue.bytes), (2, 2 * one));
    assert!(!queue.has_room(&call));
    assert!(queue.has_room(&Call { id: Some(Id([1; 16])), ..call }), "in another's place");
    queue.set_limits(Limits { waiters: 3, bytes: 3 * one - 1 });
    assert!(!queue.has_room(&call));
    assert!(queue.has_room(&Call { bytes: 499, ..call }));
    queue.set_limits(Limits { waiters: 1, bytes: 0 });
    assert_eq!(queue.waiters(), 2, "who waits stays");
    assert!(queue.leave(0).is_some() && queue.leave(0).is_none());
    assert_eq!((queue.waiters(), queue.bytes), (1, one));
}

/// Comparisons that 200 releases take, with so many waiting at one key, and each
/// tenth found to lack something else.
fn steps_with(waiters: usize) -> u64 {
    let mut queue = Queue::<usize>::default();
    for waiter in 0..waiters {
        let two = ask(&[(MODEL, 1, 1), (USER, 1, 1)]).priority((waiter % 256) as u8);
        two.call(|call| queue.enter(waiter, call, 0, u64::MAX));
    }
    let before = STEPS.get();
    for release in 0..200 {
        queue.look_at(0, &[MODEL]);
        let first = queue.next().unwrap();
        match release % 10 {
            0 => queue.denied(first, 1, u64::MAX),
            _ => _ = queue.leave(first),
        }
        let found = queue.next().unwrap();
        queue.denied(found, 0, u64::MAX);
        assert_eq!(queue.next(), None);
    }
    STEPS.get() - before
}

#[test]
fn a_release_costs_the_logarithm_of_those_who_wait() {
    let (few, many) = (steps_with(500), steps_with(50_000));
    assert!(few > 200 && many < 2 * few, "{few} comparisons with 500, {many} with 50,000");
    assert!(many < 200 * 150, "{many} comparisons");
}

/// The oracle: a list, looked through from end to end.
#[derive(Default)]
struct List {
    shop: Shop,
    /// In the order of arrival.
    waiters: Vec<Listed>,
    /// In the order in which something happened.
    marked: Vec<Key>,
    events: Vec<Event>,
    callers: usize,
    decided: usize,
    is_paused: bool,
}

struct Listed {
    who: usize,
    ask: Ask,
    held_up_by: usize,
    /// When it was said to be due, and as which decision.
    due: (u64, usize),
}

impl List {
    fn at(&self, key: Key) -> Vec<&Listed> {
        let at = |one: &&Listed| one.ask.at(one.held_up_by) == key;
        let mut at: Vec<_> = self.waiters.iter().filter(at).collect();
        at.sort_by_key(|one| Reverse(one.ask.priority));
        at
    }

    fn is_first(&self, who: usize, key: Key) -> bool {
        self.at(key).first().is_some_and(|first| first.who == who)
    }

    /// Whether one in the list that goes before is held up there. Whoever is not in
    /// it comes after all that are.
    fn is_held_back(&self, who: usize, priority: u8, key: Key) -> bool {
        let place = self.waiters.iter().position(|one| one.who == who);
        self.waiters.iter().enumerate().any(|(other, one)| {
            one.who != who
                && one.ask.at(one.held_up_by) == key
                && (one.ask.priority > priority
                    || one.ask.priority == priority && place.is_none_or(|place| other < place))
        })
    }

    fn mark(&mut self, key: Key) {
        if !self.at(key).is_empty() && !self.marked.contains(&key) {
            self.marked.push(key);
        }
    }

    fn due(&self, key: Key) -> Option<u64> {
        if self.marked.contains(&key) {
            return Some(0);
        }
        self.at(key).first().map(|first| first.due.0)
    }

    fn leave(&mut self, who: usize) {
        let Some(place) = self.waiters.iter().position(|one| one.who == who) else { return };
        let key = self.waiters[place].ask.at(self.waiters[place].held_up_by);
        let was_first = self.is_first(who, key);
        self.waiters.remove(place);
        if self.at(key).is_empty() {
            self.marked.retain(|marked| *marked != key);
        } else if was_first {
            self.mark(key);
        }
    }

    fn come(&mut self, ask: Ask) {
        let who = self.callers;
        self.callers += 1;
        self.decided += 1;
        let same =
            |one: &Listed| ask.id.is_some() && (one.ask.scope, one.ask.id) == (ask.scope, ask.id);
        let place = self.waiters.iter().position(same);
        // In the place of the one with its id, it is not behind those behind that.
        let held_back = |key| match place {
            None => self.is_held_back(who, ask.priority, key),
            Some(place) => self.waiters.iter().enumerate().any(|(other, one)| {
                one.ask.at(one.held_up_by) == key
                    && (one.ask.priority > ask.priority
                        || one.ask.priority == ask.priority && other < place)
            }),
        };
        match self.shop.decide(&ask, held_back) {
            None => {
                self.shop.take(&ask, who);
                self.events.push(Event::Admitted(who));
            }
            Some((held_up_by, wait)) => {
                let due = (self.shop.now + wait, self.decided);
                let key = ask.at(held_up_by);
                self.events.push(Event::Denied(who, held_up_by));
                let listed = Listed { who, ask, held_up_by, due };
                match place {
                    None => self.waiters.push(listed),
                    Some(place) => {
                        let earlier = self.waiters[place].who;
                        self.leave(earlier);
                        self.waiters.insert(place, listed);
                        self.events.push(Event::Replaced(earlier));
                        self.mark(key);
                    }
                }
                if place.is_none() && self.is_first(who, key) {
                    self.marked.retain(|marked| *marked != key);
                }
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(key) = self.marked.first().copied().filter(|_| !self.is_paused) {
            self.decided += 1;
            let who = self.at(key)[0].who;
            let place = self.waiters.iter().position(|one| one.who == who).unwrap();
            let ask = self.waiters[place].ask.clone();
            match self.shop.decide(&ask, |key| self.is_held_back(who, ask.priority, key)) {
                None => {
                    self.leave(who);
                    self.shop.take(&ask, who);
                    self.events.push(Event::Admitted(who));
                }
                Some((held_up_by, wait)) => {
                    self.events.push(Event::Denied(who, held_up_by));
                    let from = self.waiters[place].held_up_by;
                    self.waiters[place].held_up_by = held_up_by;
                    self.waiters[place].due = (self.shop.now + wait, self.decided);
                    if self.is_first(who, ask.at(held_up_by)) {
                        self.marked.retain(|marked| *marked != ask.at(held_up_by));
                    }
                    if self.at(ask.at(from)).is_empty() {
                        self.marked.retain(|marked| *marked != ask.at(from));
                    }
                }
            }
        }
    }

    fn pass_to(&mut self, now: u64) {
        self.shop.now = now;
        let is_due = |one: &&Listed| {
            let key = one.ask.at(one.held_up_by);
            one.due.0 <= now && self.is_first(one.who, key) && !self.marked.contains(&key)
        };
        let mut due: Vec<_> = self.waiters.iter().filter(is_due).collect();
        due.sort_by_key(|one| one.due);
        let keys: Vec<_> = due.iter().map(|one| one.ask.at(one.held_up_by)).collect();
        keys.into_iter().for_each(|key| self.mark(key));
        self.settle();
    }

    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        (0..2).flat_map(|scope| (0..4).map(move |at| (scope, at)))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Come(Ask),
    /// Of the last so many.
    GiveBack(usize),
    Leave(usize),
    Delete(Key),
    Flush(Option<i32>),
    Pass(u64),
    Pause,
}

fn asks() -> impl Strategy<Value = Ask> {
    let item = (1u64..4, 0u64..3).prop_map(|(cost, more)| (cost, cost + more));
    let items = prop::collection::btree_map(0u8..4, item, 1..4);
    let id = prop::option::weighted(0.3, 0u8..3);
    let scope = prop_oneof![4 => Just(0), 1 => Just(1)];
    (scope, items, 0u8..3, id, 1u64..30).prop_map(|(scope, items, priority, id, hold_ms)| {
        let items = items.into_iter().map(|(at, (cost, most))| (at, cost, most)).collect();
        Ask { scope, items, priority, id, hold_ms }
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => asks().prop_map(Step::Come),
        4 => (0usize..20).prop_map(Step::GiveBack),
        2 => (0usize..20).prop_map(Step::Leave),
        1 => (0i32..2, 0u8..4).prop_map(Step::Delete),
        1 => prop::option::of(0i32..2).prop_map(Step::Flush),
        3 => (1u64..20).prop_map(Step::Pass),
        1 => Just(Step::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn callers_at_random_are_admitted_as_the_list_says(
        all in prop::collection::vec(steps(), 1..100),
    ) {
        let (mut desk, mut list) = (Desk::default(), List::default());
        for step in all {
            match step {
                Step::Come(ask) => {
                    desk.come(ask.clone());
                    list.come(ask);
                }
                Step::GiveBack(last) => {
                    let who = desk.callers.saturating_sub(1 + last);
                    desk.give_back(who);
                    let keys = list.shop.give_back(who);
                    keys.into_iter().for_each(|key| list.mark(key));
                    list.settle();
                }
                Step::Leave(last) => {
                    let who = desk.callers.saturating_sub(1 + last);
                    desk.leave(who);
                    list.leave(who);
                    list.settle();
                }
                Step::Delete((scope, at)) => {
                    for shop in [&mut desk.shop, &mut list.shop] {
                        shop.taken.retain(|taken| taken.0 != (scope, at));
                    }
                    desk.queue.look_at(scope, &[at]);
                    list.mark((scope, at));
                    desk.settle();
                    list.settle();
                }
                Step::Flush(scope) => {
                    let is_of = |key: Key| scope.is_none_or(|scope| scope == key.0);
                    for shop in [&mut desk.shop, &mut list.shop] {
                        shop.taken.retain(|taken| !is_of(taken.0));
                    }
                    desk.queue.look_at_all(scope);
                    list.keys().filter(|key| is_of(*key)).for_each(|key| list.mark(key));
                    desk.settle();
                    list.settle();
                }
                Step::Pass(span) => {
                    let now = desk.shop.now + span;
                    desk.pass_to(now);
                    list.pass_to(now);
                }
                Step::Pause => {
                    (desk.is_paused, list.is_paused) = (!desk.is_paused, !list.is_paused);
                    desk.settle();
                    list.settle();
                }
            }
            prop_assert_eq!(desk.events(), std::mem::take(&mut list.events));
            desk.assert_sound();
            for key in list.keys() {
                let (scope, at) = (key.0, [key.1]);
                let held_up = list.at(key);
                prop_assert_eq!(desk.queue.held_up(scope, &at), held_up.len());
                let first = held_up.first().map(|first| first.who);
                prop_assert_eq!(desk.first(scope, &at), first);
                prop_assert_eq!(desk.queue.due(scope, &at), list.due(key));
                for priority in 0..4 {
                    let turn = ask(&[]).priority(priority).call(|call| desk.queue.turn(call));
                    let expected = list.is_held_back(usize::MAX, priority, key);
                    prop_assert_eq!(desk.is_held_back(key, turn), expected);
                    let due = desk.queue.holds_back(scope, &at, turn);
                    prop_assert_eq!(due, list.due(key).filter(|_| expected));
                }
                for one in list.waiters.iter().filter(|one| one.ask.scope == scope) {
                    let turn = desk.queue.get(one.who).unwrap().turn;
                    let expected = list.is_held_back(one.who, one.ask.priority, key);
                    prop_assert_eq!(desk.is_held_back(key, turn), expected);
                }
            }
            let firsts = list.waiters.iter().filter(|one| {
                !list.is_paused && list.is_first(one.who, one.ask.at(one.held_up_by))
            });
            for first in firsts {
                let held_back = |key| list.is_held_back(first.who, first.ask.priority, key);
                prop_assert!(list.shop.decide(&first.ask, held_back).is_some(), "left out");
            }
            let due = list.keys().filter_map(|key| list.due(key)).filter(|due| *due > 0).min();
            prop_assert_eq!(desk.queue.next_due(), due);
        }
        for who in 0..desk.callers {
            desk.is_paused = true;
            desk.leave(who);
        }
        prop_assert!(desk.queue.lines.is_empty() && desk.queue.ids.is_empty());
        prop_assert_eq!((desk.queue.waiters(), desk.queue.bytes), (0, 0));
    }
}
