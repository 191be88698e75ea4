//! ML.SEMSET: the answer to a question, found by what is near it.

use super::InForce;
use super::arguments::{DIGEST, EMBEDDER, KEY, VECTOR, VERSION, digest, embedder, vector, version};
use super::store::{check, commit, texts};
use crate::flights::arguments::{TOKEN, token};
use crate::flights::took_ms;
use crate::semantic::change::{Change, Put};
use crate::semantic::config::{TTL, bounds};
use crate::semantic::leases::{self, By};
use crate::semantic::stats::{self, Counter};
use crate::semantic::table::{Misfit, Table, cost};
use crate::semantic::vector::OwnedCode;
use crate::server::{
    Arg, Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, new_id,
    random_fraction, refuse,
};
use crate::singleflight::Standing;
use crate::terms::{JITTER, STALE, Terms};
use crate::time::{MICROS_PER_MILLI, MILLIS_PER_SECOND, Millis};

/// ML.SEMSET
pub const fn command<V: InForce>() -> Command {
    Command {
        name: c"ML.SEMSET",
        run: handler(set::<V>),
        flags: c"write deny-oom",
        categories: c"write",
        arity: -5,
        keys: Some(KeySpec::one(1, KeyAccess::Update)),
        arguments: ARGUMENTS,
        summary: c"Keeps the answer to a question, to be found by questions near it.",
        complexity: c"O(D*log(D)+W*V*D) where D is the number of dimensions, W that of callers that wait at the key, and V that of the vectors that lead to the entry, 65 at most.",
        since: c"0.1.0",
    }
}

const ARGUMENTS: &[Argument] = &[
    KEY,
    VERSION,
    VECTOR,
    Argument::string(c"value"),
    EMBEDDER.optional(),
    Argument::string(c"text").after(c"PROMPT").optional(),
    DIGEST.optional(),
    Argument::EXPIRATION.optional(),
    STALE.optional(),
    JITTER.optional(),
    TOKEN.after(c"TOKEN").optional(),
];

/// The options of ML.SEMSET.
struct Set<'a> {
    embedder: Option<&'a [u8]>,
    prompt: Option<&'a [u8]>,
    digest: Option<&'a [u8]>,
    terms: Terms,
    /// The lease that it is set under, if under one.
    token: Option<Arg<'a>>,
}

impl<'a> Set<'a> {
    /// `[EMBEDDER name] [PROMPT text] [DIGEST bytes] [EX s | PX ms | EXAT s | PXAT ms]
    /// [STALE ms] [JITTER percent] [TOKEN token]`
    fn parse(args: &mut Args<'a>, now_ms: Millis) -> Result<Self, Error> {
        const WORDS: &[&str] = &[
            "EMBEDDER", "PROMPT", "DIGEST", "EX", "PX", "EXAT", "PXAT", "STALE", "JITTER", "TOKEN",
        ];
        let until_ms = now_ms.saturating_add(TTL.get_unsigned() * MILLIS_PER_SECOND);
        let terms = Terms::until(until_ms);
        let mut set = Self { embedder: None, prompt: None, digest: None, terms, token: None };
        let mut options = args.options();
        while let Some(option) = options.next(WORDS)? {
            match option {
                "EMBEDDER" => set.embedder = Some(embedder(options.value()?)?),
                "PROMPT" => set.prompt = Some(options.value()?.bytes()),
                "TOKEN" => set.token = Some(options.value()?),
                "DIGEST" => set.digest = Some(digest(options.value()?)?),
                term => set.terms.read(term, &mut options, WORDS, now_ms)?,
            }
        }
        Ok(set)
    }
}

/// ML.SEMSET key version vector value [EMBEDDER name] [PROMPT text] [DIGEST bytes]
/// [EX s | PX ms | EXAT s | PXAT ms] [STALE ms] [JITTER percent] [TOKEN token]
fn set<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let vector = vector(call.args.arg()?)?;
    let value = call.args.arg()?.bytes();
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, now_ms)?;
    let lock = call.lock();
    let place = (call.db(), key.bytes());
    let open = call.keys.write(key);
    let table = open.value_ref::<Box<Table>>()?;
    let table = table.as_deref().map(|table| &**table);
    leases::check(&lock, place, table, vector.dim(), options.embedder).map_err(Misfit::refusal)?;
    let under = options.token.map(|named| {
        let token = token(named)?;
        let asked = (&vector, options.digest);
        let (flight, standing) = leases::standing(&lock, place, version, asked, token)?;
        Some((flight, standing, token))
    });
    let same = options.digest.and_then(|digest| table?.by_digest(version, digest));
    // An entry that is set under a lease has the id of its flight: so it is known again.
    let of_flight = under.as_ref().and_then(|under| leases::id_of(&under.as_ref()?.0));
    let (cost_ms, is_late) = match &under {
        Some(Some((_, Standing::Holder { since, is_late }, _))) => (took_ms(*since), *is_late),
        _ => (0, false),
    };
    let put = Put {
        id: same.map(|entry| entry.id).or(of_flight).unwrap_or_else(new_id),
        version,
        embedder: options.embedder,
        code: OwnedCode::of(&vector),
        lifetime: options.terms.lifetime(random_fraction, cost_ms, now_ms),
        value,
        prompt: options.prompt,
        digest: options.digest,
    };
    check(table, &put)?;
    let (bounds, cost) = (bounds(), table.map_or(cost(&put), |table| table.cost_of_put(&put)));
    if cost > bounds.bytes {
        let most = bounds.bytes;
        return Err(refuse(format!(
            "value must take at most {most} bytes (ml.semantic-max-bytes), with PROMPT, DIGEST and \
             all vectors that lead to it"
        )));
    }
    let id = put.id;
    match under {
        Some(Some((_, Standing::Completed, _)))
            if table.is_some_and(|table| table.get(id).is_some()) =>
        {
            // By this very call, whose answer was lost.
            call.reply.bytes(&id.text());
            return Ok(());
        }
        None | Some(Some((_, Standing::Holder { .. }, _)))
            if V::admits(&lock, key.bytes(), version) => {}
        _ => {
            stats::count(&lock, key.bytes(), Counter::RefusedSets, 1);
            call.reply.null();
            return Ok(());
        }
    }
    let texts = texts(&put)?;
    let dropped = table.map(|table| table.decide_room(id, cost, bounds, now_ms));
    let dropped = dropped.unwrap_or_default();
    let evicted = dropped.len() as u64;
    let change = Change { dropped, put: Some(put), ..Change::default() };
    commit(open, &change, Some(texts))?;
    stats::count(&lock, key.bytes(), Counter::EntriesWritten, 1);
    stats::count(&lock, key.bytes(), Counter::EntriesEvicted, evicted);
    stats::count(&lock, key.bytes(), Counter::LateSets, is_late.into());
    leases::offer_entry(&lock, place, version, id, By::All);
    if let Some(Some((flight, _, token))) = under {
        leases::complete(&lock, &flight, token);
    }
    leases::settle(&lock);
    call.reply.bytes(&id.text());
    Ok(())
}
