//! ML.STATS: what was counted of each namespace.

use crate::namespace::bare;
use crate::server::{Argument, Call, Command, Error, Lock, handler};
use crate::stats::{Section, Selection};

/// The sections there are.
pub trait Sections: 'static {
    /// They, in the order in which they are told.
    const ALL: &'static [Section];

    /// Has what is over counted before anything is told.
    fn settle(lock: &Lock);
}

const ARGUMENTS: &[Argument] = &[
    Argument::one_of(
        c"section",
        &[
            Argument::token(c"limits", c"LIMITS"),
            Argument::token(c"cache", c"CACHE"),
            Argument::token(c"features", c"FEATURES"),
            Argument::token(c"semantic", c"SEMANTIC"),
        ],
    )
    .optional(),
    Argument::string(c"namespace").after(c"NAMESPACE").optional(),
    Argument::token(c"reset", c"RESET").optional(),
];

/// ML.STATS
pub const fn command<S: Sections>() -> Command {
    Command {
        name: c"ML.STATS",
        run: handler(stats::<S>),
        flags: c"readonly admin",
        categories: c"read admin dangerous",
        arity: -1,
        keys: None,
        arguments: ARGUMENTS,
        summary: c"Returns what was counted of each namespace on this node.",
        complexity: c"O(N*log(N)) where N is the number of namespaces and versions told of.",
        since: c"0.1.0",
    }
}

/// ML.STATS [LIMITS | CACHE | FEATURES | SEMANTIC] [NAMESPACE namespace] [RESET]
fn stats<S: Sections>(call: &mut Call) -> Result<(), Error> {
    let now = call.now();
    let (mut one, mut namespace, mut reset) = (None, None, false);
    let keywords: Vec<_> = S::ALL.iter().map(|section| section.keyword).collect();
    let known = [&keywords[..], &["NAMESPACE", "RESET"]].concat();
    let mut options = call.args.options();
    while let Some(option) = options.next(&known)? {
        match option {
            "NAMESPACE" => namespace = Some(bare(options.value()?.bytes())),
            "RESET" => reset = true,
            section => {
                options.excludes(&known, &keywords)?;
                one = Some(section);
            }
        }
    }
    let selection = Selection(namespace.as_deref());
    let sections = S::ALL.iter().filter(|section| one.is_none_or(|one| one == section.keyword));
    let (reply, lock) = (call.reply, call.lock());
    S::settle(&lock);
    reply.map(sections.clone().count());
    for section in sections {
        reply.bytes(section.keyword.to_ascii_lowercase().as_bytes());
        (section.report)(&lock, selection, now, reply);
        if reset {
            (section.reset)(&lock, selection);
        }
    }
    Ok(())
}
