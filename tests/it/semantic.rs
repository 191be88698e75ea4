//! The semantic cache as its users see it: what is near is found, and nothing else;
//! the same on every node, and after a restart.

use crate::support::vectors::{DIM, at_cosine, bytes, cosine, random};
use crate::support::{Answer, Client, Random, Server, Tap, bulk, call, footprint_of, frozen};
use redis::Value;

const MILLI: u64 = 1_000;
/// What was found: the status, and the value and similarity of each entry.
fn get(client: &mut Client, key: &str, vector: &[f32], more: &str) -> (String, Vec<(String, f64)>) {
    let more: Vec<_> = more.split(' ').collect();
    let answer = call!(client, "ML.SEMGET", key, "v", bytes(vector), more).items();
    let entries = answer[1].items();
    let entry = |entry: &Value| {
        let [_, similarity, value, ..] = &entry.items()[..] else { panic!("{entry:?}") };
        let similarity = match similarity {
            Value::Double(similarity) => *similarity,
            text => text.text().parse().unwrap(),
        };
        (value.text(), similarity)
    };
    (answer[0].text(), entries.iter().map(entry).collect())
}

fn set(client: &mut Client, key: &str, vector: &[f32], value: &str, more: &str) -> String {
    let more: Vec<_> = more.split_whitespace().collect();
    call!(client, "ML.SEMSET", key, "v", bytes(vector), value, more).text()
}

fn info(client: &mut Client, key: &str, field: &str) -> i64 {
    call!(client, "ML.SEMINFO", key).map()[field].integer()
}

#[test]
fn a_hit_a_maybe_and_a_miss_are_told_by_both_protocols() {
    let server = Server::start();
    let mut chance = Random::new(1);
    let asked = random(&mut chance);
    let near = at_cosine(&asked, 0.95, 7.0, &mut chance);
    let nearer = at_cosine(&asked, 0.97, 0.001, &mut chance);
    let far = at_cosine(&asked, 0.5, 1.0, &mut chance);
    let mut client = server.client();
    assert_eq!(get(&mut client, "k", &asked, "HIT 0"), ("MISS".into(), vec![]), "no key");
    let id = set(&mut client, "k", &near, "near", "PROMPT why?");
    set(&mut client, "k", &nearer, "nearer", "");
    set(&mut client, "k", &far, "far", "");
    for mut client in [server.client(), server.client3()] {
        for (more, status, values) in [
            ("HIT 0.9", "HIT", &["nearer"][..]),
            ("HIT 0.9 TOP 9", "HIT", &["nearer", "near"]),
            ("HIT 0 TOP 2", "HIT", &["nearer", "near"]),
            ("HIT 0.96 MAYBE 0.9 TOP 9", "HIT", &["nearer"]),
            ("HIT 0.98 MAYBE 0.9 TOP 9", "MAYBE", &["nearer", "near"]),
            ("MAYBE 0.6 HIT 0.98", "MAYBE", &["nearer"]),
            ("HIT 0.98", "MISS", &[]),
            ("HIT 0.99 MAYBE 0.98 TOP 9", "MISS", &[]),
        ] {
            let (told, entries) = get(&mut client, "k", &asked, more);
            let found: Vec<_> = entries.iter().map(|(value, _)| value.as_str()).collect();
            assert_eq!((told.as_str(), &found[..]), (status, values), "{more}");
            for (value, similarity) in entries {
                let exact = if value == "near" { 0.95 } else { 0.97 };
                assert!((similarity - exact).abs() < 0.001, "{value}: {similarity}");
            }
        }
    }
    let answer = call!(client, "ML.SEMGET", "k", "v", bytes(&near), "HIT", "0.99").items();
    let entry = answer[1].items()[0].items();
    assert_eq!((entry[0].text(), entry[3].text()), (id, "why?".into()));
    assert!((0..60_000).contains(&entry[4].integer()));
    assert_eq!(get(&mut client, "k", &asked, "HIT 0.9").1.len(), 1);
    let answer = call!(client, "ML.SEMGET", "k", "v", bytes(&far), "HIT", "0.99").items();
    assert_eq!(answer[1].items()[0].items()[3], Value::Nil, "no prompt");
    let other = call!(client, "ML.SEMGET", "k", "w", bytes(&near), "HIT", "0").items();
    assert_eq!(other[0], bulk("MISS"), "of another version there is nothing");
    assert_eq!(call!(client, "ML.SEMINFO", "none"), Value::Nil);
    let told = call!(client, "ML.SEMINFO", "k").map();
    assert_eq!((told["dim"].integer(), &told["embedder"]), (DIM as i64, &Value::Nil));
    assert_eq!(["hits", "maybes", "misses"].map(|field| told[field].integer()), [11, 4, 5]);
    assert_eq!(told["histogram"].integers().iter().sum::<i64>(), 19, "all but that without any");
}

