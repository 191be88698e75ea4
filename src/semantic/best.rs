//! The best that a scan has found.

/// Those most similar, so many at most, each once.
#[derive(Clone, Debug, PartialEq)]
pub struct Best<R> {
    most: usize,
    threshold: f64,
    /// From the best on; equally similar ones by rank.
    found: Vec<(f64, R)>,
    /// What was nearest, by the bound of its signs, and how similar that is.
    nearest: Option<(f32, f64)>,
}

impl<R: Ord + Copy> Best<R> {
    /// Nothing yet of the `most` best, none of them less similar than the threshold.
    pub fn new(most: usize, threshold: f64) -> Self {
        Self { most, threshold, found: Vec::new(), nearest: None }
    }

    /// What is less similar than this is of no use any more.
    pub fn floor(&self) -> f64 {
        match self.found.last() {
            Some((worst, _)) if self.found.len() == self.most => *worst,
            _ => self.threshold,
        }
    }

    /// Puts one in that is similar enough, in place of the worst if there are as many as
    /// there may be. What stands there under the same rank stays once, at its best.
    pub fn offer(&mut self, similarity: f64, rank: R) {
        if similarity < self.floor() || self.most == 0 {
            return;
        }
        let same = self.found.iter().position(|(_, one)| *one == rank);
        if let Some(place) = same {
            if self.found.get(place).is_some_and(|(before, _)| *before >= similarity) {
                return;
            }
            self.found.remove(place);
        }
        let place = self.found.partition_point(|(one, other)| {
            *one > similarity || *one == similarity && *other < rank
        });
        self.found.insert(place, (similarity, rank));
        self.found.truncate(self.most);
    }

    /// The bound above which something is nearer than what was nearest.
    pub fn nearest_bound(&self) -> f32 {
        self.nearest.map_or(f32::NEG_INFINITY, |(bound, _)| bound)
    }

    /// Takes note of what is nearest by its bound.
    pub fn note_nearest(&mut self, bound: f32, similarity: f64) {
        self.nearest = Some((bound, similarity));
    }

    /// What was found, from the best on.
    pub fn found(&self) -> &[(f64, R)] {
        &self.found
    }

    /// How similar the best was: exactly if it reached the threshold, and otherwise what
    /// a scan that proved only that nothing does took to be nearest.
    pub fn similarity(&self) -> Option<f64> {
        self.found.first().map(|(best, _)| *best).or(self.nearest.map(|(_, similarity)| similarity))
    }

    /// Adds what another scan has found.
    pub fn merge(&mut self, other: &Self) {
        other.found.iter().for_each(|(similarity, rank)| self.offer(*similarity, *rank));
        if let Some((bound, similarity)) =
            other.nearest.filter(|(bound, _)| *bound > self.nearest_bound())
        {
            self.note_nearest(bound, similarity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_best_are_those_of_all_sorted(
            offers in prop::collection::vec((0u8..20, 0u8..10), 0..60), most in 0usize..8, cut in 0usize..60,
        ) {
            let mut halves = [Best::new(most, 0.25), Best::new(most, 0.25)];
            let mut all = BTreeMap::new();
            for (place, (similarity, rank)) in offers.into_iter().enumerate() {
                let best = all.entry(rank).or_insert(similarity);
                *best = similarity.max(*best);
                halves[usize::from(place < cut)].offer(f64::from(similarity) / 20.0, rank);
            }
            let mut all: Vec<_> = all.into_iter().filter(|(_, one)| *one >= 5).collect();
            all.sort_by_key(|(rank, similarity)| (std::cmp::Reverse(*similarity), *rank));
            let expected: Vec<_> =
                all.into_iter().take(most).map(|(rank, one)| (f64::from(one) / 20.0, rank)).collect();
            let [mut one, other] = halves;
            one.merge(&other);
            prop_assert_eq!(one.found(), expected);
        }
    }
}
