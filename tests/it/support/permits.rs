//! Calls of the permit commands, their answers taken apart.

use super::{Answer, Client, call};
use redis::Value;

/// A call for a permit: its numbers, and the id if it was granted.
pub fn acquire(client: &mut Client, arguments: &str) -> ([i64; 4], Option<String>) {
    let answer = client.run(&format!("ML.PERMITACQUIRE {arguments}")).items();
    let [numbers @ .., id] = &answer[..] else { panic!("nothing answered") };
    let numbers: Vec<_> = numbers.iter().map(Answer::integer).collect();
    (numbers.try_into().unwrap(), (*id != Value::Nil).then(|| id.text()))
}

/// The id of a permit that must be granted.
#[track_caller]
pub fn granted(client: &mut Client, arguments: &str) -> String {
    acquire(client, arguments).1.expect("denied")
}

/// Whether a permit was renewed: 1 or 0.
pub fn renew(client: &mut Client, key: &str, id: &str, ttl_ms: u64) -> i64 {
    call!(client, "ML.PERMITRENEW", key, id, ttl_ms).integer()
}

/// Whether a permit was given back: 1 or 0.
pub fn release(client: &mut Client, key: &str, id: &str) -> i64 {
    call!(client, "ML.PERMITRELEASE", key, id).integer()
}

/// What is in use, and the permits open: cost and time left of each.
pub fn info(client: &mut Client, key: &str) -> Option<(i64, Vec<(i64, i64)>)> {
    let answer = call!(client, "ML.PERMITINFO", key);
    (answer != Value::Nil).then(|| {
        let info = answer.map();
        let permits = info["permits"].items();
        let permits = permits.iter().map(Answer::map);
        let permits = permits.map(|of| (of["cost"].integer(), of["ttl_ms"].integer()));
        (info["in_use"].integer(), permits.collect())
    })
}
