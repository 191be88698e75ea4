//! ML.RATEMULTI: one call, several keys, all or none.
//!
//! A row `[granted, limit, remaining, retry_after_ms, reset_after_ms]` a key.

use crate::support::rates::{ALGORITHMS, Info, Row, frozen};
use crate::support::{Answer, Events, Flood, Random, Server, Tap, call};
use redis::Value;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

#[test]
fn each_call_answers_by_the_table() {
    let (_server, mut client, now) = frozen();
    // At which millisecond, what is called, a row for each key.
    let table: &[(u64, &str, &[[i64; 5]])] = &[
        (0, "1 one 10 60", &[[1, 10, 9, 0, 60_000]]),
        (0, "2 u o 3 60 5 3600 COST 2", &[[2, 3, 1, 0, 60_000], [2, 5, 3, 0, 3_600_000]]),
        // Denied by one, by both, by neither: with each one's own wait.
        (1_000, "2 u o 3 60 5 3600 COST 2", &[[0, 3, 1, 59_000, 59_000], [0, 5, 3, 0, 3_599_000]]),
        (
            1_000,
            "2 u o 3 60 4 3600 COST 3",
            &[[0, 3, 1, 59_000, 59_000], [0, 4, 2, 3_599_000, 3_599_000]],
        ),
        (
            1_000,
            "2 u o 3 60 4 3600 COST 4",
            &[[0, 3, 1, -1, 59_000], [0, 4, 2, 3_599_000, 3_599_000]],
        ),
        (1_000, "2 o u 5 3600 3 60", &[[1, 5, 2, 0, 3_599_000], [1, 3, 0, 0, 59_000]]),
        (1_000, "2 o new 9 3600 0 60", &[[0, 9, 6, 0, 3_599_000], [0, 0, 0, -1, 0]]),
        // A peek answers what the call would, and shows the state as it stands.
        (1_000, "2 o new 5 3600 7 60 PEEK", &[[1, 5, 2, 0, 3_599_000], [1, 7, 7, 0, 0]]),
        (1_000, "2 u new 3 60 7 60 PEEK", &[[0, 3, 0, 59_000, 59_000], [0, 7, 7, 0, 0]]),
        // A forced charge goes beyond the limits.
        (1_000, "2 u f 3 60 4 60 COST 9 FORCE", &[[9, 3, -9, 0, 59_000], [9, 4, -5, 0, 60_000]]),
        // Each key has an algorithm of its own, or takes the one that is named.
        (0, "2 g s 10 60 9 60 ALGORITHM GCRA", &[[1, 10, 9, 0, 6_000], [1, 9, 8, 0, 6_667]]),
        (0, "1 s 9 60 algorithm sliding", &[[1, 9, 7, 0, 60_000]]),
        (0, "2 g s 10 60 9 60", &[[1, 10, 8, 0, 12_000], [1, 9, 6, 0, 60_000]]),
    ];
    for (at_ms, arguments, expected) in table {
        client.freeze(now + at_ms * MILLI);
        let rows = client.run(&format!("ML.RATEMULTI {arguments}")).items();
        let rows: Vec<_> = rows.iter().map(Answer::integers).collect();
        assert_eq!(rows, *expected, "{arguments} at {at_ms} ms");
    }
}

