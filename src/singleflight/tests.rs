//! Flights by example, and against a list of everything that happened.

use super::*;
use proptest::prelude::*;

type Answer = &'static str;

/// Flights under test, driven as an owner drives them: tokens count up, and what
/// is without a holder is handed over at once.
#[derive(Default)]
struct Tower {
    flights: SingleFlight<usize, Answer>,
    minted: u8,
    now: Monotonic,
}

fn key(key: &[u8]) -> FlightKey {
    FlightKey::new(0, key, b"v")
}

fn token(number: u8) -> Id {
    Id([number; 16])
}

impl Tower {
    fn lease(&mut self, at: &[u8], lease_us: Monotonic) -> Result<Id, Refusal> {
        self.lease_as(at, None, lease_us).map(|lease| lease.token)
    }

    fn lease_as(
        &mut self,
        at: &[u8],
        own: Option<u8>,
        lease_us: Monotonic,
    ) -> Result<Lease, Refusal> {
        let minted = &mut self.minted;
        let mint = || {
            *minted += 1;
            token(*minted)
        };
        let lease = self.flights.lease(&key(at), own.map(token), mint, lease_us, self.now);
        self.settle();
        lease
    }

    fn wait(&mut self, at: &[u8], waiter: usize, own: Option<u8>, lease_us: Monotonic) {
        assert!(self.flights.may_wait(&key(at), 0));
        self.flights.wait(&key(at), waiter, own.map(token), lease_us, 0, self.now);
    }

    fn settle(&mut self) {
        while let Some(key) = self.flights.next_unheld() {
            let minted = &mut self.minted;
            let mint = || {
                *minted += 1;
                token(*minted)
            };
            self.flights.hand_over(&key, mint, self.now);
        }
    }

    fn advance(&mut self, to: Monotonic) {
        self.now = to;
        self.flights.advance(to);
        self.settle();
    }

    fn invalidate(&mut self, at: &[u8], name: Option<&[u8]>) {
        self.flights.invalidate(0, at, name);
        self.settle();
    }

    fn release(&mut self, at: &[u8], number: u8, back_off_us: Option<Monotonic>) -> bool {
        let released = self.flights.release(0, at, token(number), back_off_us, self.now);
        self.settle();
        released
    }

    fn renew(&mut self, at: &[u8], number: u8, lease_us: Monotonic) -> bool {
        self.flights.renew(0, at, token(number), lease_us, self.now)
    }

    fn complete(&mut self, at: &[u8], by: Option<u8>) {
        self.flights.complete(&key(at), by.map(token), self.now, || "answer");
    }

    fn standing(&self, at: &[u8], number: u8) -> Standing {
        self.flights.standing(&key(at), token(number), self.now)
    }

    fn woken(&mut self) -> Vec<(usize, WaitOutcome<Answer>)> {
        let woken = self.flights.take_woken().into_iter();
        woken.map(|one| (one.waiter, one.outcome)).collect()
    }
}

fn granted(number: u8, lease_us: Monotonic) -> WaitOutcome<Answer> {
    WaitOutcome::Granted { token: token(number), lease_us }
}

fn holder(since: Monotonic) -> Standing {
    Standing::Holder { since, is_late: false }
}

fn late(since: Monotonic) -> Standing {
    Standing::Holder { since, is_late: true }
}

#[test]
fn one_caller_gets_the_lease_and_the_others_what_it_computes() {
    let mut tower = Tower::default();
    assert_eq!(tower.lease(b"k", 100), Ok(token(1)));
    tower.now = 40;
    assert_eq!(tower.lease(b"k", 100), Err(Refusal::Leased(60)));
    assert_eq!(tower.lease(b"other", 100), Ok(token(2)));
    tower.wait(b"k", 1, None, 50);
    tower.wait(b"k", 2, None, 50);
    assert_eq!(tower.flights.look(0, b"k", 40), (60, 2));
    assert_eq!(tower.flights.waits_for(1, 40), Some((&key(b"k"), 60)));
    assert_eq!(tower.standing(b"k", 1), holder(0));
    tower.complete(b"k", Some(1));
    assert_eq!(
        tower.woken(),
        [(1, WaitOutcome::Completed("answer")), (2, WaitOutcome::Completed("answer"))]
    );
    assert_eq!((tower.flights.open(), tower.flights.waiters()), (1, 0));
}

#[test]
fn when_a_lease_ends_the_first_who_waits_has_it() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    for waiter in 1..=3 {
        tower.wait(b"k", waiter, None, 50);
    }
    tower.advance(99);
    assert_eq!(tower.woken(), []);
    tower.advance(100);
    assert_eq!(tower.woken(), [(1, granted(2, 50))]);
    assert_eq!(tower.standing(b"k", 1), Standing::Nobody, "another has taken it");
    assert_eq!(tower.flights.take_expired(), [key(b"k")]);
    tower.flights.leave(2);
    tower.advance(1_000);
    assert_eq!(tower.woken(), [(3, granted(3, 50))], "one at a time, however late it is noticed");
    tower.advance(1_050);
    assert_eq!((tower.flights.open(), tower.flights.ends.len()), (0, 0));
}

