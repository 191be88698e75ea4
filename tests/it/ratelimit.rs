//! ML.RATELIMIT: who may go, and who waits how long.
//!
//! `[granted, limit, remaining, retry_after_ms, reset_after_ms]`

use crate::support::rates::{ALGORITHMS, Info, Row, settle};
use crate::support::{Answer, Client, Events, Flood, Random, Server, Tap, call, frozen, wait_for};
use redis::Value;
use std::collections::HashMap;
use std::ops::RangeInclusive;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// 2^53, the largest limit and the largest cost.
const MOST: i64 = 1 << 53;

/// What PTTL may say of a window of a minute. A window closes at a microsecond,
/// a key can only go at a millisecond: the next one, lest a call be granted
/// early.
const MINUTE_TTL: RangeInclusive<i64> = 1..=60_001;

#[test]
fn the_101st_of_100_calls_is_denied_and_told_how_long_to_wait() {
    let (_server, mut client, now) = frozen();
    for left in (0..100).rev() {
        let answer = client.run("ML.RATELIMIT user:1 100 60").integers();
        assert_eq!(answer, [1, 100, left, 0, 60_000]);
    }
    for (after_ms, wait) in [(0, 60_000), (1, 59_999), (59_999, 1)] {
        client.freeze(now + after_ms * MILLI);
        let answer = client.run("ML.RATELIMIT user:1 100 60").integers();
        assert_eq!(answer, [0, 100, 0, wait, wait]);
    }
    client.freeze(now + 60 * SECOND);
    assert_eq!(client.run("ML.RATELIMIT user:1 100 60").integers(), [1, 100, 99, 0, 60_000]);
    assert_eq!(client.run("ML.RATELIMIT user:2 100 60").integers(), [1, 100, 99, 0, 60_000]);
}

