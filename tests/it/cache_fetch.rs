//! ML.CACHEFETCH and ML.CACHEMFETCH: of all who miss an answer, one computes.
//! Crowds of waiters are in `cache_waiters`, the life of leases in
//! `cache_leases`.

use crate::support::fetches::{
    Crowd, Row, answer_that_cost, counts, fetch, figures, fill, lease, lease_ms, stats, total,
    waiters,
};
use crate::support::{Answer, Client, Server, Tap, bulk, call, frozen, nils, wait_for};
use redis::Value;
use std::collections::HashMap;

const MILLI: u64 = 1_000;

/// What these calls answer: status and value of each.
fn brief(client: &mut Client, calls: &[&str]) -> Vec<String> {
    calls.iter().map(|call| fetch(client, call).brief()).collect()
}

#[test]
fn an_answer_is_leased_to_one_then_a_hit_then_stale_then_cold_again() {
    let (_server, mut client, now) = frozen();
    let first = fetch(&mut client, "k v LEASE 60000");
    assert_eq!((first.brief().as_str(), first.ms), ("LEASE", 60_000));
    let token = first.token.unwrap();
    assert!(token.len() <= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
    let busy = fetch(&mut client, "k v LEASE 5");
    assert_eq!(busy.brief(), "BUSY");
    assert!((1..=60_000).contains(&busy.ms), "what is left of the lease: {} ms", busy.ms);
    assert_eq!(fetch(&mut client, "k w LEASE 60000").brief(), "LEASE", "another version");
    assert_eq!(fetch(&mut client, "other v LEASE 60000").brief(), "LEASE", "another key");
    client.run("SELECT 1").ok();
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "LEASE", "another database");
    client.run("SELECT 0").ok();

    assert!(fill(&mut client, "k v x PX 1000 STALE 500", &token));
    for (after_ms, left_ms) in [(0, 1_000), (400, 600), (999, 1)] {
        client.freeze(now + after_ms * MILLI);
        let hit = fetch(&mut client, "k v LEASE 60000");
        assert_eq!((hit.brief().as_str(), hit.ms), ("HIT x", left_ms), "after {after_ms} ms");
    }
    client.freeze(now + 1_000 * MILLI);
    let stale = fetch(&mut client, "k v LEASE 60000 WAIT 60000");
    assert_eq!((stale.brief().as_str(), stale.ms), ("LEASE x", 60_000), "with what there is");
    for (after_ms, left_ms) in [(1_000, 500), (1_499, 1)] {
        client.freeze(now + after_ms * MILLI);
        // Nobody waits who can be served.
        let row = fetch(&mut client, "k v LEASE 60000 WAIT 60000");
        assert_eq!((row.brief().as_str(), row.ms), ("STALE x", left_ms), "after {after_ms} ms");
    }
    client.freeze(now + 1_500 * MILLI);
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "BUSY", "too stale to be served");
    assert!(fill(&mut client, "k v y", &stale.token.unwrap()));
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "HIT y");
}

#[test]
fn a_lease_that_runs_out_goes_to_the_next_caller() {
    let server = Server::start();
    let mut client = server.client();
    let mut last = lease(&mut client, "k v", 20);
    for over in 0..3 {
        wait_for("the lease to run out", || {
            let row = fetch(&mut client, "k v LEASE 20");
            assert!(row.ms <= 20, "{row:?}");
            row.token.is_some_and(|token| {
                assert_ne!(token, last);
                last = token;
                true
            })
        });
        // The last one may have run out as well by now.
        let expired = total(&mut client, "expired_leases");
        assert!([over + 1, over + 2].contains(&expired), "{expired} of {}", over + 2);
    }
}

#[test]
fn a_version_not_in_force_is_retired_at_once() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET m:k old x").ok();
    client.run("ML.CACHEVERSIONSET m new").ok();
    let row = fetch(&mut client, "m:k old LEASE 1000 WAIT 60000");
    assert_eq!((row.brief().as_str(), row.ms), ("RETIRED", 0));
    let rows = brief(&mut client, &["m:cold old LEASE 9", "m:k new LEASE 9", "n:k old LEASE 9"]);
    assert_eq!(rows, ["RETIRED", "LEASE", "LEASE"]);
}

