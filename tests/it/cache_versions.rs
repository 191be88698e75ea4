//! ML.CACHEVERSION: one command retires a model, and nobody reads its answers
//! under another's name. How the versions are kept is in `cache_versions_kept`.

use crate::support::fetches::{Crowd, Over, Row, fetch, figures, fill, lease, total};
use crate::support::{Answer, Client, Random, Server, Stop, Tap, bulk, call, nils, wait_for};
use redis::Value;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The versions in force in a namespace.
fn in_force(client: &mut Client, namespace: &str) -> Vec<String> {
    call!(client, "ML.CACHEVERSION", namespace).texts()
}

/// What is read under each version: `-` for nothing.
fn read(client: &mut Client, key: &str, versions: &[&str]) -> String {
    let answers = versions.iter().map(|version| {
        let answer = call!(client, "ML.CACHEGET", key, version);
        let batch = call!(client, "ML.CACHEMGET", version, key, key);
        assert_eq!(batch.items(), [answer.clone(), answer.clone()], "{key} {version}");
        if answer == Value::Nil { "-".to_owned() } else { answer.text() }
    });
    answers.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_retired_version_misses_at_once_and_comes_back() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET m:k v1 a").ok();
    client.run("ML.CACHESET m:k v2 b").ok();
    client.run("ML.CACHESET other:k v1 c").ok();
    assert_eq!(client.run("ML.CACHEVERSION m SET v2").texts(), ["v2"]);
    assert_eq!(read(&mut client, "m:k", &["v1", "v2"]), "- b");
    assert_eq!(read(&mut client, "other:k", &["v1"]), "c", "another namespace");
    assert_eq!(fetch(&mut client, "m:k v1 LEASE 9 WAIT 60000").status, "RETIRED");
    assert_eq!(fetch(&mut client, "m:k v2 LEASE 9").brief(), "HIT b");
    let rows = Row::all(&client.run("ML.CACHEMFETCH v1 LEASE 9 m:k other:k"));
    assert_eq!([rows[0].brief(), rows[1].brief()], ["RETIRED", "HIT c"]);
    // It cannot be filled either, and what it had stays as it was.
    let before = client.digest();
    for set in [
        "ML.CACHESET m:k v1 late",
        "ML.CACHESET m:k v1 late TOKEN 00000000000000000000000000000000",
        "ML.CACHESET m:new v1 late PXAT 1",
        "ML.CACHEMSET v1 EX 9 m:k late",
        "ML.CACHEMSET v1 EX 9 other:k late m:k late",
        "ML.CACHEMSET v1 EX 9 m:k late other:k late",
    ] {
        assert_eq!(client.run(set), Value::Nil, "{set}");
        assert_eq!(client.digest(), before, "{set}");
    }
    for (back, versions, read_then) in [
        ("ML.CACHEVERSION m CLEAR", vec![], "a b -"),
        ("ML.CACHEVERSION m SET v3 v1", vec!["v3", "v1"], "a - -"),
        ("ML.CACHEVERSION m SET v1 v2", vec!["v1", "v2"], "a b -"),
    ] {
        assert_eq!(client.run(back).texts(), versions, "{back}");
        assert_eq!(read(&mut client, "m:k", &["v1", "v2", "v3"]), read_then, "{back}");
    }
    assert_eq!(client.run("ML.CACHEDROP m:k VERSION v2").integer(), 1);
    assert!(figures(&mut client, "m").contains(&("refused_sets".to_owned(), 6)));
}

#[test]
fn those_who_wait_for_a_retired_version_are_told() {
    let server = Server::start();
    let mut client = server.client();
    let retired = lease(&mut client, "m:k v1", 60_000);
    let kept = lease(&mut client, "m:k v2", 60_000);
    let elsewhere = lease(&mut client, "n:k v1", 60_000);
    let mut first = Crowd::waiting(&server, 5, "m:k v1 LEASE 60000 WAIT 60000");
    let mut second = Crowd::waiting(&server, 2, "m:k v2 LEASE 60000 WAIT 60000");
    let mut third = Crowd::waiting(&server, 2, "n:k v1 LEASE 60000 WAIT 60000");
    client.run("SELECT 1").ok();
    client.run("ML.CACHEVERSION m SET v2").items();
    client.run("SELECT 0").ok();
    first.wait_for(5);
    for member in 0..5 {
        let row = first.row(member);
        assert_eq!((row.brief().as_str(), row.ms), ("RETIRED", 0), "member {member}");
    }
    for (others, place, token) in
        [(&mut second, "m:k v2", &kept), (&mut third, "n:k v1", &elsewhere)]
    {
        others.look();
        assert_eq!(others.answered(), [0; 0], "{place}");
        assert!(fill(&mut client, &format!("{place} x"), token), "{place}");
        others.wait_for(2);
        others.assert_in_step();
    }
    first.assert_in_step();
    assert_eq!((total(&mut client, "open_leases"), total(&mut client, "waiters")), (0, 0));
    client.run("ML.CACHEVERSION m CLEAR").items();
    assert!(!fill(&mut client, "m:k v1 late", &retired), "the old token stays void");
    assert_eq!(fetch(&mut client, "m:k v1 LEASE 60000").brief(), "LEASE");
    assert!(!fill(&mut client, "m:k v1 late", &retired));
}

