//! ML.FEATURETALLY: amounts summed up by time, and the aggregates of them.

use crate::support::{
    Answer, Client, Random, Server, Stop, Tap, bulk, call, footprint_of, frozen, nils,
};
use redis::Value;

const SECOND: u64 = 1_000_000;

/// Sets the clock to the beginning of a tile of so many seconds, a while ahead.
fn at_the_edge(client: &mut Client, now_us: u64, tile_s: u64) -> u64 {
    let tile_us = tile_s * SECOND;
    let edge_us = (now_us / tile_us + 1) * tile_us;
    client.freeze(edge_us);
    edge_us
}

fn tally(client: &mut Client, line: &str) -> i64 {
    client.run(&format!("ML.FEATURETALLY {line}")).integer()
}

/// Each of these of a key, as a number; `None` where it is missing.
fn read(client: &mut Client, key: &str, fields: &str) -> Vec<Option<f64>> {
    let fields: Vec<_> = fields.split(' ').collect();
    let values = call!(client, "ML.FEATURES", key, &fields).items();
    let number = |value: &Value| (*value != Value::Nil).then(|| value.text().parse().unwrap());
    values.iter().map(number).collect()
}

#[test]
fn an_hour_by_minutes_and_a_month_by_days() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 86_400);
    client.freeze(edge_us + 43_200 * SECOND);
    let spans = "SPAN 3600 TILE 60 SPAN 2592000 TILE 86400";
    for (amount, ago_s) in [("84.50", 0), ("10", 59), ("5.5", 3_000), ("100", 86_400 * 3)] {
        let at = edge_us / 1000 + 43_200_000 - ago_s * 1000;
        let line = format!("u FIELDS 2 spend {amount} clicks 1 {spans} AT {at}");
        assert_eq!(tally(&mut client, &line), 1);
    }
    let all =
        "count(spend,3600) sum(spend,3600) min(spend,3600) max(spend,3600) mean(spend,2592000)";
    assert_eq!(
        read(&mut client, "u", all),
        [Some(3.0), Some(100.0), Some(5.5), Some(84.5), Some(50.0)]
    );
    let mut typed =
        client.run("ML.FEATURES u count(clicks,2592000) count(clicks,60) std(clicks,3600)");
    assert_eq!(typed.items(), ["4", "1", "0.0"].map(bulk));
    typed = client.run("ML.FEATUREGET 1 u FIELDS 2 count(clicks,3600) sum(clicks,3600) AS JSON");
    assert_eq!(typed.text(), "[{\"count(clicks,3600)\":3,\"sum(clicks,3600)\":3.0}]");
    // Windows have no single value, and are left out where all are asked for.
    let asked = "ML.FEATUREGET 1 u FIELDS 3 spend spend[2] sum(spend,3600) AS TENSOR";
    assert_eq!(client.run(asked).items()[4].bytes(), [5, 5, 1]);
    assert!(client.run("ML.FEATUREGETALL u").map().is_empty());
    let info = client.run("ML.FEATUREINFO u").map()["views"].items()[0].map()["fields"].items();
    let kind = "WINDOWS SPAN 3600 TILE 60 SPAN 2592000 TILE 86400";
    assert_eq!(info[1].texts(), ["spend", kind]);
}

#[test]
fn counts_are_integers_and_sums_doubles() {
    let (server, mut client, _) = frozen();
    tally(&mut client, "u FIELDS 1 x 7 SPAN 60 TILE 60");
    let answer = server.client3().run("ML.FEATURES u count(x,60) sum(x,60) min(x,60)").items();
    assert_eq!(answer, [Value::Int(1), Value::Double(7.0), Value::Double(7.0)]);
    let asked = "ML.FEATUREGET 1 u FIELDS 3 count(x,60) sum(x,60) std(x,60) AS TENSOR TYPE I64";
    let expected: Vec<_> = [1i64, 7, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(client.run(asked).items()[3].bytes(), expected);
}

#[test]
fn the_newest_tiles_are_read_the_running_one_included() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 60);
    // The last millisecond of a tile, and the first one of the next.
    let edge_ms = edge_us / 1000;
    tally(&mut client, &format!("u FIELDS 1 x 1 SPAN 600 TILE 60 AT {}", edge_ms - 1));
    tally(&mut client, &format!("u FIELDS 1 x 10 SPAN 600 TILE 60 AT {edge_ms}"));
    let spans = "sum(x,60) sum(x,120) sum(x,600)";
    for (seconds, expected) in [
        (0, [10.0, 11.0, 11.0]),
        (59, [10.0, 11.0, 11.0]),
        (60, [0.0, 10.0, 11.0]),
        (119, [0.0, 10.0, 11.0]),
        (120, [0.0, 0.0, 11.0]),
        (539, [0.0, 0.0, 11.0]),
        (540, [0.0, 0.0, 10.0]),
        (600, [0.0, 0.0, 0.0]),
    ] {
        client.freeze(edge_us + seconds * SECOND);
        let expected = expected.map(Some);
        assert_eq!(read(&mut client, "u", spans), expected, "after {seconds} s");
    }
    client.freeze(edge_us + 60 * SECOND - 1);
    assert_eq!(read(&mut client, "u", "sum(x,60)"), [Some(10.0)], "the last microsecond");
}

