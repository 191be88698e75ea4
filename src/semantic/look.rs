//! What is near a question, and what becomes of that: what ML.SEMGET and ML.SEMFETCH
//! share.

use super::asked;
use super::best::Best;
use super::commands::arguments::{DIGEST, EMBEDDER, digest, embedder, similarity};
use super::config::INLINE_BYTES;
use super::entry::Entry;
use super::leases::Ask;
use super::scan::Returned;
use super::shelves::Owner;
use super::stats::{self, Counter};
use super::table::{MILLION, Table};
use super::vector::{Query, Unit};
use crate::bug;
use crate::id::Id;
use crate::server::{Argument, Error, Lock, Options, Reply, now, refuse};
use crate::time::{MICROS_PER_MILLI, Millis};

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
    /// Whether what is stale is asked for, too, where nothing is a hit.
    pub stale: bool,
}

impl<'a> Near<'a> {
    /// The words of [`Self::read`].
    pub const WORDS: [&'static str; 5] = ["HIT", "MAYBE", "TOP", "EMBEDDER", "DIGEST"];

    /// Nothing said yet.
    pub const UNSAID: Self = Self {
        hit: f64::INFINITY,
        maybe: None,
        top: 1,
        embedder: None,
        digest: None,
        stale: false,
    };

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

    /// Looks for what is near: what is told by the same digest, before any scan, or the
    /// best of a scan. What is too much to be scanned at once is not seen, unless threads
    /// have scanned it.
    pub fn look(
        &self,
        table: &Table,
        version: &[u8],
        vector: &Unit,
        now_ms: Millis,
        returned: Option<&Returned>,
    ) -> Result<Looked, Unseen> {
        let same = self.digest.and_then(|digest| table.by_digest(version, digest));
        if let Some(entry) = same.filter(|entry| entry.lifetime.is_fresh(now_ms)) {
            return Ok(Looked { best: self.only(entry), stale: Vec::new() });
        }
        let (best, stale) = match returned {
            Some(returned) => returned.as_it_is(self, table, version, now_ms).ok_or(Unseen)?,
            None if table.to_scan(version) > INLINE_BYTES.get_count() => return Err(Unseen),
            None => self.scan(table, version, vector, now_ms),
        };
        let is_stale =
            |entry: &&Entry| !entry.lifetime.is_fresh(now_ms) && entry.lifetime.is_alive(now_ms);
        let told = same.filter(|entry| stale.is_some() && is_stale(entry));
        let stale = told.map(|entry| self.only(entry)).or(stale);
        let stale = stale.map_or_else(Vec::new, |stale| stale.hits().to_vec());
        Ok(Looked { best, stale })
    }

    /// An entry told by the same digest.
    fn only(&self, entry: &Entry) -> Best<Id> {
        let mut best = Best::new(self.top, self.hit, self.maybe);
        best.offer(1.0, entry.id, 1.0);
        best
    }

    /// Scans all that there is: for what is fresh, and for what is stale where that is
    /// asked for and may be.
    fn scan(
        &self,
        table: &Table,
        version: &[u8],
        vector: &Unit,
        now_ms: Millis,
    ) -> (Best<Id>, Option<Best<Id>>) {
        let query = Query::new(vector);
        let mut best = Best::new(self.top, self.hit, self.maybe);
        table.find(&query, version, |owner: &Owner| owner.is_fresh(now_ms), &mut best);
        let stale = self.wants_stale(&best, table, now_ms).then(|| {
            let mut stale = Best::new(self.top, self.hit, None);
            table.find(&query, version, |owner: &Owner| owner.is_stale(now_ms), &mut stale);
            stale
        });
        (best, stale)
    }

    /// Whether what is stale is looked for, with this of what is fresh.
    pub fn wants_stale(&self, best: &Best<Id>, table: &Table, now_ms: Millis) -> bool {
        self.stale && best.hits().is_empty() && table.has_stale(now_ms)
    }
}

/// There is too much to be scanned at once, and it was not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen;

/// What is near a question.
#[derive(Debug)]
pub struct Looked {
    /// The best of what is fresh.
    pub best: Best<Id>,
    /// What is a hit, but stale, from the best on.
    pub stale: Vec<(f64, Id)>,
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

/// What ML.SEMGET finds at a key; counted.
pub fn get(
    lock: &Lock,
    key: &[u8],
    table: Option<&Table>,
    ask: &Ask,
    returned: Option<&Returned>,
) -> Result<Found, Unseen> {
    if !(ask.admits)(lock, key, &ask.version) {
        return Ok(Found::RETIRED);
    }
    let now_ms = now() / MICROS_PER_MILLI;
    let look = |table| ask.near().look(table, &ask.version, &ask.vector, now_ms, returned);
    let best = table.map(look).transpose()?.map(|looked| looked.best);
    count(lock, key, table, best.as_ref());
    Ok(best.as_ref().map_or(Found::MISS, Found::of))
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
