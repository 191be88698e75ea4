//! ML.CACHESET and ML.CACHEGET: answers kept under the version that gave them.

use crate::support::{Answer, Client, Events, Random, Server, Tap, bulk, call, frozen};
use redis::Value;
use std::collections::HashMap;

const MILLI: u64 = 1_000;

/// What each of these versions of `k` answers; `-` for nothing.
fn answers(client: &mut Client, versions: &str) -> String {
    let answers =
        versions.split(' ').map(|version| match client.run(&format!("ML.CACHEGET k {version}")) {
            Value::Nil => "-".to_owned(),
            answer => answer.text(),
        });
    answers.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_answer_is_read_under_its_own_version_only() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.run("ML.CACHEGET k v1"), Value::Nil, "no key, no answer");
    client.run("ML.CACHESET k v1 a").ok();
    assert_eq!(answers(&mut client, "v1 v2 v V1 v11"), "a - - - -", "a bump misses at once");
    client.run("ML.CACHESET k v2 b").ok();
    assert_eq!(answers(&mut client, "v1 v2"), "a b", "two versions side by side");
    client.run("ML.CACHESET k v1 c").ok();
    assert_eq!(answers(&mut client, "v1 v2"), "c b", "the last write of a version counts");
    assert_eq!(client.run("ML.CACHEGET other v1"), Value::Nil);
}

#[test]
fn a_further_version_pushes_out_the_one_written_longest_ago() {
    let server = Server::start();
    let mut client = server.client();
    let table = [
        (1, "v1 v2", "- b"),
        (2, "v1 v2 v3", "- b c"),
        (2, "v1 v2 v1 v3", "c - d"),
        (3, "v1 v2 v3 v4", "- b c d"),
        (3, "v1 v2 v3 v2 v1 v4", "e d - f"),
    ];
    for (keep, written, expected) in table {
        call!(client, "CONFIG", "SET", "ml.cache-versions-per-key", keep).ok();
        client.run("DEL k");
        let mut versions: Vec<&str> = written.split(' ').collect();
        for (version, value) in versions.iter().zip(["a", "b", "c", "d", "e", "f"]) {
            client.run(&format!("ML.CACHESET k {version} {value}")).ok();
        }
        versions.sort_unstable();
        versions.dedup();
        let found = answers(&mut client, &versions.join(" "));
        assert_eq!(found, expected, "{keep} kept of {written}");
    }
    // Fewer from now on: the next write sees to it, the reads before do not.
    client.run("CONFIG SET ml.cache-versions-per-key 1").ok();
    assert_eq!(answers(&mut client, "v1 v2 v3 v4"), "e d - f");
    client.run("ML.CACHESET k v2 g").ok();
    assert_eq!(answers(&mut client, "v1 v2 v3 v4"), "- g - -");
}

#[test]
fn no_interleaving_reads_what_another_version_wrote() {
    let (_server, mut client, start) = frozen();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut now = start;
        // The oracle: what each version of each key wrote last, until when.
        let mut written: HashMap<(u64, u64), (u64, u64)> = HashMap::new();
        for step in 0..2_000 {
            now += random.below(3) * MILLI;
            client.freeze(now);
            let (key, version) = (random.below(3), random.below(4));
            if random.below(2) == 0 {
                let ttl = 1 + random.below(20);
                call!(client, "ML.CACHESET", key, version, step, "PX", ttl).ok();
                written.insert((key, version), (step, now + ttl * MILLI));
                continue;
            }
            let fresh = written.get(&(key, version)).filter(|(_, until)| now < *until);
            match (call!(client, "ML.CACHEGET", key, version), fresh) {
                (Value::Nil, _) => {}
                (answer, Some((value, _))) => {
                    assert_eq!(answer.text(), value.to_string(), "step {step}, seed {seed}");
                }
                (answer, None) => panic!("{answer:?} out of nothing, step {step}, seed {seed}"),
            }
            // The version written last is never the one to be pushed out.
            let last =
                written.iter().filter(|entry| entry.0.0 == key).max_by_key(|entry| entry.1.0);
            if let Some(((_, version), (value, until))) = last {
                let answer = call!(client, "ML.CACHEGET", key, *version);
                let expected = if now < *until { bulk(value.to_string()) } else { Value::Nil };
                assert_eq!(answer, expected, "step {step}, seed {seed}");
            }
        }
        client.run("FLUSHALL").ok();
    }
}

