//! Changes of several keys in one go: all of them are made while the keys are open, and
//! then everybody is told of each.

use crate::permit::{self, Permits};
use crate::ratelimit::{self, Limiter};
use crate::server::{Arg, Ends, Error, Keyspace, WriteKey};

/// A change of what one key holds.
#[derive(Clone, Copy)]
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

    fn send<'a>(&self, keys: &mut Keyspace<'a>, key: Arg<'a>) {
        match self {
            Self::Limit(change) => keys.send_change::<Limiter>(key, change),
            Self::Permit(change) => keys.send_change::<Permits>(key, change),
        }
    }

    fn announce<'a>(&self, keys: &mut Keyspace<'a>, key: Arg<'a>, ends: Ends) {
        match self {
            Self::Limit(change) => keys.announce_change::<Limiter>(key, ends, change),
            Self::Permit(change) => keys.announce_change::<Permits>(key, ends, change),
        }
    }
}

/// Tells everybody of the changes that were made to the keys of a call, all of which are
/// closed: what became of each that was changed.
pub fn tell<'a, 'c>(
    keys: &mut Keyspace<'a>,
    made: impl Iterator<Item = (Arg<'a>, Option<(Change<'c>, Ends)>)> + Clone,
) {
    let made = made.filter_map(|(key, made)| made.map(|(change, ends)| (key, change, ends)));
    made.clone().for_each(|(key, change, _)| change.send(keys, key));
    made.for_each(|(key, change, ends)| change.announce(keys, key, ends));
}
