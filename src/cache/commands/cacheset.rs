//! ML.CACHESET: an answer, kept under the version that gave it.

use super::arguments::{KEY, VERSION, check_size, version};
use super::store::{Put, put};
use crate::cache::answer::Answer;
use crate::cache::config::TTL;
use crate::cache::counts::Counter;
use crate::cache::leases::{self, Place};
use crate::cache::state;
use crate::flights::arguments::{self, TOKEN};
use crate::flights::took_ms;
use crate::id::Id;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Lock, handler, random_fraction,
    refuse,
};
use crate::singleflight::Standing;
use crate::terms::{JITTER, STALE, Terms};
use crate::time::{MICROS_PER_MILLI, MILLIS_PER_SECOND, Millis};
use serde::de::IgnoredAny;

/// ML.CACHESET
pub const COMMAND: Command = Command {
    name: c"ML.CACHESET",
    run: handler(set),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[
        KEY,
        VERSION,
        Argument::string(c"value"),
        Argument::EXPIRATION.optional(),
        STALE.optional(),
        JITTER.optional(),
        TOKEN.after(c"TOKEN").optional(),
        Argument::token(c"json", c"JSON").optional(),
    ],
    summary: c"Keeps the answer that a version of the model gave.",
    complexity:
        c"O(log(N)) where N is the number of open leases, and O(M) to wake M callers that wait.",
    since: c"0.1.0",
};

/// The options of ML.CACHESET and ML.CACHEMSET.
pub struct Set<'a> {
    /// How long the answer is to hold.
    pub terms: Terms,
    /// The lease that it is set under, if under one.
    pub token: Option<Arg<'a>>,
    /// Whether the value must be JSON.
    pub json: bool,
}

impl<'a> Set<'a> {
    /// The words of ML.CACHESET.
    const WORDS: &'static [&'static str] =
        &["EX", "PX", "EXAT", "PXAT", "STALE", "JITTER", "TOKEN", "JSON"];

    /// The words of ML.CACHEMSET.
    pub const WORDS_OF_MANY: &'static [&'static str] =
        &["EX", "PX", "EXAT", "PXAT", "STALE", "JITTER", "TOKEN"];

    /// `[EX s | PX ms | EXAT s | PXAT ms] [STALE ms] [JITTER percent]
    /// [TOKEN token] [JSON]`, of these `words`.
    pub fn parse(
        args: &mut Args<'a>,
        words: &[&'static str],
        now_ms: Millis,
    ) -> Result<Self, Error> {
        let expires_at_ms = now_ms.saturating_add(TTL.get_unsigned() * MILLIS_PER_SECOND);
        let mut set = Self { terms: Terms::until(expires_at_ms), token: None, json: false };
        let mut options = args.options();
        while let Some(option) = options.next(words)? {
            match option {
                "TOKEN" => set.token = Some(options.value()?),
                "JSON" => set.json = true,
                term => set.terms.read(term, &mut options, words, now_ms)?,
            }
        }
        Ok(set)
    }
}

/// Refuses a value that is not one JSON document (RFC 8259, in UTF-8).
fn check_json(value: Arg) -> Result<(), Error> {
    let not_json = |why: String| refuse(format!("value must be a JSON document: {why}"));
    let text = std::str::from_utf8(value.bytes()).map_err(|error| not_json(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(error.to_string()))?;
    Ok(())
}

/// ML.CACHESET key version value [EX s | PX ms | EXAT s | PXAT ms] [STALE ms]
/// [JITTER percent] [TOKEN token] [JSON]
fn set(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let value = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, Set::WORDS, now_ms)?;
    check_size(value)?;
    if options.json {
        check_json(value)?;
    }

    let lock = call.lock();
    let place = Place { db: call.db(), key: key.bytes(), version };
    // Opening a key may take away what is over, and leases with it: only then is
    // it asked who holds one. Before anything is settled, which would hand the lease
    // of a holder that is late to another, and have that compute for nothing.
    let open = call.keys.write(key);
    open.value_ref::<Answer>()?;
    match permission(&lock, place, options.token) {
        Permission::Set { cost_ms, token } => {
            let lifetime = options.terms.lifetime(random_fraction, cost_ms, now_ms);
            put(open, &lock, place, Put { value, lifetime, token, made: None }, now_ms)?;
            leases::settle(&lock);
            call.reply.ok();
        }
        Permission::IsSet => call.reply.ok(),
        Permission::Refused => call.reply.null(),
    }
    Ok(())
}

/// Whether an answer may be set.
pub enum Permission {
    /// It may.
    Set {
        /// What computing it took, in milliseconds; 0 where nobody knows.
        cost_ms: u32,
        /// The lease it is set under, if under one.
        token: Option<Id>,
    },
    /// It has been, by this very call, whose answer was lost.
    IsSet,
    /// It may not, which is counted.
    Refused,
}

/// Whether an answer may be set, by the holder of a token if one is given.
pub fn permission(lock: &Lock, place: Place, token: Option<Arg>) -> Permission {
    let standing = match token.map(arguments::token) {
        None => None,
        Some(None) => Some(Standing::Nobody),
        Some(Some(token)) => Some(leases::standing(lock, place, token)),
    };
    let (cost_ms, is_late) = match standing {
        _ if !state::admits(lock, place.key, place.version) => (None, false),
        None => (Some(0), false),
        Some(Standing::Nobody) => (None, false),
        Some(Standing::Completed) => return Permission::IsSet,
        Some(Standing::Holder { since, is_late }) => (Some(took_ms(since)), is_late),
    };
    let Some(cost_ms) = cost_ms else {
        state::tally(lock, place.key, place.version, Counter::RefusedSets, 1);
        return Permission::Refused;
    };
    if is_late {
        state::tally(lock, place.key, place.version, Counter::LateSets, 1);
    }
    Permission::Set { cost_ms, token: token.and_then(arguments::token) }
}
