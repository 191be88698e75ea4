//! The commands of the features, as a table.

use super::datatype::APPLY;
use super::row::Row;
use super::{get, write};
use crate::server::{Argument, Command, KeyAccess, KeySpec, TypeSpec, handler, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Row>()];

const VIEW: Argument = Argument::string(c"view").after(c"VIEW");

const AT: Argument = Argument::unix_time(c"unix-time-milliseconds").after(c"AT").optional();

const FIELDS: Argument =
    Argument::block(c"fields", &[Argument::integer(c"m"), Argument::string(c"field").repeated()])
        .after(c"FIELDS");

const NUMBERS: &[Argument] = &[
    Argument::token(c"f32", c"F32"),
    Argument::token(c"f64", c"F64"),
    Argument::token(c"i64", c"I64"),
];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.FEATURES",
        run: handler(get::features),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: -3,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[Argument::key(c"key"), Argument::string(c"field").repeated()],
        summary: c"Returns the values of an entity's fields, in the order asked for.",
        complexity: c"O(N) where N is the number of fields asked for.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.FEATUREGET",
        run: handler(get::featureget),
        flags: c"readonly",
        categories: c"read",
        arity: -6,
        keys: Some(KeySpec::counted(1, KeyAccess::Read)),
        arguments: &[
            Argument::integer(c"numkeys"),
            Argument::key(c"key").repeated(),
            FIELDS,
            Argument::one_of(
                c"form",
                &[
                    Argument::token(c"values", c"VALUES"),
                    Argument::token(c"tensor", c"TENSOR"),
                    Argument::token(c"json", c"JSON"),
                ],
            )
            .after(c"AS")
            .optional(),
            Argument::one_of(c"type", NUMBERS).after(c"TYPE").optional(),
            Argument::one_of(
                c"missing",
                &[
                    Argument::string(c"x").after(c"DEFAULT"),
                    Argument::block(
                        c"defaults",
                        &[Argument::integer(c"m"), Argument::string(c"x").repeated()],
                    )
                    .after(c"DEFAULTS"),
                ],
            )
            .optional(),
            Argument::integer(c"milliseconds").after(c"MAXAGE").optional(),
            Argument::token(c"strict", c"STRICT").optional(),
        ],
        summary:
            c"Returns the values of several entities' fields: as arrays, as a tensor, as JSON.",
        complexity: c"O(N*M) where N is the number of keys and M that of the fields asked for.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.FEATURESET",
        run: handler(write::featureset),
        flags: c"write deny-oom fast",
        categories: c"write fast",
        arity: -6,
        keys: Some(KeySpec::one(1, KeyAccess::Write)),
        arguments: &[
            Argument::key(c"key"),
            VIEW.optional(),
            AT,
            Argument::EXPIRATION.optional(),
            Argument::one_of(
                c"type",
                &[
                    Argument::token(c"auto", c"AUTO"),
                    Argument::token(c"f32", c"F32"),
                    Argument::token(c"f64", c"F64"),
                    Argument::token(c"i64", c"I64"),
                    Argument::token(c"string", c"STRING"),
                ],
            )
            .after(c"TYPE")
            .optional(),
            Argument::block(
                c"fields",
                &[
                    Argument::integer(c"n"),
                    Argument::block(
                        c"field-value",
                        &[Argument::string(c"field"), Argument::string(c"value")],
                    )
                    .repeated(),
                ],
            )
            .after(c"FIELDS"),
        ],
        summary: c"Writes fields of an entity, unless it holds newer ones.",
        complexity: c"O(N) where N is the number of fields that the entity has then.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.FEATUREMSET",
        run: handler(write::featuremset),
        flags: c"write deny-oom",
        categories: c"write",
        arity: -9,
        keys: Some(KeySpec::counted(1, KeyAccess::Write)),
        arguments: &[
            Argument::integer(c"numkeys"),
            Argument::key(c"key").repeated(),
            Argument::string(c"blob"),
            Argument::one_of(c"type", NUMBERS).after(c"TYPE"),
            FIELDS,
            VIEW.optional(),
            AT,
            Argument::EXPIRATION.optional(),
        ],
        summary: c"Writes the same fields of several entities, from one buffer of numbers.",
        complexity: c"O(N*M) where N is the number of keys and M that of the fields of each.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.FEATUREDEL",
        run: handler(write::featuredel),
        flags: c"write fast",
        categories: c"write fast",
        arity: -4,
        keys: Some(KeySpec::one(1, KeyAccess::Write)),
        arguments: &[
            Argument::key(c"key"),
            Argument::one_of(
                c"what",
                &[
                    VIEW,
                    Argument::block(
                        c"fields",
                        &[Argument::integer(c"n"), Argument::string(c"field").repeated()],
                    )
                    .after(c"FIELDS"),
                ],
            ),
        ],
        summary: c"Removes fields, or a view, of an entity.",
        complexity: c"O(N) where N is the number of fields that the entity has.",
        since: c"0.1.0",
    },
    Command {
        name: c"ML.FEATUREINFO",
        run: handler(get::featureinfo),
        flags: c"readonly",
        categories: c"read",
        arity: 2,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: &[Argument::key(c"key")],
        summary: c"Returns the views of an entity and the fields of each.",
        complexity: c"O(N) where N is the number of fields that the entity has.",
        since: c"0.1.0",
    },
    Command {
        arity: -3,
        keys: Some(KeySpec::to_the_end(2, 1, KeyAccess::Write)),
        ..Command::internal(
            APPLY,
            handler(write::apply),
            &[Argument::string(c"change"), Argument::key(c"key").repeated()],
            c"Internal: changes rows as a write did, for replicas and the AOF.",
            c"O(N) where N is the length of the change.",
        )
    },
    load_command::<Row>(),
];
