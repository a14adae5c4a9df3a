//! The frames of every message, byte for byte.
//!
//! Four frames: message id, topic, `cast`, JSON of context and message. A notification in version 2
//! has the context in the fourth frame and its envelope as pairs of frames behind it.

use serde::Serialize;
use serde_json::{Map, Value};
use zmqv2_proto::Failure;

use super::json::text;

pub type Frames = Vec<Vec<u8>>;

pub type Context = Map<String, Value>;

/// The id of a message that is not a reply.
const NO_ID: &str = "0";
const CAST: &str = "cast";
const VERSION_2: &str = "impl_zmq_v2";
/// The methods that carry a call and its reply.
const REPLY: &str = "-reply";
const PROCESS_REPLY: &str = "-process_reply";

/// A method and its arguments.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Message {
    pub method: String,
    /// The arguments, an object.
    pub args: Value,
    pub version: String,
}

impl Message {
    pub fn new(method: impl Into<String>, args: Value) -> Self {
        Self { method: method.into(), args, version: "1.0".to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    pub message_id: String,
    pub publisher_id: String,
    pub event_type: String,
    /// Its priority, in capitals.
    pub priority: String,
    pub payload: Value,
    /// Its time, in UTC.
    pub timestamp: String,
}

#[derive(Serialize)]
struct Inner<A> {
    method: &'static str,
    args: A,
}

#[derive(Serialize)]
struct Curried<'a> {
    msg_id: &'a str,
    topic: &'a str,
    msg: (String, &'a Message),
}

#[derive(Serialize)]
struct Response<'a, R> {
    msg_id: &'a str,
    response: (R,),
}

#[derive(Serialize)]
struct Exception {
    exc: String,
}

fn frames(id: &str, topic: &str, context: &Context, message: &impl Serialize) -> Frames {
    let body = text(&(text(context), message));
    [id, topic, CAST, &body].map(|frame| frame.as_bytes().to_vec()).to_vec()
}

/// A call: the request, packed into one that asks for its reply.
pub fn call(topic: &str, context: &Context, message: &Message, msg_id: &str, reply_topic: &str) -> Frames {
    let args = Curried { msg_id, topic: reply_topic, msg: (text(context), message) };
    frames(NO_ID, topic, context, &Inner { method: REPLY, args })
}

/// A cast or a fanout. Only the topic differs.
pub fn cast(topic: &str, context: &Context, message: &Message) -> Frames {
    frames(NO_ID, topic, context, message)
}

/// The reply to a call, for the topic that the call named. The caller's SUB socket filters for its
/// first frame.
pub fn reply(topic: &str, context: &Context, msg_id: &str, result: &Result<Value, Box<Failure>>) -> Frames {
    match result {
        Ok(value) => {
            let args = Response { msg_id, response: ((value,),) };
            frames(msg_id, topic, context, &Inner { method: PROCESS_REPLY, args })
        }
        Err(failure) => {
            let args = Response { msg_id, response: (Exception { exc: text(failure) },) };
            frames(msg_id, topic, context, &Inner { method: PROCESS_REPLY, args })
        }
    }
}

pub fn notify(topic: &str, context: &Context, notice: &Notice) -> Frames {
    frames(NO_ID, topic, context, notice)
}

pub fn notify_2(topic: &str, context: &Context, notice: &Notice) -> Frames {
    let (context, notice) = (text(context), text(notice));
    let all = [NO_ID, topic, VERSION_2, &context, "oslo.version", "2.0", "oslo.message", &notice];
    all.map(|frame| frame.as_bytes().to_vec()).to_vec()
}

/// A message that a server has read.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A request whose sender waits for a reply with this id at this topic.
    Call(Context, Message, String, String),
    /// A request without a reply.
    Cast(Context, Message),
    Notice(Context, Notice),
}

/// Frames that are not a message of this driver, and how the original reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The third frame names an unknown form: the original logs it.
    Envelope,
    /// The content is unknown: the original logs it.
    Message,
    /// Frames are missing or malformed: an exception ends the reader of the socket.
    Frames,
}

/// Reads a message for a server.
pub fn read(frames: &[Vec<u8>]) -> Result<Received, Unreadable> {
    let (context, message) = match frames.get(2).ok_or(Unreadable::Frames)?.as_slice() {
        b"cast" => read_1(frames),
        b"impl_zmq_v2" => read_2(frames),
        _ => return Err(Unreadable::Envelope),
    }
    .ok_or(Unreadable::Frames)?;
    received(context, &message).ok_or(Unreadable::Message)
}

fn read_1(frames: &[Vec<u8>]) -> Option<(Context, Value)> {
    let (context, message): (String, Value) = serde_json::from_slice(frames.get(3)?).ok()?;
    Some((serde_json::from_str(&context).ok()?, message))
}

fn read_2(frames: &[Vec<u8>]) -> Option<(Context, Value)> {
    let pairs = frames.get(4..)?.chunks_exact(2);
    let body = pairs.into_iter().find(|pair| pair[0] == b"oslo.message")?;
    Some((serde_json::from_slice(frames.get(3)?).ok()?, serde_json::from_slice(&body[1]).ok()?))
}

fn received(context: Context, message: &Value) -> Option<Received> {
    if message.get("event_type").is_some() {
        return Some(Received::Notice(context, notice_of(message)?));
    }
    if message.get("method")? == REPLY {
        return call_of(context, message.get("args")?);
    }
    Some(Received::Cast(context, message_of(message)?))
}

/// Unpacks the request from the one that asks for its reply.
fn call_of(context: Context, args: &Value) -> Option<Received> {
    let field = |name: &str| Some(args.get(name)?.as_str()?.to_owned());
    let inner = message_of(args.get("msg")?.as_array()?.last()?)?;
    Some(Received::Call(context, inner, field("msg_id")?, field("topic")?))
}

fn message_of(value: &Value) -> Option<Message> {
    let version = value.get("version").and_then(Value::as_str).unwrap_or("1.0").to_owned();
    let args = value.get("args").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    Some(Message { method: value.get("method")?.as_str()?.to_owned(), args, version })
}

fn notice_of(value: &Value) -> Option<Notice> {
    let field = |name: &str| Some(value.get(name)?.as_str()?.to_owned());
    Some(Notice {
        message_id: field("message_id")?,
        publisher_id: field("publisher_id")?,
        event_type: field("event_type")?,
        priority: field("priority")?,
        payload: value.get("payload")?.clone(),
        timestamp: field("timestamp")?,
    })
}

/// Reads a reply: the last response, or the exception among them.
pub fn read_reply(frames: &[Vec<u8>]) -> Result<Result<Value, Box<Failure>>, Unreadable> {
    let read = || {
        let (_, message): (Value, Value) = serde_json::from_slice(frames.get(3)?).ok()?;
        let responses = message.get("args")?.get("response")?.as_array()?;
        let exception = responses.iter().find_map(|response| response.get("exc"));
        match exception {
            Some(text) => Some(Err(serde_json::from_str(text.as_str()?).ok()?)),
            None => Some(Ok(responses.last()?.as_array()?.last()?.clone())),
        }
    };
    read().ok_or(Unreadable::Frames)
}
