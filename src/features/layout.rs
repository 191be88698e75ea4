//! Layouts: which fields a row has. A layout knows names only: the type belongs
//! to each value.

use crate::bug;
use std::cmp::Ordering;
use std::ops::Range;

/// The most fields that a row holds.
pub const MAX_FIELDS: usize = 65_535;

/// The longest name of a view or of a field, in bytes.
pub const MAX_NAME_BYTES: usize = 65_535;

/// A view and a field of it, by their names. The default view's name is empty.
pub type Name<'n> = (&'n [u8], &'n [u8]);

/// What stands between the name of a view and that of a field.
const SEPARATOR: u8 = b':';

/// Whether a view can have this name, so that `view:field` names a field of it.
pub fn names_a_view(name: &[u8]) -> bool {
    name.len() <= MAX_NAME_BYTES && !name.contains(&SEPARATOR)
}

/// A name by which a field is read, cut once for all rows: the whole of it names a
/// field of the default view, and `view:field` one of a view.
#[derive(Clone, Copy, Debug)]
pub struct ReadName<'n> {
    name: &'n [u8],
    /// Where the name of a view ends, if there can be one.
    colon: Option<usize>,
}

impl<'n> ReadName<'n> {
    /// A name as it was given. No more of it is looked at than a view's name is long.
    pub fn new(name: &'n [u8]) -> Self {
        let view = name.get(..=MAX_NAME_BYTES).unwrap_or(name);
        // Where a field is longer than any, there is none to be found.
        let can_be = name.len() <= 2 * MAX_NAME_BYTES + 1;
        let colon = can_be.then(|| view.iter().position(|byte| *byte == SEPARATOR)).flatten();
        // The default view has no name to be called by.
        Self { name, colon: colon.filter(|at| *at > 0) }
    }

    /// A name that is not cut, for rows without a view that has a name.
    pub fn whole(name: &'n [u8]) -> Self {
        Self { name, colon: None }
    }

    /// The fields that it stands for, the first that is there before the other.
    pub fn stands_for(self) -> [Option<Name<'n>>; 2] {
        let Self { name, colon } = self;
        let whole = (name.len() <= MAX_NAME_BYTES).then_some((&b""[..], name));
        let of_view = colon.and_then(|at| Some((name.get(..at)?, name.get(at + 1..)?)));
        [whole, of_view.filter(|(_, field)| field.len() <= MAX_NAME_BYTES)]
    }
}

