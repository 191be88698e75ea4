//! Crowds that wait for one answer: who is told what and when, and that nobody
//! is forgotten, told twice, or woken for nothing.

use crate::support::fetches::{
    Crowd, Over, Row, fetch, fill, lease, percentile, pick_off, setting, total, waiters,
};
use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Nobody waits any more, and the server is well.
#[track_caller]
fn assert_nobody_waits(client: &mut Client, key: &str, context: &str) {
    assert_eq!(waiters(client, key), 0, "{context}: waiters by ML.CACHEINFO");
    assert_eq!(total(client, "waiters"), 0, "{context}: waiters by INFO");
    assert_eq!(client.run("PING").text(), "PONG", "{context}");
}

#[test]
fn leases_that_end_together_are_handed_over_in_turns() {
    let server = Server::start();
    let mut client = server.client();
    // How many are handed over before others have their turn depends on the machine.
    let mut are_in_turns = [600, 1_200, 2_400].into_iter().map(|keys| {
        let mut crowd = Crowd::of(&server, keys);
        for member in 0..keys {
            lease(&mut client, &format!("k{member} v"), 60_000);
            crowd.send(member, &format!("ML.CACHEFETCH k{member} v LEASE 60000 WAIT 60000"));
        }
        wait_for("all to wait", || total(&mut client, "waiters") == keys as i64);
        let commands = ["FLUSHALL ASYNC", "ML.CACHEFETCH other v LEASE 60000", "INFO everything"];
        let info = client.run_all(&commands).pop().unwrap().text();
        let left = info.lines().find_map(|line| line.strip_prefix("ml_cache_waiters:"));
        let left: usize = left.unwrap().parse().unwrap();
        assert!(left < keys, "{left} wait still");
        crowd.wait_for(keys);
        assert!((0..keys).all(|member| crowd.row(member).status == "LEASE"));
        crowd.assert_in_step();
        client.run("FLUSHALL").ok();
        left > 0
    });
    assert!(
        are_in_turns.any(|is_in_turns| is_in_turns),
        "nobody waits when others have their turn"
    );
}

#[test]
fn a_thousand_callers_of_a_cold_key_share_one_computation() {
    const CALLERS: usize = 1_000;
    let server = Server::start();
    let mut client = server.client();
    let mut crowd = Crowd::of(&server, CALLERS);
    crowd.send_all("ML.CACHEFETCH k v LEASE 60000 WAIT 60000");
    wait_for("all but one to wait", || waiters(&mut client, "k") == CALLERS as i64 - 1);
    crowd.wait_for(1);
    let [holder] = crowd.answered()[..] else { panic!("{:?} were answered", crowd.answered()) };
    let lease = crowd.row(holder);
    assert_eq!((lease.brief().as_str(), lease.ms), ("LEASE", 60_000));

    let start = Instant::now();
    crowd.send(holder, &format!("ML.CACHESET k v x PX 90000 TOKEN {}", lease.token.unwrap()));
    crowd.wait_for(CALLERS);
    let others: Vec<_> = (0..CALLERS).filter(|member| *member != holder).collect();
    for member in &others {
        let row = crowd.row(*member);
        assert_eq!((row.brief().as_str(), row.ms), ("HIT x", 90_000), "member {member}");
    }
    let times: Vec<_> = others.iter().map(|member| crowd.time(*member) - start).collect();
    let [half, most, last] = [50, 99, 100].map(|percent| percentile(&times, percent));
    println!("{CALLERS} callers: p50 {half:.1} ms, p99 {most:.1} ms, last {last:.1} ms");

    let counts = ["misses", "leases", "waits", "coalesced", "entries_written", "hits"];
    assert_eq!(counts.map(|count| total(&mut client, count)), [1_000, 1, 999, 999, 1, 0]);
    assert_eq!(total(&mut client, "open_leases"), 0);
    assert_nobody_waits(&mut client, "k", "filled");
    crowd.assert_in_step();
}

