//! The ledger of a limiter: what is held of it, by whom and until when, and where
//! in its windows each of these charges sits.
//!
//! What is done with one hold of many takes the logarithm of how many there are. A
//! refund leaves a gap in a token bucket's queue, which all charges before it move
//! up to close: [`seats`](super::seats) says how.

use super::meter::Position;
use super::policy::{Cost, MAX_WINDOWS, closing};
use super::seats::Seats;
use super::stats::OPEN;
use crate::bug;
use crate::hold::{Beside, Hold, Holds, Row};
use crate::id::Id;
use crate::time::{Micros, Millis};
use arrayvec::ArrayVec;
use smallvec::SmallVec;
use std::borrow::Cow;

/// The positions of a charge in the windows it was charged to, by their length. It has
/// none in what another algorithm took over: there charges are told apart no more.
pub type Positions = ArrayVec<(Micros, Option<Position>), MAX_WINDOWS>;

/// A hold, as it is saved: where its charge sits is said by the windows' lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the caller settles it by.
    pub id: Id,
    /// What was charged: an estimate of what it costs.
    pub cost: Cost,
    /// What was asked for, of which a part was charged.
    pub asked: Cost,
    /// How long it can be settled, from `since_us` on; it then stays charged.
    pub ttl_ms: Millis,
    /// When it was opened, or last renewed.
    pub since_us: Micros,
    /// Where the charge sits, by the windows' lengths in order; in a window that is
    /// gone since it does not.
    pub positions: Positions,
}

/// What a ledger notes of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What was asked for.
    pub asked: Cost,
}

/// Where the charge of a hold sits, as [`Positions`] say it: mostly there is one window.
pub type Places = SmallVec<[(Micros, Option<Position>); 1]>;

/// Where the charges of many holds sit.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    /// Of each window, known by its length, the seats of the charges in it: one at
    /// least.
    of: Vec<(Micros, Seats)>,
    /// The number of the next charge. All that are held have lower ones.
    next_charge: u64,
    /// Those with lower numbers another algorithm has taken over, in all windows but
    /// those that close at a moment: what their seats say there is nothing.
    taken_over: u64,
}

impl Beside for Tracks {
    type Seat = Places;
    type Number = u64;

    /// Where another algorithm took it over, so it did all before it.
    fn put(&mut self, places: Places) -> u64 {
        let number = self.next_charge;
        self.next_charge += 1;
        for (window_us, position) in places {
            let position = position.unwrap_or_else(|| {
                self.taken_over = number + 1;
                Position::GONE
            });
            if let Some(seats) = self.track_mut(window_us) {
                seats.add(number, position);
            } else {
                let mut seats = Seats::default();
                seats.add(number, position);
                self.of.push((window_us, seats));
            }
        }
        number
    }

    fn take(&mut self, number: u64) -> Places {
        let taken_over = self.taken_over;
        let mut places = Places::new();
        self.of.retain_mut(|(window_us, seats)| {
            places.extend(place(*window_us, seats.remove(number), number, taken_over));
            !seats.is_empty()
        });
        places
    }
}

impl Tracks {
    /// Where a charge sits.
    fn get(&self, number: u64) -> Places {
        let place =
            |(us, seats): &(Micros, Seats)| place(*us, seats.get(number), number, self.taken_over);
        self.of.iter().filter_map(place).collect()
    }

    fn track(&self, window_us: Micros) -> Option<&Seats> {
        self.of.iter().find(|(of_us, _)| *of_us == window_us).map(|(_, seats)| seats)
    }

    fn track_mut(&mut self, window_us: Micros) -> Option<&mut Seats> {
        self.of.iter_mut().find(|(of_us, _)| *of_us == window_us).map(|(_, seats)| seats)
    }

    fn close_gaps(&mut self, number: u64, gaps: &[(Micros, Cost)]) {
        for (window_us, gap) in gaps.iter().filter(|(_, gap)| *gap > 0) {
            if let Some(seats) = self.track_mut(*window_us) {
                seats.move_before(number, *gap);
            }
        }
    }

