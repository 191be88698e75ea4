//! Callers of ML.ADMIT that wait to be let in: who is next, who waits at all, what lets
//! them in, how their waits end, and that nothing is left of them.

use crate::support::fetches::Crowd;
use crate::support::queues::{
    ID, LONG, assert_nobody_waits, held_up, hold, join, queue, settle, told, waiting,
};
use crate::support::rates::{Admission, Info};
use crate::support::{Answer, Client, Server, call, wait_for};

#[test]
fn the_highest_priority_is_let_in_first_and_of_equals_the_first_that_came() {
    let server = Server::start();
    let mut client = server.client();
    let mut id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let priorities = ["", " PRIORITY 5", " PRIORITY 5", " PRIORITY 255", " PRIORITY 0"];
    let calls = priorities.map(|priority| format!("1 p PERMIT 1 {LONG}{priority}"));
    let mut crowd = queue(&server, &calls.each_ref().map(String::as_str));
    assert_eq!(held_up(&mut client, "p"), 5);
    let mut admitted = Vec::new();
    for next in [3, 1, 2, 0, 4] {
        settle(&mut client, "p", &id);
        let answer = told(&mut crowd, next);
        assert!(answer.admitted && answer.rows[0].granted == 1, "{answer:?}");
        id = answer.id.unwrap();
        admitted.push(next);
        admitted.sort_unstable();
        assert_eq!(crowd.answered(), admitted, "and nobody else");
    }
    assert_eq!(client.info("ml_admission_waited"), "5");
    assert_nobody_waits(&server, "all let in");
    crowd.assert_in_step();
}

#[test]
fn a_large_cost_is_not_overtaken_at_its_key() {
    let server = Server::start();
    let mut client = server.client();
    let most = hold(&mut client, "1 p PERMIT 4 COST 3 HOLD 600000");
    let large = format!("1 p PERMIT 4 COST 4 {LONG} PRIORITY 7");
    let mut crowd = queue(&server, &[&large, &format!("1 p PERMIT 4 COST 1 {LONG} PRIORITY 7")]);
    let small = Admission::ask(&mut client, "1 p PERMIT 4 HOLD 600000");
    assert_eq!((small.admitted, small.binding), (false, Some(0)), "there is one free");
    assert_eq!(small.rows[0].remaining, 1);
    assert!((590_000..=600_000).contains(&small.retry_ms), "that of the first: {small:?}");
    // Whoever comes with a higher priority passes, and takes what is free.
    let first = hold(&mut client, &format!("1 p PERMIT 4 {LONG} PRIORITY 8"));
    settle(&mut client, "p", &most);
    client.run("PING");
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0], "three are free, and it needs four");
    settle(&mut client, "p", &first);
    let all = told(&mut crowd, 0).id.unwrap();
    assert_eq!(crowd.answered(), [0]);
    settle(&mut client, "p", &all);
    assert!(told(&mut crowd, 1).admitted);
    crowd.assert_in_step();
}

#[test]
fn a_user_who_has_used_up_a_limit_delays_nobody_on_a_shared_key() {
    let server = Server::start();
    let mut client = server.client();
    let call = |user: &str| format!("2 {user} gpu LIMIT 1 3600 PERMIT 3 {LONG}");
    hold(&mut client, &call("u1"));
    let mut crowd = queue(&server, &[&call("u1")]);
    assert_eq!([held_up(&mut client, "u1"), held_up(&mut client, "gpu")], [1, 0]);
    let second = hold(&mut client, &call("u2"));
    hold(&mut client, &call("u3"));
    // Now it is the slots that are missing, to a user who is held up there.
    let mut other = queue(&server, &[&call("u4")]);
    assert_eq!([held_up(&mut client, "u1"), held_up(&mut client, "gpu")], [1, 1]);
    settle(&mut client, "gpu", &second);
    assert!(told(&mut other, 0).admitted);
    // When its own limit lets it in, it goes on to wait where the slots are missing.
    client.run("DEL u1").integer();
    wait_for("it to move", || held_up(&mut client, "gpu") == 1);
    assert_eq!(waiting(&mut client), 1);
    client.run("DEL gpu").integer();
    let answer = told(&mut crowd, 0);
    assert!(answer.admitted && answer.rows.iter().all(|row| row.granted == 1), "{answer:?}");
    assert_nobody_waits(&server, "all let in");
}

