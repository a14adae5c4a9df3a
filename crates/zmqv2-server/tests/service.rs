//! A declared service at a server: this crate alone, and requests as a peer in Python writes them.

mod support;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Broker, now, request};
use tempfile::TempDir;
use zmqv2_proto::{Flags, Kind, Reply, envelope};
use zmqv2_server::{
    AsyncRpcServer, BoxFuture, Call, Executor, Failure, HandlerError, MethodError, MethodResult, RpcServer, service,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reservation {
    part: String,
    count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum InventoryError {
    TooFew { left: u32 },
    Closed,
}

impl std::fmt::Display for InventoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooFew { left } => write!(f, "only {left} left"),
            Self::Closed => f.write_str("closed"),
        }
    }
}

service! {
    /// Parts in stock.
    service Inventory("inventory"), async AsyncInventory, client InventoryClient, namespace "stock", version 1.2,
        error InventoryError, module "stock.exceptions"
    {
        /// Reserves parts.
        fn reserve(part: String, count: u32, note: Option<String>) -> Reservation;
        /// Fails.
        fn fail(how: String);
        /// What the handler knows.
        fn facts() -> Value, since 1.2;
    }
}

struct Shelf;

impl Inventory for Shelf {
    fn reserve(
        &self,
        _: &Call,
        part: String,
        count: u32,
        _: Option<String>,
    ) -> MethodResult<Reservation, InventoryError> {
        if count > 3 { Err(InventoryError::TooFew { left: 3 })? } else { Ok(Reservation { part, count }) }
    }

    fn fail(&self, _: &Call, how: String) -> MethodResult<(), InventoryError> {
        match how.as_str() {
            "declared" => Err(InventoryError::Closed)?,
            "other" => Err(how.parse::<u8>().map_err(MethodError::other).unwrap_err()),
            _ => Err(HandlerError::new("m", "C", how))?,
        }
    }

    fn facts(&self, call: &Call) -> MethodResult<Value, InventoryError> {
        let left = call.deadline().saturating_duration_since(now());
        let soon = Duration::from_secs(30) < left && left <= Duration::from_secs(60);
        Ok(json!({
            "user": call.context().get("user"), "id": call.id().to_string(), "in a minute": soon,
            "cancelled": call.is_cancelled(),
        }))
    }
}

/// The same with `async fn`. Each handler waits once before it does anything.
impl AsyncInventory for Shelf {
    async fn reserve(
        &self,
        call: &Call,
        part: String,
        count: u32,
        note: Option<String>,
    ) -> MethodResult<Reservation, InventoryError> {
        Later(false).await;
        Inventory::reserve(self, call, part, count, note)
    }

    async fn fail(&self, call: &Call, how: String) -> MethodResult<(), InventoryError> {
        Later(false).await;
        Inventory::fail(self, call, how)
    }

    async fn facts(&self, call: &Call) -> MethodResult<Value, InventoryError> {
        Later(false).await;
        Inventory::facts(self, call)
    }
}

/// Ready at the second poll.
struct Later(bool);

impl Future for Later {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Runs each handler on a thread of its own.
struct Threads;

impl Executor for Threads {
    fn spawn(&self, handler: BoxFuture<()>) {
        std::thread::spawn(move || run(handler));
    }
}

fn run(mut future: BoxFuture<()>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    while future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
}

enum Server {
    Blocking(RpcServer),
    Async(AsyncRpcServer),
}

struct Running {
    server: Server,
    broker: Broker,
    dir: TempDir,
}

/// Runs a test with a server that has blocking handlers, and with one that has asynchronous ones.
fn with_each(test: impl Fn(&Running)) {
    for asynchronous in [false, true] {
        let dir = TempDir::new().unwrap();
        let target = InventoryClient::target().with_server("s").unwrap();
        let server = if asynchronous {
            let builder = AsyncRpcServer::builder(target, Threads).ipc_dir(dir.path()).places(1);
            Server::Async(builder.endpoint(AsyncInventory::into_endpoint(Shelf)).start().unwrap())
        } else {
            let builder = RpcServer::builder(target).ipc_dir(dir.path()).workers(1);
            Server::Blocking(builder.endpoint(Inventory::into_endpoint(Shelf)).start().unwrap())
        };
        let broker = Broker::start(dir.path());
        assert_eq!(broker.header.key.as_ref().unwrap().as_str(), "openstack/inventory");
        let running = Running { server, broker, dir };
        test(&running);
        running.stop();
    }
}

impl Running {
    /// Calls a method with this message, as it is inside the envelope.
    fn call(&self, message: &str) -> Result<Value, Box<Failure>> {
        self.broker.deliver(0, &request(Kind::Call, 1), &envelope::seal(message));
        let answer = self.broker.answer(0);
        assert_eq!(answer.header.kind, Kind::Reply, "{}", answer.detail());
        let read = Reply::decode(&answer.body).unwrap();
        assert_eq!(answer.header.flags.contains(Flags::FAILURE), read.is_err());
        read
    }