#[test]
fn when_holders_die_one_waiter_a_lease_period_takes_over_in_turn() {
    const WAITERS: usize = 100;
    const PERIODS: usize = 4;
    const LEASE: Duration = Duration::from_millis(1_500);
    let server = Server::start();
    let mut client = server.client();
    let mut holder = server.client();
    let id = holder.run("CLIENT ID").integer();
    lease(&mut holder, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, WAITERS, "k v LEASE 1500 WAIT 60000");
    drop(holder);
    wait_for("the holder to be gone", || {
        !client.run("CLIENT LIST").text().contains(&format!("id={id} "))
    });
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0], "a closed connection wakes nobody");
    assert_eq!(waiters(&mut client, "k"), WAITERS as i64);

    // The first waiter is handed the lease; it dies, and so do others.
    client.run("ML.CACHEDROP k").integer();
    let mut last: Option<Instant> = None;
    let mut token = None;
    for period in 0..=PERIODS {
        crowd.wait_for(period + 1);
        // The one that has waited longest, and nobody else.
        assert_eq!(crowd.answered(), (0..=period).collect::<Vec<_>>());
        let row = crowd.row(period);
        assert_eq!((row.brief().as_str(), row.ms), ("LEASE", 1_500), "period {period}");
        if let Some(last) = last {
            let passed = crowd.time(period) - last;
            // The clock of a test that was not run in time lags behind.
            assert!(passed > LEASE / 2, "period {period} after {passed:?}");
        }
        assert_eq!(waiters(&mut client, "k"), (WAITERS - period - 1) as i64);
        last = Some(crowd.time(period));
        token = row.token;
        if period < PERIODS {
            crowd.leave(period);
        }
    }
    assert!(fill(&mut client, "k v x", &token.unwrap()), "the last one sets it after all");
    crowd.wait_for(WAITERS);
    for member in PERIODS + 1..WAITERS {
        assert_eq!(crowd.row(member).brief(), "HIT x", "member {member}");
    }
    assert_eq!(total(&mut client, "expired_leases"), PERIODS as i64);
    assert_eq!(total(&mut client, "leases"), PERIODS as i64 + 2);
    assert_nobody_waits(&mut client, "k", "filled");
    crowd.assert_in_step();
}

#[test]
fn a_released_lease_is_handed_to_the_one_that_has_waited_longest() {
    let server = Server::start();
    let mut client = server.client();
    let first = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 5, "k v LEASE 70000 WAIT 60000");
    for other in [format!("other {first}"), "k nonsense".into(), format!("k {}", "0".repeat(32))] {
        assert_eq!(client.run(&format!("ML.CACHERELEASE {other}")).integer(), 0, "{other}");
    }
    let mut tokens = vec![first];
    for released in 0..4 {
        let release = format!("ML.CACHERELEASE k {}", tokens.last().unwrap());
        assert_eq!(client.run(&release).integer(), 1);
        crowd.wait_for(released + 1);
        assert_eq!(client.run(&release).integer(), 0, "once");
        assert_eq!(crowd.answered(), (0..=released).collect::<Vec<_>>());
        assert_eq!(crowd.row(released).ms, 70_000, "as long as it had asked for");
        tokens.push(crowd.row(released).token.unwrap());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 5, "each has a token of its own");
    crowd.leave(4);
    wait_for("the last one to be gone", || waiters(&mut client, "k") == 0);
    // With nobody to hand it to, it is anybody's.
    client.run(&format!("ML.CACHERELEASE k {}", crowd.row(3).token.unwrap())).integer();
    assert_eq!(fetch(&mut client, "k v LEASE 1000").brief(), "LEASE");
    crowd.assert_in_step();
}

