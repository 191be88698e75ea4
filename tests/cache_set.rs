//! The options of ML.CACHESET, and the commands on several keys or on what a key
//! holds: CACHEMSET, CACHEMGET, CACHEDROP, CACHEINFO.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use redis::Value;
use std::collections::HashMap;
use support::fetches::{Crowd, fetch, fill, lease, lease_ms};
use support::{Answer, Client, Events, Server, Stop, Tap, bulk, call, nils, wait_for};

const MILLI: u64 = 1_000;

/// A server whose module clock stands still.
fn frozen() -> (Server, Client, u64) {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    (server, client, now)
}

/// What ML.CACHEINFO says of each version of a key: all but the version.
fn info(client: &mut Client, key: &str) -> HashMap<String, Vec<(String, i64)>> {
    let info = call!(client, "ML.CACHEINFO", key);
    let versions = if info == Value::Nil { vec![] } else { info.map()["versions"].items() };
    let one = |version: &Value| {
        let mut fields = version.map();
        let name = fields.remove("version").unwrap().text();
        let fields = fields.iter().map(|(name, number)| (name.clone(), number.integer()));
        let mut fields: Vec<_> = fields.collect();
        fields.sort();
        (name, fields)
    };
    versions.iter().map(one).collect()
}

/// How long a version is fresh still, and how long stale after that.
fn window(client: &mut Client, key: &str, version: &str) -> (i64, i64) {
    let fields: HashMap<_, _> = info(client, key)[version].clone().into_iter().collect();
    (fields["ttl_ms"], fields["stale_ms"])
}

/// What FETCH serves of `k`, without keeping the lease that it may get.
fn served(client: &mut Client, version: &str) -> Option<String> {
    let row = fetch(client, &format!("k {version} LEASE 60000"));
    if let Some(token) = row.token {
        call!(client, "ML.CACHERELEASE", "k", token).integer();
    }
    row.value
}

#[test]
fn stale_says_how_long_past_its_time_fetch_serves_an_answer() {
    let (_server, mut client, now) = frozen();
    let x = || Some("x".to_owned());
    client.run("ML.CACHESET k v x PX 1000 STALE 500").ok();
    client.run("ML.CACHESET k brief y PX 10 STALE 100").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 1_500) as i64);
    for (after_ms, fresh, fetched) in [
        (0, bulk("x"), x()),
        (999, bulk("x"), x()),
        (1_000, Value::Nil, x()),
        (1_499, Value::Nil, x()),
        (1_500, Value::Nil, None),
    ] {
        client.freeze(now + after_ms * MILLI);
        assert_eq!(client.run("ML.CACHEGET k v"), fresh, "after {after_ms} ms");
        assert_eq!(client.run("ML.CACHEMGET v k"), Value::Array(vec![fresh]), "{after_ms} ms");
        assert_eq!(served(&mut client, "v"), fetched, "after {after_ms} ms");
        let brief = (after_ms < 110).then(|| "y".to_owned());
        assert_eq!(served(&mut client, "brief"), brief, "{after_ms} ms: a time of its own");
    }
    client.freeze(now);
    // A write without STALE takes the window away again.
    client.run("ML.CACHESET k v x PX 1000").ok();
    client.freeze(now + 1_000 * MILLI);
    assert_eq!(served(&mut client, "v"), None);
    for stale in ["-1", "x", "", "1.5", "31622400001", "9223372036854775807"] {
        let error = call!(client, "ML.CACHESET", "k", "v", "z", "STALE", stale).error();
        assert!(error.starts_with("ERR ") && error.contains("STALE"), "{stale:?}: {error}");
    }
    client.run("ML.CACHESET k w z PXAT 9223372036854775807 STALE 31622400000").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), i64::MAX, "as late as can be counted");
    assert_eq!(window(&mut client, "k", "w").1, 0);
}

