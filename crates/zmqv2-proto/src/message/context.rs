//! Values that travel with every request and notification of a caller.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess};
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::message::json;
use crate::message::key::ReceivedKey;
use crate::wire::MessageId;

/// The prefix of context values in a message, as in oslo.messaging.
const PREFIX: &str = "_context_";
pub(crate) const UNIQUE_ID: &str = "_unique_id";

/// Values that travel with every request of a caller, such as a request id or a user.
///
/// Each value is JSON text. Text that was received is passed on byte for byte, even if it has no
/// form in Rust, such as `1e999` or `"\ud800"` of a peer in Python. So are keys.
#[derive(Clone, Default)]
pub struct RequestContext(Vec<(Key, Entry)>);

/// The JSON text of a value, or why there is none.
type Entry = Result<Box<RawValue>, String>;

impl RequestContext {
    /// A context without values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same context with one more value, in place of an earlier one of that key.
    ///
    /// A value without a JSON form, such as NaN, is an error when the context is sent. `json!` and
    /// `Value::from` have already made `null` of NaN; give the number itself to notice it.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Serialize) -> Self {
        let (key, entry) = (key.into(), json::to_raw(&value).map_err(|error| error.to_string()));
        self.0.retain(|(known, _)| known.name != key);
        self.0.push((Key { name: key, raw: None }, entry));
        self
    }

    /// The value of `key`. `None` when there is none, or when the text that was received has no form
    /// in Rust; [`text`](Self::text) has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Value> {
        self.read(key)?.ok()
    }

    /// The value of `key` as a type.
    ///
    /// # Errors
    /// The JSON error when the value is not of that type.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Option<Result<T, serde_json::Error>> {
        Some(serde_json::from_str(self.text(key)?.get()))
    }

    /// The JSON text of the value of `key`, as it was received. The last one counts if a peer has
    /// sent several.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&RawValue> {
        self.iter().filter(|(known, _)| *known == key).last().map(|(_, text)| text)
    }

    /// All values as JSON text, in the order they were written or received. A lone surrogate in a
    /// key is shown as U+FFFD.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().filter_map(|(key, entry)| Some((key.name.as_str(), &**entry.as_ref().ok()?)))
    }

    /// Whether [`write_with`](Self::write_with) writes every key as it came.
    pub(crate) fn has_plain_keys(&self) -> bool {
        self.0.iter().all(|(key, _)| key.raw.is_none())
    }

    /// Adds the context to `head`, the JSON text of a message without it. `serde_json` cannot write
    /// a key as it came.
    pub(crate) fn append_to(&self, head: &RawValue) -> Result<String, serde_json::Error> {
        let mut text = head.get().to_owned();
        text.pop();
        for (key, entry) in &self.0 {
            let value = text_of(&key.name, entry)?.get();
            match &key.raw {
                Some(raw) => text.extend([",", raw, ":", value]),
                None => text.extend([",", &serde_json::to_string(&Prefixed(&key.name))?, ":", value]),
            }
        }
        text.push('}');
        Ok(text)
    }

    /// Writes the last fields of a message: its id and the context.
    pub(crate) fn write_with<M: SerializeMap>(&self, id: Option<MessageId>, mut message: M) -> Result<M::Ok, M::Error> {
        if let Some(id) = &id {
            message.serialize_entry(UNIQUE_ID, id)?;
        }
        for (key, entry) in &self.0 {
            message.serialize_entry(&Prefixed(&key.name), text_of(&key.name, entry)?)?;
        }
        message.end()
    }

    /// Reads the value of `key` if it belongs to a context. Skips the value of any other key.
    pub(crate) fn read_or_skip<'de, A: MapAccess<'de>>(
        &mut self,
        key: &ReceivedKey<'de>,
        message: &mut A,
    ) -> Result<(), A::Error> {
        let text = key.text();
        let Some(name) = text.strip_prefix(PREFIX) else {
            message.next_value::<IgnoredAny>()?;
            return Ok(());
        };
        let raw = key.is_escaped().then(|| key.raw().into());
        self.0.push((Key { name: name.to_owned(), raw }, Ok(message.next_value()?)));
        Ok(())
    }
}

/// The key of a value.
#[derive(Clone)]
struct Key {
    name: String,
    /// The JSON text of the key with its prefix, if it was received with escapes.
    raw: Option<Box<str>>,
}

fn text_of<'a, E: Error>(key: &str, entry: &'a Entry) -> Result<&'a RawValue, E> {
    entry.as_deref().map_err(|why| E::custom(format_args!("context value {key:?}: {why}")))
}

/// The same keys and the same texts, in the same order.
impl PartialEq for RequestContext {
    fn eq(&self, other: &Self) -> bool {
        let text = |entry: &Entry| entry.as_ref().map(|text| text.get().to_owned()).map_err(Clone::clone);
        let key = |key: &Key| key.raw.clone().unwrap_or_else(|| key.name.as_str().into());
        let same =
            |one: &(Key, Entry), other: &(Key, Entry)| key(&one.0) == key(&other.0) && text(&one.1) == text(&other.1);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, other)| same(one, other))
    }
}

impl fmt::Debug for RequestContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, text)| (key, text.get()))).finish()
    }
}

/// An object of the values, without the prefix that they have in messages.
impl Serialize for RequestContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, entry) in &self.0 {
            map.serialize_entry(&key.name, text_of(&key.name, entry)?)?;
        }
        map.end()
    }
}

