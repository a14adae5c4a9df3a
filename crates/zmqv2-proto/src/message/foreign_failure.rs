//! Reads failures of peers in Python, whose JSON may have what serde_json refuses: lone surrogates
//! (file names that are not UTF-8), numbers like `1e999`, and arguments of any depth.
//!
//! The caller is to learn of the error itself, so what cannot be kept is replaced.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Failure;

/// The parts of a failure, unread.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Parts<'a> {
    #[serde(borrow)]
    class: Option<&'a RawValue>,
    #[serde(borrow)]
    module: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    tb: Vec<&'a RawValue>,
    #[serde(borrow)]
    args: Vec<&'a RawValue>,
    #[serde(borrow)]
    kwargs: Option<&'a RawValue>,
}

/// Reads a failure from its JSON text.
///
/// # Errors
/// It is no failure, also if its parts are not looked at.
pub(super) fn read(text: &str) -> serde_json::Result<Failure> {
    serde_json::from_str(text).or_else(|error| {
        let parts: Parts<'_> = serde_json::from_str(text).map_err(|_| error)?;
        let string = |part: Option<&RawValue>| part.map(replaced).transpose().map(Option::unwrap_or_default);
        let kwargs = parts.kwargs.and_then(|kwargs| serde_json::from_str::<Map<String, Value>>(kwargs.get()).ok());
        Ok(Failure {
            class: string(parts.class)?,
            module: string(parts.module)?,
            message: string(parts.message)?,
            tb: parts.tb.into_iter().map(replaced).collect::<Result<_, _>>()?,
            args: parts.args.into_iter().map(argument).collect(),
            kwargs: kwargs.unwrap_or_default(),
        })
    })
}

/// An argument, or its JSON text if it cannot be read.
fn argument(part: &RawValue) -> Value {
    serde_json::from_str(part.get())
        .or_else(|_| replaced(part).map(Value::String))
        .unwrap_or_else(|_| Value::from(part.get()))
}

/// A string, in which each lone surrogate is replaced by U+FFFD.
fn replaced(part: &RawValue) -> serde_json::Result<String> {
    serde_json::from_str(part.get()).or_else(|_| serde_json::from_str(&without_lone_surrogates(part.get())))
}

fn without_lone_surrogates(json: &str) -> String {
    let mut written = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        written.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => &rest[..12],
            (Some(0xd800..=0xdfff), _) => {
                written.push('\u{fffd}');
                rest = &rest[6..];
                continue;
            }
            // Another escape has two bytes; the rest of one with four digits is plain text.
            _ => &rest[..rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end)],
        };
        written.push_str(escape);
        rest = &rest[escape.len()..];
    }
    written + rest
}

/// The UTF-16 unit of an escape like `\ud83d` at the start of `text`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_replaced_and_the_rest_is_read() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let text = format!(
            r#"{{"class": "OSError", "module": "builtins", "message": "no file \"\udcff\ud83d\ude00\\ud800\u00e9",
                "tb": ["line\ud800\n"], "args": [2, "\udcff", 1e999, {deep}, 123456789012345678901234567890],
                "kwargs": {{"limit": 1e999}}, "unknown": "\udfff"}}"#
        );
        let failure = read(&text).unwrap();
        assert_eq!((failure.class.as_str(), failure.module.as_str()), ("OSError", "builtins"));
        assert_eq!(failure.message, "no file \"\u{fffd}\u{1f600}\\ud800é");
        assert_eq!(failure.tb, ["line\u{fffd}\n"]);
        assert_eq!(failure.args[..4], [Value::from(2), "\u{fffd}".into(), "1e999".into(), deep.into()]);
        assert!(failure.args[4].is_number() && failure.kwargs.is_empty());
    }

    #[test]
    fn a_failure_that_can_be_read_is_read_as_it_is() {
        let failure = Failure::new("m", "C", "text \\ud800");
        assert_eq!(read(&serde_json::to_string(&failure).unwrap()).unwrap(), failure);
        assert_eq!(read("{}").unwrap(), Failure::default());
        for text in ["", "7", "[1", r#"{"class": 7}"#, r#"{"args": "\ud800"}"#, r#"{"class": "\ud8"}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
