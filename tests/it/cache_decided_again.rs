//! Callers that wait are decided as they are unblocked, as a new call would be
//! then: what their user may have, what has entered their key meanwhile, whether
//! there is memory, whether the server decides at all.

use crate::support::fetches::{Crowd, Row, fetch, fill, lease, lease_ms, total, waiters};
use crate::support::{Answer, Client, Server, bulk, call, wait_for};
use redis::Value;
use std::time::Instant;

/// Leases and waits longer than any test.
const LONG: &str = "LEASE 60000 WAIT 60000";

/// Runs commands apart by `;`.
fn run(client: &mut Client, lines: &str) {
    for line in lines.split("; ") {
        let answer = client.run(line);
        assert!(!answer.is_error(), "{line}: {answer:?}");
    }
}

#[test]
fn a_waiter_gets_the_answer_whatever_way_it_enters_its_key() {
    // What k and the others hold before, and how the answer enters k.
    let ways = [
        ("", "ML.CACHESET other v x; RENAME other k"),
        ("ML.CACHESET k old y", "ML.CACHESET other v x; RENAME other k"),
        ("", "ML.CACHESET other v x; COPY other k"),
        ("ML.CACHESET k old y", "ML.CACHESET other v x; COPY other k REPLACE"),
        ("", "SELECT 1; ML.CACHESET k v x; MOVE k 0; SELECT 0"),
        ("", "SELECT 1; ML.CACHESET k v x; SWAPDB 0 1; SELECT 0"),
        ("ML.CACHESET k old y", "SELECT 1; ML.CACHESET k v x; SWAPDB 1 0; SELECT 0"),
        ("", "ML.CACHESET other v x; MULTI; RENAME other k; EXEC"),
        ("", "ML.CACHEMSET 2 other y k x v"),
    ];
    for (before, way) in ways {
        let server = Server::start();
        let mut client = server.client();
        if !before.is_empty() {
            run(&mut client, before);
        }
        let token = lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::waiting(&server, 3, &format!("k v {LONG}"));
        run(&mut client, way);
        crowd.wait_for(3);
        for member in 0..3 {
            assert_eq!(crowd.row(member).brief(), "HIT x", "{before}; {way}");
        }
        assert!(!fill(&mut client, "k v z", &token), "{way}: the answer has changed");
        assert_eq!(client.run("ML.CACHEGET k v"), bulk("x"), "{way}");
        assert_eq!(total(&mut client, "open_leases"), 0, "{way}");
        assert_eq!(total(&mut client, "waiters"), 0, "{way}");
        crowd.assert_in_step();
    }
}

#[test]
fn a_waiter_gets_an_answer_that_is_restored_to_its_key() {
    for before in ["", "ML.CACHESET k old y"] {
        let server = Server::start();
        let mut client = server.client();
        client.run("ML.CACHESET other v x").ok();
        let dump = client.run("DUMP other").bytes();
        if !before.is_empty() {
            run(&mut client, before);
        }
        lease(&mut client, "k v", 60_000);
        let mut crowd = Crowd::waiting(&server, 2, &format!("k v {LONG}"));
        call!(client, "RESTORE", "k", 0, dump, "REPLACE").ok();
        crowd.wait_for(2);
        for member in 0..2 {
            assert_eq!(crowd.row(member).brief(), "HIT x", "{before}");
        }
        crowd.assert_in_step();
    }
}

#[test]
fn what_enters_a_key_of_another_version_wakes_nobody() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = Crowd::waiting(&server, 2, &format!("k v {LONG}"));
    run(&mut client, "ML.CACHESET other w x; RENAME other k; ML.CACHESET other w y");
    run(&mut client, "ML.CACHESET k w z; PING; PING");
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0]);
    assert!(fill(&mut client, "k v x", &token), "nor does it end the lease");
    crowd.wait_for(2);
    assert_eq!(crowd.row(1).brief(), "HIT x");
}

