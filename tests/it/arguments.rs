//! What each command refuses: in words that name the argument, and with nothing
//! changed, replicated or notified.

use crate::support::permits::{granted, release, renew};
use crate::support::{Answer, Client, Events, Random, Server, Tap, call, commands};
use redis::{Cmd, Value};

/// A server with a key of each kind, and somebody who listens to what is
/// replicated, so that the offset counts.
fn furnished() -> (Server, Client, Tap) {
    let server = Server::start();
    let mut client = server.client();
    client.run("RPUSH list a b");
    client.run("SET string hello");
    client.run("HSET hash f v");
    client.run("ML.RATELIMIT limit 10 3600 COST 3");
    client.run("ML.ADMIT 1 permit PERMIT 10 COST 3 HOLD 3600000");
    client.run("ML.CACHESET cache v x").ok();
    client.run("ML.FEATURESET row FIELDS 1 f 1").integer();
    client.run("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x EMBEDDER e DIGEST d").text();
    let tap = Tap::on(&server);
    (server, client, tap)
}

/// What the commands that replicate an effect were given for it.
fn effects() -> [Vec<Vec<u8>>; 5] {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("ML.RATELIMIT key 10 3600");
    client.run("ML.ADMIT 1 key3 PERMIT 10 HOLD 3600000");
    client.run("ML.CACHESET key2 v x").ok();
    client.run("ML.FEATURESET key4 FIELDS 1 f 2").integer();
    client.run("ML.SEMSET key5 v aaaabbbbccccddddeeeeffffgggghhhh x").text();
    tap.replicated(&mut client).try_into().unwrap()
}

/// What no numeric argument takes, apart by bars; the first one is empty.
const NO_NUMBERS: &str = "|-|+|.|abc|0x10|1e3|1_000|+1|01|-0| 1|1 |1\n|1\0|1,5|nan|inf|-1|1x|１|\
    9223372036854775808|18446744073709551616|999999999999999999999999999999999999999999999999";

