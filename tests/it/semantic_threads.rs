//! Scans of the semantic cache by threads, as callers see them: what is answered is what a
//! scan at once would answer, whatever happens meanwhile, and nobody else waits for it.

use crate::support::cluster::{Cluster, id, slot_of};
use crate::support::fetches::{Crowd, pick_off, setting};
use crate::support::vectors::{at_cosine, bytes, random};
use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::{Cmd, Value};

/// More than a segment holds, so that there is one for the threads.
const ENTRIES: usize = 1_500;

/// The question that all is about.
fn asked() -> Vec<f32> {
    random(&mut Random::new(7))
}

/// How near the nearest are to it, and what they are named.
const NEAREST: [(&str, f64); 4] = [("a", 0.99), ("b", 0.97), ("c", 0.95), ("d", 0.5)];

fn near(name: &str) -> Vec<f32> {
    let (at, (_, cosine)) =
        NEAREST.iter().enumerate().find(|(_, (other, _))| *other == name).unwrap();
    at_cosine(&asked(), *cosine, 1.0, &mut Random::new(at as u64))
}

/// Has threads do all there is to scan, or nothing.
fn by_threads(client: &mut Client, yes: bool) {
    let bytes = if yes { "1" } else { "4294966272" };
    call!(client, "CONFIG", "SET", "ml.semantic-inline-bytes", bytes).ok();
}

fn command(name: &str, key: &str, vector: &[f32], more: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(key).arg("v").arg(bytes(vector));
    more.split_whitespace().for_each(|word| _ = command.arg(word));
    command
}

fn set(client: &mut Client, key: &str, vector: &[f32], value_and_more: &str) -> String {
    client.send(&command("ML.SEMSET", key, vector, value_and_more)).text()
}

/// Fills a key: what is far, and then the nearest, which are in the first segment.
fn fill(client: &mut Client, key: &str) {
    let mut chance = Random::new(1);
    for (name, _) in NEAREST {
        set(client, key, &near(name), &format!("{name} DIGEST {name} EX 100000"));
    }
    let far = |_| at_cosine(&asked(), chance.below(300) as f64 / 1_000.0, 1.0, &mut chance);
    let far: Vec<_> = (0..ENTRIES).map(far).collect();
    let sets: Vec<_> =
        far.iter().map(|far| command("ML.SEMSET", key, far, "far EX 100000")).collect();
    client.pipeline(&sets);
}

/// A server with such a key, whose module's clock stands still.
fn furnished() -> (Server, Client, u64) {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    fill(&mut client, "k");
    by_threads(&mut client, true);
    (server, client, now)
}

fn told(client: &mut Client, field: &str) -> i64 {
    client.info(&format!("ml_semantic_{field}")).parse().unwrap()
}

fn hold(client: &mut Client) {
    client.run("ML.DEBUG THREADS HOLD").ok();
}

fn go(client: &mut Client) {
    client.run("ML.DEBUG THREADS GO").ok();
}

/// Waits until so many are searched for.
#[track_caller]
fn wait_for_scans(client: &mut Client, count: i64) {
    wait_for("callers to be searched for", || told(client, "scanning") == count);
}

/// Ends a client's wait as its time does.
const END_ITS_WAIT: &str = "CLIENT UNBLOCK {} TIMEOUT";

/// Does something to each client that is blocked, which stands for `{}`.
fn each_blocked(client: &mut Client, what: &str) {
    let list = client.run("CLIENT LIST").text();
    for line in list.lines().filter(|line| line.contains(" flags=b ")) {
        let id = line.split(' ').next().unwrap().strip_prefix("id=").unwrap();
        client.run(&what.replace("{}", id)).integer();
    }
}

/// A call of each kind, in the middle of a scan.
fn in_the_middle(server: &Server, client: &mut Client, more: &str) -> Crowd {
    hold(client);
    let mut crowd = Crowd::of(server, 2);
    crowd.send_command(0, &command("ML.SEMGET", "k", &asked(), more));
    let more = format!("{more} LEASE 60000");
    crowd.send_command(1, &command("ML.SEMFETCH", "k", &asked(), &more));
    wait_for_scans(client, 2);
    crowd
}

/// What a scan at once answers now.
fn at_once(client: &mut Client, more: &str) -> Value {
    by_threads(client, false);
    let answer = client.send(&command("ML.SEMGET", "k", &asked(), more));
    by_threads(client, true);
    answer
}

/// Lets the scans go on, and compares what both are answered with what they would be now.
#[track_caller]
fn check(client: &mut Client, crowd: &mut Crowd, more: &str, what: &str) {
    go(client);
    crowd.look_until(what, |crowd| crowd.answered().len() == 2);
    let expected = at_once(client, more);
    assert_eq!(*crowd.last(0), expected, "{what}");
    if expected.is_error() {
        assert_eq!(crowd.last(1).error(), expected.error(), "{what}");
    } else {
        let (expected, fetched) = (expected.items(), crowd.last(1).items());
        let status = match expected[0].text().as_str() {
            // Over maxmemory there is no lease.
            "MISS" if what == "eviction" => "BUSY".to_owned(),
            "MISS" => "LEASE".to_owned(),
            other => other.to_owned(),
        };
        assert_eq!((fetched[0].text(), &fetched[1]), (status, &expected[1]), "{what}");
    }
    assert_eq!(told(client, "scanning"), 0, "{what}");
}

