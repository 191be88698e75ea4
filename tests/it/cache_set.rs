//! The options of ML.CACHESET; ML.CACHEMSET and ML.CACHEMGET; and what every
//! command takes for a value, a version and a key.

use crate::support::fetches::{figures, lease, served, window};
use crate::support::{Answer, Server, Stop, Tap, bulk, call, frozen, nils};
use redis::Value;

const MILLI: u64 = 1_000;

#[test]
fn stale_says_how_long_past_its_time_fetch_serves_an_answer() {
    let (_server, mut client, now) = frozen();
    let x = || Some("x".to_owned());
    client.run("ML.CACHESET k v x PX 1000 STALE 500").ok();
    client.run("ML.CACHESET k brief y PX 10 STALE 100").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), (now / MILLI + 1_500) as i64);
    for (after_ms, fresh, fetched) in [
        (0, bulk("x"), x()),
        (999, bulk("x"), x()),
        (1_000, Value::Nil, x()),
        (1_499, Value::Nil, x()),
        (1_500, Value::Nil, None),
    ] {
        client.freeze(now + after_ms * MILLI);
        assert_eq!(client.run("ML.CACHEGET k v"), fresh, "after {after_ms} ms");
        assert_eq!(client.run("ML.CACHEMGET 1 k v"), Value::Array(vec![fresh]), "{after_ms} ms");
        assert_eq!(served(&mut client, "v"), fetched, "after {after_ms} ms");
        let brief = (after_ms < 110).then(|| "y".to_owned());
        assert_eq!(served(&mut client, "brief"), brief, "{after_ms} ms: a time of its own");
    }
    client.freeze(now);
    // A write without STALE takes the window away again.
    client.run("ML.CACHESET k v x PX 1000").ok();
    client.freeze(now + 1_000 * MILLI);
    assert_eq!(served(&mut client, "v"), None);
    for stale in ["-1", "x", "", "1.5", "31622400001", "9223372036854775807"] {
        let error = call!(client, "ML.CACHESET", "k", "v", "z", "STALE", stale).error();
        assert!(error.starts_with("ERR ") && error.contains("STALE"), "{stale:?}: {error}");
    }
    client.run("ML.CACHESET k w z PXAT 9223372036854775807 STALE 31622400000").ok();
    assert_eq!(client.run("PEXPIRETIME k").integer(), i64::MAX, "as late as can be counted");
    assert_eq!(window(&mut client, "k", "w").1, 0);
}

#[test]
fn get_serves_what_is_stale_where_it_is_asked_to() {
    let (server, mut client, now) = frozen();
    let replica = server.replica("");
    client.run("ML.CACHESET k v x PX 1000 STALE 500").ok();
    client.run("ML.CACHESET m:k v x PX 1000 STALE 500").ok();
    client.run("ML.CACHEVERSIONSET m w").ok();
    replica.catch_up(&server);
    let mut reader = replica.client();
    for (after_ms, plain, stale) in [
        (999, bulk("x"), bulk("x")),
        (1_000, Value::Nil, bulk("x")),
        (1_499, Value::Nil, bulk("x")),
        (1_500, Value::Nil, Value::Nil),
    ] {
        for client in [&mut client, &mut reader] {
            client.freeze(now + after_ms * MILLI);
            assert_eq!(client.run("ML.CACHEGET k v"), plain, "after {after_ms} ms");
            assert_eq!(client.run("ML.CACHEGET k v stale"), stale, "after {after_ms} ms");
            assert_eq!(client.run("ML.CACHEGET k w STALE"), Value::Nil);
            assert_eq!(client.run("ML.CACHEGET m:k v STALE"), Value::Nil, "not in force");
        }
    }
    let counted = figures(&mut client, "");
    let of = |name: &str, count: i64| (name.to_owned(), count);
    let expected = [("entries_written", 1), ("hits", 2), ("misses", 10), ("stale", 2)];
    for (name, count) in expected {
        assert!(counted.contains(&of(name, count)), "{name} {count}: {counted:?}");
    }
}

