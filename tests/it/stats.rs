//! ML.STATS: what is counted of each namespace.

use crate::support::fetches::{Crowd, counts, lease, stats};
use crate::support::queues::{ID, LONG, hold, join, queue, settle, told, waiting};
use crate::support::rates::Admission;
use crate::support::{Answer, Client, Server, Tap, call, frozen, wait_for};
use redis::Value;
use std::collections::BTreeSet;
use std::time::Instant;

const SECOND: u64 = 1_000_000;

/// The counts of `limits` of a namespace.
fn limits(client: &mut Client, namespace: &str) -> Option<(i64, i64)> {
    let stats = client.run("ML.STATS LIMITS").map()["limits"].map();
    let stats = stats.get(namespace)?.map();
    Some((stats["allowed"].integer(), stats["denied"].integer()))
}

/// The counts of `limits` of a namespace, of those who waited: how many, and for how
/// many milliseconds.
fn waits(client: &mut Client, namespace: &str) -> Option<(i64, i64)> {
    let stats = client.run("ML.STATS LIMITS").map()["limits"].map();
    let stats = stats.get(namespace)?.map();
    Some((stats["waiting"].integer(), stats["waited_ms"].integer()))
}

/// The keys denied most, with their counts.
fn most_denied(client: &mut Client, namespace: &str) -> Vec<(String, i64)> {
    let stats = call!(client, "ML.STATS", "LIMITS", "NAMESPACE", namespace).map()["limits"].map();
    let Some(stats) = stats.get(namespace) else { return vec![] };
    let rows = stats.map()["most_denied"].items();
    rows.iter().map(|row| (row.items()[0].text(), row.items()[1].integer())).collect()
}

/// The names that a section tells of.
fn names(client: &mut Client, section: &str) -> Vec<String> {
    let stats = call!(client, "ML.STATS", section).map();
    let names: BTreeSet<_> = stats[&section.to_lowercase()].map().into_keys().collect();
    names.into_iter().collect()
}

#[test]
fn decisions_of_limits_are_counted_by_namespace() {
    let server = Server::start();
    let mut client = server.client();
    for line in [
        "ML.RATELIMIT acme:u1 2 60",
        "ML.RATELIMIT {acme}:u1 2 60 ALGORITHM SLIDING",
        "ML.RATELIMIT acme:u1 2 60 COST 2 PARTIAL",
        "ML.RATELIMIT acme:u1 2 60",
        "ML.RATELIMIT acme:u1 2 60 PEEK",
        "ML.RATELIMIT acme:u1 2 60 FORCE",
        "ML.RATELIMIT acme:u1 2",
        "ML.RATELIMIT plain 1 60",
        "ML.RATELIMIT plain 1 60",
        "ML.ADMIT 2 m:a m:b LIMIT 1 60 LIMIT 1 60",
        "ML.ADMIT 2 m:a m:c LIMIT 1 60 LIMIT 1 60",
        "ML.ADMIT 2 m:a m:c LIMIT 1 60 LIMIT 1 60 PEEK",
        "ML.ADMIT 2 m:a m:p LIMIT 9 60 COST 0 PERMIT 1 HOLD 9",
        "ML.LIMITINFO m:a",
    ] {
        client.run(line);
    }
    assert_eq!(limits(&mut client, "acme"), Some((4, 1)));
    assert_eq!(limits(&mut client, ""), Some((1, 1)));
    assert_eq!(limits(&mut client, "m"), Some((3, 2)), "all of a call are denied with one");
    let of = |key: &str, count| (key.to_owned(), count);
    assert_eq!(most_denied(&mut client, "acme"), [of("acme:u1", 1)]);
    assert_eq!(most_denied(&mut client, "m"), [of("m:a", 1)], "m:c denied nothing");
    client.run("ML.ADMIT 3 m:a m:c m:d LIMIT 1 60 LIMIT 0 60 LIMIT 1 60");
    assert_eq!(limits(&mut client, "m"), Some((3, 5)));
    assert_eq!(most_denied(&mut client, "m"), [of("m:a", 2), of("m:c", 1)]);
    assert_eq!(most_denied(&mut client, "none"), []);
    assert_eq!(names(&mut client, "LIMITS"), ["", "acme", "m"]);
}

