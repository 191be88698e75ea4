//! The fields of a call, resolved for the rows of one layout.

use super::form::Form;
use super::layout::{Layout, ReadName};
use super::numbering::Numbering;
use crate::bug;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

/// Where in the rows of a layout the fields of a call stand.
#[derive(Debug)]
pub struct ResolvedFields {
    /// For each place of the call the field; [`NOWHERE`] where there is none.
    fields: Vec<u32>,
    are_all_there: bool,
    /// Where they are all there, and each stands after the one before it.
    run: Option<Range<usize>>,
    /// The views that any of them is in.
    views: SmallVec<[u32; 2]>,
    /// The view of each of them, by its place in `views`.
    views_of: Vec<u32>,
    /// What stands for a place where its view has expired: by the places in
    /// `views` and in the row.
    others: HashMap<usize, (usize, usize)>,
    /// Found out when first asked for.
    steps: OnceLock<Vec<Step>>,
}

/// Places that follow each other and are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// From a place on, one value of each of the fields, which stand one after the other.
    Run(usize, Range<usize>),
    /// Aggregates of windows, of whichever fields.
    Aggregates(Range<usize>),
    /// Places of one field, if it is there, or of none.
    Same(Option<usize>, Range<usize>),
}

/// A field that no row has.
const NOWHERE: u32 = u32::MAX;

