//! Calls of features at their bounds: rows at their largest sizes, work and memory
//! in proportion to what was sent and is stored, replies no longer than they may be.

use crate::support::{Answer, Client, Random, Server, Stop, bulk, call};
use redis::Value;

const MIB: usize = 1 << 20;

/// What was done since this was asked for the last time: bytes allocated, and the
/// most at once.
fn work(client: &mut Client) -> (usize, usize) {
    let work = client.run("ML.DEBUG WORK DONE").items();
    (work[1].integer() as usize, work[2].integer() as usize)
}

#[test]
fn rows_of_the_largest_size_are_written_again_and_again() {
    let mut server = Server::with("appendonly yes\nappendfsync always");
    let replica = server.replica(
        "ml.features-max-skew 0\nml.features-max-values 1\nml.features-max-reply-bytes 1mb",
    );
    let mut client = server.client();
    // Times, the size of slots, a type and a slot, the text's length.
    let largest = 64 * MIB - 12 - 1 - 5 - 4;
    let mut text = vec![b'x'; largest];
    for round in 0..3 {
        text[0] = b'a' + round;
        let fields = ("TYPE", "STRING", "FIELDS", 1, "t", &text);
        assert_eq!(call!(client, "ML.FEATURESET", "text", fields).integer(), 1);
        replica.catch_up(&server);
    }
    // As large with numbers beside a text, by both commands that write.
    text.truncate(64 * MIB - 12 - 1 - 9 * 9 - 4);
    let fields = ("TYPE", "STRING", "FIELDS", 1, "t", &text);
    assert_eq!(call!(client, "ML.FEATURESET", "mixed", fields).integer(), 1);
    replica.catch_up(&server);
    let names: Vec<_> = (0..8).map(|field| format!("f{field}")).collect();
    for round in 0..3u8 {
        let blob = vec![round; 8 * 8];
        let options = ("TYPE", "F64", "FIELDS", 8, &names);
        assert_eq!(call!(client, "ML.FEATUREMSET", 1, "mixed", &blob, options).integers(), [1]);
        let pairs: Vec<_> = names.iter().flat_map(|name| [name.as_str(), "0.5"]).collect();
        let fields = ("TYPE", "F64", "FIELDS", 8, pairs);
        assert_eq!(call!(client, "ML.FEATURESET", "mixed", fields).integer(), 1);
    }
    // As many fields as there can be, with names as long as some.
    let names: Vec<_> = (0..65_535).map(|field| format!("{field:0100}")).collect();
    for round in 0..3u8 {
        let blob = vec![round; 65_535 * 8];
        let options = ("TYPE", "I64", "FIELDS", 65_535, &names);
        assert_eq!(call!(client, "ML.FEATUREMSET", 1, "wide", &blob, options).integers(), [1]);
    }
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
    // One byte, or one field, more than there is room for.
    let larger = [b'x'; 1];
    let fields = ("TYPE", "STRING", "FIELDS", 1, "more", &larger[..]);
    for key in ["text", "mixed"] {
        let error = call!(client, "ML.FEATURESET", key, fields).error();
        assert!(error.contains("64 MiB"), "{error}");
    }
    let error = call!(client, "ML.FEATURESET", "wide", fields).error();
    assert!(error.contains("65535 fields"), "{error}");
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest, "after kill -9");
    assert!(!replica.log().contains("== CRITICAL =="), "{}", replica.log());
}

#[test]
fn a_row_that_a_batch_names_again_and_again_is_made_once() {
    let server = Server::start();
    let mut client = server.client();
    let text = vec![b'x'; 32 * MIB];
    call!(client, "ML.FEATURESET", "big", "TYPE", "STRING", "FIELDS", 1, "t", &text).integer();
    let keys = vec!["big"; 100];
    let blob: Vec<_> = (0..100i64).flat_map(i64::to_le_bytes).collect();
    work(&mut client);
    let options = ["TYPE", "I64", "FIELDS", "1", "n"];
    let answers = call!(client, "ML.FEATUREMSET", 100, &keys, &blob, &options);
    assert_eq!(answers.integers(), [1; 100]);
    let (allocated, most) = work(&mut client);
    assert!(allocated < 3 * 32 * MIB && most < 3 * 32 * MIB, "{allocated} allocated, {most}");
    assert_eq!(client.run("ML.FEATURES big n").texts(), ["99"], "the last one counts");
}

