//! What is near a question, and what becomes of that: what ML.SEMGET and ML.SEMFETCH
//! share.

use super::asked;
use super::best::Best;
use super::commands::arguments::{DIGEST, EMBEDDER, digest, embedder, similarity};
use super::entry::Entry;
use super::stats::{self, Counter};
use super::table::{MILLION, Table};
use super::vector::{Query, Unit};
use crate::bug;
use crate::id::Id;
use crate::lifetime::Lifetime;
use crate::server::{Argument, Error, Lock, Options, Reply, refuse};
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

    /// Looks for what is a hit, but stale, in the same way: how similar it is, and which.
    pub fn find_stale(
        &self,
        table: &Table,
        version: &[u8],
        vector: &Unit,
        now_ms: Millis,
    ) -> Vec<(f64, Id)> {
        let is_stale =
            |lifetime: &Lifetime| lifetime.is_alive(now_ms) && !lifetime.is_fresh(now_ms);
        let mut best = Best::new(self.top, self.hit, None);
        if table.has_stale(now_ms) {
            let same = self.digest.and_then(|digest| table.by_digest(version, digest));
            match same.filter(|entry| is_stale(&entry.lifetime)) {
                Some(entry) => best.offer(1.0, entry.id, 1.0),
                None => table.find(&Query::new(vector), version, is_stale, &mut best),
            }
        }
        best.hits().to_vec()
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

    /// What becomes of the best that a look found.
    pub fn of(best: &Best<Id>) -> Self {
        match (best.hits(), best.maybes()) {
            ([], []) => Self::MISS,
            ([], maybes) => Self { status: "MAYBE", entries: maybes.to_vec() },
            (hits, _) => Self { status: "HIT", entries: hits.to_vec() },
        }
    }
}

/// Counts what a look found in a table, if there is one, at a key; a hit makes its entry
/// the one hit last.
pub fn count(lock: &Lock, key: &[u8], table: Option<&Table>, best: Option<&Best<Id>>) {
    let (hits, maybes) = best.map_or((&[][..], &[][..]), |best| (best.hits(), best.maybes()));
    let counter = match (hits, maybes) {
        ([], []) => Counter::Misses,
        ([], _) => Counter::Maybes,
        _ => Counter::Hits,
    };
    stats::count(lock, key, counter, 1);
    let Some((table, best)) = table.zip(best) else { return };
    let told = &table.asked;
    best.similarity().into_iter().for_each(|one| told.count_similarity(one));
    asked::count(
        match counter {
            Counter::Hits => &told.hits,
            Counter::Maybes => &told.maybes,
            _ => &told.misses,
        },
        1,
    );
    if let Some((_, id)) = hits.first() {
        table.touch(*id);
        let cost_ms = table.get(*id).map_or(0, |entry| entry.lifetime.cost_ms);
        asked::count(&told.saved_ms, cost_ms.into());
        stats::count(lock, key, Counter::SavedMs, cost_ms.into());
    }
}

/// What of an entry a caller is told.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// What it is named by.
    pub id: Id,
    /// The answer.
    pub value: &'a [u8],
    /// What was asked, if its caller said.
    pub prompt: Option<&'a [u8]>,
    /// When it was written.
    pub written_at_ms: Millis,
}

impl<'a> Shown<'a> {
    /// What is told of an entry.
    pub fn of(entry: &'a Entry) -> Self {
        Self {
            id: entry.id,
            value: entry.texts.value(),
            prompt: entry.texts.prompt(),
            written_at_ms: entry.lifetime.written_at_ms,
        }
    }

    /// Answers `[id, similarity, value, prompt | nil, age_ms]`.
    pub fn reply(&self, reply: Reply, similarity: f64, now_ms: Millis) {
        reply.array(5);
        reply.bytes(&self.id.text());
        reply.double(similarity);
        reply.bytes(self.value);
        match self.prompt {
            Some(prompt) => reply.bytes(prompt),
            None => reply.null(),
        }
        let age_ms = now_ms.saturating_sub(self.written_at_ms);
        reply.integer(i64::try_from(age_ms).unwrap_or(i64::MAX));
    }
}

/// An entry that was found in a table, by its id.
pub fn entry(table: Option<&Table>, id: Id) -> &Entry {
    let entry = table.and_then(|table| table.get(id));
    entry.unwrap_or_else(|| bug("an entry that was found is gone"))
}

/// Answers the entries that were found in a table.
pub fn reply_entries(reply: Reply, table: Option<&Table>, entries: &[(f64, Id)], now_ms: Millis) {
    reply.array(entries.len());
    for (similarity, id) in entries {
        Shown::of(entry(table, *id)).reply(reply, *similarity, now_ms);
    }
}
