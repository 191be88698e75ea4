//! Writing to rows: decide → change → apply, all on plain state.
//!
//! A view holds what was written with the latest event time: a write that is
//! older changes nothing, whatever the order in which writes arrive. A view that
//! has expired is none: it is forgotten, its event time too, and goes with the
//! next change of its row.
//!
//! [`Set`] and [`Deletion`] are what callers ask for. Deciding makes a [`Change`]
//! of it, on the primary alone. Applying a change is the same everywhere, looks at
//! no clock and no config, and of what was decided here refuses nothing.

use super::layout::{Layout, MAX_FIELDS, Name, ReadName};
use super::row::{Row, TooLarge, ViewTimes, check_size, has_room_for_numbers};
use super::shared_layout::SharedLayout;
use super::value::Value;
use crate::bug;
use crate::time::Millis;
use std::cmp::Ordering;

/// A write of the same fields to some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The view that is written.
    pub view: &'a [u8],
    /// Its fields, sorted, each once.
    pub fields: Vec<&'a [u8]>,
    /// Whether the view is these fields alone from then on.
    pub replaces: bool,
    /// When the view expires; without it the view keeps its time to live.
    pub expires_at_ms: Option<Millis>,
}

/// What is to be taken out of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion<'a> {
    /// A view.
    View(&'a [u8]),
    /// Fields, by the names that they are read by.
    Fields(Vec<&'a [u8]>),
}

/// What was decided about some rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What has expired by then goes.
    pub now_ms: Millis,
    /// What else becomes of the rows.
    pub action: Action<'a>,
}

/// What becomes of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Values are put into fields of a view; which, and the times of the view,
    /// is said for each row.
    Put {
        /// The view.
        view: &'a [u8],
        /// Its fields, sorted, each once.
        fields: Vec<&'a [u8]>,
        /// Whether all others of the view go.
        replaces: bool,
    },
    /// A view goes.
    Take {
        /// Its name.
        view: &'a [u8],
        /// Whether a deletion asked for that, rather than a write that was over.
        by_deletion: bool,
    },
    /// Fields go: by view and name, sorted, each once.
    Remove(Vec<Name<'a>>),
}

/// What is put into the fields of one row.
#[derive(Clone, Copy, Debug)]
pub struct Put<'v> {
    /// The times of the view from then on.
    pub times: ViewTimes,
    /// A value for each field.
    pub values: &'v [Value<'v>],
}

/// Whether a view can be served, by its place in the layout.
pub fn is_alive(row: &Row, view: usize, now_ms: Millis) -> bool {
    row.times(view).is_alive(now_ms)
}

/// The view of a name, if it can be served.
pub fn alive_view(row: &Row, name: &[u8], now_ms: Millis) -> Option<usize> {
    row.layout().view(name).filter(|view| is_alive(row, *view, now_ms))
}

fn all_are_alive(row: &Row, now_ms: Millis) -> bool {
    row.all_times().all(|times| times.is_alive(now_ms))
}

impl<'a> Set<'a> {
    /// Decides writes to one row, one after the other, by their event times; one
    /// without is at `now_ms`, or at the view's own time where that is later. Says
    /// of each whether it is written, and returns the last that is, by its number,
    /// with the times that the view has then.
    pub fn decide(
        &self,
        row: Option<&Row>,
        now_ms: Millis,
        events: impl Iterator<Item = Option<Millis>>,
        is_written: impl FnMut(bool),
    ) -> Option<(usize, ViewTimes)> {
        let view = row.and_then(|row| row.layout().view(self.view));
        self.decide_in(row.zip(view), now_ms, events, is_written)
    }

