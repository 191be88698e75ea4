//! A call that waits: whose it is, and its words.

use super::request::Request;
use crate::bug;
use crate::server::{Args, User, monotonic};
use crate::time::Monotonic;
use std::ops::Range;

/// The command by which callers wait.
const NAME: &[u8] = b"ML.ADMIT";

/// Where among the words the first of the keys stands.
pub const FIRST_KEY: usize = 2;

/// A call that waits: whose it is, and its words, the name first; since when, and which
/// of its keys held it up first.
#[derive(Debug)]
pub struct Caller {
    /// The database of its keys.
    pub db: i32,
    /// Who makes it; `None` is one that the server does not list.
    pub user: Option<User>,
    words: Box<[Box<[u8]>]>,
    /// Where among the words the items begin, one a key, and where the last ends.
    items: Box<[usize]>,
    /// Since when it waits.
    pub since: Monotonic,
    held_up_first_by: usize,
}

impl Caller {
    /// That of a request, made with these words after the name, which waits from now on.
    pub fn new(
        db: i32,
        user: Option<User>,
        request: &Request,
        mut words: Args,
        held_up_first_by: usize,
    ) -> Self {
        let since = monotonic();
        let words = std::iter::once(NAME).chain(words.remaining().map(|word| word.bytes()));
        let ends = request.items.iter().scan(FIRST_KEY + request.keys.len(), |end, item| {
            *end += item.words;
            Some(*end)
        });
        let items = std::iter::once(FIRST_KEY + request.keys.len()).chain(ends).collect();
        Self { db, user, words: words.map(Box::from).collect(), items, since, held_up_first_by }
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        let words: usize = self.words.iter().map(|word| word.len() + size_of_val(word)).sum();
        let user = self.user.as_ref().map_or(0, User::bytes);
        words + size_of_val(&*self.items) + user
    }

    /// All of its words.
    pub fn words(&self) -> Vec<&[u8]> {
        self.words.iter().map(|word| &**word).collect()
    }

    /// The words of the same call on one of several keys; `None` of the only one.
    pub fn words_at(&self, key: usize) -> Option<Vec<&[u8]>> {
        let [_, _, _, ..] = *self.items else { return None };
        let (start, end) = (*self.items.get(key)?, *self.items.get(key + 1)?);
        let among = |range: Range<usize>| self.words.get(range).unwrap_or_default();
        let key = FIRST_KEY + key..FIRST_KEY + key + 1;
        let after = *self.items.last()?..self.words.len();
        let words = [key, start..end, after].into_iter().flat_map(among);
        Some([NAME, b"1"].into_iter().chain(words.map(|word| &**word)).collect())
    }

    /// The key that held it up first.
    pub fn held_up_first_at(&self) -> &[u8] {
        let Some(key) = self.words.get(FIRST_KEY + self.held_up_first_by) else {
            bug("held up by none of its keys")
        };
        key
    }
}