#[test]
fn both_protocols_answer_alike() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        let mut other = server.client();
        let token = lease(&mut client, "k v", 60_000);
        assert_eq!(fetch(&mut client, "k v LEASE 9").brief(), "BUSY");
        let waiting = std::thread::spawn(move || {
            let row = fetch(&mut client, "k v LEASE 9 WAIT 60000").brief();
            (client, row)
        });
        wait_for("it to wait", || waiters(&mut other, "k") == 1);
        assert!(fill(&mut other, "k v x PX 100 STALE 60000", &token));
        let (mut client, row) = waiting.join().unwrap();
        assert_eq!(row, "HIT x");
        wait_for("it to be stale", || client.run("ML.CACHEGET k v") == Value::Nil);
        let row = Row::all(&client.run("ML.CACHEMFETCH 2 k k v LEASE 60000"));
        assert_eq!([row[0].brief(), row[1].brief()], ["LEASE x", "STALE x"]);
        client.run("ML.CACHEDROP k").integer();
    }
}

#[test]
fn nothing_blocks_in_multi_and_in_scripts() {
    let server = Server::start();
    let mut client = server.client();
    lease(&mut client, "k v", 60_000);
    client.run("MULTI").ok();
    for _ in 0..2 {
        client.run("ML.CACHEFETCH k v LEASE 1000 WAIT 60000");
        client.run("ML.CACHEFETCH cold v LEASE 60000 WAIT 60000");
    }
    let rows: Vec<_> = client.run("EXEC").items().iter().map(|row| Row::of(row).brief()).collect();
    assert_eq!(rows, ["BUSY", "LEASE", "BUSY", "BUSY"]);
    let script = "return redis.call('ML.CACHEFETCH', KEYS[1], 'v', 'LEASE', 60000, 'WAIT', 60000)";
    let rows = ["eval", "k"].map(|key| Row::of(&call!(client, "EVAL", script, 1, key)).brief());
    assert_eq!(rows, ["LEASE", "BUSY"]);
    assert_eq!(total(&mut client, "waits"), 0);
}

#[test]
fn a_replica_refuses_what_grants_leases() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    let replica = server.replica("");
    client.run("ML.CACHESET k v x PX 1000 STALE 500").ok();
    lease(&mut client, "leased v", 60_000);
    replica.catch_up(&server);
    let mut reader = replica.client();
    for call in [
        "ML.CACHEFETCH k v LEASE 60000",
        "ML.CACHEFETCH cold v LEASE 60000 WAIT 60000",
        "ML.CACHEMFETCH 2 k cold v LEASE 60000",
        "ML.CACHERENEW k x 9",
        "ML.CACHERELEASE k x",
        "ML.CACHEDROP k",
        "ML.CACHESET k v x TOKEN x",
    ] {
        assert!(reader.run(call).error().starts_with("READONLY"), "{call}");
    }
    // One that takes writes serves, and decides nothing.
    reader.run("CONFIG SET replica-read-only no").ok();
    for (after_ms, expected) in [(0, "HIT x"), (999, "HIT x"), (1_000, "STALE x"), (1_500, "BUSY")]
    {
        reader.freeze(now + after_ms * MILLI);
        let row = fetch(&mut reader, "k v LEASE 60000 WAIT 60000 EARLY 1000");
        assert_eq!(row.brief(), expected, "after {after_ms} ms");
        let rows = reader.run("ML.CACHEMFETCH 3 k cold leased v LEASE 60000");
        let rows: Vec<_> = Row::all(&rows).iter().map(Row::brief).collect();
        assert_eq!(rows, [expected, "BUSY", "BUSY"], "after {after_ms} ms");
    }
    assert_eq!(reader.run("ML.CACHEINFO leased"), Value::Nil, "leases are the primary's");
    assert_eq!((total(&mut reader, "leases"), total(&mut reader, "waits")), (0, 0));
}

