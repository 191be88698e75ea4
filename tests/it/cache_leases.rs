//! The life of a lease: what ends it early, what does not, and that whoever had
//! it can fill nothing in once it has passed.

use crate::support::fetches::{Crowd, Row, fetch, figures, fill, lease, lease_ms, total, waiters};
use crate::support::{Answer, Client, Server, Stop, bulk, call, wait_for};
use redis::Value;

/// Leases and waits longer than any test.
const LONG: &str = "LEASE 60000 WAIT 60000";

/// A key with an answer of version `old`, a lease on version `v`, and three who
/// wait for that.
struct Scene {
    server: Server,
    client: Client,
    token: String,
    crowd: Crowd,
}

impl Scene {
    fn new() -> Self {
        let server = Server::start();
        let mut client = server.client();
        client.run("ML.CACHESET k old x EX 1000 STALE 1000000").ok();
        // By a client of its own, which is gone already.
        let token = lease(&mut server.client(), "k v", 60_000);
        let crowd = Crowd::waiting(&server, 3, &format!("k v {LONG}"));
        Self { server, client, token, crowd }
    }

    /// Runs commands apart by `;`.
    fn run(&mut self, lines: &str) {
        for line in lines.split("; ") {
            let answer = self.client.run(line);
            assert!(!answer.is_error(), "{line}: {answer:?}");
        }
    }

    /// The token of the lease is worth nothing, and writes nothing.
    #[track_caller]
    fn assert_void(&mut self, what: &str) {
        let before = self.client.digest();
        assert!(!fill(&mut self.client, "k v late", &self.token), "{what}: the old token sets");
        let release = call!(self.client, "ML.CACHERELEASE", "k", &self.token).integer();
        assert_eq!(release, 0, "{what}: it is nobody's to release");
        assert_eq!(self.client.digest(), before, "{what}: something was written");
    }
}

#[test]
fn an_invalidation_voids_the_lease_and_hands_a_new_one_to_one_waiter() {
    for lines in [
        "ML.CACHEDROP k",
        "ML.CACHEDROP k STALE",
        "ML.CACHEDROP k VERSION v",
        "ML.CACHEDROP k STALE VERSION v",
        "DEL k",
        "UNLINK k",
        "EXPIRE k -1",
        "SET k x; DEL k",
        "RENAME k other",
        "ML.CACHESET other old y; RENAME other k",
        "ML.CACHESET other old y; COPY other k REPLACE",
        "MOVE k 1",
        "FLUSHDB",
        "FLUSHDB ASYNC",
        "FLUSHALL",
        "FLUSHALL ASYNC",
        "SELECT 1; FLUSHALL; SELECT 0",
        "SWAPDB 0 1",
        "SWAPDB 1 0",
        "MULTI; DEL k; EXEC",
    ] {
        let mut scene = Scene::new();
        scene.run(lines);
        scene.crowd.wait_for(1);
        scene.assert_void(lines);
        scene.crowd.look();
        assert_eq!(scene.crowd.answered(), [0], "{lines}: the one that has waited longest");
        let row = scene.crowd.row(0);
        assert_eq!((row.brief().as_str(), row.ms), ("LEASE", 60_000), "{lines}");
        assert_eq!(waiters(&mut scene.client, "k"), 2, "{lines}: the others go on waiting");
        assert!(fill(&mut scene.client, "k v new", &row.token.unwrap()), "{lines}");
        scene.crowd.wait_for(3);
        let told = [1, 2].map(|member| scene.crowd.row(member).brief());
        assert_eq!(told, ["HIT new", "HIT new"], "{lines}");
        assert_eq!(total(&mut scene.client, "open_leases"), 0, "{lines}");
        scene.crowd.assert_in_step();
    }
}

#[test]
fn a_set_without_a_token_voids_the_lease_and_answers_all_who_wait() {
    for line in ["ML.CACHESET k v new", "ML.CACHEMSET 2 other y k new v EX 1000"] {
        let mut scene = Scene::new();
        scene.run(line);
        scene.crowd.wait_for(3);
        for member in 0..3 {
            assert_eq!(scene.crowd.row(member).brief(), "HIT new", "{line}");
        }
        scene.assert_void(line);
        assert_eq!(scene.client.run("ML.CACHEGET k v"), bulk("new"), "{line}");
        assert_eq!(total(&mut scene.client, "open_leases"), 0, "{line}");
        scene.crowd.assert_in_step();
    }
}