#[test]
fn entries_of_the_largest_size_are_the_same_wherever_they_are_written() {
    const AOF: &str = "appendonly yes\nappendfsync everysec\n";
    let mut server = Server::with(&format!("{AOF}ml.cache-versions-per-key 16"));
    let mut client = server.client();
    let replica = server.replica(
        "ml.cache-versions-per-key 1\nml.cache-max-value-bytes 1\nml.cache-ttl 1\n\
         ml.cache-max-namespaces 1\nappendonly yes",
    );
    let name = |version: usize| format!("{version:0>255}");
    let value = |bytes: usize, at: usize| vec![at as u8; bytes];
    // As many versions as a key can hold, in force and not, of the longest names.
    let in_force: Vec<_> = (0..16).map(name).collect();
    call!(client, "ML.CACHEVERSIONSET", "m", in_force).ok();
    for round in 0..3 {
        for version in 0..16 {
            let bytes = value(1 << 20, round * 16 + version);
            for key in ["m:k", "other"] {
                call!(client, "ML.CACHESET", key, name(version), &bytes, "EX", 900).ok();
            }
        }
        call!(client, "ML.CACHESET", "other", name(16 + round), "x", "EX", 900, "STALE", 9).ok();
        call!(client, "ML.CACHEDROP", "m:k", "STALE", "VERSION", name(round)).integer();
    }
    assert_eq!(client.run("ML.CACHEINFO other").map()["versions"].items().len(), 16);
    for at in 0..2 {
        call!(client, "ML.CACHESET", "large", "v", value(64 << 20, at), "EX", 900).ok();
    }
    let batch = (0..8).flat_map(|key| [format!("b{key}").into(), value(4 << 20, key)]);
    let batch: Vec<Vec<u8>> = batch.collect();
    for version in ["v", "w", "v"] {
        let answer = call!(client, "ML.CACHEMSET", 8, &batch, version, "EX", 900, "STALE", 900);
        assert_eq!(answer, Value::Array(vec![Value::Okay; 8]));
    }
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), digest, "from an RDB file");
    server.restart(Stop::NoSave);
    assert_eq!(server.client().digest(), digest, "from the AOF");
}

#[test]
fn jitter_spreads_what_is_set_together_over_its_range() {
    const KEYS: usize = 10_000;
    const TTL_MS: i64 = 1_000_000;
    let (_server, mut client, now) = frozen();
    let now_ms = (now / MILLI) as i64;
    for percent in [0, 1, 50, 100] {
        let sets: Vec<_> = (0..KEYS)
            .map(|key| format!("ML.CACHESET k{key} v x PX {TTL_MS} STALE 777 JITTER {percent}"))
            .collect();
        client.run_all(&sets).iter().for_each(Answer::ok);
        let asks: Vec<_> = (0..KEYS).map(|key| format!("PEXPIRETIME k{key}")).collect();
        let answers = client.run_all(&asks);
        // How much was taken off; the stale window is as long as it was.
        let off: Vec<_> = answers.iter().map(|at| now_ms + TTL_MS + 777 - at.integer()).collect();
        let range = TTL_MS * percent / 100;
        let most = range.min(TTL_MS - 1);
        assert!(off.iter().all(|off| (0..=most).contains(off)), "JITTER {percent}: only shortens");
        if percent == 0 {
            continue;
        }
        let mut tenths = [0usize; 10];
        off.iter().for_each(|off| tenths[((off * 10) / range).min(9) as usize] += 1);
        println!("JITTER {percent}: {tenths:?} in each tenth of the range");
        // Six standard deviations of a fair draw are 180.
        assert!(tenths.iter().all(|keys| (800..=1_200).contains(keys)), "{percent}: {tenths:?}");
    }
    client.run("ML.CACHESET k v x PX 1 JITTER 100").ok();
    assert_eq!(window(&mut client, "k", "v"), (1, 0), "a millisecond is left");
    client.run("ML.CACHESET k v x JITTER 10").ok();
    let ttl_ms = window(&mut client, "k", "v").0;
    assert!((3_240_000..=3_600_000).contains(&ttl_ms), "of the default: {ttl_ms} ms");
    for percent in ["-1", "101", "x", "", "1.5"] {
        let error = call!(client, "ML.CACHESET", "k", "v", "z", "JITTER", percent).error();
        assert!(error.starts_with("ERR ") && error.contains("JITTER"), "{percent:?}: {error}");
    }
}

