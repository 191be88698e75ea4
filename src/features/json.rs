//! Values as one JSON document (RFC 8259): an array with an object for each
//! entity.

use super::number::is_json_number;

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
}

impl Document {
    /// An empty one, of objects with these fields.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, text: String::from("["), fields: 0, rows: 0 }
    }

    /// Begins the next object.
    pub fn begin(&mut self) {
        self.text.push_str(if self.rows == 0 { "{" } else { ",{" });
        self.rows += 1;
        self.fields = 0;
    }

    /// The next field of the object: text that is exactly a number as that very
    /// number, other text as a string, nothing as null. `None`, and nothing
    /// written, for text that is not UTF-8.
    pub fn push(&mut self, value: Option<&[u8]>) -> Option<()> {
        let written = match value {
            None => "null".to_owned(),
            Some(text) if is_json_number(text) => String::from_utf8_lossy(text).into_owned(),
            Some(text) => string(text)?,
        };
        if self.fields > 0 {
            self.text.push(',');
        }
        if let Some(name) = self.names.get(self.fields) {
            self.text.push_str(name);
        }
        self.text.push(':');
        self.text.push_str(&written);
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

    #[test]
    fn numbers_stay_as_written_and_everything_else_is_a_string() {
        let mut document =
            Document::new(["a", "\"b"].map(|name| string(name.as_bytes()).unwrap()).into());
        document.begin();
        document.push(Some(b"84.50")).unwrap();
        document.push(Some("DE\n\u{e9}".as_bytes())).unwrap();
        document.end();
        document.begin();
        document.push(None).unwrap();
        assert_eq!(document.push(Some(b"\xff")), None);
        document.push(Some(b"007")).unwrap();
        document.end();
        let text = document.finish();
        assert_eq!(text, "[{\"a\":84.50,\"\\\"b\":\"DE\\né\"},{\"a\":null,\"\\\"b\":\"007\"}]");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(Document::new(Vec::new()).finish(), "[]");
    }
}
