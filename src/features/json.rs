//! Values as one JSON document (RFC 8259): an array with an object for each
//! entity.

use super::buffer::make_room;
use super::nested::Nested;
use super::number::is_json_number;
use super::value::{Printer, Value};
use crate::bug;
use std::io::{self, Write};
use std::ops::Range;

/// Why a document cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// A text is not UTF-8.
    NotText,
    /// It would be longer than it may be.
    TooLong,
}

/// Text as JSON writes it, in at most so many bytes.
pub fn string(text: &[u8], most: usize) -> Result<Vec<u8>, Unwritten> {
    let mut written = Bounded { bytes: Vec::new(), most };
    written.push_string(utf8(text)?)?;
    Ok(written.bytes)
}

fn utf8(text: &[u8]) -> Result<&str, Unwritten> {
    std::str::from_utf8(text).map_err(|_| Unwritten::NotText)
}

/// A text of no type as JSON writes it: the very number that it is, or a string.
pub fn text(text: &[u8], most: usize) -> Result<Vec<u8>, Unwritten> {
    if !is_json_number(text) {
        return string(text, most);
    }
    let mut written = Bounded { bytes: Vec::new(), most };
    written.push(text)?;
    Ok(written.bytes)
}

/// A document under construction.
pub struct Document<'n> {
    names: &'n Names,
    text: Bounded,
    fields: usize,
    entities: usize,
    printer: Printer,
}