#[test]
fn nothing_in_a_window_is_0_or_missing_and_another_span_is_status_5() {
    let (_server, mut client, now_us) = frozen();
    tally(&mut client, "u FIELDS 1 x 3 SPAN 60 TILE 10");
    client.freeze(now_us + 3_600 * SECOND);
    let asked = "count(x,60) sum(x,60) mean(x,60) min(x,60) max(x,60) std(x,60) sum(x,55) \
                 sum(x,70) count(y,60)";
    let get = format!("ML.FEATUREGET 1 u FIELDS 9 {asked}");
    let items = client.run(&format!("{get} AS TENSOR DEFAULT -1")).items();
    assert_eq!(items[4].bytes(), [1, 1, 3, 3, 3, 3, 5, 5, 3]);
    let data = [0.0, 0.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0f32];
    assert_eq!(items[3].bytes(), data.map(f32::to_le_bytes).concat());
    let values = client.run(&get).items()[0].items();
    assert_eq!(values[..2], [bulk("0"), bulk("0.0")]);
    assert_eq!(values[2..], nils(7).items());
    for (field, word) in [
        ("mean(x,60)", "missing"),
        ("sum(x,70)", "is WINDOWS SPAN 60 TILE 10, not windows that this span fits"),
        ("sum(x,0.5)", "is WINDOWS SPAN 60 TILE 10, not windows that this span fits"),
        ("x", "is WINDOWS SPAN 60 TILE 10, not one value"),
    ] {
        let error = client.run(&format!("ML.FEATUREGET 1 u FIELDS 1 {field} STRICT")).error();
        assert!(error.contains(field) && error.contains(word), "{error}");
    }
    // MAXAGE is not for windows.
    let asked = "ML.FEATUREGET 1 u FIELDS 1 sum(x,60) AS TENSOR MAXAGE 5 WITHTIMES";
    let items = client.run(asked).items();
    assert_eq!(items[4].bytes(), [1]);
    assert_eq!(items[5].bytes(), (now_us / 1000).to_le_bytes(), "the newest event's time");
}

#[test]
fn an_event_ahead_of_the_clock_by_more_than_a_tile_is_refused() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 60);
    let edge_ms = edge_us / 1000;
    let line = |ahead_ms: u64| {
        format!("u FIELDS 1 x 1 SPAN 600 TILE 60 SPAN 86400 TILE 3600 AT {}", edge_ms + ahead_ms)
    };
    for ahead_ms in [60_001, 3_600_000] {
        let error = client.run(&format!("ML.FEATURETALLY {}", line(ahead_ms))).error();
        let latest = (edge_ms + 60_000).to_string();
        assert!(error.contains("AT") && error.contains(&latest), "{error}");
    }
    assert_eq!(client.run("EXISTS u").integer(), 0);
    assert_eq!(tally(&mut client, &line(60_000)), 1);
    assert_eq!(read(&mut client, "u", "count(x,600)"), [Some(0.0)], "its tile is to come");
    client.freeze(edge_us + 60 * SECOND);
    assert_eq!(read(&mut client, "u", "count(x,600)"), [Some(1.0)]);
}

