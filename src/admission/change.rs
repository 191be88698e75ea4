//! Changes of several keys in one go: all of them are made while the keys are open, and
//! then everybody is told of each.

use crate::permit::{self, Permits};
use crate::ratelimit::{self, Limiter};
use crate::server::{Arg, Ends, Error, Keyspace, WriteKey};

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

    /// Tells everybody of it, once all keys of the call are closed.
    pub fn tell<'a>(&self, keys: &mut Keyspace<'a>, key: Arg<'a>, ends: Ends) {
        match self {
            Self::Limit(change) => keys.tell::<Limiter>(key, ends, change),
            Self::Permit(change) => keys.tell::<Permits>(key, ends, change),
        }
    }
}
