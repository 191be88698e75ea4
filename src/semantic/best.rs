//! The best that a scan has found.

/// Those most similar, so many at most, each once.
#[derive(Clone, Debug, PartialEq)]
struct Few<R> {
    most: usize,
    threshold: f64,
    /// From the best on; equally similar ones by rank.
    found: Vec<(f64, R)>,
}

impl<R: Ord + Copy> Few<R> {
    /// What is less similar than this is of no use any more.
    fn floor(&self) -> f64 {
        match self.found.last() {
            Some((worst, _)) if self.found.len() == self.most => *worst,
            _ => self.threshold,
        }
    }

    /// Whether nothing is missing that is not in `part` either, in which all that was left
    /// out is no better than its worst.
    fn has_all_of(&self, part: &Self) -> bool {
        let nothing_was_left_out = part.found.len() < part.most;
        nothing_was_left_out
            || self.found.len() == self.most
                && self.found.last().zip(part.found.last()).is_some_and(|(own, other)| {
                    own.0 > other.0 || own.0 == other.0 && own.1 <= other.1
                })
    }

    fn offer(&mut self, similarity: f64, rank: R) {
        if similarity < self.floor() || self.most == 0 {
            return;
        }
        if let Some(place) = self.found.iter().position(|(_, one)| *one == rank) {
            if self.found.get(place).is_some_and(|(before, _)| *before >= similarity) {
                return;
            }
            self.found.remove(place);
        }
        let is_better =
            |(one, other): &(f64, R)| *one > similarity || *one == similarity && *other < rank;
        let place = self.found.partition_point(is_better);
        self.found.insert(place, (similarity, rank));
        self.found.truncate(self.most);
    }
}

/// The best that was found: the hits, and as long as there are none, what may be one.
#[derive(Clone, Debug, PartialEq)]
pub struct Best<R> {
    hits: Few<R>,
    maybes: Option<Few<R>>,
    /// What was nearest, by the bound of its signs, and how similar that is.
    nearest: Option<(f32, f64)>,
}

impl<R: Ord + Copy> Best<R> {
    /// Nothing yet of the `most` best: hits as similar as `hit` at least, and those
    /// that are as similar as `maybe`, if that is asked for.
    pub fn new(most: usize, hit: f64, maybe: Option<f64>) -> Self {
        let few = |threshold| Few { most, threshold, found: Vec::new() };
        Self { hits: few(hit), maybes: maybe.map(few), nearest: None }
    }

    /// What is less similar than this is of no use any more. Even where there are maybes
    /// enough, a hit can be less similar than they are: thresholds of their own may be
    /// what keeps them from being hits.
    pub fn floor(&self) -> f64 {
        let floor = self.hits.floor();
        match &self.maybes {
            Some(maybes) if self.hits.found.is_empty() => floor.min(maybes.floor()),
            _ => floor,
        }
    }

    /// Puts one in that is similar enough, in place of the worst if there are as many as
    /// there may be. It is a hit from a threshold of its own on only. What stands there
    /// under the same rank stays once, at its best.
    pub fn offer(&mut self, similarity: f64, rank: R, threshold: f64) {
        if similarity >= threshold && similarity >= self.hits.threshold {
            self.hits.offer(similarity, rank);
        } else if let Some(maybes) = &mut self.maybes {
            maybes.offer(similarity, rank);
        }
    }

    /// The same with nothing found yet, for all that a scan found and could not see: what
    /// was nearest is known.
    pub fn after(scan: &Self, most: usize) -> Self {
        let maybe = scan.maybes.as_ref().map(|maybes| maybes.threshold);
        Self { nearest: scan.nearest, ..Self::new(most, scan.hits.threshold, maybe) }
    }

    /// Whether these are the best of all, now that what a scan found was offered as it is
    /// now, with all that has changed since: what the scan left out is no better.
    pub fn is_complete_after(&self, scan: &Self) -> bool {
        let maybes = self.maybes.as_ref().zip(scan.maybes.as_ref());
        let has_maybes =
            || maybes.is_none_or(|(own, other)| scan.hits().is_empty() && own.has_all_of(other));
        self.hits.has_all_of(&scan.hits) && (!self.hits().is_empty() || has_maybes())
    }

    /// The bound above which something is nearer than what was nearest.
    pub fn nearest_bound(&self) -> f32 {
        self.nearest.map_or(f32::NEG_INFINITY, |(bound, _)| bound)
    }

