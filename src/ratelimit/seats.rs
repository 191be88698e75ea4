//! The seats of charges in a window: where in it each of them sits, by the number of
//! the charge. All before one can be moved at once.
//!
//! A B+-tree (Comer, "The ubiquitous B-tree", 1979) that grows at its end only, for the
//! numbers do. What moves many is noted at the runs they are in, once, and added up on
//! the way down to one of them. Numbers never change, so there is no call at which
//! everything is put in order: each takes the logarithm of how many seats there are.

use super::meter::Position;

/// The seats of the charges in a window, in runs of up to `FULL` parts, which is 4 or more.
/// The default has none.
#[derive(Clone, Debug, Default)]
pub struct Seats<const FULL: usize = 32>(Run<FULL>);

/// Parts in the order of their numbers, all of them charges or all of them runs.
#[derive(Clone, Debug, Default)]
struct Run<const FULL: usize> {
    parts: Vec<Part>,
    /// The run that each part is; nothing where they are charges.
    below: Vec<Run<FULL>>,
}

/// A charge, or a run of them.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The number of the charge. Those in a run have no lower ones.
    number: u64,
    /// Where the charge sits, or how far all in the run have moved.
    position: Position,
}

impl Part {
    fn move_by(&mut self, by: u64) {
        self.position.0 = self.position.0.wrapping_add(by);
    }
}

impl<const FULL: usize> Seats<FULL> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.parts.is_empty()
    }

    /// Adds that of a charge, whose number is higher than all others.
    pub fn add(&mut self, number: u64, position: Position) {
        if let Some(next) = self.0.add(Part { number, position }) {
            let first = std::mem::take(&mut self.0);
            let parts = [0, number].map(|number| Part { number, position: Position(0) });
            self.0 = Run { parts: parts.to_vec(), below: vec![first, next] };
        }
    }

    /// Where a charge sits.
    pub fn get(&self, number: u64) -> Option<Position> {
        let (mut run, mut moved) = (&self.0, 0u64);
        loop {
            let at = run.find(number)?;
            let part = run.parts.get(at)?;
            moved = moved.wrapping_add(part.position.0);
            match run.below.get(at) {
                Some(below) => run = below,
                None => return (part.number == number).then_some(Position(moved)),
            }
        }
    }

    /// Takes out that of a charge.
    pub fn remove(&mut self, number: u64) -> Option<Position> {
        let position = self.0.remove(number)?;
        while let ([part], [run]) = (&*self.0.parts, &mut *self.0.below) {
            let mut run = std::mem::take(run);
            run.parts.iter_mut().for_each(|below| below.move_by(part.position.0));
            self.0 = run;
        }
        Some(position)
    }

    /// Has all before a charge move up.
    pub fn move_before(&mut self, number: u64, by: u64) {
        self.0.move_before(number, by);
    }

    /// All of them, to be moved one by one.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Position> {
        let mut positions = Vec::new();
        self.0.positions_mut(0, &mut positions);
        positions.into_iter()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }
}

impl<const FULL: usize> Run<FULL> {
    /// The part that is the charge of a number, or that has it.
    fn find(&self, number: u64) -> Option<usize> {
        self.parts.partition_point(|part| part.number <= number).checked_sub(1)
    }

    /// Adds a charge at the end. If there is no room, the answer is the run that comes
    /// next, with the charge in it.
    fn add(&mut self, charge: Part) -> Option<Self> {
        let (mut part, mut below) = (charge, None);
        if let (Some(last), Some(run)) = (self.parts.last(), self.below.last_mut()) {
            let mut there = charge;
            there.move_by(last.position.0.wrapping_neg());
            below = Some(run.add(there)?);
            part.position = last.position;
        }
        if self.parts.len() == FULL {
            return Some(Self { parts: vec![part], below: below.into_iter().collect() });
        }
        self.parts.push(part);
        self.below.extend(below);
        None
    }

    fn remove(&mut self, number: u64) -> Option<Position> {
        let at = self.find(number)?;
        let mut part = *self.parts.get(at)?;
        match self.below.get_mut(at) {
            None if part.number != number => return None,
            None => _ = take_out(&mut self.parts, at),
            Some(run) => {
                part.move_by(run.remove(number)?.0);
                if run.parts.is_empty() {
                    take_out(&mut self.parts, at);
                    take_out(&mut self.below, at);
                } else {
                    self.join(at);
                    self.join(at.saturating_sub(1));
                }
            }
        }
        Some(part.position)
    }