#[test]
fn a_thousand_pairs_about_a_threshold_are_decided_as_their_cosines_are() {
    let server = Server::start();
    let mut client = server.client();
    for seed in Random::seeds() {
        let mut chance = Random::new(seed);
        client.run("FLUSHALL").ok();
        let asked = random(&mut chance);
        let mut all = Vec::new();
        for number in 0..1_000 {
            // From 0.003 below to 0.003 above, of all lengths.
            let cosine = 0.897 + f64::from(number) * 0.000_006;
            let length = [1.0, 1e-38, 1e38, 123.0][number as usize % 4];
            all.push(at_cosine(&asked, cosine, length, &mut chance));
            set(&mut client, "k", all.last().unwrap(), &number.to_string(), "");
        }
        let mut found = std::collections::HashSet::new();
        loop {
            let (_, entries) = get(&mut client, "k", &asked, "HIT 0.9 TOP 64");
            if entries.is_empty() {
                break;
            }
            for (value, similarity) in entries {
                let exact = cosine(&asked, &all[value.parse::<usize>().unwrap()]);
                assert!((similarity - exact).abs() <= 0.001, "{similarity} {exact}");
                found.insert(value);
            }
            // What was found is dropped, so that what is behind it is.
            let answer = call!(client, "ML.SEMGET", "k", "v", bytes(&asked), "HIT", 0.9, "TOP", 64);
            for entry in answer.items()[1].items() {
                let id = entry.items()[0].text();
                assert_eq!(call!(client, "ML.SEMDROP", "k", "ID", id).integer(), 1);
            }
        }
        for (number, vector) in all.iter().enumerate() {
            let exact = cosine(&asked, vector);
            let is_found = found.contains(&number.to_string());
            assert!(is_found || exact < 0.901, "seed {seed}: {exact} is not found");
            assert!(!is_found || exact > 0.899, "seed {seed}: {exact} is found");
        }
        assert_eq!(info(&mut client, "k", "entries"), 1_000 - found.len() as i64);
    }
}

#[test]
fn a_digest_is_a_hit_whatever_its_vector_and_is_replaced_under_its_id() {
    let server = Server::start();
    let mut client = server.client();
    let mut chance = Random::new(2);
    let (one, other) = (random(&mut chance), random(&mut chance));
    let id = set(&mut client, "k", &one, "first", "DIGEST abc");
    let digest = |client: &mut Client, vector: &[f32]| get(client, "k", vector, "HIT 1 DIGEST abc");
    assert_eq!(digest(&mut client, &other), ("HIT".into(), vec![("first".into(), 1.0)]));
    assert_eq!(get(&mut client, "k", &other, "HIT 0.9 DIGEST abd").0, "MISS");
    call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.999").integer();
    assert_eq!(set(&mut client, "k", &other, "second", "DIGEST abc"), id);
    assert_eq!(digest(&mut client, &one), ("HIT".into(), vec![("second".into(), 1.0)]));
    assert_eq!(get(&mut client, "k", &one, "HIT 0.9").0, "MISS", "its old vector is gone");
    assert_eq!(get(&mut client, "k", &other, "HIT 0.9").0, "HIT");
    let aslant = at_cosine(&other, 0.99, 1.0, &mut chance);
    assert_eq!(get(&mut client, "k", &aslant, "HIT 0.9").0, "MISS", "its threshold stays");
    assert_ne!(set(&mut client, "k", &other, "third", "DIGEST abd"), id);
    assert_ne!(call!(client, "ML.SEMSET", "k", "w", bytes(&one), "x", "DIGEST", "abc").text(), id);
    assert_eq!(info(&mut client, "k", "entries"), 3);
}