    fn positions_mut(&mut self, window_us: Micros) -> impl Iterator<Item = &mut Position> {
        self.track_mut(window_us).into_iter().flat_map(Seats::iter_mut)
    }

    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize {
        self.of.capacity() * size_of::<(Micros, Seats)>()
            + self.of.iter().map(|(_, seats)| seats.heap_bytes()).sum::<usize>()
    }
}

/// Where the charge of a number sits in a window, if it has a seat there.
fn place(
    window_us: Micros,
    seat: Option<Position>,
    number: u64,
    taken_over: u64,
) -> Option<(Micros, Option<Position>)> {
    let is_own = number >= taken_over || closing(window_us).is_some();
    seat.map(|position| (window_us, is_own.then_some(position)))
}

/// The ledger. The default is one without holds.
#[derive(Clone, Debug)]
pub struct Ledger {
    holds: Holds<Charge, Tracks>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { holds: Holds::none(&OPEN) }
    }
}

/// The same holds, whatever they are numbered by.
impl PartialEq for Ledger {
    fn eq(&self, other: &Self) -> bool {
        self.entries().eq(other.entries())
    }
}

impl Eq for Ledger {}

impl Ledger {
    /// The holds, in the order in which they were charged.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let (few, many) = self.holds.forms();
        let few = few.iter().map(|row| entry(row.id, &row.hold, &row.seat));
        few.chain(many.into_iter().flat_map(|many| {
            let mut holds: Vec<_> = many.numbered().collect();
            holds.sort_unstable_by_key(|(_, _, number)| *number);
            let holds = holds.into_iter();
            holds.map(|(id, hold, number)| entry(id, hold, &many.beside.get(number)))
        }))
    }

    /// The holds.
    pub fn holds(&self) -> &Holds<Charge, Tracks> {
        &self.holds
    }

    /// Adds a hold, as charged last. Where another algorithm took it over, so it did all
    /// before it.
    pub fn add(&mut self, entry: Entry) {
        let Entry { id, cost, asked, ttl_ms, since_us, positions } = entry;
        let hold = Hold { cost, ttl_ms, since_us, note: Charge { asked } };
        self.holds.add(Row { id, hold, seat: positions.into_iter().collect() });
    }

    /// A hold, to be settled.
    pub fn entry(&self, id: Id) -> Entry {
        let (few, many) = self.holds.forms();
        let held = match many {
            None => {
                few.iter().find(|row| row.id == id).map(|row| (&row.hold, Cow::Borrowed(&row.seat)))
            }
            Some(many) => {
                many.get(id).map(|(hold, number)| (hold, Cow::Owned(many.beside.get(number))))
            }
        };
        let Some((hold, places)) = held else { bug("a hold that was there is not") };
        entry(id, hold, &places)
    }

    /// Takes out a hold that is settled.
    pub fn remove(&mut self, id: Id) {
        self.holds.remove(id);
    }

    /// Has the charges before one move up by what is to be missing there, in each of
    /// these windows.
    pub fn close_gaps(&mut self, charge: Id, gaps: &[(Micros, Cost)]) {
        let (few, many) = self.holds.forms_mut();
        for row in few.iter_mut().take_while(|row| row.id != charge) {
            for (window_us, position) in &mut row.seat {
                let gap = gaps.iter().find(|(of_us, _)| of_us == window_us);
                if let (Some(position), Some((_, gap))) = (position, gap) {
                    position.0 = position.0.wrapping_add(*gap);
                }
            }
        }
        if let Some(many) = many
            && let Some((_, number)) = many.get(charge)
        {
            many.beside.close_gaps(number, gaps);
        }
    }

    /// Takes out the holds that have ended.
    pub fn end(&mut self, now_us: Micros) {
        self.holds.end(now_us);
    }

    /// Takes out of memory what is not seen any more, where windows are known by what is
    /// held of them.
    pub fn remove_all_over(&mut self) {
        self.holds.remove_all_over();
    }

    /// Has the time of a hold start anew.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) {
        self.holds.renew(id, ttl_ms, now_us);
    }

    /// Rewinds to a clock that stepped back; the positions are seen to by the
    /// windows.
    pub fn rewind_to(&mut self, now_us: Micros) {
        self.holds.rewind_to(now_us);
    }

    /// The positions in a window, where a clock that stepped back is to move them.
    pub fn positions_mut(&mut self, window_us: Micros) -> impl Iterator<Item = &mut Position> {
        let (few, many) = self.holds.forms_mut();
        let few = few.iter_mut().flat_map(|row| &mut row.seat);
        let few = few.filter(move |(of_us, _)| *of_us == window_us);
        let few = few.filter_map(|(_, position)| position.as_mut());
        few.chain(many.into_iter().flat_map(move |many| many.beside.positions_mut(window_us)))
    }

    /// Has all charges taken over by another algorithm, but in windows that close at a
    /// moment.
    pub fn take_over(&mut self) {
        let (few, many) = self.holds.forms_mut();
        let places = few.iter_mut().flat_map(|row| &mut row.seat);
        for (_, position) in places.filter(|(window_us, _)| closing(*window_us).is_none()) {
            *position = None;
        }
        if let Some(many) = many {
            many.beside.taken_over = many.beside.next_charge;
        }
    }

    /// Whether charges in a window are known.
    pub fn tracks(&self, window_us: Micros) -> bool {
        let (few, many) = self.holds.forms();
        few.iter().flat_map(|row| &row.seat).any(|(of_us, _)| *of_us == window_us)
            || many.is_some_and(|many| many.beside.track(window_us).is_some())
    }

    /// Forgets where charges sit in all windows but these.
    pub fn keep_tracks(&mut self, stays: impl Fn(Micros) -> bool) {
        let (few, many) = self.holds.forms_mut();
        few.iter_mut().for_each(|row| row.seat.retain(|(window_us, _)| stays(*window_us)));
        if let Some(many) = many {
            many.beside.of.retain(|(window_us, _)| stays(*window_us));
        }
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        let (few, many) = self.holds.forms();
        let few = few.iter().filter(|row| row.seat.spilled());
        let few = few.map(|row| row.seat.capacity() * size_of::<(Micros, Option<Position>)>());
        self.holds.heap_bytes()
            + few.sum::<usize>()
            + many.map_or(0, |many| many.beside.heap_bytes())
    }
}

