//! ML.FEATUREGET: the same fields of several entities.

use super::answers::{Answers, TIME_BYTES, VALUE_BYTES, check, most_bytes, reply_bytes, too_long};
use super::entity::{Entity, EntityReader, F32Row, OpenHash, Opened, Repeats, each_key};
use super::fields::Fields;
use super::listed::Listed;
use super::write_options::{FIELDS, NUMBERS};
use crate::bug;
use crate::features::buffer::{TakeText, ValueBuffer};
use crate::features::config::{MAX_REPLY_BYTES, MAX_VALUES};
use crate::features::dtype::Dtype;
use crate::features::feast;
use crate::features::form::Form as FieldForm;
use crate::features::found::Found;
use crate::features::json::{self, Document, Unwritten};
use crate::features::resolved::Step;
use crate::features::tensor::{NO_TIME, Tensor, TensorRow};
use crate::features::value::Value;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Options, handler, quoted, refuse,
};
use crate::time::{Micros, Millis};
use std::collections::HashSet;

/// ML.FEATUREGET
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREGET",
    run: handler(featureget),
    flags: c"readonly",
    categories: c"read",
    arity: -5,
    keys: Some(KeySpec::counted(1, KeyAccess::Read)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        FIELDS,
        FORM,
        TYPE,
        MISSING,
        MAXAGE,
        STRICT,
        WITHTIMES,
        LAYOUT,
    ],
    summary: c"Returns the values of several entities' fields: as arrays, as a tensor, as JSON.",
    complexity:
        c"O(N*M+M*log(M)) where N is the number of keys and M that of the fields asked for.",
    since: c"0.1.0",
};

/// What COMMAND DOCS says of all that stands behind the keys.
pub const ARGUMENTS: &[Argument] =
    &[FIELDS, FORM, TYPE, MISSING, MAXAGE, STRICT, WITHTIMES, LAYOUT];

const FORM: Argument = Argument::one_of(
    c"form",
    &[
        Argument::token(c"values", c"VALUES"),
        Argument::token(c"tensor", c"TENSOR"),
        Argument::token(c"json", c"JSON"),
    ],
)
.after(c"AS")
.optional();

const TYPE: Argument = Argument::one_of(c"type", NUMBERS).after(c"TYPE").optional();

const MISSING: Argument = Argument::one_of(
    c"missing",
    &[
        Argument::string(c"x").after(c"DEFAULT"),
        Argument::block(c"defaults", &[Argument::integer(c"m"), Argument::string(c"x").repeated()])
            .after(c"DEFAULTS"),
    ],
)
.optional();

const MAXAGE: Argument = Argument::integer(c"milliseconds").after(c"MAXAGE").optional();

const STRICT: Argument = Argument::token(c"strict", c"STRICT").optional();

const WITHTIMES: Argument = Argument::token(c"withtimes", c"WITHTIMES").optional();

const LAYOUT: Argument =
    Argument::one_of(c"layout", &[Argument::token(c"feast", c"FEAST")]).after(c"LAYOUT").optional();

/// ML.FEATUREGET numkeys key [key ...] FIELDS m field [field ...]
/// [AS VALUES|TENSOR|JSON] [TYPE F32|F64|I64] [DEFAULT x | DEFAULTS m x [x ...]]
/// [MAXAGE ms] [STRICT] [WITHTIMES] [LAYOUT FEAST]
fn featureget(call: &mut Call) -> Result<(), Error> {
    let keys = call.args.counted("numkeys", "keys")?.collect();
    let listed = Listed::new(call.lock(), &call.kept);
    let request = Request::parse(&mut call.args, keys, &listed, &[])?;
    request.answer(call, call.now())
}

