//! Every command with arguments at random, by a grammar that is half right: the
//! server lives, says what is wrong, answers each call once, its replica and a reload
//! hold what it holds, and its memory is back in the end. Each of these checks is
//! shown to find a fault that is planted for it.
//!
//! MLSERVE_FUZZ_CALLS says how many calls (scripts/fuzz makes it millions).

use crate::support::{Answer, Client, Random, Server, call, commands};
use redis::{Cmd, Value};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Commands, as they are written: what stands in braces is made up, what stands in
/// brackets may be left out, what ends in `*` comes any number of times, what begins
/// with `#` too, its number in front.
pub const GRAMMAR: &[&str] = &[
    "ML.RATELIMIT {key} {number} {window} [{number} {window}] [ALGORITHM {algorithm}] \
     [BURST {number}] [COST {number}] [{mode}] [HOLD {ms}]",
    "ML.RATELIMIT {limits} 200 60 [COST {few}] [PARTIAL] HOLD {ms} ID {own}",
    "ML.ADMIT {#key} {=limit+number+window} [COST {number}] [HOLD {ms}] [{mode}]",
    "ML.ADMIT {#key} {=item+few} [COST {few}] HOLD {ms} [ID {id}] [PEEK]",
    "ML.ADMIT 2 {limits} {permits} LIMIT {number} {window} [{number} {window}] \
     [ALGORITHM {algorithm}] [BURST {number}] [COST {few}] PERMIT {number} [COST {few}] \
     HOLD {ms} [ID {id}]",
    "ML.ADMIT 2 {limits} {permits} LIMIT 200 60 [COST {few}] PERMIT 200 [COST {few}] \
     HOLD {ms} [ID {own}]",
    "ML.ADMIT 2 {limits} {limits} LIMIT {number} 60 [COST 0] LIMIT {number} 60 [FORCE] \
     [HOLD {ms}]",
    "ML.SETTLE {#key} {id} [ACTUAL {number}]",
    "ML.SETTLE {#key} {own} ACTUAL {=actual}",
    "ML.SETTLE 2 {limits} {permits} {own} [ACTUAL {number} -]",
    "ML.RENEW {#key} {id} {ms}",
    "ML.RENEW 2 {permits} {limits} {own} {ms}",
    "ML.LIMITINFO {key}",
    "ML.CACHESET {key} {version} {value} [EX {number}] [PX {ms}] [STALE {ms}] [JITTER {number}] \
     [TOKEN {id}] [JSON]",
    "ML.CACHEGET {key} {version} [STALE]",
    "ML.CACHEMGET {#key} {version}",
    "ML.CACHEMSET {#key+value} {version} [PX {ms}] [STALE {ms}] [JITTER {number}] [TOKEN {id}]",
    "ML.CACHEDROP {key} [VERSION {version}] [STALE]",
    "ML.CACHEFETCH {key} {version} LEASE {ms} [WAIT 1] [EARLY {window}] [TOKEN {id}]",
    "ML.CACHEMFETCH {#key} {version} LEASE {ms} [TOKEN {id}]",
    "ML.CACHERENEW {key} {id} {ms}",
    "ML.CACHERELEASE {key} {id} [BACKOFF {ms}]",
    "ML.CACHEVERSION {word}",
    "ML.CACHEVERSIONSET {word} {version}*",
    "ML.CACHEVERSIONSET {word} CLEAR",
    "ML.CACHEINFO {key}",
    "ML.STATS [{section}] [NAMESPACE {word}] [RESET]",
    "ML.FEATURES {key} {asked}*",
    "ML.FEATUREGET {#key} FIELDS {#asked} [AS {form}] [TYPE {type}] \
     [DEFAULT {value}] [MAXAGE {ms}] [STRICT] [WITHTIMES]",
    "ML.FEATUREGET {#key} FIELDS {#asked} AS {form} [DEFAULT {value}] [WITHTIMES]",
    "ML.FEATUREGET {#key} FIELDS {#feature} AS {form} [DEFAULT {value}] [MAXAGE {ms}] \
     [WITHTIMES] LAYOUT FEAST",
    "ML.FEATUREGETALL {key} [VIEW {view}]",
    "ML.FEATURESET {key} [VIEW {view}] [AT {at}] [PX {ms}] [PXAT {ms}] [TYPE {type}] \
     [REPLACE] FIELDS {#field+value}",
    "ML.FEATURESET {key} TYPES 2 {type} {type} FIELDS 2 {field} {value} {field} {value}",
    "ML.FEATUREMSET {#key} {blob} TYPE {type} FIELDS {#field} [VIEW {view}] [AT {at}] \
     [PX {ms}] [REPLACE]",
    "ML.FEATUREMSET {#key} {blob} TYPE {type} FIELDS {#field} TIMES {times}",
    "ML.FEATURESET {key} [VIEW {view}] TYPE F32 DIM 2 FIELDS 2 {field} 12345678 {field} 87654321",
    "ML.FEATURESET {key} TYPE {type} DIM {dim} FIELDS 1 {field} {value}",
    "ML.FEATURESET {key} TYPES 2 F32[2] {type} FIELDS 2 {field} 12345678 {field} {value}",
    "ML.FEATUREMSET {#key} {blob} TYPE {type} DIM 1 FIELDS {#field} [VIEW {view}]",
    "ML.FEATUREPUSH {key} {field} {value}* LAST {dim} [AT {at}] [SEQ {number}] [TYPE {type}] \
     [VIEW {view}]",
    "ML.FEATURETALLY {key} FIELDS {#field+amount} SPAN 3600 TILE 60 [SPAN 864000 TILE 86400] \
     [AT {recent}] [SEQ {number}] [VIEW {view}]",
    "ML.FEATURETALLY {key} FIELDS 1 {field} {amount} SPAN {window} TILE {window} [SEQ {number}]",
    "ML.FEATUREDEL {key} FIELDS {#field}",
    "ML.FEATUREDEL {key} VIEW {view}",
    "ML.FEATUREINFO {key}",
    "ML.SERVE 3 {limits} {key} {key} ADMIT LIMIT {number} 60 [HOLD {ms} [ID {id}]] \
      CACHE {version} LEASE {ms} [TOKEN {id}] [FREEHITS] FEATURES FIELDS 1 {asked} [AS {form}]",
    "ML.SERVE 2 {limits} {key} ADMIT LIMIT 200 60 CACHE v1 LEASE {ms} [FREEHITS]",
    "ML.SERVE {#key} ADMIT {item} [HOLD {ms}] FEATURES FIELDS @list",
    "ML.FIELDLIST {word} {asked}*",
    "ML.FIELDLIST {word} CLEAR",
    "ML.FIELDLIST list {field} {field}",
    "ML.FIELDLISTS",
    "ML.FEATUREGET {#key} FIELDS @list [AS {form}]",
    "ML.FEATURESET {key} FIELDS @list {value} {value}",
    "ML.FEATUREMSET 1 {key} 12345678 TYPE F32 FIELDS @list",
    "ML.FEATURETALLY {key} FIELDS @list {amount} {amount} SPAN 3600 TILE 60",
    "ML.FEATUREDEL {key} FIELDS @list",
    "ML.SEMSET {key} {version} {vector} {value} [EMBEDDER {word}] [PROMPT {value}] \
     [DIGEST {few}] [PX {ms}] [STALE {ms}] [JITTER {number}] [TOKEN {id}]",
    "ML.SEMSET {key} v1 {vector} {value}",
    "ML.SEMGET {key} {version} {vector} HIT {similarity} [MAYBE {similarity}] [TOP {few}] \
     [EMBEDDER {word}] [DIGEST {few}]",
    "ML.SEMGET {key} v1 {vector} HIT 0.9 MAYBE 0.1 TOP 9",
    "ML.SEMFETCH {key} {version} {vector} HIT {similarity} LEASE {ms} [WAIT 1] \
     [MAYBE {similarity}] [TOP {few}] [EMBEDDER {word}] [DIGEST {few}] [TOKEN {id}]",
    "ML.SEMFETCH {key} v1 {vector} HIT 0.9 LEASE 9 MAYBE 0.1 TOKEN {id}",
    "ML.SEMALIAS {key} v1 {vector} {id} TOKEN {id}",
    "ML.SEMRENEW {key} {id} {ms}",
    "ML.SEMRELEASE {key} {id} [BACKOFF {ms}]",
    "ML.SEMDROP {key} ID {id}",
    "ML.SEMDROP {key} VERSION {version}",
    "ML.SEMTHRESHOLD {key} {id} {similarity}",
    "ML.SEMINFO {key}",
    "ML.APPLYLIMIT {key} {bytes}",
    "ML.APPLYPERMIT {key} {bytes}",
    "ML.APPLYANSWERS {key} {bytes} [{value}]",
    "ML.APPLYROW {bytes} {key}*",
    "ML.APPLYVERSIONS {bytes}",
    "ML.APPLYFIELDLISTS {bytes}",
    "ML.APPLYSEMANTIC {key} {bytes}",
    "ML.LOADRATE {key} {bytes}",
    "ML.LOADPERMIT {key} {bytes}",
    "ML.LOADCACHE {key} {bytes}",
    "ML.LOADFEATURE {key} {bytes}",
    "ML.LOADSEMANTIC {key} {bytes}",
    "DEL {key}",
    "HSET {key} {field} {value}",
    "HSET {key} {hashed} {message}",
    "PEXPIRE {key} {ms}",
    "PERSIST {key}",
    "COPY {key} {key} REPLACE",
    "RENAME {key} {key}",
    "UNLINK {key}",
];

