//! Windows that close at a moment, as callers see them: to the millisecond, on a replica,
//! after a restart, by a clock that steps over the moment. Which days there are is tested
//! beside the code.

use crate::support::queues::{queue, told};
use crate::support::rates::{Admission, Row};
use crate::support::{Answer, Client, Server, Stop, call};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// A day of which neither the next midnight nor the next month has come by the server's
/// own clock: days since 1970.
fn day_ahead() -> u64 {
    2 + SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

/// The first day of the next month, days since 1970: counted from there, year by year.
fn next_month(day: u64) -> u64 {
    let mut first = 0;
    for year in 1970.. {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap { 29 } else { 28 };
        for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            first += days;
            if first > day {
                return first;
            }
        }
    }
    unreachable!()
}

/// The next Monday: the first day of 1970 was a Thursday.
fn next_monday(day: u64) -> u64 {
    (day + 1..).find(|day| day % 7 == 4).unwrap()
}

/// The words of windows that close at a moment, and the moments.
fn closes(now_us: u64) -> [(String, u64); 4] {
    let day = now_us / DAY;
    let until = now_us + 90 * HOUR;
    [
        ("DAY".to_owned(), (day + 1) * DAY),
        ("WEEK".to_owned(), next_monday(day) * DAY),
        ("MONTH".to_owned(), next_month(day) * DAY),
        (format!("UNTIL {}", until / MILLI), until),
    ]
}

/// What ML.RATELIMIT says.
#[track_caller]
fn rate(client: &mut Client, words: &str) -> Row {
    Row::of(&client.run(&format!("ML.RATELIMIT {words}")))
}

/// What ML.LIMITINFO says of each window of a key: its word or length, and what is used.
#[track_caller]
fn used(client: &mut Client, key: &str) -> HashMap<String, i64> {
    let windows = call!(client, "ML.LIMITINFO", key).map()["windows"].items();
    let one = |window: &redis::Value| {
        let window = window.map();
        let length = || window["window_ms"].integer().to_string();
        let name = window.get("window").map_or_else(length, Answer::text);
        (name, window["used"].integer())
    };
    windows.iter().map(one).collect()
}

#[test]
fn a_window_closes_at_its_moment_and_not_a_millisecond_before() {
    let server = Server::start();
    let mut client = server.client();
    let now = day_ahead() * DAY + 7 * HOUR;
    for algorithm in ["FIXED", "SLIDING", "GCRA"] {
        for (place, (word, close)) in closes(now).into_iter().enumerate() {
            client.freeze(now);
            let asked = word.split(' ').next().unwrap();
            let (key, end) = (format!("{asked}:{algorithm}"), format!("ALGORITHM {algorithm}"));
            let words = format!("{key} 99 1 2 {word} {end}");
            let row = rate(&mut client, &words);
            assert_eq!(row.figures()[..3], [1, 2, 1], "{words}");
            assert_eq!(row.reset_ms as u64, (close - now) / MILLI, "{words}");
            let admitted = format!("1 {key} LIMIT 99 1 2 {word} {end}");
            assert!(Admission::ask(&mut client, &admitted).admitted);
            // The same moment, asked for a moment before it.
            for before in [close - now, HOUR, MILLI] {
                client.freeze(close - before);
                let denied = Admission::ask(&mut client, &admitted);
                assert_eq!(denied.retry_ms as u64, before / MILLI, "{admitted}");
                assert_eq!(rate(&mut client, &words).retry_ms, denied.retry_ms, "{words}");
                assert_eq!(used(&mut client, &key)[asked], 2, "{words}");
            }
            client.freeze(close);
            assert_eq!(used(&mut client, &key)[asked], 0, "{words}");
            let (next_word, next) = closes(close).into_iter().nth(place).unwrap();
            let words = words.replace(&word, &next_word);
            let row = rate(&mut client, &words);
            assert_eq!((row.granted, row.remaining), (1, 1), "{words}");
            assert_eq!(row.reset_ms as u64, (next - close) / MILLI, "{words}");
        }
    }
}