#[test]
fn each_call_answers_by_the_table() {
    let (_server, mut client, now) = frozen();
    // At which millisecond, what is called, what it answers.
    let table: &[(u64, &str, [i64; 5])] = &[
        // A cost is charged whole or not at all.
        (0, "cost 10 60 COST 7", [7, 10, 3, 0, 60_000]),
        (1_000, "cost 10 60 COST 4", [0, 10, 3, 59_000, 59_000]),
        (1_000, "cost 10 60 COST 3", [3, 10, 0, 0, 59_000]),
        // A peek answers what the call would, and shows the state as it stands.
        (0, "peek 10 60 PEEK", [1, 10, 10, 0, 0]),
        (0, "peek 10 60 COST 10", [10, 10, 0, 0, 60_000]),
        (0, "peek 10 60 PEEK", [0, 10, 0, 60_000, 60_000]),
        (60_000, "peek 10 60 PEEK COST 10", [10, 10, 10, 0, 0]),
        (60_000, "peek 10 60 COST 4", [4, 10, 6, 0, 60_000]),
        (61_000, "peek 10 60 PEEK COST 6", [6, 10, 6, 0, 59_000]),
        (61_000, "peek 10 60 COST 7 PEEK", [0, 10, 6, 59_000, 59_000]),
        (61_000, "peek 10 60 COST 11 PEEK", [0, 10, 6, -1, 59_000]),
        // A limit of nothing denies always; there is nothing to wait for.
        (0, "none 0 60", [0, 0, 0, -1, 0]),
        (0, "none 0 60 PEEK", [0, 0, 0, -1, 0]),
        // A cost above the limit never fits, whatever is left.
        (0, "above 10 60 COST 11", [0, 10, 10, -1, 0]),
        (0, "above 10 60 COST 4", [4, 10, 6, 0, 60_000]),
        (1, "above 10 60 COST 11", [0, 10, 6, -1, 59_999]),
        // A new limit keeps what is used, and counts at once.
        (0, "new 10 60 COST 8", [8, 10, 2, 0, 60_000]),
        (1_000, "new 5 60", [0, 5, 0, 59_000, 59_000]),
        (1_000, "new 8 60", [0, 8, 0, 59_000, 59_000]),
        (1_000, "new 20 60", [1, 20, 11, 0, 59_000]),
        (1_000, "new 0 60", [0, 0, 0, -1, 59_000]),
        // A window of another length starts empty, and the former is kept.
        (0, "length 10 60 COST 10", [10, 10, 0, 0, 60_000]),
        (0, "length 10 30 COST 4", [4, 10, 6, 0, 30_000]),
        (1_000, "length 10 60", [0, 10, 0, 59_000, 59_000]),
        (1_000, "length 10 30 COST 6", [6, 10, 0, 0, 29_000]),
        // Of several windows that deny, the one with the longest wait binds.
        (0, "two 10 1 15 86400 COST 10", [10, 10, 0, 0, 1_000]),
        (500, "two 10 1 15 86400", [0, 10, 0, 500, 500]),
        (500, "two 10 1 15 86400 COST 6", [0, 15, 5, 86_399_500, 86_399_500]),
        (500, "two 10 1 15 86400 COST 11", [0, 10, 0, -1, 500]),
        (500, "two 15 86400 10 1 COST 11", [0, 10, 0, -1, 500]),
        // Of several that grant, the one with the least remaining.
        (1_000, "two 10 1 15 86400 COST 2", [2, 15, 3, 0, 86_399_000]),
        (1_000, "two 10 1 15 86400 PEEK", [1, 15, 3, 0, 86_399_000]),
        (1_000, "two 10 1 15 86400 PEEK COST 4", [0, 15, 3, 86_399_000, 86_399_000]),
        (1_000, "two 10 1 15 86400 COST 3", [3, 15, 0, 0, 86_399_000]),
        // All are charged or none is.
        (1_000, "two 10 1", [1, 10, 4, 0, 1_000]),
        // One that denies always denies with the others.
        (0, "closed 10 1 0 60", [0, 0, 0, -1, 0]),
        (0, "closed 10 1", [1, 10, 9, 0, 1_000]),
        // A partial grant is what is left, and the wait is for all of it.
        (0, "part 10 60 COST 7 PARTIAL", [7, 10, 3, 0, 60_000]),
        (1_000, "part 10 60 COST 7 PARTIAL", [3, 10, 0, 59_000, 59_000]),
        (1_000, "part 10 60 COST 7 PARTIAL", [0, 10, 0, 59_000, 59_000]),
        (0, "parts 10 60 COST 12 partial", [10, 10, 0, -1, 60_000]),
        (0, "partial 10 1 6 60 COST 8 PARTIAL", [6, 6, 0, -1, 60_000]),
        // A forced charge is granted beyond the limit, and counts.
        (0, "force 10 60 COST 25 FORCE", [25, 10, -15, 0, 60_000]),
        (1, "force 10 60 PEEK", [0, 10, 0, 59_999, 59_999]),
        (59_999, "force 10 60", [0, 10, 0, 1, 1]),
        (60_000, "force 10 60", [1, 10, 9, 0, 60_000]),
        // SLIDING: each charge leaves by itself.
        (0, "s 10 60 ALGORITHM SLIDING COST 4", [4, 10, 6, 0, 60_000]),
        (20_000, "s 10 60 COST 6", [6, 10, 0, 0, 60_000]),
        (30_000, "s 10 60 COST 4", [0, 10, 0, 30_000, 50_000]),
        (30_000, "s 10 60 COST 5", [0, 10, 0, 50_000, 50_000]),
        (30_000, "s 10 60 COST 5 PARTIAL", [0, 10, 0, 30_000, 50_000]),
        (30_000, "s 10 60 COST 11", [0, 10, 0, -1, 50_000]),
        (60_000, "s 10 60 COST 5", [0, 10, 4, 20_000, 20_000]),
        (60_000, "s 10 60 COST 4", [4, 10, 0, 0, 60_000]),
        (70_000, "s 10 60 COST 9 FORCE", [9, 10, -9, 0, 60_000]),
        (70_000, "s 10 60", [0, 10, 0, 50_000, 60_000]),
        // GCRA: a bucket of BURST, refilled at limit in window.
        (0, "g 60 60 ALGORITHM GCRA BURST 5 COST 5", [5, 5, 0, 0, 5_000]),
        (0, "g 60 60 BURST 5", [0, 5, 0, 1_000, 5_000]),
        (999, "g 60 60 BURST 5", [0, 5, 0, 1, 4_001]),
        (1_000, "g 60 60 BURST 5 PEEK", [1, 5, 1, 0, 4_000]),
        (1_500, "g 60 60 BURST 5 COST 2 PARTIAL", [1, 5, 0, 1_500, 4_500]),
        (1_500, "g 60 60 BURST 5 COST 6", [0, 5, 0, -1, 4_500]),
        (6_000, "g 60 60 BURST 5 PEEK COST 5", [5, 5, 5, 0, 0]),
        (6_000, "g 60 60 BURST 5 COST 9 FORCE", [9, 5, -4, 0, 9_000]),
        (6_000, "g 60 60 BURST 5", [0, 5, 0, 5_000, 9_000]),
        // Without BURST, the bucket holds the limit.
        (0, "b 10 60 ALGORITHM GCRA COST 10", [10, 10, 0, 0, 60_000]),
        (6_000, "b 10 60 COST 2", [0, 10, 1, 6_000, 54_000]),
        (6_000, "b 10 60", [1, 10, 0, 0, 60_000]),
        (0, "nothing 0 60 ALGORITHM GCRA", [0, 0, 0, -1, 0]),
        (0, "nothing 0 60 ALGORITHM GCRA BURST 9", [0, 0, 0, -1, 0]),
        // A burst that was lowered leaves less, never less than nothing.
        (0, "lowered 60 60 ALGORITHM GCRA BURST 10 COST 4", [4, 10, 6, 0, 4_000]),
        (0, "lowered 60 60 BURST 3 COST 2 PARTIAL", [0, 3, 0, 2_000, 4_000]),
        (2_000, "lowered 60 60 BURST 3 COST 2 PARTIAL", [1, 3, 0, 2_000, 3_000]),
        // A part of nothing waits for the first unit, also where all never fits.
        (0, "unit 10 10 ALGORITHM GCRA BURST 5 COST 5", [5, 5, 0, 0, 5_000]),
        (0, "unit 10 10 BURST 5 COST 9 PARTIAL", [0, 5, 0, 1_000, 5_000]),
        (999, "unit 10 10 BURST 5 COST 9 PARTIAL", [0, 5, 0, 1, 4_001]),
        (1_000, "unit 10 10 BURST 5 COST 9 PARTIAL", [1, 5, 0, -1, 5_000]),
        // A raised rate counts from the last charge on, also while calls are denied.
        (0, "raised 1 10 ALGORITHM GCRA BURST 1", [1, 1, 0, 0, 10_000]),
        (0, "raised 100 10 BURST 1", [0, 1, 0, 100, 100]),
        (99, "raised 100 10 BURST 1", [0, 1, 0, 1, 1]),
        (100, "raised 100 10 BURST 1", [1, 1, 0, 0, 100]),
        // A lowered one keeps nobody out for longer than the old one lasted.
        (0, "slowed 1000 2 ALGORITHM GCRA COST 1000", [1_000, 1_000, 0, 0, 2_000]),
        (0, "slowed 10 2", [0, 10, 0, 1_982, 2_000]),
        (1_981, "slowed 10 2", [0, 10, 0, 1, 19]),
        (1_982, "slowed 10 2", [1, 10, 0, 0, 2_000]),
        // Another algorithm is judged by the old one until it is charged.
        (0, "other 10 60 COST 10", [10, 10, 0, 0, 60_000]),
        (30_000, "other 10 60 ALGORITHM GCRA", [0, 10, 0, 30_000, 30_000]),
        (30_000, "other 10 60 ALGORITHM SLIDING", [0, 10, 0, 30_000, 30_000]),
        (59_999, "other 10 60 ALGORITHM GCRA", [0, 10, 0, 1, 1]),
        (60_000, "other 10 60 ALGORITHM GCRA COST 10", [10, 10, 0, 0, 60_000]),
        (66_000, "other 10 60 ALGORITHM FIXED COST 2", [0, 10, 1, 6_000, 54_000]),
        (66_000, "other 10 60 ALGORITHM FIXED", [1, 10, 0, 0, 60_000]),
        // Relaxed, the limit relaxes at once.
        (0, "relaxed 1 86400", [1, 1, 0, 0, 86_400_000]),
        (0, "relaxed 1 86400", [0, 1, 0, 86_400_000, 86_400_000]),
        (0, "relaxed 10 1", [1, 10, 9, 0, 1_000]),
        // A window is exact to the microsecond, and waits round up.
        (0, "w1 1 0.25", [1, 1, 0, 0, 250]),
        (0, "w2 1 0.001", [1, 1, 0, 0, 1]),
        (0, "w3 1 0.001001", [1, 1, 0, 0, 2]),
        (0, "w4 1 1.000001", [1, 1, 0, 0, 1_001]),
        (0, "w5 1 31622400", [1, 1, 0, 0, 31_622_400_000]),
        (0, "w5 1 31622400", [0, 1, 0, 31_622_400_000, 31_622_400_000]),
        // The largest numbers.
        (0, "m1 9007199254740992 60", [1, MOST, MOST - 1, 0, 60_000]),
        (0, "m1 9007199254740992 60 COST 9007199254740992", [0, MOST, MOST - 1, 60_000, 60_000]),
        (0, "m1 9007199254740992 60 COST 9007199254740991", [MOST - 1, MOST, 0, 0, 60_000]),
        (0, "m1 1 60", [0, 1, 0, 60_000, 60_000]),
        (
            0,
            "m2 9007199254740992 31622400 COST 9007199254740992",
            [MOST, MOST, 0, 0, 31_622_400_000],
        ),
        (0, "m3 1 86400 COST 9007199254740992", [0, 1, 1, -1, 0]),
        // Keywords come in any case and in any order.
        (0, "case 10 60 Cost 2 algorithm fixed", [2, 10, 8, 0, 60_000]),
        (0, "case 10 60 peek ALGORITHM Fixed cost 2", [2, 10, 8, 0, 60_000]),
    ];
    for (at_ms, arguments, expected) in table {
        client.freeze(now + at_ms * MILLI);
        let answer = client.run(&format!("ML.RATELIMIT {arguments}"));
        assert_eq!(answer.integers(), expected, "{arguments} at {at_ms} ms");
    }
}

