//! ML.CACHEDROP and ML.CACHEINFO: what a key holds, taken away, looked at, and
//! kept as it is whatever happens to the key.

use crate::support::fetches::{Crowd, fill, lease, lease_ms, served, version_info, window};
use crate::support::{Answer, Client, Events, Server, Stop, Tap, call, frozen, nils, wait_for};
use redis::Value;

const MILLI: u64 = 1_000;

#[test]
fn a_drop_takes_one_version_or_all() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    let mut events = Events::of(&server);
    tap.names(&mut client);
    let gone = || vec![("ml.cachedrop".to_owned(), "k".to_owned()), ("del".into(), "k".into())];
    let part = || gone()[..1].to_vec();
    for (written, drop, dropped, left, told) in [
        ("v w", "ML.CACHEDROP k", 2, "- -", gone()),
        ("v w", "ML.CACHEDROP k VERSION v", 1, "- x", part()),
        ("v w", "ML.CACHEDROP k version w", 1, "x -", part()),
        ("v w", "ML.CACHEDROP k VERSION u", 0, "x x", vec![]),
        ("v", "ML.CACHEDROP k VERSION v", 1, "- -", gone()),
        ("v", "ML.CACHEDROP k", 1, "- -", gone()),
        ("", "ML.CACHEDROP k", 0, "- -", vec![]),
        ("", "ML.CACHEDROP k VERSION v", 0, "- -", vec![]),
        ("", "ML.CACHEDROP k STALE", 0, "- -", vec![]),
    ] {
        client.run("DEL k");
        for version in written.split_whitespace() {
            call!(client, "ML.CACHESET", "k", version, "x", "EX", 900).ok();
        }
        events.notified(&mut client);
        tap.names(&mut client);
        let offset = client.offset();
        assert_eq!(client.run(drop).integer(), dropped, "{drop} of {written:?}");
        assert_eq!(client.offset() == offset, dropped == 0, "{drop} of {written:?}");
        assert_eq!(events.notified(&mut client), told, "{drop} of {written:?}");
        let names = tap.names(&mut client);
        assert_eq!(names.is_empty(), dropped == 0, "{drop}: {names:?}");
        assert!(!names.contains(&"ML.CACHEDROP".into()), "as its effect: {names:?}");
        let found = ["v", "w"].map(|version| call!(client, "ML.CACHEGET", "k", version));
        let found = found.map(|answer| if answer == Value::Nil { "-" } else { "x" }).join(" ");
        assert_eq!(found, left, "{drop} of {written:?}");
        assert_eq!(client.run("EXISTS k").integer(), i64::from(left != "- -"), "{drop}");
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), client.digest(), "{drop} of {written:?}");
    }
    // The key goes when the last of those that are left does.
    client.run("ML.CACHESET k long x EX 900").ok();
    client.run("ML.CACHESET k brief x EX 100").ok();
    client.run("ML.CACHEDROP k VERSION long").integer();
    let ttl = client.run("TTL k").integer();
    assert!((50..=100).contains(&ttl), "{ttl}");
    for (options, named) in [
        ("VERSION", "VERSION"),
        ("STALE STALE", "STALE"),
        ("VERSION v VERSION v", "VERSION"),
        ("v", "v"),
    ] {
        let error = client.run(&format!("ML.CACHEDROP k {options}")).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{options}: {error}");
    }
}

