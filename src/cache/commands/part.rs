//! The cache's part of a request that is served in one call: ML.CACHEFETCH without its wait.

use super::arguments::{VERSION, version};
use super::cachefetch::{EARLY, Fetch};
use super::look::{Held, lease, look, look_first, may_lease, served};
use crate::bug;
use crate::cache::answer::Answer;
use crate::cache::leases::{Cache, Place};
use crate::cache::reply::Fetched;
use crate::cache::state;
use crate::flights;
use crate::flights::arguments::{LEASE, TOKEN};
use crate::server::{Arg, Args, Argument, Call, Error, ReadKey, ValueRef, new_id};
use crate::singleflight::Refusal;
use crate::time::Millis;

/// What COMMAND DOCS says of it.
pub const ARGUMENTS: &[Argument] = &[
    VERSION,
    LEASE,
    EARLY.optional(),
    TOKEN.after(c"TOKEN").optional(),
    Argument::token(c"freehits", c"FREEHITS").optional(),
];

/// The part.
pub struct CachePart<'a> {
    version: &'a [u8],
    fetch: Fetch,
}

/// What is left to be done of the part, once it was asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it.
    All,
    /// A lease is to be granted: what there is was looked for and counted.
    Lease,
}

impl<'a> CachePart<'a> {
    /// `version LEASE ms [EARLY beta] [TOKEN token] [FREEHITS]`, which end before one of
    /// these words.
    pub fn parse(args: &mut Args<'a>, ends: &'static [&'static str]) -> Result<Self, Error> {
        let version = version(args.arg()?)?;
        let fetch = Fetch::parse(args.options_before(ends), Fetch::OF_A_PART)?;
        Ok(Self { version, fetch })
    }

    /// Whether the call is to be admitted only where a lease would be granted.
    pub fn has_free_hits(&self) -> bool {
        self.fetch.free_hits
    }

    fn place(&self, call: &Call, key: Arg<'a>) -> Place<'a> {
        Place { db: call.db(), key: key.bytes(), version: self.version }
    }

    /// Asks first what is answered before the call is admitted, if there is such a thing: a
    /// version that is not in force, and with FREEHITS all that needs no lease. Of what is not
    /// answered it says what is left. A key of another type is refused, before anything was
    /// charged or taken.
    pub fn ask_first(
        &self,
        call: &Call<'a>,
        key: Arg<'a>,
        now_ms: Millis,
        answer: impl FnOnce(&Fetched),
    ) -> Result<Option<Left>, Error> {
        let (lock, place) = (call.lock(), self.place(call, key));
        if !self.fetch.free_hits && state::admits(&lock, place.key, place.version) {
            // It is read, and that is counted, once the call is admitted.
            return call.keys.peek(key).value_ref::<Answer>().map(|_| Some(Left::All));
        }
        let open = call.keys.read(key);
        let answers = open.value_ref::<Answer>()?;
        let held = Held::of(answers.as_deref(), self.version, now_ms);
        match look_first(&lock, place, &held, &self.fetch.asked) {
            // The lease that the caller has is granted as it stands.
            Some(Fetched::Lease(..)) => return Ok(Some(Left::All)),
            Some(fetched) => answer(&fetched),
            None => match may_lease(&lock, place) {
                Ok(()) => return Ok(Some(Left::Lease)),
                Err(refusal) => answer(&served(&lock, place, held, Err(refusal)).at_once()),
            },
        }
        flights::settle_later::<Cache>(&lock);
        Ok(None)
    }

    /// What is served of what is there to a caller that was to have a lease, and was not let
    /// in: an answer that was to be computed early, or a stale one.
    pub fn serve_denied(
        &self,
        call: &Call<'a>,
        key: Arg<'a>,
        now_ms: Millis,
        answer: impl FnOnce(Option<&Fetched>),
    ) {
        let (lock, place) = (call.lock(), self.place(call, key));
        let open = call.keys.peek(key);
        let answers = checked(&open);
        let held = Held::of(answers.as_deref(), self.version, now_ms);
        match held.is_any() {
            true => answer(Some(&served(&lock, place, held, Err(Refusal::Full)).at_once())),
            false => answer(None),
        }
    }

    /// Finds what is left, and gives it to be answered; whether the caller is to compute.
    pub fn answer(
        &self,
        call: &Call<'a>,
        key: Arg<'a>,
        now_ms: Millis,
        left: Left,
        answer: impl FnOnce(&Fetched),
    ) -> bool {
        let (lock, place) = (call.lock(), self.place(call, key));
        let open = match left {
            Left::All => call.keys.read(key),
            Left::Lease => call.keys.peek(key),
        };
        let answers = checked(&open);
        let held = Held::of(answers.as_deref(), self.version, now_ms);
        let served = match left {
            Left::Lease => lease(&lock, place, held, &self.fetch.asked, new_id),
            Left::All => look(&lock, place, held, &self.fetch.asked, new_id),
        };
        let fetched = served.at_once();
        flights::settle_later::<Cache>(&lock);
        answer(&fetched);
        matches!(fetched, Fetched::Lease(..))
    }
}

/// What is in a key that [`CachePart::ask_first`] has not refused.
fn checked<'k>(open: &'k ReadKey) -> Option<ValueRef<'k, Answer>> {
    open.value_ref().unwrap_or_else(|_| bug("a key of another type than when it was checked"))
}