#[test]
fn a_denied_or_peeked_call_writes_replicates_and_notifies_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    let mut events = Events::of(&server);
    client.run("ML.RATELIMIT full 3 3600 COST 3");
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    let charged = events.notified(&mut client);
    assert!(charged.contains(&("ml.ratelimit".into(), "full".into())), "{charged:?}");

    let mut watcher = server.client();
    watcher.run("WATCH full missing").ok();
    let before = (client.footprint(), client.run("PEXPIRETIME full"));
    for call in [
        "full 3 3600",
        "full 3 3600 COST 3",
        "full 3 3600 COST 9",
        "full 2 3600",
        "full 0 3600",
        "full 3 60 PEEK",
        "full 9 3600 PEEK",
        "missing 0 60",
        "missing 1 60 COST 2",
        "missing 1 60 PEEK",
    ] {
        client.run(&format!("ML.RATELIMIT {call}")).integers();
        assert_eq!((client.footprint(), client.run("PEXPIRETIME full")), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(events.notified(&mut client), []);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_ne!(watcher.run("EXEC"), Value::Nil, "nothing was written to what is watched");

    watcher.run("WATCH missing").ok();
    client.run("ML.RATELIMIT missing 1 60");
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_eq!(watcher.run("EXEC"), Value::Nil, "a charge is a write");
}

#[test]
fn waiting_exactly_as_long_as_told_is_enough_and_a_millisecond_less_is_not() {
    let (_server, mut client, start) = frozen();
    for (key, window) in
        ["0.001", "0.0015", "0.25", "0.333333", "60", "31622400"].iter().enumerate()
    {
        // The window opens, and the call comes, somewhere within a millisecond.
        for (opened_us, called_us) in [(0, 0), (333, 334), (999, 1_000), (1, 999)] {
            let call = format!("ML.RATELIMIT {key}:{opened_us} 3 {window} COST 2");
            client.freeze(start + opened_us);
            assert_eq!(client.run(&call).integers()[0], 2);
            client.freeze(start + called_us);
            let [granted, _, remaining, wait, reset] = client.run(&call).integers()[..] else {
                panic!("not five integers")
            };
            assert_eq!((granted, remaining), (0, 1), "{call}");
            assert_eq!(wait, reset, "{call}");
            client.freeze(start + called_us + (wait as u64 - 1) * MILLI);
            assert_eq!(client.run(&call).integers()[0], 0, "{call}, a millisecond early");
            client.freeze(start + called_us + wait as u64 * MILLI);
            assert_eq!(client.run(&call).integers()[0], 2, "{call}, in time");
        }
    }
}

#[test]
fn a_clock_that_steps_back_grants_nothing_again_and_waits_one_window_at_most() {
    let (_server, mut client, now) = frozen();
    client.run("ML.RATELIMIT k 10 60 COST 10");
    client.freeze(now - HOUR);
    assert_eq!(client.run("ML.RATELIMIT k 10 60 PEEK").integers(), [0, 10, 0, 60_000, 60_000]);
    assert_eq!(client.run("ML.RATELIMIT k 10 60").integers(), [0, 10, 0, 60_000, 60_000]);
    client.freeze(now - HOUR + 59_999 * MILLI);
    assert_eq!(client.run("ML.RATELIMIT k 10 60").integers(), [0, 10, 0, 1, 1]);
    client.freeze(now - HOUR + 60 * SECOND);
    assert_eq!(client.run("ML.RATELIMIT k 10 60").integers(), [1, 10, 9, 0, 60_000]);
}

#[test]
fn a_clock_that_steps_forward_is_as_if_that_time_had_passed() {
    let (_server, mut client, now) = frozen();
    client.run("ML.RATELIMIT k 10 60 COST 10");
    client.freeze(now + HOUR);
    assert_eq!(client.run("ML.RATELIMIT k 10 60").integers(), [1, 10, 9, 0, 60_000]);
}

#[test]
fn a_clock_that_was_wrong_for_a_while_leaves_no_key_behind() {
    let server = Server::start();
    let mut client = server.client();
    for wrong in [0, 1, client.freeze_ahead(), i64::MAX as u64 / 2, i64::MAX as u64] {
        client.freeze(wrong);
        let answer = client.run("ML.RATELIMIT k 1 60").integers();
        assert_eq!(answer, [1, 1, 0, 0, 60_000], "at {wrong} µs");
        client.run("ML.DEBUG CLOCK REAL").ok();
        // Denied (unless the key went, as one that expired long ago), but for
        // no more than a window from now.
        let [_, _, remaining, retry, reset] = client.run("ML.RATELIMIT k 1 60").integers()[..]
        else {
            panic!("not five integers")
        };
        assert_eq!(remaining, 0);
        assert!(retry <= 60_000 && (1..=60_000).contains(&reset), "{retry} {reset}");
        let ttl = client.run("PTTL k").integer();
        assert!(MINUTE_TTL.contains(&ttl), "lives for {ttl} ms after a clock at {wrong} µs");
        client.run("DEL k");
    }
}

#[test]
fn the_key_expires_with_its_window_and_no_hit_prolongs_it() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.RATELIMIT k 10 60");
    let ttl = client.run("PTTL k").integer();
    assert!(MINUTE_TTL.contains(&ttl), "{ttl}");
    let expires = client.run("PEXPIRETIME k").integer();
    client.run("ML.RATELIMIT k 10 60 COST 3");
    client.run("ML.RATELIMIT k 10 60 PEEK");
    client.run("ML.RATELIMIT k 10 60 COST 8");
    assert_eq!(client.run("PEXPIRETIME k").integer(), expires);

    // An expiry given or taken by hand stays while no charge moves the window's end.
    assert_eq!(client.run("PERSIST k").integer(), 1);
    client.run("ML.RATELIMIT k 10 60");
    assert_eq!(client.run("PEXPIRETIME k").integer(), -1);
    assert_eq!(client.run(&format!("PEXPIREAT k {}", expires - 1)).integer(), 1);
    client.run("ML.RATELIMIT k 10 60");
    assert_eq!(client.run("PEXPIRETIME k").integer(), expires - 1);

    client.run("ML.RATELIMIT brief 1 0.01");
    wait_for("the key to go", || client.run("EXISTS brief").integer() == 0);
    assert_eq!(client.run("ML.RATELIMIT brief 1 60").integers()[0], 1);
}

#[test]
fn time_stands_still_inside_multi_and_scripts_where_the_server_offers_it() {
    let server = Server::start();
    let mut client = server.client();
    client.run("MULTI").ok();
    for step in ["ML.RATELIMIT k 10 60", "DEBUG SLEEP 0.02", "ML.RATELIMIT k 10 60"] {
        assert_eq!(client.run(step).text(), "QUEUED");
    }
    let transaction = client.run("EXEC").items();
    let script = "local first = redis.call('ML.RATELIMIT', KEYS[1], 10, 60)
        local sum = 0
        for i = 1, 2000000 do sum = sum + i end
        return {first, sum, redis.call('ML.RATELIMIT', KEYS[1], 10, 60)}";
    let script = call!(client, "EVAL", script, 1, "s").items();
    for answers in [transaction, script] {
        let [first, last] = [&answers[0], &answers[2]].map(|answer| answer.integers());
        assert_eq!(
            (first[..4].to_vec(), last[..4].to_vec()),
            (vec![1, 10, 9, 0], vec![1, 10, 8, 0])
        );
        // Redis 7.0 does not tell modules the time of the transaction.
        if client.info("redis_version").starts_with("7.0.") {
            println!("not applicable: this server does not offer its frozen time");
            assert!(last[4] <= first[4]);
        } else {
            assert_eq!(first[4], last[4], "the clock moved");
        }
    }
}