/// A key with its prefix.
struct Prefixed<'a>(&'a str);

impl Serialize for Prefixed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{PREFIX}{}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::envelope;
    use crate::message::{Notification, Priority, Request};

    /// Texts that Python writes and reads, most of them without a form in Rust.
    fn foreign() -> Vec<String> {
        let mut texts: Vec<String> =
            [r#""\ud800""#, r#"{"\udfff": 1}"#, "1e999", "-0.0", "123456789012345678901234567890", "1.10", "1E+2"]
                .map(str::to_owned)
                .to_vec();
        texts.push(r#"{"a": 1, "a" : [2,  3]}"#.to_owned());
        texts.push(format!("{}1{}", "[".repeat(200), "]".repeat(200)));
        texts.push(format!("\"{}\"", "x\\u00e9".repeat(100_000)));
        texts
    }

    #[test]
    fn a_foreign_context_is_passed_on_as_it_came() {
        let texts = foreign();
        let fields: String = texts.iter().enumerate().map(|(n, text)| format!(r#","_context_k{n}": {text}"#)).collect();
        let body =
            envelope::seal(&format!(r#"{{"method":"m","args":{{}},"_context_same":1{fields},"_context_same":2}}"#));
        let context = Request::decode(&body).unwrap().context;
        let request = Request::new("next".parse().unwrap(), &()).unwrap().with_context(context.clone());
        let mut notification = Notification::new("p", "e", Priority::Info, &()).unwrap();
        notification.context = context.clone();
        let passed_on = Request::decode(&request.encode().unwrap()).unwrap().context;
        let told = Notification::decode(&notification.encode().unwrap()).unwrap().context;
        for read in [&context, &passed_on, &told] {
            for (n, text) in texts.iter().enumerate() {
                assert_eq!(read.text(&format!("k{n}")).unwrap().get(), text);
            }
            assert_eq!(read.get("same"), Some(Value::from(2)), "the last one counts, as in Python");
            assert_eq!(read.iter().count(), texts.len() + 2);
            assert_eq!((read.get("k0"), read.read::<f64>("k3").unwrap().unwrap()), (None, -0.0));
            assert_eq!(read, &context);
        }
        assert!(serde_json::to_string(&context).unwrap().starts_with(r#"{"same":1,"k0":"\ud800""#));
    }

    #[test]
    fn a_context_value_without_a_json_form_is_an_error_that_names_it() {
        let context = RequestContext::new().with("user", "ann").with("load", [1.0, f64::NAN]);
        let request = Request::new("m".parse().unwrap(), &()).unwrap().with_context(context.clone());
        let source = |error: &dyn std::error::Error| error.source().map(ToString::to_string).unwrap_or_default();
        let told = "context value \"load\": NaN at [1] has no JSON form";
        assert_eq!(source(&request.encode().unwrap_err()), told);
        let mut notification = Notification::new("p", "e", Priority::Info, &()).unwrap();
        notification.context = context;
        assert_eq!(source(&notification.encode().unwrap_err()), told);
        let arguments = Request::new("m".parse().unwrap(), &(1, f32::INFINITY)).unwrap_err();
        assert_eq!(source(&arguments), "inf at [1] has no JSON form");
    }

    #[test]
    fn a_foreign_key_is_passed_on_as_it_came() {
        let keys =
            [r"\ud800", r"x\udFFFy", r"\u0061", "", r"\u0000", r#"\/\\\""#, "\u{1f600}", r"\ud83d\ude00", "plain"];
        let fields: String = keys.iter().enumerate().map(|(n, key)| format!(r#","_context_{key}":{n}"#)).collect();
        let fields = fields + r#","\u005fcontext_\ud801":[9],"\ud802":1"#;
        let context = Request::decode(&envelope::seal(&format!(r#"{{"method":"m"{fields}}}"#))).unwrap().context;
        let request = Request::new("next".parse().unwrap(), &()).unwrap().with_context(context.clone());
        let written = envelope::open(&request.encode().unwrap()).unwrap().into_owned();
        let passed = fields.replace(r#","\ud802":1"#, "");
        assert_eq!(written, format!(r#"{{"method":"next","args":null{passed}}}"#));
        let mut notification = Notification::new("p", "e", Priority::Info, &()).unwrap();
        notification.context = context.clone();
        let body = notification.encode().unwrap();
        assert!(envelope::open(&body).unwrap().ends_with(&format!("{passed}}}")));
        assert_eq!(Notification::decode(&body).unwrap().context, context);
        let value = |key: &str| context.read::<usize>(key).map(Result::ok);
        assert_eq!(
            (value("a"), value(""), value("\0"), value("/\\\"")),
            (Some(Some(2)), Some(Some(3)), Some(Some(4)), Some(Some(5)))
        );
        assert_eq!((value("\u{fffd}"), value("x\u{fffd}y")), (Some(None), Some(Some(1))), "the last one counts");
        assert_eq!(serde_json::to_value(&context).unwrap()["plain"], 8);
        let nan = context.with("nan", f64::NAN);
        let refused = Request::new("m".parse().unwrap(), &()).unwrap().with_context(nan).encode().unwrap_err();
        assert!(format!("{refused:?}").contains("NaN has no JSON form"), "{refused:?}");
    }

    #[test]
    fn a_later_value_replaces_an_earlier_one() {
        let context = RequestContext::new().with("a", 1).with("b", "x").with("a", 2);
        assert_eq!((context.get("a"), context.iter().count()), (Some(2.into()), 2));
    }
}