#[test]
fn an_entrys_own_threshold_keeps_it_from_what_it_must_not_answer() {
    let server = Server::start();
    let mut client = server.client();
    let mut chance = Random::new(3);
    let asked = random(&mut chance);
    let strict = at_cosine(&asked, 0.97, 1.0, &mut chance);
    let other = at_cosine(&asked, 0.93, 1.0, &mut chance);
    let id = set(&mut client, "k", &strict, "strict", "");
    set(&mut client, "k", &other, "other", "");
    let values = |client: &mut Client, more: &str| {
        let (status, entries) = get(client, "k", &asked, more);
        let values: Vec<_> = entries.into_iter().map(|(value, _)| value).collect();
        format!("{status} {}", values.join(" "))
    };
    assert_eq!(values(&mut client, "HIT 0.9"), "HIT strict");
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.98").integer(), 1);
    assert_eq!(values(&mut client, "HIT 0.9"), "HIT other", "nearer, but not near enough");
    assert_eq!(values(&mut client, "HIT 0.95 MAYBE 0.9 TOP 5"), "MAYBE strict other");
    assert_eq!(values(&mut client, "HIT 0.95"), "MISS ");
    call!(client, "ML.SEMTHRESHOLD", "k", &id, "0").integer();
    assert_eq!(values(&mut client, "HIT 0.95"), "HIT strict");
    let none = "0".repeat(32);
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "k", &none, "0.5").integer(), 0);
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "none", &id, "0.5").integer(), 0);
}

#[test]
fn another_embedder_and_another_size_are_errors_on_the_same_key() {
    let server = Server::start();
    let mut client = server.client();
    let vector = random(&mut Random::new(4));
    set(&mut client, "named", &vector, "x", "EMBEDDER minilm");
    set(&mut client, "plain", &vector, "x", "");
    for (key, vector, more, word) in [
        ("named", &vector[..], "EMBEDDER other", "EMBEDDER"),
        ("named", &vector[..DIM - 1], "EMBEDDER minilm", "48 dimensions"),
        ("plain", &vector[..DIM - 1], "", "48 dimensions"),
    ] {
        let words: Vec<_> = more.split_whitespace().collect();
        for answer in [
            call!(client, "ML.SEMSET", key, "v", bytes(vector), "y", &words),
            call!(client, "ML.SEMGET", key, "v", bytes(vector), "HIT", "0.9", &words),
            call!(client, "ML.SEMGET", key, "none", bytes(vector), "HIT", "0.9", &words),
        ] {
            assert!(answer.error().contains(word), "{key} {more}: {answer:?}");
        }
    }
    assert_eq!(get(&mut client, "named", &vector, "HIT 0.9").0, "HIT", "who names none may read");
    assert_eq!(set(&mut client, "plain", &vector, "y", "EMBEDDER minilm").len(), 32);
    let error = call!(client, "ML.SEMSET", "plain", "v", bytes(&vector), "y", "EMBEDDER", "other");
    assert!(error.is_error(), "named by the first who did");
}

#[test]
fn what_is_no_vector_is_an_error() {
    let server = Server::start();
    let mut client = server.client();
    let mut bad = [1.0_f32; 8];
    for (value, word) in
        [(f32::NAN, "finite"), (f32::INFINITY, "finite"), (f32::NEG_INFINITY, "finite")]
    {
        bad[3] = value;
        let error = call!(client, "ML.SEMSET", "k", "v", bytes(&bad), "x").error();
        assert!(error.contains("vector") && error.contains(word), "{error}");
    }
    let error = call!(client, "ML.SEMGET", "k", "v", bytes(&[0.0; 8]), "HIT", "0.5").error();
    assert!(error.contains("vector") && error.contains("zero"), "{error}");
    assert_eq!(client.run("EXISTS k").integer(), 0);
}

#[test]
fn retired_dropped_and_expired_entries_never_answer() {
    let (_server, mut client, now) = frozen();
    let mut chance = Random::new(5);
    let asked = random(&mut chance);
    set(&mut client, "m:k", &asked, "x", "PX 1000 STALE 500");
    assert_eq!(client.run("PEXPIRETIME m:k").integer(), (now / MILLI + 1_500) as i64);
    let near = at_cosine(&asked, 0.99, 1.0, &mut chance);
    let id = set(&mut client, "m:k", &near, "later", "PX 9000");
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9").1[0].0, "x");
    client.freeze(now + 999 * MILLI);
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9").1[0].0, "x");
    client.freeze(now + 1_000 * MILLI);
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9 TOP 9").1.len(), 1, "one has expired");
    // Dropping a version counts what could be served; what is stale still could.
    client.run("ML.CACHEVERSIONSET m w").ok();
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9"), ("RETIRED".into(), vec![]));
    assert_eq!(call!(client, "ML.SEMSET", "m:k", "v", bytes(&asked), "y"), Value::Nil);
    client.run("ML.CACHEVERSIONSET m v").ok();
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9").1[0].0, "later");
    assert_eq!(call!(client, "ML.SEMDROP", "m:k", "ID", &id).integer(), 1);
    assert_eq!(call!(client, "ML.SEMDROP", "m:k", "ID", &id).integer(), 0);
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9").0, "MISS");
    assert_eq!(call!(client, "ML.SEMDROP", "m:k", "VERSION", "w").integer(), 0);
    assert_eq!(call!(client, "ML.SEMDROP", "m:k", "VERSION", "v").integer(), 1, "the stale one");
    assert_eq!(client.run("EXISTS m:k").integer(), 0, "the key goes with its last entry");
    set(&mut client, "m:k", &asked, "x", "PXAT 1");
    assert_eq!(get(&mut client, "m:k", &asked, "HIT 0.9").0, "MISS");
}