#[test]
fn a_namespace_is_what_stands_before_the_first_colon() {
    let server = Server::start();
    let mut client = server.client();
    let long = "n".repeat(255);
    for (namespace, inside, outside) in [
        ("m", vec!["m:k", "m:", "m:a:b", "m::"], vec!["m", "M:k", "mm:k", ":m:k", "k:m", " m:k"]),
        ("", vec!["k", ":k", "::", "", "(other)"], vec!["k:", "m:k", " :k"]),
        ("{t}x", vec!["{t}x:1"], vec!["{t}:1", "{t}x", "x:1"]),
        ("\0\u{e9} ", vec!["\0\u{e9} :k"], vec!["\0:k", "\u{e9} :k"]),
        (&long, vec![&format!("{long}:k")], vec![&format!("n{long}:k"), &long[1..]]),
    ] {
        call!(client, "ML.CACHEVERSION", namespace, "SET", "w").items();
        for (keys, answer) in [(&inside, Value::Nil), (&outside, Value::Okay)] {
            for key in keys {
                let context = format!("{key:?} of {namespace:?}");
                assert_eq!(call!(client, "ML.CACHESET", key, "v", "x"), answer, "{context}");
            }
        }
        call!(client, "ML.CACHEVERSION", namespace, "CLEAR").items();
    }
}

#[test]
fn a_call_that_makes_no_sense_is_refused_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("ML.CACHEVERSION m SET v w").items();
    tap.names(&mut client);
    let versions: Vec<_> = (0..17).map(|version| format!("v{version}")).collect();
    let long = "n".repeat(256);
    let refused = |client: &mut Client, arguments: &[&str], named: &str| {
        let error = call!(client, "ML.CACHEVERSION", arguments).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{arguments:?}: {error}");
    };
    for (arguments, named) in [
        (&["m:k"][..], "namespace"),
        (&["m:", "SET", "v"], "namespace"),
        (&[":", "CLEAR"], "namespace"),
        (&[&long], "namespace"),
        (&[&long, "SET", "v"], "namespace"),
        (&["(other)", "SET", "v"], "(other)"),
        (&["m", "FOO"], "SET, CLEAR"),
        (&["m", "", "v"], "SET, CLEAR"),
        (&["m", "SET"], "wrong number of arguments"),
        (&["m", "CLEAR", "v"], "wrong number of arguments"),
        (&[], "wrong number of arguments"),
        (&["m", "SET", ""], "version"),
        (&["m", "SET", "x", &long], "version"),
    ] {
        refused(&mut client, arguments, named);
    }
    let all: Vec<_> = ["m", "SET"].into_iter().chain(versions.iter().map(String::as_str)).collect();
    refused(&mut client, &all, "16");
    for line in ["ML.CACHESTATS FOO", "ML.CACHESTATS NAMESPACE", "ML.CACHESTATS RESET RESET"] {
        assert!(client.run(line).error().starts_with("ERR "), "{line}");
    }
    assert_eq!(in_force(&mut client, "m"), ["v", "w"]);
    // What is so already is no change.
    for line in ["m SET v w", "m SET w v", "m set v w v w", "n CLEAR", "m", "n"] {
        client.run(&format!("ML.CACHEVERSION {line}")).items();
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    let all: Vec<_> = versions[..16].iter().chain(&versions[..16]).collect();
    assert_eq!(call!(client, "ML.CACHEVERSION", "m", "sEt", all).texts(), versions[..16]);
    client.run("ML.CACHEVERSION m cleaR").items();
    assert_eq!(tap.names(&mut client), ["ML.APPLYVERSIONS"; 2]);
    assert_eq!(client.run("ML.CACHEVERSION m"), nils(0));
}

