//! Callers of ML.ADMIT that wait are decided as they are unblocked, as a new call would
//! be then: what their id has, what their user may, whether the server lets writes in,
//! and what is replicated of it.

use crate::support::fetches::Crowd;
use crate::support::queues::{
    ID, LONG, assert_nobody_waits, hold, join, queue, settle, told, waiting,
};
use crate::support::rates::{Admission, Info};
use crate::support::{Answer, Client, Random, Server, Stop, Tap, call, wait_for};
use redis::Value;

#[test]
fn a_caller_with_the_id_of_one_that_waits_takes_its_place() {
    let server = Server::start();
    let mut client = server.client();
    let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let own = format!("1 p PERMIT 1 {LONG} ").replace("WAIT", &format!("ID {ID} WAIT"));
    let own = own.trim();
    let mut crowd = queue(&server, &[own, &format!("1 p PERMIT 1 {LONG}")]);
    let mut again = Crowd::of(&server, 2);
    for member in 0..2 {
        again.send(member, &format!("ML.ADMIT {own}"));
        let denied = match member {
            0 => told(&mut crowd, 0),
            _ => told(&mut again, 0),
        };
        assert_eq!((denied.admitted, denied.binding), (false, Some(0)));
        assert!((1..=600_000).contains(&denied.retry_ms), "{denied:?}");
        assert_eq!(waiting(&mut client), 2);
    }
    settle(&mut client, "p", &id);
    assert_eq!(told(&mut again, 1).id.as_deref(), Some(ID), "in its place");
    client.run("PING");
    crowd.look();
    assert_eq!(crowd.answered(), [0]);
    settle(&mut client, "p", ID);
    assert!(told(&mut crowd, 1).admitted);
    crowd.assert_in_step();
    again.assert_in_step();
    assert_nobody_waits(&server, "replaced");
}

#[test]
fn a_call_that_is_let_in_under_the_id_of_one_that_waits_wakes_it() {
    let server = Server::start();
    let mut client = server.client();
    hold(&mut client, "2 p q PERMIT 1 PERMIT 1 HOLD 600000");
    let own = |keys: &str| format!("{keys} HOLD 600000 ID {ID} WAIT 600000");
    // Where it has then what it asks for, it is let in, and takes nothing more.
    let mut crowd = queue(&server, &[&own("1 p PERMIT 1"), &format!("1 p PERMIT 1 {LONG}")]);
    let other = format!("1 p PERMIT 2 HOLD 600000 ID {ID}");
    assert!(Admission::ask(&mut client, &other).admitted);
    assert_eq!(told(&mut crowd, 0).id.as_deref(), Some(ID));
    assert_eq!(Info::of(&mut client, "p").unwrap().in_use, Some(2));
    settle(&mut client, "p", ID);
    // Else it is denied.
    let mut denied = queue(&server, &[&own("2 p q PERMIT 1 PERMIT 1")]);
    assert!(Admission::ask(&mut client, &other.replace("1 p", "1 r")).admitted);
    let answer = told(&mut denied, 0);
    assert!(!answer.admitted && answer.retry_ms > 0, "{answer:?}");
    // Of another database it is another's.
    let mut waits = queue(&server, &[&own("1 q PERMIT 1")]);
    client.run("SELECT 1").ok();
    assert!(Admission::ask(&mut client, &other).admitted);
    client.run("SELECT 0").ok();
    waits.look();
    assert_eq!((waits.answered().len(), waiting(&mut client)), (0, 2));
    client.run("FLUSHALL").ok();
    assert!(told(&mut waits, 0).admitted && told(&mut crowd, 1).admitted);
    assert_nobody_waits(&server, "woken");
}

/// A crowd of callers of a user of their own, who wait.
fn crowd_of_user(server: &Server, count: usize, words: &str) -> Crowd {
    let mut client = server.client();
    let rights: Vec<_> = "on nopass ~* +@all".split(' ').collect();
    call!(client, "ACL", "SETUSER", "app", rights).ok();
    let mut crowd = Crowd::of(server, count);
    crowd.send_all("AUTH app x");
    crowd.wait_for(count);
    for member in 0..count {
        join(&mut crowd, &mut client, member, words);
    }
    crowd
}

