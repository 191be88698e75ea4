//! The ledger of a limiter: what is held of it, by whom and until when, and where
//! in its windows each of these charges sits.
//!
//! What is done with one hold of many takes the logarithm of how many there are. A
//! refund leaves a gap in a token bucket's queue, which all charges before it move
//! up to close: instead of being moved, they are found by the sum of the gaps after
//! them, for which the charges are numbered and the gaps kept in a tree (Fenwick,
//! 1994).

use super::meter::Position;
use super::policy::{Cost, MAX_WINDOWS};
use super::stats::OPEN;
use crate::bug;
use crate::hold::{Hold, Holds};
use crate::id::Id;
use crate::time::{Micros, Millis};
use arrayvec::ArrayVec;

/// The positions of a charge in the windows it was charged to, by their length.
pub type Positions = ArrayVec<(Micros, Position), MAX_WINDOWS>;

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
    /// gone since it has no position.
    pub positions: Positions,
}

/// What a ledger notes of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What was asked for.
    pub asked: Cost,
    /// Its number in the order in which charges came.
    number: usize,
    /// Where the charge sits, by the number of a window's track.
    positions: Box<[(u64, Position)]>,
}

/// A track: what is known of the charges of a window. One that goes and comes again,
/// or is kept in another way, gets another number, by which no position of before is
/// found.
#[derive(Clone, Debug)]
struct Track {
    window_us: Micros,
    number: u64,
    /// How many charges sit in it: it goes with the last.
    charges: usize,
    gaps: Gaps,
}

/// The ledger. The default is one without holds.
#[derive(Clone, Debug)]
pub struct Ledger {
    holds: Holds<Charge>,
    tracks: Vec<Track>,
    /// The number of the next charge. All that are held have lower ones.
    next_charge: usize,
    /// The number of the next track.
    next_track: u64,
    /// Up to which numbers of charges the trees of gaps reach.
    reach: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        let holds = Holds::none(&OPEN);
        Self { holds, tracks: Vec::new(), next_charge: 0, next_track: 0, reach: LEAST_REACH }
    }
}