#[test]
fn a_release_with_backoff_has_all_wait_and_come_back_later() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 10, "k v LEASE 1000 WAIT 60000");
    call!(client, "ML.CACHERELEASE", "k", &token, "BACKOFF", 60_000).integer();
    crowd.wait_for(10);
    for member in 0..10 {
        let row = crowd.row(member);
        assert_eq!((row.brief().as_str(), row.ms), ("BUSY", 60_000), "member {member}");
    }
    assert!(!fill(&mut client, "k v x", &token), "given up is given up");
    // Newcomers wait for nothing, for nobody computes.
    let row = fetch(&mut client, "k v LEASE 1000 WAIT 60000");
    assert_eq!(row.status, "BUSY");
    assert!((1..=60_000).contains(&row.ms), "{} ms", row.ms);
    // After it, the next one is to compute.
    let token = lease(&mut client, "s v", 60_000);
    let start = Instant::now();
    call!(client, "ML.CACHERELEASE", "s", &token, "BACKOFF", 400).integer();
    wait_for("the backoff to be over", || match fetch(&mut client, "s v LEASE 60000") {
        row if row.status == "BUSY" => {
            assert!((0..=400).contains(&row.ms), "{} ms", row.ms);
            false
        }
        row => row.status == "LEASE" || panic!("{row:?}"),
    });
    let passed = start.elapsed();
    assert!(passed >= Duration::from_millis(400), "a lease after {passed:?}");
    // What takes the answer away has nobody wait for the backoff.
    for (end, is_over) in [
        ("ML.CACHEDROP b VERSION w", false),
        ("ML.CACHEDROP b VERSION v", true),
        ("ML.CACHEDROP b", true),
        ("ML.CACHEDROP b STALE", true),
        ("ML.CACHESET b v x PX 60000", true),
        ("FLUSHALL", true),
    ] {
        client.run("DEL b");
        let token = lease(&mut client, "b v", 60_000);
        call!(client, "ML.CACHERELEASE", "b", &token, "BACKOFF", 60_000).integer();
        assert_eq!(fetch(&mut client, "b v LEASE 1000").status, "BUSY", "{end}");
        client.run(end);
        let status = fetch(&mut client, "b v LEASE 1000").status;
        assert_eq!(status != "BUSY", is_over, "{end}: {status}");
        client.run("ML.CACHEDROP b");
    }
    assert_nobody_waits(&mut client, "k", "backed off");
    crowd.assert_in_step();
}

#[test]
fn a_wait_ends_in_one_way_and_leaves_nothing() {
    type End = fn(&mut Client, &mut Crowd, i64);
    let ends: [(&str, &str, End); 5] = [
        ("CLIENT KILL", "closed", |client, _, id| {
            call!(client, "CLIENT", "KILL", "ID", id).integer();
        }),
        ("a disconnect", "closed", |_, crowd, _| crowd.leave(0)),
        ("CLIENT UNBLOCK TIMEOUT", "BUSY", |client, _, id| {
            assert_eq!(call!(client, "CLIENT", "UNBLOCK", id, "TIMEOUT").integer(), 1);
        }),
        ("CLIENT UNBLOCK ERROR", "UNBLOCKED", |client, _, id| {
            assert_eq!(call!(client, "CLIENT", "UNBLOCK", id, "ERROR").integer(), 1);
        }),
        ("its time being over", "BUSY", |_, _, _| {}),
    ];
    let server = Server::start();
    let mut client = server.client();
    for (name, expected, end) in ends {
        let key = name.replace(' ', "-");
        let token = lease(&mut client, &format!("{key} v"), 60_000);
        let wait_ms = if name.contains("time being") { 120 } else { 60_000 };
        let mut crowd = Crowd::of(&server, 1);
        crowd.send(0, "CLIENT ID");
        crowd.wait_for(1);
        let id = crowd.answers(0)[0].integer();
        let start = Instant::now();
        crowd.send(0, &format!("ML.CACHEFETCH {key} v LEASE 1000 WAIT {wait_ms}"));
        wait_for("it to wait", || waiters(&mut client, &key) == 1 || wait_ms < 60_000);
        end(&mut client, &mut crowd, id);
        crowd.look_until(name, |crowd| crowd.is_answered(0) || !crowd.is_connected(0));
        wait_for("it to be forgotten", || waiters(&mut client, &key) == 0);
        assert_nobody_waits(&mut client, &key, name);
        match expected {
            "closed" => assert!(!crowd.is_connected(0) && !crowd.is_answered(0), "{name}"),
            "UNBLOCKED" => {
                let error = crowd.answers(0)[1].error();
                assert!(error.starts_with("UNBLOCKED"), "{name}: {error}");
            }
            _ => {
                let row = crowd.row(0);
                assert_eq!(row.status, "BUSY", "{name}");
                assert!((1..=60_000).contains(&row.ms), "{name}: what is left of the lease");
            }
        }
        if wait_ms < 60_000 {
            let waited = crowd.time(0) - start;
            assert!(waited >= Duration::from_millis(wait_ms), "BUSY after {waited:?}");
        }
        crowd.assert_in_step();
        // The lease is as it was, and set for those who come now.
        assert!(fill(&mut client, &format!("{key} v x"), &token), "{name}");
        assert_eq!(fetch(&mut client, &format!("{key} v LEASE 1")).brief(), "HIT x");
        crowd.look();
    }
    assert_eq!(total(&mut client, "open_leases"), 0);
}