#[test]
fn one_table_serves_all_databases_and_outlives_what_is_in_them() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SELECT 3").ok();
    client.run("ML.CACHEVERSION m SET new").items();
    for line in
        ["PING", "SELECT 0", "FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC", "SWAPDB 0 3", "SELECT 9"]
    {
        client.run(line);
        assert_eq!(in_force(&mut client, "m"), ["new"], "{line}");
        assert_eq!(client.run("ML.CACHESET m:k old x"), Value::Nil, "{line}");
        client.run("ML.CACHESET m:k new x").ok();
    }
    client.run("MULTI").ok();
    client.run("ML.CACHEVERSION m SET old");
    client.run("ML.CACHEGET m:k new");
    client.run("ML.CACHESET m:k old y");
    client.run("ML.CACHEVERSION m");
    let answers = client.run("EXEC").items();
    let expected = [Value::Array(vec![bulk("old")]), Value::Nil, Value::Okay];
    assert_eq!(answers[..3], expected, "within a transaction as well");
    assert_eq!(answers[3], answers[0]);
}

#[test]
fn replicas_follow_and_show_the_versions_in_force() {
    let server = Server::with("repl-diskless-sync-delay 0");
    let mut client = server.client();
    let replica = server.replica("ml.cache-max-namespaces 1");
    client.run("ML.CACHESET m:k old x EX 900").ok();
    client.run("ML.CACHEVERSION m SET new newer").items();
    client.run("ML.CACHEVERSION  SET w").items();
    client.run("ML.CACHEVERSION gone SET w").items();
    client.run("ML.CACHEVERSION gone CLEAR").items();
    replica.catch_up(&server);
    let mut replicas = vec![("in sync", replica)];
    for diskless in ["no", "yes"] {
        for load in ["disabled", "swapdb"] {
            call!(client, "CONFIG", "SET", "repl-diskless-sync", diskless).ok();
            let late = server.replica(&format!("repl-diskless-load {load}"));
            replicas.push(("late", late));
        }
    }
    for (what, replica) in &replicas {
        let mut reader = replica.client();
        assert_eq!(read(&mut reader, "m:k", &["old"]), "-", "{what}");
        assert_eq!(fetch(&mut reader, "m:k old LEASE 9").status, "RETIRED", "{what}");
        let stats = reader.run("ML.CACHESTATS").map();
        assert_eq!(stats["m"].map()["versions"].texts(), ["new", "newer"], "{what}");
        assert_eq!(stats[""].map()["versions"].texts(), ["w"], "{what}");
        assert!(!stats.contains_key("gone"), "{what}");
        for call in ["ML.CACHEVERSION m SET x", "ML.CACHEVERSION m CLEAR", "ML.CACHEVERSION m"] {
            assert!(reader.run(call).error().starts_with("READONLY"), "{what}: {call}");
        }
    }
    client.run("ML.CACHEVERSION m CLEAR").items();
    for (what, replica) in &replicas {
        replica.catch_up(&server);
        assert_eq!(read(&mut replica.client(), "m:k", &["old"]), "x", "{what}");
    }
}

