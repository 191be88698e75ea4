//! From arguments to checked requests.

use super::config::{MAX_SKEW, MAX_VALUES};
use super::layout::{MAX_FIELDS, MAX_NAME_BYTES, names_a_view};
use super::merge::{Deletion, Set};
use super::number::Number;
use super::row::MAX_TIME_MS;
use super::tensor::{Type, holds};
use super::value::{Kind, Value};
use crate::server::{Arg, Args, EXPIRIES, Error, quoted, refuse};
use crate::time::{MILLIS_PER_SECOND, Millis};

/// How values are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As arrays of what is stored.
    Values,
    /// As one buffer of numbers.
    Tensor(Type),
    /// As one JSON document.
    Json,
}

/// What ML.FEATUREGET asks for.
pub struct Request<'a> {
    /// The entities.
    pub keys: Vec<Arg<'a>>,
    /// The features of each.
    pub fields: Vec<Arg<'a>>,
    /// How they are answered.
    pub form: Form,
    /// What stands in for a field that is missing, for each field.
    pub defaults: Vec<Option<Arg<'a>>>,
    /// Values of rows older than this are too old.
    pub max_age_ms: Option<Millis>,
    /// Whether a field that is missing, or too old, is an error.
    pub strict: bool,
}

impl<'a> Request<'a> {
    /// `numkeys key [key ...] FIELDS m field [field ...] [AS VALUES|TENSOR|JSON]
    /// [TYPE F32|F64|I64] [DEFAULT x | DEFAULTS m x [x ...]] [MAXAGE ms] [STRICT]`
    pub fn parse(args: &mut Args<'a>) -> Result<Self, Error> {
        let keys = args.counted("numkeys", "keys")?;
        args.arg()?.one_of("the argument after the keys", &["FIELDS"])?;
        let fields = args.counted("FIELDS", "fields")?;
        let most = MAX_VALUES.get_unsigned();
        let values = (keys.len() as u64).saturating_mul(fields.len() as u64);
        if values > most {
            return Err(refuse(format!(
                "numkeys times FIELDS must be at most {most} (ml.features-max-values)"
            )));
        }
        let form = Form::Values;
        let defaults = vec![None; fields.len()];
        let mut request = Self { keys, fields, form, defaults, max_age_ms: None, strict: false };
        request.options(args)?;
        request.check_defaults()?;
        Ok(request)
    }

    fn options(&mut self, args: &mut Args<'a>) -> Result<(), Error> {
        const KNOWN: &[&str] = &["AS", "TYPE", "DEFAULT", "DEFAULTS", "MAXAGE", "STRICT"];
        const FORMS: &[&str] = &["VALUES", "TENSOR", "JSON"];
        let mut kind = None;
        let mut options = args.options();
        while let Some(option) = options.next(KNOWN)? {
            match option {
                "AS" => {
                    self.form = match options.value()?.one_of("AS", FORMS)? {
                        0 => Form::Values,
                        1 => Form::Tensor(Type::default()),
                        _ => Form::Json,
                    }
                }
                "TYPE" => {
                    kind = Some(Type::at(options.value()?.one_of("TYPE", &Type::NAMES)?));
                }
                "DEFAULT" => {
                    options.excludes(KNOWN, &["DEFAULTS"])?;
                    self.defaults = vec![Some(options.value()?); self.fields.len()];
                }
                "DEFAULTS" => {
                    options.excludes(KNOWN, &["DEFAULT"])?;
                    let defaults = options.counted("values that follow", 1)?;
                    if defaults.len() != self.fields.len() {
                        return Err(refuse("DEFAULTS must be as many as FIELDS"));
                    }
                    self.defaults = defaults.into_iter().map(Some).collect();
                }
                "MAXAGE" => {
                    self.max_age_ms = Some(options.integer(1..=i64::MAX)?.cast_unsigned());
                }
                _ => self.strict = true,
            }
        }
        match (kind, self.form) {
            (None, _) => Ok(()),
            (Some(kind), Form::Tensor(_)) => {
                self.form = Form::Tensor(kind);
                Ok(())
            }
            (Some(_), _) => Err(refuse("TYPE goes with AS TENSOR only")),
        }
    }

