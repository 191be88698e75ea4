//! What is written stays: over restarts, dumps and copies, and whatever bytes
//! come back instead.

use crate::support::permits::{granted, release};
use crate::support::rates::settle;
use crate::support::{Answer, Client, Random, Server, Setup, Stop, bulk, call, dump, wait_for};
use proptest::prelude::*;
use redis::Value;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|name| format!("f{name}")).collect()
}

/// Writes a bit of everything, with times far enough ahead.
fn furnish(client: &mut Client) {
    client.run("ML.RATELIMIT limit 10 3600 COST 3").integers();
    client.run("ML.RATELIMIT full 5 31622400 COST 5").integers();
    client.run("ML.RATELIMIT huge 9007199254740992 86400 COST 9007199254740991").integers();
    call!(client, "ML.RATELIMIT", b"binary\0\xff", 2, "0.5").integers();
    client.run("ML.RATELIMIT sliding 1000 3600 ALGORITHM SLIDING COST 3").integers();
    // Enough charges to be summed up.
    (0..200).for_each(|_| _ = client.run("ML.RATELIMIT grid 1000 3600 ALGORITHM SLIDING"));
    client.run("ML.RATELIMIT bucket 10 31622400 ALGORITHM GCRA BURST 20 COST 7").integers();
    client.run("ML.RATELIMIT windows 10 3600 20 86400 30 7200 COST 4").integers();
    for algorithm in ["FIXED", "SLIDING", "GCRA"] {
        let call = format!("{algorithm} 10 31622400 20 31622000 ALGORITHM {algorithm}");
        let ids = [1, 2, 3].map(|cost| {
            let call = format!("ML.RATELIMIT {call} COST {cost} HOLD 9000000");
            client.run(&call).items()[5].text()
        });
        assert_eq!(settle(client, algorithm, &ids[1], 4), 1);
    }
    client.run("ML.ADMIT 1 permit PERMIT 10 COST 3 HOLD 3600000").items();
    client.run("ML.ADMIT 1 permit PERMIT 10 HOLD 31622400000").items();
    client
        .run("ML.ADMIT 1 holders PERMIT 9007199254740992 COST 9007199254740892 HOLD 90000")
        .items();
    for permit in 0..100 {
        granted(client, &format!("holders {} {}", 1u64 << 53, 100_000 + permit));
    }
    client.run("ML.CACHESET cache v1 old EX 1000").ok();
    client.run("ML.CACHESET cache v2 new EX 2000").ok();
    client.run("CONFIG SET ml.cache-versions-per-key 16").ok();
    for version in 0..16 {
        call!(client, "ML.CACHESET", "many", version, format!("{version:300}"), "EX", 5_000).ok();
    }
    client.run("CONFIG SET ml.cache-versions-per-key 2").ok();
    call!(client, "ML.CACHESET", b"binary\xfe", b"\0\xff", b"\r\n\0", "EX", 3_000).ok();
    call!(client, "ML.CACHESET", "empty", "v", "", "EX", 3_000).ok();
    call!(client, "ML.CACHESET", "latest", "v", "x", "PXAT", i64::MAX).ok();
    call!(client, "ML.CACHESET", "large", "v", vec![b'x'; 1 << 20], "EX", 3_000).ok();
    client.run("HSET hash f v g w");
    client.run("ML.FEATURESET row FIELDS 4 tier gold score 0.25 n -7 odd 84.50").integer();
    client
        .run("ML.FEATURESET row VIEW brief AT 1700000000005 EX 4000 TYPE F32 FIELDS 2 a 0.1 b nan")
        .integer();
    call!(
        client,
        "ML.FEATURESET",
        "row",
        "VIEW",
        "late",
        "PXAT",
        (1u64 << 48) - 1,
        "FIELDS",
        1,
        "",
        ""
    )
    .integer();
    let blob: Vec<_> = (0..100).flat_map(|value: u8| f64::from(value).to_le_bytes()).collect();
    call!(
        client,
        "ML.FEATUREMSET",
        2,
        "wide1",
        b"wide\xff",
        blob,
        "TYPE",
        "F64",
        "FIELDS",
        50,
        names(50)
    )
    .items();
    call!(
        client,
        "ML.FEATURESET",
        "text",
        "EX",
        9_000,
        "FIELDS",
        1,
        b"\0\xff",
        vec![b'x'; 1 << 20]
    )
    .integer();
    // Events, in windows of a year; the running one holds what is counted.
    call!(
        client,
        "ML.FEATURESET",
        "events",
        "EX",
        90_000,
        "TYPE",
        "F64",
        "DIM",
        2,
        "FIELDS",
        1,
        "v",
        vec![7u8; 16]
    )
    .integer();
    client.run("ML.FEATUREPUSH events s 1 0.5 gold LAST 9 SEQ 7").integer();
    client.run("ML.FEATUREPUSH events s a LAST 9 AT 1700000000000 TYPE STRING").integer();
    client.run("ML.FEATURESET events VIEW w PX 90000000 FIELDS 1 f 1").integer();
    for amount in ["0.1", "0.2", "1e300", "-1e300"] {
        client
            .run(&format!(
                "ML.FEATURETALLY events VIEW w FIELDS 2 t {amount} u 1 \
                 SPAN 31536000 TILE 31536000 SPAN 31536000 TILE 86400"
            ))
            .integer();
    }
    // What the sub-second window leaves must not come between two digests.
    call!(client, "DEL", b"binary\0\xff");
}

