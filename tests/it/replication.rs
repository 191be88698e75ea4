//! Replicas hold what their primary holds: effects are replicated, never calls
//! whose outcome depends on a clock or a config.

use crate::support::permits::{acquire, admit};
use crate::support::rates::{ALGORITHMS, Admission, Row, settle};
use crate::support::{Answer, Client, Random, Server, Tap, bulk, call, wait_for};
use redis::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Settings unlike the primary's, for all that they could change.
const OTHER_CONFIG: &str = "ml.cache-versions-per-key 1\nml.cache-ttl 1\nml.cache-max-value-bytes 1\n\
     ml.ratelimit-algorithm SLIDING\nml.limit-max-holds 1\n";

const SCRIPT: &str = "
    redis.call('ML.CACHESET', KEYS[2], ARGV[1], ARGV[2])
    local limit = redis.call('ML.RATELIMIT', KEYS[1], 5, 60)
    redis.pcall('ML.RATELIMIT', KEYS[2], 5, 60)
    return {limit, redis.call('ML.CACHEGET', KEYS[2], ARGV[1])}";

/// One call of mixed traffic. It may be refused: on purpose, keys are used for
/// what they do not hold as well.
fn step(client: &mut Client, random: &mut Random) {
    let kind = random.of(&["r", "r", "c", "c", "p", "p", "h", "f", "f"]);
    let key = format!("{kind}{}", random.below(6));
    let other = format!("{}{}", random.of(&["r", "c", "p", "h", "f"]), random.below(6));
    let version = format!("v{}", random.below(5));
    let value = random.next().to_string();
    match random.below(62) {
        0..=9 => {
            let window = random.of(&["0.02", "60", "3600"]);
            let (limit, cost) = (3 + random.below(9), 1 + random.below(4));
            call!(client, "ML.RATELIMIT", key, limit, window, "COST", cost);
        }
        10 => _ = call!(client, "ML.RATELIMIT", key, 5, 60, "PEEK"),
        11..=18 => {
            let (option, time) =
                [("PX", 20), ("PX", 60_000), ("EX", 500), ("PXAT", 1)][random.below(4) as usize];
            call!(client, "ML.CACHESET", key, version, value, option, time);
        }
        19 => _ = call!(client, "ML.CACHESET", key, version, value),
        20 => _ = call!(client, "ML.CACHEGET", key, version),
        21 | 22 => _ = call!(client, "HSET", key, version, value),
        23 => _ = call!(client, "ML.FEATURES", key, version, "f"),
        24 => _ = call!(client, "DEL", key),
        25 => _ = call!(client, "UNLINK", key),
        26 => _ = call!(client, "RENAME", key, other),
        27 => _ = call!(client, "COPY", key, other, "REPLACE"),
        28 => _ = call!(client, "PERSIST", key),
        29 => _ = call!(client, "PEXPIRE", key, [20, 100_000][random.below(2) as usize]),
        30 => _ = call!(client, "CONFIG", "SET", "ml.cache-versions-per-key", 1 + random.below(4)),
        31 | 32 => _ = call!(client, "EVAL", SCRIPT, 2, key, other, version, value),
        33 => _ = call!(client, "MOVE", key, 1),
        34 if random.below(10) == 0 => _ = call!(client, "SWAPDB", 0, 1),
        35 if random.below(20) == 0 => _ = call!(client, "FLUSHDB"),
        36 => {
            if let Value::BulkString(payload) = call!(client, "DUMP", key) {
                call!(client, "RESTORE", other, 90_000, payload, "REPLACE");
            }
        }
        37..=43 => {
            let (max, cost) = (3 + random.below(9), 1 + random.below(4));
            let ttl_ms = random.of(&["20", "60000", "3600000"]);
            // Of a few ids, so that they come again and can be ended.
            let id = random.below(9);
            client.run(&format!(
                "{} ID {id:032}",
                admit(&format!("{key} {max} {ttl_ms} COST {cost}"))
            ));
        }
        44..=48 => {
            let id = format!("{:032}", random.below(9));
            match random.below(2) {
                0 => call!(client, "ML.SETTLE", 2, key, other, id),
                _ => call!(client, "ML.RENEW", 2, key, other, id, 20 + random.below(2) * 90_000),
            };
        }
        49..=58 => feature_step(client, random, &key, &other),
        _ => {
            client.run("MULTI").ok();
            call!(client, "ML.FEATURESET", &key, "FIELDS", 2, "f", &value, "g", &version);
            client.run(&admit(&format!("{key} 9 60000")));
            call!(client, "ML.RATELIMIT", &key, 5, 60);
            call!(client, "ML.CACHESET", &other, &version, &value);
            call!(client, "ML.RATELIMIT", &key, 5, 60);
            client.run("EXEC").items();
        }
    }
}

