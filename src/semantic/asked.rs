//! What became of the questions that a key was asked: on this node.

use std::cell::Cell;

/// How many parts the similarities from −1 to 1 are counted in: each 0.05 wide.
pub const PARTS: usize = 40;

/// What is counted, while it is read by others.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Answered.
    pub hits: Cell<u64>,
    /// Answered perhaps.
    pub maybes: Cell<u64>,
    /// Not answered.
    pub misses: Cell<u64>,
    /// What computing those answers took that were hits.
    pub saved_ms: Cell<u64>,
    /// How similar the nearest was, from −1 on.
    histogram: [Cell<u32>; PARTS],
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            hits: Cell::default(),
            maybes: Cell::default(),
            misses: Cell::default(),
            saved_ms: Cell::default(),
            histogram: [const { Cell::new(0) }; PARTS],
        }
    }
}

/// Counts so many more.
pub fn count(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get().saturating_add(more));
}

impl Asked {
    /// Counts how similar the nearest was.
    pub fn count_similarity(&self, similarity: f64) {
        let part = ((similarity + 1.0) * (PARTS / 2) as f64) as usize;
        if let Some(counter) = self.histogram.get(part.min(PARTS - 1)) {
            counter.set(counter.get().saturating_add(1));
        }
    }

    /// How often the nearest was how similar, from −1 on.
    pub fn histogram(&self) -> impl Iterator<Item = u32> {
        self.histogram.iter().map(Cell::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_are_counted_in_parts_of_a_twentieth() {
        let asked = Asked::default();
        for similarity in [-1.0, -0.951, -0.949, 0.0, 0.049, 0.949, 0.951, 1.0] {
            asked.count_similarity(similarity);
        }
        let counted: Vec<_> =
            asked.histogram().enumerate().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0, 2), (1, 1), (20, 2), (38, 1), (39, 2)]);
    }
}
