//! One hold over several keys: settled and renewed on each, on some, by whoever has
//! its id.

use crate::support::permits;
use crate::support::rates::{ALGORITHMS, Admission, Info, open_holds, used};
use crate::support::{Answer, Client, Server, Tap, call, frozen};
use redis::Value;

const SECOND: u64 = 1_000_000;

const ID: &str = "0123456789abcdef0123456789abcdef";
const OTHER_ID: &str = "ffffffffffffffffffffffffffffffff";

/// A call on a limit and on permits, and its hold.
fn held(client: &mut Client, id: &str) {
    let call = format!("2 k p LIMIT 10 3600 COST 5 PERMIT 4 COST 2 HOLD 60000 ID {id}");
    assert!(Admission::ask(client, &call).admitted);
}

/// What is used of the limit, and in use of the permits, of those keys.
fn taken(client: &mut Client) -> (i64, i64) {
    let used = Info::of(client, "k").map_or(0, |info| info.used()[0]);
    (used, permits::info(client, "p").map_or(0, |(in_use, _)| in_use))
}

#[test]
fn one_id_holds_all_the_keys_of_a_call_and_is_settled_on_each_by_its_own_cost() {
    let (_server, mut client, _) = frozen();
    let items = "LIMIT 10 60 COST 5 LIMIT 20 60 COST 6 LIMIT 30 60 COST 7 PERMIT 2 HOLD 60000";
    let admit = |client: &mut Client| Admission::ask(client, &format!("4 a b c p {items}")).id;
    let [first, second] = [0; 2].map(|_| admit(&mut client).unwrap());
    assert_ne!(first, second);
    assert_eq!(open_holds(&mut client), 6);
    let told = |client: &mut Client| {
        let used = ["a", "b", "c"].map(|key| used(client, key)[0]);
        (used, permits::info(client, "p").map_or(0, |(in_use, _)| in_use))
    };
    assert_eq!(told(&mut client), ([10, 12, 14], 2));
    // A number, nothing else than was thought, more than the limit; permits have none.
    let settle = format!("ML.SETTLE 4 a b c p {first} ACTUAL 0 - 40 -");
    assert_eq!(client.run(&settle).integers(), [1; 4]);
    assert_eq!(told(&mut client), ([5, 12, 47], 1));
    assert_eq!(client.run(&settle).integers(), [0; 4], "twice");
    // Without ACTUAL the estimates stand.
    assert_eq!(client.run(&format!("ML.SETTLE 4 p c a b {second}")).integers(), [1; 4]);
    assert_eq!(told(&mut client), ([5, 12, 47], 0));
    assert_eq!(open_holds(&mut client), 0);
}

#[test]
fn settling_twice_gives_back_once() {
    let (_server, mut client, _) = frozen();
    held(&mut client, ID);
    held(&mut client, OTHER_ID);
    for expected in [[1, 1], [0, 0], [0, 0]] {
        let settled = client.run(&format!("ML.SETTLE 2 k p {ID} ACTUAL 1 -")).integers();
        assert_eq!(settled, expected);
        assert_eq!(taken(&mut client), (6, 2));
    }
}

#[test]
fn settling_after_a_key_went_settles_the_others() {
    let (_server, mut client, _) = frozen();
    held(&mut client, ID);
    client.run("DEL k");
    assert_eq!(client.run(&format!("ML.SETTLE 2 k p {ID} ACTUAL 9 -")).integers(), [0, 1]);
    assert_eq!(client.run("DBSIZE").integer(), 0, "nothing is made of a key that is gone");
    // What came in its place is another's.
    held(&mut client, ID);
    client.run("DEL p");
    held(&mut client, OTHER_ID.replace('f', "e").as_str());
    assert_eq!(taken(&mut client), (10, 2));
    assert_eq!(client.run(&format!("ML.SETTLE 2 p k {ID} ACTUAL - 0")).integers(), [0, 1]);
    assert_eq!(taken(&mut client), (5, 2));
}