/// A crowd of callers of a user of their own, who wait.
fn crowd_of_user(server: &Server, count: usize, arguments: &str) -> Crowd {
    let mut client = server.client();
    let rights = "on nopass ~* +@all";
    let words: Vec<_> = rights.split(' ').collect();
    call!(client, "ACL", "SETUSER", "app", words).ok();
    let mut crowd = Crowd::of(server, count);
    crowd.send_all("AUTH app x");
    crowd.wait_for(count);
    let key = arguments.split(' ').next().unwrap();
    for member in 0..count {
        crowd.send(member, &format!("ML.CACHEFETCH {arguments}"));
        wait_for("a caller to wait", || waiters(&mut client, key) == member as i64 + 1);
    }
    crowd
}

#[test]
fn a_waiter_is_handed_nothing_that_its_user_may_not_have_any_more() {
    for revoked in ["resetkeys", "-ml.cachefetch", "resetkeys ~other"] {
        let server = Server::start();
        let mut client = server.client();
        let words: Vec<_> = revoked.split(' ').collect();

        // The answer.
        let token = lease(&mut client, "set v", 60_000);
        let mut crowd = crowd_of_user(&server, 2, &format!("set v {LONG}"));
        call!(client, "ACL", "SETUSER", "app", &words).ok();
        let mut allowed = Crowd::of(&server, 1);
        allowed.send(0, &format!("ML.CACHEFETCH set v {LONG}"));
        wait_for("the third to wait", || waiters(&mut client, "set") == 3);
        assert!(fill(&mut client, "set v x", &token));
        crowd.wait_for(2);
        allowed.wait_for(1);
        for member in 0..2 {
            let error = crowd.answers(member).last().unwrap().error();
            assert!(error.starts_with("NOPERM "), "{revoked}: {error}");
        }
        assert_eq!(allowed.row(0).brief(), "HIT x", "{revoked}");
        assert_eq!(total(&mut client, "coalesced"), 1, "{revoked}");
        crowd.assert_in_step();

        // The lease, which goes to the first who may.
        let token = lease(&mut client, "handed v", 60_000);
        let mut crowd = crowd_of_user(&server, 2, &format!("handed v {LONG}"));
        allowed.send(0, &format!("ML.CACHEFETCH handed v {LONG}"));
        wait_for("the third to wait", || waiters(&mut client, "handed") == 3);
        call!(client, "ACL", "SETUSER", "app", &words).ok();
        call!(client, "ML.CACHERELEASE", "handed", token).integer();
        allowed.look_until("the lease", |allowed| allowed.is_answered(0));
        assert_eq!(allowed.row(0).status, "LEASE", "{revoked}");
        crowd.wait_for(2);
        for member in 0..2 {
            let error = crowd.answers(member).last().unwrap().error();
            assert!(error.starts_with("NOPERM "), "{revoked}: {error}");
        }
        crowd.assert_in_step();

        // What is known at the end of the wait.
        lease(&mut client, "over v", 60_000);
        let mut crowd = crowd_of_user(&server, 1, "over v LEASE 60000 WAIT 3000");
        call!(client, "ACL", "SETUSER", "app", &words).ok();
        crowd.wait_for(1);
        let error = crowd.answers(0).last().unwrap().error();
        assert!(error.starts_with("NOPERM "), "{revoked}: {error}");
        assert_eq!(total(&mut client, "waiters"), 0);
        crowd.assert_in_step();
    }
}

#[test]
fn a_waiter_whose_user_may_use_some_databases_is_decided_by_the_one_it_waits_in() {
    let server = Server::start();
    let mut client = server.client();
    let rights = "on nopass ~* +@all resetdbs db=0,3";
    if call!(client, "ACL", "SETUSER", "app", rights.split(' ').collect::<Vec<_>>()).is_error() {
        // A server whose users may use all databases or none.
        return;
    }
    let mut crowd = Crowd::of(&server, 2);
    crowd.send_all("AUTH app x");
    crowd.wait_for(2);
    crowd.send_all("SELECT 3");
    crowd.wait_for(2);
    client.run("SELECT 3").ok();
    let token = lease(&mut client, "k v", 60_000);
    crowd.send_all(&format!("ML.CACHEFETCH k v {LONG}"));
    wait_for("both to wait", || waiters(&mut client, "k") == 2);
    call!(client, "ML.CACHERELEASE", "k", token).integer();
    crowd.wait_for(1);
    let first = crowd.answered()[0];
    assert_eq!(crowd.row(first).status, "LEASE");
    call!(client, "ACL", "SETUSER", "app", "resetdbs", "db=0").ok();
    client.run("ML.CACHESET k v x").ok();
    crowd.wait_for(2);
    let error = crowd.answers(1 - first).last().unwrap().error();
    assert_eq!(error, "NOPERM No permissions to access database");
    crowd.assert_in_step();
}