    /// What stands in for a number must be one that the tensor holds.
    fn check_defaults(&self) -> Result<(), Error> {
        let Form::Tensor(kind) = self.form else { return Ok(()) };
        let sound = |default: &Arg| {
            Number::parse(default.bytes()).is_some_and(|number| holds(kind, number))
        };
        match self.defaults.iter().flatten().all(sound) {
            true => Ok(()),
            false => Err(refuse(format!("DEFAULT must be a number of type {}", kind.name()))),
        }
    }
}

/// What ML.FEATURESET writes to a row.
pub struct Write<'a> {
    /// What is written.
    pub set: Set<'a>,
    /// The value of each field.
    pub values: Vec<Value<'a>>,
}

impl<'a> Write<'a> {
    /// `[VIEW view] [AT ms] [EX s | PX ms | EXAT s | PXAT ms]
    /// [TYPE AUTO|F32|F64|I64|STRING] FIELDS n field value [field value ...]`
    pub fn parse(args: &mut Args<'a>, now_ms: Millis) -> Result<Self, Error> {
        let options = WriteOptions::parse(args, now_ms, &Kind::NAMES, 2)?;
        let kind = options.kind.map_or(Kind::default(), Kind::at);
        let read = |pair: &[Arg<'a>]| match pair {
            [field, value] => {
                let wrong = || {
                    let field = quoted(field.bytes());
                    refuse(format!("the value of field {field} must be {}", kind.describe()))
                };
                kind.read(value.bytes()).ok_or_else(wrong)
            }
            _ => Err(Error::WrongArity),
        };
        let all: Vec<_> = options.fields.chunks(2).map(read).collect::<Result<_, _>>()?;
        let names: Vec<_> = options.fields.iter().step_by(2).map(|name| name.bytes()).collect();
        let order = order(&names);
        let values = order.iter().filter_map(|place| all.get(*place).copied()).collect();
        Ok(Self { set: options.set(&names, &order)?, values })
    }
}

/// What ML.FEATUREMSET writes to some rows.
pub struct Batch<'a> {
    /// The rows.
    pub keys: Vec<Arg<'a>>,
    /// What is written to each.
    pub set: Set<'a>,
    kind: Type,
    blob: &'a [u8],
    /// For each field of the set, which column of the blob has its values.
    columns: Vec<usize>,
    /// How many columns the blob has.
    width: usize,
}

impl<'a> Batch<'a> {
    /// `numkeys key [key ...] blob TYPE F32|F64|I64 FIELDS m field [field ...]
    /// [VIEW view] [AT ms] [EX s | PX ms | EXAT s | PXAT ms]`
    pub fn parse(args: &mut Args<'a>, now_ms: Millis) -> Result<Self, Error> {
        let keys = args.counted("numkeys", "keys")?;
        let blob = args.arg()?.bytes();
        let options = WriteOptions::parse(args, now_ms, &Type::NAMES, 1)?;
        let kind = options.kind.map(Type::at);
        let kind = kind.ok_or_else(|| refuse("TYPE must be given: F32, F64 or I64"))?;
        let width = options.fields.len();
        let length = keys.len().saturating_mul(width).saturating_mul(kind.bytes());
        if blob.len() != length {
            return Err(refuse(format!(
                "blob must be {length} bytes long: a value of type {} for each key and field",
                kind.name()
            )));
        }
        let names: Vec<_> = options.fields.iter().map(|name| name.bytes()).collect();
        let columns = order(&names);
        Ok(Self { keys, set: options.set(&names, &columns)?, kind, blob, columns, width })
    }

    /// The values of each row, for the fields of the set.
    pub fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = Value<'static>>> {
        let size = self.kind.bytes();
        self.blob.chunks_exact(self.width * size).map(move |row| {
            let columns = self.columns.iter();
            columns.filter_map(move |column| self.kind.read(row.get(column * size..)?))
        })
    }
}

