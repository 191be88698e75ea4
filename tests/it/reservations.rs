//! RESERVE and ML.RATESETTLE: costs that are known only afterwards.

use crate::support::rates::{ALGORITHMS, Info, Row, frozen, open_reservations};
use crate::support::{Answer, Client, Events, Random, Server, Tap, call, wait_for};
use redis::Value;
use std::collections::{HashMap, HashSet};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// Reserves by a call of ML.RATELIMIT, granted.
#[track_caller]
fn reserve(client: &mut Client, call: &str) -> String {
    let row = Row::of(&client.run(&format!("ML.RATELIMIT {call}")));
    row.id.unwrap_or_else(|| panic!("denied: {call}"))
}

#[track_caller]
fn settle(client: &mut Client, key: &str, id: &str, actual: i64) -> i64 {
    call!(client, "ML.RATESETTLE", key, id, actual).integer()
}

#[track_caller]
fn used(client: &mut Client, key: &str) -> Vec<i64> {
    Info::of(client, key).unwrap().used()
}

#[test]
fn a_settlement_replaces_the_estimate_once() {
    for algorithm in ALGORITHMS {
        // Refunded whole and in part, as estimated, above it, above the limit.
        for (actual, after) in [(0, 3), (1, 4), (5, 8), (6, 9), (90, 93)] {
            let (_server, mut client, _) = frozen();
            client.run(&format!("ML.RATELIMIT k 10 60 COST 3 ALGORITHM {algorithm}"));
            let id = reserve(&mut client, "k 10 60 COST 5 RESERVE 30000");
            assert_eq!(used(&mut client, "k"), [8], "{algorithm}");
            assert_eq!(Info::of(&mut client, "k").unwrap().reservations, 1);
            assert_eq!(settle(&mut client, "k", &id, actual), 1, "{algorithm} {actual}");
            assert_eq!(used(&mut client, "k"), [after], "{algorithm} {actual}");
            for actual in [0, 5, 1_000] {
                assert_eq!(settle(&mut client, "k", &id, actual), 0, "twice");
            }
            let info = Info::of(&mut client, "k").unwrap();
            assert_eq!((info.reservations, info.used()), (0, vec![after]), "{algorithm}");
            let row = Row::of(&client.run("ML.RATELIMIT k 10 60 PEEK"));
            assert_eq!(row.remaining, (10 - after).max(0), "{algorithm} {actual}");
            assert_eq!(row.granted, i64::from(after < 10), "{algorithm} {actual}");
        }
    }
}

#[test]
fn a_refund_never_gives_back_more_than_the_charge_still_weighs() {
    // The limit, when the settlement comes, and what is used before and after.
    for (policy, at_s, before, after) in [
        // A fixed window that has closed since, and another one open.
        ("10 60 ALGORITHM FIXED", 61, 4, 4),
        ("10 60 ALGORITHM FIXED", 59, 10, 4),
        // What has left the window, and what has not.
        ("10 60 ALGORITHM SLIDING", 61, 4, 4),
        ("10 60 ALGORITHM SLIDING", 59, 10, 4),
        // Half of the bucket's debt is paid, and that was the oldest charge's.
        ("10 60 ALGORITHM GCRA", 30, 5, 4),
        ("10 60 ALGORITHM GCRA", 54, 1, 1),
        ("10 60 ALGORITHM GCRA", 61, 0, 0),
    ] {
        let (_server, mut client, now) = frozen();
        let id = reserve(&mut client, &format!("k {policy} COST 6 RESERVE 100000"));
        let gcra = policy.ends_with("GCRA");
        client.freeze(now + if gcra || at_s < 60 { 0 } else { 60 * SECOND });
        client.run("ML.RATELIMIT k 10 60 COST 4");
        client.freeze(now + at_s * SECOND);
        let context = format!("{policy} after {at_s} s");
        assert_eq!(used(&mut client, "k"), [before], "{context}");
        assert_eq!(settle(&mut client, "k", &id, 0), 1, "{context}");
        assert_eq!(used(&mut client, "k"), [after], "{context}");
        let remaining = Row::of(&client.run("ML.RATELIMIT k 10 60 PEEK")).remaining;
        assert_eq!(remaining, 10 - after, "{context}");
    }
}

