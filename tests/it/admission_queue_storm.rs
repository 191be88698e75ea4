//! A storm over those who wait to be let in: nobody is forgotten, told twice, or let in
//! where there is no room.

use crate::support::fetches::{Crowd, Over, pick_off, setting};
use crate::support::queues::{assert_nobody_waits, hold, waiting};
use crate::support::rates::{Admission, Info};
use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::Value;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The keys of permits, and how many each has.
const KEYS: u64 = 5;
const PERMITS: i64 = 6;

/// What a limiter lets in: the same of all three.
const LIMIT: i64 = 40;

/// What was let in, and is to be settled: `p l id`.
type Ids = Mutex<Vec<String>>;

/// A call that needs permits, and tokens of a limit now and then.
fn call_of(random: &mut Random) -> (String, String) {
    let (permit, limit) = (format!("p{}", random.below(KEYS)), format!("l{}", random.below(3)));
    let cost = 1 + random.below(3);
    let wait_ms = 1 + random.below(4_000);
    let mut end = format!("HOLD {} WAIT {wait_ms}", 20 + random.below(400));
    if random.below(3) == 0 {
        end = format!("{end} PRIORITY {}", random.below(3));
    }
    if random.below(10) == 0 {
        end = format!("{end} ID {:032x}", random.below(20));
    }
    let permits = format!("PERMIT {PERMITS} COST {cost}");
    if random.below(2) == 0 {
        return (format!("1 {permit}"), format!("ML.ADMIT 1 {permit} {permits} {end}"));
    }
    let tokens = format!("LIMIT {LIMIT} 0.2 COST {}", random.below(4));
    let keys = format!("2 {permit} {limit}");
    (keys.clone(), format!("ML.ADMIT {keys} {permits} {tokens} {end}"))
}

/// Frees what somebody took, or has it changed in other ways.
fn disturb(server: &Server, client: &mut Client, random: &mut Random, ids: &Ids) {
    let key = |random: &mut Random| match random.below(3) {
        0 => format!("l{}", random.below(3)),
        _ => format!("p{}", random.below(KEYS)),
    };
    let id = ids.lock().unwrap().pop();
    let line = match random.below(60) {
        0 => format!("DEL {}", key(random)),
        1 => format!("UNLINK {}", key(random)),
        2 => "FLUSHDB".to_owned(),
        3 => "FLUSHALL ASYNC".to_owned(),
        4 => "SWAPDB 0 1".to_owned(),
        5 => format!("RENAME p{} p{}", random.below(KEYS), random.below(KEYS)),
        6 => format!("COPY p{} p{} REPLACE", random.below(KEYS), random.below(KEYS)),
        7 => format!("PEXPIRE {} 5", key(random)),
        8 => format!("SET {} x PX 5", key(random)),
        9 => format!("CONFIG SET ml.limit-max-waiters {}", random.of(&["65536", "500"])),
        // As long as it follows nobody can be reached.
        10 if random.below(20) == 0 => {
            let _ = client.try_run("REPLICAOF 127.0.0.1 1");
            "REPLICAOF NO ONE".to_owned()
        }
        _ => match id {
            Some(settled) => format!("ML.SETTLE {settled}"),
            None => "PING".to_owned(),
        },
    };
    // A server that changes its role closes the connections of those that it blocks.
    while client.try_run(&line).is_err() {
        *client = server.client();
    }
}

/// Has nobody let in for a while. By the one who unblocks, because Redis 7.0 ends where
/// a client is unblocked that it holds back in a pause.
fn pause(client: &mut Client) {
    client.run("CLIENT PAUSE 60000 WRITE").ok();
    for _ in 0..10 {
        client.run("ML.LIMITINFO p0");
    }
    client.run("CLIENT UNPAUSE").ok();
}

/// No more is taken than there is, whatever happens.
fn assert_maxima(client: &mut Client, random: &mut Random) {
    let info = |client: &mut Client, key: &str| match call!(client, "ML.LIMITINFO", key) {
        answer if answer.is_error() || answer == Value::Nil => None,
        answer => Some(answer.map()),
    };
    if let Some(permits) = info(client, &format!("p{}", random.below(KEYS))) {
        let costs: i64 =
            permits["holds"].items().iter().map(|hold| hold.map()["cost"].integer()).sum();
        let in_use = permits["in_use"].integer();
        assert!(in_use <= PERMITS && in_use == costs, "{permits:?}");
    }
    if let Some(limiter) = info(client, &format!("l{}", random.below(3))) {
        let used = limiter["windows"].items()[0].map()["used"].integer();
        assert!(used <= LIMIT, "{limiter:?}");
    }
}

