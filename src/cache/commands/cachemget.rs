//! ML.CACHEMGET: the answers of several keys.

use super::arguments::{KEYS, VERSION, version};
use super::find::{find, reply_value};
use crate::cache::answer::Answer;
use crate::server::{Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;
use arrayvec::ArrayVec;

/// ML.CACHEMGET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMGET",
    run: handler(mget),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -3,
    keys: Some(KeySpec::to_the_end(2, 1, KeyAccess::Read)),
    arguments: &[VERSION, KEYS],
    summary: c"Returns the answers that a version of the model gave, of several keys.",
    complexity: c"O(N) where N is the number of keys.",
    since: c"0.1.0",
};

/// How many keys are looked up before the first of them is read.
const AHEAD: usize = 16;

/// ML.CACHEMGET version key [key ...]
fn mget(call: &mut Call) -> Result<(), Error> {
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let lock = call.lock();
    let mut keys = call.args.remaining();
    call.reply.array(keys.len());
    while keys.len() > 0 {
        // The answers come from memory while further keys are looked up.
        let ahead: ArrayVec<_, AHEAD> = keys.by_ref().take(AHEAD).collect();
        let open: ArrayVec<_, AHEAD> = ahead
            .iter()
            .map(|key| {
                let open = call.read(*key);
                open.prefetch::<Answer>();
                open
            })
            .collect();
        for (key, open) in ahead.iter().zip(&open) {
            // What is no entry has no answer, as MGET has it.
            let entry = open.value_ref::<Answer>().unwrap_or_default();
            reply_value(call.reply, find(&lock, *key, version, entry.as_deref(), now_ms));
        }
    }
    Ok(())
}
