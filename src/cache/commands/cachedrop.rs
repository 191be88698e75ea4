//! ML.CACHEDROP: answers dropped, or made stale.

use super::arguments::{KEY, VERSION, version};
use super::store::commit;
use crate::cache::answer::Answer;
use crate::cache::change::decide_drop;
use crate::cache::leases;
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::MICROS_PER_MILLI;

/// ML.CACHEDROP
pub const COMMAND: Command = Command {
    name: c"ML.CACHEDROP",
    run: handler(drop_answers),
    flags: c"write fast",
    categories: c"write fast",
    arity: -2,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[
        KEY,
        VERSION.after(c"VERSION").optional(),
        Argument::token(c"stale", c"STALE").optional(),
    ],
    summary: c"Drops the answers of a key, or makes them stale.",
    complexity: c"O(log(N)) where N is the number of open leases.",
    since: c"0.1.0",
};

/// The options of ML.CACHEDROP.
struct DropOptions<'a> {
    /// The one version to drop; else all.
    version: Option<&'a [u8]>,
    /// Whether what is fresh is made stale instead.
    stale: bool,
}

impl<'a> DropOptions<'a> {
    /// `[VERSION version] [STALE]`
    fn parse(args: &mut Args<'a>) -> Result<Self, Error> {
        let mut drop = Self { version: None, stale: false };
        let mut options = args.options();
        while let Some(option) = options.next(&["VERSION", "STALE"])? {
            match option {
                "VERSION" => drop.version = Some(version(options.value()?)?),
                _ => drop.stale = true,
            }
        }
        Ok(drop)
    }
}

/// ML.CACHEDROP key [VERSION version] [STALE]
fn drop_answers(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let options = DropOptions::parse(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let lock = call.lock();
    let open = call.keys.write(key);
    let (concerned, change) = {
        let answers = open.value_ref::<Answer>()?;
        decide_drop(answers.as_deref(), options.version, options.stale, now_ms)
    };
    match change {
        Some(change) => commit(open, &change, None, None)?,
        None => drop(open),
    }
    leases::invalidate(&lock, call.db(), key.bytes(), options.version);
    leases::settle(&lock);
    call.reply.integer(concerned as i64);
    Ok(())
}
