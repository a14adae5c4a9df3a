//! A declared service from end to end, with brokers between: results, declared errors, old peers,
//! cancellation, and peers without the declaration.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zmqv2_client::{CallError, Outcome, RequestContext, ServiceError};
use zmqv2_proto::{Target, Version};
use zmqv2_server::{
    AsyncRpcServer, Call, Endpoint, HandlerError, MethodError, MethodResult, Methods, RpcServer, service,
};
use zmqv2_tests::{Cluster, Node, PATIENCE, now};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reservation {
    id: u64,
    part: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum InventoryError {
    #[error("only {left} left")]
    TooFew { left: u32 },
}

service! {
    /// Parts in stock, as new peers know it.
    service Inventory("inventory"), async AsyncInventory, client InventoryClient, namespace "stock", version 1.2,
        error InventoryError
    {
        /// Reserves parts.
        fn reserve(part: String, count: u32) -> Reservation;
        /// The user of the caller.
        fn user() -> Option<String>;
        /// Waits until it is cancelled.
        fn wait();
        /// Gives parts back.
        fn undo(id: u64), since 1.2;
    }
}

mod old {
    use super::{InventoryError, Reservation};

    zmqv2_server::service! {
        /// The same, as old peers know it.
        pub(crate) service Inventory("inventory"), client InventoryClient, namespace "stock", version 1.1,
            error InventoryError
        {
            /// Reserves parts.
            fn reserve(part: String, count: u32) -> Reservation;
        }
    }
}

struct Shelf {
    left: AtomicU32,
    /// What its method `wait` does.
    report: Sender<&'static str>,
}

fn take(left: &AtomicU32, part: String, count: u32) -> Result<Reservation, InventoryError> {
    let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(count));
    taken.map(|before| Reservation { id: before.into(), part }).map_err(|left| InventoryError::TooFew { left })
}

impl Inventory for Shelf {
    fn reserve(&self, _: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
        Ok(take(&self.left, part, count)?)
    }

    fn user(&self, call: &Call) -> MethodResult<Option<String>, InventoryError> {
        let user = call.context().read("user").transpose();
        user.map_err(MethodError::other)
    }

