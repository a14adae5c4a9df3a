//! The body of a reply: a result or a failure.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::message::body::{self, BodyError};
use crate::message::foreign_failure;

/// An error in a server, in the form of a serialised exception of oslo.messaging.
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
    /// Lines of a traceback, or of the sources of an error. May be empty.
    pub tb: Vec<String>,
    /// Positional arguments of the exception. `json!` and `Value::from` make `null` of NaN;
    /// [`with_args`](Self::with_args) refuses it.
    pub args: Vec<Value>,
    /// Named arguments of the exception.
    pub kwargs: Map<String, Value>,
}

/// The module of the failures of a dispatcher, as in oslo.messaging.
pub const DISPATCHER_MODULE: &str = "oslo_messaging.rpc.dispatcher";

/// The module of the failures that a server of zmqv2 raises, other than the dispatcher's.
#[doc(hidden)]
pub const SERVER_MODULE: &str = "zmqv2.server";

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

    /// The failure that carries `error`: its type is the class, its text the message, its sources the
    /// traceback.
    #[must_use]
    pub fn of<E: std::error::Error + ?Sized>(error: &E) -> Self {
        let path = std::any::type_name::<E>();
        // `a::b::C<d::E>` is class `C<d::E>` in module `a::b`.
        let name = path.split('<').next().unwrap_or(path);
        let (module, class) = name.rsplit_once("::").unwrap_or(("", name));
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self::new(module, class, error.to_string()).with_traceback(causes.map(|cause| format!("caused by: {cause}")))
    }

    /// The same failure with these positional arguments, a list or tuple.
    ///
    /// # Errors
    /// [`BodyError::Write`] when `args` has no JSON form, such as NaN. [`BodyError::Read`] when it is
    /// no list.
    pub fn with_args(mut self, args: &impl Serialize) -> Result<Self, BodyError> {
        self.args = serde_json::from_str(body::json_text(args)?.get()).map_err(BodyError::Read)?;
        Ok(self)
    }

    /// The same failure with a traceback.
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

/// The result or the error of a handler.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// The result, as JSON text.
    Result(Box<RawValue>),
    /// The error. In the body it is JSON text inside the JSON, as in oslo.messaging.
    #[serde(serialize_with = "failure_text")]
    Failure(Box<Failure>),
}

fn failure_text<S: Serializer>(failure: &Failure, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&serde_json::to_string(failure).map_err(S::Error::custom)?)
}

/// A reply for reading. Other drivers write both fields, one of them as `null`.
#[derive(Deserialize)]
struct Message<R> {
    result: Option<R>,
    failure: Option<String>,
}

