//! The body of a reply: a result, or what went wrong over there.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::message::envelope::{self, EnvelopeWriter};
use crate::message::json;
use crate::message::request::BodyError;

/// An error that happened in a server, as it travels: the form of oslo.messaging's serialised exceptions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Failure {
    /// The class of the exception or error, such as `NoSuchMethod`.
    pub class: String,
    /// The module that defines the class, such as `oslo_messaging.rpc.dispatcher`.
    pub module: String,
    /// The message for people.
    pub message: String,
    /// Lines of a traceback or of an error's chain of sources; may be empty.
    pub tb: Vec<String>,
    /// Positional arguments of the exception.
    pub args: Vec<Value>,
    /// Named arguments of the exception.
    pub kwargs: Map<String, Value>,
}

/// The module of the failures that a dispatcher itself raises, as in oslo.messaging.
pub const DISPATCHER_MODULE: &str = "oslo_messaging.rpc.dispatcher";

impl Failure {
    /// A failure of `class` in `module`.
    #[must_use]
    pub fn new(module: impl Into<String>, class: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            class: class.into(),
            module: module.into(),
            args: vec![Value::from(message.as_str())],
            message,
            ..Self::default()
        }
    }

    /// The same failure with lines that say where it came from.
    #[must_use]
    pub fn with_traceback(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.tb = lines.into_iter().collect();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

impl std::error::Error for Failure {}

/// What a handler came to.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Its result, as JSON text.
    Result(Box<RawValue>),
    /// Its error.
    Failure(Box<Failure>),
}

/// As it stands in the body. The failure is JSON text inside the JSON, as the original project writes it.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
struct Message<R> {
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    result: Option<R>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

const fn none<R>() -> Option<R> {
    None
}

impl<R: Serialize> Message<R> {
    fn encode(&self) -> Result<Vec<u8>, BodyError> {
        let mut sealing = EnvelopeWriter::default();
        json::write(self, &mut sealing).map_err(BodyError::Write)?;
        Ok(sealing.finish())
    }
}

impl Reply {
    /// A result.
    ///
    /// # Errors
    /// [`BodyError::Write`] when `value` has no JSON form.
    pub fn result(value: &(impl Serialize + ?Sized)) -> Result<Self, BodyError> {
        json::to_raw(value).map(Self::Result).map_err(BodyError::Write)
    }

    /// Whether this is a failure: the header's flag.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failure(_))
    }

    /// The body of the message.
    ///
    /// # Errors
    /// [`BodyError::Write`] when a part has no JSON form.
    pub fn encode(self) -> Result<Vec<u8>, BodyError> {
        match self {
            Self::Result(result) => Message { result: Some(result), failure: None }.encode(),
            Self::Failure(failure) => {
                let failure = serde_json::to_string(&failure).map_err(BodyError::Write)?;
                Message { result: None::<()>, failure: Some(failure) }.encode()
            }
        }
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// [`BodyError`], which says what is wrong. Never panics, whatever the bytes.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        Self::read(&envelope::open(body)?)
    }

    /// Reads the body of a message with a result of this type, as [`decode`](Self::decode) and [`typed`](Self::typed) do, without
    /// the text between them.
    ///
    /// # Errors
    /// [`BodyError`], which says what is wrong. Never panics, whatever the bytes.
    pub fn decode_typed<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Box<Failure>>, BodyError> {
        let text = envelope::open(body)?;
        if let Ok(Message { result: Some(value), failure: None }) = serde_json::from_str(&text) {
            return Ok(Ok(value));
        }
        // A failure, nothing, or something else than was expected, which is told where it stands in the result.
        match Self::read(&text)? {
            Self::Result(result) => Self::typed(&result).map(Ok),
            Self::Failure(failure) => Ok(Err(failure)),
        }
    }

    fn read(text: &str) -> Result<Self, BodyError> {
        let message: Message<Box<RawValue>> = serde_json::from_str(text).map_err(BodyError::Read)?;
        match message {
            Message { failure: Some(failure), .. } => {
                Ok(Self::Failure(serde_json::from_str(&failure).map_err(BodyError::Read)?))
            }
            // `null`, as a method without a result answers, is read as absent.
            Message { result, .. } => Ok(Self::Result(match result {
                Some(result) => result,
                None => serde_json::value::to_raw_value(&()).map_err(BodyError::Read)?,
            })),
        }
    }

