//! A server that is killed under load has all that it had acknowledged, with an AOF
//! that is written before each answer.

use crate::support::permits;
use crate::support::rates::Info;
use crate::support::{Answer, Client, Random, Server, Stop, wait_for};
use redis::Value;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WRITERS: usize = 4;

/// What one writer was told was done.
#[derive(Default)]
struct Acknowledged {
    granted: AtomicU64,
    /// The number of the last value, and of the last event.
    value: AtomicU64,
    event: AtomicU64,
    permits: AtomicU64,
    settled: AtomicU64,
}

/// The event times of rows are so many milliseconds more than their numbers.
const FIRST_EVENT: u64 = 1_700_000_000_000;

/// Writes until the server is gone.
fn write(server: &Server, writer: usize, told: &Acknowledged) {
    let mut client = server.client();
    let mut random = Random::new(writer as u64);
    let done = |answer: redis::RedisResult<Value>| answer.ok().filter(|answer| !answer.is_error());
    for number in told.value.load(Relaxed) + 1.. {
        let at = FIRST_EVENT + number;
        let calls = [
            format!("ML.RATELIMIT limit:{writer} 1000000000 90000"),
            format!("ML.CACHESET cache:{writer} v{} {number} EX 90000", number % 2),
            format!("ML.FEATURESET row:{writer} VIEW v AT {at} FIELDS 2 f {number} g {number}"),
            format!("ML.ADMIT 1 permits:{writer} PERMIT 60000 HOLD 90000000"),
            format!("ML.FEATUREMSET 2 a:{writer} b:{writer} 12345678 TYPE F32 FIELDS 1 x AT {at}"),
        ];
        let Some(answer) = done(client.try_run(&calls[0])) else { return };
        told.granted.fetch_add(answer.items()[0].integer() as u64, Relaxed);
        let Some(_) = done(client.try_run(&calls[1])) else { return };
        told.value.store(number, Relaxed);
        let Some(_) = done(client.try_run(&calls[2])) else { return };
        told.event.store(number, Relaxed);
        if random.below(20) == 0 {
            let Some(answer) = done(client.try_run(&calls[3])) else { return };
            told.permits.fetch_add(answer.items()[0].integer() as u64, Relaxed);
        }
        let Some(_) = done(client.try_run(&calls[4])) else { return };
        told.settled.store(number, Relaxed);
    }
}

/// Whether all that a writer was told is there, and at most one more of each.
fn check(client: &mut Client, writer: usize, told: &Acknowledged, context: &str) {
    let or_one_more = |found: u64, told: &AtomicU64, what: &str| {
        let known = told.load(Relaxed);
        assert!((known..=known + 1).contains(&found), "{what}: {found} of {known}, {context}");
        // What was done without having been acknowledged counts from now on.
        told.store(found, Relaxed);
    };
    let info = Info::of(client, &format!("limit:{writer}")).unwrap();
    or_one_more(info.used()[0] as u64, &told.granted, "granted");
    let values = [0, 1].map(|version| {
        let call = format!("ML.CACHEGET cache:{writer} v{version}");
        client.run(&call).text().parse::<u64>().unwrap()
    });
    or_one_more(values[0].max(values[1]), &told.value, "value");
    assert_eq!(values[0].abs_diff(values[1]), 1);
    let row = client.run(&format!("ML.FEATURES row:{writer} v:f v:g")).texts();
    assert_eq!(row[0], row[1]);
    or_one_more(row[0].parse().unwrap(), &told.event, "event");
    if let Some((in_use, _)) = permits::info(client, &format!("permits:{writer}")) {
        or_one_more(in_use as u64, &told.permits, "permits");
    }
    let batch = client.run(&format!("ML.FEATUREINFO b:{writer}")).map()["views"].items();
    or_one_more(batch[0].map()["at_ms"].integer() as u64 - FIRST_EVENT, &told.settled, "batch");
}

#[test]
fn nothing_acknowledged_is_lost_when_a_server_is_killed_under_load() {
    for preamble in ["yes", "no"] {
        let config = format!("appendonly yes\nappendfsync always\naof-use-rdb-preamble {preamble}");
        let mut server = Server::with(&config);
        let told: [Acknowledged; WRITERS] = Default::default();
        for round in 0..4 {
            let pid = server.client().info("process_id");
            // Of the writer that is behind all others: of each something is to be checked.
            let least = || told.iter().map(|one| one.event.load(Relaxed)).min().unwrap();
            let before = least();
            std::thread::scope(|scope| {
                for (writer, told) in told.iter().enumerate() {
                    let server = &server;
                    scope.spawn(move || write(server, writer, told));
                }
                let wait = |more: u64| {
                    wait_for("writes", || least() >= before + more);
                };
                wait(100);
                // In the midst of a rewrite, or right after one, or without.
                if round > 0 {
                    server.client().run("BGREWRITEAOF").text();
                }
                if round > 1 {
                    wait(150 * round);
                }
                let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
                assert!(killed.unwrap().success());
            });
            server.restart(Stop::Kill);
            let mut client = server.client();
            for (writer, told) in told.iter().enumerate() {
                check(&mut client, writer, told, &format!("preamble {preamble}, round {round}"));
            }
            // What was loaded is what a further load gives.
            let before = client.digest();
            client.run("DEBUG LOADAOF").ok();
            assert_eq!(client.digest(), before);
        }
    }
}
