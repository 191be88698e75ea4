//! What a call asks of a key, and what the key says: of a limit or of permits.

use super::change::{Change, tell};
use super::request::Request;
use super::stats;
use crate::allowance::Allowance;
use crate::id::Id;
use crate::permit::{self, Permits};
use crate::ratelimit::{self, HoldRequest, Limiter, Mode};
use crate::server::{Ends, Error, Keyspace, Lock, OpenKeys, ReadKey, Reply, WriteKey};
use crate::time::{Micros, whole_millis};

/// What is asked of one key.
#[derive(Debug)]
pub enum Asked {
    /// A cost of its limits.
    Limit(ratelimit::Request),
    /// A permit.
    Permit(permit::Request),
}

/// What one key says.
enum Decision<'r> {
    Limit(&'r ratelimit::Request, ratelimit::Decision<'r>),
    Permit(&'r permit::Request, permit::Decision),
}

impl Asked {
    fn decide(&self, key: &ReadKey, now_us: Micros) -> Result<Decision<'_>, Error> {
        Ok(match self {
            Self::Limit(request) => {
                let current = key.value::<Limiter>()?;
                Decision::Limit(request, ratelimit::store::decide(current, request, now_us)?)
            }
            Self::Permit(request) => {
                let current = key.value::<Permits>()?;
                Decision::Permit(request, permit::store::decide(current, request, now_us)?)
            }
        })
    }
}

impl<'r> Decision<'r> {
    /// Whether others go before it that are held up at the key: where it takes
    /// something that it has not yet, and is not forced to.
    fn queues(&self) -> bool {
        match self {
            Self::Limit(request, _) if request.mode == Mode::Force => false,
            Self::Limit(_, decision) => decision.takes(),
            Self::Permit(_, decision) => decision.takes(),
        }
    }

    /// How long until the key itself lets it in.
    fn wait_us(&self) -> Option<Micros> {
        match self {
            Self::Limit(_, decision) => decision.quota.retry_after_us,
            Self::Permit(_, decision) => decision.allowance.retry_after_us,
        }
    }

    /// What the key says of a call that is denied.
    fn denied_row(&self) -> Allowance {
        match self {
            Self::Limit(request, decision) => {
                ratelimit::store::allowance(request, decision, &decision.quota)
            }
            Self::Permit(_, decision) => decision.allowance,
        }
    }

    fn is_allowed(&self) -> bool {
        match self {
            Self::Limit(_, decision) => decision.allowed,
            Self::Permit(_, decision) => decision.allowed,
        }
    }

    fn deny(&mut self) {
        match self {
            Self::Limit(_, decision) => decision.deny(),
            Self::Permit(_, decision) => decision.deny(),
        }
    }

    fn check_room(&self) -> Result<(), Error> {
        match self {
            Self::Limit(request, decision) => ratelimit::store::check_room(decision, request),
            Self::Permit(request, decision) => permit::store::check_room(decision, request),
        }
    }

    fn change(&self) -> Option<Change<'r>> {
        match self {
            Self::Limit(_, decision) => decision.change.map(Change::Limit),
            Self::Permit(_, decision) => decision.change.map(Change::Permit),
        }
    }

    /// Makes its change, if it is one, to the key that it was made on, which is closed:
    /// what was made, and what the key says then.
    fn make(&self, mut open: WriteKey, now_us: Micros) -> Result<(Option<Ends>, Allowance), Error> {
        match self {
            Self::Limit(request, decision) => {
                let (lives, row) = ratelimit::store::apply(&mut open, request, decision, now_us)?;
                Ok((decision.change.map(|_| open.close(lives)), row))
            }
            Self::Permit(_, decision) => {
                let ends = self.change().map(|change| change.make(open)).transpose()?;
                Ok((ends, decision.allowance))
            }
        }
    }

    fn count(&self, lock: &Lock, key: &[u8], now_us: Micros) {
        match self {
            Self::Limit(request, decision) => {
                ratelimit::store::count(lock, key, request, decision, now_us);
            }
            Self::Permit(request, decision) => permit::store::count(request, decision),
        }
    }
}

