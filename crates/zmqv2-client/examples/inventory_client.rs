//! An async client of the service in `inventory_server.rs`.

mod inventory;

use std::time::Duration;

use inventory::{InventoryClient, InventoryError};
use zmqv2_client::{CallError, RequestContext, RpcClient, ServiceError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = RpcClient::builder(InventoryClient::target()).timeout(Duration::from_secs(10)).build()?;
    let inventory = InventoryClient::new(client).with_context(RequestContext::new().with("user", "ann"));

    let bolts = inventory.reserve("bolt".to_owned(), 3).await?;
    println!("reserved {} of {}", bolts.count, bolts.part);
    match inventory.reserve("bolt".to_owned(), 1_000).await {
        Err(ServiceError::Remote(InventoryError::TooFew { part, left })) => println!("only {left} of {part}"),
        Err(error) => return Err(error.into()),
        Ok(_) => println!("more than there are"),
    }

    // Many requests at the same time. A future borrows nothing, so it can be given to `spawn`.
    let calls = (0..50).map(|_| tokio::spawn(inventory.reserve("nut".to_owned(), 1).into_future()));
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    inventory.release(bolts.id).await?;

    match inventory.count("nut".to_owned()).await {
        Ok(count) => println!("{count} nuts in stock"),
        Err(ServiceError::Call(CallError::Remote(error))) if error.class() == "UnsupportedVersion" => {
            println!("the server is too old to count");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
