//! Ids that callers bring for their holds, once and again.

use crate::support::permits;
use crate::support::rates::{ALGORITHMS, Admission, Info, Row, settle, used};
use crate::support::{Answer, Client, Server, Stop, Tap, frozen};

const SECOND: u64 = 1_000_000;

const ID: &str = "0123456789abcdef0123456789abcdef";
const OTHER_ID: &str = "ffffffffffffffffffffffffffffffff";

#[test]
fn an_id_brought_again_while_open_takes_nothing_more_and_is_told_the_figures_of_now() {
    for algorithm in ALGORITHMS {
        let (server, mut client, now) = frozen();
        let limit = |call: &str| format!("ML.RATELIMIT k {call} HOLD 60000 ID {ID}");
        let first = Row::of(&client.run(&limit(&format!("10 60 ALGORITHM {algorithm} COST 4"))));
        assert_eq!((first.granted, first.remaining, first.id.as_deref()), (4, 6, Some(ID)));
        client.run("ML.RATELIMIT k 10 60 COST 5");
        let mut tap = Tap::on(&server);
        let before = (client.footprint(), client.run("PEXPIRETIME k"));
        let again = Row::of(&client.run(&limit("10 60 COST 4")));
        assert_eq!((again.granted, again.remaining, again.retry_ms), (4, 1, 0), "{algorithm}");
        assert_eq!(again.id.as_deref(), Some(ID), "{algorithm}");
        // Other arguments are not compared: what it says is of the limits it names.
        let call = limit("20 60 500 3600 COST 4").replace("HOLD 60000", "HOLD 9 FORCE");
        let again = Row::of(&client.run(&call));
        assert_eq!((again.granted, again.id.as_deref()), (4, Some(ID)), "{algorithm}");
        let again = Row::of(&client.run(&limit("4 60 COST 4")));
        assert_eq!((again.granted, again.limit, again.remaining), (4, 4, 0), "{algorithm}");
        // By ML.ADMIT it is the same one, and the wait of who is in is none.
        let call = format!("1 k LIMIT 9 60 COST 4 HOLD 60000 ID {ID}");
        let again = Admission::ask(&mut client, &call);
        assert_eq!((again.id.as_deref(), again.rows[0].granted), (Some(ID), 4), "{algorithm}");
        assert_eq!((client.footprint(), client.run("PEXPIRETIME k")), before, "{algorithm}");
        assert_eq!(tap.names(&mut client), [""; 0]);
        assert_eq!(used(&mut client, "k"), [9], "{algorithm}");
        // Nor was its time prolonged.
        client.freeze(now + 59 * SECOND);
        assert_eq!(Info::of(&mut client, "k").unwrap().holds[0].ttl_ms, 1_000, "{algorithm}");
        assert_eq!(settle(&mut client, "k", ID, 0), 1, "{algorithm}");
    }
}

#[test]
fn an_id_open_on_some_of_the_keys_has_the_others_asked() {
    let (server, mut client, _) = frozen();
    let call = |items: &str| format!("3 a b p {items} HOLD 60000 ID {ID}");
    let items = "LIMIT 10 60 COST 6 LIMIT 10 60 COST 2 PERMIT 2";
    assert!(Admission::ask(&mut client, &call(items)).admitted);
    assert_eq!(client.run(&format!("ML.SETTLE 1 a {ID} ACTUAL 3")).integers(), [1]);
    let mut tap = Tap::on(&server);
    let again = Admission::ask(&mut client, &call(items));
    assert_eq!(again.id.as_deref(), Some(ID));
    let rows: Vec<_> = again.rows.iter().map(|row| (row.granted, row.remaining)).collect();
    assert_eq!(rows, [(6, 1), (2, 8), (1, 1)], "charged, held, held");
    assert_eq!(tap.names(&mut client), ["ML.APPLYLIMIT"]);
    // One of those that are asked denies: nobody is charged, what is held stays held.
    assert_eq!(client.run(&format!("ML.SETTLE 2 a p {ID}")).integers(), [1, 1]);
    client.run("ML.ADMIT 1 p PERMIT 2 COST 2 HOLD 60000");
    let before = client.footprint();
    let denied =
        Admission::ask(&mut client, &call("LIMIT 20 60 COST 6 LIMIT 9 60 COST 2 PERMIT 2"));
    assert_eq!((denied.binding, denied.retry_ms), (Some(2), 60_000));
    assert_eq!(client.footprint(), before);
    assert_eq!(client.run(&format!("ML.SETTLE 3 a b p {ID}")).integers(), [0, 1, 0]);
}

#[test]
fn a_key_that_takes_nothing_more_is_not_what_holds_a_call_up() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, _) = frozen();
        let held = format!("LIMIT 10 3600 COST 6 ALGORITHM {algorithm}");
        let call = format!("1 held {held} HOLD 9000000 ID {ID}");
        assert!(Admission::ask(&mut client, &call).admitted);
        client.run("ML.RATELIMIT held 10 3600 COST 90 FORCE");
        client.run("ML.ADMIT 1 slot PERMIT 1 HOLD 5000");
        // One has let the call in before, of the other nothing is asked.
        let free = "LIMIT 10 3600 COST 0";
        for call in [
            format!("2 held slot {held} PERMIT 1 HOLD 9000 ID {ID}"),
            format!("2 held slot LIMIT 3 3600 COST 6 PERMIT 1 HOLD 9000 ID {ID}"),
            format!("2 held slot {free} PERMIT 1 HOLD 9000"),
            format!("2 held slot {free} PERMIT 1 PEEK"),
        ] {
            let denied = Admission::ask(&mut client, &call);
            assert_eq!((denied.binding, denied.retry_ms), (Some(1), 5_000), "{call}");
            assert_eq!(denied.rows[0].retry_ms, 0, "{call}");
        }
    }
}

