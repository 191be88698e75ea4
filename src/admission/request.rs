//! A call to be let in, checked: what it asks of each of its keys, and how.

use super::asked::Asked;
use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::permit;
use crate::ratelimit::arguments::{
    HoldOptions, KEYWORDS, check_force, cost, limit_option, limits, max_holds, plain,
};
use crate::ratelimit::{HoldRequest, Mode};
use crate::server::{Arg, Args, DistinctKeys, Error, Options, quoted, refuse};
use crate::time::{Micros, Millis};

/// The words that begin an item.
const ITEMS: &[&str] = &["LIMIT", "PERMIT"];

/// The words that end an item: of the next one, of the call, and of the parts that may
/// follow in a request that is served in one call.
const ENDS: &[&str] =
    &["LIMIT", "PERMIT", "HOLD", "ID", "PEEK", "FORCE", "WAIT", "PRIORITY", "CACHE", "FEATURES"];

/// The words of the call as a whole.
const KNOWN: &[&str] = &["HOLD", "ID", "PEEK", "FORCE", "WAIT", "PRIORITY"];

/// What is asked of one key.
pub struct Item {
    /// What of it.
    pub asked: Asked,
    /// How many may be held up there already where the call is to wait.
    pub queue: Option<usize>,
    /// Of how many words of the call it is made.
    pub words: usize,
}

/// A call.
pub struct Request<'a> {
    /// Its keys.
    pub keys: DistinctKeys<'a>,
    /// What it asks of each of them.
    pub items: Vec<Item>,
    /// The hold that it is to open, if one.
    pub hold: Option<HoldRequest>,
    /// Whether it only looks, or takes what it asks for in any case.
    pub mode: Mode,
    /// How long it is to wait where it is denied, in milliseconds; 0 not at all.
    pub wait_ms: Millis,
    /// Of those that wait, whoever has a higher one goes first.
    pub priority: u8,
}

impl<'a> Request<'a> {
    /// `numkeys key [key ...] item [item ...] [HOLD ms [ID id]] [PEEK | FORCE]
    /// [WAIT ms [PRIORITY n]]`
    pub fn parse(args: &mut Args<'a>, now_us: Micros) -> Result<Self, Error> {
        let keys = args.distinct_keys()?;
        let items = items(args, keys.len(), now_us)?;
        if items.len() != keys.len() {
            return Err(once_each(keys.len()));
        }
        let mut request = Self::of(keys, items);
        request.read_options(args)?;
        request.tell_items()?;
        Ok(request)
    }

    /// `item [item ...] [HOLD ms [ID id]]`, which end before one of these words: the part of
    /// a request that is served in one call. Its keys are the first of those of the call.
    pub fn parse_part(
        args: &mut Args<'a>,
        keys: &[Arg<'a>],
        now_us: Micros,
        ends: &'static [&'static str],
    ) -> Result<Self, Error> {
        let items = items(args, keys.len(), now_us)?;
        let keys = DistinctKeys::of(keys.iter().take(items.len()).copied())?;
        let mut request = Self::of(keys, items);
        let mut hold = HoldOptions::default();
        let mut options = args.options_before(ends);
        while let Some(option) = options.next(&["HOLD", "ID"])? {
            match option {
                "HOLD" => hold.hold(&mut options)?,
                _ => hold.id(&mut options)?,
            }
        }
        request.hold = hold.done()?;
        request.tell_items()?;
        Ok(request)
    }

    fn of(keys: DistinctKeys<'a>, items: Vec<Item>) -> Self {
        Self { keys, items, hold: None, mode: Mode::Whole, wait_ms: 0, priority: 0 }
    }

    fn read_options(&mut self, args: &mut Args<'a>) -> Result<(), Error> {
        let mut hold = HoldOptions::default();
        let (mut wait_ms, mut priority) = (None, None);
        let mut options = args.options();
        while let Some(option) = options.next(KNOWN)? {
            match option {
                "HOLD" => hold.hold(&mut options)?,
                "ID" => {
                    options.excludes(KNOWN, &["PEEK"])?;
                    hold.id(&mut options)?;
                }
                "WAIT" => {
                    options.excludes(KNOWN, &["PEEK", "FORCE"])?;
                    let most = MAX_TTL_MS.cast_signed();
                    wait_ms = Some(options.integer(0..=most)?.cast_unsigned());
                }
                "PRIORITY" => priority = Some(priority_of(&mut options)?),
                mode => {
                    options.excludes(KNOWN, &["PEEK", "FORCE", "WAIT"])?;
                    self.mode = if mode == "PEEK" { Mode::Peek } else { Mode::Force };
                    if self.mode == Mode::Peek {
                        options.excludes(KNOWN, &["ID"])?;
                    }
                }
            }
        }
        if priority.is_some() && wait_ms.is_none() {
            return Err(refuse("PRIORITY needs WAIT"));
        }
        self.wait_ms = wait_ms.unwrap_or(0);
        self.priority = priority.unwrap_or(0);
        self.hold = hold.done()?.filter(|_| self.mode != Mode::Peek);
        Ok(())
    }

