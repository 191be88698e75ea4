//! ML.CACHEDROP: answers dropped, or made stale.

use super::arguments::{KEY, VERSION, version};
use super::store::{change_answers, replicate};
use crate::cache::answer::Answer;
use crate::cache::codec::Change;
use crate::cache::flights::Place;
use crate::cache::lifetime::Lifetime;
use crate::cache::state;
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, monotonic, new_id,
};
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
    complexity: c"O(1)",
    since: c"0.1.0",
};

/// The options of ML.CACHEDROP.
struct DropOptions<'a> {
    /// The one version to drop; else all.
    pub version: Option<&'a [u8]>,
    /// Whether what is fresh is made stale instead.
    pub stale: bool,
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
    let mut open = call.write(key);
    let concerned: Vec<(Box<[u8]>, Lifetime)> = {
        let entry = open.value_ref::<Answer>()?;
        let asked = |answer: &&Answer| {
            let lifetime = answer.lifetime();
            let serves =
                if options.stale { lifetime.is_fresh(now_ms) } else { lifetime.is_alive(now_ms) };
            serves && options.version.is_none_or(|version| answer.version() == version)
        };
        let asked = entry.as_deref().into_iter().flat_map(Answer::answers).filter(asked);
        asked
            .map(|answer| (answer.version().into(), answer.lifetime().made_stale(now_ms)))
            .collect()
    };
    let mut versions = concerned.iter().map(|(version, lifetime)| (version.as_ref(), *lifetime));
    let change = match options.stale {
        true => Change::Retime(versions.collect()),
        false => Change::Drop(versions.by_ref().map(|(version, _)| version).collect()),
    };
    if !concerned.is_empty() {
        change_answers(&mut open, &change)?;
    }
    drop(open);
    if !concerned.is_empty() {
        replicate(call, key, &change, None);
    }
    state::act(&lock, |state| {
        if state.flights.count() > 0 {
            let place = Place::new(call.db(), key.bytes());
            state.flights.void(&place, options.version, monotonic(), &mut new_id);
        }
    });
    call.reply.integer(concerned.len() as i64);
    Ok(())
}
