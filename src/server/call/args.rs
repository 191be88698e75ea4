//! A cursor over the arguments of a call. Nothing is copied: an [`Arg`] is the
//! server's own string, and its bytes live as long as the call.

use super::error::{Error, quoted, refuse};
use crate::bug;
use crate::id::Id;
use crate::number::{parse_integer, parse_seconds};
use crate::server::border::raw::RedisModuleString;
use crate::time::{MILLIS_PER_SECOND, Millis};
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ops::RangeInclusive;

/// The units that an expiry is given in, as to SET.
pub const EXPIRIES: &[&str] = &["EX", "PX", "EXAT", "PXAT"];

/// Whether a word is a keyword (upper case), in any case. Most are not by their length or
/// their first letter, and those that are mostly stand there in upper case.
fn is_keyword(word: &[u8], keyword: &[u8]) -> bool {
    word.len() == keyword.len()
        && word.first().map(u8::to_ascii_uppercase) == keyword.first().copied()
        && (word == keyword || word.eq_ignore_ascii_case(keyword))
}

/// The place of a word among keywords (upper case), in any case.
fn place_among(keywords: &[&str], word: &[u8]) -> Option<usize> {
    keywords.iter().position(|keyword| is_keyword(word, keyword.as_bytes()))
}

/// One argument: any bytes, NUL and invalid UTF-8 included.
#[derive(Clone, Copy)]
pub struct Arg<'a> {
    raw: *mut RedisModuleString,
    lives: PhantomData<&'a RedisModuleString>,
}

impl<'a> Arg<'a> {
    /// # Safety
    /// `raw` is a valid server string for all of `'a`.
    pub(in crate::server) unsafe fn from_raw(raw: *mut RedisModuleString) -> Self {
        Self { raw, lives: PhantomData }
    }

    pub(in crate::server) fn as_raw(self) -> *mut RedisModuleString {
        self.raw
    }

    /// The bytes.
    pub fn bytes(self) -> &'a [u8] {
        let mut length = 0;
        // SAFETY: `raw` is valid for 'a by construction; the server keeps
        // `length` bytes at the pointer it returns for as long as the string.
        unsafe {
            let start = api!(RedisModule_StringPtrLen(self.raw, &raw mut length));
            std::slice::from_raw_parts(start.cast::<u8>(), length)
        }
    }

    /// Whether this is the keyword, in any case. `keyword` is upper case.
    pub fn is(self, keyword: &[u8]) -> bool {
        is_keyword(self.bytes(), keyword)
    }

    /// An integer in `range`; otherwise an error that names `what`.
    pub fn integer(self, what: &str, range: RangeInclusive<i64>) -> Result<i64, Error> {
        parse_integer(self.bytes()).filter(|value| range.contains(value)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            refuse(format!("{what} must be an integer from {low} to {high}"))
        })
    }

    /// A number of things that follow, from 1 to `most`; otherwise an error that
    /// names `what` and them.
    fn count(self, what: &str, things: &str, most: usize) -> Result<usize, Error> {
        let count = parse_integer(self.bytes()).and_then(|count| usize::try_from(count).ok());
        let wrong =
            || refuse(format!("{what} must be the number of {things} that follow: 1 or more"));
        count.filter(|count| (1..=most).contains(count)).ok_or_else(wrong)
    }

    /// One of these keywords (upper case), by its place; otherwise an error that
    /// names `what` and them.
    pub fn one_of(self, what: &str, keywords: &[&str]) -> Result<usize, Error> {
        place_among(keywords, self.bytes())
            .ok_or_else(|| refuse(format!("{what} must be one of {}", keywords.join(", "))))
    }

    /// A number with at most six decimals, in millionths within `range`.
    pub fn decimal(self, range: RangeInclusive<u64>) -> Option<u64> {
        parse_seconds(self.bytes()).filter(|millionths| range.contains(millionths))
    }

    /// When something expires that is given a time in one of [`EXPIRIES`], in
    /// milliseconds since the epoch and at most `latest_ms`; otherwise an error
    /// that names the unit.
    pub fn expiry(self, unit: &str, now_ms: Millis, latest_ms: Millis) -> Result<Millis, Error> {
        let (unit_ms, from) = match unit {
            "EX" => (MILLIS_PER_SECOND, now_ms),
            "PX" => (1, now_ms),
            "EXAT" => (MILLIS_PER_SECOND, 0),
            _ => (1, 0),
        };
        let most = latest_ms.saturating_sub(from) / unit_ms;
        let count = self.integer(unit, 1..=most.cast_signed())?.cast_unsigned();
        Ok(count.saturating_mul(unit_ms).saturating_add(from))
    }

    /// An id that the caller brings; otherwise an error that names `what`.
    pub fn id(self, what: &str) -> Result<Id, Error> {
        let wrong = || refuse(format!("{what} must be 32 hexadecimal digits, in lower case"));
        Id::parse(self.bytes()).ok_or_else(wrong)
    }

    /// Bytes of a length in `range`; otherwise an error that names `what`.
    pub fn sized(self, what: &str, range: RangeInclusive<usize>) -> Result<&'a [u8], Error> {
        let bytes = self.bytes();
        if range.contains(&bytes.len()) {
            return Ok(bytes);
        }
        let (low, high) = (range.start(), range.end());
        Err(refuse(format!("{what} must be {low} to {high} bytes long")))
    }
}

