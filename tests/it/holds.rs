//! Holds of limits, by HOLD and ML.SETTLE: costs that are known only afterwards.

use crate::support::rates::{ALGORITHMS, Admission, Info, Row, hold, open_holds, settle, used};
use crate::support::{Answer, Client, Events, Server, Tap, call, frozen, wait_for};
use redis::Value;
use std::collections::HashSet;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

const ID: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn a_settlement_replaces_the_estimate_once() {
    for algorithm in ALGORITHMS {
        // Refunded whole and in part, as estimated, above it, above the limit.
        for (actual, after) in [(0, 3), (1, 4), (5, 8), (6, 9), (90, 93)] {
            let (_server, mut client, _) = frozen();
            client.run(&format!("ML.RATELIMIT k 10 60 COST 3 ALGORITHM {algorithm}"));
            let id = hold(&mut client, "k 10 60 COST 5 HOLD 30000");
            assert_eq!(used(&mut client, "k"), [8], "{algorithm}");
            assert_eq!(Info::of(&mut client, "k").unwrap().holds.len(), 1);
            assert_eq!(settle(&mut client, "k", &id, actual), 1, "{algorithm} {actual}");
            assert_eq!(used(&mut client, "k"), [after], "{algorithm} {actual}");
            for actual in [0, 5, 1_000] {
                assert_eq!(settle(&mut client, "k", &id, actual), 0, "twice");
            }
            let info = Info::of(&mut client, "k").unwrap();
            assert_eq!((info.holds.len(), info.used()), (0, vec![after]), "{algorithm}");
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
        let id = hold(&mut client, &format!("k {policy} COST 6 HOLD 100000"));
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
        let id = hold(&mut client, &format!("{call} COST 2 HOLD 5000"));
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
fn a_settlement_after_the_hold_ended_changes_nothing() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let call = format!("k 100000 86400 ALGORITHM {algorithm} COST 50000 HOLD 1000");
        let [early, late] = [0; 2].map(|_| hold(&mut client, &call));
        client.freeze(now + 999 * MILLI);
        assert_eq!(settle(&mut client, "k", &early, 10_000), 1, "the last millisecond");
        client.freeze(now + SECOND);
        let before = (used(&mut client, "k"), client.digest_of("k"));
        assert_eq!(settle(&mut client, "k", &late, 0), 0, "{algorithm}");
        assert_eq!((used(&mut client, "k"), client.digest_of("k")), before, "{algorithm}");
        let info = Info::of(&mut client, "k").unwrap();
        assert_eq!(info.holds.len(), 0, "expired ones read as absent: {algorithm}");
    }
}

#[test]
fn ids_are_32_lower_case_digits_never_the_same_and_anything_else_settles_nothing() {
    let (_server, mut client, _) = frozen();
    let mut ids = HashSet::new();
    for call in ["k 900 60", "k 900 60 ALGORITHM GCRA", "k2 900 60"].repeat(100) {
        let id = hold(&mut client, &format!("{call} HOLD 60000"));
        let digits = id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        assert!(id.len() == 32 && digits, "{id}");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 300);
    let id = hold(&mut client, "own 10 60 HOLD 60000");
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
        assert_eq!(call!(client, "ML.SETTLE", 1, "own", other).integers(), [0], "{other:?}");
        assert_eq!(call!(client, "ML.RENEW", 1, "own", other, 9).integers(), [0], "{other:?}");
    }
    assert_eq!(settle(&mut client, "k", &id, 0), 0, "of another key");
    assert_eq!(settle(&mut client, "missing", &id, 0), 0);
    assert_eq!(client.footprint(), before);
    assert_eq!(settle(&mut client, "own", &id, 0), 1);
}

