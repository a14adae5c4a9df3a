//! The interface over the legacy driver.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use uuid::Uuid;
use zmqv2_proto::{Failure, Priority};

use super::{Failed, Handler, Messaging, Notification, NotificationHandler, Pending, Running, SendOutcome, Setup, To};
use crate::legacy::frames::{Message, Notice};
use crate::legacy::{Client, Failed as Legacy, Options, Server, Target};

/// Modules whose errors always keep their class.
const BUILT_IN: [&str; 2] = ["builtins", "exceptions"];

pub struct OverLegacy {
    options: Options,
    client: Client,
    allowed_modules: Vec<String>,
}

impl OverLegacy {
    #[must_use]
    pub fn new(options: Options, setup: Setup) -> Self {
        let options = Options { response_timeout: setup.response_timeout, ..options };
        let client = Client::new(options.clone(), setup.help).expect("a directory");
        Self { options, client, allowed_modules: setup.allowed_modules }
    }

    fn remote(&self, failure: Box<Failure>) -> Failed {
        let module = &failure.module;
        let allowed = BUILT_IN.contains(&module.as_str()) || self.allowed_modules.contains(module);
        let class = if allowed { failure.class.clone() } else { "RemoteError".to_owned() };
        Failed::Remote { class, failure }
    }

    fn options(&self, workers: usize) -> Options {
        Options { thread_pool_size: workers, ..self.options.clone() }
    }
}

fn target(to: &To) -> Target {
    Target { topic: to.topic.clone(), server: to.server.clone() }
}

fn message(method: &str, args: &Value) -> Message {
    Message::new(method, args.clone())
}

impl Messaging for OverLegacy {
    fn call(&self, to: &To, method: &str, args: &Value, _timeout: Option<Duration>) -> Result<Value, Failed> {
        self.client.call(&target(to), &Map::new(), &message(method, args)).map_err(|error| match error {
            Legacy::Remote(failure) => self.remote(failure),
            Legacy::Timeout(_) => Failed::Timeout,
            Legacy::Exception(text) => Failed::NotAnswered(text),
        })
    }

    fn send(&self, to: &To, method: &str, args: &Value) -> Pending {
        self.client.cast(&target(to), &Map::new(), &message(method, args));
        Pending::Silent
    }

    fn send_to_all(&self, to: &To, method: &str, args: &Value) -> Pending {
        self.client.fanout(&to.topic, &Map::new(), &message(method, args));
        Pending::Silent
    }

    fn notify(&self, topic: &str, priority: Priority, event_type: &str, payload: &Value) -> Vec<SendOutcome> {
        let notice = Notice {
            message_id: Uuid::new_v4().to_string(),
            publisher_id: "tests".to_owned(),
            event_type: event_type.to_owned(),
            priority: priority.as_str().to_uppercase(),
            payload: payload.clone(),
            timestamp: "2015-06-12 10:11:12.123456".to_owned(),
        };
        self.client.notify(topic, &Map::new(), &notice, 2);
        Vec::new()
    }

    fn serve(&self, at: &To, workers: usize, handler: Handler) -> Box<dyn Running> {
        let handler = move |message: &Message| handler(&message.method, &message.args);
        Box::new(Server::serve(self.options(workers), &at.topic, Arc::new(handler)).expect("a server"))
    }

    fn listen(
        &self,
        topics: &[&str],
        priorities: &[Priority],
        _pool: &str,
        handler: NotificationHandler,
    ) -> Box<dyn Running> {
        let words: Vec<&str> = priorities.iter().map(|priority| priority.as_str()).collect();
        let wanted: Vec<_> = topics.iter().flat_map(|topic| words.iter().map(move |word| (*topic, *word))).collect();
        let hear = move |notice: &Notice| {
            let priority = notice.priority.to_lowercase().parse().expect("a priority");
            let notification =
                Notification { priority, event_type: notice.event_type.clone(), payload: notice.payload.clone() };
            // The legacy driver cannot deliver it again.
            handler(&notification);
        };
        Box::new(Server::listen(self.options(1), &wanted, Arc::new(hear)).expect("a listener"))
    }
}
