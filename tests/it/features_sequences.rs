//! ML.FEATUREPUSH: the newest items of a field, in order of their event times.

use crate::support::{
    Answer, Client, Events, Random, Server, Stop, Tap, bulk, call, footprint_of, frozen, nils,
};
use redis::Value;

const AT: u64 = 1_700_000_000_000;

fn push(client: &mut Client, line: &str) -> i64 {
    client.run(&format!("ML.FEATUREPUSH {line}")).integer()
}

/// The items of a sequence, newest first.
fn items(client: &mut Client, key: &str, field: &str) -> Vec<String> {
    call!(client, "ML.FEATURES", key, field).items()[0].texts()
}

#[test]
fn the_newest_items_are_read_newest_first() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("FLUSHALL").ok();
        assert_eq!(push(&mut client, "u viewed a b c LAST 4"), 1);
        assert_eq!(push(&mut client, "u viewed d e LAST 4"), 1);
        assert_eq!(items(&mut client, "u", "viewed"), ["e", "d", "c", "b"]);
        assert_eq!(items(&mut client, "u", "viewed[2]"), ["e", "d"]);
        let padded = client.run("ML.FEATURES u viewed[6] viewed[1] none[2]").items();
        let expected = ["e", "d", "c", "b"].map(bulk).into_iter().chain([Value::Nil, Value::Nil]);
        assert_eq!(padded[0], Value::Array(expected.collect()));
        assert_eq!(padded[1..], [Value::Array(vec![bulk("e")]), Value::Nil]);
        // Fewer are kept from now on; the word LAST is an item in the first place.
        assert_eq!(push(&mut client, "u viewed LAST LAST 2"), 1);
        assert_eq!(items(&mut client, "u", "viewed"), ["LAST", "e"]);
        assert_eq!(client.run("ML.FEATUREGETALL u").map()["viewed"].texts(), ["LAST", "e"]);
        let views = client.run("ML.FEATUREINFO u").map()["views"].items();
        assert_eq!(views[0].map()["fields"].items()[0].texts(), ["viewed", "SEQUENCE[2]"]);
        assert_eq!(views[0].map()["at_ms"].integer(), 0);
        // Of more than are kept the last.
        assert_eq!(push(&mut client, "u viewed 1 2 3 4 5 LAST 3"), 1);
        assert_eq!(
            client.run("ML.FEATUREGET 1 u FIELDS 1 viewed AS JSON").text(),
            "[{\"viewed\":[5,4,3]}]"
        );
    }
}