#[test]
fn what_takes_nothing_and_what_does_not_queue_pass_those_who_wait() {
    let server = Server::start();
    let mut client = server.client();
    hold(&mut client, &format!("1 l LIMIT 10 3600 COST 5 HOLD 600000 ID {ID}"));
    let mut crowd = queue(&server, &["1 l LIMIT 10 3600 COST 6 WAIT 600000"]);
    for words in [
        "1 l LIMIT 10 3600 COST 0".to_owned(),
        "1 l LIMIT 10 3600 COST 0 HOLD 600000".to_owned(),
        "1 l LIMIT 10 3600 COST 0 PEEK".to_owned(),
        format!("1 l LIMIT 10 3600 COST 5 HOLD 600000 ID {ID}"),
        format!("1 l LIMIT 10 3600 COST 5 HOLD 600000 ID {ID} WAIT 600000"),
    ] {
        assert!(Admission::ask(&mut client, &words).admitted, "{words}");
    }
    // By the queue alone.
    for words in ["LIMIT 10 3600", "LIMIT 10 3600 COST 5", "LIMIT 10 3600 PEEK"] {
        let denied = Admission::ask(&mut client, &format!("2 free l LIMIT 9 3600 {words}"));
        assert_eq!((denied.admitted, denied.binding), (false, Some(1)), "{words}");
        assert!((1..=3_600_000).contains(&denied.retry_ms), "{words}: {denied:?}");
        assert_eq!((denied.rows[0].retry_ms, denied.rows[1].remaining), (0, 5), "{words}");
    }
    // A key that denies by itself binds, also where another has a queue that is longer.
    client.run("ML.RATELIMIT full 1 60").items();
    let denied = Admission::ask(&mut client, "2 l full LIMIT 10 3600 LIMIT 1 60");
    assert_eq!((denied.binding, denied.rows[0].retry_ms), (Some(1), 0), "{denied:?}");
    assert_eq!(client.run("ML.RATELIMIT l 10 3600").items()[0].integer(), 1);
    let forced = Admission::ask(&mut client, "1 l LIMIT 10 3600 COST 3 FORCE");
    assert!(forced.admitted && forced.rows[0].remaining == 1, "{forced:?}");
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0]);
    // What is over is over for those, too, who are told its wait.
    client.run("DEL l").integer();
    assert!(told(&mut crowd, 0).admitted);
    assert!(Admission::ask(&mut client, "1 l LIMIT 10 3600 PEEK").admitted);
    crowd.assert_in_step();
}

#[test]
fn a_call_that_can_never_fit_never_waits() {
    let server = Server::start();
    let mut client = server.client();
    hold(&mut client, "2 l p LIMIT 5 3600 COST 5 PERMIT 1 HOLD 600000");
    for (words, binding) in [
        ("1 l LIMIT 5 3600 COST 6", 0),
        ("1 p PERMIT 1 COST 2", 0),
        ("1 other PERMIT 0", 0),
        ("3 p l other PERMIT 1 LIMIT 5 3600 LIMIT 5 3600 COST 6", 2),
    ] {
        let denied = Admission::ask(&mut client, &format!("{words} {LONG}"));
        assert_eq!((denied.retry_ms, denied.binding), (-1, Some(binding)), "{words}");
    }
    // Nor does one go on to wait that comes to be such a one: its key is a smaller
    // bucket's by then.
    let mut crowd = queue(&server, &[&format!("1 p PERMIT 1 {LONG}")]);
    client.run("DEL p").integer();
    assert!(told(&mut crowd, 0).admitted);
    assert_eq!(client.info("ml_admission_waited"), "1");
    assert_nobody_waits(&server, "never");
}