#[test]
fn a_lease_that_ran_out_is_its_holders_until_another_takes_it_or_as_long_again() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.advance(120);
    assert_eq!(tower.standing(b"k", 1), late(0));
    assert_eq!(tower.flights.take_expired(), [key(b"k")]);
    tower.now = 199;
    assert_eq!(tower.standing(b"k", 1), late(0));
    tower.now = 200;
    assert_eq!(tower.standing(b"k", 1), Standing::Nobody);
    tower.advance(200);
    assert_eq!(tower.flights.remembered(), 0);

    tower.lease(b"k", 100).unwrap();
    tower.advance(310);
    assert_eq!(tower.lease(b"k", 100), Ok(token(3)), "it keeps nobody out");
    assert_eq!(tower.standing(b"k", 2), Standing::Nobody);

    // It is the holder's, whoever notices when that its time is over.
    tower.now = 450;
    assert_eq!(tower.standing(b"k", 3), late(310));
}

#[test]
fn a_late_lease_is_completed_renewed_and_released() {
    let mut tower = Tower::default();
    for (number, at) in [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")] {
        assert_eq!(tower.lease(at, 100), Ok(token(number)));
    }
    tower.advance(150);
    assert_eq!((tower.flights.open(), tower.flights.remembered()), (0, 4));
    tower.complete(b"a", Some(1));
    assert_eq!(tower.standing(b"a", 1), Standing::Completed);
    assert!(tower.renew(b"b", 2, 60));
    assert_eq!(tower.standing(b"b", 2), holder(0));
    assert_eq!(tower.lease(b"b", 9), Err(Refusal::Leased(60)));
    assert!(tower.release(b"c", 3, None));
    assert_eq!(tower.standing(b"c", 3), Standing::Nobody);
    assert!(tower.release(b"d", 4, Some(30)));
    assert_eq!(tower.lease(b"d", 9), Err(Refusal::BackedOff(30)));
    assert!(!tower.release(b"c", 3, None) && !tower.renew(b"c", 3, 9));
}

#[test]
fn a_completed_lease_is_known_for_as_long_again_while_nothing_changes() {
    type Change = fn(&mut Tower);
    let changes: [(&str, Change, bool); 7] = [
        ("another lease", |tower| _ = tower.lease(b"k", 100), true),
        ("another set", |tower| tower.complete(b"k", None), false),
        ("another key's", |tower| tower.complete(b"x", None), true),
        ("an invalidation", |tower| tower.invalidate(b"k", None), false),
        ("another version's", |tower| tower.invalidate(b"k", Some(b"w")), true),
        ("a flush", |tower| tower.flights.invalidate_scope(Some(0)), false),
        ("another scope's", |tower| tower.flights.invalidate_scope(Some(1)), true),
    ];
    for (what, change, stays) in changes {
        let mut tower = Tower::default();
        tower.lease(b"k", 100).unwrap();
        tower.now = 50;
        tower.complete(b"k", Some(1));
        tower.now = 149;
        assert_eq!(tower.standing(b"k", 1), Standing::Completed);
        change(&mut tower);
        let expected = if stays { Standing::Completed } else { Standing::Nobody };
        assert_eq!(tower.standing(b"k", 1), expected, "{what}");
        tower.now = 150;
        assert_eq!(tower.standing(b"k", 1), Standing::Nobody, "{what}");
    }
}

#[test]
fn a_token_of_the_callers_own_is_granted_once_and_told_again() {
    let mut tower = Tower::default();
    let lease = |left_us| Ok(Lease { token: token(9), left_us });
    assert_eq!(tower.lease_as(b"k", Some(9), 100), lease(100));
    tower.now = 30;
    assert_eq!(tower.lease_as(b"k", Some(9), 500), lease(70), "as it stands");
    assert_eq!(tower.lease_as(b"k", Some(8), 100), Err(Refusal::Leased(70)));
    assert_eq!(tower.flights.held(&key(b"k"), token(9), 30), Some(70));
    tower.wait(b"k", 1, Some(8), 50);
    tower.wait(b"k", 2, None, 50);
    // The same caller, on a new connection.
    tower.wait(b"k", 3, Some(8), 60);
    assert_eq!(tower.woken(), [(1, WaitOutcome::Replaced { left_us: 70 })]);
    tower.advance(100);
    assert_eq!(tower.woken(), [(3, granted(8, 60))], "in its place");
    assert_eq!(tower.lease_as(b"k", Some(8), 60), Ok(Lease { token: token(8), left_us: 60 }));
    tower.advance(160);
    assert_eq!(tower.woken(), [(2, granted(1, 50))]);
    tower.complete(b"k", Some(1));
    assert_eq!(tower.lease_as(b"k", Some(8), 40), Ok(Lease { token: token(8), left_us: 40 }));
}

