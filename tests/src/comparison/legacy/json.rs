//! JSON text as Python's `json.dumps` writes it: a space after `,` and `:`, and ASCII only.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() && c != '\x7f' {
                writer.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

/// The text of a value. Objects of `serde_json` have sorted keys, structures the order of their
/// fields.
pub(super) fn text(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    // These are only texts, numbers, lists and maps with text keys, which can always be written.
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Python)).expect("a value with a JSON form");
    String::from_utf8(bytes).expect("ASCII")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_as_python_writes_it() {
        // From `json.dumps({"a": [1, 2.5, None, True], "b": {}, "c":
        // 'x"\\\n\x01\x7fé€\U0001f600'})`
        let value = json!({"a": [1, 2.5, null, true], "b": {}, "c": "x\"\\\n\u{1}\u{7f}é€\u{1f600}"});
        let expected = r#"{"a": [1, 2.5, null, true], "b": {}, "c": "x\"\\\n\u0001\u007f\u00e9\u20ac\ud83d\ude00"}"#;
        assert_eq!(text(&value), expected);
    }
}
