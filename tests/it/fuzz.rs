//! Every command with arguments at random, by a grammar that is half right: the
//! server lives, says what is wrong, and has its memory back in the end.
//!
//! MLSERVE_FUZZ_CALLS says how many calls (scripts/fuzz makes it millions).

use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::{Cmd, Value};

/// Commands, as they are written: what stands in braces is made up, what stands in
/// brackets may be left out, what ends in `*` comes any number of times.
const GRAMMAR: &[&str] = &[
    "ML.RATELIMIT {key} {number} {window} [{number} {window}] [ALGORITHM {algorithm}] \
     [BURST {number}] [COST {number}] [{mode}] [RESERVE {ms}]",
    "ML.RATEMULTI 2 {key} {key} {number} {window} {number} {window} [COST {number}] [{mode}] \
     [RESERVE {ms}]",
    "ML.RATESETTLE {key} {id} {number}",
    "ML.RATEINFO {key}",
    "ML.PERMITACQUIRE {key} {number} {ms} [COST {number}]",
    "ML.PERMITRENEW {key} {id} {ms}",
    "ML.PERMITRELEASE {key} {id}",
    "ML.PERMITINFO {key}",
    "ML.CACHESET {key} {version} {value} [EX {number}] [PX {ms}] [STALE {ms}] [JITTER {number}] \
     [TOKEN {id}] [JSON]",
    "ML.CACHEGET {key} {version}",
    "ML.CACHEMGET {version} {key}*",
    "ML.CACHEMSET {version} PX {ms} {key} {value} [{key} {value}]",
    "ML.CACHEDROP {key} [VERSION {version}] [STALE]",
    "ML.CACHEFETCH {key} {version} LEASE {ms} [WAIT 1] [EARLY {window}]",
    "ML.CACHEMFETCH {version} LEASE {ms} {key}*",
    "ML.CACHERELEASE {key} {id} [BACKOFF {ms}]",
    "ML.CACHEVERSION {word} [SET {version}*]",
    "ML.CACHEVERSION {word} CLEAR",
    "ML.CACHEINFO {key}",
    "ML.CACHESTATS [NAMESPACE {word}] [RESET]",
    "ML.FEATURES {key} {field}*",
    "ML.FEATUREGET 2 {key} {key} FIELDS 2 {field} {field} [AS {form}] [TYPE {type}] \
     [DEFAULT {value}] [MAXAGE {ms}] [STRICT]",
    "ML.FEATURESET {key} [VIEW {view}] [AT {ms}] [PX {ms}] [PXAT {ms}] [TYPE {type}] \
     FIELDS 2 {field} {value} {field} {value}",
    "ML.FEATUREMSET 2 {key} {key} {blob} TYPE {type} FIELDS 1 {field} [VIEW {view}] [AT {ms}] \
     [PX {ms}]",
    "ML.FEATUREDEL {key} FIELDS 2 {field} {field}",
    "ML.FEATUREDEL {key} VIEW {view}",
    "ML.FEATUREINFO {key}",
    "ML.APPLYRATE {key} {bytes}",
    "ML.APPLYPERMIT {key} {bytes}",
    "ML.APPLYCACHE {key} {bytes} [{value}]",
    "ML.APPLYFEATURE {bytes} {key}*",
    "ML.APPLYVERSIONS {bytes}",
    "ML.LOADRATE {key} {bytes}",
    "ML.LOADPERMIT {key} {bytes}",
    "ML.LOADCACHE {key} {bytes}",
    "ML.LOADFEATURE {key} {bytes}",
    "DEL {key}",
    "HSET {key} {field} {value}",
    "PEXPIRE {key} {ms}",
    "PERSIST {key}",
    "COPY {key} {key} REPLACE",
    "RENAME {key} {key}",
    "UNLINK {key}",
];

/// Something to stand for what a grammar names.
fn made_up(what: &str, random: &mut Random, ids: &[Vec<u8>]) -> Vec<u8> {
    let wild = || random_bytes(&mut Random::new(7), 12);
    let of = |random: &mut Random, words: &[&str]| random.of(words).as_bytes().to_vec();
    if random.below(40) == 0 {
        return match random.below(4) {
            0 => wild(),
            1 => Vec::new(),
            2 => random_bytes(random, 300),
            _ => of(random, &["-1", "0", "1.5", "9223372036854775808", "nan", "COST", "\0", "é"]),
        };
    }
    match what {
        "key" => {
            format!("{}{}", random.of(&["r", "p", "c", "f", "h", "ns:", ""]), random.below(20))
                .into()
        }
        "number" => match random.below(4) {
            0 => of(random, &["0", "1", "9007199254740992", "9223372036854775807", "-1"]),
            _ => random.below(200).to_string().into(),
        },
        "window" => of(random, &["1", "60", "0.001", "0.5", "3600", "31622400", "1e3", "7.25"]),
        "ms" => match random.below(3) {
            0 => of(random, &["0", "1", "31622400000", "31622400001", "281474976710656"]),
            _ => random.below(100_000).to_string().into(),
        },
        "algorithm" => of(random, &["FIXED", "sliding", "GCRA", "LEAKY"]),
        "mode" => of(random, &["PEEK", "PARTIAL", "FORCE"]),
        "id" if !ids.is_empty() => ids[random.below(ids.len() as u64) as usize].clone(),
        "id" => b"00000000000000000000000000000000".to_vec(),
        "version" => format!("v{}", random.below(20)).into(),
        "word" => of(random, &["ns", "", "(other)", "a:b", "x"]),
        "view" => of(random, &["", "v", "w", "a:b"]),
        "field" => of(random, &["f", "g", "v:f", "w:g", "", ":", "count(f,60)"]),
        "form" => of(random, &["VALUES", "TENSOR", "json", "XML"]),
        "type" => of(random, &["F32", "F64", "I64", "AUTO", "STRING", "F16"]),
        "blob" => vec![random.next() as u8; [8, 16, 7][random.below(3) as usize]],
        "bytes" => {
            let mut bytes = random_bytes(random, 60);
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            bytes
        }
        _ => match random.below(6) {
            0 => {
                of(random, &["1", "-7", "0.5", "84.50", "1e400", "nan", "{\"a\":1}", "", "\u{ff}"])
            }
            1 => random_bytes(random, 2_000),
            _ => random.next().to_string().into(),
        },
    }
}

