//! Vectors in rows and in the bytes of hashes: `name[k]`.

use crate::support::{Answer, Client, Server, Tap, bulk, call, nils};
use redis::Value;

const MIB: usize = 1 << 20;

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn f64s(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn i64s(numbers: &[i64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A tensor of doubles: its columns, its numbers, and a status for each field.
fn tensor(client: &mut Client, call: &str) -> (i64, Vec<f64>, Vec<u8>) {
    let items = client.run(&format!("{call} AS TENSOR TYPE F64")).items();
    let data = items[3].bytes();
    let numbers = data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()));
    (items[2].integer(), numbers.collect(), items[4].bytes())
}

fn set(client: &mut Client, key: &str, kind: &str, field: &str, bytes: &[u8]) {
    let kinds = ("TYPES", 1, kind, "FIELDS", 1, field, bytes);
    assert_eq!(call!(client, "ML.FEATURESET", key, kinds).integer(), 1);
}

#[test]
fn a_vector_lies_beside_scalars_in_one_tensor() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("FLUSHALL").ok();
        for (key, numbers) in [("a", [1.5, -2.0, 0.0]), ("b", [0.25, 7.0, 1e9])] {
            set(&mut client, key, "F32[3]", "e", &f32s(&numbers));
            client.run(&format!("ML.FEATURESET {key} FIELDS 2 x 5 y text")).integer();
        }
        let asked = "ML.FEATUREGET 3 a b nobody FIELDS 4 x e[3] y e[3]";
        let (columns, numbers, status) = tensor(&mut client, &format!("{asked} DEFAULT -1"));
        assert_eq!((columns, status), (8, vec![1, 1, 0, 1, 1, 1, 0, 1, 3, 3, 3, 3]));
        let rows: Vec<_> = numbers.chunks(8).collect();
        assert_eq!(rows[0], [5.0, 1.5, -2.0, 0.0, -1.0, 1.5, -2.0, 0.0]);
        assert_eq!(rows[1], [5.0, 0.25, 7.0, 1e9, -1.0, 0.25, 7.0, 1e9]);
        assert_eq!(rows[2], [-1.0; 8], "each column of what is missing");
        let values = client.run(asked).items();
        let bytes = bulk(f32s(&[1.5, -2.0, 0.0]));
        assert_eq!((&values[0].items()[1], &values[2]), (&bytes, &nils(4)));
        assert_eq!(call!(client, "ML.FEATURES", "a", "e", "e[3]").items(), [bytes.clone(), bytes]);
        let json = client.run("ML.FEATUREGET 2 a nobody FIELDS 3 e[3] e x AS JSON").text();
        let expected = "[{\"e[3]\":[1.5,-2.0,0.0],\"e\":[1.5,-2.0,0.0],\"x\":5},\
                        {\"e[3]\":null,\"e\":null,\"x\":null}]";
        assert_eq!(json, expected);
        let all = client.run("ML.FEATUREGETALL b").map();
        assert_eq!(all["e"], bulk(f32s(&[0.25, 7.0, 1e9])));
    }
    let mut client = server.client();
    let fields = client.run("ML.FEATUREINFO a").map()["views"].items()[0].map()["fields"].items();
    assert_eq!(fields[0].texts(), ["e", "F32[3]"]);
    // Event times stay one a field.
    let asked = "ML.FEATUREGET 1 a FIELDS 2 e[3] x AS TENSOR WITHTIMES";
    assert_eq!(client.run(asked).items()[5].bytes().len(), 2 * 8);
}

#[test]
fn each_type_is_kept_bit_by_bit_and_read_as_any() {
    let server = Server::start();
    let mut client = server.client();
    let quiet = f32::from_bits(0x7fc0_1234);
    for (kind, bytes) in [
        ("F32[4]", f32s(&[quiet, -0.0, f32::INFINITY, 1e-45])),
        ("F64[3]", f64s(&[f64::from_bits(0x7ff8_0000_dead_beef), -0.0, 5e-324])),
        ("I64[2]", i64s(&[i64::MIN, i64::MAX])),
    ] {
        set(&mut client, "r", kind, "e", &bytes);
        let (dtype, dim) = kind.trim_end_matches(']').split_once('[').unwrap();
        let name = format!("e[{dim}]");
        assert_eq!(call!(client, "ML.FEATURES", "r", &name).items(), [bulk(&bytes)], "{kind}");
        let asked = format!("ML.FEATUREGET 1 r FIELDS 1 {name} AS TENSOR TYPE {dtype}");
        let items = client.run(&asked).items();
        assert!(items[3].bytes() == bytes && items[4].bytes() == [1], "{kind}");
    }
    // By way of another type: each number as a single one of that type is.
    set(&mut client, "r", "I64[3]", "e", &i64s(&[1, -7, (1 << 53) + 1]));
    let (_, numbers, status) = tensor(&mut client, "ML.FEATUREGET 1 r FIELDS 1 e[3]");
    assert_eq!((numbers, status), (vec![1.0, -7.0, 9_007_199_254_740_992.0], vec![1]));
    set(&mut client, "r", "F64[3]", "e", &f64s(&[12.0, 0.5, f64::NAN]));
    let asked = "ML.FEATUREGET 1 r FIELDS 1 e[3] AS TENSOR TYPE I64";
    assert!(client.run(asked).error().contains("DEFAULT"));
    let items = client.run(&format!("{asked} DEFAULT 7")).items();
    assert_eq!((items[3].bytes(), items[4].bytes()), (i64s(&[12, 7, 7]), vec![0]));
}

