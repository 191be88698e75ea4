//! The versions in force are kept: over restarts of every kind, and with the
//! data set that they belong to.

use crate::support::{Answer, Client, Server, Setup, Stop, call, wait_for};
use redis::Value;

const AOF: &str = "appendonly yes\nappendfsync always\n";

/// A server that logs, and rewrites its log with commands only.
const COMMANDS_ONLY: &str = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no";

/// The versions in force: of all namespaces, in a line each.
fn in_force(client: &mut Client) -> Vec<String> {
    let stats = client.run("ML.CACHESTATS").map();
    let versions = stats.iter().map(|(namespace, stats)| {
        let versions = stats.map()["versions"].texts();
        (!versions.is_empty()).then(|| format!("{namespace}: {}", versions.join(" ")))
    });
    let mut versions: Vec<_> = versions.flatten().collect();
    versions.sort();
    versions
}

/// Puts some versions in force, and others out of force again; those that are.
fn furnish(client: &mut Client) -> Vec<String> {
    let longest = "n".repeat(255);
    for namespace in ["m", "", "gone", &longest] {
        call!(client, "ML.CACHEVERSION", namespace, "SET", "old", "v\r\n\0", "9".repeat(255))
            .items();
    }
    client.run("ML.CACHEVERSION gone CLEAR").items();
    client.run("ML.CACHEVERSION m SET new newer").items();
    let versions = in_force(client);
    assert_eq!(versions.len(), 3, "{versions:?}");
    assert!(versions.contains(&"m: new newer".to_owned()), "{versions:?}");
    versions
}

fn rewrite_aof(client: &mut Client) {
    client.run("BGREWRITEAOF").text();
    wait_for("the AOF to be rewritten", || {
        client.info("aof_rewrite_in_progress") == "0" && client.info("aof_rewrite_scheduled") == "0"
    });
    assert_eq!(client.info("aof_last_bgrewrite_status"), "ok");
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
                rewrite_aof(&mut server.client());
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
        rewrite_aof(&mut client);
        assert_eq!(in_force(&mut client), before, "not before the restart");
        server.restart(Stop::Kill);
        println!("left after the restart, {written:?}: {:?}", in_force(&mut server.client()));
        assert_eq!(in_force(&mut server.client()), [""; 0]);
        // What is set after the rewrite is kept.
        server.client().run("ML.CACHEVERSION m SET newest").items();
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
        primary.client().run("ML.CACHEVERSION other SET v").items();
        // Its history is its own since: the whole data set comes again.
        replica.client().run("SET own x").ok();
        replica.follow(&primary);
        assert_eq!(in_force(&mut replica.client()), ["other: v"], "{context}: the primary's own");
        primary.client().run("ML.CACHEVERSION other CLEAR").items();
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
    client.run("ML.CACHEVERSION m SET v").items();
    assert!(!loads_without_the_module(&server), "with versions it needs the module");
    client.run("ML.CACHEVERSION m CLEAR").items();
    assert_eq!(loads_without_the_module(&server), leaves_no_trace, "nothing is left of them");
}