#[test]
fn json_takes_one_document_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let deep = |depth| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let objects = [b"{\"a\":".repeat(10_000), b"1".to_vec(), b"}".repeat(10_000)].concat();
    let documents: [&[u8]; 20] = [
        b"0",
        b"-1.5e+10",
        b"1e999",
        b"true",
        b"false",
        b"null",
        b"\"\"",
        b"[]",
        b"{}",
        b" \t\r\n[1, {\"a\": [null, \"b\"]}]\n",
        b"\"\\u00e9\\ud83d\\ude00\\n\\\"\\\\\\/\\b\\f\\r\\t\"",
        "\"é 😀 \u{7f}\u{2028}\"".as_bytes(),
        b"{\"a\":1,\"a\":2}",
        b"123456789012345678901234567890.123456789",
        &deep(1),
        &deep(127),
        &deep(129),
        &deep(10_000),
        &objects,
        b"[0.1,1E5,-0]",
    ];
    for document in documents {
        let text = String::from_utf8_lossy(&document[..document.len().min(40)]).into_owned();
        let answer = call!(client, "ML.CACHESET", "k", "v", document, "JSON");
        assert_eq!(answer, Value::Okay, "{text}");
        assert!(client.run("ML.CACHEGET k v") == bulk(document), "{text}: kept byte by byte");
    }
    let before = client.footprint();
    let others: [&[u8]; 34] = [
        b"",
        b" ",
        b"NaN",
        b"nan",
        b"Infinity",
        b"-Infinity",
        b"[1,]",
        b"{\"a\":1,}",
        b"1 2",
        b"{}{}",
        b"[] x",
        b"[",
        b"]",
        b"{",
        b"\"",
        b"\"a",
        b"'a'",
        b"{a:1}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{1:2}",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b"tru",
        b"True",
        b"\"\xff\"",
        b"\"\n\"",
        b"\"\\x\"",
        b"\"\\u12\"",
        b"[1]\0",
        b"\xef\xbb\xbf1",
    ];
    let unbalanced = [&deep(10_000)[..], b"]"].concat();
    for other in others.into_iter().chain([&unbalanced[..], &unbalanced[..9_999]]) {
        let text = String::from_utf8_lossy(&other[..other.len().min(40)]).into_owned();
        for options in [&["JSON"][..], &["PX", "9", "json", "STALE", "9"]] {
            let error = call!(client, "ML.CACHESET", "k", "v", other, options).error();
            assert!(error.starts_with("ERR ") && error.contains("value"), "{text}: {error}");
        }
        // Without the option it is a value like any other.
        call!(client, "ML.CACHESET", "plain", "v", other).ok();
    }
    client.run("DEL plain");
    assert_eq!(client.footprint(), before, "nothing was written");
}