#[test]
fn a_waiter_whose_user_is_deleted_is_handed_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut crowd = crowd_of_user(&server, 2, &format!("k v {LONG}"));
    // In one go, so that the server has not closed the connections in between.
    client.run_all(&["ACL DELUSER app".to_owned(), format!("ML.CACHERELEASE k {token}")]);
    crowd.look_until("the end of the connections", |crowd| {
        (0..2).all(|member| !crowd.is_connected(member) || crowd.is_answered(member))
    });
    for member in 0..2 {
        for answer in crowd.answers(member).iter().skip(1) {
            assert!(answer.is_error(), "{answer:?}");
        }
    }
    wait_for("the lease to be anybody's", || {
        fetch(&mut client, "k v LEASE 60000").status == "LEASE"
    });
    assert_eq!(total(&mut client, "waiters"), 0);
}

#[test]
fn where_the_server_will_not_block_a_caller_is_told_at_once() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut subscriber = server.client3();
    subscriber.subscribe("channel");
    let mut setter = server.client();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Row::of(&subscriber.run(&format!("ML.CACHEFETCH k v {LONG}"))));
        // It waits, or it has been told.
        wait_for("the caller", || waiters(&mut client, "k") == 1 || waits.is_finished());
        assert!(fill(&mut setter, "k v x", &token));
        let told = waits.join().unwrap().brief();
        assert!(told == "BUSY" || told == "HIT x", "{told}");
    });
    assert_eq!(subscriber.run("PING").text(), "PONG", "in step");
    assert_eq!(total(&mut client, "waiters"), 0);
}

#[test]
fn clients_that_track_are_told_of_what_they_read_and_not_of_what_they_fetched() {
    let server = Server::start();
    let mut client = server.client();
    let token = lease(&mut client, "k v", 60_000);
    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| Row::of(&tracker.run(&format!("ML.CACHEFETCH k v {LONG}"))));
        wait_for("the caller to wait", || waiters(&mut client, "k") == 1);
        assert!(fill(&mut client, "k v x", &token));
        assert_eq!(waits.join().unwrap().brief(), "HIT x");
    });
    // As GETEX and other writes that answer: waited for or not, it is no read.
    client.run("ML.CACHESET k v y").ok();
    assert_eq!(tracker.pushes().len(), 0);
    assert_eq!(fetch(&mut tracker, "k v LEASE 9").brief(), "HIT y");
    client.run("ML.CACHESET k v y").ok();
    assert_eq!(tracker.pushes().len(), 0);
    assert_eq!(tracker.run("ML.CACHEGET k v"), bulk("y"));
    client.run("ML.CACHESET k v z").ok();
    assert_eq!(tracker.pushes().len(), 1);
}