#[test]
fn the_state_of_a_lease_is_nowhere_to_be_seen_or_forged() {
    let server = Server::with("appendonly yes\nappendfsync always");
    let mut client = server.client();
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    let mut watcher = server.client();
    watcher.run("WATCH k").ok();
    let before = client.footprint();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 2, "k v LEASE 60000 WAIT 60000");
    client.run("ML.CACHEMFETCH 2 k k2 v LEASE 60000").items();
    for line in ["ML.CACHEGET k v", "DUMP k", "GET k", "ML.CACHEGET k v"] {
        assert_eq!(client.run(line), Value::Nil, "{line}");
    }
    for line in ["DBSIZE", "EXISTS k"] {
        assert_eq!(client.run(line).integer(), 0, "{line}");
    }
    assert_eq!(client.run("ML.CACHEMGET 2 k k2 v"), nils(2));
    assert_eq!(client.run(&format!("ML.CACHERELEASE k {token}")).integer(), 1);
    crowd.wait_for(1);
    assert_eq!(client.run("ML.CACHERELEASE k nonsense").integer(), 0);
    let token = crowd.row(0).token.unwrap();
    client.run(&format!("ML.CACHERELEASE k {token} BACKOFF 10")).integer();
    crowd.wait_for(2);
    assert_eq!(client.footprint(), before, "nothing written, nothing replicated");
    assert_eq!(tap.names(&mut client), [""; 0]);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_eq!(watcher.run("EXEC").items().len(), 1, "WATCH is not broken");
    replica.catch_up(&server);
    assert_eq!(replica.client().run("DBSIZE").integer(), 0);
    assert_eq!(replica.client().run("ML.CACHEINFO k2"), Value::Nil);
}

#[test]
fn early_one_caller_computes_and_the_others_keep_their_hit() {
    let (server, mut client, now) = frozen();
    answer_that_cost(&mut client, 50);
    client.freeze(now + 999 * MILLI);
    // A millisecond before the end it is early in all but one of 50,000 cases.
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "HIT x", "who did not ask");
    let early = fetch(&mut client, "k v LEASE 60000 EARLY 1000");
    assert_eq!((early.brief().as_str(), early.ms), ("LEASE x", 60_000));
    for _ in 0..20 {
        let row = fetch(&mut server.client(), "k v LEASE 60000 WAIT 60000 EARLY 1000");
        assert_eq!((row.brief().as_str(), row.ms), ("HIT x", 1));
    }
    assert_eq!(client.run("ML.CACHEGET k v"), bulk("x"));
    client.freeze(now + 1_000 * MILLI);
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "BUSY", "still under that lease");
    assert!(fill(&mut client, "k v y", &early.token.unwrap()));
    assert_eq!(fetch(&mut client, "k v LEASE 60000 EARLY 0.000001").brief(), "HIT y");
}

#[test]
fn early_is_as_likely_as_cost_beta_and_what_is_left_say() {
    let (_server, mut client, now) = frozen();
    let cost_ms = answer_that_cost(&mut client, 40) as f64;
    client.freeze(now + 900 * MILLI);
    const DRAWS: usize = 2_000;
    for beta in [0.5, 1.0, 2.0, 5.0] {
        let calls: Vec<_> = (0..DRAWS)
            .map(|_| {
                redis::cmd("ML.CACHEFETCH")
                    .arg("k v LEASE 1 EARLY".split(' ').collect::<Vec<_>>())
                    .arg(beta.to_string())
                    .to_owned()
            })
            .collect();
        let mut early = 0;
        for call in &calls {
            // Each on a clean slate: the last lease must be over.
            if let Some(token) = Row::of(&client.send(call)).token {
                early += 1;
                call!(client, "ML.CACHERELEASE", "k", token).integer();
            }
        }
        let expected = (-100.0 / (cost_ms * beta)).exp() * DRAWS as f64;
        let deviation = (expected * (1.0 - expected / DRAWS as f64)).sqrt().max(1.0);
        let off = (f64::from(early) - expected) / deviation;
        assert!(off.abs() < 6.0, "cost {cost_ms}, beta {beta}: {early} early, not {expected:.0}");
    }
}