/// All that is to stay as it was: the digest, when each key expires, and what
/// the commands answer.
fn picture(client: &mut Client) -> (String, Vec<(Value, Value)>, Vec<Value>) {
    let mut keys = client.run("KEYS *").items();
    keys.sort_by_key(Answer::bytes);
    let expiries = keys.into_iter().map(|key| {
        let expiry = call!(client, "PEXPIRETIME", key.bytes());
        (key, expiry)
    });
    let expiries = expiries.collect();
    let answers = [
        "ML.RATELIMIT limit 10 3600 PEEK",
        "ML.RATELIMIT full 5 31622400 PEEK",
        "ML.RATELIMIT huge 9007199254740992 86400 PEEK",
        "ML.RATELIMIT sliding 1000 3600 PEEK",
        "ML.RATELIMIT grid 1000 3600 PEEK",
        "ML.RATELIMIT bucket 10 31622400 BURST 20 PEEK",
        "ML.RATELIMIT windows 10 3600 20 86400 30 7200 PEEK",
        "ML.RATELIMIT FIXED 10 31622400 20 31622000 PEEK",
        "ML.RATELIMIT SLIDING 10 31622400 20 31622000 PEEK",
        "ML.RATELIMIT GCRA 10 31622400 20 31622000 PEEK",
        "ML.ADMIT 1 permit PERMIT 4 HOLD 9",
        "ML.ADMIT 1 permit PERMIT 0 COST 2 HOLD 9",
        "ML.ADMIT 1 holders PERMIT 9007199254740992 HOLD 9",
        "ML.CACHEGET cache v1",
        "ML.CACHEGET cache v2",
        "ML.CACHEGET cache v3",
        "ML.CACHEGET many 0",
        "ML.CACHEGET many 15",
        "ML.CACHEGET empty v",
        "ML.CACHEGET large v",
        "ML.CACHEGET latest v",
        "ML.FEATURES hash g f h",
        "ML.FEATURES events v[2] s[4] count(w:t,31536000) sum(w:t,31536000) std(w:u,31536000)",
        "ML.FEATURES row tier score n odd brief:a brief:b late: x",
        "ML.FEATUREGET 2 wide1 row FIELDS 3 f0 f49 score AS TENSOR TYPE F64",
        "ML.FEATUREGET 2 row hash FIELDS 3 brief:a brief:b f AS VALUES MAXAGE 9000000000",
    ];
    // Of a limit, the waits go on; of a long answer, the length will do.
    let answers = answers.map(|call| match client.run(call) {
        Value::BulkString(bytes) if bytes.len() > 20 => Value::Int(bytes.len() as i64),
        answer if call.contains("ADMIT") => {
            Value::Array(answer.items()[4].items()[0].items()[..3].to_vec())
        }
        Value::Array(mut items) if call.contains("RATELIMIT") => {
            items.truncate(3);
            Value::Array(items)
        }
        answer => answer,
    });
    (client.digest(), expiries, answers.to_vec())
}