fn random_bytes(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most)).map(|_| random.next() as u8).collect()
}

/// A call by the grammar.
fn call_of(line: &str, random: &mut Random, ids: &[Vec<u8>]) -> Cmd {
    let mut command = Cmd::new();
    let mut optional = false;
    let mut left_out = false;
    for (place, word) in line.split_whitespace().enumerate() {
        if word.starts_with('[') {
            optional = true;
            left_out = random.below(3) > 0;
        }
        let ends = word.contains(']');
        let bare = word.trim_matches(['[', ']']);
        if !(optional && left_out) {
            let again = if bare.ends_with('*') { 1 + random.below(4) } else { 1 };
            let bare = bare.trim_end_matches('*');
            for _ in 0..again {
                match bare.strip_prefix('{').and_then(|what| what.strip_suffix('}')) {
                    Some(what) => _ = command.arg(made_up(what, random, ids)),
                    // Now and then a word is forgotten.
                    None if place > 0 && random.below(300) == 0 => {}
                    None => _ = command.arg(bare),
                }
            }
        }
        if ends {
            optional = false;
        }
    }
    command
}

/// Remembers ids and tokens of an answer, so that later calls may name them.
fn remember(answer: &Value, ids: &mut Vec<Vec<u8>>) {
    match answer {
        Value::BulkString(bytes) if bytes.len() == 32 => {
            if ids.len() > 200 {
                ids.clear();
            }
            ids.push(bytes.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| remember(item, ids)),
        _ => {}
    }
}

fn used_memory(client: &mut Client) -> i64 {
    client.info("used_memory").parse().unwrap()
}

#[test]
fn calls_at_random_leave_the_server_alive_and_its_memory_free() {
    let calls = std::env::var("MLSERVE_FUZZ_CALLS").map_or(30_000, |text| text.parse().unwrap());
    let mut server = Server::with("maxmemory 512mb\nmaxmemory-policy allkeys-lru");
    let mut client = server.client();
    let [_, seed] = Random::seeds();
    let mut random = Random::new(seed);
    let mut ids = Vec::new();
    // What the server allocates once, it has by then.
    for _ in 0..20 {
        let warm: Vec<_> =
            (0..200).map(|at| call_of(GRAMMAR[at % GRAMMAR.len()], &mut random, &ids)).collect();
        client.pipeline(&warm);
    }
    client.run("FLUSHALL").ok();
    let before = used_memory(&mut client);
    let (mut taken, mut refused, mut sent) = (0u64, 0u64, 0u64);
    while sent < calls {
        let batch: Vec<_> = (0..200)
            .map(|_| {
                call_of(GRAMMAR[random.below(GRAMMAR.len() as u64) as usize], &mut random, &ids)
            })
            .collect();
        for (command, answer) in batch.iter().zip(client.pipeline(&batch)) {
            if answer.is_error() {
                refused += 1;
                let error = answer.error();
                let known = ["ERR ", "WRONGTYPE ", "OOM ", "NOKEY "]
                    .iter()
                    .any(|code| error.starts_with(code));
                let packed = command.get_packed_command();
                let call = String::from_utf8_lossy(&packed);
                assert!(known && !error.contains("internal"), "{error}: {call}, seed {seed}");
                assert!(error.len() < 300 && !error.contains('\n'), "{error}: {call}, seed {seed}");
            } else {
                taken += 1;
                remember(&answer, &mut ids);
            }
        }
        sent += 200;
        if sent % 1_000_000 == 0 {
            println!("{sent} calls, {taken} taken, {refused} refused");
        }
    }
    assert!(server.is_running() && !server.log().contains("panic"), "seed {seed}");
    assert!(taken > sent / 10 && refused > sent / 10, "{taken} taken, {refused} refused");
    let digest = client.digest();
    client.run("DEBUG RELOAD").ok();
    // What expired meanwhile is gone from a reload; all else is the same.
    println!("digest {} by a reload", if client.digest() == digest { "kept" } else { "moved" });
    client.run("FLUSHALL").ok();
    client.run("ML.CACHESTATS RESET");
    for namespace in ["ns", "", "x"] {
        call!(client, "ML.CACHEVERSION", namespace, "CLEAR");
    }
    client.run("ML.CACHESTATS RESET");
    wait_for("the gauges to be back", || {
        [
            "ml_features_layouts",
            "ml_permit_held",
            "ml_ratelimit_open_reservations",
            "ml_cache_waiters",
        ]
        .iter()
        .all(|gauge| client.info(gauge) == "0")
    });
    // Open leases are a table of a bounded size, with the keys that they are for.
    let grown = used_memory(&mut client) - before;
    println!("{sent} calls, {taken} taken, {refused} refused; {grown} bytes more than before");
    assert!(grown < 4 << 20, "{grown} bytes are not given back, seed {seed}");
}