/// A write of features, of any form there is.
fn feature_step(client: &mut Client, random: &mut Random, key: &str, other: &str) {
    let view = random.of(&["", "v", "w"]);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let mut options = vec!["VIEW".to_owned(), view.to_owned()];
    let mut option = |word: &str, value: u64| options.extend([word.to_owned(), value.to_string()]);
    match random.below(3) {
        0 => option("AT", now_ms + random.below(2_000) - 1_000),
        1 => option("AT", [0, now_ms - 900_000, now_ms - 900_001][random.below(3) as usize]),
        _ => {}
    }
    match random.below(6) {
        0 => option("PX", 1 + random.below(40)),
        1 => option("PX", 60_000),
        2 => option("EX", 500),
        3 => option("PXAT", 1),
        _ => {}
    }
    let fields = ["f", "g", "h"];
    let value = random.of(&["1", "-7", "0.5", "84.50", "gold", ""]).to_owned();
    match random.below(9) {
        // Some of them late, and some of a SEQ that was seen.
        5 => {
            let at = now_ms - random.below(4) * 40_000;
            let seq = random.below(60);
            let numbered = if random.below(2) == 0 { format!(" SEQ {seq}") } else { String::new() };
            let last = 1 + random.below(4);
            let call = format!("ML.FEATUREPUSH {key} s {value}x 7 LAST {last} AT {at}{numbered}");
            client.run(&format!("{call} VIEW {view}"));
        }
        6 | 7 => {
            let at = now_ms - random.below(4) * 40_000;
            let amount = random.of(&["1", "-0.1", "0.3", "1e300", "-1e300"]);
            let spans = random.of(&["SPAN 120 TILE 20", "SPAN 3 TILE 1 SPAN 120 TILE 20"]);
            let call = format!("ML.FEATURETALLY {key} FIELDS 2 t {amount} u 2 {spans} AT {at}");
            client.run(&format!("{call} VIEW {view}"));
        }
        8 => {
            let kind = random.of(&["F32[2]", "F64[1]", "I64[1]"]);
            let kinds = ("TYPES", 2, kind, "AUTO", "FIELDS", 2, "e", "12345678", "f", value);
            call!(client, "ML.FEATURESET", key, options, kinds);
        }
        0 => {
            let blob: Vec<_> = (0..24).map(|_| random.next() as u8).collect();
            let kind = ["TYPE", "F32", "FIELDS", "2", "f", "z"];
            call!(client, "ML.FEATUREMSET", 3, key, other, key, blob, &kind, options);
        }
        1 => _ = call!(client, "ML.FEATUREDEL", key, "VIEW", view),
        2 => _ = call!(client, "ML.FEATUREDEL", key, "FIELDS", 2, random.of(&fields), "v:g"),
        _ => {
            let field = random.of(&fields);
            call!(client, "ML.FEATURESET", key, options, "FIELDS", 2, field, value, "k", 7);
        }
    }
}

