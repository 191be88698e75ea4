//! The commands that read: parse → look up → reply.

use super::cells::{Cells, Found};
use super::json::{self, Document};
use super::layout::Layout;
use super::merge::is_alive;
use super::number::Number;
use super::parse::{Form, Request};
use super::plan::{Entity, Reader, Singles};
use super::row::Row;
use super::tensor::{Tensor, Type};
use super::value::{Printer, Value};
use crate::server::{Arg, Call, Error, block_bytes, quoted, refuse};
use crate::time::{MICROS_PER_MILLI, Millis};

/// ML.FEATURES key field [field ...]
pub fn features(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let fields: Vec<_> = call.args.remaining().collect();
    let mut reader = Reader::new(&fields, call.now() / MICROS_PER_MILLI, None);
    let mut answers = Answers::of(call);
    reader.read(call, key, |entity| {
        call.reply.array(fields.len());
        (0..fields.len()).for_each(|place| answers.reply(entity.get(place), None));
        Ok(())
    })
}

/// ML.FEATUREGET numkeys key [key ...] FIELDS m field [field ...]
/// [AS VALUES|TENSOR|JSON] [TYPE F32|F64|I64] [DEFAULT x | DEFAULTS m x [x ...]]
/// [MAXAGE ms] [STRICT]
pub fn featureget(call: &mut Call) -> Result<(), Error> {
    let request = Request::parse(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let mut reader = Reader::new(&request.fields, now_ms, request.max_age_ms);
    match request.form {
        Form::Values => values(call, &request, &mut reader),
        Form::Tensor(kind) => tensor(call, &request, &mut reader, kind),
        Form::Json => document(call, &request, &mut reader),
    }
}

/// What answers values one by one: those of rows as what they are in RESP3, which
/// has integers and doubles, and as text in RESP2.
struct Answers<'c, 'a> {
    call: &'c Call<'a>,
    typed: bool,
    printer: Printer,
}

impl<'c, 'a> Answers<'c, 'a> {
    fn of(call: &'c Call<'a>) -> Self {
        Self { call, typed: call.speaks_resp3(), printer: Printer::default() }
    }

    fn reply(&mut self, found: Found, default: Option<Arg>) {
        let reply = self.call.reply;
        match (found, default) {
            (Found::Value(Value::Integer(integer)), _) if self.typed => reply.integer(integer),
            (Found::Value(Value::Single(single)), _) if self.typed => reply.double(single.into()),
            (Found::Value(Value::Double(double)), _) if self.typed => reply.double(double),
            (Found::Value(value), _) => reply.bytes(value.print(&mut self.printer)),
            (_, Some(default)) => reply.bytes(default.bytes()),
            (_, None) => reply.null(),
        }
    }
}

/// What was found for a field of a key; with STRICT, an error where that is no
/// value.
fn found<'e>(
    request: &Request,
    entity: &Entity<'e>,
    key: Arg,
    place: usize,
) -> Result<Found<'e>, Error> {
    let found = entity.get(place);
    let wrong = match found {
        Found::Value(_) => return Ok(found),
        _ if !request.strict => return Ok(found),
        Found::TooOld => "is older than MAXAGE",
        Found::Nothing => "is missing",
    };
    Err(refuse(format!("{} {wrong}", name(request, key, place))))
}

/// A field of a key, as errors name it.
fn name(request: &Request, key: Arg, place: usize) -> String {
    let field = request.fields.get(place).copied().unwrap_or(key);
    format!("field {} of key {}", quoted(field.bytes()), quoted(key.bytes()))
}

fn values<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut Reader<'a>,
) -> Result<(), Error> {
    let columns = request.fields.len();
    // A key of another type is an error of the whole call: nothing is replied
    // before all are read.
    let mut cells = Cells::default();
    for key in &request.keys {
        reader.read(call, *key, |entity| {
            for place in 0..columns {
                cells.push(found(request, entity, *key, place)?);
            }
            Ok(())
        })?;
    }
    let mut answers = Answers::of(call);
    call.reply.array(request.keys.len());
    for row in 0..request.keys.len() {
        call.reply.array(columns);
        for (column, default) in request.defaults.iter().enumerate() {
            answers.reply(cells.get(row * columns + column), *default);
        }
    }
    Ok(())
}