    /// As [`Self::decide`], where it is known already which view of the row it is.
    pub fn decide_in(
        &self,
        view: Option<(&Row, usize)>,
        now_ms: Millis,
        events: impl Iterator<Item = Option<Millis>>,
        mut is_written: impl FnMut(bool),
    ) -> Option<(usize, ViewTimes)> {
        let held = view.map(|(row, view)| row.times(view));
        let mut held = held.filter(|times| times.is_alive(now_ms)).unwrap_or_default();
        let mut last = None;
        for (number, event) in events.enumerate() {
            let at_ms = event.unwrap_or(now_ms.max(held.at_ms));
            let written = at_ms >= held.at_ms;
            is_written(written);
            if written {
                let expires_at_ms = self.expires_at_ms.or(held.expires_at_ms);
                let times = ViewTimes { at_ms, expires_at_ms };
                last = Some((number, times));
                // What is over is forgotten at once.
                held = if times.is_alive(now_ms) { times } else { ViewTimes::default() };
            }
        }
        last
    }

    /// The first of the fields over which nothing can be written, as it holds events, and
    /// what they are.
    pub fn over_events(&self, row: Option<&Row>, now_ms: Millis) -> Option<(&'a [u8], String)> {
        let row = row.filter(|row| !row.head().events().is_empty())?;
        let view = alive_view(row, self.view, now_ms)?;
        let (layout, values) = (row.layout(), row.values());
        self.fields.iter().find_map(|name| match values.get(layout.field(view, name)?) {
            Value::Events(events) => Some((*name, events.describe())),
            _ => None,
        })
    }

    /// What becomes of the rows that are written.
    pub fn change(&self, now_ms: Millis) -> Change<'a> {
        let view = self.view;
        let action = match self.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            true => Action::Take { view, by_deletion: false },
            false => Action::Put { view, fields: self.fields.clone(), replaces: self.replaces },
        };
        Change { now_ms, action }
    }
}

impl<'a> Deletion<'a> {
    /// Decides how many fields of a row go, and what becomes of it: `None` when it
    /// has none of them. A row of which nothing is alive goes.
    pub fn decide(&self, row: &Row, now_ms: Millis) -> Option<(usize, Change<'a>)> {
        let layout: &Layout = row.layout();
        let is_alive = |view| is_alive(row, view, now_ms);
        let (removed, action) = match self {
            Self::View(view) => {
                let held = alive_view(row, view, now_ms);
                let removed = held.map_or(0, |view| layout.fields(view).len());
                (removed, Action::Take { view, by_deletion: true })
            }
            Self::Fields(names) => {
                let mut fields: Vec<_> =
                    names.iter().filter_map(|name| find(layout, name, is_alive)).collect();
                fields.sort_unstable();
                fields.dedup();
                (fields.len(), Action::Remove(fields))
            }
        };
        let is_dead = !(0..layout.views()).any(is_alive);
        (removed > 0 || is_dead).then_some((removed, Change { now_ms, action }))
    }
}

/// The view and field that a name stands for that is read from a row, of the views
/// that are served.
fn find<'n>(
    layout: &Layout,
    name: &'n [u8],
    is_served: impl Fn(usize) -> bool,
) -> Option<Name<'n>> {
    let name = ReadName::new(name);
    let mut found = layout.resolve(name, 0).into_iter().zip(name.stands_for());
    found.find_map(|(found, name)| found.filter(|(view, _)| is_served(*view)).and(name))
}

impl Change<'_> {
    /// Whether it makes a difference to a row.
    pub fn concerns(&self, row: Option<&Row>) -> bool {
        match (&self.action, row) {
            (Action::Put { .. }, _) => true,
            (_, None) => false,
            (Action::Take { view, .. }, Some(row)) => {
                let layout = row.layout();
                // One that holds nothing goes, as one does of which nothing is alive.
                layout.view(view).is_some()
                    || layout.views() == 0
                    || !all_are_alive(row, self.now_ms)
            }
            (Action::Remove(_), Some(_)) => true,
        }
    }
}