    fn reserve(&self, arguments: &str) -> Result<Value, Box<Failure>> {
        self.call(&format!(
            r#"{{"method": "reserve", "args": {arguments}, "namespace": "stock", "version": "1.0", "_unique_id": "x"}}"#
        ))
    }

    fn stop(self) {
        let Self { server, mut broker, dir } = self;
        let stopping = std::thread::spawn(move || match server {
            Server::Blocking(server) => server.stop().unwrap(),
            Server::Async(server) => run(Box::pin(async move { server.stop().await.unwrap() })),
        });
        broker.release();
        stopping.join().unwrap();
        drop(dir);
    }
}

/// What a peer sees of an error.
fn seen(failure: &Failure) -> (&str, &str, &str) {
    (&failure.module, &failure.class, &failure.message)
}

#[test]
fn requests_of_other_drivers_run_by_the_names_of_their_arguments() {
    with_each(|running| {
        let done = json!({"part": "bolt", "count": 2});
        assert_eq!(running.reserve(r#"{"count": 2, "part": "bolt"}"#).unwrap(), done);
        assert_eq!(running.reserve(r#"{"note": null, "part": "b\u006flt", "count": 2}"#).unwrap(), done);
        for (arguments, told) in [
            (
                r#"{"part": "bolt", "count": "two"}"#,
                "arguments of reserve: count: invalid type: string \"two\", expected u32",
            ),
            (r#"{"part": "bolt"}"#, "arguments of reserve: count is missing"),
            (
                r#"{"part": "bolt", "count": 1, "x": 1}"#,
                "arguments of reserve: \"x\" is not an argument, the method takes part",
            ),
            (
                r#"["bolt", 1]"#,
                "arguments of reserve: invalid type: sequence, expected an object with part, count, note",
            ),
        ] {
            let failure = running.reserve(arguments).unwrap_err();
            assert_eq!((failure.module.as_str(), failure.class.as_str()), ("zmqv2.server", "InvalidArguments"));
            assert!(failure.message.starts_with(told), "{}", failure.message);
        }
    });
}

#[test]
fn declared_errors_are_exceptions_with_their_data_and_others_are_as_always() {
    with_each(|running| {
        let fail = |how| {
            running.call(&format!(r#"{{"method":"fail","args":{{"how":"{how}"}},"namespace":"stock"}}"#)).unwrap_err()
        };
        let few = running.reserve(r#"{"part": "bolt", "count": 4}"#).unwrap_err();
        assert_eq!(seen(&few), ("stock.exceptions", "TooFew", "only 3 left"));
        assert_eq!((few.args.as_slice(), json!(few.kwargs)), (&[][..], json!({"left": 3})));
        let closed = fail("declared");
        assert_eq!((seen(&closed), closed.kwargs.len()), (("stock.exceptions", "Closed", "closed"), 0));
        assert_eq!(seen(&fail("other")), ("core::num::error", "ParseIntError", "invalid digit found in string"));
        assert_eq!(seen(&fail("handler")), ("m", "C", "handler"));
    });
}

#[test]
fn versions_namespaces_and_methods_are_those_of_the_declaration() {
    with_each(|running| {
        for (message, class) in [
            (r#"{"method":"facts","args":{},"namespace":"stock","version":"1.3"}"#, "UnsupportedVersion"),
            (r#"{"method":"facts","args":{},"version":"1.2"}"#, "UnsupportedVersion"),
            (r#"{"method":"into_endpoint","args":{},"namespace":"stock","version":"1.2"}"#, "NoSuchMethod"),
        ] {
            assert_eq!(running.call(message).unwrap_err().class, class, "{message}");
        }
    });
}

#[test]
fn a_handler_knows_context_deadline_id_and_cancellation() {
    with_each(|running| {
        let header = request(Kind::Call, 1);
        let message = r#"{"method":"facts","args":null,"namespace":"stock","version":"1.2","_context_user":"ann"}"#;
        running.broker.deliver(0, &header, &envelope::seal(message));
        let facts: Value = Reply::decode(&running.broker.answer(0).body).unwrap().unwrap();
        let id = header.id.to_string();
        assert_eq!(facts, json!({"user": "ann", "id": id, "in a minute": true, "cancelled": false}));
    });
}

#[test]
fn a_cast_of_a_method_that_the_declaration_lacks_is_refused() {
    with_each(|running| {
        let mut header = request(Kind::Cast, 1);
        header.flags = Flags::NO_METHOD;
        running.broker.deliver(0, &header, &envelope::seal(r#"{"method":"lend","args":{},"namespace":"stock"}"#));
        let refusal = running.broker.answer(0);
        assert_eq!(
            (refusal.header.kind, refusal.detail()),
            (Kind::Refusal, "endpoint does not support RPC method lend")
        );
    });
}