#[test]
fn options_come_in_any_order_and_case_each_once() {
    let (_server, mut client, _now) = frozen();
    for options in [
        "PX 5000 STALE 700 JITTER 0 JSON",
        "JSON JITTER 0 STALE 700 PX 5000",
        "json stale 700 ex 5 jitter 0",
        "Stale 700 Json Px 5000",
    ] {
        client.run(&format!("ML.CACHESET k v 1 {options}")).ok();
        assert_eq!(window(&mut client, "k", "v"), (5_000, 700), "{options}");
        client.run("DEL k");
    }
    let token = lease(&mut client, "k v", 60_000);
    client.run(&format!("ML.CACHESET k v 1 STALE 700 TOKEN {token} PX 5000 JSON")).ok();
    assert_eq!(window(&mut client, "k", "v"), (5_000, 700));
    // A value may be called like an option.
    client.run("ML.CACHESET k v JSON PX 5000").ok();
    client.run("ML.CACHESET k v TOKEN STALE 700").ok();
    let before = client.footprint();
    for (options, named) in [
        ("EX 5 PX 5000", "EX"),
        ("PX 5 PX 5", "PX"),
        ("EXAT 5 PXAT 5000", "EXAT"),
        ("PXAT 99 STALE 1 EX 1", "PXAT"),
        ("STALE 1 STALE 1", "STALE"),
        ("JSON JSON", "JSON"),
        ("JITTER 1 JITTER 1", "JITTER"),
        ("TOKEN t TOKEN t", "TOKEN"),
        ("FOO", "FOO"),
        ("KEEPTTL", "KEEPTTL"),
        ("NX", "NX"),
        ("PX 9 1", "1"),
        ("EX", "EX"),
        ("STALE 1 JITTER", "JITTER"),
        ("JSON TOKEN", "TOKEN"),
        ("EX 0", "EX"),
        ("PX -1", "PX"),
        ("EXAT 0", "EXAT"),
        ("PXAT 1.5", "PXAT"),
        ("EX 9223372036854775807", "EX"),
        ("EX 9223372036854775", "EX"),
        ("PX 9223372036854775807", "PX"),
    ] {
        let error = client.run(&format!("ML.CACHESET k v x {options}")).error();
        assert!(error.starts_with("ERR ") && error.contains(named), "{options}: {error}");
        assert_eq!(client.footprint(), before, "{options}");
    }
}

#[test]
fn a_batch_is_read_by_position() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET a v 1").ok();
    client.run("ML.CACHESET b w 2").ok();
    client.run("ML.CACHESET c v 3").ok();
    client.run("RPUSH list x");
    client.run("ML.RATELIMIT limit 9 9");
    let (one, three, nil) = (bulk("1"), bulk("3"), Value::Nil);
    let expected = [&three, &nil, &one, &nil, &nil, &nil, &one, &three];
    let answer = client.run("ML.CACHEMGET 8 c b a list limit none a c v");
    assert_eq!(answer, Value::Array(expected.into_iter().cloned().collect()));
    assert_eq!(client.run("ML.CACHEMGET 4 a b c list u"), nils(4));
    for (line, named) in [
        ("ML.CACHEMGET 1 a", "wrong number of arguments"),
        ("ML.CACHEMGET 1 a v w", "wrong number of arguments"),
        ("ML.CACHEMGET 3 a b", "numkeys"),
        ("ML.CACHEMGET 0 a v", "numkeys"),
        ("ML.CACHEMGET -1 a v", "numkeys"),
        ("ML.CACHEMGET v a b", "numkeys"),
        ("ML.CACHEMGET 9223372036854775807 a v", "numkeys"),
    ] {
        let error = client.run(line).error();
        assert!(error.contains(named), "{line}: {error}");
    }
}