/// How values are answered, and what stands in for those that are missing.
enum Form<'a> {
    /// As arrays of what is stored.
    Values(Defaults<&'a [u8]>),
    /// As one buffer of numbers.
    Tensor(Dtype, Defaults<Value<'static>>),
    /// As one JSON document.
    Json(Json),
}

/// What writes a text as JSON does, in at most so many bytes.
type Escape = fn(&[u8], usize) -> Result<Vec<u8>, Unwritten>;

/// What a document is made from.
struct Json {
    /// The fields that each object has: of a name that is asked for twice the first.
    places: Vec<usize>,
    names: json::Names,
    /// As the document has them.
    defaults: Defaults<Vec<u8>>,
}

/// What stands in for a field that is missing.
enum Defaults<T> {
    None,
    /// For all fields.
    Same(T),
    /// For each field.
    Each(Vec<T>),
}

impl<T> Defaults<T> {
    fn get(&self, place: usize) -> Option<&T> {
        match self {
            Self::None => None,
            Self::Same(default) => Some(default),
            Self::Each(all) => {
                Some(all.get(place).unwrap_or_else(|| bug("a field without its default")))
            }
        }
    }

    /// Each made into something else, once.
    fn map<U>(&self, mut make: impl FnMut(&T) -> Result<U, Error>) -> Result<Defaults<U>, Error> {
        Ok(match self {
            Self::None => Defaults::None,
            Self::Same(default) => Defaults::Same(make(default)?),
            Self::Each(all) => Defaults::Each(all.iter().map(make).collect::<Result<_, _>>()?),
        })
    }
}

/// What a call asks for.
pub struct Request<'a> {
    /// The entities.
    keys: Vec<Arg<'a>>,
    /// The features of each.
    fields: Fields<'a>,
    /// How they are answered.
    form: Form<'a>,
    /// Values whose event time is longer ago than this are too old.
    max_age_ms: Option<Millis>,
    /// Whether a field that is missing, or too old, is an error.
    strict: bool,
    /// Whether event times are answered, too.
    timed: bool,
    /// How Feast's store names the features, where it wrote the hashes.
    feast: Option<feast::Names>,
}

