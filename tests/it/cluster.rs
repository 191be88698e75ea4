//! The module in a cluster: where keys belong, slots that move under traffic,
//! nodes that die.

use crate::support::cluster::{Cluster, ClusterClient, id, slot_of};
use crate::support::queues::{hold, queue, settle, waiting};
use crate::support::vectors::{DIM, bytes};
use crate::support::{Answer, Random, bulk, call, wait_for};
use redis::{Cmd, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn command(line: &str) -> Cmd {
    let mut command = Cmd::new();
    line.split(' ').for_each(|word| _ = command.arg(word));
    command
}

#[test]
fn keys_of_one_slot_go_together_and_no_others() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    assert_eq!(
        call!(cluster.nodes[0].client(), "CLUSTER", "KEYSLOT", "a{tag}b"),
        Value::Int(slot_of(b"a{tag}b").into())
    );
    for line in [
        "ML.ADMIT 2 {} {} LIMIT 10 60 LIMIT 10 60",
        "ML.SERVE 2 {} {} ADMIT LIMIT 10 60 CACHE v LEASE 9",
        "ML.SETTLE 2 {} {} id",
        "ML.RENEW 2 {} {} id 9",
        "ML.CACHEMGET 2 {} {} v",
        "ML.CACHEMSET 2 {} x {} y v EX 60",
        "ML.CACHEMFETCH 2 {} {} v LEASE 1000",
        "ML.FEATUREGET 2 {} {} FIELDS 1 f",
        "ML.FEATUREMSET 2 {} {} 12345678 TYPE F32 FIELDS 1 f",
        "ML.APPLYROW change {} {}",
    ] {
        let with = |keys: [&str; 2]| line.replacen("{}", keys[0], 1).replacen("{}", keys[1], 1);
        for node in &cluster.nodes {
            let error = node.client().run(&with(["one", "another"])).error();
            assert!(error.starts_with("CROSSSLOT"), "{line}: {error}");
        }
        let kind = line.split(' ').next().unwrap();
        let keys = [format!("1{{{kind}}}"), format!("2{{{kind}}}")];
        let answer = client.run(&keys[0], &with([&keys[0], &keys[1]]));
        assert_eq!(answer.is_error(), line.contains("APPLY"), "{line}: {answer:?}");
        // Every other node says where to go.
        let owner = cluster.owner(&keys[0]);
        for (place, node) in cluster.nodes.iter().enumerate() {
            let answer = node.client().run(&with([&keys[0], &keys[1]]));
            let moved = answer.is_error() && answer.error().starts_with("MOVED");
            assert_eq!(moved, place != owner, "{line}: {answer:?}");
        }
    }
    // Replicas answer those who ask for it.
    client.run("row", "ML.FEATURESET row FIELDS 1 f 7").integer();
    client.run("row", "ML.CACHESET {row}c v x").ok();
    let owner = cluster.owner("row");
    let replica = &cluster.nodes[owner + 3];
    replica.catch_up(&cluster.nodes[owner]);
    let mut reader = replica.client();
    reader.run("READONLY").ok();
    assert_eq!(reader.run("ML.FEATURES row f").texts(), ["7"]);
    assert_eq!(reader.run("ML.CACHEGET {row}c v").text(), "x");
    assert!(reader.run("ML.RATELIMIT row 1 60").error().starts_with("MOVED"));
}

/// What was done to one limit and one row.
#[derive(Default)]
struct Account {
    asked: AtomicU64,
    granted: AtomicU64,
    /// The last event time that was acknowledged.
    event: AtomicU64,
    tallied: AtomicU64,
}

/// What was done to some keys, by many at once.
#[derive(Default)]
struct Ledger {
    accounts: [Account; Self::KEYS],
    wrong_versions: AtomicU64,
    /// Calls that were sent again after a connection was lost.
    repeated: AtomicU64,
}

impl Ledger {
    const KEYS: usize = 32;
    const LIMIT: u64 = 300;