#[test]
fn a_drop_removes_a_key_with_nothing_to_serve_whose_expiry_was_taken_off() {
    type Action = fn(&mut Client);
    let actions: [(&str, Action); 3] = [
        ("PERSIST", |client| assert_eq!(client.run("PERSIST k").integer(), 1)),
        ("RESTORE", |client| {
            let payload = client.run("DUMP k").bytes();
            call!(client, "RESTORE", "k", 0, payload, "REPLACE").ok();
        }),
        ("an empty key", |client| call!(client, "ML.LOADCACHE", "k", "").ok()),
    ];
    for (name, action) in actions {
        for drop in ["ML.CACHEDROP k", "ML.CACHEDROP k VERSION other", "ML.CACHEDROP k STALE"] {
            let context = format!("{drop} after {name}");
            let (server, mut client, now) = frozen();
            let replica = server.replica("");
            let mut tap = Tap::on(&server);
            let mut events = Events::of(&server);
            client.run("ML.CACHESET k v x PX 1000 STALE 500").ok();
            client.run("ML.CACHESET k w x PX 100").ok();
            action(&mut client);
            if name != "an empty key" {
                client.freeze(now + 1_499 * MILLI);
                client.run("ML.CACHEDROP k VERSION other").integer();
                assert_eq!(client.run("EXISTS k").integer(), 1, "{context}: one can be served");
            }
            client.freeze(now + 1_500 * MILLI);
            assert_eq!(client.run("ML.CACHEINFO k"), Value::Nil, "{context}");
            tap.names(&mut client);
            events.notified(&mut client);
            assert_eq!(client.run(drop).integer(), 0, "{context}: none could be served");
            assert_eq!(client.run("EXISTS k").integer(), 0, "{context}");
            assert_eq!(tap.names(&mut client), ["ML.APPLYANSWERS"], "{context}");
            let told = events.notified(&mut client);
            let of = |name: &str| (name.to_owned(), "k".to_owned());
            assert_eq!(told, [of("ml.cachedrop"), of("del")], "{context}");
            assert_eq!(client.run(drop).integer(), 0, "{context}, again");
            assert_eq!(tap.names(&mut client), [""; 0], "{context}, again");
            replica.catch_up(&server);
            assert_eq!(replica.client().run("DBSIZE").integer(), 0, "{context}");
        }
    }
}

#[test]
fn a_drop_that_leaves_nothing_to_serve_leaves_no_key() {
    let (_server, mut client, now) = frozen();
    client.run("ML.CACHESET k brief x PX 10").ok();
    client.run("ML.CACHESET k long x PX 1000").ok();
    client.run("PERSIST k").integer();
    client.freeze(now + 10 * MILLI);
    assert_eq!(client.run("ML.CACHEDROP k STALE").integer(), 1);
    assert_eq!(client.run("EXISTS k").integer(), 0, "made stale, with no time to be so");
    client.run("ML.CACHESET k v x PX 1000 STALE 10").ok();
    client.run("ML.CACHESET k w x PX 1000").ok();
    client.run("PERSIST k").integer();
    assert_eq!(client.run("ML.CACHEDROP k STALE").integer(), 2);
    let left = version_info(&mut client, "k");
    assert_eq!(left.keys().collect::<Vec<_>>(), ["v"]);
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 20) as i64);
}

#[test]
fn a_drop_can_leave_answers_to_be_served_stale() {
    let (server, mut client, now) = frozen();
    let replica = server.replica("");
    replica.client().freeze(now + 7 * MILLI);
    client.run("ML.CACHESET k v x PX 10000 STALE 500").ok();
    client.run("ML.CACHESET k w y PX 10000").ok();
    client.freeze(now + 100 * MILLI);
    assert_eq!(client.run("ML.CACHEDROP k STALE VERSION v").integer(), 1);
    assert_eq!(window(&mut client, "k", "v"), (0, 500), "the span counts from now");
    assert_eq!(window(&mut client, "k", "w"), (9_900, 0), "the other one is as it was");
    assert_eq!(client.run("ML.CACHEGET k v"), Value::Nil);
    assert_eq!(served(&mut client, "v").as_deref(), Some("x"));
    client.freeze(now + 200 * MILLI);
    let before = client.footprint();
    assert_eq!(client.run("ML.CACHEDROP k STALE VERSION v").integer(), 0, "stale already");
    assert_eq!(client.footprint(), before);
    assert_eq!(client.run("ML.CACHEDROP k STALE").integer(), 1, "what is fresh still");
    assert_eq!(served(&mut client, "w"), None, "set without STALE: simply gone");
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 600) as i64);
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest(), "whatever the replica's clock says");
    client.freeze(now + 599 * MILLI);
    assert_eq!(served(&mut client, "v").as_deref(), Some("x"));
    assert_eq!(client.run("ML.CACHEDROP k VERSION v").integer(), 1, "what is stale can be dropped");
    assert_eq!(version_info(&mut client, "k").len(), 0);
}