impl<'a> Request<'a> {
    /// `FIELDS m field [field ...] [AS ...] ...`: what stands behind the keys, and ends before
    /// one of these words.
    pub fn parse(
        args: &mut Args<'a>,
        keys: Vec<Arg<'a>>,
        listed: &Listed<'_, 'a>,
        ends: &'static [&'static str],
    ) -> Result<Self, Error> {
        args.arg()?.one_of("the argument after the keys", &["FIELDS"])?;
        let fields = match listed.next(args)? {
            Some(listing) => Fields::listed(listing),
            None => Fields::of(args.counted("FIELDS", "fields")?),
        };
        let most = MAX_VALUES.get_unsigned();
        let values = (keys.len() as u64).saturating_mul(fields.columns() as u64);
        if values > most {
            return Err(refuse(format!(
                "numkeys times FIELDS, of name[k] k of them, must be at most {most} \
                 (ml.features-max-values)"
            )));
        }
        // Each entity is asked for each name.
        let most = MAX_REPLY_BYTES.get_unsigned();
        if fields.name_bytes().saturating_mul(keys.len() as u64) > most {
            return Err(refuse(format!(
                "numkeys times the bytes of FIELDS must be at most {most} \
                 (ml.features-max-reply-bytes)"
            )));
        }
        let mut request = Self {
            keys,
            fields,
            form: Form::Values(Defaults::None),
            max_age_ms: None,
            strict: false,
            timed: false,
            feast: None,
        };
        request.options(args.options_before(ends))?;
        Ok(request)
    }

    fn options(&mut self, mut options: Options<'_, 'a>) -> Result<(), Error> {
        const KNOWN: &[&str] =
            &["AS", "TYPE", "DEFAULT", "DEFAULTS", "MAXAGE", "STRICT", "WITHTIMES", "LAYOUT"];
        const FORMS: &[&str] = &["VALUES", "TENSOR", "JSON"];
        let (mut form, mut dtype, mut in_feast) = (0, None, false);
        let mut defaults = Defaults::None;
        while let Some(option) = options.next(KNOWN)? {
            match option {
                "AS" => form = options.value()?.one_of("AS", FORMS)?,
                "TYPE" => {
                    dtype = Some(Dtype::at(options.value()?.one_of("TYPE", &Dtype::NAMES)?));
                }
                "DEFAULT" => {
                    options.excludes(KNOWN, &["DEFAULTS"])?;
                    defaults = Defaults::Same(options.value()?.bytes());
                }
                "DEFAULTS" => {
                    options.excludes(KNOWN, &["DEFAULT"])?;
                    let each = options.counted("values", 1)?;
                    if each.len() != self.fields.len() {
                        return Err(refuse("DEFAULTS must be as many as FIELDS"));
                    }
                    defaults = Defaults::Each(each.iter().map(|default| default.bytes()).collect());
                }
                "MAXAGE" => {
                    self.max_age_ms = Some(options.integer(1..=i64::MAX)?.cast_unsigned());
                }
                "WITHTIMES" => self.timed = true,
                "LAYOUT" => {
                    options.value()?.one_of("LAYOUT", &["FEAST"])?;
                    in_feast = true;
                }
                _ => self.strict = true,
            }
        }
        if in_feast {
            self.feast = Some(self.feast_names()?);
        }
        // What the form refuses whatever the keys hold is refused here: so that a request in
        // one call is refused before anything is done for it.
        // The places are those in FORMS.
        self.form = match (form, dtype) {
            (0, None) => Form::Values(defaults),
            (1, dtype) => self.tensor(dtype.unwrap_or_default(), &defaults)?,
            (_, Some(_)) => return Err(refuse("TYPE goes with AS TENSOR only")),
            _ if self.timed => {
                return Err(refuse("WITHTIMES goes with AS VALUES and AS TENSOR only"));
            }
            _ => Form::Json(self.json(&defaults)?),
        };
        Ok(())
    }

    fn tensor(&self, dtype: Dtype, defaults: &Defaults<&[u8]>) -> Result<Form<'a>, Error> {
        let each = 1 + if self.timed { size_of::<i64>() } else { 0 };
        let numbers = self.fields.columns().saturating_mul(dtype.bytes());
        let entity = numbers.saturating_add(self.fields.len() * each);
        check(self.keys.len().saturating_mul(entity))?;
        let defaults = defaults.map(|text| {
            Value::Text(text).to(dtype).ok_or_else(|| {
                let (dtype, text) = (dtype.name(), quoted(text));
                refuse(format!("DEFAULT must be a number of type {dtype}, not {text}"))
            })
        })?;
        Ok(Form::Tensor(dtype, defaults))
    }

    fn json(&self, defaults: &Defaults<&[u8]>) -> Result<Json, Error> {
        // What is escaped is longer than it was, up to six times.
        let mut left = most_bytes();
        let mut escaped = |what: &str, text: &[u8], escape: Escape| {
            let escaped = escape(text, left).map_err(|unwritten| match unwritten {
                Unwritten::NotText => refuse(format!("{what} {} is not UTF-8", quoted(text))),
                Unwritten::TooLong => too_long(),
            })?;
            left -= escaped.len();
            Ok(escaped)
        };
        let places = distinct(&self.fields);
        let names = places.iter().map(|place| self.fields.name(*place));
        let names = names.map(|name| escaped("field", name, json::string));
        let names = names.collect::<Result<_, _>>()?;
        let names = json::Names::of(names, self.keys.len(), most_bytes()).ok_or_else(too_long)?;
        let defaults = defaults.map(|default| escaped("DEFAULT", default, json::text))?;
        Ok(Json { places, names, defaults })
    }

    /// The names of the fields as Feast's store writes them.
    fn feast_names(&self) -> Result<feast::Names, Error> {
        let names = self.fields.in_hashes(None);
        let names = names.iter().map(|field| field.name);
        let timed = self.timed || self.max_age_ms.is_some();
        feast::Names::of(names, timed).map_err(|name| {
            refuse(format!("FIELDS with LAYOUT FEAST must be view:feature, not {}", quoted(name)))
        })
    }

    /// Reads all, and answers. Where that is an error nothing is answered.
    pub fn answer(&self, call: &Call<'a>, now_us: Micros) -> Result<(), Error> {
        let (fields, feast, max_age_ms) = (&self.fields, self.feast.as_ref(), self.max_age_ms);
        let lock = call.lock();
        let mut reader = EntityReader::new(lock, fields, feast, now_us, max_age_ms, most_bytes());
        match &self.form {
            Form::Values(defaults) => values(call, self, &mut reader, defaults),
            Form::Tensor(dtype, defaults) => tensor(call, self, &mut reader, *dtype, defaults),
            Form::Json(json) => document(call, self, &mut reader, json),
        }
    }

    /// Refuses, for STRICT, what was found for a field of an entity and is no value.
    fn check(&self, found: &Found, entity: &Entity, key: Arg, place: usize) -> Result<(), Error> {
        let wrong = match found {
            Found::Value(_) | Found::Packed(_) | Found::Items(_) | Found::Nested(_) => {
                return Ok(());
            }
            Found::Spoilt => "is no value of Feast's",
            Found::TooOld => "is older than MAXAGE",
            Found::Nothing => "is missing",
            Found::Misfit => {
                let (is, form) = (entity.describe(place), self.fields.form(place));
                return Err(self.wrong(key, place, &format!("is {is}, not {}", form.describe())));
            }
        };
        Err(self.wrong(key, place, wrong))
    }

    /// What is wrong with a field of a key.
    fn wrong(&self, key: Arg, place: usize, what: &str) -> Error {
        refuse(format!("{} {what}", self.name(key, place)))
    }

    /// Why a field of a key, which is no number of the tensor's type, is refused.
    fn no_nan(&self, key: Arg, place: usize, dtype: Dtype) -> Error {
        let dtype = dtype.name();
        let what = format!("has no value of type {dtype}, which has no NaN: give a DEFAULT");
        self.wrong(key, place, &what)
    }

    /// A field of a key, as errors name it.
    fn name(&self, key: Arg, place: usize) -> String {
        format!("field {} of key {}", quoted(self.fields.name(place)), quoted(key.bytes()))
    }
}