/// The keys of a call, none of which comes twice: all of them may be open at once.
pub struct DistinctKeys<'a>(SmallVec<[Arg<'a>; FEW]>);

impl<'a> DistinctKeys<'a> {
    /// Some keys; one that comes twice is an error.
    pub fn of(keys: impl Iterator<Item = Arg<'a>>) -> Result<Self, Error> {
        let keys: SmallVec<_> = keys.collect();
        if has_twice(&keys) {
            return Err(refuse("key is given twice: each must be another"));
        }
        Ok(Self(keys))
    }
}

impl<'a> Deref for DistinctKeys<'a> {
    type Target = [Arg<'a>];

    fn deref(&self) -> &[Arg<'a>] {
        &self.0
    }
}

/// So many are compared each with each, and kept in place.
pub const FEW: usize = 8;

fn has_twice(keys: &[Arg]) -> bool {
    if keys.len() <= FEW {
        let mut earlier = keys.iter().enumerate().map(|(at, key)| (keys.iter().take(at), key));
        return earlier.any(|(mut earlier, key)| earlier.any(|one| one.bytes() == key.bytes()));
    }
    let mut names: Vec<_> = keys.iter().map(|key| key.bytes()).collect();
    names.sort_unstable();
    !names.is_sorted_by(|one, next| one != next)
}

/// The arguments not read yet, the command's name already behind.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    rest: &'a [*mut RedisModuleString],
    /// The bytes of the next argument, once it was looked at.
    peeked: Option<&'a [u8]>,
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` holds valid server strings for all of `'a`.
    pub(in crate::server) unsafe fn from_raw(argv: &'a [*mut RedisModuleString]) -> Self {
        let rest = argv.get(1..).unwrap_or_else(|| bug("a call without a command's name"));
        Self { rest, peeked: None }
    }

    /// How many arguments are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next positional argument.
    pub fn arg(&mut self) -> Result<Arg<'a>, Error> {
        self.take().ok_or(Error::WrongArity)
    }

    /// The bytes of the next argument, which is left where it is.
    pub fn peek(&mut self) -> Option<&'a [u8]> {
        if self.peeked.is_none() {
            // SAFETY: promised to `from_raw`.
            self.peeked = self.rest.first().map(|first| unsafe { Arg::from_raw(*first) }.bytes());
        }
        self.peeked
    }

    /// Which of these keywords (upper case) comes next, in any case: its place. It is
    /// left where it is.
    pub fn peek_at(&mut self, keywords: &[&str]) -> Option<usize> {
        place_among(keywords, self.peek()?)
    }

    /// The next argument, a number of things, and as many arguments after it;
    /// otherwise an error that names `what` and them.
    pub fn counted(
        &mut self,
        what: &str,
        things: &str,
    ) -> Result<impl ExactSizeIterator<Item = Arg<'a>> + use<'a>, Error> {
        let count = self.arg()?.count(what, things, self.left())?;
        let (counted, rest) = self.rest.split_at_checked(count).ok_or(Error::WrongArity)?;
        (self.rest, self.peeked) = (rest, None);
        // SAFETY: promised to `from_raw`.
        Ok(counted.iter().map(|raw| unsafe { Arg::from_raw(*raw) }))
    }

    /// `numkeys key [key ...]`, each another.
    pub fn distinct_keys(&mut self) -> Result<DistinctKeys<'a>, Error> {
        DistinctKeys::of(self.counted("numkeys", "keys")?)
    }

    /// The same of pairs of arguments: a number, and twice as many after it.
    pub fn counted_pairs(
        &mut self,
        what: &str,
        things: &str,
    ) -> Result<Vec<(Arg<'a>, Arg<'a>)>, Error> {
        let count = self.arg()?.count(what, things, self.left() / 2)?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push((self.arg()?, self.arg()?));
        }
        Ok(all)
    }

    /// Refuses what is left.
    pub fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::WrongArity) }
    }

    /// All that is left.
    pub fn remaining(&mut self) -> impl ExactSizeIterator<Item = Arg<'a>> + use<'a> {
        self.peeked = None;
        // SAFETY: promised to `from_raw`.
        std::mem::take(&mut self.rest).iter().map(|raw| unsafe { Arg::from_raw(*raw) })
    }

    /// The keywords that follow the positional arguments.
    pub fn options(&mut self) -> Options<'_, 'a> {
        self.options_before(&[])
    }

    /// The keywords of a part of the call, which ends before one of these.
    pub fn options_before(&mut self, ends: &'static [&'static str]) -> Options<'_, 'a> {
        Options { args: self, current: "", seen: 0, ends }
    }

    fn take(&mut self) -> Option<Arg<'a>> {
        let (first, rest) = self.rest.split_first()?;
        (self.rest, self.peeked) = (rest, None);
        // SAFETY: promised to `from_raw`.
        Some(unsafe { Arg::from_raw(*first) })
    }
}