/// What makes up arguments.
pub struct Maker<'a> {
    /// Where chance comes from.
    pub random: &'a mut Random,
    /// Ids and tokens that were answered.
    pub ids: &'a [Vec<u8>],
    /// How many of something there are at most where there may be many.
    pub most: u64,
    /// How long a value or a name is at most, mostly.
    pub longest: u64,
    /// How many keys, fields and versions there are to choose from.
    pub names: u64,
    /// Of how many words one is nonsense.
    pub nonsense: u64,
    /// What keys begin with that the command likes.
    own: &'static [&'static str],
}

/// What keys begin with that hold what a command is for; anything, of the server's.
fn heads(command: &str) -> &'static [&'static str] {
    let of = |words: &[&str]| words.iter().any(|word| command.contains(word));
    match command {
        _ if of(&["SEM"]) => &["s"],
        _ if of(&["PERMIT"]) => &["p"],
        _ if of(&["ADMIT", "SETTLE", "RENEW", "LIMITINFO"]) => &["r", "r", "p"],
        _ if of(&["RATE", "LIMIT"]) => &["r"],
        _ if of(&["CACHE", "VERSION"]) => &["c", "c", "ns:"],
        _ if of(&["FEATURE"]) => &["f", "f", "h"],
        "HSET" => &["h"],
        _ => &["r", "p", "c", "f", "h", "s", "ns:", ""],
    }
}