/// In one go, so that the server has not been through its loop in between.
#[test]
fn one_unblocked_with_an_error_as_it_is_answered_is_answered_once() {
    for how in ["ERROR", "TIMEOUT"] {
        let server = Server::start();
        let mut client = server.client();
        let token = lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::of(&server, 1);
        crowd.send(0, "CLIENT ID");
        crowd.wait_for(1);
        let id = crowd.answers(0)[0].integer();
        crowd.send(0, "ML.CACHEFETCH k v LEASE 60000 WAIT 60000");
        wait_for("it to wait", || waiters(&mut client, "k") == 1);
        let set = format!("ML.CACHESET k v x TOKEN {token}");
        client.run_all(&[set, format!("CLIENT UNBLOCK {id} {how}")]);
        crowd.wait_for(1);
        match crowd.answers(0).last().unwrap() {
            error if error.is_error() && how == "ERROR" => {
                assert!(error.error().starts_with("UNBLOCKED"), "{error:?}");
            }
            answer => assert_eq!(Row::of(answer).brief(), "HIT x", "{how}"),
        }
        crowd.assert_in_step();
    }
}

#[test]
fn one_that_died_is_not_handed_the_lease() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 4, "k v LEASE 60000 WAIT 60000");
    crowd.leave(0);
    crowd.leave(1);
    wait_for("two to be gone", || waiters(&mut client, "k") == 2);
    client.run(&format!("ML.CACHERELEASE k {token}")).integer();
    crowd.wait_for(1);
    assert_eq!(crowd.answered(), [2]);
    assert!(fill(&mut client, "k v x", &crowd.row(2).token.unwrap()));
    crowd.wait_for(2);
    assert_eq!(crowd.row(3).brief(), "HIT x");
    crowd.assert_in_step();
}

#[test]
fn one_that_dies_as_it_is_handed_the_lease_is_not_the_end_of_it() {
    for how in ["KILL ID {}", "UNBLOCK {} ERROR", "UNBLOCK {} TIMEOUT"] {
        let server = Server::start();
        let mut client = server.client();
        let token = lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::of(&server, 2);
        for member in 0..2 {
            crowd.send(member, "CLIENT ID");
            crowd.look_until("its id", |crowd| crowd.is_answered(member));
            let lease_ms = [500, 60_000][member];
            crowd.send(member, &format!("ML.CACHEFETCH k v LEASE {lease_ms} WAIT 60000"));
            wait_for("it to wait", || waiters(&mut client, "k") == member as i64 + 1);
        }
        let end = how.replace("{}", &crowd.answers(0)[0].integer().to_string());
        client.run_all(&[format!("ML.CACHERELEASE k {token}"), format!("CLIENT {end}")]);
        crowd.look_until("the next one's turn", |crowd| crowd.is_answered(1));
        assert_eq!(crowd.row(1).brief(), "LEASE", "{how}");
        assert!(fill(&mut client, "k v x", &crowd.row(1).token.unwrap()), "{how}");
        assert_nobody_waits(&mut client, "k", how);
        crowd.assert_in_step();
    }
}