/// What applies a change to one row after the other: what is found out for a row
/// is kept for the next one with the same layout.
pub struct Applier<'c> {
    change: &'c Change<'c>,
    last: Option<(Case, Merge)>,
}

/// What a merge was made for.
struct Case {
    layout: Option<SharedLayout>,
    all_alive: bool,
}

/// How a new row is made of one that was and of what is put into it.
struct Merge {
    layout: SharedLayout,
    /// For each view, which one it was; the one that is written was none.
    views: Vec<Option<usize>>,
    /// For each field, where its value comes from.
    values: Vec<Source>,
}

#[derive(Clone, Copy)]
enum Source {
    /// The row that was.
    Held(usize),
    /// What is put into it.
    Put(usize),
}

impl<'c> Applier<'c> {
    /// What applies a change.
    pub fn new(change: &'c Change) -> Self {
        Self { change, last: None }
    }

    /// Whether the row can be that would be made of a row, or of none.
    pub fn check(&mut self, row: Option<&Row>, put: Option<Put>) -> Result<(), TooLarge> {
        let merge = self.merge(row)?;
        let values = merge.values(row, put);
        check_size(merge.views.len(), values).map(drop)
    }

    /// Whether any numbers that are put into a row, or a new one, have room in it;
    /// where not, [`Self::check`] says whether these have.
    pub fn has_room_for_numbers(&mut self, row: Option<&Row>) -> Result<bool, TooLarge> {
        let merge = self.merge(row)?;
        Ok(has_room_for_numbers(row, merge.views.len(), merge.values.len()))
    }

    /// The row that becomes of a row, or of none; `None` where nothing is left.
    pub fn apply(&mut self, row: Option<&Row>, put: Option<Put>) -> Result<Option<Row>, TooLarge> {
        let merge = self.merge(row)?;
        if merge.values.is_empty() {
            return Ok(None);
        }
        let times = |view: &Option<usize>| match (view, row, put) {
            (Some(view), Some(row), _) => row.times(*view),
            (None, _, Some(put)) => put.times,
            _ => bug("a view of which nobody knows the times"),
        };
        let times: Vec<_> = merge.views.iter().map(times).collect();
        let values: Vec<_> = merge.values(row, put).collect();
        Row::assemble(&merge.layout, &times, &values).map(Some)
    }

    /// The layout of the row that was checked or made last.
    pub fn layout(&self) -> Option<&SharedLayout> {
        self.last.as_ref().map(|(_, merge)| &merge.layout)
    }

    fn merge(&mut self, row: Option<&Row>) -> Result<&Merge, TooLarge> {
        let layout = row.map(Row::layout);
        let all_alive = row.is_none_or(|row| all_are_alive(row, self.change.now_ms));
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
                (case, Merge::new(row, self.change)?)
            }
        };
        Ok(&self.last.insert(last).1)
    }
}

