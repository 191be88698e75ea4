//! Holders that are late, renew, lose their connection and say it again: nothing
//! is computed twice that need not be, and nothing stale is set.

use crate::support::fetches::{
    Crowd, Over, Row, fetch, fill, late, lease, lease_ms, total, waiters,
};
use crate::support::{Answer, Client, Random, Server, bulk, call, wait_for};
use redis::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const OWN: &str = "0123456789abcdef0123456789abcdef";

fn renew(client: &mut Client, key: &str, token: &str, ms: u64) -> i64 {
    call!(client, "ML.CACHERENEW", key, token, ms).integer()
}

#[test]
fn a_late_holder_sets_what_it_computed_unless_another_has_taken_over() {
    let server = Server::start();
    let mut client = server.client();
    let token = late(&mut client, "k v", 2_000);
    assert!(fill(&mut client, "k v x", &token), "nobody had taken over");
    assert_eq!(client.run("ML.CACHEGET k v"), bulk("x"));
    assert_eq!(total(&mut client, "late_sets"), 1);
    assert_eq!(total(&mut client, "expired_leases"), 1);
    assert!(version_cost(&mut client) >= 2_000, "from the grant");
    assert_eq!(fetch(&mut client, "k v LEASE 9").brief(), "HIT x");

    let token = late(&mut client, "taken v", 50);
    let other = lease(&mut client, "taken v", 60_000);
    assert!(!fill(&mut client, "taken v late", &token));
    assert!(fill(&mut client, "taken v y", &other));

    let token = late(&mut client, "gone v", 30);
    // Whatever looks at leases forgets those that have been over for as long again.
    wait_for("it to be forgotten", || {
        lease_ms(&mut client, "gone");
        total(&mut client, "past_leases") == 1
    });
    assert!(!fill(&mut client, "gone v late", &token));
}

fn version_cost(client: &mut Client) -> i64 {
    let info = client.run("ML.CACHEINFO k").map();
    info["versions"].items()[0].map()["cost_ms"].integer()
}

#[test]
fn what_ends_a_lease_ends_a_late_one_too() {
    for lines in [
        "ML.CACHEDROP k",
        "ML.CACHEDROP k VERSION v",
        "ML.CACHEDROP k STALE",
        "DEL k",
        "SET k x; DEL k",
        "RENAME k other",
        "MOVE k 1",
        "FLUSHDB",
        "FLUSHALL ASYNC",
        "SWAPDB 0 1",
        "ML.CACHESET k v y; ML.CACHEDROP k",
        "ML.CACHEVERSIONSET k v; ML.CACHEVERSIONSET k CLEAR",
        "DEBUG RELOAD",
    ] {
        let server = Server::start();
        let mut client = server.client();
        client.run("ML.CACHESET k old x").ok();
        let token = late(&mut client, "k v", 1_000);
        for line in lines.split("; ") {
            let answer = client.run(line);
            assert!(!answer.is_error(), "{line}: {answer:?}");
        }
        assert!(!fill(&mut client, "k v late", &token), "{lines}");
    }
    // And what does not, does not.
    for line in ["ML.CACHEDROP k VERSION old", "ML.CACHESET k old y", "DEL other", "PERSIST k"] {
        let server = Server::start();
        let mut client = server.client();
        client.run("ML.CACHESET k old x").ok();
        let token = late(&mut client, "k v", 3_000);
        let answer = client.run(line);
        assert!(!answer.is_error(), "{line}: {answer:?}");
        assert!(fill(&mut client, "k v late", &token), "{line}");
    }
}

#[test]
fn a_renewed_lease_lasts_from_now_also_one_that_ran_out() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 3_000);
    assert_eq!(renew(&mut client, "k", &token, 60_000), 1);
    assert!(lease_ms(&mut client, "k") > 50_000);
    assert_eq!(renew(&mut client, "k", &token, 60_000), 1, "again, after a lost connection");
    assert_eq!(renew(&mut client, "k", &token, 3_000), 1, "for less, too");
    wait_for("it to run out", || lease_ms(&mut client, "k") == 0);
    assert_eq!(renew(&mut client, "k", &token, 60_000), 1, "nobody has taken it");
    assert_eq!(fetch(&mut client, "k v LEASE 9").status, "BUSY");
    let mut crowd = Crowd::waiting(&server, 1, "k v LEASE 60000 WAIT 60000");
    assert!(fill(&mut client, "k v x", &token));
    crowd.wait_for(1);
    assert_eq!(crowd.row(0).brief(), "HIT x");
    assert_eq!(renew(&mut client, "k", &token, 60_000), 0, "completed");

    let token = late(&mut client, "taken v", 40);
    lease(&mut client, "taken v", 60_000);
    for (key, token) in [("taken", token.as_str()), ("taken", "x"), ("taken", OWN), ("cold", OWN)] {
        assert_eq!(renew(&mut client, key, token, 60_000), 0, "{key} {token}");
    }
    for ms in ["0", "-1", "x", "3600001"] {
        let error = call!(client, "ML.CACHERENEW", "taken", OWN, ms).error();
        assert!(
            error.starts_with("ERR milliseconds must be an integer from 1 to 3600000"),
            "{error}"
        );
    }
    client.run("SET string x").ok();
    assert!(client.run(&format!("ML.CACHERENEW string {OWN} 9")).error().starts_with("WRONGTYPE"));
}