#[test]
fn another_cost_than_that_of_the_open_hold_is_an_error_that_names_cost() {
    let (server, mut client, _) = frozen();
    let open = "ML.ADMIT 3 a b p LIMIT 10 60 COST 4 LIMIT 10 60 COST 0 PERMIT 9 COST 2";
    assert!(Admission::of(&client.run(&format!("{open} HOLD 60000 ID {ID}"))).admitted);
    let _tap = Tap::on(&server);
    let before = client.footprint();
    for (call, cost) in [
        ("ML.RATELIMIT a 10 60 COST 5", 4),
        ("ML.RATELIMIT a 10 60 COST 3 PARTIAL", 4),
        ("ML.RATELIMIT a 10 60 COST 0", 4),
        ("ML.RATELIMIT a 10 60 COST 90 FORCE", 4),
        ("ML.RATELIMIT a 1 60", 4),
        ("ML.RATELIMIT b 10 60", 0),
        ("ML.ADMIT 2 new a LIMIT 10 60 LIMIT 10 60 COST 5", 4),
        ("ML.ADMIT 2 p new PERMIT 9 LIMIT 10 60", 2),
        ("ML.ADMIT 2 new p LIMIT 0 60 PERMIT 9 COST 9", 2),
    ] {
        let error = client.run(&format!("{call} HOLD 60000 ID {ID}")).error();
        let named = error.starts_with("ERR ") && error.contains(&format!("COST must be {cost}"));
        assert!(named, "{call}: {error}");
        assert_eq!(client.footprint(), before, "{call}");
    }
}

#[test]
fn of_a_partial_hold_the_cost_that_was_asked_for_counts() {
    for algorithm in ALGORITHMS {
        let mut server = Server::with("appendonly yes\nappendfsync always");
        let mut client = server.client();
        client.freeze_ahead();
        client.run(&format!("ML.RATELIMIT k 10 3600 ALGORITHM {algorithm} COST 7"));
        let call = format!("ML.RATELIMIT k 10 3600 COST 5 PARTIAL HOLD 3600000 ID {ID}");
        assert_eq!(Row::of(&client.run(&call)).granted, 3, "{algorithm}");
        let holds = |client: &mut Client| {
            let again = Row::of(&client.run(&call));
            assert_eq!((again.granted, again.remaining, again.id.is_some()), (3, 0, true));
            let error = client.run(&call.replace("COST 5", "COST 3")).error();
            assert!(error.contains("COST must be 5"), "{error}");
            assert_eq!(used(client, "k"), [10], "{algorithm}");
        };
        holds(&mut client);
        // What was asked for is saved, and logged.
        client.run("DEBUG RELOAD").ok();
        holds(&mut client);
        client.run("ML.RATELIMIT other 10 3600");
        server.restart(Stop::Kill);
        let mut client = server.client();
        let now = client.freeze_ahead();
        client.freeze(now - 1);
        holds(&mut client);
        // It is the part that is given back.
        assert_eq!(settle(&mut client, "k", ID, 0), 1);
        assert_eq!(used(&mut client, "k"), [7], "{algorithm}");
    }
}

#[test]
fn an_id_that_was_denied_settled_or_ended_is_of_a_new_call() {
    for algorithm in ALGORITHMS {
        let (_server, mut client, now) = frozen();
        client.run(&format!("ML.RATELIMIT k 10 60 COST 8 ALGORITHM {algorithm}"));
        let item = "LIMIT 10 60 COST 4 PERMIT 1 HOLD 5000";
        let calls = [
            format!("ML.RATELIMIT k 10 60 COST 4 HOLD 5000 ID {ID}"),
            format!("ML.ADMIT 2 k p {item} ID {OTHER_ID}"),
        ];
        let id = |client: &mut Client, call: usize| match call {
            0 => Row::of(&client.run(&calls[0])).id,
            _ => Admission::of(&client.run(&calls[1])).id,
        };
        assert_eq!([id(&mut client, 0), id(&mut client, 1)], [None, None], "denied");
        assert_eq!(used(&mut client, "k"), [8], "{algorithm}");
        client.freeze(now + 60 * SECOND);
        assert_eq!(id(&mut client, 0).as_deref(), Some(ID), "once there is room");
        assert_eq!(used(&mut client, "k").iter().sum::<i64>(), 4, "{algorithm}");
        assert_eq!(settle(&mut client, "k", ID, 1), 1);
        assert_eq!(id(&mut client, 0).as_deref(), Some(ID), "settled");
        assert_eq!(used(&mut client, "k"), [5], "{algorithm}");
        assert_eq!(id(&mut client, 1).as_deref(), Some(OTHER_ID));
        assert_eq!(used(&mut client, "k"), [9], "{algorithm}");
        // Ended: what it took of the limit stays taken, the permit is free again.
        client.freeze(now + 65 * SECOND);
        let left = used(&mut client, "k")[0];
        assert!(left >= 8, "{algorithm}: {left}");
        assert_eq!(id(&mut client, 1), None, "charged anew, and denied");
        client.freeze(now + 200 * SECOND);
        assert_eq!(id(&mut client, 1).as_deref(), Some(OTHER_ID));
        assert_eq!(used(&mut client, "k"), [4], "{algorithm}");
        assert_eq!(permits::info(&mut client, "p").unwrap().0, 1);
    }
}