#[test]
fn a_batch_is_written_as_a_whole_or_not_at_all() {
    let mut server = Server::with("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let mut client = server.client();
    let replica = server.replica("ml.cache-versions-per-key 1\nml.cache-ttl 1");
    let mut tap = Tap::on(&server);
    client.run("RPUSH list x");
    client.run("CONFIG SET ml.cache-max-value-bytes 9").ok();
    client.run("ML.CACHEVERSIONSET r w").ok();
    tap.names(&mut client);
    let before = client.footprint();
    for (batch, expected) in [
        ("1 list 1 v EX 100", "WRONGTYPE"),
        ("2 a 1 list 2 v EX 100", "WRONGTYPE"),
        ("2 list 1 a 2 v EX 100", "WRONGTYPE"),
        ("4 a 1 b 2 list 3 c 4 v EX 100", "WRONGTYPE"),
        ("2 a 1 b v", "wrong number"),
        ("1 a v", "wrong number"),
        ("0 a 1 v", "numkeys"),
        ("4611686018427387905 a 1 v", "numkeys"),
        ("9223372036854775807 a 1 v", "numkeys"),
        ("v a 1", "wrong number"),
        ("v a 1 b 2", "numkeys"),
        ("2 a 1 b 1234567890 v EX 100", "value"),
        ("1 a 1 v EX 0", "EX"),
        ("1 a 1 v PX x", "PX"),
        ("1 a 1 v EX 9 PX 9", "EX"),
        ("1 a 1 v 100", "100"),
        ("1 a 1 v JSON", "JSON"),
        ("1 a 1 v STALE -1", "STALE"),
        ("1 a 1 v JITTER 101", "JITTER"),
        ("1 a 1 v TOKEN", "TOKEN"),
    ] {
        let error = client.run(&format!("ML.CACHEMSET {batch}")).error();
        assert!(error.contains(expected), "{batch}: {error}");
        assert_eq!(client.footprint(), before, "{batch}");
    }
    let answer = client.run("ML.CACHEMSET 2 r:j 1 r:k 2 v EX 100");
    assert_eq!(answer, nils(2), "not in force");
    assert_eq!(client.footprint(), before);
    assert_eq!(tap.names(&mut client), [""; 0]);
    let answer = client.run("ML.CACHEMSET 3 r:j 1 a 0 r:k 2 v EX 100");
    assert_eq!(answer, Value::Array(vec![Value::Nil, Value::Okay, Value::Nil]), "each for itself");
    assert_eq!(tap.names(&mut client), ["ML.APPLYANSWERS"]);

    let answer = client.run("ML.CACHEMSET 4 a 1 b 2 a 3 c 4 v PX 900000");
    assert_eq!(answer, Value::Array(vec![Value::Okay; 4]));
    let names = tap.names(&mut client);
    assert_eq!(names.iter().filter(|name| *name == "ML.APPLYANSWERS").count(), 4, "{names:?}");
    assert_eq!([&names[0], names.last().unwrap()], ["MULTI", "EXEC"], "together");
    let values = Value::Array(["3", "2", "4"].map(bulk).to_vec());
    assert_eq!(client.run("ML.CACHEMGET 3 a b c v"), values, "named twice, the last one counts");
    assert_eq!(window(&mut client, "a", "v").1, 0);
    client.run("ML.CACHEMSET 2 a 5 b 6 w ex 900").items();
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest, "from the AOF");
    assert_eq!(server.client().run("ML.CACHEMGET 3 a b c v"), values);
}