/// The bit by which a keyword is known to have been read.
fn bit(place: u32) -> u32 {
    1u32.checked_shl(place).unwrap_or_else(|| bug("a command of more than 32 keywords"))
}

/// Keywords with their values: in any case, in any order, each at most once.
pub struct Options<'c, 'a> {
    args: &'c mut Args<'a>,
    current: &'static str,
    seen: u32,
    ends: &'static [&'static str],
}

impl<'a> Options<'_, 'a> {
    /// The next keyword, as it stands in `known` (upper case, the same at every
    /// call); `None` at the end. A keyword that is unknown or repeated is an
    /// error that names it.
    pub fn next(&mut self, known: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let Some(word) = self.args.peek() else { return Ok(None) };
        if place_among(self.ends, word).is_some() {
            return Ok(None);
        }
        self.args.take();
        let found =
            known.iter().zip(0u32..).find(|(keyword, _)| is_keyword(word, keyword.as_bytes()));
        let Some((keyword, place)) = found else {
            let (word, known) = (quoted(word), known.join(", "));
            return Err(refuse(format!("unknown option {word}: it must be one of {known}")));
        };
        let bit = bit(place);
        if self.seen & bit != 0 {
            return Err(refuse(format!("option '{keyword}' is given twice")));
        }
        self.seen |= bit;
        self.current = keyword;
        Ok(Some(keyword))
    }

    /// The arguments behind the keyword just read.
    pub fn args(&mut self) -> &mut Args<'a> {
        self.args
    }

    /// Lets the keyword just read come again.
    pub fn may_repeat(&mut self, known: &[&'static str]) {
        let place = known.iter().zip(0u32..).find(|(keyword, _)| **keyword == self.current);
        let (_, place) = place.unwrap_or_else(|| bug("a keyword that is not known"));
        self.seen &= !bit(place);
    }

    /// The value of a keyword that must come next.
    pub fn then(&mut self, keyword: &'static str) -> Result<Arg<'a>, Error> {
        if self.args.peek_at(&[keyword]).is_none() {
            let before = self.current;
            return Err(refuse(format!("option '{keyword}' must follow '{before}' and its value")));
        }
        self.args.take();
        self.current = keyword;
        self.value()
    }

    /// The value that follows the keyword just read.
    pub fn value(&mut self) -> Result<Arg<'a>, Error> {
        let keyword = self.current;
        self.args.take().ok_or_else(|| refuse(format!("option '{keyword}' needs a value")))
    }

    /// The value that follows, an integer in `range`.
    pub fn integer(&mut self, range: RangeInclusive<i64>) -> Result<i64, Error> {
        self.value()?.integer(self.current, range)
    }

    /// A number of things, and as many values after it, each of `size` arguments.
    pub fn counted(&mut self, things: &str, size: usize) -> Result<Vec<Arg<'a>>, Error> {
        let number = self.value()?;
        let count = number.count(self.current, things, self.args.left() / size)?;
        let count = count * size;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(self.value()?);
        }
        Ok(all)
    }

    /// Refuses the keyword just read where one that excludes it was read
    /// before. `known` is what [`Self::next`] was given.
    pub fn excludes(&self, known: &[&'static str], others: &[&'static str]) -> Result<(), Error> {
        // Mostly nothing was read before it.
        if self.seen.is_power_of_two() {
            return Ok(());
        }
        let clash = known.iter().zip(0u32..).find(|(keyword, place)| {
            let seen = self.seen & bit(*place) != 0;
            seen && **keyword != self.current && others.contains(keyword)
        });
        match clash {
            None => Ok(()),
            Some((other, _)) => {
                Err(refuse(format!("options '{other}' and '{}' exclude each other", self.current)))
            }
        }
    }
}