#[test]
fn a_debt_counts_like_any_charge() {
    let (_server, mut client, now) = frozen();
    for (key, algorithm, free_after_ms) in
        [("f", "FIXED", 60_000), ("s", "SLIDING", 60_000), ("g", "GCRA", 66_000)]
    {
        let call = format!("{key} 10 60 ALGORITHM {algorithm}");
        let id = reserve(&mut client, &format!("{call} COST 2 RESERVE 5000"));
        assert_eq!(settle(&mut client, key, &id, 20), 1);
        let row = Row::of(&client.run(&format!("ML.RATELIMIT {call}")));
        assert_eq!((row.granted, row.remaining, row.retry_ms), (0, 0, free_after_ms), "{call}");
    }
    client.freeze(now + 66 * SECOND);
    for key in ["f", "s", "g"] {
        assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT {key} 10 60"))).granted, 1);
    }
}

#[test]
fn a_settlement_after_the_reservation_expired_changes_nothing() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let call = format!("k 100000 86400 ALGORITHM {algorithm} COST 50000 RESERVE 1000");
        let [early, late] = [0; 2].map(|_| reserve(&mut client, &call));
        client.freeze(now + 999 * MILLI);
        assert_eq!(settle(&mut client, "k", &early, 10_000), 1, "the last millisecond");
        client.freeze(now + SECOND);
        let before = (used(&mut client, "k"), client.digest_of("k"));
        assert_eq!(settle(&mut client, "k", &late, 0), 0, "{algorithm}");
        assert_eq!((used(&mut client, "k"), client.digest_of("k")), before, "{algorithm}");
        let info = Info::of(&mut client, "k").unwrap();
        assert_eq!(info.reservations, 0, "expired ones read as absent: {algorithm}");
    }
}