#[test]
fn a_waiter_is_let_into_nothing_that_its_user_may_not_have_any_more() {
    for revoked in ["resetkeys", "-ml.admit", "resetkeys ~p", "resetkeys %R~*"] {
        let server = Server::start();
        let mut client = server.client();
        let words: Vec<_> = revoked.split(' ').collect();
        let call = format!("2 p q PERMIT 1 LIMIT 9 60 {LONG}");
        let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
        let mut crowd = crowd_of_user(&server, 2, &call);
        let mut allowed = queue(&server, &[&call]);
        call!(client, "ACL", "SETUSER", "app", &words).ok();
        settle(&mut client, "p", &id);
        assert!(told(&mut allowed, 0).admitted, "{revoked}: the first who may");
        crowd.wait_for(2);
        for member in 0..2 {
            let error = crowd.last(member).error();
            assert!(error.starts_with("NOPERM "), "{revoked}: {error}");
        }
        assert_eq!(Info::of(&mut client, "q").unwrap().used(), [1], "{revoked}");
        // At the end of the wait.
        let mut crowd = crowd_of_user(&server, 1, "2 p q PERMIT 1 LIMIT 9 60 HOLD 9 WAIT 3000");
        call!(client, "ACL", "SETUSER", "app", &words).ok();
        crowd.wait_for(1);
        let error = crowd.last(0).error();
        assert!(error.starts_with("NOPERM "), "{revoked}: {error}");
        assert_nobody_waits(&server, "no rights");
        crowd.assert_in_step();
    }
}

#[test]
fn a_waiter_whose_user_is_deleted_is_let_in_no_more() {
    let server = Server::start();
    let mut client = server.client();
    let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let mut crowd = crowd_of_user(&server, 2, &format!("1 p PERMIT 1 {LONG}"));
    let mut allowed = queue(&server, &[&format!("1 p PERMIT 1 {LONG}")]);
    // In one go, so that the server has not closed the connections in between.
    client.run_all(&["ACL DELUSER app".to_owned(), format!("ML.SETTLE 1 p {id}")]);
    assert!(told(&mut allowed, 0).admitted);
    crowd.look_until("the end of the connections", |crowd| {
        (0..2).all(|member| !crowd.is_connected(member) || crowd.is_answered(member))
    });
    for member in 0..2 {
        assert!(crowd.answers(member).iter().skip(1).all(Answer::is_error));
    }
    assert_nobody_waits(&server, "deleted");
}

#[test]
fn a_waiter_is_let_in_only_where_the_server_takes_writes() {
    let server = Server::that_cannot_save();
    let mut client = server.client();
    for (code, setting, refuses, takes) in [
        ("NOREPLICAS", "min-replicas-to-write", "1", "0"),
        ("MISCONF", "stop-writes-on-bgsave-error", "yes", "no"),
        ("OOM", "maxmemory", "1", "0"),
    ] {
        let id = hold(&mut client, "1 p PERMIT 1 HOLD 600000");
        let call = format!("2 p l PERMIT 1 LIMIT 9 60 {LONG}");
        let ends = "2 full l PERMIT 1 LIMIT 9 60 HOLD 9 WAIT 1500";
        let mut crowd = queue(&server, &[&call, &call]);
        // One whose wait is over then, which is held up by another key.
        hold(&mut client, "1 full PERMIT 1 HOLD 600000");
        let mut ended = queue(&server, &[ends]);
        // In one step: by itself, the second would be refused.
        let steps = [
            "MULTI".to_owned(),
            format!("CONFIG SET {setting} {refuses}"),
            format!("ML.SETTLE 1 p {id}"),
            "EXEC".to_owned(),
        ];
        client.run_all(&steps)[3].items();
        crowd.wait_for(2);
        let expected = client.run(&format!("ML.ADMIT {call}")).error();
        assert!(expected.starts_with(code), "{expected}");
        for member in 0..2 {
            let error = crowd.last(member).error();
            assert!(error.starts_with(code), "{error}, a new call: {expected}");
        }
        ended.wait_for(1);
        // Memory is asked about only of who would take something.
        match code {
            "OOM" => assert!(!Admission::of(ended.last(0)).admitted),
            _ => assert!(ended.last(0).error().starts_with(code), "{:?}", ended.last(0)),
        }
        call!(client, "CONFIG", "SET", setting, takes).ok();
        for key in ["p", "l"] {
            assert_eq!(Info::of(&mut client, key), None, "{code}: nothing is taken");
        }
        assert_nobody_waits(&server, code);
        crowd.assert_in_step();
        client.run("FLUSHALL").ok();
        for gauge in ["ml_permit_held", "ml_ratelimit_open_holds", "ml_admission_waiters"] {
            // Some servers free in the background what is flushed.
            wait_for(&format!("{code}: {gauge} to be 0"), || client.info(gauge) == "0");
        }
    }
}