impl<'a> Maker<'a> {
    /// One that mostly does as the grammar says, with small things.
    pub fn new(random: &'a mut Random, ids: &'a [Vec<u8>]) -> Self {
        Self { random, ids, most: 4, longest: 2_000, names: 20, nonsense: 40, own: &[] }
    }
}

impl Maker<'_> {
    fn of(&mut self, words: &[&str]) -> Vec<u8> {
        self.random.of(words).as_bytes().to_vec()
    }

    fn bytes_up_to(&mut self, most: u64) -> Vec<u8> {
        let length = self.random.below(most.max(1));
        self.random.bytes(length as usize)
    }

    /// A name: one of a few, so that they come again, long ones among them.
    fn name(&mut self, heads: &[&str]) -> Vec<u8> {
        let number = self.random.below(self.names);
        let mut name = self.of(heads);
        name.extend(number.to_string().bytes());
        if self.longest > 2_000 && number.is_multiple_of(5) {
            name.resize(name.len() + (self.longest / 16) as usize, b'x');
        }
        name
    }

    /// Something to stand for what a grammar names.
    fn made_up(&mut self, what: &str) -> Vec<u8> {
        if self.random.below(self.nonsense) == 0 {
            return match self.random.below(4) {
                0 => self.bytes_up_to(12),
                1 => Vec::new(),
                2 => self.bytes_up_to(300),
                _ => self.of(&["-1", "0", "1.5", "9223372036854775808", "nan", "COST", "\0", "é"]),
            };
        }
        match what {
            "key" => {
                let own = self.own;
                match self.random.below(5) {
                    0 => self.name(&["r", "p", "c", "f", "h", "s", "ns:", ""]),
                    _ => self.name(own),
                }
            }
            "number" => match self.random.below(4) {
                0 => self.of(&["0", "1", "9007199254740992", "9223372036854775807", "-1"]),
                _ => self.random.below(200).to_string().into(),
            },
            "few" => self.random.below(4).to_string().into(),
            "limit" => b"LIMIT".to_vec(),
            // Of a key that may hold the other.
            "item" => self.of(&["PERMIT", "PERMIT", "LIMIT"]),
            "actual" => self.of(&["-", "-", "0", "7", "9007199254740992"]),
            // Few of each, so that they meet.
            "limits" => self.of(&["r0", "r1", "r2"]),
            "permits" => self.of(&["p0", "p1"]),
            "own" => format!("{:032x}", self.random.below(6)).into(),
            "window" => self.of(&["1", "60", "0.001", "0.5", "3600", "31622400", "1e3", "7.25"]),
            "ms" => match self.random.below(3) {
                0 => self.of(&["0", "1", "31622400000", "31622400001", "281474976710656"]),
                _ => self.random.below(100_000).to_string().into(),
            },
            "at" => match self.random.below(3) {
                0 => self.of(&["0", "1", "100000000000", "281474976710656"]),
                _ => (1_700_000_000_000 + self.random.below(100_000)).to_string().into(),
            },
            // Of eight dimensions mostly, all of them numbers.
            "vector" => {
                let dim = [8, 8, 8, 8, 9][self.random.below(5) as usize];
                (0..dim).flat_map(|_| (self.random.below(9) as f32 - 4.0).to_le_bytes()).collect()
            }
            "similarity" => self.of(&["0", "0.25", "0.5", "0.9", "0.999999", "1", "1.5"]),
            "times" => (0..1 + self.random.below(2))
                .flat_map(|_| {
                    [0, 1_700_000_000_000u64][self.random.below(2) as usize].to_le_bytes()
                })
                .collect(),
            "algorithm" => self.of(&["FIXED", "sliding", "GCRA", "LEAKY"]),
            "mode" => self.of(&["PEEK", "PARTIAL", "FORCE"]),
            "id" if self.random.below(3) == 0 => format!("{:032x}", self.random.below(50)).into(),
            "id" if !self.ids.is_empty() => {
                self.ids[self.random.below(self.ids.len() as u64) as usize].clone()
            }
            "id" => b"00000000000000000000000000000000".to_vec(),
            "version" => format!("v{}", self.random.below(20)).into(),
            "word" => self.of(&["ns", "", "(other)", "ns:a", "{ns}", "x"]),
            "section" => self.of(&["LIMITS", "cache", "FEATURES", "SEMANTIC", "ALL"]),
            "view" => self.of(&["", "v", "w", "a:b"]),
            "field" if self.longest > 2_000 => self.name(&["f", "g", "v:", "w:"]),
            "field" => self.of(&["f", "g", "v:f", "w:g", "", ":", "(f,60)"]),
            // What a field is read by: mostly its name.
            "asked" => {
                let field = self.made_up("field");
                let [head, tail] = match self.random.below(6) {
                    0 => ["", *self.random.of(&[&"[1]", &"[2]", &"[9]", &"[300]", &"[0]"])],
                    1 => ["count(", ",3600)"],
                    2 => [*self.random.of(&[&"sum(", &"mean(", &"max(", &"std("]), ",864000)"],
                    3 => ["min(", ",7.25)"],
                    _ => ["", ""],
                };
                [head.as_bytes(), &field, tail.as_bytes()].concat()
            }
            // What Feast's store writes: of `v:f`, `w:g`, and the time of `v`.
            "feature" => self.of(&["v:f", "v:f[1]", "v:f[2]", "w:g", "w:g[9]", "v:"]),
            "hashed" => {
                let names: [&[u8]; 3] = [b"\xf1l\xb6\n", b"_\x1e3\"", b"_ts:v"];
                names[self.random.below(3) as usize].to_vec()
            }
            "message" => {
                let most = if self.random.below(9) == 0 { self.longest } else { 30 };
                let bytes = self.bytes_up_to(most);
                let mut message = Vec::new();
                let tag =
                    self.random.below(49) << 3 | [0, 1, 2, 2, 5][self.random.below(5) as usize];
                for number in [tag, bytes.len() as u64] {
                    prost::encode_length_delimiter(number as usize, &mut message).unwrap();
                }
                message.extend(bytes);
                message
            }
            "amount" => self.of(&["1", "-7", "0.1", "84.50", "1e308", "-1e308", "1e-300", "nan"]),
            "dim" => self.of(&["1", "2", "20", "20", "65536", "65537"]),
            "recent" => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
                (now - self.random.below(900_000_000)).to_string().into()
            }
            "form" => self.of(&["VALUES", "TENSOR", "json", "XML"]),
            "type" => self.of(&["F32", "F64", "I64", "AUTO", "STRING", "F16"]),
            "bytes" => {
                let most = 60.max(self.longest / 16);
                let mut bytes = self.bytes_up_to(most);
                if let Some(first) = bytes.first_mut() {
                    *first = 1 + self.random.below(2) as u8;
                }
                bytes
            }
            _ => match self.random.below(6) {
                0 => {
                    self.of(&["1", "-7", "0.5", "84.50", "1e400", "nan", "{\"a\":1}", "", "\u{ff}"])
                }
                1 => self.bytes_up_to(self.longest),
                2 => vec![b'1'; self.random.below(self.longest) as usize],
                _ => self.random.next().to_string().into(),
            },
        }
    }

    /// As many as there may be of something, few mostly.
    fn many(&mut self) -> u64 {
        match self.random.below(3) {
            0 => 1 + self.random.below(self.most),
            _ => 1 + self.random.below(4.min(self.most)),
        }
    }

    /// A call by a line of the grammar, as its words.
    pub fn words(&mut self, line: &str) -> Vec<Vec<u8>> {
        self.own = heads(line.split(' ').next().unwrap());
        let mut words: Vec<Vec<u8>> = Vec::new();
        let (mut optional, mut left_out) = (false, false);
        // The numbers in front of what is counted, and where a blob stands that
        // has so many values.
        let (mut counts, mut blob) = (Vec::new(), None);
        for (place, word) in line.split_whitespace().enumerate() {
            if word.starts_with('[') {
                optional = true;
                left_out = self.random.below(3) > 0;
            }
            let ends = word.contains(']');
            let word = word.trim_matches(['[', ']']);
            let bare = word.trim_end_matches('*');
            if !(optional && left_out) {
                match bare.strip_prefix('{').and_then(|what| what.strip_suffix('}')) {
                    Some("blob") => {
                        blob = Some(words.len());
                        words.push(Vec::new());
                    }
                    Some(what) => {
                        let times = match what.as_bytes()[0] {
                            b'#' => self.many(),
                            // As many as were counted before.
                            b'=' => counts.last().copied().unwrap_or(1),
                            _ if word.ends_with('*') => self.many(),
                            _ => 1,
                        };
                        if what.starts_with('#') {
                            let wrong = self.random.below(60) == 0;
                            words.push((times + u64::from(wrong)).to_string().into());
                            counts.push(times);
                        }
                        for _ in 0..times {
                            for what in what.trim_start_matches(['#', '=']).split('+') {
                                let word = self.made_up(what);
                                words.push(word);
                            }
                        }
                    }
                    // Now and then a word is forgotten.
                    None if place > 0 && self.random.below(300) == 0 => {}
                    None => words.push(bare.into()),
                }
            }
            optional &= !ends;
        }
        if let Some(place) = blob {
            let wide = words.iter().any(|word| word == b"F64" || word == b"I64");
            let length = counts.iter().product::<u64>() * if wide { 8 } else { 4 };
            let wrong = u64::from(self.random.below(10) == 0);
            // Within what the server takes as one word.
            let length = (length + wrong).min(64 << 20) as usize;
            words[place] = vec![self.random.next() as u8; length];
        }
        words
    }

    /// A call by a line of the grammar.
    pub fn call(&mut self, line: &str) -> Cmd {
        let mut command = Cmd::new();
        self.words(line).iter().for_each(|word| _ = command.arg(word));
        command
    }
}

