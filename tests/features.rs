//! ML.FEATURES: fields of an entity, in the order asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use redis::Value;
use support::{Answer, Client, Server, Tap, bulk, call, nils, wait_for};

#[test]
fn the_article_s_user_comes_back_in_the_order_asked_for() {
    let server = Server::start();
    for mut client in [server.client(), server.client3()] {
        client.run("HSET user:123 age 34 country DE avg_basket 84.50 clicks 17");
        let answer = client.run("ML.FEATURES user:123 country age avg_basket");
        assert_eq!(answer, Value::Array(vec![bulk("DE"), bulk("34"), bulk("84.50")]));
        let answer = client.run("ML.FEATURES user:123 clicks missing age clicks AGE");
        let expected = [bulk("17"), Value::Nil, bulk("34"), bulk("17"), Value::Nil];
        assert_eq!(answer, Value::Array(expected.to_vec()), "a missing field is nil");
        assert_eq!(client.run("ML.FEATURES user:9 a b a"), nils(3), "so are all of no entity");
    }
}

/// Whether ML.FEATURES answers as HMGET does, which it does for any hash.
fn assert_like_hmget(client: &mut Client, key: &[u8], fields: &[Vec<u8>]) {
    let expected = call!(client, "HMGET", key, fields);
    let answer = call!(client, "ML.FEATURES", key, fields);
    assert!(answer == expected, "{} fields of {:?}", fields.len(), String::from_utf8_lossy(key));
}

#[test]
fn few_and_many_fields_of_small_and_large_hashes_are_read_alike() {
    let server = Server::start();
    let mut client = server.client();
    for size in [1, 100, 3_000] {
        let key = format!("h{size}");
        for field in 0..size {
            call!(client, "HSET", &key, format!("f{field}"), format!("value {field}"));
        }
        let encoding = if size <= 100 { "listpack" } else { "hashtable" };
        assert_eq!(client.run(&format!("OBJECT ENCODING {key}")).text(), encoding);
        for asked in [1, 2, 7, 300, 5_000] {
            // Present and missing ones, backwards, and some of them twice.
            let field =
                |at: usize| format!("f{}", (at * 7919) % (size + size / 2 + 1)).into_bytes();
            let fields: Vec<_> = (0..asked).rev().map(field).collect();
            assert_like_hmget(&mut client, key.as_bytes(), &fields);
        }
    }
}

#[test]
fn keys_fields_and_values_are_any_bytes() {
    let server = Server::start();
    let mut client = server.client();
    let strange: [&[u8]; 7] =
        [b"", b"\0", b"a\0b", b"\xff\xfe", b" ", b"line\r\nend", &[b'x'; 100_000]];
    for key in strange {
        for (field, value) in strange.iter().zip(strange.iter().rev()) {
            call!(client, "HSET", key, *field, *value).integer();
        }
        let mut fields: Vec<_> = strange.iter().map(|field| field.to_vec()).collect();
        fields.push(b"a".to_vec());
        assert_like_hmget(&mut client, key, &fields);
        assert!(
            call!(client, "ML.FEATURES", key, b"") == Value::Array(vec![bulk([b'x'; 100_000])])
        );
    }
    // Numbers that the server keeps as integers.
    client.run("HSET n a 12 b -9223372036854775808 c 007 d 1e5");
    let answer = client.run("ML.FEATURES n a b c d").texts();
    assert_eq!(answer, ["12", "-9223372036854775808", "007", "1e5"]);
}

#[test]
fn reading_changes_nothing_and_works_on_a_replica() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET h f v");
    let replica = server.replica("");
    assert_eq!(replica.client().run("ML.FEATURES h f g").items(), [bulk("v"), Value::Nil]);
    let mut tap = Tap::on(&server);
    let before = client.footprint();
    client.run("ML.FEATURES h f");
    client.run("ML.FEATURES missing f");
    assert_eq!(client.footprint(), before);
    assert_eq!(tap.names(&mut client), [""; 0]);

    let mut tracker = server.client3();
    tracker.run("CLIENT TRACKING ON").ok();
    tracker.run("ML.FEATURES h f");
    client.run("HSET h f w");
    assert_eq!(tracker.pushes().len(), 1, "client-side caches see what they have read");
}

#[test]
fn an_expired_entity_has_no_fields() {
    let server = Server::start();
    let mut client = server.client();
    client.run("HSET h f v");
    client.run("PEXPIRE h 1");
    wait_for("the key to go", || client.run("ML.FEATURES h f") == nils(1));
}

#[test]
fn an_expired_field_is_not_found_where_fields_can_expire() {
    let server = Server::start();
    let mut client = server.client();
    if !client.knows("HPEXPIRE") {
        println!("not applicable: this server has no HPEXPIRE");
        return;
    }
    for key in ["small", "large"] {
        for field in 0..if key == "small" { 3 } else { 1_000 } {
            call!(client, "HSET", key, format!("f{field}"), field);
        }
        let set = call!(client, "HPEXPIRE", key, 1, "FIELDS", 1, "f1").integers();
        assert_eq!(set, [1]);
        let call = format!("ML.FEATURES {key} f0 f1 f2");
        let expected = Value::Array(vec![bulk("0"), Value::Nil, bulk("2")]);
        wait_for("the field to go", || client.run(&call) == expected);
    }
}
