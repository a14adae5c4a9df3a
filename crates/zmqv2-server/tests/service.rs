//! A declared service at a server: this crate alone, and requests as a peer in Python writes them.

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Broker, now, request};
use tempfile::TempDir;
use zmqv2_proto::{Flags, Kind, Reply, envelope};
use zmqv2_server::{Call, Failure, HandlerError, MethodError, MethodResult, RpcServer, service};

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
    service Inventory("inventory"), client InventoryClient, namespace "stock", version 1.2, error InventoryError,
        module "stock.exceptions"
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

struct Running {
    server: Arc<RpcServer>,
    broker: Broker,
    _dir: TempDir,
}

impl Running {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let inventory = Shelf.into_endpoint();
        let target = inventory.target().with_server("s").unwrap();
        let server = RpcServer::builder(target).ipc_dir(dir.path()).endpoint(inventory).workers(1).start().unwrap();
        let broker = Broker::start(dir.path());
        assert_eq!(broker.header.key.as_ref().unwrap().as_str(), "openstack/inventory");
        Self { server: Arc::new(server), broker, _dir: dir }
    }

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

    fn stop(mut self) {
        let server = Arc::clone(&self.server);
        let stopping = std::thread::spawn(move || server.stop().unwrap());
        self.broker.release();
        stopping.join().unwrap();
    }
}

/// What a peer sees of an error.
fn seen(failure: &Failure) -> (&str, &str, &str) {
    (&failure.module, &failure.class, &failure.message)
}

#[test]
fn requests_of_other_drivers_run_by_the_names_of_their_arguments() {
    let running = Running::start();
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
        (r#"["bolt", 1]"#, "arguments of reserve: invalid type: sequence, expected an object with part, count, note"),
    ] {
        let failure = running.reserve(arguments).unwrap_err();
        assert_eq!((failure.module.as_str(), failure.class.as_str()), ("zmqv2.server", "InvalidArguments"));
        assert!(failure.message.starts_with(told), "{}", failure.message);
    }
    running.stop();
}

#[test]
fn declared_errors_are_exceptions_with_their_data_and_others_are_as_always() {
    let running = Running::start();
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
    running.stop();
}

#[test]
fn versions_namespaces_and_methods_are_those_of_the_declaration() {
    let running = Running::start();
    for (message, class) in [
        (r#"{"method":"facts","args":{},"namespace":"stock","version":"1.3"}"#, "UnsupportedVersion"),
        (r#"{"method":"facts","args":{},"version":"1.2"}"#, "UnsupportedVersion"),
        (r#"{"method":"into_endpoint","args":{},"namespace":"stock","version":"1.2"}"#, "NoSuchMethod"),
    ] {
        assert_eq!(running.call(message).unwrap_err().class, class, "{message}");
    }
    running.stop();
}

#[test]
fn a_handler_knows_context_deadline_id_and_cancellation() {
    let running = Running::start();
    let header = request(Kind::Call, 1);
    let message = r#"{"method":"facts","args":null,"namespace":"stock","version":"1.2","_context_user":"ann"}"#;
    running.broker.deliver(0, &header, &envelope::seal(message));
    let facts: Value = Reply::decode(&running.broker.answer(0).body).unwrap().unwrap();
    let id = header.id.to_string();
    assert_eq!(facts, json!({"user": "ann", "id": id, "in a minute": true, "cancelled": false}));
    running.stop();
}

#[test]
fn a_cast_of_a_method_that_the_declaration_lacks_is_refused() {
    let running = Running::start();
    let mut header = request(Kind::Cast, 1);
    header.flags = Flags::NO_METHOD;
    running.broker.deliver(0, &header, &envelope::seal(r#"{"method":"lend","args":{},"namespace":"stock"}"#));
    let refusal = running.broker.answer(0);
    assert_eq!((refusal.header.kind, refusal.detail()), (Kind::Refusal, "endpoint does not support RPC method lend"));
    running.stop();
}
