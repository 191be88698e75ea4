//! Flights against a list of everything that happened.

use super::*;
use proptest::prelude::*;

const VERSION: &[u8] = b"v";

/// Flights, with tokens that count up.
#[derive(Default)]
struct Tower {
    flights: Flights,
    minted: u8,
    now: Monotonic,
}

impl Tower {
    fn act<R>(
        &mut self,
        work: impl FnOnce(&mut Flights, Monotonic, &mut dyn FnMut() -> Id) -> R,
    ) -> R {
        let minted = &mut self.minted;
        work(&mut self.flights, self.now, &mut || {
            *minted += 1;
            Id([*minted; 16])
        })
    }

    fn lease(&mut self, key: &[u8], lease_us: Monotonic) -> Result<Id, Refusal> {
        let place = Place::new(0, key);
        self.act(|flights, now, mint| flights.lease(&place, VERSION, lease_us, 4, now, mint))
    }

    fn wait(&mut self, key: &[u8], waiter: usize, lease_us: Monotonic) {
        self.flights.wait(&Place::new(0, key), VERSION, BlockedClient::of(waiter), lease_us);
    }

    fn advance(&mut self, to: Monotonic) {
        self.now = to;
        self.act(|flights, now, mint| flights.advance(now, mint));
    }

    fn holds(&self, key: &[u8], token: Id) -> bool {
        let place = Place::new(0, key);
        self.flights.held_since(&place, VERSION, token, self.now).is_some()
    }

    fn woken(&mut self) -> Vec<(usize, Verdict)> {
        let woken = self.flights.take_woken();
        (0..99)
            .flat_map(|number| {
                let own = woken.iter().filter(move |one| one.waiter == BlockedClient::of(number));
                own.map(move |one| (number, one.verdict.clone()))
            })
            .collect()
    }
}

fn token(number: u8) -> Id {
    Id([number; 16])
}

fn lease(number: u8, lease_us: Monotonic) -> Verdict {
    Verdict::Lease { token: token(number), lease_us }
}

#[test]
fn one_caller_gets_the_lease_and_the_others_the_answer() {
    let mut tower = Tower::default();
    assert_eq!(tower.lease(b"k", 100), Ok(token(1)));
    tower.now = 40;
    assert_eq!(tower.lease(b"k", 100), Err(Refusal::Leased(60)));
    assert_eq!(tower.lease(b"other", 100), Ok(token(2)));
    tower.wait(b"k", 1, 50);
    tower.wait(b"k", 2, 50);
    let place = Place::new(0, b"k");
    assert_eq!(tower.flights.look(&place, 40), (60, 2));
    assert_eq!(tower.flights.held_since(&place, VERSION, token(1), 40), Some(0));
    assert_eq!(tower.flights.held_since(&place, b"w", token(1), 40), None);
    tower.flights.fill(&place, VERSION, 9, || b"x".as_slice().into());
    let hit = Verdict::Hit { value: b"x".as_slice().into(), ttl_ms: 9 };
    assert_eq!(tower.woken(), [(1, hit.clone()), (2, hit)]);
    assert_eq!((tower.flights.count(), tower.flights.waiters()), (1, 0));
    assert_eq!(tower.flights.places.len(), 1);
}

#[test]
fn when_a_lease_ends_the_first_who_waits_has_it() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    for waiter in 1..=3 {
        tower.wait(b"k", waiter, 50);
    }
    tower.advance(99);
    assert_eq!(tower.woken(), []);
    assert!(tower.holds(b"k", token(1)));
    tower.advance(100);
    assert_eq!(tower.woken(), [(1, lease(2, 50))]);
    assert!(!tower.holds(b"k", token(1)) && tower.holds(b"k", token(2)));
    assert_eq!(tower.flights.take_lapsed().len(), 1);
    tower.flights.forget(BlockedClient::of(2));
    tower.advance(1_000);
    // One at a time, however late the clock is looked at.
    assert_eq!(tower.woken(), [(3, lease(3, 50))]);
    tower.advance(1_050);
    assert_eq!((tower.flights.count(), tower.flights.ends.len()), (0, 0));
}

