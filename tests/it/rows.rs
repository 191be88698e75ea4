//! ML.FEATURESET and its kin: rows, their views, event times and times to live.
//! Reading rows of any content is in rows_model.rs.

use crate::support::{
    Answer, Client, Events, Random, Server, Setup, Tap, bulk, call, nils, wait_for,
};
use redis::Value;
use std::collections::HashMap;

/// A tensor of doubles: its values, and their statuses.
fn tensor(client: &mut Client, call: &str) -> (Vec<f64>, Vec<u8>) {
    let items = client.run(&format!("{call} AS TENSOR TYPE F64")).items();
    let (data, status) = (items[3].bytes(), items[4].bytes());
    let values = data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()));
    (values.collect(), status)
}

/// What ML.FEATUREINFO tells of each view: its event time, its time to live, and
/// the types of its fields.
type Views = HashMap<String, (i64, i64, HashMap<String, String>)>;

fn views(client: &mut Client, key: &str) -> Views {
    let info = call!(client, "ML.FEATUREINFO", key).map();
    let views = info["views"].items().into_iter().map(|view| {
        let view = view.map();
        let fields = view["fields"].items().into_iter().map(|pair| {
            let [name, kind] = &pair.texts()[..] else { panic!("not a pair: {pair:?}") };
            (name.clone(), kind.clone())
        });
        let term = (view["at_ms"].integer(), view["ttl_ms"].integer());
        (view["view"].text(), (term.0, term.1, fields.collect()))
    });
    views.collect()
}

fn layouts(client: &mut Client) -> u64 {
    client.info("ml_features_layouts").parse().unwrap()
}

/// An event time.
const AT: u64 = 1_700_000_000_000;

// ---- What a row is.

#[test]
fn the_article_s_user_is_read_from_a_row_as_from_a_hash() {
    let server = Server::start();
    let mut client = server.client();
    let user = "avg_order 84.50 n_sessions 12 tier gold";
    client.run(&format!("HSET user:123 {user}")).integer();
    client.run(&format!("ML.FEATURESET user:124 FIELDS 3 {user}")).integer();
    for key in ["user:123", "user:124"] {
        let answer = client.run(&format!("ML.FEATURES {key} tier avg_order n_sessions country"));
        let expected = [bulk("gold"), bulk("84.50"), bulk("12"), Value::Nil];
        assert_eq!(answer, Value::Array(expected.to_vec()), "{key}");
    }
}

#[test]
fn resp3_has_integers_and_doubles_and_resp2_their_text() {
    let server = Server::start();
    let (mut two, mut three) = (server.client(), server.client3());
    two.run("ML.FEATURESET r FIELDS 4 i -7 d 0.5 t 84.50 big 9223372036854775807").integer();
    two.run("ML.FEATURESET r VIEW s TYPE F32 FIELDS 3 tenth 0.1 nan nan inf -inf").integer();
    let asked = "r i d t big s:tenth s:inf s:nan x";
    let texts = [Some("-7"), Some("0.5"), Some("84.50"), Some("9223372036854775807"), Some("0.1")];
    let texts = texts.into_iter().chain([Some("-inf"), Some("nan"), None]);
    let texts: Vec<_> = texts.map(|text| text.map_or(Value::Nil, bulk)).collect();
    assert_eq!(two.run(&format!("ML.FEATURES {asked}")), Value::Array(texts.clone()));
    let values = "ML.FEATUREGET 1 r FIELDS 8 i d t big s:tenth s:inf s:nan x";
    assert_eq!(two.run(values).items(), [Value::Array(texts)]);
    for items in [three.run(&format!("ML.FEATURES {asked}")), three.run(values).items()[0].clone()]
    {
        let items = items.items();
        let expected = [
            Value::Int(-7),
            Value::Double(0.5),
            bulk("84.50"),
            Value::Int(i64::MAX),
            Value::Double(0.1),
            Value::Double(f64::NEG_INFINITY),
        ];
        assert_eq!(items[..6], expected);
        assert!(matches!(items[6], Value::Double(nan) if nan.is_nan()));
        assert_eq!(items[7], Value::Nil);
    }
}

#[test]
fn a_write_merges_like_hset_and_the_last_of_a_name_counts() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r FIELDS 3 a 1 b 2 a 3").integer();
    client.run("ML.FEATURESET r FIELDS 2 c 4 b five").integer();
    assert_eq!(client.run("ML.FEATURES r a b c").texts(), ["3", "five", "4"]);
    client.run("ML.FEATURESET r VIEW v FIELDS 1 a 6").integer();
    assert_eq!(client.run("ML.FEATURES r a v:a").texts(), ["3", "6"]);
    let blob: Vec<_> = [1f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let fields = ["TYPE", "F32", "FIELDS", "3", "z", "b", "z"];
    assert_eq!(call!(client, "ML.FEATUREMSET", 1, "r", blob, &fields).integers(), [1]);
    assert_eq!(client.run("ML.FEATURES r z b").texts(), ["3.0", "2.0"]);
}

#[test]
fn a_name_is_looked_up_whole_in_the_default_view_first() {
    let server = Server::start();
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    client.run("ML.FEATURESET r VIEW v FIELDS 3 a view b:c deep  empty").integer();
    client.run("ML.FEATURESET r PX 1000 FIELDS 2 v:a whole  nameless").integer();
    let asked = "ML.FEATURES r v:a v:b:c v:  b:c :a v";
    let expected = [bulk("whole"), bulk("deep"), bulk("empty"), bulk("nameless")];
    let expected = expected.into_iter().chain([Value::Nil, Value::Nil, Value::Nil]).collect();
    assert_eq!(client.run(asked), Value::Array(expected));
    // A view that expired hides nothing.
    client.freeze(now_us + 1_000_000);
    assert_eq!(client.run("ML.FEATURES r v:a").texts(), ["view"]);
    assert_eq!(client.run("ML.FEATUREGET 1 r FIELDS 1 v:a").items()[0].texts(), ["view"]);
    // On a hash names are literal.
    client.run("HSET h v:a 1 a 2");
    assert_eq!(client.run("ML.FEATURES h v:a a").texts(), ["1", "2"]);
}

#[test]
fn names_hidden_by_a_view_that_expired_are_read_as_fast_as_others() {
    let server = Server::start();
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    client.run("ML.FEATURESET r VIEW v FIELDS 1 a 1").integer();
    client.run("ML.FEATURESET r PX 50 FIELDS 1 v:a 2").integer();
    client.freeze(now_us + 50_000);
    // Quadratic, this would take minutes, and the client would give up.
    let names = vec!["v:a"; 300_000];
    let values = call!(client, "ML.FEATURES", "r", &names).items();
    assert!(values.len() == 300_000 && values.iter().all(|value| *value == bulk("1")));
}

