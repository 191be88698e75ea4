//! Field lists: names of fields under one name, and calls that name it.

use crate::support::{Answer, Client, Server, Stop, Tap, call};
use redis::Value;

/// All lists: of each its name and its fields, in a line.
fn lists(client: &mut Client) -> Vec<String> {
    let all = client.run("ML.FIELDLISTS").map();
    let line = |(name, fields): (String, Value)| format!("{name}: {}", fields.texts().join(" "));
    let mut all: Vec<_> = all.into_iter().map(line).collect();
    all.sort();
    all
}

#[test]
fn a_list_stands_for_its_fields_wherever_fields_stand() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FIELDLIST profile age tier score").ok();
    assert_eq!(client.run("ML.FIELDLIST profile").texts(), ["age", "tier", "score"]);
    assert_eq!(client.run("ML.FIELDLIST none"), Value::Nil);
    // Written, with a value for each of its fields; options stand before and behind.
    let set = "ML.FEATURESET u VIEW v FIELDS @profile 31 gold 0.5 EX 900";
    assert_eq!(client.run(set).integer(), 1);
    assert_eq!(client.run("ML.FEATURES u v:age v:tier v:score").texts(), ["31", "gold", "0.5"]);
    client.run("ML.FIELDLIST numbers a b").ok();
    let blob: Vec<_> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|one| one.to_le_bytes()).collect();
    let written =
        call!(client, "ML.FEATUREMSET", 2, "m", "n", &blob, "TYPE", "F32", "FIELDS", "@numbers");
    assert_eq!(written.integers(), [1, 1]);
    // Read, of rows and of hashes, in each form.
    call!(client, "HSET", "h", "a", 7, "b", 8).integer();
    let read = "ML.FEATUREGET 3 m n h FIELDS";
    for form in ["VALUES", "TENSOR", "JSON", "TENSOR WITHTIMES", "TENSOR TYPE I64 DEFAULT 5"] {
        let named = client.run(&format!("{read} 2 a b AS {form}"));
        assert_eq!(client.run(&format!("{read} @numbers AS {form}")), named, "{form}");
    }
    client.run("ML.FIELDLIST counts clicks spend").ok();
    let tally = "ML.FEATURETALLY w FIELDS @counts 1 2.5 SPAN 60 TILE 60";
    assert_eq!(client.run(tally).integer(), 1);
    client.run("ML.FIELDLIST sums sum(clicks,60) sum(spend,60)").ok();
    let sums = client.run("ML.FEATUREGET 1 w FIELDS @sums").items();
    assert_eq!(sums[0].texts(), ["1.0", "2.5"]);
    assert_eq!(client.run("ML.FEATUREDEL m FIELDS @numbers").integer(), 2);
    assert_eq!(client.run("EXISTS m").integer(), 0);
    // A field may be called so: it is FIELDS that a list stands behind.
    client.run("ML.FEATURESET odd FIELDS 1 @numbers 1").integer();
    assert_eq!(client.run("ML.FEATUREGET 1 odd FIELDS 1 @numbers").items()[0].texts(), ["1"]);
}

#[test]
fn what_is_no_list_is_an_error_that_names_it_and_nothing_changes() {
    let server = Server::start();
    let mut client = server.client();
    client.run("ML.FIELDLIST two a b").ok();
    client.run("ML.FEATURESET u FIELDS 1 a 1").integer();
    let digest = client.digest();
    for (line, told) in [
        ("ML.FEATUREGET 1 u FIELDS @none", "'none'"),
        ("ML.FEATUREGET 1 u FIELDS @", "''"),
        ("ML.FEATURESET u FIELDS @none 1 2", "'none'"),
        ("ML.FEATURESET u FIELDS @two 1", "each of its 2"),
        ("ML.FEATURESET u FIELDS @two 1 2 3", "unknown option '3'"),
        ("ML.FEATUREMSET 1 u 01234567 TYPE F32 FIELDS @none", "'none'"),
        ("ML.FEATUREMSET 1 u 0123 TYPE F32 FIELDS @two", "blob"),
        ("ML.FEATURETALLY u FIELDS @two 1 SPAN 60 TILE 60", "'b'"),
        ("ML.FEATURETALLY u FIELDS @none 1 2 SPAN 60 TILE 60", "'none'"),
        ("ML.FEATUREDEL u FIELDS @none", "'none'"),
        ("ML.FEATUREDEL u FIELDS @two more", "nothing may follow"),
        ("ML.FIELDLIST two CLEAR x", "CLEAR stands alone"),
        ("ML.FIELDLIST two x clear", "CLEAR stands alone"),
    ] {
        let error = client.run(line).error();
        assert!(error.contains(told), "{line}: {error}");
        assert_eq!(
            (client.digest(), lists(&mut client)),
            (digest.clone(), vec!["two: a b".into()])
        );
    }
    for name in ["".to_owned(), "n".repeat(256)] {
        let error = call!(client, "ML.FIELDLIST", &name, "a").error();
        assert!(error.contains("name must be 1 to 255 bytes long"), "{error}");
    }
    let error = call!(client, "ML.FIELDLIST", "long", "x".repeat(65_536)).error();
    assert!(error.contains("field must be at most"), "{error}");
    let error = call!(client, "ML.FIELDLIST", "many", vec!["x"; 65_536]).error();
    assert!(error.contains("field must be at most"), "{error}");
    client.run("CONFIG SET ml.features-max-lists 1").ok();
    let error = client.run("ML.FIELDLIST three a").error();
    assert!(error.contains("name") && error.contains("ml.features-max-lists"), "{error}");
    client.run("ML.FIELDLIST two b").ok();
    client.run("ML.FIELDLIST two CLEAR").ok();
    client.run("ML.FIELDLIST three a").ok();
}

