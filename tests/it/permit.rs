//! Permits, by ML.ADMIT with PERMIT, ML.RENEW, ML.SETTLE and ML.LIMITINFO: how much is
//! in use at once.

use crate::support::permits::{acquire, admit, granted, info, release, renew};
use crate::support::{Answer, Client, Events, Server, Stop, Tap, bulk, call, frozen, wait_for};
use redis::Value;
use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// 2^53, the largest maximum and the largest cost.
const MOST: i64 = 1 << 53;

#[test]
fn each_call_answers_by_the_table() {
    let (_server, mut client, now) = frozen();
    // At which millisecond, what is called, what it answers.
    let table: &[(u64, &str, [i64; 5])] = &[
        (0, "gpu 2 60000", [1, 2, 1, 0, 60_000]),
        (10, "gpu 2 60000", [1, 2, 0, 0, 60_000]),
        (20, "gpu 2 60000", [0, 2, 0, 59_980, 59_990]),
        (60_000, "gpu 2 60000", [1, 2, 0, 0, 60_000]),
        (60_010, "gpu 2 60000", [1, 2, 0, 0, 60_000]),
        // A cost is granted whole or not at all.
        (0, "cost 10 1000 COST 7", [7, 10, 3, 0, 1_000]),
        (0, "cost 10 1000 COST 4", [0, 10, 3, 1_000, 1_000]),
        (0, "cost 10 5000 cost 3", [3, 10, 0, 0, 5_000]),
        (1, "cost 10 1000", [0, 10, 0, 999, 4_999]),
        (1, "cost 10 1000 COST 8", [0, 10, 0, 4_999, 4_999]),
        (1, "cost 10 1000 COST 11", [0, 10, 0, -1, 4_999]),
        // A maximum of nothing denies always; there is nothing to wait for.
        (0, "none 0 1000", [0, 0, 0, -1, 0]),
        // But who takes nothing is never denied, and holds it.
        (0, "none 0 1000 COST 0", [0, 0, 0, 0, 1_000]),
        // A new maximum counts at once.
        (0, "new 5 1000 COST 5", [5, 5, 0, 0, 1_000]),
        (0, "new 3 1000", [0, 3, 0, 1_000, 1_000]),
        (0, "new 6 2000", [1, 6, 0, 0, 2_000]),
        (0, "new 0 1000", [0, 0, 0, -1, 2_000]),
        // The longest and the shortest time, the largest numbers.
        (0, "long 1 31622400000", [1, 1, 0, 0, 31_622_400_000]),
        (0, "long 1 1", [0, 1, 0, 31_622_400_000, 31_622_400_000]),
        (0, "short 1 1", [1, 1, 0, 0, 1]),
        (1, "short 1 1", [1, 1, 0, 0, 1]),
        (0, "most 9007199254740992 9 COST 9007199254740992", [MOST, MOST, 0, 0, 9]),
        (0, "most 9007199254740992 9", [0, MOST, 0, 9, 9]),
        (0, "above 1 9 COST 9007199254740992", [0, 1, 1, -1, 0]),
    ];
    for (at_ms, arguments, expected) in table {
        client.freeze(now + at_ms * MILLI);
        let (figures, id) = acquire(&mut client, arguments);
        assert_eq!(figures, *expected, "{arguments} at {at_ms} ms");
        assert_eq!(id.is_some(), figures[3] == 0, "{arguments} at {at_ms} ms");
    }
}

#[test]
fn waiting_exactly_as_long_as_told_is_enough_and_a_millisecond_less_is_not() {
    let (_server, mut client, start) = frozen();
    for (key, ttl_ms) in [1, 2, 250, 60_000, 31_622_400_000u64].iter().enumerate() {
        // The permit is granted, and the call comes, somewhere within a millisecond.
        for (granted_us, called_us) in [(0, 0), (333, 334), (999, 1_000), (1, 999)] {
            let call = format!("{key}:{granted_us} 3 {ttl_ms} COST 2");
            client.freeze(start + granted_us);
            granted(&mut client, &call);
            client.freeze(start + called_us);
            let [denied, _, left, wait, _] = acquire(&mut client, &call).0;
            assert_eq!((denied, left), (0, 1), "{call}");
            client.freeze(start + called_us + (wait as u64 - 1) * MILLI);
            assert_eq!(acquire(&mut client, &call).1, None, "{call}, a millisecond early");
            client.freeze(start + called_us + wait as u64 * MILLI);
            granted(&mut client, &call);
        }
    }
}