    /// Does one thing of each kind to a key.
    fn step(&self, client: &mut ClusterClient, key: usize, random: &mut Random) {
        let mut lost = false;
        let mut send = |key: &str, line: String| {
            let (answer, repeated) = client.send(key, &command(&line));
            lost |= repeated;
            answer
        };
        let limit = format!("limit:{key}");
        let granted = send(&limit, format!("ML.RATELIMIT {limit} {} 3600", Self::LIMIT));
        let account = &self.accounts[key];
        account.asked.fetch_add(1, Relaxed);
        account.granted.fetch_add(granted.items()[0].integer() as u64, Relaxed);
        // Each version writes its own name.
        let (cache, version) = (format!("cache:{key}"), format!("v{}", random.below(3)));
        send(&cache, format!("ML.CACHESET {cache} {version} {version}-answer"));
        let other = format!("v{}", random.below(3));
        let answer = send(&cache, format!("ML.CACHEGET {cache} {other}"));
        if answer != Value::Nil && answer != bulk(format!("{other}-answer")) {
            self.wrong_versions.fetch_add(1, Relaxed);
        }
        let row = format!("row:{key}");
        let at = 200_000_000_000 + random.below(1 << 40);
        let write = format!("ML.FEATURESET {row} AT {at} EX 3600 FIELDS 2 f {at} g {at}");
        send(&row, write).integer();
        account.event.fetch_max(at, Relaxed);
        let tally = format!("ML.FEATURETALLY {row} FIELDS 1 clicks 1 SPAN 86400 TILE 3600");
        account.tallied.fetch_add(send(&row, tally).integer() as u64, Relaxed);
        send(&row, format!("ML.FEATUREPUSH {row} seen {at} LAST 400 AT {at}")).integer();
        self.repeated.fetch_add(lost.into(), Relaxed);
    }

    /// Works on all keys from some clients at once until `act` is done.
    fn under_traffic(&self, cluster: &Cluster, act: impl FnOnce()) {
        let (over, steps) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (over, steps, mut client) = (&over, &steps, cluster.client());
                let mut random = Random::new(worker);
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        let key = random.below(Self::KEYS as u64) as usize;
                        self.step(&mut client, key, &mut random);
                        steps.fetch_add(1, Relaxed);
                    }
                });
            }
            let wait = |more| {
                let before = steps.load(Relaxed);
                wait_for("traffic", || steps.load(Relaxed) >= before + more);
            };
            wait(200);
            act();
            wait(200);
            over.store(true, Relaxed);
        });
    }

    /// Checks that nothing was lost and nothing granted beyond the limits.
    fn settle(&self, cluster: &Cluster) {
        assert_eq!(self.repeated.load(Relaxed), 0);
        assert_eq!(self.wrong_versions.load(Relaxed), 0);
        let mut client = cluster.client();
        for (key, account) in self.accounts.iter().enumerate() {
            let (asked, granted) = (account.asked.load(Relaxed), account.granted.load(Relaxed));
            assert_eq!(granted, asked.min(Self::LIMIT), "limit:{key}");
            let event = account.event.load(Relaxed);
            if event > 0 {
                let row = format!("row:{key}");
                let values = client.run(&row, &format!("ML.FEATURES {row} f g")).texts();
                assert_eq!(values, [event.to_string(), event.to_string()]);
                assert!(client.run(&row, &format!("PTTL {row}")).integer() > 3_000_000);
                let events = format!("ML.FEATURES {row} count(clicks,86400) seen[1]");
                let counted = client.run(&row, &events).items()[0].text();
                assert_eq!(counted, account.tallied.load(Relaxed).to_string());
            }
        }
    }
}

/// Moves a slot from one node to another, key by key.
fn migrate(cluster: &Cluster, slot: u16, from: usize, to: usize) {
    let (source, target) = (&cluster.nodes[from], &cluster.nodes[to]);
    let (source_id, target_id) = (id(source), id(target));
    let (mut at_source, mut at_target) = (source.client(), target.client());
    call!(at_target, "CLUSTER", "SETSLOT", slot, "IMPORTING", &source_id).ok();
    call!(at_source, "CLUSTER", "SETSLOT", slot, "MIGRATING", &target_id).ok();
    loop {
        let keys = call!(at_source, "CLUSTER", "GETKEYSINSLOT", slot, 3).items();
        if keys.is_empty() {
            break;
        }
        let keys: Vec<_> = keys.iter().map(Answer::bytes).collect();
        let moved =
            call!(at_source, "MIGRATE", "127.0.0.1", target.port(), "", 0, 5_000, "KEYS", keys);
        assert!(["OK", "NOKEY"].contains(&moved.text().as_str()), "{moved:?}");
    }
    cluster.assign(slot, to);
}

