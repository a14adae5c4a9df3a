//! The server of a declared service. Its handlers are `async fn`, and it stops in order: SIGTERM or
//! Ctrl-C lets it finish the requests that it has. It needs a broker on this node:
//! `cargo run --bin zmqv2-broker`.

mod inventory;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inventory::{AsyncInventory, InventoryError, Reservation};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zmqv2_server::{AsyncRpcServer, Call, MethodError, MethodResult};

/// Has 100 parts of every kind.
#[derive(Default)]
struct Shelf {
    last_id: AtomicU64,
    reserved: Mutex<HashMap<u64, Reservation>>,
}

fn left(part: &str, reserved: &HashMap<u64, Reservation>) -> u32 {
    100 - reserved.values().filter(|of| of.part == part).map(|of| of.count).sum::<u32>()
}

impl AsyncInventory for Shelf {
    async fn reserve(&self, _: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
        let mut reserved = self.reserved.lock().expect("a lock");
        let left = left(&part, &reserved);
        if count > left {
            return Err(InventoryError::TooFew { part, left })?;
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        reserved.insert(id, Reservation { id, part: part.clone(), count });
        Ok(Reservation { id, part, count })
    }

    async fn release(&self, call: &Call, id: u64) -> MethodResult<(), InventoryError> {
        let user: Option<String> = call.context().read("user").transpose().map_err(MethodError::other)?;
        println!("{} releases {id}", user.as_deref().unwrap_or("somebody"));
        let released = self.reserved.lock().expect("a lock").remove(&id);
        released.map(drop).ok_or(InventoryError::Unknown { id })?;
        Ok(())
    }

    async fn count(&self, _: &Call, part: String) -> MethodResult<u32, InventoryError> {
        println!("counting {part}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(left(&part, &self.reserved.lock().expect("a lock")))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let inventory = Shelf::default().into_endpoint();
    let target = inventory.target().with_server("alpha")?;
    let server = AsyncRpcServer::builder(target, runtime.handle().clone()).endpoint(inventory).places(1_000).start()?;
    server.wait_ready(Duration::from_secs(10))?;
    println!("ready");
    signals.forever().next();
    runtime.block_on(server.stop())?;
    println!("stopped after {} calls", server.counters().calls);
    Ok(())
}
