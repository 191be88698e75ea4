//! ML.CACHEMSET: the answers of several keys, kept under the version that gave them.

use super::arguments::{KEY, NUMKEYS, VERSION, check_size, version};
use super::cacheset::{Permission, Set, permission};
use super::store::{Put, answer, put};
use crate::cache::answer::Answer;
use crate::cache::leases::{self, Place};
use crate::flights::arguments::TOKEN;
use crate::server::{Argument, Call, Command, Error, KeyAccess, KeySpec, handler, random_fraction};
use crate::terms::{JITTER, STALE};
use crate::time::MICROS_PER_MILLI;

/// ML.CACHEMSET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEMSET",
    run: handler(mset),
    flags: c"write deny-oom",
    categories: c"write",
    arity: -5,
    keys: Some(KeySpec::counted_pairs(1, KeyAccess::Write)),
    arguments: &[
        NUMKEYS,
        Argument::block(c"data", &[KEY, Argument::string(c"value")]).repeated(),
        VERSION,
        Argument::EXPIRATION.optional(),
        STALE.optional(),
        JITTER.optional(),
        TOKEN.after(c"TOKEN").optional(),
    ],
    summary: c"Keeps the answers that a version of the model gave, of several keys.",
    complexity: c"O(N) where N is the number of keys, and O(M) to wake M callers that wait.",
    since: c"0.1.0",
};

/// ML.CACHEMSET numkeys key value [key value ...] version
/// [EX s | PX ms | EXAT s | PXAT ms] [STALE ms] [JITTER percent] [TOKEN token]
fn mset(call: &mut Call) -> Result<(), Error> {
    let pairs = call.args.counted_pairs("numkeys", "keys, each with its value,")?;
    let version = version(call.args.arg()?)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, Set::WORDS_OF_MANY, now_ms)?;
    let (lock, db) = (call.lock(), call.db());
    for (key, value) in &pairs {
        check_size(*value)?;
        call.keys.read(*key).value_ref::<Answer>()?;
    }
    // All that can fail comes before the first is written.
    let mut answers = Vec::with_capacity(pairs.len());
    let mut outcomes = Vec::with_capacity(pairs.len());
    for (key, value) in &pairs {
        let place = Place { db, key: key.bytes(), version };
        let permission = permission(&lock, place, options.token);
        outcomes.push(!matches!(permission, Permission::Refused));
        answers.push(match permission {
            Permission::Set { cost_ms, token } => {
                let lifetime = options.terms.lifetime(random_fraction, cost_ms, now_ms);
                let made = Some(answer(version, *value, lifetime)?);
                Some(Put { value: *value, lifetime, token, made })
            }
            Permission::IsSet | Permission::Refused => None,
        });
    }
    for ((key, _), answer) in pairs.into_iter().zip(answers) {
        if let Some(answer) = answer {
            let place = Place { db, key: key.bytes(), version };
            put(call.keys.write(key), &lock, place, answer, now_ms)?;
        }
    }
    leases::settle(&lock);
    call.reply.array(outcomes.len());
    for is_set in outcomes {
        if is_set {
            call.reply.ok();
        } else {
            call.reply.null();
        }
    }
    Ok(())
}