impl Reply {
    /// The body of the message.
    ///
    /// # Errors
    /// [`BodyError::Write`] when a part has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        body::encode(self)
    }

    /// Reads the body of a message: a result of type `T`, or the failure. A missing result is
    /// `null`.
    ///
    /// # Errors
    /// [`BodyError`]. No bytes make it panic.
    pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Box<Failure>>, BodyError> {
        let Message { result, failure } = body::decode(body)?;
        let read = match failure {
            Some(failure) => foreign_failure::read(&failure).map(|failure| Err(Box::new(failure))),
            None => result.map_or_else(|| serde_json::from_str("null"), Ok).map(Ok),
        };
        read.map_err(BodyError::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::envelope;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn body(reply: &Reply) -> Vec<u8> {
        reply.encode().unwrap()
    }

    #[test]
    fn results_go_through_the_body_and_back() {
        for value in [Value::Null, Value::from(1), serde_json::json!({"a": ["\u{1f600}", 1.5]})] {
            let body = body(&Reply::Result(body::json_text(&value).unwrap()));
            assert_eq!(Reply::decode::<Value>(&body).unwrap().unwrap(), value);
        }
    }

    #[test]
    fn failures_keep_class_module_message_traceback_and_arguments() {
        let mut failure = Failure::new("my.module", "Broken", "it broke").with_traceback(["line".to_owned()]);
        failure.kwargs.insert("code".to_owned(), Value::from(7));
        let body = body(&Reply::Failure(Box::new(failure.clone())));
        let text = serde_json::to_string(&serde_json::to_string(&failure).unwrap()).unwrap();
        assert_eq!(body, envelope::seal(&format!("{{\"failure\":{text}}}")));
        assert_eq!(*Reply::decode::<u32>(&body).unwrap().unwrap_err(), failure);
    }

    /// Decodes in two steps: the reply first, then the text of its result.
    fn in_two_steps<T: DeserializeOwned>(body: &[u8]) -> Result<Result<T, Box<Failure>>, BodyError> {
        Ok(match Reply::decode::<Box<RawValue>>(body)? {
            Ok(text) => Ok(serde_json::from_str(text.get()).map_err(BodyError::Read)?),
            Err(failure) => Err(failure),
        })
    }

    fn shown<T: fmt::Debug>(read: Result<Result<T, Box<Failure>>, BodyError>) -> String {
        match read {
            Err(BodyError::Read(_)) => "cannot be read".to_owned(),
            read => format!("{read:?}"),
        }
    }

    fn compare<T: DeserializeOwned + fmt::Debug>(text: &str) {
        let body = envelope::seal(text);
        assert_eq!(shown(Reply::decode::<T>(&body)), shown(in_two_steps::<T>(&body)), "{text}");
    }

    #[test]
    fn a_typed_result_is_the_value_of_its_json_text() {
        let failure = r#""{\"class\":\"E\",\"message\":\"m\"}""#;
        let deep = format!("{}1{}", "[".repeat(126), "]".repeat(126));
        let mut inner = Vec::new();
        for result in ["", "null", "7", "-7", "1e999", r#""x""#, r#""\ud800""#, r#"{"a":[1]}"#, "[1,2", " 5 ", &deep] {
            let result = if result.is_empty() { String::new() } else { format!("\"result\":{result}") };
            for failure in ["", "\"failure\":null", "\"failure\":7"] {
                let separator = if result.is_empty() || failure.is_empty() { "" } else { "," };
                inner.push(format!("{{{result}{separator}{failure}}}"));
                inner.push(format!("{{{failure}{separator}{result}}}"));
                inner.push(format!("{{\"ending\":[true],{result}{separator}{failure}}}"));
                inner.push(format!("{{{result},{result}}}"));
            }
        }
        for result in ["", "\"result\":null,"] {
            inner.push(format!("{{{result}\"failure\":{failure}}}"));
            inner.push(format!("{{\"failure\":{failure},{result}\"ending\":true}}"));
        }
        inner.extend(["7", "[]", r#"["x"]"#, "null", ""].map(str::to_owned));
        for text in inner {
            compare::<Value>(&text);
            compare::<u32>(&text);
            compare::<()>(&text);
            compare::<Option<u8>>(&text);
            compare::<Box<RawValue>>(&text);
        }
        assert!(Reply::decode::<()>(&envelope::seal("{}")).unwrap().is_ok());
        assert!(Reply::decode::<u32>(&envelope::seal(&format!("{{\"failure\":{failure}}}"))).unwrap().is_err());
    }

    #[test]
    fn a_result_is_written_as_its_text_is_sealed() {
        let raw = raw("[1,\n\t2 , \"\\n\"]");
        let sealed = |result: &str| envelope::seal(&format!("{{\"result\":{result}}}"));
        assert_eq!(body(&Reply::Result(body::json_text(&raw).unwrap())), sealed(raw.get()));
        for value in [Value::Null, Value::from("a\"b\\c\n\u{1}é"), serde_json::json!({"k": [1.5, {"x": null}]})] {
            assert_eq!(body(&Reply::Result(body::json_text(&value).unwrap())), sealed(&value.to_string()));
        }
    }

    #[test]
    fn the_original_projects_reply_is_read() {
        let inner = r#"{"result": null, "failure": "{\"class\": \"ValueError\", \"module\": \"builtins\", \"message\": \"no\", \"tb\": [\"t\"], \"args\": [\"no\"], \"kwargs\": {}}", "ending": true}"#;
        let read = Reply::decode::<u32>(&envelope::seal(inner)).unwrap().unwrap_err();
        assert_eq!((read.class.as_str(), read.message.as_str()), ("ValueError", "no"));
        assert_eq!(Reply::decode(&envelope::seal(r#"{"result": 7, "failure": null, "ending": true}"#)).unwrap(), Ok(7));
    }
}