    /// Has a run and the one after it become one, where both are short, and so the runs
    /// below that meet there.
    fn join(&mut self, at: usize) {
        let short =
            |runs: &[Self]| runs.iter().map(|run| run.parts.len()).sum::<usize>() <= FULL / 2;
        if !self.below.get(at..at + 2).is_some_and(short) {
            return;
        }
        let next = take_out(&mut self.below, at + 1);
        let mut moved = take_out(&mut self.parts, at + 1);
        if let (Some(part), Some(run)) = (self.parts.get(at), self.below.get_mut(at)) {
            moved.move_by(part.position.0.wrapping_neg());
            let seam = run.below.len();
            run.below.extend(next.below);
            run.parts.extend(next.parts.into_iter().map(|mut part| {
                part.move_by(moved.position.0);
                part
            }));
            if let Some(last) = seam.checked_sub(1) {
                run.join(last);
            }
        }
    }

    fn move_before(&mut self, number: u64, by: u64) {
        let mut before = self.parts.partition_point(|part| part.number < number);
        // The last run that begins before may go on behind.
        if let Some(run) = before.checked_sub(1).and_then(|last| self.below.get_mut(last)) {
            run.move_before(number, by);
            before -= 1;
        }
        self.parts.iter_mut().take(before).for_each(|part| part.move_by(by));
    }

