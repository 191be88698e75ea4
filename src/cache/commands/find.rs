//! An answer, looked for and counted: what ML.CACHEGET and ML.CACHEMGET share.

use crate::cache::answer::Answer;
use crate::cache::counts::Counter;
use crate::cache::state;
use crate::server::{Arg, Lock, Reply};
use crate::time::Millis;

/// Which answer is looked for.
pub struct Wanted<'a> {
    /// Of which version.
    pub version: &'a [u8],
    /// Whether a stale one does.
    pub stale: bool,
    /// The time of the call.
    pub now_ms: Millis,
}

/// The answer of a version in force; counts a hit or a miss.
pub fn find<'e>(
    lock: &Lock,
    key: Arg,
    wanted: &Wanted,
    answers: Option<&'e Answer>,
) -> Option<&'e Answer> {
    let Wanted { version, stale, now_ms } = *wanted;
    state::with(lock, |state| {
        let mut tally = state.tally(key.bytes(), version);
        let found = answers
            .filter(|_| tally.is_in_force)
            .and_then(|answers| answers.answer(version))
            .filter(|answer| answer.lifetime().is_alive(now_ms));
        match found.filter(|answer| answer.lifetime().is_fresh(now_ms)) {
            Some(answer) => {
                tally.count(Counter::Hits, 1);
                tally.count(Counter::SavedMs, answer.lifetime().cost_ms.into());
                Some(answer)
            }
            None => {
                tally.count(Counter::Misses, 1);
                found.filter(|_| stale).inspect(|_| tally.count(Counter::Stale, 1))
            }
        }
    })
}

/// Answers the value, or nil.
pub fn reply_value(reply: Reply, found: Option<&Answer>) {
    match found {
        Some(answer) => reply.bytes(answer.value()),
        None => reply.null(),
    }
}