impl ResolvedFields {
    /// The fields of these names, in the rows of a layout.
    pub fn new<'n>(layout: &Layout, names: impl ExactSizeIterator<Item = ReadName<'n>>) -> Self {
        let mut fields = Vec::with_capacity(names.len());
        let mut views_of = Vec::with_capacity(names.len());
        let mut others = HashMap::new();
        let (mut views, mut numbering) = (SmallVec::new(), Numbering::default());
        let mut number_of = |view: usize| {
            let number = numbering.of(view);
            if number == views.len() {
                views.push(view as u32);
            }
            number
        };
        let mut likely = 0;
        for (place, name) in names.enumerate() {
            let (first, other) = match layout.resolve(name, likely) {
                [Some(first), other] => (first, other),
                [None, Some(first)] => (first, None),
                [None, None] => {
                    views_of.push(NOWHERE);
                    fields.push(NOWHERE);
                    continue;
                }
            };
            // A row has fewer views and fields than 2^32 by far.
            views_of.push(number_of(first.0) as u32);
            fields.push(first.1 as u32);
            likely = first.1 + 1;
            if let Some((view, field)) = other {
                others.insert(place, (number_of(view), field));
            }
        }
        let are_all_there = fields.iter().all(|field| *field != NOWHERE);
        let first = fields.first().map_or(0, |first| *first as usize);
        let run = first..first + fields.len();
        let in_order = fields.iter().map(|field| *field as usize).eq(run.clone());
        let run = (are_all_there && in_order).then_some(run);
        Self { fields, are_all_there, run, views, views_of, others, steps: OnceLock::new() }
    }

    /// The views that any of the fields is in.
    pub fn views(&self) -> impl Iterator<Item = usize> {
        self.views.iter().map(|view| *view as usize)
    }

    /// The view of a number, as [`Self::all`] names it.
    pub fn view(&self, number: usize) -> usize {
        let view = self.views.get(number).copied();
        view.unwrap_or_else(|| bug("a view that is none of the call's")) as usize
    }

    /// How many fields the call asks for.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// The field at a place, where all views are served.
    pub fn field(&self, place: usize) -> Option<usize> {
        let field = *self.fields.get(place).unwrap_or_else(|| bug("a place without a field"));
        (field != NOWHERE).then_some(field as usize)
    }

    /// All that may stand for a place: views, by their place in [`Self::views`],
    /// and fields, the first that is served before the others.
    pub fn all(&self, place: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = self.field(place).map(|field| {
            let view = self.views_of.get(place);
            (*view.unwrap_or_else(|| bug("a place without a view")) as usize, field)
        });
        let other = first.and_then(|_| self.others.get(&place).copied());
        first.into_iter().chain(other)
    }

    /// Where all fields stand, one after the other in the order asked for, if they do.
    pub fn run(&self) -> Option<Range<usize>> {
        self.run.clone()
    }

    /// The steps in which a row is read of which all views are served, by what is asked
    /// for at a place: it goes with the names, and is the same whenever it is asked.
    pub fn steps(&self, form: impl Fn(usize) -> Form) -> &[Step] {
        self.steps.get_or_init(|| {
            let mut steps = Vec::new();
            for place in 0..self.len() {
                match (form(place), self.field(place), steps.last_mut()) {
                    (Form::One, Some(field), Some(Step::Run(_, fields))) if field == fields.end => {
                        fields.end += 1;
                    }
                    (Form::One, Some(field), _) => {
                        steps.push(Step::Run(place, field..field + 1));
                    }
                    (Form::Window(..), _, Some(Step::Aggregates(places))) => places.end += 1,
                    (Form::Window(..), ..) => steps.push(Step::Aggregates(place..place + 1)),
                    (_, field, Some(Step::Same(of, places))) if field == *of => places.end += 1,
                    (_, field, _) => steps.push(Step::Same(field, place..place + 1)),
                }
            }
            steps
        })
    }

    /// For each place the field, if the row has all of them.
    pub fn all_there(&self) -> Option<&[u32]> {
        self.are_all_there.then_some(&self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::super::windows::Aggregate;
    use super::*;

    #[test]
    fn fields_are_resolved_in_the_order_asked_for() {
        let names = [("", "a"), ("", "v:b"), ("v", "a"), ("v", "b"), ("w", "c")];
        let names = names.map(|(view, field)| (view.as_bytes(), field.as_bytes()));
        let layout = Layout::of(names.into_iter()).unwrap();
        let asked = |names: &[&'static str]| {
            let names = names.iter().map(|name| ReadName::new(name.as_bytes()));
            ResolvedFields::new(&layout, names)
        };
        let resolved = asked(&["v:b", "a", "none", "w:c", "v:b"]);
        assert_eq!(resolved.views().collect::<Vec<_>>(), [0, 1, 2]);
        let all = |place| resolved.all(place).collect::<Vec<_>>();
        assert_eq!(
            [all(0), all(1), all(2), all(3)],
            [vec![(0, 1), (1, 3)], vec![(0, 0)], vec![], vec![(2, 4)]]
        );
        assert_eq!(all(4), all(0));
        assert_eq!((resolved.field(2), resolved.run(), resolved.all_there()), (None, None, None));
        assert_eq!(asked(&["v:a", "w:c"]).all_there(), Some(&[2, 4][..]));
        assert_eq!(asked(&["a", "v:b", "v:a"]).run(), Some(0..3));
        // As one, "v:b" and "a" and what follows them stand apart.
        let names =
            ["a", "v:b", "v:a", "none", "nor", "w:c", "w:c", "w:c", "v:a", "v:b", "a", "a", "w:c"];
        let resolved = asked(&names);
        let steps = [
            Step::Run(0, 0..3),
            Step::Same(None, 3..5),
            Step::Same(Some(4), 5..7),
            Step::Run(7, 4..5),
            Step::Run(8, 2..3),
            Step::Run(9, 1..2),
            Step::Same(Some(0), 10..11),
            Step::Aggregates(11..13),
        ];
        let form = |place| match place {
            5 | 6 | 10 => Form::Numbers(2),
            11 | 12 => Form::Window(Aggregate::Sum, 1),
            _ => Form::One,
        };
        assert_eq!(resolved.steps(form), steps);
        // Only what is asked for is looked at, however many views a row has.
        assert_eq!(asked(&["w:c", "w:c"]).views().collect::<Vec<_>>(), [2]);
    }
}
