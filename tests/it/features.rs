//! ML.FEATURES and ML.FEATUREGET: fields of entities, in the order asked for.

use crate::support::{Answer, Client, Random, Server, Tap, bulk, call, nils, wait_for};
use redis::Value;

#[test]
fn the_article_s_user_comes_back_in_the_order_asked_for() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("HSET user:123 age 34 country DE avg_basket 84.50 clicks 17");
        let answer = client.run("ML.FEATURES user:123 country age avg_basket");
        assert_eq!(answer, Value::Array(vec![bulk("DE"), bulk("34"), bulk("84.50")]));
        let answer = client.run("ML.FEATURES user:123 clicks missing age clicks AGE");
        let expected = [bulk("17"), Value::Nil, bulk("34"), bulk("17"), Value::Nil];
        assert_eq!(answer, Value::Array(expected.to_vec()), "a missing field is nil");
        assert_eq!(client.run("ML.FEATURES user:9 a b a"), nils(3), "so are all of no entity");
    }
}

/// Whether ML.FEATURES answers as HMGET does, which it does for any hash.
fn assert_like_hmget(client: &mut Client, key: &[u8], fields: &[Vec<u8>]) {
    let expected = call!(client, "HMGET", key, fields);
    let answer = call!(client, "ML.FEATURES", key, fields);
    assert!(answer == expected, "{} fields of {:?}", fields.len(), String::from_utf8_lossy(key));
}

#[test]
fn few_and_many_fields_of_small_and_large_hashes_are_read_alike() {
    let server = Server::start();
    let mut client = server.client();
    for size in [1, 100, 250, 3_000] {
        let key = format!("h{size}");
        for field in 0..size {
            call!(client, "HSET", &key, format!("f{field}"), format!("value {field}"));
        }
        // Of few fields a table where one of them is long.
        if size == 250 {
            call!(client, "HSET", &key, "long", "x".repeat(100));
        }
        let encoding = if size <= 100 { "listpack" } else { "hashtable" };
        assert_eq!(client.run(&format!("OBJECT ENCODING {key}")).text(), encoding);
        for asked in [1, 2, 7, 100, 300, 5_000] {
            // Present and missing ones, backwards, and some of them twice.
            let field =
                |at: usize| format!("f{}", (at * 7919) % (size + size / 2 + 1)).into_bytes();
            let fields: Vec<_> = (0..asked).rev().map(field).collect();
            assert_like_hmget(&mut client, key.as_bytes(), &fields);
        }
    }
}

#[test]
fn keys_fields_and_values_are_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    let strange: [&[u8]; 7] =
        [b"", b"\0", b"a\0b", b"\xff\xfe", b" ", b"line\r\nend", &[b'x'; 100_000]];
    for key in strange {
        for (field, value) in strange.iter().zip(strange.iter().rev()) {
            call!(client, "HSET", key, *field, *value).integer();
        }
        let mut fields: Vec<_> = strange.iter().map(|field| field.to_vec()).collect();
        fields.push(b"a".to_vec());
        assert_like_hmget(&mut client, key, &fields);
        assert!(
            call!(client, "ML.FEATURES", key, b"") == Value::Array(vec![bulk([b'x'; 100_000])])
        );
    }
    // Numbers that the server keeps as integers.
    client.run("HSET n a 12 b -9223372036854775808 c 007 d 1e5");
    let answer = client.run("ML.FEATURES n a b c d").texts();
    assert_eq!(answer, ["12", "-9223372036854775808", "007", "1e5"]);
}

#[test]
fn reading_changes_nothing_and_works_on_a_replica() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET h f v");
    let replica = server.replica("");
    assert_eq!(replica.client().run("ML.FEATURES h f g").items(), [bulk("v"), Value::Nil]);
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    client.run("ML.FEATURES h f");
    client.run("ML.FEATURES missing f");
    assert_eq!(client.footprint(), before);
    assert_eq!(tap.names(&mut client), [""; 0]);

    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    tracker.run("ML.FEATURES h f");
    client.run("HSET h f w");
    assert_eq!(tracker.pushes().len(), 1, "client-side caches see what they have read");
}

#[test]
fn client_side_caches_see_every_key_of_a_batch() {
    let server = Server::start();
    let mut client = server.client();
    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    for key in ["h", "row"] {
        client.run("HSET h f 1");
        client.run("ML.FEATURESET row FIELDS 1 f 1").integer();
        tracker.run("ML.FEATUREGET 3 h row nobody FIELDS 1 f").items();
        tracker.pushes();
        client.run(&format!("DEL {key}")).integer();
        assert_eq!(tracker.pushes().len(), 1, "{key}");
    }
}

#[test]
fn an_expired_entity_has_no_fields() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET h f v");
    client.run("PEXPIRE h 1");
    wait_for("the key to go", || client.run("ML.FEATURES h f") == nils(1));
}