#[test]
fn a_denied_hold_answers_nil_and_leaks_nothing() {
    let (server, mut client, _) = frozen();
    client.run("ML.RATELIMIT full 3 3600 COST 3");
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    for call in [
        "ML.RATELIMIT full 3 3600 HOLD 1000",
        "ML.RATELIMIT full 3 3600 PARTIAL HOLD 1000",
        "ML.RATELIMIT new 0 3600 HOLD 1000",
        "ML.RATELIMIT new 2 3600 COST 3 HOLD 1000",
        "ML.RATELIMIT new 5 1 2 60 COST 3 HOLD 1000",
        "ML.ADMIT 1 full LIMIT 3 3600 HOLD 1000",
        "ML.ADMIT 2 new full LIMIT 9 60 LIMIT 3 3600 HOLD 1000",
    ] {
        let answer = client.run(call);
        if call.contains("ADMIT") {
            assert_eq!(Admission::of(&answer).id, None, "{call}");
        } else {
            let row = answer.items();
            assert_eq!((row.len(), &row[5]), (6, &Value::Nil), "{call}");
        }
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(open_holds(&mut client), 0);
    // Without HOLD there is no sixth element.
    assert_eq!(client.run("ML.RATELIMIT full 3 3600").items().len(), 5);
    // Of a part, the part is the estimate.
    client.run("ML.RATELIMIT part 10 60 COST 7");
    let id = hold(&mut client, "part 10 60 COST 7 PARTIAL HOLD 1000");
    assert_eq!(settle(&mut client, "part", &id, 1), 1);
    assert_eq!(used(&mut client, "part"), [8]);
    // A forced one is granted beyond the limit.
    let id = hold(&mut client, "part 10 60 COST 7 FORCE HOLD 1000");
    assert_eq!(used(&mut client, "part"), [15]);
    assert_eq!(settle(&mut client, "part", &id, 0), 1);
    assert_eq!(used(&mut client, "part"), [8]);
}

#[test]
fn a_hold_is_settled_in_each_of_its_windows_that_it_still_weighs_on() {
    for algorithm in ["FIXED", "SLIDING"] {
        let (_server, mut client, now) = frozen();
        let call = format!("k 10 1 20 60 30 600 ALGORITHM {algorithm}");
        let id = hold(&mut client, &format!("{call} COST 6 HOLD 100000"));
        client.freeze(now + 2 * SECOND);
        client.run(&format!("ML.RATELIMIT {call} COST 3"));
        assert_eq!(used(&mut client, "k"), [3, 9, 9], "{algorithm}");
        assert_eq!(settle(&mut client, "k", &id, 8), 1);
        assert_eq!(used(&mut client, "k"), [3, 11, 11], "{algorithm}: the second is over");
        // A window that came later knows nothing of it.
        let id = hold(&mut client, &format!("{call} COST 2 HOLD 100000"));
        client.run("ML.RATELIMIT k 40 7 COST 5");
        assert_eq!(settle(&mut client, "k", &id, 0), 1);
        assert_eq!(used(&mut client, "k"), [3, 11, 11, 5], "{algorithm}");
    }
}

/// The key's windows: one that an algorithm keeps, and one that closes at a moment.
const TAKEN_OVER: &str = "1000 3600 5000 MONTH";

#[test]
fn after_a_change_of_the_algorithm_only_what_it_cost_beyond_the_estimate_is_charged() {
    let (server, mut client, _) = frozen();
    let replica = server.replica("ml.ratelimit-algorithm GCRA");
    let pairs = ALGORITHMS.iter().flat_map(|from| ALGORITHMS.map(|to| (*from, to)));
    for (from, to) in pairs.filter(|(from, to)| from != to) {
        client.run("FLUSHALL").ok();
        let limit = format!("{TAKEN_OVER} ALGORITHM {from} HOLD 100000");
        let admit = format!("LIMIT {TAKEN_OVER} ALGORITHM {from} COST 30 HOLD 100000");
        // Each with what it comes to.
        let holds = [
            (hold(&mut client, &format!("k {limit} COST 0")), 0, 50),
            (hold(&mut client, &format!("k {limit} COST 0")), 0, 0),
            (hold(&mut client, &format!("k {limit} COST 20")), 20, 25),
            (hold(&mut client, &format!("k {limit} COST 20")), 20, 5),
            (Admission::ask(&mut client, &format!("1 k {admit}")).id.unwrap(), 30, 31),
            (hold(&mut client, &format!("k {limit} COST 2000 PARTIAL")), 930, 940),
            (hold(&mut client, &format!("k {limit} COST 500 FORCE")), 500, 600),
            (hold(&mut client, &format!("k {limit} COST 500 FORCE")), 500, 400),
        ];
        let mut sums = [holds.iter().map(|(_, estimate, _)| estimate).sum::<i64>(); 2];
        assert_eq!(used(&mut client, "k"), sums, "{from} {to}");
        client.run(&format!("ML.RATELIMIT k {TAKEN_OVER} ALGORITHM {to} COST 3 FORCE"));
        let later = format!("k {TAKEN_OVER} COST 8 FORCE HOLD 100000");
        let later = hold(&mut client, &later);
        sums = sums.map(|sum| sum + 3 + 8);
        assert_eq!(used(&mut client, "k"), sums, "{from} {to}: taken over");

        let digest = client.digest();
        client.run("DEBUG RELOAD").ok();
        assert_eq!(client.digest(), digest, "{from} {to}: loaded");
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), digest, "{from} {to}: the replica's");
        let payload = client.run("DUMP k").bytes();
        call!(client, "RESTORE", "restored", 0, payload).ok();
        client.run("COPY k copied").integer();

        for key in ["k", "restored", "copied"] {
            let mut sums = sums;
            for (id, estimate, actual) in &holds {
                assert_eq!(settle(&mut client, key, id, *actual), 1);
                sums[0] += (actual - estimate).max(0);
                sums[1] += actual - estimate;
                assert_eq!(used(&mut client, key), sums, "{from} {to}: {key}, {actual}");
            }
            // Of what came after the change both sides are adjusted.
            assert_eq!(settle(&mut client, key, &later, 1), 1);
            assert_eq!(used(&mut client, key), sums.map(|sum| sum - 7), "{from} {to}: {key}");
            assert_eq!(Info::of(&mut client, key).unwrap().algorithm, to);
        }
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), client.digest(), "{from} {to}: in the end");
    }
}

