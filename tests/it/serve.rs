//! ML.SERVE: limit, answer and features in one call, each as its own command says.

use crate::support::fetches::{Row, answer_that_cost, fetch, fill, late};
use crate::support::{Answer, Client, Random, Server, bulk, call, frozen};
use redis::Value;

/// What a part is not that was not asked.
const NOT: Value = Value::Nil;

fn furnish(client: &mut Client) {
    client.run("ML.FIELDLIST both a b").ok();
    client.run("ML.FEATURESET e0 TYPE F32 FIELDS 2 a 1 b 2").integer();
    client.run("ML.FEATURESET e1 FIELDS 2 a gold b 0.5").integer();
    call!(client, "HSET", "e2", "a", 7, "b", "x").integer();
    client.run("SET e3 no-entity").ok();
}

#[test]
fn a_request_is_denied_or_answered_or_gets_what_to_compute_from() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let serve = "ML.SERVE 3 l c e0 ADMIT LIMIT 3 3600 CACHE v LEASE 60000 FEATURES FIELDS @both";
    // A miss: let in, to compute, from the features.
    let parts = client.run(serve).items();
    assert_eq!(parts.len(), 3);
    let admission = parts[0].items();
    assert_eq!(admission[0].integer(), 1);
    assert_eq!(admission[4].items()[0].integers()[..3], [1, 3, 2]);
    let row = Row::of(&parts[1]);
    assert_eq!(row.brief(), "LEASE");
    assert_eq!(parts[2].items()[0].texts(), ["1.0", "2.0"]);
    // Another one meanwhile: let in, and told how long that takes; nothing is read.
    let parts = client.run(serve).items();
    assert_eq!((Row::of(&parts[1]).brief().as_str(), &parts[2]), ("BUSY", &NOT));
    let token = row.token.unwrap();
    client.run(&format!("ML.CACHESET c v answer TOKEN {token}")).ok();
    // A hit, by the last of the limit; then a denial.
    let parts = client.run(serve).items();
    assert_eq!(parts[0].items()[0].integer(), 1);
    assert_eq!((Row::of(&parts[1]).brief().as_str(), &parts[2]), ("HIT answer", &NOT));
    let before = client.footprint();
    let parts = client.run(serve).items();
    assert_eq!(parts[0].items()[0].integer(), 0);
    assert_eq!(parts[1..], [NOT, NOT]);
    assert_eq!(client.footprint(), before);
    // Where hits are free, so is this one.
    let parts = client.run(&serve.replace("60000", "60000 FREEHITS")).items();
    assert_eq!((&parts[0], Row::of(&parts[1]).brief().as_str()), (&NOT, "HIT answer"));
}

#[test]
fn what_is_retired_is_not_charged() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHEVERSIONSET c v2").ok();
    for free in ["", " FREEHITS"] {
        let serve = format!("ML.SERVE 2 l c:1 ADMIT LIMIT 3 3600 CACHE v1 LEASE 60000{free}");
        let parts = client.run(&serve).items();
        assert_eq!((&parts[0], Row::of(&parts[1]).brief().as_str()), (&NOT, "RETIRED"));
        assert_eq!(client.run("EXISTS l").integer(), 0);
    }
}

