//! Hashes as Feast's own Redis store writes them, byte for byte as Feast 0.67 does:
//! `FEATUREGET … LAYOUT FEAST`. What real Feast writes is compared in tests/python.

use crate::support::{Answer, Client, Random, Server, bulk, call, nils};
use redis::Value;

/// The key of driver 1001 in project `p`.
const DRIVER: &[u8] =
    b"\x01\0\0\0\x02\0\0\0\x09\0\0\0driver_id\x04\0\0\0\x08\0\0\0\xe9\x03\0\0\0\0\0\0p";

/// Features, the names of their fields, and what is in them.
const FIELDS: &[(&str, &[u8], &[u8])] = &[
    ("v:f", b"\xf1l\xb6\x0a", b"5\0\0\0?"),
    ("v:l", b"GD\x1bg", b" \xf9\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ("v:d", b"d\x82N\x12", b")\x9a\x99\x99\x99\x99\x99\xb9?"),
    ("v:b", b"@\xd7b\x8a", b"8\x01"),
    ("v:s", b"\xa0\xcd\xc3\xf4", b"\x12\x017"),
    ("v:y", b"\x8a\xf5\x9f\xd4", b"\x0a\x01\xff"),
    ("v:n", b"\xfb\xf1Fo", b"\x98\x01\0"),
    ("v:empty", b"\xed3\xff\xb6", b""),
    ("v:e", b"\xebE\x22\xf3", b"\x82\x01\x0a\x0a\x08\0\0\xc0?\0\0\0\xc0"),
    ("v:i", b"\xc2\xc3\x0c\x98", b"r\x0d\x0a\x0b\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ("v:o", b"\x8c\xaf]\xf0", b"\x8a\x01\x04\x0a\x02\x01\0"),
    ("v:z", b"\x8a\xa0\x0a\xf1", b"\x82\x01\0"),
    ("v:t", b"?\x04g\xd6", b"b\x05\x0a\x01a\x0a\0"),
    ("v:m", b"w\xdf\x09\xf4", b"\xa2\x01\x0f\x0a\x0d\x0a\x01k\x12\x08b\x06\x0a\x01a\x0a\x01b"),
    ("v:k", b"\xf8\xb3\x22U", b"\xfa\x02\x0a\x0a\x08\x0a\x02\x10\x07\x12\x028\x01"),
];

/// 2023-11-14 22:13:20.123999999.
const TIME: (&[u8], &[u8]) = (b"_ts:v", b"\x08\x80\xe2\xcf\xaa\x06\x10\xff\xad\x90;");
const AT_MS: i64 = 1_700_000_000_123;

/// A server with a driver.
fn feast() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.client();
    for (_, field, value) in FIELDS {
        call!(client, "HSET", DRIVER, field, value).integer();
    }
    call!(client, "HSET", DRIVER, TIME.0, TIME.1).integer();
    (server, client)
}

/// Features of the driver, with what else is asked for.
fn get(client: &mut Client, features: &[&str], options: &[&str]) -> Value {
    let options = ("LAYOUT", "FEAST", options);
    call!(client, "ML.FEATUREGET", 1, DRIVER, "FIELDS", features.len(), features, options)
}

/// A tensor of doubles: its numbers, and a status for each field.
fn tensor(client: &mut Client, features: &[&str], options: &[&str]) -> (Vec<f64>, Vec<u8>) {
    let options = [&["AS", "TENSOR", "TYPE", "F64"], options].concat();
    let items = get(client, features, &options).items();
    let data = items[3].bytes();
    let numbers = data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()));
    (numbers.collect(), items[4].bytes())
}

/// Bytes with a tag and their length before them.
fn framed(tag: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut length = Vec::new();
    prost::encode_length_delimiter(bytes.len(), &mut length).unwrap();
    [tag, &length, bytes].concat()
}