/// Calls, each with its limit once in a window of a minute, and what is to be
/// granted in each of four windows.
const FLOODS: &[(&str, [u64; 4])] = &[
    ("ML.RATELIMIT fixed 50000 60", [50_000; 4]),
    ("ML.RATELIMIT sliding 50000 60 ALGORITHM SLIDING", [50_000; 4]),
    ("ML.RATELIMIT gcra 50000 60 ALGORITHM GCRA", [50_000; 4]),
    ("ML.RATELIMIT several 50000 60 120000 86400", [50_000, 50_000, 20_000, 0]),
];

#[test]
fn of_64_clients_and_a_million_calls_exactly_the_limit_of_each_window_is_granted() {
    let (server, mut client, start) = frozen();
    let flood = Flood { server: &server, clients: 64, pipeline: 500, rounds: 8 };
    for (call, expected) in FLOODS {
        let granted = (0..4).map(|window| {
            client.freeze(start + window * 60 * SECOND);
            flood.pour(call, 6, &[1])[0]
        });
        assert_eq!(granted.collect::<Vec<_>>(), expected, "{call}");
        println!("{call}: {} calls", 4 * flood.calls());
    }
}

/// The oracle: every charge that was granted, kept with its time, by the length
/// of the window.
#[derive(Default)]
struct Oracle(HashMap<u64, Vec<(u64, i64)>>);

impl Oracle {
    fn answer(&mut self, limit: i64, window_us: u64, cost: i64, peek: bool, now: u64) -> [i64; 5] {
        let charges = self.0.entry(window_us).or_default();
        if charges.first().is_some_and(|(opened, _)| opened + window_us <= now) {
            charges.clear();
        }
        let used = |charges: &[(u64, i64)]| charges.iter().map(|charge| charge.1).sum::<i64>();
        let granted = used(charges) + cost <= limit;
        if granted && !peek {
            charges.push((now, cost));
        }
        let reset = charges.first().map_or(0, |(opened, _)| opened + window_us - now);
        let reset_ms = reset.div_ceil(MILLI) as i64;
        let retry = match (granted, cost <= limit) {
            (true, _) => 0,
            (false, true) => reset_ms,
            (false, false) => -1,
        };
        let remaining = (limit - used(charges)).max(0);
        [if granted { cost } else { 0 }, limit, remaining, retry, reset_ms]
    }
}

#[test]
fn random_traffic_is_answered_as_a_list_of_every_charge_would() {
    let (_server, mut client, start) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let (mut oracle, mut now) = (Oracle::default(), start);
        client.run("DEL k");
        for step in 0..2_000 {
            now += random.below(4) * random.below(20 * MILLI);
            client.freeze(now);
            let limit = if random.below(20) == 0 { random.below(30) as i64 } else { 12 };
            let window_us = if random.below(5) == 0 { 70 * MILLI } else { 100 * MILLI };
            let most = 1 + random.below(14);
            let cost = 1 + random.below(most) as i64;
            let peek = random.below(5) == 0;
            let window = format!("0.{:03}", window_us / MILLI);
            let mut command = redis::cmd("ML.RATELIMIT");
            command.arg("k").arg(limit).arg(window).arg("COST").arg(cost);
            if peek {
                command.arg("PEEK");
            }
            let expected = oracle.answer(limit, window_us, cost, peek, now);
            assert_eq!(client.send(&command).integers(), expected, "step {step}, seed {seed}");
        }
    }
}

#[test]
fn a_partial_grant_fits_every_window_whichever_of_them_binds() {
    let (_server, mut client, _) = frozen();
    for (call, expected) in [
        ("lesser 9 1 COST 8", [8, 9, 1, 0, 1_000]),
        ("lesser 5 1000 COST 3", [3, 5, 2, 0, 1_000_000]),
        // Two are left in the window with the longer wait, one in the other.
        ("lesser 9 1 5 1000 COST 3 PARTIAL", [1, 5, 1, 1_000_000, 1_000_000]),
        ("never 10 1 COST 9", [9, 10, 1, 0, 1_000]),
        ("never 10 1 3 1000 COST 4 PARTIAL", [1, 3, 2, -1, 1_000_000]),
        ("none 4 1 COST 4", [4, 4, 0, 0, 1_000]),
        ("none 4 1 3 1000 COST 4 PARTIAL", [0, 4, 0, 1_000, 1_000]),
    ] {
        assert_eq!(client.run(&format!("ML.RATELIMIT {call}")).integers(), expected, "{call}");
    }
}

#[test]
fn whoever_alternates_between_limits_and_algorithms_is_told_true_waits() {
    let (_server, mut client, mut now) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut waits = 0;
        for key in 0..30 {
            // Tenants whose limits differ, and who changed them meanwhile.
            let policies: Vec<_> = (0..4)
                .map(|_| {
                    let window = random.of(&["1", "7.5"]);
                    let limit = [3, 10, 40, 1_000][random.below(4) as usize];
                    let words = [
                        String::new(),
                        format!(" ALGORITHM GCRA BURST {}", 1 + random.below(60)),
                        " ALGORITHM GCRA".to_owned(),
                        format!(" ALGORITHM {}", random.of(&ALGORITHMS)),
                    ];
                    format!("{limit} {window}{}", words[random.below(4) as usize])
                })
                .collect();
            for step in 0..60 {
                let mode = random.of(&["", "", " PARTIAL"]);
                let (policy, cost) = (&policies[random.below(4) as usize], 1 + random.below(30));
                let call = format!("ML.RATELIMIT {seed}:{key} {policy} COST {cost}");
                let context = format!("{call}{mode}, step {step}, seed {seed}");
                client.freeze(now);
                let row = Row::of(&client.run(&format!("{call}{mode}")));
                if row.granted == 0 && row.retry_ms > 0 {
                    waits += 1;
                    now += row.retry_ms as u64 * MILLI;
                    client.freeze(now - MILLI);
                    let early = Row::of(&client.run(&format!("{call}{mode}")));
                    assert_eq!((early.granted, early.retry_ms), (0, 1), "early: {context}");
                    client.freeze(now);
                    let row = Row::of(&client.run(&format!("{call}{mode}")));
                    let all = row.granted == cost as i64;
                    assert!(all || mode == " PARTIAL" && row.granted > 0, "in time: {context}");
                }
                now += random.below(3) * random.below(200_000);
            }
        }
        assert!(waits > 100, "{waits} waits, seed {seed}");
    }
}

