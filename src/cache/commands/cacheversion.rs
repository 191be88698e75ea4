//! ML.CACHEVERSION: the versions in force in a namespace.

use super::arguments::namespace;
use crate::cache::state;
use crate::server::{Argument, Call, Command, Error, handler};

/// ML.CACHEVERSION
pub const COMMAND: Command = Command {
    name: c"ML.CACHEVERSION",
    run: handler(version),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: 2,
    keys: None,
    arguments: &[Argument::string(c"namespace")],
    summary: c"Returns the versions that are in force in a namespace.",
    complexity: c"O(N) where N is the number of versions.",
    since: c"0.1.0",
};

/// ML.CACHEVERSION namespace
fn version(call: &mut Call) -> Result<(), Error> {
    let namespace = namespace(call.args.arg()?)?;
    let reply = call.reply;
    state::with(&call.lock(), |state| {
        let versions = state.in_force.named(&namespace);
        reply.array(versions.iter().count());
        versions.iter().for_each(|version| reply.bytes(version));
    });
    Ok(())
}