#[test]
fn nothing_else_voids_a_lease() {
    for lines in [
        // The connection of the holder is closed in any case.
        "PING",
        "ML.CACHEDROP k VERSION old",
        "ML.CACHEDROP k VERSION old STALE",
        "ML.CACHEDROP other",
        "ML.CACHESET k old y",
        "ML.CACHEMSET 2 k y other z old EX 100",
        "ML.CACHEGET k v",
        "EXPIRE k 5000",
        "PERSIST k",
        "COPY k other",
        "DEL other",
        "DUMP k",
        "SELECT 1; FLUSHDB; ML.CACHESET k v x; ML.CACHEDROP k; SELECT 0",
        "SWAPDB 1 2",
        "ML.CACHEVERSIONSET  v old",
        "ML.CACHEVERSIONSET k w",
        "ML.CACHERELEASE k 00000000000000000000000000000000",
        "CONFIG SET ml.cache-max-leases 1",
        "SAVE",
    ] {
        let mut scene = Scene::new();
        scene.run(lines);
        scene.crowd.look();
        assert_eq!(scene.crowd.answered(), [0; 0], "{lines}: nobody is woken");
        assert!(fill(&mut scene.client, "k v new", &scene.token), "{lines}");
        scene.crowd.wait_for(3);
        for member in 0..3 {
            assert_eq!(scene.crowd.row(member).brief(), "HIT new", "{lines}");
        }
        drop(scene.server);
    }
}

#[test]
fn a_lease_on_a_cold_key_outlives_what_removes_no_answer() {
    let server = Server::start();
    let mut client = server.client();
    for line in [
        "DEL k",
        "UNLINK k",
        "EXPIRE k 1",
        "RENAME k other",
        "MOVE k 1",
        "SET k x",
        "RPUSH k x y z",
        "ZADD k 1 x",
        "XADD k * f x",
        "HSET k f x",
        "ML.RATELIMIT k 5 60",
    ] {
        let token = lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::waiting(&server, 2, &format!("k v {LONG}"));
        // Of whatever type, it wakes nobody by being there.
        client.run(line);
        client.run("DEL k");
        client.run("PING");
        crowd.look();
        assert_eq!(crowd.answered(), [0; 0], "{line}");
        assert!(fill(&mut client, "k v x", &token), "{line}");
        crowd.wait_for(2);
        assert_eq!(crowd.row(1).brief(), "HIT x", "{line}");
        client.run("FLUSHALL").ok();
    }
}

#[test]
fn an_entry_that_expires_while_it_is_leased_voids_nothing() {
    // What the key holds; where the lease is taken on a stale answer, it is old
    // enough first.
    let entries = ["old x PX 60", "old x PX 30 STALE 30", "v x PX 30 STALE 60"];
    for (entry, lazily) in entries.iter().flat_map(|entry| [(entry, false), (entry, true)]) {
        let server = Server::start();
        let mut client = server.client();
        client.run(&format!("DEBUG SET-ACTIVE-EXPIRE {}", u8::from(!lazily))).ok();
        client.run(&format!("ML.CACHESET k {entry}")).ok();
        let mut token = None;
        wait_for("a lease", || {
            token = fetch(&mut client, "k v LEASE 60000").token;
            token.is_some()
        });
        wait_for("the key to expire", || {
            // DBSIZE looks at no key.
            (if lazily { client.run("EXISTS k") } else { client.run("DBSIZE") }).integer() == 0
        });
        assert!(lease_ms(&mut client, "k") > 0, "{entry}, lazily: {lazily}");
        assert!(fill(&mut client, "k v new", &token.unwrap()), "{entry}, lazily: {lazily}");
        assert_eq!(client.run("ML.CACHEGET k v"), bulk("new"));
    }
}

#[test]
fn a_paused_holder_fills_nothing_in() {
    let server = Server::start();
    let mut client = server.client();

    let token = lease(&mut client, "n:passed v", 30);
    let mut crowd = Crowd::of(&server, 1);
    crowd.send(0, &format!("ML.CACHEFETCH n:passed v {LONG}"));
    crowd.wait_for(1);
    assert!(!fill(&mut client, "n:passed v slow", &token), "somebody else took over");
    assert!(fill(&mut client, "n:passed v fast", &crowd.row(0).token.unwrap()));
    assert_eq!(client.run("ML.CACHEGET n:passed v"), bulk("fast"));

    let token = lease(&mut client, "n:over v", 30);
    wait_for("the lease to run out", || lease_ms(&mut client, "n:over") == 0);
    lease(&mut client, "n:over v", 60_000);
    assert!(!fill(&mut client, "n:over v slow", &token), "somebody took over, without waiting");
    assert_eq!(client.run("EXISTS n:over").integer(), 0);

    let token = lease(&mut client, "n:retired v", 60_000);
    client.run("ML.CACHEVERSIONSET n w").ok();
    assert!(!fill(&mut client, "n:retired v slow", &token), "the version was retired");
    client.run("ML.CACHEVERSIONSET n CLEAR").ok();
    assert!(!fill(&mut client, "n:retired v slow", &token), "and came back");
    assert_eq!(client.run("EXISTS n:retired").integer(), 0);

    let token = lease(&mut client, "n:filled v", 60_000);
    assert!(fill(&mut client, "n:filled v x", &token));
    client.run("ML.CACHESET n:filled v z").ok();
    assert!(!fill(&mut client, "n:filled v y", &token), "something else was set since");

    for (answer, what) in [
        ("n:other v x".to_owned(), "another key"),
        ("n:k w x".to_owned(), "another version"),
        ("n:K v x".to_owned(), "nearly the key"),
    ] {
        client.run("ML.CACHEDROP n:k").integer();
        let token = lease(&mut client, "n:k v", 60_000);
        assert!(!fill(&mut client, &answer, &token), "{what}");
        assert!(fill(&mut client, "n:k v x PX 1", &token), "{what}: it is as good as it was");
        wait_for("it to expire", || client.run("ML.CACHEGET n:k v") == Value::Nil);
    }
    for token in [&b""[..], b"x", &[b'0'; 32], &[b'0'; 33], &[0xff; 32], b"\0"] {
        let answer = call!(client, "ML.CACHESET", "n:k", "v", "x", "TOKEN", token);
        assert_eq!(answer, Value::Nil, "{token:?} is no token");
    }
    let refused = figures(&mut client, "n").into_iter().find(|(name, _)| name == "refused_sets");
    assert_eq!(refused.unwrap().1, 14);
}