fn values<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut EntityReader<'a>,
    defaults: &Defaults<&[u8]>,
) -> Result<(), Error> {
    let columns = request.fields.len();
    let most = most_bytes();
    let each = if request.timed { TIME_BYTES } else { 0 };
    // A key of another type is an error of the whole call: nothing is replied
    // before all are read. An entity that comes again is kept once.
    let mut buffer = ValueBuffer::new(most);
    let (mut times, mut entities) = (Vec::new(), Vec::with_capacity(request.keys.len()));
    let (mut repeats, mut met, mut bytes) = (Repeats::new(), 0, 0usize);
    each_key(&call.keys, &request.keys, request.fields.are_plain(), |key| {
        let (place, more) = match repeats.met(key.name, reader) {
            Some(stands) => stands,
            None => {
                let (read, more) = reader.read(key, |entity| {
                    let (kept, room) = (buffer.text_bytes(), most.saturating_sub(bytes));
                    let mut left = room;
                    buffer.begin();
                    for place in 0..columns {
                        let found = entity.get(place);
                        if request.strict {
                            request.check(&found, entity, key.name, place)?;
                        }
                        let cost = match found {
                            Found::Value(value) => {
                                VALUE_BYTES + value.bytes().map_or(0, <[u8]>::len)
                            }
                            found => reply_bytes(found, defaults.get(place).copied()),
                        };
                        let cost = cost.saturating_add(each);
                        left = left.checked_sub(cost).ok_or_else(too_long)?;
                        buffer.push(found);
                    }
                    if request.timed {
                        times.extend((0..columns).map(|place| entity.event_time(place)));
                    }
                    let texts = buffer.text_bytes() - kept;
                    Ok((entity.bytes() + texts, room - left))
                })?;
                let stands = (met * columns, more);
                met += 1;
                repeats.remember(key.name, read, stands, reader);
                stands
            }
        };
        entities.push(place);
        bytes = bytes.saturating_add(more);
        check(bytes)
    })?;
    let mut answers = Answers::of(call);
    if request.timed {
        call.reply.array(2);
    }
    call.reply.array(entities.len());
    for first in &entities {
        call.reply.array(columns);
        for column in 0..columns {
            let default = defaults.get(column).copied();
            answers.reply(buffer.get(first + column), default);
        }
    }
    if request.timed {
        call.reply.array(entities.len());
        for first in &entities {
            call.reply.array(columns);
            let times = times.get(*first..first + columns);
            let times = times.unwrap_or_else(|| bug("values without times"));
            times.iter().for_each(|at_ms| call.reply.integer(*at_ms));
        }
    }
    Ok(())
}