#[test]
fn an_answer_of_unknown_cost_is_never_early() {
    let (_server, mut client, now) = frozen();
    client.run("ML.CACHESET k v x PX 1000").ok();
    client.freeze(now + 999 * MILLI);
    for _ in 0..200 {
        assert_eq!(fetch(&mut client, "k v LEASE 60000 EARLY 1000").brief(), "HIT x");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let server = Server::start();
    let mut client = server.client();
    let garbage = ["0", "-1", "nan", "inf", "1e5", "", "1001", "1000.000001", "0.1234567", ".5"];
    for beta in garbage {
        let error = call!(client, "ML.CACHEFETCH", "k", "v", "LEASE", 9, "EARLY", beta).error();
        assert!(error.starts_with("ERR ") && error.contains("EARLY"), "{beta:?}: {error}");
    }
    for (option, value) in [("LEASE", "0"), ("WAIT", "0"), ("LEASE", "-1"), ("WAIT", "1.5")]
        .into_iter()
        .chain([("LEASE", ""), ("WAIT", "x"), ("LEASE", "3600001"), ("WAIT", "31622400001")])
    {
        let lease = if option == "LEASE" { vec![] } else { vec!["LEASE", "9"] };
        let error = call!(client, "ML.CACHEFETCH", "k", "v", lease, option, value).error();
        assert!(error.starts_with("ERR ") && error.contains(option), "{option} {value}: {error}");
    }
    for (arguments, named) in [
        ("k v", "LEASE"),
        ("k v LEASE", "LEASE"),
        ("k v WAIT 9", "LEASE"),
        ("k v WAIT 9 EARLY 1", "LEASE"),
        ("k v LEASE 9 LEASE 9", "LEASE"),
        ("k v LEASE 9 WAIT", "WAIT"),
        ("k v LEASE 9 FOO", "FOO"),
        ("k v LEASE 9 TOKEN", "TOKEN"),
        ("k v LEASE 9 TOKEN x", "TOKEN"),
        ("k v LEASE 9 TOKEN 0000000000000000000000000000000A", "TOKEN"),
    ] {
        let error = client.run(&format!("ML.CACHEFETCH {arguments}")).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{arguments}: {error}");
    }
    for (arguments, named) in [
        ("1 k v WAIT 9", "WAIT"),
        ("1 k v LEASE 0", "LEASE"),
        ("1 k v 9 9", "'9'"),
        ("2 k v LEASE 9", "'9'"),
        ("0 k v LEASE 9", "numkeys"),
        ("5 k v LEASE 9", "numkeys"),
        ("1 k v LEASE 9 TOKEN x", "TOKEN"),
        ("1 k v TOKEN 00000000000000000000000000000000", "LEASE"),
    ] {
        let error = client.run(&format!("ML.CACHEMFETCH {arguments}")).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{arguments}: {error}");
    }
    for line in
        ["ML.CACHEFETCH k", "ML.CACHEMFETCH 1 k v", "ML.CACHERELEASE k", "ML.CACHERENEW k t"]
    {
        assert!(client.run(line).error().contains("wrong number of arguments"), "{line}");
    }
    for line in
        ["BACKOFF", "BACKOFF 0", "BACKOFF x", "FOO 1", "BACKOFF 1 BACKOFF 1", "BACKOFF 3600001"]
    {
        let error = client.run(&format!("ML.CACHERELEASE k t {line}")).error();
        assert!(error.starts_with("ERR "), "{line}: {error}");
    }
    assert_eq!(total(&mut client, "leases") + total(&mut client, "misses"), 0);
    assert_eq!(brief(&mut client, &["k v eaRLy 1000 wait 1 lease 9"]), ["LEASE"]);
    assert_eq!(brief(&mut client, &["l v LEASE 3600000 EARLY 0.000001"]), ["LEASE"]);
}

#[test]
fn a_batch_answers_by_position_and_waits_for_nothing() {
    let (_server, mut client, now) = frozen();
    client.run("ML.CACHESET fresh v a PX 9000").ok();
    client.run("ML.CACHESET stale v b PX 1 STALE 9000").ok();
    client.run("ML.CACHESET old v c PX 1 STALE 9000").ok();
    client.run("ML.CACHESET r:k v d PX 9000").ok();
    client.run("ML.CACHEVERSIONSET r w").ok();
    client.freeze(now + MILLI);
    lease(&mut client, "busy v", 60_000);
    lease(&mut client, "stale v", 60_000);
    let keys = "fresh cold stale busy cold old r:k fresh r:cold";
    let expected = ["HIT a", "LEASE", "STALE b", "BUSY", "BUSY", "LEASE c", "RETIRED", "HIT a"];
    let rows = Row::all(&client.run(&format!("ML.CACHEMFETCH 9 {keys} v LEASE 50000")));
    let brief: Vec<_> = rows.iter().map(Row::brief).collect();
    assert_eq!(brief[..8], expected, "a key named twice has one lease");
    assert_eq!(brief[8], "RETIRED");
    let ms: Vec<_> = rows.iter().map(|row| row.ms).collect();
    assert_eq!((ms[0], ms[1], ms[2], ms[6]), (8_999, 50_000, 9_000, 0));
    assert!((1..=60_000).contains(&ms[3]) && (1..=50_000).contains(&ms[4]));
    for (row, key) in rows.iter().zip(keys.split(' ')) {
        if let Some(token) = &row.token {
            assert!(fill(&mut client, &format!("{key} v filled"), token), "{key}");
        }
    }
    assert_eq!(total(&mut client, "waits"), 0);
}

#[test]
fn a_batch_with_a_key_of_another_type_leases_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SET string x").ok();
    for keys in ["string a", "a string", "a b string c"] {
        let error = client
            .run(&format!("ML.CACHEMFETCH {} {keys} v LEASE 60000", keys.split(' ').count()))
            .error();
        assert!(error.starts_with("WRONGTYPE"), "{keys}: {error}");
    }
    for line in ["ML.CACHEFETCH string v LEASE 60000 WAIT 9", "ML.CACHERELEASE string t"] {
        assert!(client.run(line).error().starts_with("WRONGTYPE"), "{line}");
    }
    assert_eq!(total(&mut client, "open_leases") + total(&mut client, "misses"), 0);
    let rows = Row::all(&client.run("ML.CACHEMFETCH 3 a b c v LEASE 60000"));
    assert!(rows.iter().all(|row| row.status == "LEASE"), "{rows:?}");
}

