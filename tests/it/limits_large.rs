//! Limiters and permits at their largest sizes: what was acknowledged is what
//! every replica and the AOF hold, whatever their configs.

use crate::support::permits::{granted, release, renew};
use crate::support::rates::{ALGORITHMS, Row, open_holds, settle};
use crate::support::{Answer, Client, Random, Server, Stop, call};

const SECOND: u64 = 1_000_000;
const MOST: u64 = 1 << 53;

/// How many holds and permits a key can have open.
const FULL: u64 = 65_536;

/// The eight windows of a key: an hour, two, and so on.
fn windows() -> impl Iterator<Item = u64> {
    (1..=8).map(|hours| hours * 3_600)
}

/// Appends a number as payloads have it.
fn push(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn id(number: u64) -> String {
    format!("{number:032x}")
}

/// The payload of a limiter with eight windows of the largest amounts and so many
/// holds, each of which sits in all of them.
fn limiter(algorithm: u64, holds: u64, now: u64) -> Vec<u8> {
    let mut out = vec![1, algorithm as u8, 8];
    for window in windows() {
        [MOST, window * SECOND, MOST].iter().for_each(|number| push(*number, &mut out));
        match algorithm {
            0 => [now, MOST].iter().for_each(|number| push(*number, &mut out)),
            1 => {
                out.push(1);
                push(65, &mut out);
                for age in (0..65).rev() {
                    push(now - age, &mut out);
                    push(MOST, &mut out);
                }
            }
            _ => [MOST, 1, now, FULL].iter().for_each(|number| push(*number, &mut out)),
        }
    }
    push(holds, &mut out);
    for number in 0..holds {
        out.extend(u128::from(number).to_be_bytes());
        for number in [1 + number % 9, 31_622_400_000, now / 1_000 + 31_622_400_000] {
            push(number, &mut out);
        }
        out.push(8);
        for window in windows() {
            push(window * SECOND, &mut out);
            push([now, now - number % 65, FULL - number % 50_000][algorithm as usize], &mut out);
        }
    }
    out
}

/// The payload of so many permits.
fn permits(count: u64, now: u64) -> Vec<u8> {
    let mut out = vec![1];
    push(now, &mut out);
    push(count, &mut out);
    for number in 0..count {
        out.extend(u128::from(number).to_be_bytes());
        [1, 1_000_000, 0].iter().for_each(|number| push(*number, &mut out));
    }
    out
}

/// Writes to a limiter by every way there is. What its configs let the primary
/// acknowledge is all that counts.
fn write(client: &mut Client, random: &mut Random, key: &str, algorithm: &str, now: u64) {
    let limits: Vec<_> =
        windows().flat_map(|window| [MOST.to_string(), window.to_string()]).collect();
    let cost = [1, 7, MOST][random.below(3) as usize];
    let mut call = redis::cmd("ML.RATELIMIT");
    call.arg(key).arg(&limits).arg("ALGORITHM").arg(algorithm).arg("COST").arg(cost);
    match random.below(4) {
        0 => {
            client.freeze(now - random.below(4) * SECOND);
            assert!(!client.send(&call).is_error());
        }
        1 => {
            call.arg("FORCE");
            assert_eq!(Row::of(&client.send(&call)).granted, cost as i64);
        }
        2 => {
            call.arg("FORCE").arg("HOLD").arg(31_622_400_000_u64);
            let answer = client.send(&call);
            assert!(answer.is_error() || Row::of(&answer).id.is_some(), "{answer:?}");
        }
        _ => {
            let id = id(random.below(FULL));
            let settled = settle(client, key, &id, cost as i64);
            assert!((0..=1).contains(&settled));
        }
    }
    client.freeze(now);
}

#[test]
fn keys_as_large_as_can_be_are_the_same_wherever_they_are_written_to() {
    let mut server =
        Server::with(&format!("appendonly yes\nappendfsync always\nml.limit-max-holds {FULL}"));
    let replica = server.replica("");
    let other = server.replica("ml.limit-max-holds 1\nml.ratelimit-algorithm GCRA");
    let mut client = server.client();
    let now = client.freeze_ahead();
    // One is full of holds; the algorithm is the one whose settlements move all
    // charges before.
    let sizes = [FULL / 16, FULL / 16, FULL - 4];
    for (number, (algorithm, size)) in ALGORITHMS.iter().zip(sizes).enumerate() {
        let payload = limiter(number as u64, size, now);
        call!(client, "ML.LOADRATE", algorithm, payload).ok();
    }
    call!(client, "ML.LOADPERMIT", "permits", permits(FULL - 4, now)).ok();
    assert_eq!(open_holds(&mut client) as u64, sizes.iter().sum::<u64>());

    let (mut random, mut refused) = (Random::new(1), 0);
    for round in 0..12 {
        let at = now + round * SECOND;
        client.freeze(at);
        for algorithm in ALGORITHMS {
            write(&mut client, &mut random, algorithm, algorithm, at);
        }
        let answer = client.run("ML.ADMIT 1 permits PERMIT 9007199254740992 HOLD 1000000");
        refused += u32::from(answer.is_error());
        let held = id(random.below(FULL - 4));
        if round % 3 == 0 {
            release(&mut client, "permits", &held);
        } else {
            client.freeze(at - 30 * SECOND);
            renew(&mut client, "permits", &held, 2_000_000);
        }
    }
    assert!((1..12).contains(&refused), "{refused} permits were one too many");
    // Each taken over by another algorithm.
    client.freeze(now + 60 * SECOND);
    for (key, algorithm) in [("FIXED", "GCRA"), ("GCRA", "SLIDING"), ("SLIDING", "FIXED")] {
        let call = format!("ML.RATELIMIT {key} 1 3600 ALGORITHM {algorithm} FORCE");
        assert_eq!(Row::of(&client.run(&call)).granted, 1);
    }
    let digest = client.digest();
    for replica in [&replica, &other] {
        replica.catch_up(&server);
        assert_eq!(replica.client().digest(), digest);
        assert!(!replica.log().contains("CRITICAL"), "something was refused");
    }
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest);
    server.client().run("DEBUG RELOAD").ok();
    assert_eq!(server.client().digest(), digest, "as it is saved");
}