#[test]
fn free_hits_charge_what_is_to_be_computed_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let used = |client: &mut Client| {
        let info = client.run("ML.RATELIMIT l 2 3600 PEEK").integers();
        2 - info[2]
    };
    let serve =
        |key: &str| format!("ML.SERVE 2 l {key} ADMIT LIMIT 2 3600 CACHE v LEASE 60000 FREEHITS");
    let ask = |client: &mut Client, key: &str| {
        let parts = client.run(&serve(key)).items();
        let fetched = if parts[1] == NOT { "none".to_owned() } else { Row::of(&parts[1]).brief() };
        (parts[0] != NOT, fetched)
    };
    assert_eq!(ask(&mut client, "c1"), (true, "LEASE".to_owned()));
    assert_eq!(used(&mut client), 1);
    // Somebody computes: free. A stale answer beside that: free.
    assert_eq!(ask(&mut client, "c1"), (false, "BUSY".to_owned()));
    client.run("ML.CACHESET c2 v old PX 1 STALE 3600000").ok();
    crate::support::wait_for("it to be stale", || client.run("ML.CACHEGET c2 v") == NOT);
    assert_eq!(ask(&mut client, "c2"), (true, "LEASE old".to_owned()));
    assert_eq!(ask(&mut client, "c2"), (false, "STALE old".to_owned()));
    assert_eq!(used(&mut client), 2);
    // Denied: no lease is taken, and what is there is served as before.
    assert_eq!(ask(&mut client, "c3"), (true, "none".to_owned()));
    assert_eq!(ask(&mut client, "c2"), (false, "STALE old".to_owned()));
    assert_eq!(fetch(&mut client, "c3 v LEASE 60000").brief(), "LEASE");
}

#[test]
fn who_is_denied_has_what_is_there_all_the_same() {
    let (_server, mut client, now) = frozen();
    client.run("ML.RATELIMIT l 1 3600").items();
    answer_that_cost(&mut client, 50);
    client.freeze(now + 999_000);
    // A millisecond before its end it is to be computed anew, in all but a few cases.
    for _ in 0..20 {
        let call = "ML.SERVE 2 l k ADMIT LIMIT 1 3600 CACHE v LEASE 9000 EARLY 1000 FREEHITS";
        let parts = client.run(call).items();
        assert_eq!((&parts[0], Row::of(&parts[1]).brief().as_str()), (&NOT, "HIT x"));
    }
    client.run("ML.CACHESET s v old PX 1 STALE 3600000").ok();
    client.freeze(now + 2_000_000);
    let parts = client.run("ML.SERVE 2 l s ADMIT LIMIT 1 3600 CACHE v LEASE 9000 FREEHITS").items();
    assert_eq!(parts[0].items()[0].integer(), 0);
    assert_eq!((Row::of(&parts[1]).brief().as_str(), &parts[2]), ("STALE old", &NOT));
}

#[test]
fn who_is_denied_takes_nothing_from_a_late_holder() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.RATELIMIT l 1 3600").items();
    let token = late(&mut client, "c v", 3_000);
    let parts = client.run("ML.SERVE 2 l c ADMIT LIMIT 1 3600 CACHE v LEASE 9000 FREEHITS").items();
    assert_eq!(parts[0].items()[0].integer(), 0);
    assert_eq!(parts[1..], [NOT, NOT]);
    assert!(fill(&mut client, "c v x", &token), "it is still its holder's");
}

#[test]
fn what_one_part_says_is_not_lost_by_an_error_of_the_features() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    for (entity, fields, told) in [
        ("e3", "FIELDS @both", "WRONGTYPE"),
        ("e2", "FIELDS @both AS TENSOR TYPE I64", "'b'"),
        ("none", "FIELDS 1 a STRICT", "'none'"),
    ] {
        let call = format!("ML.SERVE 2 l {entity} ADMIT LIMIT 9 3600 FEATURES {fields}");
        let parts = client.run(&call).items();
        assert_eq!(parts[0].items()[0].integer(), 1, "{call}");
        assert!(parts[1] == NOT && parts[2].error().contains(told), "{call}: {:?}", parts[2]);
    }
}

