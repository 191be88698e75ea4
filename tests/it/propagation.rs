//! A server that nobody listens to sends no effects. How those who begin to listen
//! get all that matters is in attach.rs.

use crate::attach::{be_quiet, effects_are_wanted};
use crate::support::{Answer, Client, Server, Tap};

#[test]
fn a_write_without_an_effect_counts_as_one() {
    let server = Server::start();
    let mut client = server.client();
    be_quiet(&mut client);
    let changes =
        |client: &mut Client| client.info("rdb_changes_since_last_save").parse::<u64>().unwrap();
    let before = changes(&mut client);
    client.run("ML.RATELIMIT key 1 60").integers();
    assert_eq!(changes(&mut client), before + 1);
    client.run("ML.RATELIMIT key 1 60").integers();
    assert_eq!(changes(&mut client), before + 1, "a denied one is none");
}

#[test]
fn effects_are_sent_from_the_moment_of_a_save_without_a_fork() {
    let server = Server::start();
    let mut client = server.client();
    be_quiet(&mut client);
    for save in ["SAVE", "DEBUG RELOAD"] {
        client.run("MULTI").ok();
        assert!(!client.run("ML.DEBUG EFFECTS WANTED").is_error());
        client.run("DISCARD").ok();
        be_quiet(&mut client);
        // In one turn of the server's loop, in which it does not look for listeners.
        let answers = client.run_all(&[save, "ML.DEBUG EFFECTS WANTED"]);
        assert_eq!(answers[1].integer(), 1, "{save}");
    }
    be_quiet(&mut client);
    let tap = Tap::on(&server);
    assert!(effects_are_wanted(&mut client));
    drop(tap);
}
