//! Writing to rows: what becomes of a row, decided on plain state.
//!
//! A view holds what was written with the latest event time: a write that is
//! older changes nothing, whatever the order in which writes arrive. A view that
//! has expired is none: it is forgotten, its event time too, and goes with the
//! next write to its row.

use super::interned::Interned;
use super::layout::{Layout, Name};
use super::row::{MAX_ROW_BYTES, Row, Term};
use super::value::Value;
use crate::time::Millis;

/// A write of the same fields to some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The view that is written.
    pub view: &'a [u8],
    /// Its fields, sorted, each once.
    pub fields: Vec<&'a [u8]>,
    /// The event time; without one it is now, or the view's own where that is
    /// later.
    pub at_ms: Option<Millis>,
    /// When the view expires; without it the view keeps its time to live.
    pub expires_at_ms: Option<Millis>,
}

/// What is taken out of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion<'a> {
    /// A view.
    View(&'a [u8]),
    /// Fields, by the names that they are read by.
    Fields(Vec<&'a [u8]>),
}

/// Why a row cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// It would hold too many fields.
    #[error("the row would hold more than 65535 fields")]
    Fields,
    /// Its values would take too many bytes.
    #[error("the row would hold more than 64 MiB")]
    Bytes,
}

/// What becomes of a row.
#[derive(Debug)]
pub enum Written {
    /// Nothing: it holds something newer.
    Late,
    /// Nothing: what was to be taken away was not there.
    Unchanged,
    /// This one.
    Row(Row),
    /// It holds nothing any more.
    Emptied,
}

/// Whether a view can be served, by its place in the layout.
pub fn is_alive(row: &Row, view: usize, now_ms: Millis) -> bool {
    row.term(view).is_alive(now_ms)
}

fn all_are_alive(row: &Row, now_ms: Millis) -> bool {
    row.terms().all(|term| term.is_alive(now_ms))
}

/// What writes the same set to one row after the other: what is found out for a
/// row is kept for the next one with the same layout.
pub struct Writer<'a> {
    set: &'a Set<'a>,
    now_ms: Millis,
    last: Option<(Case, Merge)>,
}

/// What a merge was made for.
struct Case {
    layout: Option<Interned>,
    all_alive: bool,
}

/// How a new row is made of one that was and of a write.
struct Merge {
    layout: Interned,
    /// For each view, which one it was; the one that is written was none.
    views: Vec<Option<usize>>,
    /// For each field, where its value comes from.
    values: Vec<Source>,
}

#[derive(Clone, Copy)]
enum Source {
    /// The row that was.
    Held(usize),
    /// The write.
    Written(usize),
}

impl<'a> Writer<'a> {
    /// A writer, at a moment.
    pub fn new(set: &'a Set<'a>, now_ms: Millis) -> Self {
        Self { set, now_ms, last: None }
    }

    /// Whether a row, or a new one, has room for numbers in the fields, however
    /// often they are written.
    pub fn check(&mut self, row: Option<&Row>) -> Result<(), TooLarge> {
        let merge = self.merge(row)?;
        let bytes = row.map_or(0, |row| row.bytes().len());
        match merge.largest(bytes) <= MAX_ROW_BYTES {
            true => Ok(()),
            false => Err(TooLarge::Bytes),
        }
    }

    /// Writes values, one for each field, to a row or a new one.
    pub fn write(&mut self, row: Option<&Row>, values: &[Value]) -> Result<Written, TooLarge> {
        let now_ms = self.now_ms;
        let held = row.and_then(|row| Some(row.term(row.layout().view(self.set.view)?)));
        let held = held.filter(|term| term.is_alive(now_ms)).unwrap_or_default();
        let at_ms = match self.set.at_ms {
            Some(at_ms) if at_ms < held.at_ms => return Ok(Written::Late),
            Some(at_ms) => at_ms,
            None => now_ms.max(held.at_ms),
        };
        let expires_at_ms = self.set.expires_at_ms.or(held.expires_at_ms);
        let is_over = self.set.is_over(now_ms);
        let merge = self.merge(row)?;
        let same = |row: &Row| merge.layout.is(row.layout());
        if is_over && row.is_none_or(same) {
            return Ok(Written::Unchanged);
        }
        if merge.values.is_empty() {
            return Ok(Written::Emptied);
        }
        let term = |view: &Option<usize>| match (row, view) {
            (Some(row), Some(view)) => row.term(*view),
            _ => Term { at_ms, expires_at_ms },
        };
        let terms: Vec<_> = merge.views.iter().map(term).collect();
        let held = row.map(Row::values);
        let value = |source: &Source| match source {
            Source::Held(field) => held.and_then(|values| values.get(*field)),
            Source::Written(field) => values.get(*field).copied(),
        };
        let values: Vec<_> = merge.values.iter().filter_map(value).collect();
        Row::assemble(&merge.layout, &terms, &values).map(Written::Row).ok_or(TooLarge::Bytes)
    }