#[test]
fn an_error_of_what_is_asked_first_is_one_of_the_whole() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    client.run("ML.RATELIMIT full 1 3600").items();
    let before = client.footprint();
    for call in [
        "ML.SERVE 2 e3 c ADMIT LIMIT 9 3600 CACHE v LEASE 9",
        "ML.SERVE 2 l e3 ADMIT LIMIT 9 3600 CACHE v LEASE 9 FREEHITS",
        "ML.SERVE 2 l e3 ADMIT LIMIT 9 3600 CACHE v LEASE 9",
        "ML.SERVE 2 full e3 ADMIT LIMIT 1 3600 CACHE v LEASE 9",
        "ML.SERVE 2 e3 e0 CACHE v LEASE 9 FEATURES FIELDS @both",
        "ML.SERVE 2 e0 c ADMIT PERMIT 9 HOLD 9 CACHE v LEASE 9 FREEHITS",
        "ML.SERVE 3 l e0 full ADMIT LIMIT 9 3600 LIMIT 9 60 CACHE v LEASE 9",
    ] {
        let error = client.run(call).error();
        assert!(error.starts_with("WRONGTYPE"), "{call}: {error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(fetch(&mut client, "c v LEASE 9").brief(), "LEASE", "none was taken");
}

#[test]
fn what_the_features_refuse_whatever_is_there_is_an_error_of_the_whole() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let before = client.footprint();
    for (features, told) in [
        ("FIELDS @both AS TENSOR DEFAULT abc", "'abc'"),
        ("FIELDS @both AS TENSOR TYPE I64 DEFAULTS 2 1 0.5", "'0.5'"),
        ("FIELDS @both AS TENSOR WITHTIMES DEFAULTS 1 2", "DEFAULTS"),
        ("FIELDS 1 no_text AS JSON", "field"),
        ("FIELDS @both AS JSON DEFAULT no_text", "DEFAULT"),
    ] {
        let call =
            format!("ML.SERVE 3 l c e0 ADMIT LIMIT 9 3600 CACHE v LEASE 9000 FEATURES {features}");
        let words = call.split(' ').map(|word| match word {
            "no_text" => b"\xff".to_vec(),
            word => word.as_bytes().to_vec(),
        });
        let error = call!(client, &words.collect::<Vec<_>>()).error();
        assert!(error.contains(told), "{call}: {error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
    assert_eq!(fetch(&mut client, "c v LEASE 9").brief(), "LEASE", "none was taken");
}

#[test]
fn a_key_is_read_as_often_as_by_the_parts() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET there v x").ok();
    let reads = |client: &mut Client, call: &str| {
        let read = |client: &mut Client| {
            ["keyspace_hits", "keyspace_misses"].map(|name| client.info(name).parse().unwrap())
        };
        let before: [i64; 2] = read(client);
        client.run(call).items();
        let after = read(client);
        [after[0] - before[0], after[1] - before[1]]
    };
    for (limit, key, is_free, hits_and_misses) in [
        (3, "c", "", [0, 1]),
        (3, "there", "", [1, 0]),
        (2, "there", "", [0, 0]),
        (2, "there", "FREEHITS", [1, 0]),
        (3, "d", "FREEHITS", [0, 1]),
        (3, "e", "FREEHITS", [0, 1]),
    ] {
        let call =
            format!("ML.SERVE 2 l {key} ADMIT LIMIT {limit} 3600 CACHE v LEASE 60000 {is_free}");
        // What a server counts of the limit is its own: 8.6 counts a write as well.
        let asked = is_free.is_empty() || key != "there";
        let admit = format!("ML.ADMIT 1 twin LIMIT {limit} 3600");
        let of_limit = if asked { reads(&mut client, &admit) } else { [0, 0] };
        let expected = [0, 1].map(|at| of_limit[at] + hits_and_misses[at]);
        assert_eq!(reads(&mut client, call.trim()), expected, "{call}");
    }
}

#[test]
fn keys_are_named_with_what_is_done_to_them() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let serve = "ML.SERVE 5 l1 l2 c e0 e1 ADMIT LIMIT 9 60 PERMIT 9 HOLD 60000 CACHE v LEASE 9 \
                 FEATURES FIELDS @both";
    let words: Vec<_> = serve.split_whitespace().collect();
    assert_eq!(call!(client, "COMMAND", "GETKEYS", &words).texts(), ["l1", "l2", "c", "e0", "e1"]);
    let flags = call!(client, "COMMAND", "GETKEYSANDFLAGS", &words).items();
    let updated = |pair: &Value| pair.items()[1].texts().contains(&"RW".to_owned());
    assert_eq!(flags.iter().map(updated).collect::<Vec<_>>(), [true, true, false, false, false]);
    // Values that look like words of the call shift nothing.
    let odd = [
        "ML.SERVE", "2", "LIMIT", "CACHE", "CACHE", "LIMIT", "LEASE", "9", "FEATURES", "FIELDS",
        "1", "PERMIT",
    ];
    let flags = call!(client, "COMMAND", "GETKEYSANDFLAGS", &odd).items();
    assert_eq!(flags.iter().map(updated).collect::<Vec<_>>(), [false, false]);
    // So who may read entities only can be served, and nothing beyond.
    client.run("ACL SETUSER anna on >secret %RW~l* %R~c* %R~e* +@all").ok();
    let mut anna = server.client();
    anna.run("AUTH anna secret").ok();
    assert_eq!(anna.run(serve).items()[0].items()[0].integer(), 1);
    for call in [
        "ML.SERVE 3 e1 c e0 ADMIT LIMIT 9 60 CACHE v LEASE 9 FEATURES FIELDS @both",
        "ML.SERVE 3 l c x ADMIT LIMIT 9 60 CACHE v LEASE 9 FEATURES FIELDS @both",
        "ML.SERVE 3 l x e0 ADMIT LIMIT 9 60 CACHE v LEASE 9 FEATURES FIELDS @both",
    ] {
        assert!(anna.run(call).error().starts_with("NOPERM"), "{call}");
    }
    assert_eq!(client.run("EXISTS l").integer(), 0);
}