#[test]
fn nobody_is_handed_a_lease_by_the_clock_while_writes_are_paused() {
    let server = Server::start();
    let mut client = server.client();
    lease(&mut client, "k v", 2_000);
    let mut crowd = Crowd::waiting(&server, 2, "k v LEASE 60000 WAIT 60000");
    client.run("CLIENT PAUSE 600000 WRITE").ok();
    wait_for("the lease to be over", || {
        let info = client.run("ML.CACHEINFO k").map();
        info["lease_ms"].integer() == 0
    });
    // Long enough for the timer and the server's own clock to come round.
    let cron = |client: &mut Client| client.info("server_time_usec").parse::<u64>().unwrap();
    let start = cron(&mut client);
    wait_for("a while to pass", || cron(&mut client) > start + 400_000);
    crowd.look();
    assert_eq!(crowd.answered(), [0; 0]);
    assert_eq!(waiters(&mut client, "k"), 2);
    client.run("CLIENT UNPAUSE").ok();
    let start = Instant::now();
    crowd.wait_for(1);
    println!("the lease was handed over {:?} after the pause", start.elapsed());
    assert_eq!(crowd.row(0).status, "LEASE");
    assert!(fill(&mut client, "k v x", &crowd.row(0).token.unwrap()));
    crowd.wait_for(2);
    crowd.assert_in_step();
}

#[test]
fn a_holder_that_comes_back_from_a_pause_before_the_others_is_taken() {
    let server = Server::start();
    let mut client = server.client();
    for (call, taken) in [
        ("ML.CACHESET k v x TOKEN {}", Value::Okay),
        ("ML.CACHEMSET 1 k x v TOKEN {}", Value::Array(vec![Value::Okay])),
        ("ML.CACHERENEW k {} 60000", Value::Int(1)),
    ] {
        // Another may be first now and then, by the server's clock.
        let is_taken = (0..20).any(|_| {
            client.run("FLUSHALL").ok();
            let token = lease(&mut client, "k v", 1_500);
            let mut crowd = Crowd::waiting(&server, 2, &format!("k v {LONG}"));
            client.run("CLIENT PAUSE 600000 WRITE").ok();
            let mut holder = Crowd::of(&server, 1);
            holder.send(0, &call.replace("{}", &token));
            wait_for("the lease to be over", || lease_ms(&mut client, "k") == 0);
            client.run("CLIENT UNPAUSE").ok();
            holder.wait_for(1);
            let is_taken = holder.answers(0)[0] == taken;
            if is_taken {
                // One that has renewed has the time to set it, too.
                assert!(fill(&mut client, "k v x", &token), "{call}");
                crowd.wait_for(2);
                assert_eq!(crowd.row(0).brief(), "HIT x", "{call}");
            } else {
                crowd.wait_for(1);
                assert_eq!(crowd.row(0).status, "LEASE", "{call}: computed for nothing");
            }
            is_taken
        });
        assert!(is_taken, "{call}: whoever is late is never taken");
    }
}

