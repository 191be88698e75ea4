//! The work of a call is in proportion to what was sent, is stored under its keys and
//! is answered, each counted once; counted by no clock. Memory is counted in every
//! debug build. Processor time is counted as edges of the module's control flow, in a
//! build of the module for that, by which scripts/test runs these tests once more.
//!
//! MLSERVE_PROPORTION_CALLS says how many calls at random.

use crate::fuzz::{GRAMMAR, Maker, remember};
use crate::support::queues::{LONG, hold, queue, told, waiting};
use crate::support::rates::{ALGORITHMS, Info};
use crate::support::{Answer, Client, Random, Server, Tap, call, commands, wait_for};
use redis::{Cmd, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a call may cost: so much, and so much for each byte.
#[derive(Clone, Copy)]
struct Bound {
    of: &'static str,
    once: u64,
    a_byte: u64,
}

/// Edges of the control flow of unoptimized to half optimized code: some tens a byte
/// where each byte is looked at, more where names are put in order.
const EDGES: Bound = Bound { of: "edges", once: 20_000, a_byte: 30 };
/// Bytes allocated, all in all.
const ALLOCATED: Bound = Bound { of: "bytes allocated", once: 64 << 10, a_byte: 60 };
/// Bytes at once.
const MOST: Bound = Bound { of: "bytes at once", once: 64 << 10, a_byte: 20 };

/// What a call cost.
#[derive(Debug)]
struct Cost {
    answer: Value,
    edges: Option<u64>,
    allocated: u64,
    most: u64,
    /// Bytes sent, stored before under the keys that it names, answered.
    bytes: u64,
}

impl Cost {
    fn figures(&self) -> [(Bound, Option<u64>); 3] {
        [(EDGES, self.edges), (ALLOCATED, Some(self.allocated)), (MOST, Some(self.most))]
    }

    /// The figures that are out of proportion.
    fn excess(&self) -> Vec<String> {
        let beyond = |(bound, figure): (Bound, Option<u64>)| {
            let most = bound.once + bound.a_byte * self.bytes;
            let figure = figure.filter(|figure| *figure > most)?;
            Some(format!("{figure} {} for {} bytes: {most} at most", bound.of, self.bytes))
        };
        self.figures().into_iter().filter_map(beyond).collect()
    }
}

/// How long an answer is on the wire, about.
/// A server of a module that counts what it does; a release build counts nothing.
fn counting() -> Option<(Server, Client)> {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("ML.DEBUG") {
        println!("not applicable: a release build counts nothing");
        return None;
    }
    Some((server, client))
}

fn length(answer: &Value) -> u64 {
    match answer {
        Value::BulkString(bytes) => bytes.len() as u64 + 6,
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.len() as u64 + 3,
        Value::Array(items) | Value::Set(items) => 4 + items.iter().map(length).sum::<u64>(),
        Value::Map(pairs) => {
            4 + pairs.iter().map(|(name, value)| length(name) + length(value)).sum::<u64>()
        }
        _ => 4,
    }
}

/// What is stored under the keys that a call names, each counted once.
fn stored(client: &mut Client, words: &[Vec<u8>]) -> u64 {
    let Value::Array(keys) = call!(client, "COMMAND", "GETKEYS", words) else { return 0 };
    let mut keys: Vec<_> = keys.iter().map(Answer::bytes).collect();
    keys.sort_unstable();
    keys.dedup();
    let bytes = |key: Vec<u8>| {
        let Value::Int(usage) = call!(client, "MEMORY", "USAGE", &key, "SAMPLES", 0) else {
            return 0;
        };
        // Names that rows share count for each of them.
        let usage = usage as u64;
        match call!(client, "TYPE", &key).text() == "MLfeature" {
            true => usage.max(call!(client, "DUMP", &key).bytes().len() as u64),
            false => usage,
        }
    };
    keys.into_iter().map(bytes).sum()
}

/// Calls a command, and tells what that cost.
fn cost(client: &mut Client, words: &[Vec<u8>]) -> Cost {
    let mut stored = stored(client, words);
    // What goes through a table of the node, of a size bounded by its config: the
    // leases open on any key.
    if [&b"ML.CACHEVERSIONSET"[..], b"ML.APPLYVERSIONS"].contains(&&words[0][..]) {
        stored += 64 << 10;
    }
    let mut cost = measured(client, words);
    cost.bytes += stored;
    cost
}

/// As [`cost`], without what is stored.
fn measured(client: &mut Client, words: &[Vec<u8>]) -> Cost {
    let mut command = Cmd::new();
    words.iter().for_each(|word| _ = command.arg(word));
    let mut asks = redis::cmd("ML.DEBUG");
    asks.arg("WORK").arg("DONE");
    let sent = command.get_packed_command().len() as u64;
    // In one go, so that next to nothing comes in between.
    let answers = client.pipeline(&[asks.clone(), command, asks]);
    let [_, answer, work] = &answers[..] else { unreachable!() };
    let work = work.items();
    let number = |number: &Value| number.integer() as u64;
    Cost {
        edges: (work[0] != Value::Nil).then(|| number(&work[0])),
        allocated: number(&work[1]),
        most: number(&work[2]),
        bytes: sent + length(answer),
        answer: answer.clone(),
    }
}

/// The words of a call.
fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn brief(words: &[Vec<u8>]) -> String {
    let shown: Vec<_> = words
        .iter()
        .take(12)
        .map(|word| String::from_utf8_lossy(&word[..word.len().min(20)]).into_owned())
        .collect();
    format!("{} ({} words)", shown.join(" "), words.len())
}

/// Large things of every kind, under the first names that the grammar knows.
fn furnish(client: &mut Client) {
    client.run("FLUSHALL").ok();
    for namespace in ["", "ns", "x"] {
        call!(client, "ML.CACHEVERSIONSET", namespace, "CLEAR").ok();
    }
    let fields: Vec<_> = (0..20_000).map(|field| format!("f{field}")).collect();
    let blob = vec![0x40_u8; 8 * fields.len()];
    for key in ["f0", "f1"] {
        let count = fields.len();
        call!(client, "ML.FEATUREMSET", 1, key, &blob, "TYPE", "F64", "FIELDS", count, &fields)
            .items();
    }
    let (digits, text) = ("1".repeat(200_000), "x".repeat(200_000));
    call!(client, "ML.FEATURESET", "f2", "FIELDS", 2, "f0", &digits, "g0", &text).integer();
    call!(client, "HSET", "h0", "f0", &digits, "g0", &text).integer();
    for field in &fields[..5_000] {
        call!(client, "HSET", "h1", field, "0.25").integer();
    }
    call!(client, "ML.CACHESET", "c0", "v0", &text, "STALE", 90_000_000).ok();
    for hold in 0..1_000 {
        let algorithm = ["FIXED", "SLIDING", "GCRA"][hold % 3];
        let key = format!("r{}", hold % 3);
        let call = format!("ML.RATELIMIT {key} 100000 9000 ALGORITHM {algorithm} HOLD 90000000");
        client.run(&call).items();
        client.run("ML.ADMIT 1 p0 PERMIT 100000 HOLD 90000000").items();
    }
}

/// Calls that repeat what they name, and what is there for each to be read or written
/// again and again.
#[test]
fn what_is_named_again_and_again_is_worked_on_once() {
    let Some((server, mut client)) = counting() else { return };
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    furnish(&mut client);
    // Somebody waits: whoever asks for something asks whether that is at one of its keys.
    hold(&mut client, "1 busy PERMIT 1 HOLD 600000");
    let _waiting = queue(&server, &[&format!("1 busy PERMIT 1 {LONG}")]);
    let again = |word: &str, times: usize| format!(" {word}").repeat(times);
    let mut wrong = Vec::new();
    for line in [
        format!(
            "ML.FEATUREMSET 300{} {} TYPE F32 FIELDS 1 f7",
            again("f0", 300),
            "1234".repeat(300)
        ),
        format!("ML.FEATURESET f0 FIELDS 3000{}", again("f7 1", 3_000)),
        format!("ML.FEATUREDEL f1 FIELDS 3000{}", again("f7", 3_000)),
        format!("ML.FEATUREGET 100{} FIELDS 100{} AS TENSOR", again("h0", 100), again("f0", 100)),
        format!("ML.FEATUREGET 100{} FIELDS 100{} AS TENSOR", again("f2", 100), again("f0", 100)),
        format!("ML.FEATUREGET 100{} FIELDS 100{} AS TENSOR", again("f2", 100), again("g0", 100)),
        format!("ML.FEATUREGET 300{} FIELDS 1 f0 AS JSON", again("none", 300)),
        format!("ML.FEATUREGET 1 h1 FIELDS 5000{}", again("f1", 5_000)),
        format!("ML.FEATUREGET 1 h1 FIELDS 5000{} LAYOUT FEAST", again("v:f[9]", 5_000)),
        format!(
            "ML.FEATUREGET 100{} FIELDS 100{} LAYOUT FEAST AS TENSOR WITHTIMES",
            again("h1", 100),
            again("v:f", 100)
        ),
        format!("ML.FEATURES h1{}", again("f1", 5_000)),
        format!("ML.FEATURES f0{}", again("f1", 5_000)),
        format!("ML.CACHEMFETCH 20{} v0 LEASE 9", again("c0", 20)),
        format!("ML.CACHEMGET 5000{} v1", again("c0", 5_000)),
        format!("ML.CACHEMSET 500{} v1", again("c0 x", 500)),
        format!("ML.SETTLE 5000{} {NO_ID}", many("r", 5_000)),
        format!("ML.RENEW 5000{} {NO_ID} 9", many("p", 5_000)),
        format!("ML.ADMIT 5000{}{} PEEK", many("r", 5_000), again("LIMIT 9 60", 5_000)),
        format!("ML.ADMIT 5000{}{}", many("r", 5_000), again("LIMIT 900 60", 5_000)),
    ] {
        let words = words(&line);
        let cost = cost(&mut client, &words);
        assert!(!cost.answer.is_error(), "{}: {:?}", brief(&words), cost.answer);
        let Cost { edges, allocated, most, bytes, .. } = cost;
        println!("{edges:?} {allocated} {most} for {bytes}: {}", brief(&words));
        wrong.extend(cost.excess().iter().map(|excess| format!("{}: {excess}", brief(&words))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls that ask for much more than they send or than is stored: neither the module
/// nor the reply takes more than what bounds it.
#[test]
fn no_call_takes_more_memory_than_its_bounds() {
    const OUTPUT_LIMIT: u64 = 1 << 20;
    /// `ml.features-max-reply-bytes` as it comes, which only ML.FEATUREGET knows.
    const REPLY_LIMIT: u64 = 128 << 20;
    let again = |word: &str, times: usize| format!(" {word}").repeat(times);
    let name = "x".repeat(100_000);
    for line in [
        format!("ML.FEATUREGET 20000{} FIELDS 1 {name} AS JSON", again("k", 20_000)),
        format!("ML.FEATUREGET 4000{} FIELDS 1 {name} AS JSON", again("h", 4_000)),
        format!("ML.FEATUREGET 1 h FIELDS 4000{}", again("f", 4_000)),
        format!("ML.FEATUREGET 1 h FIELDS 4000{} AS JSON", again("f", 4_000)),
        format!("ML.FEATUREGET 2 h h FIELDS 4000{} STRICT", again("f", 4_000)),
        format!("ML.FEATUREGET 2000{} FIELDS 2 f n DEFAULT {name}", again("h", 2_000)),
        format!("ML.FEATUREGET 1 row FIELDS 4000{}", again("f", 4_000)),
        format!(
            "ML.FEATUREGET 1000{} FIELDS 1000{} AS TENSOR TYPE F64",
            again("h", 1_000),
            again("f", 1_000)
        ),
        format!("ML.FEATURES h{}", again("f", 4_000)),
        format!("ML.FEATURES row{}", again("f", 4_000)),
        format!("ML.CACHEMGET 4000{} v", again("c", 4_000)),
        format!("ML.CACHEMFETCH 4000{} v LEASE 9", again("c", 4_000)),
    ] {
        let server = Server::with(&format!("client-output-buffer-limit normal {OUTPUT_LIMIT} 0 0"));
        let mut client = server.client();
        client.run(&format!("HSET h f {name}"));
        client.run(&format!("ML.FEATURESET row FIELDS 1 f {name}"));
        client.run(&format!("ML.CACHESET c v {name}")).ok();
        let before: u64 = client.info("used_memory").parse().unwrap();
        let words = words(&line);
        let sent: u64 = words.iter().map(|word| word.len() as u64 + 64).sum();
        let mut command = Cmd::new();
        words.iter().for_each(|word| _ = command.arg(word));
        let counts = client.knows("ML.DEBUG");
        let mut work = || counts.then(|| client.run("ML.DEBUG WORK DONE").items());
        work();
        // An answer, an error, or a connection that the server has closed.
        let answer = server.client().try_send(&command);
        // What was held while it ran, which the server does not see, and after it.
        let held = work().map_or(0, |work| work[2].integer() as u64);
        let peak: u64 = client.info("used_memory_peak").parse().unwrap();
        let own = 4 * sent
            + match &words[0][..] {
                b"ML.FEATUREGET" => 2 * REPLY_LIMIT,
                _ => 2 * stored(&mut client, &words),
            };
        let most = before + own + 2 * OUTPUT_LIMIT;
        let answered = answer.as_ref().map_or(0, length);
        println!("{held} and {} bytes, {answered} answered: {}", peak - before, brief(&words));
        assert!(held <= own, "{}: {held} bytes meanwhile, {own} at most", brief(&words));
        assert!(peak <= most, "{}: {peak} bytes, {most} at most", brief(&words));
    }
}

/// Numbers of as many things as there could be in so many bytes, of one, two and eight
/// bytes each, in seven bits a byte and as eight bytes; and no number at all.
fn counts(tail: usize) -> Vec<Vec<u8>> {
    let mut counts = vec![vec![], (tail as u64 / 2).to_le_bytes().to_vec()];
    for bytes in [1, 2, 8] {
        let (mut number, mut count) = (tail / bytes, Vec::new());
        while number > 0x7f {
            count.push(number as u8 | 0x80);
            number >>= 7;
        }
        count.push(number as u8);
        counts.push(count);
    }
    counts
}

/// Payloads that say that there is much more in them than there is, and those that are
/// long because of it: what reads them takes at most six times their length.
#[test]
fn no_payload_takes_many_times_its_length() {
    const A_BYTE: u64 = 6;
    // How many bytes follow, and how many may be taken once. What a row has, and what
    // happens to it at once, is bounded by a number, up to which it may be more.
    let sizes = |name: &str| match name.contains("FEATURE") || name.contains("ROW") {
        true => (4_usize << 20, 8_u64 << 20),
        false => (64 << 10, 32 << 10),
    };
    let server = Server::with("rdbcompression no");
    let mut client = server.client();
    if !client.knows("ML.DEBUG") {
        println!("not applicable: a release build counts nothing");
        return;
    }
    // Valid ones of each kind, as they are replicated and as a log is rewritten.
    let mut tap = Tap::on(&server);
    let mut payloads: Vec<Vec<Vec<u8>>> = Vec::new();
    for call in [
        "ML.RATELIMIT r1 10 3600 20 7200 HOLD 90000",
        "ML.RATELIMIT r2 10 3600 ALGORITHM SLIDING",
        "ML.RATELIMIT r2 10 3600 HOLD 90000",
        "ML.RATELIMIT r3 10 3600 ALGORITHM GCRA HOLD 90000",
        "ML.ADMIT 1 p PERMIT 10 HOLD 3600000",
        "ML.ADMIT 1 p PERMIT 10 HOLD 3600000",
        "ML.CACHESET c v x STALE 9000000",
        "ML.CACHESET c w y STALE 9000000",
        "ML.CACHEDROP c STALE",
        "ML.FEATURESET f VIEW v FIELDS 3 a 1 b 0.5 c gold",
        "ML.FEATUREMSET 2 f g 12345678 TYPE F32 FIELDS 1 a",
        "ML.FEATUREDEL f FIELDS 1 a",
        "ML.FEATUREPUSH e s 1 0.5 gold LAST 9",
        "ML.FEATURETALLY e FIELDS 1 t 2 SPAN 60 TILE 60 SPAN 3600 TILE 3600",
        "ML.FEATURESET e TYPE F32 DIM 2 FIELDS 1 v 12345678",
        "ML.CACHEVERSIONSET ns v w",
        "ML.FIELDLIST list a b",
        "ML.SEMSET s v aaaabbbbccccddddeeeeffffgggghhhh x PROMPT p DIGEST d EMBEDDER e",
        "ML.SEMSET s v iiiijjjjkkkkllllmmmmnnnnoooopppp y",
    ] {
        assert!(!client.run(call).is_error(), "{call}");
        let effects = tap.replicated(&mut client).into_iter();
        payloads.extend(effects.filter(|words| words[0].starts_with(b"ML.")));
    }
    for (key, load) in [
        ("r1", "ML.LOADRATE"),
        ("r2", "ML.LOADRATE"),
        ("r3", "ML.LOADRATE"),
        ("p", "ML.LOADPERMIT"),
        ("c", "ML.LOADCACHE"),
        ("f", "ML.LOADFEATURE"),
        ("e", "ML.LOADFEATURE"),
        ("s", "ML.LOADSEMANTIC"),
    ] {
        // A payload is the only string of the module's in what DUMP gives; the first
        // byte says its type, the next nine are that of the module.
        let dump = call!(client, "DUMP", key).bytes();
        let payload = crate::support::dump::module_string(&dump);
        payloads.push(vec![load.into(), key.into(), payload]);
    }
    assert!(payloads.len() >= 24, "{}", payloads.len());
    let mut worst = (0, String::new());
    for words in payloads {
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        let at = (1..words.len()).find(|at| words[*at].first().is_some_and(|byte| *byte < 9));
        let payload = at.map(|at| (at, words[at].clone()));
        let (at, payload) = payload.unwrap_or_else(|| panic!("{name} has no payload"));
        let (tail, once) = sizes(&name);
        // In the midst of a vector there is nothing that says how much there is.
        let vector = if name.contains("SEMANTIC") { 30..payload.len() - 60 } else { 0..0 };
        let ends = 1..=payload.len().min(if tail > 1 << 20 { 24 } else { 200 });
        for end in ends.filter(|end| !vector.contains(end)) {
            for count in &counts(tail) {
                let mut words = words.clone();
                words[at] = [&payload[..end], count, &vec![0; tail]].concat();
                let length = words[at].len() as u64;
                let most = measured(&mut client, &words).most;
                let bound = once + A_BYTE * length;
                let context = || format!("{name} of {length}, cut at {end}, {count:?}");
                assert!(most <= bound, "{}: {most} bytes, {bound} at most", context());
                if most > worst.0 {
                    worst = (most, context());
                }
            }
        }
    }
    println!("{} bytes at once: {}", worst.0, worst.1);
}

#[test]
fn the_work_of_any_call_is_in_proportion() {
    let calls = calls();
    let Some((_server, mut client)) = counting() else { return };
    // What the server does beside the calls would count as theirs.
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    let [_, seed] = Random::seeds();
    let (mut random, mut ids) = (Random::new(seed), Vec::new());
    furnish(&mut client);
    let mut worst: [(f64, String); 3] = Default::default();
    for number in 0..calls {
        let line = GRAMMAR[number % GRAMMAR.len()];
        // Many small things, some of middling size, few large ones; always of few
        // names, so that they come again.
        let (most, longest) =
            *random.of(&[&(20_000, 12), &(300, 6_000), &(300, 300), &(4, 1 << 20)]);
        let mut maker = Maker::new(&mut random, &ids);
        (maker.most, maker.longest, maker.names, maker.nonsense) = (most, longest, 3, 100_000);
        let words = maker.words(line);
        // Leases that have run out are seen to by whoever looks next: not at its cost.
        client.run("ML.CACHEINFO nothing");
        client.run("ML.SEMINFO nothing");
        let cost = cost(&mut client, &words);
        remember(&cost.answer, &mut ids);
        for ((bound, figure), worst) in cost.figures().into_iter().zip(&mut worst) {
            let beyond = figure.unwrap_or(0).saturating_sub(bound.once) as f64;
            let share = beyond / cost.bytes as f64;
            if share > worst.0 {
                *worst = (share, brief(&words));
            }
        }
        assert_eq!(cost.excess(), [""; 0], "{}, seed {seed}", brief(&words));
        if words[0] == b"UNLINK" {
            wait_for("what is freed in the background", || {
                client.info("lazyfree_pending_objects") == "0"
            });
        }
        // What has come together is too much for the next to be told from it.
        if number % 200 == 199 {
            furnish(&mut client);
        }
    }
    for ((share, call), bound) in worst.iter().zip([EDGES, ALLOCATED, MOST]) {
        println!("{share:.1} {} a byte at most: {call}", bound.of);
    }
}

#[test]
fn a_reply_that_is_refused_is_reckoned_no_further() {
    let Some((_server, mut client)) = counting() else { return };
    let items: Vec<_> = (0..65_536).collect();
    call!(client, "ML.FEATUREPUSH", "e", "s", &items, "LAST", 65_536).integer();
    client.run("CONFIG SET ml.features-max-reply-bytes 1mb").ok();
    let same = vec!["s".to_owned(); 20_000];
    let other = (0..20_000).map(|name| format!("s[{}]", 65_535 - name)).collect();
    for names in [same, other] {
        let names = names.into_iter().map(String::into_bytes);
        let words: Vec<_> = ["ML.FEATURES", "e"].map(Vec::from).into_iter().chain(names).collect();
        let cost = cost(&mut client, &words);
        assert!(cost.answer.error().contains("ml.features-max-reply-bytes"));
        assert_eq!(cost.excess(), [""; 0], "{}", brief(&words));
    }
}

/// How many calls at random.
fn calls() -> usize {
    std::env::var("MLSERVE_PROPORTION_CALLS").map_or(400, |text| text.parse().unwrap())
}

/// Something of a size, and a call whose cost may depend on that as COMMAND DOCS says.
type Case = (&'static str, fn(&mut Client, usize), fn(usize) -> String);

/// So many holds, each on a key of limits and on one of permits, and two more by
/// [`held`] that are to be ended.
fn holds(client: &mut Client, size: usize) {
    fill(client, "GCRA", size);
    for round in 0..2 {
        let items = "LIMIT 1000000 9000 COST 5 PERMIT 1000000 HOLD 90000000";
        client.run(&format!("ML.ADMIT 2 r p {items} ID {}", held(round))).items();
    }
}

/// The ids of holds that are to be ended.
fn held(round: usize) -> String {
    format!("{round}").repeat(32)
}

/// So many holds by ids of their own, each on a key of limits and on one of permits.
fn fill(client: &mut Client, algorithm: &str, size: usize) {
    const FILL: &str = "for i = 1, ARGV[2] do
        redis.call('ML.ADMIT', 2, KEYS[1], KEYS[2], 'LIMIT', 1000000, 9000, 'ALGORITHM', ARGV[1],
            'PERMIT', 1000000, 'HOLD', 90000000, 'ID', string.format('f%031x', i)) end";
    assert_eq!(call!(client, "EVAL", FILL, 2, "r", "p", algorithm, size), Value::Nil);
}

/// An answer, and as many other keys, leases, and namespaces.
fn answers(client: &mut Client, size: usize) {
    client.run("ML.CACHESET k v x STALE 90000000").ok();
    let lines: Vec<_> = (0..size)
        .flat_map(|number| {
            [
                format!("ML.CACHESET ns{number}:k v x"),
                format!("ML.CACHEFETCH k{number} w LEASE 90000000"),
            ]
        })
        .collect();
    client.run_all(&lines);
}

/// A sequence of as many items, and windows of as many tiles.
fn events(client: &mut Client, size: usize) {
    let items: Vec<_> = (0..size).map(|item| format!("item{item}")).collect();
    call!(client, "ML.FEATUREPUSH", "e", "s", items, "LAST", size).integer();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    for tile in (0..size as u128).rev() {
        let at = now - tile * 1_000_000;
        let call = format!("ML.FEATURETALLY e FIELDS 1 t 1 SPAN 4000000 TILE 1000 AT {at}");
        client.run(&call).integer();
    }
}

/// A row and a hash of as many fields, and as many rows of as many fields.
fn rows(client: &mut Client, size: usize) {
    let fields: Vec<_> = (0..size).map(|field| format!("f{field}")).collect();
    for key in ["f".to_owned()].into_iter().chain((0..size).map(|key| format!("f{key}"))) {
        let blob = vec![0x40_u8; 4 * size];
        call!(client, "ML.FEATUREMSET", 1, key, blob, "TYPE", "F32", "FIELDS", size, &fields)
            .items();
    }
}

/// As many answers, each to another question.
fn entries(client: &mut Client, size: usize) {
    for number in 0..size {
        let vector: Vec<_> =
            (0..8).flat_map(|at| ((number >> at) as f32 + 0.5).to_le_bytes()).collect();
        call!(client, "ML.SEMSET", "s", "v", vector, "x").text();
    }
}

fn many(head: &str, size: usize) -> String {
    (0..size).map(|number| format!(" {head}{number}")).collect()
}

const NO_ID: &str = "00000000000000000000000000000000";

const CASES: &[Case] = &[
    ("ML.RATELIMIT", holds, |_| "r 1000000 9000".to_owned()),
    ("ML.RATELIMIT", holds, |_| "r 1000000 9000 HOLD 90000000".to_owned()),
    (
        "ML.ADMIT",
        |_, _| (),
        |size| format!("{size}{}{}", many("m", size), " LIMIT 9 9000".repeat(size)),
    ),
    ("ML.ADMIT", holds, |_| "2 r p LIMIT 1000000 9000 PERMIT 1000000 HOLD 90000000".to_owned()),
    ("ML.SERVE", holds, |_| {
        "2 r c ADMIT LIMIT 1000000 9000 HOLD 90000000 CACHE v LEASE 9".to_owned()
    }),
    ("ML.SERVE", rows, |_| "2 l f ADMIT LIMIT 1000000 9000 FEATURES FIELDS 1 f1".to_owned()),
    ("ML.SETTLE", holds, |_| "2 r p {held} ACTUAL 1 -".to_owned()),
    ("ML.RENEW", holds, |_| "2 r p {held} 9000".to_owned()),
    ("ML.LIMITINFO", holds, |_| "r".to_owned()),
    ("ML.LIMITINFO", holds, |_| "p".to_owned()),
    ("ML.CACHESET", answers, |_| "k v y".to_owned()),
    ("ML.CACHEGET", answers, |_| "k v".to_owned()),
    ("ML.CACHEMGET", answers, |size| format!("{size}{} v", many("k", size))),
    ("ML.CACHEMSET", answers, |size| {
        format!("{size}{} v", many("x k", size).replacen(" x", "", 1) + " x")
    }),
    ("ML.CACHEDROP", answers, |_| "k VERSION v".to_owned()),
    ("ML.CACHEFETCH", answers, |_| "k w LEASE 9000".to_owned()),
    ("ML.CACHEMFETCH", answers, |size| format!("{size}{} v LEASE 9000", many("j", size))),
    ("ML.CACHERELEASE", answers, |_| format!("k {NO_ID} BACKOFF 9000")),
    ("ML.CACHERENEW", answers, |_| format!("k {NO_ID} 9000")),
    ("ML.CACHEVERSION", answers, |_| "ns1".to_owned()),
    ("ML.CACHEVERSIONSET", answers, |_| "ns1 w".to_owned()),
    ("ML.CACHEINFO", answers, |_| "k".to_owned()),
    ("ML.STATS", answers, |_| "CACHE".to_owned()),
    ("ML.FEATURES", rows, |size| format!("f{}", many("f", size))),
    ("ML.FEATUREGET", rows, |size| {
        format!("{size}{} FIELDS {size}{} AS TENSOR", many("f", size), many("f", size))
    }),
    ("ML.FEATURESET", rows, |_| "f FIELDS 1 f1 2".to_owned()),
    ("ML.FEATUREMSET", rows, |size| {
        let blob = "1234".repeat(size * size);
        format!("{size}{} {blob} TYPE F32 FIELDS {size}{}", many("f", size), many("f", size))
    }),
    ("ML.FEATUREPUSH", events, |size| format!("e s{} LAST 9", many("i", size))),
    ("ML.FEATUREPUSH", events, |size| format!("e s i LAST {size}")),
    ("ML.FEATURETALLY", events, |size| {
        let pairs: String = (0..size).map(|field| format!(" t{field} 1")).collect();
        format!("e FIELDS {size}{pairs} SPAN 4000000 TILE 1000")
    }),
    ("ML.FEATURETALLY", events, |_| "e FIELDS 1 t 1 SPAN 4000000 TILE 1000".to_owned()),
    ("ML.FEATUREDEL", rows, |_| "f FIELDS 1 f1".to_owned()),
    ("ML.FIELDLIST", rows, |size| format!("list{}", many("f", size))),
    ("ML.FIELDLISTS", rows, |_| String::new()),
    ("ML.FEATUREGETALL", rows, |_| "f".to_owned()),
    ("ML.FEATUREINFO", rows, |_| "f".to_owned()),
    ("ML.SEMSET", entries, |_| format!("s v {} x", "1234".repeat(8))),
    ("ML.SEMSET", |_, _| (), |size| format!("t v {} x", "1234".repeat(size))),
    ("ML.SEMGET", entries, |_| format!("s v {} HIT 0.5", "4321".repeat(8))),
    ("ML.SEMGET", entries, |_| format!("s none {} HIT 0.5", "4321".repeat(8))),
    ("ML.SEMFETCH", entries, |_| format!("s v {} HIT 0.5 LEASE 9000", "4321".repeat(8))),
    ("ML.SEMFETCH", entries, |_| format!("s none {} HIT 1 LEASE 9000", "4321".repeat(8))),
    ("ML.SEMALIAS", entries, |_| format!("s v {} {NO_ID} TOKEN {NO_ID}", "4321".repeat(8))),
    ("ML.SEMRENEW", entries, |_| format!("s {NO_ID} 9000")),
    ("ML.SEMRELEASE", entries, |_| format!("s {NO_ID} BACKOFF 9000")),
    ("ML.SEMDROP", entries, |_| format!("s ID {NO_ID}")),
    ("ML.SEMDROP", entries, |_| "s VERSION v".to_owned()),
    ("ML.SEMTHRESHOLD", entries, |_| format!("s {NO_ID} 0.5")),
    ("ML.SEMINFO", entries, |_| "s".to_owned()),
];

/// More holds than are kept in a list: what is done with these is done as with many.
const SOME: usize = 24;

#[test]
fn what_is_done_with_one_of_sixty_thousand_holds_costs_what_it_does_with_two_dozen() {
    let Some((_server, mut client)) = counting() else { return };
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    let limit = "LIMIT 1000000 9000";
    let own = held(7);
    let calls = [
        "ML.RATELIMIT r 1000000 9000".to_owned(),
        "ML.RATELIMIT r 1000000 9000 COST 2000000".to_owned(),
        "ML.RATELIMIT r 1000000 9000 PEEK".to_owned(),
        format!("ML.RATELIMIT r 1000000 9000 COST 7 HOLD 90000000 ID {own}"),
        format!("ML.RATELIMIT r 1000000 9000 COST 7 HOLD 90000000 ID {own}"),
        format!("ML.ADMIT 2 r p {limit} COST 7 PERMIT 1000000 HOLD 90000000 ID {own}"),
        format!("ML.ADMIT 2 r p {limit} PERMIT 1000000 PEEK"),
        format!("ML.ADMIT 2 r p {limit} PERMIT 3 COST 9 HOLD 90000000"),
        format!("ML.RENEW 2 r p {own} 1"),
        format!("ML.RENEW 2 p r {own} 91000000"),
        format!("ML.SETTLE 2 r p {own} ACTUAL 3 -"),
        // The oldest, one in the midst, and none.
        format!("ML.SETTLE 2 r p f{:031x} ACTUAL 0 -", 1),
        format!("ML.SETTLE 2 r p f{:031x} ACTUAL 9 -", 6),
        format!("ML.SETTLE 2 r p {NO_ID}"),
    ];
    for algorithm in ALGORITHMS {
        let [few, many] = [SOME, 60_000].map(|size| {
            client.run("FLUSHALL").ok();
            // A hold that is renewed for a millisecond is open in the next call.
            client.freeze_ahead();
            fill(&mut client, algorithm, size);
            let costs = calls.iter().map(|call| measured(&mut client, &words(call)));
            costs.collect::<Vec<_>>()
        });
        for ((few, many), call) in few.iter().zip(&many).zip(&calls) {
            assert!(!few.answer.is_error() && !many.answer.is_error(), "{call}: {few:?} {many:?}");
            println!(
                "{:?} {:?} edges, {} {} bytes: {call}",
                few.edges, many.edges, few.allocated, many.allocated
            );
            assert!(many.allocated <= 2 * few.allocated + 4_096, "{call}: {few:?} {many:?}");
            let [few, many] = [few, many].map(|cost| cost.edges.unwrap_or(0));
            assert!(many <= 2 * few + 300, "{call}: {few} edges with few holds, {many} with many");
        }
    }
}

/// Of many, no call puts in order what those before it have left. The refund is of what
/// is drawn, in the midst of the others.
#[test]
fn no_call_of_many_opens_or_settles_at_the_cost_of_sixty_thousand_holds() {
    let Some((_server, mut client)) = counting() else { return };
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    let [_, seed] = Random::seeds();
    for algorithm in ALGORITHMS {
        let [few, many] = [SOME, 60_000].map(|size| {
            client.run("FLUSHALL").ok();
            fill(&mut client, algorithm, size);
            let mut open: Vec<_> = (1..=size).map(|hold| format!("f{hold:031x}")).collect();
            let mut random = Random::new(seed);
            let mut worst = [(0, 0); 2];
            for number in 0..calls() {
                let own = format!("e{number:031x}");
                let at = random.below(size as u64) as usize;
                let settled = std::mem::replace(&mut open[at], own.clone());
                let limit = "LIMIT 1000000 9000 PERMIT 1000000";
                for (call, worst) in [
                    format!("ML.ADMIT 2 r p {limit} HOLD 90000000 ID {own}"),
                    format!("ML.SETTLE 2 r p {settled} ACTUAL 0 -"),
                ]
                .iter()
                .zip(&mut worst)
                {
                    let cost = measured(&mut client, &words(call));
                    assert!(!cost.answer.is_error(), "{call}: {cost:?}, seed {seed}");
                    *worst = (worst.0.max(cost.edges.unwrap_or(0)), worst.1.max(cost.allocated));
                }
            }
            worst
        });
        println!("{algorithm}: {few:?} with few holds, {many:?} with many");
        for ((edges, allocated), (many_edges, many_allocated)) in few.into_iter().zip(many) {
            // Some nodes of trees at once.
            assert!(many_allocated <= allocated + 16_384, "{algorithm}: {few:?} {many:?}");
            assert!(many_edges <= 2 * edges + 300, "{algorithm}: {few:?} {many:?}, seed {seed}");
        }
    }
}

/// Sixty thousand that end together are over at once, and are taken out by and by.
#[test]
fn no_call_takes_out_all_holds_that_have_ended_together() {
    let Some((_server, mut client)) = counting() else { return };
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    for algorithm in ALGORITHMS {
        let [few, many] = [SOME, 60_000].map(|size| {
            client.run("FLUSHALL").ok();
            let now_us = client.freeze_ahead();
            fill(&mut client, algorithm, size);
            let asks = "ML.ADMIT 2 r p LIMIT 1000000 9000 PERMIT 1000000";
            client.run(&format!("{asks} HOLD 180000000 ID e{:031x}", 1)).items();
            client.freeze(now_us + 90_000_000 * 1_000);
            let calls = [
                format!("{asks} PEEK"),
                "ML.ADMIT 1 p PERMIT 1 COST 2 HOLD 9000".to_owned(),
                format!("ML.RENEW 2 r p e{:031x} 180000000", 1),
                format!("{asks} HOLD 180000000 ID e{:031x}", 2),
                // One that is over, and may be there yet.
                format!("{asks} HOLD 180000000 ID f{:031x}", size / 2),
                format!("ML.SETTLE 2 r p e{:031x} ACTUAL 0 -", 1),
            ];
            let costs = calls.map(|call| measured(&mut client, &words(&call)));
            costs.iter().for_each(|cost| assert!(!cost.answer.is_error(), "{cost:?}"));
            for key in ["r", "p"] {
                assert_eq!(Info::of(&mut client, key).unwrap().holds.len(), 2, "{key}");
            }
            for _ in 0..size / 60 {
                client.run(&format!("ML.RENEW 2 r p e{:031x} 180000000", 2)).items();
            }
            for key in ["r", "p"] {
                let usage = call!(client, "MEMORY", "USAGE", key).integer();
                assert!(usage < 6_000, "{key} has {usage} bytes with two holds");
            }
            costs
        });
        for (number, (few, many)) in few.into_iter().zip(many).enumerate() {
            println!(
                "{:?} {:?} edges, {} {} bytes",
                few.edges, many.edges, few.allocated, many.allocated
            );
            assert!(many.allocated <= few.allocated + 16_384, "{few:?} {many:?}");
            let [few, many] = [few, many].map(|cost| cost.edges.unwrap_or(0));
            // What has ended is added up run by run until a write of each key has done so;
            // a write takes some tens out of each.
            let more = if number < 3 { 150_000 } else { 20_000 };
            assert!(many <= 2 * few + more, "{few} edges with few holds, {many} with many");
        }
    }
}

/// A charge at a key that is used up, and what is then looked at: the first that waits
/// there, who asks for many keys more.
#[test]
fn what_happens_at_a_key_costs_no_more_where_one_waits_there_who_asks_for_a_thousand() {
    let Some((server, mut client)) = counting() else { return };
    let [few, many] = [2, 1_000].map(|size| {
        client.run("FLUSHALL").ok();
        client.run("ML.RATELIMIT k 1 3600").items();
        let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
        let others = size - 1;
        let items = " LIMIT 9 3600".repeat(others);
        let asks = format!("{size} k{} LIMIT 1 3600{items} {LONG}", many("o", others));
        let mut crowd = queue(&server, &[&asks, &format!("1 p PERMIT 1 {LONG}")]);
        client.run("ML.DEBUG WORK DONE").items();
        client.run("MULTI").ok();
        client.run("ML.RATELIMIT k 1 3600 FORCE");
        client.run(&format!("ML.SETTLE 1 p {id}"));
        client.run("EXEC").items();
        // Who is let in was looked at after the one who waits at the other key.
        assert!(told(&mut crowd, 1).admitted);
        let work = client.run("ML.DEBUG WORK DONE").items();
        assert_eq!(waiting(&mut client), 1);
        work[1].integer()
    });
    println!("{few} bytes allocated with few keys, {many} with many");
    assert!(many <= few + 4_096, "{few} bytes with few keys, {many} with many");
}

#[test]
fn what_a_command_says_of_its_complexity_is_so() {
    const SMALL: usize = 12;
    const TIMES: usize = 16;
    let public = commands::all().filter(|command| !commands::is_internal(command));
    let public = public.map(commands::name).collect();
    commands::assert_calls_of_all("CASES", public, CASES.iter().map(|(name, ..)| *name));
    let server = Server::start();
    let mut client = server.client();
    let knows = client.knows("ML.DEBUG");
    if !knows || client.run("ML.DEBUG WORK DONE").items()[0] == Value::Nil {
        println!("not applicable: this build of the module counts no edges");
        return;
    }
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    let mut wrong = Vec::new();
    for (name, setup, arguments) in CASES {
        let edges = [SMALL, SMALL * TIMES].map(|size| {
            client.run("FLUSHALL").ok();
            setup(&mut client, size);
            // The second time: the first may allocate what stays.
            let [_, edges] = [0, 1].map(|round| {
                let arguments = arguments(size).replace("{held}", &held(round));
                let words = words(format!("{name} {arguments}").trim_end());
                let cost = measured(&mut client, &words);
                assert!(!cost.answer.is_error(), "{name}: {:?}", cost.answer);
                cost.edges.unwrap()
            });
            edges
        });
        let command = commands::all().find(|command| commands::name(command) == *name).unwrap();
        let complexity = command.complexity.to_str().unwrap();
        // The first of its bounds, each letter of which is the size; the logarithm of
        // sixteen times as much is at most four times as much.
        let bound = complexity.split_once(" where").map_or(complexity, |(bound, _)| bound);
        let bound = bound.split([';', ',']).next().unwrap();
        let times = TIMES as u64;
        let factor = match bound {
            _ if bound.starts_with("O(1)") => 1,
            // Of several letters a case has one grow: callers that wait are none here.
            "O(log(N))" | "O(log(N)+M)" => 4,
            "O(N*D)" | "O((N+L)*D)" | "O(W*V*D)" | "O(N+L*V*D)" => times,
            "O(D*log(D)+W*V*D)" | "O(D*log(D)+W*D)" => 2 * times,
            _ if bound.contains("N*M") || bound.contains("K*M") => 2 * times * times,
            _ if bound.starts_with("O(N") && bound.contains("log") => 2 * times,
            "O(N)" | "O(N+M)" => times,
            bound => panic!("{name}: {bound} is not known here"),
        };
        let [small, large] = edges;
        println!("{small} {large}: {name}, {bound}");
        if large > factor * small * 3 / 2 + 500 {
            wrong.push(format!("{name}: {small} edges, then {large}: {complexity}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