fn tensor<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut Reader<'a>,
    kind: Type,
) -> Result<(), Error> {
    let (rows, columns) = (request.keys.len(), request.fields.len());
    let mut tensor = Tensor::new(kind, rows.saturating_mul(columns))
        .ok_or_else(|| refuse("not enough memory for the tensor"))?;
    let number = |default: &Option<Arg>| default.and_then(|text| Number::parse(text.bytes()));
    let defaults: Vec<_> = request.defaults.iter().map(number).collect();
    for key in &request.keys {
        reader.read(call, *key, |entity| {
            if kind == Type::F32
                && let Some(singles) = entity.singles()
            {
                match singles {
                    Singles::Run(singles) => tensor.push_singles(singles),
                    Singles::Spread(slots, columns) => tensor.gather_singles(slots, columns),
                }
                return Ok(());
            }
            for (place, default) in defaults.iter().enumerate() {
                let found = found(request, entity, *key, place)?;
                tensor.push(found, *default).ok_or_else(|| {
                    refuse(format!(
                        "{} has no value of type {}, which has no NaN: give a DEFAULT",
                        name(request, *key, place),
                        kind.name()
                    ))
                })?;
            }
            Ok(())
        })?;
    }
    let (data, status) = tensor.parts();
    call.reply.array(5);
    call.reply.bytes(kind.name().as_bytes());
    call.reply.integer(rows as i64);
    call.reply.integer(columns as i64);
    call.reply.bytes(data);
    call.reply.bytes(status);
    Ok(())
}

fn document<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut Reader<'a>,
) -> Result<(), Error> {
    let places = distinct(&request.fields);
    let fields = places.iter().filter_map(|place| request.fields.get(*place));
    let names = fields.map(|field| {
        let not_text = || refuse(format!("field {} is not UTF-8", quoted(field.bytes())));
        json::string(field.bytes()).ok_or_else(not_text)
    });
    let mut document = Document::new(names.collect::<Result<_, _>>()?);
    for key in &request.keys {
        reader.read(call, *key, |entity| {
            document.begin();
            for place in &places {
                let default = request.defaults.get(*place).copied().flatten();
                let value = match found(request, entity, *key, *place)? {
                    Found::Value(value) => Some(value),
                    _ => default.map(|text| Value::Text(text.bytes())),
                };
                let not_text = || refuse(format!("{} is not UTF-8", name(request, *key, *place)));
                document.push(value).ok_or_else(not_text)?;
            }
            document.end();
            Ok(())
        })?;
    }
    call.reply.bytes(document.finish().as_bytes());
    Ok(())
}

/// The places of the fields, of a name that is asked for twice the first only: an
/// object of JSON has each name once.
fn distinct(fields: &[Arg]) -> Vec<usize> {
    let mut known = std::collections::HashSet::new();
    let places = fields.iter().enumerate();
    places.filter(|(_, field)| known.insert(field.bytes())).map(|(place, _)| place).collect()
}

/// ML.FEATUREINFO key
pub fn featureinfo(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.read(key);
    match open.value_ref::<Row>()? {
        None => call.reply.null(),
        Some(row) => describe(call, &row, now_ms),
    }
    Ok(())
}

fn describe(call: &Call, row: &Row, now_ms: Millis) {
    let reply = call.reply;
    let layout: &Layout = row.layout();
    let alive = (0..layout.views()).filter(|view| is_alive(row, *view, now_ms));
    let alive: Vec<_> = alive.collect();
    reply.map(2);
    reply.bytes(b"bytes");
    reply.integer(block_bytes(row) as i64);
    reply.bytes(b"views");
    reply.array(alive.len());
    for view in alive {
        let term = row.term(view);
        reply.map(4);
        reply.bytes(b"view");
        reply.bytes(layout.view_name(view));
        reply.bytes(b"at_ms");
        reply.integer(term.at_ms as i64);
        reply.bytes(b"ttl_ms");
        reply.integer(term.expires_at_ms.map_or(-1, |at_ms| (at_ms - now_ms) as i64));
        reply.bytes(b"fields");
        let fields = layout.fields(view);
        reply.array(fields.len());
        for field in fields {
            reply.array(2);
            reply.bytes(layout.field_name(field));
            let kind = row.values().get(field).map_or("", Value::type_name);
            reply.bytes(kind.as_bytes());
        }
    }
}