#[test]
fn auto_keeps_what_was_written_and_types_what_prints_back() {
    let server = Server::start();
    let mut client = server.client();
    let table = [
        ("12", "I64"),
        ("-9223372036854775808", "I64"),
        ("9007199254740993", "I64"),
        ("12.5", "F64"),
        ("5.0", "F64"),
        ("-0.0", "F64"),
        ("5e-324", "F64"),
        ("2e-6", "F64"),
        ("0.00002", "F64"),
        ("1e+16", "F64"),
        ("84.50", "STRING"),
        ("007", "STRING"),
        ("1e5", "STRING"),
        ("1e400", "STRING"),
        ("18446744073709551615", "STRING"),
        ("0x10", "STRING"),
        ("1_000", "STRING"),
        ("nan", "STRING"),
        ("inf", "STRING"),
        ("", "STRING"),
        ("gold", "STRING"),
    ];
    for (number, (text, _)) in table.iter().enumerate() {
        let key = ["one", "two"][number % 2];
        call!(client, "ML.FEATURESET", key, "FIELDS", 1, format!("f{number}"), text).integer();
        call!(client, "ML.FEATURESET", "all", "FIELDS", 1, format!("f{number}"), text).integer();
    }
    let fields: Vec<_> = (0..table.len()).map(|number| format!("f{number}")).collect();
    let texts = call!(client, "ML.FEATURES", "all", &fields).texts();
    assert_eq!(texts, table.map(|(text, _)| text));
    let kinds = &views(&mut client, "all")[""].2;
    for (field, (text, kind)) in fields.iter().zip(table) {
        assert_eq!(kinds[field], kind, "{text:?}");
    }
}

#[test]
fn what_is_missing_is_told_from_nan_and_the_infinities() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r TYPE F64 FIELDS 4 nan nan inf inf low -inf one 1").integer();
    client.run("ML.FEATURESET r TYPE STRING FIELDS 1 text nan").integer();
    let asked = "ML.FEATUREGET 2 r nobody FIELDS 6 nan inf low one text missing";
    let values = client.run(asked).items();
    let row = values[0].items();
    let present = ["nan", "inf", "-inf", "1.0", "nan"].map(bulk);
    assert_eq!(row[..5], present);
    assert_eq!((&row[5], &values[1]), (&Value::Nil, &nils(6)));
    let (values, status) = tensor(&mut client, asked);
    assert_eq!(status, [1, 1, 1, 1, 0, 3, 3, 3, 3, 3, 3, 3]);
    assert!(values[0].is_nan() && values[4].is_nan() && values[5].is_nan());
    assert_eq!(values[1..4], [f64::INFINITY, f64::NEG_INFINITY, 1.0]);
    let json = client.run(&format!("{asked} AS JSON")).text();
    assert_eq!(
        json,
        "[{\"nan\":null,\"inf\":null,\"low\":null,\"one\":1.0,\"text\":\"nan\",\"missing\":null},\
         {\"nan\":null,\"inf\":null,\"low\":null,\"one\":null,\"text\":null,\"missing\":null}]"
    );
    // A number stays itself; a default is for what is none.
    let (values, _) = tensor(&mut client, &format!("{asked} DEFAULT 7"));
    assert!(values[0].is_nan());
    assert_eq!(values[4..6], [7.0, 7.0]);
    let integers = client.run(&format!("{asked} DEFAULT 7 AS TENSOR TYPE I64")).items();
    assert_eq!(integers[4].bytes(), [0, 0, 0, 1, 0, 3, 3, 3, 3, 3, 3, 3]);
}

/// The names that a 32-bit hash, murmur3, takes for one (feast-dev/feast).
#[test]
fn names_that_hash_alike_are_two_fields() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r VIEW driver_stats FIELDS 2 f28328 1 f104172 2").integer();
    let answer = client.run("ML.FEATURES r driver_stats:f104172 driver_stats:f28328");
    assert_eq!(answer.texts(), ["2", "1"]);
}

// ---- Event time.

#[test]
fn a_batch_written_newest_first_leaves_the_newest() {
    let server = Server::start();
    let mut client = server.client();
    for (at, written) in [(300, 1), (100, 0), (200, 0), (300, 1), (299, 0), (301, 1)] {
        let at_ms = AT + at;
        let answer = client.run(&format!("ML.FEATURESET r AT {at_ms} FIELDS 1 f {at}"));
        assert_eq!(answer.integer(), written, "{at}");
    }
    assert_eq!(client.run("ML.FEATURES r f").texts(), ["301"]);
    // The same in batches, of rows of which only some hold something newer.
    client.run("ML.FEATURESET s AT 1700000000500 FIELDS 1 g kept").integer();
    let answer =
        client.run("ML.FEATUREMSET 3 r s t 123456781234 TYPE F32 FIELDS 1 g AT 1700000000400");
    assert_eq!(answer.integers(), [1, 0, 1]);
    assert_eq!(client.run("ML.FEATURES s g").texts(), ["kept"]);
}

#[test]
fn the_event_at_the_epoch_is_not_taken_for_none() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.run("ML.FEATURESET r AT 0 FIELDS 1 f 0").integer(), 1);
    assert_eq!(views(&mut client, "r")[""].0, 0);
    assert_eq!(client.run("ML.FEATURESET r AT 1700000000001 FIELDS 1 f 1").integer(), 1);
    assert_eq!(client.run("ML.FEATURESET r AT 0 FIELDS 1 f 2").integer(), 0);
    assert_eq!(client.run("ML.FEATURES r f").texts(), ["1"]);
}

#[test]
fn an_equal_event_time_is_written_and_renews_the_ttl() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r AT 1700000000005 EX 10 FIELDS 1 f 1").integer();
    assert_eq!(client.run("ML.FEATURESET r AT 1700000000005 EX 1000 FIELDS 1 f 2").integer(), 1);
    assert_eq!(client.run("ML.FEATURES r f").texts(), ["2"]);
    assert!(views(&mut client, "r")[""].1 > 900_000);
    assert!(client.run("TTL r").integer() > 900);
}

#[test]
fn an_event_time_may_be_only_so_far_ahead() {
    let server = Server::start();
    let mut client = server.client();
    let now_ms = client.freeze_ahead() / 1000;
    let mut at = |skew_s: u64, ms: u64| {
        client.run(&format!("CONFIG SET ml.features-max-skew {skew_s}")).ok();
        let at = now_ms + skew_s * 1000 + ms;
        let answer = client.run(&format!("ML.FEATURESET skew{skew_s} AT {at} FIELDS 1 f 1"));
        if answer.is_error() { answer.error() } else { answer.integer().to_string() }
    };
    for skew_s in [0, 5, 86_400] {
        let error = at(skew_s, 1);
        assert!(error.contains("AT") && error.contains("ml.features-max-skew"), "{error}");
        assert_eq!(at(skew_s, 0), "1");
    }
    // One that is ahead keeps nobody out who gives no time.
    assert_eq!(client.run("ML.FEATURESET skew86400 FIELDS 1 f 2").integer(), 1);
    assert_eq!(views(&mut client, "skew86400")[""].0 as u64, now_ms + 86_400_000);
    assert_eq!(client.run("ML.FEATURES skew86400 f").texts(), ["2"]);
}

