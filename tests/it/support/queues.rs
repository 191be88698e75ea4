//! Callers of ML.ADMIT that wait to be let in, in their order.

use super::fetches::Crowd;
use super::rates::Admission;
use super::{Answer, Client, Server, call, wait_for};

/// A hold and a wait that are longer than any test.
pub const LONG: &str = "HOLD 600000 WAIT 600000";

/// An id of a caller's own.
pub const ID: &str = "0123456789abcdef0123456789abcdef";

/// How many wait on the node.
#[track_caller]
pub fn waiting(client: &mut Client) -> i64 {
    client.info("ml_admission_waiters").parse().unwrap()
}

/// How many a key holds up; there must be such a key.
#[track_caller]
pub fn held_up(client: &mut Client, key: &str) -> i64 {
    call!(client, "ML.LIMITINFO", key).map()["waiters"].integer()
}

/// Has one of a crowd call ML.ADMIT with these words, which must wait.
#[track_caller]
pub fn join(crowd: &mut Crowd, client: &mut Client, member: usize, words: &str) {
    let before = waiting(client);
    crowd.send(member, &format!("ML.ADMIT {words}"));
    wait_for(&format!("{words} to wait"), || waiting(client) == before + 1);
}

/// A crowd that waits, one behind the other, each with words of its own.
#[track_caller]
pub fn queue(server: &Server, calls: &[&str]) -> Crowd {
    let (mut crowd, mut client) = (Crowd::of(server, calls.len()), server.client());
    for (member, words) in calls.iter().enumerate() {
        join(&mut crowd, &mut client, member, words);
    }
    crowd
}

/// Waits until one has its answer, to ML.ADMIT.
#[track_caller]
pub fn told(crowd: &mut Crowd, member: usize) -> Admission {
    crowd.look_until(&format!("an answer of {member}"), |crowd| crowd.is_answered(member));
    Admission::of(crowd.last(member))
}

/// The id of a hold that must be granted.
#[track_caller]
pub fn hold(client: &mut Client, words: &str) -> String {
    Admission::ask(client, words).id.unwrap_or_else(|| panic!("denied: {words}"))
}

/// Ends a hold on a key, which must be open.
#[track_caller]
pub fn settle(client: &mut Client, key: &str, id: &str) {
    assert_eq!(call!(client, "ML.SETTLE", 1, key, id).integers(), [1], "{key}");
}

/// Nobody waits any more, nothing is kept of those who did, and the server is well.
#[track_caller]
pub fn assert_nobody_waits(server: &Server, context: &str) {
    let mut client = server.client();
    wait_for(&format!("those who left to be forgotten: {context}"), || waiting(&mut client) == 0);
    // There is room for a single one: what others took is free.
    let one = ["CONFIG SET ml.limit-max-waiter-bytes 65536", "CONFIG SET ml.limit-max-waiters 1"];
    one.iter().for_each(|set| client.run(set).ok());
    let key = format!("room:{}", context.replace(' ', "-"));
    let id = hold(&mut client, &format!("1 {key} PERMIT 1 HOLD 600000"));
    let mut crowd = queue(server, &[&format!("1 {key} PERMIT 1 {LONG}")]);
    settle(&mut client, &key, &id);
    let id = told(&mut crowd, 0).id.unwrap();
    settle(&mut client, &key, &id);
    for set in
        ["CONFIG SET ml.limit-max-waiter-bytes 67108864", "CONFIG SET ml.limit-max-waiters 65536"]
    {
        client.run(set).ok();
    }
    assert_eq!(waiting(&mut client), 0, "{context}");
    assert!(!server.log().contains("panic"), "{context}");
}