#[test]
fn an_answer_expires_when_its_option_says() {
    let (_server, mut client, now) = frozen();
    let now_ms = now / MILLI;
    // Within the next second, so that whole seconds since the epoch fit.
    let next_second = now_ms / 1_000 + 2;
    let table = [
        ("EX 2".to_owned(), now_ms + 2_000),
        ("PX 1500".to_owned(), now_ms + 1_500),
        ("px 1".to_owned(), now_ms + 1),
        (format!("EXAT {next_second}"), next_second * 1_000),
        (format!("PxAt {}", now_ms + 1_234), now_ms + 1_234),
        (String::new(), now_ms + 3_600_000),
    ];
    for (option, expires_ms) in table {
        client.freeze(now);
        client.run(format!("ML.CACHESET k v x {option}").trim_end()).ok();
        assert_eq!(client.run("PEXPIRETIME k").integer(), expires_ms as i64, "{option}");
        client.freeze(expires_ms * MILLI - 1);
        assert_eq!(answers(&mut client, "v"), "x", "{option}: fresh to the last moment");
        client.freeze(expires_ms * MILLI);
        assert_eq!(answers(&mut client, "v"), "-", "{option}: gone on time");
    }
}

#[test]
fn without_an_option_the_config_says_how_long() {
    let server = Server::start();
    let mut client = server.client();
    for seconds in [3_600, 7] {
        call!(client, "CONFIG", "SET", "ml.cache-ttl", seconds).ok();
        client.run("ML.CACHESET k v x").ok();
        let ttl = client.run("PTTL k").integer();
        assert!((1..=seconds * 1_000).contains(&ttl), "{ttl} ms of {seconds} s");
        assert!(ttl > (seconds - 5) * 1_000, "{ttl} ms of {seconds} s");
    }
}

#[test]
fn an_answer_set_to_expire_in_the_past_is_gone_and_takes_the_last_one_with_it() {
    let server = Server::start();
    let mut client = server.client();
    for option in ["EXAT 1", "PXAT 1"] {
        client.run("ML.CACHESET k v1 a").ok();
        client.run("ML.CACHESET k v2 b").ok();
        client.run(&format!("ML.CACHESET k v1 c {option}")).ok();
        assert_eq!(answers(&mut client, "v1 v2"), "- b", "{option}");
        client.run(&format!("ML.CACHESET k v2 c {option}")).ok();
        assert_eq!(client.run("EXISTS k").integer(), 0, "{option}: nothing is left of the key");
        client.run(&format!("ML.CACHESET new v c {option}")).ok();
        assert_eq!(client.run("EXISTS new").integer(), 0, "{option}");
    }
}

#[test]
fn each_version_has_a_time_of_its_own_and_the_key_the_longest() {
    let (_server, mut client, now) = frozen();
    client.run("ML.CACHESET k long a PX 5000").ok();
    client.run("ML.CACHESET k brief b PX 1000").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 5_000) as i64);
    client.freeze(now + 1_000 * MILLI);
    assert_eq!(answers(&mut client, "long brief"), "a -");
    // What has expired makes room before what is fresh.
    client.run("ML.CACHESET k new c PX 9000").ok();
    assert_eq!(answers(&mut client, "long brief new"), "a - c");
    // A shorter time for the same version is taken as said.
    client.run("ML.CACHESET k new d PX 10").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 5_000) as i64);
    client.freeze(now + 1_010 * MILLI);
    assert_eq!(answers(&mut client, "long brief new"), "a - -");
}

#[test]
fn nothing_brings_an_expired_answer_back() {
    type Action = fn(&mut Client);
    let actions: [(&str, Action); 6] = [
        ("reading it often", |client| {
            (0..100).for_each(|_| assert_eq!(answers(client, "v"), "x"));
        }),
        ("PERSIST", |client| assert_eq!(client.run("PERSIST k").integer(), 1)),
        ("EXPIRE", |client| assert_eq!(client.run("EXPIRE k 1000000").integer(), 1)),
        ("RENAME", |client| {
            client.run("RENAME k other").ok();
            client.run("PERSIST other");
            client.run("RENAME other k").ok();
        }),
        ("COPY", |client| {
            assert_eq!(client.run("COPY k other").integer(), 1);
            client.run("PERSIST other");
            client.run("RENAME other k").ok();
        }),
        ("RESTORE", |client| {
            let payload = client.run("DUMP k").bytes();
            call!(client, "RESTORE", "k", 0, payload, "REPLACE").ok();
            assert_eq!(client.run("PTTL k").integer(), -1);
        }),
    ];
    for (name, action) in actions {
        let (_server, mut client, now) = frozen();
        client.run("ML.CACHESET k v x PX 1000").ok();
        client.freeze(now + 999 * MILLI);
        action(&mut client);
        assert_eq!(answers(&mut client, "v"), "x", "{name}");
        client.freeze(now + 1_000 * MILLI);
        assert_eq!(client.run("EXISTS k").integer(), 1, "{name}: the key is there still");
        assert_eq!(answers(&mut client, "v"), "-", "{name}");
        // The next write gives the key a time again.
        client.run("ML.CACHESET k w y PX 500").ok();
        assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 1_500) as i64, "{name}");
    }
}

