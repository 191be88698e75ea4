//! Values as one JSON document (RFC 8259): an array with an object for each
//! entity.

use super::number::is_json_number;
use super::value::{Printer, Value};

const NULL: &str = "null";

/// Text as JSON writes it; `None` unless it is UTF-8.
pub fn string(text: &[u8]) -> Option<String> {
    serde_json::to_string(std::str::from_utf8(text).ok()?).ok()
}

/// A document under construction.
pub struct Document {
    /// The names of the fields, as JSON writes them.
    names: Vec<String>,
    text: String,
    fields: usize,
    rows: usize,
    printer: Printer,
}

impl Document {
    /// An empty one, of objects with these fields.
    pub fn new(names: Vec<String>) -> Self {
        let text = String::from("[");
        Self { names, text, fields: 0, rows: 0, printer: Printer::default() }
    }

    /// Begins the next object.
    pub fn begin(&mut self) {
        self.text.push_str(if self.rows == 0 { "{" } else { ",{" });
        self.rows += 1;
        self.fields = 0;
    }

    /// The next field of the object: a number as itself, text that is exactly a
    /// number as that very number, other text as a string; null for nothing, NaN
    /// and the infinities. `None`, and nothing written, for text that is not UTF-8.
    pub fn push(&mut self, value: Option<Value>) -> Option<()> {
        let written = match value {
            Some(Value::Text(text)) if !is_json_number(text) => &string(text)?,
            Some(Value::Double(double)) if !double.is_finite() => NULL,
            Some(Value::Single(single)) if !single.is_finite() => NULL,
            Some(number) => std::str::from_utf8(number.print(&mut self.printer)).ok()?,
            None => NULL,
        };
        if self.fields > 0 {
            self.text.push(',');
        }
        if let Some(name) = self.names.get(self.fields) {
            self.text.push_str(name);
        }
        self.text.push(':');
        self.text.push_str(written);
        self.fields += 1;
        Some(())
    }

    /// Ends the object.
    pub fn end(&mut self) {
        self.text.push('}');
    }

    /// The document.
    pub fn finish(mut self) -> String {
        self.text.push(']');
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(names: &[&str]) -> Document {
        Document::new(names.iter().map(|name| string(name.as_bytes()).unwrap()).collect())
    }

    fn text(text: &[u8]) -> Option<Value<'_>> {
        Some(Value::Text(text))
    }

    #[test]
    fn numbers_stay_as_written_and_everything_else_is_a_string() {
        let mut document = document(&["a", "\"b"]);
        document.begin();
        document.push(text(b"84.50")).unwrap();
        document.push(text("DE\n\u{e9}".as_bytes())).unwrap();
        document.end();
        document.begin();
        document.push(None).unwrap();
        assert_eq!(document.push(text(b"\xff")), None);
        document.push(text(b"007")).unwrap();
        document.end();
        let text = document.finish();
        assert_eq!(text, "[{\"a\":84.50,\"\\\"b\":\"DE\\né\"},{\"a\":null,\"\\\"b\":\"007\"}]");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(Document::new(Vec::new()).finish(), "[]");
    }

    #[test]
    fn typed_numbers_are_printed_shortly_and_what_is_not_finite_is_null() {
        let mut document = document(&["a"]);
        for value in [
            Value::Integer(i64::MIN),
            Value::Single(0.1),
            Value::Double(0.1),
            Value::Double(-0.0),
            Value::Double(1e300),
            Value::Double(f64::NAN),
            Value::Single(f32::NEG_INFINITY),
        ] {
            document.begin();
            document.push(Some(value)).unwrap();
            document.end();
        }
        let text = document.finish();
        let values: Vec<std::collections::HashMap<String, serde_json::Value>> =
            serde_json::from_str(&text).unwrap();
        let values: Vec<_> = values.iter().map(|row| row["a"].to_string()).collect();
        let expected = ["-9223372036854775808", "0.1", "0.1", "-0.0", "1e+300", "null", "null"];
        assert_eq!(values, expected);
    }
}