#[test]
fn a_queue_that_is_full_denies_at_once() {
    let server = Server::start();
    let mut client = server.client();
    let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let denied = |client: &mut Client, words: &str| {
        let denied = Admission::ask(client, words);
        assert!(!denied.admitted && denied.retry_ms > 0, "{words}: {denied:?}");
    };
    denied(&mut client, &format!("1 p PERMIT 1 QUEUE 0 {LONG}"));
    let mut crowd = queue(&server, &[&format!("1 p PERMIT 1 QUEUE 1 {LONG}")]);
    denied(&mut client, &format!("1 p PERMIT 1 QUEUE 1 {LONG}"));
    // Ahead of all others or not: the key has as many.
    denied(&mut client, &format!("1 p PERMIT 1 QUEUE 1 {LONG} PRIORITY 255"));
    let mut more = queue(&server, &[&format!("1 p PERMIT 1 QUEUE 2 {LONG}")]);
    client.run("CONFIG SET ml.limit-max-waiters 2").ok();
    denied(&mut client, &format!("1 p PERMIT 1 {LONG}"));
    client.run("CONFIG SET ml.limit-max-waiters 1").ok();
    assert_eq!(waiting(&mut client), 2, "who waits waits on");
    client.run("CONFIG SET ml.limit-max-waiters 65536").ok();
    client.run("CONFIG SET ml.limit-max-waiter-bytes 65536").ok();
    let long = "k".repeat(70_000);
    hold(&mut client, &format!("1 {long} PERMIT 1 HOLD 600000"));
    denied(&mut client, &format!("1 {long} PERMIT 1 {LONG}"));
    settle(&mut client, "p", &id);
    let id = told(&mut crowd, 0).id.unwrap();
    settle(&mut client, "p", &id);
    assert!(told(&mut more, 0).admitted);
    // An empty queue of length 0 is in nobody's way.
    client.run("DEL p").integer();
    assert!(Admission::ask(&mut client, &format!("1 p PERMIT 1 QUEUE 0 {LONG}")).admitted);
    client.run("DEL p").integer();
    assert_nobody_waits(&server, "full");
}

/// QUEUE counts at each key that a call comes to wait at, not only at the first.
#[test]
fn who_has_to_wait_at_another_key_whose_queue_is_full_is_denied_then() {
    let server = Server::start();
    let mut client = server.client();
    let user = hold(&mut client, "1 u PERMIT 2 COST 2 HOLD 900000");
    let model = hold(&mut client, "1 m PERMIT 1 HOLD 600000");
    let call = |queue: u32| format!("2 u m PERMIT 2 PERMIT 1 QUEUE {queue} {LONG}");
    let mut crowd = queue(&server, &[&call(1), &call(1), &call(2)]);
    assert_eq!((held_up(&mut client, "u"), held_up(&mut client, "m")), (3, 0));
    // The first goes on to wait for the model, and would wait there as often as need be;
    // the second finds it there; the third may.
    settle(&mut client, "u", &user);
    let denied = told(&mut crowd, 1);
    assert_eq!((denied.admitted, denied.binding), (false, Some(1)));
    assert!(denied.retry_ms > 0, "{denied:?}");
    wait_for("the others to move", || held_up(&mut client, "m") == 2);
    crowd.look();
    assert_eq!(crowd.answered(), [1]);
    // Looked at again, the first stays where it stands.
    client.run("EXPIRE m 100000").integer();
    settle(&mut client, "m", &model);
    let id = told(&mut crowd, 0).id.unwrap();
    assert_eq!(call!(client, "ML.SETTLE", 2, "u", "m", id).integers(), [1, 1]);
    assert!(told(&mut crowd, 2).admitted);
    crowd.assert_in_step();
    client.run("FLUSHALL").ok();
    assert_nobody_waits(&server, "a full queue elsewhere");
}

#[test]
fn where_nobody_can_be_blocked_a_call_is_denied_at_once() {
    let server = Server::start();
    let mut client = server.client();
    hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let call = format!("ML.ADMIT 1 p PERMIT 1 {LONG}");
    assert!(!Admission::ask(&mut client, "1 p PERMIT 1 HOLD 9 WAIT 0").admitted);
    client.run("MULTI").ok();
    client.run(&call);
    client.run(&format!("{call} PRIORITY 9"));
    for answer in client.run("EXEC").items() {
        assert!(!Admission::of(&answer).admitted);
    }
    let script =
        "return redis.call('ML.ADMIT', 1, KEYS[1], 'PERMIT', 1, 'HOLD', 9, 'WAIT', 600000)";
    assert_eq!(call!(client, "EVAL", script, 1, "p").items()[0].integer(), 0);
    assert_eq!(waiting(&mut client), 0);
    let mut subscriber = server.client3();
    subscriber.subscribe("channel");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Admission::of(&subscriber.run(&call)));
        // It waits, or it has been told.
        wait_for("the caller", || waiting(&mut client) == 1 || waits.is_finished());
        let has_waited = waiting(&mut client) == 1;
        client.run("DEL p").integer();
        assert_eq!(waits.join().unwrap().admitted, has_waited);
    });
    assert_eq!(subscriber.run("PING").text(), "PONG", "in step");
    assert_nobody_waits(&server, "not blocked");
    // Nor on a replica, not even on one that takes writes of its own.
    let replica = server.replica("replica-read-only no");
    let mut client = replica.client();
    hold(&mut client, "1 r PERMIT 1 HOLD 600000");
    assert!(!Admission::ask(&mut client, &format!("1 r PERMIT 1 {LONG}")).admitted);
    assert_eq!(waiting(&mut client), 0);
}

