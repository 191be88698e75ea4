//! ML.SERVE: a request to a model, served in one call.

use super::request::{Request, updated};
use super::stats::{Ending, count};
use crate::admission;
use crate::bug;
use crate::cache::{self, Fetched, Left};
use crate::features::{self, Listed};
use crate::ratelimit::arguments::HOLD;
use crate::server::{
    Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler_updating, is_over_maxmemory,
};
use crate::time::MICROS_PER_MILLI;

/// ML.SERVE
pub const COMMAND: Command = Command {
    name: c"ML.SERVE",
    run: handler_updating(serve, updated),
    flags: c"write",
    categories: c"write",
    arity: -3,
    keys: Some(KeySpec::counted(1, KeyAccess::Varies)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        Argument::block(c"admission", &[admission::ITEMS, HOLD]).after(c"ADMIT").optional(),
        Argument::block(c"cache", cache::PART).after(c"CACHE").optional(),
        Argument::block(c"features", features::ARGUMENTS).after(c"FEATURES").optional(),
    ],
    summary: c"Lets a request in, and returns its answer, or the features to compute it from.",
    complexity: c"O(N) where N is what the commands of its parts take together.",
    since: c"0.1.0",
};

/// ML.SERVE numkeys key [key ...] [ADMIT item [item ...] [HOLD ms [ID id]]]
/// [CACHE version LEASE ms [EARLY beta] [TOKEN token] [FREEHITS]]
/// [FEATURES FIELDS m field [field ...] ...]
///
/// `[admission | nil, fetch | nil, features | nil]`, each as its own command answers it.
fn serve(call: &mut Call) -> Result<(), Error> {
    let words = call.args;
    let (now_us, lock, reply) = (call.now(), call.lock(), call.reply);
    let now_ms = now_us / MICROS_PER_MILLI;
    let listed = Listed::new(call.lock(), &call.kept);
    let request = Request::parse(&mut call.args, &listed, now_us)?;
    cache::settle(&lock);
    let mut left = Left::All;
    if let Some((part, key)) = &request.cache {
        let asked = part.ask_first(call, *key, now_ms, |fetched| {
            reply.array(3);
            reply.null();
            end_by(reply, fetched);
            reply.null();
        })?;
        match asked {
            Some(is_left) => left = is_left,
            None => return Ok(()),
        }
    }
    let admission = match &request.admission {
        None => None,
        Some(_) if is_over_maxmemory(&lock) => return Err(Error::OutOfMemory),
        Some(request) => {
            let decided = admission::admit(call, request, words, now_us)?;
            Some((decided.unwrap_or_else(|| bug("a request in one call waits")), request.hold))
        }
    };
    let is_admitted = admission.as_ref().is_none_or(|(decided, _)| decided.is_admitted);
    // What can fail comes before the first byte: an answer is begun once the cache was asked.
    let begin = || {
        reply.array(3);
        match &admission {
            None => reply.null(),
            Some((decided, hold)) => decided.reply(reply, *hold),
        }
    };
    let is_to_compute = match &request.cache {
        Some((part, key)) if is_admitted => part.answer(call, *key, now_ms, left, |fetched| {
            begin();
            end_by(reply, fetched);
        }),
        // Hits are free: who is to compute one early and may not has it all the same.
        Some((part, key)) if part.has_free_hits() => {
            part.serve_denied(call, *key, now_ms, |fetched| match fetched {
                Some(hit @ Fetched::Hit(..)) => {
                    reply.array(3);
                    reply.null();
                    end_by(reply, hit);
                }
                Some(stale) => {
                    begin();
                    end_by(reply, stale);
                }
                None => {
                    count(Ending::Denied);
                    begin();
                    reply.null();
                }
            });
            false
        }
        _ => {
            count(if is_admitted { Ending::ToCompute } else { Ending::Denied });
            begin();
            reply.null();
            is_admitted
        }
    };
    match &request.features {
        Some(features) if is_to_compute => {
            if let Err(error) = features.answer(call, now_us) {
                reply.error(&error);
            }
        }
        _ => reply.null(),
    }
    Ok(())
}

/// Answers what the cache says, and counts the call by it.
fn end_by(reply: Reply, fetched: &Fetched) {
    count(fetched.into());
    cache::reply_fetched(reply, fetched);
}
