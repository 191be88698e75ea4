//! A panic in any entry point ends there: the server lives, says so in its log,
//! and everything works on.

use crate::support::{Answer, Client, Server, Stop, Tap, bulk, call, commands, wait_for};
use redis::Value;
use std::io::Write;
use std::net::TcpStream;

type Trigger = fn(&mut Client);

/// What makes the server call each kind of entry point.
const TRIGGERS: &[(&str, &[Trigger])] = &[
    ("command", &[]), // Each command; below.
    (
        "keys",
        &[|client| {
            client.run("CLIENT TRACKING ON").ok();
            client.run("ML.FEATUREGET 2 hash row FIELDS 1 f").items();
            client.run("CLIENT TRACKING OFF").ok();
        }],
    ),
    (
        "rdb_load",
        &[|client| {
            let payload = client.run("DUMP cache").bytes();
            assert!(call!(client, "RESTORE", "loaded", 0, payload).is_error());
            assert_eq!(client.run("EXISTS loaded").integer(), 0);
        }],
    ),
    (
        "rdb_save",
        &[
            |client| _ = client.run("DUMP cache").bytes(),
            |client| _ = client.run("DUMP limit").bytes(),
            |client| _ = client.run("DUMP permit").bytes(),
            |client| _ = client.run("SAVE"),
            |client| {
                client.run("BGSAVE").text();
                wait_for("the save to end", || client.info("rdb_bgsave_in_progress") == "0");
            },
        ],
    ),
    ("aof_rewrite", &[rewrite_aof]),
    (
        "mem_usage",
        &[
            |client| assert!(client.run("MEMORY USAGE cache").integer() > 0),
            |client| assert!(client.run("MEMORY USAGE limit").integer() > 0),
            |client| assert!(client.run("MEMORY USAGE permit").integer() > 0),
        ],
    ),
    (
        "digest",
        &[
            |client| _ = client.run("DEBUG DIGEST-VALUE cache").items(),
            |client| _ = client.run("DEBUG DIGEST-VALUE permit").items(),
            |client| _ = client.run("DEBUG DIGEST").text(),
        ],
    ),
    (
        "free",
        &[
            |client| assert_eq!(client.run("DEL cache").integer(), 1),
            |client| assert_eq!(client.run("UNLINK limit").integer(), 1),
            |client| assert_eq!(client.run("DEL permit").integer(), 1),
            |client| client.run("SET cache x").ok(),
            |client| client.run("FLUSHALL SYNC").ok(),
        ],
    ),
    (
        "free_effort",
        &[
            |client| assert_eq!(client.run("UNLINK cache").integer(), 1),
            |client| assert_eq!(client.run("UNLINK limit").integer(), 1),
            |client| assert_eq!(client.run("UNLINK permit").integer(), 1),
        ],
    ),
    (
        "copy",
        &[
            |client| assert!(client.run("COPY cache copied").is_error()),
            |client| assert!(client.run("COPY limit copied").is_error()),
            |client| assert!(client.run("COPY permit copied").is_error()),
            |client| assert!(client.run("COPY row copied").is_error()),
        ],
    ),
    // On servers that defragment: in defrag.rs.
    ("defrag", &[]),
    (
        "info",
        &[
            |client| _ = client.run("INFO ml").text(),
            |client| _ = client.run("INFO everything").text(),
        ],
    ),
    (
        "unlink",
        &[
            |client| assert_eq!(client.run("DEL cache").integer(), 1),
            |client| assert_eq!(client.run("UNLINK limit").integer(), 1),
            |client| client.run("SET permit x").ok(),
        ],
    ),
    ("aux_save", &[|client| client.run("SAVE").ok()]),
    (
        "aux_load",
        &[|client| {
            // Without a table there is nothing to load, but on Redis 7.0.
            client.run("ML.CACHEVERSIONSET panics v").ok();
            assert!(client.run("DEBUG RELOAD").is_error());
            client.run("ML.CACHEVERSIONSET panics CLEAR").ok();
        }],
    ),
    (
        "timer",
        &[|client| {
            client.run("ML.CACHEFETCH missing v LEASE 1000").items();
            // Nobody hands the lease on, but no caller waits for longer than it said.
            let answer = client.run("ML.CACHEFETCH missing v LEASE 9000 WAIT 3000").items();
            assert_eq!(answer[0], bulk("BUSY"));
        }],
    ),
    (
        "wait_end",
        &[|client| {
            client.run("ML.CACHEFETCH missing v LEASE 9000").items();
            let error = client.run("ML.CACHEFETCH missing v LEASE 9000 WAIT 10").error();
            assert_eq!(error, "ERR internal error");
            client.run("FLUSHALL").ok();
        }],
    ),
    (
        "ready",
        &[|client| {
            let token = client.run("ML.CACHEFETCH ready v LEASE 9000").items()[2].text();
            let port = client.run("CONFIG GET port").map()["port"].text().parse().unwrap();
            let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
            other.write_all(b"ML.CACHEFETCH ready v LEASE 9000 WAIT 90000\r\n").unwrap();
            wait_for("the client", || client.info("blocked_clients") == "1");
            // It misses what enters its key, and waits on.
            client.run("ML.CACHESET enters w x").ok();
            client.run("RENAME enters ready").ok();
            client.run(&format!("ML.CACHESET ready v x TOKEN {token}")).ok();
            wait_for("the client", || client.info("blocked_clients") == "0");
            client.run("FLUSHALL").ok();
        }],
    ),
    (
        "disconnect",
        &[|client| {
            client.run("ML.CACHEFETCH missing v LEASE 9000").items();
            let port = client.run("CONFIG GET port").map()["port"].text().parse().unwrap();
            let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
            other.write_all(b"ML.CACHEFETCH missing v LEASE 9000 WAIT 90000\r\n").unwrap();
            let mut clients = |number| {
                wait_for("the clients", || client.info("blocked_clients") == number);
            };
            clients("1");
            drop(other);
            clients("0");
            client.run("FLUSHALL").ok();
        }],
    ),
    (
        "scan",
        &[
            |client| {
                let fields: Vec<_> = (0..50).map(|field| format!("f{field}")).collect();
                let answer = call!(client, "ML.FEATURES", "wide", fields);
                assert_eq!(answer.error(), "ERR internal error");
            },
            |client| {
                let answer = client.run("ML.FEATUREGETALL wide");
                assert_eq!(answer.error(), "ERR internal error");
            },
        ],
    ),
    (
        "worker",
        &[
            |client| assert_eq!(scan_by_threads(client).error(), "ERR internal error"),
            |client| {
                client.run("CONFIG SET ml.semantic-inline-bytes 1").ok();
                let vector = "aaaabbbbccccddddeeeeffffgggghhhh";
                let fetch = format!("ML.SEMFETCH sem v {vector} HIT 0.9 LEASE 9");
                assert_eq!(client.run(&fetch).error(), "ERR internal error");
                client.run("CONFIG SET ml.semantic-inline-bytes 16mb").ok();
            },
        ],
    ),
    (
        "hand_over",
        // It is found by the clock's tick.
        &[|client| assert_eq!(scan_by_threads(client).items()[0], bulk("HIT"))],
    ),
    // Whichever comes first: the fork, or the clock's tick.
    ("event", &[|client| rewrite_aof(client)]),
    (
        "config",
        &[
            |client| _ = client.run("CONFIG SET ml.cache-ttl 10"),
            |client| _ = client.run("CONFIG SET ml.ratelimit-algorithm GCRA"),
            |client| _ = client.run("CONFIG GET ml.*").map(),
            |client| _ = client.run("CONFIG REWRITE"),
        ],
    ),
];