/// What a caller in the storm was told; what it holds is kept for others to settle.
fn outcome(answer: &Value, keys: &str, ids: &Ids) -> String {
    if answer.is_error() {
        return answer.error().split(' ').next().unwrap().to_owned();
    }
    let admission = Admission::of(answer);
    match admission.id {
        Some(id) => ids.lock().unwrap().push(format!("{keys} {id}")),
        None => return "denied".to_owned(),
    }
    "admitted".to_owned()
}

#[test]
fn a_storm_leaves_nobody_waiting_and_lets_in_no_more_than_there_is_room_for() {
    let most = setting("MLSERVE_SOAK_WAITERS", 2_000) as usize;
    let least_calls = 5 * most;
    let server = Server::start();
    let mut client = server.client();
    let [_, seed] = Random::seeds();
    let (ids, is_over) = (Ids::default(), AtomicBool::new(false));
    let mut random = Random::new(seed);
    let mut crowd = Crowd::of(&server, most);
    // All of them wait at once.
    let mut keys = vec![String::new(); most];
    for key in 0..KEYS {
        let words = format!("1 p{key} PERMIT {PERMITS} COST {PERMITS} HOLD 600000");
        let id = hold(&mut client, &words);
        ids.lock().unwrap().push(format!("1 p{key} {id}"));
    }
    for (member, keys) in keys.iter_mut().enumerate() {
        *keys = format!("1 p{}", random.below(KEYS));
        crowd.send(member, &format!("ML.ADMIT {keys} PERMIT {PERMITS} HOLD 99 WAIT 600000"));
    }
    wait_for("all to wait", || waiting(&mut client) == most as i64);
    let mut told = BTreeMap::new();
    let (mut calls, mut lost) = (most, 0);
    std::thread::scope(|scope| {
        for disturber in 1..4 {
            let (ids, is_over, server) = (&ids, &is_over, &server);
            scope.spawn(move || {
                let (mut client, mut random) = (server.client(), Random::new(seed ^ disturber));
                while !is_over.load(Relaxed) {
                    match disturber {
                        1 if random.below(10) == 0 => pause(&mut client),
                        1 => pick_off(&mut client, &mut random, "ml.admit"),
                        2 => assert_maxima(&mut client, &mut random),
                        _ => disturb(server, &mut client, &mut random, ids),
                    }
                }
            });
        }
        let _over = Over(&is_over);
        while calls < least_calls {
            crowd.look();
            for (member, keys) in keys.iter_mut().enumerate() {
                if !crowd.is_connected(member) || random.below(5_000) == 0 {
                    crowd.come_back(member);
                    lost += 1;
                } else if !crowd.is_answered(member) {
                    continue;
                }
                if let Some(answer) = crowd.answers(member).last() {
                    *told.entry(outcome(answer, keys, &ids)).or_insert(0) += 1;
                    // Each is answered once, on a clean slate.
                    crowd.forget(member);
                }
                let call;
                (*keys, call) = call_of(&mut random);
                crowd.send(member, &call);
                calls += 1;
            }
        }
    });
    println!("{calls} calls, {lost} connections lost: {told:?}");
    for status in ["admitted", "denied", "UNBLOCKED"] {
        assert!(told.contains_key(status), "nobody was told {status}, seed {seed}");
    }
    // Those are left who wait for long; what is held for long is given back.
    client.run("CONFIG SET ml.limit-max-waiters 65536").ok();
    crowd.look_until("an answer for each", |crowd| {
        client.run("FLUSHALL");
        (0..most).all(|member| crowd.is_answered(member) || !crowd.is_connected(member))
    });
    crowd.assert_in_step();
    wait_for("those killed to be forgotten", || waiting(&mut client) == 0);
    client.run("FLUSHALL").ok();
    assert_nobody_waits(&server, "the storm");
    for key in (0..KEYS).map(|key| format!("p{key}")) {
        assert_eq!(Info::of(&mut client, &key), None, "seed {seed}");
    }
}
