//! ML.CACHEMGET: the answers of several keys.

use super::arguments::{KEYS, NUMKEYS, VERSION, version};
use super::find::{Wanted, find, reply_value};
use crate::cache::answer::Answer;
use crate::server::{Call, Command, Error, KeyAccess, KeySpec, ReadKey, fetch, handler};
use crate::time::MICROS_PER_MILLI;
use arrayvec::ArrayVec;

/// ML.CACHEMGET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMGET",
    run: handler(mget),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -4,
    keys: Some(KeySpec::counted(1, KeyAccess::Read).multi_shard()),
    arguments: &[NUMKEYS, KEYS, VERSION],
    summary: c"Returns the answers that a version of the model gave, of several keys.",
    complexity: c"O(N) where N is the number of keys.",
    since: c"0.1.0",
};

/// How many keys are looked up before the first of them is read: as many as the
/// processor fetches at once, and few enough that the server has their handles ready.
const AHEAD: usize = 16;

/// ML.CACHEMGET numkeys key [key ...] version
fn mget(call: &mut Call) -> Result<(), Error> {
    let keys: Vec<_> = call.args.counted("numkeys", "keys")?.collect();
    let version = version(call.args.arg()?)?;
    call.args.end()?;
    let wanted = Wanted { version, stale: false, now_ms: call.now() / MICROS_PER_MILLI };
    let lock = call.lock();
    call.reply.array(keys.len());
    for keys in keys.chunks(AHEAD) {
        // The answers come from memory while further keys are looked up.
        let open: ArrayVec<_, AHEAD> = keys.iter().map(|key| call.keys.read(*key)).collect();
        // What is no answer has none, as MGET has it.
        let answers = |open| ReadKey::own::<Answer>(open).inspect(|all| fetch(all.address()));
        let answers: ArrayVec<_, AHEAD> = open.iter().map(answers).collect();
        for (key, answers) in keys.iter().zip(&answers) {
            reply_value(call.reply, find(&lock, *key, &wanted, answers.as_deref()));
        }
    }
    Ok(())
}