#[test]
fn what_is_asked_for_again_and_again_is_read_once() {
    let server = Server::start();
    let mut client = server.client();
    let digits = vec![b'7'; MIB];
    let value = [b"0.", &digits[..]].concat();
    call!(client, "HSET", "h", "f", &value).integer();
    call!(client, "ML.FEATURESET", "r", "FIELDS", 1, "f", &value).integer();
    // A hash that is passed over for any field, and has much that is not asked for.
    for field in 0..60 {
        call!(client, "HSET", "wide", format!("f{field}"), &digits[..64 << 10]).integer();
    }
    let fields = vec!["f"; 100];
    let nearest = 7.0f64 / 9.0;
    for key in ["h", "r"] {
        let keys = vec![key; 100];
        work(&mut client);
        for kind in ["F32", "F64"] {
            let options = ["AS", "TENSOR", "TYPE", kind];
            let answer =
                call!(client, "ML.FEATUREGET", 100, &keys, "FIELDS", 100, &fields, &options);
            let items = answer.items();
            assert_eq!(items[4].bytes(), [1; 10_000]);
            let data = items[3].bytes();
            match kind {
                "F32" => assert!(data.chunks(4).all(|one| one == (nearest as f32).to_le_bytes())),
                _ => assert!(data.chunks(8).all(|one| one == nearest.to_le_bytes())),
            }
        }
        let (allocated, _) = work(&mut client);
        assert!(allocated < 8 * MIB, "{key}: {allocated} bytes for 1 MiB and its answers");
    }
    let keys = vec!["wide"; 200];
    let fields: Vec<_> = (0..60).map(|field| format!("f{field}")).collect();
    work(&mut client);
    let options = ["AS", "TENSOR"];
    let answer = call!(client, "ML.FEATUREGET", 200, &keys, "FIELDS", 60, &fields, &options);
    assert_eq!(answer.items()[4].bytes(), [0; 200 * 60], "out of range");
    let (allocated, _) = work(&mut client);
    assert!(allocated < 20 * MIB, "{allocated} bytes for 4 MiB");
    // A default, too, is read once.
    let fields = vec!["none"; 20_000];
    let mut tensor = |default: &[u8]| {
        let options = ("AS", "TENSOR", "TYPE", "F64", "DEFAULT", default);
        call!(client, "ML.FEATUREGET", 1, "h", "FIELDS", 20_000, &fields, options).items()
    };
    assert!(tensor(&value)[3].bytes().chunks(8).all(|one| one == nearest.to_le_bytes()));
}

