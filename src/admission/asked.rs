//! What a call asks of a key, and what the key says: of a limit or of permits.

use super::request::Item;
use crate::allowance::Allowance;
use crate::id::Id;
use crate::permit;
use crate::ratelimit::{self, Limiter, Mode};
use crate::server::{Arg, Error, Keyspace, Lock, ReadKey, Reply};
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
                let current = key.value::<permit::Permits>()?;
                Decision::Permit(request, permit::store::decide(current, request, now_us)?)
            }
        })
    }
}

impl Decision<'_> {
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

    fn carry_out<'a>(
        &self,
        lock: &Lock,
        keys: &mut Keyspace<'a>,
        key: Arg<'a>,
        now_us: Micros,
    ) -> Result<Allowance, Error> {
        let open = keys.write(key);
        match self {
            Self::Limit(request, decision) => {
                ratelimit::store::carry_out(lock, key, open, request, decision, now_us)
            }
            Self::Permit(request, decision) => {
                permit::store::carry_out(open, request, decision)?;
                Ok(decision.allowance)
            }
        }
    }
}

/// What all keys of a call say. It has changed nothing.
pub struct Decided<'r> {
    decisions: Vec<Decision<'r>>,
    /// How long those wait that are held up before the call, at each key where some are.
    held_back: Vec<Option<Micros>>,
    /// Whether it is let in.
    pub is_admitted: bool,
}

/// Who else waits: how long for the first of those held up at a key, if that one goes
/// before the call.
pub type HeldBack<'q> = &'q dyn Fn(&[u8]) -> Option<Micros>;

/// Asks all keys of a call. Where it would take something nobody may be held up that
/// goes before it.
pub fn decide<'r>(
    keys: &Keyspace<'r>,
    items: &'r [Item<'r>],
    now_us: Micros,
    held_back: HeldBack,
) -> Result<Decided<'r>, Error> {
    let ask = |item: &'r Item<'r>| item.asked.decide(&keys.read(item.key), now_us);
    let mut decisions = items.iter().map(ask).collect::<Result<Vec<_>, _>>()?;
    // Where a key denies by itself, it does not matter who waits at the others.
    let all_agree = decisions.iter().all(Decision::is_allowed);
    let behind = |(item, decision): (&Item, &Decision)| {
        let queues = all_agree && decision.queues();
        queues.then(|| held_back(item.key.bytes())).flatten()
    };
    let waits_us: Vec<_> = items.iter().zip(&decisions).map(behind).collect();
    let is_admitted = all_agree && waits_us.iter().all(Option::is_none);
    if is_admitted {
        decisions.iter().try_for_each(Decision::check_room)?;
    } else {
        decisions.iter_mut().for_each(Decision::deny);
    }
    Ok(Decided { decisions, held_back: waits_us, is_admitted })
}

impl Decided<'_> {
    /// Which key denies a call that is denied, and for how long (`None` for ever): of
    /// those whose own limits do the one with the longest wait; where there is none,
    /// of those at which others are held up.
    pub fn binding(&self) -> Option<(usize, Option<Micros>)> {
        if self.is_admitted {
            return None;
        }
        let own = self.decisions.iter().map(Decision::wait_us);
        let own = own.enumerate().filter(|(_, wait_us)| *wait_us != Some(0));
        let queues = self.held_back.iter().enumerate();
        let queues = queues.filter_map(|(at, wait_us)| wait_us.map(|us| (at, Some(us))));
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
            self.decisions.iter_mut().for_each(Decision::deny);
            self.held_back.iter_mut().take(1).for_each(|first| *first = Some(wait_us));
        }
        let rows = self.decisions.iter().map(Decision::denied_row).zip(&self.held_back);
        let rows = rows.map(|(row, queue_us)| behind(row, *queue_us)).collect();
        Admission { is_admitted: false, id: None, binding: self.binding(), rows }
    }

    /// Where the clock has stepped back behind what a key says, which would else be told
    /// again and again, that follows: all that a denied call writes.
    pub fn rewind<'a>(&self, keys: &mut Keyspace<'a>, items: &[Item<'a>]) -> Result<(), Error> {
        for (item, decision) in items.iter().zip(&self.decisions) {
            match decision {
                Decision::Limit(_, ratelimit::Decision { change: Some(change), .. }) => {
                    ratelimit::store::commit(keys.write(item.key), change, |_| ())?;
                }
                Decision::Permit(_, permit::Decision { change: Some(change), .. }) => {
                    permit::store::commit(keys.write(item.key), change)?;
                }
                Decision::Limit(..) | Decision::Permit(..) => {}
            }
        }
        Ok(())
    }

    /// Whether it is denied by those alone who are held up before it: at which key.
    pub fn held_back_at(&self) -> Option<usize> {
        let (key, _) = self.binding()?;
        self.held_back.get(key)?.map(|_| key)
    }

    /// Carries out what was decided: the answer.
    pub fn carry_out<'a>(
        self,
        lock: &Lock,
        keys: &mut Keyspace<'a>,
        items: &[Item<'a>],
        id: Option<Id>,
        now_us: Micros,
    ) -> Result<Admission, Error> {
        let binding = self.binding();
        let mut rows = Vec::with_capacity(items.len());
        for ((item, decision), queue_us) in items.iter().zip(&self.decisions).zip(&self.held_back) {
            let row = decision.carry_out(lock, keys, item.key, now_us)?;
            rows.push(behind(row, *queue_us));
        }
        let id = id.filter(|_| self.is_admitted);
        Ok(Admission { is_admitted: self.is_admitted, id, binding, rows })
    }
}

/// What a key says where others wait before the call.
fn behind(row: Allowance, queue_us: Option<Micros>) -> Allowance {
    Allowance { retry_after_us: queue_us.map_or(row.retry_after_us, Some), ..row }
}

/// The answer to a call.
pub struct Admission {
    /// Whether it is let in.
    pub is_admitted: bool,
    /// What it holds then, if anything, by its id.
    pub id: Option<Id>,
    /// Which key denies it, and for how long.
    pub binding: Option<(usize, Option<Micros>)>,
    /// What each key says, in order.
    pub rows: Vec<Allowance>,
}

impl Admission {
    /// `[admitted, id|nil, retry_after_ms, binding|nil, rows]`
    pub fn reply(&self, reply: Reply) {
        reply.array(5);
        reply.integer(self.is_admitted.into());
        match self.id {
            Some(id) => reply.bytes(&id.text()),
            None => reply.null(),
        }
        match self.binding {
            None => {
                reply.integer(0);
                reply.null();
            }
            Some((key, wait_us)) => {
                reply.integer(wait_us.map_or(-1, whole_millis));
                reply.integer(key as i64);
            }
        }
        reply.array(self.rows.len());
        for row in &self.rows {
            let figures = row.figures();
            reply.array(figures.len());
            figures.into_iter().for_each(|figure| reply.integer(figure));
        }
    }
}
