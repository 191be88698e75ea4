//! The module in a cluster: where keys belong, slots that move under traffic,
//! nodes that die.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use redis::{Cmd, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use support::cluster::{Cluster, ClusterClient, id, slot_of};
use support::{Answer, Random, bulk, call, wait_for};

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
        "ML.RATEMULTI 2 {} {} 10 60 10 60",
        "ML.CACHEMGET v {} {}",
        "ML.CACHEMSET v EX 60 {} x {} y",
        "ML.CACHEMFETCH v LEASE 1000 {} {}",
        "ML.FEATUREGET 2 {} {} FIELDS 1 f",
        "ML.FEATUREMSET 2 {} {} 12345678 TYPE F32 FIELDS 1 f",
        "ML.APPLYFEATURE change {} {}",
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
        let at = 1 + random.below(1 << 40);
        let write = format!("ML.FEATURESET {row} AT {at} EX 3600 FIELDS 2 f {at} g {at}");
        send(&row, write).integer();
        account.event.fetch_max(at, Relaxed);
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
    for node in cluster.nodes.iter().take(3) {
        call!(node.client(), "CLUSTER", "SETSLOT", slot, "NODE", &target_id).ok();
    }
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