#[test]
fn an_entity_that_comes_again_is_answered_and_counted_as_often() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("FLUSHALL").ok();
        let long = vec![b'y'; 6_000];
        call!(client, "HSET", "h", "a", "1", "b", &long).integer();
        let set = ("TYPES", 2, "I64", "STRING", "FIELDS", 2, "a", 1, "b", &long);
        call!(client, "ML.FEATURESET", "r", set).integer();
        let counts = |client: &mut Client| {
            ["found", "missing"]
                .map(|what| client.info(&format!("ml_features_{what}")).parse::<u64>().unwrap())
        };
        for order in [["h", "r", "h", "none", "r", "h"], ["r", "r", "h", "h", "none", "h"]] {
            for options in ["", "WITHTIMES", "AS JSON", "AS TENSOR", "AS TENSOR WITHTIMES"] {
                let before = counts(&mut client);
                let options: Vec<_> = options.split_whitespace().collect();
                let asked = ("FIELDS", 4, "b", "a", "none", "b");
                let whole = call!(client, "ML.FEATUREGET", 6, &order, asked, &options);
                let after = counts(&mut client);
                // A document has each field once.
                let counted = if options.contains(&"JSON") { [10, 8] } else { [15, 9] };
                assert_eq!([after[0] - before[0], after[1] - before[1]], counted, "{options:?}");
                let each: Vec<_> = order
                    .iter()
                    .map(|key| call!(client, "ML.FEATUREGET", 1, *key, asked, &options))
                    .collect();
                let same = match (options.contains(&"TENSOR"), options.contains(&"JSON")) {
                    (true, _) => (3..whole.items().len()).all(|part| {
                        let parts = each.iter().flat_map(|one| one.items()[part].bytes());
                        whole.items()[part].bytes() == parts.collect::<Vec<_>>()
                    }),
                    (_, true) => {
                        let each = each.iter().map(|one| {
                            let text = one.text();
                            text[1..text.len() - 1].to_owned()
                        });
                        whole.text() == format!("[{}]", each.collect::<Vec<_>>().join(","))
                    }
                    _ if options.is_empty() => {
                        let each = each.iter().map(|one| one.items()[0].clone());
                        whole.items() == each.collect::<Vec<_>>()
                    }
                    _ => (0..2).all(|part| {
                        let each = each.iter().map(|one| one.items()[part].items()[0].clone());
                        whole.items()[part].items() == each.collect::<Vec<_>>()
                    }),
                };
                assert!(same, "{order:?} {options:?}");
            }
        }
    }
}

#[test]
fn a_reply_is_no_longer_than_it_may_be_and_nothing_is_held_for_it() {
    let server = Server::start();
    let mut client = server.client();
    let name = vec![b'n'; 100_000];
    let keys: Vec<_> = (0..2_000).map(|key| format!("k{key}")).collect();
    let value = vec![b'v'; 100_000];
    call!(client, "HSET", "h", "f", &value, "t", vec![0u8; 22 * MIB]).integer();
    call!(client, "ML.FEATURESET", "r", "FIELDS", 1, "f", &value).integer();
    let again = vec!["f"; 20_000];
    work(&mut client);
    let refused = |client: &mut Client, answer: Value, what: &str| {
        let error = answer.error();
        assert!(error.contains("ml.features-max-reply-bytes"), "{what}: {error}");
        let (_, most) = work(client);
        // Twice while it grows.
        assert!(most < 280 * MIB, "{what}: {most} bytes were held");
        assert_eq!(client.run("PING").text(), "PONG", "{what}");
    };
    let json = ["AS", "JSON"];
    let answer = call!(client, "ML.FEATUREGET", 2_000, &keys, "FIELDS", 1, &name, &json);
    refused(&mut client, answer, "names of JSON");
    for key in ["h", "r"] {
        let answer = call!(client, "ML.FEATUREGET", 1, key, "FIELDS", 20_000, &again);
        refused(&mut client, answer, "values");
        let answer = call!(client, "ML.FEATURES", key, &again);
        refused(&mut client, answer, "ML.FEATURES");
        let keys = vec![key; 2_000];
        let answer = call!(client, "ML.FEATUREGET", 2_000, &keys, "FIELDS", 1, "f");
        refused(&mut client, answer, "keys");
        let answer = call!(client, "ML.FEATUREGET", 2_000, &keys, "FIELDS", 1, "f", &json);
        refused(&mut client, answer, "keys of JSON");
    }
    let answer = call!(client, "ML.FEATUREGET", 1, "h", "FIELDS", 1, "t", &json);
    refused(&mut client, answer, "what is escaped");
    for form in ["VALUES", "JSON"] {
        let options = ("DEFAULT", &value, "AS", form);
        let answer = call!(client, "ML.FEATUREGET", 2_000, &keys, "FIELDS", 1, "f", options);
        refused(&mut client, answer, "defaults");
    }
    // What is raised holds at once.
    client.run("CONFIG SET ml.features-max-reply-bytes 1gb").ok();
    let answer = call!(client, "ML.FEATUREGET", 1, "h", "FIELDS", 1, "t", &json);
    assert_eq!(answer.bytes().len(), b"[{\"t\":\"\"}]".len() + 6 * 22 * MIB);
    client.run("CONFIG SET ml.features-max-reply-bytes 1mb").ok();
    let tensor = ["AS", "TENSOR", "TYPE", "F64"];
    let many = vec!["f"; 100];
    work(&mut client);
    let answer = call!(client, "ML.FEATUREGET", 2_000, &keys, "FIELDS", 100, &many, &tensor);
    refused(&mut client, answer, "a tensor");
}

