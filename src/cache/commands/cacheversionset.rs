//! ML.CACHEVERSIONSET: puts versions in force in a namespace.

use super::arguments::{VERSION, namespace, version};
use crate::cache::codec;
use crate::cache::config::NAMESPACES;
use crate::cache::in_force::{MAX_IN_FORCE, TooMany, Versions, push_version};
use crate::cache::leases;
use crate::cache::state;
use crate::cache::versions::APPLY_VERSIONS;
use crate::server::{Arg, Argument, Call, Command, Error, Event, announce, handler, refuse};

/// ML.CACHEVERSIONSET
pub const COMMAND: Command = Command {
    name: c"ML.CACHEVERSIONSET",
    run: handler(set),
    flags: c"write admin",
    categories: c"write admin dangerous",
    arity: -3,
    keys: None,
    arguments: &[
        Argument::string(c"namespace"),
        Argument::one_of(c"change", &[VERSION.repeated(), Argument::token(c"clear", c"CLEAR")]),
    ],
    summary: c"Puts versions in force in a namespace, in place of those that were.",
    complexity: c"O(1) in the number of keys; O(N) where N is the number of open leases.",
    since: c"0.1.0",
};

/// ML.CACHEVERSIONSET namespace version [version ...] | CLEAR
fn set(call: &mut Call) -> Result<(), Error> {
    let namespace = namespace(call.args.arg()?)?;
    let versions: Vec<_> = call.args.remaining().collect();
    let versions = parse(&versions)?;
    let versions = Versions::of(&versions);
    let most = NAMESPACES.get_count();
    let lock = call.lock();
    let mut payload = Vec::new();
    codec::encode_namespaces([(&*namespace, versions)], &mut payload);
    let changed = state::with(&lock, |state| state.in_force.set(&namespace, versions, most));
    let changed = changed.map_err(|_: TooMany| {
        refuse(format!("namespace would be one more than {most} (ml.cache-max-namespaces)"))
    })?;
    if changed {
        call.commit_keyless(APPLY_VERSIONS, &payload);
        announce(&lock, Event::VersionsChanged);
        leases::settle(&lock);
    }
    call.reply.ok();
    Ok(())
}

/// `version [version ...] | CLEAR`, as a list, in which each stands once.
fn parse(versions: &[Arg]) -> Result<Vec<u8>, Error> {
    if let [word] = versions
        && word.is(b"CLEAR")
    {
        return Ok(Vec::new());
    }
    if versions.iter().any(|word| word.is(b"CLEAR")) {
        return Err(refuse("CLEAR stands alone: no version can be called so"));
    }
    let mut list = Vec::new();
    for one in versions {
        push_version(version(*one)?, &mut list);
        if Versions::of(&list).iter().count() > MAX_IN_FORCE {
            return Err(refuse(format!("at most {MAX_IN_FORCE} versions are in force")));
        }
    }
    Ok(list)
}
