//! The interface over zmqv2.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use zmqv2_client::{CallError, CallHandle, Notifier, RpcClient};
use zmqv2_matchmaker::Matchmaker;
use zmqv2_proto::transport::{Transport, TransportOptions};
use zmqv2_proto::{Config, Namespace, Priority, RequestContext, Target, Version};
use zmqv2_server::{
    Endpoint, HandlerError, HandlerResult, Incoming, Notice, NotificationListener, RpcServer, Verdict, reply,
};

use super::{
    Failed, Handler, Messaging, Notification, NotificationHandler, OUTCOME_WITHIN, Pending, Running, SendOutcome,
    Setup, To,
};
use crate::journal::convert::{call_error_name, variant_name};
use crate::{Node, PATIENCE};

pub struct OverZmqv2 {
    config: Config,
    ipc_dir: PathBuf,
    directory: Arc<dyn Matchmaker>,
    transport: Transport,
    allowed_modules: Vec<String>,
    patient: bool,
    clients: Mutex<HashMap<To, RpcClient>>,
    notifiers: Mutex<HashMap<String, Notifier>>,
}

impl OverZmqv2 {
    #[must_use]
    pub fn new(node: &Node, setup: Setup) -> Self {
        let mut config = node.config();
        config.response_timeout = setup.response_timeout;
        Self { allowed_modules: setup.allowed_modules, ..Self::with(config, node.ipc_dir.clone(), false) }
    }

    /// Makes one with this configuration. `patient`: messages wait for a server, and are sent again
    /// when they may be lost.
    #[must_use]
    pub fn with(config: Config, ipc_dir: PathBuf, patient: bool) -> Self {
        Self {
            directory: zmqv2_matchmaker::open(&config).expect("a directory"),
            transport: Transport::new(TransportOptions::default()),
            config,
            ipc_dir,
            allowed_modules: Vec::new(),
            patient,
            clients: Mutex::default(),
            notifiers: Mutex::default(),
        }
    }

    /// A copy of the topic's client for a target. Each topic has one client, made on first use.
    fn client(&self, to: &To) -> RpcClient {
        let topic = To { server: None, ..to.clone() };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let builder =
                RpcClient::builder(target(&topic)).matchmaker(Arc::clone(&self.directory)).ipc_dir(&self.ipc_dir);
            let builder = builder.allowed_remote_modules(self.allowed_modules.clone());
            let builder = builder.retry(if self.patient { 3 } else { 0 }).wait_for_ready(self.patient);
            builder.transport(self.transport.clone()).config(self.config.clone()).build().expect("a client")
        };
        let client = clients.entry(topic.clone()).or_insert_with(make).prepare();
        match &to.server {
            Some(server) => client.server(server).expect("a server"),
            None => client,
        }
    }

    fn notifier(&self, topic: &str) -> Notifier {
        let mut notifiers = self.notifiers.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let builder = Notifier::builder("tests").topics([topic]).expect("a topic");
            let builder = builder.matchmaker(Arc::clone(&self.directory)).ipc_dir(&self.ipc_dir);
            builder.transport(self.transport.clone()).config(self.config.clone()).build().expect("a notifier")
        };
        notifiers.entry(topic.to_owned()).or_insert_with(make).clone()
    }
}

fn target(to: &To) -> Target {
    let mut target = Target::topic(&to.topic).expect("a topic");
    if let Some(exchange) = &to.exchange {
        target = target.with_exchange(exchange).expect("an exchange");
    }
    if let Some(server) = &to.server {
        target = target.with_server(server).expect("a server");
    }
    target
}

/// All methods of a handler, of every interface.
struct Methods(Handler);

impl Endpoint for Methods {
    fn serves(&self, _namespace: Option<&Namespace>, _version: Version) -> bool {
        true
    }

    fn call(&self, incoming: &Incoming) -> Option<HandlerResult> {
        let args = match incoming.args::<Value>() {
            Ok(args) => args,
            Err(error) => return Some(Err(error)),
        };
        let result = (self.0)(incoming.method().as_str(), &args)?;
        Some(result.map_err(|failure| HandlerError::expected(*failure)).and_then(|value| reply(&value)))
    }
}

impl Messaging for OverZmqv2 {
    fn call(&self, to: &To, method: &str, args: &Value, timeout: Option<Duration>) -> Result<Value, Failed> {
        let mut client = self.client(to);
        if let Some(timeout) = timeout {
            client = client.timeout(timeout);
        }
        let result = client.call(&RequestContext::new(), method, args);
        result.map_err(|error| match error {
            CallError::Remote(remote) => {
                Failed::Remote { class: remote.class().to_owned(), failure: Box::new(remote.failure().clone()) }
            }
            CallError::Timeout { .. } => Failed::Timeout,
            other => Failed::NotAnswered(call_error_name(&other)),
        })
    }

    fn start_call(&self, to: &To, method: &str, args: &Value) -> Option<CallHandle<Value>> {
        self.client(to).call_async(&RequestContext::new(), method, args).ok()
    }

    fn send(&self, to: &To, method: &str, args: &Value) -> Pending {
        let sent = self.client(to).cast(&RequestContext::new(), method, args);
        sent.map_or_else(|error| Pending::Unsent(variant_name(&error)), Pending::Cast)
    }

    fn send_to_all(&self, to: &To, method: &str, args: &Value) -> Pending {
        let sent = self.client(to).fanout(&RequestContext::new(), method, args);
        sent.map_or_else(|error| Pending::Unsent(variant_name(&error)), Pending::Fanout)
    }

    fn notify(&self, topic: &str, priority: Priority, event_type: &str, payload: &Value) -> Vec<SendOutcome> {
        match self.notifier(topic).notify(&RequestContext::new(), event_type, payload, priority) {
            Ok(handle) => {
                let report = handle.wait(OUTCOME_WITHIN).expect("a report in time");
                report.results.iter().map(|result| SendOutcome::of(&result.outcome)).collect()
            }
            Err(error) => vec![SendOutcome::Failed(variant_name(&error))],
        }
    }

    fn serve(&self, at: &To, workers: usize, handler: Handler) -> Box<dyn Running> {
        let builder = RpcServer::builder(target(at)).endpoint(Methods(handler)).workers(workers);
        let builder = builder.config(self.config.clone()).ipc_dir(&self.ipc_dir);
        let server = builder.transport(self.transport.clone()).start().expect("a server");
        server.wait_ready(PATIENCE).expect("a registered server");
        Box::new(server)
    }

    fn listen(
        &self,
        topics: &[&str],
        priorities: &[Priority],
        pool: &str,
        handler: NotificationHandler,
    ) -> Box<dyn Running> {
        let mut builder = NotificationListener::builder().pool(pool).expect("a pool").workers(1);
        for topic in topics {
            builder = builder.topic(topic).expect("a topic");
        }
        let hear = move |notice: &Notice| {
            let (priority, event_type) = (notice.priority(), notice.event_type().to_owned());
            let handled = handler(&Notification { priority, event_type, payload: notice.payload()? });
            Ok::<_, HandlerError>(if handled { Verdict::Handled } else { Verdict::Requeue })
        };
        let priorities: zmqv2_server::Priorities = priorities.iter().copied().collect();
        let builder = builder.on(priorities, hear).config(self.config.clone()).ipc_dir(&self.ipc_dir);
        let listener = builder.transport(self.transport.clone()).start().expect("a listener");
        listener.wait_ready(PATIENCE).expect("a registered listener");
        Box::new(listener)
    }
}