#[test]
fn a_permit_given_back_is_free_at_once_and_only_once() {
    let (_server, mut client, _) = frozen();
    let first = granted(&mut client, "k 1 60000");
    assert_eq!(acquire(&mut client, "k 1 60000").1, None);
    assert_eq!(release(&mut client, "k", &first), 1);
    assert_eq!(client.run("EXISTS k").integer(), 0, "nothing is in use: no key");
    let second = granted(&mut client, "k 1 60000");
    assert_eq!(release(&mut client, "k", &first), 0, "that was somebody else's");
    assert_eq!(acquire(&mut client, "k 1 60000").1, None);
    assert_eq!(release(&mut client, "other", &second), 0);
    assert_eq!(release(&mut client, "k", &second), 1);
    assert_eq!(release(&mut client, "k", &second), 0);
}

#[test]
fn a_holder_that_crashed_is_out_when_its_time_is_over() {
    let (_server, mut client, now) = frozen();
    let crashed = granted(&mut client, "k 2 1000");
    let alive = granted(&mut client, "k 2 1000");
    client.freeze(now + 999 * MILLI);
    assert_eq!(renew(&mut client, "k", &alive, 1_000), 1);
    client.freeze(now + SECOND);
    assert_eq!(info(&mut client, "k"), Some((1, vec![(1, 999)])));
    // It comes back late: renewing does not revive it, releasing frees nobody.
    let new = granted(&mut client, "k 2 1000");
    assert_eq!(renew(&mut client, "k", &crashed, 1_000), 0);
    assert_eq!(release(&mut client, "k", &crashed), 0);
    assert_eq!(info(&mut client, "k").unwrap().0, 2);
    // Nor is one revived that nothing else has taken the place of.
    client.freeze(now + 3 * SECOND);
    for id in [&alive, &new] {
        assert_eq!(renew(&mut client, "k", id, 1_000), 0);
        assert_eq!(release(&mut client, "k", id), 0);
    }
    assert_eq!(info(&mut client, "k"), None);
}

#[test]
fn renewing_sets_the_time_anew_longer_or_shorter() {
    let (_server, mut client, now) = frozen();
    let id = granted(&mut client, "k 9 10000 COST 4");
    granted(&mut client, "k 9 20000 COST 5");
    client.freeze(now + 5 * SECOND);
    assert_eq!(renew(&mut client, "k", &id, 60_000), 1);
    assert_eq!(info(&mut client, "k"), Some((9, vec![(5, 15_000), (4, 60_000)])));
    assert_eq!(renew(&mut client, "k", &id, 1), 1);
    assert_eq!(info(&mut client, "k"), Some((9, vec![(4, 1), (5, 15_000)])));
    client.freeze(now + 5 * SECOND + MILLI);
    assert_eq!(info(&mut client, "k"), Some((5, vec![(5, 14_999)])));
}

#[test]
fn an_id_that_names_nothing_is_no_error() {
    let (_server, mut client, _) = frozen();
    let id = granted(&mut client, "k 1 60000");
    let long = vec![b'a'; 1 << 20];
    let [upper, cut, longer] = [id.to_uppercase(), id[..31].into(), format!("{id}0")];
    let before = client.footprint();
    for name in [b"", &b"\0"[..], b"\xff\xfe", b"-1", &long, cut.as_bytes(), longer.as_bytes()] {
        assert_eq!(call!(client, "ML.RENEW", 2, "k", "missing", name, 9).integers(), [0, 0]);
        assert_eq!(call!(client, "ML.SETTLE", 2, "missing", "k", name).integers(), [0, 0]);
    }
    assert!(upper == id || release(&mut client, "k", &upper) == 0);
    assert_eq!(client.footprint(), before);
}

#[test]
fn ids_are_never_used_again() {
    let mut server = Server::start();
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let mut client = server.client();
        for _ in 0..200 {
            let id = granted(&mut client, "k 1 60000");
            assert_eq!(id.len(), 32, "{id}");
            assert_eq!(release(&mut client, "k", &id), 1);
            assert!(ids.insert(id));
        }
        server.restart(Stop::NoSave);
    }
}