#[test]
fn values_and_versions_are_any_bytes_for_every_command() {
    let server = Server::start();
    let mut client = server.client();
    let large = vec![0xa5; 64 << 20];
    let longest = [b'\0'; 255];
    for (version, value) in
        [(&b"v"[..], &b""[..]), (b"\0", b"\0a\r\n\xff"), (&longest, b"x"), (b"\xff", &large)]
    {
        let context = format!("{} bytes under {} bytes", value.len(), version.len());
        let token = {
            let row = call!(client, "ML.CACHEFETCH", "k", version, "LEASE", 60_000).items();
            row[2].bytes()
        };
        call!(client, "ML.CACHESET", "k", version, value, "TOKEN", token).ok();
        let row = call!(client, "ML.CACHEFETCH", "k", version, "LEASE", 60_000).items();
        assert!(row[1] == bulk(value), "FETCH, {context}");
        assert!(call!(client, "ML.CACHEGET", "k", version) == bulk(value), "GET, {context}");
        let batch = call!(client, "ML.CACHEMGET", 2, "k", "k", version).items();
        assert!(batch.iter().all(|one| *one == bulk(value)) && batch.len() == 2, "{context}");
        call!(client, "ML.CACHEMSET", 2, "k", value, "k2", value, version, "EX", 100).items();
        let batch = call!(client, "ML.CACHEMFETCH", 1, "k2", version, "LEASE", 9).items();
        assert!(batch[0].items()[1] == bulk(value), "MFETCH, {context}");
        let dropped = call!(client, "ML.CACHEDROP", "k", "VERSION", version).integer();
        assert_eq!(dropped, 1, "DROP, {context}");
        call!(client, "ML.CACHEVERSIONSET", "n", version).ok();
        assert_eq!(client.run("ML.CACHEVERSION n"), Value::Array(vec![bulk(version)]), "{context}");
        client.run("DEL k k2");
    }
    let before = client.footprint();
    for version in [vec![], vec![b'v'; 256]] {
        let calls: [(&str, Vec<&[u8]>); 9] = [
            ("CACHESET", vec![b"k", &version, b"x"]),
            ("CACHEGET", vec![b"k", &version]),
            ("CACHEMGET", vec![b"1", b"k", &version]),
            ("CACHEMSET", vec![b"1", b"k", b"x", &version, b"EX", b"9"]),
            ("CACHEDROP", vec![b"k", b"VERSION", &version]),
            ("CACHEFETCH", vec![b"k", &version, b"LEASE", b"9"]),
            ("CACHEMFETCH", vec![b"1", b"k", &version, b"LEASE", b"9"]),
            ("CACHEVERSIONSET", vec![b"m", &version]),
            ("CACHEVERSIONSET", vec![b"m", b"v", &version]),
        ];
        for (name, arguments) in calls {
            let error = call!(client, format!("ML.{name}"), arguments).error();
            let told = error.starts_with("ERR ") && error.contains("version");
            assert!(told, "{name}, {} bytes: {error}", version.len());
        }
    }
    assert_eq!(client.footprint(), before);
}

#[test]
fn a_key_of_another_type_is_refused_and_left_alone() {
    let server = Server::start();
    let mut client = server.client();
    let _tap = Tap::on(&server);
    client.run("SET string x").ok();
    client.run("RPUSH list x");
    client.run("ML.RATELIMIT limit 5 3600").integers();
    let before = client.footprint();
    for key in ["string", "list", "limit"] {
        for call in [
            "CACHESET {} v x",
            "CACHESET {} v 1 EX 9 STALE 9 JITTER 9 JSON",
            "CACHEGET {} v",
            "CACHEGET {} v STALE",
            "CACHESET {} v x TOKEN 00000000000000000000000000000000",
            "CACHEMSET 1 {} x v EX 9",
            "CACHEDROP {}",
            "CACHEDROP {} VERSION v",
            "CACHEDROP {} STALE",
            "CACHEINFO {}",
            "CACHEFETCH {} v LEASE 9",
            "CACHEFETCH {} v LEASE 9 WAIT 60000 EARLY 1",
            "CACHEMFETCH 1 {} v LEASE 9",
            "CACHERENEW {} token 9",
            "CACHERELEASE {} token",
            "CACHERELEASE {} 00000000000000000000000000000000 BACKOFF 9",
        ] {
            let call = format!("ML.{}", call.replace("{}", key));
            let error = client.run(&call).error();
            assert!(error.starts_with("WRONGTYPE "), "{call}: {error}");
        }
        assert_eq!(call!(client, "ML.CACHEMGET", 1, key, "v"), nils(1));
    }
    assert_eq!(client.footprint(), before);
    // What is leased cold and becomes of another type meanwhile, as well.
    let token = lease(&mut client, "k v", 60_000);
    client.run("SET k x").ok();
    assert!(client.run(&format!("ML.CACHESET k v y TOKEN {token}")).error().contains("WRONGTYPE"));
    assert_eq!(client.run("GET k"), bulk("x"));
}