#[test]
fn a_set_within_a_transaction_or_a_script_answers_those_who_wait() {
    let server = Server::start();
    let mut client = server.client();
    let script = "redis.call('ML.CACHESET', KEYS[1], 'v', 'x', 'TOKEN', ARGV[1]) return 'done'";
    for way in ["MULTI", "EVAL"] {
        let token = lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::waiting(&server, 3, "k v LEASE 60000 WAIT 60000");
        let answer = if way == "EVAL" {
            call!(client, "EVAL", script, 1, "k", token)
        } else {
            client.run("MULTI").ok();
            client.run(&format!("ML.CACHESET k v x TOKEN {token}"));
            client.run("ML.CACHEINFO k");
            client.run("ML.CACHESET k v y");
            client.run("EXEC").items()[0].clone()
        };
        assert!(!answer.is_error() && answer != Value::Nil, "{way}: {answer:?}");
        crowd.wait_for(3);
        for member in 0..3 {
            assert_eq!(crowd.row(member).brief(), "HIT x", "{way}: what was set first");
        }
        assert_nobody_waits(&mut client, "k", way);
        crowd.assert_in_step();
        client.run("DEL k");
    }
}

#[test]
fn waiters_of_a_key_that_is_evicted_are_answered() {
    let server = Server::with("maxmemory-policy allkeys-random");
    let mut client = server.client();
    client.run("ML.CACHESET k old x").ok();
    lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 3, "k v LEASE 60000 WAIT 60000");
    client.run("CONFIG SET maxmemory 1").ok();
    wait_for("the key to be evicted", || client.run("DBSIZE").integer() == 0);
    // What the lease was granted for may be gone as well, and there is no room for
    // another.
    crowd.wait_for(3);
    for member in 0..3 {
        assert_eq!(crowd.row(member).brief(), "BUSY");
    }
    client.run("CONFIG SET maxmemory 0").ok();
    assert_nobody_waits(&mut client, "k", "evicted");
    crowd.assert_in_step();
}

/// The tokens that the crowd of the storm was granted, each with its place.
type Tokens = Mutex<Vec<(String, String)>>;

/// Changes what some wait for.
fn disturb(server: &Server, client: &mut Client, random: &mut Random, tokens: &Tokens) {
    let key = format!("k{}", random.below(5));
    let place = format!("{key} v{}", random.below(2));
    let held = tokens.lock().unwrap().pop();
    let (held, token) = held.unwrap_or_else(|| (place.clone(), "0".repeat(32)));
    let held_key = held.split(' ').next().unwrap();
    let line = match random.below(40) {
        0..=9 => format!("ML.CACHESET {held} x PX 30 STALE 20 TOKEN {token}"),
        10 => format!("ML.CACHESET {place} x PX 30"),
        11..=14 => format!("ML.CACHERELEASE {held_key} {token}"),
        15 => format!("ML.CACHERELEASE {held_key} {token} BACKOFF 5"),
        16..=18 => format!("ML.CACHEDROP {key}"),
        19 => format!("ML.CACHEDROP {key} VERSION v1 STALE"),
        20 => format!("DEL {key}"),
        21 => "FLUSHDB".to_owned(),
        22 => "FLUSHALL ASYNC".to_owned(),
        23 => "SWAPDB 0 1".to_owned(),
        24 => format!("RENAME {key} k{}", random.below(5)),
        // As long as it follows nobody can be reached.
        26 => {
            let _ = client.try_run("REPLICAOF 127.0.0.1 1");
            "REPLICAOF NO ONE".to_owned()
        }
        25 => "ML.CACHEVERSIONSET  v0".to_owned(),
        _ => "ML.CACHEVERSIONSET  CLEAR".to_owned(),
    };
    // A server that changes its role closes the connections of those that it
    // blocks, as some do who flush.
    while client.try_run(&line).is_err() {
        *client = server.client();
    }
}