#[test]
fn when_one_key_denies_nothing_is_left_behind_on_the_others() {
    let server = Server::start();
    let mut client = server.client();
    client.freeze_ahead();
    let mut tap = Tap::on(&server);
    client.run("ML.RATEMULTI 2 full used 3 3600 9 3600 COST 3");
    assert_eq!(tap.names(&mut client), ["MULTI", "ML.APPLYLIMIT", "ML.APPLYLIMIT", "EXEC"]);
    client.run("RPUSH list x");
    tap.names(&mut client);
    let mut events = Events::of(&server);
    let mut watcher = server.client();
    watcher.run("WATCH full used new").ok();
    let before = client.footprint();
    for call in [
        "2 used full 9 3600 3 3600",
        "2 full used 3 3600 9 3600",
        "3 new used full 9 3600 9 3600 3 3600",
        "3 new full used 9 3600 3 3600 9 3600 RESERVE 1000",
        "2 new used 9 60 0 60",
        "2 new used 9 60 9 3600 COST 7",
        "2 new used 9 60 9 3600 PEEK",
        "2 new full 9 60 3 3600 PEEK ALGORITHM GCRA",
    ] {
        let rows = Row::all(&client.run(&format!("ML.RATEMULTI {call}")));
        let peek = call.contains("9 3600 PEEK");
        assert!(rows.iter().all(|row| (row.granted > 0) == peek && row.id.is_none()), "{call}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    for call in ["3 new used list 9 60 9 3600 9 60", "2 new list 0 60 9 60"] {
        let error = client.run(&format!("ML.RATEMULTI {call}")).error();
        assert!(error.starts_with("WRONGTYPE"), "{error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(events.notified(&mut client), []);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_ne!(watcher.run("EXEC"), Value::Nil, "nothing was written to what is watched");

    client.run("ML.RATEMULTI 2 used new 9 3600 9 60");
    let charged = events.notified(&mut client);
    for key in ["used", "new"] {
        assert!(charged.contains(&("ml.ratelimit".into(), key.into())), "{charged:?}");
    }
}

#[test]
fn the_longest_wait_of_the_rows_is_enough_and_a_millisecond_less_is_not() {
    let (_server, mut client, mut now) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut waits = 0;
        for group in 0..30 {
            // Each key has its own algorithm, as the first call left it.
            let policies: Vec<_> = (0..2 + random.below(2))
                .map(|key| {
                    let window = random.of(&["0.05", "0.333333", "1", "7.5", "60"]);
                    (format!("{seed}:{group}:{key}"), format!("{} {window}", 1 + random.below(40)))
                })
                .collect();
            for (key, policy) in &policies {
                let algorithm = random.of(&ALGORITHMS);
                client.run(&format!("ML.RATELIMIT {key} {policy} ALGORITHM {algorithm}"));
            }
            let (keys, pairs): (Vec<_>, Vec<_>) = policies.into_iter().unzip();
            for step in 0..30 {
                let cost = 1 + random.below(10);
                let call = format!(
                    "ML.RATEMULTI {} {} {} COST {cost}",
                    keys.len(),
                    keys.join(" "),
                    pairs.join(" ")
                );
                let context = format!("{call}, step {step}, seed {seed}");
                let mut ask = |now| {
                    client.freeze(now);
                    let rows = Row::all(&client.run(&call));
                    let all = rows.iter().all(|row| row.granted == cost as i64);
                    assert!(all || rows.iter().all(|row| row.granted == 0), "{context}");
                    let never = rows.iter().any(|row| row.retry_ms < 0);
                    let wait_ms = rows.iter().map(|row| row.retry_ms).max().unwrap() as u64;
                    assert!(!all || wait_ms == 0, "{context}");
                    (all, Some(wait_ms).filter(|_| !never))
                };
                if let (false, Some(wait_ms)) = ask(now) {
                    waits += 1;
                    assert!(wait_ms > 0, "{context}");
                    now += wait_ms * MILLI;
                    assert!(!ask(now - MILLI).0, "early: {context}");
                    assert!(ask(now).0, "in time: {context}");
                }
                now += random.below(3) * random.below(200_000);
            }
        }
        assert!(waits > 100, "{waits} waits, seed {seed}");
    }
}

#[test]
fn of_64_clients_and_a_million_calls_all_keys_are_charged_what_the_least_limit_grants() {
    let (server, mut client, start) = frozen();
    let flood = Flood { server: &server, clients: 64, pipeline: 500, rounds: 8 };
    let call = "ML.RATEMULTI 3 user org model 50000 60 120000 86400 9000000 3600";
    let granted = (0..4).map(|window| {
        client.freeze(start + window * 60 * SECOND);
        // The answer of three rows of five; of each, the second line.
        let granted = flood.pour(call, 1 + 3 * 6, &[2, 8, 14]);
        assert!(granted.iter().all(|row| *row == granted[0]), "{granted:?}");
        granted[0]
    });
    assert_eq!(granted.collect::<Vec<_>>(), [50_000, 50_000, 20_000, 0]);
    let mut used = |key| Info::of(&mut client, key).unwrap().used();
    assert_eq!([used("user"), used("org"), used("model")], [[0], [120_000], [120_000]]);
    println!("{} calls", 4 * flood.calls());
}

#[test]
fn random_traffic_charges_all_keys_or_none() {
    let (_server, mut client, mut now) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        client.run("FLUSHALL").ok();
        // The oracle: what is used of each limit, and when its window closes.
        let mut windows = [(0, 0); 5];
        for step in 0..1_500 {
            now += random.below(900 * MILLI);
            client.freeze(now);
            let mut keys: Vec<_> = (0..5).collect();
            keys.sort_by_cached_key(|_| random.next());
            keys.truncate(1 + random.below(4) as usize);
            let cost = 1 + random.below(4) as i64;
            let length_us = |key: usize| (key as u64 + 1) * 3 * SECOND;
            let limit = |key: usize| 6 + key as i64;
            let mode = random.of(&["", "", "", "PEEK", "FORCE"]);
            let mut command = redis::cmd("ML.RATEMULTI");
            command.arg(keys.len()).arg(&keys);
            for key in &keys {
                command.arg(limit(*key)).arg(length_us(*key) / SECOND);
            }
            command.arg("COST").arg(cost);
            if !mode.is_empty() {
                command.arg(mode);
            }
            for (used, closes) in &mut windows {
                if *closes <= now {
                    (*used, *closes) = (0, 0);
                }
            }
            let fits = |key: &usize| windows[*key].0 + cost <= limit(*key);
            let granted = mode == "FORCE" || keys.iter().all(fits);
            let rows = Row::all(&client.send(&command));
            for (key, row) in keys.iter().zip(rows) {
                let (used, closes) = &mut windows[*key];
                if granted && mode != "PEEK" {
                    (*used, *closes) = match *used {
                        0 => (cost, now + length_us(*key)),
                        used => (used + cost, *closes),
                    };
                }
                let context = format!("key {key}, step {step}, seed {seed}");
                assert_eq!(row.granted, if granted { cost } else { 0 }, "{context}");
                let balance = limit(*key) - *used;
                let remaining = if mode == "FORCE" { balance } else { balance.max(0) };
                assert_eq!(row.remaining, remaining, "{context}");
                let reset_ms = closes.saturating_sub(now).div_ceil(MILLI);
                assert_eq!(row.reset_ms, reset_ms as i64, "{context}");
            }
        }
    }
}

#[test]
fn keys_of_any_bytes_stand_where_their_number_says() {
    let (_server, mut client, _) = frozen();
    let keys = [&b"PEEK"[..], b"10", b"\0\xff", b"", b"COST"];
    let pairs = vec!["7"; 10];
    for _ in 0..2 {
        let rows = Row::all(&call!(client, "ML.RATEMULTI", 5, &keys[..], &pairs, "COST", 2));
        assert!(rows.len() == 5 && rows.iter().all(|row| row.granted == 2), "{rows:?}");
    }
    let listed = call!(client, "COMMAND", "GETKEYS", "ML.RATEMULTI", 5, &keys[..], &pairs).items();
    assert_eq!(listed.iter().map(Answer::bytes).collect::<Vec<_>>(), keys);
    // As many keys as one likes.
    let keys: Vec<_> = (0..2_000).map(|key| format!("many:{key}")).collect();
    let pairs: Vec<_> = keys.iter().flat_map(|_| ["1", "60"]).collect();
    let mut granted = || {
        let rows = Row::all(&call!(client, "ML.RATEMULTI", keys.len(), &keys, &pairs));
        rows.iter().map(|row| row.granted).sum::<i64>()
    };
    assert_eq!([granted(), granted()], [2_000, 0]);
}

#[test]
fn in_transactions_and_scripts_it_answers_and_replicates_as_elsewhere() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("MULTI").ok();
    client.run("ML.RATEMULTI 2 a b 5 60 5 60");
    client.run("ML.RATEMULTI 2 a b 5 60 0 60");
    let answers = client.run("EXEC").items();
    assert_eq!(Row::all(&answers[0]).iter().map(|row| row.granted).sum::<i64>(), 2);
    assert_eq!(Row::all(&answers[1]).iter().map(|row| row.granted).sum::<i64>(), 0);
    assert_eq!(tap.names(&mut client), ["MULTI", "ML.APPLYLIMIT", "ML.APPLYLIMIT", "EXEC"]);
    let script = "return redis.call('ML.RATEMULTI', 2, KEYS[1], KEYS[2], 5, 60, 5, 60)";
    let rows = Row::all(&call!(client, "EVAL", script, 2, "a", "b"));
    assert!(rows.iter().all(|row| row.remaining == 3), "{rows:?}");
    assert_eq!(tap.names(&mut client), ["MULTI", "ML.APPLYLIMIT", "ML.APPLYLIMIT", "EXEC"]);
}
