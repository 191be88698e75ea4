//! Data of an older module: RDB files and DUMP payloads of commit 3efdbb3 load, and
//! are what they were; what it replicated and logged is taken as what it was, or
//! refused by name. See tests/data/3efdbb3/README.md.

use crate::support::permits::release;
use crate::support::rates::settle;
use crate::support::{Answer, Client, Server, Setup, bulk, call, commands, wait_for};
use redis::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/3efdbb3").join(name)
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(data(name)).unwrap();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// The ids that belong to a key, in the order of the calls.
fn ids(key: &str) -> Vec<String> {
    let known = lines("known.txt").into_iter();
    known.filter(|line| line[0] == key).map(|line| line[1].clone()).collect()
}

/// Sets the module's clock to a moment after the last of the calls.
fn back_then(client: &mut Client) {
    let now_us: u64 = ids("now_us")[0].parse().unwrap();
    client.freeze(now_us + 1_000_000);
}

/// What is asked of each key, and the beginning of the answer: what does not depend
/// on the very moment.
const READS: &[(&str, &[i64])] = &[
    ("ML.RATELIMIT fixed 100 31622400 PEEK", &[1, 100, 93]),
    ("ML.RATELIMIT fixed:many 10 86400 100 864000 1000 31622400 PEEK COST 7", &[7, 10, 7]),
    ("ML.RATELIMIT fixed:many 5 43200 PEEK COST 5", &[0, 5, 4]),
    ("ML.RATELIMIT fixed:reserved 100 31622400 PEEK COST 70", &[70, 100, 70]),
    ("ML.RATELIMIT fixed:beyond 10 31622400 PEEK", &[0, 10]),
    ("ML.RATELIMIT sliding 100 31622400 PEEK COST 95", &[95, 100, 95]),
    ("ML.RATELIMIT sliding 100 31622400 PEEK COST 96", &[0, 100, 95]),
    ("ML.RATELIMIT sliding:grid 100000 31622400 PEEK", &[1, 100_000, 99_850]),
    ("ML.RATELIMIT sliding:many 100 31622400 50 86400 PEEK", &[1, 50, 46]),
    ("ML.RATELIMIT sliding:reserved 100 31622400 PEEK", &[1, 100, 70]),
    ("ML.RATELIMIT gcra 10 31622400 BURST 20 PEEK COST 14", &[14, 20, 14]),
    ("ML.RATELIMIT gcra 10 31622400 BURST 20 PEEK COST 15", &[0, 20, 14]),
    ("ML.RATELIMIT gcra:many 10 31622400 5 864000 PEEK", &[1, 5, 3]),
    ("ML.RATELIMIT gcra:reserved 10 31622400 PEEK", &[1, 10, 5]),
];

/// Asks for all that the fixture has, and in the end settles and releases.
fn check(client: &mut Client, context: &str) {
    for (call, expected) in READS {
        let answer = client.run(call).integers();
        assert_eq!(answer[..expected.len()], **expected, "{call}, {context}");
    }
    for (key, open) in [("fixed:reserved", 2), ("sliding:reserved", 1), ("gcra:reserved", 1)] {
        let info = call!(client, "ML.LIMITINFO", key).map();
        assert_eq!(info["holds"].items().len(), open, "{key}, {context}");
    }
    let beyond = client.run("ML.LIMITINFO fixed:beyond").map();
    assert_eq!(beyond["windows"].items()[0].map()["used"].integer(), 25, "{context}");
    let permits = client.run("ML.LIMITINFO permits").map();
    assert_eq!(permits["in_use"].integer(), 5, "{context}");
    let costs = permits["holds"].items();
    let costs: Vec<_> = costs.iter().map(|permit| permit.map()["cost"].integer()).collect();
    assert_eq!(costs, [2, 3], "{context}: what ends first is first");

    for (key, version, expected) in [
        ("pred:a", "m1", bulk("answer:1")),
        ("pred:a", "m2", bulk("answer:2")),
        ("pred:b", "m1", Value::Nil),
        ("pred:c", "m2", bulk("computed")),
        ("pred:d", "m1", Value::Nil),
        ("rank:a", "r7", bulk("ranked")),
        ("plain", "v", bulk("{\"a\":1}")),
    ] {
        let answer = call!(client, "ML.CACHEGET", key, version);
        assert_eq!(answer, expected, "{key} {version}, {context}");
    }
    let computed = client.run("ML.CACHEINFO pred:c").map()["versions"].items();
    assert!(computed[0].map()["cost_ms"].integer() >= 50, "{context}");
    let stale = client.run("ML.CACHEFETCH pred:d m1 LEASE 9000").items();
    assert_eq!(stale[..2], [bulk("LEASE"), bulk("stale:1")], "{context}");

    let fields = ["age", "score", "country", "odd", "hourly:rate", "ever:total", "exact:b"];
    let row = call!(client, "ML.FEATURES", "row", &fields).texts();
    assert_eq!(row, ["34", "0.5", "DE", "84.50", "0.25", "-9007199254740993", "-inf"], "{context}");
    assert_eq!(client.run("ML.FEATURES text a b").texts(), ["1", "x"], "{context}");
    let types = client.run("ML.FEATUREINFO row").map()["views"].items();
    let mut views: Vec<_> = types
        .iter()
        .map(|view| {
            let view = view.map();
            let fields = view["fields"].items();
            let types: Vec<_> = fields.iter().map(|field| field.texts()[1].clone()).collect();
            (view["view"].text(), types.join(" "))
        })
        .collect();
    views.sort();
    let expected = [
        ("", "I64 STRING STRING F64"),
        ("ever", "I64"),
        ("exact", "F64 F64"),
        ("hourly", "F32 F32"),
    ];
    let expected = expected.map(|(view, types)| (view.to_owned(), types.to_owned()));
    assert_eq!(views, expected, "{context}");
    let tensor = client.run("ML.FEATUREGET 2 single:1 single:2 FIELDS 1 v:f AS TENSOR").items();
    assert_eq!((tensor[3].clone(), tensor[4].clone()), (bulk("12345678"), bulk("\u{1}\u{1}")));

    // What was open can be ended, once.
    for key in ["fixed:reserved", "sliding:reserved", "gcra:reserved"] {
        for id in ids(key) {
            let settled = [0; 2].map(|_| settle(client, key, &id, 1));
            assert_eq!(settled, [1, 0], "{key}, {context}");
        }
    }
    for id in ids("permits") {
        let released = [0; 2].map(|_| release(client, "permits", &id));
        assert_eq!(released, [1, 0], "{context}");
    }
}