#[test]
fn values_are_what_they_are_in_each_form() {
    let (server, mut client) = feast();
    let names = ["v:f", "v:l", "v:d", "v:b", "v:s", "v:y", "v:n", "v:empty", "v:none", "w:f"];
    let values = get(&mut client, &names, &[]).items();
    let texts = ["0.5", "-7", "0.1", "1", "7"].map(bulk);
    assert_eq!(values[0].items()[..5], texts);
    assert_eq!(values[0].items()[5..], [[bulk(b"\xff")].as_slice(), &nils(4).items()].concat());
    let mut typed = server.client3();
    let values = get(&mut typed, &names[..5], &[]).items()[0].items();
    let numbers = [Value::Double(0.5), Value::Int(-7), Value::Double(0.1), Value::Int(1)];
    assert_eq!(values, [numbers.as_slice(), &[bulk("7")]].concat());

    let (numbers, status) = tensor(&mut client, &names, &["DEFAULT", "-1"]);
    assert_eq!(numbers, [0.5, -7.0, 0.1, 1.0, 7.0, -1.0, -1.0, -1.0, -1.0, -1.0]);
    assert_eq!(status, [1, 1, 1, 1, 1, 0, 3, 3, 3, 3]);
    let ints = get(&mut client, &["v:l"], &["AS", "TENSOR", "TYPE", "I64"]).items();
    assert_eq!(ints[3].bytes(), (-7i64).to_le_bytes());
    let floats = get(&mut client, &["v:d", "v:f"], &["AS", "TENSOR"]).items();
    assert_eq!(floats[3].bytes(), [0.1f32, 0.5].map(f32::to_le_bytes).concat());

    let json = get(&mut client, &["v:f", "v:l", "v:b", "v:s", "v:n", "v:m"], &["AS", "JSON"]);
    assert_eq!(
        json.text(),
        "[{\"v:f\":0.5,\"v:l\":-7,\"v:b\":1,\"v:s\":\"7\",\"v:n\":null,\
         \"v:m\":{\"k\":[\"a\",\"b\"]}}]"
    );
    let error = get(&mut client, &["v:y"], &["AS", "JSON"]).error();
    assert!(error.contains("'v:y'") && error.contains("UTF-8"), "{error}");
}

#[test]
fn lists_of_numbers_are_vectors_and_others_are_lists() {
    let (server, mut client) = feast();
    let names = ["v:e[2]", "v:e", "v:e[3]", "v:i[2]", "v:o[2]", "v:f[1]", "v:f[2]", "v:t[2]"];
    let (numbers, status) = tensor(&mut client, &names, &["DEFAULT", "9"]);
    let nines = |count| vec![9.0; count];
    let expected = [vec![1.5, -2.0], nines(1 + 3), vec![1.0, -1.0, 1.0, 0.0, 0.5], nines(2 + 2)];
    assert_eq!(numbers, expected.concat());
    assert_eq!(status, [1, 5, 5, 1, 1, 1, 5, 5]);
    let singles = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
    let integers = [1i64, -1].map(i64::to_le_bytes).concat();
    let values = get(&mut client, &["v:e[2]", "v:e", "v:i", "v:z", "v:e[3]"], &[]).items();
    let bytes = [bulk(&singles), bulk(&singles), bulk(&integers), bulk(""), Value::Nil];
    assert_eq!(values[0].items(), bytes);
    let texts = Value::Array(vec![bulk("a"), bulk("")]);
    let values = get(&mut client, &["v:t", "v:t[2]"], &[]).items()[0].items();
    assert_eq!(values, [texts, Value::Nil]);
    let map = get(&mut server.client3(), &["v:m", "v:k"], &[]).items()[0].items();
    let list = Value::Array(vec![bulk("a"), bulk("b")]);
    assert_eq!(map[0], Value::Map(vec![(bulk("k"), list.clone())]));
    assert_eq!(map[1], Value::Map(vec![(Value::Int(7), Value::Int(1))]));
    let map = get(&mut client, &["v:m"], &[]).items()[0].items();
    assert_eq!(map, [Value::Array(vec![bulk("k"), list])]);
    let names = ["v:e[2]", "v:z", "v:t", "v:o", "v:k"];
    assert_eq!(
        get(&mut client, &names, &["AS", "JSON"]).text(),
        "[{\"v:e[2]\":[1.5,-2.0],\"v:z\":[],\"v:t\":[\"a\",\"\"],\"v:o\":[1,0],\"v:k\":{\"7\":1}}]"
    );
    assert_eq!(tensor(&mut client, &["v:m", "v:t", "v:k"], &[]).1, [5; 3]);
}