/// Embeddings of another model in the same field: a tensor that is shifted is worse
/// than none.
#[test]
fn another_width_is_an_error_or_status_5_and_never_a_shifted_tensor() {
    let server = Server::start();
    let mut client = server.client();
    set(&mut client, "old", "F32[2]", "e", &f32s(&[1.0, 2.0]));
    set(&mut client, "new", "F32[3]", "e", &f32s(&[1.0, 2.0, 3.0]));
    client.run("ML.FEATURESET old FIELDS 1 x 9").integer();
    client.run("ML.FEATURESET new FIELDS 1 x 8").integer();
    let asked = "ML.FEATUREGET 2 old new FIELDS 2 e[3] x";
    let (_, numbers, status) = tensor(&mut client, &format!("{asked} DEFAULT 0"));
    assert_eq!(status, [5, 1, 1, 1]);
    assert_eq!(numbers, [0.0, 0.0, 0.0, 9.0, 1.0, 2.0, 3.0, 8.0]);
    assert_eq!(client.run(asked).items()[0].items(), [Value::Nil, bulk("9")]);
    let json = client.run(&format!("{asked} AS JSON DEFAULT 0")).text();
    assert_eq!(json, "[{\"e[3]\":0,\"x\":9},{\"e[3]\":[1.0,2.0,3.0],\"x\":8}]");
    for form in ["VALUES", "TENSOR", "JSON"] {
        let error = client.run(&format!("{asked} STRICT AS {form}")).error();
        let words = ["'e[3]'", "'old'", "is F32[2], not 3 numbers"];
        assert!(words.iter().all(|word| error.contains(word)), "{form}: {error}");
    }
    let error = client.run("ML.FEATUREGET 1 new FIELDS 1 e AS TENSOR STRICT").error();
    assert!(error.contains("'e'") && error.contains("is F32[3], not one value"), "{error}");
    let error = client.run("ML.FEATUREGET 1 new FIELDS 1 x[2] STRICT").error();
    assert!(error.contains("'x[2]'") && error.contains("is I64, not 2 numbers"), "{error}");
    // Nor is a vector one number, or a number a vector.
    let (_, _, status) = tensor(&mut client, "ML.FEATUREGET 1 new FIELDS 4 e x[1] x[2] e[1]");
    assert_eq!(status, [5, 1, 5, 5]);
    // f16 and f64 by mistake, and other lengths: never taken for as many singles.
    let before = client.digest_of("new");
    for length in [6, 24, 11, 13, 0] {
        let kinds = ("TYPE", "F32", "DIM", 3, "FIELDS", 1, "e", vec![0u8; length]);
        let error = call!(client, "ML.FEATURESET", "new", kinds).error();
        assert!(error.contains("'e'") && error.contains("12 bytes"), "{length}: {error}");
        let options = ("TYPE", "F32", "DIM", 3, "FIELDS", 1, "e");
        let error = call!(client, "ML.FEATUREMSET", 1, "new", vec![0u8; length], options).error();
        assert!(error.contains("blob") && error.contains("12 bytes"), "{length}: {error}");
    }
    assert_eq!(client.digest_of("new"), before);
}