#[test]
fn a_key_written_full_call_by_call_is_the_same_on_replicas_of_other_configs() {
    let mut server = Server::with("appendonly yes\nappendfsync always\nml.limit-max-holds 600");
    let other = server.replica("ml.limit-max-holds 1\nml.ratelimit-algorithm SLIDING");
    let mut client = server.client();
    let now = client.freeze_ahead();
    let limits = windows().map(|window| format!("{MOST} {window}")).collect::<Vec<_>>().join(" ");
    let mut ids = vec![];
    for algorithm in ALGORITHMS {
        for call in 0..700 {
            client.freeze(now + call * SECOND);
            let options =
                format!("ALGORITHM {algorithm} COST {} FORCE HOLD 9000000", 1 + call * call);
            let answer = client.run(&format!("ML.RATELIMIT {algorithm} {limits} {options}"));
            assert_eq!(answer.is_error(), call >= 600, "{answer:?}");
            if call < 600 {
                ids.push((algorithm, Row::of(&answer).id.unwrap()));
            }
        }
    }
    client.run("CONFIG SET ml.limit-max-holds 65536").ok();
    let held: Vec<_> =
        (0..2_000).map(|_| granted(&mut client, "p 9007199254740992 90000")).collect();
    for (number, (key, id)) in ids.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
        let actual = (number * number % 90_000) as i64;
        assert_eq!(settle(&mut client, key, id, actual), 1);
    }
    for id in held.iter().step_by(2) {
        assert_eq!(release(&mut client, "p", id), 1);
    }
    let digest = client.digest();
    other.catch_up(&server);
    assert_eq!(other.client().digest(), digest);
    assert!(!other.log().contains("CRITICAL"), "something was refused");
    server.restart(Stop::Kill);
    assert_eq!(server.client().digest(), digest);
}

