//! A server that nobody listens to sends no effects, and whoever begins to
//! listen, in the midst of traffic, gets all that matters.

use crate::support::{Answer, Client, Random, Server, Stop, wait_for};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn effects_are_wanted(client: &mut Client) -> bool {
    client.run("ML.DEBUG EFFECTS WANTED").integer() == 1
}

/// A server that was found to have nobody listening.
fn quiet() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.client();
    wait_for("effects to be left out", || !effects_are_wanted(&mut client));
    (server, client)
}

/// Charges random keys, none of which is back at full soon, from four connections while `act` runs, and then as
/// often again.
fn under_traffic(server: &Server, act: impl FnOnce()) {
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let running = |more: u64| {
        let before = calls.load(Relaxed);
        wait_for("traffic", || calls.load(Relaxed) >= before + more);
    };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (over, calls, mut client) = (&over, &calls, server.client());
            let mut random = Random::new(seed);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let key = random.below(200);
                    let call = match random.below(6) {
                        0 => format!("ML.RATELIMIT g{key} 50 6000 ALGORITHM GCRA"),
                        1 => {
                            format!("ML.RATELIMIT s{key} 50 6000 ALGORITHM SLIDING RESERVE 600000")
                        }
                        2 => format!("ML.CACHESET c{key} v x"),
                        3 => format!("ML.FEATURESET v{key} VIEW v{} FIELDS 1 f 1", key % 3),
                        4 => format!("ML.FEATUREMSET 2 v{key} w{key} 12345678 TYPE F32 FIELDS 1 g"),
                        _ => format!("ML.RATELIMIT f{key} 50 6000 5000 36000"),
                    };
                    client.run(&call);
                    calls.fetch_add(1, Relaxed);
                }
            });
        }
        running(2_000);
        act();
        running(2_000);
        over.store(true, Relaxed);
    });
}

#[test]
fn a_write_without_an_effect_counts_as_one() {
    let (_server, mut client) = quiet();
    let changes =
        |client: &mut Client| client.info("rdb_changes_since_last_save").parse::<u64>().unwrap();
    let before = changes(&mut client);
    client.run("ML.RATELIMIT key 1 60").integers();
    assert_eq!(changes(&mut client), before + 1);
    client.run("ML.RATELIMIT key 1 60").integers();
    assert_eq!(changes(&mut client), before + 1, "a denied one is none");
}

#[test]
fn a_replica_that_joins_in_the_midst_of_traffic_gets_all() {
    let (server, mut client) = quiet();
    let replica = Server::start();
    let mut follower = replica.client();
    under_traffic(&server, || {
        follower.run(&format!("REPLICAOF 127.0.0.1 {}", server.port())).ok();
        wait_for("the replica to be in step", || follower.info("master_link_status") == "up");
        assert!(effects_are_wanted(&mut client));
    });
    wait_for("the replica to have all", || follower.digest() == client.digest());
    // A replica that leaves may come back for what it missed.
    follower.run("REPLICAOF NO ONE").ok();
    wait_for("the replica to be gone", || client.info("connected_slaves") == "0");
    client.run("ML.RATELIMIT key 1 60").integers();
    follower.run(&format!("REPLICAOF 127.0.0.1 {}", server.port())).ok();
    wait_for("the replica to have all", || {
        follower.info("master_link_status") == "up" && follower.digest() == client.digest()
    });
}

#[test]
fn an_aof_begun_in_the_midst_of_traffic_has_all() {
    let (mut server, mut client) = quiet();
    under_traffic(&server, || {
        client.run("CONFIG SET appendonly yes appendfsync always").ok();
        wait_for("the AOF to be there", || {
            client.info("aof_rewrite_in_progress") == "0"
                && client.info("aof_rewrite_scheduled") == "0"
                && client.info("aof_last_bgrewrite_status") == "ok"
        });
        assert!(effects_are_wanted(&mut client));
    });
    client.run("CONFIG REWRITE").ok();
    let before = client.digest();
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), before);
}
