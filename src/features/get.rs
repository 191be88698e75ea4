//! The commands that read: parse → look up → reply.

use super::json::{self, Document};
use super::number::Number;
use super::request::{Form, Request};
use super::row::{Plan, Row};
use super::stats::{FOUND, MISSING};
use super::tensor::{Tensor, Type};
use crate::server::{Arg, Call, Error, quoted, refuse};

/// ML.FEATURES key field [field ...]
pub fn features(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let fields: Vec<_> = call.args.remaining().collect();
    let plan = Plan::new(&fields);
    let mut row = Row::default();
    read(call, &plan, key, &mut row)?;
    call.reply.array(fields.len());
    for position in 0..fields.len() {
        match plan.get(&row, position) {
            Some(value) => call.reply.bytes(value),
            None => call.reply.null(),
        }
    }
    Ok(())
}

/// ML.FEATUREGET numkeys key [key ...] FIELDS m field [field ...]
/// [AS VALUES|TENSOR|JSON] [TYPE F32|F64|I64] [DEFAULT x | DEFAULTS m x [x ...]]
/// [MAXAGE ms] [STRICT]
pub fn featureget(call: &mut Call) -> Result<(), Error> {
    let request = Request::parse(&mut call.args)?;
    let plan = Plan::new(&request.fields);
    match request.form {
        Form::Values => values(call, &request, &plan),
        Form::Tensor(kind) => tensor(call, &request, &plan, kind),
        Form::Json => document(call, &request, &plan),
    }
}

/// Reads an entity, and counts what was found.
fn read<'a>(call: &Call<'a>, plan: &Plan, key: Arg<'a>, row: &mut Row) -> Result<(), Error> {
    let open = call.read(key);
    plan.read(open.hash()?.as_ref(), row);
    let found = plan.positions().filter(|position| plan.get(row, *position).is_some()).count();
    FOUND.add(found as u64);
    MISSING.add((plan.positions().len() - found) as u64);
    Ok(())
}

/// Each entity read, one after the other; with STRICT, an error at the first
/// field that is missing.
fn each<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    plan: &Plan,
    mut work: impl FnMut(Arg<'a>, &mut Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut row = Row::default();
    for key in &request.keys {
        read(call, plan, *key, &mut row)?;
        if request.strict {
            let missing = plan.positions().find(|position| plan.get(&row, *position).is_none());
            if let Some(field) = missing.and_then(|position| request.fields.get(position)) {
                return Err(refuse(format!("{} is missing", place(*key, *field))));
            }
        }
        work(*key, &mut row)?;
    }
    Ok(())
}

/// A field of a key, as errors name it.
fn place(key: Arg, field: Arg) -> String {
    format!("field {} of key {}", quoted(field.bytes()), quoted(key.bytes()))
}

fn values<'a>(call: &Call<'a>, request: &Request<'a>, plan: &Plan) -> Result<(), Error> {
    let mut rows = Vec::with_capacity(request.keys.len());
    each(call, request, plan, |_, row| {
        rows.push(std::mem::take(row));
        Ok(())
    })?;
    let reply = call.reply;
    reply.array(rows.len());
    for row in &rows {
        reply.array(request.fields.len());
        for (position, default) in request.defaults.iter().enumerate() {
            match plan.get(row, position).or(default.map(Arg::bytes)) {
                Some(value) => reply.bytes(value),
                None => reply.null(),
            }
        }
    }
    Ok(())
}

fn tensor<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    plan: &Plan,
    kind: Type,
) -> Result<(), Error> {
    let (rows, columns) = (request.keys.len(), request.fields.len());
    let mut tensor = Tensor::new(kind, rows.saturating_mul(columns))
        .ok_or_else(|| refuse("not enough memory for the tensor"))?;
    let number = |default: &Option<Arg>| default.and_then(|text| Number::parse(text.bytes()));
    let defaults: Vec<_> = request.defaults.iter().map(number).collect();
    each(call, request, plan, |key, row| {
        for (position, default) in defaults.iter().enumerate() {
            tensor.push(plan.get(row, position), *default).ok_or_else(|| {
                let field = request.fields.get(position).copied().unwrap_or(key);
                refuse(format!(
                    "{} has no value of type {}, which has no NaN: give a DEFAULT",
                    place(key, field),
                    kind.name()
                ))
            })?;
        }
        Ok(())
    })?;
    let (data, status) = tensor.parts();
    call.reply.array(5);
    call.reply.bytes(kind.name().as_bytes());
    call.reply.integer(rows as i64);
    call.reply.integer(columns as i64);
    call.reply.bytes(data);
    call.reply.bytes(status);
    Ok(())
}

fn document<'a>(call: &Call<'a>, request: &Request<'a>, plan: &Plan) -> Result<(), Error> {
    let names = plan.distinct().map(|(_, field)| {
        let not_text = || refuse(format!("field {} is not UTF-8", quoted(field.bytes())));
        json::string(field.bytes()).ok_or_else(not_text)
    });
    let mut document = Document::new(names.collect::<Result<_, _>>()?);
    each(call, request, plan, |key, row| {
        document.begin();
        for (position, field) in plan.distinct() {
            let default = request.defaults.get(position).copied().flatten().map(Arg::bytes);
            let not_text = || refuse(format!("{} is not UTF-8", place(key, field)));
            document.push(plan.get(row, position).or(default)).ok_or_else(not_text)?;
        }
        document.end();
        Ok(())
    })?;
    call.reply.bytes(document.finish().as_bytes());
    Ok(())
}