#[test]
fn what_a_charge_cost_beyond_the_estimate_counts_though_what_took_it_over_is_gone() {
    for (from, to) in [("FIXED", "SLIDING"), ("SLIDING", "GCRA"), ("GCRA", "FIXED")] {
        let (_server, mut client, now) = frozen();
        let id = hold(&mut client, &format!("k 10 60 ALGORITHM {from} COST 5 HOLD 900000"));
        client.run(&format!("ML.RATELIMIT k 10 60 ALGORITHM {to}"));
        client.freeze(now + 200 * SECOND);
        assert_eq!(settle(&mut client, "k", &id, 9), 1);
        assert_eq!(used(&mut client, "k"), [4], "{from} {to}");
    }
}

#[test]
fn a_settlement_finds_its_window_whichever_others_came_meanwhile() {
    for (from, to) in ALGORITHMS.iter().flat_map(|from| ALGORITHMS.map(|to| (*from, to))) {
        for (estimate, actual) in [(0, 50), (20, 50), (20, 20)] {
            let (_server, mut client, _) = frozen();
            let item = format!("LIMIT 100 60 ALGORITHM {from} COST {estimate}");
            let admission = Admission::ask(&mut client, &format!("1 k {item} HOLD 900000"));
            // Another length, and one more.
            client.run(&format!("ML.RATELIMIT k 100 120 ALGORITHM {to} COST 3"));
            client.run("ML.RATELIMIT k 100 120 1000 3600 COST 4");
            assert_eq!(settle(&mut client, "k", &admission.id.unwrap(), actual), 1);
            let expected = [actual, 7, 4];
            assert_eq!(used(&mut client, "k"), expected, "{from} {to} {estimate}");
        }
    }
}