#[test]
fn a_holder_that_gives_up_hands_on_or_has_all_back_off() {
    let mut tower = Tower::default();
    let place = Place::new(0, b"k");
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, 50);
    tower.wait(b"k", 2, 50);
    let release = |tower: &mut Tower, number, back_off| {
        tower.act(|flights, now, mint| flights.release(&place, token(number), back_off, now, mint))
    };
    assert!(!release(&mut tower, 9, None), "nobody's");
    assert!(release(&mut tower, 1, None));
    assert!(!release(&mut tower, 1, None), "once");
    assert_eq!(tower.woken(), [(1, lease(2, 50))]);
    assert!(release(&mut tower, 2, Some(30)));
    assert_eq!(tower.woken(), [(2, Verdict::Busy { left_us: 30 })]);
    tower.now = 10;
    assert_eq!(tower.lease(b"k", 100), Err(Refusal::BackedOff(20)));
    tower.now = 30;
    assert_eq!(tower.lease(b"k", 100), Ok(token(3)));
    assert_eq!(tower.flights.take_lapsed(), [], "a backoff that is over is no lease that ran out");
    tower.now = 130;
    assert!(!release(&mut tower, 3, None), "late");
}

#[test]
fn an_invalidation_ends_leases_and_hands_them_on() {
    let mut tower = Tower::default();
    let place = Place::new(0, b"k");
    let void = |tower: &mut Tower, version: Option<&[u8]>| {
        tower.act(|flights, now, mint| flights.void(&place, version, now, mint));
    };
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, 50);
    void(&mut tower, Some(b"w"));
    assert!(tower.holds(b"k", token(1)), "another version's");
    void(&mut tower, None);
    assert!(!tower.holds(b"k", token(1)));
    assert_eq!(tower.woken(), [(1, lease(2, 50))]);
    void(&mut tower, Some(VERSION));
    assert_eq!(tower.flights.count(), 0);
    tower.lease(b"k", 100).unwrap();
    tower.act(|flights, now, mint| flights.void_db(Some(1), now, mint));
    assert_eq!(tower.flights.count(), 1, "another database");
    tower.act(|flights, now, mint| flights.void_db(Some(0), now, mint));
    assert_eq!(tower.flights.count(), 0);
}

#[test]
fn a_retired_version_and_a_node_demoted_tell_all_who_wait() {
    let mut tower = Tower::default();
    for key in [b"a:1", b"b:1"] {
        tower.lease(key, 100).unwrap();
    }
    tower.wait(b"a:1", 1, 50);
    tower.wait(b"b:1", 2, 50);
    tower.flights.retire(b"a", |version| version == VERSION);
    assert_eq!(tower.woken(), []);
    tower.flights.retire(b"a", |version| version != VERSION);
    assert_eq!(tower.woken(), [(1, Verdict::Retired)]);
    assert!(!tower.holds(b"a:1", token(1)) && tower.holds(b"b:1", token(2)));
    tower.flights.clear();
    assert_eq!(tower.woken(), [(2, Verdict::Busy { left_us: 0 })]);
}

#[test]
fn no_more_leases_are_open_than_may_be_and_those_that_ran_out_make_room() {
    let mut tower = Tower::default();
    for key in [b"a", b"b", b"c", b"d"] {
        tower.lease(key, 100).unwrap();
    }
    assert_eq!(tower.lease(b"e", 100), Err(Refusal::Full));
    assert_eq!(tower.lease(b"a", 100), Err(Refusal::Leased(100)));
    tower.now = 100;
    assert!(tower.lease(b"e", 100).is_ok());
    assert_eq!(tower.flights.count(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Fetch(u8, Monotonic),
    Fill(u8),
    Void(u8),
    Release(u8, Option<Monotonic>),
    Forget(usize),
    Pass(Monotonic),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..2, 1u64..100).prop_map(|(key, lease)| Step::Fetch(key, lease)),
        1 => (0u8..2).prop_map(Step::Fill),
        1 => (0u8..2).prop_map(Step::Void),
        1 => (0u8..2, prop::option::of(1u64..40)).prop_map(|(key, off)| Step::Release(key, off)),
        1 => (0usize..60).prop_map(Step::Forget),
        3 => (1u64..60).prop_map(Step::Pass),
    ]
}

/// One key, told as a story: who holds until when, who waits.
#[derive(Default)]
struct Story {
    holder: Option<(Id, Monotonic)>,
    backed_off_until: Monotonic,
    waiters: Vec<(usize, Monotonic)>,
}

