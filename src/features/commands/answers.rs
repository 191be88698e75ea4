//! How values are answered one by one, and how long replies may be.

use crate::bug;
use crate::features::config::MAX_REPLY_BYTES;
use crate::features::found::{Found, Items};
use crate::features::nested::Nested;
use crate::features::value::{Printer, Value, widen};
use crate::server::{Call, Error, Reply, refuse};

/// What a value counts for in a reply beside its text.
pub const VALUE_BYTES: usize = 32;

/// What an event time counts for in a reply.
pub const TIME_BYTES: usize = 16;

/// What answers values one by one: those of rows as what they are in RESP3, which
/// has integers and doubles, and as text in RESP2.
pub struct Answers<'a> {
    reply: Reply<'a>,
    typed: bool,
    printer: Printer,
}

impl<'a> Answers<'a> {
    /// What answers a call.
    pub fn of(call: &Call<'a>) -> Self {
        Self { reply: call.reply, typed: call.speaks_resp3(), printer: Printer::default() }
    }

    /// Answers what was found, or what stands in for it.
    #[inline]
    pub fn reply(&mut self, found: Found, default: Option<&[u8]>) {
        match found {
            Found::Value(value) => self.value(value),
            found => self.other(found, default),
        }
    }

    /// Answers what is no single value.
    #[inline(never)]
    fn other(&mut self, found: Found, default: Option<&[u8]>) {
        match (found, default) {
            (Found::Value(_), _) => bug("a value that was not answered at once"),
            (Found::Packed(bytes), _) => self.reply.bytes(bytes),
            (Found::Items(items), default) => self.items(items, default),
            (Found::Nested(nested), _) => self.nested(nested),
            (_, Some(default)) => self.reply.bytes(default),
            (_, None) => self.reply.null(),
        }
    }

    fn items(&mut self, items: Items, default: Option<&[u8]>) {
        self.reply.array(items.places());
        for item in items.each() {
            let found = item.map_or(Found::Nothing, Found::Value);
            self.reply(found, default);
        }
    }

    fn nested(&mut self, nested: &Nested) {
        match nested {
            Nested::Null => self.reply.null(),
            Nested::Number(number) => self.value(*number),
            Nested::Text(text) => self.reply.bytes(text),
            Nested::List(items) => {
                self.reply.array(items.len());
                items.iter().for_each(|item| self.nested(item));
            }
            Nested::Map(pairs) => {
                self.reply.map(pairs.len());
                for (key, value) in pairs {
                    self.nested(key);
                    self.nested(value);
                }
            }
        }
    }

    /// Answers a value.
    #[inline]
    pub fn value(&mut self, value: Value) {
        match value {
            Value::I64(integer) if self.typed => self.reply.integer(integer),
            Value::F32(single) if self.typed => self.reply.double(widen(single)),
            Value::F64(double) if self.typed => self.reply.double(double),
            value => self.reply.bytes(value.print(&mut self.printer)),
        }
    }
}

/// What a reply is reckoned to take for what was found: of a value beside its text.
pub fn reply_bytes(found: Found, default: Option<&[u8]>) -> usize {
    match found {
        Found::Value(value) => VALUE_BYTES + value.bytes().map_or(0, <[u8]>::len),
        Found::Packed(bytes) => VALUE_BYTES + bytes.len(),
        Found::Items(items) => {
            let left = items.places().saturating_sub(items.held());
            let texts = items.bytes() + left.saturating_mul(default.map_or(0, <[u8]>::len));
            (1 + items.places()).saturating_mul(VALUE_BYTES).saturating_add(texts)
        }
        Found::Nested(nested) => nested.bytes(),
        Found::TooOld | Found::Misfit | Found::Spoilt | Found::Nothing => {
            VALUE_BYTES + default.map_or(0, <[u8]>::len)
        }
    }
}

/// How long a reply may be.
pub fn most_bytes() -> usize {
    usize::try_from(MAX_REPLY_BYTES.get_unsigned()).unwrap_or(usize::MAX)
}

/// Refuses a reply of so many bytes where that is more than it may be.
pub fn check(bytes: usize) -> Result<(), Error> {
    if bytes > most_bytes() { Err(too_long()) } else { Ok(()) }
}

/// Why a reply is refused.
#[cold]
pub fn too_long() -> Error {
    let most = MAX_REPLY_BYTES.get_unsigned();
    refuse(format!(
        "the reply would be longer than {most} bytes (ml.features-max-reply-bytes): \
         ask for fewer keys or fields at a time"
    ))
}