/// A call on limits, of any form there is, or a step of the clock, which the
/// replicas know nothing of. `held` are the holds opened so far.
fn rate_step(client: &mut Client, random: &mut Random, held: &mut Vec<String>) {
    let keys = [0; 2].map(|_| format!("r{}", random.below(8)));
    let window = random.of(&["0.02", "0.5", "60", "60 90 3600", "60 2 0.1 40 7.5", "86400"]);
    let algorithm =
        random.of(&["", "", "", "", "ALGORITHM FIXED", "ALGORITHM SLIDING", "ALGORITHM GCRA"]);
    let mode = random.of(&["", "", "", "PARTIAL", "FORCE", "PEEK"]);
    let (limit, cost) = (3 + random.below(60), random.below(9));
    let ttl_ms = 1 + random.below(100_000);
    let hold = match random.below(6) {
        _ if mode == "PEEK" => String::new(),
        0 => format!("HOLD {ttl_ms}"),
        // One of its own, which may be open already, here or elsewhere.
        1 => format!("HOLD {ttl_ms} ID {:032}", random.below(20)),
        _ => String::new(),
    };
    let [key, other] = &keys;
    let some = |random: &mut Random| match held.len() as u64 {
        0 => format!("{:032}", random.below(20)),
        count => held[random.below(count) as usize].clone(),
    };
    let line = match random.below(20) {
        0..=7 => {
            format!("ML.RATELIMIT {key} {limit} {window} COST {cost} {mode} {hold} {algorithm}")
        }
        8 => format!("ML.RATELIMIT {key} {limit} 60 BURST {limit}0 ALGORITHM GCRA {hold}"),
        9..=11 if key != other => {
            let mode = mode.replace("PARTIAL", "FORCE");
            let item = format!("COST {cost} {algorithm}");
            format!(
                "ML.ADMIT 2 {key} {other} LIMIT {limit} 60 {item} LIMIT 90 3600 {item} {hold} {mode}"
            )
        }
        12 if mode != "PEEK" => {
            let items = format!("LIMIT {limit} 60 COST {cost} {algorithm} PERMIT {limit}");
            format!("ML.ADMIT 2 {key} p{key} {items} HOLD {ttl_ms} ID {:032}", random.below(20))
        }
        13 | 14 => {
            let id = some(random);
            let actual = random.of(&["", "ACTUAL 7 -", "ACTUAL 0 -", "ACTUAL - -"]);
            format!("ML.SETTLE 2 {key} p{other} {id} {actual}")
        }
        15 => format!("ML.SETTLE 1 {key} {} ACTUAL {}", some(random), random.below(20)),
        16 => format!("ML.RENEW 2 {key} p{other} {} {ttl_ms}", some(random)),
        17 => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
            let (ahead, behind) = (random.below(200_000_000), random.below(100_000_000));
            match random.below(3) {
                0 => "ML.DEBUG CLOCK REAL".to_owned(),
                _ => format!("ML.DEBUG CLOCK {}", now + ahead - behind),
            }
        }
        18 => format!("COPY {key} {other} REPLACE"),
        _ => match random.below(4) {
            0 => format!("DEL {key}"),
            1 => format!("PERSIST {key}"),
            _ => format!("CONFIG SET ml.ratelimit-algorithm {}", random.of(&ALGORITHMS)),
        },
    };
    let words: Vec<_> = line.split_whitespace().collect();
    match client.run(&words.join(" ")) {
        answer @ Value::Array(_) if words[0] == "ML.RATELIMIT" => held.extend(Row::of(&answer).id),
        answer @ Value::Array(_) if words[0] == "ML.ADMIT" => {
            held.extend(Admission::of(&answer).id);
        }
        _ => {}
    }
}

/// Waits until all hold the same: what is about to expire has to go first.
fn assert_equal(servers: &[&Server], context: &str) {
    let mut clients: Vec<_> = servers.iter().map(|server| server.client()).collect();
    for replica in &servers[1..] {
        replica.catch_up(servers[0]);
    }
    wait_for(&format!("equal digests, {context}"), || {
        let digests: Vec<_> = clients.iter_mut().map(Client::digest).collect();
        digests.iter().all(|digest| *digest == digests[0])
    });
}

#[test]
fn replicas_are_equal_after_mixed_traffic_whatever_their_config() {
    for seed in Random::seeds() {
        let primary = Server::start();
        let replica = primary.replica(OTHER_CONFIG);
        let replica_of_replica = replica.replica("ml.cache-versions-per-key 16");
        let (mut client, mut random) = (primary.client(), Random::new(seed));
        let mut late = None;
        for round in 0..4 {
            (0..500).for_each(|_| step(&mut client, &mut random));
            if round == 1 {
                // A full resync in the middle: it starts, and the traffic goes on.
                let server = Server::with(OTHER_CONFIG);
                call!(server.client(), "REPLICAOF", "127.0.0.1", primary.port()).ok();
                late = Some(server);
                continue;
            }
            assert_equal(
                &[&primary, &replica, &replica_of_replica],
                &format!("round {round}, seed {seed}"),
            );
        }
        assert_equal(&[&primary, late.as_ref().unwrap()], &format!("late, seed {seed}"));
        let keys = client.run("DBSIZE").integer() + {
            client.run("SELECT 1").ok();
            client.run("DBSIZE").integer()
        };
        assert!(keys > 0, "nothing was compared, seed {seed}");
    }
}

