//! The commands of the features, as a table.

use super::get;
use crate::server::{Argument, Command, KeyAccess, Keys, handler};

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    Command {
        name: c"ML.FEATURES",
        run: handler(get::features),
        flags: c"readonly fast",
        categories: c"read fast",
        arity: -3,
        keys: Some(Keys::one(1, KeyAccess::Read)),
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
        keys: Some(Keys::counted(1, KeyAccess::Read)),
        arguments: &[
            Argument::integer(c"numkeys"),
            Argument::key(c"key").repeated(),
            Argument::block(
                c"fields",
                &[Argument::integer(c"m"), Argument::string(c"field").repeated()],
            )
            .after(c"FIELDS"),
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
            Argument::one_of(
                c"type",
                &[
                    Argument::token(c"f32", c"F32"),
                    Argument::token(c"f64", c"F64"),
                    Argument::token(c"i64", c"I64"),
                ],
            )
            .after(c"TYPE")
            .optional(),
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
];