    /// Reads a result's JSON text as a typed value.
    ///
    /// # Errors
    /// [`BodyError::Read`] when it is not of that type.
    pub fn typed<T: DeserializeOwned>(result: &RawValue) -> Result<T, BodyError> {
        serde_json::from_str(result.get()).map_err(BodyError::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_go_through_the_body_and_back() {
        for value in [Value::Null, Value::from(1), serde_json::json!({"a": ["\u{1f600}", 1.5]})] {
            let body = Reply::result(&value).unwrap().encode().unwrap();
            let Reply::Result(text) = Reply::decode(&body).unwrap() else { panic!("a failure") };
            assert_eq!(Reply::typed::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn failures_keep_class_module_message_traceback_and_arguments() {
        let mut failure = Failure::new("my.module", "Broken", "it broke").with_traceback(["line".to_owned()]);
        failure.kwargs.insert("code".to_owned(), Value::from(7));
        let body = Reply::Failure(Box::new(failure.clone())).encode().unwrap();
        let Reply::Failure(read) = Reply::decode(&body).unwrap() else { panic!("a result") };
        assert_eq!(*read, failure);
    }

    /// The same by way of the text: the slow way, which says what is right.
    fn by_way_of_text<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Box<Failure>>, BodyError> {
        match Reply::decode(body)? {
            Reply::Result(text) => Reply::typed(&text).map(Ok),
            Reply::Failure(failure) => Ok(Err(failure)),
        }
    }

    fn told<T: fmt::Debug>(read: Result<Result<T, Box<Failure>>, BodyError>) -> String {
        match read {
            Err(BodyError::Read(error)) => format!("cannot be read: {error}"),
            read => format!("{read:?}"),
        }
    }

    #[test]
    fn a_typed_result_is_read_as_by_way_of_its_text() {
        let failure = r#""{\"class\":\"E\",\"message\":\"m\"}""#;
        let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        let mut inner = Vec::new();
        for result in ["", "null", "7", "-7", "1e999", r#""x""#, r#""\ud800""#, r#"{"a":[1]}"#, "[1,2", " 5 ", &deep] {
            let result = if result.is_empty() { String::new() } else { format!("\"result\":{result}") };
            for failure in ["", "\"failure\":null", "\"failure\":7", &format!("\"failure\":{failure}")] {
                let separator = if result.is_empty() || failure.is_empty() { "" } else { "," };
                inner.push(format!("{{{result}{separator}{failure}}}"));
                inner.push(format!("{{{failure}{separator}{result}}}"));
                inner.push(format!("{{\"ending\":[true],{result}{separator}{failure}}}"));
                inner.push(format!("{{{result},{result}}}"));
            }
        }
        inner.extend(["7", "[]", r#"["x"]"#, "null", ""].map(str::to_owned));
        for text in inner {
            let body = envelope::seal(&text);
            assert_eq!(told(Reply::decode_typed::<Value>(&body)), told(by_way_of_text::<Value>(&body)), "{text}");
            assert_eq!(told(Reply::decode_typed::<u32>(&body)), told(by_way_of_text::<u32>(&body)), "{text}");
            assert_eq!(told(Reply::decode_typed::<()>(&body)), told(by_way_of_text::<()>(&body)), "{text}");
            let (typed, by_text) = (Reply::decode_typed::<Option<u8>>(&body), by_way_of_text::<Option<u8>>(&body));
            assert_eq!(told(typed), told(by_text), "{text}");
            let (typed, by_text) =
                (Reply::decode_typed::<Box<RawValue>>(&body), by_way_of_text::<Box<RawValue>>(&body));
            assert_eq!(told(typed), told(by_text), "{text}");
        }
    }

    #[test]
    fn a_result_is_written_as_its_text_is_sealed() {
        let raw = RawValue::from_string("[1,\n\t2 , \"\\n\"]".to_owned()).unwrap();
        let sealed = |result: &str| envelope::seal(&format!("{{\"result\":{result}}}"));
        assert_eq!(Reply::result(&raw).unwrap().encode().unwrap(), sealed(raw.get()));
        for value in [Value::Null, Value::from("a\"b\\c\n\u{1}é"), serde_json::json!({"k": [1.5, {"x": null}]})] {
            assert_eq!(Reply::result(&value).unwrap().encode().unwrap(), sealed(&value.to_string()));
        }
    }

    #[test]
    fn the_original_projects_reply_is_read() {
        let inner = r#"{"result": null, "failure": "{\"class\": \"ValueError\", \"module\": \"builtins\", \"message\": \"no\", \"tb\": [\"t\"], \"args\": [\"no\"], \"kwargs\": {}}", "ending": true}"#;
        let Reply::Failure(read) = Reply::decode(&envelope::seal(inner)).unwrap() else { panic!("a result") };
        assert_eq!((read.class.as_str(), read.message.as_str()), ("ValueError", "no"));
    }
}
