//! Permits over time: clocks that step, replicas, restarts, transactions.

use crate::support::permits::{acquire, granted, info, release, renew};
use crate::support::{Answer, Random, Server, Stop, Tap, call, frozen};
use redis::Value;

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;

#[test]
fn a_clock_that_steps_back_grants_nothing_again_and_prolongs_no_permit() {
    let (server, mut client, now) = frozen();
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    let long = granted(&mut client, "k 2 60000");
    granted(&mut client, "k 2 30000");
    assert_eq!(tap.names(&mut client), ["ML.APPLYPERMIT"; 2]);

    let back = now - HOUR;
    for mut client in [server.client(), replica.client()] {
        client.freeze(back);
        let both = (2, vec![(1, 30_000), (1, 60_000)]);
        assert_eq!(info(&mut client, "k"), Some(both), "counted from now");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    // Denied, but the permits are brought back to the clock: once.
    assert_eq!(acquire(&mut client, "k 2 60000").0, [0, 2, 0, 30_000, 60_000]);
    assert_eq!(tap.names(&mut client), ["ML.APPLYPERMIT"]);
    assert_eq!(client.run("PEXPIRETIME k").integer() as u64 * MILLI, back + 60 * SECOND);
    client.freeze(back + SECOND);
    assert_eq!(acquire(&mut client, "k 2 60000").0, [0, 2, 0, 29_000, 59_000]);
    assert_eq!(tap.names(&mut client), [""; 0]);
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());

    client.freeze(back + 30 * SECOND);
    assert_eq!(acquire(&mut client, "k 2 60000").0, [1, 2, 0, 0, 60_000]);
    assert_eq!(renew(&mut client, "k", &long, 1_000), 1);
    assert_eq!(info(&mut client, "k"), Some((2, vec![(1, 1_000), (1, 60_000)])));
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
}

#[test]
fn a_clock_that_steps_forward_is_as_if_that_time_had_passed() {
    let (_server, mut client, now) = frozen();
    let id = granted(&mut client, "k 1 60000");
    client.freeze(now + HOUR);
    assert_eq!(info(&mut client, "k"), None);
    assert_eq!(renew(&mut client, "k", &id, 60_000), 0);
    granted(&mut client, "k 1 60000");
    // And back again: what took its place stays.
    client.freeze(now);
    assert_eq!(acquire(&mut client, "k 1 60000").0, [0, 1, 0, 60_000, 60_000]);
    assert_eq!(release(&mut client, "k", &id), 0);
}

#[test]
fn a_clock_that_was_wrong_for_a_while_leaves_no_key_behind() {
    let server = Server::start();
    let mut client = server.client();
    for wrong in [0, 1, client.freeze_ahead(), i64::MAX as u64 / 2, i64::MAX as u64] {
        client.freeze(wrong);
        granted(&mut client, "k 1 60000");
        client.run("ML.DEBUG CLOCK REAL").ok();
        // Denied (unless the key went, as one that expired long ago), but for
        // no longer than a permit lasts from now.
        let wait = acquire(&mut client, "k 1 60000").0[3];
        assert!((0..=60_000).contains(&wait), "waits {wait} ms after a clock at {wrong} µs");
        let ttl = client.run("PTTL k").integer();
        assert!((1..=60_001).contains(&ttl), "lives for {ttl} ms after a clock at {wrong} µs");
        client.run("DEL k");
    }
}

#[test]
fn transactions_and_scripts_replicate_what_each_call_did() {
    let (server, mut client, _) = frozen();
    let replica = server.replica("");
    let mut tap = Tap::on(&server);
    client.run("MULTI").ok();
    for _ in 0..3 {
        client.run("ML.ADMIT 1 k PERMIT 2 HOLD 60000").text();
    }
    let answers = client.run("EXEC").items();
    let granted: Vec<_> = answers.iter().map(|answer| answer.items()[0].integer()).collect();
    assert_eq!(granted, [1, 1, 0]);
    let names = ["MULTI", "ML.APPLYPERMIT", "ML.APPLYPERMIT", "EXEC"];
    assert_eq!(tap.names(&mut client), names);
    let script = "local permit = redis.call('ML.ADMIT', 1, KEYS[1], 'PERMIT', 3, 'HOLD', 60000)
        redis.call('ML.SETTLE', 1, KEYS[1], permit[2])
        return redis.call('ML.LIMITINFO', KEYS[1])[2]";
    assert_eq!(call!(client, "EVAL", script, 1, "k").integer(), 2);
    assert_eq!(tap.names(&mut client), names);
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest());
}