/// Sums that count the lifetime, extremes that stay, what returns after an idle gap.
#[test]
fn what_left_the_window_is_gone_from_every_aggregate() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 10);
    let all = "count(x,60) sum(x,60) mean(x,60) min(x,60) max(x,60) std(x,60)";
    tally(&mut client, "u FIELDS 1 x -1e300 SPAN 60 TILE 10");
    tally(&mut client, "u FIELDS 1 x 1e300 SPAN 60 TILE 10");
    client.freeze(edge_us + 30 * SECOND);
    tally(&mut client, "u FIELDS 1 x 5 SPAN 60 TILE 10");
    let with_extremes = read(&mut client, "u", all);
    assert_eq!(with_extremes[1..5], [5.0, 5.0 / 3.0, -1e300, 1e300].map(Some));
    client.freeze(edge_us + 60 * SECOND);
    assert_eq!(read(&mut client, "u", all), [1.0, 5.0, 5.0, 5.0, 5.0, 0.0].map(Some));
    // Idle for longer than the span, then again.
    client.freeze(edge_us + 1_000 * SECOND);
    assert_eq!(read(&mut client, "u", "count(x,60) max(x,60)"), [Some(0.0), None]);
    tally(&mut client, "u FIELDS 1 x 2 SPAN 60 TILE 10");
    assert_eq!(read(&mut client, "u", all), [1.0, 2.0, 2.0, 2.0, 2.0, 0.0].map(Some));
}

#[test]
fn sums_do_not_drift() {
    let (_server, mut client, now_us) = frozen();
    at_the_edge(&mut client, now_us, 60);
    let amounts = ["0.1", "1e16", "0.2", "-1e16", "0.3"];
    let lines: Vec<_> = (0..20_000)
        .map(|number| {
            format!("ML.FEATURETALLY u FIELDS 1 x {} SPAN 600 TILE 60", amounts[number % 5])
        })
        .collect();
    client.run_all(&lines);
    let sum = read(&mut client, "u", "sum(x,600)")[0].unwrap();
    assert!((sum - 2_400.0).abs() < 1e-9, "{sum}");
    // Large amounts close to each other keep their spread.
    for amount in ["1000000000000001", "1000000000000003"] {
        tally(&mut client, &format!("v FIELDS 1 x {amount} SPAN 600 TILE 60"));
    }
    assert_eq!(read(&mut client, "v", "std(x,600)"), [Some(1.0)]);
    // Beyond all doubles a sum is infinite, and no worse.
    for _ in 0..2 {
        tally(&mut client, "w FIELDS 1 x 1.7e308 SPAN 600 TILE 60");
    }
    assert_eq!(
        read(&mut client, "w", "sum(x,600) max(x,600)"),
        [Some(f64::INFINITY), Some(1.7e308)]
    );
    assert_eq!(
        client.run("ML.FEATUREGET 1 w FIELDS 1 sum(x,600) AS JSON").text(),
        "[{\"sum(x,600)\":null}]"
    );
}

#[test]
fn a_clock_that_steps_back_counts_nothing_twice_and_loses_nothing() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 10) + 1_000 * SECOND;
    client.freeze(edge_us);
    tally(&mut client, "u FIELDS 1 x 1 SPAN 60 TILE 10");
    client.freeze(edge_us - 30 * SECOND);
    assert_eq!(read(&mut client, "u", "count(x,60)"), [Some(0.0)], "it is ahead");
    tally(&mut client, "u FIELDS 1 x 10 SPAN 60 TILE 10");
    assert_eq!(read(&mut client, "u", "sum(x,60)"), [Some(10.0)]);
    client.freeze(edge_us);
    assert_eq!(read(&mut client, "u", "sum(x,60)"), [Some(11.0)]);
}