#[test]
fn a_renewal_keeps_those_who_wait_waiting() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 3_000);
    let mut crowd = Crowd::waiting(&server, 2, "k v LEASE 60000 WAIT 60000");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(7_000) {
        assert_eq!(renew(&mut client, "k", &token, 3_000), 1);
    }
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0]);
    assert!(fill(&mut client, "k v x", &token));
    crowd.wait_for(2);
}

#[test]
fn a_released_late_lease_is_over_and_may_back_off() {
    let server = Server::start();
    let mut client = server.client();
    let token = late(&mut client, "k v", 3_000);
    assert_eq!(call!(client, "ML.CACHERELEASE", "k", &token).integer(), 1);
    assert!(!fill(&mut client, "k v x", &token));
    let token = late(&mut client, "off v", 3_000);
    assert_eq!(call!(client, "ML.CACHERELEASE", "off", &token, "BACKOFF", 60_000).integer(), 1);
    let row = fetch(&mut client, "off v LEASE 9 WAIT 60000");
    assert!(row.status == "BUSY" && row.ms > 50_000, "{row:?}");
    assert!(!fill(&mut client, "off v x", &token));
}

#[test]
fn a_fetch_said_again_with_its_token_is_told_of_its_lease() {
    let server = Server::start();
    let mut client = server.client();
    let first = fetch(&mut client, &format!("k v LEASE 60000 TOKEN {OWN}"));
    assert_eq!((first.token.as_deref(), first.ms), (Some(OWN), 60_000));
    wait_for("time to pass", || lease_ms(&mut client, "k") < 59_990);
    let again = fetch(&mut client, &format!("k v LEASE 9 WAIT 9 TOKEN {OWN}"));
    assert_eq!(again.token.as_deref(), Some(OWN));
    assert!((50_000..=59_990).contains(&again.ms), "the figures of now: {}", again.ms);
    assert_eq!(total(&mut client, "leases"), 1);
    let other = fetch(&mut client, "k v LEASE 9 TOKEN ffffffffffffffffffffffffffffffff");
    assert_eq!(other.status, "BUSY");
    assert!(fill(&mut client, "k v x PX 100000", OWN));
    assert_eq!(fetch(&mut client, &format!("k v LEASE 9 TOKEN {OWN}")).brief(), "HIT x");

    // Early, with the answer at hand: the lease is not lost with the reply.
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    let token = lease(&mut client, "k v", 60_000);
    wait_for("time to pass", || lease_ms(&mut client, "k") < 59_950);
    assert!(fill(&mut client, "k v x PX 1000", &token));
    client.freeze(now + 999_000);
    let early = fetch(&mut client, &format!("k v LEASE 60000 EARLY 1000 TOKEN {OWN}"));
    assert_eq!(early.brief(), "LEASE x");
    let again = fetch(&mut client, &format!("k v LEASE 60000 EARLY 0.000001 TOKEN {OWN}"));
    assert_eq!(again.brief(), "LEASE x");
}

#[test]
fn a_caller_that_waits_and_comes_again_takes_its_own_place() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::of(&server, 3);
    crowd.send(0, &format!("ML.CACHEFETCH k v LEASE 60000 WAIT 60000 TOKEN {OWN}"));
    wait_for("one to wait", || waiters(&mut client, "k") == 1);
    crowd.send(1, "ML.CACHEFETCH k v LEASE 60000 WAIT 60000");
    wait_for("two to wait", || waiters(&mut client, "k") == 2);
    // Its connection is lost, and the server does not know it yet.
    crowd.send(2, &format!("ML.CACHEFETCH k v LEASE 60000 WAIT 60000 TOKEN {OWN}"));
    crowd.wait_for(1);
    assert_eq!((crowd.answered(), crowd.row(0).status.as_str()), (vec![0], "BUSY"));
    assert_eq!(waiters(&mut client, "k"), 2);
    call!(client, "ML.CACHERELEASE", "k", token).integer();
    crowd.wait_for(2);
    assert_eq!(crowd.row(2).token.as_deref(), Some(OWN), "it is the one that has waited longest");
    assert!(fill(&mut client, "k v x", OWN));
    crowd.wait_for(3);
    assert_eq!(crowd.row(1).brief(), "HIT x");
    crowd.assert_in_step();
}

