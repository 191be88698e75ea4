//! ML.FIELDLISTS: the field lists of the node.

use crate::features::field_lists;
use crate::server::{Call, Command, Error, handler};

/// ML.FIELDLISTS
pub const COMMAND: Command = Command {
    name: c"ML.FIELDLISTS",
    run: handler(fieldlists),
    flags: c"readonly",
    categories: c"read",
    arity: 1,
    keys: None,
    arguments: &[],
    summary: c"Returns all field lists, and what each stands for.",
    complexity: c"O(N) where N is the number of fields of all lists.",
    since: c"0.1.0",
};

/// ML.FIELDLISTS
fn fieldlists(call: &mut Call) -> Result<(), Error> {
    let reply = call.reply;
    field_lists::with(&call.lock(), |lists| {
        reply.map(lists.all().len());
        for (name, list) in lists.all() {
            reply.bytes(name);
            reply.array(list.fields().len());
            list.fields().for_each(|field| reply.bytes(field));
        }
    });
    Ok(())
}