#[test]
fn spans_change_at_once_and_tiles_do_not() {
    let (_server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 3_600);
    let ago = |seconds: u64| (edge_us - seconds * SECOND) / 1000;
    tally(&mut client, &format!("u FIELDS 1 x 1 SPAN 600 TILE 60 AT {}", ago(300)));
    // Shorter: what is older goes. Longer: it does not come back.
    tally(&mut client, "u FIELDS 1 x 2 SPAN 120 TILE 60");
    assert_eq!(read(&mut client, "u", "sum(x,120) sum(x,600)"), [Some(2.0), None]);
    tally(&mut client, &format!("u FIELDS 1 x 4 SPAN 1200 TILE 60 AT {}", ago(900)));
    assert_eq!(read(&mut client, "u", "sum(x,1200)"), [Some(6.0)]);
    // One more window begins then; a call that names one of two adds to both.
    tally(&mut client, "u FIELDS 1 x 8 SPAN 1200 TILE 60 SPAN 86400 TILE 86400");
    tally(&mut client, "u FIELDS 1 x 16 SPAN 1200 TILE 60");
    assert_eq!(read(&mut client, "u", "sum(x,1200) sum(x,86400)"), [Some(30.0), Some(24.0)]);
    let digest = client.digest();
    for spans in ["SPAN 600 TILE 30", "SPAN 1200 TILE 60 SPAN 600 TILE 30", "SPAN 86400 TILE 43200"]
    {
        let error = client.run(&format!("ML.FEATURETALLY u FIELDS 2 a 1 x 1 {spans}")).error();
        assert!(error.contains("'x'") && error.contains("TILE"), "{error}");
        assert_eq!(client.digest(), digest, "{spans}");
    }
    client.run("ML.FEATUREDEL u FIELDS 1 x").integer();
    assert_eq!(tally(&mut client, "u FIELDS 1 x 1 SPAN 600 TILE 30"), 1);
    // The finest that the span fits is read.
    tally(&mut client, "v FIELDS 1 x 1 SPAN 120 TILE 60 SPAN 86400 TILE 3600");
    client.freeze(edge_us + 120 * SECOND);
    let asked = "count(x,120) count(x,3600) count(x,7200) count(x,180)";
    assert_eq!(read(&mut client, "v", asked), [Some(0.0), Some(1.0), Some(1.0), None]);
}

#[test]
fn a_replayed_log_gives_the_same_counts() {
    let (server, mut client, now_us) = frozen();
    let edge_us = at_the_edge(&mut client, now_us, 3_600);
    let log: Vec<_> = (0..100u64)
        .map(|offset| {
            let at = (edge_us - (100 - offset) * 20 * SECOND) / 1000;
            let field = ["a", "b", "c"][offset as usize % 3];
            let spans = "SPAN 3600 TILE 60 SPAN 86400 TILE 3600";
            format!("u FIELDS 2 {field} {offset} all 1 {spans} AT {at} SEQ {offset}")
        })
        .collect();
    for line in &log[..60] {
        assert_eq!(tally(&mut client, line), 1);
    }
    let mut tap = Tap::on(&server);
    let digest = client.digest();
    assert!(log[..60].iter().all(|line| tally(&mut client, line) == 0));
    assert_eq!((client.digest(), tap.names(&mut client)), (digest, vec![]));
    // From a snapshot and on, some of it again.
    let dump = client.run("DUMP u").bytes();
    log[60..].iter().for_each(|line| _ = tally(&mut client, line));
    let expected = client.digest_of("u");
    call!(client, "RESTORE", "u", 0, dump, "REPLACE").ok();
    log[40..].iter().for_each(|line| _ = tally(&mut client, line));
    assert_eq!(client.digest_of("u"), expected);
    assert_eq!(
        read(&mut client, "u", "count(all,3600) sum(a,86400)"),
        [Some(100.0), Some(1_683.0)]
    );
    // Fields are asked one by one: of those that saw it, it leaves them as they are.
    assert_eq!(tally(&mut client, "u FIELDS 2 all 1 new 1 SPAN 3600 TILE 60 SEQ 99"), 1);
    assert_eq!(read(&mut client, "u", "count(all,3600) count(new,3600)"), [Some(100.0), Some(1.0)]);
}

