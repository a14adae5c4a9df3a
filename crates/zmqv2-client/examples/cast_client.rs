//! Casts to the server in `add_server.rs`, and shows the outcome of each cast.

use std::time::Duration;
use zmqv2_client::{Outcome, RequestContext, RpcClient, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = RpcClient::builder(Target::topic("calculator")?).build()?;
    let context = RequestContext::new();

    // Sends 100 casts before it waits for the first outcome.
    let handles: Result<Vec<_>, _> = (0..100).map(|n| client.cast(&context, "add", &(n, 1))).collect();
    let mut acked = 0;
    for handle in handles? {
        match handle.wait(Duration::from_secs(5)) {
            Some(Outcome::Acked { .. }) => acked += 1,
            Some(outcome) => println!("cast {}: {outcome}", handle.id()),
            None => println!("cast {}: no outcome yet", handle.id()),
        }
    }
    println!("{acked} of 100 casts accepted");

    // Without the handle, `close` tells whether a cast has no outcome yet.
    client.cast(&context, "add", &(2, 3)).map(drop)?;
    println!("left open: {}", client.close(Duration::from_secs(5)).open);
    Ok(())
}
