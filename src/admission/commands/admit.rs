//! ML.ADMIT: a call let in by the limits and the permits of several keys, or by none.

use crate::admission::asked::{Decided, decide};
use crate::admission::request::Request;
use crate::admission::waiting;
use crate::ratelimit::arguments::{ALGORITHM, BURST, COST, FORCE, HOLD, LIMITS, PEEK};
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::Micros;

/// ML.ADMIT
pub const COMMAND: Command = Command {
    name: c"ML.ADMIT",
    run: handler(run),
    flags: c"write deny-oom blocking",
    categories: c"write blocking",
    arity: -5,
    keys: Some(KeySpec::counted(1, KeyAccess::Update)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        ITEMS,
        HOLD,
        Argument::one_of(c"mode", &[PEEK, FORCE]).optional(),
        Argument::block(
            c"wait",
            &[
                Argument::integer(c"milliseconds").after(c"WAIT"),
                Argument::integer(c"priority").after(c"PRIORITY").optional(),
            ],
        )
        .optional(),
    ],
    summary: c"Lets a call in if it fits the limits and permits of all keys, or takes nothing.",
    complexity: c"O(N) where N is the number of keys, and the logarithm of the holds open on each; where permits are denied, also how many of them are to end first.",
    since: c"0.1.0",
};

/// What is asked of each key.
pub const ITEMS: Argument = Argument::one_of(
    c"item",
    &[
        Argument::block(
            c"limit",
            &[Argument::token(c"limit", c"LIMIT"), LIMITS, ALGORITHM, BURST, COST, QUEUE],
        ),
        Argument::block(
            c"permit",
            &[Argument::token(c"permit", c"PERMIT"), Argument::integer(c"max"), COST, QUEUE],
        ),
    ],
)
.repeated();

/// `[QUEUE n]`
const QUEUE: Argument = Argument::integer(c"length").after(c"QUEUE").optional();

/// ML.ADMIT numkeys key [key ...] item [item ...] [HOLD ms [ID id]] [PEEK | FORCE]
/// [WAIT ms [PRIORITY n]]
fn run(call: &mut Call) -> Result<(), Error> {
    let words = call.args;
    let now_us = call.now();
    let request = Request::parse(&mut call.args, now_us)?;
    if let Some(decided) = admit(call, &request, words, now_us)? {
        decided.reply(call.reply, request.hold);
    }
    Ok(())
}

/// Lets a call in, or denies it, and tells everybody; `None` where it waits. `words` are
/// those that it was made with.
pub fn admit<'r, 'a>(
    call: &mut Call<'a>,
    request: &'r Request<'a>,
    words: Args<'a>,
    now_us: Micros,
) -> Result<Option<Decided<'r>>, Error> {
    let (lock, db) = (call.lock(), call.db());
    let queued = waiting::Queued::of(db, request, words);
    let mut open = call.keys.write_all(&request.keys);
    let mut decided = decide(&open, request, now_us, &|key| queued.held_back(&lock, key))?;
    if let Some(binding) = decided.binding()
        && request.wait_ms > 0
    {
        drop(open);
        if queued.wait(call, request, binding) {
            decided.rewind(&mut call.keys, request)?;
            return Ok(None);
        }
        open = call.keys.write_all(&request.keys);
    }
    if let Some(key) = decided.held_back_at().and_then(|at| request.keys.get(at)) {
        waiting::look_at(&lock, db, key.bytes());
    }
    decided.carry_out(open, now_us)?;
    decided.tell(&lock, &mut call.keys, request, now_us);
    if let Some(id) = decided.opened(request.hold) {
        waiting::is_admitted(&lock, db, id);
    }
    Ok(Some(decided))
}