/// A random policy: one window or several, in seconds, of any algorithm.
fn policy(random: &mut Random) -> String {
    let windows = ["0.05", "0.333333", "1", "7.5", "60", "3600"];
    let first = random.below(4) as usize;
    let count = 1 + random.below(3) as usize;
    let pairs = windows[first..first + count].iter();
    let pairs: Vec<_> = pairs.map(|window| format!("{} {window}", 1 + random.below(90))).collect();
    let algorithm = random.of(&ALGORITHMS);
    let burst = match (algorithm, count) {
        ("GCRA", 1) if random.below(2) == 0 => format!(" BURST {}", 1 + random.below(120)),
        _ => String::new(),
    };
    format!("{} ALGORITHM {algorithm}{burst}", pairs.join(" "))
}

#[test]
fn any_policy_grants_after_the_wait_it_tells_and_not_a_millisecond_before() {
    let (_server, mut client, mut now) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut waits = 0;
        for key in 0..60 {
            let policy = policy(&mut random);
            for step in 0..40 {
                let cost = 1 + random.below(20);
                let call = format!("ML.RATELIMIT {seed}:{key} {policy} COST {cost}");
                let context = format!("{call}, step {step}, seed {seed}");
                client.freeze(now);
                let row = Row::of(&client.run(&call));
                if row.granted == 0 && row.retry_ms > 0 {
                    waits += 1;
                    now += row.retry_ms as u64 * MILLI;
                    client.freeze(now - MILLI);
                    assert_eq!(Row::of(&client.run(&call)).granted, 0, "early: {context}");
                    client.freeze(now);
                    let row = Row::of(&client.run(&call));
                    assert_eq!((row.granted, row.retry_ms), (cost as i64, 0), "in time: {context}");
                } else if row.granted == 0 {
                    assert_eq!(row.retry_ms, -1, "{context}");
                }
                now += random.below(3) * random.below(200_000);
            }
        }
        assert!(waits > 300, "{waits} waits, seed {seed}");
    }
}

#[test]
fn a_sliding_window_lets_no_more_through_than_its_limit_in_any_trailing_window() {
    let (_server, mut client, start) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        for (key, window_us) in [50 * MILLI, 1_000_003, 60 * SECOND].into_iter().enumerate() {
            let limit = [3, 65, 200, 5_000][random.below(4) as usize];
            let window = format!("{}.{:06}", window_us / SECOND, window_us % SECOND);
            let mut now = start;
            let traffic: Vec<_> = (0..2_000)
                .map(|_| {
                    // Now and then a pause, or several calls in the same moment.
                    now += random.below(3) * random.below(window_us / 30);
                    (now, 1 + random.below(1 + limit / 20))
                })
                .collect();
            let lines: Vec<_> = traffic
                .iter()
                .flat_map(|(at, cost)| {
                    let call =
                        format!("{seed}:{key} {limit} {window} ALGORITHM SLIDING COST {cost}");
                    [format!("ML.DEBUG CLOCK {at}"), format!("ML.RATELIMIT {call}")]
                })
                .collect();
            let answers = client.run_all(&lines);
            let mut granted: Vec<(u64, u64)> = Vec::new();
            for ((at, cost), answer) in traffic.into_iter().zip(answers.chunks(2)) {
                let within = |length_us: u64| {
                    let recent = granted.iter().rev().take_while(|(then, _)| at < then + length_us);
                    recent.map(|(_, cost)| cost).sum::<u64>()
                };
                let context = format!("{limit} in {window} at {at}, seed {seed}");
                if Row::of(&answer[1]).granted > 0 {
                    assert!(within(window_us) + cost <= limit, "let through: {context}");
                    granted.push((at, cost));
                } else {
                    let longer_us = window_us + window_us.div_ceil(64);
                    assert!(within(longer_us) + cost > limit, "denied: {context}");
                }
            }
        }
    }
}

#[test]
fn a_sliding_window_of_any_limit_is_bounded_in_memory() {
    let (_server, mut client, start) = frozen();
    let lines: Vec<_> = (0..10_000)
        .flat_map(|call| {
            let now = start + call * 8_640 * MILLI;
            let call = "ML.RATELIMIT k 1000000 86400 ALGORITHM SLIDING";
            [format!("ML.DEBUG CLOCK {now}"), call.to_owned()]
        })
        .collect();
    for batch in lines.chunks(2_000) {
        client.run_all(batch);
        let usage = client.run("MEMORY USAGE k").integer();
        assert!(usage <= 1_280, "{usage} bytes");
    }
    assert_eq!(Info::of(&mut client, "k").unwrap().used(), [10_000]);
}

#[test]
fn a_sliding_window_that_was_loaded_or_copied_takes_as_little_memory() {
    let (_server, mut client, start) = frozen();
    for charges in 1..=64 {
        client.run("FLUSHALL").ok();
        let charge = |client: &mut Client, key: &str, number: u64| {
            client.freeze(start + number * MILLI);
            client.run(&format!("ML.RATELIMIT {key} 1000 3600 ALGORITHM SLIDING"));
            client.run(&format!("MEMORY USAGE {key}")).integer()
        };
        (0..charges).for_each(|number| _ = charge(&mut client, "made", number));
        let payload = client.run("DUMP made").bytes();
        call!(client, "RESTORE", "loaded", 0, payload).ok();
        client.run("COPY made copied").integer();
        for key in ["made", "loaded", "copied"] {
            for number in charges..charges + 2 {
                let usage = charge(&mut client, key, number);
                assert!(usage <= 1_280, "{usage} bytes: {key}, {number} charges");
            }
        }
    }
}

#[test]
fn what_is_replicated_is_the_charge_however_much_the_key_holds() {
    let (server, mut client, start) = frozen();
    let mut tap = Tap::on(&server);
    let eight = "10000 1 10000 2 10000 3 10000 4 10000 5 10000 6 10000 7 10000 3600";
    for algorithm in ALGORITHMS {
        for (key, limits, most) in [("one", "10000 3600", 48), ("eight", eight, 128)] {
            for call in 0..100 {
                client.freeze(start + call * MILLI);
                let call = format!("{algorithm}:{key} {limits} ALGORITHM {algorithm} COST 5");
                client.run(&format!("ML.RATELIMIT {call} HOLD 60000"));
                assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT {call}"))).granted, 5);
            }
            let effects = tap.replicated(&mut client);
            assert_eq!(effects.len(), 200);
            let longest = effects.iter().map(|effect| effect[2].len()).max().unwrap();
            assert!(longest <= most, "{algorithm} {key}: {longest} bytes");
        }
    }
}

#[test]
fn charges_in_the_same_millisecond_all_count() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        let call = format!("ML.RATELIMIT k 70000 86400 ALGORITHM {algorithm}");
        for nth in 0..100 {
            client.freeze(now + nth % 3);
            assert_eq!(Row::of(&client.run(&call)).granted, 1);
        }
        assert_eq!(Info::of(&mut client, "k").unwrap().used(), [100], "{algorithm}");
    }
}

#[test]
fn a_limit_relaxed_takes_effect_at_once_for_all_algorithms() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, _) = frozen();
        let tight = format!("ML.RATELIMIT k 1 86400 ALGORITHM {algorithm}");
        assert_eq!(Row::of(&client.run(&tight)).granted, 1);
        assert_eq!(Row::of(&client.run(&tight)).granted, 0, "{algorithm}");
        assert_eq!(Row::of(&client.run("ML.RATELIMIT k 10 1")).granted, 1, "{algorithm}");
        assert_eq!(Row::of(&client.run("ML.RATELIMIT k 10 86400")).remaining, 8, "{algorithm}");
        // Nor does that give anything back.
        assert_eq!(Row::of(&client.run(&tight)).granted, 0, "{algorithm}");
    }
}

