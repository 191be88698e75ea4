//! ML.RATELIMIT: a call's cost, taken from a limit if it fits.

use super::arguments::{ALGORITHM, COST, FORCE, LIMITS, PEEK, RESERVE, options, plain, policy};
use super::store::{carry_out, check_room, decide};
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::{MAX_WINDOWS, Policies};
use crate::ratelimit::request::Request;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse,
};

/// ML.RATELIMIT
pub const COMMAND: Command = Command {
    name: c"ML.RATELIMIT",
    run: handler(ratelimit),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -4,
    keys: Some(KeySpec::one(1, KeyAccess::Update)),
    arguments: &[
        Argument::key(c"key"),
        LIMITS,
        ALGORITHM,
        Argument::integer(c"burst").after(c"BURST").optional(),
        COST,
        Argument::one_of(c"mode", &[PEEK, Argument::token(c"partial", c"PARTIAL"), FORCE])
            .optional(),
        RESERVE,
    ],
    summary: c"Takes a call's cost from a limit if it fits, and says how long to wait if not.",
    complexity: c"O(1); O(N) where N reservations are open on the key.",
    since: c"0.1.0",
};

/// `limit window [limit window ...]` and the options.
fn parse(args: &mut Args) -> Result<Request, Error> {
    const OPTIONS: &[&str] = &["COST", "PEEK", "PARTIAL", "FORCE", "ALGORITHM", "BURST", "RESERVE"];
    let mut request = plain(Policies::new());
    let policies = &mut request.policies;
    while policies.is_empty() || args.peek().is_some_and(is_number) {
        let policy = policy(args)?;
        if policies.iter().any(|other| other.window_us == policy.window_us) {
            return Err(refuse("window is given twice: each must be of another length"));
        }
        policies.try_push(policy).map_err(|_| {
            refuse(format!("limit and window may be given at most {MAX_WINDOWS} times"))
        })?;
    }
    options(args, OPTIONS, &mut request)?;
    Ok(request)
}

/// A number where a limit may stand: options are words.
fn is_number(arg: Arg) -> bool {
    matches!(arg.bytes(), [b'0'..=b'9' | b'-' | b'+' | b'.', ..])
}

/// ML.RATELIMIT key limit window [limit window ...] [ALGORITHM a] [BURST n]
/// [COST n] [PEEK | PARTIAL | FORCE] [RESERVE ms]
fn ratelimit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (now_us, lock) = (call.now(), call.lock());
    // The limiter comes from memory while the other arguments are read.
    let mut open = call.keys.write(key);
    open.prefetch::<Box<Limiter>>();
    let request = parse(&mut call.args)?;
    let decision = decide(open.value::<Limiter>()?.as_deref(), &request, now_us)?;
    check_room(&decision, &request)?;
    carry_out(&lock, key, open, &request, &decision, now_us)?.reply(call.reply);
    Ok(())
}