#[test]
fn a_holder_that_gives_up_hands_over_or_has_all_back_off() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.wait(b"k", 2, None, 50);
    assert!(!tower.release(b"k", 9, None), "nobody's");
    assert!(tower.release(b"k", 1, None));
    assert!(!tower.release(b"k", 1, None), "once");
    assert_eq!(tower.woken(), [(1, granted(2, 50))]);
    assert!(tower.release(b"k", 2, Some(30)));
    assert_eq!(tower.woken(), [(2, WaitOutcome::BackedOff { left_us: 30 })]);
    tower.now = 10;
    assert_eq!(tower.lease(b"k", 100), Err(Refusal::BackedOff(20)));
    assert!(!tower.flights.may_wait(&key(b"k"), 0), "there is nothing to wait for");
    tower.now = 30;
    assert_eq!(tower.lease(b"k", 100), Ok(token(3)));
    assert_eq!(tower.flights.take_expired(), [], "a backoff that is over is no lease that ran out");
}

#[test]
fn an_invalidation_ends_leases_also_late_ones() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.invalidate(b"k", Some(b"w"));
    assert_eq!(tower.standing(b"k", 1), holder(0), "another version's");
    tower.invalidate(b"k", None);
    assert_eq!(tower.standing(b"k", 1), Standing::Nobody);
    assert_eq!(tower.woken(), [(1, granted(2, 50))]);
    tower.advance(60);
    assert_eq!(tower.standing(b"k", 2), late(0));
    tower.invalidate(b"k", Some(b"v"));
    assert_eq!(tower.standing(b"k", 2), Standing::Nobody);
    let backed_off = tower.lease(b"k", 100).unwrap();
    assert!(tower.flights.release(0, b"k", backed_off, Some(500), 60));
    tower.invalidate(b"k", Some(b"w"));
    assert!(matches!(tower.lease(b"k", 100), Err(Refusal::BackedOff(_))));
    tower.invalidate(b"k", Some(b"v"));
    tower.lease(b"k", 100).unwrap();
    tower.flights.invalidate_scope(Some(1));
    assert_eq!(tower.flights.open(), 1, "another scope");
    tower.flights.invalidate_scope(Some(0));
    assert!(tower.flights.is_idle());
}

#[test]
fn what_is_without_a_holder_is_the_owners_to_see_to() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.flights.invalidate(0, b"k", None);
    assert_eq!(tower.flights.next_unheld(), Some(key(b"k")));
    assert_eq!(tower.flights.first_waiter(&key(b"k")), Some(1));
    let refused = tower.flights.lease(&key(b"k"), None, || token(9), 100, 0);
    assert_eq!(refused, Err(Refusal::Leased(100)), "nobody gets in between");
    tower.flights.deliver(&key(b"k"), 0, || "there");
    assert_eq!(tower.woken(), [(1, WaitOutcome::Completed("there"))]);
    assert!(tower.flights.is_idle() && tower.flights.next_unheld().is_none());

    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.flights.invalidate(0, b"k", None);
    tower.flights.leave(1);
    assert!(tower.flights.is_idle() && tower.flights.next_unheld().is_none());

    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.flights.invalidate(0, b"k", None);
    tower.flights.give_up(&key(b"k"));
    assert_eq!(tower.woken(), [(1, WaitOutcome::Closed)]);
}

#[test]
fn what_is_withdrawn_and_a_table_that_is_cleared_tell_all_who_wait() {
    let mut tower = Tower::default();
    tower.lease(b"a", 100).unwrap();
    tower.lease(b"b", 100).unwrap();
    tower.wait(b"a", 1, None, 50);
    tower.wait(b"b", 2, None, 50);
    tower.flights.withdraw(|key| key.key() == b"a");
    assert_eq!(tower.woken(), [(1, WaitOutcome::Withdrawn)]);
    assert_eq!(tower.standing(b"a", 1), Standing::Nobody);
    assert_eq!(tower.standing(b"b", 2), holder(0));
    tower.flights.clear();
    assert_eq!(tower.woken(), [(2, WaitOutcome::Closed)]);
}

