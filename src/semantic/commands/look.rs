//! What is near a question, and what becomes of that: what ML.SEMGET and ML.SEMFETCH
//! share.

use super::arguments::{DIGEST, EMBEDDER, digest, embedder, similarity};
use crate::bug;
use crate::id::Id;
use crate::lifetime::Lifetime;
use crate::semantic::asked::count;
use crate::semantic::best::Best;
use crate::semantic::entry::Entry;
use crate::semantic::table::{MILLION, Table};
use crate::semantic::vector::{Query, Unit};
use crate::server::{Argument, Error, Options, Reply, refuse};
use crate::time::Millis;

const SIMILARITY: Argument = Argument::double(c"similarity");

/// From which similarity on a question is answered.
pub const HIT: Argument = SIMILARITY.after(c"HIT");

/// From which on it may be, and how many entries are returned.
pub const MAYBE_AND_TOP: [Argument; 2] =
    [SIMILARITY.after(c"MAYBE").optional(), Argument::integer(c"k").after(c"TOP").optional()];

/// What its vector was made by, and what it is told by.
pub const EMBEDDER_AND_DIGEST: [Argument; 2] = [EMBEDDER.optional(), DIGEST.optional()];

/// How many entries a call returns at most.
const MOST: i64 = 64;

/// What counts as near, and how a question is told.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    /// From which similarity on a question is answered.
    pub hit: f64,
    /// From which on it may be.
    pub maybe: Option<f64>,
    /// How many entries are returned at most.
    pub top: usize,
    /// What its vector was made by.
    pub embedder: Option<&'a [u8]>,
    /// What it is told by.
    pub digest: Option<&'a [u8]>,
}

impl<'a> Near<'a> {
    /// The words of [`Self::read`].
    pub const WORDS: [&'static str; 5] = ["HIT", "MAYBE", "TOP", "EMBEDDER", "DIGEST"];

    /// Nothing said yet.
    pub const UNSAID: Self =
        Self { hit: f64::INFINITY, maybe: None, top: 1, embedder: None, digest: None };

    /// Reads what follows one of [`Self::WORDS`].
    pub fn read(&mut self, word: &str, options: &mut Options<'_, 'a>) -> Result<(), Error> {
        let as_fraction = |millionths: u32| f64::from(millionths) / f64::from(MILLION);
        match word {
            "HIT" => self.hit = as_fraction(similarity(options.value()?, "HIT")?),
            "MAYBE" => {
                self.maybe = Some(as_fraction(similarity(options.value()?, "MAYBE")?));
            }
            "TOP" => self.top = options.integer(1..=MOST)? as usize,
            "EMBEDDER" => self.embedder = Some(embedder(options.value()?)?),
            _ => self.digest = Some(digest(options.value()?)?),
        }
        Ok(())
    }

    /// Checks what was read once all is: HIT must be among it.
    pub fn check(&self) -> Result<(), Error> {
        if self.hit.is_infinite() {
            return Err(refuse(
                "HIT must be given: from which similarity on a question is answered",
            ));
        }
        if self.maybe.is_some_and(|maybe| maybe > self.hit) {
            return Err(refuse("MAYBE must not be above HIT"));
        }
        Ok(())
    }

    /// Looks for what is near and fresh: what is told by the same digest, before any scan,
    /// or the best of a scan.
    pub fn find(&self, table: &Table, version: &[u8], vector: &Unit, now_ms: Millis) -> Best<Id> {
        let mut best = Best::new(self.top, self.hit, self.maybe);
        let same = self.digest.and_then(|digest| table.by_digest(version, digest));
        match same.filter(|entry| entry.lifetime.is_fresh(now_ms)) {
            Some(entry) => best.offer(1.0, entry.id, 1.0),
            None => {
                let is_fresh = |lifetime: &Lifetime| lifetime.is_fresh(now_ms);
                table.find(&Query::new(vector), version, is_fresh, &mut best);
            }
        }
        best
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whether that is a hit.
    pub status: &'static str,
    /// From the best on: how similar, and which.
    pub entries: Vec<(f64, Id)>,
}

impl Found {
    /// Nothing.
    pub const MISS: Self = Self { status: "MISS", entries: Vec::new() };

    /// What may not be asked for.
    pub const RETIRED: Self = Self { status: "RETIRED", entries: Vec::new() };

    /// What becomes of the best of a table that a look found, which is counted.
    pub fn of(best: &Best<Id>, table: &Table) -> Self {
        let asked = &table.asked;
        best.similarity().into_iter().for_each(|one| asked.count_similarity(one));
        let (counter, found) = match (best.hits(), best.maybes()) {
            ([], []) => (&asked.misses, Self::MISS),
            ([], maybes) => (&asked.maybes, Self { status: "MAYBE", entries: maybes.to_vec() }),
            (hits, _) => (&asked.hits, Self { status: "HIT", entries: hits.to_vec() }),
        };
        count(counter, 1);
        if let Some((_, id)) = best.hits().first() {
            table.touch(*id);
            let cost_ms = table.get(*id).map_or(0, |entry| entry.lifetime.cost_ms);
            count(&asked.saved_ms, cost_ms.into());
        }
        found
    }
}

/// Answers the entries that were found in a table.
pub fn reply_entries(reply: Reply, table: Option<&Table>, entries: &[(f64, Id)], now_ms: Millis) {
    reply.array(entries.len());
    for (similarity, id) in entries {
        let entry = table.and_then(|table| table.get(*id));
        let entry = entry.unwrap_or_else(|| bug("an entry that was found is gone"));
        reply_entry(reply, *similarity, entry, now_ms);
    }
}

/// Answers `[id, similarity, value, prompt | nil, age_ms]`.
fn reply_entry(reply: Reply, similarity: f64, entry: &Entry, now_ms: Millis) {
    reply.array(5);
    reply.bytes(&entry.id.text());
    reply.double(similarity);
    reply.bytes(entry.texts.value());
    match entry.texts.prompt() {
        Some(prompt) => reply.bytes(prompt),
        None => reply.null(),
    }
    let age_ms = now_ms.saturating_sub(entry.lifetime.written_at_ms);
    reply.integer(i64::try_from(age_ms).unwrap_or(i64::MAX));
}
