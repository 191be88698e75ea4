//! The fields that a call asks for, by name.

use crate::bug;
use crate::features::feast;
use crate::features::form::Form;
use crate::features::layout::ReadName;
use crate::features::windows::Aggregate;
use crate::server::Arg;
use crate::time::Micros;
use std::collections::HashMap;

/// A field, as it is looked for in a hash.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The argument, where the whole of one is the name.
    pub arg: Option<Arg<'a>>,
    /// The name, for which the server is asked once.
    pub name: &'a [u8],
}

/// By which names hashes are asked.
#[derive(Clone, Copy)]
pub struct InHashes<'a> {
    /// Those of the fields as they were given first.
    pub fields: &'a [Field<'a>],
    /// What else there is to know where Feast's store wrote the hashes.
    pub feast: Option<&'a feast::Names>,
}

/// The fields that a call asks for.
pub struct Fields<'a> {
    /// Those of the call by their whole names; then, for what is asked for as numbers, by
    /// the names without what is asked for.
    names: Vec<Field<'a>>,
    /// How many the call has.
    count: usize,
    /// What is asked for of each, where it is not one value of all.
    cuts: Vec<Cut<'a>>,
    windows: Vec<Window>,
    columns: usize,
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
    /// Those that arguments name.
    pub fn of(args: impl Iterator<Item = Arg<'a>>) -> Self {
        let whole = args.map(|arg| Field { arg: Some(arg), name: arg.bytes() });
        let mut names: Vec<_> = whole.collect();
        let count = names.len();
        let is_cut = |field: &Field| matches!(field.name.last(), Some(b']' | b')'));
        let (cuts, windows) = (Vec::new(), Vec::new());
        let mut fields = Self { names: Vec::new(), count, cuts, windows, columns: count };
        if names.iter().any(is_cut) {
            let cut = |field: &Field<'a>| Form::cut(field.name);
            let cuts: Vec<_> = names.iter().map(cut).collect();
            let mut known = HashMap::new();
            fields.columns = 0;
            for (place, (field, form)) in cuts.into_iter().enumerate() {
                let (mut bare, mut window) = (None, 0);
                match form {
                    Form::One => {}
                    Form::Numbers(_) => {
                        bare = Some(names.len());
                        names.push(Field { arg: None, name: field });
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
        Self { names, ..fields }
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
        self.names.get(place).unwrap_or_else(|| bug("a place without a field")).name
    }

    /// All names, as they were given.
    pub fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.names.iter().take(self.count).map(|field| field.name)
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
        self.names.iter().take(self.count).enumerate().map(move |(place, whole)| {
            let name = self.cuts.get(place).map_or(whole.name, |cut| cut.field);
            if has_named_views { ReadName::new(name) } else { ReadName::whole(name) }
        })
    }

    /// The names by which hashes are asked; the first are those that were given.
    pub fn in_hashes(&self) -> InHashes<'_> {
        InHashes { fields: &self.names, feast: None }
    }

    /// Where the name of the field at a place alone stands among those of [`Self::in_hashes`].
    pub fn bare(&self, place: usize) -> Option<usize> {
        self.cuts.get(place).and_then(|cut| cut.bare)
    }
}