/// What is named again and again is read again and again: so far, and no further.
#[test]
fn a_call_looks_at_so_many_tiles_only() {
    let (_server, mut client, now_us) = frozen();
    for ago_s in 0..10 {
        let at = now_us / 1000 - ago_s * 1_000;
        tally(&mut client, &format!("u FIELDS 1 x 1 SPAN 60 TILE 1 AT {at}"));
    }
    // Of other spans, so that each is another name.
    let fields: Vec<_> = (11..=60).map(|span| format!("sum(x,{span})")).collect();
    client.run("CONFIG SET ml.features-max-values 125").ok();
    assert_eq!(call!(client, "ML.FEATURES", "u", &fields).items(), vec![bulk("10.0"); 50]);
    client.run("CONFIG SET ml.features-max-values 100").ok();
    let error = call!(client, "ML.FEATURES", "u", &fields).error();
    assert!(error.contains("400 tiles") && error.contains("ml.features-max-values"), "{error}");
    for form in ["VALUES", "TENSOR", "JSON"] {
        let options = ("FIELDS", 20, &fields[..20], "AS", form);
        assert!(!call!(client, "ML.FEATUREGET", 1, "u", options).is_error(), "{form}");
        let keys = ["u", "u", "u", "u"];
        let options = ("FIELDS", 5, &fields[..5], "AS", form);
        assert!(!call!(client, "ML.FEATUREGET", 4, &keys, options).is_error(), "{form}");
    }
    // Once more for the deviation, for all else once; nothing where no ring fits.
    client.run("CONFIG SET ml.features-max-values 10").ok();
    let same: Vec<_> = (0..1_000)
        .flat_map(|_| ["std(x,11)", "count(x,11)", "max(x,12)", "sum(x,0.5)", "min(x,61)"])
        .collect();
    assert_eq!(call!(client, "ML.FEATURES", "u", &same).items().len(), 5_000);
    let error = call!(client, "ML.FEATURES", "u", &same, "std(x,12)", "sum(x,13)").error();
    assert!(error.contains("40 tiles"), "{error}");
}

/// Every event, kept: what stands for it at a moment is added up anew.
#[derive(Default)]
struct Oracle {
    events: Vec<(u64, f64)>,
}

impl Oracle {
    /// Whether an event at `at_us` counts at `now_us`, of `tiles` tiles.
    fn is_in(at_us: u64, now_us: u64, tile_us: u64, tiles: u64) -> bool {
        let running = now_us / tile_us;
        at_us / tile_us <= running && at_us / tile_us + tiles > running
    }

    fn read(&self, now_us: u64, tile_us: u64, tiles: u64) -> Vec<f64> {
        let is_in = |event: &&(u64, f64)| Self::is_in(event.0, now_us, tile_us, tiles);
        self.events.iter().filter(is_in).map(|(_, amount)| *amount).collect()
    }
}

#[test]
fn tallies_at_random_read_what_adding_all_events_up_does() {
    let (mut server, mut client, start_us) = {
        let server = Server::with("appendonly yes\nappendfsync always");
        let mut client = server.client();
        let now = client.freeze_ahead();
        (server, client, now)
    };
    for seed in Random::seeds() {
        client.run("FLUSHALL").ok();
        let mut random = Random::new(seed);
        let mut now_us = start_us;
        let mut oracles: [Oracle; 2] = Default::default();
        // The last SEQ of each field.
        let mut seqs = [None; 2];
        for round in 0..600 {
            now_us += match random.below(20) {
                0 => 700 * SECOND,
                1..=4 => 20 * SECOND,
                _ => random.below(3 * SECOND) / 1000 * 1000,
            };
            if round % 150 == 149 {
                server.restart(Stop::Kill);
                client = server.client();
            }
            client.freeze(now_us);
            let place = random.below(2) as usize;
            // Whole amounts add up exactly.
            let amount = random.below(1_000) as f64 - 500.0;
            let at_us = match random.below(4) {
                0 => now_us - random.below(900) * SECOND,
                1 => now_us + random.below(6) * SECOND,
                _ => now_us,
            };
            let seq = (random.below(3) == 0).then(|| random.below(400));
            let mut line = format!(
                "u FIELDS 1 x{place} {amount} SPAN 60 TILE 5 SPAN 600 TILE 60 AT {}",
                at_us / 1000
            );
            seq.iter().for_each(|seq| line.push_str(&format!(" SEQ {seq}")));
            let answer = client.run(&format!("ML.FEATURETALLY {line}"));
            if at_us > now_us + 5 * SECOND {
                assert!(answer.is_error(), "{line}, seed {seed}");
                continue;
            }
            let is_new = seq.is_none() || seq > seqs[place];
            let is_kept = at_us / (60 * SECOND) + 10 > now_us / (60 * SECOND);
            assert_eq!(answer.integer(), i64::from(is_new && is_kept), "{line}, seed {seed}");
            if is_new && is_kept {
                seqs[place] = seqs[place].max(seq);
                oracles[place].events.push((at_us, amount));
            }
            for (place, oracle) in oracles.iter().enumerate() {
                for (seconds, tile_s) in [(5, 5), (30, 5), (60, 5), (120, 60), (600, 60)] {
                    let fields = ["count", "sum", "min", "max", "mean", "std"]
                        .map(|name| format!("{name}(x{place},{seconds})"));
                    let told = read(&mut client, "u", &fields.join(" "));
                    let tile_us = tile_s * SECOND;
                    let amounts = oracle.read(now_us, tile_us, seconds / tile_s);
                    let context = || format!("x{place} over {seconds} s, {line}, seed {seed}");
                    if oracle.events.is_empty() {
                        assert_eq!(told, [None; 6], "{}", context());
                        continue;
                    }
                    let count = amounts.len() as f64;
                    let sum: f64 = amounts.iter().sum();
                    assert_eq!(told[..2], [Some(count), Some(sum)], "{}", context());
                    let least = amounts.iter().copied().reduce(f64::min);
                    let most = amounts.iter().copied().reduce(f64::max);
                    assert_eq!(told[2..4], [least, most], "{}", context());
                    let mean = (count > 0.0).then(|| sum / count);
                    assert_eq!(told[4], mean, "{}", context());
                    let spread = |mean: f64| {
                        let squares = amounts.iter().map(|amount| (amount - mean).powi(2));
                        (squares.sum::<f64>() / count).sqrt()
                    };
                    let near = match (told[5], mean.map(spread)) {
                        (Some(told), Some(std)) => (told - std).abs() < 1e-6,
                        (told, std) => told == std,
                    };
                    assert!(near, "{:?}: {}", told[5], context());
                }
            }
        }
    }
}

