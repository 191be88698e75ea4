//! The fields that a call asks for, by name.

use crate::bug;
use crate::features::feast;
use crate::features::form::Form;
use crate::features::layout::ReadName;
use crate::features::listing::Listing;
use crate::features::resolved::ResolvedFields;
use crate::features::shared_layout::SharedLayout;
use crate::features::windows::Aggregate;
use crate::server::{Arg, Strings};
use crate::time::Micros;
use std::collections::HashMap;
use std::sync::Arc;

/// A field, as it is looked for in a hash.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The argument, where the whole of one is the name.
    pub arg: Option<Arg<'a>>,
    /// The name, for which the server is asked once.
    pub name: &'a [u8],
}

impl<'a> Field<'a> {
    fn of(arg: Arg<'a>) -> Self {
        Self { arg: Some(arg), name: arg.bytes() }
    }

    fn named(name: &'a [u8]) -> Self {
        Self { arg: None, name }
    }
}

/// The fields that a call asks for.
pub struct Fields<'a> {
    names: Names<'a>,
    /// How many the call has.
    count: usize,
    /// What is asked for of each, where it is not one value of all.
    cuts: Vec<Cut<'a>>,
    windows: Vec<Window>,
    columns: usize,
    /// How long all names are together.
    name_bytes: u64,
    /// The list that has them, if one was named.
    listing: Option<&'a Listing>,
}

/// The names of fields.
enum Names<'a> {
    /// Those of the call by their whole names; then, for what is asked for as numbers, by
    /// the names without what is asked for.
    Read(Vec<Field<'a>>),
    /// Those of a list, which are read only where that is needed.
    Listed(&'a Strings),
}

/// A span of a field's windows, of which any number of aggregates are asked for.
pub struct Window {
    /// The first place that asks for one.
    pub place: usize,
    /// How long the span is.
    pub span_us: Micros,
    /// Whether the deviation is asked for as well.
    pub deviates: bool,
}

/// A name that was cut.
#[derive(Clone, Copy)]
struct Cut<'a> {
    field: &'a [u8],
    form: Form,
    /// Where the name stands in [`Fields::names`] by which a hash is asked after the whole.
    bare: Option<usize>,
    /// Which of [`Fields::windows`] an aggregate is read from.
    window: usize,
}

impl<'a> Fields<'a> {
    /// Those of a list.
    pub fn listed(listing: &'a Listing) -> Self {
        let strings = listing.strings();
        let fields = match listing.are_plain {
            true => Self::plain(Names::Listed(strings), strings.iter().len(), listing.name_bytes),
            false => Self::of(strings.iter()),
        };
        Self { listing: Some(listing), ..fields }
    }

    /// Those of so many names, of each one value as it is.
    fn plain(names: Names<'a>, count: usize, name_bytes: u64) -> Self {
        let (cuts, windows) = (Vec::new(), Vec::new());
        Self { names, count, cuts, windows, columns: count, name_bytes, listing: None }
    }

    /// Those that arguments name.
    pub fn of(args: impl Iterator<Item = Arg<'a>>) -> Self {
        let mut names: Vec<_> = args.map(Field::of).collect();
        let count = names.len();
        let name_bytes = names.iter().map(|field| field.name.len() as u64).sum();
        let mut fields = Self::plain(Names::Read(Vec::new()), count, name_bytes);
        if names.iter().any(|field| Form::may_cut(field.name)) {
            let mut known = HashMap::new();
            fields.columns = 0;
            fields.cuts.reserve_exact(count);
            for place in 0..count {
                let name = names.get(place).unwrap_or_else(|| bug("a field that was not counted"));
                let (field, form) = Form::cut(name.name);
                let (mut bare, mut window) = (None, 0);
                match form {
                    Form::One => {}
                    Form::Numbers(_) => {
                        bare = Some(names.len());
                        names.push(Field::named(field));
                    }
                    Form::Window(aggregate, span_us) => {
                        window = *known.entry((field, span_us)).or_insert_with(|| {
                            fields.windows.push(Window { place, span_us, deviates: false });
                            fields.windows.len() - 1
                        });
                        if let Some(window) = fields.windows.get_mut(window) {
                            window.deviates |= aggregate == Aggregate::Std;
                        }
                    }
                }
                fields.columns = fields.columns.saturating_add(form.width());
                fields.cuts.push(Cut { field, form, bare, window });
            }
        }
        Self { names: Names::Read(names), ..fields }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many columns of a tensor they take.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The name at a place, as it was given.
    pub fn name(&self, place: usize) -> &'a [u8] {
        let name = match &self.names {
            Names::Read(names) => names.get(place).map(|field| field.name),
            Names::Listed(strings) => strings.get(place).map(Arg::bytes),
        };
        name.unwrap_or_else(|| bug("a place without a field"))
    }

    /// All names, as they were given.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.count).map(|place| self.name(place))
    }

    /// How long all names are together.
    pub fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    /// Whether one value is asked for of each.
    pub fn are_plain(&self) -> bool {
        self.cuts.is_empty()
    }

    /// What is asked for of the field at a place.
    #[inline]
    pub fn form(&self, place: usize) -> Form {
        self.cuts.get(place).map_or(Form::One, |cut| cut.form)
    }

    /// The windows that aggregates are asked for of, each span of a field once.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The aggregate that the place asks for, if it does, and of which of the windows.
    #[inline]
    pub fn aggregate(&self, place: usize) -> Option<(Aggregate, usize)> {
        match self.cuts.get(place)? {
            Cut { form: Form::Window(aggregate, _), window, .. } => Some((*aggregate, *window)),
            _ => None,
        }
    }

    /// The names by which rows are asked.
    pub fn read_names(&self, has_named_views: bool) -> impl ExactSizeIterator<Item = ReadName<'a>> {
        self.names().enumerate().map(move |(place, whole)| {
            let name = self.cuts.get(place).map_or(whole, |cut| cut.field);
            if has_named_views { ReadName::new(name) } else { ReadName::whole(name) }
        })
    }

    /// Where they stand in the rows of a layout, as `resolve` finds it if it is not known.
    pub fn resolved(
        &self,
        layout: &SharedLayout,
        resolve: impl FnOnce() -> ResolvedFields,
    ) -> Arc<ResolvedFields> {
        match self.listing {
            Some(listing) => listing.resolved(layout, resolve),
            None => Arc::new(resolve()),
        }
    }

    /// The names by which hashes are asked; the first are those that were given. Where
    /// Feast's store wrote them, they are as it names them.
    pub fn in_hashes(&self, feast: Option<&'a feast::Names>) -> Vec<Field<'a>> {
        match (feast, &self.names) {
            (Some(names), _) => names.all().map(Field::named).collect(),
            (None, Names::Read(names)) => names.clone(),
            (None, Names::Listed(strings)) => strings.iter().map(Field::of).collect(),
        }
    }

    /// Where the name of the field at a place alone stands among those of [`Self::in_hashes`].
    pub fn bare(&self, place: usize) -> Option<usize> {
        self.cuts.get(place).and_then(|cut| cut.bare)
    }
}