#[test]
fn jitter_spreads_what_is_set_together_over_its_range() {
    const KEYS: usize = 10_000;
    const TTL_MS: i64 = 1_000_000;
    let (_server, mut client, now) = frozen();
    let now_ms = (now / MILLI) as i64;
    for percent in [0, 1, 50, 100] {
        let sets: Vec<_> = (0..KEYS)
            .map(|key| format!("ML.CACHESET k{key} v x PX {TTL_MS} STALE 777 JITTER {percent}"))
            .collect();
        client.run_all(&sets).iter().for_each(Answer::ok);
        let asks: Vec<_> = (0..KEYS).map(|key| format!("PEXPIRETIME k{key}")).collect();
        let answers = client.run_all(&asks);
        // How much was taken off; the stale window is as long as it was.
        let off: Vec<_> = answers.iter().map(|at| now_ms + TTL_MS + 777 - at.integer()).collect();
        let range = TTL_MS * percent / 100;
        let most = range.min(TTL_MS - 1);
        assert!(off.iter().all(|off| (0..=most).contains(off)), "JITTER {percent}: only shortens");
        if percent == 0 {
            continue;
        }
        let mut tenths = [0usize; 10];
        off.iter().for_each(|off| tenths[((off * 10) / range).min(9) as usize] += 1);
        println!("JITTER {percent}: {tenths:?} in each tenth of the range");
        // Six standard deviations of a fair draw are 180.
        assert!(tenths.iter().all(|keys| (800..=1_200).contains(keys)), "{percent}: {tenths:?}");
    }
    client.run("ML.CACHESET k v x PX 1 JITTER 100").ok();
    assert_eq!(window(&mut client, "k", "v"), (1, 0), "a millisecond is left");
    client.run("ML.CACHESET k v x JITTER 10").ok();
    let ttl_ms = window(&mut client, "k", "v").0;
    assert!((3_240_000..=3_600_000).contains(&ttl_ms), "of the default: {ttl_ms} ms");
    for percent in ["-1", "101", "x", "", "1.5"] {
        let error = call!(client, "ML.CACHESET", "k", "v", "z", "JITTER", percent).error();
        assert!(error.starts_with("ERR ") && error.contains("JITTER"), "{percent:?}: {error}");
    }
}

#[test]
fn json_takes_one_document_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let deep = |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let objects = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    let documents: [&[u8]; 20] = [
        b"0",
        b"-1.5e+10",
        b"1e999",
        b"true",
        b"false",
        b"null",
        b"\"\"",
        b"[]",
        b"{}",
        b" \t\r\n[1, {\"a\": [null, \"b\"]}]\n",
        b"\"\\u00e9\\ud83d\\ude00\\n\\\"\\\\\\/\\b\\f\\r\\t\"",
        "\"é 😀 \u{7f}\u{2028}\"".as_bytes(),
        b"{\"a\":1,\"a\":2}",
        b"123456789012345678901234567890.123456789",
        &deep(1),
        &deep(127),
        &deep(129),
        &deep(10_000),
        &objects,
        b"[0.1,1E5,-0]",
    ];
    for document in documents {
        let text = String::from_utf8_lossy(&document[..document.len().min(40)]).into_owned();
        let answer = call!(client, "ML.CACHESET", "k", "v", document, "JSON");
        assert_eq!(answer, Value::Okay, "{text}");
        assert!(client.run("ML.CACHEGET k v") == bulk(document), "{text}: kept byte by byte");
    }
    let before = client.footprint();
    let others: [&[u8]; 34] = [
        b"",
        b" ",
        b"NaN",
        b"nan",
        b"Infinity",
        b"-Infinity",
        b"[1,]",
        b"{\"a\":1,}",
        b"1 2",
        b"{}{}",
        b"[] x",
        b"[",
        b"]",
        b"{",
        b"\"",
        b"\"a",
        b"'a'",
        b"{a:1}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{1:2}",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"tru",
        b"True",
        b"\"\xff\"",
        b"\"\n\"",
        b"\"\\x\"",
        b"\"\\u12\"",
        b"[1]\0",
        b"\xef\xbb\xbf1",
    ];
    let unbalanced = [&deep(10_000)[..], b"]"].concat();
    for other in others.into_iter().chain([&unbalanced[..], &unbalanced[..9_999]]) {
        let text = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
        for options in [&["JSON"][..], &["PX", "9", "json", "STALE", "9"]] {
            let error = call!(client, "ML.CACHESET", "k", "v", other, options).error();
            assert!(error.starts_with("ERR ") && error.contains("value"), "{text}: {error}");
        }
        // Without the option it is a value like any other.
        call!(client, "ML.CACHESET", "plain", "v", other).ok();
    }
    client.run("DEL plain");
    assert_eq!(client.footprint(), before, "nothing was written");
}

