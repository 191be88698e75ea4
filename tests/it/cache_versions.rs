//! ML.CACHEVERSIONSET: one command retires a model, and nobody reads its answers
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
        let batch = call!(client, "ML.CACHEMGET", 2, key, key, version);
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
    client.run("ML.CACHEVERSIONSET m v2").ok();
    assert_eq!(in_force(&mut client, "m"), ["v2"]);
    assert_eq!(read(&mut client, "m:k", &["v1", "v2"]), "- b");
    assert_eq!(read(&mut client, "other:k", &["v1"]), "c", "another namespace");
    assert_eq!(fetch(&mut client, "m:k v1 LEASE 9 WAIT 60000").status, "RETIRED");
    assert_eq!(fetch(&mut client, "m:k v2 LEASE 9").brief(), "HIT b");
    let rows = Row::all(&client.run("ML.CACHEMFETCH 2 m:k other:k v1 LEASE 9"));
    assert_eq!([rows[0].brief(), rows[1].brief()], ["RETIRED", "HIT c"]);
    // It cannot be filled either, and what it had stays as it was.
    let before = client.digest();
    for set in [
        "ML.CACHESET m:k v1 late",
        "ML.CACHESET m:k v1 late TOKEN 00000000000000000000000000000000",
        "ML.CACHESET m:new v1 late PXAT 1",
        "ML.CACHEMSET 1 m:k late v1 EX 9",
    ] {
        let answer = client.run(set);
        assert!(answer == Value::Nil || answer == nils(1), "{set}");
        assert_eq!(client.digest(), before, "{set}");
    }
    for (back, versions, read_then) in [
        ("ML.CACHEVERSIONSET m CLEAR", vec![], "a b -"),
        ("ML.CACHEVERSIONSET m v3 v1", vec!["v3", "v1"], "a - -"),
        ("ML.CACHEVERSIONSET m v1 v2", vec!["v1", "v2"], "a b -"),
    ] {
        client.run(back).ok();
        assert_eq!(in_force(&mut client, "m"), versions, "{back}");
        assert_eq!(read(&mut client, "m:k", &["v1", "v2", "v3"]), read_then, "{back}");
    }
    assert_eq!(client.run("ML.CACHEDROP m:k VERSION v2").integer(), 1);
    assert!(figures(&mut client, "m").contains(&("refused_sets".to_owned(), 4)));
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
    client.run("ML.CACHEVERSIONSET m v2").ok();
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
    client.run("ML.CACHEVERSIONSET m CLEAR").ok();
    assert!(!fill(&mut client, "m:k v1 late", &retired), "the old token stays void");
    assert_eq!(fetch(&mut client, "m:k v1 LEASE 60000").brief(), "LEASE");
    assert!(!fill(&mut client, "m:k v1 late", &retired));
}

#[test]
fn a_namespace_is_the_first_parts_of_a_key() {
    let server = Server::start();
    let mut client = server.client();
    let long = "n".repeat(255);
    let parts = ":".repeat(255);
    for (namespace, inside, outside) in [
        (
            "m",
            vec!["m:k", "m:", "m:a:b", "m::", "{m}:k", "{m:k}", "m:{k}", "{m:}k"],
            vec!["m", "M:k", "mm:k", ":m:k", "k:m", " m:k", "{m}", "{m:k", "{}m:k"],
        ),
        (
            "m:a",
            vec!["m:a:b", "m:a:", "m:a:b:c", "{m:a}:b", "{m:a:b}", "m:{a}:b", "{m}:a:b"],
            vec!["m:a", "{m:a}", "m:k", "m:ab:c", "a:b", "m:{a:b"],
        ),
        ("", vec!["k", ":k", "::", "", "(other)", "{k}"], vec!["k:", "m:k", " :k", "{m:k}"]),
        (":", vec!["::", "::k"], vec![":k", "k", ""]),
        ("tx", vec!["{t}x:1", "tx:1", "t{x:1}"], vec!["{t}:1", "{t}x", "x:1"]),
        ("{t}x", vec!["{t}x:1", "tx:1"], vec!["{t}:1", "{t}x", "x:1"]),
        ("\0\u{e9} ", vec!["\0\u{e9} :k"], vec!["\0:k", "\u{e9} :k"]),
        (&long, vec![&format!("{long}:k")], vec![&format!("n{long}:k"), &long[1..]]),
        (&parts, vec![&format!("{parts}:k")], vec![&parts, &parts[1..]]),
    ] {
        call!(client, "ML.CACHEVERSIONSET", namespace, "w").ok();
        for (keys, answer) in [(&inside, Value::Nil), (&outside, Value::Okay)] {
            for key in keys {
                let context = format!("{key:?} of {namespace:?}");
                assert_eq!(call!(client, "ML.CACHESET", key, "v", "x"), answer, "{context}");
            }
        }
        call!(client, "ML.CACHEVERSIONSET", namespace, "CLEAR").ok();
    }
}

