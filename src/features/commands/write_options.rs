//! The options that the commands have in common that write.

use super::listed::{LIST, Listed};
use crate::bug;
use crate::features::change::Set;
use crate::features::config::MAX_SKEW;
use crate::features::dtype::{Dtype, MAX_DIM};
use crate::features::form::Form;
use crate::features::layout::{MAX_FIELDS, MAX_NAME_BYTES, names_a_view};
use crate::features::row::{MAX_TIME_MS, Row};
use crate::server::{Arg, Args, Argument, EXPIRIES, Error, quoted, refuse};
use crate::time::{MILLIS_PER_SECOND, Millis};
use std::fmt::Display;

/// `VIEW view`
pub const VIEW: Argument = Argument::string(c"view").after(c"VIEW");

/// `AT unix-time-milliseconds`
pub const AT: Argument = Argument::unix_time(c"unix-time-milliseconds").after(c"AT");

/// `REPLACE`
pub const REPLACE: Argument = Argument::token(c"replace", c"REPLACE").optional();

/// `FIELDS m field [field ...] | FIELDS @list`
pub const FIELDS: Argument = Argument::one_of(
    c"fields",
    &[
        Argument::block(
            c"named",
            &[Argument::integer(c"m"), Argument::string(c"field").repeated()],
        ),
        LIST,
    ],
)
.after(c"FIELDS");

/// `DIM k`
pub const DIM: Argument = Argument::integer(c"k").after(c"DIM").optional();

/// The types of numbers.
pub const NUMBERS: &[Argument] = &[
    Argument::token(c"f32", c"F32"),
    Argument::token(c"f64", c"F64"),
    Argument::token(c"i64", c"I64"),
];

/// What a command of these options takes of them.
pub struct Taken {
    /// All that it knows.
    pub known: &'static [&'static str],
    /// The names of its types.
    pub types: &'static [&'static str],
    /// How many arguments each of FIELDS takes, the first of them a name.
    pub field_size: usize,
}

/// A type as a call names it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its place among the names of types.
    pub place: usize,
    /// Of vectors, how many numbers each has.
    pub dim: Option<usize>,
}

/// The options of a call that writes.
pub struct WriteOptions<'a> {
    view: &'a [u8],
    /// The event time.
    pub at_ms: Option<Millis>,
    expires_at_ms: Option<Millis>,
    replaces: bool,
    /// TYPE, and DIM.
    pub kind: Option<Kind>,
    /// Each of TYPES.
    pub kinds: Option<Vec<Kind>>,
    /// The bytes of TIMES.
    pub times: Option<&'a [u8]>,
    /// What follows FIELDS.
    pub fields: Vec<Arg<'a>>,
}

impl<'a> WriteOptions<'a> {
    /// Reads all arguments that are left.
    pub fn parse(
        args: &mut Args<'a>,
        listed: &Listed<'_, 'a>,
        now_ms: Millis,
        taken: &Taken,
    ) -> Result<Self, Error> {
        let known = taken.known;
        let mut all = Self {
            view: b"",
            at_ms: None,
            expires_at_ms: None,
            replaces: false,
            kind: None,
            kinds: None,
            times: None,
            fields: Vec::new(),
        };
        let (mut dim, mut options) = (None, args.options());
        while let Some(option) = options.next(known)? {
            match option {
                "VIEW" => all.view = view(options.value()?)?,
                "AT" => {
                    options.excludes(known, &["TIMES"])?;
                    all.at_ms = Some(EventTimes::at(now_ms).of_argument(options.value()?)?);
                }
                "TIMES" => {
                    options.excludes(known, &["AT"])?;
                    all.times = Some(options.value()?.bytes());
                }
                "REPLACE" => all.replaces = true,
                "TYPE" => {
                    options.excludes(known, &["TYPES"])?;
                    let place = options.value()?.one_of("TYPE", taken.types)?;
                    all.kind = Some(Kind { place, dim: None });
                }
                "DIM" => {
                    options.excludes(known, &["TYPES"])?;
                    dim = Some(options.integer(1..=MAX_DIM as i64)? as usize);
                }
                "TYPES" => {
                    options.excludes(known, &["TYPE", "DIM"])?;
                    let kinds = options.counted("types", 1)?;
                    let kinds = kinds.iter().map(|kind| Kind::of(*kind, taken));
                    all.kinds = Some(kinds.collect::<Result<_, _>>()?);
                }
                "FIELDS" => all.fields = listed.values(&mut options, taken.field_size)?,
                unit => {
                    options.excludes(known, EXPIRIES)?;
                    let expires_at_ms = options.value()?.expiry(unit, now_ms, MAX_TIME_MS)?;
                    all.expires_at_ms = Some(expires_at_ms);
                }
            }
        }
        if dim.is_some() {
            let kind = all.kind.as_mut().filter(|kind| is_of_numbers(kind.place, taken));
            kind.ok_or_else(|| refuse("DIM goes with TYPE F32, F64 or I64 only"))?.dim = dim;
        }
        let fields = all.fields.len() / taken.field_size;
        if fields == 0 {
            return Err(refuse(
                "FIELDS must be given: how many, and each of them, or @ and the name of a list",
            ));
        }
        if all.kinds.as_ref().is_some_and(|kinds| kinds.len() != fields) {
            return Err(refuse("TYPES must be as many as FIELDS"));
        }
        Ok(all)
    }