    fn wait(&self, call: &Call) -> MethodResult<(), InventoryError> {
        self.report.send("began").map_err(MethodError::other)?;
        let give_up = now() + PATIENCE;
        while !call.is_cancelled() {
            if now() > give_up {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.report.send("cancelled").map_err(MethodError::other)
    }

    fn undo(&self, _: &Call, _: u64) -> MethodResult<(), InventoryError> {
        self.left.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl AsyncInventory for Shelf {
    async fn reserve(&self, _: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
        tokio::task::yield_now().await;
        Ok(take(&self.left, part, count)?)
    }

    async fn user(&self, call: &Call) -> MethodResult<Option<String>, InventoryError> {
        Inventory::user(self, call)
    }

    async fn wait(&self, call: &Call) -> MethodResult<(), InventoryError> {
        self.report.send("began").map_err(MethodError::other)?;
        let give_up = now() + PATIENCE;
        while !call.is_cancelled() && now() < give_up {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.report.send(if call.is_cancelled() { "cancelled" } else { "given up" }).map_err(MethodError::other)
    }

    async fn undo(&self, call: &Call, id: u64) -> MethodResult<(), InventoryError> {
        Inventory::undo(self, call, id)
    }
}

/// A server of an earlier version.
struct OldShelf(AtomicU32);

impl old::Inventory for OldShelf {
    fn reserve(&self, _: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
        Ok(take(&self.0, part, count)?)
    }
}

fn serve(node: &Node, endpoint: impl Endpoint + 'static) -> RpcServer {
    let target = InventoryClient::target().with_server("s1").unwrap();
    let server = RpcServer::builder(target).config(node.config()).ipc_dir(&node.ipc_dir).endpoint(endpoint).workers(2);
    let server = server.start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    server
}

fn bolts() -> String {
    "bolt".to_owned()
}

#[test]
fn a_service_that_is_declared_once_works_at_both_ends() {
    let cluster = Cluster::new(2, &["inventory"]);
    let _brokers: Vec<_> = cluster.nodes().iter().map(Node::broker).collect();
    let (report, events) = unbounded();
    let server = serve(cluster.node(0), Inventory::into_endpoint(Shelf { left: AtomicU32::new(3), report }));
    // A caller at this node, and one at the other.
    for (node, first) in [(cluster.node(0), 3), (cluster.node(1), 2)] {
        let client = node.client(InventoryClient::target());
        let inventory = InventoryClient::new(client.clone());
        assert_eq!(inventory.reserve(bolts(), 1).call().unwrap(), Reservation { id: first, part: bolts() });
        let left = u32::try_from(first).unwrap() - 1;
        let few = inventory.reserve(bolts(), 9).call_async().unwrap().wait().unwrap_err();
        let ServiceError::Remote(error) = few else { panic!("{few:?}") };
        assert_eq!(error, InventoryError::TooFew { left });
        let ann = RequestContext::new().with("user", "ann");
        assert_eq!(inventory.user().with_context(ann).call().unwrap().as_deref(), Some("ann"));
        assert_eq!(inventory.user().call().unwrap(), None);

        let waiting = inventory.wait().with(|client| client.timeout(Duration::from_secs(600))).call_async().unwrap();
        assert_eq!(events.recv_timeout(PATIENCE), Ok("began"));
        drop(waiting);
        assert_eq!(events.recv_timeout(PATIENCE), Ok("cancelled"));

        // A caller that knows only names sees an ordinary error.
        let arguments = json!({"part": "bolt", "count": 9});
        let error = client.call::<Value>(&RequestContext::new(), "reserve", &arguments).unwrap_err();
        let CallError::Remote(error) = error else { panic!("{error}") };
        assert_eq!(
            (error.module(), error.original_class(), error.message()),
            ("inventory", "TooFew", &*format!("only {left} left"))
        );
        assert_eq!(json!(error.failure().kwargs), json!({"left": left}));
    }
    let inventory = InventoryClient::new(cluster.node(1).client(InventoryClient::target()));
    assert!(matches!(inventory.undo(1).cast().unwrap().wait(PATIENCE), Some(Outcome::Acked { .. })));
    // The ring says that both nodes have the topic.
    assert_eq!(inventory.undo(1).fanout().unwrap().wait(PATIENCE).unwrap().acked(), 1);
    server.stop().unwrap();
}

#[test]
fn both_ends_of_a_declared_service_can_be_asynchronous() {
    let cluster = Cluster::new(1, &["inventory"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    // One thread runs the server's handlers, the calls, and the test.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (report, events) = unbounded();
    let endpoint = AsyncInventory::into_endpoint(Shelf { left: AtomicU32::new(3), report });
    let target = endpoint.target().with_server("s1").unwrap();
    let server = AsyncRpcServer::builder(target, runtime.handle().clone()).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = server.endpoint(endpoint).places(200).start().unwrap();
    let inventory = InventoryClient::new(node.client(InventoryClient::target()));
    runtime.block_on(async {
        server.ready(PATIENCE).await.unwrap();
        assert_eq!(inventory.reserve(bolts(), 1).await.unwrap(), Reservation { id: 3, part: bolts() });
        let few = inventory.reserve(bolts(), 9).await.unwrap_err();
        assert!(matches!(few, ServiceError::Remote(InventoryError::TooFew { left: 2 })), "{few:?}");
        let ann = RequestContext::new().with("user", "ann");
        assert_eq!(inventory.user().with_context(ann).await.unwrap().as_deref(), Some("ann"));

        // 100 handlers wait at the same time.
        let calls: Vec<_> = (0..100).map(|_| tokio::spawn(inventory.wait().into_future())).collect();
        let next = async || {
            let end = now() + PATIENCE;
            loop {
                match events.try_recv() {
                    Ok(event) => return event,
                    Err(_) => assert!(now() < end, "nothing happens"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        for _ in 0..100 {
            assert_eq!(next().await, "began");
        }
        for call in calls {
            call.abort();
        }
        for _ in 0..100 {
            assert_eq!(next().await, "cancelled");
        }
        assert!(matches!(inventory.undo(1).cast_future().await.unwrap().await, Outcome::Acked { .. }));
        assert_eq!(inventory.undo(1).fanout_future().await.unwrap().await.acked(), 1);
        server.stop().await.unwrap();
    });
}

#[test]
fn old_and_new_peers_share_what_both_have() {
    let cluster = Cluster::new(1, &["inventory"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let client = || node.client(InventoryClient::target());

    let server = serve(node, old::Inventory::into_endpoint(OldShelf(AtomicU32::new(3))));
    let inventory = InventoryClient::new(client());
    assert_eq!(inventory.reserve(bolts(), 1).call().unwrap().id, 3);
    let few = inventory.reserve(bolts(), 9).call().unwrap_err();
    assert!(matches!(few, ServiceError::Remote(InventoryError::TooFew { left: 2 })), "{few:?}");
    let missing = inventory.undo(1).call().unwrap_err();
    let ServiceError::Call(CallError::Remote(error)) = missing else { panic!("{missing:?}") };
    assert_eq!(error.class(), "UnsupportedVersion");
    assert!(error.message().contains("version 1.2") && error.message().contains("offered: 1.1"), "{error}");
    let refused = inventory.undo(1).cast().unwrap().wait(PATIENCE);
    assert!(matches!(refused, Some(Outcome::Refused { .. })), "{refused:?}");
    server.stop().unwrap();

    let server = serve(node, Inventory::into_endpoint(Shelf { left: AtomicU32::new(3), report: unbounded().0 }));
    assert_eq!(old::InventoryClient::new(client()).reserve(bolts(), 1).call().unwrap().id, 3);
    server.stop().unwrap();

    // A server without the declaration, and its error.
    let methods = Methods::new().namespace("stock").unwrap().version(Version::new(1, 2));
    let methods = methods.raw("reserve", |incoming| {
        let Value::Object(arguments) = incoming.args()? else { panic!("no object") };
        let mut failure = zmqv2_server::Failure::new("inventory", "TooFew", format!("{arguments:?}"));
        failure.kwargs = json!({"left": 1}).as_object().unwrap().clone();
        Err(HandlerError::expected(failure))
    });
    let server = serve(node, methods.unwrap());
    let few = InventoryClient::new(client()).reserve(bolts(), 2).call().unwrap_err();
    assert!(matches!(few, ServiceError::Remote(InventoryError::TooFew { left: 1 })), "{few:?}");
    server.stop().unwrap();
}

#[test]
fn a_topic_of_the_client_or_the_server_may_differ_from_the_declared_one() {
    let cluster = Cluster::new(1, &["spare"]);
    let node = cluster.node(0);
    let _broker = node.broker();
    let target = || Target::topic("spare").unwrap();
    let shelf = old::Inventory::into_endpoint(OldShelf(AtomicU32::new(1)));
    let server = RpcServer::builder(target().with_server("s1").unwrap()).config(node.config()).ipc_dir(&node.ipc_dir);
    let server = server.endpoint(shelf).workers(1).start().unwrap();
    server.wait_ready(PATIENCE).unwrap();
    let inventory = InventoryClient::new(node.client(target()));
    assert_eq!(inventory.reserve(bolts(), 1).call().unwrap().id, 1);
    server.stop().unwrap();
}