#[test]
fn a_batch_is_leased_under_one_token_and_told_again() {
    let server = Server::start();
    let mut client = server.client();
    let rows = Row::all(&client.run("ML.CACHEMFETCH 4 a b a c v LEASE 60000"));
    let tokens: Vec<_> = rows.iter().map(|row| row.token.clone()).collect();
    assert_eq!(rows[2].status, "BUSY", "at its second place");
    assert!(tokens[0].is_some() && tokens[0] == tokens[1] && tokens[0] == tokens[3], "{tokens:?}");
    let set = format!("ML.CACHEMSET 3 a 1 b 2 c 3 v TOKEN {}", tokens[0].clone().unwrap());
    assert_eq!(client.run(&set).items(), vec![Value::Okay; 3]);
    assert_eq!(client.run(&set).items(), vec![Value::Okay; 3], "said again");

    lease(&mut client, "busy v", 60_000);
    let fetch = format!("ML.CACHEMFETCH 5 d e busy d a v LEASE 60000 TOKEN {OWN}");
    for _ in 0..2 {
        let rows = Row::all(&client.run(&fetch));
        let told: Vec<_> = rows.iter().map(|row| row.status.as_str()).collect();
        assert_eq!(told, ["LEASE", "LEASE", "BUSY", "BUSY", "HIT"]);
        assert!(rows[..2].iter().all(|row| row.token.as_deref() == Some(OWN)));
    }
    client.run("ML.CACHEDROP e").integer();
    let set = format!("ML.CACHEMSET 2 d 1 e 2 v TOKEN {OWN}");
    assert_eq!(client.run(&set).items(), [Value::Okay, Value::Nil], "each for itself");
}

#[test]
fn a_set_said_again_is_ok_while_nothing_has_changed_and_writes_nothing() {
    let changes: [(&str, bool); 9] = [
        ("PING", true),
        ("ML.CACHESET k w other", true),
        ("ML.CACHEFETCH k v LEASE 9", true),
        ("ML.CACHESET k v newer", false),
        ("ML.CACHEDROP k", false),
        ("ML.CACHEDROP k STALE", false),
        ("DEL k", false),
        ("RENAME k other", false),
        ("FLUSHALL", false),
    ];
    for (change, stays) in changes {
        let server = Server::start();
        let mut client = server.client();
        let token = lease(&mut client, "k v", 60_000);
        let set = format!("k v x PX 100000 TOKEN {token}");
        assert_eq!(client.run(&format!("ML.CACHESET {set}")), Value::Okay);
        let answer = client.run(change);
        assert!(!answer.is_error(), "{change}: {answer:?}");
        let before = client.digest();
        let again = client.run(&format!("ML.CACHESET {set}"));
        assert_eq!(again, if stays { Value::Okay } else { Value::Nil }, "{change}");
        assert_eq!(client.digest(), before, "{change}: nothing is written");
    }
    // After the answer's own end it was set all the same.
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let set = format!("ML.CACHESET k v x PX 20 TOKEN {token}");
    client.run(&set).ok();
    wait_for("it to expire", || client.run("EXISTS k").integer() == 0);
    client.run(&set).ok();
    assert_eq!(client.run("EXISTS k").integer(), 0);
    assert_eq!(client.run(&format!("ML.CACHESET k w x TOKEN {token}")), Value::Nil);
    client.run("ML.CACHEVERSIONSET k w").ok();
    assert_eq!(client.run(&set), Value::Nil, "retired");
}

#[test]
fn a_batch_with_a_key_twice_said_again_is_ok() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let set = format!("ML.CACHEMSET 2 k x k y v TOKEN {token}");
    let both = Value::Array(vec![Value::Okay, Value::Okay]);
    assert_eq!(client.run(&set), both);
    let before = client.digest();
    assert_eq!(client.run(&set), both);
    assert_eq!(client.digest(), before);
}

#[test]
fn after_a_failover_no_token_of_before_sets_anything() {
    let mut primary = Server::start();
    let mut client = primary.client();
    let replica = primary.replica("");
    let open = lease(&mut client, "open v", 60_000);
    let done = lease(&mut client, "done v", 60_000);
    assert!(fill(&mut client, "done v x", &done));
    let ran_out = late(&mut client, "late v", 1_000);
    replica.catch_up(&primary);
    primary.kill();
    let mut client = replica.client();
    client.run("REPLICAOF NO ONE").ok();
    for (key, token) in [("open", &open), ("done", &done), ("late", &ran_out)] {
        assert!(!fill(&mut client, &format!("{key} v y"), token), "{key}");
        assert_eq!(renew(&mut client, key, token, 9), 0, "{key}");
    }
    assert_eq!(fetch(&mut client, "done v LEASE 9").brief(), "HIT x", "nothing is computed again");
    // The caller's own token is good for a new lease.
    let row = fetch(&mut client, &format!("open v LEASE 60000 TOKEN {open}"));
    assert_eq!(row.token.as_deref(), Some(open.as_str()));
    assert!(fill(&mut client, "open v y", &open));
}

