//! An entry: an answer, and what is known of it.

use super::shelves::Owner;
use super::table::MILLION;
use crate::block::Block;
use crate::bug;
use crate::id::Id;
use crate::lifetime::Lifetime;
use std::cell::Cell;

/// The texts of an entry, in one block.
#[derive(Debug)]
pub struct Texts(Block<Lengths>);

#[derive(Clone, Copy, Debug)]
struct Lengths {
    value: u32,
    prompt: u32,
    has_prompt: bool,
    has_digest: bool,
}

impl Texts {
    /// The texts, put together; `None` where there is no memory for them, or where they
    /// are 4 GiB or more.
    pub fn new(value: &[u8], prompt: Option<&[u8]>, digest: Option<&[u8]>) -> Option<Self> {
        let lengths = Lengths {
            value: u32::try_from(value.len()).ok()?,
            prompt: u32::try_from(prompt.unwrap_or_default().len()).ok()?,
            has_prompt: prompt.is_some(),
            has_digest: digest.is_some(),
        };
        let parts = [value, prompt.unwrap_or_default(), digest.unwrap_or_default()];
        Block::new(lengths, &parts).map(Self)
    }

    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let Lengths { value, prompt, .. } = *self.0.head();
        let (value, rest) = self.0.bytes().split_at_checked(value as usize).unwrap_or_default();
        let (prompt, digest) = rest.split_at_checked(prompt as usize).unwrap_or_default();
        (value, prompt, digest)
    }

    /// The answer.
    pub fn value(&self) -> &[u8] {
        self.parts().0
    }

    /// What was asked, if its caller said.
    pub fn prompt(&self) -> Option<&[u8]> {
        self.0.head().has_prompt.then(|| self.parts().1)
    }

    /// What the question is told by, if its caller said.
    pub fn digest(&self) -> Option<&[u8]> {
        self.0.head().has_digest.then(|| self.parts().2)
    }

    /// How many bytes the texts are.
    pub fn bytes(&self) -> usize {
        self.0.bytes().len()
    }
}

/// Where further vectors stand that lead to an entry: most have none.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // One pointer in each entry, not three words.
pub(super) struct Aliases(Option<Box<Vec<u32>>>);

impl Aliases {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots().len()
    }

    /// They, from the first one on.
    pub(super) fn slots(&self) -> &[u32] {
        self.0.as_ref().map_or(&[], |slots| slots)
    }

    /// The same, to be changed.
    pub(super) fn slots_mut(&mut self) -> &mut [u32] {
        self.0.as_mut().map_or(&mut [], |slots| slots)
    }

    /// Adds one.
    pub(super) fn push(&mut self, slot: u32) {
        self.0.get_or_insert_default().push(slot);
    }

    /// Takes out the first one, of one at least.
    pub(super) fn remove_first(&mut self) -> u32 {
        let slots = self.0.as_mut().filter(|slots| !slots.is_empty());
        slots.map_or_else(|| bug("no further vector to take out"), |slots| slots.remove(0))
    }
}

/// No place.
pub const NONE: u32 = u32::MAX;

/// An entry.
#[derive(Debug)]
pub struct Entry {
    /// What it is named by.
    pub id: Id,
    /// The version of the model that answered, by its number in the table.
    pub version: u16,
    /// The least similarity that it answers from, in millionths.
    pub threshold: u32,
    /// How long it holds.
    pub lifetime: Lifetime,
    /// The answer, and what was asked.
    pub texts: Texts,
    /// Where its vector stands.
    pub(super) slot: u32,
    /// Where further vectors stand that lead to it.
    pub(super) aliases: Aliases,
    /// The next one that was hit more recently, and less recently.
    pub(super) newer: Cell<u32>,
    pub(super) older: Cell<u32>,
}

impl Entry {
    /// The least similarity that it answers from.
    pub fn answers_from(&self) -> f64 {
        f64::from(self.threshold) / f64::from(MILLION)
    }

    /// The same, as its vectors' owner at a place of the table.
    pub(super) fn owner(&self, place: u32) -> Owner {
        Owner::new(self.id, place, self.threshold, &self.lifetime)
    }

    /// Where all its vectors stand.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.slot).chain(self.aliases.slots().iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart_and_none_from_an_empty_one() {
        let some = |texts: &Texts| {
            let own = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
            (texts.value().to_vec(), own(texts.prompt()), own(texts.digest()))
        };
        for (prompt, digest) in [
            (None, None),
            (Some(&b""[..]), None),
            (None, Some(&b""[..])),
            (Some(b"why"), Some(&b"\0\xff"[..])),
        ] {
            let texts = Texts::new(b"because", prompt, digest).unwrap();
            let own = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
            assert_eq!(some(&texts), (b"because".to_vec(), own(prompt), own(digest)));
        }
        assert_eq!(Texts::new(b"a", Some(b"bc"), Some(b"d")).unwrap().bytes(), 4);
    }
}
