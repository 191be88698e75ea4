//! A change of a semantic cache: decided once, on the primary, from what a key holds;
//! applied there and on replicas by the same code, which decides nothing.

use super::vector::OwnedCode;
use crate::id::Id;
use crate::lifetime::Lifetime;

/// What a write changes in a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change<'a> {
    /// The entries that go.
    pub dropped: Vec<Id>,
    /// The entry that gets another threshold of its own, in millionths.
    pub threshold: Option<(Id, u32)>,
    /// What is put in.
    pub put: Option<Put<'a>>,
    /// A further vector that leads to an entry.
    pub alias: Option<(Id, OwnedCode)>,
}

/// An entry that is put in; in place of the one of its id, if there is one, whose further
/// vectors and threshold stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Put<'a> {
    /// What it is named by.
    pub id: Id,
    /// The version of the model that answered.
    pub version: &'a [u8],
    /// What made its vector, if its caller says.
    pub embedder: Option<&'a [u8]>,
    /// Its vector.
    pub code: OwnedCode,
    /// How long it holds.
    pub lifetime: Lifetime,
    /// The answer.
    pub value: &'a [u8],
    /// What was asked, if its caller says.
    pub prompt: Option<&'a [u8]>,
    /// What the question is told by, if its caller says.
    pub digest: Option<&'a [u8]>,
}