#[test]
fn what_is_asked_for_once_is_answered_as_hgetall_does() {
    let server = Server::with("ml.features-max-reply-bytes 1mb");
    let mut client = server.client();
    let value = vec![b'v'; MIB];
    let fields: Vec<_> = (0..20).map(|field| format!("f{field}")).collect();
    for field in &fields {
        call!(client, "HSET", "h", field, &value).integer();
        call!(client, "ML.FEATURESET", "r", "FIELDS", 1, field, &value).integer();
    }
    for key in ["h", "r"] {
        let values = call!(client, "ML.FEATURES", key, &fields).items();
        assert!(values.len() == 20 && values.iter().all(|one| *one == bulk(&value)), "{key}");
        let all = call!(client, "ML.FEATUREGETALL", key).map();
        assert!(fields.iter().all(|field| all[field] == bulk(&value)) && all.len() == 20);
        let twice = call!(client, "ML.FEATURES", key, &fields, "f0");
        assert!(twice.error().contains("ml.features-max-reply-bytes"), "{key}");
    }
    // The name of a view stands before each of its fields.
    let view = "v".repeat(60_000);
    let blob = vec![0u8; 40 * 4];
    let fields: Vec<_> = (0..40).map(|field| format!("g{field}")).collect();
    let options = ("TYPE", "F32", "FIELDS", 40, &fields, "VIEW", &view);
    call!(client, "ML.FEATUREMSET", 1, "viewed", blob, options).integers();
    let error = call!(client, "ML.FEATUREGETALL", "viewed").error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    assert_eq!(call!(client, "ML.FEATUREGETALL", "viewed", "VIEW", &view).map().len(), 40);
}

#[test]
fn names_are_looked_for_in_so_many_entities_only() {
    let server = Server::start();
    let mut client = server.client();
    call!(client, "HSET", "h", "f", vec![b'v'; 65]).integer();
    for field in ["g", "i"] {
        call!(client, "ML.FEATURESET", field, "FIELDS", 1, field, 1).integer();
    }
    let name = vec![b'n'; MIB];
    for key in ["h", "g"] {
        let asked = ("FIELDS", 2, "f", &name);
        let few = call!(client, "ML.FEATUREGET", 100, vec![key; 100], asked).items();
        assert!(few.len() == 100 && few.iter().all(|one| one.items()[1] == Value::Nil));
        let error = call!(client, "ML.FEATUREGET", 200, vec![key; 200], asked).error();
        assert!(
            error.contains("FIELDS") && error.contains("ml.features-max-reply-bytes"),
            "{error}"
        );
    }
    // A name may have a colon anywhere.
    let (view, field) = ("v".repeat(65_535), "f".repeat(65_535));
    call!(client, "ML.FEATURESET", "r", "VIEW", &view, "FIELDS", 1, &field, 7).integer();
    let names = [format!("{view}:{field}"), format!("{view}v:{field}"), format!("{view}:{field}f")];
    let values = call!(client, "ML.FEATURES", "r", &names).items();
    assert_eq!(values, [bulk("7"), Value::Nil, Value::Nil]);
}