#[test]
fn a_cost_above_capacity_never_fits_and_what_is_left_stays_coherent() {
    let (_server, mut client, _) = frozen();
    for (nth, policy) in
        ["10 60", "10 60 ALGORITHM SLIDING", "99 594 ALGORITHM GCRA BURST 10", "10 60 99 3600"]
            .iter()
            .enumerate()
    {
        let mut ask = |rest: &str| {
            let row = Row::of(&client.run(&format!("ML.RATELIMIT {nth} {policy} {rest}")));
            [row.granted, row.limit, row.remaining, row.retry_ms, row.reset_ms]
        };
        assert_eq!(ask("COST 11"), [0, 10, 10, -1, 0], "{policy}");
        let used = ask("COST 4");
        assert_eq!(used[..4], [4, 10, 6, 0], "{policy}");
        for call in ["COST 11", "COST 9007199254740992", "COST 11 PEEK"] {
            assert_eq!(ask(call), [0, 10, 6, -1, used[4]], "{policy} {call}");
        }
        assert_eq!(ask("COST 6")[..4], [6, 10, 0, 0], "{policy}");
    }
}

/// The answer of the first call on a key, in integers as wide as it takes.
fn first_answer(limit: u64, window_us: u64, burst: Option<u64>, cost: u64, gcra: bool) -> [i64; 5] {
    const LONGEST_US: u128 = 36_525 * 86_400 * SECOND as u128;
    let capacity = match burst {
        _ if limit == 0 => 0,
        Some(burst) => burst,
        None => limit,
    };
    if cost > capacity {
        return [0, capacity as i64, capacity as i64, -1, 0];
    }
    let refill_us = (u128::from(cost) * u128::from(window_us)).div_ceil(limit.into());
    let reset_us = if gcra { refill_us.min(LONGEST_US) } else { window_us.into() };
    let reset_ms = reset_us.div_ceil(MILLI.into());
    [cost as i64, capacity as i64, (capacity - cost) as i64, 0, reset_ms as i64]
}

#[test]
fn all_arguments_at_their_extremes_answer_as_wide_integers_say() {
    let (_server, mut client, _) = frozen();
    let amounts = [1, 2, 213_504, MOST as u64 - 1, MOST as u64];
    let windows = [("0.001", 1_000), ("0.001001", 1_001), ("31622400", 31_622_400 * SECOND)];
    let mut calls = 0;
    for limit in [0, 1, 3, MOST as u64 - 1, MOST as u64] {
        for (window, window_us) in windows {
            for cost in amounts {
                let bursts = [None].into_iter().chain(amounts.map(Some));
                let cases = ["FIXED", "SLIDING"].map(|algorithm| (algorithm, None)).into_iter();
                for (algorithm, burst) in cases.chain(bursts.map(|burst| ("GCRA", burst))) {
                    let burst_words =
                        burst.map_or(String::new(), |burst| format!(" BURST {burst}"));
                    let call = format!(
                        "{calls} {limit} {window} ALGORITHM {algorithm}{burst_words} COST {cost}"
                    );
                    let gcra = algorithm == "GCRA";
                    let expected = first_answer(limit, window_us, burst, cost, gcra);
                    let answer = client.run(&format!("ML.RATELIMIT {call}"));
                    assert_eq!(answer.integers(), expected, "{call}");
                    // Forced again and again, nothing wraps.
                    if limit > 0 {
                        let mut left = expected[2];
                        for _ in 0..3 {
                            let row = Row::of(&client.run(&format!("ML.RATELIMIT {call} FORCE")));
                            assert_eq!(row.granted, cost as i64, "{call} FORCE");
                            left -= cost as i64;
                            assert_eq!((row.remaining, row.retry_ms), (left, 0), "{call}");
                            assert!((1..=3_155_760_000_000).contains(&row.reset_ms), "{call}");
                        }
                    }
                    calls += 1;
                }
            }
        }
    }
}

#[test]
fn no_rounding_admits_early_or_hides_a_token_at_high_rates() {
    let (_server, mut client, now) = frozen();
    // Ten million a second: a token takes a tenth of a microsecond.
    let call = |client: &mut crate::support::Client, rest: &str| {
        let call = format!("ML.RATELIMIT k 10000000 1 ALGORITHM GCRA {rest}");
        Row::of(&client.run(&call))
    };
    assert_eq!(call(&mut client, "COST 10000000").remaining, 0);
    client.freeze(now + 1);
    assert_eq!(call(&mut client, "COST 11").granted, 0);
    assert_eq!(call(&mut client, "COST 3").remaining, 7);
    assert_eq!(call(&mut client, "COST 7").remaining, 0);
    assert_eq!(call(&mut client, "COST 1").granted, 0);
    // Three in ten seconds: a token takes 3 and a third.
    for (after_us, granted) in
        [(0, 3), (3_333_333, 0), (3_333_334, 1), (6_666_666, 0), (6_666_667, 1)]
    {
        client.freeze(now + after_us);
        let call = "ML.RATELIMIT third 3 10 ALGORITHM GCRA PARTIAL COST 3";
        assert_eq!(Row::of(&client.run(call)).granted, granted, "after {after_us} µs");
    }
}

#[test]
fn a_fixed_window_lets_two_limits_through_around_its_end_and_the_others_do_not() {
    for (algorithm, granted) in [("FIXED", 20), ("SLIDING", 10), ("GCRA", 10)] {
        let (_server, mut client, now) = frozen();
        let mut ask = |at_us: u64| {
            client.freeze(now + at_us);
            let call = format!("ML.RATELIMIT k 10 60 COST 10 PARTIAL ALGORITHM {algorithm}");
            Row::of(&client.run(&call)).granted
        };
        assert_eq!(ask(0), 10, "the window opens");
        let around: i64 = [59 * SECOND, 60 * SECOND].map(&mut ask).iter().sum();
        assert!(around <= granted, "{algorithm}: {around}");
    }
}

#[test]
fn windows_asked_for_by_turns_are_each_found_as_they_were_left() {
    let (_server, mut client, now) = frozen();
    for turn in 0..6 {
        client.freeze(now + turn * SECOND);
        let row = Row::of(&client.run(&format!("ML.RATELIMIT k 2 {}", 60 + turn % 2)));
        assert_eq!(row.granted, i64::from(turn < 4), "turn {turn}");
    }
    let windows = Info::of(&mut client, "k").unwrap().windows;
    assert_eq!(windows.len(), 2);
    // Back at full, they are forgotten; and there are never more than eight.
    client.freeze(now + HOUR);
    client.run("ML.RATELIMIT k 2 5");
    assert_eq!(Info::of(&mut client, "k").unwrap().windows.len(), 1);
    for window in 10..40 {
        assert_eq!(Row::of(&client.run(&format!("ML.RATELIMIT k 1 {window}"))).granted, 1);
        let windows = Info::of(&mut client, "k").unwrap().windows;
        assert!(windows.len() <= 8, "{windows:?}");
    }
}