#[test]
fn an_expired_field_is_not_found_where_fields_can_expire() {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("HPEXPIRE") {
        println!("not applicable: this server has no HPEXPIRE");
        return;
    }
    // What has expired stays in the hash until somebody cleans it up.
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    for (key, size, asked) in [("small", 3, 3), ("passed over", 50, 50), ("large", 1_000, 3)] {
        for field in 0..size {
            call!(client, "HSET", key, format!("f{field}"), field);
        }
        let set = call!(client, "HPEXPIRE", key, 1, "FIELDS", 1, "f1").integers();
        assert_eq!(set, [1]);
        let fields: Vec<_> = (0..asked).map(|field| format!("f{field}")).collect();
        let value = |field: i32| if field == 1 { Value::Nil } else { bulk(field.to_string()) };
        let expected = Value::Array((0..asked).map(value).collect());
        wait_for("the field to go", || call!(client, "ML.FEATURES", key, &fields) == expected);
    }
}

/// Rows are opened some at a time, hashes alone.
#[test]
fn rows_hashes_and_nobody_are_read_in_whatever_order_they_come() {
    let server = Server::start();
    let mut client = server.client();
    let mut random = Random::new(7);
    for key in 0..20 {
        call!(client, "ML.FEATURESET", format!("row{key}"), "FIELDS", 1, "f", key).integer();
        call!(client, "HSET", format!("hash{key}"), "f", 100 + key).integer();
    }
    for count in [1, 2, 15, 16, 17, 18, 33, 100] {
        for kinds in [1, 2, 3] {
            let asked: Vec<_> = (0..count)
                .map(|_| match random.below(kinds) {
                    0 => (0, random.below(20)),
                    kind => (kind, random.below(20)),
                })
                .collect();
            let name = |(kind, key): &(u64, u64)| {
                format!("{}{key}", ["row", "hash", "nobody"][*kind as usize])
            };
            let names: Vec<_> = asked.iter().map(name).collect();
            let value = |(kind, key): &(u64, u64)| match kind {
                0 => bulk(key.to_string()),
                1 => bulk((100 + key).to_string()),
                _ => Value::Nil,
            };
            let values = asked.iter().map(|one| Value::Array(vec![value(one)])).collect();
            let answer = call!(client, "ML.FEATUREGET", count, &names, "FIELDS", 1, "f");
            assert_eq!(answer, Value::Array(values), "{names:?}");
        }
    }
    // Of another type is an error, wherever it stands.
    client.run("SADD set f").integer();
    for place in [0, 1, 15, 16, 17, 39] {
        let mut names: Vec<_> = (0..40).map(|key| format!("row{}", key % 20)).collect();
        names[place] = "set".to_owned();
        let error = call!(client, "ML.FEATUREGET", 40, &names, "FIELDS", 1, "f").error();
        assert!(error.starts_with("WRONGTYPE"), "{error}");
    }
}

#[test]
fn a_hash_that_goes_as_it_is_read_is_gone_for_all_that_follows() {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("HPEXPIRE") {
        println!("not applicable: this server has no HPEXPIRE");
        return;
    }
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    client.run("ML.FEATURESET row FIELDS 1 f 1").integer();
    client.run("HSET h f 2").integer();
    assert_eq!(client.run("HPEXPIRE h 1 FIELDS 1 f").integers(), [1]);
    let asked = "ML.FEATUREGET 6 row row h row h h FIELDS 1 f";
    let row = |value| Value::Array(vec![value]);
    let (one, none) = (row(bulk("1")), row(Value::Nil));
    let expected = [&one, &one, &none, &one, &none, &none].map(Clone::clone);
    wait_for("the field to go", || client.run(asked) == Value::Array(expected.to_vec()));
}

/// The values of a tensor of doubles, and their statuses.
fn doubles(answer: &Value) -> (Vec<f64>, Vec<u8>) {
    let items = answer.items();
    assert_eq!(items[0].text(), "F64");
    let data = items[3].bytes();
    let values = data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()));
    (values.collect(), items[4].bytes())
}