#[test]
fn values_and_versions_are_any_bytes_of_any_size_allowed() {
    let server = Server::start();
    let mut client = server.client();
    let values: [&[u8]; 5] = [b"", b"\0", b"a\0b\r\n\xff\xfe", b"+OK\r\n", &[0xa5; 10 << 20]];
    let versions: [&[u8]; 4] = [b"v", b"\0", b"\xff\r\n \0x", &[b'v'; 255]];
    for version in versions {
        for value in values {
            call!(client, "ML.CACHESET", b"k\0\xff", version, value).ok();
            assert!(
                call!(client, "ML.CACHEGET", b"k\0\xff", version) == bulk(value),
                "{} bytes under a version of {}",
                value.len(),
                version.len()
            );
        }
    }
    call!(client, "ML.CACHESET", b"", "v", "of the empty key").ok();
    assert_eq!(call!(client, "ML.CACHEGET", b"", "v"), bulk("of the empty key"));

    for version in [vec![], vec![b'v'; 256], vec![b'v'; 100_000]] {
        for answer in [
            call!(client, "ML.CACHESET", "k", &version, "x"),
            call!(client, "ML.CACHEGET", "k", &version),
        ] {
            let error = answer.error();
            assert!(error.starts_with("ERR ") && error.contains("version"), "{error}");
        }
    }
    assert_eq!(client.run("EXISTS k").integer(), 0);
}

#[test]
fn a_value_above_the_configured_size_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    client.run("CONFIG SET ml.cache-max-value-bytes 10").ok();
    client.run("ML.CACHESET k v 1234567890").ok();
    let error = client.run("ML.CACHESET k v 12345678901").error();
    assert!(error.starts_with("ERR ") && error.contains("value"), "{error}");
    assert_eq!(answers(&mut client, "v"), "1234567890", "the last answer stays");
    client.run("CONFIG SET ml.cache-max-value-bytes 1kb").ok();
    client.run("ML.CACHESET k v 12345678901").ok();
}

#[test]
fn a_replica_answers_refuses_to_write_and_serves_nothing_expired() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    let replica = server.replica("");
    client.run("ML.CACHESET k v x PX 1000").ok();
    replica.catch_up(&server);
    let mut reader = replica.client();
    reader.freeze(now + 999 * MILLI);
    assert_eq!(answers(&mut reader, "v w"), "x -");
    assert!(reader.run("ML.CACHESET k v y").error().starts_with("READONLY"));
    reader.freeze(now + 1_000 * MILLI);
    assert_eq!(reader.run("EXISTS k").integer(), 1);
    assert_eq!(answers(&mut reader, "v"), "-");
}

#[test]
fn a_set_is_seen_by_watch_tracking_and_notifications_and_a_get_is_not() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET k v x").ok();
    let mut tap = Tap::on(&server);
    let mut events = Events::of(&server);
    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    let mut watcher = server.client();

    for (call, writes) in [("ML.CACHEGET k v", false), ("ML.CACHESET k v y", true)] {
        tracker.run("ML.CACHEGET k v").text();
        tracker.pushes();
        watcher.run("WATCH k").ok();
        let before = client.offset();
        client.run(call);
        assert_eq!(client.offset() != before, writes, "{call}: the replication offset");
        let names = tap.names(&mut client);
        assert_eq!(names, if writes { vec!["ML.APPLYANSWERS"] } else { vec![] });
        let told = events.notified(&mut client).contains(&("ml.cacheset".into(), "k".into()));
        assert_eq!(told, writes, "{call}: the event");
        assert_eq!(tracker.pushes().len(), usize::from(writes), "{call}: the invalidation");
        watcher.run("MULTI").ok();
        watcher.run("PING");
        assert_eq!(watcher.run("EXEC") == Value::Nil, writes, "{call}: WATCH");
    }
}

#[test]
fn both_protocols_answer_alike() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        assert_eq!(client.run("ML.CACHESET k v x"), Value::Okay);
        assert_eq!(client.run("ML.CACHEGET k v"), bulk("x"));
        assert_eq!(client.run("ML.CACHEGET k w"), Value::Nil);
    }
}

#[test]
fn a_refused_call_looks_no_key_up() {
    let server = Server::start();
    let mut client = server.client();
    client.run("CONFIG RESETSTAT").ok();
    assert!(client.run("ML.CACHEGET missing v NEVER").is_error());
    assert_eq!(client.info("keyspace_misses"), "0");
    assert_eq!(client.run("ML.CACHEGET missing v STALE"), Value::Nil);
    assert_eq!(client.info("keyspace_misses"), "1");
}
