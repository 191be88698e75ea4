//! The one binary on every server that `scripts/servers` has gathered.

use crate::support::rates::{Admission, Info};
use crate::support::{Answer, Setup, bulk, call, listed_servers, nils, wait_for};
use redis::Value;
use std::path::Path;

/// The commands, and what must stay of what they wrote.
fn exercise(name: &str, binary: &Path) {
    let start = |config| Setup { config, binary: Some(binary), ..Setup::default() }.start();
    let server = start("");
    let mut client = server.client();
    println!("{name}: {} answers", client.info("redis_version"));

    client.freeze_ahead();
    for left in (0..100).rev() {
        let answer = client.run("ML.RATELIMIT limit 100 3600").integers();
        assert_eq!(answer, [1, 100, left, 0, 3_600_000], "{name}");
    }
    let denied = [0, 100, 0, 3_600_000, 3_600_000];
    assert_eq!(client.run("ML.RATELIMIT limit 100 3600").integers(), denied, "{name}");
    for (algorithm, wait_ms) in [("SLIDING", 3_600_000), ("GCRA", 1_800_000)] {
        let call = format!("ML.RATELIMIT {algorithm} 2 3600 9 86400 ALGORITHM {algorithm}");
        let granted = [0; 3].map(|_| client.run(&call).integers());
        assert_eq!(granted.map(|row| (row[0], row[3])), [(1, 0), (1, 0), (0, wait_ms)], "{name}");
    }
    let items = "LIMIT 5 60 COST 4 LIMIT 9 60 COST 4 PERMIT 1 HOLD 60000";
    let admitted = Admission::ask(&mut client, &format!("3 {{m}}1 {{m}}2 {{m}}3 {items}"));
    let id = admitted.id.unwrap();
    let settle = format!("ML.SETTLE 3 {{m}}1 {{m}}2 {{m}}3 {id} ACTUAL 1 - -");
    let settled = [0; 2].map(|_| client.run(&settle).integers());
    assert_eq!(settled, [[1; 3], [0; 3]], "{name}");
    let used = ["{m}1", "{m}2"].map(|key| Info::of(&mut client, key).unwrap().used());
    assert_eq!(used, [[1], [4]], "{name}");
    assert_eq!(client.run("DEL SLIDING GCRA {m}1 {m}2 {m}3").integer(), 4, "{name}");
    client.run("ML.DEBUG CLOCK REAL").ok();

    client.run("ML.CACHESET cache v1 old EX 1000").ok();
    client.run("ML.CACHESET cache v2 new").ok();
    let cached = ["v1", "v2", "v3"].map(|version| call!(client, "ML.CACHEGET", "cache", version));
    assert_eq!(cached, [bulk("old"), bulk("new"), Value::Nil], "{name}");
    client.run("ML.CACHESET brief v x PX 1").ok();
    wait_for("an answer to expire", || client.run("ML.CACHEGET brief v") == Value::Nil);
    wait_for("its key to go", || client.run("DBSIZE").integer() == 2);

    client.run("HSET user:123 age 34 country DE");
    let features = Value::Array(vec![bulk("DE"), Value::Nil, bulk("34")]);
    assert_eq!(client.run("ML.FEATURES user:123 country x age"), features, "{name}");
    assert_eq!(client.run("ML.FEATURES user:9 a b"), nils(2), "{name}");
    if client.knows("HPEXPIRE") {
        client.run("HPEXPIRE user:123 1 FIELDS 1 age");
        wait_for("a field to expire", || {
            client.run("ML.FEATURES user:123 country age").items() == [bulk("DE"), Value::Nil]
        });
        wait_for("it to be removed", || client.run("HLEN user:123").integer() == 1);
    } else {
        println!("{name}: hash-field expiry not applicable");
    }

    client.run("RPUSH list a");
    for call in [
        "ML.RATELIMIT list 1 1",
        "ML.ADMIT 1 list LIMIT 1 1",
        "ML.SETTLE 1 list 00000000000000000000000000000000 ACTUAL 1",
        "ML.RENEW 1 list 00000000000000000000000000000000 1",
        "ML.LIMITINFO list",
        "ML.CACHESET list v x",
        "ML.CACHEGET list v",
        "ML.FEATURES list f",
    ] {
        assert!(client.run(call).error().starts_with("WRONGTYPE"), "{name}: {call}");
        let keys = call!(client, "COMMAND", "GETKEYS", call.split(' ').collect::<Vec<_>>());
        assert_eq!(keys.texts(), ["list"], "{name}: {call}");
    }

    let (before, after) = (client.digest(), |what: &str| format!("{name}, {what}"));
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), before, "{}", after("reloaded"));
    let replica = server.replica("ml.cache-versions-per-key 1");
    assert_eq!(replica.client().digest(), before, "{}", after("on a replica"));
    client.run("ML.RATELIMIT other 5 60 9 3600 ALGORITHM SLIDING HOLD 90000");
    client.run("ML.CACHESET cache v3 newest").ok();
    replica.catch_up(&server);
    assert_eq!(replica.client().digest(), client.digest(), "{}", after("replicated"));

    let log = start("appendonly yes\nappendfsync always\naof-use-rdb-preamble no");
    let mut client = log.client();
    client.run("ML.RATELIMIT limit 10 3600 COST 3");
    client.run("ML.CACHESET cache v x EX 1000").ok();
    let before = client.digest();
    client.rewrite_aof();
    client.run("DEBUG LOADAOF").ok();
    assert_eq!(client.digest(), before, "{}", after("loaded from an AOF"));
    assert_eq!(client.run("ML.RATELIMIT limit 10 3600 PEEK").integers()[2], 7, "{name}");
}

#[test]
fn the_module_works_on_every_server_at_hand() {
    let Some(servers) = listed_servers() else {
        println!("only the default server was tested: scripts/servers has not run");
        return;
    };
    assert!(!servers.is_empty(), "an empty list");
    for (name, binary) in servers {
        match binary {
            Ok(binary) => exercise(&name, &binary),
            Err(reason) => println!("skipped: {name}: {reason}"),
        }
    }
}