/// A limiter with one small window, and then these bytes.
fn small(version: u8, algorithm: u8, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![version, algorithm, 1, 9, 0xe8, 7, 9];
    rest(&mut out);
    out
}

/// A limiter with eight small windows of a fixed algorithm, and then these bytes.
fn eight(version: u8, rest: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![version, 0, 8];
    (0..8).for_each(|window| out.extend([9, 0xe8 + window, 7, 9, 5, 5]));
    rest(&mut out);
    out
}

/// So many holds of the fewest bytes, each with so many positions.
fn holds(version: u8, count: u64, positions: u8, out: &mut Vec<u8>) {
    push(count, out);
    for number in 0..count {
        out.extend(u128::from(number).to_be_bytes());
        out.extend(&[1, 1, 1, 1][usize::from(2 - version)..]);
        out.push(positions);
        (0..positions).for_each(|window| out.extend([0xe8 + window, 7, 0]));
    }
}

#[test]
fn no_payload_takes_more_memory_than_in_proportion_to_its_length() {
    const ROOM: u64 = 8 << 20;
    let server = Server::start();
    let mut client = server.client();
    for version in [1, 2] {
        for (what, command, payload, sound) in payloads(version) {
            let asks = redis::cmd("ML.DEBUG").arg("WORK").arg("DONE").clone();
            let load = redis::cmd(command).arg("k").arg(&payload).clone();
            let answers = client.pipeline(&[redis::cmd("FLUSHALL"), asks.clone(), load, asks]);
            let context = format!("{what}, version {version}");
            assert_eq!(!answers[2].is_error(), sound, "{context}: {:?}", answers[2]);
            let most = answers[3].items()[2].integer() as u64;
            let length = payload.len() as u64;
            assert!(most <= 6 * length + ROOM, "{context}: {most} bytes for {length}");
            println!("{context}: {most} bytes for {length}");
        }
    }
}

/// What, which command loads it, the payload, and whether it can be.
fn payloads(version: u8) -> Vec<(&'static str, &'static str, Vec<u8>, bool)> {
    let sliding = |count: u64, length: usize| {
        small(version, 1, |out| {
            out.push(1);
            push(count, out);
            out.extend(vec![1; length]);
            out.push(0);
        })
    };
    let fixed = |rest: &dyn Fn(&mut Vec<u8>)| {
        small(version, 0, |out| {
            out.extend([5, 5]);
            rest(out);
        })
    };
    let holds = |count, positions, out: &mut Vec<u8>| holds(version, count, positions, out);
    let permits = |count: u64| {
        // Version 1 has a moment, before which each was.
        let mut out = vec![version];
        out.extend((version == 1).then_some(5));
        push(count, &mut out);
        for number in 0..count {
            out.extend(u128::from(number).to_be_bytes());
            out.extend([1, 1, 0]);
        }
        out
    };
    let twice = |out: &mut Vec<u8>| {
        let mut one = Vec::new();
        holds(1, 0, &mut one);
        out.extend([&[2], &one[1..], &one[1..]].concat());
    };
    vec![
        ("as many charges as bytes", "ML.LOADRATE", sliding(4 << 20, 8 << 20), false),
        ("more charges than bytes", "ML.LOADRATE", sliding(u64::MAX, 8 << 20), false),
        ("holds", "ML.LOADRATE", fixed(&|out| holds(FULL, 0, out)), true),
        ("positions", "ML.LOADRATE", eight(version, |out| holds(FULL, 8, out)), true),
        ("positions in no window", "ML.LOADRATE", fixed(&|out| holds(FULL, 8, out)), false),
        ("too many", "ML.LOADRATE", fixed(&|out| holds(4 * FULL, 0, out)), false),
        ("none of as many", "ML.LOADRATE", fixed(&|out| push(u64::MAX, out)), false),
        ("an id twice", "ML.LOADRATE", fixed(&twice), false),
        ("permits", "ML.LOADPERMIT", permits(FULL), true),
        ("too many permits", "ML.LOADPERMIT", permits(8 * FULL), false),
    ]
}