#[test]
fn what_threads_find_is_to_the_bit_what_a_scan_at_once_finds() {
    let server = Server::start();
    let mut client = server.client();
    for seed in Random::seeds() {
        let mut chance = Random::new(seed);
        client.run("FLUSHALL").ok();
        let mut now = client.freeze_ahead();
        let questions: Vec<_> = (0..6).map(|_| random(&mut chance)).collect();
        let mut ids = Vec::new();
        for step in 0..3_200 {
            let question = &questions[chance.below(6) as usize];
            let cosine = chance.below(1_000) as f64 / 1_000.0;
            let vector = at_cosine(question, cosine, 1.0, &mut chance);
            let version = ["v", "v", "w"][chance.below(3) as usize];
            let (digest, px) = (chance.below(900), 1 + chance.below(60));
            let stale = chance.below(2) * 40;
            let id = call!(
                client,
                "ML.SEMSET",
                "k",
                version,
                bytes(&vector),
                step,
                "DIGEST",
                digest,
                "PX",
                px * 1_000,
                "STALE",
                stale * 1_000 + 1
            );
            ids.push(id.text());
            let any = ids[chance.below(ids.len() as u64) as usize].clone();
            match chance.below(12) {
                0 => _ = call!(client, "ML.SEMDROP", "k", "ID", any),
                1 => _ = call!(client, "ML.SEMTHRESHOLD", "k", any, cosine),
                2 => {
                    now += 5_000;
                    client.freeze(now);
                }
                _ => {}
            }
            if step % 40 != 0 {
                continue;
            }
            let question = &questions[chance.below(6) as usize];
            let asked = at_cosine(question, 0.9, 1.0, &mut chance);
            let hit = chance.below(1_000);
            let more = format!("HIT {} TOP {}", hit as f64 / 1_000.0, 1 + chance.below(64));
            let maybe = format!(" MAYBE {}", hit as f64 / 2_000.0);
            let more = more + ["", &maybe, " DIGEST 7"][chance.below(3) as usize];
            let fetch = format!("{more} LEASE 60000");
            let mut answers = [false, true].map(|yes| {
                by_threads(&mut client, yes);
                let got = client.send(&command("ML.SEMGET", "k", &asked, &more));
                let mut fetched = client.send(&command("ML.SEMFETCH", "k", &asked, &fetch)).items();
                // The token is another one.
                if fetched[2] != Value::Nil {
                    let token = std::mem::replace(&mut fetched[2], Value::Nil).text();
                    assert_eq!(call!(client, "ML.SEMRELEASE", "k", token).integer(), 1);
                }
                (got, fetched[..3].to_vec())
            });
            let [at_once, by_threads] = &mut answers;
            assert_eq!(by_threads, at_once, "seed {seed}, step {step}: {more}");
        }
        by_threads(&mut client, false);
        assert!(told(&mut client, "scans") > 50);
    }
}

#[test]
fn whatever_happens_in_the_middle_of_a_scan_is_in_its_answer() {
    let (server, mut client, now) = furnished();
    set(&mut client, "other", &near("b"), "other EX 100000");
    let payload = call!(client, "DUMP", "other").bytes();
    let whole = call!(client, "DUMP", "k").bytes();
    let ids: Vec<_> = {
        let found = at_once(&mut client, "HIT 0.9 TOP 3").items()[1].items();
        found.iter().map(|entry| entry.items()[0].text()).collect()
    };
    let hits = |client: &mut Client, id: &str| {
        call!(client, "ML.SEMTHRESHOLD", "k", id, "0.999").integer();
    };
    type Event<'a> = (&'a str, &'a str, &'a dyn Fn(&mut Client));
    let one = "HIT 0.9";
    let all = "HIT 0.96 MAYBE 0.4 TOP 3";
    let events: &[Event] = &[
        ("nothing", one, &|_| ()),
        ("nothing, of many", all, &|_| ()),
        ("DEL", one, &|client| assert_eq!(client.run("DEL k").integer(), 1)),
        ("UNLINK", one, &|client| assert_eq!(client.run("UNLINK k").integer(), 1)),
        ("FLUSHALL SYNC", one, &|client| client.run("FLUSHALL SYNC").ok()),
        ("FLUSHALL ASYNC", one, &|client| client.run("FLUSHALL ASYNC").ok()),
        ("FLUSHDB", one, &|client| client.run("FLUSHDB").ok()),
        ("RENAME away", one, &|client| client.run("RENAME k away").ok()),
        ("RENAME over it", one, &|client| client.run("RENAME other k").ok()),
        ("SWAPDB", one, &|client| client.run("SWAPDB 0 1").ok()),
        ("SET", one, &|client| client.run("SET k x").ok()),
        ("RESTORE", one, &|client| {
            call!(client, "RESTORE", "k", 0, &payload, "REPLACE").ok();
        }),
        ("COPY over it", one, &|client| _ = client.run("COPY other k REPLACE").integer()),
        ("the key's time is over", one, &|client| {
            client.run("PEXPIRE k 1").integer();
            wait_for("the key to expire", || client.run("EXISTS k").integer() == 0);
        }),
        ("the entries' time is over", one, &|client| client.freeze(now + 200_000_000_000)),
        ("the best is dropped", one, &|client| {
            call!(client, "ML.SEMDROP", "k", "ID", &ids[0]).integer();
        }),
        ("all are dropped", all, &|client| {
            ids.iter().for_each(|id| _ = call!(client, "ML.SEMDROP", "k", "ID", id).integer());
        }),
        ("the version is dropped", one, &|client| {
            client.run("ML.SEMDROP k VERSION v").integer();
        }),
        ("the version is retired", one, &|client| {
            call!(client, "ML.CACHEVERSIONSET", "", "w").ok();
        }),
        ("a nearer one is set", one, &|client| _ = set(client, "k", &asked(), "nearest")),
        ("the best is another question's answer", one, &|client| {
            set(client, "k", &random(&mut Random::new(99)), "moved DIGEST a");
        }),
        ("the best is set anew", one, &|client| _ = set(client, "k", &near("a"), "new DIGEST a")),
        ("the best answers no more", one, &|client| hits(client, &ids[0])),
        ("none answers any more", all, &|client| {
            ids.iter().for_each(|id| hits(client, id));
        }),
        ("many go", one, &|client| {
            let sets: Vec<_> =
                (0..300).map(|_| command("ML.SEMSET", "k", &near("a"), "twin")).collect();
            client.pipeline(&sets);
        }),
        ("MULTI", one, &|client| {
            let lines = ["MULTI", "DEL k", "RENAME other k", "EXEC"];
            client.run_all(&lines);
        }),
        ("DEBUG RELOAD", one, &|client| client.run("DEBUG RELOAD").ok()),
        ("BGSAVE", one, &|client| {
            client.run("BGSAVE").text();
            wait_for("the save to end", || client.info("rdb_bgsave_in_progress") == "0");
            assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
        }),
        ("AOF rewrite", one, &|client| client.rewrite_aof()),
        ("eviction", one, &|client| {
            client.run("CONFIG SET maxmemory-policy allkeys-random maxmemory 1").ok();
            client.run("SET x y");
            wait_for("the keys to go", || client.run("DBSIZE").integer() == 0);
            client.run("CONFIG SET maxmemory 0").ok();
        }),
    ];
    for (what, more, event) in events {
        client.freeze(now);
        for db in [1, 0] {
            call!(client, "SELECT", db).ok();
            client.run("FLUSHDB").ok();
        }
        call!(client, "ML.CACHEVERSIONSET", "", "CLEAR").ok();
        call!(client, "RESTORE", "k", 0, &whole).ok();
        call!(client, "RESTORE", "other", 0, &payload).ok();
        let mut crowd = in_the_middle(&server, &mut client, more);
        event(&mut client);
        check(&mut client, &mut crowd, more, what);
        crowd.assert_in_step();
    }
}