#[test]
fn waits_are_counted_at_the_key_that_held_the_call_up_first() {
    let server = Server::start();
    let mut client = server.client();
    let user = hold(&mut client, "1 u:l LIMIT 1 3600 HOLD 600000");
    let model = hold(&mut client, "1 m:p PERMIT 1 HOLD 600000");
    let both = "2 u:l m:p LIMIT 1 3600 PERMIT 1";
    assert!(!Admission::ask(&mut client, &format!("{both} HOLD 9")).admitted);
    assert!(!Admission::ask(&mut client, "1 m:p PERMIT 1 QUEUE 0 HOLD 9 WAIT 9").admitted);
    assert_eq!(waits(&mut client, "m"), None, "who is denied at once has not waited");
    // One waits at a limit first, then for the permit: both in the namespace of the limit.
    let start = Instant::now();
    let mut crowd = queue(&server, &[&format!("{both} {LONG}")]);
    let waits_by = Instant::now();
    call!(client, "ML.SETTLE", 1, "u:l", user, "ACTUAL", 0).integers();
    wait_for("it to move", || call!(client, "ML.LIMITINFO", "m:p").map()["waiters"].integer() == 1);
    assert_eq!(waits(&mut client, "u"), Some((1, 0)), "so long none is over");
    assert_eq!(client.info("ml_admission_waited_ms"), "0");
    let at_least = waits_by.elapsed().as_millis() as i64;
    settle(&mut client, "m:p", &model);
    let id = told(&mut crowd, 0).id.unwrap();
    let at_most = start.elapsed().as_millis() as i64 + 1;
    let (waiting_there, waited_ms) = waits(&mut client, "u").unwrap();
    assert_eq!(waiting_there, 1);
    assert!((at_least..=at_most).contains(&waited_ms), "{at_least}..{at_most}: {waited_ms}");
    assert_eq!(client.info("ml_admission_waited_ms"), waited_ms.to_string());
    assert_eq!(waits(&mut client, "m"), None, "where it waited then does not count");
    // However a wait ends it is counted: by another with its id, a closed connection, its
    // time, a permit.
    let own = |end: &str| format!("1 m:p PERMIT 1 HOLD 600000 ID {ID} {end}");
    let mut crowd = Crowd::of(&server, 4);
    join(&mut crowd, &mut client, 0, &own("WAIT 600000"));
    crowd.send(1, &format!("ML.ADMIT {}", own("WAIT 600000")));
    assert!(!told(&mut crowd, 0).admitted);
    join(&mut crowd, &mut client, 2, &format!("1 m:p PERMIT 1 {LONG}"));
    crowd.leave(2);
    crowd.send(3, "ML.ADMIT 1 m:p PERMIT 1 HOLD 9 WAIT 100");
    assert!(!told(&mut crowd, 3).admitted);
    wait_for("those who left to be forgotten", || waiting(&mut client) == 1);
    settle(&mut client, "m:p", &id);
    assert!(told(&mut crowd, 1).admitted);
    let (waiting_there, model_ms) = waits(&mut client, "m").unwrap();
    assert_eq!(waiting_there, 4);
    assert!(model_ms >= 100, "{model_ms}");
    assert_eq!(client.info("ml_admission_waited"), "5");
    let all = (waited_ms + model_ms).to_string();
    assert_eq!(client.info("ml_admission_waited_ms"), all);
    client.run("ML.STATS LIMITS RESET").map();
    assert_eq!(waits(&mut client, "m"), None);
    assert_eq!(client.info("ml_admission_waited_ms"), all, "INFO is not reset");
}

#[test]
fn the_keys_denied_most_of_late_are_found_among_many() {
    let (_server, mut client, now) = frozen();
    let long = format!("n:{}", "k".repeat(1_000));
    let deny = |client: &mut Client, key: &str, times: usize| {
        let calls = vec![format!("ML.RATELIMIT {key} 0 60"); times];
        client.run_all(&calls).iter().for_each(|answer| assert_eq!(answer.integers()[0], 0));
    };
    deny(&mut client, "n:hot", 200);
    (0..1_000).for_each(|key| deny(&mut client, &format!("n:{key}"), 1));
    deny(&mut client, &long, 150);
    deny(&mut client, "n:hot", 200);
    let top = most_denied(&mut client, "n");
    assert_eq!(top.len(), 64);
    assert!((400..=400 + 1_550 / 64).contains(&top[0].1) && top[0].0 == "n:hot", "{:?}", top[0]);
    assert!((150..=150 + 1_550 / 64).contains(&top[1].1), "{:?}", top[1]);
    assert!(top[1].0.len() == 128 && top[1].0.ends_with("k..."), "{:?}", top[1]);
    let hot = top[0].1;
    client.freeze(now + 59 * SECOND);
    assert_eq!(most_denied(&mut client, "n")[0].1, hot);
    client.freeze(now + 60 * SECOND);
    assert_eq!(most_denied(&mut client, "n")[0].1, hot / 2, "a minute later");
    client.freeze(now + 600 * SECOND);
    assert_eq!(most_denied(&mut client, "n"), [], "what is long ago is forgotten");
    assert_eq!(limits(&mut client, "n"), Some((0, 1_550)), "the count is not");
}