#[test]
fn info_tells_what_a_key_holds() {
    let (server, mut client, now) = frozen();
    assert_eq!(client.run("ML.CACHEINFO k"), Value::Nil);
    let token = lease(&mut client, "k new", 60_000);
    wait_for("time to pass", || lease_ms(&mut client, "k") <= 59_980);
    assert!(fill(&mut client, "k new 12345 PX 1000 STALE 300", &token));
    client.freeze(now + 10 * MILLI);
    client.run("ML.CACHESET k old  PX 2000").ok();
    lease(&mut client, "k other", 60_000);
    let _crowd = Crowd::waiting(&server, 2, "k other LEASE 9 WAIT 60000");
    client.freeze(now + 100 * MILLI);
    let fields = ["bytes", "ttl_ms", "stale_ms", "age_ms", "cost_ms"];
    for mut client in [server.client(), server.client3()] {
        let answer = client.run("ML.CACHEINFO k");
        let is_map = matches!(answer, Value::Map(_));
        let info = answer.map();
        assert_eq!(info.len(), 3, "{answer:?}");
        assert!((1..=60_000).contains(&info["lease_ms"].integer()));
        assert_eq!(info["waiters"].integer(), 2);
        let versions = info["versions"].items();
        assert_eq!(versions.len(), 2);
        assert!(versions.iter().all(|one| matches!(one, Value::Map(_)) == is_map));
        let versions: Vec<_> = versions.iter().map(Answer::map).collect();
        assert!(versions.iter().all(|one| one.len() == 6), "{versions:?}");
        let of = |one: usize| fields.map(|field| versions[one][field].integer());
        let [old, new] = [0, 1].map(|one| versions[one]["version"].text());
        assert_eq!([old.as_str(), &new], ["old", "new"], "the one written last first");
        assert_eq!(of(0), [0, 1_910, 0, 90, 0]);
        assert_eq!(of(1)[..4], [5, 900, 300, 100]);
        assert!((20..30_000).contains(&of(1)[4]), "what it cost: {:?}", of(1));
    }
    assert!(matches!(server.client().run("ML.CACHEINFO k"), Value::Array(_)), "RESP2");
    assert!(matches!(server.client3().run("ML.CACHEINFO k"), Value::Map(_)), "RESP3");
    client.freeze(now + 1_200 * MILLI);
    assert_eq!(window(&mut client, "k", "new"), (0, 100), "stale, and for how long still");
    client.freeze(now + 1_300 * MILLI);
    assert_eq!(version_info(&mut client, "k").into_keys().collect::<Vec<_>>(), ["old"]);
    // A key that is leased and holds nothing.
    lease(&mut client, "cold v", 60_000);
    let info = client.run("ML.CACHEINFO cold").map();
    assert_eq!(info["versions"], nils(0));
}

#[test]
fn all_of_an_answer_survives_copies_and_restarts() {
    let mut server = Server::with("appendonly yes\nappendfsync always");
    let mut client = server.client();
    let now = client.freeze_ahead();
    let token = lease(&mut client, "k v", 60_000);
    wait_for("time to pass", || lease_ms(&mut client, "k") <= 59_990);
    assert!(fill(&mut client, "k v x PX 1000 STALE 500", &token));
    client.run("ML.CACHESET k w y PX 2000 JITTER 50 STALE 9").ok();
    client.run("ML.CACHEDROP k STALE VERSION v").integer();
    client.freeze(now + 30 * MILLI);
    let (digest, expected) = (client.digest_of("k"), version_info(&mut client, "k"));
    assert_eq!(window(&mut client, "k", "v"), (0, 470));
    let dump = client.run("DUMP k").bytes();
    call!(client, "RESTORE", "restored", 100_000_000, dump).ok();
    client.run("COPY k copied").integer();
    client.run("COPY k first").integer();
    client.run("RENAME first renamed").ok();
    let keys = ["k", "restored", "copied", "renamed"];
    let check = |client: &mut Client, what: &str| {
        client.freeze(now + 30 * MILLI);
        for key in keys {
            assert_eq!(client.digest_of(key), digest, "{key}, {what}");
            assert_eq!(version_info(client, key), expected, "{key}, {what}");
        }
        if client.info("role") == "master" {
            assert_eq!(served(client, "v").as_deref(), Some("x"), "{what}");
        }
    };
    check(&mut client, "at once");
    client.run("DEBUG RELOAD").ok();
    check(&mut client, "reloaded");
    server.restart(Stop::Kill);
    check(&mut server.client(), "from the AOF");
    for preamble in ["yes", "no"] {
        let mut client = server.client();
        call!(client, "CONFIG", "SET", "aof-use-rdb-preamble", preamble).ok();
        client.rewrite_aof();
        server.restart(Stop::Kill);
        check(&mut server.client(), &format!("rewritten, preamble {preamble}"));
    }
    let replica = server.replica("");
    check(&mut replica.client(), "on a replica");
}
