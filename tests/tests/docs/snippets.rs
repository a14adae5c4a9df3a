//! The Rust code that the pages show. `docs.rs` holds each snippet against its page.

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zmqv2_client::{Notifier, Outcome, RequestContext, RpcClient};
use zmqv2_proto::{Priority, Target, Version};
use zmqv2_server::{HandlerError, Methods, Notice, NotificationListener, RpcServer, Verdict, reply};

#[derive(Serialize)]
struct BootArguments {
    cores: u32,
}

#[derive(Serialize)]
struct RefreshArguments {
    host: &'static str,
}

#[derive(Serialize, Deserialize)]
struct Instance {
    id: u64,
}

fn bill(_instance: &Instance) -> Result<(), ()> {
    Ok(())
}

/// Unlike the others, these run.
mod testing {
    // snippet: testing
    use std::error::Error;
    use std::time::Duration;

    use zmqv2_broker::testing::TestBroker;
    use zmqv2_client::{RequestContext, RpcClient, Target};
    use zmqv2_server::{Methods, RpcServer};

    fn calculator() -> Methods {
        Methods::new().method("add", |(a, b): (i64, i64)| Ok(a + b)).expect("a valid name")
    }

    #[test]
    fn it_adds() -> Result<(), Box<dyn Error>> {
        let broker = TestBroker::start()?;

        let target = Target::topic("calculator")?;
        let server = RpcServer::builder(target.clone()).config(broker.config()).endpoint(calculator()).start()?;
        server.wait_ready(Duration::from_secs(10))?;

        let client = RpcClient::builder(target).config(broker.config()).build()?;
        assert_eq!(client.call::<i64>(&RequestContext::new(), "add", &(1, 2))?, 3);
        Ok(())
    }
    // end

    pub(super) fn limits() -> Result<(), Box<dyn Error>> {
        // snippet: testing-limits
        let broker = TestBroker::start_with(|config| config.topic_backlog = 1)?;
        // end
        drop(broker);
        Ok(())
    }

    // snippet: testing-faults
    #[test]
    fn it_comes_back_after_an_outage() -> Result<(), Box<dyn Error>> {
        let mut broker = TestBroker::start()?;
        let target = Target::topic("calculator")?;
        let server = RpcServer::builder(target.clone()).config(broker.config()).endpoint(calculator()).start()?;
        server.wait_ready(Duration::from_secs(10))?;
        let client = RpcClient::builder(target).config(broker.config()).build()?;
        let add = |timeout| client.prepare().timeout(timeout).call::<i64>(&RequestContext::new(), "add", &(1, 2));

        broker.kill()?;
        assert!(add(Duration::from_millis(100)).is_err());
        broker.restart()?;
        server.wait_ready(Duration::from_secs(10))?;
        assert_eq!(add(Duration::from_secs(10))?, 3);
        Ok(())
    }
    // end
}

fn calls() -> Result<(), Box<dyn Error>> {
    // snippet: calls
    let client = RpcClient::builder(Target::topic("compute")?).timeout(Duration::from_secs(10)).build()?;
    let context = RequestContext::new().with("user", "ann");
    let id: u64 = client.call(&context, "boot", &BootArguments { cores: 2 })?;

    // Exactly one server, and more time.
    let node_7 = client.prepare().server("node-7")?.timeout(Duration::from_secs(60));
    node_7.call::<()>(&context, "shut_down", &id)?;
    // end
    Ok(())
}

fn casts(client: &RpcClient, context: &RequestContext) -> Result<(), Box<dyn Error>> {
    // snippet: casts
    let handle = client.cast(context, "refresh", &RefreshArguments { host: "node-7" })?;
    match handle.wait(Duration::from_secs(5)) {
        Some(Outcome::Acked { server, node, .. }) => println!("{server} at {node} accepted it"),
        Some(outcome) => println!("{outcome}"),
        None => println!("no outcome yet"),
    }
    // end
    Ok(())
}

async fn asynchronous() -> Result<(), Box<dyn Error>> {
    // snippet: async
    let client = RpcClient::builder(Target::topic("compute")?).build()?.asynchronous();
    let context = RequestContext::new();
    let id: u64 = client.call(&context, "boot", &BootArguments { cores: 2 }).await?;

    // Ready as soon as the client has the message; the handle is a future of the outcome.
    let handle = client.cast(&context, "refresh", &RefreshArguments { host: "node-7" }).await?;
    println!("{}", handle.await);
    // end
    let _ = id;
    Ok(())
}