/// Remembers ids and tokens of an answer, so that later calls may name them.
pub fn remember(answer: &Value, ids: &mut Vec<Vec<u8>>) {
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

/// Whether a condition comes to hold, in a time that is long for it.
fn holds(seconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// A server under calls at random, and what is checked of it. A check that fails
/// says what is wrong.
struct Fuzz {
    server: Server,
    replica: Server,
    client: Client,
    random: Random,
    ids: Vec<Vec<u8>>,
    sent: u64,
    taken: u64,
    /// Bytes that the module had before the first call; of a release build, that
    /// cannot tell, those of the whole server.
    held_before: i64,
}

impl Fuzz {
    fn start(seed: u64) -> Self {
        let server = Server::with("maxmemory 512mb\nmaxmemory-policy allkeys-lru");
        let replica = server.replica("ml.cache-versions-per-key 1\nml.cache-ttl 7");
        let client = server.client();
        let random = Random::new(seed);
        let (sent, taken, held_before, ids) = (0, 0, 0, Vec::new());
        let mut fuzz = Self { server, replica, client, random, ids, sent, taken, held_before };
        // What is allocated once, is then.
        fuzz.calls(4_000).unwrap();
        fuzz.forget();
        fuzz.held_before = fuzz.held();
        (fuzz.sent, fuzz.taken) = (0, 0);
        fuzz
    }

    /// Bytes in use, of the module where it tells them.
    fn held(&mut self) -> i64 {
        match self.client.run("ML.DEBUG WORK DONE") {
            Value::Array(work) => work[3].integer(),
            _ => self.client.info("used_memory").parse().unwrap(),
        }
    }

    /// Takes all away that the calls have left.
    fn forget(&mut self) {
        self.client.run("FLUSHALL").ok();
        self.client.run("ML.STATS RESET");
        for namespace in ["ns", "", "x", "(other)", "ns:a"] {
            call!(self.client, "ML.CACHEVERSIONSET", namespace, "CLEAR");
        }
        self.client.run("ML.STATS RESET");
    }

    /// Sends calls, each followed by a PING that is answered by its own number: so
    /// that each is answered once, in one piece.
    fn calls(&mut self, calls: u64) -> Result<(), String> {
        for batch in 0..calls.div_ceil(200) {
            let mut commands = Vec::new();
            for number in 0..200 {
                let line = match batch < 20 {
                    // Each at least once.
                    true => GRAMMAR[(number + batch as usize) % GRAMMAR.len()],
                    false => GRAMMAR[self.random.below(GRAMMAR.len() as u64) as usize],
                };
                let mut maker = Maker::new(&mut self.random, &self.ids);
                commands.push(maker.call(line));
                let mut ping = redis::cmd("PING");
                ping.arg(number);
                commands.push(ping);
            }
            let answers = self.client.pipeline(&commands);
            for (number, (commands, answers)) in
                commands.chunks(2).zip(answers.chunks(2)).enumerate()
            {
                let call = commands[0].get_packed_command();
                let call = String::from_utf8_lossy(&call);
                if answers[1] != Value::BulkString(number.to_string().into()) {
                    return Err(format!("out of step: {answers:?} to {call}"));
                }
                self.sent += 1;
                if answers[0].is_error() {
                    check_error(&answers[0].error(), &call)?;
                } else {
                    self.taken += 1;
                    remember(&answers[0], &mut self.ids);
                }
            }
        }
        Ok(())
    }

    /// The server lives, and no callback failed.
    fn check_health(&mut self) -> Result<(), String> {
        for server in [&mut self.server, &mut self.replica] {
            if !server.is_running() || server.log().contains("panic") {
                return Err("a server is not well".to_owned());
            }
        }
        Ok(())
    }

    /// Calls were neither all taken nor all refused.
    fn check_balance(&self) -> Result<(), String> {
        let range = self.sent / 10..self.sent * 9 / 10;
        match range.contains(&self.taken) {
            true => Ok(()),
            false => Err(format!("out of balance: {} of {} taken", self.taken, self.sent)),
        }
    }

    /// Gives every key a long life, so that none goes between two digests.
    fn prolong(&mut self) {
        let mut keys = Vec::new();
        assert!(holds(60, || {
            keys = self.client.run("KEYS *").items();
            for key in &keys {
                call!(self.client, "PEXPIRE", key.bytes(), 100_000_000);
            }
            self.client.run("DBSIZE").integer() == keys.len() as i64
        }));
    }

    /// The replica holds the same, and so does the server after a reload.
    fn check_copies(&mut self) -> Result<(), String> {
        self.prolong();
        self.replica.catch_up(&self.server);
        let digest = self.client.digest();
        if self.replica.client().digest() != digest {
            return Err("the replica holds something else".to_owned());
        }
        self.client.run("DEBUG RELOAD").ok();
        match self.client.digest() == digest {
            true => Ok(()),
            false => Err("a reload made something else of it".to_owned()),
        }
    }

    /// With all keys gone, what was counted is 0, and memory is free.
    fn check_memory(&mut self) -> Result<i64, String> {
        self.forget();
        let gauges = [
            "ml_features_layouts",
            "ml_permit_held",
            "ml_ratelimit_open_holds",
            "ml_cache_waiters",
            "ml_semantic_waiters",
        ];
        let is_idle = |client: &mut Client| {
            // Some servers free what was flushed on another thread.
            client.info("lazyfree_pending_objects") == "0"
                && gauges.iter().all(|gauge| client.info(gauge) == "0")
        };
        if !holds(5, || is_idle(&mut self.client)) {
            return Err("a gauge is not back".to_owned());
        }
        let grown = self.held() - self.held_before;
        // Of the whole server: its slow log, its statistics.
        let most = if self.client.knows("ML.DEBUG") { 128 << 10 } else { 4 << 20 };
        match grown < most {
            true => Ok(grown),
            false => Err(format!("{grown} bytes are not given back")),
        }
    }

    fn check_all(&mut self) -> Result<i64, String> {
        self.check_balance()?;
        self.check_copies()?;
        self.check_health()?;
        let grown = self.check_memory()?;
        self.check_health()?;
        Ok(grown)
    }
}

/// An error is one of a few kinds, on one line, and never an internal one.
fn check_error(error: &str, call: &str) -> Result<(), String> {
    let known = ["ERR ", "WRONGTYPE ", "OOM ", "NOKEY "].iter().any(|code| error.starts_with(code));
    match known && !error.contains("internal") && error.len() < 300 && !error.contains('\n') {
        true => Ok(()),
        false => Err(format!("not how to refuse: {error}: {call}")),
    }
}

#[test]
fn the_grammar_has_each_command() {
    commands::assert_calls_of_all("GRAMMAR", commands::names(), GRAMMAR.iter().copied());
}

#[test]
fn calls_at_random_leave_the_server_alive_and_its_memory_free() {
    let calls = std::env::var("MLSERVE_FUZZ_CALLS").map_or(30_000, |text| text.parse().unwrap());
    let [_, seed] = Random::seeds();
    let mut fuzz = Fuzz::start(seed);
    while fuzz.sent < calls {
        fuzz.calls((calls - fuzz.sent).min(1_000_000))
            .unwrap_or_else(|wrong| panic!("{wrong}, seed {seed}"));
        println!("{} calls, {} taken", fuzz.sent, fuzz.taken);
    }
    let grown = fuzz.check_all().unwrap_or_else(|wrong| panic!("{wrong}, seed {seed}"));
    println!("{} calls; {grown} bytes more than before", fuzz.sent);
}

/// Plants faults, each of which one check has to find; what it says then.
#[test]
fn each_check_finds_the_fault_that_it_is_for() {
    let mut fuzz = Fuzz::start(1);
    if !fuzz.client.knows("ML.DEBUG") {
        println!("not applicable: a release build has no faults to plant");
        return;
    }
    let fault = |fuzz: &mut Fuzz, words: &str| fuzz.client.run(&format!("ML.DEBUG {words}")).ok();
    let found = |checked: Result<(), String>, by: &str| {
        let wrong = checked.expect_err(by);
        assert!(wrong.starts_with(by), "{wrong}, where it should be: {by}");
    };
    fuzz.calls(2_000).unwrap();
    fuzz.check_copies().unwrap();

    // A call that answers twice, and one that panics.
    fault(&mut fuzz, "FAULT answer");
    found(fuzz.calls(200), "out of step");
    fuzz.client = fuzz.server.client();
    fault(&mut fuzz, "PANIC command");
    found(fuzz.calls(200), "not how to refuse: ERR internal error");
    for wrong in ["nonsense", "ERR of\ntwo lines", &"ERR long ".repeat(100)] {
        found(check_error(wrong, ""), "not how to refuse");
    }

    // Calls that are replicated in place of what they did.
    fault(&mut fuzz, "FAULT effects");
    fuzz.calls(2_000).unwrap();
    fault(&mut fuzz, "FAULT nothing");
    found(fuzz.check_copies(), "the replica holds something else");
    fuzz.client.run("FLUSHALL").ok();

    // A value that is not saved as it is.
    fuzz.client.run("ML.RATELIMIT key 10 6000").integers();
    fuzz.check_copies().unwrap();
    fault(&mut fuzz, "PANIC rdb_save");
    found(fuzz.check_copies(), "a reload made something else of it");
    found(fuzz.check_health(), "a server is not well");

    // A value that is never freed, and blocks that belong to nobody.
    fuzz.client.run("ML.FEATURESET row FIELDS 1 f 1").integer();
    fault(&mut fuzz, "PANIC free");
    fuzz.client.run("DEL row").integer();
    found(fuzz.check_memory().map(drop), "a gauge is not back");
    let mut fuzz = Fuzz::start(1);
    fault(&mut fuzz, "FAULT leak");
    fuzz.calls(2_000).unwrap();
    let leaked = fuzz.check_memory().map(drop).expect_err("a leak");
    assert!(leaked.ends_with("are not given back"), "{leaked}");

    // All taken, all refused.
    for taken in [0, fuzz.sent] {
        fuzz.taken = taken;
        found(fuzz.check_balance(), "out of balance");
    }
}
