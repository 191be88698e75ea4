//! Values within values: lists and maps of them, as Feast keeps some features.

use super::value::Value;

/// A value with others in it, or one of these.
#[derive(Clone, Debug, PartialEq)]
pub enum Nested {
    /// None.
    Null,
    /// A number.
    Number(Value<'static>),
    /// Text, or any bytes.
    Text(Vec<u8>),
    /// Several, in order.
    List(Vec<Nested>),
    /// Names and what they stand for, in the order in which they were written.
    Map(Vec<(Nested, Nested)>),
}

/// What each value takes beside its text, in memory as in a reply.
const EACH: usize = 32;
const _: () = assert!(size_of::<Nested>() <= EACH);

impl Nested {
    /// What it is reckoned to take: 32 bytes for each value, and the texts.
    pub fn bytes(&self) -> usize {
        EACH + match self {
            Self::Null | Self::Number(_) => 0,
            Self::Text(text) => text.len(),
            Self::List(items) => items.iter().map(Self::bytes).sum(),
            Self::Map(pairs) => pairs.iter().map(|(key, value)| key.bytes() + value.bytes()).sum(),
        }
    }
}