#[test]
fn what_was_kept_from_answering_and_is_no_more_is_found_by_a_scan_under_way() {
    let (server, mut client, _) = furnished();
    let found = at_once(&mut client, "HIT 0.9").items()[1].items();
    let id = found[0].items()[0].text();
    call!(client, "ML.SEMTHRESHOLD", "k", &id, "1").integer();
    for more in ["HIT 0.98", "HIT 0.96 TOP 2"] {
        let mut crowd = in_the_middle(&server, &mut client, more);
        call!(client, "ML.SEMTHRESHOLD", "k", &id, "0").integer();
        check(&mut client, &mut crowd, more, more);
        assert_eq!(crowd.last(0).items()[1].items()[0].items()[2].text(), "a");
        call!(client, "ML.SEMTHRESHOLD", "k", &id, "1").integer();
    }
}

#[test]
fn of_entries_whose_thresholds_change_each_is_looked_at_once_and_of_many_none() {
    let (server, mut client, _) = furnished();
    let sets: Vec<_> = (0..1_100).map(|_| command("ML.SEMSET", "k", &near("d"), "half")).collect();
    let ids: Vec<_> = client.pipeline(&sets).iter().map(Answer::text).collect();
    let change = |id: &String, similarity: &str| {
        let mut command = redis::cmd("ML.SEMTHRESHOLD");
        command.arg("k").arg(id).arg(similarity);
        command
    };
    let mut crowd = in_the_middle(&server, &mut client, "HIT 0.9");
    let given_up = told(&mut client, "scans_given_up");
    let by_turns = |turn: usize| change(&ids[0], ["0.5", "0.6"][turn % 2]);
    client.pipeline(&(0..3_000).map(by_turns).collect::<Vec<_>>());
    assert_eq!(told(&mut client, "scans_given_up"), given_up);
    client.pipeline(&ids.iter().map(|id| change(id, "0.7")).collect::<Vec<_>>());
    assert_eq!(told(&mut client, "scans_given_up"), given_up + 2, "they begin again");
    check(&mut client, &mut crowd, "HIT 0.9", "many thresholds");
}

#[test]
fn a_scan_begins_again_where_more_than_it_found_is_gone() {
    let (server, mut client, _) = furnished();
    // As many twins as are found for one that is asked for, and some behind them.
    let mut ids: Vec<_> =
        (0..9).map(|_| set(&mut client, "t", &asked(), "twin EX 100000")).collect();
    set(&mut client, "t", &near("b"), "behind EX 100000");
    fill(&mut client, "t");
    hold(&mut client);
    let mut crowd = Crowd::of(&server, 1);
    crowd.send_command(0, &command("ML.SEMGET", "t", &asked(), "HIT 0.9"));
    wait_for_scans(&mut client, 1);
    call!(client, "ML.SEMDROP", "t", "ID", ids.pop().unwrap()).integer();
    let before = told(&mut client, "scans");
    go(&mut client);
    crowd.wait_for(1);
    assert_eq!(crowd.last(0).items()[1].items()[0].items()[2].text(), "twin");
    assert_eq!(told(&mut client, "scans"), before + 1, "a few more are found than asked for");
    hold(&mut client);
    crowd.send_command(0, &command("ML.SEMGET", "t", &asked(), "HIT 0.9"));
    wait_for_scans(&mut client, 1);
    ids.iter().for_each(|id| _ = call!(client, "ML.SEMDROP", "t", "ID", id).integer());
    call!(client, "ML.SEMDROP", "t", "VERSION", "none").integer();
    let before = told(&mut client, "scans");
    go(&mut client);
    crowd.wait_for(1);
    by_threads(&mut client, false);
    assert_eq!(*crowd.last(0), client.send(&command("ML.SEMGET", "t", &asked(), "HIT 0.9")));
    assert!(told(&mut client, "scans") > before);
}

