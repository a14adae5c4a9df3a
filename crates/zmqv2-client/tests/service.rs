//! The client of a declared service: this crate alone, and answers as peers in Python write them.

mod support;

use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::{Act, Broker, Fixed, Seen};
use zmqv2_client::{CallError, Failure, Outcome, RequestContext, RpcClient, SendError, ServiceError, Version, service};
use zmqv2_proto::{DISPATCHER_MODULE, Kind, Request};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reservation {
    id: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum InventoryError {
    TooFew { left: u32 },
    Closed,
}

impl std::fmt::Display for InventoryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

service! {
    /// Parts in stock.
    service Inventory("inventory"), client InventoryClient, namespace "stock", version 1.3, error InventoryError {
        /// Reserves parts.
        fn reserve(part: String, count: u32) -> Reservation;
        /// Gives them back.
        fn undo(id: u64), since 1.2;
    }
}

fn client(broker: &Broker) -> RpcClient {
    let builder = RpcClient::builder(InventoryClient::target()).matchmaker(Fixed::at([broker.node("n1")]));
    builder.timeout(Duration::from_secs(20)).cast_timeout(Duration::from_secs(20)).build().unwrap()
}

/// What a request says: method, arguments, namespace, version.
fn said(request: &Request) -> (&str, &str, Option<&str>, Option<Version>) {
    let namespace = request.namespace.as_ref().map(zmqv2_proto::Namespace::as_str);
    (request.method.as_str(), request.args.get(), namespace, request.version)
}

#[test]
fn a_request_has_named_arguments_and_the_version_that_its_method_needs() {
    let (saw, seen) = mpsc::channel();
    let broker = Broker::start(move |request| {
        saw.send((request.header.clone(), request.request.clone())).unwrap();
        match request.header.kind {
            Kind::Call if request.request.method.as_str() == "undo" => request.result(&()),
            Kind::Call => request.result(&Reservation { id: 7 }),
            _ => request.ack(),
        }
    });
    let context = RequestContext::new().with("user", "ann");
    let inventory = InventoryClient::new(client(&broker)).with_context(context);
    assert_eq!(inventory.reserve("bolt".to_owned(), 3).call().unwrap(), Reservation { id: 7 });
    let (header, request) = seen.recv().unwrap();
    let arguments = r#"{"part":"bolt","count":3}"#;
    assert_eq!((header.kind, header.key.unwrap().as_str()), (Kind::Call, "openstack/inventory"));
    assert_eq!(said(&request), ("reserve", arguments, Some("stock"), Some(Version::new(1, 0))));
    assert_eq!(request.context.get("user"), Some(Value::from("ann")));

    let nobody = inventory.undo(7).with_context(RequestContext::new());
    nobody.with(|client| client.timeout(Duration::from_secs(5))).call_async().unwrap().wait().unwrap();
    let (header, request) = seen.recv().unwrap();
    assert_eq!(said(&request), ("undo", r#"{"id":7}"#, Some("stock"), Some(Version::new(1, 2))));
    assert_eq!(request.context.iter().count(), 0);
    assert!(header.ttl.as_millis() <= 5_000);

    drop(inventory.undo(8).cast().unwrap());
    assert_eq!(seen.recv().unwrap().0.kind, Kind::Cast);
    drop(inventory.undo(9).fanout().unwrap());
    assert_eq!(seen.recv().unwrap().0.kind, Kind::Fanout);

    // A client of another namespace and topic: the topic stays.
    let other = client(&broker).namespace("other").unwrap().topic("spare").unwrap();
    InventoryClient::new(other).reserve("nut".to_owned(), 1).call().unwrap();
    let (header, request) = seen.recv().unwrap();
    assert_eq!((header.key.unwrap().as_str(), said(&request).2), ("openstack/spare", Some("stock")));
}

#[test]
fn only_declared_errors_of_the_services_module_come_back_as_themselves() {
    let mut answers = vec![
        exception("inventory", "TooFew", &json!([]), &json!({"left": 2})),
        exception("inventory", "Closed", &json!(["closed since Monday"]), &json!({})),
        exception("inventory", "TooFew", &json!(["two left"]), &json!({})),
        exception("inventory", "Unknown", &json!([]), &json!({})),
        exception("other", "Closed", &json!([]), &json!({})),
        exception(DISPATCHER_MODULE, "UnsupportedVersion", &json!([]), &json!({})),
    ]
    .into_iter();
    let broker = Broker::start(move |seen: &Seen| match answers.next() {
        Some(failure) => seen.failure(failure),
        None => Act::Ignore,
    });
    let inventory = InventoryClient::new(client(&broker));
    let fail = || inventory.undo(1).call().unwrap_err();
    assert!(matches!(fail(), ServiceError::Remote(InventoryError::TooFew { left: 2 })));
    assert!(matches!(fail(), ServiceError::Remote(InventoryError::Closed)));
    for (class, allowed) in [("TooFew", false), ("Unknown", false), ("Closed", false), ("UnsupportedVersion", true)] {
        let ServiceError::Call(CallError::Remote(error)) = fail() else { panic!("{class} is declared") };
        assert_eq!((error.original_class(), error.is_allowed()), (class, allowed));
    }
    let lost = inventory.undo(1).with(|client| client.timeout(Duration::from_millis(50))).call().unwrap_err();
    assert!(matches!(lost, ServiceError::Call(CallError::Timeout { .. })), "{lost:?}");
}

/// As oslo.messaging writes it.
fn exception(module: &str, class: &str, args: &Value, kwargs: &Value) -> Failure {
    let text = json!({
        "class": class, "module": module, "message": "text", "tb": ["Traceback"], "args": args, "kwargs": kwargs,
    });
    serde_json::from_value(text).unwrap()
}

#[test]
fn a_version_cap_holds_back_what_older_servers_lack() {
    let broker = Broker::start(|seen| seen.result(&Reservation { id: 7 }));
    let inventory = InventoryClient::new(client(&broker).version_cap(Version::new(1, 1)));
    assert!(inventory.reserve("bolt".to_owned(), 1).can_be_sent() && !inventory.undo(7).can_be_sent());
    inventory.reserve("bolt".to_owned(), 1).call().unwrap();
    let capped = inventory.undo(7).call().unwrap_err();
    assert!(matches!(capped, ServiceError::Call(CallError::NotSent(SendError::VersionCap { .. }))), "{capped:?}");
    assert_eq!(broker.requests(), 1);
}

#[test]
fn a_request_can_be_awaited_on_any_executor() {
    let (saw, seen) = mpsc::channel();
    let broker = Broker::start(move |request| {
        saw.send((request.header.kind, request.request.clone())).unwrap();
        match (request.header.kind, request.request.method.as_str()) {
            (Kind::Call, "undo") => request.failure(exception("inventory", "Closed", &json!([]), &json!({}))),
            (Kind::Call, _) => request.result(&Reservation { id: 7 }),
            _ => request.ack(),
        }
    });
    let inventory = InventoryClient::new(client(&broker)).with_context(RequestContext::new().with("user", "ann"));
    let bolts = || inventory.reserve("bolt".to_owned(), 3);
    // A future sends nothing before its first poll.
    let future = bolts().into_future();
    assert_eq!(broker.requests(), 0);
    assert_eq!(block_on(future).unwrap(), Reservation { id: 7 });
    let (kind, request) = seen.recv().unwrap();
    let arguments = r#"{"part":"bolt","count":3}"#;
    assert_eq!((kind, said(&request)), (Kind::Call, ("reserve", arguments, Some("stock"), Some(Version::new(1, 0)))));
    assert_eq!(request.context.get("user"), Some(Value::from("ann")));
    assert_eq!(block_on(bolts().call_async().unwrap()).unwrap(), Reservation { id: 7 });
    for closed in [block_on(inventory.undo(1).into_future()), block_on(inventory.undo(1).call_async().unwrap())] {
        assert!(matches!(closed, Err(ServiceError::Remote(InventoryError::Closed))), "{closed:?}");
    }
    let requests = seen.try_iter().last().unwrap().1;
    assert_eq!(said(&requests).3, Some(Version::new(1, 2)));

    assert!(matches!(block_on(block_on(inventory.undo(8).cast_future()).unwrap()), Outcome::Acked { .. }));
    assert_eq!(block_on(block_on(inventory.undo(9).fanout_future()).unwrap()).acked(), 1);
    let kinds: Vec<_> = seen.try_iter().map(|(kind, request)| (kind, request.args.get().to_owned())).collect();
    assert_eq!(kinds, [(Kind::Cast, r#"{"id":8}"#.to_owned()), (Kind::Fanout, r#"{"id":9}"#.to_owned())]);

    let capped = InventoryClient::new(client(&broker).version_cap(Version::new(1, 1)));
    let held_back = block_on(capped.undo(7).into_future());
    assert!(
        matches!(held_back, Err(ServiceError::Call(CallError::NotSent(SendError::VersionCap { .. })))),
        "{held_back:?}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn tasks_of_one_thread_await_many_requests() {
    let broker = Broker::start(|seen| seen.result(&Reservation { id: 7 }));
    let inventory = InventoryClient::new(client(&broker));
    // The future of a request borrows nothing, neither of the request nor of the client.
    let calls: Vec<_> =
        (0..100).map(|count| tokio::spawn(inventory.reserve("bolt".to_owned(), count).into_future())).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), Reservation { id: 7 });
    }
    let short = || async { inventory.reserve("bolt".to_owned(), 1).await.map(|reservation| reservation.id) };
    assert_eq!(short().await.unwrap(), 7);
}

/// A small executor.
fn block_on<F: Future + Unpin>(mut future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(output) = std::pin::Pin::new(&mut future).poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
