//! A fresh answer, looked for and counted: what ML.CACHEGET and ML.CACHEMGET share.

use crate::cache::answer::Answer;
use crate::cache::namespaces::Statistic;
use crate::cache::state;
use crate::cache::stats::count;
use crate::server::{Arg, Lock, Reply};
use crate::time::Millis;

/// The fresh answer of a version in force; counts a hit or a miss.
pub fn find<'e>(
    lock: &Lock,
    key: Arg,
    version: &[u8],
    entry: Option<&'e Answer>,
    now_ms: Millis,
) -> Option<&'e Answer> {
    state::with(lock, |state| {
        let namespace = state.namespace(key.bytes());
        let found = entry
            .filter(|_| namespace.admits(version))
            .and_then(|entry| entry.get(version, now_ms));
        match found {
            Some(answer) => {
                count(namespace, Statistic::Hits, 1);
                count(namespace, Statistic::SavedMs, answer.lifetime().cost_ms.into());
            }
            None => count(namespace, Statistic::Misses, 1),
        }
        found
    })
}

/// Answers the value, or nil.
pub fn reply_value(reply: Reply, found: Option<&Answer>) {
    match found {
        Some(answer) => reply.bytes(answer.value()),
        None => reply.null(),
    }
}