/// Every command, called as it should be.
const COMMANDS: &[&str] = &[
    "ML.RATELIMIT limit 10 60",
    "ML.RATELIMIT fresh 10 60",
    "ML.RATELIMIT limit 10 60 PEEK",
    "ML.RATELIMIT limit 10 60 30 90 FORCE HOLD 9000",
    "ML.ADMIT 2 limit fresh LIMIT 10 60 LIMIT 10 60",
    "ML.ADMIT 2 limit permit LIMIT 10 60 COST 0 PERMIT 10 HOLD 60000",
    "ML.ADMIT 1 fresh PERMIT 10 HOLD 60000",
    "ML.SERVE 3 limit cache hash ADMIT LIMIT 10 60 CACHE v LEASE 9 FEATURES FIELDS 1 f",
    "ML.SETTLE 2 limit permit 0123456789abcdef0123456789abcdef ACTUAL 1 -",
    "ML.RENEW 2 limit permit 0123456789abcdef0123456789abcdef 60000",
    "ML.LIMITINFO limit",
    "ML.LIMITINFO permit",
    "ML.CACHESET cache v y",
    "ML.CACHESET fresh v y",
    "ML.CACHEGET cache v",
    "ML.CACHEMGET 2 cache fresh v",
    "ML.CACHEMSET 2 cache y fresh y v EX 10",
    "ML.CACHEDROP cache",
    "ML.CACHEFETCH fresh v LEASE 10",
    "ML.CACHEMFETCH 2 fresh cache v LEASE 10",
    "ML.CACHERENEW cache id 9",
    "ML.CACHERELEASE cache id",
    "ML.CACHEVERSION namespace",
    "ML.CACHEVERSIONSET namespace v",
    "ML.CACHEINFO cache",
    "ML.STATS RESET",
    "ML.FEATURES hash f",
    "ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR",
    "ML.FEATUREGET 1 row FIELDS 1 f AS JSON",
    "ML.FEATURESET row FIELDS 1 f 2",
    "ML.FEATURESET fresh FIELDS 1 f 2",
    "ML.FEATUREMSET 2 row fresh 12345678 TYPE F32 FIELDS 1 f",
    "ML.FEATURESET row TYPE F32 DIM 2 FIELDS 1 e 12345678",
    "ML.FEATUREPUSH row s a LAST 9",
    "ML.FEATUREPUSH fresh s a LAST 9",
    "ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60",
    "ML.FEATURETALLY fresh FIELDS 1 t 1 SPAN 60 TILE 60",
    "ML.FEATUREGET 1 row FIELDS 3 e[2] s[3] sum(t,60) AS TENSOR",
    "ML.FEATUREDEL row FIELDS 1 f",
    "ML.FEATUREINFO row",
    "ML.FEATUREGETALL row",
    "ML.FIELDLIST list a b",
    "ML.FIELDLISTS",
    "ML.FEATUREGETALL hash",
    "ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh y",
    "ML.SEMSET fresh v aaaabbbbccccddddeeeeffffgggghhhh y PROMPT p DIGEST d",
    "ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9",
    "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9 LEASE 9",
    "ML.SEMFETCH fresh v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9 LEASE 9",
    "ML.SEMALIAS sem v aaaabbbbccccddddeeeeffffgggghhhh 0123456789abcdef0123456789abcdef TOKEN none",
    "ML.SEMRENEW sem id 9",
    "ML.SEMRELEASE sem id",
    "ML.SEMDROP sem VERSION v",
    "ML.SEMTHRESHOLD sem 0123456789abcdef0123456789abcdef 0.5",
    "ML.SEMINFO sem",
    "ML.APPLYSEMANTIC sem change",
    "ML.LOADSEMANTIC sem payload",
    "ML.APPLYROW change row",
    "ML.LOADFEATURE row payload",
    "ML.APPLYLIMIT limit state",
    "ML.APPLYPERMIT permit change",
    "ML.APPLYANSWERS cache change value",
    "ML.APPLYVERSIONS payload",
    "ML.APPLYFIELDLISTS payload",
    "ML.LOADRATE limit payload",
    "ML.LOADPERMIT permit payload",
    "ML.LOADCACHE cache payload",
    "ML.DEBUG CLOCK REAL",
];