#[test]
fn many_entities_come_back_by_position_in_every_form() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("FLUSHALL").ok();
        client.run("HSET a x 1 y 2.5 z text");
        client.run("HSET b x -3 z 84.50");
        let asked = "ML.FEATUREGET 4 a b nobody a FIELDS 4 y x z x";
        let row = |values: &[Option<&str>]| {
            let value = |value: &Option<&str>| value.map_or(Value::Nil, bulk);
            Value::Array(values.iter().map(value).collect())
        };
        let a = row(&[Some("2.5"), Some("1"), Some("text"), Some("1")]);
        let b = row(&[None, Some("-3"), Some("84.50"), Some("-3")]);
        let expected = Value::Array(vec![a.clone(), b, row(&[None; 4]), a]);
        for form in ["", " AS VALUES", " as values maxage 5"] {
            assert_eq!(client.run(&format!("{asked}{form}")), expected, "{form}");
        }

        let tensor = client.run(&format!("{asked} AS TENSOR TYPE F64"));
        assert_eq!(tensor.items()[1..3], [Value::Int(4), Value::Int(4)]);
        let (values, status) = doubles(&tensor);
        assert_eq!(status, [1, 1, 0, 1, 3, 1, 1, 1, 3, 3, 3, 3, 1, 1, 0, 1]);
        let present: Vec<_> =
            values.iter().zip(&status).filter(|(_, status)| **status == 1).collect();
        let present: Vec<_> = present.iter().map(|(value, _)| **value).collect();
        assert_eq!(present, [2.5, 1.0, 1.0, -3.0, 84.5, -3.0, 2.5, 1.0, 1.0]);
        let absent = values.iter().zip(&status).filter(|(_, status)| **status != 1);
        assert!(absent.into_iter().all(|(value, _)| value.is_nan()));

        let json = client.run(&format!("{asked} AS JSON")).text();
        assert_eq!(
            json,
            "[{\"y\":2.5,\"x\":1,\"z\":\"text\"},{\"y\":null,\"x\":-3,\"z\":84.50},\
             {\"y\":null,\"x\":null,\"z\":null},{\"y\":2.5,\"x\":1,\"z\":\"text\"}]"
        );
    }
}

#[test]
fn what_is_missing_takes_a_default_and_what_is_no_number_too() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET a x 1 t text");
    let asked = "ML.FEATUREGET 2 a nobody FIELDS 3 x t y";
    let values = client.run(&format!("{asked} DEFAULT 7")).items();
    assert_eq!(values[0].texts(), ["1", "text", "7"]);
    assert_eq!(values[1].texts(), ["7", "7", "7"]);
    let values = client.run(&format!("{asked} DEFAULTS 3 7 eight 9")).items();
    assert_eq!(values[1].texts(), ["7", "eight", "9"]);
    let tensor = client.run(&format!("{asked} AS TENSOR TYPE F64 DEFAULTS 3 7 8 9"));
    assert_eq!(
        doubles(&tensor),
        (vec![1.0, 8.0, 9.0, 7.0, 8.0, 9.0], vec![1, 0, 3, 3, 3, 3]),
        "the status still says why"
    );
    let json = client.run(&format!("{asked} AS JSON DEFAULTS 3 7 eight 9.0")).text();
    assert_eq!(json, "[{\"x\":1,\"t\":\"text\",\"y\":9.0},{\"x\":7,\"t\":\"eight\",\"y\":9.0}]");

    for (call, words) in [
        ("STRICT", ["'y'", "'a'"]),
        ("STRICT DEFAULT 7 AS JSON", ["'y'", "'a'"]),
        ("AS TENSOR TYPE I64", ["'t'", "'a'"]),
    ] {
        let error = client.run(&format!("{asked} {call}")).error();
        assert!(words.iter().all(|word| error.contains(word)), "{call}: {error}");
    }
    let strict = client.run("ML.FEATUREGET 1 a FIELDS 2 x t STRICT").items();
    assert_eq!(strict[0].texts(), ["1", "text"]);
}