#[test]
fn beyond_the_bounds_those_hit_longest_ago_go_and_replicas_drop_the_same() {
    let server = Server::start();
    let replica = server.replica("");
    let mut client = server.client();
    let mut chance = Random::new(6);
    client.run("CONFIG SET ml.semantic-max-entries 10").ok();
    let vectors: Vec<_> = (0..30).map(|_| random(&mut chance)).collect();
    for (number, vector) in vectors.iter().enumerate() {
        set(&mut client, "k", vector, &number.to_string(), "");
        // The first one is asked for all the time.
        assert_eq!(get(&mut client, "k", &vectors[0], "HIT 0.99").1[0].0, "0");
    }
    assert_eq!(info(&mut client, "k", "entries"), 10);
    let left: Vec<_> = (0..30)
        .filter(|number| get(&mut client, "k", &vectors[*number], "HIT 0.99").0 == "HIT")
        .collect();
    assert_eq!(left, [&[0][..], &(21..30).collect::<Vec<_>>()].concat());
    // By bytes: half of what they take now.
    let bytes = info(&mut client, "k", "bytes");
    client.run("CONFIG SET ml.semantic-max-entries 1000").ok();
    call!(client, "CONFIG", "SET", "ml.semantic-max-bytes", 65_536).ok();
    let large = "x".repeat(65_536 - 3 * bytes as usize / 10);
    set(&mut client, "k", &vectors[1], &large, "");
    assert!((1..=4).contains(&info(&mut client, "k", "entries")));
    assert!(info(&mut client, "k", "bytes") <= 65_536);
    let error = call!(client, "ML.SEMSET", "k", "v", self::bytes(&vectors[2]), "x".repeat(65_536));
    assert!(error.error().contains("ml.semantic-max-bytes"));
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
}

#[test]
fn a_replica_a_restart_and_a_copy_answer_with_the_same_bits() {
    let server = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let replica = server.replica("");
    let mut client = server.client();
    let mut chance = Random::new(7);
    let vectors: Vec<_> = (0..300).map(|_| random(&mut chance)).collect();
    let asked: Vec<_> =
        vectors.iter().map(|vector| at_cosine(vector, 0.9, 3.0, &mut chance)).collect();
    let mut ids = Vec::new();
    for (number, vector) in vectors.iter().enumerate() {
        let more = if number % 3 == 0 { "DIGEST" } else { "PROMPT" };
        let more = format!("{more} {} STALE 9000", number % 50);
        ids.push(set(&mut client, "k", vector, &number.to_string(), &more));
        if number % 5 == 0 {
            call!(client, "ML.SEMTHRESHOLD", "k", &ids[number / 2], "0.95").integer();
        }
        if number % 7 == 0 {
            call!(client, "ML.SEMDROP", "k", "ID", &ids[number / 3]).integer();
        }
    }
    let answers = |client: &mut Client, key: &str| -> Vec<_> {
        let more = "HIT 0.85 MAYBE 0.2 TOP 20";
        asked.iter().map(|vector| get(client, key, vector, more)).collect()
    };
    let expected = answers(&mut client, "k");
    assert!(expected.iter().filter(|(status, _)| status == "HIT").count() > 100);
    replica.catch_up(&server);
    let mut reader = replica.client();
    assert_eq!(reader.digest(), client.digest());
    assert_eq!(answers(&mut reader, "k"), expected);
    assert_eq!(client.run("COPY k copied").integer(), 1);
    let dump = call!(client, "DUMP", "k").bytes();
    call!(client, "RESTORE", "restored", 99_000_000, dump).ok();
    for key in ["copied", "restored"] {
        assert_eq!(client.digest_of(key), client.digest_of("k"), "{key}");
        assert_eq!(answers(&mut client, key), expected, "{key}");
    }
    for way in ["the AOF as it was written", "a rewritten AOF", "an RDB file"] {
        let digest = client.digest();
        match way {
            "a rewritten AOF" => client.rewrite_aof(),
            "an RDB file" => client.run("DEBUG RELOAD").ok(),
            _ => client.run("DEBUG LOADAOF").ok(),
        }
        assert_eq!(client.digest(), digest, "{way}");
        if way == "a rewritten AOF" {
            client.run("DEBUG LOADAOF").ok();
            assert_eq!(client.digest(), digest, "{way}, loaded");
        }
        assert_eq!(answers(&mut client, "k"), expected, "{way}");
    }
}