    /// What is written to fields of these names, in this order.
    pub fn set(&self, names: &[&'a [u8]], order: &[usize]) -> Result<Set<'a>, Error> {
        if order.len() > MAX_FIELDS {
            return Err(refuse(format!("FIELDS must be at most {MAX_FIELDS}")));
        }
        names.iter().try_for_each(|name| check_name(self.view, name))?;
        let name = |place: &usize| names.get(*place).copied();
        let name = |place| name(place).unwrap_or_else(|| bug("a place without a name"));
        let Self { view, expires_at_ms, replaces, .. } = *self;
        Ok(Set { view, fields: order.iter().map(name).collect(), replaces, expires_at_ms })
    }
}

impl Kind {
    /// The type of one field among several, which says itself how many numbers it has:
    /// `F32`, `F32[128]`.
    fn of(kind: Arg, taken: &Taken) -> Result<Self, Error> {
        if let (name, Form::Numbers(dim)) = Form::cut(kind.bytes()) {
            let named = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
            let place = taken.types.iter().position(named);
            if let Some(place) = place.filter(|place| is_of_numbers(*place, taken)) {
                return Ok(Self { place, dim: Some(dim) });
            }
        }
        Ok(Self { place: kind.one_of("TYPES", taken.types)?, dim: None })
    }
}

fn is_of_numbers(place: usize, taken: &Taken) -> bool {
    taken.types.get(place).is_some_and(|name| Dtype::NAMES.contains(name))
}

/// Refuses a name that no field of a row's view has.
#[inline]
pub fn check_name(view: &[u8], name: &[u8]) -> Result<(), Error> {
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse(format!("field must be at most {MAX_NAME_BYTES} bytes long")));
    }
    // Few names end as one that is cut.
    match name.last() {
        Some(b']' | b')') => check_form(view, name),
        _ => Ok(()),
    }
}

/// Refuses a name by which something else would be read.
fn check_form(view: &[u8], name: &[u8]) -> Result<(), Error> {
    let read_by = match view {
        b"" => name.to_vec(),
        view => [view, b":", name].concat(),
    };
    let wrong = |what| Err(refuse(format!("field {} {what}", quoted(&read_by))));
    match Form::cut(&read_by).1 {
        Form::One => Ok(()),
        Form::Numbers(_) => wrong("cannot be written: name[k] reads a vector or a sequence, name"),
        Form::Window(..) => wrong("cannot be written: so windows are read, of the name in it"),
    }
}

/// The places of names, sorted by name; of a name that comes twice the last.
pub fn order(names: &[&[u8]]) -> Vec<usize> {
    let name = |place: &usize| names.get(*place).copied();
    let mut order: Vec<_> = (0..names.len()).collect();
    // Stable: of the same name, the last written stands last.
    order.sort_by_key(name);
    order.dedup_by(|later, earlier| {
        let same = name(later) == name(earlier);
        if same {
            *earlier = *later;
        }
        same
    });
    order
}

/// The name of a view.
pub fn view(name: Arg<'_>) -> Result<&[u8], Error> {
    match name.bytes() {
        name if names_a_view(name) => Ok(name),
        _ => Err(refuse(format!(
            "VIEW must be a name of at most {MAX_NAME_BYTES} bytes without ':'"
        ))),
    }
}

/// What event times there can be at a moment.
#[derive(Clone, Copy)]
pub struct EventTimes {
    skew_s: u64,
    latest_ms: Millis,
}

/// Milliseconds up to here are of before March 1973, and seconds of before the
/// year 5138: what a caller gives there is seconds. 0 is the epoch, of either.
const SECONDS_UP_TO: Millis = 100_000_000_000;

impl EventTimes {
    /// Those at a moment.
    pub fn at(now_ms: Millis) -> Self {
        let skew_s = MAX_SKEW.get_unsigned();
        let latest_ms = now_ms.saturating_add(skew_s * MILLIS_PER_SECOND).min(MAX_TIME_MS);
        Self { skew_s, latest_ms }
    }

    /// The one that an argument says; otherwise an error.
    pub fn of_argument(self, at: Arg) -> Result<Millis, Error> {
        let at_ms = at.integer("AT", i64::MIN..=i64::MAX);
        let at_ms = at_ms.map_err(|_| self.out_of_range("AT"))?;
        self.check("AT", at_ms)
    }

    /// An event time, if it can be one; otherwise an error that names `what`.
    pub fn check(self, what: &str, at_ms: i64) -> Result<Millis, Error> {
        match u64::try_from(at_ms) {
            Ok(at_ms @ 1..=SECONDS_UP_TO) => Err(refuse(format!(
                "{what} must be milliseconds since the epoch, 0 or above {SECONDS_UP_TO}: \
                 {at_ms} looks like seconds"
            ))),
            Ok(at_ms) if at_ms <= self.latest_ms => Ok(at_ms),
            _ => Err(self.out_of_range(what)),
        }
    }

    fn out_of_range(self, what: &str) -> Error {
        let Self { skew_s, latest_ms } = self;
        refuse(format!(
            "{what} must be an integer of milliseconds from 0 to {latest_ms}, {skew_s} seconds \
             from now (ml.features-max-skew)"
        ))
    }
}

/// Refuses a write over events.
pub fn check_events(set: &Set, row: Option<&Row>, now_ms: Millis) -> Result<(), Error> {
    match set.over_events(row, now_ms) {
        None => Ok(()),
        Some((field, events)) => Err(refuse(format!(
            "field {} cannot be written over, it holds {events}: delete it first",
            quoted(field)
        ))),
    }
}

/// Why a value is refused.
pub fn wrong_value(field: Arg, expected: impl Display) -> Error {
    refuse(format!("the value of field {} must be {expected}", quoted(field.bytes())))
}