#[test]
fn a_living_key_keeps_its_algorithm_and_another_takes_over_what_is_used() {
    let (_server, mut client, _) = frozen();
    client.run("CONFIG SET ml.ratelimit-algorithm GCRA").ok();
    client.run("ML.RATELIMIT k 10 60 20 600 COST 7");
    let of = |client: &mut crate::support::Client| {
        let info = Info::of(client, "k").unwrap();
        (info.algorithm.clone(), info.used())
    };
    assert_eq!(of(&mut client), ("GCRA".into(), vec![7, 7]));
    client.run("CONFIG SET ml.ratelimit-algorithm sliding").ok();
    client.run("ML.RATELIMIT k 10 60");
    assert_eq!(of(&mut client), ("GCRA".into(), vec![8, 7]));
    for (algorithm, used) in [("FIXED", 9), ("SLIDING", 10)] {
        client.run(&format!("ML.RATELIMIT k 10 60 ALGORITHM {algorithm}"));
        assert_eq!(of(&mut client), (algorithm.into(), vec![used, 7]));
    }
    // Denied, it stays what it was.
    assert_eq!(Row::of(&client.run("ML.RATELIMIT k 10 60 ALGORITHM GCRA")).granted, 0);
    assert_eq!(Row::of(&client.run("ML.RATELIMIT k 10 60 ALGORITHM GCRA PEEK")).remaining, 0);
    assert_eq!(of(&mut client), ("SLIDING".into(), vec![10, 7]));
    client.run("ML.RATELIMIT new 10 60");
    assert_eq!(Info::of(&mut client, "new").unwrap().algorithm, "SLIDING");
    // What was charged beyond the limit is carried over as well.
    client.run("ML.RATELIMIT debt 10 60 COST 25 FORCE");
    for algorithm in ["GCRA", "FIXED", "SLIDING"] {
        client.run(&format!("ML.RATELIMIT debt 10 60 COST 5 FORCE ALGORITHM {algorithm}"));
    }
    assert_eq!(Info::of(&mut client, "debt").unwrap().used(), [40]);
}

#[test]
fn a_clock_that_steps_keeps_every_algorithm_to_its_limit_and_no_wait_beyond_its_window() {
    for policy in ["10 60", "10 60 ALGORITHM SLIDING", "10 60 ALGORITHM GCRA", "10 60 10 30"] {
        let (_server, mut client, now) = frozen();
        let call = format!("ML.RATELIMIT k {policy}");
        assert_eq!(Row::of(&client.run(&format!("{call} COST 10"))).granted, 10, "{policy}");
        client.freeze(now - HOUR);
        let [peeked, denied] =
            [format!("{call} PEEK"), call.clone()].map(|call| Row::of(&client.run(&call)));
        assert_eq!(peeked, denied, "{policy}");
        assert_eq!((denied.granted, denied.remaining), (0, 0), "{policy}");
        assert!((1..=60_000).contains(&denied.retry_ms), "{policy}: {denied:?}");
        assert!((1..=60_000).contains(&denied.reset_ms), "{policy}: {denied:?}");
        client.freeze(now - HOUR + 60 * SECOND);
        let row = Row::of(&client.run(&format!("{call} COST 10")));
        assert_eq!(row.granted, 10, "{policy}");
        client.freeze(now + HOUR);
        assert_eq!(Row::of(&client.run(&format!("{call} COST 10"))).granted, 10, "{policy}");
    }
}

#[test]
fn info_has_its_shapes_in_both_protocols_and_on_a_replica() {
    let (server, mut client, now) = frozen();
    client.run("ML.RATELIMIT bucket 60 60 ALGORITHM GCRA BURST 90 COST 30");
    client.run("ML.RATELIMIT two 10 0.0015 1000 86400 COST 4");
    client.freeze(now + 1_200);
    let pairs = |pairs: &[(&str, i64)]| {
        let flat =
            pairs.iter().flat_map(|(name, value)| [crate::support::bulk(name), Value::Int(*value)]);
        Value::Array(flat.collect())
    };
    let table = [
        (
            "bucket",
            "GCRA",
            vec![pairs(&[
                ("limit", 60),
                ("burst", 90),
                ("window_ms", 60_000),
                ("used", 30),
                ("remaining", 60),
                ("reset_after_ms", 29_999),
            ])],
        ),
        (
            "two",
            "FIXED",
            vec![
                pairs(&[
                    ("limit", 10),
                    ("window_ms", 2),
                    ("used", 4),
                    ("remaining", 6),
                    ("reset_after_ms", 1),
                ]),
                pairs(&[
                    ("limit", 1_000),
                    ("window_ms", 86_400_000),
                    ("used", 4),
                    ("remaining", 996),
                    ("reset_after_ms", 86_399_999),
                ]),
            ],
        ),
    ];
    let replica = server.replica("");
    replica.client().freeze(now + 1_200);
    for (key, algorithm, windows) in table {
        let expected = Value::Array(vec![
            crate::support::bulk("algorithm"),
            crate::support::bulk(algorithm),
            crate::support::bulk("windows"),
            Value::Array(windows.clone()),
            crate::support::bulk("holds"),
            Value::Array(vec![]),
            crate::support::bulk("waiters"),
            Value::Int(0),
        ]);
        for of in [&server, &replica] {
            assert_eq!(call!(of.client(), "ML.LIMITINFO", key), expected, "{key}");
            let Value::Map(map) = call!(of.client3(), "ML.LIMITINFO", key) else {
                panic!("RESP3 has a map")
            };
            assert_eq!(map.len(), 4);
            let Value::Array(maps) = &map[1].1 else { panic!("an array of windows") };
            for (map, flat) in maps.iter().zip(&windows) {
                let Value::Map(map) = map else { panic!("of maps: {map:?}") };
                let fields: Vec<_> = map.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect();
                assert_eq!(Value::Array(fields), *flat, "{key}");
            }
        }
    }
    for mut client in [server.client(), server.client3(), replica.client(), replica.client3()] {
        assert_eq!(client.run("ML.LIMITINFO missing"), Value::Nil);
        assert!(client.run("ML.LIMITINFO bucket x").is_error());
    }
    client.run("SET string x").ok();
    assert!(client.run("ML.LIMITINFO string").error().starts_with("WRONGTYPE"));
}

#[test]
fn a_key_of_any_algorithm_expires_when_it_is_back_at_full_though_it_was_persisted() {
    for (policy, cost, full_after_ms) in [
        ("10 60", 4, 60_000),
        ("10 60 ALGORITHM SLIDING", 4, 60_000),
        ("10 60 ALGORITHM GCRA", 4, 24_000),
        ("60 60 ALGORITHM GCRA BURST 10", 4, 4_000),
        ("10 1 60 60 10 3", 4, 60_000),
    ] {
        let (_server, mut client, now) = frozen();
        let expires = (now / MILLI) as i64 + full_after_ms;
        let call = format!("ML.RATELIMIT k {policy} COST {cost}");
        client.run(&call);
        assert_eq!(client.run("PEXPIRETIME k").integer(), expires, "{policy}");
        client.run(&format!("ML.RATELIMIT k {policy} COST 9"));
        client.run(&format!("ML.RATELIMIT k {policy} PEEK"));
        assert_eq!(client.run("PEXPIRETIME k").integer(), expires, "denied: {policy}");
        // A charge that moves the end gives the key its expiry anew.
        assert_eq!(client.run("PERSIST k").integer(), 1);
        client.freeze(now + 61_000_000);
        client.run(&call);
        assert_eq!(client.run("PEXPIRETIME k").integer(), expires + 61_000, "{policy}");
    }
}