#[test]
fn no_more_are_open_on_a_key_than_the_config_allows_and_one_more_charges_nothing() {
    let (server, mut client, now) = frozen();
    client.run("CONFIG SET ml.limit-max-holds 3").ok();
    let ids: Vec<_> = (0..3).map(|_| hold(&mut client, "k 100 3600 HOLD 5000")).collect();
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    for call in [
        "ML.RATELIMIT k 100 3600 HOLD 5000",
        "ML.RATELIMIT k 100 3600 COST 5 FORCE HOLD 5000",
        "ML.RATELIMIT k 100 3600 PARTIAL HOLD 5000",
        "ML.ADMIT 2 other k LIMIT 100 3600 LIMIT 100 3600 HOLD 5000",
        "ML.ADMIT 2 k other LIMIT 100 3600 LIMIT 100 3600 HOLD 5000",
    ] {
        let error = client.run(call).error();
        assert!(error.starts_with("ERR ") && error.contains("ml.limit-max-holds"), "{error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    // Whoever is denied is told how long to wait, room or not, by whichever key.
    for call in [
        "ML.RATELIMIT k 100 3600 COST 98 HOLD 5000",
        "ML.ADMIT 1 k LIMIT 100 3600 COST 98 HOLD 5000",
        "ML.ADMIT 2 k other LIMIT 100 3600 COST 5 LIMIT 4 3600 COST 5 HOLD 5000",
        "ML.ADMIT 2 other k LIMIT 4 3600 COST 5 LIMIT 100 3600 COST 5 HOLD 5000",
    ] {
        let answer = client.run(call);
        if call.contains("ADMIT") {
            assert!(!Admission::of(&answer).admitted, "{call}");
        } else {
            let row = Row::of(&answer);
            assert!(row.granted == 0 && row.id.is_none() && row.retry_ms != 0, "{call}");
        }
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    // What is not held is granted as ever; what is settled makes room.
    assert_eq!(Row::of(&client.run("ML.RATELIMIT k 100 3600")).granted, 1);
    assert_eq!(settle(&mut client, "k", &ids[1], 1), 1);
    hold(&mut client, "k 100 3600 HOLD 9000");
    client.run("ML.RATELIMIT k 100 3600 HOLD 1").error();
    // And so does what has expired.
    client.freeze(now + 5 * SECOND);
    hold(&mut client, "k 100 3600 HOLD 5000");
    hold(&mut client, "k 100 3600 HOLD 5000");
    client.run("ML.RATELIMIT k 100 3600 HOLD 5000").error();
    assert_eq!(Info::of(&mut client, "k").unwrap().holds.len(), 3);
    // Who is in already takes no more room.
    let id = "0123456789abcdef0123456789abcdef";
    let call = format!("ML.ADMIT 2 d p LIMIT 9 60 PERMIT 9 HOLD 60000 ID {id}");
    assert!(Admission::of(&client.run(&call)).admitted);
    client.run("CONFIG SET ml.limit-max-holds 1").ok();
    assert!(Admission::of(&client.run(&call)).admitted);
    for (key, item) in [("d", "LIMIT 9 60"), ("p", "PERMIT 9")] {
        let error = client.run(&format!("ML.ADMIT 1 {key} {item} HOLD 60000")).error();
        assert!(error.contains("1 holds") && error.contains("ml.limit-max-holds"), "{error}");
    }
}

#[test]
fn a_key_outlives_its_open_holds() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let now_ms = (now / MILLI) as i64;
        let expires = |client: &mut Client| client.run("PEXPIRETIME k").integer() - now_ms;
        let call = format!("k 10 1 ALGORITHM {algorithm}");
        let id = hold(&mut client, &format!("{call} COST 10 HOLD 90000"));
        assert_eq!(expires(&mut client), 90_000, "{algorithm}");
        hold(&mut client, &format!("{call} COST 10 FORCE HOLD 20000"));
        assert_eq!(expires(&mut client), 90_000, "{algorithm}");
        assert_eq!(client.run("PERSIST k").integer(), 1);
        assert_eq!(settle(&mut client, "k", &id, 10), 1);
        assert_eq!(expires(&mut client), 20_000, "settled, healed: {algorithm}");
    }
}

#[test]
fn what_was_held_goes_with_its_key_and_an_old_id_settles_no_other() {
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
        let ids: Vec<_> = (0..50).map(|_| hold(&mut client, "k 100 60 HOLD 60000")).collect();
        assert_eq!(open_holds(&mut client), 50, "{name}");
        client.run("COPY k copy");
        wait_for("the copy's to count", || open_holds(&mut client) == 100);
        client.run("DEL copy");
        end(&mut client);
        wait_for(name, || open_holds(&mut client) == 0);
        client.run("DEL k");
        client.run("ML.RATELIMIT k 100 60 COST 60");
        for id in &ids {
            assert_eq!(settle(&mut client, "k", id, 0), 0, "{name}");
        }
        assert_eq!(used(&mut client, "k"), [60], "{name}");
        client.run("DEL k");
    }
    // A reload counts what it loads, and no more.
    (0..7).for_each(|_| _ = hold(&mut client, "k 100 60 HOLD 60000"));
    client.run("DEBUG RELOAD").ok();
    wait_for("those of before to go", || open_holds(&mut client) == 7);
}