#[test]
fn settling_some_of_the_keys_leaves_the_others_held() {
    let (_server, mut client, now) = frozen();
    held(&mut client, ID);
    assert_eq!(client.run(&format!("ML.SETTLE 1 k {ID} ACTUAL 2")).integers(), [1]);
    assert_eq!(taken(&mut client), (2, 2));
    assert_eq!(client.run(&format!("ML.RENEW 2 k p {ID} 90000")).integers(), [0, 1]);
    client.freeze(now + 89 * SECOND);
    assert_eq!(taken(&mut client), (2, 2));
    assert_eq!(client.run(&format!("ML.SETTLE 2 k p {ID} ACTUAL 0 -")).integers(), [0, 1]);
    assert_eq!(taken(&mut client), (2, 0));
}

#[test]
fn settling_with_anothers_id_settles_the_others_hold_and_never_ones_own() {
    let (_server, mut client, _) = frozen();
    held(&mut client, ID);
    client.run(&format!("ML.ADMIT 1 other LIMIT 10 60 COST 4 HOLD 60000 ID {OTHER_ID}"));
    // It is not open on these keys.
    for call in ["ML.SETTLE 2 k p {} ACTUAL 0 -", "ML.RENEW 2 k p {} 9", "ML.SETTLE 2 k p {}"] {
        assert_eq!(client.run(&call.replace("{}", OTHER_ID)).integers(), [0, 0], "{call}");
    }
    assert_eq!(taken(&mut client), (5, 2));
    // On a key where both are, an id ends its own hold only: it is a capability.
    held(&mut client, OTHER_ID);
    let settled = client.run(&format!("ML.SETTLE 3 k other p {OTHER_ID} ACTUAL 0 0 -"));
    assert_eq!(settled.integers(), [1, 1, 1]);
    assert_eq!(taken(&mut client), (5, 2));
    let shown: Vec<_> = ["k", "p"]
        .iter()
        .flat_map(|key| Info::of(&mut client, key).unwrap().holds)
        .map(|hold| hold.id)
        .collect();
    assert_eq!(shown, [&ID[..8]; 2], "no more of it is shown");
}

