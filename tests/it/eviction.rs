//! A full server drops what its policy says, under load, and stays well.

use crate::support::permits::admit;
use crate::support::{Answer, Client, Random, Server, call, wait_for};
use redis::Value;

const MAXMEMORY: i64 = 6 << 20;

/// Writes and reads keys of every type, many more than there is room for.
fn load(client: &mut Client, random: &mut Random) {
    let text = "x".repeat(2_000);
    let blob = vec![7u8; 4 * 50];
    let fields: Vec<_> = (0..50).map(|field| format!("f{field}")).collect();
    for _ in 0..6_000 {
        let key = random.below(20_000);
        let answer = match random.below(7) {
            0 | 1 => call!(client, "ML.CACHESET", format!("c{key}"), "v", &text, "EX", 100 + key),
            2 => {
                let limit = format!("r{key}");
                call!(client, "ML.RATELIMIT", limit, 9, 100 + key, 9, 40_000, "HOLD", 60_000)
            }
            3 => client.run(&admit(&format!("p{key} 9 {}", 1_000 * (100 + key)))),
            4 => call!(
                client,
                "ML.FEATUREMSET",
                1,
                format!("f{key}"),
                &blob,
                "TYPE",
                "F32",
                "FIELDS",
                50,
                &fields,
                "EX",
                100 + key
            ),
            5 => call!(client, "ML.CACHEGET", format!("c{key}"), "v"),
            _ => call!(client, "ML.FEATURES", format!("f{key}"), "f7", "f9"),
        };
        assert!(!answer.is_error(), "{answer:?}");
        if let Value::BulkString(value) = answer {
            assert_eq!(value.len(), 2_000);
        }
    }
}

#[test]
fn a_full_server_evicts_keys_of_every_type_under_load() {
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru", "allkeys-random"] {
        let server = Server::with(&format!("maxmemory {MAXMEMORY}\nmaxmemory-policy {policy}"));
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let mut client = server.client();
                scope.spawn(move || load(&mut client, &mut Random::new(seed)));
            }
        });
        let mut client = server.client();
        let evicted: u64 = client.info("evicted_keys").parse().unwrap();
        assert!(evicted > 1_000, "{policy}: {evicted} evicted: too little load");
        let used = || -> i64 { server.client().info("used_memory").parse().unwrap() };
        assert!(used() < MAXMEMORY + (4 << 20), "{policy}: {} bytes used", used());
        println!("{policy}: {evicted} keys evicted");
        // What is left can be saved, loaded and freed; what was counted went along.
        client.run("CONFIG SET maxmemory 0").ok();
        let before = client.digest();
        client.run("DEBUG RELOAD").ok();
        assert_eq!(client.digest(), before, "{policy}");
        client.run("FLUSHALL").ok();
        wait_for("the gauges to be back", || {
            ["ml_features_layouts", "ml_permit_held", "ml_ratelimit_open_holds"]
                .iter()
                .all(|gauge| client.info(gauge) == "0")
        });
    }
}