#[test]
fn as_many_leases_are_open_as_the_config_says() {
    let server = Server::with("ml.cache-max-leases 3");
    let mut client = server.client();
    let tokens: Vec<_> =
        ["a", "b", "c"].iter().map(|key| lease(&mut client, &format!("{key} v"), 60_000)).collect();
    let row = fetch(&mut client, "d v LEASE 60000 WAIT 60000");
    assert_eq!(
        (row.brief().as_str(), row.ms),
        ("BUSY", 0),
        "at once: there is nothing to wait for"
    );
    client.run("ML.CACHESET stale v x PX 1 STALE 60000").ok();
    wait_for("it to be stale", || client.run("ML.CACHEGET stale v") == Value::Nil);
    assert_eq!(fetch(&mut client, "stale v LEASE 60000").brief(), "STALE x");
    let mut crowd = Crowd::waiting(&server, 2, "a v LEASE 60000 WAIT 60000");
    assert!(fill(&mut client, "a v x", &tokens[0]), "what is open goes on");
    crowd.wait_for(2);
    assert_eq!(brief(&mut client, &["d v LEASE 60000", "e v LEASE 60000"]), ["LEASE", "BUSY"]);
    client.run("CONFIG SET ml.cache-max-leases 1").ok();
    assert!(fill(&mut client, "b v x", &tokens[1]) && fill(&mut client, "c v x", &tokens[2]));
    assert_eq!(brief(&mut client, &["e v LEASE 60000"]), ["BUSY"], "one is open still");
    client.run("CONFIG SET ml.cache-max-leases 2").ok();
    assert_eq!(brief(&mut client, &["e v LEASE 60000"]), ["LEASE"]);
    // One that has run out makes room.
    client.run("FLUSHALL").ok();
    lease(&mut client, "a v", 60_000);
    lease(&mut client, "b v", 1);
    wait_for("room", || fetch(&mut client, "f v LEASE 60000").status == "LEASE");
}