#[test]
fn a_restart_changes_nothing() {
    const AOF: &str = "appendonly yes\nappendfsync always\n";
    for (config, rewritten, stop) in [
        ("", false, Stop::Save),
        (AOF, false, Stop::NoSave),
        (AOF, false, Stop::Kill),
        ("aof-use-rdb-preamble yes\n", true, Stop::Kill),
        ("aof-use-rdb-preamble no\n", true, Stop::Kill),
        ("aof-use-rdb-preamble no\n", true, Stop::Save),
    ] {
        let aof = if rewritten { AOF } else { "" };
        let mut server = Server::with(&format!("{config}{aof}"));
        let mut client = server.client();
        furnish(&mut client);
        if rewritten {
            client.rewrite_aof();
            client.run("ML.RATELIMIT limit 10 3600 COST 2");
            client.run("ML.RATELIMIT SLIDING 10 31622400 COST 1 HOLD 9000000").items();
            client.run("ML.ADMIT 1 permit PERMIT 10 COST 2 HOLD 3600000");
            client.run("ML.CACHESET cache v3 after EX 2500").ok();
            client.run("ML.FEATURESET row FIELDS 1 n 9").integer();
            client.run("ML.FEATURESET row VIEW brief AT 1700000000004 FIELDS 1 a 9").integer();
            client.run("ML.FEATUREDEL wide1 FIELDS 2 f7 f8").integer();
            client.run("ML.FEATUREPUSH events s more LAST 4").integer();
            let spans = "SPAN 31536000 TILE 31536000 SPAN 31536000 TILE 86400";
            client.run(&format!("ML.FEATURETALLY events VIEW w FIELDS 1 t 4 {spans}")).integer();
        }
        let before = picture(&mut client);
        assert_eq!(before.2[0].integers()[2], if rewritten { 5 } else { 7 });
        server.restart(stop);
        let context = format!("{stop:?} {config:?}, rewritten: {rewritten}");
        assert_eq!(picture(&mut server.client()), before, "{context}");
    }
}

#[test]
fn a_rewritten_aof_keeps_an_expiry_changed_by_hand() {
    for preamble in ["yes", "no"] {
        let mut server = Server::with(&format!("appendonly yes\naof-use-rdb-preamble {preamble}"));
        let mut client = server.client();
        furnish(&mut client);
        for (key, other) in [("limit", "full"), ("permit", "holders"), ("cache", "many")] {
            assert_eq!(call!(client, "PERSIST", key).integer(), 1);
            assert_eq!(call!(client, "PEXPIRE", other, 99_000_000).integer(), 1);
        }
        let before = picture(&mut client);
        client.rewrite_aof();
        server.restart(Stop::Kill);
        assert_eq!(picture(&mut server.client()), before, "preamble {preamble}");
    }
}

#[test]
fn a_reload_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let before = picture(&mut client);
    client.run("DEBUG RELOAD").ok();
    assert_eq!(picture(&mut client), before);
}

#[test]
fn a_dump_restores_what_it_was() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let keys = ["limit", "full", "huge", "cache", "many", "empty", "large", "latest", "events"];
    let limits = ["sliding", "grid", "bucket", "windows", "FIXED", "SLIDING", "GCRA"];
    for key in keys.into_iter().chain(["permit", "holders"]).chain(limits) {
        let digest = client.digest_of(key);
        let payload = call!(client, "DUMP", key).bytes();
        client.run("SET back x").ok();
        let busy = call!(client, "RESTORE", "back", 100_000, &payload).error();
        assert!(busy.starts_with("BUSYKEY"), "{busy}");
        call!(client, "RESTORE", "back", 100_000, &payload, "REPLACE").ok();
        assert_eq!(client.digest_of("back"), digest, "{key}");
        assert!(call!(client, "DUMP", "back").bytes() == payload, "{key}: the same dump");
    }
    let payload = client.run("DUMP limit").bytes();
    call!(client, "RESTORE", "back", 0, payload, "REPLACE").ok();
    assert_eq!(client.run("ML.RATELIMIT back 10 3600 PEEK").integers()[2], 7);
}

