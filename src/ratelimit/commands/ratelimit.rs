//! ML.RATELIMIT: a call's cost, taken from a limit if it fits.

use super::arguments::{
    ALGORITHM, BURST, COST, FORCE, HOLD, HoldOptions, LIMITS, PEEK, check_force, limit_option,
    limits, plain, policy,
};
use super::store::{apply, charge_one, check_room, count, count_allowed, decide};
use crate::allowance::Allowance;
use crate::ratelimit::common::charge_of;
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::Algorithm;
use crate::ratelimit::request::{Mode, Request};
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Lives, Reply, fetch, handler,
};
use crate::time::Micros;
use std::iter;

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
        BURST,
        COST,
        Argument::one_of(c"mode", &[PEEK, Argument::token(c"partial", c"PARTIAL"), FORCE])
            .optional(),
        HOLD,
    ],
    summary: c"Takes a call's cost from a limit if it fits, and says how long to wait if not.",
    complexity: c"O(1); O(log(N)) where N holds are open on the key.",
    since: c"0.1.0",
};

/// `limit window [limit window ...]` and the options.
fn parse(args: &mut Args, now_us: Micros) -> Result<Request, Error> {
    const KNOWN: &[&str] =
        &["COST", "PEEK", "PARTIAL", "FORCE", "ALGORITHM", "BURST", "HOLD", "ID"];
    const MODES: &[&str] = &["PEEK", "PARTIAL", "FORCE"];
    let mut request = plain();
    limits(args, now_us, &mut request.policies)?;
    let mut hold = HoldOptions::default();
    let mut options = args.options();
    while let Some(option) = options.next(KNOWN)? {
        match option {
            "HOLD" => {
                options.excludes(KNOWN, &["PEEK"])?;
                hold.hold(&mut options)?;
            }
            "ID" => hold.id(&mut options)?,
            "PEEK" => {
                options.excludes(KNOWN, MODES)?;
                options.excludes(KNOWN, &["HOLD"])?;
                request.mode = Mode::Peek;
            }
            "PARTIAL" | "FORCE" => {
                options.excludes(KNOWN, MODES)?;
                request.mode = if option == "FORCE" { Mode::Force } else { Mode::Partial };
            }
            _ => limit_option(&mut options, option, &mut request)?,
        }
    }
    request.hold = hold.done()?;
    check_force(&request)?;
    Ok(request)
}

/// ML.RATELIMIT key limit window [limit window ...] [ALGORITHM a] [BURST n]
/// [COST n] [PEEK | PARTIAL | FORCE] [HOLD ms [ID id]]
fn ratelimit(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (now_us, lock, reply) = (call.now(), call.lock(), call.reply);
    // The limiter comes from memory while the other arguments are read.
    let mut open = call.keys.write(key);
    let limiter = open.value::<Limiter>();
    limiter.iter().flatten().for_each(|limiter| fetch(&raw const **limiter));
    let request = match call.args.left() {
        // `limit window`, and nothing else.
        2 => {
            let policy = policy(&mut call.args, now_us)?;
            if let Some(allowance) = charge_one(limiter?, &policy, now_us) {
                open.commit_change::<Limiter>(Lives::AsBefore, &charge_of(&policy, 1, now_us));
                count_allowed(&lock, key.bytes(), Algorithm::Fixed);
                reply_figures(reply, &allowance, 0);
                return Ok(());
            }
            Request { policies: iter::once(policy).collect(), ..plain() }
        }
        _ => parse(&mut call.args, now_us)?,
    };
    let decision = decide(open.value::<Limiter>()?.as_deref(), &request, now_us)?;
    check_room(&decision, &request)?;
    let (lives, allowance) = apply(&mut open, &request, &decision, now_us)?;
    if let Some(change) = &decision.change {
        open.commit_change::<Limiter>(lives, change);
    }
    count(&lock, key.bytes(), &request, &decision, now_us);
    reply_figures(reply, &allowance, usize::from(request.hold.is_some()));
    match (request.hold, decision.hold) {
        (None, _) => {}
        (Some(_), Some(id)) => reply.bytes(&id.text()),
        (Some(_), None) => reply.null(),
    }
    Ok(())
}

/// `[granted, limit, remaining, retry_after_ms, reset_after_ms]`, and so many more.
fn reply_figures(reply: Reply, allowance: &Allowance, more: usize) {
    let figures = allowance.figures();
    reply.array(figures.len() + more);
    figures.into_iter().for_each(|figure| reply.integer(figure));
}