/// What the trees of gaps reach to at least.
const LEAST_REACH: usize = 16;

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
        self.in_order().into_iter().map(|id| self.entry(id))
    }

    /// The holds.
    pub fn holds(&self) -> &Holds<Charge> {
        &self.holds
    }

    fn in_order(&self) -> Vec<Id> {
        let mut numbered: Vec<_> =
            self.holds.iter().map(|(id, hold)| (hold.note.number, id)).collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, id)| id).collect()
    }

    fn entry(&self, id: Id) -> Entry {
        let Some(hold) = self.holds.get(id) else { bug("a hold in the order is none") };
        let Hold { cost, ttl_ms, since_us, note } = hold;
        let positions = self.positions(note);
        Entry {
            id,
            cost: *cost,
            asked: note.asked,
            ttl_ms: *ttl_ms,
            since_us: *since_us,
            positions,
        }
    }

    /// Where a charge sits now, in the windows that are still there.
    fn positions(&self, charge: &Charge) -> Positions {
        let found = |track: &Track| {
            let mut positions = charge.positions.iter();
            let (_, position) = positions.find(|(number, _)| *number == track.number)?;
            let moved = position.0.wrapping_add(track.gaps.after(charge.number));
            Some((track.window_us, Position(moved)))
        };
        let mut positions: Positions = self.tracks.iter().filter_map(found).collect();
        positions.sort_unstable_by_key(|(window_us, _)| *window_us);
        positions
    }

    /// Adds a hold, as charged last.
    pub fn add(&mut self, entry: Entry) {
        let Entry { id, cost, asked, ttl_ms, since_us, positions } = entry;
        let tracked = |(window_us, position)| (self.track(window_us), position);
        let positions = positions.into_iter().map(tracked).collect();
        let note = Charge { asked, number: self.next_charge, positions };
        self.next_charge += 1;
        self.holds.add(id, Hold { cost, ttl_ms, since_us, note });
    }

    /// The number of the track of a window that is charged, which may be a new one.
    fn track(&mut self, window_us: Micros) -> u64 {
        let track = self.tracks.iter_mut().find(|track| track.window_us == window_us);
        if let Some(track) = track {
            track.charges += 1;
            return track.number;
        }
        let number = self.next_track;
        self.next_track += 1;
        self.tracks.push(Track { window_us, number, charges: 1, gaps: Gaps::default() });
        number
    }

    /// Forgets where a charge sits.
    fn untrack(&mut self, charge: &Charge) {
        for (number, _) in &charge.positions {
            if let Some(track) = self.tracks.iter_mut().find(|track| track.number == *number) {
                track.charges -= 1;
            }
        }
        self.tracks.retain(|track| track.charges > 0);
    }

    /// Takes a hold out, to be settled: with it the number of its charge, by which
    /// the [gaps](Self::close_gaps) that it leaves are closed.
    pub fn take(&mut self, id: Id) -> (Entry, usize) {
        let entry = self.entry(id);
        let Some(hold) = self.holds.remove(id) else { bug("a hold that was there is not") };
        self.untrack(&hold.note);
        (entry, hold.note.number)
    }

    /// Has the charges before a number move up by what is missing there now, in each of
    /// these windows.
    pub fn close_gaps(&mut self, mut charge: usize, gaps: &[(Micros, Cost)]) {
        let gaps = || gaps.iter().filter(|(_, gap)| *gap > 0);
        if gaps().next().is_some() && self.next_charge > self.reach {
            charge = self.number_anew(charge);
        }
        for (window_us, gap) in gaps() {
            let mut tracks = self.tracks.iter_mut();
            if let Some(track) = tracks.find(|track| track.window_us == *window_us) {
                track.gaps.add(charge, *gap, self.reach);
            }
        }
    }

    /// Numbers the charges from 0 on, each where it sits now. As many are to come
    /// before it is done again. The answer is the place among them of a charge that is
    /// no more.
    fn number_anew(&mut self, gone: usize) -> usize {
        let mut charges: Vec<_> = self.holds.notes_mut().collect();
        charges.sort_by_cached_key(|charge| charge.number);
        let place = charges.partition_point(|charge| charge.number < gone);
        let count = charges.len();
        for (number, charge) in charges.into_iter().enumerate() {
            for (of, position) in &mut charge.positions {
                if let Some(track) = self.tracks.iter().find(|track| track.number == *of) {
                    position.0 = position.0.wrapping_add(track.gaps.after(charge.number));
                }
            }
            charge.number = number;
        }
        self.tracks.iter_mut().for_each(|track| track.gaps = Gaps::default());
        self.next_charge = count;
        self.reach = (2 * count).max(LEAST_REACH);
        place
    }

    /// Forgets the holds that have ended.
    pub fn prune(&mut self, now_us: Micros) {
        while let Some(ended) = self.holds.remove_ended(now_us) {
            self.untrack(&ended.note);
        }
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
        let track = self.tracks.iter().find(|track| track.window_us == window_us);
        let number = track.map(|track| track.number);
        self.holds.notes_mut().filter_map(move |charge| {
            let mut positions = charge.positions.iter_mut();
            let (_, position) = positions.find(|(of, _)| Some(*of) == number)?;
            Some(position)
        })
    }

    /// Whether charges in a window are known.
    pub fn tracks(&self, window_us: Micros) -> bool {
        self.tracks.iter().any(|track| track.window_us == window_us)
    }

    /// Forgets where charges sit in all windows but these.
    pub fn keep_tracks(&mut self, stays: impl Fn(Micros) -> bool) {
        self.tracks.retain(|track| stays(track.window_us));
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        let position = size_of::<(u64, Position)>();
        let gaps = self.tracks.iter().map(|track| track.gaps.0.capacity() * size_of::<u64>());
        self.holds.heap_bytes()
            + self.holds.len() * self.tracks.len().max(1) * position
            + self.tracks.capacity() * size_of::<Track>()
            + gaps.sum::<usize>()
    }
}