#[test]
fn others_are_answered_while_threads_scan_and_so_are_small_keys() {
    let (server, mut client, _) = furnished();
    let mut crowd = in_the_middle(&server, &mut client, "HIT 0.9");
    assert_eq!(client.run("PING").text(), "PONG");
    assert_eq!(client.run("SET x y"), Value::Okay);
    // A key is small by what there is to scan of a version.
    call!(client, "CONFIG", "SET", "ml.semantic-inline-bytes", "200").ok();
    set(&mut client, "small", &asked(), "small");
    let small = client.send(&command("ML.SEMGET", "small", &asked(), "HIT 0.9"));
    assert_eq!(small.items()[0].text(), "HIT");
    let none = call!(client, "ML.SEMGET", "k", "none", bytes(&asked()), "HIT", "0.9");
    assert_eq!(none.items()[0].text(), "MISS");
    let digest = client.send(&command("ML.SEMGET", "k", &asked(), "HIT 1 DIGEST a"));
    assert_eq!(digest.items()[0].text(), "HIT", "what is told by its digest needs no scan");
    check(&mut client, &mut crowd, "HIT 0.9", "a scan of a large key");
}

#[test]
fn where_nobody_can_wait_a_large_key_is_an_error_that_says_so() {
    let (_server, mut client, _) = furnished();
    let large = |error: Value| {
        let error = error.error();
        let named = ["key", "ml.semantic-inline-bytes", "MULTI"];
        assert!(named.iter().all(|word| error.contains(word)), "{error}");
    };
    let get = command("ML.SEMGET", "k", &asked(), "HIT 0.9");
    let fetch = command("ML.SEMFETCH", "k", &asked(), "HIT 0.9 LEASE 9000 WAIT 9000");
    for command in [&get, &fetch] {
        client.run("MULTI").ok();
        client.send(command);
        large(client.run("EXEC").items()[0].clone());
    }
    let script = "return redis.pcall('ML.SEMGET', KEYS[1], 'v', ARGV[1], 'HIT', '0.9')";
    large(call!(client, "EVAL", script, 1, "k", bytes(&asked())));
    by_threads(&mut client, false);
    client.run("MULTI").ok();
    client.send(&get);
    assert_eq!(client.run("EXEC").items()[0].items()[0].text(), "HIT");
    let found = call!(client, "EVAL", script, 1, "k", bytes(&asked())).items();
    assert_eq!(found[0].text(), "HIT");
    assert_eq!(told(&mut client, "scanning"), 0);
    // What is kept of those who wait is bounded.
    by_threads(&mut client, true);
    client.run("CONFIG SET ml.semantic-max-lease-bytes 65536").ok();
    hold(&mut client);
    let mut crowd = Crowd::of(&_server, 300);
    (0..300).for_each(|member| crowd.send_command(member, &get));
    crowd.wait_for(1);
    let refused = crowd.last(crowd.answered()[0]).error();
    assert!(refused.contains("ml.semantic-max-lease-bytes"), "{refused}");
    go(&mut client);
    crowd.wait_for(300);
    crowd.assert_in_step();
}