#[test]
fn what_is_denied_or_answers_0_writes_replicates_and_notifies_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    let mut tap = Tap::on(&server);
    let mut events = Events::of(&server);
    let expired = granted(&mut client, "full 3 1");
    let open = granted(&mut client, "full 3 60000 COST 2");
    assert_eq!(renew(&mut client, "full", &open, 60_000), 1);
    assert_eq!(tap.names(&mut client), ["ML.APPLYPERMIT"; 3]);
    let own = |events: &mut Events, client: &mut Client| {
        let mut notified = events.notified(client);
        notified.retain(|(name, _)| name.starts_with("ml.") || name == "del");
        notified
    };
    let told = ["ml.permit", "ml.permit", "ml.renew"].map(|name| (name.into(), "full".into()));
    assert_eq!(own(&mut events, &mut client), told);

    let mut watcher = server.client();
    watcher.run("WATCH full missing").ok();
    // One of them has expired: what is refused does not remove it.
    client.freeze(now + SECOND);
    let before = (client.footprint(), client.run("PEXPIRETIME full"));
    for call in [
        &admit("full 2 60000")[..],
        &admit("full 3 60000 COST 2"),
        &admit("full 0 60000"),
        &admit("missing 0 60000"),
        &admit("missing 1 60000 COST 2"),
        "ML.ADMIT 1 full PERMIT 9 PEEK",
        "ML.ADMIT 1 missing PERMIT 9 HOLD 9 PEEK",
        &format!("ML.RENEW 1 full {expired} 60000"),
        &format!("ML.SETTLE 1 full {expired}"),
        &format!("ML.SETTLE 1 missing {open}"),
        "ML.LIMITINFO full",
        "ML.LIMITINFO missing",
    ] {
        client.run(call);
        assert_eq!((client.footprint(), client.run("PEXPIRETIME full")), before, "{call}");
    }
    assert_eq!(tap.names(&mut client), [""; 0]);
    assert_eq!(events.notified(&mut client), []);
    watcher.run("MULTI").ok();
    watcher.run("PING");
    assert_ne!(watcher.run("EXEC"), Value::Nil, "nothing was written to what is watched");

    for (call, key, told) in [
        (admit("missing 1 60000"), "missing", &["ml.permit"][..]),
        (format!("ML.RENEW 1 full {open} 9000"), "full", &["ml.renew"]),
        (format!("ML.SETTLE 1 full {open}"), "full", &["ml.settle", "del"]),
    ] {
        watcher.run("WATCH full missing").ok();
        client.run(&call);
        watcher.run("MULTI").ok();
        watcher.run("PING");
        assert_eq!(watcher.run("EXEC"), Value::Nil, "{call} is a write");
        let told: Vec<_> = told.iter().map(|name| ((*name).to_owned(), key.to_owned())).collect();
        assert_eq!(own(&mut events, &mut client), told, "{call}");
    }
    assert_eq!(client.run("EXISTS full").integer(), 0);
}

#[test]
fn a_key_holds_65536_permits_and_no_more() {
    const FILL: &str = "for i = 1, 65536 do
        redis.call('ML.ADMIT', 1, KEYS[1], 'PERMIT', 100000, 'HOLD', 60000) end";
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    assert_eq!(call!(client, "EVAL", FILL, 1, "k"), Value::Nil);
    let _tap = Tap::on(&server);
    let before = client.footprint();
    let error = client.run("ML.ADMIT 1 k PERMIT 100000 HOLD 60000").error();
    assert!(error.starts_with("ERR ") && error.contains("65536"), "{error}");
    assert_eq!(acquire(&mut client, "k 65536 60000").0, [0, 65_536, 0, 60_000, 60_000]);
    assert_eq!(client.footprint(), before);
    let usage = client.run("MEMORY USAGE k").integer();
    assert!((65_536 * 80..65_536 * 160).contains(&usage), "{usage} bytes");
    // What has expired counts no more.
    client.freeze(now + 60 * SECOND);
    assert_eq!(acquire(&mut client, "k 100000 60000").0, [1, 100_000, 99_999, 0, 60_000]);
    // It is taken out by and by.
    const WRITES: &str = "for i = 1, 1024 do
        local admission = redis.call('ML.ADMIT', 1, KEYS[1], 'PERMIT', 100000, 'HOLD', 60000)
        redis.call('ML.SETTLE', 1, KEYS[1], admission[2]) end";
    assert_eq!(call!(client, "EVAL", WRITES, 1, "k"), Value::Nil);
    assert!(client.run("MEMORY USAGE k").integer() < 10_000);
}