#[test]
fn lists_are_replicated_and_those_who_may_not_set_them_read_with_them() {
    let server = Server::start();
    let mut client = server.client();
    let replica = server.replica("ml.features-max-lists 1");
    let mut tap = Tap::on(&server);
    client.run("ML.FIELDLIST one a b").ok();
    client.run("ML.FIELDLIST two c").ok();
    client.run("ML.FIELDLIST two c").ok();
    client.run("ML.FIELDLIST gone d").ok();
    client.run("ML.FIELDLIST gone CLEAR").ok();
    client.run("ML.FIELDLIST gone CLEAR").ok();
    assert_eq!(tap.names(&mut client), ["ML.APPLYFIELDLISTS"; 4]);
    replica.catch_up(&server);
    let mut reader = replica.client();
    assert_eq!(lists(&mut reader), ["one: a b", "two: c"]);
    client.run("ML.FEATURESET u FIELDS @one 1 2").integer();
    replica.catch_up(&server);
    assert_eq!(reader.run("ML.FEATUREGET 1 u FIELDS @one").items()[0].texts(), ["1", "2"]);
    assert!(reader.run("ML.FIELDLIST one x").error().starts_with("READONLY"));
    // Whoever reads features need not be an administrator.
    client.run("ACL SETUSER app on >pass ~* +ml.featureget").ok();
    client.run("AUTH app pass").ok();
    assert_eq!(client.run("ML.FEATUREGET 1 u FIELDS @one").items()[0].texts(), ["1", "2"]);
    assert!(client.run("ML.FIELDLIST one x").error().starts_with("NOPERM"));
}

#[test]
fn lists_are_kept_with_the_data_set() {
    const AOF: &str = "appendonly yes\nappendfsync always\n";
    const COMMANDS_ONLY: &str = "appendonly yes\nappendfsync always\naof-use-rdb-preamble no";
    for (config, rewritten, written, stop) in [
        ("", false, "", Stop::Save),
        (AOF, false, "", Stop::Kill),
        (AOF, true, "", Stop::Kill),
        (COMMANDS_ONLY, false, "", Stop::Kill),
        (COMMANDS_ONLY, true, "ML.CACHESET k v x", Stop::Kill),
        (COMMANDS_ONLY, true, "ML.FEATURESET k FIELDS 1 a 1", Stop::Kill),
    ] {
        let mut server = Server::with(config);
        let mut client = server.client();
        client.run("ML.FIELDLIST one a b").ok();
        call!(client, "ML.FIELDLIST", "n".repeat(255), "", "x\r\n\0", "y".repeat(65_535)).ok();
        client.run("ML.CACHEVERSIONSET m v").ok();
        if !written.is_empty() {
            assert!(!client.run(written).is_error());
        }
        let before = lists(&mut client);
        let context = format!("{config:?}, rewritten: {rewritten}, {written:?}, {stop:?}");
        // Twice, so that what was loaded is saved in its turn.
        for _ in 0..2 {
            if rewritten {
                server.client().rewrite_aof();
            }
            server.restart(stop);
            assert_eq!(lists(&mut server.client()), before, "{context}");
            assert_eq!(server.client().run("ML.CACHEVERSION m").texts(), ["v"], "{context}");
        }
        let mut client = server.client();
        client.run("FLUSHALL").ok();
        assert_eq!(lists(&mut client), before, "a list is no key");
    }
    // What is loaded says which there are.
    let server = Server::start();
    let mut client = server.client();
    client.run("SAVE").ok();
    client.run("ML.FIELDLIST later a").ok();
    client.run("DEBUG RELOAD NOSAVE").ok();
    assert_eq!(lists(&mut client), [""; 0]);
}