/// Finds what has its place in the table of keys, with threads.
fn scan_by_threads(client: &mut Client) -> Value {
    client.run("CONFIG SET ml.semantic-inline-bytes 1").ok();
    let found = client.run("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9");
    client.run("CONFIG SET ml.semantic-inline-bytes 16mb").ok();
    found
}

/// A rewrite, which a panic may have fail.
fn rewrite_aof(client: &mut Client) {
    client.run("BGREWRITEAOF").text();
    client.wait_for_rewrite();
}

fn start() -> (Server, Client) {
    let server = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let client = server.client();
    (server, client)
}

/// Puts a key of each kind in place.
fn furnish(client: &mut Client) {
    client.run("FLUSHALL").ok();
    client.run("ML.RATELIMIT limit 10 60 30 90 COST 2").integers();
    let held = "LIMIT 10 60 PERMIT 10 COST 3 HOLD 60000 ID 0123456789abcdef0123456789abcdef";
    client.run(&format!("ML.ADMIT 2 limit permit {held}")).items();
    client.run("ML.CACHESET cache v x").ok();
    client.run("ML.FEATURESET row EX 9000 FIELDS 2 f 1 g gold").integer();
    client.run("ML.FEATUREPUSH row s a b LAST 9").integer();
    client.run("ML.FEATURETALLY row FIELDS 1 t 2.5 SPAN 86400 TILE 3600").integer();
    client.run("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x PROMPT p").text();
    client.run("HSET hash f v");
    for field in 0..50 {
        client.run(&format!("HSET wide f{field} x"));
    }
}