#[test]
fn a_canary_is_told_from_the_version_that_it_is_to_follow() {
    let (_server, mut client, _now) = frozen();
    client.run("ML.CACHEVERSIONSET pred v1 v2").ok();
    client.run("ML.CACHEVERSIONSET pred:en v3").ok();
    for line in [
        "ML.CACHESET pred:a v1 x",
        "ML.CACHESET pred:a v2 xyz",
        "ML.CACHESET pred:en:a v3 x",
        "ML.CACHESET pred:a v0 x",
        "ML.CACHEGET pred:a v1",
        "ML.CACHEGET pred:a v1",
        "ML.CACHEGET {pred}:a v1",
        "ML.CACHEGET pred:a v2",
        "ML.CACHEGET pred:b v2",
        "ML.CACHEGET pred:a v0",
        "ML.CACHEGET pred:en:a v3",
        "ML.CACHEGET pred:en:a v1",
    ] {
        client.run(line);
    }
    let token = lease(&mut client, "pred:c v2", 60_000);
    call!(client, "ML.CACHESET", "pred:c", "v2", "x", "TOKEN", token).ok();
    let of = |name: &str, count: i64| (name.to_owned(), count);
    let all = stats(&mut client)["pred"].clone();
    let figures = counts(&all);
    for figure in [of("hits", 4), of("misses", 5), of("refused_sets", 1), of("leases", 1)] {
        assert!(figures.contains(&figure), "{figure:?}: {figures:?}");
    }
    let versions = all.map()["versions"].map();
    let told = |namespace: &str, version: &str| counts(&versions[namespace].map()[version]);
    let written = |entries, bytes| vec![of("bytes_written", bytes), of("entries_written", entries)];
    assert_eq!(told("pred", "v1"), [written(1, 1), vec![of("hits", 2), of("misses", 1)]].concat());
    let canary = vec![of("hits", 1), of("leases", 1), of("misses", 2)];
    assert_eq!(told("pred", "v2"), [written(2, 4), canary].concat());
    assert_eq!(told("pred:en", "v3"), [written(1, 1), vec![of("hits", 1)]].concat());
    assert_eq!((versions.len(), versions["pred"].map().len()), (2, 2), "{versions:?}");
    // What stays in force keeps its counts.
    client.run("ML.CACHEVERSIONSET pred v4 v2").ok();
    let versions = stats(&mut client)["pred"].map()["versions"].map();
    assert_eq!(counts(&versions["pred"].map()["v4"]), []);
    assert_eq!(counts(&versions["pred"].map()["v2"])[0], of("bytes_written", 4));
    // Versions in force that nobody called for yet are told of, too.
    client.run("ML.CACHEVERSIONSET new:part v1").ok();
    let versions = stats(&mut client)["new"].map()["versions"].map();
    assert_eq!(counts(&versions["new:part"].map()["v1"]), []);
    client.run("ML.STATS NAMESPACE pred RESET").map();
    let all = stats(&mut client)["pred"].clone();
    assert_eq!(counts(&all), []);
    assert_eq!(counts(&all.map()["versions"].map()["pred"].map()["v2"]), []);
}

#[test]
fn entities_are_counted_by_namespace() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET h:1 f v g w");
    for line in [
        "ML.FEATURESET r:1 AT 1700000000009 FIELDS 2 f 1 g 2",
        "ML.FEATURESET r:1 AT 1700000000008 FIELDS 1 f 0",
        "ML.FEATURESET {r}:2 FIELDS 1 f x",
        "ML.FEATUREMSET 2 r:3 h2:3 12345678 TYPE F32 FIELDS 1 f",
        "ML.FEATURES h:1 f g x",
        "ML.FEATURES r:1 f x",
        "ML.FEATUREGET 4 r:1 h:1 r:none h:1 FIELDS 2 f x",
        "ML.FEATUREGET 1 r:1 FIELDS 2 f g MAXAGE 1",
        "ML.FEATUREGET 1 r:1 FIELDS 2 f g AS TENSOR",
        "ML.FEATUREGETALL r:1",
        "ML.FEATUREGETALL h:1",
        "ML.FEATURES h:1",
    ] {
        client.run(line);
    }
    let stats = client.run("ML.STATS FEATURES").map()["features"].map();
    let told = |name: &str| {
        let counts = counts(&stats[name]);
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        counts.join(", ")
    };
    assert_eq!(told("r"), "found 6, late 1, missing 4, rows 5, too_old 2, written 3");
    assert_eq!(told("h"), "found 6, hashes 4, missing 3");
    assert_eq!(told("h2"), "written 1");
    // Counted again where an entity that was read once is answered twice.
    let text = "x".repeat(10_000);
    call!(client, "ML.FEATURESET", "twice:1", "FIELDS", 1, "f", text).integer();
    client.run("ML.FEATUREGET 3 twice:1 twice:1 twice:1 FIELDS 1 f");
    let stats = client.run("ML.STATS FEATURES").map()["features"].map();
    let of = |name: &str, count: i64| (name.to_owned(), count);
    assert_eq!(counts(&stats["twice"]), [of("found", 3), of("rows", 3), of("written", 1)]);
}