/// Gives every key a long life, so that none goes between two digests.
fn prolong(client: &mut Client) {
    for key in client.run("KEYS *").texts() {
        call!(client, "PEXPIRE", key, 1_000_000);
    }
    wait_for("what has expired to go", || {
        client.run("DBSIZE").integer() == client.run("KEYS *").items().len() as i64
    });
}

#[test]
fn limits_are_equal_on_replicas_and_after_a_restart_whatever_was_called_when() {
    for seed in Random::seeds() {
        let mut primary =
            Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
        let replica = primary.replica(OTHER_CONFIG);
        let (mut client, mut random) = (primary.client(), Random::new(seed));
        let mut held = Vec::new();
        for round in 0..4 {
            (0..700).for_each(|_| rate_step(&mut client, &mut random, &mut held));
            assert_equal(&[&primary, &replica], &format!("round {round}, seed {seed}"));
            if round == 1 {
                client.run("BGREWRITEAOF").text();
                client.run("ML.DEBUG CLOCK REAL").ok();
            }
        }
        // Chance may leave nothing that is open still.
        let kept = client.run("ML.RATELIMIT kept 10 3600 9 60 HOLD 3600000");
        assert!(Row::of(&kept).id.is_some(), "nothing is open, seed {seed}");
        prolong(&mut client);
        assert_equal(&[&primary, &replica], &format!("at the end, seed {seed}"));
        assert!(client.run("EXISTS kept").integer() > 0, "seed {seed}");
        let before = client.digest();
        primary.restart(crate::support::Stop::Kill);
        assert_eq!(primary.client().digest(), before, "from the AOF, seed {seed}");
        let mut client = replica.client();
        client.run("DEBUG RELOAD").ok();
        assert_eq!(client.digest(), before, "from an RDB file, seed {seed}");
    }
}

#[test]
fn a_restart_on_the_aof_of_mixed_traffic_changes_nothing() {
    for seed in Random::seeds() {
        for preamble in ["yes", "no"] {
            let mut server = Server::with(&format!(
                "appendonly yes\nappendfsync always\naof-use-rdb-preamble {preamble}"
            ));
            let (mut client, mut random) = (server.client(), Random::new(seed));
            (0..500).for_each(|_| step(&mut client, &mut random));
            client.run("BGREWRITEAOF").text();
            (0..500).for_each(|_| step(&mut client, &mut random));
            // What expires meanwhile would go in between.
            for database in [0, 1] {
                call!(client, "SELECT", database).ok();
                prolong(&mut client);
            }
            let before = client.digest();
            server.restart(crate::support::Stop::Kill);
            assert_eq!(server.client().digest(), before, "preamble {preamble}, seed {seed}");
        }
    }
}