#[test]
fn no_more_is_kept_than_may_be_and_the_oldest_that_is_over_makes_room() {
    let mut tower = Tower::default();
    tower.flights.set_limits(Limits { leases: 3, bytes: usize::MAX });
    for at in [b"a", b"b", b"c"] {
        tower.lease(at, 100).unwrap();
    }
    assert_eq!(tower.lease(b"d", 100), Err(Refusal::Full));
    assert_eq!(tower.lease(b"a", 100), Err(Refusal::Leased(100)));
    tower.advance(100);
    assert_eq!((tower.flights.open(), tower.flights.remembered()), (0, 3));
    assert!(tower.lease(b"d", 100).is_ok());
    assert_eq!(tower.standing(b"a", 1), Standing::Nobody, "the oldest");
    assert_eq!(tower.standing(b"b", 2), late(0));
    tower.flights.set_limits(Limits { leases: 1, bytes: usize::MAX });
    assert_eq!(tower.flights.remembered(), 0);
    assert_eq!(tower.standing(b"d", 4), holder(100), "what is open stays");
    assert_eq!(tower.lease(b"e", 100), Err(Refusal::Full));

    let mut tower = Tower::default();
    let bytes = 3 * (FLIGHT_BYTES + 1_000);
    tower.flights.set_limits(Limits { leases: usize::MAX, bytes });
    let long = |number: u8| vec![number; 900];
    for number in 0..3 {
        assert!(tower.lease(&long(number), 100).is_ok());
    }
    assert_eq!(tower.lease(&long(4), 100), Err(Refusal::Full));
    assert!(tower.flights.may_wait(&key(&long(1)), 9));
    tower.wait(&long(1), 1, None, 50);
    assert!(!tower.flights.may_wait(&key(&long(1)), 60), "who waits is counted");
    tower.flights.leave(1);
    tower.advance(100);
    assert!(tower.flights.bytes() < bytes / 4, "no key is copied of what is over");
    assert!(tower.lease(&long(4), 100).is_ok());
}

#[test]
fn a_lease_that_somebody_has_is_neither_handed_over_nor_given_up() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 100);
    tower.wait(b"k", 2, None, 100);
    tower.flights.hand_over(&key(b"k"), || token(9), 0);
    tower.flights.give_up(&key(b"k"));
    assert_eq!(tower.woken(), []);
    assert_eq!(tower.standing(b"k", 1), holder(0));
}

#[test]
fn of_many_leases_that_are_over_some_end_at_a_time_and_each_is_judged_by_its_own() {
    let mut flights = SingleFlight::<usize, Answer>::default();
    let at = |number: usize| key(&number.to_be_bytes());
    let id = |number: usize| Id((number as u128).to_be_bytes());
    let lease = |flights: &mut SingleFlight<_, _>, number: usize, now| {
        flights.lease(&at(number), None, || id(number), 100, now).is_ok()
    };
    let all = 2 * MOST_AT_ONCE + 1;
    for number in 0..all {
        assert!(lease(&mut flights, number, 0));
    }
    flights.advance(100);
    assert_eq!(flights.remembered(), MOST_AT_ONCE);
    assert!(flights.is_behind(100));
    // The last is not ended yet: its holder is late, and another may take it.
    let last = all - 1;
    assert_eq!(flights.standing(&at(last), id(last), 100), late(0));
    assert_eq!(flights.standing(&at(last), id(last), 200), Standing::Nobody);
    assert_eq!(flights.taken(&at(last), 100), None);
    assert!(flights.renew(0, at(last).key(), id(last), 50, 100));
    assert_eq!(flights.held(&at(last), id(last), 100), Some(50));
    assert_eq!(flights.remembered(), MOST_AT_ONCE);
    let longer = all - 2;
    assert!(!flights.release(0, at(longer).key(), id(longer), None, 200), "for too long");
    assert!(lease(&mut flights, longer, 100), "anew");
    while flights.is_behind(100) {
        flights.advance(100);
    }
    assert_eq!((flights.open(), flights.remembered()), (2, all - 2));
    flights.past.assert_sound();
}