#[test]
fn beyond_the_most_namespaces_there_may_be_the_rest_is_counted_together() {
    let server = Server::with("ml.cache-max-namespaces 3");
    let mut client = server.client();
    let small = server.replica("ml.cache-max-namespaces 1");
    for key in ["a:1", "b:1", "c:1", "d:1", "d:2", "e:1"] {
        call!(client, "ML.CACHEGET", key, "v");
    }
    let known = |client: &mut Client| {
        let mut names: Vec<_> = client.run("ML.CACHESTATS").map().into_keys().collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(known(&mut client), "(other) a b c");
    assert_eq!(figures(&mut client, "(other)"), [("misses".to_owned(), 3)]);
    assert_eq!(figures(&mut client, "d"), []);
    let error = client.run("ML.CACHEVERSION d SET v").error();
    assert!(error.starts_with("ERR ") && error.contains("ml.cache-max-namespaces"), "{error}");
    client.run("ML.CACHEVERSION d CLEAR").items();
    client.run("ML.CACHEVERSION a SET w").items();
    client.run("ML.CACHESTATS NAMESPACE b RESET").map();
    client.run("ML.CACHEVERSION d SET w").items();
    assert_eq!(known(&mut client), "(other) a c d");
    assert_eq!(client.run("ML.CACHEVERSION e SET w").error(), error.replace(" d ", " e "));
    client.run("ML.CACHESTATS RESET").map();
    assert_eq!(known(&mut client), "a d", "those with versions in force stay");
    client.run("ML.CACHEVERSION e SET w").items();
    assert!(client.run("ML.CACHEVERSION f SET w").is_error());
    assert_eq!(read(&mut client, "f:k", &["v"]), "-");
    small.catch_up(&server);
    for namespace in ["a", "d", "e"] {
        let stats = call!(small.client(), "ML.CACHESTATS", "NAMESPACE", namespace).map();
        assert_eq!(stats["versions"].texts(), ["w"], "all of its primary's");
    }
}

#[test]
fn retiring_a_model_takes_as_long_whatever_is_cached() {
    let server = Server::start();
    let mut client = server.client();
    for entries in [10, 200_000] {
        client.run("FLUSHALL").ok();
        client.run("ML.CACHEVERSION m CLEAR").items();
        for batch in (0..entries).collect::<Vec<_>>().chunks(1_000) {
            let pairs = batch.iter().flat_map(|key| [format!("m:{key}"), "x".to_owned()]);
            let pairs: Vec<_> = pairs.collect();
            call!(client, "ML.CACHEMSET", "v0", "EX", 900, pairs).ok();
        }
        assert_eq!(client.run("DBSIZE").integer(), entries);
        let mut times: Vec<_> = (0..20)
            .map(|version| {
                let start = Instant::now();
                call!(client, "ML.CACHEVERSION", "m", "SET", format!("v{}", version % 2)).items();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("CACHEVERSION SET among {entries} entries: {:?}, median of 20", times[10]);
    }
}

/// What the test of all interleavings runs on: two servers that change places.
struct Pair {
    primary: AtomicU16,
    replica: AtomicU16,
    is_over: AtomicBool,
    /// Held for a call; wholly, while the servers change places.
    gate: RwLock<()>,
    reads: AtomicUsize,
    answers: AtomicUsize,
}

/// A value that tells where it belongs.
fn value(key: &str, version: &str, nonce: u64) -> String {
    format!("{key}|{version}|{nonce}")
}

impl Pair {
    /// Looks at what was read under a version.
    #[track_caller]
    fn check(&self, key: &str, version: &str, answer: &Value, context: &str) {
        self.reads.fetch_add(1, Relaxed);
        if *answer != Value::Nil {
            self.answers.fetch_add(1, Relaxed);
            let text = answer.text();
            let belongs = text.starts_with(&format!("{key}|{version}|"));
            assert!(belongs, "{text} was read under {key} {version}, {context}");
        }
    }

    /// One call after another, until it is over. In the namespace `own` nobody
    /// else sets versions: there, what is not in force is never read.
    fn work(&self, own: &str, seed: u64) {
        let mut random = Random::new(seed);
        let context = format!("seed {seed}");
        let mut clients: [Option<Client>; 2] = [None, None];
        let mut own_in_force: Option<Vec<String>> = None;
        let mut held: Vec<(String, &str, String)> = Vec::new();
        while !self.is_over.load(Relaxed) {
            let on_replica = usize::from(random.below(5) == 0);
            let _gate = self.gate.read().unwrap();
            let port = [&self.primary, &self.replica][on_replica].load(Relaxed);
            let Some(mut client) = clients[on_replica].take().or_else(|| Client::try_connect(port))
            else {
                std::thread::yield_now();
                continue;
            };
            let namespace = *random.of(&[&"m", &own]);
            let key = format!("{namespace}:{}", random.below(4));
            let version = random.of(&["v1", "v2", "v3"]);
            if own_in_force.is_none() {
                // What became of a call that got no answer is not known.
                let asked = Client::try_connect(self.primary.load(Relaxed))
                    .and_then(|mut client| client.try_run(&format!("ML.CACHEVERSION {own}")).ok());
                own_in_force = asked.map(|versions| versions.texts());
                continue;
            }
            let is_retired = on_replica == 0
                && namespace == own
                && own_in_force.as_ref().is_some_and(|versions| {
                    !versions.is_empty() && !versions.iter().any(|one| one == version)
                });
            let never = |what: &str| assert!(!is_retired, "{what} of {key} {version}, {context}");
            let (ttl_ms, stale_ms) = (5 + random.below(300), random.below(200));
            let nonce = random.next();
            let answer = match random.below(if on_replica == 1 { 4 } else { 12 }) {
                0 => client.try_run(&format!("ML.CACHEGET {key} {version}")).inspect(|answer| {
                    self.check(&key, version, answer, &context);
                    if *answer != Value::Nil {
                        never("an answer");
                    }
                }),
                1 => {
                    let other = format!("m:{}", random.below(4));
                    let answer = client.try_run(&format!("ML.CACHEMGET {version} {key} {other}"));
                    answer.inspect(|answers| {
                        let answers = answers.items();
                        self.check(&key, version, &answers[0], &context);
                        self.check(&other, version, &answers[1], &context);
                    })
                }
                2 | 3 => {
                    let call = format!("ML.CACHEFETCH {key} {version} LEASE 40 WAIT 20");
                    client.try_run(&call).inspect(|answer| {
                        self.check(&key, version, &answer.items()[1], &context);
                        let row = Row::of(answer);
                        if row.status != "RETIRED" {
                            never(&row.status);
                        }
                        held.extend(row.token.map(|token| (key.clone(), version, token)));
                    })
                }
                4..=6 if !held.is_empty() => {
                    let one = random.below(held.len() as u64) as usize;
                    let (key, version, token) = held.swap_remove(one);
                    let value = value(&key, version, nonce);
                    client.try_run(&format!(
                        "ML.CACHESET {key} {version} {value} PX {ttl_ms} STALE {stale_ms} \
                         TOKEN {token}"
                    ))
                }
                4..=8 => {
                    let value = value(&key, version, nonce);
                    let set = format!("ML.CACHESET {key} {version} {value} PX {ttl_ms}");
                    client.try_run(&set).inspect(|answer| {
                        if *answer != Value::Nil {
                            never("a set");
                        }
                    })
                }
                9 => client.try_run(&format!("ML.CACHEDROP {key}")),
                10 => client.try_run(&format!("ML.CACHEDROP {key} STALE VERSION {version}")),
                _ => {
                    let change = match random.below(3) {
                        0 => "CLEAR".to_owned(),
                        1 => format!("SET {version}"),
                        _ => format!("SET {version} {}", random.of(&["v1", "v2", "v3"])),
                    };
                    let answer = client.try_run(&format!("ML.CACHEVERSION {namespace} {change}"));
                    if namespace == own {
                        own_in_force = answer.as_ref().ok().map(Answer::texts);
                    }
                    answer
                }
            };
            match answer {
                Ok(answer) => {
                    assert!(!answer.is_error(), "{answer:?}, {context}");
                    clients[on_replica] = Some(client);
                }
                // Its end, or the server's: what it did is not known.
                Err(_) => own_in_force = None,
            }
        }
    }
}

#[test]
fn no_interleaving_of_anything_reads_what_another_version_wrote() {
    const AOF: &str = "appendonly yes\nappendfsync always";
    let [_, seed] = Random::seeds();
    let mut primary = Server::with(AOF);
    let mut replica = primary.replica(AOF);
    let pair = Pair {
        primary: primary.port().into(),
        replica: replica.port().into(),
        is_over: false.into(),
        gate: RwLock::new(()),
        reads: 0.into(),
        answers: 0.into(),
    };
    let (mut restarts, mut failovers) = (0, 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let pair = &pair;
                scope.spawn(move || pair.work(&format!("own{worker}"), seed ^ worker))
            })
            .collect();
        let _over = Over(&pair.is_over);
        let end = Instant::now() + Duration::from_secs(5);
        let mut last = 0;
        while Instant::now() < end && workers.iter().all(|worker| !worker.is_finished()) {
            wait_for("some reads", || {
                pair.reads.load(Relaxed) > last + 500
                    || workers.iter().any(|worker| worker.is_finished())
            });
            if restarts <= failovers {
                // In the middle of calls.
                primary.restart(Stop::Kill);
                pair.primary.store(primary.port(), Relaxed);
                let _gate = pair.gate.write().unwrap();
                replica.follow(&primary);
                restarts += 1;
            } else {
                let _gate = pair.gate.write().unwrap();
                replica.catch_up(&primary);
                replica.client().run("REPLICAOF NO ONE").ok();
                std::mem::swap(&mut primary, &mut replica);
                replica.restart(Stop::Kill);
                replica.follow(&primary);
                pair.primary.store(primary.port(), Relaxed);
                pair.replica.store(replica.port(), Relaxed);
                failovers += 1;
            }
            last = pair.reads.load(Relaxed);
        }
    });
    let (reads, answers) = (pair.reads.load(Relaxed), pair.answers.load(Relaxed));
    println!("{reads} reads, {answers} answers, {restarts} restarts, {failovers} failovers");
    assert!(answers > 100 && restarts > 0 && failovers > 0, "too little for a test, seed {seed}");
}