#[test]
fn the_digest_tells_apart_what_differs() {
    let server = Server::start();
    let mut client = server.client();
    client.freeze_ahead();
    // Groups of keys, each with one difference to the first.
    for group in [
        &["RATELIMIT {} 10 60", "RATELIMIT {} 11 60", "RATELIMIT {} 10 61"][..],
        &["RATELIMIT {} 10 60", "RATELIMIT {} 10 60 COST 2"],
        &[
            "RATELIMIT {} 10 60",
            "RATELIMIT {} 10 60 ALGORITHM SLIDING",
            "RATELIMIT {} 10 60 ALGORITHM GCRA",
            "RATELIMIT {} 10 60 ALGORITHM GCRA BURST 11",
            "RATELIMIT {} 10 60 10 90",
            "RATELIMIT {} 10 60 HOLD 9",
        ],
        &[
            "RATELIMIT {} 10 60 COST 20 PARTIAL",
            "RATELIMIT {} 10 60 COST 20 PARTIAL HOLD 9000 ID 0123456789abcdef0123456789abcdef",
            "RATELIMIT {} 10 60 COST 21 PARTIAL HOLD 9000 ID 0123456789abcdef0123456789abcdef",
            "RATELIMIT {} 10 60 COST 20 PARTIAL HOLD 9001 ID 0123456789abcdef0123456789abcdef",
            "RATELIMIT {} 10 60 COST 20 PARTIAL HOLD 9000 ID 0123456789abcdef0123456789abcdee",
        ],
        &["CACHESET {} v x EX 9", "CACHESET {} w x EX 9", "CACHESET {} v y EX 9"],
        &["CACHESET {} v x EX 9", "CACHESET {} v x EX 8", "CACHESET {} vx  EX 9"],
        &[
            "FEATUREPUSH {} s 1 LAST 9",
            "FEATUREPUSH {} s 1.0 LAST 9",
            "FEATUREPUSH {} s 1 LAST 9 TYPE STRING",
            "FEATUREPUSH {} s 1 LAST 9 AT 0",
            "FEATUREPUSH {} s 1 LAST 9 SEQ 0",
            "FEATUREPUSH {} s 1 1 LAST 9",
            "FEATUREPUSH {} t 1 LAST 9",
            "FEATUREPUSH {} s 1 LAST 9 VIEW v",
        ],
        &[
            "FEATURETALLY {} FIELDS 1 t 1 SPAN 60 TILE 60",
            "FEATURETALLY {} FIELDS 1 t 2 SPAN 60 TILE 60",
            "FEATURETALLY {} FIELDS 1 t 1 SPAN 120 TILE 60",
            "FEATURETALLY {} FIELDS 1 t 1 SPAN 60 TILE 30",
            "FEATURETALLY {} FIELDS 1 t 1 SPAN 60 TILE 60 SPAN 90 TILE 90",
            "FEATURETALLY {} FIELDS 1 t 1 SPAN 60 TILE 60 SEQ 0",
            "FEATURETALLY {} FIELDS 2 t 1 u 1 SPAN 60 TILE 60",
        ],
        &[
            "FEATURESET {} TYPE F32 DIM 2 FIELDS 1 e 12345678",
            "FEATURESET {} TYPE F64 DIM 1 FIELDS 1 e 12345678",
            "FEATURESET {} TYPE I64 DIM 1 FIELDS 1 e 12345678",
            "FEATURESET {} TYPE STRING FIELDS 1 e 12345678",
            "FEATURESET {} TYPE F32 DIM 2 FIELDS 1 e 12345679",
        ],
    ] {
        let digests = group.iter().map(|call| {
            client.run("DEL k");
            client.run(&format!("ML.{}", call.replace("{}", "k")));
            client.digest_of("k")
        });
        let mut digests: Vec<_> = digests.collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), group.len(), "{group:?}");
    }
    // Each permit has an id of its own; here they are the same ones.
    client.run("ML.ADMIT 1 permit PERMIT 10 HOLD 60000").items();
    let id = client.run("ML.ADMIT 1 permit PERMIT 10 HOLD 60000").items()[1].text();
    let mut digests = vec![client.digest_of("permit")];
    for call in [format!("RENEW 1 permit {id} 60001"), format!("SETTLE 1 permit {id}")] {
        client.run(&format!("ML.{call}"));
        digests.push(client.digest_of("permit"));
    }
    client.run("ML.ADMIT 1 permit PERMIT 10 HOLD 60000").items();
    digests.push(client.digest_of("permit"));
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4, "two permits, one for longer, one gone, another");
    client.run("DEL k");
    let orders = [["v1", "v2"], ["v2", "v1"]].map(|versions| {
        for version in versions {
            call!(client, "ML.CACHESET", "k", version, "x", "EX", 9).ok();
        }
        let digest = client.digest_of("k");
        client.run("DEL k");
        digest
    });
    assert_ne!(orders[0], orders[1], "which one goes next is a difference");
}