#[test]
fn of_eight_writers_out_of_order_the_newest_event_stays() {
    const LAST: u64 = 150;
    let server = Server::start();
    for seed in Random::seeds() {
        server.client().run("FLUSHALL").ok();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let mut client = server.client();
                scope.spawn(move || {
                    let mut random = Random::new(seed.wrapping_add(writer));
                    // Each event comes from every writer.
                    let mut times: Vec<_> = (0..=LAST).collect();
                    for last in (1..times.len()).rev() {
                        times.swap(last, random.below(last as u64 + 1) as usize);
                    }
                    for at in times {
                        for view in ["", "v"] {
                            if random.below(2) == 0 {
                                let blob = [at.to_le_bytes(); 4].concat();
                                let options = ["TYPE", "I64", "FIELDS", "2", "f", "g"];
                                let time = ("VIEW", view, "AT", AT + at);
                                call!(client, "ML.FEATUREMSET", 2, "r", "s", blob, &options, time)
                                    .integers();
                            } else {
                                for key in ["s", "r"] {
                                    let fields = ("FIELDS", 2, "g", at, "f", at);
                                    call!(
                                        client,
                                        "ML.FEATURESET",
                                        key,
                                        "VIEW",
                                        view,
                                        "AT",
                                        AT + at,
                                        fields
                                    )
                                    .integer();
                                }
                            }
                        }
                    }
                });
            }
        });
        let mut client = server.client();
        for key in ["r", "s"] {
            let values = call!(client, "ML.FEATURES", key, "f", "g", "v:f", "v:g").texts();
            assert_eq!(
                values,
                [LAST.to_string(), LAST.to_string(), LAST.to_string(), LAST.to_string()],
                "seed {seed}"
            );
            assert!(views(&mut client, key).values().all(|view| view.0 == (AT + LAST) as i64));
        }
        let late: u64 = client.info("ml_features_late").parse().unwrap();
        assert!(late > 1_000, "{late} came late: too little disorder");
    }
}

// ---- Times to live.

#[test]
fn a_view_past_its_ttl_is_not_found_however_hot_another_is() {
    let server = Server::start();
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    client.run("ML.FEATURESET r VIEW cold PX 1000 AT 1700000000077 FIELDS 2 a 1 b 2").integer();
    client.run("ML.FEATURESET r VIEW hot FIELDS 1 c 3").integer();
    let asked = "ML.FEATURES r cold:a cold:b hot:c";
    client.freeze(now_us + 999_000);
    assert_eq!(client.run(asked).texts(), ["1", "2", "3"]);
    client.freeze(now_us + 1_000_000);
    let expected = Value::Array(vec![Value::Nil, Value::Nil, bulk("3")]);
    assert_eq!(client.run(asked), expected);
    let call = "ML.FEATUREGET 1 r FIELDS 3 cold:a cold:b hot:c";
    assert_eq!(tensor(&mut client, call).1, [3, 3, 1]);
    let json = client.run(&format!("{call} AS JSON")).text();
    assert_eq!(json, "[{\"cold:a\":null,\"cold:b\":null,\"hot:c\":3}]");
    assert_eq!(views(&mut client, "r").into_keys().collect::<Vec<_>>(), ["hot"]);
    assert_eq!(client.run("ML.FEATUREDEL r VIEW cold").integer(), 0);
    // Writing to one view does not keep another alive, and its event time went too.
    client.run("ML.FEATURESET r VIEW hot FIELDS 1 c 4").integer();
    assert_eq!(client.run("ML.FEATURES r cold:a hot:c").items(), [Value::Nil, bulk("4")]);
    assert_eq!(client.run("ML.FEATURESET r VIEW cold AT 1700000000001 FIELDS 1 a 5").integer(), 1);
    assert_eq!(client.run("ML.FEATURES r cold:a cold:b").items(), [bulk("5"), Value::Nil]);
}

#[test]
fn the_key_goes_with_the_last_of_its_views() {
    let server = Server::start();
    let mut client = server.client();
    let ttl = |client: &mut Client| client.run("PTTL r").integer();
    client.run("ML.FEATURESET r VIEW a EX 100 FIELDS 1 f 1").integer();
    assert!((90_000..=100_000).contains(&ttl(&mut client)));
    client.run("ML.FEATURESET r VIEW b EX 1000 FIELDS 1 f 1").integer();
    assert!((990_000..=1_000_000).contains(&ttl(&mut client)));
    client.run("ML.FEATURESET r VIEW b EX 10 FIELDS 1 f 1").integer();
    assert!((90_000..=100_000).contains(&ttl(&mut client)), "back to that of `a`");
    client.run("ML.FEATURESET r FIELDS 1 f 1").integer();
    assert_eq!(ttl(&mut client), -1, "a view that does not expire");
    client.run("ML.FEATURESET r VIEW a FIELDS 1 g 1").integer();
    assert!(views(&mut client, "r")["a"].1 > 90_000, "without an expiry the view keeps its own");
    assert_eq!(client.run("ML.FEATUREDEL r FIELDS 1 f").integer(), 1);
    assert!((90_000..=100_000).contains(&ttl(&mut client)), "the last that did not is gone");
    assert_eq!(client.run("ML.FEATUREDEL r VIEW b").integer(), 1);
    assert_eq!(client.run("ML.FEATUREDEL r FIELDS 2 a:f a:g").integer(), 2);
    assert_eq!(client.run("EXISTS r").integer(), 0);
    client.run("ML.FEATURESET r PX 5 FIELDS 1 f 1").integer();
    wait_for("the row to expire", || client.run("DBSIZE").integer() == 0);
}

#[test]
fn a_write_that_is_over_takes_the_view_away() {
    let server = Server::start();
    let mut client = server.client();
    let mut events = Events::of(&server);
    client.run("ML.FEATURESET r VIEW v FIELDS 1 f 1").integer();
    client.run("ML.FEATURESET r FIELDS 1 g 1").integer();
    assert_eq!(client.run("ML.FEATURESET r VIEW v PXAT 1 FIELDS 1 f 2").integer(), 1);
    assert_eq!(client.run("ML.FEATURES r v:f g").items(), [Value::Nil, bulk("1")]);
    assert_eq!(client.run("PTTL r").integer(), -1);
    events.notified(&mut client);
    assert_eq!(client.run("ML.FEATURESET r EXAT 1 FIELDS 1 g 2").integer(), 1);
    assert_eq!(client.run("EXISTS r").integer(), 0);
    let names: Vec<_> = events.notified(&mut client).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ml.featureset", "del"]);
    assert_eq!(client.run("ML.FEATURESET r EXAT 1 FIELDS 1 g 2").integer(), 1);
    assert_eq!(client.run("EXISTS r").integer(), 0);
    assert!(events.notified(&mut client).is_empty(), "there was nothing to take away");
    let changes = client.info("rdb_changes_since_last_save");
    client.run("ML.FEATURESET r EXAT 1 FIELDS 1 g 2").integer();
    assert_eq!(client.info("rdb_changes_since_last_save"), changes);
}

