//! Active defragmentation moves values and changes none of them. Of the servers
//! tried, only those with the jemalloc that Redis carries can do it.

use crate::support::permits::granted;
use crate::support::{Answer, Client, Server, call, wait_for};

/// Many keys of each type, of several sizes, in memory with holes.
fn fragment(client: &mut Client) {
    let write = |client: &mut Client, number: usize| {
        let text = "x".repeat(number % 400);
        call!(client, "ML.CACHESET", format!("c{number}"), "v1", &text, "EX", 90_000).ok();
        call!(client, "ML.CACHESET", format!("c{number}"), "v2", &text, "EX", 90_000).ok();
        call!(client, "ML.FEATURESET", format!("f{number}"), "FIELDS", 2, "a", number, "b", text);
        call!(client, "ML.RATELIMIT", format!("r{number}"), 99, 90_000).integers();
        call!(
            client,
            "ML.RATELIMIT",
            format!("s{number}"),
            99,
            90_000,
            99,
            80_000,
            "ALGORITHM",
            "SLIDING",
            "COST",
            1 + number % 50,
            "HOLD",
            80_000_000
        )
        .items();
        for _ in 0..1 + number % 5 {
            granted(client, &format!("p{number} 99 80000000"));
        }
        let items = (0..1 + number % 30).map(|item| item.to_string()).collect::<Vec<_>>();
        call!(client, "ML.FEATUREPUSH", format!("e{number}"), "seen", &items, "LAST", 30);
        let tally = format!("ML.FEATURETALLY e{number} FIELDS 1 spend 2 SPAN 9000 TILE 90 AT");
        let now_ms = 1000 * client.run("TIME").texts()[0].parse::<u64>().unwrap();
        for ago in 0..number as u64 % 20 {
            client.run(&format!("{tally} {}", now_ms - ago * 100_000)).integer();
        }
        // A log of charges, or a grid of the sums of more.
        if number.is_multiple_of(35) {
            let call = format!("ML.RATELIMIT l{number} 999 90000 ALGORITHM SLIDING");
            client.run_all(&vec![call; if number.is_multiple_of(2) { 40 } else { 80 }]);
        }
    };
    for number in 0..6_000 {
        write(client, number);
    }
    for number in (0..6_000).filter(|number| number % 7 != 0) {
        for kind in ["c", "f", "r", "s", "p", "e"] {
            call!(client, "DEL", format!("{kind}{number}")).integer();
        }
    }
}

/// Starts defragmenting, however little there is to gain; whether the server can.
fn defragment(client: &mut Client) -> bool {
    for setting in [
        "active-defrag-ignore-bytes 1",
        "active-defrag-threshold-lower 1",
        "active-defrag-cycle-min 50",
        "active-defrag-cycle-max 75",
    ] {
        client.run(&format!("CONFIG SET {setting}"));
    }
    !client.run("CONFIG SET activedefrag yes").is_error()
}

fn moved(client: &mut Client) -> u64 {
    client.info("active_defrag_hits").parse().unwrap()
}

#[test]
fn values_that_are_moved_stay_what_they_are() {
    let server = Server::start();
    let mut client = server.client();
    fragment(&mut client);
    let before = client.digest();
    if !defragment(&mut client) {
        println!("not applicable: this server does not defragment");
        return;
    }
    let keys: u64 = client.run("DBSIZE").integer().try_into().unwrap();
    wait_for("every key to be looked at", || {
        let seen = ["active_defrag_key_hits", "active_defrag_key_misses"];
        let seen = seen.map(|name| client.info(name).parse::<u64>().unwrap());
        moved(&mut client) > 1_000 && seen.iter().sum::<u64>() > 2 * keys
    });
    assert_eq!(client.digest(), before);
    println!("{} blocks were moved", moved(&mut client));
    // And all that was moved works on, and can be freed.
    for number in (0..6_000).step_by(7) {
        let kept = call!(client, "ML.CACHEGET", format!("c{number}"), "v1").bytes();
        assert_eq!(kept.len(), number % 400);
        assert_eq!(
            call!(client, "ML.FEATURES", format!("f{number}"), "a").texts(),
            [number.to_string()]
        );
        call!(client, "ML.FEATURESET", format!("f{number}"), "FIELDS", 1, "c", 1).integer();
        let used =
            call!(client, "ML.RATELIMIT", format!("s{number}"), 99, 90_000, 99, 80_000).items();
        assert_eq!(used[1].integer(), 99);
        granted(&mut client, &format!("p{number} 99 80000000"));
        if number.is_multiple_of(35) {
            let call = format!("ML.RATELIMIT l{number} 999 90000");
            let used = 1 + if number.is_multiple_of(2) { 40 } else { 80 };
            assert_eq!(client.run(&call).integers()[..3], [1, 999, 999 - used]);
        }
        call!(client, "ML.CACHESET", format!("c{number}"), "v3", "new").ok();
    }
    client.run("FLUSHALL").ok();
    assert_eq!(client.run("DBSIZE").integer(), 0);
}

#[test]
fn a_panic_while_a_value_is_moved_is_logged_and_harmless() {
    let server = Server::start();
    let mut client = server.client();
    fragment(&mut client);
    let before = client.digest();
    client.run("ML.DEBUG PANIC defrag").ok();
    if !defragment(&mut client) {
        println!("not applicable: this server does not defragment");
        return;
    }
    wait_for("the panic", || server.log().contains("a panic in defrag was caught"));
    wait_for("blocks to be moved", || moved(&mut client) > 1_000);
    assert_eq!(client.digest(), before);
}