proptest! {
    #[test]
    fn random_callers_get_what_the_story_says(all in prop::collection::vec(steps(), 1..60)) {
        let mut tower = Tower::default();
        let mut stories = [Story::default(), Story::default()];
        // Every caller is told one thing, or waits.
        let mut told: Vec<Option<Verdict>> = Vec::new();
        for step in all {
            let key_of = |key: u8| [b'k', key];
            match step {
                Step::Fetch(key, lease_us) => {
                    let caller = told.len();
                    told.push(None);
                    let answer = tower.lease(&key_of(key), lease_us);
                    let story = &mut stories[usize::from(key)];
                    if story.holder.is_some() {
                        let left = story.holder.unwrap().1 - tower.now;
                        prop_assert_eq!(answer, Err(Refusal::Leased(left)));
                        tower.wait(&key_of(key), caller, lease_us);
                        story.waiters.push((caller, lease_us));
                    } else if tower.now < story.backed_off_until {
                        let left = story.backed_off_until - tower.now;
                        prop_assert_eq!(answer, Err(Refusal::BackedOff(left)));
                    } else {
                        story.holder = Some((answer.unwrap(), tower.now + lease_us));
                    }
                }
                Step::Fill(key) => {
                    let story = &mut stories[usize::from(key)];
                    let place = Place::new(0, &key_of(key));
                    tower.flights.fill(&place, VERSION, 1, || b"x".as_slice().into());
                    for (waiter, _) in story.waiters.drain(..) {
                        told[waiter] = Some(Verdict::Hit { value: b"x".as_slice().into(), ttl_ms: 1 });
                    }
                    *story = Story::default();
                }
                Step::Void(key) => {
                    let place = Place::new(0, &key_of(key));
                    tower.act(|flights, now, mint| flights.void(&place, None, now, mint));
                    if stories[usize::from(key)].holder.is_some() {
                        hand_on(&mut stories[usize::from(key)], &mut tower, &mut told);
                    }
                }
                Step::Release(key, back_off) => {
                    let place = Place::new(0, &key_of(key));
                    let Some((token, _)) = stories[usize::from(key)].holder else { continue };
                    let released = tower.act(|flights, now, mint| {
                        flights.release(&place, token, back_off, now, mint)
                    });
                    prop_assert!(released);
                    let story = &mut stories[usize::from(key)];
                    match back_off {
                        None => hand_on(story, &mut tower, &mut told),
                        Some(left_us) => {
                            for (waiter, _) in story.waiters.drain(..) {
                                told[waiter] = Some(Verdict::Busy { left_us });
                            }
                            story.holder = None;
                            story.backed_off_until = tower.now + left_us;
                        }
                    }
                }
                Step::Forget(waiter) => {
                    tower.flights.forget(BlockedClient::of(waiter));
                    for story in &mut stories {
                        story.waiters.retain(|(other, _)| *other != waiter);
                    }
                }
                Step::Pass(span) => {
                    let now = tower.now + span;
                    tower.advance(now);
                    for story in &mut stories {
                        if story.holder.is_some_and(|(_, until)| until <= now) {
                            hand_on(story, &mut tower, &mut told);
                        }
                    }
                }
            }
            let woken = tower.flights.take_woken();
            for one in &woken {
                let waiter = (0..told.len()).find(|number| BlockedClient::of(*number) == one.waiter);
                let expected = told[waiter.unwrap()].clone();
                // Tokens are the tower's own: learnt below.
                match (&one.verdict, expected) {
                    (Verdict::Lease { .. }, Some(Verdict::Lease { .. })) => {}
                    (verdict, expected) => prop_assert_eq!(Some(verdict.clone()), expected),
                }
            }
            for (key, story) in stories.iter().enumerate() {
                let key = [b'k', key as u8];
                let place = Place::new(0, &key);
                let (left, waiting) = tower.flights.look(&place, tower.now);
                prop_assert_eq!(waiting, story.waiters.len());
                let until = story.holder.map_or(tower.now, |(_, until)| until);
                prop_assert_eq!(left, until - tower.now);
                if let Some((token, _)) = story.holder {
                    prop_assert!(tower.holds(&key, token));
                }
            }
            prop_assert_eq!(tower.flights.ends.len(), tower.flights.count());
            let in_flights: usize = stories.iter().map(|story| story.waiters.len()).sum();
            prop_assert_eq!(tower.flights.waiters(), in_flights);
        }
    }
}

/// The first who waits holds the lease; the tower says under which token.
fn hand_on(story: &mut Story, tower: &mut Tower, told: &mut [Option<Verdict>]) {
    story.holder = None;
    if story.waiters.is_empty() {
        return;
    }
    let (waiter, lease_us) = story.waiters.remove(0);
    let granted = tower.flights.woken.iter().find_map(|one| match one.verdict {
        Verdict::Lease { token, .. } if one.waiter == BlockedClient::of(waiter) => Some(token),
        _ => None,
    });
    let token = granted.expect("the first who waits has the lease");
    told[waiter] = Some(Verdict::Lease { token, lease_us });
    story.holder = Some((token, tower.now + lease_us));
}