#[test]
fn words_that_exclude_each_other_and_wrong_numbers_are_refused_by_name() {
    let server = Server::start();
    let mut client = server.client();
    for (words, named) in [
        ("LIMIT 1 60 WAIT 1 PEEK", ["PEEK", "WAIT"]),
        ("LIMIT 1 60 PEEK WAIT 1", ["PEEK", "WAIT"]),
        ("LIMIT 1 60 WAIT 1 FORCE", ["FORCE", "WAIT"]),
        ("LIMIT 1 60 FORCE WAIT 1", ["FORCE", "WAIT"]),
        ("LIMIT 1 60 PRIORITY 1", ["PRIORITY", "WAIT"]),
        ("LIMIT 1 60 PRIORITY 1 PEEK", ["PRIORITY", "WAIT"]),
        ("LIMIT 1 60 WAIT", ["WAIT", ""]),
        ("LIMIT 1 60 WAIT -1", ["WAIT", "0"]),
        ("LIMIT 1 60 WAIT 1.5", ["WAIT", "integer"]),
        ("LIMIT 1 60 WAIT 31622400001", ["WAIT", "31622400000"]),
        ("LIMIT 1 60 WAIT 1 WAIT 1", ["WAIT", ""]),
        ("LIMIT 1 60 WAIT 1 PRIORITY", ["PRIORITY", ""]),
        ("LIMIT 1 60 WAIT 1 PRIORITY 256", ["PRIORITY", "255"]),
        ("LIMIT 1 60 WAIT 1 PRIORITY -1", ["PRIORITY", "255"]),
        ("LIMIT 1 60 WAIT 1 PRIORITY 1 PRIORITY 1", ["PRIORITY", ""]),
        ("LIMIT 1 60 QUEUE -1 WAIT 1", ["QUEUE", "0"]),
        ("LIMIT 1 60 QUEUE x", ["QUEUE", "integer"]),
        ("PERMIT 1 QUEUE 1 QUEUE 1 HOLD 9", ["QUEUE", ""]),
        ("PERMIT 1 HOLD 9 QUEUE 1", ["QUEUE", ""]),
        ("LIMIT 1 60 WAIT 1 QUEUE 1", ["QUEUE", ""]),
    ] {
        let error = client.run(&format!("ML.ADMIT 1 k {words}")).error();
        assert!(named.iter().all(|name| error.contains(name)), "{words}: {error}");
    }
    assert_eq!(client.run("DBSIZE").integer(), 0);
}