#[test]
fn items_keep_their_types_and_a_tensor_pads() {
    let server = Server::start();
    let mut client = server.client();
    push(&mut client, "u s 7 0.5 LAST 9");
    push(&mut client, "u s 84.50 LAST 9 TYPE STRING");
    push(&mut client, "u s 0.1 LAST 9 TYPE F32");
    let mut typed = server.client3();
    let answer = typed.run("ML.FEATURES u s[4]").items()[0].items();
    assert_eq!(answer, [Value::Double(0.1), bulk("84.50"), Value::Double(0.5), Value::Int(7)]);
    let asked = "ML.FEATUREGET 2 u nobody FIELDS 2 s[5] s[2]";
    let json = client.run(&format!("{asked} AS JSON DEFAULT 0")).text();
    let expected = "[{\"s[5]\":[0.1,\"84.50\",0.5,7,0],\"s[2]\":[0.1,\"84.50\"]},\
                    {\"s[5]\":0,\"s[2]\":0}]";
    assert_eq!(json, expected);
    let tensor = client.run(&format!("{asked} AS TENSOR TYPE F64 DEFAULT -1")).items();
    let data = tensor[3].bytes();
    let numbers = data.chunks(8).map(|chunk| f64::from_le_bytes(chunk.try_into().unwrap()));
    let numbers: Vec<_> = numbers.collect();
    let single = f64::from(0.1f32);
    assert_eq!(numbers[..7], [single, 84.5, 0.5, 7.0, -1.0, single, 84.5]);
    assert_eq!((&numbers[7..], tensor[4].bytes()), (&[-1.0; 7][..], vec![1, 1, 3, 3]));
    // Without a default NaN, which I64 has not; what is no number is status 0.
    let plain = client.run("ML.FEATUREGET 1 u FIELDS 1 s[5] AS TENSOR TYPE F64").items();
    assert!(plain[3].bytes()[32..] == f64::NAN.to_le_bytes() && plain[4].bytes() == [1]);
    let error = client.run("ML.FEATUREGET 1 u FIELDS 1 s[1] AS TENSOR TYPE I64").error();
    assert!(error.contains("'s[1]'") && error.contains("DEFAULT"), "{error}");
    push(&mut client, "u s text LAST 9");
    let tensor = client.run("ML.FEATUREGET 1 u FIELDS 2 s[2] s AS TENSOR DEFAULT 9").items();
    assert_eq!(tensor[4].bytes(), [0, 5]);
    assert_eq!(tensor[3].bytes()[..8], [9f32, 0.1].map(f32::to_le_bytes).concat());
    // An aggregate of it is none.
    let error = client.run("ML.FEATUREGET 1 u FIELDS 1 sum(s,60) STRICT").error();
    assert!(error.contains("'sum(s,60)'") && error.contains("is SEQUENCE["), "{error}");
    // Nor is it a scalar.
    let error = client.run("ML.FEATUREGET 1 u FIELDS 1 s AS TENSOR STRICT").error();
    let words = ["'s'", "'u'", "is SEQUENCE[", "not one value"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn late_items_take_their_place_and_equal_times_stand_by_arrival() {
    let server = Server::start();
    let mut client = server.client();
    for (item, at) in [("c", 30), ("a", 10), ("b1", 20), ("b2", 20), ("d", 40)] {
        assert_eq!(push(&mut client, &format!("u s {item} LAST 4 AT {}", AT + at)), 1);
    }
    assert_eq!(items(&mut client, "u", "s"), ["d", "c", "b2", "b1"]);
    // Older than all that are kept: nothing changes.
    let mut tap = Tap::on(&server);
    let digest = client.digest();
    assert_eq!(push(&mut client, &format!("u s late LAST 4 AT {}", AT + 19)), 0);
    assert_eq!((client.digest(), tap.names(&mut client)), (digest, vec![]));
    assert_eq!(push(&mut client, &format!("u s late x y LAST 4 AT {}", AT + 25)), 1);
    assert_eq!(items(&mut client, "u", "s"), ["d", "c", "y", "x"]);
    let asked = "ML.FEATUREGET 1 u FIELDS 2 s[1] none WITHTIMES";
    let times = client.run(asked).items()[1].items()[0].integers();
    assert_eq!(times, [AT as i64 + 40, -1], "the time of the newest");
}

#[test]
fn pushes_at_random_leave_what_sorting_all_of_them_does() {
    let server = Server::start();
    let mut client = server.client();
    for seed in Random::seeds() {
        client.run("FLUSHALL").ok();
        let mut random = Random::new(seed);
        // Every event with its arrival: an oracle that keeps all and sorts them.
        let mut all: Vec<(u64, String)> = Vec::new();
        let mut last_seq = None;
        for arrival in 0..400 {
            let at = AT + random.below(60);
            let seq = (random.below(3) == 0).then(|| random.below(1_000));
            let count = 1 + random.below(4) as usize;
            let new: Vec<_> = (0..count).map(|item| format!("i{arrival}.{item}")).collect();
            let mut line = format!("u s {} LAST 12 AT {at}", new.join(" "));
            seq.iter().for_each(|seq| line.push_str(&format!(" SEQ {seq}")));
            let newer = all.iter().filter(|(other, _)| *other > at).count();
            let takes = newer < 12 && (seq.is_none() || seq > last_seq);
            assert_eq!(push(&mut client, &line), i64::from(takes), "{line}, seed {seed}");
            if takes {
                last_seq = last_seq.max(seq);
                all.extend(new.into_iter().map(|item| (at, item)));
                all.sort_by_key(|(at, _)| *at);
                all.drain(..all.len().saturating_sub(12));
            }
            let expected: Vec<_> = all.iter().rev().map(|(_, item)| item.clone()).collect();
            assert_eq!(items(&mut client, "u", "s"), expected, "{line}, seed {seed}");
        }
    }
}

#[test]
fn a_redelivered_log_counts_once() {
    let server = Server::start();
    let mut client = server.client();
    let log: Vec<_> = (0..50).map(|offset| format!("u s e{offset} LAST 20 SEQ {offset}")).collect();
    let send = |client: &mut Client, range: std::ops::Range<usize>| -> i64 {
        log[range].iter().map(|line| push(client, line)).sum()
    };
    assert_eq!(send(&mut client, 0..30), 30);
    let digest = client.digest();
    assert_eq!((send(&mut client, 0..30), client.digest()), (0, digest));
    assert_eq!(send(&mut client, 20..50), 20);
    let expected: Vec<_> = (30..50).rev().map(|offset| format!("e{offset}")).collect();
    assert_eq!(items(&mut client, "u", "s"), expected);
    // Without a SEQ it counts, and the last one stays.
    assert_eq!(push(&mut client, "u s x LAST 20"), 1);
    assert_eq!(push(&mut client, "u s y LAST 20 SEQ 49"), 0);
    assert_eq!(push(&mut client, "u s y LAST 20 SEQ 50"), 1);
    // Another field, view or key counts for itself, and one that was deleted anew.
    for line in ["u t y LAST 9 SEQ 1", "u s y LAST 9 SEQ 1 VIEW v", "w s y LAST 9 SEQ 1"] {
        assert_eq!(push(&mut client, line), 1, "{line}");
    }
    assert_eq!(client.run("ML.FEATUREDEL u FIELDS 1 s").integer(), 1);
    assert_eq!(push(&mut client, "u s y LAST 9 SEQ 1"), 1);
}

#[test]
fn a_sequence_lives_as_long_as_its_view_and_moves_neither_its_time_nor_its_expiry() {
    let (_server, mut client, now_us) = frozen();
    let now_ms = now_us / 1000;
    client.run(&format!("ML.FEATURESET u VIEW v AT {AT} PX 5000 FIELDS 1 f 1")).integer();
    push(&mut client, "u s a LAST 9 VIEW v");
    let view = client.run("ML.FEATUREINFO u").map()["views"].items()[0].map();
    assert_eq!((view["at_ms"].integer(), view["ttl_ms"].integer()), (AT as i64, 5_000));
    client.freeze(now_us + 4_999_000);
    assert_eq!(client.run("ML.FEATURES u v:s v:f").items()[1], bulk("1"));
    client.freeze(now_us + 5_000_000);
    assert_eq!(client.run("ML.FEATURES u v:s v:f"), nils(2));
    // What has expired is forgotten, its SEQ too.
    push(&mut client, "u s b LAST 9 VIEW v");
    assert_eq!(items(&mut client, "u", "v:s"), ["b"]);
    assert_eq!(client.run("ML.FEATURES u v:f"), nils(1));
    assert_eq!(client.run("PTTL u").integer(), -1, "a view of events alone does not expire");
    client.run("ML.FEATURESET u VIEW v EX 9000 FIELDS 1 f 2").integer();
    assert!(client.run("TTL u").integer() > 8_000);
    // Too old by the newest event, whatever the view's time is.
    client.run(&format!("ML.FEATURESET u VIEW v AT {} FIELDS 1 f 2", now_ms + 5_000)).integer();
    let old = now_ms - 90_000;
    push(&mut client, &format!("u old x LAST 9 VIEW v AT {old}"));
    let asked = "ML.FEATUREGET 1 u FIELDS 3 v:old[2] v:s[2] v:f AS TENSOR MAXAGE";
    assert_eq!(client.run(&format!("{asked} 60000")).items()[4].bytes(), [4, 0, 1]);
    assert_eq!(client.run(&format!("{asked} 95000")).items()[4].bytes(), [0, 0, 1]);
}

#[test]
fn what_holds_something_else_is_not_written_over() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FEATURESET u TYPES 2 AUTO F32[1] FIELDS 2 f 1 e 1234").integer();
    push(&mut client, "u s a LAST 9");
    client.run("ML.FEATURETALLY u FIELDS 1 t 1 SPAN 60 TILE 60").integer();
    let mut events = Events::of(&server);
    let _tap = Tap::on(&server);
    let before = client.footprint();
    for (call, words) in [
        ("ML.FEATUREPUSH u f a LAST 9", ["'f'", "I64"]),
        ("ML.FEATUREPUSH u e a LAST 9", ["'e'", "F32"]),
        ("ML.FEATUREPUSH u t a LAST 9", ["'t'", "WINDOWS"]),
        ("ML.FEATURETALLY u FIELDS 1 s 1 SPAN 60 TILE 60", ["'s'", "SEQUENCE"]),
        ("ML.FEATURETALLY u FIELDS 2 new 1 f 1 SPAN 60 TILE 60", ["'f'", "I64"]),
        ("ML.FEATURESET u FIELDS 2 f 2 s 1", ["'s'", "SEQUENCE[1]"]),
        ("ML.FEATURESET u REPLACE FIELDS 2 f 2 t 1", ["'t'", "WINDOWS SPAN 60 TILE 60"]),
        ("ML.FEATUREMSET 2 new u 12345678 TYPE F32 FIELDS 1 s", ["'s'", "SEQUENCE[1]"]),
    ] {
        let error = client.run(call).error();
        assert!(words.iter().all(|word| error.contains(word)), "{call}: {error}");
    }
    assert_eq!((client.footprint(), events.notified(&mut client)), (before, vec![]));
    // REPLACE takes away what it does not name; other views keep what they have.
    push(&mut client, "u s b LAST 9 VIEW v");
    client.run("ML.FEATURESET u REPLACE FIELDS 1 f 3").integer();
    assert_eq!(client.run("ML.FEATURES u s count(t,60)"), nils(2));
    assert_eq!(items(&mut client, "u", "v:s"), ["b"]);
    assert_eq!(client.run("ML.FEATUREDEL u VIEW v").integer(), 1);
    assert_eq!(client.run("ML.FEATUREDEL u FIELDS 1 f").integer(), 1);
    assert_eq!(client.run("EXISTS u").integer(), 0);
}

#[test]
fn a_transaction_a_script_and_a_watch_see_each_push() {
    let server = Server::start();
    let (mut client, mut other) = (server.client(), server.client());
    for line in ["MULTI", "ML.FEATUREPUSH u s a LAST 9 SEQ 1", "ML.FEATUREPUSH u s b LAST 9 SEQ 1"]
    {
        client.run(line);
    }
    client.run("ML.FEATURES u s");
    let answers = client.run("EXEC").items();
    assert_eq!(answers[..2], [Value::Int(1), Value::Int(0)]);
    const SCRIPT: &str = "redis.call('ML.FEATUREPUSH', KEYS[1], 's', 'c', 'LAST', 9)
        return redis.call('ML.FEATURES', KEYS[1], 's[3]')[1]";
    let answer = call!(client, "EVAL", SCRIPT, 1, "u").items();
    assert_eq!(answer[..2], [bulk("c"), bulk("a")]);
    // A push breaks a watch, one that changes nothing does not.
    for (line, is_broken) in [("u s d LAST 9 SEQ 2", true), ("u s d LAST 9 SEQ 2", false)] {
        client.run("WATCH u").ok();
        push(&mut other, line);
        client.run("MULTI").ok();
        client.run("PING");
        assert_eq!(client.run("EXEC") == Value::Nil, is_broken, "{line}");
    }
}

#[test]
fn a_copy_goes_its_own_way_however_either_is_changed() {
    let server = Server::start();
    let mut client = server.client();
    push(&mut client, "u s a b LAST 9");
    client.run("ML.FEATURETALLY u FIELDS 1 t 1 SPAN 90000 TILE 90000").integer();
    client.run("COPY u w").integer();
    push(&mut client, "w s c LAST 9");
    client.run("ML.FEATURETALLY u FIELDS 1 t 5 SPAN 90000 TILE 90000").integer();
    let of = |client: &mut Client, key: &str| {
        let values = call!(client, "ML.FEATURES", key, "s", "sum(t,90000)").items();
        (values[0].texts().join(" "), values[1].text())
    };
    assert_eq!(of(&mut client, "u"), ("b a".into(), "6.0".into()));
    assert_eq!(of(&mut client, "w"), ("c b a".into(), "1.0".into()));
    client.run("UNLINK w").integer();
    assert_eq!(of(&mut client, "u"), ("b a".into(), "6.0".into()));
}

#[test]
fn memory_is_told_as_it_is_and_bounded() {
    let server = Server::start();
    let mut client = server.client();
    let used = |client: &mut Client| client.info("used_memory").parse::<i64>().unwrap();
    let lines: Vec<_> =
        (0..50_000).map(|item| format!("ML.FEATUREPUSH u s item{item} LAST 1000")).collect();
    // By another client, so that its buffers are not among what is measured.
    for some in lines.chunks(10_000) {
        server.client().run_all(some);
    }
    for (line, least, most) in [("u s a LAST 1000", 24_000, 60_000), ("u s x LAST 1", 50, 512)] {
        push(&mut client, line);
        let (told, taken) = footprint_of(&mut client, "u");
        println!("{told} bytes told, {taken} taken: {line}");
        assert!((least..=most).contains(&taken), "{taken} bytes: {line}");
        assert!((told - taken).abs() < taken / 3 + 256, "{told} told, {taken} taken: {line}");
        // One that comes back to few gives back what it needed for many.
        assert!(client.run("MEMORY USAGE u").integer() < most + 8_192 * i64::from(most < 1_000));
    }
    // Many keys of a few items each.
    let before = used(&mut client);
    let lines: Vec<_> =
        (0..50_000).map(|key| format!("ML.FEATUREPUSH k{key} s {key} LAST 20")).collect();
    for some in lines.chunks(10_000) {
        client.run_all(some);
    }
    let each = (used(&mut client) - before) / 50_000;
    println!("{each} bytes for a key with one item");
    assert!(each < 400, "{each} bytes for a key with one item");
}

#[test]
fn a_row_and_a_reply_are_no_larger_than_they_may_be() {
    let server = Server::start();
    let mut client = server.client();
    let item = vec![b'x'; 16 << 20];
    for number in 0..3 {
        let rest = ("LAST", 9, "SEQ", number);
        assert_eq!(call!(client, "ML.FEATUREPUSH", "u", "s", &item, rest).integer(), 1);
    }
    let error = call!(client, "ML.FEATUREPUSH", "u", "s", &item, "LAST", 9).error();
    assert!(error.contains("64 MiB"), "{error}");
    assert_eq!(items(&mut client, "u", "s[1]")[0].len(), 16 << 20);
    // What goes as others come makes room for them; so does a smaller LAST.
    for (last, number) in [(3, 3), (2, 4), (1, 5)] {
        let rest = ("LAST", last, "SEQ", number);
        assert_eq!(call!(client, "ML.FEATUREPUSH", "u", "s", &item, rest).integer(), 1);
    }
    let error = call!(client, "ML.FEATUREPUSH", "u", "s", vec![&item[..]; 4], "LAST", 9).error();
    assert!(error.contains("64 MiB"), "{error}");
    // Places are answered as well as items, so they count, even if asked for once.
    push(&mut client, "k x 1 LAST 9");
    let fields: Vec<_> = (0..80).map(|field| format!("x[{}]", 65_536 - field)).collect();
    let error = call!(client, "ML.FEATURES", "k", &fields).error();
    assert!(error.contains("ml.features-max-reply-bytes"), "{error}");
    let asked = ("FIELDS", 15, &fields[..15]);
    client.run("CONFIG SET ml.features-max-reply-bytes 16mb").ok();
    for form in ["VALUES", "JSON"] {
        let answer = call!(client, "ML.FEATUREGET", 1, "k", asked, "AS", form);
        if form == "VALUES" {
            assert!(answer.error().contains("ml.features-max-reply-bytes"), "{form}");
        } else {
            assert!(answer.text().len() < 16 << 20);
        }
    }
    assert_eq!(client.run("PING").text(), "PONG");
    // As many items as there may be, in one call and in one answer.
    let many: Vec<_> = (0..70_000).collect();
    assert_eq!(call!(client, "ML.FEATUREPUSH", "m", "s", &many, "LAST", 65_536).integer(), 1);
    let all = call!(client, "ML.FEATURES", "m", "s").items()[0].items();
    assert_eq!((all.len(), &all[0], &all[65_535]), (65_536, &bulk("69999"), &bulk("4464")));
}

/// Who says no time pushes behind all that is there, whatever the clock does.
#[test]
fn a_clock_that_steps_back_puts_no_item_behind_older_ones() {
    let (server, mut client, now_us) = frozen();
    let replica = server.replica("");
    push(&mut client, "u last a LAST 1");
    client.freeze(now_us - 2_000_000);
    assert_eq!(push(&mut client, "u last b LAST 1"), 1);
    assert_eq!(items(&mut client, "u", "last[1]"), ["b"]);
    push(&mut client, &format!("u seen 1 2 3 LAST 3 AT {}", now_us / 1000 + 3_600_000));
    assert_eq!(push(&mut client, "u seen 4 LAST 3"), 1);
    assert_eq!(items(&mut client, "u", "seen[3]"), ["4", "3", "2"]);
    // Who does say one is taken at the word.
    assert_eq!(push(&mut client, &format!("u last c LAST 1 AT {}", now_us / 1000 - 1)), 0);
    replica.catch_up(&server);
    let digest = client.digest();
    assert_eq!(replica.client().digest(), digest);
}

/// What there is no place for is told to nobody.
#[test]
fn a_late_push_is_replicated_as_what_stays_of_it() {
    let server = Server::start();
    let mut client = server.client();
    let held: Vec<_> = (0..90).collect();
    call!(client, "ML.FEATUREPUSH", "u", "s", &held, "LAST", 100, "AT", 1_700_000_000_009u64);
    let mut tap = Tap::on(&server);
    let late = vec!["x".repeat(100); 95];
    let rest = ("LAST", 100, "AT", 1_700_000_000_001u64);
    assert_eq!(call!(client, "ML.FEATUREPUSH", "u", "s", &late, rest).integer(), 1);
    let effects = tap.replicated(&mut client);
    let bytes: usize = effects.iter().flatten().map(Vec::len).sum();
    assert!((1_000..1_300).contains(&bytes), "{bytes} bytes for the ten that stay");
    assert_eq!(items(&mut client, "u", "s[100]").len(), 100);
}

/// The primary and its replica hold the same, also after a cut in the middle; so does
/// a server that comes up again from its AOF.
#[test]
fn a_replica_cut_off_in_the_middle_and_a_restart_hold_the_same() {
    let mut server = Server::with("appendonly yes\nappendfsync always");
    let replica = server.replica("");
    let (mut client, mut follower) = (server.client(), replica.client());
    let mut random = Random::new(7);
    for round in 0..6 {
        for number in 0..60 {
            // It comes back by itself, and is sent what it missed.
            if round == 3 && number == 30 {
                client.run("CLIENT KILL TYPE replica").integer();
            }
            let (key, at) = (random.below(4), AT + random.below(50));
            let seq = if random.below(2) == 0 {
                format!("SEQ {}", random.below(90))
            } else {
                String::new()
            };
            client.run(format!("ML.FEATUREPUSH k{key} s {at} x LAST 6 AT {at} {seq}").trim_end());
            let now = client.run("TIME").texts()[0].parse::<u64>().unwrap() * 1000;
            let at = now - random.below(90_000);
            client.run(&format!(
                "ML.FEATURETALLY k{key} FIELDS 2 t 0.1 u {at} \
                 SPAN 60 TILE 1 SPAN 3600 TILE 60 AT {at}"
            ));
        }
        replica.catch_up(&server);
        assert_eq!(follower.digest(), client.digest(), "round {round}");
    }
    assert!(client.info("sync_partial_ok").parse::<u64>().unwrap() > 0, "a partial sync");
    let digest = client.digest();
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), digest);
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest, "after kill -9");
}