fn tensor<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut EntityReader<'a>,
    dtype: Dtype,
    defaults: &Defaults<Value<'static>>,
) -> Result<(), Error> {
    let fields = &request.fields;
    let (rows, places, columns) = (request.keys.len(), fields.len(), fields.columns());
    let mut tensor = Tensor::new(dtype, rows * columns, rows * places, request.timed)
        .ok_or_else(|| refuse("not enough memory for the tensor"))?;
    let mut repeats = Repeats::new();
    let mut count = 0;
    each_key(&call.keys, &request.keys, fields.are_plain(), |key| {
        let number = count;
        count += 1;
        if let Some(first) = repeats.met(key.name, reader) {
            tensor.repeat(first, columns, places);
            return Ok(());
        }
        let read = reader.open(key, |open| {
            let entity = match open {
                Opened::Read(entity) => entity,
                Opened::Hash(hash) if fields.are_plain() && request.feast.is_none() => {
                    if request.timed {
                        (0..columns).for_each(|_| tensor.push_time(NO_TIME));
                    }
                    let row = tensor.append_row(columns, most_bytes());
                    return hash_row(request, key.name, &hash, row, defaults);
                }
                Opened::Hash(hash) => {
                    let entity = hash.read()?;
                    return entity_row(request, key.name, &entity, &mut tensor, defaults);
                }
            };
            if dtype == Dtype::F32
                && !request.timed
                && let Some(row) = entity.f32s()
            {
                match row {
                    F32Row::Run(values) => tensor.push_f32s(values),
                    F32Row::Spread(slots, columns) => tensor.gather_f32s(slots, columns),
                }
                return Ok(0);
            }
            entity_row(request, key.name, entity, &mut tensor, defaults)
        })?;
        repeats.remember(key.name, read, number, reader);
        Ok(())
    })?;
    let (data, status) = tensor.parts();
    call.reply.array(if request.timed { 6 } else { 5 });
    call.reply.bytes(dtype.name().as_bytes());
    call.reply.integer(rows as i64);
    call.reply.integer(columns as i64);
    call.reply.bytes(data);
    call.reply.bytes(status);
    if request.timed {
        call.reply.bytes(tensor.times());
    }
    Ok(())
}

/// Writes an entity into a tensor; how many bytes were read for that.
#[inline(never)]
fn entity_row(
    request: &Request,
    key: Arg,
    entity: &Entity,
    tensor: &mut Tensor,
    defaults: &Defaults<Value<'static>>,
) -> Result<usize, Error> {
    let places = request.fields.len();
    if request.timed {
        (0..places).for_each(|place| tensor.push_time(entity.event_time(place)));
    }
    tensor.begin();
    let push = |tensor: &mut Tensor, place: usize, found: Found| {
        if let Found::Value(value) = found
            && tensor.push_number(value)
        {
            return Ok(());
        }
        let default = defaults.get(place).copied();
        if request.strict {
            request.check(&found, entity, key, place)?;
        }
        let pushed = match request.fields.form(place) {
            FieldForm::Numbers(columns) => tensor.push_wide(found, columns, default),
            FieldForm::One | FieldForm::Window(..) => tensor.push(found, default),
        };
        pushed.ok_or_else(|| request.no_nan(key, place, tensor.dtype()))?;
        // What is a value elsewhere may be none of a tensor of this type.
        if request.strict && tensor.is_misfit() {
            request.check(&Found::Misfit, entity, key, place)?;
        }
        Ok(())
    };
    let Some((values, steps)) = entity.steps() else {
        (0..places).try_for_each(|place| push(tensor, place, entity.get(place)))?;
        return Ok(entity.bytes() + tensor.long_bytes());
    };
    for step in steps {
        match step {
            Step::Run(first, fields) => {
                let mut fields = fields.clone();
                let end = first + fields.len();
                while !fields.is_empty() {
                    let taken = tensor.push_numbers(values, fields.clone());
                    entity.count_found(taken);
                    fields.start += taken;
                    // What is no number of this type.
                    if let Some(field) = fields.next() {
                        let place = end - fields.len() - 1;
                        let value = Some(values.get(field));
                        entity.each(value, place..place + 1, |place, found| {
                            push(tensor, place, found)
                        })?;
                    }
                }
            }
            Step::Aggregates(places) => {
                for place in places.clone() {
                    match entity.aggregate(place) {
                        Some(value) if tensor.push_number(value) => entity.count_found(1),
                        _ => push(tensor, place, entity.get(place))?,
                    }
                }
            }
            Step::Same(field, places) => {
                let value = field.map(|field| values.get(field));
                for place in places.clone() {
                    // What is as it is asked for is not looked at twice.
                    if let Some(value) = value
                        && let FieldForm::Numbers(columns) = request.fields.form(place)
                        && tensor.push_whole(entity.numbers(value, columns), columns)
                    {
                        entity.count_found(1);
                        continue;
                    }
                    entity
                        .each(value, place..place + 1, |place, found| push(tensor, place, found))?;
                }
            }
        }
    }
    Ok(entity.bytes() + tensor.long_bytes())
}