#[test]
fn replicas_and_restarts_read_the_same_bits() {
    let mut server = Server::with("appendonly yes\nappendfsync always");
    let replica = server.replica("");
    let mut client = server.client();
    let now_us = client.freeze_ahead();
    let mut random = Random::new(3);
    for _ in 0..500 {
        let amount = random.of(&["0.1", "-0.7", "1e16", "3.3", "-1e16"]);
        let at = now_us / 1000 - random.below(50_000);
        tally(
            &mut client,
            &format!("u FIELDS 1 x {amount} SPAN 60 TILE 1 SPAN 3600 TILE 60 AT {at}"),
        );
    }
    let asked = "ML.FEATURES u sum(x,60) std(x,60) mean(x,3600) min(x,30) count(x,3600)";
    let expected = client.run(asked);
    replica.catch_up(&server);
    let mut follower = replica.client();
    follower.freeze(now_us);
    assert_eq!(follower.run(asked), expected);
    assert_eq!(follower.digest(), client.digest());
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.run(asked), expected);
    server.restart(Stop::Kill);
    let mut client = server.client();
    client.freeze(now_us);
    assert_eq!(client.run(asked), expected);
}

/// By the view and the field together something else would be read.
#[test]
fn no_field_is_written_that_cannot_be_read() {
    let server = Server::start();
    let mut client = server.client();
    for (view, field) in [("", "e[3]"), ("max(a", "x,60)"), ("", "max(a:x,60)"), ("v", "x[2]")] {
        let push = call!(client, "ML.FEATUREPUSH", "u", field, 1, "LAST", 9, "VIEW", view);
        let tally = ("FIELDS", 1, field, 1, "SPAN", 60, "TILE", 60, "VIEW", view);
        let tally = call!(client, "ML.FEATURETALLY", "u", tally);
        let set = call!(client, "ML.FEATURESET", "u", "VIEW", view, "FIELDS", 1, field, 7);
        for answer in [push, tally, set] {
            let error = answer.error();
            assert!(error.contains(field) && error.contains("cannot be written"), "{error}");
        }
    }
    assert_eq!(client.run("EXISTS u").integer(), 0);
    // What only looks alike can.
    for (view, field) in [("max(a", "x,sixty)"), ("", "x]"), ("f", "mean(x)")] {
        call!(client, "ML.FEATURESET", "u", "VIEW", view, "FIELDS", 1, field, 7).integer();
        let name = if view.is_empty() { field.to_owned() } else { format!("{view}:{field}") };
        assert_eq!(call!(client, "ML.FEATURES", "u", name).texts(), ["7"]);
    }
}

