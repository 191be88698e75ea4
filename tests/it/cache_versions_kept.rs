//! The versions in force are kept: over restarts of every kind, and with the
//! data set that they belong to.

use crate::support::fetches::stats;
use crate::support::{Answer, Client, Server, Setup, Stop, call, wait_for};
use redis::Value;

const AOF: &str = "appendonly yes\nappendfsync always\n";

/// A server that logs, and rewrites its log with commands only.
const COMMANDS_ONLY: &str = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no";

/// The versions in force: of all namespaces, in a line each.
fn in_force(client: &mut Client) -> Vec<String> {
    let all = stats(client);
    let versions = all.values().flat_map(|stats| stats.map()["versions"].map());
    let versions = versions.map(|(namespace, versions)| {
        let set = call!(client, "ML.CACHEVERSION", &namespace).texts();
        assert_eq!(versions.map().len(), set.len());
        format!("{namespace}: {}", set.join(" "))
    });
    let mut versions: Vec<_> = versions.collect();
    versions.sort();
    versions
}

/// Puts some versions in force, and others out of force again; those that are.
fn furnish(client: &mut Client) -> Vec<String> {
    let longest = "n".repeat(255);
    for namespace in ["m", "m:part", "", "gone", &longest] {
        call!(client, "ML.CACHEVERSIONSET", namespace, "old", "v\r\n\0", "9".repeat(255)).ok();
    }
    client.run("ML.CACHEVERSIONSET gone CLEAR").ok();
    client.run("ML.CACHEVERSIONSET m new newer").ok();
    let versions = in_force(client);
    assert_eq!(versions.len(), 4, "{versions:?}");
    assert!(versions.contains(&"m: new newer".to_owned()), "{versions:?}");
    versions
}

#[test]
fn the_versions_in_force_outlive_a_restart() {
    let cache = "ML.CACHESET m:k new x EX 900";
    let limit = "ML.RATELIMIT limit 10 3600";
    for (config, rewritten, written, stop) in [
        ("", false, "", Stop::Save),
        ("", false, cache, Stop::Save),
        (AOF, false, "", Stop::Kill),
        (AOF, false, cache, Stop::Kill),
        (AOF, true, "", Stop::Kill),
        (AOF, true, cache, Stop::Kill),
        (AOF, true, "SET plain x", Stop::Save),
        (COMMANDS_ONLY, false, "", Stop::Kill),
        (COMMANDS_ONLY, true, cache, Stop::Kill),
        (COMMANDS_ONLY, true, limit, Stop::Kill),
    ] {
        let mut server = Server::with(config);
        let mut client = server.client();
        let before = furnish(&mut client);
        if !written.is_empty() {
            assert!(!client.run(written).is_error());
        }
        let context = format!("{config:?}, rewritten: {rewritten}, {written:?}, {stop:?}");
        // Twice, so that what was loaded is saved in its turn.
        for _ in 0..2 {
            if rewritten {
                server.client().rewrite_aof();
            }
            server.restart(stop);
            let mut client = server.client();
            assert_eq!(in_force(&mut client), before, "{context}");
            assert_eq!(client.run("ML.CACHESET m:k old late"), Value::Nil, "{context}");
        }
        server.client().run("DEBUG RELOAD").ok();
        assert_eq!(in_force(&mut server.client()), before, "{context}, reloaded");
    }
}

/// A rewritten AOF of commands has no place for what belongs to no key but in
/// front of the first key of the module. Where there is none, the versions are
/// lost with the rewrite: the one case in which they are.
#[test]
fn a_rewrite_to_commands_without_any_key_of_the_module_loses_the_versions() {
    for written in ["", "SET plain x"] {
        let mut server = Server::with(COMMANDS_ONLY);
        let mut client = server.client();
        let before = furnish(&mut client);
        if !written.is_empty() {
            client.run(written).ok();
        }
        client.rewrite_aof();
        assert_eq!(in_force(&mut client), before, "not before the restart");
        server.restart(Stop::Kill);
        println!("left after the restart, {written:?}: {:?}", in_force(&mut server.client()));
        assert_eq!(in_force(&mut server.client()), [""; 0]);
        // What is set after the rewrite is kept.
        server.client().run("ML.CACHEVERSIONSET m newest").ok();
        server.restart(Stop::Kill);
        assert_eq!(in_force(&mut server.client()), ["m: newest"]);
    }
}