#[test]
fn a_refused_settlement_has_settled_none_of_its_keys() {
    let (server, mut client, _) = frozen();
    held(&mut client, ID);
    client.run("SET string x").ok();
    let _tap = Tap::on(&server);
    let before = client.footprint();
    for (call, words) in [
        ("ML.SETTLE 2 k p {} ACTUAL 1 2", "ACTUAL"),
        ("ML.SETTLE 2 p k {} ACTUAL 2 1", "permits"),
        ("ML.SETTLE 2 k p {} ACTUAL 1", "ACTUAL"),
        ("ML.SETTLE 3 k p string {} ACTUAL 1 - -", "WRONGTYPE"),
        ("ML.SETTLE 3 k string p {}", "WRONGTYPE"),
        ("ML.SETTLE 3 k p k {}", "twice"),
        ("ML.SETTLE 3 p k p {} ACTUAL - 1 -", "twice"),
        ("ML.RENEW 2 p p {} 9000", "twice"),
        ("ML.RENEW 3 k p string {} 9", "WRONGTYPE"),
        ("ML.RENEW 2 k p {} 0", "milliseconds"),
    ] {
        let error = client.run(&call.replace("{}", ID)).error();
        assert!(error.contains(words), "{call}: {error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
}

#[test]
fn renewing_moves_the_hold_on_each_of_its_keys() {
    let (server, mut client, now) = frozen();
    let mut tap = Tap::on(&server);
    held(&mut client, ID);
    tap.names(&mut client);
    client.freeze(now + 59 * SECOND);
    assert_eq!(client.run(&format!("ML.RENEW 3 k p gone {ID} 60000")).integers(), [1, 1, 0]);
    assert_eq!(tap.names(&mut client), ["MULTI", "ML.APPLYLIMIT", "ML.APPLYPERMIT", "EXEC"]);
    for key in ["k", "p"] {
        let holds = Info::of(&mut client, key).unwrap().holds;
        assert_eq!((holds.len(), holds[0].ttl_ms), (1, 60_000), "{key}");
    }
    // Shorter, too; and what has ended is not revived.
    assert_eq!(client.run(&format!("ML.RENEW 2 k p {ID} 1000")).integers(), [1, 1]);
    client.freeze(now + 60 * SECOND);
    assert_eq!(client.run(&format!("ML.RENEW 2 k p {ID} 60000")).integers(), [0, 0]);
    assert_eq!(client.run(&format!("ML.SETTLE 2 k p {ID} ACTUAL 0 -")).integers(), [0, 0]);
    assert_eq!(taken(&mut client), (5, 0), "charged for good; the permit is free");
}

#[test]
fn info_tells_of_holds_in_the_order_in_which_they_end() {
    let server = Server::start();
    let (mut client, mut client3) = (server.client(), server.client3());
    client.freeze_ahead();
    let ids = ["c", "a", "b"].map(|digit| digit.repeat(32));
    for (id, ttl_ms) in ids.iter().zip([30_000, 10_000, 20_000]) {
        let call = format!("2 k p LIMIT 90 60 COST 7 PERMIT 90 COST 3 HOLD {ttl_ms} ID {id}");
        assert!(Admission::ask(&mut client, &call).admitted);
    }
    for (key, cost) in [("k", 7), ("p", 3)] {
        let expected = [("a", 10_000), ("b", 20_000), ("c", 30_000)];
        let holds = Info::of(&mut client, key).unwrap().holds;
        let told: Vec<_> =
            holds.iter().map(|hold| (&hold.id[..], hold.cost, hold.ttl_ms)).collect();
        let shown = expected.map(|(digit, ttl_ms)| (digit.repeat(8), cost, ttl_ms));
        let shown: Vec<_> = shown.iter().map(|(id, cost, ttl)| (&id[..], *cost, *ttl)).collect();
        assert_eq!(told, shown, "{key}");
        assert_eq!(Info::of(&mut client3, key).unwrap().holds, holds, "{key} by RESP3");
        let Value::Map(map) = call!(client3, "ML.LIMITINFO", key) else { panic!("a map") };
        let names: Vec<_> = map.iter().map(|(name, _)| name.text()).collect();
        let expected: &[&str] = match key {
            "k" => &["algorithm", "windows", "holds", "waiters"],
            _ => &["in_use", "holds", "waiters"],
        };
        assert_eq!(names, expected);
    }
}

#[test]
fn effects_are_as_short_with_sixty_thousand_holds_open_as_with_none() {
    const FILL: &str = "for i = 1, 60000 do
        redis.call('ML.ADMIT', 2, KEYS[1], KEYS[2], 'LIMIT', 9007199254740992, 3600,
            'ALGORITHM', ARGV[1], 'PERMIT', 9007199254740992, 'HOLD', 3600000) end";
    for algorithm in ALGORITHMS {
        let (server, mut client, _) = frozen();
        // The longest effects of a charge, a renewal and a settlement.
        let mut longest = || {
            let eight: String =
                (1..=8).map(|hour| format!(" {} {}", 1u64 << 53, hour * 3600)).collect();
            let item = format!("LIMIT{eight} ALGORITHM {algorithm} COST 9007199254740");
            let call = format!("2 k p {item} PERMIT 9007199254740992 COST 900719925474");
            let mut tap = Tap::on(&server);
            Admission::ask(&mut client, &format!("{call} HOLD 31622400000 ID {ID}"));
            assert_eq!(client.run(&format!("ML.RENEW 2 k p {ID} 31622400000")).integers(), [1, 1]);
            let settle = format!("ML.SETTLE 2 k p {ID} ACTUAL 9007199254740 -");
            assert_eq!(client.run(&settle).integers(), [1, 1]);
            let effects = tap.replicated(&mut client).into_iter();
            let effects = effects.filter(|words| words[0].starts_with(b"ML.APPLY"));
            effects.map(|words| words[2].len()).collect::<Vec<_>>()
        };
        let alone = longest();
        assert_eq!(alone.len(), 6);
        assert!(alone.iter().all(|length| *length <= 400), "{algorithm}: {alone:?}");
        assert_eq!(call!(server.client(), "EVAL", FILL, 2, "k", "p", algorithm), Value::Nil);
        assert_eq!(longest(), alone, "{algorithm}");
        println!("{algorithm}: effects of {alone:?} bytes");
    }
}

/// What goes with 10,000 holds of so many windows, so many on each key, of which one in so
/// many is not settled, and what MEMORY USAGE says that the keys take.
fn gone_with(client: &mut Client, holds: u64, windows: u64, one_in: u64) -> (i64, i64) {
    const OPEN: &str = "local words = {'ML.RATELIMIT', '', unpack(ARGV, 2)}
        for i = 0, 9999 do
            words[2] = KEYS[1] .. math.floor(i / ARGV[1])
            words[#ARGV + 2] = string.format('%032x', i)
            redis.call(unpack(words)) end";
    const SETTLE: &str = "for i = 0, 9999 do if i % ARGV[2] > 0 then
        redis.call('ML.SETTLE', 1, KEYS[1] .. math.floor(i / ARGV[1]),
            string.format('%032x', i), 'ACTUAL', 1) end end";
    const TELL: &str = "local told = 0
        for i = 0, 9999, ARGV[1] do
            local key = KEYS[1] .. math.floor(i / ARGV[1])
            told = told + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end
        return told";
    let limits: String = (1..=windows).map(|hour| format!("1000000 {} ", hour * 3_600)).collect();
    let call = format!("{limits}ALGORITHM GCRA COST 2 HOLD 31622400000 ID");
    let call: Vec<_> = call.split(' ').collect();
    assert_eq!(call!(client, "EVAL", OPEN, 1, "k", holds, call), Value::Nil);
    assert_eq!(call!(client, "EVAL", SETTLE, 1, "k", holds, one_in), Value::Nil);
    let told = call!(client, "EVAL", TELL, 1, "k", holds).integer();
    let used = |client: &mut Client| client.info("used_memory").parse::<i64>().unwrap();
    let before = used(client);
    client.run("FLUSHALL SYNC").ok();
    (before - used(client), told)
}

#[test]
fn memory_usage_says_what_each_window_of_a_hold_takes_and_settlements_give_it_back() {
    let (_server, mut client, _) = frozen();
    // Many on one key, and few on each of many; the latter keep the windows themselves.
    for (holds, given_back) in [(10_000, 5), (10, 3)] {
        // What the server takes with the first keys is not theirs.
        gone_with(&mut client, holds, 8, 10);
        let mut of_seven_windows = |one_in| {
            let [one, eight] = [1, 8].map(|windows| gone_with(&mut client, holds, windows, one_in));
            let (used, told) = (eight.0 - one.0, eight.1 - one.1);
            println!("{holds} on a key, one in {one_in} open: {used} bytes used, {told} told");
            let range = told * 90..told * 110;
            assert!(range.contains(&(used * 100)), "one in {one_in}: {used} used, {told} told");
            used
        };
        assert!(of_seven_windows(10) * given_back < of_seven_windows(1));
    }
}

#[test]
fn an_id_is_of_one_hold_after_a_failover_too() {
    let mut primary = Server::start();
    let mut client = primary.client();
    let replica = primary.replica("");
    held(&mut client, ID);
    replica.catch_up(&primary);
    primary.kill();
    let mut client = replica.client();
    client.run("REPLICAOF NO ONE").ok();
    // Whoever lost the connection asks again, of the new primary.
    held(&mut client, ID);
    assert_eq!(taken(&mut client), (5, 2));
    assert_eq!(client.run(&format!("ML.SETTLE 2 k p {ID} ACTUAL 1 -")).integers(), [1, 1]);
    assert_eq!(taken(&mut client), (1, 0));
}