#[test]
fn a_storm_leaves_nobody_waiting_and_answers_each_call_once() {
    let most = setting("MLSERVE_SOAK_WAITERS", 100) as usize;
    let seconds = setting("MLSERVE_SOAK_SECONDS", 3);
    let server = Server::start();
    let [_, seed] = Random::seeds();
    let (tokens, is_over) = (Tokens::default(), AtomicBool::new(false));
    let mut random = Random::new(seed);
    let mut crowd = Crowd::of(&server, most);
    let mut places = vec![String::new(); most];
    const ENDS: [&str; 5] = ["HIT", "LEASE", "BUSY", "RETIRED", "UNBLOCKED"];
    let mut told = BTreeMap::<String, i32>::new();
    let (mut calls, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        for disturber in 1..4 {
            let (tokens, is_over, server) = (&tokens, &is_over, &server);
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random::new(seed ^ disturber));
                while !is_over.load(Relaxed) {
                    match disturber {
                        1 => pick_off(&mut client, &mut random, "ml.cachefetch"),
                        _ => disturb(server, &mut client, &mut random, tokens),
                    }
                }
            });
        }
        let _over = Over(&is_over);
        let end = Instant::now() + Duration::from_secs(seconds);
        // On a slow machine until each end was seen, if it comes.
        let latest = end + Duration::from_secs(60);
        let is_seen = |told: &BTreeMap<_, _>| ENDS.iter().all(|end| told.contains_key(*end));
        while Instant::now() < end || !is_seen(&told) && Instant::now() < latest {
            crowd.look();
            for (member, place) in places.iter_mut().enumerate() {
                if !crowd.is_connected(member) || random.below(2_000) == 0 {
                    crowd.come_back(member);
                    lost += 1;
                } else if !crowd.is_answered(member) {
                    continue;
                }
                if let Some(answer) = crowd.answers(member).last() {
                    *told.entry(outcome(answer, place, &tokens)).or_insert(0) += 1;
                    // Each is answered once, on a clean slate.
                    crowd.forget(member);
                }
                *place = format!("k{} v{}", random.below(5), random.below(2));
                let (lease_ms, wait_ms) = (5 + random.below(50), 1 + random.below(300));
                let call = format!("ML.CACHEFETCH {place} LEASE {lease_ms} WAIT {wait_ms}");
                crowd.send(member, &call);
                calls += 1;
            }
        }
    });
    println!("{calls} calls, {lost} connections lost: {told:?}");
    for status in ENDS {
        assert!(told.contains_key(status), "nobody was told {status}, seed {seed}");
    }
    crowd.look_until("an answer for each", |crowd| {
        (0..most).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    crowd.assert_in_step();
    assert!(!server.log().contains("panic"));
    let mut client = server.client();
    wait_for("those killed to be forgotten", || total(&mut client, "waiters") == 0);
    for key in 0..5 {
        assert_nobody_waits(&mut client, &format!("k{key}"), &format!("seed {seed}"));
    }
}

/// What a caller in the storm was told; a token of its own is kept for others
/// to use.
fn outcome(answer: &Value, place: &str, tokens: &Tokens) -> String {
    if answer.is_error() {
        return answer.error().split(' ').next().unwrap().to_owned();
    }
    let row = Row::of(answer);
    if let Some(token) = row.token {
        tokens.lock().unwrap().push((place.to_owned(), token));
    }
    row.status
}
