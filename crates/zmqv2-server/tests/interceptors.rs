//! Interceptors of both kinds of RPC servers: what the method gets, and what the caller gets.

#![cfg(feature = "tokio")]

mod support;

use std::task::{Context, Waker};

use crossbeam_channel::{Receiver, Sender, unbounded};
use support::{Broker, LONG, request};
use tempfile::TempDir;
use zmqv2_proto::Kind;
use zmqv2_server::{
    AsyncMethods, AsyncRpcServer, BoxFuture, Ended, Executor, HandlerError, Incoming, Interceptor, Methods, Reply,
    Request, RpcServer, RunOutcome, Target, reply,
};

/// Adds the key `seen` to the context, refuses the method `secret`, and reports how requests end.
struct Guard(Sender<String>);

impl Interceptor for Guard {
    fn before(&self, incoming: &mut Incoming) -> Result<(), HandlerError> {
        if incoming.method().as_str() == "secret" {
            return Err(HandlerError::new("guard", "Forbidden", "the method secret is for nobody"));
        }
        incoming.request.context = std::mem::take(&mut incoming.request.context).with("seen", 7);
        Ok(())
    }

    fn after(&self, ended: &Ended<'_>) {
        let outcome = match ended.outcome {
            RunOutcome::Done => "done",
            RunOutcome::Failed(failure) => &failure.class,
            _ => "dropped",
        };
        self.0.send(format!("{} {outcome}", ended.incoming.method())).unwrap();
    }
}

fn target() -> Target {
    Target::topic("t").unwrap().with_server("s").unwrap()
}

fn body(method: &str) -> Vec<u8> {
    Request::new(method.parse().unwrap(), &()).unwrap().encode().unwrap()
}

/// The requests that both kinds of servers get.
fn check(broker: &Broker, ends: &Receiver<String>) {
    broker.deliver(0, &request(Kind::Call, 1), &body("seen"));
    assert_eq!(broker.answer(0).body, reply(&7).unwrap().encode().unwrap());
    assert_eq!(ends.recv_timeout(LONG).unwrap(), "seen done");

    broker.deliver(0, &request(Kind::Call, 2), &body("secret"));
    let refused = broker.answer(0).body;
    let Err(failure) = Reply::decode::<()>(&refused).unwrap() else { panic!("secret ran") };
    assert_eq!((failure.class.as_str(), failure.message.as_str()), ("Forbidden", "the method secret is for nobody"));

    broker.deliver(0, &request(Kind::Call, 3), &body("missing"));
    broker.answer(0);
    assert_eq!(ends.recv_timeout(LONG).unwrap(), "missing NoSuchMethod");

    broker.deliver(0, &request(Kind::Cast, 4), &body("seen"));
    assert_eq!(broker.answer(0).summary(), (Kind::Ack, 4, 0));
    assert_eq!(ends.recv_timeout(LONG).unwrap(), "seen done");
    assert!(ends.is_empty());
}

#[test]
fn an_interceptor_of_a_server_with_threads_extends_refuses_and_sees_the_end() {
    let (dir, (sender, ends)) = (TempDir::new().unwrap(), unbounded());
    let methods = Methods::new()
        .raw("seen", |incoming| reply(&incoming.context().get("seen")))
        .and_then(|methods| methods.raw("secret", |_| reply("ran")))
        .unwrap();
    let builder = RpcServer::builder(target()).ipc_dir(dir.path()).workers(1);
    let server = builder.endpoint(methods).interceptor(Guard(sender)).start().unwrap();
    let mut broker = Broker::start(dir.path());
    check(&broker, &ends);
    assert_eq!(broker.next().summary(), (Kind::Credit, 0, 1));
    let stopping = std::thread::spawn(move || server.stop().unwrap());
    assert!(broker.release().is_empty());
    stopping.join().unwrap();
}

#[test]
fn an_interceptor_of_an_asynchronous_server_extends_refuses_and_sees_the_end() {
    let (dir, (sender, ends)) = (TempDir::new().unwrap(), unbounded());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let methods = AsyncMethods::new()
        .raw("seen", async |incoming| reply(&incoming.context().get("seen")))
        .and_then(|methods| methods.raw("secret", async |_| reply("ran")))
        .unwrap();
    let builder = AsyncRpcServer::builder(target(), runtime.handle().clone()).ipc_dir(dir.path());
    let _server = builder.endpoint(methods).interceptor(Guard(sender)).start().unwrap();
    check(&Broker::start(dir.path()), &ends);
}

/// Polls each handler once and drops it.
struct Impatient;

impl Executor for Impatient {
    fn spawn(&self, mut handler: BoxFuture<()>) {
        assert!(handler.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn an_interceptor_sees_that_an_executor_dropped_a_handler() {
    let (dir, (sender, ends)) = (TempDir::new().unwrap(), unbounded());
    let methods = AsyncMethods::new().method("wait", async |(): ()| Ok(std::future::pending::<u32>().await)).unwrap();
    let builder = AsyncRpcServer::builder(target(), Impatient).ipc_dir(dir.path());
    let _server = builder.endpoint(methods).interceptor(Guard(sender)).start().unwrap();
    let broker = Broker::start(dir.path());
    broker.deliver(0, &request(Kind::Call, 1), &body("wait"));
    assert_eq!(ends.recv_timeout(LONG).unwrap(), "wait dropped");
}