    fn merge(&mut self, row: Option<&Row>) -> Result<&Merge, TooLarge> {
        let layout = row.map(Row::layout);
        let all_alive = row.is_none_or(|row| all_are_alive(row, self.now_ms));
        let same = |case: &Case| match (&case.layout, layout) {
            (Some(one), Some(other)) => one.is(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        // Which views are alive is a matter of each row.
        let last = self.last.take().filter(|(case, _)| all_alive && case.all_alive && same(case));
        let last = match last {
            Some(last) => last,
            None => {
                let case = Case { layout: layout.cloned(), all_alive };
                (case, Merge::new(row, self.set, self.now_ms)?)
            }
        };
        Ok(&self.last.insert(last).1)
    }
}

impl Set<'_> {
    /// Whether what is written has expired already.
    fn is_over(&self, now_ms: Millis) -> bool {
        self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }
}

impl Merge {
    /// The most bytes that the row can take when numbers are written to one of so
    /// many bytes.
    fn largest(&self, bytes: usize) -> usize {
        bytes + 1 + self.views.len() * Term::BYTES + self.values.len() * (1 + size_of::<u64>())
    }

    fn new(row: Option<&Row>, set: &Set, now_ms: Millis) -> Result<Self, TooLarge> {
        let is_over = set.is_over(now_ms);
        let mut all: Vec<(Name, Source)> = Vec::new();
        if let Some(row) = row {
            let layout: &Layout = row.layout();
            for view in 0..layout.views() {
                let name = layout.view_name(view);
                if is_alive(row, view, now_ms) && !(is_over && name == set.view) {
                    let fields = layout.fields(view);
                    all.extend(
                        fields.map(|field| ((name, layout.field_name(field)), Source::Held(field))),
                    );
                }
            }
        }
        let held = all.len();
        if !is_over {
            let written = set.fields.iter().enumerate();
            all.extend(written.map(|(place, field)| ((set.view, *field), Source::Written(place))));
        }
        // A stable sort: what is written comes after what was held, and replaces it.
        all.sort_by_key(|(name, _)| *name);
        all.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        let layout = match row.map(Row::layout) {
            Some(layout) if held == layout.len() && all.len() == held => layout.clone(),
            _ => {
                let layout = Layout::of(all.iter().map(|(name, _)| *name));
                Interned::new(layout.ok_or(TooLarge::Fields)?)
            }
        };
        let was = |view: usize| {
            let name = layout.view_name(view);
            let row = row.filter(|_| name != set.view)?;
            row.layout().view(name)
        };
        let views = (0..layout.views()).map(was).collect();
        Ok(Self { views, values: all.into_iter().map(|(_, source)| source).collect(), layout })
    }
}

/// The field that a name stands for that is read from a row of a layout, of the
/// views that are served: its view, and its place.
pub fn find(
    layout: &Layout,
    name: &[u8],
    is_served: impl Fn(usize) -> bool,
) -> Option<(usize, usize)> {
    layout.resolve(name, 0).into_iter().flatten().find(|(view, _)| is_served(*view))
}

/// Takes fields out of a row: how many, and the row without them, if anything is
/// left. `None` when it has none of them; a row of which nothing is alive goes.
pub fn delete(row: &Row, deletion: &Deletion, now_ms: Millis) -> Option<(usize, Option<Row>)> {
    let layout: &Layout = row.layout();
    let is_alive = |view| is_alive(row, view, now_ms);
    let mut stays = vec![false; layout.len()];
    for view in (0..layout.views()).filter(|view| is_alive(*view)) {
        stays.get_mut(layout.fields(view)).into_iter().for_each(|fields| fields.fill(true));
    }
    let mut removed = 0;
    let mut remove = |field: usize| {
        if let Some(stays) = stays.get_mut(field).filter(|stays| **stays) {
            *stays = false;
            removed += 1;
        }
    };
    match deletion {
        Deletion::View(name) => {
            layout.view(name).into_iter().flat_map(|view| layout.fields(view)).for_each(remove);
        }
        Deletion::Fields(names) => {
            let fields = names.iter().filter_map(|name| find(layout, name, is_alive));
            fields.for_each(|(_, field)| remove(field));
        }
    }
    let is_dead = !stays.contains(&true);
    (removed > 0 || is_dead).then(|| (removed, only(row, &stays)))
}

/// A row with some of its fields; `None` if with none.
fn only(row: &Row, stays: &[bool]) -> Option<Row> {
    let (mut names, mut terms, mut values): (Vec<Name>, Vec<_>, Vec<_>) = Default::default();
    let layout: &Layout = row.layout();
    for view in 0..layout.views() {
        let before = names.len();
        for field in layout.fields(view) {
            if stays.get(field) == Some(&true) {
                names.push((layout.view_name(view), layout.field_name(field)));
                values.extend(row.values().get(field));
            }
        }
        if names.len() > before {
            terms.push(row.term(view));
        }
    }
    if names.is_empty() {
        return None;
    }
    // A part of a row is a row.
    let layout = Interned::new(Layout::of(names.into_iter())?);
    Row::assemble(&layout, &terms, &values)
}

#[cfg(test)]
mod tests {
    use super::super::row::testing::content;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn set<'a>(view: &'a str, fields: &[&'a str]) -> Set<'a> {
        let fields = fields.iter().map(|field| field.as_bytes()).collect();
        Set { view: view.as_bytes(), fields, at_ms: None, expires_at_ms: None }
    }

    /// Writes the one value to all fields.
    fn write(row: Option<Row>, set: Set, value: i64, now_ms: Millis) -> (Option<Row>, bool) {
        let values = vec![Value::Integer(value); set.fields.len()];
        match Writer::new(&set, now_ms).write(row.as_ref(), &values).unwrap() {
            Written::Late => (row, false),
            Written::Unchanged => (row, true),
            Written::Row(row) => (Some(row), true),
            Written::Emptied => (None, true),
        }
    }

    #[test]
    fn the_newest_event_stays_whatever_the_order_of_arrival() {
        let at = |at_ms| Set { at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, _) = write(None, at(300), 3, 1_000);
        let (row, written) = write(row, at(100), 1, 1_000);
        assert!(!written);
        let (row, written) = write(row, at(299), 2, 1_000);
        assert!(!written);
        assert_eq!(row.as_ref().unwrap().values().get(0), Some(Value::Integer(3)));
        let (row, written) = write(row, at(300), 4, 1_000);
        assert!(written, "an equal event time is written");
        assert_eq!(row.unwrap().values().get(0), Some(Value::Integer(4)));
    }

    #[test]
    fn an_event_at_the_epoch_is_an_event() {
        let at = |at_ms| Set { at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, written) = write(None, at(0), 1, 1_000);
        assert!(written);
        let (row, written) = write(row, at(1), 2, 1_000);
        assert!(written);
        let (row, written) = write(row, at(0), 3, 1_000);
        assert!(!written);
        assert_eq!(row.unwrap().values().get(0), Some(Value::Integer(2)));
    }

    #[test]
    fn without_an_event_time_it_is_now_or_the_one_held_where_that_is_later() {
        let (row, _) = write(None, Set { at_ms: Some(5_000), ..set("", &["a"]) }, 1, 1_000);
        let (row, written) = write(row, set("", &["a"]), 2, 1_000);
        assert!(written);
        assert_eq!(row.as_ref().unwrap().term(0).at_ms, 5_000);
        let (row, _) = write(row, set("", &["b"]), 3, 6_000);
        assert_eq!(row.unwrap().term(0).at_ms, 6_000, "a part gives the whole view its time");
    }

    #[test]
    fn a_write_of_an_equal_event_time_renews_the_time_to_live() {
        let until = |at_ms| Set { at_ms: Some(7), expires_at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, _) = write(None, until(100), 1, 10);
        let (row, _) = write(row, until(200), 1, 10);
        assert_eq!(row.as_ref().unwrap().expires_at_ms(), Some(200));
        let (row, _) = write(row, set("", &["a"]), 1, 10);
        assert_eq!(row.unwrap().expires_at_ms(), Some(200), "without an expiry it is kept");
    }

    #[test]
    fn a_view_that_expired_forgets_what_it_held_and_when() {
        let cold = Set { at_ms: Some(500), expires_at_ms: Some(100), ..set("v", &["a", "b"]) };
        let (row, _) = write(None, cold, 1, 10);
        let (row, _) = write(row, set("", &["hot"]), 2, 20);
        assert_eq!(row.as_ref().unwrap().expires_at_ms(), None);
        let (row, written) = write(row, Set { at_ms: Some(1), ..set("v", &["a"]) }, 3, 100);
        assert!(written, "its event time is forgotten");
        let row = row.unwrap();
        assert_eq!(row.layout().len(), 2, "`b` went with the view");
        assert_eq!(row.term(1), Term { at_ms: 1, expires_at_ms: None });
    }

    #[test]
    fn a_write_that_is_over_when_it_comes_takes_the_view_away() {
        let (row, _) = write(None, set("v", &["a"]), 1, 10);
        let (row, _) = write(row, set("", &["b"]), 1, 10);
        let over = |view| Set { expires_at_ms: Some(20), ..set(view, &["a", "c"]) };
        let (row, written) = write(row, over("v"), 2, 20);
        assert!(written);
        assert_eq!(row.as_ref().unwrap().layout().views(), 1);
        let (row, _) = write(row, over(""), 2, 20);
        assert!(row.is_none());
        assert!(write(None, over(""), 2, 20).0.is_none());
        let (row, _) = write(None, set("v", &["a"]), 1, 10);
        let over = over("");
        let outcome = Writer::new(&over, 20).write(row.as_ref(), &[Value::Integer(1); 2]);
        assert!(matches!(outcome, Ok(Written::Unchanged)), "there was nothing to take away");
    }

    #[test]
    fn a_row_has_room_for_so_many_fields() {
        let names: Vec<_> = (0..=65_535u32).map(|one| one.to_be_bytes()).collect();
        let fields: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let full = Set { view: b"", fields: fields[1..].into(), at_ms: None, expires_at_ms: None };
        let (row, _) = write(None, full, 1, 10);
        let more = |view: &'static [u8]| Set { view, fields: fields[..1].into(), ..set("", &[]) };
        for view in [&b""[..], b"v"] {
            let set = more(view);
            let mut writer = Writer::new(&set, 10);
            assert_eq!(writer.check(row.as_ref()), Err(TooLarge::Fields));
            let outcome = writer.write(row.as_ref(), &[Value::Integer(1)]);
            assert!(matches!(outcome, Err(TooLarge::Fields)));
        }
    }

    #[test]
    fn deleted_fields_are_named_as_they_are_read() {
        let (row, _) = write(None, set("v", &["a", "b"]), 1, 10);
        let (row, _) = write(row, set("", &["v:a", "c"]), 2, 10);
        let row = row.unwrap();
        let fields = |names: &[&'static str]| {
            Deletion::Fields(names.iter().map(|name| name.as_bytes()).collect())
        };
        let names = |row: &Row| -> Vec<String> {
            let name = |(view, field)| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("{}/{}", text(view), text(field))
            };
            row.layout().names().map(name).collect()
        };
        let (removed, left) = delete(&row, &fields(&["v:a", "v:a", "nothing"]), 10).unwrap();
        assert_eq!(removed, 1);
        let left = left.unwrap();
        assert_eq!(names(&left), ["/c", "v/a", "v/b"]);
        let (removed, left) = delete(&left, &fields(&["v:a", "c"]), 10).unwrap();
        assert_eq!((removed, names(&left.unwrap())), (2, vec!["v/b".to_owned()]));
        assert!(delete(&row, &fields(&["b", "", "v"]), 10).is_none());
        let (removed, left) = delete(&row, &Deletion::View(b""), 10).unwrap();
        assert_eq!((removed, names(&left.unwrap()).len()), (2, 2));
        assert!(delete(&row, &Deletion::View(b"w"), 10).is_none());
    }