/// The gaps that refunds left among numbered charges: a tree of their sums, which
/// wrap. Nothing until there is one.
#[derive(Clone, Debug, Default)]
struct Gaps(Vec<u64>);

impl Gaps {
    /// A gap at a charge.
    fn add(&mut self, charge: usize, gap: u64, reach: usize) {
        if self.0.is_empty() {
            self.0 = vec![0; reach];
        }
        let mut place = charge + 1;
        while let Some(sum) = self.0.get_mut(place - 1) {
            *sum = sum.wrapping_add(gap);
            place += lowest_bit(place);
        }
    }

    /// The sum of the first so many.
    fn first(&self, count: usize) -> u64 {
        let (mut place, mut total) = (count, 0u64);
        while let Some(sum) = place.checked_sub(1).and_then(|at| self.0.get(at)) {
            total = total.wrapping_add(*sum);
            place -= lowest_bit(place);
        }
        total
    }

    /// The sum of those after a charge.
    fn after(&self, charge: usize) -> u64 {
        if self.0.is_empty() {
            return 0;
        }
        self.first(self.0.len()).wrapping_sub(self.first((charge + 1).min(self.0.len())))
    }
}

fn lowest_bit(place: usize) -> usize {
    place & place.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOWS_US: [Micros; 3] = [1_000, 2_000, 3_000];

    #[derive(Clone, Debug)]
    enum Action {
        /// Charges so much to the windows from one on.
        Charge(Cost, usize),
        /// Settles one of those that are held, with a gap in each of its windows.
        Settle(prop::sample::Index, Cost),
        Prune,
        /// A window goes.
        Forget(usize),
        /// All are told apart no more.
        ForgetAll,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            12 => (0u64..9, 0usize..3).prop_map(|(cost, from)| Action::Charge(cost, from)),
            9 => (any::<prop::sample::Index>(), 0u64..9)
                .prop_map(|(which, gap)| Action::Settle(which, gap)),
            1 => Just(Action::Prune),
            1 => (0usize..3).prop_map(Action::Forget),
            1 => Just(Action::ForgetAll),
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
            for (count, action) in actions.into_iter().enumerate() {
                let now_us = count as u64 * 1_000;
                match action {
                    Action::Charge(cost, from) => {
                        let mut positions = Positions::new();
                        for (sum, window_us) in charged.iter_mut().zip(WINDOWS_US).skip(from) {
                            *sum += cost;
                            positions.push((window_us, Position(*sum)));
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
                        let (entry, number) = ledger.take(settled.id);
                        prop_assert_eq!(&entry, &settled);
                        let gaps: Vec<_> =
                            settled.positions.iter().map(|(window_us, _)| (*window_us, gap)).collect();
                        ledger.close_gaps(number, &gaps);
                        for (window_us, _) in &settled.positions {
                            for before in &mut list[..at] {
                                for (of, position) in &mut before.positions {
                                    position.0 += if of == window_us { gap } else { 0 };
                                }
                            }
                        }
                    }
                    Action::Settle(..) => {}
                    Action::Prune => {
                        ledger.prune(now_us);
                        list.retain(|held| held.since_us + held.ttl_ms * 1_000 > now_us);
                    }
                    Action::Forget(window) => {
                        let gone_us = WINDOWS_US[window];
                        ledger.keep_tracks(|window_us| window_us != gone_us);
                        for held in &mut list {
                            held.positions.retain(|(window_us, _)| *window_us != gone_us);
                        }
                    }
                    Action::ForgetAll => {
                        ledger.keep_tracks(|_| false);
                        list.iter_mut().for_each(|held| held.positions.clear());
                    }
                }
                prop_assert_eq!(ledger.entries().collect::<Vec<_>>(), list.clone());
                let mut tracked: Vec<_> = ledger.tracks.iter().map(|track| track.window_us).collect();
                tracked.sort_unstable();
                let mut known: Vec<_> =
                    list.iter().flat_map(|held| held.positions.iter().map(|(us, _)| *us)).collect();
                known.sort_unstable();
                known.dedup();
                prop_assert_eq!(tracked, known);
            }
        }
    }
}