#[test]
fn a_key_has_so_many_leases_and_all_that_are_over_are_remembered() {
    let mut flights = SingleFlight::<usize, Answer>::default();
    let at = |number: usize| FlightKey::new(0, b"k", &number.to_be_bytes());
    let id = |number: usize| Id((number as u128).to_be_bytes());
    let lease = |flights: &mut SingleFlight<_, _>, number: usize, now| {
        flights.lease(&at(number), None, || id(number), 1_000, now)
    };
    for number in 0..MOST_AT_A_KEY {
        assert!(lease(&mut flights, number, 0).is_ok());
    }
    assert_eq!(lease(&mut flights, MOST_AT_A_KEY, 0), Err(Refusal::Full));
    assert!(flights.lease(&key(b"other"), None, || token(1), 10, 0).is_ok());
    flights.invalidate(0, b"k", Some(&7_usize.to_be_bytes()));
    assert!(lease(&mut flights, MOST_AT_A_KEY, 0).is_ok());
    assert_eq!(flights.open(), MOST_AT_A_KEY + 1);
    flights.advance(1_000);
    assert_eq!(flights.remembered(), MOST_AT_A_KEY, "and the other key's is forgotten");
    // However many are completed at the key meanwhile.
    for number in 1_000..3_000 {
        assert!(lease(&mut flights, number, 1_000).is_ok());
        flights.complete(&at(number), Some(id(number)), 1_000, || "");
    }
    assert_eq!(flights.remembered(), MOST_AT_A_KEY + 2_000);
    let standings = |flights: &SingleFlight<_, _>, number: usize| {
        let standings = flights.standings_at(0, b"k", id(number), 1_500);
        standings
            .into_iter()
            .map(|(flight, standing)| {
                assert_eq!(flight, at(number));
                standing
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(standings(&flights, 0), [late(0)]);
    assert_eq!(standings(&flights, 7), []);
    assert_eq!(standings(&flights, 1_000), [Standing::Completed]);
    // Where room is wanted, what was completed goes first.
    flights.set_limits(Limits { leases: MOST_AT_A_KEY + 1, bytes: usize::MAX });
    assert_eq!(standings(&flights, 0), [late(0)]);
    assert_eq!(
        (standings(&flights, 2_998), standings(&flights, 2_999)),
        (vec![], vec![Standing::Completed])
    );
    flights.invalidate_if(0, b"k", |flight| flight.name() == 0_usize.to_be_bytes());
    assert_eq!((standings(&flights, 0), standings(&flights, 1)), (vec![], vec![late(0)]));
    flights.past.assert_sound();
    flights.invalidate(0, b"k", None);
    assert_eq!(flights.remembered(), 0);
    flights.past.assert_sound();
}

#[test]
fn a_token_has_a_standing_in_each_flight_that_it_computes_open_ones_first() {
    let mut flights = SingleFlight::<usize, Answer>::default();
    let keys = [b"a", b"b", b"c", b"d"].map(|name| FlightKey::new(0, b"k", name));
    for (key, lease_us) in keys.iter().zip([100, 200, 300, 1_000]) {
        flights.lease(key, Some(token(7)), || token(0), lease_us, 0).unwrap();
    }
    flights.complete(&keys[1], Some(token(7)), 50, || "");
    flights.wait(&keys[2], 1, None, 100, 0, 50);
    flights.advance(100);
    let [a, b, c, d] = keys;
    let expected = [(c, holder(0)), (d, holder(0)), (a, late(0)), (b, Standing::Completed)];
    assert_eq!(flights.standings_at(0, b"k", token(7), 199), expected);
    assert_eq!(flights.standings_at(0, b"k", token(8), 199), []);
    assert_eq!(flights.standings_at(1, b"k", token(7), 199), []);
    // One that somebody waits to be handed over is its holder's still.
    flights.advance(300);
    let standings = flights.standings_at(0, b"k", token(7), 300);
    assert_eq!(standings[0], (FlightKey::new(0, b"k", b"c"), late(0)));
}

#[test]
fn a_batch_that_completes_a_thing_twice_is_known_to_have() {
    let mut tower = Tower::default();
    tower.lease(b"k", 100).unwrap();
    tower.complete(b"k", Some(1));
    tower.complete(b"k", Some(1));
    assert_eq!(tower.standing(b"k", 1), Standing::Completed);
    tower.complete(b"k", None);
    assert_eq!(tower.standing(b"k", 1), Standing::Nobody);
}

#[test]
fn a_late_lease_that_cannot_be_opened_again_stays_late() {
    let mut tower = Tower::default();
    let long = vec![b'k'; 2_000];
    tower.lease(&long, 100).unwrap();
    tower.lease(b"a", 1_000).unwrap();
    tower.advance(100);
    tower.flights.set_limits(Limits { leases: 10, bytes: 2_000 });
    assert_eq!(tower.standing(&long, 1), late(0));
    assert!(!tower.renew(&long, 1, 100));
    assert!(!tower.release(&long, 1, Some(100)));
    assert_eq!(tower.lease(&long, 100), Err(Refusal::Full));
    assert_eq!(tower.standing(&long, 1), late(0));
    assert!(tower.release(&long, 1, None), "which opens nothing");
    assert_eq!(tower.standing(&long, 1), Standing::Nobody);
}

#[derive(Clone, Debug)]
enum Step {
    Fetch(u8, Option<u8>, Monotonic),
    Complete(u8, usize),
    Set(u8),
    Invalidate(u8),
    Flush,
    Release(u8, usize, Option<Monotonic>),
    Renew(u8, usize, Monotonic),
    Leave(usize),
    Pass(Monotonic),
    Limit(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let back_off = || prop::option::of(1u64..40);
    prop_oneof![
        8 => (0u8..3, prop::option::weighted(0.3, 200u8..204), 1u64..100)
            .prop_map(|(at, own, lease)| Step::Fetch(at, own, lease)),
        3 => (0u8..3, 0usize..5).prop_map(|(at, who)| Step::Complete(at, who)),
        1 => (0u8..3).prop_map(Step::Set),
        1 => (0u8..3).prop_map(Step::Invalidate),
        1 => Just(Step::Flush),
        1 => (0u8..3, 0usize..5, back_off()).prop_map(|(at, who, off)| Step::Release(at, who, off)),
        2 => (0u8..3, 0usize..5, 1u64..100).prop_map(|(at, who, us)| Step::Renew(at, who, us)),
        1 => (0usize..60).prop_map(Step::Leave),
        4 => (1u64..60).prop_map(Step::Pass),
        1 => (1usize..5).prop_map(Step::Limit),
    ]
}

/// What is told of one thing: who holds it, who waits, what is over.
#[derive(Clone, Default)]
struct Story {
    /// Token, since, length, until.
    holder: Option<(Id, Monotonic, Monotonic, Monotonic)>,
    backed_off_until: Option<Monotonic>,
    /// When the flight began, of all of them.
    opened: u64,
    /// Caller, own token, length.
    waiters: Vec<(usize, Option<Id>, Monotonic)>,
}

/// A lease that is over, in the order that they came to be.
#[derive(Clone, Debug, PartialEq)]
struct Over {
    at: u8,
    completed: bool,
    token: Id,
    since: Monotonic,
    length: Monotonic,
    until: Monotonic,
}

/// The oracle: lists, looked through from end to end.
struct Oracle {
    now: Monotonic,
    most: usize,
    stories: Vec<Story>,
    over: Vec<Over>,
    told: Vec<(usize, WaitOutcome<Answer>)>,
    minted: u8,
    opened: u64,
}

impl Oracle {
    fn opened(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    fn open(&self) -> usize {
        let open = |story: &&Story| story.holder.is_some() || story.backed_off_until.is_some();
        self.stories.iter().filter(open).count()
    }

    fn trim(&mut self) {
        while !self.over.is_empty() && self.open() + self.over.len() > self.most {
            self.forget_oldest();
        }
    }

    /// What was completed goes first.
    fn forget_oldest(&mut self) {
        let completed = self.over.iter().position(|over| over.completed);
        self.over.remove(completed.unwrap_or(0));
    }

    fn mint(&mut self) -> Id {
        self.minted += 1;
        token(self.minted)
    }

    /// The holder is out: the first who waits has it.
    fn hand_over(&mut self, at: u8) {
        self.stories[usize::from(at)].holder = None;
        if self.stories[usize::from(at)].waiters.is_empty() {
            return;
        }
        let (waiter, own, length) = self.stories[usize::from(at)].waiters.remove(0);
        let token = own.unwrap_or_else(|| self.mint());
        let holder = (token, self.now, length, self.now + length);
        self.stories[usize::from(at)].holder = Some(holder);
        self.told.push((waiter, WaitOutcome::Granted { token, lease_us: length }));
    }

    fn forget(&mut self, at: u8, completed: Option<bool>) {
        self.over.retain(|over| {
            over.at != at || completed.is_some_and(|completed| over.completed != completed)
        });
    }

    fn advance(&mut self) {
        let mut awaited = Vec::new();
        // In the order of their ends; of one moment, as they began.
        let ended = |(at, story): (usize, &Story)| {
            let until = story.holder.map(|holder| holder.3).or(story.backed_off_until)?;
            (until <= self.now).then_some((until, story.opened, at as u8))
        };
        let mut due: Vec<_> = self.stories.iter().enumerate().filter_map(ended).collect();
        due.sort_unstable();
        for (until, _, at) in due {
            self.stories[usize::from(at)].backed_off_until = None;
            if !self.stories[usize::from(at)].waiters.is_empty() {
                awaited.push(at);
            } else if let Some((token, since, length, _)) =
                self.stories[usize::from(at)].holder.take()
            {
                self.forget(at, Some(false));
                let until = until + length;
                self.over.push(Over { at, completed: false, token, since, length, until });
                self.trim();
            }
        }
        awaited.sort_unstable();
        awaited.into_iter().for_each(|at| self.hand_over(at));
        let now = self.now;
        self.over.retain(|over| now < over.until);
    }

    fn past(&self, at: u8, completed: bool, token: Id) -> Option<Over> {
        let is_it = |over: &&Over| {
            over.at == at
                && over.completed == completed
                && over.token == token
                && self.now < over.until
        };
        self.over.iter().find(is_it).cloned()
    }

    fn standing(&self, at: u8, token: Id) -> Standing {
        match self.stories[usize::from(at)].holder {
            Some((held, since, _, until)) if held == token => {
                Standing::Holder { since, is_late: until <= self.now }
            }
            _ => match (self.past(at, false, token), self.past(at, true, token)) {
                (Some(over), _) => Standing::Holder { since: over.since, is_late: true },
                (None, Some(_)) => Standing::Completed,
                (None, None) => Standing::Nobody,
            },
        }
    }

    fn complete(&mut self, at: u8, by: Option<Id>) {
        let held = self.stories[usize::from(at)].holder.filter(|held| Some(held.0) == by);
        let held = held.map(|(token, since, length, _)| (token, since, length));
        let late = || {
            let over = self.past(at, false, by?)?;
            Some((over.token, over.since, over.length))
        };
        let held = held.or_else(late);
        let story = std::mem::take(&mut self.stories[usize::from(at)]);
        let told = story.waiters.iter().map(|(who, ..)| (*who, WaitOutcome::Completed("answer")));
        self.told.extend(told);
        self.forget(at, None);
        if let Some((token, since, length)) = held {
            let until = self.now + length;
            self.over.push(Over { at, completed: true, token, since, length, until });
            self.trim();
        }
    }

    /// A lease that ran out is open again; whether the token holds one then.
    fn revive(&mut self, at: u8, token: Id) -> bool {
        if self.stories[usize::from(at)].holder.is_some_and(|held| held.0 == token) {
            return true;
        }
        let Some(over) = self.past(at, false, token) else { return false };
        self.forget(at, Some(false));
        let opened = self.opened();
        let story = &mut self.stories[usize::from(at)];
        story.opened = opened;
        assert!(story.holder.is_none() && story.backed_off_until.is_none());
        story.holder = Some((token, over.since, over.length, self.now + over.length));
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn callers_at_random_get_what_the_list_says(all in prop::collection::vec(steps(), 1..60)) {
        let mut tower = Tower::default();
        let mut oracle = Oracle {
            now: 0,
            most: 1_000,
            stories: vec![Story::default(); 3],
            over: Vec::new(),
            told: Vec::new(),
            minted: 0,
            opened: 0,
        };
        let mut callers = 0;
        // Every token that anybody was told, by the thing.
        let mut known: Vec<Vec<Id>> = vec![vec![token(250)]; 3];
        for step in all {
            match step {
                Step::Fetch(at, own, length) => {
                    let caller = callers;
                    callers += 1;
                    let answer = tower.lease_as(&[at], own, length);
                    oracle.advance();
                    let (holder, off) = {
                        let story = &oracle.stories[usize::from(at)];
                        (story.holder, story.backed_off_until)
                    };
                    let own = own.map(token);
                    if let Some((held, _, _, until)) = holder {
                        let left_us = until - oracle.now;
                        if own == Some(held) {
                            prop_assert_eq!(answer, Ok(Lease { token: held, left_us }));
                        } else {
                            prop_assert_eq!(answer, Err(Refusal::Leased(left_us)));
                            let number = own.map(|own| own.0[0]);
                            tower.wait(&[at], caller, number, length);
                            let waiters = &mut oracle.stories[usize::from(at)].waiters;
                            let same = |one: &&mut (usize, Option<Id>, _)| own.is_some() && one.1 == own;
                            if let Some(earlier) = waiters.iter_mut().find(same) {
                                oracle.told.push((earlier.0, WaitOutcome::Replaced { left_us }));
                                *earlier = (caller, own, length);
                            } else {
                                waiters.push((caller, own, length));
                            }
                        }
                    } else if let Some(until) = off {
                        prop_assert_eq!(answer, Err(Refusal::BackedOff(until - oracle.now)));
                    } else {
                        if oracle.open() + 1 > oracle.most {
                            prop_assert_eq!(answer, Err(Refusal::Full));
                        } else {
                            oracle.forget(at, Some(false));
                            while oracle.open() + oracle.over.len() + 1 > oracle.most {
                                oracle.forget_oldest();
                            }
                            let token = own.unwrap_or_else(|| oracle.mint());
                            prop_assert_eq!(answer, Ok(Lease { token, left_us: length }));
                            let holder = (token, oracle.now, length, oracle.now + length);
                            oracle.stories[usize::from(at)].opened = oracle.opened();
                            oracle.stories[usize::from(at)].holder = Some(holder);
                            known[usize::from(at)].push(token);
                        }
                    }
                }
                Step::Complete(at, who) => {
                    let tokens = &known[usize::from(at)];
                    let token = tokens[tokens.len() - 1 - who.min(tokens.len() - 1)];
                    let standing = oracle.standing(at, token);
                    prop_assert_eq!(tower.standing(&[at], token.0[0]), standing);
                    // As an owner does: only a holder sets.
                    if matches!(standing, Standing::Holder { .. }) {
                        tower.complete(&[at], Some(token.0[0]));
                        oracle.complete(at, Some(token));
                    }
                }
                Step::Set(at) => {
                    tower.complete(&[at], None);
                    oracle.complete(at, None);
                }
                Step::Invalidate(at) => {
                    tower.invalidate(&[at], None);
                    oracle.forget(at, None);
                    oracle.stories[usize::from(at)].backed_off_until = None;
                    oracle.hand_over(at);
                }
                Step::Flush => {
                    tower.flights.invalidate_scope(Some(0));
                    tower.settle();
                    oracle.over.clear();
                    for at in 0..3 {
                        oracle.stories[usize::from(at)].backed_off_until = None;
                        oracle.hand_over(at);
                    }
                }
                Step::Release(at, who, back_off) => {
                    let tokens = &known[usize::from(at)];
                    let token = tokens[tokens.len() - 1 - who.min(tokens.len() - 1)];
                    let released = tower.release(&[at], token.0[0], back_off);
                    prop_assert_eq!(released, oracle.revive(at, token));
                    if released {
                        match back_off {
                            None => oracle.hand_over(at),
                            Some(left_us) => {
                                let story = std::mem::take(&mut oracle.stories[usize::from(at)]);
                                let told = story.waiters.iter();
                                let told = told.map(|(who, ..)| (*who, WaitOutcome::BackedOff { left_us }));
                                oracle.told.extend(told);
                                let until = Some(oracle.now + left_us);
                                oracle.stories[usize::from(at)].backed_off_until = until;
                            }
                        }
                    }
                }
                Step::Renew(at, who, length) => {
                    let tokens = &known[usize::from(at)];
                    let token = tokens[tokens.len() - 1 - who.min(tokens.len() - 1)];
                    let renewed = tower.renew(&[at], token.0[0], length);
                    prop_assert_eq!(renewed, oracle.revive(at, token));
                    if renewed && let Some(holder) = &mut oracle.stories[usize::from(at)].holder {
                        (holder.2, holder.3) = (length, oracle.now + length);
                    }
                }
                Step::Leave(waiter) => {
                    tower.flights.leave(waiter);
                    for story in &mut oracle.stories {
                        story.waiters.retain(|(other, ..)| *other != waiter);
                    }
                }
                Step::Pass(span) => {
                    oracle.now += span;
                    let now = oracle.now;
                    tower.advance(now);
                    oracle.advance();
                }
                Step::Limit(most) => {
                    tower.flights.set_limits(Limits { leases: most, bytes: usize::MAX });
                    oracle.most = most;
                    oracle.trim();
                }
            }
            let (mut told, mut expected) = (tower.woken(), std::mem::take(&mut oracle.told));
            told.sort_by_key(|(who, _)| *who);
            expected.sort_by_key(|(who, _)| *who);
            for (_, outcome) in &told {
                if let WaitOutcome::Granted { token, .. } = outcome {
                    known.iter_mut().for_each(|tokens| tokens.push(*token));
                }
            }
            prop_assert_eq!(told, expected);
            for at in 0..3 {
                let story = &oracle.stories[usize::from(at)];
                let left_us = story.holder.map_or(0, |holder| holder.3.saturating_sub(oracle.now));
                let expected = (left_us, story.waiters.len());
                prop_assert_eq!(tower.flights.look(0, &[at], oracle.now), expected);
                for token in &known[usize::from(at)] {
                    let expected = oracle.standing(at, *token);
                    prop_assert_eq!(tower.standing(&[at], token.0[0]), expected);
                }
            }
            prop_assert_eq!(tower.flights.open(), oracle.open());
            let in_flights: usize = oracle.stories.iter().map(|story| story.waiters.len()).sum();
            prop_assert_eq!(tower.flights.waiters(), in_flights);
            prop_assert_eq!(tower.flights.ends.len(), tower.flights.open());
            prop_assert!(tower.flights.next_unheld().is_none());
            tower.flights.past.assert_sound();
            let open: usize = tower.flights.flights.keys().map(|key| FLIGHT_BYTES + key.bytes()).sum();
            prop_assert_eq!(tower.flights.bytes, open + in_flights * WAITER_BYTES);
        }
    }
}

#[test]
fn a_lease_that_nobody_is_handed_stays_its_late_holder_s() {
    for leaves in [false, true] {
        let mut tower = Tower::default();
        let held = tower.lease(b"k", 100).unwrap();
        tower.wait(b"k", 1, None, 50);
        tower.flights.advance(100);
        assert_eq!(tower.flights.next_unheld(), Some(key(b"k")));
        let late = Standing::Holder { since: 0, is_late: true };
        assert_eq!(tower.flights.standing(&key(b"k"), held, 100), late);
        match leaves {
            true => tower.flights.leave(1),
            false => tower.flights.give_up(&key(b"k")),
        }
        assert_eq!(tower.flights.standing(&key(b"k"), held, 199), late);
        assert_eq!(tower.flights.standing(&key(b"k"), held, 200), Standing::Nobody);
    }
    let mut tower = Tower::default();
    let held = tower.lease(b"k", 100).unwrap();
    tower.wait(b"k", 1, None, 50);
    tower.flights.advance(100);
    tower.flights.hand_over(&key(b"k"), || token(9), 100);
    assert_eq!(tower.flights.standing(&key(b"k"), held, 101), Standing::Nobody);
}

#[test]
fn a_token_is_renewed_and_released_under_each_name_it_computes() {
    let mut flights = SingleFlight::<u8, &str>::default();
    let keys = [b"v1", b"v2", b"v3"].map(|name| FlightKey::new(0, b"k", name));
    for key in &keys {
        flights.lease(key, Some(token(7)), || token(0), 100, 0).unwrap();
    }
    assert!(flights.renew(0, b"k", token(7), 1_000, 50));
    for key in &keys {
        assert_eq!(flights.held(key, token(7), 200), Some(850));
    }
    assert!(!flights.release(0, b"k", token(8), None, 200));
    assert!(flights.release(0, b"k", token(7), None, 200));
    assert!(flights.is_idle());
}
