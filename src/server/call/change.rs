//! Values that one kind of change makes what they are.

use super::error::Error;
use super::key::{Ends, Keyspace, Lives, WriteKey};
use crate::server::call::args::Arg;
use crate::server::declare::datatype::DataType;
use std::ffi::CStr;

/// A value that is changed by changes alone: each is made by the same code where it was
/// decided and, told by its effect, on replicas. A key that does not exist holds the
/// default.
pub trait Changeable: Default {
    /// A change.
    type Change<'c>;

    /// The command that carries a change to replicas and into the AOF.
    const APPLY: &'static CStr;

    /// Makes a change.
    fn apply(&mut self, change: &Self::Change<'_>);

    /// How long its key lives from then on.
    fn lives(&self) -> Lives;

    /// The keyspace notification of a change.
    fn event(change: &Self::Change<'_>) -> &'static CStr;

    /// A change, as [`APPLY`](Self::APPLY) is given it.
    fn encode(change: &Self::Change<'_>, payload: &mut Vec<u8>);
}

fn effect<T: Changeable>(change: &T::Change<'_>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(64);
    T::encode(change, &mut payload);
    payload
}

impl WriteKey<'_> {
    /// Makes a change to the value in the key, and has a look at what it is then. Where
    /// that does not move its end, the key keeps its expiry, also one that somebody gave
    /// it. To be [closed](Self::close) with how long it lives, [sent](Keyspace::send_change) and
    /// [announced](Keyspace::announce_change).
    pub fn apply<T: Changeable>(
        &mut self,
        change: &T::Change<'_>,
        look: impl FnOnce(&T),
    ) -> Result<Lives, Error>
    where
        Box<T>: DataType<Inner = T>,
    {
        let change_and_look = |value: &mut T| {
            value.apply(change);
            look(value);
            value.lives()
        };
        if let Some(value) = self.value::<T>()? {
            let before = value.lives();
            return Ok(change_and_look(value).moved_from(before));
        }
        let mut value = T::default();
        let lives = change_and_look(&mut value);
        self.set(Box::new(value))?;
        Ok(lives)
    }

    /// Commits a change that was [made](Self::apply).
    pub fn commit_change<T: Changeable>(self, lives: Lives, change: &T::Change<'_>) {
        self.commit(lives, T::event(change), T::APPLY, || effect::<T>(change));
    }

    /// Makes a change to the value in the key, and commits it.
    pub fn change<T: Changeable>(mut self, change: &T::Change<'_>) -> Result<(), Error>
    where
        Box<T>: DataType<Inner = T>,
    {
        let lives = self.apply::<T>(change, |_| ())?;
        self.commit_change::<T>(lives, change);
        Ok(())
    }
}

impl<'a> Keyspace<'a> {
    /// The second half of [`WriteKey::commit_change`], of a key that was closed already:
    /// its effect goes to replicas and the AOF. Of several keys all effects go before any
    /// is [announced](Self::announce_change): what other modules do about an event
    /// follows them.
    pub fn send_change<T: Changeable>(&mut self, key: Arg<'a>, change: &T::Change<'_>) {
        self.send(key, T::APPLY, || effect::<T>(change));
    }

    /// The last part of it: the event.
    pub fn announce_change<T: Changeable>(
        &mut self,
        key: Arg<'a>,
        ends: Ends,
        change: &T::Change<'_>,
    ) {
        self.announce(key, ends, T::event(change));
    }
}