#[test]
fn every_step_is_counted() {
    let (server, mut client, now) = frozen();
    let cost_ms = {
        client.run("ML.CACHEGET n:k v"); // miss
        let token = lease(&mut client, "n:k v", 60_000); // miss, lease
        assert_eq!(fetch(&mut client, "n:k v LEASE 9").status, "BUSY"); // miss
        let mut crowd = Crowd::waiting(&server, 3, "n:k v LEASE 60000 WAIT 60000"); // 3 misses, 3 waits
        crowd.leave(0);
        wait_for("one to leave", || waiters(&mut client, "n:k") == 2);
        assert!(fill(&mut client, "n:k v 12345 PX 1000 STALE 1000", &token)); // 2 coalesced
        crowd.wait_for(2);
        assert!(fill(&mut client, "n:k v 1", &token), "it has set that already");
        assert!(!fill(&mut client, "n:k v 1", &"0".repeat(32))); // refused
        let info = client.run("ML.CACHEINFO n:k").map();
        info["versions"].items()[0].map()["cost_ms"].integer()
    };
    fetch(&mut client, "n:k v LEASE 9"); // hit
    client.run("ML.CACHEGET n:k v").text(); // hit
    client.run("ML.CACHEMGET 3 n:k n:k n:none v").items(); // 2 hits, miss
    client.freeze(now + 1_000 * MILLI);
    let row = fetch(&mut client, "n:k v LEASE 60000"); // miss, lease
    assert_eq!(row.brief(), "LEASE 12345");
    assert_eq!(fetch(&mut client, "n:k v LEASE 9").status, "STALE"); // miss, stale
    client.run("ML.CACHEMSET 2 n:a 1 n:b 22 v EX 9").items(); // 2 entries of 3 bytes
    client.run("ML.CACHEMFETCH 3 n:a n:k n:z v LEASE 1").items(); // hit, miss, stale; miss, lease
    wait_for("a lease to run out", || {
        lease_ms(&mut client, "n:z") == 0 && {
            // Noticed when leases are looked at.
            fetch(&mut client, "other:k v LEASE 60000");
            true
        }
    });
    client.run("ML.CACHEVERSIONSET n w").ok();
    assert_eq!(client.run("ML.CACHESET n:a v x"), Value::Nil); // refused
    assert_eq!(fetch(&mut client, "n:a v LEASE 9").status, "RETIRED"); // miss
    client.run("ML.CACHEGET n:a v"); // miss

    let expected: HashMap<&str, i64> = [
        ("hits", 5),
        ("misses", 13),
        ("stale", 2),
        ("leases", 3),
        ("waits", 3),
        ("coalesced", 2),
        ("expired_leases", 1),
        ("refused_sets", 2),
        ("saved_ms", 4 * cost_ms),
        ("entries_written", 3),
        ("bytes_written", 8),
    ]
    .into();
    let told: HashMap<_, _> = figures(&mut client, "n").into_iter().collect();
    for (figure, count) in &expected {
        assert_eq!(told.get(*figure), Some(count), "{figure}");
    }
    assert_eq!(told.len(), expected.len(), "{told:?}");
    // INFO tells of all namespaces together: of `other:k`, a miss and a lease.
    for (figure, count) in expected {
        let other = i64::from(figure == "misses" || figure == "leases");
        assert_eq!(total(&mut client, figure), count + other, "{figure}");
    }
    // The retired version's lease is over, that on the other key is open.
    assert_eq!(total(&mut client, "open_leases"), 1);
    let all = stats(&mut client);
    assert_eq!(all.keys().collect::<std::collections::BTreeSet<_>>().len(), 2, "{all:?}");
    let mut client3 = server.client3();
    assert_eq!(figures(&mut client3, "n"), counts(&all["n"]), "both protocols");
    client.run("ML.STATS CACHE RESET").map();
    assert_eq!(figures(&mut client, "n"), []);
    assert_eq!(total(&mut client, "hits"), 5, "INFO's totals are those since the start");
}