    /// Has each item know what is said of the call as a whole.
    fn tell_items(&mut self) -> Result<(), Error> {
        let (hold, mode) = (self.hold, self.mode);
        for item in &mut self.items {
            match &mut item.asked {
                Asked::Limit(request) => {
                    (request.hold, request.mode) = (hold, mode);
                    check_force(request)?;
                }
                Asked::Permit(_) if mode == Mode::Force => {
                    return Err(refuse("FORCE is for limits only, and excludes PERMIT"));
                }
                Asked::Permit(_) if mode == Mode::Whole && hold.is_none() => {
                    return Err(refuse(
                        "PERMIT needs HOLD: how many milliseconds it is held at most",
                    ));
                }
                Asked::Permit(request) => request.permit = hold.map(|hold| (hold.id, hold.ttl_ms)),
            }
        }
        Ok(())
    }
}

/// `item [item ...]`, at most one for each key.
fn items(args: &mut Args, keys: usize, now_us: Micros) -> Result<Vec<Item>, Error> {
    let mut items = Vec::with_capacity(keys);
    while let Some(item) = args.peek_at(ITEMS) {
        if items.len() == keys {
            return Err(once_each(keys));
        }
        let before = args.left();
        let (asked, queue) = if item == 0 { limit(args, now_us)? } else { permit(args)? };
        items.push(Item { asked, queue, words: before - args.left() });
    }
    match args.peek() {
        Some(other) if items.is_empty() => {
            Err(refuse(format!("item must be LIMIT or PERMIT, not {}", quoted(other))))
        }
        None if items.is_empty() => Err(once_each(keys)),
        _ => Ok(items),
    }
}

fn once_each(keys: usize) -> Error {
    refuse(format!("item must be given once for each of the {keys} keys"))
}

/// `LIMIT limit window [limit window ...] [ALGORITHM a] [BURST n] [COST n] [QUEUE n]`
fn limit(args: &mut Args, now_us: Micros) -> Result<(Asked, Option<usize>), Error> {
    const KNOWN: &[&str] = &[KEYWORDS[0], KEYWORDS[1], KEYWORDS[2], "QUEUE"];
    args.arg()?;
    let (mut request, mut queue) = (plain(), None);
    limits(args, now_us, &mut request.policies)?;
    let mut options = args.options_before(ENDS);
    while let Some(option) = options.next(KNOWN)? {
        match option {
            "QUEUE" => queue = Some(queue_of(&mut options)?),
            option => limit_option(&mut options, option, &mut request)?,
        }
    }
    Ok((Asked::Limit(request), queue))
}

/// `PERMIT max [COST n] [QUEUE n]`
fn permit(args: &mut Args) -> Result<(Asked, Option<usize>), Error> {
    args.arg()?;
    let max = args.arg()?.integer("max", 0..=MAX_AMOUNT.cast_signed())?.cast_unsigned();
    let max_holds = max_holds();
    let mut request = permit::Request { max, cost: 1, permit: None, max_holds };
    let mut queue = None;
    let mut options = args.options_before(ENDS);
    while let Some(option) = options.next(&["COST", "QUEUE"])? {
        match option {
            "COST" => request.cost = cost(&mut options)?,
            _ => queue = Some(queue_of(&mut options)?),
        }
    }
    Ok((Asked::Permit(request), queue))
}

fn queue_of(options: &mut Options) -> Result<usize, Error> {
    let most = MAX_AMOUNT.cast_signed();
    Ok(usize::try_from(options.integer(0..=most)?).unwrap_or(usize::MAX))
}

fn priority_of(options: &mut Options) -> Result<u8, Error> {
    let priority = options.integer(0..=u8::MAX.into())?;
    u8::try_from(priority).map_err(|_| Error::Internal)
}
