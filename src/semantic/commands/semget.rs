//! ML.SEMGET: the answer to nearly the same question.

use super::InForce;
use super::arguments::{
    DIGEST, EMBEDDER, KEY, VECTOR, VERSION, digest, embedder, similarity, vector, version,
};
use super::store::misfit;
use crate::bug;
use crate::id::Id;
use crate::lifetime::Lifetime;
use crate::semantic::asked::count;
use crate::semantic::best::Best;
use crate::semantic::entry::Entry;
use crate::semantic::table::{MILLION, Table};
use crate::semantic::vector::{Query, Unit};
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, Reply, handler, refuse,
};
use crate::time::{MICROS_PER_MILLI, Millis};

/// ML.SEMGET
pub const fn command<V: InForce>() -> Command {
    Command {
        name: c"ML.SEMGET",
        run: handler(get::<V>),
        flags: c"readonly",
        categories: c"read",
        arity: -6,
        keys: Some(KeySpec::one(1, KeyAccess::Read)),
        arguments: ARGUMENTS,
        summary: c"Returns the answers to the questions nearest to one.",
        complexity: c"O(N) where N is the number of entries times that of dimensions.",
        since: c"0.1.0",
    }
}

const SIMILARITY: Argument = Argument::double(c"similarity");

const ARGUMENTS: &[Argument] = &[
    KEY,
    VERSION,
    VECTOR,
    SIMILARITY.after(c"HIT"),
    SIMILARITY.after(c"MAYBE").optional(),
    Argument::integer(c"k").after(c"TOP").optional(),
    EMBEDDER.optional(),
    DIGEST.optional(),
];

/// How many entries a call returns at most.
const MOST: i64 = 64;

/// The options of ML.SEMGET.
struct Get<'a> {
    hit: f64,
    maybe: Option<f64>,
    top: usize,
    embedder: Option<&'a [u8]>,
    digest: Option<&'a [u8]>,
}

impl<'a> Get<'a> {
    /// `HIT s [MAYBE s] [TOP k] [EMBEDDER name] [DIGEST bytes]`
    fn parse(args: &mut Args<'a>) -> Result<Self, Error> {
        const WORDS: &[&str] = &["HIT", "MAYBE", "TOP", "EMBEDDER", "DIGEST"];
        let as_fraction = |millionths: u32| f64::from(millionths) / f64::from(MILLION);
        let mut hit = None;
        let mut get = Self { hit: 1.0, maybe: None, top: 1, embedder: None, digest: None };
        let mut options = args.options();
        while let Some(option) = options.next(WORDS)? {
            match option {
                "HIT" => hit = Some(as_fraction(similarity(options.value()?, "HIT")?)),
                "MAYBE" => {
                    get.maybe = Some(as_fraction(similarity(options.value()?, "MAYBE")?));
                }
                "TOP" => get.top = options.integer(1..=MOST)? as usize,
                "EMBEDDER" => get.embedder = Some(embedder(options.value()?)?),
                _ => get.digest = Some(digest(options.value()?)?),
            }
        }
        get.hit = hit.ok_or_else(|| {
            refuse("HIT must be given: from which similarity on a question is answered")
        })?;
        if get.maybe.is_some_and(|maybe| maybe > get.hit) {
            return Err(refuse("MAYBE must not be above HIT"));
        }
        Ok(get)
    }

    /// Looks for what is near, and counts what becomes of that.
    fn find(&self, table: &Table, version: &[u8], vector: &Unit, now_ms: Millis) -> Found {
        let asked = &table.asked;
        let same = self.digest.and_then(|digest| table.by_digest(version, digest));
        let same = same.filter(|entry| entry.lifetime.is_fresh(now_ms));
        let mut best = Best::new(self.top, self.hit, self.maybe);
        match same {
            Some(entry) => best.offer(1.0, entry.id, 1.0),
            None => {
                let is_fresh = |lifetime: &Lifetime| lifetime.is_fresh(now_ms);
                table.find(&Query::new(vector), version, is_fresh, &mut best);
            }
        }
        best.similarity().into_iter().for_each(|one| asked.count_similarity(one));
        let (counter, found) = match (best.hits(), best.maybes()) {
            ([], []) => (&asked.misses, Found::MISS),
            ([], maybes) => (&asked.maybes, Found { status: "MAYBE", entries: maybes.to_vec() }),
            (hits, _) => (&asked.hits, Found { status: "HIT", entries: hits.to_vec() }),
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

/// What was found.
struct Found {
    status: &'static str,
    entries: Vec<(f64, Id)>,
}

impl Found {
    const MISS: Self = Self { status: "MISS", entries: Vec::new() };
}

/// ML.SEMGET key version vector HIT s [MAYBE s] [TOP k] [EMBEDDER name] [DIGEST bytes]
fn get<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let vector = vector(call.args.arg()?)?;
    let get = Get::parse(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let open = call.keys.read(key);
    let table = open.value::<Table>()?;
    if let Some(table) = table {
        table.check(vector.dim(), get.embedder).map_err(misfit)?;
    }
    let found = match table {
        _ if !V::admits(&call.lock(), key.bytes(), version) => {
            Found { status: "RETIRED", entries: Vec::new() }
        }
        None => Found::MISS,
        Some(table) => get.find(table, version, &vector, now_ms),
    };
    let reply = call.reply;
    reply.array(2);
    reply.bytes(found.status.as_bytes());
    reply.array(found.entries.len());
    let known = |id| table.and_then(|table| table.get(id));
    for (similarity, id) in found.entries {
        let entry = known(id).unwrap_or_else(|| bug("an entry that was found is gone"));
        reply_entry(reply, similarity, id, entry, now_ms);
    }
    Ok(())
}

/// Answers `[id, similarity, value, prompt | nil, age_ms]`.
fn reply_entry(reply: Reply, similarity: f64, id: Id, entry: &Entry, now_ms: Millis) {
    reply.array(5);
    reply.bytes(&id.text());
    reply.double(similarity);
    reply.bytes(entry.texts.value());
    match entry.texts.prompt() {
        Some(prompt) => reply.bytes(prompt),
        None => reply.null(),
    }
    let age_ms = now_ms.saturating_sub(entry.lifetime.written_at_ms);
    reply.integer(i64::try_from(age_ms).unwrap_or(i64::MAX));
}
