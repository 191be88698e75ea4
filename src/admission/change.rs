//! Changes of several keys in one go: all of them are made while the keys are open, and
//! then everybody is told of each.

use crate::permit::{self, Permits};
use crate::ratelimit::{self, Limiter};
use crate::server::{DistinctKeys, Ends, Error, Keyspace, WriteKey};

/// A change of what one key holds.
pub enum Change<'c> {
    /// Of a limiter.
    Limit(ratelimit::Change<'c>),
    /// Of permits.
    Permit(permit::Change),
}

impl Change<'_> {
    /// Makes it, and closes the key.
    pub fn make(&self, mut open: WriteKey) -> Result<Ends, Error> {
        let lives = match self {
            Self::Limit(change) => open.apply::<Limiter>(change, |_| ())?,
            Self::Permit(change) => open.apply::<Permits>(change, |_| ())?,
        };
        Ok(open.close(lives))
    }
}

/// The changes of a call, a key each, which are made and yet to be told.
#[must_use = "changes are to be told"]
pub struct Made<'c>(Vec<Option<(Change<'c>, Ends)>>);

impl<'c> Made<'c> {
    /// None yet, of so many keys.
    pub fn of(keys: usize) -> Self {
        Self(Vec::with_capacity(keys))
    }

    /// Notes what was made of the next key, if anything.
    pub fn note(&mut self, made: Option<(Change<'c>, Ends)>) {
        self.0.push(made);
    }

    /// Which keys were changed.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = Option<&Change<'c>>> {
        self.0.iter().map(|made| made.as_ref().map(|(change, _)| change))
    }

    /// Tells everybody of them.
    pub fn tell<'a>(&self, keys: &mut Keyspace<'a>, names: &DistinctKeys<'a>) {
        for (key, made) in names.iter().zip(&self.0) {
            match made {
                Some((Change::Limit(change), ends)) => keys.tell::<Limiter>(*key, *ends, change),
                Some((Change::Permit(change), ends)) => keys.tell::<Permits>(*key, *ends, change),
                None => {}
            }
        }
    }
}