fn fanout(client: &RpcClient, context: &RequestContext) -> Result<(), Box<dyn Error>> {
    // snippet: fanout
    let handle = client.fanout(context, "reload", &())?;
    let report = handle.wait(Duration::from_secs(5)).unwrap_or_else(|| handle.so_far());
    for result in &report.results {
        println!("{:?} on {:?}: {}", result.server, result.node, result.outcome);
    }
    println!("{} of {} accepted it", report.acked(), report.results.len());
    // end
    Ok(())
}

fn serving() -> Result<(), Box<dyn Error>> {
    // snippet: serving
    let methods = Methods::new()
        .version(Version::new(1, 2))
        .method("add", |(a, b): (i64, i64)| Ok(a + b))?
        .raw("whoami", |incoming| reply(&incoming.context().get("user")))?;
    let target = Target::topic("calculator")?.with_server("alpha")?;
    let server = RpcServer::builder(target).endpoint(methods).workers(4).start()?;
    // end
    Ok(server.stop()?)
}

fn notifications(context: &RequestContext) -> Result<(), Box<dyn Error>> {
    // snippet: notifier
    let notifier = Notifier::builder("compute.node-7").topics(["notifications"])?.build()?;
    let handle = notifier.info(context, "instance.created", &Instance { id: 7 })?;
    // end
    drop(handle);
    // snippet: listener
    let listener = NotificationListener::builder()
        .topic("notifications")?
        .pool("billing")?
        .on([Priority::Info, Priority::Error], |notice: &Notice| {
            let instance: Instance = notice.payload()?;
            let billed = bill(&instance).is_ok();
            Ok::<_, HandlerError>(if billed { Verdict::Handled } else { Verdict::Requeue })
        })
        .start()?;
    // end
    Ok(listener.stop()?)
}

mod services {
    #[allow(unreachable_pub, reason = "the page shows a crate of its own")]
    mod inventory_api {
        // snippet: service-declaration
        use serde::{Deserialize, Serialize};
        use zmqv2_proto::service;

        #[derive(Debug, Serialize, Deserialize)]
        pub struct Reservation {
            pub id: u64,
        }

        #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
        pub enum InventoryError {
            #[error("only {left} left")]
            TooFew { left: u32 },
        }

        service! {
            /// Parts in stock.
            pub service Inventory("inventory"), async AsyncInventory, client InventoryClient,
                namespace "stock", version 1.2, error InventoryError
            {
                /// Reserves parts.
                fn reserve(part: String, count: u32) -> Reservation;
                /// Gives reserved parts back.
                fn undo(id: u64), since 1.2;
            }
        }
        // end
    }

    mod blocking_server {
        use super::inventory_api;
        // snippet: service-server
        use std::time::Duration;

        use inventory_api::{Inventory, InventoryError, Reservation};
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::iterator::Signals;
        use zmqv2_server::{Call, MethodError, MethodResult, RpcServer};

        struct Shelf {
            parts: std::sync::Mutex<u32>,
        }

        impl Inventory for Shelf {
            fn reserve(&self, call: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
                println!("{count} of {part} for {:?}", call.context().get("user"));
                let mut parts = self.parts.lock().expect("a lock");
                *parts = parts.checked_sub(count).ok_or(InventoryError::TooFew { left: *parts })?;
                Ok(Reservation { id: 7 })
            }

            fn undo(&self, _: &Call, id: u64) -> MethodResult<(), InventoryError> {
                std::fs::remove_file(format!("/var/lib/stock/{id}")).map_err(MethodError::other)
            }
        }

        fn main() -> Result<(), Box<dyn std::error::Error>> {
            let mut signals = Signals::new([SIGINT, SIGTERM])?;
            let inventory = Shelf { parts: 100.into() }.into_endpoint();
            let target = inventory.target().with_server("alpha")?;
            let server = RpcServer::builder(target).endpoint(inventory).workers(4).start()?;
            server.wait_ready(Duration::from_secs(10))?;
            println!("ready");
            signals.forever().next();
            server.stop()?;
            Ok(())
        }
        // end

        pub(super) fn compile() {
            let _ = main;
        }
    }

    mod async_server {
        use super::inventory_api;

        struct Shelf;

        async fn look_up(part: &str) -> std::io::Result<u64> {
            Ok(part.len() as u64)
        }

        async fn stop_signal() {}

        // snippet: service-async-server
        use std::time::Duration;

        use inventory_api::{AsyncInventory, InventoryError, Reservation};
        use zmqv2_server::{AsyncRpcServer, Call, MethodError, MethodResult};

        impl AsyncInventory for Shelf {
            async fn reserve(&self, _: &Call, part: String, _: u32) -> MethodResult<Reservation, InventoryError> {
                let id = look_up(&part).await.map_err(MethodError::other)?;
                Ok(Reservation { id })
            }

            async fn undo(&self, _: &Call, _: u64) -> MethodResult<(), InventoryError> {
                Ok(())
            }
        }

