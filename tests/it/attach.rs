//! Whoever begins to listen, in the midst of traffic and by whatever way there is,
//! gets all that matters: a server that nobody listened to sends no effects.
//!
//! MLSERVE_ATTACH_ROUNDS says how often each way is gone (scripts/soak makes it
//! hundreds).

use crate::support::{Answer, Client, Random, Server, Setup, Stop, call, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whether effects are sent.
pub fn effects_are_wanted(client: &mut Client) -> bool {
    client.run("ML.DEBUG EFFECTS WANTED").integer() == 1
}

/// Waits until the server was found to have nobody listening.
pub fn be_quiet(client: &mut Client) {
    wait_for("effects to be left out", || !effects_are_wanted(client));
}

/// A write at random, of a key that does not go by itself soon.
fn write(client: &mut Client, random: &mut Random) -> bool {
    let key = random.below(200);
    let call = match random.below(14) {
        0 => format!("ML.RATELIMIT g{key} 50 6000 ALGORITHM GCRA"),
        1 => format!("ML.RATELIMIT s{key} 50 6000 ALGORITHM SLIDING HOLD 600000"),
        2 => format!("ML.RATELIMIT f{key} 50 6000 5000 36000"),
        3 => format!("ML.ADMIT 2 f{key} g{key} LIMIT 9000 6000 LIMIT 9000 6000 HOLD 600000"),
        4 => {
            let items = "LIMIT 9000 6000 PERMIT 1000 HOLD 6000000";
            format!("ML.ADMIT 2 s{key} p{key} {items} ID {:032}", key % 9)
        }
        5 => format!("ML.CACHESET c{key} v{} x STALE 9000000", key % 3),
        6 => format!("ML.CACHEMSET 2 d{key} y e{key} z v EX 9000"),
        7 => format!("ML.CACHEDROP c{key} STALE"),
        8 => format!("ML.FEATURESET v{key} VIEW v{} FIELDS 1 f {key}", key % 3),
        9 => format!("ML.FEATUREMSET 2 v{key} w{key} 12345678 TYPE F32 FIELDS 1 g"),
        10 => {
            client.run("MULTI").ok();
            client.run(&format!("ML.RATELIMIT m{key} 50 6000 HOLD 600000"));
            client.run(&format!("ML.FEATURESET v{key} FIELDS 1 h {key}"));
            "EXEC".to_owned()
        }
        11 => format!("ML.SETTLE 2 s{key} p{key} {:032} ACTUAL 3 -", key % 9),
        12 => format!("ML.RENEW 2 s{key} p{key} {:032} 7000000", key % 9),
        _ => {
            let script = "redis.call('ML.CACHESET', KEYS[1], 'v', 'x')
                return redis.call('ML.RATELIMIT', KEYS[2], 50, 6000)";
            return !call!(client, "EVAL", script, 2, format!("e{key}"), format!("f{key}"))
                .is_error();
        }
    };
    let answer = client.run(&call);
    // Nothing but READONLY, on a server that is not a primary yet.
    assert!(
        !answer.is_error()
            || ["READONLY", "EXECABORT"].iter().any(|code| answer.error().starts_with(code)),
        "{call}: {answer:?}"
    );
    !answer.is_error()
}

/// Writes from four connections while `act` runs, some before and some after.
fn under_traffic<R>(server: &Server, act: impl FnOnce(&mut Client) -> R) -> R {
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    std::thread::scope(|scope| {
        // Ends them also where the test fails.
        let over = crate::support::fetches::Over(&over);
        for writer in 0..4 {
            let (over, calls, mut client) = (over.0, &calls, server.client());
            let mut random = Random::new(seed.wrapping_add(writer));
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    calls.fetch_add(write(&mut client, &mut random).into(), Relaxed);
                }
            });
        }
        let more = |more: u64| {
            let before = calls.load(Relaxed);
            wait_for("traffic", || calls.load(Relaxed) >= before + more);
        };
        let mut client = server.client();
        if client.info("role") == "master" {
            more(500);
        }
        let done = act(&mut client);
        more(500);
        drop(over);
        done
    })
}