#[test]
fn options_come_in_any_order_and_case_each_once() {
    let (_server, mut client, _now) = frozen();
    for options in [
        "PX 5000 STALE 700 JITTER 0 JSON",
        "JSON JITTER 0 STALE 700 PX 5000",
        "json stale 700 ex 5 jitter 0",
        "Stale 700 Json Px 5000",
    ] {
        client.run(&format!("ML.CACHESET k v 1 {options}")).ok();
        assert_eq!(window(&mut client, "k", "v"), (5_000, 700), "{options}");
        client.run("DEL k");
    }
    let token = lease(&mut client, "k v", 60_000);
    client.run(&format!("ML.CACHESET k v 1 STALE 700 TOKEN {token} PX 5000 JSON")).ok();
    assert_eq!(window(&mut client, "k", "v"), (5_000, 700));
    // A value may be called like an option.
    client.run("ML.CACHESET k v JSON PX 5000").ok();
    client.run("ML.CACHESET k v TOKEN STALE 700").ok();
    let before = client.footprint();
    for (options, named) in [
        ("EX 5 PX 5000", "EX"),
        ("PX 5 PX 5", "PX"),
        ("EXAT 5 PXAT 5000", "EXAT"),
        ("PXAT 99 STALE 1 EX 1", "PXAT"),
        ("STALE 1 STALE 1", "STALE"),
        ("JSON JSON", "JSON"),
        ("JITTER 1 JITTER 1", "JITTER"),
        ("TOKEN t TOKEN t", "TOKEN"),
        ("FOO", "FOO"),
        ("KEEPTTL", "KEEPTTL"),
        ("NX", "NX"),
        ("PX 9 1", "1"),
        ("EX", "EX"),
        ("STALE 1 JITTER", "JITTER"),
        ("JSON TOKEN", "TOKEN"),
        ("EX 0", "EX"),
        ("PX -1", "PX"),
        ("EXAT 0", "EXAT"),
        ("PXAT 1.5", "PXAT"),
        ("EX 9223372036854775807", "EX"),
        ("EX 9223372036854775", "EX"),
        ("PX 9223372036854775807", "PX"),
    ] {
        let error = client.run(&format!("ML.CACHESET k v x {options}")).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{options}: {error}");
        assert_eq!(client.footprint(), before, "{options}");
    }
}

#[test]
fn a_batch_is_read_by_position() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET a v 1").ok();
    client.run("ML.CACHESET b w 2").ok();
    client.run("ML.CACHESET c v 3").ok();
    client.run("RPUSH list x");
    client.run("ML.RATELIMIT limit 9 9");
    let (one, three, nil) = (bulk("1"), bulk("3"), Value::Nil);
    let expected = [&three, &nil, &one, &nil, &nil, &nil, &one, &three];
    let answer = client.run("ML.CACHEMGET v c b a list limit none a c");
    assert_eq!(answer, Value::Array(expected.into_iter().cloned().collect()));
    assert_eq!(client.run("ML.CACHEMGET u a b c list"), nils(4));
    assert!(client.run("ML.CACHEMGET v").error().contains("wrong number of arguments"));
}