#[test]
fn a_row_of_which_nothing_is_alive_goes_with_any_deletion() {
    let server = Server::start();
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    client.run("ML.FEATURESET r PX 50 FIELDS 1 f 1").integer();
    client.run("PERSIST r").integer();
    client.freeze(now_us + 50_000);
    let mut tap = Tap::on(&server);
    assert_eq!(client.run("EXISTS r").integer(), 1);
    assert_eq!(client.run("ML.FEATUREDEL r VIEW other").integer(), 0);
    assert_eq!(client.run("EXISTS r").integer(), 0);
    assert_eq!(tap.names(&mut client), ["ML.APPLYROW"]);
}

#[test]
fn an_expiry_given_by_hand_holds_until_a_write_moves_the_row_s_own() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r FIELDS 1 f 1").integer();
    client.run("EXPIRE r 100").integer();
    client.run("ML.FEATURESET r FIELDS 2 f 2 g 3").integer();
    assert!((90..=100).contains(&client.run("TTL r").integer()));
    client.run("ML.FEATURESET r VIEW v FIELDS 1 f 2").integer();
    assert!((90..=100).contains(&client.run("TTL r").integer()));
    client.run("ML.FEATURESET r EX 9000 FIELDS 1 f 2").integer();
    assert!((90..=100).contains(&client.run("TTL r").integer()), "`v` does not expire");
    client.run("ML.FEATURESET r VIEW v EX 500 FIELDS 1 f 2").integer();
    assert!((8_900..=9_000).contains(&client.run("TTL r").integer()));
    client.run("PERSIST r").integer();
    client.run("ML.FEATURESET r FIELDS 1 f 3").integer();
    assert_eq!(client.run("TTL r").integer(), -1);
}

// ---- Reading with an age.

#[test]
fn what_is_older_than_maxage_counts_as_missing_and_says_so() {
    let server = Server::start();
    let mut client = server.client();
    let now_ms = client.freeze_ahead() / 1000;
    for (view, age) in [("old", 5_001), ("edge", 5_000), ("", 0)] {
        let at = now_ms - age;
        client.run(&format!("ML.FEATURESET r VIEW {view} AT {at} FIELDS 1 f 1")).integer();
    }
    client.run(&format!("ML.FEATURESET r VIEW ahead AT {} FIELDS 1 f 1", now_ms + 9_000)).integer();
    client.run("HSET h old:f 1");
    let asked = "ML.FEATUREGET 2 r h FIELDS 5 old:f edge:f f ahead:f none MAXAGE 5000";
    let (values, status) = tensor(&mut client, &format!("{asked} DEFAULT 7"));
    assert_eq!(status, [4, 1, 1, 1, 3, 1, 3, 3, 3, 3], "a hash carries no event time");
    assert_eq!(values, [7.0, 1.0, 1.0, 1.0, 7.0, 1.0, 7.0, 7.0, 7.0, 7.0]);
    let row = client.run(asked).items()[0].items();
    assert_eq!(row, [Value::Nil, bulk("1"), bulk("1"), bulk("1"), Value::Nil]);
    let json = client.run(&format!("{asked} AS JSON DEFAULTS 5 a b c d e")).text();
    assert!(json.starts_with("[{\"old:f\":\"a\",\"edge:f\":1,"), "{json}");
    let error = client.run("ML.FEATUREGET 1 r FIELDS 2 f old:f MAXAGE 5000 STRICT").error();
    let words = ["'old:f'", "'r'", "MAXAGE"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    let error = client.run("ML.FEATUREGET 1 r FIELDS 2 none old:f MAXAGE 5000 STRICT").error();
    assert!(error.contains("'none'") && error.contains("missing"), "{error}");
    let strict = client.run("ML.FEATUREGET 1 r FIELDS 2 f edge:f MAXAGE 5000 STRICT AS TENSOR");
    assert_eq!(strict.items()[4].bytes(), [1, 1]);
    assert_eq!(client.run("ML.FEATURES r old:f").texts(), ["1"]);
}

// ---- Batches.

#[test]
fn the_same_entity_twice_in_a_batch_is_written_and_read_twice() {
    let server = Server::start();
    let mut client = server.client();
    let blob: Vec<_> = (1..=6i64).flat_map(i64::to_le_bytes).collect();
    let options = ["TYPE", "I64", "FIELDS", "2", "b", "a"];
    let answer = call!(client, "ML.FEATUREMSET", 3, "r", "s", "r", &blob, &options).integers();
    assert_eq!(answer, [1, 1, 1]);
    let asked = "ML.FEATUREGET 4 r s r nobody FIELDS 2 a b";
    assert_eq!(
        client.run(asked).items(),
        [["6", "5"], ["4", "3"], ["6", "5"]]
            .map(|row| Value::Array(row.map(bulk).to_vec()))
            .into_iter()
            .chain([nils(2)])
            .collect::<Vec<_>>()
    );
    let all = client.run("ML.FEATUREGET 2 x y FIELDS 2 a b AS TENSOR").items();
    assert_eq!(all[4].bytes(), [3; 4], "all entities are missing");
}

#[test]
fn a_key_of_another_type_in_the_middle_of_a_batch_writes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut events = Events::of(&server);
    client.run("ML.FEATURESET r AT 1700000000005 FIELDS 1 f 1").integer();
    client.run("HSET h f 1").integer();
    events.notified(&mut client);
    let _tap = Tap::on(&server);
    let before = client.footprint();
    for keys in ["r h new", "r r h", "h r new"] {
        let answer =
            client.run(&format!("ML.FEATUREMSET 3 {keys} 123412341234 TYPE F32 FIELDS 1 f"));
        assert!(answer.error().starts_with("WRONGTYPE"), "{keys}");
    }
    // Nor does a row without room for what is written.
    let fields: Vec<_> = (0..65_535).map(|field| format!("f{field}")).collect();
    let blob = vec![0u8; 65_535 * 4];
    call!(client, "ML.FEATUREMSET", 1, "full", &blob, "TYPE", "F32", "FIELDS", 65_535, &fields)
        .integers();
    assert_ne!(client.footprint(), before);
    events.notified(&mut client);
    let with_full = client.footprint();
    let answer = client.run("ML.FEATUREMSET 2 r full 12341234 TYPE F32 FIELDS 1 f VIEW v");
    assert!(answer.error().contains("65535 fields"), "{answer:?}");
    let answer = client.run("ML.FEATURESET full FIELDS 1 other 1");
    assert!(answer.error().contains("65535 fields"), "{answer:?}");
    assert_eq!(client.footprint(), with_full);
    assert!(events.notified(&mut client).is_empty());
    let answer = client.run("ML.FEATUREMSET 2 r full 12341234 TYPE F32 FIELDS 1 f7");
    assert_eq!(answer.integers(), [1, 1], "a field that it has is no more");
    let long = "x".repeat(65_536);
    let error = call!(client, "ML.FEATURESET", "r", "FIELDS", 1, &long, 1).error();
    assert!(error.contains("field") && error.contains("65535"), "{error}");
    let error = call!(client, "ML.FEATURESET", "r", "VIEW", &long, "FIELDS", 1, "f", 1).error();
    assert!(error.contains("VIEW"), "{error}");
}