/// What grows no longer than it may.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.push(more).map_err(|_| io::ErrorKind::FileTooLarge)?;
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Bounded {
    fn push(&mut self, more: &[u8]) -> Result<(), Unwritten> {
        self.make_room(more.len())?;
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn push_string(&mut self, text: &str) -> Result<(), Unwritten> {
        // Of what is text nothing can be wrong but its length.
        serde_json::to_writer(self, text).map_err(|_| Unwritten::TooLong)
    }

    fn make_room(&mut self, more: usize) -> Result<(), Unwritten> {
        if more > self.bytes.capacity() - self.bytes.len() {
            if more > self.most.saturating_sub(self.bytes.len()) {
                return Err(Unwritten::TooLong);
            }
            make_room(&mut self.bytes, more, self.most);
        }
        Ok(())
    }
}

/// The names of the fields of each object, as JSON writes them, a comma before and a colon
/// after each.
pub struct Names(Vec<Vec<u8>>);

impl Names {
    /// Those of [strings](string), for so many objects, which are to be at most so many bytes;
    /// `None` where the names alone are more.
    pub fn of(names: Vec<Vec<u8>>, entities: usize, most: usize) -> Option<Self> {
        // A colon, a digit and a comma go with each name.
        let object = names.iter().fold(2, |sum: usize, name| sum.saturating_add(name.len() + 3));
        let fits = object.saturating_mul(entities) <= most;
        let written = names.into_iter().map(|name| [b",", name.as_slice(), b":"].concat());
        fits.then(|| Self(written.collect()))
    }
}

impl<'n> Document<'n> {
    /// An empty one, of objects with these fields, to be of at most so many bytes.
    pub fn new(names: &'n Names, most: usize) -> Self {
        let text = Bounded { bytes: b"[".to_vec(), most };
        Self { names, text, fields: 0, entities: 0, printer: Printer::default() }
    }

    /// Begins the next object; returns where it does.
    pub fn begin(&mut self) -> Result<usize, Unwritten> {
        if self.entities > 0 {
            self.text.push(b",")?;
        }
        let start = self.text.bytes.len();
        self.text.push(b"{")?;
        self.entities += 1;
        self.fields = 0;
        Ok(start)
    }

    /// The next field of the object: a number as itself, a vector as an array of them, text that is exactly a
    /// number as that very number, other text and strings as a string; null for
    /// NaN and the infinities.
    pub fn push(&mut self, value: Value) -> Result<(), Unwritten> {
        if let Some(vector) = value.vector() {
            return self.push_array(Value::each(vector).map(Some), b"");
        }
        self.push_name()?;
        self.push_value(value)
    }

    /// The next field of the object, an array of what each place holds; of one that holds
    /// nothing what stands in for it, written already.
    pub fn push_array<'v>(
        &mut self,
        values: impl Iterator<Item = Option<Value<'v>>>,
        default: &[u8],
    ) -> Result<(), Unwritten> {
        self.push_name()?;
        self.text.push(b"[")?;
        let mut before: &[u8] = b"";
        for value in values {
            self.text.push(before)?;
            match value {
                Some(value) => self.push_value(value)?,
                None => self.text.push(default)?,
            }
            before = b",";
        }
        self.text.push(b"]")
    }

    fn push_value(&mut self, value: Value) -> Result<(), Unwritten> {
        match value {
            Value::Text(text) if !is_json_number(text) => self.text.push_string(utf8(text)?),
            Value::String(text) => self.text.push_string(utf8(text)?),
            Value::F64(double) if !double.is_finite() => self.text.push(b"null"),
            Value::F32(single) if !single.is_finite() => self.text.push(b"null"),
            number => self.text.push(number.print(&mut self.printer)),
        }
    }

    /// The next field of the object, lists as arrays and maps as objects, in which what is
    /// a number is a string as a key.
    pub fn push_nested(&mut self, nested: &Nested) -> Result<(), Unwritten> {
        self.push_name()?;
        self.push_within(nested)
    }

    fn push_within(&mut self, nested: &Nested) -> Result<(), Unwritten> {
        match nested {
            Nested::Null => self.text.push(b"null"),
            Nested::Number(number) => self.push_value(*number),
            Nested::Text(text) => self.push_value(Value::String(text)),
            Nested::List(items) => {
                self.text.push(b"[")?;
                let mut before: &[u8] = b"";
                for item in items {
                    self.text.push(before)?;
                    self.push_within(item)?;
                    before = b",";
                }
                self.text.push(b"]")
            }
            Nested::Map(pairs) => {
                self.text.push(b"{")?;
                let mut before: &[u8] = b"";
                for (key, value) in pairs {
                    self.text.push(before)?;
                    if let Nested::Number(number) = key {
                        let text = number.print(&mut self.printer);
                        [b"\"", text, b"\""].iter().try_for_each(|part| self.text.push(part))?;
                    } else {
                        self.push_within(key)?;
                    }
                    self.text.push(b":")?;
                    self.push_within(value)?;
                    before = b",";
                }
                self.text.push(b"}")
            }
        }
    }

    /// The next field of the object, written already.
    pub fn push_json(&mut self, json: &[u8]) -> Result<(), Unwritten> {
        self.push_name()?;
        self.text.push(json)
    }

    fn push_name(&mut self) -> Result<(), Unwritten> {
        let name = self.names.0.get(self.fields);
        // No comma before the first.
        let name = name.and_then(|name| name.get(usize::from(self.fields == 0)..));
        self.text.push(name.unwrap_or_else(|| bug("a field without a name")))?;
        self.fields += 1;
        Ok(())
    }

    /// Ends the object; returns where it stands.
    pub fn end(&mut self, start: usize) -> Result<Range<usize>, Unwritten> {
        self.text.push(b"}")?;
        Ok(start..self.text.bytes.len())
    }

    /// An object once more, by where it stands.
    pub fn repeat(&mut self, object: Range<usize>) -> Result<(), Unwritten> {
        self.text.push(b",")?;
        self.entities += 1;
        self.text.make_room(object.len())?;
        self.text.bytes.extend_from_within(object);
        Ok(())
    }

    /// The document.
    pub fn finish(mut self) -> Result<Vec<u8>, Unwritten> {
        self.text.push(b"]")?;
        Ok(self.text.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::dtype::{Dtype, Vector};
    use super::*;

    fn named(names: &[&str]) -> Names {
        let names = names.iter().map(|name| string(name.as_bytes(), 100).unwrap());
        Names::of(names.collect(), 1, 100).unwrap()
    }

    fn finished(document: Document) -> String {
        String::from_utf8(document.finish().unwrap()).unwrap()
    }

    #[test]
    fn numbers_stay_as_written_and_everything_else_is_a_string() {
        let names = named(&["a", "\"b"]);
        let mut document = Document::new(&names, 1_000);
        let start = document.begin().unwrap();
        document.push(Value::Text(b"84.50")).unwrap();
        document.push(Value::Text("DE\n\u{e9}".as_bytes())).unwrap();
        let first = document.end(start).unwrap();
        let start = document.begin().unwrap();
        document.push_json(b"null").unwrap();
        document.push(Value::Text(b"007")).unwrap();
        document.end(start).unwrap();
        let start = document.begin().unwrap();
        document.push(Value::String(b"84.50")).unwrap();
        document.push(Value::String(b"12")).unwrap();
        document.end(start).unwrap();
        document.repeat(first).unwrap();
        let text = finished(document);
        assert_eq!(
            text,
            "[{\"a\":84.50,\"\\\"b\":\"DE\\né\"},{\"a\":null,\"\\\"b\":\"007\"},\
             {\"a\":\"84.50\",\"\\\"b\":\"12\"},{\"a\":84.50,\"\\\"b\":\"DE\\né\"}]"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(finished(Document::new(&named(&[]), 2)), "[]");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for value in [Value::Text(b"\xff"), Value::String(b"\xff")] {
            let names = named(&["a"]);
            let mut document = Document::new(&names, 1_000);
            document.begin().unwrap();
            assert_eq!(document.push(value), Err(Unwritten::NotText));
        }
    }

    #[test]
    fn vectors_and_items_are_arrays() {
        let names = named(&["a"]);
        let mut document = Document::new(&names, 1_000);
        let vector = [1.5f32, f32::NAN].map(f32::to_le_bytes);
        let vector = Vector::new(Dtype::F32, vector.as_flattened()).unwrap();
        let start = document.begin().unwrap();
        document.push(Value::from(vector)).unwrap();
        document.end(start).unwrap();
        let items = [Some(Value::Text(b"a")), Some(Value::I64(7)), None];
        let start = document.begin().unwrap();
        document.push_array(items.into_iter(), b"0").unwrap();
        document.end(start).unwrap();
        assert_eq!(finished(document), "[{\"a\":[1.5,null]},{\"a\":[\"a\",7,0]}]");
    }

    #[test]
    fn what_is_escaped_is_no_longer_than_it_may_be() {
        assert_eq!(string(b"\0\"x", 11), Ok(b"\"\\u0000\\\"x\"".to_vec()));
        for most in 0..11 {
            assert_eq!(string(b"\0\"x", most), Err(Unwritten::TooLong), "{most}");
        }
        assert_eq!(string(&[b'\0'; 1 << 20], 100), Err(Unwritten::TooLong));
        assert_eq!(text(b"\xff", 100), Err(Unwritten::NotText));
        assert_eq!(text(b"84.50", 5), Ok(b"84.50".to_vec()));
        assert_eq!(text(b"84.50", 4), Err(Unwritten::TooLong));
    }

    #[test]
    fn a_document_is_no_longer_than_it_may_be() {
        let write = |most: usize| {
            let names = named(&["a"]);
            let mut document = Document::new(&names, most);
            let start = document.begin()?;
            document.push(Value::Text(b"\0\0\0"))?;
            let object = document.end(start)?;
            document.repeat(object)?;
            document.finish()
        };
        let whole = write(1_000).unwrap();
        assert_eq!(write(whole.len()), Ok(whole.clone()));
        for most in 20..whole.len() {
            assert_eq!(write(most), Err(Unwritten::TooLong), "{most}");
        }
        let name = vec![b"\"a\"".to_vec()];
        assert!(Names::of(name.clone(), 10, 79).is_none(), "the names alone are more");
        assert!(Names::of(name, 10, 80).is_some());
    }

    #[test]
    fn typed_numbers_are_printed_shortly_and_what_is_not_finite_is_null() {
        let names = named(&["a"]);
        let mut document = Document::new(&names, 1_000);
        for value in [
            Value::I64(i64::MIN),
            Value::F32(0.1),
            Value::F64(0.1),
            Value::F64(-0.0),
            Value::F64(1e300),
            Value::F64(f64::NAN),
            Value::F32(f32::NEG_INFINITY),
        ] {
            let start = document.begin().unwrap();
            document.push(value).unwrap();
            document.end(start).unwrap();
        }
        let text = finished(document);
        let values: Vec<std::collections::HashMap<String, serde_json::Value>> =
            serde_json::from_str(&text).unwrap();
        let values: Vec<_> = values.iter().map(|row| row["a"].to_string()).collect();
        let expected = ["-9223372036854775808", "0.1", "0.1", "-0.0", "1e+300", "null", "null"];
        assert_eq!(values, expected);
    }
}
