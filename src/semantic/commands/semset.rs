//! ML.SEMSET: the answer to a question, found by what is near it.

use super::InForce;
use super::arguments::{DIGEST, EMBEDDER, KEY, VECTOR, VERSION, digest, embedder, vector, version};
use super::store::{check, commit, texts};
use crate::semantic::change::{Change, Put};
use crate::semantic::config::{MAX_BYTES, MAX_ENTRIES, TTL};
use crate::semantic::table::{Bounds, Table, cost};
use crate::semantic::vector::OwnedCode;
use crate::server::{
    Args, Argument, Call, Command, Error, KeyAccess, KeySpec, handler, new_id, random_fraction,
    refuse,
};
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
        complexity: c"O(N*log(N)) where N is the number of dimensions.",
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
];

/// The options of ML.SEMSET.
struct Set<'a> {
    embedder: Option<&'a [u8]>,
    prompt: Option<&'a [u8]>,
    digest: Option<&'a [u8]>,
    terms: Terms,
}

impl<'a> Set<'a> {
    /// `[EMBEDDER name] [PROMPT text] [DIGEST bytes] [EX s | PX ms | EXAT s | PXAT ms]
    /// [STALE ms] [JITTER percent]`
    fn parse(args: &mut Args<'a>, now_ms: Millis) -> Result<Self, Error> {
        const WORDS: &[&str] =
            &["EMBEDDER", "PROMPT", "DIGEST", "EX", "PX", "EXAT", "PXAT", "STALE", "JITTER"];
        let until_ms = now_ms.saturating_add(TTL.get_unsigned() * MILLIS_PER_SECOND);
        let terms = Terms::until(until_ms);
        let mut set = Self { embedder: None, prompt: None, digest: None, terms };
        let mut options = args.options();
        while let Some(option) = options.next(WORDS)? {
            match option {
                "EMBEDDER" => set.embedder = Some(embedder(options.value()?)?),
                "PROMPT" => set.prompt = Some(options.value()?.bytes()),
                "DIGEST" => set.digest = Some(digest(options.value()?)?),
                term => set.terms.read(term, &mut options, WORDS, now_ms)?,
            }
        }
        Ok(set)
    }
}

/// ML.SEMSET key version vector value [EMBEDDER name] [PROMPT text] [DIGEST bytes]
/// [EX s | PX ms | EXAT s | PXAT ms] [STALE ms] [JITTER percent]
fn set<V: InForce>(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let version = version(call.args.arg()?)?;
    let vector = vector(call.args.arg()?)?;
    let value = call.args.arg()?.bytes();
    let now_ms = call.now() / MICROS_PER_MILLI;
    let options = Set::parse(&mut call.args, now_ms)?;
    let lock = call.lock();
    let open = call.keys.write(key);
    let table = open.value_ref::<Box<Table>>()?;
    let table = table.as_deref().map(|table| &**table);
    let same = options.digest.and_then(|digest| table?.by_digest(version, digest));
    let put = Put {
        id: same.map_or_else(new_id, |entry| entry.id),
        version,
        embedder: options.embedder,
        code: OwnedCode::of(&vector),
        lifetime: options.terms.lifetime(random_fraction, 0, now_ms),
        value,
        prompt: options.prompt,
        digest: options.digest,
    };
    check(table, &put)?;
    let bounds = Bounds { entries: MAX_ENTRIES.get_count(), bytes: MAX_BYTES.get_count() };
    if cost(&put) > bounds.bytes {
        let most = bounds.bytes;
        return Err(refuse(format!(
            "value must take at most {most} bytes (ml.semantic-max-bytes), with PROMPT, DIGEST and \
             vector"
        )));
    }
    if !V::admits(&lock, key.bytes(), version) {
        call.reply.null();
        return Ok(());
    }
    let id = put.id;
    let texts = texts(&put)?;
    let dropped = table.map_or_else(Vec::new, |table| table.decide_room(&put, bounds, now_ms));
    let change = Change { dropped, put: Some(put), ..Change::default() };
    commit(open, &change, Some(texts))?;
    call.reply.bytes(&id.text());
    Ok(())
}