#[test]
fn a_view_of_a_long_name_is_written_moved_and_read_as_any_other() {
    let server = Server::start();
    let mut client = server.client();
    let view = "v".repeat(60_000);
    let fields: Vec<_> = (0..5_000).map(|field| format!("f{field}")).collect();
    let options = ("TYPE", "F32", "FIELDS", 5_000, &fields, "VIEW", &view);
    call!(client, "ML.FEATUREMSET", 1, "r", vec![0u8; 4 * 5_000], options).integers();
    for (field, view) in [("new", view.clone()), ("f17", view.clone()), ("f1", format!("{view}w"))]
    {
        call!(client, "ML.FEATURESET", "r", "VIEW", view, "FIELDS", 1, field, 5).integer();
    }
    assert_eq!(
        call!(client, "ML.FEATUREDEL", "r", "FIELDS", 1, format!("{view}:f18")).integer(),
        1
    );
    let dump = call!(client, "DUMP", "r").bytes();
    let digest = client.digest();
    client.run("DEL r").integer();
    call!(client, "RESTORE", "r", 0, &dump).ok();
    assert_eq!(client.digest(), digest);
    work(&mut client);
    let error = call!(client, "ML.FEATUREGETALL", "r").error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    let (allocated, _) = work(&mut client);
    assert!(allocated < MIB, "{allocated} bytes");
    let all = call!(client, "ML.FEATUREGETALL", "r", "VIEW", &view).map();
    assert!(all.len() == 5_000 && all["new"] == bulk("5") && all["f17"] == bulk("5"));
    // What the default view hides is left out, whatever else is there.
    let hides = format!("{view}:f3");
    call!(client, "ML.FEATURESET", "r2", "VIEW", &view, "FIELDS", 2, "f3", 1, "f4", 2).integer();
    call!(client, "ML.FEATURESET", "r2", "FIELDS", 2, &hides, 3, "f4", 4).integer();
    let all = call!(client, "ML.FEATUREGETALL", "r2").map();
    assert_eq!(all.len(), 3);
    assert_eq!([&all[&hides], &all["f4"]], [&bulk("3"), &bulk("4")]);
    assert_eq!(all[&format!("{view}:f4")], bulk("2"));
}

#[test]
fn a_batch_does_not_multiply_names_by_rows() {
    let server = Server::start();
    let mut client = server.client();
    for key in 0..300 {
        call!(client, "ML.FEATURESET", format!("r{key}"), "FIELDS", 1, format!("f{key}"), 1)
            .integer();
    }
    let digest = client.digest();
    let keys: Vec<_> = (0..300).map(|key| format!("r{key}")).collect();
    let name = "n".repeat(60_000);
    let blob = vec![0u8; 300 * 4];
    work(&mut client);
    let options = ("TYPE", "F32", "FIELDS", 1, &name);
    let error = call!(client, "ML.FEATUREMSET", 300, &keys, &blob, options).error();
    assert!(error.contains("FIELDS"), "{error}");
    assert_eq!(client.digest(), digest, "nothing is written");
    let (_, most) = work(&mut client);
    assert!(most < 18 * MIB, "{most} bytes");
    assert_eq!(client.info("ml_features_layouts"), "300");
    // Fewer can be, and any number of rows that come to the same fields.
    let answers = call!(client, "ML.FEATUREMSET", 100, &keys[..100], &blob[..400], options);
    assert_eq!(answers.integers(), [1; 100]);
    let options = ("TYPE", "F32", "FIELDS", 1, &name, "REPLACE");
    let answers = call!(client, "ML.FEATUREMSET", 300, &keys, &blob, options);
    assert_eq!(answers.integers(), [1; 300]);
    assert_eq!(client.info("ml_features_layouts"), "1");
}

