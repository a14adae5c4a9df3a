//! The body of a request: method, arguments, context.

use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::message::body::{self, BodyError};
use crate::message::context::{RequestContext, UNIQUE_ID};
use crate::message::key::ReceivedKey;
use crate::naming::{MethodName, Namespace, Version};
use crate::wire::{LenientId, MessageId};

/// A request of a client to a server.
///
/// ```
/// use zmqv2_proto::{Request, RequestContext};
///
/// let context = RequestContext::new().with("user", "ann");
/// let request = Request::new("add".parse()?, &(1, 2))?.with_context(context);
/// let body = request.encode()?;
/// let read = Request::decode(&body)?;
/// assert_eq!(read.method.as_str(), "add");
/// assert_eq!(read.args::<(i32, i32)>()?, (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The method.
    pub method: MethodName,
    /// Its arguments as JSON text, parsed where they are used.
    pub args: Box<RawValue>,
    /// The interface's namespace.
    pub namespace: Option<Namespace>,
    /// The interface's version; `None`: 1.0.
    pub version: Option<Version>,
    /// The caller's context.
    pub context: RequestContext,
    /// The message's id, for readers of captured payloads.
    pub unique_id: Option<MessageId>,
}

impl Request {
    /// A request of `method` with `args`: a struct or map of named arguments, as other drivers
    /// expect, or any JSON value between services that use this driver.
    ///
    /// # Errors
    /// [`BodyError::Write`] when `args` has no JSON form.
    pub fn new(method: MethodName, args: &impl Serialize) -> Result<Self, BodyError> {
        let args = body::json_text(args)?;
        Ok(Self { method, args, namespace: None, version: None, context: RequestContext::new(), unique_id: None })
    }

    /// The same request with a context.
    #[must_use]
    pub fn with_context(mut self, context: RequestContext) -> Self {
        self.context = context;
        self
    }

    /// The arguments as a typed value.
    ///
    /// # Errors
    /// The JSON error when they are not of that type.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.args.get())
    }

    /// The body of the message.
    ///
    /// # Errors
    /// [`BodyError::Write`] when a part has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        self.by_ref().encode()
    }

    fn by_ref(&self) -> RequestRef<'_, RawValue> {
        RequestRef {
            method: &self.method,
            args: &self.args,
            namespace: self.namespace.as_ref(),
            version: self.version,
            context: &self.context,
            unique_id: self.unique_id,
        }
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// [`BodyError`]. No bytes make it panic.
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        body::decode(body)
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_ref().serialize(serializer)
    }
}

/// A [`Request`] with borrowed parts, for writing only. The arguments are serialised into the body
/// directly.
///
/// ```
/// use zmqv2_proto::{RequestRef, Request, RequestContext};
///
/// let (method, context) = ("add".parse()?, RequestContext::new());
/// let body = RequestRef::new(&method, &(1, 2), &context).encode()?;
/// assert_eq!(Request::decode(&body)?.args::<(i32, i32)>()?, (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct RequestRef<'a, A: ?Sized> {
    /// The method.
    pub method: &'a MethodName,
    /// Its arguments; see [`Request::new`].
    pub args: &'a A,
    /// The interface's namespace.
    pub namespace: Option<&'a Namespace>,
    /// The interface's version; `None`: 1.0.
    pub version: Option<Version>,
    /// The caller's context.
    pub context: &'a RequestContext,
    /// The message's id.
    pub unique_id: Option<MessageId>,
}

impl<'a, A: Serialize + ?Sized> RequestRef<'a, A> {
    /// A request of `method` with `args` and `context`.
    #[must_use]
    pub fn new(method: &'a MethodName, args: &'a A, context: &'a RequestContext) -> Self {
        Self { method, args, namespace: None, version: None, context, unique_id: None }
    }

    /// The body of the message, as [`Request::encode`] writes it.
    ///
    /// # Errors
    /// [`BodyError::Write`] when a part has no JSON form.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        body::encode_with(self, &Head(self), self.context)
    }
}

impl<A: Serialize + ?Sized> RequestRef<'_, A> {
    /// Writes everything but id and context.
    fn open<S: Serializer>(&self, serializer: S) -> Result<S::SerializeMap, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("method", self.method.as_str())?;
        map.serialize_entry("args", self.args)?;
        if let Some(namespace) = self.namespace {
            map.serialize_entry("namespace", namespace.as_str())?;
        }
        if let Some(version) = &self.version {
            map.serialize_entry("version", version)?;
        }
        Ok(map)
    }
}

impl<A: Serialize + ?Sized> Serialize for RequestRef<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.context.write_with(self.unique_id, self.open(serializer)?)
    }
}

/// A request without its context.
struct Head<'a, A: ?Sized>(&'a RequestRef<'a, A>);

impl<A: Serialize + ?Sized> Serialize for Head<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RequestContext::new().write_with(self.0.unique_id, self.0.open(serializer)?)
    }
}

impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RequestVisitor)
    }
}

