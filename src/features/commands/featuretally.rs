//! ML.FEATURETALLY: adds amounts to windows of time.

use super::event_options::{EventOptions, SEQ, happen};
use super::listed::{LIST, Listed};
use super::write_options::{AT, VIEW};
use crate::bug;
use crate::features::event::{Event, OfFields, What};
use crate::features::value::Type;
use crate::features::windows::{Misfit, Span, Spans, Windows};
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Options, handler, quoted, refuse,
};
use crate::time::{MICROS_PER_MILLI, Micros};
use arrayvec::ArrayVec;

/// ML.FEATURETALLY
pub const COMMAND: Command = Command {
    name: c"ML.FEATURETALLY",
    run: handler(featuretally),
    flags: c"write deny-oom fast",
    categories: c"write fast",
    arity: -2,
    keys: Some(KeySpec::one(1, KeyAccess::Write)),
    arguments: &[
        Argument::key(c"key"),
        Argument::one_of(
            c"fields",
            &[
                Argument::block(
                    c"named",
                    &[
                        Argument::integer(c"n"),
                        Argument::block(
                            c"field-amount",
                            &[Argument::string(c"field"), Argument::double(c"amount")],
                        )
                        .repeated(),
                    ],
                ),
                Argument::block(c"listed", &[LIST, Argument::double(c"amount").repeated()]),
            ],
        )
        .after(c"FIELDS"),
        Argument::block(
            c"window",
            &[
                Argument::double(c"seconds").after(c"SPAN"),
                Argument::double(c"seconds").after(c"TILE"),
            ],
        )
        .repeated(),
        AT.optional(),
        SEQ,
        VIEW.optional(),
    ],
    summary: c"Counts amounts in windows of time that are read by aggregates.",
    complexity: c"O(N*log(N)) where N is the number of fields, for one that is new also the size \
of the entity, for what is late also the number of tiles held.",
    since: c"0.1.0",
};

/// ML.FEATURETALLY key FIELDS n field amount [field amount ...]
/// SPAN seconds TILE seconds [SPAN seconds TILE seconds] [AT ms] [SEQ s] [VIEW view]
fn featuretally(call: &mut Call) -> Result<(), Error> {
    happen(call, parse)
}

fn parse<'a>(
    args: &mut Args<'a>,
    listed: &Listed<'_, 'a>,
    now_us: Micros,
) -> Result<Event<'a>, Error> {
    const KNOWN: &[&str] = &["FIELDS", "SPAN", "AT", "SEQ", "VIEW"];
    let (mut amounts, mut spans) = (OfFields::new(), ArrayVec::<_, { Windows::MAX_RINGS }>::new());
    let mut all = EventOptions::at(now_us);
    let mut options = args.options();
    while let Some(option) = options.next(KNOWN)? {
        match option {
            "FIELDS" => amounts = fields(&listed.values(&mut options, 2)?)?,
            "SPAN" => {
                options.may_repeat(KNOWN);
                if spans.is_full() {
                    return Err(refuse("SPAN and TILE may be given twice at most"));
                }
                spans.push(span(&mut options)?);
            }
            option => all.read(option, &mut options)?,
        }
    }
    if amounts.is_empty() {
        return Err(refuse("FIELDS must be given: how many, and each with its amount"));
    }
    let first = *spans.first().ok_or_else(|| refuse("SPAN and TILE must be given"))?;
    let spans = Spans::new(first, spans.get(1).copied()).map_err(misfit)?;
    let finest = spans.first().map_or(first.tile_us(), |span| span.tile_us());
    let latest_ms = now_us.saturating_add(finest) / MICROS_PER_MILLI;
    if all.at_ms() > latest_ms {
        return Err(refuse(format!(
            "AT must be at most {latest_ms}, a TILE ahead of the server's clock"
        )));
    }
    all.event(What::Tally { spans, amounts })
}

/// `field amount` of each field, sorted.
fn fields<'a>(pairs: &[Arg<'a>]) -> Result<OfFields<(&'a [u8], f64)>, Error> {
    let (pairs, []) = pairs.as_chunks() else { bug("a field without an amount") };
    let read = |[field, amount]: &[Arg<'a>; 2]| {
        let number = Type::F64.read(amount.bytes()).and_then(|value| value.to_f64());
        match number.filter(|number| number.is_finite()) {
            Some(number) => Ok((field.bytes(), number)),
            None => Err(refuse(format!(
                "the amount of field {} must be a finite number",
                quoted(field.bytes())
            ))),
        }
    };
    let mut amounts: OfFields<_> = pairs.iter().map(read).collect::<Result<_, _>>()?;
    amounts.sort_by_key(|(field, _)| *field);
    let mut pairs = amounts.iter().zip(amounts.iter().skip(1));
    match pairs.find(|((one, _), (next, _))| one == next) {
        Some(((field, _), _)) => {
            Err(refuse(format!("field {} is given twice: each must be another", quoted(field))))
        }
        None => Ok(amounts),
    }
}

/// `SPAN seconds TILE seconds`
fn span(options: &mut Options) -> Result<Span, Error> {
    const LONGEST_US: Micros = 31_622_400_000_000;
    let seconds = |what: &str, value: Arg| {
        value.decimal(1_000..=LONGEST_US).ok_or_else(|| {
            refuse(format!(
                "{what} must be seconds from 0.001 to 31622400, with at most 6 decimals"
            ))
        })
    };
    let span_us = seconds("SPAN", options.value()?)?;
    let tile_us = seconds("TILE", options.then("TILE")?)?;
    Span::new(span_us, tile_us).map_err(misfit)
}

fn misfit(why: Misfit) -> Error {
    refuse(why.to_string())
}