#[test]
fn a_failover_in_the_middle_of_a_lease_costs_one_more_at_most() {
    let mut primary = Server::start();
    let mut client = primary.client();
    client.run("ML.CACHESET k old x EX 1000").ok();
    let replica = primary.replica("");
    let token = lease(&mut client, "k v", 60_000);
    primary.kill();

    let mut client = replica.client();
    let refused = client.run(&format!("ML.CACHEFETCH k v {LONG}")).error();
    assert!(refused.starts_with("READONLY"), "{refused}");
    client.run("REPLICAOF NO ONE").ok();
    assert!(!fill(&mut client, "k v late", &token), "before another has the lease");
    let new = lease(&mut client, "k v", 60_000);
    assert_ne!(new, token);
    assert_eq!(fetch(&mut client, "k v LEASE 60000").brief(), "BUSY", "one more, no herd");
    assert!(!fill(&mut client, "k v late", &token), "and after");
    assert!(fill(&mut client, "k v new", &new));
    assert_eq!(client.run("ML.CACHEGET k v"), bulk("new"));
}

#[test]
fn a_primary_that_becomes_a_replica_keeps_nobody_waiting() {
    let Scene { server, mut client, token, mut crowd } = Scene::new();
    let other = Server::start();
    call!(client, "REPLICAOF", "127.0.0.1", other.port()).ok();
    crowd.look_until("an end of the waits", |crowd| {
        (0..3).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    for answer in (0..3).flat_map(|member| crowd.answers(member)) {
        if answer.is_error() {
            assert!(answer.error().starts_with("UNBLOCKED"), "{answer:?}");
        } else {
            assert_eq!(Row::of(&answer).brief(), "BUSY");
        }
    }
    assert_eq!(total(&mut client, "waiters"), 0);
    assert_eq!(total(&mut client, "open_leases"), 0);
    server.catch_up(&other);
    assert!(
        client.run(&format!("ML.CACHESET k v x TOKEN {token}")).error().starts_with("READONLY")
    );
    client.run("REPLICAOF NO ONE").ok();
    assert!(!fill(&mut client, "k v late", &token), "a primary again, but not of that lease");
    assert_eq!(fetch(&mut client, "k v LEASE 1000").brief(), "LEASE");
}

#[test]
fn a_token_is_worth_nothing_after_a_restart_or_a_reload() {
    let mut server = Server::with("appendonly yes\nappendfsync always");
    server.client().run("ML.CACHESET k old x EX 1000").ok();
    let mut tokens = Vec::new();
    for how in [Some(Stop::Save), Some(Stop::Kill), None] {
        let token = lease(&mut server.client(), "k v", 60_000);
        match how {
            Some(how) => server.restart(how),
            None => server.client().run("DEBUG RELOAD").ok(),
        }
        let mut client = server.client();
        assert!(!fill(&mut client, "k v late", &token), "{how:?}");
        let new = lease(&mut client, "k v", 60_000);
        assert!(!fill(&mut client, "k v late", &token), "{how:?}");
        client.run(&format!("ML.CACHERELEASE k {new}")).integer();
        tokens.extend([token, new]);
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 6, "none is used twice");
}

#[test]
fn a_set_out_of_memory_is_an_error_and_the_lease_stays() {
    let Scene { server: _server, mut client, token, mut crowd } = Scene::new();
    client.run("CONFIG SET maxmemory 1").ok();
    let error = client.run(&format!("ML.CACHESET k v x TOKEN {token}")).error();
    assert!(error.starts_with("OOM "), "{error}");
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0], "nobody is told");
    assert!(lease_ms(&mut client, "k") > 0);
    assert_eq!(fetch(&mut client, "cold v LEASE 1").brief(), "BUSY", "no lease is granted");
    client.run("CONFIG SET maxmemory 0").ok();
    assert!(fill(&mut client, "k v x", &token));
    crowd.wait_for(3);
    assert_eq!(crowd.row(2).brief(), "HIT x");
}