/// The places of names, sorted by name; of a name that comes twice the last.
fn order(names: &[&[u8]]) -> Vec<usize> {
    let name = |place: &usize| names.get(*place).copied().unwrap_or_default();
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

/// The options that commands that write have in common.
struct WriteOptions<'a> {
    view: &'a [u8],
    at_ms: Option<Millis>,
    expires_at_ms: Option<Millis>,
    /// The place of TYPE among its names.
    kind: Option<usize>,
    /// What follows FIELDS.
    fields: Vec<Arg<'a>>,
}

impl<'a> WriteOptions<'a> {
    /// Each of FIELDS takes `size` arguments, the first of them a name.
    fn parse(
        args: &mut Args<'a>,
        now_ms: Millis,
        kinds: &[&str],
        size: usize,
    ) -> Result<Self, Error> {
        const KNOWN: &[&str] = &["VIEW", "AT", "EX", "PX", "EXAT", "PXAT", "TYPE", "FIELDS"];
        let (view, fields): (&[u8], _) = (b"", Vec::new());
        let mut all = Self { view, at_ms: None, expires_at_ms: None, kind: None, fields };
        let mut options = args.options();
        while let Some(option) = options.next(KNOWN)? {
            match option {
                "VIEW" => all.view = self::view(options.value()?)?,
                "AT" => all.at_ms = Some(event_time(options.value()?, now_ms)?),
                "TYPE" => all.kind = Some(options.value()?.one_of("TYPE", kinds)?),
                "FIELDS" => all.fields = options.counted("fields that follow", size)?,
                unit => {
                    options.excludes(KNOWN, EXPIRIES)?;
                    let expires_at_ms = options.value()?.expiry(unit, now_ms, MAX_TIME_MS)?;
                    all.expires_at_ms = Some(expires_at_ms);
                }
            }
        }
        if all.fields.is_empty() {
            return Err(refuse("FIELDS must be given: how many, and each of them"));
        }
        Ok(all)
    }

    /// What is written to fields of these names, in this order.
    fn set(&self, names: &[&'a [u8]], order: &[usize]) -> Result<Set<'a>, Error> {
        if order.len() > MAX_FIELDS {
            return Err(refuse(format!("FIELDS must be at most {MAX_FIELDS}")));
        }
        if names.iter().any(|name| name.len() > MAX_NAME_BYTES) {
            return Err(refuse(format!("field must be at most {MAX_NAME_BYTES} bytes long")));
        }
        let fields = order.iter().filter_map(|place| names.get(*place).copied()).collect();
        let Self { view, at_ms, expires_at_ms, .. } = *self;
        Ok(Set { view, fields, at_ms, expires_at_ms })
    }
}

/// `VIEW view | FIELDS n field [field ...]`
pub fn deletion<'a>(args: &mut Args<'a>) -> Result<Deletion<'a>, Error> {
    let deletion = match args.arg()?.one_of("the argument after key", &["VIEW", "FIELDS"])? {
        0 => Deletion::View(view(args.arg()?)?),
        _ => {
            let names = args.counted("FIELDS", "fields that follow")?;
            Deletion::Fields(names.iter().map(|name| name.bytes()).collect())
        }
    };
    match args.left() {
        0 => Ok(deletion),
        _ => Err(refuse("nothing may follow what is to be deleted")),
    }
}

fn view(name: Arg<'_>) -> Result<&[u8], Error> {
    match name.bytes() {
        name if names_a_view(name) => Ok(name),
        _ => Err(refuse(format!(
            "VIEW must be a name of at most {MAX_NAME_BYTES} bytes without ':'"
        ))),
    }
}

fn event_time(at: Arg, now_ms: Millis) -> Result<Millis, Error> {
    let skew_s = MAX_SKEW.get_unsigned();
    let latest_ms = now_ms.saturating_add(skew_s * MILLIS_PER_SECOND).min(MAX_TIME_MS);
    at.integer("AT", 0..=latest_ms.cast_signed()).map(i64::cast_unsigned).map_err(|_| {
        refuse(format!(
            "AT must be milliseconds from 0 to {latest_ms}, {skew_s} seconds from now (ml.features-max-skew)"
        ))
    })
}