    #[test]
    fn what_expired_is_not_there_to_be_deleted() {
        let (row, _) = write(None, Set { expires_at_ms: Some(20), ..set("v", &["a"]) }, 1, 10);
        let row = row.unwrap();
        for deletion in [Deletion::View(b"v"), Deletion::Fields(vec![b"v:a"])] {
            let (removed, left) = delete(&row, &deletion, 20).unwrap();
            assert!(removed == 0 && left.is_none(), "a row that is dead goes");
        }
        let (removed, left) = delete(&row, &Deletion::View(b"v"), 19).unwrap();
        assert!(removed == 1 && left.is_none());
    }

    /// The oracle: a map of views, each a map of fields.
    #[derive(Default)]
    struct Oracle(BTreeMap<u8, (Term, BTreeMap<u8, i64>)>);

    impl Oracle {
        fn forget(&mut self, now_ms: Millis) {
            self.0.retain(|_, (term, fields)| term.is_alive(now_ms) && !fields.is_empty());
        }

        fn write(&mut self, call: &Call, value: i64, now_ms: Millis) -> bool {
            let mut after = Self(self.0.clone());
            after.forget(now_ms);
            let held = after.0.get(&call.view).map(|(term, _)| *term);
            let held_at_ms = held.map_or(0, |term| term.at_ms);
            let at_ms = call.at_ms.unwrap_or(now_ms.max(held_at_ms));
            if at_ms < held_at_ms {
                return false;
            }
            let (term, fields) = after.0.entry(call.view).or_default();
            term.at_ms = at_ms;
            term.expires_at_ms = call.expires_at_ms.or(term.expires_at_ms);
            fields.extend(call.fields.iter().map(|field| (*field, value)));
            after.forget(now_ms);
            *self = after;
            true
        }