#[test]
fn a_copy_goes_its_own_way() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    for key in ["limit", "grid", "windows", "GCRA", "permit", "holders", "cache", "many"] {
        assert_eq!(call!(client, "COPY", key, "copy", "REPLACE").integer(), 1);
        assert_eq!(client.digest_of(key), client.digest_of("copy"));
        let expires = call!(client, "PEXPIRETIME", key);
        assert_eq!(client.run("PEXPIRETIME copy"), expires);
    }
    client.run("COPY limit l");
    client.run("ML.RATELIMIT l 10 3600 COST 7");
    assert_eq!(client.run("ML.RATELIMIT limit 10 3600").integers()[2], 6);
    assert_eq!(client.run("ML.RATELIMIT l 10 3600").integers()[0], 0);
    let id = granted(&mut client, "permit 10 31622400000");
    client.run("COPY permit p");
    assert_eq!(release(&mut client, "p", &id), 1);
    assert_eq!(release(&mut client, "permit", &id), 1);
    client.run("COPY cache c");
    client.run("ML.CACHESET cache v1 changed").ok();
    client.run("ML.CACHESET c v2 other").ok();
    let of = |client: &mut Client, key| ["v1", "v2"].map(|v| call!(client, "ML.CACHEGET", key, v));
    assert_eq!(of(&mut client, "cache"), [bulk("changed"), bulk("new")]);
    assert_eq!(of(&mut client, "c"), [bulk("old"), bulk("other")]);
    client.run("DEL cache");
    assert_eq!(of(&mut client, "c"), [bulk("old"), bulk("other")]);
}

#[test]
fn memory_usage_follows_what_is_held_and_unlink_gives_it_back() {
    let server = Server::start();
    let mut client = server.client();
    let used = || server.client().info("used_memory").parse::<i64>().unwrap();
    client.run("ML.RATELIMIT limit 10 3600");
    let usage = client.run("MEMORY USAGE limit").integer();
    assert!((1..1_000).contains(&usage), "{usage}");
    let before = used();
    let mut last = 0;
    for bytes in [0, 100, 10_000, 1 << 20, 10 << 20] {
        // By a client that goes at once, and its buffers with it.
        call!(server.client(), "ML.CACHESET", "cache", "v", vec![b'x'; bytes]).ok();
        let usage = client.run("MEMORY USAGE cache").integer();
        let bytes = bytes as i64;
        assert!(usage > last && usage > bytes, "{usage} for {bytes} bytes");
        assert!(usage < bytes + bytes / 4 + 1_000, "{usage} for {bytes} bytes");
        last = usage;
    }
    wait_for("MEMORY USAGE to be what is used", || {
        ((last - (1 << 20))..(last + (1 << 20))).contains(&(used() - before))
    });
    client.run("ML.CACHESET cache v2 y").ok();
    assert!(client.run("MEMORY USAGE cache").integer() > last, "each version counts");
    assert_eq!(client.run("UNLINK cache limit").integer(), 2);
    assert_eq!(client.run("DBSIZE").integer(), 0);
    wait_for("the memory to come back", || used() < before + (1 << 20));
}