fn arm(client: &mut Client, entry: &str) {
    call!(client, "ML.DEBUG", "PANIC", entry).ok();
}

/// How often the log tells of a panic in this kind of entry point.
fn panics(server: &Server, entry: &str) -> usize {
    let log = server.log();
    log.lines().filter(|line| line.contains("panic") && line.contains(entry)).count()
}

/// Everything works, each in the way of every day.
fn assert_works(client: &mut Client, context: &str) {
    furnish(client);
    let answers = [
        ("PING", Value::SimpleString("PONG".into())),
        ("ML.CACHEGET cache v", bulk("x")),
        ("ML.CACHESET cache w y", Value::Okay),
        ("ML.CACHEGET cache w", bulk("y")),
        ("ML.FEATURES hash f g", Value::Array(vec![bulk("v"), Value::Nil])),
        ("ML.FEATURESET row VIEW v EX 9 FIELDS 1 f 2", Value::Int(1)),
        ("ML.FEATURES row f g v:f", Value::Array(vec![bulk("1"), bulk("gold"), bulk("2")])),
        ("ML.FEATUREPUSH row s c LAST 2", Value::Int(1)),
        ("ML.FEATURETALLY row FIELDS 1 t 2 SPAN 86400 TILE 3600", Value::Int(1)),
        (
            "ML.FEATURES row s sum(t,86400)",
            Value::Array(vec![Value::Array(vec![bulk("c"), bulk("b")]), bulk("4.5")]),
        ),
        ("COPY cache copied REPLACE", Value::Int(1)),
        ("ML.CACHEGET copied w", bulk("y")),
        ("CONFIG SET ml.cache-ttl 3600", Value::Okay),
        ("CONFIG SET ml.ratelimit-algorithm FIXED", Value::Okay),
    ];
    for (call, expected) in answers {
        assert_eq!(client.run(call), expected, "{call} after a panic in {context}");
    }
    assert_eq!(client.run("ML.RATELIMIT limit 10 60 COST 2").integers()[..3], [2, 10, 5]);
    let permit = client.run("ML.ADMIT 1 permit PERMIT 10 COST 2 HOLD 60000").items();
    assert_eq!(permit[4].items()[0].integers()[..3], [2, 10, 5]);
    let settled = call!(client, "ML.SETTLE", 2, "permit", "limit", permit[1].text());
    assert_eq!(settled.integers(), [1, 0]);
    for key in ["limit", "permit", "cache", "row", "sem"] {
        assert!(call!(client, "MEMORY USAGE".split(' ').collect::<Vec<_>>(), key).integer() > 0);
        let payload = call!(client, "DUMP", key).bytes();
        call!(client, "RESTORE", "restored", 99_000, payload, "REPLACE").ok();
        assert_eq!(client.digest_of("restored"), client.digest_of(key), "after {context}");
    }
    assert_eq!(client.run("ML.CACHEFETCH missing v LEASE 10").items()[0], bulk("LEASE"));
    let waited = client.run("ML.CACHEFETCH missing v LEASE 9000 WAIT 9000").items();
    assert_eq!(waited[0], bulk("LEASE"), "the timer works after {context}");
    assert_eq!(call!(client, "ML.CACHERELEASE", "missing", waited[2].text()).integer(), 1);
    assert!(client.info("ml_cache_hits").parse::<u64>().unwrap() > 0);
    assert_eq!(client.run("DEL cache copied").integer(), 2);
    assert_eq!(client.run("UNLINK limit permit row sem restored").integer(), 5);
    client.run("SAVE").ok();
}

