//! From arguments to a checked request.

use super::config::MAX_VALUES;
use super::number::Number;
use super::tensor::{Type, holds};
use crate::server::{Arg, Args, Error, Options, refuse};

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
    /// Whether a field that is missing is an error.
    pub strict: bool,
}

impl<'a> Request<'a> {
    /// `numkeys key [key ...] FIELDS m field [field ...] [AS VALUES|TENSOR|JSON]
    /// [TYPE F32|F64|I64] [DEFAULT x | DEFAULTS m x [x ...]] [MAXAGE ms] [STRICT]`
    pub fn parse(args: &mut Args<'a>) -> Result<Self, Error> {
        let keys = counted(args, "numkeys", "keys")?;
        args.arg()?.one_of("the argument after the keys", &["FIELDS"])?;
        let fields = counted(args, "FIELDS", "fields")?;
        let most = MAX_VALUES.get_unsigned();
        let values = (keys.len() as u64).saturating_mul(fields.len() as u64);
        if values > most {
            return Err(refuse(format!(
                "numkeys times FIELDS must be at most {most} (ml.features-max-values)"
            )));
        }
        let form = Form::Values;
        let defaults = vec![None; fields.len()];
        let mut request = Self { keys, fields, form, defaults, strict: false };
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
                    self.defaults = defaults(&mut options, self.fields.len())?;
                }
                // Plain hashes carry no event time.
                "MAXAGE" => drop(options.integer(1..=i64::MAX)?),
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

/// A number, and as many arguments.
fn counted<'a>(args: &mut Args<'a>, what: &str, things: &str) -> Result<Vec<Arg<'a>>, Error> {
    let count = args.arg()?.integer(what, 1..=i64::MAX)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= args.left());
    let count = count.ok_or_else(|| refuse(format!("{what} must be the number of {things}")))?;
    (0..count).map(|_| args.arg()).collect()
}

fn defaults<'a>(
    options: &mut Options<'_, 'a>,
    fields: usize,
) -> Result<Vec<Option<Arg<'a>>>, Error> {
    let count = options.integer(1..=i64::MAX)?;
    if usize::try_from(count) != Ok(fields) {
        return Err(refuse("DEFAULTS must be as many as FIELDS"));
    }
    (0..fields).map(|_| options.value().map(Some)).collect()
}