#[test]
fn what_is_held_for_a_reply_is_bounded_in_every_form() {
    let server = Server::with("ml.features-max-reply-bytes 1mb");
    let mut client = server.client();
    let fields: Vec<_> = (0..80).map(|field| format!("f{field}")).collect();
    for field in &fields {
        for key in ["few", "many"] {
            call!(client, "HSET", key, field, vec![b'7'; 100_000]).integer();
        }
    }
    // One is read in a pass, the other by look-ups.
    let more: Vec<_> = (0..600).flat_map(|field| [format!("g{field}"), "1".into()]).collect();
    call!(client, "HSET", "many", &more).integer();
    for key in ["few", "many"] {
        for form in ["VALUES", "JSON", "TENSOR"] {
            for again in [0, 1] {
                let asked = ("FIELDS", 80 + again, &fields, &fields[..again], "AS", form);
                work(&mut client);
                let error = call!(client, "ML.FEATUREGET", 1, key, asked).error();
                assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
                let (_, most) = work(&mut client);
                assert!(most < 3 * MIB, "{key} as {form}: {most} bytes were held");
            }
        }
        let asked = ("FIELDS", 5, &fields[..5], "AS", "TENSOR");
        let answer = call!(client, "ML.FEATUREGET", 1, key, asked).items();
        assert_eq!(answer[4].bytes(), [0; 5], "out of range");
    }
    // What is escaped is six times as long.
    let default = vec![0u8; 2 * MIB];
    let error =
        call!(client, "ML.FEATUREGET", 1, "h", "FIELDS", 1, "f", "AS", "JSON", "DEFAULT", &default);
    assert!(error.clone().error().contains("ml.features-max-reply-bytes"), "{error:?}");
    let (_, most) = work(&mut client);
    assert!(most < 3 * MIB, "{most} bytes were held");
    // An event time counts, too.
    let keys = vec!["none"; 25_000];
    let asked = ("FIELDS", 1, "f");
    assert_eq!(call!(client, "ML.FEATUREGET", 25_000, &keys, asked).items().len(), 25_000);
    let error = call!(client, "ML.FEATUREGET", 25_000, &keys, asked, "WITHTIMES").error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
}

/// Whatever the number of views that a row has, of which few are asked for.
#[test]
fn a_row_of_many_views_is_read_by_those_that_are_asked_for() {
    let server = Server::start();
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    for view in 0..2_000 {
        let options = ("VIEW", format!("v{view}"), "PX", if view % 2 == 0 { 50 } else { 5_000 });
        call!(client, "ML.FEATURESET", "r", options, "FIELDS", 1, "f", view).integer();
    }
    client.freeze(now_us + 1_000_000);
    let keys = vec!["r"; 10_000];
    work(&mut client);
    let asked = ("FIELDS", 2, "v7:f", "v8:f", "AS", "TENSOR", "TYPE", "I64", "DEFAULT", -1);
    let answer = call!(client, "ML.FEATUREGET", 10_000, &keys, asked).items();
    let row = [7i64, -1].iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<_>>();
    assert!(answer[3].bytes().chunks(16).all(|one| one == row));
    let (allocated, _) = work(&mut client);
    assert!(allocated < 10_000 * 100, "{allocated} bytes");
}

#[test]
fn layouts_leave_nothing_behind() {
    let server = Server::start();
    let mut client = server.client();
    client.run("DEBUG SET-ACTIVE-EXPIRE 0").ok();
    let used = |client: &mut Client| client.info("used_memory").parse::<usize>().unwrap();
    let mut random = Random::new(5);
    let mut fill = |client: &mut Client| {
        for first in (0..60_000).step_by(1_000) {
            let calls: Vec<_> = (first..first + 1_000)
                .map(|number| {
                    let mut command = redis::cmd("ML.FEATURESET");
                    let field = format!("{number}:{}", random.next());
                    command.arg(format!("r{number}")).arg("FIELDS").arg(1).arg(field).arg(1);
                    command
                })
                .collect();
            assert!(client.pipeline(&calls).iter().all(|answer| !answer.is_error()));
        }
    };
    client.run("ML.FEATURESET warm FIELDS 1 f 1").integer();
    client.run("FLUSHALL SYNC").ok();
    let before = used(&mut client);
    fill(&mut client);
    assert_eq!(client.info("ml_features_layouts"), "60000");
    let told: usize = client.info("ml_features_layout_bytes").parse().unwrap();
    // A row of one integer is a block of 32 bytes at most; the rest is the server's.
    assert!(told > 60_000 * 100, "{told} bytes told");
    client.run("FLUSHALL SYNC").ok();
    assert_eq!(client.info("ml_features_layout_bytes"), "0");
    let left = used(&mut client).saturating_sub(before);
    assert!(left < 2 * MIB, "{left} bytes are left");
}