#[test]
fn only_a_settlement_that_settles_replicates_and_notifies() {
    let (server, mut client, now) = frozen();
    let id = hold(&mut client, "k 10 3600 COST 4 HOLD 60000");
    let late = hold(&mut client, "k 10 3600 COST 4 HOLD 1000");
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
    client.run(&format!("ML.SETTLE 1 k {id} ACTUAL -1")).error();
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
    assert_eq!(own, [&("ml.settle".to_owned(), "k".to_owned())]);
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
    let id = hold(&mut client, "k 10 3600 COST 4 HOLD 60000");
    assert_eq!(own(&mut on_replica), ["ml.ratelimit"]);
    assert_eq!(settle(&mut client, "k", &id, 2), 1);
    assert_eq!(own(&mut on_replica), ["ml.settle"]);
}

#[test]
fn a_hold_survives_a_failover_and_a_restart() {
    let mut primary = Server::with("appendonly yes\nappendfsync always");
    let mut client = primary.client();
    let replica = primary.replica("ml.limit-max-holds 1\nml.ratelimit-algorithm GCRA");
    let ids: Vec<_> =
        (0..3).map(|_| hold(&mut client, "k 100 3600 COST 10 HOLD 3600000")).collect();
    assert_eq!(settle(&mut client, "k", &ids[0], 1), 1);
    replica.catch_up(&primary);
    primary.restart(crate::support::Stop::Kill);
    let mut promoted = replica.client();
    promoted.run("REPLICAOF NO ONE").ok();
    for mut client in [primary.client(), promoted] {
        assert_eq!(settle(&mut client, "k", &ids[0], 0), 0);
        assert_eq!(settle(&mut client, "k", &ids[1], 4), 1);
        let info = Info::of(&mut client, "k").unwrap();
        assert_eq!((info.holds.len(), info.used()), (1, vec![15]));
        assert_eq!(open_holds(&mut client), 1);
    }
}

#[test]
fn a_hold_follows_a_clock_that_steps_back() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let call = format!("k 10 60 ALGORITHM {algorithm}");
        let id = hold(&mut client, &format!("{call} COST 6 HOLD 5000"));
        let other = hold(&mut client, &format!("{call} COST 4 HOLD 5000"));
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
fn a_clock_that_steps_back_keeps_no_hold_open_for_longer_than_was_asked() {
    const DAY: u64 = 86_400;
    for algorithm in ALGORITHMS {
        let (_server, mut client, start) = frozen();
        let call = format!("k 10 7200 ALGORITHM {algorithm}");
        client.run(&format!("ML.RATELIMIT {call} COST 10"));
        client.freeze(start + 3_000 * SECOND);
        let id = hold(&mut client, &format!("{call} FORCE HOLD {}", DAY * MILLI));
        // The window has been open since before; only the hold is ahead.
        let back = start + 100 * SECOND;
        client.freeze(back);
        assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT {call} COST 10"))).granted, 0);
        let lives_ms = client.run("PEXPIRETIME k").integer() - (back / MILLI) as i64;
        assert!(lives_ms <= (DAY * MILLI) as i64, "{algorithm}: for {lives_ms} ms");
        client.freeze(back + DAY * SECOND);
        assert_eq!(settle(&mut client, "k", &id, 0), 0, "{algorithm}: still open");
    }
}