/// The slots of all keys of the ledger that are with a node.
fn slots_of(cluster: &Cluster, node: usize) -> Vec<u16> {
    let kinds = ["limit", "cache", "row"];
    let keys =
        kinds.iter().flat_map(|kind| (0..Ledger::KEYS).map(move |key| format!("{kind}:{key}")));
    let mut slots: Vec<_> =
        keys.filter(|key| cluster.owner(key) == node).map(|key| slot_of(key.as_bytes())).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

#[test]
fn slots_that_move_key_by_key_under_traffic_lose_and_grant_nothing() {
    let cluster = Cluster::start();
    let ledger = Ledger::default();
    ledger.under_traffic(&cluster, || {
        let slots = slots_of(&cluster, 0);
        assert!(slots.len() > 10);
        slots.iter().for_each(|slot| migrate(&cluster, *slot, 0, 1));
    });
    assert!(slots_of(&cluster, 0).is_empty());
    ledger.settle(&cluster);
}

/// Whether the nodes can migrate slots whole (Valkey 9).
fn migrates_atomically(cluster: &Cluster) -> bool {
    let help = call!(cluster.nodes[0].client(), "CLUSTER", "HELP").texts();
    help.iter().any(|line| line.starts_with("MIGRATESLOTS"))
}

#[test]
fn slots_that_move_whole_under_traffic_lose_and_grant_nothing() {
    let cluster = Cluster::start();
    if !migrates_atomically(&cluster) {
        println!("not applicable: this server migrates no slots atomically");
        return;
    }
    // The versions in force move along, by the node that the keys come from.
    cluster.nodes[0].client().run("ML.CACHEVERSIONSET cache v0 v1 v2").ok();
    let ledger = Ledger::default();
    ledger.under_traffic(&cluster, || {
        let (from, to) = (&cluster.nodes[0], id(&cluster.nodes[1]));
        for range in [(0, 2_000), (2_001, 5_460)] {
            call!(
                from.client(),
                "CLUSTER",
                "MIGRATESLOTS",
                "SLOTSRANGE",
                range.0,
                range.1,
                "NODE",
                &to
            )
            .ok();
            wait_for("the slots to be migrated", || {
                let migrations = from.client().run("CLUSTER GETSLOTMIGRATIONS").items();
                let states: Vec<_> =
                    migrations.iter().map(|one| one.map()["state"].text()).collect();
                assert!(!states.iter().any(|state| state == "failed"), "{migrations:?}");
                states.iter().all(|state| state == "success")
            });
        }
    });
    assert!(slots_of(&cluster, 0).is_empty());
    ledger.settle(&cluster);
    let versions = cluster.nodes[1].client().run("ML.CACHEVERSION cache").texts();
    assert_eq!(versions, ["v0", "v1", "v2"]);
    let (primary, replica) = (&cluster.nodes[1], &cluster.nodes[4]);
    replica.catch_up(primary);
    assert_eq!(replica.client().digest(), primary.client().digest());
}

/// What is answered to one of many, while the others wait, in the middle of a move of its
/// slot. `fetch` is a call at a key, and `waiters` how INFO names those who wait.
fn who_waits_where_a_slot_moves(fetch: impl Fn(&str, &str) -> Cmd + Sync, waiters: &str) {
    let cluster = Cluster::start();
    let key =
        (0..).map(|number| format!("wait:{number}")).find(|key| cluster.owner(key) == 0).unwrap();
    let (node, fetch) = (&cluster.nodes[0], |more: &str| fetch(&key, more));
    let leased = node.client().send(&fetch("LEASE 60000")).items();
    assert_eq!(leased[0].text(), "LEASE");
    // While it moves, a new call would be sent to ask the other node.
    let mut client = node.client();
    let answer = std::thread::scope(|scope| {
        let waits = scope.spawn(|| node.client().send(&fetch("LEASE 9000 WAIT 50000")));
        wait_for("it to wait", || client.info(waiters) == "1");
        let (slot, to) = (slot_of(key.as_bytes()), id(&cluster.nodes[1]));
        call!(client, "CLUSTER", "SETSLOT", slot, "MIGRATING", to).ok();
        // Which ends the lease.
        client.run("FLUSHALL").ok();
        let answer = waits.join().unwrap();
        call!(client, "CLUSTER", "SETSLOT", slot, "STABLE").ok();
        answer
    });
    assert!(answer.is_error() && answer.error().starts_with("TRYAGAIN "), "{answer:?}");
    let leased = client.send(&fetch("LEASE 60000")).items();
    assert_eq!(leased[0].text(), "LEASE");
    let answers = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..10)
            .map(|waiter| {
                let (mut client, fetch) = (node.client(), &fetch);
                scope.spawn(move || {
                    let wait = if waiter % 2 == 0 { 3_000 } else { 50_000 };
                    client.try_send(&fetch(&format!("LEASE 9000 WAIT {wait}")))
                })
            })
            .collect();
        wait_for("them to wait", || node.client().info(waiters) == "10");
        migrate(&cluster, slot_of(key.as_bytes()), 0, 1);
        // The new owner knows nothing of them: the first to ask computes.
        let answer = cluster.nodes[1].client().send(&fetch("LEASE 9000"));
        assert_eq!(answer.items()[0].text(), "LEASE");
        // Whoever the server has not sent on gives the wait up, at the latest here.
        wait_for("the short waits to be over", || {
            node.client().info(waiters).parse::<u32>().unwrap() <= 5
        });
        let _ = node.client().try_run("CLIENT KILL TYPE NORMAL SKIPME NO");
        crowd.into_iter().map(|waiter| waiter.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sent_on = 0;
    for answer in answers.into_iter().flatten() {
        match answer {
            Value::Array(items) => assert_eq!(items[0].text(), "BUSY"),
            error => {
                assert!(error.error().starts_with("MOVED"), "{error:?}");
                sent_on += 1;
            }
        }
    }
    println!("{sent_on} of 10 were sent on by the server");
    wait_for("nobody to be left", || {
        node.client().info(waiters) == "0" && node.client().info("blocked_clients") == "0"
    });
}

#[test]
fn who_waits_for_an_answer_of_a_slot_that_moves_is_sent_on_or_told_to_try_again() {
    let fetch = |key: &str, more: &str| command(&format!("ML.CACHEFETCH {key} v {more}"));
    who_waits_where_a_slot_moves(fetch, "ml_cache_waiters");
}

#[test]
fn who_waits_for_an_answer_to_a_near_question_where_a_slot_moves_is_sent_on_too() {
    let vector = bytes(&[1.0; DIM]);
    let fetch = |key: &str, more: &str| {
        let mut command = redis::cmd("ML.SEMFETCH");
        command.arg(key).arg("v").arg(&vector).arg("HIT").arg("0.9");
        more.split(' ').for_each(|word| _ = command.arg(word));
        command
    };
    who_waits_where_a_slot_moves(fetch, "ml_semantic_waiters");
}

#[test]
fn who_waits_to_be_let_in_where_a_slot_moves_is_sent_on_or_told_to_try_again() {
    let cluster = Cluster::start();
    let tag =
        (0..).map(|number| format!("{{w{number}}}")).find(|tag| cluster.owner(tag) == 0).unwrap();
    let (node, slot) = (&cluster.nodes[0], slot_of(tag.as_bytes()));
    let mut client = node.client();
    let admit =
        |wait_ms: u32| format!("2 {tag}p {tag}l PERMIT 1 LIMIT 9 3600 HOLD 600000 WAIT {wait_ms}");
    // While it moves, a new call would be sent to ask the other node.
    hold(&mut client, &format!("1 {tag}p PERMIT 1 HOLD 600000"));
    let mut crowd = queue(node, &[&admit(600_000), &admit(600_000)]);
    call!(client, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(&cluster.nodes[1])).ok();
    client.run("FLUSHALL").ok();
    crowd.wait_for(2);
    for member in 0..2 {
        let error = crowd.last(member).error();
        assert!(error.starts_with("TRYAGAIN "), "{error}");
    }
    call!(client, "CLUSTER", "SETSLOT", slot, "STABLE").ok();
    assert_eq!(client.run(&format!("EXISTS {tag}p {tag}l")).integer(), 0, "nothing is taken");
    // Once it has moved, the server sends on who waits there, or else the wait is over.
    let id = hold(&mut client, &format!("1 {tag}p PERMIT 1 HOLD 600000"));
    let mut crowd = queue(node, &[&admit(2_000), &admit(600_000), &admit(2_000)]);
    migrate(&cluster, slot, 0, 1);
    let mut other = cluster.nodes[1].client();
    crowd.look_until("the short waits to be over", |crowd| {
        [0, 2].iter().all(|member| crowd.is_answered(*member))
    });
    // Who waits for long is decided when something happens, if it was not sent on.
    crowd.look();
    if !crowd.is_answered(1) {
        client.run("FLUSHALL").ok();
        crowd.wait_for(3);
    }
    for member in 0..3 {
        // It is decided anew as its key goes, which is before the slot has gone.
        let error = crowd.last(member).error();
        let is_sent_on = ["MOVED ", "TRYAGAIN "].iter().any(|code| error.starts_with(code));
        assert!(is_sent_on, "{member}: {error}");
    }
    assert_eq!(other.run(&format!("EXISTS {tag}l")).integer(), 0, "nothing is taken");
    settle(&mut other, &format!("{tag}p"), &id);
    for node in &cluster.nodes[..2] {
        let mut client = node.client();
        assert_eq!(waiting(&mut client), 0);
        wait_for("nothing to be held", || client.info("ml_permit_held") == "0");
        assert_eq!(client.info("ml_ratelimit_open_holds"), "0");
        assert_eq!(client.info("blocked_clients"), "0");
    }
    crowd.assert_in_step();
}

#[test]
fn a_primary_that_dies_loses_no_event_that_a_replica_had_and_grants_little_beyond() {
    const WORKERS: u64 = 4;
    let mut cluster = Cluster::start();
    let victim = 1;
    let keys: Vec<_> = (0..)
        .map(|number| format!("k{number}"))
        .filter(|key| cluster.owner(key) == victim)
        .take(8)
        .collect();
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let (granted, in_doubt) = (AtomicU64::new(0), AtomicU64::new(0));
    let acknowledged: Vec<_> = keys.iter().map(|_| AtomicU64::new(0)).collect();
    // By then, so many calls had been answered.
    let dead = std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (mut client, mut random) = (cluster.client(), Random::new(worker));
            let (over, calls, granted, in_doubt) = (&over, &calls, &granted, &in_doubt);
            let (keys, acknowledged) = (&keys, &acknowledged);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let place = random.below(keys.len() as u64) as usize;
                    let key = &keys[place];
                    let limit = format!("{{{key}}}limit");
                    let (answer, lost) =
                        client.send(key, &command(&format!("ML.RATELIMIT {limit} 1000000 3600")));
                    granted.fetch_add(answer.items()[0].integer() as u64, Relaxed);
                    in_doubt.fetch_add(lost.into(), Relaxed);
                    let at = 200_000_000_000 + random.below(1 << 40);
                    let row = format!("{{{key}}}row");
                    client
                        .run(key, &format!("ML.FEATURESET {row} AT {at} FIELDS 1 f {at}"))
                        .integer();
                    // The connection is the one that wrote: WAIT is for its writes.
                    if random.below(4) == 0 {
                        let (replicas, lost) = client.send(key, &command("WAIT 1 50"));
                        if !lost && replicas.integer() >= 1 {
                            acknowledged[place].fetch_max(at, Relaxed);
                        }
                    }
                    calls.fetch_add(1, Relaxed);
                }
            });
        }
        let wait = |more: u64| {
            let before = calls.load(Relaxed);
            wait_for("traffic", || calls.load(Relaxed) >= before + more);
        };
        wait(500);
        let mut successor = cluster.nodes[victim + 3].client();
        successor.run("CONFIG SET cluster-replica-no-failover no").ok();
        cluster.nodes[victim].kill();
        let dead = granted.load(Relaxed);
        wait_for("the replica to take over", || {
            cluster.nodes[victim + 3].client().info("role") == "master"
        });
        wait(500);
        over.store(true, Relaxed);
        dead
    });
    let mut client = cluster.client();
    let mut used = 0;
    for (key, acknowledged) in keys.iter().zip(&acknowledged) {
        let info = client.run(key, &format!("ML.LIMITINFO {{{key}}}limit")).map();
        used += info["windows"].items()[0].map()["used"].integer() as u64;
        let row = format!("{{{key}}}row");
        let at: u64 = client.run(key, &format!("ML.FEATURES {row} f")).texts()[0].parse().unwrap();
        let acknowledged = acknowledged.load(Relaxed);
        assert!(at >= acknowledged && acknowledged > 0, "{row}: {at} of {acknowledged}");
    }
    // What was granted but not replicated is granted once more. A server hands an
    // effect to its replicas in the turn in which it answers: what is lost was
    // answered in the very turn in which it died, a call of each connection at most.
    let granted = granted.load(Relaxed);
    let lost = granted.saturating_sub(used);
    println!(
        "{granted} granted, {dead} of them before the end, {lost} of them forgotten, {} calls in doubt",
        in_doubt.load(Relaxed)
    );
    assert!(lost <= WORKERS, "{lost} of {granted} were forgotten");
    assert!(used <= granted + in_doubt.load(Relaxed));
}