#[test]
fn a_large_key_is_saved_and_loaded_in_parts() {
    let server = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let mut client = server.client();
    let mut chance = Random::new(10);
    for number in 0..20 {
        let value = number.to_string().repeat(512 << 10);
        set(&mut client, "k", &random(&mut chance), &value, "STALE 9000");
    }
    let digest = client.digest();
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), digest, "an RDB file");
    client.rewrite_aof();
    client.run("DEBUG LOADAOF").ok();
    assert_eq!(client.digest(), digest, "a rewritten AOF");
    let dump = call!(client, "DUMP", "k").bytes();
    call!(client, "RESTORE", "restored", 99_000_000, dump).ok();
    assert_eq!(client.digest_of("restored"), client.digest_of("k"));
    let replica = server.replica("");
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest(), "a full synchronisation");
}

#[test]
fn what_only_asks_replicates_nothing_and_a_write_its_effect() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    let vector = random(&mut Random::new(8));
    let id = set(&mut client, "k", &vector, "x", "");
    assert_eq!(tap.names(&mut client), ["ML.APPLYSEMANTIC"]);
    get(&mut client, "k", &vector, "HIT 0.5 MAYBE 0.1 TOP 9");
    call!(client, "ML.SEMINFO", "k").map();
    call!(client, "ML.SEMDROP", "k", "ID", "0".repeat(32)).integer();
    call!(client, "ML.SEMDROP", "none", "VERSION", "v").integer();
    assert_eq!(tap.names(&mut client), [""; 0]);
    call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.5").integer();
    // As it is already.
    assert_eq!(call!(client, "ML.SEMTHRESHOLD", "k", &id, "0.50").integer(), 1);
    call!(client, "ML.SEMDROP", "k", "VERSION", "v").integer();
    assert_eq!(tap.names(&mut client), ["ML.APPLYSEMANTIC"; 2]);
}

#[test]
fn a_key_of_one_answer_takes_little_and_says_how_much() {
    let server = Server::start();
    let mut client = server.client();
    let mut chance = Random::new(11);
    let vector: Vec<_> = (0..1_536).map(|_| chance.below(2_001) as f32 - 1_000.0).collect();
    set(&mut client, "k", &vector, "some value", "PROMPT why?");
    let is_true = |(told, grown): (i64, i64), most: i64| {
        assert!(told < most, "{told}");
        // Allocators round large blocks up.
        assert!((grown - told).abs() * 6 < told, "{told} bytes are told of {grown}");
    };
    is_true(footprint_of(&mut client, "k"), 12_000);
    for number in 1..33 {
        set(&mut client, "k", &vector, "some value", &format!("DIGEST {number}"));
    }
    is_true(footprint_of(&mut client, "k"), 12_000 + 33 * 3_800);
}

#[test]
fn a_key_of_thousands_gives_its_memory_back() {
    let server = Server::start();
    let mut client = server.client();
    let mut chance = Random::new(9);
    let usage = |client: &mut Client| client.run("MEMORY USAGE k").integer();
    for number in 0..3_000 {
        let version = if number % 10 == 0 { "kept" } else { "gone" };
        let vector = bytes(&random(&mut chance));
        call!(client, "ML.SEMSET", "k", version, vector, "some value").text();
    }
    let full = usage(&mut client);
    // What is promised beside value and prompt, and the ten bytes of the value.
    assert!(full <= 3_000 * (170 * 64 / 100 + 200 + 10), "{full}");
    assert_eq!(call!(client, "ML.SEMDROP", "k", "VERSION", "gone").integer(), 2_700);
    for _ in 0..300 {
        let vector = bytes(&random(&mut chance));
        call!(client, "ML.SEMSET", "k", "kept", vector, "some value").text();
    }
    let left = usage(&mut client);
    assert!(left < full / 2, "{full} bytes, then {left}");
    assert_eq!(client.run("UNLINK k").integer(), 1);
}