impl Merge {
    fn new(row: Option<&Row>, change: &Change) -> Result<Self, TooLarge> {
        let (view, fields, removed): (_, &[&[u8]], &[Name]) = match &change.action {
            Action::Put { view, fields, .. } => (Some(*view), fields, &[]),
            Action::Take { view, .. } => (Some(*view), &[], &[]),
            Action::Remove(names) => (None, &[], names),
        };
        let put = view.filter(|_| !fields.is_empty());
        let keeps_others = matches!(change.action, Action::Put { replaces: false, .. });
        let most = row.map_or(0, |row| row.layout().len()) + fields.len();
        let mut all: Vec<(Name, Source)> = Vec::with_capacity(most);
        let mut held = 0;
        // Names of views are compared once a view, never once a field.
        let written = |view| {
            let each = fields.iter().enumerate();
            each.map(move |(place, field)| ((view, *field), Source::Put(place)))
        };
        let mut to_write = put;
        if let Some(row) = row {
            let layout: &Layout = row.layout();
            for place in 0..layout.views() {
                let name = layout.view_name(place);
                let order = view.map_or(Ordering::Greater, |view| view.cmp(name));
                if order == Ordering::Less
                    && let Some(before) = to_write.take()
                {
                    all.extend(written(before));
                }
                let stays = is_alive(row, place, change.now_ms)
                    && (order != Ordering::Equal || keeps_others);
                let those = if stays { layout.fields(place) } else { 0..0 };
                let those = those.map(|field| (layout.field_name(field), Source::Held(field)));
                let (_, removed) = removed.split_at(removed.partition_point(|gone| gone.0 < name));
                let (removed, _) = removed.split_at(removed.partition_point(|gone| gone.0 == name));
                let those = those.filter(|(field, _)| {
                    removed.binary_search_by_key(field, |(_, field)| *field).is_err()
                });
                let those =
                    those.map(|(field, source)| ((name, field), source)).inspect(|_| held += 1);
                match order {
                    Ordering::Equal if to_write.take().is_some() => {
                        merge(those, written(name), &mut all)
                    }
                    _ => all.extend(those),
                }
            }
        }
        if let Some(last) = to_write {
            all.extend(written(last));
        }
        let layout = match row.map(Row::layout) {
            Some(layout) if held == layout.len() && all.len() == held => layout.clone(),
            _ => {
                let layout = Layout::of(all.iter().map(|(name, _)| *name));
                // Names that can be, in order: there are too many, or they are too long.
                let too_many = all.len() > MAX_FIELDS;
                let why = if too_many { TooLarge::Fields } else { TooLarge::Names };
                SharedLayout::new(layout.ok_or(why)?)
            }
        };
        let was = |view: usize| {
            let name = layout.view_name(view);
            let row = row.filter(|_| put != Some(name))?;
            row.layout().view(name)
        };
        let views = (0..layout.views()).map(was).collect();
        Ok(Self { views, values: all.into_iter().map(|(_, source)| source).collect(), layout })
    }

    /// The values of the new row.
    fn values<'v>(
        &'v self,
        row: Option<&'v Row>,
        put: Option<Put<'v>>,
    ) -> impl Iterator<Item = Value<'v>> {
        let held = row.map(Row::values);
        self.values.iter().map(move |source| match (source, held, put) {
            (Source::Held(field), Some(held), _) => held.get(*field),
            (Source::Put(field), _, Some(put)) => {
                let value = put.values.get(*field).copied();
                value.unwrap_or_else(|| bug("a field that nothing is put into"))
            }
            _ => bug("a value that comes from nowhere"),
        })
    }
}