#[test]
fn a_cost_of_0_is_never_denied_and_leaves_nothing() {
    let (server, mut client, now) = frozen();
    for algorithm in ALGORITHMS {
        client.run(&format!("ML.RATELIMIT {algorithm} 3 3600 ALGORITHM {algorithm} COST 3"));
    }
    client.run("ML.ADMIT 1 p PERMIT 1 HOLD 3600000");
    let mut tap = Tap::on(&server);
    client.freeze(now + SECOND);
    let before = client.footprint();
    for (key, limits) in [
        ("new", "0 60"),
        ("new", "10 60 20 3600 ALGORITHM GCRA"),
        ("FIXED", "3 3600"),
        ("SLIDING", "3 3600"),
        ("GCRA", "3 3600"),
        // Neither another limit, nor another algorithm, is kept.
        ("GCRA", "2 3600 BURST 1"),
        ("FIXED", "1 3600 7 60 ALGORITHM SLIDING"),
        ("SLIDING", "0 3600"),
    ] {
        for mode in ["", " PARTIAL", " PEEK", " FORCE"] {
            if mode == " FORCE" && limits.starts_with('0') {
                continue;
            }
            let row = Row::of(&client.run(&format!("ML.RATELIMIT {key} {limits} COST 0{mode}")));
            assert_eq!((row.granted, row.retry_ms), (0, 0), "{key} {limits}{mode}");
            assert_eq!(client.footprint(), before, "{key} {limits}{mode}");
        }
        let call = format!("2 {key} p LIMIT {limits} COST 0 PERMIT 0 COST 0 PEEK");
        assert!(Admission::ask(&mut client, &call).admitted, "{call}");
        let call = format!("2 {key} other LIMIT {limits} COST 0 LIMIT 0 60 COST 0");
        assert!(Admission::ask(&mut client, &call).admitted, "{call}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    let left = ALGORITHMS.map(|key| Info::of(&mut client, key).unwrap().algorithm);
    assert_eq!(left, ALGORITHMS);
}

#[test]
fn a_hold_of_nothing_is_settled_by_what_it_cost() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        client.run(&format!("ML.RATELIMIT full 3 60 ALGORITHM {algorithm} COST 3"));
        let items = format!("LIMIT 3 60 COST 0 LIMIT 9 60 ALGORITHM {algorithm} COST 0");
        let call = format!("3 full new p {items} PERMIT 1 COST 0 HOLD 90000 ID {ID}");
        for _ in 0..2 {
            let admission = Admission::ask(&mut client, &call);
            assert_eq!(admission.id.as_deref(), Some(ID), "{algorithm}");
        }
        assert_eq!((used(&mut client, "full"), used(&mut client, "new")), (vec![3], vec![0]));
        client.run("DEBUG RELOAD").ok();
        // The keys are there for as long as it can be settled.
        let expires = ["new", "p"].map(|key| call!(client, "PEXPIRETIME", key).integer());
        assert_eq!(expires, [(now / MILLI) as i64 + 90_000; 2], "{algorithm}");
        let all = format!("ML.SETTLE 3 full new p {ID} ACTUAL 2 20 -");
        assert_eq!(client.run(&all).integers(), [1; 3], "{algorithm}");
        assert_eq!((used(&mut client, "full"), used(&mut client, "new")), (vec![5], vec![20]));
        let row = Row::of(&client.run("ML.RATELIMIT new 9 60"));
        assert_eq!((row.granted, row.remaining), (0, 0), "{algorithm}");
        // Of several windows, too, and by the algorithm that was named.
        let call = format!("many 9 60 20 3600 COST 0 HOLD 9000 ALGORITHM {algorithm}");
        let id = hold(&mut client, &call);
        assert_eq!(settle(&mut client, "many", &id, 4), 1);
        let info = Info::of(&mut client, "many").unwrap();
        assert_eq!((&info.algorithm[..], info.used()), (algorithm, vec![4, 4]));
        // Settled by nothing it is as if it had never been.
        let id = hold(&mut client, &format!("none 9 60 COST 0 HOLD 9000 ALGORITHM {algorithm}"));
        assert_eq!(call!(client, "ML.SETTLE", 1, "none", &id).integers(), [1]);
        let left = Info::of(&mut client, "none")
            .map_or((vec![0], 0), |info| (info.used(), info.holds.len()));
        assert_eq!(left, (vec![0], 0), "{algorithm}");
    }
}
