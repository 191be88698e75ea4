//! ML.FEATURESET: writes fields of one entity.

use super::listed::{LIST, Listed};
use super::store::{event, payload, refused, store};
use super::write_options::{
    AT, DIM, Kind, REPLACE, Taken, VIEW, WriteOptions, check_events, order, wrong_value,
};
use crate::bug;
use crate::features::by_namespace::{self, Counts};
use crate::features::change::{Applier, Put, Set};
use crate::features::datatype::APPLY;
use crate::features::dtype::Dtype;
use crate::features::row::Row;
use crate::features::stats::{LATE, WRITTEN};
use crate::features::value::{Type, Value};
use crate::server::{Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler};
use crate::time::{MICROS_PER_MILLI, Millis};

/// The types of values.
pub const TYPES: &[Argument] = &[
    Argument::token(c"auto", c"AUTO"),
    Argument::token(c"f32", c"F32"),
    Argument::token(c"f64", c"F64"),
    Argument::token(c"i64", c"I64"),
    Argument::token(c"string", c"STRING"),
];

/// ML.FEATURESET
pub const COMMAND: Command = Command {
    name: c"ML.FEATURESET",
    run: handler(featureset),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -5,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[
        Argument::key(c"key"),
        VIEW.optional(),
        AT.optional(),
        Argument::EXPIRATION.optional(),
        Argument::one_of(
            c"typing",
            &[
                Argument::block(
                    c"one-type",
                    &[Argument::one_of(c"type", TYPES).after(c"TYPE"), DIM],
                ),
                Argument::block(
                    c"types",
                    &[Argument::integer(c"m"), Argument::string(c"type").repeated()],
                )
                .after(c"TYPES"),
            ],
        )
        .optional(),
        REPLACE,
        Argument::one_of(
            c"fields",
            &[
                Argument::block(
                    c"named",
                    &[
                        Argument::integer(c"n"),
                        Argument::block(
                            c"field-value",
                            &[Argument::string(c"field"), Argument::string(c"value")],
                        )
                        .repeated(),
                    ],
                ),
                Argument::block(c"listed", &[LIST, Argument::string(c"value").repeated()]),
            ],
        )
        .after(c"FIELDS"),
    ],
    summary: c"Writes fields of an entity, unless it holds newer ones.",
    complexity: c"O(N+M*log(M)) where N is the size of the entity then and M the number of fields \
written.",
    since: c"0.1.0",
};

/// ML.FEATURESET key [VIEW view] [AT ms] [EX s | PX ms | EXAT s | PXAT ms]
/// [TYPE AUTO|F32|F64|I64|STRING [DIM k] | TYPES m type [type ...]] [REPLACE]
/// FIELDS n field value [field value ...]
fn featureset(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let listed = Listed::new(call.lock(), &call.kept);
    let now_ms = call.now() / MICROS_PER_MILLI;
    let Write { set, at_ms, values } = Write::parse(&mut call.args, &listed, now_ms)?;
    let change = set.change(now_ms);
    let lock = call.lock();
    let open = call.keys.write(key);
    let row = open.value_ref::<Row>()?;
    check_events(&set, row.as_deref(), now_ms)?;
    let mut is_written = false;
    let events = [at_ms].into_iter();
    let decided = set.decide(row.as_deref(), now_ms, events, |written| is_written = written);
    if !is_written {
        LATE.increment();
        by_namespace::count(&lock, key.bytes(), Counts { late: 1, ..Counts::default() });
    }
    if let Some((_, times)) = decided.filter(|_| change.concerns(row.as_deref())) {
        let put = Some(Put { times, values: &values });
        let new = Applier::new(&change).apply(row.as_deref(), put).map_err(refused)?;
        let ends = store(open, new)?;
        call.keys.commit_all(&[(key, ends)], event(&change), APPLY, || payload(&change, put));
        WRITTEN.increment();
        by_namespace::count(&lock, key.bytes(), Counts { written: 1, ..Counts::default() });
    }
    call.reply.integer(is_written.into());
    Ok(())
}

/// What is written to a row.
struct Write<'a> {
    set: Set<'a>,
    at_ms: Option<Millis>,
    /// The value of each field.
    values: Vec<Value<'a>>,
}

impl<'a> Write<'a> {
    fn parse(args: &mut Args<'a>, listed: &Listed<'_, 'a>, now_ms: Millis) -> Result<Self, Error> {
        const TAKEN: &Taken = &Taken {
            known: &[
                "VIEW", "AT", "EX", "PX", "EXAT", "PXAT", "TYPE", "DIM", "TYPES", "REPLACE",
                "FIELDS",
            ],
            types: &Type::NAMES,
            field_size: 2,
        };
        let options = WriteOptions::parse(args, listed, now_ms, TAKEN)?;
        let kind = options.kind.map_or(Type::default(), type_of);
        let kind = |place: usize| match &options.kinds {
            None => kind,
            Some(kinds) => {
                type_of(*kinds.get(place).unwrap_or_else(|| bug("a field without a type")))
            }
        };
        let (pairs, []) = options.fields.as_chunks() else { bug("a field without a value") };
        let read = |(place, [field, value]): (usize, &[_; 2])| {
            let kind = kind(place);
            let value: Option<Value> = kind.read(crate::server::Arg::bytes(*value));
            value.ok_or_else(|| wrong_value(*field, kind.describe()))
        };
        let all: Vec<_> = pairs.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let names: Vec<_> = pairs.iter().map(|[name, _]| name.bytes()).collect();
        let order = order(&names);
        let value = |place: &usize| all.get(*place).copied();
        let value = |place| value(place).unwrap_or_else(|| bug("a field without a value"));
        let values = order.iter().map(value).collect();
        Ok(Self { set: options.set(&names, &order)?, at_ms: options.at_ms, values })
    }
}

fn type_of(kind: Kind) -> Type {
    match (Type::at(kind.place), kind.dim) {
        (Type::F32, Some(dim)) => Type::Vector(Dtype::F32, dim),
        (Type::F64, Some(dim)) => Type::Vector(Dtype::F64, dim),
        (Type::I64, Some(dim)) => Type::Vector(Dtype::I64, dim),
        (kind, _) => kind,
    }
}