/// A call with `{}` for the argument, the name its error must have, and what it
/// refuses besides what no numeric argument takes.
const NUMERIC: &[(&str, &str, &[&str])] = &[
    ("ML.RATELIMIT new {} 60", "limit", &["1.5", "9007199254740993", "9223372036854775807"]),
    ("ML.RATELIMIT limit {} 60", "limit", &["1.0", "-9223372036854775808"]),
    (
        "ML.RATELIMIT new 10 {}",
        "window",
        &["0", "0.0", "0.000999", "0.0010001", "31622400.000001", "31622401", "-0.5", "1.2.3"],
    ),
    ("ML.RATELIMIT limit 10 60 COST {}", "COST", &["1.5", "9007199254740993"]),
    ("ML.RATELIMIT new 10 60 PEEK cost {}", "COST", &["9223372036854775807"]),
    ("ML.RATELIMIT new 10 60 20 {}", "window", &["0", "31622401"]),
    ("ML.RATELIMIT new 10 60 ALGORITHM GCRA BURST {}", "BURST", &["0", "9007199254740993"]),
    ("ML.RATELIMIT new 10 60 HOLD {}", "HOLD", &["0", "31622400001"]),
    ("ML.ADMIT {} new limit LIMIT 10 60 LIMIT 10 60", "numkeys", &["0", "9"]),
    ("ML.ADMIT 2 new limit LIMIT 10 60 LIMIT {} 60", "limit", &["1.5", "9007199254740993"]),
    ("ML.ADMIT 2 new limit LIMIT 10 60 LIMIT 10 60 COST {}", "COST", &["9007199254740993"]),
    ("ML.ADMIT 2 new limit LIMIT 10 60 LIMIT 10 {}", "window", &["0", "0.0009", "31622401"]),
    ("ML.ADMIT 1 new LIMIT 10 60 ALGORITHM GCRA BURST {}", "BURST", &["0", "9007199254740993"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 HOLD {}", "HOLD", &["0", "1.5", "31622400001"]),
    ("ML.ADMIT 1 new PERMIT {} HOLD 60000", "max", &["1.5", "9007199254740993"]),
    ("ML.ADMIT 1 permit PERMIT 10 HOLD {}", "HOLD", &["0", "0.5", "31622400001"]),
    ("ML.ADMIT 1 permit PERMIT 10 COST {} HOLD 60000", "COST", &["1.5", "9007199254740993"]),
    ("ML.ADMIT 2 new permit LIMIT 10 60 PERMIT {} PEEK", "max", &["1.5", "9007199254740993"]),
    ("ML.SERVE {} limit cache ADMIT LIMIT 10 60 CACHE v LEASE 9", "numkeys", &["0", "11"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT {} 60 CACHE v LEASE 9", "limit", &["1.5"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 9 60 HOLD {} CACHE v LEASE 9", "HOLD", &["0"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 9 60 CACHE v LEASE {}", "LEASE", &["0", "3600001"]),
    ("ML.SERVE 2 cache hash CACHE v LEASE 9 FEATURES FIELDS {} f", "FIELDS", &["0", "2"]),
    ("ML.SETTLE {} limit new id", "numkeys", &["0", "4"]),
    ("ML.RENEW {} limit new id 9", "numkeys", &["0", "5"]),
    ("ML.RENEW 2 permit limit id {}", "milliseconds", &["0", "0.5", "31622400001"]),
    ("ML.CACHESET new v x EX {}", "EX", &["0", "1.5", "9223372036854775807", "9223372036854775"]),
    ("ML.CACHESET cache v x PX {}", "PX", &["0", "1.5", "9223372036854775807"]),
    ("ML.CACHESET new v x exat {}", "EXAT", &["0", "1.5", "9223372036854776"]),
    ("ML.CACHESET cache v x PXAT {}", "PXAT", &["0", "1.5"]),
    ("ML.CACHESET new v x STALE {}", "STALE", &["1.5", "31622400001"]),
    ("ML.CACHESET cache v x JITTER {}", "JITTER", &["0.5", "101"]),
    ("ML.CACHEMSET 1 new x v EX {}", "EX", &["0", "1.5", "9223372036854775807"]),
    ("ML.CACHEMSET 1 cache x v px {}", "PX", &["0", "1.5"]),
    ("ML.CACHEFETCH new v LEASE {}", "LEASE", &["0", "1.5", "3600001"]),
    ("ML.CACHEFETCH cache v LEASE 9 WAIT {}", "WAIT", &["0", "1.5", "31622400001"]),
    ("ML.CACHEFETCH cache v EARLY {} LEASE 9", "EARLY", &["0", "0.0000001", "1000.000001", "1001"]),
    ("ML.CACHEMFETCH 1 new v LEASE {}", "LEASE", &["0", "1.5", "3600001"]),
    ("ML.CACHEMFETCH {} new v LEASE 9", "numkeys", &["0", "1.5", "5"]),
    ("ML.CACHERENEW cache id {}", "milliseconds", &["0", "1.5", "3600001"]),
    ("ML.CACHERELEASE cache id BACKOFF {}", "BACKOFF", &["0", "1.5", "3600001"]),
    ("ML.FEATUREGET {} hash FIELDS 1 f", "numkeys", &["0", "1.5", "5", "9223372036854775807"]),
    ("ML.FEATUREGET 1 hash FIELDS {} f", "FIELDS", &["0", "1.5", "2", "9223372036854775807"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f MAXAGE {}", "MAXAGE", &["0", "1.5"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f DEFAULTS {} 7", "DEFAULTS", &["0", "2", "1.5"]),
    (
        "ML.FEATURESET new AT {} FIELDS 1 f v",
        "AT",
        &["1.5", "9223372036854775807", "-1", "1", "1700000000", "100000000000"],
    ),
    ("ML.FEATURESET row EX {} FIELDS 1 f v", "EX", &["0", "1.5", "281474976711"]),
    ("ML.FEATURESET row px {} FIELDS 1 f v", "PX", &["0", "281474976710655"]),
    ("ML.FEATURESET new FIELDS 1 f v EXAT {}", "EXAT", &["0", "281474976711"]),
    ("ML.FEATURESET new FIELDS 1 f v PXAT {}", "PXAT", &["0", "281474976710656"]),
    ("ML.FEATURESET new FIELDS {} f v", "FIELDS", &["0", "2", "1.5", "9223372036854775807"]),
    ("ML.FEATUREMSET {} new 1234 TYPE F32 FIELDS 1 f", "numkeys", &["0", "8", "1.5"]),
    ("ML.FEATUREMSET 1 new 1234 TYPE F32 FIELDS {} f", "FIELDS", &["0", "2", "1.5"]),
    ("ML.FEATUREMSET 1 row 1234 TYPE F32 FIELDS 1 f AT {}", "AT", &["9223372036854775807"]),
    ("ML.FEATUREMSET 1 row 1234 TYPE F32 FIELDS 1 f PX {}", "PX", &["0", "1.5"]),
    ("ML.FEATUREDEL row FIELDS {} f", "FIELDS", &["0", "2", "1.5"]),
    ("ML.FEATURESET row TYPE F32 DIM {} FIELDS 1 e 1234", "DIM", &["0", "65537", "1.5"]),
    ("ML.FEATUREMSET 1 row 1234 TYPE F32 DIM {} FIELDS 1 e", "DIM", &["0", "65537", "1.5"]),
    ("ML.FEATUREPUSH row s a LAST {}", "LAST", &["0", "65537", "1.5"]),
    ("ML.FEATUREPUSH new s a LAST 9 SEQ {}", "SEQ", &["1.5"]),
    ("ML.FEATUREPUSH row s a LAST 9 AT {}", "AT", &["1", "1700000000", "9223372036854775807"]),
    ("ML.FEATURETALLY row FIELDS {} t 1 SPAN 60 TILE 60", "FIELDS", &["0", "9", "1.5"]),
    (
        "ML.FEATURETALLY new FIELDS 1 t 1 SPAN {} TILE 1",
        "SPAN",
        &["0", "0.0", "0.000999", "4097", "7.5", "31622400.000001", "31622401", "1.2.3"],
    ),
    (
        "ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE {}",
        "TILE",
        &["0", "0.0005", "0.001", "7", "61", "60.0000001", "31622401"],
    ),
    ("ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60 SEQ {}", "SEQ", &["1.5"]),
    (
        "ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60 AT {}",
        "AT",
        &["1", "1700000000", "9223372036854775807"],
    ),
    ("ML.CACHERELEASE cache id BACKOFF {}", "BACKOFF", &["0", "1.5", "31622400001"]),
    (
        "ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x EX {}",
        "EX",
        &["0", "1.5", "9223372036854775807"],
    ),
    (
        "ML.SEMSET new v aaaabbbbccccddddeeeeffffgggghhhh x STALE {}",
        "STALE",
        &["1.5", "31622400001"],
    ),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x JITTER {}", "JITTER", &["0.5", "101"]),
    (
        "ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT {}",
        "HIT",
        &["1.000001", "2", "0.1234567", ".5"],
    ),
    (
        "ML.SEMGET new v aaaabbbbccccddddeeeeffffgggghhhh HIT 1 MAYBE {}",
        "MAYBE",
        &["1.000001", "2", "0.1234567"],
    ),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 1 TOP {}", "TOP", &["0", "65", "1.5"]),
    (
        "ML.SEMFETCH new v aaaabbbbccccddddeeeeffffgggghhhh HIT {} LEASE 9",
        "HIT",
        &["1.000001", "2", "0.1234567"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 1 LEASE {}",
        "LEASE",
        &["0", "1.5", "3600001"],
    ),
    (
        "ML.SEMFETCH new v aaaabbbbccccddddeeeeffffgggghhhh HIT 1 LEASE 9 WAIT {}",
        "WAIT",
        &["0", "1.5", "31622400001"],
    ),
    (
        "ML.SEMFETCH new v aaaabbbbccccddddeeeeffffgggghhhh HIT 1 LEASE 9 TOP {}",
        "TOP",
        &["0", "65", "1.5"],
    ),
    ("ML.SEMRENEW sem id {}", "milliseconds", &["0", "1.5", "3600001"]),
    ("ML.SEMRELEASE sem id BACKOFF {}", "BACKOFF", &["0", "1.5", "3600001"]),
    (
        "ML.SEMTHRESHOLD sem 0123456789abcdef0123456789abcdef {}",
        "similarity",
        &["1.000001", "2", "0.1234567"],
    ),
];

#[test]
fn numbers_that_are_none_or_out_of_range_are_refused_by_name() {
    let (_server, mut client, _tap) = furnished();
    let before = client.footprint();
    for (call, name, others) in NUMERIC {
        for number in NO_NUMBERS.split('|').chain(others.iter().copied()) {
            let mut command = Cmd::new();
            for word in call.split(' ') {
                command.arg(if word == "{}" { number } else { word });
            }
            let error = client.send(&command).error();
            assert!(
                error.starts_with("ERR ") && error.contains(name),
                "{call} with {number:?}: {error}"
            );
        }
        assert_eq!(client.footprint(), before, "{call}");
    }
}

#[test]
fn the_numbers_at_the_edge_of_what_is_refused_are_taken() {
    let server = Server::start();
    let mut client = server.client();
    for call in [
        "ML.RATELIMIT k 0 60",
        "ML.RATELIMIT k 9007199254740992 0.001 COST 9007199254740992",
        "ML.RATELIMIT k 1 31622400.000000 COST 1",
        "ML.RATELIMIT w 1 1 1 2 1 3 1 4 1 5 1 6 1 7 1 8",
        "ML.RATELIMIT b 1 1 ALGORITHM GCRA BURST 9007199254740992",
        "ML.RATELIMIT b 1 1 BURST 1 PEEK",
        "ML.RATELIMIT k 1 60 FORCE HOLD 31622400000",
        "ML.RATELIMIT k 1 60 HOLD 1 PARTIAL",
        "ML.RATELIMIT k 1 60 HOLD 1 ID ffffffffffffffffffffffffffffffff COST 0",
        "ML.ADMIT 1 k LIMIT 1 60 COST 0",
        "ML.ADMIT 1 k3 PERMIT 0 COST 0 HOLD 1",
        "ML.ADMIT 1 k3 PERMIT 9 PEEK",
        "ML.ADMIT 1 k3 PERMIT 9 HOLD 9 PEEK",
        "ML.ADMIT 1 k LIMIT 0 0.001 COST 9007199254740992",
        "ML.SETTLE 1 k id ACTUAL 0",
        "ML.SETTLE 1 k id ACTUAL 9007199254740992",
        "ML.ADMIT 1 k3 PERMIT 0 HOLD 1",
        "ML.ADMIT 1 k3 PERMIT 9007199254740992 COST 9007199254740992 HOLD 31622400000",
        "ML.RENEW 1 k3 id 1",
        "ML.RENEW 1 k3 id 31622400000",
        "ML.CACHESET k2 v x EX 1",
        "ML.CACHESET k2 v x PX 1",
        "ML.CACHESET k2 v x EXAT 9223372036854775",
        "ML.CACHESET k2 v x PXAT 9223372036854775807",
        "ML.CACHESET k2 v x PXAT 9223372036854775807 STALE 31622400000 JITTER 100",
        "ML.CACHESET k2 v x STALE 0 JITTER 0",
        "ML.CACHEFETCH k4 v LEASE 3600000 WAIT 31622400000 EARLY 1000",
        "ML.CACHERENEW k4 id 3600000",
        "ML.CACHEFETCH k4 v LEASE 1 WAIT 1 EARLY 0.000001",
        "ML.CACHERELEASE k4 id BACKOFF 3600000",
        "ML.CACHEVERSIONSET k4 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "ML.FEATUREPUSH k5 s a LAST 1 AT 0 SEQ 0",
        "ML.FEATUREPUSH k5 s a LAST 65536 SEQ 9223372036854775807",
        "ML.FEATURETALLY k5 FIELDS 1 t 1.7976931348623157e308 SPAN 0.001 TILE 0.001 SEQ 0",
        "ML.FEATURETALLY k6 FIELDS 1 t -1 SPAN 31622400 TILE 31622400 SPAN 4096 TILE 1",
        "ML.FEATURETALLY k7 FIELDS 1 t -1 SPAN 4.096 TILE 0.001 SEQ 9223372036854775807",
        "ML.FEATURESET k5 TYPE F32 DIM 1 FIELDS 1 e 1234",
        "ML.FEATURES k5 e[1] e[65536] s[1] s[65536] count(t,0.000001)",
    ] {
        let answer = client.run(call);
        assert!(!answer.is_error(), "{call}: {answer:?}");
    }
}

/// A call, and the words that its error must have.
const WORDS: &[(&str, &[&str])] = &[
    ("ML.RATELIMIT limit 10 60 FOO", &["unknown", "'FOO'"]),
    ("ML.RATELIMIT limit 10 60 COST 1 bar", &["unknown", "'bar'"]),
    ("ML.RATELIMIT limit 10 60 100", &["wrong number of arguments"]),
    ("ML.RATELIMIT limit 10 60 20 60", &["window", "twice"]),
    ("ML.RATELIMIT limit 1 1 1 2 1 3 1 4 1 5 1 6 1 7 1 8 1 9", &["limit", "window", "8"]),
    ("ML.RATELIMIT limit 10 60 -1 70", &["limit"]),
    ("ML.RATELIMIT limit 10 60 100 3600 5 60.000000", &["window", "twice"]),
    ("ML.RATELIMIT limit 10 60 PEEK 100 3600", &["unknown", "'100'"]),
    ("ML.RATELIMIT limit 10 60 BURST 5", &["BURST", "GCRA"]),
    ("ML.RATELIMIT new 10 60 BURST 5", &["BURST", "GCRA"]),
    ("ML.RATELIMIT new 10 60 BURST 5 ALGORITHM SLIDING", &["BURST", "GCRA"]),
    ("ML.RATELIMIT new 10 60 ALGORITHM GCRA BURST", &["BURST", "value"]),
    ("ML.RATELIMIT new 10 60 ALGORITHM GCRA BURST 5 burst 5", &["BURST", "twice"]),
    ("ML.RATELIMIT limit 10 60 HOLD", &["HOLD", "value"]),
    ("ML.RATELIMIT limit 10 60 HOLD 1 hold 1", &["HOLD", "twice"]),
    ("ML.RATELIMIT new 10 60 20 70 ALGORITHM GCRA BURST 5", &["BURST"]),
    ("ML.RATELIMIT limit 10 60 BURST 0", &["BURST"]),
    ("ML.RATELIMIT limit 10 60 PEEK PARTIAL", &["PEEK", "PARTIAL"]),
    ("ML.RATELIMIT limit 10 60 FORCE PEEK", &["PEEK", "FORCE"]),
    ("ML.RATELIMIT limit 10 60 PARTIAL FORCE", &["PARTIAL", "FORCE"]),
    ("ML.RATELIMIT limit 0 60 FORCE", &["limit", "FORCE"]),
    ("ML.RATELIMIT limit 10 60 0 70 FORCE", &["limit", "FORCE"]),
    ("ML.RATELIMIT limit 10 60 HOLD 0", &["HOLD"]),
    ("ML.RATELIMIT limit 10 60 HOLD 31622400001", &["HOLD"]),
    ("ML.RATELIMIT limit 10 60 HOLD 1000 PEEK", &["HOLD", "PEEK"]),
    ("ML.RATELIMIT limit 10 60 PEEK HOLD 1000", &["HOLD", "PEEK"]),
    ("ML.RATELIMIT limit 10 60 ID 0123456789abcdef0123456789abcdef", &["ID", "HOLD"]),
    ("ML.RATELIMIT limit 10 60 HOLD 9 ID", &["ID", "value"]),
    ("ML.RATELIMIT limit 10 60 HOLD 9 ID x", &["ID", "32"]),
    ("ML.RATELIMIT limit 10 60 HOLD 9 ID 0123456789ABCDEF0123456789ABCDEF", &["ID", "32"]),
    ("ML.RATELIMIT limit 10 60 HOLD 9 ID 0123456789abcdef0123456789abcde", &["ID", "32"]),
    ("ML.RATELIMIT limit 10 60 HOLD 9 ID 0123456789abcdef0123456789abcdef0", &["ID", "32"]),
    ("ML.ADMIT 0 limit LIMIT 10 60", &["numkeys"]),
    ("ML.ADMIT 5 limit LIMIT 10 60", &["numkeys"]),
    ("ML.ADMIT 9223372036854775807 limit LIMIT 10 60", &["numkeys"]),
    ("ML.ADMIT 2 limit limit LIMIT 10 60 LIMIT 10 60", &["key", "twice"]),
    ("ML.ADMIT 3 new limit new LIMIT 10 60 PERMIT 1 LIMIT 10 60 HOLD 9", &["key", "twice"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60", &["item", "2 keys"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 HOLD 9", &["item", "2 keys"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 LIMIT 20 60", &["item", "1 keys"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 HOLD 9 LIMIT 20 60", &["unknown", "'LIMIT'"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 HOLD 9 COST 1", &["unknown", "'COST'"]),
    ("ML.ADMIT 1 limit 10 60 LIMIT", &["item", "LIMIT or PERMIT", "'10'"]),
    ("ML.ADMIT 1 limit PEEK LIMIT 10 60", &["item", "LIMIT or PERMIT", "'PEEK'"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 LIMIT 10 60 FOO", &["unknown", "'FOO'"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 FOO LIMIT 10 60", &["unknown", "'FOO'"]),
    ("ML.ADMIT 2 limit permit LIMIT 10 60 PERMIT 9 BURST 1 HOLD 9", &["unknown", "'BURST'"]),
    ("ML.ADMIT 2 permit new PERMIT 9 7 LIMIT 10 60 HOLD 9", &["unknown", "'7'"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 COST 1 cost 2 LIMIT 10 60", &["COST", "twice"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 COST LIMIT 10 60", &["COST"]),
    ("ML.ADMIT 2 new limit LIMIT 10 60 60 60 LIMIT 10 60", &["window", "twice"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 LIMIT 10 x", &["window"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 ALGORITHM MAGIC", &["ALGORITHM"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 PARTIAL", &["unknown", "'PARTIAL'"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 BURST 5", &["BURST", "GCRA"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 20 70 ALGORITHM GCRA BURST 5", &["BURST"]),
    ("ML.ADMIT 2 limit new LIMIT 10 60 LIMIT 0 60 FORCE", &["limit", "FORCE"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 PEEK FORCE", &["PEEK", "FORCE"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 PEEK peek", &["PEEK", "twice"]),
    ("ML.ADMIT 1 permit PERMIT 10", &["PERMIT", "HOLD"]),
    ("ML.ADMIT 2 limit permit LIMIT 10 60 PERMIT 10", &["PERMIT", "HOLD"]),
    ("ML.ADMIT 1 permit PERMIT 10 HOLD 9 FORCE", &["PERMIT", "FORCE"]),
    ("ML.ADMIT 2 limit permit LIMIT 10 60 PERMIT 10 FORCE", &["PERMIT", "FORCE"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 ID 0123456789abcdef0123456789abcdef", &["ID", "HOLD"]),
    ("ML.ADMIT 1 limit LIMIT 10 60 HOLD 9 ID x", &["ID", "32"]),
    (
        "ML.ADMIT 1 permit PERMIT 9 HOLD 9 PEEK ID 0123456789abcdef0123456789abcdef",
        &["PEEK", "ID", "exclude"],
    ),
    (
        "ML.ADMIT 1 permit PERMIT 9 HOLD 9 ID 0123456789abcdef0123456789abcdef PEEK",
        &["PEEK", "ID", "exclude"],
    ),
    ("ML.ADMIT 1 permit PERMIT 10 HOLD 60000 FOO", &["unknown", "'FOO'"]),
    ("ML.ADMIT 1 permit PERMIT 10 HOLD 60000 60000", &["unknown", "'60000'"]),
    ("ML.ADMIT 1 permit PERMIT 10 COST HOLD 60000", &["COST"]),
    ("ML.ADMIT 1 permit PERMIT 10 COST 1 cost 1 HOLD 60000", &["COST", "twice"]),
    ("ML.ADMIT 1 permit PERMIT 10 HOLD 9 HOLD 9", &["HOLD", "twice"]),
    ("ML.SETTLE 2 limit permit", &["wrong number of arguments"]),
    ("ML.SETTLE 2 limit limit id", &["key", "twice"]),
    ("ML.SETTLE 3 permit limit permit id ACTUAL - 1 -", &["key", "twice"]),
    ("ML.RENEW 3 limit permit limit id 9", &["key", "twice"]),
    ("ML.SETTLE 1 limit id FOO", &["unknown", "'FOO'"]),
    ("ML.SETTLE 1 limit id ACTUAL", &["ACTUAL", "value"]),
    ("ML.SETTLE 2 limit new id ACTUAL 1", &["ACTUAL", "value"]),
    ("ML.SETTLE 1 limit id ACTUAL 1 2", &["ACTUAL", "1 keys"]),
    ("ML.SETTLE 1 limit id ACTUAL -1", &["ACTUAL", "-", "0 to"]),
    ("ML.SETTLE 1 limit id ACTUAL 9007199254740993", &["ACTUAL", "-", "0 to"]),
    ("ML.SETTLE 1 limit id ACTUAL x", &["ACTUAL"]),
    ("ML.SETTLE 1 permit id ACTUAL 3", &["ACTUAL", "permits"]),
    ("ML.SETTLE 2 limit permit id ACTUAL - 3", &["ACTUAL", "permits"]),
    ("ML.RENEW 1 limit id 9 9", &["wrong number of arguments"]),
    ("ML.RATELIMIT limit 10 60 COST", &["COST"]),
    ("ML.RATELIMIT limit 10 60 ALGORITHM", &["ALGORITHM"]),
    ("ML.RATELIMIT limit 10 60 ALGORITHM MAGIC", &["ALGORITHM"]),
    ("ML.RATELIMIT limit 10 60 COST PEEK", &["COST"]),
    ("ML.RATELIMIT limit 10 60 PEEK peek", &["PEEK"]),
    ("ML.RATELIMIT limit 10 60 COST 1 cost 1", &["COST"]),
    ("ML.RATELIMIT limit 10 60 ALGORITHM FIXED algorithm FIXED", &["ALGORITHM"]),
    ("ML.CACHESET cache v x FOO", &["unknown", "'FOO'"]),
    ("ML.CACHESET cache v x EX 10 FOO 1", &["unknown", "'FOO'"]),
    ("ML.CACHESET cache v x EX", &["EX"]),
    ("ML.CACHESET cache v x PXAT", &["PXAT"]),
    ("ML.SERVE 1 limit", &["two parts"]),
    ("ML.SERVE 2 hash cache CACHE v LEASE 9", &["two parts"]),
    ("ML.SERVE 5 limit cache ADMIT LIMIT 10 60 CACHE v LEASE 9", &["numkeys", "'60'"]),
    ("ML.SERVE 1 limit ADMIT LIMIT 10 60 COST 1 HOLD 9", &["two parts"]),
    ("ML.SERVE 1 limit ADMIT LIMIT 10 60 FOO 1 2 3 4", &["unknown", "'FOO'"]),
    ("ML.SERVE 1 limit LIMIT 10 60 CACHE v LEASE 9 1", &["ADMIT, CACHE, FEATURES", "'LIMIT'"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 WAIT 9 CACHE v LEASE 9", &["unknown", "'WAIT'"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 PEEK CACHE v LEASE 9", &["unknown", "'PEEK'"]),
    ("ML.SERVE 2 limit cache ADMIT HOLD 9 CACHE v LEASE 9", &["item", "'HOLD'"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 HOLD 9 HOLD 9 CACHE v LEASE 9", &["HOLD", "twice"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 CACHE v WAIT 9 LEASE 9", &["unknown", "'WAIT'"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 CACHE v FREEHITS", &["LEASE"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 10 60 CACHE  LEASE 9", &["version"]),
    ("ML.SERVE 2 cache hash CACHE v LEASE 9 FREEHITS FEATURES FIELDS 1 f", &["FREEHITS", "ADMIT"]),
    ("ML.SERVE 2 limit permit ADMIT LIMIT 9 60 PERMIT 9 CACHE v LEASE 9", &["PERMIT", "HOLD"]),
    ("ML.SERVE 2 limit new ADMIT LIMIT 9 60 LIMIT 9 60 CACHE v LEASE 9", &["numkeys", "CACHE"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 9 60 CACHE v LEASE 9 FEATURES FIELDS 1 f", &["FEATURES"]),
    ("ML.SERVE 3 limit cache hash ADMIT LIMIT 9 60 CACHE v LEASE 9", &["'hash'", "no part"]),
    ("ML.SERVE 1 limit ADMIT LIMIT 9 60 LIMIT 9 60 CACHE v LEASE 9", &["item", "1 keys"]),
    ("ML.SERVE 2 new new ADMIT LIMIT 9 60 CACHE v LEASE 9", &["key", "twice"]),
    ("ML.SERVE 3 new new cache ADMIT LIMIT 9 60 LIMIT 9 60 CACHE v LEASE 9", &["key", "twice"]),
    ("ML.SERVE 2 cache hash CACHE v LEASE 9 FEATURES FILES 1 f", &["FIELDS"]),
    ("ML.SERVE 2 cache hash CACHE v LEASE 9 FEATURES FIELDS 1 f AS TEXT", &["AS", "VALUES"]),
    ("ML.SERVE 2 limit hash FEATURES FIELDS 1 f ADMIT LIMIT 9 60", &["in that order", "'ADMIT'"]),
    ("ML.SERVE 2 limit cache ADMIT LIMIT 9 60 CACHE v LEASE 9 WAIT 5", &["'WAIT'", "FREEHITS"]),
    ("ML.FEATUREGET 1 hash FIELDS 3 f", &["FIELDS", "1 or more"]),
    ("ML.SETTLE 1 limit ACTUAL 3", &["'3'", "one of ACTUAL"]),
    ("ML.SERVE 2 cache limit CACHE v LEASE 9 ADMIT LIMIT 9 60 1", &["in that order", "'ADMIT'"]),
    ("ML.CACHESET cache v x EX 10 EX 10", &["EX"]),
    ("ML.CACHESET cache v x EX 10 PX 10", &["EX", "PX"]),
    ("ML.CACHESET cache v x PXAT 99 exat 99", &["EXAT", "PXAT"]),
    ("ML.CACHESET cache v x PX 10 EXAT 10", &["PX", "EXAT"]),
    ("ML.CACHESET cache  x", &["version"]),
    ("ML.CACHEGET cache ", &["version"]),
    ("ML.CACHESET cache v x STALE", &["STALE", "value"]),
    ("ML.CACHESET cache v x TOKEN", &["TOKEN", "value"]),
    ("ML.CACHESET cache v x TOKEN a TOKEN b", &["TOKEN", "twice"]),
    ("ML.CACHESET cache v x JITTER 1 jitter 1", &["JITTER", "twice"]),
    ("ML.CACHESET cache v {x} JSON", &["value", "JSON"]),
    ("ML.CACHESET cache v NaN JSON", &["value", "JSON"]),
    ("ML.CACHESET cache v 1 JSON JSON", &["JSON", "twice"]),
    ("ML.CACHEGET cache v STALE STALE", &["STALE", "twice"]),
    ("ML.CACHEGET cache v FRESH", &["unknown", "'FRESH'"]),
    ("ML.CACHEMGET 1 cache ", &["version"]),
    ("ML.CACHEMGET 2 cache v", &["wrong number of arguments"]),
    ("ML.CACHEMGET 3 cache v", &["numkeys"]),
    ("ML.CACHEMSET 1 cache x  EX 9", &["version"]),
    ("ML.CACHEMSET 1 cache x v EX 9 PXAT 9", &["EX", "PXAT"]),
    ("ML.CACHEMSET 1 cache x v 9", &["unknown", "'9'"]),
    ("ML.CACHEMSET 3 cache x new v EX", &["numkeys"]),
    ("ML.CACHEDROP cache VERSION", &["VERSION", "value"]),
    ("ML.CACHEDROP cache VERSION ", &["version"]),
    ("ML.CACHEDROP cache STALE STALE", &["STALE", "twice"]),
    ("ML.CACHEDROP cache v", &["unknown", "'v'"]),
    ("ML.CACHEFETCH cache  LEASE 9", &["version"]),
    ("ML.CACHEFETCH cache v WAIT 9", &["LEASE"]),
    ("ML.CACHEFETCH new v EARLY 1 WAIT 9", &["LEASE"]),
    ("ML.CACHEFETCH new v", &["LEASE"]),
    ("ML.CACHEFETCH new v LEASE", &["LEASE", "value"]),
    ("ML.CACHEFETCH new v LEASE 9 LEASE 9", &["LEASE", "twice"]),
    ("ML.CACHEFETCH new v LEASE 9 WAIT", &["WAIT", "value"]),
    ("ML.CACHEFETCH new v LEASE 9 BLOCK 9", &["unknown", "'BLOCK'"]),
    ("ML.CACHEMFETCH 1 new v 9 LEASE", &["unknown", "'9'"]),
    ("ML.CACHEMFETCH 1 new v LEASE 9 WAIT 9", &["unknown", "'WAIT'"]),
    ("ML.CACHEFETCH new v LEASE 9 TOKEN x", &["TOKEN", "32"]),
    ("ML.CACHEMFETCH 1 new v LEASE 9 TOKEN x", &["TOKEN", "32"]),
    ("ML.CACHEMFETCH 1 new  LEASE 9", &["version"]),
    ("ML.CACHERELEASE cache id BACKOFF", &["BACKOFF", "value"]),
    ("ML.CACHERELEASE cache id WAIT 9", &["unknown", "'WAIT'"]),
    ("ML.CACHEVERSION a v", &["wrong number of arguments"]),
    ("ML.CACHEVERSIONSET a CLEAR v", &["CLEAR"]),
    ("ML.CACHEVERSIONSET a ", &["version"]),
    ("ML.CACHEVERSIONSET a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", &["16"]),
    ("ML.STATS NAMESPACE", &["NAMESPACE", "value"]),
    ("ML.STATS RESET RESET", &["RESET", "twice"]),
    ("ML.STATS LIMITS CACHE", &["LIMITS", "CACHE"]),
    ("ML.STATS v", &["unknown", "'v'"]),
    ("ML.APPLYVERSIONS garbage", &["payload"]),
    ("ML.APPLYFIELDLISTS garbage", &["payload"]),
    ("ML.FEATUREGET 1 hash FILES 1 f", &["FIELDS"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f g", &["unknown", "'g'"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS", &["AS", "value"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TEXT", &["AS", "VALUES, TENSOR, JSON"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR TYPE F16", &["TYPE", "F32, F64, I64"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f TYPE F32", &["TYPE", "TENSOR"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS JSON TYPE F32", &["TYPE", "TENSOR"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR AS JSON", &["AS", "twice"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f DEFAULT", &["DEFAULT", "value"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f DEFAULT 1 DEFAULTS 1 1", &["DEFAULT", "DEFAULTS"]),
    ("ML.FEATUREGET 1 hash FIELDS 2 f g DEFAULTS 1 1", &["DEFAULTS", "FIELDS"]),
    ("ML.FEATUREGET 1 hash FIELDS 2 f g DEFAULTS 2 1", &["DEFAULTS", "value"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f DEFAULT x AS TENSOR", &["DEFAULT", "F32"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR TYPE I64 DEFAULT 1.5", &["DEFAULT", "I64"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f STRICT strict", &["STRICT", "twice"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS JSON WITHTIMES", &["WITHTIMES", "TENSOR"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR TYPE F64 DEFAULT 1e999", &["DEFAULT", "F64"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f AS TENSOR TYPE I64 DEFAULT -9223372036854775809", &["I64"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 v:f LAYOUT", &["LAYOUT", "value"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 v:f LAYOUT TECTON", &["LAYOUT", "FEAST"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 v:f LAYOUT FEAST LAYOUT FEAST", &["LAYOUT", "twice"]),
    ("ML.FEATUREGET 1 hash FIELDS 2 v:f f LAYOUT FEAST", &["FIELDS", "view:feature", "'f'"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 :f LAYOUT FEAST", &["FIELDS", "view:feature", "':f'"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 v:f LAYOUT FEAST STRICT", &["'v:f'", "'hash'", "missing"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 v:f LAYOUT FEAST AS TENSOR TYPE I64", &["'v:f'", "DEFAULT"]),
    ("ML.FEATUREGETALL hash WITH v", &["unknown", "'WITH'"]),
    ("ML.FEATUREGETALL hash VIEW a:b", &["VIEW", "':'"]),
    ("ML.FEATURESET row AT 1700000000 FIELDS 1 f 1", &["AT", "milliseconds", "1700000000"]),
    ("ML.FEATURESET row TYPES 1 I64 FIELDS 2 f 1 g 2", &["TYPES", "FIELDS"]),
    ("ML.FEATURESET row TYPES 2 I64 F16 FIELDS 2 f 1 g 2", &["TYPES", "AUTO, F32"]),
    ("ML.FEATURESET row TYPES 3 I64 I64 FIELDS 1 f 1", &["TYPES"]),
    ("ML.FEATURESET row TYPE I64 TYPES 1 I64 FIELDS 1 f 1", &["TYPE", "TYPES", "exclude"]),
    ("ML.FEATURESET row TYPES 2 F32 I64 FIELDS 2 f 1 g 1.5", &["'g'", "I64"]),
    ("ML.FEATURESET row REPLACE REPLACE FIELDS 1 f 1", &["REPLACE", "twice"]),
    ("ML.FEATURESET row DIM 1 FIELDS 1 e 1234", &["DIM", "F32"]),
    ("ML.FEATURESET row TYPE AUTO DIM 1 FIELDS 1 e 1234", &["DIM", "F32"]),
    ("ML.FEATURESET row TYPE STRING FIELDS 1 e 1234 DIM 4", &["DIM", "F32"]),
    ("ML.FEATURESET row TYPE F32 DIM 1 TYPES 1 F32 FIELDS 1 e 1234", &["TYPES", "TYPE"]),
    ("ML.FEATURESET row TYPES 1 F32 DIM 1 FIELDS 1 e 1234", &["DIM", "TYPES"]),
    ("ML.FEATURESET row TYPE F32 DIM 2 FIELDS 1 e 1234567", &["value", "'e'", "8 bytes"]),
    ("ML.FEATURESET row TYPE F32 DIM 2 FIELDS 1 e 123456789", &["value", "'e'", "8 bytes"]),
    ("ML.FEATURESET row TYPE I64 DIM 1 FIELDS 1 e 1234", &["value", "'e'", "8 bytes"]),
    ("ML.FEATURESET row TYPES 2 I64 F64[2] FIELDS 2 f 1 e 12345678", &["'e'", "16 bytes"]),
    ("ML.FEATURESET row TYPES 1 AUTO[1] FIELDS 1 e 1234", &["TYPES", "AUTO, F32"]),
    ("ML.FEATURESET row TYPES 1 F32[0] FIELDS 1 e 1234", &["TYPES", "AUTO, F32"]),
    ("ML.FEATURESET row TYPES 1 F32[65537] FIELDS 1 e 1234", &["TYPES", "AUTO, F32"]),
    ("ML.FEATURESET row FIELDS 1 e[1] 1", &["'e[1]'", "vector or a sequence"]),
    ("ML.FEATURESET row FIELDS 1 std(e,1) 1", &["'std(e,1)'", "window"]),
    ("ML.FEATUREMSET 1 row 12345678 TYPE F32 FIELDS 1 e[2]", &["blob", "4 bytes"]),
    ("ML.FEATUREMSET 1 row 1234 TYPE F32 FIELDS 1 e[2]", &["'e[2]'", "vector or a sequence"]),
    ("ML.FEATUREMSET 2 row new 12345678 TYPE F32 DIM 3 FIELDS 1 e", &["blob", "24 bytes", "3"]),
    ("ML.FEATUREPUSH row s a b c", &["LAST"]),
    ("ML.FEATUREPUSH row s a LAST LAST", &["LAST"]),
    ("ML.FEATUREPUSH row s a SEQ 1 LAST", &["LAST", "value"]),
    ("ML.FEATUREPUSH row s a LAST 9 last 9", &["LAST", "twice"]),
    ("ML.FEATUREPUSH row s a LAST 9 b", &["unknown", "'b'"]),
    ("ML.FEATUREPUSH row s a LAST 9 TYPE F16", &["TYPE", "AUTO, F32"]),
    ("ML.FEATUREPUSH row s 7 a LAST 9 TYPE I64", &["'s'", "I64"]),
    ("ML.FEATUREPUSH row s a LAST 9 VIEW a:b", &["VIEW", "':'"]),
    ("ML.FEATUREPUSH row s a LAST 9 AT 99999999999999", &["AT", "ml.features-max-skew"]),
    ("ML.FEATUREPUSH row s[3] a LAST 9", &["'s[3]'", "vector or a sequence"]),
    ("ML.FEATUREPUSH row min(s,3) a LAST 9", &["'min(s,3)'", "window"]),
    ("ML.FEATUREPUSH row f a LAST 9", &["'f'", "I64"]),
    ("ML.FEATURETALLY row FIELDS 1 t nan SPAN 60 TILE 60", &["amount", "'t'", "finite"]),
    ("ML.FEATURETALLY row FIELDS 1 t -inf SPAN 60 TILE 60", &["amount", "'t'", "finite"]),
    ("ML.FEATURETALLY row FIELDS 2 u 1 t 1e309 SPAN 60 TILE 60", &["amount", "'t'", "finite"]),
    ("ML.FEATURETALLY row FIELDS 1 t many SPAN 60 TILE 60", &["amount", "'t'", "finite"]),
    ("ML.FEATURETALLY row FIELDS 2 t 1 t 2 SPAN 60 TILE 60", &["'t'", "twice"]),
    ("ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60 SPAN 120 TILE 60", &["TILE", "SPAN"]),
    (
        "ML.FEATURETALLY row FIELDS 1 t 1 SPAN 3 TILE 1 SPAN 4 TILE 2 SPAN 6 TILE 3",
        &["SPAN", "TILE", "twice"],
    ),
    ("ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 FOO 60", &["TILE"]),
    ("ML.FEATURETALLY row", &["FIELDS must be given"]),
    ("ML.FEATURETALLY row FIELDS 1 t 1", &["SPAN and TILE must be given"]),
    ("ML.FEATUREPUSH row s a", &["LAST must be given"]),
    ("ML.FEATURETALLY row FIELDS 1 t 1 TILE 60 SPAN 60", &["unknown", "'TILE'"]),
    ("ML.FEATURETALLY row FIELDS 2 t 1 u 1 SEQ 1 VIEW v", &["SPAN", "TILE"]),
    ("ML.FEATURETALLY row SPAN 60 TILE 60 SEQ 1 VIEW v", &["FIELDS"]),
    ("ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60 VIEW a:b", &["VIEW", "':'"]),
    ("ML.FEATURETALLY row FIELDS 1 t[1] 1 SPAN 60 TILE 60", &["'t[1]'", "vector"]),
    ("ML.FEATURETALLY row FIELDS 1 sum(t,60) 1 SPAN 60 TILE 60", &["'sum(t,60)'", "window"]),
    ("ML.FEATURETALLY row FIELDS 2 a 1 f 1 SPAN 60 TILE 60", &["'f'", "I64"]),
    ("ML.FEATUREGET 1 hash FIELDS 1 f[2] STRICT", &["'f[2]'", "bytes, not 2 numbers"]),
    ("ML.FEATUREGET 1 row FIELDS 1 f[2] STRICT", &["'f[2]'", ", not 2 numbers"]),
    ("ML.FEATUREGET 1 row FIELDS 1 sum(f,1) STRICT", &["'sum(f,1)'", "span"]),
    ("ML.FEATUREGET 1 row FIELDS 1 x[2] AS TENSOR TYPE I64", &["'x[2]'", "DEFAULT"]),
    ("ML.FEATUREMSET 1 new 1234 TYPE F32 FIELDS 1 f TIMES 1234567", &["TIMES", "8 bytes"]),
    ("ML.FEATUREMSET 1 new 1234 TYPE F32 FIELDS 1 f TIMES 1234567812345678", &["TIMES", "8 bytes"]),
    ("ML.FEATUREMSET 1 new 1234 TYPE F32 FIELDS 1 f TIMES 12345678", &["TIMES", "max-skew"]),
    ("ML.FEATUREMSET 1 new 1234 TYPE F32 FIELDS 1 f AT 0 TIMES 12345678", &["AT", "TIMES"]),
    ("ML.FEATUREGET 2 hash nobody FIELDS 1 f STRICT", &["'f'", "'nobody'"]),
    ("ML.FEATUREGET 1 nobody FIELDS 1 f AS TENSOR TYPE I64", &["'f'", "'nobody'", "DEFAULT"]),
    ("ML.FEATURESET row AT 1700000000005 FIELDS 1 f", &["FIELDS"]),
    ("ML.FEATURESET row FIELDS 2 f v g", &["FIELDS"]),
    ("ML.FEATURESET row FIELDS 1 f v g", &["unknown", "'g'"]),
    ("ML.FEATURESET row FIELDS 1 f v FIELDS 1 g v", &["FIELDS", "twice"]),
    ("ML.FEATURESET row TYPE F32 VIEW v AT 1700000000005", &["FIELDS"]),
    ("ML.FEATURESET row EX 9 PX 9 FIELDS 1 f v", &["EX", "PX"]),
    ("ML.FEATURESET row VIEW a:b FIELDS 1 f v", &["VIEW", "':'"]),
    ("ML.FEATURESET row FIELDS 1 f v VIEW", &["VIEW", "value"]),
    ("ML.FEATURESET row TYPE F16 FIELDS 1 f v", &["TYPE", "AUTO, F32, F64, I64, STRING"]),
    ("ML.FEATURESET row TYPE F32 FIELDS 1 f gold", &["value", "'f'", "F32"]),
    ("ML.FEATURESET row TYPE F32 FIELDS 2 f 1 g 1e39", &["value", "'g'", "F32"]),
    ("ML.FEATURESET row TYPE F64 FIELDS 1 f 1e400", &["value", "'f'", "F64"]),
    ("ML.FEATURESET row TYPE I64 FIELDS 1 f 1.5", &["value", "'f'", "I64"]),
    ("ML.FEATURESET row TYPE I64 FIELDS 1 f 9223372036854775808", &["value", "'f'", "I64"]),
    ("ML.FEATURESET row AT 99999999999999 FIELDS 1 f v", &["AT", "ml.features-max-skew"]),
    ("ML.FEATUREMSET 2 row new 1234567 TYPE F32 FIELDS 1 f", &["blob", "8 bytes"]),
    ("ML.FEATUREMSET 2 row new 123456789 TYPE F32 FIELDS 1 f", &["blob", "8 bytes"]),
    ("ML.FEATUREMSET 2 row new 12345678 TYPE F64 FIELDS 1 f", &["blob", "16 bytes"]),
    ("ML.FEATUREMSET 2 row new 12345678 FIELDS 1 f AT 1700000000005", &["TYPE"]),
    ("ML.FEATUREMSET 2 row new 12345678 TYPE F32 AT 1700000000005", &["FIELDS"]),
    ("ML.FEATUREMSET 2 row new 12345678 TYPE AUTO FIELDS 1 f", &["TYPE", "F32, F64, I64"]),
    ("ML.FEATUREDEL row f g", &["VIEW", "FIELDS"]),
    ("ML.FEATUREDEL row VIEW v FIELDS 1 f", &["nothing may follow"]),
    ("ML.FEATUREDEL row FIELDS 1 f g", &["nothing may follow"]),
    ("ML.FEATUREDEL row VIEW a:b", &["VIEW", "':'"]),
    ("ML.FEATUREGET 2 row nobody FIELDS 1 f STRICT", &["'f'", "'nobody'", "missing"]),
    ("ML.APPLYROW garbage row", &["change"]),
    ("ML.LOADFEATURE row garbage", &["payload"]),
    ("ML.APPLYLIMIT limit garbage", &["change"]),
    ("ML.APPLYPERMIT permit garbage", &["change"]),
    ("ML.APPLYANSWERS cache garbage x", &["change"]),
    ("ML.LOADRATE limit garbage", &["payload"]),
    ("ML.LOADPERMIT permit garbage", &["payload"]),
    ("ML.LOADCACHE cache garbage", &["payload"]),
    ("ML.SEMSET sem v 1234567 x", &["vector", "8 to 4096"]),
    ("ML.SEMSET new v 1234 x", &["vector", "8 to 4096"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh1234 x", &["vector", "8 dimensions"]),
    ("ML.SEMSET sem  aaaabbbbccccddddeeeeffffgggghhhh x", &["version"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x EMBEDDER f", &["EMBEDDER", "key"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x EMBEDDER ", &["EMBEDDER", "1 to 255"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x DIGEST ", &["DIGEST", "1 to 64"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x DIGEST a DIGEST b", &["DIGEST", "twice"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x PROMPT", &["PROMPT", "value"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x EX 9 PX 9", &["EX", "PX"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x JSON", &["unknown", "'JSON'"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh TOP 3", &["HIT"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 MAYBE 0.6", &["MAYBE", "HIT"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 HIT 0.5", &["HIT", "twice"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 STALE", &["unknown", "'STALE'"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 EMBEDDER f", &["EMBEDDER", "key"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh", &["HIT must be given"]),
    ("ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 1", &["LEASE must be given"]),
    ("ML.SEMDROP sem", &["ID or VERSION must be given"]),
    ("ML.SEMDROP sem v", &["unknown", "'v'"]),
    ("ML.SEMGET sem v aaaabbbbccccddddeeeeffffgggghhhh1234 HIT 0.5", &["vector", "8 dimensions"]),
    ("ML.SEMGET new v 12345678 HIT 0.5", &["vector", "8 to 4096"]),
    ("ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh x TOKEN", &["TOKEN", "value"]),
    ("ML.SEMFETCH new v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 TOP 3", &["LEASE"]),
    ("ML.SEMFETCH new v aaaabbbbccccddddeeeeffffgggghhhh LEASE 9 TOP 3", &["HIT"]),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9 LEASE 9",
        &["LEASE", "twice"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9 TOKEN x",
        &["TOKEN", "32"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9 EARLY 1",
        &["unknown", "'EARLY'"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9 MAYBE 0.6",
        &["MAYBE", "HIT"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9 EMBEDDER f",
        &["EMBEDDER", "key"],
    ),
    (
        "ML.SEMFETCH sem v aaaabbbbccccddddeeeeffffgggghhhh1234 HIT 0.5 LEASE 9",
        &["vector", "8 dimensions"],
    ),
    ("ML.SEMFETCH new v 12345678 HIT 0.5 LEASE 9", &["vector", "8 to 4096"]),
    ("ML.SEMFETCH new  aaaabbbbccccddddeeeeffffgggghhhh HIT 0.5 LEASE 9", &["version"]),
    ("ML.SEMALIAS sem v aaaabbbbccccddddeeeeffffgggghhhh x TOKEN x", &["id", "32"]),
    (
        "ML.SEMALIAS sem v aaaabbbbccccddddeeeeffffgggghhhh 0123456789abcdef0123456789abcdef JSON x",
        &["unknown", "'JSON'"],
    ),
    (
        "ML.SEMALIAS sem v aaaabbbbccccddddeeeeffffgggghhhh1234 0123456789abcdef0123456789abcdef TOKEN x",
        &["vector", "8 dimensions"],
    ),
    ("ML.SEMRELEASE sem id BACKOFF", &["BACKOFF", "value"]),
    ("ML.SEMRELEASE sem id WAIT 9", &["unknown", "'WAIT'"]),
    ("ML.SEMDROP sem ID x", &["ID", "32"]),
    ("ML.SEMDROP sem VERSION ", &["version"]),
    ("ML.SEMDROP sem v w", &["unknown", "'v'"]),
    ("ML.SEMTHRESHOLD sem x 0.5", &["id", "32"]),
    ("ML.APPLYSEMANTIC sem garbage", &["change"]),
    ("ML.LOADSEMANTIC sem garbage", &["payload"]),
];

#[test]
fn unknown_repeated_incomplete_and_contradicting_words_are_refused_by_name() {
    let (_server, mut client, _tap) = furnished();
    let before = client.footprint();
    for (call, words) in WORDS {
        let error = client.run(call).error();
        assert!(error.starts_with("ERR "), "{call}: {error}");
        for word in *words {
            assert!(error.contains(word), "{call}: {error}");
        }
        assert_eq!(client.footprint(), before, "{call}");
    }
}

#[test]
fn an_unknown_word_of_any_bytes_is_named_on_one_line() {
    let (_server, mut client, _tap) = furnished();
    let before = client.footprint();
    for word in [&b""[..], b"\0", b"\r\n+OK\r\n", b"\xff\xfe", &[b'x'; 1 << 20]] {
        for command in [&["ML.RATELIMIT", "limit", "10", "60"], &["ML.CACHESET", "cache", "v", "x"]]
        {
            let error = call!(client, &command[..], word).error();
            assert!(error.starts_with("ERR unknown option"), "{error}");
            assert!(error.len() < 200, "{} bytes of error", error.len());
        }
    }
    assert_eq!(client.footprint(), before);
}

/// How many arguments each command takes at least, and at most, if there is a
/// most; the error is the server's own.
const ARITIES: &[(&str, usize, Option<usize>)] = &[
    ("ML.RATELIMIT", 3, None),
    ("ML.ADMIT", 4, None),
    ("ML.SERVE", 2, None),
    ("ML.FEATUREPUSH", 3, None),
    ("ML.FEATURETALLY", 1, None),
    ("ML.SETTLE", 3, None),
    ("ML.RENEW", 4, None),
    ("ML.LIMITINFO", 1, Some(1)),
    ("ML.CACHESET", 3, None),
    ("ML.CACHEGET", 2, None),
    ("ML.CACHEMGET", 3, None),
    ("ML.CACHEMSET", 4, None),
    ("ML.CACHEDROP", 1, None),
    ("ML.CACHEFETCH", 2, None),
    ("ML.CACHEMFETCH", 5, None),
    ("ML.CACHERENEW", 3, Some(3)),
    ("ML.CACHERELEASE", 2, None),
    ("ML.CACHEVERSION", 1, Some(1)),
    ("ML.CACHEVERSIONSET", 2, None),
    ("ML.CACHEINFO", 1, Some(1)),
    ("ML.STATS", 0, None),
    ("ML.FEATURES", 2, None),
    ("ML.FEATUREGET", 4, None),
    ("ML.FEATUREGETALL", 1, None),
    ("ML.FEATURESET", 4, None),
    ("ML.FEATUREMSET", 7, None),
    ("ML.FEATUREDEL", 3, None),
    ("ML.FEATUREINFO", 1, Some(1)),
    ("ML.FIELDLIST", 1, None),
    ("ML.FIELDLISTS", 0, Some(0)),
    ("ML.APPLYFIELDLISTS", 1, Some(1)),
    ("ML.APPLYROW", 2, None),
    ("ML.LOADFEATURE", 2, Some(2)),
    ("ML.APPLYLIMIT", 2, Some(2)),
    ("ML.APPLYPERMIT", 2, Some(2)),
    ("ML.APPLYANSWERS", 2, None),
    ("ML.APPLYVERSIONS", 1, Some(1)),
    ("ML.LOADRATE", 2, Some(2)),
    ("ML.LOADPERMIT", 2, Some(2)),
    ("ML.LOADCACHE", 2, Some(2)),
    ("ML.SEMSET", 4, None),
    ("ML.SEMGET", 3, None),
    ("ML.SEMFETCH", 3, None),
    ("ML.SEMALIAS", 6, Some(6)),
    ("ML.SEMRENEW", 3, Some(3)),
    ("ML.SEMRELEASE", 2, None),
    ("ML.SEMDROP", 1, None),
    ("ML.SEMTHRESHOLD", 3, Some(3)),
    ("ML.SEMINFO", 1, Some(1)),
    ("ML.APPLYSEMANTIC", 2, Some(2)),
    ("ML.LOADSEMANTIC", 2, Some(2)),
];

#[test]
fn too_few_or_too_many_arguments_are_the_servers_own_error() {
    let (_server, mut client, _tap) = furnished();
    let before = client.footprint();
    let commands = ARITIES.iter().map(|(name, ..)| *name);
    commands::assert_calls_of_all("ARITIES", commands::names(), commands);
    for (command, least, most) in ARITIES.iter().copied() {
        for count in (0..least).chain(most.map(|most| most + 1)) {
            let error = call!(client, command, vec!["1"; count]).error();
            let expected = format!("ERR wrong number of arguments for '{command}' command");
            assert!(error.eq_ignore_ascii_case(&expected), "{error}");
        }
        assert_eq!(client.footprint(), before, "{command}");
    }
}

#[test]
fn a_key_of_any_other_type_is_left_as_it_is() {
    let (server, mut client, _tap) = furnished();
    let mut events = Events::of(&server);
    let [rate, permit, cache, feature, semantic] = effects();
    let vector = b"aaaabbbbccccddddeeeeffffgggghhhh";
    let id: &[u8] = b"0123456789abcdef0123456789abcdef";
    let before = client.footprint();
    for key in ["list", "string", "hash", "limit", "permit", "cache", "row", "sem"] {
        // Each command, its further arguments, and the key that it is made for.
        let calls: [(&str, Vec<&[u8]>, &str); 40] = [
            ("ML.RATELIMIT", vec![b"10", b"60"], "limit"),
            ("ML.RATELIMIT", vec![b"0", b"60"], "limit"),
            ("ML.RATELIMIT", vec![b"10", b"60", b"PEEK"], "limit"),
            ("ML.RATELIMIT", vec![b"10", b"60", b"20", b"90", b"FORCE"], "limit"),
            ("ML.RATELIMIT", vec![b"10", b"60", b"HOLD", b"9"], "limit"),
            ("ML.LIMITINFO", vec![], "limit permit"),
            ("ML.APPLYLIMIT", vec![&rate[2]], "limit"),
            ("ML.APPLYPERMIT", vec![&permit[2]], "permit"),
            ("ML.CACHEGET", vec![b"v"], "cache"),
            ("ML.CACHESET", vec![b"v", b"x"], "cache"),
            ("ML.CACHESET", vec![b"v", b"x", b"PXAT", b"1"], "cache"),
            ("ML.CACHESET", vec![b"v", b"x", b"TOKEN", b"none"], "cache"),
            ("ML.CACHEDROP", vec![], "cache"),
            ("ML.CACHEFETCH", vec![b"v", b"LEASE", b"9000"], "cache"),
            ("ML.CACHERELEASE", vec![b"none"], "cache"),
            ("ML.CACHEINFO", vec![], "cache"),
            ("ML.APPLYANSWERS", vec![&cache[2], b"x"], "cache"),
            ("ML.FEATURES", vec![b"f", b"g"], "hash row"),
            ("ML.FEATUREGETALL", vec![], "hash row"),
            ("ML.FEATURESET", vec![b"FIELDS", b"1", b"f", b"v"], "row"),
            ("ML.FEATUREPUSH", vec![b"s", b"a", b"LAST", b"9"], "row"),
            (
                "ML.FEATURETALLY",
                vec![b"FIELDS", b"1", b"t", b"1", b"SPAN", b"60", b"TILE", b"60"],
                "row",
            ),
            ("ML.FEATUREDEL", vec![b"FIELDS", b"1", b"f"], "row"),
            ("ML.FEATUREDEL", vec![b"VIEW", b"nothing"], "row"),
            ("ML.FEATUREINFO", vec![], "row"),
            ("ML.LOADFEATURE", vec![b""], "row"),
            ("ML.LOADRATE", vec![b""], "limit"),
            ("ML.LOADPERMIT", vec![b""], "permit"),
            ("ML.LOADCACHE", vec![b""], "cache"),
            ("ML.SEMSET", vec![b"v", vector, b"x"], "sem"),
            ("ML.SEMGET", vec![b"v", vector, b"HIT", b"0.5"], "sem"),
            ("ML.SEMFETCH", vec![b"v", vector, b"HIT", b"0.5", b"LEASE", b"9"], "sem"),
            ("ML.SEMALIAS", vec![b"v", vector, id, b"TOKEN", b"none"], "sem"),
            ("ML.SEMRENEW", vec![b"none", b"9"], "sem"),
            ("ML.SEMRELEASE", vec![b"none"], "sem"),
            ("ML.SEMDROP", vec![b"VERSION", b"v"], "sem"),
            ("ML.SEMTHRESHOLD", vec![id, b"1"], "sem"),
            ("ML.SEMINFO", vec![], "sem"),
            ("ML.APPLYSEMANTIC", vec![&semantic[2]], "sem"),
            ("ML.LOADSEMANTIC", vec![b""], "sem"),
        ];
        for (command, arguments, own) in calls {
            if !own.split(' ').any(|own| own == key) {
                assert_eq!(
                    call!(client, command, key, arguments).error(),
                    "WRONGTYPE Operation against a key holding the wrong kind of value",
                    "{command} on {key}"
                );
            }
        }
    }
    // Those that name several keys; nothing is done to the ones before.
    let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
    for (call, own) in [
        ("ML.ADMIT 2 new {} LIMIT 10 60 LIMIT 10 60", "limit"),
        ("ML.ADMIT 2 {} new LIMIT 0 60 LIMIT 10 60", "limit"),
        ("ML.ADMIT 2 new {} LIMIT 0 60 PERMIT 10 PEEK", "permit"),
        ("ML.ADMIT 2 new {} PERMIT 10 PERMIT 10 HOLD 9000", "permit"),
        ("ML.SETTLE 2 new {} garbage", "limit permit"),
        ("ML.SETTLE 2 {} new 00000000000000000000000000000000 ACTUAL - -", "limit permit"),
        ("ML.RENEW 2 new {} garbage 9", "limit permit"),
        ("ML.RENEW 2 {} new 00000000000000000000000000000000 9", "limit permit"),
    ] {
        for key in ["list", "string", "hash", "limit", "permit", "cache", "row", "sem"] {
            if !own.split(' ').any(|own| own == key) {
                assert_eq!(client.run(&call.replace("{}", key)).error(), wrong, "{call}: {key}");
            }
        }
    }
    for key in ["list", "string", "hash", "limit", "permit", "cache", "sem"] {
        let blob = b"12345678";
        let options = ["TYPE", "F32", "FIELDS", "1", "f"];
        let answer = call!(client, "ML.FEATUREMSET", 2, "row", key, blob, &options);
        assert_eq!(answer.error(), wrong, "{key}");
        assert_eq!(call!(client, "ML.APPLYROW", &feature[1], key).error(), wrong, "{key}");
    }
    assert_eq!(client.footprint(), before);
    assert_eq!(events.notified(&mut client), []);
    assert_eq!(client.run("TYPE row").text(), "MLfeature");
    assert_eq!(client.run("TYPE limit").text(), "MLratelmt");
    assert_eq!(client.run("TYPE permit").text(), "MLpermits");
    assert_eq!(client.run("TYPE cache").text(), "MLcacheen");
    assert_eq!(client.run("TYPE sem").text(), "MLsemcach");
}

#[test]
fn random_words_are_taken_whole_or_change_nothing() {
    // Only times that are long, so that nothing expires in between: no window
    // of a second or two, and no bucket, which is full again in no time.
    let words = "limit permit cache hash row list new new2 v x f  \0é 0 600000 9000.5 0.0005 -1 1000000 \
        9007199254740993 9223372036854775807 COST cost PEEK ALGORITHM FIXED EX px FOO \
        PARTIAL FORCE HOLD ID LIMIT PERMIT ACTUAL BURST sliding LEASE EARLY STALE JITTER TOKEN json VERSION SET CLEAR \
        BACKOFF NAMESPACE RESET VIEW AT TYPE FIELDS AUTO F32 I64 12345678 STRICT MAXAGE AS \
        TENSOR LAST DIM SEQ SPAN TILE f[2] count(t,60) sem aaaabbbbccccddddeeeeffffgggghhhh HIT MAYBE TOP \
        DIGEST EMBEDDER PROMPT";
    let words: Vec<_> = words.split(' ').collect();
    let names = commands::names();
    let (_server, mut client, _tap) = furnished();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut before = client.footprint();
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..1_500 {
            let mut command = Cmd::new();
            // In any case.
            let lower = random.below(2) == 0;
            let name = random.of(&names);
            let cased = if lower { name.to_lowercase() } else { name.to_owned() };
            command.arg(cased);
            if [
                "ML.ADMIT",
                "ML.SETTLE",
                "ML.RENEW",
                "ML.CACHEMGET",
                "ML.CACHEMSET",
                "ML.CACHEMFETCH",
            ]
            .contains(&name)
            {
                command.arg(1 + random.below(2));
            }
            // Of those that need the most, the beginning, every second time.
            let featured: &[&str] = match name {
                _ if random.below(2) == 0 => &[],
                "ML.FEATURESET" => &["row", "FIELDS", "1", "f", "v"],
                "ML.FEATUREMSET" => &["1", "row", "1234", "TYPE", "F32", "FIELDS", "1", "f"],
                "ML.FEATUREGET" => &["2", "row", "hash", "FIELDS", "1", "f"],
                "ML.FEATUREPUSH" => &["row", "s", "a", "LAST", "9"],
                "ML.FEATURETALLY" => &["row", "FIELDS", "1", "t", "1", "SPAN", "60", "TILE", "60"],
                "ML.FEATUREDEL" => &["row"],
                "ML.SEMSET" | "ML.SEMGET" | "ML.SEMFETCH" | "ML.SEMALIAS" => {
                    &["sem", "v", "aaaabbbbccccddddeeeeffffgggghhhh"]
                }
                "ML.SEMDROP" | "ML.SEMTHRESHOLD" | "ML.SEMRENEW" | "ML.SEMRELEASE" => &["sem"],
                "ML.ADMIT" => &["limit", "permit", "LIMIT", "10", "600000"],
                "ML.SETTLE" | "ML.RENEW" => &["limit", "permit"],
                _ => &[],
            };
            command.arg(featured);
            (0..random.below(9)).for_each(|_| _ = command.arg(random.of(&words)));
            let answer = client.send(&command);
            let packed = command.get_packed_command();
            let call = String::from_utf8_lossy(&packed);
            if answer.is_error() {
                refused += 1;
                let error = answer.error();
                let known = error.starts_with("ERR ") || error.starts_with("WRONGTYPE ");
                assert!(known && !error.contains("internal"), "{error}, {call}, seed {seed}");
                assert_eq!(client.footprint(), before, "{error}, {call}, seed {seed}");
            } else {
                taken += 1;
                before = client.footprint();
            }
        }
        assert!(taken > 20 && refused > 20, "{taken} taken, {refused} refused, seed {seed}");
    }
}

#[test]
fn without_memory_what_adds_is_refused_and_what_reads_is_not() {
    let (_server, mut client, _tap) = furnished();
    let [rate, permit, _, feature, semantic] = effects();
    let id = granted(&mut client, "permit 10 60000");
    client.run("CONFIG SET maxmemory 1").ok();
    let before = client.footprint();
    for call in [
        "ML.RATELIMIT limit 10 3600",
        "ML.ADMIT 1 limit LIMIT 10 3600",
        "ML.ADMIT 1 permit PERMIT 10 HOLD 60000",
        "ML.SERVE 2 limit cache ADMIT LIMIT 10 3600 CACHE v LEASE 9",
        "ML.CACHESET cache v y",
        "ML.CACHEMSET 1 cache y v EX 9",
        "ML.FEATURESET row FIELDS 1 g 1",
        "ML.FEATUREMSET 1 row 1234 TYPE F32 FIELDS 1 g",
        "ML.FEATUREPUSH row s a LAST 9",
        "ML.FEATURETALLY row FIELDS 1 t 1 SPAN 60 TILE 60",
        "ML.SEMSET sem v aaaabbbbccccddddeeeeffffgggghhhh y",
        "ML.SEMALIAS sem v aaaabbbbccccddddeeeeffffgggghhhh 0123456789abcdef0123456789abcdef TOKEN x",
        // What is left may need names of its own.
        "ML.FEATUREDEL row FIELDS 1 f",
    ] {
        let error = client.run(call).error();
        assert!(error.starts_with("OOM "), "{call}: {error}");
    }
    assert_eq!(client.footprint(), before);
    assert_eq!(client.run("ML.CACHEGET cache v").text(), "x");
    assert_eq!(client.run("ML.FEATURES hash f").texts(), ["v"]);
    // What the primary has accepted is not for a replica to refuse.
    call!(client, "ML.APPLYLIMIT", "limit", &rate[2]).ok();
    call!(client, "ML.APPLYPERMIT", "permit", &permit[2]).ok();
    call!(client, "ML.APPLYROW", &feature[1], "row").ok();
    call!(client, "ML.APPLYSEMANTIC", "sem", &semantic[2]).ok();
    assert_eq!(client.run("ML.SEMDROP sem VERSION v").integer(), 2);
    assert_eq!(client.run("ML.FEATURES row f").texts(), ["2"]);
    assert_eq!(client.run("ML.LIMITINFO limit").map()["algorithm"].text(), "FIXED");
    assert_eq!(client.run("ML.SETTLE 1 limit id ACTUAL 1").integers(), [0], "it may give back");
    // A holder can go without memory, too.
    assert_eq!(renew(&mut client, "permit", &id, 60_000), 1);
    assert_eq!(release(&mut client, "permit", &id), 1);
}

/// The calls whose keys are asked for, with `{}` for the key.
const KEYED: &[&str] = &[
    "ML.RATELIMIT {} 10 60",
    "ML.RATELIMIT {} 10 60 PEEK COST 3",
    "ML.RATELIMIT {} 10 60 20 3600 HOLD 9",
    "ML.ADMIT 1 {} LIMIT 10 60 COST 3",
    "ML.SETTLE 1 {} id ACTUAL 3",
    "ML.SERVE 1 {} ADMIT LIMIT 10 60 CACHE v LEASE 9",
    "ML.LIMITINFO {}",
    "ML.ADMIT 1 {} PERMIT 10 COST 3 HOLD 60000",
    "ML.RENEW 1 {} id 60000",
    "ML.SETTLE 1 {} id",
    "ML.CACHESET {} v x EX 10",
    "ML.CACHESET {} EX PX",
    "ML.CACHEGET {} v",
    "ML.CACHEGET {} v STALE",
    "ML.CACHEMGET 1 {} v",
    "ML.CACHEMSET 1 {} x v EX 10",
    "ML.CACHEMSET 1 {} {} v",
    "ML.CACHEDROP {} VERSION v",
    "ML.CACHEFETCH {} v LEASE 10",
    "ML.CACHEFETCH {} LEASE LEASE 10 EARLY 1",
    "ML.CACHEMFETCH 1 {} v LEASE 10",
    "ML.CACHERENEW {} id 10",
    "ML.CACHERELEASE {} id BACKOFF 10",
    "ML.CACHEINFO {}",
    "ML.FEATURES {} f g h",
    "ML.FEATURES {} {}",
    "ML.FEATUREGET 1 {} FIELDS 1 f AS JSON",
    "ML.FEATUREGETALL {} VIEW v",
    "ML.FEATUREGET 1 {} FIELDS 2 FIELDS f",
    "ML.FEATURESET {} VIEW v FIELDS 2 f v FIELDS v",
    "ML.FEATURESET {} FIELDS 1 {} v",
    "ML.FEATUREMSET 1 {} 1234 TYPE F32 FIELDS 1 f VIEW v",
    "ML.FEATUREPUSH {} {} item LAST 9",
    "ML.FEATUREPUSH {} LAST LAST LAST 9 VIEW v",
    "ML.FEATURETALLY {} FIELDS 1 FIELDS 1 SPAN 60 TILE 60",
    "ML.FEATUREDEL {} VIEW v",
    "ML.FEATUREINFO {}",
    "ML.APPLYROW change {}",
    "ML.LOADFEATURE {} payload",
    "ML.APPLYLIMIT {} state",
    "ML.APPLYPERMIT {} change",
    "ML.APPLYANSWERS {} change value",
    "ML.APPLYANSWERS {} change",
    "ML.LOADRATE {} payload",
    "ML.LOADPERMIT {} payload",
    "ML.LOADCACHE {} payload",
    "ML.SEMSET {} v aaaabbbbccccddddeeeeffffgggghhhh x EMBEDDER e",
    "ML.SEMGET {} v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9",
    "ML.SEMFETCH {} v aaaabbbbccccddddeeeeffffgggghhhh HIT 0.9 LEASE 9",
    "ML.SEMALIAS {} v aaaabbbbccccddddeeeeffffgggghhhh 0123456789abcdef0123456789abcdef TOKEN x",
    "ML.SEMRENEW {} id 10",
    "ML.SEMRELEASE {} id BACKOFF 10",
    "ML.SEMDROP {} VERSION v",
    "ML.SEMTHRESHOLD {} id 0.5",
    "ML.SEMINFO {}",
    "ML.APPLYSEMANTIC {} change",
    "ML.LOADSEMANTIC {} payload",
];

/// The words of a call, with its key in place.
fn with_key(call: &str, key: &str) -> Vec<String> {
    let mut words: Vec<_> = call.split(' ').map(str::to_owned).collect();
    let place = words.iter().position(|word| word == "{}").unwrap();
    key.clone_into(&mut words[place]);
    words
}

#[test]
fn each_command_that_names_keys_is_asked_for_them() {
    commands::assert_calls_of_all("KEYED", commands::keyed(), KEYED.iter().copied());
}

#[test]
fn the_server_knows_where_the_keys_stand() {
    let (_server, mut client, _tap) = furnished();
    for call in KEYED {
        let keys = call!(client, "COMMAND", "GETKEYS", with_key(call, "the key")).texts();
        assert_eq!(keys, ["the key"], "{call}");
    }
    for (call, named) in [
        ("ML.ADMIT 3 a b c LIMIT 10 60", "a b c"),
        ("ML.SETTLE 2 a b c ACTUAL d e", "a b"),
        ("ML.RENEW 2 a b c d", "a b"),
        ("ML.CACHEMGET 3 a b c d", "a b c"),
        ("ML.CACHEMSET 3 a 1 b 2 c 3 v EX 9", "a b c"),
        ("ML.CACHEMSET 2 a b c d e f g", "a c"),
    ] {
        let words: Vec<_> = call.split(' ').collect();
        let keys = call!(client, "COMMAND", "GETKEYS", words).texts();
        assert_eq!(keys.join(" "), named, "{call}");
    }
    for call in [
        "ML.CACHEMGET 4 a b c",
        "ML.CACHEMGET x a b c",
        "ML.CACHEMSET 2 a 1 b",
        "ML.CACHEMSET 0 a 1 b 2",
        "ML.CACHEMSET 4611686018427387905 a 1 b 2",
        "ML.CACHEMSET 9223372036854775807 a 1 b 2",
        "ML.CACHEMSET -1 a 1 b 2",
    ] {
        let words: Vec<_> = call.split(' ').collect();
        assert!(call!(client, "COMMAND", "GETKEYS", words).is_error(), "{call}");
    }
}

#[test]
fn every_key_of_many_counts_for_access() {
    let (server, mut client, _tap) = furnished();
    client.run("ACL SETUSER anna on >secret ~mine:* +@all").ok();
    let mut anna = server.client();
    anna.run("AUTH anna secret").ok();
    let before = client.footprint();
    for call in [
        "ML.ADMIT 2 mine:1 theirs:1 LIMIT 10 60 LIMIT 10 60",
        "ML.ADMIT 2 theirs:1 mine:1 LIMIT 10 60 LIMIT 10 60",
        "ML.SERVE 2 mine:1 theirs:1 ADMIT LIMIT 10 60 CACHE v LEASE 9",
        "ML.SERVE 2 mine:1 theirs:1 CACHE v LEASE 9 FEATURES FIELDS 1 f",
        "ML.SETTLE 2 mine:1 theirs:1 id",
        "ML.RENEW 2 theirs:1 mine:1 id 9",
        "ML.ADMIT 3 mine:1 mine:2 limit LIMIT 10 60 LIMIT 10 60 LIMIT 10 60 PEEK",
        "ML.FEATUREGET 2 mine:1 theirs:1 FIELDS 1 mine:x",
        "ML.FEATUREMSET 2 mine:1 theirs:1 12345678 TYPE F32 FIELDS 1 mine:x",
        "ML.APPLYROW mine:x mine:1 theirs:1",
        "ML.CACHEMGET 2 mine:1 theirs:1 mine:v",
        "ML.CACHEMSET 2 mine:1 x theirs:1 mine:x mine:v EX 10",
        "ML.CACHEMFETCH 3 mine:1 theirs:1 mine:2 mine:v LEASE 10",
    ] {
        assert!(anna.run(call).error().starts_with("NOPERM"), "{call}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(anna.run("ML.ADMIT 2 mine:1 mine:2 LIMIT 10 60 LIMIT 10 60").items().len(), 5);
}

#[test]
fn a_user_reaches_only_the_keys_and_commands_allowed() {
    let (server, mut client, _tap) = furnished();
    client.run("ACL SETUSER anna on >secret ~mine:* +@all").ok();
    client.run("ACL SETUSER reader on >secret %R~* +@all").ok();
    client.run("ACL SETUSER nobody on >secret ~* +@all -@admin -ml.cacheget").ok();
    let mut anna = server.client();
    anna.run("AUTH anna secret").ok();
    let before = client.footprint();
    for call in KEYED {
        let error = call!(anna, with_key(call, "theirs:1")).error();
        assert!(error.starts_with("NOPERM"), "{call}: {error}");
    }
    assert_eq!(client.footprint(), before);
    for call in KEYED {
        let answer = call!(anna, with_key(call, "mine:1"));
        let refused = answer.is_error() && answer.error().starts_with("NOPERM");
        assert!(!refused, "{call}: {answer:?}");
        client.run("DEL mine:1");
    }
    // Who may only read keys may not write to them.
    let mut reader = server.client();
    reader.run("AUTH reader secret").ok();
    for call in KEYED {
        let answer = call!(reader, with_key(call, "fresh"));
        let name = call.split(' ').next().unwrap();
        let command = commands::all().find(|command| commands::name(command) == name).unwrap();
        // FETCH writes to no key: it grants leases.
        let fetches = ["ML.CACHEFETCH", "ML.CACHEMFETCH", "ML.SEMFETCH"].contains(&name);
        let reads = commands::has_flag(command, "readonly") || fetches;
        assert_eq!(answer.is_error(), !reads, "{call}: {answer:?}");
    }
    let mut nobody = server.client();
    nobody.run("AUTH nobody secret").ok();
    assert!(nobody.run("ML.CACHEGET k v").error().starts_with("NOPERM"));
    nobody.run("ML.CACHESET k v x").ok();
    // Modules have categories of their own since Redis 7.4 and Valkey 8.
    let admin = client.run("ACL CAT admin").texts();
    let categorized = admin.iter().any(|name| name.eq_ignore_ascii_case("ML.APPLYLIMIT"));
    let refused = nobody.run("ML.APPLYLIMIT k garbage").error().starts_with("NOPERM");
    assert_eq!(refused, categorized, "an internal command is for @admin");
    println!("categories of module commands: {categorized}");
}

#[test]
fn keys_are_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    for key in [&b""[..], b"\0", b"a\0b", b"\xff\xfe\xc0", b"line\r\n", b" ", b"{}", b"%s%n"] {
        let answer = call!(client, "ML.RATELIMIT", key, 10, 3600).integers();
        assert_eq!(answer[..3], [1, 10, 9]);
        assert_eq!(call!(client, "ML.RATELIMIT", key, 10, 3600).integers()[..3], [1, 10, 8]);
        assert_eq!(call!(client, "DEL", key).integer(), 1);
        let permit = call!(client, "ML.ADMIT", 1, key, "PERMIT", 10, "HOLD", 60_000).items();
        assert_eq!(call!(client, "ML.LIMITINFO", key).map()["in_use"], Value::Int(1));
        let settled = call!(client, "ML.SETTLE", 1, key, permit[1].text());
        assert_eq!(settled.integers(), [1]);
        call!(client, "ML.CACHESET", key, "v", "x").ok();
        assert_eq!(call!(client, "ML.CACHEGET", key, "v").text(), "x");
        assert_eq!(call!(client, "DEL", key).integer(), 1);
        call!(client, "HSET", key, "f", "v").integer();
        assert_eq!(call!(client, "ML.FEATURES", key, "f").texts(), ["v"]);
        assert_eq!(call!(client, "DEL", key).integer(), 1);
        call!(client, "ML.FEATURESET", key, "FIELDS", 1, "f", "v").integer();
        assert_eq!(call!(client, "ML.FEATURES", key, "f").texts(), ["v"]);
        assert_eq!(call!(client, "DEL", key).integer(), 1);
    }
    assert_eq!(client.run("DBSIZE"), Value::Int(0));
}