/// A number as payloads have it.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A name of a field or view that is short, and of those of a length sorted by number.
fn short(number: usize) -> Vec<u8> {
    let bytes = (number as u32).to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(1)..];
    [&[bytes.len() as u8], bytes].concat()
}

#[test]
fn no_payload_takes_many_times_its_length_of_memory() {
    let server = Server::start();
    let mut client = server.client();
    let many = 65_535;
    let one_view = |fields: usize| {
        let names = (0..fields).flat_map(short);
        let head = [vec![2, 1, 0], number(fields)].concat();
        [head, names.collect(), vec![5, 0]].concat()
    };
    let views = |views: usize| -> Vec<u8> {
        // No view's name has a colon in it.
        let name = |view: usize| format!("{view:05}").into_bytes();
        let each = |view| [&[5][..], &name(view), &[1, 0, 5, 0]].concat();
        [vec![2], number(views), (0..views).flat_map(each).collect()].concat()
    };
    let empty_texts = vec![0; 2 * many];
    let f32s: Vec<u8> = (0..many).flat_map(|_| [2, 0, 0, 0, 0]).collect();
    let long = [vec![4], number(60 * MIB), vec![b'x'; 60 * MIB]].concat();
    let loads = [
        ("many fields", [one_view(many), empty_texts.clone()].concat()),
        ("many F32", [one_view(many), f32s].concat()),
        ("many views", [views(many), empty_texts].concat()),
        ("fields that are not there", [vec![2, 1, 0], number(many), vec![0; many]].concat()),
        ("views that are not there", [vec![2], number(usize::MAX >> 1), vec![1; many]].concat()),
        ("a long text", [one_view(1), long].concat()),
    ];
    for (what, payload) in loads {
        work(&mut client);
        let answer = call!(client, "ML.LOADFEATURE", "r", &payload);
        let (allocated, most) = work(&mut client);
        let bound = 6 * payload.len() + 8 * MIB;
        assert!(most < bound, "{what}: {most} bytes for {} ({answer:?})", payload.len());
        assert!(allocated < 2 * bound, "{what}: {allocated} bytes for {}", payload.len());
        call!(client, "DEL", "r");
    }
    client.run("ML.FEATURESET r FIELDS 1 f 1").integer();
    let put = [vec![2, 1, 0, 0], number(many), (0..many).flat_map(short).collect()].concat();
    let changes = [
        ("many fields", [put, vec![5, 0], vec![0; 2 * many]].concat()),
        ("names to remove", [vec![2, 5, 0], number(MIB), vec![0; 2 * MIB]].concat()),
        ("names without end", [vec![2, 5, 0], number(many), vec![0; 8 * MIB]].concat()),
        ("fields that are not there", [vec![2, 1, 0, 0], number(many), vec![0; many]].concat()),
    ];
    for (what, payload) in changes {
        work(&mut client);
        let answer = call!(client, "ML.APPLYROW", &payload, "r");
        let (_, most) = work(&mut client);
        let bound = 6 * payload.len() + 8 * MIB;
        assert!(most < bound, "{what}: {most} bytes for {} ({answer:?})", payload.len());
    }
}