#[test]
fn event_times_are_those_of_the_views() {
    let (server, mut client) = feast();
    client.freeze((AT_MS as u64 + 1_000) * 1_000);
    // Of a null and of what the view has not as well.
    let names = ["v:f", "v:n", "v:none", "w:f", "v:e[2]"];
    let times = [AT_MS, AT_MS, AT_MS, -1, AT_MS];
    let timed = get(&mut client, &names, &["WITHTIMES"]).items();
    let in_values: Vec<_> = timed[1].items()[0].items().iter().map(Answer::integer).collect();
    assert_eq!(in_values, times);
    let in_tensor = get(&mut client, &names, &["AS", "TENSOR", "WITHTIMES"]).items();
    assert_eq!(in_tensor[5].bytes(), times.map(i64::to_le_bytes).concat());
    for (age, too_old) in [("1000", false), ("999", true)] {
        let status = tensor(&mut client, &names, &["MAXAGE", age]).1;
        assert_eq!(status, if too_old { [4, 3, 3, 3, 4] } else { [1, 3, 3, 3, 1] });
        let value = get(&mut client, &["v:f"], &["MAXAGE", age]).items()[0].items();
        assert_eq!(value == [Value::Nil], too_old);
    }
    let error = get(&mut client, &["v:f"], &["MAXAGE", "999", "STRICT"]).error();
    assert!(error.contains("MAXAGE"), "{error}");
    // What says no time is of any age; an empty one is 1970.
    for (time, told, status) in [
        (b"\xff".as_slice(), -1, 1),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", -1, 1),
        (b"", 0, 4),
    ] {
        call!(client, "HSET", DRIVER, TIME.0, time).integer();
        let timed = get(&mut client, &["v:f"], &["WITHTIMES"]).items();
        assert_eq!(timed[1].items()[0].items(), [Value::Int(told)]);
        assert_eq!(tensor(&mut client, &["v:f"], &["MAXAGE", "1"]).1, [status]);
    }
    drop(server);
}

#[test]
fn what_is_no_message_is_told_from_what_is_missing() {
    let (_server, mut client) = feast();
    let (_, field, _) = FIELDS.iter().find(|(name, ..)| *name == "v:f").unwrap();
    let mut random = Random::new(11);
    let random: Vec<_> = (1..40).map(|length| random.bytes(length)).collect();
    let deep =
        (0..60).fold(vec![0x18, 1], |inner, _| framed(b"\xd2\x02", &framed(b"\x0a", &inner)));
    let spoilt: [&[u8]; 7] = [
        b"1.5",
        b"\x35\0\0\0",
        b"\x12\xff\xff\xff\xff\x0f",
        b"\x62\xff\xff\xff\xff\x0f\x0a\x01a",
        b"\x12\x02\xff\xfe",
        // A type of a later Feast.
        b"\x9a\x06\x01x",
        &deep,
    ];
    for value in spoilt {
        call!(client, "HSET", DRIVER, field, value).integer();
        let (numbers, status) = tensor(&mut client, &["v:f", "v:f[2]"], &["DEFAULT", "9"]);
        assert_eq!((numbers, status), (vec![9.0; 3], vec![0, 0]), "{value:?}");
        let values = get(&mut client, &["v:f", "v:l"], &[]).items()[0].items();
        assert_eq!(values, [Value::Nil, bulk("-7")]);
        assert_eq!(get(&mut client, &["v:f"], &["AS", "JSON"]).text(), "[{\"v:f\":null}]");
        for form in ["VALUES", "TENSOR", "JSON"] {
            let error = get(&mut client, &["v:f"], &["AS", form, "STRICT"]).error();
            assert!(error.contains("'v:f'") && error.contains("no value of Feast's"), "{error}");
        }
    }
    // Anything at all is answered.
    for value in random {
        call!(client, "HSET", DRIVER, field, value).integer();
        for form in ["VALUES", "TENSOR", "JSON"] {
            get(&mut client, &["v:f", "v:f[1]", "v:f[2]"], &["AS", form]);
        }
    }
    let error = get(&mut client, &["v:none"], &["STRICT"]).error();
    assert!(error.contains("'v:none'") && error.contains("missing"), "{error}");
    let error = get(&mut client, &["v:n"], &["STRICT"]).error();
    assert!(error.contains("'v:n'") && error.contains("missing"), "{error}");
    let error = get(&mut client, &["v:t"], &["AS", "TENSOR", "STRICT"]).error();
    assert!(error.contains("'v:t'") && error.contains(", not one value"), "{error}");
}

