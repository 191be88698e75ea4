//! ML.CACHESTATS: what was counted of each namespace.

use super::cacheversion::reply_versions;
use crate::cache::namespaces::{Namespace, Statistic};
use crate::cache::state;
use crate::server::{Argument, Call, Command, Error, Reply, handler, monotonic, new_id};

/// ML.CACHESTATS
pub const COMMAND: Command = Command {
    name: c"ML.CACHESTATS",
    run: handler(cachestats),
    flags: c"readonly",
    categories: c"read",
    arity: -1,
    keys: None,
    arguments: &[
        Argument::string(c"namespace").after(c"NAMESPACE").optional(),
        Argument::token(c"reset", c"RESET").optional(),
    ],
    summary: c"Returns what was counted of each namespace on this state.",
    complexity: c"O(N) where N is the number of namespaces.",
    since: c"0.1.0",
};

/// ML.CACHESTATS [NAMESPACE namespace] [RESET]
fn cachestats(call: &mut Call) -> Result<(), Error> {
    let (mut name, mut reset) = (None, false);
    let mut options = call.args.options();
    while let Some(option) = options.next(&["NAMESPACE", "RESET"])? {
        match option {
            "NAMESPACE" => name = Some(options.value()?.bytes()),
            _ => reset = true,
        }
    }
    let (reply, lock) = (call.reply, call.lock());
    // Leases that nobody waits for run out when somebody looks.
    state::act(&lock, |state| state.flights.advance(monotonic(), &mut new_id));
    state::with(&lock, |state| {
        match name {
            Some(name) => reply_counts(reply, state.namespaces.named(name)),
            None => {
                reply.map(state.namespaces.known().count());
                for one in state.namespaces.known() {
                    reply.bytes(one.name());
                    reply_counts(reply, Some(one));
                }
            }
        }
        if reset {
            state.namespaces.reset(name);
        }
    });
    Ok(())
}

fn reply_counts(reply: Reply, namespace: Option<&Namespace>) {
    reply.map(1 + Statistic::ALL.len());
    reply.bytes(b"versions");
    reply_versions(reply, namespace);
    for statistic in Statistic::ALL {
        reply.bytes(statistic.name().as_bytes());
        let count = namespace.map_or(0, |one| one.statistic(statistic));
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