#[test]
fn numbers_are_read_exactly_or_not_at_all() {
    let server = Server::start();
    let mut client = server.client();
    /// Text, and what a tensor of each type makes of it; none: not a number.
    type Read = (&'static str, Option<f64>, Option<f32>, Option<i64>);
    let table: [Read; 24] = [
        ("0", Some(0.0), Some(0.0), Some(0)),
        ("-0", Some(-0.0), Some(-0.0), Some(0)),
        ("1", Some(1.0), Some(1.0), Some(1)),
        ("12.0", Some(12.0), Some(12.0), Some(12)),
        ("0.1", Some(0.1), Some(0.1), None),
        ("-2.5e3", Some(-2500.0), Some(-2500.0), Some(-2500)),
        (
            "9007199254740993",
            Some(9007199254740992.0),
            Some(9007199254740992.0),
            Some(9_007_199_254_740_993),
        ),
        ("9223372036854775807", Some(9.223372036854776e18), Some(9.223372e18), Some(i64::MAX)),
        ("-9223372036854775808", Some(-9.223372036854776e18), Some(-9.223372e18), Some(i64::MIN)),
        ("18446744073709551616", Some(1.8446744073709552e19), Some(1.8446744e19), None),
        ("1e39", Some(1e39), None, None),
        ("5e-324", Some(5e-324), Some(0.0), None),
        ("1.17549435e-38", Some(1.17549435e-38), Some(1.1754944e-38), None),
        ("1e400", None, None, None),
        ("nan", None, None, None),
        ("inf", None, None, None),
        ("-Infinity", None, None, None),
        ("0x10", None, None, None),
        ("1_000", None, None, None),
        ("+1", None, None, None),
        (".5", None, None, None),
        ("1,5", None, None, None),
        ("", None, None, None),
        ("true", None, None, None),
    ];
    let fields: Vec<_> = (0..table.len()).map(|field| format!("f{field}")).collect();
    for (field, (text, ..)) in fields.iter().zip(table) {
        call!(client, "HSET", "h", field, text);
    }
    let mut ask = |kind: &str| {
        let size = fields.len();
        let answer = call!(
            client,
            "ML.FEATUREGET",
            1,
            "h",
            "FIELDS",
            size,
            &fields,
            "AS",
            "TENSOR",
            "TYPE",
            kind,
            "DEFAULT",
            77
        );
        let items = answer.items();
        (items[3].bytes(), items[4].bytes())
    };
    let statuses = |present: Vec<bool>| present.into_iter().map(u8::from).collect::<Vec<_>>();
    let (data, status) = ask("F64");
    let expected = table.iter().flat_map(|row| row.1.unwrap_or(77.0).to_le_bytes());
    assert!(data == expected.collect::<Vec<_>>(), "F64, bit by bit");
    assert_eq!(status, statuses(table.iter().map(|row| row.1.is_some()).collect()));
    let (data, status) = ask("F32");
    let expected = table.iter().flat_map(|row| row.2.unwrap_or(77.0).to_le_bytes());
    assert!(data == expected.collect::<Vec<_>>(), "F32, bit by bit");
    assert_eq!(status, statuses(table.iter().map(|row| row.2.is_some()).collect()));
    let (data, status) = ask("I64");
    let expected = table.iter().flat_map(|row| row.3.unwrap_or(77).to_le_bytes());
    assert!(data == expected.collect::<Vec<_>>(), "I64");
    assert_eq!(status, statuses(table.iter().map(|row| row.3.is_some()).collect()));
}

#[test]
fn a_key_of_another_type_in_the_middle_refuses_the_batch() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET a x 1");
    client.run("RPUSH list 1");
    for form in ["VALUES", "TENSOR", "JSON"] {
        let answer = client.run(&format!("ML.FEATUREGET 3 a list a FIELDS 1 x AS {form}"));
        assert!(answer.error().starts_with("WRONGTYPE"), "{form}");
        assert_eq!(client.run("PING").text(), "PONG", "{form}: nothing else was answered");
    }
}

#[test]
fn text_that_is_not_utf_8_has_no_json() {
    let server = Server::start();
    let mut client = server.client();
    call!(client, "HSET", "a", "x", b"\xff", b"\xfe", "1");
    let error = call!(client, "ML.FEATUREGET", 1, "a", "FIELDS", 1, "x", "AS", "JSON").error();
    assert!(error.contains("'x'") && error.contains("'a'") && error.contains("UTF-8"), "{error}");
    let error = call!(client, "ML.FEATUREGET", 1, "a", "FIELDS", 1, b"\xfe", "AS", "JSON").error();
    assert!(error.contains("field") && error.contains("UTF-8"), "{error}");
    let values = call!(client, "ML.FEATUREGET", 1, "a", "FIELDS", 1, "x").items();
    assert_eq!(values[0].items(), [bulk(b"\xff")], "as values, bytes are bytes");
}

#[test]
fn one_call_reads_as_many_values_as_the_config_says() {
    let server = Server::start();
    let mut client = server.client();
    client.run("CONFIG SET ml.features-max-values 6").ok();
    assert_eq!(client.run("ML.FEATUREGET 3 a b c FIELDS 2 x y").items().len(), 3);
    let error = client.run("ML.FEATUREGET 3 a b c FIELDS 3 x y z").error();
    assert!(error.contains("numkeys") && error.contains("ml.features-max-values"), "{error}");
}

#[test]
fn hashes_of_every_size_are_read_alike_by_pass_and_by_look_up() {
    let server = Server::start();
    let mut client = server.client();
    let mut random = Random::new(1);
    for size in [1, 3, 10, 60, 128, 129, 500, 2_000] {
        let key = format!("h{size}");
        for field in 0..size {
            call!(client, "HSET", &key, format!("f{field}"), random.next());
        }
        for asked in [1, 2, 30, 60, 300] {
            let fields: Vec<_> =
                (0..asked).map(|_| format!("f{}", random.below(size * 3 / 2 + 1))).collect();
            let expected = call!(client, "HMGET", &key, &fields);
            let answer = call!(client, "ML.FEATUREGET", 1, &key, "FIELDS", asked, &fields);
            assert_eq!(answer, Value::Array(vec![expected]), "{asked} of {size}");
        }
    }
}