#[test]
fn the_longest_namespace_with_versions_in_force_decides() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHEVERSIONSET pred v1").ok();
    for key in ["pred:x", "pred:en:x", "pred:en:a:x"] {
        call!(client, "ML.CACHESET", key, "v1", "x").ok();
    }
    client.run("ML.CACHEVERSIONSET pred:en v2").ok();
    client.run("ML.CACHESET {pred:en}:x v2 y").ok();
    let served = |client: &mut Client| {
        let keys = ["pred:x", "pred:en:x", "pred:en:a:x", "{pred:en}:x"];
        keys.map(|key| read(client, key, &["v1", "v2"])).join(", ")
    };
    assert_eq!(served(&mut client), "x -, - -, - -, - y");
    assert_eq!(in_force(&mut client, "pred"), ["v1"]);
    assert_eq!(in_force(&mut client, "{pred}:en"), ["v2"], "its own");
    assert_eq!(in_force(&mut client, "pred:en:a"), [""; 0], "none of its own");
    client.run("ML.CACHEVERSIONSET pred CLEAR").ok();
    assert_eq!(served(&mut client), "x -, - -, - -, - y");
    client.run("ML.CACHEVERSIONSET pred:en:a v1 v2").ok();
    assert_eq!(served(&mut client), "x -, - -, x -, - y");
    client.run("ML.CACHEVERSIONSET pred:en CLEAR").ok();
    assert_eq!(served(&mut client), "x -, x -, x -, - y");
}

#[test]
fn of_a_keys_versions_the_retired_make_room_before_those_in_force() {
    let mut server =
        Server::with("appendonly yes\nappendfsync always\nml.cache-versions-per-key 2");
    let mut client = server.client();
    let replica = server.replica("ml.cache-versions-per-key 1\nml.cache-max-namespaces 1");
    let versions = |client: &mut Client, key: &str| {
        let info = call!(client, "ML.CACHEINFO", key).map()["versions"].items();
        info.iter().map(|one| one.map()["version"].text()).collect::<Vec<_>>().join(" ")
    };
    let set = |client: &mut Client, key: &str, versions: &[&str]| {
        for version in versions {
            call!(client, "ML.CACHESET", key, version, "x", "EX", 900).ok();
        }
    };
    // Three in force, and room for two by the config: none is lost.
    client.run("ML.CACHEVERSIONSET m a b c").ok();
    set(&mut client, "m:k", &["a", "b", "c", "a", "b", "c"]);
    assert_eq!(versions(&mut client, "m:k"), "c b a");
    // One retired is listed no more, and goes first, older or not.
    client.run("ML.CACHEVERSIONSET m a b d").ok();
    assert_eq!(versions(&mut client, "m:k"), "b a");
    set(&mut client, "m:k", &["d"]);
    assert_eq!(versions(&mut client, "m:k"), "d b a");
    client.run("ML.CACHEVERSIONSET m a c").ok();
    assert_eq!(versions(&mut client, "m:k"), "a");
    set(&mut client, "m:k", &["c"]);
    client.run("ML.CACHEVERSIONSET m CLEAR").ok();
    assert_eq!(versions(&mut client, "m:k"), "c a", "retired, and gone");
    // What is retired keeps its place while there is room.
    set(&mut client, "n:k", &["a", "b"]);
    client.run("ML.CACHEVERSIONSET n b c").ok();
    set(&mut client, "n:k", &["b"]);
    client.run("ML.CACHEVERSIONSET n CLEAR").ok();
    assert_eq!(versions(&mut client, "n:k"), "b a");
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest, "from the AOF");
}

#[test]
fn a_key_with_nothing_but_retired_answers_has_nothing_to_tell() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET m:k old x").ok();
    client.run("ML.CACHEVERSIONSET m new").ok();
    assert_eq!(client.run("ML.CACHEINFO m:k"), Value::Nil);
    client.run("ML.CACHEVERSIONSET m CLEAR").ok();
    assert_eq!(client.run("ML.CACHEINFO m:k").map()["versions"].items().len(), 1);
}