/// The fields of a row: view by view, sorted, and sorted in each.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Layout {
    names: Box<[u8]>,
    views: Box<[View]>,
    /// Where the name of each field stands in `names`.
    fields: Box<[Span]>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct View {
    name: Span,
    /// The first of its fields; the next view's first ends them.
    first: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Span {
    start: u32,
    length: u16,
}

impl Layout {
    /// The layout of these fields, sorted, each there once. `None` when they are
    /// not, when they are too many, or when a name is none that there can be. The name
    /// of a view that stands in the same place for field after field is read once.
    pub fn of<'n>(all: impl Iterator<Item = Name<'n>>) -> Option<Self> {
        let (mut names, mut views, mut fields) = (Vec::new(), Vec::new(), Vec::new());
        let mut last: Option<Name> = None;
        for (view, field) in all {
            let order = last.map_or(Ordering::Less, |(last_view, last_field)| {
                match std::ptr::eq(last_view, view) || last_view == view {
                    // Equal, or greater: not the next one.
                    true if last_field >= field => Ordering::Greater,
                    true => Ordering::Equal,
                    false => last_view.cmp(view),
                }
            });
            if order == Ordering::Greater || fields.len() == MAX_FIELDS {
                return None;
            }
            if order == Ordering::Less {
                if !names_a_view(view) {
                    return None;
                }
                let first = u32::try_from(fields.len()).ok()?;
                views.push(View { name: append(&mut names, view)?, first });
            }
            fields.push(append(&mut names, field)?);
            last = Some((view, field));
        }
        Some(Self { names: names.into(), views: views.into(), fields: fields.into() })
    }

    /// How many fields it has.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// How many views it has.
    pub fn views(&self) -> usize {
        self.views.len()
    }

    /// Whether any view has a name: the last one then, as they are sorted.
    pub fn has_named_views(&self) -> bool {
        self.views.last().is_some_and(|last| last.name.length > 0)
    }

    /// The name of a view.
    pub fn view_name(&self, view: usize) -> &[u8] {
        let view = self.views.get(view).unwrap_or_else(|| bug("a view that the layout has not"));
        self.text(view.name)
    }

    /// The fields of a view.
    pub fn fields(&self, view: usize) -> Range<usize> {
        let first = |view: usize| self.views.get(view).map(|view| view.first as usize);
        let start = first(view).unwrap_or_else(|| bug("a view that the layout has not"));
        // Those of the last view go to the end.
        start..first(view + 1).unwrap_or(self.len())
    }

    /// The name of a field.
    pub fn field_name(&self, field: usize) -> &[u8] {
        let span = self.fields.get(field);
        self.text(*span.unwrap_or_else(|| bug("a field that the layout has not")))
    }

    /// All fields, in order.
    pub fn names(&self) -> impl Iterator<Item = Name<'_>> {
        (0..self.views()).flat_map(move |view| {
            self.fields(view).map(move |field| (self.view_name(view), self.field_name(field)))
        })
    }

    /// The view of a name.
    pub fn view(&self, name: &[u8]) -> Option<usize> {
        if name.is_empty() {
            // The default view sorts before all others.
            return self.views.first().filter(|first| first.name.length == 0).map(|_| 0);
        }
        self.views.binary_search_by_key(&name, |view| self.text(view.name)).ok()
    }

    /// The field of a name in a view.
    pub fn field(&self, view: usize, name: &[u8]) -> Option<usize> {
        self.likely_field(view, name, usize::MAX)
    }

    /// The same; sooner where it is the `likely` one.
    fn likely_field(&self, view: usize, name: &[u8], likely: usize) -> Option<usize> {
        let Range { start, end } = self.fields(view);
        if (start..end).contains(&likely) && self.field_name(likely) == name {
            return Some(likely);
        }
        let fields = self.fields.get(start..end);
        let fields = fields.unwrap_or_else(|| bug("fields of a view that the layout has not"));
        let place = fields.binary_search_by_key(&name, |span| self.text(*span)).ok()?;
        Some(start + place)
    }

    /// What a name stands for that is read. The first that is there counts. Each is
    /// a view and the field in it. `likely` is a guess, which costs little where it
    /// is wrong: callers often ask for fields in order.
    pub fn resolve(&self, name: ReadName, likely: usize) -> [Option<(usize, usize)>; 2] {
        let find = |(view, field): Name| {
            let view = self.view(view)?;
            Some((view, self.likely_field(view, field, likely)?))
        };
        let [whole, of_view] = name.stands_for();
        [whole.and_then(find), of_view.and_then(find)]
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.names.len()
            + size_of_val::<[View]>(&self.views)
            + size_of_val::<[Span]>(&self.fields)
    }

    fn text(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        let name = self.names.get(start..start + usize::from(span.length));
        name.unwrap_or_else(|| bug("a name outside the names"))
    }
}