#[test]
fn a_failover_in_the_midst_of_waits_and_ends_of_leases_leaves_nobody_behind() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("");
    // Over some time, so that some end before, some while, and some after it.
    for key in 0..40 {
        lease(&mut client, &format!("k{key} v"), 20 * (key + 1));
    }
    let mut crowd = Crowd::of(&server, 40);
    for key in 0..40 {
        crowd.send(key, &format!("ML.CACHEFETCH k{key} v LEASE 100 WAIT 60000"));
    }
    // Keeps the replica behind, so that the failover takes its time.
    let mut writer = server.client();
    writer.run("CONFIG SET repl-ping-replica-period 1").ok();
    call!(client, "FAILOVER", "TIMEOUT", 60_000).ok();
    let mut other = replica.client();
    wait_for("the replica to be the primary", || other.info("role") == "master");
    crowd.look_until("an end of each wait", |crowd| {
        (0..40).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    wait_for("the old primary to follow", || server.client().info("master_link_status") == "up");
    assert_eq!(total(&mut server.client(), "waiters"), 0);
    assert!(!server.log().contains("panic") && !server.log().contains("ASSERTION"));
    assert_eq!(fetch(&mut other, "k1 v LEASE 9").status, "LEASE");
}

#[test]
fn over_maxmemory_no_lease_is_granted_and_what_is_there_is_served() {
    let server = Server::with("maxmemory-policy noeviction");
    let mut client = server.client();
    client.run("ML.CACHESET fresh v x").ok();
    client.run("ML.CACHESET stale v y PX 1 STALE 600000").ok();
    wait_for("it to be stale", || client.run("ML.CACHEGET stale v") == Value::Nil);
    let token = lease(&mut client, "held v", 60_000);
    let own = "0123456789abcdef0123456789abcdef";
    assert_eq!(fetch(&mut client, &format!("own v LEASE 60000 TOKEN {own}")).status, "LEASE");
    let mut crowd = Crowd::waiting(&server, 2, &format!("held v {LONG}"));
    client.run("CONFIG SET maxmemory 1").ok();
    for (call, expected) in [
        ("fresh v LEASE 60000", "HIT x"),
        ("fresh v LEASE 60000 EARLY 1000", "HIT x"),
        ("stale v LEASE 60000 WAIT 60000", "STALE y"),
        ("cold v LEASE 60000 WAIT 60000", "BUSY"),
    ] {
        assert_eq!(fetch(&mut client, call).brief(), expected, "{call}");
    }
    let again = fetch(&mut client, &format!("own v LEASE 60000 TOKEN {own}"));
    assert_eq!(again.status, "LEASE", "it has that already");
    let rows = Row::all(&client.run("ML.CACHEMFETCH 3 fresh stale cold v LEASE 60000"));
    let brief: Vec<_> = rows.iter().map(Row::brief).collect();
    assert_eq!(brief, ["HIT x", "STALE y", "BUSY"]);
    // A lease that is given up goes to nobody, and nobody waits for nothing.
    call!(client, "ML.CACHERELEASE", "held", token).integer();
    crowd.wait_for(2);
    assert_eq!([0, 1].map(|member| crowd.row(member).brief()), ["BUSY", "BUSY"]);
    client.run("CONFIG SET maxmemory 0").ok();
    assert_eq!(fetch(&mut client, "cold v LEASE 60000").status, "LEASE");
}

#[test]
fn leases_are_refused_where_writes_are() {
    let server = Server::with("min-replicas-to-write 1");
    let mut client = server.client();
    for call in ["ML.CACHEFETCH k v LEASE 9", "ML.CACHEMFETCH 1 k v LEASE 9"] {
        let error = client.run(call).error();
        assert!(error.starts_with("NOREPLICAS"), "{call}: {error}");
    }
    assert_eq!(client.run("ML.CACHEGET k v"), Value::Nil, "which reads goes on");
}

#[test]
fn a_waiter_is_handed_no_lease_where_the_server_refuses_writes() {
    let server = Server::that_cannot_save();
    let mut client = server.client();
    for (code, setting, refuses, takes) in [
        ("NOREPLICAS", "min-replicas-to-write", "1", "0"),
        ("MISCONF", "stop-writes-on-bgsave-error", "yes", "no"),
    ] {
        let token = lease(&mut client, "k v", 60_000);
        let mut barred = crowd_of_user(&server, 1, &format!("k v {LONG}"));
        call!(client, "ACL", "SETUSER", "app", "resetkeys").ok();
        let mut crowd = Crowd::of(&server, 2);
        crowd.send_all(&format!("ML.CACHEFETCH k v {LONG}"));
        wait_for("all to wait", || waiters(&mut client, "k") == 3);
        // In one step: by itself, the second would be refused.
        let steps = [
            "MULTI".to_owned(),
            format!("CONFIG SET {setting} {refuses}"),
            format!("ML.CACHERELEASE k {token}"),
            "EXEC".to_owned(),
        ];
        assert_eq!(client.run_all(&steps)[3].items(), [Value::Okay, Value::Int(1)]);
        crowd.wait_for(2);
        barred.wait_for(1);
        let expected = client.run("ML.CACHEFETCH other v LEASE 9").error();
        assert!(expected.starts_with(code), "{expected}");
        for member in 0..2 {
            assert_eq!(crowd.answers(member).last().unwrap().error(), expected);
        }
        let error = barred.answers(0).last().unwrap().error();
        assert!(error.starts_with("NOPERM "), "its own fault comes first: {error}");
        assert_eq!(total(&mut client, "open_leases"), 0, "{code}");
        call!(client, "CONFIG", "SET", setting, takes).ok();
        let token = lease(&mut client, "k v", 60_000);
        call!(client, "ML.CACHERELEASE", "k", token).integer();
        crowd.assert_in_step();
    }
}

#[test]
fn a_waiter_is_served_what_is_stale_where_a_new_call_would_be() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.CACHESET other v x PX 1 STALE 600000").ok();
    wait_for("the answer to be stale", || client.run("ML.CACHEGET other v") == Value::Nil);
    let dump = client.run("DUMP other").bytes();
    let restore = |client: &mut Client, key: &str| {
        call!(client, "RESTORE", key, 0, dump.clone(), "REPLACE").ok();
    };

    // At the end of its wait.
    lease(&mut client, "over v", 60_000);
    let mut crowd = Crowd::waiting(&server, 1, "over v LEASE 60000 WAIT 3000");
    restore(&mut client, "over");
    assert_eq!(fetch(&mut client, "over v LEASE 60000").brief(), "STALE x");
    crowd.wait_for(1);
    assert_eq!(crowd.row(0).brief(), "STALE x");
    assert!(crowd.row(0).ms > 500_000, "how long it may be served");

    // Where all are to back off.
    let token = lease(&mut client, "off v", 60_000);
    let mut crowd = Crowd::waiting(&server, 3, &format!("off v {LONG}"));
    restore(&mut client, "off");
    call!(client, "ML.CACHERELEASE", "off", token, "BACKOFF", 60_000).integer();
    crowd.wait_for(3);
    for member in 0..3 {
        assert_eq!(crowd.row(member).brief(), "STALE x");
    }

    // With the lease that it is handed.
    let token = lease(&mut client, "handed v", 60_000);
    let mut crowd = Crowd::waiting(&server, 1, &format!("handed v {LONG}"));
    restore(&mut client, "handed");
    call!(client, "ML.CACHERELEASE", "handed", token).integer();
    crowd.wait_for(1);
    assert_eq!(crowd.row(0).brief(), "LEASE x");
    crowd.assert_in_step();
}