#[test]
fn a_wait_ends_in_one_way_and_leaves_nothing() {
    type End = fn(&mut Client, &mut Crowd, i64);
    let ends: [(&str, &str, End); 6] = [
        ("CLIENT KILL", "closed", |client, _, id| {
            call!(client, "CLIENT", "KILL", "ID", id).integer();
        }),
        ("a disconnect", "closed", |_, crowd, _| crowd.leave(0)),
        ("CLIENT UNBLOCK TIMEOUT", "denied", |client, _, id| {
            assert_eq!(call!(client, "CLIENT", "UNBLOCK", id, "TIMEOUT").integer(), 1);
        }),
        ("CLIENT UNBLOCK ERROR", "UNBLOCKED", |client, _, id| {
            assert_eq!(call!(client, "CLIENT", "UNBLOCK", id, "ERROR").integer(), 1);
        }),
        ("its time being over", "denied", |_, _, _| {}),
        // The key lets it in by then, and the server's clock alone has not told yet.
        ("its time being over when it fits", "admitted", |client, _, _| {
            let now = client.freeze_ahead();
            client.freeze(now + 7_200_000_000);
        }),
    ];
    let server = Server::start();
    let mut client = server.client();
    for (name, expected, end) in ends {
        let key = name.replace(' ', "-");
        hold(&mut client, &format!("2 {key} {key}:p LIMIT 1 3600 PERMIT 9 HOLD 600000"));
        let wait_ms = if name.contains("time being") { 3_000 } else { 600_000 };
        let mut crowd = Crowd::of(&server, 1);
        crowd.send(0, "CLIENT ID");
        crowd.wait_for(1);
        let id = crowd.answers(0)[0].integer();
        let items = "LIMIT 1 3600 PERMIT 9 HOLD 600000";
        crowd.send(0, &format!("ML.ADMIT 2 {key} {key}:p {items} WAIT {wait_ms}"));
        wait_for("it to wait", || waiting(&mut client) == 1 || wait_ms < 600_000);
        let before = client.digest();
        end(&mut client, &mut crowd, id);
        crowd.look_until(name, |crowd| crowd.is_answered(0) || !crowd.is_connected(0));
        match expected {
            "closed" => assert!(!crowd.is_connected(0) && !crowd.is_answered(0), "{name}"),
            "UNBLOCKED" => {
                let error = crowd.last(0).error();
                assert!(error.starts_with("UNBLOCKED"), "{name}: {error}");
            }
            "admitted" => assert!(told(&mut crowd, 0).admitted, "{name}"),
            _ => {
                let denied = told(&mut crowd, 0);
                assert_eq!((denied.admitted, denied.binding), (false, Some(0)), "{name}");
                assert!((1..=3_600_000).contains(&denied.retry_ms), "{name}: {denied:?}");
            }
        }
        crowd.assert_in_step();
        if expected != "admitted" {
            wait_for("it to be forgotten", || waiting(&mut client) == 0);
            assert_eq!(client.digest(), before, "{name}: nothing is taken");
        }
        call!(client, "ML.DEBUG", "CLOCK", "REAL");
        assert_nobody_waits(&server, name);
    }
}

/// In one go, so that the server has not been through its loop in between.
#[test]
fn one_that_dies_or_is_unblocked_as_it_is_let_in_is_answered_once_at_most() {
    for how in ["KILL ID {}", "UNBLOCK {} ERROR", "UNBLOCK {} TIMEOUT"] {
        let server = Server::start();
        let mut client = server.client();
        let first = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
        let mut crowd = Crowd::of(&server, 2);
        crowd.send(0, "CLIENT ID");
        crowd.look_until("its id", |crowd| crowd.is_answered(0));
        let end = how.replace("{}", &crowd.answers(0)[0].integer().to_string());
        join(&mut crowd, &mut client, 0, "1 p PERMIT 1 HOLD 2000 WAIT 600000");
        join(&mut crowd, &mut client, 1, &format!("1 p PERMIT 1 {LONG}"));
        client.run_all(&[format!("ML.SETTLE 1 p {first}"), format!("CLIENT {end}")]);
        // At once, or when the permit of one who heard nothing of it has run out.
        assert!(told(&mut crowd, 1).admitted, "{how}");
        crowd.look_until(how, |crowd| crowd.is_answered(0) || !crowd.is_connected(0));
        crowd.assert_in_step();
        let in_use = Info::of(&mut client, "p").unwrap().in_use;
        assert_eq!(in_use, Some(1), "{how}");
        assert_nobody_waits(&server, how);
    }
}

