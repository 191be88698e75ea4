//! ML.RATEMULTI: a call's cost, taken from the limits of several keys if it fits
//! all of them.

use super::arguments::{
    ALGORITHM, COST, FORCE, LIMITS, PEEK, RESERVE, check_force, options, plain, policy,
};
use super::store::{carry_out, check_room, decide};
use crate::ratelimit::limiter::Limiter;
use crate::ratelimit::policy::Policies;
use crate::ratelimit::request::Request;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, refuse,
};

/// ML.RATEMULTI
pub const COMMAND: Command = Command {
    name: c"ML.RATEMULTI",
    run: handler(ratemulti),
    flags: c"write deny-oom",
    categories: c"write",
    arity: -5,
    keys: Some(KeySpec::counted(1, KeyAccess::Update)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        LIMITS,
        ALGORITHM,
        COST,
        Argument::one_of(c"mode", &[PEEK, FORCE]).optional(),
        RESERVE,
    ],
    summary: c"Takes a call's cost from the limits of several keys if it fits all of them.",
    complexity: c"O(N) where N is the number of keys and of the reservations open on them.",
    since: c"0.1.0",
};

/// `numkeys key [key ...]`
fn keys<'a>(args: &mut Args<'a>) -> Result<Vec<Arg<'a>>, Error> {
    let numkeys = args.arg()?.integer("numkeys", 1..=i64::MAX)?;
    // A key, a limit and a window each.
    let numkeys = usize::try_from(numkeys).ok().filter(|keys| *keys <= args.left() / 3);
    let numkeys = numkeys.ok_or_else(|| {
        refuse("numkeys must be the number of keys, each with a limit and a window")
    })?;
    let keys: Vec<_> = (0..numkeys).map(|_| args.arg()).collect::<Result<_, _>>()?;
    let mut names: Vec<_> = keys.iter().map(|key| key.bytes()).collect();
    names.sort_unstable();
    if !names.is_sorted_by(|one, next| one != next) {
        return Err(refuse("key is given twice: each must be another"));
    }
    Ok(keys)
}

/// `limit window` for each of the keys and the options: a request a key.
fn parse(args: &mut Args, keys: usize) -> Result<Vec<Request>, Error> {
    const OPTIONS: &[&str] = &["COST", "PEEK", "FORCE", "ALGORITHM", "RESERVE"];
    let policies: Vec<_> = (0..keys).map(|_| policy(args)).collect::<Result<_, _>>()?;
    let mut rest = plain(Policies::new());
    options(args, OPTIONS, &mut rest)?;
    let request = |policy| Request { policies: Policies::from_iter([policy]), ..rest.clone() };
    let requests: Vec<_> = policies.into_iter().map(request).collect();
    requests.iter().try_for_each(check_force)?;
    Ok(requests)
}

/// ML.RATEMULTI numkeys key [key ...] limit window [limit window ...]
/// [ALGORITHM a] [COST n] [PEEK | FORCE] [RESERVE ms]
fn ratemulti(call: &mut Call) -> Result<(), Error> {
    let keys = keys(&mut call.args)?;
    let requests = parse(&mut call.args, keys.len())?;
    let (now_us, lock) = (call.now(), call.lock());
    // All are asked, then all are charged.
    let mut decisions = Vec::with_capacity(keys.len());
    for (key, request) in keys.iter().zip(&requests) {
        let open = call.keys.read(*key);
        decisions.push(decide(open.value::<Limiter>()?, request, now_us)?);
    }
    if decisions.iter().any(|decision| decision.granted == 0) {
        decisions.iter_mut().for_each(|decision| decision.deny());
    }
    for (decision, request) in decisions.iter().zip(&requests) {
        check_room(decision, request)?;
    }
    let mut rows = Vec::with_capacity(keys.len());
    for ((key, request), decision) in keys.iter().zip(&requests).zip(&decisions) {
        let open = call.keys.write(*key);
        rows.push(carry_out(&lock, *key, open, request, decision, now_us)?);
    }
    call.reply.array(rows.len());
    rows.iter().for_each(|row| row.reply(call.reply));
    Ok(())
}