/// A hold, and where its charge sits in the windows in which it does.
fn entry(id: Id, hold: &Hold<Charge>, places: &Places) -> Entry {
    let Hold { cost, ttl_ms, since_us, note: Charge { asked } } = *hold;
    let mut positions: Positions = places.iter().copied().collect();
    positions.sort_unstable_by_key(|(window_us, _)| *window_us);
    Entry { id, cost, asked, ttl_ms, since_us, positions }
}

#[cfg(test)]
mod tests {
    use super::super::closing::Close;
    use super::super::policy::Policy;
    use super::*;
    use proptest::prelude::*;

    /// The last one closes at a moment.
    fn windows_us() -> [Micros; 3] {
        [1_000, 2_000, Policy::until(1, Close::Day, 1).window_us]
    }

    #[derive(Clone, Debug)]
    enum Action {
        /// Charges so much to the windows from one on.
        Charge(Cost, usize),
        /// Settles one of those that are held, with a gap in each of its windows.
        Settle(prop::sample::Index, Cost),
        /// The clock goes on by so many milliseconds.
        Prune(u64),
        /// The clock steps back.
        Rewind,
        /// A window goes.
        Forget(usize),
        /// Another algorithm takes over.
        TakeOver,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            12 => (0u64..9, 0usize..3).prop_map(|(cost, from)| Action::Charge(cost, from)),
            10 => (any::<prop::sample::Index>(), 0u64..9)
                .prop_map(|(which, gap)| Action::Settle(which, gap)),
            2 => (0u64..100).prop_map(Action::Prune),
            1 => Just(Action::Rewind),
            1 => (0usize..3).prop_map(Action::Forget),
            2 => Just(Action::TakeOver),
        ]
    }

    proptest! {
        /// Against a list in which every charge before one that is settled is moved.
        #[test]
        fn knows_where_charges_sit_as_a_list_of_them_does(
            actions in prop::collection::vec(action(), 1..300),
        ) {
            let mut ledger = Ledger::default();
            let mut list: Vec<Entry> = Vec::new();
            let mut charged = [0u64; 3];
            let mut now_us = 0;
            for (count, action) in actions.into_iter().enumerate() {
                now_us += 1_000;
                match action {
                    Action::Charge(cost, from) => {
                        let mut positions = Positions::new();
                        for (sum, window_us) in charged.iter_mut().zip(windows_us()).skip(from) {
                            *sum += cost;
                            positions.push((window_us, Some(Position(*sum))));
                        }
                        let id = Id((count as u128).to_le_bytes());
                        let ttl_ms = 1 + cost * 7;
                        let entry =
                            Entry { id, cost, asked: cost, ttl_ms, since_us: now_us, positions };
                        ledger.add(entry.clone());
                        list.push(entry);
                    }
                    Action::Settle(which, gap) if !list.is_empty() => {
                        let at = which.index(list.len());
                        let settled = list.remove(at);
                        prop_assert_eq!(&ledger.entry(settled.id), &settled);
                        let gaps: Vec<_> =
                            settled.positions.iter().map(|(window_us, _)| (*window_us, gap)).collect();
                        ledger.close_gaps(settled.id, &gaps);
                        ledger.remove(settled.id);
                        for (window_us, _) in &settled.positions {
                            let before = list[..at].iter_mut().flat_map(|before| &mut before.positions);
                            for (_, position) in before.filter(|(of_us, _)| of_us == window_us) {
                                if let Some(position) = position {
                                    position.0 += gap;
                                }
                            }
                        }
                    }
                    Action::Settle(..) => {}
                    Action::Prune(ms) => {
                        now_us += ms * 1_000;
                        ledger.end(now_us);
                        list.retain(|held| held.since_us + held.ttl_ms * 1_000 > now_us);
                    }
                    Action::Rewind => {
                        for window_us in windows_us() {
                            ledger.positions_mut(window_us).for_each(|position| position.0 /= 2);
                        }
                        let positions = list.iter_mut().flat_map(|held| &mut held.positions);
                        positions.for_each(|(_, position)| {
                            *position = position.map(|position| Position(position.0 / 2));
                        });
                    }
                    Action::Forget(window) => {
                        let gone_us = windows_us()[window];
                        ledger.keep_tracks(|window_us| window_us != gone_us);
                        for held in &mut list {
                            held.positions.retain(|(window_us, _)| *window_us != gone_us);
                        }
                    }
                    Action::TakeOver => {
                        ledger.take_over();
                        let positions = list.iter_mut().flat_map(|held| &mut held.positions);
                        for (_, position) in positions.filter(|(of_us, _)| closing(*of_us).is_none()) {
                            *position = None;
                        }
                    }
                }
                prop_assert_eq!(ledger.entries().collect::<Vec<_>>(), list.clone());
                // One that is loaded is the same.
                let mut loaded = Ledger::default();
                list.iter().cloned().for_each(|entry| loaded.add(entry));
                prop_assert_eq!(&loaded, &ledger);
                let mut ledger = ledger.clone();
                ledger.remove_all_over();
                prop_assert_eq!(ledger.entries().collect::<Vec<_>>(), list.clone());
                for window_us in windows_us() {
                    let mut known = list.iter().flat_map(|held| &held.positions);
                    let known = known.any(|(of_us, _)| *of_us == window_us);
                    prop_assert_eq!(ledger.tracks(window_us), known);
                }
            }
        }
    }
}