#[test]
fn the_key_expires_with_its_last_permit() {
    let server = Server::start();
    let mut client = server.client();
    let now = client.freeze_ahead();
    let expiry = |client: &mut Client| client.run("PEXPIRETIME k").integer() as u64 * MILLI;
    granted(&mut client, "k 9 1000");
    assert_eq!(expiry(&mut client), now + SECOND);
    let last = granted(&mut client, "k 9 60000");
    granted(&mut client, "k 9 1000");
    assert_eq!(expiry(&mut client), now + 60 * SECOND);
    // Persisted by hand, it stays so until a write moves its end.
    assert_eq!(client.run("PERSIST k").integer(), 1);
    assert_eq!(acquire(&mut client, "k 0 9").1, None);
    granted(&mut client, "k 9 1000");
    assert_eq!(client.run("PTTL k").integer(), -1);
    assert_eq!(renew(&mut client, "k", &last, 5_000), 1);
    assert_eq!(expiry(&mut client), now + 5 * SECOND);
    assert_eq!(release(&mut client, "k", &last), 1);
    assert_eq!(expiry(&mut client), now + SECOND);

    client.run("ML.DEBUG CLOCK REAL").ok();
    granted(&mut client, "brief 1 10");
    wait_for("the key to go", || client.run("EXISTS brief").integer() == 0);
    granted(&mut client, "brief 1 60000");
}

#[test]
fn info_answers_a_map_or_a_flat_array_as_the_protocol_has_it() {
    let server = Server::start();
    let now = server.client().freeze_ahead();
    let id = granted(&mut server.client(), "k 9 5000 COST 3");
    server.client().freeze(now + MILLI / 2);
    let permit = [(bulk("id"), bulk(&id[..8])), (bulk("cost"), Value::Int(3))];
    let permit = [&permit[..], &[(bulk("ttl_ms"), Value::Int(5_000))]].concat();
    let flat = |pairs: &[(Value, Value)]| {
        Value::Array(pairs.iter().flat_map(|(name, value)| [name, value]).cloned().collect())
    };
    let info = |permit| {
        let permits = (bulk("holds"), Value::Array(vec![permit]));
        vec![(bulk("in_use"), Value::Int(3)), permits, (bulk("waiters"), Value::Int(0))]
    };
    let answer = server.client().run("ML.LIMITINFO k");
    assert_eq!(answer, flat(&info(flat(&permit))));
    let answer = server.client3().run("ML.LIMITINFO k");
    assert_eq!(answer, Value::Map(info(Value::Map(permit))));
    for mut client in [server.client(), server.client3()] {
        assert_eq!(client.run("ML.LIMITINFO missing"), Value::Nil);
    }
}

#[test]
fn of_64_clients_at_once_never_more_than_the_maximum_are_in() {
    const CLIENTS: usize = 64;
    const MAX: i64 = 7;
    let server = Server::start();
    let (start, inside) = (Barrier::new(CLIENTS), AtomicI64::new(0));
    let entries: usize = std::thread::scope(|scope| {
        let ask = || {
            let mut client = server.client();
            start.wait();
            let mut entries = 0;
            while entries == 0 {
                for _ in 0..50 {
                    let Some(id) = acquire(&mut client, "k 7 600000").1 else { continue };
                    assert!(inside.fetch_add(1, SeqCst) < MAX);
                    std::thread::yield_now();
                    inside.fetch_sub(1, SeqCst);
                    assert_eq!(release(&mut client, "k", &id), 1);
                    entries += 1;
                }
            }
            entries
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(entries >= CLIENTS, "everybody was in: {entries}");
    assert_eq!(server.client().run("DBSIZE").integer(), 0, "and all are out");
}