        fn content(&self) -> Vec<(u8, u8, Term, i64)> {
            let all = self.0.iter().flat_map(|(view, (term, fields))| {
                fields.iter().map(|(field, value)| (*view, *field, *term, *value))
            });
            all.collect()
        }
    }

    /// A write, or a deletion of the fields.
    #[derive(Clone, Debug)]
    struct Call {
        view: u8,
        fields: Vec<u8>,
        at_ms: Option<Millis>,
        expires_at_ms: Option<Millis>,
        deletes: bool,
        rows: usize,
    }

    fn calls() -> impl Strategy<Value = Vec<(Call, u64)>> {
        let call = (
            0u8..3,
            prop::collection::btree_set(0u8..6, 1..5),
            prop::option::of(0u64..60),
            prop::option::of(1u64..80),
            prop::bool::weighted(0.2),
            1usize..4,
        );
        let call = call.prop_map(|(view, fields, at_ms, expires_at_ms, deletes, rows)| Call {
            view,
            fields: fields.into_iter().collect(),
            at_ms,
            expires_at_ms,
            deletes,
            rows,
        });
        prop::collection::vec((call, 0u64..8), 1..40)
    }

    proptest! {
        /// Writes go to several rows at once, so that what a writer keeps from one
        /// row to the next is tried too.
        #[test]
        fn rows_are_what_a_map_of_maps_is(calls in calls()) {
            let mut rows: Vec<(Option<Row>, Oracle)> = Default::default();
            rows.resize_with(3, Default::default);
            let mut now_ms = 0;
            for (value, (call, step)) in (0..).zip(calls) {
                now_ms += step;
                let name = |byte: &u8| [b'a' + byte];
                let view = name(&call.view);
                let names: Vec<_> = call.fields.iter().map(name).collect();
                let fields: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
                let Call { at_ms, expires_at_ms, .. } = call;
                let set = Set { view: &view, fields: fields.clone(), at_ms, expires_at_ms };
                let mut writer = Writer::new(&set, now_ms);
                for (row, oracle) in rows.iter_mut().take(call.rows) {
                    if call.deletes {
                        let names = fields.iter().map(|field| [&view, b":", *field].concat());
                        let names: Vec<_> = names.collect();
                        let names = names.iter().map(|name| name.as_slice()).collect();
                        let deletion = Deletion::Fields(names);
                        let outcome = row.as_ref().and_then(|row| delete(row, &deletion, now_ms));
                        let before = oracle.content().len();
                        if let Some((removed, left)) = outcome {
                            *row = left;
                            oracle.forget(now_ms);
                            let alive = oracle.content().len();
                            if let Some((_, held)) = oracle.0.get_mut(&call.view) {
                                held.retain(|field, _| !call.fields.contains(field));
                            }
                            oracle.forget(now_ms);
                            prop_assert_eq!(removed, alive - oracle.content().len());
                            prop_assert!(removed > 0 || row.is_none());
                            prop_assert!(before >= alive);
                        }
                    } else {
                        let values = vec![Value::Integer(value); fields.len()];
                        let written = oracle.write(&call, value, now_ms);
                        match writer.write(row.as_ref(), &values).unwrap() {
                            Written::Late => prop_assert!(!written),
                            Written::Unchanged => prop_assert!(written),
                            Written::Row(new) => {
                                prop_assert!(written);
                                *row = Some(new);
                            }
                            Written::Emptied => {
                                prop_assert!(written && oracle.0.is_empty());
                                *row = None;
                            }
                        }
                    }
                    let held = row.as_ref().map(content).unwrap_or_default();
                    let held: Vec<_> = held.into_iter().map(|((view, field), term, value)| {
                        let Value::Integer(value) = value else { unreachable!() };
                        (view[0] - b'a', field[0] - b'a', term, value)
                    }).collect();
                    prop_assert_eq!(held, oracle.content());
                }
            }
        }
    }
}