#[test]
fn a_call_that_makes_no_sense_is_refused_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("ML.CACHEVERSIONSET m v w").ok();
    tap.names(&mut client);
    let versions: Vec<_> = (0..17).map(|version| format!("v{version}")).collect();
    let long = "n".repeat(256);
    let refused = |client: &mut Client, name: &str, arguments: &[&str], named: &str| {
        let error = call!(client, name, arguments).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{arguments:?}: {error}");
    };
    for (arguments, named) in [
        (&[&long[..]][..], "namespace"),
        (&["m", "v"], "wrong number of arguments"),
        (&[], "wrong number of arguments"),
    ] {
        refused(&mut client, "ML.CACHEVERSION", arguments, named);
    }
    for (arguments, named) in [
        (&[&long[..], "v"][..], "namespace"),
        (&[&long, "CLEAR"], "namespace"),
        (&["m"], "wrong number of arguments"),
        (&[], "wrong number of arguments"),
        (&["m", "CLEAR", "v"], "CLEAR"),
        (&["m", "v", "clear"], "CLEAR"),
        (&["m", "CLEAR", "CLEAR"], "CLEAR"),
        (&["m", ""], "version"),
        (&["m", "x", &long], "version"),
    ] {
        refused(&mut client, "ML.CACHEVERSIONSET", arguments, named);
    }
    let all: Vec<_> = ["m"].into_iter().chain(versions.iter().map(String::as_str)).collect();
    refused(&mut client, "ML.CACHEVERSIONSET", &all, "16");
    assert_eq!(in_force(&mut client, "m"), ["v", "w"]);
    // What is so already is no change.
    for line in ["m v w", "m w v", "{m} v w v w", "n CLEAR", "m:n CLEAR"] {
        client.run(&format!("ML.CACHEVERSIONSET {line}")).ok();
    }
    in_force(&mut client, "n");
    assert_eq!(tap.names(&mut client), [""; 0]);
    let all: Vec<_> = versions[..16].iter().chain(&versions[..16]).collect();
    call!(client, "ML.CACHEVERSIONSET", "m", all).ok();
    assert_eq!(in_force(&mut client, "m"), versions[..16]);
    client.run("ML.CACHEVERSIONSET m cleaR").ok();
    assert_eq!(tap.names(&mut client), ["ML.APPLYVERSIONS"; 2]);
    assert_eq!(client.run("ML.CACHEVERSION m"), nils(0));
}

#[test]
fn one_table_serves_all_databases_and_outlives_what_is_in_them() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SELECT 3").ok();
    client.run("ML.CACHEVERSIONSET m new").ok();
    for line in
        ["PING", "SELECT 0", "FLUSHDB", "FLUSHALL", "FLUSHALL ASYNC", "SWAPDB 0 3", "SELECT 9"]
    {
        client.run(line);
        assert_eq!(in_force(&mut client, "m"), ["new"], "{line}");
        assert_eq!(client.run("ML.CACHESET m:k old x"), Value::Nil, "{line}");
        client.run("ML.CACHESET m:k new x").ok();
    }
    client.run("MULTI").ok();
    client.run("ML.CACHEVERSIONSET m old");
    client.run("ML.CACHEGET m:k new");
    client.run("ML.CACHESET m:k old y");
    client.run("ML.CACHEVERSION m");
    let answers = client.run("EXEC").items();
    let expected = [Value::Okay, Value::Nil, Value::Okay, Value::Array(vec![bulk("old")])];
    assert_eq!(answers, expected, "within a transaction as well");
}

#[test]
fn replicas_follow_and_show_the_versions_in_force() {
    let server = Server::with("repl-diskless-sync-delay 0");
    let mut client = server.client();
    let replica = server.replica("ml.cache-max-namespaces 1");
    client.run("ML.CACHESET m:k old x EX 900").ok();
    client.run("ML.CACHEVERSIONSET m new newer").ok();
    client.run("ML.CACHEVERSIONSET  w").ok();
    client.run("ML.CACHEVERSIONSET gone w").ok();
    client.run("ML.CACHEVERSIONSET gone CLEAR").ok();
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
        assert_eq!(in_force(&mut reader, "m"), ["new", "newer"], "{what}");
        assert_eq!(in_force(&mut reader, ""), ["w"], "{what}");
        assert_eq!(in_force(&mut reader, "gone"), [""; 0], "{what}");
        for call in ["ML.CACHEVERSIONSET m x", "ML.CACHEVERSIONSET m CLEAR"] {
            assert!(reader.run(call).error().starts_with("READONLY"), "{what}: {call}");
        }
    }
    client.run("ML.CACHEVERSIONSET m CLEAR").ok();
    for (what, replica) in &replicas {
        replica.catch_up(&server);
        assert_eq!(read(&mut replica.client(), "m:k", &["old"]), "x", "{what}");
    }
}