#[test]
fn it_is_served_in_transactions_and_scripts_and_not_by_replicas() {
    let server = Server::start();
    let mut client = server.client();
    furnish(&mut client);
    let serve = "ML.SERVE 3 l c e0 ADMIT LIMIT 9 60 CACHE v LEASE 60000 FEATURES FIELDS @both";
    client.run("MULTI").ok();
    assert_eq!(client.run(serve).text(), "QUEUED");
    let parts = client.run("EXEC").items().remove(0).items();
    assert_eq!(Row::of(&parts[1]).brief(), "LEASE");
    let words: Vec<_> = serve.split_whitespace().collect();
    let script = "return redis.call(unpack(ARGV))";
    let parts = call!(client, "EVAL", script, 3, "l", "c", "e0", &words).items();
    assert_eq!(Row::of(&parts[1]).brief(), "BUSY");
    let replica = server.replica("");
    assert!(replica.client().run(serve).error().starts_with("READONLY"));
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
    // Without memory nobody is let in; what is there is served.
    client.run("ML.CACHESET c v x").ok();
    client.run("CONFIG SET maxmemory 1").ok();
    assert!(client.run(serve).error().starts_with("OOM "));
    let free = serve.replace("60000", "60000 FREEHITS");
    assert_eq!(Row::of(&client.run(&free).items()[1]).brief(), "HIT x");
    let missing = free.replace("l c e0", "l none e0");
    assert_eq!(Row::of(&client.run(&missing).items()[1]).brief(), "BUSY");
}

/// A call, by its parts.
struct Asked {
    limits: Vec<&'static str>,
    items: String,
    hold: bool,
    cache: Option<(&'static str, &'static str, String)>,
    free_hits: bool,
    features: Option<(Vec<&'static str>, &'static str)>,
}

/// One of the tokens that are brought at a place.
fn token(key: &str, version: &str, random: &mut Random) -> String {
    let place =
        key.bytes().chain(version.bytes()).fold(0u64, |sum, byte| sum * 256 + u64::from(byte));
    format!("{place:030x}{:02x}", random.below(3))
}

