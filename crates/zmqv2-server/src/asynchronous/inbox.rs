//! Begins a handler for each request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zmqv2_proto::{Kind, Request};

use super::endpoint::AsyncEndpoint;
use super::executor::{BoxFuture, Executor};
use super::handler::RunningHandler;
use crate::interceptor::chain::{Around, Interceptors, refused};
use crate::pull::Repeats;
use crate::rpc::counters::LiveCounters;
use crate::rpc::dispatcher::{Dispatcher, PING_METHOD};
use crate::rpc::ended::refuse_cast;
use crate::rpc::endpoint::{HandlerResult, Incoming, reply};
use crate::rpc::panic_guard::{catch_panic, panicked};
use crate::rpc::wrong_kind;
use crate::runtime::running::Running;
use crate::runtime::shared_socket::{Deferred, Inbox};
use crate::runtime::worker::malformed_body;

pub(super) struct AsyncInbox {
    pub(super) dispatcher: Dispatcher<Arc<dyn AsyncEndpoint>>,
    pub(super) interceptors: Interceptors,
    pub(super) executor: Box<dyn Executor>,
    pub(super) repeats: Arc<Repeats>,
    pub(super) counters: Arc<LiveCounters>,
}

impl AsyncInbox {
    fn begin(&self, incoming: &Arc<Incoming>) -> BoxFuture<HandlerResult> {
        if incoming.method().as_str() == PING_METHOD {
            return Box::pin(std::future::ready(reply("pong")));
        }
        let call = |endpoint: &Arc<dyn AsyncEndpoint>| Arc::clone(endpoint).call(Arc::clone(incoming));
        let begun = catch_panic(incoming.method(), || self.dispatcher.run(incoming, call));
        begun.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))))
    }
}

impl Inbox for AsyncInbox {
    fn take(&self, request: Deferred) {
        let kind = request.header.kind;
        if kind == Kind::Notify {
            let refusal = wrong_kind(&request.worker().server);
            return request.refuse(&refusal);
        }
        let decoded = match Request::decode(request.body()) {
            Ok(decoded) => decoded,
            Err(error) => return request.refuse(&malformed_body(&error)),
        };
        let (id, deadline, cancellation) = (request.header.id, request.deadline, request.cancellation());
        let node = request.header.node.clone();
        let mut incoming = Incoming { request: decoded, id, node, deadline, cancellation };
        if kind != Kind::Call
            && let Some(error) = self.dispatcher.cannot_run(&incoming)
        {
            let refusal = refuse_cast(&request.header, incoming.method(), error, &self.counters);
            return request.refuse(&refusal);
        }
        let around = incoming.before(&self.interceptors, &request.header, &request.worker().server);
        let (around, error) = match around {
            Ok(around) => (around, None),
            Err(error) if kind != Kind::Call => return request.refuse(&refused(error)),
            Err(error) => (Around::default(), Some(error)),
        };
        let Some(mut request) = self.repeats.take(request) else { return };
        let incoming = Arc::new(incoming);
        request.set_running(Running::Method(incoming.method().clone()));
        if kind != Kind::Call {
            self.counters.casts.add();
            request.acknowledge();
            self.repeats.answered(id, &None);
        }
        let future = match error {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.begin(&incoming),
        };
        let (repeats, counters) = (Arc::clone(&self.repeats), Arc::clone(&self.counters));
        let handler =
            RunningHandler { future, incoming, around, request: Some(request), repeats, counters, begun: false };
        // The thread that runs this is the only one that reads.
        let spawned = catch_unwind(AssertUnwindSafe(|| self.executor.spawn(Box::pin(handler))));
        if let Err(panic) = spawned {
            log::error!("{}", panicked("the executor of a server", &*panic));
        }
    }
}