/// Waits until a replica has what its primary has sent, and compares what they hold.
fn assert_same(primary: &Server, replica: &Server, way: &str) {
    replica.catch_up(primary);
    let (mut one, mut other) = (primary.client(), replica.client());
    if one.digest() == other.digest() {
        return;
    }
    let mut keys = one.run("KEYS *").texts();
    keys.extend(other.run("KEYS *").texts());
    keys.sort_unstable();
    keys.dedup();
    let of = |client: &mut Client, key: &str| {
        (client.digest_of(key), call!(client, "PEXPIRETIME", key).integer())
    };
    keys.retain(|key| of(&mut one, key) != of(&mut other, key));
    panic!("{way}: {} keys differ: {:?}", keys.len(), keys.iter().take(9).collect::<Vec<_>>());
}

fn rounds() -> u64 {
    std::env::var("MLSERVE_ATTACH_ROUNDS").map_or(2, |text| text.parse().unwrap())
}

/// Goes a way so often, each time with a new server that nobody listens to.
fn each_round(way: &str, config: &str, go: impl Fn(Server, &str)) {
    let rounds = rounds();
    for round in 1..=rounds {
        let server = Server::with(config);
        be_quiet(&mut server.client());
        go(server, &format!("{way}, round {round}"));
    }
    println!("{way}: {rounds} rounds");
}

/// Has a server follow another, and waits until it is in step.
fn join(replica: &Server, primary: &Server) {
    let mut follower = replica.client();
    call!(follower, "REPLICAOF", "127.0.0.1", primary.port()).ok();
    wait_for("the replica to be in step", || follower.info("master_link_status") == "up");
}

/// A replica that has asked for all and is made to wait for it, for longer than
/// any test: from then on there is a backlog.
fn ask_and_wait(client: &mut Client, port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // Only one that says that it takes a file of unknown length waits.
    socket.write_all(b"REPLCONF capa eof\r\n").unwrap();
    socket.read_exact(&mut [0; b"+OK\r\n".len()]).unwrap();
    socket.write_all(b"PSYNC ? -1\r\n").unwrap();
    wait_for("the backlog", || client.info("repl_backlog_active") == "1");
    socket
}

const MAKES_WAIT: &str =
    "repl-diskless-sync yes\nrepl-diskless-sync-delay 3600\nrepl-backlog-size 256mb";

/// A server that is started from the dump of another, and continues from there.
fn continue_from_the_dump(primary: &Server) -> Server {
    let dump = primary.directory().join("dump.rdb");
    let config = format!("replicaof 127.0.0.1 {}", primary.port());
    Setup { config: &config, dump: Some(&dump), ..Setup::default() }.start()
}

/// Whether a replica continued in place of asking for all.
fn assert_continued(primary: &Server, replica: &Server, way: &str) {
    replica.catch_up(primary);
    let mut client = primary.client();
    assert_eq!(client.info("sync_partial_ok"), "1", "{way}: it did not continue");
}

#[test]
fn an_aof() {
    each_round("an AOF", "", |mut server, way| {
        under_traffic(&server, |client| {
            client.run("CONFIG SET appendonly yes appendfsync always").ok();
            client.wait_for_rewrite();
            assert!(effects_are_wanted(client), "{way}");
        });
        let mut client = server.client();
        client.run("CONFIG REWRITE").ok();
        let before = client.digest();
        server.restart(Stop::Kill);
        assert_eq!(server.client().digest(), before, "{way}");
    });
}

#[test]
fn an_aof_while_a_child_saves() {
    each_round("an AOF while a child saves", "rdb-key-save-delay 5000", |mut server, way| {
        under_traffic(&server, |client| {
            client.run("BGSAVE").text();
            client.run("CONFIG SET rdb-key-save-delay 0").ok();
            client.run("CONFIG SET appendonly yes appendfsync always").ok();
            assert_eq!(
                client.info("rdb_bgsave_in_progress"),
                "1",
                "{way}: the child was too quick"
            );
            client.wait_for_rewrite();
            assert!(effects_are_wanted(client), "{way}");
        });
        let mut client = server.client();
        client.run("CONFIG REWRITE").ok();
        let before = client.digest();
        server.restart(Stop::Kill);
        assert_eq!(server.client().digest(), before, "{way}");
    });
}