impl Asked {
    fn any(random: &mut Random) -> Self {
        loop {
            let limits: Vec<_> = match random.below(4) {
                0 => vec![],
                1 => vec![random.of(&["l0", "l1", "e3", "c0"])],
                2 => vec!["l0", "l1"],
                _ => vec!["l1", "p"],
            };
            let permits = limits.contains(&"p");
            let item = |key: &&str| match *key {
                "p" => "PERMIT 3 ",
                _ => "LIMIT 5 60 ",
            };
            let items = limits.iter().map(item).collect();
            let cache = (random.below(4) > 0).then(|| {
                let (key, version) =
                    (random.of(&["c0", "c1", "c2", "c3", "e3"]), random.of(&["v1", "v2"]));
                (key, version, token(key, version, random))
            });
            let free_hits = cache.is_some() && !limits.is_empty() && random.below(2) == 0;
            let features = (random.below(3) > 0).then(|| {
                let mut entities = vec![random.of(&["e0", "e1", "e2", "e3", "none"])];
                if random.below(2) == 0 {
                    entities.push("e1");
                }
                let fields = [
                    "FIELDS @both",
                    "FIELDS 2 a b AS TENSOR",
                    "FIELDS 1 b STRICT",
                    "FIELDS 1 a AS JSON",
                ];
                (entities, random.of(&fields))
            });
            let parts = usize::from(!limits.is_empty())
                + usize::from(cache.is_some())
                + usize::from(features.is_some());
            let is_distinct = cache.as_ref().is_none_or(|(key, ..)| !limits.contains(key));
            if parts >= 2 && is_distinct {
                let hold = permits || random.below(3) == 0;
                return Self { limits, items, hold, cache, free_hits, features };
            }
        }
    }

    fn hold(&self, number: usize) -> String {
        if self.hold { format!("HOLD 60000 ID {:032x}", 1 + number % 40) } else { String::new() }
    }

    fn call(&self, number: usize) -> String {
        let mut keys = self.limits.clone();
        let mut tail = String::new();
        if !self.limits.is_empty() {
            tail += &format!("ADMIT {}{} ", self.items, self.hold(number));
        }
        if let Some((key, version, token)) = &self.cache {
            keys.push(key);
            let free = if self.free_hits { "FREEHITS" } else { "" };
            tail += &format!("CACHE {version} LEASE 60000 TOKEN {token} {free} ");
        }
        if let Some((entities, fields)) = &self.features {
            keys.extend(entities);
            tail += &format!("FEATURES {fields}");
        }
        format!("ML.SERVE {} {} {}", keys.len(), keys.join(" "), tail.trim_end().replace("  ", " "))
    }

    /// The same, by a command for each part.
    fn by_parts(&self, client: &mut Client, number: usize) -> Value {
        let ask = |client: &mut Client, line: String| client.run(line.trim_end());
        let admit = |client: &mut Client| {
            let (count, keys) = (self.limits.len(), self.limits.join(" "));
            ask(client, format!("ML.ADMIT {count} {keys} {}{}", self.items, self.hold(number)))
        };
        let fetch = |client: &mut Client| {
            self.cache.as_ref().map(|(key, version, token)| {
                ask(client, format!("ML.CACHEFETCH {key} {version} LEASE 60000 TOKEN {token}"))
            })
        };
        let features = |client: &mut Client| match &self.features {
            None => NOT,
            Some((entities, fields)) => {
                let (count, keys) = (entities.len(), entities.join(" "));
                ask(client, format!("ML.FEATUREGET {count} {keys} {fields}"))
            }
        };
        let is_lease = |fetched: &Value| Row::of(fetched).brief().starts_with("LEASE");
        // What is retired is told before anything is done.
        if let Some((_, version, _)) = &self.cache {
            let in_force = client.run("ML.CACHEVERSION ").texts();
            if !in_force.is_empty() && !in_force.contains(&(*version).to_owned()) {
                return match fetch(client).unwrap() {
                    error @ Value::ServerError(_) => error,
                    fetched => Value::Array(vec![NOT, fetched, NOT]),
                };
            }
        }
        // A key of another type is, too.
        if let Some((key, version, _)) = &self.cache
            && let error @ Value::ServerError(_) =
                client.run(&format!("ML.CACHEGET {key} {version}"))
        {
            return error;
        }
        if !self.free_hits {
            let admission = if self.limits.is_empty() { NOT } else { admit(client) };
            match &admission {
                Value::ServerError(_) => return admission,
                Value::Array(parts) if parts[0].integer() == 0 => {
                    return Value::Array(vec![admission, NOT, NOT]);
                }
                _ => {}
            }
            let fetched = fetch(client);
            let reads = fetched.as_ref().is_none_or(is_lease);
            let features = if reads { features(client) } else { NOT };
            return Value::Array(vec![admission, fetched.unwrap_or(NOT), features]);
        }
        // Whether a lease would be granted is asked by taking it.
        let (key, _, token) = self.cache.as_ref().unwrap();
        let is_held = client.run(&format!("ML.CACHERENEW {key} {token} 60000")) == Value::Int(1);
        let fetched = fetch(client).unwrap();
        if fetched.is_error() {
            return fetched;
        }
        if !is_lease(&fetched) {
            return Value::Array(vec![NOT, fetched, NOT]);
        }
        let admission = admit(client);
        let is_admitted = matches!(&admission, Value::Array(parts) if parts[0].integer() == 1);
        if is_admitted {
            let features = features(client);
            return Value::Array(vec![admission, fetched, features]);
        }
        // The one that it had before is its own; a new one is not taken.
        if !is_held {
            client.run(&format!("ML.CACHERELEASE {key} {token}")).integer();
        }
        if let Value::ServerError(_) = admission {
            return admission;
        }
        // What may be served past its time is.
        let stale = match &fetched {
            Value::Array(row) if row[1] != NOT => {
                Value::Array(vec![bulk("STALE"), row[1].clone(), NOT, NOT])
            }
            _ => NOT,
        };
        Value::Array(vec![admission, stale, NOT])
    }
}