#[test]
fn a_batch_of_vectors_comes_from_one_array_and_back() {
    let server = Server::start();
    let mut client = server.client();
    let numbers: Vec<_> = (0..2 * 2 * 3).map(|number| number as f32).collect();
    let options = ("TYPE", "F32", "DIM", 3, "FIELDS", 2, "e", "d");
    let answers = call!(client, "ML.FEATUREMSET", 2, "a", "b", f32s(&numbers), options);
    assert_eq!(answers.integers(), [1, 1]);
    let asked = "ML.FEATUREGET 2 a b FIELDS 2 e[3] d[3] AS TENSOR";
    assert_eq!(client.run(asked).items()[3].bytes(), f32s(&numbers));
    // A later one is ordered by event time as any value is.
    let late = ("TYPE", "F32", "DIM", 3, "FIELDS", 1, "e", "AT", 1_700_000_000_000u64);
    assert_eq!(call!(client, "ML.FEATUREMSET", 1, "a", f32s(&[9.0; 3]), late).integers(), [0]);
    // Another width may be written over it, and a single value.
    set(&mut client, "a", "F64[1]", "e", &f64s(&[4.0]));
    client.run("ML.FEATURESET b FIELDS 1 e 5").integer();
    let (_, numbers, status) = tensor(&mut client, "ML.FEATUREGET 2 a b FIELDS 1 e[1]");
    assert_eq!((numbers, status), (vec![4.0, 5.0], vec![1, 1]));
}

#[test]
fn of_a_hash_the_field_s_bytes_are_read_and_the_literal_name_first() {
    let server = Server::start();
    let mut client = server.client();
    call!(
        client,
        "HSET",
        "h",
        "e",
        f32s(&[1.0, 2.0]),
        "sum(x,1)",
        "7",
        "one",
        "1.5",
        "f[1]",
        "2.5"
    )
    .integer();
    call!(client, "HSET", "h", "d", f64s(&[3.0, 4.0]), "l[2]", "literal", "l", f32s(&[1.0, 2.0]))
        .integer();
    // k times the tensor's type, or status 5.
    let asked = "ML.FEATUREGET 1 h FIELDS 6 e[2] d[2] l[2] one[1] sum(x,1) count(y,1)";
    for (kind, expected) in [("F32", [1, 5, 5, 5, 1, 3]), ("F64", [5, 1, 5, 5, 1, 3])] {
        let items = client.run(&format!("{asked} AS TENSOR TYPE {kind} DEFAULT 0")).items();
        assert_eq!(items[4].bytes(), expected, "{kind}");
        let data = items[3].bytes();
        match kind {
            "F32" => assert_eq!(data[..8], f32s(&[1.0, 2.0])),
            _ => assert_eq!(data[16..32], f64s(&[3.0, 4.0])),
        }
    }
    let answer = call!(client, "ML.FEATURES", "h", "e[2]", "d[2]", "e[5]", "e[3]", "sum(x,1)");
    let expected = [bulk(f32s(&[1.0, 2.0])), bulk(f64s(&[3.0, 4.0])), Value::Nil, Value::Nil];
    assert_eq!(answer.items(), [&expected[..], &[bulk("7")]].concat());
    let json = client.run("ML.FEATUREGET 1 h FIELDS 4 e[2] d[2] e[4] f[1] AS JSON").text();
    assert_eq!(json, "[{\"e[2]\":[1.0,2.0],\"d[2]\":[3.0,4.0],\"e[4]\":null,\"f[1]\":2.5}]");
    // Small and large hashes alike.
    for field in 0..600 {
        call!(client, "HSET", "h", format!("f{field}"), field).integer();
    }
    let answer = call!(client, "ML.FEATURES", "h", "e[2]", "f[1]", "f7[1]").items();
    assert_eq!(answer, [bulk(f32s(&[1.0, 2.0])), bulk("2.5"), Value::Nil]);
    for (name, kind, bytes) in [("e[3]", "F32", 8), ("e[2]", "F64", 8), ("d[2]", "F32", 16)] {
        let asked = format!("ML.FEATUREGET 1 h FIELDS 1 {name} AS TENSOR STRICT TYPE {kind}");
        let error = client.run(&asked).error();
        let is = format!("is {bytes} bytes, not ");
        assert!(error.contains(name) && error.contains(&is), "{kind}: {error}");
    }
    client.run("ML.FEATUREGET 1 h FIELDS 1 d[2] AS TENSOR STRICT TYPE F64").items();
}