#[test]
fn eviction_in_the_middle_of_leases_leaves_the_cold_ones_alone() {
    let server = Server::with("maxmemory-policy allkeys-lru");
    let mut client = server.client();
    let tokens: Vec<_> =
        (0..50).map(|key| lease(&mut client, &format!("cold{key} v"), 60_000)).collect();
    let used: usize = client.info("used_memory").parse().unwrap();
    call!(client, "CONFIG", "SET", "maxmemory", used + (3 << 20)).ok();
    let value = vec![b'x'; 10_000];
    for key in 0..1_000 {
        call!(client, "ML.CACHESET", format!("warm{key}"), "v", &value).ok();
        call!(client, "ML.CACHEFETCH", format!("warm{}", key / 2), "w", "LEASE", 60_000).items();
    }
    assert!(client.info("evicted_keys").parse::<i64>().unwrap() > 100, "too few for a test");
    for (key, token) in tokens.iter().enumerate() {
        assert!(fill(&mut client, &format!("cold{key} v x"), token), "cold{key}");
    }
    assert_eq!(client.run("PING").text(), "PONG");
}

#[test]
fn leases_and_those_who_wait_take_no_more_memory_than_they_may() {
    const MOST: i64 = 2 << 20;
    let server = Server::with("ml.cache-max-lease-bytes 2mb\nml.cache-max-leases 1000000");
    let mut client = server.client();
    let used = |client: &mut Client| client.info("used_memory").parse::<i64>().unwrap();
    let long = |number: usize| format!("{number}{}", "k".repeat(4_000));
    let batch = |from: usize, ms: u64| {
        let mut fetch = redis::cmd("ML.CACHEMFETCH");
        fetch.arg(100);
        (from..from + 100).for_each(|number| _ = fetch.arg(long(number)));
        fetch.arg(&["v", "LEASE"][..]).arg(ms).to_owned()
    };
    client.send(&batch(0, 9));
    client.run("FLUSHALL").ok();
    let before = used(&mut client);
    let mut granted = 0;
    for number in 0..100 {
        let rows = Row::all(&client.send(&batch(number * 100, 60_000)));
        granted += rows.iter().filter(|row| row.status == "LEASE").count();
    }
    assert!((300..700).contains(&granted), "{granted} leases on keys of 4 kB");
    assert!(total(&mut client, "lease_bytes") <= MOST);
    assert!(used(&mut client) - before < MOST + (1 << 20), "by {}", used(&mut client) - before);
    client.run("FLUSHALL").ok();
    assert_eq!(total(&mut client, "lease_bytes"), 0);

    // Those that ran out copy no key, and make room.
    let mut granted = 0;
    for number in 0..200 {
        let rows = Row::all(&client.send(&batch(number * 100, 3_600_000)));
        granted += rows.iter().filter(|row| row.status == "LEASE").count();
        client.send(&batch(number * 100, 1));
        if rows.iter().any(|row| row.status == "BUSY") {
            break;
        }
    }
    assert!(granted < 700, "{granted}");
    client.run("FLUSHALL").ok();
    let mut granted = 0;
    for number in 0..100 {
        let rows = Row::all(&client.send(&batch(number * 100, 1)));
        granted += rows.iter().filter(|row| row.status == "LEASE").count();
        wait_for("them to run out", || {
            lease_ms(&mut client, "k");
            total(&mut client, "open_leases") == 0
        });
    }
    assert_eq!(granted, 10_000, "what is over makes room");
    assert!(total(&mut client, "lease_bytes") <= MOST);
    assert!(used(&mut client) - before < MOST + (1 << 20), "by {}", used(&mut client) - before);

    // Nobody waits where there is no room to.
    client.run("FLUSHALL").ok();
    client.run("CONFIG SET ml.cache-max-lease-bytes 65536").ok();
    lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::of(&server, 400);
    crowd.send_all(&format!("ML.CACHEFETCH k v {LONG}"));
    wait_for("all to wait or not", || {
        crowd.look();
        waiters(&mut client, "k") as usize + crowd.answered().len() == 400
    });
    assert!((100..300).contains(&waiters(&mut client, "k")), "{}", waiters(&mut client, "k"));
    for member in crowd.answered() {
        assert_eq!(crowd.row(member).status, "BUSY");
    }
}
