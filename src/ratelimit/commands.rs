//! The commands, as the server is told of them.

use super::datatype::APPLY;
use super::handlers;
use super::limiter::Limiter;
use crate::server::{Argument, Command, KeyAccess, KeySpec, TypeSpec, handler, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Limiter>>()];

const LIMITS: Argument =
    Argument::block(c"limits", &[Argument::integer(c"limit"), Argument::double(c"window")])
        .repeated();

const ALGORITHM: Argument = Argument::one_of(
    c"algorithm",
    &[
        Argument::token(c"fixed", c"FIXED"),
        Argument::token(c"sliding", c"SLIDING"),
        Argument::token(c"gcra", c"GCRA"),
    ],
)
.after(c"ALGORITHM")
.optional();

const COST: Argument = Argument::integer(c"cost").after(c"COST").optional();

const RESERVE: Argument = Argument::integer(c"milliseconds").after(c"RESERVE").optional();

const PEEK: Argument = Argument::token(c"peek", c"PEEK");
const PARTIAL: Argument = Argument::token(c"partial", c"PARTIAL");
const FORCE: Argument = Argument::token(c"force", c"FORCE");

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.RATELIMIT",
        run: handler(handlers::ratelimit),
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
            Argument::one_of(c"mode", &[PEEK, PARTIAL, FORCE]).optional(),
            RESERVE,
        ],
        summary: c"Takes a call's cost from a limit if it fits, and says how long to wait if not.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.RATEMULTI",
        run: handler(handlers::ratemulti),
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
        complexity: c"O(N) where N is the number of keys.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.RATESETTLE",
        run: handler(handlers::ratesettle),
        flags: c"write",
        categories: c"write",
        arity: 4,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[Argument::key(c"key"), Argument::string(c"id"), Argument::integer(c"actual")],
        summary: c"Replaces a reservation's estimate by the actual cost.",
        complexity: c"O(N) where N is the number of reservations open on the key.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.RATEINFO",
        run: handler(handlers::rateinfo),
        flags: c"readonly",
        categories: c"read",
        arity: 2,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[Argument::key(c"key")],
        summary: c"Returns what is used of the limits of a key.",
        complexity: c"O(N) where N is the number of reservations open on the key.",
        since: c"0.1.0",
    },
    Command::internal(
        APPLY,
        handler(handlers::apply),
        &[Argument::key(c"key"), Argument::string(c"change")],
        c"Internal: makes a change to a limiter, for replicas and the AOF.",
        c"O(1)",
    ),
    load_command::<Box<Limiter>>(),
];