#[test]
fn what_is_decided_of_a_waiter_is_what_it_is_told_however_soon_it_is_unblocked() {
    let server = Server::start();
    let mut client = server.client();
    lease(&mut client, "p:k a", 60_000);
    let mut crowd = Crowd::of(&server, 1);
    crowd.send(0, "CLIENT ID");
    crowd.wait_for(1);
    let id = crowd.answers(0)[0].integer();
    crowd.send(0, &format!("ML.CACHEFETCH p:k a {LONG}"));
    wait_for("a caller to wait", || waiters(&mut client, "p:k") == 1);
    client.run("MULTI").ok();
    // Version b is in force in namespace p.
    call!(client, "ML.APPLYVERSIONS", b"\x02\x01p\x01\x01b");
    client.run(&format!("CLIENT UNBLOCK {id}"));
    client.run("EXEC");
    crowd.wait_for(1);
    assert_eq!(crowd.row(0).status, "RETIRED");
    crowd.assert_in_step();
}

#[test]
fn an_answer_put_in_by_hand_ends_the_lease_on_it() {
    let server = Server::start();
    let mut client = server.client();
    let mut change = vec![1, 0, 0];
    for moment in [u64::MAX >> 2, u64::MAX >> 2, 0, 0] {
        change.extend(moment.to_le_bytes());
    }
    change.extend(b"\x01v");
    let token = lease(&mut client, "k v", 60_000);
    let more = call!(client, "ML.APPLYANSWERS", "k", &change[..], "x", "y");
    assert!(more.is_error(), "{more:?}");
    assert!(call!(client, "ML.APPLYANSWERS", "k", &change[..]).is_error());
    assert_eq!(total(&mut client, "open_leases"), 1);
    call!(client, "ML.APPLYANSWERS", "k", &change[..], "x").ok();
    assert_eq!(total(&mut client, "open_leases"), 0);
    assert!(!fill(&mut client, "k v z", &token));
    assert_eq!(client.run("ML.CACHEGET k v"), bulk("x"));
}