#[test]
fn ids_are_32_lower_case_digits_never_the_same_and_anything_else_settles_nothing() {
    let (_server, mut client, _) = frozen();
    let mut ids = HashSet::new();
    for call in ["k 900 60", "k 900 60 ALGORITHM GCRA", "k2 900 60"].repeat(100) {
        let id = reserve(&mut client, &format!("{call} RESERVE 60000"));
        let digits = id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        assert!(id.len() == 32 && digits, "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 300);
    let id = reserve(&mut client, "own 10 60 RESERVE 60000");
    let before = client.footprint();
    for other in [
        &b""[..],
        b"\0",
        &id.as_bytes()[..31],
        &[id.as_bytes(), b"0"].concat(),
        &id.to_uppercase().into_bytes(),
        &[b'f'; 32],
        &[0xff; 32],
        &[b'x'; 1 << 20],
    ] {
        if other == id.as_bytes() {
            continue; // Digits only: there is no upper case of it.
        }
        assert_eq!(call!(client, "ML.RATESETTLE", "own", other, 0).integer(), 0, "{other:?}");
    }
    assert_eq!(settle(&mut client, "k", &id, 0), 0, "of another key");
    assert_eq!(settle(&mut client, "missing", &id, 0), 0);
    assert_eq!(client.footprint(), before);
    assert_eq!(settle(&mut client, "own", &id, 0), 1);
}

#[test]
fn a_denied_reservation_answers_nil_and_leaks_nothing() {
    let (server, mut client, _) = frozen();
    client.run("ML.RATELIMIT full 3 3600 COST 3");
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    for call in [
        "ML.RATELIMIT full 3 3600 RESERVE 1000",
        "ML.RATELIMIT full 3 3600 PARTIAL RESERVE 1000",
        "ML.RATELIMIT new 0 3600 RESERVE 1000",
        "ML.RATELIMIT new 2 3600 COST 3 RESERVE 1000",
        "ML.RATELIMIT new 5 1 2 60 COST 3 RESERVE 1000",
        "ML.RATEMULTI 1 full 3 3600 RESERVE 1000",
        "ML.RATEMULTI 2 new full 9 60 3 3600 RESERVE 1000",
    ] {
        let answer = client.run(call);
        let rows = if call.contains("MULTI") { answer.items() } else { vec![answer] };
        for row in rows {
            let row = row.items();
            assert_eq!((row.len(), &row[5]), (6, &Value::Nil), "{call}");
        }
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(open_reservations(&mut client), 0);
    // Without RESERVE there is no sixth element.
    assert_eq!(client.run("ML.RATELIMIT full 3 3600").items().len(), 5);
    // Of a part, the part is the estimate.
    client.run("ML.RATELIMIT part 10 60 COST 7");
    let id = reserve(&mut client, "part 10 60 COST 7 PARTIAL RESERVE 1000");
    assert_eq!(settle(&mut client, "part", &id, 1), 1);
    assert_eq!(used(&mut client, "part"), [8]);
    // A forced one is granted beyond the limit.
    let id = reserve(&mut client, "part 10 60 COST 7 FORCE RESERVE 1000");
    assert_eq!(used(&mut client, "part"), [15]);
    assert_eq!(settle(&mut client, "part", &id, 0), 1);
    assert_eq!(used(&mut client, "part"), [8]);
}

#[test]
fn a_reservation_is_settled_in_each_of_its_windows_that_it_still_weighs_on() {
    for algorithm in ["FIXED", "SLIDING"] {
        let (_server, mut client, now) = frozen();
        let call = format!("k 10 1 20 60 30 600 ALGORITHM {algorithm}");
        let id = reserve(&mut client, &format!("{call} COST 6 RESERVE 100000"));
        client.freeze(now + 2 * SECOND);
        client.run(&format!("ML.RATELIMIT {call} COST 3"));
        assert_eq!(used(&mut client, "k"), [3, 9, 9], "{algorithm}");
        assert_eq!(settle(&mut client, "k", &id, 8), 1);
        assert_eq!(used(&mut client, "k"), [3, 11, 11], "{algorithm}: the second is over");
        // A window that came later knows nothing of it.
        let id = reserve(&mut client, &format!("{call} COST 2 RESERVE 100000"));
        client.run("ML.RATELIMIT k 40 7 COST 5");
        assert_eq!(settle(&mut client, "k", &id, 0), 1);
        assert_eq!(used(&mut client, "k"), [3, 11, 11, 5], "{algorithm}");
    }
}

#[test]
fn after_a_change_of_the_algorithm_a_settlement_adjusts_nothing() {
    let (_server, mut client, _) = frozen();
    let id = reserve(&mut client, "k 10 60 COST 6 RESERVE 100000");
    client.run("ML.RATELIMIT k 10 60 ALGORITHM GCRA");
    assert_eq!(Info::of(&mut client, "k").unwrap().reservations, 1);
    assert_eq!(settle(&mut client, "k", &id, 0), 1);
    let info = Info::of(&mut client, "k").unwrap();
    assert_eq!((info.reservations, info.used()), (0, vec![7]));
}

#[test]
fn each_key_of_a_multi_has_its_own_reservation() {
    let (_server, mut client, _) = frozen();
    let call = "ML.RATEMULTI 3 a b c 10 60 20 60 30 60 COST 5 RESERVE 60000";
    let ids: Vec<_> = Row::all(&client.run(call)).into_iter().map(|row| row.id.unwrap()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3);
    assert_eq!(open_reservations(&mut client), 3);
    for (key, other) in [("a", 1), ("b", 2), ("c", 0)] {
        assert_eq!(settle(&mut client, key, &ids[other], 0), 0, "another key's");
    }
    for (key, id, actual) in [("a", &ids[0], 0), ("b", &ids[1], 5), ("c", &ids[2], 40)] {
        assert_eq!(settle(&mut client, key, id, actual), 1);
        assert_eq!(settle(&mut client, key, id, actual), 0);
    }
    // What is back at full is gone, or says so.
    let left = Info::of(&mut client, "a").map_or(vec![0], |info| info.used());
    assert_eq!(left, [0]);
    assert_eq!((used(&mut client, "b"), used(&mut client, "c")), (vec![5], vec![40]));
}

#[test]
fn no_more_are_open_on_a_key_than_the_config_allows_and_one_more_charges_nothing() {
    let (server, mut client, now) = frozen();
    client.run("CONFIG SET ml.ratelimit-max-reservations 3").ok();
    let ids: Vec<_> = (0..3).map(|_| reserve(&mut client, "k 100 3600 RESERVE 5000")).collect();
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    for call in [
        "ML.RATELIMIT k 100 3600 RESERVE 5000",
        "ML.RATELIMIT k 100 3600 COST 5 FORCE RESERVE 5000",
        "ML.RATELIMIT k 100 3600 PARTIAL RESERVE 5000",
        "ML.RATEMULTI 2 other k 100 3600 100 3600 RESERVE 5000",
        "ML.RATEMULTI 2 k other 100 3600 100 3600 RESERVE 5000",
    ] {
        let error = client.run(call).error();
        assert!(error.starts_with("ERR ") && error.contains("max-reservations"), "{error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    // Whoever is denied is told how long to wait, room or not, by whichever key.
    for call in [
        "ML.RATELIMIT k 100 3600 COST 98 RESERVE 5000",
        "ML.RATEMULTI 1 k 100 3600 COST 98 RESERVE 5000",
        "ML.RATEMULTI 2 k other 100 3600 4 3600 COST 5 RESERVE 5000",
        "ML.RATEMULTI 2 other k 4 3600 100 3600 COST 5 RESERVE 5000",
    ] {
        let answer = client.run(call);
        let rows = if call.contains("MULTI") { Row::all(&answer) } else { vec![Row::of(&answer)] };
        assert!(rows.iter().all(|row| row.granted == 0 && row.id.is_none()), "{call}");
        assert!(rows.iter().any(|row| row.retry_ms != 0), "{call}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    // What is not reserved is granted as ever; what is settled makes room.
    assert_eq!(Row::of(&client.run("ML.RATELIMIT k 100 3600")).granted, 1);
    assert_eq!(settle(&mut client, "k", &ids[1], 1), 1);
    reserve(&mut client, "k 100 3600 RESERVE 9000");
    client.run("ML.RATELIMIT k 100 3600 RESERVE 1").error();
    // And so does what has expired.
    client.freeze(now + 5 * SECOND);
    reserve(&mut client, "k 100 3600 RESERVE 5000");
    reserve(&mut client, "k 100 3600 RESERVE 5000");
    client.run("ML.RATELIMIT k 100 3600 RESERVE 5000").error();
    assert_eq!(Info::of(&mut client, "k").unwrap().reservations, 3);
    // By default, there may be 1024.
    client.run("CONFIG SET ml.ratelimit-max-reservations 1024").ok();
    let lines: Vec<_> = (0..1_025).map(|_| "ML.RATELIMIT d 9999 60 RESERVE 60000").collect();
    let answers = client.run_all(&lines);
    assert!(answers[..1_024].iter().all(|answer| Row::of(answer).id.is_some()));
    assert!(answers[1_024].is_error());
    assert_eq!(used(&mut client, "d"), [1_024]);
}

#[test]
fn a_key_outlives_its_open_reservations() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let now_ms = (now / MILLI) as i64;
        let expires = |client: &mut Client| client.run("PEXPIRETIME k").integer() - now_ms;
        let call = format!("k 10 1 ALGORITHM {algorithm}");
        let id = reserve(&mut client, &format!("{call} COST 10 RESERVE 90000"));
        assert_eq!(expires(&mut client), 90_000, "{algorithm}");
        reserve(&mut client, &format!("{call} COST 10 FORCE RESERVE 20000"));
        assert_eq!(expires(&mut client), 90_000, "{algorithm}");
        assert_eq!(client.run("PERSIST k").integer(), 1);
        assert_eq!(settle(&mut client, "k", &id, 10), 1);
        assert_eq!(expires(&mut client), 20_000, "settled, healed: {algorithm}");
    }
}

#[test]
fn what_was_reserved_goes_with_its_key_and_an_old_id_settles_no_other() {
    let (_server, mut client, _) = frozen();
    type End = fn(&mut Client);
    let ends: [(&str, End); 6] = [
        ("DEL", |client| _ = client.run("DEL k").integer()),
        ("UNLINK", |client| _ = client.run("UNLINK k").integer()),
        ("SET", |client| client.run("SET k x").ok()),
        ("FLUSHDB", |client| client.run("FLUSHDB SYNC").ok()),
        ("FLUSHALL ASYNC", |client| client.run("FLUSHALL ASYNC").ok()),
        ("EXPIRE", |client| _ = client.run("PEXPIREAT k 1").integer()),
    ];
    for (name, end) in ends {
        let ids: Vec<_> = (0..50).map(|_| reserve(&mut client, "k 100 60 RESERVE 60000")).collect();
        assert_eq!(open_reservations(&mut client), 50, "{name}");
        client.run("COPY k copy");
        wait_for("the copy's to count", || open_reservations(&mut client) == 100);
        client.run("DEL copy");
        end(&mut client);
        wait_for(name, || open_reservations(&mut client) == 0);
        client.run("DEL k");
        client.run("ML.RATELIMIT k 100 60 COST 60");
        for id in &ids {
            assert_eq!(settle(&mut client, "k", id, 0), 0, "{name}");
        }
        assert_eq!(used(&mut client, "k"), [60], "{name}");
        client.run("DEL k");
    }
    // A reload counts what it loads, and no more.
    (0..7).for_each(|_| _ = reserve(&mut client, "k 100 60 RESERVE 60000"));
    client.run("DEBUG RELOAD").ok();
    wait_for("those of before to go", || open_reservations(&mut client) == 7);
}

#[test]
fn only_a_settlement_that_settles_replicates_and_notifies() {
    let (server, mut client, now) = frozen();
    let id = reserve(&mut client, "k 10 3600 COST 4 RESERVE 60000");
    let late = reserve(&mut client, "k 10 3600 COST 4 RESERVE 1000");
    client.freeze(now + 2 * SECOND);
    let mut tap = Tap::on(&server);
    let mut events = Events::of(&server);
    let mut watcher = server.client();
    watcher.run("WATCH k").ok();
    let before = client.footprint();
    for (key, id) in [("k", &late[..]), ("k", "unknown"), ("missing", &id[..])] {
        assert_eq!(settle(&mut client, key, id, 2), 0);
        assert_eq!(client.footprint(), before, "{key} {id}");
    }
    client.run(&format!("ML.RATESETTLE k {id} -1")).error();
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(events.notified(&mut client), []);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_ne!(watcher.run("EXEC"), Value::Nil, "nothing was written to what is watched");

    watcher.run("WATCH k").ok();
    assert_eq!(settle(&mut client, "k", &id, 2), 1);
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    let notified = events.notified(&mut client);
    let own: Vec<_> = notified.iter().filter(|(name, _)| name.starts_with("ml.")).collect();
    assert_eq!(own, [&("ml.ratesettle".to_owned(), "k".to_owned())]);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_eq!(watcher.run("EXEC"), Value::Nil, "a settlement is a write");
    let counted: i64 = client.info("ml_ratelimit_settled").parse().unwrap();
    assert_eq!(counted, 1);
}

#[test]
fn a_replica_notifies_a_settlement_as_one() {
    let (server, mut client, _) = frozen();
    let replica = server.replica("");
    let mut events = Events::of(&replica);
    let mut own = |client: &mut Client| {
        replica.catch_up(&server);
        let notified = events.notified(client);
        let names = notified.into_iter().map(|(name, _)| name);
        names.filter(|name| name.starts_with("ml.")).collect::<Vec<_>>()
    };
    let mut on_replica = replica.client();
    let id = reserve(&mut client, "k 10 3600 COST 4 RESERVE 60000");
    assert_eq!(own(&mut on_replica), ["ml.ratelimit"]);
    assert_eq!(settle(&mut client, "k", &id, 2), 1);
    assert_eq!(own(&mut on_replica), ["ml.ratesettle"]);
}

#[test]
fn a_reservation_survives_a_failover_and_a_restart() {
    let mut primary = Server::with("appendonly yes\nappendfsync always");
    let mut client = primary.client();
    let replica = primary.replica("ml.ratelimit-max-reservations 1\nml.ratelimit-algorithm GCRA");
    let ids: Vec<_> =
        (0..3).map(|_| reserve(&mut client, "k 100 3600 COST 10 RESERVE 3600000")).collect();
    assert_eq!(settle(&mut client, "k", &ids[0], 1), 1);
    replica.catch_up(&primary);
    primary.restart(crate::support::Stop::Kill);
    let mut promoted = replica.client();
    promoted.run("REPLICAOF NO ONE").ok();
    for mut client in [primary.client(), promoted] {
        assert_eq!(settle(&mut client, "k", &ids[0], 0), 0);
        assert_eq!(settle(&mut client, "k", &ids[1], 4), 1);
        let info = Info::of(&mut client, "k").unwrap();
        assert_eq!((info.reservations, info.used()), (1, vec![15]));
        assert_eq!(open_reservations(&mut client), 1);
    }
}

/// What callers hold, and what the keys say: the oracle of a plain sum, for
/// windows so long that nothing leaves them.
#[derive(Default)]
struct Book {
    /// By id: the key, the estimate, and until when it can be settled.
    open: HashMap<String, (String, i64, u64)>,
    /// Settled, or never to be settled again.
    over: Vec<(String, String)>,
    used: HashMap<String, i64>,
}

impl Book {
    const LIMIT: i64 = 4_000;

    fn reserve(&mut self, key: &str, cost: i64, until: u64, row: &Row) {
        assert_eq!(row.granted, cost);
        *self.used.entry(key.to_owned()).or_default() += cost;
        let held = (key.to_owned(), cost, until);
        assert!(self.open.insert(row.id.clone().unwrap(), held).is_none(), "an id twice");
    }

    fn fits(&self, key: &str, cost: i64) -> bool {
        self.used.get(key).copied().unwrap_or(0) + cost <= Self::LIMIT
    }

    /// Some open id, the same for the same number.
    fn some(&self, random: &mut Random) -> Option<String> {
        let mut ids: Vec<_> = self.open.keys().collect();
        ids.sort_unstable();
        let place = random.below(ids.len().max(1) as u64) as usize;
        ids.get(place).map(|id| (*id).clone())
    }
}

#[test]
fn ten_thousand_reservations_of_holders_good_and_bad_come_to_what_a_sum_says() {
    const WINDOW: u64 = 31_622_400;
    let (_server, mut client, start) = frozen();
    let mut reserved = 0;
    for algorithm in ALGORITHMS {
        let seed = Random::seeds()[1];
        let (mut random, mut book, mut now) = (Random::new(seed), Book::default(), start);
        // A bucket that refills one token in a year: none, for the test.
        let (policy, multi) = match algorithm {
            "GCRA" => (format!("1 {WINDOW} BURST {} ALGORITHM GCRA", Book::LIMIT), false),
            other => (format!("{} {WINDOW} ALGORITHM {other}", Book::LIMIT), true),
        };
        let mut made = 0;
        while made < 3_400 {
            now += random.below(3) * random.below(40 * MILLI);
            client.freeze(now);
            let key = format!("{algorithm}:{}", random.below(20));
            let cost = 1 + random.below(40) as i64;
            let ttl_ms = 200 + random.below(20_000);
            let until = now / MILLI + ttl_ms;
            let context = format!("{algorithm}, {made} made, seed {seed}");
            match random.below(20) {
                0..=7 => {
                    let force = random.below(10) == 0;
                    let mode = if force { "FORCE " } else { "" };
                    let call = format!("{key} {policy} COST {cost} {mode}RESERVE {ttl_ms}");
                    let row = Row::of(&client.run(&format!("ML.RATELIMIT {call}")));
                    assert_eq!(row.granted > 0, force || book.fits(&key, cost), "{context}");
                    if row.granted > 0 {
                        book.reserve(&key, cost, until, &row);
                        made += 1;
                    }
                }
                8..=9 if multi => {
                    let other = format!("{algorithm}:other:{}", random.below(10));
                    let pair = format!("{} {WINDOW}", Book::LIMIT);
                    let call = format!(
                        "2 {key} {other} {pair} {pair} COST {cost} RESERVE {ttl_ms} ALGORITHM {algorithm}"
                    );
                    let rows = Row::all(&client.run(&format!("ML.RATEMULTI {call}")));
                    let fits = book.fits(&key, cost) && book.fits(&other, cost);
                    for (key, row) in [&key, &other].into_iter().zip(&rows) {
                        assert_eq!(row.granted > 0, fits, "{context}");
                        if fits {
                            book.reserve(key, cost, until, row);
                            made += 1;
                        }
                    }
                }
                // Somebody settles: below, as or above the estimate, or too late.
                10..=15 => {
                    let Some(id) = book.some(&mut random) else { continue };
                    let (key, estimate, until) = book.open.remove(&id).unwrap();
                    let most = 1 + 3 * random.below(estimate as u64 + 1);
                    let actual = random.below(most) as i64;
                    let in_time = now / MILLI < until;
                    let settled = settle(&mut client, &key, &id, actual);
                    assert_eq!(settled, i64::from(in_time), "{context}");
                    if in_time {
                        *book.used.get_mut(&key).unwrap() += actual - estimate;
                    }
                    book.over.push((key, id));
                }
                // Somebody settles again, or what is another key's.
                16..=17 => {
                    let place = random.below(book.over.len().max(1) as u64) as usize;
                    let Some((key, id)) = book.over.get(place) else { continue };
                    assert_eq!(settle(&mut client, key, id, cost), 0, "twice: {context}");
                }
                18 => {
                    let Some(id) = book.some(&mut random) else { continue };
                    let other = format!("{algorithm}:{}", random.below(20));
                    if book.open[&id].0 != other {
                        assert_eq!(settle(&mut client, &other, &id, 0), 0, "{context}");
                    }
                }
                // The holder crashes: nobody ever settles this one.
                _ => {
                    let Some(id) = book.some(&mut random) else { continue };
                    let (key, ..) = book.open.remove(&id).unwrap();
                    book.over.push((key, String::new()));
                }
            }
        }
        reserved += made;
        for after in [0, 60 * SECOND] {
            client.freeze(now + after);
            for (key, used) in &book.used {
                let Some(info) = Info::of(&mut client, key) else {
                    assert_eq!(*used, 0, "{key}, seed {seed}");
                    continue;
                };
                assert_eq!(info.used(), [*used], "{key} after {after} µs, seed {seed}");
                if after > 0 {
                    assert_eq!(info.reservations, 0, "{key}: after all TTLs, seed {seed}");
                }
            }
        }
        if multi {
            client.freeze(now + (WINDOW + 1) * SECOND);
            for key in book.used.keys() {
                let used = Info::of(&mut client, key).map_or(vec![0], |info| info.used());
                assert_eq!(used, [0], "{key}: after its window, seed {seed}");
            }
        }
    }
    println!("{reserved} reservations");
    assert!(reserved >= 10_000, "{reserved}");
    client.run("FLUSHALL SYNC").ok();
    wait_for("no reservation to be left", || open_reservations(&mut client) == 0);
}

#[test]
fn a_reservation_follows_a_clock_that_steps_back() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let call = format!("k 10 60 ALGORITHM {algorithm}");
        let id = reserve(&mut client, &format!("{call} COST 6 RESERVE 5000"));
        let other = reserve(&mut client, &format!("{call} COST 4 RESERVE 5000"));
        let back = now - 3_600 * SECOND;
        client.freeze(back);
        assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT {call}"))).granted, 0);
        assert_eq!(settle(&mut client, "k", &id, 1), 1, "{algorithm}");
        assert_eq!(used(&mut client, "k"), [5], "{algorithm}");
        client.freeze(back + 5 * SECOND);
        assert_eq!(settle(&mut client, "k", &other, 0), 0, "no longer open: {algorithm}");
    }
}

#[test]
fn a_clock_that_steps_back_keeps_no_reservation_open_for_longer_than_was_asked() {
    const DAY: u64 = 86_400;
    for algorithm in ALGORITHMS {
        let (_server, mut client, start) = frozen();
        let call = format!("k 10 7200 ALGORITHM {algorithm}");
        client.run(&format!("ML.RATELIMIT {call} COST 10"));
        client.freeze(start + 3_000 * SECOND);
        let id = reserve(&mut client, &format!("{call} FORCE RESERVE {}", DAY * MILLI));
        // The window has been open since before; only the reservation is ahead.
        let back = start + 100 * SECOND;
        client.freeze(back);
        assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT {call} COST 10"))).granted, 0);
        let lives_ms = client.run("PEXPIRETIME k").integer() - (back / MILLI) as i64;
        assert!(lives_ms <= (DAY * MILLI) as i64, "{algorithm}: for {lives_ms} ms");
        client.freeze(back + DAY * SECOND);
        assert_eq!(settle(&mut client, "k", &id, 0), 0, "{algorithm}: still open");
    }
}