#[test]
fn names_are_read_from_the_right_and_all_else_is_a_plain_name() {
    let server = Server::start();
    let mut client = server.client();
    let plain =
        ["e[0]", "e[01]", "e[65537]", "e[]", "e[1", "SUM(x,1)", "median(x,1)", "sum(x)", "(x,1)"];
    for (number, name) in plain.iter().enumerate() {
        call!(client, "ML.FEATURESET", "r", "FIELDS", 1, name, number).integer();
        call!(client, "HSET", "h", name, number).integer();
    }
    let expected: Vec<_> = (0..plain.len()).map(|number| bulk(number.to_string())).collect();
    for key in ["r", "h"] {
        assert_eq!(call!(client, "ML.FEATURES", key, &plain).items(), expected, "{key}");
    }
    set(&mut client, "r", "F32[1]", "e[0]", &f32s(&[2.5]));
    set(&mut client, "r", "F32[1]", "", &f32s(&[3.5]));
    let kinds = ("VIEW", "v", "TYPES", 1, "F32[1]", "FIELDS", 1, "a:b", f32s(&[4.5]));
    call!(client, "ML.FEATURESET", "r", kinds).integer();
    let asked = "ML.FEATUREGET 1 r FIELDS 3 e[0][1] [1] v:a:b[1]";
    assert_eq!(tensor(&mut client, asked).1, [2.5, 3.5, 4.5]);
    // A row takes no field that could not be read.
    let _tap = Tap::on(&server);
    let before = client.footprint();
    for name in ["e[1]", "[65536]", "count(x,1)", "min(,0.5)"] {
        for error in [
            call!(client, "ML.FEATURESET", "r", "FIELDS", 1, name, 1).error(),
            call!(client, "ML.FEATUREPUSH", "r", name, 1, "LAST", 9).error(),
        ] {
            assert!(error.contains(name), "{error}");
        }
    }
    assert_eq!(client.footprint(), before);
}

#[test]
fn widths_count_in_what_one_call_may_read() {
    let server = Server::start();
    let mut client = server.client();
    client.run("CONFIG SET ml.features-max-values 12").ok();
    assert!(!client.run("ML.FEATUREGET 2 a b FIELDS 2 e[5] x").is_error());
    for asked in ["2 a b FIELDS 2 e[6] x", "1 a FIELDS 1 e[13]", "4 a b c d FIELDS 2 x[3] y"] {
        let error = client.run(&format!("ML.FEATUREGET {asked}")).error();
        assert!(error.contains("FIELDS") && error.contains("ml.features-max-values"), "{error}");
    }
    client.run("CONFIG SET ml.features-max-values 100000000").ok();
    // As a tensor they count before anything is read.
    let wide = vec!["x[65536]"; 600];
    for kind in ["F32", "F64"] {
        let form = ["AS", "TENSOR", "TYPE", kind];
        let error = call!(client, "ML.FEATUREGET", 1, "a", "FIELDS", 600, &wide, &form).error();
        assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    }
    // Vectors of rows do as texts do.
    set(&mut client, "r", "F32[65536]", "x", &vec![0u8; 4 * 65_536]);
    let answer = call!(client, "ML.FEATURES", "r", &wide);
    assert!(answer.error().contains("ml.features-max-reply-bytes"), "{answer:?}");
    assert_eq!(call!(client, "ML.FEATURES", "r", "x[65536]").items()[0].bytes().len(), 4 * 65_536);
}

#[test]
fn a_row_of_vectors_takes_what_it_holds_and_no_more_than_a_row_may() {
    let server = Server::start();
    let mut client = server.client();
    let before: i64 = client.info("used_memory").parse().unwrap();
    for number in 0..1_000 {
        let bytes = vec![number as u8; 4 * 128];
        let kinds = ("TYPE", "F32", "DIM", 128, "FIELDS", 1, "e", bytes);
        call!(client, "ML.FEATURESET", format!("e{number}"), kinds).integer();
    }
    let after: i64 = client.info("used_memory").parse().unwrap();
    let each = (after - before) / 1_000;
    assert!(each <= 512 + 256, "{each} bytes for an entity of 512");
    let usage = client.run("MEMORY USAGE e7").integer();
    assert!((512..=each + 128).contains(&usage), "{usage} told, {each} taken");
    let fields: Vec<_> = (0..127).map(|field| format!("f{field}")).collect();
    let options = ("TYPE", "F64", "DIM", 65_536, "FIELDS", 127, &fields);
    let blob = vec![0u8; 127 * MIB / 2];
    assert_eq!(call!(client, "ML.FEATUREMSET", 1, "large", blob, options).integers(), [1]);
    let kinds = ("TYPE", "F64", "DIM", 65_536, "FIELDS", 1, "more", vec![0u8; MIB / 2]);
    let error = call!(client, "ML.FEATURESET", "large", kinds).error();
    assert!(error.contains("64 MiB"), "{error}");
    let options = ("TYPE", "F64", "DIM", 65_536, "FIELDS", 1, "more");
    let blob = vec![0u8; MIB];
    let error = call!(client, "ML.FEATUREMSET", 2, "new", "large", blob, options).error();
    assert!(error.contains("64 MiB") && client.run("EXISTS new").integer() == 0, "{error}");
}