#[test]
fn a_batch_is_written_as_a_whole_or_not_at_all() {
    let mut server = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let mut client = server.client();
    let replica = server.replica("ml.cache-versions-per-key 1\nml.cache-ttl 1");
    let mut tap = Tap::on(&server);
    client.run("RPUSH list x");
    client.run("CONFIG SET ml.cache-max-value-bytes 9").ok();
    client.run("ML.CACHEVERSION r SET w").items();
    tap.names(&mut client);
    let before = client.footprint();
    for (batch, expected) in [
        ("v EX 100 list 1", "WRONGTYPE"),
        ("v EX 100 a 1 list 2", "WRONGTYPE"),
        ("v EX 100 list 1 a 2", "WRONGTYPE"),
        ("v EX 100 a 1 b 2 list 3 c 4", "WRONGTYPE"),
        ("v EX 100 a 1 b", "wrong number"),
        ("v EX 100 a", "wrong number"),
        ("v EX 100 a 1 b 1234567890", "value"),
        ("v EX 0 a 1", "EX"),
        ("v PX x a 1", "PX"),
        ("v EXAT 9999999999 a 1", "EX, PX"),
        ("v 100 a b 1", "EX, PX"),
    ] {
        let error = client.run(&format!("ML.CACHEMSET {batch}")).error();
        assert!(error.contains(expected), "{batch}: {error}");
        assert_eq!(client.footprint(), before, "{batch}");
    }
    assert_eq!(client.run("ML.CACHEMSET v EX 100 a 1 r:k 2"), Value::Nil, "not in force");
    assert_eq!(client.footprint(), before);
    assert_eq!(tap.names(&mut client), [""; 0]);

    client.run("ML.CACHEMSET v PX 900000 a 1 b 2 a 3 c 4").ok();
    let names = tap.names(&mut client);
    assert_eq!(names.iter().filter(|name| *name == "ML.APPLYCACHE").count(), 4, "{names:?}");
    assert_eq!([&names[0], names.last().unwrap()], ["MULTI", "EXEC"], "together");
    let values = Value::Array(["3", "2", "4"].map(bulk).to_vec());
    assert_eq!(client.run("ML.CACHEMGET v a b c"), values, "named twice, the last one counts");
    assert_eq!(window(&mut client, "a", "v").1, 0);
    client.run("ML.CACHEMSET w ex 900 a 5 b 6").ok();
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest, "from the AOF");
    assert_eq!(server.client().run("ML.CACHEMGET v a b c"), values);
}

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
    assert_eq!(info(&mut client, "k").len(), 0);
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
        assert!((1..60_000).contains(&info["lease_ms"].integer()));
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
    assert_eq!(info(&mut client, "k").into_keys().collect::<Vec<_>>(), ["old"]);
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
    let (digest, expected) = (client.digest_of("k"), info(&mut client, "k"));
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
            assert_eq!(info(client, key), expected, "{key}, {what}");
        }
        assert_eq!(served(client, "v").as_deref(), Some("x"), "{what}");
    };
    check(&mut client, "at once");
    client.run("DEBUG RELOAD").ok();
    check(&mut client, "reloaded");
    server.restart(Stop::Kill);
    check(&mut server.client(), "from the AOF");
    for preamble in ["yes", "no"] {
        let mut client = server.client();
        call!(client, "CONFIG", "SET", "aof-use-rdb-preamble", preamble).ok();
        client.run("BGREWRITEAOF").text();
        wait_for("the AOF to be rewritten", || {
            client.info("aof_rewrite_in_progress") == "0"
                && client.info("aof_rewrite_scheduled") == "0"
        });
        server.restart(Stop::Kill);
        check(&mut server.client(), &format!("rewritten, preamble {preamble}"));
    }
    let replica = server.replica("");
    check(&mut replica.client(), "on a replica");
}

