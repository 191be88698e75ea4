//! ML.ADMIT: one call, several keys of limits and of permits, all or none.
//!
//! `[admitted, id|nil, retry_after_ms, binding|nil, rows]`, a row
//! `[granted, limit, remaining, retry_after_ms, reset_after_ms]` a key.

use crate::support::permits::{self, admit};
use crate::support::rates::{ALGORITHMS, Admission, Info, Row, settle};
use crate::support::{Answer, Client, Events, Flood, Random, Server, Tap, bulk, call, frozen};
use redis::Value;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

#[test]
fn each_call_answers_by_the_table() {
    let (_server, mut client, now) = frozen();
    // At which millisecond, what is called, the key that holds it up, a row for each.
    type Case = (u64, &'static str, Option<i64>, &'static [[i64; 5]]);
    let table: &[Case] = &[
        (0, "1 one LIMIT 10 60", None, &[[1, 10, 9, 0, 60_000]]),
        (
            0,
            "2 u o LIMIT 3 60 COST 2 LIMIT 5 3600 COST 2",
            None,
            &[[2, 3, 1, 0, 60_000], [2, 5, 3, 0, 3_600_000]],
        ),
        // Denied by one, by both, by neither: with each one's own wait.
        (
            1_000,
            "2 u o limit 3 60 cost 2 Limit 5 3600 Cost 2",
            Some(0),
            &[[0, 3, 1, 59_000, 59_000], [0, 5, 3, 0, 3_599_000]],
        ),
        (
            1_000,
            "2 u o LIMIT 3 60 COST 3 LIMIT 4 3600 COST 3",
            Some(1),
            &[[0, 3, 1, 59_000, 59_000], [0, 4, 2, 3_599_000, 3_599_000]],
        ),
        // Never is the longest wait of all.
        (
            1_000,
            "2 u o LIMIT 3 60 COST 4 LIMIT 4 3600 COST 4",
            Some(0),
            &[[0, 3, 1, -1, 59_000], [0, 4, 2, 3_599_000, 3_599_000]],
        ),
        (
            1_000,
            "2 o u LIMIT 5 3600 LIMIT 3 60",
            None,
            &[[1, 5, 2, 0, 3_599_000], [1, 3, 0, 0, 59_000]],
        ),
        (
            1_000,
            "2 o new LIMIT 9 3600 LIMIT 0 60",
            Some(1),
            &[[0, 9, 6, 0, 3_599_000], [0, 0, 0, -1, 0]],
        ),
        // Of equals the first.
        (
            1_000,
            "3 one new new2 LIMIT 9 60 LIMIT 0 60 LIMIT 0 60",
            Some(1),
            &[[0, 9, 8, 0, 59_000], [0, 0, 0, -1, 0], [0, 0, 0, -1, 0]],
        ),
        // A peek answers what the call would, and shows the state as it stands.
        (
            1_000,
            "2 o new LIMIT 5 3600 LIMIT 7 60 PEEK",
            None,
            &[[1, 5, 2, 0, 3_599_000], [1, 7, 7, 0, 0]],
        ),
        (
            1_000,
            "2 u new LIMIT 3 60 LIMIT 7 60 PEEK",
            Some(0),
            &[[0, 3, 0, 59_000, 59_000], [0, 7, 7, 0, 0]],
        ),
        // A forced charge goes beyond the limits.
        (
            1_000,
            "2 u f LIMIT 3 60 COST 9 LIMIT 4 60 COST 8 FORCE",
            None,
            &[[9, 3, -9, 0, 59_000], [8, 4, -4, 0, 60_000]],
        ),
        // Each key has limits, an algorithm and a cost of its own.
        (
            0,
            "2 g s LIMIT 10 60 ALGORITHM GCRA LIMIT 9 60 99 3600 COST 2 ALGORITHM SLIDING",
            None,
            &[[1, 10, 9, 0, 6_000], [2, 9, 7, 0, 60_000]],
        ),
        (
            0,
            "2 g s LIMIT 10 60 BURST 4 COST 3 LIMIT 9 60",
            None,
            &[[3, 4, 0, 0, 24_000], [1, 9, 6, 0, 60_000]],
        ),
        // Permits beside them.
        (
            0,
            "2 p q PERMIT 3 COST 2 LIMIT 5 60 COST 4 HOLD 9000",
            None,
            &[[2, 3, 1, 0, 9_000], [4, 5, 1, 0, 60_000]],
        ),
        (
            1_000,
            "2 p q PERMIT 3 LIMIT 5 60 COST 2 HOLD 20000",
            Some(1),
            &[[0, 3, 1, 0, 8_000], [0, 5, 1, 59_000, 59_000]],
        ),
        (
            1_000,
            "2 p q PERMIT 3 COST 2 LIMIT 5 60 HOLD 20000",
            Some(0),
            &[[0, 3, 1, 8_000, 8_000], [0, 5, 1, 0, 59_000]],
        ),
        (
            1_000,
            "2 p q PERMIT 3 LIMIT 5 60 PEEK",
            None,
            &[[1, 3, 1, 0, 8_000], [1, 5, 1, 0, 59_000]],
        ),
        (
            1_000,
            "2 q p LIMIT 5 60 COST 9 PERMIT 1 COST 2 HOLD 9 PEEK",
            Some(0),
            &[[0, 5, 1, -1, 59_000], [0, 1, 0, -1, 8_000]],
        ),
        (
            1_000,
            "2 p q PERMIT 3 LIMIT 5 60 COST 0 HOLD 20000",
            None,
            &[[1, 3, 0, 0, 20_000], [0, 5, 1, 0, 59_000]],
        ),
    ];
    for (at_ms, arguments, binding, expected) in table {
        client.freeze(now + at_ms * MILLI);
        let admission = Admission::ask(&mut client, arguments);
        let rows: Vec<_> = admission.rows.iter().map(Row::figures).collect();
        assert_eq!((admission.binding, &rows[..]), (*binding, *expected), "{arguments}");
        let holds = arguments.contains("HOLD") && !arguments.contains("PEEK");
        assert_eq!(admission.id.is_some(), binding.is_none() && holds, "{arguments}");
    }
}