#[test]
fn a_batch_that_one_row_has_no_room_for_writes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET small AT 1700000000001 FIELDS 1 f 0").integer();
    let text = vec![b'x'; (64 << 20) - 60];
    call!(client, "ML.FEATURESET", "big", "AT", AT, "TYPE", "STRING", "FIELDS", 1, "t", text)
        .integer();
    let before = (client.digest_of("small"), client.info("rdb_changes_since_last_save"));
    let blob = vec![1u8; 2 * 8 * 8];
    let fields = ["TYPE", "F64", "FIELDS", "8", "a", "b", "c", "d", "e", "f", "g", "h"];
    let error = call!(client, "ML.FEATUREMSET", 2, "small", "big", blob, &fields).error();
    assert!(error.contains("64 MiB"), "{error}");
    let after = (client.digest_of("small"), client.info("rdb_changes_since_last_save"));
    assert_eq!(after, before);
}

#[test]
fn an_effect_on_a_key_of_another_type_writes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let mut tap = Tap::on(&server);
    client.run("ML.FEATUREMSET 2 a b 12345678 TYPE F32 FIELDS 1 f").integers();
    client.run("ML.FEATUREDEL a FIELDS 1 f").integer();
    let [set, delete] = &tap.replicated(&mut client)[..] else { panic!("two effects") };
    client.run("ML.FEATURESET a FIELDS 1 f kept").integer();
    client.run("RPUSH list x").integer();
    let before = client.footprint();
    for change in [&set[1], &delete[1]] {
        let error = call!(client, "ML.APPLYROW", change, "a", "list").error();
        assert!(error.starts_with("WRONGTYPE"), "{error}");
        assert_eq!(client.footprint(), before);
    }
}

#[test]
fn a_batch_is_the_inverse_of_a_tensor_bit_by_bit() {
    let server = Server::start();
    let mut client = server.client();
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        for (kind, size) in [("F32", 4), ("F64", 8), ("I64", 8)] {
            let keys: Vec<_> = (0..7).map(|key| format!("{kind}:{key}")).collect();
            let fields: Vec<_> = (0..13).map(|field| format!("f{}", field * 7 % 13)).collect();
            // Any bits: NaN of any payload, but no signaling one, which processors
            // may quiet; subnormals; the extremes of integers.
            let mut blob = Vec::new();
            for _ in 0..7 * 13 {
                let edges = [random.next(), 0, 1 << 63, 1 << 31, u64::MAX, (1 << 63) - 1];
                let bits = edges[random.below(6) as usize];
                match kind {
                    "F32" => {
                        let bits = bits as u32;
                        let quiet = if f32::from_bits(bits).is_nan() { 1 << 22 } else { 0 };
                        blob.extend((bits | quiet).to_le_bytes());
                    }
                    "F64" => {
                        let quiet = if f64::from_bits(bits).is_nan() { 1 << 51 } else { 0 };
                        blob.extend((bits | quiet).to_le_bytes());
                    }
                    _ => blob.extend(bits.to_le_bytes()),
                }
            }
            assert_eq!(blob.len(), 7 * 13 * size);
            let written = call!(
                client,
                "ML.FEATUREMSET",
                7,
                &keys,
                &blob,
                "TYPE",
                kind,
                "FIELDS",
                13,
                &fields
            );
            assert_eq!(written.integers(), [1; 7]);
            let tensor = ["AS", "TENSOR", "TYPE", kind];
            let read = call!(client, "ML.FEATUREGET", 7, &keys, "FIELDS", 13, &fields, &tensor);
            let read = read.items();
            assert!(read[3].bytes() == blob, "{kind}, seed {seed}");
            assert_eq!(read[4].bytes(), [1; 7 * 13]);
        }
    }
}

// ---- Layouts and memory.

#[test]
fn rows_of_the_same_fields_have_one_layout_which_goes_with_the_last() {
    let server = Server::start();
    let mut client = server.client();
    let fields: Vec<_> = (0..10).map(|field| format!("field{field}")).collect();
    for first in (0..100_000).step_by(1_000) {
        let keys: Vec<_> = (first..first + 1_000).map(|key| format!("r{key}")).collect();
        let blob = vec![7u8; 10 * 4 * 1_000];
        call!(client, "ML.FEATUREMSET", 1_000, keys, blob, "TYPE", "F32", "FIELDS", 10, &fields);
    }
    assert_eq!(layouts(&mut client), 1);
    // In whatever order they are written.
    let backwards: Vec<_> = fields.iter().rev().flat_map(|name| [name.as_str(), "1"]).collect();
    call!(client, "ML.FEATURESET", "other", "FIELDS", 10, backwards).integer();
    assert_eq!(layouts(&mut client), 1);
    client.run("DEBUG RELOAD").ok();
    assert_eq!((layouts(&mut client), client.run("DBSIZE").integer()), (1, 100_001));
    let dump = client.run("DUMP other").bytes();
    call!(client, "RESTORE", "restored", 0, dump).ok();
    assert_eq!(layouts(&mut client), 1);
    assert_eq!(client.run("COPY other copied").integer(), 1);
    client.run("ML.FEATURESET copied FIELDS 1 more 1").integer();
    assert_eq!(layouts(&mut client), 2);
    assert_eq!(client.run("ML.FEATURES other more").items(), [Value::Nil], "a copy is its own");
    client.run("SET copied x").ok();
    assert_eq!(layouts(&mut client), 1);
    client.run("FLUSHALL ASYNC").ok();
    wait_for("the layouts to go", || layouts(&mut client) == 0);
    wait_for("their bytes to go", || client.info("ml_features_layout_bytes") == "0");
}

#[test]
fn layouts_come_and_go_while_rows_are_freed_in_the_background() {
    let server = Server::start();
    let mut client = server.client();
    client.run("CONFIG SET lazyfree-lazy-user-flush yes").ok();
    let mut random = Random::new(3);
    for _ in 0..30 {
        for _ in 0..200 {
            let (key, first) = (random.below(500), random.below(40));
            let fields = (0..5).flat_map(|field| [format!("f{}", first + field), "1".into()]);
            call!(client, "ML.FEATURESET", key, "FIELDS", 5, fields.collect::<Vec<_>>()).integer();
        }
        assert!(layouts(&mut client) > 1);
        client.run("FLUSHALL").ok();
    }
    client.run("ML.FEATURESET r FIELDS 1 f3 1").integer();
    wait_for("all others to go", || layouts(&mut client) == 1);
    assert_eq!(client.run("ML.FEATURES r f3").texts(), ["1"]);
}