/// Written by hand, because `#[serde(flatten)]` for the context would parse the arguments.
struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = Request;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request: an object with \"method\" and \"args\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Request, A::Error> {
        let (mut method, mut args, mut namespace, mut version, mut unique_id) = (None, None, None, None, None);
        let mut context = RequestContext::new();
        while let Some(key) = map.next_key::<ReceivedKey<'de>>()? {
            match key.text().as_ref() {
                "method" => method = Some(map.next_value()?),
                "args" => args = Some(map.next_value()?),
                "namespace" => namespace = map.next_value()?,
                "version" => version = map.next_value()?,
                UNIQUE_ID => unique_id = map.next_value::<LenientId>()?.known(),
                _ => context.read_or_skip(&key, &mut map)?,
            }
        }
        Ok(Request {
            method: method.ok_or_else(|| Error::missing_field("method"))?,
            args: args.map_or_else(|| RawValue::from_string("{}".to_owned()), Ok).map_err(Error::custom)?,
            namespace,
            version,
            context,
            unique_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::message::envelope;

    #[test]
    fn a_request_goes_through_its_body_and_back() {
        let mut request = Request::new("m".parse().unwrap(), &serde_json::json!({"x": [1, null]})).unwrap();
        request.namespace = Some("ns".parse().unwrap());
        request.version = Some(Version::new(1, 3));
        request.unique_id = Some(MessageId::random());
        request.context = RequestContext::new().with("user", "u").with("deep", serde_json::json!({"a": 1}));
        let read = Request::decode(&request.encode().unwrap()).unwrap();
        assert_eq!(read.args.get(), r#"{"x":[1,null]}"#);
        assert_eq!(read.namespace, request.namespace);
        assert_eq!(read.version, request.version);
        assert_eq!(read.unique_id, request.unique_id);
        assert_eq!(read.context, request.context);
    }

    #[test]
    fn a_payload_of_the_original_project_is_read() {
        let inner = r#"{"_context_user": "u", "_unique_id": "0123456789abcdef0123456789abcdef", "_timeout": null, "_msg_id": "x",
            "_reply_q": "reply_1", "method": "echo", "args": {"x": "hi"}, "namespace": null, "version": "1.0"}"#;
        let read = Request::decode(&envelope::seal(inner)).unwrap();
        assert_eq!(read.context.get("user"), Some(Value::from("u")));
        assert_eq!((read.method.as_str(), read.args.get()), ("echo", r#"{"x": "hi"}"#));
    }

    #[test]
    fn ids_of_another_form_lose_no_message() {
        let id: MessageId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let known = format!("\"{id}\"");
        let escaped = known.replace("abc", "\\u0061bc");
        for (written, read) in [
            (known.as_str(), Some(id)),
            (&escaped, Some(id)),
            ("\"5c329c20-d435-444c-8fa2-e1b54592219e\"", None),
            ("7", None),
            ("-1.5", None),
            ("true", None),
            ("null", None),
            ("[1,{}]", None),
            ("{\"a\":[null]}", None),
        ] {
            let request = Request::decode(&envelope::seal(&format!(r#"{{"_unique_id":{written},"method":"m"}}"#)));
            assert_eq!(request.unwrap().unique_id, read, "{written}");
        }
    }

    #[test]
    fn keys_and_names_are_read_however_they_are_escaped() {
        let inner = r#"{"m\u0065thod":"ec\u0068o","_context_\u0061":"\u0062","namespace":"n\u0073","more":"\u0000"}"#;
        let read = Request::decode(&envelope::seal(inner)).unwrap();
        assert_eq!((read.method.as_str(), read.namespace.unwrap().as_str()), ("echo", "ns"));
        assert_eq!(read.context.get("a"), Some(Value::from("b")));
    }

    #[test]
    fn a_borrowed_request_is_written_as_the_request_is() {
        let context = RequestContext::new().with("a\"b", "c\\d").with("n", 1);
        let mut request = Request::new("m".parse().unwrap(), &["x\ny"]).unwrap().with_context(context);
        request.namespace = Some("ns".parse().unwrap());
        request.version = Some(Version::new(1, 3));
        request.unique_id = Some(MessageId::random());
        let mut borrowed = RequestRef::new(&request.method, &["x\ny"], &request.context);
        borrowed.namespace = request.namespace.as_ref();
        (borrowed.version, borrowed.unique_id) = (request.version, request.unique_id);
        let body = borrowed.encode().unwrap();
        assert_eq!(body, request.encode().unwrap());
        assert_eq!(body, envelope::seal(&serde_json::to_string(&request).unwrap()));
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        let context = RequestContext::new();
        assert!(matches!(RequestRef::new(&request.method, &no_json, &context).encode(), Err(BodyError::Write(_))));
    }

    #[test]
    fn a_body_that_is_not_a_request_is_an_error() {
        for inner in ["", "1", "{}", r#"{"method": 1}"#, r#"{"method": "a/b"}"#, r#"{"method":"m","version":"x"}"#] {
            assert!(Request::decode(&envelope::seal(inner)).is_err(), "{inner}");
        }
    }
}