#[test]
fn values_and_versions_are_any_bytes_for_every_command() {
    let server = Server::start();
    let mut client = server.client();
    let large = vec![0xa5; 64 << 20];
    let longest = [b'\0'; 255];
    for (version, value) in
        [(&b"v"[..], &b""[..]), (b"\0", b"\0a\r\n\xff"), (&longest, b"x"), (b"\xff", &large)]
    {
        let context = format!("{} bytes under {} bytes", value.len(), version.len());
        let token = {
            let row = call!(client, "ML.CACHEFETCH", "k", version, "LEASE", 60_000).items();
            row[2].bytes()
        };
        call!(client, "ML.CACHESET", "k", version, value, "TOKEN", token).ok();
        let row = call!(client, "ML.CACHEFETCH", "k", version, "LEASE", 60_000).items();
        assert!(row[1] == bulk(value), "FETCH, {context}");
        assert!(call!(client, "ML.CACHEGET", "k", version) == bulk(value), "GET, {context}");
        let batch = call!(client, "ML.CACHEMGET", version, "k", "k").items();
        assert!(batch.iter().all(|one| *one == bulk(value)) && batch.len() == 2, "{context}");
        call!(client, "ML.CACHEMSET", version, "EX", 100, "k", value, "k2", value).ok();
        let batch = call!(client, "ML.CACHEMFETCH", version, "LEASE", 9, "k2").items();
        assert!(batch[0].items()[1] == bulk(value), "MFETCH, {context}");
        let dropped = call!(client, "ML.CACHEDROP", "k", "VERSION", version).integer();
        assert_eq!(dropped, 1, "DROP, {context}");
        call!(client, "ML.CACHEVERSION", "n", "SET", version).items();
        assert_eq!(client.run("ML.CACHEVERSION n"), Value::Array(vec![bulk(version)]), "{context}");
        client.run("DEL k k2");
    }
    let before = client.footprint();
    for version in [vec![], vec![b'v'; 256]] {
        let calls: [(&str, Vec<&[u8]>); 9] = [
            ("CACHESET", vec![b"k", &version, b"x"]),
            ("CACHEGET", vec![b"k", &version]),
            ("CACHEMGET", vec![&version, b"k"]),
            ("CACHEMSET", vec![&version, b"EX", b"9", b"k", b"x"]),
            ("CACHEDROP", vec![b"k", b"VERSION", &version]),
            ("CACHEFETCH", vec![b"k", &version, b"LEASE", b"9"]),
            ("CACHEMFETCH", vec![&version, b"LEASE", b"9", b"k"]),
            ("CACHEVERSION", vec![b"m", b"SET", &version]),
            ("CACHEVERSION", vec![b"m", b"SET", b"v", &version]),
        ];
        for (name, arguments) in calls {
            let error = call!(client, format!("ML.{name}"), arguments).error();
            let told = error.starts_with("ERR ") && error.contains("version");
            assert!(told, "{name}, {} bytes: {error}", version.len());
        }
    }
    assert_eq!(client.footprint(), before);
}

#[test]
fn a_key_of_another_type_is_refused_and_left_alone() {
    let server = Server::start();
    let mut client = server.client();
    let _tap = Tap::on(&server);
    client.run("SET string x").ok();
    client.run("RPUSH list x");
    client.run("ML.RATELIMIT limit 5 3600").integers();
    let before = client.footprint();
    for key in ["string", "list", "limit"] {
        for call in [
            "CACHESET {} v x",
            "CACHESET {} v 1 EX 9 STALE 9 JITTER 9 JSON",
            "CACHEGET {} v",
            "CACHESET {} v x TOKEN 00000000000000000000000000000000",
            "CACHEMSET v EX 9 {} x",
            "CACHEDROP {}",
            "CACHEDROP {} VERSION v",
            "CACHEDROP {} STALE",
            "CACHEINFO {}",
            "CACHEFETCH {} v LEASE 9",
            "CACHEFETCH {} v LEASE 9 WAIT 60000 EARLY 1",
            "CACHEMFETCH v LEASE 9 {}",
            "CACHERELEASE {} token",
            "CACHERELEASE {} 00000000000000000000000000000000 BACKOFF 9",
        ] {
            let call = format!("ML.{}", call.replace("{}", key));
            let error = client.run(&call).error();
            assert!(error.starts_with("WRONGTYPE "), "{call}: {error}");
        }
        assert_eq!(call!(client, "ML.CACHEMGET", "v", key), nils(1));
    }
    assert_eq!(client.footprint(), before);
    // What is leased cold and becomes of another type meanwhile, as well.
    let token = lease(&mut client, "k v", 60_000);
    client.run("SET k x").ok();
    assert!(client.run(&format!("ML.CACHESET k v y TOKEN {token}")).error().contains("WRONGTYPE"));
    assert_eq!(client.run("GET k"), bulk("x"));
}
