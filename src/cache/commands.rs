//! The commands of the cache, as a table.

use super::datatype::APPLY;
use super::entry::Entry;
use super::versions::{APPLY_VERSIONS, TABLE};
use super::{fetch, read, versions, write};
use crate::server::{Argument, Command, KeyAccess, KeySpec, TypeSpec, handler, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::with_table::<Entry>(&TABLE)];

const KEY: Argument = Argument::key(c"key");
const KEYS: Argument = Argument::key(c"key").repeated();
const VERSION: Argument = Argument::string(c"version");
const LEASE: Argument = Argument::integer(c"milliseconds").after(c"LEASE");
const SECONDS: Argument = Argument::integer(c"seconds").after(c"EX");
const MILLISECONDS: Argument = Argument::integer(c"milliseconds").after(c"PX");

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.CACHEGET",
        run: handler(read::get),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: 3,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[KEY, VERSION],
        summary: c"Returns the answer that a version of the model gave, unless it has expired.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHESET",
        run: handler(write::set),
        flags: c"write deny-oom fast",
        categories: c"write fast",
        arity: -4,
        keys: Some(KeySpec::one(1, KeyAccess::Write)),
        arguments: &[
            KEY,
            VERSION,
            Argument::string(c"value"),
            Argument::EXPIRATION.optional(),
            Argument::integer(c"milliseconds").after(c"STALE").optional(),
            Argument::integer(c"percent").after(c"JITTER").optional(),
            Argument::string(c"token").after(c"TOKEN").optional(),
            Argument::token(c"json", c"JSON").optional(),
        ],
        summary: c"Keeps the answer that a version of the model gave.",
        complexity: c"O(1), and O(N) to wake N callers that wait for it.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEMGET",
        run: handler(read::mget),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: -3,
        keys: Some(KeySpec::to_the_end(2, 1, KeyAccess::Read)),
        arguments: &[VERSION, KEYS],
        summary: c"Returns the answers that a version of the model gave, of several keys.",
        complexity: c"O(N) where N is the number of keys.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEMSET",
        run: handler(write::mset),
        flags: c"write deny-oom",
        categories: c"write",
        arity: -6,
        keys: Some(KeySpec::to_the_end(4, 2, KeyAccess::Write)),
        arguments: &[
            VERSION,
            Argument::one_of(c"expiration", &[SECONDS, MILLISECONDS]),
            Argument::block(c"data", &[KEY, Argument::string(c"value")]).repeated(),
        ],
        summary: c"Keeps the answers that a version of the model gave, of several keys.",
        complexity: c"O(N) where N is the number of keys.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEDROP",
        run: handler(write::drop_versions),
        flags: c"write fast",
        categories: c"write fast",
        arity: -2,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[
            KEY,
            VERSION.after(c"VERSION").optional(),
            Argument::token(c"stale", c"STALE").optional(),
        ],
        summary: c"Drops the answers of a key, or makes them stale.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEFETCH",
        run: handler(fetch::fetch),
        flags: c"readonly blocking",
        categories: c"read blocking",
        arity: -3,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[
            KEY,
            VERSION,
            LEASE,
            Argument::integer(c"milliseconds").after(c"WAIT").optional(),
            Argument::double(c"beta").after(c"EARLY").optional(),
        ],
        summary: c"Returns an answer, or has one caller compute it while the others wait.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEMFETCH",
        run: handler(fetch::mfetch),
        flags: c"readonly",
        categories: c"read",
        arity: -5,
        keys: Some(KeySpec::to_the_end(4, 1, KeyAccess::Read)),
        arguments: &[VERSION, LEASE, KEYS],
        summary:
            c"Returns the answers of several keys, and has one caller compute each that is missing.",
        complexity: c"O(N) where N is the number of keys.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHERELEASE",
        run: handler(fetch::release),
        flags: c"write fast",
        categories: c"write fast",
        arity: -3,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: &[
            KEY,
            Argument::string(c"token"),
            Argument::integer(c"milliseconds").after(c"BACKOFF").optional(),
        ],
        summary: c"Gives a lease up, without an answer.",
        complexity: c"O(1), with BACKOFF O(N) to tell N callers that wait.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEVERSION",
        run: handler(versions::cacheversion),
        flags: c"write admin",
        categories: c"write admin dangerous",
        arity: -2,
        keys: None,
        arguments: &[
            Argument::string(c"namespace"),
            Argument::one_of(
                c"change",
                &[VERSION.after(c"SET").repeated(), Argument::token(c"clear", c"CLEAR")],
            )
            .optional(),
        ],
        summary: c"Returns or sets the versions that are in force in a namespace.",
        complexity: c"O(1) in the number of entries; O(N) where N is the number of open leases.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHEINFO",
        run: handler(read::info),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: 2,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[KEY],
        summary: c"Returns what a key holds: its versions, who computes, who waits.",
        complexity: c"O(1)",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.CACHESTATS",
        run: handler(versions::cachestats),
        flags: c"readonly",
        categories: c"read",
        arity: -1,
        keys: None,
        arguments: &[
            Argument::string(c"namespace").after(c"NAMESPACE").optional(),
            Argument::token(c"reset", c"RESET").optional(),
        ],
        summary: c"Returns what was counted of each namespace on this node.",
        complexity: c"O(N) where N is the number of namespaces.",
        since: c"0.1.0",
    },
    Command {
        arity: -3,
        ..Command::internal(
            APPLY,
            handler(write::apply),
            &[KEY, Argument::string(c"change"), Argument::string(c"value").optional()],
            c"Internal: changes a cache entry, for replicas and the AOF.",
            c"O(1)",
        )
    },
    Command::internal(
        APPLY_VERSIONS,
        handler(versions::apply),
        &[Argument::string(c"payload")],
        c"Internal: puts versions in force, for replicas and the AOF.",
        c"O(N) where N is the length of the payload.",
    )
    .keyless(),
    load_command::<Entry>(),
];