#[test]
fn memory_usage_tells_what_used_memory_does() {
    let server = Server::start();
    let mut client = server.client();
    let fields: Vec<_> = (0..50).map(|field| format!("field{field}")).collect();
    let used = |client: &mut Client| client.info("used_memory").parse::<i64>().unwrap();
    let write = |client: &mut Client, first: i64| {
        for first in (first..first + 20_000).step_by(1_000) {
            let keys: Vec<_> = (first..first + 1_000).map(|key| format!("r{key:07}")).collect();
            let blob = vec![7u8; 50 * 4 * 1_000];
            let options = ["TYPE", "F32", "FIELDS", "50"];
            call!(client, "ML.FEATUREMSET", 1_000, keys, blob, &options, &fields).integers();
        }
    };
    // The key table of 2^15 is there already.
    write(&mut client, 0);
    let before = used(&mut client);
    for key in 0..10_000 {
        call!(client, "DEL", format!("r{key:07}")).integer();
    }
    let each = (before - used(&mut client)) / 10_000;
    let told = client.run("MEMORY USAGE r0010000").integer();
    // The server leaves out its own objects around the value.
    assert!((0..=64).contains(&(each - told)), "{told} told, {each} used");
    let bytes = client.run("ML.FEATUREINFO r0010000").map()["bytes"].integer();
    assert!((224..=240).contains(&bytes), "50 singles take {bytes} bytes");
}

// ---- What others notice.

#[test]
fn only_what_changes_breaks_watch_and_invalidates_caches() {
    let server = Server::start();
    let (mut client, mut writer) = (server.client(), server.client());
    writer.run("ML.FEATURESET r AT 1700000000005 FIELDS 1 f 1").integer();
    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    for (write, changes) in [
        ("ML.FEATURESET r AT 1700000000004 FIELDS 1 f 2", false),
        ("ML.FEATUREMSET 1 r 1234 TYPE F32 FIELDS 1 f AT 1700000000004", false),
        ("ML.FEATUREDEL r FIELDS 1 g", false),
        ("ML.FEATUREDEL r VIEW v", false),
        ("ML.FEATUREINFO r", false),
        ("ML.FEATURESET r VIEW nothing PXAT 1 FIELDS 1 f 1", false),
        ("ML.FEATURESET r AT 1700000000005 FIELDS 1 f 2", true),
        ("ML.FEATUREMSET 2 s r 12345678 TYPE F32 FIELDS 1 g", true),
        ("ML.FEATUREDEL r FIELDS 1 g", true),
    ] {
        tracker.run("ML.FEATURES r f");
        client.run("WATCH r").ok();
        writer.run(write);
        client.run("MULTI").ok();
        client.run("PING");
        let answer = client.run("EXEC");
        assert_eq!(answer == Value::Nil, changes, "{write}: {answer:?}");
        assert_eq!(tracker.pushes().len(), usize::from(changes), "{write}");
    }
}

#[test]
fn a_write_is_replicated_as_it_was_decided_and_a_late_one_not_at_all() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("ml.features-max-skew 0");
    let mut tap = Tap::on(&server);
    client.run("ML.FEATURESET r AT 1700000000005 EX 1000 FIELDS 1 f 1").integer();
    client.run("ML.FEATURESET s AT 1700000000050 FIELDS 1 f 1").integer();
    assert_eq!(tap.names(&mut client), ["ML.APPLYROW"; 2]);
    client.run("ML.FEATURESET r AT 1700000000004 FIELDS 1 f 2").integer();
    client.run("ML.FEATUREMSET 2 r s 12345678 TYPE F32 FIELDS 1 f AT 1700000000003").integers();
    client.run("ML.FEATUREDEL r FIELDS 1 x").integer();
    assert_eq!(tap.names(&mut client), [""; 0]);
    client
        .run("ML.FEATUREMSET 3 r s t 123456789012 TYPE F32 FIELDS 1 g AT 1700000000006")
        .integers();
    let replicated = tap.replicated(&mut client);
    assert_eq!(replicated.len(), 1);
    assert_eq!(replicated[0][2..], [b"r".to_vec(), b"t".to_vec()], "only what was written");
    client.run("ML.FEATUREDEL r FIELDS 1 f").integer();
    assert_eq!(tap.names(&mut client), ["ML.APPLYROW"]);
    replica.catch_up(&server);
    let mut follower = replica.client();
    assert_eq!(follower.digest(), client.digest());
    for key in ["r", "s", "t"] {
        let expiries =
            [&mut client, &mut follower].map(|one| call!(one, "PEXPIRETIME", key).integer());
        assert_eq!(expiries[0], expiries[1]);
    }
    // A view expires on the replica by itself.
    client.run("ML.FEATURESET v VIEW brief PX 30 FIELDS 1 f 1").integer();
    client.run("ML.FEATURESET v FIELDS 1 g 1").integer();
    replica.catch_up(&server);
    wait_for("the view to expire", || {
        follower.run("ML.FEATURES v brief:f g").items() == [Value::Nil, bulk("1")]
    });
}

#[test]
fn featureinfo_describes_a_row() {
    let server = Server::start();
    let now_us = server.client().freeze_ahead();
    for mut client in [server.client(), server.client3()] {
        client.run("DEL r");
        assert_eq!(client.run("ML.FEATUREINFO r"), Value::Nil);
        client.run("ML.FEATURESET r AT 1700000000005 FIELDS 2 n 1 t x").integer();
        client.run("ML.FEATURESET r VIEW v PX 700 FIELDS 1 d 0.5").integer();
        client.run("ML.FEATURESET r VIEW v TYPE F32 FIELDS 1 s 0.5").integer();
        let views = views(&mut client, "r");
        let types = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, kind)| (name.to_string(), kind.to_string())).collect()
        };
        assert_eq!(views.len(), 2);
        assert_eq!(views[""], (AT as i64 + 5, -1, types(&[("n", "I64"), ("t", "STRING")])));
        let at = now_us as i64 / 1000;
        assert_eq!(views["v"], (at, 700, types(&[("d", "F64"), ("s", "F32")])));
        assert!(client.run("ML.FEATUREINFO r").map()["bytes"].integer() > 30);
    }
}

