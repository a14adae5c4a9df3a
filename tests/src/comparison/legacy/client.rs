//! The sending side: call, cast, fanout, notify.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;
use zmqv2_proto::Failure;

use super::frames::{self, Context, Message, Notice};
use super::socket_pool::SocketPools;
use super::sockets::{context, receive, set_patience, subscriber};
use super::{Matchmaker, Options};

/// The target of a message. There are no exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub topic: String,
    /// The server, which must be the name of a host.
    pub server: Option<String>,
}

/// A call without a result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failed {
    /// No reply came within `rpc_response_timeout`, or no host has the topic.
    #[error("timeout: {0}")]
    Timeout(&'static str),
    /// The server answered with an error.
    #[error(transparent)]
    Remote(Box<Failure>),
    #[error("rpc exception: {0}")]
    Exception(String),
}

/// Options that make this driver better than the original, to compare it at its best. The default
/// is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Help {
    /// The SUB socket of a call uses the context of the driver instead of its own.
    pub shared_context: bool,
    /// How long a call waits after it has opened the SUB socket, so that the socket has joined
    /// before the request is sent.
    pub pause: Duration,
}

/// A client. `Send + Sync`; threads share its sockets.
pub struct Client {
    options: Options,
    matchmaker: Matchmaker,
    pools: SocketPools,
    help: Help,
}

impl Client {
    pub fn new(options: Options, help: Help) -> std::io::Result<Self> {
        let (matchmaker, pools) = (Matchmaker::open(&options)?, SocketPools::new(&options));
        Ok(Self { options, matchmaker, pools, help })
    }

    /// Calls a method and waits for its result for `rpc_response_timeout`. The original also
    /// accepts a timeout for each call, and ignores it.
    pub fn call(&self, to: &Target, context: &Context, message: &Message) -> Result<Value, Failed> {
        let queues = self.matchmaker.queues(&topic(to));
        let mut result = Err(Failed::Timeout("no matchmaker results"));
        for (topic, host) in queues {
            result = Ok(self.call_at(&topic, &host, context, message)?);
        }
        result
    }

    fn call_at(&self, topic: &str, host: &str, context: &Context, message: &Message) -> Result<Value, Failed> {
        let msg_id = Uuid::new_v4().simple().to_string();
        let reply_topic = self.options.reply_topic();
        let frames = frames::call(topic, context, message, &msg_id, &reply_topic);
        let started = crate::now();
        let waiter = Waiter::open(self, &reply_topic, &msg_id).map_err(exception)?;
        let left = || self.options.response_timeout.saturating_sub(started.elapsed());
        self.push(host, frames, self.options.cast_timeout.min(left()))?;
        let reply = waiter.wait(left()).map_err(exception)?.ok_or(Failed::Timeout("no reply"))?;
        let result = frames::read_reply(&reply).map_err(|_| Failed::Exception("invalid message".to_owned()))?;
        result.map_err(Failed::Remote)
    }

    /// Sends a message to one server. No answer comes.
    pub fn cast(&self, to: &Target, context: &Context, message: &Message) {
        self.send(&topic(to), |topic| frames::cast(topic, context, message));
    }

    /// Sends a message to every server of a topic. No answers come.
    pub fn fanout(&self, topic: &str, context: &Context, message: &Message) {
        self.send(&format!("fanout~{topic}"), |topic| frames::cast(topic, context, message));
    }

    /// Sends a notification to listeners of a priority. No answer comes. The version of the
    /// envelope is 1 or 2.
    pub fn notify(&self, topic: &str, context: &Context, notice: &Notice, version: u8) {
        let priority = notice.priority.to_lowercase();
        let form = if version == 2 { frames::notify_2 } else { frames::notify };
        self.send(&notification_topic(topic, &priority), |topic| form(topic, context, notice));
    }

    pub(super) fn reply(&self, topic: &str, context: &Context, msg_id: &str, result: &Result<Value, Box<Failure>>) {
        self.send(topic, |topic| frames::reply(topic, context, msg_id, result));
    }

    /// Failures in here go to the log. The sender does not learn of them.
    fn send(&self, topic: &str, frames: impl Fn(&str) -> frames::Frames) {
        let queues = self.matchmaker.queues(topic);
        if queues.is_empty() {
            log::warn!("legacy: no matchmaker results for {topic}, not sending");
        }
        for (topic, host) in queues {
            if let Err(error) = self.push(&host, frames(&topic), self.options.cast_timeout) {
                log::error!("legacy: a message to {topic} is lost: {error}");
            }
        }
    }

    fn push(&self, host: &str, frames: frames::Frames, timeout: Duration) -> Result<(), Failed> {
        let address = format!("tcp://{host}:{}", self.options.port);
        self.pools.send(&address, frames, timeout).map_err(|error| match error {
            zmq::Error::EAGAIN => Failed::Timeout("the message could not be sent"),
            other => exception(other),
        })
    }
}

struct Waiter {
    socket: zmq::Socket,
}

impl Waiter {
    fn open(client: &Client, reply_topic: &str, msg_id: &str) -> zmq::Result<Self> {
        let Help { shared_context, pause } = client.help;
        let context = if shared_context { client.pools.context().clone() } else { context(client.options.contexts) };
        let socket = subscriber(&context, &client.options.ipc_address(reply_topic), msg_id.as_bytes())?;
        if !pause.is_zero() {
            wait(pause);
        }
        Ok(Self { socket })
    }

    fn wait(&self, timeout: Duration) -> zmq::Result<Option<frames::Frames>> {
        set_patience(&self.socket, timeout)?;
        Ok(receive(&self.socket)?.map(|reply| reply.iter().map(|frame| frame.to_vec()).collect()))
    }
}

#[expect(clippy::disallowed_methods, reason = "no event tells a subscriber that it has joined")]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

fn exception(error: zmq::Error) -> Failed {
    Failed::Exception(error.message().to_owned())
}

fn topic(to: &Target) -> String {
    to.server.as_ref().map_or_else(|| to.topic.clone(), |server| format!("{}.{server}", to.topic))
}

/// A dot would start the name of a host.
pub(super) fn notification_topic(topic: &str, priority: &str) -> String {
    format!("{topic}.{priority}").replace('.', "-")
}