        async fn serve() -> Result<(), Box<dyn std::error::Error>> {
            let inventory = Shelf.into_endpoint();
            let target = inventory.target().with_server("alpha")?;
            let executor = tokio::runtime::Handle::current();
            let server = AsyncRpcServer::builder(target, executor).endpoint(inventory).places(1_000).start()?;
            server.ready(Duration::from_secs(10)).await?;
            stop_signal().await;
            server.stop().await?;
            Ok(())
        }
        // end

        pub(super) fn compile() {
            let _ = serve;
        }
    }

    mod clients {
        use super::inventory_api;

        pub(super) fn blocking() -> Result<(), Box<dyn std::error::Error>> {
            // snippet: service-client
            use std::time::Duration;

            use inventory_api::{InventoryClient, InventoryError};
            use zmqv2_client::{RpcClient, ServiceError};

            let client = RpcClient::builder(InventoryClient::target()).build()?;
            let inventory = InventoryClient::new(client);
            match inventory.reserve("bolt".to_owned(), 3).call() {
                Ok(reservation) => println!("reserved: {}", reservation.id),
                Err(ServiceError::Remote(InventoryError::TooFew { left })) => println!("only {left} left"),
                Err(ServiceError::Call(error)) => println!("try again later: {error}"),
            }
            let undo = inventory.undo(7).with(|client| client.timeout(Duration::from_secs(5)).retry(2));
            let handle = undo.cast()?;
            // end
            drop(handle);
            Ok(())
        }

        pub(super) async fn asynchronous() -> Result<(), Box<dyn std::error::Error>> {
            use inventory_api::InventoryClient;
            use zmqv2_client::{RequestContext, RpcClient};
            let client = RpcClient::builder(InventoryClient::target()).build()?;

            // snippet: service-async-client
            let ann = RequestContext::new().with("user", "ann");
            let inventory = InventoryClient::new(client).with_context(ann);
            let reservation = inventory.reserve("bolt".to_owned(), 3).await?;

            let calls = (0..10).map(|_| tokio::spawn(inventory.reserve("nut".to_owned(), 1).into_future()));
            for call in Vec::from_iter(calls) {
                println!("reserved: {}", call.await??.id);
            }
            let outcome = inventory.undo(reservation.id).cast_future().await?.await;
            // end
            drop(outcome);
            Ok(())
        }
    }

    pub(super) fn compile() {
        let _ = (clients::blocking, clients::asynchronous);
        blocking_server::compile();
        async_server::compile();
    }
}

mod interceptors {
    pub(super) mod client {
        // snippet: interceptor-client
        use zmqv2_client::{Ended, Interceptor, Outgoing, RefusedBy, RequestContext, RpcClient, Target};

        struct Token(String);

        impl Interceptor for Token {
            type State = ();

            fn before(&self, message: &mut Outgoing<'_>) -> Result<(), RefusedBy> {
                message.extend_context("token", &self.0);
                Ok(())
            }

            fn after(&self, (): (), ended: &Ended<'_>) {
                println!("{} after {:?}", ended.label(), ended.elapsed);
            }
        }

        fn main() -> Result<(), Box<dyn std::error::Error>> {
            let token = Token("secret".to_owned());
            let client = RpcClient::builder(Target::topic("invoices")?).interceptor(token).build()?;
            let count: u32 = client.call(&RequestContext::new(), "count", &())?;
            println!("{count}");
            Ok(())
        }
        // end

        pub(super) fn compile() {
            let _ = main;
        }
    }

    pub(super) mod server {
        // snippet: interceptor-server
        use zmqv2_server::{HandlerError, Interceptor, Methods, Received, RpcServer, Target};

        struct Check;

        impl Interceptor for Check {
            type State = ();

            fn before(&self, request: &mut Received<'_>) -> Result<(), HandlerError> {
                if request.context().get("token").is_none_or(|token| token != "secret") {
                    return Err(HandlerError::new("invoices", "Forbidden", "a token is needed"));
                }
                Ok(())
            }
        }

        fn main() -> Result<(), Box<dyn std::error::Error>> {
            let methods = Methods::new().method("count", |(): ()| Ok(3))?;
            let builder = RpcServer::builder(Target::topic("invoices")?).endpoint(methods);
            let server = builder.interceptor(Check).start()?;
            // ... until it is time to go:
            server.stop()?;
            Ok(())
        }
        // end

        pub(super) fn compile() {
            let _ = main;
        }
    }

    pub(super) fn compile() {
        client::compile();
        server::compile();
    }
}

/// A function that nobody names would be a warning.
pub(crate) fn compile() {
    let _ = (calls, casts, asynchronous, fanout, serving, notifications, testing::limits);
    services::compile();
    interceptors::compile();
}