#[test]
fn who_leaves_or_is_unblocked_is_searched_for_no_more() {
    let (server, mut client, _) = furnished();
    for how in ["leave", "CLIENT KILL ID {}", END_ITS_WAIT, "CLIENT UNBLOCK {} ERROR"] {
        let mut crowd = in_the_middle(&server, &mut client, "HIT 0.9");
        let given_up = told(&mut client, "scans_given_up");
        if how == "leave" {
            (0..2).for_each(|member| crowd.leave(member));
        } else {
            each_blocked(&mut client, how);
        }
        wait_for_scans(&mut client, 0);
        assert_eq!(told(&mut client, "scans_given_up"), given_up + 2, "{how}");
        if how.contains("UNBLOCK") {
            crowd.wait_for(2);
            assert!(crowd.last(0).error().starts_with("UNBLOCKED"), "{how}");
            match how.contains("ERROR") {
                true => assert!(crowd.last(1).error().starts_with("UNBLOCKED")),
                false => assert_eq!(crowd.last(1).items()[0].text(), "BUSY"),
            }
            crowd.assert_in_step();
        }
        go(&mut client);
        wait_for("nobody to be blocked", || client.info("blocked_clients") == "0");
        let answer = client.send(&command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
        assert_eq!(answer.items()[0].text(), "HIT", "{how}");
    }
}

#[test]
fn where_the_key_of_many_goes_others_have_their_turn_among_them() {
    let (server, mut client, _) = furnished();
    let whole = call!(client, "DUMP", "k").bytes();
    // Whether somebody asks while most of them are to be decided about still is chance, and
    // how many are decided about in a turn depends on the machine.
    let are_seen = [1_000, 2_000, 4_000].into_iter().any(|callers| {
        let mut crowd = Crowd::of(&server, callers);
        let all = callers as i64;
        (0..5).any(|_| {
            hold(&mut client);
            for member in 0..callers {
                crowd.forget(member);
                crowd.send_command(member, &command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
            }
            wait_for_scans(&mut client, all);
            client.run("DEL k").integer();
            let mut are_seen = false;
            wait_for("nobody to be left", || {
                let left = told(&mut client, "scanning");
                are_seen |= (1..all - all / 10).contains(&left);
                left == 0
            });
            crowd.wait_for(callers);
            assert!((0..callers).all(|one| crowd.last(one).items()[0].text() == "MISS"));
            go(&mut client);
            call!(client, "RESTORE", "k", 0, &whole).ok();
            are_seen
        })
    });
    assert!(are_seen, "all were decided about at once");
}

#[test]
fn who_may_not_have_it_any_more_does_not_get_it() {
    let (server, mut client, _) = furnished();
    for (what, code) in
        [("ACL SETUSER u -ml.semget -ml.semfetch", "NOPERM"), ("ACL SETUSER u resetkeys", "NOPERM")]
    {
        client.run("ACL SETUSER u reset on nopass ~* +@all").ok();
        hold(&mut client);
        let mut crowd = Crowd::of(&server, 2);
        (0..2).for_each(|member| crowd.send(member, "AUTH u x"));
        crowd.wait_for(2);
        crowd.send_command(0, &command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
        crowd.send_command(1, &command("ML.SEMFETCH", "k", &asked(), "HIT 0.9 LEASE 9000"));
        wait_for_scans(&mut client, 2);
        client.run(what).ok();
        go(&mut client);
        crowd.wait_for(2);
        for member in 0..2 {
            let error = crowd.last(member).error();
            assert!(error.starts_with(code), "{what}: {error}");
        }
    }
    client.run("ACL SETUSER u reset on nopass ~* +@all").ok();
    hold(&mut client);
    let mut crowd = Crowd::of(&server, 1);
    crowd.send(0, "AUTH u x");
    crowd.wait_for(1);
    crowd.send_command(0, &command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
    wait_for_scans(&mut client, 1);
    client.run("ACL DELUSER u").integer();
    go(&mut client);
    crowd.look_until("it to be sent away", |crowd| !crowd.is_connected(0));
    wait_for_scans(&mut client, 0);
}

#[test]
fn replicas_scan_too_and_roles_may_change_meanwhile() {
    let (server, mut client, _) = furnished();
    let replica = server.replica("ml.semantic-inline-bytes 1");
    let mut other = replica.client();
    let get = command("ML.SEMGET", "k", &asked(), "HIT 0.9");
    let values = |answer: &Value| {
        let entry = answer.items()[1].items()[0].items();
        (entry[0].text(), entry[1].text(), entry[2].text())
    };
    let expected = values(&client.send(&get));
    assert_eq!(values(&other.send(&get)), expected);
    // What its primary does meanwhile is in the answer.
    hold(&mut other);
    let mut crowd = Crowd::of(&replica, 1);
    crowd.send_command(0, &get);
    wait_for_scans(&mut other, 1);
    call!(client, "ML.SEMTHRESHOLD", "k", &expected.0, "0.999").integer();
    replica.catch_up(&server);
    go(&mut other);
    crowd.wait_for(1);
    assert_eq!(values(crowd.last(0)).2, "b");
    // A replica that becomes a primary goes on, if the server leaves its clients alone.
    hold(&mut other);
    crowd.send_command(0, &get);
    wait_for_scans(&mut other, 1);
    other.run("REPLICAOF NO ONE").ok();
    go(&mut other);
    crowd.wait_for(1);
    assert_eq!(values(crowd.last(0)).2, "b");
    // A primary that becomes a replica grants nothing.
    let mut crowd = in_the_middle(&server, &mut client, "HIT 1");
    call!(client, "REPLICAOF", "127.0.0.1", replica.port()).ok();
    go(&mut client);
    crowd.look_until("both to be told or sent away", |crowd| {
        (0..2).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    if crowd.is_answered(1) {
        let answer = crowd.last(1);
        assert!(answer.is_error() || answer.items()[2] == Value::Nil, "{answer:?}");
    }
    wait_for_scans(&mut client, 0);
    assert_eq!(told(&mut client, "open_leases"), 0);
}

#[test]
fn while_writes_are_paused_nobody_is_granted_a_lease_by_a_scan() {
    let (server, mut client, _) = furnished();
    let mut crowd = in_the_middle(&server, &mut client, "HIT 1");
    client.run("CLIENT PAUSE 600000 WRITE").ok();
    go(&mut client);
    crowd.wait_for(1);
    assert_eq!((crowd.answered(), crowd.last(0).items()[0].text()), (vec![0], "MISS".into()));
    client.run("CLIENT UNPAUSE").ok();
    crowd.wait_for(2);
    assert_eq!(crowd.last(1).items()[0].text(), "LEASE");
}

#[test]
fn who_asks_of_a_slot_that_moves_meanwhile_is_sent_on() {
    let cluster = Cluster::start();
    let key = (0..).map(|number| format!("{number}")).find(|key| cluster.owner(key) == 0).unwrap();
    let (node, slot) = (&cluster.nodes[0], slot_of(key.as_bytes()));
    let mut client = node.client();
    fill(&mut client, &key);
    by_threads(&mut client, true);
    hold(&mut client);
    let mut crowd = Crowd::of(node, 2);
    let send = |crowd: &mut Crowd| {
        crowd.send_command(0, &command("ML.SEMGET", &key, &asked(), "HIT 0.9"));
        crowd.send_command(1, &command("ML.SEMFETCH", &key, &asked(), "HIT 0.9 LEASE 9000"));
    };
    send(&mut crowd);
    wait_for_scans(&mut client, 2);
    let [own, other] = [0, 1].map(|node| id(&cluster.nodes[node]));
    let mut target = cluster.nodes[1].client();
    call!(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", &own).ok();
    call!(client, "CLUSTER", "SETSLOT", slot, "MIGRATING", &other).ok();
    let to = cluster.nodes[1].port();
    call!(client, "MIGRATE", "127.0.0.1", to, &key, 0, 60_000).ok();
    // Its key has gone: a new call would be sent to ask there.
    crowd.wait_for(2);
    for member in 0..2 {
        let error = crowd.last(member).error();
        assert!(
            ["TRYAGAIN ", "ASK ", "MOVED "].iter().any(|code| error.starts_with(code)),
            "{error}"
        );
    }
    cluster.assign(slot, 1);
    go(&mut client);
    wait_for_scans(&mut client, 0);
    by_threads(&mut target, true);
    let found = target.send(&command("ML.SEMGET", &key, &asked(), "HIT 0.9"));
    assert_eq!(found.items()[1].items()[0].items()[2].text(), "a");
    // While the slot moves and the key has not yet, it is answered here.
    wait_for("nobody to be blocked", || client.info("blocked_clients") == "0");
    hold(&mut target);
    let mut crowd = Crowd::of(&cluster.nodes[1], 2);
    send(&mut crowd);
    wait_for_scans(&mut target, 2);
    call!(target, "CLUSTER", "SETSLOT", slot, "MIGRATING", &own).ok();
    go(&mut target);
    crowd.wait_for(2);
    (0..2).for_each(|member| assert_eq!(crowd.last(member).items()[0].text(), "HIT"));
}

#[test]
fn who_asks_of_a_node_that_fails_over_meanwhile_is_let_go() {
    let cluster = Cluster::start();
    let key = (0..).map(|number| format!("{number}")).find(|key| cluster.owner(key) == 0).unwrap();
    let (node, replica) = (&cluster.nodes[0], &cluster.nodes[3]);
    let mut client = node.client();
    fill(&mut client, &key);
    replica.catch_up(node);
    by_threads(&mut client, true);
    hold(&mut client);
    let mut crowd = Crowd::of(node, 2);
    crowd.send_command(0, &command("ML.SEMGET", &key, &asked(), "HIT 0.9"));
    crowd.send_command(1, &command("ML.SEMFETCH", &key, &asked(), "HIT 0.9 LEASE 9000"));
    wait_for_scans(&mut client, 2);
    let mut next = replica.client();
    next.run("CLUSTER FAILOVER").ok();
    wait_for("the nodes to change places", || {
        next.run("ROLE").items()[0].text() == "master"
            && client.run("ROLE").items()[0].text() == "slave"
    });
    go(&mut client);
    crowd.wait_for(2);
    for member in 0..2 {
        let error = crowd.last(member).error();
        // The server lets all who are blocked go as it becomes a replica.
        assert!(["MOVED ", "UNBLOCKED "].iter().any(|code| error.starts_with(code)), "{error}");
    }
    wait_for_scans(&mut client, 0);
    by_threads(&mut next, true);
    let found = next.send(&command("ML.SEMFETCH", &key, &asked(), "HIT 0.9 LEASE 9000"));
    assert_eq!(found.items()[1].items()[0].items()[2].text(), "a");
}

#[test]
fn a_server_ends_in_the_middle_of_a_scan() {
    let (mut server, mut client, _) = furnished();
    let _crowd = in_the_middle(&server, &mut client, "HIT 0.9");
    server.restart(crate::support::Stop::Save);
    let mut client = server.client();
    let answer = client.send(&command("ML.SEMGET", "k", &asked(), "HIT 0.9")).items();
    assert_eq!(answer[1].items()[0].items()[2].text(), "a");
}

#[test]
fn there_are_as_many_threads_as_are_asked_for_and_none_before_the_first_scan() {
    let (server, mut client, _) = furnished();
    let process = client.info("process_id");
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let names = tasks.filter_map(|task| name(task.unwrap()).ok());
        names.filter(|name| name.trim() == "ml-worker").count()
    };
    assert_eq!(threads(), 0);
    for count in [2, 5, 1, 3] {
        call!(client, "CONFIG", "SET", "ml.semantic-threads", count).ok();
        let answer = client.send(&command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
        assert_eq!(answer.items()[0].text(), "HIT");
        wait_for("the threads", || threads() == count);
    }
    // Many more than there is room for, one after the other.
    let mut crowd = Crowd::of(&server, 200);
    for member in 0..200 {
        let name = if member % 2 == 0 { "a" } else { "b" };
        crowd.send_command(member, &command("ML.SEMGET", "k", &near(name), "HIT 0.9"));
    }
    crowd.wait_for(200);
    for member in 0..200 {
        let found = crowd.last(member).items()[1].items()[0].items()[2].text();
        assert_eq!(found, if member % 2 == 0 { "a" } else { "b" });
    }
    crowd.assert_in_step();
    assert_eq!(told(&mut client, "scanning"), 0);
}

#[test]
fn where_no_thread_can_be_started_a_scan_is_done_at_once() {
    const CALLERS: usize = 20;
    let (server, mut client, _) = furnished();
    client.run("ML.DEBUG FAULT threads").ok();
    let mut crowd = Crowd::of(&server, CALLERS);
    for member in 0..CALLERS {
        let call = match member % 2 {
            0 => command("ML.SEMGET", "k", &asked(), "HIT 0.9"),
            _ => command("ML.SEMFETCH", "k", &asked(), "HIT 0.9 LEASE 9000"),
        };
        crowd.send_command(member, &call);
    }
    crowd.wait_for(CALLERS);
    assert!((0..CALLERS).all(|member| crowd.last(member).items()[0].text() == "HIT"));
    assert_eq!((told(&mut client, "scanning"), told(&mut client, "scans")), (0, CALLERS as i64));
    let said = || server.log().matches("a thread could not be started").count();
    assert_eq!(said(), 1, "once, until it succeeds");
    client.run("ML.DEBUG FAULT nothing").ok();
    let mut crowd = in_the_middle(&server, &mut client, "HIT 0.9");
    check(&mut client, &mut crowd, "HIT 0.9", "with threads again");
    client.run("ML.DEBUG FAULT threads").ok();
    call!(client, "CONFIG", "SET", "ml.semantic-threads", 9).ok();
    client.send(&command("ML.SEMGET", "k", &asked(), "HIT 0.9"));
    assert_eq!(said(), 2);
}

#[test]
fn near_callers_of_a_large_key_share_one_computation_and_few_scans() {
    const CALLERS: usize = 30;
    let (server, mut client, _) = furnished();
    let unknown = random(&mut Random::new(1_234));
    let mut chance = Random::new(5);
    let mut crowd = Crowd::of(&server, CALLERS);
    let long = "HIT 0.9 LEASE 60000 WAIT 600000";
    for member in 0..CALLERS {
        let vector = at_cosine(&unknown, 0.99, 1.0, &mut chance);
        crowd.send_command(member, &command("ML.SEMFETCH", "k", &vector, long));
    }
    wait_for("all but one to wait", || told(&mut client, "waits") == CALLERS as i64 - 1);
    crowd.wait_for(1);
    assert_eq!(told(&mut client, "waiters"), CALLERS as i64 - 1);
    assert_eq!(told(&mut client, "misses"), CALLERS as i64, "each is counted once");
    let [holder] = crowd.answered()[..] else { panic!("{:?}", crowd.answered()) };
    let token = crowd.last(holder).items()[2].text();
    // Its lease is given up: one more scan, for the one that has the next.
    let scans = told(&mut client, "scans");
    call!(client, "ML.SEMRELEASE", "k", &token).integer();
    crowd.wait_for(2);
    assert_eq!(told(&mut client, "scans"), scans + 1);
    wait_for("the others to wait", || told(&mut client, "waiters") == CALLERS as i64 - 2);
    assert_eq!(told(&mut client, "scans"), scans + 1);
    let next = *crowd.answered().iter().find(|member| **member != holder).unwrap();
    let token = crowd.last(next).items()[2].text();
    let set = command("ML.SEMSET", "k", &unknown, &format!("known TOKEN {token}"));
    client.send(&set).text();
    crowd.wait_for(CALLERS);
    let hits = (0..CALLERS).filter(|member| crowd.last(*member).items()[0].text() == "HIT");
    assert_eq!(hits.count(), CALLERS - 2);
    assert_eq!(told(&mut client, "coalesced"), CALLERS as i64 - 2);
    crowd.assert_in_step();
}

/// A question that nothing in the key is near: a direction in a plane, in degrees.
fn at(degrees: f64) -> Vec<f32> {
    let unknown = random(&mut Random::new(1_234));
    let [along, across] = [1.0, 0.0].map(|one| at_cosine(&unknown, one, 1.0, &mut Random::new(5)));
    let (sine, cosine) = degrees.to_radians().sin_cos();
    let mix = |(one, other): (&f32, &f32)| f64::from(*one) * cosine + f64::from(*other) * sine;
    along.iter().zip(&across).map(mix).map(|one| one as f32).collect()
}

/// A lease on such a question, and callers who wait for its answer, in this order.
fn waiting(server: &Server, client: &mut Client, lease: f64, behind: &[f64]) -> (String, Crowd) {
    let fetch = |degrees, more: &str| {
        command("ML.SEMFETCH", "k", &at(degrees), &format!("HIT 0.9 LEASE 600000{more}"))
    };
    let token = client.send(&fetch(lease, "")).items()[2].text();
    let mut crowd = Crowd::of(server, behind.len());
    for (member, degrees) in behind.iter().enumerate() {
        crowd.send_command(member, &fetch(*degrees, " WAIT 600000"));
        wait_for("it to wait", || told(client, "waits") == member as i64 + 1);
    }
    (token, crowd)
}

#[test]
fn who_is_behind_another_twice_finds_what_came_meanwhile() {
    let (server, mut client, _) = furnished();
    let (token, mut crowd) = waiting(&server, &mut client, 15.0, &[20.0, 20.5, 0.0]);
    hold(&mut client);
    call!(client, "ML.SEMRELEASE", "k", token).integer();
    wait_for_scans(&mut client, 3);
    // One is searched for, and two are behind it: what comes is near the last only.
    set(&mut client, "k", &at(-20.0), "come");
    go(&mut client);
    crowd.look_until("the first and the last", |crowd| crowd.answered() == [0, 2]);
    assert_eq!(crowd.last(0).items()[0].text(), "LEASE");
    assert_eq!(crowd.last(2).items()[1].items()[0].items()[2].text(), "come");
}

#[test]
fn who_comes_again_with_its_token_is_the_only_one_while_the_one_before_is_searched_for() {
    const OWN: &str = "0123456789abcdef0123456789abcdef";
    let (server, mut client, _) = furnished();
    let fetch = |degrees, more: &str| {
        command("ML.SEMFETCH", "k", &at(degrees), &format!("HIT 0.9 LEASE 600000 {more}"))
    };
    let token = client.send(&fetch(0.0, "")).items()[2].text();
    let mut crowd = Crowd::of(&server, 1);
    crowd.send_command(0, &fetch(1.0, &format!("WAIT 600000 TOKEN {OWN}")));
    wait_for("it to wait", || told(&mut client, "waits") == 1);
    hold(&mut client);
    call!(client, "ML.SEMRELEASE", "k", token).integer();
    wait_for_scans(&mut client, 1);
    // The same caller once more, which is decided about at once.
    by_threads(&mut client, false);
    let again = client.send(&fetch(1.0, &format!("TOKEN {OWN}"))).items();
    assert_eq!((again[0].text(), again[2].text()), ("LEASE".into(), OWN.into()));
    crowd.wait_for(1);
    assert_eq!(crowd.last(0).items()[0].text(), "BUSY");
    assert_eq!(told(&mut client, "scanning"), 0);
    go(&mut client);
}

#[test]
fn of_those_who_come_with_one_token_the_last_waits_whoever_is_searched_for_first() {
    const OWN: &str = "0123456789abcdef0123456789abcdef";
    const CALLERS: usize = 20;
    let (server, mut client, _) = furnished();
    let fetch = |degrees, more: &str| {
        command("ML.SEMFETCH", "k", &at(degrees), &format!("HIT 0.9 LEASE 600000 {more}"))
    };
    for together in [false, true] {
        let token = client.send(&fetch(0.0, "")).items()[2].text();
        let mut crowd = Crowd::of(&server, CALLERS);
        let before = told(&mut client, "waits");
        if together {
            hold(&mut client);
        }
        for member in 0..CALLERS {
            crowd.send_command(member, &fetch(1.0, &format!("WAIT 600000 TOKEN {OWN}")));
            match together {
                true => wait_for_scans(&mut client, member as i64 + 1),
                false => wait_for("it to wait", || {
                    told(&mut client, "waits") == before + member as i64 + 1
                }),
            }
        }
        if together {
            go(&mut client);
        }
        crowd.wait_for(CALLERS - 1);
        for member in 0..CALLERS - 1 {
            assert_eq!(crowd.last(member).items()[0].text(), "BUSY", "{member}");
        }
        assert!(!crowd.is_answered(CALLERS - 1), "{:?}", crowd.last(CALLERS - 1));
        call!(client, "ML.SEMRELEASE", "k", token).integer();
        crowd.wait_for(CALLERS);
        let last = crowd.last(CALLERS - 1).items();
        assert_eq!((last[0].text(), last[2].text()), ("LEASE".into(), OWN.into()));
        assert_eq!(call!(client, "ML.SEMRELEASE", "k", OWN).integer(), 1);
    }
}

#[test]
fn a_storm_of_all_that_can_happen_leaves_nobody_waiting() {
    const CALLERS: usize = 24;
    let (server, mut client, _) = furnished();
    client.run("ML.DEBUG CLOCK REAL").ok();
    let replica = server.replica("ml.semantic-inline-bytes 1");
    let mut reader = Crowd::of(&replica, 4);
    let whole = call!(client, "DUMP", "k").bytes();
    let mut chance = Random::new(Random::seeds()[0]);
    let mut crowd = Crowd::of(&server, CALLERS);
    let mut ids = vec!["0".repeat(32)];
    for step in 0..200 * setting("MLSERVE_SOAK_SECONDS", 3) {
        crowd.look();
        reader.look();
        let cosine = chance.below(1_000) as f64 / 1_000.0;
        let vector = at_cosine(&asked(), cosine, 1.0, &mut chance);
        let ask = |name: &str, more: &str| command(name, "k", &vector, more);
        for member in 0..CALLERS {
            if !crowd.is_connected(member) {
                crowd.come_back(member);
            } else if crowd.is_answered(member) && chance.below(3) == 0 {
                crowd.forget(member);
                let call = match chance.below(3) {
                    0 => ask("ML.SEMGET", "HIT 0.9 TOP 3"),
                    1 => ask("ML.SEMFETCH", "HIT 0.95 MAYBE 0.9 LEASE 5"),
                    _ => ask("ML.SEMFETCH", "HIT 0.95 LEASE 20 WAIT 50"),
                };
                crowd.send_command(member, &call);
            }
        }
        for member in 0..reader.len() {
            if reader.is_answered(member) {
                reader.forget(member);
                reader.send_command(member, &ask("ML.SEMGET", "HIT 0.9"));
            }
        }
        let any = ids[chance.below(ids.len() as u64) as usize].clone();
        match chance.below(40) {
            0 => _ = client.run(chance.of(&["DEL k", "UNLINK k", "FLUSHALL ASYNC", "FLUSHDB"])),
            1 => _ = client.run(chance.of(&["RENAME k l", "RENAME l k", "SWAPDB 0 1"])),
            2..=4 => _ = call!(client, "RESTORE", "k", 0, &whole, "REPLACE"),
            5 => _ = call!(client, "ML.SEMDROP", "k", "ID", any),
            6 => _ = call!(client, "ML.SEMTHRESHOLD", "k", any, cosine),
            7 => pick_off(&mut client, &mut chance, "ml.semget"),
            8 => pick_off(&mut client, &mut chance, "ml.semfetch"),
            9 if step % 7 == 0 => _ = client.run(chance.of(&["BGSAVE", "BGREWRITEAOF"])),
            10 => {
                let threads = 1 + chance.below(4);
                call!(client, "CONFIG", "SET", "ml.semantic-threads", threads).ok();
            }
            11 => _ = client.run(chance.of(&["ML.SEMDROP k VERSION v", "PEXPIRE k 3"])),
            12 => crowd.leave(chance.below(CALLERS as u64) as usize),
            _ => {
                let set = ask("ML.SEMSET", &format!("x PX 500 STALE 500 DIGEST {}", step % 90));
                if let Value::BulkString(id) = client.send(&set) {
                    ids.push(String::from_utf8(id).unwrap());
                }
            }
        }
    }
    for member in 0..CALLERS {
        if !crowd.is_connected(member) {
            crowd.come_back(member);
        }
    }
    crowd.look_until("all to be answered or sent away", |crowd| {
        (0..CALLERS).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    reader.wait_for(reader.len());
    for client in [&mut client, &mut replica.client()] {
        wait_for("nobody to be left", || {
            told(client, "scanning") == 0
                && told(client, "waiters") == 0
                && client.info("blocked_clients") == "0"
        });
        assert!(told(client, "scans") > 0);
    }
    for log in [server.log(), replica.log()] {
        assert!(!log.contains("panic"), "{log}");
    }
}

#[test]
fn at_the_end_of_its_wait_a_caller_is_told_what_the_scan_for_it_found() {
    let (server, mut client, _) = furnished();
    let unknown = at_cosine(&asked(), 0.8, 1.0, &mut Random::new(77));
    let short = "HIT 0.999 MAYBE 0.6 TOP 2 LEASE 60000";
    let first = client.send(&command("ML.SEMFETCH", "k", &unknown, short)).items();
    assert_eq!(first[0].text(), "MAYBE");
    let mut crowd = Crowd::of(&server, 1);
    let scans = told(&mut client, "scans");
    crowd.send_command(0, &command("ML.SEMFETCH", "k", &unknown, &format!("{short} WAIT 600000")));
    wait_for("it to wait", || told(&mut client, "waits") == 1);
    each_blocked(&mut client, END_ITS_WAIT);
    crowd.wait_for(1);
    let told_at_the_end = crowd.last(0).items();
    assert_eq!((told_at_the_end[0].text(), &told_at_the_end[2]), ("MAYBE".into(), &Value::Nil));
    assert_eq!(told_at_the_end[1], first[1]);
    assert_eq!(told(&mut client, "scans"), scans + 1);
    // Whose time is over while it is searched for knows nothing yet.
    hold(&mut client);
    crowd.send_command(0, &command("ML.SEMFETCH", "k", &asked(), "HIT 0.9 LEASE 9 WAIT 600000"));
    wait_for_scans(&mut client, 1);
    each_blocked(&mut client, END_ITS_WAIT);
    crowd.wait_for(1);
    assert_eq!(crowd.last(0).items()[0].text(), "BUSY");
    wait_for_scans(&mut client, 0);
    go(&mut client);
}