#[test]
fn rows_are_read_as_rows_and_other_types_are_refused() {
    let (_server, mut client) = feast();
    client.run("ML.FEATURESET row VIEW v FIELDS 1 f 0.25").integer();
    client.run("SET text x").ok();
    let both = ("FIELDS", 2, "v:f", "v:l", "LAYOUT", "FEAST");
    let values = call!(client, "ML.FEATUREGET", 3, "row", DRIVER, "nobody", both).items();
    assert_eq!(values[0].items(), [bulk("0.25"), Value::Nil]);
    assert_eq!(values[1].items(), ["0.5", "-7"].map(bulk));
    assert_eq!(values[2], nils(2));
    let error = call!(client, "ML.FEATUREGET", 2, DRIVER, "text", both).error();
    assert!(error.starts_with("WRONGTYPE"), "{error}");
    // Without the layout they are bytes of names that nobody knows.
    let plain = call!(client, "ML.FEATUREGET", 1, DRIVER, "FIELDS", 1, "v:f").items();
    assert_eq!(plain[0], nils(1));
}

/// A hash too large for a list is looked up field by field, with names twice and not.
#[test]
fn a_large_hash_is_read_as_a_small_one() {
    let (_server, mut client) = feast();
    let names = ["v:f", "v:l", "v:e[2]", "v:t", "v:n", "w:f", "v:f"];
    let asked = |client: &mut Client| {
        [&names[..], &names[..6]]
            .map(|names| ["VALUES", "TENSOR", "JSON"].map(|form| get(client, names, &["AS", form])))
    };
    let small = asked(&mut client);
    for number in 0..2_000 {
        call!(client, "HSET", DRIVER, format!("other{number}"), "x").integer();
    }
    assert_eq!(asked(&mut client), small);
}

/// Of an entity and of a field that come again and again a long value is read once, and
/// what is in a list counts in the reply.
#[test]
fn what_is_long_is_read_once_and_counted() {
    let (_server, mut client) = feast();
    let (_, field, _) = FIELDS.iter().find(|(name, ..)| *name == "v:t").unwrap();
    let count = 1_000_000;
    let texts = [0x0a, 0].repeat(count);
    call!(client, "HSET", DRIVER, field, framed(b"\x62", &texts)).integer();
    let again = vec!["v:t"; 5_000];
    let status = tensor(&mut client, &again, &[]).1;
    assert_eq!(status, [5; 5_000]);
    let error = get(&mut client, &again[..5], &[]).error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    assert_eq!(get(&mut client, &["v:t"], &[]).items()[0].items()[0].items().len(), count);
    // What would take much more memory than a reply is not begun with; a text may be long.
    let (_, other, _) = FIELDS.iter().find(|(name, ..)| *name == "v:s").unwrap();
    call!(client, "HSET", DRIVER, other, framed(b"\x62", &texts.repeat(3))).integer();
    let error = get(&mut client, &["v:s"], &["AS", "TENSOR"]).error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    call!(client, "HSET", DRIVER, other, framed(b"\x12", &b"x".repeat(3 * count))).integer();
    assert_eq!(get(&mut client, &["v:s"], &[]).items()[0].items()[0].bytes().len(), 3 * count);
    client.run("CONFIG SET ml.features-max-reply-bytes 1mb").ok();
    for form in ["VALUES", "TENSOR", "JSON"] {
        let error = get(&mut client, &["v:t"], &["AS", form]).error();
        assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    }
}