#[test]
fn names_with_nothing_but_statistics_keep_nobody_from_setting_versions() {
    let server = Server::with("ml.cache-max-namespaces 3\nml.stats-max-namespaces 2");
    let mut client = server.client();
    let small = server.replica("ml.cache-max-namespaces 1");
    for key in ["a:1", "b:1", "c:1", "d:1", "d:2", "e:1"] {
        call!(client, "ML.CACHEGET", key, "v");
    }
    for namespace in ["a", "d", "d:e"] {
        call!(client, "ML.CACHEVERSIONSET", namespace, "w").ok();
    }
    let error = client.run("ML.CACHEVERSIONSET e v").error();
    assert!(error.starts_with("ERR ") && error.contains("ml.cache-max-namespaces"), "{error}");
    assert_eq!(read(&mut client, "e:k", &["v"]), "-");
    client.run("ML.CACHESET e:k v x").ok();
    client.run("ML.CACHEVERSIONSET a x y").ok();
    client.run("ML.CACHEVERSIONSET e CLEAR").ok();
    client.run("ML.CACHEVERSIONSET d CLEAR").ok();
    client.run("ML.CACHEVERSIONSET e w").ok();
    assert_eq!(client.run("ML.CACHESET e:k v y"), Value::Nil);
    small.catch_up(&server);
    for (namespace, versions) in [("a", "x y"), ("d", ""), ("d:e", "w"), ("e", "w")] {
        let there = in_force(&mut small.client(), namespace);
        assert_eq!(there.join(" "), versions, "all of its primary's");
    }
}

#[test]
fn retiring_a_model_takes_as_much_work_whatever_is_cached() {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("ML.DEBUG") {
        println!("not applicable: a release build counts no work");
        return;
    }
    let [few, many] = [10, 50_000].map(|entries| {
        client.run("FLUSHALL").ok();
        client.run("ML.CACHEVERSIONSET m CLEAR").ok();
        for batch in (0..entries).collect::<Vec<_>>().chunks(1_000) {
            let pairs = batch.iter().flat_map(|key| [format!("m:{key}"), "x".to_owned()]);
            let pairs: Vec<_> = pairs.collect();
            call!(client, "ML.CACHEMSET", batch.len(), pairs, "v0", "EX", 900).items();
        }
        assert_eq!(client.run("DBSIZE").integer(), entries);
        // The first may allocate what stays. A build for that counts edges of the
        // control flow, too.
        let calls = ["ML.DEBUG WORK DONE", "ML.CACHEVERSIONSET m v1", "ML.DEBUG WORK DONE"];
        let [_, work] = [0; 2].map(|_| client.run_all(&calls)[2].items());
        [&work[0], &work[1]].map(|count| if *count == Value::Nil { 0 } else { count.integer() })
    });
    for (few, many) in few.into_iter().zip(many) {
        assert!(many <= few + 500, "{few} among 10, {many} among 50000");
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
            let answer = match random.below(if on_replica == 1 { 2 } else { 12 }) {
                0 => client.try_run(&format!("ML.CACHEGET {key} {version}")).inspect(|answer| {
                    self.check(&key, version, answer, &context);
                    if *answer != Value::Nil {
                        never("an answer");
                    }
                }),
                1 => {
                    let other = format!("m:{}", random.below(4));
                    let answer = client.try_run(&format!("ML.CACHEMGET 2 {key} {other} {version}"));
                    answer.inspect(|answers| {
                        let answers = answers.items();
                        self.check(&key, version, &answers[0], &context);
                        self.check(&other, version, &answers[1], &context);
                    })
                }
                2 | 3 => {
                    let call = format!("ML.CACHEFETCH {key} {version} LEASE 40 WAIT 20");
                    client.try_run(&call).inspect(|answer| {
                        if is_refused_by_a_replica(answer) {
                            return;
                        }
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
                        1 => version.to_string(),
                        _ => format!("{version} {}", random.of(&["v1", "v2", "v3"])),
                    };
                    if namespace == own {
                        let versions = change.split(' ').filter(|version| *version != "CLEAR");
                        own_in_force = Some(versions.map(str::to_owned).collect());
                    }
                    client.try_run(&format!("ML.CACHEVERSIONSET {namespace} {change}"))
                }
            };
            match answer {
                Ok(answer) => {
                    let refused = on_replica == 1 && is_refused_by_a_replica(&answer);
                    assert!(!answer.is_error() || refused, "{answer:?}, {context}");
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
        // On a slow machine until there is enough to tell.
        let goes_on =
            |failovers| Instant::now() < end || failovers == 0 || pair.answers.load(Relaxed) <= 100;
        while goes_on(failovers) && workers.iter().all(|worker| !worker.is_finished()) {
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

/// Whether a call was sent to a server that follows another, which grants no
/// leases.
fn is_refused_by_a_replica(answer: &Value) -> bool {
    answer.is_error() && answer.error().starts_with("READONLY")
}
