//! The commands: parse → look up → reply.

use crate::metrics::Counter;
use crate::server::{Argument, Call, Command, Error, KeyAccess, Keys, Section, handler};

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[Command {
    name: c"ML.FEATURES",
    run: handler(features),
    flags: c"readonly fast",
    categories: c"read fast",
    arity: -3,
    keys: Some(Keys::one(1, KeyAccess::Read)),
    arguments: &[Argument::key(c"key"), Argument::string(c"field").repeated()],
    summary: c"Returns the values of an entity's fields, in the order asked for.",
    complexity: c"O(N) where N is the number of fields asked for.",
    since: c"0.1.0",
}];

static FOUND: Counter = Counter::new();
static MISSING: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"features",
    fields: &[(c"features_found", &FOUND), (c"features_missing", &MISSING)],
};

/// ML.FEATURES key field [field ...]
fn features(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let key = call.read(key);
    let hash = key.hash()?;
    let fields = call.args.remaining();
    call.reply.array(fields.len());
    for field in fields {
        match hash.as_ref().and_then(|hash| hash.field(field)) {
            Some(value) => {
                FOUND.increment();
                call.reply.bytes(value.bytes());
            }
            None => {
                MISSING.increment();
                call.reply.null();
            }
        }
    }
    Ok(())
}