    fn positions_mut<'a>(&'a mut self, moved: u64, all: &mut Vec<&'a mut Position>) {
        self.parts.iter_mut().for_each(|part| part.move_by(moved));
        let positions = self.parts.iter_mut().map(|part| &mut part.position);
        if self.below.is_empty() {
            all.extend(positions);
        } else {
            for (moved, run) in positions.zip(&mut self.below) {
                run.positions_mut(std::mem::replace(&mut moved.0, 0), all);
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<Part>()
            + self.below.capacity() * size_of::<Self>()
            + self.below.iter().map(Self::heap_bytes).sum::<usize>()
    }
}

/// Takes one out of a list, which gives back what it has room for when it has become
/// short.
fn take_out<T>(list: &mut Vec<T>, at: usize) -> T {
    let taken = list.remove(at);
    // The least that a list makes room for is 4.
    if list.capacity() > 4 && list.len() <= list.capacity() / 4 {
        list.shrink_to(list.capacity() / 2);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Action {
        Add(u64),
        Remove(prop::sample::Index),
        /// Takes out so many one after the other.
        RemoveSome(prop::sample::Index, usize),
        MoveBefore(prop::sample::Index, u64),
        Rewind,
    }

    /// What is done between one look at all and the next, most of it for so many one after
    /// the other, so that there are runs of runs of runs.
    fn actions(most: usize) -> impl Strategy<Value = Vec<Vec<Action>>> {
        let which = any::<prop::sample::Index>;
        let add = prop::collection::vec(any::<u64>().prop_map(Action::Add), 1..most);
        let some = (which(), 1..most).prop_map(|(from, count)| Action::RemoveSome(from, count));
        let one = prop_oneof![
            8 => any::<u64>().prop_map(Action::Add),
            16 => which().prop_map(Action::Remove),
            2 => some,
            16 => (which(), any::<u64>()).prop_map(|(which, by)| Action::MoveBefore(which, by)),
            1 => Just(Action::Rewind),
        ];
        let several = prop_oneof![2 => add, 9 => prop::collection::vec(one, 1..8)];
        prop::collection::vec(several, 1..20)
    }

    /// How high a run is, after a check that no two that follow each other are short,
    /// nor is any empty, nor has much more room than it needs.
    fn height<const FULL: usize>(run: &Run<FULL>) -> usize {
        assert!(run.parts.len() <= FULL);
        for (room, length) in
            [(run.parts.capacity(), run.parts.len()), (run.below.capacity(), run.below.len())]
        {
            assert!(room <= 4.max(4 * length) && room <= FULL, "room for {room}, with {length}");
        }
        let lengths: Vec<_> = run.below.iter().map(|run| run.parts.len()).collect();
        assert!(lengths.is_sorted_by(|one, next| one + next > FULL / 2), "{lengths:?}");
        assert!(!lengths.contains(&0), "{lengths:?}");
        let heights: Vec<_> = run.below.iter().map(height).collect();
        assert!(heights.is_sorted_by(|one, next| one == next), "{heights:?}");
        1 + heights.first().copied().unwrap_or(0)
    }

    /// Against a list of which each is moved.
    fn check<const FULL: usize>(actions: Vec<Vec<Action>>) {
        let mut seats = Seats::<FULL>::default();
        let mut list: Vec<(u64, Position)> = Vec::new();
        let mut number = 0;
        for actions in actions {
            for action in actions {
                number += 3;
                act(&mut seats, &mut list, number, action);
                height(&seats.0);
            }
            assert_eq!(seats.is_empty(), list.is_empty());
            for (number, position) in &list {
                assert_eq!(seats.get(*number), Some(*position));
                assert_eq!(seats.get(number + 1), None);
            }
            let all: Vec<_> = seats.clone().iter_mut().map(|position| *position).collect();
            assert_eq!(all, list.iter().map(|(_, position)| *position).collect::<Vec<_>>());
        }
    }

    fn act<const FULL: usize>(
        seats: &mut Seats<FULL>,
        list: &mut Vec<(u64, Position)>,
        number: u64,
        action: Action,
    ) {
        match action {
            Action::Add(position) => {
                seats.add(number, Position(position));
                list.push((number, Position(position)));
            }
            Action::Remove(which) if !list.is_empty() => {
                let (number, position) = list.remove(which.index(list.len()));
                assert_eq!(seats.remove(number), Some(position));
                assert_eq!(seats.remove(number), None);
            }
            Action::RemoveSome(from, count) if !list.is_empty() => {
                let from = from.index(list.len());
                for (number, position) in list.drain(from..list.len().min(from + count)) {
                    assert_eq!(seats.remove(number), Some(position));
                }
            }
            Action::MoveBefore(which, by) => {
                let number = which.index(number as usize + 2) as u64;
                seats.move_before(number, by);
                for (_, position) in list.iter_mut().filter(|(other, _)| *other < number) {
                    position.0 = position.0.wrapping_add(by);
                }
            }
            Action::Rewind => {
                seats.iter_mut().for_each(|position| position.0 /= 2);
                list.iter_mut().for_each(|(_, position)| position.0 /= 2);
            }
            Action::Remove(_) | Action::RemoveSome(..) => {}
        }
    }

    proptest! {
        #[test]
        fn in_runs_of_4_are_what_a_list_of_them_is(actions in actions(40)) {
            check::<4>(actions);
        }

        #[test]
        fn in_runs_of_8_are_what_a_list_of_them_is(actions in actions(80)) {
            check::<8>(actions);
        }

        #[test]
        fn in_runs_of_32_are_what_a_list_of_them_is(actions in actions(640)) {
            check::<32>(actions);
        }
    }

    #[test]
    fn are_few_runs_however_few_of_many_stay() {
        let mut seats = Seats::<4>::default();
        for number in 0..10_000 {
            seats.add(number, Position(number));
            if number % 100 > 0 {
                seats.remove(number);
            }
        }
        assert_eq!(seats.iter_mut().map(|position| position.0 % 100).max(), Some(0));
        assert!(height(&seats.0) <= 6);
    }

    #[test]
    fn take_the_memory_of_as_many_as_there_are() {
        const MANY: u64 = 65_536;
        let mut seats = Seats::<32>::default();
        (0..MANY).for_each(|number| seats.add(number, Position(number)));
        assert!(seats.heap_bytes() <= 19 * MANY as usize, "{}", seats.heap_bytes());
        // Each at a time of its own, now here, now there.
        let gone = (0..MANY).map(|nth| nth * 40_503 % MANY).filter(|number| number % 64 > 0);
        for (nth, number) in gone.enumerate() {
            assert_eq!(seats.remove(number), Some(Position(number)));
            if nth % 256 == 0 {
                height(&seats.0);
            }
        }
        let stay = MANY as usize / 64;
        assert!(seats.heap_bytes() <= 64 * stay, "{} for {stay}", seats.heap_bytes());
    }
}