/// What one key says, and who goes before.
struct Said<'r> {
    decision: Decision<'r>,
    /// How long those wait that are held up before the call, where some are.
    held_back_us: Option<Micros>,
    /// What the key itself says, once all is done.
    own: Option<Allowance>,
    /// What became of the key, once it was changed.
    ends: Option<Ends>,
}

impl Said<'_> {
    /// What is answered of the key.
    fn row(&self) -> Allowance {
        let own = self.own.unwrap_or_else(|| self.decision.denied_row());
        Allowance { retry_after_us: self.held_back_us.map_or(own.retry_after_us, Some), ..own }
    }
}

/// What all keys of a call say. It has changed nothing.
pub struct Decided<'r> {
    said: Vec<Said<'r>>,
    /// Whether it is let in.
    pub is_admitted: bool,
}

/// Who else waits: how long for the first of those held up at a key, if that one goes
/// before the call.
pub type HeldBack<'q> = &'q dyn Fn(&[u8]) -> Option<Micros>;

/// Asks all keys of a call, which are open. Where it would take something nobody may be
/// held up that goes before it.
pub fn decide<'r>(
    open: &[WriteKey],
    request: &'r Request,
    now_us: Micros,
    held_back: HeldBack,
) -> Result<Decided<'r>, Error> {
    let mut said = Vec::with_capacity(request.items.len());
    for (item, open) in request.items.iter().zip(open) {
        let decision = item.asked.decide(open, now_us)?;
        said.push(Said { decision, held_back_us: None, own: None, ends: None });
    }
    let mut is_admitted = said.iter().all(|said| said.decision.is_allowed());
    // Where a key denies by itself, it does not matter who waits at the others.
    if is_admitted {
        for (key, said) in request.keys.iter().zip(&mut said) {
            if said.decision.queues() {
                said.held_back_us = held_back(key.bytes());
            }
        }
        is_admitted = said.iter().all(|said| said.held_back_us.is_none());
    }
    if is_admitted {
        said.iter().try_for_each(|said| said.decision.check_room())?;
    } else {
        said.iter_mut().for_each(|said| said.decision.deny());
    }
    Ok(Decided { said, is_admitted })
}

impl<'r> Decided<'r> {
    /// Which key denies a call that is denied, and for how long (`None` for ever): of
    /// those whose own limits do the one with the longest wait; where there is none,
    /// of those at which others are held up.
    pub fn binding(&self) -> Option<(usize, Option<Micros>)> {
        if self.is_admitted {
            return None;
        }
        let own = self.said.iter().map(|said| said.decision.wait_us());
        let own = own.enumerate().filter(|(_, wait_us)| *wait_us != Some(0));
        let queues = self.said.iter().enumerate();
        let queues = queues.filter_map(|(at, said)| said.held_back_us.map(|us| (at, Some(us))));
        // Never is the longest; of equals the first.
        let longest = |one: &(usize, Option<Micros>)| {
            (one.1.unwrap_or(Micros::MAX), std::cmp::Reverse(one.0))
        };
        own.max_by_key(longest).or_else(|| queues.max_by_key(longest))
    }

    /// The answer where nothing may be written for a while: a denial, whatever the keys
    /// say, of which nothing is carried out.
    pub fn put_off(mut self, wait_us: Micros) -> Admission {
        if self.is_admitted {
            self.is_admitted = false;
            self.said.iter_mut().for_each(|said| said.decision.deny());
            self.said.iter_mut().take(1).for_each(|first| first.held_back_us = Some(wait_us));
        }
        self.admission(None)
    }