    /// Takes note of what is nearest by its bound.
    pub fn note_nearest(&mut self, bound: f32, similarity: f64) {
        self.nearest = Some((bound, similarity));
    }

    /// The hits, from the best on.
    pub fn hits(&self) -> &[(f64, R)] {
        &self.hits.found
    }

    /// What may be a hit, from the best on; complete only where there are no hits.
    pub fn maybes(&self) -> &[(f64, R)] {
        self.maybes.as_ref().map_or(&[], |maybes| &maybes.found)
    }

    /// How similar the best was: exactly if it reached a threshold, and otherwise what a
    /// scan that proved only that nothing does took to be nearest.
    pub fn similarity(&self) -> Option<f64> {
        let found = self.hits().first().into_iter().chain(self.maybes().first());
        let found = found.map(|(similarity, _)| *similarity).max_by(f64::total_cmp);
        found.or(self.nearest.map(|(_, similarity)| similarity))
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
            offers in prop::collection::vec((0u8..20, 0u8..10), 0..60),
            own in prop::collection::vec(0u8..20, 10),
            most in 0usize..8, maybe in prop::option::of(0u8..10),
        ) {
            let part = |twentieths: u8| f64::from(twentieths) / 20.0;
            let mut best = Best::new(most, 0.5, maybe.map(part));
            let mut all = BTreeMap::new();
            for (similarity, rank) in offers {
                let seen = all.entry(rank).or_insert(similarity);
                *seen = similarity.max(*seen);
                // A scan leaves out what is below the floor.
                if part(similarity) >= best.floor() {
                    best.offer(part(similarity), rank, part(own[usize::from(rank)]));
                }
            }
            let mut all: Vec<_> = all.into_iter().map(|(rank, one)| (part(one), rank)).collect();
            all.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
            let is_hit = |(similarity, rank): &&(f64, u8)| {
                *similarity >= 0.5 && *similarity >= part(own[usize::from(*rank)])
            };
            let hits: Vec<_> = all.iter().filter(is_hit).take(most).copied().collect();
            prop_assert_eq!(best.hits(), &hits[..]);
            if let Some(maybe) = maybe && hits.is_empty() {
                let maybes = all.iter().filter(|one| one.0 >= part(maybe) && !is_hit(one));
                prop_assert_eq!(best.maybes(), maybes.take(most).copied().collect::<Vec<_>>());
            }
        }

        #[test]
        fn what_a_scan_found_is_complete_only_where_nothing_else_can_be_better(
            before in prop::collection::vec(0u8..20, 0..30),
            own in prop::collection::vec(0u8..20, 40),
            gone in prop::collection::vec(0usize..30, 0..10),
            came in prop::collection::vec(0u8..20, 0..10),
            most in 1usize..6, more in 0usize..4, maybe in prop::option::of(0u8..10),
        ) {
            let part = |twentieths: u8| f64::from(twentieths) / 20.0;
            let offer = |best: &mut Best<usize>, rank: usize, similarity: u8| {
                if part(similarity) >= best.floor() {
                    best.offer(part(similarity), rank, part(own[rank]));
                }
            };
            let mut scan = Best::new(most + more, 0.5, maybe.map(part));
            before.iter().enumerate().for_each(|(rank, one)| offer(&mut scan, rank, *one));
            let mut left = Best::after(&scan, most);
            let found = scan.hits().iter().chain(scan.maybes()).map(|(_, rank)| *rank);
            found.filter(|rank| !gone.contains(rank)).for_each(|rank| {
                offer(&mut left, rank, before[rank]);
            });
            let mut all = Best::new(most, 0.5, maybe.map(part));
            before.iter().enumerate().filter(|(rank, _)| !gone.contains(rank)).for_each(
                |(rank, one)| offer(&mut all, rank, *one),
            );
            for (nth, one) in came.iter().enumerate() {
                offer(&mut left, 30 + nth, *one);
                offer(&mut all, 30 + nth, *one);
            }
            if left.is_complete_after(&scan) {
                prop_assert_eq!(left.hits(), all.hits());
                prop_assert!(!all.hits().is_empty() || left.maybes() == all.maybes());
            } else {
                prop_assert!(!gone.is_empty());
            }
        }
    }
}