#[test]
fn what_is_used_and_when_it_closes_is_the_same_on_a_replica_and_after_a_restart() {
    for (config, how) in [
        ("", Stop::Save),
        ("appendonly yes\nappendfsync always", Stop::Kill),
        ("appendonly yes\nappendfsync always\naof-use-rdb-preamble no", Stop::Kill),
    ] {
        let mut server = Server::with(config);
        let replica = server.replica("");
        let now = day_ahead() * DAY + 7 * HOUR;
        let mut client = server.client();
        client.freeze(now);
        let all = closes(now);
        for (word, _) in &all {
            let key = word.split(' ').next().unwrap();
            let words = format!("{key} 9 3600 5 {word} COST 2");
            assert_eq!(rate(&mut client, &words).granted, 2);
            assert!(Admission::ask(&mut client, &format!("1 {key} LIMIT 5 {word}")).admitted);
        }
        if config.contains("preamble") {
            client.rewrite_aof();
        }
        replica.catch_up(&server);
        let digest = client.digest();
        assert_eq!(replica.client().digest(), digest);
        server.restart(how);
        let mut client = server.client();
        assert_eq!(client.digest(), digest, "{config}");
        // A replica that becomes the primary denies, and lets in, as the old one would.
        let mut other = replica.client();
        other.run("REPLICAOF NO ONE").ok();
        for (word, close) in &all {
            let key = word.split(' ').next().unwrap();
            let words = format!("{key} 5 {word} COST 3");
            for client in [&mut client, &mut other] {
                client.freeze(close - MILLI);
                assert_eq!(used(client, key)[key], 3, "{word}");
                let denied = rate(client, &words);
                assert_eq!((denied.granted, denied.retry_ms), (0, 1), "{word}");
                client.freeze(*close);
                assert_eq!(used(client, key)[key], 0, "{word}");
                if !word.starts_with("UNTIL") {
                    assert_eq!(rate(client, &words).granted, 3, "{word}");
                }
            }
        }
    }
}

#[test]
fn a_replica_sees_windows_close_by_its_own_clock() {
    let server = Server::start();
    let replica = server.replica("");
    let (mut client, mut reader) = (server.client(), replica.client());
    let now = day_ahead() * DAY + 7 * HOUR;
    [&mut client, &mut reader].iter_mut().for_each(|client| client.freeze(now));
    for (word, close) in closes(now) {
        let key = word.split(' ').next().unwrap();
        rate(&mut client, &format!("{key} 5 {word} COST 2"));
        replica.catch_up(&server);
        for (moment, expected) in [(now, 2), (close - MILLI, 2), (close, 0)] {
            reader.freeze(moment);
            assert_eq!(used(&mut reader, key)[key], expected, "{word}");
        }
        assert!(reader.run(&format!("ML.RATELIMIT {key} 5 {word} PEEK")).is_error());
    }
}