#[test]
fn effects_are_replicated_and_logged_in_place_of_calls() {
    let server = Server::with("appendonly yes\nappendfsync always");
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("ML.RATELIMIT r 10 60");
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    client.run("ML.CACHESET c v x").ok();
    assert_eq!(tap.names(&mut client), ["ML.APPLYANSWERS"]);
    client.run("ML.ADMIT 1 p PERMIT 10 HOLD 60000").items();
    assert_eq!(tap.names(&mut client), ["ML.APPLYPERMIT"]);
    for key in ["r", "c", "p"] {
        // The effect puts the key's expiry right by itself, wherever it lands.
        let expires = call!(client, "PEXPIRETIME", key).integer();
        assert!(expires > 0);
    }
    client.run("MULTI").ok();
    client.run("ML.RATELIMIT r 10 60");
    client.run("ML.RATELIMIT r 0 60");
    client.run("ML.CACHEGET c v");
    client.run("ML.CACHESET c w y");
    client.run("EXEC").items();
    let names = tap.names(&mut client);
    assert_eq!(names, ["MULTI", "ML.APPLYLIMIT", "ML.APPLYANSWERS", "EXEC"]);
    call!(client, "EVAL", SCRIPT, 2, "r", "c", "v", "z").items();
    let names = tap.names(&mut client);
    assert_eq!(names, ["MULTI", "ML.APPLYANSWERS", "ML.APPLYLIMIT", "EXEC"]);

    let id = Row::of(&client.run("ML.RATELIMIT new 10 60 COST 3 HOLD 9000")).id.unwrap();
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    settle(&mut client, "new", &id, 5);
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    client.run("ML.ADMIT 2 new r LIMIT 10 60 LIMIT 10 60");
    assert_eq!(tap.names(&mut client), ["MULTI", "ML.APPLYLIMIT", "ML.APPLYLIMIT", "EXEC"]);
    client.run("ML.LIMITINFO new").map();
    assert_eq!(tap.names(&mut client), [""; 0]);

    let (mut random, mut held) = (Random::new(7), Vec::new());
    (0..300).for_each(|_| step(&mut client, &mut random));
    (0..300).for_each(|_| rate_step(&mut client, &mut random, &mut held));
    let mut logged = String::new();
    for file in std::fs::read_dir(server.directory().join("appendonlydir")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        logged.push_str(&String::from_utf8_lossy(&bytes).to_uppercase());
    }
    for applied in ["ML.APPLYLIMIT", "ML.APPLYPERMIT", "ML.APPLYANSWERS", "ML.APPLYROW"] {
        assert!(logged.contains(applied), "no {applied} in the AOF");
    }
    for called in [
        "ML.RATELIMIT",
        "ML.ADMIT",
        "ML.SETTLE",
        "ML.RENEW",
        "ML.CACHESET",
        "ML.CACHEGET",
        "ML.FEATURE",
    ] {
        assert!(!logged.contains(called), "{called} in the AOF");
        let names = tap.names(&mut client);
        assert!(!names.iter().any(|name| name.starts_with(called)), "{called} replicated");
    }
}

#[test]
fn a_failover_resets_no_limit_and_loses_no_answer() {
    let mut primary = Server::start();
    let mut client = primary.client();
    let replica = primary.replica(OTHER_CONFIG);
    client.run("ML.RATELIMIT r 10 3600 COST 7");
    client.run("ML.ADMIT 1 p PERMIT 10 COST 7 HOLD 3600000").items();
    client.run("ML.CACHESET c v1 a EX 1000").ok();
    client.run("ML.CACHESET c v2 b EX 2000").ok();
    let expiries = ["r", "c", "p"].map(|key| call!(client, "PEXPIRETIME", key).integer());
    replica.catch_up(&primary);
    primary.kill();
    let mut client = replica.client();
    client.run("REPLICAOF NO ONE").ok();
    assert_eq!(["r", "c", "p"].map(|key| call!(client, "PEXPIRETIME", key).integer()), expiries);
    assert_eq!(client.run("ML.RATELIMIT r 10 3600 COST 4").integers()[..3], [0, 10, 3]);
    assert_eq!(client.run("ML.RATELIMIT r 10 3600 COST 3").integers()[..3], [3, 10, 0]);
    client.run("CONFIG SET ml.limit-max-holds 2").ok();
    for (cost, granted) in [(4, 0), (3, 3)] {
        let answer = acquire(&mut client, &format!("p 10 3600000 COST {cost}"));
        assert_eq!(answer.0[0], granted);
    }
    assert_eq!(client.run("ML.CACHEGET c v1"), bulk("a"));
    assert_eq!(client.run("ML.CACHEGET c v2"), bulk("b"));
}