#[test]
fn a_replica_reads_what_expired_as_absent_and_leaves_it_to_the_primary() {
    let (server, mut client, now) = frozen();
    let replica = server.replica("");
    let mut reader = replica.client();
    reader.freeze(now);
    granted(&mut client, "k 9 1000 COST 2");
    granted(&mut client, "k 9 5000 COST 3");
    replica.catch_up(&server);
    assert_eq!(info(&mut reader, "k"), Some((5, vec![(2, 1_000), (3, 5_000)])));
    let before = reader.digest();
    client.freeze(now + SECOND);
    reader.freeze(now + SECOND);
    assert_eq!(info(&mut reader, "k"), Some((3, vec![(3, 4_000)])));
    reader.freeze(now + 5 * SECOND);
    assert_eq!(info(&mut reader, "k"), None);
    assert_eq!(reader.digest(), before);
    // The primary's next write removes it, on the replica too.
    granted(&mut client, "k 9 9000");
    replica.catch_up(&server);
    assert_eq!(reader.digest(), client.digest());
    for call in ["ML.ADMIT 1 k PERMIT 9 HOLD 9", "ML.SETTLE 1 k 0", "ML.RENEW 1 k 0 9"] {
        assert!(reader.run(call).error().starts_with("READONLY"), "{call}");
    }
}

#[test]
fn random_traffic_under_a_jumping_clock_leaves_replicas_and_a_restart_equal() {
    for seed in Random::seeds() {
        let mut server = Server::with("appendonly yes\nappendfsync always");
        let replica = server.replica("");
        let mut client = server.client();
        let (mut random, mut now) = (Random::new(seed), client.freeze_ahead());
        let mut ids = vec![String::new()];
        for step in 0..2_000 {
            now = match random.below(100) {
                0 => now - random.below(HOUR),
                1 => now + random.below(HOUR / 10),
                2..=10 => now - random.below(SECOND),
                _ => now + random.below(SECOND),
            };
            client.freeze(now);
            let (key, ttl_ms) = (["a", "b"][random.below(2) as usize], 1 + random.below(20_000));
            let late = ids.len() - 1 - random.below(12.min(ids.len() as u64)) as usize;
            match random.below(10) {
                0..=5 => {
                    let (max, cost) = (10 + random.below(20), 1 + random.below(6));
                    let call = format!("{key} {max} {ttl_ms} COST {cost}");
                    let (answer, id) = acquire(&mut client, &call);
                    let context = format!("{answer:?} in step {step}, seed {seed}");
                    assert!(answer[3] <= 20_000 && answer[4] <= 20_000, "{context}");
                    let open = info(&mut client, key).unwrap_or_default();
                    assert!(id.is_none() || open.0 <= max as i64, "{context}");
                    assert_eq!((max as i64 - open.0).max(0), answer[2], "{context}");
                    assert_eq!(
                        open.0,
                        open.1.iter().map(|(cost, _)| cost).sum::<i64>(),
                        "{context}"
                    );
                    assert!(open.1.iter().all(|(_, ttl)| (1..=20_000).contains(ttl)), "{context}");
                    ids.extend(id);
                }
                6 | 7 => _ = renew(&mut client, key, &ids[late], ttl_ms),
                _ => _ = release(&mut client, key, &ids[late]),
            }
        }
        replica.catch_up(&server);
        let digest = client.digest();
        assert_eq!(replica.client().digest(), digest, "seed {seed}");
        let late = server.replica("");
        assert_eq!(late.client().digest(), digest, "seed {seed}");
        client.run("DEBUG RELOAD").ok();
        assert_eq!(client.digest(), digest, "seed {seed}");
        server.restart(Stop::Kill);
        assert_eq!(server.client().digest(), digest, "seed {seed}");
    }
}

#[test]
fn a_restart_keeps_who_holds_what() {
    const AOF: &str = "appendonly yes\nappendfsync always";
    for (config, stop) in [("", Stop::Save), (AOF, Stop::Kill)] {
        let mut server = Server::with(config);
        let mut client = server.client();
        let first = granted(&mut client, "k 3 3600000 COST 2");
        let second = granted(&mut client, "k 3 7200000");
        server.restart(stop);
        let mut client = server.client();
        assert_eq!(acquire(&mut client, "k 3 3600000").1, None, "{stop:?}");
        assert_eq!(renew(&mut client, "k", &first, 3_600_000), 1);
        assert_eq!(release(&mut client, "k", &second), 1);
        assert_eq!(acquire(&mut client, "k 3 3600000").0, [1, 3, 0, 0, 3_600_000], "{stop:?}");
    }
}

#[test]
fn a_failover_keeps_who_holds_what() {
    let mut primary = Server::start();
    let mut client = primary.client();
    let replica = primary.replica("");
    let id = granted(&mut client, "k 1 3600000");
    let expires = client.run("PEXPIRETIME k");
    replica.catch_up(&primary);
    primary.kill();
    let mut client = replica.client();
    client.run("REPLICAOF NO ONE").ok();
    assert_eq!(client.run("PEXPIRETIME k"), expires);
    assert_eq!(acquire(&mut client, "k 1 3600000").1, None);
    assert_eq!(release(&mut client, "k", &id), 1);
    assert_eq!(client.run("ML.LIMITINFO k"), Value::Nil);
    granted(&mut client, "k 1 3600000");
}