#[test]
fn who_waits_where_a_primary_becomes_a_replica_is_told_so() {
    let (server, primary) = (Server::start(), Server::start());
    let mut client = server.client();
    hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let call = format!("1 p PERMIT 1 {LONG}");
    let mut crowd = queue(&server, &[&call, &call]);
    server.follow(&primary);
    crowd.look_until("an end of each wait", |crowd| {
        (0..2).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    for member in (0..2).filter(|member| crowd.is_answered(*member)) {
        let error = crowd.last(member).error();
        assert!(error.starts_with("UNBLOCKED") || error.starts_with("READONLY"), "{error}");
    }
    let mut client = server.client();
    assert_eq!(waiting(&mut client), 0);
    assert!(client.run(&format!("ML.ADMIT {call}")).error().starts_with("READONLY"));
    client.run("REPLICAOF NO ONE").ok();
    assert_nobody_waits(&server, "role changed");
}

#[test]
fn nobody_is_let_in_while_writes_are_paused() {
    let server = Server::start();
    let mut client = server.client();
    // One who was let in would be replicated: the server ends where it is then.
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    hold(&mut client, "2 p q PERMIT 1 PERMIT 1 HOLD 2000");
    let mut crowd = queue(
        &server,
        &[
            "1 p PERMIT 1 HOLD 600000 WAIT 600000",
            // The end of a wait in the midst of it.
            "1 q PERMIT 1 HOLD 600000 WAIT 5000",
            "1 q PERMIT 1 HOLD 600000 WAIT 600000",
        ],
    );
    client.run("CLIENT PAUSE 600000 WRITE").ok();
    wait_for("the permits to be over", || client.run("ML.LIMITINFO p") == Value::Nil);
    let denied = told(&mut crowd, 1);
    assert!(!denied.admitted && denied.retry_ms > 0, "{denied:?}");
    // Long enough for the timer and the server's own clock to come round.
    let cron = |client: &mut Client| client.info("server_time_usec").parse::<u64>().unwrap();
    let start = cron(&mut client);
    wait_for("a while to pass", || cron(&mut client) > start + 400_000);
    crowd.look();
    assert_eq!((crowd.answered(), waiting(&mut client)), (vec![1], 2));
    client.run("CLIENT UNPAUSE").ok();
    assert!(told(&mut crowd, 0).admitted && told(&mut crowd, 2).admitted);
    assert!(tap.names(&mut client).iter().filter(|name| *name == "ML.APPLYPERMIT").count() >= 3);
    replica.catch_up(&server);
    assert_eq!(client.digest(), replica.client().digest());
    crowd.assert_in_step();
    assert_nobody_waits(&server, "paused");
}

#[test]
fn a_failover_in_the_midst_of_waits_leaves_nobody_behind() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("");
    // Over some time, so that some are let in before, some while, and some after it.
    let mut crowd = Crowd::of(&server, 40);
    for key in 0..40 {
        hold(&mut client, &format!("1 k{key} PERMIT 1 HOLD {}", 20 * (key + 1)));
        crowd.send(key, &format!("ML.ADMIT 1 k{key} PERMIT 1 HOLD 600000 WAIT 600000"));
    }
    // Keeps the replica behind, so that the failover takes its time.
    client.run("CONFIG SET repl-ping-replica-period 1").ok();
    call!(client, "FAILOVER", "TIMEOUT", 60_000).ok();
    let mut other = replica.client();
    wait_for("the replica to be the primary", || other.info("role") == "master");
    crowd.look_until("an end of each wait", |crowd| {
        (0..40).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    wait_for("the old primary to follow", || server.client().info("master_link_status") == "up");
    // Whoever was told that it is let in has its permit at the new primary.
    for member in (0..40).filter(|member| crowd.is_answered(*member)) {
        if !crowd.last(member).is_error() && Admission::of(crowd.last(member)).admitted {
            assert_eq!(Info::of(&mut other, &format!("k{member}")).unwrap().in_use, Some(1));
        }
    }
    assert_eq!(waiting(&mut server.client()), 0);
    assert!(!server.log().contains("panic") && !server.log().contains("ASSERTION"));
    assert!(Admission::ask(&mut other, "1 new PERMIT 1 HOLD 9 WAIT 9").admitted);
}

#[test]
fn what_those_who_waited_took_is_the_same_on_a_replica_and_after_a_restart() {
    let aof = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no";
    let mut server = Server::with(aof);
    let replica = server.replica("");
    for seed in Random::seeds() {
        let mut random = Random::new(seed);
        let mut client = server.client();
        let mut crowd = Crowd::of(&server, 40);
        let (mut ids, mut admitted) = (Vec::new(), 0);
        while admitted < 300 {
            let member = random.below(crowd.len() as u64) as usize;
            crowd.look();
            if !crowd.is_connected(member) {
                crowd.come_back(member);
            } else if !crowd.is_answered(member) {
                match random.below(8) {
                    0 => crowd.leave(member),
                    _ => settle_some(&mut client, &mut random, &mut ids),
                }
                continue;
            } else if let Some(answer) = crowd.answers(member).last() {
                let answer = Admission::of(answer);
                admitted += i32::from(answer.admitted);
                ids.extend(answer.id);
                crowd.forget(member);
            }
            let [first, second] = [random.below(3), 3 + random.below(3)];
            let costs = [random.below(4), 1 + random.below(3)];
            let (wait_ms, priority) = (1 + random.below(100), random.below(3));
            crowd.send(
                member,
                &format!(
                    "ML.ADMIT 2 {first} {second} LIMIT 20 0.5 COST {} PERMIT 6 COST {} \
                     HOLD 600000 WAIT {wait_ms} PRIORITY {priority}",
                    costs[0], costs[1]
                ),
            );
        }
        crowd.look_until("all waits to be over", |crowd| {
            (0..crowd.len()).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
        });
        wait_for("nobody to wait", || waiting(&mut client) == 0);
        // No key is to expire between one digest and the next.
        for limit in 0..3 {
            hold(&mut client, &format!("1 {limit} LIMIT 20 0.5 COST 0 HOLD 600000"));
        }
        let before = client.digest();
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), before, "the replica's, seed {seed}");
        client.run("DEBUG LOADAOF").ok();
        assert_eq!(client.digest(), before, "the AOF's, seed {seed}");
        server.restart(Stop::Kill);
        assert_eq!(server.client().digest(), before, "after a restart, seed {seed}");
        server.client().run("FLUSHALL").ok();
        replica.follow(&server);
    }
}

/// Settles one of the holds, or has those end that nobody heard of.
fn settle_some(client: &mut Client, random: &mut Random, ids: &mut Vec<String>) {
    let Some(id) = ids.pop() else {
        client.run("DEL 3 4 5").integer();
        return;
    };
    let keys = "6 0 1 2 3 4 5";
    let actual = if random.below(2) == 0 { " ACTUAL 1 - - - - -" } else { "" };
    let settled = client.run(&format!("ML.SETTLE {keys} {id}{actual}")).integers();
    assert!(settled.iter().sum::<i64>() >= 1, "a limit's, and a permit's if that is there");
}

/// By those who wait alone: nobody else calls, who would have the state follow the clock.
#[test]
fn a_clock_that_steps_back_keeps_those_who_wait_no_longer_than_a_window() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    for call in ["1 l LIMIT 1 1", "1 p PERMIT 1 HOLD 1000", "1 d LIMIT 1 DAY"] {
        client.freeze(now);
        assert!(Admission::ask(&mut client, call).admitted);
        let back = now - 3_600_000_000;
        client.freeze(back);
        let mut crowd = queue(&server, &[&format!("{call} WAIT 600000")]);
        assert_eq!(crowd.answered(), [0; 0]);
        // A window, or what is held, later by that clock; a day at most.
        client.freeze(back + if call.contains("DAY") { 86_400_000_000 } else { 1_000_000 });
        // Whatever else happens at the key has the first looked at.
        if call.contains("DAY") {
            client.run("EXPIRE d 100000").integer();
        }
        assert!(told(&mut crowd, 0).admitted, "{call}");
    }
    assert_nobody_waits(&server, "after the clock stepped back");
}