#[test]
fn whatever_happens_to_a_key_has_those_held_up_there_decided_anew() {
    // What happens to a key whose one permit is in use, and what the two are told who
    // wait for it: (A)dmitted, (W)RONGTYPE, or nothing yet.
    let ways = [
        ("ML.SETTLE 1 p {id}", "A."),
        ("DEL p", "A."),
        ("UNLINK p", "A."),
        ("FLUSHDB", "A."),
        ("FLUSHDB ASYNC", "A."),
        ("FLUSHALL", "A."),
        ("FLUSHALL ASYNC", "A."),
        ("RENAME p other", "A."),
        ("ML.ADMIT 1 other PERMIT 2 HOLD 600000; RENAME other p; ML.RENEW 1 p {id} 1", ".."),
        ("SET other x; RENAME other p", "WW"),
        ("SET other x; COPY other p REPLACE", "WW"),
        ("MOVE p 1", "A."),
        ("SWAPDB 0 1", "A."),
        ("SWAPDB 1 0", "A."),
        ("SELECT 1; SET p x; SELECT 0; SWAPDB 0 1", "WW"),
        ("SET p x", "WW"),
        ("MULTI; DEL p; RPUSH p x; EXEC", "WW"),
        ("PEXPIRE p 1", "A."),
        ("EXPIREAT p 1", "A."),
        ("ML.RENEW 1 p {id} 1", "A."),
        ("MULTI; ML.SETTLE 1 p {id}; EXEC", "A."),
        ("EVAL redis.call('DEL',KEYS[1]) 1 p", "A."),
        ("RESTORE p 0 {empty} REPLACE", "WW"),
    ];
    for (way, expected) in ways {
        let server = Server::start();
        let mut client = server.client();
        client.run("SET string x").ok();
        let dump = client.run("DUMP string").bytes();
        client.run("DEL string").integer();
        let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
        let call = format!("1 p PERMIT 1 {LONG}");
        let mut crowd = queue(&server, &[&call, &call]);
        for line in way.split("; ") {
            let answer = match line.split_once("{empty}") {
                Some(_) => call!(client, "RESTORE", "p", 0, &dump, "REPLACE"),
                None => client.run(&line.replace("{id}", &id)),
            };
            assert!(!answer.is_error(), "{line}: {answer:?}");
        }
        let many = expected.chars().filter(|told| *told != '.').count();
        crowd.wait_for(many);
        for (member, told) in expected.chars().enumerate() {
            let error = || crowd.last(member).error();
            match told {
                '.' => assert!(!crowd.is_answered(member), "{way}"),
                'W' => assert!(error().starts_with("WRONGTYPE"), "{way}: {}", error()),
                _ => assert!(Admission::of(crowd.last(member)).admitted, "{way}"),
            }
        }
        let left = 2 - many as i64;
        assert_eq!(waiting(&mut client), left, "{way}");
        crowd.assert_in_step();
        drop(crowd);
        assert_nobody_waits(&server, "changed");
    }
}

/// The server would ask each of those who wait at a key that is created, whoever is let in.
#[test]
fn nobody_who_waits_is_asked_when_a_key_is_created_whatever_braces_it_has() {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("ML.DEBUG") {
        println!("not applicable: a release build injects no panics");
        return;
    }
    for key in ["k", "{k}", "a}b", "}", "{}", "a{}b", "{a"] {
        let id = hold(&mut client, &format!("1 {key} PERMIT 1 HOLD 600000"));
        let call = format!("1 {key} PERMIT 1 {LONG}");
        let mut crowd = queue(&server, &[&call, &call]);
        client.run("ML.DEBUG PANIC ready").ok();
        // The key goes with its last permit, and comes with the next.
        settle(&mut client, key, &id);
        assert!(told(&mut crowd, 0).admitted, "{key}");
        assert_eq!(held_up(&mut client, key), 1, "{key}");
        assert!(!server.log().contains("panic"), "{key}: {}", server.log());
        client.run("FLUSHALL").ok();
        assert!(told(&mut crowd, 1).admitted, "{key}");
    }
}

#[test]
fn a_hold_that_runs_out_and_a_window_that_slides_let_the_next_in() {
    let server = Server::start();
    let mut client = server.client();
    for algorithm in ["FIXED", "SLIDING", "GCRA"] {
        let call = format!("1 {algorithm} LIMIT 2 2 ALGORITHM {algorithm}");
        assert!(Admission::ask(&mut client, &format!("{call} COST 2")).admitted);
        let mut crowd = queue(&server, &[&format!("{call} COST 2 WAIT 600000")]);
        assert!(told(&mut crowd, 0).admitted, "{algorithm}");
    }
    hold(&mut client, "1 p PERMIT 1 HOLD 2000");
    let call = "1 p PERMIT 1 HOLD 2000 WAIT 600000";
    let mut crowd = queue(&server, &[call]);
    join(&mut Crowd::of(&server, 1), &mut client, 0, call);
    assert!(told(&mut crowd, 0).admitted);
    // A limit that a later call raises; the others are the key's.
    hold(&mut client, "1 raised LIMIT 1 3600 HOLD 600000");
    let mut crowd = queue(&server, &["1 raised LIMIT 3 3600 COST 3 WAIT 600000"]);
    client.run("ML.RATELIMIT raised 9 3600").items();
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0]);
    client.run("DEL raised").integer();
    assert!(told(&mut crowd, 0).admitted);
    assert_nobody_waits(&server, "by the clock");
}