#[test]
fn a_row_is_moved_renamed_and_migrated_whole() {
    let server = Server::start();
    let other = Setup::default().start();
    let mut client = server.client();
    client.run("ML.FEATURESET r AT 1700000000005 EX 1000 FIELDS 2 a 0.5 b gold").integer();
    let digest = client.digest_of("r");
    client.run("RENAME r s").ok();
    assert_eq!(client.run("MOVE s 1").integer(), 1);
    client.run("SELECT 1").ok();
    assert_eq!(client.digest_of("s"), digest);
    assert!(client.run("TTL s").integer() > 900);
    client.run(&format!("MIGRATE 127.0.0.1 {} s 0 5000", other.port())).ok();
    let mut there = other.client();
    assert_eq!(there.digest_of("s"), digest);
    assert_eq!(there.run("ML.FEATURES s b a").texts(), ["gold", "0.5"]);
    assert_eq!((layouts(&mut client), layouts(&mut there)), (0, 1));
}

// ---- A type for each field, views replaced, event times of each key.

#[test]
fn each_field_has_a_type_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    let fields = "FIELDS 5 a 1 b 1 c 1 d 1 e 1";
    client.run(&format!("ML.FEATURESET r TYPES 5 F32 F64 I64 STRING AUTO {fields}")).integer();
    let kinds = &views(&mut client, "r")[""].2;
    for (field, kind) in [("a", "F32"), ("b", "F64"), ("c", "I64"), ("d", "STRING"), ("e", "I64")] {
        assert_eq!(kinds[field], kind, "{field}");
    }
    // Of a name that comes twice the last counts, and its type with it.
    client.run("ML.FEATURESET r FIELDS 3 a 7 b 8 a 9 TYPES 3 F32 I64 STRING").integer();
    let kinds = &views(&mut client, "r")[""].2;
    assert_eq!((kinds["a"].as_str(), kinds["b"].as_str()), ("STRING", "I64"));
    assert_eq!(client.run("ML.FEATURES r a b").texts(), ["9", "8"]);
}

#[test]
fn what_is_written_as_a_string_is_a_string_in_json() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET r TYPE STRING FIELDS 3 zip 01234 price 84.50 n 12").integer();
    client.run("ML.FEATURESET r FIELDS 3 auto 84.50 lead 007 e 1e5").integer();
    client.run("HSET h zip 12 price 84.50").integer();
    let json = client.run("ML.FEATUREGET 1 r FIELDS 6 zip price n auto lead e AS JSON").text();
    assert_eq!(
        json,
        "[{\"zip\":\"01234\",\"price\":\"84.50\",\"n\":\"12\",\"auto\":84.50,\"lead\":\"007\",\"e\":1e5}]"
    );
    let json = client.run("ML.FEATUREGET 1 h FIELDS 2 zip price AS JSON").text();
    assert_eq!(json, "[{\"zip\":12,\"price\":84.50}]");
    // It stays one wherever it goes.
    let digest = client.digest();
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), digest);
    let json = client.run("ML.FEATUREGET 1 r FIELDS 1 n AS JSON").text();
    assert_eq!(json, "[{\"n\":\"12\"}]");
    // A tensor reads the number that it says, as of any text.
    assert_eq!(
        tensor(&mut client, "ML.FEATUREGET 1 r FIELDS 2 price zip"),
        (vec![84.5, 1234.0], vec![1, 1])
    );
}

#[test]
fn a_view_that_is_replaced_holds_what_was_written_and_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("");
    client.run("ML.FEATURESET r VIEW v EX 1000 FIELDS 2 a 1 b 2").integer();
    client.run("ML.FEATURESET r FIELDS 1 other 1").integer();
    let at = AT;
    client.run(&format!("ML.FEATURESET late VIEW v AT {} FIELDS 2 a 1 b 2", at + 5)).integer();
    assert_eq!(client.run("ML.FEATURESET r VIEW v REPLACE FIELDS 2 b 3 c 4").integer(), 1);
    let all = client.run("ML.FEATURES r v:a v:b v:c other").items();
    assert_eq!(all, [Value::Nil, bulk("3"), bulk("4"), bulk("1")]);
    assert!(views(&mut client, "r")["v"].1 > 900_000, "the view keeps its time to live");
    let batch =
        format!("ML.FEATUREMSET 3 r late new 123412341234 TYPE F32 FIELDS 1 z VIEW v AT {at}");
    // Not by what is older.
    assert_eq!(client.run(&format!("{batch} REPLACE")).integers(), [0, 0, 1]);
    let batch = batch.replace(&at.to_string(), &(at + 9).to_string());
    assert_eq!(client.run(&format!("{batch} REPLACE")).integers(), [0, 1, 1]);
    let all = client.run("ML.FEATUREGETALL late").map();
    assert_eq!(all.into_keys().collect::<Vec<_>>(), ["v:z"]);
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
}

#[test]
fn each_key_of_a_batch_has_an_event_time_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("ml.features-max-skew 0");
    let blob = |values: &[i64]| values.iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<_>>();
    let at = AT as i64;
    let mut write = |keys: &[&str], values: &[i64], times: &[i64]| {
        let options = ("TYPE", "I64", "FIELDS", 1, "f", "TIMES", blob(times));
        call!(client, "ML.FEATUREMSET", keys.len(), keys, blob(values), options)
    };
    assert_eq!(write(&["a", "b", "c"], &[1, 2, 3], &[at, 0, at + 7]).integers(), [1, 1, 1]);
    // One row several times, out of order: as if each were a call.
    let keys = ["a", "b", "a", "a", "a", "c"];
    let times = [at - 1, 0, at + 5, at + 3, at + 5, at + 6];
    assert_eq!(write(&keys, &[10, 20, 30, 40, 50, 60], &times).integers(), [0, 1, 1, 0, 1, 0]);
    // What cannot be one is an error of the whole call, which names what is wrong.
    let error = write(&["a", "b"], &[7, 7], &[at + 100, 1_700_000_000]).error();
    assert!(error.contains("TIMES") && error.contains("milliseconds"), "{error}");
    let error = write(&["a", "b"], &[7, 7], &[at + 100, i64::MAX]).error();
    assert!(error.contains("TIMES") && error.contains("ml.features-max-skew"), "{error}");
    assert!(write(&["a"], &[7], &[-1]).is_error());
    let values = client.run("ML.FEATUREGET 3 a b c FIELDS 1 f WITHTIMES").items();
    let column = |part: &Value| -> Vec<Value> {
        part.items().iter().map(|row| row.items()[0].clone()).collect()
    };
    assert_eq!(column(&values[0]), ["50", "20", "3"].map(bulk));
    assert_eq!(column(&values[1]), [at + 5, 0, at + 7].map(Value::Int));
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
}