#[test]
fn an_rdb_file_of_an_older_module_loads() {
    let dump = data("data.dump");
    let server = Setup { dump: Some(&dump), ..Setup::default() }.start();
    let mut client = server.client();
    back_then(&mut client);
    let mut versions = client.run("ML.CACHEVERSION pred").texts();
    versions.sort_unstable();
    assert_eq!(versions, ["m1", "m2"]);
    assert_eq!(client.run("ML.CACHEVERSION rank").texts(), ["r7"]);
    // As it is saved now, it is what it was.
    let before = client.digest();
    client.run("DEBUG RELOAD").ok();
    assert_eq!(client.digest(), before);
    check(&mut client, "from the RDB file");
}

#[test]
fn dump_payloads_of_an_older_module_are_restored() {
    let server = Server::start();
    let mut client = server.client();
    back_then(&mut client);
    let dumps = lines("dumps.txt");
    assert!(dumps.len() > 15);
    for dump in &dumps {
        call!(client, "RESTORE", &dump[0], 0, hex(&dump[1])).ok();
    }
    for (namespace, versions) in [("pred", "m1 m2"), ("rank", "r7")] {
        client.run(&format!("ML.CACHEVERSIONSET {namespace} {versions}")).ok();
    }
    check(&mut client, "from DUMP payloads");
}

#[test]
fn effects_of_an_older_module_are_what_they_were_or_refused_by_name() {
    let effects = lines("effects.txt");
    assert_eq!(effects.len(), 5, "one of each kind");
    for effect in effects {
        let (made, words) = effect.split_first().unwrap();
        let words: Vec<_> = words.iter().map(|word| hex(word)).collect();
        let name = String::from_utf8(words[0].clone()).unwrap();
        // As a replica takes it, and as a log is loaded.
        let server = Server::start();
        let mut client = server.client();
        back_then(&mut client);
        let is_known = commands::names().contains(&&name[..]);
        // The error for a command that is not known quotes the arguments, which are
        // not text.
        let answer = call!(client, if is_known { &words[..] } else { &words[..1] });
        if is_known && !answer.is_error() {
            println!("{name} is what it was");
            if made == "-" {
                assert_eq!(client.run("ML.CACHEVERSION pred").items().len(), 2);
                continue;
            }
            let [key] = &client.run("KEYS *").texts()[..] else { panic!("{name}: one key") };
            call!(client, "PERSIST", key);
            call!(client, "RESTORE", "restored", 0, hex(made)).ok();
            assert_eq!(client.digest_of("restored"), client.digest_of(key), "{name}");
            continue;
        }
        let error = answer.error();
        let refused = match is_known {
            true => error.contains("of an older module"),
            false => error.starts_with("ERR unknown command") && error.contains(&name),
        };
        assert!(refused, "{name}: {error}");
        println!("{name} is refused: {error}");
        assert_eq!(client.run("DBSIZE").integer(), 0);
        let log = load_a_log_of(&server, &words);
        assert!(log.to_uppercase().contains(&name), "{name}: the log does not name it:\n{log}");
    }
    // So are those of the limits of a module in between.
    let server = Server::start();
    let error = server.client().run("ML.APPLYLIMIT k \u{1}").error();
    assert!(error.contains("of an older module"), "{error}");
}

/// What a server logs that is started on an AOF of one effect: one that does not know
/// the command ends by itself, one whose command refuses it tells of that.
fn load_a_log_of(like: &Server, words: &[Vec<u8>]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("appendonlydir");
    std::fs::create_dir(&files).unwrap();
    let mut command = redis::Cmd::new();
    words.iter().for_each(|word| _ = command.arg(word));
    std::fs::write(files.join("appendonly.aof.1.incr.aof"), command.get_packed_command()).unwrap();
    let manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(files.join("appendonly.aof.manifest"), manifest).unwrap();
    let mut process = Command::new(like.binary())
        .args(["--port", "0", "--unixsocket", "socket", "--appendonly", "yes", "--logfile", "log"])
        .args(["--loadmodule", &crate::support::module()])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Some servers quote the arguments of what they refuse, which are not text.
    let log = || {
        let log = std::fs::read(directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    };
    wait_for("the server to refuse the log", || {
        process.try_wait().unwrap().is_some() || log().contains("of an older module")
    });
    let _ = process.kill();
    process.wait().unwrap();
    log()
}