/// Callers that each lose their connection, at random, before a call, after it was
/// sent, or after it was answered, and then say it again on a new one.
#[test]
fn callers_that_lose_their_connections_compute_nothing_twice_and_set_nothing_stale() {
    const KEYS: u64 = 6;
    let server = Server::start();
    let [_, seed] = Random::seeds();
    // Of each key, its truth: what is computed must be what was true at or after
    // the lease was granted, for a change drops the key.
    let truths: Vec<_> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let (computed, changes, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for caller in 0..4u64 {
            let (server, truths, computed, over) = (&server, &truths, &computed, &over);
            scope.spawn(move || {
                let mut random = Random::new(seed ^ (caller + 1));
                let mut client = server.client();
                // Sends, and says it again as often as the connection is lost.
                let mut say = |random: &mut Random, line: &str| loop {
                    match random.below(6) {
                        0 => client = server.client(),
                        1 => {
                            client.send_only(line);
                            client = server.client();
                        }
                        2 => {
                            client.run(line);
                            client = server.client();
                        }
                        _ => return client.run(line),
                    }
                };
                while !over.load(Relaxed) {
                    let at = random.below(KEYS);
                    let token: String =
                        random.bytes(16).iter().map(|byte| format!("{byte:02x}")).collect();
                    let call =
                        format!("ML.CACHEFETCH k{at} v LEASE 20000 WAIT 20000 TOKEN {token}");
                    let row = Row::of(&say(&mut random, &call));
                    match row.status.as_str() {
                        "LEASE" => {
                            let truth = truths[at as usize].load(Relaxed);
                            computed.fetch_add(1, Relaxed);
                            let call = format!(
                                "ML.CACHESET k{at} v {truth} PX 600000 TOKEN {}",
                                row.token.unwrap()
                            );
                            say(&mut random, &call);
                        }
                        "HIT" | "BUSY" => {}
                        status => panic!("{status}, seed {seed}"),
                    }
                }
            });
        }
        let _over = Over(&over);
        let (mut client, mut random) = (server.client(), Random::new(seed));
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let at = random.below(KEYS);
            let truth = truths[at as usize].fetch_add(1, Relaxed) + 1;
            client.run(&format!("ML.CACHEDROP k{at}"));
            changes.fetch_add(1, Relaxed);
            // Until it is computed anew: then it is true.
            wait_for("the answer", || {
                let answer = client.run(&format!("ML.CACHEGET k{at} v"));
                if answer != Value::Nil {
                    assert_eq!(answer, bulk(truth.to_string()), "stale, seed {seed}");
                }
                answer != Value::Nil
            });
        }
    });
    let (computed, changes) = (computed.load(Relaxed), changes.load(Relaxed));
    println!("{changes} changes, {computed} computations");
    // One for each change, one for each key at first; and now and then one that a
    // change came in between.
    let most = changes + KEYS + changes / 10;
    assert!(computed <= most, "{computed} for {changes} changes, seed {seed}");
    assert!(!server.log().contains("panic"));
}

/// A model that takes 1.2 × its lease, under the load of callers who do not wait.
#[test]
fn work_that_takes_longer_than_its_lease_is_cached_all_the_same() {
    const LEASE_MS: u64 = 1_000;
    let server = Server::start();
    let (over, sets, taken) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let (server, over, sets, taken) = (&server, &over, &sets, &taken);
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random::new(worker + 1));
                while !over.load(Relaxed) {
                    // Each key is asked for by few at a time, as most are.
                    let key = random.below(400);
                    let row = fetch(&mut client, &format!("k{key} v LEASE {LEASE_MS}"));
                    let Some(token) = row.token else { continue };
                    let start = Instant::now();
                    wait_for("the model", || {
                        start.elapsed() >= Duration::from_millis(LEASE_MS * 12 / 10)
                    });
                    sets.fetch_add(1, Relaxed);
                    let set = fill(&mut client, &format!("k{key} v x PX 600000"), &token);
                    taken.fetch_add(u64::from(set), Relaxed);
                }
            });
        }
        let _over = Over(&over);
        let start = Instant::now();
        wait_for("some computations", || {
            sets.load(Relaxed) >= 60 || start.elapsed() > Duration::from_secs(50)
        });
    });
    let (sets, taken) = (sets.load(Relaxed), taken.load(Relaxed));
    let late = total(&mut server.client(), "late_sets");
    println!("{taken} of {sets} sets were taken, {late} of them late");
    assert!(late > 0, "no set was late");
    assert!(taken * 10 >= sets * 9, "{taken} of {sets} were taken");
}