#[test]
fn checksums_are_made_as_the_server_makes_them() {
    assert_eq!(dump::crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET k v x").ok();
    let payload = client.run("DUMP k").bytes();
    assert_eq!(dump::sealed(dump::data(&payload), &payload), payload);
}

/// The keys whose payloads are spoilt below, small enough to try every byte.
fn payloads(client: &mut Client) -> Vec<Vec<u8>> {
    client.run("ML.RATELIMIT limit 10 3600 COST 3").integers();
    client.run("ML.ADMIT 1 permit PERMIT 10 COST 3 HOLD 3600000").items();
    client.run("ML.ADMIT 1 permit PERMIT 10 HOLD 7200000").items();
    client.run("ML.RATELIMIT sliding 10 3600 ALGORITHM SLIDING COST 3").integers();
    (0..100).for_each(|_| _ = client.run("ML.RATELIMIT grid 100 3600 ALGORITHM SLIDING"));
    client.run("ML.RATELIMIT reserved 10 3600 9 7200 ALGORITHM GCRA HOLD 9000000").items();
    client.run("ML.CACHESET one v x EX 3600").ok();
    client.run("ML.CACHESET two v1 first EX 3600").ok();
    client.run("ML.CACHESET two v2 second EX 7200").ok();
    client.run("ML.FEATURESET single EX 3600 TYPE F32 FIELDS 3 a 1 b 2 c 3").integer();
    client.run("ML.FEATURESET mixed FIELDS 3 a 1 b 0.5 c gold").integer();
    client
        .run("ML.FEATURESET mixed VIEW v AT 1700000000005 PX 3600000 TYPE I64 FIELDS 1 a 1")
        .integer();
    client
        .run("ML.FEATURESET vectors TYPES 2 F32[2] I64[1] FIELDS 2 a 12345678 b 87654321")
        .integer();
    client.run("ML.FEATUREPUSH events a 1 0.5 gold LAST 3 SEQ 300").integer();
    client.run("ML.FEATUREPUSH events a x LAST 3 AT 1700000000005 TYPE STRING").integer();
    for at in ["", " AT 1790000000000"] {
        let spans = "SPAN 31536000 TILE 86400 SPAN 31536000 TILE 31536000 SEQ";
        let sequence = at.len();
        client
            .run(&format!("ML.FEATURETALLY events VIEW v FIELDS 1 a 0.5 {spans} {sequence}{at}"))
            .integer();
    }
    let keys = ["limit", "sliding", "grid", "reserved", "permit", "one", "two", "single", "mixed"];
    let keys = keys.into_iter().chain(["vectors", "events"]);
    keys.map(|key| call!(client, "DUMP", key).bytes()).collect()
}

#[test]
fn a_payload_cut_short_anywhere_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    for payload in payloads(&mut client) {
        let data = dump::data(&payload);
        for end in 0..data.len() {
            let cut = dump::sealed(&data[..end], &payload);
            let answer = call!(client, "RESTORE", "cut", 0, cut);
            // The server reads on into the footer, which may happen to fit.
            if end + dump::FOOTER >= data.len() && answer == Value::Okay {
                use_fully(&mut client, "cut");
                continue;
            }
            assert!(answer.is_error(), "cut at {end} of {}: {answer:?}", data.len());
        }
        call!(client, "RESTORE", "whole", 0, &payload, "REPLACE").ok();
    }
    assert_eq!(client.run("EXISTS cut").integer(), 0);
}

/// Uses a key in every way there is; only the server's life is at stake.
fn use_fully(client: &mut Client, key: &str) {
    for call in [
        "ML.RATELIMIT {} 10 3600",
        "ML.RATELIMIT {} 10 3600 PEEK",
        "ML.RATELIMIT {} 10 3600 20 7200 5 0.5 COST 3 FORCE HOLD 9",
        "ML.RATELIMIT {} 10 3600 ALGORITHM SLIDING",
        "ML.RATELIMIT {} 10 7200 ALGORITHM GCRA",
        "ML.SETTLE 1 {} 00000000000000000000000000000000 ACTUAL 3",
        "ML.LIMITINFO {}",
        "ML.ADMIT 1 {} PERMIT 10 HOLD 60000",
        "ML.ADMIT 1 {} PERMIT 9007199254740992 COST 9007199254740992 HOLD 60000",
        "ML.LIMITINFO {}",
        "ML.RENEW 1 {} 00000000000000000000000000000000 60000",
        "ML.SETTLE 1 {} 00000000000000000000000000000000",
        "ML.CACHEGET {} v",
        "ML.CACHESET {} v2 y",
        "ML.CACHEGET {} v2",
        "ML.FEATURES {} f a v:a",
        "ML.FEATUREGET 2 {} {} FIELDS 4 a b c v:a AS TENSOR TYPE F64",
        "ML.FEATUREGET 1 {} FIELDS 4 a b c v:a AS TENSOR MAXAGE 9",
        "ML.FEATUREGET 1 {} FIELDS 3 a c v:a AS JSON",
        "ML.FEATUREGET 1 {} FIELDS 5 a[2] v:a[1] count(v:a,86400) std(v:a,31536000) a AS TENSOR",
        "ML.FEATUREGET 1 {} FIELDS 5 a[2] b[1] mean(v:a,86400) max(v:a,31536000) a AS JSON",
        "ML.FEATURES {} a[9] v:a[1] min(v:a,86400) sum(v:a,31536000) a",
        "ML.FEATUREPUSH {} a x LAST 2",
        "ML.FEATURETALLY {} VIEW v FIELDS 1 a 1 SPAN 60 TILE 60 SPAN 86400 TILE 86400",
        "ML.FEATURETALLY {} VIEW v FIELDS 1 a 1e308 SPAN 31536000 TILE 86400",
        "ML.FEATUREGETALL {}",
        "ML.FEATUREINFO {}",
        "ML.FEATURESET {} FIELDS 2 a x z 1",
        "ML.FEATUREMSET 2 {} {} 12345678 TYPE F32 FIELDS 1 b",
        "ML.FEATUREDEL {} FIELDS 2 a c",
        "DEBUG DIGEST-VALUE {}",
        "MEMORY USAGE {}",
        "COPY {} copy REPLACE",
        "DUMP {}",
        "PTTL {}",
        "RENAME {} renamed",
        "UNLINK renamed copy",
    ] {
        client.run(&call.replace("{}", key));
    }
}