/// Puts fields of one view together: both are sorted, and of a name that is in both
/// what is put replaces what was held.
fn merge<'n>(
    held: impl Iterator<Item = (Name<'n>, Source)>,
    put: impl Iterator<Item = (Name<'n>, Source)>,
    all: &mut Vec<(Name<'n>, Source)>,
) {
    let (mut held, mut put) = (held.peekable(), put.peekable());
    loop {
        let order = match (held.peek(), put.peek()) {
            (Some(((_, one), _)), Some(((_, other), _))) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let next = match order {
            Ordering::Less => held.next(),
            Ordering::Greater => put.next(),
            Ordering::Equal => held.next().and(put.next()),
        };
        match next {
            Some(next) => all.push(next),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::testing::content;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A write, as a caller asks for it.
    #[derive(Clone)]
    struct Write<'a> {
        view: &'a [u8],
        fields: Vec<&'a [u8]>,
        replaces: bool,
        at_ms: Option<Millis>,
        expires_at_ms: Option<Millis>,
    }

    impl<'a> Write<'a> {
        fn set(&self) -> Set<'a> {
            let Self { view, replaces, expires_at_ms, .. } = *self;
            Set { view, fields: self.fields.clone(), replaces, expires_at_ms }
        }
    }

    fn set<'a>(view: &'a str, fields: &[&'a str]) -> Write<'a> {
        let fields = fields.iter().map(|field| field.as_bytes()).collect();
        let view = view.as_bytes();
        Write { view, fields, replaces: false, at_ms: None, expires_at_ms: None }
    }

    /// Makes a change of a row, as on the primary and its replicas.
    fn applied(row: Option<Row>, change: &Change, put: Option<Put>) -> Option<Row> {
        let mut applier = Applier::new(change);
        applier.check(row.as_ref(), put).unwrap();
        applier.apply(row.as_ref(), put).unwrap()
    }

    /// Writes the one value to all fields.
    fn write(row: Option<Row>, write: Write, value: i64, now_ms: Millis) -> (Option<Row>, bool) {
        let values = vec![Value::I64(value); write.fields.len()];
        let set = write.set();
        let mut answers = Vec::new();
        let events = [write.at_ms].into_iter();
        let decided = set.decide(row.as_ref(), now_ms, events, |is| answers.push(is));
        assert_eq!(answers, [decided.is_some()]);
        let Some((0, times)) = decided else { return (row, false) };
        let change = set.change(now_ms);
        match change.concerns(row.as_ref()) {
            true => (applied(row, &change, Some(Put { times, values: &values })), true),
            false => (row, true),
        }
    }

    fn delete(row: &Row, deletion: &Deletion, now_ms: Millis) -> Option<(usize, Option<Row>)> {
        let (removed, change) = deletion.decide(row, now_ms)?;
        Some((removed, applied(row.duplicate(), &change, None)))
    }

    #[test]
    fn the_newest_event_stays_whatever_the_order_of_arrival() {
        let at = |at_ms| Write { at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, _) = write(None, at(300), 3, 1_000);
        let (row, written) = write(row, at(100), 1, 1_000);
        assert!(!written);
        let (row, written) = write(row, at(299), 2, 1_000);
        assert!(!written);
        assert_eq!(row.as_ref().unwrap().values().get(0), Value::I64(3));
        let (row, written) = write(row, at(300), 4, 1_000);
        assert!(written, "an equal event time is written");
        assert_eq!(row.unwrap().values().get(0), Value::I64(4));
    }

    #[test]
    fn an_event_at_the_epoch_is_an_event() {
        let at = |at_ms| Write { at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, written) = write(None, at(0), 1, 1_000);
        assert!(written);
        let (row, written) = write(row, at(1), 2, 1_000);
        assert!(written);
        let (row, written) = write(row, at(0), 3, 1_000);
        assert!(!written);
        assert_eq!(row.unwrap().values().get(0), Value::I64(2));
    }

    #[test]
    fn without_an_event_time_it_is_now_or_the_one_held_where_that_is_later() {
        let (row, _) = write(None, Write { at_ms: Some(5_000), ..set("", &["a"]) }, 1, 1_000);
        let (row, written) = write(row, set("", &["a"]), 2, 1_000);
        assert!(written);
        assert_eq!(row.as_ref().unwrap().times(0).at_ms, 5_000);
        let (row, _) = write(row, set("", &["b"]), 3, 6_000);
        assert_eq!(row.unwrap().times(0).at_ms, 6_000, "a part gives the whole view its time");
    }

    #[test]
    fn a_write_of_an_equal_event_time_renews_the_time_to_live() {
        let until = |at_ms| Write { at_ms: Some(7), expires_at_ms: Some(at_ms), ..set("", &["a"]) };
        let (row, _) = write(None, until(100), 1, 10);
        let (row, _) = write(row, until(200), 1, 10);
        assert_eq!(row.as_ref().unwrap().expires_at_ms(), Some(200));
        let (row, _) = write(row, set("", &["a"]), 1, 10);
        assert_eq!(row.unwrap().expires_at_ms(), Some(200), "without an expiry it is kept");
    }

    #[test]
    fn a_view_that_expired_forgets_what_it_held_and_when() {
        let cold = Write { at_ms: Some(500), expires_at_ms: Some(100), ..set("v", &["a", "b"]) };
        let (row, _) = write(None, cold, 1, 10);
        let (row, _) = write(row, set("", &["hot"]), 2, 20);
        assert_eq!(row.as_ref().unwrap().expires_at_ms(), None);
        let (row, written) = write(row, Write { at_ms: Some(1), ..set("v", &["a"]) }, 3, 100);
        assert!(written, "its event time is forgotten");
        let row = row.unwrap();
        assert_eq!(row.layout().len(), 2, "`b` went with the view");
        assert_eq!(row.times(1), ViewTimes { at_ms: 1, expires_at_ms: None });
    }

    #[test]
    fn a_write_that_is_over_when_it_comes_takes_the_view_away() {
        let (row, _) = write(None, set("v", &["a"]), 1, 10);
        let (row, _) = write(row, set("", &["b"]), 1, 10);
        let over = |view| Write { expires_at_ms: Some(20), ..set(view, &["a", "c"]) };
        let (row, written) = write(row, over("v"), 2, 20);
        assert!(written);
        assert_eq!(row.as_ref().unwrap().layout().views(), 1);
        let (row, _) = write(row, over(""), 2, 20);
        assert!(row.is_none());
        assert!(write(None, over(""), 2, 20).0.is_none());
        let (row, _) = write(None, set("v", &["a"]), 1, 10);
        let over = over("");
        let change = over.set().change(20);
        assert!(!change.concerns(row.as_ref()), "there was nothing to take away");
    }

    #[test]
    fn a_view_that_is_replaced_is_what_was_written_and_nothing_else() {
        let (row, _) = write(None, set("v", &["a", "b"]), 1, 10);
        let (row, _) = write(row, set("", &["a", "b"]), 1, 10);
        let replaces = |write| Write { replaces: true, ..write };
        let (row, written) = write(row, replaces(set("v", &["b", "c"])), 2, 20);
        assert!(written);
        let row = row.unwrap();
        let names: Vec<_> = row.layout().names().collect();
        let expected = [("", "a"), ("", "b"), ("v", "b"), ("v", "c")];
        assert_eq!(names, expected.map(|(view, field)| (view.as_bytes(), field.as_bytes())));
        assert_eq!(row.values().get(2), Value::I64(2));
        let late = Write { at_ms: Some(5), ..replaces(set("v", &["d"])) };
        let (row, written) = write(Some(row), late, 3, 30);
        assert!(!written && row.unwrap().layout().len() == 4);
    }

    #[test]
    fn events_of_one_row_are_decided_one_after_the_other() {
        let (row, _) = write(None, Write { at_ms: Some(5), ..set("", &["a"]) }, 1, 10);
        let set = set("", &["a"]).set();
        let events = [4, 6, 5, 6, 2].into_iter().map(Some);
        let mut answers = Vec::new();
        let decided = set.decide(row.as_ref(), 10, events, |is| answers.push(is));
        assert_eq!(answers, [false, true, false, true, false]);
        assert_eq!(decided, Some((3, ViewTimes { at_ms: 6, expires_at_ms: None })));
        let none = set.decide(row.as_ref(), 10, [Some(1), Some(2)].into_iter(), |_| ());
        assert_eq!(none, None);
    }

    #[test]
    fn a_row_has_room_for_so_many_fields() {
        let names: Vec<_> = (0..=65_535u32).map(|one| one.to_be_bytes()).collect();
        let fields: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
        let full = Write { fields: fields[1..].into(), ..set("", &[]) };
        let (row, _) = write(None, full, 1, 10);
        for view in ["", "v"] {
            let more = Write { fields: fields[..1].into(), ..set(view, &[]) };
            let change = more.set().change(10);
            let mut applier = Applier::new(&change);
            let put = Some(Put { times: ViewTimes::default(), values: &[Value::I64(1)] });
            assert_eq!(applier.check(row.as_ref(), put), Err(TooLarge::Fields));
            let outcome = applier.apply(row.as_ref(), put);
            assert_eq!(outcome.map(drop), Err(TooLarge::Fields));
        }
    }

    /// The room that is checked is the room that is needed.
    #[test]
    fn a_row_of_the_largest_size_is_written_again_and_again() {
        use super::super::row::MAX_ROW_BYTES;
        let text = vec![b'x'; MAX_ROW_BYTES - 12 - 1 - 5 - 4];
        let write = set("", &["a"]);
        let change = write.set().change(10);
        let mut row = None;
        for at_ms in 1..4 {
            let times = ViewTimes { at_ms, expires_at_ms: None };
            let put = Put { times, values: &[Value::String(&text)] };
            row = applied(row, &change, Some(put));
            assert_eq!(row.as_ref().unwrap().bytes().len(), MAX_ROW_BYTES);
        }
        let larger = [&text[..], b"x"].concat();
        let put = Put { times: ViewTimes::default(), values: &[Value::String(&larger)] };
        let mut applier = Applier::new(&change);
        assert_eq!(applier.check(row.as_ref(), Some(put)), Err(TooLarge::Bytes));
        assert_eq!(applier.apply(row.as_ref(), Some(put)).map(drop), Err(TooLarge::Bytes));
    }

    /// Whichever view is written, before, among and after those that are held.
    #[test]
    fn a_write_finds_its_place_among_views_of_long_names() {
        let name = |last: &str| format!("{}{last}", "v".repeat(60_000));
        let [a, b, c] = ["a", "b", "c"].map(name);
        let mut row = None;
        for (view, fields) in [
            (&b, ["f", "h"]),
            (&a, ["f", "g"]),
            (&c, ["a", "b"]),
            (&b, ["a", "h"]),
            (&a, ["a", "z"]),
        ] {
            (row, _) = write(row, set(view, &fields), 1, 10);
        }
        let row = row.unwrap();
        let names = |row: &Row| -> Vec<String> {
            let name = |(view, field): Name| [&view[60_000..], field].concat();
            row.layout().names().map(name).map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(names(&row), ["aa", "af", "ag", "az", "ba", "bf", "bh", "ca", "cb"]);
        let gone = [(&c, "a"), (&a, "g"), (&b, "g"), (&b, "a")];
        let gone: Vec<_> = gone.iter().map(|(view, field)| format!("{view}:{field}")).collect();
        let deletion = Deletion::Fields(gone.iter().map(|name| name.as_bytes()).collect());
        let (removed, left) = delete(&row, &deletion, 10).unwrap();
        assert_eq!((removed, names(&left.unwrap()).len()), (3, 6));
    }

    #[test]
    fn deleted_fields_are_named_as_they_are_read() {
        let (row, _) = write(None, set("v", &["a", "b"]), 1, 10);
        let (row, _) = write(row, set("", &["c", "v:a"]), 2, 10);
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
        let (row, _) = write(None, Write { expires_at_ms: Some(20), ..set("v", &["a"]) }, 1, 10);
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
    struct Oracle(BTreeMap<u8, (ViewTimes, BTreeMap<u8, i64>)>);

    impl Oracle {
        fn forget(&mut self, now_ms: Millis) {
            self.0.retain(|_, (times, fields)| times.is_alive(now_ms) && !fields.is_empty());
        }

        fn write(
            &mut self,
            call: &Call,
            at_ms: Option<Millis>,
            value: i64,
            now_ms: Millis,
        ) -> bool {
            let mut after = Self(self.0.clone());
            after.forget(now_ms);
            let held = after.0.get(&call.view).map(|(times, _)| *times);
            let held_at_ms = held.map_or(0, |times| times.at_ms);
            let at_ms = at_ms.unwrap_or(now_ms.max(held_at_ms));
            if at_ms < held_at_ms {
                return false;
            }
            let (times, fields) = after.0.entry(call.view).or_default();
            times.at_ms = at_ms;
            times.expires_at_ms = call.expires_at_ms.or(times.expires_at_ms);
            if call.replaces {
                fields.clear();
            }
            fields.extend(call.fields.iter().map(|field| (*field, value)));
            after.forget(now_ms);
            *self = after;
            true
        }

        fn content(&self) -> Vec<(u8, u8, ViewTimes, i64)> {
            let all = self.0.iter().flat_map(|(view, (times, fields))| {
                fields.iter().map(|(field, value)| (*view, *field, *times, *value))
            });
            all.collect()
        }
    }

    /// Writes one after the other, or a deletion of the fields.
    #[derive(Clone, Debug)]
    struct Call {
        view: u8,
        fields: Vec<u8>,
        events: Vec<Option<Millis>>,
        expires_at_ms: Option<Millis>,
        replaces: bool,
        deletes: bool,
        rows: usize,
    }

    fn calls() -> impl Strategy<Value = Vec<(Call, u64)>> {
        let call = (
            0u8..3,
            prop::collection::btree_set(0u8..6, 1..5),
            prop::collection::vec(prop::option::of(0u64..60), 1..4),
            prop::option::of(1u64..80),
            prop::bool::weighted(0.2),
            prop::bool::weighted(0.2),
            1usize..4,
        );
        let call =
            call.prop_map(|(view, fields, events, expires_at_ms, replaces, deletes, rows)| {
                let fields = fields.into_iter().collect();
                Call { view, fields, events, expires_at_ms, replaces, deletes, rows }
            });
        prop::collection::vec((call, 0u64..8), 1..40)
    }

    proptest! {
        /// Writes go to several rows at once, so that what is kept from one row to
        /// the next is tried too; each change is applied to a replica as well.
        #[test]
        fn rows_are_what_a_map_of_maps_is(calls in calls()) {
            let mut rows: Vec<(Option<Row>, Oracle)> = Default::default();
            rows.resize_with(3, Default::default);
            let mut now_ms = 0;
            for (number, (call, step)) in (0..).zip(calls) {
                now_ms += step;
                let name = |byte: &u8| [b'a' + byte];
                let view = name(&call.view);
                let names: Vec<_> = call.fields.iter().map(name).collect();
                let fields: Vec<&[u8]> = names.iter().map(|name| &name[..]).collect();
                let Call { expires_at_ms, replaces, .. } = call;
                let set = Set { view: &view, fields: fields.clone(), replaces, expires_at_ms };
                let change = set.change(now_ms);
                let mut applier = Applier::new(&change);
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
                        let value = |event: usize| number * 10 + event as i64;
                        let mut answers = Vec::new();
                        let events = call.events.iter().copied();
                        let decided =
                            set.decide(row.as_ref(), now_ms, events, |is| answers.push(is));
                        let expected = call.events.iter().enumerate().map(|(event, at_ms)| {
                            oracle.write(&call, *at_ms, value(event), now_ms)
                        });
                        prop_assert_eq!(answers, expected.collect::<Vec<_>>());
                        if let Some((event, times)) = decided.filter(|_| change.concerns(row.as_ref())) {
                            let values = vec![Value::I64(value(event)); fields.len()];
                            let put = Some(Put { times, values: &values });
                            applier.check(row.as_ref(), put).unwrap();
                            *row = applier.apply(row.as_ref(), put).unwrap();
                        }
                    }
                    let held = row.as_ref().map(content).unwrap_or_default();
                    let held: Vec<_> = held.into_iter().map(|((view, field), times, value)| {
                        let Value::I64(value) = value else { unreachable!() };
                        (view[0] - b'a', field[0] - b'a', times, value)
                    }).collect();
                    prop_assert_eq!(held, oracle.content());
                }
            }
        }
    }
}