#[test]
fn a_data_set_brings_its_versions_and_takes_away_those_before() {
    for (diskless, load) in [("no", "disabled"), ("yes", "disabled"), ("yes", "swapdb")] {
        let primary =
            Server::with(&format!("repl-diskless-sync {diskless}\nrepl-diskless-sync-delay 0"));
        let replica = Server::with(&format!("repl-diskless-load {load}"));
        let context = format!("diskless: {diskless}, {load}");
        // In its time as a primary.
        let old = furnish(&mut replica.client());
        assert_eq!(in_force(&mut replica.client()), old);
        replica.follow(&primary);
        assert_eq!(in_force(&mut replica.client()), [""; 0], "{context}: the primary has none");
        replica.client().run("REPLICAOF NO ONE").ok();
        furnish(&mut replica.client());
        primary.client().run("ML.CACHEVERSIONSET other v").ok();
        // Its history is its own since: the whole data set comes again.
        replica.client().run("SET own x").ok();
        replica.follow(&primary);
        assert_eq!(in_force(&mut replica.client()), ["other: v"], "{context}: the primary's own");
        primary.client().run("ML.CACHEVERSIONSET other CLEAR").ok();
        replica.catch_up(&primary);
        assert_eq!(in_force(&mut replica.client()), [""; 0], "{context}");
    }
}

#[test]
fn a_reload_of_a_file_without_versions_takes_away_those_set_since() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SET plain x").ok();
    client.run("SAVE").ok();
    furnish(&mut client);
    client.run("DEBUG RELOAD NOSAVE").ok();
    assert_eq!(in_force(&mut client), [""; 0]);
    assert_eq!(client.run("ML.CACHEVERSION m").items(), []);
    client.run("ML.CACHESET m:k old x").ok();
}

/// Whether a server without the module loads what this one has saved.
fn loads_without_the_module(server: &Server) -> bool {
    server.client().run("SAVE").ok();
    let mut plain = Setup { without_module: true, ..Setup::default() }.start();
    let file = |server: &Server| server.directory().join("dump.rdb");
    std::fs::copy(file(server), file(&plain)).unwrap();
    // A server that meets what it cannot load ends.
    let answer = plain.client().try_run("DEBUG RELOAD NOSAVE");
    let loads = answer == Ok(Value::Okay);
    wait_for("it to end, or not", || plain.is_running() == loads);
    assert_eq!(plain.log().contains("AUX module data"), !loads, "{answer:?}");
    loads
}

#[test]
fn a_file_without_anything_of_the_module_loads_without_it() {
    let server = Server::start();
    let mut client = server.client();
    client.run("SET plain x").ok();
    // A table that may save nothing is not to be had on Redis 7.0.
    let version = client.info("redis_version");
    let leaves_no_trace = !version.starts_with("7.0.");
    let loads = loads_without_the_module(&server);
    println!("{version}: a file without versions loads without the module: {loads}");
    assert_eq!(loads, leaves_no_trace);
    client.run("ML.CACHEVERSIONSET m v").ok();
    assert!(!loads_without_the_module(&server), "with versions it needs the module");
    client.run("ML.CACHEVERSIONSET m CLEAR").ok();
    assert_eq!(loads_without_the_module(&server), leaves_no_trace, "nothing is left of them");
}

/// What was allocated at once since this was asked for the last time, in bytes.
fn most_at_once(client: &mut Client) -> usize {
    client.run("ML.DEBUG WORK DONE").items()[2].integer() as usize
}

#[test]
fn a_table_of_any_length_takes_no_more_than_a_few_times_its_payload() {
    let server = Server::start();
    let mut client = server.client();
    let names = (0..=255u8).map(|one| vec![one]);
    let pairs = (0..=255u8).flat_map(|one| (0..=255u8).map(move |other| vec![one, other]));
    let all: Vec<_> = names.chain(pairs).collect();
    let payload = |versions: &[u8]| {
        let one = |name: &Vec<u8>| [&[name.len() as u8], &name[..], versions].concat();
        [vec![2], all.iter().flat_map(one).collect()].concat()
    };
    for (what, payload, known) in [
        ("cut short", [payload(&[1, 1, b'v']), vec![9]].concat(), false),
        ("a version each", payload(&[1, 1, b'v']), true),
        ("none", payload(&[0]), false),
        ("names of nothing", [vec![2], vec![0; 2 << 20]].concat(), false),
    ] {
        most_at_once(&mut client);
        let answer = call!(client, "ML.APPLYVERSIONS", &payload);
        let most = most_at_once(&mut client);
        assert_eq!(answer.is_error(), what == "cut short", "{what}: {answer:?}");
        let bound = 6 * payload.len() + (8 << 20);
        println!("{what}: {most} bytes at once, of a payload of {}", payload.len());
        assert!(most <= bound, "{what}: {most} bytes of {bound}");
        let set = call!(client, "ML.CACHEVERSION", b"ab").items();
        assert_eq!(set.len(), usize::from(known), "{what}");
        if known {
            // As many as replaying takes: those beyond are left out.
            for (name, count) in [(b"\xfe\xff", 1), (b"\xff\x00", 0)] {
                assert_eq!(call!(client, "ML.CACHEVERSION", name).items().len(), count);
            }
        }
    }
}