/// An answer without what goes by the clock that a lease lasts by.
fn without_ms(answer: &Value) -> Value {
    let Value::Array(parts) = answer else { return answer.clone() };
    let mut parts = parts.clone();
    if let Some(Value::Array(fetched)) = parts.get_mut(1) {
        fetched[3] = NOT;
    }
    Value::Array(parts)
}

#[test]
fn each_part_is_what_its_own_command_says() {
    for seed in Random::seeds() {
        let (server, mut one, mut now) = frozen();
        let mut random = Random::new(seed);
        let mut several = server.client();
        several.run("SELECT 1").ok();
        furnish(&mut one);
        furnish(&mut several);
        for number in 0..1_500 {
            now += random.below(3) * 1_000;
            one.freeze(now);
            // What happens meanwhile, to both.
            let meanwhile = match random.below(12) {
                0 => format!(
                    "ML.CACHESET {} {} a{number} EX 60",
                    random.of(&["c0", "c1", "c2"]),
                    random.of(&["v1", "v2"])
                ),
                1 => "ML.CACHESET c3 v1 old PX 1 STALE 600000".to_owned(),
                2 => format!("DEL {}", random.of(&["c0", "c1", "l0", "l1", "p", "c3"])),
                3 => format!("ML.SETTLE 2 l1 p {:032x}", 1 + random.below(40)),
                4 => {
                    let (key, version) = (random.of(&["c0", "c1"]), random.of(&["v1", "v2"]));
                    format!("ML.CACHERELEASE {key} {}", token(key, version, &mut random))
                }
                5 if random.below(8) == 0 => "ML.CACHEVERSIONSET  v1".to_owned(),
                6 => "ML.CACHEVERSIONSET  CLEAR".to_owned(),
                _ => String::new(),
            };
            if !meanwhile.is_empty() {
                let words: Vec<_> = meanwhile.split(' ').collect();
                let answers = [&mut one, &mut several].map(|client| call!(client, &words));
                assert_eq!(answers[0], answers[1], "{meanwhile}");
            }
            let asked = Asked::any(&mut random);
            let call = asked.call(number);
            let served = one.run(&call);
            let by_parts = asked.by_parts(&mut several, number);
            assert_eq!(without_ms(&served), without_ms(&by_parts), "seed {seed}, {number}: {call}");
        }
    }
}
