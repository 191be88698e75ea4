//! Calls for permits, one key a call, their answers taken apart.

use super::rates::{Admission, Info};
use super::{Answer, Client, call};

/// The call for a permit, of `key max ms [COST cost]`.
pub fn admit(arguments: &str) -> String {
    let words: Vec<_> = arguments.splitn(4, ' ').collect();
    let [key, max, ttl_ms, options @ ..] = &words[..] else { panic!("too few: {arguments}") };
    format!("ML.ADMIT 1 {key} PERMIT {max} {} HOLD {ttl_ms}", options.concat()).replace("  ", " ")
}

/// Asks for a permit, by `key max ms [COST cost]`: `granted limit remaining
/// retry_after_ms reset_after_ms`, and the id if it was granted.
#[track_caller]
pub fn acquire(client: &mut Client, arguments: &str) -> ([i64; 5], Option<String>) {
    let admission = Admission::of(&client.run(&admit(arguments)));
    (admission.rows[0].figures(), admission.id)
}

/// The id of a permit that must be granted.
#[track_caller]
pub fn granted(client: &mut Client, arguments: &str) -> String {
    acquire(client, arguments).1.expect("denied")
}

/// Whether a hold on a key was renewed: 1 or 0.
#[track_caller]
pub fn renew(client: &mut Client, key: &str, id: &str, ttl_ms: u64) -> i64 {
    call!(client, "ML.RENEW", 1, key, id, ttl_ms).integers()[0]
}

/// Whether a permit was given back: 1 or 0.
#[track_caller]
pub fn release(client: &mut Client, key: &str, id: &str) -> i64 {
    call!(client, "ML.SETTLE", 1, key, id).integers()[0]
}

/// What is in use, and the permits open: cost and time left of each.
#[track_caller]
pub fn info(client: &mut Client, key: &str) -> Option<(i64, Vec<(i64, i64)>)> {
    let info = Info::of(client, key)?;
    let permits = info.holds.into_iter().map(|hold| (hold.cost, hold.ttl_ms));
    Some((info.in_use.expect("in_use"), permits.collect()))
}