/// The effects of a charge, a permit, a set, a row, a hold, events and vectors, as they were replicated: the
/// command, the key, the payload, and what else there is.
fn effects(client: &mut Client, tap: &mut Tap) -> Vec<Vec<Vec<u8>>> {
    client.run("ML.RATELIMIT r 10 3600 COST 3");
    client.run("ML.ADMIT 1 p PERMIT 10 COST 3 HOLD 3600000").items();
    client.run("ML.CACHESET c v x EX 1000").ok();
    client.run("ML.FEATURESET f EX 1000 AT 1700000000005 FIELDS 2 f gold g 0.5").integer();
    client.run("ML.RATELIMIT h 10 3600 20 7200 COST 30 PARTIAL HOLD 9000000").items();
    client.run("ML.FEATUREPUSH s s gold 7 0.5 LAST 3 SEQ 9 VIEW v").integer();
    client.run("ML.FEATURETALLY t FIELDS 2 a 1 b 0.5 SPAN 60 TILE 1 SPAN 9000 TILE 900").integer();
    client.run("ML.FEATURESET e TYPE F32 DIM 2 FIELDS 2 f 12345678 g 87654321").integer();
    let mut effects = tap.replicated(client);
    effects.iter_mut().filter(|effect| is_of_rows(effect)).for_each(|effect| effect.swap(1, 2));
    effects
}

/// Whether it is the effect that names its keys last: there may be many.
fn is_of_rows(effect: &[Vec<u8>]) -> bool {
    effect[0] == b"ML.APPLYROW"
}

/// The commands that a rewritten AOF has for what the module holds.
fn rewritten(server: &Server, client: &mut Client) -> Vec<Vec<Vec<u8>>> {
    client.rewrite_aof();
    let mut files = std::fs::read_dir(server.directory().join("appendonlydir")).unwrap();
    let base = files.find_map(|file| {
        let path = file.unwrap().path();
        path.display().to_string().ends_with(".base.aof").then_some(path)
    });
    let base = std::fs::read(base.unwrap()).unwrap();
    let (mut rest, mut parser, mut commands) = (&base[..], redis::Parser::new(), Vec::new());
    while let Ok(command) = parser.parse_value(&mut rest) {
        let words: Vec<_> = command.items().iter().map(Answer::bytes).collect();
        commands.extend(words[0].starts_with(b"ML.").then_some(words));
    }
    commands
}

/// An effect on the key `new`, with another payload.
fn apply(client: &mut Client, effect: &[Vec<u8>], payload: &[u8]) -> Value {
    match is_of_rows(effect) {
        true => call!(client, &effect[0], payload, "new"),
        false => call!(client, &effect[0], "new", payload, &effect[3..]),
    }
}

#[test]
fn an_applied_effect_makes_what_it_came_from() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    for (effect, key) in
        effects(&mut client, &mut tap).iter().zip(["r", "p", "c", "f", "h", "s", "t", "e"])
    {
        apply(&mut client, effect, &effect[2]).ok();
        assert_eq!(client.digest_of("new"), client.digest_of(key));
        let expires = call!(client, "PEXPIRETIME", key);
        assert_eq!(client.run("PEXPIRETIME new"), expires, "{key}: the expiry is absolute");
        client.run("DEL new");
    }
}