#[test]
fn an_event_into_a_wide_row_is_replicated_and_done_as_an_event() {
    let server = Server::start();
    let mut client = server.client();
    let fields: Vec<_> = (0..5_000).map(|field| format!("f{field}")).collect();
    let options = ("TYPE", "F32", "FIELDS", 5_000, &fields);
    call!(client, "ML.FEATUREMSET", 1, "u", vec![0u8; 20_000], options).integers();
    tally(&mut client, "u FIELDS 1 x 1 SPAN 60 TILE 60");
    client.run("ML.FEATUREPUSH u s a LAST 20").integer();
    let mut tap = Tap::on(&server);
    if client.knows("ML.DEBUG") {
        client.run("ML.DEBUG WORK DONE");
    }
    tally(&mut client, "u FIELDS 1 x 1 SPAN 60 TILE 60");
    client.run("ML.FEATUREPUSH u s b LAST 20").integer();
    if client.knows("ML.DEBUG") {
        let allocated = client.run("ML.DEBUG WORK DONE").items()[1].integer();
        assert!(allocated < 16_384, "{allocated} bytes for two events, in a row of 20,000");
    }
    for effect in tap.replicated(&mut client) {
        let bytes: usize = effect.iter().map(Vec::len).sum();
        assert!(effect[0] == b"ML.APPLYROW" && bytes < 100, "{bytes} bytes");
    }
}

#[test]
fn windows_take_memory_for_the_tiles_that_events_fell_into() {
    let (server, mut client, now_us) = frozen();
    let used = |client: &mut Client| client.info("used_memory").parse::<i64>().unwrap();
    let edge_us = at_the_edge(&mut client, now_us, 60);
    // Over and over a ring of sixty tiles: it stays one.
    for round in 0..20 {
        let lines: Vec<_> = (0..600u64)
            .map(|number| {
                let at = (edge_us + (round * 600 + number) * 6 * SECOND) / 1000;
                format!("ML.FEATURETALLY u FIELDS 1 x 1 SPAN 3600 TILE 60 AT {at}")
            })
            .collect();
        client.freeze(edge_us + (round + 1) * 3_600 * SECOND);
        server.client().run_all(&lines);
    }
    let (told, taken) = footprint_of(&mut client, "u");
    assert!(client.run("MEMORY USAGE u").integer() < 2 * 60 * 48, "as full as ever");
    println!("{told} bytes told, {taken} taken, for sixty tiles");
    assert!((60 * 48..60 * 48 + 1_024).contains(&taken), "{told} told, {taken} taken");
    assert!((told - taken).abs() < 512, "{told} told, {taken} taken");
    // Many keys of one event each.
    let fill = || {
        for some in 0..5 {
            let lines: Vec<_> = (0..10_000)
                .map(|key| {
                    let spans = "SPAN 3600 TILE 60 SPAN 2592000 TILE 86400";
                    format!("ML.FEATURETALLY k{some}:{key} FIELDS 1 x 1 {spans}")
                })
                .collect();
            server.client().run_all(&lines);
        }
    };
    fill();
    let once = used(&mut client);
    fill();
    let twice = used(&mut client) - once;
    assert!(twice < 1 << 20, "{twice} bytes more for events in the same tiles");
    client.run("FLUSHALL SYNC").ok();
    let each = (once - used(&mut client)) / 50_000;
    println!("{each} bytes for a key with one event in two windows");
    assert!((200..600).contains(&each), "{each} bytes for a key with one event in two windows");
}

/// What a primary took in must be there after a restart, up to the last byte.
#[test]
fn a_row_that_an_event_filled_can_be_loaded() {
    const MOST: usize = 64 << 20;
    let server = Server::start();
    let mut client = server.client();
    let (mut taken, mut refused) = (0, 0);
    // The event takes a tile of 48 bytes, its field a slot and a type, the text its length.
    for left in [30, 66, 70, 74, 75, 140] {
        client.run("FLUSHALL SYNC").ok();
        let text = vec![b'x'; MOST - left];
        let set = call!(client, "ML.FEATURESET", "row", "FIELDS", 1, "text", text);
        assert_eq!(set.integer(), 1, "{left}");
        let tally = client.run("ML.FEATURETALLY row FIELDS 1 spend 1 SPAN 60 TILE 60");
        if tally.is_error() {
            refused += 1;
        } else {
            taken += 1;
        }
        let payload = client.run("DUMP row").bytes();
        call!(client, "RESTORE", "loaded", 0, payload).ok();
        assert_eq!(client.digest_of("loaded"), client.digest_of("row"), "{left}");
    }
    assert!(taken > 0 && refused > 0, "{taken} were taken, {refused} refused");
}
