//! Numbers for what a call meets, in the order in which it is met.

use std::collections::HashMap;

/// A numbering of things that are told apart by a word each. What follows itself,
/// as mostly it does, is not looked up; nothing is allocated before a second comes.
#[derive(Default)]
pub struct Numbering {
    count: usize,
    /// What was met last, and its number.
    last: (usize, usize),
    /// All; empty while there is only the one met last.
    numbers: HashMap<usize, usize>,
}

impl Numbering {
    /// The number of a thing: of one that is new, as many as there were.
    #[inline]
    pub fn of(&mut self, thing: usize) -> usize {
        if self.count == 0 || self.last.0 != thing {
            self.last = (thing, self.look_up(thing));
        }
        self.last.1
    }

    fn look_up(&mut self, thing: usize) -> usize {
        let number = match self.count {
            0 => 0,
            1 => {
                self.numbers.extend([self.last, (thing, 1)]);
                1
            }
            count => *self.numbers.entry(thing).or_insert(count),
        };
        self.count = self.count.max(number + 1);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn things_have_numbers_in_the_order_in_which_they_are_met(
            things in prop::collection::vec(0usize..6, 0..40),
        ) {
            let (mut numbering, mut met) = (Numbering::default(), Vec::new());
            for thing in things {
                if !met.contains(&thing) {
                    met.push(thing);
                }
                prop_assert_eq!(met.get(numbering.of(thing)), Some(&thing));
            }
        }
    }
}