#[test]
fn an_until_moves_forth_and_back_with_who_is_granted_and_with_nobody_else() {
    let server = Server::start();
    let mut client = server.client();
    let now = day_ahead() * DAY;
    client.freeze(now);
    let until = |hours: u64| (now + hours * HOUR) / MILLI;
    let ask = |client: &mut Client, limit: u64, hours: u64, by_admit: bool| match by_admit {
        false => rate(client, &format!("k {limit} UNTIL {}", until(hours))),
        true => {
            let words = format!("1 k LIMIT {limit} UNTIL {}", until(hours));
            Admission::ask(client, &words).rows.remove(0)
        }
    };
    for by_admit in [false, true] {
        client.freeze(now);
        client.run("DEL k").integer();
        let hours = |row: Row| row.reset_ms / 3_600_000;
        assert_eq!(hours(ask(&mut client, 9, 10, by_admit)), 10);
        assert_eq!(hours(ask(&mut client, 9, 20, by_admit)), 20, "forth");
        client.freeze(now + 10 * HOUR);
        assert_eq!(used(&mut client, "k")["UNTIL"], 2, "the moment it was to close at first");
        // Who is denied moves nothing, nor does who looks.
        assert_eq!(ask(&mut client, 2, 11, by_admit).granted, 0);
        client.run(&format!("ML.RATELIMIT k 9 UNTIL {} PEEK", until(11))).integers();
        client.freeze(now + 19 * HOUR);
        assert_eq!(used(&mut client, "k")["UNTIL"], 2);
        client.freeze(now + 12 * HOUR);
        let back = ask(&mut client, 9, 13, by_admit);
        assert_eq!((back.remaining, hours(back)), (6, 1), "back");
        client.freeze(now + 13 * HOUR - MILLI);
        assert_eq!(used(&mut client, "k")["UNTIL"], 3);
        client.freeze(now + 13 * HOUR);
        assert_eq!(used(&mut client, "k")["UNTIL"], 0);
        assert_eq!(ask(&mut client, 9, 14, by_admit).remaining, 8);
        // Only what is to come, and no more than a year and a day of it.
        for hours in [13, 12] {
            assert!(client.run(&format!("ML.RATELIMIT k 9 UNTIL {}", until(hours))).is_error());
        }
        let last = until(13 + 366 * 24);
        assert!(client.run(&format!("ML.RATELIMIT far 9 UNTIL {}", last + 1)).is_error());
        assert_eq!(rate(&mut client, &format!("far 9 UNTIL {last}")).granted, 1);
    }
}

#[test]
fn a_clock_that_steps_over_midnight_and_back_grants_nothing_twice() {
    let server = Server::start();
    let replica = server.replica("");
    let mut client = server.client();
    for (key, ask) in [("r", "ML.RATELIMIT r 2 DAY"), ("a", "ML.ADMIT 1 a LIMIT 2 DAY")] {
        let midnight = (day_ahead() + 1) * DAY;
        let granted = |client: &mut Client, moment: u64| {
            client.freeze(moment);
            let answer = client.run(ask);
            match key {
                "r" => Row::of(&answer).granted,
                _ => i64::from(Admission::of(&answer).admitted),
            }
        };
        assert_eq!(granted(&mut client, midnight - SECOND), 1);
        // Forth: the day after is another.
        assert_eq!(
            [1, 2, 3].map(|second| granted(&mut client, midnight + second * SECOND)),
            [1, 1, 0]
        );
        // Back: what was used in it is used now, until midnight and no longer.
        assert_eq!(granted(&mut client, midnight - SECOND), 0);
        let info = call!(client, "ML.LIMITINFO", key).map()["windows"].items()[0].map();
        assert_eq!(info["reset_after_ms"].integer(), 1_000, "{info:?}");
        assert_eq!(granted(&mut client, midnight - MILLI), 0);
        assert_eq!(
            [0, 1, 2].map(|second| granted(&mut client, midnight + second * SECOND)),
            [1, 1, 0]
        );
        // By two days.
        assert_eq!(granted(&mut client, midnight - 2 * DAY), 0);
        assert_eq!(granted(&mut client, midnight - DAY), 1);
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), client.digest());
    }
}

#[test]
fn who_waits_for_a_window_that_closes_is_let_in_at_its_moment() {
    let server = Server::start();
    let mut client = server.client();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let close = now_ms + 3_000;
    assert_eq!(rate(&mut client, &format!("k 1 UNTIL {close}")).granted, 1);
    let mut crowd = queue(&server, &[&format!("1 k LIMIT 1 UNTIL {} WAIT 60000", now_ms + 60_000)]);
    assert!(told(&mut crowd, 0).admitted);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(now_ms >= close, "{now_ms} before {close}");
}