#[test]
fn the_last_fraction_of_a_millisecond_is_a_window_still_and_not_a_missing_key() {
    let (_server, mut client, now) = frozen();
    for (key, algorithm) in [("f", "FIXED"), ("s", "SLIDING"), ("g", "GCRA")] {
        let call = format!("ML.RATELIMIT {key} 1 60 ALGORITHM {algorithm}");
        client.freeze(now);
        client.run(&call);
        let expires = client.run(&format!("PEXPIRETIME {key}")).integer();
        // What PTTL tells as 0, and scripts take for a key without expiry.
        client.freeze(now + 60_000_000 - 1);
        let answer = Row::of(&client.run(&call));
        assert_eq!((answer.granted, answer.retry_ms), (0, 1), "{algorithm}");
        assert_eq!(client.run(&format!("PEXPIRETIME {key}")).integer(), expires, "{algorithm}");
        client.freeze(now + 60_000_000);
        assert_eq!(Row::of(&client.run(&call)).granted, 1, "{algorithm}");
        let renewed = client.run(&format!("PEXPIRETIME {key}")).integer();
        assert_eq!(renewed, expires + 60_000, "{algorithm}: it has its time again");
    }
}

/// Payloads of DUMP that an earlier encoding wrote, at a moment that [`DUMPED`]
/// names: keys of every algorithm, with several windows and with reservations.
const DUMPS: &[(&str, &str)] = &[
    ("f", "078130badab5e966b40105130100010a808ece1c0a8080cbc8a381b0030300000a006b274576c0545836"),
    (
        "w",
        "078130badab5e966b40105250100020a808ece1c0a8080cbc8a381b00303e80780c8ceb40de8078080cbc8a381b0030300000a00459e4174b579db05",
    ),
    (
        "s",
        "078130badab5e966b40105300101010a808ece1c0a01048080cbc8a381b00301c08488c9a381b003028089c5c9a381b00303c08d82caa381b0030400000a001b3e76b0543827e7",
    ),
    (
        "g",
        "078130badab5e966b40105c34106417618010101e80780a0c21ee8070028bf8488c9a381b00304ff88c5800803bf8d82ca80110191bf800802bf96fc800803ff9ab9cb601a02bf9ff6800803ffa3b3cc801101a8f0800803ffacadcd801101b1ea800803ffb5a7ce801101bae4800803ffbea1cf801101c3de800803ffc79bd0801101ccd8800803ffd095d1801101d5d2800803ffd98fd2801101decc800803ffe289d3801101e7c6800803ffeb83d4801101f0c0800802fff4fd800803bff9bad5601a02fffdf7800803bf82b5d680110186f2800803bf8bafd78011018fec800803bf94a9d880110198e6800803bf9da3d9801101a1e0800803bfa69dda801101aada800803bfaf97db601102e0f1b56008010400000a00852c7e6a86b238c5",
    ),
    (
        "big",
        "078130badab5e966b40105c3252a0301010180800007108080adcfaa9807800d0b80100001c08488c9a381b003200d02800800000a00cc68efa985da1f02",
    ),
    (
        "b",
        "078130badab5e966b401051701020107c08db701140aa8d279a88c88c9a381b0030d00000a00618ce622423befc2",
    ),
    (
        "r",
        "078130badab5e966b40105c34060408d1801000264808ece1c648080cbc8a381b00319e80780c8ceb40d2006c0111b02779713dc9ef9f878e79e6daf3c08f5191490bf0590afd286a63702403bc0286037c00c102aeb4781d93959089f775920be892a0b0520330184b3e0133301b003000a00ff8771d6bb21bb48",
    ),
    (
        "t",
        "078130badab5e966b40105c338405f1502010164808ece1c6401018080cbc8a381b0030a02aae0060005050580b89929c01f0100bbe00600010404e0031e0001404e802b01b003000a0032034c938d329b85",
    ),
    (
        "rb",
        "078130badab5e966b40105405801020164808ece1c641880ade204a0c2e9c8a381b003190279ddf3ee3fdf98a2030e7a2d19010c281490bf0590afd286a63701808ece1c149d67a9e4823a451871df134cdaab5a5f0590bf0584b3d286a63701808ece1c19000a00f40ce9cdf427d9d8",
    ),
];

/// When [`DUMPS`] were begun.
const DUMPED: u64 = 1_900_000_000 * SECOND;

#[test]
fn what_an_earlier_encoding_wrote_loads_and_says_what_it_said() {
    let server = Server::start();
    let mut client = server.client();
    let bytes = |hex: &str| -> Vec<u8> {
        let pairs = (0..hex.len()).step_by(2);
        pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    for (key, dump) in DUMPS {
        call!(client, "RESTORE", key, 0, bytes(dump)).ok();
    }
    for (at_ms, call, expected) in [
        (20_000, "f 10 60 PEEK", [1, 10, 7, 0, 40_000]),
        (20_000, "w 10 60 1000 3600 COST 8", [0, 10, 7, 40_000, 40_000]),
        // 1, 2, 3 and 4 were charged a second apart.
        (20_000, "s 10 60 PEEK", [0, 10, 0, 40_000, 43_000]),
        (62_000, "s 10 60 COST 7", [0, 10, 6, 1_000, 1_000]),
        (40_000, "g 1000 64 PEEK", [1, 1_000, 840, 0, 63_500]),
        // 11 of 20, and 2 more a second later, by 7 in 3 s.
        (1_001, "b 7 3 BURST 20 COST 11 PEEK", [0, 20, 9, 714, 4_571]),
        (500, "r 100 60 1000 3600 PEEK", [1, 100, 75, 0, 59_500]),
        (500, "rb 100 60 PEEK", [1, 100, 75, 0, 14_500]),
    ] {
        client.freeze(DUMPED + at_ms * MILLI);
        assert_eq!(client.run(&format!("ML.RATELIMIT {call}")).integers(), expected, "{call}");
    }
    // Of two holds one is from before a change of the algorithm: it is not known where its
    // charge was.
    for (id, after) in [("a", 10), ("b", 15)] {
        assert_eq!(settle(&mut client, "t", &id.repeat(32), 9), 1);
        assert_eq!(Info::of(&mut client, "t").unwrap().used(), [after], "{id}");
    }
    client.freeze(DUMPED + 1_000 * MILLI);
    for (key, id, after) in [
        ("r", "779713dc9ef9f878e79e6daf3c08f519", 95),
        ("rb", "9d67a9e4823a451871df134cdaab5a5f", 81),
    ] {
        assert_eq!(settle(&mut client, key, id, 0), 1, "{key}");
        let left = Row::of(&client.run(&format!("ML.RATELIMIT {key} 100 60 PEEK"))).remaining;
        assert_eq!(left, after, "{key}");
    }
    assert_eq!(Info::of(&mut client, "big").unwrap().used(), [2 << 30]);
}