#[test]
fn an_effect_of_any_other_bytes_is_an_error_that_writes_nothing() {
    let server = Server::with("appendonly yes\naof-use-rdb-preamble no");
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    let mut effects = effects(&mut client, &mut tap);
    effects.extend(rewritten(&server, &mut client));
    assert_eq!(effects.len(), 16, "one for each key, in either way");
    let before = client.footprint();
    let refused = |client: &mut Client, effect: &[Vec<u8>], payload: &[u8], context: &str| {
        let error = apply(client, effect, payload).error();
        assert!(error.starts_with("ERR "), "{context}: {error}");
    };
    for effect in &effects {
        let payload = &effect[2];
        // Nothing at all is what is loaded of a value that could not be saved.
        let first = usize::from(effect[0].starts_with(b"ML.LOAD"));
        for end in first..payload.len() {
            refused(&mut client, effect, &payload[..end], &format!("cut at {end}"));
        }
        refused(&mut client, effect, &[payload, &b"\0"[..]].concat(), "a byte too many");
        refused(&mut client, effect, &[b"\xff", &payload[1..]].concat(), "an unknown encoding");
        refused(&mut client, effect, &[0xff; 1 << 20], "a large one");
        assert_eq!(client.footprint(), before);
    }
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        for _ in 0..2_000 {
            let effect = &effects[random.below(16) as usize];
            let payload = match random.below(3) {
                0 => {
                    let length = 1 + random.below(100) as usize;
                    random.bytes(length)
                }
                1 => {
                    let length = random.below(60) as usize;
                    [&effect[2][..1], &random.bytes(length)].concat()
                }
                _ => {
                    let mut payload = effect[2].clone();
                    let at = random.below(payload.len() as u64) as usize;
                    payload[at] = random.next() as u8;
                    payload
                }
            };
            match apply(&mut client, effect, &payload) {
                Value::Okay => {
                    // One that could be: it can be used, and goes again.
                    client.run("ML.RATELIMIT new 10 60");
                    client.run("ML.ADMIT 1 new PERMIT 10 HOLD 60000");
                    client.run("ML.LIMITINFO new");
                    client.run("ML.CACHEGET new v");
                    client.run("ML.CACHESET new w y");
                    client.run("ML.FEATUREINFO new");
                    client.run("ML.FEATUREGET 1 new FIELDS 2 f g AS TENSOR");
                    client.run("ML.FEATUREGET 1 new FIELDS 3 v:s[3] sum(a,60) g[2] AS TENSOR");
                    client.run("ML.FEATUREPUSH new s x LAST 2 VIEW v");
                    client.run("ML.FEATURETALLY new FIELDS 1 a 1 SPAN 90 TILE 1");
                    client.run("ML.FEATURESET new FIELDS 1 f 1");
                    client.run("DUMP new");
                    client.run("DEL new");
                }
                answer => {
                    let error = answer.error();
                    assert!(error.starts_with("ERR "), "{payload:?}: {error}, seed {seed}");
                    assert_eq!(client.run("EXISTS new").integer(), 0, "{payload:?}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_diskless_load_that_is_cut_short_leaves_a_replica_that_works() {
    let mut primary =
        Server::with("repl-diskless-sync yes\nrepl-diskless-sync-delay 0\nrdb-key-save-delay 1000");
    let mut client = primary.client();
    for key in 0..800 {
        client.run_all(&[
            format!("ML.RATELIMIT r{key} 9 3600 9 7200 HOLD 900000"),
            format!("ML.ADMIT 1 p{key} PERMIT 9 HOLD 3600000"),
            format!("ML.CACHESET c{key} v x"),
            format!("ML.FEATURESET f{key} FIELDS 2 a{} 1 b gold", key % 7),
            format!("ML.FEATUREPUSH f{key} s gold silver LAST 9"),
            format!("ML.FEATURETALLY f{key} FIELDS 1 t 1 SPAN 60 TILE 60"),
        ]);
    }
    client.run("ML.CACHEVERSIONSET ns v").ok();
    // It answers while it loads, whenever so many bytes have come.
    let replica =
        Server::with("repl-diskless-load on-empty-db\nloading-process-events-interval-bytes 1024");
    let mut follower = replica.client();
    call!(follower, "REPLICAOF", "127.0.0.1", primary.port()).ok();
    wait_for("the load to have come some way", || {
        let far = follower.info("loading") == "1";
        far && follower.info("loading_loaded_bytes").parse::<u64>().unwrap() > 20_000
    });
    primary.kill();
    wait_for("the load to be given up", || follower.info("loading") == "0");
    follower.run("REPLICAOF NO ONE").ok();
    assert_eq!(follower.run("DBSIZE").integer(), 0, "half a data set is none");
    assert!(follower.run("ML.CACHEVERSION ns").items().is_empty());
    wait_for("what was loaded to be freed", || {
        ["ml_features_layouts", "ml_permit_held", "ml_ratelimit_open_holds"]
            .iter()
            .all(|gauge| follower.info(gauge) == "0")
    });
    // It works, alone and as somebody's replica.
    assert_eq!(follower.run("ML.RATELIMIT r 9 60").integers()[0], 1);
    let other = Server::start();
    let mut random = Random::new(9);
    (0..300).for_each(|_| step(&mut other.client(), &mut random));
    prolong(&mut other.client());
    replica.follow(&other);
    assert_eq!(follower.digest(), other.client().digest());
}