#[test]
fn a_payload_with_bytes_changed_is_refused_or_harmless() {
    let server = Server::with("appendonly yes\naof-use-rdb-preamble no");
    let mut client = server.client();
    let payloads = payloads(&mut client);
    let mut loaded = 0;
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        for payload in &payloads {
            let data = dump::data(payload);
            // Every byte becomes something else once; then several at a time.
            // The first one names the type: another would not be the module's.
            for round in 1..data.len() + 500 {
                let mut spoilt = data.to_vec();
                if round < data.len() {
                    spoilt[round] ^= 1 << random.below(8);
                } else {
                    for _ in 0..1 + random.below(4) {
                        let at = 1 + random.below(data.len() as u64 - 1) as usize;
                        spoilt[at] = random.next() as u8;
                    }
                }
                let spoilt = dump::sealed(&spoilt, payload);
                if call!(client, "RESTORE", "spoilt", 100_000, &spoilt, "REPLACE") == Value::Okay {
                    loaded += 1;
                    call!(client, "COPY", "spoilt", format!("kept:{loaded}")).integer();
                    use_fully(&mut client, "spoilt");
                    client.run("DEL spoilt");
                }
            }
        }
    }
    println!("{loaded} spoilt payloads were loaded");
    assert!(loaded > 0, "nothing was spoilt without being noticed: tried too little");
    // What was loaded can be saved and loaded again.
    let before = client.digest();
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), before);
    client.rewrite_aof();
    client.run("DEBUG LOADAOF").ok();
    assert_eq!(client.digest(), before);
}

/// The payload of `like`'s type around other bytes: type and module id, a
/// string (opcode, length, bytes), the end.
fn around(like: &[u8], inner: &[u8]) -> Vec<u8> {
    let length = inner.len() as u8;
    // Lengths below 64 are one byte, those below 2^14 two.
    let length = if length < 64 { vec![length] } else { vec![0x40, length] };
    dump::sealed(&[&dump::data(like)[..10], &[5], &length, inner, &[0]].concat(), like)
}

#[test]
fn a_payload_that_holds_nothing_is_refused_or_kept() {
    let server = Server::with("appendonly yes\naof-use-rdb-preamble no");
    let mut client = server.client();
    for payload in payloads(&mut client) {
        for inner in [&b""[..], b"\x01\0"] {
            let nothing = around(&payload, inner);
            if call!(client, "RESTORE", "nothing", 100_000, nothing).is_error() {
                continue;
            }
            let before = client.digest();
            client.run("DEBUG RELOAD").ok();
            assert_eq!(client.digest(), before, "{inner:?} in an RDB file");
            client.rewrite_aof();
            client.run("DEBUG LOADAOF").ok();
            assert_eq!(client.digest(), before, "{inner:?} in an AOF");
            use_fully(&mut client, "nothing");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1) })]

    /// One server for all of the payloads of a run.
    #[test]
    fn bytes_in_place_of_a_payload_do_no_harm(
        inner in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 300)
    ) {
        let server = Setup::default().start();
        let mut client = server.client();
        for payload in payloads(&mut client) {
            for bytes in &inner {
                let spoilt = around(&payload, bytes);
                if call!(client, "RESTORE", "spoilt", 0, spoilt, "REPLACE") == Value::Okay {
                    use_fully(&mut client, "spoilt");
                }
            }
        }
        prop_assert_eq!(client.run("PING").text(), "PONG");
    }
}