#[test]
fn event_times_are_answered_beside_the_values() {
    let server = Server::start();
    let mut client = server.client();
    let now_ms = client.freeze_ahead() / 1000;
    let (old, new) = (now_ms - 9_000, now_ms - 1_000);
    client.run(&format!("ML.FEATURESET r VIEW old AT {old} FIELDS 1 f 1")).integer();
    client.run(&format!("ML.FEATURESET r AT {new} TYPE F32 FIELDS 2 f 2 g gold")).error();
    client.run(&format!("ML.FEATURESET r AT {new} FIELDS 2 f 2 g gold")).integer();
    client.run(&format!("ML.FEATURESET r VIEW brief AT {new} PX 1 FIELDS 1 f 3")).integer();
    client.freeze((now_ms + 1) * 1000);
    client.run("HSET h f 1").integer();
    let asked = "ML.FEATUREGET 3 r h nobody FIELDS 5 g f old:f brief:f none MAXAGE 5000 WITHTIMES";
    let values = client.run(asked).items();
    let [old, new] = [old, new].map(|at| at as i64);
    let times = [[new, new, old, -1, -1], [-1; 5], [-1; 5]];
    let expected = times.map(|row| Value::Array(row.map(Value::Int).to_vec()));
    assert_eq!(values[1].items(), expected, "too old is of that time, too");
    assert_eq!(values[0].items()[0].items()[..3], [bulk("gold"), bulk("2"), Value::Nil]);
    let items = client.run(&format!("{asked} AS TENSOR TYPE F64")).items();
    assert_eq!(items.len(), 6);
    let expected: Vec<_> = times.iter().flatten().flat_map(|at| at.to_le_bytes()).collect();
    assert_eq!(items[5].bytes(), expected);
    assert_eq!(items[4].bytes()[..5], [0, 1, 4, 3, 3]);
    // Where all is F32, too, in order or not.
    client.run(&format!("ML.FEATURESET s AT {old} TYPE F32 FIELDS 3 a 1 b 2 c 3")).integer();
    for fields in ["a b c", "c a b"] {
        let call = format!("ML.FEATUREGET 1 s FIELDS 3 {fields} AS TENSOR WITHTIMES");
        let items = client.run(&call).items();
        assert_eq!((items[3].bytes().len(), items[4].bytes()), (12, vec![1; 3]));
        assert_eq!(items[5].bytes(), [old.to_le_bytes(); 3].concat());
    }
}

#[test]
fn all_fields_of_an_entity_are_answered_by_the_names_they_are_read_by() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("FLUSHALL").ok();
        let now_us = client.freeze_ahead();
        assert_eq!(client.run("ML.FEATUREGETALL nobody").map().len(), 0);
        client.run("ML.FEATURESET r FIELDS 3 a 1 b 0.5 v:hidden whole").integer();
        client
            .run("ML.FEATURESET r VIEW v TYPES 2 F32 STRING FIELDS 2 s 0.1 hidden inner")
            .integer();
        client.run("ML.FEATURESET r VIEW brief PX 5 FIELDS 1 f 1").integer();
        client.freeze(now_us + 5_000);
        let all = client.run("ML.FEATUREGETALL r").map();
        let names = ["a", "b", "v:hidden", "v:s"];
        let mut found: Vec<_> = all.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, names);
        // As they are read one by one.
        let each = call!(client, "ML.FEATURES", "r", &names).items();
        assert_eq!(names.map(|name| all[name].clone()).to_vec(), each);
        let view = client.run("ML.FEATUREGETALL r VIEW v").map();
        assert_eq!(view["hidden"].text(), "inner");
        assert_eq!(view.len(), 2);
        assert_eq!(client.run("ML.FEATUREGETALL r view \"\"").map().len(), 0, "not that name");
        assert_eq!(call!(client, "ML.FEATUREGETALL", "r", "VIEW", "").map().len(), 3);
        assert_eq!(client.run("ML.FEATUREGETALL r VIEW brief").map().len(), 0);
        client.run("HSET h v:a 1 b x").integer();
        let all = client.run("ML.FEATUREGETALL h").map();
        assert_eq!((all.len(), all["v:a"].text(), all["b"].text()), (2, "1".into(), "x".into()));
        assert_eq!(call!(client, "ML.FEATUREGETALL", "h", "VIEW", "").map().len(), 2);
        assert_eq!(client.run("ML.FEATUREGETALL h VIEW v").map().len(), 0);
        client.run("RPUSH list 1").integer();
        assert!(client.run("ML.FEATUREGETALL list").error().starts_with("WRONGTYPE"));
        for size in [10, 5_000] {
            let pairs: Vec<_> =
                (0..size).flat_map(|at| [format!("f{at}"), format!("value {at}")]).collect();
            call!(client, "HSET", format!("h{size}"), pairs).integer();
            let all = client.run(&format!("ML.FEATUREGETALL h{size}")).map();
            assert_eq!(all, client.run(&format!("HGETALL h{size}")).map());
        }
    }
}

// ---- What older modules have written.

#[test]
fn payloads_of_the_first_version_load_and_its_changes_are_refused_by_name() {
    let server = Server::start();
    let mut client = server.client();
    // One view "v" with the field "a", at 5, which never expires: the text "84.50".
    let payload = [&[1, 1, 1, b'v', 1, 1, b'a', 5, 0, 0, 5][..], b"84.50"].concat();
    call!(client, "ML.LOADFEATURE", "r", &payload).ok();
    assert_eq!(client.run("ML.FEATURES r v:a").texts(), ["84.50"]);
    assert_eq!(client.run("ML.FEATUREGET 1 r FIELDS 1 v:a AS JSON").text(), "[{\"v:a\":84.50}]");
    client.run("ML.FEATURESET s VIEW v AT 0 FIELDS 1 a 84.50").integer();
    assert_eq!(views(&mut client, "r")["v"].0, 5);
    let error = call!(client, "ML.APPLYFEATURE", &[1, 1], "r").error();
    assert!(error.contains("unknown command"), "{error}");
    for unknown in [1, 4] {
        let change = [unknown, 3, 0, 1, b'v'];
        assert!(call!(client, "ML.APPLYROW", &change, "r").error().contains("change"));
    }
    // Those of the second have the same form.
    call!(client, "ML.APPLYROW", &[2, 3, 0, 1, b'v'], "r").ok();
    assert_eq!(client.run("EXISTS r").integer(), 0);
    let error = call!(client, "ML.APPLYROW", &[3, 3, 0, 1, b'v'], "s", "s").error();
    assert!(error.contains("once"), "{error}");
}

/// Only a payload made elsewhere has such a row.
#[test]
fn a_row_that_holds_nothing_goes_with_a_deletion_on_replicas_too() {
    let server = Server::start();
    let replica = server.replica("");
    let mut client = server.client();
    for deletion in ["ML.FEATUREDEL row VIEW v", "ML.FEATUREDEL row FIELDS 1 f"] {
        call!(client, "ML.LOADFEATURE", "row", "").ok();
        replica.catch_up(&server);
        assert_eq!(replica.client().run("EXISTS row").integer(), 1);
        assert_eq!(client.run(deletion).integer(), 0);
        assert_eq!(client.run("EXISTS row").integer(), 0);
        replica.catch_up(&server);
        assert_eq!(replica.client().run("EXISTS row").integer(), 0, "{deletion}");
    }
}
