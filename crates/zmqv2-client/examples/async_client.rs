//! Calls the server in `add_server.rs` from an async program: 1,000 calls at once from one task.

use std::time::Duration;
use zmqv2_client::{RequestContext, RpcClient, Target};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::topic("calculator")?;
    let client = RpcClient::builder(target).timeout(Duration::from_secs(5)).build()?.asynchronous();
    let context = RequestContext::new();

    // A future borrows nothing, so it can be given to `spawn`. Dropping it cancels the call.
    let calls = Vec::from_iter((0..1_000).map(|n| tokio::spawn(client.call::<i64>(&context, "add", &(n, 1)))));
    let mut sum = 0;
    for call in calls {
        sum += call.await??;
    }
    println!("the sum of 1,000 calls is {sum}");

    // The first `await` ends when the client has the cast, the second one when it has its outcome.
    let handle = client.cast(&context, "add", &(2, 3)).await?;
    println!("a cast was {}", handle.await);

    // The one thing that blocks is to close a client, so another thread does it.
    let closed = tokio::task::spawn_blocking(move || client.blocking().close(Duration::from_secs(1))).await?;
    println!("left open: {}", closed.open);
    Ok(())
}