/// A replica that asks for all.
fn replica_joins(server: Server, way: &str) {
    let replica = Server::start();
    under_traffic(&server, |client| {
        join(&replica, &server);
        assert!(effects_are_wanted(client), "{way}");
    });
    assert_same(&server, &replica, way);
    // One that leaves comes back for what it missed.
    let mut follower = replica.client();
    let mut client = server.client();
    follower.run("REPLICAOF NO ONE").ok();
    wait_for("the replica to be gone", || client.info("connected_slaves") == "0");
    client.run("ML.RATELIMIT key 1 6000").integers();
    join(&replica, &server);
    assert_same(&server, &replica, way);
}

#[test]
fn a_replica_by_way_of_a_file() {
    each_round("a replica, by a file", "", replica_joins);
}

#[test]
fn a_replica_by_way_of_a_socket() {
    let config = "repl-diskless-sync yes\nrepl-diskless-sync-delay 0";
    each_round("a replica, by a socket", config, replica_joins);
}

#[test]
fn a_replica_by_way_of_a_socket_some_time_after_it_asked() {
    let config = "repl-diskless-sync yes\nrepl-diskless-sync-delay 1";
    each_round("a replica, by a socket, later", config, replica_joins);
}

#[test]
fn a_replica_by_two_channels() {
    const TWO: &str = "dual-channel-replication-enabled yes";
    if Server::start().client().run(&format!("CONFIG SET {TWO}")).is_error() {
        println!("not applicable: this server knows one channel only");
        return;
    }
    let config = format!("{TWO}\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0");
    each_round("a replica, by two channels", &config, |server, way| {
        let replica = Server::with(TWO);
        under_traffic(&server, |_| join(&replica, &server));
        assert_same(&server, &replica, way);
    });
}

#[test]
fn a_replica_of_a_replica() {
    each_round("a replica of a replica", "", |server, way| {
        let (middle, last) = (Server::start(), Server::start());
        under_traffic(&server, |_| {
            join(&middle, &server);
            join(&last, &middle);
        });
        assert_same(&server, &middle, way);
        assert_same(&middle, &last, way);
    });
}

/// A replica that is started from what a command wrote without a fork.
fn continues_from_what_is_written(command: &str) {
    each_round(command, MAKES_WAIT, |server, way| {
        let (_waits, replica) = under_traffic(&server, |client| {
            let waits = ask_and_wait(client, server.port());
            client.run(command).ok();
            (waits, continue_from_the_dump(&server))
        });
        assert_continued(&server, &replica, way);
        assert_same(&server, &replica, way);
    });
}

#[test]
fn a_replica_started_from_what_save_wrote() {
    continues_from_what_is_written("SAVE");
}

#[test]
fn a_replica_started_from_what_a_reload_wrote() {
    continues_from_what_is_written("DEBUG RELOAD");
}

#[test]
fn a_replica_started_from_what_a_shutdown_wrote() {
    each_round("SHUTDOWN SAVE", MAKES_WAIT, |mut server, way| {
        let waits = under_traffic(&server, |client| ask_and_wait(client, server.port()));
        server.restart(Stop::Save);
        drop(waits);
        let replica = under_traffic(&server, |_| continue_from_the_dump(&server));
        assert_continued(&server, &replica, way);
        assert_same(&server, &replica, way);
    });
}

#[test]
fn a_replica_that_becomes_the_primary() {
    each_round("a promotion", "", |server, way| {
        let (heir, other) = (server.replica(""), Server::start());
        under_traffic(&heir, |client| {
            client.run("REPLICAOF NO ONE").ok();
            assert!(effects_are_wanted(client), "{way}");
            join(&other, &heir);
            join(&server, &heir);
        });
        assert_same(&heir, &other, way);
        assert_same(&heir, &server, way);
    });
}

#[test]
fn a_replica_after_the_backlog_died() {
    each_round("a backlog that returns", "repl-backlog-ttl 1", |server, way| {
        let mut client = server.client();
        let replica = server.replica("");
        replica.client().run("REPLICAOF NO ONE").ok();
        wait_for("the backlog to die", || client.info("repl_backlog_active") == "0");
        be_quiet(&mut client);
        under_traffic(&server, |_| join(&replica, &server));
        assert_same(&server, &replica, way);
    });
}
