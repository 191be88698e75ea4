//! ML.RATELIMIT: who may go, and who waits how long.
//!
//! `[granted, limit, remaining, retry_after_ms, reset_after_ms]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use redis::Value;
use std::ops::RangeInclusive;
use std::sync::Barrier;
use support::{Answer, Client, Events, Random, Server, Tap, call, wait_for};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// 2^53, the largest limit and the largest cost.
const MOST: i64 = 1 << 53;

/// What PTTL may say of a window of a minute. A window closes at a microsecond,
/// a key can only go at a millisecond: the next one, lest a call be granted
/// early.
const MINUTE_TTL: RangeInclusive<i64> = 1..=60_001;

/// A server whose module clock stands still.
fn frozen() -> (Server, Client, u64) {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    (server, client, now)
}

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
        // A window of another length starts empty.
        (0, "length 10 60 COST 10", [10, 10, 0, 0, 60_000]),
        (0, "length 10 30 COST 4", [4, 10, 6, 0, 30_000]),
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
    assert_eq!(tap.names(&mut client), ["ML.APPLYRATE"]);
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

    // Persisted by hand, the next charge heals it.
    assert_eq!(client.run("PERSIST k").integer(), 1);
    client.run("ML.RATELIMIT k 10 60");
    assert_eq!(client.run("PEXPIRETIME k").integer(), expires);

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

#[test]
fn of_64_clients_at_once_exactly_the_limit_is_granted() {
    const CLIENTS: usize = 64;
    let server = Server::start();
    let start = Barrier::new(CLIENTS);
    let granted: i64 = std::thread::scope(|scope| {
        let ask = || {
            let mut client = server.client();
            start.wait();
            (0..10).map(|_| client.run("ML.RATELIMIT k 100 3600").integers()[0]).sum::<i64>()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(granted, 100);
}

/// The oracle: every charge that was granted, kept with its time.
#[derive(Default)]
struct Oracle {
    window_us: u64,
    charges: Vec<(u64, i64)>,
}

impl Oracle {
    fn answer(&mut self, limit: i64, window_us: u64, cost: i64, peek: bool, now: u64) -> [i64; 5] {
        let opened = self.charges.first().map_or(0, |charge| charge.0);
        let mut window = match self.window_us == window_us && now < opened + window_us {
            true => self.charges.clone(),
            false => Vec::new(),
        };
        let used = |window: &[(u64, i64)]| window.iter().map(|charge| charge.1).sum::<i64>();
        let granted = used(&window) + cost <= limit;
        if granted && !peek {
            window.push((now, cost));
            (self.window_us, self.charges) = (window_us, window.clone());
        }
        let reset = window.first().map_or(0, |(opened, _)| opened + window_us - now);
        let reset_ms = reset.div_ceil(MILLI) as i64;
        let retry = match (granted, cost <= limit) {
            (true, _) => 0,
            (false, true) => reset_ms,
            (false, false) => -1,
        };
        let remaining = (limit - used(&window)).max(0);
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
            let window_us = if random.below(40) == 0 { 70 * MILLI } else { 100 * MILLI };
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