#[test]
fn it_answers_the_same_array_by_either_protocol() {
    let (server, mut client, _) = frozen();
    for (call, expected) in [
        ("LIMIT 10 60 HOLD 9 ID 0123456789abcdef0123456789abcdef", {
            let row = [1, 10, 9, 0, 60_000].map(Value::Int).to_vec();
            let id = bulk("0123456789abcdef0123456789abcdef");
            vec![
                Value::Int(1),
                id,
                Value::Int(0),
                Value::Nil,
                Value::Array(vec![Value::Array(row)]),
            ]
        }),
        ("LIMIT 0 60", {
            let row = [0, 0, 0, -1, 60_000].map(Value::Int).to_vec();
            let rows = Value::Array(vec![Value::Array(row)]);
            vec![Value::Int(0), Value::Nil, Value::Int(-1), Value::Int(0), rows]
        }),
    ] {
        for client in [&mut client, &mut server.client3()] {
            let answer = client.run(&format!("ML.ADMIT 1 k {call}"));
            assert_eq!(answer, Value::Array(expected.clone()), "{call}");
        }
    }
}

#[test]
fn when_one_key_denies_nothing_is_left_behind_on_the_others() {
    let server = Server::start();
    let mut client = server.client();
    client.freeze_ahead();
    let mut tap = Tap::on(&server);
    client.run(
        "ML.ADMIT 3 full used p LIMIT 3 3600 COST 3 LIMIT 9 3600 COST 3 PERMIT 1 HOLD 9000000",
    );
    let effects = ["MULTI", "ML.APPLYLIMIT", "ML.APPLYLIMIT", "ML.APPLYPERMIT", "EXEC"];
    assert_eq!(tap.names(&mut client), effects);
    client.run("RPUSH list x");
    tap.names(&mut client);
    let mut events = Events::of(&server);
    let mut watcher = server.client();
    watcher.run("WATCH full used new p").ok();
    let before = client.footprint();
    for call in [
        "2 used full LIMIT 9 3600 LIMIT 3 3600",
        "2 full used LIMIT 3 3600 LIMIT 9 3600",
        "3 new used full LIMIT 9 3600 LIMIT 9 3600 LIMIT 3 3600",
        "3 new full used LIMIT 9 3600 LIMIT 3 3600 LIMIT 9 3600 HOLD 1000",
        "2 new used LIMIT 9 60 LIMIT 0 60",
        "2 new used LIMIT 9 60 LIMIT 9 3600 COST 7",
        "2 new p LIMIT 9 60 PERMIT 1 HOLD 1000",
        "3 p new used PERMIT 9 PERMIT 9 LIMIT 9 3600 COST 7 HOLD 1000",
        "2 used p LIMIT 9 3600 PERMIT 2 COST 2 HOLD 1000 ID 0123456789abcdef0123456789abcdef",
        "2 new full LIMIT 9 60 LIMIT 3 3600 ALGORITHM GCRA PEEK",
        "2 new p LIMIT 9 60 PERMIT 0 PEEK",
    ] {
        assert!(!Admission::ask(&mut client, call).admitted, "{call}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    let peek = "3 new used p LIMIT 9 60 LIMIT 9 3600 PERMIT 2 HOLD 1000 PEEK";
    let peek = Admission::ask(&mut client, peek);
    assert!(peek.admitted && peek.id.is_none());
    assert_eq!(client.footprint(), before, "a peek");
    for call in [
        "3 new used list LIMIT 9 60 LIMIT 9 3600 LIMIT 9 60",
        "2 new list LIMIT 0 60 LIMIT 9 60",
        "2 new used LIMIT 9 60 PERMIT 9 HOLD 9",
        "2 new p LIMIT 9 60 LIMIT 9 60",
    ] {
        let error = client.run(&format!("ML.ADMIT {call}")).error();
        assert!(error.starts_with("WRONGTYPE"), "{error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(events.notified(&mut client), []);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_ne!(watcher.run("EXEC"), Value::Nil, "nothing was written to what is watched");

    client.run("ML.ADMIT 3 used new p LIMIT 9 3600 LIMIT 9 60 PERMIT 2 HOLD 9000");
    let charged = events.notified(&mut client);
    for (key, event) in [("used", "ml.ratelimit"), ("new", "ml.ratelimit"), ("p", "ml.permit")] {
        assert!(charged.contains(&(event.into(), key.into())), "{charged:?}");
    }
}

#[test]
fn the_wait_that_is_told_is_enough_and_a_millisecond_less_is_not() {
    let (_server, mut client, mut now) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut waits = 0;
        for group in 0..30 {
            // Each key has its own algorithm, as the first call left it.
            let keys: Vec<_> = (0..2 + random.below(2))
                .map(|key| {
                    let key = format!("{seed}:{group}:{key}");
                    if random.below(4) == 0 {
                        return (key, format!("PERMIT {}", 1 + random.below(12)));
                    }
                    let window = random.of(&["0.05", "0.333333", "1", "7.5", "60"]);
                    let policy = format!("{} {window}", 1 + random.below(40));
                    let algorithm = random.of(&ALGORITHMS);
                    client.run(&format!("ML.RATELIMIT {key} {policy} ALGORITHM {algorithm}"));
                    (key, format!("LIMIT {policy}"))
                })
                .collect();
            for step in 0..30 {
                let items: Vec<_> = keys
                    .iter()
                    .map(|(_, item)| format!("{item} COST {}", random.below(10)))
                    .collect();
                let names: Vec<_> = keys.iter().map(|(key, _)| &key[..]).collect();
                let ttl_ms = 1 + random.below(2_000);
                let (names, items) = (names.join(" "), items.join(" "));
                let call = format!("{} {names} {items} HOLD {ttl_ms}", keys.len());
                let context = format!("{call}, step {step}, seed {seed}");
                let mut ask = |now| {
                    client.freeze(now);
                    let admission = Admission::ask(&mut client, &call);
                    (admission.admitted, Some(admission.retry_ms).filter(|wait_ms| *wait_ms >= 0))
                };
                if let (false, Some(wait_ms)) = ask(now) {
                    waits += 1;
                    now += wait_ms as u64 * MILLI;
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
    let items = "LIMIT 50000 60 LIMIT 120000 86400 LIMIT 9000000 3600";
    let call = format!("ML.ADMIT 3 user org model {items}");
    let granted = (0..4).map(|window| {
        client.freeze(start + window * 60 * SECOND);
        // Five elements, the last one three rows of five; of each, the second line.
        let granted = flood.pour(&call, 6 + 3 * 6, &[7, 13, 19]);
        assert!(granted.iter().all(|row| *row == granted[0]), "{granted:?}");
        granted[0]
    });
    assert_eq!(granted.collect::<Vec<_>>(), [50_000, 50_000, 20_000, 0]);
    let mut used = |key| Info::of(&mut client, key).unwrap().used();
    assert_eq!([used("user"), used("org"), used("model")], [[0], [120_000], [120_000]]);
    println!("{} calls", 4 * flood.calls());
}

#[test]
fn of_2000_concurrent_calls_on_a_limit_of_100_exactly_100_are_admitted() {
    const CLIENTS: usize = 64;
    const CALLS: usize = 2_000;
    let (server, mut client, _) = frozen();
    // As those do who repeat a call that timed out, each sends every call twice.
    let (next, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = std::sync::Barrier::new(CLIENTS);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = server.client();
                start.wait();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= CALLS {
                        return;
                    }
                    let items = "LIMIT 100 3600 LIMIT 40000 60 COST 7 PERMIT 500";
                    let call =
                        format!("ML.ADMIT 3 rpm tpm gpu {items} HOLD 600000 ID {number:032x}");
                    let answers = client.run_all(&[&call, &call]);
                    let [one, again] = [0, 1].map(|place| Admission::of(&answers[place]));
                    assert_eq!(one.admitted, again.admitted, "{call}");
                    admitted.fetch_add(one.admitted.into(), Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.load(Relaxed), 100);
    let mut used = |key| Info::of(&mut client, key).unwrap().used();
    assert_eq!([used("rpm"), used("tpm")], [[100], [700]]);
    assert_eq!(permits::info(&mut client, "gpu").unwrap().0, 100);
}

/// A worker's call: a request, its tokens, a slot for 30 s.
fn work(tokens: i64) -> String {
    let items = format!("LIMIT 60 60 LIMIT 1000 60 COST {tokens} PERMIT 2 HOLD 30000");
    format!("3 rpm tpm gpu {items}")
}

/// What is used of the requests, of the tokens, and how many slots are taken.
fn taken(client: &mut Client) -> (i64, i64, i64) {
    let mut used = |key| Info::of(client, key).map_or(0, |info| info.used()[0]);
    let (requests, tokens) = (used("rpm"), used("tpm"));
    (requests, tokens, permits::info(client, "gpu").map_or(0, |(in_use, _)| in_use))
}

#[test]
fn requests_tokens_and_a_slot_are_taken_in_one_call_or_not_at_all() {
    let (_server, mut client, _) = frozen();
    let worker = Admission::ask(&mut client, &work(600)).id.unwrap();
    // Too many tokens, too few slots: the request is not counted.
    let denied = Admission::ask(&mut client, &work(600));
    assert_eq!((denied.binding, denied.retry_ms), (Some(1), 60_000));
    assert_eq!(taken(&mut client), (1, 600, 1));
    assert!(Admission::ask(&mut client, &work(100)).admitted);
    let denied = Admission::ask(&mut client, &work(100));
    assert_eq!((denied.binding, denied.retry_ms), (Some(2), 30_000));
    assert_eq!(taken(&mut client), (2, 700, 2));
    // What it took in the end, and its slot, by one call too.
    let settle = format!("ML.SETTLE 3 rpm tpm gpu {worker} ACTUAL - 450 -");
    assert_eq!(client.run(&settle).integers(), [1; 3]);
    assert_eq!(taken(&mut client), (2, 550, 1));
}

#[test]
fn a_worker_that_dies_frees_its_slot_at_its_ttl_and_stays_charged() {
    let (_server, mut client, now) = frozen();
    let dies = Admission::ask(&mut client, &work(100)).id.unwrap();
    client.freeze(now + 30 * SECOND - MILLI);
    assert_eq!(taken(&mut client), (1, 100, 1));
    client.freeze(now + 30 * SECOND);
    // Nobody knows what it took.
    assert_eq!(taken(&mut client), (1, 100, 0));
    for call in ["ML.SETTLE 3 rpm tpm gpu {}", "ML.RENEW 3 rpm tpm gpu {} 9000"] {
        assert_eq!(client.run(&call.replace("{}", &dies)).integers(), [0; 3], "{call}: too late");
    }
    assert_eq!(taken(&mut client), (1, 100, 0));
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
            let costs: Vec<_> = keys.iter().map(|_| random.below(5) as i64).collect();
            let length_us = |key: usize| (key as u64 + 1) * 3 * SECOND;
            let limit = |key: usize| 6 + key as i64;
            let mode = random.of(&["", "", "", "PEEK", "FORCE"]);
            let mut command = redis::cmd("ML.ADMIT");
            command.arg(keys.len()).arg(&keys);
            for (key, cost) in keys.iter().zip(&costs) {
                command.arg("LIMIT").arg(limit(*key)).arg(length_us(*key) / SECOND);
                command.arg("COST").arg(cost);
            }
            if !mode.is_empty() {
                command.arg(mode);
            }
            for (used, closes) in &mut windows {
                if *closes <= now {
                    (*used, *closes) = (0, 0);
                }
            }
            let fits =
                |(key, cost): (&usize, &i64)| *cost == 0 || windows[*key].0 + cost <= limit(*key);
            let admitted = mode == "FORCE" || keys.iter().zip(&costs).all(fits);
            let admission = Admission::of(&client.send(&command));
            assert_eq!(admission.admitted, admitted, "step {step}, seed {seed}");
            for ((key, cost), row) in keys.iter().zip(&costs).zip(admission.rows) {
                let (used, closes) = &mut windows[*key];
                if admitted && mode != "PEEK" && *cost > 0 {
                    (*used, *closes) = match *used {
                        0 => (*cost, now + length_us(*key)),
                        used => (used + cost, *closes),
                    };
                }
                let context = format!("key {key}, step {step}, seed {seed}");
                assert_eq!(row.granted, if admitted { *cost } else { 0 }, "{context}");
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
    let keys = [&b"PEEK"[..], b"LIMIT", b"\0\xff", b"", b"COST"];
    let items = ["LIMIT", "7", "10", "COST", "2"].repeat(5);
    for _ in 0..2 {
        let rows = Admission::of(&call!(client, "ML.ADMIT", 5, &keys[..], &items)).rows;
        assert!(rows.len() == 5 && rows.iter().all(|row| row.granted == 2), "{rows:?}");
    }
    let listed = call!(client, "COMMAND", "GETKEYS", "ML.ADMIT", 5, &keys[..], &items).items();
    assert_eq!(listed.iter().map(Answer::bytes).collect::<Vec<_>>(), keys);
    // As many keys as one likes.
    let keys: Vec<_> = (0..2_000).map(|key| format!("many:{key}")).collect();
    let items: Vec<_> = keys.iter().flat_map(|_| ["LIMIT", "1", "60"]).collect();
    let mut granted = || {
        let admission = Admission::of(&call!(client, "ML.ADMIT", keys.len(), &keys, &items));
        admission.rows.iter().map(|row| row.granted).sum::<i64>()
    };
    assert_eq!([granted(), granted()], [2_000, 0]);
}

#[test]
fn in_transactions_and_scripts_it_answers_and_replicates_as_elsewhere() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("MULTI").ok();
    client.run("ML.ADMIT 2 a p LIMIT 5 60 PERMIT 5 HOLD 60000");
    client.run("ML.ADMIT 2 a p LIMIT 5 60 PERMIT 0 HOLD 60000");
    let answers = client.run("EXEC").items();
    let admitted = [0, 1].map(|place| Admission::of(&answers[place]).admitted);
    assert_eq!(admitted, [true, false]);
    let effects = ["MULTI", "ML.APPLYLIMIT", "ML.APPLYPERMIT", "EXEC"];
    assert_eq!(tap.names(&mut client), effects);
    // Nil comes as false, by which Lua's arrays do not end.
    let script = "local held = redis.call('ML.ADMIT', 2, KEYS[1], KEYS[2],
            'LIMIT', 5, 60, 'PERMIT', 5, 'HOLD', 60000)
        local denied = redis.call('ML.ADMIT', 1, KEYS[1], 'LIMIT', 0, 60)
        return {held[2], held[5][1][3], held[5][2][3], #denied, denied[4]}";
    let answer = call!(client, "EVAL", script, 2, "a", "p").items();
    let told: Vec<_> = answer[1..].iter().map(Answer::integer).collect();
    assert_eq!(told, [3, 3, 5, 0]);
    assert_eq!(tap.names(&mut client), effects);
    assert_eq!(settle(&mut client, "a", &answer[0].text(), 0), 1);
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    assert!(!client.run(&admit("a 5 60")).error().is_empty(), "a limit is no permits");
}