/// Reads a hash into a row of the tensor; how many bytes that took.
fn hash_row(
    request: &Request,
    key: Arg,
    hash: &OpenHash,
    mut row: TensorRow,
    defaults: &Defaults<Value<'static>>,
) -> Result<usize, Error> {
    let bytes = hash.read_into(&mut row)?;
    let columns = request.fields.len();
    if row.is_whole() {
        hash.count(columns, 0);
        return Ok(bytes);
    }
    for place in 0..columns {
        if row.has(place) {
            hash.count(1, 0);
        } else {
            hash.count(0, 1);
            if request.strict {
                return Err(request.wrong(key, place, "is missing"));
            }
        }
        let filled = row.fill_in(place, defaults.get(place).copied());
        filled.ok_or_else(|| request.no_nan(key, place, row.dtype()))?;
    }
    Ok(bytes)
}

fn document<'a>(
    call: &Call<'a>,
    request: &Request<'a>,
    reader: &mut EntityReader<'a>,
    json: &Json,
) -> Result<(), Error> {
    let mut document = Document::new(&json.names, most_bytes());
    let too_long = |_: Unwritten| too_long();
    let mut repeats = Repeats::new();
    each_key(&call.keys, &request.keys, request.fields.are_plain(), |key| {
        if let Some(object) = repeats.met(key.name, reader) {
            return document.repeat(object).map(drop).map_err(too_long);
        }
        let (read, object) = reader.read(key, |entity| {
            let start = document.begin().map_err(too_long)?;
            for place in &json.places {
                let found = entity.get(*place);
                if request.strict {
                    request.check(&found, entity, key.name, *place)?;
                }
                let default = json.defaults.get(*place).map_or(&b"null"[..], Vec::as_slice);
                let pushed = match found {
                    Found::Value(value) => document.push(value),
                    Found::Items(items) => document.push_array(items.each(), default),
                    Found::Packed(bytes) => {
                        let columns = request.fields.form(*place).width();
                        document.push(packed(bytes, columns))
                    }
                    Found::Nested(nested) => document.push_nested(nested),
                    Found::TooOld | Found::Misfit | Found::Spoilt | Found::Nothing => {
                        document.push_json(default)
                    }
                };
                pushed.map_err(|unwritten| match unwritten {
                    Unwritten::NotText => request.wrong(key.name, *place, "is not UTF-8"),
                    Unwritten::TooLong => too_long(unwritten),
                })?;
            }
            let object = document.end(start).map_err(too_long)?;
            Ok((entity.bytes() + object.len(), object))
        })?;
        repeats.remember(key.name, read, object, reader);
        Ok(())
    })?;
    call.reply.bytes(&document.finish().map_err(too_long)?);
    Ok(())
}

/// The vector that bytes of a hash are which nothing says the type of: of singles, or of
/// doubles where they are twice as many.
fn packed(bytes: &[u8], columns: usize) -> Value<'_> {
    let singles = bytes.len() == columns * Dtype::F32.bytes();
    let dtype = if singles { Dtype::F32 } else { Dtype::F64 };
    Value::Vector(dtype, bytes)
}

/// The places of the fields, of a name that is asked for twice the first only: an
/// object of JSON has each name once.
fn distinct(fields: &Fields) -> Vec<usize> {
    let mut known = HashSet::new();
    let places = fields.names().enumerate();
    places.filter(|(_, name)| known.insert(*name)).map(|(place, _)| place).collect()
}