/// Appends a name; `None` when it is too long, or all of them are.
fn append(names: &mut Vec<u8>, name: &[u8]) -> Option<Span> {
    let span =
        Span { start: u32::try_from(names.len()).ok()?, length: u16::try_from(name.len()).ok()? };
    names.extend(name);
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn layout(names: &[(&str, &str)]) -> Option<Layout> {
        Layout::of(names.iter().map(|(view, field)| (view.as_bytes(), field.as_bytes())))
    }

    #[test]
    fn a_name_is_looked_up_whole_in_the_default_view_first() {
        let layout = layout(&[("", "a"), ("", "v:a"), ("v", "a"), ("v", "b:c")]).unwrap();
        assert_eq!(layout.resolve(ReadName::new(b"a"), 0), [Some((0, 0)), None]);
        assert_eq!(layout.resolve(ReadName::new(b"v:a"), 0), [Some((0, 1)), Some((1, 2))]);
        assert_eq!(layout.resolve(ReadName::new(b"v:b:c"), 3), [None, Some((1, 3))]);
        for nothing in ["", "v", "v:", ":a", "a:", "w:a", "b:c", "v:a:"] {
            assert_eq!(
                layout.resolve(ReadName::new(nothing.as_bytes()), 1),
                [None, None],
                "{nothing}"
            );
        }
    }

    #[test]
    fn names_are_sorted_and_each_there_once() {
        assert_eq!(layout(&[]).unwrap(), Layout::default());
        assert!(layout(&[("", ""), ("", "a"), ("v", "")]).is_some());
        assert_eq!(layout(&[("", "b"), ("", "a")]), None);
        assert_eq!(layout(&[("", "a"), ("", "a")]), None);
        assert_eq!(layout(&[("v", "a"), ("", "b")]), None);
        assert_eq!(layout(&[("a:b", "c")]), None);
    }

    #[test]
    fn fields_are_not_more_and_names_not_longer_than_they_may_be() {
        let names: Vec<_> = (0..=MAX_FIELDS as u32).map(u32::to_be_bytes).collect();
        let of = |names: &[[u8; 4]]| Layout::of(names.iter().map(|name| (&b""[..], &name[..])));
        assert!(of(&names[1..]).is_some());
        assert!(of(&names).is_none());
        let long = vec![b'x'; MAX_NAME_BYTES + 1];
        assert!(Layout::of([(&b""[..], &long[1..])].into_iter()).is_some());
        assert!(Layout::of([(&b""[..], &long[..])].into_iter()).is_none());
        assert!(Layout::of([(&long[..], &b"x"[..])].into_iter()).is_none());
    }

    #[test]
    fn a_name_longer_than_any_is_looked_for_nowhere() {
        let longest = "x".repeat(MAX_NAME_BYTES);
        let layout = layout(&[("", &longest), ("v", &longest), (&longest, &longest)]).unwrap();
        let resolve = |name: &str| layout.resolve(ReadName::new(name.as_bytes()), 0);
        assert_eq!(resolve(&longest), [Some((0, 0)), None]);
        assert_eq!(resolve(&format!("v:{longest}")), [None, Some((1, 1))]);
        assert_eq!(resolve(&format!("{longest}:{longest}")), [None, Some((2, 2))]);
        for name in [
            format!("{longest}x"),
            format!("v:{longest}x"),
            format!("{longest}x:x"),
            format!("{longest}:{longest}x"),
            format!("v:{}", "x".repeat(1 << 20)),
        ] {
            assert_eq!(resolve(&name), [None, None]);
            assert_eq!(ReadName::new(name.as_bytes()).stands_for(), [None, None]);
        }
    }

    /// The names that murmur3 takes for one (feast-dev/feast).
    #[test]
    fn names_that_hash_alike_are_told_apart() {
        let layout = layout(&[("driver_stats", "f104172"), ("driver_stats", "f28328")]).unwrap();
        assert_eq!(layout.resolve(ReadName::new(b"driver_stats:f104172"), 1)[1], Some((0, 0)));
        assert_eq!(layout.resolve(ReadName::new(b"driver_stats:f28328"), 1)[1], Some((0, 1)));
    }

    proptest! {
        #[test]
        fn every_field_is_found_and_no_other(
            names in prop::collection::btree_set(("[ab]{0,2}", "[ab:]{0,2}"), 0..20),
            others in prop::collection::vec("[ab:]{0,5}", 20),
            likely in 0usize..25,
        ) {
            let pairs: Vec<_> = names.iter().map(|(view, field)| (&**view, &**field)).collect();
            let layout = layout(&pairs).unwrap();
            let views: BTreeSet<_> = names.iter().map(|(view, _)| view).collect();
            prop_assert_eq!((layout.len(), layout.views()), (names.len(), views.len()));
            let listed: Vec<_> = layout.names().map(|(view, field)| {
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                (text(view), text(field))
            }).collect();
            prop_assert_eq!(&listed, &pairs);
            for name in &others {
                let whole = pairs.iter().position(|pair| *pair == ("", &**name));
                let parts = name.split_once(':').filter(|(view, _)| !view.is_empty());
                let of_view = parts.and_then(|parts| pairs.iter().position(|pair| *pair == parts));
                let found = layout.resolve(ReadName::new(name.as_bytes()), likely);
                prop_assert_eq!(found.map(|found| found.map(|(_, field)| field)), [whole, of_view]);
                for (view, field) in found.into_iter().flatten() {
                    prop_assert!(layout.fields(view).contains(&field));
                }
            }
        }
    }
}