    /// Where the clock has stepped back behind what a key says, which would else be told
    /// again and again, that follows: all that a denied call writes.
    pub fn rewind<'a>(&self, keys: &mut Keyspace<'a>, request: &Request<'a>) -> Result<(), Error> {
        for (key, said) in request.keys.iter().zip(&self.said) {
            match said.decision.change() {
                Some(Change::Limit(change)) => keys.write(*key).change::<Limiter>(&change)?,
                Some(Change::Permit(change)) => keys.write(*key).change::<Permits>(&change)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Whether it is denied by those alone who are held up before it: at which key.
    pub fn held_back_at(&self) -> Option<usize> {
        let (key, _) = self.binding()?;
        self.said.get(key)?.held_back_us.map(|_| key)
    }

    /// Carries out what was decided on the keys that it was decided on, which are
    /// closed, and yet to be [told](Self::tell).
    pub fn carry_out(&mut self, open: OpenKeys, now_us: Micros) -> Result<(), Error> {
        for (open, said) in open.into_iter().zip(&mut self.said) {
            let (ends, own) = said.decision.make(open, now_us)?;
            (said.ends, said.own) = (ends, Some(own));
        }
        Ok(())
    }

    /// Tells everybody of what was changed, and counts what came of the call.
    pub fn tell<'a>(
        &self,
        lock: &Lock,
        keys: &mut Keyspace<'a>,
        request: &Request<'a>,
        now_us: Micros,
    ) {
        let said = request.keys.iter().zip(&self.said);
        tell(keys, said.clone().map(|(key, said)| (*key, said.decision.change().zip(said.ends))));
        for (key, said) in said {
            said.decision.count(lock, key.bytes(), now_us);
        }
        stats::count(request.mode, self.is_admitted);
    }

    /// The hold that was opened, if one was: by its id.
    pub fn opened(&self, hold: Option<HoldRequest>) -> Option<Id> {
        hold.map(|hold| hold.id).filter(|_| self.is_admitted)
    }

    /// The answer, for later.
    pub fn admission(&self, hold: Option<HoldRequest>) -> Admission {
        Admission {
            id: self.opened(hold),
            binding: self.binding(),
            rows: self.said.iter().map(Said::row).collect(),
            is_admitted: self.is_admitted,
        }
    }

    /// The answer, at once.
    pub fn reply(&self, reply: Reply, hold: Option<HoldRequest>) {
        let rows = self.said.iter().map(Said::row);
        reply_with(reply, self.is_admitted, self.opened(hold), self.binding(), rows);
    }
}

/// The answer to a call.
pub struct Admission {
    /// Whether it is let in.
    is_admitted: bool,
    /// What it holds then, if anything, by its id.
    id: Option<Id>,
    /// Which key denies it, and for how long.
    binding: Option<(usize, Option<Micros>)>,
    /// What each key says, in order.
    rows: Vec<Allowance>,
}

impl Admission {
    /// See [`Decided::reply`].
    pub fn reply(&self, reply: Reply) {
        reply_with(reply, self.is_admitted, self.id, self.binding, self.rows.iter().copied());
    }
}

/// `[admitted, id|nil, retry_after_ms, binding|nil, rows]`
fn reply_with(
    reply: Reply,
    is_admitted: bool,
    id: Option<Id>,
    binding: Option<(usize, Option<Micros>)>,
    rows: impl ExactSizeIterator<Item = Allowance>,
) {
    reply.array(5);
    reply.integer(is_admitted.into());
    match id {
        Some(id) => reply.bytes(&id.text()),
        None => reply.null(),
    }
    match binding {
        None => {
            reply.integer(0);
            reply.null();
        }
        Some((key, wait_us)) => {
            reply.integer(wait_us.map_or(-1, whole_millis));
            reply.integer(key as i64);
        }
    }
    reply.array(rows.len());
    for row in rows {
        let figures = row.figures();
        reply.array(figures.len());
        figures.into_iter().for_each(|figure| reply.integer(figure));
    }
}