#[test]
fn every_kind_of_entry_point_has_a_test_here() {
    let (_server, mut client) = start();
    let mut entries = client.run("ML.DEBUG PANIC ENTRIES").texts();
    entries.sort();
    let mut known: Vec<_> = TRIGGERS.iter().map(|(entry, _)| *entry).collect();
    known.sort_unstable();
    assert_eq!(entries, known);
    assert!(client.run("ML.DEBUG PANIC nowhere").error().starts_with("ERR "));
}

#[test]
fn a_panic_in_a_command_is_an_error_and_changes_nothing() {
    commands::assert_calls_of_all("COMMANDS", commands::names(), COMMANDS.iter().copied());
    let (server, mut client) = start();
    let process = client.info("process_id");
    furnish(&mut client);
    let (_tap, mut told) = (Tap::on(&server), panics(&server, "command"));
    let before = client.footprint();
    for command in COMMANDS {
        arm(&mut client, "command");
        assert_eq!(client.run(command).error(), "ERR internal error", "{command}");
        let tells = panics(&server, "command");
        assert!(tells > told, "{command}: not in the log");
        told = tells;
        assert_eq!(client.footprint(), before, "{command}");
    }
    // The same inside of transactions and scripts, which go on.
    arm(&mut client, "command");
    client.run("MULTI").ok();
    client.run("ML.CACHESET cache v lost").text();
    client.run("ML.CACHESET cache v kept").text();
    let answers = client.run("EXEC").items();
    assert_eq!(answers[0].error(), "ERR internal error");
    assert_eq!(answers[1], Value::Okay);
    arm(&mut client, "command");
    let script = "local first = redis.pcall('ML.CACHESET', KEYS[1], 'v', 'lost')
        return {first.err, redis.call('ML.CACHEGET', KEYS[1], 'v')}";
    let answers = call!(client, "EVAL", script, 1, "cache").items();
    assert!(answers[0].text().contains("internal error"), "{answers:?}");
    assert_eq!(answers[1], bulk("kept"));
    assert_works(&mut client, "command");
    assert_eq!(client.info("process_id"), process);
}

#[test]
fn a_panic_in_a_callback_is_logged_and_everything_works_on() {
    let (mut server, mut client) = start();
    let process = client.info("process_id");
    for (entry, triggers) in TRIGGERS {
        for (number, trigger) in triggers.iter().enumerate() {
            furnish(&mut client);
            let context = format!("{entry}, way {number}");
            let before = panics(&server, entry);
            arm(&mut client, entry);
            trigger(&mut client);
            assert!(panics(&server, entry) > before, "{context}: not in the log");
            // In a fork, the parent stays armed: with something else, then.
            arm(&mut client, "command");
            assert!(client.run("ML.CACHEGET cache v").error().contains("internal error"));
            assert_works(&mut client, &context);
            assert_eq!(client.info("process_id"), process, "{context}");
        }
    }
    assert!(server.is_running());
}

#[test]
fn what_was_saved_in_spite_of_a_panic_can_be_loaded() {
    let (mut server, mut client) = start();
    for (entry, preamble, only) in [
        ("rdb_save", "yes", "limit"),
        ("rdb_save", "yes", "permit"),
        ("rdb_save", "yes", "cache"),
        ("rdb_save", "yes", "row"),
        ("aof_rewrite", "no", "limit"),
        ("aof_rewrite", "no", "permit"),
        ("aof_rewrite", "no", "cache"),
        ("aof_rewrite", "no", "row"),
    ] {
        let others = ["limit", "permit", "cache", "row"];
        let others: Vec<_> = others.into_iter().filter(|key| *key != only).collect();
        let context = format!("{entry} of {only}");
        call!(client, "CONFIG", "SET", "aof-use-rdb-preamble", preamble).ok();
        furnish(&mut client);
        assert_eq!(call!(client, "DEL", &others).integer(), 3);
        let before = panics(&server, entry);
        arm(&mut client, entry);
        rewrite_aof(&mut client);
        assert!(panics(&server, entry) > before, "{context}: not in the log");
        server.restart(Stop::Kill);
        client = server.client();
        assert_eq!(client.run("ML.FEATURES hash f").texts(), ["v"], "{context}");
        // And whatever that left can be saved and loaded again.
        assert_eq!(client.run("DEBUG RELOAD"), Value::Okay, "{context}");
        assert_eq!(client.run("ML.FEATURES hash f").texts(), ["v"], "{context}");
        assert_works(&mut client, &context);
    }
}
