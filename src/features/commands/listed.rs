//! `FIELDS @list`: the fields of a list, wherever a call can name fields.

use crate::features::field_lists;
use crate::features::listing::Listing;
use crate::server::{Arg, Args, Argument, Error, Kept, Lock, Options, quoted, refuse};

/// `@list`
pub const LIST: Argument = Argument::string(c"@list");

/// The field lists that a call can name, and where the one is kept that it does.
pub struct Listed<'c, 'a> {
    lock: Lock<'a>,
    kept: &'c Kept<'a>,
}

impl<'c, 'a> Listed<'c, 'a> {
    /// Those of the node.
    pub fn new(lock: Lock<'a>, kept: &'c Kept<'a>) -> Self {
        Self { lock, kept }
    }

    /// The fields of the list that the next argument names, if it names one rather than
    /// how many fields follow; of no list it is an error. A call has one such place.
    pub fn next(&self, args: &mut Args<'a>) -> Result<Option<&'a Listing>, Error> {
        let Some(name) = args.peek().and_then(|word| word.strip_prefix(b"@")) else {
            return Ok(None);
        };
        args.arg()?;
        let keep = |list: &field_lists::FieldList| self.kept.keep(list.listing());
        let listing = field_lists::with(&self.lock, |lists| lists.get(name).map(keep));
        listing.map(Some).ok_or_else(|| {
            let name = quoted(name);
            refuse(format!("FIELDS names {name}, which is no field list: ML.FIELDLIST makes one"))
        })
    }

    /// The value of FIELDS: for each field `size` arguments, the first of them its name,
    /// which a list has instead of the call.
    pub fn values(
        &self,
        options: &mut Options<'_, 'a>,
        size: usize,
    ) -> Result<Vec<Arg<'a>>, Error> {
        let Some(listing) = self.next(options.args())? else {
            return options.counted("fields", size);
        };
        let fields = listing.strings().iter();
        let count = fields.len();
        if options.args().left() < count * (size - 1) {
            return Err(refuse(format!("FIELDS of a list need a value for each of its {count}")));
        }
        let mut all = Vec::with_capacity(count * size);
        for field in fields {
            all.push(field);
            for _ in 1..size {
                all.push(options.value()?);
            }
        }
        Ok(all)
    }
}
