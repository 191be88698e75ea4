//! A request that is served in one call, checked: its parts, and which keys are whose.

use crate::admission;
use crate::cache::CachePart;
use crate::features::{self, Listed};
use crate::server::{Arg, Args, DistinctKeys, Error, quoted, refuse};
use crate::time::Micros;

/// The words that begin a part, in their order.
const PARTS: &[&str] = &["ADMIT", "CACHE", "FEATURES"];

/// The call. It has two parts at least.
pub struct Request<'a> {
    /// What it is to be let in by.
    pub admission: Option<admission::Request<'a>>,
    /// What is looked for in the cache, and at which key.
    pub cache: Option<(CachePart<'a>, Arg<'a>)>,
    /// What an answer is computed from.
    pub features: Option<features::Request<'a>>,
}

impl<'a> Request<'a> {
    /// `numkeys key [key ...] [ADMIT item [item ...] [HOLD ms [ID id]]]
    /// [CACHE version LEASE ms [EARLY beta] [TOKEN token] [FREEHITS]]
    /// [FEATURES FIELDS m field [field ...] ...]`
    pub fn parse(
        args: &mut Args<'a>,
        listed: &Listed<'_, 'a>,
        now_us: Micros,
    ) -> Result<Self, Error> {
        let keys: Vec<_> = args.counted("numkeys", "keys")?.collect();
        let mut left = keys.iter().copied();
        let admission = match begins(args, "ADMIT")? {
            false => None,
            true => {
                let request = admission::Request::parse_part(args, &keys, now_us, PARTS)?;
                left.by_ref().take(request.keys.len()).for_each(drop);
                Some(request)
            }
        };
        let cache = match begins(args, "CACHE")? {
            false => None,
            true => {
                let part = CachePart::parse(args, PARTS)?;
                Some((part, left.next().ok_or_else(|| no_key("CACHE", "one"))?))
            }
        };
        // A limit and an answer are no values of one key.
        let written = keys.len() - left.len();
        DistinctKeys::of(keys.iter().take(written).copied())?;
        let features = match begins(args, "FEATURES")? {
            false => None,
            true if left.len() == 0 => return Err(no_key("FEATURES", "one an entity")),
            true => Some(features::Request::parse(args, left.by_ref().collect(), listed, PARTS)?),
        };
        if let Some(word) = args.peek() {
            let parts = PARTS.join(", ");
            return Err(refuse(format!(
                "the parts must be {parts}, in that order, each at most once, behind as many keys as \
                 numkeys says: not {}",
                quoted(word)
            )));
        }
        let request = Self { admission, cache, features };
        request.check()?;
        if let Some(key) = left.next() {
            let key = quoted(key.bytes());
            return Err(refuse(format!("key {key} is of no part: numkeys is too large")));
        }
        Ok(request)
    }

    fn check(&self) -> Result<(), Error> {
        let parts = [self.admission.is_some(), self.cache.is_some(), self.features.is_some()];
        if parts.into_iter().filter(|is_there| *is_there).count() < 2 {
            return Err(refuse(
                "two parts of ADMIT, CACHE and FEATURES must be there: one alone is a command",
            ));
        }
        let has_free_hits = self.cache.as_ref().is_some_and(|(part, _)| part.has_free_hits());
        if has_free_hits && self.admission.is_none() {
            return Err(refuse("FREEHITS needs ADMIT"));
        }
        Ok(())
    }
}

/// Whether a part comes next; its word is read then.
fn begins(args: &mut Args, part: &'static str) -> Result<bool, Error> {
    let begins = args.peek_at(&[part]).is_some();
    if begins {
        args.arg()?;
    }
    Ok(begins)
}

fn no_key(part: &str, keys: &str) -> Error {
    refuse(format!("numkeys must count a key for each item, and for {part} {keys}"))
}

/// How many of the keys of a call, from the first on, it updates: those of its limits and
/// permits. `behind` is what stands behind the keys.
pub fn updated(mut behind: Args) -> usize {
    if behind.peek_at(&["ADMIT"]).is_none() {
        return 0;
    }
    let admission =
        behind.remaining().take_while(|word| !word.is(b"CACHE") && !word.is(b"FEATURES"));
    admission.filter(|word| word.is(b"LIMIT") || word.is(b"PERMIT")).count()
}