#[test]
fn namespaces_beyond_the_configured_number_are_counted_together() {
    let server = Server::with("ml.stats-max-namespaces 2");
    let mut client = server.client();
    let long = "n".repeat(256);
    for name in ["a", "b", "c", "d", "a", &long, "(other)"] {
        call!(client, "ML.CACHEGET", format!("{name}:k"), "v");
        call!(client, "ML.RATELIMIT", format!("{name}:l"), 1, 60);
    }
    for section in ["CACHE", "LIMITS"] {
        assert_eq!(names(&mut client, section), ["(other)", "a", "b"], "{section}");
    }
    assert_eq!(limits(&mut client, "(other)"), Some((4, 0)));
    assert_eq!(limits(&mut client, "a"), Some((1, 1)));
    client.run("ML.STATS NAMESPACE a RESET").map();
    client.run("ML.CACHEGET c:k v");
    client.run("ML.CACHEGET d:k v");
    assert_eq!(names(&mut client, "CACHE"), ["(other)", "b", "c"]);
    assert_eq!(names(&mut client, "LIMITS"), ["(other)", "b"]);
    client.run("ML.STATS LIMITS RESET").map();
    assert_eq!(names(&mut client, "LIMITS"), [""; 0]);
    assert_eq!(names(&mut client, "CACHE").len(), 3, "of the other sections nothing is reset");
}

#[test]
fn both_protocols_tell_alike_and_the_words_choose() {
    let server = Server::start();
    let mut client = server.client();
    let mut client3 = server.client3();
    client.run("ML.RATELIMIT a:k 1 60");
    client.run("ML.CACHEGET a:c v");
    client.run("ML.RATELIMIT b:k 1 60");
    let sections = |answer: &Value| {
        let names: BTreeSet<_> = answer.map().into_keys().collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    for client in [&mut client, &mut client3] {
        assert_eq!(sections(&client.run("ML.STATS")), "cache features limits semantic");
        assert_eq!(sections(&client.run("ML.STATS limits")), "limits");
        assert_eq!(sections(&client.run("ML.STATS CACHE NAMESPACE b")), "cache");
        let answer = client.run("ML.STATS namespace {b}").map();
        assert_eq!(sections(&answer["limits"]), "b");
        assert_eq!(sections(&answer["cache"]), "");
    }
    let figures = |client: &mut Client| {
        let mut figures = counts(&client.run("ML.STATS CACHE").map()["cache"].map()["a"]);
        figures.sort();
        figures
    };
    assert_eq!(figures(&mut client), figures(&mut client3));
    assert_eq!(figures(&mut client), [("misses".to_owned(), 1)]);
}

#[test]
fn it_is_for_operators_and_each_nodes_own() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    client.run("ML.RATELIMIT a:k 1 60");
    client.run("FLUSHALL").ok();
    tap.names(&mut client);
    let before = client.footprint();
    assert_eq!(limits(&mut client, "a"), Some((1, 0)), "whatever became of the keys");
    client.run("ML.STATS RESET").map();
    assert_eq!(client.footprint(), before);
    assert_eq!(tap.names(&mut client), [""; 0]);
    replica.catch_up(&server);
    assert_eq!(limits(&mut replica.client(), "a"), None, "a replica decided nothing");
    replica.client().run("ML.CACHEGET a:k v");
    assert_eq!(names(&mut replica.client(), "CACHE"), ["a"]);
    // Modules have categories of their own since Redis 7.4 and Valkey 8.
    let admin = client.run("ACL CAT admin").texts();
    let categorized = admin.iter().any(|name| name.eq_ignore_ascii_case("ML.STATS"));
    client.run("ACL SETUSER reader on >secret ~* +@all -@admin").ok();
    client.run("ACL SETUSER careful on >secret ~* +@all -@dangerous").ok();
    for user in ["reader", "careful"] {
        let mut other = server.client();
        call!(other, "AUTH", user, "secret").ok();
        let refused = other.run("ML.STATS").is_error();
        assert_eq!(refused, categorized, "{user}");
    }
}