/// The wall clock leaps forward, as after the machine was suspended: what the key told
/// as a wait by the other clock is over long before.
#[test]
fn a_clock_that_leaps_forward_has_a_newcomer_wake_those_who_wait() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    assert!(Admission::ask(&mut client, "1 l LIMIT 1 600").admitted);
    let mut crowd = queue(&server, &["1 l LIMIT 1 600 WAIT 900000"]);
    client.freeze(now + 600_000_000);
    let newcomer = Admission::ask(&mut client, "1 l LIMIT 1 600");
    assert_eq!((newcomer.admitted, newcomer.binding), (false, Some(0)), "held back");
    assert!(told(&mut crowd, 0).admitted);
    assert_nobody_waits(&server, "after the clock leapt");
}

/// A new call would have the server make room: those who wait are not refused for want
/// of memory where keys can be evicted.
#[test]
fn over_maxmemory_those_who_wait_are_refused_only_where_nothing_can_be_evicted() {
    let server = Server::start();
    let mut client = server.client();
    hold(&mut client, "1 p PERMIT 1 HOLD 600000");
    let mut crowd = queue(&server, &[&format!("1 p PERMIT 1 {LONG}")]);
    client.run("CONFIG SET maxmemory-policy volatile-ttl").ok();
    client.run("CONFIG SET maxmemory 1").ok();
    // Its own key goes first, which frees what it waits for.
    wait_for("the key to go", || client.run("EXISTS p").integer() == 0);
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0], "it waits on");
    client.run("CONFIG SET maxmemory 0").ok();
    assert!(told(&mut crowd, 0).admitted);
    assert_nobody_waits(&server, "with memory again");
}
